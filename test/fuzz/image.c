/*-------------------------------------------------------------------------
 *
 * image.c
 *	  See image.h.
 *
 * The bases are what the scripts of storage_fixture.c leave behind after each
 * of their steps, closed cleanly or by a power loss.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/fuzz/image.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "../../src/storage/internal.h"

#include "image.h"

#undef snprintf

#define N_SHORT 19				/* states of the short script */
#define N_LONG 6
#define N_BASES (2 * N_SHORT + N_LONG)

static const int long_steps[N_LONG] = {6, 13, 17, 23, 30, 36};
static FaultyDisk *bases[N_BASES];

static FaultyDisk *make_base(int number);
static void remove_files(FaultyDisk *disk);
static ImageFile *choose_file(Image *image, Input *input);
static void choose_name(char *name, Input *input);
static void change_number(ImageFile *file, Input *input);
static void copy_file(Image *image, Input *input);
static void append_batch(ImageFile *file, Input *input);
static size_t end_of_batches(const ImageFile *file);
static bool seal_segment(ImageFile *file, ImageSeal seal, PgraftSegmentHeader *header,
						 PgraftLogState *after);

/* ----------------------------------------------------------------
 * Bases
 * ----------------------------------------------------------------
 */
int
image_bases(void)
{
	return N_BASES;
}

FaultyDisk *
image_base(int number)
{
	if (bases[number] == NULL)
		bases[number] = make_base(number);
	return bases[number];
}

static FaultyDisk *
make_base(int number)
{
	static Fixture f;
	bool		short_script = number < 2 * N_SHORT;
	bool		clean = number < N_SHORT || !short_script;
	int			steps = short_script ? number % N_SHORT : long_steps[number - 2 * N_SHORT];
	int			synced;
	int			i;

	fixture_init(&f, faulty_disk_create((unsigned long) number + 1),
				 short_script ? fixture_short_script : fixture_long_script,
				 short_script ? fixture_short_steps : fixture_long_steps);
	demand(fixture_create(&f) == PGRAFT_OK && fixture_open(&f) == PGRAFT_OK,
		   "a base directory cannot be made");
	for (i = 0; i < steps; i++)
		demand(fixture_step(&f, i, 0, &synced) == PGRAFT_OK,
			   "a step of the script fails");
	if (clean)
		fixture_close(&f);
	else
		fixture_drop(&f);
	faulty_disk_restart(f.disk, clean ? FAULTY_KILL : FAULTY_POWER_LOSS);
	return f.disk;
}

/* ----------------------------------------------------------------
 * Disk to image and back
 * ----------------------------------------------------------------
 */
static void
note_name(void *arg, const char *name)
{
	Image	   *image = arg;

	demand(image->n < IMAGE_MAX_FILES, "too many files");
	memset(&image->files[image->n], 0, sizeof(ImageFile));
	strlcpy(image->files[image->n++].name, name, IMAGE_NAME_BYTES);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(((const ImageFile *) a)->name, ((const ImageFile *) b)->name);
}

static void
path_of(char *path, const char *name)
{
	snprintf(path, PGRAFT_PATH_BYTES, "%s/%s", FIXTURE_DIRECTORY, name);
}

/* All but the lock file, which holds the number of a process. */
void
image_load(Image *image, FaultyDisk *disk)
{
	char		path[PGRAFT_PATH_BYTES];
	int			kept = 0;
	int			i;

	image->n = 0;
	(void) faulty_disk_io(disk)->list(faulty_disk_io(disk), FIXTURE_DIRECTORY,
									  note_name, image);
	qsort(image->files, (size_t) image->n, sizeof(image->files[0]), compare_names);
	for (i = 0; i < image->n; i++)
	{
		ImageFile  *file = &image->files[kept];
		const unsigned char *data;
		size_t		length = 0;

		if (strcmp(image->files[i].name, "lock") == 0)
			continue;
		*file = image->files[i];
		path_of(path, file->name);
		data = faulty_disk_data(disk, path, &length);
		file->data = NULL;
		file->length = 0;
		image_resize(file, length);
		if (length > 0)
			memcpy(file->data, data, length);
		kept++;
	}
	image->n = kept;
}

void
image_free(Image *image)
{
	while (image->n > 0)
		free(image->files[--image->n].data);
}

static void
remove_files(FaultyDisk *disk)
{
	Image		names;
	char		path[PGRAFT_PATH_BYTES];
	int			i;

	names.n = 0;
	(void) faulty_disk_io(disk)->list(faulty_disk_io(disk), FIXTURE_DIRECTORY,
									  note_name, &names);
	for (i = 0; i < names.n; i++)
	{
		path_of(path, names.files[i].name);
		(void) faulty_disk_remove(disk, path);
	}
}

