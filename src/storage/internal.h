/*-------------------------------------------------------------------------
 *
 * internal.h
 *	  What the files of src/storage share and nobody else sees.
 *
 * struct PgraftStorage has two halves.  The loop's half is touched by
 * pgraft_storage_prepare(), _complete(), reading and snapshots; the flush
 * half by pgraft_storage_execute() and _make_ready() only.  Neither looks at
 * the other's: what one needs to tell the other travels in the job.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_STORAGE_INTERNAL_H
#define PGRAFT_STORAGE_INTERNAL_H

#include "format.h"

#define PGRAFT_PATH_BYTES 1024
#define PGRAFT_NAME_BYTES 64
#define PGRAFT_INDEX_GRAIN 65536	/* log bytes per point of the sparse index */
#define PGRAFT_MAX_SEGMENT_BYTES ((size_t) 1 << 31)

/* ----------------------------------------------------------------
 * files.c
 * ----------------------------------------------------------------
 */
extern PgraftErrorCode pgraft_io_error(PgraftError *error, const char *action,
									   const char *path);
extern PgraftErrorCode pgraft_flush_error(PgraftError *error, const char *action,
										  const char *path);
extern void pgraft_path(char *path, const char *directory, const char *name);
extern PgraftErrorCode pgraft_read_at(PgraftIo *io, int fd, const char *path,
									  void *buffer, size_t n, off_t offset,
									  PgraftError *error);
extern PgraftErrorCode pgraft_write_at(PgraftIo *io, int fd, const char *path,
									   const void *buffer, size_t n, off_t offset,
									   PgraftError *error);
extern PgraftErrorCode pgraft_write_zeros(PgraftIo *io, int fd, const char *path,
										  off_t from, off_t to, PgraftError *error);
extern PgraftErrorCode pgraft_sync_directory(PgraftIo *io, const char *directory,
											 PgraftError *error);
extern PgraftErrorCode pgraft_remove(PgraftIo *io, const char *directory,
									 const char *name, PgraftError *error);
extern PgraftErrorCode pgraft_corrupt(PgraftError *error, const char *file,
									  raft_u64 offset, const char *reason);
extern bool pgraft_grow(void **array, size_t *allocated, size_t wanted,
						size_t element);

/* ----------------------------------------------------------------
 * directory.c: what is there
 * ----------------------------------------------------------------
 */
typedef struct PgraftFileList
{
	struct PgraftFileName
	{
		char		name[PGRAFT_NAME_BYTES];
	}		   *names;
	size_t		n;
	size_t		allocated;
	bool		has_identity;
	bool		has_creating;
	bool		out_of_memory;
} PgraftFileList;

extern PgraftErrorCode pgraft_list_files(PgraftIo *io, const char *directory,
										 PgraftFileList *list, PgraftError *error);
extern bool pgraft_parse_segment_name(const char *name, uint32 *slot);
extern bool pgraft_parse_snapshot_name(const char *name, raft_index *index,
									   raft_term *term);
extern bool pgraft_is_temporary_name(const char *name);
extern void pgraft_segment_name(char *name, uint32 slot);
extern void pgraft_snapshot_name(char *name, raft_index index, raft_term term);

typedef struct PgraftSegment
{
	uint32		slot;			/* names the file */
	raft_u64	sequence;
	raft_u64	salt;
	size_t		bytes;
	raft_index	base_index;		/* last entry before this segment */
	raft_u64	first_batch;
	PgraftSegmentHeader header; /* as read; recovery and scan only */
} PgraftSegment;

/* Segments of the log in order, spare files, and what is left over. */
typedef struct PgraftSegmentList
{
	PgraftSegment *live;
	size_t		n_live;
	PgraftSegment *spare;
	size_t		n_spare;
	PgraftSegment *stale;		/* valid headers below a gap */
	size_t		n_stale;
	uint32		max_slot;
} PgraftSegmentList;

