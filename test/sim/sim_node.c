/*-------------------------------------------------------------------------
 *
 * sim_node.c
 *	  The host of one member: what the worker is to a server.
 *
 * Runs the turn that raft.h prescribes around the real engine and the real
 * storage: start (recover or stay blank), adoption of a blank member on first
 * contact, timers on the member's own drifting clock, pause and resume, stop
 * in the middle of anything.
 *
 * Whenever storage was called the disk may have died in that call;
 * sim_node_check_disk() notices and takes the whole process down, so nothing
 * of a half-done turn leaves the member.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static void *engine_allocate(void *context, size_t size);
static void engine_release(void *context, void *pointer);
static void engine_assertion(void *context, const char *condition,
							 const char *file, int line);
static void engine_trace(void *context, const char *line);
static int	engine_read_entries(void *context, raft_index first, size_t max_entries,
								size_t max_bytes, struct raft_entry *entries,
								size_t *n_read);
static int	engine_read_snapshot(void *context, raft_index index, raft_u64 offset,
								 size_t max_bytes, const unsigned char **data,
								 size_t *n_read, raft_u64 *total);

/* The callbacks need the world too; there is one world at a time. */
static SimWorld *callback_world;

void
sim_node_init(SimWorld *world, int slot)
{
	SimNode    *node = &world->nodes[slot];

	node->slot = slot;
	node->id = (raft_id) slot + 1;
	node->disk = sim_disk_create(world, slot);
	sim_disk_io(node->disk, &node->io);
	node->wanted = 1;
	sim_machine_reset(&node->machine);
}

/* An engine that may be called now. */
int
sim_node_running(const SimNode *node)
{
	return node->up && !node->paused && node->raft != NULL;
}

/* The running leader of the highest term, or NULL. */
SimNode *
sim_leader(SimWorld *world)
{
	SimNode    *best = NULL;
	raft_term	best_term = 0;
	int			i;

	for (i = 0; i < world->settings.n_slots; i++)
	{
		struct raft_status status;

		if (!sim_node_running(&world->nodes[i]))
			continue;
		raft_status(world->nodes[i].raft, &status);
		if (status.state == RAFT_LEADER && status.term >= best_term)
		{
			best = &world->nodes[i];
			best_term = status.term;
		}
	}
	return best;
}

/* ----------------------------------------------------------------
 * Clock and timer
 * ----------------------------------------------------------------
 */
static SimTime
local_microseconds(const SimNode *node, SimTime now)
{
	return (SimTime) ((long) (node->clock_offset + now) +
					  (long) now / 1000 * node->drift_ppm / 1000);
}

raft_time
sim_node_clock(const SimWorld *world, const SimNode *node)
{
	return local_microseconds(node, world->now) / SIM_MS;
}

/* raft_tick() comes before every other event of a turn. */
void
sim_node_tick(SimWorld *world, SimNode *node)
{
	raft_tick(node->raft, sim_node_clock(world, node));
}

static void
schedule_timer(SimWorld *world, SimNode *node)
{
	raft_time	deadline = raft_next_deadline(node->raft);
	raft_time	clock = sim_node_clock(world, node);
	SimTime		delay = SIM_MS;

	if (deadline > clock)
	{
		if (deadline - clock > 3600 * 1000)
			deadline = clock + 3600 * 1000;
		delay = (deadline - clock) * SIM_MS;
		delay = (SimTime) ((long) delay - (long) delay / 1000 * node->drift_ppm / 1000);
	}
	delay += sim_below(world, SIM_MS);
	if (node->timer_at != 0 && node->timer_at <= world->now + delay)
		return;
	node->timer_at = world->now + delay;
	sim_push(world, delay, SIM_EV_TIMER, node->slot, 0, node->life, NULL);
}

void
sim_node_timer(SimWorld *world, SimNode *node)
{
	if (node->timer_at != world->now)
		return;					/* an earlier one replaced it */
	node->timer_at = 0;
	if (!sim_node_running(node))
		return;
	sim_node_tick(world, node);
	sim_node_pump(world, node);
}

