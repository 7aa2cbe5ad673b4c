/*-------------------------------------------------------------------------
 *
 * test_raft_membership.c
 *	  Changes of the configuration (diss. chapter 4).
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
role_of(Cluster *cluster, raft_id at, raft_id id)
{
	const struct raft_member *member =
		raft_config_find(raft_get_config(cluster->nodes[at].raft), id);

	return member == NULL ? RAFT_ROLE_NONE : member->role;
}

static raft_id added_id;

static int
is_voter(Cluster *cluster, void *argument)
{
	raft_id		leader = cluster_leader(cluster);

	(void) argument;
	return leader != 0 && role_of(cluster, leader, added_id) == RAFT_VOTER &&
		raft_config_committed(cluster->nodes[leader].raft);
}

/* Adds a blank member and waits until it votes. */
static int
add_voter(Cluster *cluster, raft_id leader, raft_id id)
{
	struct raft_change change = change_add(id, RAFT_VOTER);
	raft_index	index;

	if (cluster_change(cluster, leader, &change, 1, &index) != RAFT_OK)
		return 0;
	cluster_start_blank(cluster, id, index);
	added_id = id;
	return cluster_run_until(cluster, is_voter, NULL, 5 * T);
}

/* diss. 4.2.1 */
static void
added_member_learns_then_votes(void)
{
	Cluster    *cluster = cluster_begin(1, 1);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_add(2, RAFT_VOTER);
	raft_index	index;
	raft_index	last;
	int			i;

	for (i = 0; i < 50; i++)
		(void) cluster_propose(cluster, leader, "before", NULL);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add");
	is_u64(role_of(cluster, 1, 2), RAFT_LEARNER, "it enters as a learner");
	cluster_run(cluster, 50);
	is_u64(cluster_status(cluster, 1)->commit_index, index,
		   "a learner that is not even there holds nothing up");
	cluster_run(cluster, 3 * T);
	is_u64(role_of(cluster, 1, 2), RAFT_LEARNER, "it stays one while it is not there");
	is_u64(cluster_leader(cluster), 1, "the leader needs it not");
	cluster_start_blank(cluster, 2, index);
	added_id = 2;
	ok(cluster_run_until(cluster, is_voter, NULL, 2 * T), "it is promoted when it has caught up");
	(void) cluster_propose(cluster, leader, "after", &last);
	ok(cluster_wait_applied(cluster, last, 100), "a blank member received the whole log");
	is_u64(raft_config_find(raft_get_config(cluster->nodes[2].raft), 2)->incarnation, index,
		   "its incarnation is the index of its entry");
	cluster_crash(cluster, 2);
	(void) cluster_propose(cluster, leader, "alone", &last);
	cluster_run(cluster, 200);
	ok(cluster_status(cluster, 1)->commit_index < last, "now its vote is needed");
	ok(cluster_restart(cluster, 2) == RAFT_OK, "it is back");
	cluster_run(cluster, 3 * T);
	ok(cluster->max_commit >= last, "and gives it");
	ok(add_voter(cluster, cluster_leader(cluster), 3), "a third one");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
learner_stays_learner(void)
{
	Cluster    *cluster = cluster_begin(3, 2);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_add(4, RAFT_LEARNER);
	raft_index	index;
	raft_id		id;

	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add a learner");
	cluster_start_blank(cluster, 4, index);
	cluster_run(cluster, 3 * T);
	is_u64(role_of(cluster, leader, 4), RAFT_LEARNER, "it stays one");
	ok(cluster->nodes[4].applied >= index, "with the log");
	for (id = 1; id <= 3; id++)
		if (id != leader)
			cluster_crash(cluster, id);
	(void) cluster_propose(cluster, leader, "x", &index);
	cluster_run(cluster, 500);
	ok(cluster->nodes[4].disk.last >= index, "it has the entry");
	ok(cluster_status(cluster, leader)->commit_index < index, "and does not count");
	cluster_run(cluster, 5 * T);
	is_u64(cluster_leader(cluster), 0, "nor does it elect");
	is_u64(cluster_status(cluster, 4)->prevotes_started, 0, "or ask");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
refusals(void)
{
	Cluster    *cluster = cluster_begin(3, 3);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_add(4, RAFT_VOTER);
	struct raft_change many[3];
	raft_id		id;

	is_u64(cluster_change(cluster, other_than(leader, 0), &change, 1, NULL),
		   RAFT_E_NOT_LEADER, "followers refuse");
	change = change_add(leader, RAFT_VOTER);
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_E_MEMBER_EXISTS, "exists");
	change = change_remove(7);
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_E_UNKNOWN_MEMBER, "unknown");
	change = change_add(4, 9);
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_E_INVALID, "no such role");
	change = change_promote(leader, RAFT_VOTER);
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_E_INVALID, "votes already");
	for (id = 1; id <= 3; id++)
		many[id - 1] = change_remove(id);
	is_u64(cluster_change(cluster, leader, many, 3, NULL), RAFT_E_LAST_VOTER, "nobody left");
	cluster_isolate(cluster, leader);
	change = change_add(4, RAFT_VOTER);
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_OK, "one change");
	change = change_add(5, RAFT_VOTER);
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_E_CHANGE_PENDING,
		   "no other while it is not committed");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static Verdict
