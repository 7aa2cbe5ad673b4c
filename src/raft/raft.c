/*-------------------------------------------------------------------------
 *
 * raft.c
 *	  The engine's clock, its inputs, and the dispatch of messages.
 *
 * Nothing decides here; each event goes to the room of its concern.  What is
 * decided here is only which messages are looked at: addressed to this very
 * membership, not from an older incarnation, and what a term higher or lower
 * than ours means (diss. fig. 3.1, "rules for servers").
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static int check_message(struct raft *raft, const struct raft_message *message);
static int from_ended_membership(struct raft *raft, const struct raft_message *message);
static int handle_higher_term(struct raft *raft, const struct raft_message *message);
static int handle_lower_term(struct raft *raft, const struct raft_message *message);
static int dispatch(struct raft *raft, const struct raft_message *message);
static int is_leader_message(int type);

/* ----------------------------------------------------------------
 * Small services
 * ----------------------------------------------------------------
 */

void
raft_assertion_failed(const struct raft *raft, const char *condition,
					  const char *file, int line)
{
	if (raft->callbacks.assertion_failed != NULL)
		raft->callbacks.assertion_failed(raft->callbacks.context, condition, file, line);
	abort();
}

/* splitmix64: small, and equal everywhere. */
raft_u64
raft_random(struct raft *raft, raft_u64 below)
{
	raft_u64	z;

	raft->random_state += 0x9E3779B97F4A7C15UL;
	z = raft->random_state;
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
	z = z ^ (z >> 31);
	return below == 0 ? 0 : z % below;
}

static char *
put_number(char *p, raft_u64 value)
{
	char		digits[24];
	int			n = 0;

	do
	{
		digits[n++] = (char) ('0' + (int) (value % 10));
		value /= 10;
	} while (value > 0);
	while (n > 0)
		*p++ = digits[--n];
	return p;
}

/* "<event> <a> <b>"; event is a short literal. */
void
raft_trace(struct raft *raft, const char *event, raft_u64 a, raft_u64 b)
{
	char		line[160];
	char	   *p = line;
	size_t		length = strlen(event);

	if (raft->callbacks.trace == NULL)
		return;
	if (length > 100)
		length = 100;
	memcpy(p, event, length);
	p += length;
	*p++ = ' ';
	p = put_number(p, a);
	*p++ = ' ';
	p = put_number(p, b);
	*p = '\0';
	raft->callbacks.trace(raft->callbacks.context, line);
}

struct raft_peer *
raft_find_peer(struct raft *raft, raft_id id)
{
	int			position = raft_config_position(&raft->config, id);

	return position < 0 ? NULL : &raft->peers[position];
}

const struct raft_member *
raft_self(const struct raft *raft)
{
	const struct raft_member *member = raft_config_find(&raft->config, raft->params.id);

	if (member != NULL && member->incarnation != raft->params.incarnation)
		return NULL;
	return member;
}

/*
 * Voters campaign whose disk answers (stall.c).  So does one that the newest
 * configuration has removed or demoted, as long as it does not know that to be
 * committed (diss. 4.2.2): the entry may be in no other log, and then nobody
 * else can be elected.
 */
int
raft_may_campaign(const struct raft *raft)
{
	const struct raft_member *before;

	if (raft->removed || raft_disk_is_stalled(raft))
		return 0;
	if (raft_self(raft) != NULL && raft_config_is_voter(&raft->config, raft->params.id))
		return 1;
	if (!raft->has_previous || raft->config.index <= raft->commit)
		return 0;
	before = raft_config_find(&raft->previous, raft->params.id);
	return before != NULL && before->incarnation == raft->params.incarnation &&
		raft_config_is_voter(&raft->previous, raft->params.id);
}

struct raft_message *
raft_queue(struct raft *raft, struct raft_message_queue *queue, int type,
		   raft_id to, raft_u64 to_incarnation)
{
	struct raft_message *message = &raft->lost_message;

	if (raft_queue_reserve(raft, queue) == RAFT_OK)
		message = &queue->messages[queue->count++];
	memset(message, 0, sizeof(*message));
	message->type = type;
	message->from = raft->params.id;
	message->from_incarnation = raft->params.incarnation;
	message->to = to;
	message->to_incarnation = to_incarnation;
	message->term = raft->term;
	return message;
}

