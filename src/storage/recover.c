/*-------------------------------------------------------------------------
 *
 * recover.c
 *	  Opening a storage: deciding where the log ends, delivering what it says,
 *	  repairing what a crash left.
 *
 * Single-threaded.  Steps, in this order:
 *	1. identity, lock, names, segment headers;
 *	2. the newest segment into memory, to its end: that is where the log ends,
 *	   and what it says last about hard state, snapshot and start;
 *	3. snapshot, start and hard state to the caller;
 *	4. all segments, oldest first, each checked against the header of the next,
 *	   entries to the caller.  Each file is read once, whole;
 *	5. only when all of it is sound: repair.  Cut remains are zeroed, batches
 *	   not proven durable are written again and flushed, unneeded files go.
 * A crash during repair is repaired by the next open.
 *
 * Why step 5 writes valid batches again: after a flush that failed, or a kill
 * before any flush, the page cache shows bytes that the disk may not have.
 * The engine takes what it is told here for durable.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/recover.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <fcntl.h>

#include "internal.h"

typedef struct Recover
{
	PgraftStorage *storage;
	const PgraftRecovery *callbacks;
	PgraftFileList files;
	PgraftSegmentList segments;
	unsigned char *last_data;	/* newest segment */
	size_t		last_allocated;
	unsigned char *data;		/* older ones, one after the other */
	size_t		allocated;
	PgraftLogState final;		/* what the whole log says */
	size_t		end;			/* of the last batch in the newest segment */
	size_t		unproven;		/* first batch there not proven durable */
	PgraftTail	tail;
	raft_index	delivered;		/* last entry delivered */
} Recover;

static PgraftErrorCode find_end(Recover *r, PgraftError *error);
static PgraftErrorCode open_snapshot(Recover *r, PgraftError *error);
static PgraftErrorCode refused(PgraftError *error);
static PgraftErrorCode deliver_state(Recover *r, PgraftError *error);
static PgraftErrorCode deliver_batch(Recover *r, const PgraftSegment *segment,
									 size_t offset, const PgraftBatchHeader *batch,
									 const unsigned char *payload, PgraftError *error);
static PgraftErrorCode deliver_entry(Recover *r, const struct raft_entry *entry,
									 PgraftError *error);
static PgraftErrorCode replay_segment(Recover *r, size_t position,
									  const unsigned char *data, PgraftError *error);
static PgraftErrorCode replay_log(Recover *r, PgraftError *error);
static PgraftErrorCode adopt_segments(Recover *r, PgraftError *error);
static PgraftErrorCode repair_last_segment(Recover *r, PgraftError *error);
static PgraftErrorCode remove_leftovers(Recover *r, PgraftError *error);
static PgraftErrorCode recover(Recover *r, PgraftError *error);

/* ----------------------------------------------------------------
 * Where the log ends
 * ----------------------------------------------------------------
 */
static PgraftErrorCode
find_end(Recover *r, PgraftError *error)
{
	PgraftStorage *storage = r->storage;
	PgraftSegment *last = &r->segments.live[r->segments.n_live - 1];
	PgraftBatchHeader batch;
	const unsigned char *payload;
	PgraftWalk	walk;
	PgraftWalkResult result;
	PgraftErrorCode code;
	raft_u64	proven;

	code = pgraft_load_segment(storage->io, storage->directory, last,
							   &r->last_data, &r->last_allocated, error);
	if (code != PGRAFT_OK)
		return code;
	pgraft_walk_begin(&walk, r->last_data, last->bytes, &last->header);
	while ((result = pgraft_walk_next(&walk, &batch, &payload)) == PGRAFT_WALK_BATCH)
		;
	code = pgraft_check_tail(&walk, result, &batch, last, &r->tail, error);
	if (code != PGRAFT_OK)
		return code;
	r->final = walk.state;
	r->end = walk.offset;

	/* where the first unproven batch begins */
	proven = Max(walk.durable, r->tail.durable);
	pgraft_walk_begin(&walk, r->last_data, last->bytes, &last->header);
	while (walk.state.next_batch <= proven &&
		   pgraft_walk_next(&walk, &batch, &payload) == PGRAFT_WALK_BATCH)
		;
	r->unproven = walk.offset;
	return PGRAFT_OK;
}

/* ----------------------------------------------------------------
 * Delivery
 * ----------------------------------------------------------------
 */
