/*-------------------------------------------------------------------------
 *
 * test_storage_damage.c
 *	  Every byte of a storage directory flipped, every file cut at every length,
 *	  files missing, doubled and foreign.
 *
 * The rule under test: what opens is exactly a state that the log once had and
 * holds everything proven durable; all else is refused with file and offset,
 * and refusing changes nothing.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_storage_damage.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "../../src/storage/format.h"

#include "storage_fixture.h"
#include "tap.h"

#define MAX_FILES 32

typedef struct DirectoryFile
{
	char		path[300];
	char		name[64];
	size_t		size;
	raft_u64	sequence;		/* log file: 0 = spare */
	size_t		end;			/* log file: end of the last batch */
} DirectoryFile;

static Fixture f;
static FaultyDisk *whole;		/* never damaged */
static DirectoryFile files[MAX_FILES];
static int	n_files;
static raft_u64 newest;			/* highest sequence */

static void
note_file(void *arg, const char *name)
{
	DirectoryFile *file = &files[n_files++];

	(void) arg;
	snprintf(file->name, sizeof(file->name), "%s", name);
	snprintf(file->path, sizeof(file->path), "%s/%s", FIXTURE_DIRECTORY, name);
}

/* What is in the directory, and where the batches of each segment end. */
static void
survey(void)
{
	int			i;

	n_files = 0;
	newest = 0;
	faulty_disk_io(whole)->list(faulty_disk_io(whole), FIXTURE_DIRECTORY,
								note_file, NULL);
	for (i = 0; i < n_files; i++)
	{
		DirectoryFile *file = &files[i];
		const unsigned char *data = faulty_disk_data(whole, file->path, &file->size);
		PgraftSegmentHeader header;
		PgraftBatchHeader batch;
		const unsigned char *payload;
		const char *reason;
		PgraftWalk	walk;

		file->sequence = 0;
		file->end = 0;
		if (strncmp(file->name, "log-", 4) != 0 ||
			pgraft_segment_decode(data, &header, &reason) != PGRAFT_HEADER_VALID)
			continue;
		pgraft_walk_begin(&walk, data, file->size, &header);
		while (pgraft_walk_next(&walk, &batch, &payload) == PGRAFT_WALK_BATCH)
			;
		file->sequence = header.sequence;
		file->end = walk.offset;
		newest = Max(newest, header.sequence);
	}
}

static DirectoryFile *
segment_file(raft_u64 sequence)
{
	int			i;

	for (i = 0; i < n_files; i++)
		if (files[i].sequence == sequence)
			return &files[i];
	return NULL;
}

/* Builds the directory all tests damage. */
static void
build(void)
{
	int			synced;
	int			i;
	int			failed;

	fixture_init(&f, faulty_disk_create(42), fixture_short_script,
				 fixture_short_steps);
	failed = fixture_create(&f) != PGRAFT_OK || fixture_open(&f) != PGRAFT_OK;
	for (i = 0; !failed && i < f.n_steps; i++)
		failed = fixture_step(&f, i, 0, &synced) != PGRAFT_OK;
	ok(!failed, "script runs");
	fixture_close(&f);
	whole = f.disk;
	faulty_disk_restart(whole, FAULTY_POWER_LOSS_ALL);
	survey();
	ok(newest >= 3 && segment_file(newest - 1) != NULL,
	   "several segments are live");
}

/* The same bytes in every file but the lock, which gets a new text? */
static int
same_files(const FaultyDisk *a, const FaultyDisk *b)
{
	int			i;

	for (i = 0; i < n_files; i++)
	{
		size_t		x = 0;
		size_t		y = 0;
		const unsigned char *p = faulty_disk_data(a, files[i].path, &x);
		const unsigned char *q = faulty_disk_data(b, files[i].path, &y);

		if (strcmp(files[i].name, "lock") == 0)
			continue;
		if ((p == NULL) != (q == NULL) || x != y ||
			(x > 0 && memcmp(p, q, x) != 0))
			return 0;
	}
	return 1;
}

typedef enum Verdict
{
	REFUSED,
	FINAL,						/* the state after the last step */
	EARLIER,					/* the state after an earlier one */
	BROKEN						/* `broken` says what */
} Verdict;

static char broken[700];
static int	earlier;			/* step number when EARLIER */

