/*-------------------------------------------------------------------------
 *
 * fuzz_recovery.c
 *	  Fuzz target: opening a storage directory that holds anything.
 *
 * An input chooses a directory that a real storage left behind, edits its
 * files, and says how much of the checksums is made right again.  Then:
 *	- the offline reader must come back;
 *	- opening must fail with an error that names a file or directory, and
 *		change nothing, or succeed;
 *	- after success what was delivered is consistent, can be read back, takes
 *		further entries, and the next open, after a clean close or any crash,
 *		delivers just the same.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/fuzz/fuzz_recovery.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "../../src/storage/format.h"

#include "image.h"

#undef fprintf
#undef snprintf

#define MAX_EDITS 32
#define MAX_ENTRIES 16384

typedef struct SeenEntry
{
	raft_term	term;
	uint32		crc;			/* of type, length and data */
} SeenEntry;

/* What recovery delivered. */
typedef struct Seen
{
	raft_index	snapshot;
	raft_term	snapshot_term;
	raft_index	start;
	raft_term	start_term;
	bool		has_hard_state;
	struct raft_hard_state hard_state;
	raft_index	last;
	SeenEntry	entries[MAX_ENTRIES];	/* of start + 1 and so on */
} Seen;

static Seen first_time;
static Seen second_time;

/* ----------------------------------------------------------------
 * Delivery
 * ----------------------------------------------------------------
 */
static uint32
entry_crc(const struct raft_entry *entry)
{
	unsigned char head[16];

	pgraft_put64(head, (raft_u64) entry->type);
	pgraft_put32(head + 8, (uint32) entry->length);
	pgraft_put32(head + 12, pgraft_crc32c(entry->data, entry->length));
	return pgraft_crc32c(head, sizeof(head));
}

static int
saw_snapshot(void *context, const struct raft_snapshot_meta *meta)
{
	Seen	   *seen = context;

	demand(seen->last == 0 && !seen->has_hard_state, "snapshot is not delivered first");
	seen->snapshot = meta->index;
	seen->snapshot_term = meta->term;
	return 0;
}

static int
saw_log_start(void *context, raft_index index, raft_term term)
{
	Seen	   *seen = context;

	demand(seen->last == 0 && !seen->has_hard_state, "start of the log comes late");
	demand(index <= seen->snapshot, "no snapshot covers what the log has forgotten");
	seen->start = index;
	seen->start_term = term;
	seen->last = index;
	return 0;
}

static int
saw_hard_state(void *context, const struct raft_hard_state *state)
{
	Seen	   *seen = context;

	seen->has_hard_state = true;
	seen->hard_state = *state;
	return 0;
}

static int
saw_entry(void *context, const struct raft_entry *entry)
{
	Seen	   *seen = context;
	SeenEntry  *place;

	demand(entry->index > seen->start && entry->index - 1 <= seen->last,
		   "an entry does not continue the log");
	demand(entry->index - seen->start <= MAX_ENTRIES, "more entries than can be there");
	place = &seen->entries[entry->index - seen->start - 1];
	place->term = entry->term;
	place->crc = entry_crc(entry);
	seen->last = entry->index;
	return 0;
}

static int
saw_truncate(void *context, raft_index from)
{
	Seen	   *seen = context;

	demand(from > seen->start && from <= seen->last, "truncation outside of the log");
	seen->last = from - 1;
	return 0;
}

static PgraftErrorCode
open_storage(FaultyDisk *disk, Seen *seen, PgraftStorage **storage, PgraftError *error)
{
	PgraftStorageOptions options;
	PgraftRecovery recovery;
	PgraftIdentity identity;

	memset(seen, 0, offsetof(Seen, entries));
	pgraft_storage_default_options(&options);
	options.segment_bytes = 4096;
	options.recycle_segments = 1;
	recovery.context = seen;
	recovery.snapshot = saw_snapshot;
	recovery.log_start = saw_log_start;
	recovery.hard_state = saw_hard_state;
	recovery.entry = saw_entry;
	recovery.truncate = saw_truncate;
	memset(error, 0, sizeof(*error));
	return pgraft_storage_open(faulty_disk_io(disk), FIXTURE_DIRECTORY, &options,
							   &recovery, &identity, storage, error);
}