void
sim_node_pause(SimWorld *world, SimNode *node)
{
	SIM_COUNT(world, pauses);
	sim_trace(world, "PAUSE %u", node->id);
	node->paused = 1;
}

/* SIGCONT: the clock has gone on; what the kernel kept arrives at once. */
void
sim_node_resume(SimWorld *world, SimNode *node)
{
	raft_u64	life = node->life;
	int			n = node->n_inbox;
	int			i;

	if (!node->paused)
		return;
	sim_trace(world, "RESUME %u with %d messages", node->id, n);
	node->paused = 0;
	node->n_inbox = 0;
	node->timer_at = 0;
	for (i = 0; i < n; i++)
	{
		if (node->life == life)
			sim_node_deliver(world, node, node->inbox[i]);
		else
			free(node->inbox[i]);
	}
	if (sim_node_running(node) && node->life == life)
	{
		sim_node_tick(world, node);
		sim_node_pump(world, node);
	}
}

/* ----------------------------------------------------------------
 * The turn
 * ----------------------------------------------------------------
 */
static void
take_reads(SimWorld *world, SimNode *node, const struct raft_update *update)
{
	size_t		i;

	for (i = 0; i < update->n_reads; i++)
	{
		const struct raft_read_result *result = &update->reads[i];

		if (result->error != RAFT_OK || node->n_reads == SIM_MAX_READS)
		{
			sim_client_read_result(world, node, result->token, RAFT_E_NOT_LEADER);
			continue;
		}
		node->reads[node->n_reads].token = result->token;
		node->reads[node->n_reads].index = result->index;
		node->n_reads++;
	}
}

/*
 * Takes every update of the engine.  Stops early when too many writes are in
 * flight, and at once when the member died.
 */
void
sim_node_pump(SimWorld *world, SimNode *node)
{
	raft_u64	life = node->life;
	struct raft_update update;

	while (node->n_jobs < SIM_MAX_JOBS && !world->failed &&
		   raft_take_update(node->raft, &update))
	{
		size_t		i;

		sim_check_update(world, node, &update);
		take_reads(world, node, &update);
		for (i = 0; i < update.n_messages; i++)
			sim_net_send(world, node, sim_message_copy(&update.messages[i]));
		sim_apply_queue(world, node, &update);
		sim_flush_update(world, node, &update);
		if (node->life != life)
			return;

		/* from here on the update's pointers are gone */
		if (!node->apply_scheduled)
			sim_apply_run(world, node);
		if (node->life != life)
			return;
	}
	sim_snapshot_maybe(world, node);
	if (node->life != life || world->failed)
		return;
	sim_check_node(world, node);
	schedule_timer(world, node);
}

/* ----------------------------------------------------------------
 * Start
 * ----------------------------------------------------------------
 */
static int
recovered_snapshot(void *context, const struct raft_snapshot_meta *meta)
{
	SimNode    *node = context;

	sim_check_recover_snapshot(callback_world, node, meta);
	return raft_restore_snapshot(node->raft, meta);
}

static int
recovered_log_start(void *context, raft_index index, raft_term term)
{
	SimNode    *node = context;

	sim_check_recover_start(callback_world, node, index, term);
	return raft_restore_log_start(node->raft, index, term);
}

static int
recovered_hard_state(void *context, const struct raft_hard_state *state)
{
	SimNode    *node = context;

	sim_check_recover_state(callback_world, node, state);
	return raft_restore_hard_state(node->raft, state);
}

static int
recovered_entry(void *context, const struct raft_entry *entry)
{
	SimNode    *node = context;

	sim_check_recover_entry(callback_world, node, entry);
	return raft_restore_entry(node->raft, entry);
}

static int
recovered_truncate(void *context, raft_index from)
{
	SimNode    *node = context;

	sim_check_recover_truncate(callback_world, node, from);
	return raft_restore_truncate(node->raft, from);
}

