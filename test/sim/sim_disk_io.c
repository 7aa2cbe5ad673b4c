/*-------------------------------------------------------------------------
 *
 * sim_disk_io.c
 *	  The I/O vtable of a simulated disk: what the storage code calls.
 *
 * Each modifying call is a point at which the machine may die; see
 * sim_disk.c for what is lost then.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sim_disk.h"

static int
fail(int error)
{
	errno = error;
	return -1;
}

/*
 * Called at each modifying call.  1: the machine dies in this very call (the
 * caller may do a part of its work first); -1: it is dead already.
 */
static int
step(SimDisk *disk)
{
	if (disk->dead)
		return -1;
	if (disk->countdown > 0 && --disk->countdown == 0)
	{
		disk->dead = 1;
		return 1;
	}
	return 0;
}

static DiskFile *
descriptor(SimDisk *disk, int fd)
{
	if (fd < 0 || fd >= SIM_MAX_DESCRIPTORS || disk->descriptors[fd] == NULL)
	{
		errno = EBADF;
		return NULL;
	}
	return disk->descriptors[fd];
}

static int
disk_open(PgraftIo *io, const char *path, int flags)
{
	SimDisk    *disk = io->context;
	char		last[SIM_NAME_SIZE];
	DiskFile   *parent;
	DiskFile   *file;
	int			fd;

	if (disk->dead)
		return fail(EIO);
	file = sim_disk_lookup(disk, path, &parent, last);
	if (file != NULL && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0)
		return fail(EEXIST);
	if (file == NULL)
	{
		if (parent == NULL || (flags & O_CREAT) == 0)
			return fail(ENOENT);
		if (step(disk) != 0)
			return fail(EIO);
		if (disk->full)
			return fail(ENOSPC);
		file = sim_disk_new_file(disk, 0);
		sim_disk_put_name(&disk->visible, parent, last, file);
		sim_disk_note_change(disk, parent, last, "", file);
	}
	else if ((flags & O_TRUNC) != 0 && file->size > 0)
	{
		if (step(disk) != 0)
			return fail(EIO);
		memset(file->cache, 0, file->size);
		sim_disk_mark_dirty(file, 0, file->size);
		file->size = 0;
	}
	for (fd = 0; fd < SIM_MAX_DESCRIPTORS; fd++)
	{
		if (disk->descriptors[fd] == NULL)
		{
			disk->descriptors[fd] = file;
			return fd;
		}
	}
	return fail(EMFILE);
}

static int
disk_close(PgraftIo *io, int fd)
{
	SimDisk    *disk = io->context;

	if (descriptor(disk, fd) == NULL)
		return -1;
	disk->descriptors[fd] = NULL;
	disk->locked[fd] = NULL;
	return 0;
}

static ssize_t
disk_pread(PgraftIo *io, int fd, void *buffer, size_t n, off_t offset)
{
	SimDisk    *disk = io->context;
	DiskFile   *file = descriptor(disk, fd);
	size_t		position = (size_t) offset;

	if (file == NULL)
		return -1;
	if (disk->dead)
		return fail(EIO);
	if (offset < 0)
		return fail(EINVAL);
	if (position >= file->size)
		return 0;
	if (n > file->size - position)
		n = file->size - position;
	if (n > 1 && sim_chance(disk->world, 5))
		n = sim_range(disk->world, 1, n - 1);
	memcpy(buffer, file->cache + position, n);
	return (ssize_t) n;
}

/* A write is cut between sectors only: the disk's one promise. */
static size_t
whole_sectors(size_t position, size_t n, size_t cut)
{
	size_t		end = (position + cut) / SIM_SECTOR * SIM_SECTOR;

	if (cut == n)
		return n;
	return end > position ? end - position : 0;
}

