/*-------------------------------------------------------------------------
 *
 * faulty_io.c
 *	  The calls that a FaultyDisk answers.
 *
 * Every call that changes something passes begin_call(), where faults strike.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/faulty_io.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <fcntl.h>

#include "faulty_internal.h"

#define WRITE_BACK_ONE_IN 16

static Node *node_of(FaultyDisk *disk, int fd);
static int	begin_call(FaultyDisk *disk, FaultyCall call, bool *last);
static int	end_call(bool last);
static size_t space_left(FaultyDisk *disk);
static int	sync_node(FaultyDisk *disk, int fd, FaultyCall call);
static int	sync_directory(FaultyDisk *disk, const char *path);

static Node *
node_of(FaultyDisk *disk, int fd)
{
	if (fd < 0 || (size_t) fd >= disk->n_descriptors ||
		disk->descriptors[fd].node == NULL)
	{
		errno = EBADF;
		return NULL;
	}
	return disk->descriptors[fd].node;
}

/*
 * Every changing call begins here: counts it, fails it, or makes it the last
 * one (*last).  Returns -1 with errno when it must fail.
 */
static int
begin_call(FaultyDisk *disk, FaultyCall call, bool *last)
{
	int			bit = 0;

	*last = false;
	if (disk->crashed)
	{
		errno = EIO;
		return -1;
	}
	while ((call >> bit) != 1)
		bit++;
	disk->counts[bit]++;
	if (disk->crash_in > 0 && --disk->crash_in == 0)
	{
		disk->crashed = true;
		*last = true;
	}
	if ((disk->fail_calls & call) != 0 && disk->fail_in > 0 &&
		--disk->fail_in == 0)
	{
		disk->fired = true;
		errno = disk->fail_errno;
		return -1;
	}
	return 0;
}

/* What a crashed call returns when it did something. */
static int
end_call(bool last)
{
	if (!last)
		return 0;
	errno = EIO;
	return -1;
}

static size_t
space_left(FaultyDisk *disk)
{
	size_t		used = 0;
	Node	   *node;

	if (disk->capacity == 0)
		return SIZE_MAX;
	faulty_collect_garbage(disk);
	for (node = disk->nodes; node != NULL; node = node->next)
		used += (node->size + SECTOR - 1) / SECTOR * SECTOR;
	return used >= disk->capacity ? 0 : disk->capacity - used;
}

/* ----------------------------------------------------------------
 * The vtable
 * ----------------------------------------------------------------
 */
static int
faulty_open(PgraftIo *io, const char *path, int flags)
{
	FaultyDisk *disk = io->context;
	char		name[PATH_BYTES];
	char		parent[PATH_BYTES];
	Entry	   *entry;
	Node	   *node;
	bool		last;
	size_t		fd = 0;

	if (disk->crashed)
	{
		errno = EIO;
		return -1;
	}
	faulty_normalize(name, path);
	entry = faulty_find_entry(&disk->current, name);
	if (entry == NULL && (flags & O_CREAT) == 0)
	{
		errno = ENOENT;
		return -1;
	}
	if (entry == NULL)
	{
		faulty_parent_of(parent, name);
		if (faulty_find_entry(&disk->current, parent) == NULL)
		{
			errno = ENOENT;
			return -1;
		}
		if (begin_call(disk, FAULTY_CREATE, &last) < 0)
			return -1;
		if (space_left(disk) == 0)
		{
			errno = ENOSPC;
			return -1;
		}
		node = faulty_new_node(disk, false);
		faulty_note_change(disk, "", name, node);
		if (end_call(last) < 0)
			return -1;
	}
	else
	{
		node = entry->node;
		if ((flags & O_TRUNC) != 0 && node->size > 0)
		{
			if (begin_call(disk, FAULTY_TRUNCATE, &last) < 0)
				return -1;
			faulty_resize_node(node, 0);
			if (end_call(last) < 0)
				return -1;
		}
	}
	while (fd < disk->n_descriptors && disk->descriptors[fd].node != NULL)
		fd++;
	if (fd == disk->n_descriptors)
		disk->descriptors = faulty_check_memory(realloc(disk->descriptors,
												 ++disk->n_descriptors * sizeof(Descriptor)));
	disk->descriptors[fd].node = node;
	disk->descriptors[fd].locked = false;
	strlcpy(disk->descriptors[fd].path, name, PATH_BYTES);
	return (int) fd;
}

static int
faulty_close(PgraftIo *io, int fd)
{
	FaultyDisk *disk = io->context;

	if (node_of(disk, fd) == NULL)
		return -1;
	disk->descriptors[fd].node = NULL;
	return 0;
}

