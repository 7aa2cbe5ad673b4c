/*-------------------------------------------------------------------------
 *
 * test_storage_flush.c
 *	  What the flush thread does besides jobs: snapshots, and segments made
 *	  ready while it has nothing to do.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_storage_flush.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "pgraft/flush.h"

#include "storage_fixture.h"
#include "tap.h"

#define PATIENCE_MS 10000
#define STEPS 6

static Fixture f;
static PgraftIo disk_io;		/* what the faulty disk itself does */
static PgraftFlush *flush;
static int	renames;			/* finished; also read by the loop's side */
static int	fail_renames;		/* that many fail */

static int
counted_rename(PgraftIo *io, const char *from, const char *to)
{
	int			result;

	if (__atomic_load_n(&fail_renames, __ATOMIC_SEQ_CST) > 0)
	{
		__atomic_sub_fetch(&fail_renames, 1, __ATOMIC_SEQ_CST);
		errno = EIO;
		return -1;
	}
	result = disk_io.rename(io, from, to);
	__atomic_add_fetch(&renames, 1, __ATOMIC_SEQ_CST);
	return result;
}

static long
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
setup(size_t capacity)
{
	PgraftIo   *io;
	bool		good;
	int			synced;
	int			i;

	fixture_init(&f, faulty_disk_create(13), fixture_short_script, fixture_short_steps);
	f.options.segment_bytes = 64 * 1024;
	io = faulty_disk_io(f.disk);
	disk_io = *io;
	io->rename = counted_rename;
	faulty_disk_set_capacity(f.disk, capacity);
	good = fixture_create(&f) == PGRAFT_OK && fixture_open(&f) == PGRAFT_OK;
	for (i = 0; good && i < STEPS; i++)
		good = fixture_step(&f, i, 0, &synced) == PGRAFT_OK;
	faulty_disk_set_capacity(f.disk, 0);
	ok(good, "a log to begin with");
	renames = 0;
	fail_renames = 0;
	flush = pgraft_flush_start(f.storage, &f.error);
	ok(flush != NULL, "the thread starts");
}

static void
teardown(void)
{
	ok(pgraft_flush_stop(flush, PATIENCE_MS), "the thread ends");
	fixture_close(&f);
	is_u64(faulty_disk_open_files(f.disk), 0, "no descriptor is left open");
}

/* The next thing that the thread hands back. */
static bool
reap(PgraftFlushDone *done, PgraftError *error)
{
	long		deadline = now_ms() + PATIENCE_MS;

	memset(error, 0, sizeof(*error));
	while (now_ms() < deadline)
	{
		struct pollfd news;

		if (pgraft_flush_reap(flush, done, error))
			return true;
		news.fd = pgraft_flush_fd(flush);
		news.events = POLLIN;
		(void) poll(&news, 1, 100);
	}
	return false;
}

/* A snapshot of entry `index`, as far as the loop's side makes it. */
static PgraftSnapshotWriter *
begin_snapshot(raft_index index)
{
	struct raft_snapshot_meta meta;
	PgraftSnapshotWriter *writer = NULL;

	fixture_snapshot_meta(&meta, index, f.history[STEPS].terms[index]);
	if (pgraft_snapshot_begin(f.storage, &meta, &writer, &f.error) != PGRAFT_OK ||
		pgraft_snapshot_write(writer, "data", 4, &f.error) != PGRAFT_OK)
		return NULL;
	return writer;
}

static bool
submit_hard_state(raft_term term)
{
	struct raft_update update;
	PgraftJob  *job;

	memset(&update, 0, sizeof(update));
	update.epoch = 1000 + term;
	update.must_sync = 1;
	update.hard_state_changed = 1;
	update.hard_state.term = term;
	return pgraft_storage_prepare(f.storage, &update, &job, &f.error) == PGRAFT_OK &&
		pgraft_flush_submit(flush, job);
}

static void
finish_job(raft_term term)
{
	PgraftFlushDone done;
	PgraftError error;

	ok(submit_hard_state(term), "a job");
	if (!reap(&done, &error) || done.job == NULL)
	{
		ok(0, "the job comes back");
		return;
	}
	is_u64(done.code, PGRAFT_OK, "is written");
	pgraft_storage_complete(f.storage, done.job);
}

static void
snapshots(void)
{
	raft_index	last;
	PgraftSnapshotWriter *writer;
	PgraftFlushDone done;
	PgraftError error;

	setup(0);
	last = f.history[STEPS].last;
	writer = begin_snapshot(last - 2);
	ok(writer != NULL && pgraft_flush_submit_snapshot(flush, writer), "a snapshot");
	ok(reap(&done, &error) && done.snapshot == writer && done.job == NULL,
	   "the thread hands it back");
	is_u64(done.code, PGRAFT_OK, "finished");
	pgraft_snapshot_publish(writer);
	finish_job(50);

	/* one that fails costs nothing but itself */
	writer = begin_snapshot(last - 1);
	__atomic_store_n(&fail_renames, 1, __ATOMIC_SEQ_CST);
	ok(writer != NULL && pgraft_flush_submit_snapshot(flush, writer), "another one");
	ok(reap(&done, &error) && done.snapshot == writer, "it comes back, too");
	is_u64(done.code, PGRAFT_ERR_IO, "failed");
	ok(strstr(error.message, "rename") != NULL, "for that reason: %s", error.message);
	pgraft_snapshot_abort(writer);
	finish_job(51);
	teardown();

	is_u64(fixture_open(&f), PGRAFT_OK, "open again");
	is_u64(f.seen.snapshot, last - 2, "with the first of the two snapshots");
	is_u64(f.seen.hard_state.term, 51, "and the last job");
	fixture_close(&f);
	faulty_disk_destroy(f.disk);
}

/* The disk was too full for spare segments when the storage was opened. */
static void
segments_ahead(void)
{
	long		deadline;

	setup(100 * 1024);
	deadline = now_ms() + PATIENCE_MS;
	while (__atomic_load_n(&renames, __ATOMIC_SEQ_CST) < f.options.recycle_segments &&
		   now_ms() < deadline)
		usleep(1000);
	is_u64(__atomic_load_n(&renames, __ATOMIC_SEQ_CST), f.options.recycle_segments,
		   "an idle thread makes the spare segments");
	finish_job(60);
	teardown();
	is_u64(fixture_open(&f), PGRAFT_OK, "open again");
	is_u64(f.seen.hard_state.term, 60, "nothing is lost");
	fixture_close(&f);
	faulty_disk_destroy(f.disk);
}

/* Whoever is idle and cannot make one says so at the next job. */
static void
segments_ahead_fail(void)
{
	PgraftFlushDone done;
	PgraftError error;
	long		deadline;

	setup(100 * 1024);
	__atomic_store_n(&fail_renames, 1, __ATOMIC_SEQ_CST);
	deadline = now_ms() + PATIENCE_MS;
	while (__atomic_load_n(&fail_renames, __ATOMIC_SEQ_CST) > 0 && now_ms() < deadline)
		usleep(1000);
	ok(submit_hard_state(70), "a job after a failure in idle time");
	if (reap(&done, &error) && done.job != NULL)
	{
		is_u64(done.code, PGRAFT_ERR_IO, "learns of it");
		pgraft_job_discard(done.job);
	}
	teardown();
	is_u64(fixture_open(&f), PGRAFT_OK, "open again");
	ok(fixture_same(&f.seen, &f.history[STEPS]), "with all that was written before");
	fixture_close(&f);
	faulty_disk_destroy(f.disk);
}

int
main(void)
{
	snapshots();
	segments_ahead();
	segments_ahead_fail();
	return tap_done();
}
