/*-------------------------------------------------------------------------
 *
 * sim_disk.c
 *	  A disk in memory with the guarantees of a POSIX file system and no more.
 *
 * Each file has two images: what a reader sees (page cache) and what is on
 * the platter.  pwrite touches the first and marks 512-byte sectors dirty;
 * fsync copies dirty sectors to the second.  Names work the same way:
 * creations, renames and unlinks are visible at once and durable when their
 * directory is fsynced.
 *
 * What can happen (who calls: sim_node.c, sim_fault.c):
 *	- kill: the process goes, the page cache stays;
 *	- power loss: of each dirty file every sector, independently, is new, old
 *	  or torn in the middle, its size old, new or between; of the unsynced
 *	  name operations a prefix survives;
 *	- either of them at the Nth modifying call from now: that call is cut
 *	  short, then every call fails with EIO until sim_disk_restart();
 *	- full: growing a file fails with ENOSPC, sometimes after a part of it;
 *	- fsync failure: EIO, and the dirty sectors are forgotten, never written;
 *	- short writes and reads, now and then, as the system calls may do.
 *
 * Deterministic: all choices come from the world's generator, directories are
 * listed in order of creation.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define SECTOR 512
#define MAX_DESCRIPTORS 64
#define MAX_NAMES 256
#define NAME_SIZE 64
#define ROOT_NAME "disk"

typedef struct DiskFile
{
	struct DiskFile *next;		/* all files of the disk */
	unsigned long inode;
	int			directory;
	unsigned char *cache;		/* what readers see */
	unsigned char *platter;
	size_t		size;
	size_t		platter_size;
	size_t		capacity;		/* of both images */
	unsigned char *dirty;		/* one byte per sector */
	size_t		dirty_low;		/* sectors; low >= high: clean */
	size_t		dirty_high;
} DiskFile;

typedef struct DiskName
{
	DiskFile   *parent;
	DiskFile   *file;
	char		name[NAME_SIZE];
} DiskName;

typedef struct DiskNames
{
	int			n;
	DiskName	names[MAX_NAMES];
} DiskNames;

typedef struct DiskChange		/* an unsynced name operation */
{
	DiskFile   *parent;
	DiskFile   *file;			/* NULL = unlink */
	char		name[NAME_SIZE];
	char		old_name[NAME_SIZE];	/* "" = creation, else rename */
} DiskChange;

struct SimDisk
{
	SimWorld   *world;
	int			slot;
	unsigned long next_inode;
	DiskFile   *files;
	DiskFile   *root;
	DiskNames	visible;
	DiskNames	durable;
	DiskChange	changes[MAX_NAMES];
	int			n_changes;
	DiskFile   *descriptors[MAX_DESCRIPTORS];
	DiskFile   *locked[MAX_DESCRIPTORS];
	unsigned int countdown;		/* modifying calls until death; 0 = not armed */
	int			death_is_power_loss;
	int			dead;
	int			full;
	int			fail_fsync;
};

/* ----------------------------------------------------------------
 * Files and names
 * ----------------------------------------------------------------
 */
static DiskFile *
new_file(SimDisk *disk, int directory)
{
	DiskFile   *file = sim_alloc(sizeof(DiskFile));
	DiskFile  **tail = &disk->files;

	while (*tail != NULL)
		tail = &(*tail)->next;
	*tail = file;
	file->inode = disk->next_inode++;
	file->directory = directory;
	return file;
}

static void
free_file(DiskFile *file)
{
	free(file->cache);
	free(file->platter);
	free(file->dirty);
	free(file);
}

static void
reserve(DiskFile *file, size_t size)
{
	size_t		capacity = file->capacity;

	if (size <= capacity)
		return;
	size = (size + size / 2 + SECTOR * 8) / SECTOR * SECTOR;
	file->cache = realloc(file->cache, size);
	file->platter = realloc(file->platter, size);
	file->dirty = realloc(file->dirty, size / SECTOR);
	if (file->cache == NULL || file->platter == NULL || file->dirty == NULL)
	{
		fprintf(stderr, "pgraft_sim: out of memory\n");
		exit(2);
	}
	memset(file->cache + capacity, 0, size - capacity);
	memset(file->platter + capacity, 0, size - capacity);
	memset(file->dirty + capacity / SECTOR, 0, (size - capacity) / SECTOR);
	file->capacity = size;
}

static DiskName *
find_name(DiskNames *names, const DiskFile *parent, const char *name)
{
	int			i;

	for (i = 0; i < names->n; i++)
	{
		if (names->names[i].parent == parent &&
			strcmp(names->names[i].name, name) == 0)
			return &names->names[i];
	}
	return NULL;
}

