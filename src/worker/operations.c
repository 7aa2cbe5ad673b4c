/*-------------------------------------------------------------------------
 *
 * operations.c
 *	  The table of operations: requests on their way through the cluster.
 *
 * Event loop only.  The first entries belong to the slots of the request queue,
 * one each; the others to requests of other members.  Used entries are listed
 * densely, so a turn costs nothing for the unused ones; finishing an entry
 * moves the last of the list into its place, hence loops that may finish
 * entries run backwards.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "postmaster/interrupt.h"
#include "utils/memutils.h"

#include "pgraft/worker.h"

#define REMOTE_OPERATIONS 256	/* requests of other members in progress */

static void drop_operation(PgraftOperation *op);

/* operations[slot] for our own slots, then REMOTE_OPERATIONS more */
static PgraftOperation *operations = NULL;
static int	n_operations = 0;
static int *active = NULL;		/* numbers of used operations, dense */
static int	n_active = 0;

void
pgraft_service_begin(PgraftNode *node)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	uint32		generation = (uint32) pgraft_random_u64();
	int			i;

	n_operations = pgraft_shared->n_slots + REMOTE_OPERATIONS;
	operations = palloc0(sizeof(PgraftOperation) * n_operations);
	active = palloc(sizeof(int) * n_operations);

	/* other members may still know tokens of an earlier worker */
	for (i = 0; i < n_operations; i++)
		operations[i].generation = generation;
	n_active = 0;
	MemoryContextSwitchTo(old);
	node->boot_session = pgraft_random_u64() & ~(raft_u64) 0xffff;
	if (node->boot_session == 0)
		node->boot_session = 0x10000;
}

int
pgraft_operation_count(void)
{
	return n_active;
}

PgraftOperation *
pgraft_operation_active(int i)
{
	return &operations[active[i]];
}

/* The entry that belongs to a slot of the request queue. */
PgraftOperation *
pgraft_operation_of_slot(int slot)
{
	return &operations[slot];
}

PgraftSlot *
pgraft_operation_slot(const PgraftOperation *op)
{
	return op->slot >= 0 ? &pgraft_shared->slots[op->slot] : NULL;
}

bool
pgraft_operation_is_remote(const PgraftOperation *op)
{
	return op->slot < 0 && !op->orphan;
}

bool
pgraft_operation_may_act(const PgraftOperation *op)
{
	return op->slot < 0 || pgraft_slot_set_proposed(pgraft_operation_slot(op));
}

void
pgraft_operation_did_not_act(const PgraftOperation *op)
{
	if (op->slot >= 0 && op->attempts == 0 && !op->again)
		pgraft_slot_clear_proposed(pgraft_operation_slot(op));
}

bool
pgraft_is_leader_here(const PgraftNode *node)
{
	struct raft_status status;

	if (node->raft == NULL)
		return false;
	raft_status(node->raft, &status);
	return status.state == RAFT_LEADER;
}

raft_id
pgraft_current_leader(const PgraftNode *node)
{
	struct raft_status status;

	if (node->raft == NULL)
		return 0;
	raft_status(node->raft, &status);
	return status.leader;
}

PgraftOperation *
pgraft_operation_new(void)
{
	int			i;

	for (i = pgraft_shared->n_slots; i < n_operations; i++)
		if (!operations[i].used)
			break;
	if (i == n_operations)
		return NULL;
	return &operations[i];
}

void
pgraft_operation_begin(PgraftNode *node, PgraftOperation *op, int slot)
{
	uint32		generation = op->generation + 1;

	memset(op, 0, sizeof(*op));
	op->used = true;
	op->slot = slot;
	op->generation = generation;
	op->started = node->now;
	active[n_active++] = (int) (op - operations);
}

bool
pgraft_operation_orphan(PgraftNode *node, PgraftOperation *op)
{
	PgraftOperation *orphan = pgraft_operation_new();
	uint32		generation;

	if (orphan == NULL)
		return false;
	pgraft_operation_begin(node, orphan, -1);
	generation = orphan->generation;
	*orphan = *op;
	orphan->generation = generation;
	orphan->slot = -1;
	orphan->orphan = true;
	orphan->old_token = pgraft_operation_token(op);
	op->changes = NULL;
	pgraft_operation_answer(node, op, PGRAFT_RESULT_UNKNOWN, NULL);
	ereport(LOG,
			(errmsg("pgraft goes on with a change of members that nobody waits for any more")));
	return true;
}

static void
drop_operation(PgraftOperation *op)
{
	int			number = (int) (op - operations);
	int			i;

	op->used = false;
	if (op->changes != NULL)
		pfree(op->changes);
	op->changes = NULL;
	for (i = 0; i < n_active; i++)
	{
		if (active[i] == number)
		{
			active[i] = active[--n_active];
			return;
		}
	}
}

/*
 * Both the table entry and its use, for tokens that come back later.  An orphan
 * keeps that of before, by which the leader may know it.
 */
