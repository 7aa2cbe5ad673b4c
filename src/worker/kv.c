/*-------------------------------------------------------------------------
 *
 * kv.c
 *	  The key-value store in shared memory.
 *
 * One writer, the consensus worker, through state_machine.c; any number of
 * readers, the backends, which never need the worker.  Rules of commands,
 * revisions and sessions are not decided here: this file keeps entries, finds
 * them, and adds up their digests.
 *
 * Where things are
 *	- the root, in the main shared memory segment: made by the postmaster;
 *	- a dshash table of fixed-size items in the DSA area;
 *	- per item one DSA block: the key's bytes, then the value's.  A value that
 *	  still fits is overwritten in place, so that steady updates allocate
 *	  nothing.
 *
 * Locks
 *	- An item and its block are read under the table's partition lock in shared
 *	  mode and changed under it in exclusive mode.  Nobody waits for anything
 *	  else while holding one, so the worker waits for a reader no longer than
 *	  one copy takes.
 *	- Readers allocate before they lock and look for interrupts after they
 *	  unlock.  (The only thing that can fail under a partition lock is mapping
 *	  a DSM segment for the first time; transaction abort releases the lock.)
 *	- The gate: the worker holds it while it applies one command and shows the
 *	  result.  Readers go past it, except a scan that was disturbed too often:
 *	  one walk over a store of moderate size.  It comes before partition locks.
 *	- The root's counters: the worker alone writes, between two increments of
 *	  the change counter; readers repeat until they see it even and unchanged.
 *
 * A scan shows the store as it was at one revision (see kv_scan.c for the one
 * exception).
 *
 * What survives a crash: nothing.  The worker's end by exit(1) leaves the
 * store as it is, whole, until the next worker empties it; a crash of any
 * process gives fresh shared memory.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/worker/kv.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "pgraft/bytes.h"
#include "pgraft/compat.h"
#include "pgraft/shmem.h"

#include "kv_internal.h"

/* Values smaller than half of their block move to a smaller one... */
#define KEEP_BLOCK_DIVISOR 2

/* ...unless the block is so small that nothing would be gained. */
#define SMALL_BLOCK 256

static const char *key_bytes(const KvKey *key, dsa_area *area);
static int	compare_keys(const void *a, const void *b, size_t size, void *arg);
static dshash_hash hash_key(const void *key, size_t size, void *arg);
static void fill_parameters(dshash_parameters *parameters);
static void make_probe(KvKey *probe, const char *key, uint32 key_length);
static uint64 item_digest(const KvItem *item);
static bool block_is_suitable(const KvItem *item, Size needed);
static dsa_pointer allocate_block(Size size);
static void forget_item(const KvItem *item);

/* Pointer to shared-memory state, inherited from the postmaster */
KvRoot	   *pgraft_kv_root = NULL;

/* This process's attachment */
static dshash_table *attached_table = NULL;

/* Worker only: what the store holds now */
static uint64 store_keys = 0;
static uint64 store_bytes = 0;
static uint64 store_digest = 0;
static uint64 store_memory = 0; /* blocks */

/* ----------------------------------------------------------------
 * Making the store
 * ----------------------------------------------------------------
 */

Size
pgraft_kv_shmem_size(void)
{
	return MAXALIGN(sizeof(KvRoot));
}

/*
 * Also runs again when the postmaster starts over after a crash; attachments
 * of before are worthless then.
 */
void
pgraft_kv_shmem_init(void *root_memory, bool found)
{
	pgraft_kv_root = (KvRoot *) root_memory;
	attached_table = NULL;

	if (!found)
	{
		memset(pgraft_kv_root, 0, sizeof(KvRoot));
		pgraft_kv_root->table = InvalidDsaPointer;
		pgraft_kv_root->tranche_id = LWLockNewTrancheId();
		pg_atomic_init_u64(&pgraft_kv_root->change_count, 0);
		pg_atomic_init_u32(&pgraft_kv_root->deleting, 0);
		LWLockInitialize(&pgraft_kv_root->gate, pgraft_kv_root->tranche_id);
	}
}

/*
 * Runs in the postmaster, where the area is limited to the part of it that
 * lies in main shared memory: an empty table fits.
 */
void
pgraft_kv_create(dsa_area *area, void *root_memory)
{
	KvRoot	   *new_root = (KvRoot *) root_memory;
	dshash_parameters parameters;
	dshash_table *new_table;

	Assert(pgraft_kv_root == new_root);

	LWLockRegisterTranche(new_root->tranche_id, "PgraftKeyValue");
	fill_parameters(&parameters);
	new_table = dshash_create(area, &parameters, area);
	new_root->table = dshash_get_hash_table_handle(new_table);
	dshash_detach(new_table);
}

