/*-------------------------------------------------------------------------
 *
 * flush.c
 *	  The flush thread: the only place that waits for the disk, so that the
 *	  event loop goes on sending heartbeats while a disk stalls.
 *
 * Rules of this room: the thread runs with all signals blocked and calls
 * nothing of PostgreSQL, not palloc, not ereport, not a latch; only
 * pgraft_storage_execute_many(), pgraft_snapshot_finish() and libc.  It talks to
 * the loop through two rings under a mutex and an eventfd.  Work is executed in
 * the order of submission; jobs that queue up while one flush runs share the
 * next one (group commit).
 *
 * After a failure that is final nothing more is written: each later item comes
 * back with the same error, and the loop stops the member.  A full disk is not
 * final: the same job is tried again every second.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "pgraft/worker.h"

#define RING_SIZE 4096			/* items between loop and thread, a power of two */
#define GROUP_SIZE 64			/* jobs per fdatasync */
#define IDLE_MS 200				/* quiet time after which segments are prepared */

typedef struct FlushItem
{
	PgraftJob  *job;
	PgraftSnapshotWriter *snapshot;
	PgraftErrorCode code;
} FlushItem;

struct PgraftFlush
{
	PgraftStorage *storage;
	pthread_t	thread;
	pthread_mutex_t mutex;
	pthread_cond_t work;
	int			event_fd;
	bool		stop;
	bool		no_space;
	bool		prepared;		/* thread only: spare segments are ready */
	PgraftError failure;		/* of the first final failure */
	PgraftError snapshot_failure;	/* of the last snapshot that failed */
	unsigned	submitted;		/* ring positions, free running */
	unsigned	taken;
	unsigned	finished;
	unsigned	reaped;
	FlushItem	ring[RING_SIZE];
};

static void *flush_main(void *arg);
static void wait_for_work(PgraftFlush *flush);
static int	take_group(PgraftFlush *flush, FlushItem **group);
static void execute_group(PgraftFlush *flush, FlushItem **group, int n);
static void execute_jobs(PgraftFlush *flush, FlushItem **group, int n);
static void wait_for_space(PgraftFlush *flush);
static void submit(PgraftFlush *flush, PgraftJob *job, PgraftSnapshotWriter *snapshot);

PgraftFlush *
pgraft_flush_start(PgraftStorage *storage, PgraftError *error)
{
	PgraftFlush *flush = calloc(1, sizeof(PgraftFlush));
	pthread_condattr_t attributes;
	sigset_t	all;
	sigset_t	before;
	int			result;

	if (flush == NULL)
	{
		pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
		return NULL;
	}
	flush->storage = storage;
	flush->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (flush->event_fd < 0)
	{
		pgraft_error(error, PGRAFT_ERR_IO, "could not create event descriptor: %s",
					 strerror(errno));
		free(flush);
		return NULL;
	}
	pthread_mutex_init(&flush->mutex, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&flush->work, &attributes);
	pthread_condattr_destroy(&attributes);

	/* the thread inherits this mask; PostgreSQL's handlers must never run there */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&flush->thread, NULL, flush_main, flush);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result != 0)
	{
		pgraft_error(error, PGRAFT_ERR_IO, "could not create flush thread: %s",
					 strerror(result));
		close(flush->event_fd);
		free(flush);
		return NULL;
	}
	return flush;
}

void
pgraft_flush_stop(PgraftFlush *flush)
{
	unsigned	i;

	pthread_mutex_lock(&flush->mutex);
	flush->stop = true;
	pthread_cond_signal(&flush->work);
	pthread_mutex_unlock(&flush->mutex);
	pthread_join(flush->thread, NULL);

	for (i = flush->reaped; i != flush->submitted; i++)
	{
		FlushItem  *item = &flush->ring[i % RING_SIZE];

		if (item->job != NULL)
			pgraft_job_discard(item->job);
		if (item->snapshot != NULL)
			pgraft_snapshot_abort(item->snapshot);
	}
	pthread_cond_destroy(&flush->work);
	pthread_mutex_destroy(&flush->mutex);
	close(flush->event_fd);
	free(flush);
}

int
pgraft_flush_fd(const PgraftFlush *flush)
{
	return flush->event_fd;
}

void
pgraft_flush_submit(PgraftFlush *flush, PgraftJob *job)
{
	submit(flush, job, NULL);
}

void
pgraft_flush_submit_snapshot(PgraftFlush *flush, PgraftSnapshotWriter *writer)
{
	submit(flush, NULL, writer);
}

static void
submit(PgraftFlush *flush, PgraftJob *job, PgraftSnapshotWriter *snapshot)
{
	FlushItem  *item;

	pthread_mutex_lock(&flush->mutex);

	/*
	 * The engine's bound on uncommitted bytes ends the supply long before the
	 * ring is full; if it ever were, waiting is the only correct answer.
	 */
	while (flush->submitted - flush->reaped >= RING_SIZE - 1 &&
		   flush->submitted != flush->finished)
	{
		pthread_mutex_unlock(&flush->mutex);
		usleep(1000);
		pthread_mutex_lock(&flush->mutex);
	}
	item = &flush->ring[flush->submitted % RING_SIZE];
	item->job = job;
	item->snapshot = snapshot;
	item->code = PGRAFT_OK;
	flush->submitted++;
	pthread_cond_signal(&flush->work);
	pthread_mutex_unlock(&flush->mutex);
}