extern PgraftErrorCode pgraft_find_segments(PgraftIo *io, const char *directory,
											raft_u64 member_uid,
											const PgraftFileList *files,
											PgraftSegmentList *list,
											PgraftError *error);
extern void pgraft_free_segments(PgraftSegmentList *list);
extern PgraftErrorCode pgraft_load_segment(PgraftIo *io, const char *directory,
										   const PgraftSegment *segment,
										   unsigned char **data, size_t *allocated,
										   PgraftError *error);
extern PgraftErrorCode pgraft_check_tail(const PgraftWalk *walk,
										 PgraftWalkResult result,
										 const PgraftBatchHeader *batch,
										 const PgraftSegment *segment,
										 PgraftTail *tail, PgraftError *error);
extern PgraftErrorCode pgraft_check_inner_end(const PgraftWalk *walk,
											  PgraftWalkResult result,
											  const PgraftSegment *segment,
											  const PgraftSegment *next,
											  PgraftError *error);
extern PgraftErrorCode pgraft_check_connected(const PgraftSegment *oldest,
											  const PgraftLogState *final,
											  PgraftError *error);

/* ----------------------------------------------------------------
 * identity.c
 * ----------------------------------------------------------------
 */
extern PgraftErrorCode pgraft_lock_directory(PgraftIo *io, const char *directory,
											 int *fd, PgraftError *error);
extern PgraftErrorCode pgraft_write_identity(PgraftIo *io, const char *directory,
											 const PgraftIdentity *identity,
											 PgraftError *error);

/* ----------------------------------------------------------------
 * snapshot.c
 * ----------------------------------------------------------------
 */
typedef struct PgraftSnapshotFile
{
	int			fd;				/* -1 = none */
	char		temporary[PGRAFT_NAME_BYTES];
	raft_index	index;
	raft_term	term;
	raft_index	config_index;
	size_t		config_length;
	unsigned char *config;
	raft_u64	member_uid;
	raft_u64	length;			/* data bytes so far, block included */
	unsigned char *block;		/* the block that is being filled */
	size_t		fill;
	uint32	   *table;			/* CRC of each full block */
	size_t		n_blocks;
	size_t		table_allocated;
} PgraftSnapshotFile;

/* An existing snapshot, opened for reading. */
typedef struct PgraftSnapshotReader
{
	int			fd;				/* -1 = not open */
	raft_index	index;
	raft_term	term;
	struct raft_snapshot_meta *meta;
	raft_u64	data_offset;
	raft_u64	length;
	uint32	   *table;
	size_t		n_blocks;
	unsigned char *buffer;
	size_t		buffer_allocated;
} PgraftSnapshotReader;

extern PgraftErrorCode pgraft_snapshot_file_begin(PgraftIo *io, const char *directory,
												  PgraftSnapshotFile *file,
												  const char *temporary,
												  const unsigned char *config,
												  size_t config_length,
												  PgraftError *error);
extern PgraftErrorCode pgraft_snapshot_file_append(PgraftIo *io,
												   PgraftSnapshotFile *file,
												   const unsigned char *data,
												   size_t length, PgraftError *error);
extern PgraftErrorCode pgraft_snapshot_file_finish(PgraftIo *io, const char *directory,
												   PgraftSnapshotFile *file,
												   PgraftError *error);
extern void pgraft_snapshot_file_free(PgraftIo *io, PgraftSnapshotFile *file);
extern PgraftErrorCode pgraft_snapshot_reader_open(PgraftIo *io, const char *directory,
												   PgraftSnapshotReader *reader,
												   PgraftError *error);
extern void pgraft_snapshot_reader_close(PgraftIo *io, PgraftSnapshotReader *reader);
extern PgraftErrorCode pgraft_snapshot_verify(PgraftIo *io, const char *directory,
											  PgraftSnapshotReader *reader,
											  PgraftError *error);

