/*-------------------------------------------------------------------------
 *
 * test_raft_roles.c
 *	  What a learner needs for its promotion, each condition alone; what a
 *	  witness does not do; a member whose id comes back in a new membership.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout */
#define LEARNER 4

static int
role_of(Cluster *cluster, raft_id at, raft_id id)
{
	const struct raft_member *member =
		raft_config_find(raft_get_config(cluster->nodes[at].raft), id);

	return member == NULL ? RAFT_ROLE_NONE : member->role;
}

static raft_index
match_of(Cluster *cluster, raft_id leader, raft_id id)
{
	struct raft_peer_status status;

	if (raft_peer_status(cluster->nodes[leader].raft, id, &status) != RAFT_OK)
		return 0;
	return status.match_index;
}

/* Three voters and a fourth member that was added and is not there yet. */
static Cluster *
with_learner(raft_u64 seed, int max_message_entries, raft_id *leader, raft_index *incarnation)
{
	Cluster    *cluster = cluster_create(seed);
	struct raft_change change = change_add(LEARNER, RAFT_VOTER);
	int			i;

	if (max_message_entries > 0)
		cluster->params.max_message_entries = (size_t) max_message_entries;
	cluster_start(cluster, 3);
	*leader = cluster_elect(cluster);
	for (i = 0; i < 20; i++)
		(void) cluster_propose(cluster, *leader, "before", NULL);
	is_u64(cluster_change(cluster, *leader, &change, 1, incarnation), RAFT_OK, "add");
	cluster_run(cluster, 100);
	return cluster;
}

/* ----------------------------------------------------------------
 * Promotion
 * ----------------------------------------------------------------
 */

static int	acknowledgements;

/* Of what the learner acknowledges the first message only arrives. */
static Verdict
one_acknowledgement(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	if (message->from != LEARNER || message->type != RAFT_MSG_APPEND_REPLY || message->reject)
		return DELIVER;
	return acknowledgements++ == 0 ? DELIVER : DROP;
}

