/*-------------------------------------------------------------------------
 *
 * test_storage_forged.c
 *	  Damage that no checksum finds: segments, batches, records, identities and
 *	  snapshots that are sealed correctly and make no sense.
 *
 * Each must be refused, by recovery and by the offline reader alike, with the
 * file, the offset and the reason, and refusing must change nothing.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_storage_forged.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "../../src/storage/internal.h"

#include "storage_fixture.h"
#include "tap.h"

#define FIRST_SEGMENT "log-00000001"

static Fixture f;

/* A copy of a file in the directory, to be put back changed; caller frees. */
static unsigned char *
copy_of(const char *name, size_t *length)
{
	char		path[PGRAFT_PATH_BYTES];
	const unsigned char *data;
	unsigned char *copy;

	snprintf(path, sizeof(path), "%s/%s", FIXTURE_DIRECTORY, name);
	data = faulty_disk_data(f.disk, path, length);
	if (data == NULL)
	{
		printf("Bail out! there is no file %s\n", path);
		exit(1);
	}
	copy = malloc(*length);
	memcpy(copy, data, *length);
	return copy;
}

static void
put_back(const char *name, unsigned char *data, size_t length)
{
	char		path[PGRAFT_PATH_BYTES];

	snprintf(path, sizeof(path), "%s/%s", FIXTURE_DIRECTORY, name);
	faulty_disk_put(f.disk, path, data, length);
	free(data);
}

static void
setup(int steps)
{
	int			synced;
	int			i;
	bool		good;

	fixture_init(&f, faulty_disk_create(9), fixture_short_script, fixture_short_steps);
	good = fixture_create(&f) == PGRAFT_OK && fixture_open(&f) == PGRAFT_OK;
	for (i = 0; good && i < steps; i++)
		good = fixture_step(&f, i, 0, &synced) == PGRAFT_OK;
	fixture_close(&f);
	if (!good)
		ok(0, "the script runs: %s", f.error.message);
}

/* Both readers must say this of this file. */
static void
expect_refusal(const char *name, size_t offset, const char *reason)
{
	char		place[200];
	PgraftErrorCode code = fixture_open(&f);

	snprintf(place, sizeof(place), "%s\" is damaged at offset %zu: %s", name, offset, reason);
	ok(code == PGRAFT_ERR_CORRUPT && strstr(f.error.message, place) != NULL,
	   "%s: %s", reason, code == PGRAFT_OK ? "opened" : f.error.message);
	fixture_close(&f);
	code = pgraft_log_scan(faulty_disk_io(f.disk), FIXTURE_DIRECTORY, NULL, NULL, NULL,
						   &f.error);
	ok(code == PGRAFT_ERR_CORRUPT && strstr(f.error.message, place) != NULL,
	   "the offline reader agrees: %s", code == PGRAFT_OK ? "intact" : f.error.message);
	ok(faulty_disk_open_files(f.disk) == 0, "no descriptor is left open");
	faulty_disk_destroy(f.disk);
}

/* ----------------------------------------------------------------
 * Headers
 * ----------------------------------------------------------------
 */
static void
forge_header(size_t offset, raft_u64 value, size_t where, const char *reason)
{
	unsigned char *data;
	size_t		length;

	setup(2);
	data = copy_of(FIRST_SEGMENT, &length);
	pgraft_put64(data + offset, value);
	pgraft_put32(data + 508, pgraft_crc32c(data, 508));
	put_back(FIRST_SEGMENT, data, length);
	expect_refusal(FIRST_SEGMENT, where, reason);
}

static void
headers(void)
{
	static const char contradiction[] = "segment header contradicts itself";

	forge_header(16, 0, 0, contradiction);	/* sequence */
	forge_header(16, ~(raft_u64) 0, 0, contradiction);
	forge_header(40, 4104, 0, contradiction);	/* size */
	forge_header(40, 0, 0, contradiction);
	forge_header(40, 8192, 4096, "file size differs from the one in its header");
	forge_header(48, 0, 0, contradiction);	/* first batch */
	forge_header(48, ~(raft_u64) 0, 0, contradiction);
	forge_header(88, ~(raft_u64) 0, 0, contradiction);	/* last entry */
	forge_header(96, 1000, 0, contradiction);	/* start of the log */
	forge_header(128, 1000, 0, contradiction);	/* restart */
	forge_header(32, 99, 32, "segment belongs to another member");
	forge_header(8, (raft_u64) PGRAFT_SEGMENT_HEADER_BYTES << 32 | 2, 0,
				 "format version is not supported");
}

