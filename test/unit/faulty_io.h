/*-------------------------------------------------------------------------
 *
 * faulty_io.h
 *	  A disk in memory that tears, loses, flips, fills up and fails.
 *
 * A FaultyDisk holds files and directories twice: as processes see them (the
 * page cache) and as they are on the medium.  What was not flushed differs,
 * sector by sector of 512 bytes and directory entry by directory entry; a power
 * loss keeps any subset of the differences.  Everything random comes from the
 * seed, so a run can be repeated exactly.  Disks are independent of each other.
 *
 * After a crash every call fails until faulty_disk_restart().
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_TEST_FAULTY_IO_H
#define PGRAFT_TEST_FAULTY_IO_H

#include "pgraft/storage.h"

#define FAULTY_SECTOR_BYTES 512

typedef struct FaultyDisk FaultyDisk;

/* Calls that change something; the classes of faulty_disk_fail_at(). */
typedef enum FaultyCall
{
	FAULTY_CREATE = 0x01,		/* open() that makes a file */
	FAULTY_PWRITE = 0x02,
	FAULTY_FDATASYNC = 0x04,
	FAULTY_FSYNC = 0x08,		/* of a file */
	FAULTY_FSYNC_DIRECTORY = 0x10,
	FAULTY_TRUNCATE = 0x20,
	FAULTY_RENAME = 0x40,
	FAULTY_UNLINK = 0x80,
	FAULTY_MKDIR = 0x100,
	FAULTY_ANY = 0x1FF,
	FAULTY_TAKES_SPACE = FAULTY_CREATE | FAULTY_PWRITE | FAULTY_RENAME | FAULTY_MKDIR
} FaultyCall;

typedef enum FaultyCrash
{
	FAULTY_KILL,				/* the process dies, the page cache stays */
	FAULTY_POWER_LOSS,			/* any subset of what was not flushed is lost */
	FAULTY_POWER_LOSS_ALL		/* all of it is lost */
} FaultyCrash;

extern FaultyDisk *faulty_disk_create(unsigned long seed);

/* Same files, same inodes, same open descriptors: none. */
extern FaultyDisk *faulty_disk_copy(const FaultyDisk *disk);
extern void faulty_disk_destroy(FaultyDisk *disk);
extern PgraftIo *faulty_disk_io(FaultyDisk *disk);
extern void faulty_disk_reseed(FaultyDisk *disk, unsigned long seed);

/* ---- faults ---- */

/* The n-th changing call from now (1 = the next) is the last; it may be half done. */
extern void faulty_disk_crash_at(FaultyDisk *disk, unsigned long n);

/* Now, before any further call. */
extern void faulty_disk_crash(FaultyDisk *disk);
extern int	faulty_disk_crashed(const FaultyDisk *disk);
extern void faulty_disk_restart(FaultyDisk *disk, FaultyCrash crash);

/* The n-th call of these classes from now fails once with this errno. */
extern void faulty_disk_fail_at(FaultyDisk *disk, unsigned int calls,
								unsigned long n, int failure);

/* Did that fault happen? */
extern int	faulty_disk_fault_fired(const FaultyDisk *disk);

/* At most so many bytes of files; 0 = no limit. */
extern void faulty_disk_set_capacity(FaultyDisk *disk, size_t bytes);

/* Changes a byte, in the cache and on the medium. */
extern int	faulty_disk_flip(FaultyDisk *disk, const char *path, size_t offset,
							 unsigned char mask);
extern int	faulty_disk_cut(FaultyDisk *disk, const char *path, size_t length);
extern int	faulty_disk_zero(FaultyDisk *disk, const char *path, size_t from,
							 size_t to);

/* Makes or replaces a file, durably. */
extern int	faulty_disk_put(FaultyDisk *disk, const char *path,
							const unsigned char *data, size_t length);
extern int	faulty_disk_remove(FaultyDisk *disk, const char *path);

/* ---- looking in ---- */

/* The file as processes see it, valid until its next change; NULL = none. */
extern const unsigned char *faulty_disk_data(const FaultyDisk *disk,
											 const char *path, size_t *length);
extern unsigned long faulty_disk_calls(const FaultyDisk *disk, unsigned int calls);
extern int	faulty_disk_open_files(const FaultyDisk *disk);

#endif							/* PGRAFT_TEST_FAULTY_IO_H */