bool
pgraft_flush_reap(PgraftFlush *flush, PgraftFlushDone *done, PgraftError *error)
{
	bool		found = false;

	pthread_mutex_lock(&flush->mutex);
	if (flush->reaped != flush->finished)
	{
		FlushItem  *item = &flush->ring[flush->reaped % RING_SIZE];

		done->job = item->job;
		done->snapshot = item->snapshot;
		done->code = item->code;
		if (item->code != PGRAFT_OK)
			*error = item->snapshot != NULL && flush->failure.code == PGRAFT_OK ?
				flush->snapshot_failure : flush->failure;
		flush->reaped++;
		found = true;
	}
	else
	{
		uint64		ignored;

		/* nothing left: quiet the descriptor */
		if (read(flush->event_fd, &ignored, sizeof(ignored)) < 0)
			found = false;
	}
	pthread_mutex_unlock(&flush->mutex);
	return found;
}

bool
pgraft_flush_no_space(PgraftFlush *flush)
{
	bool		result;

	pthread_mutex_lock(&flush->mutex);
	result = flush->no_space;
	pthread_mutex_unlock(&flush->mutex);
	return result;
}

/* ----------------------------------------------------------------
 * The thread
 * ----------------------------------------------------------------
 */

static void *
flush_main(void *arg)
{
	PgraftFlush *flush = arg;
	FlushItem  *group[GROUP_SIZE];
	int			n;

	while ((n = take_group(flush, group)) > 0)
	{
		uint64		one = 1;

		execute_group(flush, group, n);
		flush->prepared = false;
		pthread_mutex_lock(&flush->mutex);
		flush->finished += n;
		pthread_mutex_unlock(&flush->mutex);
		if (write(flush->event_fd, &one, sizeof(one)) < 0)
			continue;			/* the counter is full: it is readable anyway */
	}
	return NULL;
}

/*
 * Called with the mutex held and nothing to do.  After some quiet the next
 * segments are made ready, so that no job has to wait for that; not at once,
 * because then the next job of a single writer would.
 */
static void
wait_for_work(PgraftFlush *flush)
{
	struct timespec until;
	PgraftError error;

	if (flush->prepared || flush->failure.code != PGRAFT_OK)
	{
		pthread_cond_wait(&flush->work, &flush->mutex);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += IDLE_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	if (pthread_cond_timedwait(&flush->work, &flush->mutex, &until) != ETIMEDOUT)
		return;
	flush->prepared = true;
	memset(&error, 0, sizeof(error));
	pthread_mutex_unlock(&flush->mutex);
	(void) pgraft_storage_make_ready(flush->storage, &error);
	pthread_mutex_lock(&flush->mutex);

	/* the job that comes next learns of it */
	if (error.code != PGRAFT_OK && error.code != PGRAFT_ERR_NO_SPACE)
		flush->failure = error;
}

/* A run of jobs, or one snapshot.  0 = stop. */
static int
take_group(PgraftFlush *flush, FlushItem **group)
{
	int			n = 0;

	pthread_mutex_lock(&flush->mutex);
	while (flush->taken == flush->submitted && !flush->stop)
		wait_for_work(flush);
	while (!flush->stop && n < GROUP_SIZE && flush->taken != flush->submitted)
	{
		FlushItem  *item = &flush->ring[flush->taken % RING_SIZE];

		if (n > 0 && item->snapshot != NULL)
			break;
		group[n++] = item;
		flush->taken++;
		if (item->snapshot != NULL)
			break;
	}
	pthread_mutex_unlock(&flush->mutex);
	return n;
}

static void
execute_group(PgraftFlush *flush, FlushItem **group, int n)
{
	int			i;

	if (flush->failure.code != PGRAFT_OK)
	{
		for (i = 0; i < n; i++)
			group[i]->code = flush->failure.code;
		return;
	}
	if (group[0]->snapshot != NULL)
	{
		PgraftError error;

		/* a snapshot that fails costs nothing: the log still has everything */
		memset(&error, 0, sizeof(error));
		group[0]->code = pgraft_snapshot_finish(group[0]->snapshot, &error);
		pthread_mutex_lock(&flush->mutex);
		flush->snapshot_failure = error;
		pthread_mutex_unlock(&flush->mutex);
		return;
	}
	execute_jobs(flush, group, n);
}

static void
execute_jobs(PgraftFlush *flush, FlushItem **group, int n)
{
	PgraftJob  *jobs[GROUP_SIZE];
	PgraftErrorCode code;
	PgraftError error;
	int			i;

	for (i = 0; i < n; i++)
		jobs[i] = group[i]->job;
	for (;;)
	{
		memset(&error, 0, sizeof(error));
		code = pgraft_storage_execute_many(flush->storage, jobs, n, &error);
		if (code != PGRAFT_ERR_NO_SPACE)
			break;
		wait_for_space(flush);
		if (flush->stop)
			break;
	}
	pthread_mutex_lock(&flush->mutex);
	flush->no_space = false;
	if (code != PGRAFT_OK)
		flush->failure = error;
	pthread_mutex_unlock(&flush->mutex);
	for (i = 0; i < n; i++)
		group[i]->code = code;
}

static void
wait_for_space(PgraftFlush *flush)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 1;
	pthread_mutex_lock(&flush->mutex);
	flush->no_space = true;
	while (!flush->stop &&
		   pthread_cond_timedwait(&flush->work, &flush->mutex, &until) == 0)
		;
	pthread_mutex_unlock(&flush->mutex);
}
