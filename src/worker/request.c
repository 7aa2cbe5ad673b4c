/*-------------------------------------------------------------------------
 *
 * request.c
 *	  The request queue: how a backend asks the consensus worker, waits, and
 *	  learns the outcome.
 *
 * Backend side: pgraft_call().  Worker side: pgraft_queue_take() and
 * pgraft_slot_answer().  The life of a slot is described in request.h.
 *
 * A backend that is cancelled or runs out of time gives its slot up; the
 * command may still be applied later.  Whether it may is what the slot's state
 * says, and the error tells the user: 40003 "outcome unknown" if it may, a
 * plain failure if it cannot.  A cancelled statement keeps its SQLSTATE, 57014,
 * and says in its detail which of both it is.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "pgraft/compat.h"
#include "pgraft/request.h"
#include "pgraft/settings.h"

/* What the user is told of each result, see PgraftResult. */
static const struct
{
	PgraftResult result;
	int			code;
	const char *message;
	const char *hint;
}			result_errors[] = {
	{PGRAFT_RESULT_NOT_INITIALIZED, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		"this server is not a member of a pgraft cluster",
		"Call pgraft_init() to make a cluster, or pgraft_add_node() on a member of an existing one."},
	{PGRAFT_RESULT_NO_WORKER, ERRCODE_CANNOT_CONNECT_NOW,
		"the pgraft consensus worker is not running",
		"Look into the server log; \"max_worker_processes\" may be too low."},
	{PGRAFT_RESULT_NO_LEADER, ERRCODE_CANNOT_CONNECT_NOW,
		"the cluster has no leader",
		"A majority of the voters must be running and reach each other; see pg_stat_pgraft_network."},
	{PGRAFT_RESULT_NOT_LEADER, ERRCODE_CANNOT_CONNECT_NOW,
		"the cluster has no leader",
		"A majority of the voters must be running and reach each other; see pg_stat_pgraft_network."},
	{PGRAFT_RESULT_UNKNOWN, ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN,
		"the outcome of the command is unknown",
		"Check the state before repeating the command."},
	{PGRAFT_RESULT_TOO_LARGE, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
		"the command is too large",
		"The limit is \"pgraft.max_entry_size\"."},
	{PGRAFT_RESULT_INVALID, ERRCODE_INVALID_PARAMETER_VALUE,
		"invalid request",
		NULL},
	{PGRAFT_RESULT_MEMBER_EXISTS, ERRCODE_DUPLICATE_OBJECT,
		"the cluster already has a member with that id or address",
		"See pgraft_get_nodes(); use pgraft_update_node() to change its address."},
	{PGRAFT_RESULT_UNKNOWN_MEMBER, ERRCODE_UNDEFINED_OBJECT,
		"the cluster has no member with that id",
		"See pgraft_get_nodes()."},
	{PGRAFT_RESULT_CHANGE_PENDING, ERRCODE_OBJECT_IN_USE,
		"another change of the membership is not yet complete",
		"Repeat the command when it is."},
	{PGRAFT_RESULT_LAST_VOTER, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		"the cluster cannot go without its last voter",
		"Add another member before removing this one."},
	{PGRAFT_RESULT_TOO_MANY, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
		"the cluster has its greatest possible number of members",
		NULL},
	{PGRAFT_RESULT_UNREACHABLE, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
		"the new member could not be reached",
		"Check that the server runs with pgraft loaded, and its node id, address, port and certificates."},
	{PGRAFT_RESULT_BUSY, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
		"too many commands wait for the cluster",
		NULL},
	{PGRAFT_RESULT_NO_SPACE, ERRCODE_DISK_FULL,
		"no space is left for the consensus log",
		"Free some space; the member goes on by itself."},
	{PGRAFT_RESULT_COMPACTED, ERRCODE_INVALID_PARAMETER_VALUE,
		"the log entry is no longer kept",
		"\"pgraft.max_log_entries\" sets how many entries are kept."},
	{PGRAFT_RESULT_REMOVED, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		"this server was removed from its cluster",
		"Add it again with pgraft_add_node() on a member."},
	{PGRAFT_RESULT_SHUTDOWN, ERRCODE_ADMIN_SHUTDOWN,
		"the pgraft consensus worker is shutting down",
		NULL},
	{PGRAFT_RESULT_NOT_LISTENING, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		"this member cannot listen for other members",
		"Correct the setting; the member tries again every second and after a reload."},
	{PGRAFT_RESULT_BEHIND, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		"the new member did not catch up in time",
		"Nothing was changed.  Add it as a learner first and promote it later, or increase \"pgraft.request_timeout\"."},
	{PGRAFT_RESULT_FAILED, ERRCODE_INTERNAL_ERROR,
		"the pgraft consensus worker could not do that",
		NULL}
};

