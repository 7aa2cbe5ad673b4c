/*-------------------------------------------------------------------------
 *
 * test_raft_log.c
 *	  The engine's log against a plain array of entries.
 *
 * The model keeps every entry for ever.  It is also the disk: the callback
 * that serves uncached entries refuses everything that cannot be on disk, that
 * is whatever is beyond the evictable part.  After each step of a random
 * history the log must agree with the model, and its cache with the rules at
 * the top of src/raft/log.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "../../src/raft/internal.h"

#define MODEL_SIZE 20000
#define MAX_PAYLOAD 70000

struct model_entry
{
	raft_term	term;
	int			type;
	size_t		length;
	unsigned int content;		/* seed of the payload's bytes */
};

static struct model_entry model[MODEL_SIZE];	/* by index */
static raft_index model_base;
static raft_index model_last;

static struct raft_log raft_log;
static unsigned char disk_bytes[4 * MAX_PAYLOAD];
static size_t largest_payload;	/* since the last reset */
static raft_u64 seed = 20260103;

/* what the next allocations do, and what happened */
static int	allocations_until_failure = -1; /* -1 = never */
static int	n_allocated;

/* how the next read_entries() misbehaves */
static enum
{
	DISK_WORKS, DISK_FAILS, DISK_EMPTY, DISK_TOO_MANY, DISK_WRONG_INDEX, DISK_WRONG_TERM
}			disk_mode = DISK_WORKS;
static int	disk_asked_too_much;
static int	disk_calls;

static unsigned int
draw(unsigned int below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned int) ((seed >> 11) % below);
}

/* ----------------------------------------------------------------
 * What the log needs from its host
 * ----------------------------------------------------------------
 */
static void *
allocate(void *context, size_t size)
{
	(void) context;
	if (allocations_until_failure == 0)
		return NULL;
	if (allocations_until_failure > 0)
		allocations_until_failure--;
	n_allocated++;
	return malloc(size);
}

static void
release(void *context, void *pointer)
{
	(void) context;
	if (pointer != NULL)
		n_allocated--;
	free(pointer);
}

static unsigned char
content_byte(const struct model_entry *entry, size_t position)
{
	return (unsigned char) (entry->content * 31 + position * 7 + (position >> 8));
}

static void
fill(const struct model_entry *entry, unsigned char *bytes)
{
	size_t		i;

	for (i = 0; i < entry->length; i++)
		bytes[i] = content_byte(entry, i);
}

static int
read_disk(void *context, raft_index first, size_t max_entries, size_t max_bytes,
		  struct raft_entry *entries, size_t *n_read)
{
	size_t		used = 0;
	size_t		n;

	(void) context;
	disk_calls++;
	if (max_entries == 0 || first <= model_base ||
		first + max_entries - 1 > raft_log.last - raft_log.n_cached)
	{
		disk_asked_too_much++;
		return RAFT_E_IO;
	}
	if (disk_mode == DISK_FAILS)
		return RAFT_E_CORRUPT;
	for (n = 0; n < max_entries; n++)
	{
		const struct model_entry *entry = &model[first + n];

		if (n > 0 && (used + entry->length > max_bytes ||
					  used + entry->length > sizeof(disk_bytes)))
			break;
		fill(entry, disk_bytes + used);
		entries[n].index = first + n + (disk_mode == DISK_WRONG_INDEX && n == 0);
		entries[n].term = entry->term + (disk_mode == DISK_WRONG_TERM && n == 0);
		entries[n].type = entry->type;
		entries[n].length = entry->length;
		entries[n].data = entry->length > 0 ? disk_bytes + used : NULL;
		used += entry->length;
	}
	if (disk_mode == DISK_EMPTY)
		n = 0;
	if (disk_mode == DISK_TOO_MANY)
		n = max_entries + 1;
	*n_read = n;
	return RAFT_OK;
}

