/*-------------------------------------------------------------------------
 *
 * sim_flush.c
 *	  What a host does besides calling the engine: write, apply, snapshot.
 *
 * Writes are asynchronous as in the worker: a job is prepared on the loop,
 * executed later (several at once when they queued up), and its completion
 * reaches the loop later still; a crash may come between any two of these.
 * Messages that wait for durability are kept with the job.
 *
 * Committed entries and installed snapshots pass through one queue, so that a
 * slow state machine or a snapshot whose file is not yet durable holds up
 * what comes after it, and nothing else.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define RETRY_DELAY (20 * SIM_MS)

static SimTime
disk_delay(SimWorld *world, const SimNode *node)
{
	SimTime		delay = sim_range(world, 50, world->settings.flush_max);

	if (world->slow_until[node->slot] > world->now)
		delay += sim_below(world, 2 * world->election_us);
	return delay;
}

/* ----------------------------------------------------------------
 * Jobs
 * ----------------------------------------------------------------
 */
void
sim_flush_schedule(SimWorld *world, SimNode *node, SimTime delay)
{
	if (node->flush_scheduled || node->n_executing > 0 || node->n_jobs == 0)
		return;
	node->flush_scheduled = 1;
	sim_push(world, delay, SIM_EV_FLUSH, node->slot, 0, node->life, NULL);
}

/*
 * Prepares what the update wants written.  Messages without a write of their
 * own wait for everything that is in flight before them.
 */
void
sim_flush_update(SimWorld *world, SimNode *node, const struct raft_update *update)
{
	SimJob	   *job;
	PgraftError error;
	PgraftErrorCode code;
	size_t		old;
	size_t		i;

	if (update->epoch == 0 && update->n_messages_after == 0)
		return;
	if (update->epoch == 0 && node->n_jobs == 0)
	{
		for (i = 0; i < update->n_messages_after; i++)
			sim_net_send(world, node, sim_message_copy(&update->messages_after[i]));
		return;
	}
	if (update->epoch != 0)
	{
		job = &node->jobs[node->n_jobs];
		memset(job, 0, sizeof(*job));
		error.message[0] = '\0';
		code = pgraft_storage_prepare(node->storage, update, &job->job, &error);
		if (sim_node_check_disk(world, node))
			return;
		if (code != PGRAFT_OK)
		{
			sim_violation(world, "prepare", "member %u: %s", node->id, error.message);
			return;
		}
		job->epoch = update->epoch;
		job->must_sync = update->must_sync;
		if (update->chunk != NULL)
			SIM_COUNT(world, snapshot_chunks);
		if (update->install != NULL)
		{
			job->installs = 1;
			job->install_index = update->install->index;
			SIM_COUNT(world, snapshots_installed);
			if (update->install_keeps_log)
				SIM_COUNT(world, snapshots_kept_log);
		}
		if (node->n_jobs > 0)
			SIM_COUNT(world, epochs_in_flight);
		node->n_jobs++;
	}
	job = &node->jobs[node->n_jobs - 1];
	old = job->n_after;
	job->n_after += update->n_messages_after;
	if (job->n_after > old)
	{
		SimMessage **after = sim_alloc(job->n_after * sizeof(*after));

		if (old > 0)
			memcpy(after, job->after, old * sizeof(*after));
		free(job->after);
		job->after = after;
		for (i = 0; i < update->n_messages_after; i++)
			after[old + i] = sim_message_copy(&update->messages_after[i]);
	}
	sim_flush_schedule(world, node, sim_below(world, 300));
}

/* The flush thread: executes one job, or all that wait. */
void
sim_flush_execute(SimWorld *world, SimNode *node)
{
	PgraftJob  *jobs[SIM_MAX_JOBS];
	PgraftError error;
	PgraftErrorCode code;
	int			n;
	int			i;

	if (node->paused)
	{
		sim_push(world, 2 * SIM_MS, SIM_EV_FLUSH, node->slot, 0, node->life, NULL);
		return;
	}
	node->flush_scheduled = 0;
	if (node->n_jobs == 0 || node->n_executing > 0)
		return;
	n = (int) sim_range(world, 1, (raft_u64) node->n_jobs);
	if (sim_chance(world, 700))
		n = node->n_jobs;
	for (i = 0; i < n; i++)
		jobs[i] = node->jobs[i].job;
	error.message[0] = '\0';
	if (n == 1)
		code = pgraft_storage_execute(node->storage, jobs[0], &error);
	else
	{
		SIM_COUNT(world, group_flushes);
		code = pgraft_storage_execute_many(node->storage, jobs, n, &error);
	}
	if (sim_node_check_disk(world, node))
		return;
	if (code == PGRAFT_ERR_NO_SPACE)
	{
		SIM_COUNT(world, disk_full);
		sim_trace(world, "disk of %u is full", node->id);
		sim_flush_schedule(world, node, RETRY_DELAY);
		return;
	}
	if (code != PGRAFT_OK)
	{
		if (!sim_disk_failing(node->disk))
			sim_violation(world, "execute", "member %u: %s", node->id, error.message);
		SIM_COUNT(world, fsync_failures);
		sim_trace(world, "fsync failed on %u: %s", node->id, error.message);
		sim_node_stop(world, node, 1);
		return;
	}
	node->n_executing = n;
	sim_push(world, disk_delay(world, node), SIM_EV_FLUSHED, node->slot, 0,
			 node->life, NULL);
}