static ssize_t
disk_pwrite(PgraftIo *io, int fd, const void *buffer, size_t n, off_t offset)
{
	SimDisk    *disk = io->context;
	DiskFile   *file = descriptor(disk, fd);
	size_t		position = (size_t) offset;
	int			dying;

	if (file == NULL)
		return -1;
	if (offset < 0)
		return fail(EINVAL);
	dying = step(disk);
	if (dying < 0)
		return fail(EIO);
	if (disk->full && position + n > file->size)
	{
		if (position >= file->size || sim_chance(disk->world, 500))
			return fail(ENOSPC);
		n = file->size - position;
	}
	if (dying > 0)
		n = whole_sectors(position, n, sim_below(disk->world, n + 1));
	else if (n > 1 && sim_chance(disk->world, 5))
	{
		size_t		cut = whole_sectors(position, n, sim_range(disk->world, 1, n - 1));

		n = cut > 0 ? cut : n;
	}
	if (n > 0)
	{
		sim_disk_reserve(file, position + n);
		memcpy(file->cache + position, buffer, n);
		sim_disk_mark_dirty(file, position, n);
		if (position + n > file->size)
			file->size = position + n;
	}
	return dying > 0 ? fail(EIO) : (ssize_t) n;
}

static int
disk_sync(PgraftIo *io, int fd)
{
	SimDisk    *disk = io->context;
	DiskFile   *file = descriptor(disk, fd);
	int			i;
	int			kept = 0;

	if (file == NULL)
		return -1;
	switch (step(disk))
	{
		case -1:
			return fail(EIO);
		case 1:
			if (!file->directory && sim_chance(disk->world, 300))
				sim_disk_clean(file, 1);
			return fail(EIO);
	}
	if (disk->fail_fsync && !file->directory)
	{
		sim_disk_clean(file, 0);
		return fail(EIO);
	}
	if (!file->directory)
	{
		sim_disk_clean(file, 1);
		return 0;
	}
	for (i = 0; i < disk->n_changes; i++)
	{
		if (disk->changes[i].parent == file)
			sim_disk_commit_change(disk, &disk->changes[i]);
		else
			disk->changes[kept++] = disk->changes[i];
	}
	disk->n_changes = kept;
	return 0;
}

static int
disk_ftruncate(PgraftIo *io, int fd, off_t length)
{
	SimDisk    *disk = io->context;
	DiskFile   *file = descriptor(disk, fd);
	size_t		size = (size_t) length;

	if (file == NULL)
		return -1;
	if (length < 0)
		return fail(EINVAL);
	if (step(disk) != 0)
		return fail(EIO);
	if (disk->full && size > file->size)
		return fail(ENOSPC);
	sim_disk_reserve(file, size);
	if (size < file->size)
	{
		memset(file->cache + size, 0, file->size - size);
		sim_disk_mark_dirty(file, size, file->size - size);
	}
	file->size = size;
	return 0;
}

static int
disk_size(PgraftIo *io, int fd, off_t *size)
{
	SimDisk    *disk = io->context;
	DiskFile   *file = descriptor(disk, fd);

	if (file == NULL)
		return -1;
	if (disk->dead)
		return fail(EIO);
	*size = (off_t) file->size;
	return 0;
}

static int
disk_rename(PgraftIo *io, const char *from, const char *to)
{
	SimDisk    *disk = io->context;
	char		from_name[SIM_NAME_SIZE];
	char		to_name[SIM_NAME_SIZE];
	DiskFile   *from_parent;
	DiskFile   *to_parent;
	DiskFile   *file;

	if (step(disk) != 0)
		return fail(EIO);
	sim_disk_lookup(disk, to, &to_parent, to_name);
	file = sim_disk_lookup(disk, from, &from_parent, from_name);
	if (file == NULL || to_parent == NULL)
		return fail(ENOENT);
	if (from_parent != to_parent)
		return fail(EXDEV);
	if (strcmp(from_name, to_name) == 0)
		return 0;
	sim_disk_drop_name(&disk->visible, from_parent, from_name);
	sim_disk_put_name(&disk->visible, to_parent, to_name, file);
	sim_disk_note_change(disk, to_parent, to_name, from_name, file);
	return 0;
}