/*
 * Opens f.disk and judges.  The offline reader must agree about damage of the
 * log.  Does not destroy the disk.
 */
static Verdict
judge(void)
{
	FaultyDisk *before = faulty_disk_copy(f.disk);
	PgraftError scan_error;
	PgraftErrorCode scanned;
	PgraftErrorCode code;
	Verdict		verdict = BROKEN;

	memset(&f.error, 0, sizeof(f.error));
	scanned = pgraft_log_scan(faulty_disk_io(f.disk), FIXTURE_DIRECTORY, NULL,
							  NULL, NULL, &scan_error);
	if (!same_files(before, f.disk))
		snprintf(broken, sizeof(broken), "offline reading changed a file");
	else if ((code = fixture_open(&f)) == PGRAFT_ERR_CORRUPT)
	{
		verdict = REFUSED;
		if (scanned != PGRAFT_ERR_CORRUPT)
		{
			verdict = BROKEN;
			snprintf(broken, sizeof(broken), "offline reader sees no damage: %s",
					 f.error.message);
		}
		else if (!same_files(before, f.disk))
		{
			verdict = BROKEN;
			snprintf(broken, sizeof(broken), "refusing changed a file");
		}
	}
	else if (code != PGRAFT_OK)
		snprintf(broken, sizeof(broken), "open: %s", f.error.message);
	else if (f.wrong > 0)
		snprintf(broken, sizeof(broken), "wrong entry delivered");
	else if ((earlier = fixture_find(&f, 0, f.n_steps)) < 0)
		snprintf(broken, sizeof(broken), "state that never was");
	else if (fixture_check_read_back(&f, &f.history[earlier]) != 0)
		snprintf(broken, sizeof(broken), "wrong entry read back");
	else if (fixture_check_snapshot(&f, &f.history[earlier]) > 0)
		snprintf(broken, sizeof(broken), "wrong snapshot loaded");
	else
		verdict = earlier == f.n_steps ? FINAL : EARLIER;
	fixture_close(&f);
	faulty_disk_destroy(before);
	return verdict;
}

/* Is file and place named? */
static int
names(const char *name)
{
	return strstr(f.error.message, name) != NULL &&
		strstr(f.error.message, "offset") != NULL;
}

/* ----------------------------------------------------------------
 * Flips
 * ----------------------------------------------------------------
 */

/* Everything is proven durable: the final state or a refusal. */
static void
flip_every_byte(const DirectoryFile *file)
{
	unsigned long refused = 0;
	unsigned long harmless = 0;
	const char *wrong = NULL;
	size_t		offset = 0;

	for (offset = 0; wrong == NULL && offset < file->size; offset++)
	{
		unsigned char mask = offset % 9 == 8 ? 0xFF : 1 << offset % 9;
		bool		log = file->sequence != 0;
		Verdict		verdict;

		f.disk = faulty_disk_copy(whole);
		faulty_disk_flip(f.disk, file->path, offset, mask);
		verdict = judge();
		if (verdict == BROKEN)
			wrong = broken;
		else if (verdict == EARLIER)
			wrong = "silently an earlier state";
		else if (verdict == REFUSED && !names(file->name))
			wrong = f.error.message;
		else if (verdict == FINAL && log && offset < file->end)
			wrong = "flip inside of the log went unnoticed";
		if (verdict == REFUSED)
			refused++;
		else
			harmless++;
		faulty_disk_destroy(f.disk);
	}
	ok(wrong == NULL, "each of %zu bytes of %s flipped: %lu refused, %lu without effect%s%s",
	   file->size, file->name, refused, harmless, wrong ? "; " : "", wrong ? wrong : "");
	if (wrong != NULL)
		printf("#   at offset %zu\n", offset - 1);
}

/*
 * The mark at the end did not reach the disk before the power was lost: flips
 * in what it would have proven look like a torn write, all others do not.
 */
