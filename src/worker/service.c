/*-------------------------------------------------------------------------
 *
 * service.c
 *	  Requests on their way through the cluster: from the queue in shared
 *	  memory or from another member, to this member's engine or to the leader,
 *	  and back.
 *
 * One table of operations, event loop only.  Rules:
 *
 *	- A command is answered when it has been applied on the member whose
 *	  backend asked, so that the next read there sees it.
 *	- Commands are stamped with (session, sequence) before they enter any log.
 *	  Whenever it is doubtful whether an attempt reached the log, the same
 *	  command is sent again; the state machine applies it once.  So a change of
 *	  leader delays a command and does not fail it.
 *	- slot->proposed is set before the first attempt that may have had an
 *	  effect; it decides between "failed" and "unknown" when the backend's
 *	  patience ends.
 *	- Requests of other members are accepted from members only.
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

#include "pgraft/settings.h"
#include "pgraft/state_machine.h"
#include "pgraft/worker.h"

#define REMOTE_OPERATIONS 256	/* requests of other members in progress */
#define RETRY_MS 20				/* refused for the moment: try again */
#define SWEEP_MS 100			/* looking for backends that went away */
#define LOG_READ_MAX_BYTES (4 * 1024 * 1024)
#define LOG_READ_CHUNK 64		/* entries per read */

static void accept_requests(PgraftNode *node);
static PgraftOperation *new_operation(void);
static void begin_operation(PgraftNode *node, PgraftOperation *op, int slot);
static void drop_operation(PgraftOperation *op);
static void answer_failed(PgraftNode *node, PgraftOperation *op, const char *detail);
static void sweep_abandoned(PgraftNode *node);
static void step_operation(PgraftNode *node, PgraftOperation *op);
static void step_waiting(PgraftNode *node, PgraftOperation *op);
static void step_init(PgraftNode *node, PgraftOperation *op);
static void step_barrier(PgraftNode *node, PgraftOperation *op);
static void step_log_read(PgraftNode *node, PgraftOperation *op);
static void step_snapshot(PgraftNode *node, PgraftOperation *op);
static void propose_waiting(PgraftNode *node);
static bool propose(PgraftNode *node, PgraftOperation **ops, int n);
static bool forward(PgraftNode *node, PgraftOperation *op);
static PgraftSlot *slot_of(const PgraftOperation *op);
static bool is_leader(const PgraftNode *node);
static raft_id current_leader(const PgraftNode *node);
static bool collect_log(PgraftNode *node, PgraftSlot *slot, uint64 first, uint64 last);
static void remote_propose(PgraftNode *node, raft_id peer, const PgraftWireRequest *request);
static void remote_operation(PgraftNode *node, raft_id peer, const PgraftWireRequest *request);
static void send_reply(PgraftNode *node, raft_id peer, raft_u64 request, PgraftResult result,
					   raft_index index, const char *detail);
static uint64 operation_token(const PgraftOperation *op);
static PgraftOperation *operation_of_token(uint64 token);

/* operations[slot] for our own slots, then REMOTE_OPERATIONS more */
static PgraftOperation *operations = NULL;
static int	n_operations = 0;
static int *active = NULL;		/* numbers of used operations, dense */
static int	n_active = 0;
static PgraftOperation **batch = NULL;
static struct raft_proposal *proposals = NULL;
static raft_time next_sweep = 0;
static unsigned char *frame_buffer = NULL;
static size_t frame_buffer_size = 0;

void
pgraft_service_begin(PgraftNode *node)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	int			limit = 4096;	/* greatest pgraft.batch_size */

	n_operations = pgraft_shared->n_slots + REMOTE_OPERATIONS;
	operations = palloc0(sizeof(PgraftOperation) * n_operations);
	active = palloc(sizeof(int) * n_operations);
	batch = palloc(sizeof(PgraftOperation *) * limit);
	proposals = palloc(sizeof(struct raft_proposal) * limit);
	n_active = 0;
	MemoryContextSwitchTo(old);
	node->boot_session = pgraft_random_u64() & ~(raft_u64) 0xffff;
	if (node->boot_session == 0)
		node->boot_session = 0x10000;
}

/* ----------------------------------------------------------------
 * The table
 * ----------------------------------------------------------------
 */

static PgraftSlot *
slot_of(const PgraftOperation *op)
{
	return op->slot >= 0 ? &pgraft_shared->slots[op->slot] : NULL;
}

static bool
is_leader(const PgraftNode *node)
{
	struct raft_status status;

	if (node->raft == NULL)
		return false;
	raft_status(node->raft, &status);
	return status.state == RAFT_LEADER;
}

