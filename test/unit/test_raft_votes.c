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

int
main(void)
{
	questions();
	answers_to_another_question();
	answers_that_contradict();
	refused();
	return tap_done();
}