/* A worker that ended comes back after a second; then no one waits for it. */
#define WORKER_RETURNS_MS 1500
#define WORKER_LOOK_MS 250

/* A slot that this backend waits for, unless it gave it up. */
typedef struct Waiting
{
	PgraftSlot *slot;
	bool		given_up;
	bool		no_worker;		/* ended because there is none */
} Waiting;

static PgraftSlot *claim_slot(raft_time deadline, int timeout_ms);
static int	pop_free_slot(void);
static void push_free_slot(PgraftSlot *slot);
static void fill_slot(PgraftSlot *slot, const PgraftCall *call, int timeout_ms);
static void submit_slot(PgraftSlot *slot);
static bool wait_for_answer(Waiting *waiting, raft_time deadline);
static long ms_until(raft_time deadline);
static bool worker_stays_away(raft_time *since);
static void explain_cancel(void *waiting);
static void take_answer(PgraftSlot *slot, PgraftCall *call);
static uint32 abandon(PgraftSlot *slot);
static void give_up_at_exit(int code, Datum waiting);
static void release_slot(PgraftSlot *slot);
static void raise_timeout(bool proposed, int timeout_ms);
static void raise_no_worker(void);
static void raise_result(const PgraftCall *call);

/* ----------------------------------------------------------------
 * Backend side
 * ----------------------------------------------------------------
 */

void
pgraft_call(PgraftCall *call)
{
	volatile int timeout_ms = call->timeout_ms > 0 ? call->timeout_ms : pgraft_request_timeout;
	raft_time	deadline;
	Waiting		waiting;
	ErrorContextCallback context;
	volatile bool answered = false;

	pgraft_require_preloaded();
	(void) pgraft_dsa();
	deadline = pgraft_monotonic_ms() + (raft_time) timeout_ms;

	waiting.slot = claim_slot(deadline, timeout_ms);
	waiting.given_up = false;
	waiting.no_worker = false;

	/* also when this session is terminated: FATAL passes PG_TRY by */
	PG_ENSURE_ERROR_CLEANUP(give_up_at_exit, PointerGetDatum(&waiting));
	{
		fill_slot(waiting.slot, call, timeout_ms);
		context.callback = explain_cancel;
		context.arg = &waiting;
		context.previous = error_context_stack;
		error_context_stack = &context;
		submit_slot(waiting.slot);
		answered = wait_for_answer(&waiting, deadline);
		error_context_stack = context.previous;
	}
	PG_END_ENSURE_ERROR_CLEANUP(give_up_at_exit, PointerGetDatum(&waiting));

	if (!answered)
	{
		/* the answer may arrive at the very last moment */
		uint32		state = abandon(waiting.slot);

		if (state == PGRAFT_SLOT_SUBMITTED && waiting.no_worker)
			raise_no_worker();
		if (state != PGRAFT_SLOT_DONE)
			raise_timeout(state == PGRAFT_SLOT_PROPOSED, timeout_ms);
	}
	take_answer(waiting.slot, call);
	if (call->result != PGRAFT_RESULT_OK)
		raise_result(call);
}

static PgraftSlot *
claim_slot(raft_time deadline, int timeout_ms)
{
	int			number = pop_free_slot();

	if (number < 0)
	{
		raft_time	away = 0;

		ConditionVariablePrepareToSleep(&pgraft_shared->slot_freed);
		while ((number = pop_free_slot()) < 0)
		{
			long		left = ms_until(deadline);

			/* without a worker, what was abandoned stays in the queue */
			if (worker_stays_away(&away))
				raise_no_worker();
			if (left <= 0)
				break;
			ConditionVariableTimedSleep(&pgraft_shared->slot_freed, Min(left, WORKER_LOOK_MS),
										pgraft_wait_event());
		}
		ConditionVariableCancelSleep();
	}

	if (number < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no place in the request queue became free within %d ms", timeout_ms),
				 errhint("Consider increasing \"pgraft.max_requests\" (now %d).",
						 pgraft_shared->n_slots)));
	return &pgraft_shared->slots[number];
}

