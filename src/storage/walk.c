/*-------------------------------------------------------------------------
 *
 * walk.c
 *	  Reading the bytes of one segment batch by batch, and finding what lies
 *	  behind the last one.
 *
 * Pure, like format.c, which says what is valid and what proves what.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/walk.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "format.h"

void
pgraft_walk_begin(PgraftWalk *walk, const unsigned char *data, size_t bytes,
				  const PgraftSegmentHeader *header)
{
	walk->data = data;
	walk->bytes = bytes;
	walk->header = *header;
	walk->offset = PGRAFT_SEGMENT_HEADER_BYTES;
	walk->state = header->state;
	walk->durable = header->state.next_batch - 1;
	walk->reason = NULL;
}

/*
 * Checks the batch at walk->offset, applies its records to walk->state and
 * moves behind it.  On anything but BATCH the walk stays where it is.
 */
PgraftWalkResult
pgraft_walk_next(PgraftWalk *walk, PgraftBatchHeader *batch,
				 const unsigned char **payload)
{
	const unsigned char *p = walk->data + walk->offset;
	size_t		left = walk->bytes - walk->offset;
	PgraftLogState state = walk->state;
	PgraftRecord record;
	size_t		offset = 0;
	raft_index	previous = 0;	/* entry of this batch */
	uint32		n_records = 0;
	int			more;

	if (left < PGRAFT_BATCH_HEADER_BYTES)
	{
		walk->reason = "segment ends without a mark";
		return PGRAFT_WALK_INVALID;
	}
	if (!pgraft_batch_decode(p, batch, &walk->reason))
		return PGRAFT_WALK_INVALID;
	if (batch->salt != walk->header.salt)
		walk->reason = "batch has the salt of another segment";
	else if (batch->number != state.next_batch)
		walk->reason = "batch number is out of sequence";
	else if (batch->previous != state.chain)
		walk->reason = "batch does not continue the checksum chain";
	else if (!batch->mark &&
			 (batch->length % 8 != 0 ||
			  (size_t) batch->length + 2 * PGRAFT_BATCH_HEADER_BYTES > left))
		walk->reason = "batch length is impossible";
	else if (!batch->mark &&
			 batch->payload_crc != pgraft_crc32c(p + PGRAFT_BATCH_HEADER_BYTES,
												 batch->length))
		walk->reason = "batch payload checksum does not match";
	if (walk->reason != NULL)
		return PGRAFT_WALK_INVALID;

	walk->durable = Max(walk->durable, batch->durable);
	if (batch->mark)
		return PGRAFT_WALK_MARK;
	*payload = p + PGRAFT_BATCH_HEADER_BYTES;
	while ((more = pgraft_record_next(*payload, batch->length, &offset,
									  &record, &walk->reason)) > 0)
	{
		if (previous != 0 && (record.kind != PGRAFT_RECORD_ENTRY ||
							  record.entry.index != previous + 1))
		{
			/* a batch is one update: its entries are the end of it, in a row */
			walk->reason = "entries of one batch do not follow each other";
			return PGRAFT_WALK_NONSENSE;
		}
		if (!pgraft_scan_state_apply(&state, &record, &walk->reason))
			return PGRAFT_WALK_NONSENSE;
		if (record.kind == PGRAFT_RECORD_ENTRY)
			previous = record.entry.index;
		n_records++;
	}
	if (more == 0 && n_records != batch->n_records)
		walk->reason = "batch has a wrong number of records";
	if (walk->reason != NULL)
		return PGRAFT_WALK_NONSENSE;
	state.next_batch++;
	state.chain = batch->crc;
	walk->state = state;
	walk->offset += PGRAFT_BATCH_HEADER_BYTES + batch->length;
	return PGRAFT_WALK_BATCH;
}

/*
 * Looks at everything from walk->offset on, where no valid next batch is, for
 * headers of this segment's life: proof of what was durable, and remains that
 * have to be cut.
 */
void
pgraft_walk_tail(const PgraftWalk *walk, PgraftTail *tail)
{
	size_t		offset;
	size_t		end = walk->offset;
	PgraftBatchHeader header;
	const char *reason;

	memset(tail, 0, sizeof(*tail));
	for (offset = walk->offset;
		 offset + PGRAFT_BATCH_HEADER_BYTES <= walk->bytes; offset += 8)
	{
		const unsigned char *p = walk->data + offset;
		uint32		magic = pgraft_get32(p);
		bool		expected_mark;

		if (magic != PGRAFT_BATCH_MAGIC && magic != PGRAFT_MARK_MAGIC)
			continue;
		if (pgraft_get64(p + 16) != walk->header.salt)
			continue;
		if (!pgraft_batch_decode(p, &header, &reason))
		{
			/* our salt, but torn or flipped */
			tail->torn = true;
			end = Max(end, offset + PGRAFT_BATCH_HEADER_BYTES);
			continue;
		}
		expected_mark = header.mark && offset == walk->offset &&
			header.number == walk->state.next_batch &&
			header.previous == walk->state.chain;
		if (!expected_mark)
		{
			tail->torn = true;
			end = Max(end, offset + PGRAFT_BATCH_HEADER_BYTES +
					  Min((size_t) header.length,
						  walk->bytes - offset - PGRAFT_BATCH_HEADER_BYTES));
		}
		if (header.durable > tail->durable)
		{
			tail->durable = header.durable;
			tail->proof_offset = offset;
		}
	}
	tail->torn_bytes = end - walk->offset;
}
