/*-------------------------------------------------------------------------
 *
 * update.c
 *	  Assembles struct raft_update, and keeps account of what is durable.
 *
 * Each update that writes something gets the next epoch.  For each epoch in
 * flight it is remembered up to which entry it makes the log durable.  A
 * truncation cuts these marks back, so the completion of an epoch that wrote
 * entries which were overwritten meanwhile says nothing about their
 * successors (no ABA): those are covered by their own, later epoch.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "internal.h"

static void move_queue(struct raft *raft, struct raft_message_queue *from,
					   struct raft_message_queue *to);
static void swap_queues(struct raft_message_queue *a, struct raft_message_queue *b);
static void fill_write(struct raft *raft, struct raft_update *update);
static void fill_entries(struct raft *raft, struct raft_update *update);
static int	reserve_epoch(struct raft *raft);
static void remember_epoch(struct raft *raft, struct raft_update *update);
static int	nothing_to_write(const struct raft *raft);
static void fill_apply(struct raft *raft, struct raft_update *update);
static int	copy_apply(struct raft *raft, size_t n);
static int	has_update(const struct raft *raft);
static void release_now(struct raft *raft);

/* ----------------------------------------------------------------
 * Queues
 * ----------------------------------------------------------------
 */

int
raft_queue_reserve(struct raft *raft, struct raft_message_queue *queue)
{
	struct raft_message *bigger;
	size_t		size;

	if (queue->count < queue->size)
		return RAFT_OK;
	size = queue->size == 0 ? 256 : queue->size * 2;
	bigger = raft->allocator.allocate(raft->allocator.context,
									  size * sizeof(struct raft_message));
	if (bigger == NULL)
		return RAFT_E_NOMEM;
	if (queue->count > 0)
		memcpy(bigger, queue->messages, queue->count * sizeof(struct raft_message));
	raft->allocator.release(raft->allocator.context, queue->messages);
	queue->messages = bigger;
	queue->size = size;
	return RAFT_OK;
}

static void
swap_queues(struct raft_message_queue *a, struct raft_message_queue *b)
{
	struct raft_message_queue c = *a;

	*a = *b;
	*b = c;
}

/* What finds no room is lost; Raft tolerates that. */
static void
move_queue(struct raft *raft, struct raft_message_queue *from, struct raft_message_queue *to)
{
	size_t		i;

	for (i = 0; i < from->count; i++)
		if (raft_queue_reserve(raft, to) == RAFT_OK)
			to->messages[to->count++] = from->messages[i];
	from->count = 0;
}

/* ----------------------------------------------------------------
 * Durability
 * ----------------------------------------------------------------
 */

/* Entries from `from` on were cut off the log. */
void
raft_forget_undurable(struct raft *raft, raft_index from)
{
	size_t		i;

	for (i = 0; i < raft->epochs_count; i++)
	{
		struct raft_epoch *epoch =
			&raft->epochs[(raft->epochs_first + i) % raft->epochs_size];

		if (epoch->last >= from)
			epoch->last = from - 1;
	}
	if (raft->durable >= from)
		raft->durable = from - 1;
	if (raft->written >= from)
	{
		raft->written = from - 1;
		if (raft->truncate_from == 0 || from < raft->truncate_from)
			raft->truncate_from = from;
	}
	if (raft->log.evictable >= from)
		raft->log.evictable = from - 1;
}

/* Is the current term or vote still on its way to the disk? */
int
raft_state_undurable(const struct raft *raft)
{
	return raft->hard_state_dirty || raft->hard_state_epoch != 0;
}

void
raft_persisted(struct raft *raft, raft_u64 epoch)
{
	int			self_vote = 0;

	while (raft->epochs_count > 0)
	{
		struct raft_epoch *first = &raft->epochs[raft->epochs_first];

		if (first->epoch > epoch)
			break;
		if (first->last > raft->durable)
			raft->durable = first->last;
		if (first->epoch == raft->hard_state_epoch)
			raft->hard_state_epoch = 0;
		if (first->epoch == raft->self_vote_epoch)
			self_vote = 1;
		raft->epochs_first = (raft->epochs_first + 1) % raft->epochs_size;
		raft->epochs_count--;
	}
	RAFT_ASSERT(raft, raft->durable <= raft->log.last);
	raft->log.evictable = raft->durable;
	if (self_vote)
		raft_count_self_vote(raft);
	raft_maybe_commit(raft);
}

