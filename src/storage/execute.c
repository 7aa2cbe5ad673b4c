/*-------------------------------------------------------------------------
 *
 * execute.c
 *	  The flush thread's half of writing.
 *
 * Touches the job and the flush half of struct PgraftStorage, calls no
 * PostgreSQL code.  Order of effects of one call: chunks of incoming snapshots
 * to their temporary file; a finished one renamed into place and durable; the
 * batches of all jobs; one flush for all of them; a mark that says so; retired
 * segments.  A crash anywhere before the flush loses jobs as a whole, newest
 * first or not, never a part of one; a snapshot that no durable record names
 * is removed by the next open.
 *
 * PGRAFT_ERR_NO_SPACE and PGRAFT_ERR_NOMEM leave jobs that may be executed
 * again: each remembers what it has done.  Any other failure is sticky.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/execute.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "internal.h"

static PgraftErrorCode write_chunk(PgraftStorage *storage, PgraftJob *job,
								   PgraftError *error);
static PgraftErrorCode install_snapshot(PgraftStorage *storage, PgraftJob *job,
										PgraftError *error);
static PgraftErrorCode write_batch(PgraftStorage *storage, PgraftJob *job,
								   PgraftError *error);
static PgraftErrorCode write_jobs(PgraftStorage *storage, PgraftJob **jobs,
								  int n_jobs, PgraftError *error);
static void fill_results(PgraftStorage *storage, PgraftJob **jobs, int n_jobs);

static PgraftErrorCode
write_chunk(PgraftStorage *storage, PgraftJob *job, PgraftError *error)
{
	PgraftSnapshotFile *file = &storage->incoming_file;
	PgraftErrorCode code;
	raft_u64	taken;

	/* a group that found no space is tried again from its beginning */
	if (job->chunk_taken)
		return PGRAFT_OK;
	if (job->chunk_offset == 0 && !job->chunk_begun)
	{
		pgraft_snapshot_file_free(storage->io, file);
		file->index = job->chunk_index;
		file->term = job->chunk_term;
		file->config_index = job->chunk_config_index;
		file->member_uid = storage->identity.member_uid;
		code = pgraft_snapshot_file_begin(storage->io, storage->directory, file,
										  "incoming.tmp", job->chunk,
										  job->config_length, error);
		if (code != PGRAFT_OK)
			return code;
		job->chunk_begun = true;
	}
	if (file->fd < 0 || file->length < job->chunk_offset)
		return pgraft_error(error, PGRAFT_ERR_INTERNAL,
							"incoming snapshot has no file");

	/* after a full disk part of this chunk may have been taken before */
	taken = file->length - job->chunk_offset;
	Assert(taken <= job->chunk_length);
	code = pgraft_snapshot_file_append(storage->io, file,
									   job->chunk + job->config_length + taken,
									   job->chunk_length - taken, error);
	job->chunk_taken = code == PGRAFT_OK;
	return code;
}

static PgraftErrorCode
install_snapshot(PgraftStorage *storage, PgraftJob *job, PgraftError *error)
{
	PgraftSnapshotFile *file = &storage->incoming_file;
	PgraftErrorCode code;

	if (file->fd < 0 || file->index != job->snapshot_index ||
		file->term != job->snapshot_term)
		return pgraft_error(error, PGRAFT_ERR_INTERNAL,
							"incoming snapshot is not the one to be installed");
	code = pgraft_snapshot_file_finish(storage->io, storage->directory, file, error);
	if (code != PGRAFT_OK)
		return code;
	job->installed = true;
	job->installed_bytes = file->length;
	pgraft_snapshot_file_free(storage->io, file);
	return PGRAFT_OK;
}

