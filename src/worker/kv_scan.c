/*-------------------------------------------------------------------------
 *
 * kv_scan.c
 *	  Reading many entries of the key-value store at once.
 *
 * Called in any backend.  The locks and what survives are described in kv.c;
 * the walk holds one partition lock after the other, in shared mode, allocates
 * before and sorts after it.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/worker/kv_scan.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "kv_internal.h"

/* Scans that met a change start again this often... */
#define SCAN_ATTEMPTS 4

/* ...and then keep the writer out, unless that would take too long. */
#define GATE_MAX_KEYS 100000

/* What a scan copies entries into while it holds a lock. */
typedef struct ScanBuffer
{
	char	   *bytes;
	Size		used;
	Size		capacity;
	PgraftKvEntry *entries;		/* key and value hold offsets until the end */
	int			n_entries;
	int			max_entries;
} ScanBuffer;

typedef enum ScanOutcome
{
	SCAN_COMPLETE,
	SCAN_BUFFER_FULL,
	SCAN_INTERRUPTED
} ScanOutcome;

static ScanOutcome scan_once(ScanBuffer *buffer, const char *prefix, uint32 prefix_length,
							 bool want_values, bool take_newer, bool *disturbed);
static bool copy_item(ScanBuffer *buffer, const KvItem *item, bool want_values);
static void grow_buffer(ScanBuffer *buffer, Size bytes, int entries);
static int	compare_entries(const void *a, const void *b);

/*
 * The walk meets writers.  It aims at the state of the revision published when
 * it began: keys created later are left out.  A key of then that was
 * overwritten or deleted before the walk reached it cannot be shown as it was;
 * such a walk is repeated.  After SCAN_ATTEMPTS the writer is kept out for one
 * walk.  A store of more than GATE_MAX_KEYS is not worth that delay: there the
 * result is what the last walk saw, each entry true at some moment of the call.
 */
PgraftKvEntry *
pgraft_kv_scan(const char *prefix, uint32 prefix_length, int64 limit,
			   bool want_values, int *n_entries)
{
	ScanBuffer	buffer;
	PgraftKvStats stats;
	int			attempt = 1;
	int			i;

	memset(&buffer, 0, sizeof(buffer));
	pgraft_kv_read_stats(&stats);
	if (prefix_length == 0)
		grow_buffer(&buffer,
					want_values ? stats.bytes + 2 * stats.keys : 64 * stats.keys,
					(int) Min(stats.keys + 1, 1000000));
	else
		grow_buffer(&buffer, 8192, 64);

	for (;;)
	{
		bool		last = (attempt >= SCAN_ATTEMPTS);
		bool		gated = last && stats.keys <= GATE_MAX_KEYS;
		bool		disturbed = false;
		ScanOutcome outcome;

		if (gated)
			LWLockAcquire(&pgraft_kv_root->gate, LW_SHARED);
		outcome = scan_once(&buffer, prefix, prefix_length, want_values, last, &disturbed);
		if (gated)
			LWLockRelease(&pgraft_kv_root->gate);

		if (outcome == SCAN_COMPLETE)
		{
			if (last || !disturbed)
				break;
			attempt++;
		}
		else if (outcome == SCAN_BUFFER_FULL)
			grow_buffer(&buffer, buffer.capacity * 2, buffer.max_entries * 2);

		CHECK_FOR_INTERRUPTS();
	}

	for (i = 0; i < buffer.n_entries; i++)
	{
		PgraftKvEntry *entry = &buffer.entries[i];

		entry->key = buffer.bytes + (Size) entry->key;
		if (want_values)
			entry->value = buffer.bytes + (Size) entry->value;
	}
	qsort(buffer.entries, (size_t) buffer.n_entries, sizeof(PgraftKvEntry), compare_entries);

	*n_entries = buffer.n_entries;
	if (limit >= 0 && limit < *n_entries)
		*n_entries = (int) limit;
	return buffer.entries;
}