static void
fill_parameters(dshash_parameters *parameters)
{
	memset(parameters, 0, sizeof(*parameters));
	parameters->key_size = sizeof(KvKey);
	parameters->entry_size = sizeof(KvItem);
	parameters->compare_function = compare_keys;
	parameters->hash_function = hash_key;
	pgraft_dshash_set_copy(*parameters, dshash_memcpy);
	parameters->tranche_id = pgraft_kv_root->tranche_id;
}

/* The table, attached on first use and then for the life of the process. */
dshash_table *
pgraft_kv_table(void)
{
	if (attached_table == NULL)
	{
		dsa_area   *area = pgraft_dsa();
		dshash_parameters parameters;
		MemoryContext old_context;

		Assert(pgraft_kv_root != NULL && DsaPointerIsValid(pgraft_kv_root->table));
		LWLockRegisterTranche(pgraft_kv_root->tranche_id, "PgraftKeyValue");
		fill_parameters(&parameters);
		old_context = MemoryContextSwitchTo(TopMemoryContext);
		attached_table = dshash_attach(area, &parameters, pgraft_kv_root->table, area);
		MemoryContextSwitchTo(old_context);
	}
	return attached_table;
}

static const char *
key_bytes(const KvKey *key, dsa_area *area)
{
	if (key->probe != NULL)
		return key->probe;
	return (const char *) dsa_get_address(area, key->block);
}

static int
compare_keys(const void *a, const void *b, size_t size, void *arg)
{
	const KvKey *left = (const KvKey *) a;
	const KvKey *right = (const KvKey *) b;
	dsa_area   *area = (dsa_area *) arg;

	Assert(size == sizeof(KvKey));
	(void) size;
	if (left->length != right->length)
		return left->length < right->length ? -1 : 1;
	return memcmp(key_bytes(left, area), key_bytes(right, area), left->length);
}

static dshash_hash
hash_key(const void *key, size_t size, void *arg)
{
	(void) size;
	(void) arg;
	return ((const KvKey *) key)->hash;
}

static void
make_probe(KvKey *probe, const char *key, uint32 key_length)
{
	memset(probe, 0, sizeof(*probe));
	probe->probe = key;
	probe->block = InvalidDsaPointer;
	probe->length = key_length;
	probe->hash = hash_bytes((const unsigned char *) key, (int) key_length);
}

char *
pgraft_kv_item_bytes(const KvItem *item)
{
	return (char *) dsa_get_address(pgraft_dsa(), item->key.block);
}

/* ----------------------------------------------------------------
 * Worker side
 * ----------------------------------------------------------------
 */

/* Around the application of a command and the publishing of its result. */
void
pgraft_kv_store_lock(void)
{
	LWLockAcquire(&pgraft_kv_root->gate, LW_EXCLUSIVE);
}

void
pgraft_kv_store_unlock(void)
{
	LWLockRelease(&pgraft_kv_root->gate);
}

void
pgraft_kv_store_set(const PgraftKvRecord *record)
{
	KvKey		probe;
	KvItem	   *item;
	dsa_pointer block = InvalidDsaPointer;
	Size		needed = (Size) record->key_length + record->value_length;
	char	   *bytes;
	bool		found;

	make_probe(&probe, record->key, record->key_length);

	/*
	 * Look first: a new block must exist before the table is touched, so that
	 * running out of memory changes nothing.  Nobody else writes, so what was
	 * found stays true after the lock is released.
	 */
	item = dshash_find(pgraft_kv_table(), &probe, false);
	if (item == NULL)
	{
		pgraft_kv_image_reserve();
		block = allocate_block(needed);
	}
	else
	{
		bool		suitable = block_is_suitable(item, needed);

		dshash_release_lock(pgraft_kv_table(), item);
		if (!suitable)
			block = allocate_block(needed);
	}

	/*
	 * If this runs out of memory the block is lost; no attempt to free it,
	 * because the error may come from inside the allocator with its locks held.
	 * The worker stops then.
	 */
	item = dshash_find_or_insert(pgraft_kv_table(), &probe, &found);

	if (found)
	{
		pgraft_kv_image_changing(item);
		forget_item(item);
	}
	else
		pgraft_kv_image_add(item);
	if (DsaPointerIsValid(block))
	{
		if (found)
			dsa_free(pgraft_dsa(), item->key.block);
		item->key.block = block;
		item->capacity = (uint32) needed;
	}
	item->key.probe = NULL;
	item->value_length = record->value_length;
	item->create_revision = record->create_revision;
	item->mod_revision = record->mod_revision;
	item->version = record->version;
	bytes = pgraft_kv_item_bytes(item);
	memcpy(bytes, record->key, record->key_length);
	if (record->value_length > 0)
		memcpy(bytes + record->key_length, record->value, record->value_length);
	item->digest = item_digest(item);

	store_keys++;
	store_bytes += needed;
	store_digest += item->digest;
	store_memory += item->capacity;
	dshash_release_lock(pgraft_kv_table(), item);
}

