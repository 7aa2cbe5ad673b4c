/*-------------------------------------------------------------------------
 *
 * prepare.c
 *	  The loop's half of writing: encoding an update as a job, and taking note
 *	  of an executed one.
 *
 * Everything that can be refused is refused here, before a byte is written:
 * an update that contradicts the log, a chunk that does not continue the
 * incoming snapshot, a batch that is too large, missing memory.  A refused
 * update leaves the storage as it was.
 *
 * Order of records in a batch: truncate, snapshot, log start, hard state,
 * entries.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/prepare.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "internal.h"

#define MAX_FIXED_RECORDS 4

/* Records of a batch that are not entries. */
typedef struct FixedRecords
{
	PgraftRecord record[MAX_FIXED_RECORDS];
	int			n;
} FixedRecords;

static void entry_record(PgraftRecord *record, const struct raft_entry *entry);
static PgraftRecord *add_record(FixedRecords *fixed, PgraftRecordKind kind,
								raft_index index, raft_term term);
static void collect_records(PgraftStorage *storage, const struct raft_update *update,
							PgraftJob *job, FixedRecords *fixed);
static PgraftErrorCode check_records(PgraftStorage *storage,
									 const struct raft_update *update,
									 PgraftJob *job, const FixedRecords *fixed,
									 size_t *payload, size_t *new_terms,
									 PgraftError *error);
static PgraftErrorCode encode_batch(const struct raft_update *update, PgraftJob *job,
									const FixedRecords *fixed, size_t payload,
									PgraftError *error);
static PgraftErrorCode check_incoming(const struct raft_update *update,
									  PgraftIncoming *incoming, PgraftError *error);
static PgraftErrorCode copy_chunk(const struct raft_snapshot_chunk *chunk,
								  PgraftJob *job, PgraftError *error);
static void note_prepared(PgraftStorage *storage, const struct raft_update *update,
						  PgraftJob *job, const PgraftIncoming *incoming);
static void complete_snapshot(PgraftStorage *storage, PgraftJob *job);
static void complete_statistics(PgraftStorage *storage, const PgraftJob *job);

/* ----------------------------------------------------------------
 * Which records
 * ----------------------------------------------------------------
 */
static void
entry_record(PgraftRecord *record, const struct raft_entry *entry)
{
	record->kind = PGRAFT_RECORD_ENTRY;
	record->entry = *entry;
}

static PgraftRecord *
add_record(FixedRecords *fixed, PgraftRecordKind kind, raft_index index,
		   raft_term term)
{
	PgraftRecord *record = &fixed->record[fixed->n++];

	Assert(fixed->n <= MAX_FIXED_RECORDS);
	memset(record, 0, sizeof(*record));
	record->kind = kind;
	record->index = index;
	record->term = term;
	return record;
}

static void
collect_records(PgraftStorage *storage, const struct raft_update *update,
				PgraftJob *job, FixedRecords *fixed)
{
	bool		restart = update->install != NULL && !update->install_keeps_log;

	fixed->n = 0;
	if (update->truncate_from != 0 && !restart)
		add_record(fixed, PGRAFT_RECORD_TRUNCATE, update->truncate_from, 0);
	if (update->install != NULL)
	{
		job->install = true;
		job->has_snapshot = true;
		job->snapshot_index = update->install->index;
		job->snapshot_term = update->install->term;
		job->restarted = restart;
	}
	else if (storage->snapshot_pending)
	{
		job->has_snapshot = true;
		job->snapshot_index = storage->pending_snapshot;
		job->snapshot_term = storage->pending_snapshot_term;
	}
	if (job->has_snapshot)
		add_record(fixed, PGRAFT_RECORD_SNAPSHOT, job->snapshot_index,
				   job->snapshot_term)->restart = restart;
	if (storage->start_pending && !restart)
		add_record(fixed, PGRAFT_RECORD_LOG_START, storage->pending_start,
				   storage->pending_start_term);
	if (update->hard_state_changed)
		add_record(fixed, PGRAFT_RECORD_HARD_STATE, 0, 0)->hard_state =
			update->hard_state;
}