static const struct raft_allocator allocator = {NULL, allocate, release};
static const struct raft_callbacks callbacks = {NULL, read_disk, NULL, NULL, NULL};

/* ----------------------------------------------------------------
 * Both sides of each operation
 * ----------------------------------------------------------------
 */
static void
begin(size_t cache_bytes, raft_index index, raft_term term)
{
	int			result = raft_log_init(&raft_log, &allocator, &callbacks, cache_bytes);

	if (result != RAFT_OK)
	{
		printf("Bail out! raft_log_init: %s\n", raft_error_text(result));
		exit(1);
	}
	raft_log_reset(&raft_log, index, term);
	model_base = model_last = index;
	model[index].term = term;
	largest_payload = 0;
}

static int
append(raft_term term, int type, size_t length)
{
	static unsigned char payload[MAX_PAYLOAD];
	struct model_entry *modelled = &model[model_last + 1];
	struct raft_entry entry;
	int			result;

	modelled->term = term;
	modelled->type = type;
	modelled->length = length;
	modelled->content = draw(1 << 30);
	fill(modelled, payload);
	entry.index = model_last + 1;
	entry.term = term;
	entry.type = type;
	entry.length = length;
	entry.data = length > 0 ? payload : NULL;
	result = raft_log_append(&raft_log, &entry);
	if (result == RAFT_OK)
	{
		model_last++;
		if (length > largest_payload)
			largest_payload = length;
	}
	memset(payload, 0xEE, length);	/* the log must have copied it */
	return result;
}

static void
truncate_both(raft_index from)
{
	raft_log_truncate(&raft_log, from);
	model_last = from - 1;
}

static void
compact_both(raft_index index)
{
	raft_log_compact(&raft_log, index);
	model_base = index;
}

static raft_index
oldest_cached(void)
{
	return raft_log.last + 1 - raft_log.n_cached;
}

/* ----------------------------------------------------------------
 * Comparison
 * ----------------------------------------------------------------
 */
static int
same_entry(const struct raft_entry *entry, raft_index index)
{
	const struct model_entry *modelled = &model[index];
	size_t		i;

	if (entry->index != index || entry->term != modelled->term ||
		entry->type != modelled->type || entry->length != modelled->length)
		return 0;
	if (entry->length == 0)
		return entry->data == NULL;
	for (i = 0; i < entry->length; i++)
	{
		if (entry->data[i] != content_byte(modelled, i))
			return 0;
	}
	return 1;
}

/* One read with these limits gives what the model says, of one kind. */
static int
read_agrees(raft_index first, size_t max_entries, size_t max_bytes)
{
	static struct raft_entry entries[2048];
	raft_index	cached = oldest_cached();
	raft_index	end = first >= cached ? model_last : cached - 1;
	size_t		wanted = 0;
	size_t		total = 0;
	size_t		n_read = 99;
	int			from_cache = -1;
	size_t		i;
	int			result;

	result = raft_log_read(&raft_log, first, max_entries, max_bytes, entries,
						   &n_read, &from_cache);
	if (first <= model_base)
		return result == RAFT_E_COMPACTED && n_read == 0;
	if (first > model_last)
		return result == RAFT_E_UNAVAILABLE && n_read == 0;
	while (wanted < max_entries && first + wanted <= end)
	{
		total += model[first + wanted].length;
		if (wanted > 0 && total > max_bytes)
			break;
		wanted++;
	}
	if (result != RAFT_OK || n_read != wanted)
		return 0;
	if (max_entries > 0 && from_cache != (first >= cached))
		return 0;
	for (i = 0; i < n_read; i++)
	{
		if (!same_entry(&entries[i], first + i))
			return 0;
	}
	return 1;
}

static int
term_agrees(raft_index index)
{
	raft_term	term = 12345;
	int			result = raft_log_term(&raft_log, index, &term);

	if (index < model_base)
		return result == RAFT_E_COMPACTED && term == 12345;
	if (index > model_last)
		return result == RAFT_E_UNAVAILABLE && term == 12345;
	return result == RAFT_OK && term == model[index].term;
}