FaultyDisk *
image_store(const Image *image, const FaultyDisk *base)
{
	FaultyDisk *disk = faulty_disk_copy(base);
	char		path[PGRAFT_PATH_BYTES];
	int			i;

	remove_files(disk);
	for (i = 0; i < image->n; i++)
	{
		path_of(path, image->files[i].name);
		(void) faulty_disk_put(disk, path, image->files[i].data, image->files[i].length);
	}
	return disk;
}

bool
image_same(const Image *image, FaultyDisk *disk)
{
	Image		found;
	bool		same = true;
	int			i;

	image_load(&found, disk);
	for (i = 0; i < found.n; i++)
	{
		const ImageFile *file = image_find((Image *) image, found.files[i].name);

		same = same && file != NULL && file->length == found.files[i].length &&
			memcmp(file->data, found.files[i].data, file->length) == 0;
	}
	same = same && found.n == image->n;
	image_free(&found);
	return same;
}

ImageFile *
image_find(Image *image, const char *name)
{
	int			i;

	for (i = 0; i < image->n; i++)
		if (strcmp(image->files[i].name, name) == 0)
			return &image->files[i];
	return NULL;
}

void
image_resize(ImageFile *file, size_t length)
{
	length = Min(length, IMAGE_MAX_FILE_BYTES);
	file->data = realloc(file->data, length + 8);
	demand(file->data != NULL, "out of memory");
	if (length > file->length)
		memset(file->data + file->length, 0, length - file->length);
	file->length = length;
}

/* ----------------------------------------------------------------
 * Edits
 * ----------------------------------------------------------------
 */
static ImageFile *
choose_file(Image *image, Input *input)
{
	if (image->n == 0)
		return NULL;
	return &image->files[input_draw(input, (raft_u64) image->n)];
}

static void
choose_name(char *name, Input *input)
{
	switch (input_draw(input, 8))
	{
		case 0:
			strlcpy(name, "identity", IMAGE_NAME_BYTES);
			break;
		case 1:
			strlcpy(name, "creating", IMAGE_NAME_BYTES);
			break;
		case 2:
			strlcpy(name, "left.tmp", IMAGE_NAME_BYTES);
			break;
		case 3:
			pgraft_snapshot_name(name, input_draw(input, 256), input_draw(input, 16));
			break;
		case 4:
			pgraft_segment_name(name, ~(uint32) 0 - (uint32) input_draw(input, 2));
			break;
		case 5:
			strlcpy(name, "log-0000000g", IMAGE_NAME_BYTES);
			break;
		default:
			pgraft_segment_name(name, (uint32) input_draw(input, 16));
			break;
	}
}

/* Overwrites a few bytes with bytes of the input. */
void
image_patch(ImageFile *file, Input *input)
{
	size_t		offset = input_draw(input, file->length + 1);
	size_t		n = input_draw(input, 48);
	const uint8_t *bytes;

	n = input_take(input, Min(n, file->length - offset), &bytes);
	if (n > 0)
		memcpy(file->data + offset, bytes, n);
}

/* A number of a header or record becomes a similar or an extreme one. */
static void
change_number(ImageFile *file, Input *input)
{
	size_t		end = Min(file->length, end_of_batches(file) + 128);
	size_t		offset = input_one_in(input, 2) ? input_draw(input, 17) * 8 :
		PGRAFT_SEGMENT_HEADER_BYTES + input_draw(input, end / 8 + 1) * 8;

	if (offset + 8 > file->length)
		return;
	pgraft_put64(file->data + offset,
				 input_near(input, pgraft_get64(file->data + offset)));
}

static void
copy_file(Image *image, Input *input)
{
	ImageFile  *from = choose_file(image, input);
	ImageFile  *to;
	char		name[IMAGE_NAME_BYTES];

	choose_name(name, input);
	if (from == NULL || image->n == IMAGE_MAX_FILES - 1 ||
		image_find(image, name) != NULL)
		return;
	to = &image->files[image->n++];
	memset(to, 0, sizeof(*to));
	strlcpy(to->name, name, IMAGE_NAME_BYTES);
	image_resize(to, from->length);
	memcpy(to->data, from->data, from->length);
}

