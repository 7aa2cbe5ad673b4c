/*-------------------------------------------------------------------------
 *
 * test_raft_read.c
 *	  Linearizable reads without a log entry (diss. 6.4): ReadIndex, leases.
 *
 * The fixture knows what was committed anywhere when a read was asked and
 * complains about every answer below that.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout */

static Cluster *
lease_cluster(int n, raft_u64 seed)
{
	Cluster    *cluster = cluster_create(seed);

	cluster->params.fast_detection = 0;
	cluster->params.lease_reads = 1;
	cluster_start(cluster, n);
	return cluster;
}

static Verdict
no_appends(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	return message->type == RAFT_MSG_APPEND && message->n_entries > 0 ? DROP : DELIVER;
}

/* Step 1 of diss. 6.4 */
static void
not_before_own_term_is_committed(void)
{
	Cluster    *cluster = cluster_begin(3, 1);
	raft_id		leader;

	cluster->filter = no_appends;
	leader = cluster_wait_leader(cluster, 10 * T);
	cluster_run(cluster, 200);
	is_u64(cluster_read(cluster, leader, 1), RAFT_E_NOT_READY,
		   "no read before an entry of the own term is committed");
	is_u64(cluster_read(cluster, other_than(leader, 0), 2), RAFT_E_NOT_LEADER,
		   "nor at a follower");
	cluster->filter = NULL;
	cluster_run(cluster, 300);
	is_u64(cluster_read(cluster, leader, 3), RAFT_OK, "then it is taken");
	ok(!cluster_find_read(cluster, leader, 3)->done, "not answered at once");
	cluster_run(cluster, 5);
	ok(cluster_find_read(cluster, leader, 3)->done &&
	   cluster_find_read(cluster, leader, 3)->error == RAFT_OK, "but after one round trip");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
reads_share_a_round(void)
{
	Cluster    *cluster = cluster_begin(3, 2);
	raft_id		leader = cluster_elect(cluster);
	struct raft *raft = cluster->nodes[leader].raft;
	unsigned long before;
	raft_u64	token;
	int			done = 0;

	cluster_run(cluster, 105);
	before = cluster->sent[RAFT_MSG_HEARTBEAT];
	raft_tick(raft, cluster->now);
	for (token = 1; token <= 500; token++)
	{
		ReadRecord *record = &cluster->nodes[leader].reads[cluster->nodes[leader].n_reads++];

		memset(record, 0, sizeof(*record));
		record->token = token;
		record->floor = cluster->max_commit;
		if (raft_read(raft, token) != RAFT_OK)
			ok(0, "read");
	}
	cluster_flush(cluster, leader);
	cluster_run(cluster, 5);
	for (token = 1; token <= 500; token++)
		done += cluster_find_read(cluster, leader, token)->done;
	is_u64(done, 500, "500 reads are answered");
	ok(cluster->sent[RAFT_MSG_HEARTBEAT] - before <= 4, "by %lu heartbeats",
	   cluster->sent[RAFT_MSG_HEARTBEAT] - before);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
single_member_answers_itself(void)
{
	Cluster    *cluster = cluster_begin(1, 3);

	(void) cluster_elect(cluster);
	is_u64(cluster_read(cluster, 1, 1), RAFT_OK, "a read");
	ok(cluster_find_read(cluster, 1, 1)->done, "answered at once by the only member");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
pending_reads_are_bounded(void)
{
	Cluster    *cluster = cluster_begin(3, 4);
	raft_id		leader = cluster_elect(cluster);
	int			error = RAFT_OK;
	raft_u64	token = 0;

	while (token < 100000 && error == RAFT_OK)
		error = raft_read(cluster->nodes[leader].raft, ++token + 1000000);
	is_u64(error, RAFT_E_BUSY, "pending reads are bounded");
	cluster_destroy(cluster);
}

/* A cut off leader: reads wait, and fail when it steps down. */
static void
deposed_leader_answers_nothing(void)
{
	Cluster    *cluster = cluster_begin(3, 5);
	raft_id		leader = cluster_elect(cluster);
	raft_id		next;
	raft_index	index;
	raft_u64	token;
	int			wrong = 0;

	cluster_isolate(cluster, leader);
	for (token = 1; token <= 30; token++)
	{
		if (cluster_read(cluster, leader, token) != RAFT_OK)
			break;
		cluster_run(cluster, 40);
		next = cluster_leader(cluster);
		if (next != 0 && next != leader)
			(void) cluster_propose(cluster, next, "newer", &index);
	}
	cluster_run(cluster, T);
	while (--token > 0)
	{
		ReadRecord *record = cluster_find_read(cluster, leader, token);

		if (record == NULL || !record->done || record->error != RAFT_E_NOT_LEADER)
			wrong++;
	}
	is_u64(wrong, 0, "every read of a cut off leader fails");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* E: the leader sleeps while another is elected and commits. */
static void
sleeping_leader(Cluster *cluster, const char *what)
{
	raft_id		leader = cluster_elect(cluster);
	raft_id		next;
	raft_index	index;
	ReadRecord *record;

	(void) cluster_propose(cluster, leader, "old", &index);
	cluster_run(cluster, 120);
	cluster->nodes[leader].paused = 1;
	cluster_run(cluster, 3 * T);
	next = cluster_leader(cluster);
	ok(next != 0 && next != leader, "%s: another leads", what);
	(void) cluster_propose(cluster, next, "new", &index);
	cluster_run(cluster, 100);

	/* it wakes up and is asked before it hears anything */
	cluster->nodes[leader].paused = 0;
	(void) cluster_read(cluster, leader, 1);
	cluster_release(cluster);
	cluster_run(cluster, T);
	record = cluster_find_read(cluster, leader, 1);
	ok(record == NULL || (record->done && record->error != RAFT_OK), "%s: its read fails", what);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static Verdict
late_heartbeat_answers(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	return message->type == RAFT_MSG_HEARTBEAT_REPLY ? HOLD : DELIVER;
}

/* Answers to rounds before the read confirm nothing. */
static void
older_rounds_confirm_nothing(void)
{
	Cluster    *cluster = cluster_begin(3, 6);
	raft_id		leader = cluster_elect(cluster);

	cluster->filter = late_heartbeat_answers;
	cluster_run(cluster, 250);
	cluster->filter = NULL;
	cluster_isolate(cluster, leader);
	is_u64(cluster_read(cluster, leader, 1), RAFT_OK, "a read");
	cluster_release(cluster);
	cluster_run(cluster, 10);
	ok(!cluster_find_read(cluster, leader, 1)->done, "old answers do not confirm it");
	cluster_heal(cluster);
	cluster_run(cluster, 250);
	ok(cluster_find_read(cluster, leader, 1)->done, "those to its own round do");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
leases(void)
{
	Cluster    *cluster = cluster_create(7);
	struct raft *raft = NULL;
	struct raft_params params = cluster->params;
	struct raft_callbacks callbacks;
	raft_id		leader;
	raft_time	until;

	memset(&callbacks, 0, sizeof(callbacks));
	params.id = params.seed = 1;
	params.incarnation = 1;
	params.lease_reads = params.fast_detection = 1;
	is_u64(raft_create(&raft, &params, &cluster->allocator, &callbacks), RAFT_E_INVALID,
		   "leases and fast detection together are refused");
	cluster_destroy(cluster);

	cluster = lease_cluster(3, 8);
	leader = cluster_elect(cluster);
	is_u64(cluster_read(cluster, leader, 1), RAFT_OK, "a read");
	ok(cluster_find_read(cluster, leader, 1)->done, "answered at once by the lease");
	until = cluster_status(cluster, leader)->lease_until;
	ok(until > cluster->now && until <= cluster->now + T / 2, "which ends within T/2");

	/* a broken connection stops counting at once */
	raft_peer_lost(cluster->nodes[leader].raft, other_than(leader, 0));
	raft_peer_lost(cluster->nodes[leader].raft, other_than(leader, other_than(leader, 0)));
	is_u64(cluster_status(cluster, leader)->lease_until, 0, "no lease without connections");
	raft_peer_found(cluster->nodes[leader].raft, other_than(leader, 0));
	cluster_flush(cluster, leader);

	cluster_isolate(cluster, leader);
	cluster_run(cluster, T / 2 + 5);
	is_u64(cluster_read(cluster, leader, 2), RAFT_OK, "a read after the lease");
	ok(!cluster_find_read(cluster, leader, 2)->done, "needs a round");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/*
 * A follower acknowledges the lease, restarts, and is asked for its vote by a
 * member that has not heard the leader for long.
 */
static void
restarted_voter_keeps_the_lease(void)
{
	raft_u64	seed;

	for (seed = 1; seed <= 10; seed++)
	{
		Cluster    *cluster = lease_cluster(3, seed);
		raft_id		leader = cluster_elect(cluster);
		raft_id		apart = other_than(leader, 0);
		raft_id		voter = other_than(leader, apart);
		raft_id		next;
		raft_u64	token = 0;
		int			i;

		cluster_cut(cluster, leader, apart);
		cluster_run(cluster, 2 * T);
		cluster_cut(cluster, leader, voter);
		cluster_crash(cluster, voter);
		(void) cluster_restart(cluster, voter);
		for (i = 0; i < 60; i++)
		{
			cluster_run(cluster, 20);
			next = cluster_leader(cluster);
			if (next != 0 && next != leader)
				(void) cluster_propose(cluster, next, "newer", NULL);
			(void) cluster_read(cluster, leader, ++token);
		}
		NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
}

static Verdict
hold_timeout_now(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	return message->type == RAFT_MSG_TIMEOUT_NOW ? HOLD : DELIVER;
}

/* The order to campaign arrives after the leader has given up the transfer. */
static void
late_transfer_breaks_no_lease(void)
{
	Cluster    *cluster = lease_cluster(3, 9);
	raft_id		leader = cluster_elect(cluster);
	raft_id		target = other_than(leader, 0);
	raft_u64	token;

	cluster->filter = hold_timeout_now;
	is_u64(raft_transfer(cluster->nodes[leader].raft, target), RAFT_OK, "transfer");
	is_u64(cluster_status(cluster, leader)->lease_until, 0, "no lease while it runs");
	cluster_flush(cluster, leader);
	cluster_run(cluster, T + 200);
	is_u64(cluster_status(cluster, leader)->transfer_target, 0, "given up");
	cluster->filter = NULL;
	cluster_release(cluster);

	/* the old leader hears nothing of it */
	cluster_cut(cluster, leader, target);
	cluster_cut(cluster, leader, other_than(leader, target));
	for (token = 1; token <= 30; token++)
	{
		cluster_run(cluster, 10);
		if (cluster_status(cluster, target)->state == RAFT_LEADER)
			(void) cluster_propose(cluster, target, "newer", NULL);
		(void) cluster_read(cluster, leader, token);
	}
	is_u64(cluster_status(cluster, target)->state, RAFT_LEADER, "the target leads late");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Reads under faults, both ways. */
static void
storms(int with_leases)
{
	raft_u64	seed;
	int			intact = 0;
	unsigned long answered = 0;

	for (seed = 1; seed <= 15; seed++)
	{
		Cluster    *cluster = with_leases ? lease_cluster(3, seed) : cluster_begin(3, seed);
		int			step;
		raft_id		id;
		raft_u64	token = 0;

		cluster->jitter = 20;
		cluster->loss_percent = 5;
		cluster->duplicate_percent = 5;
		for (step = 0; step < 150; step++)
		{
			id = 1 + (raft_id) cluster_random(cluster, 3);
			switch (cluster_random(cluster, 10))
			{
				case 0:
					cluster_isolate(cluster, id);
					break;
				case 1:
					cluster_cut(cluster, id, id % 3 + 1);
					break;
				case 2:
					cluster_heal(cluster);
					break;
				case 3:
					cluster_crash(cluster, id);
					(void) cluster_restart(cluster, id);
					break;
				case 4:
					if (cluster_leader(cluster) != 0)
						(void) raft_transfer(cluster->nodes[cluster_leader(cluster)].raft, 0);
					break;
				case 5:
					cluster->nodes[id].paused = !cluster->nodes[id].paused;
					if (!cluster->nodes[id].paused)
						cluster_release(cluster);
					break;
				default:
					break;
			}
			for (id = 1; id <= 3; id++)
			{
				if (cluster->nodes[id].paused)
					continue;
				(void) cluster_propose(cluster, id, "w", NULL);
				if (cluster_read(cluster, id, ++token) == RAFT_OK)
					answered++;
			}
			cluster_run(cluster, 10 + cluster_random(cluster, 100));
		}
		if (cluster->failures == 0)
			intact++;
		else
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	ok(answered > 300, "%lu reads were taken", answered);
	is_u64(intact, 15, with_leases ? "15 storms with leases: no stale read" :
		   "15 storms with ReadIndex: no stale read");
}

/* How far into the future the lease reaches at most, over some rounds. */
static raft_time
longest_lease(Cluster *cluster, raft_id leader)
{
	raft_time	longest = 0;
	int			i;

	for (i = 0; i < 400; i++)
	{
		raft_time	until = cluster_status(cluster, leader)->lease_until;

		if (until > cluster->now && until - cluster->now > longest)
			longest = until - cluster->now;
		cluster_run(cluster, 1);
	}
	return longest;
}

static void
lease_begins_with_the_question(void)
{
	Cluster    *cluster = cluster_create(10);
	raft_id		leader;
	raft_time	longest;

	cluster->params.fast_detection = 0;
	cluster->params.lease_reads = 1;
	cluster->params.drift_bound_ppm = 100000;
	cluster_start(cluster, 3);
	leader = cluster_elect(cluster);
	longest = longest_lease(cluster, leader);
	ok(longest > 400 && longest <= 450, "a lease of T/2 less a drift of 10 %% (%lu)", longest);
	cluster->latency = 30;
	cluster_run(cluster, T);
	longest = longest_lease(cluster, leader);
	ok(longest > 300 && longest <= 390, "counted from when the round was sent (%lu)", longest);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Before the target is told, too: nothing else says when that will be. */
static void
no_lease_while_the_target_catches_up(void)
{
	Cluster    *cluster = lease_cluster(3, 11);
	raft_id		leader = cluster_elect(cluster);
	raft_id		target = other_than(leader, 0);

	cluster->nodes[target].hold_disk = 1;
	(void) cluster_propose(cluster, leader, "x", NULL);
	cluster_run(cluster, 200);
	ok(cluster_status(cluster, leader)->lease_until > cluster->now, "a lease");
	raft_tick(cluster->nodes[leader].raft, cluster->now);
	is_u64(raft_transfer(cluster->nodes[leader].raft, target), RAFT_OK, "a transfer begins");
	cluster_flush(cluster, leader);
	cluster_run(cluster, 100);
	is_u64(cluster->sent[RAFT_MSG_TIMEOUT_NOW], 0, "its target is not ready");
	is_u64(cluster_status(cluster, leader)->lease_until, 0, "there is no lease any more");
	cluster_run(cluster, T + 100);
	is_u64(cluster_status(cluster, leader)->transfer_target, 0, "given up");
	ok(cluster_status(cluster, leader)->lease_until > cluster->now, "there is one again");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
reads_see_what_is_not_applied_yet(void)
{
	Cluster    *cluster = cluster_begin(3, 12);
	raft_id		leader = cluster_elect(cluster);
	raft_index	index;

	cluster->nodes[leader].hold_apply = 1;
	(void) cluster_propose(cluster, leader, "first", &index);
	(void) cluster_propose(cluster, leader, "second", &index);
	cluster_run(cluster, 50);
	ok(cluster_status(cluster, leader)->applied_index < index, "the leader applies slowly");
	is_u64(cluster_read(cluster, leader, 1), RAFT_OK, "a read");
	cluster_run(cluster, 10);
	ok(cluster_find_read(cluster, leader, 1)->done, "is answered");
	is_u64(cluster_find_read(cluster, leader, 1)->index, index, "with what is committed");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Only so many rounds are remembered; a number that comes round is another one. */
static void
forgotten_rounds_give_no_lease(void)
{
	Cluster    *cluster = lease_cluster(3, 13);
	raft_id		leader = cluster_elect(cluster);
	raft_u64	token;
	int			leases = 0;

	cluster_isolate(cluster, leader);
	cluster_run(cluster, T / 2);
	for (token = 1; token <= 400; token++)
	{
		(void) cluster_read(cluster, leader, token);
		cluster_run(cluster, 1);
		if (cluster_status(cluster, leader)->lease_until > cluster->now)
			leases++;
	}
	is_u64(cluster_status(cluster, leader)->state, RAFT_LEADER, "400 rounds that nobody answers");
	is_u64(leases, 0, "give no lease");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

int
main(void)
{
	not_before_own_term_is_committed();
	reads_share_a_round();
	single_member_answers_itself();
	pending_reads_are_bounded();
	deposed_leader_answers_nothing();
	sleeping_leader(cluster_begin(3, 20), "ReadIndex");
	sleeping_leader(lease_cluster(3, 21), "lease");
	older_rounds_confirm_nothing();
	leases();
	restarted_voter_keeps_the_lease();
	late_transfer_breaks_no_lease();
	storms(0);
	storms(1);
	lease_begins_with_the_question();
	no_lease_while_the_target_catches_up();
	reads_see_what_is_not_applied_yet();
	forgotten_rounds_give_no_lease();
	return tap_done();
}