static raft_id
current_leader(const PgraftNode *node)
{
	struct raft_status status;

	if (node->raft == NULL)
		return 0;
	raft_status(node->raft, &status);
	return status.leader;
}

static PgraftOperation *
new_operation(void)
{
	int			i;

	for (i = pgraft_shared->n_slots; i < n_operations; i++)
		if (!operations[i].used)
			break;
	if (i == n_operations)
		return NULL;
	return &operations[i];
}

static void
begin_operation(PgraftNode *node, PgraftOperation *op, int slot)
{
	uint32		generation = op->generation + 1;

	memset(op, 0, sizeof(*op));
	op->used = true;
	op->slot = slot;
	op->generation = generation;
	op->started = node->now;
	active[n_active++] = (int) (op - operations);
}

static void
drop_operation(PgraftOperation *op)
{
	int			number = (int) (op - operations);
	int			i;

	op->used = false;
	for (i = 0; i < n_active; i++)
	{
		if (active[i] == number)
		{
			active[i] = active[--n_active];
			return;
		}
	}
}

/* Both the table entry and its use, for tokens that come back later. */
static uint64
operation_token(const PgraftOperation *op)
{
	return ((uint64) op->generation << 32) | (uint32) (op - operations);
}

static PgraftOperation *
operation_of_token(uint64 token)
{
	uint32		number = (uint32) token;
	PgraftOperation *op;

	if (number >= (uint32) n_operations)
		return NULL;
	op = &operations[number];
	if (!op->used || op->generation != (uint32) (token >> 32))
		return NULL;
	return op;
}

void
pgraft_operation_answer(PgraftNode *node, PgraftOperation *op,
						PgraftResult result, const char *detail)
{
	PgraftSlot *slot = slot_of(op);

	if (slot == NULL)
		send_reply(node, op->peer, op->request, result, op->index, detail);
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
		answer_failed(node, &operations[active[n_active - 1]], detail);
	}
}

/* Unknown when the request may have had an effect, else failed. */
static void
answer_failed(PgraftNode *node, PgraftOperation *op, const char *detail)
{
	PgraftSlot *slot = slot_of(op);
	bool		proposed = slot != NULL && pg_atomic_read_u32(&slot->proposed) != 0;

	pgraft_operation_answer(node, op,
							proposed ? PGRAFT_RESULT_UNKNOWN : PGRAFT_RESULT_FAILED, detail);
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

/* ----------------------------------------------------------------
 * One turn
 * ----------------------------------------------------------------
 */

void
pgraft_service_turn(PgraftNode *node)
{
	int			i;

	accept_requests(node);
	if (node->now >= next_sweep)
	{
		sweep_abandoned(node);
		next_sweep = node->now + SWEEP_MS;
	}
	propose_waiting(node);

	/* answering moves the last entry into the answered one's place */
	for (i = n_active - 1; i >= 0; i--)
		if (i < n_active)
			step_operation(node, &operations[active[i]]);
	node->status.queue_depth = n_active;
}

/* The loop may sleep until then as far as this file is concerned. */
raft_time
pgraft_service_deadline(PgraftNode *node)
{
	raft_time	deadline = node->now + 3600 * 1000;
	int			i;

	if (n_active > 0)
		deadline = next_sweep;
	for (i = 0; i < n_active; i++)
	{
		const PgraftOperation *op = &operations[active[i]];

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
			PgraftOperation *op = &operations[slots[i]];

			begin_operation(node, op, slots[i]);
			op->kind = slot->kind;
			op->argument = slot->argument;
			op->argument2 = slot->argument2;
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
		}
	}
}

static void
sweep_abandoned(PgraftNode *node)
{
	int			i;

	for (i = n_active - 1; i >= 0; i--)
	{
		PgraftOperation *op = &operations[active[i]];
		PgraftSlot *slot = slot_of(op);

		if (slot != NULL && pgraft_slot_abandoned(slot))
			pgraft_operation_answer(node, op, PGRAFT_RESULT_UNKNOWN, NULL);
	}
}

