/*-------------------------------------------------------------------------
 *
 * life.c
 *	  Creation, recovery and end of an engine.
 *
 * Everything is allocated here, once.  Recovery feeds the engine what the disk
 * has, in the order of the disk; raft_start() checks that it makes sense as a
 * whole before the first event may come.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "internal.h"

static int allocate_all(struct raft *raft);
static int check_params(const struct raft_params *params);
static int restore_config(struct raft *raft, const struct raft_entry *entry);

void
raft_params_default(struct raft_params *params)
{
	raft_id		id = params->id;
	raft_u64	incarnation = params->incarnation;
	raft_u64	seed = params->seed;

	memset(params, 0, sizeof(*params));
	params->id = id;
	params->incarnation = incarnation;
	params->seed = seed;
	params->election_timeout_ms = 1000;
	params->heartbeat_interval_ms = 100;
	params->fast_detection = 1;
	params->lease_reads = 0;
	params->drift_bound_ppm = 10000;
	params->max_entry_bytes = 1024 * 1024;
	params->max_message_bytes = 256 * 1024;
	params->max_message_entries = 512;
	params->max_inflight_messages = 64;
	params->max_inflight_bytes = 4 * 1024 * 1024;
	params->max_uncommitted_bytes = 2 * 1024 * 1024;
	params->cache_bytes = 4 * 1024 * 1024;
	params->max_apply_bytes = 1024 * 1024;
	params->snapshot_chunk_bytes = 256 * 1024;
	params->snapshot_bytes_per_second = 0;
}

static int
check_params(const struct raft_params *params)
{
	if (params->id == 0 || params->incarnation == 0)
		return RAFT_E_INVALID;
	if (params->heartbeat_interval_ms == 0 ||
		params->heartbeat_interval_ms * 3 > params->election_timeout_ms)
		return RAFT_E_INVALID;
	if (params->max_entry_bytes == 0 || params->cache_bytes < 2 * params->max_entry_bytes)
		return RAFT_E_INVALID;
	if (params->max_message_entries == 0 ||
		params->max_message_entries > RAFT_SEND_ENTRIES ||
		params->max_inflight_messages == 0 || params->snapshot_chunk_bytes == 0)
		return RAFT_E_INVALID;
	if (params->lease_reads && params->fast_detection)
		return RAFT_E_INVALID;
	return RAFT_OK;
}

int
raft_create(struct raft **result, const struct raft_params *params,
			const struct raft_allocator *allocator,
			const struct raft_callbacks *callbacks)
{
	struct raft *raft;
	int			error = check_params(params);

	*result = NULL;
	if (error != RAFT_OK)
		return error;
	raft = allocator->allocate(allocator->context, sizeof(struct raft));
	if (raft == NULL)
		return RAFT_E_NOMEM;
	memset(raft, 0, sizeof(*raft));
	raft->params = *params;
	raft->allocator = *allocator;
	raft->callbacks = *callbacks;
	raft->random_state = params->seed;
	raft->next_epoch = 1;
	error = allocate_all(raft);
	if (error != RAFT_OK)
	{
		raft_destroy(raft);
		return error;
	}
	*result = raft;
	return RAFT_OK;
}

static void *
allocate(struct raft *raft, size_t size)
{
	return raft->allocator.allocate(raft->allocator.context, size);
}

static int
allocate_all(struct raft *raft)
{
	int			error;
	int			i;

	error = raft_log_init(&raft->log, &raft->allocator, &raft->callbacks,
						  raft->params.cache_bytes);
	if (error != RAFT_OK)
		return error;
	raft->inflight_block = allocate(raft, RAFT_MAX_MEMBERS *
									raft->params.max_inflight_messages *
									sizeof(struct raft_inflight));
	raft->reads = allocate(raft, RAFT_MAX_PENDING_READS * sizeof(struct raft_pending_read));
	raft->read_results = allocate(raft, RAFT_MAX_PENDING_READS *
								  sizeof(struct raft_read_result));
	raft->send_entries = allocate(raft, RAFT_SEND_ENTRIES * sizeof(struct raft_entry));
	raft->write_entries = allocate(raft, raft->log.n_slots * sizeof(struct raft_entry));
	raft->apply_entries = allocate(raft, RAFT_APPLY_ENTRIES * sizeof(struct raft_entry));
	raft->epochs_size = 64;
	raft->epochs = allocate(raft, raft->epochs_size * sizeof(struct raft_epoch));
	if (raft->inflight_block == NULL || raft->reads == NULL || raft->read_results == NULL ||
		raft->send_entries == NULL || raft->write_entries == NULL ||
		raft->apply_entries == NULL || raft->epochs == NULL)
		return RAFT_E_NOMEM;
	for (i = 0; i < RAFT_MAX_MEMBERS; i++)
		raft->peers[i].inflight =
			raft->inflight_block + (size_t) i * raft->params.max_inflight_messages;
	return RAFT_OK;
}

void
raft_destroy(struct raft *raft)
{
	void	   *blocks[13];
	struct raft_allocator allocator;
	int			n = 0;
	int			i;

	if (raft == NULL)
		return;
	allocator = raft->allocator;
	raft_log_free(&raft->log);
	blocks[n++] = raft->inflight_block;
	blocks[n++] = raft->reads;
	blocks[n++] = raft->read_results;
	blocks[n++] = raft->send_entries;
	blocks[n++] = raft->write_entries;
	blocks[n++] = raft->apply_entries;
	blocks[n++] = raft->epochs;
	blocks[n++] = raft->now_queue.messages;
	blocks[n++] = raft->after_queue.messages;
	blocks[n++] = raft->out.messages;
	blocks[n++] = raft->out_after.messages;
	blocks[n++] = raft->send_arena;
	blocks[n++] = raft->apply_arena;
	for (i = 0; i < n; i++)
		allocator.release(allocator.context, blocks[i]);
	allocator.release(allocator.context, raft->chunk_buffer);
	allocator.release(allocator.context, raft);
}

int
raft_restore_hard_state(struct raft *raft, const struct raft_hard_state *state)
{
	/* a log never goes back */
	if (state->term < raft->term)
		return RAFT_E_CORRUPT;
	raft->term = state->term;
	raft->vote = state->vote;
	if (state->commit > raft->commit)
		raft->commit = state->commit;
	return RAFT_OK;
}

