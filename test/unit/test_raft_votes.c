/*-------------------------------------------------------------------------
 *
 * test_raft_votes.c
 *	  One member and its voters, message by message: which question it grants,
 *	  and which answer counts.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout */

static struct raft_message answer;

/* Nothing gets through but what a test injects; answers are looked at. */
static Verdict
catch_answers(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	if (message->type == RAFT_MSG_PREVOTE_REPLY || message->type == RAFT_MSG_VOTE_REPLY)
		answer = *message;
	return DROP;
}

static void
tell(Cluster *cluster, struct raft_message *message)
{
	message->from_incarnation = message->to_incarnation = 1;
	memset(&answer, 0, sizeof(answer));
	cluster_inject(cluster, message);
	cluster_run(cluster, 2);
}

/* ----------------------------------------------------------------
 * Questions
 * ----------------------------------------------------------------
 */

/* 1 is granted, 0 is refused, -1 is not answered. */
static int
ask(Cluster *cluster, int type, raft_id id, raft_term term, raft_term log_term, raft_index index)
{
	struct raft_message message;

	memset(&message, 0, sizeof(message));
	message.type = type;
	message.from = other_than(id, 0);
	message.to = id;
	message.term = term;
	message.log_term = log_term;
	message.index = index;
	tell(cluster, &message);
	if (answer.type == 0)
		return -1;
	return !answer.reject;
}

/* A member of three that has not heard of a leader for long, and does not ask. */
static raft_id
lonely_voter(Cluster *cluster)
{
	raft_id		leader = cluster_elect(cluster);
	raft_id		voter = other_than(leader, 0);

	(void) cluster_propose(cluster, leader, "x", NULL);
	cluster_run(cluster, 50);
	cluster_crash(cluster, voter);
	cluster->filter = catch_answers;
	(void) cluster_restart(cluster, voter);
	return voter;
}