static int
hint_agrees(raft_index index, raft_term term)
{
	raft_index	wanted = index < model_last ? index : model_last;

	while (wanted > model_base && model[wanted].term > term)
		wanted--;
	if (wanted < model_base)
		wanted = model_base;
	return raft_log_find_at_most(&raft_log, index, term) == wanted;
}

/* Payloads lie inside the ring, do not overlap, and are the model's. */
static int
cache_is_sound(void)
{
	static unsigned char taken[4 * MAX_PAYLOAD];
	size_t		total = 0;
	raft_index	index;

	if (raft_log.n_cached > raft_log.n_slots || raft_log.n_cached > model_last - model_base)
		return 0;
	memset(taken, 0, raft_log.n_bytes);
	for (index = oldest_cached(); index <= model_last; index++)
	{
		const struct raft_cache_slot *slot = &raft_log.slots[index % raft_log.n_slots];
		size_t		i;

		if (slot->length != model[index].length || slot->type != model[index].type ||
			slot->offset > raft_log.n_bytes || slot->length > raft_log.n_bytes - slot->offset)
			return 0;
		for (i = 0; i < slot->length; i++)
		{
			if (taken[slot->offset + i]++ ||
				raft_log.bytes[slot->offset + i] != content_byte(&model[index], i))
				return 0;
		}
		total += slot->length;
	}
	return total == raft_log.bytes_used;
}

static int
log_agrees(void)
{
	raft_index	index;
	size_t		i;

	if (raft_log.base_index != model_base || raft_log.last != model_last ||
		raft_log.base_term != model[model_base].term ||
		raft_log_last_term(&raft_log) != model[model_last].term)
		return 0;
	if (raft_log.n_runs > 0 && raft_log.runs[0].first != model_base + 1)
		return 0;
	for (i = 1; i < raft_log.n_runs; i++)
	{
		if (raft_log.runs[i].first <= raft_log.runs[i - 1].first ||
			raft_log.runs[i].term <= raft_log.runs[i - 1].term)
			return 0;
	}
	for (index = model_base > 2 ? model_base - 2 : 0; index <= model_last + 2; index++)
	{
		if (!term_agrees(index))
			return 0;
	}
	return cache_is_sound();
}

/* ----------------------------------------------------------------
 * Random histories
 * ----------------------------------------------------------------
 */
struct history
{
	size_t		cache_bytes;
	size_t		usual_length;
	size_t		rare_length;
	unsigned int silence;		/* of 100 entries have no payload */
	unsigned int haste;			/* of 100 steps make everything evictable */
	unsigned int progress;		/* of 100 chances to move evictable are taken */
	unsigned int losses;		/* of 100 truncations and compactions happen */
};

static int	n_busy;
static int	n_wraps;
static int	n_evictions;

static size_t
draw_length(const struct history *history)
{
	if (draw(100) < history->silence)
		return 0;
	if (draw(50) == 0)
		return draw((unsigned int) history->rare_length + 1);
	return draw((unsigned int) history->usual_length + 1);
}

/* An answer of raft_log_append() that the rules of the cache allow. */
static int
append_is_right(size_t length, int result, raft_index cached_before, int room)
{
	raft_index	kept = raft_log.evictable + 1 > cached_before ?
		raft_log.evictable + 1 : cached_before;
	size_t		kept_bytes = 0;
	raft_index	index;

	if (room != (result == RAFT_OK))
		return 0;
	if (result == RAFT_OK)
		return oldest_cached() <= kept && oldest_cached() >= cached_before;

	/* refused: nothing changed, and there is a reason */
	if (result != RAFT_E_BUSY || oldest_cached() != cached_before || kept > model_last)
		return 0;
	if (model_last + 1 - kept == raft_log.n_slots)
		return 1;
	for (index = kept; index <= model_last; index++)
		kept_bytes += model[index].length;

	/* what is free is split by the used part, and the end may be a gap */
	return raft_log.n_bytes - kept_bytes <= 2 * length + largest_payload;
}

