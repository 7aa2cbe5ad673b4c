/*-------------------------------------------------------------------------
 *
 * flush.h
 *	  The contract of the flush thread (src/storage/flush.c) and of the thread
 *	  for snapshots beside it: the only places that wait for the disk.
 *
 * Everything here is called by the owner's loop and returns at once, whatever
 * the disk does, except pgraft_flush_stop(), whose wait is bounded.  malloc/free
 * only; errors in struct PgraftError.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_FLUSH_H
#define PGRAFT_FLUSH_H

#include "pgraft/storage.h"

/* with so much unfinished pgraft_flush_full() asks for patience */
#define PGRAFT_FLUSH_LIMIT 1024

typedef struct PgraftFlush PgraftFlush;

typedef struct PgraftFlushDone
{
	PgraftJob  *job;			/* one of the two */
	PgraftSnapshotWriter *snapshot;
	PgraftErrorCode code;
} PgraftFlushDone;

/* NULL with *error set when no thread can be had. */
extern PgraftFlush *pgraft_flush_start(PgraftStorage *storage, PgraftError *error);

/*
 * Waits at most patience_ms for what is being written; unfinished jobs are
 * dropped.  False: the disk does not answer.  Then the thread is left behind
 * with everything that it uses: the storage must not be closed or freed, and
 * its directory not be used again, before this process has ended.
 */
extern bool pgraft_flush_stop(PgraftFlush *flush, int patience_ms);

/*
 * Readable when pgraft_flush_reap(), pgraft_flush_no_space() or
 * pgraft_flush_wants_snapshot_data() has news.
 */
extern int	pgraft_flush_fd(const PgraftFlush *flush);

/* False when there is no memory: then the job is still the caller's. */
extern bool pgraft_flush_submit(PgraftFlush *flush, PgraftJob *job);
extern bool pgraft_flush_reap(PgraftFlush *flush, PgraftFlushDone *done, PgraftError *error);

/*
 * A snapshot of our own, one at a time: data as it is serialised (copied), then
 * the end.  Whatever goes wrong is told when the snapshot is handed back by
 * pgraft_flush_reap(), after submit as after cancel; from the first of these
 * calls until then the writer belongs to a thread, which is not the one that
 * writes the log.
 */
extern void pgraft_flush_snapshot_data(PgraftFlush *flush, PgraftSnapshotWriter *writer,
									   const void *data, size_t length);
extern void pgraft_flush_submit_snapshot(PgraftFlush *flush, PgraftSnapshotWriter *writer);
extern void pgraft_flush_cancel_snapshot(PgraftFlush *flush, PgraftSnapshotWriter *writer);

/* False while the disk is behind with what it was given of the snapshot. */
extern bool pgraft_flush_wants_snapshot_data(PgraftFlush *flush);

/*
 * So much is unfinished that new work of our own should wait.  Nothing is ever
 * refused: what peers send is bounded by their windows.
 */
extern bool pgraft_flush_full(PgraftFlush *flush);

/* The disk is full: jobs wait and are tried again every second. */
extern bool pgraft_flush_no_space(PgraftFlush *flush);

/*
 * Milliseconds for which there have been unfinished jobs and none was finished;
 * 0 = none.  A queue that is long but moves is not a stall, nor is a snapshot.
 */
extern unsigned long pgraft_flush_waiting_ms(PgraftFlush *flush);

#endif							/* PGRAFT_FLUSH_H */