static PgraftErrorCode
open_snapshot(Recover *r, PgraftError *error)
{
	PgraftStorage *storage = r->storage;
	PgraftErrorCode code;

	if (r->final.snapshot_index == 0)
		return PGRAFT_OK;
	storage->snapshot.index = r->final.snapshot_index;
	storage->snapshot.term = r->final.snapshot_term;
	storage->recorded_snapshot = r->final.snapshot_index;
	storage->recorded_snapshot_term = r->final.snapshot_term;
	code = pgraft_snapshot_reader_open(storage->io, storage->directory,
									   &storage->snapshot, error);
	if (code == PGRAFT_ERR_NOT_FOUND)
	{
		char		name[PGRAFT_NAME_BYTES];

		pgraft_snapshot_name(name, r->final.snapshot_index, r->final.snapshot_term);
		code = pgraft_corrupt(error, name, 0, "snapshot file that the log relies on is missing");
	}
	storage->stats.snapshot_bytes = storage->snapshot.length;
	return code;
}

static PgraftErrorCode
refused(PgraftError *error)
{
	return pgraft_error(error, PGRAFT_ERR_CORRUPT,
						"contents of the log were refused by their reader");
}

static PgraftErrorCode
deliver_state(Recover *r, PgraftError *error)
{
	const PgraftRecovery *to = r->callbacks;

	if (r->final.snapshot_index > 0 &&
		to->snapshot(to->context, r->storage->snapshot.meta) != 0)
		return refused(error);
	if (r->final.start_index > 0 &&
		to->log_start(to->context, r->final.start_index,
					  r->final.start_term) != 0)
		return refused(error);
	if (r->final.has_hard_state &&
		to->hard_state(to->context, &r->final.hard_state) != 0)
		return refused(error);
	r->delivered = r->final.start_index;
	r->storage->first_index = r->final.start_index + 1;
	r->storage->completed_last = r->final.start_index;
	return PGRAFT_OK;
}

static PgraftErrorCode
deliver_entry(Recover *r, const struct raft_entry *entry, PgraftError *error)
{
	PgraftStorage *storage = r->storage;

	if (entry->index <= r->final.start_index)
		return PGRAFT_OK;
	if (r->callbacks->entry(r->callbacks->context, entry) != 0)
		return refused(error);
	r->delivered = entry->index;
	if (!pgraft_terms_reserve(storage, 1))
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	pgraft_terms_add(storage, entry->index, entry->term);
	return PGRAFT_OK;
}

/*
 * Hands a batch's records up, but nothing that a later snapshot replaced, and
 * no entry before the final start of the log.
 */
static PgraftErrorCode
deliver_batch(Recover *r, const PgraftSegment *segment, size_t offset,
			  const PgraftBatchHeader *batch, const unsigned char *payload,
			  PgraftError *error)
{
	PgraftStorage *storage = r->storage;
	bool		live = batch->number > r->final.restart_batch ||
		r->final.restart_batch == 0;
	raft_index	first = 0;
	raft_index	last = 0;
	size_t		position = 0;
	PgraftRecord record;
	const char *reason;
	PgraftErrorCode code;

	while (pgraft_record_next(payload, batch->length, &position, &record,
							  &reason) > 0)
	{
		if (record.kind == PGRAFT_RECORD_SNAPSHOT && record.restart &&
			batch->number == r->final.restart_batch)
			live = true;
		if (!live)
			continue;
		if (record.kind == PGRAFT_RECORD_TRUNCATE)
		{
			raft_index	from = Max(record.index, r->final.start_index + 1);

			if (from > r->delivered)
				continue;
			if (r->callbacks->truncate != NULL &&
				r->callbacks->truncate(r->callbacks->context, from) != 0)
				return refused(error);
			r->delivered = from - 1;
			pgraft_terms_truncate(storage, from);
			pgraft_index_truncate(storage, from);
		}
		else if (record.kind == PGRAFT_RECORD_ENTRY)
		{
			/* before the next segment's header has had a chance to object */
			if (record.entry.index > r->delivered + 1)
			{
				char		name[PGRAFT_NAME_BYTES];

				pgraft_segment_name(name, segment->slot);
				return pgraft_corrupt(error, name, offset,
									  "entry does not continue the log");
			}
			code = deliver_entry(r, &record.entry, error);
			if (code != PGRAFT_OK)
				return code;
			if (first == 0)
				first = record.entry.index;
			last = record.entry.index;
		}
	}
	if (!pgraft_index_reserve(storage))
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	if (last <= r->final.start_index)
		first = 0;
	pgraft_index_add(storage, segment, offset,
					 offset + PGRAFT_BATCH_HEADER_BYTES + batch->length,
					 first, last);
	return PGRAFT_OK;
}

