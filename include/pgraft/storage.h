/*-------------------------------------------------------------------------
 *
 * storage.h
 *	  The contract of the crash-safe log, snapshot and identity files
 *	  (src/storage).
 *
 * Who calls what:
 *	- Everything belongs to one thread (the worker's loop), except
 *	  pgraft_storage_execute(), which one flush thread may run for jobs in the
 *	  order in which they were prepared.  execute() touches only the job, the
 *	  storage's write-side fields and files, and calls no PostgreSQL code.
 *	- A job is prepared on the loop (bytes encoded, batch number chosen),
 *	  executed (CRC chained, position chosen, written, fdatasync'ed), completed
 *	  on the loop (index and statistics updated, job freed).
 *	- Entries may be read back (pgraft_storage_read_entries) once their job is
 *	  completed; before that the engine has them in its cache.
 *
 * What survives: after execute() returned PGRAFT_OK, everything in the job
 * survives kill -9 and power loss, atomically: a job is found whole or not at
 * all.  Any other return of execute() is final for this storage: the caller
 * stops the member (a failed fsync is never retried), except
 * PGRAFT_ERR_NO_SPACE, which leaves the files as before the job; the same job
 * may be executed again later.
 *
 * All I/O goes through struct PgraftIo so that the simulator and the tests run
 * this same code on a disk that loses, tears, flips, fills up and fails.
 * malloc/free only; errors in struct PgraftError.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_STORAGE_H
#define PGRAFT_STORAGE_H

#include <sys/types.h>

#include "pgraft/error.h"
#include "pgraft/raft.h"

/* ----------------------------------------------------------------
 * I/O vtable.  All paths are absolute or relative to the process; all calls
 * return -1 with errno on failure, like the system call of the same name.
 * ----------------------------------------------------------------
 */
typedef struct PgraftIo PgraftIo;
struct PgraftIo
{
	void	   *context;

	/* flags as open(2); mode 0600; O_CLOEXEC is implied */
	int			(*open) (PgraftIo *io, const char *path, int flags);
	int			(*close) (PgraftIo *io, int fd);
	ssize_t		(*pread) (PgraftIo *io, int fd, void *buffer, size_t n, off_t offset);
	ssize_t		(*pwrite) (PgraftIo *io, int fd, const void *buffer, size_t n, off_t offset);
	int			(*fdatasync) (PgraftIo *io, int fd);
	int			(*fsync) (PgraftIo *io, int fd);	/* file or directory */
	int			(*ftruncate) (PgraftIo *io, int fd, off_t length);
	int			(*size) (PgraftIo *io, int fd, off_t *size);
	int			(*rename) (PgraftIo *io, const char *from, const char *to);
	int			(*unlink) (PgraftIo *io, const char *path);
	int			(*mkdir) (PgraftIo *io, const char *path);	/* mode 0700 */

	/* calls visit(name) for each name but . and .. ; order unspecified */
	int			(*list) (PgraftIo *io, const char *path,
						 void (*visit) (void *arg, const char *name), void *arg);

	/* device and inode of a file or directory, for the identity check */
	int			(*identify) (PgraftIo *io, const char *path,
							 unsigned long *device, unsigned long *inode);

	/* advisory whole-file lock; EWOULDBLOCK when somebody else has it */
	int			(*lock) (PgraftIo *io, int fd);

	/* monotonic microseconds, for the latency statistics only */
	unsigned long (*now_us) (PgraftIo *io);
};

/* The real thing: system calls.  Retries EINTR; never ignores an fsync. */
extern void pgraft_io_posix(PgraftIo *io);

/* ----------------------------------------------------------------
 * Identity
 * ----------------------------------------------------------------
 */
typedef struct PgraftIdentity
{
	raft_u64	cluster_uid;	/* random, made by pgraft_init(); 0 = blank */
	raft_id		node_id;
	raft_u64	incarnation;
	raft_u64	member_uid;		/* random, made when this directory was created */
	char		cluster_id[64]; /* pgraft.cluster_id when the cluster was made */
} PgraftIdentity;

/* ----------------------------------------------------------------
 * Opening
 * ----------------------------------------------------------------
 */
typedef struct PgraftStorage PgraftStorage;

typedef struct PgraftStorageOptions
{
	size_t		segment_bytes;	/* multiple of 4096; 16 MB by default; tests use
								 * small ones */
	int			recycle_segments;	/* how many spare segments are kept ready; 2 */
	size_t		max_job_bytes;	/* largest encoded batch the host will make */
} PgraftStorageOptions;

extern void pgraft_storage_default_options(PgraftStorageOptions *options);

