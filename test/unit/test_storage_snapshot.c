/*-------------------------------------------------------------------------
 *
 * test_storage_snapshot.c
 *	  Snapshots: chunks that come, chunks that do not fit, reading back, damage,
 *	  and which of two snapshots is in force.
 *
 * Crashes at every call with snapshots among the steps are in
 * test_storage_crash.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_storage_snapshot.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "storage_fixture.h"
#include "tap.h"

#define BIG_BYTES 200000
#define NAME_10_1 FIXTURE_DIRECTORY "/snapshot-000000000000000a-0000000000000001"
#define NAME_5_1 FIXTURE_DIRECTORY "/snapshot-0000000000000005-0000000000000001"
#define NAME_50_2 FIXTURE_DIRECTORY "/snapshot-0000000000000032-0000000000000002"

/* Twelve entries of term 1. */
static const Step twelve[] = {
	{STEP_APPEND, 1, 12, 0, 0},
};

static Fixture f;
static unsigned char bytes[BIG_BYTES];

static void
setup(void)
{
	int			synced;

	fixture_init(&f, faulty_disk_create(3), twelve, 1);
	if (fixture_create(&f) != PGRAFT_OK || fixture_open(&f) != PGRAFT_OK ||
		fixture_step(&f, 0, 0, &synced) != PGRAFT_OK)
		ok(0, "setup: %s", f.error.message);
}

static void
teardown(void)
{
	fixture_close(&f);
	is_u64(faulty_disk_open_files(f.disk), 0, "no descriptor is left open");
	faulty_disk_destroy(f.disk);
}

static void
reopen(FaultyCrash crash)
{
	fixture_drop(&f);
	faulty_disk_restart(f.disk, crash);
	is_u64(fixture_open(&f), PGRAFT_OK, "open again");
}

static int
exists(const char *path)
{
	size_t		size;

	return faulty_disk_data(f.disk, path, &size) != NULL;
}

/* What an update with a chunk points to. */
typedef struct ChunkUpdate
{
	struct raft_snapshot_meta meta;
	struct raft_snapshot_chunk chunk;
	struct raft_update update;
} ChunkUpdate;

/* One update with a chunk, and with the installation when it is the last. */
static void
fill_chunk(ChunkUpdate *filled, raft_index index, raft_term term, size_t offset,
		   size_t length, size_t total, int install)
{
	size_t		i;

	memset(filled, 0, sizeof(*filled));
	fixture_snapshot_meta(&filled->meta, index, term);
	for (i = 0; i < length; i++)
		bytes[i] = fixture_snapshot_byte(index, offset + i);
	filled->chunk.meta = filled->meta;
	filled->chunk.offset = offset;
	filled->chunk.total = total;
	filled->chunk.data = bytes;
	filled->chunk.length = length;
	filled->update.epoch = ++f.epoch;
	filled->update.must_sync = 1;
	filled->update.chunk = &filled->chunk;
	if (install)
		filled->update.install = &filled->meta;
}

static PgraftErrorCode
send_chunk(raft_index index, raft_term term, size_t offset, size_t length,
		   size_t total, int install)
{
	ChunkUpdate filled;

	fill_chunk(&filled, index, term, offset, length, total, install);
	return fixture_write(&f, &filled.update, 0);
}

static PgraftErrorCode
begin_local(raft_index index, size_t length, PgraftSnapshotWriter **writer)
{
	struct raft_snapshot_meta meta;
	PgraftErrorCode code;
	size_t		i;

	fixture_snapshot_meta(&meta, index, 1);
	code = pgraft_snapshot_begin(f.storage, &meta, writer, &f.error);
	if (code != PGRAFT_OK)
		return code;
	for (i = 0; i < length; i++)
		bytes[i] = fixture_snapshot_byte(index, i);
	code = pgraft_snapshot_write(*writer, bytes, length, &f.error);
	if (code == PGRAFT_OK)
		code = pgraft_snapshot_finish(*writer, &f.error);
	return code;
}

/* Any durable batch. */
static PgraftErrorCode
write_hard_state(void)
{
	struct raft_update update;

	memset(&update, 0, sizeof(update));
	update.must_sync = 1;
	update.hard_state_changed = 1;
	update.hard_state.term = 9;
	return fixture_write(&f, &update, 0);
}

