/*-------------------------------------------------------------------------
 *
 * sim_storage.c
 *	  Storage alone on a simulated disk: many lives of one directory.
 *
 * Writes what an engine might write (appends, truncations, votes, received
 * and local snapshots, several jobs in flight), dies anywhere, recovers, and
 * is judged by the same checker as the clusters: the recovered state must be
 * one that the writes allow.  It recovers far more often than a cluster does,
 * and it can do what a cluster cannot survive: after a kill, a copy of the
 * disk gets one bit flipped, and opening it must give a true state or refuse.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_check.h"

#define LIVES 16
#define STEPS 250				/* per life */
#define MAX_QUEUE 12			/* jobs in flight */
#define MAX_ENTRIES 40			/* of one job */
#define MAX_PAYLOAD 6000
#define SNAPSHOT_BYTES 300
#define FLIPS 3					/* tried after each kill */

typedef struct Workshop
{
	SimWorld   *world;
	SimNode    *node;
	SimRecord  *record;
	PgraftStorageOptions options;
	raft_term	term;
	raft_id		vote;
	raft_index	commit;
	raft_index	published;		/* newest snapshot */
	raft_u64	epoch;
	PgraftJob  *jobs[MAX_QUEUE];
	int			n_jobs;
	PgraftSnapshotWriter *writer;
	raft_index	writer_index;
	struct raft_snapshot_meta meta;
	struct raft_snapshot_chunk chunk;
	struct raft_entry entries[MAX_ENTRIES];
	unsigned char payload[MAX_PAYLOAD];
} Workshop;

/* ----------------------------------------------------------------
 * Recovery
 * ----------------------------------------------------------------
 */
static int
found_snapshot(void *context, const struct raft_snapshot_meta *meta)
{
	Workshop   *shop = context;

	sim_check_recover_snapshot(shop->world, shop->node, meta);
	return 0;
}

static int
found_start(void *context, raft_index index, raft_term term)
{
	Workshop   *shop = context;

	sim_check_recover_start(shop->world, shop->node, index, term);
	return 0;
}

static int
found_hard_state(void *context, const struct raft_hard_state *state)
{
	Workshop   *shop = context;

	sim_check_recover_state(shop->world, shop->node, state);
	return 0;
}

static int
found_entry(void *context, const struct raft_entry *entry)
{
	Workshop   *shop = context;

	sim_check_recover_entry(shop->world, shop->node, entry);
	return 0;
}

static int
found_truncate(void *context, raft_index from)
{
	Workshop   *shop = context;

	sim_check_recover_truncate(shop->world, shop->node, from);
	return 0;
}

static PgraftErrorCode
open_storage(Workshop *shop, PgraftIo *io, PgraftStorage **storage, PgraftError *error)
{
	PgraftRecovery recovery;
	PgraftIdentity identity;

	recovery.context = shop;
	recovery.snapshot = found_snapshot;
	recovery.log_start = found_start;
	recovery.hard_state = found_hard_state;
	recovery.entry = found_entry;
	recovery.truncate = found_truncate;
	sim_check_recover_begin(shop->world, shop->node);
	error->message[0] = '\0';
	*storage = NULL;
	return pgraft_storage_open(io, SIM_DIRECTORY, &shop->options, &recovery, &identity,
							   storage, error);
}

/* 1: open; 0: the machine died meanwhile. */
static int
recover(Workshop *shop)
{
	SimWorld   *world = shop->world;
	SimNode    *node = shop->node;
	PgraftStorageStats stats;
	PgraftError error;
	PgraftErrorCode code;
	int			power_loss;

	sim_disk_restart(node->disk);
	if (sim_chance(world, 350))
		sim_disk_arm(node->disk, (unsigned int) sim_range(world, 1, 12),
					 sim_chance(world, 400));
	code = open_storage(shop, &node->io, &node->storage, &error);
	if (sim_disk_dead(node->disk, &power_loss))
	{
		sim_disk_kill(node->disk, power_loss);
		if (code == PGRAFT_OK)
			pgraft_storage_close(node->storage);
		node->storage = NULL;
		return 0;
	}
	if (code != PGRAFT_OK)
	{
		sim_violation(world, "recovery", "%s", error.message);
		return 0;
	}
	SIM_COUNT(world, recoveries);
	pgraft_storage_stats(node->storage, &stats);
	SIM_ADD(world, torn_tails_recovered, stats.torn_tails);
	sim_check_recover_end(world, node);
	shop->term++;				/* what was lost may come again, but not in its term */
	shop->vote = 0;
	shop->published = shop->record->recovered.snapshot_index;
	if (shop->commit > shop->record->memory.last)
		shop->commit = shop->record->memory.last;
	if (shop->commit < shop->record->memory.start)
		shop->commit = shop->record->memory.start;
	if (shop->commit < shop->published)
		shop->commit = shop->published;
	return 1;
}

