/*-------------------------------------------------------------------------
 *
 * faulty_io.c
 *	  The disk of faulty_io.h.
 *
 * Model
 *	- A file has a cached and a durable image of its bytes and one dirty flag
 *	  per sector.  fsync and fdatasync copy dirty sectors over.  A failed one
 *	  clears the flags without copying: what the kernel does.
 *	- Directory entries: a current and a durable list of (path, file), and a
 *	  list of changes in between.  fsync of a directory applies the changes of
 *	  that directory.  fsync of a file does not make its name durable.
 *	- Now and then a write makes the "kernel" write back some dirty sectors, so
 *	  that the medium also holds intermediate states.
 *	- A power loss keeps each dirty sector, size change and directory change
 *	  with a probability drawn for that loss.
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
#include <string.h>

#include "faulty_io.h"

#define SECTOR FAULTY_SECTOR_BYTES
#define N_CALLS 9				/* bits of FaultyCall */
#define PATH_BYTES 256
#define WRITE_BACK_ONE_IN 16

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
	unsigned long counts[N_CALLS];
	unsigned long crash_in;		/* changing calls left; 0 = not armed */
	bool		crashed;
	unsigned int fail_calls;
	unsigned long fail_in;
	int			fail_errno;
	bool		fired;
};

static void *check_memory(void *pointer);
static unsigned long draw(FaultyDisk *disk, unsigned long limit);
static void normalize(char *to, const char *path);
static void parent_of(char *to, const char *path);
static Entry *find_entry(EntryList *list, const char *path);
static void set_entry(EntryList *list, const char *path, Node *node);
static void apply_change(EntryList *list, const Change *change);
static void note_change(FaultyDisk *disk, const char *from, const char *to,
						Node *node);
static Node *new_node(FaultyDisk *disk, bool directory);
static void resize_node(Node *node, size_t size);
static void write_back(FaultyDisk *disk, Node *node, unsigned long keep_in_8);
static void collect_garbage(FaultyDisk *disk);
static Node *node_of(FaultyDisk *disk, int fd);
static int	begin_call(FaultyDisk *disk, FaultyCall call, bool *last);
static size_t space_left(FaultyDisk *disk);

/* ----------------------------------------------------------------
 * Small things
 * ----------------------------------------------------------------
 */

/* A test that has no memory has no result. */
static void *
check_memory(void *pointer)
{
	if (pointer == NULL)
		abort();
	return pointer;
}

/* xorshift64* */
static unsigned long
draw(FaultyDisk *disk, unsigned long limit)
{
	disk->random ^= disk->random >> 12;
	disk->random ^= disk->random << 25;
	disk->random ^= disk->random >> 27;
	return (disk->random * 0x2545F4914F6CDD1DUL >> 33) % limit;
}

static void
normalize(char *to, const char *path)
{
	snprintf(to, PATH_BYTES, "%s", path);
	while (strlen(to) > 1 && to[strlen(to) - 1] == '/')
		to[strlen(to) - 1] = '\0';
}

static void
parent_of(char *to, const char *path)
{
	char	   *slash;

	normalize(to, path);
	slash = strrchr(to, '/');
	if (slash == NULL)
		strcpy(to, ".");
	else if (slash == to)
		strcpy(to, "/");
	else
		*slash = '\0';
}

static Entry *
find_entry(EntryList *list, const char *path)
{
	size_t		i;

	for (i = 0; i < list->n; i++)
		if (strcmp(list->entries[i].path, path) == 0)
			return &list->entries[i];
	return NULL;
}

/* node NULL removes. */
static void
set_entry(EntryList *list, const char *path, Node *node)
{
	Entry	   *entry = find_entry(list, path);

	if (node == NULL)
	{
		if (entry != NULL)
			*entry = list->entries[--list->n];
		return;
	}
	if (entry == NULL)
	{
		if (list->n == list->allocated)
		{
			list->allocated = list->allocated * 2 + 8;
			list->entries = check_memory(realloc(list->entries,
												 list->allocated * sizeof(Entry)));
		}
		entry = &list->entries[list->n++];
		strcpy(entry->path, path);
	}
	entry->node = node;
}