/* It answers each heartbeat and has acknowledged something, not everything. */
static void
not_while_it_is_behind(void)
{
	raft_id		leader;
	raft_index	incarnation;
	Cluster    *cluster = with_learner(1, 1, &leader, &incarnation);
	struct raft_change change = change_promote(LEARNER, RAFT_VOTER);

	is_u64(cluster_change(cluster, leader, &change, 1, NULL), RAFT_E_NOT_READY,
		   "nobody promotes one that has acknowledged nothing");
	acknowledgements = 0;
	cluster->filter = one_acknowledgement;
	cluster_start_blank(cluster, LEARNER, incarnation);
	cluster_run(cluster, 3 * T);
	ok(match_of(cluster, leader, LEARNER) > 0 &&
	   match_of(cluster, leader, LEARNER) < incarnation, "it has acknowledged a part");
	is_u64(role_of(cluster, leader, LEARNER), RAFT_LEARNER, "one that is behind is not promoted");
	cluster->filter = NULL;
	cluster_run(cluster, T);
	is_u64(role_of(cluster, leader, LEARNER), RAFT_VOTER, "one that has caught up is");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
not_at_the_first_heartbeat(void)
{
	raft_u64	seed;
	raft_time	shortest = 10 * T;
	raft_time	heartbeat = 0;

	for (seed = 1; seed <= 5; seed++)
	{
		raft_id		leader;
		raft_index	incarnation;
		Cluster    *cluster = with_learner(seed, 0, &leader, &incarnation);
		raft_time	caught_up;
		int			i;

		heartbeat = cluster->params.heartbeat_interval_ms;
		cluster_run(cluster, seed * 17);	/* at any moment between two heartbeats */
		cluster_start_blank(cluster, LEARNER, incarnation);
		for (i = 0; i < T && match_of(cluster, leader, LEARNER) < incarnation; i++)
			cluster_run(cluster, 1);
		caught_up = cluster->now;
		for (i = 0; i < T && role_of(cluster, leader, LEARNER) == RAFT_LEARNER; i++)
			cluster_run(cluster, 1);
		if (cluster->now - caught_up < shortest)
			shortest = cluster->now - caught_up;
		is_u64(role_of(cluster, leader, LEARNER), RAFT_VOTER, "it is promoted");
		NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	ok(shortest >= heartbeat, "not before it was seen stable for a heartbeat (%lu)",
	   shortest);
}

static Verdict
no_acknowledgement_of_voters(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	return message->from != LEARNER && message->type == RAFT_MSG_APPEND_REPLY ? DROP : DELIVER;
}

/*
 * It had everything, then it went away while another change was under way: its
 * vote would be needed and could not be had.
 */
static void
not_while_it_is_silent(void)
{
	raft_id		leader;
	raft_index	incarnation;
	raft_index	index;
	Cluster    *cluster = with_learner(3, 0, &leader, &incarnation);
	struct raft_change change = change_add(5, RAFT_LEARNER);

	cluster->filter = no_acknowledgement_of_voters;
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "another change");
	cluster_start_blank(cluster, LEARNER, incarnation);
	cluster_run(cluster, 300);
	is_u64(match_of(cluster, leader, LEARNER), index, "the learner has everything");
	cluster_crash(cluster, LEARNER);
	cluster_run(cluster, T);
	ok(cluster_status(cluster, leader)->commit_index < index, "the change is not committed yet");
	cluster->filter = NULL;
	cluster_run(cluster, T);
	ok(cluster_status(cluster, leader)->commit_index >= index, "then it is");
	is_u64(role_of(cluster, leader, LEARNER), RAFT_LEARNER, "one that is silent is not promoted");
	ok(cluster_restart(cluster, LEARNER) == RAFT_OK, "it is back");
	cluster_run(cluster, T);
	is_u64(role_of(cluster, leader, LEARNER), RAFT_VOTER, "and is promoted");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* ----------------------------------------------------------------
 * Witness
 * ----------------------------------------------------------------
 */

/* Members 1, 2 and 4 are full members, 3 is a witness. */
static Cluster *
with_witness(raft_u64 seed)
{
	Cluster    *cluster = cluster_begin(2, seed);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_add(3, RAFT_WITNESS);
	raft_index	index;

	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add a witness");
	cluster_start_blank(cluster, 3, index);
	cluster_run(cluster, T);
	change = change_add(4, RAFT_VOTER);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add a full member");
	cluster_start_blank(cluster, 4, index);
	cluster_run(cluster, T);
	is_u64(role_of(cluster, leader, 3), RAFT_WITNESS, "there is a witness");
	is_u64(role_of(cluster, leader, 4), RAFT_VOTER, "and a third full member");
	return cluster;
}

/* It draws the latest time: whoever can lead asks before it does. */
static void
witness_asks_last(void)
{
	Cluster    *cluster = with_witness(4);
	int			i;

	for (i = 0; i < 15; i++)
	{
		raft_id		leader = cluster_wait_leader(cluster, 5 * T);

		if (leader == 0)
			break;
		cluster_crash(cluster, leader);
		if (cluster_wait_leader(cluster, 5 * T) == 0)
			break;
		(void) cluster_restart(cluster, leader);
		cluster_run(cluster, 300);
	}
	is_u64(i, 15, "15 leaders went, and there was another each time");
	is_u64(cluster_status(cluster, 3)->prevotes_started, 0, "the witness never asked");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static Verdict
nothing_to_full_members(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	return message->type == RAFT_MSG_APPEND && message->to != 3 ? DROP : DELIVER;
}

static void
no_transfer_to_a_witness(void)
{
	Cluster    *cluster = with_witness(5);
	raft_id		leader = cluster_leader(cluster);
	struct raft *raft = cluster->nodes[leader].raft;
	raft_id		target;

	is_u64(raft_transfer(raft, 3), RAFT_E_INVALID, "a witness cannot be the target");
	cluster->filter = nothing_to_full_members;
	(void) cluster_propose(cluster, leader, "the witness alone has it", NULL);
	cluster_run(cluster, 20);
	ok(match_of(cluster, leader, 3) > match_of(cluster, leader, other_than(leader, 3)),
	   "the witness has most");
	is_u64(raft_transfer(raft, 0), RAFT_OK, "transfer to the best");
	target = cluster_status(cluster, leader)->transfer_target;
	ok(target != 0 && target != 3, "which is a full member all the same (%u)", target);
	cluster->filter = NULL;
	cluster_flush(cluster, leader);
	cluster_run(cluster, 500);
	is_u64(cluster_leader(cluster), target, "it leads");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static struct raft_message answer;

/* Nothing gets through but what the test injects; answers are looked at. */
static Verdict
catch_answers(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	if (message->type == RAFT_MSG_PREVOTE_REPLY)
		answer = *message;
	return DROP;
}

/* from asks id, which has just begun to ask itself, with a log that is equal. */
static int
asks_while_asking(Cluster *cluster, raft_id id, raft_id from, unsigned flags)
{
	struct raft_message message;
	struct raft_status *status;
	raft_term	last_term;
	unsigned long before = cluster_status(cluster, id)->prevotes_started;
	int			i;

	cluster->filter = catch_answers;
	for (i = 0; i < 3 * T && cluster_status(cluster, id)->prevotes_started == before; i++)
		cluster_run(cluster, 1);
	status = cluster_status(cluster, id);
	is_u64(status->state, RAFT_PRECANDIDATE, "it asks");
	(void) raft_term_at(cluster->nodes[id].raft, status->last_index, &last_term);
	memset(&message, 0, sizeof(message));
	memset(&answer, 0, sizeof(answer));
	message.type = RAFT_MSG_PREVOTE;
	message.from = from;
	message.from_incarnation = cluster->nodes[from].incarnation;
	message.to = id;
	message.to_incarnation = cluster->nodes[id].incarnation;
	message.term = status->term + 1;
	message.index = status->last_index;
	message.log_term = last_term;
	message.flags = flags;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 5);
	is_u64(answer.to, from, "and answers");
	return answer.type == RAFT_MSG_PREVOTE_REPLY && !answer.reject;
}

/* Of two that ask at once with equal logs the full member goes first. */
static void
witness_gives_way(void)
{
	Cluster    *cluster = with_witness(6);

	if (cluster_leader(cluster) == 3)
		ok(0, "a full member leads");
	ok(asks_while_asking(cluster, 3, 4, 0), "a witness gives way to a full member");
	cluster_destroy(cluster);

	cluster = with_witness(7);
	if (cluster_leader(cluster) == 4)
	{
		(void) raft_transfer(cluster->nodes[4].raft, 1);
		cluster_flush(cluster, 4);
		cluster_run(cluster, 500);
	}
	ok(!asks_while_asking(cluster, 4, 3, RAFT_FLAG_WITNESS),
	   "a full member does not give way to a witness, whatever their ids");
	cluster_destroy(cluster);
}

/* ----------------------------------------------------------------
 * An id that comes back
 * ----------------------------------------------------------------
 */

/*
 * A member that was away comes back by a snapshot: in the configuration that it
 * had, and in the one it gets, the same id names two memberships.  When it
 * leads, all that it sends has to be addressed to the new one.
 */
static void
new_membership_by_snapshot(void)
{
	Cluster    *cluster = cluster_begin(4, 8);
	raft_id		leader = cluster_elect(cluster);
	raft_id		away = other_than(leader, 0);
	raft_id		again = other_than(leader, away);
	struct raft_change change = change_remove(again);
	raft_index	index;
	int			i;

	cluster_isolate(cluster, away);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "remove");
	cluster_run(cluster, 200);
	change = change_add(again, RAFT_VOTER);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add again");
	cluster_start_blank(cluster, again, index);
	cluster_run(cluster, T);
	is_u64(role_of(cluster, leader, again), RAFT_VOTER, "it votes again");
	for (i = 0; i < 20; i++)
		(void) cluster_propose(cluster, leader, "x", NULL);
	cluster_run(cluster, 100);
	is_u64(cluster_snapshot(cluster, leader, 0), RAFT_OK, "a snapshot takes the log's place");
	cluster_heal(cluster);
	cluster_run(cluster, T);
	is_u64(cluster->nodes[away].installs, 1, "the other missed all this and gets the snapshot");
	leader = cluster_leader(cluster);
	if (leader != away)
	{
		is_u64(raft_transfer(cluster->nodes[leader].raft, away), RAFT_OK, "it shall lead");
		cluster_flush(cluster, leader);
		cluster_run(cluster, 500);
	}
	is_u64(cluster_leader(cluster), away, "it leads");
	is_u64(raft_transfer(cluster->nodes[away].raft, again), RAFT_OK,
		   "and hands over to the member that came back");
	cluster_flush(cluster, away);
	cluster_run(cluster, 500);
	is_u64(cluster_leader(cluster), again, "which hears it");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* It may not ask for an election, but it need not believe in a leader for ever. */
static void
cut_off_learner_knows_no_leader(void)
{
	Cluster    *cluster = cluster_begin(3, 9);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_add(LEARNER, RAFT_LEARNER);
	raft_index	index;

	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add a learner");
	cluster_start_blank(cluster, LEARNER, index);
	cluster_run(cluster, 500);
	is_u64(cluster_status(cluster, LEARNER)->leader, leader, "it follows the leader");
	cluster_isolate(cluster, LEARNER);
	cluster_run(cluster, 3 * T);
	is_u64(cluster_status(cluster, LEARNER)->leader, 0, "after a silence it knows of none");
	is_u64(cluster_status(cluster, LEARNER)->prevotes_started, 0, "and asks nobody");
	cluster_heal(cluster);
	cluster_run(cluster, T);
	is_u64(cluster_status(cluster, LEARNER)->leader, leader, "until it hears one again");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

int
main(void)
{
	not_while_it_is_behind();
	not_at_the_first_heartbeat();
	not_while_it_is_silent();
	witness_asks_last();
	no_transfer_to_a_witness();
	witness_gives_way();
	new_membership_by_snapshot();
	cut_off_learner_knows_no_leader();
	return tap_done();
}
