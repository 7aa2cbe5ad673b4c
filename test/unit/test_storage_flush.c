/*-------------------------------------------------------------------------
 *
 * test_storage_flush.c
 *	  What the flush thread does besides jobs, and what is done beside it:
 *	  segments made ready while there is nothing to do, snapshots.
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

#include "locked_io.h"
#include "storage_fixture.h"
#include "tap.h"

#define PATIENCE_MS 10000
#define STEPS 6

static Fixture f;
static PgraftIo disk_io;		/* what the faulty disk itself does, locked */
static PgraftFlush *flush;

/* read and written by all threads */
static int	renames;			/* finished */
static int	fail_renames;		/* that many fail */
static int	snapshot_fd;		/* of the snapshot that was begun last */
static int	stall_fsyncs;		/* its flush waits, other files' do not */
static int	stalled_fsyncs;
static int	no_space;			/* for its data */

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

static int
gated_open(PgraftIo *io, const char *path, int flags)
{
	int			fd = disk_io.open(io, path, flags);

	if (strstr(path, "/snapshot-") != NULL && strstr(path, ".tmp") != NULL)
		__atomic_store_n(&snapshot_fd, fd, __ATOMIC_SEQ_CST);
	return fd;
}

static int
gated_fsync(PgraftIo *io, int fd)
{
	if (fd != __atomic_load_n(&snapshot_fd, __ATOMIC_SEQ_CST))
		return disk_io.fsync(io, fd);
	__atomic_add_fetch(&stalled_fsyncs, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&stall_fsyncs, __ATOMIC_SEQ_CST))
		usleep(500);
	__atomic_sub_fetch(&stalled_fsyncs, 1, __ATOMIC_SEQ_CST);
	return disk_io.fsync(io, fd);
}