static void
flip_without_last_mark(void)
{
	const DirectoryFile *file = segment_file(newest);
	int			low = f.n_steps - 2;	/* the last flushed before the last step */
	unsigned long refused = 0;
	unsigned long cut = 0;
	const char *wrong = NULL;
	size_t		offset;

	for (offset = 0; wrong == NULL && offset < file->size; offset++)
	{
		Verdict		verdict;

		f.disk = faulty_disk_copy(whole);
		faulty_disk_zero(f.disk, file->path, file->end, file->end + 64);
		faulty_disk_flip(f.disk, file->path, offset, 0x10);
		verdict = judge();
		if (verdict == BROKEN)
			wrong = broken;
		else if (verdict == EARLIER && earlier < low)
			wrong = "a later batch proves more";
		else if (verdict == EARLIER)
			cut++;
		else if (verdict == REFUSED)
			refused++;
		faulty_disk_destroy(f.disk);
	}
	ok(wrong == NULL, "the same without the last mark: %lu refused, %lu cut%s%s",
	   refused, cut, wrong ? "; " : "", wrong ? wrong : "");
	ok(cut > 0 && refused > 0, "both happen");
}

/* ----------------------------------------------------------------
 * Cuts
 * ----------------------------------------------------------------
 */
static void
cut_at_every_length(const DirectoryFile *file)
{
	const char *wrong = NULL;
	size_t		length;

	for (length = 0; wrong == NULL && length < file->size; length++)
	{
		Verdict		verdict;

		f.disk = faulty_disk_copy(whole);
		faulty_disk_cut(f.disk, file->path, length);
		verdict = judge();
		if (verdict == BROKEN)
			wrong = broken;
		else if (verdict != REFUSED)
			wrong = "a shorter file went unnoticed";
		else if (!names(file->name))
			wrong = f.error.message;
		faulty_disk_destroy(f.disk);
	}
	ok(wrong == NULL, "%s cut at each of %zu lengths is refused%s%s", file->name,
	   file->size, wrong ? "; " : "", wrong ? wrong : "");
}

/* Was there nothing to lose but padding? */
static int
only_zeros(const DirectoryFile *file, size_t offset)
{
	size_t		size;
	const unsigned char *data = faulty_disk_data(whole, file->path, &size);

	while (offset < file->end && data[offset] == 0)
		offset++;
	return offset == file->end;
}

/* Bytes from some offset on never reached the disk. */
static void
lose_from_every_offset(const DirectoryFile *file)
{
	const char *wrong = NULL;
	size_t		offset;
	int			states = 0;
	int			last = -1;

	for (offset = 0; wrong == NULL && offset < file->size; offset++)
	{
		Verdict		verdict;

		f.disk = faulty_disk_copy(whole);
		faulty_disk_zero(f.disk, file->path, offset, file->size);
		verdict = judge();
		if (verdict == BROKEN)
			wrong = broken;
		else if (file->sequence != newest && verdict == EARLIER)
			wrong = "loss in an older segment went unnoticed";
		else if (verdict == FINAL && offset < file->end &&
				 !only_zeros(file, offset))
			wrong = "loss inside of the log went unnoticed";
		else if (verdict == EARLIER && earlier != last)
		{
			states++;
			if (earlier < last)
				wrong = "more bytes, fewer entries";
			last = earlier;
		}
		faulty_disk_destroy(f.disk);
	}
	ok(wrong == NULL, "%s lost from each of %zu offsets on: %d earlier states%s%s",
	   file->name, file->size, states, wrong ? "; " : "", wrong ? wrong : "");
	if (file->sequence == newest)
		ok(states >= 2, "the newest segment is cut batch by batch");
}

/* One sector never reached the disk: with later proof this is damage. */
static void
lose_every_sector(const DirectoryFile *file)
{
	const char *wrong = NULL;
	size_t		offset;

	for (offset = 0; wrong == NULL && offset < file->size; offset += 512)
	{
		Verdict		verdict;
		size_t		mark = file->end + 64;

		f.disk = faulty_disk_copy(whole);
		faulty_disk_zero(f.disk, file->path, offset, offset + 512);
		verdict = judge();
		if (verdict == BROKEN)
			wrong = broken;
		else if (verdict == EARLIER && (file->sequence != newest ||
										offset >= mark || offset + 512 <= file->end))
			wrong = "silently an earlier state";
		faulty_disk_destroy(f.disk);
	}
	ok(wrong == NULL, "each sector of %s lost%s%s", file->name,
	   wrong ? "; " : "", wrong ? wrong : "");
}

/* ----------------------------------------------------------------
 * Files
 * ----------------------------------------------------------------
 */
