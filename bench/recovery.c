/*-------------------------------------------------------------------------
 *
 * recovery.c
 *	  How fast a log is recovered, against how fast its files can be read.
 *
 *		recovery [MEGABYTES [DIRECTORY]]
 *
 * Builds a log of that size (1024) in a new directory, then in turn, three
 * times: drops the page cache and reads all segment files from beginning to
 * end; drops it and opens the storage, which reads them, checks every checksum
 * and delivers every entry.  The ratio of the two is what recovery costs on top
 * of the disk.  Then the same with everything in memory, against how fast a
 * checksum over as many bytes is.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  bench/recovery.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "port/pg_crc32c.h"

#include "pgraft/storage.h"

#undef printf
#undef fprintf
#undef snprintf

#define ENTRY_BYTES 1000
#define JOB_ENTRIES 256
#define READ_BYTES (1024 * 1024)
#define ROUNDS 3
#define MAX_FILES 4096

typedef struct Delivered
{
	unsigned long entries;
	unsigned long bytes;
} Delivered;

static PgraftIo io;
static char directory[900];
static char files[MAX_FILES][1200];
static int	n_files;
static bool privileged = true;	/* to drop the kernel's caches */

static void
fail(const char *what, const char *reason)
{
	fprintf(stderr, "recovery: %s: %s\n", what, reason);
	exit(1);
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* Of this process, in the kernel too; on a busy machine it tells more. */
static double
processor_seconds(void)
{
	struct rusage usage;

	(void) getrusage(RUSAGE_SELF, &usage);
	return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ----------------------------------------------------------------
 * The log
 * ----------------------------------------------------------------
 */
static int
take_entry(void *context, const struct raft_entry *entry)
{
	Delivered  *delivered = context;

	delivered->entries++;
	delivered->bytes += entry->length;
	return 0;
}

static int
take_snapshot(void *context, const struct raft_snapshot_meta *meta)
{
	(void) context;
	(void) meta;
	return 0;
}

static int
take_log_start(void *context, raft_index index, raft_term term)
{
	(void) context;
	(void) index;
	(void) term;
	return 0;
}

static int
take_hard_state(void *context, const struct raft_hard_state *state)
{
	(void) context;
	(void) state;
	return 0;
}

static PgraftStorage *
open_storage(Delivered *delivered)
{
	PgraftStorageOptions options;
	PgraftRecovery recovery;
	PgraftIdentity identity;
	PgraftStorage *storage;
	PgraftError error;

	pgraft_storage_default_options(&options);
	memset(&recovery, 0, sizeof(recovery));
	memset(delivered, 0, sizeof(*delivered));
	recovery.context = delivered;
	recovery.snapshot = take_snapshot;
	recovery.log_start = take_log_start;
	recovery.hard_state = take_hard_state;
	recovery.entry = take_entry;
	if (pgraft_storage_open(&io, directory, &options, &recovery, &identity, &storage,
							&error) != PGRAFT_OK)
		fail("could not open the log", error.message);
	return storage;
}

static void
build_log(unsigned long bytes)
{
	static unsigned char data[ENTRY_BYTES];
	static struct raft_entry entries[JOB_ENTRIES];
	PgraftStorageOptions options;
	PgraftIdentity identity;
	PgraftStorage *storage;
	PgraftError error;
	Delivered	delivered;
	struct raft_update update;
	raft_index	index = 0;
	unsigned long written = 0;
	size_t		i;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char) (i * 7 + i / 13);
	memset(&identity, 0, sizeof(identity));
	identity.cluster_uid = identity.member_uid = 1;
	identity.node_id = 1;
	pgraft_storage_default_options(&options);
	if (pgraft_storage_create(&io, directory, &options, &identity, NULL, NULL, 0,
							  &error) != PGRAFT_OK)
		fail("could not make a log", error.message);
	storage = open_storage(&delivered);
	while (written < bytes)
	{
		PgraftJob  *job;

		memset(&update, 0, sizeof(update));
		update.epoch = index + 1;
		update.must_sync = 1;
		update.entries = entries;
		update.n_entries = JOB_ENTRIES;
		for (i = 0; i < JOB_ENTRIES; i++)
		{
			entries[i].index = ++index;
			entries[i].term = 1;
			entries[i].length = ENTRY_BYTES;
			entries[i].data = data;
		}
		if (pgraft_storage_prepare(storage, &update, &job, &error) != PGRAFT_OK)
			fail("could not prepare", error.message);
		written += pgraft_job_bytes(job);
		if (pgraft_storage_execute(storage, job, &error) != PGRAFT_OK)
			fail("could not write", error.message);
		pgraft_storage_complete(storage, job);
	}
	pgraft_storage_close(storage);
}

/* ----------------------------------------------------------------
 * Its files
 * ----------------------------------------------------------------
 */
static int
compare_paths(const void *a, const void *b)
{
	return strcmp(a, b);
}

static unsigned long
find_files(void)
{
	DIR		   *dir = opendir(directory);
	struct dirent *entry;
	struct stat status;
	unsigned long bytes = 0;
	int			i;

	n_files = 0;
	while (dir != NULL && (entry = readdir(dir)) != NULL && n_files < MAX_FILES)
		if (entry->d_name[0] != '.')
			snprintf(files[n_files++], sizeof(files[0]), "%s/%s", directory, entry->d_name);
	if (dir != NULL)
		closedir(dir);
	qsort(files, (size_t) n_files, sizeof(files[0]), compare_paths);
	for (i = 0; i < n_files; i++)
		if (strstr(files[i], "/log-") != NULL && stat(files[i], &status) == 0)
			bytes += (unsigned long) status.st_size;
	return bytes;
}

/* So that the next reader needs the disk. */
static void
drop_cache(void)
{
	int			fd;
	int			i;

	sync();
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	privileged = fd >= 0 && write(fd, "3\n", 2) == 2;
	if (fd >= 0)
		close(fd);
	for (i = 0; i < n_files; i++)
	{
		fd = open(files[i], O_RDONLY);
		if (fd < 0)
			continue;
		(void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
}

/* Seconds that it takes to read them all; with the time for a checksum if asked. */
static double
read_files(bool checksum)
{
	static unsigned char buffer[READ_BYTES];
	double		started = seconds();
	pg_crc32c	crc;
	int			i;

	INIT_CRC32C(crc);
	for (i = 0; i < n_files; i++)
	{
		int			fd;
		ssize_t		n;

		if (strstr(files[i], "/log-") == NULL)
			continue;
		fd = open(files[i], O_RDONLY);
		if (fd < 0)
			fail("could not open a file", files[i]);
		while ((n = read(fd, buffer, sizeof(buffer))) > 0)
			if (checksum)
				COMP_CRC32C(crc, buffer, n);
		close(fd);
		if (n < 0)
			fail("could not read a file", files[i]);
	}
	FIN_CRC32C(crc);
	if (checksum && crc == 0)
		printf("a checksum of zero: how likely is that?\n");
	return seconds() - started;
}

static double
recover(unsigned long *entries)
{
	double		started = seconds();
	Delivered	delivered;
	PgraftStorage *storage = open_storage(&delivered);
	double		took = seconds() - started;

	*entries = delivered.entries;
	pgraft_storage_close(storage);
	return took;
}

static int
compare_times(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return x < y ? -1 : x > y ? 1 : 0;
}

static double
median(double *times)
{
	qsort(times, ROUNDS, sizeof(times[0]), compare_times);
	return times[ROUNDS / 2];
}

static void
compare(const char *title, bool cold, double megabytes)
{
	double		reading[ROUNDS];
	double		recovering[ROUNDS];
	unsigned long entries = 0;
	double		reading_cpu = 0;
	double		recovering_cpu = 0;
	double		a;
	double		b;
	int			i;

	for (i = 0; i < ROUNDS; i++)
	{
		if (cold)
			drop_cache();
		reading_cpu -= processor_seconds();
		reading[i] = read_files(!cold);
		reading_cpu += processor_seconds();
		if (cold)
			drop_cache();
		recovering_cpu -= processor_seconds();
		recovering[i] = recover(&entries);
		recovering_cpu += processor_seconds();
	}
	a = median(reading);
	b = median(recovering);
	printf("%s  %-22s %7.3f s  %6.0f MB/s  processor %.3f s\n", title,
		   cold ? "reading the files" : "reading, a checksum", a, megabytes / a,
		   reading_cpu / ROUNDS);
	printf("%s  %-22s %7.3f s  %6.0f MB/s  processor %.3f s  ratio %.2f\n", title, "recovery",
		   b, megabytes / b, recovering_cpu / ROUNDS, b / a);
	printf("%s  %lu entries delivered\n", title, entries);
}

int
main(int argc, char **argv)
{
	unsigned long megabytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 1024;
	const char *parent = argc > 2 ? argv[2] : getenv("TMPDIR");
	double		size;
	int			i;

	if (megabytes == 0 || argc > 3)
		fail("usage", "recovery [MEGABYTES [DIRECTORY]]");
	pgraft_io_posix(&io);
	snprintf(directory, sizeof(directory), "%s/pgraft-recovery.XXXXXX",
			 parent != NULL ? parent : "/tmp");
	if (mkdtemp(directory) == NULL)
		fail("could not make a directory", directory);
	build_log(megabytes * 1024 * 1024);
	size = (double) find_files() / 1024 / 1024;
	printf("log of %.0f MB in %d files, median of %d runs\n", size, n_files, ROUNDS);
	compare("cold", true, size);
	if (!privileged)
		printf("       (not as root: caches below the file system were not dropped)\n");
	compare("warm", false, size);
	(void) find_files();
	for (i = 0; i < n_files; i++)
		(void) unlink(files[i]);
	(void) rmdir(directory);
	return 0;
}
