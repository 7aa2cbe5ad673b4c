/*-------------------------------------------------------------------------
 *
 * format.c
 *	  The on-disk format of the log, and the functions that write and check it.
 *
 * Pure: no files, no memory, no threads.
 *
 * GENERAL
 *
 * All integers are little-endian.  Everything starts at a multiple of 8 bytes
 * and is padded with zeros to one.  CRC means CRC-32C.  The one assumption
 * about the disk: a sector of 512 bytes is written whole or not at all, in any
 * order with other sectors that were not flushed in between.
 *
 * FILES OF A STORAGE DIRECTORY
 *
 *	identity			who this is; its rename into place is the moment from
 *						which the directory exists (identity.c)
 *	lock				flock()ed while a storage is open; text: the pid
 *	creating			exists while the directory is being made
 *	log-NNNNNNNN		one segment of the log, or a spare one.  The eight hex
 *						digits only tell files apart; the order is in the header
 *	snapshot-I-T		snapshot covering entry I of term T, 16 hex digits each
 *						(snapshot.c)
 *	*.tmp				unfinished; removed when the storage is opened
 *
 * Any other name is ignored.
 *
 * SEGMENT
 *
 * A file of fixed size, written full of zeros and fsync'ed under a temporary
 * name, so that from then on fdatasync() needs to write data blocks only.
 * Sector 0 is the header; batches follow from byte 512.  Becoming part of the
 * log is one write of the header, ceasing to be part of it is one write of
 * zeros over it: neither needs a rename.  So after a crash the header is
 * valid (segment of the log) or blank (spare); anything else is damage.
 *
 *	  0	 8	magic "PGRAFTLG"
 *	  8	 4	format version, 1
 *	 12	 4	bytes of this header, 512
 *	 16	 8	sequence: 1 for the first segment, then one more each; never reused
 *	 24	 8	salt: a mix of member uid, sequence and time; every batch repeats it
 *	 32	 8	member uid, as in the identity file
 *	 40	 8	size of the file in bytes, a multiple of 4096
 *	 48	 8	number of the first batch of this segment
 *	 56	 4	chain: header CRC of the batch before it (0 for batch 1)
 *	 60	 4	flags; 1: there is a hard state
 *	 64	 8	hard state: term
 *	 72	 8				commit
 *	 80	 4				vote
 *	 84	 4	0
 *	 88	 8	last entry before this segment
 *	 96	 8	log start: entries up to this index may be missing
 *	104	 8	term of that entry
 *	112	 8	index of the snapshot the log relies on, 0 = none
 *	120	 8	its term
 *	128	 8	number of the batch that last replaced the whole log by a snapshot
 *	136	.	zeros
 *	508	 4	CRC of bytes 0 to 507
 *
 * Bytes 48 to 135 are the sum of everything before, so the log can be read
 * from any segment on, and older ones can be given up.
 *
 * BATCH (one job: found whole or not at all)
 *
 *	  0	 4	magic "PGB1"; a mark has "PGM1"
 *	  4	 4	length of the payload, a multiple of 8; mark: 0
 *	  8	 8	number: one more than the batch before, for ever; mark: the number
 *			of the batch that will overwrite it
 *	 16	 8	salt of the segment
 *	 24	 8	durable: every batch up to this number was known to be on disk when
 *			this was written
 *	 32	 8	mark at the end of a segment: sequence of the next one; else 0
 *	 40	 4	number of records
 *	 44	 4	0
 *	 48	 4	chain: header CRC of the previous batch (which covers its payload)
 *	 52	 4	CRC of the payload
 *	 56	 4	0
 *	 60	 4	CRC of bytes 0 to 59
 *	 64		payload: records
 *
 * Entry records are the last ones of their batch, and their indexes follow each
 * other.  A batch never spans segments.  A segment always keeps room for a mark after
 * its last batch.  A batch too large for an ordinary segment gets one of its
 * own size.
 *
 * RECORD
 *
 *	  0	 1	kind
 *	  1	 1	entry: its type; snapshot: 1 = the log begins anew after it; else 0
 *	  2	 2	0
 *	  4	 4	length of the body, padding not counted
 *	  8		body
 *
 *	1 hard state	term 8, commit 8, vote 4, zero 4
 *	2 entry			index 8, term 8, data.  An index at or below the last one
 *					truncates first
 *	3 truncate		index 8: entries from it on are dropped
 *	4 log start		index 8, term 8: entries up to index may go
 *	5 snapshot		index 8, term 8: that snapshot file is whole, durable and
 *					from now on the one the log relies on
 *
 * THE DURABLE END: TORN OR DAMAGED
 *
 * After each successful flush a mark is written behind the last batch.  It is
 * not flushed (the next batch overwrites it and repeats what it said), but
 * nearly always reaches the disk before anybody needs it: at once for a killed
 * process, with closing of the storage, or when the kernel writes it back.
 *
 * Recovery reads batches until something is not the expected next one: wrong
 * magic, salt, number, chain, length or checksum.  Say batch k is missing.
 * Then k was durable, and its absence is damage, if and only if any of these
 * says so:
 *	- a valid header of a later segment, whose first batch is beyond k (it is
 *	  written only after the segment before it was flushed to its end);
 *	- a valid batch header or mark with this segment's salt further on in the
 *	  segment (searched at every multiple of 8), whose durable number is >= k;
 *	- a mark at the end of an earlier segment that says so.
 * Damage is refused.  Otherwise k was never acknowledged; what is left of it
 * and of batches after it is zeroed and flushed before the storage opens, so
 * that it cannot be taken for a part of the log when k is written again.
 *
 * What this cannot tell apart: a flipped bit in the newest batches, if power
 * was lost too before their mark was written back (two independent faults
 * within the kernel's write-back interval).  It then looks like a torn write.
 *
 * Batches that are valid but not proven durable are written and flushed again
 * when the storage is opened: after a failed flush the page cache may hold
 * what the disk does not.
 *
 * WHY STALE BYTES ARE NEVER READ
 *
 * A recycled segment keeps its old bytes.  They carry the salt of an older
 * sequence, hence are no batches of the new one, whatever their numbers.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/format.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "port/pg_crc32c.h"

#include "format.h"

#define FLAG_HARD_STATE 1U

/* Numbers that count up by one never come near these. */
#define MAX_COUNTER (~(raft_u64) 0 >> 1)	/* of batches, of segments */
#define MAX_INDEX (~(raft_index) 0 - 1)

