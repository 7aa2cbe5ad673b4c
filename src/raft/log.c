/*-------------------------------------------------------------------------
 *
 * log.c
 *	  Terms of the whole log, and a cache of its end.
 *
 * The log proper lives in the host's storage; this file remembers what the
 * engine asks about on every message.  It knows entries, nothing of members,
 * messages or roles, and it writes nothing: what is in here is gone after a
 * crash and comes back through raft_log_restore().  Only src/raft calls it.
 *
 * Terms never fall along the log, so they are kept as runs: each run begins
 * where the term changes and reaches to the next one.  There are as many runs
 * as there were terms with entries, whatever the length of the log; the array
 * doubles when it is full, which is the only allocation after creation.
 *
 * The cache holds the entries (last - n_cached, last].  A slot ring, addressed
 * by index modulo its size, says where the payload lies in a byte ring.
 *
 *	- A payload never wraps: when it does not fit before the end of the ring,
 *	  it begins at offset 0 and the gap stays unused until it is passed again.
 *	- An entry without payload costs no bytes.  Its slot remembers the position
 *	  at which the next payload would have begun, so the oldest slot's offset
 *	  is always the head of the used region, and the end of the newest slot's
 *	  payload is always its tail.
 *	- A used region that wraps never reaches its own head.  Head equal to tail
 *	  therefore means that the cached entries carry no bytes at all.
 *	- Only entries <= evictable leave, oldest first, and only when an append
 *	  needs their place.  The engine keeps evictable <= what is durable, so
 *	  every entry that is not cached can be read through read_entries().
 *
 * Because payloads do not wrap, a batch of up to half the ring always finds
 * room once every entry is evictable; so does any single entry that fits.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/raft/log.c
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "internal.h"

#define BYTES_PER_SLOT 256		/* guess of a payload's size */
#define MIN_SLOTS 1024
#define MAX_SLOTS 65536
#define INITIAL_RUNS 16

static struct raft_cache_slot *slot_of(const struct raft_log *log,
									   raft_index index);
static raft_index first_cached(const struct raft_log *log);
static raft_index first_kept(const struct raft_log *log);
static size_t ring_tail(const struct raft_log *log);
static int	find_place(const struct raft_log *log, raft_index oldest,
					   size_t length, size_t *offset);
static void evict_oldest(struct raft_log *log);
static void store_payload(struct raft_log *log, const struct raft_entry *entry,
						  size_t offset);
static int	reserve_run(struct raft_log *log, raft_term term);
static void add_to_run(struct raft_log *log, raft_index index, raft_term term);
static size_t find_run(const struct raft_log *log, raft_index index);
static int	read_cache(const struct raft_log *log, raft_index first,
					   size_t max_entries, size_t max_bytes,
					   struct raft_entry *entries, size_t *n_read);
static int	read_host(const struct raft_log *log, raft_index first,
					  size_t max_entries, size_t max_bytes,
					  struct raft_entry *entries, size_t *n_read);

int
raft_log_init(struct raft_log *log, const struct raft_allocator *allocator,
			  const struct raft_callbacks *callbacks, size_t cache_bytes)
{
	memset(log, 0, sizeof(*log));
	log->allocator = allocator;
	log->callbacks = callbacks;
	log->n_slots = cache_bytes / BYTES_PER_SLOT;
	if (log->n_slots < MIN_SLOTS)
		log->n_slots = MIN_SLOTS;
	if (log->n_slots > MAX_SLOTS)
		log->n_slots = MAX_SLOTS;
	log->n_bytes = cache_bytes;
	log->runs_size = INITIAL_RUNS;

	log->slots = (struct raft_cache_slot *)
		allocator->allocate(allocator->context,
							log->n_slots * sizeof(*log->slots));
	/* allocators may answer NULL to a request for nothing */
	log->bytes = (unsigned char *)
		allocator->allocate(allocator->context,
							cache_bytes == 0 ? 1 : cache_bytes);
	log->runs = (struct raft_term_run *)
		allocator->allocate(allocator->context,
							log->runs_size * sizeof(*log->runs));
	if (log->slots == NULL || log->bytes == NULL || log->runs == NULL)
	{
		raft_log_free(log);
		return RAFT_E_NOMEM;
	}
	return RAFT_OK;
}

/*
 * Also after a failed raft_log_init(), and more than once.
 */
