/*-------------------------------------------------------------------------
 *
 * test_storage_basic.c
 *	  What the storage promises when nothing breaks: identity, lock, clones,
 *	  limits, recycling, reading back, statistics, offline reading, and the same
 *	  on a real file system.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_storage_basic.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/storage/format.h"

#include "storage_fixture.h"
#include "tap.h"

static Fixture f;

static void
setup(const Step *steps, int n)
{
	fixture_init(&f, faulty_disk_create(7), steps, n);
}

static void
teardown(void)
{
	fixture_close(&f);
	is_u64(faulty_disk_open_files(f.disk), 0, "no descriptor is left open");
	faulty_disk_destroy(f.disk);
}

/* ----------------------------------------------------------------
 * Identity, lock, clone
 * ----------------------------------------------------------------
 */
static void
test_identity(void)
{
	PgraftIo   *io;
	PgraftIdentity identity;
	PgraftIdentity other;

	setup(NULL, 0);
	io = faulty_disk_io(f.disk);
	is_u64(pgraft_storage_read_identity(io, FIXTURE_DIRECTORY, &identity, &f.error),
		   PGRAFT_ERR_NOT_FOUND, "absent directory has no identity");
	is_u64(fixture_open(&f), PGRAFT_ERR_NOT_FOUND, "and cannot be opened");
	io->mkdir(io, FIXTURE_DIRECTORY);
	is_u64(pgraft_storage_read_identity(io, FIXTURE_DIRECTORY, &identity, &f.error),
		   PGRAFT_ERR_NOT_FOUND, "nor has a blank one");
	is_u64(fixture_create(&f), PGRAFT_OK, "create in a blank directory");
	is_u64(pgraft_storage_read_identity(io, FIXTURE_DIRECTORY, &identity, &f.error),
		   PGRAFT_OK, "then it has");
	ok(identity.cluster_uid == f.identity.cluster_uid &&
	   identity.node_id == f.identity.node_id &&
	   identity.incarnation == f.identity.incarnation &&
	   identity.member_uid == f.identity.member_uid &&
	   strcmp(identity.cluster_id, f.identity.cluster_id) == 0,
	   "it is the one given");
	other = f.identity;
	other.member_uid++;
	is_u64(pgraft_storage_create(io, FIXTURE_DIRECTORY, &f.options, &other, NULL,
								 NULL, 0, &f.error),
		   PGRAFT_ERR_IN_USE, "no second identity");
	other.member_uid = 0;
	is_u64(pgraft_storage_create(io, "/other", &f.options, &other, NULL, NULL, 0,
								 &f.error),
		   PGRAFT_ERR_INTERNAL, "member uid 0 is refused");
	is_u64(pgraft_storage_create(io, "/absent/deep", &f.options, &f.identity, NULL,
								 NULL, 0, &f.error),
		   PGRAFT_ERR_NOT_FOUND, "no directory is made without its parent");
	teardown();
}

static void
test_lock(void)
{
	PgraftStorage *first;
	char		pid[32];

	setup(NULL, 0);
	fixture_create(&f);
	is_u64(fixture_open(&f), PGRAFT_OK, "open");
	first = f.storage;
	is_u64(fixture_open(&f), PGRAFT_ERR_IN_USE, "a second open is refused");
	snprintf(pid, sizeof(pid), "%ld", (long) getpid());
	ok(strstr(f.error.detail, pid) != NULL, "it names the process: %s", f.error.detail);
	is_u64(fixture_create(&f), PGRAFT_ERR_IN_USE, "so is creating");
	pgraft_storage_close(first);
	is_u64(fixture_open(&f), PGRAFT_OK, "the lock goes with the storage");
	teardown();
}

static void
copy_file(void *arg, const char *name)
{
	char		from[300];
	char		to[300];
	const unsigned char *data;
	size_t		size;

	(void) arg;
	snprintf(from, sizeof(from), "%s/%s", FIXTURE_DIRECTORY, name);
	snprintf(to, sizeof(to), "/copy/%s", name);
	data = faulty_disk_data(f.disk, from, &size);
	faulty_disk_put(f.disk, to, data, size);
}

