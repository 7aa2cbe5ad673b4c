/*-------------------------------------------------------------------------
 *
 * snapshot.c
 *	  Snapshots: taking one, sending one in chunks, receiving one (diss.
 *	  chapter 5).
 *
 * A follower in state "snapshot" gets one chunk at a time; its answer names the
 * next byte that it wants, so an interrupted transfer goes on where it
 * stopped, as long as the snapshot is the same.  Chunks are outside the window
 * of entries and limited to a rate.
 *
 * The receiver writes chunks as they come (each answered when its batch is
 * through) and installs with the last one: the host makes file and log switch
 * durable in one batch.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "internal.h"

static int	chunk_wanted(const struct raft *raft, const struct raft_peer *peer);
static int	send_chunk(struct raft *raft, int position);
static int	keep_chunk(struct raft *raft, const struct raft_message *message);
static void answer_offset(struct raft *raft, const struct raft_message *message,
						  raft_u64 offset);
static void install(struct raft *raft, const struct raft_snapshot_meta *meta);

/* ----------------------------------------------------------------
 * Our own
 * ----------------------------------------------------------------
 */

int
raft_snapshot_begin(struct raft *raft, struct raft_snapshot_meta *meta)
{
	if (raft->applied == 0 || raft->applied != raft->apply_handed)
		return RAFT_E_UNAVAILABLE;
	meta->index = raft->applied;
	meta->config = raft->applied_config;
	return raft_log_term(&raft->log, raft->applied, &meta->term);
}

int
raft_compact(struct raft *raft, const struct raft_snapshot_meta *meta,
			 raft_index retain, raft_index *first_kept)
{
	raft_index	index;

	*first_kept = raft->log.base_index + 1;
	if (meta->index <= raft->snapshot.index)
		return RAFT_OK;			/* one from the leader was newer */
	if (meta->index > raft->applied)
		return RAFT_E_INVALID;
	raft->snapshot = *meta;
	index = meta->index > retain ? meta->index - retain : 0;

	/* what is not durable yet is needed by the batch that writes it */
	if (index > raft->durable)
		index = raft->durable;
	if (index > raft->log.base_index)
		raft_log_compact(&raft->log, index);
	*first_kept = raft->log.base_index + 1;
	return RAFT_OK;
}

/* ----------------------------------------------------------------
 * Sender
 * ----------------------------------------------------------------
 */

static int
chunk_wanted(const struct raft *raft, const struct raft_peer *peer)
{
	if (peer->progress != RAFT_PROGRESS_SNAPSHOT || !peer->connected)
		return 0;
	if (peer->chunk_inflight)
		return raft->now >= peer->chunk_sent + raft->params.election_timeout_ms / 2;
	return raft->now >= peer->chunk_due;
}

raft_time
raft_snapshot_deadline(const struct raft *raft)
{
	raft_time	deadline = raft->now + RAFT_NEVER;
	int			i;

	for (i = 0; i < raft->config.n_members; i++)
	{
		const struct raft_peer *peer = &raft->peers[i];
		raft_time	due;

		if (peer->id == raft->params.id || peer->progress != RAFT_PROGRESS_SNAPSHOT ||
			!peer->connected)
			continue;
		due = peer->chunk_inflight ?
			peer->chunk_sent + raft->params.election_timeout_ms / 2 : peer->chunk_due;
		if (due < deadline)
			deadline = due;
	}
	return deadline;
}

/* One chunk per update: the callback's memory holds only one. */
void
raft_generate_snapshot(struct raft *raft)
{
	int			i;

	if (raft->state != RAFT_LEADER)
		return;
	for (i = 0; i < raft->config.n_members; i++)
	{
		if (raft->peers[i].id == raft->params.id || !chunk_wanted(raft, &raft->peers[i]))
			continue;
		if (send_chunk(raft, i))
			return;
	}
}

