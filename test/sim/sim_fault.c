/*-------------------------------------------------------------------------
 *
 * sim_fault.c
 *	  What goes wrong, the operator who changes members, and the settings.
 *
 * All three are drawn from the seed: which faults a run has and how often,
 * and settings at their extremes (tiny caches, chunks, segments, windows), so
 * that rare paths are common in some seeds.
 *
 * The operator keeps the one rule that operators must keep: a directory is
 * wiped only after the removal of its member is committed and nobody's
 * configuration has the member.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <string.h>

#include "sim.h"

typedef enum FaultKind
{
	FAULT_KILL,
	FAULT_POWER_LOSS,
	FAULT_CRASH_IN_IO,
	FAULT_PAUSE,
	FAULT_PARTITION,
	FAULT_SLOW_DISK,
	FAULT_FULL_DISK,
	FAULT_FSYNC,
	FAULT_DRIFT,
	FAULT_BLACKOUT,
	N_FAULTS
} FaultKind;

/* What --shrink tries to do without: the faults, and then these. */
typedef enum OtherSwitch
{
	SWITCH_LOSS = N_FAULTS,
	SWITCH_DUPLICATES,
	SWITCH_STRAGGLERS,
	SWITCH_CLOCKS,
	SWITCH_MEMBERSHIP,
	SWITCH_SNAPSHOTS,
	SWITCH_PADDING,
	N_SWITCHES
} OtherSwitch;

static const char *const switch_names[N_SWITCHES] = {
	"kill", "power loss", "crash in I/O", "pause", "partition", "slow disk", "full disk",
	"failing fsync", "clock drift", "blackout", "message loss", "duplicated messages",
	"late messages", "clocks that differ", "membership changes", "snapshots",
	"long commands"
};

/* ----------------------------------------------------------------
 * Settings
 * ----------------------------------------------------------------
 */
static raft_u64
pick(SimWorld *world, raft_u64 a, raft_u64 b, raft_u64 c, raft_u64 d)
{
	switch (sim_below(world, 4))
	{
		case 0:
			return a;
		case 1:
			return b;
		case 2:
			return c;
		default:
			return d;
	}
}

static void
engine_settings(SimWorld *world)
{
	SimSettings *settings = &world->settings;
	struct raft_params *params = &settings->params;

	raft_params_default(params);
	params->election_timeout_ms = pick(world, 60, 150, 300, 1000);
	params->heartbeat_interval_ms = params->election_timeout_ms / sim_range(world, 3, 10);
	params->fast_detection = sim_chance(world, 600);
	params->lease_reads = !params->fast_detection && sim_chance(world, 700);
	params->drift_bound_ppm = (unsigned int) pick(world, 500, 1000, 10000, 50000);
	params->max_entry_bytes = pick(world, 256, 600, 2000, 8000);
	params->max_message_bytes = pick(world, 64, 500, 4000, 65536);
	params->max_message_entries = pick(world, 1, 3, 16, 256);
	params->max_inflight_messages = pick(world, 1, 2, 8, 64);
	params->max_inflight_bytes = pick(world, 100, 2000, 20000, 1000000);
	params->max_uncommitted_bytes = pick(world, 2 * params->max_entry_bytes, 10000,
										 100000, 1000000);
	params->cache_bytes = pick(world, 2 * params->max_entry_bytes,
							   4 * params->max_entry_bytes, 100000, 1000000);
	params->max_apply_bytes = pick(world, 1, 300, 5000, 1000000);
	params->snapshot_chunk_bytes = pick(world, 50, 400, 3000, 65536);
	params->snapshot_bytes_per_second = pick(world, 0, 0, 0, 2000000);
	settings->padding = params->max_entry_bytes - SIM_COMMAND_BYTES;
	if (settings->padding > 400 && sim_chance(world, 700))
		settings->padding = 100;
}