/*
 * What recovery found, delivered while the log is read once, oldest first:
 * snapshot (if any), then log_start, then hard state and entries as they stand
 * in the log.  An entry at or below the last delivered one truncates first.
 * A callback returns 0, or nonzero to stop with PGRAFT_ERR_CORRUPT.
 */
typedef struct PgraftRecovery
{
	void	   *context;
	int			(*snapshot) (void *context, const struct raft_snapshot_meta *meta);
	int			(*log_start) (void *context, raft_index index, raft_term term);
	int			(*hard_state) (void *context, const struct raft_hard_state *state);
	int			(*entry) (void *context, const struct raft_entry *entry);
	int			(*truncate) (void *context, raft_index from);	/* may be NULL */
} PgraftRecovery;

/*
 * Reads the identity file alone.  PGRAFT_ERR_NOT_FOUND when the directory is
 * absent or blank, PGRAFT_ERR_CLONE when device/inode of the directory differ
 * from the recorded ones.
 */
extern PgraftErrorCode pgraft_storage_read_identity(PgraftIo *io, const char *directory,
													PgraftIdentity *identity,
													PgraftError *error);

/*
 * Makes a fresh, durable storage directory for `identity` (temp + rename +
 * directory fsync: after a crash it is there whole or not at all).  initial
 * may hold the first log entries and the hard state of a new cluster; then
 * they are durable when this returns.  PGRAFT_ERR_IN_USE when there already is
 * an identity.
 */
extern PgraftErrorCode pgraft_storage_create(PgraftIo *io, const char *directory,
											 const PgraftStorageOptions *options,
											 const PgraftIdentity *identity,
											 const struct raft_hard_state *hard_state,
											 const struct raft_entry *entries,
											 size_t n_entries,
											 PgraftError *error);

/*
 * Locks, checks identity, recovers.  A torn tail is cut (and zeroed durably)
 * and counted in the statistics; damage before the durable end is refused with
 * PGRAFT_ERR_CORRUPT and a message that names file, offset and reason.
 */
extern PgraftErrorCode pgraft_storage_open(PgraftIo *io, const char *directory,
										   const PgraftStorageOptions *options,
										   const PgraftRecovery *recovery,
										   PgraftIdentity *identity,
										   PgraftStorage **storage,
										   PgraftError *error);
extern void pgraft_storage_close(PgraftStorage *storage);

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */
typedef struct PgraftJob PgraftJob;

/*
 * Encodes what an update wants written (truncate_from, chunk, install,
 * hard_state when changed, entries) as one atomic batch.  Copies everything:
 * the update may go away.  Jobs are executed and completed in this order.
 */
extern PgraftErrorCode pgraft_storage_prepare(PgraftStorage *storage,
											  const struct raft_update *update,
											  PgraftJob **job, PgraftError *error);

/* Flush thread.  must_sync = 0 in the update: written, not flushed. */
extern PgraftErrorCode pgraft_storage_execute(PgraftStorage *storage,
											  PgraftJob *job, PgraftError *error);

/* Several jobs, in order, with one fdatasync where the format allows it. */
extern PgraftErrorCode pgraft_storage_execute_many(PgraftStorage *storage,
												   PgraftJob **jobs, int n_jobs,
												   PgraftError *error);

/*
 * Flush thread, when it has nothing else to do: makes spare segments ahead, so
 * that no job has to wait for one.  A full disk is no error here; any other
 * failure is final as with execute.  Calling it is optional.
 */
extern PgraftErrorCode pgraft_storage_make_ready(PgraftStorage *storage,
												 PgraftError *error);

/*
 * Flush thread, as the last thing it does: what pgraft_storage_close() would
 * otherwise wait for.  Calling it is optional.
 */
extern PgraftErrorCode pgraft_storage_settle(PgraftStorage *storage,
											 PgraftError *error);

/* Loop: takes note of the result and frees the job. */
extern void pgraft_storage_complete(PgraftStorage *storage, PgraftJob *job);
extern raft_u64 pgraft_job_epoch(const PgraftJob *job);

/* Frees a job that was never executed (shutdown). */
extern void pgraft_job_discard(PgraftJob *job);

/* Encoded bytes of the job, for statistics and back-pressure. */
extern size_t pgraft_job_bytes(const PgraftJob *job);

/* ----------------------------------------------------------------
 * Reading back (contracts of struct raft_callbacks)
 * ----------------------------------------------------------------
 */
extern int pgraft_storage_read_entries(void *storage, raft_index first,
									   size_t max_entries, size_t max_bytes,
									   struct raft_entry *entries, size_t *n_read);
extern int pgraft_storage_read_snapshot(void *storage, raft_index index,
										raft_u64 offset, size_t max_bytes,
										const unsigned char **data, size_t *n_read,
										raft_u64 *total);

