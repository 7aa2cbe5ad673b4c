/*-------------------------------------------------------------------------
 *
 * segment.c
 *	  Segment files on the writing side: making, taking into use, flushing,
 *	  marking, recycling.
 *
 * Flush half of struct PgraftStorage only (see internal.h); also called while
 * a storage is opened, when there is just one thread.
 *
 * What a crash can leave: a *.tmp file (removed by the next open), a blank
 * spare, a segment with a header and no batch, an old segment that nobody
 * needs (retired by the next open).  The header of a segment is written only
 * after the segment before it was flushed to its end, and a segment is retired
 * only after the record that makes it unneeded was flushed.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/segment.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <fcntl.h>

#include "internal.h"

static PgraftErrorCode find_free_slot(PgraftStorage *storage, PgraftError *error);
static PgraftErrorCode create_file(PgraftStorage *storage, size_t bytes,
								   uint32 *slot, PgraftError *error);
static PgraftErrorCode choose_file(PgraftStorage *storage, size_t room,
								   PgraftError *error);
static void write_last_mark(PgraftStorage *storage);
static bool can_retire(const PgraftStorage *storage);

/*
 * Moves next_slot to a number that no file has: after the greatest one they
 * begin anew.
 */
static PgraftErrorCode
find_free_slot(PgraftStorage *storage, PgraftError *error)
{
	PgraftIo   *io = storage->io;
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];

	for (;;)
	{
		int			fd;

		pgraft_segment_name(name, storage->next_slot);
		pgraft_path(path, storage->directory, name);
		fd = io->open(io, path, O_RDONLY);
		if (fd < 0)
			break;
		io->close(io, fd);
		storage->next_slot++;
	}
	return errno == ENOENT ? PGRAFT_OK : pgraft_io_error(error, "open file", path);
}

/*
 * Makes a blank file of the given size under the next free name.  Without
 * space nothing is left behind.
 */
static PgraftErrorCode
create_file(PgraftStorage *storage, size_t bytes, uint32 *slot, PgraftError *error)
{
	PgraftIo   *io = storage->io;
	char		temporary[PGRAFT_PATH_BYTES];
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];
	PgraftErrorCode code;
	int			fd;

	code = find_free_slot(storage, error);
	if (code != PGRAFT_OK)
		return code;
	pgraft_path(temporary, storage->directory, "segment.tmp");
	pgraft_segment_name(name, storage->next_slot);
	pgraft_path(path, storage->directory, name);
	fd = io->open(io, temporary, O_RDWR | O_CREAT | O_TRUNC);
	if (fd < 0)
		return pgraft_io_error(error, "create file", temporary);
	code = pgraft_write_zeros(io, fd, temporary, 0, (off_t) bytes, error);
	if (code == PGRAFT_OK && io->fsync(io, fd) < 0)
		code = pgraft_flush_error(error, "fsync file", temporary);
	io->close(io, fd);
	if (code == PGRAFT_OK && io->rename(io, temporary, path) < 0)
		code = pgraft_io_error(error, "rename file", temporary);
	if (code != PGRAFT_OK)
	{
		io->unlink(io, temporary);
		return code;
	}
	*slot = storage->next_slot++;
	return pgraft_sync_directory(io, storage->directory, error);
}

/*
 * Picks the file of the next segment.  It stays picked until its header is
 * written, so that an attempt repeated after a full disk uses the same file
 * and no sequence can get two.
 */
static PgraftErrorCode
choose_file(PgraftStorage *storage, size_t room, PgraftError *error)
{
	size_t		wanted = PGRAFT_SEGMENT_HEADER_BYTES + room +
		PGRAFT_BATCH_HEADER_BYTES;
	PgraftErrorCode code;

	if (storage->chosen_bytes >= wanted)
		return PGRAFT_OK;
	wanted = (wanted + PGRAFT_SEGMENT_UNIT - 1) / PGRAFT_SEGMENT_UNIT *
		PGRAFT_SEGMENT_UNIT;
	wanted = Max(wanted, storage->options.segment_bytes);
	if (storage->n_spares > 0 && wanted == storage->options.segment_bytes)
		storage->chosen_slot = storage->spares[--storage->n_spares];
	else
	{
		code = create_file(storage, wanted, &storage->chosen_slot, error);
		if (code != PGRAFT_OK)
			return code;
	}
	storage->chosen_bytes = wanted;
	return PGRAFT_OK;
}

/*
 * Goes on in a new segment with space for a batch of `room` bytes, header
 * included.  Its header becomes durable with the first batch.
 */