static int
create_engine(SimWorld *world, SimNode *node, raft_u64 incarnation)
{
	struct raft_params params = world->settings.params;
	struct raft_allocator allocator;
	struct raft_callbacks callbacks;

	params.id = node->id;
	params.incarnation = incarnation;
	params.seed = sim_random(world);
	allocator.context = node;
	allocator.allocate = engine_allocate;
	allocator.release = engine_release;
	callbacks.context = node;
	callbacks.read_entries = engine_read_entries;
	callbacks.read_snapshot = engine_read_snapshot;
	callbacks.assertion_failed = engine_assertion;
	callbacks.trace = engine_trace;
	return raft_create(&node->raft, &params, &allocator, &callbacks);
}

static PgraftErrorCode
recover(SimWorld *world, SimNode *node, PgraftError *error)
{
	PgraftRecovery recovery;
	PgraftIdentity identity;
	PgraftStorageStats stats;
	PgraftErrorCode code;

	memset(&recovery, 0, sizeof(recovery));
	recovery.context = node;
	recovery.snapshot = recovered_snapshot;
	recovery.log_start = recovered_log_start;
	recovery.hard_state = recovered_hard_state;
	recovery.entry = recovered_entry;
	recovery.truncate = recovered_truncate;
	sim_check_recover_begin(world, node);
	code = pgraft_storage_open(&node->io, SIM_DIRECTORY, &world->settings.storage,
							   &recovery, &identity, &node->storage, error);
	if (code != PGRAFT_OK)
		return code;
	if (identity.node_id != node->id || identity.incarnation != node->incarnation)
		sim_violation(world, "identity", "member %u reads id %u incarnation %lu, wrote %lu",
					  node->id, identity.node_id, identity.incarnation,
					  node->incarnation);
	pgraft_storage_stats(node->storage, &stats);
	SIM_ADD(world, torn_tails_recovered, stats.torn_tails);
	sim_check_recover_end(world, node);
	return PGRAFT_OK;
}

/* 1: go on; 0: stopped, in one way or another. */
static int
open_state(SimWorld *world, SimNode *node)
{
	PgraftIdentity identity;
	PgraftError error;
	PgraftErrorCode code;
	int			result;

	error.message[0] = '\0';
	code = pgraft_storage_read_identity(&node->io, SIM_DIRECTORY, &identity, &error);
	if (sim_node_check_disk(world, node))
		return 0;
	if (code == PGRAFT_ERR_NOT_FOUND)
	{
		if (node->has_state)
			sim_violation(world, "durability", "the directory of member %u is gone",
						  node->id);
		sim_check_wiped(world, node);
		node->incarnation = 0;
		return 0;
	}
	node->has_state = 1;
	if (code == PGRAFT_OK)
	{
		result = create_engine(world, node, identity.incarnation);
		if (result != RAFT_OK)
		{
			sim_violation(world, "start", "raft_create: %s", raft_error_text(result));
			return 0;
		}
		code = recover(world, node, &error);
		if (sim_node_check_disk(world, node))
			return 0;
	}
	if (code == PGRAFT_ERR_NO_SPACE)
	{
		sim_node_stop(world, node, 0);
		return 0;
	}
	if (code != PGRAFT_OK)
	{
		sim_violation(world, "recovery", "member %u refuses its own state: %s",
					  node->id, error.message);
		return 0;
	}
	return 1;
}

/* The process starts; without a directory it waits, blank, to be adopted. */
void
sim_node_start(SimWorld *world, SimNode *node)
{
	raft_u64	life;
	int			result;

	if (node->up)
		return;
	SIM_COUNT(world, restarts);
	sim_disk_restart(node->disk);
	callback_world = world;
	node->up = 1;
	node->paused = 0;
	node->life++;
	life = node->life;
	node->timer_at = 0;
	node->clock_offset = sim_range(world, 1, 1000) * 100 * SIM_MS;
	node->durable_epoch = 0;
	node->skip_until = 0;
	sim_machine_reset(&node->machine);
	sim_net_hints(world, node->slot);
	if (!world->healing && sim_chance(world, 40))
		sim_disk_arm(node->disk, (unsigned int) sim_range(world, 1, 12),
					 sim_chance(world, 500));
	sim_trace(world, "START %u", node->id);
	if (!open_state(world, node) || node->life != life)
		return;
	if (!sim_load_machine(world, node))
		return;
	result = raft_start(node->raft, sim_node_clock(world, node));
	if (result != RAFT_OK)
	{
		sim_violation(world, "start", "raft_start of member %u: %s", node->id,
					  raft_error_text(result));
		return;
	}
	sim_node_tick(world, node);
	sim_node_pump(world, node);
}

