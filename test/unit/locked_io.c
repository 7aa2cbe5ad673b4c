/*-------------------------------------------------------------------------
 *
 * locked_io.c
 *	  A mutex around each call of a PgraftIo.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/locked_io.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <pthread.h>

#include "locked_io.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static PgraftIo disk;

/* Both keep errno, which the mutex may touch. */
#define CALL(type, call) \
	type result; \
	int failure; \
	(void) io; \
	pthread_mutex_lock(&mutex); \
	result = call; \
	failure = errno; \
	pthread_mutex_unlock(&mutex); \
	errno = failure; \
	return result

static int
locked_open(PgraftIo *io, const char *path, int flags)
{
	CALL(int, disk.open(&disk, path, flags));
}

static int
locked_close(PgraftIo *io, int fd)
{
	CALL(int, disk.close(&disk, fd));
}

static ssize_t
locked_pread(PgraftIo *io, int fd, void *buffer, size_t n, off_t offset)
{
	CALL(ssize_t, disk.pread(&disk, fd, buffer, n, offset));
}

static ssize_t
locked_pwrite(PgraftIo *io, int fd, const void *buffer, size_t n, off_t offset)
{
	CALL(ssize_t, disk.pwrite(&disk, fd, buffer, n, offset));
}

static int
locked_fdatasync(PgraftIo *io, int fd)
{
	CALL(int, disk.fdatasync(&disk, fd));
}

static int
locked_fsync(PgraftIo *io, int fd)
{
	CALL(int, disk.fsync(&disk, fd));
}

static int
locked_ftruncate(PgraftIo *io, int fd, off_t length)
{
	CALL(int, disk.ftruncate(&disk, fd, length));
}

static int
locked_size(PgraftIo *io, int fd, off_t *size)
{
	CALL(int, disk.size(&disk, fd, size));
}

static int
locked_rename(PgraftIo *io, const char *from, const char *to)
{
	CALL(int, disk.rename(&disk, from, to));
}

static int
locked_unlink(PgraftIo *io, const char *path)
{
	CALL(int, disk.unlink(&disk, path));
}

static int
locked_mkdir(PgraftIo *io, const char *path)
{
	CALL(int, disk.mkdir(&disk, path));
}

static int
locked_list(PgraftIo *io, const char *path, void (*visit) (void *arg, const char *name),
			void *arg)
{
	CALL(int, disk.list(&disk, path, visit, arg));
}

static int
locked_identify(PgraftIo *io, const char *path, unsigned long *device, unsigned long *inode)
{
	CALL(int, disk.identify(&disk, path, device, inode));
}

static int
locked_lock(PgraftIo *io, int fd)
{
	CALL(int, disk.lock(&disk, fd));
}

static unsigned long
locked_now_us(PgraftIo *io)
{
	CALL(unsigned long, disk.now_us(&disk));
}

void
locked_io(PgraftIo *io, const PgraftIo *below)
{
	disk = *below;
	io->open = locked_open;
	io->close = locked_close;
	io->pread = locked_pread;
	io->pwrite = locked_pwrite;
	io->fdatasync = locked_fdatasync;
	io->fsync = locked_fsync;
	io->ftruncate = locked_ftruncate;
	io->size = locked_size;
	io->rename = locked_rename;
	io->unlink = locked_unlink;
	io->mkdir = locked_mkdir;
	io->list = locked_list;
	io->identify = locked_identify;
	io->lock = locked_lock;
	io->now_us = locked_now_us;
}