static PgraftErrorCode
write_batch(PgraftStorage *storage, PgraftJob *job, PgraftError *error)
{
	size_t		bytes = PGRAFT_BATCH_HEADER_BYTES + job->length;
	PgraftBatchHeader header;
	PgraftErrorCode code;
	char		name[PGRAFT_NAME_BYTES];

	code = pgraft_ensure_room(storage, bytes, job, error);
	if (code != PGRAFT_OK)
		return code;
	Assert(job->after.next_batch == storage->written.next_batch + 1);
	job->segment = storage->live[storage->n_live - 1];
	job->offset = storage->write_offset;

	memset(&header, 0, sizeof(header));
	header.length = (uint32) job->length;
	header.number = storage->written.next_batch;
	header.salt = job->segment.salt;
	header.durable = storage->durable;
	header.n_records = job->n_records;
	header.previous = storage->written.chain;
	header.payload_crc = pgraft_crc32c(job->buffer + PGRAFT_BATCH_HEADER_BYTES,
									   job->length);
	pgraft_batch_encode(job->buffer, &header);
	pgraft_segment_name(name, job->segment.slot);
	code = pgraft_write_at(storage->io, storage->write_fd, name, job->buffer,
						   bytes, (off_t) storage->write_offset, error);
	if (code != PGRAFT_OK)
		return code;
	storage->write_offset += bytes;
	storage->written = job->after;
	storage->written.chain = header.crc;
	storage->unsynced = true;
	job->written = true;
	return PGRAFT_OK;
}

static PgraftErrorCode
write_jobs(PgraftStorage *storage, PgraftJob **jobs, int n_jobs,
		   PgraftError *error)
{
	bool		must_sync = false;
	int			i;

	for (i = 0; i < n_jobs; i++)
	{
		PgraftJob  *job = jobs[i];
		PgraftErrorCode code = PGRAFT_OK;

		if (job->written)
		{
			must_sync = must_sync || job->must_sync;
			continue;
		}
		if (job->has_chunk && !job->installed)
			code = write_chunk(storage, job, error);
		if (code == PGRAFT_OK && job->install && !job->installed)
			code = install_snapshot(storage, job, error);
		if (code == PGRAFT_OK && job->length > 0)
			code = write_batch(storage, job, error);
		if (code != PGRAFT_OK)
			return code;
		must_sync = must_sync || job->must_sync;
	}
	if (!must_sync || !storage->unsynced)
		return PGRAFT_OK;
	return pgraft_sync_log(storage, jobs[n_jobs - 1], error);
}

static void
fill_results(PgraftStorage *storage, PgraftJob **jobs, int n_jobs)
{
	int			i;

	for (i = 0; i < n_jobs; i++)
	{
		jobs[i]->executed = true;
		jobs[i]->first_live = storage->live[0].sequence;
		jobs[i]->n_live = storage->n_live;
		jobs[i]->n_spares = storage->n_spares;
	}
}

PgraftErrorCode
pgraft_storage_execute(PgraftStorage *storage, PgraftJob *job, PgraftError *error)
{
	return pgraft_storage_execute_many(storage, &job, 1, error);
}

PgraftErrorCode
pgraft_storage_execute_many(PgraftStorage *storage, PgraftJob **jobs, int n_jobs,
							PgraftError *error)
{
	PgraftErrorCode code;

	if (n_jobs <= 0)
		return PGRAFT_OK;
	if (storage->failed)
		return pgraft_error(error, storage->failure,
							"storage has failed before and writes no more");
	code = write_jobs(storage, jobs, n_jobs, error);
	if (code == PGRAFT_OK)
	{
		code = pgraft_retire_segments(storage, error);

		/* recycling can wait for space; the jobs themselves are durable */
		if (code == PGRAFT_ERR_NO_SPACE || code == PGRAFT_ERR_NOMEM)
			code = PGRAFT_OK;
	}
	if (code == PGRAFT_OK)
		fill_results(storage, jobs, n_jobs);
	else if (code != PGRAFT_ERR_NO_SPACE && code != PGRAFT_ERR_NOMEM)
	{
		storage->failed = true;
		storage->failure = code;
	}
	return code;
}

PgraftErrorCode
pgraft_storage_make_ready(PgraftStorage *storage, PgraftError *error)
{
	PgraftErrorCode code;

	if (storage->failed)
		return pgraft_error(error, storage->failure,
							"storage has failed before and writes no more");
	code = pgraft_sync_last_mark(storage, error);
	if (code == PGRAFT_OK)
		code = pgraft_add_spares(storage, error);
	if (code != PGRAFT_OK && code != PGRAFT_ERR_NOMEM)
	{
		storage->failed = true;
		storage->failure = code;
	}
	return code;
}