static int
right_snapshot(raft_index index, raft_term term)
{
	LogModel	model;

	memset(&model, 0, sizeof(model));
	model.snapshot = index;
	model.snapshot_term = term;
	return fixture_check_snapshot(&f, &model) == 0;
}

/* ----------------------------------------------------------------
 * Incoming
 * ----------------------------------------------------------------
 */
static void
test_chunks(void)
{
	struct raft_entry entry;
	size_t		n;

	setup();
	is_u64(send_chunk(50, 2, 100, 50, 1000, 0), PGRAFT_ERR_PROTOCOL,
		   "a chunk in the middle of nothing is refused");
	is_u64(send_chunk(50, 2, 0, 300, 1000, 0), PGRAFT_OK, "first chunk");
	is_u64(send_chunk(50, 2, 400, 300, 1000, 0), PGRAFT_ERR_PROTOCOL, "gap");
	is_u64(send_chunk(50, 2, 200, 300, 1000, 0), PGRAFT_ERR_PROTOCOL, "overlap");
	is_u64(send_chunk(51, 2, 300, 300, 1000, 0), PGRAFT_ERR_PROTOCOL, "another snapshot");
	is_u64(send_chunk(50, 2, 300, 300, 1001, 0), PGRAFT_ERR_PROTOCOL, "another size");
	is_u64(send_chunk(50, 2, 300, 800, 1000, 0), PGRAFT_ERR_PROTOCOL, "beyond the end");
	is_u64(send_chunk(50, 2, 300, 300, 1000, 1), PGRAFT_ERR_PROTOCOL,
		   "installing before the end");
	is_u64(send_chunk(50, 2, 300, 300, 1000, 0), PGRAFT_OK,
		   "after all that, the right chunk is taken");
	is_u64(send_chunk(50, 2, 0, 500, 1000, 0), PGRAFT_OK, "start again");
	is_u64(send_chunk(50, 2, 500, 500, 1000, 1), PGRAFT_OK, "last chunk, installed");
	ok(right_snapshot(50, 2), "the snapshot is right");
	is_u64(pgraft_storage_read_entries(f.storage, 12, 1, 1, &entry, &n),
		   RAFT_E_COMPACTED, "the log before is gone");
	is_u64(pgraft_storage_read_entries(f.storage, 51, 1, 1, &entry, &n),
		   RAFT_E_UNAVAILABLE, "the log after is empty");
	reopen(FAULTY_POWER_LOSS_ALL);
	ok(right_snapshot(50, 2) && f.seen.start == 50 && f.seen.last == 50,
	   "after a power loss, too");
	teardown();
}

static void
test_interrupted_transfer(void)
{
	setup();
	is_u64(send_chunk(50, 2, 0, 300, 1000, 0), PGRAFT_OK, "first chunk");
	ok(exists(FIXTURE_DIRECTORY "/incoming.tmp"), "is in a temporary file");
	reopen(FAULTY_KILL);
	ok(!exists(FIXTURE_DIRECTORY "/incoming.tmp"), "that a restart removes");
	is_u64(send_chunk(50, 2, 300, 700, 1000, 1), PGRAFT_ERR_PROTOCOL,
		   "the rest is refused then");
	is_u64(f.seen.last, 12, "the log is untouched");
	teardown();
}

/* ----------------------------------------------------------------
 * Reading
 * ----------------------------------------------------------------
 */
static void
test_read_chunks(void)
{
	const unsigned char *data;
	size_t		chunk;
	size_t		n;
	size_t		i;
	raft_u64	total;
	int			wrong = 0;

	setup();
	is_u64(pgraft_storage_read_snapshot(f.storage, 50, 0, 10, &data, &n, &total),
		   RAFT_E_COMPACTED, "there is no snapshot yet");
	is_u64(send_chunk(50, 2, 0, BIG_BYTES, BIG_BYTES, 1), PGRAFT_OK, "a large one");
	for (chunk = 1000; chunk < 300000; chunk = chunk * 3 + 7)
	{
		raft_u64	offset = 0;

		do
		{
			if (pgraft_storage_read_snapshot(f.storage, 50, offset, chunk, &data,
											 &n, &total) != RAFT_OK ||
				total != BIG_BYTES || n != Min(chunk, BIG_BYTES - offset))
			{
				wrong++;
				break;
			}
			for (i = 0; i < n; i++)
				wrong += data[i] != fixture_snapshot_byte(50, offset + i);
			offset += n;
		} while (offset < total);
	}
	is_u64(wrong, 0, "it can be read in chunks of any size");
	is_u64(pgraft_storage_read_snapshot(f.storage, 49, 0, 10, &data, &n, &total),
		   RAFT_E_COMPACTED, "under no other index");
	is_u64(pgraft_storage_read_snapshot(f.storage, 50, BIG_BYTES + 1, 10, &data, &n,
										&total), RAFT_E_INVALID, "not beyond its end");
	faulty_disk_flip(f.disk, NAME_50_2, 150000, 1);
	is_u64(pgraft_storage_read_snapshot(f.storage, 50, 1000, 1000, &data, &n, &total),
		   RAFT_OK, "with a damaged block, the others can be read");
	is_u64(pgraft_storage_read_snapshot(f.storage, 50, 140000, 1000, &data, &n,
										&total), RAFT_E_CORRUPT,
		   "that block is never handed out");
	teardown();
}