uint64
pgraft_operation_token(const PgraftOperation *op)
{
	if (op->orphan)
		return op->old_token;
	return ((uint64) op->generation << 32) | (uint32) (op - operations);
}

PgraftOperation *
pgraft_operation_of_token(uint64 token)
{
	uint32		number = (uint32) token;
	PgraftOperation *op;
	int			i;

	if (number >= (uint32) n_operations)
		return NULL;
	op = &operations[number];
	if (op->used && !op->orphan && op->generation == (uint32) (token >> 32))
		return op;
	for (i = 0; i < n_active; i++)
	{
		op = &operations[active[i]];
		if (op->orphan && op->old_token == token)
			return op;
	}
	return NULL;
}

void
pgraft_operation_answer(PgraftNode *node, PgraftOperation *op,
						PgraftResult result, const char *detail)
{
	PgraftSlot *slot = pgraft_operation_slot(op);

	/* a refusal says nothing about an attempt that was not answered */
	if (slot != NULL && result != PGRAFT_RESULT_OK && pgraft_slot_proposed(slot) &&
		(op->phase == PGRAFT_PHASE_FORWARDED || op->phase == PGRAFT_PHASE_PROPOSED ||
		 (op->kind == PGRAFT_REQUEST_PROPOSE && op->again)))
		result = PGRAFT_RESULT_UNKNOWN;

	if (op->orphan)
	{
		if (result == PGRAFT_RESULT_OK)
			ereport(LOG,
					(errmsg("pgraft completed the change of members that nobody waited for")));
		else
			ereport(LOG,
					(errmsg("pgraft gave up the change of members that nobody waited for"),
					 detail != NULL && detail[0] != '\0' ? errdetail("%s", detail) : 0));
	}
	else if (slot == NULL)
	{
		raft_index	index = op->index;

		/* an index tells the sender that it was begun, see pgraft_service_reply() */
		if (result == PGRAFT_RESULT_NOT_LEADER && op->phase != PGRAFT_PHASE_WAITING)
			index = Max(index, 1);
		pgraft_send_reply(node, op->peer, op->request, result, index, detail);
	}
	else
	{
		slot->result = result;
		if (slot->index == 0)
			slot->index = op->index;
		strlcpy(slot->detail, detail != NULL ? detail : "", sizeof(slot->detail));
		if (result != PGRAFT_RESULT_OK)
			node->status.proposals_failed++;
		pgraft_slot_answer(slot);
	}
	drop_operation(op);
}

/* Back to the start, to be tried again after `delay` ms or a change of leader. */
void
pgraft_operation_wait(PgraftNode *node, PgraftOperation *op, raft_time delay)
{
	op->phase = PGRAFT_PHASE_WAITING;
	op->retry_at = node->now + delay;
}

void
pgraft_service_fail_all(PgraftNode *node, const char *detail)
{
	while (n_active > 0)
	{
		pgraft_operation_fail(node, &operations[active[n_active - 1]], detail);
	}
}

/* Unknown when the request may have had an effect, else failed. */
void
pgraft_operation_fail(PgraftNode *node, PgraftOperation *op, const char *detail)
{
	PgraftSlot *slot = pgraft_operation_slot(op);
	PgraftResult result;

	if (slot == NULL)
		result = PGRAFT_RESULT_NOT_LEADER;	/* its sender asks the next leader */
	else if (pgraft_slot_proposed(slot))
		result = PGRAFT_RESULT_UNKNOWN;
	else if (ShutdownRequestPending)
		result = PGRAFT_RESULT_SHUTDOWN;
	else
		result = PGRAFT_RESULT_FAILED;
	pgraft_operation_answer(node, op, result, detail);
}

PgraftResult
pgraft_result_of_raft(int error)
{
	switch (error)
	{
		case RAFT_OK:
			return PGRAFT_RESULT_OK;
		case RAFT_E_NOT_LEADER:
			return PGRAFT_RESULT_NOT_LEADER;
		case RAFT_E_BUSY:
		case RAFT_E_TRANSFERRING:
		case RAFT_E_NOT_READY:
			return PGRAFT_RESULT_BUSY;
		case RAFT_E_TOO_LARGE:
			return PGRAFT_RESULT_TOO_LARGE;
		case RAFT_E_INVALID:
			return PGRAFT_RESULT_INVALID;
		case RAFT_E_CHANGE_PENDING:
			return PGRAFT_RESULT_CHANGE_PENDING;
		case RAFT_E_UNKNOWN_MEMBER:
			return PGRAFT_RESULT_UNKNOWN_MEMBER;
		case RAFT_E_MEMBER_EXISTS:
			return PGRAFT_RESULT_MEMBER_EXISTS;
		case RAFT_E_LAST_VOTER:
			return PGRAFT_RESULT_LAST_VOTER;
		case RAFT_E_TOO_MANY_MEMBERS:
			return PGRAFT_RESULT_TOO_MANY;
		default:
			return PGRAFT_RESULT_FAILED;
	}
}
