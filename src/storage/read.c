/*-------------------------------------------------------------------------
 *
 * read.c
 *	  Reading entries and snapshot bytes back for the engine.
 *
 * Loop half.  Reads only what was completed, through descriptors of its own,
 * so it never meets the flush thread.  Everything is checked against its CRC
 * again: what a disk returns now need not be what recovery saw.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/read.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <fcntl.h>

#include "internal.h"

#define READ_AHEAD_BYTES 65536
#define MAX_PAYLOAD_BYTES (4 * 1024 * 1024) /* of one call, but for the first entry */

/* One call of read_entries in progress. */
typedef struct EntryRead
{
	PgraftStorage *storage;
	const PgraftReadSegment *segment;
	size_t		offset;			/* of the batch to read next */
	size_t		window_start;	/* file offset of window[0] */
	size_t		window_length;
	raft_index	want;			/* next entry */
	raft_index	limit;			/* last one in the present point's range */
	size_t		max_entries;
	size_t		max_bytes;
	size_t		used;			/* of read_buffer */
	size_t		capacity;
	struct raft_entry *entries;
	size_t		n;
	bool		full;
} EntryRead;

static size_t find_point(const PgraftStorage *storage, raft_index index);
static const PgraftReadSegment *find_segment(const PgraftStorage *storage,
											 raft_u64 sequence);
static int	open_segment(PgraftStorage *storage, const PgraftReadSegment *segment);
static int	fill_window(EntryRead *read, size_t bytes);
static int	read_batch(EntryRead *read, const unsigned char **payload,
					   size_t *length);
static int	take_entry(EntryRead *read, const struct raft_entry *entry);
static int	read_range(EntryRead *read);

/* The last point with first <= index; I2 of index.c.  n_points = none. */
static size_t
find_point(const PgraftStorage *storage, raft_index index)
{
	size_t		low = 0;
	size_t		high = storage->n_points;

	while (low < high)
	{
		size_t		middle = low + (high - low) / 2;

		if (storage->points[middle].first <= index)
			low = middle + 1;
		else
			high = middle;
	}
	return low == 0 ? storage->n_points : low - 1;
}

static const PgraftReadSegment *
find_segment(const PgraftStorage *storage, raft_u64 sequence)
{
	raft_u64	position;

	if (storage->n_segments == 0 || sequence < storage->segments[0].sequence)
		return NULL;
	position = sequence - storage->segments[0].sequence;
	if (position >= storage->n_segments ||
		storage->segments[position].sequence != sequence)
		return NULL;
	return &storage->segments[position];
}

static int
open_segment(PgraftStorage *storage, const PgraftReadSegment *segment)
{
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];

	if (storage->read_fd >= 0 && storage->read_sequence == segment->sequence)
		return RAFT_OK;
	if (storage->read_fd >= 0)
		storage->io->close(storage->io, storage->read_fd);
	pgraft_segment_name(name, segment->slot);
	pgraft_path(path, storage->directory, name);
	storage->read_fd = storage->io->open(storage->io, path, O_RDONLY);
	storage->read_sequence = segment->sequence;
	return storage->read_fd >= 0 ? RAFT_OK : RAFT_E_IO;
}

/* Makes the window hold `bytes` bytes from read->offset on. */
static int
fill_window(EntryRead *read, size_t bytes)
{
	PgraftStorage *storage = read->storage;
	PgraftErrorCode code;

	if (read->offset >= read->window_start &&
		read->offset + bytes <= read->window_start + read->window_length)
		return RAFT_OK;
	if (read->offset + bytes > read->segment->used)
		return RAFT_E_CORRUPT;
	bytes = Min(Max(bytes, READ_AHEAD_BYTES), read->segment->used - read->offset);
	if (!pgraft_grow((void **) &storage->window, &storage->window_allocated,
					 bytes, 1))
		return RAFT_E_NOMEM;
	code = pgraft_read_at(storage->io, storage->read_fd, "", storage->window,
						  bytes, (off_t) read->offset, NULL);
	if (code != PGRAFT_OK)
	{
		read->window_length = 0;
		return code == PGRAFT_ERR_CORRUPT ? RAFT_E_CORRUPT : RAFT_E_IO;
	}
	read->window_start = read->offset;
	read->window_length = bytes;
	return RAFT_OK;
}