typedef struct Consumed
{
	size_t		length;
	int			wrong;
} Consumed;

static int
consume(void *arg, const unsigned char *data, size_t length)
{
	Consumed   *consumed = arg;
	size_t		i;

	for (i = 0; i < length; i++)
		consumed->wrong += data[i] != fixture_snapshot_byte(50, consumed->length + i);
	consumed->length += length;
	return 0;
}

static int
refuse(void *arg, const unsigned char *data, size_t length)
{
	(void) arg;
	(void) data;
	(void) length;
	return 1;
}

static void
test_load_damaged(void)
{
	struct raft_snapshot_meta meta;
	const unsigned char *data;
	size_t		size = 0;
	size_t		offset;
	int			half = 0;
	int			wrong = 0;
	int			refused = 0;

	setup();
	is_u64(send_chunk(50, 2, 0, 1003, 1003, 1), PGRAFT_OK, "a snapshot");
	is_u64(pgraft_storage_load_snapshot(f.storage, &meta, refuse, NULL, &f.error),
		   PGRAFT_ERR_CORRUPT, "its reader may refuse it");
	data = faulty_disk_data(f.disk, NAME_50_2, &size);
	ok(data != NULL && size > 1003, "file of %zu bytes", size);
	for (offset = 0; offset < size; offset++)
	{
		Consumed	consumed;
		PgraftErrorCode code;

		memset(&consumed, 0, sizeof(consumed));
		faulty_disk_flip(f.disk, NAME_50_2, offset, 0x20);
		code = pgraft_storage_load_snapshot(f.storage, &meta, consume, &consumed,
											&f.error);
		if (code == PGRAFT_ERR_CORRUPT)
		{
			refused++;
			half += consumed.length > 0;
			wrong += strstr(f.error.message, "snapshot-") == NULL;
		}
		else if (code != PGRAFT_OK || consumed.length != 1003)
			wrong++;
		wrong += consumed.wrong;
		faulty_disk_flip(f.disk, NAME_50_2, offset, 0x20);
	}
	is_u64(wrong, 0, "each byte flipped: right or refused by name");
	is_u64(half, 0, "never half loaded");
	ok((size_t) refused >= size - 16, "%d of %zu flips noticed, the rest is padding",
	   refused, size);
	for (offset = 0; offset < size; offset++)
	{
		faulty_disk_cut(f.disk, NAME_50_2, size - 1 - offset);
		if (pgraft_storage_load_snapshot(f.storage, &meta, consume, &half, &f.error) !=
			PGRAFT_ERR_CORRUPT)
			wrong++;
	}
	is_u64(wrong, 0, "cut at each length: refused");
	teardown();
}

/* ----------------------------------------------------------------
 * Local ones
 * ----------------------------------------------------------------
 */