static void
questions(void)
{
	Cluster    *cluster = cluster_begin(3, 1);
	raft_id		voter = lonely_voter(cluster);
	raft_term	term = cluster_status(cluster, voter)->term;
	raft_index	last = cluster_status(cluster, voter)->last_index;
	raft_term	last_term = 0;

	(void) raft_term_at(cluster->nodes[voter].raft, last, &last_term);
	is_u64(ask(cluster, RAFT_MSG_PREVOTE, voter, term + 1, last_term, last), 1,
		   "it would vote for an equal log");
	is_u64(answer.term, term + 1, "in the term that was asked for");
	is_u64(ask(cluster, RAFT_MSG_PREVOTE, voter, term + 1, last_term, last - 1), 0,
		   "not for a shorter one");
	is_u64(ask(cluster, RAFT_MSG_PREVOTE, voter, term + 1, last_term - 1, last + 10), 0,
		   "nor for a longer one of an older term");
	is_u64(ask(cluster, RAFT_MSG_PREVOTE, voter, term + 1, last_term + 1, 1), 1,
		   "but for a short one of a later term");
	is_u64(ask(cluster, RAFT_MSG_PREVOTE, voter, term, last_term, last), 0,
		   "nor in the term that it is in");
	is_u64(cluster_status(cluster, voter)->term, term, "none of these changes its term");
	is_u64(ask(cluster, RAFT_MSG_VOTE, voter, term + 1, last_term, last - 1), 0,
		   "no vote for a shorter log");
	is_u64(cluster_status(cluster, voter)->term, term + 1, "but the term is in force");
	is_u64(cluster_status(cluster, voter)->vote, 0, "and the vote is still free");
	is_u64(ask(cluster, RAFT_MSG_VOTE, voter, term + 1, last_term, last), 1, "for an equal log");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* ----------------------------------------------------------------
 * Answers
 * ----------------------------------------------------------------
 */

/* Member 1 of five that has just begun to ask whether it would be elected. */
static Cluster *
asking(raft_u64 seed)
{
	Cluster    *cluster = cluster_begin(5, seed);
	int			i;

	cluster->filter = catch_answers;
	for (i = 0; i < 3 * T && cluster_status(cluster, 1)->prevotes_started == 0; i++)
		cluster_run(cluster, 1);
	is_u64(cluster_status(cluster, 1)->state, RAFT_PRECANDIDATE, "member 1 asks");
	return cluster;
}

static int
answered(Cluster *cluster, int type, raft_id from, raft_term term, int reject)
{
	struct raft_message message;

	memset(&message, 0, sizeof(message));
	message.type = type;
	message.from = from;
	message.to = 1;
	message.term = term;
	message.reject = reject;
	tell(cluster, &message);
	return cluster_status(cluster, 1)->state;
}

static void
answers_to_another_question(void)
{
	Cluster    *cluster = asking(2);
	raft_term	term = cluster_status(cluster, 1)->term;
	raft_id		id;

	for (id = 2; id <= 5; id++)
		(void) answered(cluster, RAFT_MSG_PREVOTE_REPLY, id, term, 0);
	is_u64(cluster_status(cluster, 1)->state, RAFT_PRECANDIDATE,
		   "grants for an earlier term do not count");
	for (id = 2; id <= 5; id++)
		(void) answered(cluster, RAFT_MSG_VOTE_REPLY, id, term, 0);
	is_u64(cluster_status(cluster, 1)->state, RAFT_PRECANDIDATE, "nor do votes of an election before");
	(void) answered(cluster, RAFT_MSG_PREVOTE_REPLY, 2, term + 1, 0);
	is_u64(answered(cluster, RAFT_MSG_PREVOTE_REPLY, 2, term + 1, 0), RAFT_PRECANDIDATE,
		   "one voter counts once");
	is_u64(answered(cluster, RAFT_MSG_PREVOTE_REPLY, 3, term + 1, 0), RAFT_CANDIDATE,
		   "a majority of five counts");
	is_u64(cluster_status(cluster, 1)->term, term + 1, "and makes a candidate of the next term");

	/* late grants must not become votes */
	for (id = 2; id <= 5; id++)
		(void) answered(cluster, RAFT_MSG_PREVOTE_REPLY, id, term + 2, 0);
	is_u64(cluster_status(cluster, 1)->state, RAFT_CANDIDATE, "a grant is no vote");
	(void) answered(cluster, RAFT_MSG_VOTE_REPLY, 2, term + 1, 0);
	is_u64(answered(cluster, RAFT_MSG_VOTE_REPLY, 2, term + 1, 0), RAFT_CANDIDATE,
		   "a vote counts once");
	is_u64(answered(cluster, RAFT_MSG_VOTE_REPLY, 3, term + 1, 0), RAFT_LEADER, "three elect");
	cluster_destroy(cluster);
}

/* The first answer stands: the network may bring another one later. */
static void
answers_that_contradict(void)
{
	Cluster    *cluster = asking(3);
	raft_term	term = cluster_status(cluster, 1)->term;

	(void) answered(cluster, RAFT_MSG_PREVOTE_REPLY, 2, term + 1, 0);
	(void) answered(cluster, RAFT_MSG_PREVOTE_REPLY, 2, term, 1);
	is_u64(answered(cluster, RAFT_MSG_PREVOTE_REPLY, 3, term + 1, 0), RAFT_CANDIDATE,
		   "a grant is not taken back");
	(void) answered(cluster, RAFT_MSG_VOTE_REPLY, 2, term + 1, 0);
	(void) answered(cluster, RAFT_MSG_VOTE_REPLY, 2, term + 1, 1);
	is_u64(answered(cluster, RAFT_MSG_VOTE_REPLY, 3, term + 1, 0), RAFT_LEADER, "nor is a vote");
	cluster_destroy(cluster);
}

/* A majority of refusals ends the attempt, not the intention. */
static void
refused(void)
{
	Cluster    *cluster = asking(4);
	raft_term	term = cluster_status(cluster, 1)->term;
	raft_u64	asked = cluster_status(cluster, 1)->prevotes_started;

	(void) answered(cluster, RAFT_MSG_PREVOTE_REPLY, 2, term, 1);
	is_u64(answered(cluster, RAFT_MSG_PREVOTE_REPLY, 3, term, 1), RAFT_PRECANDIDATE,
		   "two refusals of five decide nothing");
	is_u64(answered(cluster, RAFT_MSG_PREVOTE_REPLY, 4, term, 1), RAFT_FOLLOWER,
		   "three end the attempt");
	cluster_run(cluster, T / 2 + 5);
	is_u64(cluster_status(cluster, 1)->prevotes_started, asked + 1, "there is another within T/2");
	is_u64(answered(cluster, RAFT_MSG_PREVOTE_REPLY, 5, term + 3, 1), RAFT_FOLLOWER,
		   "a refusal of a higher term ends it at once");
	is_u64(cluster_status(cluster, 1)->term, term + 3, "and brings the term");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* ----------------------------------------------------------------
 * When to ask, and when to let others ask
 * ----------------------------------------------------------------
 */

static raft_time
due_in(Cluster *cluster, raft_id id)
{
	raft_time	deadline = raft_next_deadline(cluster->nodes[id].raft);

	return deadline > cluster->now ? deadline - cluster->now : 0;
}

/* Of two that ask at once the better one refuses, but only for a while. */
static void
better_one_yields_in_the_end(void)
{
	Cluster    *cluster = asking(5);
	raft_term	term = cluster_status(cluster, 1)->term;

	is_u64(ask(cluster, RAFT_MSG_PREVOTE, 1, term + 1, 1, 1), 0, "the better one refuses");
	cluster_run(cluster, T / 10);
	is_u64(ask(cluster, RAFT_MSG_PREVOTE, 1, term + 1, 1, 1), 1, "but not when it gets nowhere");
	cluster_destroy(cluster);
}

static void
granting_puts_off_the_own_attempt(void)
{
	Cluster    *cluster = cluster_begin(3, 6);
	raft_id		voter = lonely_voter(cluster);
	struct raft_status *status = cluster_status(cluster, voter);

	cluster_run(cluster, due_in(cluster, voter) - 10);
	is_u64(ask(cluster, RAFT_MSG_PREVOTE, voter, status->term + 1, status->term,
			   status->last_index), 1, "it grants, about to ask itself");
	ok(due_in(cluster, voter) >= T / 20 - 2, "and waits for what comes of it (%lu)",
	   due_in(cluster, voter));
	cluster_destroy(cluster);
}

/* A candidate whose vote is durable tries again soon, but less and less so. */
static void
vain_elections(void)
{
	Cluster    *cluster = asking(7);
	raft_time	wait = 0;
	raft_time	first = 0;
	int			n;

	for (n = 1; n <= 6; n++)
	{
		int			i;

		for (i = 0; i < 3 * T && cluster_status(cluster, 1)->state != RAFT_PRECANDIDATE; i++)
			cluster_run(cluster, 1);
		(void) answered(cluster, RAFT_MSG_PREVOTE_REPLY, 2,
						cluster_status(cluster, 1)->term + 1, 0);
		if (answered(cluster, RAFT_MSG_PREVOTE_REPLY, 3,
					 cluster_status(cluster, 1)->term + 1, 0) != RAFT_CANDIDATE)
			ok(0, "a candidate");
		cluster_run(cluster, 3);
		wait = due_in(cluster, 1);
		if (n == 1)
			first = wait;
	}
	ok(first >= T / 20 - 10 && first <= T / 4 + 10, "the first is repeated after %lu ms", first);
	ok(wait >= T && wait <= T + T / 4 + 10, "the sixth after %lu", wait);
	cluster_destroy(cluster);
}

/* ----------------------------------------------------------------
 * Hints
 * ----------------------------------------------------------------
 */

/* The leader was heard again, on whatever connection: the hint was wrong. */
static void
contact_ends_the_hint(void)
{
	Cluster    *cluster = cluster_begin(3, 8);
	raft_id		leader = cluster_elect(cluster);
	raft_id		voter = other_than(leader, 0);
	struct raft *raft = cluster->nodes[voter].raft;
	struct raft_message message;
	struct raft_status *status;

	cluster->filter = catch_answers;
	status = cluster_status(cluster, voter);
	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_HEARTBEAT;
	message.from = leader;
	message.to = voter;
	message.term = status->term;
	raft_tick(raft, cluster->now);
	raft_peer_lost(raft, leader);
	tell(cluster, &message);
	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_PREVOTE;
	message.from = other_than(leader, voter);
	message.to = voter;
	message.term = status->term + 1;
	message.log_term = status->term;
	message.index = status->last_index + 1;
	message.flags = RAFT_FLAG_LEADER_GONE;
	tell(cluster, &message);
	ok(answer.type == RAFT_MSG_PREVOTE_REPLY && answer.reject,
	   "no vote on a hint that the leader has belied");
	raft_tick(raft, cluster->now);
	raft_peer_lost(raft, leader);
	tell(cluster, &message);
	ok(answer.type == RAFT_MSG_PREVOTE_REPLY && !answer.reject, "but on one that stands");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Haste is for the moment after the hint only. */
static void
hint_expires(void)
{
	Cluster    *cluster = cluster_begin(3, 9);
	raft_id		leader = cluster_elect(cluster);
	raft_id		left = other_than(leader, 0);
	raft_u64	before;

	cluster_crash(cluster, other_than(leader, left));
	cluster_crash(cluster, leader);
	cluster_report_lost(cluster, leader);
	cluster_run(cluster, T + 100);
	before = cluster_status(cluster, left)->prevotes_started;
	ok(before > 15, "after a hint one asks often (%lu)", before);
	cluster_run(cluster, 4 * T);
	before = cluster_status(cluster, left)->prevotes_started - before;
	ok(before >= 8 && before <= 17, "later every T/4 to T/2 (%lu in 4 T)", before);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
priority_asks_first_after_a_hint(void)
{
	raft_u64	seed;
	raft_time	longest = 0;

	for (seed = 1; seed <= 10; seed++)
	{
		Cluster    *cluster = cluster_begin(3, seed);
		raft_id		leader = cluster_elect(cluster);
		raft_id		wanted = other_than(leader, 0);
		raft_id		other = other_than(leader, wanted);
		struct raft_change change;

		memset(&change, 0, sizeof(change));
		change.type = RAFT_CHANGE_UPDATE;
		change.member = *raft_config_find(raft_get_config(cluster->nodes[leader].raft), wanted);
		change.member.priority = 100;
		if (cluster_change(cluster, leader, &change, 1, NULL) != RAFT_OK)
			ok(0, "a priority");
		cluster_run(cluster, 50);
		raft_tick(cluster->nodes[wanted].raft, cluster->now);
		raft_tick(cluster->nodes[other].raft, cluster->now);
		raft_peer_lost(cluster->nodes[wanted].raft, leader);
		raft_peer_lost(cluster->nodes[other].raft, leader);
		if (due_in(cluster, wanted) != 0)
			ok(0, "the one with the highest priority asks at once");
		if (due_in(cluster, other) > longest)
			longest = due_in(cluster, other);
		cluster_destroy(cluster);
	}
	ok(longest >= 10 && longest <= T / 50, "the others up to %lu ms later", longest);
}

/* Added while we were away: our configuration is the one that is old. */
static void
newer_members_are_heard(void)
{
	Cluster    *cluster = cluster_begin(3, 10);
	raft_id		voter = lonely_voter(cluster);
	struct raft_status *status = cluster_status(cluster, voter);
	struct raft_message message;

	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_PREVOTE;
	message.from = 5;
	message.from_incarnation = status->last_index + 10;
	message.to = voter;
	message.to_incarnation = 1;
	message.term = status->term + 1;
	message.log_term = status->term;
	message.index = status->last_index + 20;
	is_u64(raft_receive(cluster->nodes[voter].raft, &message), RAFT_OK,
		   "a member unknown so far is heard when it is newer than the configuration");
	message.from_incarnation = 1;
	is_u64(raft_receive(cluster->nodes[voter].raft, &message), RAFT_E_UNKNOWN_MEMBER,
		   "one that the configuration has ended is not");
	cluster_flush(cluster, voter);
	cluster_destroy(cluster);
}

int
main(void)
{
	questions();
	answers_to_another_question();
	answers_that_contradict();
	refused();
	better_one_yields_in_the_end();
	granting_puts_off_the_own_attempt();
	vain_elections();
	contact_ends_the_hint();
	hint_expires();
	priority_asks_first_after_a_hint();
	newer_members_are_heard();
	return tap_done();
}
