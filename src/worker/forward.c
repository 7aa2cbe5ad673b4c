/*-------------------------------------------------------------------------
 *
 * forward.c
 *	  Requests between members: a follower sends what its backends want to the
 *	  leader; the leader carries it out and answers.
 *
 * Event loop only; the receiving functions run inside pgraft_net_poll().
 * Requests are accepted from members of the configuration only, and only while
 * this member leads.  A forwarded command is not answered when it succeeds: its
 * sender sees it applied.  A forwarded request that gets no answer within an
 * election timeout is sent again with the mark "again".
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "pgraft/ha_state.h"
#include "pgraft/question.h"
#include "pgraft/settings.h"
#include "pgraft/worker.h"

#define RETRY_MS 20				/* refused for the moment: try again */

static unsigned char *reserve_frame(size_t length);
static void remote_propose(PgraftNode *node, raft_id peer, const PgraftWireRequest *request);
static void remote_operation(PgraftNode *node, raft_id peer, const PgraftWireRequest *request);
static bool removes_us(const PgraftNode *node, const PgraftOperation *op);

static unsigned char *frame_buffer = NULL;
static size_t frame_buffer_size = 0;

static unsigned char *
reserve_frame(size_t length)
{
	if (length > frame_buffer_size)
	{
		if (frame_buffer != NULL)
			pfree(frame_buffer);
		frame_buffer = NULL;
		frame_buffer_size = 0;
		frame_buffer = MemoryContextAlloc(TopMemoryContext, length + 1024);
		frame_buffer_size = length + 1024;
	}
	return frame_buffer;
}

/* Sends an operation to the leader; false when there is none to send it to. */
bool
pgraft_forward(PgraftNode *node, PgraftOperation *op)
{
	PgraftSlot *slot = pgraft_operation_slot(op);
	PgraftWireRequest request;
	raft_id		leader = pgraft_current_leader(node);
	size_t		length;
	unsigned char *buffer;
	unsigned char *changes = NULL;

	if (leader == 0 || leader == node->identity.node_id || node->net == NULL)
		return false;
	memset(&request, 0, sizeof(request));
	request.request = pgraft_operation_token(op);
	request.kind = op->kind;
	request.argument = op->argument;
	if (op->kind == PGRAFT_REQUEST_ADD_MEMBER || op->kind == PGRAFT_REQUEST_CHANGE_MEMBERS)
		request.argument = op->timeout; /* the ids are in the data */
	if (op->kind == PGRAFT_REQUEST_PROPOSE)
	{
		request.length = slot->length;
		request.data = pgraft_slot_payload(slot);
	}
	else if (op->kind == PGRAFT_REQUEST_ADD_MEMBER || op->kind == PGRAFT_REQUEST_UPDATE_MEMBER)
	{
		static unsigned char payload[RAFT_CONFIG_MAX_BYTES];

		request.length = pgraft_member_encode(&op->member, payload);
		request.data = payload;
	}
	else if (op->kind == PGRAFT_REQUEST_CHANGE_MEMBERS)
	{
		request.length = pgraft_changes_bytes(op->changes, op->n_changes);
		changes = palloc(request.length);
		pgraft_changes_encode(op->changes, op->n_changes, changes);
		request.data = changes;
	}
	if (op->again)
		request.kind |= PGRAFT_FORWARD_AGAIN;
	length = pgraft_wire_request_bytes(&request);
	buffer = reserve_frame(length);
	pgraft_wire_encode_request(buffer, &request);
	if (changes != NULL)
		pfree(changes);

	/* first: once it is sent, nobody can say that it was not */
	if (op->kind != PGRAFT_REQUEST_READ_BARRIER && !pgraft_operation_may_act(op))
		return false;			/* its backend has gone */
	if (!pgraft_net_send_frame(node->net, leader, PGRAFT_FRAME_REQUEST, buffer, length))
	{
		if (op->attempts == 0 && slot != NULL)
			pgraft_slot_clear_proposed(slot);
		return false;
	}
	op->phase = PGRAFT_PHASE_FORWARDED;
	op->leader = leader;
	op->attempts++;
	op->retry_at = node->now + (raft_time) pgraft_election_timeout;
	node->status.proposals_forwarded++;
	return true;
}