void
raft_applied(struct raft *raft, raft_index index)
{
	if (index <= raft->applied)
		return;
	RAFT_ASSERT(raft, index <= raft->apply_handed);
	raft->applied = index;
}

/* ----------------------------------------------------------------
 * The update
 * ----------------------------------------------------------------
 */

static int
nothing_to_write(const struct raft *raft)
{
	return !raft->hard_state_dirty && !raft->commit_dirty && !raft->chunk_ready &&
		!raft->install_ready && raft->written == raft->log.last &&
		raft->truncate_from == 0;
}

static int
has_update(const struct raft *raft)
{
	return raft->now_queue.count > 0 || raft->after_queue.count > 0 ||
		raft->out.count > 0 || raft->n_read_results > 0 || raft->notices != 0 ||
		!nothing_to_write(raft) ||
		(raft->apply_handed < raft->commit && raft->apply_handed == raft->applied);
}

/* What was given to the host with the last update is its no more. */
static void
release_now(struct raft *raft)
{
	raft->out.count = 0;
	raft->out_after.count = 0;
	raft->n_send_entries = 0;
	raft->send_arena_used = 0;
}

int
raft_take_update(struct raft *raft, struct raft_update *update)
{
	memset(update, 0, sizeof(*update));
	if (!raft->started)
		return 0;
	release_now(raft);
	if (raft->state == RAFT_LEADER && raft->round_due)
		raft_broadcast_heartbeat(raft);

	/* messages with payload come first into the list, then the queued ones */
	raft_generate_appends(raft);
	raft_generate_snapshot(raft);
	if (!has_update(raft))
		return 0;
	move_queue(raft, &raft->now_queue, &raft->out);

	/*
	 * The others are told of the removal with this update.  The reads that fail
	 * by it belong into this update too: their memory is shared with the next.
	 */
	if (raft->leave_when_sent)
	{
		raft->leave_when_sent = 0;
		raft_become_follower(raft, raft->term, 0);

		/* one that was only demoted goes on as a learner */
		if (raft_self(raft) == NULL)
		{
			raft->removed = 1;
			raft->notices |= RAFT_NOTICE_REMOVED;
		}
	}
	fill_write(raft, update);
	update->n_messages = raft->out.count;
	update->messages = raft->out.messages;
	update->n_messages_after = raft->out_after.count;
	update->messages_after = raft->out_after.messages;

	/* a new state machine comes before anything that follows it */
	if (update->install == NULL)
		fill_apply(raft, update);
	update->n_reads = raft->n_read_results;
	update->reads = raft->read_results;
	raft->n_read_results = 0;
	update->notices = raft->notices;
	raft->notices = 0;

	/* memory or a callback failed and nothing came of it: the host must not spin */
	return update->epoch != 0 || update->n_messages > 0 || update->n_apply > 0 ||
		update->n_reads > 0 || update->notices != 0;
}

static void
fill_write(struct raft *raft, struct raft_update *update)
{
	update->hard_state.term = raft->term;
	update->hard_state.vote = raft->vote;
	update->hard_state.commit = raft->commit;
	if (nothing_to_write(raft) && raft->epochs_count == 0)
	{
		/* everything the answers depend on is durable */
		move_queue(raft, &raft->after_queue, &raft->out);
		return;
	}
	if (nothing_to_write(raft) && raft->after_queue.count == 0)
		return;

	/* without memory everything stays as it is and is offered again */
	if (reserve_epoch(raft) != RAFT_OK)
		return;
	update->must_sync = raft->hard_state_dirty || raft->install_ready ||
		raft->truncate_from != 0 || raft->written < raft->log.last;
	update->hard_state_changed = raft->hard_state_dirty || raft->commit_dirty;
	if (raft->chunk_ready)
		update->chunk = &raft->chunk;
	if (raft->install_ready)
	{
		update->install = &raft->install_meta;
		update->install_keeps_log = raft->install_keeps_log;
	}
	fill_entries(raft, update);
	remember_epoch(raft, update);
	swap_queues(&raft->after_queue, &raft->out_after);
	raft->after_queue.count = 0;
	raft->chunk_ready = 0;
	raft->install_ready = 0;
	raft->hard_state_dirty = 0;
	raft->commit_dirty = 0;
}

