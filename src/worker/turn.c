/*-------------------------------------------------------------------------
 *
 * turn.c
 *	  Carries out what the engine decided: sends, hands writes to the flush
 *	  thread, sends what had to wait for the disk, applies, snapshots.
 *
 * Order within one update (include/pgraft/raft.h): messages that may go now;
 * the batch to write; messages held until that batch is durable; committed
 * entries to apply.  The leader's disk and the followers' disks thus work in
 * parallel.
 *
 * A batch that holds nothing but a newer commit hint is not written at once:
 * the next batch carries it, or housekeeping after a second of quiet.  Such an
 * epoch counts as durable together with the batch before it.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pgraft/settings.h"
#include "pgraft/state_machine.h"
#include "pgraft/worker.h"

#define SNAPSHOT_RETRY_MS 10000 /* after one that failed */
#define SNAPSHOT_STEP_US 1000	/* serialising a snapshot, per turn */
#define HINT_INTERVAL_MS 1000	/* commit hint on disk is at most this old */

static raft_u64 write_update(PgraftNode *node, const struct raft_update *update);
static void send_message(PgraftNode *node, const struct raft_message *message);
static PgraftJob *submit_update(PgraftNode *node, const struct raft_update *update);
static void remember_epoch(PgraftNode *node, raft_u64 epoch);
static void hold_messages(PgraftNode *node, const struct raft_update *update);
static void epoch_durable(PgraftNode *node, raft_u64 epoch);
static void apply_update(PgraftNode *node, const struct raft_update *update);
static void take_notice(PgraftNode *node, unsigned notices);
static void log_state(PgraftNode *node);
static void installed(PgraftNode *node);
static void snapshot_finished(PgraftNode *node, const PgraftFlushDone *done,
							  const PgraftError *error);
static void snapshot_failed(PgraftNode *node, const PgraftError *error);
static void cancel_snapshot(PgraftNode *node);
static PgraftJob *write_hint(PgraftNode *node, bool sync);
static void snapshot_piece(void *arg, const void *data, size_t length);

static raft_time snapshot_retry_at = 0;
static bool snapshot_failure_said = false;

void
pgraft_turn_updates(PgraftNode *node)
{
	struct raft_update update;

	while (node->raft != NULL && !node->installing &&
		   raft_take_update(node->raft, &update))
	{
		raft_u64	settled = 0;
		size_t		i;

		for (i = 0; i < update.n_messages; i++)
			send_message(node, &update.messages[i]);
		if (update.epoch != 0)
			settled = write_update(node, &update);
		if (node->raft == NULL)
			return;				/* the write failed for good */
		for (i = 0; i < update.n_reads; i++)
			pgraft_service_read_ready(node, &update.reads[i]);
		apply_update(node, &update);
		take_notice(node, update.notices);

		/* last, because it ends the life of what the update points to */
		if (settled != 0 && node->raft != NULL)
			epoch_durable(node, settled);
	}
}

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

/* Returns an epoch that is durable already, or 0. */
static raft_u64
write_update(PgraftNode *node, const struct raft_update *update)
{
	hold_messages(node, update);
	if (update->must_sync || update->chunk != NULL)
	{
		(void) submit_update(node, update);
		return 0;
	}
	node->hint_dirty = true;
	if (node->n_inflight == 0)
		return update->epoch;
	node->inflight[node->n_inflight - 1] = update->epoch;
	return 0;
}

/* Without a listener there are no connections either. */
static void
send_message(PgraftNode *node, const struct raft_message *message)
{
	if (node->net != NULL)
		(void) pgraft_net_send_message(node->net, message);
}

/* Returns the job, or NULL when the member has failed. */
static PgraftJob *
submit_update(PgraftNode *node, const struct raft_update *update)
{
	struct raft_update with_hint = *update;
	PgraftJob  *job;
	PgraftError error;

	memset(&error, 0, sizeof(error));
	if (node->hint_dirty)
		with_hint.hard_state_changed = 1;
	if (pgraft_storage_prepare(node->storage, &with_hint, &job, &error) != PGRAFT_OK)
	{
		pgraft_node_fail(node, &error, "a write could not be prepared");
		return NULL;
	}
	node->hint_dirty = false;
	node->hint_written = node->now;
	node->status.pending_write_bytes += pgraft_job_bytes(job);
	remember_epoch(node, update->epoch);
	if (update->install != NULL)
		node->installing = true;
	if (!pgraft_flush_submit(node->flush, job))
	{
		pgraft_job_discard(job);
		pgraft_error(&error, PGRAFT_ERR_NOMEM, "out of memory");
		pgraft_node_fail(node, &error, "a write could not be prepared");
		return NULL;
	}
	return job;
}

