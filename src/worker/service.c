/*-------------------------------------------------------------------------
 *
 * service.c
 *	  Takes requests out of the queue in shared memory and brings each to its
 *	  end: through this member's engine, or through the leader (forward.c).
 *
 * Event loop only; the table of operations is in operations.c.  Rules:
 *
 *	- A command is answered when it has been applied on the member whose
 *	  backend asked, so that the next read there sees it.
 *	- Commands are stamped with (session, sequence) before they enter any log.
 *	  Whenever it is doubtful whether an attempt reached the log, the same
 *	  command is sent again; the state machine applies it once.  So a change of
 *	  leader delays a command and does not fail it.
 *	- A slot is marked "proposed" before the first attempt that may have an
 *	  effect; that decides between "failed" and "unknown" when the backend's
 *	  patience ends.  A slot whose backend has gone before begins nothing.
 *
 * Changes of membership and leadership are in members.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "pgraft/ha_state.h"
#include "pgraft/question.h"
#include "pgraft/settings.h"
#include "pgraft/state_machine.h"
#include "pgraft/worker.h"

#define RETRY_MS 20				/* refused for the moment: try again */
#define SWEEP_MS 100			/* looking for backends that went away */
#define LOG_READ_MAX_BYTES (4 * 1024 * 1024)
#define LOG_READ_CHUNK 64		/* entries per read */

static void accept_requests(PgraftNode *node);
static void sweep_abandoned(PgraftNode *node);
static bool leaves_something(const PgraftOperation *op);
static void step_operation(PgraftNode *node, PgraftOperation *op);
static void step_waiting(PgraftNode *node, PgraftOperation *op);
static void step_init(PgraftNode *node, PgraftOperation *op);
static void step_barrier(PgraftNode *node, PgraftOperation *op);
static void step_log_read(PgraftNode *node, PgraftOperation *op);
static void step_snapshot(PgraftNode *node, PgraftOperation *op);
static void propose_waiting(PgraftNode *node);
static bool propose(PgraftNode *node, PgraftOperation **ops, int n);
static bool disk_accepts(PgraftNode *node, PgraftOperation **ops, int n);
static void hold_back(PgraftNode *node, PgraftOperation **ops, int n);
static bool collect_log(PgraftNode *node, PgraftSlot *slot, uint64 first, uint64 last);

static PgraftOperation *batch[PGRAFT_BATCH_MAX];
static struct raft_proposal proposals[PGRAFT_BATCH_MAX];
static raft_time next_sweep = 0;

/* ----------------------------------------------------------------
 * One turn
 * ----------------------------------------------------------------
 */

/* Takes new requests in and proposes what waits for it. */
void
pgraft_service_propose(PgraftNode *node)
{
	accept_requests(node);
	if (node->now >= next_sweep)
	{
		sweep_abandoned(node);
		next_sweep = node->now + SWEEP_MS;
	}
	propose_waiting(node);
}

/* Goes one step on with every request; the status must have been published. */
void
pgraft_service_step(PgraftNode *node)
{
	int			i;

	/* answering moves the last entry into the answered one's place */
	for (i = pgraft_operation_count() - 1; i >= 0; i--)
		if (i < pgraft_operation_count())
			step_operation(node, pgraft_operation_active(i));
	node->status.queue_depth = pgraft_operation_count();
}

/* The loop may sleep until then as far as this file is concerned. */
raft_time
pgraft_service_deadline(PgraftNode *node)
{
	raft_time	deadline = node->now + 3600 * 1000;
	int			i;

	if (pgraft_operation_count() > 0)
		deadline = next_sweep;
	for (i = 0; i < pgraft_operation_count(); i++)
	{
		const PgraftOperation *op = pgraft_operation_active(i);

		if (op->retry_at > 0 && op->retry_at < deadline &&
			(op->phase == PGRAFT_PHASE_WAITING || op->phase == PGRAFT_PHASE_FORWARDED))
			deadline = op->retry_at;
	}
	return deadline;
}

