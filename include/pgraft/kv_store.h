/*-------------------------------------------------------------------------
 *
 * kv_store.h
 *	  What kv.c (the store in shared memory) offers to state_machine.c (the
 *	  rules of the commands): worker side only.  Backends use the readers in
 *	  state_machine.h.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_KV_STORE_H
#define PGRAFT_KV_STORE_H

#include "pgraft/state_machine.h"

/* One entry as the store has it; the bytes are the caller's or the store's. */
typedef struct PgraftKvRecord
{
	const char *key;
	uint32		key_length;
	const char *value;
	uint32		value_length;
	uint64		create_revision;
	uint64		mod_revision;
	uint64		version;
} PgraftKvRecord;

/*
 * Held while one command is applied and its result published, so that a scan
 * can have a moment without changes.  Not recursive.
 */
extern void pgraft_kv_store_lock(void);
extern void pgraft_kv_store_unlock(void);

/*
 * Makes key's entry what record says, whether or not there was one.  May raise
 * out of memory; the store is unchanged then.
 */
extern void pgraft_kv_store_set(const PgraftKvRecord *record);

/* Revisions and version of a key; false = no such key.  Copies no bytes. */
extern bool pgraft_kv_store_find(const char *key, uint32 key_length, PgraftKvRecord *record);

extern bool pgraft_kv_store_delete(const char *key, uint32 key_length);

/* Prefix length 0 deletes everything.  Returns how many keys went. */
extern uint64 pgraft_kv_store_delete_prefix(const char *prefix, uint32 prefix_length);

/*
 * The image of the store at the moment of begin (kv_image.c).  next has one
 * entry visited; false: there was none left, and the image is complete.  Entries
 * are also visited within pgraft_kv_store_set() and the deletions.  In no order,
 * each once.  end gives an image up.
 */
extern void pgraft_kv_image_begin(void (*visitor) (const PgraftKvRecord *record));
extern bool pgraft_kv_image_next(void);
extern void pgraft_kv_image_end(void);

/* Of the store as it is now, known to the worker without a walk. */
extern uint64 pgraft_kv_store_keys(void);
extern uint64 pgraft_kv_store_bytes(void);

/* A sum over all entries: independent of the order of their arrival. */
extern uint64 pgraft_kv_store_digest(void);

/* Shows the counters, and that the store is at least as new as they say. */
extern void pgraft_kv_store_publish(const PgraftKvStats *stats);

#endif							/* PGRAFT_KV_STORE_H */