static void
world_settings(SimWorld *world)
{
	SimSettings *settings = &world->settings;
	SimTime		election = world->election_us;

	settings->n_slots = (int) sim_range(world, 3, SIM_MAX_NODES);
	settings->initial_voters = sim_chance(world, 400) ? 1 :
		(int) sim_range(world, 3, (raft_u64) settings->n_slots);
	settings->n_clients = (int) sim_range(world, 2, SIM_MAX_CLIENTS);
	settings->max_drift_ppm = settings->params.lease_reads ?
		(long) settings->params.drift_bound_ppm / 2 : (long) pick(world, 0, 1000, 20000, 100000);
	settings->delay_min = 50;
	settings->delay_max = pick(world, 200, 2 * SIM_MS, election / 20, election / 8);
	settings->loss = (unsigned int) pick(world, 0, 10, 50, 200);
	settings->duplicate = (unsigned int) pick(world, 0, 10, 50, 200);
	settings->straggler = (unsigned int) pick(world, 0, 5, 30, 100);
	settings->fifo_links = sim_chance(world, 300);
	settings->flush_max = pick(world, 100, SIM_MS, 5 * SIM_MS, election / 10);
	settings->slow_apply = (unsigned int) pick(world, 0, 0, 20, 200);
	settings->snapshot_every = pick(world, 5, 20, 60, 100000);
	settings->retain = pick(world, 0, 1, 10, 100);
	settings->ballast = pick(world, 0, 300, 2000, 20000);
	if (settings->ballast > 40 * settings->params.snapshot_chunk_bytes)
		settings->ballast = 40 * settings->params.snapshot_chunk_bytes;
	settings->fault_interval = pick(world, election / 2, 2 * election, 4 * election,
									8 * election);
	settings->operator_interval = pick(world, 0, election, 3 * election, 8 * election);
	if (settings->initial_voters == 1 && settings->operator_interval == 0)
		settings->operator_interval = election;
	settings->think = pick(world, SIM_MS, 5 * SIM_MS, 20 * SIM_MS, election / 4);
}

int
sim_fault_switches(void)
{
	return N_SWITCHES;
}

const char *
sim_fault_switch_name(int number)
{
	return switch_names[number];
}

static int
is_off(const SimWorld *world, int number)
{
	return (world->options->disabled >> number & 1) != 0;
}

/* After everything was drawn, so that what is left is as it was. */
static void
switch_off(SimWorld *world)
{
	SimSettings *settings = &world->settings;
	int			i;

	for (i = 0; i < N_FAULTS; i++)
		if (is_off(world, i))
			settings->fault_weights[i] = 0;
	if (is_off(world, SWITCH_LOSS))
		settings->loss = 0;
	if (is_off(world, SWITCH_DUPLICATES))
		settings->duplicate = 0;
	if (is_off(world, SWITCH_STRAGGLERS))
		settings->straggler = 0;
	if (is_off(world, SWITCH_CLOCKS))
		settings->max_drift_ppm = 0;
	if (is_off(world, SWITCH_MEMBERSHIP))
		settings->operator_interval = settings->initial_voters == 1 ? world->election_us : 0;
	if (is_off(world, SWITCH_SNAPSHOTS))
		settings->snapshot_every = 1000000;
	if (is_off(world, SWITCH_PADDING))
		settings->padding = 0;
}

void
sim_fault_settings(SimWorld *world)
{
	SimSettings *settings = &world->settings;
	int			i;

	engine_settings(world);
	world->election_us = settings->params.election_timeout_ms * SIM_MS;
	world_settings(world);
	pgraft_storage_default_options(&settings->storage);
	settings->storage.segment_bytes = pick(world, 16384, 32768, 65536, 262144);
	if (settings->snapshot_every > 1000 && settings->storage.segment_bytes < 65536)
		settings->storage.segment_bytes = 65536;	/* else hundreds of files */
	settings->storage.recycle_segments = (int) sim_below(world, 3);
	for (i = 0; i < N_FAULTS; i++)
		settings->fault_weights[i] = sim_chance(world, 600) ?
			(unsigned int) sim_range(world, 1, 10) : 0;
	settings->fault_weights[FAULT_BLACKOUT] /= 3;
	switch_off(world);
	if (settings->params.lease_reads)
		SIM_COUNT(world, lease_seeds);
}

/* ----------------------------------------------------------------
 * Faults
 * ----------------------------------------------------------------
 */
static FaultKind
draw_fault(SimWorld *world)
{
	unsigned int total = 0;
	raft_u64	drawn;
	int			i;

	for (i = 0; i < N_FAULTS; i++)
		total += world->settings.fault_weights[i];
	drawn = sim_below(world, total);
	for (i = 0; i < N_FAULTS - 1; i++)
	{
		if (drawn < world->settings.fault_weights[i])
			break;
		drawn -= world->settings.fault_weights[i];
	}
	return (FaultKind) i;
}

/* A majority down for most of the time would test nothing but waiting. */
static int
enough_down(SimWorld *world)
{
	int			down = 0;
	int			i;

	for (i = 0; i < world->settings.n_slots; i++)
		down += !world->nodes[i].up || world->nodes[i].paused;
	return (down + 1) * 2 > world->settings.n_slots && !sim_chance(world, 150);
}

static void
set_drift(SimWorld *world, SimNode *node)
{
	raft_u64	range = 2 * (raft_u64) world->settings.max_drift_ppm;
	long		drift = (long) sim_below(world, range + 1) - world->settings.max_drift_ppm;
	long		now = (long) world->now / 1000;

	/* the clock goes on from where it is, at another pace */
	node->clock_offset = (SimTime) ((long) node->clock_offset +
									now * node->drift_ppm / 1000 - now * drift / 1000);
	node->drift_ppm = drift;
	SIM_COUNT(world, drifts);
}