void
raft_log_free(struct raft_log *log)
{
	const struct raft_allocator *allocator = log->allocator;

	if (allocator != NULL)
	{
		allocator->release(allocator->context, log->slots);
		allocator->release(allocator->context, log->bytes);
		allocator->release(allocator->context, log->runs);
	}
	memset(log, 0, sizeof(*log));
}

void
raft_log_reset(struct raft_log *log, raft_index index, raft_term term)
{
	log->base_index = index;
	log->base_term = term;
	log->last = index;
	log->n_runs = 0;
	log->n_cached = 0;
	log->bytes_used = 0;
	log->evictable = index;
}

int
raft_log_append(struct raft_log *log, const struct raft_entry *entry)
{
	size_t		offset;
	int			result;

	if (entry->index != log->last + 1 ||
		entry->term < raft_log_last_term(log) ||
		(entry->length > 0 && entry->data == NULL))
		return RAFT_E_INVALID;
	if (entry->length > log->n_bytes)
		return RAFT_E_TOO_LARGE;
	if (!raft_log_has_room(log, 1, entry->length))
		return RAFT_E_BUSY;
	result = reserve_run(log, entry->term);
	if (result != RAFT_OK)
		return result;

	/* ends at the latest when everything evictable has left */
	while (log->n_cached == log->n_slots ||
		   !find_place(log, first_cached(log), entry->length, &offset))
		evict_oldest(log);
	store_payload(log, entry, offset);
	add_to_run(log, entry->index, entry->term);
	return RAFT_OK;
}

/*
 * Exact for one entry.  For several it may say no although some split of
 * n_bytes would fit, but never yes when one would not: all of them fit into
 * one of the two free stretches, so those that went into the first leave
 * enough in the second.
 */
int
raft_log_has_room(const struct raft_log *log, size_t n_entries, size_t n_bytes)
{
	raft_index	oldest = first_kept(log);
	size_t		head;
	size_t		tail;
	size_t		offset;

	if (n_entries > log->n_slots ||
		log->last + 1 - oldest > log->n_slots - n_entries)
		return 0;
	if (n_bytes > log->n_bytes)
		return 0;
	if (n_entries <= 1)
		return find_place(log, oldest, n_bytes, &offset);

	tail = ring_tail(log);
	head = oldest > log->last ? tail : slot_of(log, oldest)->offset;
	if (tail < head)
		return n_bytes < head - tail;
	return n_bytes <= log->n_bytes - tail || n_bytes < head;
}

int
raft_log_restore(struct raft_log *log, raft_index index, raft_term term)
{
	int			result;

	if (index != log->last + 1 || term < raft_log_last_term(log))
		return RAFT_E_INVALID;
	result = reserve_run(log, term);
	if (result != RAFT_OK)
		return result;

	/* the cache ends at the last entry, which this one is not part of */
	log->n_cached = 0;
	log->bytes_used = 0;
	add_to_run(log, index, term);
	return RAFT_OK;
}

void
raft_log_truncate(struct raft_log *log, raft_index from)
{
	if (from <= log->base_index)
		from = log->base_index + 1;
	while (log->last >= from && log->n_cached > 0)
	{
		log->bytes_used -= slot_of(log, log->last)->length;
		log->n_cached--;
		log->last--;
	}
	if (log->last >= from)
		log->last = from - 1;
	while (log->n_runs > 0 && log->runs[log->n_runs - 1].first >= from)
		log->n_runs--;

	/* what comes in place of the dropped entries is not durable yet */
	if (log->evictable > log->last)
		log->evictable = log->last;
}

void
raft_log_compact(struct raft_log *log, raft_index index)
{
	raft_term	term;
	size_t		keep_from;

	if (index <= log->base_index || raft_log_term(log, index, &term) != RAFT_OK)
		return;
	while (log->n_cached > 0 && first_cached(log) <= index)
		evict_oldest(log);

	keep_from = find_run(log, index);
	if (keep_from + 1 < log->n_runs && log->runs[keep_from + 1].first == index + 1)
		keep_from++;
	else if (index == log->last)
		keep_from = log->n_runs;
	else
		log->runs[keep_from].first = index + 1;
	log->n_runs -= keep_from;
	memmove(log->runs, log->runs + keep_from, log->n_runs * sizeof(*log->runs));
	log->base_index = index;
	log->base_term = term;
}

