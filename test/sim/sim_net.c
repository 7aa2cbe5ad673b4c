/*-------------------------------------------------------------------------
 *
 * sim_net.c
 *	  The simulated network: one link for each ordered pair of members.
 *
 * A message is copied out of the engine when it is sent and lives in the
 * event queue.  Links lose, duplicate, delay and reorder; a seed may ask for
 * links that keep the order, as one TCP connection does.  A blocked link
 * drops everything, also what is under way.  Partitions of every shape are
 * nothing but a choice of blocked links.
 *
 * Connection state: when a member's process stops, the others are told that
 * its port refuses connections (raft_peer_lost), provided that both
 * directions of the link are open, and raft_peer_found when it answers again.
 * What is told is the state at the moment of telling, a little late, as in
 * life.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define MAX_IN_FLIGHT 20000

static size_t
aligned(size_t size)
{
	return (size + 15) / 16 * 16;
}

/*
 * A copy in one block: struct, entries, snapshot, payloads.  Freed with
 * free().
 */
SimMessage *
sim_message_copy(const struct raft_message *m)
{
	size_t		entries_at = aligned(sizeof(SimMessage));
	size_t		snapshot_at = entries_at + aligned(m->n_entries * sizeof(struct raft_entry));
	size_t		data_at = snapshot_at;
	size_t		size;
	size_t		i;
	char	   *block;
	SimMessage *copy;
	struct raft_entry *entries;

	if (m->snapshot != NULL)
		data_at += aligned(sizeof(struct raft_snapshot_meta));
	size = data_at + m->chunk_length;
	for (i = 0; i < m->n_entries; i++)
		size += m->entries[i].length;

	block = sim_alloc(size);
	copy = (SimMessage *) block;
	copy->m = *m;
	entries = (struct raft_entry *) (block + entries_at);
	copy->m.entries = m->n_entries > 0 ? entries : NULL;
	for (i = 0; i < m->n_entries; i++)
	{
		entries[i] = m->entries[i];
		entries[i].data = NULL;
		if (entries[i].length == 0)
			continue;
		memcpy(block + data_at, m->entries[i].data, entries[i].length);
		entries[i].data = (unsigned char *) block + data_at;
		data_at += entries[i].length;
	}
	if (m->snapshot != NULL)
	{
		memcpy(block + snapshot_at, m->snapshot, sizeof(*m->snapshot));
		copy->m.snapshot = (struct raft_snapshot_meta *) (block + snapshot_at);
	}
	if (m->chunk_length > 0)
	{
		memcpy(block + data_at, m->chunk, m->chunk_length);
		copy->m.chunk = (unsigned char *) block + data_at;
	}
	return copy;
}

static void
trace_message(SimWorld *world, const char *what, const struct raft_message *m)
{
	sim_trace(world, "%s %u.%lu>%u.%lu %s t%lu i%lu/%lu c%lu x%lu h%lu/%lu%s%s n%lu o%lu+%lu/%lu",
			  what, m->from, m->from_incarnation, m->to, m->to_incarnation,
			  raft_message_name(m->type), m->term, m->index, m->log_term,
			  m->commit, m->context, m->hint_index, m->hint_term,
			  m->reject ? " REJECT" : "",
			  (m->flags & RAFT_FLAG_LAST_CHUNK) != 0 ? " last" :
			  (m->flags & RAFT_FLAG_TRANSFER) != 0 ? " transfer" :
			  (m->flags & RAFT_FLAG_LEADER_GONE) != 0 ? " gone" : "",
			  (raft_u64) m->n_entries, m->offset, (raft_u64) m->chunk_length,
			  m->total);
}

static SimTime
draw_delay(SimWorld *world, SimLink *link)
{
	const SimSettings *settings = &world->settings;
	SimTime		delay = sim_range(world, settings->delay_min, settings->delay_max);

	if (!world->healing && sim_chance(world, settings->straggler))
		delay += sim_below(world, 4 * world->election_us);
	if (settings->fifo_links)
	{
		if (world->now + delay <= link->last_arrival)
			delay = link->last_arrival + 1 - world->now;
		link->last_arrival = world->now + delay;
	}
	return delay;
}

/*
 * A receiver may join only on the word of a leader that has it as a learner,
 * which never voted, and knows the entry that added it to be committed.
 */
static int
invites(const SimNode *from, const struct raft_message *m)
{
	struct raft_status status;
	const struct raft_member *member;

	raft_status(from->raft, &status);
	member = raft_config_find(raft_get_config(from->raft), m->to);
	return status.state == RAFT_LEADER && member != NULL && member->role == RAFT_LEARNER &&
		member->old_role == RAFT_ROLE_NONE &&
		member->incarnation == m->to_incarnation && member->incarnation <= status.commit_index;
}