/* Takes an item that is about to change or go out of the sums. */
static void
forget_item(const KvItem *item)
{
	store_keys--;
	store_bytes -= (uint64) item->key.length + item->value_length;
	store_digest -= item->digest;
	store_memory -= item->capacity;
}

bool
pgraft_kv_store_find(const char *key, uint32 key_length, PgraftKvRecord *record)
{
	KvKey		probe;
	KvItem	   *item;

	make_probe(&probe, key, key_length);
	item = dshash_find(pgraft_kv_table(), &probe, false);
	if (item == NULL)
		return false;

	memset(record, 0, sizeof(*record));
	record->key = key;
	record->key_length = key_length;
	record->value_length = item->value_length;
	record->create_revision = item->create_revision;
	record->mod_revision = item->mod_revision;
	record->version = item->version;
	dshash_release_lock(pgraft_kv_table(), item);
	return true;
}

bool
pgraft_kv_store_delete(const char *key, uint32 key_length)
{
	KvKey		probe;
	KvItem	   *item;
	dsa_pointer block;

	make_probe(&probe, key, key_length);
	item = dshash_find(pgraft_kv_table(), &probe, true);
	if (item == NULL)
		return false;

	pg_atomic_write_u32(&pgraft_kv_root->deleting, 1);
	pg_write_barrier();
	pgraft_kv_image_changing(item);
	pgraft_kv_image_remove(item);
	forget_item(item);
	block = item->key.block;
	dshash_delete_entry(pgraft_kv_table(), item); /* releases the lock */
	dsa_free(pgraft_dsa(), block);
	return true;
}

uint64
pgraft_kv_store_delete_prefix(const char *prefix, uint32 prefix_length)
{
	dshash_seq_status scan;
	KvItem	   *item;
	uint64		deleted = 0;

	pg_atomic_write_u32(&pgraft_kv_root->deleting, 1);
	pg_write_barrier();
	dshash_seq_init(&scan, pgraft_kv_table(), true);
	while ((item = dshash_seq_next(&scan)) != NULL)
	{
		dsa_pointer block = item->key.block;

		if (!pgraft_kv_begins_with(item, prefix, prefix_length))
			continue;
		pgraft_kv_image_changing(item);
		if (prefix_length > 0)
			pgraft_kv_image_remove(item);
		forget_item(item);
		dshash_delete_current(&scan);
		dsa_free(pgraft_dsa(), block);
		deleted++;
	}
	dshash_seq_term(&scan);

	/*
	 * Emptying is also how a new worker begins, which knows nothing of the
	 * sums that its predecessor kept.
	 */
	if (prefix_length == 0)
	{
		store_keys = 0;
		store_bytes = 0;
		store_digest = 0;
		store_memory = 0;
		pgraft_kv_image_reset();
	}
	return deleted;
}

uint64
pgraft_kv_store_keys(void)
{
	return store_keys;
}

uint64
pgraft_kv_store_bytes(void)
{
	return store_bytes;
}

uint64
pgraft_kv_store_digest(void)
{
	return pgraft_digest_u64(store_digest, store_keys);
}

/*
 * The barriers pair with those of pgraft_kv_read_stats().  Items changed before are
 * visible to whoever sees the new counters: their partition locks were
 * released first.
 */
void
pgraft_kv_store_publish(const PgraftKvStats *stats)
{
	/* a predecessor may have ended in here and left it odd */
	uint64		count = pg_atomic_read_u64(&pgraft_kv_root->change_count) & ~UINT64CONST(1);

	pg_atomic_write_u64(&pgraft_kv_root->change_count, count + 1);
	pg_write_barrier();
	pgraft_kv_root->stats = *stats;
	pgraft_kv_root->stats.keys = store_keys;
	pgraft_kv_root->stats.bytes = store_bytes;
	pgraft_kv_root->stats.memory_bytes = store_memory + store_keys * sizeof(KvItem);
	pg_write_barrier();
	pg_atomic_write_u64(&pgraft_kv_root->change_count, count + 2);
	pg_atomic_write_u32(&pgraft_kv_root->deleting, 0);
}