/* ----------------------------------------------------------------
 * The storage
 * ----------------------------------------------------------------
 */
typedef struct PgraftIndexPoint
{
	raft_index	first;			/* entries from here to the next point ... */
	raft_u64	sequence;		/* ... are found reading this segment ... */
	size_t		offset;			/* ... from the batch here on */
} PgraftIndexPoint;

typedef struct PgraftTermRun
{
	raft_index	first;
	raft_term	term;
} PgraftTermRun;

/* A segment as the reading side knows it. */
typedef struct PgraftReadSegment
{
	raft_u64	sequence;
	raft_u64	salt;
	uint32		slot;
	size_t		used;			/* end of the last completed batch */
} PgraftReadSegment;

/* The snapshot being received, as prepare has seen it. */
typedef struct PgraftIncoming
{
	bool		active;
	raft_index	index;
	raft_term	term;
	raft_u64	total;
	raft_u64	next;			/* offset of the chunk that must come */
} PgraftIncoming;

struct PgraftStorage
{
	/* constant after opening */
	PgraftIo   *io;
	char		directory[PGRAFT_PATH_BYTES];
	PgraftStorageOptions options;
	PgraftIdentity identity;
	int			lock_fd;

	/* loop: state after the last prepared job */
	PgraftLogState prepared;
	PgraftIncoming incoming;
	bool		start_pending;	/* log start to record in the next batch */
	raft_index	pending_start;
	raft_term	pending_start_term;
	bool		snapshot_pending;	/* published, not yet recorded */
	raft_index	pending_snapshot;
	raft_term	pending_snapshot_term;
	PgraftTermRun *terms;
	size_t		n_terms;
	size_t		terms_allocated;

	/* loop: reading */
	raft_index	first_index;	/* oldest entry that may be asked for */
	raft_index	completed_last;
	PgraftIndexPoint *points;
	size_t		n_points;
	size_t		points_allocated;
	bool		point_forced;	/* next entries get a point of their own */
	PgraftReadSegment *segments;
	size_t		n_segments;
	size_t		segments_allocated;
	int			read_fd;		/* -1 = none */
	raft_u64	read_sequence;	/* of read_fd */
	unsigned char *read_buffer; /* payloads handed out */
	size_t		read_allocated;
	unsigned char *window;		/* raw bytes of the segment being read */
	size_t		window_allocated;
	size_t		outstanding;	/* jobs prepared, not yet completed */

	/* loop: snapshots */
	PgraftSnapshotReader snapshot;	/* the newest; index 0 = none */
	raft_index	recorded_snapshot;	/* the one the durable log relies on */
	raft_term	recorded_snapshot_term;
	unsigned long snapshot_counter; /* names temporary files */
	PgraftStorageStats stats;

	/* flush */
	bool		failed;			/* sticky: nothing is written any more */
	PgraftErrorCode failure;	/* what execute keeps returning then */
	PgraftSegment *live;		/* oldest first; the last one is written to */
	size_t		n_live;
	size_t		live_allocated;
	uint32	   *spares;			/* slots, taken from the end */
	size_t		n_spares;
	size_t		spares_allocated;
	uint32		next_slot;		/* for the next new file */
	size_t		chosen_bytes;	/* file picked to be the next segment; 0 = none */
	uint32		chosen_slot;
	int			write_fd;
	size_t		write_offset;	/* end of the last written batch */
	PgraftLogState written;		/* state after the last written batch */
	raft_u64	durable;		/* number of the last flushed batch */
	bool		unsynced;		/* something written since the last flush */
	bool		mark_unsynced;	/* the mark may not be on disk */
	int			previous_fd;	/* segment that waits for its last mark, or -1 */
	size_t		previous_offset;
	PgraftSegment previous;
	PgraftLogState previous_state;
	int			marked_fd;		/* previous segment, its last mark written but
								 * not flushed, or -1 */
	PgraftSnapshotFile incoming_file;
};

