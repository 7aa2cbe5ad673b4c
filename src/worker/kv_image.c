/*-------------------------------------------------------------------------
 *
 * kv_image.c
 *	  The store as it was at one moment, read little by little while it changes.
 *
 * Consensus worker only, which is also the only writer of the store; so it reads
 * items without locks.  It keeps the addresses of all items in an array of its
 * own, because a walk of the hash table holds locks that no backend should wait
 * for over several turns.  (The table does not move its items, nor does the area
 * move a segment that is in use.)
 *
 * An image goes through the array from the end to the beginning.  Each item
 * knows the last image that it needs no more visit for:
 *	- visited by the walk, or just before it was changed or deleted: as it was;
 *	- created while the image was being read: not a part of it.
 * So every item of the moment when the image began is visited once, with the
 * contents of that moment.  A deletion moves the last item of the array into the
 * gap; when that is from the part that the walk has left behind, it is visited
 * or new, and the walk passes it by.
 *
 * What is visited out of turn waits in memory for the disk, together never more
 * than the store was large when the image began.
 *
 * Deleting very many keys by one command while an image is read visits those
 * which the walk has not reached within that command; that costs less than
 * the deletion itself.
 *
 * What survives a crash: nothing.  A new worker begins with an empty store.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/worker/kv_image.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "kv_internal.h"

#define FIRST_ALLOCATION 1024

static void visit_item(KvItem *item);

static KvItem **items = NULL;
static uint32 n_items = 0;
static uint32 allocated = 0;

static void (*visit) (const PgraftKvRecord *record) = NULL; /* NULL = no image */
static uint32 image = 0;		/* number of the present or last one */
static uint32 cursor;			/* items before it have still to be visited */

void
pgraft_kv_image_begin(void (*visitor) (const PgraftKvRecord *record))
{
	Assert(visit == NULL);
	visit = visitor;
	image++;
	cursor = n_items;
}

bool
pgraft_kv_image_next(void)
{
	Assert(visit != NULL);
	cursor = Min(cursor, n_items);
	while (cursor > 0)
	{
		KvItem	   *item = items[--cursor];

		if (item->image != image)
		{
			visit_item(item);
			return true;
		}
	}
	visit = NULL;
	return false;
}

void
pgraft_kv_image_end(void)
{
	visit = NULL;
}

/* Before an item is made: running out of memory must change nothing. */
void
pgraft_kv_image_reserve(void)
{
	uint64		wanted;

	if (n_items < allocated)
		return;
	if (n_items == PG_UINT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many keys in the key-value store")));
	wanted = Min(Max((uint64) allocated * 2, FIRST_ALLOCATION), PG_UINT32_MAX);
	if (items == NULL)
		items = MemoryContextAllocHuge(TopMemoryContext, wanted * sizeof(KvItem *));
	else
		items = repalloc_huge(items, wanted * sizeof(KvItem *));
	allocated = (uint32) wanted;
}

/* A new item; space is reserved. */
void
pgraft_kv_image_add(KvItem *item)
{
	Assert(n_items < allocated);
	item->image = image;
	item->position = n_items;
	items[n_items++] = item;
}

/* Before an item is changed or removed. */
void
pgraft_kv_image_changing(KvItem *item)
{
	if (visit != NULL && item->image != image)
		visit_item(item);
}

void
pgraft_kv_image_remove(KvItem *item)
{
	KvItem	   *last = items[--n_items];

	Assert(items[item->position] == item);
	items[item->position] = last;
	last->position = item->position;
}

/* The store is empty; who made it so does not matter. */
void
pgraft_kv_image_reset(void)
{
	n_items = 0;
}

static void
visit_item(KvItem *item)
{
	PgraftKvRecord record;

	record.key = pgraft_kv_item_bytes(item);
	record.key_length = item->key.length;
	record.value = record.key + item->key.length;
	record.value_length = item->value_length;
	record.create_revision = item->create_revision;
	record.mod_revision = item->mod_revision;
	record.version = item->version;
	item->image = image;
	visit(&record);
}