static void
test_local(void)
{
	PgraftSnapshotWriter *writer;
	struct raft_snapshot_meta meta;
	struct raft_entry entry;
	size_t		n;

	setup();
	fixture_snapshot_meta(&meta, 13, 1);
	is_u64(pgraft_snapshot_begin(f.storage, &meta, &writer, &f.error),
		   PGRAFT_ERR_INTERNAL, "none beyond the log");
	is_u64(begin_local(5, 3000, &writer), PGRAFT_OK, "snapshot at 5");
	ok(exists(NAME_5_1), "is durable");
	pgraft_snapshot_publish(writer);
	ok(right_snapshot(5, 1), "and at once the newest");
	pgraft_storage_forget(f.storage, 4);
	is_u64(pgraft_storage_read_entries(f.storage, 3, 1, 1, &entry, &n),
		   RAFT_E_COMPACTED, "entry 3 is forgotten");
	is_u64(pgraft_storage_read_entries(f.storage, 4, 1, 1, &entry, &n), RAFT_OK,
		   "entry 4, before the snapshot, is kept");
	is_u64(write_hard_state(), PGRAFT_OK, "a batch records it");
	is_u64(begin_local(10, 0, &writer), PGRAFT_OK, "snapshot at 10, without data");
	pgraft_snapshot_publish(writer);
	ok(exists(NAME_5_1), "until a batch names it, the older one stays");
	reopen(FAULTY_POWER_LOSS);
	ok(f.seen.snapshot == 5 && f.seen.start == 3, "and a crash returns to it");
	ok(right_snapshot(5, 1) && !exists(NAME_10_1), "whole, and the other is gone");
	is_u64(begin_local(10, 0, &writer), PGRAFT_OK, "again");
	pgraft_snapshot_publish(writer);
	pgraft_storage_forget(f.storage, 100);
	is_u64(write_hard_state(), PGRAFT_OK, "this time it is recorded");
	ok(!exists(NAME_5_1), "the older one is gone");
	reopen(FAULTY_POWER_LOSS_ALL);
	ok(f.seen.snapshot == 10 && f.seen.start == 10 && f.seen.last == 12,
	   "forgetting never goes beyond the snapshot");
	ok(right_snapshot(10, 1), "an empty snapshot can be loaded");
	is_u64(begin_local(11, 10, &writer), PGRAFT_OK, "snapshot at 11");
	pgraft_snapshot_abort(writer);
	ok(right_snapshot(10, 1), "aborted even when finished");
	teardown();
}

/* The batch that names it need not be flushed for any other reason. */
static void
test_named_by_hint(void)
{
	PgraftSnapshotWriter *writer;
	struct raft_update update;
	unsigned long seed;
	int			wrong = 0;

	for (seed = 1; seed <= 30; seed++)
	{
		setup();
		faulty_disk_reseed(f.disk, seed);
		wrong += begin_local(5, 100, &writer) != PGRAFT_OK;
		pgraft_snapshot_publish(writer);
		wrong += write_hard_state() != PGRAFT_OK;
		wrong += begin_local(10, 100, &writer) != PGRAFT_OK;
		pgraft_snapshot_publish(writer);
		memset(&update, 0, sizeof(update));
		update.hard_state_changed = 1;
		update.hard_state.term = 10;
		wrong += fixture_write(&f, &update, 0) != PGRAFT_OK;
		fixture_drop(&f);
		faulty_disk_restart(f.disk, FAULTY_POWER_LOSS);
		wrong += fixture_open(&f) != PGRAFT_OK ||
			(f.seen.snapshot != 5 && f.seen.snapshot != 10) ||
			!right_snapshot(f.seen.snapshot, 1);
		fixture_close(&f);
		faulty_disk_destroy(f.disk);
	}
	is_u64(wrong, 0, "a snapshot named by an unflushed hint: one is always in force");
}

/* The leader's snapshot arrives while a local one is being made. */
static void
test_both(void)
{
	PgraftSnapshotWriter *writer;

	setup();
	is_u64(begin_local(5, 100, &writer), PGRAFT_OK, "local snapshot at 5 finished");
	is_u64(send_chunk(50, 2, 0, 10, 10, 1), PGRAFT_OK, "leader's at 50 installed");
	pgraft_snapshot_publish(writer);
	ok(right_snapshot(50, 2), "the newer one wins");
	ok(!exists(NAME_5_1) && exists(NAME_50_2), "the older file is dropped");
	teardown();

	setup();
	is_u64(begin_local(5, 100, &writer), PGRAFT_OK, "local snapshot at 5");
	pgraft_snapshot_publish(writer);
	pgraft_storage_forget(f.storage, 6);
	is_u64(send_chunk(50, 2, 0, 10, 10, 1), PGRAFT_OK,
		   "leader's at 50 before that is recorded");
	ok(right_snapshot(50, 2) && !exists(NAME_5_1), "the newer one wins");
	reopen(FAULTY_POWER_LOSS);
	ok(f.seen.snapshot == 50 && f.seen.start == 50, "for good");
	teardown();
}

