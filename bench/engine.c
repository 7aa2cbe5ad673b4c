/*-------------------------------------------------------------------------
 *
 * engine.c
 *	  How fast the Raft engine alone is: a cluster in the memory of one process,
 *	  on one core, without disk, network or PostgreSQL.
 *
 *		engine [--seconds N] [--batch N] [--bytes N] [MEMBERS ...]
 *
 * The leader is given a batch of entries at a time; every message goes from one
 * engine to the other as it is, and what is written counts as durable at once.
 * An entry counts when every member has applied it.  Printed for each size of
 * cluster (default 3 and 7): entries and messages a second, nanoseconds an
 * entry, and what was allocated after the start, which must be nothing.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pgraft/raft.h"

#define MAX_BATCH 4096
#define WARM_UP_MS 200			/* not measured */

typedef struct Options
{
	long		seconds;
	long		batch;			/* entries proposed together */
	long		bytes;			/* of each */
} Options;

static struct raft *engines[RAFT_MAX_MEMBERS + 1];	/* by id */
static int	n_members;
static raft_u64 applied[RAFT_MAX_MEMBERS + 1];
static raft_u64 n_messages;
static raft_u64 n_allocations;
static raft_u64 allocated_bytes;

static void run(const Options *options, int members);
static void start(raft_id id);
static void settle(void);
static int	turn(raft_id id);
static raft_id leader(void);
static void propose_batch(raft_id id, const Options *options);
static double seconds_now(void);

static void *
allocate(void *context, size_t size)
{
	(void) context;
	n_allocations++;
	allocated_bytes += size;
	return malloc(size);
}

static void
release(void *context, void *pointer)
{
	(void) context;
	free(pointer);
}

int
main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"seconds", required_argument, NULL, 's'},
		{"batch", required_argument, NULL, 'b'},
		{"bytes", required_argument, NULL, 'y'},
		{NULL, 0, NULL, 0}
	};
	Options		options = {3, 256, 64};
	int			option;

	while ((option = getopt_long(argc, argv, "s:b:y:", long_options, NULL)) != -1)
	{
		long		value = optarg != NULL ? atol(optarg) : 0;

		if (option == 's' && value > 0)
			options.seconds = value;
		else if (option == 'b' && value > 0 && value <= MAX_BATCH)
			options.batch = value;
		else if (option == 'y' && value > 0 && value <= 65536)
			options.bytes = value;
		else
		{
			fprintf(stderr, "usage: engine [--seconds N] [--batch N] [--bytes N] [MEMBERS ...]\n");
			return 2;
		}
	}
	printf("engine in memory, one core, batches of %ld entries of %ld bytes, %ld s each\n\n",
		   options.batch, options.bytes, options.seconds);
	printf("%8s %14s %14s %10s %12s %14s\n", "members", "entries/s", "messages/s", "ns/entry",
		   "allocations", "bytes at start");
	if (optind == argc)
	{
		run(&options, 3);
		run(&options, 7);
	}
	for (; optind < argc; optind++)
	{
		char	   *end;
		long		members = strtol(argv[optind], &end, 10);

		if (*end != '\0' || members < 1 || members > RAFT_MAX_VOTERS)
		{
			fprintf(stderr, "members must be 1 to %d\n", RAFT_MAX_VOTERS);
			return 2;
		}
		run(&options, (int) members);
	}
	return 0;
}

static void
run(const Options *options, int members)
{
	raft_time	clock = 1;
	raft_id		id;
	raft_u64	at_start;
	raft_u64	bytes_at_start;
	raft_u64	entries;
	double		began;
	double		elapsed = 0;
	int			measuring = 0;

	n_members = members;
	n_allocations = allocated_bytes = 0;
	for (id = 1; id <= (raft_id) members; id++)
		start(id);
	for (; leader() == 0; clock++)
	{
		for (id = 1; id <= (raft_id) members; id++)
			raft_tick(engines[id], clock);
		settle();
	}
	at_start = n_allocations;
	bytes_at_start = allocated_bytes;
	began = seconds_now();
	while (elapsed < (double) options->seconds)
	{
		raft_time	now;
		int			i;

		/* heartbeats come as they would */
		for (i = 0; i < 16; i++)
		{
			propose_batch(leader(), options);
			settle();
		}
		elapsed = seconds_now() - began;
		now = clock + (raft_time) (elapsed * 1000);
		for (id = 1; id <= (raft_id) members; id++)
			raft_tick(engines[id], now);
		settle();
		if (!measuring && elapsed * 1000 >= WARM_UP_MS)
		{
			measuring = 1;
			clock = now;
			began = seconds_now();
			elapsed = 0;
			n_messages = 0;
			memset(applied, 0, sizeof(applied));
		}
	}
	entries = applied[1];
	for (id = 1; id <= (raft_id) members; id++)
	{
		if (applied[id] != entries)
		{
			fprintf(stderr, "member %u has applied %lu entries, member 1 %lu\n", id, applied[id],
					entries);
			exit(1);
		}
		raft_destroy(engines[id]);
	}
	printf("%8d %14.0f %14.0f %10.0f %12lu %14lu\n", members, (double) entries / elapsed,
		   (double) n_messages / elapsed, elapsed * 1e9 / (double) entries,
		   n_allocations - at_start, bytes_at_start);
}