static int
append_step(const struct history *history)
{
	size_t		length = draw_length(history);
	raft_term	term = model[model_last].term + (draw(20) == 0) + (model_last == 0);
	raft_index	cached_before = oldest_cached();
	size_t		offset_before = model_last > model_base && raft_log.n_cached > 0 ?
		raft_log.slots[model_last % raft_log.n_slots].offset : 0;
	int			room = raft_log_has_room(&raft_log, 1, length);
	int			result = append(term, (int) draw(3), length);

	n_busy += result == RAFT_E_BUSY;
	n_evictions += oldest_cached() > cached_before;
	n_wraps += result == RAFT_OK &&
		raft_log.slots[model_last % raft_log.n_slots].offset < offset_before;
	return append_is_right(length, result, cached_before, room);
}

/* When there is room for a batch, every way to split it must fit. */
static int
batch_step(const struct history *history)
{
	size_t		n = 2 + draw(6);
	size_t		lengths[8];
	size_t		total = 0;
	size_t		i;

	for (i = 0; i < n; i++)
	{
		lengths[i] = draw_length(history);
		total += lengths[i];
	}
	if (!raft_log_has_room(&raft_log, n, total))
		return raft_log.evictable < model_last || total > raft_log.n_bytes / 2;
	for (i = 0; i < n; i++)
	{
		if (append(model[model_last].term + (model_last == 0), RAFT_ENTRY_NORMAL,
				   lengths[i]) != RAFT_OK)
			return 0;
	}
	return 1;
}

static int
restore_step(void)
{
	raft_term	term = model[model_last].term + draw(2) + (model_last == 0);
	struct model_entry *modelled = &model[model_last + 1];

	/* recovery ends where appending begins, so all before is durable */
	raft_log.evictable = model_last;
	if (raft_log_restore(&raft_log, model_last + 1, term) != RAFT_OK)
		return 0;
	model_last++;
	raft_log.evictable = model_last;
	modelled->term = term;
	modelled->type = RAFT_ENTRY_NORMAL;
	modelled->length = draw(30);
	modelled->content = draw(1 << 30);
	return raft_log.n_cached == 0 && raft_log.bytes_used == 0;
}

static int
step(const struct history *history)
{
	unsigned int kind = draw(100);
	raft_index	length = model_last - model_base;
	raft_index	somewhere = model_base + draw((unsigned int) length + 3);

	if (draw(100) < history->haste)
		raft_log.evictable = model_last;
	if (kind < 60)
		return append_step(history);
	if (kind < 66)
		return batch_step(history);
	if (kind < 76)
		return read_agrees(somewhere, draw(40), draw(1000));
	if (kind < 80)
		return hint_agrees(draw(2) ? somewhere : draw(MODEL_SIZE),
						   draw((unsigned int) model[model_last].term + 2));
	if (kind < 86)
	{
		if (raft_log.evictable < model_last && draw(100) < history->progress)
			raft_log.evictable += draw((unsigned int) (model_last - raft_log.evictable) + 1);
		return 1;
	}
	if (kind < 91 && draw(100) >= history->losses)
		return append_step(history);
	if (kind < 89)
	{
		unsigned int back = draw(draw(10) == 0 ? (unsigned int) length + 1 : 4);

		truncate_both(model_last + 1 - (back < length ? back : length));
		return raft_log.evictable <= model_last;
	}
	if (kind < 91)
	{
		raft_index	limit = raft_log.evictable < model_last ? raft_log.evictable : model_last;

		/* only what is durable is ever compacted, mostly a little of it */
		if (limit > model_base)
			compact_both(model_base + draw((unsigned int) (limit - model_base) /
										   (draw(20) == 0 ? 1 : 8) + 1));
		return 1;
	}
	if (kind < 92 && draw(20) == 0)
		return restore_step();
	return read_agrees(model_last - draw((unsigned int) (length < 50 ? length : 50) + 1),
					   1 + draw(60), draw(3) ? (size_t) -1 : draw(500));
}