static void
drop_name(DiskNames *names, const DiskFile *parent, const char *name)
{
	DiskName   *found = find_name(names, parent, name);

	if (found != NULL)
	{
		size_t		behind = (size_t) (&names->names[names->n] - found) - 1;

		memmove(found, found + 1, behind * sizeof(DiskName));
		names->n--;
	}
}

static void
put_name(DiskNames *names, DiskFile *parent, const char *name, DiskFile *file)
{
	DiskName   *slot;

	drop_name(names, parent, name);
	if (names->n == MAX_NAMES)
	{
		fprintf(stderr, "pgraft_sim: too many files on a simulated disk\n");
		exit(2);
	}
	slot = &names->names[names->n++];
	slot->parent = parent;
	slot->file = file;
	snprintf(slot->name, NAME_SIZE, "%s", name);
}

/*
 * Returns the file, or NULL with errno ENOENT.  *parent is the directory that
 * holds (or would hold) the last component; NULL when that is missing too.
 */
static DiskFile *
lookup(SimDisk *disk, const char *path, DiskFile **parent, char *last)
{
	DiskName   *found;
	DiskFile   *directory = disk->root;
	const char *p = path;

	if (strncmp(p, "/" ROOT_NAME, sizeof(ROOT_NAME)) != 0)
	{
		errno = ENOENT;
		return NULL;
	}
	p += sizeof(ROOT_NAME);
	*parent = NULL;
	last[0] = '\0';
	while (*p == '/')
		p++;
	if (*p == '\0')
		return disk->root;
	for (;;)
	{
		size_t		length = strcspn(p, "/");

		if (length >= NAME_SIZE)
		{
			errno = ENAMETOOLONG;
			return NULL;
		}
		memcpy(last, p, length);
		last[length] = '\0';
		p += length;
		while (*p == '/')
			p++;
		found = find_name(&disk->visible, directory, last);
		if (*p == '\0')
			break;
		if (found == NULL || !found->file->directory)
		{
			errno = ENOENT;
			return NULL;
		}
		directory = found->file;
	}
	*parent = directory;
	if (found == NULL)
		errno = ENOENT;
	return found == NULL ? NULL : found->file;
}

static void
note_change(SimDisk *disk, DiskFile *parent, const char *name,
			const char *old_name, DiskFile *file)
{
	DiskChange *change;

	if (disk->n_changes == MAX_NAMES)
	{
		fprintf(stderr, "pgraft_sim: too many unsynced name operations\n");
		exit(2);
	}
	change = &disk->changes[disk->n_changes++];
	change->parent = parent;
	change->file = file;
	snprintf(change->name, NAME_SIZE, "%s", name);
	snprintf(change->old_name, NAME_SIZE, "%s", old_name);
}

static void
commit_change(SimDisk *disk, const DiskChange *change)
{
	if (change->old_name[0] != '\0')
		drop_name(&disk->durable, change->parent, change->old_name);
	if (change->file != NULL)
		put_name(&disk->durable, change->parent, change->name, change->file);
	else
		drop_name(&disk->durable, change->parent, change->name);
}

/* ----------------------------------------------------------------
 * Dirt and its loss
 * ----------------------------------------------------------------
 */
static void
mark_dirty(DiskFile *file, size_t offset, size_t length)
{
	size_t		low = offset / SECTOR;
	size_t		high = (offset + length + SECTOR - 1) / SECTOR;

	if (length == 0)
		return;
	memset(file->dirty + low, 1, high - low);
	if (file->dirty_low >= file->dirty_high)
	{
		file->dirty_low = low;
		file->dirty_high = high;
		return;
	}
	if (low < file->dirty_low)
		file->dirty_low = low;
	if (high > file->dirty_high)
		file->dirty_high = high;
}

/* Makes all of the file durable, or just forgets that it is dirty. */
static void
clean(DiskFile *file, int write_it)
{
	size_t		i;

	for (i = file->dirty_low; i < file->dirty_high; i++)
	{
		if (write_it && file->dirty[i])
			memcpy(file->platter + i * SECTOR, file->cache + i * SECTOR, SECTOR);
		file->dirty[i] = 0;
	}
	if (write_it)
		file->platter_size = file->size;
	file->dirty_low = file->dirty_high = 0;
}

