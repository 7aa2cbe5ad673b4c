/*-------------------------------------------------------------------------
 *
 * test_flush.c
 *	  The flush thread over a disk that stalls, fills up and fails: the owner
 *	  never waits for it, gets everything back in order, and can always end.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_flush.c
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

#define MANY 6000				/* jobs, more than any limit in flush.c */
#define PATIENCE_MS 10000		/* for anything that must happen */

static Fixture f;
static PgraftIo disk_io;		/* what the faulty disk itself does */
static PgraftFlush *flush;
static raft_u64 next_epoch;

/* the gate before the disk; also read by the flush thread */
static int	gate_stall;
static int	gate_no_space;
static int	gate_fail;
static int	gate_waiting;
static int	gate_syncs;

static int
gated_fdatasync(PgraftIo *io, int fd)
{
	__atomic_add_fetch(&gate_waiting, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&gate_stall, __ATOMIC_SEQ_CST))
		usleep(500);
	__atomic_sub_fetch(&gate_waiting, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&gate_syncs, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&gate_fail, __ATOMIC_SEQ_CST))
	{
		errno = EIO;
		return -1;
	}
	return disk_io.fdatasync(io, fd);
}

static ssize_t
gated_pwrite(PgraftIo *io, int fd, const void *buffer, size_t n, off_t offset)
{
	if (__atomic_load_n(&gate_no_space, __ATOMIC_SEQ_CST))
	{
		errno = ENOSPC;
		return -1;
	}
	return disk_io.pwrite(io, fd, buffer, n, offset);
}

static void
set(int *gate, int value)
{
	__atomic_store_n(gate, value, __ATOMIC_SEQ_CST);
}

static int
get(int *gate)
{
	return __atomic_load_n(gate, __ATOMIC_SEQ_CST);
}

static long
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
setup(void)
{
	PgraftIo   *io;

	fixture_init(&f, faulty_disk_create(11), NULL, 0);
	f.options.segment_bytes = 1024 * 1024;
	io = faulty_disk_io(f.disk);
	fixture_create(&f);
	fixture_open(&f);
	disk_io = *io;
	io->fdatasync = gated_fdatasync;
	io->pwrite = gated_pwrite;
	gate_stall = gate_no_space = gate_fail = gate_waiting = gate_syncs = 0;
	next_epoch = 1;
	flush = pgraft_flush_start(f.storage, &f.error);
	ok(flush != NULL, "the thread starts");
}

static void
teardown(void)
{
	ok(pgraft_flush_stop(flush, PATIENCE_MS), "the thread ends");
	fixture_close(&f);
	is_u64(faulty_disk_open_files(f.disk), 0, "no descriptor is left open");
	faulty_disk_destroy(f.disk);
}

/* A job that sets the term to its epoch. */
static bool
submit(void)
{
	struct raft_update update;
	PgraftJob  *job;

	memset(&update, 0, sizeof(update));
	update.epoch = next_epoch++;
	update.must_sync = 1;
	update.hard_state_changed = 1;
	update.hard_state.term = update.epoch;
	if (pgraft_storage_prepare(f.storage, &update, &job, &f.error) != PGRAFT_OK)
		return false;
	return pgraft_flush_submit(flush, job);
}

/* Takes back n jobs beginning with `epoch`; how many came in order with `code`. */
static int
reap(int n, raft_u64 epoch, PgraftErrorCode code)
{
	long		deadline = now_ms() + PATIENCE_MS;
	PgraftFlushDone done;
	PgraftError error;
	int			right = 0;

	memset(&error, 0, sizeof(error));
	while (n > 0 && now_ms() < deadline)
	{
		struct pollfd news;

		if (!pgraft_flush_reap(flush, &done, &error))
		{
			news.fd = pgraft_flush_fd(flush);
			news.events = POLLIN;
			(void) poll(&news, 1, 100);
			continue;
		}
		n--;
		if (done.job == NULL)
			continue;
		if (done.code == code && pgraft_job_epoch(done.job) == epoch &&
			(code == PGRAFT_OK || error.code == code))
			right++;
		epoch++;
		if (done.code == PGRAFT_OK)
			pgraft_storage_complete(f.storage, done.job);
		else
			pgraft_job_discard(done.job);
	}
	return right;
}

static void
wait_for(int *gate, int value)
{
	long		deadline = now_ms() + PATIENCE_MS;

	while (get(gate) != value && now_ms() < deadline)
		usleep(500);
}