static int
pop_free_slot(void)
{
	int			number = -1;

	SpinLockAcquire(&pgraft_shared->mutex);
	if (pgraft_shared->n_free > 0)
	{
		number = pgraft_shared->free_slots[--pgraft_shared->n_free];
		pg_atomic_write_u32(&pgraft_shared->slots[number].state, PGRAFT_SLOT_FILLING);
	}
	SpinLockRelease(&pgraft_shared->mutex);
	return number;
}

static void
push_free_slot(PgraftSlot *slot)
{
	SpinLockAcquire(&pgraft_shared->mutex);
	pg_atomic_write_u32(&slot->state, PGRAFT_SLOT_FREE);
	pgraft_shared->free_slots[pgraft_shared->n_free++] = (int) (slot - pgraft_shared->slots);
	SpinLockRelease(&pgraft_shared->mutex);

	/* always: slots may become free faster than one waiter takes the first */
	ConditionVariableSignal(&pgraft_shared->slot_freed);
}

static void
fill_slot(PgraftSlot *slot, const PgraftCall *call, int timeout_ms)
{
	slot->taken = 0;
	slot->kind = call->kind;
	slot->sequence++;
	slot->argument = call->argument;
	slot->argument2 = call->argument2;
	slot->timeout_ms = timeout_ms;
	slot->latch = MyLatch;
	slot->length = (uint32) call->length;
	slot->payload = InvalidDsaPointer;
	slot->reply = InvalidDsaPointer;
	slot->reply_length = 0;
	slot->result = PGRAFT_RESULT_FAILED;
	slot->index = 0;
	slot->value = 0;
	slot->flag = 0;
	slot->detail[0] = '\0';
	if (call->length <= PGRAFT_SLOT_INLINE)
	{
		if (call->length > 0)
			memcpy(slot->inline_payload, call->data, call->length);
	}
	else
	{
		slot->payload = dsa_allocate(pgraft_dsa(), call->length);
		memcpy(dsa_get_address(pgraft_dsa(), slot->payload), call->data, call->length);
	}
}