/* A frame from another member that takes us for the leader. */
int
pgraft_service_request(PgraftNode *node, const PgraftFrameHeader *header,
					   const unsigned char *payload)
{
	PgraftWireRequest request;
	PgraftError error;
	const struct raft_member *member;

	memset(&error, 0, sizeof(error));
	if (pgraft_wire_decode_request(payload, header->length, &request, &error) != PGRAFT_OK)
	{
		pgraft_report(LOG, &error);
		return 1;
	}
	member = raft_config_find(raft_get_config(node->raft), header->from);
	if (member == NULL || member->incarnation != header->from_incarnation)
	{
		pgraft_send_reply(node, header->from, request.request, PGRAFT_RESULT_REMOVED, 0, NULL);
		return 0;
	}
	if (!pgraft_is_leader_here(node))
	{
		pgraft_send_reply(node, header->from, request.request, PGRAFT_RESULT_NOT_LEADER, 0, NULL);
		return 0;
	}
	if ((request.kind & ~PGRAFT_FORWARD_AGAIN) == PGRAFT_REQUEST_PROPOSE)
		remote_propose(node, header->from, &request);
	else
		remote_operation(node, header->from, &request);
	return 0;
}

static void
remote_propose(PgraftNode *node, raft_id peer, const PgraftWireRequest *request)
{
	struct raft_proposal proposal;
	PgraftCommand command;
	raft_index	index = 0;
	raft_term	term;
	PgraftResult result;

	proposal.length = request->length;
	proposal.data = request->data;
	if (!pgraft_command_decode(request->data, request->length, &command))
		result = PGRAFT_RESULT_INVALID;
	else if ((result = pgraft_node_disk_accepts(node)) == PGRAFT_RESULT_OK)
		result = pgraft_result_of_raft(raft_propose(node->raft, &proposal, 1, &index, &term));
	if (result == PGRAFT_RESULT_OK)
	{
		node->status.batches++;
		node->status.proposals++;
		node->status.proposal_bytes += proposal.length;
		return;					/* it is answered by being applied */
	}
	pgraft_send_reply(node, peer, request->request, result, index, NULL);
}

static void
remote_operation(PgraftNode *node, raft_id peer, const PgraftWireRequest *request)
{
	PgraftOperation *op;
	static struct raft_change changes[RAFT_MAX_MEMBERS];
	struct raft_member member;
	int			kind = request->kind & ~PGRAFT_FORWARD_AGAIN;
	int			n_changes = 0;
	int			i;

	memset(&member, 0, sizeof(member));
	if (kind == PGRAFT_REQUEST_CHANGE_MEMBERS)
		n_changes = pgraft_changes_decode(changes, request->data, request->length);
	if (kind < PGRAFT_REQUEST_READ_BARRIER ||
		(kind > PGRAFT_REQUEST_STEP_DOWN && n_changes == 0) ||
		((kind == PGRAFT_REQUEST_ADD_MEMBER || kind == PGRAFT_REQUEST_UPDATE_MEMBER) &&
		 !pgraft_member_decode(&member, request->data, request->length)))
	{
		pgraft_send_reply(node, peer, request->request, PGRAFT_RESULT_INVALID, 0,
				   "The leader does not understand the request.");
		return;
	}
	for (i = 0; i < pgraft_operation_count(); i++)
	{
		op = pgraft_operation_active(i);
		if (op->slot < 0 && op->peer == peer && op->request == request->request)
			return;				/* sent again, still being worked on */
	}
	op = pgraft_operation_new();
	if (op == NULL)
	{
		pgraft_send_reply(node, peer, request->request, PGRAFT_RESULT_BUSY, 0, NULL);
		return;
	}
	pgraft_operation_begin(node, op, -1);
	op->peer = peer;
	op->request = request->request;
	op->kind = kind;
	op->argument = request->argument;
	op->timeout = (raft_time) pgraft_request_timeout;
	op->member = member;
	if (n_changes > 0)
		pgraft_changes_keep(op, changes, n_changes);
	if (kind == PGRAFT_REQUEST_ADD_MEMBER || kind == PGRAFT_REQUEST_CHANGE_MEMBERS)
	{
		op->argument = member.id;
		if (request->argument < op->timeout)
			op->timeout = request->argument;
	}
	op->again = (request->kind & PGRAFT_FORWARD_AGAIN) != 0;
}

void
pgraft_send_reply(PgraftNode *node, raft_id peer, raft_u64 request, PgraftResult result,
		   raft_index index, const char *detail)
{
	PgraftWireReply reply;
	size_t		length;
	unsigned char *buffer;

	if (node->net == NULL)
		return;
	memset(&reply, 0, sizeof(reply));
	reply.request = request;
	reply.result = result;
	reply.index = index;
	reply.data = (const unsigned char *) detail;
	reply.length = detail != NULL ? strlen(detail) : 0;
	length = pgraft_wire_reply_bytes(&reply);
	buffer = reserve_frame(length);
	pgraft_wire_encode_reply(buffer, &reply);

	/* lost replies are asked for again */
	(void) pgraft_net_send_frame(node->net, peer, PGRAFT_FRAME_REPLY, buffer, length);
}

