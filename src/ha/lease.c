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
 *	follower	from the moment at which it heard the leader
 *
 * A follower cannot tell how long a heartbeat lay in its socket while it was
 * stopped: after a pause it waits for one that came later.  No acknowledged
 * transaction depends on any of this (seal.c); what a deposed primary still
 * reads does.
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
#include "pgraft/settings.h"

#define DRIFT_PERCENT 1			/* clocks of two machines may differ by that much */
#define FAR_AHEAD_MS (3600 * 1000)

static bool is_promoted_primary(const PgraftNode *node);
static bool quorum_is_connected(PgraftNode *node);
static int64 lease_end(const struct raft_status *status);
static void raise_fence(uint64 until, uint64 epoch);

raft_time
pgraft_ha_renew_lease(PgraftNode *node, const struct raft_status *status)
{
	int64		until;

	if (pgraft_ha_shared == NULL)
		return node->now + FAR_AHEAD_MS;
	until = lease_end(status);	/* also looks for pauses: each turn */
	if (!is_promoted_primary(node) || !quorum_is_connected(node))
	{
		if (pg_atomic_read_u64(&pgraft_ha_shared->fence_until) != 0)
			pgraft_ha_fence_now();
		return node->now + FAR_AHEAD_MS;
	}
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

/* In microseconds of CLOCK_BOOTTIME; 0 = nothing to go by. */
static int64
lease_end(const struct raft_status *status)
{
	static int64 last_turn = 0;
	static raft_time trusted_from = 0;
	int64		boottime = pgraft_boottime_us();
	raft_time	now = pgraft_monotonic_ms();
	raft_time	half = (raft_time) pgraft_election_timeout / 2;
	raft_time	end;

	if (last_turn != 0 && boottime - last_turn > (int64) half * 1000)
		trusted_from = now + (raft_time) pgraft_heartbeat_interval;
	last_turn = boottime;

	if (status->state == RAFT_LEADER)
		end = status->lease_until;
	else if (status->leader != 0 && status->leader_contact >= trusted_from)
		end = status->leader_contact + half - half * DRIFT_PERCENT / 100;
	else
		end = 0;
	if (end <= now)
		return 0;
	return boottime + (int64) (end - now) * 1000;
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
