/*-------------------------------------------------------------------------
 *
 * sim_run.c
 *	  One run: a cluster from its first entry to agreement after the faults.
 *
 * Phase 1: `steps` events with faults.  Phase 2: everything is healed; within
 * LEADER_PATIENCE election timeouts there must be a leader, and each client
 * must complete an operation.  Phase 3: the clients stop; every member of the
 * configuration must reach the same state.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "sim.h"

#define LEADER_PATIENCE 10		/* election timeouts */
#define HARD_LIMIT 10			/* times the patience, whatever the progress */
#define AGREEMENT_PATIENCE 20	/* without progress; a snapshot in tiny chunks
								 * makes none until it is whole */

/* ----------------------------------------------------------------
 * The first moment
 * ----------------------------------------------------------------
 */
static void
first_member(struct raft_member *member, raft_id id)
{
	memset(member, 0, sizeof(*member));
	member->id = id;
	member->incarnation = 1;
	member->role = RAFT_VOTER;
	member->target_role = RAFT_VOTER;
	member->port = 7000 + id;
	snprintf(member->name, sizeof(member->name), "n%u", id);
	snprintf(member->address, sizeof(member->address), "host%u", id);
}

/*
 * Entry 1 is the configuration: one voter, as pgraft_init() makes it, or
 * several that begin with the same entry.
 */
static void
bootstrap(SimWorld *world)
{
	unsigned char *payload = sim_alloc(RAFT_CONFIG_MAX_BYTES);
	struct raft_config *config = sim_alloc(sizeof(*config));
	struct raft_hard_state hard_state = {1, 0, 0};
	struct raft_entry entry;
	int			i;

	config->index = 1;
	config->n_members = world->settings.initial_voters;
	for (i = 0; i < config->n_members; i++)
		first_member(&config->members[i], (raft_id) i + 1);
	if (raft_bootstrap_entry(&config->members[0], &entry, payload) != RAFT_OK)
		sim_violation(world, "bootstrap", "raft_bootstrap_entry failed");
	if (config->n_members > 1)
	{
		entry.length = raft_config_encode(config, payload, RAFT_CONFIG_MAX_BYTES);
		entry.data = payload;
	}
	for (i = 0; i < config->n_members; i++)
		sim_node_create(world, &world->nodes[i], 1, &hard_state, &entry, 1);
	free(config);
	free(payload);
}

static void
begin(SimWorld *world)
{
	int			i;

	sim_fault_settings(world);
	world->cluster_uid = sim_random(world) | 1;
	world->checker = sim_check_create(world);
	for (i = 0; i < SIM_MAX_NODES; i++)
		sim_node_init(world, i);
	sim_trace(world, "seed %lu: %d slots, %d voters, T %lu ms, fast %d, lease %d",
			  world->seed, world->settings.n_slots, world->settings.initial_voters,
			  world->settings.params.election_timeout_ms,
			  world->settings.params.fast_detection,
			  world->settings.params.lease_reads);
	bootstrap(world);
	for (i = 0; i < world->settings.n_slots; i++)
		sim_node_start(world, &world->nodes[i]);
	for (i = 0; i < world->settings.n_clients; i++)
		sim_push(world, sim_below(world, world->election_us), SIM_EV_CLIENT, i, 0, 0, NULL);
	sim_push(world, 3 * world->election_us, SIM_EV_FAULT, 0, 0, 0, NULL);
	if (world->settings.operator_interval > 0)
		sim_push(world, world->election_us, SIM_EV_OPERATOR, 0, 0, 0, NULL);
}

/* ----------------------------------------------------------------
 * The loop
 * ----------------------------------------------------------------
 */
static void
member_event(SimWorld *world, SimEvent *event)
{
	SimNode    *node = &world->nodes[event->node];

	if (event->life != node->life)
		return;					/* meant for a process that has ended */
	switch (event->type)
	{
		case SIM_EV_TIMER:
			sim_node_timer(world, node);
			break;
		case SIM_EV_FLUSH:
			sim_flush_execute(world, node);
			break;
		case SIM_EV_FLUSHED:
			sim_flush_complete(world, node);
			break;
		case SIM_EV_APPLY:
			sim_apply_event(world, node);
			break;
		case SIM_EV_SNAPSHOT:
			sim_snapshot_finish(world, node);
			break;
		case SIM_EV_HINT:
			sim_net_hint(world, event);
			break;
		case SIM_EV_RESTART:
			sim_node_start(world, node);
			break;
		default:
			sim_node_resume(world, node);
			break;
	}
}

