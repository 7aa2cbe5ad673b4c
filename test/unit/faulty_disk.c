/*-------------------------------------------------------------------------
 *
 * faulty_disk.c
 *	  What the disk of faulty_io.h holds, loses and shows.
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
 *	  test/unit/faulty_disk.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "faulty_internal.h"

static void mark_list(EntryList *list);
static void copy_list(EntryList *to, const EntryList *from, FaultyDisk *disk);
static void lose_unsynced(FaultyDisk *disk, bool all);

/* ----------------------------------------------------------------
 * Small things
 * ----------------------------------------------------------------
 */

/* A test that has no memory has no result. */
void *
faulty_check_memory(void *pointer)
{
	if (pointer == NULL)
		abort();
	return pointer;
}

/* xorshift64* */
unsigned long
faulty_draw(FaultyDisk *disk, unsigned long limit)
{
	disk->random ^= disk->random >> 12;
	disk->random ^= disk->random << 25;
	disk->random ^= disk->random >> 27;
	return (disk->random * 0x2545F4914F6CDD1DUL >> 33) % limit;
}

void
faulty_normalize(char *to, const char *path)
{
	snprintf(to, PATH_BYTES, "%s", path);
	while (strlen(to) > 1 && to[strlen(to) - 1] == '/')
		to[strlen(to) - 1] = '\0';
}

void
faulty_parent_of(char *to, const char *path)
{
	char	   *slash;

	faulty_normalize(to, path);
	slash = strrchr(to, '/');
	if (slash == NULL)
		strlcpy(to, ".", PATH_BYTES);
	else if (slash == to)
		strlcpy(to, "/", PATH_BYTES);
	else
		*slash = '\0';
}

Entry *
faulty_find_entry(EntryList *list, const char *path)
{
	size_t		i;

	for (i = 0; i < list->n; i++)
		if (strcmp(list->entries[i].path, path) == 0)
			return &list->entries[i];
	return NULL;
}

/* node NULL removes. */
void
faulty_set_entry(EntryList *list, const char *path, Node *node)
{
	Entry	   *entry = faulty_find_entry(list, path);

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
			list->entries = faulty_check_memory(realloc(list->entries,
												 list->allocated * sizeof(Entry)));
		}
		entry = &list->entries[list->n++];
		strlcpy(entry->path, path, PATH_BYTES);
	}
	entry->node = node;
}

void
faulty_apply_change(EntryList *list, const Change *change)
{
	if (change->from.path[0] != '\0')
		faulty_set_entry(list, change->from.path, NULL);
	if (change->to.path[0] != '\0')
		faulty_set_entry(list, change->to.path, change->to.node);
}

/* Changes the current entries at once, the durable ones later. */
void
faulty_note_change(FaultyDisk *disk, const char *from, const char *to, Node *node)
{
	Change	   *change;

	if (disk->n_changes == disk->changes_allocated)
	{
		disk->changes_allocated = disk->changes_allocated * 2 + 8;
		disk->changes = faulty_check_memory(realloc(disk->changes,
											 disk->changes_allocated * sizeof(Change)));
	}
	change = &disk->changes[disk->n_changes++];
	memset(change, 0, sizeof(*change));
	strlcpy(change->from.path, from, PATH_BYTES);
	strlcpy(change->to.path, to, PATH_BYTES);
	change->to.node = node;
	faulty_apply_change(&disk->current, change);
}

Node *
faulty_new_node(FaultyDisk *disk, bool directory)
{
	Node	   *node = faulty_check_memory(calloc(1, sizeof(Node)));

	node->inode = ++disk->next_inode;
	node->directory = directory;
	node->next = disk->nodes;
	disk->nodes = node;
	return node;
}