/* The loop learns that the first n_executing jobs are durable. */
void
sim_flush_complete(SimWorld *world, SimNode *node)
{
	int			n = node->n_executing;
	int			i;
	size_t		k;

	if (node->paused)
	{
		sim_push(world, 2 * SIM_MS, SIM_EV_FLUSHED, node->slot, 0, node->life, NULL);
		return;
	}
	sim_node_tick(world, node);
	for (i = 0; i < n; i++)
	{
		SimJob	   *job = &node->jobs[i];

		pgraft_storage_complete(node->storage, job->job);
		job->job = NULL;
		if (sim_node_check_disk(world, node))
			return;
		node->durable_epoch = job->epoch;
		sim_check_durable(world, node);
		for (k = 0; k < job->n_after; k++)
			sim_net_send(world, node, job->after[k]);
		free(job->after);
		job->after = NULL;
		job->n_after = 0;
	}
	memmove(node->jobs, node->jobs + n, (size_t) (node->n_jobs - n) * sizeof(SimJob));
	node->n_jobs -= n;
	node->n_executing = 0;
	sim_flush_schedule(world, node, sim_below(world, 100));
	raft_persisted(node->raft, node->durable_epoch);
	if (!node->apply_scheduled)
	{
		raft_u64	life = node->life;

		sim_apply_run(world, node);
		if (node->life != life)
			return;
	}
	sim_node_pump(world, node);
}

/* Frees everything in memory; the process is ending. */
void
sim_flush_forget(SimNode *node)
{
	int			i;
	size_t		k;

	if (node->writer != NULL)
		pgraft_snapshot_abort(node->writer);
	node->writer = NULL;
	for (i = 0; i < node->n_jobs; i++)
	{
		SimJob	   *job = &node->jobs[i];

		if (job->job != NULL)
			pgraft_job_discard(job->job);
		for (k = 0; k < job->n_after; k++)
			free(job->after[k]);
		free(job->after);
	}
	memset(node->jobs, 0, sizeof(node->jobs));
	node->n_jobs = 0;
	node->n_executing = 0;
	node->flush_scheduled = 0;
	while (node->apply_head != NULL)
	{
		SimApply   *next = node->apply_head->next;

		free(node->apply_head);
		node->apply_head = next;
	}
	node->apply_tail = NULL;
	node->apply_scheduled = 0;
	node->install_pending = 0;
}

/* ----------------------------------------------------------------
 * Applying
 * ----------------------------------------------------------------
 */
static void
enqueue(SimNode *node, SimApply *item)
{
	if (node->apply_tail != NULL)
		node->apply_tail->next = item;
	else
		node->apply_head = item;
	node->apply_tail = item;
}

void
sim_apply_queue(SimWorld *world, SimNode *node, const struct raft_update *update)
{
	size_t		i;

	if (update->install != NULL)
	{
		SimApply   *item = sim_alloc(sizeof(SimApply));

		item->install = 1;
		item->install_epoch = update->epoch;
		item->entry.index = update->install->index;
		enqueue(node, item);
		node->install_pending++;
	}
	for (i = 0; i < update->n_apply; i++)
	{
		const struct raft_entry *entry = &update->apply[i];
		SimApply   *item = sim_alloc(sizeof(SimApply) + entry->length);

		item->entry = *entry;
		if (entry->length > 0)
		{
			memcpy(item + 1, entry->data, entry->length);
			item->entry.data = (unsigned char *) (item + 1);
		}
		enqueue(node, item);
	}
	if (update->n_apply > 0 && !node->apply_scheduled &&
		sim_chance(world, world->settings.slow_apply))
	{
		node->apply_scheduled = 1;
		sim_push(world, sim_below(world, world->election_us / 2), SIM_EV_APPLY,
				 node->slot, 0, node->life, NULL);
	}
}

