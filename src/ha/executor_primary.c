/*-------------------------------------------------------------------------
 *
 * executor_primary.c
 *	  Steps of a server that is out of recovery: become the primary, serve, hand
 *	  over, leave.
 *
 * Called by executor.c, a step each turn; each can be taken again.  Nothing here
 * opens the fence: the consensus worker does, for the epoch that this server says
 * it was promoted for.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/executor_primary.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"

#include "pgraft/compat.h"
#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

#include "executor_internal.h"

static long become_primary(void);
static long serve(void);
static void tell_members(void);
static long drain(void);
static void stop_serving(const char *reason);
static long leave(const char *reason);
static long end_as_primary(const char *reason, long wait_ms);

static PgraftHaTurn *const here = &pgraft_ha_turn;

long
pgraft_ha_primary_step(void)
{
	if (here->document.phase == PGRAFT_HA_NONE)
	{
		pgraft_ha_set_role(PGRAFT_HA_ROLE_STARTING, "waiting for the first primary");
		return CALM_MS;
	}
	if (here->document.phase == PGRAFT_HA_SEALING || here->document.primary != (uint32) pgraft_node_id)
		return leave(here->document.switchover_from == (uint32) pgraft_node_id ? "switchover" :
					 here->wal.epoch < here->document.epoch && here->local.promoted_epoch != 0 ?
					 "the cluster has begun a newer epoch" :
					 "it is not the cluster's primary");

	/* whoever promoted it by hand did not do it for this epoch */
	if (here->wal.epoch != here->document.epoch)
		return leave("it was not promoted for this epoch");
	if (here->document.phase == PGRAFT_HA_ASSIGNED)
		return become_primary();
	if (here->document.phase == PGRAFT_HA_DRAINING)
		return drain();
	return serve();
}

static long
become_primary(void)
{
	PgraftHaCommand command;
	TimeLineID	timeline;
	XLogRecPtr	fork;

	if (pgraft_ha_pauses_at("promoted"))
		return NEAR_MS;
	pgraft_ha_find_fork(&timeline, &fork);
	if (here->wal.timeline != timeline)
	{
		here->wal.timeline = timeline;
		pgraft_ha_write_wal(&here->wal);
	}
	here->local.timeline = timeline;
	here->local.promoted_epoch = here->document.epoch;
	pgraft_ha_set_role(PGRAFT_HA_ROLE_PROMOTING, "telling the cluster");
	pgraft_ha_publish();
	memset(&command, 0, sizeof(command));
	command.kind = PGRAFT_HA_PROMOTED;
	command.timeline = timeline;
	command.lsn = fork;
	command.tag = here->wal.tag;
	(void) pgraft_ha_try_propose(&command);
	return SOON_MS;
}

static long
serve(void)
{
	const PgraftHaEpoch *entry;

	here->promotion_tag = 0;
	if (here->local.promoted_epoch != here->document.epoch)
	{
		here->local.promoted_epoch = here->document.epoch;
		pgraft_ha_publish();
	}
	pgraft_ha_set_role(PGRAFT_HA_ROLE_PRIMARY, "");
	entry = pgraft_ha_find_epoch(&here->document, here->document.epoch);
	if (entry != NULL && entry->promoted && entry->timeline != GetWALInsertionTimeLine())
		return leave("it was promoted by hand: its timeline is not that of the epoch");
	if (entry != NULL && entry->promoted && entry->tag != here->wal.tag)
		return leave("the cluster knows of another promotion of it than the last");
	if (!pgraft_ha_pauses_at("checkpoint"))
		(void) pgraft_ha_finish_promotion(false);
	pgraft_ha_watch_sync(&here->document);
	tell_members();
	pgraft_ha_watch_slots(&here->document);
	pgraft_ha_note_primary_position();
	return here->document.next_sync.n > 0 ? NEAR_MS : CALM_MS / 2;
}

