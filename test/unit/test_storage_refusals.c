/*-------------------------------------------------------------------------
 *
 * test_storage_refusals.c
 *	  What the storage refuses, and what it says then: odd paths and names,
 *	  readers that object, updates that contradict the log, files that change
 *	  under an open storage, anything after a failed flush.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_storage_refusals.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/storage/internal.h"

#include "storage_fixture.h"
#include "tap.h"

static Fixture f;

static void
setup(int steps)
{
	int			synced;
	int			i;
	bool		good;

	fixture_init(&f, faulty_disk_create(5), fixture_short_script, fixture_short_steps);
	good = fixture_create(&f) == PGRAFT_OK && fixture_open(&f) == PGRAFT_OK;
	for (i = 0; good && i < steps; i++)
		good = fixture_step(&f, i, 0, &synced) == PGRAFT_OK;
	ok(good, "%d steps", steps);
}

static void
teardown(void)
{
	fixture_close(&f);
	is_u64(faulty_disk_open_files(f.disk), 0, "no descriptor is left open");
	faulty_disk_destroy(f.disk);
}

static void
path_in_directory(char *path, const char *name)
{
	snprintf(path, PGRAFT_PATH_BYTES, "%s/%s", FIXTURE_DIRECTORY, name);
}

/* ----------------------------------------------------------------
 * Paths and names
 * ----------------------------------------------------------------
 */
static void
paths(void)
{
	char		path[PGRAFT_PATH_BYTES + 100];
	PgraftIo   *io;
	PgraftIdentity identity;
	PgraftStorage *storage;
	PgraftFileList list;
	PgraftRecovery recovery;
	size_t		length;

	setup(3);
	fixture_close(&f);
	io = faulty_disk_io(f.disk);
	memset(&recovery, 0, sizeof(recovery));
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	is_u64(pgraft_storage_open(io, path, &f.options, &recovery, &identity, &storage, &f.error),
		   PGRAFT_ERR_CONFIG, "a path that is too long cannot be opened");
	is_u64(pgraft_storage_create(io, path, &f.options, &f.identity, NULL, NULL, 0, &f.error),
		   PGRAFT_ERR_CONFIG, "nor made");
	is_u64(pgraft_log_scan(io, path, NULL, NULL, NULL, &f.error), PGRAFT_ERR_CONFIG,
		   "nor scanned");
	is_u64(pgraft_list_files(io, path, &list, &f.error), PGRAFT_ERR_CONFIG, "nor listed");

	/* a name longer than any of ours */
	path_in_directory(path, "log-00000001-and-then-a-name-that-is-longer-than-any-of-those-made-here");
	faulty_disk_put(f.disk, path, (const unsigned char *) "?", 1);
	is_u64(fixture_open(&f), PGRAFT_OK, "a strange file is ignored");
	ok(faulty_disk_data(f.disk, path, &length) != NULL, "and left alone");
	teardown();
}

/* As they are given to a real file system. */
static void
real_paths(void)
{
	char		directory[] = "/tmp/pgraft-unit.XXXXXX";
	char		command[100];
	char		before[PGRAFT_PATH_BYTES];
	PgraftIo	io;
	PgraftIdentity identity;

	fixture_init(&f, faulty_disk_create(5), fixture_short_script, fixture_short_steps);
	pgraft_io_posix(&io);
	ok(mkdtemp(directory) != NULL && getcwd(before, sizeof(before)) != NULL &&
	   chdir(directory) == 0, "a place for relative paths");
	is_u64(pgraft_storage_create(&io, "slashes//", &f.options, &f.identity, NULL, NULL, 0,
								 &f.error), PGRAFT_OK, "a path may end with slashes");
	is_u64(pgraft_storage_create(&io, "relative", &f.options, &f.identity, NULL, NULL, 0,
								 &f.error), PGRAFT_OK, "or be relative");
	is_u64(pgraft_storage_read_identity(&io, "relative", &identity, &f.error), PGRAFT_OK,
		   "and is found there");
	snprintf(command, sizeof(command), "rm -r '%s'", directory);
	ok(chdir(before) == 0 && system(command) == 0, "nothing is left");
	faulty_disk_destroy(f.disk);
}