static void
remember_epoch(PgraftNode *node, raft_u64 epoch)
{
	if (node->n_inflight == node->inflight_size)
	{
		node->inflight_size = Max(64, node->inflight_size * 2);
		if (node->inflight == NULL)
			node->inflight = MemoryContextAlloc(TopMemoryContext,
												node->inflight_size * sizeof(raft_u64));
		else
			node->inflight = repalloc(node->inflight,
									  node->inflight_size * sizeof(raft_u64));
	}
	node->inflight[node->n_inflight++] = epoch;
}

/* They are answers and carry no payload, so a flat copy is a whole one. */
static void
hold_messages(PgraftNode *node, const struct raft_update *update)
{
	size_t		i;

	for (i = 0; i < update->n_messages_after; i++)
	{
		const struct raft_message *message = &update->messages_after[i];

		Assert(message->n_entries == 0 && message->snapshot == NULL &&
			   message->chunk_length == 0);
		if (!pgraft_held_add(&node->held, update->epoch, message))
			node->status.messages_dropped++;
	}
}

static void
epoch_durable(PgraftNode *node, raft_u64 epoch)
{
	const struct raft_message *message;

	while ((message = pgraft_held_take(&node->held, epoch)) != NULL)
		send_message(node, message);
	if (epoch != 0)
		raft_persisted(node->raft, epoch);
}

/* What the flush thread has finished since the last turn. */
void
pgraft_turn_flushed(PgraftNode *node)
{
	PgraftFlushDone done;
	PgraftError error;

	memset(&error, 0, sizeof(error));
	while (node->flush != NULL && pgraft_flush_reap(node->flush, &done, &error))
	{
		raft_u64	epoch;

		if (done.snapshot != NULL)
		{
			snapshot_finished(node, &done, &error);
			continue;
		}
		if (done.code != PGRAFT_OK)
		{
			pgraft_job_discard(done.job);
			pgraft_node_fail(node, &error, "its log could not be written");
			pgraft_service_fail_all(node,
									"The consensus log could not be written on this member.");
			return;
		}
		node->status.pending_write_bytes -= pgraft_job_bytes(done.job);
		epoch = node->inflight[0];
		node->n_inflight--;
		memmove(node->inflight, node->inflight + 1, node->n_inflight * sizeof(raft_u64));
		if (done.job == node->snapshot_job)
		{
			node->snapshot_job = NULL;
			pgraft_service_snapshot_done(node, node->snapshot_meta->index, NULL);
		}
		pgraft_storage_complete(node->storage, done.job);
		epoch_durable(node, epoch);
		if (node->installing && node->n_inflight == 0)
			installed(node);
	}
}

/* The leader's snapshot is durable: it replaces the state machine. */
static void
installed(PgraftNode *node)
{
	PgraftError error;

	memset(&error, 0, sizeof(error));
	node->installing = false;
	cancel_snapshot(node);
	node->status.store_loaded = false;
	pgraft_publish(node, true);
	if (!pgraft_node_load_snapshot(node, &error))
	{
		pgraft_node_fail(node, &error, "the leader's snapshot cannot be used");
		return;
	}
	node->status.snapshots_installed++;
	ereport(LOG,
			(errmsg("pgraft installed the leader's snapshot")));
}

/*
 * A batch of our own, with the commit hint and whatever the storage itself has
 * to record.  A term or vote that the engine has not handed over yet may
 * become durable by it; earlier than announced does no harm.
 */
static PgraftJob *
write_hint(PgraftNode *node, bool sync)
{
	struct raft_update update;
	struct raft_status status;

	raft_status(node->raft, &status);
	memset(&update, 0, sizeof(update));
	update.hard_state_changed = 1;
	update.hard_state.term = status.term;
	update.hard_state.vote = status.vote;
	update.hard_state.commit = status.commit_index;
	update.must_sync = sync;
	return submit_update(node, &update);
}

