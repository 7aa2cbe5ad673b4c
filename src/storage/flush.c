/*-------------------------------------------------------------------------
 *
 * flush.c
 *	  The flush thread: the only place that waits for the disk, so that the
 *	  event loop goes on sending heartbeats while a disk stalls.
 *
 * Rules of this room: the thread runs with all signals blocked and calls
 * nothing of PostgreSQL, not palloc, not ereport, not a latch; only
 * pgraft_storage_execute_many(), pgraft_snapshot_finish() and libc.  It shares
 * two lists with the loop, under a mutex that nobody holds during I/O, and an
 * eventfd.  Work is executed in the order of submission; jobs that queue up
 * while one flush runs share the next one (group commit).
 *
 * The loop never waits here: the list of waiting work has no end.  It stays
 * short because the loop's proposals stop at PGRAFT_FLUSH_LIMIT and the peers'
 * windows bound the rest.
 *
 * After a failure that is final nothing more is written: each later item comes
 * back with the same error, and the loop stops the member.  A full disk is not
 * final: the same job is tried again every second.
 *
 * What survives a crash: jobs that were handed back with PGRAFT_OK; of the
 * others any prefix, about which nobody was told.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/flush.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "pgraft/flush.h"

#define GROUP_SIZE 64			/* jobs per fdatasync */
#define IDLE_MS 200				/* quiet time after which segments are prepared */
#define SPACE_RETRY_MS 1000

typedef struct FlushItem
{
	struct FlushItem *next;
	PgraftJob  *job;			/* one of the two */
	PgraftSnapshotWriter *snapshot;
	PgraftErrorCode code;
	struct timespec submitted;
} FlushItem;

typedef struct FlushList
{
	FlushItem  *first;
	FlushItem  *last;
} FlushList;

struct PgraftFlush
{
	PgraftStorage *storage;
	pthread_t	thread;
	pthread_mutex_t mutex;
	pthread_cond_t work;		/* to the thread: work, or stop */
	pthread_cond_t ended;		/* to the loop */
	int			event_fd;
	bool		prepared;		/* thread only: spare segments are ready */

	/* under the mutex */
	bool		stop;
	bool		has_ended;
	bool		no_space;
	PgraftError failure;		/* of the first final failure */
	PgraftError snapshot_failure;	/* of the last snapshot that failed */
	unsigned	unfinished;		/* items in waiting and group */
	struct timespec progress;	/* when the last group was finished */
	FlushList	waiting;
	FlushItem  *group[GROUP_SIZE];	/* what the thread works on */
	int			n_group;
	FlushList	done;
};

static bool set_up_locks(PgraftFlush *flush);
static void tear_down(PgraftFlush *flush);
static void *flush_main(void *arg);
static void wait_for_work(PgraftFlush *flush);
static bool take_group(PgraftFlush *flush);
static void finish_group(PgraftFlush *flush);
static void execute_group(PgraftFlush *flush);
static void execute_jobs(PgraftFlush *flush);
static bool wait_for_space(PgraftFlush *flush);
static void ring(PgraftFlush *flush);
static bool submit(PgraftFlush *flush, PgraftJob *job, PgraftSnapshotWriter *snapshot);
static void list_add(FlushList *list, FlushItem *item);
static FlushItem *list_take(FlushList *list);
static void drop_items(FlushList *list);
static long ms_between(const struct timespec *from, const struct timespec *until);
static void deadline_after(struct timespec *until, int ms);

PgraftFlush *
pgraft_flush_start(PgraftStorage *storage, PgraftError *error)
{
	PgraftFlush *flush = calloc(1, sizeof(PgraftFlush));
	sigset_t	all;
	sigset_t	before;
	int			result;

	if (flush == NULL || !set_up_locks(flush))
	{
		free(flush);
		pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
		return NULL;
	}
	flush->storage = storage;
	flush->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (flush->event_fd < 0)
	{
		pgraft_error(error, PGRAFT_ERR_IO, "could not create event descriptor: %s",
					 strerror(errno));
		tear_down(flush);
		return NULL;
	}

	/* the thread inherits this mask; PostgreSQL's handlers must never run there */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&flush->thread, NULL, flush_main, flush);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result != 0)
	{
		pgraft_error(error, PGRAFT_ERR_IO, "could not create flush thread: %s",
					 strerror(result));
		tear_down(flush);
		return NULL;
	}
	return flush;
}

static bool
set_up_locks(PgraftFlush *flush)
{
	pthread_condattr_t attributes;
	bool		done;

	if (pthread_mutex_init(&flush->mutex, NULL) != 0)
		return false;
	if (pthread_condattr_init(&attributes) != 0)
		return false;
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	done = pthread_cond_init(&flush->work, &attributes) == 0 &&
		pthread_cond_init(&flush->ended, &attributes) == 0;
	pthread_condattr_destroy(&attributes);
	return done;
}

