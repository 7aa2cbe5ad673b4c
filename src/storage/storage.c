/*-------------------------------------------------------------------------
 *
 * storage.c
 *	  Life of struct PgraftStorage outside of opening and writing: options,
 *	  closing, statistics, local snapshots, forgetting.
 *
 * Loop half.  The rule for snapshots: only one that a durable record of the
 * log names counts after a restart.  A published local snapshot is named by
 * the next prepared batch, in the same breath as the new start of the log;
 * until that batch is durable the snapshot before it stays on disk.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/storage.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "internal.h"

#define DEFAULT_SEGMENT_BYTES (16 * 1024 * 1024)
#define DEFAULT_SPARES 2
#define DEFAULT_MAX_JOB_BYTES (256 * 1024 * 1024)

struct PgraftSnapshotWriter
{
	PgraftStorage *storage;
	PgraftSnapshotFile file;
	bool		finished;
};

static raft_index newest_snapshot(const PgraftStorage *storage);

void
pgraft_storage_default_options(PgraftStorageOptions *options)
{
	options->segment_bytes = DEFAULT_SEGMENT_BYTES;
	options->recycle_segments = DEFAULT_SPARES;
	options->max_job_bytes = DEFAULT_MAX_JOB_BYTES;
}

/* Recorded in a prepared batch, or published and about to be. */
static raft_index
newest_snapshot(const PgraftStorage *storage)
{
	return storage->snapshot_pending ? storage->pending_snapshot :
		storage->prepared.snapshot_index;
}

/* NULL when out of memory.  No file is touched. */
PgraftStorage *
pgraft_storage_allocate(PgraftIo *io, const char *directory,
						const PgraftStorageOptions *options,
						const PgraftIdentity *identity)
{
	PgraftStorage *storage = calloc(1, sizeof(*storage));
	size_t		bytes = options->segment_bytes;

	if (storage == NULL)
		return NULL;
	storage->io = io;
	snprintf(storage->directory, sizeof(storage->directory), "%s", directory);
	storage->options = *options;
	bytes = Min(Max(bytes, PGRAFT_SEGMENT_UNIT), PGRAFT_MAX_SEGMENT_BYTES);
	storage->options.segment_bytes = (bytes + PGRAFT_SEGMENT_UNIT - 1) /
		PGRAFT_SEGMENT_UNIT * PGRAFT_SEGMENT_UNIT;
	storage->identity = *identity;
	storage->lock_fd = -1;
	storage->prepared.next_batch = 1;
	storage->written.next_batch = 1;
	storage->first_index = 1;
	storage->next_slot = 1;
	storage->write_fd = -1;
	storage->previous_fd = -1;
	storage->marked_fd = -1;
	storage->read_fd = -1;
	storage->snapshot.fd = -1;
	storage->incoming_file.fd = -1;
	storage->point_forced = true;
	return storage;
}

/* Frees without writing. */
void
pgraft_storage_release(PgraftStorage *storage)
{
	PgraftIo   *io = storage->io;

	if (storage->write_fd >= 0)
		io->close(io, storage->write_fd);
	if (storage->previous_fd >= 0)
		io->close(io, storage->previous_fd);
	if (storage->marked_fd >= 0)
		io->close(io, storage->marked_fd);
	if (storage->read_fd >= 0)
		io->close(io, storage->read_fd);
	pgraft_snapshot_reader_close(io, &storage->snapshot);
	pgraft_snapshot_file_free(io, &storage->incoming_file);
	if (storage->lock_fd >= 0)
		io->close(io, storage->lock_fd);
	free(storage->terms);
	free(storage->points);
	free(storage->segments);
	free(storage->read_buffer);
	free(storage->window);
	free(storage->live);
	free(storage->spares);
	free(storage);
}

/*
 * Flush half.  Makes what was written without a flush durable, and the mark
 * that proves it.
 */
PgraftErrorCode
pgraft_storage_settle(PgraftStorage *storage, PgraftError *error)
{
	PgraftIo   *io = storage->io;
	PgraftErrorCode code = PGRAFT_OK;

	if (storage->failed || storage->write_fd < 0)
		return PGRAFT_OK;
	if (storage->unsynced)
		code = pgraft_sync_log(storage, NULL, error);
	if (code == PGRAFT_OK && storage->mark_unsynced)
	{
		if (io->fdatasync(io, storage->write_fd) < 0)
			code = pgraft_flush_error(error, "fdatasync file", "log segment");
		storage->mark_unsynced = false;
	}
	if (code == PGRAFT_OK)
		code = pgraft_sync_last_mark(storage, error);
	if (code != PGRAFT_OK)
	{
		storage->failed = true;
		storage->failure = code;
	}
	return code;
}

/* The flush thread must have ended. */
void
pgraft_storage_close(PgraftStorage *storage)
{
	(void) pgraft_storage_settle(storage, NULL);
	pgraft_storage_release(storage);
}

void
pgraft_storage_stats(PgraftStorage *storage, PgraftStorageStats *stats)
{
	size_t		i;

	*stats = storage->stats;
	stats->snapshot_index = storage->snapshot.index;
	stats->first_index = storage->first_index;
	stats->last_index = storage->completed_last;
	stats->log_bytes = 0;
	for (i = 0; i < storage->n_segments; i++)
		stats->log_bytes += storage->segments[i].used - PGRAFT_SEGMENT_HEADER_BYTES;
}

/* ----------------------------------------------------------------
 * Local snapshots
 * ----------------------------------------------------------------
 */

/*
 * Whether the removal is durable does not matter: a snapshot that the log does
 * not name is removed when the storage is opened.
 */
