/*-------------------------------------------------------------------------
 *
 * sim_client.c
 *	  Clients of the simulated cluster.
 *
 * Each client has one operation at a time: a write with a value that no other
 * write has, or a linearizable read.  It asks the member it believes to lead.
 * A write whose fate is unknown (the member died, was deposed, took too long)
 * is repeated with the same session sequence number until one attempt is
 * acknowledged; the state machine applies it once.
 *
 * An acknowledgement is given the moment the asked member applies the
 * proposal at the index and term it was promised; nothing is checked here,
 * everything is told to sim_check.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define POLL_DELAY (3 * SIM_MS)
#define MAX_BATCH 6
#define MAX_STUBBORN 8			/* attempts */
#define NOISE_BYTES 20			/* shorter than a command: changes only the hash */

/* Asks any member who leads; it may know nothing, or be the last to know. */
static void
look_for_leader(SimWorld *world, SimClient *client)
{
	const SimNode *asked;
	struct raft_status status;

	client->believed_leader = (int) sim_below(world, (raft_u64) world->settings.n_slots);
	asked = &world->nodes[client->believed_leader];
	if (!sim_node_running(asked))
		return;
	raft_status(asked->raft, &status);
	if (status.leader != 0 && status.leader <= (raft_id) world->settings.n_slots)
		client->believed_leader = (int) status.leader - 1;
}

/*
 * One client reads and stays with whom it believes to lead as long as it gets
 * answers; the others write and look elsewhere soon.  So when a leader is
 * deposed without knowing it, it is read from while others write elsewhere.
 */
static int
is_stubborn(const SimWorld *world, const SimClient *client)
{
	return client == &world->clients[0];
}

static int
claims_to_lead(const SimNode *node)
{
	struct raft_status status;

	if (!sim_node_running(node))
		return 0;
	raft_status(node->raft, &status);
	return status.state == RAFT_LEADER;
}

/* Doubles with each failure, up to 8 T, or a slow cluster would drown in retries. */
static SimTime
patience(SimWorld *world, const SimClient *client)
{
	SimTime		base = sim_range(world, world->election_us / 16, world->election_us);

	if (!is_stubborn(world, client) || client->attempts > MAX_STUBBORN)
		base <<= client->attempts < 5 ? client->attempts : 5;
	return base < 8 * world->election_us ? base : 8 * world->election_us;
}

static void
give_up(SimWorld *world, SimClient *client)
{
	if (client->state == SIM_OP_WRITING)
		SIM_COUNT(world, outcomes_unknown);
	else if (client->state == SIM_OP_READING)
		SIM_COUNT(world, reads_failed);
	client->state = SIM_OP_IDLE;
	client->attempts++;
	if (!is_stubborn(world, client) || client->attempts > MAX_STUBBORN ||
		!claims_to_lead(&world->nodes[client->node]))
		look_for_leader(world, client);
}

static void
refused(SimWorld *world, SimClient *client, SimNode *node, int result)
{
	switch (result)
	{
		case RAFT_E_NOT_LEADER:
			look_for_leader(world, client);
			break;
		case RAFT_E_BUSY:
			SIM_COUNT(world, busy);
			break;
		case RAFT_E_TRANSFERRING:
			SIM_COUNT(world, held);
			break;
		case RAFT_E_NOT_READY:
			break;
		default:
			sim_violation(world, "client", "member %u answers %s", node->id,
						  raft_error_text(result));
			break;
	}
}

static void
new_command(SimWorld *world, SimClient *client, int number)
{
	client->command.client = (unsigned int) number;
	client->command.key = (unsigned int) sim_below(world, SIM_KEYS);
	client->command.sequence++;
	client->command.value = ++world->next_value;
	client->command_open = 1;
	client->write_start = world->now;
	client->floor = sim_check_floor(world);
	SIM_COUNT(world, writes);
}

/* Proposes the command, alone or followed by noise in one batch. */
static void
propose(SimWorld *world, SimClient *client, SimNode *node)
{
	struct raft_proposal batch[MAX_BATCH];
	unsigned char noise[NOISE_BYTES];
	unsigned char *payload;
	size_t		padding = sim_below(world, world->settings.padding + 1);
	size_t		n = 1;
	int			result;

	payload = sim_alloc(SIM_COMMAND_BYTES + padding);
	batch[0].length = sim_command_encode(&client->command, padding, payload);
	batch[0].data = payload;
	memset(noise, (int) client->command.value & 0xff, sizeof(noise));
	if (sim_chance(world, 300))
	{
		for (; n < MAX_BATCH && sim_chance(world, 700); n++)
		{
			batch[n].length = sim_below(world, NOISE_BYTES);
			batch[n].data = batch[n].length > 0 ? noise : NULL;
		}
	}
	result = raft_propose(node->raft, batch, n, &client->index, &client->term);
	free(payload);
	if (result != RAFT_OK)
	{
		refused(world, client, node, result);
		return;
	}
	sim_trace(world, "client %u proposes %lu to %u: %lu/%lu", client->command.client,
			  client->command.value, node->id, client->index, client->term);
	client->state = SIM_OP_WRITING;
}

