/*-------------------------------------------------------------------------
 *
 * pgraft_clock.c
 *	  A wall clock that is wrong, for tests on real servers.
 *
 * Loaded with LD_PRELOAD into a server.  It stands before the calls that tell the
 * time of day and adds what the test wrote, which may change at any moment, as
 * when an administrator sets the clock.  Monotonic clocks go on as they are.
 * Without the environment variable it does nothing at all:
 *
 *		PGRAFT_CLOCK_CONTROL	file of one signed 64-bit integer, microseconds to
 *								add, mapped by every process
 *
 * Any thread of any process; no lock, no memory allocation.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void set_up(void) __attribute__((constructor));
static int	real_time(clockid_t clock, struct timespec *now);

static volatile int64_t *shift = NULL;
static int	(*real_clock_gettime) (clockid_t, struct timespec *) = NULL;

static void
set_up(void)
{
	const char *path = getenv("PGRAFT_CLOCK_CONTROL");
	void	   *mapped;
	int			fd;

	/* a pointer to a function does not fit into one to an object in ISO C */
	*(void **) &real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	if (path == NULL)
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		abort();				/* a test with the right time would prove nothing */
	mapped = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped == MAP_FAILED)
		abort();
	shift = mapped;
}

/* other libraries' constructors may ask before ours has run */
static int
real_time(clockid_t clock, struct timespec *now)
{
	if (real_clock_gettime == NULL)
		return (int) syscall(SYS_clock_gettime, clock, now);
	return real_clock_gettime(clock, now);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	int			result = real_time(clock, now);

	if (result == 0 && shift != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
	{
		int64_t		added = *shift;
		int64_t		ns = (int64_t) now->tv_nsec + added % 1000000 * 1000;

		now->tv_sec += (time_t) (added / 1000000 + (ns < 0 ? -1 : ns >= 1000000000 ? 1 : 0));
		now->tv_nsec = (long) (ns < 0 ? ns + 1000000000 : ns >= 1000000000 ? ns - 1000000000 : ns);
	}
	return result;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec precise;

	(void) zone;
	if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
		return -1;
	now->tv_sec = precise.tv_sec;
	now->tv_usec = (suseconds_t) (precise.tv_nsec / 1000);
	return 0;
}

time_t
time(time_t *result)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return (time_t) -1;
	if (result != NULL)
		*result = now.tv_sec;
	return now.tv_sec;
}
