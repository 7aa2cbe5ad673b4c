/*-------------------------------------------------------------------------
 *
 * threads.h
 *	  What the two threads behind include/pgraft/flush.h share: how they are
 *	  started, how they wait, how they wake the loop.
 *
 *		flush.c		log batches, and the interface for the loop
 *		saver.c		snapshots of our own, so that no batch waits for one
 *		threads.c	what both need
 *
 * Both run with all signals blocked and call nothing of PostgreSQL.  Only these
 * three files include this one.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_STORAGE_THREADS_H
#define PGRAFT_STORAGE_THREADS_H

#include <pthread.h>
#include <time.h>

#include "pgraft/flush.h"

/* ----------------------------------------------------------------
 * threads.c
 * ----------------------------------------------------------------
 */

/* 0, or the error number. */
extern int	pgraft_thread_start(pthread_t *thread, void *(*start) (void *), void *arg);

/* A condition whose deadlines are on the monotonic clock. */
extern bool pgraft_condition_init(pthread_cond_t *condition);
extern void pgraft_deadline_after(struct timespec *until, int ms);
extern long pgraft_ms_between(const struct timespec *from, const struct timespec *until);

/* Wakes the loop through its event descriptor. */
extern void pgraft_ring(int event_fd);

/* ----------------------------------------------------------------
 * saver.c
 *
 * One snapshot at a time.  Everything but the thread itself returns at once.
 * ----------------------------------------------------------------
 */
typedef struct PgraftSaver PgraftSaver;

/* event_fd is rung when there is room for data again and at the end. */
extern PgraftSaver *pgraft_saver_start(int event_fd, PgraftError *error);

/* Two steps, so that both threads are asked before either is waited for. */
extern void pgraft_saver_ask_to_stop(PgraftSaver *saver);

/*
 * False: still busy at that time; it ends by itself later, and what it uses
 * must stay.  True: ended, and what was unfinished is dropped.
 */
extern bool pgraft_saver_stop(PgraftSaver *saver, const struct timespec *until);

extern void pgraft_saver_data(PgraftSaver *saver, PgraftSnapshotWriter *writer,
							  const void *data, size_t length);
extern void pgraft_saver_end(PgraftSaver *saver, PgraftSnapshotWriter *writer, bool cancel);
extern size_t pgraft_saver_backlog(PgraftSaver *saver);
extern bool pgraft_saver_reap(PgraftSaver *saver, PgraftFlushDone *done, PgraftError *error);

#endif							/* PGRAFT_STORAGE_THREADS_H */