static void
accept_requests(PgraftNode *node)
{
	int			slots[64];
	int			n;
	int			i;

	while ((n = pgraft_queue_take(slots, lengthof(slots))) > 0)
	{
		for (i = 0; i < n; i++)
		{
			PgraftSlot *slot = &pgraft_shared->slots[slots[i]];
			PgraftOperation *op = pgraft_operation_of_slot(slots[i]);

			pgraft_operation_begin(node, op, slots[i]);
			op->kind = slot->kind;
			op->argument = slot->argument;
			op->argument2 = slot->argument2;
			op->timeout = (raft_time) slot->timeout_ms;
			if (op->kind == PGRAFT_REQUEST_PROPOSE)
				pgraft_command_stamp((unsigned char *) unconstify(void *, pgraft_slot_payload(slot)),
									 node->boot_session | (uint64) slots[i],
									 slot->sequence);
			else if (op->kind == PGRAFT_REQUEST_ADD_MEMBER ||
					 op->kind == PGRAFT_REQUEST_UPDATE_MEMBER)
			{
				if (slot->length == sizeof(struct raft_member))
					memcpy(&op->member, pgraft_slot_payload(slot), sizeof(op->member));
				op->argument = op->member.id;
			}
			else if (op->kind == PGRAFT_REQUEST_CHANGE_MEMBERS)
				pgraft_changes_keep(op, pgraft_slot_payload(slot),
									(int) (slot->length / sizeof(struct raft_change)));
		}
	}
}

/*
 * The one place where an operation whose backend has gone ends: an attempt that
 * may not act leaves it as it is.
 */
static void
sweep_abandoned(PgraftNode *node)
{
	int			i;

	for (i = pgraft_operation_count() - 1; i >= 0; i--)
	{
		PgraftOperation *op = pgraft_operation_active(i);
		PgraftSlot *slot = pgraft_operation_slot(op);

		if (slot == NULL || !pgraft_slot_abandoned(slot))
			continue;
		if (leaves_something(op))
			(void) pgraft_operation_orphan(node, op);
		else
			pgraft_operation_answer(node, op, PGRAFT_RESULT_UNKNOWN, NULL);
	}
}

/*
 * Members that were added for a change must become what it wants, or be taken
 * out again, whether anybody waits for it or not, and whoever leads meanwhile.
 */
static bool
leaves_something(const PgraftOperation *op)
{
	return (op->kind == PGRAFT_REQUEST_ADD_MEMBER ||
			op->kind == PGRAFT_REQUEST_CHANGE_MEMBERS) &&
		op->phase != PGRAFT_PHASE_APPLYING &&
		(op->phase != PGRAFT_PHASE_WAITING || op->again);
}

static void
step_operation(PgraftNode *node, PgraftOperation *op)
{
	struct raft_status status;

	if (node->state == PGRAFT_WORKER_FAILED)
	{
		pgraft_operation_fail(node, op, node->failure);
		return;
	}
	if (op->kind == PGRAFT_REQUEST_INIT)
	{
		step_init(node, op);
		return;
	}
	if (node->raft == NULL)
	{
		pgraft_operation_answer(node, op, PGRAFT_RESULT_NOT_INITIALIZED,
								pgraft_node_id == 0 ? "\"pgraft.node_id\" is not set." :
								node->failure);
		return;
	}
	if (node->state == PGRAFT_WORKER_REMOVED && op->kind != PGRAFT_REQUEST_LOG_READ)
	{
		if (op->phase == PGRAFT_PHASE_COMMITTING)
			op->index = raft_get_config(node->raft)->index;

		/* other members have not been removed; they ask who leads now */
		pgraft_operation_answer(node, op,
								pgraft_is_own_removal(node, op) ? PGRAFT_RESULT_OK :
								pgraft_operation_is_remote(op) ? PGRAFT_RESULT_NOT_LEADER :
								PGRAFT_RESULT_REMOVED, NULL);
		return;
	}
	switch (op->phase)
	{
		case PGRAFT_PHASE_WAITING:
			if (node->now >= op->retry_at)
				step_waiting(node, op);
			break;
		case PGRAFT_PHASE_FORWARDED:
			if (node->now >= op->retry_at)
			{
				op->again = true;
				pgraft_operation_wait(node, op, 0);
				step_waiting(node, op);
			}
			break;
		case PGRAFT_PHASE_APPLYING:
			raft_status(node->raft, &status);
			if (status.applied_index >= op->index)
				pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
			break;
		case PGRAFT_PHASE_COMMITTING:
		case PGRAFT_PHASE_JOINING:
		case PGRAFT_PHASE_UNDOING:
		case PGRAFT_PHASE_MOVING:
			pgraft_member_operation(node, op);
			break;
		default:
			break;				/* an event ends it */
	}
}