static void
test_clone(void)
{
	PgraftIo   *io;
	PgraftIdentity identity;
	PgraftStorage *storage;
	PgraftRecovery recovery;

	setup(NULL, 0);
	fixture_create(&f);
	io = faulty_disk_io(f.disk);
	io->mkdir(io, "/copy");
	io->list(io, FIXTURE_DIRECTORY, copy_file, NULL);
	is_u64(pgraft_storage_read_identity(io, "/copy", &identity, &f.error),
		   PGRAFT_ERR_CLONE, "a copied directory is a clone");
	ok(f.error.detail[0] != '\0' && f.error.hint[0] != '\0', "and says why");
	memset(&recovery, 0, sizeof(recovery));
	is_u64(pgraft_storage_open(io, "/copy", &f.options, &recovery, &identity,
							   &storage, &f.error),
		   PGRAFT_ERR_CLONE, "it cannot be opened");
	is_u64(pgraft_storage_create(io, "/copy", &f.options, &f.identity, NULL, NULL,
								 0, &f.error),
		   PGRAFT_ERR_IN_USE, "nor made anew");
	is_u64(pgraft_log_scan(io, "/copy", NULL, NULL, NULL, &f.error), PGRAFT_OK,
		   "but read offline");
	teardown();
}

/* ----------------------------------------------------------------
 * Create with contents
 * ----------------------------------------------------------------
 */
static void
test_create_with_entries(void)
{
	struct raft_hard_state state;
	struct raft_entry entries[2];
	unsigned char data[2][1024];

	setup(NULL, 0);
	memset(&state, 0, sizeof(state));
	state.term = 1;
	fixture_entry(&entries[0], 1, 1, data[0]);
	fixture_entry(&entries[1], 2, 1, data[1]);
	is_u64(pgraft_storage_create(faulty_disk_io(f.disk), FIXTURE_DIRECTORY,
								 &f.options, &f.identity, &state, entries, 2,
								 &f.error), PGRAFT_OK, "create with two entries");
	faulty_disk_restart(f.disk, FAULTY_POWER_LOSS_ALL);
	is_u64(fixture_open(&f), PGRAFT_OK, "open after a power loss");
	is_u64(f.seen.last, 2, "both entries are there");
	is_u64(f.wrong, 0, "with the right bytes");
	is_u64(f.seen.hard_state.term, 1, "and the hard state");
	teardown();
}

/* ----------------------------------------------------------------
 * Limits
 * ----------------------------------------------------------------
 */
static void
test_limits(void)
{
	struct raft_update update;
	struct raft_entry entry;
	struct raft_entry read;
	static unsigned char big[20000];
	PgraftStorageStats stats;
	PgraftJob  *job;
	size_t		n;

	setup(NULL, 0);
	f.options.max_job_bytes = 15000;
	fixture_create(&f);
	fixture_open(&f);
	memset(big, 'x', sizeof(big));
	memset(&entry, 0, sizeof(entry));
	memset(&update, 0, sizeof(update));
	entry.index = 1;
	entry.term = 1;
	entry.data = big;
	entry.length = sizeof(big);
	update.entries = &entry;
	update.n_entries = 1;
	update.must_sync = 1;
	is_u64(fixture_write(&f, &update, 0), PGRAFT_ERR_TOO_LARGE,
		   "a batch beyond max_job_bytes is refused");
	entry.length = 12000;
	is_u64(fixture_write(&f, &update, 0), PGRAFT_OK,
		   "one larger than a segment gets a segment of its size");
	entry.index = 2;
	entry.length = 10;
	is_u64(fixture_write(&f, &update, 0), PGRAFT_OK, "then a small one");
	is_u64(pgraft_storage_read_entries(f.storage, 1, 10, 0, &read, &n), RAFT_OK,
		   "the large one can be read");
	ok(n == 1 && read.length == 12000 && memcmp(read.data, big, 12000) == 0,
	   "alone, whatever max_bytes says");
	entry.index = 4;
	is_u64(pgraft_storage_prepare(f.storage, &update, &job, &f.error),
		   PGRAFT_ERR_INTERNAL, "a gap in the log is refused");
	memset(&update, 0, sizeof(update));
	update.epoch = 77;
	is_u64(pgraft_storage_prepare(f.storage, &update, &job, &f.error), PGRAFT_OK,
		   "an empty update");
	is_u64(pgraft_job_bytes(job), 0, "has no bytes");
	is_u64(pgraft_job_epoch(job), 77, "but its epoch");
	is_u64(pgraft_storage_execute(f.storage, job, &f.error), PGRAFT_OK, "and executes");
	pgraft_storage_complete(f.storage, job);
	pgraft_storage_stats(f.storage, &stats);
	is_u64(stats.batches, 2, "batches are counted");
	is_u64(stats.last_index, 2, "last index");
	is_u64(stats.segments, 1, "the empty first segment was given up");
	fixture_close(&f);
	f.wrong = 0;
	is_u64(fixture_open(&f), PGRAFT_OK, "it opens again");
	teardown();
}