int
raft_restore_snapshot(struct raft *raft, const struct raft_snapshot_meta *meta)
{
	if (meta->index == 0)
		return RAFT_E_CORRUPT;
	raft->snapshot = *meta;
	raft->applied = meta->index;
	raft->applied_config = meta->config;
	raft->config = meta->config;
	raft->has_previous = 0;
	if (raft->commit < meta->index)
		raft->commit = meta->index;
	return RAFT_OK;
}

int
raft_restore_log_start(struct raft *raft, raft_index index, raft_term term)
{
	raft_log_reset(&raft->log, index, term);
	return RAFT_OK;
}

int
raft_restore_truncate(struct raft *raft, raft_index from)
{
	struct raft_log *log = &raft->log;

	if (from <= log->base_index)
		return RAFT_E_CORRUPT;
	raft->restore_skips = 0;
	if (from > log->last)
		return RAFT_OK;

	/*
	 * What is replayed may be older than the snapshot, so a configuration from
	 * the snapshot stays; one from an entry behind it goes.
	 */
	if (raft->has_previous && raft->config.index >= from)
	{
		raft->config = raft->previous;
		raft->has_previous = 0;
	}
	raft_log_truncate(log, from);
	return RAFT_OK;
}

/*
 * The log begins after an entry that may be younger than what the replay
 * brings first: entries that were truncated together with the predecessor of
 * that one.  They are skipped; the truncation, or the entry that replaced the
 * first of them, must follow.
 */