static uint64
item_digest(const KvItem *item)
{
	const char *bytes = pgraft_kv_item_bytes(item);
	uint64		digest = pgraft_digest_bytes(0, bytes, item->key.length);

	digest = pgraft_digest_bytes(digest, bytes + item->key.length, item->value_length);
	digest = pgraft_digest_u64(digest, item->create_revision);
	digest = pgraft_digest_u64(digest, item->mod_revision);
	return pgraft_digest_u64(digest, item->version);
}

static bool
block_is_suitable(const KvItem *item, Size needed)
{
	if (needed > item->capacity)
		return false;
	return item->capacity <= SMALL_BLOCK ||
		needed >= item->capacity / KEEP_BLOCK_DIVISOR;
}

static dsa_pointer
allocate_block(Size size)
{
	dsa_pointer block;

	block = dsa_allocate_extended(pgraft_dsa(), size, DSA_ALLOC_NO_OOM | DSA_ALLOC_HUGE);
	if (!DsaPointerIsValid(block))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of shared memory"),
				 errdetail("The key-value store could not allocate %zu bytes.", size)));
	return block;
}

/* ----------------------------------------------------------------
 * Readers, in any backend
 * ----------------------------------------------------------------
 */

/*
 * Fills *entry with copies.  The first round learns the size; another one is
 * needed only when the value grew in between.
 */
bool
pgraft_kv_lookup(const char *key, uint32 key_length, PgraftKvEntry *entry)
{
	KvKey		probe;
	char	   *value = NULL;
	Size		capacity = 0;

	make_probe(&probe, key, key_length);
	for (;;)
	{
		KvItem	   *item = dshash_find(pgraft_kv_table(), &probe, false);
		uint32		value_length;

		if (item == NULL)
			return false;
		value_length = item->value_length;
		if (value != NULL && value_length <= capacity)
		{
			memcpy(value, pgraft_kv_item_bytes(item) + key_length, value_length);
			entry->create_revision = item->create_revision;
			entry->mod_revision = item->mod_revision;
			entry->version = item->version;
			dshash_release_lock(pgraft_kv_table(), item);
			value[value_length] = '\0';
			entry->value = value;
			entry->value_length = value_length;
			break;
		}
		dshash_release_lock(pgraft_kv_table(), item);

		CHECK_FOR_INTERRUPTS();
		if (value != NULL)
			pfree(value);
		capacity = value_length;
		value = MemoryContextAllocHuge(CurrentMemoryContext, capacity + 1);
	}

	entry->key = pnstrdup(key, key_length);
	entry->key_length = key_length;
	return true;
}

bool
pgraft_kv_key_exists(const char *key, uint32 key_length)
{
	KvKey		probe;
	KvItem	   *item;

	make_probe(&probe, key, key_length);
	item = dshash_find(pgraft_kv_table(), &probe, false);
	if (item == NULL)
		return false;
	dshash_release_lock(pgraft_kv_table(), item);
	return true;
}

bool
pgraft_kv_begins_with(const KvItem *item, const char *prefix, uint32 prefix_length)
{
	if (prefix_length == 0)
		return true;
	return item->key.length >= prefix_length &&
		memcmp(pgraft_kv_item_bytes(item), prefix, prefix_length) == 0;
}

void
pgraft_kv_get_stats(PgraftKvStats *stats)
{
	pgraft_kv_read_stats(stats);
	stats->memory_bytes = pgraft_dsa_total_size(pgraft_dsa(), stats->memory_bytes);
}

/* A consistent copy of the counters, without a lock. */
void
pgraft_kv_read_stats(PgraftKvStats *stats)
{
	for (;;)
	{
		uint64		before = pg_atomic_read_u64(&pgraft_kv_root->change_count);
		uint64		after;

		pg_read_barrier();
		*stats = pgraft_kv_root->stats;
		pg_read_barrier();
		after = pg_atomic_read_u64(&pgraft_kv_root->change_count);
		if (before == after && (before & 1) == 0)
			return;

		/* the worker may have ended between its two increments */
		CHECK_FOR_INTERRUPTS();
	}
}
