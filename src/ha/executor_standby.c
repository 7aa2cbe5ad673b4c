/*-------------------------------------------------------------------------
 *
 * executor_standby.c
 *	  Steps of a server in recovery: seal and report, be promoted, follow, or say
 *	  that it cannot.
 *
 * Called by executor.c, a step each turn; each can be taken again.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/executor_standby.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"

#include "pgraft/compat.h"
#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

#include "executor_internal.h"

static bool know_position(void);
static bool waits_for_last_wal(void);
static long seal_and_report(void);
static long promote(void);
static long follow(void);
static bool went_back(void);
static long cannot_follow(int verdict);
static long report_demotion(void);

static PgraftHaTurn *const here = &pgraft_ha_turn;
static raft_time last_told = 0;

long
pgraft_ha_standby_step(void)
{
	bool		mine = here->document.primary == (uint32) pgraft_node_id;

	if (here->local.promoted_epoch != 0)
	{
		here->local.promoted_epoch = 0;
		pgraft_ha_publish();
	}
	switch (here->document.phase)
	{
		case PGRAFT_HA_SEALING:
			return seal_and_report();
		case PGRAFT_HA_ASSIGNED:
			if (mine)
				return promote();
			pgraft_ha_set_role(PGRAFT_HA_ROLE_SEALED, "waiting for the new primary");
			return NEAR_MS;
		case PGRAFT_HA_STEADY:
		case PGRAFT_HA_DRAINING:
			return mine ? report_demotion() : follow();
		default:
			pgraft_ha_set_role(PGRAFT_HA_ROLE_STANDBY, "waiting for the first primary");
			return CALM_MS;
	}
}

static bool
know_position(void)
{
	XLogRecPtr	lsn;
	TimeLineID	timeline;

	if (!pgraft_ha_seal(&lsn, &timeline))
	{
		here->local.lsn_known = false;
		return false;
	}

	/* a standby that was started as one knows whose timeline it is on */
	(void) pgraft_ha_read_wal(&here->wal);
	here->local.wal_epoch = here->wal.epoch;
	here->local.wal_tag = here->wal.tag;
	here->local.lsn = lsn;
	here->local.timeline = timeline;
	here->local.lsn_known = true;
	return true;
}

/*
 * Whoever seals too early makes a primary rewind that was only restarted.  When it
 * takes too long, the consensus worker seals (state.c).
 */
static bool
waits_for_last_wal(void)
{
	return pgraft_ha_last_wal_may_come(&here->document, (uint32) pgraft_node_id) &&
		pgraft_ha_receives();
}

static long
seal_and_report(void)
{
	const PgraftHaMember *me = pgraft_ha_find_member(&here->document, (uint32) pgraft_node_id);
	PgraftHaCommand command;

	if (waits_for_last_wal())
	{
		pgraft_ha_set_role(PGRAFT_HA_ROLE_STANDBY, "receiving the last WAL of the old primary");
		return SOON_MS;
	}
	if (!know_position())
	{
		pgraft_ha_set_role(PGRAFT_HA_ROLE_SEALED, "looking for the end of the local WAL");
		return SOON_MS;
	}
	if (went_back())
	{
		pgraft_ha_set_role(PGRAFT_HA_ROLE_SEALED, "not counted: its data is older than what it confirmed");
		return CALM_MS;
	}
	pgraft_ha_set_role(PGRAFT_HA_ROLE_SEALED, "waiting for the choice of a primary");
	if (me == NULL || me->reported || pgraft_ha_pauses_at("report"))
		return NEAR_MS;
	pgraft_ha_note_position(here->local.lsn, true);
	pgraft_ha_fill_position(&command, PGRAFT_HA_REPORT);
	if (pgraft_ha_try_propose(&command))
		ereport(LOG,
				(errmsg("pgraft: reported WAL of epoch %llu up to %X/%X on timeline %u",
						(unsigned long long) here->wal.epoch, LSN_FORMAT_ARGS(here->local.lsn),
						here->local.timeline)));
	return SOON_MS;
}

static long
promote(void)
{
	uint64		epoch = here->document.epoch;

	if (pgraft_ha_pauses_at("promote"))
		return NEAR_MS;
	if (here->local.sync_generation != here->document.sync_generation)
	{
		pgraft_ha_set_role(PGRAFT_HA_ROLE_PROMOTING, "waiting for synchronous_standby_names");
		return SOON_MS;
	}
	if (here->local.role != PGRAFT_HA_ROLE_PROMOTING || here->promotion_tag == 0)
	{
		if (!pg_strong_random(&here->promotion_tag, sizeof(here->promotion_tag)) || here->promotion_tag == 0)
			here->promotion_tag = 1;
		ereport(LOG,
				(errmsg("pgraft promotes this server for epoch %llu",
						(unsigned long long) epoch)));
	}
	pgraft_ha_set_role(PGRAFT_HA_ROLE_PROMOTING, "waiting for the end of recovery");
	(void) pgraft_ha_promote(epoch, here->promotion_tag);
	if (here->wal.epoch != epoch)
		(void) pgraft_ha_read_wal(&here->wal);
	return 1;
}