static int
send_chunk(struct raft *raft, int position)
{
	const struct raft_member *member = &raft->config.members[position];
	struct raft_peer *peer = &raft->peers[position];
	struct raft_message *message;
	const unsigned char *data = NULL;
	size_t		n = 0;
	raft_u64	total = 0;
	int			error;

	if (peer->snapshot_index != raft->snapshot.index)
		raft_progress_snapshot(peer, raft->snapshot.index);
	error = raft->callbacks.read_snapshot(raft->callbacks.context, peer->snapshot_index,
										  peer->snapshot_offset,
										  raft->params.snapshot_chunk_bytes,
										  &data, &n, &total);
	if (error != RAFT_OK || (n == 0 && peer->snapshot_offset < total) ||
		peer->snapshot_offset + n > total)
	{
		/* not durable yet, or trouble with the file: later */
		peer->chunk_inflight = 0;
		peer->chunk_due = raft->now + raft->params.heartbeat_interval_ms;
		return 0;
	}
	if (raft_queue_reserve(raft, &raft->out) != RAFT_OK)
		return 0;
	message = raft_queue(raft, &raft->out, RAFT_MSG_SNAPSHOT, member->id,
						 member->incarnation);
	raft->send_meta = raft->snapshot;
	message->snapshot = &raft->send_meta;
	message->offset = peer->snapshot_offset;
	message->total = total;
	message->chunk = data;
	message->chunk_length = n;
	if (peer->snapshot_offset + n == total)
		message->flags |= RAFT_FLAG_LAST_CHUNK;
	peer->snapshot_total = total;
	peer->chunk_inflight = 1;
	peer->chunk_sent = raft->now;
	return 1;
}

int
raft_handle_snapshot_reply(struct raft *raft, const struct raft_message *message)
{
	struct raft_peer *peer = raft_find_peer(raft, message->from);

	if (raft->state != RAFT_LEADER || peer == NULL)
		return RAFT_E_INVALID;
	peer->last_contact = raft->now;
	if (peer->progress != RAFT_PROGRESS_SNAPSHOT ||
		message->index != peer->snapshot_index || message->offset > peer->snapshot_total ||
		!peer->chunk_inflight)
		return RAFT_OK;			/* of an earlier transfer */

	/* an answer that came twice must not make two streams of chunks */
	if (!message->reject && message->offset == peer->snapshot_offset &&
		message->offset < peer->snapshot_total)
		return RAFT_OK;
	peer->chunk_inflight = 0;
	if (message->reject)
	{
		peer->snapshot_offset = 0;
		peer->chunk_due = raft->now;
		return RAFT_OK;
	}
	if (message->offset == peer->snapshot_total)
	{
		if (message->index > peer->match)
			peer->match = message->index;
		if (peer->match >= raft->log.base_index)
			raft_progress_replicate(peer);
		else
			raft_progress_probe(peer, peer->match + 1);
		raft_maybe_commit(raft);
		return RAFT_OK;
	}
	peer->chunk_due = raft->now;
	if (raft->params.snapshot_bytes_per_second > 0 && message->offset > peer->snapshot_offset)
		peer->chunk_due += (message->offset - peer->snapshot_offset) * 1000 /
			raft->params.snapshot_bytes_per_second;
	peer->snapshot_offset = message->offset;
	return RAFT_OK;
}

/* ----------------------------------------------------------------
 * Receiver
 * ----------------------------------------------------------------
 */

