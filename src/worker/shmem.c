/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Layout of pgraft's shared memory, and the status block in it.
 *
 * Who writes what: the postmaster initialises everything at start and at each
 * crash reinitialisation; afterwards only the consensus worker writes the
 * status and members blocks.  Readers copy them between two equal, even values
 * of a version counter, so a view never waits for a lock that the worker
 * holds.  The request queue is request.c's.
 *
 * The DSA area (payloads, key-value store) begins in place, inside the main
 * shared memory segment, because the tables must exist before any process can
 * map a dynamic segment; it grows by dynamic segments later.
 *
 * What survives a crash: nothing.  Zeroed memory means "no worker".
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "pgraft/compat.h"
#include "pgraft/request.h"
#include "pgraft/settings.h"
#include "pgraft/state_machine.h"

/* room for the key-value store's tables before the first dynamic segment */
#define DSA_PLACE_BYTES (256 * 1024)

static void request_shared_memory(void);
static void start_shared_memory(void);
static Size shared_memory_size(void);
static void lay_out(char *base);
static void create_area(void);
static void release_area(int code, Datum arg);
static void waiter_gone(int code, Datum arg);

PgraftShared *pgraft_shared = NULL;

static dsa_area *attached_area = NULL;
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

void
pgraft_shmem_install_hooks(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
}

static void
request_shared_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(shared_memory_size());
}

static Size
shared_memory_size(void)
{
	Size		size = MAXALIGN(sizeof(PgraftShared));

	size = add_size(size, MAXALIGN(mul_size(pgraft_max_requests, sizeof(int))));
	size = add_size(size, MAXALIGN(mul_size(pgraft_max_requests, sizeof(int))));
	size = add_size(size, MAXALIGN(mul_size(pgraft_max_requests, sizeof(PgraftSlot))));
	size = add_size(size, MAXALIGN(pgraft_kv_shmem_size()));
	size = add_size(size, MAXALIGN(DSA_PLACE_BYTES));
	return size;
}

static void
start_shared_memory(void)
{
	bool		found;
	char	   *base;

	if (previous_startup_hook)
		previous_startup_hook();

	/* also runs at crash reinitialisation: forget what was attached before */
	pgraft_shared = NULL;
	attached_area = NULL;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	base = ShmemInitStruct("pgraft", shared_memory_size(), &found);
	pgraft_shared = (PgraftShared *) base;
	if (!found)
	{
		memset(base, 0, shared_memory_size());
		lay_out(base);
	}
	pgraft_kv_shmem_init(pgraft_shared->kv_root, found);
	if (!found)
		create_area();
	LWLockRelease(AddinShmemInitLock);
}

static void
lay_out(char *base)
{
	PgraftShared *shared = (PgraftShared *) base;
	int			i;

	shared->n_slots = pgraft_max_requests;
	base += MAXALIGN(sizeof(PgraftShared));
	shared->free_slots = (int *) base;
	base += MAXALIGN(shared->n_slots * sizeof(int));
	shared->ring = (int *) base;
	base += MAXALIGN(shared->n_slots * sizeof(int));
	shared->slots = (PgraftSlot *) base;
	base += MAXALIGN(shared->n_slots * sizeof(PgraftSlot));
	shared->kv_root = base;
	base += MAXALIGN(pgraft_kv_shmem_size());
	shared->dsa_place = base;

	pg_atomic_init_u32(&shared->status_version, 0);
	pg_atomic_init_u32(&shared->members_version, 0);
	pg_atomic_init_u32(&shared->reset_requested, 0);
	pg_atomic_init_u32(&shared->status_waiters, 0);
	ConditionVariableInit(&shared->status_changed);
	ConditionVariableInit(&shared->slot_freed);
	SpinLockInit(&shared->mutex);
	for (i = 0; i < shared->n_slots; i++)
	{
		pg_atomic_init_u32(&shared->slots[i].state, PGRAFT_SLOT_FREE);
		shared->free_slots[i] = shared->n_slots - 1 - i;
	}
	shared->n_free = shared->n_slots;
}

static void
create_area(void)
{
	dsa_area   *area;

	pgraft_shared->dsa_tranche = LWLockNewTrancheId();
	LWLockRegisterTranche(pgraft_shared->dsa_tranche, "PgraftArea");
	area = dsa_create_in_place(pgraft_shared->dsa_place, DSA_PLACE_BYTES,
							   pgraft_shared->dsa_tranche, NULL);
	dsa_pin(area);

	/* the postmaster cannot map dynamic segments: stay in place for now */
	dsa_set_size_limit(area, DSA_PLACE_BYTES);
	pgraft_kv_create(area, pgraft_shared->kv_root);
	dsa_set_size_limit(area, (size_t) -1);
	dsa_detach(area);
}

dsa_area *
pgraft_dsa(void)
{
	MemoryContext old;

	if (attached_area != NULL)
		return attached_area;
	pgraft_require_preloaded();
	LWLockRegisterTranche(pgraft_shared->dsa_tranche, "PgraftArea");
	old = MemoryContextSwitchTo(TopMemoryContext);
	attached_area = dsa_attach_in_place(pgraft_shared->dsa_place, NULL);
	dsa_pin_mapping(attached_area);
	MemoryContextSwitchTo(old);
	before_shmem_exit(release_area, (Datum) 0);
	return attached_area;
}

/* An area in place has no segment whose detaching would drop the reference. */
static void
release_area(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (attached_area == NULL)
		return;
	dsa_detach(attached_area);
	dsa_release_in_place(pgraft_shared->dsa_place);
	attached_area = NULL;
}