/* ----------------------------------------------------------------
 * Stop
 * ----------------------------------------------------------------
 */

/*
 * The process ends here and now.  Cleaning up must not touch the disk: it is
 * dead first.
 */
void
sim_node_stop(SimWorld *world, SimNode *node, int power_loss)
{
	int			i;

	if (!node->up)
		return;
	sim_trace(world, "STOP %u%s", node->id, power_loss ? " (power loss)" : "");
	SIM_COUNT(world, crashes);
	if (power_loss)
		SIM_COUNT(world, power_losses);
	sim_disk_kill(node->disk, power_loss);
	sim_flush_forget(node);
	if (node->raft != NULL)
	{
		struct raft_status status;

		raft_status(node->raft, &status);
		SIM_ADD(world, stall_transfers, status.stall_transfers);
		raft_destroy(node->raft);
	}
	node->raft = NULL;
	if (node->allocations != 0)
		sim_violation(world, "memory", "member %u leaks %lu allocations of its engine",
					  node->id, node->allocations);
	if (node->storage != NULL)
		pgraft_storage_close(node->storage);
	node->storage = NULL;
	for (i = 0; i < node->n_inbox; i++)
		free(node->inbox[i]);
	node->n_inbox = 0;
	node->n_reads = 0;
	node->up = 0;
	node->paused = 0;
	node->life++;
	if (node->wanted)
		sim_push(world, sim_range(world, SIM_MS, 2 * world->election_us),
				 SIM_EV_RESTART, node->slot, 0, node->life, NULL);
	sim_net_hints(world, node->slot);
}

/* Returns 1 when the disk died in the last call: the process is stopped. */
int
sim_node_check_disk(SimWorld *world, SimNode *node)
{
	int			power_loss;

	if (!sim_disk_dead(node->disk, &power_loss))
		return 0;
	SIM_COUNT(world, crashes_in_io);
	sim_node_stop(world, node, power_loss);
	return 1;
}

void
sim_node_wipe(SimWorld *world, SimNode *node)
{
	SIM_COUNT(world, wipes);
	sim_trace(world, "WIPE %u (incarnation %lu)", node->id, node->incarnation);
	if (node->up)
	{
		int			wanted = node->wanted;

		node->wanted = 0;
		sim_node_stop(world, node, 0);
		node->wanted = wanted;
	}
	sim_disk_wipe(node->disk);
	node->has_state = 0;
	node->incarnation = 0;
	sim_check_wiped(world, node);
}

/* ----------------------------------------------------------------
 * Messages and adoption
 * ----------------------------------------------------------------
 */

/* Makes the directory; the disk may die while it does. */
void
sim_node_create(SimWorld *world, SimNode *node, raft_u64 incarnation,
				const struct raft_hard_state *hard_state,
				const struct raft_entry *entries, size_t n_entries)
{
	PgraftIdentity identity;
	PgraftError error;
	PgraftErrorCode code;

	memset(&identity, 0, sizeof(identity));
	identity.cluster_uid = world->cluster_uid;
	identity.node_id = node->id;
	identity.incarnation = incarnation;
	identity.member_uid = ++world->next_uid;
	snprintf(identity.cluster_id, sizeof(identity.cluster_id), "sim");
	node->incarnation = incarnation;
	sim_check_created(world, node, hard_state, entries, n_entries);
	code = pgraft_storage_create(&node->io, SIM_DIRECTORY, &world->settings.storage,
								 &identity, hard_state, entries, n_entries, &error);
	if (code == PGRAFT_OK)
		node->has_state = 1;
	else
	{
		int			power_loss;

		if (!sim_disk_dead(node->disk, &power_loss) && code != PGRAFT_ERR_NO_SPACE &&
			!sim_disk_failing(node->disk))
			sim_violation(world, "creation", "member %u: %s", node->id, error.message);
	}
}

