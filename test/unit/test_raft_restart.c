/*-------------------------------------------------------------------------
 *
 * test_raft_restart.c
 *	  What survives a crash (diss. 3.8): term, vote and log before any word
 *	  that rests on them; and restored state that contradicts itself.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout */

static struct raft_message
vote_request(Cluster *cluster, raft_id from, raft_id to, raft_term term)
{
	struct raft_message message;

	(void) cluster;
	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_VOTE;
	message.from = from;
	message.to = to;
	message.from_incarnation = message.to_incarnation = 1;
	message.term = term;
	message.index = 1000;
	message.log_term = term - 1;
	return message;
}

/* diss. fig. 3.1: the vote is written before it is given */
static void
vote_is_durable_before_the_reply(void)
{
	Cluster    *cluster = cluster_begin(3, 1);
	struct raft_message message = vote_request(cluster, 2, 1, 9);
	unsigned long before;

	cluster_isolate(cluster, 1);
	cluster->nodes[1].hold_disk = 1;
	before = cluster->sent[RAFT_MSG_VOTE_REPLY];
	cluster_inject(cluster, &message);
	cluster_run(cluster, 20);
	is_u64(cluster_status(cluster, 1)->vote, 2, "the vote is given in memory");
	is_u64(cluster->sent[RAFT_MSG_VOTE_REPLY], before, "nothing is said while it is written");
	cluster_crash(cluster, 1);
	ok(cluster_restart(cluster, 1) == RAFT_OK, "crash before it was durable");
	ok(cluster_status(cluster, 1)->vote != 2, "it is forgotten");
	cluster->nodes[1].hold_disk = 0;
	message = vote_request(cluster, 3, 1, 9);
	cluster_inject(cluster, &message);
	cluster_run(cluster, 20);
	is_u64(cluster_status(cluster, 1)->vote, 3, "another candidate may have it");
	is_u64(cluster->sent[RAFT_MSG_VOTE_REPLY], before + 1, "and is told");
	cluster_crash(cluster, 1);
	ok(cluster_restart(cluster, 1) == RAFT_OK, "crash after it was durable");
	is_u64(cluster_status(cluster, 1)->vote, 3, "it is remembered");
	message = vote_request(cluster, 2, 1, 9);
	cluster_inject(cluster, &message);
	cluster_run(cluster, 20);
	is_u64(cluster_status(cluster, 1)->vote, 3, "and nobody else gets it in this term");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* A candidate asks for votes only after its own is durable. */
static void
own_vote_first(void)
{
	Cluster    *cluster = cluster_begin(3, 2);
	raft_id		id;

	for (id = 1; id <= 3; id++)
		cluster->nodes[id].hold_disk = 1;
	cluster_run(cluster, 3 * T);
	ok(cluster_status(cluster, 1)->elections_started +
	   cluster_status(cluster, 2)->elections_started +
	   cluster_status(cluster, 3)->elections_started > 0, "somebody is a candidate");
	is_u64(cluster->sent[RAFT_MSG_VOTE], 0, "nobody asks before its own vote is durable");
	for (id = 1; id <= 3; id++)
	{
		cluster_crash(cluster, id);
		cluster->nodes[id].hold_disk = 0;
		ok(cluster_restart(cluster, id) == RAFT_OK, "crash of member %u", id);
	}
	ok(cluster_wait_leader(cluster, 5 * T) != 0, "then one is elected");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* A single member is its own majority only when its vote is durable. */
static void
single_member_waits_for_its_disk(void)
{
	Cluster    *cluster = cluster_create(3);

	cluster->nodes[1].hold_disk = 1;
	cluster_start(cluster, 1);
	cluster_run(cluster, 500);
	is_u64(cluster_leader(cluster), 0, "no leader before its vote is durable");
	cluster_persist_one(cluster, 1);
	is_u64(cluster_leader(cluster), 1, "then it leads");
	ok(cluster_status(cluster, 1)->commit_index < 2, "its first entry is not committed yet");
	cluster_persist(cluster, 1);
	is_u64(cluster_status(cluster, 1)->commit_index, 2, "but when it is durable");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* An acknowledged entry outlives the crash of the one that acknowledged it. */
static void
append_is_durable_before_the_reply(void)
{
	Cluster    *cluster = cluster_begin(3, 4);
	raft_id		leader = cluster_elect(cluster);
	raft_id		a = other_than(leader, 0);
	raft_id		b = other_than(leader, a);
	raft_index	index;
	raft_index	before = cluster_status(cluster, leader)->commit_index;

	cluster_isolate(cluster, b);
	cluster->nodes[a].hold_disk = 1;
	(void) cluster_propose(cluster, leader, "x", &index);
	cluster_run(cluster, 100);
	is_u64(cluster_status(cluster, a)->last_index, index, "the follower has it in memory");
	cluster_crash(cluster, a);
	is_u64(cluster_status(cluster, leader)->commit_index, before, "and has acknowledged nothing");
	cluster->nodes[a].hold_disk = 0;
	ok(cluster_restart(cluster, a) == RAFT_OK, "restart");
	is_u64(cluster_status(cluster, a)->last_index, index - 1, "the entry is lost there");
	cluster_run(cluster, 500);
	ok(cluster_status(cluster, a)->last_index >= index, "it gets it again");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Everybody at once, at random moments, with writes under way. */
static void
power_loss(void)
{
	raft_u64	seed;
	int			intact = 0;
	int			recovered = 0;

	for (seed = 1; seed <= 20; seed++)
	{
		Cluster    *cluster = cluster_create(seed);
		raft_id		id;
		int			round;
		raft_index	index = 0;

		for (id = 1; id <= 3; id++)
			cluster->nodes[id].disk_delay = 1 + id * (seed % 5);
		cluster_start(cluster, 3);
		for (round = 0; round < 8; round++)
		{
			raft_id		leader = cluster_wait_leader(cluster, 5 * T);
			int			i;

			for (i = 0; i < 30 && leader != 0; i++)
			{
				(void) cluster_propose(cluster, leader, "x", &index);
				cluster_run(cluster, cluster_random(cluster, 4));
				if (cluster_random(cluster, 20) == 0)
					(void) cluster_snapshot(cluster, 1 + (raft_id) cluster_random(cluster, 3),
											cluster_random(cluster, 20));
				leader = cluster_leader(cluster);
			}
			for (id = 1; id <= 3; id++)
				cluster_crash(cluster, id);
			for (id = 1; id <= 3; id++)
				(void) cluster_restart(cluster, id);
		}
		if (cluster_wait_leader(cluster, 5 * T) != 0 &&
			cluster_wait_applied(cluster, cluster->max_commit, 3 * T))
			recovered++;
		if (cluster->failures == 0)
			intact++;
		else
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	is_u64(intact, 20, "160 power losses: no rule broken");
	is_u64(recovered, 20, "and nothing acknowledged was lost");
}

/* ----------------------------------------------------------------
 * Restored state that contradicts itself
 * ----------------------------------------------------------------
 */

static void *
plain_allocate(void *context, size_t size)
{
	(void) context;
	return malloc(size);
}

static void
plain_release(void *context, void *pointer)
{
	(void) context;
	free(pointer);
}

static struct raft *
create(void)
{
	struct raft_params params;
	struct raft_allocator allocator;
	struct raft_callbacks callbacks;
	struct raft *raft;

	params.id = 1;
	params.incarnation = 1;
	params.seed = 1;
	raft_params_default(&params);
	memset(&callbacks, 0, sizeof(callbacks));
	allocator.context = NULL;
	allocator.allocate = plain_allocate;
	allocator.release = plain_release;
	if (raft_create(&raft, &params, &allocator, &callbacks) != RAFT_OK)
		exit(1);
	return raft;
}

static int
restore_entry(struct raft *raft, raft_index index, raft_term term)
{
	struct raft_entry entry;

	memset(&entry, 0, sizeof(entry));
	entry.index = index;
	entry.term = term;
	entry.type = RAFT_ENTRY_EMPTY;
	return raft_restore_entry(raft, &entry);
}

static void
contradictions(void)
{
	static struct raft_snapshot_meta meta;
	struct raft_hard_state state;
	struct raft_entry entry;
	struct raft *raft = create();

	state.term = 5;
	state.vote = 1;
	state.commit = 0;
	is_u64(raft_restore_hard_state(raft, &state), RAFT_OK, "a term");
	state.term = 4;
	is_u64(raft_restore_hard_state(raft, &state), RAFT_E_CORRUPT, "a term that falls");
	is_u64(restore_entry(raft, 2, 1), RAFT_E_CORRUPT, "a gap at the beginning");
	is_u64(restore_entry(raft, 1, 3), RAFT_OK, "an entry");
	is_u64(restore_entry(raft, 2, 2), RAFT_E_CORRUPT, "an entry of a lower term");
	memset(&entry, 0, sizeof(entry));
	entry.index = 2;
	entry.term = 3;
	entry.type = RAFT_ENTRY_CONFIG;
	entry.length = 5;
	entry.data = (const unsigned char *) "abcde";
	is_u64(raft_restore_entry(raft, &entry), RAFT_E_CORRUPT, "a configuration that is none");
	is_u64(restore_entry(raft, 2, 9), RAFT_OK, "an entry from the future");
	is_u64(raft_start(raft, 1), RAFT_E_CORRUPT, "is noticed at the start");
	raft_destroy(raft);

	raft = create();
	is_u64(raft_restore_snapshot(raft, &meta), RAFT_E_CORRUPT, "a snapshot of nothing");
	state.term = 5;
	(void) raft_restore_hard_state(raft, &state);
	(void) raft_restore_log_start(raft, 10, 2);
	is_u64(raft_start(raft, 1), RAFT_E_CORRUPT, "a log that begins behind the snapshot");
	raft_destroy(raft);

	raft = create();
	(void) raft_restore_hard_state(raft, &state);
	meta.index = 2;
	meta.term = 4;
	(void) raft_restore_snapshot(raft, &meta);
	(void) restore_entry(raft, 1, 3);
	(void) restore_entry(raft, 2, 3);
	is_u64(raft_start(raft, 1), RAFT_E_CORRUPT, "an entry that the snapshot contradicts");
	raft_destroy(raft);

	raft = create();
	state.commit = 100;
	(void) raft_restore_hard_state(raft, &state);
	(void) restore_entry(raft, 1, 3);
	is_u64(raft_start(raft, 1), RAFT_OK, "a commit hint beyond the log is only a hint");
	ok(raft_check_invariants(raft) == NULL, "and is cut");
	raft_destroy(raft);
}

/* The log on disk says what was truncated: entries come again. */
static void
truncations_are_replayed(void)
{
	struct raft *raft = create();
	struct raft_hard_state state = {5, 0, 0};
	struct raft_status status;
	raft_term	term = 0;
	raft_index	index;

	(void) raft_restore_hard_state(raft, &state);
	for (index = 1; index <= 10; index++)
		(void) restore_entry(raft, index, 2);
	for (index = 6; index <= 8; index++)
		(void) restore_entry(raft, index, 4);
	is_u64(raft_start(raft, 1), RAFT_OK, "start");
	raft_status(raft, &status);
	is_u64(status.last_index, 8, "the log ends where the second history ends");
	(void) raft_term_at(raft, 5, &term);
	is_u64(term, 2, "its first part is the old one");
	(void) raft_term_at(raft, 6, &term);
	is_u64(term, 4, "its second the new one");
	raft_destroy(raft);
}

/* Written before the log's begin, or never: what storage would not let pass. */
static void
impossible_positions(void)
{
	static struct raft_snapshot_meta meta;
	struct raft_hard_state state = {5, 0, 0};
	struct raft_status status;
	struct raft *raft = create();

	(void) raft_restore_hard_state(raft, &state);
	meta.index = 10;
	meta.term = 4;
	(void) raft_restore_snapshot(raft, &meta);
	is_u64(raft_restore_log_start(raft, 10, 4), RAFT_OK, "a log that begins after 10");
	is_u64(raft_restore_truncate(raft, 10), RAFT_E_CORRUPT, "nothing before it is truncated");
	is_u64(restore_entry(raft, 10, 4), RAFT_E_CORRUPT, "nor written");
	is_u64(raft_restore_truncate(raft, 20), RAFT_OK, "behind its end there is nothing to truncate");

	/* entries that were truncated together with one before the begin */
	is_u64(restore_entry(raft, 11, 2), RAFT_OK, "an entry older than the begin is skipped");
	is_u64(restore_entry(raft, 12, 2), RAFT_OK, "and the one behind it");
	is_u64(raft_start(raft, 1), RAFT_E_CORRUPT, "but something must have replaced them");
	is_u64(raft_restore_truncate(raft, 11), RAFT_OK, "a truncation");
	is_u64(restore_entry(raft, 11, 5), RAFT_OK, "and another entry");
	is_u64(raft_start(raft, 1), RAFT_OK, "did");
	raft_status(raft, &status);
	is_u64(status.last_index, 11, "which is the last one");
	raft_destroy(raft);

	raft = create();
	(void) raft_restore_hard_state(raft, &state);
	(void) raft_restore_snapshot(raft, &meta);
	(void) restore_entry(raft, 1, 3);
	(void) restore_entry(raft, 2, 3);
	is_u64(raft_start(raft, 1), RAFT_OK, "a log that ends before the snapshot");
	raft_status(raft, &status);
	is_u64(status.last_index, 10, "gives way to it");
	is_u64(status.first_index, 11, "whole");
	raft_destroy(raft);
}

static void
restore_config(struct raft *raft, raft_index index, raft_term term, int n_members)
{
	static unsigned char payload[RAFT_CONFIG_MAX_BYTES];
	static struct raft_config config;
	struct raft_entry entry;
	int			i;

	memset(&config, 0, sizeof(config));
	memset(&entry, 0, sizeof(entry));
	config.n_members = n_members;
	for (i = 0; i < n_members; i++)
	{
		config.members[i].id = (raft_id) i + 1;
		config.members[i].incarnation = 1;
		config.members[i].role = config.members[i].target_role = RAFT_VOTER;
	}
	entry.index = index;
	entry.term = term;
	entry.type = RAFT_ENTRY_CONFIG;
	entry.data = payload;
	entry.length = raft_config_encode(&config, payload, sizeof(payload));
	ok(raft_restore_entry(raft, &entry) == RAFT_OK, "a configuration of %d", n_members);
}

/* What was truncated before the crash is not in force after it. */
static void
truncated_configuration_is_not_restored(void)
{
	struct raft *raft = create();
	struct raft_hard_state state = {5, 0, 0};

	(void) raft_restore_hard_state(raft, &state);
	restore_config(raft, 1, 1, 3);
	(void) restore_entry(raft, 2, 2);
	restore_config(raft, 3, 2, 4);
	(void) restore_entry(raft, 3, 4);
	is_u64(raft_start(raft, 1), RAFT_OK, "start");
	is_u64(raft_get_config(raft)->n_members, 3, "the configuration before is in force");
	is_u64(raft_get_config(raft)->index, 1, "with its index");
	ok(raft_check_invariants(raft) == NULL, "no invariant is broken");
	raft_destroy(raft);
}

int
main(void)
{
	vote_is_durable_before_the_reply();
	own_vote_first();
	single_member_waits_for_its_disk();
	append_is_durable_before_the_reply();
	power_loss();
	contradictions();
	truncations_are_replayed();
	impossible_positions();
	truncated_configuration_is_not_restored();
	return tap_done();
}