static void
test_history(const char *name, const struct history *history, int n_steps)
{
	int			wrong = 0;
	int			i;

	n_busy = n_wraps = n_evictions = disk_calls = disk_asked_too_much = 0;
	begin(history->cache_bytes, 0, 0);
	for (i = 0; i < n_steps && model_last < MODEL_SIZE - 100; i++)
	{
		wrong += !step(history);
		if (i % 64 == 0)
			wrong += !log_agrees();
		if (wrong > 0)
			break;
	}
	wrong += !log_agrees();
	ok(wrong == 0, "%s: %d steps agree with the model, last index %lu", name, i, model_last);
	is_u64(disk_asked_too_much, 0, "and nothing that may not be on disk was read from there");
	ok(n_evictions > 0 && n_busy > 0 && disk_calls > 0,
	   "it evicted %d times, was busy %d times, read the disk %d times",
	   n_evictions, n_busy, disk_calls);
	ok(n_wraps > 0, "and wrapped %d times", n_wraps);
	raft_log_free(&raft_log);
	is_u64(n_allocated, 0, "and gave everything back");
}

static void
test_histories(void)
{
	static const struct history small = {500, 40, 500, 20, 2, 100, 100};
	static const struct history silent = {200, 60, 200, 80, 3, 100, 100};
	static const struct history slots = {40000, 30, 5000, 50, 0, 4, 4};
	static const struct history large = {2 * MAX_PAYLOAD, 4000, MAX_PAYLOAD, 5, 3, 100, 100};

	test_history("small ring", &small, 12000);
	test_history("mostly without payload", &silent, 12000);
	test_history("more slots than bytes", &slots, 15000);
	test_history("large payloads", &large, 3000);
}

/* ----------------------------------------------------------------
 * Single rules
 * ----------------------------------------------------------------
 */
static void
test_sizes(void)
{
	begin(1000, 0, 0);
	is_u64(raft_log.n_slots, 1024, "a small cache has 1024 slots");
	raft_log_free(&raft_log);
	begin(2048 * 256, 0, 0);
	is_u64(raft_log.n_slots, 2048, "one slot for 256 bytes");
	raft_log_free(&raft_log);
	begin(65536 * 256 + 4096, 0, 0);
	is_u64(raft_log.n_slots, 65536, "a large cache has 65536 slots");
	raft_log_free(&raft_log);

	begin(0, 0, 0);
	is_u64(append(1, RAFT_ENTRY_EMPTY, 0), RAFT_OK, "a cache without bytes takes empty entries");
	is_u64(append(1, RAFT_ENTRY_NORMAL, 1), RAFT_E_TOO_LARGE, "and no others");
	raft_log_free(&raft_log);
}

static void
test_arguments(void)
{
	struct raft_entry entry = {12, 3, RAFT_ENTRY_NORMAL, 0, NULL};

	begin(100, 10, 3);
	is_u64(raft_log_append(&raft_log, &entry), RAFT_E_INVALID, "an index after a gap");
	entry.index = 10;
	is_u64(raft_log_append(&raft_log, &entry), RAFT_E_INVALID, "an index that exists");
	entry.index = 11;
	entry.term = 2;
	is_u64(raft_log_append(&raft_log, &entry), RAFT_E_INVALID, "a term that falls");
	entry.term = 3;
	entry.length = 1;
	is_u64(raft_log_append(&raft_log, &entry), RAFT_E_INVALID, "a payload without data");
	is_u64(raft_log_restore(&raft_log, 12, 3), RAFT_E_INVALID, "restore after a gap");
	is_u64(raft_log_restore(&raft_log, 11, 2), RAFT_E_INVALID, "restore of a falling term");
	is_u64(append(3, RAFT_ENTRY_NORMAL, 101), RAFT_E_TOO_LARGE, "a payload larger than the ring");
	ok(log_agrees() && raft_log.n_cached == 0, "nothing of it changed the log");
	is_u64(append(3, RAFT_ENTRY_NORMAL, 100), RAFT_OK, "a payload as large as the ring");
	ok(log_agrees() && read_agrees(11, 5, 0), "and it can be read");
	raft_log_free(&raft_log);
}