/* A proposal above the limit must be refused, and nothing of it be kept. */
static void
propose_too_much(SimWorld *world, SimNode *node)
{
	struct raft_proposal proposal;
	raft_index	index;
	raft_term	term;
	int			result;

	proposal.length = world->settings.params.max_entry_bytes + 1;
	proposal.data = sim_alloc(proposal.length);
	result = raft_propose(node->raft, &proposal, 1, &index, &term);
	free((void *) proposal.data);
	if (result == RAFT_E_TOO_LARGE)
		SIM_COUNT(world, too_large);
	else if (result == RAFT_OK)
		sim_violation(world, "client", "member %u takes a proposal above the limit",
					  node->id);
}

static void
read_register(SimWorld *world, SimClient *client, SimNode *node)
{
	int			result;

	client->token = ++world->next_token;
	client->read_key = (unsigned int) sim_below(world, SIM_KEYS);
	client->floor = sim_check_floor(world);
	client->read_start = world->now;
	result = raft_read(node->raft, client->token);
	if (result != RAFT_OK)
	{
		refused(world, client, node, result);
		return;
	}
	SIM_COUNT(world, reads);
	if (sim_leader(world) != node)
		SIM_COUNT(world, reads_at_deposed);
	sim_trace(world, "client reads %lu at %u floor %lu", client->token, node->id,
			  client->floor);
	client->state = SIM_OP_READING;
}

/* The client thinks, asks, waits, or gives up waiting. */
void
sim_client_event(SimWorld *world, int number)
{
	SimClient  *client = &world->clients[number];
	SimNode    *node = &world->nodes[client->node];

	if (client->state != SIM_OP_IDLE)
	{
		if (world->now < client->deadline && node->life == client->life)
		{
			sim_push(world, POLL_DELAY, SIM_EV_CLIENT, number, 0, 0, NULL);
			return;
		}
		give_up(world, client);
	}
	sim_push(world, sim_range(world, SIM_MS / 4, world->settings.think),
			 SIM_EV_CLIENT, number, 0, 0, NULL);

	if (world->quiet)
		return;
	client->node = client->believed_leader;
	node = &world->nodes[client->node];
	if (!sim_node_running(node))
	{
		look_for_leader(world, client);
		return;
	}
	client->life = node->life;
	client->deadline = world->now + patience(world, client);
	sim_node_tick(world, node);
	if (sim_chance(world, 10))
		propose_too_much(world, node);
	if (client->command_open)
	{
		SIM_COUNT(world, retries);
		propose(world, client, node);
	}
	else if (sim_chance(world, is_stubborn(world, client) ? 30 : 750))
	{
		new_command(world, client, number);
		propose(world, client, node);
	}
	else
		read_register(world, client, node);
	sim_node_pump(world, node);
}

static int
waits_at(const SimClient *client, const SimNode *node, SimOpState state)
{
	return client->state == state && client->node == node->slot &&
		client->life == node->life;
}

/* A member applied an entry: it may be what one of the clients waits for. */
void
sim_client_applied(SimWorld *world, SimNode *node, const struct raft_entry *entry)
{
	int			i;

	for (i = 0; i < world->settings.n_clients; i++)
	{
		SimClient  *client = &world->clients[i];

		if (!waits_at(client, node, SIM_OP_WRITING) || client->index != entry->index)
			continue;
		client->state = SIM_OP_IDLE;
		if (client->term != entry->term)
		{
			SIM_COUNT(world, writes_lost);
			continue;
		}
		client->command_open = 0;
		client->completed++;
		client->attempts = 0;
		SIM_COUNT(world, writes_acknowledged);
		sim_trace(world, "ACK %lu to client %d by %u at %lu", client->command.value, i,
				  node->id, entry->index);
		sim_check_acknowledged(world, node, &client->command, client->floor);
		sim_history_wrote(world, client, node);
	}
}

/* A snapshot jumped over entries: proposals among them have unknown fates. */
void
sim_client_installed(SimWorld *world, SimNode *node)
{
	int			i;

	for (i = 0; i < world->settings.n_clients; i++)
	{
		SimClient  *client = &world->clients[i];

		if (waits_at(client, node, SIM_OP_WRITING) &&
			client->index <= node->machine.applied)
			give_up(world, client);
	}
}

void
sim_client_read_result(SimWorld *world, SimNode *node, raft_u64 token, int error)
{
	int			i;

	for (i = 0; i < world->settings.n_clients; i++)
	{
		SimClient  *client = &world->clients[i];

		if (!waits_at(client, node, SIM_OP_READING) || client->token != token)
			continue;
		client->state = SIM_OP_IDLE;
		if (error != RAFT_OK)
		{
			SIM_COUNT(world, reads_failed);
			look_for_leader(world, client);
			continue;
		}
		client->completed++;
		client->attempts = 0;
		SIM_COUNT(world, reads_answered);
		sim_trace(world, "ANSWER %lu by %u at %lu", token, node->id,
				  node->machine.applied);
		sim_check_read(world, node, client->read_key, client->floor);
		sim_history_read(world, client, node);
	}
}