struct raft_message *
raft_answer(struct raft *raft, const struct raft_message *request, int type)
{
	return raft_queue(raft, &raft->after_queue, type, request->from,
					  request->from_incarnation);
}

/* ----------------------------------------------------------------
 * Time
 * ----------------------------------------------------------------
 */

void
raft_tick(struct raft *raft, raft_time now)
{
	/* a clock that steps back is a host's bug; time stands still for us then */
	if (now > raft->now)
		raft->now = now;
	if (raft->state == RAFT_LEADER)
	{
		raft_leader_tick(raft);
		return;
	}
	if (raft->now < raft->election_deadline)
		return;
	if (raft_may_campaign(raft))
		raft_start_prevote(raft);
	else
	{
		raft_reset_election_deadline(raft);
		if (raft->leader != 0 &&
			raft->now - raft->leader_contact >= raft->params.election_timeout_ms)
		{
			raft->leader = 0;
			raft->notices |= RAFT_NOTICE_LEADER;
		}
	}
}

raft_time
raft_next_deadline(const struct raft *raft)
{
	raft_time	deadline = raft->now + RAFT_NEVER;
	raft_time	snapshot;
	raft_time	quorum;

	if (raft->state != RAFT_LEADER)
		return raft->election_deadline < deadline ? raft->election_deadline : deadline;
	if (raft->heartbeat_due < deadline)
		deadline = raft->heartbeat_due;
	if (raft->upkeep_due < deadline)
		deadline = raft->upkeep_due;
	if (raft->transfer_target != 0 && raft->transfer_deadline < deadline)
		deadline = raft->transfer_deadline;

	/* a leader without quorum steps down within T, not at the next heartbeat */
	quorum = raft_quorum_contact(raft) + raft->params.election_timeout_ms;
	if (quorum < deadline)
		deadline = quorum;
	snapshot = raft_snapshot_deadline(raft);
	return snapshot < deadline ? snapshot : deadline;
}

/* ----------------------------------------------------------------
 * Messages
 * ----------------------------------------------------------------
 */

static int
is_leader_message(int type)
{
	return type == RAFT_MSG_APPEND || type == RAFT_MSG_HEARTBEAT ||
		type == RAFT_MSG_SNAPSHOT;
}

int
raft_receive(struct raft *raft, const struct raft_message *message)
{
	int			error;

	raft->messages_received++;
	error = check_message(raft, message);
	if (error == RAFT_OK && message->term > raft->term)
		error = handle_higher_term(raft, message);
	else if (error == RAFT_OK && message->term < raft->term)
		error = handle_lower_term(raft, message);
	else if (error == RAFT_OK)
		error = dispatch(raft, message);
	if (error != RAFT_OK)
		raft->messages_ignored++;
	return error;
}

/*
 * Is it for us and from somebody whose word counts?  A sender that we do not
 * know is listened to: our configuration may be old.
 */
static int
check_message(struct raft *raft, const struct raft_message *message)
{
	const struct raft_member *sender;

	if (!raft->started || message->type < 1 || message->type > RAFT_MSG_MAX)
		return RAFT_E_INVALID;

	/* no cluster counts that far, but arithmetic on it would wrap around */
	if (message->term == 0 || message->term > RAFT_MAX_NUMBER ||
		message->index > RAFT_MAX_NUMBER)
		return RAFT_E_INVALID;
	if (message->to != raft->params.id || message->from == raft->params.id ||
		message->from == 0 || message->to_incarnation != raft->params.incarnation)
		return RAFT_E_INVALID;
	if (message->type == RAFT_MSG_REMOVED)
	{
		raft_handle_removed(raft, message);
		return RAFT_E_UNKNOWN_MEMBER;	/* nothing more to do with it */
	}
	sender = raft_config_find(&raft->config, message->from);
	if (sender != NULL && message->from_incarnation < sender->incarnation)
		return RAFT_E_UNKNOWN_MEMBER;
	if (sender == NULL && from_ended_membership(raft, message))
		return RAFT_E_UNKNOWN_MEMBER;
	return RAFT_OK;
}

