/*-------------------------------------------------------------------------
 *
 * document_switchover.c
 *	  Switchovers in the cluster document: begun now or at a given time, carried
 *	  out, given up.
 *
 * Pure like document.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/document_switchover.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "document_internal.h"

static PgraftHaVerdict check_target(const PgraftHaDocument *document, uint32 target,
									const char **why);

PgraftHaVerdict
pgraft_ha_apply_switchover(PgraftHaDocument *document, const PgraftHaCommand *command,
						   const char **why)
{
	PgraftHaVerdict verdict;

	if (command->generation != document->switchover_serial)
	{
		*why = "there was another switchover since";
		return PGRAFT_HA_STALE;
	}
	verdict = check_target(document, command->member, why);
	if (verdict != PGRAFT_HA_DONE)
		return verdict;
	pgraft_ha_end_schedule(document);
	document->phase = PGRAFT_HA_DRAINING;
	document->switchover_target = command->member;
	document->switchover_from = document->primary;
	document->switchover_patience = command->patience;
	document->switchover_serial++;
	*why = "a switchover begins: the primary prepares it";
	return PGRAFT_HA_DONE;
}

PgraftHaVerdict
pgraft_ha_apply_switchover_target(PgraftHaDocument *document, const PgraftHaCommand *command,
								  const char **why)
{
	PgraftHaVerdict verdict;

	if (command->generation != document->switchover_serial || document->switchover_target != 0)
	{
		*why = "it is for another switchover";
		return PGRAFT_HA_STALE;
	}
	verdict = check_target(document, command->member, why);
	if (verdict != PGRAFT_HA_DONE)
		return verdict;
	document->switchover_target = command->member;
	*why = "the primary has chosen who takes over";
	return PGRAFT_HA_DONE;
}

/* 0 = whoever is best */
static PgraftHaVerdict
check_target(const PgraftHaDocument *document, uint32 target, const char **why)
{
	const PgraftHaMember *member = pgraft_ha_known_member(document, target);

	if (target == document->primary)
	{
		*why = "the target is the primary already";
		return PGRAFT_HA_REFUSED;
	}
	if (target != 0 && member == NULL)
	{
		*why = "the target is no data member";
		return PGRAFT_HA_REFUSED;
	}
	if (document->n_members < 2)
	{
		*why = "there is no other data member";
		return PGRAFT_HA_REFUSED;
	}
	if (member != NULL && (member->state == PGRAFT_HA_MEMBER_REWIND ||
						   member->state == PGRAFT_HA_MEMBER_RECLONE))
	{
		*why = "the target must be rewound or cloned first";
		return PGRAFT_HA_REFUSED;
	}
	return PGRAFT_HA_DONE;
}

PgraftHaVerdict
pgraft_ha_apply_schedule(PgraftHaDocument *document, const PgraftHaCommand *command,
						 const char **why)
{
	PgraftHaVerdict verdict = check_target(document, command->member, why);

	if (verdict != PGRAFT_HA_DONE)
		return verdict;
	if (command->patience <= 0)
	{
		*why = "the time has passed";
		return PGRAFT_HA_REFUSED;
	}
	document->scheduled_at = command->time + command->patience;
	document->scheduled_target = command->member;
	*why = "a switchover was scheduled";
	return PGRAFT_HA_DONE;
}

PgraftHaVerdict
pgraft_ha_apply_cancel_schedule(PgraftHaDocument *document, const PgraftHaCommand *command,
								const char **why)
{
	(void) command;
	if (document->scheduled_at == 0)
		return PGRAFT_HA_UNCHANGED;
	pgraft_ha_end_schedule(document);
	*why = "the scheduled switchover was cancelled";
	return PGRAFT_HA_DONE;
}

void
pgraft_ha_end_schedule(PgraftHaDocument *document)
{
	document->scheduled_at = 0;
	document->scheduled_target = 0;
}

PgraftHaVerdict
pgraft_ha_apply_demoted(PgraftHaDocument *document, const PgraftHaCommand *command,
						const char **why)
{
	bool		planned = document->phase == PGRAFT_HA_DRAINING;
	uint32		target = document->switchover_target;
	int64		patience = document->switchover_patience;
	PgraftHaMember *member;

	pgraft_ha_begin_epoch(document, command, planned ? "switchover" :
				command->reason[0] != '\0' ? command->reason : "the primary was restarted");
	if (planned)
	{
		document->switchover_target = target;
		document->switchover_from = command->member;
		document->switchover_patience = patience;
		document->switchover_lsn = command->lsn;
	}
	member = pgraft_ha_find_member(document, command->member);
	member->reported = !pgraft_ha_left_its_timeline(document, command->epoch, command->tag,
													command->timeline);
	member->wal_epoch = command->epoch;
	member->timeline = command->timeline;
	member->lsn = command->lsn;
	*why = planned ? "the primary demoted itself for the switchover" :
		"a new epoch begins: the primary is a standby now";
	(void) pgraft_ha_settle(document);
	return PGRAFT_HA_DONE;
}

/*
 * Only for the switchover that it was said for: after one that was given up the
 * primary has acknowledged more.
 */
PgraftHaVerdict
pgraft_ha_apply_drained(PgraftHaDocument *document, const PgraftHaCommand *command,
						const char **why)
{
	PgraftHaVerdict verdict;

	if (command->generation != document->switchover_serial)
	{
		*why = "it is for another switchover";
		return PGRAFT_HA_STALE;
	}
	verdict = pgraft_ha_apply_demoted(document, command, why);
	if (document->phase == PGRAFT_HA_SEALING)
		*why = "the primary has stopped for the switchover";
	else
		*why = "the primary has stopped for the switchover, and the next is assigned";
	return verdict;
}

PgraftHaVerdict
pgraft_ha_apply_abort(PgraftHaDocument *document, const PgraftHaCommand *command,
					  const char **why)
{
	(void) command;
	if (document->switchover_from == 0)
		return PGRAFT_HA_UNCHANGED;
	pgraft_ha_end_switchover(document);
	if (document->phase == PGRAFT_HA_DRAINING)
	{
		document->phase = PGRAFT_HA_STEADY;
		*why = "the switchover was given up before it began";
		return PGRAFT_HA_DONE;
	}
	*why = pgraft_ha_settle(document) ?
		"the switchover was given up: a primary with all WAL is assigned" :
		"the switchover was given up: any member with all WAL can be chosen";
	return PGRAFT_HA_DONE;
}

void
pgraft_ha_end_switchover(PgraftHaDocument *document)
{
	document->switchover_target = 0;
	document->switchover_from = 0;
	document->switchover_patience = 0;
	document->switchover_lsn = 0;
}
