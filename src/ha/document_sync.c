/*-------------------------------------------------------------------------
 *
 * document_sync.c
 *	  Sync sets of the cluster document: which members vouch for acknowledged
 *	  commits, and whose reports a failover must therefore hear.
 *
 * Pure like document.c, whose opening says why a quorum of reports is enough.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/document_sync.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "document_internal.h"

static bool sets_equal(const PgraftHaSyncSet *a, const PgraftHaSyncSet *b);
static bool reports_suffice_for(const PgraftHaDocument *document, const PgraftHaSyncSet *set);

PgraftHaVerdict
pgraft_ha_apply_sync_begin(PgraftHaDocument *document, const PgraftHaCommand *command,
						   const char **why)
{
	PgraftHaSyncSet next = command->sync;
	int			i;

	if (command->generation != document->sync_generation)
	{
		*why = "the sync set has changed since";
		return PGRAFT_HA_STALE;
	}
	if (!pgraft_ha_set_is_proper(&next) || !pgraft_ha_set_contains(&next, document->primary))
	{
		*why = "the sync set is malformed or lacks the primary";
		return PGRAFT_HA_REFUSED;
	}
	if (next.k == 0)
	{
		memset(&next, 0, sizeof(next));
		pgraft_ha_set_add(&next, document->primary);
	}
	for (i = 0; i < next.n; i++)
	{
		if (pgraft_ha_known_member(document, next.members[i]) == NULL)
		{
			*why = "the sync set has a member that is no data member";
			return PGRAFT_HA_REFUSED;
		}
	}
	if (document->mode == PGRAFT_HA_STRICT && next.k < document->sync.k &&
		next.k < document->wanted_k)
	{
		*why = "in strict mode commits wait instead";
		return PGRAFT_HA_REFUSED;
	}
	if (sets_equal(&next, document->next_sync.n > 0 ? &document->next_sync : &document->sync))
		return PGRAFT_HA_UNCHANGED;

	/*
	 * What was acknowledged under the set that is dropped here is certainly on
	 * the primary: without whose report nothing can be chosen when k = 0.
	 */
	if (document->next_sync.n > 0 && next.k > 0)
	{
		*why = "another change of the sync set is under way";
		return PGRAFT_HA_REFUSED;
	}
	document->next_sync = next;
	document->sync_generation++;
	*why = "the sync set is being changed: both sets are in force";
	return PGRAFT_HA_DONE;
}

PgraftHaVerdict
pgraft_ha_apply_sync_end(PgraftHaDocument *document, const PgraftHaCommand *command,
						   const char **why)
{
	if (command->generation != document->sync_generation)
	{
		*why = "the sync set has changed since";
		return PGRAFT_HA_STALE;
	}
	if (document->next_sync.n == 0)
		return PGRAFT_HA_UNCHANGED;
	if (command->sync.n == 0 || sets_equal(&command->sync, &document->next_sync))
	{
		document->sync = document->next_sync;
		*why = "the sync set was changed";
	}
	else if (sets_equal(&command->sync, &document->sync))
		*why = "the change of the sync set was given up";
	else
	{
		*why = "that sync set is neither of the two in force";
		return PGRAFT_HA_REFUSED;
	}
	memset(&document->next_sync, 0, sizeof(document->next_sync));
	document->sync_generation++;

	/* so that what the old set vouched for counts when lag is accepted */
	pgraft_ha_note_primary_lsn(document, command->lsn, command->time);
	return PGRAFT_HA_DONE;
}

void
pgraft_ha_include_primary(PgraftHaDocument *document, PgraftHaSyncSet *set, uint32 id)
{
	if (pgraft_ha_set_contains(set, id) && (set->k > 0 || set->n == 1))
		return;

	/* it has everything: a set of it alone is always safe */
	if (set->k == 0 || set->n == PGRAFT_HA_MAX_MEMBERS)
		memset(set, 0, sizeof(*set));
	pgraft_ha_set_add(set, id);
	document->sync_generation++;
}

bool
pgraft_ha_set_contains(const PgraftHaSyncSet *set, uint32 id)
{
	int			i;

	for (i = 0; i < set->n; i++)
	{
		if (set->members[i] == id)
			return true;
	}
	return false;
}

void
pgraft_ha_set_add(PgraftHaSyncSet *set, uint32 id)
{
	int			i;

	for (i = set->n; i > 0 && set->members[i - 1] > id; i--)
		set->members[i] = set->members[i - 1];
	set->members[i] = id;
	set->n++;
}

bool
pgraft_ha_set_remove(PgraftHaSyncSet *set, uint32 id)
{
	int			i;

	for (i = 0; i < set->n && set->members[i] != id; i++)
		;
	if (i == set->n)
		return false;
	set->n--;
	memmove(&set->members[i], &set->members[i + 1],
			(size_t) (set->n - i) * sizeof(set->members[0]));
	set->members[set->n] = 0;
	return true;
}

bool
pgraft_ha_set_is_proper(const PgraftHaSyncSet *set)
{
	int			i;

	if (set->n < 1 || set->n > PGRAFT_HA_MAX_MEMBERS || set->k < 0 || set->k >= set->n)
		return false;
	for (i = 1; i < set->n; i++)
	{
		/* a member may go, come back and go again */
		if (set->members[i] < set->members[i - 1] ||
			(set->members[i] == set->members[i - 1] && (set->members[i] & PGRAFT_HA_GONE) == 0))
			return false;
	}
	return set->members[0] != 0;
}

static bool
sets_equal(const PgraftHaSyncSet *a, const PgraftHaSyncSet *b)
{
	return a->k == b->k && a->n == b->n && a->n >= 0 && a->n <= PGRAFT_HA_MAX_MEMBERS &&
		memcmp(a->members, b->members, (size_t) a->n * sizeof(a->members[0])) == 0;
}

bool
pgraft_ha_reports_suffice(const PgraftHaDocument *document)
{
	return reports_suffice_for(document, &document->sync) &&
		reports_suffice_for(document, &document->next_sync);
}

static bool
reports_suffice_for(const PgraftHaDocument *document, const PgraftHaSyncSet *set)
{
	int			reported = 0;
	int			i;

	for (i = 0; i < set->n; i++)
	{
		const PgraftHaMember *member = pgraft_ha_known_member(document, set->members[i]);

		if (member != NULL && member->reported)
			reported++;
	}
	return reported >= set->n - set->k;
}