static void
test_room(void)
{
	int			i;

	begin(100, 0, 0);
	ok(raft_log_has_room(&raft_log, 1, 100), "an empty ring has room for its size");
	ok(!raft_log_has_room(&raft_log, 1, 101), "and not for more");
	ok(raft_log_has_room(&raft_log, 1024, 100), "for as many entries as slots");
	ok(!raft_log_has_room(&raft_log, 1025, 0), "and not for more");
	append(1, RAFT_ENTRY_NORMAL, 60);
	ok(raft_log_has_room(&raft_log, 1, 40) && !raft_log_has_room(&raft_log, 1, 41),
	   "the rest of the ring is free");
	is_u64(append(1, RAFT_ENTRY_NORMAL, 41), RAFT_E_BUSY, "too much for the rest: busy");
	raft_log.evictable = 1;
	ok(raft_log_has_room(&raft_log, 1, 100), "evictable entries are in nobody's way");
	is_u64(raft_log.n_cached, 1, "asking evicts nothing");
	is_u64(append(1, RAFT_ENTRY_NORMAL, 40), RAFT_OK, "what fits beside them");
	is_u64(raft_log.n_cached, 2, "evicts nothing either");
	is_u64(append(1, RAFT_ENTRY_NORMAL, 50), RAFT_OK, "what does not fit");
	is_u64(oldest_cached(), 2, "evicts the oldest");
	is_u64(append(1, RAFT_ENTRY_NORMAL, 50), RAFT_E_BUSY, "and no entry that must stay");
	ok(log_agrees(), "the cache is sound");
	raft_log_reset(&raft_log, 5, 1);
	model_base = model_last = 5;
	model[5].term = 1;
	ok(log_agrees() && raft_log_has_room(&raft_log, 1, 100), "a reset empties everything");
	raft_log.evictable = 5;
	for (i = 0; i < 1024; i++)
		append(1, RAFT_ENTRY_EMPTY, 0);
	is_u64(model_last, 5 + 1024, "1024 entries take all slots");
	is_u64(append(1, RAFT_ENTRY_EMPTY, 0), RAFT_E_BUSY, "another one: busy");
	raft_log.evictable = 7;
	ok(raft_log_has_room(&raft_log, 2, 0) && !raft_log_has_room(&raft_log, 3, 0),
	   "two may go, two may come");
	ok(append(1, RAFT_ENTRY_EMPTY, 0) == RAFT_OK && append(1, RAFT_ENTRY_EMPTY, 0) == RAFT_OK &&
	   append(1, RAFT_ENTRY_EMPTY, 0) == RAFT_E_BUSY, "and no third");
	ok(log_agrees(), "the cache is sound");
	raft_log_free(&raft_log);
}

/* Entries without payload at a position that the next payload does not use. */
static void
test_empty_entries_at_the_end(void)
{
	begin(100, 0, 0);
	append(1, RAFT_ENTRY_NORMAL, 90);
	append(1, RAFT_ENTRY_EMPTY, 0);
	append(1, RAFT_ENTRY_EMPTY, 0);
	raft_log.evictable = 1;
	ok(raft_log_has_room(&raft_log, 1, 100), "entries without payload take no bytes");
	is_u64(append(1, RAFT_ENTRY_NORMAL, 50), RAFT_OK, "a payload wraps past them");
	is_u64(oldest_cached(), 2, "and they stay");
	is_u64(append(1, RAFT_ENTRY_NORMAL, 50), RAFT_OK, "the whole ring can be used");
	is_u64(append(1, RAFT_ENTRY_NORMAL, 1), RAFT_E_BUSY, "and no more than that");
	is_u64(append(1, RAFT_ENTRY_EMPTY, 0), RAFT_OK, "except by an entry without payload");
	ok(log_agrees(), "the cache is sound");
	raft_log_free(&raft_log);
}