/* The thread has ended, or never was. */
static void
tear_down(PgraftFlush *flush)
{
	int			i;

	for (i = 0; i < flush->n_group; i++)
		list_add(&flush->done, flush->group[i]);
	drop_items(&flush->done);
	drop_items(&flush->waiting);
	pthread_cond_destroy(&flush->ended);
	pthread_cond_destroy(&flush->work);
	pthread_mutex_destroy(&flush->mutex);
	if (flush->event_fd >= 0)
		close(flush->event_fd);
	free(flush);
}

bool
pgraft_flush_stop(PgraftFlush *flush, int patience_ms)
{
	struct timespec until;
	bool		has_ended;

	deadline_after(&until, patience_ms);
	pthread_mutex_lock(&flush->mutex);
	flush->stop = true;
	pthread_cond_signal(&flush->work);
	while (!flush->has_ended &&
		   pthread_cond_timedwait(&flush->ended, &flush->mutex, &until) == 0)
		;
	has_ended = flush->has_ended;
	pthread_mutex_unlock(&flush->mutex);
	if (!has_ended)
	{
		/* it may wake up at any time, and ends by itself then */
		pthread_detach(flush->thread);
		return false;
	}
	pthread_join(flush->thread, NULL);
	tear_down(flush);
	return true;
}

int
pgraft_flush_fd(const PgraftFlush *flush)
{
	return flush->event_fd;
}

bool
pgraft_flush_submit(PgraftFlush *flush, PgraftJob *job)
{
	return submit(flush, job, NULL);
}

bool
pgraft_flush_submit_snapshot(PgraftFlush *flush, PgraftSnapshotWriter *writer)
{
	return submit(flush, NULL, writer);
}

static bool
submit(PgraftFlush *flush, PgraftJob *job, PgraftSnapshotWriter *snapshot)
{
	FlushItem  *item = calloc(1, sizeof(FlushItem));

	if (item == NULL)
		return false;
	item->job = job;
	item->snapshot = snapshot;
	item->code = PGRAFT_OK;
	clock_gettime(CLOCK_MONOTONIC, &item->submitted);
	pthread_mutex_lock(&flush->mutex);
	list_add(&flush->waiting, item);
	flush->unfinished++;
	pthread_cond_signal(&flush->work);
	pthread_mutex_unlock(&flush->mutex);
	return true;
}

bool
pgraft_flush_reap(PgraftFlush *flush, PgraftFlushDone *done, PgraftError *error)
{
	FlushItem  *item;

	pthread_mutex_lock(&flush->mutex);
	item = list_take(&flush->done);
	if (item == NULL)
	{
		uint64		ignored;

		/* nothing left: quiet the descriptor; it fails when that is done already */
		if (read(flush->event_fd, &ignored, sizeof(ignored)) < 0)
			ignored = 0;
		pthread_mutex_unlock(&flush->mutex);
		return false;
	}
	done->job = item->job;
	done->snapshot = item->snapshot;
	done->code = item->code;
	if (item->code != PGRAFT_OK)
		*error = item->snapshot != NULL && flush->failure.code == PGRAFT_OK ?
			flush->snapshot_failure : flush->failure;
	pthread_mutex_unlock(&flush->mutex);
	free(item);
	return true;
}

bool
pgraft_flush_full(PgraftFlush *flush)
{
	bool		result;

	pthread_mutex_lock(&flush->mutex);
	result = flush->unfinished >= PGRAFT_FLUSH_LIMIT;
	pthread_mutex_unlock(&flush->mutex);
	return result;
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

unsigned long
pgraft_flush_waiting_ms(PgraftFlush *flush)
{
	const FlushItem *oldest;
	struct timespec now;
	long		ms = 0;

	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&flush->mutex);
	oldest = flush->n_group > 0 ? flush->group[0] : flush->waiting.first;
	if (oldest != NULL)
		ms = Min(ms_between(&oldest->submitted, &now), ms_between(&flush->progress, &now));
	pthread_mutex_unlock(&flush->mutex);
	return ms > 0 ? (unsigned long) ms : 0;
}

/* ----------------------------------------------------------------
 * The thread
 * ----------------------------------------------------------------
 */

static void *
flush_main(void *arg)
{
	PgraftFlush *flush = arg;

	while (take_group(flush))
	{
		execute_group(flush);
		flush->prepared = false;
		finish_group(flush);
	}
	(void) pgraft_storage_settle(flush->storage, NULL);
	pthread_mutex_lock(&flush->mutex);
	flush->has_ended = true;
	pthread_cond_signal(&flush->ended);
	pthread_mutex_unlock(&flush->mutex);
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
	deadline_after(&until, IDLE_MS);
	if (pthread_cond_timedwait(&flush->work, &flush->mutex, &until) != ETIMEDOUT)
		return;
	flush->prepared = true;
	memset(&error, 0, sizeof(error));
	pthread_mutex_unlock(&flush->mutex);
	(void) pgraft_storage_make_ready(flush->storage, &error);
	pthread_mutex_lock(&flush->mutex);

	/* the job that comes next learns of it; a shortage may be over by then */
	if (error.code != PGRAFT_OK && error.code != PGRAFT_ERR_NO_SPACE &&
		error.code != PGRAFT_ERR_NOMEM)
		flush->failure = error;
}