static void
step_waiting(PgraftNode *node, PgraftOperation *op)
{
	switch (op->kind)
	{
		case PGRAFT_REQUEST_LOG_READ:
			step_log_read(node, op);
			return;
		case PGRAFT_REQUEST_SNAPSHOT:
			step_snapshot(node, op);
			return;
		default:
			break;
	}
	if (pgraft_is_leader_here(node))
	{
		if (op->kind == PGRAFT_REQUEST_READ_BARRIER)
			step_barrier(node, op);
		else if (op->kind != PGRAFT_REQUEST_PROPOSE)	/* see propose_waiting() */
			pgraft_member_operation(node, op);
		return;
	}
	if (pgraft_operation_is_remote(op))
	{
		/* its sender knows the new leader as well as we do */
		pgraft_operation_answer(node, op, PGRAFT_RESULT_NOT_LEADER, NULL);
		return;
	}

	/* it may be committed elsewhere, but this member could not follow for long */
	if (op->kind == PGRAFT_REQUEST_PROPOSE &&
		pgraft_node_disk_accepts(node) == PGRAFT_RESULT_NO_SPACE)
	{
		pgraft_operation_answer(node, op, PGRAFT_RESULT_NO_SPACE, NULL);
		return;
	}
	if (!pgraft_forward(node, op))
		op->retry_at = node->now + RETRY_MS;
}

/* ----------------------------------------------------------------
 * Commands
 * ----------------------------------------------------------------
 */

/* The leader's own commands, as many as allowed in one proposal. */
static void
propose_waiting(PgraftNode *node)
{
	int			n = 0;
	int			i;

	if (node->raft == NULL || pgraft_operation_count() == 0 || !pgraft_is_leader_here(node))
		return;
	for (i = 0; i < pgraft_operation_count(); i++)
	{
		PgraftOperation *op = pgraft_operation_active(i);

		if (op->kind != PGRAFT_REQUEST_PROPOSE || op->slot < 0 ||
			op->phase != PGRAFT_PHASE_WAITING || node->now < op->retry_at ||
			!pgraft_slot_set_proposed(pgraft_operation_slot(op)))
			continue;
		batch[n++] = op;
		if (n == pgraft_batch_size)
		{
			if (!propose(node, batch, n))
				return;
			n = 0;
		}
	}
	if (n > 0)
		(void) propose(node, batch, n);
}

/* False when it is of no use to go on now. */
static bool
propose(PgraftNode *node, PgraftOperation **ops, int n)
{
	raft_index	first;
	raft_term	term;
	int			result;
	int			i;

	if (!disk_accepts(node, ops, n))
		return false;
	for (i = 0; i < n; i++)
	{
		PgraftSlot *slot = pgraft_operation_slot(ops[i]);

		proposals[i].length = slot->length;
		proposals[i].data = pgraft_slot_payload(slot);
	}
	result = raft_propose(node->raft, proposals, (size_t) n, &first, &term);
	if (result == RAFT_OK)
	{
		node->status.batches++;
		for (i = 0; i < n; i++)
		{
			ops[i]->phase = PGRAFT_PHASE_PROPOSED;
			ops[i]->index = first + (raft_index) i;
			ops[i]->term = term;
			ops[i]->attempts++;
			node->status.proposals++;
			node->status.proposal_bytes += proposals[i].length;
		}
		return true;
	}
	if (n > 1 && (result == RAFT_E_BUSY || result == RAFT_E_TOO_LARGE))
	{
		/* half of them may fit */
		if (propose(node, ops, n / 2))
			return propose(node, ops + n / 2, n - n / 2);
		hold_back(node, ops + n / 2, n - n / 2);
		return false;
	}
	if (result == RAFT_E_TOO_LARGE || result == RAFT_E_INVALID)
	{
		pgraft_operation_answer(node, ops[0], pgraft_result_of_raft(result), NULL);
		return true;
	}
	hold_back(node, ops, n);
	return false;
}

/* If not, the commands are refused or held back. */
static bool
disk_accepts(PgraftNode *node, PgraftOperation **ops, int n)
{
	PgraftResult result = pgraft_node_disk_accepts(node);
	int			i;

	if (result == PGRAFT_RESULT_OK)
		return true;
	if (result == PGRAFT_RESULT_BUSY)
		hold_back(node, ops, n);
	else
		for (i = 0; i < n; i++)
			pgraft_operation_answer(node, ops[i], result, NULL);
	return false;
}

/* They were not proposed after all. */
static void
hold_back(PgraftNode *node, PgraftOperation **ops, int n)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		if (ops[i]->attempts == 0)
			pgraft_slot_clear_proposed(pgraft_operation_slot(ops[i]));
		pgraft_operation_wait(node, ops[i], RETRY_MS);
	}
}