/*
 * One walk over the table.  The lock moves with it from partition to
 * partition; while one is held this allocates nothing and raises nothing, and
 * leaves early when the backend is wanted elsewhere.  Sets *disturbed when the
 * result is not the state at the revision where the walk began; with
 * take_newer, keys made since then are taken, too.
 */
static ScanOutcome
scan_once(ScanBuffer *buffer, const char *prefix, uint32 prefix_length,
		  bool want_values, bool take_newer, bool *disturbed)
{
	dshash_seq_status scan;
	KvItem	   *item;
	PgraftKvStats before;
	PgraftKvStats after;
	uint64		as_of;
	ScanOutcome outcome = SCAN_COMPLETE;

	*disturbed |= (pg_atomic_read_u32(&pgraft_kv_root->deleting) != 0);
	pg_read_barrier();
	pgraft_kv_read_stats(&before);
	as_of = take_newer ? PG_UINT64_MAX : before.revision;
	buffer->used = 0;
	buffer->n_entries = 0;

	dshash_seq_init(&scan, pgraft_kv_table(), false);
	while ((item = dshash_seq_next(&scan)) != NULL)
	{
		if (InterruptPending)
		{
			outcome = SCAN_INTERRUPTED;
			break;
		}
		if (!pgraft_kv_begins_with(item, prefix, prefix_length) || item->create_revision > as_of)
			continue;
		*disturbed |= (item->mod_revision > as_of);
		if (!copy_item(buffer, item, want_values))
		{
			outcome = SCAN_BUFFER_FULL;
			break;
		}
	}
	dshash_seq_term(&scan);

	*disturbed |= (pg_atomic_read_u32(&pgraft_kv_root->deleting) != 0);
	pg_read_barrier();
	pgraft_kv_read_stats(&after);
	*disturbed |= (after.deletes != before.deletes);
	return outcome;
}

/* False when there is no room. */
static bool
copy_item(ScanBuffer *buffer, const KvItem *item, bool want_values)
{
	const char *bytes = pgraft_kv_item_bytes(item);
	Size		key_length = item->key.length;
	Size		value_length = want_values ? item->value_length : 0;
	PgraftKvEntry *entry;

	if (buffer->n_entries == buffer->max_entries ||
		key_length + value_length + 2 > buffer->capacity - buffer->used)
		return false;

	entry = &buffer->entries[buffer->n_entries++];
	memset(entry, 0, sizeof(*entry));
	entry->key = (char *) buffer->used;
	entry->key_length = item->key.length;
	entry->create_revision = item->create_revision;
	entry->mod_revision = item->mod_revision;
	entry->version = item->version;
	memcpy(buffer->bytes + buffer->used, bytes, key_length);
	buffer->bytes[buffer->used + key_length] = '\0';
	buffer->used += key_length + 1;

	if (want_values)
	{
		entry->value = (char *) buffer->used;
		entry->value_length = item->value_length;
		memcpy(buffer->bytes + buffer->used, bytes + key_length, value_length);
		buffer->bytes[buffer->used + value_length] = '\0';
		buffer->used += value_length + 1;
	}
	return true;
}

/* Room for at least that much; what was in it is lost. */
static void
grow_buffer(ScanBuffer *buffer, Size bytes, int entries)
{
	if (buffer->bytes != NULL)
	{
		pfree(buffer->bytes);
		pfree(buffer->entries);
	}
	buffer->capacity = Max(bytes, 1024);
	buffer->max_entries = Max(entries, 16);
	buffer->bytes = MemoryContextAllocHuge(CurrentMemoryContext, buffer->capacity);
	buffer->entries = MemoryContextAllocHuge(CurrentMemoryContext,
											 (Size) buffer->max_entries * sizeof(PgraftKvEntry));
}

static int
compare_entries(const void *a, const void *b)
{
	const PgraftKvEntry *left = (const PgraftKvEntry *) a;
	const PgraftKvEntry *right = (const PgraftKvEntry *) b;
	int			order;

	order = memcmp(left->key, right->key, Min(left->key_length, right->key_length));
	if (order != 0)
		return order;
	return (left->key_length > right->key_length) - (left->key_length < right->key_length);
}
