/*-------------------------------------------------------------------------
 *
 * session.c
 *	  Client sessions of the replicated state machine.
 *
 * Called by state_machine.c in the consensus worker, nowhere else; memory of
 * that process alone.  It is part of the replicated state: built from the log
 * in the same order on every member, saved in snapshots, covered by the state
 * hash.  A crash forgets it; snapshot and log bring it back.
 *
 * The table is bounded.  Who is evicted must be the same on all members, so
 * the rule depends on applied commands alone: the session whose last command
 * was applied first.  A duplicate is not an application and changes nothing.
 *
 * Everything is statically allocated: pages that were never used cost no
 * memory, and recording cannot fail.  Positions are numbers 1..capacity in one
 * array; 0 stands for none.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/worker/session.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/bytes.h"
#include "pgraft/session.h"

/* Twice the capacity keeps the chains short; a power of two. */
#define N_BUCKETS (2 * PGRAFT_MAX_SESSIONS)

typedef struct SessionSlot
{
	PgraftSession session;
	uint16		bucket_next;	/* next slot of the same bucket */
	uint16		older;			/* neighbours in the order of application */
	uint16		newer;
} SessionSlot;

StaticAssertDecl(PGRAFT_MAX_SESSIONS < PG_UINT16_MAX, "session slots are numbered in 16 bits");
StaticAssertDecl((N_BUCKETS & (N_BUCKETS - 1)) == 0, "the number of buckets is a power of two");

static uint16 *bucket_of(uint64 session);
static uint16 find_slot(uint64 session);
static uint16 claim_slot(uint64 session);
static void unlink_from_bucket(uint16 slot);
static void unlink_from_order(uint16 slot);
static void append_to_order(uint16 slot);
static uint64 slot_digest(const PgraftSession *session);

static SessionSlot slots[PGRAFT_MAX_SESSIONS + 1];
static uint16 buckets[N_BUCKETS];
static uint16 oldest_slot;
static uint16 newest_slot;
static uint16 n_sessions;
static uint64 digest_sum;

void
pgraft_session_reset(void)
{
	memset(buckets, 0, sizeof(buckets));
	oldest_slot = 0;
	newest_slot = 0;
	n_sessions = 0;
	digest_sum = 0;
}

/*
 * Session 0 is none: always new.  result is set only for a duplicate and for a
 * stale command, where it says no more than that.
 */
PgraftSessionVerdict
pgraft_session_check(uint64 session, uint64 sequence, PgraftApplyResult *result)
{
	uint16		slot;

	if (session == 0)
		return PGRAFT_SESSION_NEW;
	slot = find_slot(session);
	if (slot == 0 || sequence > slots[slot].session.sequence)
		return PGRAFT_SESSION_NEW;

	if (sequence < slots[slot].session.sequence)
	{
		memset(result, 0, sizeof(*result));
		result->duplicate = true;
		return PGRAFT_SESSION_STALE;
	}
	*result = slots[slot].session.result;
	result->duplicate = true;
	return PGRAFT_SESSION_DUPLICATE;
}

void
pgraft_session_record(uint64 session, uint64 sequence, const PgraftApplyResult *result)
{
	uint16		slot;
	PgraftSession *entry;

	if (session == 0)
		return;

	Assert(newest_slot == 0 || slots[newest_slot].session.result.index < result->index);

	slot = find_slot(session);
	if (slot != 0)
	{
		digest_sum -= slot_digest(&slots[slot].session);
		unlink_from_order(slot);
	}
	else
		slot = claim_slot(session);

	entry = &slots[slot].session;
	entry->session = session;
	entry->sequence = sequence;
	entry->result = *result;
	entry->result.duplicate = false;
	append_to_order(slot);
	digest_sum += slot_digest(entry);
}

uint64
pgraft_session_count(void)
{
	return n_sessions;
}

/*
 * A sum over the sessions; the order needs no place of its own in it because
 * it is the order of the results' indexes.
 */
uint64
pgraft_session_digest(void)
{
	return pgraft_digest_u64(digest_sum, n_sessions);
}

const PgraftSession *
pgraft_session_next(uint64 *cursor)
{
	uint16		slot;

	slot = (*cursor == 0) ? oldest_slot : slots[*cursor].newer;
	if (slot == 0)
		return NULL;
	*cursor = slot;
	return &slots[slot].session;
}

static uint16 *
bucket_of(uint64 session)
{
	return &buckets[pgraft_digest_spread(session) & (N_BUCKETS - 1)];
}

static uint16
find_slot(uint64 session)
{
	uint16		slot = *bucket_of(session);

	while (slot != 0 && slots[slot].session.session != session)
		slot = slots[slot].bucket_next;
	return slot;
}

/* A slot for a session that has none, in its bucket, not yet in the order. */
static uint16
claim_slot(uint64 session)
{
	uint16		slot;
	uint16	   *bucket = bucket_of(session);

	if (n_sessions < PGRAFT_MAX_SESSIONS)
		slot = ++n_sessions;
	else
	{
		slot = oldest_slot;
		digest_sum -= slot_digest(&slots[slot].session);
		unlink_from_order(slot);
		unlink_from_bucket(slot);
	}
	slots[slot].bucket_next = *bucket;
	*bucket = slot;
	return slot;
}

static void
unlink_from_bucket(uint16 slot)
{
	uint16	   *link = bucket_of(slots[slot].session.session);

	while (*link != slot)
	{
		Assert(*link != 0);
		link = &slots[*link].bucket_next;
	}
	*link = slots[slot].bucket_next;
}

static void
unlink_from_order(uint16 slot)
{
	uint16		older = slots[slot].older;
	uint16		newer = slots[slot].newer;

	if (older != 0)
		slots[older].newer = newer;
	else
		oldest_slot = newer;
	if (newer != 0)
		slots[newer].older = older;
	else
		newest_slot = older;
}

static void
append_to_order(uint16 slot)
{
	slots[slot].older = newest_slot;
	slots[slot].newer = 0;
	if (newest_slot != 0)
		slots[newest_slot].newer = slot;
	else
		oldest_slot = slot;
	newest_slot = slot;
}

static uint64
slot_digest(const PgraftSession *session)
{
	uint64		digest = pgraft_digest_u64(0, session->session);

	digest = pgraft_digest_u64(digest, session->sequence);
	digest = pgraft_digest_u64(digest, session->result.index);
	digest = pgraft_digest_u64(digest, session->result.value);
	return pgraft_digest_u64(digest, (uint64) (session->result.flag != 0));
}