/* ----------------------------------------------------------------
 * One life
 * ----------------------------------------------------------------
 */
static void
fill_meta(Workshop *shop, raft_index index, raft_term term)
{
	memset(&shop->meta, 0, sizeof(shop->meta));
	shop->meta.index = index;
	shop->meta.term = term;
	shop->meta.config.index = 1;
	shop->meta.config.n_members = 1;
	shop->meta.config.members[0].id = 1;
	shop->meta.config.members[0].incarnation = 1;
	shop->meta.config.members[0].role = RAFT_VOTER;
	shop->meta.config.members[0].target_role = RAFT_VOTER;
}

/* A snapshot in one chunk that replaces the log. */
static void
draw_install(Workshop *shop, struct raft_update *update)
{
	fill_meta(shop, shop->record->memory.last + sim_range(shop->world, 1, 20), shop->term);
	shop->chunk.meta = shop->meta;
	shop->chunk.offset = 0;
	shop->chunk.total = SNAPSHOT_BYTES;
	shop->chunk.data = shop->payload;
	shop->chunk.length = SNAPSHOT_BYTES;
	update->chunk = &shop->chunk;
	update->install = &shop->meta;
	shop->commit = shop->published = shop->meta.index;
}

static void
draw_entries(Workshop *shop, struct raft_update *update, raft_index first)
{
	SimWorld   *world = shop->world;
	size_t		i;

	if (sim_chance(world, 700))
		update->n_entries = sim_below(world, sim_chance(world, 50) ? MAX_ENTRIES : 5);
	update->entries = shop->entries;
	memset(shop->payload, (int) (shop->epoch & 0xff), sizeof(shop->payload));
	for (i = 0; i < update->n_entries; i++)
	{
		struct raft_entry *entry = &shop->entries[i];

		entry->index = first + i;
		entry->term = shop->term;
		entry->type = RAFT_ENTRY_NORMAL;
		entry->length = sim_below(world, sim_chance(world, 100) ? MAX_PAYLOAD : 200);
		entry->data = entry->length > 0 ? shop->payload : NULL;
	}
}

static void
prepare(Workshop *shop)
{
	SimWorld   *world = shop->world;
	SimLog	   *memory = &shop->record->memory;
	struct raft_update update;
	raft_index	first = memory->last + 1;
	PgraftError error;

	memset(&update, 0, sizeof(update));
	update.epoch = ++shop->epoch;
	update.must_sync = 1;
	if (sim_chance(world, 200))
	{
		shop->term++;
		shop->vote = 0;
		if (memory->last > shop->commit && sim_chance(world, 500))
			first = update.truncate_from = sim_range(world, shop->commit + 1, memory->last);
	}
	if (shop->vote == 0 && sim_chance(world, 200))
		shop->vote = (raft_id) sim_range(world, 1, 3);
	if (update.truncate_from == 0 && shop->writer == NULL && sim_chance(world, 30))
	{
		draw_install(shop, &update);
		first = shop->meta.index + 1;
	}
	update.hard_state_changed = 1;
	update.hard_state.term = shop->term;
	update.hard_state.vote = shop->vote;
	update.hard_state.commit = shop->commit;
	draw_entries(shop, &update, first);
	sim_check_write(world, shop->node, &update);
	error.message[0] = '\0';
	if (pgraft_storage_prepare(shop->node->storage, &update, &shop->jobs[shop->n_jobs],
							   &error) != PGRAFT_OK)
		sim_violation(world, "prepare", "%s", error.message);
	else
		shop->n_jobs++;
	if (shop->commit < memory->last && sim_chance(world, 300))
		shop->commit = sim_range(world, shop->commit, memory->last);
}

