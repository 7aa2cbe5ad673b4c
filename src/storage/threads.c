/*-------------------------------------------------------------------------
 *
 * threads.c
 *	  Small things that both threads behind flush.h need.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/threads.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <signal.h>
#include <unistd.h>

#include "threads.h"

int
pgraft_thread_start(pthread_t *thread, void *(*start) (void *), void *arg)
{
	sigset_t	all;
	sigset_t	before;
	int			result;

	/* the thread inherits this mask; PostgreSQL's handlers must never run there */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(thread, NULL, start, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result;
}

bool
pgraft_condition_init(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;
	bool		done;

	if (pthread_condattr_init(&attributes) != 0)
		return false;
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	done = pthread_cond_init(condition, &attributes) == 0;
	pthread_condattr_destroy(&attributes);
	return done;
}

void
pgraft_deadline_after(struct timespec *until, int ms)
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

long
pgraft_ms_between(const struct timespec *from, const struct timespec *until)
{
	return (until->tv_sec - from->tv_sec) * 1000 + (until->tv_nsec - from->tv_nsec) / 1000000;
}

void
pgraft_ring(int event_fd)
{
	uint64		one = 1;

	/* fails when the counter is full; then it is readable anyway */
	if (write(event_fd, &one, sizeof(one)) < 0)
		return;
}