/* ----------------------------------------------------------------
 * Local snapshots
 *
 * begin and publish run on the loop; write, flush and finish (fsync, rename,
 * directory fsync: the slow part) may run on another thread, one at a time, also
 * while the flush thread executes jobs.  flush makes the disk begin early with
 * what finish would otherwise bring all at once; a failure is final.  publish
 * makes the finished snapshot the newest one and frees the writer; the one
 * before is unlinked when the next prepared batch, which names the new one, is
 * durable and completed (a crash before that returns to it).  Then the host calls raft_compact() and
 * pgraft_storage_forget(first_kept), which records the new log start in the
 * next prepared batch and recycles whole segments after that batch is durable.
 * A snapshot installed from the leader (update.install) that is newer wins:
 * publish then drops the older file instead.
 * ----------------------------------------------------------------
 */
typedef struct PgraftSnapshotWriter PgraftSnapshotWriter;
extern PgraftErrorCode pgraft_snapshot_begin(PgraftStorage *storage,
											 const struct raft_snapshot_meta *meta,
											 PgraftSnapshotWriter **writer,
											 PgraftError *error);
extern PgraftErrorCode pgraft_snapshot_write(PgraftSnapshotWriter *writer,
											 const void *data, size_t length,
											 PgraftError *error);
extern PgraftErrorCode pgraft_snapshot_flush(PgraftSnapshotWriter *writer,
											 PgraftError *error);
extern PgraftErrorCode pgraft_snapshot_finish(PgraftSnapshotWriter *writer,
											  PgraftError *error);
extern void pgraft_snapshot_publish(PgraftSnapshotWriter *writer);
/* Instead of publish, at any point: unlinks the temporary file, frees. */
extern void pgraft_snapshot_abort(PgraftSnapshotWriter *writer);

extern void pgraft_storage_forget(PgraftStorage *storage, raft_index first_kept);

/*
 * Streams the newest durable snapshot's data, checking its CRC over all of it
 * before the first consume() call (two passes), so that a damaged snapshot is
 * never half loaded.  PGRAFT_ERR_NOT_FOUND when there is none.
 */
extern PgraftErrorCode pgraft_storage_load_snapshot(PgraftStorage *storage,
													struct raft_snapshot_meta *meta,
													int (*consume) (void *arg,
																	const unsigned char *data,
																	size_t length),
													void *arg, PgraftError *error);

/* ----------------------------------------------------------------
 * Statistics
 * ----------------------------------------------------------------
 */
#define PGRAFT_FSYNC_BUCKETS 20	/* bucket i counts latencies < 2^(i+5) us, that
								 * is < 32 us, < 64 us, ... ; the last is +inf */
typedef struct PgraftStorageStats
{
	unsigned long segments;		/* in use */
	unsigned long spare_segments;
	unsigned long log_bytes;	/* live, encoded */
	unsigned long bytes_written;
	unsigned long batches;
	unsigned long fsyncs;
	unsigned long fsync_us;		/* total */
	unsigned long fsync_us_max;
	unsigned long fsync_histogram[PGRAFT_FSYNC_BUCKETS];
	unsigned long torn_tails;	/* cut by this open: 0 or 1 */
	unsigned long torn_bytes;
	unsigned long snapshots_written;
	unsigned long snapshot_bytes;	/* size of the current one */
	raft_index	snapshot_index;
	raft_index	first_index;
	raft_index	last_index;
	unsigned long recovery_us;
	unsigned long recovery_bytes;
} PgraftStorageStats;

extern void pgraft_storage_stats(PgraftStorage *storage, PgraftStorageStats *stats);

/* ----------------------------------------------------------------
 * Offline reading, for pgraft_waldump and tests
 * ----------------------------------------------------------------
 */
typedef struct PgraftLogRecord
{
	const char *file;			/* base name */
	raft_u64	offset;			/* of the batch in that file */
	raft_u64	batch;			/* its number */
	const char *kind;			/* "entry", "hard_state", "truncate",
								 * "log_start", "snapshot", "install_snapshot"
								 * (the log begins anew after it) */
	struct raft_entry entry;	/* kind "entry" */
	struct raft_hard_state hard_state;
	raft_index	index;			/* truncate, log_start, snapshots */
	raft_term	term;			/* log_start, snapshots */
} PgraftLogRecord;

/*
 * Read-only, takes no lock, changes nothing; visits every valid record up to
 * the end or the damage, obsolete ones included.  visit may be NULL.  Does not
 * mind a clone.  Checks the snapshot that the log relies on, too.
 */
extern PgraftErrorCode pgraft_log_scan(PgraftIo *io, const char *directory,
									   int (*visit) (void *arg, const PgraftLogRecord *record),
									   void *arg, PgraftStorageStats *summary,
									   PgraftError *error);

#endif							/* PGRAFT_STORAGE_H */