/* Where the next batch would go, by lengths alone. */
static size_t
end_of_batches(const ImageFile *file)
{
	size_t		offset = PGRAFT_SEGMENT_HEADER_BYTES;

	while (offset + PGRAFT_BATCH_HEADER_BYTES <= file->length &&
		   pgraft_get32(file->data + offset) == PGRAFT_BATCH_MAGIC)
	{
		size_t		length = pgraft_get32(file->data + offset + 4);

		if (length % 8 != 0 || length > file->length - offset - PGRAFT_BATCH_HEADER_BYTES)
			break;
		offset += PGRAFT_BATCH_HEADER_BYTES + length;
	}
	return offset;
}

/* Records of any kind about the present end of the log. */
static void
append_batch(ImageFile *file, Input *input)
{
	size_t		offset = end_of_batches(file);
	unsigned char *payload;
	size_t		length = 0;
	PgraftBatchHeader header;
	raft_u64	n = input_draw(input, 6);
	raft_index	index;

	if (offset + 1024 > file->length)
		return;
	payload = file->data + offset + PGRAFT_BATCH_HEADER_BYTES;
	memset(&header, 0, sizeof(header));
	header.mark = input_one_in(input, 8);
	header.salt = pgraft_get64(file->data + 24);
	header.number = input_near(input, 1);
	header.durable = input_near(input, 1);
	header.next_sequence = header.mark ? input_draw(input, 4) : 0;
	index = input_near(input, pgraft_get64(file->data + 88));
	while (n-- > 0 && !header.mark)
	{
		PgraftRecord record;

		memset(&record, 0, sizeof(record));
		record.kind = (PgraftRecordKind) (input_draw(input, 5) + 1);
		record.index = index;
		record.term = input_draw(input, 16);
		record.restart = input_one_in(input, 3);
		record.hard_state.term = record.term;
		record.hard_state.commit = index;
		record.entry.index = index;
		record.entry.term = record.term;
		record.entry.type = (int) input_draw(input, 4);
		record.entry.length = input_take(input, input_draw(input, 32), &record.entry.data);
		length += pgraft_record_encode(payload + length, &record);
		header.n_records++;
		index = input_one_in(input, 3) ? input_near(input, index) : index + 1;
	}
	header.length = (uint32) length;
	header.payload_crc = pgraft_crc32c(payload, length);
	pgraft_batch_encode(file->data + offset, &header);
}

void
image_edit(Image *image, Input *input)
{
	raft_u64	operation = input_draw(input, 10);
	ImageFile  *file;

	if (operation == 9)
	{
		copy_file(image, input);
		return;
	}
	file = choose_file(image, input);
	if (file == NULL)
		return;
	switch (operation)
	{
		case 0:
		case 1:
			image_patch(file, input);
			break;
		case 2:
		case 3:
			change_number(file, input);
			break;
		case 4:
			image_resize(file, input_one_in(input, 2) ? input_draw(input, 0x10000) :
						 input_near(input, file->length));
			break;
		case 5:
			free(file->data);
			*file = image->files[--image->n];
			break;
		case 6:
			{
				char		name[IMAGE_NAME_BYTES];

				choose_name(name, input);
				if (image_find(image, name) == NULL)
					strlcpy(file->name, name, IMAGE_NAME_BYTES);
			}
			break;
		default:
			append_batch(file, input);
			break;
	}
}

/* ----------------------------------------------------------------
 * Checksums
 * ----------------------------------------------------------------
 */

/*
 * Makes the header and all batches of a segment valid.  Returns false when
 * that is impossible; else *after is what the segment says at its end.
 */
static bool
seal_segment(ImageFile *file, ImageSeal seal, PgraftSegmentHeader *header,
			 PgraftLogState *after)
{
	unsigned char *data = file->data;
	size_t		offset = PGRAFT_SEGMENT_HEADER_BYTES;
	const char *reason;
	raft_u64	number;
	uint32		chain;

	if (file->length < PGRAFT_SEGMENT_HEADER_BYTES + PGRAFT_BATCH_HEADER_BYTES)
		return false;
	if (seal >= SEAL_NUMBERS)
		pgraft_put64(data + 40, file->length);
	pgraft_put32(data + 508, pgraft_crc32c(data, 508));
	if (pgraft_segment_decode(data, header, &reason) != PGRAFT_HEADER_VALID)
		return false;
	*after = header->state;
	chain = header->state.chain;
	number = header->state.next_batch;
	while (offset + PGRAFT_BATCH_HEADER_BYTES <= file->length)
	{
		unsigned char *p = data + offset;
		uint32		magic = pgraft_get32(p);
		size_t		length = pgraft_get32(p + 4);

		if (magic != PGRAFT_BATCH_MAGIC && magic != PGRAFT_MARK_MAGIC)
			break;
		if (seal >= SEAL_NUMBERS)
		{
			pgraft_put64(p + 8, number++);
			pgraft_put64(p + 16, header->salt);
		}
		pgraft_put32(p + 48, chain);
		if (magic == PGRAFT_BATCH_MAGIC)
		{
			if (length > file->length - offset - PGRAFT_BATCH_HEADER_BYTES)
				break;
			pgraft_put32(p + 52, pgraft_crc32c(p + PGRAFT_BATCH_HEADER_BYTES, length));
		}
		chain = pgraft_crc32c(p, 60);
		pgraft_put32(p + 60, chain);
		if (magic == PGRAFT_MARK_MAGIC)
			break;
		offset += PGRAFT_BATCH_HEADER_BYTES + length;
	}
	{
		PgraftWalk	walk;
		PgraftBatchHeader batch;
		const unsigned char *payload;

		pgraft_walk_begin(&walk, data, file->length, header);
		while (pgraft_walk_next(&walk, &batch, &payload) == PGRAFT_WALK_BATCH)
			;
		*after = walk.state;
	}
	return true;
}

