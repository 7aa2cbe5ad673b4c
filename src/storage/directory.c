/*-------------------------------------------------------------------------
 *
 * directory.c
 *	  What is in a storage directory: names, segment headers in order, and the
 *	  verdict on where the log ends.
 *
 * Read-only.  Called by recovery and by the offline reader, so that both judge
 * a damaged log by the same rules (written down in format.c).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/directory.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <fcntl.h>

#include "internal.h"

static void remember_name(void *arg, const char *name);
static bool parse_hex(const char *p, int digits, raft_u64 *value);
static int	compare_segments(const void *a, const void *b);
static PgraftErrorCode read_segment_header(PgraftIo *io, const char *directory,
										   const char *name, raft_u64 member_uid,
										   PgraftSegment *segment,
										   PgraftHeaderKind *kind,
										   PgraftError *error);
static PgraftErrorCode order_segments(PgraftSegmentList *list, PgraftError *error);

/* ----------------------------------------------------------------
 * Names
 * ----------------------------------------------------------------
 */
void
pgraft_segment_name(char *name, uint32 slot)
{
	snprintf(name, PGRAFT_NAME_BYTES, "log-%08x", slot);
}

void
pgraft_snapshot_name(char *name, raft_index index, raft_term term)
{
	snprintf(name, PGRAFT_NAME_BYTES, "snapshot-%016lx-%016lx", index, term);
}

static bool
parse_hex(const char *p, int digits, raft_u64 *value)
{
	*value = 0;
	while (digits-- > 0)
	{
		char		c = *p++;

		*value <<= 4;
		if (c >= '0' && c <= '9')
			*value |= (raft_u64) (c - '0');
		else if (c >= 'a' && c <= 'f')
			*value |= (raft_u64) (c - 'a' + 10);
		else
			return false;
	}
	return true;
}

bool
pgraft_parse_segment_name(const char *name, uint32 *slot)
{
	raft_u64	value;

	if (strlen(name) != 12 || strncmp(name, "log-", 4) != 0 ||
		!parse_hex(name + 4, 8, &value))
		return false;
	*slot = (uint32) value;
	return true;
}

bool
pgraft_parse_snapshot_name(const char *name, raft_index *index, raft_term *term)
{
	return strlen(name) == 42 && strncmp(name, "snapshot-", 9) == 0 &&
		parse_hex(name + 9, 16, index) && name[25] == '-' &&
		parse_hex(name + 26, 16, term);
}

bool
pgraft_is_temporary_name(const char *name)
{
	size_t		length = strlen(name);

	return length > 4 && strcmp(name + length - 4, ".tmp") == 0;
}

static void
remember_name(void *arg, const char *name)
{
	PgraftFileList *list = arg;

	if (strcmp(name, "identity") == 0)
		list->has_identity = true;
	if (strcmp(name, "creating") == 0)
		list->has_creating = true;
	if (strlen(name) >= PGRAFT_NAME_BYTES)
		return;					/* none of ours */
	if (!pgraft_grow((void **) &list->names, &list->allocated, list->n + 1,
					 sizeof(list->names[0])))
	{
		list->out_of_memory = true;
		return;
	}
	strlcpy(list->names[list->n++].name, name, PGRAFT_NAME_BYTES);
}

/* The caller frees list->names, also after an error. */
PgraftErrorCode
pgraft_list_files(PgraftIo *io, const char *directory, PgraftFileList *list,
				  PgraftError *error)
{
	memset(list, 0, sizeof(*list));
	if (strlen(directory) + PGRAFT_NAME_BYTES + 1 >= PGRAFT_PATH_BYTES)
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"storage directory path \"%s\" is too long", directory);
	if (io->list(io, directory, remember_name, list) < 0)
		return pgraft_io_error(error, "read directory", directory);
	if (list->out_of_memory)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	return PGRAFT_OK;
}

/* ----------------------------------------------------------------
 * Segments
 * ----------------------------------------------------------------
 */
static int
compare_segments(const void *a, const void *b)
{
	raft_u64	x = ((const PgraftSegment *) a)->sequence;
	raft_u64	y = ((const PgraftSegment *) b)->sequence;

	return x < y ? -1 : x > y ? 1 : 0;
}

