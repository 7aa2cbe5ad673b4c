/*-------------------------------------------------------------------------
 *
 * publish.c
 *	  Copies what the event loop knows into shared memory, for the views.
 *
 * The status block goes out at every turn; the bigger members block when
 * leader or membership changed, and otherwise at most every 50 ms.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "pgraft/settings.h"
#include "pgraft/worker.h"

#define MEMBERS_INTERVAL_MS 50

static void reset_counters(PgraftNode *node);
static void publish_members(PgraftNode *node);
static void fill_member(PgraftNode *node, PgraftMemberStatus *target,
						const struct raft_member *member,
						const PgraftNetPeerStats *stats, int n_stats);
static void storage_statistics(PgraftNode *node, PgraftStorageStats *stats);
static void network_statistics(PgraftNode *node, PgraftNetStats *stats);
static void peer_since_reset(PgraftNetPeerStats *stats);
static uint64 since_reset(uint64 now, uint64 at_reset);

static PgraftMembers members;
static PgraftStatus last;		/* as published */
static PgraftStatus base;		/* engine, storage and network at the last reset */
static PgraftNetPeerStats peer_base[RAFT_MAX_MEMBERS * 2];	/* the same, of peers */
static int	n_peer_base = 0;
static uint64 bytes_before_reset = 0;	/* see pgraft_lag_sample() */

void
pgraft_publish(PgraftNode *node, bool force)
{
	PgraftStatus *status = &node->status;

	if (pg_atomic_read_u32(&pgraft_shared->reset_requested) != 0)
	{
		pg_atomic_write_u32(&pgraft_shared->reset_requested, 0);
		reset_counters(node);
	}
	status->worker_state = node->state;
	status->worker_pid = MyProcPid;
	strlcpy(status->failure, node->failure, sizeof(status->failure));
	status->cluster_uid = node->storage != NULL ? node->identity.cluster_uid : 0;
	pgraft_own_name(status->name);
	if (node->raft != NULL)
	{
		const struct raft_config *config = raft_get_config(node->raft);
		int			i;

		raft_status(node->raft, &status->raft);
		pgraft_lag_sample(node, &status->raft, bytes_before_reset + status->proposal_bytes);
		status->raft.elections_started = since_reset(status->raft.elections_started,
													 base.raft.elections_started);
		status->raft.prevotes_started = since_reset(status->raft.prevotes_started,
													base.raft.prevotes_started);
		status->raft.messages_received = since_reset(status->raft.messages_received,
													 base.raft.messages_received);
		status->raft.messages_ignored = since_reset(status->raft.messages_ignored,
													base.raft.messages_ignored);
		status->raft.heartbeats_sent = since_reset(status->raft.heartbeats_sent,
												   base.raft.heartbeats_sent);
		status->num_nodes = config->n_members;
		status->num_voters = 0;
		for (i = 0; i < config->n_members; i++)
			if (config->members[i].role == RAFT_VOTER ||
				config->members[i].role == RAFT_WITNESS)
				status->num_voters++;
		status->config_index = config->index;
		status->store_loaded = !node->installing;
	}
	else
	{
		memset(&status->raft, 0, sizeof(status->raft));
		status->raft.id = (raft_id) pgraft_node_id;
		status->num_nodes = 0;
		status->num_voters = 0;
		status->store_loaded = false;
	}
	if (node->storage != NULL)
		storage_statistics(node, &status->storage);
	if (node->net != NULL)
		network_statistics(node, &status->net);
	if (force || memcmp(&last, status, sizeof(last)) != 0)
	{
		bool		progress = last.raft.applied_index != status->raft.applied_index ||
			last.raft.leader != status->raft.leader ||
			last.worker_state != status->worker_state;

		memcpy(&last, status, sizeof(last));
		pgraft_publish_status(status);
		if (progress || force)
			pgraft_wake_status_waiters();
	}
	if (force || node->notices != 0 ||
		node->now - node->members_published >= MEMBERS_INTERVAL_MS)
		publish_members(node);
	node->notices = 0;
}

static void
storage_statistics(PgraftNode *node, PgraftStorageStats *stats)
{
	int			i;

	pgraft_storage_stats(node->storage, stats);
	stats->bytes_written = since_reset(stats->bytes_written, base.storage.bytes_written);
	stats->batches = since_reset(stats->batches, base.storage.batches);
	stats->fsyncs = since_reset(stats->fsyncs, base.storage.fsyncs);
	stats->fsync_us = since_reset(stats->fsync_us, base.storage.fsync_us);
	for (i = 0; i < PGRAFT_FSYNC_BUCKETS; i++)
		stats->fsync_histogram[i] = since_reset(stats->fsync_histogram[i],
												base.storage.fsync_histogram[i]);
}

