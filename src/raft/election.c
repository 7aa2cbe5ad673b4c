/*-------------------------------------------------------------------------
 *
 * election.c
 *	  Terms, PreVote, votes (diss. 3.4, 4.2.3, 9.6).
 *
 * A follower that hears nothing for a random time in [T/2, T] first asks
 * whether it would be elected (PreVote); terms grow only when it would.  A
 * member refuses both questions while it hears from a leader (within T/2), so
 * a member that is cut off cannot unseat anybody.  Two exceptions: a vote asked
 * for by the old leader itself (transfer), and the hint: candidate and voter
 * both saw the leader's process go.
 *
 * A VOTE leaves only after the candidate's own vote is durable.  By the order
 * of batches everything in its log is durable then, too; a voter must never
 * compare itself with entries that the candidate could still lose.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "internal.h"

static void ask_for_votes(struct raft *raft, int type, raft_term term, int flags,
						  struct raft_message_queue *queue);
static int	log_is_up_to_date(const struct raft *raft, const struct raft_message *message);
static int	better_than_us(const struct raft *raft, const struct raft_message *message);
static void count_votes(struct raft *raft);
static void become_leader(struct raft *raft);
static raft_time retry_delay(struct raft *raft);
static raft_time split_delay(struct raft *raft);

/*
 * Silence after which this member campaigns: [T/2, T], where a higher priority
 * draws from the earlier part.
 */
void
raft_reset_election_deadline(struct raft *raft)
{
	const struct raft_member *self = raft_self(raft);
	raft_time	half = raft->params.election_timeout_ms / 2;
	raft_time	span = raft->params.election_timeout_ms - half;
	raft_time	draw = raft_random(raft, span);

	if (self != NULL && self->priority > 0)
		draw = draw * (raft_time) (200 - (self->priority > 100 ? 100 : self->priority)) / 200;
	if (self != NULL && self->role == RAFT_WITNESS)
		draw = span - 1;		/* leads only when nobody else does */
	raft->election_deadline = raft->now + half + draw;
}

void
raft_become_follower(struct raft *raft, raft_term term, raft_id leader)
{
	RAFT_ASSERT(raft, term >= raft->term);
	if (raft->state == RAFT_LEADER)
	{
		raft_fail_reads(raft);
		raft_transfer_end(raft);
		raft->uncommitted_bytes = 0;
		raft->leave_when_sent = 0;
		raft->round_due = 0;
	}
	if (term > raft->term)
	{
		raft->term = term;
		raft->vote = 0;
		raft->hard_state_dirty = 1;
		raft->notices |= RAFT_NOTICE_STATE;
	}
	if (raft->state != RAFT_FOLLOWER)
		raft->notices |= RAFT_NOTICE_STATE;
	if (raft->leader != leader)
		raft->notices |= RAFT_NOTICE_LEADER;
	raft->state = RAFT_FOLLOWER;
	raft->leader = leader;
	raft->self_vote_waiting = 0;
	raft->self_vote_epoch = 0;
	raft->campaign_flags = 0;
	raft_reset_election_deadline(raft);
}

/* ----------------------------------------------------------------
 * Candidate
 * ----------------------------------------------------------------
 */

static void
reset_votes(struct raft *raft)
{
	int			i;

	for (i = 0; i < raft->config.n_members; i++)
		raft->peers[i].vote = RAFT_VOTE_MISSING;
}

/* When to try again if this attempt comes to nothing. */
static raft_time
retry_delay(struct raft *raft)
{
	raft_time	timeout = raft->params.election_timeout_ms;

	/* others may see the leader's end a little later than we do */
	if (raft->hint_active && raft->now < raft->hint_until)
		return timeout / 100 + raft_random(raft, timeout / 33 + 1);
	return timeout / 4 + raft_random(raft, timeout / 4 + 1);
}