/* Who follows and who does not, as the primary sees it. */
static void
tell_members(void)
{
	static raft_time told = 0;
	int			i;

	for (i = 0; i < here->document.n_members; i++)
	{
		const PgraftHaMember *member = &here->document.members[i];
		bool		streams;
		PgraftHaCommand command;

		if (member->id == (uint32) pgraft_node_id)
			continue;
		streams = pgraft_ha_standby_flush(member->id) != InvalidXLogRecPtr;
		if (streams == (member->state == PGRAFT_HA_MEMBER_STREAMING) ||
			(!streams && member->state != PGRAFT_HA_MEMBER_STREAMING) || !pgraft_ha_may_tell(&told))
			continue;
		memset(&command, 0, sizeof(command));
		command.kind = PGRAFT_HA_MEMBER_STATE;
		command.member = member->id;
		command.incarnation = member->incarnation;
		command.state = streams ? PGRAFT_HA_MEMBER_STREAMING : PGRAFT_HA_MEMBER_LAGGING;
		(void) pgraft_ha_try_propose(&command);
	}
}

/*
 * A switchover.  Nothing is taken back that was said: until the document has
 * gone on, or the switchover was given up, this server stays fenced.
 */
static long
drain(void)
{
	PgraftHaCommand command;
	XLogRecPtr	end;
	uint32		target;

	switch (pgraft_ha_hand_over(&here->document, &end, &target))
	{
		case PGRAFT_HA_HANDOVER_PREPARES:
			pgraft_ha_set_role(PGRAFT_HA_ROLE_PRIMARY, "preparing the switchover");
			return SOON_MS;
		case PGRAFT_HA_HANDOVER_CHOOSES:
			memset(&command, 0, sizeof(command));
			command.kind = PGRAFT_HA_SWITCHOVER_TARGET;
			command.member = target;
			command.generation = here->document.switchover_serial;
			return pgraft_ha_try_propose(&command) ? SOON_MS : NEAR_MS;
		case PGRAFT_HA_HANDOVER_STOPS:
			stop_serving("handing over to the other server");
			return 1;
		case PGRAFT_HA_HANDOVER_DONE:
			if (pgraft_ha_pauses_at("drained"))
				return NEAR_MS;
			pgraft_ha_fill_position(&command, PGRAFT_HA_DRAINED);
			command.generation = here->document.switchover_serial;
			command.lsn = end;
			return pgraft_ha_try_propose(&command) ? SOON_MS : NEAR_MS;
		case PGRAFT_HA_HANDOVER_GIVEN_UP:
			memset(&command, 0, sizeof(command));
			command.kind = PGRAFT_HA_SWITCHOVER_ABORT;
			(void) pgraft_ha_try_propose(&command);
			return NEAR_MS;
		case PGRAFT_HA_HANDOVER_DEMOTES:
			break;
	}

	/* what it has counts; a server that was deposed keeps what is in memory to itself */
	XLogFlush(pgraft_ha_end_of_records());
	return end_as_primary("switchover", SOON_MS);
}

/* Fenced, and not by the lease: until it is primary of an epoch once more. */
static void
stop_serving(const char *reason)
{
	if (here->local.promoted_epoch != 0)
	{
		here->local.promoted_epoch = 0;
		pgraft_ha_publish();
	}
	pgraft_ha_fence_now();
	pgraft_ha_set_role(PGRAFT_HA_ROLE_DEMOTING, reason);
}

/* Not the primary any more, or never was one. */
static long
leave(const char *reason)
{
	stop_serving(reason);
	return end_as_primary(reason, CALM_MS);
}

/* Fenced already.  Returns when to try again; when it is time, not at all. */
static long
end_as_primary(const char *reason, long wait_ms)
{
	/* as a standby it would call data consistent before it is (start.c) */
	if (!pgraft_ha_finish_promotion(true))
	{
		pgraft_ha_end_sessions();
		return wait_ms;
	}
	pgraft_ha_tell_role(&here->local, &here->document);
	pgraft_ha_demote(reason);
	return 0;
}
