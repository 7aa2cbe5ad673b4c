/*-------------------------------------------------------------------------
 *
 * held.c
 *	  Answers that wait for the disk: see include/pgraft/held.h.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/held.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/held.h"

#define FIRST_ALLOCATION 64

static size_t *count_of(PgraftHeld *held, raft_id peer);
static bool make_room(PgraftHeld *held);

bool
pgraft_held_add(PgraftHeld *held, raft_u64 epoch, const struct raft_message *message)
{
	size_t	   *count = count_of(held, message->to);
	PgraftHeldEntry *entry;

	if (count == NULL || !make_room(held))
		return false;
	entry = &held->entries[held->end++];
	entry->epoch = epoch;
	entry->message = *message;
	entry->message.entries = NULL;
	entry->message.chunk = NULL;
	(*count)++;
	return true;
}

/* Its counter, or a new one; NULL when there are more peers than can be. */
static size_t *
count_of(PgraftHeld *held, raft_id peer)
{
	size_t	   *unused = NULL;
	size_t		i;

	for (i = 0; i < lengthof(held->counts); i++)
	{
		if (held->counts[i].n == 0)
		{
			if (unused == NULL)
			{
				held->counts[i].peer = peer;
				unused = &held->counts[i].n;
			}
		}
		else if (held->counts[i].peer == peer)
			return &held->counts[i].n;
	}
	return unused;
}

static bool
make_room(PgraftHeld *held)
{
	size_t		n = held->end - held->first;
	size_t		wanted;
	PgraftHeldEntry *grown;

	if (held->end < held->allocated)
		return true;
	if (held->first > 0 && held->first >= n)
	{
		memmove(held->entries, held->entries + held->first, n * sizeof(PgraftHeldEntry));
		held->first = 0;
		held->end = n;
		return true;
	}
	wanted = Max(held->allocated * 2, FIRST_ALLOCATION);
	grown = realloc(held->entries, wanted * sizeof(PgraftHeldEntry));
	if (grown == NULL)
		return false;
	held->entries = grown;
	held->allocated = wanted;
	return true;
}

const struct raft_message *
pgraft_held_take(PgraftHeld *held, raft_u64 durable)
{
	PgraftHeldEntry *entry = held->entries + held->first;
	size_t	   *count;

	if (held->first == held->end || entry->epoch > durable)
		return NULL;
	held->first++;
	if (held->first == held->end)
		held->first = held->end = 0;	/* the entry stays where it is */
	count = count_of(held, entry->message.to);
	if (count != NULL && *count > 0)
		(*count)--;
	return &entry->message;
}

bool
pgraft_held_full(const PgraftHeld *held, raft_id peer)
{
	size_t		i;

	for (i = 0; i < lengthof(held->counts); i++)
		if (held->counts[i].peer == peer)
			if (held->counts[i].n >= PGRAFT_HELD_PER_PEER)
				return true;
	return false;
}

void
pgraft_held_clear(PgraftHeld *held)
{
	free(held->entries);
	memset(held, 0, sizeof(*held));
}