PgraftErrorCode
pgraft_activate_segment(PgraftStorage *storage, size_t room, PgraftJob *job,
						PgraftError *error)
{
	PgraftIo   *io = storage->io;
	unsigned char buffer[PGRAFT_SEGMENT_HEADER_BYTES];
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];
	PgraftSegmentHeader header;
	PgraftSegment *segment;
	PgraftErrorCode code;
	int			fd;

	if (storage->unsynced)
	{
		code = pgraft_sync_log(storage, job, error);
		if (code != PGRAFT_OK)
			return code;
	}
	Assert(storage->durable + 1 == storage->written.next_batch);
	code = pgraft_sync_last_mark(storage, error);
	if (code != PGRAFT_OK)
		return code;
	if (!pgraft_grow((void **) &storage->live, &storage->live_allocated,
					 storage->n_live + 1, sizeof(PgraftSegment)))
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	code = choose_file(storage, room, error);
	if (code != PGRAFT_OK)
		return code;

	memset(&header, 0, sizeof(header));
	header.sequence = storage->n_live == 0 ? 1 :
		storage->live[storage->n_live - 1].sequence + 1;
	header.member_uid = storage->identity.member_uid;
	header.salt = pgraft_segment_salt(header.member_uid, header.sequence,
									  io->now_us(io));
	header.bytes = storage->chosen_bytes;
	header.state = storage->written;
	pgraft_segment_encode(buffer, &header);
	pgraft_segment_name(name, storage->chosen_slot);
	pgraft_path(path, storage->directory, name);
	fd = io->open(io, path, O_RDWR);
	if (fd < 0)
		return pgraft_io_error(error, "open file", path);
	code = pgraft_write_at(io, fd, path, buffer, sizeof(buffer), 0, error);
	if (code != PGRAFT_OK)
	{
		io->close(io, fd);
		return code;
	}

	if (storage->write_fd >= 0)
	{
		Assert(storage->previous_fd < 0);
		storage->previous_fd = storage->write_fd;
		storage->previous_offset = storage->write_offset;
		storage->previous = storage->live[storage->n_live - 1];
		storage->previous_state = storage->written;
	}
	segment = &storage->live[storage->n_live++];
	memset(segment, 0, sizeof(*segment));
	segment->slot = storage->chosen_slot;
	segment->sequence = header.sequence;
	segment->salt = header.salt;
	segment->bytes = storage->chosen_bytes;
	segment->base_index = header.state.last_index;
	segment->first_batch = header.state.next_batch;
	storage->chosen_bytes = 0;
	storage->write_fd = fd;
	storage->write_offset = PGRAFT_SEGMENT_HEADER_BYTES;
	storage->unsynced = true;
	return PGRAFT_OK;
}

/* Switches segments unless `bytes` and a mark fit into the present one. */
PgraftErrorCode
pgraft_ensure_room(PgraftStorage *storage, size_t bytes, PgraftJob *job,
				   PgraftError *error)
{
	if (storage->write_fd >= 0 &&
		storage->write_offset + bytes + PGRAFT_BATCH_HEADER_BYTES <=
		storage->live[storage->n_live - 1].bytes)
		return PGRAFT_OK;
	return pgraft_activate_segment(storage, bytes, job, error);
}

/*
 * Flushes everything written so far.  Failure is final: the kernel may have
 * dropped the dirty pages, so a second attempt that succeeds proves nothing.
 */
PgraftErrorCode
pgraft_sync_log(PgraftStorage *storage, PgraftJob *job, PgraftError *error)
{
	PgraftIo   *io = storage->io;
	unsigned long started = io->now_us(io);
	char		name[PGRAFT_NAME_BYTES];

	if (io->fdatasync(io, storage->write_fd) < 0)
	{
		pgraft_segment_name(name, storage->live[storage->n_live - 1].slot);
		return pgraft_flush_error(error, "fdatasync file", name);
	}
	if (job != NULL)
	{
		job->fsyncs++;
		job->fsync_us += io->now_us(io) - started;
	}
	storage->durable = storage->written.next_batch - 1;
	storage->unsynced = false;
	pgraft_write_mark(storage);
	if (storage->previous_fd >= 0)
		write_last_mark(storage);
	return PGRAFT_OK;
}

/*
 * Notes behind the last batch that it is durable.  Not flushed, and a failure
 * does not matter: the mark is evidence, not data.
 */
void
pgraft_write_mark(PgraftStorage *storage)
{
	PgraftIo   *io = storage->io;
	unsigned char buffer[PGRAFT_BATCH_HEADER_BYTES];
	PgraftBatchHeader mark;

	memset(&mark, 0, sizeof(mark));
	mark.mark = true;
	mark.number = storage->written.next_batch;
	mark.salt = storage->live[storage->n_live - 1].salt;
	mark.durable = storage->durable;
	mark.previous = storage->written.chain;
	pgraft_batch_encode(buffer, &mark);
	(void) pgraft_write_at(io, storage->write_fd, "", buffer, sizeof(buffer),
						   (off_t) storage->write_offset, NULL);
	storage->mark_unsynced = true;
}

/*
 * The segment after the previous one has a durable header now: say so at the
 * end of the previous one, which proves a loss if the newer file vanishes.
 */