static void
submit_slot(PgraftSlot *slot)
{
	PgraftShared *shared = pgraft_shared;
	Latch	   *latch;

	SpinLockAcquire(&shared->mutex);
	Assert(shared->ring_count < (uint32) shared->n_slots);
	shared->ring[(shared->ring_head + shared->ring_count) % shared->n_slots] =
		(int) (slot - shared->slots);
	shared->ring_count++;
	pg_atomic_write_u32(&slot->state, PGRAFT_SLOT_SUBMITTED);
	latch = shared->worker_latch;
	SpinLockRelease(&shared->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

static bool
wait_for_answer(Waiting *waiting, raft_time deadline)
{
	raft_time	away = 0;

	for (;;)
	{
		long		left;

		if (pg_atomic_read_u32(&waiting->slot->state) == PGRAFT_SLOT_DONE)
			return true;
		left = ms_until(deadline);
		waiting->no_worker = worker_stays_away(&away);
		if (left <= 0 || waiting->no_worker)
			return false;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(left, WORKER_LOOK_MS), pgraft_wait_event());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Not by the wall clock, which somebody may set meanwhile; 0 = it is time. */
static long
ms_until(raft_time deadline)
{
	raft_time	now = pgraft_monotonic_ms();

	return now >= deadline ? 0 : (long) (deadline - now);
}

/* It has not been there since *since, and should be back by now. */
static bool
worker_stays_away(raft_time *since)
{
	raft_time	now;

	/* one word, which needs no consistent copy */
	if (*(volatile int *) &pgraft_shared->status.worker_pid != 0)
	{
		*since = 0;
		return false;
	}
	now = pgraft_monotonic_ms();
	if (*since == 0)
		*since = now;
	return now - *since >= WORKER_RETURNS_MS;
}

/*
 * Error context callback, called while the error is being made: gives the slot
 * up, so that what is said of the outcome stays true.
 */
static void
explain_cancel(void *waiting)
{
	Waiting    *given_up = (Waiting *) waiting;
	PgraftSlot *slot = given_up->slot;

	if (given_up->given_up || geterrcode() != ERRCODE_QUERY_CANCELED ||
		slot->kind == PGRAFT_REQUEST_READ_BARRIER || slot->kind == PGRAFT_REQUEST_LOG_READ)
		return;
	switch (abandon(slot))
	{
		case PGRAFT_SLOT_PROPOSED:
			given_up->given_up = true;
			errdetail("The outcome is unknown: the command may have been applied, or may be applied later.");
			errhint("Check the state before repeating the command.");
			break;
		case PGRAFT_SLOT_SUBMITTED:
			given_up->given_up = true;
			errdetail("Nothing was changed.");
			break;
		default:
			/* answered, and still ours */
			if (slot->result == PGRAFT_RESULT_OK)
				errdetail("The command had been carried out.");
			else if (slot->result == PGRAFT_RESULT_UNKNOWN)
				errdetail("The outcome is unknown: the command may have been applied, or may be applied later.");
			break;
	}
}

static void
take_answer(PgraftSlot *slot, PgraftCall *call)
{
	pg_read_barrier();
	call->result = slot->result;
	call->index = slot->index;
	call->value = slot->value;
	call->flag = slot->flag;
	strlcpy(call->detail, slot->detail, sizeof(call->detail));
	call->reply = NULL;
	call->reply_length = slot->reply_length;
	if (DsaPointerIsValid(slot->reply))
	{
		call->reply = MemoryContextAllocExtended(CurrentMemoryContext,
												 slot->reply_length, MCXT_ALLOC_NO_OOM);
		if (call->reply != NULL)
			memcpy(call->reply, dsa_get_address(pgraft_dsa(), slot->reply),
				   slot->reply_length);
	}
	release_slot(slot);
	if (call->reply == NULL && call->reply_length > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
}

/*
 * Leaves the slot to the worker, when it has it.  Returns the state before;
 * FILLING and DONE mean that the slot is still ours.
 */
static uint32
abandon(PgraftSlot *slot)
{
	uint32		state = pg_atomic_read_u32(&slot->state);

	while (state == PGRAFT_SLOT_SUBMITTED || state == PGRAFT_SLOT_PROPOSED)
		if (pg_atomic_compare_exchange_u32(&slot->state, &state, PGRAFT_SLOT_ABANDONED))
			break;
	pg_read_barrier();			/* an answer was written before its state */
	return state;
}

static void
give_up_at_exit(int code, Datum waiting)
{
	Waiting    *given_up = (Waiting *) DatumGetPointer(waiting);
	uint32		state;

	(void) code;
	if (given_up->given_up)
		return;
	given_up->given_up = true;
	state = abandon(given_up->slot);
	if (state == PGRAFT_SLOT_FILLING || state == PGRAFT_SLOT_DONE)
		release_slot(given_up->slot);
}

static void
release_slot(PgraftSlot *slot)
{
	if (DsaPointerIsValid(slot->payload))
		dsa_free(pgraft_dsa(), slot->payload);
	if (DsaPointerIsValid(slot->reply))
		dsa_free(pgraft_dsa(), slot->reply);
	slot->payload = InvalidDsaPointer;
	slot->reply = InvalidDsaPointer;
	push_free_slot(slot);
}

static void
raise_timeout(bool proposed, int timeout_ms)
{
	PgraftStatus *status;

	if (proposed)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
				 errmsg("the cluster did not confirm the command within %d ms", timeout_ms),
				 errdetail("The outcome is unknown: the command may have been applied, or may be applied later."),
				 errhint("Check the state before repeating the command.")));

	status = palloc(sizeof(PgraftStatus));
	pgraft_read_status(status);
	if (status->worker_pid == 0)
		raise_no_worker();
	if (status->raft.leader != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CANNOT_CONNECT_NOW),
				 errmsg("the pgraft consensus worker did not finish the request within %d ms",
						timeout_ms),
				 errdetail("Nothing was changed.  %lu bytes wait for the disk of this member.",
						   status->pending_write_bytes),
				 errhint("The leader is member %u; see pg_stat_pgraft_network and pg_stat_pgraft_storage.",
						 status->raft.leader)));
	ereport(ERROR,
			(errcode(ERRCODE_CANNOT_CONNECT_NOW),
			 errmsg("the cluster had no leader within %d ms", timeout_ms),
			 status->failure[0] != '\0' ?
			 errdetail("Nothing was changed.  %s.", status->failure) :
			 errdetail("Nothing was changed.  This member (state \"%s\", term %lu) knows %d members, %d of them voters.",
					   raft_state_name(status->raft.state), status->raft.term,
					   status->num_nodes, status->num_voters),
			 errhint("A majority of the voters must be running and reach each other; see pg_stat_pgraft_network.")));
}