/* ----------------------------------------------------------------
 * Demands
 * ----------------------------------------------------------------
 */
static void
check_error(const PgraftError *error, PgraftErrorCode code)
{
	demand(error->code == code, "error has another code than the call returned");
	demand(code == PGRAFT_ERR_CORRUPT || code == PGRAFT_ERR_NOT_FOUND ||
		   code == PGRAFT_ERR_CLONE, "error of an unexpected kind");
	if (strchr(error->message, '"') == NULL && strchr(error->detail, '"') == NULL)
	{
		fprintf(stderr, "%s: ", error->message);
		demand(false, "error names no file");
	}
}

static int
consume(void *arg, const unsigned char *data, size_t length)
{
	*(uint32 *) arg += pgraft_crc32c(data, length);
	return 0;
}

/* Everything delivered can be read again, and nothing else. */
static void
check_read_back(PgraftStorage *storage, const Seen *seen)
{
	struct raft_entry entries[8];
	struct raft_snapshot_meta meta;
	PgraftStorageStats stats;
	PgraftError error;
	raft_index	want = seen->start + 1;
	uint32		sum = 0;
	size_t		n;
	size_t		i;
	PgraftErrorCode code;

	pgraft_storage_stats(storage, &stats);
	demand(stats.first_index == seen->start + 1 && stats.last_index == seen->last,
		   "statistics differ from what was delivered");
	while (want <= seen->last)
	{
		demand(pgraft_storage_read_entries(storage, want, want % 8 + 1, want % 3 * 300,
										   entries, &n) == RAFT_OK && n > 0,
			   "an entry cannot be read back");
		for (i = 0; i < n; i++, want++)
			demand(entries[i].index == want &&
				   entries[i].term == seen->entries[want - seen->start - 1].term &&
				   entry_crc(&entries[i]) == seen->entries[want - seen->start - 1].crc,
				   "an entry differs from the one delivered");
	}
	demand(pgraft_storage_read_entries(storage, want, 1, 1, entries, &n) ==
		   RAFT_E_UNAVAILABLE, "an entry beyond the end");
	code = pgraft_storage_load_snapshot(storage, &meta, consume, &sum, &error);
	if (seen->snapshot == 0)
		demand(code == PGRAFT_ERR_NOT_FOUND, "a snapshot that was not delivered");
	else
		demand(code == PGRAFT_OK || code == PGRAFT_ERR_CORRUPT, "loading a snapshot");
}

/* Writes two entries and a hard state behind the log, which must work. */
static void
append(PgraftStorage *storage, Seen *seen)
{
	static const unsigned char text[] = "appended";
	struct raft_update update;
	struct raft_entry entries[2];
	PgraftError error;
	PgraftJob  *job;
	int			i;

	memset(&update, 0, sizeof(update));
	memset(entries, 0, sizeof(entries));
	if (seen->last + 3 < 3 || seen->last - seen->start + 2 > MAX_ENTRIES)
		return;
	update.epoch = 1;
	update.must_sync = 1;
	update.hard_state_changed = 1;
	update.hard_state.term = 77;
	update.n_entries = 2;
	update.entries = entries;
	for (i = 0; i < 2; i++)
	{
		entries[i].index = seen->last + 1 + (raft_index) i;
		entries[i].term = 77;
		entries[i].length = sizeof(text);
		entries[i].data = text;
	}
	demand(pgraft_storage_prepare(storage, &update, &job, &error) == PGRAFT_OK,
		   "entries cannot be appended");
	demand(pgraft_storage_execute(storage, job, &error) == PGRAFT_OK,
		   "appended entries cannot be written");
	pgraft_storage_complete(storage, job);
	for (i = 0; i < 2; i++)
		(void) saw_entry(seen, &entries[i]);
	(void) saw_hard_state(seen, &update.hard_state);
}

