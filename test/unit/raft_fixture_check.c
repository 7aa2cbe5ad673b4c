/*-------------------------------------------------------------------------
 *
 * raft_fixture_check.c
 *	  The rules that hold after each event of a cluster in memory.
 *
 * Looks at the cluster from outside: at what is on the disks, what was applied
 * and what is said, never at what the engine thinks of the others.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft_fixture_internal.h"

static void check_new_leader(Cluster *cluster, Node *node, raft_term term);
static void check_commit(Cluster *cluster, Node *node, const struct raft_status *status);

void
cluster_fail(Cluster *cluster, const char *format,...)
{
	va_list		args;

	if (cluster->failures++ > 0)
		return;
	va_start(args, format);
	vsnprintf(cluster->failure, sizeof(cluster->failure), format, args);
	va_end(args);
	printf("# at %lu ms: %s\n", cluster->now, cluster->failure);
}

static raft_u64
mix(raft_u64 hash, const void *data, size_t length)
{
	const unsigned char *bytes = data;
	size_t		i;

	for (i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 1099511628211UL;
	return hash;
}

/* ----------------------------------------------------------------
 * State machine
 * ----------------------------------------------------------------
 */

static void
note_applied(Cluster *cluster, Node *node, raft_index index, raft_term term, raft_u64 hash,
			 raft_u64 state)
{
	Applied    *slot;

	if (index >= cluster->applied_size)
	{
		cluster->applied = realloc(cluster->applied, (index + 1) * 2 * sizeof(Applied));
		memset(cluster->applied + cluster->applied_size, 0,
			   ((index + 1) * 2 - cluster->applied_size) * sizeof(Applied));
		cluster->applied_size = (index + 1) * 2;
	}
	slot = &cluster->applied[index];
	if (slot->term == 0)
	{
		slot->term = term;
		slot->hash = hash;
		slot->state = state;
	}
	else if (slot->term != term || slot->hash != hash || slot->state != state)
		cluster_fail(cluster, "state machine safety: member %u at %lu", node->id, index);
	if (index > cluster->max_applied)
		cluster->max_applied = index;
}

void
apply_entry(Cluster *cluster, Node *node, const struct raft_entry *entry)
{
	raft_u64	hash = mix(14695981039346656037UL, entry->data, entry->length);

	hash = mix(hash, &entry->type, sizeof(entry->type));
	if (entry->index != node->applied + 1)
		cluster_fail(cluster, "member %u applies %lu after %lu", node->id, entry->index,
					 node->applied);
	node->state = mix(node->state, &hash, sizeof(hash));
	node->applied = entry->index;
	note_applied(cluster, node, entry->index, entry->term, hash, node->state);
}

/* Bytes that follow from state and position, so that wrong ones are noticed. */
unsigned char *
make_snapshot(Cluster *cluster, raft_u64 state, raft_index index)
{
	unsigned char *data = malloc(cluster->snapshot_bytes + sizeof(state));
	size_t		i;

	memcpy(data, &state, sizeof(state));
	for (i = sizeof(state); i < cluster->snapshot_bytes; i++)
		data[i] = (unsigned char) (i * 31 + index * 7 + (i >> 8));
	return data;
}

void
check_snapshot_bytes(Cluster *cluster, Node *node, const struct raft_snapshot_meta *meta)
{
	unsigned char *wanted = make_snapshot(cluster, node->state, meta->index);

	if (node->incoming.length != cluster->snapshot_bytes ||
		memcmp(wanted, node->incoming.data, node->incoming.length) != 0)
		cluster_fail(cluster, "member %u installs a damaged snapshot", node->id);
	if (meta->index <= cluster->max_applied &&
		cluster->applied[meta->index].state != node->state)
		cluster_fail(cluster, "member %u installs another state", node->id);
	free(wanted);
}

/* ----------------------------------------------------------------
 * One member
 * ----------------------------------------------------------------
 */

void
check_node(Cluster *cluster, Node *node)
{
	struct raft_status before = node->seen;
	struct raft_status *status = cluster_status(cluster, node->id);
	const char *broken = raft_check_invariants(node->raft);

	if (broken != NULL)
		cluster_fail(cluster, "member %u: %s", node->id, broken);
	if (status->term < before.term || status->commit_index < before.commit_index)
		cluster_fail(cluster, "member %u: term or commit index fell", node->id);
	if (status->term == before.term && before.vote != 0 && status->vote != before.vote)
		cluster_fail(cluster, "member %u changed its vote", node->id);
	if (status->state == RAFT_LEADER &&
		(before.state != RAFT_LEADER || before.term != status->term))
		check_new_leader(cluster, node, status->term);
	else if (status->state == RAFT_LEADER && status->commit_index > before.commit_index)
		check_commit(cluster, node, status);
	if (status->commit_index > cluster->max_commit)
		cluster->max_commit = status->commit_index;
}