int
raft_handle_snapshot(struct raft *raft, const struct raft_message *message)
{
	const struct raft_snapshot_meta *meta = message->snapshot;
	unsigned char encoded[RAFT_CONFIG_MAX_BYTES];
	raft_u64	end = message->offset + message->chunk_length;
	int			last = (message->flags & RAFT_FLAG_LAST_CHUNK) != 0;

	if (meta == NULL || meta->index == 0 || meta->index > RAFT_MAX_NUMBER ||
		meta->term == 0 || meta->term > message->term ||
		meta->config.index > meta->index || meta->config.n_members < 1 ||
		(message->chunk_length > 0 && message->chunk == NULL) ||
		end < message->offset || end > message->total || last != (end == message->total) ||
		message->chunk_length > 64 * 1024 * 1024 ||
		(message->chunk_length == 0 && !last))
		return RAFT_E_INVALID;
	raft_leader_contact(raft, message->from);

	if (meta->index <= raft->commit)
	{
		/* older than what we have: as good as installed */
		answer_offset(raft, message, message->total);
		return RAFT_OK;
	}
	if (raft->chunk_ready || raft->install_ready)
		return RAFT_OK;			/* one per update; the sender repeats it */
	if (message->offset == 0)
	{
		raft->incoming_index = meta->index;
		raft->incoming_term = meta->term;
		raft->incoming_total = message->total;
		raft->incoming_offset = 0;
	}
	if (meta->index != raft->incoming_index || meta->term != raft->incoming_term ||
		message->total != raft->incoming_total)
	{
		struct raft_message *answer;

		answer = raft_answer(raft, message, RAFT_MSG_SNAPSHOT_REPLY);
		answer->reject = 1;
		answer->index = meta->index;
		return RAFT_OK;
	}
	if (message->offset != raft->incoming_offset)
	{
		answer_offset(raft, message, raft->incoming_offset);
		return RAFT_OK;
	}
	if (last && raft_config_encode(&meta->config, encoded, sizeof(encoded)) == 0)
		return RAFT_E_INVALID;	/* not a configuration */
	if (keep_chunk(raft, message) != RAFT_OK)
		return RAFT_E_NOMEM;
	raft->incoming_offset = end;
	if (last)
		install(raft, meta);
	answer_offset(raft, message, end);
	return RAFT_OK;
}

static void
answer_offset(struct raft *raft, const struct raft_message *message, raft_u64 offset)
{
	struct raft_message *answer = raft_answer(raft, message, RAFT_MSG_SNAPSHOT_REPLY);

	answer->index = message->snapshot->index;
	answer->offset = offset;
}

/* The message's memory is the caller's: copy for the next update. */
static int
keep_chunk(struct raft *raft, const struct raft_message *message)
{
	if (message->chunk_length > raft->chunk_buffer_size)
	{
		raft->allocator.release(raft->allocator.context, raft->chunk_buffer);
		raft->chunk_buffer_size = 0;
		raft->chunk_buffer = raft->allocator.allocate(raft->allocator.context,
													  message->chunk_length);
		if (raft->chunk_buffer == NULL)
			return RAFT_E_NOMEM;
		raft->chunk_buffer_size = message->chunk_length;
	}
	if (message->chunk_length > 0)
		memcpy(raft->chunk_buffer, message->chunk, message->chunk_length);
	raft->chunk.meta = *message->snapshot;
	raft->chunk.offset = message->offset;
	raft->chunk.total = message->total;
	raft->chunk.data = raft->chunk_buffer;
	raft->chunk.length = message->chunk_length;
	raft->chunk_ready = 1;
	return RAFT_OK;
}

/* The snapshot is whole: it takes the place of everything up to its index. */
static void
install(struct raft *raft, const struct raft_snapshot_meta *meta)
{
	raft_term	term;

	raft_trace(raft, "install", meta->index, meta->term);

	/* what the host was not given yet comes after the install in its batch */
	raft->install_keeps_log = meta->index <= raft->written &&
		raft_log_term(&raft->log, meta->index, &term) == RAFT_OK && term == meta->term;
	if (!raft->install_keeps_log)
	{
		raft_forget_undurable(raft, meta->index > raft->log.last ?
							  raft->log.last + 1 : raft->log.base_index + 1);
		raft_log_reset(&raft->log, meta->index, meta->term);
		raft->written = meta->index;
		raft->truncate_from = 0;
		raft->has_previous = 0;
		raft_install_config(raft, &meta->config);
		raft->notices |= RAFT_NOTICE_CONFIG;
	}
	raft->snapshot = *meta;
	raft->install_meta = *meta;
	raft->install_ready = 1;
	raft->applied_config = meta->config;
	raft->applied = meta->index;
	raft->apply_handed = meta->index;
	if (raft->commit < meta->index)
	{
		raft->commit = meta->index;
		raft->commit_dirty = 1;
	}
	if (raft->durable > raft->log.last)
		raft->durable = raft->log.last;
	raft->log.evictable = raft->durable;
	raft->incoming_index = 0;
}