/* ----------------------------------------------------------------
 * Flushing
 * ----------------------------------------------------------------
 */
static void
test_flushes(void)
{
	struct raft_update update;
	struct raft_entry entry;
	unsigned char data[1024];
	PgraftJob  *jobs[3];
	PgraftStorageStats stats;
	unsigned long before;
	int			i;

	setup(NULL, 0);
	fixture_create(&f);
	fixture_open(&f);
	memset(&update, 0, sizeof(update));
	update.entries = &entry;
	update.n_entries = 1;
	update.must_sync = 1;
	fixture_entry(&entry, 1, 1, data);
	before = faulty_disk_calls(f.disk, FAULTY_FDATASYNC | FAULTY_FSYNC);
	is_u64(fixture_write(&f, &update, 0), PGRAFT_OK, "one job");
	is_u64(faulty_disk_calls(f.disk, FAULTY_FDATASYNC | FAULTY_FSYNC) - before, 1,
		   "one flush");
	for (i = 0; i < 3; i++)
	{
		fixture_entry(&entry, 2 + i, 1, data);
		update.epoch = i;
		pgraft_storage_prepare(f.storage, &update, &jobs[i], &f.error);
	}
	before = faulty_disk_calls(f.disk, FAULTY_FDATASYNC | FAULTY_FSYNC);
	is_u64(pgraft_storage_execute_many(f.storage, jobs, 3, &f.error), PGRAFT_OK,
		   "three jobs at once");
	is_u64(faulty_disk_calls(f.disk, FAULTY_FDATASYNC | FAULTY_FSYNC) - before, 1,
		   "still one flush");
	for (i = 0; i < 3; i++)
		pgraft_storage_complete(f.storage, jobs[i]);
	fixture_entry(&entry, 5, 1, data);
	update.must_sync = 0;
	before = faulty_disk_calls(f.disk, FAULTY_FDATASYNC | FAULTY_FSYNC);
	is_u64(fixture_write(&f, &update, 0), PGRAFT_OK, "a job that need not be flushed");
	is_u64(faulty_disk_calls(f.disk, FAULTY_FDATASYNC | FAULTY_FSYNC) - before, 0,
		   "is not");
	pgraft_storage_stats(f.storage, &stats);
	is_u64(stats.fsyncs, 2, "flushes are counted");
	fixture_drop(&f);
	faulty_disk_restart(f.disk, FAULTY_POWER_LOSS_ALL);
	fixture_open(&f);
	ok(f.seen.last >= 4, "flushed jobs survive a power loss");
	teardown();
}

/* A batch of several jobs, and the disk is full in the middle of it. */
static void
test_full_in_the_middle(void)
{
	struct raft_update update;
	struct raft_entry entry;
	unsigned char data[1024];
	PgraftJob  *jobs[30];
	int			i;

	setup(NULL, 0);
	f.options.recycle_segments = 0;
	fixture_create(&f);
	fixture_open(&f);
	memset(&update, 0, sizeof(update));
	update.entries = &entry;
	update.n_entries = 1;
	update.must_sync = 1;
	for (i = 0; i < 30; i++)
	{
		fixture_entry(&entry, 1 + i, 1, data);
		f.history[0].terms[1 + i] = 1;
		pgraft_storage_prepare(f.storage, &update, &jobs[i], &f.error);
	}
	f.history[0].last = 30;
	faulty_disk_set_capacity(f.disk, 8 * 1024);
	is_u64(pgraft_storage_execute_many(f.storage, jobs, 30, &f.error),
		   PGRAFT_ERR_NO_SPACE, "30 jobs do not fit");
	is_u64(pgraft_storage_execute_many(f.storage, jobs, 30, &f.error),
		   PGRAFT_ERR_NO_SPACE, "nor the second time");
	faulty_disk_set_capacity(f.disk, 0);
	is_u64(pgraft_storage_execute_many(f.storage, jobs, 30, &f.error), PGRAFT_OK,
		   "with space the same jobs succeed");
	for (i = 0; i < 30; i++)
		pgraft_storage_complete(f.storage, jobs[i]);
	is_u64(fixture_check_read_back(&f, &f.history[0]), 0, "and can be read");
	fixture_drop(&f);
	faulty_disk_restart(f.disk, FAULTY_POWER_LOSS_ALL);
	fixture_open(&f);
	is_u64(f.seen.last, 30, "and survive");
	is_u64(f.wrong, 0, "unharmed");
	teardown();
}