static ssize_t
gated_pwrite(PgraftIo *io, int fd, const void *buffer, size_t n, off_t offset)
{
	if (fd == __atomic_load_n(&snapshot_fd, __ATOMIC_SEQ_CST) &&
		__atomic_load_n(&no_space, __ATOMIC_SEQ_CST))
	{
		errno = ENOSPC;
		return -1;
	}
	return disk_io.pwrite(io, fd, buffer, n, offset);
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
	locked_io(io, &disk_io);
	disk_io = *io;
	io->rename = counted_rename;
	io->open = gated_open;
	io->fsync = gated_fsync;
	io->pwrite = gated_pwrite;
	faulty_disk_set_capacity(f.disk, capacity);
	good = fixture_create(&f) == PGRAFT_OK && fixture_open(&f) == PGRAFT_OK;
	for (i = 0; good && i < STEPS; i++)
		good = fixture_step(&f, i, 0, &synced) == PGRAFT_OK;
	faulty_disk_set_capacity(f.disk, 0);
	ok(good, "a log to begin with");
	renames = 0;
	fail_renames = 0;
	snapshot_fd = -1;
	stall_fsyncs = 0;
	stalled_fsyncs = 0;
	no_space = 0;
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

/* A snapshot of entry `index`, with all of its data. */
static PgraftSnapshotWriter *
begin_snapshot(raft_index index)
{
	struct raft_snapshot_meta meta;
	PgraftSnapshotWriter *writer = NULL;

	fixture_snapshot_meta(&meta, index, f.history[STEPS].terms[index]);
	if (pgraft_snapshot_begin(f.storage, &meta, &writer, &f.error) != PGRAFT_OK)
		return NULL;
	pgraft_flush_snapshot_data(flush, writer, "data", 4);
	return writer;
}

static void
submit_snapshot(PgraftSnapshotWriter *writer)
{
	ok(writer != NULL, "a snapshot begins");
	if (writer != NULL)
		pgraft_flush_submit_snapshot(flush, writer);
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
	submit_snapshot(writer);
	ok(reap(&done, &error) && done.snapshot == writer && done.job == NULL,
	   "the thread hands it back");
	is_u64(done.code, PGRAFT_OK, "finished");
	pgraft_snapshot_publish(writer);
	finish_job(50);

	/* one that fails costs nothing but itself */
	writer = begin_snapshot(last - 1);
	__atomic_store_n(&fail_renames, 1, __ATOMIC_SEQ_CST);
	submit_snapshot(writer);
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

static bool
wait_for(const int *what, int value)
{
	long		deadline = now_ms() + PATIENCE_MS;

	while (__atomic_load_n(what, __ATOMIC_SEQ_CST) != value && now_ms() < deadline)
		usleep(500);
	return __atomic_load_n(what, __ATOMIC_SEQ_CST) == value;
}

/*
 * A snapshot that the disk takes its time for is not the log's concern: jobs are
 * written meanwhile, and nobody takes the disk for one that does not answer.
 */
static void
slow_snapshot(void)
{
	PgraftSnapshotWriter *writer;
	PgraftFlushDone done;
	PgraftError error;
	raft_term	term;

	setup(0);
	__atomic_store_n(&stall_fsyncs, 1, __ATOMIC_SEQ_CST);
	writer = begin_snapshot(f.history[STEPS].last - 1);
	submit_snapshot(writer);
	ok(wait_for(&stalled_fsyncs, 1), "its flush does not end");
	for (term = 100; term < 110; term++)
		finish_job(term);
	is_u64(__atomic_load_n(&stalled_fsyncs, __ATOMIC_SEQ_CST), 1, "still not");
	is_u64(pgraft_flush_waiting_ms(flush), 0, "which is no silent disk");
	ok(!pgraft_flush_reap(flush, &done, &error), "nothing else comes back");
	__atomic_store_n(&stall_fsyncs, 0, __ATOMIC_SEQ_CST);
	ok(reap(&done, &error) && done.snapshot == writer, "the snapshot does in the end");
	is_u64(done.code, PGRAFT_OK, "finished");
	pgraft_snapshot_publish(writer);
	finish_job(110);
	teardown();
	is_u64(fixture_open(&f), PGRAFT_OK, "open again");
	is_u64(f.seen.snapshot, f.history[STEPS].last - 1, "with the snapshot");
	is_u64(f.seen.hard_state.term, 110, "and the last job");
	fixture_close(&f);
	faulty_disk_destroy(f.disk);
}

/* Data in many pieces; more than may wait is asked for only when some is written. */
static void
large_snapshot(void)
{
	static char piece[256 * 1024];
	struct raft_snapshot_meta meta;
	PgraftSnapshotWriter *writer = NULL;
	PgraftFlushDone done;
	PgraftError error;
	long		deadline = now_ms() + PATIENCE_MS;
	int			pieces;

	setup(0);
	fixture_snapshot_meta(&meta, f.history[STEPS].last, f.history[STEPS].terms[f.history[STEPS].last]);
	is_u64(pgraft_snapshot_begin(f.storage, &meta, &writer, &f.error), PGRAFT_OK, "a snapshot begins");
	for (pieces = 0; pieces < 80 && now_ms() < deadline; pieces++)
	{
		memset(piece, 'a' + pieces % 26, sizeof(piece));
		pgraft_flush_snapshot_data(flush, writer, piece, sizeof(piece));
		while (!pgraft_flush_wants_snapshot_data(flush) && now_ms() < deadline)
			usleep(200);
	}
	is_u64(pieces, 80, "twenty megabytes are taken");
	pgraft_flush_submit_snapshot(flush, writer);
	ok(reap(&done, &error) && done.snapshot == writer, "it comes back");
	is_u64(done.code, PGRAFT_OK, "finished");
	pgraft_snapshot_publish(writer);
	finish_job(120);
	teardown();
	is_u64(fixture_open(&f), PGRAFT_OK, "open again");
	is_u64(f.seen.snapshot, f.history[STEPS].last, "with the snapshot");
	fixture_close(&f);
	faulty_disk_destroy(f.disk);
}

/* A full disk fails a snapshot, once; one that is given up comes back, too. */
static void
ended_snapshots(void)
{
	static char piece[100 * 1024];
	PgraftSnapshotWriter *writer;
	PgraftFlushDone done;
	PgraftError error;

	setup(0);
	__atomic_store_n(&no_space, 1, __ATOMIC_SEQ_CST);
	writer = begin_snapshot(f.history[STEPS].last - 1);
	pgraft_flush_snapshot_data(flush, writer, piece, sizeof(piece));
	submit_snapshot(writer);
	ok(reap(&done, &error) && done.snapshot == writer, "on a full disk it comes back");
	is_u64(done.code, PGRAFT_ERR_NO_SPACE, "failed for that reason");
	is_u64(error.code, PGRAFT_ERR_NO_SPACE, "which it says");
	__atomic_store_n(&no_space, 0, __ATOMIC_SEQ_CST);
	pgraft_snapshot_abort(writer);

	writer = begin_snapshot(f.history[STEPS].last - 1);
	ok(writer != NULL, "another begins");
	pgraft_flush_cancel_snapshot(flush, writer);
	ok(reap(&done, &error) && done.snapshot == writer, "given up, it comes back");
	ok(done.code != PGRAFT_OK, "not finished");
	pgraft_snapshot_abort(writer);

	writer = begin_snapshot(f.history[STEPS].last - 1);
	submit_snapshot(writer);
	ok(reap(&done, &error) && done.snapshot == writer, "a third one comes back");
	is_u64(done.code, PGRAFT_OK, "finished");
	pgraft_snapshot_publish(writer);

	/* the storage's end drops what nobody has taken back */
	writer = begin_snapshot(f.history[STEPS].last);
	ok(writer != NULL, "a fourth one begins");
	teardown();
	is_u64(fixture_open(&f), PGRAFT_OK, "open again");
	is_u64(f.seen.snapshot, 0, "no record of the log named one");
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
	slow_snapshot();
	large_snapshot();
	ended_snapshots();
	segments_ahead();
	segments_ahead_fail();
	return tap_done();
}