/* Takes over the message. */
void
sim_net_send(SimWorld *world, SimNode *from, SimMessage *message)
{
	const struct raft_message *m = &message->m;
	SimLink    *link;
	int			copies = 1;

	SIM_COUNT(world, messages);
	sim_check_send(world, from, m);
	if (m->to == 0 || m->to > (raft_id) world->settings.n_slots || m->to == from->id)
	{
		sim_violation(world, "message to a member", "%u sends %s to %u",
					  from->id, raft_message_name(m->type), m->to);
		free(message);
		return;
	}
	link = &world->links[from->slot][m->to - 1];
	if (link->blocked || (!world->healing && sim_chance(world, world->settings.loss)))
	{
		if (link->blocked)
			SIM_COUNT(world, blocked);
		else
			SIM_COUNT(world, lost);
		trace_message(world, "drop", m);
		free(message);
		return;
	}
	if (world->n_heap > MAX_IN_FLIGHT)
		sim_violation(world, "liveness", "a storm of %lu messages in flight, mostly %s",
					  (raft_u64) world->n_heap, raft_message_name(m->type));
	message->number = link->next_number++;
	message->invite = invites(from, m);
	trace_message(world, "send", m);
	if (!world->healing && sim_chance(world, world->settings.duplicate))
	{
		SIM_COUNT(world, duplicated);
		copies = 2;
	}
	for (; copies > 0; copies--)
	{
		SimMessage *copy = message;

		if (copies > 1)
		{
			copy = sim_message_copy(m);
			copy->number = message->number;
			copy->invite = message->invite;
		}
		sim_push(world, draw_delay(world, link), SIM_EV_DELIVER,
				 (int) m->to - 1, from->slot, 0, copy);
	}
}

/*
 * What the receiver reads off the wire: the message through the real codec.
 * Valid until the next call.
 */
const struct raft_message *
sim_net_wire(SimWorld *world, const struct raft_message *m, struct raft_message *decoded)
{
	PgraftFrameHeader header;
	PgraftError error;
	size_t		length = pgraft_wire_message_bytes(m);
	unsigned char *payload;

	if (world->frame_capacity < PGRAFT_FRAME_HEADER_BYTES + length)
	{
		free(world->frame);
		world->frame_capacity = 2 * (PGRAFT_FRAME_HEADER_BYTES + length);
		world->frame = sim_alloc(world->frame_capacity);
	}
	payload = world->frame + PGRAFT_FRAME_HEADER_BYTES;
	memset(&header, 0, sizeof(header));
	header.length = length;
	header.type = PGRAFT_FRAME_RAFT;
	header.cluster_uid = world->cluster_uid;
	header.from = m->from;
	header.to = m->to;
	header.from_incarnation = m->from_incarnation;
	header.to_incarnation = m->to_incarnation;
	pgraft_wire_encode_message(payload, m);
	pgraft_wire_put_header(world->frame, &header, payload);
	error.message[0] = '\0';
	if (pgraft_wire_get_header(world->frame, PGRAFT_FRAME_MAX_BYTES, &header,
							   &error) != PGRAFT_OK ||
		pgraft_wire_check_payload(world->frame, payload, &error) != PGRAFT_OK ||
		pgraft_wire_decode_message(&header, payload, &world->wire, decoded,
								   &error) != PGRAFT_OK)
	{
		sim_violation(world, "wire", "a %s from %u to %u is not readable: %s",
					  raft_message_name(m->type), m->from, m->to, error.message);
		return m;
	}
	return decoded;
}

/* A message reaches the host of its receiver, if it still can. */
void
sim_net_arrive(SimWorld *world, SimEvent *event)
{
	SimLink    *link = &world->links[event->other][event->node];
	SimNode    *node = &world->nodes[event->node];

	if (link->blocked || !node->up)
	{
		SIM_COUNT(world, blocked);
		free(event->message);
		return;
	}
	if (event->message->number < link->last_delivered)
		SIM_COUNT(world, reordered);
	else
		link->last_delivered = event->message->number;
	trace_message(world, "recv", &event->message->m);
	sim_node_deliver(world, node, event->message);
}

/* ----------------------------------------------------------------
 * Partitions
 * ----------------------------------------------------------------
 */
