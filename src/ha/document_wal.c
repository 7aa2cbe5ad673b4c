/*-------------------------------------------------------------------------
 *
 * document_wal.c
 *	  The history of epochs in the cluster document, and what it says of a
 *	  member's WAL: whether it may follow, must be rewound, or cloned.
 *
 * Pure like document.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/document_wal.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "document_internal.h"

static bool in_lineage(const PgraftHaDocument *document, uint64 epoch);
static uint64 shared_until(const PgraftHaEpoch *entry);

/*
 * Equal epochs mean equal WAL only on the timeline that the epoch's promotion
 * made: a server that somebody promoted by hand has WAL of its own on a later
 * one, and still names the promotion that it followed before.
 *
 * A tag that the epoch does not know can only be that of its own primary, which
 * crashed and was promoted once more before its word of the first promotion was
 * heard.  It works under neither (lease.c), has everything, and may be heard.
 */
bool
pgraft_ha_left_its_timeline(const PgraftHaDocument *document, uint64 wal_epoch, uint64 tag,
							uint32 timeline)
{
	const PgraftHaEpoch *entry = pgraft_ha_find_epoch(document, wal_epoch);

	return entry != NULL && entry->promoted && tag != 0 && tag == entry->tag &&
		timeline > entry->timeline;
}

PgraftHaEpoch *
pgraft_ha_current_entry(PgraftHaDocument *document)
{
	return &document->history[document->n_history - 1];
}

const PgraftHaEpoch *
pgraft_ha_find_epoch(const PgraftHaDocument *document, uint64 epoch)
{
	int			i;

	for (i = document->n_history - 1; i >= 0; i--)
	{
		if (document->history[i].epoch == epoch)
			return &document->history[i];
	}
	return NULL;
}

/* When it is full, epochs that came to nothing go first. */
void
pgraft_ha_push_history(PgraftHaDocument *document, const PgraftHaEpoch *entry)
{
	int			victim;

	if (document->n_history == PGRAFT_HA_HISTORY)
	{
		for (victim = 0; victim < document->n_history; victim++)
		{
			if (!in_lineage(document, document->history[victim].epoch))
				break;
		}
		if (victim == document->n_history)
			victim = 0;
		document->n_history--;
		memmove(&document->history[victim], &document->history[victim + 1],
				(size_t) (document->n_history - victim) * sizeof(PgraftHaEpoch));
	}
	document->history[document->n_history++] = *entry;
}

/* Whether the newest promoted primary's WAL was built on that epoch's. */
static bool
in_lineage(const PgraftHaDocument *document, uint64 epoch)
{
	uint64		ancestor = document->primary_epoch;

	while (ancestor > epoch)
	{
		const PgraftHaEpoch *entry = pgraft_ha_find_epoch(document, ancestor);

		if (entry == NULL || entry->base_epoch >= ancestor)
			return false;
		ancestor = entry->base_epoch;
	}
	return ancestor == epoch && epoch > 0;
}

/* Up to where the WAL before a promotion is also in the WAL after it. */
static uint64
shared_until(const PgraftHaEpoch *entry)
{
	if (!entry->promoted)
		return entry->base_lsn;
	if (entry->base_lsn == 0 || entry->fork_lsn < entry->base_lsn)
		return entry->fork_lsn;
	return entry->base_lsn;
}

/*
 * A clone has followed nobody yet and knows its timeline only: the newest epoch
 * of the lineage with that number is taken for the one it was cloned from.
 */
uint64
pgraft_ha_epoch_of_timeline(const PgraftHaDocument *document, uint32 timeline)
{
	int			i;

	for (i = document->n_history - 1; i >= 0; i--)
	{
		const PgraftHaEpoch *entry = &document->history[i];

		if (entry->promoted && entry->timeline == timeline &&
			in_lineage(document, entry->epoch))
			return entry->epoch;
	}
	return 0;
}

/*
 * Walks from the newest promoted epoch back to the one whose WAL the member
 * has.  On the way the member's position must not be past any point where the
 * WAL forked.  Timelines with equal numbers but different contents would fool
 * pg_rewind: then only a clone helps.
 */
int
pgraft_ha_judge_wal(const PgraftHaDocument *document, uint64 wal_epoch, uint64 tag,
					uint32 timeline, uint64 lsn)
{
	uint64		ancestor = document->primary_epoch;
	bool		number_clashes = false;
	bool		forked_before = false;

	if (wal_epoch == 0)
		wal_epoch = pgraft_ha_epoch_of_timeline(document, timeline);
	while (ancestor != wal_epoch)
	{
		const PgraftHaEpoch *entry = pgraft_ha_find_epoch(document, ancestor);

		if (entry == NULL)
			return ancestor == 0 && document->epoch <= PGRAFT_HA_HISTORY && !number_clashes ?
				PGRAFT_HA_MEMBER_REWIND : PGRAFT_HA_MEMBER_RECLONE;
		if (entry->promoted && entry->timeline == timeline)
			number_clashes = true;
		if (lsn > shared_until(entry))
			forked_before = true;
		ancestor = entry->base_epoch;
		if (ancestor < wal_epoch)
			forked_before = true;
	}
	if (ancestor > 0)
	{
		const PgraftHaEpoch *entry = pgraft_ha_find_epoch(document, ancestor);

		if (entry != NULL && entry->tag != 0 && tag != 0 && entry->tag != tag)
			return PGRAFT_HA_MEMBER_RECLONE;
	}
	if (pgraft_ha_left_its_timeline(document, wal_epoch, tag, timeline))
		return pgraft_ha_epoch_of_timeline(document, timeline) != 0 ?
			PGRAFT_HA_MEMBER_RECLONE : PGRAFT_HA_MEMBER_REWIND;
	if (number_clashes)
		return PGRAFT_HA_MEMBER_RECLONE;
	return forked_before ? PGRAFT_HA_MEMBER_REWIND : PGRAFT_HA_MEMBER_STREAMING;
}