static void
apply_change(EntryList *list, const Change *change)
{
	if (change->from.path[0] != '\0')
		set_entry(list, change->from.path, NULL);
	if (change->to.path[0] != '\0')
		set_entry(list, change->to.path, change->to.node);
}

/* Changes the current entries at once, the durable ones later. */
static void
note_change(FaultyDisk *disk, const char *from, const char *to, Node *node)
{
	Change	   *change;

	if (disk->n_changes == disk->changes_allocated)
	{
		disk->changes_allocated = disk->changes_allocated * 2 + 8;
		disk->changes = check_memory(realloc(disk->changes,
											 disk->changes_allocated * sizeof(Change)));
	}
	change = &disk->changes[disk->n_changes++];
	memset(change, 0, sizeof(*change));
	strcpy(change->from.path, from);
	strcpy(change->to.path, to);
	change->to.node = node;
	apply_change(&disk->current, change);
}

static Node *
new_node(FaultyDisk *disk, bool directory)
{
	Node	   *node = check_memory(calloc(1, sizeof(Node)));

	node->inode = ++disk->next_inode;
	node->directory = directory;
	node->next = disk->nodes;
	disk->nodes = node;
	return node;
}

/* New bytes are zero and, as sectors, dirty. */
static void
resize_node(Node *node, size_t size)
{
	size_t		sector;

	if (size > node->allocated)
	{
		size_t		target = (Max(size, node->allocated * 2) + SECTOR - 1) /
			SECTOR * SECTOR;

		node->cached = check_memory(realloc(node->cached, target));
		node->durable = check_memory(realloc(node->durable, target));
		node->dirty = check_memory(realloc(node->dirty, target / SECTOR));
		memset(node->cached + node->allocated, 0, target - node->allocated);
		memset(node->durable + node->allocated, 0, target - node->allocated);
		memset(node->dirty + node->allocated / SECTOR, 0,
			   (target - node->allocated) / SECTOR);
		node->allocated = target;
	}
	if (size < node->size)
	{
		memset(node->cached + size, 0, node->size - size);
		for (sector = size / SECTOR; sector * SECTOR < node->size; sector++)
			node->dirty[sector] = 1;
	}
	node->size = size;
}

/* Copies dirty sectors to the medium, each with that chance; 8 = all. */
static void
write_back(FaultyDisk *disk, Node *node, unsigned long keep_in_8)
{
	size_t		sector;

	for (sector = 0; sector < node->allocated / SECTOR; sector++)
		if (node->dirty[sector] && (keep_in_8 >= 8 || draw(disk, 8) < keep_in_8))
		{
			memcpy(node->durable + sector * SECTOR,
				   node->cached + sector * SECTOR, SECTOR);
			node->dirty[sector] = 0;
		}
}

static void
mark_list(EntryList *list)
{
	size_t		i;

	for (i = 0; i < list->n; i++)
		list->entries[i].node->marked = true;
}