/* ----------------------------------------------------------------
 * Recycling, reading back
 * ----------------------------------------------------------------
 */
static int	n_log_files;

static void
count_log_file(void *arg, const char *name)
{
	(void) arg;
	n_log_files += strncmp(name, "log-", 4) == 0;
}

static void
test_recycling(void)
{
	static Step steps[200];
	PgraftStorageStats stats;
	int			most = 0;
	int			wrong = 0;
	int			synced;
	int			i;

	for (i = 0; i < 200; i++)
	{
		steps[i].kind = i % 4 == 3 ? STEP_SNAPSHOT : STEP_APPEND;
		steps[i].term = 1 + i / 50;
		steps[i].entries = 5;
		steps[i].back = i % 4 == 3 ? 2 : 0;
		steps[i].snapshot_bytes = 100;
	}
	setup(steps, 200);
	fixture_create(&f);
	fixture_open(&f);
	for (i = 0; i < 200; i++)
	{
		if (fixture_step(&f, i, 0, &synced) != PGRAFT_OK)
			break;
		n_log_files = 0;
		faulty_disk_io(f.disk)->list(faulty_disk_io(f.disk), FIXTURE_DIRECTORY,
									 count_log_file, NULL);
		most = Max(most, n_log_files);
		if (i % 10 == 0)
			wrong += fixture_check_read_back(&f, &f.history[i + 1]);
	}
	is_u64(i, 200, "all steps succeed");
	is_u64(wrong, 0, "every entry can be read at any time");
	ok(most <= 5, "files are recycled: never more than %d", most);
	pgraft_storage_stats(f.storage, &stats);
	is_u64(stats.first_index, f.history[200].start + 1, "first index");
	is_u64(stats.last_index, f.history[200].last, "last index");
	is_u64(stats.snapshot_index, f.history[200].snapshot, "snapshot index");
	ok(stats.log_bytes <= stats.segments * 4096, "live bytes: %lu", stats.log_bytes);
	is_u64(fixture_check_snapshot(&f, &f.history[200]), 0, "snapshot is right");
	teardown();
}

/* A flip under the running storage is met as an error, not as an entry. */
static void
test_read_damaged(void)
{
	Fixture    *fix = &f;
	struct raft_entry entries[4];
	size_t		size;
	size_t		offset;
	size_t		n;
	int			wrong = 0;
	int			refused = 0;
	int			synced;
	int			i;

	setup(fixture_short_script, 2);
	fixture_create(fix);
	fixture_open(fix);
	for (i = 0; i < 2; i++)
		fixture_step(fix, i, 0, &synced);
	faulty_disk_data(f.disk, FIXTURE_DIRECTORY "/log-00000001", &size);
	for (offset = 512; offset < size; offset++)
	{
		faulty_disk_flip(f.disk, FIXTURE_DIRECTORY "/log-00000001", offset, 4);
		if (pgraft_storage_read_entries(f.storage, 1, 4, 4000, entries, &n) != RAFT_OK)
			refused++;
		else
			for (i = 0; i < (int) n; i++)
				if (entries[i].index != (raft_index) i + 1 || entries[i].term != 1 ||
					!fixture_entry_right(&entries[i]))
					wrong++;
		faulty_disk_flip(f.disk, FIXTURE_DIRECTORY "/log-00000001", offset, 4);
	}
	is_u64(wrong, 0, "no damaged entry is handed out");
	ok(refused > 100, "%d damages are noticed", refused);
	teardown();
}

/* ----------------------------------------------------------------
 * Offline reading
 * ----------------------------------------------------------------
 */
typedef struct Scanned
{
	int			entries;
	int			other;
	int			wrong;
	raft_u64	batch;
} Scanned;

static int
visit(void *arg, const PgraftLogRecord *record)
{
	Scanned    *scanned = arg;

	if (record->batch < scanned->batch || record->file == NULL)
		scanned->wrong++;
	scanned->batch = record->batch;
	if (strcmp(record->kind, "entry") != 0)
		scanned->other++;
	else
	{
		scanned->entries++;
		if (!fixture_entry_right(&record->entry))
			scanned->wrong++;
	}
	return 0;
}