/* ----------------------------------------------------------------
 * Applying
 * ----------------------------------------------------------------
 */

static void
apply_update(PgraftNode *node, const struct raft_update *update)
{
	size_t		i;

	if (update->n_apply == 0)
		return;
	for (i = 0; i < update->n_apply; i++)
	{
		PgraftApplyResult result;

		memset(&result, 0, sizeof(result));
		if (!pgraft_state_apply(&update->apply[i], &result))
		{
			PgraftError error;

			memset(&error, 0, sizeof(error));
			pgraft_error(&error, PGRAFT_ERR_NOMEM,
						 "out of shared memory while applying log entry %lu",
						 update->apply[i].index);
			pgraft_node_fail(node, &error, "its copy of the store would differ");
			return;
		}
		node->status.entries_applied++;
		pgraft_service_applied(node, &update->apply[i], &result);
	}
	raft_applied(node->raft, update->apply[update->n_apply - 1].index);
}

static void
take_notice(PgraftNode *node, unsigned notices)
{
	if (notices == 0 || node->raft == NULL)
		return;
	node->notices |= notices;
	if (notices & (RAFT_NOTICE_CONFIG | RAFT_NOTICE_STATE))
		node->peers_changed = true;
	if ((notices & RAFT_NOTICE_REMOVED) && node->state == PGRAFT_WORKER_RUNNING)
	{
		node->state = PGRAFT_WORKER_REMOVED;
		ereport(LOG,
				(errmsg("pgraft member %u was removed from its cluster",
						node->identity.node_id)));
	}
	if (notices & (RAFT_NOTICE_STATE | RAFT_NOTICE_LEADER))
	{
		log_state(node);
		pgraft_service_leader_changed(node);
	}
}

/* One line for each change that a DBA would look for afterwards. */
static void
log_state(PgraftNode *node)
{
	struct raft_status status;

	raft_status(node->raft, &status);
	if (status.state == RAFT_LEADER &&
		(node->logged_state != RAFT_LEADER || node->logged_term != status.term))
		ereport(LOG,
				(errmsg("pgraft member %u became leader in term %lu", status.id, status.term)));
	else if (status.state != RAFT_LEADER && node->logged_state == RAFT_LEADER)
		ereport(LOG,
				(errmsg("pgraft member %u stopped being leader, term is %lu",
						status.id, status.term)));
	if (status.leader != node->logged_leader)
	{
		if (status.leader != 0 && status.leader != status.id)
			ereport(LOG,
					(errmsg("pgraft member %u follows leader %u in term %lu",
							status.id, status.leader, status.term)));
		else if (status.leader == 0)
			ereport(LOG,
					(errmsg("pgraft member %u knows no leader, term is %lu",
							status.id, status.term)));
		if (status.leader != 0)
		{
			node->status.leader_changes++;
			node->status.leader_since = GetCurrentTimestamp();
		}
		else
			node->status.leader_since = 0;
	}
	node->logged_state = status.state;
	node->logged_term = status.term;
	node->logged_leader = status.leader;
}

/* ----------------------------------------------------------------
 * Snapshots of our own
 * ----------------------------------------------------------------
 */

/*
 * Begins one at the applied index; the turns that follow serialise the store
 * (pgraft_turn_snapshot), a thread writes and finishes it.  *index is where it
 * will be.  With nothing new applied, or one under way, only *index is set.
 */
bool
pgraft_start_snapshot(PgraftNode *node, raft_index *index, PgraftError *error)
{
	struct raft_status status;

	raft_status(node->raft, &status);
	*index = status.snapshot_index;
	if (node->snapshot != NULL || node->snapshot_job != NULL)
	{
		*index = node->snapshot_meta->index;
		return true;
	}
	if (status.applied_index <= status.snapshot_index)
		return true;
	if (pgraft_flush_no_space(node->flush))
	{
		pgraft_error(error, PGRAFT_ERR_NO_SPACE, "The disk is full.");
		return false;
	}
	if (node->snapshot_meta == NULL)
		node->snapshot_meta = MemoryContextAlloc(TopMemoryContext,
												 sizeof(struct raft_snapshot_meta));
	if (raft_snapshot_begin(node->raft, node->snapshot_meta) != RAFT_OK)
	{
		pgraft_error(error, PGRAFT_ERR_INTERNAL, "no snapshot is possible now");
		return false;
	}
	if (pgraft_snapshot_begin(node->storage, node->snapshot_meta, &node->snapshot,
							  error) != PGRAFT_OK)
	{
		node->snapshot = NULL;
		return false;
	}
	*index = node->snapshot_meta->index;
	node->saving = true;
	pgraft_state_save_begin(snapshot_piece, node);
	return true;
}

