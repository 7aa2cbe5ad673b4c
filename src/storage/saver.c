/*-------------------------------------------------------------------------
 *
 * saver.c
 *	  The thread that writes snapshots of our own, apart from the flush thread:
 *	  a snapshot may take the disk many election timeouts, and no log batch may
 *	  wait behind it.
 *
 * The loop hands over data piece by piece as it serialises the store, then the
 * end; the thread writes, flushes, renames, and hands the snapshot back.  A
 * file that is new and that nobody relies on yet is all that it touches, so
 * there is no order between its work and the batches: only when the loop has
 * it back does it record the snapshot in the log, by an ordinary batch
 * (pgraft_snapshot_publish() and after).
 *
 * What has been written is flushed each FLUSH_BYTES, because file systems with
 * one journal make the flush of the log wait for other data that has piled up.
 *
 * A failure ends this snapshot and nothing else; a flush that failed is not
 * repeated.  A full disk is such a failure, too: the snapshot is a thing to do
 * again later, from the beginning.
 *
 * What survives a crash: a snapshot that came back with PGRAFT_OK.  Anything
 * else is a temporary file, or one that no record names; both are removed by
 * the next open.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/saver.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "threads.h"

#define FLUSH_BYTES (8 * 1024 * 1024)

typedef struct SaverPiece
{
	struct SaverPiece *next;
	size_t		length;
	unsigned char data[FLEXIBLE_ARRAY_MEMBER];
} SaverPiece;

typedef enum SaverEnd
{
	SAVER_OPEN,					/* more data may come */
	SAVER_FINISH,
	SAVER_CANCEL
} SaverEnd;

struct PgraftSaver
{
	pthread_t	thread;
	int			event_fd;
	size_t		unflushed;		/* thread only: bytes written since the last flush */
	pthread_mutex_t mutex;
	pthread_cond_t work;		/* to the thread: work, or stop */
	pthread_cond_t ended;		/* to the loop */

	/* under the mutex */
	bool		stop;
	bool		has_ended;
	PgraftSnapshotWriter *writer;	/* the snapshot under way; NULL = none */
	SaverEnd	end;
	bool		done;			/* to be handed back */
	PgraftError error;			/* the first one of this snapshot */
	SaverPiece *first;
	SaverPiece *last;
	size_t		backlog;		/* bytes handed over and not written */
};

static void *saver_main(void *arg);
static bool wait_for_work(PgraftSaver *saver);
static void work(PgraftSaver *saver);
static void write_piece(PgraftSaver *saver, PgraftSnapshotWriter *writer, SaverPiece *piece,
						PgraftError *error);
static void drop_pieces(PgraftSaver *saver);
static void tear_down(PgraftSaver *saver);

PgraftSaver *
pgraft_saver_start(int event_fd, PgraftError *error)
{
	PgraftSaver *saver = calloc(1, sizeof(PgraftSaver));
	int			result;

	if (saver == NULL || pthread_mutex_init(&saver->mutex, NULL) != 0 ||
		!pgraft_condition_init(&saver->work) || !pgraft_condition_init(&saver->ended))
	{
		free(saver);
		pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
		return NULL;
	}
	saver->event_fd = event_fd;
	result = pgraft_thread_start(&saver->thread, saver_main, saver);
	if (result != 0)
	{
		tear_down(saver);
		pgraft_error(error, PGRAFT_ERR_IO, "could not create snapshot thread: %s",
					 strerror(result));
		return NULL;
	}
	return saver;
}

void
pgraft_saver_ask_to_stop(PgraftSaver *saver)
{
	pthread_mutex_lock(&saver->mutex);
	saver->stop = true;
	pthread_cond_signal(&saver->work);
	pthread_mutex_unlock(&saver->mutex);
}

bool
pgraft_saver_stop(PgraftSaver *saver, const struct timespec *until)
{
	bool		has_ended;

	pthread_mutex_lock(&saver->mutex);
	while (!saver->has_ended &&
		   pthread_cond_timedwait(&saver->ended, &saver->mutex, until) == 0)
		;
	has_ended = saver->has_ended;
	pthread_mutex_unlock(&saver->mutex);
	if (!has_ended)
	{
		pthread_detach(saver->thread);
		return false;
	}
	pthread_join(saver->thread, NULL);
	if (saver->writer != NULL)
		pgraft_snapshot_abort(saver->writer);
	tear_down(saver);
	return true;
}

/* The thread has ended, or never was. */
static void
tear_down(PgraftSaver *saver)
{
	drop_pieces(saver);
	pthread_cond_destroy(&saver->ended);
	pthread_cond_destroy(&saver->work);
	pthread_mutex_destroy(&saver->mutex);
	free(saver);
}