/* Reads and checks the batch at read->offset and moves behind it. */
static int
read_batch(EntryRead *read, const unsigned char **payload, size_t *length)
{
	PgraftBatchHeader header;
	const char *reason;
	const unsigned char *p;
	int			result;

	result = fill_window(read, PGRAFT_BATCH_HEADER_BYTES);
	if (result != RAFT_OK)
		return result;
	p = read->storage->window + (read->offset - read->window_start);
	if (!pgraft_batch_decode(p, &header, &reason) || header.mark ||
		header.salt != read->segment->salt)
		return RAFT_E_CORRUPT;
	result = fill_window(read, PGRAFT_BATCH_HEADER_BYTES + header.length);
	if (result != RAFT_OK)
		return result;
	p = read->storage->window + (read->offset - read->window_start) +
		PGRAFT_BATCH_HEADER_BYTES;
	if (header.payload_crc != pgraft_crc32c(p, header.length))
		return RAFT_E_CORRUPT;
	*payload = p;
	*length = header.length;
	read->offset += PGRAFT_BATCH_HEADER_BYTES + header.length;
	return RAFT_OK;
}

/* Copies an entry out, or sets read->full. */
static int
take_entry(EntryRead *read, const struct raft_entry *entry)
{
	PgraftStorage *storage = read->storage;
	struct raft_entry *copy = &read->entries[read->n];

	if (read->n == 0)
	{
		/* later ones fit in here or are not taken, so it never moves */
		read->capacity = Max(read->max_bytes, entry->length);
		if (!pgraft_grow((void **) &storage->read_buffer,
						 &storage->read_allocated, read->capacity + 1, 1))
			return RAFT_E_NOMEM;
	}
	else if (entry->length > read->capacity - read->used ||
			 read->used + entry->length > read->max_bytes)
	{
		read->full = true;
		return RAFT_OK;
	}
	*copy = *entry;
	if (entry->length > 0)
	{
		memcpy(storage->read_buffer + read->used, entry->data, entry->length);
		copy->data = storage->read_buffer + read->used;
	}
	read->used += entry->length;
	read->n++;
	read->want++;
	read->full = read->n >= read->max_entries;
	return RAFT_OK;
}

/* Takes entries from read->want to read->limit out of one point's range. */
static int
read_range(EntryRead *read)
{
	const unsigned char *payload;
	size_t		length;
	PgraftRecord record;
	const char *reason;

	while (!read->full && read->want <= read->limit)
	{
		size_t		offset = 0;
		int			result = read_batch(read, &payload, &length);
		int			more;

		if (result != RAFT_OK)
			return result;
		while (!read->full && read->want <= read->limit &&
			   (more = pgraft_record_next(payload, length, &offset, &record,
										  &reason)) != 0)
		{
			if (more < 0)
				return RAFT_E_CORRUPT;
			if (record.kind != PGRAFT_RECORD_ENTRY ||
				record.entry.index < read->want)
				continue;
			if (record.entry.index > read->want)
				return RAFT_E_CORRUPT;
			result = take_entry(read, &record.entry);
			if (result != RAFT_OK)
				return result;
		}
	}
	return RAFT_OK;
}

int
pgraft_storage_read_entries(void *arg, raft_index first, size_t max_entries,
							size_t max_bytes, struct raft_entry *entries,
							size_t *n_read)
{
	PgraftStorage *storage = arg;
	EntryRead	read;
	int			result = RAFT_OK;

	*n_read = 0;
	if (first < storage->first_index)
		return RAFT_E_COMPACTED;
	if (first > storage->completed_last)
		return RAFT_E_UNAVAILABLE;
	if (max_entries == 0)
		return RAFT_E_INVALID;
	memset(&read, 0, sizeof(read));
	read.storage = storage;
	read.want = first;
	read.max_entries = max_entries;
	read.max_bytes = Min(max_bytes, MAX_PAYLOAD_BYTES);
	read.entries = entries;
	while (result == RAFT_OK && !read.full && read.want <= storage->completed_last)
	{
		size_t		i = find_point(storage, read.want);

		if (i == storage->n_points)
			return RAFT_E_CORRUPT;
		read.segment = find_segment(storage, storage->points[i].sequence);
		if (read.segment == NULL)
			return RAFT_E_CORRUPT;
		read.offset = storage->points[i].offset;
		read.window_length = 0;
		read.limit = i + 1 < storage->n_points ?
			storage->points[i + 1].first - 1 : storage->completed_last;
		result = open_segment(storage, read.segment);
		if (result == RAFT_OK)
			result = read_range(&read);
	}

	/* what was read before the failure is good; the next call meets it */
	if (read.n > 0)
		result = RAFT_OK;
	*n_read = read.n;
	return result;
}