int
raft_log_term(const struct raft_log *log, raft_index index, raft_term *term)
{
	if (index < log->base_index)
		return RAFT_E_COMPACTED;
	if (index > log->last)
		return RAFT_E_UNAVAILABLE;
	if (index == log->base_index)
		*term = log->base_term;
	else if (index >= log->runs[log->n_runs - 1].first)
		*term = log->runs[log->n_runs - 1].term;
	else
		*term = log->runs[find_run(log, index)].term;
	return RAFT_OK;
}

raft_term
raft_log_last_term(const struct raft_log *log)
{
	return log->n_runs == 0 ? log->base_term : log->runs[log->n_runs - 1].term;
}

raft_index
raft_log_find_at_most(const struct raft_log *log, raft_index index,
					  raft_term term)
{
	size_t		low = 0;
	size_t		high = log->n_runs;
	raft_index	end;

	if (index <= log->base_index)
		return log->base_index;

	/* number of runs whose term is at most the one asked for */
	while (low < high)
	{
		size_t		middle = low + (high - low) / 2;

		if (log->runs[middle].term <= term)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return log->base_index;
	end = low == log->n_runs ? log->last : log->runs[low].first - 1;
	return index < end ? index : end;
}

int
raft_log_read(const struct raft_log *log, raft_index first, size_t max_entries,
			  size_t max_bytes, struct raft_entry *entries, size_t *n_read,
			  int *from_cache)
{
	*n_read = 0;
	*from_cache = 1;
	if (first <= log->base_index)
		return RAFT_E_COMPACTED;
	if (first > log->last)
		return RAFT_E_UNAVAILABLE;
	if (max_entries == 0)
		return RAFT_OK;
	if (first >= first_cached(log))
		return read_cache(log, first, max_entries, max_bytes, entries, n_read);
	*from_cache = 0;
	return read_host(log, first, max_entries, max_bytes, entries, n_read);
}

/* ----------------------------------------------------------------
 * The cache
 * ----------------------------------------------------------------
 */
static struct raft_cache_slot *
slot_of(const struct raft_log *log, raft_index index)
{
	return &log->slots[index % log->n_slots];
}

/*
 * The oldest cached entry; last + 1 when there is none.
 */
static raft_index
first_cached(const struct raft_log *log)
{
	return log->last + 1 - log->n_cached;
}

/*
 * The oldest cached entry that may not be evicted; last + 1 when there is
 * none.
 */
static raft_index
first_kept(const struct raft_log *log)
{
	raft_index	first = first_cached(log);

	if (log->evictable < first)
		return first;
	return log->evictable >= log->last ? log->last + 1 : log->evictable + 1;
}

/*
 * Where the next payload would begin if there were room.
 */
static size_t
ring_tail(const struct raft_log *log)
{
	const struct raft_cache_slot *newest;

	if (log->n_cached == 0)
		return 0;
	newest = slot_of(log, log->last);
	return newest->offset + newest->length;
}

/*
 * Is there room for a payload if `oldest` were the oldest cached entry?
 * Sets *offset.
 */
static int
find_place(const struct raft_log *log, raft_index oldest, size_t length,
		   size_t *offset)
{
	size_t		head;
	size_t		tail = ring_tail(log);

	*offset = 0;
	if (oldest > log->last)
		return length <= log->n_bytes;
	head = slot_of(log, oldest)->offset;
	if (tail < head)
	{
		*offset = tail;
		return length < head - tail || length == 0;
	}
	if (length <= log->n_bytes - tail)
	{
		*offset = tail;
		return 1;
	}

	/* head = tail: no byte is in use, whatever the position */
	return head == tail ? length <= log->n_bytes : length < head;
}

static void
evict_oldest(struct raft_log *log)
{
	log->bytes_used -= slot_of(log, first_cached(log))->length;
	log->n_cached--;
}

/*
 * Caches entry as the newest one; log->last is still the one before it.
 */
static void
store_payload(struct raft_log *log, const struct raft_entry *entry,
			  size_t offset)
{
	struct raft_cache_slot *slot = slot_of(log, entry->index);

	/*
	 * The first payload after entries without any may begin before their
	 * position.  They move along, so that the oldest offset remains the head.
	 */
	if (log->bytes_used == 0 && log->n_cached > 0 &&
		offset < slot_of(log, log->last)->offset)
	{
		raft_index	index;

		for (index = first_cached(log); index <= log->last; index++)
			slot_of(log, index)->offset = offset;
	}

	slot->offset = offset;
	slot->length = entry->length;
	slot->type = entry->type;
	if (entry->length > 0)
		memcpy(log->bytes + offset, entry->data, entry->length);
	log->bytes_used += entry->length;
	log->n_cached++;
}

/* ----------------------------------------------------------------
 * Runs of terms
 * ----------------------------------------------------------------
 */

/*
 * Makes sure that an entry of this term can be added without allocating.
 */
static int
reserve_run(struct raft_log *log, raft_term term)
{
	const struct raft_allocator *allocator = log->allocator;
	struct raft_term_run *larger;

	if (log->n_runs > 0 && log->runs[log->n_runs - 1].term == term)
		return RAFT_OK;
	if (log->n_runs < log->runs_size)
		return RAFT_OK;
	if (log->runs_size > (size_t) -1 / sizeof(*larger) / 2)
		return RAFT_E_NOMEM;
	larger = (struct raft_term_run *)
		allocator->allocate(allocator->context,
							log->runs_size * 2 * sizeof(*larger));
	if (larger == NULL)
		return RAFT_E_NOMEM;
	memcpy(larger, log->runs, log->n_runs * sizeof(*larger));
	allocator->release(allocator->context, log->runs);
	log->runs = larger;
	log->runs_size *= 2;
	return RAFT_OK;
}

static void
add_to_run(struct raft_log *log, raft_index index, raft_term term)
{
	if (log->n_runs == 0 || log->runs[log->n_runs - 1].term != term)
	{
		log->runs[log->n_runs].first = index;
		log->runs[log->n_runs].term = term;
		log->n_runs++;
	}
	log->last = index;
}

/*
 * The run that holds index, which is in (base_index, last].
 */
static size_t
find_run(const struct raft_log *log, raft_index index)
{
	size_t		low = 0;
	size_t		high = log->n_runs;

	/* runs[low] begins at or before index, runs[high] after it */
	while (high - low > 1)
	{
		size_t		middle = low + (high - low) / 2;

		if (log->runs[middle].first <= index)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* ----------------------------------------------------------------
 * Reading
 * ----------------------------------------------------------------
 */
static int
read_cache(const struct raft_log *log, raft_index first, size_t max_entries,
		   size_t max_bytes, struct raft_entry *entries, size_t *n_read)
{
	size_t		run = find_run(log, first);
	size_t		total = 0;
	size_t		n = 0;

	while (n < max_entries && first + n <= log->last)
	{
		const struct raft_cache_slot *slot = slot_of(log, first + n);
		struct raft_entry *entry = &entries[n];

		if (n > 0 && (total > max_bytes || slot->length > max_bytes - total))
			break;
		if (run + 1 < log->n_runs && log->runs[run + 1].first <= first + n)
			run++;
		entry->index = first + n;
		entry->term = log->runs[run].term;
		entry->type = slot->type;
		entry->length = slot->length;
		entry->data = slot->length > 0 ? log->bytes + slot->offset : NULL;
		total += slot->length;
		n++;
	}
	*n_read = n;
	return RAFT_OK;
}

/*
 * Asks for nothing that is cached: a cached entry may not be on disk yet, and
 * the disk may still hold at its index what a truncation has dropped.  What
 * comes back must be the entries whose terms are remembered here.
 */
static int
read_host(const struct raft_log *log, raft_index first, size_t max_entries,
		  size_t max_bytes, struct raft_entry *entries, size_t *n_read)
{
	const struct raft_callbacks *callbacks = log->callbacks;
	raft_index	available = first_cached(log) - first;
	size_t		n = 0;
	size_t		i;
	int			result;

	if (max_entries > available)
		max_entries = available;
	if (callbacks->read_entries == NULL)
		return RAFT_E_IO;
	result = callbacks->read_entries(callbacks->context, first, max_entries,
									 max_bytes, entries, &n);
	if (result != RAFT_OK)
		return result;
	if (n == 0 || n > max_entries)
		return RAFT_E_IO;
	for (i = 0; i < n; i++)
	{
		raft_term	term;

		if (entries[i].index != first + i ||
			raft_log_term(log, first + i, &term) != RAFT_OK ||
			entries[i].term != term)
			return RAFT_E_CORRUPT;
	}
	*n_read = n;
	return RAFT_OK;
}
