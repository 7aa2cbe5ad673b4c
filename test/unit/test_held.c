/*-------------------------------------------------------------------------
 *
 * test_held.c
 *	  Answers held back go in order, and no peer may have any number of them.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_held.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/held.h"

#include "tap.h"

static PgraftHeld held;

static bool
add(raft_u64 epoch, raft_id to)
{
	struct raft_message message;

	memset(&message, 0, sizeof(message));
	message.to = to;
	message.term = epoch;
	return pgraft_held_add(&held, epoch, &message);
}

/* Takes all that may go; how many came in order. */
static size_t
take(raft_u64 durable)
{
	const struct raft_message *message;
	raft_term	last = 0;
	size_t		n = 0;

	while ((message = pgraft_held_take(&held, durable)) != NULL)
	{
		if (message->term < last || message->term > durable)
			return 0;
		last = message->term;
		n++;
	}
	return n;
}

static void
order(void)
{
	raft_u64	epoch;
	size_t		taken = 0;

	ok(pgraft_held_take(&held, 100) == NULL, "nothing is held at first");
	for (epoch = 1; epoch <= 1000; epoch++)
	{
		if (!add(epoch, 2 + epoch % 3))
			break;
		if (epoch % 7 == 0)
			taken += take(epoch - 5);
	}
	is_u64(epoch, 1001, "answers are taken in");
	is_u64(taken, 994 - 5, "and go when their epoch is durable, not before");
	is_u64(take(1000), 1000 - taken, "at last all of them");
	is_u64(take(PG_UINT64_MAX), 0, "once");
}

static void
bound(void)
{
	raft_u64	epoch = 1;
	int			i;

	ok(add(epoch, 3), "one for a quiet peer");
	for (i = 0; !pgraft_held_full(&held, 2) && i < 10 * PGRAFT_HELD_PER_PEER; i++)
		if (!add(epoch++, 2))
			break;
	is_u64(i, PGRAFT_HELD_PER_PEER, "one that sends and sends may have so many");
	ok(!pgraft_held_full(&held, 3), "which is nothing to the quiet one");
	is_u64(take(1), 2, "some go");
	ok(!pgraft_held_full(&held, 2), "then it may have more");
	is_u64(take(epoch), PGRAFT_HELD_PER_PEER - 1, "all go");

	for (i = 0; i < 1000; i++)
		if (!add(epoch, 1000 + i))
			break;
	is_u64(i, PGRAFT_HELD_PEERS, "more peers than there can be are not kept");
	is_u64(take(epoch), PGRAFT_HELD_PEERS, "those that were, go");
	ok(add(epoch, 5), "there is room again");
	pgraft_held_clear(&held);
	is_u64(take(epoch), 0, "what is cleared is gone");
}

int
main(void)
{
	order();
	bound();
	return tap_done();
}
