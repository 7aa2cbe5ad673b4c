/*-------------------------------------------------------------------------
 *
 * format.h
 *	  Encoding and checking of the bytes that src/storage keeps on disk.
 *
 * Pure functions over buffers, described byte by byte in format.c.  May enter:
 * layouts, checksums, what a record does to the state of the log.  May not:
 * files, descriptors, threads.  Called by writing, recovery, the offline
 * reader and tests.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_STORAGE_FORMAT_H
#define PGRAFT_STORAGE_FORMAT_H

#include "pgraft/storage.h"

#define PGRAFT_FORMAT_VERSION 1

#define PGRAFT_SECTOR_BYTES 512 /* what a disk writes whole or not at all */
#define PGRAFT_SEGMENT_HEADER_BYTES 512
#define PGRAFT_SEGMENT_UNIT 4096	/* segment sizes are multiples of it */
#define PGRAFT_BATCH_HEADER_BYTES 64
#define PGRAFT_RECORD_HEADER_BYTES 8
#define PGRAFT_BATCH_MAGIC 0x31424750U	/* "PGB1" */
#define PGRAFT_MARK_MAGIC 0x314D4750U	/* "PGM1" */
#define PGRAFT_IDENTITY_BYTES 256
#define PGRAFT_SNAPSHOT_HEADER_BYTES 88
#define PGRAFT_SNAPSHOT_BLOCK_BYTES 65536

/* Everything on disk is padded to this. */
#define PGRAFT_ALIGN8(n) (((n) + 7) & ~(size_t) 7)

/* What the log says at some point in it: the sum of all records before. */
typedef struct PgraftLogState
{
	bool		has_hard_state;
	struct raft_hard_state hard_state;
	raft_index	last_index;		/* last entry; start_index when there is none */
	raft_index	start_index;	/* entries up to here may be missing */
	raft_term	start_term;
	raft_index	snapshot_index; /* the snapshot the log relies on; 0 = none */
	raft_term	snapshot_term;
	raft_u64	restart_batch;	/* batch that last replaced the whole log by a
								 * snapshot; 0 = none */
	raft_u64	next_batch;		/* number of the next batch */
	uint32		chain;			/* header CRC of the previous batch */
} PgraftLogState;

typedef struct PgraftSegmentHeader
{
	raft_u64	sequence;		/* 1, 2, ...: order of the segments */
	raft_u64	salt;
	raft_u64	member_uid;
	raft_u64	bytes;			/* size of the file */
	PgraftLogState state;		/* before the first batch */
} PgraftSegmentHeader;

typedef enum PgraftHeaderKind
{
	PGRAFT_HEADER_VALID = 0,
	PGRAFT_HEADER_BLANK,		/* all zero: a spare file */
	PGRAFT_HEADER_DAMAGED
} PgraftHeaderKind;

typedef struct PgraftBatchHeader
{
	bool		mark;			/* no payload: says what is durable */
	uint32		length;			/* of the payload */
	raft_u64	number;
	raft_u64	salt;
	raft_u64	durable;		/* batches up to this number are durable */
	raft_u64	next_sequence;	/* mark: the log goes on in that segment */
	uint32		n_records;
	uint32		previous;		/* chain */
	uint32		payload_crc;
	uint32		crc;			/* of this header; filled by decode and encode */
} PgraftBatchHeader;

typedef enum PgraftRecordKind
{
	PGRAFT_RECORD_HARD_STATE = 1,
	PGRAFT_RECORD_ENTRY,
	PGRAFT_RECORD_TRUNCATE,
	PGRAFT_RECORD_LOG_START,
	PGRAFT_RECORD_SNAPSHOT
} PgraftRecordKind;

typedef struct PgraftRecord
{
	PgraftRecordKind kind;
	struct raft_hard_state hard_state;	/* HARD_STATE */
	struct raft_entry entry;	/* ENTRY; data points into the payload */
	raft_index	index;			/* TRUNCATE, LOG_START, SNAPSHOT */
	raft_term	term;			/* LOG_START, SNAPSHOT */
	bool		restart;		/* SNAPSHOT: the log begins anew after it */
} PgraftRecord;

/* Where reading of one segment's bytes stands. */
typedef struct PgraftWalk
{
	const unsigned char *data;
	size_t		bytes;
	PgraftSegmentHeader header;
	size_t		offset;			/* of the next batch */
	PgraftLogState state;		/* before the next batch */
	raft_u64	durable;		/* highest number proven so far */
	const char *reason;			/* why walking ended, when damaged */
} PgraftWalk;

typedef enum PgraftWalkResult
{
	PGRAFT_WALK_BATCH = 0,
	PGRAFT_WALK_MARK,			/* end of the segment's batches */
	PGRAFT_WALK_INVALID,		/* not a batch: end, torn or damaged */
	PGRAFT_WALK_NONSENSE		/* intact, but contradicts what came before */
} PgraftWalkResult;

/* What lies behind the last batch. */
typedef struct PgraftTail
{
	bool		torn;			/* something there belongs to this segment's life */
	raft_u64	durable;		/* highest proof found there */
	size_t		proof_offset;
	size_t		torn_bytes;
} PgraftTail;

extern void pgraft_put32(unsigned char *p, uint32 value);
extern void pgraft_put64(unsigned char *p, raft_u64 value);
extern uint32 pgraft_get32(const unsigned char *p);
extern raft_u64 pgraft_get64(const unsigned char *p);
extern uint32 pgraft_crc32c(const void *data, size_t length);

extern raft_u64 pgraft_segment_salt(raft_u64 member_uid, raft_u64 sequence,
									raft_u64 now_us);
extern void pgraft_segment_encode(unsigned char *buffer,
								  const PgraftSegmentHeader *header);
extern PgraftHeaderKind pgraft_segment_decode(const unsigned char *buffer,
											  PgraftSegmentHeader *header,
											  const char **reason);

extern void pgraft_batch_encode(unsigned char *buffer, PgraftBatchHeader *header);
extern bool pgraft_batch_decode(const unsigned char *buffer,
								PgraftBatchHeader *header, const char **reason);

extern size_t pgraft_record_bytes(const PgraftRecord *record);
extern size_t pgraft_record_encode(unsigned char *buffer,
								   const PgraftRecord *record);
extern int	pgraft_record_next(const unsigned char *payload, size_t length,
							   size_t *offset, PgraftRecord *record,
							   const char **reason);
extern bool pgraft_scan_state_apply(PgraftLogState *state, const PgraftRecord *record,
							   const char **reason);
extern bool pgraft_state_equal(const PgraftLogState *a, const PgraftLogState *b);

/* walk.c */
extern void pgraft_walk_begin(PgraftWalk *walk, const unsigned char *data,
							  size_t bytes, const PgraftSegmentHeader *header);
extern PgraftWalkResult pgraft_walk_next(PgraftWalk *walk,
										 PgraftBatchHeader *batch,
										 const unsigned char **payload);
extern void pgraft_walk_tail(const PgraftWalk *walk, PgraftTail *tail);

#endif							/* PGRAFT_STORAGE_FORMAT_H */
