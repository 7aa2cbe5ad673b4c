/*-------------------------------------------------------------------------
 *
 * sim_disk.h
 *	  The inside of a simulated disk, shared by sim_disk.c (what it holds and
 *	  loses) and sim_disk_io.c (what the storage code calls).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_SIM_DISK_H
#define PGRAFT_SIM_DISK_H

#include "sim.h"

#define SIM_SECTOR 512
#define SIM_MAX_DESCRIPTORS 64
#define SIM_MAX_NAMES 1024
#define SIM_NAME_SIZE 64
#define SIM_ROOT_NAME "disk"

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
	char		name[SIM_NAME_SIZE];
} DiskName;

typedef struct DiskNames
{
	int			n;
	DiskName	names[SIM_MAX_NAMES];
} DiskNames;

typedef struct DiskChange		/* an unsynced name operation */
{
	DiskFile   *parent;
	DiskFile   *file;			/* NULL = unlink */
	char		name[SIM_NAME_SIZE];
	char		old_name[SIM_NAME_SIZE];	/* "" = creation, else rename */
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
	DiskChange	changes[SIM_MAX_NAMES];
	int			n_changes;
	DiskFile   *descriptors[SIM_MAX_DESCRIPTORS];
	DiskFile   *locked[SIM_MAX_DESCRIPTORS];
	unsigned int countdown;		/* modifying calls until death; 0 = not armed */
	int			death_is_power_loss;
	int			dead;
	int			full;
	int			fail_fsync;
};

extern DiskFile *sim_disk_new_file(SimDisk *disk, int directory);
extern void sim_disk_reserve(DiskFile *file, size_t size);
extern void sim_disk_drop_name(DiskNames *names, const DiskFile *parent,
							   const char *name);
extern void sim_disk_put_name(DiskNames *names, DiskFile *parent, const char *name,
							  DiskFile *file);
extern DiskFile *sim_disk_lookup(SimDisk *disk, const char *path, DiskFile **parent,
								 char *last);
extern void sim_disk_note_change(SimDisk *disk, DiskFile *parent, const char *name,
								 const char *old_name, DiskFile *file);
extern void sim_disk_commit_change(SimDisk *disk, const DiskChange *change);
extern void sim_disk_mark_dirty(DiskFile *file, size_t offset, size_t length);
extern void sim_disk_clean(DiskFile *file, int write_it);

#endif							/* PGRAFT_SIM_DISK_H */