/* A peer reads the old one while a new one takes its place. */
static void
test_replaced_while_read(void)
{
	PgraftSnapshotWriter *writer;
	const unsigned char *data;
	size_t		n;
	raft_u64	total;

	setup();
	is_u64(begin_local(5, 1000, &writer), PGRAFT_OK, "snapshot at 5");
	pgraft_snapshot_publish(writer);
	is_u64(write_hard_state(), PGRAFT_OK, "recorded");
	is_u64(pgraft_storage_read_snapshot(f.storage, 5, 0, 10, &data, &n, &total),
		   RAFT_OK, "being read");
	is_u64(begin_local(10, 1000, &writer), PGRAFT_OK, "snapshot at 10");
	is_u64(pgraft_storage_read_snapshot(f.storage, 5, 10, 10, &data, &n, &total),
		   RAFT_OK, "still being read");
	pgraft_snapshot_publish(writer);
	is_u64(pgraft_storage_read_snapshot(f.storage, 5, 20, 10, &data, &n, &total),
		   RAFT_E_COMPACTED, "until it is published");
	is_u64(pgraft_storage_read_snapshot(f.storage, 10, 0, 10, &data, &n, &total),
		   RAFT_OK, "then the new one is");
	ok(n == 10 && data[9] == fixture_snapshot_byte(10, 9), "with its own bytes");
	teardown();
}

/* A job with a chunk, prepared and not yet executed. */
static PgraftJob *
prepare_chunk(raft_index index, size_t offset, size_t length, size_t total, int install,
			  int with_hard_state)
{
	ChunkUpdate filled;
	PgraftJob  *job = NULL;

	fill_chunk(&filled, index, 2, offset, length, total, install);
	filled.update.hard_state_changed = with_hard_state;
	filled.update.hard_state.term = 9;
	if (pgraft_storage_prepare(f.storage, &filled.update, &job, &f.error) != PGRAFT_OK)
		return NULL;
	return job;
}

/*
 * Many jobs share a flush.  When one of them finds no space all are executed
 * again, those whose chunks were taken already and those of a snapshot that was
 * given up for a newer one among them.
 */
static void
test_group_without_space(void)
{
	PgraftJob  *jobs[6];
	PgraftErrorCode code = PGRAFT_ERR_NO_SPACE;
	int			refused = 0;
	int			missing = 0;
	unsigned long n;
	int			i;

	setup();
	for (n = 1; n < 12; n++)
	{
		raft_index	index = 50 + (raft_index) n * 10;

		jobs[0] = prepare_chunk(index, 0, 300, 1000, 0, 0);
		jobs[1] = prepare_chunk(index, 300, 300, 1000, 0, 0);
		jobs[2] = prepare_chunk(index + 1, 0, 200, 600, 0, 0);
		jobs[3] = prepare_chunk(index + 1, 200, 200, 600, 0, 1);
		jobs[4] = prepare_chunk(index + 1, 400, 200, 600, 1, 0);
		jobs[5] = prepare_chunk(index + 2, 0, 100, 1000, 0, 1);
		for (i = 0; i < 6; i++)
			missing += jobs[i] == NULL;
		if (missing > 0)
			break;
		faulty_disk_fail_at(f.disk, FAULTY_TAKES_SPACE, n, ENOSPC);
		code = pgraft_storage_execute_many(f.storage, jobs, 6, &f.error);
		if (code == PGRAFT_ERR_NO_SPACE)
		{
			refused++;
			code = pgraft_storage_execute_many(f.storage, jobs, 6, &f.error);
		}
		for (i = 0; i < 6 && code == PGRAFT_OK; i++)
			pgraft_storage_complete(f.storage, jobs[i]);
		if (code != PGRAFT_OK || !right_snapshot(index + 1, 2))
			break;
	}
	is_u64(missing, 0, "every group was prepared");
	is_u64(n, 12, "a group that found no space is written as it was meant");
	ok(refused >= 5, "there was no space at %d different calls", refused);
	teardown();
}

int
main(void)
{
	test_chunks();
	test_group_without_space();
	test_interrupted_transfer();
	test_read_chunks();
	test_load_damaged();
	test_local();
	test_named_by_hint();
	test_both();
	test_replaced_while_read();
	return tap_done();
}