/*
 * How long a candidate whose own vote is durable waits for the others.  A split
 * vote is tried again soon, they were reachable a moment ago; but each vote has
 * to be written by a disk that may be as slow as ours was, and if some are
 * slower still, every vain attempt is followed by a longer one.
 */
static raft_time
split_delay(struct raft *raft)
{
	raft_time	timeout = raft->params.election_timeout_ms;
	raft_time	own_write = raft->now - raft->campaign_started;

	return own_write + timeout / 20 + raft_random(raft, timeout / 5 + 1) +
		timeout / 5 * (raft_time) (raft->vain_elections < 5 ? raft->vain_elections : 5);
}

void
raft_start_prevote(struct raft *raft)
{
	struct raft_peer *self = raft_find_peer(raft, raft->params.id);
	int			hint = raft->hint_active && raft->now < raft->hint_until;

	RAFT_ASSERT(raft, raft->state != RAFT_LEADER);
	raft->prevotes_started++;
	if (raft->state != RAFT_PRECANDIDATE)
		raft->notices |= RAFT_NOTICE_STATE;
	if (raft->leader != 0)
		raft->notices |= RAFT_NOTICE_LEADER;
	raft->state = RAFT_PRECANDIDATE;
	raft->leader = 0;
	raft->campaign_flags = hint ? RAFT_FLAG_LEADER_GONE : 0;
	raft->campaign_started = raft->now;
	raft->self_vote_waiting = 0;
	raft->self_vote_epoch = 0;
	raft->election_deadline = raft->now + retry_delay(raft);
	reset_votes(raft);
	if (self != NULL)
		self->vote = RAFT_VOTE_YES;
	raft_trace(raft, "prevote", raft->term + 1, raft->log.last);
	ask_for_votes(raft, RAFT_MSG_PREVOTE, raft->term + 1, raft->campaign_flags,
				  &raft->now_queue);
	count_votes(raft);
}

void
raft_start_election(struct raft *raft, int flags)
{
	raft->elections_started++;
	raft->term++;
	raft->vote = raft->params.id;
	raft->hard_state_dirty = 1;
	raft->state = RAFT_CANDIDATE;
	if (raft->leader != 0)
		raft->notices |= RAFT_NOTICE_LEADER;
	raft->leader = 0;
	raft->notices |= RAFT_NOTICE_STATE;
	raft->campaign_flags = flags;

	/* nobody is asked before our own vote is durable: see split_delay() */
	raft->campaign_started = raft->now;
	raft->election_deadline = raft->now + raft->params.election_timeout_ms;
	reset_votes(raft);
	raft->self_vote_waiting = 1;
	raft->self_vote_epoch = 0;
	raft_trace(raft, "election", raft->term, raft->log.last);
	ask_for_votes(raft, RAFT_MSG_VOTE, raft->term, flags, &raft->after_queue);
}

static void
ask_for_votes(struct raft *raft, int type, raft_term term, int flags,
			  struct raft_message_queue *queue)
{
	const struct raft_member *self = raft_self(raft);
	int			i;

	for (i = 0; i < raft->config.n_members; i++)
	{
		const struct raft_member *member = &raft->config.members[i];
		struct raft_message *message;

		if (member->id == raft->params.id ||
			!(RAFT_ROLE_VOTES(member->role) || RAFT_ROLE_VOTES(member->old_role)))
			continue;
		message = raft_queue(raft, queue, type, member->id, member->incarnation);
		message->term = term;
		message->index = raft->log.last;
		message->log_term = raft_log_last_term(&raft->log);
		message->flags = (unsigned) flags;
		if (self != NULL && self->role == RAFT_WITNESS)
			message->flags |= RAFT_FLAG_WITNESS;
	}
}

/* The candidate's own vote is durable now. */
void
raft_count_self_vote(struct raft *raft)
{
	struct raft_peer *self = raft_find_peer(raft, raft->params.id);

	raft->self_vote_epoch = 0;
	if (raft->state != RAFT_CANDIDATE)
		return;
	raft->election_deadline = raft->now + split_delay(raft);
	raft->vain_elections++;
	if (self == NULL)
		return;
	self->vote = RAFT_VOTE_YES;
	count_votes(raft);
}