/* The greatest number is taken: numbers begin anew, over no other file. */
static void
file_numbers(void)
{
	char		first[PGRAFT_PATH_BYTES];
	char		last[PGRAFT_PATH_BYTES];
	char		other[PGRAFT_PATH_BYTES];
	const unsigned char *data;
	size_t		length = 0;
	int			synced;
	int			i;
	bool		good = true;

	setup(2);
	fixture_close(&f);
	path_in_directory(first, "log-00000001");
	path_in_directory(last, "log-ffffffff");
	path_in_directory(other, "log-00000000");
	data = faulty_disk_data(f.disk, first, &length);
	faulty_disk_put(f.disk, last, data, length);
	for (i = 1; i < 10; i++)
	{
		snprintf(first, sizeof(first), "%s/log-%08x", FIXTURE_DIRECTORY, (unsigned int) i);
		(void) faulty_disk_remove(f.disk, first);
	}
	is_u64(fixture_open(&f), PGRAFT_OK, "a segment with the greatest number");
	for (i = 2; good && i < f.n_steps; i++)
		good = fixture_step(&f, i, 0, &synced) == PGRAFT_OK;
	ok(good, "and more segments after it");
	ok(faulty_disk_data(f.disk, other, &length) != NULL, "whose numbers begin anew");
	fixture_close(&f);
	is_u64(fixture_open(&f), PGRAFT_OK, "opened again");
	ok(fixture_same(&f.seen, &f.history[f.n_steps]) && f.wrong == 0, "with all of it");
	teardown();
}

static void
error_texts(void)
{
	PgraftError error;

	is_u64(pgraft_error(NULL, PGRAFT_ERR_IO, "%d", 1), PGRAFT_ERR_IO, "nobody wants the text");
	pgraft_error_detail(NULL, "%d", 1);
	pgraft_error_hint(NULL, "%d", 1);
	(void) pgraft_error(&error, PGRAFT_ERR_IO, "x");
	pgraft_error_detail(&error, "%d", 12);
	pgraft_error_hint(&error, "%d", 34);
	ok(strcmp(error.detail, "12") == 0 && strcmp(error.hint, "34") == 0, "somebody does");
}

/* ----------------------------------------------------------------
 * Readers that object
 * ----------------------------------------------------------------
 */
typedef struct Objection
{
	int			kind;			/* of callback that objects, 1 to 5 */
} Objection;

static int
objects_snapshot(void *context, const struct raft_snapshot_meta *meta)
{
	(void) meta;
	return ((Objection *) context)->kind == 1;
}

static int
objects_log_start(void *context, raft_index index, raft_term term)
{
	(void) index;
	(void) term;
	return ((Objection *) context)->kind == 2;
}

static int
objects_hard_state(void *context, const struct raft_hard_state *state)
{
	(void) state;
	return ((Objection *) context)->kind == 3;
}

static int
objects_entry(void *context, const struct raft_entry *entry)
{
	(void) entry;
	return ((Objection *) context)->kind == 4;
}

static int
objects_truncate(void *context, raft_index from)
{
	(void) from;
	return ((Objection *) context)->kind == 5;
}

static int
objects_record(void *arg, const PgraftLogRecord *record)
{
	(void) record;
	return --*(int *) arg < 0;
}

static int
objects_data(void *arg, const unsigned char *data, size_t length)
{
	(void) arg;
	(void) data;
	(void) length;
	return 1;
}

static void
readers(void)
{
	PgraftRecovery recovery;
	PgraftIdentity identity;
	PgraftStorage *storage;
	Objection	objection;
	struct raft_snapshot_meta meta;
	int			records;

	setup(fixture_short_steps);
	is_u64(pgraft_storage_load_snapshot(f.storage, &meta, objects_data, NULL, &f.error),
		   PGRAFT_ERR_CORRUPT, "a reader may refuse a snapshot");
	fixture_close(&f);
	recovery.context = &objection;
	recovery.snapshot = objects_snapshot;
	recovery.log_start = objects_log_start;
	recovery.hard_state = objects_hard_state;
	recovery.entry = objects_entry;
	recovery.truncate = objects_truncate;
	for (objection.kind = 1; objection.kind <= 5; objection.kind++)
		is_u64(pgraft_storage_open(faulty_disk_io(f.disk), FIXTURE_DIRECTORY, &f.options,
								   &recovery, &identity, &storage, &f.error),
			   PGRAFT_ERR_CORRUPT, "a reader refuses what it is told");
	for (records = 0; records < 4; records += 3)
	{
		int			n = records;

		is_u64(pgraft_log_scan(faulty_disk_io(f.disk), FIXTURE_DIRECTORY, objects_record,
							   &n, NULL, &f.error),
			   PGRAFT_ERR_CORRUPT, "a visitor ends a scan");
	}
	is_u64(fixture_open(&f), PGRAFT_OK, "nothing of that changed the log");
	ok(fixture_same(&f.seen, &f.history[f.n_steps]), "it is what it was");
	teardown();
}