int
raft_restore_entry(struct raft *raft, const struct raft_entry *entry)
{
	struct raft_log *log = &raft->log;
	int			error;

	if (entry->index <= log->base_index)
		return RAFT_E_CORRUPT;
	if (entry->index > log->last + 1)
		return raft->restore_skips ? RAFT_OK : RAFT_E_CORRUPT;
	error = raft_restore_truncate(raft, entry->index);
	if (error != RAFT_OK)
		return error;
	if (entry->term < raft_log_last_term(log))
	{
		if (log->last > log->base_index)
			return RAFT_E_CORRUPT;
		raft->restore_skips = 1;
		return RAFT_OK;
	}
	if (entry->type == RAFT_ENTRY_CONFIG && entry->index > raft->snapshot.index)
	{
		error = restore_config(raft, entry);
		if (error != RAFT_OK)
			return error;
	}
	return raft_log_restore(log, entry->index, entry->term);
}

static int
restore_config(struct raft *raft, const struct raft_entry *entry)
{
	struct raft_config config;

	if (raft_config_decode(&config, entry->data, entry->length) != RAFT_OK)
		return RAFT_E_CORRUPT;
	config.index = entry->index;
	raft->previous = raft->config;
	raft->has_previous = 1;
	raft->config = config;
	return RAFT_OK;
}

int
raft_start(struct raft *raft, raft_time now)
{
	raft_term	term;

	raft->now = now;
	raft->started_at = now;
	if (raft->restore_skips)
		return RAFT_E_CORRUPT;	/* the truncation never came */
	if (raft->log.last < raft->snapshot.index)
		raft_log_reset(&raft->log, raft->snapshot.index, raft->snapshot.term);
	if (raft->log.base_index > raft->snapshot.index)
		return RAFT_E_CORRUPT;
	if (raft->snapshot.index > 0 &&
		(raft_log_term(&raft->log, raft->snapshot.index, &term) != RAFT_OK ||
		 term != raft->snapshot.term))
		return RAFT_E_CORRUPT;
	if (raft_log_last_term(&raft->log) > raft->term)
		return RAFT_E_CORRUPT;

	/* the hint may be ahead of what the last crash left in the log */
	if (raft->commit > raft->log.last)
		raft->commit = raft->log.last;
	raft->apply_handed = raft->applied;
	raft->written = raft->log.last;
	raft->durable = raft->log.last;
	raft->log.evictable = raft->durable;
	raft_install_config(raft, &raft->config);
	raft->state = RAFT_FOLLOWER;
	raft_reset_election_deadline(raft);

	/* nobody else to hear from */
	if (raft_config_count_voters(&raft->config) == 1 && raft_self(raft) != NULL &&
		raft_may_campaign(raft))
		raft->election_deadline = now;
	raft->notices = RAFT_NOTICE_STATE | RAFT_NOTICE_CONFIG;
	raft->started = 1;
	return RAFT_OK;
}

int
raft_bootstrap_entry(const struct raft_member *first_voter, struct raft_entry *entry,
					 unsigned char *payload)
{
	struct raft_config config;

	memset(&config, 0, sizeof(config));
	config.index = 1;
	config.n_members = 1;
	config.members[0] = *first_voter;
	config.members[0].incarnation = 1;
	config.members[0].role = RAFT_VOTER;
	config.members[0].old_role = RAFT_ROLE_NONE;
	config.members[0].target_role = RAFT_VOTER;
	memset(entry, 0, sizeof(*entry));
	entry->index = 1;
	entry->term = 1;
	entry->type = RAFT_ENTRY_CONFIG;
	entry->length = raft_config_encode(&config, payload, RAFT_CONFIG_MAX_BYTES);
	entry->data = payload;
	return entry->length > 0 ? RAFT_OK : RAFT_E_INVALID;
}