/*
 * Its membership had begun before our committed configuration, which does not
 * have it: it is over.  The leader tells it so, when it asks for votes.
 */
static int
from_ended_membership(struct raft *raft, const struct raft_message *message)
{
	if (raft->config.index == 0 || raft->config.index > raft->commit ||
		message->from_incarnation > raft->config.index)
		return 0;
	if (raft->state == RAFT_LEADER && raft->commit >= raft->term_start &&
		(message->type == RAFT_MSG_PREVOTE || message->type == RAFT_MSG_VOTE))
		raft_queue(raft, &raft->now_queue, RAFT_MSG_REMOVED, message->from,
				   message->from_incarnation)->index = raft->config.index;

	/* an old leader that does not know yet may still bring us the log */
	return !is_leader_message(message->type);
}

static int
handle_higher_term(struct raft *raft, const struct raft_message *message)
{
	switch (message->type)
	{
		case RAFT_MSG_PREVOTE:
			break;				/* only asks; its term is not in force anywhere */
		case RAFT_MSG_PREVOTE_REPLY:
			if (!message->reject)
				break;			/* the term that we asked for */
			raft_become_follower(raft, message->term, 0);
			return RAFT_OK;
		case RAFT_MSG_VOTE:
			if (raft_must_refuse_vote(raft, message))
			{
				/* a member that cannot hear the leader must not unseat it */
				raft_answer(raft, message, RAFT_MSG_VOTE_REPLY)->reject = 1;
				return RAFT_OK;
			}
			raft_become_follower(raft, message->term, 0);
			break;
		default:
			raft_become_follower(raft, message->term,
								 is_leader_message(message->type) ? message->from : 0);
			break;
	}
	return dispatch(raft, message);
}

static int
handle_lower_term(struct raft *raft, const struct raft_message *message)
{
	struct raft_message *answer;

	switch (message->type)
	{
		case RAFT_MSG_APPEND:
		case RAFT_MSG_HEARTBEAT:
		case RAFT_MSG_SNAPSHOT:

			/*
			 * Tells a leader of the past that it is over; without this a
			 * member with a higher term could never come back under a leader
			 * that others still follow.
			 */
			answer = raft_answer(raft, message, RAFT_MSG_APPEND_REPLY);
			answer->reject = 1;
			return RAFT_OK;
		case RAFT_MSG_PREVOTE:
			raft_answer(raft, message, RAFT_MSG_PREVOTE_REPLY)->reject = 1;
			return RAFT_OK;
		case RAFT_MSG_VOTE:
			raft_answer(raft, message, RAFT_MSG_VOTE_REPLY)->reject = 1;
			return RAFT_OK;
		default:
			return RAFT_E_INVALID;	/* an answer to something long gone */
	}
}

static int
dispatch(struct raft *raft, const struct raft_message *message)
{
	/* two leaders in one term cannot be: it is garbage, or worse */
	if (is_leader_message(message->type) && raft->state == RAFT_LEADER)
		return RAFT_E_INVALID;
	switch (message->type)
	{
		case RAFT_MSG_PREVOTE:
			raft_handle_prevote(raft, message);
			return RAFT_OK;
		case RAFT_MSG_VOTE:
			raft_handle_vote(raft, message);
			return RAFT_OK;
		case RAFT_MSG_PREVOTE_REPLY:
		case RAFT_MSG_VOTE_REPLY:
			raft_handle_vote_reply(raft, message);
			return RAFT_OK;
		case RAFT_MSG_APPEND:
			return raft_handle_append(raft, message);
		case RAFT_MSG_APPEND_REPLY:
			return raft_handle_append_reply(raft, message);
		case RAFT_MSG_HEARTBEAT:
			return raft_handle_heartbeat(raft, message);
		case RAFT_MSG_HEARTBEAT_REPLY:
			return raft_handle_heartbeat_reply(raft, message);
		case RAFT_MSG_SNAPSHOT:
			return raft_handle_snapshot(raft, message);
		case RAFT_MSG_SNAPSHOT_REPLY:
			return raft_handle_snapshot_reply(raft, message);
		case RAFT_MSG_TIMEOUT_NOW:
			raft_handle_timeout_now(raft, message);
			return RAFT_OK;
		default:
			return RAFT_E_INVALID;
	}
}