static void
missing_files(void)
{
	char		snapshot[64];
	int			i;

	snprintf(snapshot, sizeof(snapshot), "snapshot-%016lx-%016lx",
			 f.history[f.n_steps].snapshot, f.history[f.n_steps].snapshot_term);
	for (i = 0; i < n_files; i++)
	{
		bool		needed = files[i].sequence != 0 ||
			strcmp(files[i].name, snapshot) == 0 ||
			strcmp(files[i].name, "identity") == 0;
		Verdict		verdict;

		f.disk = faulty_disk_copy(whole);
		faulty_disk_remove(f.disk, files[i].path);
		verdict = judge();
		ok(verdict == (needed ? REFUSED : FINAL), "without %s: %s", files[i].name,
		   verdict == BROKEN ? broken : verdict == REFUSED ? f.error.message : "opens");
		faulty_disk_destroy(f.disk);
	}
}

static void
doubled_files(void)
{
	raft_u64	sequence;

	for (sequence = 1; sequence <= newest; sequence++)
	{
		const DirectoryFile *file = segment_file(sequence);
		const unsigned char *data;
		size_t		size;
		Verdict		verdict;

		if (file == NULL)
			continue;
		f.disk = faulty_disk_copy(whole);
		data = faulty_disk_data(whole, file->path, &size);
		faulty_disk_put(f.disk, FIXTURE_DIRECTORY "/log-000000ff", data, size);
		verdict = judge();
		ok(verdict == REFUSED && strstr(f.error.message, "log-000000ff") != NULL &&
		   strstr(f.error.message, file->name) != NULL,
		   "segment %lu twice: %s", sequence,
		   verdict == BROKEN ? broken : f.error.message);
		faulty_disk_destroy(f.disk);
	}
}

static void
extra_files(void)
{
	static const char *const ignored[] = {
		"log-1", "log-0000000g", "log-00000001.bak", "snapshot-1-1", "notes", ".tmp"
	};
	char		path[300];
	size_t		size;
	size_t		i;
	int			kept = 0;

	f.disk = faulty_disk_copy(whole);
	for (i = 0; i < lengthof(ignored); i++)
	{
		snprintf(path, sizeof(path), "%s/%s", FIXTURE_DIRECTORY, ignored[i]);
		faulty_disk_put(f.disk, path, (const unsigned char *) "text", 4);
	}
	faulty_disk_put(f.disk, FIXTURE_DIRECTORY "/incoming.tmp",
					(const unsigned char *) "half", 4);
	faulty_disk_put(f.disk, FIXTURE_DIRECTORY
					"/snapshot-0000000000000001-0000000000000001",
					(const unsigned char *) "old", 3);
	ok(judge() == FINAL, "foreign files do not matter");
	for (i = 0; i < lengthof(ignored); i++)
	{
		snprintf(path, sizeof(path), "%s/%s", FIXTURE_DIRECTORY, ignored[i]);
		kept += faulty_disk_data(f.disk, path, &size) != NULL;
	}
	is_u64(kept, lengthof(ignored), "and are left alone");
	ok(faulty_disk_data(f.disk, FIXTURE_DIRECTORY "/incoming.tmp", &size) == NULL,
	   "unfinished files are removed");
	ok(faulty_disk_data(f.disk, FIXTURE_DIRECTORY
						"/snapshot-0000000000000001-0000000000000001", &size) == NULL,
	   "snapshots that the log does not name are removed");
	faulty_disk_destroy(f.disk);
}

/* Another member's segment, whole and valid in itself. */
static void
foreign_segment(void)
{
	const DirectoryFile *file = segment_file(newest);
	unsigned char buffer[4096];
	PgraftSegmentHeader header;
	const char *reason;
	size_t		size;
	Verdict		verdict;

	memcpy(buffer, faulty_disk_data(whole, file->path, &size), sizeof(buffer));
	pgraft_segment_decode(buffer, &header, &reason);
	header.member_uid++;
	pgraft_segment_encode(buffer, &header);
	f.disk = faulty_disk_copy(whole);
	faulty_disk_put(f.disk, file->path, buffer, sizeof(buffer));
	verdict = judge();
	ok(verdict == REFUSED && strstr(f.error.message, "another member") != NULL,
	   "another member's segment is refused");
	faulty_disk_destroy(f.disk);
}