static void
network_statistics(PgraftNode *node, PgraftNetStats *stats)
{
	pgraft_net_stats(node->net, stats);
	stats->accepted = since_reset(stats->accepted, base.net.accepted);
	stats->rejected = since_reset(stats->rejected, base.net.rejected);
}

static void
peer_since_reset(PgraftNetPeerStats *stats)
{
	int			i;

	for (i = 0; i < n_peer_base; i++)
	{
		const PgraftNetPeerStats *then = &peer_base[i];

		if (then->id != stats->id)
			continue;
		stats->bytes_sent = since_reset(stats->bytes_sent, then->bytes_sent);
		stats->bytes_received = since_reset(stats->bytes_received, then->bytes_received);
		stats->messages_sent = since_reset(stats->messages_sent, then->messages_sent);
		stats->messages_received = since_reset(stats->messages_received,
											   then->messages_received);
		stats->connects = since_reset(stats->connects, then->connects);
		stats->connect_failures = since_reset(stats->connect_failures,
											  then->connect_failures);
		stats->errors = since_reset(stats->errors, then->errors);
		stats->dropped = since_reset(stats->dropped, then->dropped);
	}
}

static uint64
since_reset(uint64 now, uint64 at_reset)
{
	return now >= at_reset ? now - at_reset : now;
}

/* Counters of the engine cannot be set back, so their values now are kept. */
static void
reset_counters(PgraftNode *node)
{
	PgraftStatus *status = &node->status;

	if (node->raft != NULL)
		raft_status(node->raft, &base.raft);
	if (node->storage != NULL)
		pgraft_storage_stats(node->storage, &base.storage);
	if (node->net != NULL)
	{
		pgraft_net_stats(node->net, &base.net);
		n_peer_base = pgraft_net_peer_stats(node->net, peer_base, lengthof(peer_base));
		node->members_published = 0;
	}
	bytes_before_reset += status->proposal_bytes;
	status->leader_changes = 0;
	status->proposals = 0;
	status->proposals_committed = 0;
	status->proposals_forwarded = 0;
	status->proposal_bytes = 0;
	status->proposals_failed = 0;
	status->messages_dropped = 0;
	status->batches = 0;
	status->entries_applied = 0;
	status->reads_linearizable = 0;
	status->snapshots_taken = 0;
	status->snapshots_installed = 0;
	status->loop_turns = 0;
	status->reset_at = GetCurrentTimestamp();
}

static void
publish_members(PgraftNode *node)
{
	static PgraftNetPeerStats stats[RAFT_MAX_MEMBERS * 2];
	int			n_stats = 0;
	int			i;

	node->members_published = node->now;
	members.n_members = 0;
	if (node->raft != NULL)
	{
		const struct raft_config *config = raft_get_config(node->raft);

		if (node->net != NULL)
			n_stats = pgraft_net_peer_stats(node->net, stats, lengthof(stats));
		for (i = 0; i < config->n_members; i++)
			fill_member(node, &members.members[members.n_members++],
						&config->members[i], stats, n_stats);
	}
	pgraft_publish_members(&members);
}

static void
fill_member(PgraftNode *node, PgraftMemberStatus *target, const struct raft_member *member,
			const PgraftNetPeerStats *stats, int n_stats)
{
	const PgraftPeerContact *contact;
	struct raft_status status;
	int			i;

	memset(target, 0, sizeof(*target));
	target->member = *member;
	if (target->member.name[0] == '\0')
		snprintf(target->member.name, RAFT_NAME_SIZE, "node%u", member->id);
	raft_status(node->raft, &status);
	target->lag_bytes = -1;
	if (member->id == node->identity.node_id)
	{
		pgraft_lag_of(status.durable_index, &target->lag_bytes, &target->lag_since);
		target->last_contact = GetCurrentTimestamp();
		return;
	}
	target->has_progress =
		raft_peer_status(node->raft, member->id, &target->progress) == RAFT_OK;
	if (target->has_progress)
		pgraft_lag_of(target->progress.match_index, &target->lag_bytes,
					  &target->lag_since);
	contact = pgraft_contact(node, member->id);
	if (contact->last_frame != 0)
		target->last_contact =
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										-(int64) (node->now - contact->last_frame));
	for (i = 0; i < n_stats; i++)
	{
		if (stats[i].id == member->id)
		{
			target->has_net = true;
			target->net = stats[i];
			peer_since_reset(&target->net);
		}
	}
}