/* Applies the records to a copy of the state; sums up their bytes. */
static PgraftErrorCode
check_records(PgraftStorage *storage, const struct raft_update *update,
			  PgraftJob *job, const FixedRecords *fixed, size_t *payload,
			  size_t *new_terms, PgraftError *error)
{
	const char *reason = NULL;
	PgraftRecord record;
	raft_term	term = 0;
	size_t		i;

	*payload = 0;
	*new_terms = 0;
	job->after = storage->prepared;
	for (i = 0; i < (size_t) fixed->n; i++)
	{
		if (fixed->record[i].kind == PGRAFT_RECORD_TRUNCATE &&
			fixed->record[i].index <= job->after.last_index)
			job->truncated = fixed->record[i].index;
		if (!pgraft_scan_state_apply(&job->after, &fixed->record[i], &reason))
			return pgraft_error(error, PGRAFT_ERR_INTERNAL,
								"update contradicts the log: %s", reason);
		*payload += pgraft_record_bytes(&fixed->record[i]);
	}
	for (i = 0; i < update->n_entries; i++)
	{
		const struct raft_entry *entry = &update->entries[i];

		memset(&record, 0, sizeof(record));
		entry_record(&record, entry);
		if (i > 0 && entry->index != update->entries[i - 1].index + 1)
			reason = "entries are not consecutive";
		else if (entry->length > PGRAFT_MAX_SEGMENT_BYTES / 2)
			return pgraft_error(error, PGRAFT_ERR_TOO_LARGE,
								"entry of %zu bytes is too large", entry->length);
		else
			pgraft_scan_state_apply(&job->after, &record, &reason);
		if (reason != NULL)
			return pgraft_error(error, PGRAFT_ERR_INTERNAL,
								"update contradicts the log at entry %lu: %s",
								entry->index, reason);
		*payload += pgraft_record_bytes(&record);
		if (entry->term != term)
			++*new_terms;
		term = entry->term;
	}
	if (update->n_entries > 0)
	{
		job->first_entry = update->entries[0].index;
		job->last_entry = update->entries[update->n_entries - 1].index;
	}
	job->n_records = (uint32) (fixed->n + update->n_entries);
	if (*payload > 0)
		job->after.next_batch++;
	if (*payload > storage->options.max_job_bytes ||
		*payload > PGRAFT_MAX_SEGMENT_BYTES / 2)
		return pgraft_error(error, PGRAFT_ERR_TOO_LARGE,
							"batch of %zu bytes exceeds the limit of %zu bytes",
							*payload, storage->options.max_job_bytes);
	return PGRAFT_OK;
}

