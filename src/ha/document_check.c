/*-------------------------------------------------------------------------
 *
 * document_check.c
 *	  Names in the cluster document, look-ups, and the invariants that hold
 *	  after each command.
 *
 * Pure like document.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/document_check.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "document_internal.h"

const PgraftHaMember *
pgraft_ha_known_member(const PgraftHaDocument *document, uint32 id)
{
	int			i;

	for (i = 0; i < document->n_members; i++)
	{
		if (document->members[i].id == id)
			return &document->members[i];
	}
	return NULL;
}

PgraftHaMember *
pgraft_ha_find_member(PgraftHaDocument *document, uint32 id)
{
	return (PgraftHaMember *) pgraft_ha_known_member(document, id);
}

const char *
pgraft_ha_phase_name(int phase)
{
	static const char *const names[] = {"none", "sealing", "assigned", "steady", "draining"};

	return phase >= 0 && phase < (int) lengthof(names) ? names[phase] : "?";
}

const char *
pgraft_ha_mode_name(int mode)
{
	static const char *const names[] = {"quorum", "strict", "async"};

	return mode >= 0 && mode < (int) lengthof(names) ? names[mode] : "?";
}

const char *
pgraft_ha_member_state_name(int state)
{
	static const char *const names[] = {"new", "streaming", "lagging", "rewind", "reclone"};

	return state >= 0 && state < (int) lengthof(names) ? names[state] : "?";
}

const char *
pgraft_ha_document_check(const PgraftHaDocument *document)
{
	bool		has_primary = document->phase == PGRAFT_HA_ASSIGNED ||
		document->phase == PGRAFT_HA_STEADY || document->phase == PGRAFT_HA_DRAINING;
	int			i;

	if (document->phase < PGRAFT_HA_NONE || document->phase > PGRAFT_HA_DRAINING)
		return "the phase is known";
	if ((document->phase == PGRAFT_HA_NONE) != (document->epoch == 0))
		return "there is an epoch from the first primary on";
	if (document->n_members < 0 || document->n_members > PGRAFT_HA_MAX_MEMBERS ||
		document->n_history < 0 || document->n_history > PGRAFT_HA_HISTORY)
		return "the counts are within their limits";
	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];

		if (member->id == 0 || (i > 0 && member->id <= document->members[i - 1].id))
			return "the members are in ascending order";
		if (member->state < PGRAFT_HA_MEMBER_NEW || member->state > PGRAFT_HA_MEMBER_RECLONE)
			return "the states of members are known";
		if (member->reported && member->wal_epoch >= document->epoch)
			return "reports are about earlier epochs";
	}
	for (i = 0; i < document->n_history; i++)
	{
		const PgraftHaEpoch *entry = &document->history[i];

		if (entry->epoch == 0 || (i > 0 && entry->epoch <= document->history[i - 1].epoch) ||
			entry->base_epoch >= entry->epoch)
			return "the history is in ascending order";
	}
	if (document->epoch > 0 &&
		(document->n_history == 0 ||
		 document->history[document->n_history - 1].epoch != document->epoch))
		return "the history ends with the epoch";
	if (has_primary != (document->primary != 0))
		return "there is a primary in the phases that have one";
	if (has_primary && pgraft_ha_known_member(document, document->primary) == NULL)
		return "the primary is a data member";
	if (document->primary_epoch > document->epoch)
		return "the promoted epoch is not newer than the epoch";
	if ((document->phase == PGRAFT_HA_STEADY || document->phase == PGRAFT_HA_DRAINING) &&
		(document->primary_epoch != document->epoch ||
		 !pgraft_ha_set_contains(&document->sync, document->primary) ||
		 (document->next_sync.n > 0 &&
		  !pgraft_ha_set_contains(&document->next_sync, document->primary))))
		return "the promoted primary is in its sync sets";
	if ((document->sync.n != 0 && !pgraft_ha_set_is_proper(&document->sync)) ||
		(document->next_sync.n != 0 && !pgraft_ha_set_is_proper(&document->next_sync)))
		return "the sync sets are proper";
	if ((document->epoch > 0) != (document->sync.n > 0))
		return "there is a sync set from the first primary on";
	if (document->force_target != 0 && document->phase != PGRAFT_HA_SEALING &&
		document->phase != PGRAFT_HA_ASSIGNED)
		return "a forced choice ends with the promotion";
	if (document->mode < PGRAFT_HA_QUORUM || document->mode > PGRAFT_HA_ASYNC ||
		document->wanted_k < 0 || document->wanted_k >= PGRAFT_HA_MAX_MEMBERS)
		return "the mode is known";
	if (document->scheduled_at == 0 ? document->scheduled_target != 0 :
		document->phase != PGRAFT_HA_STEADY)
		return "a switchover is scheduled only while there is a primary";
	return NULL;
}