static void
check_new_leader(Cluster *cluster, Node *node, raft_term term)
{
	raft_index	index;

	node->became_leader = cluster->now;
	if (term < FIXTURE_TERMS)
	{
		if (cluster->leaders[term] != 0 && cluster->leaders[term] != node->id)
			cluster_fail(cluster, "election safety: two leaders in term %lu", term);
		cluster->leaders[term] = node->id;
	}
	for (index = 1; index <= cluster->max_applied; index++)
	{
		raft_term	own = 0;
		int			error = raft_term_at(node->raft, index, &own);

		if (cluster->applied[index].term == 0 || error == RAFT_E_COMPACTED)
			continue;
		if (error != RAFT_OK || own != cluster->applied[index].term)
		{
			cluster_fail(cluster, "leader completeness: %u lacks %lu", node->id, index);
			return;
		}
	}
}

static void
check_commit(Cluster *cluster, Node *node, const struct raft_status *status)
{
	const struct raft_config *config = raft_get_config(node->raft);
	raft_index	acked[RAFT_MAX_MEMBERS];
	raft_index	index = status->commit_index;
	raft_term	term = 0;
	int			i;

	(void) raft_term_at(node->raft, index, &term);
	if (term != status->term)
		cluster_fail(cluster, "leader %u commits %lu of term %lu by counting in term %lu",
					 node->id, index, term, status->term);

	/* a configuration appended meanwhile was not in force when it was counted */
	if (config->index > index)
		return;
	for (i = 0; i < config->n_members; i++)
	{
		const Disk *disk;

		acked[i] = 0;
		if (config->members[i].id >= FIXTURE_NODES)
			continue;
		disk = &cluster->nodes[config->members[i].id].disk;
		if (disk->meta.index >= index ||
			(disk->start < index && disk->last >= index && disk->entries[index].term == term))
			acked[i] = index;
	}
	if (raft_quorum_index(config, acked) < index)
		cluster_fail(cluster, "leader %u commits %lu, no quorum has it on disk", node->id,
					 index);
}

/* ----------------------------------------------------------------
 * What a message promises
 * ----------------------------------------------------------------
 */

void
check_promise(Cluster *cluster, const struct raft_message *message)
{
	Node	   *node = &cluster->nodes[message->from];
	const Disk *disk = &node->disk;
	const char *name = raft_message_name(message->type);

	switch (message->type)
	{
		case RAFT_MSG_VOTE:
			if (disk->hard_state.term < message->term ||
				(disk->hard_state.term == message->term && disk->hard_state.vote != node->id))
				cluster_fail(cluster, "%s of %u before its own vote is durable", name, node->id);
			break;
		case RAFT_MSG_VOTE_REPLY:
			if (message->reject || message->term >= FIXTURE_TERMS)
				break;
			if (disk->hard_state.term < message->term ||
				(disk->hard_state.term == message->term &&
				 disk->hard_state.vote != message->to))
				cluster_fail(cluster, "%s of %u before it is durable", name, node->id);
			if (node->votes[message->term] != 0 && node->votes[message->term] != message->to)
				cluster_fail(cluster, "member %u votes twice in term %lu", node->id,
							 message->term);
			node->votes[message->term] = message->to;
			break;
		case RAFT_MSG_APPEND_REPLY:
			if (!message->reject && disk->hard_state.term == message->term &&
				disk->last < message->index && disk->meta.index < message->index)
				cluster_fail(cluster, "%s of %u before %lu is durable", name, node->id,
							 message->index);
			break;
		case RAFT_MSG_SNAPSHOT_REPLY:
			if (!message->reject &&
				(message->index <= disk->meta.index || message->index <= disk->last))
				break;
			if (!message->reject && message->offset > disk->incoming.length)
				cluster_fail(cluster, "%s of %u before the chunk is written", name, node->id);
			break;
		default:
			break;
	}

	/* whoever speaks in a term must remember it */
	if (message->type != RAFT_MSG_PREVOTE && message->type != RAFT_MSG_PREVOTE_REPLY &&
		disk->hard_state.term < message->term)
		cluster_fail(cluster, "%s of %u in term %lu before the term is durable", name, node->id,
					 message->term);
}
