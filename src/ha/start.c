/*-------------------------------------------------------------------------
 *
 * start.c
 *	  Every start is the start of a standby.
 *
 * Runs in the postmaster, in shmem_startup_hook: at each start and at each
 * crash reinitialisation, before the startup process looks for its signal
 * files, and not in "postgres -C" or single-user runs.
 *
 * The one exception (see promote.c): between a promotion and the end of the
 * first checkpoint after it, pages on disk may be newer than where recovery as
 * a standby would call the data consistent.  A server that crashed in between
 * recovers as a primary once more; its shared memory is zero, so it is fenced,
 * and "pgraft ha" demotes it after a checkpoint.
 *
 * A standby that ended while it received the first segment of a new timeline
 * has a part of that segment only.  The startup process prefers it to the
 * complete one of the timeline before, comes to its end before the fork, and
 * gives up (postmaster and all).  Such a segment holds nothing that the parent's
 * has not, and is set aside under the name ".partial".
 *
 * What survives a crash: standby.signal and the marker are on disk before the
 * function returns.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/start.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "pgraft/ha.h"
#include "pgraft/settings.h"

#define STANDBY_SIGNAL "standby.signal"
#define PROMOTE_SIGNAL "promote"

#define COMPARE_BYTES 65536

static void make_durable(const char *path);
static void check_first_segment(TimeLineID timeline, TimeLineID parent, XLogRecPtr fork);
static bool begins_like(const char *path, const char *other, uint32 bytes);

void
pgraft_ha_force_standby(void)
{
	char	   *marker = pgraft_ha_promotion_marker();
	struct stat status;
	bool		promoted_recently = stat(marker, &status) == 0;

	pfree(marker);

	/* one that was left behind would promote this server by itself */
	if (unlink(PROMOTE_SIGNAL) == 0)
		ereport(LOG,
				(errmsg("removed a promotion request that was left behind")));
	else if (errno != ENOENT)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", PROMOTE_SIGNAL)));

	pgraft_ha_set_segments_aside();
	if (promoted_recently)
	{
		ereport(LOG,
				(errmsg("pgraft starts this server as a fenced primary: it ended before the first checkpoint after its promotion")));
		return;
	}
	if (pgraft_ha_disabled("standby") || stat(STANDBY_SIGNAL, &status) == 0)
		return;
	make_durable(STANDBY_SIGNAL);
	ereport(LOG,
			(errmsg("pgraft starts this server as a standby")));
}

/* fsync itself, whatever "fsync" is set to: other servers rely on it. */
static void
make_durable(const char *path)
{
	int			fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, pg_file_create_mode);
	int			directory;

	if (fd < 0 || fsync(fd) != 0 || close(fd) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", path),
				 errhint("In HA mode a server must be able to start as a standby.")));
	directory = open(".", O_RDONLY | O_CLOEXEC);
	if (directory < 0 || fsync(directory) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not fsync directory \"%s\": %m", DataDir)));
	close(directory);
}

char *
pgraft_ha_promotion_marker(void)
{
	char	   *directory = pgraft_storage_directory();
	char	   *path = psprintf("%s/promotion", directory);

	pfree(directory);
	return path;
}

/* ----------------------------------------------------------------
 * First segments of timelines
 * ----------------------------------------------------------------
 */

void
pgraft_ha_set_segments_aside(void)
{
	bool		good;
	ControlFileData *control = get_controlfile(DataDir, &good);
	List	   *history;
	int			i;

	if (!good)
		return;					/* the startup process will say so */
	history = readTimeLineHistory(findNewestTimeLine(control->checkPointCopy.ThisTimeLineID));
	for (i = 0; i + 1 < list_length(history); i++)
	{
		const TimeLineHistoryEntry *child = list_nth(history, i);
		const TimeLineHistoryEntry *parent = list_nth(history, i + 1);

		check_first_segment(child->tli, parent->tli, parent->end);
	}
	list_free_deep(history);
	pfree(control);
}

/*
 * It is received from its start on and flushed before any of it is
 * acknowledged: one that differs from the parent's before the fork holds nothing
 * acknowledged behind it.
 */
static void
check_first_segment(TimeLineID timeline, TimeLineID parent, XLogRecPtr fork)
{
	uint32		bytes = XLogSegmentOffset(fork, wal_segment_size);
	char		path[MAXPGPATH];
	char		parent_path[MAXPGPATH];
	char		partial_path[MAXPGPATH + 8];
	XLogSegNo	segment;

	if (bytes == 0)
		return;
	XLByteToSeg(fork, segment, wal_segment_size);
	XLogFilePath(path, timeline, segment, wal_segment_size);
	XLogFilePath(parent_path, parent, segment, wal_segment_size);
	if (begins_like(path, parent_path, bytes))
		return;
	snprintf(partial_path, sizeof(partial_path), "%s.partial", path);
	(void) durable_rename(path, partial_path, FATAL);
	ereport(LOG,
			(errmsg("set WAL segment \"%s\" aside: it ends before its timeline begins", path),
			 errdetail("The first segment of timeline %u was received in part only.",
					   timeline)));
}

/* Also when one of the two is not there. */
static bool
begins_like(const char *path, const char *other, uint32 bytes)
{
	char	   *buffer = palloc(2 * COMPARE_BYTES);
	int			fd = open(path, O_RDONLY | O_CLOEXEC);
	int			other_fd = open(other, O_RDONLY | O_CLOEXEC);
	bool		equal = true;
	uint32		done;

	for (done = 0; fd >= 0 && other_fd >= 0 && equal && done < bytes; done += COMPARE_BYTES)
	{
		uint32		part = Min(bytes - done, COMPARE_BYTES);

		if (pread(other_fd, buffer + COMPARE_BYTES, part, (off_t) done) != (ssize_t) part)
			break;				/* nothing to compare with */
		equal = pread(fd, buffer, part, (off_t) done) == (ssize_t) part &&
			memcmp(buffer, buffer + COMPARE_BYTES, part) == 0;
	}
	if (fd >= 0)
		close(fd);
	if (other_fd >= 0)
		close(other_fd);
	pfree(buffer);
	return equal;
}
