/*-------------------------------------------------------------------------
 *
 * switchover.c
 *	  The primary's part of a switchover: it hands over with the shortest
 *	  possible pause for its clients.
 *
 * Called by "pgraft ha" alone, again and again until it says what is next:
 * nothing here waits for longer than a moment.
 *
 *	prepare		while clients go on writing: the checkpoint that makes the
 *				recovery after the demotion short, the one that a promotion needs
 *				to be complete, and a target that follows closely
 *	stop		the caller has fenced this server; sessions end, and whoever else
 *				is in the middle of a commit
 *	hand over	the target confirms all that was flushed, and the caller says so to
 *				the cluster (DRAINED); only then this server demotes itself, at
 *				the same time as the target is promoted
 *
 * What is written between the last look and the demotion is WAL that nobody
 * waits for: no session is left, and the fence lets nobody commit.  It makes
 * this server rewind, nothing is lost with it.
 *
 * What survives a crash: nothing in here; a server that comes back begins anew
 * or finds that the document went on.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/switchover.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"
#include "utils/memutils.h"

#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

#define CHECKPOINT_MS 5000		/* longer than that is not waited for */
#define CONTROL_LOOK_MS 20		/* between two looks at pg_control */
#define CLOSE_BYTES (1024 * 1024)	/* a target that lacks less is close */
#define FOLLOW_MS 10000			/* for a target that follows closely */
#define SESSIONS_MS 300			/* then the demotion ends what is left of them */
#define CATCH_UP_MS 3000		/* for the last of the WAL */

typedef struct Handover
{
	uint64		serial;			/* of the switchover; 0 = none */
	bool		stopped;
	raft_time	since;			/* of this part of it */
	XLogRecPtr	began;			/* where the WAL ended */
	XLogRecPtr	old_checkpoint;
	raft_time	looked;			/* at pg_control */
	bool		checkpointed;
	pid_t	   *sessions;		/* those that were there when it stopped */
	int			n_sessions;
} Handover;

static uint32 choose_target(const PgraftHaDocument *document);
static bool is_close(XLogRecPtr has);
static XLogRecPtr newest_checkpoint(void);
static bool prepare_checkpoint(raft_time now);
static PgraftHaHandover prepare(const PgraftHaDocument *document, raft_time now,
								uint32 *target);
static PgraftHaHandover stop(const PgraftHaDocument *document, raft_time now,
							 XLogRecPtr *end);

static Handover handover;

PgraftHaHandover
pgraft_ha_hand_over(const PgraftHaDocument *document, XLogRecPtr *end, uint32 *target)
{
	raft_time	now = pgraft_monotonic_ms();

	if (handover.serial != document->switchover_serial)
	{
		if (handover.sessions != NULL)
			pfree(handover.sessions);
		memset(&handover, 0, sizeof(handover));
		handover.serial = document->switchover_serial;
		handover.since = now;
		handover.began = GetXLogInsertRecPtr();
		handover.old_checkpoint = newest_checkpoint();
		RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE);
	}
	return handover.stopped ? stop(document, now, end) : prepare(document, now, target);
}

/*
 * Whoever was named, else the member of the highest priority of those that follow
 * closely, and of equals the one with the most WAL.  0 = nobody follows closely.
 */
static uint32
choose_target(const PgraftHaDocument *document)
{
	const PgraftHaMember *best = NULL;
	XLogRecPtr	best_has = InvalidXLogRecPtr;
	int			i;

	if (document->switchover_target != 0)
		return is_close(pgraft_ha_standby_flush(document->switchover_target)) ?
			document->switchover_target : 0;
	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];
		XLogRecPtr	has = pgraft_ha_standby_flush(member->id);

		if (member->id == (uint32) pgraft_node_id || !is_close(has) ||
			member->state == PGRAFT_HA_MEMBER_REWIND ||
			member->state == PGRAFT_HA_MEMBER_RECLONE)
			continue;
		if (best == NULL || member->priority > best->priority ||
			(member->priority == best->priority && has > best_has))
		{
			best = member;
			best_has = has;
		}
	}
	return best != NULL ? best->id : 0;
}

/*
 * A connection may outlive the standby at its other end: it must have confirmed
 * what was written since, which is the checkpoint at least.
 */
static bool
is_close(XLogRecPtr has)
{
	return has != InvalidXLogRecPtr && has > handover.began &&
		has + CLOSE_BYTES >= GetFlushRecPtr(NULL);
}

static XLogRecPtr
newest_checkpoint(void)
{
	bool		good;
	ControlFileData *control = get_controlfile(DataDir, &good);
	XLogRecPtr	checkpoint = good ? control->checkPoint : InvalidXLogRecPtr;

	pfree(control);
	return checkpoint;
}

/*
 * One that takes very long is not worth waiting for: only this server's own way
 * back gets longer without it.
 */
static bool
prepare_checkpoint(raft_time now)
{
	if (!handover.checkpointed && now - handover.looked >= CONTROL_LOOK_MS)
	{
		XLogRecPtr	newest = newest_checkpoint();

		handover.looked = now;
		handover.checkpointed = newest != InvalidXLogRecPtr && newest != handover.old_checkpoint;
	}
	return handover.checkpointed || now - handover.since >= CHECKPOINT_MS;
}

static PgraftHaHandover
prepare(const PgraftHaDocument *document, raft_time now, uint32 *target)
{
	/* a standby that was not promoted completely could not become one again */
	if (!pgraft_ha_finish_promotion(true) || !prepare_checkpoint(now))
		return PGRAFT_HA_HANDOVER_PREPARES;
	*target = choose_target(document);
	if (*target == 0 || document->switchover_target == 0)
	{
		if (now - handover.since >= FOLLOW_MS)
			return PGRAFT_HA_HANDOVER_GIVEN_UP;
		return *target == 0 ? PGRAFT_HA_HANDOVER_PREPARES : PGRAFT_HA_HANDOVER_CHOOSES;
	}
	handover.stopped = true;
	handover.since = now;
	return PGRAFT_HA_HANDOVER_STOPS;
}

/*
 * A commit that passed the fence before it was closed is acknowledged or ended
 * before the end of the WAL is read; with k = 0 nobody but this server has it.
 * Sessions that begin later cannot commit, so they need not be waited for.
 */
static PgraftHaHandover
stop(const PgraftHaDocument *document, raft_time now, XLogRecPtr *end)
{
	if (document->switchover_target == 0)
		return PGRAFT_HA_HANDOVER_GIVEN_UP; /* it is no member any more */
	if (handover.sessions == NULL)
	{
		handover.sessions = MemoryContextAlloc(TopMemoryContext,
											   (Size) MaxBackends * sizeof(pid_t));
		handover.n_sessions = pgraft_ha_signal_sessions(handover.sessions);
	}
	if (pgraft_ha_count_sessions(handover.sessions, handover.n_sessions) > 0)
		return now - handover.since >= SESSIONS_MS ?
			PGRAFT_HA_HANDOVER_DEMOTES : PGRAFT_HA_HANDOVER_STOPS;

	/* also what synchronous_commit = off, or an open transaction, has left in memory */
	*end = pgraft_ha_end_of_records();
	XLogFlush(*end);
	if (pgraft_ha_standby_flush(document->switchover_target) >= *end)
		return PGRAFT_HA_HANDOVER_DONE;
	return now - handover.since >= CATCH_UP_MS ?
		PGRAFT_HA_HANDOVER_GIVEN_UP : PGRAFT_HA_HANDOVER_STOPS;
}
