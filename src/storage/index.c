/*-------------------------------------------------------------------------
 *
 * index.c
 *	  Where entries are: a sparse index over the log, and the terms of log
 *	  positions.
 *
 * Loop half of struct PgraftStorage.  Nothing survives a restart; recovery
 * builds it again.
 *
 * Invariants
 *	I1	points are ascending in first, sequence and offset.
 *	I2	an entry e is found by reading from the last point with first <= e,
 *		and before the place of the next point no other entry e follows: after
 *		a truncation the next entries get a point of their own.
 *	I3	memory: one point per PGRAFT_INDEX_GRAIN bytes, per segment and per
 *		truncation; one run per term.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/index.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "internal.h"

/*
 * Called when a job is prepared, so that completing it cannot fail: each adds
 * at most one point and one segment.
 */
bool
pgraft_index_reserve(PgraftStorage *storage)
{
	return pgraft_grow((void **) &storage->points, &storage->points_allocated,
					   storage->n_points + storage->outstanding + 1,
					   sizeof(PgraftIndexPoint)) &&
		pgraft_grow((void **) &storage->segments, &storage->segments_allocated,
					storage->n_segments + storage->outstanding + 1,
					sizeof(PgraftReadSegment));
}

/* Entries from `from` on are gone. */
void
pgraft_index_truncate(PgraftStorage *storage, raft_index from)
{
	while (storage->n_points > 0 &&
		   storage->points[storage->n_points - 1].first >= from)
		storage->n_points--;
	if (storage->completed_last >= from)
		storage->completed_last = from - 1;
	storage->point_forced = true;
}

/* All entries are gone; the log goes on after `index`. */
void
pgraft_index_restart(PgraftStorage *storage, raft_index index)
{
	storage->n_points = 0;
	storage->point_forced = true;
	storage->completed_last = index;
	storage->first_index = index + 1;
}

/*
 * A batch lies at [offset, end) of a segment and holds entries first to last;
 * first 0 = none.  Room was reserved.
 */
void
pgraft_index_add(PgraftStorage *storage, const PgraftSegment *segment,
				 size_t offset, size_t end, raft_index first, raft_index last)
{
	PgraftReadSegment *known = NULL;
	PgraftIndexPoint *point = NULL;

	if (storage->n_segments > 0)
		known = &storage->segments[storage->n_segments - 1];
	if (known == NULL || known->sequence != segment->sequence)
	{
		known = &storage->segments[storage->n_segments++];
		known->sequence = segment->sequence;
		known->salt = segment->salt;
		known->slot = segment->slot;
	}
	known->used = end;
	if (first == 0)
		return;

	if (first <= storage->completed_last)
		pgraft_index_truncate(storage, first);
	if (storage->n_points > 0)
		point = &storage->points[storage->n_points - 1];
	if (point == NULL || storage->point_forced || point->sequence != segment->sequence ||
		offset - point->offset >= PGRAFT_INDEX_GRAIN)
	{
		point = &storage->points[storage->n_points++];
		point->first = first;
		point->sequence = segment->sequence;
		point->offset = offset;
		storage->point_forced = false;
	}
	storage->completed_last = last;
}

/* Segments before `first_live` are no longer part of the log. */
void
pgraft_index_forget(PgraftStorage *storage, raft_u64 first_live)
{
	size_t		n = 0;

	while (n < storage->n_segments && storage->segments[n].sequence < first_live)
		n++;
	storage->n_segments -= n;
	if (n > 0)
		memmove(storage->segments, storage->segments + n,
				storage->n_segments * sizeof(PgraftReadSegment));
	n = 0;
	while (n < storage->n_points && storage->points[n].sequence < first_live)
		n++;
	storage->n_points -= n;
	if (n > 0)
		memmove(storage->points, storage->points + n,
				storage->n_points * sizeof(PgraftIndexPoint));
}

/* ----------------------------------------------------------------
 * Terms, as of the last prepared job
 * ----------------------------------------------------------------
 */
bool
pgraft_terms_reserve(PgraftStorage *storage, size_t more)
{
	return pgraft_grow((void **) &storage->terms, &storage->terms_allocated,
					   storage->n_terms + more, sizeof(PgraftTermRun));
}

/* Room was reserved. */
void
pgraft_terms_add(PgraftStorage *storage, raft_index index, raft_term term)
{
	pgraft_terms_truncate(storage, index);
	if (storage->n_terms > 0 &&
		storage->terms[storage->n_terms - 1].term == term)
		return;
	storage->terms[storage->n_terms].first = index;
	storage->terms[storage->n_terms].term = term;
	storage->n_terms++;
}

void
pgraft_terms_truncate(PgraftStorage *storage, raft_index from)
{
	while (storage->n_terms > 0 &&
		   storage->terms[storage->n_terms - 1].first >= from)
		storage->n_terms--;
}

/* Entries up to `start` will not be asked for. */
void
pgraft_terms_forget(PgraftStorage *storage, raft_index start)
{
	size_t		n = 0;

	while (n + 1 < storage->n_terms && storage->terms[n + 1].first <= start + 1)
		n++;
	storage->n_terms -= n;
	if (n > 0)
		memmove(storage->terms, storage->terms + n,
				storage->n_terms * sizeof(PgraftTermRun));
}

/* 0 = not known. */
raft_term
pgraft_terms_find(PgraftStorage *storage, raft_index index)
{
	size_t		i = storage->n_terms;

	if (index == storage->prepared.start_index)
		return storage->prepared.start_term;
	if (index < storage->prepared.start_index ||
		index > storage->prepared.last_index)
		return 0;
	while (i > 0)
		if (storage->terms[--i].first <= index)
			return storage->terms[i].term;
	return 0;
}
