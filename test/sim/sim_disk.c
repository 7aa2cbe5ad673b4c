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
 *	- power loss: of each dirty file every sector, independently, is new or
 *	  old, its size old, new or between; of the unsynced
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_disk.h"

/* ----------------------------------------------------------------
 * Files and names
 * ----------------------------------------------------------------
 */
DiskFile *
sim_disk_new_file(SimDisk *disk, int directory)
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

void
sim_disk_reserve(DiskFile *file, size_t size)
{
	size_t		capacity = file->capacity;

	if (size <= capacity)
		return;
	size = (size + size / 2 + SIM_SECTOR * 8) / SIM_SECTOR * SIM_SECTOR;
	file->cache = realloc(file->cache, size);
	file->platter = realloc(file->platter, size);
	file->dirty = realloc(file->dirty, size / SIM_SECTOR);
	if (file->cache == NULL || file->platter == NULL || file->dirty == NULL)
	{
		fprintf(stderr, "pgraft_sim: out of memory\n");
		exit(2);
	}
	memset(file->cache + capacity, 0, size - capacity);
	memset(file->platter + capacity, 0, size - capacity);
	memset(file->dirty + capacity / SIM_SECTOR, 0, (size - capacity) / SIM_SECTOR);
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

void
sim_disk_drop_name(DiskNames *names, const DiskFile *parent, const char *name)
{
	DiskName   *found = find_name(names, parent, name);

	if (found != NULL)
	{
		size_t		behind = (size_t) (&names->names[names->n] - found) - 1;

		memmove(found, found + 1, behind * sizeof(DiskName));
		names->n--;
	}
}

void
sim_disk_put_name(DiskNames *names, DiskFile *parent, const char *name, DiskFile *file)
{
	DiskName   *slot;

	sim_disk_drop_name(names, parent, name);
	if (names->n == SIM_MAX_NAMES)
	{
		fprintf(stderr, "pgraft_sim: too many files on a simulated disk\n");
		exit(2);
	}
	slot = &names->names[names->n++];
	slot->parent = parent;
	slot->file = file;
	snprintf(slot->name, SIM_NAME_SIZE, "%s", name);
}

/*
 * Returns the file, or NULL with errno ENOENT.  *parent is the directory that
 * holds (or would hold) the last component; NULL when that is missing too.
 */
DiskFile *
sim_disk_lookup(SimDisk *disk, const char *path, DiskFile **parent, char *last)
{
	DiskName   *found;
	DiskFile   *directory = disk->root;
	const char *p = path;

	if (strncmp(p, "/" SIM_ROOT_NAME, sizeof(SIM_ROOT_NAME)) != 0)
	{
		errno = ENOENT;
		return NULL;
	}
	p += sizeof(SIM_ROOT_NAME);
	*parent = NULL;
	last[0] = '\0';
	while (*p == '/')
		p++;
	if (*p == '\0')
		return disk->root;
	for (;;)
	{
		size_t		length = strcspn(p, "/");

		if (length >= SIM_NAME_SIZE)
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

void
sim_disk_note_change(SimDisk *disk, DiskFile *parent, const char *name,
			const char *old_name, DiskFile *file)
{
	DiskChange *change;

	if (disk->n_changes == SIM_MAX_NAMES)
	{
		fprintf(stderr, "pgraft_sim: too many unsynced name operations\n");
		exit(2);
	}
	change = &disk->changes[disk->n_changes++];
	change->parent = parent;
	change->file = file;
	snprintf(change->name, SIM_NAME_SIZE, "%s", name);
	snprintf(change->old_name, SIM_NAME_SIZE, "%s", old_name);
}

void
sim_disk_commit_change(SimDisk *disk, const DiskChange *change)
{
	if (change->old_name[0] != '\0')
		sim_disk_drop_name(&disk->durable, change->parent, change->old_name);
	if (change->file != NULL)
		sim_disk_put_name(&disk->durable, change->parent, change->name, change->file);
	else
		sim_disk_drop_name(&disk->durable, change->parent, change->name);
}

/* ----------------------------------------------------------------
 * Dirt and its loss
 * ----------------------------------------------------------------
 */
void
sim_disk_mark_dirty(DiskFile *file, size_t offset, size_t length)
{
	size_t		low = offset / SIM_SECTOR;
	size_t		high = (offset + length + SIM_SECTOR - 1) / SIM_SECTOR;

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
void
sim_disk_clean(DiskFile *file, int write_it)
{
	size_t		i;

	for (i = file->dirty_low; i < file->dirty_high; i++)
	{
		if (write_it && file->dirty[i])
			memcpy(file->platter + i * SIM_SECTOR, file->cache + i * SIM_SECTOR, SIM_SECTOR);
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
		size_t		keep = SIM_SECTOR;

		if (!file->dirty[i])
			continue;
		if (!sim_chance(world, survival))
			keep = 0;
		memcpy(file->platter + i * SIM_SECTOR, file->cache + i * SIM_SECTOR, keep);
		if (keep == SIM_SECTOR)
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
		sim_disk_commit_change(disk, &disk->changes[i]);
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
	disk->root = sim_disk_new_file(disk, 1);
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

/* The file in `disk` that stands at the place of `file` in `from`. */
static DiskFile *
counterpart(SimDisk *disk, const SimDisk *from, const DiskFile *file)
{
	DiskFile   *mine = disk->files;
	DiskFile   *theirs = from->files;

	while (theirs != file && theirs != NULL)
	{
		mine = mine->next;
		theirs = theirs->next;
	}
	return theirs == NULL ? NULL : mine;
}

static void
clone_names(SimDisk *disk, const SimDisk *from, DiskNames *names)
{
	int			i;

	for (i = 0; i < names->n; i++)
	{
		names->names[i].parent = counterpart(disk, from, names->names[i].parent);
		names->names[i].file = counterpart(disk, from, names->names[i].file);
	}
}

/* A copy to experiment with; nobody has a file open on it. */
SimDisk *
sim_disk_clone(const SimDisk *from)
{
	SimDisk    *disk = sim_alloc(sizeof(SimDisk));
	const DiskFile *file;
	int			i;

	*disk = *from;
	disk->files = NULL;
	for (file = from->files; file != NULL; file = file->next)
	{
		DiskFile   *copy = sim_disk_new_file(disk, file->directory);

		copy->inode = file->inode;
		sim_disk_reserve(copy, file->capacity);
		if (file->capacity > 0)
		{
			memcpy(copy->cache, file->cache, file->capacity);
			memcpy(copy->platter, file->platter, file->capacity);
			memcpy(copy->dirty, file->dirty, file->capacity / SIM_SECTOR);
		}
		copy->size = file->size;
		copy->platter_size = file->platter_size;
		copy->dirty_low = file->dirty_low;
		copy->dirty_high = file->dirty_high;
	}
	disk->root = counterpart(disk, from, from->root);
	clone_names(disk, from, &disk->visible);
	clone_names(disk, from, &disk->durable);
	for (i = 0; i < disk->n_changes; i++)
	{
		disk->changes[i].parent = counterpart(disk, from, from->changes[i].parent);
		disk->changes[i].file = counterpart(disk, from, from->changes[i].file);
	}
	sim_disk_restart(disk);
	return disk;
}

/* Flips one bit of one file; text says where. */
void
sim_disk_flip(SimDisk *disk, char *text, size_t text_size)
{
	SimWorld   *world = disk->world;
	DiskName   *name;
	size_t		position;
	int			tries;

	for (tries = 0; tries < 100; tries++)
	{
		name = &disk->visible.names[sim_below(world, (raft_u64) disk->visible.n)];
		if (name->file->size == 0)
			continue;
		position = sim_below(world, name->file->size);
		if (sim_chance(world, 700))
			position = sim_below(world, name->file->size < 4096 ? name->file->size : 4096);
		name->file->cache[position] ^= (unsigned char) (1 << sim_below(world, 8));
		snprintf(text, text_size, "bit of byte %lu of %s flipped", (raft_u64) position,
				 name->name);
		return;
	}
	snprintf(text, text_size, "nothing flipped");
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