/* ----------------------------------------------------------------
 * Proposals and connections
 * ----------------------------------------------------------------
 */

int
raft_propose(struct raft *raft, const struct raft_proposal *batch, size_t n,
			 raft_index *first_index, raft_term *term)
{
	size_t		before = raft->uncommitted_bytes;
	size_t		total = 0;
	size_t		i;

	if (raft->state != RAFT_LEADER)
		return RAFT_E_NOT_LEADER;
	if (raft->transfer_target != 0)
		return RAFT_E_TRANSFERRING;
	if (n == 0)
		return RAFT_E_INVALID;
	for (i = 0; i < n; i++)
	{
		if (batch[i].length > raft->params.max_entry_bytes)
			return RAFT_E_TOO_LARGE;
		total += batch[i].length;
	}

	/* one that is alone may exceed the bound, or it could never pass */
	if (raft->uncommitted_bytes > 0 &&
		raft->uncommitted_bytes + total > raft->params.max_uncommitted_bytes)
		return RAFT_E_BUSY;
	if (!raft_log_has_room(&raft->log, n, total))
		return RAFT_E_BUSY;
	*first_index = raft->log.last + 1;
	*term = raft->term;
	for (i = 0; i < n; i++)
	{
		int			error = raft_leader_append(raft, RAFT_ENTRY_NORMAL, batch[i].length,
											   batch[i].data);

		/* room was checked: only memory can be wanting, and then nothing stays */
		if (error != RAFT_OK)
		{
			if (i > 0)
				raft_log_truncate(&raft->log, *first_index);
			raft->uncommitted_bytes = before;
			return error;
		}
	}
	return RAFT_OK;
}

void
raft_peer_lost(struct raft *raft, raft_id id)
{
	struct raft_peer *peer = raft_find_peer(raft, id);

	if (peer != NULL)
	{
		peer->connected = 0;
		if (raft->state == RAFT_LEADER && peer->progress == RAFT_PROGRESS_REPLICATE)
			raft_progress_probe(peer, peer->match + 1);
	}
	if (!raft->params.fast_detection || id != raft->leader || raft->state != RAFT_FOLLOWER)
		return;
	raft->hint_active = 1;
	raft->hint_leader = id;
	raft->hint_until = raft->now + raft->params.election_timeout_ms;
	if (raft_may_campaign(raft))
	{
		const struct raft_member *self = raft_self(raft);
		raft_time	spread = raft->params.election_timeout_ms / 50 + 1;
		raft_time	delay = raft_random(raft, spread);

		/* the most wanted leader asks first */
		if (self != NULL)
			delay = delay * (raft_time) (100 - (self->priority > 100 ? 100 : self->priority)) / 100;
		if (raft->now + delay < raft->election_deadline)
			raft->election_deadline = raft->now + delay;
	}
}

void
raft_peer_found(struct raft *raft, raft_id id)
{
	struct raft_peer *peer = raft_find_peer(raft, id);

	if (peer != NULL)
	{
		peer->connected = 1;
		if (raft->state == RAFT_LEADER)
		{
			peer->probe_sent = 0;
			peer->append_due = 1;
			peer->chunk_inflight = 0;
		}
	}
	if (raft->hint_active && raft->hint_leader == id)
	{
		raft->hint_active = 0;
		if (raft->state == RAFT_FOLLOWER)
			raft_reset_election_deadline(raft);
	}
}
