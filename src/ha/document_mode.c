/*-------------------------------------------------------------------------
 *
 * document_mode.c
 *	  Modes of synchronous replication in the cluster document, what the primary
 *	  says of positions, and the choice of a member that lags.
 *
 * Pure like document.c.
 *
 * Why changing the mode is safe.  The mode alone changes no sync set, and a
 * member that lags is chosen only while every set in force has k = 0.
 *	- quorum or strict to async: commits wait for standbys until SYNC_END has
 *	  ended the last set with k > 0, and until then reports are needed as before.
 *	  MODE and SYNC_END carry the primary's position, so what was acknowledged
 *	  by standbys counts as known when lag is measured.
 *	- async to the others: from MODE on only the primary itself can be chosen
 *	  again, until SYNC_END has put a set with k > 0 in force, which happens after
 *	  k of its members have everything.
 *
 * How much a chosen member may lack is measured against the last position that
 * the primary has recorded.  What it wrote later nobody else can know.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/document_mode.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "document_internal.h"

PgraftHaVerdict
pgraft_ha_apply_positions(PgraftHaDocument *document, const PgraftHaCommand *command,
						  const char **why)
{
	int			i;

	if (command->lsn == 0)
	{
		*why = "the position is missing";
		return PGRAFT_HA_REFUSED;
	}
	pgraft_ha_note_primary_lsn(document, command->lsn, command->time);
	for (i = 0; i < command->sync.n; i++)
	{
		PgraftHaMember *member = pgraft_ha_find_member(document, command->sync.members[i]);

		if (member != NULL && command->positions[i] != 0)
			member->kept_lsn = command->positions[i];
	}
	return PGRAFT_HA_DONE;
}

/* Commands of one primary may come in another order. */
void
pgraft_ha_note_primary_lsn(PgraftHaDocument *document, uint64 lsn, int64 time)
{
	if (lsn <= document->primary_lsn)
		return;
	document->primary_lsn = lsn;
	document->primary_lsn_at = time;
}

PgraftHaVerdict
pgraft_ha_apply_mode(PgraftHaDocument *document, const PgraftHaCommand *command,
					 const char **why)
{
	static const char *const texts[] = {
		"commits wait for a quorum of standbys",
		"commits wait for a quorum of standbys, and for nothing less",
		"commits wait for no standby: a failover may lose some"
	};

	if (command->state < PGRAFT_HA_QUORUM || command->state > PGRAFT_HA_ASYNC ||
		command->priority < 0 || command->priority >= PGRAFT_HA_MAX_MEMBERS)
	{
		*why = "this release does not know the mode";
		return PGRAFT_HA_REFUSED;
	}
	if (document->mode == command->state && document->wanted_k == command->priority &&
		document->maximum_lag == command->generation)
		return PGRAFT_HA_UNCHANGED;
	document->mode = command->state;
	document->wanted_k = command->priority;
	document->maximum_lag = command->generation;
	pgraft_ha_note_primary_lsn(document, command->lsn, command->time);
	*why = texts[document->mode];
	return PGRAFT_HA_DONE;
}

/* ----------------------------------------------------------------
 * A member that lags
 * ----------------------------------------------------------------
 */

PgraftHaVerdict
pgraft_ha_apply_accept_lag(PgraftHaDocument *document, const PgraftHaCommand *command,
						   const char **why)
{
	uint64		lag;
	uint32		chosen = pgraft_ha_choose_lagged(document, &lag);
	PgraftHaEpoch *entry;

	(void) command;
	if (chosen == 0)
	{
		*why = "no member that reported may be chosen with what it has";
		return PGRAFT_HA_REFUSED;
	}
	pgraft_ha_assign(document, chosen);
	entry = pgraft_ha_current_entry(document);
	entry->lagged = true;
	entry->lag = lag;
	*why = "a primary is assigned that may lack the newest commits (mode async)";
	return PGRAFT_HA_DONE;
}

uint32
pgraft_ha_choose_lagged(const PgraftHaDocument *document, uint64 *lag)
{
	const PgraftHaMember *best = NULL;
	int			i;

	*lag = 0;
	if (document->phase != PGRAFT_HA_SEALING || document->mode != PGRAFT_HA_ASYNC ||
		document->force_target != 0 || document->switchover_from != 0 ||
		document->sync.k > 0 || document->next_sync.k > 0)
		return 0;
	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];
		int			order;

		if (!member->reported ||
			pgraft_ha_judge_wal(document, member->wal_epoch, 0, member->timeline,
								member->lsn) != PGRAFT_HA_MEMBER_STREAMING)
			continue;
		if (member->lsn < document->primary_lsn &&
			document->primary_lsn - member->lsn > document->maximum_lag)
			continue;
		order = best == NULL ? 1 : pgraft_ha_compare_reports(member, best);
		if (order > 0 || (order == 0 && member->priority > best->priority))
			best = member;
	}
	if (best == NULL)
		return 0;
	if (best->lsn < document->primary_lsn)
		*lag = document->primary_lsn - best->lsn;
	return best->id;
}
