/*-------------------------------------------------------------------------
 *
 * raft_fixture_events.c
 *	  A cluster of engines in memory: what a test asks of a member, and what it
 *	  can see.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "raft_fixture_internal.h"

static int
propose(Cluster *cluster, raft_id id, const void *data, size_t length, raft_index *index)
{
	Node	   *node = &cluster->nodes[id];
	struct raft_proposal proposal;
	raft_term	term;
	raft_index	first = 0;
	int			error;

	proposal.length = length;
	proposal.data = data;
	raft_tick(node->raft, cluster->now);
	error = raft_propose(node->raft, &proposal, 1, &first, &term);
	if (index != NULL)
		*index = first;
	cluster_flush(cluster, node->id);
	return error;
}

int
cluster_propose(Cluster *cluster, raft_id id, const char *text, raft_index *index)
{
	return propose(cluster, id, text, strlen(text), index);
}

int
cluster_propose_bytes(Cluster *cluster, raft_id id, size_t length, raft_index *index)
{
	unsigned char *data = calloc(1, length + 1);
	int			error;

	data[0] = (unsigned char) cluster_random(cluster, 256);
	error = propose(cluster, id, data, length, index);
	free(data);
	return error;
}

ReadRecord *
cluster_find_read(Cluster *cluster, raft_id id, raft_u64 token)
{
	Node	   *node = &cluster->nodes[id];
	int			i;

	for (i = 0; i < node->n_reads; i++)
		if (node->reads[i].token == token)
			return &node->reads[i];
	return NULL;
}

int
cluster_read(Cluster *cluster, raft_id id, raft_u64 token)
{
	Node	   *node = &cluster->nodes[id];
	ReadRecord *record = &node->reads[node->n_reads];
	int			error;

	raft_tick(node->raft, cluster->now);
	memset(record, 0, sizeof(*record));
	record->token = token;
	record->floor = cluster->max_commit;
	error = raft_read(node->raft, token);
	if (error == RAFT_OK)
		node->n_reads++;
	cluster_flush(cluster, node->id);
	return error;
}

int
cluster_change(Cluster *cluster, raft_id id, const struct raft_change *changes, size_t n,
			   raft_index *index)
{
	Node	   *node = &cluster->nodes[id];
	raft_index	entry = 0;
	int			error;

	raft_tick(node->raft, cluster->now);
	error = raft_change_membership(node->raft, changes, n, &entry);
	if (index != NULL)
		*index = entry;
	cluster_flush(cluster, node->id);
	return error;
}

/*
 * Takes a snapshot, makes it durable at once, compacts.  Batches are durable in
 * order, so those in flight come first.
 */
int
cluster_snapshot(Cluster *cluster, raft_id id, raft_index retain)
{
	Node	   *node = &cluster->nodes[id];
	Disk	   *disk = &node->disk;
	struct raft_snapshot_meta meta;
	unsigned char *data;
	raft_index	first_kept;
	int			error;

	cluster_persist(cluster, id);
	memset(&meta, 0, sizeof(meta));
	error = raft_snapshot_begin(node->raft, &meta);
	if (error != RAFT_OK)
		return error;
	data = make_snapshot(cluster, node->state, meta.index);
	disk->meta = meta;
	blob_set(&disk->snapshot, 0, data, cluster->snapshot_bytes);
	free(data);
	error = raft_compact(node->raft, &meta, retain, &first_kept);
	if (error == RAFT_OK && first_kept > disk->start + 1)
	{
		if (first_kept - 1 > disk->last)
			cluster_fail(cluster, "member %u forgets what is not durable", id);
		disk->start_term = disk->entries[first_kept - 1].term;
		disk->start = first_kept - 1;
	}
	check_node(cluster, node);
	return error;
}

raft_id
cluster_leader(Cluster *cluster)
{
	raft_term	term = 0;
	raft_id		leader = 0;
	int			i;

	for (i = 1; i < FIXTURE_NODES; i++)
	{
		Node	   *node = &cluster->nodes[i];
		struct raft_status *status;

		if (node->raft == NULL || node->paused)
			continue;
		status = cluster_status(cluster, node->id);
		if (status->state == RAFT_LEADER && status->term > term)
		{
			term = status->term;
			leader = node->id;
		}
	}
	return leader;
}

struct raft_status *
cluster_status(Cluster *cluster, raft_id id)
{
	Node	   *node = &cluster->nodes[id];

	if (node->raft != NULL)
		raft_status(node->raft, &node->seen);
	return &node->seen;
}

struct raft_change
change_add(raft_id id, int role)
{
	struct raft_change change;

	memset(&change, 0, sizeof(change));
	change.type = RAFT_CHANGE_ADD;
	change.member.id = id;
	change.member.role = role;
	return change;
}

struct raft_change
change_remove(raft_id id)
{
	struct raft_change change;

	memset(&change, 0, sizeof(change));
	change.type = RAFT_CHANGE_REMOVE;
	change.member.id = id;
	return change;
}

struct raft_change
change_promote(raft_id id, int role)
{
	struct raft_change change;

	memset(&change, 0, sizeof(change));
	change.type = RAFT_CHANGE_PROMOTE;
	change.member.id = id;
	change.member.role = role;
	return change;
}
