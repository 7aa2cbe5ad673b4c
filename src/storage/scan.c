/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  Reading a log offline, for pgraft_waldump and tests.
 *
 * Opens files read-only, takes no lock, changes nothing.  Unlike recovery it
 * visits everything that is intact before it reports what is not, and it
 * visits records that later ones made obsolete.  On the directory of a running
 * member the end of the log may be in flux.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/scan.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "internal.h"

typedef struct Scan
{
	PgraftIo   *io;
	const char *directory;
	int			(*visit) (void *arg, const PgraftLogRecord *record);
	void	   *arg;
	PgraftStorageStats *summary;
	PgraftLogState state;
	size_t		end;
	raft_u64	proven;			/* by marks of older segments */
} Scan;

static const char *record_kind_name(const PgraftRecord *record);
static PgraftErrorCode visit_batch(Scan *scan, const char *file, size_t offset,
								   const PgraftBatchHeader *batch,
								   const unsigned char *payload, PgraftError *error);
static PgraftErrorCode scan_segment(Scan *scan, const PgraftSegment *segment,
									const PgraftSegment *next,
									const unsigned char *data, PgraftError *error);
static PgraftErrorCode scan_log(Scan *scan, const PgraftSegmentList *segments,
								PgraftError *error);
static PgraftErrorCode scan_snapshot(Scan *scan, PgraftError *error);

static const char *
record_kind_name(const PgraftRecord *record)
{
	switch (record->kind)
	{
		case PGRAFT_RECORD_HARD_STATE:
			return "hard_state";
		case PGRAFT_RECORD_ENTRY:
			return "entry";
		case PGRAFT_RECORD_TRUNCATE:
			return "truncate";
		case PGRAFT_RECORD_LOG_START:
			return "log_start";
		case PGRAFT_RECORD_SNAPSHOT:
			return record->restart ? "install_snapshot" : "snapshot";
	}
	return "?";
}

static PgraftErrorCode
visit_batch(Scan *scan, const char *file, size_t offset,
			const PgraftBatchHeader *batch, const unsigned char *payload,
			PgraftError *error)
{
	size_t		position = 0;
	PgraftRecord record;
	const char *reason;

	while (pgraft_record_next(payload, batch->length, &position, &record,
							  &reason) > 0)
	{
		PgraftLogRecord visited;

		memset(&visited, 0, sizeof(visited));
		visited.file = file;
		visited.offset = offset;
		visited.batch = batch->number;
		visited.kind = record_kind_name(&record);
		visited.entry = record.entry;
		visited.hard_state = record.hard_state;
		visited.index = record.index;
		visited.term = record.term;
		if (scan->visit != NULL && scan->visit(scan->arg, &visited) != 0)
			return pgraft_error(error, PGRAFT_ERR_CORRUPT,
								"contents of the log were refused by their reader");
	}
	return PGRAFT_OK;
}

static PgraftErrorCode
scan_segment(Scan *scan, const PgraftSegment *segment, const PgraftSegment *next,
			 const unsigned char *data, PgraftError *error)
{
	char		name[PGRAFT_NAME_BYTES];
	PgraftBatchHeader batch;
	const unsigned char *payload;
	PgraftWalk	walk;
	PgraftWalkResult result;
	PgraftTail	tail;
	PgraftErrorCode code;

	pgraft_segment_name(name, segment->slot);
	pgraft_walk_begin(&walk, data, segment->bytes, &segment->header);
	for (;;)
	{
		size_t		offset = walk.offset;

		result = pgraft_walk_next(&walk, &batch, &payload);
		scan->state = walk.state;
		scan->end = walk.offset;
		if (result != PGRAFT_WALK_BATCH)
			break;
		scan->summary->batches++;
		scan->summary->log_bytes += walk.offset - offset;
		code = visit_batch(scan, name, offset, &batch, payload, error);
		if (code != PGRAFT_OK)
			return code;
	}
	if (next != NULL)
	{
		scan->proven = Max(scan->proven, walk.durable);
		return pgraft_check_inner_end(&walk, result, segment, next, error);
	}
	code = pgraft_check_tail(&walk, result, &batch, segment, &tail, error);
	if (code == PGRAFT_OK && scan->proven >= walk.state.next_batch)
	{
		code = pgraft_corrupt(error, name, walk.offset, "batch is missing");
		pgraft_error_detail(error, "Marks in older segments prove that batches up to %lu had been flushed.",
							scan->proven);
	}
	if (code == PGRAFT_OK && tail.torn)
	{
		scan->summary->torn_tails = 1;
		scan->summary->torn_bytes = tail.torn_bytes;
	}
	return code;
}