no_appends(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	return message->type == RAFT_MSG_APPEND && message->n_entries > 0 ? DROP : DELIVER;
}

/* The bug of 2015: a change before an own-term entry is committed. */
static void
no_change_before_own_term(void)
{
	Cluster    *cluster = cluster_begin(3, 4);
	raft_id		leader;
	struct raft_change change = change_add(4, RAFT_VOTER);

	cluster->filter = no_appends;
	leader = cluster_wait_leader(cluster, 10 * T);
	cluster_run(cluster, 200);
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_E_NOT_READY,
		   "no change before an entry of the own term is committed");
	cluster->filter = NULL;
	cluster_run(cluster, 300);
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_OK, "then it is allowed");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
truncation_reverts(void)
{
	Cluster    *cluster = cluster_begin(3, 5);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_add(4, RAFT_VOTER);
	raft_id		next;
	raft_index	index;

	cluster_isolate(cluster, leader);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "a change that is lost");
	is_u64(role_of(cluster, leader, 4), RAFT_LEARNER, "in force where it was appended");
	cluster_run(cluster, 3 * T);
	next = cluster_leader(cluster);
	(void) cluster_propose(cluster, next, "other", NULL);
	cluster_heal(cluster);
	cluster_run(cluster, T);
	is_u64(role_of(cluster, leader, 4), RAFT_ROLE_NONE, "no more when it is truncated");
	is_u64(raft_get_config(cluster->nodes[leader].raft)->index, 1, "the one before is back");

	/* lost with the disk: a crash before it was durable */
	cluster->nodes[next].hold_disk = 1;
	cluster_isolate(cluster, next);
	is_u64(cluster_change(cluster, next, &change, 1, &index), RAFT_OK, "another one");
	cluster_crash(cluster, next);
	cluster->nodes[next].hold_disk = 0;
	ok(cluster_restart(cluster, next) == RAFT_OK, "restart");
	is_u64(role_of(cluster, next, 4), RAFT_ROLE_NONE, "lost before it was durable");
	cluster_heal(cluster);
	cluster_run(cluster, 2 * T);

	/* and one that was durable comes back from the log */
	next = cluster_leader(cluster);
	cluster_isolate(cluster, next);
	is_u64(cluster_change(cluster, next, &change, 1, &index), RAFT_OK, "a third one");
	cluster_run(cluster, 50);
	cluster_crash(cluster, next);
	ok(cluster_restart(cluster, next) == RAFT_OK, "restart");
	is_u64(role_of(cluster, next, 4), RAFT_LEARNER, "restored from the log, uncommitted");
	cluster_run(cluster, 3 * T);
	(void) cluster_propose(cluster, cluster_leader(cluster), "other", NULL);
	cluster_heal(cluster);
	cluster_run(cluster, 2 * T);
	is_u64(role_of(cluster, next, 4), RAFT_ROLE_NONE, "reverted after a restart, too");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* diss. 4.2.3 */
static void
removed_follower_is_told(void)
{
	Cluster    *cluster = cluster_begin(3, 6);
	raft_id		leader = cluster_elect(cluster);
	raft_id		gone = other_than(leader, 0);
	struct raft_change change = change_remove(gone);
	raft_term	term = cluster_status(cluster, leader)->term;
	raft_index	index;

	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "remove");
	cluster_run(cluster, 5 * T);
	is_u64(cluster_status(cluster, leader)->term, term, "it disrupts nothing");
	ok(cluster_status(cluster, gone)->removed, "it is told");
	ok((cluster->nodes[gone].notices & RAFT_NOTICE_REMOVED) != 0, "and tells its host");

	/* one that was away and never heard of it */
	cluster_crash(cluster, gone);
	ok(cluster_restart(cluster, gone) == RAFT_OK, "restart");
	cluster_run(cluster, 5 * T);
	is_u64(cluster_status(cluster, leader)->term, term, "it disrupts nothing again");
	ok(cluster_status(cluster, gone)->removed, "and is told again");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* diss. 4.2.2 */
