/*-------------------------------------------------------------------------
 *
 * sim_log.c
 *	  The checker's copy of a log: what must be there after each write.
 *
 * Knows entries by term and hash only.  A SimEffect is one write of an
 * engine; applying the effects of completed writes to a SimLog gives what the
 * disk must hold, and applying some of those in flight as well gives every
 * state that a recovery may legally find (a write is there whole or not).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "sim_check.h"

#define HASH_START 14695981039346656037UL

SimLogEntry
sim_log_entry(const struct raft_entry *entry)
{
	SimLogEntry result;

	result.term = entry->term;
	result.hash = sim_hash(HASH_START, &entry->type, sizeof(entry->type));
	result.hash = sim_hash(result.hash, &entry->length, sizeof(entry->length));
	result.hash = sim_hash(result.hash, entry->data, entry->length);
	return result;
}

/* An empty log that begins after (start, term). */
void
sim_log_reset(SimLog *log, raft_index start, raft_term term)
{
	log->start = start;
	log->start_term = term;
	log->last = start;
}

void
sim_log_free(SimLog *log)
{
	free(log->entries);
	memset(log, 0, sizeof(*log));
}

static void
reserve(SimLog *log, size_t n)
{
	sim_check_grow((void **) &log->entries, &log->capacity, n, sizeof(SimLogEntry));
}

void
sim_log_copy(SimLog *to, const SimLog *from)
{
	SimLogEntry *entries = to->entries;
	size_t		capacity = to->capacity;
	size_t		n = from->last - from->start;

	*to = *from;
	to->entries = entries;
	to->capacity = capacity;
	reserve(to, n);
	if (n > 0)
		memcpy(to->entries, from->entries, n * sizeof(SimLogEntry));
}

/* Returns 0 when the entry does not follow the last one. */
int
sim_log_append(SimLog *log, raft_index index, SimLogEntry entry)
{
	if (index != log->last + 1)
		return 0;
	reserve(log, index - log->start);
	log->entries[index - log->start - 1] = entry;
	log->last = index;
	return 1;
}

/* Drops entries from `from` on; 0 when that reaches below the log's start. */
int
sim_log_truncate(SimLog *log, raft_index from)
{
	if (from <= log->start)
		return 0;
	if (from <= log->last)
		log->last = from - 1;
	return 1;
}

/* Returns 0 outside of the log. */
int
sim_log_term(const SimLog *log, raft_index index, raft_term *term)
{
	if (index == log->start)
		*term = log->start_term;
	else if (index > log->start && index <= log->last)
		*term = log->entries[index - log->start - 1].term;
	else
		return 0;
	return 1;
}

/* The log, or a snapshot that stands for its beginning, has this entry. */
int
sim_log_has(const SimLog *log, raft_index index, raft_term term)
{
	raft_term	found;

	if (index < log->start)
		return 1;
	return sim_log_term(log, index, &found) && found == term;
}

SimEffect *
sim_effect_create(const struct raft_update *update)
{
	SimEffect  *effect = sim_alloc(sizeof(SimEffect) +
								   update->n_entries * sizeof(SimLogEntry));
	size_t		i;

	effect->truncate_from = update->truncate_from;
	if (update->install != NULL)
	{
		effect->install_index = update->install->index;
		effect->install_term = update->install->term;
		effect->install_keeps_log = update->install_keeps_log;
	}
	effect->hard_state_changed = update->hard_state_changed;
	effect->hard_state = update->hard_state;
	effect->n_entries = update->n_entries;
	effect->entries = (SimLogEntry *) (effect + 1);
	if (update->n_entries > 0)
		effect->first = update->entries[0].index;
	for (i = 0; i < update->n_entries; i++)
		effect->entries[i] = sim_log_entry(&update->entries[i]);
	return effect;
}

void
sim_effect_free(SimEffect *effect)
{
	free(effect);
}

/* Returns NULL, or what is wrong with the effect. */
const char *
sim_effect_apply(SimLog *log, const SimEffect *effect)
{
	size_t		i;

	if (effect->truncate_from != 0 && !sim_log_truncate(log, effect->truncate_from))
		return "truncates below the start of the log";
	if (effect->install_index != 0)
	{
		if (effect->install_index < log->snapshot_index)
			return "installs an older snapshot";
		if (!effect->install_keeps_log)
			sim_log_reset(log, effect->install_index, effect->install_term);
		log->snapshot_index = effect->install_index;
		log->snapshot_term = effect->install_term;
	}
	if (effect->hard_state_changed)
		log->hard_state = effect->hard_state;
	for (i = 0; i < effect->n_entries; i++)
	{
		if (!sim_log_append(log, effect->first + i, effect->entries[i]))
			return "appends with a gap or without truncation";
	}

	/* what is kept may come with this very batch */
	if (effect->install_index != 0 && effect->install_keeps_log &&
		!sim_log_has(log, effect->install_index, effect->install_term))
		return "keeps a log that does not match the snapshot";
	return NULL;
}

/*
 * Recovery found what was written: the same last entry, term and vote, equal
 * entries where both have them, and no older snapshot.  The commit hint may
 * lag.  A local snapshot may be newer than the log (entries are applied
 * before they are durable here); then it stands for all of it.
 */
int
sim_log_equal(const SimLog *wanted, const SimLog *found)
{
	raft_index	index = wanted->start > found->start ? wanted->start : found->start;

	if (wanted->hard_state.term != found->hard_state.term ||
		wanted->hard_state.vote != found->hard_state.vote)
		return 0;
	if (found->snapshot_index < wanted->snapshot_index)
		return 0;
	if (found->start == found->snapshot_index && found->last == found->start &&
		wanted->last <= found->snapshot_index)
		return 1;
	if (found->last != wanted->last)
		return 0;
	for (index++; index <= found->last; index++)
	{
		const SimLogEntry *a = &wanted->entries[index - wanted->start - 1];
		const SimLogEntry *b = &found->entries[index - found->start - 1];

		if (a->term != b->term || a->hash != b->hash)
			return 0;
	}
	return 1;
}