static void
start(raft_id id)
{
	static struct raft_snapshot_meta beginning;
	const struct raft_allocator allocator = {NULL, allocate, release};
	const struct raft_hard_state hard_state = {1, 0, 1};
	struct raft_callbacks callbacks;
	struct raft_params params;
	int			i;

	memset(&beginning, 0, sizeof(beginning));
	memset(&callbacks, 0, sizeof(callbacks));
	beginning.index = beginning.term = beginning.config.index = 1;
	beginning.config.n_members = n_members;
	for (i = 0; i < n_members; i++)
	{
		beginning.config.members[i].id = (raft_id) i + 1;
		beginning.config.members[i].incarnation = 1;
		beginning.config.members[i].role = RAFT_VOTER;
		beginning.config.members[i].target_role = RAFT_VOTER;
	}
	raft_params_default(&params);
	params.id = id;
	params.incarnation = 1;
	params.seed = id;
	if (raft_create(&engines[id], &params, &allocator, &callbacks) != RAFT_OK ||
		raft_restore_hard_state(engines[id], &hard_state) != RAFT_OK ||
		raft_restore_snapshot(engines[id], &beginning) != RAFT_OK ||
		raft_start(engines[id], 1) != RAFT_OK)
	{
		fprintf(stderr, "could not start member %u\n", id);
		exit(1);
	}
}

static raft_id
leader(void)
{
	static raft_id last = 1;
	struct raft_status status;
	int			i;

	for (i = 0; i < n_members; i++)
	{
		raft_id		id = (raft_id) ((last - 1 + (raft_id) i) % (raft_id) n_members) + 1;

		raft_status(engines[id], &status);
		if (status.state == RAFT_LEADER)
			return last = id;
	}
	return 0;
}

static void
propose_batch(raft_id id, const Options *options)
{
	static unsigned char payload[65536];
	static struct raft_proposal batch[MAX_BATCH];
	raft_index	index;
	raft_term	term;
	long		i;

	for (i = 0; i < options->batch; i++)
	{
		batch[i].length = (size_t) options->bytes;
		batch[i].data = payload;
	}

	/* at the limit of what may be uncommitted it is tried again next time */
	if (id != 0)
		(void) raft_propose(engines[id], batch, (size_t) options->batch, &index, &term);
}

/* Until no engine wants anything. */
static void
settle(void)
{
	int			busy = 1;

	while (busy)
	{
		raft_id		id;

		busy = 0;
		for (id = 1; id <= (raft_id) n_members; id++)
			busy |= turn(id);
	}
}

static int
turn(raft_id id)
{
	struct raft_update update;
	raft_index	last;
	raft_u64	epoch;
	size_t		i;

	if (!raft_take_update(engines[id], &update))
		return 0;
	n_messages += update.n_messages + update.n_messages_after;
	for (i = 0; i < update.n_messages; i++)
		(void) raft_receive(engines[update.messages[i].to], &update.messages[i]);
	for (i = 0; i < update.n_messages_after; i++)
		(void) raft_receive(engines[update.messages_after[i].to], &update.messages_after[i]);
	for (i = 0; i < update.n_apply; i++)
		applied[id] += update.apply[i].type == RAFT_ENTRY_NORMAL;
	last = update.n_apply > 0 ? update.apply[update.n_apply - 1].index : 0;
	epoch = update.epoch;
	if (epoch != 0)
		raft_persisted(engines[id], epoch);
	if (last != 0)
		raft_applied(engines[id], last);
	return 1;
}

static double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}