static const unsigned char segment_magic[8] = {'P', 'G', 'R', 'A', 'F', 'T', 'L', 'G'};

static bool is_zero(const unsigned char *p, size_t length);
static size_t record_body_bytes(const PgraftRecord *record);
static bool record_decode_body(PgraftRecord *record, int flag,
							   const unsigned char *body, size_t length);

void
pgraft_put32(unsigned char *p, uint32 value)
{
	int			i;

	for (i = 0; i < 4; i++)
		p[i] = (unsigned char) (value >> (8 * i));
}

void
pgraft_put64(unsigned char *p, raft_u64 value)
{
	int			i;

	for (i = 0; i < 8; i++)
		p[i] = (unsigned char) (value >> (8 * i));
}

uint32
pgraft_get32(const unsigned char *p)
{
	return (uint32) p[0] | (uint32) p[1] << 8 | (uint32) p[2] << 16 |
		(uint32) p[3] << 24;
}

raft_u64
pgraft_get64(const unsigned char *p)
{
	return (raft_u64) pgraft_get32(p) | (raft_u64) pgraft_get32(p + 4) << 32;
}

uint32
pgraft_crc32c(const void *data, size_t length)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, length);
	FIN_CRC32C(crc);
	return crc;
}

static bool
is_zero(const unsigned char *p, size_t length)
{
	size_t		i;

	for (i = 0; i < length; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* ----------------------------------------------------------------
 * Segment header
 * ----------------------------------------------------------------
 */

/*
 * member_uid is random, and a sequence is used once in a member's life, but
 * for one case: its header was lost in a crash while batches behind it were
 * not.  The time tells these two lives apart.  Mixing as in splitmix64.
 */
raft_u64
pgraft_segment_salt(raft_u64 member_uid, raft_u64 sequence, raft_u64 now_us)
{
	raft_u64	x = member_uid + sequence * 0x9E3779B97F4A7C15UL +
		now_us * 0xD1342543DE82EF95UL;

	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9UL;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBUL;
	x ^= x >> 31;
	return x == 0 ? 1 : x;
}

void
pgraft_segment_encode(unsigned char *buffer, const PgraftSegmentHeader *header)
{
	const PgraftLogState *state = &header->state;

	memset(buffer, 0, PGRAFT_SEGMENT_HEADER_BYTES);
	memcpy(buffer, segment_magic, sizeof(segment_magic));
	pgraft_put32(buffer + 8, PGRAFT_FORMAT_VERSION);
	pgraft_put32(buffer + 12, PGRAFT_SEGMENT_HEADER_BYTES);
	pgraft_put64(buffer + 16, header->sequence);
	pgraft_put64(buffer + 24, header->salt);
	pgraft_put64(buffer + 32, header->member_uid);
	pgraft_put64(buffer + 40, header->bytes);
	pgraft_put64(buffer + 48, state->next_batch);
	pgraft_put32(buffer + 56, state->chain);
	if (state->has_hard_state)
	{
		pgraft_put32(buffer + 60, FLAG_HARD_STATE);
		pgraft_put64(buffer + 64, state->hard_state.term);
		pgraft_put64(buffer + 72, state->hard_state.commit);
		pgraft_put32(buffer + 80, state->hard_state.vote);
	}
	pgraft_put64(buffer + 88, state->last_index);
	pgraft_put64(buffer + 96, state->start_index);
	pgraft_put64(buffer + 104, state->start_term);
	pgraft_put64(buffer + 112, state->snapshot_index);
	pgraft_put64(buffer + 120, state->snapshot_term);
	pgraft_put64(buffer + 128, state->restart_batch);
	pgraft_put32(buffer + 508, pgraft_crc32c(buffer, 508));
}

PgraftHeaderKind
pgraft_segment_decode(const unsigned char *buffer, PgraftSegmentHeader *header,
					  const char **reason)
{
	PgraftLogState *state = &header->state;

	memset(header, 0, sizeof(*header));
	*reason = NULL;
	if (is_zero(buffer, PGRAFT_SEGMENT_HEADER_BYTES))
		return PGRAFT_HEADER_BLANK;
	if (memcmp(buffer, segment_magic, sizeof(segment_magic)) != 0)
		*reason = "segment header has a wrong magic number";
	else if (pgraft_get32(buffer + 508) != pgraft_crc32c(buffer, 508))
		*reason = "segment header checksum does not match";
	else if (pgraft_get32(buffer + 8) != PGRAFT_FORMAT_VERSION)
		*reason = "format version is not supported";
	if (*reason != NULL)
		return PGRAFT_HEADER_DAMAGED;

	header->sequence = pgraft_get64(buffer + 16);
	header->salt = pgraft_get64(buffer + 24);
	header->member_uid = pgraft_get64(buffer + 32);
	header->bytes = pgraft_get64(buffer + 40);
	state->next_batch = pgraft_get64(buffer + 48);
	state->chain = pgraft_get32(buffer + 56);
	state->has_hard_state =
		(pgraft_get32(buffer + 60) & FLAG_HARD_STATE) != 0;
	state->hard_state.term = pgraft_get64(buffer + 64);
	state->hard_state.commit = pgraft_get64(buffer + 72);
	state->hard_state.vote = pgraft_get32(buffer + 80);
	state->last_index = pgraft_get64(buffer + 88);
	state->start_index = pgraft_get64(buffer + 96);
	state->start_term = pgraft_get64(buffer + 104);
	state->snapshot_index = pgraft_get64(buffer + 112);
	state->snapshot_term = pgraft_get64(buffer + 120);
	state->restart_batch = pgraft_get64(buffer + 128);
	if (header->sequence == 0 || header->sequence > MAX_COUNTER ||
		state->next_batch == 0 || state->next_batch > MAX_COUNTER ||
		state->restart_batch >= state->next_batch ||
		state->last_index > MAX_INDEX || state->last_index < state->start_index ||
		state->snapshot_index < state->start_index ||
		header->bytes == 0 || header->bytes % PGRAFT_SEGMENT_UNIT != 0)
	{
		*reason = "segment header contradicts itself";
		return PGRAFT_HEADER_DAMAGED;
	}
	return PGRAFT_HEADER_VALID;
}

/* ----------------------------------------------------------------
 * Batch header
 * ----------------------------------------------------------------
 */
void
pgraft_batch_encode(unsigned char *buffer, PgraftBatchHeader *header)
{
	memset(buffer, 0, PGRAFT_BATCH_HEADER_BYTES);
	pgraft_put32(buffer, header->mark ? PGRAFT_MARK_MAGIC : PGRAFT_BATCH_MAGIC);
	pgraft_put32(buffer + 4, header->length);
	pgraft_put64(buffer + 8, header->number);
	pgraft_put64(buffer + 16, header->salt);
	pgraft_put64(buffer + 24, header->durable);
	pgraft_put64(buffer + 32, header->next_sequence);
	pgraft_put32(buffer + 40, header->n_records);
	pgraft_put32(buffer + 48, header->previous);
	pgraft_put32(buffer + 52, header->payload_crc);
	header->crc = pgraft_crc32c(buffer, 60);
	pgraft_put32(buffer + 60, header->crc);
}

bool
pgraft_batch_decode(const unsigned char *buffer, PgraftBatchHeader *header,
					const char **reason)
{
	uint32		magic = pgraft_get32(buffer);

	*reason = NULL;
	if (magic != PGRAFT_BATCH_MAGIC && magic != PGRAFT_MARK_MAGIC)
	{
		*reason = "batch header has a wrong magic number";
		return false;
	}
	header->crc = pgraft_get32(buffer + 60);
	if (header->crc != pgraft_crc32c(buffer, 60))
	{
		*reason = "batch header checksum does not match";
		return false;
	}
	header->mark = (magic == PGRAFT_MARK_MAGIC);
	header->length = pgraft_get32(buffer + 4);
	header->number = pgraft_get64(buffer + 8);
	header->salt = pgraft_get64(buffer + 16);
	header->durable = pgraft_get64(buffer + 24);
	header->next_sequence = pgraft_get64(buffer + 32);
	header->n_records = pgraft_get32(buffer + 40);
	header->previous = pgraft_get32(buffer + 48);
	header->payload_crc = pgraft_get32(buffer + 52);
	return true;
}

/* ----------------------------------------------------------------
 * Records
 * ----------------------------------------------------------------
 */
static size_t
record_body_bytes(const PgraftRecord *record)
{
	switch (record->kind)
	{
		case PGRAFT_RECORD_HARD_STATE:
			return 24;
		case PGRAFT_RECORD_ENTRY:
			return 16 + record->entry.length;
		case PGRAFT_RECORD_TRUNCATE:
			return 8;
		case PGRAFT_RECORD_LOG_START:
		case PGRAFT_RECORD_SNAPSHOT:
			return 16;
	}
	return 0;
}

/* Bytes on disk, padding included. */
size_t
pgraft_record_bytes(const PgraftRecord *record)
{
	return PGRAFT_RECORD_HEADER_BYTES + PGRAFT_ALIGN8(record_body_bytes(record));
}

size_t
pgraft_record_encode(unsigned char *buffer, const PgraftRecord *record)
{
	size_t		length = record_body_bytes(record);
	size_t		padded = PGRAFT_ALIGN8(length);
	unsigned char *body = buffer + PGRAFT_RECORD_HEADER_BYTES;

	memset(buffer, 0, PGRAFT_RECORD_HEADER_BYTES);
	buffer[0] = (unsigned char) record->kind;
	pgraft_put32(buffer + 4, (uint32) length);
	memset(body + padded - 8, 0, 8);
	switch (record->kind)
	{
		case PGRAFT_RECORD_HARD_STATE:
			pgraft_put64(body, record->hard_state.term);
			pgraft_put64(body + 8, record->hard_state.commit);
			pgraft_put32(body + 16, record->hard_state.vote);
			break;
		case PGRAFT_RECORD_ENTRY:
			buffer[1] = (unsigned char) record->entry.type;
			pgraft_put64(body, record->entry.index);
			pgraft_put64(body + 8, record->entry.term);
			if (record->entry.length > 0)
				memcpy(body + 16, record->entry.data, record->entry.length);
			break;
		case PGRAFT_RECORD_TRUNCATE:
			pgraft_put64(body, record->index);
			break;
		case PGRAFT_RECORD_SNAPSHOT:
			buffer[1] = record->restart ? 1 : 0;
			pgraft_put64(body, record->index);
			pgraft_put64(body + 8, record->term);
			break;
		case PGRAFT_RECORD_LOG_START:
			pgraft_put64(body, record->index);
			pgraft_put64(body + 8, record->term);
			break;
	}
	return PGRAFT_RECORD_HEADER_BYTES + padded;
}

static bool
record_decode_body(PgraftRecord *record, int flag, const unsigned char *body,
				   size_t length)
{
	switch (record->kind)
	{
		case PGRAFT_RECORD_HARD_STATE:
			if (length != 24)
				return false;
			record->hard_state.term = pgraft_get64(body);
			record->hard_state.commit = pgraft_get64(body + 8);
			record->hard_state.vote = pgraft_get32(body + 16);
			return true;
		case PGRAFT_RECORD_ENTRY:
			if (length < 16)
				return false;
			record->entry.index = pgraft_get64(body);
			record->entry.term = pgraft_get64(body + 8);
			record->entry.type = flag;
			record->entry.length = length - 16;
			record->entry.data = length > 16 ? body + 16 : NULL;
			return true;
		case PGRAFT_RECORD_TRUNCATE:
			if (length != 8)
				return false;
			record->index = pgraft_get64(body);
			return true;
		case PGRAFT_RECORD_LOG_START:
		case PGRAFT_RECORD_SNAPSHOT:
			if (length != 16)
				return false;
			record->index = pgraft_get64(body);
			record->term = pgraft_get64(body + 8);
			record->restart = (flag == 1);
			return true;
	}
	return false;
}

/*
 * Reads the record at *offset and moves *offset behind it.  Returns 1, 0 at
 * the end of the payload, or -1 with *reason.
 */
int
pgraft_record_next(const unsigned char *payload, size_t length, size_t *offset,
				   PgraftRecord *record, const char **reason)
{
	const unsigned char *p = payload + *offset;
	size_t		left = length - *offset;
	size_t		body;

	if (left == 0)
		return 0;
	if (left < PGRAFT_RECORD_HEADER_BYTES)
	{
		*reason = "record header does not fit into its batch";
		return -1;
	}
	body = pgraft_get32(p + 4);
	if (PGRAFT_ALIGN8(body) > left - PGRAFT_RECORD_HEADER_BYTES)
	{
		*reason = "record is longer than its batch";
		return -1;
	}
	memset(record, 0, sizeof(*record));
	record->kind = (PgraftRecordKind) p[0];
	if (!record_decode_body(record, p[1], p + PGRAFT_RECORD_HEADER_BYTES, body))
	{
		*reason = "record has an unrecognized kind or length";
		return -1;
	}
	*offset += PGRAFT_RECORD_HEADER_BYTES + PGRAFT_ALIGN8(body);
	return 1;
}

/*
 * What a record does to the log.  The same function checks an update before it
 * is written and a record after it was read: false with *reason when it
 * contradicts the state, which is then unchanged.
 */
bool
pgraft_scan_state_apply(PgraftLogState *state, const PgraftRecord *record,
				   const char **reason)
{
	switch (record->kind)
	{
		case PGRAFT_RECORD_HARD_STATE:
			state->has_hard_state = true;
			state->hard_state = record->hard_state;
			return true;
		case PGRAFT_RECORD_ENTRY:
			if (record->entry.index > Min(state->last_index + 1, MAX_INDEX) ||
				record->entry.index <= state->start_index)
			{
				*reason = "entry does not continue the log";
				return false;
			}
			state->last_index = record->entry.index;
			return true;
		case PGRAFT_RECORD_TRUNCATE:
			if (record->index <= state->start_index)
			{
				*reason = "truncation reaches below the start of the log";
				return false;
			}
			if (record->index <= state->last_index)
				state->last_index = record->index - 1;
			return true;
		case PGRAFT_RECORD_LOG_START:
			if (record->index < state->start_index ||
				record->index > state->last_index ||
				record->index > state->snapshot_index)
			{
				*reason = "start of the log is outside of the log or its snapshot";
				return false;
			}
			state->start_index = record->index;
			state->start_term = record->term;
			return true;
		case PGRAFT_RECORD_SNAPSHOT:
			if (record->index == 0 || record->index > MAX_INDEX ||
				record->index < state->snapshot_index ||
				(!record->restart && record->index > state->last_index))
			{
				*reason = "snapshot is outside of the log or older than the last one";
				return false;
			}
			state->snapshot_index = record->index;
			state->snapshot_term = record->term;
			if (record->restart)
			{
				state->restart_batch = state->next_batch;
				state->last_index = record->index;
				state->start_index = record->index;
				state->start_term = record->term;
			}
			return true;
	}
	*reason = "record has an unrecognized kind";
	return false;
}

bool
pgraft_state_equal(const PgraftLogState *a, const PgraftLogState *b)
{
	return a->has_hard_state == b->has_hard_state &&
		a->hard_state.term == b->hard_state.term &&
		a->hard_state.vote == b->hard_state.vote &&
		a->hard_state.commit == b->hard_state.commit &&
		a->last_index == b->last_index &&
		a->start_index == b->start_index &&
		a->start_term == b->start_term &&
		a->snapshot_index == b->snapshot_index &&
		a->snapshot_term == b->snapshot_term &&
		a->restart_batch == b->restart_batch &&
		a->next_batch == b->next_batch &&
		a->chain == b->chain;
}