typedef enum ForgedFault
{
	FORGED_RIGHT,
	FORGED_SALT,				/* of another life of the file */
	FORGED_NUMBER,
	FORGED_CHAIN,				/* follows another batch */
	FORGED_PLACE				/* the batch before it is missing */
} ForgedFault;

/*
 * Appends a batch with a hard state of term 999 to the newest segment, right in
 * all but one thing.  f.disk gets it; returns its offset.
 */
static size_t
forge_batch(ForgedFault fault)
{
	const DirectoryFile *file = segment_file(newest);
	unsigned char buffer[4096];
	unsigned char *p;
	PgraftSegmentHeader header;
	PgraftBatchHeader batch;
	const unsigned char *payload;
	const char *reason;
	PgraftRecord record;
	PgraftWalk	walk;
	size_t		size;

	memcpy(buffer, faulty_disk_data(whole, file->path, &size), sizeof(buffer));
	pgraft_segment_decode(buffer, &header, &reason);
	pgraft_walk_begin(&walk, buffer, size, &header);
	while (pgraft_walk_next(&walk, &batch, &payload) == PGRAFT_WALK_BATCH)
		;
	p = buffer + walk.offset;
	if (fault == FORGED_PLACE)
		p += 128;
	memset(&record, 0, sizeof(record));
	record.kind = PGRAFT_RECORD_HARD_STATE;
	record.hard_state.term = 999;
	memset(&batch, 0, sizeof(batch));
	batch.length = (uint32) pgraft_record_encode(p + 64, &record);
	batch.number = walk.state.next_batch +
		(fault == FORGED_NUMBER || fault == FORGED_PLACE ? 1 : 0);
	batch.salt = fault == FORGED_SALT ? header.salt ^ 1 : header.salt;
	batch.durable = walk.state.next_batch - 1;
	batch.n_records = 1;
	batch.previous = walk.state.chain ^ (fault == FORGED_CHAIN ? 1 : 0);
	batch.payload_crc = pgraft_crc32c(p + 64, batch.length);
	pgraft_batch_encode(p, &batch);
	f.disk = faulty_disk_copy(whole);
	faulty_disk_put(f.disk, file->path, buffer, size);
	return (size_t) (p - buffer);
}

/* Stale bytes of a recycled file, and other remains, at their worst. */
static void
forged_batches(void)
{
	static const char *const what[] = {
		"", "a stale salt", "a wrong number", "a wrong chain", "one missing before it"
	};
	PgraftStorageStats stats;
	ForgedFault fault;

	forge_batch(FORGED_RIGHT);
	ok(fixture_open(&f) == PGRAFT_OK && f.seen.hard_state.term == 999,
	   "a batch with everything right is believed");
	fixture_close(&f);
	faulty_disk_destroy(f.disk);
	for (fault = FORGED_SALT; fault <= FORGED_PLACE; fault++)
	{
		size_t		offset = forge_batch(fault);
		const unsigned char *data;
		size_t		size;

		is_u64(fixture_open(&f), PGRAFT_OK, "open");
		ok(fixture_same(&f.seen, &f.history[f.n_steps]), "a batch with %s is not",
		   what[fault]);
		pgraft_storage_stats(f.storage, &stats);
		is_u64(stats.torn_tails, fault != FORGED_SALT, "torn tails");
		fixture_close(&f);
		data = faulty_disk_data(f.disk, segment_file(newest)->path, &size);
		if (fault != FORGED_SALT)
			ok(pgraft_get64(data + offset + 64 + 8) == 0, "and its remains are zeroed");
		faulty_disk_destroy(f.disk);
	}
}

int
main(void)
{
	int			i;

	build();
	f.disk = faulty_disk_copy(whole);
	ok(judge() == FINAL, "undamaged, it opens");
	faulty_disk_destroy(f.disk);
	for (i = 0; i < n_files; i++)
	{
		if (strcmp(files[i].name, "lock") == 0)
			continue;
		flip_every_byte(&files[i]);
		if (files[i].sequence == 0)
			continue;
		cut_at_every_length(&files[i]);
		lose_from_every_offset(&files[i]);
		lose_every_sector(&files[i]);
	}
	flip_without_last_mark();
	missing_files();
	doubled_files();
	extra_files();
	foreign_segment();
	forged_batches();
	faulty_disk_destroy(whole);
	return tap_done();
}