/* Returns 0 when there is nothing left to happen. */
static int
turn(SimWorld *world)
{
	SimEvent	event;

	if (!sim_pop(world, &event))
		return 0;
	world->now = event.at;
	SIM_COUNT(world, events);
	switch (event.type)
	{
		case SIM_EV_DELIVER:
			sim_net_arrive(world, &event);
			break;
		case SIM_EV_CLIENT:
			sim_client_event(world, event.node);
			break;
		case SIM_EV_FAULT:
			sim_fault_event(world);
			break;
		case SIM_EV_HEAL:
			if (!world->healing && event.life == world->partition)
				sim_net_heal(world);
			break;
		case SIM_EV_OPERATOR:
			sim_operator_event(world);
			break;
		default:
			member_event(world, &event);
			break;
	}
	return 1;
}

static int
clients_proceeded(const SimWorld *world)
{
	int			i;

	for (i = 0; i < world->settings.n_clients; i++)
	{
		if (world->clients[i].completed == world->clients[i].completed_at_heal)
			return 0;
	}
	return 1;
}

/* Grows as long as somebody catches up. */
static raft_u64
progress(const SimWorld *world)
{
	raft_u64	sum = sim_check_committed(world);
	int			i;

	for (i = 0; i < world->settings.n_slots; i++)
	{
		struct raft_status status;

		if (!sim_node_running(&world->nodes[i]))
			continue;
		raft_status(world->nodes[i].raft, &status);
		sum += status.applied_index + status.durable_index;
	}
	return sum;
}

/*
 * Turns the world until done(), which returns what is still missing.  Tiny
 * windows make catching up slow, so patience starts anew with each step of
 * progress.
 */
static void
turn_until(SimWorld *world, const char *(*done) (SimWorld *world), int patience,
		   const char *invariant)
{
	SimTime		deadline = world->now + (SimTime) patience * world->election_us;
	SimTime		last_deadline = world->now +
		(SimTime) patience * HARD_LIMIT * world->election_us;
	raft_u64	best = progress(world);
	const char *missing = done(world);

	while (!world->failed && missing != NULL)
	{
		raft_u64	reached;

		if (world->now > deadline || world->now > last_deadline)
		{
			sim_violation(world, invariant, "%d T %s, %s", patience,
						  world->now > deadline ? "without progress" :
						  "many times over", missing);
			break;
		}
		if (!turn(world))
			break;
		reached = progress(world);
		if (reached > best)
		{
			best = reached;
			deadline = world->now + (SimTime) patience * world->election_us;
		}
		missing = done(world);
	}
}

static const char *
service_missing(SimWorld *world)
{
	return clients_proceeded(world) ? NULL : "a client does not proceed";
}

static void
recover_service(SimWorld *world)
{
	SimTime		deadline;
	int			i;

	sim_fault_stop_all(world);
	for (i = 0; i < world->settings.n_clients; i++)
		world->clients[i].completed_at_heal = world->clients[i].completed;
	deadline = world->now + LEADER_PATIENCE * world->election_us;
	while (!world->failed && sim_leader(world) == NULL)
	{
		if (world->now > deadline)
			sim_violation(world, "liveness", "no leader %d T after the faults stopped",
						  LEADER_PATIENCE);
		if (!turn(world))
			break;
	}
	turn_until(world, service_missing, LEADER_PATIENCE, "liveness");
	world->quiet = 1;
	turn_until(world, sim_check_converged, AGREEMENT_PATIENCE, "convergence");
}

static void
end(SimWorld *world)
{
	SimEvent	event;
	int			i;

	for (i = 0; i < SIM_MAX_NODES; i++)
	{
		world->nodes[i].wanted = 0;
		sim_node_stop(world, &world->nodes[i], 0);
		sim_disk_destroy(world->nodes[i].disk);
	}
	while (sim_pop(world, &event))
		free(event.message);
	free(world->heap);
	free(world->frame);
	pgraft_wire_free_scratch(&world->wire);
	sim_check_destroy(world->checker);
	history_free(world->history);
}

/*
 * Returns 1 when nothing was violated.  Adds the run's statistics to totals
 * and gives the hash of its trace.
 */
int
sim_run(raft_u64 seed, const SimOptions *options, raft_u64 *totals,
		raft_u64 *trace_hash)
{
	SimWorld   *world = sim_alloc(sizeof(SimWorld));
	int			passed;
	int			i;

	world->options = options;
	world->seed = seed;
	world->random_state = seed;
	world->trace_hash = 14695981039346656037UL;
	world->history = history_new();
	if (setjmp(world->abandon) == 0)
	{
		begin(world);
		while (!world->failed && world->statistics[SIM_STAT_events] < options->steps &&
			   turn(world))
			;
		if (!world->failed)
			recover_service(world);
		if (!world->failed)
			sim_history_judge(world);
		end(world);
	}
	for (i = 0; i < SIM_N_STATISTICS; i++)
		totals[i] += world->statistics[i];
	*trace_hash = world->trace_hash;
	passed = !world->failed;
	if (!passed && !options->silent)
	{
		sim_dump_trace(world);
		printf("seed %lu violates %s\n", seed, world->violation);
		printf("repeat with: pgraft_sim --seed %lu --steps %lu --trace\n", seed,
			   options->steps);
	}
	free(world);
	return passed;
}