/* Entries that are not written are all in the cache. */
static void
fill_entries(struct raft *raft, struct raft_update *update)
{
	raft_index	first = raft->written + 1;
	size_t		total = 0;

	update->truncate_from = raft->truncate_from;
	while (first + total <= raft->log.last)
	{
		size_t		n;
		int			from_cache;
		int			error;

		error = raft_log_read(&raft->log, first + total,
							  (size_t) (raft->log.last - first + 1) - total,
							  raft->log.n_bytes * 2, raft->write_entries + total,
							  &n, &from_cache);
		RAFT_ASSERT(raft, error == RAFT_OK && from_cache && n > 0);
		total += n;
		RAFT_ASSERT(raft, total <= raft->log.n_slots);
	}
	update->n_entries = total;
	update->entries = raft->write_entries;
}

static int
reserve_epoch(struct raft *raft)
{
	size_t		size = raft->epochs_size * 2;
	struct raft_epoch *bigger;
	size_t		i;

	if (raft->epochs_count < raft->epochs_size)
		return RAFT_OK;
	bigger = raft->allocator.allocate(raft->allocator.context,
									  size * sizeof(struct raft_epoch));
	if (bigger == NULL)
		return RAFT_E_NOMEM;
	for (i = 0; i < raft->epochs_count; i++)
		bigger[i] = raft->epochs[(raft->epochs_first + i) % raft->epochs_size];
	raft->allocator.release(raft->allocator.context, raft->epochs);
	raft->epochs = bigger;
	raft->epochs_size = size;
	raft->epochs_first = 0;
	return RAFT_OK;
}

static void
remember_epoch(struct raft *raft, struct raft_update *update)
{
	struct raft_epoch *epoch;

	epoch = &raft->epochs[(raft->epochs_first + raft->epochs_count) % raft->epochs_size];
	raft->epochs_count++;
	epoch->epoch = raft->next_epoch++;
	epoch->last = raft->log.last;
	epoch->begun = raft->now;
	epoch->must_sync = update->must_sync;
	if (raft->hard_state_dirty)
		raft->hard_state_epoch = epoch->epoch;
	if (raft->self_vote_waiting)
	{
		raft->self_vote_waiting = 0;
		raft->self_vote_epoch = epoch->epoch;
	}
	update->epoch = epoch->epoch;
	raft->written = raft->log.last;
	raft->truncate_from = 0;
}

static void
fill_apply(struct raft *raft, struct raft_update *update)
{
	raft_index	last = raft->commit;
	size_t		n = 0;
	size_t		i;
	int			from_cache;

	if (raft->apply_handed >= last || raft->apply_handed != raft->applied)
		return;
	if (last - raft->applied > RAFT_APPLY_ENTRIES)
		last = raft->applied + RAFT_APPLY_ENTRIES;
	if (raft_log_read(&raft->log, raft->applied + 1, (size_t) (last - raft->applied),
					  raft->params.max_apply_bytes, raft->apply_entries, &n,
					  &from_cache) != RAFT_OK)
		return;
	if (n == 0 || (!from_cache && !copy_apply(raft, n)))
		return;
	for (i = 0; i < n; i++)
	{
		const struct raft_entry *entry = &raft->apply_entries[i];

		if (entry->type == RAFT_ENTRY_CONFIG &&
			raft_config_decode(&raft->applied_config, entry->data, entry->length) == RAFT_OK)
			raft->applied_config.index = entry->index;
		if (raft->state == RAFT_LEADER && entry->index >= raft->term_start)
			raft->uncommitted_bytes -= entry->length < raft->uncommitted_bytes ?
				entry->length : raft->uncommitted_bytes;
	}
	raft->apply_handed = raft->applied + n;
	update->n_apply = n;
	update->apply = raft->apply_entries;
}

static int
copy_apply(struct raft *raft, size_t n)
{
	size_t		total = 0;
	size_t		i;

	for (i = 0; i < n; i++)
		total += raft->apply_entries[i].length;
	if (total > raft->apply_arena_size)
	{
		raft->allocator.release(raft->allocator.context, raft->apply_arena);
		raft->apply_arena_size = 0;
		raft->apply_arena = raft->allocator.allocate(raft->allocator.context, total);
		if (raft->apply_arena == NULL)
			return 0;
		raft->apply_arena_size = total;
	}
	total = 0;
	for (i = 0; i < n; i++)
	{
		if (raft->apply_entries[i].length == 0)
			continue;
		memcpy(raft->apply_arena + total, raft->apply_entries[i].data,
			   raft->apply_entries[i].length);
		raft->apply_entries[i].data = raft->apply_arena + total;
		total += raft->apply_entries[i].length;
	}
	return 1;
}
