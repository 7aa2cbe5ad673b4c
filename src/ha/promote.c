/*-------------------------------------------------------------------------
 *
 * promote.c
 *	  Promotion of this server, as pg_promote() does it, and the checkpoint that
 *	  makes it complete.
 *
 * Called by "pgraft ha" alone, again and again until each function says that it
 * is done: nothing here waits.
 *
 * What each crash leaves behind:
 *	before the file "promote" exists		a standby; the document assigns again
 *	until the checkpoint afterwards			the marker (start.c): the server
 *											recovers as a fenced primary, because
 *											as a standby it would call data
 *											consistent that is not
 *	later									a standby like any other
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/promote.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"

#include "pgraft/ha_executor.h"
#include "pgraft/shmem.h"

#define PROMOTE_SIGNAL "promote"
#define CONTROL_LOOK_MS 200		/* between two looks at pg_control */

static bool is_checkpointed(void);

/* the promotion that this process has asked for; 0 = none */
static uint64 requested_epoch = 0;

bool
pgraft_ha_promote(uint64 epoch, uint64 tag)
{
	PgraftHaWal wal;
	char	   *marker;
	XLogRecPtr	replayed;
	int			fd;

	if (!RecoveryInProgress())
		return true;
	if (requested_epoch == epoch)
		return false;

	wal.epoch = epoch;
	wal.tag = tag;
	wal.timeline = 0;			/* is chosen by the promotion */
	pgraft_ha_write_wal(&wal);
	marker = pgraft_ha_promotion_marker();
	pgraft_ha_create_file(marker, "");
	pfree(marker);

	/*
	 * The end of recovery reads its last record again, which may have begun a
	 * segment earlier, on the newest timeline it finds.
	 */
	replayed = GetXLogReplayRecPtr(NULL);
	pgraft_ha_set_segments_aside(replayed - Min(replayed, (XLogRecPtr) wal_segment_size));
	fd = open(PROMOTE_SIGNAL, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", PROMOTE_SIGNAL)));
	close(fd);
	if (kill(PostmasterPid, SIGUSR1) != 0)
		ereport(ERROR,
				(errmsg("could not signal the postmaster: %m")));
	requested_epoch = epoch;
	return false;
}

/* The history file of the own timeline names the place where it began. */
void
pgraft_ha_find_fork(TimeLineID *timeline, XLogRecPtr *fork)
{
	List	   *history;

	*timeline = GetWALInsertionTimeLine();
	history = readTimeLineHistory(*timeline);
	*fork = InvalidXLogRecPtr;
	if (list_length(history) > 1)
		*fork = ((TimeLineHistoryEntry *) lsecond(history))->end;
	list_free_deep(history);
}

/*
 * The checkpoint that a promotion requests is spread over minutes; this one is
 * not.  pg_control tells when one of the new timeline has completed.
 */
bool
pgraft_ha_finish_promotion(bool anybodys)
{
	static raft_time asked = 0;
	static raft_time looked = 0;
	char	   *marker = pgraft_ha_promotion_marker();
	raft_time	now = pgraft_monotonic_ms();
	struct stat status;
	bool		complete;

	if (stat(marker, &status) != 0)
	{
		if (!anybodys || is_checkpointed())
		{
			pfree(marker);
			asked = 0;
			return true;
		}

		/* somebody else promoted it; a crash now must not make it a standby */
		pgraft_ha_create_file(marker, "");
	}
	if (asked == 0)
	{
		RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE);
		asked = looked = now;
	}
	complete = false;
	if (now - looked >= CONTROL_LOOK_MS)
	{
		looked = now;
		complete = is_checkpointed();
	}
	if (complete)
	{
		pgraft_ha_remove_file(marker);
		asked = 0;
		ereport(LOG,
				(errmsg("pgraft: the checkpoint after the promotion is complete")));
	}
	pfree(marker);
	return complete;
}

/* Not in recovery: whether a crash would recover from the own timeline alone. */
static bool
is_checkpointed(void)
{
	bool		good;
	ControlFileData *control = get_controlfile(DataDir, &good);

	good = good && control->minRecoveryPoint == InvalidXLogRecPtr &&
		control->checkPointCopy.ThisTimeLineID == GetWALInsertionTimeLine();
	pfree(control);
	return good;
}