void
image_seal_snapshot(ImageFile *file)
{
	unsigned char *data = file->data;
	size_t		config_length;
	size_t		offset;
	size_t		length;
	size_t		table;
	size_t		i;
	unsigned char *covered;

	if (file->length < PGRAFT_SNAPSHOT_HEADER_BYTES)
		return;
	config_length = pgraft_get32(data + 12);
	length = pgraft_get64(data + 40);
	offset = pgraft_get64(data + 56);
	table = pgraft_get64(data + 64);
	if (config_length > file->length - PGRAFT_SNAPSHOT_HEADER_BYTES)
		return;
	if (length <= file->length && offset <= file->length && table <= file->length &&
		length <= file->length - offset)
	{
		size_t		n = (length + PGRAFT_SNAPSHOT_BLOCK_BYTES - 1) /
			PGRAFT_SNAPSHOT_BLOCK_BYTES;

		n = Min(n, (file->length - table) / 4);
		for (i = 0; i < n; i++)
		{
			size_t		begin = i * PGRAFT_SNAPSHOT_BLOCK_BYTES;

			pgraft_put32(data + table + 4 * i,
						 pgraft_crc32c(data + offset + begin,
									   Min(length - begin, PGRAFT_SNAPSHOT_BLOCK_BYTES)));
		}
		pgraft_put32(data + 80, pgraft_crc32c(data + table, 4 * n));
	}
	covered = fuzz_allocate(84 + config_length);
	memcpy(covered, data, 84);
	memcpy(covered + 84, data + PGRAFT_SNAPSHOT_HEADER_BYTES, config_length);
	pgraft_put32(data + 84, pgraft_crc32c(covered, 84 + config_length));
	free(covered);
}

void
image_seal(Image *image, ImageSeal seal)
{
	bool		done[IMAGE_MAX_FILES] = {false};
	bool		connected = false;
	PgraftLogState state;
	int			round;
	int			i;

	if (seal == SEAL_NOTHING)
		return;
	for (i = 0; i < image->n; i++)
	{
		ImageFile  *file = &image->files[i];

		if (strncmp(file->name, "snapshot-", 9) == 0)
			image_seal_snapshot(file);
		if (strcmp(file->name, "identity") == 0 && file->length >= PGRAFT_IDENTITY_BYTES)
			pgraft_put32(file->data + 252, pgraft_crc32c(file->data, 252));
	}

	/* segments in the order of their sequences */
	for (round = 0; round < image->n; round++)
	{
		ImageFile  *file = NULL;
		PgraftSegmentHeader header;
		raft_u64	sequence = 0;

		for (i = 0; i < image->n; i++)
			if (!done[i] && strncmp(image->files[i].name, "log-", 4) == 0 &&
				image->files[i].length >= PGRAFT_SEGMENT_HEADER_BYTES &&
				(file == NULL || pgraft_get64(image->files[i].data + 16) < sequence))
			{
				file = &image->files[i];
				sequence = pgraft_get64(file->data + 16);
			}
		if (file == NULL)
			break;
		done[file - image->files] = true;
		if (sequence == 0)
			continue;
		if (seal == SEAL_HEADERS && connected)
		{
			memset(&header, 0, sizeof(header));
			header.sequence = sequence;
			header.salt = pgraft_get64(file->data + 24);
			header.member_uid = pgraft_get64(file->data + 32);
			header.bytes = file->length;
			header.state = state;
			pgraft_segment_encode(file->data, &header);
		}
		connected = seal_segment(file, seal, &header, &state);
	}
}