static void
test_scan(void)
{
	PgraftStorageStats stats;
	Scanned		scanned;
	int			synced;
	int			entries = 0;
	int			i;

	setup(fixture_short_script, 6);
	fixture_create(&f);
	fixture_open(&f);
	for (i = 0; i < 6; i++)
	{
		fixture_step(&f, i, 0, &synced);
		entries += f.steps[i].entries;
	}
	memset(&scanned, 0, sizeof(scanned));
	is_u64(pgraft_log_scan(faulty_disk_io(f.disk), FIXTURE_DIRECTORY, visit,
						   &scanned, &stats, &f.error), PGRAFT_OK,
		   "a log in use can be read");
	is_u64(scanned.entries, entries, "every entry ever written is visited");
	is_u64(scanned.other, 7, "and every other record");
	is_u64(scanned.wrong, 0, "in order, unharmed");
	is_u64(stats.last_index, f.history[6].last, "summary: last index");
	is_u64(stats.batches, 6, "summary: batches");
	teardown();
}

/* ----------------------------------------------------------------
 * Real files
 * ----------------------------------------------------------------
 */
static void
remove_name(void *arg, const char *name)
{
	char		path[400];

	snprintf(path, sizeof(path), "%s/%s", (const char *) arg, name);
	unlink(path);
}

static int
ignore_entry(void *context, const struct raft_entry *entry)
{
	raft_index *last = context;

	*last = entry->index;
	return 0;
}

static int
ignore_hard_state(void *context, const struct raft_hard_state *state)
{
	(void) context;
	(void) state;
	return 0;
}

static void
test_real_files(void)
{
	char		directory[] = "/tmp/pgraft_storage_XXXXXX";
	char		path[300];
	PgraftIo	io;
	PgraftIdentity identity;
	PgraftRecovery recovery;
	PgraftStorage *storage;
	PgraftStorage *second;
	struct raft_update update;
	struct raft_entry entry;
	unsigned char data[1024];
	PgraftJob  *job;
	raft_index	last = 0;
	struct stat st;
	int			status;
	pid_t		child;
	int			i;

	ok(mkdtemp(directory) != NULL, "temporary directory");
	setup(NULL, 0);
	pgraft_io_posix(&io);
	snprintf(path, sizeof(path), "%s/state", directory);
	memset(&recovery, 0, sizeof(recovery));
	recovery.context = &last;
	recovery.entry = ignore_entry;
	recovery.hard_state = ignore_hard_state;
	is_u64(pgraft_storage_create(&io, path, &f.options, &f.identity, NULL, NULL, 0,
								 &f.error), PGRAFT_OK, "create");
	ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0700, "directory is private");
	is_u64(pgraft_storage_open(&io, path, &f.options, &recovery, &identity, &storage,
							   &f.error), PGRAFT_OK, "open");
	memset(&update, 0, sizeof(update));
	update.entries = &entry;
	update.n_entries = 1;
	update.must_sync = 1;
	for (i = 1; i <= 100; i++)
	{
		fixture_entry(&entry, i, 1, data);
		if (pgraft_storage_prepare(storage, &update, &job, &f.error) != PGRAFT_OK ||
			pgraft_storage_execute(storage, job, &f.error) != PGRAFT_OK)
			break;
		pgraft_storage_complete(storage, job);
		if (i % 20 == 0 && pgraft_storage_make_ready(storage, &f.error) != PGRAFT_OK)
			break;
	}
	is_u64(i, 101, "write");
	child = fork();
	if (child == 0)
		_exit(pgraft_storage_open(&io, path, &f.options, &recovery, &identity,
								  &second, NULL) == PGRAFT_ERR_IN_USE ? 0 : 1);
	ok(child > 0 && waitpid(child, &status, 0) == child && status == 0,
	   "another process finds it locked");
	pgraft_storage_close(storage);
	is_u64(pgraft_storage_open(&io, path, &f.options, &recovery, &identity, &storage,
							   &f.error), PGRAFT_OK, "open again");
	is_u64(last, 100, "everything is there");
	pgraft_storage_close(storage);
	is_u64(pgraft_log_scan(&io, path, NULL, NULL, NULL, &f.error), PGRAFT_OK, "verify");
	io.list(&io, path, remove_name, path);
	ok(rmdir(path) == 0 && rmdir(directory) == 0, "nothing but files is left");
	faulty_disk_destroy(f.disk);
}

int
main(void)
{
	test_identity();
	test_lock();
	test_clone();
	test_create_with_entries();
	test_limits();
	test_flushes();
	test_full_in_the_middle();
	test_recycling();
	test_read_damaged();
	test_scan();
	test_real_files();
	is_u64(pgraft_crc32c("123456789", 9), 0xE3069283, "CRC is CRC-32C");
	return tap_done();
}
