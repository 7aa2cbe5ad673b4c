/*-------------------------------------------------------------------------
 *
 * kv_internal.h
 *	  What kv.c (entries, one at a time), kv_scan.c (many at once) and kv_image.c
 *	  (all of them, for a snapshot) know of the store in shared memory.  Nobody
 *	  else includes it.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_KV_INTERNAL_H
#define PGRAFT_KV_INTERNAL_H

#include "lib/dshash.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"

#include "pgraft/kv_store.h"

/*
 * probe is set while the key's bytes are in the memory of the process that
 * looks for them, and NULL in every stored item, where block has them.
 */
typedef struct KvKey
{
	const char *probe;
	dsa_pointer block;
	uint32		length;
	uint32		hash;
} KvKey;

typedef struct KvItem
{
	KvKey		key;			/* first, as dshash demands */
	uint32		value_length;
	uint32		capacity;		/* of the block: key and value */
	uint64		create_revision;
	uint64		mod_revision;
	uint64		version;
	uint64		digest;			/* of all the above that is replicated, and of the
								 * bytes */
	uint32		position;		/* kv_image.c: in its array */
	uint32		image;			/* kv_image.c: needs no visit for that one */
} KvItem;

typedef struct KvRoot
{
	int			tranche_id;
	dshash_table_handle table;
	pg_atomic_uint64 change_count;	/* odd while stats are being written */
	pg_atomic_uint32 deleting;	/* from before a deletion until it shows in stats */
	LWLock		gate;			/* held while a command changes the store */
	PgraftKvStats stats;
} KvRoot;

/* In the main shared memory segment, inherited from the postmaster. */
extern KvRoot *pgraft_kv_root;

/* The table, attached on first use and then for the life of the process. */
extern dshash_table *pgraft_kv_table(void);

/* The key's bytes, then the value's; under the partition lock. */
extern char *pgraft_kv_item_bytes(const KvItem *item);
extern bool pgraft_kv_begins_with(const KvItem *item, const char *prefix,
								  uint32 prefix_length);

/* A consistent copy of the published counters, without a lock. */
extern void pgraft_kv_read_stats(PgraftKvStats *stats);

/* ---- kv_image.c, for kv.c ---- */

extern void pgraft_kv_image_reserve(void);
extern void pgraft_kv_image_add(KvItem *item);
extern void pgraft_kv_image_changing(KvItem *item);
extern void pgraft_kv_image_remove(KvItem *item);
extern void pgraft_kv_image_reset(void);

#endif							/* PGRAFT_KV_INTERNAL_H */