static void
write_last_mark(PgraftStorage *storage)
{
	PgraftIo   *io = storage->io;
	unsigned char buffer[PGRAFT_BATCH_HEADER_BYTES];
	PgraftBatchHeader mark;

	memset(&mark, 0, sizeof(mark));
	mark.mark = true;
	mark.number = storage->previous_state.next_batch;
	mark.salt = storage->previous.salt;
	mark.durable = storage->durable;
	mark.next_sequence = storage->previous.sequence + 1;
	mark.previous = storage->previous_state.chain;
	pgraft_batch_encode(buffer, &mark);
	(void) pgraft_write_at(io, storage->previous_fd, "", buffer, sizeof(buffer),
						   (off_t) storage->previous_offset, NULL);
	Assert(storage->marked_fd < 0);
	storage->marked_fd = storage->previous_fd;
	storage->previous_fd = -1;
}

/*
 * Flushes that last mark, when there is time: it is the only proof that the
 * newest file existed, but no job should wait for it.
 */
PgraftErrorCode
pgraft_sync_last_mark(PgraftStorage *storage, PgraftError *error)
{
	PgraftIo   *io = storage->io;
	PgraftErrorCode code = PGRAFT_OK;

	if (storage->marked_fd < 0)
		return PGRAFT_OK;
	if (io->fdatasync(io, storage->marked_fd) < 0)
		code = pgraft_flush_error(error, "fdatasync file", "previous log segment");
	io->close(io, storage->marked_fd);
	storage->marked_fd = -1;
	return code;
}

/* ----------------------------------------------------------------
 * Recycling
 * ----------------------------------------------------------------
 */

/* Is everything in the oldest segment below the log's start or superseded? */
static bool
can_retire(const PgraftStorage *storage)
{
	if (storage->n_live < 2 || storage->unsynced || storage->previous_fd >= 0)
		return false;
	return storage->live[1].base_index <= storage->written.start_index ||
		storage->live[1].first_batch <= storage->written.restart_batch;
}

/* After a flush: takes every segment out of the log that it no longer needs. */
PgraftErrorCode
pgraft_retire_segments(PgraftStorage *storage, PgraftError *error)
{
	while (can_retire(storage))
	{
		PgraftErrorCode code = pgraft_retire_file(storage, &storage->live[0], error);

		if (code != PGRAFT_OK)
			return code;
		storage->n_live--;
		memmove(storage->live, storage->live + 1,
				storage->n_live * sizeof(PgraftSegment));
	}
	return PGRAFT_OK;
}

/*
 * Blanks the header, durably and before the next older-to-newer one, so that a
 * crash never leaves a gap.  Then the file is a spare or removed.
 */
PgraftErrorCode
pgraft_retire_file(PgraftStorage *storage, const PgraftSegment *segment,
				   PgraftError *error)
{
	PgraftIo   *io = storage->io;
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];
	PgraftErrorCode code;
	int			fd;

	pgraft_segment_name(name, segment->slot);
	pgraft_path(path, storage->directory, name);
	fd = io->open(io, path, O_RDWR);

	/* an attempt before this one may have failed only to flush the removal */
	if (fd < 0 && errno == ENOENT)
		return pgraft_sync_directory(io, storage->directory, error);
	if (fd < 0)
		return pgraft_io_error(error, "open file", path);
	code = pgraft_write_zeros(io, fd, path, 0, PGRAFT_SEGMENT_HEADER_BYTES, error);
	if (code == PGRAFT_OK && io->fdatasync(io, fd) < 0)
		code = pgraft_flush_error(error, "fdatasync file", path);
	io->close(io, fd);
	if (code != PGRAFT_OK)
		return code;
	if (segment->bytes == storage->options.segment_bytes &&
		storage->n_spares < (size_t) Max(storage->options.recycle_segments, 0) &&
		pgraft_grow((void **) &storage->spares, &storage->spares_allocated,
					storage->n_spares + 1, sizeof(uint32)))
	{
		storage->spares[storage->n_spares++] = segment->slot;
		return PGRAFT_OK;
	}
	code = pgraft_remove(io, storage->directory, name, error);
	if (code != PGRAFT_OK)
		return code;
	return pgraft_sync_directory(io, storage->directory, error);
}

/* Makes spare files up to the wanted number; a full disk is no error. */
PgraftErrorCode
pgraft_add_spares(PgraftStorage *storage, PgraftError *error)
{
	while (storage->n_spares < (size_t) Max(storage->options.recycle_segments, 0))
	{
		uint32		slot;
		PgraftErrorCode code;

		if (!pgraft_grow((void **) &storage->spares, &storage->spares_allocated,
						 storage->n_spares + 1, sizeof(uint32)))
			return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
		code = create_file(storage, storage->options.segment_bytes, &slot, error);
		if (code == PGRAFT_ERR_NO_SPACE)
			return PGRAFT_OK;
		if (code != PGRAFT_OK)
			return code;
		storage->spares[storage->n_spares++] = slot;
	}
	return PGRAFT_OK;
}
