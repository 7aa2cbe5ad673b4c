/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  What a leader knows of one follower, and how much it has sent ahead.
 *
 *		probe		the follower's log is not known: one message at a time
 *		replicate	it is: messages are pipelined up to the inflight bounds
 *		snapshot	it needs entries that the log has no more: chunks are sent,
 *					no entries
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "internal.h"

/* At the start of a leadership, or when a member appears during one. */
void
raft_progress_reset(struct raft *raft, struct raft_peer *peer)
{
	peer->match = 0;
	peer->sent_commit = 0;
	peer->fall_back_due = 0;
	peer->last_contact = raft->now;
	peer->acked_round = 0;
	peer->caught_up_rounds = 0;
	peer->append_due = 0;
	peer->snapshot_index = 0;
	peer->snapshot_offset = 0;
	peer->snapshot_total = 0;
	peer->chunk_inflight = 0;
	peer->chunk_due = 0;
	raft_progress_probe(peer, raft->log.last + 1);
}

static void
inflight_clear(struct raft_peer *peer)
{
	peer->inflight_first = 0;
	peer->inflight_count = 0;
	peer->inflight_bytes = 0;
}

void
raft_progress_probe(struct raft_peer *peer, raft_index next)
{
	peer->progress = RAFT_PROGRESS_PROBE;
	peer->next = next;
	peer->probe_sent = 0;
	inflight_clear(peer);
}

void
raft_progress_replicate(struct raft_peer *peer)
{
	peer->progress = RAFT_PROGRESS_REPLICATE;
	peer->next = peer->match + 1;
	peer->probe_sent = 0;
	inflight_clear(peer);
}

void
raft_progress_snapshot(struct raft_peer *peer, raft_index index)
{
	peer->progress = RAFT_PROGRESS_SNAPSHOT;
	peer->snapshot_index = index;
	peer->snapshot_offset = 0;
	peer->snapshot_total = 0;
	peer->chunk_inflight = 0;
	peer->chunk_due = 0;
	inflight_clear(peer);
}

int
raft_inflight_full(const struct raft *raft, const struct raft_peer *peer)
{
	return peer->inflight_count >= raft->params.max_inflight_messages ||
		(peer->inflight_count > 0 &&
		 peer->inflight_bytes >= raft->params.max_inflight_bytes);
}

void
raft_inflight_add(struct raft *raft, struct raft_peer *peer, raft_index last, size_t bytes)
{
	size_t		position;

	RAFT_ASSERT(raft, peer->inflight_count < raft->params.max_inflight_messages);
	position = (peer->inflight_first + peer->inflight_count) %
		raft->params.max_inflight_messages;
	peer->inflight[position].last = last;
	peer->inflight[position].bytes = bytes;
	peer->inflight_count++;
	peer->inflight_bytes += bytes;
}

void
raft_inflight_free_first(struct raft *raft, struct raft_peer *peer)
{
	if (peer->inflight_count == 0)
		return;
	RAFT_ASSERT(raft, peer->inflight_bytes >= peer->inflight[peer->inflight_first].bytes);
	peer->inflight_bytes -= peer->inflight[peer->inflight_first].bytes;
	peer->inflight_first = (peer->inflight_first + 1) % raft->params.max_inflight_messages;
	peer->inflight_count--;
}

void
raft_inflight_free(struct raft *raft, struct raft_peer *peer, raft_index up_to)
{
	while (peer->inflight_count > 0 && peer->inflight[peer->inflight_first].last <= up_to)
		raft_inflight_free_first(raft, peer);
}