static void
blackout(SimWorld *world)
{
	int			i;

	SIM_COUNT(world, blackouts);
	sim_trace(world, "BLACKOUT");
	for (i = 0; i < world->settings.n_slots; i++)
		sim_node_stop(world, &world->nodes[i], sim_chance(world, 800));
}

static void
fault_on_member(SimWorld *world, SimNode *node, FaultKind kind)
{
	SimTime		span = sim_below(world, 3 * world->election_us);

	switch (kind)
	{
		case FAULT_KILL:
		case FAULT_POWER_LOSS:
			sim_node_stop(world, node, kind == FAULT_POWER_LOSS);
			break;
		case FAULT_CRASH_IN_IO:
			sim_disk_arm(node->disk, (unsigned int) sim_range(world, 1, 15),
						 sim_chance(world, 500));
			break;
		case FAULT_PAUSE:
			if (node->paused || !node->up)
				break;
			sim_node_pause(world, node);
			sim_push(world, span, SIM_EV_RESUME, node->slot, 0, node->life, NULL);
			break;
		case FAULT_SLOW_DISK:
			SIM_COUNT(world, slow_disks);
			world->slow_until[node->slot] = world->now + span;
			break;
		case FAULT_FULL_DISK:
			sim_disk_set_full(node->disk, 1);
			world->full_until[node->slot] = world->now + span;
			break;
		case FAULT_FSYNC:
			sim_disk_fail_fsync(node->disk, 1);
			break;
		default:
			set_drift(world, node);
			break;
	}
}

static void
end_full_disks(SimWorld *world)
{
	int			i;

	for (i = 0; i < world->settings.n_slots; i++)
	{
		if (world->full_until[i] <= world->now)
			sim_disk_set_full(world->nodes[i].disk, 0);
	}
}

void
sim_fault_event(SimWorld *world)
{
	SimNode    *node = &world->nodes[sim_below(world, (raft_u64) world->settings.n_slots)];
	SimNode    *leader = sim_leader(world);
	FaultKind	kind = draw_fault(world);

	if (world->healing)
		return;
	sim_push(world, sim_range(world, SIM_MS, 2 * world->settings.fault_interval),
			 SIM_EV_FAULT, 0, 0, 0, NULL);
	end_full_disks(world);
	if (leader != NULL && sim_chance(world, 400))
		node = leader;
	if (kind == FAULT_BLACKOUT)
	{
		if (world->settings.fault_weights[FAULT_BLACKOUT] > 0)
			blackout(world);
		return;
	}
	if (kind == FAULT_PARTITION)
	{
		sim_net_partition(world);
		sim_push(world, sim_range(world, world->election_us / 2, 6 * world->election_us),
				 SIM_EV_HEAL, 0, 0, ++world->partition, NULL);
		return;
	}
	if (enough_down(world))
		return;
	sim_trace(world, "FAULT %d on %u", (int) kind, node->id);
	fault_on_member(world, node, kind);
}

/* From here on nothing goes wrong any more. */
void
sim_fault_stop_all(SimWorld *world)
{
	int			i;

	world->healing = 1;
	world->settings.fifo_links = 1;	/* disorder and delay are faults too */
	world->settings.delay_max = world->settings.delay_min + SIM_MS;
	sim_trace(world, "HEAL everything");
	sim_net_heal(world);
	for (i = 0; i < world->settings.n_slots; i++)
	{
		SimNode    *node = &world->nodes[i];

		world->slow_until[i] = 0;
		sim_disk_set_full(node->disk, 0);
		sim_disk_fail_fsync(node->disk, 0);
		sim_disk_arm(node->disk, 0, 0);
		if (node->paused)
			sim_node_resume(world, node);
		if (!node->up)
			sim_node_start(world, node);
	}
}

/* ----------------------------------------------------------------
 * The operator
 * ----------------------------------------------------------------
 */
static int
known_to_somebody(SimWorld *world, raft_id id)
{
	const struct raft_config *config = sim_check_config(world);
	int			i;

	/* before anything is applied every member counts */
	if (config->n_members == 0 || raft_config_find(config, id) != NULL)
		return 1;
	for (i = 0; i < world->settings.n_slots; i++)
	{
		const SimNode *node = &world->nodes[i];

		if (node->id == id || !node->has_state)
			continue;

		/* one that is down may have an uncommitted addition in its log */
		if (node->raft == NULL ||
			raft_config_find(raft_get_config(node->raft), id) != NULL)
			return 1;
	}
	return 0;
}