/* What a power loss leaves of one file's unsynced writes. */
static void
lose_file(SimDisk *disk, DiskFile *file)
{
	SimWorld   *world = disk->world;
	unsigned int survival;
	size_t		i;
	int			kept = 0;
	int			lost = 0;

	switch (sim_below(world, 4))
	{
		case 0:
			survival = 0;
			break;
		case 1:
			survival = 1000;
			break;
		default:
			survival = (unsigned int) sim_range(world, 100, 900);
			break;
	}
	for (i = file->dirty_low; i < file->dirty_high; i++)
	{
		size_t		keep = SECTOR;

		if (!file->dirty[i])
			continue;
		if (!sim_chance(world, survival))
			keep = sim_chance(world, 100) ? sim_below(world, SECTOR) : 0;
		memcpy(file->platter + i * SECTOR, file->cache + i * SECTOR, keep);
		if (keep == SECTOR)
			kept++;
		else
			lost++;
		file->dirty[i] = 0;
	}
	if (lost > 0 && kept > 0)
		SIM_COUNT(world, torn_writes);
	if (file->size != file->platter_size && sim_chance(world, 600))
	{
		if (file->size > file->platter_size && sim_chance(world, 500))
			file->platter_size = sim_range(world, file->platter_size, file->size);
		else
			file->platter_size = file->size;
	}
	file->size = file->platter_size;
	if (file->capacity > file->size)
		memset(file->platter + file->size, 0, file->capacity - file->size);
	if (file->capacity > 0)
		memcpy(file->cache, file->platter, file->capacity);
	file->dirty_low = file->dirty_high = 0;
}

static void
free_nameless(SimDisk *disk)
{
	DiskFile  **link = &disk->files;
	int			i;

	while (*link != NULL)
	{
		DiskFile   *file = *link;
		int			named = file == disk->root;

		for (i = 0; i < disk->visible.n && !named; i++)
			named = disk->visible.names[i].file == file;
		for (i = 0; i < disk->durable.n && !named; i++)
			named = disk->durable.names[i].file == file;
		for (i = 0; i < disk->n_changes && !named; i++)
			named = disk->changes[i].file == file || disk->changes[i].parent == file;
		if (named)
		{
			link = &file->next;
			continue;
		}
		*link = file->next;
		free_file(file);
	}
}

static void
lose_power(SimDisk *disk)
{
	SimWorld   *world = disk->world;
	int			survive = (int) sim_below(world, (raft_u64) disk->n_changes + 1);
	DiskFile   *file;
	int			i;

	for (i = 0; i < survive; i++)
		commit_change(disk, &disk->changes[i]);
	if (survive < disk->n_changes)
		SIM_COUNT(world, lost_metadata);
	disk->n_changes = 0;
	disk->visible = disk->durable;
	for (file = disk->files; file != NULL; file = file->next)
	{
		if (file->dirty_low < file->dirty_high || file->size != file->platter_size)
			lose_file(disk, file);
	}
}