static void
removed_leader_steps_down(void)
{
	Cluster    *cluster = cluster_begin(3, 7);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_remove(leader);
	raft_index	index;
	raft_id		next;

	ok(cluster_read(cluster, leader, 1) == RAFT_OK, "a read is asked");
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "remove the leader");
	is_u64(cluster_status(cluster, leader)->state, RAFT_LEADER, "it leads until that is committed");
	cluster_run(cluster, 50);
	ok(cluster_status(cluster, leader)->commit_index >= index, "it is committed");
	is_u64(cluster_status(cluster, leader)->state, RAFT_FOLLOWER, "then it steps down");
	ok(cluster_status(cluster, leader)->removed, "and is out");
	cluster_run(cluster, 3 * T);
	next = cluster_leader(cluster);
	ok(next != 0 && next != leader, "another leads");
	(void) cluster_propose(cluster, next, "two", &index);
	cluster_run(cluster, 100);
	ok(cluster_status(cluster, next)->commit_index >= index, "two of two commit");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/*
 * diss. fig. 4.6: the entry that removes the leader is in its own log only, and
 * nobody can be elected without it.
 */
static void
removed_leader_must_lead_once_more(void)
{
	Cluster    *cluster = cluster_begin(2, 8);
	raft_id		leader = cluster_elect(cluster);
	raft_id		other = other_than(leader, 0);
	struct raft_change change = change_remove(leader);
	raft_index	index;

	cluster_isolate(cluster, leader);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "remove the leader");
	cluster_run(cluster, 50);
	cluster_crash(cluster, leader);
	ok(cluster_restart(cluster, leader) == RAFT_OK, "it crashed before it told anybody");
	cluster_heal(cluster);
	cluster_run(cluster, 10 * T);
	is_u64(cluster_leader(cluster), other, "the other leads in the end");
	is_u64(role_of(cluster, other, leader), RAFT_ROLE_NONE, "without the first");
	ok(raft_config_committed(cluster->nodes[other].raft), "for good");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* The same for one that is to stay as a learner. */
static void
demoted_leader_must_lead_once_more(void)
{
	Cluster    *cluster = cluster_begin(2, 9);
	raft_id		leader = cluster_elect(cluster);
	raft_id		other = other_than(leader, 0);
	struct raft_change change = change_remove(leader);
	raft_index	index;

	change.type = RAFT_CHANGE_DEMOTE;
	cluster_isolate(cluster, leader);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "demote the leader");
	cluster_run(cluster, 50);
	cluster_crash(cluster, leader);
	ok(cluster_restart(cluster, leader) == RAFT_OK, "it crashed before it told anybody");
	cluster_heal(cluster);
	cluster_run(cluster, 10 * T);
	is_u64(cluster_leader(cluster), other, "the other leads in the end");
	is_u64(role_of(cluster, other, leader), RAFT_LEARNER, "the first is its learner");
	ok(raft_config_committed(cluster->nodes[other].raft), "for good");
	ok(!cluster_status(cluster, leader)->removed, "and does not take itself for removed");
	is_u64(cluster_propose(cluster, other, "after", &index), RAFT_OK, "writes go on");
	ok(cluster_wait_applied(cluster, index, T), "and the learner gets them");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Reads that fail with the removal do not overwrite those that succeed. */