/* ----------------------------------------------------------------
 * Updates
 * ----------------------------------------------------------------
 */
static void
refuse(const struct raft_update *update, PgraftErrorCode code, const char *what)
{
	PgraftJob  *job = NULL;

	is_u64(pgraft_storage_prepare(f.storage, update, &job, &f.error), code, what);
	ok(job == NULL && f.error.message[0] != '\0', "%s", f.error.message);
}

static void
updates(void)
{
	struct raft_update update;
	struct raft_entry entries[2];
	struct raft_snapshot_chunk chunk;
	struct raft_snapshot_meta meta;
	PgraftSnapshotWriter *writer;
	raft_index	last;
	int			synced;

	setup(6);
	last = f.history[6].last;
	memset(&update, 0, sizeof(update));
	memset(entries, 0, sizeof(entries));
	update.entries = entries;
	update.n_entries = 2;
	entries[0].index = last + 1;
	entries[1].index = last + 3;
	refuse(&update, PGRAFT_ERR_INTERNAL, "entries with a gap");
	entries[0].index = last + 2;
	update.n_entries = 1;
	refuse(&update, PGRAFT_ERR_INTERNAL, "a gap before the entries");
	entries[0].index = ~(raft_index) 0;
	refuse(&update, PGRAFT_ERR_INTERNAL, "the greatest index");
	entries[0].index = last + 1;
	entries[0].length = PGRAFT_MAX_SEGMENT_BYTES;
	refuse(&update, PGRAFT_ERR_TOO_LARGE, "an entry that fits in no segment");
	update.n_entries = 0;

	memset(&chunk, 0, sizeof(chunk));
	fixture_snapshot_meta(&chunk.meta, last + 5, 4);
	chunk.meta.config.n_members = RAFT_MAX_MEMBERS + 1;
	update.chunk = &chunk;
	refuse(&update, PGRAFT_ERR_INTERNAL, "a snapshot with an impossible configuration");
	fixture_snapshot_meta(&chunk.meta, ~(raft_index) 0, 4);
	update.install = &chunk.meta;
	refuse(&update, PGRAFT_ERR_INTERNAL, "a snapshot of the greatest index");
	update.chunk = NULL;
	refuse(&update, PGRAFT_ERR_PROTOCOL, "a snapshot that was not received");

	fixture_snapshot_meta(&meta, last, 3);
	meta.config.n_members = RAFT_MAX_MEMBERS + 1;
	is_u64(pgraft_snapshot_begin(f.storage, &meta, &writer, &f.error), PGRAFT_ERR_INTERNAL,
		   "a local snapshot with an impossible configuration");
	is_u64(pgraft_storage_execute_many(f.storage, NULL, 0, &f.error), PGRAFT_OK,
		   "no jobs are no work");
	pgraft_storage_forget(f.storage, 0);
	pgraft_storage_forget(f.storage, last + 100);
	is_u64(fixture_step(&f, 6, 0, &synced), PGRAFT_OK, "after all that the log goes on");
	fixture_close(&f);
	is_u64(fixture_open(&f), PGRAFT_OK, "and opens");
	ok(fixture_same(&f.seen, &f.history[7]), "with nothing of what was refused");
	teardown();
}

static PgraftSnapshotWriter *
finished_snapshot(raft_index index)
{
	struct raft_snapshot_meta meta;
	PgraftSnapshotWriter *writer = NULL;

	fixture_snapshot_meta(&meta, index, f.history[6].terms[index]);
	if (pgraft_snapshot_begin(f.storage, &meta, &writer, &f.error) != PGRAFT_OK ||
		pgraft_snapshot_write(writer, "data", 4, &f.error) != PGRAFT_OK ||
		pgraft_snapshot_finish(writer, &f.error) != PGRAFT_OK)
		return NULL;
	return writer;
}