/* Frees files that nothing refers to any more. */
static void
collect_garbage(FaultyDisk *disk)
{
	Node	  **link = &disk->nodes;
	size_t		i;

	mark_list(&disk->current);
	mark_list(&disk->durable);
	for (i = 0; i < disk->n_changes; i++)
		if (disk->changes[i].to.node != NULL)
			disk->changes[i].to.node->marked = true;
	for (i = 0; i < disk->n_descriptors; i++)
		if (disk->descriptors[i].node != NULL)
			disk->descriptors[i].node->marked = true;
	while (*link != NULL)
	{
		Node	   *node = *link;

		if (node->marked)
		{
			node->marked = false;
			link = &node->next;
			continue;
		}
		*link = node->next;
		free(node->cached);
		free(node->durable);
		free(node->dirty);
		free(node);
	}
}

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
	collect_garbage(disk);
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
	normalize(name, path);
	entry = find_entry(&disk->current, name);
	if (entry == NULL && (flags & O_CREAT) == 0)
	{
		errno = ENOENT;
		return -1;
	}
	if (entry == NULL)
	{
		parent_of(parent, name);
		if (find_entry(&disk->current, parent) == NULL)
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
		node = new_node(disk, false);
		note_change(disk, "", name, node);
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
			resize_node(node, 0);
			if (end_call(last) < 0)
				return -1;
		}
	}
	while (fd < disk->n_descriptors && disk->descriptors[fd].node != NULL)
		fd++;
	if (fd == disk->n_descriptors)
		disk->descriptors = check_memory(realloc(disk->descriptors,
												 ++disk->n_descriptors * sizeof(Descriptor)));
	disk->descriptors[fd].node = node;
	disk->descriptors[fd].locked = false;
	strcpy(disk->descriptors[fd].path, name);
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
		size_t		some = draw(disk, n / SECTOR + 2) * SECTOR;

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
			resize_node(node, end);
		memcpy(node->cached + offset, buffer, n);
		for (sector = (size_t) offset / SECTOR; sector * SECTOR < end; sector++)
			node->dirty[sector] = 1;
		if (draw(disk, WRITE_BACK_ONE_IN) == 0)
			write_back(disk, node, 4);
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
		write_back(disk, node, draw(disk, 9));
		return end_call(last);
	}
	write_back(disk, node, 8);
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

		parent_of(parent, change->to.path[0] != '\0' ? change->to.path :
				  change->from.path);
		if (strcmp(parent, path) == 0)
			apply_change(&disk->durable, change);
		else
			disk->changes[kept++] = *change;
	}
	disk->n_changes = kept;
	collect_garbage(disk);
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
	resize_node(node, (size_t) length);
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

	normalize(old_name, from);
	normalize(new_name, to);
	entry = find_entry(&disk->current, old_name);
	if (entry == NULL)
	{
		errno = ENOENT;
		return -1;
	}
	if (begin_call(disk, FAULTY_RENAME, &last) < 0)
		return -1;
	note_change(disk, old_name, new_name, entry->node);
	return end_call(last);
}

static int
faulty_unlink(PgraftIo *io, const char *path)
{
	FaultyDisk *disk = io->context;
	char		name[PATH_BYTES];
	bool		last;

	normalize(name, path);
	if (find_entry(&disk->current, name) == NULL)
	{
		errno = disk->crashed ? EIO : ENOENT;
		return -1;
	}
	if (begin_call(disk, FAULTY_UNLINK, &last) < 0)
		return -1;
	note_change(disk, name, "", NULL);
	return end_call(last);
}