/* An entry was applied here: maybe the command of one of our backends. */
void
pgraft_service_applied(PgraftNode *node, const struct raft_entry *entry,
					   const PgraftApplyResult *result)
{
	PgraftCommand command;
	PgraftOperation *op;
	PgraftSlot *slot;
	uint32		number;

	if (entry->type != RAFT_ENTRY_NORMAL ||
		!pgraft_command_decode(entry->data, entry->length, &command) ||
		(command.session & ~(uint64) 0xffff) != node->boot_session)
		return;
	number = (uint32) (command.session & 0xffff);
	if (number >= (uint32) pgraft_shared->n_slots)
		return;
	op = pgraft_operation_of_slot((int) number);
	slot = &pgraft_shared->slots[number];
	if (!op->used || op->kind != PGRAFT_REQUEST_PROPOSE || slot->sequence != command.sequence)
		return;
	node->status.proposals_committed++;
	op->index = result->index;
	slot->index = result->index;
	slot->value = result->value;
	slot->flag = result->flag;

	/* answered when the status shows the new applied index */
	op->phase = PGRAFT_PHASE_APPLYING;
}

/* ----------------------------------------------------------------
 * Reads
 * ----------------------------------------------------------------
 */

static void
step_barrier(PgraftNode *node, PgraftOperation *op)
{
	int			result = raft_read(node->raft, pgraft_operation_token(op));

	if (result == RAFT_OK)
	{
		op->phase = PGRAFT_PHASE_READING;
		node->status.reads_linearizable++;
	}
	else
		pgraft_operation_wait(node, op, RETRY_MS);
}

void
pgraft_service_read_ready(PgraftNode *node, const struct raft_read_result *read)
{
	PgraftOperation *op = pgraft_operation_of_token(read->token);

	if (pgraft_question_token(read->token))
		pgraft_ha_catch_up_answered(node->identity.node_id, read->token,
									read->error == RAFT_OK, read->index);
	if (op == NULL || op->phase != PGRAFT_PHASE_READING)
		return;
	if (read->error != RAFT_OK)
	{
		pgraft_operation_wait(node, op, 0);
		return;
	}
	op->index = read->index;
	if (op->slot < 0)
		pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
	else
		op->phase = PGRAFT_PHASE_APPLYING;
}

/* Entries argument..argument2 as far as they are applied and durable here. */
static void
step_log_read(PgraftNode *node, PgraftOperation *op)
{
	PgraftSlot *slot = pgraft_operation_slot(op);
	struct raft_status status;
	uint64		last = op->argument2;

	raft_status(node->raft, &status);
	if (last > status.applied_index)
		last = status.applied_index;
	if (op->argument < status.first_index && op->argument <= last)
	{
		char		detail[128];

		snprintf(detail, sizeof(detail), "The log of this member begins with entry %lu.",
				 status.first_index);
		pgraft_operation_answer(node, op, PGRAFT_RESULT_COMPACTED, detail);
		return;
	}
	if (last > status.durable_index)
	{
		/* others made a majority; our own disk will have it in a moment */
		op->retry_at = node->now + 1;
		return;
	}
	if (!collect_log(node, slot, op->argument, last))
		return;					/* a job is on its way to be completed */
	op->index = last;
	pgraft_operation_answer(node, op, slot->result, slot->detail);
}

static bool
collect_log(PgraftNode *node, PgraftSlot *slot, uint64 first, uint64 last)
{
	struct raft_entry entries[LOG_READ_CHUNK];
	StringInfoData buffer;

	slot->result = PGRAFT_RESULT_OK;
	slot->detail[0] = '\0';
	initStringInfo(&buffer);
	while (first <= last && buffer.len < LOG_READ_MAX_BYTES)
	{
		size_t		n_read = 0;
		size_t		i;

		if (pgraft_storage_read_entries(node->storage, first,
										Min(last - first + 1, LOG_READ_CHUNK),
										LOG_READ_MAX_BYTES, entries, &n_read) != RAFT_OK ||
			n_read == 0)
		{
			slot->result = PGRAFT_RESULT_FAILED;
			snprintf(slot->detail, sizeof(slot->detail),
					 "Log entry %lu could not be read.", first);
			break;
		}
		for (i = 0; i < n_read; i++)
		{
			PgraftLogReadRecord record;
			static const char zeros[8] = {0};

			memset(&record, 0, sizeof(record));
			record.index = entries[i].index;
			record.term = entries[i].term;
			record.type = entries[i].type;
			record.length = (uint32) entries[i].length;
			appendBinaryStringInfo(&buffer, (char *) &record, sizeof(record));
			if (record.length > 0)
				appendBinaryStringInfo(&buffer, (const char *) entries[i].data, record.length);
			appendBinaryStringInfo(&buffer, zeros, (int) (-(int64) record.length & 7));
		}
		first += n_read;
	}
	if (slot->result == PGRAFT_RESULT_OK && buffer.len > 0)
	{
		slot->reply = dsa_allocate_extended(pgraft_dsa(), buffer.len, DSA_ALLOC_NO_OOM);
		if (DsaPointerIsValid(slot->reply))
		{
			memcpy(dsa_get_address(pgraft_dsa(), slot->reply), buffer.data, buffer.len);
			slot->reply_length = (uint32) buffer.len;
		}
		else
		{
			slot->result = PGRAFT_RESULT_FAILED;
			snprintf(slot->detail, sizeof(slot->detail), "Out of shared memory.");
		}
	}
	pfree(buffer.data);
	return true;
}

