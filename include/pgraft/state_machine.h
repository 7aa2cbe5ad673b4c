/*-------------------------------------------------------------------------
 *
 * state_machine.h
 *	  The replicated state machine (src/worker/state_machine.c, session.c,
 *	  kv.c): key-value store in shared memory plus client sessions.
 *
 * Written by the consensus worker alone, between its start and its end; the
 * store is read by backends at any time through pgraft_kv_* readers without
 * the worker's help.  Deterministic: equal logs give equal states and equal
 * state hashes on every member.
 *
 * What survives a crash: nothing of it; it is rebuilt from the snapshot and
 * the log (store_loaded in the status says when that is done).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_STATE_MACHINE_H
#define PGRAFT_STATE_MACHINE_H

#include "pgraft/command.h"
#include "pgraft/raft.h"

struct dsa_area;

/* ---- worker side ---- */

/* Shared memory of the store's root (fixed part). */
extern Size pgraft_kv_shmem_size(void);
/* In shmem_startup_hook, under AddinShmemInitLock; found as ShmemInitStruct. */
extern void pgraft_kv_shmem_init(void *root, bool found);
/* In the postmaster right after the DSA area exists; makes the tables. */
extern void pgraft_kv_create(struct dsa_area *area, void *root);

/* Empties store and sessions: at worker start and before a snapshot is loaded. */
extern void pgraft_state_reset(void);

/*
 * Applies one committed entry of any type.  RAFT_ENTRY_NORMAL is decoded; an
 * undecodable command is skipped alike everywhere (logged).  Returns false on
 * out of memory in shared memory: the worker must stop (fail) then.
 */
extern bool pgraft_state_apply(const struct raft_entry *entry, PgraftApplyResult *result);

/*
 * Serialises the state as it is when save_begin is called (state_image.c).  step
 * does so for about budget_us and returns true when that was all; commands may be
 * applied between steps, and then write() is called by pgraft_state_apply(), too.
 * write() takes note of its failures itself.  cancel may be called at any time,
 * and pgraft_state_reset() does so.
 */
extern void pgraft_state_save_begin(void (*write) (void *arg, const void *data, size_t length),
									void *arg);
extern bool pgraft_state_save_step(int budget_us);
extern void pgraft_state_save_cancel(void);

/* Feeds a snapshot in pieces of any size; finish checks that it was whole. */
extern void pgraft_state_load_begin(void);
extern bool pgraft_state_load_piece(const unsigned char *data, size_t length);
extern bool pgraft_state_load_finish(uint64 index);

/* Same on all members with the same applied index. */
extern uint64 pgraft_state_hash(void);

/* ---- any backend ---- */

typedef struct PgraftKvEntry
{
	char	   *key;			/* palloc'd, NUL-terminated */
	uint32		key_length;
	char	   *value;			/* palloc'd, NUL-terminated; NULL when not wanted */
	uint32		value_length;
	uint64		create_revision;
	uint64		mod_revision;
	uint64		version;		/* puts since creation */
} PgraftKvEntry;

extern bool pgraft_kv_lookup(const char *key, uint32 key_length, PgraftKvEntry *entry);
extern bool pgraft_kv_key_exists(const char *key, uint32 key_length);

/* Entries whose key begins with prefix, sorted by key (bytewise), at most
 * limit (< 0 = all); palloc'd array. */
extern PgraftKvEntry *pgraft_kv_scan(const char *prefix, uint32 prefix_length, int64 limit,
									 bool want_values, int *n_entries);

typedef struct PgraftKvStats
{
	uint64		keys;
	uint64		bytes;			/* keys and values */
	uint64		revision;
	uint64		puts;			/* applied since the worker's start */
	uint64		deletes;
	uint64		cas_succeeded;
	uint64		cas_failed;
	uint64		duplicates;		/* retried commands applied once */
	uint64		log_entries;	/* LOG commands applied */
	uint64		sessions;
	uint64		applied_index;	/* to which all of this belongs */
	uint64		state_hash;
	uint64		memory_bytes;	/* of the shared area */
} PgraftKvStats;

extern void pgraft_kv_get_stats(PgraftKvStats *stats);

#endif							/* PGRAFT_STATE_MACHINE_H */