static PgraftErrorCode
encode_batch(const struct raft_update *update, PgraftJob *job,
			 const FixedRecords *fixed, size_t payload, PgraftError *error)
{
	unsigned char *p;
	PgraftRecord record;
	size_t		i;

	if (payload == 0)
		return PGRAFT_OK;
	job->buffer = malloc(PGRAFT_BATCH_HEADER_BYTES + payload);
	if (job->buffer == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	job->length = payload;
	p = job->buffer + PGRAFT_BATCH_HEADER_BYTES;
	for (i = 0; i < (size_t) fixed->n; i++)
		p += pgraft_record_encode(p, &fixed->record[i]);
	memset(&record, 0, sizeof(record));
	for (i = 0; i < update->n_entries; i++)
	{
		entry_record(&record, &update->entries[i]);
		p += pgraft_record_encode(p, &record);
	}
	Assert(p == job->buffer + PGRAFT_BATCH_HEADER_BYTES + payload);
	return PGRAFT_OK;
}

/* ----------------------------------------------------------------
 * Incoming snapshot
 * ----------------------------------------------------------------
 */
static PgraftErrorCode
check_incoming(const struct raft_update *update, PgraftIncoming *incoming,
			   PgraftError *error)
{
	const struct raft_snapshot_chunk *chunk = update->chunk;

	if (chunk != NULL)
	{
		if (chunk->offset == 0)
		{
			incoming->active = true;
			incoming->index = chunk->meta.index;
			incoming->term = chunk->meta.term;
			incoming->total = chunk->total;
			incoming->next = 0;
		}
		if (!incoming->active || chunk->meta.index != incoming->index ||
			chunk->meta.term != incoming->term ||
			chunk->total != incoming->total)
			return pgraft_error(error, PGRAFT_ERR_PROTOCOL,
								"chunk at offset %lu of snapshot %lu does not belong to the snapshot being received",
								chunk->offset, chunk->meta.index);
		if (chunk->offset != incoming->next ||
			chunk->length > incoming->total - incoming->next)
			return pgraft_error(error, PGRAFT_ERR_PROTOCOL,
								"chunk of %zu bytes at offset %lu of snapshot %lu was not expected there: next is %lu of %lu",
								chunk->length, chunk->offset, chunk->meta.index,
								incoming->next, incoming->total);
		incoming->next += chunk->length;
	}
	if (update->install != NULL)
	{
		if (!incoming->active || update->install->index != incoming->index ||
			update->install->term != incoming->term ||
			incoming->next != incoming->total)
			return pgraft_error(error, PGRAFT_ERR_PROTOCOL,
								"snapshot %lu cannot be installed: it was not received to its end",
								update->install->index);
		incoming->active = false;
	}
	return PGRAFT_OK;
}

static PgraftErrorCode
copy_chunk(const struct raft_snapshot_chunk *chunk, PgraftJob *job,
		   PgraftError *error)
{
	unsigned char *p;

	job->has_chunk = true;
	job->chunk_index = chunk->meta.index;
	job->chunk_term = chunk->meta.term;
	job->chunk_config_index = chunk->meta.config.index;
	job->chunk_offset = chunk->offset;
	job->chunk_length = chunk->length;
	p = malloc((chunk->offset == 0 ? RAFT_CONFIG_MAX_BYTES : 0) +
			   chunk->length + 1);
	if (p == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	job->chunk = p;
	if (chunk->offset == 0)
	{
		job->config_length = raft_config_encode(&chunk->meta.config, p,
												RAFT_CONFIG_MAX_BYTES);
		if (job->config_length == 0)
			return pgraft_error(error, PGRAFT_ERR_INTERNAL,
								"configuration of snapshot %lu cannot be encoded",
								chunk->meta.index);
	}
	if (chunk->length > 0)
		memcpy(p + job->config_length, chunk->data, chunk->length);
	return PGRAFT_OK;
}

/* ----------------------------------------------------------------
 * Prepare
 * ----------------------------------------------------------------
 */

/* The job is complete: now, and only now, the storage changes. */
static void
note_prepared(PgraftStorage *storage, const struct raft_update *update,
			  PgraftJob *job, const PgraftIncoming *incoming)
{
	size_t		i;

	storage->incoming = *incoming;
	if (job->restarted)
		pgraft_terms_truncate(storage, 0);
	else if (job->truncated != 0)
		pgraft_terms_truncate(storage, job->truncated);
	for (i = 0; i < update->n_entries; i++)
		pgraft_terms_add(storage, update->entries[i].index,
						 update->entries[i].term);
	storage->prepared = job->after;
	pgraft_terms_forget(storage, job->after.start_index);
	storage->start_pending = false;
	if (job->has_snapshot && storage->snapshot_pending)
	{
		/* published here, but the leader's newer one came first */
		if (job->install &&
			(storage->pending_snapshot != job->snapshot_index ||
			 storage->pending_snapshot_term != job->snapshot_term))
			pgraft_storage_unlink_snapshot(storage, storage->pending_snapshot,
										   storage->pending_snapshot_term);
		storage->snapshot_pending = false;
	}
	storage->outstanding++;
}

PgraftErrorCode
pgraft_storage_prepare(PgraftStorage *storage, const struct raft_update *update,
					   PgraftJob **result, PgraftError *error)
{
	PgraftJob  *job = calloc(1, sizeof(*job));
	PgraftIncoming incoming = storage->incoming;
	FixedRecords fixed;
	size_t		payload;
	size_t		new_terms;
	PgraftErrorCode code;

	*result = NULL;
	if (job == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	job->storage = storage;
	job->epoch = update->epoch;
	collect_records(storage, update, job, &fixed);

	/* the older snapshot goes once this record is durable */
	job->must_sync = update->must_sync || job->has_snapshot;
	code = check_incoming(update, &incoming, error);
	if (code == PGRAFT_OK)
		code = check_records(storage, update, job, &fixed, &payload,
							 &new_terms, error);
	if (code == PGRAFT_OK && update->chunk != NULL)
		code = copy_chunk(update->chunk, job, error);
	if (code == PGRAFT_OK)
		code = encode_batch(update, job, &fixed, payload, error);
	if (code == PGRAFT_OK && (!pgraft_index_reserve(storage) ||
							  !pgraft_terms_reserve(storage, new_terms)))
		code = pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	if (code != PGRAFT_OK)
	{
		free(job->buffer);
		free(job->chunk);
		free(job);
		return code;
	}
	note_prepared(storage, update, job, &incoming);
	*result = job;
	return PGRAFT_OK;
}

raft_u64
pgraft_job_epoch(const PgraftJob *job)
{
	return job->epoch;
}

size_t
pgraft_job_bytes(const PgraftJob *job)
{
	return (job->length > 0 ? PGRAFT_BATCH_HEADER_BYTES + job->length : 0) +
		job->chunk_length;
}

/* The storage is of no use for further jobs after this, only for closing. */
void
pgraft_job_discard(PgraftJob *job)
{
	job->storage->outstanding--;
	free(job->buffer);
	free(job->chunk);
	free(job);
}

/* ----------------------------------------------------------------
 * Complete
 * ----------------------------------------------------------------
 */

/* The log on disk relies on the job's snapshot now: the one before may go. */
static void
complete_snapshot(PgraftStorage *storage, PgraftJob *job)
{
	if (job->install)
	{
		storage->stats.snapshots_written++;
		if (storage->snapshot.index <= job->snapshot_index)
		{
			pgraft_snapshot_reader_close(storage->io, &storage->snapshot);
			storage->snapshot.index = job->snapshot_index;
			storage->snapshot.term = job->snapshot_term;
			storage->stats.snapshot_bytes = job->installed_bytes;
		}
	}
	if (storage->recorded_snapshot != job->snapshot_index ||
		storage->recorded_snapshot_term != job->snapshot_term)
		pgraft_storage_unlink_snapshot(storage, storage->recorded_snapshot,
									   storage->recorded_snapshot_term);
	storage->recorded_snapshot = job->snapshot_index;
	storage->recorded_snapshot_term = job->snapshot_term;
}

static void
complete_statistics(PgraftStorage *storage, const PgraftJob *job)
{
	PgraftStorageStats *stats = &storage->stats;

	stats->bytes_written += pgraft_job_bytes(job);
	if (job->length > 0)
		stats->batches++;
	stats->segments = job->n_live;
	stats->spare_segments = job->n_spares;
	if (job->fsyncs > 0)
	{
		unsigned long each = job->fsync_us / job->fsyncs;
		int			bucket = 0;

		while (bucket < PGRAFT_FSYNC_BUCKETS - 1 && each >= 1UL << (bucket + 5))
			bucket++;
		stats->fsyncs += job->fsyncs;
		stats->fsync_us += job->fsync_us;
		stats->fsync_us_max = Max(stats->fsync_us_max, each);
		stats->fsync_histogram[bucket] += job->fsyncs;
	}
}

void
pgraft_storage_complete(PgraftStorage *storage, PgraftJob *job)
{
	if (job->executed)
	{
		if (job->truncated != 0)
			pgraft_index_truncate(storage, job->truncated);
		if (job->restarted)
			pgraft_index_restart(storage, job->snapshot_index);
		if (job->length > 0)
			pgraft_index_add(storage, &job->segment, job->offset,
							 job->offset + PGRAFT_BATCH_HEADER_BYTES + job->length,
							 job->first_entry, job->last_entry);
		pgraft_index_forget(storage, job->first_live);
		if (job->has_snapshot)
			complete_snapshot(storage, job);
		complete_statistics(storage, job);
	}
	pgraft_job_discard(job);
}