int
pgraft_service_reply(PgraftNode *node, const PgraftFrameHeader *header,
					 const unsigned char *payload)
{
	PgraftWireReply reply;
	PgraftError error;
	PgraftOperation *op;
	char		detail[256];

	memset(&error, 0, sizeof(error));
	if (pgraft_wire_decode_reply(payload, header->length, &reply, &error) != PGRAFT_OK)
	{
		pgraft_report(LOG, &error);
		return 1;
	}
	if (pgraft_question_token(reply.request))
	{
		pgraft_ha_catch_up_answered(header->from, reply.request,
									reply.result == PGRAFT_RESULT_OK, reply.index);
		pgraft_ha_lease_answered(header->from, reply.request,
								 reply.result == PGRAFT_RESULT_OK, reply.index);
		return 0;
	}
	op = pgraft_operation_of_token(reply.request);
	if (op == NULL || op->phase != PGRAFT_PHASE_FORWARDED || op->leader != header->from)
		return 0;
	snprintf(detail, sizeof(detail), "%.*s", (int) Min(reply.length, sizeof(detail) - 1),
			 (const char *) reply.data);
	switch (reply.result)
	{
		case PGRAFT_RESULT_OK:
			op->index = reply.index;
			op->phase = PGRAFT_PHASE_APPLYING;

			/* a removed member may never hear of its removal by the log */
			if (removes_us(node, op))
				op->index = 0;
			break;
		case PGRAFT_RESULT_NOT_LEADER:
		case PGRAFT_RESULT_BUSY:
			/* with an index: that leader had begun it, and cannot say how it ends */
			if (reply.index != 0)
				op->again = true;
			else if (op->orphan && !op->again)
			{
				/* nothing was begun, and nobody wants it any more */
				pgraft_operation_answer(node, op, PGRAFT_RESULT_NOT_LEADER, NULL);
				break;
			}
			else if (op->attempts <= 1 && !op->again)
				pgraft_slot_clear_proposed(pgraft_operation_slot(op));
			pgraft_operation_wait(node, op, RETRY_MS);
			break;
		case PGRAFT_RESULT_REMOVED:
			pgraft_operation_answer(node, op, pgraft_is_own_removal(node, op) ?
									PGRAFT_RESULT_OK : PGRAFT_RESULT_REMOVED, detail);
			break;
		default:
			op->phase = PGRAFT_PHASE_WAITING;	/* this attempt is answered */
			pgraft_operation_answer(node, op, (PgraftResult) reply.result, detail);
			break;
	}
	return 0;
}

/*
 * A member that asks for its own removal may first hear from others that it is
 * none any more.  One that led without an heir carried its removal out itself.
 */
bool
pgraft_is_own_removal(const PgraftNode *node, const PgraftOperation *op)
{
	return removes_us(node, op) &&
		(op->again || op->attempts > 0 || op->phase == PGRAFT_PHASE_COMMITTING);
}

static bool
removes_us(const PgraftNode *node, const PgraftOperation *op)
{
	if (op->kind == PGRAFT_REQUEST_CHANGE_MEMBERS)
		return pgraft_changes_remove(op, node->identity.node_id);
	return op->kind == PGRAFT_REQUEST_REMOVE_MEMBER &&
		op->argument == node->identity.node_id;
}

/* Whatever was with the old leader, or in our log, is sent again at once. */
void
pgraft_service_leader_changed(PgraftNode *node)
{
	raft_id		leader = pgraft_current_leader(node);
	struct raft_status status;
	int			i;

	raft_status(node->raft, &status);
	for (i = 0; i < pgraft_operation_count(); i++)
	{
		PgraftOperation *op = pgraft_operation_active(i);
		bool		lost;

		lost = (op->phase == PGRAFT_PHASE_FORWARDED && op->leader != leader) ||
			(op->phase == PGRAFT_PHASE_PROPOSED &&
			 (status.state != RAFT_LEADER || status.term != op->term));
		if (lost)
			op->again = true;
		if (lost || (op->phase == PGRAFT_PHASE_WAITING && leader != 0))
			pgraft_operation_wait(node, op, 0);
	}
}

/* The connection to a peer came up or broke: what it had may be lost. */
void
pgraft_service_peer_changed(PgraftNode *node, raft_id peer)
{
	int			i;

	for (i = 0; i < pgraft_operation_count(); i++)
	{
		PgraftOperation *op = pgraft_operation_active(i);

		if (op->phase == PGRAFT_PHASE_FORWARDED && op->leader == peer)
		{
			op->again = true;
			pgraft_operation_wait(node, op, RETRY_MS);
		}
	}
}