static void
execute(Workshop *shop)
{
	int			n = (int) sim_range(shop->world, 1, (raft_u64) shop->n_jobs);
	PgraftError error;
	PgraftErrorCode code;
	int			power_loss;
	int			i;

	error.message[0] = '\0';
	code = pgraft_storage_execute_many(shop->node->storage, shop->jobs, n, &error);
	if (sim_disk_dead(shop->node->disk, &power_loss))
		return;
	if (code != PGRAFT_OK)
		sim_violation(shop->world, "execute", "%s", error.message);
	for (i = 0; i < n; i++)
	{
		pgraft_storage_complete(shop->node->storage, shop->jobs[i]);
		sim_check_durable(shop->world, shop->node);
	}
	shop->n_jobs -= n;
	memmove(shop->jobs, shop->jobs + n, (size_t) shop->n_jobs * sizeof(PgraftJob *));
}

static void
begin_snapshot(Workshop *shop)
{
	raft_term	term = 0;
	PgraftError error;
	PgraftErrorCode code;
	int			power_loss;

	if (shop->commit <= shop->published ||
		!sim_log_term(&shop->record->memory, shop->commit, &term))
		return;
	fill_meta(shop, shop->commit, term);
	error.message[0] = '\0';
	code = pgraft_snapshot_begin(shop->node->storage, &shop->meta, &shop->writer, &error);
	if (code != PGRAFT_OK)
		shop->writer = NULL;
	else
		code = pgraft_snapshot_write(shop->writer, shop->payload, SNAPSHOT_BYTES, &error);
	if (code != PGRAFT_OK && !sim_disk_dead(shop->node->disk, &power_loss))
		sim_violation(shop->world, "snapshot", "%s", error.message);
	shop->writer_index = shop->commit;
}

static void
finish_snapshot(Workshop *shop)
{
	raft_index	keep = shop->writer_index + 1;
	PgraftError error;
	PgraftErrorCode code;
	int			power_loss;

	error.message[0] = '\0';
	code = pgraft_snapshot_finish(shop->writer, &error);
	if (sim_disk_dead(shop->node->disk, &power_loss))
		return;
	if (code != PGRAFT_OK)
		sim_violation(shop->world, "snapshot", "%s", error.message);
	pgraft_snapshot_publish(shop->writer);
	shop->writer = NULL;
	if (shop->writer_index > shop->published)
		shop->published = shop->writer_index;
	keep -= sim_below(shop->world, 10);
	if (shop->writer_index > shop->record->memory.start &&
		keep > shop->record->memory.start + 1 && keep <= shop->writer_index + 1)
		pgraft_storage_forget(shop->node->storage, keep);
}

static void
live(Workshop *shop)
{
	SimWorld   *world = shop->world;
	int			steps = STEPS;
	int			power_loss;
	int			i;

	if (sim_chance(world, 600))
		sim_disk_arm(shop->node->disk, (unsigned int) sim_range(world, 1, 200),
					 sim_chance(world, 600));
	else
		steps = (int) sim_range(world, 10, STEPS);
	for (i = 0; i < steps && !world->failed; i++)
	{
		world->now += SIM_MS;
		if (shop->n_jobs < MAX_QUEUE && sim_chance(world, 500))
			prepare(shop);
		else if (shop->n_jobs > 0 && sim_chance(world, 700))
			execute(shop);
		else if (shop->writer == NULL && sim_chance(world, 100))
			begin_snapshot(shop);
		else if (shop->writer != NULL && sim_chance(world, 300))
			finish_snapshot(shop);
		if (sim_disk_dead(shop->node->disk, &power_loss))
			break;
	}
}

/*
 * Returns whether it was a plain kill: with half a write or a lost one, a
 * flipped bit would be the second of two independent faults.
 */
static int
die(Workshop *shop)
{
	int			power_loss;
	int			in_call = sim_disk_dead(shop->node->disk, &power_loss);

	if (!in_call)
		power_loss = sim_chance(shop->world, 600);
	sim_trace(shop->world, "DIE with %d jobs%s", shop->n_jobs,
			  power_loss ? ", power lost" : "");
	sim_disk_kill(shop->node->disk, power_loss);
	if (shop->writer != NULL)
		pgraft_snapshot_abort(shop->writer);
	shop->writer = NULL;
	while (shop->n_jobs > 0)
		pgraft_job_discard(shop->jobs[--shop->n_jobs]);
	pgraft_storage_close(shop->node->storage);
	shop->node->storage = NULL;
	return !power_loss && !in_call;
}

/* ----------------------------------------------------------------
 * Damage
 * ----------------------------------------------------------------
 */
static int
ignore_data(void *arg, const unsigned char *data, size_t length)
{
	(void) arg;
	(void) data;
	(void) length;
	return 0;
}