void
pgraft_storage_unlink_snapshot(PgraftStorage *storage, raft_index index,
							   raft_term term)
{
	char		name[PGRAFT_NAME_BYTES];

	if (index == 0)
		return;
	pgraft_snapshot_name(name, index, term);
	(void) pgraft_remove(storage->io, storage->directory, name, NULL);
}

PgraftErrorCode
pgraft_snapshot_begin(PgraftStorage *storage, const struct raft_snapshot_meta *meta,
					  PgraftSnapshotWriter **result, PgraftError *error)
{
	PgraftSnapshotWriter *writer;
	char		temporary[PGRAFT_NAME_BYTES];
	unsigned char *config;
	size_t		config_length;
	PgraftErrorCode code;

	*result = NULL;
	if (meta->index == 0 || meta->index <= newest_snapshot(storage) ||
		meta->index > storage->prepared.last_index)
		return pgraft_error(error, PGRAFT_ERR_INTERNAL,
							"snapshot at entry %lu is outside of the log or not newer than the last one",
							meta->index);
	writer = calloc(1, sizeof(*writer));
	config = malloc(RAFT_CONFIG_MAX_BYTES);
	if (writer == NULL || config == NULL)
	{
		free(writer);
		free(config);
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	}
	config_length = raft_config_encode(&meta->config, config, RAFT_CONFIG_MAX_BYTES);
	writer->storage = storage;
	writer->file.fd = -1;
	writer->file.index = meta->index;
	writer->file.term = meta->term;
	writer->file.config_index = meta->config.index;
	writer->file.member_uid = storage->identity.member_uid;
	snprintf(temporary, sizeof(temporary), "snapshot-%lu.tmp",
			 ++storage->snapshot_counter);
	if (config_length == 0)
		code = pgraft_error(error, PGRAFT_ERR_INTERNAL,
							"configuration of snapshot %lu cannot be encoded",
							meta->index);
	else
		code = pgraft_snapshot_file_begin(storage->io, storage->directory,
										  &writer->file, temporary, config,
										  config_length, error);
	free(config);
	if (code != PGRAFT_OK)
		free(writer);
	else
		*result = writer;
	return code;
}

PgraftErrorCode
pgraft_snapshot_write(PgraftSnapshotWriter *writer, const void *data,
					  size_t length, PgraftError *error)
{
	return pgraft_snapshot_file_append(writer->storage->io, &writer->file,
									   data, length, error);
}

PgraftErrorCode
pgraft_snapshot_flush(PgraftSnapshotWriter *writer, PgraftError *error)
{
	PgraftIo   *io = writer->storage->io;

	if (io->fdatasync(io, writer->file.fd) < 0)
		return pgraft_flush_error(error, "fdatasync file", writer->file.temporary);
	return PGRAFT_OK;
}

/* Like write and flush, touches the writer and constant fields only. */
PgraftErrorCode
pgraft_snapshot_finish(PgraftSnapshotWriter *writer, PgraftError *error)
{
	PgraftErrorCode code;

	code = pgraft_snapshot_file_finish(writer->storage->io,
									   writer->storage->directory,
									   &writer->file, error);
	writer->finished = (code == PGRAFT_OK);
	return code;
}

void
pgraft_snapshot_publish(PgraftSnapshotWriter *writer)
{
	PgraftStorage *storage = writer->storage;

	Assert(writer->finished);
	if (!writer->finished)
	{
		pgraft_snapshot_abort(writer);
		return;
	}
	if (writer->file.index <= newest_snapshot(storage) ||
		writer->file.index > storage->prepared.last_index)
	{
		/* the leader's was newer, or replaced the log this one is about */
		if (writer->file.index != newest_snapshot(storage))
			pgraft_storage_unlink_snapshot(storage, writer->file.index,
										   writer->file.term);
	}
	else
	{
		if (storage->snapshot_pending)
			pgraft_storage_unlink_snapshot(storage, storage->pending_snapshot,
										   storage->pending_snapshot_term);
		storage->snapshot_pending = true;
		storage->pending_snapshot = writer->file.index;
		storage->pending_snapshot_term = writer->file.term;
		pgraft_snapshot_reader_close(storage->io, &storage->snapshot);
		storage->snapshot.index = writer->file.index;
		storage->snapshot.term = writer->file.term;
		storage->stats.snapshots_written++;
		storage->stats.snapshot_bytes = writer->file.length;
	}
	pgraft_snapshot_file_free(storage->io, &writer->file);
	free(writer);
}

void
pgraft_snapshot_abort(PgraftSnapshotWriter *writer)
{
	PgraftStorage *storage = writer->storage;

	(void) pgraft_remove(storage->io, storage->directory,
						 writer->file.temporary, NULL);

	/* the leader may have sent the very same one meanwhile */
	if (writer->finished && writer->file.index != newest_snapshot(storage) &&
		writer->file.index != storage->recorded_snapshot)
		pgraft_storage_unlink_snapshot(storage, writer->file.index,
									   writer->file.term);
	pgraft_snapshot_file_free(storage->io, &writer->file);
	free(writer);
}

/*
 * The log may begin at first_kept.  Recorded by the next prepared batch,
 * together with the snapshot that makes it true.
 */
void
pgraft_storage_forget(PgraftStorage *storage, raft_index first_kept)
{
	raft_index	snapshot = newest_snapshot(storage);
	raft_index	start;
	raft_term	term;

	if (first_kept == 0)
		return;
	start = Min(first_kept - 1, Min(snapshot, storage->prepared.last_index));
	if (start <= storage->prepared.start_index ||
		(storage->start_pending && start <= storage->pending_start))
		return;
	term = pgraft_terms_find(storage, start);
	if (term == 0)
		return;
	storage->start_pending = true;
	storage->pending_start = start;
	storage->pending_start_term = term;
	storage->first_index = Max(storage->first_index, start + 1);
}