static bool
same_seen(const Seen *a, const Seen *b)
{
	return a->snapshot == b->snapshot && a->snapshot_term == b->snapshot_term &&
		a->start == b->start && a->start_term == b->start_term &&
		a->has_hard_state == b->has_hard_state &&
		a->hard_state.term == b->hard_state.term &&
		a->hard_state.vote == b->hard_state.vote &&
		a->hard_state.commit == b->hard_state.commit && a->last == b->last &&
		memcmp(a->entries, b->entries, (a->last - a->start) * sizeof(SeenEntry)) == 0;
}

/* Opens, perhaps appends, closes in one of three ways, opens again. */
static void
check_life(FaultyDisk *disk, const Image *image, Input *input)
{
	PgraftStorage *storage;
	PgraftError error;
	PgraftErrorCode code;
	PgraftErrorCode scanned;
	raft_u64	ending;

	memset(&error, 0, sizeof(error));
	scanned = pgraft_log_scan(faulty_disk_io(disk), FIXTURE_DIRECTORY, NULL, NULL, NULL,
							  &error);
	if (scanned != PGRAFT_OK)
		check_error(&error, scanned);
	code = open_storage(disk, &first_time, &storage, &error);
	if (code != PGRAFT_OK)
	{
		check_error(&error, code);
		demand(faulty_disk_open_files(disk) == 0, "refusing leaves files open");
		demand(image_same(image, disk), "refusing changes the directory");
		demand(scanned != PGRAFT_OK || code == PGRAFT_ERR_CLONE,
			   "the offline reader finds nothing wrong with what cannot be opened");
		return;
	}
	check_read_back(storage, &first_time);
	ending = input_draw(input, 6);
	if (ending >= 3)
	{
		append(storage, &first_time);
		check_read_back(storage, &first_time);
	}
	if (ending % 3 == 0)
		pgraft_storage_close(storage);
	else
	{
		faulty_disk_crash(disk);
		pgraft_storage_close(storage);
		faulty_disk_restart(disk, ending % 3 == 1 ? FAULTY_KILL : FAULTY_POWER_LOSS_ALL);
	}
	demand(faulty_disk_open_files(disk) == 0, "closing leaves files open");
	code = open_storage(disk, &second_time, &storage, &error);
	if (code != PGRAFT_OK)
		fprintf(stderr, "%s: ", error.message);
	demand(code == PGRAFT_OK, "what could be opened once cannot be opened again");
	demand(same_seen(&first_time, &second_time), "the log has changed by being opened");
	check_read_back(storage, &second_time);
	pgraft_storage_close(storage);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static Image image;
	Input		input;
	FaultyDisk *base;
	FaultyDisk *disk;
	ImageSeal	seal;
	raft_u64	edits;

	input.data = data;
	input.left = size;
	base = image_base((int) input_draw(&input, (raft_u64) image_bases()));
	seal = (ImageSeal) input_draw(&input, N_SEALS);
	edits = input_draw(&input, MAX_EDITS);
	image_load(&image, base);
	while (edits-- > 0)
		image_edit(&image, &input);
	image_seal(&image, seal);
	disk = image_store(&image, base);
	check_life(disk, &image, &input);
	faulty_disk_destroy(disk);
	image_free(&image);
	return 0;
}

/* ----------------------------------------------------------------
 * Seeds: each directory as it is, and with one edit of each kind
 * ----------------------------------------------------------------
 */
void
fuzz_write_seeds(const char *directory)
{
	unsigned char seed[64];
	char		name[64];
	int			i;

	memset(seed, 0, sizeof(seed));
	for (i = 0; i < image_bases(); i++)
	{
		seed[0] = (unsigned char) i;
		seed[3] = (unsigned char) (i % 6);
		snprintf(name, sizeof(name), "base-%d", i);
		seed_write(directory, name, seed, 4);
	}
	for (i = 0; i < 10 * N_SEALS; i++)
	{
		int			k;

		for (k = 3; k < (int) sizeof(seed); k++)
			seed[k] = (unsigned char) (k * 29 + i);
		seed[0] = (unsigned char) (i * 7 % image_bases());
		seed[1] = (unsigned char) (i % N_SEALS);
		seed[2] = 1;
		seed[3] = (unsigned char) (i / N_SEALS);
		snprintf(name, sizeof(name), "edit-%d", i);
		seed_write(directory, name, seed, sizeof(seed));
	}
}