static PgraftErrorCode
replay_segment(Recover *r, size_t position, const unsigned char *data,
			   PgraftError *error)
{
	const PgraftSegment *segment = &r->segments.live[position];
	const PgraftSegment *next = position + 1 < r->segments.n_live ?
		segment + 1 : NULL;
	PgraftBatchHeader batch;
	const unsigned char *payload;
	PgraftWalk	walk;
	PgraftWalkResult result;
	PgraftErrorCode code;
	size_t		offset;

	pgraft_walk_begin(&walk, data, segment->bytes, &segment->header);
	for (;;)
	{
		offset = walk.offset;
		result = pgraft_walk_next(&walk, &batch, &payload);
		if (result != PGRAFT_WALK_BATCH)
			break;
		code = deliver_batch(r, segment, offset, &batch, payload, error);
		if (code != PGRAFT_OK)
			return code;
	}
	if (next == NULL)
		return PGRAFT_OK;		/* judged by find_end() */
	code = pgraft_check_inner_end(&walk, result, segment, next, error);
	if (code == PGRAFT_OK && walk.durable >= r->final.next_batch)
	{
		char		name[PGRAFT_NAME_BYTES];
		const PgraftSegment *last = &r->segments.live[r->segments.n_live - 1];

		pgraft_segment_name(name, last->slot);
		code = pgraft_corrupt(error, name, r->end, "batch is missing");
		pgraft_error_detail(error, "File \"log-%08x\" proves at offset %zu that batches up to %lu had been flushed.",
							segment->slot, walk.offset, walk.durable);
	}
	return code;
}

static PgraftErrorCode
replay_log(Recover *r, PgraftError *error)
{
	PgraftStorage *storage = r->storage;
	PgraftErrorCode code = PGRAFT_OK;
	size_t		i;

	for (i = 0; code == PGRAFT_OK && i + 1 < r->segments.n_live; i++)
	{
		code = pgraft_load_segment(storage->io, storage->directory,
								   &r->segments.live[i], &r->data,
								   &r->allocated, error);
		if (code == PGRAFT_OK)
			code = replay_segment(r, i, r->data, error);
		storage->stats.recovery_bytes += r->segments.live[i].bytes;
	}
	storage->stats.recovery_bytes += r->segments.live[i].bytes;
	if (code == PGRAFT_OK)
		code = replay_segment(r, i, r->last_data, error);
	Assert(code != PGRAFT_OK || r->delivered == r->final.last_index);
	return code;
}

/* ----------------------------------------------------------------
 * Repair
 * ----------------------------------------------------------------
 */

/* The segments found become the storage's. */
static PgraftErrorCode
adopt_segments(Recover *r, PgraftError *error)
{
	PgraftStorage *storage = r->storage;
	PgraftSegment *last = &r->segments.live[r->segments.n_live - 1];
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];

	storage->live = r->segments.live;
	storage->n_live = r->segments.n_live;
	storage->live_allocated = r->segments.n_live;
	r->segments.live = NULL;
	storage->next_slot = r->segments.max_slot + 1;
	storage->written = r->final;
	storage->prepared = r->final;
	storage->write_offset = r->end;
	pgraft_segment_name(name, last->slot);
	pgraft_path(path, storage->directory, name);
	storage->write_fd = storage->io->open(storage->io, path, O_RDWR);
	if (storage->write_fd < 0)
		return pgraft_io_error(error, "open file", path);
	return PGRAFT_OK;
}

/* Makes the newest segment on disk what was read from it, durably. */
static PgraftErrorCode
repair_last_segment(Recover *r, PgraftError *error)
{
	PgraftStorage *storage = r->storage;
	PgraftSegment *last = &storage->live[storage->n_live - 1];
	char		name[PGRAFT_NAME_BYTES];
	PgraftErrorCode code = PGRAFT_OK;

	pgraft_segment_name(name, last->slot);
	if (r->tail.torn)
	{
		code = pgraft_write_zeros(storage->io, storage->write_fd, name,
								  (off_t) r->end, (off_t) last->bytes, error);
		storage->stats.torn_tails = 1;
		storage->stats.torn_bytes = r->tail.torn_bytes;
	}
	if (code == PGRAFT_OK && r->unproven == PGRAFT_SEGMENT_HEADER_BYTES)
		code = pgraft_write_at(storage->io, storage->write_fd, name, r->last_data,
							   PGRAFT_SEGMENT_HEADER_BYTES, 0, error);
	if (code == PGRAFT_OK && r->unproven < r->end)
		code = pgraft_write_at(storage->io, storage->write_fd, name,
							   r->last_data + r->unproven,
							   r->end - r->unproven, (off_t) r->unproven, error);
	if (code == PGRAFT_OK)
		code = pgraft_sync_log(storage, NULL, error);
	return code;
}

