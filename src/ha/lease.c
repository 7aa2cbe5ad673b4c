/*-------------------------------------------------------------------------
 *
 * lease.c
 *	  The lease: until when this server, as the primary, may work without
 *	  hearing more of the cluster.
 *
 * Runs in the consensus worker once per turn, the only one that raises the
 * fence; a worker that is stopped or starved therefore closes it by doing
 * nothing.  Below half of the election timeout, because nobody is elected
 * sooner after a member last heard of its leader.
 *
 *	leader		from the moment at which the newest round that a quorum has
 *				answered was sent
 *	follower	from the moment at which it asked the leader a question that the
 *				leader has answered: up to where the log is committed, which must be
 *				applied here.  That it hears the leader alone proves nothing: the
 *				leader may not hear it, and have chosen another primary.
 *
 * A machine that was suspended finds its lease in a clock that stood still: after
 * a pause only what began later counts.  No acknowledged transaction depends on
 * any of this (seal.c); what a deposed primary still reads does.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/lease.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgraft/ha.h"
#include "pgraft/ha_state.h"
#include "pgraft/question.h"
#include "pgraft/settings.h"

#define DRIFT_PERCENT 1			/* clocks of two machines may differ by that much */
#define FAR_AHEAD_MS (3600 * 1000)

static bool is_promoted_primary(const PgraftNode *node);
static bool quorum_is_connected(PgraftNode *node);
static void look_for_pause(void);
static int64 leader_lease_end(const struct raft_status *status);
static int64 follower_lease_end(PgraftNode *node, const struct raft_status *status);
static int64 lease_us(void);
static void raise_fence(uint64 until, uint64 epoch);

/* leases that end earlier may be from before a pause */
static raft_time untrusted_until = 0;

/*
 * As a follower: the question under way and the newest answered one, by the time
 * at which they were asked, in microseconds of CLOCK_BOOTTIME.
 */
static PgraftQuestion question;
static int64 asked_at = 0;
static int64 answered_at = 0;	/* 0 = its answer counts already, or none came */
static raft_index answered_index = 0;
static int64 confirmed_at = 0;

raft_time
pgraft_ha_renew_lease(PgraftNode *node, const struct raft_status *status)
{
	int64		until;

	if (pgraft_ha_shared == NULL)
		return node->now + FAR_AHEAD_MS;
	look_for_pause();
	if (!is_promoted_primary(node) || !quorum_is_connected(node))
	{
		if (pg_atomic_read_u64(&pgraft_ha_shared->fence_until) != 0)
			pgraft_ha_fence_now();
		return node->now + FAR_AHEAD_MS;
	}
	until = status->state == RAFT_LEADER ? leader_lease_end(status) :
		follower_lease_end(node, status);
	if (until > 0)
		raise_fence((uint64) until, pgraft_ha_state_document()->epoch);

	/* "pgraft ha" may have given up the role meanwhile, and fenced before that */
	if (!is_promoted_primary(node))
		pgraft_ha_fence_now();
	return node->now + (raft_time) pgraft_heartbeat_interval;
}

static bool
is_promoted_primary(const PgraftNode *node)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();
	const PgraftHaEpoch *entry = pgraft_ha_find_epoch(document, document->epoch);
	PgraftHaLocal local;

	if (node->raft == NULL || node->state != PGRAFT_WORKER_RUNNING ||
		!pgraft_ha_shared->document_loaded ||
		(document->phase != PGRAFT_HA_STEADY && document->phase != PGRAFT_HA_DRAINING) ||
		document->primary != node->identity.node_id)
		return false;
	pgraft_ha_read_local(&local);

	/* the epoch may know it by another promotion than the one that it runs */
	return local.promoted_epoch == document->epoch && entry != NULL &&
		entry->tag == local.wal_tag;
}

/* Without them nothing can be confirmed: not even the lease is waited for. */
static bool
quorum_is_connected(PgraftNode *node)
{
	const struct raft_config *config = raft_get_config(node->raft);
	int			votes[RAFT_MAX_MEMBERS];
	int			i;

	for (i = 0; i < config->n_members; i++)
	{
		raft_id		id = config->members[i].id;

		votes[i] = id == node->identity.node_id || pgraft_contact(node, id)->up ?
			RAFT_VOTE_YES : RAFT_VOTE_NO;
	}
	return raft_vote_result(config, votes) == RAFT_VOTE_WON;
}

/* Each turn: the clock of the lease does not count while the machine is suspended. */
static void
look_for_pause(void)
{
	static int64 last_turn = 0;
	int64		boottime = pgraft_boottime_us();
	raft_time	half = (raft_time) pgraft_election_timeout / 2;

	if (last_turn != 0 && boottime - last_turn > (int64) half * 1000)
		untrusted_until = pgraft_monotonic_ms() + half;
	last_turn = boottime;
}

/* In microseconds of CLOCK_BOOTTIME; 0 = nothing to go by. */
static int64
leader_lease_end(const struct raft_status *status)
{
	raft_time	now = pgraft_monotonic_ms();

	confirmed_at = answered_at = 0;
	question.asked = 0;

	/* what an earlier leader has committed must be known here */
	if (!status->own_term_committed || status->applied_index < status->commit_index ||
		status->lease_until <= now || status->lease_until <= untrusted_until)
		return 0;
	return pgraft_boottime_us() + (int64) (status->lease_until - now) * 1000;
}

/* The same; asks, too. */
static int64
follower_lease_end(PgraftNode *node, const struct raft_status *status)
{
	int64		now = pgraft_boottime_us();
	bool		due = question.asked == 0 ? now - asked_at >= pgraft_heartbeat_interval * 1000 :
		question.asked != status->leader || question.term != status->term ||
		now - asked_at >= lease_us();

	if (answered_at != 0 && status->applied_index >= answered_index)
	{
		confirmed_at = Max(confirmed_at, answered_at);
		answered_at = 0;
	}
	if (due && status->leader != 0)
	{
		question.asked = 0;		/* each has a token of its own */
		pgraft_question_ask(&question, status->leader, status->term, pgraft_random_u64());
		asked_at = now;
		if (!pgraft_ha_ask_leader(node, status, question.token))
			question.asked = 0;
	}
	return confirmed_at != 0 && confirmed_at + lease_us() > now ? confirmed_at + lease_us() : 0;
}

static int64
lease_us(void)
{
	return (int64) pgraft_election_timeout * 1000 / 2 / 100 * (100 - DRIFT_PERCENT);
}

void
pgraft_ha_lease_answered(raft_id from, uint64 token, bool good, raft_index index)
{
	if (!pgraft_question_answered(&question, from, token))
		return;
	question.asked = 0;
	if (good)
	{
		answered_at = asked_at;
		answered_index = index;
	}
}

static void
raise_fence(uint64 until, uint64 epoch)
{
	if (until <= pg_atomic_read_u64(&pgraft_ha_shared->fence_until))
		return;
	pg_atomic_write_u64(&pgraft_ha_shared->fence_epoch, epoch);
	pg_write_barrier();
	pg_atomic_write_u64(&pgraft_ha_shared->fence_until, until);
	pg_memory_barrier();
}