/* What was recovered is one of the states that the writes allow. */
static int
is_true_state(Workshop *shop)
{
	SimLog		wanted;
	SimEffect  *effect = shop->record->effects;
	int			equal;

	memset(&wanted, 0, sizeof(wanted));
	sim_log_copy(&wanted, &shop->record->durable);
	while (!(equal = sim_log_equal(&wanted, &shop->record->recovered)) && effect != NULL)
	{
		sim_effect_apply(&wanted, effect);
		effect = effect->next;
	}
	sim_log_free(&wanted);
	return equal;
}

/* One bit of a copy of the disk is flipped: a true state or a refusal. */
static void
flip_bit(Workshop *shop)
{
	SimWorld   *world = shop->world;
	SimDisk    *disk = sim_disk_clone(shop->node->disk);
	struct raft_snapshot_meta *meta = sim_alloc(sizeof(*meta));
	PgraftStorage *storage;
	PgraftError error;
	PgraftErrorCode code;
	PgraftIo	io;
	char		where[160];

	sim_disk_flip(disk, where, sizeof(where));
	sim_trace(world, "%s", where);
	SIM_COUNT(world, bits_flipped);
	sim_disk_io(disk, &io);
	code = open_storage(shop, &io, &storage, &error);
	if (code != PGRAFT_OK)
		SIM_COUNT(world, flips_refused);
	else if (!is_true_state(shop))
		sim_violation(world, "damage", "%s: recovers log %lu..%lu term %lu, durable %lu..%lu",
					  where, shop->record->recovered.start, shop->record->recovered.last,
					  shop->record->recovered.hard_state.term, shop->record->durable.start,
					  shop->record->durable.last);
	else
	{
		code = pgraft_storage_load_snapshot(storage, meta, ignore_data, NULL, &error);
		if (code == PGRAFT_OK && meta->index != shop->record->recovered.snapshot_index)
			sim_violation(world, "damage", "%s: loads snapshot %lu, recovered %lu", where,
						  meta->index, shop->record->recovered.snapshot_index);
	}
	if (storage != NULL)
		pgraft_storage_close(storage);
	sim_disk_destroy(disk);
	free(meta);
}

/* ----------------------------------------------------------------
 * The run
 * ----------------------------------------------------------------
 */
static void
create(Workshop *shop)
{
	static const unsigned char payload[10] = "first";
	struct raft_hard_state hard_state = {1, 0, 0};
	struct raft_entry entry = {1, 1, RAFT_ENTRY_CONFIG, sizeof(payload), payload};
	SimWorld   *world = shop->world;

	pgraft_storage_default_options(&shop->options);
	shop->options.segment_bytes = (size_t) 8192 << sim_below(world, 6);
	shop->options.recycle_segments = (int) sim_below(world, 3);
	world->settings.storage = shop->options;
	world->cluster_uid = 1;
	sim_node_create(world, shop->node, 1, &hard_state, &entry, 1);
}

/* Like sim_run(). */
int
sim_storage_run(raft_u64 seed, const SimOptions *options, raft_u64 *totals,
				raft_u64 *trace_hash)
{
	SimWorld   *world = sim_alloc(sizeof(SimWorld));
	Workshop   *shop = sim_alloc(sizeof(Workshop));
	int			passed;
	int			i;

	world->options = options;
	world->seed = seed;
	world->random_state = ~seed;
	world->settings.n_slots = 1;
	world->checker = sim_check_create(world);
	shop->world = world;
	shop->node = &world->nodes[0];
	shop->record = &world->checker->records[0];
	sim_node_init(world, 0);
	create(shop);
	shop->term = 1;
	for (i = 0; i < LIVES && !world->failed; i++)
	{
		int			flips = FLIPS;

		if (!recover(shop))
			continue;
		live(shop);
		if (die(shop))
		{
			while (flips-- > 0 && !world->failed)
				flip_bit(shop);
		}
	}
	sim_disk_destroy(shop->node->disk);
	sim_check_destroy(world->checker);
	for (i = 0; i < SIM_N_STATISTICS; i++)
		totals[i] += world->statistics[i];
	*trace_hash = world->trace_hash;
	passed = !world->failed;
	if (!passed)
	{
		sim_dump_trace(world);
		printf("seed %lu violates, storage alone, %s\n", seed, world->violation);
		printf("repeat with: pgraft_sim --seed %lu --storage --trace\n", seed);
	}
	free(shop);
	free(world);
	return passed;
}