static void
test_truncation(void)
{
	int			i;

	begin(400, 20, 4);
	for (i = 0; i < 10; i++)
		append((raft_term) (5 + i / 3), RAFT_ENTRY_NORMAL, 30);
	raft_log.evictable = 30;
	truncate_both(31);
	ok(log_agrees() && raft_log.n_cached == 10, "truncation after the end changes nothing");
	truncate_both(28);
	ok(log_agrees() && raft_log.n_cached == 7, "truncation inside the cache");
	is_u64(raft_log.evictable, 27, "new entries in that place are not evictable");
	append(9, RAFT_ENTRY_NORMAL, 180);
	append(9, RAFT_ENTRY_NORMAL, 20);
	is_u64(oldest_cached(), 22, "the oldest entry made room");
	truncate_both(21);
	ok(log_agrees() && raft_log.n_cached == 0, "truncation of everything");
	is_u64(raft_log_last_term(&raft_log), 4, "the last term is that of the base");
	is_u64(append(4, RAFT_ENTRY_NORMAL, 400), RAFT_OK, "the whole ring is free again");
	ok(log_agrees(), "and the log goes on");
	raft_log_free(&raft_log);
}

static void
test_compaction(void)
{
	raft_index	index;

	begin(400, 0, 0);
	for (index = 1; index <= 12; index++)
		append(1 + (index - 1) / 4, RAFT_ENTRY_NORMAL, 10);
	raft_log.evictable = 12;
	compact_both(0);
	ok(log_agrees(), "compaction up to the base changes nothing");
	compact_both(2);
	ok(log_agrees() && raft_log.n_runs == 3, "compaction inside a run");
	is_u64(raft_log.n_cached, 10, "also takes entries from the cache");
	compact_both(4);
	ok(log_agrees() && raft_log.n_runs == 2, "compaction up to the end of a run");
	compact_both(9);
	ok(log_agrees() && raft_log.n_runs == 1, "compaction over several runs");
	ok(read_agrees(10, 10, (size_t) -1) && read_agrees(9, 10, (size_t) -1), "reads after it");
	compact_both(12);
	ok(log_agrees() && raft_log.n_runs == 0 && raft_log.n_cached == 0, "compaction of everything");
	is_u64(raft_log_last_term(&raft_log), 3, "the base keeps its term");
	raft_log_compact(&raft_log, 13);
	raft_log_compact(&raft_log, 3);
	ok(log_agrees(), "compaction outside the log changes nothing");
	append(3, RAFT_ENTRY_NORMAL, 10);
	ok(log_agrees() && raft_log.n_runs == 1, "the log goes on");
	raft_log_free(&raft_log);
}

static void
test_hints(void)
{
	raft_index	index;
	raft_term	term;
	int			wrong = 0;

	begin(400, 3, 2);
	is_u64(raft_log_find_at_most(&raft_log, 9, 9), 3, "an empty log has its base");
	for (index = 4; index <= 20; index++)
		append(2 + (index / 5) * 2, RAFT_ENTRY_EMPTY, 0);
	for (index = 0; index < 25; index++)
	{
		for (term = 0; term < 14; term++)
			wrong += !hint_agrees(index, term);
	}
	is_u64(wrong, 0, "conflict hints for every index and term");
	raft_log_free(&raft_log);
}