static PgraftErrorCode
read_segment_header(PgraftIo *io, const char *directory, const char *name,
					raft_u64 member_uid, PgraftSegment *segment,
					PgraftHeaderKind *kind, PgraftError *error)
{
	char		path[PGRAFT_PATH_BYTES];
	unsigned char buffer[PGRAFT_SEGMENT_HEADER_BYTES];
	const char *reason;
	off_t		size = 0;
	int			fd;
	PgraftErrorCode code = PGRAFT_OK;

	pgraft_path(path, directory, name);
	fd = io->open(io, path, O_RDONLY);
	if (fd < 0)
		return pgraft_io_error(error, "open file", path);
	if (io->size(io, fd, &size) < 0)
		code = pgraft_io_error(error, "stat file", path);
	else if (size < PGRAFT_SEGMENT_HEADER_BYTES)
		code = pgraft_corrupt(error, path, (raft_u64) size,
							  "file is shorter than a segment header");
	else
		code = pgraft_read_at(io, fd, path, buffer, sizeof(buffer), 0, error);
	io->close(io, fd);
	if (code != PGRAFT_OK)
		return code;

	*kind = pgraft_segment_decode(buffer, &segment->header, &reason);
	segment->sequence = segment->header.sequence;
	segment->salt = segment->header.salt;
	segment->base_index = segment->header.state.last_index;
	segment->first_batch = segment->header.state.next_batch;
	segment->bytes = (size_t) size;
	if (*kind == PGRAFT_HEADER_DAMAGED)
		return pgraft_corrupt(error, path, 0, reason);
	if (*kind == PGRAFT_HEADER_BLANK)
		return PGRAFT_OK;
	if (segment->header.bytes != (raft_u64) size)
		return pgraft_corrupt(error, path, (raft_u64) size,
							  "file size differs from the one in its header");
	if (member_uid != 0 && segment->header.member_uid != member_uid)
		return pgraft_corrupt(error, path, 32, "segment belongs to another member");
	return PGRAFT_OK;
}

/*
 * Sorts list->live and moves what lies below a gap to list->stale.  Whether
 * that gap is a loss is known only when the rest has been read: see
 * pgraft_storage_open() and pgraft_log_scan().
 */
