/*-------------------------------------------------------------------------
 *
 * invariants.c
 *	  What must hold between any two events, looked at from one member alone.
 *
 * The simulator and the unit tests call this after each event; what needs the
 * view of several members is checked there.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stddef.h>

#include "internal.h"

static const char *check_log(const struct raft *raft);
static const char *check_leader(const struct raft *raft);
static const char *check_durability(const struct raft *raft);

const char *
raft_check_invariants(const struct raft *raft)
{
	const char *broken;

	if (!raft->started)
		return NULL;
	if (raft->leader == raft->params.id && raft->state != RAFT_LEADER)
		return "only a leader takes itself for the leader";
	if (raft->state == RAFT_CANDIDATE && raft->vote != raft->params.id)
		return "a candidate has voted for itself";
	if ((raft->state == RAFT_CANDIDATE || raft->state == RAFT_PRECANDIDATE) &&
		raft->leader != 0)
		return "a candidate knows no leader";
	if (raft->config.index > raft->log.last && raft->config.index > raft->snapshot.index)
		return "the configuration is in the log";
	broken = check_log(raft);
	if (broken == NULL)
		broken = check_durability(raft);
	if (broken == NULL && raft->state == RAFT_LEADER)
		broken = check_leader(raft);
	return broken;
}

static const char *
check_log(const struct raft *raft)
{
	const struct raft_log *log = &raft->log;
	size_t		i;

	if (raft->commit > log->last)
		return "nothing beyond the log is committed";
	if (raft->applied > raft->commit || raft->apply_handed > raft->commit)
		return "nothing uncommitted is applied";
	if (log->base_index > raft->snapshot.index)
		return "the snapshot covers what the log has forgotten";
	if (raft_log_last_term(log) > raft->term)
		return "no entry is from the future";
	if (log->n_cached > log->last - log->base_index)
		return "only entries of the log are cached";
	for (i = 1; i < log->n_runs; i++)
		if (log->runs[i].term <= log->runs[i - 1].term ||
			log->runs[i].first <= log->runs[i - 1].first)
			return "terms grow along the log";
	return NULL;
}

static const char *
check_durability(const struct raft *raft)
{
	if (raft->written > raft->log.last)
		return "only entries of the log were written";
	if (raft->durable > raft->written)
		return "only what was written is durable";
	if (raft->log.evictable > raft->durable && raft->log.evictable > raft->log.base_index)
		return "what is not durable stays in the cache";
	return NULL;
}

static const char *
check_leader(const struct raft *raft)
{
	int			i;

	if (raft->leader != raft->params.id)
		return "a leader knows itself";
	if (raft->term_start > raft->log.last)
		return "a leader has an entry of its term";
	for (i = 0; i < raft->config.n_members; i++)
	{
		const struct raft_peer *peer = &raft->peers[i];

		if (peer->id != raft->config.members[i].id)
			return "peers follow the order of members";
		if (peer->id == raft->params.id)
			continue;
		if (peer->match > raft->log.last)
			return "no follower matches beyond the leader's log";
		if (peer->next <= peer->match && peer->progress != RAFT_PROGRESS_SNAPSHOT)
			return "next is beyond match";
		if (peer->next > raft->log.last + 1)
			return "next is at most one beyond the log";
		if (peer->inflight_count > raft->params.max_inflight_messages)
			return "the window is bounded";
		if (peer->progress == RAFT_PROGRESS_PROBE && peer->inflight_count != 0)
			return "a probing leader has nothing in flight";
	}
	return NULL;
}
