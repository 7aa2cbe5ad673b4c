/*-------------------------------------------------------------------------
 *
 * shared.c
 *	  Shared memory of high availability, and the entry point of src/ha.
 *
 * The postmaster makes it at start and at each crash reinitialisation, all
 * zero: fenced, sealed, no document.  The document has one writer (consensus
 * worker), the local state has one ("pgraft ha"); readers copy them between
 * two equal, even values of a version counter and never wait for a lock.
 *
 * What survives a crash: nothing in here.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/shared.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "pgraft/ha.h"
#include "pgraft/request.h"

static void request_shared_memory(void);
static void start_shared_memory(void);
static int64 clock_us(clockid_t clock);

PgraftHaShared *pgraft_ha_shared = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

bool
pgraft_ha_init(void)
{
	if (!pgraft_ha_mode)
		return false;
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
	pgraft_ha_install_fence();
	pgraft_ha_install_guard();
	pgraft_ha_install_seal();
	return true;
}

static void
request_shared_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(PgraftHaShared)));
}

static void
start_shared_memory(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();

	pgraft_ha_shared = NULL;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	pgraft_ha_shared = ShmemInitStruct("pgraft ha", sizeof(PgraftHaShared), &found);
	if (!found)
	{
		memset(pgraft_ha_shared, 0, sizeof(PgraftHaShared));
		pg_atomic_init_u32(&pgraft_ha_shared->document_version, 0);
		pg_atomic_init_u32(&pgraft_ha_shared->local_version, 0);
		pg_atomic_init_u64(&pgraft_ha_shared->fence_until, 0);
		pg_atomic_init_u64(&pgraft_ha_shared->fence_epoch, 0);
		pg_atomic_init_u64(&pgraft_ha_shared->open_epoch, 0);
		pg_atomic_init_u32(&pgraft_ha_shared->waiting_receiver, 0);
		pg_atomic_init_u64(&pgraft_ha_shared->received_epoch, 0);
		pg_atomic_init_u64(&pgraft_ha_shared->guarded, 0);
		pg_atomic_init_u64(&pgraft_ha_shared->refused, 0);
		SpinLockInit(&pgraft_ha_shared->upstream_lock);
		SpinLockInit(&pgraft_ha_shared->latch_lock);
	}
	LWLockRelease(AddinShmemInitLock);

	/* here, because it runs before each startup process and in no other mode */
	if (!IsUnderPostmaster)
		pgraft_ha_force_standby();
}

void
pgraft_ha_publish_document(const PgraftHaDocument *document, bool loaded)
{
	if (pgraft_ha_shared == NULL)
		return;
	pgraft_write_block(&pgraft_ha_shared->document_version, &pgraft_ha_shared->document,
					   document, sizeof(PgraftHaDocument));
	pg_write_barrier();
	pgraft_ha_shared->document_loaded = loaded;
}

void
pgraft_ha_publish_local(const PgraftHaLocal *local)
{
	pgraft_write_block(&pgraft_ha_shared->local_version, &pgraft_ha_shared->local,
					   local, sizeof(PgraftHaLocal));
}

void
pgraft_ha_read_document(PgraftHaDocument *document)
{
	pgraft_read_block(&pgraft_ha_shared->document_version, &pgraft_ha_shared->document,
					  document, sizeof(PgraftHaDocument));
}

void
pgraft_ha_read_local(PgraftHaLocal *local)
{
	pgraft_read_block(&pgraft_ha_shared->local_version, &pgraft_ha_shared->local,
					  local, sizeof(PgraftHaLocal));
}

void
pgraft_ha_wake_executor(void)
{
	if (pgraft_ha_shared == NULL)
		return;
	SpinLockAcquire(&pgraft_ha_shared->latch_lock);
	if (pgraft_ha_shared->ha_latch != NULL)
		SetLatch(pgraft_ha_shared->ha_latch);
	SpinLockRelease(&pgraft_ha_shared->latch_lock);
}

static int64
clock_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* A lease must not outlive the sleep of a suspended machine. */
int64
pgraft_boottime_us(void)
{
	return clock_us(CLOCK_BOOTTIME);
}

int64
pgraft_unix_us(void)
{
	return clock_us(CLOCK_REALTIME);
}