static void
identity_of_the_future(void)
{
	unsigned char *data;
	size_t		length;

	setup(1);
	data = copy_of("identity", &length);
	pgraft_put32(data + 8, 2);
	pgraft_put32(data + 252, pgraft_crc32c(data, 252));
	put_back("identity", data, length);
	expect_refusal("identity", 8, "format version is not supported");
}

static void
snapshot_of_the_future(void)
{
	char		name[PGRAFT_NAME_BYTES];
	unsigned char *data;
	size_t		length;

	setup(7);
	pgraft_snapshot_name(name, f.history[7].snapshot, f.history[7].snapshot_term);
	data = copy_of(name, &length);
	pgraft_put32(data + 8, 2);
	put_back(name, data, length);
	expect_refusal(name, 0, "format version is not supported");
}

/* ----------------------------------------------------------------
 * Batches
 * ----------------------------------------------------------------
 */
typedef struct Payload
{
	unsigned char bytes[1024];
	size_t		length;
	uint32		n_records;
} Payload;

static void
add_record(Payload *payload, PgraftRecordKind kind, raft_index index, raft_term term)
{
	PgraftRecord record;

	memset(&record, 0, sizeof(record));
	record.kind = kind;
	record.index = index;
	record.term = term;
	record.entry.index = index;
	record.entry.term = term;
	payload->length += pgraft_record_encode(payload->bytes + payload->length, &record);
	payload->n_records++;
}

/* A record of any kind and length, zeros inside. */
static void
add_raw(Payload *payload, int kind, uint32 length, size_t bytes)
{
	unsigned char *p = payload->bytes + payload->length;

	memset(p, 0, PGRAFT_RECORD_HEADER_BYTES + bytes);
	p[0] = (unsigned char) kind;
	pgraft_put32(p + 4, length);
	payload->length += PGRAFT_RECORD_HEADER_BYTES + bytes;
	payload->n_records++;
}

/* The first batch of a log that has had none. */
static void
expect_batch_refusal(const Payload *payload, const char *reason)
{
	PgraftSegmentHeader segment;
	PgraftBatchHeader batch;
	const char *ignored;
	unsigned char *data;
	size_t		length;

	setup(0);
	data = copy_of(FIRST_SEGMENT, &length);
	(void) pgraft_segment_decode(data, &segment, &ignored);
	memset(&batch, 0, sizeof(batch));
	batch.length = (uint32) payload->length;
	batch.number = segment.state.next_batch;
	batch.salt = segment.salt;
	batch.n_records = payload->n_records;
	batch.previous = segment.state.chain;
	batch.payload_crc = pgraft_crc32c(payload->bytes, payload->length);
	if (strcmp(reason, "batch length is impossible") == 0)
	{
		/* otherwise it would be a torn write */
		batch.durable = batch.number;
		batch.length = (uint32) length;
	}
	pgraft_batch_encode(data + PGRAFT_SEGMENT_HEADER_BYTES, &batch);
	memcpy(data + PGRAFT_SEGMENT_HEADER_BYTES + PGRAFT_BATCH_HEADER_BYTES, payload->bytes,
		   payload->length);
	put_back(FIRST_SEGMENT, data, length);
	expect_refusal(FIRST_SEGMENT, PGRAFT_SEGMENT_HEADER_BYTES, reason);
}

static void
raw_record(int kind, uint32 length, size_t bytes, const char *reason)
{
	Payload		payload;

	memset(&payload, 0, sizeof(payload));
	add_raw(&payload, kind, length, bytes);
	expect_batch_refusal(&payload, reason);
}

static void
one_record(PgraftRecordKind kind, raft_index index, const char *reason)
{
	Payload		payload;

	memset(&payload, 0, sizeof(payload));
	add_record(&payload, kind, index, 1);
	expect_batch_refusal(&payload, reason);
}

