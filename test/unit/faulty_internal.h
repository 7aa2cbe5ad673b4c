/*-------------------------------------------------------------------------
 *
 * faulty_internal.h
 *	  The inside of a FaultyDisk, shared by faulty_disk.c (what it holds and
 *	  loses) and faulty_io.c (what the storage calls).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_TEST_FAULTY_INTERNAL_H
#define PGRAFT_TEST_FAULTY_INTERNAL_H

#include "faulty_io.h"

#define SECTOR FAULTY_SECTOR_BYTES
#define FAULTY_CALLS 9			/* bits of FaultyCall */
#define PATH_BYTES 256

typedef struct Node
{
	struct Node *next;			/* all files of the disk */
	unsigned long inode;
	bool		directory;
	unsigned char *cached;
	unsigned char *durable;
	unsigned char *dirty;		/* by sector */
	size_t		size;
	size_t		durable_size;
	size_t		allocated;		/* of each image */
	bool		marked;			/* while collecting garbage */
} Node;

typedef struct Entry
{
	char		path[PATH_BYTES];
	Node	   *node;			/* in a change: NULL removes the path */
} Entry;

typedef struct Change
{
	Entry		from;			/* removed; path "" = nothing */
	Entry		to;				/* set; path "" = nothing */
} Change;

typedef struct EntryList
{
	Entry	   *entries;
	size_t		n;
	size_t		allocated;
} EntryList;

typedef struct Descriptor
{
	Node	   *node;			/* NULL = free */
	char		path[PATH_BYTES];
	bool		locked;
} Descriptor;

struct FaultyDisk
{
	PgraftIo	io;
	unsigned long random;
	unsigned long now_us;
	unsigned long next_inode;
	Node	   *nodes;
	EntryList	current;
	EntryList	durable;
	Change	   *changes;
	size_t		n_changes;
	size_t		changes_allocated;
	Descriptor *descriptors;
	size_t		n_descriptors;
	size_t		capacity;
	unsigned long counts[FAULTY_CALLS];
	unsigned long crash_in;		/* changing calls left; 0 = not armed */
	bool		crashed;
	unsigned int fail_calls;
	unsigned long fail_in;
	int			fail_errno;
	bool		fired;
};

extern void *faulty_check_memory(void *pointer);
extern unsigned long faulty_draw(FaultyDisk *disk, unsigned long limit);
extern void faulty_normalize(char *to, const char *path);
extern void faulty_parent_of(char *to, const char *path);
extern Entry *faulty_find_entry(EntryList *list, const char *path);
extern void faulty_set_entry(EntryList *list, const char *path, Node *node);
extern void faulty_apply_change(EntryList *list, const Change *change);
extern void faulty_note_change(FaultyDisk *disk, const char *from, const char *to,
							   Node *node);
extern Node *faulty_new_node(FaultyDisk *disk, bool directory);
extern void faulty_resize_node(Node *node, size_t size);
extern void faulty_write_back(FaultyDisk *disk, Node *node, unsigned long keep_in_8);
extern void faulty_collect_garbage(FaultyDisk *disk);

/* faulty_io.c: fills the vtable of a new disk */
extern void faulty_io_init(FaultyDisk *disk);

#endif							/* PGRAFT_TEST_FAULTY_INTERNAL_H */