static int
collect(void *arg, const unsigned char *data, size_t length)
{
	struct
	{
		unsigned char *bytes;
		size_t		length;
	}		   *buffer = arg;

	buffer->bytes = realloc(buffer->bytes, buffer->length + length + 1);
	if (buffer->bytes == NULL)
		abort();
	if (length > 0)
		memcpy(buffer->bytes + buffer->length, data, length);
	buffer->length += length;
	return 0;
}

/* Loads the newest snapshot, if there is one.  0: the member is not to go on. */
int
sim_load_machine(SimWorld *world, SimNode *node)
{
	struct
	{
		unsigned char *bytes;
		size_t		length;
	}			buffer = {NULL, 0};
	struct raft_snapshot_meta *meta = sim_alloc(sizeof(*meta));
	PgraftError error;
	PgraftErrorCode code;
	int			loaded = 1;

	error.message[0] = '\0';
	code = pgraft_storage_load_snapshot(node->storage, meta, collect, &buffer, &error);
	if (sim_node_check_disk(world, node))
		loaded = 0;
	else if (code == PGRAFT_OK)
	{
		if (!sim_machine_load(&node->machine, buffer.bytes, buffer.length) ||
			node->machine.applied != meta->index)
			sim_violation(world, "snapshot", "member %u loads a wrong snapshot of %lu",
						  node->id, meta->index);
		sim_trace(world, "LOAD %u snapshot of %lu", node->id, meta->index);
		sim_check_loaded(world, node);
	}
	else if (code != PGRAFT_ERR_NOT_FOUND)
	{
		sim_violation(world, "snapshot", "member %u: %s", node->id, error.message);
		loaded = 0;
	}
	free(buffer.bytes);
	free(meta);
	return loaded;
}

static void
answer_reads(SimWorld *world, SimNode *node)
{
	int			kept = 0;
	int			i;

	for (i = 0; i < node->n_reads; i++)
	{
		if (node->reads[i].index <= node->machine.applied)
			sim_client_read_result(world, node, node->reads[i].token, RAFT_OK);
		else
			node->reads[kept++] = node->reads[i];
	}
	node->n_reads = kept;
}

static int
apply_install(SimWorld *world, SimNode *node, const SimApply *item)
{
	if (!sim_load_machine(world, node))
		return 0;
	if (node->machine.applied < item->entry.index)
		sim_violation(world, "snapshot", "member %u installs %lu and loads %lu",
					  node->id, item->entry.index, node->machine.applied);
	if (node->machine.applied > item->entry.index)
		node->skip_until = node->machine.applied;
	node->install_pending--;
	sim_client_installed(world, node);
	return 1;
}

static void
apply_entry(SimWorld *world, SimNode *node, const struct raft_entry *entry)
{
	if (entry->index <= node->skip_until)
		return;
	if (entry->index != node->machine.applied + 1)
	{
		sim_violation(world, "apply exactly once", "member %u applies %lu after %lu",
					  node->id, entry->index, node->machine.applied);
		return;
	}
	if (sim_machine_apply(&node->machine, entry))
		SIM_COUNT(world, duplicates_suppressed);
	SIM_COUNT(world, applied);
	sim_check_applied(world, node, entry);
	sim_client_applied(world, node, entry);
}

/* Applies until the queue is empty or a snapshot is not durable yet. */
void
sim_apply_run(SimWorld *world, SimNode *node)
{
	raft_index	before = node->machine.applied;

	while (node->apply_head != NULL && !world->failed)
	{
		SimApply   *item = node->apply_head;
		raft_u64	life = node->life;

		if (item->install && node->durable_epoch < item->install_epoch)
			break;
		if (item->install)
		{
			if (!apply_install(world, node, item))
			{
				if (node->life != life)
					return;
				break;
			}
		}
		else
			apply_entry(world, node, &item->entry);
		node->apply_head = item->next;
		if (node->apply_head == NULL)
			node->apply_tail = NULL;
		free(item);
	}
	if (node->machine.applied != before)
		raft_applied(node->raft, node->machine.applied);
	answer_reads(world, node);
}

/* A slow state machine gets to its work. */
void
sim_apply_event(SimWorld *world, SimNode *node)
{
	raft_u64	life = node->life;

	if (node->paused)
	{
		sim_push(world, 2 * SIM_MS, SIM_EV_APPLY, node->slot, 0, node->life, NULL);
		return;
	}
	node->apply_scheduled = 0;
	sim_node_tick(world, node);
	sim_apply_run(world, node);
	if (node->life == life)
		sim_node_pump(world, node);
}