static ssize_t
faulty_pread(PgraftIo *io, int fd, void *buffer, size_t n, off_t offset)
{
	FaultyDisk *disk = io->context;
	Node	   *node = node_of(disk, fd);

	if (node == NULL)
		return -1;
	if (disk->crashed)
	{
		errno = EIO;
		return -1;
	}
	if ((size_t) offset >= node->size)
		return 0;
	n = Min(n, node->size - (size_t) offset);
	memcpy(buffer, node->cached + offset, n);
	return (ssize_t) n;
}

static ssize_t
faulty_pwrite(PgraftIo *io, int fd, const void *buffer, size_t n, off_t offset)
{
	FaultyDisk *disk = io->context;
	Node	   *node = node_of(disk, fd);
	size_t		end;
	size_t		sector;
	bool		last;

	if (node == NULL || begin_call(disk, FAULTY_PWRITE, &last) < 0)
		return -1;
	if (last)
	{
		size_t		some = faulty_draw(disk, n / SECTOR + 2) * SECTOR;

		n = Min(n, some);
	}
	if ((size_t) offset + n > node->size)
	{
		size_t		grow = (size_t) offset + n - node->size;

		if (grow > space_left(disk))
			n -= Min(n, grow - space_left(disk));
		if (n == 0 && !last)
		{
			errno = ENOSPC;
			return -1;
		}
	}
	end = (size_t) offset + n;
	if (n > 0)
	{
		if (end > node->size)
			faulty_resize_node(node, end);
		memcpy(node->cached + offset, buffer, n);
		for (sector = (size_t) offset / SECTOR; sector * SECTOR < end; sector++)
			node->dirty[sector] = 1;
		if (faulty_draw(disk, WRITE_BACK_ONE_IN) == 0)
			faulty_write_back(disk, node, 4);
	}
	return end_call(last) < 0 ? -1 : (ssize_t) n;
}

static int
sync_node(FaultyDisk *disk, int fd, FaultyCall call)
{
	Node	   *node = node_of(disk, fd);
	bool		last;

	if (node == NULL)
		return -1;
	if (begin_call(disk, call, &last) < 0)
	{
		if (!disk->crashed)
			memset(node->dirty, 0, node->allocated / SECTOR);
		return -1;
	}
	if (last)
	{
		/* it may have come to its end, only nobody heard of it */
		faulty_write_back(disk, node, faulty_draw(disk, 9));
		return end_call(last);
	}
	faulty_write_back(disk, node, 8);
	node->durable_size = node->size;
	return 0;
}

static int
sync_directory(FaultyDisk *disk, const char *path)
{
	char		parent[PATH_BYTES];
	size_t		kept = 0;
	size_t		i;
	bool		last;

	if (begin_call(disk, FAULTY_FSYNC_DIRECTORY, &last) < 0)
		return -1;
	if (end_call(last) < 0)
		return -1;
	for (i = 0; i < disk->n_changes; i++)
	{
		Change	   *change = &disk->changes[i];

		faulty_parent_of(parent, change->to.path[0] != '\0' ? change->to.path :
				  change->from.path);
		if (strcmp(parent, path) == 0)
			faulty_apply_change(&disk->durable, change);
		else
			disk->changes[kept++] = *change;
	}
	disk->n_changes = kept;
	faulty_collect_garbage(disk);
	return 0;
}

static int
faulty_fdatasync(PgraftIo *io, int fd)
{
	return sync_node(io->context, fd, FAULTY_FDATASYNC);
}

static int
faulty_fsync(PgraftIo *io, int fd)
{
	FaultyDisk *disk = io->context;
	Node	   *node = node_of(disk, fd);

	if (node == NULL)
		return -1;
	if (node->directory)
		return sync_directory(disk, disk->descriptors[fd].path);
	return sync_node(disk, fd, FAULTY_FSYNC);
}

static int
faulty_ftruncate(PgraftIo *io, int fd, off_t length)
{
	FaultyDisk *disk = io->context;
	Node	   *node = node_of(disk, fd);
	bool		last;

	if (node == NULL || begin_call(disk, FAULTY_TRUNCATE, &last) < 0)
		return -1;
	faulty_resize_node(node, (size_t) length);
	return end_call(last);
}

static int
faulty_size(PgraftIo *io, int fd, off_t *size)
{
	FaultyDisk *disk = io->context;
	Node	   *node = node_of(disk, fd);

	if (node == NULL)
		return -1;
	*size = (off_t) node->size;
	return 0;
}