static void
test_bad_disk(void)
{
	struct raft_entry entries[8];
	size_t		n_read;
	int			from_cache;
	int			i;
	static const int wanted[] = {
		RAFT_OK, RAFT_E_CORRUPT, RAFT_E_IO, RAFT_E_IO, RAFT_E_CORRUPT, RAFT_E_CORRUPT
	};
	static const struct raft_callbacks nothing = {NULL, NULL, NULL, NULL, NULL};

	begin(100, 0, 0);
	for (i = 1; i <= 6; i++)
	{
		raft_log_restore(&raft_log, (raft_index) i, (raft_term) (i + 1) / 2);
		model[i].term = (raft_term) (i + 1) / 2;
		model[i].type = RAFT_ENTRY_NORMAL;
		model[i].length = 5;
		model_last++;
	}
	append(3, RAFT_ENTRY_NORMAL, 5);
	ok(log_agrees(), "restored entries and an appended one");
	for (i = DISK_WORKS; i <= DISK_WRONG_TERM; i++)
	{
		disk_mode = i;
		n_read = 99;
		is_u64(raft_log_read(&raft_log, 3, 3, 100, entries, &n_read, &from_cache),
			   wanted[i], "answer to what the disk did");
		ok(from_cache == 0 && n_read == (i == DISK_WORKS ? 3 : 0), "and what was read");
	}
	disk_mode = DISK_WORKS;
	disk_asked_too_much = 0;
	ok(read_agrees(2, 8, (size_t) -1), "a read ends where the cache begins");
	ok(read_agrees(7, 8, (size_t) -1), "and goes on there");
	ok(read_agrees(1, 0, 0), "a read of nothing");
	is_u64(disk_asked_too_much, 0, "no cached entry was read from disk");
	raft_log.callbacks = &nothing;
	is_u64(raft_log_read(&raft_log, 1, 1, 1, entries, &n_read, &from_cache), RAFT_E_IO,
		   "a host without disk");
	raft_log_free(&raft_log);
}

static void
test_memory(void)
{
	int			i;
	int			failures = 0;

	for (i = 0; i < 3; i++)
	{
		allocations_until_failure = i;
		failures += raft_log_init(&raft_log, &allocator, &callbacks, 1000) == RAFT_E_NOMEM;
		failures += n_allocated == 0;
		raft_log_free(&raft_log);
	}
	allocations_until_failure = -1;
	is_u64(failures, 6, "each allocation of the creation may fail");

	begin(1000, 0, 0);
	failures = 0;
	for (i = 1; i <= 300; i++)
	{
		int			result;

		/* the array of runs grows now and then */
		raft_log.evictable = model_last;
		allocations_until_failure = 0;
		result = i % 2 ? append((raft_term) i, RAFT_ENTRY_NORMAL, 20) :
			raft_log_restore(&raft_log, model_last + 1, (raft_term) i);
		allocations_until_failure = -1;
		if (result == RAFT_E_NOMEM)
		{
			failures++;
			if (!log_agrees() || append((raft_term) i, RAFT_ENTRY_NORMAL, 20) != RAFT_OK)
				break;
		}
		else if (result != RAFT_OK)
			break;
		else if (i % 2 == 0)
		{
			model_last++;
			model[model_last].term = (raft_term) i;
		}
	}
	is_u64(i, 301, "300 terms although memory was short");
	ok(failures >= 4 && failures <= 6, "the array doubled %d times", failures);
	ok(log_agrees(), "and no term was lost");
	allocations_until_failure = 0;
	for (i = 0; i < 500; i++)
	{
		raft_log.evictable = model_last;
		if (append(300, RAFT_ENTRY_NORMAL, 20) != RAFT_OK)
			break;
	}
	allocations_until_failure = -1;
	is_u64(i, 500, "entries of the same term need no memory");
	raft_log_free(&raft_log);
	raft_log_free(&raft_log);
	is_u64(n_allocated, 0, "everything was given back");
}

int
main(void)
{
	test_sizes();
	test_arguments();
	test_room();
	test_empty_entries_at_the_end();
	test_truncation();
	test_compaction();
	test_hints();
	test_bad_disk();
	test_memory();
	test_histories();
	return tap_done();
}