static void
records(void)
{
	static const char unknown[] = "record has an unrecognized kind or length";
	static const char start[] = "start of the log is outside of the log or its snapshot";
	static const char snapshot[] = "snapshot is outside of the log or older than the last one";
	Payload		payload;

	raw_record(9, 8, 8, unknown);
	raw_record(PGRAFT_RECORD_HARD_STATE, 16, 16, unknown);
	raw_record(PGRAFT_RECORD_ENTRY, 8, 8, unknown);
	raw_record(PGRAFT_RECORD_TRUNCATE, 16, 16, unknown);
	raw_record(PGRAFT_RECORD_LOG_START, 8, 8, unknown);
	raw_record(PGRAFT_RECORD_SNAPSHOT, 24, 24, unknown);
	raw_record(PGRAFT_RECORD_ENTRY, 64, 16, "record is longer than its batch");
	raw_record(PGRAFT_RECORD_ENTRY, ~(uint32) 0, 16, "record is longer than its batch");
	one_record(PGRAFT_RECORD_ENTRY, 2, "entry does not continue the log");
	one_record(PGRAFT_RECORD_ENTRY, 0, "entry does not continue the log");
	one_record(PGRAFT_RECORD_ENTRY, ~(raft_index) 0, "entry does not continue the log");
	one_record(PGRAFT_RECORD_TRUNCATE, 0, "truncation reaches below the start of the log");
	one_record(PGRAFT_RECORD_LOG_START, 5, start);
	one_record(PGRAFT_RECORD_SNAPSHOT, 0, snapshot);
	one_record(PGRAFT_RECORD_SNAPSHOT, 5, snapshot);

	memset(&payload, 0, sizeof(payload));
	add_record(&payload, PGRAFT_RECORD_ENTRY, 1, 1);
	add_record(&payload, PGRAFT_RECORD_ENTRY, 1, 1);
	expect_batch_refusal(&payload, "entries of one batch do not follow each other");
	memset(&payload, 0, sizeof(payload));
	add_record(&payload, PGRAFT_RECORD_ENTRY, 1, 1);
	add_record(&payload, PGRAFT_RECORD_HARD_STATE, 0, 0);
	expect_batch_refusal(&payload, "entries of one batch do not follow each other");
	memset(&payload, 0, sizeof(payload));
	add_record(&payload, PGRAFT_RECORD_ENTRY, 1, 1);
	payload.n_records = 2;
	expect_batch_refusal(&payload, "batch has a wrong number of records");
	payload.n_records = 1;
	expect_batch_refusal(&payload, "batch length is impossible");
}

/* An older segment that ends early, by a mark that is valid in itself. */
static void
early_mark(void)
{
	char		name[PGRAFT_NAME_BYTES] = "";
	PgraftSegmentHeader segment;
	PgraftBatchHeader batch;
	PgraftWalk	walk;
	const unsigned char *payload;
	const char *ignored;
	unsigned char *data = NULL;
	size_t		length;
	size_t		offset;
	uint32		slot;

	setup(fixture_short_steps);
	for (slot = 1; slot < 16; slot++)
	{
		char		path[PGRAFT_PATH_BYTES];

		pgraft_segment_name(name, slot);
		snprintf(path, sizeof(path), "%s/%s", FIXTURE_DIRECTORY, name);
		if (faulty_disk_data(f.disk, path, &length) == NULL)
			continue;
		data = copy_of(name, &length);
		if (pgraft_segment_decode(data, &segment, &ignored) == PGRAFT_HEADER_VALID)
		{
			pgraft_walk_begin(&walk, data, length, &segment);
			if (pgraft_walk_next(&walk, &batch, &payload) == PGRAFT_WALK_BATCH &&
				pgraft_walk_next(&walk, &batch, &payload) == PGRAFT_WALK_BATCH)
			{
				while (pgraft_walk_next(&walk, &batch, &payload) == PGRAFT_WALK_BATCH)
					;
				/* the newest one ends with a mark that names no next segment */
				if (batch.mark && batch.next_sequence != 0)
					break;
			}
		}
		free(data);
		data = NULL;
	}
	ok(data != NULL, "an older segment with several batches");
	if (data == NULL)
		return;
	pgraft_walk_begin(&walk, data, length, &segment);
	(void) pgraft_walk_next(&walk, &batch, &payload);
	offset = walk.offset;
	memset(&batch, 0, sizeof(batch));
	batch.mark = true;
	batch.number = walk.state.next_batch;
	batch.salt = segment.salt;
	batch.durable = walk.state.next_batch - 1;
	batch.previous = walk.state.chain;
	pgraft_batch_encode(data + offset, &batch);
	put_back(name, data, length);
	expect_refusal(name, offset, "mark in place of a batch");
}

int
main(void)
{
	headers();
	identity_of_the_future();
	snapshot_of_the_future();
	records();
	early_mark();
	return tap_done();
}