static int
faulty_mkdir(PgraftIo *io, const char *path)
{
	FaultyDisk *disk = io->context;
	char		name[PATH_BYTES];
	bool		last;

	normalize(name, path);
	if (find_entry(&disk->current, name) != NULL)
	{
		errno = EEXIST;
		return -1;
	}
	if (begin_call(disk, FAULTY_MKDIR, &last) < 0)
		return -1;
	note_change(disk, "", name, new_node(disk, true));
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

	normalize(name, path);
	if (disk->crashed || find_entry(&disk->current, name) == NULL)
	{
		errno = disk->crashed ? EIO : ENOENT;
		return -1;
	}
	for (i = 0; i < disk->current.n; i++)
	{
		const char *entry = disk->current.entries[i].path;

		parent_of(parent, entry);
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

	normalize(name, path);
	entry = find_entry(&disk->current, name);
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

/* ----------------------------------------------------------------
 * Life
 * ----------------------------------------------------------------
 */
FaultyDisk *
faulty_disk_create(unsigned long seed)
{
	FaultyDisk *disk = check_memory(calloc(1, sizeof(FaultyDisk)));

	faulty_disk_reseed(disk, seed);
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
	set_entry(&disk->current, "/", new_node(disk, true));
	set_entry(&disk->durable, "/", disk->nodes);
	return disk;
}

static void
copy_list(EntryList *to, const EntryList *from, FaultyDisk *disk)
{
	size_t		i;

	for (i = 0; i < from->n; i++)
	{
		Node	   *node = disk->nodes;

		while (node->inode != from->entries[i].node->inode)
			node = node->next;
		set_entry(to, from->entries[i].path, node);
	}
}

FaultyDisk *
faulty_disk_copy(const FaultyDisk *from)
{
	FaultyDisk *disk = check_memory(calloc(1, sizeof(FaultyDisk)));
	const Node *node;
	size_t		i;

	*disk = *from;
	disk->io.context = disk;
	disk->nodes = NULL;
	memset(&disk->current, 0, sizeof(disk->current));
	memset(&disk->durable, 0, sizeof(disk->durable));
	disk->changes = NULL;
	disk->n_changes = disk->changes_allocated = 0;
	disk->descriptors = NULL;
	disk->n_descriptors = 0;
	for (node = from->nodes; node != NULL; node = node->next)
	{
		Node	   *copy = new_node(disk, node->directory);

		copy->inode = node->inode;
		resize_node(copy, node->allocated);
		if (node->allocated > 0)
		{
			memcpy(copy->cached, node->cached, node->allocated);
			memcpy(copy->durable, node->durable, node->allocated);
			memcpy(copy->dirty, node->dirty, node->allocated / SECTOR);
		}
		copy->size = node->size;
		copy->durable_size = node->durable_size;
	}
	disk->next_inode = from->next_inode;
	copy_list(&disk->current, &from->current, disk);
	copy_list(&disk->durable, &from->durable, disk);
	for (i = 0; i < from->n_changes; i++)
	{
		const Change *change = &from->changes[i];
		Node	   *target = NULL;

		if (change->to.node != NULL)
			for (target = disk->nodes; target->inode != change->to.node->inode;)
				target = target->next;
		note_change(disk, change->from.path, change->to.path, target);
	}
	return disk;
}

void
faulty_disk_destroy(FaultyDisk *disk)
{
	disk->current.n = disk->durable.n = 0;
	disk->n_changes = disk->n_descriptors = 0;
	collect_garbage(disk);
	free(disk->current.entries);
	free(disk->durable.entries);
	free(disk->changes);
	free(disk->descriptors);
	free(disk);
}

PgraftIo *
faulty_disk_io(FaultyDisk *disk)
{
	return &disk->io;
}

void
faulty_disk_reseed(FaultyDisk *disk, unsigned long seed)
{
	disk->random = seed * 0x9E3779B97F4A7C15UL + 0x1234567;
	if (disk->random == 0)
		disk->random = 1;
}

/* ----------------------------------------------------------------
 * Faults
 * ----------------------------------------------------------------
 */
void
faulty_disk_crash_at(FaultyDisk *disk, unsigned long n)
{
	disk->crash_in = n;
}

int
faulty_disk_crashed(const FaultyDisk *disk)
{
	return disk->crashed;
}

static void
lose_unsynced(FaultyDisk *disk, bool all)
{
	unsigned long keep_in_8 = all ? 0 : draw(disk, 9);
	Node	   *node;
	size_t		i;

	for (node = disk->nodes; node != NULL; node = node->next)
	{
		bool		keep_size = keep_in_8 == 8 ||
			(keep_in_8 > 0 && draw(disk, 8) < keep_in_8);

		if (keep_in_8 > 0 && node->allocated > 0)
			write_back(disk, node, keep_in_8);
		if (keep_size)
			node->durable_size = node->size;
		node->size = node->durable_size;
		if (node->allocated > 0)
		{
			/* beyond the end nothing is remembered */
			memset(node->durable + node->size, 0, node->allocated - node->size);
			memcpy(node->cached, node->durable, node->allocated);
			memset(node->dirty, 0, node->allocated / SECTOR);
		}
	}
	for (i = 0; i < disk->n_changes; i++)
		if (keep_in_8 == 8 || (keep_in_8 > 0 && draw(disk, 8) < keep_in_8))
			apply_change(&disk->durable, &disk->changes[i]);
	disk->n_changes = 0;

	/* a file is nowhere when its directory is not there */
	for (i = 0; i < disk->durable.n;)
	{
		char		parent[PATH_BYTES];

		parent_of(parent, disk->durable.entries[i].path);
		if (find_entry(&disk->durable, parent) == NULL)
			disk->durable.entries[i] = disk->durable.entries[--disk->durable.n];
		else
			i++;
	}
	disk->current.n = 0;
	for (i = 0; i < disk->durable.n; i++)
		set_entry(&disk->current, disk->durable.entries[i].path,
				  disk->durable.entries[i].node);
}

void
faulty_disk_restart(FaultyDisk *disk, FaultyCrash crash)
{
	size_t		i;

	for (i = 0; i < disk->n_descriptors; i++)
		disk->descriptors[i].node = NULL;
	disk->crashed = false;
	disk->crash_in = 0;
	disk->fail_in = 0;
	if (crash != FAULTY_KILL)
		lose_unsynced(disk, crash == FAULTY_POWER_LOSS_ALL);
	collect_garbage(disk);
}

void
faulty_disk_fail_at(FaultyDisk *disk, unsigned int calls, unsigned long n,
					int failure)
{
	disk->fail_calls = calls;
	disk->fail_in = n;
	disk->fail_errno = failure;
	disk->fired = false;
}

int
faulty_disk_fault_fired(const FaultyDisk *disk)
{
	return disk->fired;
}

void
faulty_disk_set_capacity(FaultyDisk *disk, size_t bytes)
{
	disk->capacity = bytes;
}

int
faulty_disk_flip(FaultyDisk *disk, const char *path, size_t offset,
				 unsigned char mask)
{
	Entry	   *entry = find_entry(&disk->current, path);

	if (entry == NULL || offset >= entry->node->size)
		return -1;
	entry->node->cached[offset] ^= mask;
	entry->node->durable[offset] ^= mask;
	return 0;
}

int
faulty_disk_cut(FaultyDisk *disk, const char *path, size_t length)
{
	Entry	   *entry = find_entry(&disk->current, path);

	if (entry == NULL || length > entry->node->size)
		return -1;
	resize_node(entry->node, length);
	write_back(disk, entry->node, 8);
	entry->node->durable_size = length;
	return 0;
}

int
faulty_disk_zero(FaultyDisk *disk, const char *path, size_t from, size_t to)
{
	Entry	   *entry = find_entry(&disk->current, path);

	if (entry == NULL || from > to || to > entry->node->size)
		return -1;
	memset(entry->node->cached + from, 0, to - from);
	memset(entry->node->durable + from, 0, to - from);
	return 0;
}

int
faulty_disk_put(FaultyDisk *disk, const char *path, const unsigned char *data,
				size_t length)
{
	Entry	   *entry = find_entry(&disk->current, path);
	Node	   *node = entry != NULL ? entry->node : new_node(disk, false);

	resize_node(node, length);
	memcpy(node->cached, data, length);
	memcpy(node->durable, data, length);
	node->durable_size = length;
	set_entry(&disk->current, path, node);
	set_entry(&disk->durable, path, node);
	return 0;
}

int
faulty_disk_remove(FaultyDisk *disk, const char *path)
{
	if (find_entry(&disk->current, path) == NULL)
		return -1;
	set_entry(&disk->current, path, NULL);
	set_entry(&disk->durable, path, NULL);
	return 0;
}

/* ----------------------------------------------------------------
 * Looking in
 * ----------------------------------------------------------------
 */
const unsigned char *
faulty_disk_data(const FaultyDisk *disk, const char *path, size_t *length)
{
	size_t		i;

	for (i = 0; i < disk->current.n; i++)
		if (strcmp(disk->current.entries[i].path, path) == 0)
		{
			*length = disk->current.entries[i].node->size;
			return disk->current.entries[i].node->cached;
		}
	return NULL;
}

unsigned long
faulty_disk_calls(const FaultyDisk *disk, unsigned int calls)
{
	unsigned long sum = 0;
	int			bit;

	for (bit = 0; bit < N_CALLS; bit++)
		if ((calls & (1U << bit)) != 0)
			sum += disk->counts[bit];
	return sum;
}

int
faulty_disk_open_files(const FaultyDisk *disk)
{
	int			n = 0;
	size_t		i;

	for (i = 0; i < disk->n_descriptors; i++)
		n += disk->descriptors[i].node != NULL;
	return n;
}