static void
count_votes(struct raft *raft)
{
	int			votes[RAFT_MAX_MEMBERS];
	int			i;

	for (i = 0; i < raft->config.n_members; i++)
		votes[i] = raft->peers[i].vote;
	switch (raft_vote_result(&raft->config, votes))
	{
		case RAFT_VOTE_WON:
			if (raft->state == RAFT_PRECANDIDATE)
				raft_start_election(raft, raft->campaign_flags);
			else if (raft->state == RAFT_CANDIDATE)
				become_leader(raft);
			break;
		case RAFT_VOTE_LOST:
			if (raft->state == RAFT_CANDIDATE || raft->state == RAFT_PRECANDIDATE)
			{
				raft_time	deadline = raft->election_deadline;

				raft_become_follower(raft, raft->term, 0);
				raft->election_deadline = deadline;
			}
			break;
		default:
			break;
	}
}

void
raft_handle_vote_reply(struct raft *raft, const struct raft_message *message)
{
	struct raft_peer *peer = raft_find_peer(raft, message->from);
	int			wanted = message->type == RAFT_MSG_VOTE_REPLY ?
		RAFT_CANDIDATE : RAFT_PRECANDIDATE;

	if (peer == NULL || raft->state != wanted)
		return;

	/* a grant names the term that was asked for, a refusal the voter's own */
	if (message->type == RAFT_MSG_PREVOTE_REPLY && !message->reject &&
		message->term != raft->term + 1)
		return;
	if (peer->vote == RAFT_VOTE_MISSING)
		peer->vote = message->reject ? RAFT_VOTE_NO : RAFT_VOTE_YES;
	count_votes(raft);
}

static void
become_leader(struct raft *raft)
{
	int			i;

	RAFT_ASSERT(raft, raft->state == RAFT_CANDIDATE && raft->vote == raft->params.id);
	raft->state = RAFT_LEADER;
	raft->leader = raft->params.id;
	raft->notices |= RAFT_NOTICE_STATE | RAFT_NOTICE_LEADER;
	raft->hint_active = 0;
	raft->vain_elections = 0;
	raft->lease_void = 0;
	raft->uncommitted_bytes = 0;
	raft->round = 0;
	raft->n_reads = 0;
	memset(raft->round_sent, 0, sizeof(raft->round_sent));
	for (i = 0; i < raft->config.n_members; i++)
		raft_progress_reset(raft, &raft->peers[i]);
	raft->heartbeat_due = raft->now;
	raft->upkeep_due = raft->now;
	raft->term_start = raft->log.last + 1;
	raft->last_at_heartbeat = raft->term_start;
	raft_trace(raft, "leader", raft->term, raft->log.last);

	/*
	 * Entries of earlier terms commit only behind one of our own (fig. 3.7).
	 * A log whose cache cannot take this one cannot lead.
	 */
	if (raft_leader_append(raft, RAFT_ENTRY_EMPTY, 0, NULL) != RAFT_OK)
		raft_become_follower(raft, raft->term, 0);
	else
		raft_broadcast_heartbeat(raft);
}

/* ----------------------------------------------------------------
 * Voter
 * ----------------------------------------------------------------
 */

/*
 * Does this member hear a leader?  Then it refuses, unless the leader itself
 * sent the candidate, or both saw the leader's process go.
 */
