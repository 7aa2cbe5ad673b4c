/*-------------------------------------------------------------------------
 *
 * fuzz_snapshot.c
 *	  Fuzz target: snapshot files that hold anything, and snapshots that arrive
 *	  in chunks of any shape.
 *
 * An input begins with how large a snapshot the storage has.  Then either its
 * file is edited, and the storage opened: what is read from it, as a whole or
 * in pieces, must be what lies in the file, under the checksums that lie there,
 * or an error.  Or chunks are handed to the storage: they are refused, or what
 * is installed in the end is what they said, and survives.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/fuzz/fuzz_snapshot.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "../../src/storage/internal.h"

#include "image.h"

#undef snprintf

#define MAX_EDITS 16
#define N_SIZES 7
#define LAST_ENTRY 20			/* of the log of every base */
#define SNAPSHOT_INDEX 15
#define SNAPSHOT_TERM 3
#define MAX_RECEIVED (200 * 1024)

static const size_t sizes[N_SIZES] = {0, 1, 700, 65535, 65536, 65537, 140000};
static FaultyDisk *bases[N_SIZES];
static unsigned char sent[MAX_RECEIVED];	/* what the chunks say */
static size_t n_sent;

static int	refused;			/* of deliveries: none */

static int
saw_snapshot(void *context, const struct raft_snapshot_meta *meta)
{
	*(struct raft_snapshot_meta *) context = *meta;
	return refused;
}

static int
saw_log_start(void *context, raft_index index, raft_term term)
{
	(void) context;
	(void) index;
	(void) term;
	return refused;
}

static int
saw_hard_state(void *context, const struct raft_hard_state *state)
{
	(void) context;
	(void) state;
	return refused;
}

static int
saw_entry(void *context, const struct raft_entry *entry)
{
	(void) context;
	(void) entry;
	return refused;
}

static PgraftErrorCode
open_storage(FaultyDisk *disk, struct raft_snapshot_meta *meta, PgraftStorage **storage,
			 PgraftError *error)
{
	PgraftStorageOptions options;
	PgraftRecovery recovery;
	PgraftIdentity identity;

	memset(meta, 0, sizeof(*meta));
	memset(&recovery, 0, sizeof(recovery));
	pgraft_storage_default_options(&options);
	options.segment_bytes = 4096;
	options.recycle_segments = 1;
	recovery.context = meta;
	recovery.snapshot = saw_snapshot;
	recovery.log_start = saw_log_start;
	recovery.hard_state = saw_hard_state;
	recovery.entry = saw_entry;
	return pgraft_storage_open(faulty_disk_io(disk), FIXTURE_DIRECTORY, &options,
							   &recovery, &identity, storage, error);
}

static void
write_update(PgraftStorage *storage, const struct raft_update *update)
{
	PgraftJob  *job;
	PgraftError error;

	demand(pgraft_storage_prepare(storage, update, &job, &error) == PGRAFT_OK &&
		   pgraft_storage_execute(storage, job, &error) == PGRAFT_OK,
		   "an update cannot be written");
	pgraft_storage_complete(storage, job);
}

/* A storage whose log holds entries 1 to 20 and a snapshot of the first 15. */
static FaultyDisk *
base_of(int number)
{
	static Fixture f;
	static const Step steps[] = {
		{STEP_APPEND, SNAPSHOT_TERM, 10, 0, 0},
		{STEP_APPEND, SNAPSHOT_TERM, 5, 0, 0},
		{STEP_SNAPSHOT, SNAPSHOT_TERM, LAST_ENTRY - SNAPSHOT_INDEX, 0, 0},
	};
	Step		script[lengthof(steps)];
	int			synced;
	int			i;

	if (bases[number] != NULL)
		return bases[number];
	memcpy(script, steps, sizeof(script));
	script[2].snapshot_bytes = sizes[number];
	fixture_init(&f, faulty_disk_create(1), script, lengthof(script));
	demand(fixture_create(&f) == PGRAFT_OK && fixture_open(&f) == PGRAFT_OK,
		   "a base directory cannot be made");
	for (i = 0; i < f.n_steps; i++)
		demand(fixture_step(&f, i, 0, &synced) == PGRAFT_OK, "a step of the script fails");
	fixture_close(&f);
	faulty_disk_restart(f.disk, FAULTY_KILL);
	return bases[number] = f.disk;
}

/* ----------------------------------------------------------------
 * A file that holds anything
 * ----------------------------------------------------------------
 */
typedef struct Expected
{
	const unsigned char *data;
	size_t		length;
	size_t		offset;
} Expected;

static int
compare_data(void *arg, const unsigned char *data, size_t length)
{
	Expected   *expected = arg;

	demand(length <= expected->length - expected->offset &&
		   memcmp(expected->data + expected->offset, data, length) == 0,
		   "loaded bytes are not those of the file");
	expected->offset += length;
	return 0;
}