static int
faulty_rename(PgraftIo *io, const char *from, const char *to)
{
	FaultyDisk *disk = io->context;
	char		old_name[PATH_BYTES];
	char		new_name[PATH_BYTES];
	Entry	   *entry;
	bool		last;

	faulty_normalize(old_name, from);
	faulty_normalize(new_name, to);
	entry = faulty_find_entry(&disk->current, old_name);
	if (entry == NULL)
	{
		errno = ENOENT;
		return -1;
	}
	if (begin_call(disk, FAULTY_RENAME, &last) < 0)
		return -1;
	faulty_note_change(disk, old_name, new_name, entry->node);
	return end_call(last);
}

static int
faulty_unlink(PgraftIo *io, const char *path)
{
	FaultyDisk *disk = io->context;
	char		name[PATH_BYTES];
	bool		last;

	faulty_normalize(name, path);
	if (faulty_find_entry(&disk->current, name) == NULL)
	{
		errno = disk->crashed ? EIO : ENOENT;
		return -1;
	}
	if (begin_call(disk, FAULTY_UNLINK, &last) < 0)
		return -1;
	faulty_note_change(disk, name, "", NULL);
	return end_call(last);
}

static int
faulty_mkdir(PgraftIo *io, const char *path)
{
	FaultyDisk *disk = io->context;
	char		name[PATH_BYTES];
	bool		last;

	faulty_normalize(name, path);
	if (faulty_find_entry(&disk->current, name) != NULL)
	{
		errno = EEXIST;
		return -1;
	}
	if (begin_call(disk, FAULTY_MKDIR, &last) < 0)
		return -1;
	faulty_note_change(disk, "", name, faulty_new_node(disk, true));
	return end_call(last);
}

static int
faulty_list(PgraftIo *io, const char *path,
			void (*visit) (void *arg, const char *name), void *arg)
{
	FaultyDisk *disk = io->context;
	char		name[PATH_BYTES];
	char		parent[PATH_BYTES];
	size_t		i;

	faulty_normalize(name, path);
	if (disk->crashed || faulty_find_entry(&disk->current, name) == NULL)
	{
		errno = disk->crashed ? EIO : ENOENT;
		return -1;
	}
	for (i = 0; i < disk->current.n; i++)
	{
		const char *entry = disk->current.entries[i].path;

		faulty_parent_of(parent, entry);
		if (strcmp(parent, name) == 0 && strcmp(entry, "/") != 0 &&
			strcmp(entry, ".") != 0)
			visit(arg, strrchr(entry, '/') != NULL ? strrchr(entry, '/') + 1 : entry);
	}
	return 0;
}

static int
faulty_identify(PgraftIo *io, const char *path, unsigned long *device,
				unsigned long *inode)
{
	FaultyDisk *disk = io->context;
	char		name[PATH_BYTES];
	Entry	   *entry;

	faulty_normalize(name, path);
	entry = faulty_find_entry(&disk->current, name);
	if (entry == NULL)
	{
		errno = ENOENT;
		return -1;
	}
	*device = 1;
	*inode = entry->node->inode;
	return 0;
}

static int
faulty_lock(PgraftIo *io, int fd)
{
	FaultyDisk *disk = io->context;
	Node	   *node = node_of(disk, fd);
	size_t		i;

	if (node == NULL)
		return -1;
	for (i = 0; i < disk->n_descriptors; i++)
		if (i != (size_t) fd && disk->descriptors[i].node == node &&
			disk->descriptors[i].locked)
		{
			errno = EWOULDBLOCK;
			return -1;
		}
	disk->descriptors[fd].locked = true;
	return 0;
}

static unsigned long
faulty_now_us(PgraftIo *io)
{
	FaultyDisk *disk = io->context;

	return disk->now_us += 7;
}

void
faulty_io_init(FaultyDisk *disk)
{
	disk->io.context = disk;
	disk->io.open = faulty_open;
	disk->io.close = faulty_close;
	disk->io.pread = faulty_pread;
	disk->io.pwrite = faulty_pwrite;
	disk->io.fdatasync = faulty_fdatasync;
	disk->io.fsync = faulty_fsync;
	disk->io.ftruncate = faulty_ftruncate;
	disk->io.size = faulty_size;
	disk->io.rename = faulty_rename;
	disk->io.unlink = faulty_unlink;
	disk->io.mkdir = faulty_mkdir;
	disk->io.list = faulty_list;
	disk->io.identify = faulty_identify;
	disk->io.lock = faulty_lock;
	disk->io.now_us = faulty_now_us;
}