static void
step_operation(PgraftNode *node, PgraftOperation *op)
{
	struct raft_status status;

	if (node->state == PGRAFT_WORKER_FAILED)
	{
		answer_failed(node, op, node->failure);
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
		pgraft_operation_answer(node, op,
								op->again && op->kind == PGRAFT_REQUEST_REMOVE_MEMBER &&
								op->argument == node->identity.node_id ?
								PGRAFT_RESULT_OK : PGRAFT_RESULT_REMOVED, NULL);
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
	if (is_leader(node))
	{
		if (op->kind == PGRAFT_REQUEST_READ_BARRIER)
			step_barrier(node, op);
		else if (op->kind != PGRAFT_REQUEST_PROPOSE)	/* see propose_waiting() */
			pgraft_member_operation(node, op);
		return;
	}
	if (op->slot < 0)
	{
		/* its sender knows the new leader as well as we do */
		pgraft_operation_answer(node, op, PGRAFT_RESULT_NOT_LEADER, NULL);
		return;
	}
	if (!forward(node, op))
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

	if (node->raft == NULL || n_active == 0 || !is_leader(node))
		return;
	for (i = 0; i < n_active; i++)
	{
		PgraftOperation *op = &operations[active[i]];

		if (op->kind != PGRAFT_REQUEST_PROPOSE || op->slot < 0 ||
			op->phase != PGRAFT_PHASE_WAITING || node->now < op->retry_at)
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

	if (pgraft_flush_no_space(node->flush))
	{
		for (i = 0; i < n; i++)
			pgraft_operation_answer(node, ops[i], PGRAFT_RESULT_NO_SPACE, NULL);
		return false;
	}
	for (i = 0; i < n; i++)
	{
		PgraftSlot *slot = slot_of(ops[i]);

		proposals[i].length = slot->length;
		proposals[i].data = pgraft_slot_payload(slot);
	}
	result = raft_propose(node->raft, proposals, (size_t) n, &first, &term);
	if (result == RAFT_OK)
	{
		node->status.batches++;
		for (i = 0; i < n; i++)
		{
			pg_atomic_write_u32(&slot_of(ops[i])->proposed, 1);
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
		return propose(node, ops, n / 2) && propose(node, ops + n / 2, n - n / 2);
	}
	if (result == RAFT_E_TOO_LARGE || result == RAFT_E_INVALID)
	{
		pgraft_operation_answer(node, ops[0], pgraft_result_of_raft(result), NULL);
		return true;
	}
	for (i = 0; i < n; i++)
		pgraft_operation_wait(node, ops[i], RETRY_MS);
	return false;
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
	op = &operations[number];
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
	int			result = raft_read(node->raft, operation_token(op));

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
	PgraftOperation *op = operation_of_token(read->token);

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
	PgraftSlot *slot = slot_of(op);
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
		pgraft_operation_answer(node, op, PGRAFT_RESULT_FAILED, error.message);
		return;
	}
	op->index = index;
	op->phase = PGRAFT_PHASE_SNAPSHOT;
	if (node->snapshot == NULL)
		pgraft_operation_answer(node, op, PGRAFT_RESULT_OK, NULL);
}

void
pgraft_service_snapshot_done(PgraftNode *node, raft_index index, bool success)
{
	int			i;

	for (i = n_active - 1; i >= 0; i--)
	{
		PgraftOperation *op = &operations[active[i]];

		if (op->phase == PGRAFT_PHASE_SNAPSHOT && op->index <= index)
			pgraft_operation_answer(node, op,
									success ? PGRAFT_RESULT_OK : PGRAFT_RESULT_FAILED,
									success ? NULL : "The snapshot could not be written.");
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
		pgraft_operation_answer(node, op, PGRAFT_RESULT_FAILED, node->failure);
		return;
	}
	if (node->raft == NULL && (pgraft_initial_cluster[0] == '\0' || pgraft_node_id == 1))
	{
		if (!pgraft_node_bootstrap(node, &error))
		{
			pgraft_report(LOG, &error);
			pgraft_operation_answer(node, op,
									error.code == PGRAFT_ERR_CONFIG ?
									PGRAFT_RESULT_INVALID : PGRAFT_RESULT_FAILED,
									error.message);
			return;
		}
		slot_of(op)->flag = 1;
		pg_atomic_write_u32(&slot_of(op)->proposed, 1);
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

/* ----------------------------------------------------------------
 * Between members
 * ----------------------------------------------------------------
 */

static unsigned char *
reserve_frame(size_t length)
{
	if (length > frame_buffer_size)
	{
		if (frame_buffer != NULL)
			pfree(frame_buffer);
		frame_buffer = MemoryContextAlloc(TopMemoryContext, length + 1024);
		frame_buffer_size = length + 1024;
	}
	return frame_buffer;
}

/* Sends an operation to the leader; false when there is none to send it to. */
static bool
forward(PgraftNode *node, PgraftOperation *op)
{
	PgraftSlot *slot = slot_of(op);
	PgraftWireRequest request;
	raft_id		leader = current_leader(node);
	size_t		length;
	unsigned char *buffer;

	if (leader == 0 || leader == node->identity.node_id || node->net == NULL)
		return false;
	memset(&request, 0, sizeof(request));
	request.request = operation_token(op);
	request.kind = op->kind;
	request.argument = op->argument;
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
	if (op->again)
		request.kind |= PGRAFT_FORWARD_AGAIN;
	length = pgraft_wire_request_bytes(&request);
	buffer = reserve_frame(length);
	pgraft_wire_encode_request(buffer, &request);

	/* set first: once it is sent, nobody can say that it was not */
	if (op->kind != PGRAFT_REQUEST_READ_BARRIER)
		pg_atomic_write_u32(&slot->proposed, 1);
	if (!pgraft_net_send_frame(node->net, leader, PGRAFT_FRAME_REQUEST, buffer, length))
	{
		if (op->attempts == 0)
			pg_atomic_write_u32(&slot->proposed, 0);
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
		send_reply(node, header->from, request.request, PGRAFT_RESULT_REMOVED, 0, NULL);
		return 0;
	}
	if (!is_leader(node))
	{
		send_reply(node, header->from, request.request, PGRAFT_RESULT_NOT_LEADER, 0, NULL);
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
	else if (pgraft_flush_no_space(node->flush))
		result = PGRAFT_RESULT_NO_SPACE;
	else
		result = pgraft_result_of_raft(raft_propose(node->raft, &proposal, 1, &index, &term));
	if (result == PGRAFT_RESULT_OK)
	{
		node->status.batches++;
		node->status.proposals++;
		node->status.proposal_bytes += proposal.length;
		return;					/* it is answered by being applied */
	}
	send_reply(node, peer, request->request, result, index, NULL);
}

static void
remote_operation(PgraftNode *node, raft_id peer, const PgraftWireRequest *request)
{
	PgraftOperation *op;
	struct raft_member member;
	int			kind = request->kind & ~PGRAFT_FORWARD_AGAIN;
	int			i;

	memset(&member, 0, sizeof(member));
	if (kind < PGRAFT_REQUEST_READ_BARRIER || kind > PGRAFT_REQUEST_STEP_DOWN ||
		((kind == PGRAFT_REQUEST_ADD_MEMBER || kind == PGRAFT_REQUEST_UPDATE_MEMBER) &&
		 !pgraft_member_decode(&member, request->data, request->length)))
	{
		send_reply(node, peer, request->request, PGRAFT_RESULT_INVALID, 0,
				   "The leader does not understand the request.");
		return;
	}
	for (i = 0; i < n_active; i++)
	{
		op = &operations[active[i]];
		if (op->slot < 0 && op->peer == peer && op->request == request->request)
			return;				/* sent again, still being worked on */
	}
	op = new_operation();
	if (op == NULL)
	{
		send_reply(node, peer, request->request, PGRAFT_RESULT_BUSY, 0, NULL);
		return;
	}
	begin_operation(node, op, -1);
	op->peer = peer;
	op->request = request->request;
	op->kind = kind;
	op->argument = request->argument;
	op->member = member;
	op->again = (request->kind & PGRAFT_FORWARD_AGAIN) != 0;
}

static void
send_reply(PgraftNode *node, raft_id peer, raft_u64 request, PgraftResult result,
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
	op = operation_of_token(reply.request);
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
			if (op->kind == PGRAFT_REQUEST_REMOVE_MEMBER &&
				op->argument == node->identity.node_id)
				op->index = 0;
			break;
		case PGRAFT_RESULT_NOT_LEADER:
		case PGRAFT_RESULT_BUSY:
			if (op->attempts <= 1)
				pg_atomic_write_u32(&slot_of(op)->proposed, 0);
			pgraft_operation_wait(node, op, RETRY_MS);
			break;
		default:
			pgraft_operation_answer(node, op, (PgraftResult) reply.result, detail);
			break;
	}
	return 0;
}

/* Whatever was with the old leader, or in our log, is sent again at once. */
void
pgraft_service_leader_changed(PgraftNode *node)
{
	raft_id		leader = current_leader(node);
	struct raft_status status;
	int			i;

	raft_status(node->raft, &status);
	for (i = 0; i < n_active; i++)
	{
		PgraftOperation *op = &operations[active[i]];
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

	for (i = 0; i < n_active; i++)
	{
		PgraftOperation *op = &operations[active[i]];

		if (op->phase == PGRAFT_PHASE_FORWARDED && op->leader == peer)
		{
			op->again = true;
			pgraft_operation_wait(node, op, RETRY_MS);
		}
	}
}