static PgraftErrorCode
order_segments(PgraftSegmentList *list, PgraftError *error)
{
	size_t		first;
	size_t		i;

	qsort(list->live, list->n_live, sizeof(list->live[0]), compare_segments);
	for (i = 1; i < list->n_live; i++)
		if (list->live[i].sequence == list->live[i - 1].sequence)
		{
			pgraft_error(error, PGRAFT_ERR_CORRUPT,
						 "files \"log-%08x\" and \"log-%08x\" both hold log segment %lu",
						 list->live[i - 1].slot, list->live[i].slot,
						 list->live[i].sequence);
			pgraft_error_detail(error, "One of them must be a copy.");
			return PGRAFT_ERR_CORRUPT;
		}
	first = list->n_live;
	while (first > 0 &&
		   (first == list->n_live ||
			list->live[first - 1].sequence + 1 == list->live[first].sequence))
		first--;
	if (first == 0)
		return PGRAFT_OK;
	list->stale = malloc(first * sizeof(list->stale[0]));
	if (list->stale == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	memcpy(list->stale, list->live, first * sizeof(list->stale[0]));
	list->n_stale = first;
	list->n_live -= first;
	memmove(list->live, list->live + first,
			list->n_live * sizeof(list->live[0]));
	return PGRAFT_OK;
}

/*
 * Reads the header of every segment file.  member_uid 0: do not compare it.
 * The caller frees the list, also after an error.
 */
PgraftErrorCode
pgraft_find_segments(PgraftIo *io, const char *directory, raft_u64 member_uid,
					 const PgraftFileList *files, PgraftSegmentList *list,
					 PgraftError *error)
{
	size_t		i;

	memset(list, 0, sizeof(*list));
	list->live = calloc(files->n + 1, sizeof(list->live[0]));
	list->spare = calloc(files->n + 1, sizeof(list->spare[0]));
	if (list->live == NULL || list->spare == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	for (i = 0; i < files->n; i++)
	{
		PgraftSegment segment;
		PgraftHeaderKind kind = PGRAFT_HEADER_DAMAGED;
		PgraftErrorCode code;

		memset(&segment, 0, sizeof(segment));
		if (!pgraft_parse_segment_name(files->names[i].name, &segment.slot))
			continue;
		list->max_slot = Max(list->max_slot, segment.slot);
		code = read_segment_header(io, directory, files->names[i].name,
								   member_uid, &segment, &kind, error);
		if (code != PGRAFT_OK)
			return code;
		if (kind == PGRAFT_HEADER_BLANK)
			list->spare[list->n_spare++] = segment;
		else
			list->live[list->n_live++] = segment;
	}
	if (list->n_live == 0)
		return pgraft_error(error, PGRAFT_ERR_CORRUPT,
							"directory \"%s\" has no log segment", directory);
	return order_segments(list, error);
}

void
pgraft_free_segments(PgraftSegmentList *list)
{
	free(list->live);
	free(list->spare);
	free(list->stale);
	memset(list, 0, sizeof(*list));
}

/* Reads a whole segment into *data, which grows as needed. */
PgraftErrorCode
pgraft_load_segment(PgraftIo *io, const char *directory,
					const PgraftSegment *segment, unsigned char **data,
					size_t *allocated, PgraftError *error)
{
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];
	int			fd;
	PgraftErrorCode code;

	if (segment->bytes > *allocated)
	{
		free(*data);
		*allocated = 0;
		*data = malloc(segment->bytes);
		if (*data == NULL)
			return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
		*allocated = segment->bytes;
	}
	pgraft_segment_name(name, segment->slot);
	pgraft_path(path, directory, name);
	fd = io->open(io, path, O_RDONLY);
	if (fd < 0)
		return pgraft_io_error(error, "open file", path);
	code = pgraft_read_at(io, fd, path, *data, segment->bytes, 0, error);
	io->close(io, fd);
	return code;
}

/* ----------------------------------------------------------------
 * Where the log ends
 * ----------------------------------------------------------------
 */

/*
 * The walk over the newest segment ended with `result`.  PGRAFT_OK: that is
 * the end of the log, and *tail says whether remains have to be cut.
 */
PgraftErrorCode
pgraft_check_tail(const PgraftWalk *walk, PgraftWalkResult result,
				  const PgraftBatchHeader *batch, const PgraftSegment *segment,
				  PgraftTail *tail, PgraftError *error)
{
	char		name[PGRAFT_NAME_BYTES];

	pgraft_segment_name(name, segment->slot);
	if (result == PGRAFT_WALK_NONSENSE)
		return pgraft_corrupt(error, name, walk->offset, walk->reason);
	if (result == PGRAFT_WALK_MARK && batch->next_sequence != 0)
	{
		pgraft_error(error, PGRAFT_ERR_CORRUPT,
					 "log segment %lu is missing", batch->next_sequence);
		pgraft_error_detail(error, "File \"%s\" says at offset %zu that the log goes on in that segment.",
							name, walk->offset);
		return PGRAFT_ERR_CORRUPT;
	}
	pgraft_walk_tail(walk, tail);
	if (Max(tail->durable, walk->durable) >= walk->state.next_batch)
	{
		pgraft_corrupt(error, name, walk->offset,
					   result == PGRAFT_WALK_MARK ? "mark in place of a batch" :
					   walk->reason);
		pgraft_error_detail(error, "Batch %lu is missing, but the header at offset %zu proves that it had been flushed.",
							walk->state.next_batch, tail->proof_offset);
		return PGRAFT_ERR_CORRUPT;
	}
	return PGRAFT_OK;
}

/*
 * The walk over an older segment ended with `result`; the next segment's
 * header says where and how it must have.
 */
PgraftErrorCode
pgraft_check_inner_end(const PgraftWalk *walk, PgraftWalkResult result,
					   const PgraftSegment *segment, const PgraftSegment *next,
					   PgraftError *error)
{
	char		name[PGRAFT_NAME_BYTES];
	const char *reason = walk->reason;

	pgraft_segment_name(name, segment->slot);
	if (result != PGRAFT_WALK_NONSENSE)
	{
		if (walk->state.next_batch == next->header.state.next_batch &&
			pgraft_state_equal(&walk->state, &next->header.state))
			return PGRAFT_OK;
		if (walk->state.next_batch >= next->header.state.next_batch)
			reason = "segment ends otherwise than the header of the next one says";
		else if (reason == NULL)
			reason = "mark in place of a batch";
	}
	pgraft_corrupt(error, name, walk->offset, reason);
	pgraft_error_detail(error, "File \"log-%08x\" proves that batches up to %lu had been flushed.",
						next->slot, next->header.state.next_batch - 1);
	return PGRAFT_ERR_CORRUPT;
}

/* Does the oldest segment reach back as far as the log says it does? */
PgraftErrorCode
pgraft_check_connected(const PgraftSegment *oldest, const PgraftLogState *final,
					   PgraftError *error)
{
	if (oldest->base_index <= final->start_index ||
		oldest->first_batch <= final->restart_batch)
		return PGRAFT_OK;
	pgraft_error(error, PGRAFT_ERR_CORRUPT, "log segment %lu is missing",
				 oldest->sequence - 1);
	pgraft_error_detail(error, "Entries %lu to %lu must be there, and the oldest segment found, file \"log-%08x\", begins after entry %lu.",
						final->start_index + 1, oldest->base_index,
						oldest->slot, oldest->base_index);
	return PGRAFT_ERR_CORRUPT;
}