/* Files that no one needs: see the head of this file and of format.c. */
static PgraftErrorCode
remove_leftovers(Recover *r, PgraftError *error)
{
	PgraftStorage *storage = r->storage;
	PgraftErrorCode code = PGRAFT_OK;
	raft_index	index;
	raft_term	term;
	size_t		i;

	for (i = 0; code == PGRAFT_OK && i < r->files.n; i++)
	{
		const char *name = r->files.names[i].name;

		if (!pgraft_is_temporary_name(name) && strcmp(name, "creating") != 0 &&
			!(pgraft_parse_snapshot_name(name, &index, &term) &&
			  (index != r->final.snapshot_index || term != r->final.snapshot_term)))
			continue;
		code = pgraft_remove(storage->io, storage->directory, name, error);
	}
	for (i = 0; code == PGRAFT_OK && i < r->segments.n_stale; i++)
		code = pgraft_retire_file(storage, &r->segments.stale[i], error);
	for (i = 0; code == PGRAFT_OK && i < r->segments.n_spare; i++)
	{
		char		name[PGRAFT_NAME_BYTES];

		if (r->segments.spare[i].bytes == storage->options.segment_bytes &&
			storage->n_spares < (size_t) Max(storage->options.recycle_segments, 0))
		{
			if (!pgraft_grow((void **) &storage->spares, &storage->spares_allocated,
							 storage->n_spares + 1, sizeof(uint32)))
				return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
			storage->spares[storage->n_spares++] = r->segments.spare[i].slot;
			continue;
		}
		pgraft_segment_name(name, r->segments.spare[i].slot);
		code = pgraft_remove(storage->io, storage->directory, name, error);
	}

	/*
	 * Even when nothing was removed: a process that was killed between a
	 * rename and the directory's fsync left names that a power failure would
	 * still take away.
	 */
	if (code == PGRAFT_OK)
		code = pgraft_sync_directory(storage->io, storage->directory, error);
	if (code == PGRAFT_OK)
		code = pgraft_retire_segments(storage, error);
	if (code == PGRAFT_OK)
		code = pgraft_add_spares(storage, error);
	if (code == PGRAFT_OK)
		pgraft_index_forget(storage, storage->live[0].sequence);
	return code;
}

/* ----------------------------------------------------------------
 * Open
 * ----------------------------------------------------------------
 */
static PgraftErrorCode
recover(Recover *r, PgraftError *error)
{
	PgraftStorage *storage = r->storage;
	PgraftErrorCode code;

	code = pgraft_list_files(storage->io, storage->directory, &r->files, error);
	if (code == PGRAFT_OK)
		code = pgraft_find_segments(storage->io, storage->directory,
									storage->identity.member_uid, &r->files,
									&r->segments, error);
	if (code == PGRAFT_OK)
		code = find_end(r, error);
	if (code == PGRAFT_OK)
		code = pgraft_check_connected(&r->segments.live[0], &r->final, error);
	if (code == PGRAFT_OK)
		code = open_snapshot(r, error);
	if (code == PGRAFT_OK)
		code = deliver_state(r, error);
	if (code == PGRAFT_OK)
		code = replay_log(r, error);
	if (code == PGRAFT_OK)
		code = adopt_segments(r, error);
	if (code == PGRAFT_OK)
		code = repair_last_segment(r, error);
	if (code == PGRAFT_OK)
		code = remove_leftovers(r, error);
	return code;
}

PgraftErrorCode
pgraft_storage_open(PgraftIo *io, const char *directory,
					const PgraftStorageOptions *options,
					const PgraftRecovery *recovery, PgraftIdentity *identity,
					PgraftStorage **result, PgraftError *error)
{
	unsigned long started = io->now_us(io);
	PgraftStorage *storage;
	PgraftErrorCode code;
	Recover		r;

	*result = NULL;
	code = pgraft_storage_read_identity(io, directory, identity, error);
	if (code != PGRAFT_OK)
		return code;
	storage = pgraft_storage_allocate(io, directory, options, identity);
	if (storage == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	code = pgraft_lock_directory(io, directory, &storage->lock_fd, error);
	memset(&r, 0, sizeof(r));
	if (code == PGRAFT_OK)
	{
		r.storage = storage;
		r.callbacks = recovery;
		code = recover(&r, error);
	}
	free(r.files.names);
	free(r.last_data);
	free(r.data);
	pgraft_free_segments(&r.segments);
	if (code != PGRAFT_OK)
	{
		pgraft_storage_release(storage);
		return code;
	}
	storage->stats.segments = storage->n_live;
	storage->stats.spare_segments = storage->n_spares;
	storage->stats.recovery_us = io->now_us(io) - started;
	*result = storage;
	return PGRAFT_OK;
}