static int
disk_unlink(PgraftIo *io, const char *path)
{
	SimDisk    *disk = io->context;
	char		last[SIM_NAME_SIZE];
	DiskFile   *parent;

	if (step(disk) != 0)
		return fail(EIO);
	if (sim_disk_lookup(disk, path, &parent, last) == NULL)
		return -1;
	sim_disk_drop_name(&disk->visible, parent, last);
	sim_disk_note_change(disk, parent, last, "", NULL);
	return 0;
}

static int
disk_mkdir(PgraftIo *io, const char *path)
{
	SimDisk    *disk = io->context;
	char		last[SIM_NAME_SIZE];
	DiskFile   *parent;
	DiskFile   *directory;

	if (step(disk) != 0)
		return fail(EIO);
	if (sim_disk_lookup(disk, path, &parent, last) != NULL)
		return fail(EEXIST);
	if (parent == NULL)
		return fail(ENOENT);
	if (disk->full)
		return fail(ENOSPC);
	directory = sim_disk_new_file(disk, 1);
	sim_disk_put_name(&disk->visible, parent, last, directory);
	sim_disk_note_change(disk, parent, last, "", directory);
	return 0;
}

static int
disk_list(PgraftIo *io, const char *path,
		  void (*visit) (void *arg, const char *name), void *arg)
{
	SimDisk    *disk = io->context;
	char		last[SIM_NAME_SIZE];
	DiskFile   *parent;
	DiskFile   *directory;
	DiskNames  *copy;
	int			i;

	if (disk->dead)
		return fail(EIO);
	directory = sim_disk_lookup(disk, path, &parent, last);
	if (directory == NULL)
		return -1;
	if (!directory->directory)
		return fail(ENOTDIR);

	/* the visitor may unlink */
	copy = sim_alloc(sizeof(DiskNames));
	*copy = disk->visible;
	for (i = 0; i < copy->n; i++)
	{
		if (copy->names[i].parent == directory)
			visit(arg, copy->names[i].name);
	}
	free(copy);
	return 0;
}

static int
disk_identify(PgraftIo *io, const char *path, unsigned long *device,
			  unsigned long *inode)
{
	SimDisk    *disk = io->context;
	char		last[SIM_NAME_SIZE];
	DiskFile   *parent;
	DiskFile   *file;

	if (disk->dead)
		return fail(EIO);
	file = sim_disk_lookup(disk, path, &parent, last);
	if (file == NULL)
		return -1;
	*device = (unsigned long) disk->slot + 1;
	*inode = file->inode;
	return 0;
}

static int
disk_lock(PgraftIo *io, int fd)
{
	SimDisk    *disk = io->context;
	DiskFile   *file = descriptor(disk, fd);
	int			i;

	if (file == NULL)
		return -1;
	for (i = 0; i < SIM_MAX_DESCRIPTORS; i++)
	{
		if (disk->locked[i] == file && i != fd)
			return fail(EWOULDBLOCK);
	}
	disk->locked[fd] = file;
	return 0;
}

static unsigned long
disk_now_us(PgraftIo *io)
{
	SimDisk    *disk = io->context;

	return disk->world->now;
}

void
sim_disk_io(SimDisk *disk, PgraftIo *io)
{
	io->context = disk;
	io->open = disk_open;
	io->close = disk_close;
	io->pread = disk_pread;
	io->pwrite = disk_pwrite;
	io->fdatasync = disk_sync;
	io->fsync = disk_sync;
	io->ftruncate = disk_ftruncate;
	io->size = disk_size;
	io->rename = disk_rename;
	io->unlink = disk_unlink;
	io->mkdir = disk_mkdir;
	io->list = disk_list;
	io->identify = disk_identify;
	io->lock = disk_lock;
	io->now_us = disk_now_us;
}