static void
wipe_removed(SimWorld *world)
{
	int			i;

	for (i = 0; i < world->settings.n_slots; i++)
	{
		SimNode    *node = &world->nodes[i];

		if (!node->has_state || known_to_somebody(world, node->id))
			continue;
		sim_node_wipe(world, node);
		sim_node_start(world, node);
		return;
	}
}

static void
draw_change(SimWorld *world, const struct raft_config *config, struct raft_change *change)
{
	raft_id		id = (raft_id) sim_range(world, 1, (raft_u64) world->settings.n_slots);
	const struct raft_member *member;

	/* remove and add again, with messages of the old membership in flight */
	if (world->removed != 0 && sim_chance(world, 600))
		id = world->removed;
	member = raft_config_find(config, id);
	if (member != NULL && config->n_members < 4)
	{
		/* a cluster of two or one has little to be tested */
		id = (raft_id) sim_range(world, 1, (raft_u64) world->settings.n_slots);
		member = raft_config_find(config, id);
	}
	memset(change, 0, sizeof(*change));
	change->member.id = id;
	change->member.role = RAFT_VOTER;
	change->member.port = 7000 + id;
	change->member.priority = -1;
	snprintf(change->member.name, sizeof(change->member.name), "n%u", id);
	snprintf(change->member.address, sizeof(change->member.address), "host%u", id);
	if (member == NULL && sim_chance(world, 950))
	{
		change->type = RAFT_CHANGE_ADD;
		change->member.priority = (int) sim_below(world, 3) * 50;
		if (sim_chance(world, 100))
			change->member.role = RAFT_LEARNER;
		else if (sim_chance(world, 100))
			change->member.role = RAFT_WITNESS;
	}
	else if (member != NULL && member->role == RAFT_LEARNER && sim_chance(world, 500))
		change->type = RAFT_CHANGE_PROMOTE;
	else if (sim_chance(world, 250))
	{
		change->type = RAFT_CHANGE_UPDATE;
		change->member.priority = (int) sim_below(world, 101);
	}
	else if (config->n_members > 3 || sim_chance(world, 30))
		change->type = RAFT_CHANGE_REMOVE;
	else
	{
		change->type = RAFT_CHANGE_ADD; /* mostly of one that exists */
		change->member.priority = 0;
	}
}

static void
change_members(SimWorld *world, SimNode *leader)
{
	struct raft_change changes[2];
	size_t		n = sim_chance(world, 80) ? 2 : 1;
	raft_index	index;
	int			result;

	draw_change(world, raft_get_config(leader->raft), &changes[0]);
	draw_change(world, raft_get_config(leader->raft), &changes[1]);
	sim_node_tick(world, leader);
	result = raft_change_membership(leader->raft, changes, n, &index);
	sim_trace(world, "CHANGE at %u: %lu changes, first type %d of %u: %s", leader->id,
			  (raft_u64) n, changes[0].type, changes[0].member.id,
			  raft_error_text(result));
	if (result == RAFT_OK && changes[0].type == RAFT_CHANGE_REMOVE)
		world->removed = changes[0].member.id;
	else if (result == RAFT_OK)
		world->removed = 0;
	if (result == RAFT_E_INVALID && n == 1)
		sim_violation(world, "membership", "change type %d of member %u is invalid",
					  changes[0].type, changes[0].member.id);
	if (result == RAFT_E_NOMEM || result == RAFT_E_IO || result == RAFT_E_CORRUPT)
		sim_violation(world, "membership", "change gives %s", raft_error_text(result));
}

static void
move_leadership(SimWorld *world, SimNode *leader)
{
	raft_id		target = (raft_id) sim_below(world, (raft_u64) world->settings.n_slots + 1);
	int			result;

	sim_node_tick(world, leader);
	if (sim_chance(world, 150))
	{
		result = raft_step_down(leader->raft);
		if (result == RAFT_OK)
			SIM_COUNT(world, step_downs);
		return;
	}
	result = raft_transfer(leader->raft, target);
	sim_trace(world, "TRANSFER from %u to %u: %s", leader->id, target,
			  raft_error_text(result));
	if (result == RAFT_OK)
		SIM_COUNT(world, transfers);
}

void
sim_operator_event(SimWorld *world)
{
	SimNode    *leader = sim_leader(world);

	if (world->healing)
		return;
	sim_push(world, sim_range(world, SIM_MS, 2 * world->settings.operator_interval),
			 SIM_EV_OPERATOR, 0, 0, 0, NULL);
	if (sim_chance(world, 100))
	{
		wipe_removed(world);
		return;
	}
	if (leader == NULL)
		return;
	if (sim_chance(world, 250))
		move_leadership(world, leader);
	else
		change_members(world, leader);
	sim_node_pump(world, leader);
}