static void
snapshot_piece(void *arg, const void *data, size_t length)
{
	PgraftNode *node = arg;

	pgraft_flush_snapshot_data(node->flush, node->snapshot, data, length);
}

/* Serialises a little more, unless the disk has enough to do with the rest. */
void
pgraft_turn_snapshot(PgraftNode *node)
{
	if (!node->saving || node->installing ||
		!pgraft_flush_wants_snapshot_data(node->flush) ||
		!pgraft_state_save_step(SNAPSHOT_STEP_US))
		return;
	node->saving = false;
	pgraft_flush_submit_snapshot(node->flush, node->snapshot);
}

/* Is there a reason not to sleep? */
bool
pgraft_turn_snapshot_goes_on(PgraftNode *node)
{
	return node->saving && !node->installing &&
		pgraft_flush_wants_snapshot_data(node->flush);
}

/* The leader's was newer. */
static void
cancel_snapshot(PgraftNode *node)
{
	if (!node->saving)
		return;
	pgraft_state_save_cancel();
	node->saving = false;
	node->snapshot_cancelled = true;
	pgraft_flush_cancel_snapshot(node->flush, node->snapshot);
}

static void
snapshot_finished(PgraftNode *node, const PgraftFlushDone *done, const PgraftError *error)
{
	raft_index	index = node->snapshot_meta->index;
	raft_index	first_kept;

	node->snapshot = NULL;
	if (node->snapshot_cancelled)
	{
		node->snapshot_cancelled = false;
		pgraft_snapshot_abort(done->snapshot);
		pgraft_service_snapshot_done(node, index, NULL);
		return;
	}
	if (done->code != PGRAFT_OK)
	{
		pgraft_snapshot_abort(done->snapshot);
		snapshot_failed(node, error);
		pgraft_service_snapshot_done(node, index, error);
		return;
	}
	snapshot_failure_said = false;
	pgraft_snapshot_publish(done->snapshot);
	if (raft_compact(node->raft, node->snapshot_meta,
					 (raft_index) pgraft_max_log_entries, &first_kept) == RAFT_OK)
		pgraft_storage_forget(node->storage, first_kept);
	node->status.snapshots_taken++;
	elog(DEBUG1, "pgraft took a snapshot at index %lu, log begins at %lu",
		 index, first_kept);

	/* recovery believes in a snapshot only when the log mentions it */
	node->snapshot_job = write_hint(node, true);
}

/* It is tried again and again; the first failure is worth a line. */
static void
snapshot_failed(PgraftNode *node, const PgraftError *error)
{
	snapshot_retry_at = node->now + SNAPSHOT_RETRY_MS;
	if (!snapshot_failure_said)
		pgraft_report(LOG, error);
	snapshot_failure_said = true;
}

/* Once per turn: what depends on amounts and on the passing of time. */
void
pgraft_turn_housekeeping(PgraftNode *node)
{
	struct raft_status status;

	pgraft_node_watch_disk(node);
	if (node->raft == NULL || node->installing)
		return;
	raft_status(node->raft, &status);
	if (node->snapshot == NULL && node->snapshot_job == NULL &&
		node->now >= snapshot_retry_at && !node->disk_full &&
		status.applied_index - status.snapshot_index >= (raft_index) pgraft_snapshot_interval)
	{
		PgraftError error;
		raft_index	index;

		memset(&error, 0, sizeof(error));
		if (!pgraft_start_snapshot(node, &index, &error))
			snapshot_failed(node, &error);
	}
	if (node->hint_dirty && node->n_inflight == 0 &&
		node->now - node->hint_written >= HINT_INTERVAL_MS)
		(void) write_hint(node, false);
}