/* A run of jobs, or one snapshot.  False = stop. */
static bool
take_group(PgraftFlush *flush)
{
	pthread_mutex_lock(&flush->mutex);
	while (flush->waiting.first == NULL && !flush->stop)
		wait_for_work(flush);
	while (!flush->stop && flush->n_group < GROUP_SIZE && flush->waiting.first != NULL)
	{
		bool		alone = flush->waiting.first->snapshot != NULL;

		if (alone && flush->n_group > 0)
			break;
		flush->group[flush->n_group++] = list_take(&flush->waiting);
		if (alone)
			break;
	}
	pthread_mutex_unlock(&flush->mutex);
	return flush->n_group > 0;
}

static void
finish_group(PgraftFlush *flush)
{
	int			i;

	pthread_mutex_lock(&flush->mutex);
	for (i = 0; i < flush->n_group; i++)
		list_add(&flush->done, flush->group[i]);
	flush->unfinished -= (unsigned) flush->n_group;
	flush->n_group = 0;
	clock_gettime(CLOCK_MONOTONIC, &flush->progress);
	pthread_mutex_unlock(&flush->mutex);
	ring(flush);
}

static void
execute_group(PgraftFlush *flush)
{
	PgraftError error;
	int			i;

	/* only this thread sets it */
	if (flush->failure.code != PGRAFT_OK)
	{
		for (i = 0; i < flush->n_group; i++)
			flush->group[i]->code = flush->failure.code;
		return;
	}
	if (flush->group[0]->snapshot == NULL)
	{
		execute_jobs(flush);
		return;
	}

	/* a snapshot that fails costs nothing: the log still has everything */
	memset(&error, 0, sizeof(error));
	flush->group[0]->code = pgraft_snapshot_finish(flush->group[0]->snapshot, &error);
	pthread_mutex_lock(&flush->mutex);
	flush->snapshot_failure = error;
	pthread_mutex_unlock(&flush->mutex);
}

static void
execute_jobs(PgraftFlush *flush)
{
	PgraftJob  *jobs[GROUP_SIZE];
	PgraftErrorCode code;
	PgraftError error;
	int			i;

	for (i = 0; i < flush->n_group; i++)
		jobs[i] = flush->group[i]->job;
	do
	{
		memset(&error, 0, sizeof(error));
		code = pgraft_storage_execute_many(flush->storage, jobs, flush->n_group, &error);
	} while (code == PGRAFT_ERR_NO_SPACE && wait_for_space(flush));

	pthread_mutex_lock(&flush->mutex);
	flush->no_space = false;
	if (code != PGRAFT_OK)
		flush->failure = error;
	pthread_mutex_unlock(&flush->mutex);
	for (i = 0; i < flush->n_group; i++)
		flush->group[i]->code = code;
}

/* False when there is no time left for another attempt. */
static bool
wait_for_space(PgraftFlush *flush)
{
	struct timespec until;
	bool		news;
	bool		go_on;

	deadline_after(&until, SPACE_RETRY_MS);
	pthread_mutex_lock(&flush->mutex);
	news = !flush->no_space;
	flush->no_space = true;
	if (news)
		ring(flush);
	while (!flush->stop &&
		   pthread_cond_timedwait(&flush->work, &flush->mutex, &until) == 0)
		;
	go_on = !flush->stop;
	pthread_mutex_unlock(&flush->mutex);
	return go_on;
}

/* Wakes the loop. */
static void
ring(PgraftFlush *flush)
{
	uint64		one = 1;

	/* fails when the counter is full; then it is readable anyway */
	if (write(flush->event_fd, &one, sizeof(one)) < 0)
		return;
}

/* ----------------------------------------------------------------
 * Small things
 * ----------------------------------------------------------------
 */

static void
list_add(FlushList *list, FlushItem *item)
{
	item->next = NULL;
	if (list->last != NULL)
		list->last->next = item;
	else
		list->first = item;
	list->last = item;
}

static FlushItem *
list_take(FlushList *list)
{
	FlushItem  *item = list->first;

	if (item == NULL)
		return NULL;
	list->first = item->next;
	if (list->first == NULL)
		list->last = NULL;
	item->next = NULL;
	return item;
}

static void
drop_items(FlushList *list)
{
	FlushItem  *item;

	while ((item = list_take(list)) != NULL)
	{
		if (item->job != NULL)
			pgraft_job_discard(item->job);
		if (item->snapshot != NULL)
			pgraft_snapshot_abort(item->snapshot);
		free(item);
	}
}

static long
ms_between(const struct timespec *from, const struct timespec *until)
{
	return (until->tv_sec - from->tv_sec) * 1000 + (until->tv_nsec - from->tv_nsec) / 1000000;
}

static void
deadline_after(struct timespec *until, int ms)
{
	clock_gettime(CLOCK_MONOTONIC, until);
	until->tv_sec += ms / 1000;
	until->tv_nsec += ms % 1000 * 1000000L;
	if (until->tv_nsec >= 1000000000L)
	{
		until->tv_sec++;
		until->tv_nsec -= 1000000000L;
	}
}