/* Lengths, headers and CRCs are edited in the input's way. */
static void
edit_file(ImageFile *file, Input *input)
{
	static const unsigned char fields[] = {8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 76, 80, 84};
	raft_u64	edits = input_draw(input, MAX_EDITS);
	size_t		offset;

	while (edits-- > 0)
		switch (input_draw(input, 4))
		{
			case 0:
				image_patch(file, input);
				break;
			case 1:
				offset = fields[input_draw(input, sizeof(fields))];
				if (offset + 8 <= file->length)
					pgraft_put64(file->data + offset,
								 input_near(input, pgraft_get64(file->data + offset)));
				break;
			case 2:
				offset = fields[input_draw(input, sizeof(fields))];
				if (offset + 4 <= file->length)
					pgraft_put32(file->data + offset, (uint32)
								 input_near(input, pgraft_get32(file->data + offset)));
				break;
			default:
				image_resize(file, input_near(input, file->length));
				break;
		}
	if (input_draw(input, 4) != 0)
		image_seal_snapshot(file);
}

static void
read_file(PgraftStorage *storage, const ImageFile *file, Input *input)
{
	struct raft_snapshot_meta meta;
	Expected	expected;
	PgraftError error;
	raft_u64	length = pgraft_get64(file->data + 40);
	raft_u64	begin = pgraft_get64(file->data + 56);
	raft_u64	reads = input_draw(input, 8);
	PgraftErrorCode code;

	demand(begin <= file->length && length <= file->length - begin,
		   "a snapshot larger than its file was opened");
	expected.data = file->data + begin;
	expected.length = length;
	expected.offset = 0;
	code = pgraft_storage_load_snapshot(storage, &meta, compare_data, &expected, &error);
	if (code == PGRAFT_OK)
		demand(expected.offset == length, "a snapshot was not loaded to its end");
	else
		demand(code == PGRAFT_ERR_CORRUPT && expected.offset == 0,
			   "a snapshot was loaded in part");
	while (reads-- > 0)
	{
		raft_u64	offset = input_near(input, input_draw(input, length + 1));
		size_t		wanted = input_near(input, 300);
		const unsigned char *bytes;
		raft_u64	total;
		size_t		n;
		int			result;

		result = pgraft_storage_read_snapshot(storage, SNAPSHOT_INDEX, offset, wanted,
											  &bytes, &n, &total);
		if (result == RAFT_OK)
			demand(total == length && offset <= length && n <= wanted &&
				   n <= length - offset && (n > 0 || wanted == 0 || offset == length) &&
				   memcmp(bytes, expected.data + offset, n) == 0,
				   "a chunk differs from the file");
		else
			demand(code != PGRAFT_OK || offset > length,
				   "a sound snapshot cannot be read");
	}
}

static void
damaged_file(FaultyDisk *base, Input *input)
{
	static Image image;
	struct raft_snapshot_meta meta;
	PgraftStorage *storage;
	PgraftError error;
	FaultyDisk *disk;
	ImageFile  *file;
	PgraftErrorCode code;
	char		name[PGRAFT_NAME_BYTES];

	image_load(&image, base);
	pgraft_snapshot_name(name, SNAPSHOT_INDEX, SNAPSHOT_TERM);
	file = image_find(&image, name);
	demand(file != NULL, "there is no snapshot");
	edit_file(file, input);
	disk = image_store(&image, base);
	code = open_storage(disk, &meta, &storage, &error);
	if (code == PGRAFT_OK)
	{
		demand(meta.index == SNAPSHOT_INDEX && meta.term == SNAPSHOT_TERM,
			   "another snapshot was delivered");
		read_file(storage, file, input);
		pgraft_storage_close(storage);
	}
	else
		demand(code == PGRAFT_ERR_CORRUPT && strstr(error.message, name) != NULL &&
			   strstr(error.message, "offset") != NULL,
			   "the error does not name file and offset");
	demand(faulty_disk_open_files(disk) == 0, "files are left open");
	faulty_disk_destroy(disk);
	image_free(&image);
}

/* ----------------------------------------------------------------
 * Chunks of any shape
 * ----------------------------------------------------------------
 */
static int
compare_sent(void *arg, const unsigned char *data, size_t length)
{
	Expected   *expected = arg;

	return compare_data(expected, data, length);
}

static void
demand_snapshot(PgraftStorage *storage, const struct raft_snapshot_meta *wanted)
{
	struct raft_snapshot_meta meta;
	Expected	expected;
	PgraftError error;

	expected.data = sent;
	expected.length = n_sent;
	expected.offset = 0;
	demand(pgraft_storage_load_snapshot(storage, &meta, compare_sent, &expected,
										&error) == PGRAFT_OK &&
		   expected.offset == n_sent, "an installed snapshot cannot be loaded");
	demand(memcmp(&meta, wanted, sizeof(meta)) == 0,
		   "an installed snapshot has another head");
}