/* ----------------------------------------------------------------
 * Snapshots
 * ----------------------------------------------------------------
 */

/*
 * Reads whole blocks, so that each can be checked before a byte of it leaves.
 */
int
pgraft_storage_read_snapshot(void *arg, raft_index index, raft_u64 offset,
							 size_t max_bytes, const unsigned char **data,
							 size_t *n_read, raft_u64 *total)
{
	PgraftStorage *storage = arg;
	PgraftSnapshotReader *reader = &storage->snapshot;
	raft_u64	start;
	size_t		n;
	size_t		length;
	size_t		done;
	PgraftErrorCode code;

	if (reader->index == 0 || reader->index != index)
		return RAFT_E_COMPACTED;
	if (reader->fd < 0)
	{
		code = pgraft_snapshot_reader_open(storage->io, storage->directory,
										   reader, NULL);
		if (code != PGRAFT_OK)
		{
			pgraft_snapshot_reader_close(storage->io, reader);
			return code == PGRAFT_ERR_CORRUPT ? RAFT_E_CORRUPT :
				code == PGRAFT_ERR_NOMEM ? RAFT_E_NOMEM : RAFT_E_IO;
		}
	}
	if (offset > reader->length)
		return RAFT_E_INVALID;
	start = offset - offset % PGRAFT_SNAPSHOT_BLOCK_BYTES;
	n = Min(max_bytes, reader->length - offset);
	length = (size_t) (offset - start) + n;
	length = (length + PGRAFT_SNAPSHOT_BLOCK_BYTES - 1) /
		PGRAFT_SNAPSHOT_BLOCK_BYTES * PGRAFT_SNAPSHOT_BLOCK_BYTES;
	length = Min(length, reader->length - start);
	if (!pgraft_grow((void **) &reader->buffer, &reader->buffer_allocated,
					 length + 1, 1))
		return RAFT_E_NOMEM;
	code = pgraft_read_at(storage->io, reader->fd, "", reader->buffer, length,
						  (off_t) (reader->data_offset + start), NULL);
	if (code != PGRAFT_OK)
		return code == PGRAFT_ERR_CORRUPT ? RAFT_E_CORRUPT : RAFT_E_IO;
	for (done = 0; done < length; done += PGRAFT_SNAPSHOT_BLOCK_BYTES)
		if (pgraft_crc32c(reader->buffer + done,
						  Min(length - done, PGRAFT_SNAPSHOT_BLOCK_BYTES)) !=
			reader->table[(start + done) / PGRAFT_SNAPSHOT_BLOCK_BYTES])
			return RAFT_E_CORRUPT;
	*data = reader->buffer + (offset - start);
	*n_read = n;
	*total = reader->length;
	return RAFT_OK;
}

PgraftErrorCode
pgraft_storage_load_snapshot(PgraftStorage *storage, struct raft_snapshot_meta *meta,
							 int (*consume) (void *arg, const unsigned char *data,
											 size_t length),
							 void *arg, PgraftError *error)
{
	PgraftSnapshotReader reader;
	raft_u64	offset = 0;
	unsigned char *block = NULL;
	PgraftErrorCode code;

	if (storage->snapshot.index == 0)
		return pgraft_error(error, PGRAFT_ERR_NOT_FOUND, "there is no snapshot");
	memset(&reader, 0, sizeof(reader));
	reader.index = storage->snapshot.index;
	reader.term = storage->snapshot.term;
	code = pgraft_snapshot_reader_open(storage->io, storage->directory, &reader, error);
	if (code == PGRAFT_OK)
		code = pgraft_snapshot_verify(storage->io, storage->directory, &reader, error);
	if (code == PGRAFT_OK)
	{
		*meta = *reader.meta;
		block = malloc(PGRAFT_SNAPSHOT_BLOCK_BYTES);
		if (block == NULL)
			code = pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	}
	while (code == PGRAFT_OK && offset < reader.length)
	{
		size_t		n = Min(reader.length - offset, PGRAFT_SNAPSHOT_BLOCK_BYTES);

		code = pgraft_read_at(storage->io, reader.fd, "", block, n,
							  (off_t) (reader.data_offset + offset), error);
		if (code == PGRAFT_OK && consume(arg, block, n) != 0)
			code = pgraft_error(error, PGRAFT_ERR_CORRUPT,
								"snapshot %lu was refused by its reader",
								reader.index);
		offset += n;
	}
	free(block);
	pgraft_snapshot_reader_close(storage->io, &reader);
	return code;
}
