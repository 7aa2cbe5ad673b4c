/*-------------------------------------------------------------------------
 *
 * files.c
 *	  Small steps on files that every other file of src/storage uses: whole
 *	  reads and writes, zeros, directory fsync, error texts.
 *
 * Any thread.  May enter: what knows a path and a descriptor.  May not: what
 * knows the format.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/files.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <fcntl.h>
#include <limits.h>

#include "internal.h"

#define ZERO_BYTES 65536

static const unsigned char zeros[ZERO_BYTES];

/*
 * Error for a failed call, from errno.  action completes "could not ...".
 */
PgraftErrorCode
pgraft_io_error(PgraftError *error, const char *action, const char *path)
{
	PgraftErrorCode code = PGRAFT_ERR_IO;

	if (errno == ENOSPC || errno == EDQUOT)
		code = PGRAFT_ERR_NO_SPACE;
	else if (errno == ENOMEM)
		code = PGRAFT_ERR_NOMEM;
	else if (errno == ENOENT)
		code = PGRAFT_ERR_NOT_FOUND;
	return pgraft_error(error, code, "could not %s \"%s\": %m", action, path);
}

/* A flush that failed is final, whatever the reason: never "disk full, try again". */
PgraftErrorCode
pgraft_flush_error(PgraftError *error, const char *action, const char *path)
{
	return pgraft_error(error, PGRAFT_ERR_IO, "could not %s \"%s\": %m", action, path);
}

/* Callers have checked that directory leaves room for a name. */
void
pgraft_path(char *path, const char *directory, const char *name)
{
	snprintf(path, PGRAFT_PATH_BYTES, "%s/%s", directory, name);
}

/* Reads exactly n bytes; a file that ends before is corrupt. */
PgraftErrorCode
pgraft_read_at(PgraftIo *io, int fd, const char *path, void *buffer, size_t n,
			   off_t offset, PgraftError *error)
{
	unsigned char *p = buffer;

	while (n > 0)
	{
		ssize_t		done = io->pread(io, fd, p, Min(n, (size_t) INT_MAX), offset);

		if (done < 0)
			return pgraft_error(error,
								errno == ENOMEM ? PGRAFT_ERR_NOMEM : PGRAFT_ERR_IO,
								"could not read file \"%s\": %m", path);
		if (done == 0)
			return pgraft_corrupt(error, path, (raft_u64) offset,
								  "file ends unexpectedly");
		p += done;
		n -= (size_t) done;
		offset += done;
	}
	return PGRAFT_OK;
}

PgraftErrorCode
pgraft_write_at(PgraftIo *io, int fd, const char *path, const void *buffer,
				size_t n, off_t offset, PgraftError *error)
{
	const unsigned char *p = buffer;

	while (n > 0)
	{
		ssize_t		done = io->pwrite(io, fd, p, Min(n, (size_t) INT_MAX), offset);

		if (done <= 0)
		{
			/* a write that wrote nothing and gave no reason: full disk */
			if (done == 0)
				errno = ENOSPC;
			return pgraft_io_error(error, "write file", path);
		}
		p += done;
		n -= (size_t) done;
		offset += done;
	}
	return PGRAFT_OK;
}

PgraftErrorCode
pgraft_write_zeros(PgraftIo *io, int fd, const char *path, off_t from, off_t to,
				   PgraftError *error)
{
	while (from < to)
	{
		size_t		n = Min((size_t) (to - from), (size_t) ZERO_BYTES);
		PgraftErrorCode code = pgraft_write_at(io, fd, path, zeros, n, from, error);

		if (code != PGRAFT_OK)
			return code;
		from += (off_t) n;
	}
	return PGRAFT_OK;
}

PgraftErrorCode
pgraft_sync_directory(PgraftIo *io, const char *directory, PgraftError *error)
{
	int			fd = io->open(io, directory, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return pgraft_io_error(error, "open directory", directory);
	if (io->fsync(io, fd) < 0)
	{
		int			failure = errno;

		io->close(io, fd);
		errno = failure;
		return pgraft_flush_error(error, "fsync directory", directory);
	}
	io->close(io, fd);
	return PGRAFT_OK;
}

/* Unlinks; a file that is not there is fine. */
PgraftErrorCode
pgraft_remove(PgraftIo *io, const char *directory, const char *name,
			  PgraftError *error)
{
	char		path[PGRAFT_PATH_BYTES];

	pgraft_path(path, directory, name);
	if (io->unlink(io, path) < 0 && errno != ENOENT)
		return pgraft_io_error(error, "remove file", path);
	return PGRAFT_OK;
}

PgraftErrorCode
pgraft_corrupt(PgraftError *error, const char *file, raft_u64 offset,
			   const char *reason)
{
	return pgraft_error(error, PGRAFT_ERR_CORRUPT,
						"file \"%s\" is damaged at offset %lu: %s",
						file, offset, reason);
}

/* Makes room for `wanted` elements; false when out of memory. */
bool
pgraft_grow(void **array, size_t *allocated, size_t wanted, size_t element)
{
	size_t		target = *allocated;
	void	   *grown;

	if (wanted <= *allocated)
		return true;
	if (target == 0)
		target = 16;
	while (target < wanted)
		target *= 2;
	grown = realloc(*array, target * element);
	if (grown == NULL)
		return false;
	*array = grown;
	*allocated = target;
	return true;
}