static void
raise_no_worker(void)
{
	PgraftStatus *status = palloc(sizeof(PgraftStatus));
	PgraftCall	call;

	pgraft_read_status(status);
	memset(&call, 0, sizeof(call));
	call.result = PGRAFT_RESULT_NO_WORKER;
	if (status->failure[0] != '\0')
		snprintf(call.detail, sizeof(call.detail), "%s.", status->failure);
	raise_result(&call);
}

static void
raise_result(const PgraftCall *call)
{
	size_t		i = 0;

	/* the last row stands for everything else */
	while (i < lengthof(result_errors) - 1 && result_errors[i].result != call->result)
		i++;
	ereport(ERROR,
			(errcode(result_errors[i].code),
			 errmsg("%s", result_errors[i].message),
			 call->detail[0] != '\0' ? errdetail("%s", call->detail) : 0,
			 result_errors[i].hint != NULL ? errhint("%s", result_errors[i].hint) : 0));
}

/* ----------------------------------------------------------------
 * Worker side
 * ----------------------------------------------------------------
 */

/*
 * Requests that an earlier worker had taken died with it, their outcome is
 * unknown; the ones still in the ring wait for this worker.
 */
void
pgraft_queue_attach_worker(void)
{
	PgraftShared *shared = pgraft_shared;
	int			i;

	for (i = 0; i < shared->n_slots; i++)
	{
		PgraftSlot *slot = &shared->slots[i];
		uint32		state = pg_atomic_read_u32(&slot->state);

		if (slot->taken &&
			(state == PGRAFT_SLOT_SUBMITTED || state == PGRAFT_SLOT_PROPOSED ||
			 state == PGRAFT_SLOT_ABANDONED))
		{
			slot->result = PGRAFT_RESULT_UNKNOWN;
			pgraft_slot_answer(slot);
		}
	}
	SpinLockAcquire(&shared->mutex);
	shared->worker_latch = MyLatch;
	SpinLockRelease(&shared->mutex);
}

/* before_shmem_exit callback */
void
pgraft_queue_detach_worker(int code, Datum arg)
{
	(void) code;
	(void) arg;
	SpinLockAcquire(&pgraft_shared->mutex);
	pgraft_shared->worker_latch = NULL;
	SpinLockRelease(&pgraft_shared->mutex);
}

int
pgraft_queue_take(int *slots, int max)
{
	PgraftShared *shared = pgraft_shared;
	int			n = 0;

	SpinLockAcquire(&shared->mutex);
	while (n < max && shared->ring_count > 0)
	{
		int			number = shared->ring[shared->ring_head];

		shared->ring_head = (shared->ring_head + 1) % shared->n_slots;
		shared->ring_count--;
		shared->slots[number].taken = 1;
		slots[n++] = number;
	}
	SpinLockRelease(&shared->mutex);
	return n;
}

const void *
pgraft_slot_payload(PgraftSlot *slot)
{
	if (slot->length <= PGRAFT_SLOT_INLINE)
		return slot->inline_payload;
	return dsa_get_address(pgraft_dsa(), slot->payload);
}

bool
pgraft_slot_abandoned(PgraftSlot *slot)
{
	return pg_atomic_read_u32(&slot->state) == PGRAFT_SLOT_ABANDONED;
}

bool
pgraft_slot_set_proposed(PgraftSlot *slot)
{
	uint32		state = PGRAFT_SLOT_SUBMITTED;

	return pg_atomic_compare_exchange_u32(&slot->state, &state, PGRAFT_SLOT_PROPOSED) ||
		state == PGRAFT_SLOT_PROPOSED;
}

void
pgraft_slot_clear_proposed(PgraftSlot *slot)
{
	uint32		state = PGRAFT_SLOT_PROPOSED;

	(void) pg_atomic_compare_exchange_u32(&slot->state, &state, PGRAFT_SLOT_SUBMITTED);
}

bool
pgraft_slot_proposed(PgraftSlot *slot)
{
	return pg_atomic_read_u32(&slot->state) == PGRAFT_SLOT_PROPOSED;
}

void
pgraft_slot_answer(PgraftSlot *slot)
{
	uint32		state = pg_atomic_read_u32(&slot->state);
	Latch	   *latch = slot->latch;

	slot->taken = 0;
	pg_write_barrier();
	while (state == PGRAFT_SLOT_SUBMITTED || state == PGRAFT_SLOT_PROPOSED)
	{
		if (pg_atomic_compare_exchange_u32(&slot->state, &state, PGRAFT_SLOT_DONE))
		{
			SetLatch(latch);
			return;
		}
	}
	release_slot(slot);
}
