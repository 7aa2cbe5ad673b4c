/*-------------------------------------------------------------------------
 *
 * request.h
 *	  The request queue in shared memory, seen from the worker.
 *
 * Life of a slot: FREE -> FILLING (owner: backend) -> SUBMITTED (owner: worker;
 * the backend waits) -> PROPOSED (the same, and the request may have had an
 * effect) -> DONE (owner: backend) -> FREE.  A backend that stops waiting turns
 * SUBMITTED or PROPOSED into ABANDONED; the worker frees such a slot when it
 * would have answered it.  The two sides race only for SUBMITTED and PROPOSED,
 * by compare-and-exchange: what the backend replaces decides between "nothing
 * was changed" and "outcome unknown", and the worker begins nothing for a slot
 * that it cannot turn into PROPOSED.  The free list and the ring of submitted
 * slots are protected by the queue's spinlock.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_REQUEST_H
#define PGRAFT_REQUEST_H

#include "pgraft/shmem.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/spin.h"
#include "utils/dsa.h"

#define PGRAFT_SLOT_INLINE 512	/* payload bytes that need no allocation */

typedef enum PgraftSlotState
{
	PGRAFT_SLOT_FREE = 0,
	PGRAFT_SLOT_FILLING,
	PGRAFT_SLOT_SUBMITTED,
	PGRAFT_SLOT_PROPOSED,
	PGRAFT_SLOT_DONE,
	PGRAFT_SLOT_ABANDONED
} PgraftSlotState;

typedef struct PgraftSlot
{
	pg_atomic_uint32 state;
	uint32		taken;			/* a worker has dequeued it */
	int			kind;			/* PgraftRequestKind */
	uint64		sequence;		/* grows with each use of the slot, never reset */
	uint64		argument;
	uint64		argument2;
	int			timeout_ms;		/* how long the backend waits */
	Latch	   *latch;			/* of the waiting backend */
	uint32		length;			/* payload */
	dsa_pointer payload;		/* when length > PGRAFT_SLOT_INLINE */
	char		inline_payload[PGRAFT_SLOT_INLINE];
	/* the answer */
	int			result;			/* PgraftResult */
	uint64		index;
	uint64		value;
	int			flag;
	uint32		reply_length;
	dsa_pointer reply;			/* InvalidDsaPointer = none */
	char		detail[256];
} PgraftSlot;

typedef struct PgraftShared
{
	/* status, guarded by two sequence counters; the worker writes */
	pg_atomic_uint32 status_version;
	pg_atomic_uint32 members_version;
	pg_atomic_uint32 reset_requested;
	pg_atomic_uint32 status_waiters;
	ConditionVariable status_changed;
	PgraftStatus status;
	PgraftMembers members;

	/* queue */
	slock_t		mutex;			/* free list, ring, worker_latch */
	ConditionVariable slot_freed;
	Latch	   *worker_latch;	/* NULL = no worker */
	int			n_slots;
	int			n_free;
	uint32		ring_head;
	uint32		ring_count;
	int			dsa_tranche;
	void	   *dsa_place;
	void	   *kv_root;
	int		   *free_slots;		/* stack of n_free */
	int		   *ring;			/* n_slots numbers, ring_count used */
	PgraftSlot *slots;
} PgraftShared;

extern PgraftShared *pgraft_shared;	/* NULL when not preloaded */

/* shmem.c */
extern void pgraft_shmem_install_hooks(void);
extern void pgraft_publish_status(const PgraftStatus *status);
extern void pgraft_publish_members(const PgraftMembers *members);
extern void pgraft_wake_status_waiters(void);
/* A block with one writer, which readers copy between two equal, even versions. */
extern void pgraft_write_block(pg_atomic_uint32 *version, void *block, const void *source,
							   size_t size);
extern void pgraft_read_block(pg_atomic_uint32 *version, const void *block, void *copy,
							  size_t size);

/* request.c, worker side */
extern void pgraft_queue_attach_worker(void);
extern void pgraft_queue_detach_worker(int code, Datum arg);
extern int	pgraft_queue_take(int *slots, int max);
extern const void *pgraft_slot_payload(PgraftSlot *slot);
extern bool pgraft_slot_abandoned(PgraftSlot *slot);

/*
 * Before the first attempt that may have an effect.  False when the backend
 * has gone: it was told that nothing happened, so nothing may.
 */
extern bool pgraft_slot_set_proposed(PgraftSlot *slot);
/* That attempt certainly had none. */
extern void pgraft_slot_clear_proposed(PgraftSlot *slot);
extern bool pgraft_slot_proposed(PgraftSlot *slot);

/*
 * Answers: the slot's result fields must be filled.  Frees the slot when its
 * backend has gone.  The worker must not touch the slot afterwards.
 */
extern void pgraft_slot_answer(PgraftSlot *slot);

#endif							/* PGRAFT_REQUEST_H */