static bool
has_snapshot(raft_index index)
{
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];
	size_t		length;

	pgraft_snapshot_name(name, index, f.history[6].terms[index]);
	path_in_directory(path, name);
	return faulty_disk_data(f.disk, path, &length) != NULL;
}

/* A second snapshot before the first one is recorded; the same one twice. */
static void
snapshots_in_a_row(void)
{
	char		name[PGRAFT_NAME_BYTES];
	char		path[PGRAFT_PATH_BYTES];
	const unsigned char *data;
	raft_u64	total;
	size_t		n;
	struct raft_update update;
	raft_index	last;

	setup(6);
	last = f.history[6].last;
	pgraft_snapshot_publish(finished_snapshot(last - 4));
	ok(has_snapshot(last - 4), "a snapshot");
	pgraft_snapshot_publish(finished_snapshot(last - 2));
	ok(has_snapshot(last - 2) && !has_snapshot(last - 4), "the next one takes its place");
	pgraft_snapshot_name(name, last - 2, f.history[6].terms[last - 2]);
	path_in_directory(path, name);
	faulty_disk_flip(f.disk, path, PGRAFT_SNAPSHOT_HEADER_BYTES + 2, 1);
	is_u64(pgraft_storage_read_snapshot(f.storage, last - 2, 0, 10, &data, &n, &total),
		   RAFT_E_CORRUPT, "damaged before its first use, it is found out");
	faulty_disk_flip(f.disk, path, PGRAFT_SNAPSHOT_HEADER_BYTES + 2, 1);
	is_u64(pgraft_storage_read_snapshot(f.storage, last - 2, 0, 10, &data, &n, &total),
		   RAFT_OK, "put right, it can be read");
	pgraft_snapshot_abort(finished_snapshot(last));
	ok(has_snapshot(last - 2) && !has_snapshot(last), "one that is given up leaves nothing");
	pgraft_storage_forget(f.storage, last - 3);
	pgraft_storage_forget(f.storage, last - 4);
	memset(&update, 0, sizeof(update));
	update.hard_state_changed = 1;
	update.must_sync = 1;
	is_u64(fixture_write(&f, &update, 0), PGRAFT_OK, "a batch records it");
	fixture_close(&f);
	is_u64(fixture_open(&f), PGRAFT_OK, "open again");
	is_u64(f.seen.snapshot, last - 2, "with that snapshot");
	is_u64(f.seen.start, last - 4, "and the start that was asked for first");
	teardown();
}

/* ----------------------------------------------------------------
 * Files that change under an open storage
 * ----------------------------------------------------------------
 */
static int
read_one(raft_index index)
{
	struct raft_entry entry;
	size_t		n;

	return pgraft_storage_read_entries(f.storage, index, 1, 1000, &entry, &n);
}