/* New bytes are zero and, as sectors, dirty. */
void
faulty_resize_node(Node *node, size_t size)
{
	size_t		sector;

	if (size > node->allocated)
	{
		size_t		target = (Max(size, node->allocated * 2) + SECTOR - 1) /
			SECTOR * SECTOR;

		node->cached = faulty_check_memory(realloc(node->cached, target));
		node->durable = faulty_check_memory(realloc(node->durable, target));
		node->dirty = faulty_check_memory(realloc(node->dirty, target / SECTOR));
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
void
faulty_write_back(FaultyDisk *disk, Node *node, unsigned long keep_in_8)
{
	size_t		sector;

	for (sector = 0; sector < node->allocated / SECTOR; sector++)
		if (node->dirty[sector] && (keep_in_8 >= 8 || faulty_draw(disk, 8) < keep_in_8))
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
void
faulty_collect_garbage(FaultyDisk *disk)
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

/* ----------------------------------------------------------------
 * Life
 * ----------------------------------------------------------------
 */
FaultyDisk *
faulty_disk_create(unsigned long seed)
{
	FaultyDisk *disk = faulty_check_memory(calloc(1, sizeof(FaultyDisk)));

	faulty_disk_reseed(disk, seed);
	faulty_io_init(disk);
	faulty_set_entry(&disk->current, "/", faulty_new_node(disk, true));
	faulty_set_entry(&disk->durable, "/", disk->nodes);
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
		faulty_set_entry(to, from->entries[i].path, node);
	}
}

FaultyDisk *
faulty_disk_copy(const FaultyDisk *from)
{
	FaultyDisk *disk = faulty_check_memory(calloc(1, sizeof(FaultyDisk)));
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
		Node	   *copy = faulty_new_node(disk, node->directory);

		copy->inode = node->inode;
		faulty_resize_node(copy, node->allocated);
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
		faulty_note_change(disk, change->from.path, change->to.path, target);
	}
	return disk;
}

void
faulty_disk_destroy(FaultyDisk *disk)
{
	disk->current.n = disk->durable.n = 0;
	disk->n_changes = disk->n_descriptors = 0;
	faulty_collect_garbage(disk);
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

void
faulty_disk_crash(FaultyDisk *disk)
{
	disk->crashed = true;
}

int
faulty_disk_crashed(const FaultyDisk *disk)
{
	return disk->crashed;
}

static void
lose_unsynced(FaultyDisk *disk, bool all)
{
	unsigned long keep_in_8 = all ? 0 : faulty_draw(disk, 9);
	Node	   *node;
	size_t		i;

	for (node = disk->nodes; node != NULL; node = node->next)
	{
		bool		keep_size = keep_in_8 == 8 ||
			(keep_in_8 > 0 && faulty_draw(disk, 8) < keep_in_8);

		if (keep_in_8 > 0 && node->allocated > 0)
			faulty_write_back(disk, node, keep_in_8);
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
		if (keep_in_8 == 8 || (keep_in_8 > 0 && faulty_draw(disk, 8) < keep_in_8))
			faulty_apply_change(&disk->durable, &disk->changes[i]);
	disk->n_changes = 0;

	/* a file is nowhere when its directory is not there */
	for (i = 0; i < disk->durable.n;)
	{
		char		parent[PATH_BYTES];

		faulty_parent_of(parent, disk->durable.entries[i].path);
		if (faulty_find_entry(&disk->durable, parent) == NULL)
			disk->durable.entries[i] = disk->durable.entries[--disk->durable.n];
		else
			i++;
	}
	disk->current.n = 0;
	for (i = 0; i < disk->durable.n; i++)
		faulty_set_entry(&disk->current, disk->durable.entries[i].path,
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
	faulty_collect_garbage(disk);
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
	Entry	   *entry = faulty_find_entry(&disk->current, path);

	if (entry == NULL || offset >= entry->node->size)
		return -1;
	entry->node->cached[offset] ^= mask;
	entry->node->durable[offset] ^= mask;
	return 0;
}

int
faulty_disk_cut(FaultyDisk *disk, const char *path, size_t length)
{
	Entry	   *entry = faulty_find_entry(&disk->current, path);

	if (entry == NULL || length > entry->node->size)
		return -1;
	faulty_resize_node(entry->node, length);
	faulty_write_back(disk, entry->node, 8);
	entry->node->durable_size = length;
	return 0;
}

int
faulty_disk_zero(FaultyDisk *disk, const char *path, size_t from, size_t to)
{
	Entry	   *entry = faulty_find_entry(&disk->current, path);

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
	Entry	   *entry = faulty_find_entry(&disk->current, path);
	Node	   *node = entry != NULL ? entry->node : faulty_new_node(disk, false);

	faulty_resize_node(node, length);
	if (length > 0)
	{
		memcpy(node->cached, data, length);
		memcpy(node->durable, data, length);
	}
	node->durable_size = length;
	faulty_set_entry(&disk->current, path, node);
	faulty_set_entry(&disk->durable, path, node);
	return 0;
}

int
faulty_disk_remove(FaultyDisk *disk, const char *path)
{
	if (faulty_find_entry(&disk->current, path) == NULL)
		return -1;
	faulty_set_entry(&disk->current, path, NULL);
	faulty_set_entry(&disk->durable, path, NULL);
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
			const Node *node = disk->current.entries[i].node;

			*length = node->size;
			return node->cached != NULL ? node->cached : (const unsigned char *) "";
		}
	return NULL;
}

unsigned long
faulty_disk_calls(const FaultyDisk *disk, unsigned int calls)
{
	unsigned long sum = 0;
	int			bit;

	for (bit = 0; bit < FAULTY_CALLS; bit++)
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
