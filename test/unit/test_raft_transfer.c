/*-------------------------------------------------------------------------
 *
 * test_raft_transfer.c
 *	  Leadership transfer and stepping down (diss. 3.10).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout */

static int
transfer(Cluster *cluster, raft_id leader, raft_id target)
{
	int			error;

	raft_tick(cluster->nodes[leader].raft, cluster->now);
	error = raft_transfer(cluster->nodes[leader].raft, target);
	cluster_flush(cluster, leader);
	return error;
}

static void
to_a_named_target(void)
{
	Cluster    *cluster = cluster_begin(5, 1);
	raft_id		leader = cluster_elect(cluster);
	raft_id		target = 1 + leader % 5;
	raft_time	begin = cluster->now;
	raft_term	term = cluster_status(cluster, leader)->term;
	raft_index	index;

	is_u64(transfer(cluster, leader, target), RAFT_OK, "transfer");
	is_u64(cluster_propose(cluster, leader, "held", &index), RAFT_E_TRANSFERRING,
		   "proposals are held meanwhile, not failed");
	is_u64(transfer(cluster, leader, target), RAFT_OK, "asking again changes nothing");
	is_u64(transfer(cluster, leader, 1 + target % 5), RAFT_E_TRANSFERRING, "one at a time");
	cluster_run(cluster, 50);
	is_u64(cluster_leader(cluster), target, "the target leads");
	ok(cluster->nodes[target].became_leader - begin < 20, "after a few round trips");
	is_u64(cluster_status(cluster, target)->term, term + 1, "in the next term");
	is_u64(cluster_status(cluster, leader)->state, RAFT_FOLLOWER, "the old leader follows");
	is_u64(cluster_status(cluster, leader)->transfer_target, 0, "and has no target any more");
	is_u64(cluster_propose(cluster, target, "now", &index), RAFT_OK, "proposals go on");
	ok(cluster_wait_applied(cluster, index, T), "and commit");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
refusals(void)
{
	Cluster    *cluster = cluster_begin(3, 2);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_add(4, RAFT_LEARNER);
	raft_index	index;

	is_u64(transfer(cluster, other_than(leader, 0), 0), RAFT_E_NOT_LEADER, "followers refuse");
	is_u64(transfer(cluster, leader, leader), RAFT_E_INVALID, "not to itself");
	is_u64(transfer(cluster, leader, 7), RAFT_E_UNKNOWN_MEMBER, "not to a stranger");
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add a learner");
	cluster_start_blank(cluster, 4, index);
	cluster_run(cluster, 500);
	is_u64(transfer(cluster, leader, 4), RAFT_E_INVALID, "not to a learner");
	is_u64(transfer(cluster, leader, 0), RAFT_OK, "to anybody");
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_E_TRANSFERRING,
		   "no change of membership meanwhile");
	cluster_run(cluster, 50);
	ok(cluster_leader(cluster) != leader && cluster_leader(cluster) != 4, "a voter leads");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
to_the_best_target(void)
{
	Cluster    *cluster = cluster_begin(3, 3);
	raft_id		leader = cluster_elect(cluster);
	raft_id		slow = other_than(leader, 0);
	raft_id		best = other_than(leader, slow);
	int			i;

	cluster->nodes[slow].hold_disk = 1;
	for (i = 0; i < 10; i++)
		(void) cluster_propose(cluster, leader, "x", NULL);
	cluster_run(cluster, 100);
	is_u64(transfer(cluster, leader, 0), RAFT_OK, "transfer to the best");
	is_u64(cluster_status(cluster, leader)->transfer_target, best,
		   "which is the most up-to-date member");
	cluster->nodes[slow].hold_disk = 0;
	cluster_run(cluster, 100);
	is_u64(cluster_leader(cluster), best, "it leads");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* The target first gets what it lacks. */
static void
target_catches_up_first(void)
{
	Cluster    *cluster = cluster_begin(3, 4);
	raft_id		leader = cluster_elect(cluster);
	raft_id		target = other_than(leader, 0);
	raft_index	index = 0;
	int			i;

	cluster->nodes[target].hold_disk = 1;
	for (i = 0; i < 50; i++)
		(void) cluster_propose(cluster, leader, "x", &index);
	cluster_run(cluster, 50);
	is_u64(transfer(cluster, leader, target), RAFT_OK, "transfer to one that is behind");
	cluster_run(cluster, 200);
	is_u64(cluster_leader(cluster), leader, "not before it has everything");
	is_u64(cluster->sent[RAFT_MSG_TIMEOUT_NOW], 0, "it was not told to campaign");
	cluster->nodes[target].hold_disk = 0;
	cluster_run(cluster, 100);
	is_u64(cluster_leader(cluster), target, "then it leads");
	ok(cluster_status(cluster, target)->last_index > index, "with the whole log");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
target_is_down(void)
{
	Cluster    *cluster = cluster_begin(3, 5);
	raft_id		leader = cluster_elect(cluster);
	raft_id		target = other_than(leader, 0);
	raft_index	index;

	cluster_crash(cluster, target);
	is_u64(transfer(cluster, leader, target), RAFT_OK, "transfer to one that is down");
	cluster_run(cluster, T - 50);
	is_u64(cluster_propose(cluster, leader, "x", &index), RAFT_E_TRANSFERRING, "tried for T");
	cluster_run(cluster, 100);
	is_u64(cluster_leader(cluster), leader, "then given up");
	is_u64(cluster_propose(cluster, leader, "x", &index), RAFT_OK, "and proposals are taken again");
	cluster_run(cluster, 50);
	ok(cluster_status(cluster, leader)->commit_index >= index, "and committed");

	/* 0 never means one that was not heard from lately */
	cluster_run(cluster, T);
	is_u64(transfer(cluster, leader, 0), RAFT_OK, "transfer to the best");
	cluster_run(cluster, 50);
	is_u64(cluster_leader(cluster), other_than(leader, target), "one that is up");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* TIMEOUT_NOW counts from the leader that is followed only. */
static void
order_of_a_stranger(void)
{
	Cluster    *cluster = cluster_begin(3, 6);
	raft_id		leader = cluster_elect(cluster);
	raft_id		victim = other_than(leader, 0);
	struct raft_message message;
	raft_term	term = cluster_status(cluster, leader)->term;

	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_TIMEOUT_NOW;
	message.from = other_than(leader, victim);
	message.to = victim;
	message.from_incarnation = message.to_incarnation = 1;
	message.term = term;
	cluster_inject(cluster, &message);
	message.from = leader;
	message.term = term - 1;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 200);
	is_u64(cluster_status(cluster, victim)->term, term, "only the leader may order an election");
	is_u64(cluster_leader(cluster), leader, "it leads on");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
step_down(void)
{
	Cluster    *cluster = cluster_begin(3, 7);
	raft_id		leader = cluster_elect(cluster);
	raft_time	begin = cluster->now;
	raft_id		next;

	is_u64(cluster_read(cluster, leader, 1), RAFT_OK, "a read");
	is_u64(raft_step_down(cluster->nodes[leader].raft), RAFT_OK, "step down");
	is_u64(raft_step_down(cluster->nodes[leader].raft), RAFT_E_NOT_LEADER, "only once");
	cluster_flush(cluster, leader);
	is_u64(cluster_find_read(cluster, leader, 1)->error, RAFT_E_NOT_LEADER, "its reads fail");
	next = cluster_wait_leader(cluster, 5 * T);
	ok(next != 0 && next != leader, "another one leads");
	ok(cluster->nodes[next].became_leader - begin <= T + T / 4, "within %lu ms",
	   cluster->nodes[next].became_leader - begin);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Round and round, with traffic and faults. */
static void
carousel(void)
{
	raft_u64	seed;
	int			moved = 0;
	int			intact = 0;

	for (seed = 1; seed <= 10; seed++)
	{
		Cluster    *cluster = cluster_begin(3, seed);
		int			i;

		cluster->jitter = 10;
		cluster->loss_percent = 3;
		cluster->duplicate_percent = 10;
		(void) cluster_elect(cluster);
		for (i = 0; i < 50; i++)
		{
			raft_id		leader = cluster_wait_leader(cluster, 5 * T);

			if (leader == 0)
				break;
			(void) cluster_propose(cluster, leader, "x", NULL);
			(void) transfer(cluster, leader, i % 2 == 0 ? 0 : 1 + leader % 3);
			cluster_run(cluster, 30 + cluster_random(cluster, 150));
			if (cluster_leader(cluster) != leader)
				moved++;
		}
		if (cluster->failures == 0)
			intact++;
		else
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	is_u64(intact, 10, "10 carousels: no rule broken");
	ok(moved > 250, "%d of 500 transfers came through at once", moved);
}

/* Heard from a moment ago, but its connection has just broken. */
static void
not_to_one_without_connection(void)
{
	Cluster    *cluster = cluster_begin(3, 8);
	raft_id		leader = cluster_elect(cluster);
	raft_id		lost = other_than(leader, 0);

	raft_peer_lost(cluster->nodes[leader].raft, lost);
	is_u64(transfer(cluster, leader, 0), RAFT_OK, "transfer to the best");
	is_u64(cluster_status(cluster, leader)->transfer_target, other_than(leader, lost),
		   "which is connected");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
stepping_down_lets_others_go_first(void)
{
	raft_u64	seed;
	int			again = 0;

	for (seed = 1; seed <= 20; seed++)
	{
		Cluster    *cluster = cluster_begin(3, seed);
		raft_id		leader = cluster_elect(cluster);

		raft_tick(cluster->nodes[leader].raft, cluster->now);
		(void) raft_step_down(cluster->nodes[leader].raft);
		cluster_flush(cluster, leader);
		if (cluster_wait_leader(cluster, 5 * T) == leader)
			again++;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	is_u64(again, 0, "20 leaders stepped down, none of them is the next one");
}

static void
priority_among_equals(void)
{
	Cluster    *cluster = cluster_begin(3, 10);
	raft_id		leader = cluster_elect(cluster);
	raft_id		wanted = other_than(leader, other_than(leader, 0));
	struct raft_change change;

	memset(&change, 0, sizeof(change));
	change.type = RAFT_CHANGE_UPDATE;
	change.member = *raft_config_find(raft_get_config(cluster->nodes[leader].raft), wanted);
	change.member.priority = 10;
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_OK, "a priority");
	cluster_run(cluster, 200);
	is_u64(transfer(cluster, leader, 0), RAFT_OK, "transfer to the best");
	is_u64(cluster_status(cluster, leader)->transfer_target, wanted,
		   "of two with the same log the one with the priority");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* A learner cannot be elected, so it must not ask, whoever says so. */
static void
order_to_one_that_may_not(void)
{
	Cluster    *cluster = cluster_begin(3, 11);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_add(4, RAFT_LEARNER);
	struct raft_message message;
	raft_index	index;

	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add a learner");
	cluster_start_blank(cluster, 4, index);
	cluster_run(cluster, 500);
	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_TIMEOUT_NOW;
	message.from = leader;
	message.from_incarnation = 1;
	message.to = 4;
	message.to_incarnation = index;
	message.term = cluster_status(cluster, leader)->term;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 200);
	is_u64(cluster_status(cluster, 4)->elections_started, 0, "a learner does not campaign by order");
	is_u64(cluster_leader(cluster), leader, "the leader leads on");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

int
main(void)
{
	to_a_named_target();
	refusals();
	to_the_best_target();
	target_catches_up_first();
	target_is_down();
	order_of_a_stranger();
	step_down();
	carousel();
	not_to_one_without_connection();
	stepping_down_lets_others_go_first();
	priority_among_equals();
	order_to_one_that_may_not();
	return tap_done();
}