static void
block_between(SimWorld *world, unsigned int group_a, unsigned int group_b)
{
	int			i;
	int			j;

	for (i = 0; i < world->settings.n_slots; i++)
	{
		for (j = 0; j < world->settings.n_slots; j++)
		{
			if (i != j && (group_a >> i & 1) != 0 && (group_b >> j & 1) != 0)
				world->links[i][j].blocked = 1;
		}
	}
}

static void
block_at_random(SimWorld *world, unsigned int per_thousand)
{
	int			i;
	int			j;

	for (i = 0; i < world->settings.n_slots; i++)
	{
		for (j = 0; j < world->settings.n_slots; j++)
		{
			if (i != j && sim_chance(world, per_thousand))
				world->links[i][j].blocked = 1;
		}
	}
}

static void
clear_blocks(SimWorld *world)
{
	int			i;
	int			j;

	for (i = 0; i < SIM_MAX_NODES; i++)
	{
		for (j = 0; j < SIM_MAX_NODES; j++)
			world->links[i][j].blocked = 0;
	}
}

/* Draws one shape out of all shapes and blocks its links. */
void
sim_net_partition(SimWorld *world)
{
	unsigned int all = (1U << world->settings.n_slots) - 1;
	unsigned int one = 1U << sim_below(world, (raft_u64) world->settings.n_slots);
	unsigned int half = (unsigned int) sim_range(world, 1, all - 1);
	SimNode    *leader = sim_leader(world);
	const char *shape;

	if (leader != NULL && sim_chance(world, 600))
		one = 1U << leader->slot;
	clear_blocks(world);
	SIM_COUNT(world, partitions);
	switch (sim_below(world, 9))
	{
		case 0:
		case 7:
		case 8:
			shape = "one member alone";
			SIM_COUNT(world, isolated);
			if (leader != NULL && one == 1U << leader->slot)
				SIM_COUNT(world, isolated_leaders);
			block_between(world, one, all & ~one);
			block_between(world, all & ~one, one);
			break;
		case 1:
			shape = "two sides";
			SIM_COUNT(world, two_sides);
			block_between(world, half, all & ~half);
			block_between(world, all & ~half, half);
			break;
		case 2:
			shape = "one member hears nothing";
			SIM_COUNT(world, asymmetric);
			block_between(world, all & ~one, one);
			break;
		case 3:
			shape = "nobody hears one member";
			SIM_COUNT(world, asymmetric);
			block_between(world, one, all & ~one);
			break;
		case 4:
			shape = "two sides and a bridge";
			SIM_COUNT(world, bridges);
			half &= ~one;
			block_between(world, half, all & ~half & ~one);
			block_between(world, all & ~half & ~one, half);
			break;
		case 5:
			shape = "one way between two sides";
			SIM_COUNT(world, asymmetric);
			block_between(world, half, all & ~half);
			break;
		default:
			shape = "random links";
			block_at_random(world, (unsigned int) sim_range(world, 100, 600));
			break;
	}
	sim_trace(world, "PARTITION %s (one=%x half=%x)", shape, one, half);
}

void
sim_net_heal(SimWorld *world)
{
	int			i;

	sim_trace(world, "HEAL network");
	clear_blocks(world);
	for (i = 0; i < world->settings.n_slots; i++)
		sim_net_hints(world, i);
}

/* ----------------------------------------------------------------
 * Connection state
 * ----------------------------------------------------------------
 */

/* The process at slot came or went: the others will notice, each in its time. */
void
sim_net_hints(SimWorld *world, int slot)
{
	int			i;

	for (i = 0; i < world->settings.n_slots; i++)
	{
		if (i == slot)
			continue;
		sim_push(world, sim_range(world, 200, 20 * SIM_MS), SIM_EV_HINT, i, slot,
				 world->nodes[i].life, NULL);
		sim_push(world, sim_range(world, 200, 20 * SIM_MS), SIM_EV_HINT, slot, i,
				 world->nodes[slot].life, NULL);
	}
}

void
sim_net_hint(SimWorld *world, const SimEvent *event)
{
	SimNode    *node = &world->nodes[event->node];
	SimNode    *peer = &world->nodes[event->other];

	if (!sim_node_running(node) ||
		world->links[event->node][event->other].blocked ||
		world->links[event->other][event->node].blocked)
		return;
	sim_node_tick(world, node);
	if (peer->up)
	{
		SIM_COUNT(world, peer_found);
		raft_peer_found(node->raft, peer->id);
	}
	else
	{
		SIM_COUNT(world, peer_lost);
		sim_trace(world, "hint %u: connection to %u refused", node->id, peer->id);
		raft_peer_lost(node->raft, peer->id);
	}
	sim_node_pump(world, node);
}