static void
step_snapshot(PgraftNode *node, PgraftOperation *op)
{
	PgraftError error;
	raft_index	index;

	memset(&error, 0, sizeof(error));
	if (!pgraft_start_snapshot(node, &index, &error))
	{
		pgraft_operation_answer(node, op, error.code == PGRAFT_ERR_NO_SPACE ?
								PGRAFT_RESULT_NO_SPACE : PGRAFT_RESULT_FAILED,
								error.message);
		return;
	}
	op->index = index;
	op->phase = PGRAFT_PHASE_SNAPSHOT;
	if (node->snapshot == NULL && node->snapshot_job == NULL)
		pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
}

void
pgraft_service_snapshot_done(PgraftNode *node, raft_index index, const PgraftError *error)
{
	PgraftResult result = PGRAFT_RESULT_OK;
	int			i;

	if (error != NULL)
		result = error->code == PGRAFT_ERR_NO_SPACE ? PGRAFT_RESULT_NO_SPACE :
			PGRAFT_RESULT_FAILED;
	for (i = pgraft_operation_count() - 1; i >= 0; i--)
	{
		PgraftOperation *op = pgraft_operation_active(i);

		if (op->phase == PGRAFT_PHASE_SNAPSHOT && op->index <= index)
			pgraft_operation_answer(node, op, result,
									error != NULL ? error->message : NULL);
	}
}

/* ----------------------------------------------------------------
 * Making a cluster
 * ----------------------------------------------------------------
 */

static void
step_init(PgraftNode *node, PgraftOperation *op)
{
	struct raft_status status;
	PgraftError error;

	memset(&error, 0, sizeof(error));
	if (pgraft_node_id == 0)
	{
		pgraft_operation_answer(node, op, PGRAFT_RESULT_NOT_INITIALIZED,
								"\"pgraft.node_id\" is not set.");
		return;
	}
	if (node->net == NULL)
	{
		pgraft_operation_answer(node, op, PGRAFT_RESULT_NOT_LISTENING, node->failure);
		return;
	}
	if (node->raft == NULL && (pgraft_initial_cluster[0] == '\0' || pgraft_node_id == 1))
	{
		if (!pgraft_slot_set_proposed(pgraft_operation_slot(op)))
		{
			pgraft_operation_answer(node, op, PGRAFT_RESULT_UNKNOWN, NULL);
			return;
		}
		if (!pgraft_node_bootstrap(node, &error))
		{
			if (error.code != PGRAFT_ERR_NO_SPACE)
				pgraft_report(LOG, &error);
			pgraft_operation_answer(node, op,
									node->state == PGRAFT_WORKER_FAILED ? PGRAFT_RESULT_UNKNOWN :
									error.code == PGRAFT_ERR_CONFIG ? PGRAFT_RESULT_INVALID :
									error.code == PGRAFT_ERR_NO_SPACE ?
									PGRAFT_RESULT_NO_SPACE : PGRAFT_RESULT_FAILED,
									error.message);
			return;
		}
		pgraft_operation_slot(op)->flag = 1;
		raft_tick(node->raft, node->now);
	}
	if (node->raft == NULL)
		return;					/* the first of pgraft.initial_cluster invites us */
	if (op->phase != PGRAFT_PHASE_LEADING)
	{
		op->phase = PGRAFT_PHASE_LEADING;
		return;
	}
	raft_status(node->raft, &status);
	if (status.leader != 0 && (status.leader != status.id || status.own_term_committed))
		pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
}
