/*-------------------------------------------------------------------------
 *
 * flush.c
 *	  The flush thread: the only place that waits for the disk, so that the
 *	  event loop goes on sending heartbeats while a disk stalls.
 *
 * Rules of this room: the thread runs with all signals blocked and calls
 * nothing of PostgreSQL, not palloc, not ereport, not a latch; only
 * pgraft_storage_execute_many() and libc.  It shares two lists with the loop,
 * under a mutex that nobody holds during I/O, and an eventfd.  Work is executed
 * in the order of submission; jobs that queue up while one flush runs share the
 * next one (group commit).
 *
 * Snapshots of our own are written by a thread beside this one (saver.c), which
 * keeps the same rules: no batch waits for a snapshot, and a slow snapshot is
 * no silent disk.
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

#include <sys/eventfd.h>
#include <unistd.h>

#include "threads.h"

#define GROUP_SIZE 64			/* jobs per fdatasync */
#define IDLE_MS 200				/* quiet time after which segments are prepared */
#define SPACE_RETRY_MS 1000

/* so much serialised data waits for the disk; the loop makes no more then */
#define SNAPSHOT_BACKLOG_BYTES (4 * 1024 * 1024)

typedef struct FlushItem
{
	struct FlushItem *next;
	PgraftJob  *job;
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
	PgraftSaver *saver;
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
static void list_add(FlushList *list, FlushItem *item);
static FlushItem *list_take(FlushList *list);
static void drop_items(FlushList *list);

PgraftFlush *
pgraft_flush_start(PgraftStorage *storage, PgraftError *error)
{
	PgraftFlush *flush = calloc(1, sizeof(PgraftFlush));
	struct timespec at_once;
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
	flush->saver = pgraft_saver_start(flush->event_fd, error);
	if (flush->saver == NULL)
	{
		tear_down(flush);
		return NULL;
	}
	result = pgraft_thread_start(&flush->thread, flush_main, flush);
	if (result != 0)
	{
		pgraft_error(error, PGRAFT_ERR_IO, "could not create flush thread: %s",
					 strerror(result));
		pgraft_deadline_after(&at_once, 1000);
		pgraft_saver_ask_to_stop(flush->saver);
		if (pgraft_saver_stop(flush->saver, &at_once))
			tear_down(flush);
		return NULL;
	}
	return flush;
}

static bool
set_up_locks(PgraftFlush *flush)
{
	return pthread_mutex_init(&flush->mutex, NULL) == 0 &&
		pgraft_condition_init(&flush->work) && pgraft_condition_init(&flush->ended);
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

	pgraft_deadline_after(&until, patience_ms);
	pgraft_saver_ask_to_stop(flush->saver);
	pthread_mutex_lock(&flush->mutex);
	flush->stop = true;
	pthread_cond_signal(&flush->work);
	while (!flush->has_ended &&
		   pthread_cond_timedwait(&flush->ended, &flush->mutex, &until) == 0)
		;
	has_ended = flush->has_ended;
	pthread_mutex_unlock(&flush->mutex);

	/* what does not end now may wake up at any time, and ends by itself then */
	if (has_ended)
		pthread_join(flush->thread, NULL);
	else
		pthread_detach(flush->thread);
	if (!pgraft_saver_stop(flush->saver, &until) || !has_ended)
		return false;
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
	FlushItem  *item = calloc(1, sizeof(FlushItem));

	if (item == NULL)
		return false;
	item->job = job;
	item->code = PGRAFT_OK;
	clock_gettime(CLOCK_MONOTONIC, &item->submitted);
	pthread_mutex_lock(&flush->mutex);
	list_add(&flush->waiting, item);
	flush->unfinished++;
	pthread_cond_signal(&flush->work);
	pthread_mutex_unlock(&flush->mutex);
	return true;
}

void
pgraft_flush_snapshot_data(PgraftFlush *flush, PgraftSnapshotWriter *writer,
						   const void *data, size_t length)
{
	pgraft_saver_data(flush->saver, writer, data, length);
}

void
pgraft_flush_submit_snapshot(PgraftFlush *flush, PgraftSnapshotWriter *writer)
{
	pgraft_saver_end(flush->saver, writer, false);
}

void
pgraft_flush_cancel_snapshot(PgraftFlush *flush, PgraftSnapshotWriter *writer)
{
	pgraft_saver_end(flush->saver, writer, true);
}

bool
pgraft_flush_wants_snapshot_data(PgraftFlush *flush)
{
	return pgraft_saver_backlog(flush->saver) < SNAPSHOT_BACKLOG_BYTES;
}

bool
pgraft_flush_reap(PgraftFlush *flush, PgraftFlushDone *done, PgraftError *error)
{
	FlushItem  *item;
	uint64		ignored;

	pthread_mutex_lock(&flush->mutex);
	item = list_take(&flush->done);
	if (item != NULL)
	{
		memset(done, 0, sizeof(*done));
		done->job = item->job;
		done->code = item->code;
		if (item->code != PGRAFT_OK)
			*error = flush->failure;
		pthread_mutex_unlock(&flush->mutex);
		free(item);
		return true;
	}

	/*
	 * Quiet the descriptor; it fails when that is done already.  The snapshot
	 * comes after that: whatever it rings for later is news.
	 */
	if (read(flush->event_fd, &ignored, sizeof(ignored)) < 0)
		ignored = 0;
	pthread_mutex_unlock(&flush->mutex);
	return pgraft_saver_reap(flush->saver, done, error);
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
		ms = Min(pgraft_ms_between(&oldest->submitted, &now),
				 pgraft_ms_between(&flush->progress, &now));
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
	pgraft_deadline_after(&until, IDLE_MS);
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

/* A run of jobs.  False = stop. */
static bool
take_group(PgraftFlush *flush)
{
	pthread_mutex_lock(&flush->mutex);
	while (flush->waiting.first == NULL && !flush->stop)
		wait_for_work(flush);
	while (!flush->stop && flush->n_group < GROUP_SIZE && flush->waiting.first != NULL)
		flush->group[flush->n_group++] = list_take(&flush->waiting);
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
	pgraft_ring(flush->event_fd);
}

static void
execute_group(PgraftFlush *flush)
{
	int			i;

	/* only this thread sets it */
	if (flush->failure.code == PGRAFT_OK)
	{
		execute_jobs(flush);
		return;
	}
	for (i = 0; i < flush->n_group; i++)
		flush->group[i]->code = flush->failure.code;
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

	pgraft_deadline_after(&until, SPACE_RETRY_MS);
	pthread_mutex_lock(&flush->mutex);
	news = !flush->no_space;
	flush->no_space = true;
	if (news)
		pgraft_ring(flush->event_fd);
	while (!flush->stop &&
		   pthread_cond_timedwait(&flush->work, &flush->mutex, &until) == 0)
		;
	go_on = !flush->stop;
	pthread_mutex_unlock(&flush->mutex);
	return go_on;
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
		pgraft_job_discard(item->job);
		free(item);
	}
}