static void
test_stall(void)
{
	long		started;
	int			i;
	int			taken = 0;

	setup();
	is_u64(pgraft_flush_waiting_ms(flush), 0, "nothing waits at first");
	set(&gate_stall, 1);
	taken += submit();
	wait_for(&gate_waiting, 1);
	ok(!pgraft_flush_full(flush), "one job is no crowd");

	started = now_ms();
	for (i = 1; i < MANY; i++)
		taken += submit();
	is_u64(taken, MANY, "a stalled disk takes any number of jobs");
	ok(now_ms() - started < 2000, "without making their owner wait");
	ok(pgraft_flush_full(flush), "and says that it is enough");
	while (pgraft_flush_waiting_ms(flush) < 50 && now_ms() - started < PATIENCE_MS)
		usleep(1000);
	ok(pgraft_flush_waiting_ms(flush) >= 50, "it knows how long the oldest has been waiting");
	is_u64(get(&gate_waiting), 1, "all of them behind one flush");

	set(&gate_stall, 0);
	is_u64(reap(MANY, 1, PGRAFT_OK), MANY, "released, all come back in order");
	ok(!pgraft_flush_full(flush), "it takes more");
	is_u64(pgraft_flush_waiting_ms(flush), 0, "nothing waits any more");
	ok(get(&gate_syncs) < MANY / 10, "they shared flushes");
	ok(pgraft_flush_stop(flush, PATIENCE_MS), "the thread ends");
	fixture_close(&f);
	is_u64(fixture_open(&f), PGRAFT_OK, "the storage can be opened again");
	is_u64(f.seen.hard_state.term, MANY, "and has the last job");
	flush = pgraft_flush_start(f.storage, &f.error);
	teardown();
}

static void
test_no_space(void)
{
	long		started = now_ms();
	struct pollfd news;
	PgraftFlushDone done;
	int			syncs;

	setup();
	ok(submit(), "a job");
	is_u64(reap(1, 1, PGRAFT_OK), 1, "is written");
	ok(!pgraft_flush_reap(flush, &done, &f.error), "and nothing else");
	set(&gate_no_space, 1);
	syncs = get(&gate_syncs);
	ok(submit() && submit(), "two jobs for a full disk");
	news.fd = pgraft_flush_fd(flush);
	news.events = POLLIN;
	is_u64(poll(&news, 1, PATIENCE_MS), 1, "there is news");
	ok(pgraft_flush_no_space(flush), "the thread says that the disk is full");
	is_u64(get(&gate_syncs), syncs, "nothing is flushed");
	set(&gate_no_space, 0);
	is_u64(reap(2, 2, PGRAFT_OK), 2, "with space again both come back by themselves");
	ok(!pgraft_flush_no_space(flush), "the disk is not full any more");
	set(&gate_no_space, 1);
	ok(submit(), "another job for a full disk");
	while (!pgraft_flush_no_space(flush) && now_ms() - started < PATIENCE_MS)
		usleep(1000);
	teardown();
}

static void
test_failure(void)
{
	int			syncs;

	setup();
	ok(submit(), "a job");
	is_u64(reap(1, 1, PGRAFT_OK), 1, "is written");
	set(&gate_fail, 1);
	syncs = get(&gate_syncs);
	ok(submit(), "a job whose flush fails");
	is_u64(reap(1, 2, PGRAFT_ERR_IO), 1, "comes back as failed");
	set(&gate_fail, 0);
	ok(submit() && submit(), "later jobs, with the disk well again");
	is_u64(reap(2, 3, PGRAFT_ERR_IO), 2, "come back as failed, too");
	is_u64(get(&gate_syncs), syncs + 1, "without another flush");
	teardown();
}

static void
test_stop(void)
{
	static PgraftFlush *left_behind;
	long		started;

	setup();
	set(&gate_stall, 1);
	ok(submit(), "a job");
	wait_for(&gate_waiting, 1);
	ok(submit(), "a job behind a stalled one");
	started = now_ms();
	ok(!pgraft_flush_stop(flush, 100), "a stalled disk is not waited for");
	ok(now_ms() - started < 5000, "for long");
	left_behind = flush;
	set(&gate_stall, 0);
	wait_for(&gate_waiting, 0);
	ok(left_behind != NULL && get(&gate_waiting) == 0, "what it left behind goes on");
	wait_for(&gate_syncs, 2);
	is_u64(get(&gate_syncs), 2, "to its end: the job, and the mark that says so");
}

/* Ending must not wait for the disk where nobody bounds the wait. */
static void
test_stop_idle(void)
{
	struct raft_update update;
	PgraftJob  *job;

	setup();
	ok(submit(), "a job");
	is_u64(reap(1, 1, PGRAFT_OK), 1, "is written");
	memset(&update, 0, sizeof(update));
	update.epoch = next_epoch++;
	update.hard_state_changed = 1;
	update.hard_state.term = 1;
	update.hard_state.commit = 1;
	is_u64(pgraft_storage_prepare(f.storage, &update, &job, &f.error), PGRAFT_OK, "a job that needs no flush");
	ok(pgraft_flush_submit(flush, job), "is taken");
	is_u64(reap(1, 2, PGRAFT_OK), 1, "and done");
	ok(pgraft_flush_stop(flush, PATIENCE_MS), "the thread ends");
	set(&gate_syncs, 0);
	fixture_close(&f);
	is_u64(get(&gate_syncs), 0, "and leaves nothing for the close to wait for");
	faulty_disk_destroy(f.disk);
}

int
main(void)
{
	test_stall();
	test_no_space();
	test_failure();
	test_stop();
	test_stop_idle();
	return tap_done();
}