void
pgraft_require_preloaded(void)
{
	if (pgraft_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pgraft must be loaded via shared_preload_libraries"),
				 errhint("Add \"pgraft\" to shared_preload_libraries and restart the server.")));
}

/* ----------------------------------------------------------------
 * Status
 * ----------------------------------------------------------------
 */

void
pgraft_write_block(pg_atomic_uint32 *version, void *block, const void *source, size_t size)
{
	uint32		before = pg_atomic_read_u32(version);

	pg_atomic_write_u32(version, before + 1);
	pg_write_barrier();
	memcpy(block, source, size);
	pg_write_barrier();
	pg_atomic_write_u32(version, before + 2);
}

void
pgraft_read_block(pg_atomic_uint32 *version, const void *block, void *copy, size_t size)
{
	for (;;)
	{
		uint32		before = pg_atomic_read_u32(version);

		pg_read_barrier();
		if ((before & 1) == 0)
		{
			memcpy(copy, block, size);
			pg_read_barrier();
			if (pg_atomic_read_u32(version) == before)
				return;
		}
		CHECK_FOR_INTERRUPTS();
	}
}

void
pgraft_publish_status(const PgraftStatus *status)
{
	pgraft_write_block(&pgraft_shared->status_version, &pgraft_shared->status,
				status, sizeof(PgraftStatus));
}

void
pgraft_publish_members(const PgraftMembers *members)
{
	pgraft_write_block(&pgraft_shared->members_version, &pgraft_shared->members,
				members, sizeof(PgraftMembers));
}

void
pgraft_wake_status_waiters(void)
{
	/* pairs with the barrier in pgraft_wait_for_status */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&pgraft_shared->status_waiters) > 0)
		ConditionVariableBroadcast(&pgraft_shared->status_changed);
}

void
pgraft_read_status(PgraftStatus *status)
{
	pgraft_require_preloaded();
	pgraft_read_block(&pgraft_shared->status_version, &pgraft_shared->status,
			   status, sizeof(PgraftStatus));
}

void
pgraft_read_members(PgraftMembers *members)
{
	pgraft_require_preloaded();
	pgraft_read_block(&pgraft_shared->members_version, &pgraft_shared->members,
			   members, sizeof(PgraftMembers));
}

raft_time
pgraft_monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (raft_time) now.tv_sec * 1000 + (raft_time) (now.tv_nsec / 1000000);
}

bool
pgraft_status_is_leader(void)
{
	const volatile PgraftStatus *status;


	pgraft_require_preloaded();

	/* one aligned word each: no copy of the block is needed */
	status = &pgraft_shared->status;
	if (status->worker_state != PGRAFT_WORKER_RUNNING ||
		status->raft.state != RAFT_LEADER)
		return false;

	/*
	 * A worker that is stopped or starved would leave "leader" standing here
	 * for ever, so the word counts only while a majority has answered within
	 * half an election timeout: nobody votes for another in that time for want
	 * of heartbeats.
	 */
	return pgraft_monotonic_ms() <
		status->raft.quorum_contact + (raft_time) pgraft_election_timeout / 2;
}

uint64
pgraft_status_applied_index(void)
{
	pgraft_require_preloaded();
	return ((const volatile PgraftStatus *) &pgraft_shared->status)->raft.applied_index;
}

bool
pgraft_wait_for_status(uint64 index, bool leader, int timeout_ms)
{
	raft_time	end = pgraft_monotonic_ms() + (raft_time) timeout_ms;
	volatile bool reached = false;

	pgraft_require_preloaded();
	pg_atomic_fetch_add_u32(&pgraft_shared->status_waiters, 1);

	/* also when this session is terminated: FATAL passes PG_TRY by */
	PG_ENSURE_ERROR_CLEANUP(waiter_gone, (Datum) 0);
	{
		ConditionVariablePrepareToSleep(&pgraft_shared->status_changed);
		for (;;)
		{
			const volatile PgraftStatus *status = &pgraft_shared->status;
			long		left;

			reached = status->worker_state == PGRAFT_WORKER_RUNNING &&
				status->raft.applied_index >= index &&
				(!leader || status->raft.leader != 0);
			left = (long) (end - pgraft_monotonic_ms());
			if (reached || left <= 0)
				break;
			ConditionVariableTimedSleep(&pgraft_shared->status_changed, left,
										pgraft_wait_event());
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(waiter_gone, (Datum) 0);
	waiter_gone(0, (Datum) 0);
	return reached;
}

static void
waiter_gone(int code, Datum arg)
{
	(void) code;
	(void) arg;
	ConditionVariableCancelSleep();
	pg_atomic_fetch_sub_u32(&pgraft_shared->status_waiters, 1);
}

/* The worker alone writes counters; it sees the wish at its next turn. */
void
pgraft_reset_statistics(void)
{
	pgraft_require_preloaded();
	pg_atomic_write_u32(&pgraft_shared->reset_requested, 1);
	SpinLockAcquire(&pgraft_shared->mutex);
	if (pgraft_shared->worker_latch != NULL)
		SetLatch(pgraft_shared->worker_latch);
	SpinLockRelease(&pgraft_shared->mutex);
}

const char *
pgraft_worker_state_name(int state)
{
	static const char *const names[] = {
		"stopped", "starting", "blank", "running", "removed", "failed"
	};

	if (state < 0 || state >= (int) lengthof(names))
		return "stopped";
	return names[state];
}
