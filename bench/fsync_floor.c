/*-------------------------------------------------------------------------
 *
 * fsync_floor.c
 *	  How long this disk takes to make a small write durable: the time that no
 *	  replicated log can beat.
 *
 *		fsync_floor DIRECTORY SECONDS BYTES
 *
 * Writes BYTES at a time, one behind the other, into a file that was filled
 * with zeros and flushed before, and calls fdatasync() after each, as a log in
 * preallocated segments does.  Prints one line of microseconds.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES (16 * 1024 * 1024)
#define MAX_WRITE_BYTES 65536
#define MAX_SAMPLES 1000000

static void fail(const char *what);
static long now_us(void);
static long parse_number(const char *argument, long min, long max);
static int	make_file(const char *directory);
static int	compare_longs(const void *a, const void *b);

static long samples[MAX_SAMPLES];

int
main(int argc, char **argv)
{
	static char data[MAX_WRITE_BYTES];
	size_t		bytes;
	long		end;
	size_t		n = 0;
	off_t		offset = 0;
	int			fd;

	if (argc != 4)
	{
		fprintf(stderr, "usage: fsync_floor DIRECTORY SECONDS BYTES\n");
		return 2;
	}
	bytes = (size_t) parse_number(argv[3], 1, MAX_WRITE_BYTES);
	end = now_us() + parse_number(argv[2], 1, 3600) * 1000000L;
	fd = make_file(argv[1]);
	memset(data, 'x', bytes);
	while (now_us() < end && n < MAX_SAMPLES)
	{
		long		start = now_us();

		if (pwrite(fd, data, bytes, offset) != (ssize_t) bytes)
			fail("pwrite");
		if (fdatasync(fd) != 0)
			fail("fdatasync");
		samples[n++] = now_us() - start;
		offset += (off_t) bytes;
		if (offset + (off_t) bytes > FILE_BYTES)
			offset = 0;
	}
	close(fd);
	qsort(samples, n, sizeof(long), compare_longs);
	printf("writes=%zu min_us=%ld p50_us=%ld p99_us=%ld max_us=%ld\n",
		   n, samples[0], samples[n / 2], samples[n - 1 - n / 100], samples[n - 1]);
	return 0;
}

static void
fail(const char *what)
{
	fprintf(stderr, "fsync_floor: %s failed: %s\n", what, strerror(errno));
	exit(1);
}

static long
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static long
parse_number(const char *argument, long min, long max)
{
	char	   *end;
	long		number;

	errno = 0;
	number = strtol(argument, &end, 10);
	if (errno != 0 || *end != '\0' || number < min || number > max)
	{
		fprintf(stderr, "fsync_floor: \"%s\" is not a number from %ld to %ld\n",
				argument, min, max);
		exit(2);
	}
	return number;
}

/* Full of zeros and durable; gone with the process. */
static int
make_file(const char *directory)
{
	static char zeros[MAX_WRITE_BYTES];
	char		path[4096];
	int			fd;
	off_t		offset;

	snprintf(path, sizeof(path), "%s/fsync_floor.%ld", directory, (long) getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		fail("open");
	(void) unlink(path);
	for (offset = 0; offset < FILE_BYTES; offset += (off_t) sizeof(zeros))
	{
		if (pwrite(fd, zeros, sizeof(zeros), offset) != (ssize_t) sizeof(zeros))
			fail("pwrite");
	}
	if (fsync(fd) != 0)
		fail("fsync");
	return fd;
}

static int
compare_longs(const void *a, const void *b)
{
	long		left = *(const long *) a;
	long		right = *(const long *) b;

	return (left > right) - (left < right);
}
