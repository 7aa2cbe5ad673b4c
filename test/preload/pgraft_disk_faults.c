/*-------------------------------------------------------------------------
 *
 * pgraft_disk_faults.c
 *	  A disk that stalls, is slow, fails, or is full, for tests on real servers.
 *
 * Loaded with LD_PRELOAD into a server.  It stands before the system calls that
 * write and flush, and acts only on files below one directory, so the server's
 * own files are never touched.  Without both environment variables it does
 * nothing at all:
 *
 *		PGRAFT_FAULT_DIRECTORY	absolute path; files below it are concerned
 *		PGRAFT_FAULT_CONTROL	file of the struct Control below, at least
 *								CONTROL_BYTES long, mapped by every process
 *
 * The test writes the first fields while the server runs and reads the others.
 * A stalled call polls its field, so writing 0 releases it.
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
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CONTROL_BYTES 4096
#define POLL_NS 2000000L		/* how often a stalled call looks */
#define FAILED_FILES 64

typedef struct Control
{
	/* written by the test */
	int64_t		stall;			/* flushes wait while this is not 0 */
	int64_t		delay_ms;		/* each flush takes so much longer */
	int64_t		fail_syncs;		/* so many of the next flushes fail with EIO */
	int64_t		no_space;		/* 1: every write fails with ENOSPC; 2: those
								 * that would make the file longer, only */
	int64_t		short_writes;	/* writes take half of what they are given */
	int64_t		stall_snapshots;	/* flushes of files of a snapshot that is being
									 * written wait while this is not 0 */

	/* written here */
	int64_t		waiting;		/* flushes that are stalled now, of either kind */
	int64_t		syncs;			/* that came to their end, delayed or not */
	int64_t		failed;			/* that were made to fail */
	int64_t		retried;		/* of a file that had failed before */
	int64_t		refused;		/* writes that got ENOSPC */
	int64_t		shortened;		/* writes that were cut */
} Control;

static void set_up(void) __attribute__((constructor));
static void *next_function(const char *name);
static int	concerns(int fd);
static int	file_name(int fd, char *path);
static int	is_snapshot(int fd);
static int	before_sync(int fd);
static int	note_failed_file(int fd, int add);
static int	refuse_write(int fd, off_t end);
static size_t allowed_bytes(size_t n);
static void sleep_ns(long ns);

static volatile Control *control = NULL;
static char directory[PATH_MAX];
static size_t directory_length;

/* files whose flush has failed, in this process */
static ino_t failed_files[FAILED_FILES];
static int	n_failed_files = 0;

static int	(*real_fdatasync) (int) = NULL;
static int	(*real_fsync) (int) = NULL;
static ssize_t (*real_write) (int, const void *, size_t) = NULL;
static ssize_t (*real_pwrite) (int, const void *, size_t, off_t) = NULL;
static ssize_t (*real_pwritev) (int, const struct iovec *, int, off_t) = NULL;
static int	(*real_ftruncate) (int, off_t) = NULL;
static int	(*real_fallocate) (int, off_t, off_t) = NULL;

static void
set_up(void)
{
	const char *path = getenv("PGRAFT_FAULT_CONTROL");
	const char *below = getenv("PGRAFT_FAULT_DIRECTORY");
	void	   *mapped;
	int			fd;

	/* a pointer to a function does not fit into one to an object in ISO C */
	*(void **) &real_fdatasync = next_function("fdatasync");
	*(void **) &real_fsync = next_function("fsync");
	*(void **) &real_write = next_function("write");
	*(void **) &real_pwrite = next_function("pwrite");
	*(void **) &real_pwritev = next_function("pwritev");
	*(void **) &real_ftruncate = next_function("ftruncate");
	*(void **) &real_fallocate = next_function("posix_fallocate");
	if (path == NULL || below == NULL || strlen(below) >= sizeof(directory) - 1)
		return;
	strcpy(directory, below);
	strcat(directory, "/");
	directory_length = strlen(directory);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		abort();				/* a test without its faults would prove nothing */
	mapped = mmap(NULL, CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped == MAP_FAILED)
		abort();
	control = mapped;
}

static void *
next_function(const char *name)
{
	void	   *function = dlsym(RTLD_NEXT, name);

	if (function == NULL)
		abort();
	return function;
}

/* Is it an open file below the directory? */
static int
concerns(int fd)
{
	char		path[PATH_MAX];
	int			length;

	if (control == NULL || fd < 0)
		return 0;
	length = file_name(fd, path);

	/* the directory itself is flushed, too */
	return length > 0 && (size_t) length + 1 >= directory_length &&
		memcmp(path, directory, directory_length) == 0;
}

/* With a slash behind it; returns the length without that, or -1. */
static int
file_name(int fd, char *path)
{
	char		link[64] = "/proc/self/fd/";
	char		digits[16];
	ssize_t		length;
	int			saved_errno = errno;
	int			n = 0;
	int			i = (int) strlen(link);

	do
		digits[n++] = (char) ('0' + fd % 10);
	while ((fd /= 10) > 0);
	while (n > 0)
		link[i++] = digits[--n];
	link[i] = '\0';
	length = readlink(link, path, PATH_MAX - 2);
	errno = saved_errno;
	if (length < 0)
		return -1;
	path[length] = '/';
	path[length + 1] = '\0';
	return (int) length;
}