/* ----------------------------------------------------------------
 * The I/O vtable
 * ----------------------------------------------------------------
 */
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
	if (fd < 0 || fd >= MAX_DESCRIPTORS || disk->descriptors[fd] == NULL)
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
	char		last[NAME_SIZE];
	DiskFile   *parent;
	DiskFile   *file;
	int			fd;

	if (disk->dead)
		return fail(EIO);
	file = lookup(disk, path, &parent, last);
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
		file = new_file(disk, 0);
		put_name(&disk->visible, parent, last, file);
		note_change(disk, parent, last, "", file);
	}
	else if ((flags & O_TRUNC) != 0 && file->size > 0)
	{
		if (step(disk) != 0)
			return fail(EIO);
		memset(file->cache, 0, file->size);
		mark_dirty(file, 0, file->size);
		file->size = 0;
	}
	for (fd = 0; fd < MAX_DESCRIPTORS; fd++)
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
		n = sim_below(disk->world, n + 1);
	else if (n > 1 && sim_chance(disk->world, 5))
		n = sim_range(disk->world, 1, n - 1);
	if (n > 0)
	{
		reserve(file, position + n);
		memcpy(file->cache + position, buffer, n);
		mark_dirty(file, position, n);
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
				clean(file, 1);
			return fail(EIO);
	}
	if (disk->fail_fsync && !file->directory)
	{
		clean(file, 0);
		return fail(EIO);
	}
	if (!file->directory)
	{
		clean(file, 1);
		return 0;
	}
	for (i = 0; i < disk->n_changes; i++)
	{
		if (disk->changes[i].parent == file)
			commit_change(disk, &disk->changes[i]);
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
	reserve(file, size);
	if (size < file->size)
	{
		memset(file->cache + size, 0, file->size - size);
		mark_dirty(file, size, file->size - size);
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
	char		from_name[NAME_SIZE];
	char		to_name[NAME_SIZE];
	DiskFile   *from_parent;
	DiskFile   *to_parent;
	DiskFile   *file;

	if (step(disk) != 0)
		return fail(EIO);
	lookup(disk, to, &to_parent, to_name);
	file = lookup(disk, from, &from_parent, from_name);
	if (file == NULL || to_parent == NULL)
		return fail(ENOENT);
	if (from_parent != to_parent)
		return fail(EXDEV);
	if (strcmp(from_name, to_name) == 0)
		return 0;
	drop_name(&disk->visible, from_parent, from_name);
	put_name(&disk->visible, to_parent, to_name, file);
	note_change(disk, to_parent, to_name, from_name, file);
	return 0;
}

static int
disk_unlink(PgraftIo *io, const char *path)
{
	SimDisk    *disk = io->context;
	char		last[NAME_SIZE];
	DiskFile   *parent;

	if (step(disk) != 0)
		return fail(EIO);
	if (lookup(disk, path, &parent, last) == NULL)
		return -1;
	drop_name(&disk->visible, parent, last);
	note_change(disk, parent, last, "", NULL);
	return 0;
}

static int
disk_mkdir(PgraftIo *io, const char *path)
{
	SimDisk    *disk = io->context;
	char		last[NAME_SIZE];
	DiskFile   *parent;
	DiskFile   *directory;

	if (step(disk) != 0)
		return fail(EIO);
	if (lookup(disk, path, &parent, last) != NULL)
		return fail(EEXIST);
	if (parent == NULL)
		return fail(ENOENT);
	if (disk->full)
		return fail(ENOSPC);
	directory = new_file(disk, 1);
	put_name(&disk->visible, parent, last, directory);
	note_change(disk, parent, last, "", directory);
	return 0;
}

static int
disk_list(PgraftIo *io, const char *path,
		  void (*visit) (void *arg, const char *name), void *arg)
{
	SimDisk    *disk = io->context;
	char		last[NAME_SIZE];
	DiskFile   *parent;
	DiskFile   *directory;
	DiskNames  *copy;
	int			i;

	if (disk->dead)
		return fail(EIO);
	directory = lookup(disk, path, &parent, last);
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
	char		last[NAME_SIZE];
	DiskFile   *parent;
	DiskFile   *file;

	if (disk->dead)
		return fail(EIO);
	file = lookup(disk, path, &parent, last);
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
	for (i = 0; i < MAX_DESCRIPTORS; i++)
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

/* ----------------------------------------------------------------
 * Life and death
 * ----------------------------------------------------------------
 */
SimDisk *
sim_disk_create(SimWorld *world, int slot)
{
	SimDisk    *disk = sim_alloc(sizeof(SimDisk));

	disk->world = world;
	disk->slot = slot;
	disk->next_inode = 100;
	disk->root = new_file(disk, 1);
	return disk;
}

static void
free_files(SimDisk *disk, DiskFile *except)
{
	while (disk->files != NULL)
	{
		DiskFile   *next = disk->files->next;

		if (disk->files != except)
			free_file(disk->files);
		disk->files = next;
	}
	disk->files = except;
	if (except != NULL)
		except->next = NULL;
}

void
sim_disk_destroy(SimDisk *disk)
{
	free_files(disk, NULL);
	free(disk);
}

/* The machine will die in the Nth modifying call from now. */
void
sim_disk_arm(SimDisk *disk, unsigned int calls, int power_loss)
{
	disk->countdown = calls;
	disk->death_is_power_loss = power_loss;
}

int
sim_disk_dead(const SimDisk *disk, int *power_loss)
{
	*power_loss = disk->death_is_power_loss;
	return disk->dead;
}

/* From now on every call fails; what is lost is decided here. */
void
sim_disk_kill(SimDisk *disk, int power_loss)
{
	disk->dead = 1;
	disk->countdown = 0;
	if (power_loss)
		lose_power(disk);
}

/* The process that used the disk is gone and a new one begins. */
void
sim_disk_restart(SimDisk *disk)
{
	memset(disk->descriptors, 0, sizeof(disk->descriptors));
	memset(disk->locked, 0, sizeof(disk->locked));
	disk->dead = 0;
	disk->countdown = 0;
	disk->fail_fsync = 0;
	free_nameless(disk);
}

/* Everything is gone, durably: the operator's rm -rf. */
void
sim_disk_wipe(SimDisk *disk)
{
	sim_disk_restart(disk);
	disk->visible.n = disk->durable.n = disk->n_changes = 0;
	free_files(disk, disk->root);
}

void
sim_disk_fail_fsync(SimDisk *disk, int yes)
{
	disk->fail_fsync = yes;
}

/* An fsync failed, or would: the process must stop, not go on. */
int
sim_disk_failing(const SimDisk *disk)
{
	return disk->fail_fsync;
}

void
sim_disk_set_full(SimDisk *disk, int full)
{
	disk->full = full;
}