int
raft_must_refuse_vote(const struct raft *raft, const struct raft_message *message)
{
	raft_time	half = raft->params.election_timeout_ms / 2;

	if (message->flags & RAFT_FLAG_TRANSFER)
		return 0;
	if (raft->state == RAFT_LEADER)
		return raft->now - raft_quorum_contact(raft) < half;

	/*
	 * Where leases are possible, one may rest on what this member has said
	 * before it restarted and cannot remember.
	 */
	if (!raft->params.fast_detection && raft->now - raft->started_at < half)
		return 1;
	if (raft->leader == 0)
		return 0;
	if (raft->params.fast_detection && (message->flags & RAFT_FLAG_LEADER_GONE) &&
		raft->hint_active && raft->hint_leader == raft->leader)
		return 0;
	return raft->now - raft->leader_contact < half;
}

/* diss. 3.6.1: the candidate's log has everything that may be committed */
static int
log_is_up_to_date(const struct raft *raft, const struct raft_message *message)
{
	raft_term	last_term = raft_log_last_term(&raft->log);

	return message->log_term > last_term ||
		(message->log_term == last_term && message->index >= raft->log.last);
}

static int
better_than_us(const struct raft *raft, const struct raft_message *message)
{
	raft_term	last_term = raft_log_last_term(&raft->log);
	const struct raft_member *self = raft_self(raft);
	const struct raft_member *other = raft_config_find(&raft->config, message->from);
	int			our_priority = self != NULL ? self->priority : 0;
	int			other_priority = other != NULL ? other->priority : 0;

	if (message->log_term != last_term)
		return message->log_term > last_term;
	if (message->index != raft->log.last)
		return message->index > raft->log.last;
	if (self != NULL && (self->role == RAFT_WITNESS) !=
		((message->flags & RAFT_FLAG_WITNESS) != 0))
		return self->role == RAFT_WITNESS;
	if (our_priority != other_priority)
		return other_priority > our_priority;
	return message->from < raft->params.id;
}

void
raft_handle_prevote(struct raft *raft, const struct raft_message *message)
{
	struct raft_message *answer;
	int			grant;

	grant = message->term > raft->term && log_is_up_to_date(raft, message) &&
		!raft_must_refuse_vote(raft, message) && raft->state != RAFT_LEADER;

	/*
	 * Two precandidates that grant each other become two candidates that
	 * refuse each other.  The worse one steps back; the better one refuses,
	 * for a while only, since it may be unable to win itself.
	 */
	if (grant && raft->state == RAFT_PRECANDIDATE)
	{
		raft_time	timeout = raft->params.election_timeout_ms;

		if (better_than_us(raft, message))
		{
			raft_become_follower(raft, raft->term, 0);
			raft->election_deadline = raft->now + timeout / 10 +
				raft_random(raft, timeout / 10 + 1);
		}
		else if (raft->now - raft->campaign_started < timeout / 10)
			grant = 0;
	}
	else if (grant && raft->state == RAFT_FOLLOWER &&
			 raft->election_deadline < raft->now + raft->params.election_timeout_ms / 20)
		raft->election_deadline = raft->now + raft->params.election_timeout_ms / 20 +
			raft_random(raft, raft->params.election_timeout_ms / 10 + 1);

	answer = raft_answer(raft, message, RAFT_MSG_PREVOTE_REPLY);
	answer->reject = !grant;
	if (grant)
		answer->term = message->term;
}

void
raft_handle_vote(struct raft *raft, const struct raft_message *message)
{
	struct raft_message *answer;
	int			grant;

	RAFT_ASSERT(raft, message->term == raft->term);
	grant = (raft->vote == 0 || raft->vote == message->from) &&
		raft->leader == 0 && raft->state != RAFT_LEADER &&
		log_is_up_to_date(raft, message) && !raft_must_refuse_vote(raft, message);
	if (grant)
	{
		if (raft->vote == 0)
		{
			raft->vote = message->from;
			raft->hard_state_dirty = 1;
		}
		if (raft->state == RAFT_PRECANDIDATE)
			raft_become_follower(raft, raft->term, 0);
		raft_reset_election_deadline(raft);
	}
	answer = raft_answer(raft, message, RAFT_MSG_VOTE_REPLY);
	answer->reject = !grant;
}