struct PgraftJob
{
	PgraftStorage *storage;
	raft_u64	epoch;
	bool		must_sync;

	/* the batch; buffer has room for the header before the payload */
	unsigned char *buffer;
	size_t		length;			/* payload bytes; 0 = no batch */
	uint32		n_records;
	PgraftLogState after;		/* chain is filled by execute */
	raft_index	truncated;		/* lowest entry that the batch drops, or 0 */
	bool		restarted;
	raft_index	first_entry;	/* 0 = no entries */
	raft_index	last_entry;

	/* a snapshot record is in the batch */
	bool		has_snapshot;
	raft_index	snapshot_index;
	raft_term	snapshot_term;

	/* snapshot transfer */
	bool		has_chunk;
	bool		install;
	raft_index	chunk_index;
	raft_term	chunk_term;
	raft_index	chunk_config_index;
	raft_u64	chunk_offset;
	unsigned char *chunk;		/* config, then data */
	size_t		config_length;
	size_t		chunk_length;

	/* how far execute came; kept over a full disk */
	bool		chunk_begun;
	bool		chunk_taken;	/* all of it */
	bool		installed;
	bool		written;

	/* results for complete */
	PgraftSegment segment;
	size_t		offset;			/* of the batch */
	raft_u64	first_live;		/* sequence of the oldest segment */
	size_t		n_live;
	size_t		n_spares;
	unsigned long fsyncs;
	unsigned long fsync_us;
	unsigned long installed_bytes;
	bool		executed;
};

/* segment.c: flush half */
extern PgraftErrorCode pgraft_activate_segment(PgraftStorage *storage,
											   size_t room, PgraftJob *job,
											   PgraftError *error);
extern PgraftErrorCode pgraft_ensure_room(PgraftStorage *storage, size_t bytes,
										  PgraftJob *job, PgraftError *error);
extern PgraftErrorCode pgraft_sync_log(PgraftStorage *storage, PgraftJob *job,
									   PgraftError *error);
extern PgraftErrorCode pgraft_sync_last_mark(PgraftStorage *storage,
											 PgraftError *error);
extern void pgraft_write_mark(PgraftStorage *storage);
extern PgraftErrorCode pgraft_retire_segments(PgraftStorage *storage,
											  PgraftError *error);
extern PgraftErrorCode pgraft_retire_file(PgraftStorage *storage,
										  const PgraftSegment *segment,
										  PgraftError *error);
extern PgraftErrorCode pgraft_add_spares(PgraftStorage *storage, PgraftError *error);

/* index.c: loop half */
extern bool pgraft_index_reserve(PgraftStorage *storage);
extern void pgraft_index_restart(PgraftStorage *storage, raft_index index);
extern void pgraft_index_truncate(PgraftStorage *storage, raft_index from);
extern void pgraft_index_add(PgraftStorage *storage, const PgraftSegment *segment,
							 size_t offset, size_t end,
							 raft_index first, raft_index last);
extern void pgraft_index_forget(PgraftStorage *storage, raft_u64 first_live);
extern bool pgraft_terms_reserve(PgraftStorage *storage, size_t more);
extern void pgraft_terms_add(PgraftStorage *storage, raft_index index,
							 raft_term term);
extern void pgraft_terms_truncate(PgraftStorage *storage, raft_index from);
extern void pgraft_terms_forget(PgraftStorage *storage, raft_index start);
extern raft_term pgraft_terms_find(PgraftStorage *storage, raft_index index);

/* storage.c */
extern PgraftStorage *pgraft_storage_allocate(PgraftIo *io, const char *directory,
											  const PgraftStorageOptions *options,
											  const PgraftIdentity *identity);
extern void pgraft_storage_release(PgraftStorage *storage);
extern void pgraft_storage_unlink_snapshot(PgraftStorage *storage,
										   raft_index index, raft_term term);

#endif							/* PGRAFT_STORAGE_INTERNAL_H */