/* The next chunk and what a correct engine would say with it, or not. */
static void
fill_update(struct raft_update *update, struct raft_snapshot_chunk *chunk,
			raft_u64 epoch, Input *input)
{
	memset(update, 0, sizeof(*update));
	update->epoch = epoch;
	update->must_sync = 1;
	update->chunk = chunk;
	chunk->offset = input_one_in(input, 6) ? input_near(input, n_sent) : n_sent;
	if (input_one_in(input, 8))
		chunk->offset = 0;
	chunk->length = input_draw(input, input_one_in(input, 2) ? 0x10000 : 256);
	if (chunk->offset + chunk->length > chunk->total && !input_one_in(input, 4))
		chunk->length = chunk->offset < chunk->total ? chunk->total - chunk->offset : 0;
	if (input_one_in(input, 20))
		chunk->total = input_draw(input, MAX_RECEIVED);
	if (input_one_in(input, 20))
		chunk->meta.term++;
	if (chunk->offset + chunk->length == chunk->total || input_one_in(input, 8))
	{
		update->install = &chunk->meta;
		update->install_keeps_log = chunk->meta.index <= LAST_ENTRY &&
			input_one_in(input, 2);
		if (input_one_in(input, 6))
			update->truncate_from = input_near(input, LAST_ENTRY);
	}
}

static void
arriving_chunks(FaultyDisk *base, Input *input)
{
	static unsigned char data[0x10000];
	struct raft_snapshot_meta meta;
	struct raft_snapshot_meta installed;
	struct raft_snapshot_chunk chunk;
	struct raft_update update;
	PgraftStorage *storage;
	PgraftError error;
	PgraftJob  *job;
	FaultyDisk *disk = faulty_disk_copy(base);
	raft_u64	epoch = 0;
	bool		done = false;

	demand(open_storage(disk, &meta, &storage, &error) == PGRAFT_OK,
		   "a base directory cannot be opened");
	memset(&chunk, 0, sizeof(chunk));
	fixture_snapshot_meta(&chunk.meta, input_near(input, SNAPSHOT_INDEX + 8), 4);
	chunk.total = input_draw(input, MAX_RECEIVED);
	chunk.data = data;
	n_sent = 0;
	while (input->left > 0 && !done)
	{
		fill_update(&update, &chunk, ++epoch, input);
		memset(data, (int) epoch, Min(chunk.length, sizeof(data)));
		if (chunk.length > sizeof(data))
			chunk.length = sizeof(data);
		if (pgraft_storage_prepare(storage, &update, &job, &error) != PGRAFT_OK)
		{
			demand(error.code == PGRAFT_ERR_PROTOCOL || error.code == PGRAFT_ERR_INTERNAL,
				   "chunk is refused with an unexpected error");
			continue;
		}
		if (chunk.offset == 0)
			n_sent = 0;
		demand(chunk.offset == n_sent && chunk.length <= MAX_RECEIVED - n_sent,
			   "a chunk out of order was taken");
		memcpy(sent + n_sent, data, chunk.length);
		n_sent += chunk.length;
		demand(pgraft_storage_execute(storage, job, &error) == PGRAFT_OK,
			   "a chunk that was taken cannot be written");
		pgraft_storage_complete(storage, job);
		done = update.install != NULL;
		installed = chunk.meta;
		demand(!done || n_sent == chunk.total, "an incomplete snapshot was installed");
	}
	if (done)
		demand_snapshot(storage, &installed);
	if (input_one_in(input, 2))
		faulty_disk_crash(disk);
	pgraft_storage_close(storage);
	faulty_disk_restart(disk, FAULTY_POWER_LOSS_ALL);
	demand(open_storage(disk, &meta, &storage, &error) == PGRAFT_OK,
		   "the storage cannot be opened again");
	if (done)
		demand_snapshot(storage, &installed);
	else
		demand(meta.index == SNAPSHOT_INDEX, "the old snapshot is gone");
	memset(&update, 0, sizeof(update));
	update.epoch = 1;
	update.must_sync = 1;
	update.hard_state_changed = 1;
	write_update(storage, &update);
	pgraft_storage_close(storage);
	faulty_disk_destroy(disk);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input		input;
	FaultyDisk *base;

	input.data = data;
	input.left = size;
	base = base_of((int) input_draw(&input, N_SIZES));
	if (input_draw(&input, 2) == 0)
		damaged_file(base, &input);
	else
		arriving_chunks(base, &input);
	return 0;
}

/* ----------------------------------------------------------------
 * Seeds: each size, untouched or edited, and some transfers
 * ----------------------------------------------------------------
 */
void
fuzz_write_seeds(const char *directory)
{
	unsigned char seed[100];
	char		name[64];
	int			i;
	int			k;

	for (i = 0; i < 8 * N_SIZES; i++)
	{
		for (k = 0; k < (int) sizeof(seed); k++)
			seed[k] = (unsigned char) (k * 31 + i * 7);
		seed[0] = (unsigned char) (i % N_SIZES);
		seed[1] = (unsigned char) (i / N_SIZES % 2);
		seed[2] = (unsigned char) (i / N_SIZES);
		snprintf(name, sizeof(name), "size-%d", i);
		seed_write(directory, name, seed, sizeof(seed));
	}
}
