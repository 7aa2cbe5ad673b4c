/*-------------------------------------------------------------------------
 *
 * held.h
 *	  Answers that may go out only when a batch of the log is durable
 *	  (src/net/held.c).
 *
 * In the order of their epochs.  How many there may be for one peer is bounded:
 * a disk that does not answer and a peer that goes on sending must not take all
 * memory.  The bound is far above what a peer can have under way that keeps to
 * its window, and it is the receiver's business to look at it: what a peer sends
 * beyond it is dropped unread, as a network may do, so that the queue of batches
 * is bounded with it.
 *
 * malloc/free only, one thread.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_HELD_H
#define PGRAFT_HELD_H

#include "pgraft/raft.h"

#define PGRAFT_HELD_PER_PEER 4096
#define PGRAFT_HELD_PEERS (RAFT_MAX_MEMBERS * 2)

typedef struct PgraftHeldEntry
{
	raft_u64	epoch;
	struct raft_message message;	/* has no payload */
} PgraftHeldEntry;

/* All zero = empty. */
typedef struct PgraftHeld
{
	PgraftHeldEntry *entries;
	size_t		first;			/* what is before has gone */
	size_t		end;
	size_t		allocated;
	struct
	{
		raft_id		peer;
		size_t		n;			/* 0 = free */
	}			counts[PGRAFT_HELD_PEERS];
} PgraftHeld;

/* Copies it; false = out of memory, and the message is as good as lost. */
extern bool pgraft_held_add(PgraftHeld *held, raft_u64 epoch,
							const struct raft_message *message);

/* The next that may go, in order, or NULL; valid until the next call. */
extern const struct raft_message *pgraft_held_take(PgraftHeld *held, raft_u64 durable);

/* May this peer have no more? */
extern bool pgraft_held_full(const PgraftHeld *held, raft_id peer);
extern void pgraft_held_clear(PgraftHeld *held);

#endif							/* PGRAFT_HELD_H */