/* A temporary file of a snapshot of the member's own. */
static int
is_snapshot(int fd)
{
	char		path[PATH_MAX];

	return file_name(fd, path) > 0 && strstr(path, "/snapshot-") != NULL &&
		strstr(path, ".tmp/") != NULL;
}

/* Waits as it is told to; -1 when the flush must fail. */
static int
before_sync(int fd)
{
	if (control->stall)
	{
		__sync_fetch_and_add(&control->waiting, 1);
		while (control->stall)
			sleep_ns(POLL_NS);
		__sync_fetch_and_sub(&control->waiting, 1);
	}
	if (control->stall_snapshots && is_snapshot(fd))
	{
		__sync_fetch_and_add(&control->waiting, 1);
		while (control->stall_snapshots)
			sleep_ns(POLL_NS);
		__sync_fetch_and_sub(&control->waiting, 1);
	}
	if (control->delay_ms > 0)
		sleep_ns((long) control->delay_ms * 1000000L);
	if (note_failed_file(fd, 0))
		__sync_fetch_and_add(&control->retried, 1);
	if (control->fail_syncs > 0)
	{
		__sync_fetch_and_sub(&control->fail_syncs, 1);
		__sync_fetch_and_add(&control->failed, 1);
		(void) note_failed_file(fd, 1);
		errno = EIO;
		return -1;
	}
	__sync_fetch_and_add(&control->syncs, 1);
	return 0;
}

static int
note_failed_file(int fd, int add)
{
	struct stat st;
	int			i;

	if (fstat(fd, &st) < 0)
		return 0;
	for (i = 0; i < n_failed_files; i++)
		if (failed_files[i] == st.st_ino)
			return 1;
	/* an open copy keeps the number from being given to another file */
	if (add && n_failed_files < FAILED_FILES && fcntl(fd, F_DUPFD_CLOEXEC, 0) >= 0)
		failed_files[n_failed_files++] = st.st_ino;
	return 0;
}

static int
refuse_write(int fd, off_t end)
{
	struct stat st;

	if (control->no_space == 0)
		return 0;
	if (control->no_space == 2 && fstat(fd, &st) == 0 && end <= st.st_size)
		return 0;
	__sync_fetch_and_add(&control->refused, 1);
	errno = ENOSPC;
	return 1;
}

static size_t
allowed_bytes(size_t n)
{
	if (!control->short_writes || n < 2)
		return n;
	__sync_fetch_and_add(&control->shortened, 1);
	return n / 2;
}

static void
sleep_ns(long ns)
{
	struct timespec pause;

	pause.tv_sec = ns / 1000000000L;
	pause.tv_nsec = ns % 1000000000L;
	(void) nanosleep(&pause, NULL);
}

/* ----------------------------------------------------------------
 * The calls
 * ----------------------------------------------------------------
 */

int
fdatasync(int fd)
{
	if (concerns(fd) && before_sync(fd) < 0)
		return -1;
	return real_fdatasync(fd);
}

int
fsync(int fd)
{
	if (concerns(fd) && before_sync(fd) < 0)
		return -1;
	return real_fsync(fd);
}

ssize_t
write(int fd, const void *buffer, size_t n)
{
	if (concerns(fd))
	{
		if (refuse_write(fd, lseek(fd, 0, SEEK_CUR) + (off_t) n))
			return -1;
		n = allowed_bytes(n);
	}
	return real_write(fd, buffer, n);
}

ssize_t
pwrite(int fd, const void *buffer, size_t n, off_t offset)
{
	if (concerns(fd))
	{
		if (refuse_write(fd, offset + (off_t) n))
			return -1;
		n = allowed_bytes(n);
	}
	return real_pwrite(fd, buffer, n, offset);
}

/* the name that 64-bit offsets by macro lead to */
ssize_t
pwrite64(int fd, const void *buffer, size_t n, off_t offset)
{
	return pwrite(fd, buffer, n, offset);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int n_parts, off_t offset)
{
	size_t		total = 0;
	int			i;

	if (!concerns(fd))
		return real_pwritev(fd, parts, n_parts, offset);
	for (i = 0; i < n_parts; i++)
		total += parts[i].iov_len;
	if (refuse_write(fd, offset + (off_t) total))
		return -1;
	if (control->short_writes)
		return pwrite(fd, parts[0].iov_base, parts[0].iov_len, offset);
	return real_pwritev(fd, parts, n_parts, offset);
}

int
ftruncate(int fd, off_t length)
{
	if (concerns(fd) && refuse_write(fd, length))
		return -1;
	return real_ftruncate(fd, length);
}

int
posix_fallocate(int fd, off_t offset, off_t length)
{
	if (concerns(fd) && refuse_write(fd, offset + length))
		return ENOSPC;
	return real_fallocate(fd, offset, length);
}
