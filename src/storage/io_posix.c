/*-------------------------------------------------------------------------
 *
 * io_posix.c
 *	  struct PgraftIo on top of real system calls.
 *
 * Stateless, so both the loop and the flush thread may use one instance.
 * EINTR is retried everywhere but in close() and fsync()/fdatasync(): a
 * descriptor is gone after the former, and the latter may have dropped dirty
 * pages, so their failure is always handed up.  The server's fsync setting is
 * deliberately not consulted.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/io_posix.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pgraft/storage.h"

static int	posix_open(PgraftIo *io, const char *path, int flags);
static int	posix_close(PgraftIo *io, int fd);
static ssize_t posix_pread(PgraftIo *io, int fd, void *buffer, size_t n,
						   off_t offset);
static ssize_t posix_pwrite(PgraftIo *io, int fd, const void *buffer,
							size_t n, off_t offset);
static int	posix_fdatasync(PgraftIo *io, int fd);
static int	posix_fsync(PgraftIo *io, int fd);
static int	posix_ftruncate(PgraftIo *io, int fd, off_t length);
static int	posix_size(PgraftIo *io, int fd, off_t *size);
static int	posix_rename(PgraftIo *io, const char *from, const char *to);
static int	posix_unlink(PgraftIo *io, const char *path);
static int	posix_mkdir(PgraftIo *io, const char *path);
static int	posix_list(PgraftIo *io, const char *path,
					   void (*visit) (void *arg, const char *name), void *arg);
static int	posix_identify(PgraftIo *io, const char *path,
						   unsigned long *device, unsigned long *inode);
static int	posix_lock(PgraftIo *io, int fd);
static unsigned long posix_now_us(PgraftIo *io);

void
pgraft_io_posix(PgraftIo *io)
{
	io->context = NULL;
	io->open = posix_open;
	io->close = posix_close;
	io->pread = posix_pread;
	io->pwrite = posix_pwrite;
	io->fdatasync = posix_fdatasync;
	io->fsync = posix_fsync;
	io->ftruncate = posix_ftruncate;
	io->size = posix_size;
	io->rename = posix_rename;
	io->unlink = posix_unlink;
	io->mkdir = posix_mkdir;
	io->list = posix_list;
	io->identify = posix_identify;
	io->lock = posix_lock;
	io->now_us = posix_now_us;
}

static int
posix_open(PgraftIo *io, const char *path, int flags)
{
	int			fd;

	(void) io;
	do
		fd = open(path, flags | O_CLOEXEC, 0600);
	while (fd < 0 && errno == EINTR);
	return fd;
}

static int
posix_close(PgraftIo *io, int fd)
{
	(void) io;
	return close(fd);
}

static ssize_t
posix_pread(PgraftIo *io, int fd, void *buffer, size_t n, off_t offset)
{
	ssize_t		done;

	(void) io;
	do
		done = pread(fd, buffer, n, offset);
	while (done < 0 && errno == EINTR);
	return done;
}

static ssize_t
posix_pwrite(PgraftIo *io, int fd, const void *buffer, size_t n, off_t offset)
{
	ssize_t		done;

	(void) io;
	do
		done = pwrite(fd, buffer, n, offset);
	while (done < 0 && errno == EINTR);
	return done;
}

static int
posix_fdatasync(PgraftIo *io, int fd)
{
	(void) io;
	return fdatasync(fd);
}

static int
posix_fsync(PgraftIo *io, int fd)
{
	(void) io;
	return fsync(fd);
}

static int
posix_ftruncate(PgraftIo *io, int fd, off_t length)
{
	int			result;

	(void) io;
	do
		result = ftruncate(fd, length);
	while (result < 0 && errno == EINTR);
	return result;
}

static int
posix_size(PgraftIo *io, int fd, off_t *size)
{
	struct stat st;

	(void) io;
	if (fstat(fd, &st) < 0)
		return -1;
	*size = st.st_size;
	return 0;
}

static int
posix_rename(PgraftIo *io, const char *from, const char *to)
{
	(void) io;
	return rename(from, to);
}

static int
posix_unlink(PgraftIo *io, const char *path)
{
	(void) io;
	return unlink(path);
}

static int
posix_mkdir(PgraftIo *io, const char *path)
{
	(void) io;
	return mkdir(path, 0700);
}

static int
posix_list(PgraftIo *io, const char *path,
		   void (*visit) (void *arg, const char *name), void *arg)
{
	DIR		   *dir;
	struct dirent *entry;
	int			failure;

	(void) io;
	dir = opendir(path);
	if (dir == NULL)
		return -1;
	for (;;)
	{
		errno = 0;
		entry = readdir(dir);
		if (entry == NULL)
			break;
		if (strcmp(entry->d_name, ".") != 0 &&
			strcmp(entry->d_name, "..") != 0)
			visit(arg, entry->d_name);
	}
	failure = errno;
	closedir(dir);
	errno = failure;
	return failure == 0 ? 0 : -1;
}

static int
posix_identify(PgraftIo *io, const char *path, unsigned long *device,
			   unsigned long *inode)
{
	struct stat st;

	(void) io;
	if (stat(path, &st) < 0)
		return -1;
	*device = (unsigned long) st.st_dev;
	*inode = (unsigned long) st.st_ino;
	return 0;
}

static int
posix_lock(PgraftIo *io, int fd)
{
	int			result;

	(void) io;
	do
		result = flock(fd, LOCK_EX | LOCK_NB);
	while (result < 0 && errno == EINTR);
	return result;
}

static unsigned long
posix_now_us(PgraftIo *io)
{
	struct timespec now;

	(void) io;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long) now.tv_sec * 1000000UL +
		(unsigned long) now.tv_nsec / 1000UL;
}
