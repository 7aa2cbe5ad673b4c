/*-------------------------------------------------------------------------
 *
 * memory_cluster.c
 *	  Three Raft members in one process: what a host of the engine has to do.
 *
 *		cc -std=c99 -I include -o memory_cluster examples/memory_cluster.c libpgraft_raft.a
 *
 * Disk and network are memory here.  A real host writes each update as one batch,
 * flushes it, and only then sends messages_after and calls raft_persisted().
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgraft/raft.h"

#define N 3

struct host
{
	struct raft *raft;			/* NULL = dead */
	struct raft_entry log[64];	/* what its disk has, by index */
	int			applied;		/* commands, without the engine's own entries */
};

static struct host hosts[N + 1];	/* by member id, 1 .. N */

static void *allocate(void *context, size_t size) { (void) context; return malloc(size); }
static void release(void *context, void *pointer) { (void) context; free(pointer); }

static void
deliver(const struct raft_message *messages, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (hosts[messages[i].to].raft != NULL)
			(void) raft_receive(hosts[messages[i].to].raft, &messages[i]);
}

/* Does everything that one engine wants done; returns whether there was any. */
static int
turn(raft_id id)
{
	struct host *host = &hosts[id];
	struct raft_update u;
	raft_index	last;

	if (host->raft == NULL || !raft_take_update(host->raft, &u))
		return 0;
	deliver(u.messages, u.n_messages);
	for (size_t i = 0; i < u.n_entries; i++)
	{
		struct raft_entry *entry = &host->log[u.entries[i].index];

		*entry = u.entries[i];
		entry->data = malloc(entry->length + 1);
		if (entry->length > 0)
			memcpy((void *) entry->data, u.entries[i].data, entry->length);
	}
	deliver(u.messages_after, u.n_messages_after);
	for (size_t i = 0; i < u.n_apply; i++)
		if (u.apply[i].type == RAFT_ENTRY_NORMAL && ++host->applied)
			printf("  member %u applies \"%.*s\" (index %lu)\n", id, (int) u.apply[i].length,
				   (const char *) u.apply[i].data, u.apply[i].index);

	/* the next call ends the life of what the update points to */
	last = u.n_apply > 0 ? u.apply[u.n_apply - 1].index : 0;
	if (u.epoch != 0)
		raft_persisted(host->raft, u.epoch);
	if (last != 0)
		raft_applied(host->raft, last);
	return 1;
}

/* Lets time pass; returns who leads then, 0 = nobody. */
static raft_id
run(raft_time *now, raft_time milliseconds)
{
	struct raft_status status;
	raft_id		leader = 0;
	int			busy;

	for (raft_time end = *now + milliseconds; *now < end; (*now)++)
	{
		for (raft_id id = 1; id <= N; id++)
			if (hosts[id].raft != NULL)
				raft_tick(hosts[id].raft, *now);
		do
			busy = turn(1) + turn(2) + turn(3);
		while (busy);
	}
	for (raft_id id = 1; id <= N; id++)
		if (hosts[id].raft != NULL &&
			(raft_status(hosts[id].raft, &status), status.state == RAFT_LEADER))
			leader = id;
	return leader;
}

int
main(void)
{
	/* all begin with one configuration, as if a snapshot at index 1 had it */
	struct raft_snapshot_meta beginning = {.index = 1, .term = 1, .config = {.index = 1, .n_members = N}};
	const struct raft_hard_state hard_state = {.term = 1, .commit = 1};
	const struct raft_allocator allocator = {NULL, allocate, release};
	raft_time	now = 1;
	raft_id		leader;

	for (int i = 0; i < N; i++)
		beginning.config.members[i] = (struct raft_member) {
			.id = i + 1, .incarnation = 1, .role = RAFT_VOTER, .target_role = RAFT_VOTER};
	for (raft_id id = 1; id <= N; id++)
	{
		struct raft_callbacks callbacks = {.read_entries = NULL};	/* all fits its cache */
		struct raft_params params = {.id = id, .incarnation = 1, .seed = 42 + id};

		raft_params_default(&params);
		if (raft_create(&hosts[id].raft, &params, &allocator, &callbacks) != RAFT_OK ||
			raft_restore_hard_state(hosts[id].raft, &hard_state) != RAFT_OK ||
			raft_restore_snapshot(hosts[id].raft, &beginning) != RAFT_OK ||
			raft_start(hosts[id].raft, now) != RAFT_OK)
			return 1;
	}
	leader = run(&now, 2000);
	for (int i = 1; i <= 6; i++)
	{
		char		text[16];
		struct raft_proposal proposal = {snprintf(text, sizeof(text), "command %d", i), (unsigned char *) text};
		raft_index	index;
		raft_term	term;

		if (leader == 0 || raft_propose(hosts[leader].raft, &proposal, 1, &index, &term) != RAFT_OK)
			return 1;
		leader = run(&now, 200);
		if (i == 3)
		{
			printf("member %u leads and dies\n", leader);
			raft_destroy(hosts[leader].raft);
			hosts[leader].raft = NULL;
			leader = run(&now, 3000);
			printf("member %u leads\n", leader);
		}
	}
	for (raft_id id = 1; id <= N; id++)
		if (hosts[id].raft != NULL && hosts[id].applied != 6)
			return 1;
	printf("both survivors have applied all six commands\n");
	return 0;
}