void
pgraft_saver_data(PgraftSaver *saver, PgraftSnapshotWriter *writer,
				  const void *data, size_t length)
{
	SaverPiece *piece = malloc(offsetof(SaverPiece, data) + length);

	if (piece != NULL)
	{
		piece->next = NULL;
		piece->length = length;
		memcpy(piece->data, data, length);
	}
	pthread_mutex_lock(&saver->mutex);
	Assert(saver->writer == NULL || saver->writer == writer);
	saver->writer = writer;
	if (piece == NULL)
	{
		if (saver->error.code == PGRAFT_OK)
			pgraft_error(&saver->error, PGRAFT_ERR_NOMEM, "out of memory");
	}
	else
	{
		if (saver->last != NULL)
			saver->last->next = piece;
		else
			saver->first = piece;
		saver->last = piece;
		saver->backlog += length;
		pthread_cond_signal(&saver->work);
	}
	pthread_mutex_unlock(&saver->mutex);
}

void
pgraft_saver_end(PgraftSaver *saver, PgraftSnapshotWriter *writer, bool cancel)
{
	pthread_mutex_lock(&saver->mutex);
	Assert(saver->writer == NULL || saver->writer == writer);
	saver->writer = writer;
	saver->end = cancel ? SAVER_CANCEL : SAVER_FINISH;
	pthread_cond_signal(&saver->work);
	pthread_mutex_unlock(&saver->mutex);
}

size_t
pgraft_saver_backlog(PgraftSaver *saver)
{
	size_t		result;

	pthread_mutex_lock(&saver->mutex);
	result = saver->backlog;
	pthread_mutex_unlock(&saver->mutex);
	return result;
}

bool
pgraft_saver_reap(PgraftSaver *saver, PgraftFlushDone *done, PgraftError *error)
{
	bool		result;

	pthread_mutex_lock(&saver->mutex);
	result = saver->done;
	if (result)
	{
		memset(done, 0, sizeof(*done));
		done->snapshot = saver->writer;
		done->code = saver->error.code;
		if (done->code != PGRAFT_OK)
			*error = saver->error;
		saver->writer = NULL;
		saver->end = SAVER_OPEN;
		saver->done = false;
		memset(&saver->error, 0, sizeof(saver->error));
	}
	pthread_mutex_unlock(&saver->mutex);
	return result;
}

/* ----------------------------------------------------------------
 * The thread
 * ----------------------------------------------------------------
 */

static void *
saver_main(void *arg)
{
	PgraftSaver *saver = arg;

	while (wait_for_work(saver))
	{
		work(saver);
		pgraft_ring(saver->event_fd);
	}
	pthread_mutex_lock(&saver->mutex);
	saver->has_ended = true;
	pthread_cond_signal(&saver->ended);
	pthread_mutex_unlock(&saver->mutex);
	return NULL;
}

/* False = stop; what is unfinished then stays so. */
static bool
wait_for_work(PgraftSaver *saver)
{
	bool		go_on;

	pthread_mutex_lock(&saver->mutex);
	while (!saver->stop && saver->first == NULL &&
		   (saver->end == SAVER_OPEN || saver->done))
		pthread_cond_wait(&saver->work, &saver->mutex);
	go_on = !saver->stop;
	pthread_mutex_unlock(&saver->mutex);
	return go_on;
}

/* One piece, or the end. */
static void
work(PgraftSaver *saver)
{
	PgraftSnapshotWriter *writer;
	SaverPiece *piece;
	PgraftError error;
	SaverEnd	end;

	pthread_mutex_lock(&saver->mutex);
	if (saver->end == SAVER_CANCEL)
	{
		drop_pieces(saver);
		if (saver->error.code == PGRAFT_OK)
			pgraft_error(&saver->error, PGRAFT_ERR_INTERNAL, "the snapshot was given up");
	}
	writer = saver->writer;
	end = saver->end;
	error = saver->error;
	piece = saver->first;
	if (piece != NULL)
	{
		saver->first = piece->next;
		if (saver->first == NULL)
			saver->last = NULL;
	}
	pthread_mutex_unlock(&saver->mutex);

	/* after a failure data is only thrown away */
	if (piece != NULL && error.code == PGRAFT_OK)
		write_piece(saver, writer, piece, &error);
	else if (piece == NULL)
	{
		if (error.code == PGRAFT_OK)
			(void) pgraft_snapshot_finish(writer, &error);
		saver->unflushed = 0;
	}

	pthread_mutex_lock(&saver->mutex);
	if (saver->error.code == PGRAFT_OK)
		saver->error = error;
	if (piece != NULL)
		saver->backlog -= piece->length;
	else
		saver->done = end != SAVER_OPEN;
	pthread_mutex_unlock(&saver->mutex);
	free(piece);
}

static void
write_piece(PgraftSaver *saver, PgraftSnapshotWriter *writer, SaverPiece *piece,
			PgraftError *error)
{
	if (pgraft_snapshot_write(writer, piece->data, piece->length, error) != PGRAFT_OK)
		return;
	saver->unflushed += piece->length;
	if (saver->unflushed < FLUSH_BYTES)
		return;
	saver->unflushed = 0;
	(void) pgraft_snapshot_flush(writer, error);
}

static void
drop_pieces(PgraftSaver *saver)
{
	SaverPiece *piece;

	while ((piece = saver->first) != NULL)
	{
		saver->first = piece->next;
		saver->backlog -= piece->length;
		free(piece);
	}
	saver->last = NULL;
}