static void
changing_files(void)
{
	char		path[PGRAFT_PATH_BYTES];
	char		name[PGRAFT_NAME_BYTES];
	const unsigned char *data;
	raft_u64	total;
	size_t		n;
	size_t		length;
	raft_index	index;
	struct raft_entry entry;

	setup(2);
	path_in_directory(path, "log-00000001");
	is_u64(read_one(1), RAFT_OK, "entry 1 can be read");
	is_u64(pgraft_storage_read_entries(f.storage, 1, 0, 1000, &entry, &n), RAFT_E_INVALID,
		   "asking for no entries is wrong");
	faulty_disk_flip(f.disk, path, PGRAFT_SEGMENT_HEADER_BYTES + 2, 1);
	is_u64(read_one(1), RAFT_E_CORRUPT, "a batch without its magic number is found out");
	faulty_disk_flip(f.disk, path, PGRAFT_SEGMENT_HEADER_BYTES + 2, 1);
	faulty_disk_flip(f.disk, path, PGRAFT_SEGMENT_HEADER_BYTES + 100, 1);
	is_u64(read_one(1), RAFT_E_CORRUPT, "so is a payload that changed");
	faulty_disk_flip(f.disk, path, PGRAFT_SEGMENT_HEADER_BYTES + 100, 1);
	is_u64(read_one(1), RAFT_OK, "put right, it can be read");
	faulty_disk_cut(f.disk, path, PGRAFT_SEGMENT_HEADER_BYTES + 10);
	is_u64(read_one(1), RAFT_E_CORRUPT, "a file that was cut is found out");
	fixture_drop(&f);
	faulty_disk_restart(f.disk, FAULTY_KILL);
	teardown();

	setup(7);
	index = f.history[7].snapshot;
	pgraft_snapshot_name(name, index, f.history[7].snapshot_term);
	path_in_directory(path, name);
	is_u64(pgraft_storage_read_snapshot(f.storage, index, 0, 100, &data, &n, &total), RAFT_OK,
		   "the snapshot can be read");
	is_u64(pgraft_storage_read_snapshot(f.storage, index, total + 1, 100, &data, &n, &total),
		   RAFT_E_INVALID, "but not beyond its end");
	is_u64(pgraft_storage_read_snapshot(f.storage, index + 1, 0, 100, &data, &n, &total),
		   RAFT_E_COMPACTED, "nor another one");
	data = faulty_disk_data(f.disk, path, &length);
	faulty_disk_cut(f.disk, path, length - 300);
	is_u64(pgraft_storage_read_snapshot(f.storage, index, 0, 700, &data, &n, &total),
		   RAFT_E_CORRUPT, "a snapshot that was cut is found out");
	fixture_close(&f);
	is_u64(fixture_open(&f), PGRAFT_ERR_CORRUPT, "and not opened");
	ok(strstr(f.error.message, name) != NULL, "%s", f.error.message);
	teardown();
}

/* ----------------------------------------------------------------
 * After a failed flush
 * ----------------------------------------------------------------
 */
static void
failed_flush(void)
{
	struct raft_update update;
	int			synced;

	setup(2);
	faulty_disk_fail_at(f.disk, FAULTY_FDATASYNC, 1, EIO);
	is_u64(fixture_step(&f, 3, 0, &synced), PGRAFT_ERR_IO, "a flush fails");
	memset(&update, 0, sizeof(update));
	update.hard_state_changed = 1;
	update.must_sync = 1;
	is_u64(fixture_write(&f, &update, 0), PGRAFT_ERR_IO, "from then on nothing is written");
	is_u64(pgraft_storage_make_ready(f.storage, &f.error), PGRAFT_ERR_IO, "nor made ready");
	ok(strstr(f.error.message, "failed before") != NULL, "%s", f.error.message);
	teardown();
}

/* ----------------------------------------------------------------
 * The real file system
 * ----------------------------------------------------------------
 */
static void
ignore_name(void *arg, const char *name)
{
	(void) arg;
	(void) name;
}

static void
real_errors(void)
{
	char		directory[] = "/tmp/pgraft-unit.XXXXXX";
	char		path[100];
	PgraftIo	io;
	unsigned long device;
	unsigned long inode;
	off_t		size;
	int			fd;

	pgraft_io_posix(&io);
	ok(mkdtemp(directory) != NULL, "a directory");
	snprintf(path, sizeof(path), "%s/file", directory);
	fd = io.open(&io, path, O_RDWR | O_CREAT);
	ok(fd >= 0 && io.ftruncate(&io, fd, 100) == 0, "a file of 100 bytes");
	ok(io.size(&io, fd, &size) == 0 && size == 100, "has that size");
	ok(io.close(&io, fd) == 0 && io.size(&io, fd, &size) < 0 && errno == EBADF,
	   "which a closed file has not");
	ok(io.list(&io, path, ignore_name, NULL) < 0 && errno == ENOTDIR,
	   "a file cannot be listed");
	ok(io.unlink(&io, path) == 0 && io.identify(&io, path, &device, &inode) < 0 &&
	   errno == ENOENT, "nor identified when it is gone");
	ok(rmdir(directory) == 0, "nothing is left");
}

int
main(void)
{
	paths();
	real_paths();
	file_numbers();
	error_texts();
	readers();
	updates();
	snapshots_in_a_row();
	changing_files();
	failed_flush();
	real_errors();
	return tap_done();
}