/* ----------------------------------------------------------------
 * Local snapshots
 * ----------------------------------------------------------------
 */
static int
write_snapshot(SimWorld *world, SimNode *node)
{
	size_t		size = sim_machine_snapshot_size(&node->machine, world->settings.ballast);
	unsigned char *bytes = sim_alloc(size);
	size_t		done = 0;
	PgraftError error;
	PgraftErrorCode code = PGRAFT_OK;

	sim_machine_save(&node->machine, world->settings.ballast, bytes);
	while (done < size && code == PGRAFT_OK)
	{
		size_t		n = sim_range(world, 1, size - done);

		code = pgraft_snapshot_write(node->writer, bytes + done, n, &error);
		done += n;
	}
	free(bytes);
	if (sim_node_check_disk(world, node))
		return 0;
	if (code == PGRAFT_OK)
		return 1;
	if (code != PGRAFT_ERR_NO_SPACE)
		sim_violation(world, "snapshot", "member %u cannot write: %s", node->id,
					  error.message);
	pgraft_snapshot_abort(node->writer);
	node->writer = NULL;
	sim_node_check_disk(world, node);
	return 0;
}

void
sim_snapshot_maybe(SimWorld *world, SimNode *node)
{
	struct raft_status status;
	PgraftError error;
	PgraftErrorCode code;
	int			result;

	if (node->writer != NULL || node->install_pending > 0 ||
		node->apply_head != NULL || world->failed)
		return;
	raft_status(node->raft, &status);
	if (node->machine.applied < status.snapshot_index + world->settings.snapshot_every)
		return;
	result = raft_snapshot_begin(node->raft, &node->writer_meta);
	if (result != RAFT_OK || node->writer_meta.index != node->machine.applied)
	{
		sim_violation(world, "snapshot", "member %u: begin gives %s at %lu, applied %lu",
					  node->id, raft_error_text(result), node->writer_meta.index,
					  node->machine.applied);
		return;
	}
	code = pgraft_snapshot_begin(node->storage, &node->writer_meta, &node->writer, &error);
	if (sim_node_check_disk(world, node))
		return;
	if (code != PGRAFT_OK)
	{
		node->writer = NULL;
		if (code != PGRAFT_ERR_NO_SPACE)
			sim_violation(world, "snapshot", "member %u cannot begin: %s", node->id,
						  error.message);
		return;
	}
	if (!write_snapshot(world, node))
		return;
	sim_trace(world, "SNAPSHOT %u at %lu", node->id, node->writer_meta.index);
	sim_push(world, disk_delay(world, node), SIM_EV_SNAPSHOT, node->slot, 0,
			 node->life, NULL);
}

/* A thread of its own finishes it, whatever jobs there are; the loop publishes it. */
void
sim_snapshot_finish(SimWorld *world, SimNode *node)
{
	PgraftError error;
	PgraftErrorCode code;
	raft_index	first_kept;

	if (node->paused)
	{
		sim_push(world, SIM_MS, SIM_EV_SNAPSHOT, node->slot, 0, node->life, NULL);
		return;
	}
	code = pgraft_snapshot_finish(node->writer, &error);
	if (sim_node_check_disk(world, node))
		return;
	if (code != PGRAFT_OK)
	{
		if (sim_disk_failing(node->disk))
		{
			SIM_COUNT(world, fsync_failures);
			sim_node_stop(world, node, 1);
			return;
		}
		if (code != PGRAFT_ERR_NO_SPACE)
			sim_violation(world, "snapshot", "member %u cannot finish: %s", node->id,
						  error.message);
		pgraft_snapshot_abort(node->writer);
		node->writer = NULL;
		sim_node_check_disk(world, node);
		return;
	}
	pgraft_snapshot_publish(node->writer);
	node->writer = NULL;
	SIM_COUNT(world, snapshots_taken);
	if (sim_node_check_disk(world, node))
		return;
	sim_node_tick(world, node);
	if (raft_compact(node->raft, &node->writer_meta, world->settings.retain,
					 &first_kept) == RAFT_OK)
	{
		SIM_COUNT(world, compactions);
		sim_trace(world, "COMPACT %u keeps from %lu", node->id, first_kept);
		pgraft_storage_forget(node->storage, first_kept);
	}
	if (sim_node_check_disk(world, node))
		return;
	sim_node_pump(world, node);
}