static long
follow(void)
{
	PgraftHaMember *primary = pgraft_ha_find_member(&here->document, here->document.primary);
	int			verdict;

	if (primary == NULL || pgraft_ha_pauses_at("follow"))
		return NEAR_MS;
	if (pg_atomic_read_u64(&pgraft_ha_shared->open_epoch) == here->document.epoch)
	{
		bool		same;

		SpinLockAcquire(&pgraft_ha_shared->upstream_lock);
		same = pgraft_ha_shared->upstream_port == primary->port &&
			strcmp(pgraft_ha_shared->upstream_host, primary->host) == 0;
		SpinLockRelease(&pgraft_ha_shared->upstream_lock);
		if (same)
		{
			pgraft_ha_set_role(PGRAFT_HA_ROLE_STANDBY, "");
			pgraft_ha_watch_slots(&here->document);
			pgraft_ha_note_position(GetXLogReplayRecPtr(NULL), false);
			return CALM_MS;
		}
	}
	if (!know_position())
		return SOON_MS;
	if (went_back())
		return cannot_follow(PGRAFT_HA_MEMBER_RECLONE);
	verdict = pgraft_ha_judge_wal(&here->document, here->wal.epoch, here->wal.tag,
								  here->local.timeline, here->local.lsn);
	if (verdict == PGRAFT_HA_MEMBER_STREAMING)
	{
		pgraft_ha_write_verdict(verdict, here->document.epoch, here->local.timeline);
		pgraft_ha_open(here->document.epoch, primary->host, primary->port);
		here->local.failure[0] = '\0';
		pgraft_ha_set_role(PGRAFT_HA_ROLE_STANDBY, "");
		ereport(LOG,
				(errmsg("pgraft: this server follows member %u, epoch %llu", primary->id,
						(unsigned long long) here->document.epoch)));
		return CALM_MS;
	}
	if (here->local.role != PGRAFT_HA_ROLE_REWIND)
		ereport(LOG,
				(errmsg("this server has WAL that the cluster has not, and cannot follow"),
				 errdetail("It has WAL of epoch %llu up to %X/%X on timeline %u.",
						   (unsigned long long) here->wal.epoch, LSN_FORMAT_ARGS(here->local.lsn),
						   here->local.timeline),
				 errhint("\"pgraftctl rejoin -D %s\" makes it a standby again; \"pgraftctl run\" does that by itself.",
						 DataDir)));
	return cannot_follow(verdict);
}

/* The local WAL, whose end is known, ends before what this server once had. */
static bool
went_back(void)
{
	static bool complained = false;
	XLogRecPtr	had = pgraft_ha_noted_position();

	if (had == InvalidXLogRecPtr || here->local.lsn >= had)
		return false;
	if (here->document.phase == PGRAFT_HA_SEALING && here->document.force_target == (uint32) pgraft_node_id)
	{
		/* an operator wants what it has */
		pgraft_ha_forget_position();
		return false;
	}
	if (!complained)
		ereport(LOG,
				(errmsg("the data of this server is older than what it once confirmed, as from a restored backup"),
				 errdetail("Its WAL ends at %X/%X on timeline %u, and went at least to %X/%X.",
						   LSN_FORMAT_ARGS(here->local.lsn), here->local.timeline, LSN_FORMAT_ARGS(had)),
				 errhint("\"pgraftctl rejoin -D %s\" clones it from the primary.  If no member has newer data, \"SELECT pgraft_failover(%d, true)\" makes this server the primary with what it has.",
						 DataDir, pgraft_node_id)));
	complained = true;
	return true;
}

static long
cannot_follow(int verdict)
{
	static uint64 judged_epoch = 0;
	const char *failure = verdict == PGRAFT_HA_MEMBER_RECLONE ? "must be cloned again" :
		"must be rewound";
	PgraftHaCommand command;

	if (judged_epoch != here->document.epoch || strcmp(here->local.failure, failure) != 0)
		pgraft_ha_write_verdict(verdict, here->document.epoch, here->local.timeline);
	judged_epoch = here->document.epoch;
	strlcpy(here->local.failure, failure, sizeof(here->local.failure));
	pgraft_ha_set_role(PGRAFT_HA_ROLE_REWIND, "waiting for pgraftctl rejoin");
	if (pgraft_ha_may_tell(&last_told))
	{
		memset(&command, 0, sizeof(command));
		command.kind = PGRAFT_HA_MEMBER_STATE;
		command.state = verdict;
		(void) pgraft_ha_try_propose(&command);
	}
	return CALM_MS;
}

/* The document takes this server for the primary, but it is a standby now. */
static long
report_demotion(void)
{
	PgraftHaCommand command;

	pgraft_ha_set_role(PGRAFT_HA_ROLE_SEALED, "looking for the end of the local WAL");
	if (!know_position() || pgraft_ha_pauses_at("demoted"))
		return SOON_MS;
	if (went_back())
	{
		memset(&command, 0, sizeof(command));
		command.kind = PGRAFT_HA_BEGIN_EPOCH;
		strlcpy(command.reason, "the primary was replaced by older data", sizeof(command.reason));
		(void) pgraft_ha_try_propose(&command);
		return CALM_MS;
	}
	pgraft_ha_note_position(here->local.lsn, true);
	pgraft_ha_fill_position(&command, PGRAFT_HA_DEMOTED);
	(void) pgraft_ha_try_propose(&command);
	return NEAR_MS;
}