static void
reads_of_a_leaving_leader(void)
{
	raft_u64	seed;

	for (seed = 1; seed <= 5; seed++)
	{
		Cluster    *cluster = cluster_begin(3, 100 + seed);
		raft_id		leader = cluster_elect(cluster);
		struct raft_change change = change_remove(leader);
		raft_u64	token;
		int			answered = 0;

		cluster->jitter = seed;
		for (token = 1; token <= 20; token++)
		{
			if (token == 10)
				(void) cluster_change(cluster, leader, &change, 1, NULL);
			if (token % 3 == 0)
				cluster_run(cluster, 1);
			if (cluster_read(cluster, leader, token) != RAFT_OK)
				break;
		}
		cluster_run(cluster, T);
		while (--token > 0)
			answered += cluster_find_read(cluster, leader, token)->done;
		is_u64(answered, cluster->nodes[leader].n_reads, "each read has one answer");
		NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
}

static Verdict
hold_from(Cluster *cluster, const struct raft_message *message)
{
	return message->from == *(raft_id *) cluster->filter_data ? HOLD : DELIVER;
}

/* Add, remove, add of one id while messages of its first life are under way. */
static void
add_remove_add(void)
{
	Cluster    *cluster = cluster_begin(3, 9);
	raft_id		leader = cluster_elect(cluster);
	raft_id		again = other_than(leader, 0);
	struct raft_change change = change_remove(again);
	raft_index	index;
	raft_index	base;
	struct raft_peer_status status;

	cluster->filter = hold_from;
	cluster->filter_data = &again;
	(void) cluster_propose(cluster, leader, "acknowledged by the first life", &index);
	cluster_run(cluster, 250);
	ok(cluster->held != NULL, "answers of the first life are under way");
	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_OK, "remove");
	cluster_run(cluster, 100);
	change = change_add(again, RAFT_VOTER);
	cluster_crash(cluster, again);
	is_u64(cluster_change(cluster, leader, &change, 1, &base), RAFT_OK, "add again");
	cluster_run(cluster, 50);
	cluster->filter = NULL;
	cluster_release(cluster);
	cluster_run(cluster, 50);
	(void) raft_peer_status(cluster->nodes[leader].raft, again, &status);
	is_u64(status.match_index, 0, "what the first life had acknowledged counts for nothing");
	cluster_start_blank(cluster, again, base);
	added_id = again;
	ok(cluster_run_until(cluster, is_voter, NULL, 3 * T), "the second life gets everything");
	ok(cluster_wait_applied(cluster, index, T), "from the beginning");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* diss. 4.3: several changes at once */
static void
joint_consensus(void)
{
	Cluster    *cluster = cluster_begin(3, 10);
	raft_id		leader = cluster_elect(cluster);
	raft_id		leaving = other_than(leader, 0);
	struct raft_change changes[3];
	struct raft_change add;
	raft_index	index;
	raft_id		id;

	/* two learners that stay learners until they are swapped in */
	for (id = 4; id <= 5; id++)
	{
		add = change_add(id, RAFT_LEARNER);
		is_u64(cluster_change(cluster, leader, &add, 1, &index), RAFT_OK, "add a learner");
		cluster_start_blank(cluster, id, index);
		cluster_run(cluster, 500);
	}
	changes[0] = change_promote(4, RAFT_VOTER);
	changes[1] = change_promote(5, RAFT_VOTER);
	changes[2] = change_remove(leaving);

	/* without any of the new half it must not be left */
	cluster_isolate(cluster, 4);
	cluster_isolate(cluster, 5);
	is_u64(cluster_change(cluster, leader, changes, 3, &index), RAFT_OK, "swap");
	ok(raft_get_config(cluster->nodes[leader].raft)->joint, "a joint configuration is in force");
	cluster_run(cluster, 400);
	ok(cluster_status(cluster, leader)->commit_index < index,
	   "the old half alone commits nothing");
	ok(raft_get_config(cluster->nodes[leader].raft)->joint, "and it stays joint");

	/* crash of the leader in the middle; nobody is elected by one half */
	cluster_crash(cluster, leader);
	cluster_run(cluster, 5 * T);
	is_u64(cluster_leader(cluster), 0, "one half elects nobody");
	cluster_heal(cluster);
	ok(cluster_restart(cluster, leader) == RAFT_OK, "the leader is back");
	ok(cluster_wait_leader(cluster, 10 * T) != 0, "both halves elect one");
	cluster_run(cluster, 3 * T);
	leader = cluster_leader(cluster);
	ok(leader != leaving, "which does not leave");
	ok(!raft_get_config(cluster->nodes[leader].raft)->joint, "the joint configuration is left");
	ok(raft_config_committed(cluster->nodes[leader].raft), "for good");
	is_u64(role_of(cluster, leader, 4), RAFT_VOTER, "4 votes");
	is_u64(role_of(cluster, leader, 5), RAFT_VOTER, "5 votes");
	is_u64(role_of(cluster, leader, leaving), RAFT_ROLE_NONE, "the other is gone");
	cluster_run(cluster, 3 * T);
	ok(cluster_status(cluster, leaving)->removed, "and knows it");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* The other half: the new voters are there, the old ones are not. */
static void
joint_needs_the_old_half(void)
{
	Cluster    *cluster = cluster_begin(3, 11);
	raft_id		leader = cluster_elect(cluster);
	raft_id		a = other_than(leader, 0);
	raft_id		b = other_than(leader, a);
	struct raft_change changes[4];
	struct raft_change add;
	raft_index	index;
	raft_id		id;

	for (id = 4; id <= 5; id++)
	{
		add = change_add(id, RAFT_LEARNER);
		is_u64(cluster_change(cluster, leader, &add, 1, &index), RAFT_OK, "add a learner");
		cluster_start_blank(cluster, id, index);
		cluster_run(cluster, 500);
	}
	changes[0] = change_promote(4, RAFT_VOTER);
	changes[1] = change_promote(5, RAFT_VOTER);
	changes[2] = change_remove(a);
	changes[3] = change_remove(b);
	cluster_isolate(cluster, a);
	cluster_isolate(cluster, b);
	is_u64(cluster_change(cluster, leader, changes, 4, &index), RAFT_OK, "swap two of three");
	cluster_run(cluster, 400);
	ok(cluster_status(cluster, leader)->commit_index < index, "the new half alone commits nothing");
	cluster_run(cluster, 3 * T);
	is_u64(cluster_leader(cluster), 0, "nor does it keep a leader");
	cluster_heal(cluster);
	cluster_run(cluster, 5 * T);
	leader = cluster_leader(cluster);
	ok(leader != 0 && leader != a && leader != b, "both together do");
	ok(!raft_get_config(cluster->nodes[leader].raft)->joint, "and the change is through");
	cluster_crash(cluster, a);
	cluster_crash(cluster, b);
	ok(cluster_propose(cluster, leader, "x", &index) == RAFT_OK, "a proposal");
	ok(cluster_wait_applied(cluster, index, T), "the new three need the old two no more");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Removing the leader by a joint change of two members, crash at the worst moment. */
static void
joint_removes_the_leader(void)
{
	Cluster    *cluster = cluster_begin(2, 12);
	raft_id		leader = cluster_elect(cluster);
	raft_id		other = other_than(leader, 0);
	struct raft_change add = change_add(3, RAFT_LEARNER);
	struct raft_change changes[2];
	raft_index	index;
	raft_id		next;

	is_u64(cluster_change(cluster, leader, &add, 1, &index), RAFT_OK, "add a learner");
	cluster_start_blank(cluster, 3, index);
	cluster_run(cluster, T);
	changes[0] = change_promote(3, RAFT_VOTER);
	changes[1] = change_remove(leader);
	is_u64(cluster_change(cluster, leader, changes, 2, &index), RAFT_OK, "replace the leader");
	while (cluster_status(cluster, leader)->commit_index < index)
		cluster_run(cluster, 1);
	cluster_isolate(cluster, leader);
	cluster_run(cluster, 5);
	cluster_crash(cluster, leader);
	ok(cluster_restart(cluster, leader) == RAFT_OK, "crash while the joint configuration is left");
	cluster_heal(cluster);
	cluster_run(cluster, 10 * T);
	next = cluster_leader(cluster);
	ok(next == other || next == 3, "a remaining member leads");
	ok(next != 0 && !raft_get_config(cluster->nodes[next].raft)->joint, "in the new configuration");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
last_voter_stays(void)
{
	Cluster    *cluster = cluster_begin(1, 13);
	struct raft_change change = change_remove(1);

	(void) cluster_elect(cluster);
	is_u64(cluster_change(cluster, 1, &change, 1, NULL), RAFT_E_LAST_VOTER,
		   "the last voter cannot be removed");
	is_u64(cluster_leader(cluster), 1, "and leads on");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Up to two, down to one: sizes where each vote matters. */
static void
one_two_one(void)
{
	Cluster    *cluster = cluster_begin(1, 14);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change;
	raft_index	index;

	ok(add_voter(cluster, leader, 2), "one becomes two");
	change = change_remove(2);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "remove it again");
	cluster_crash(cluster, 2);
	cluster_run(cluster, 100);
	ok(cluster_status(cluster, leader)->commit_index >= index,
	   "the new configuration decides, not the old");
	(void) cluster_propose(cluster, leader, "alone", &index);
	ok(cluster_wait_applied(cluster, index, 100), "one of one commits");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* A witness votes, and gives the lead away to a full member. */
static void
witness(void)
{
	Cluster    *cluster = cluster_begin(2, 15);
	raft_id		leader = cluster_elect(cluster);
	raft_id		other = other_than(leader, 0);
	struct raft_change change = change_add(3, RAFT_WITNESS);
	raft_index	index;
	raft_id		next;

	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add a witness");
	cluster_start_blank(cluster, 3, index);
	cluster_run(cluster, 2 * T);
	is_u64(role_of(cluster, leader, 3), RAFT_WITNESS, "it is promoted to witness");
	cluster_crash(cluster, leader);
	is_u64(cluster_wait_leader(cluster, 10 * T), other, "its vote elects the full member");

	/* only the witness has the newest entries: it leads until the other has them */
	ok(cluster_restart(cluster, leader) == RAFT_OK, "three again");
	cluster_run(cluster, 2 * T);
	next = cluster_leader(cluster);
	cluster_isolate(cluster, other_than(next, 3));
	(void) cluster_propose(cluster, next, "only here", &index);
	cluster_run(cluster, 50);
	cluster_crash(cluster, next);
	cluster_heal(cluster);
	cluster_run(cluster, 5 * T);
	is_u64(cluster_leader(cluster), other_than(next, 3), "the full member leads in the end");
	ok(cluster->nodes[other_than(next, 3)].applied >= index, "with what only the witness had");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Changes of every kind under faults. */
static void
churn(void)
{
	raft_u64	seed;
	int			recovered = 0;

	for (seed = 1; seed <= 20; seed++)
	{
		Cluster    *cluster = cluster_begin(3, seed);
		int			step;
		raft_id		id;

		cluster->duplicate_percent = 10;
		cluster->loss_percent = 5;
		cluster->jitter = 20;
		for (step = 0; step < 60; step++)
		{
			struct raft_change changes[2];
			raft_id		leader = cluster_leader(cluster);
			raft_index	index;
			size_t		n = 1 + cluster_random(cluster, 2);

			id = 1 + (raft_id) cluster_random(cluster, 6);
			if (leader != 0 && n == 1 && role_of(cluster, leader, id) == RAFT_ROLE_NONE)
			{
				changes[0] = change_add(id, RAFT_VOTER);
				if (cluster_change(cluster, leader, changes, 1, &index) == RAFT_OK)
					cluster_start_blank(cluster, id, index);
			}
			else if (leader != 0 && raft_get_config(cluster->nodes[leader].raft)->n_members > 3)
			{
				changes[0] = change_remove(id);
				changes[1] = change_remove(id % 6 + 1);
				(void) cluster_change(cluster, leader, changes, n, &index);
			}
			if (cluster_random(cluster, 5) == 0)
				cluster_isolate(cluster, id);
			else if (cluster_random(cluster, 3) == 0)
				cluster_heal(cluster);
			if (cluster_random(cluster, 6) == 0 && cluster->nodes[id].raft != NULL)
			{
				cluster_crash(cluster, id);
				(void) cluster_restart(cluster, id);
			}
			if (cluster_leader(cluster) != 0)
				(void) cluster_propose(cluster, cluster_leader(cluster), "churn", NULL);
			cluster_run(cluster, 50 + cluster_random(cluster, 400));
		}
		cluster_heal(cluster);
		cluster->loss_percent = 0;
		cluster_run(cluster, 5 * T);
		id = cluster_leader(cluster);
		if (id != 0 && raft_config_committed(cluster->nodes[id].raft) &&
			!raft_get_config(cluster->nodes[id].raft)->joint)
			recovered++;
		else
			printf("# seed %lu: leader %u\n", seed, id);
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	is_u64(recovered, 20, "20 clusters in churn have a leader and a plain configuration");
}

int
main(void)
{
	added_member_learns_then_votes();
	learner_stays_learner();
	refusals();
	no_change_before_own_term();
	truncation_reverts();
	removed_follower_is_told();
	removed_leader_steps_down();
	removed_leader_must_lead_once_more();
	demoted_leader_must_lead_once_more();
	reads_of_a_leaving_leader();
	add_remove_add();
	joint_consensus();
	joint_needs_the_old_half();
	joint_removes_the_leader();
	last_voter_stays();
	one_two_one();
	witness();
	churn();
	return tap_done();
}