static PgraftErrorCode
scan_log(Scan *scan, const PgraftSegmentList *segments, PgraftError *error)
{
	unsigned char *data = NULL;
	size_t		allocated = 0;
	PgraftErrorCode code = PGRAFT_OK;
	size_t		i;

	for (i = 0; code == PGRAFT_OK && i < segments->n_live; i++)
	{
		const PgraftSegment *segment = &segments->live[i];

		code = pgraft_load_segment(scan->io, scan->directory, segment, &data,
								   &allocated, error);
		if (code == PGRAFT_OK)
			code = scan_segment(scan, segment,
								i + 1 < segments->n_live ? segment + 1 : NULL,
								data, error);
		scan->summary->recovery_bytes += segment->bytes;
	}
	free(data);
	if (code == PGRAFT_OK)
		code = pgraft_check_connected(&segments->live[0], &scan->state, error);
	return code;
}

/* Reads the snapshot that the log relies on to its end. */
static PgraftErrorCode
scan_snapshot(Scan *scan, PgraftError *error)
{
	PgraftSnapshotReader reader;
	PgraftErrorCode code;

	if (scan->state.snapshot_index == 0)
		return PGRAFT_OK;
	memset(&reader, 0, sizeof(reader));
	reader.index = scan->state.snapshot_index;
	reader.term = scan->state.snapshot_term;
	code = pgraft_snapshot_reader_open(scan->io, scan->directory, &reader, error);
	if (code == PGRAFT_ERR_NOT_FOUND)
	{
		char		name[PGRAFT_NAME_BYTES];

		pgraft_snapshot_name(name, reader.index, reader.term);
		code = pgraft_corrupt(error, name, 0, "snapshot file that the log relies on is missing");
	}
	if (code == PGRAFT_OK)
		code = pgraft_snapshot_verify(scan->io, scan->directory, &reader, error);
	scan->summary->snapshot_bytes = reader.length;
	pgraft_snapshot_reader_close(scan->io, &reader);
	return code;
}

PgraftErrorCode
pgraft_log_scan(PgraftIo *io, const char *directory,
				int (*visit) (void *arg, const PgraftLogRecord *record),
				void *arg, PgraftStorageStats *summary, PgraftError *error)
{
	PgraftStorageStats unwanted;
	PgraftIdentity identity;
	PgraftFileList files;
	PgraftSegmentList segments;
	PgraftErrorCode code;
	Scan		scan;

	memset(&files, 0, sizeof(files));
	memset(&segments, 0, sizeof(segments));
	memset(&scan, 0, sizeof(scan));
	scan.io = io;
	scan.directory = directory;
	scan.visit = visit;
	scan.arg = arg;
	scan.summary = summary != NULL ? summary : &unwanted;
	memset(scan.summary, 0, sizeof(*scan.summary));

	/* reading a copy is what this function is for */
	code = pgraft_storage_read_identity(io, directory, &identity, error);
	if (code == PGRAFT_ERR_CLONE)
		code = PGRAFT_OK;
	if (code == PGRAFT_OK)
		code = pgraft_list_files(io, directory, &files, error);
	if (code == PGRAFT_OK)
		code = pgraft_find_segments(io, directory, identity.member_uid, &files,
									&segments, error);
	if (code == PGRAFT_OK)
	{
		scan.summary->segments = segments.n_live;
		scan.summary->spare_segments = segments.n_spare;
		code = scan_log(&scan, &segments, error);
		scan.summary->first_index = scan.state.start_index + 1;
		scan.summary->last_index = scan.state.last_index;
		scan.summary->snapshot_index = scan.state.snapshot_index;
	}
	if (code == PGRAFT_OK)
		code = scan_snapshot(&scan, error);
	free(files.names);
	pgraft_free_segments(&segments);
	return code;
}