static int
adopt(SimWorld *world, SimNode *node, const SimMessage *message)
{
	if (node->incarnation != 0)
	{
		SIM_COUNT(world, readoptions);
		sim_node_wipe(world, node);
		sim_disk_restart(node->disk);
		node->up = 1;
		node->life++;
	}
	SIM_COUNT(world, adoptions);
	sim_trace(world, "ADOPT %u as incarnation %lu", node->id,
			  message->m.to_incarnation);
	sim_node_create(world, node, message->m.to_incarnation, NULL, NULL, 0);

	/* the process dies in the middle of it, or begins anew with the directory */
	if (sim_node_check_disk(world, node))
		return 0;
	if (!node->has_state)
	{
		sim_node_stop(world, node, sim_disk_failing(node->disk));
		return 0;
	}
	node->up = 0;
	sim_node_start(world, node);
	return sim_node_running(node);
}

/*
 * Is this member to begin anew under another incarnation?  The rule of the
 * worker's on_hello(): a leader invites only under a membership whose entry is
 * committed, and incarnations are the indexes of these entries, so a greater one
 * was added after ours had ended, and a smaller one ended before ours began.
 */
static int
is_invited(const SimNode *node, const SimMessage *message)
{
	return message->invite && message->m.to_incarnation > node->incarnation;
}

/* Takes over the message. */
void
sim_node_deliver(SimWorld *world, SimNode *node, SimMessage *message)
{
	struct raft_message decoded;
	int			result;

	if (node->paused)
	{
		if (node->n_inbox < SIM_MAX_INBOX)
			node->inbox[node->n_inbox++] = message;
		else
			free(message);
		return;
	}
	if (is_invited(node, message) && !adopt(world, node, message))
	{
		free(message);
		return;
	}
	if (!sim_node_running(node))
	{
		free(message);
		return;
	}
	sim_node_tick(world, node);
	result = raft_receive(node->raft, sim_net_wire(world, &message->m, &decoded));
	if (result == RAFT_OK && message->m.to_incarnation != node->incarnation)
		sim_violation(world, "membership", "member %u.%lu takes a %s that was meant for .%lu",
					  node->id, node->incarnation, raft_message_name(message->m.type),
					  message->m.to_incarnation);
	if (result != RAFT_OK && result != RAFT_E_INVALID && result != RAFT_E_UNKNOWN_MEMBER)
		sim_violation(world, "messages", "member %u fails on a %s from %u: %s",
					  node->id, raft_message_name(message->m.type),
					  message->m.from, raft_error_text(result));
	free(message);
	sim_node_pump(world, node);
}

/* ----------------------------------------------------------------
 * What the engine calls
 * ----------------------------------------------------------------
 */
static void *
engine_allocate(void *context, size_t size)
{
	SimNode    *node = context;

	node->allocations++;
	return sim_alloc(size);
}

static void
engine_release(void *context, void *pointer)
{
	SimNode    *node = context;

	if (pointer != NULL)
		node->allocations--;
	free(pointer);
}

static void
engine_assertion(void *context, const char *condition, const char *file, int line)
{
	SimNode    *node = context;

	sim_violation(callback_world, "assertion", "member %u: %s (%s:%d)", node->id,
				  condition, file, line);
	longjmp(callback_world->abandon, 1);
}

static void
engine_trace(void *context, const char *line)
{
	SimNode    *node = context;

	sim_trace(callback_world, "  [%u] %s", node->id, line);
}

static int
engine_read_entries(void *context, raft_index first, size_t max_entries,
					size_t max_bytes, struct raft_entry *entries, size_t *n_read)
{
	SimNode    *node = context;

	SIM_COUNT(callback_world, log_reads);
	return pgraft_storage_read_entries(node->storage, first, max_entries, max_bytes,
									   entries, n_read);
}

static int
engine_read_snapshot(void *context, raft_index index, raft_u64 offset,
					 size_t max_bytes, const unsigned char **data, size_t *n_read,
					 raft_u64 *total)
{
	SimNode    *node = context;

	SIM_COUNT(callback_world, snapshot_reads);
	return pgraft_storage_read_snapshot(node->storage, index, offset, max_bytes,
										data, n_read, total);
}
