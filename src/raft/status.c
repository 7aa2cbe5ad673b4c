/*-------------------------------------------------------------------------
 *
 * status.c
 *	  Looking into an engine: nothing here changes anything.
 *
 * May be called at any time between two events, also while the host works on
 * an update.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "internal.h"

void
raft_status(const struct raft *raft, struct raft_status *status)
{
	const struct raft_member *self = raft_self(raft);

	memset(status, 0, sizeof(*status));
	status->id = raft->params.id;
	status->incarnation = raft->params.incarnation;
	status->state = raft->state;
	status->role = self != NULL ? self->role : RAFT_ROLE_NONE;
	status->removed = raft->removed;
	status->term = raft->term;
	status->vote = raft->vote;
	status->leader = raft->leader;
	status->first_index = raft->log.base_index + 1;
	status->last_index = raft->log.last;
	status->last_term = raft_log_last_term(&raft->log);
	status->durable_index = raft->durable;
	status->commit_index = raft->commit;
	status->applied_index = raft->applied;
	status->snapshot_index = raft->snapshot.index;
	status->snapshot_term = raft->snapshot.term;
	status->own_term_committed = raft->state == RAFT_LEADER &&
		raft->commit >= raft->term_start;
	status->transfer_target = raft->transfer_target;
	status->lease_until = raft->state == RAFT_LEADER ? raft_lease_until(raft) : 0;
	status->quorum_contact = raft->state == RAFT_LEADER ? raft_quorum_contact(raft) : 0;
	status->leader_contact = raft->leader_contact;
	status->elections_started = raft->elections_started;
	status->prevotes_started = raft->prevotes_started;
	status->messages_received = raft->messages_received;
	status->messages_ignored = raft->messages_ignored;
	status->heartbeats_sent = raft->heartbeats_sent;
	status->disk_waiting_since = raft_disk_waiting_since(raft);
	status->stall_transfers = raft->stall_transfers;
	status->uncommitted_bytes = raft->uncommitted_bytes;
	status->cached_bytes = raft->log.bytes_used;
}

const struct raft_config *
raft_get_config(const struct raft *raft)
{
	return &raft->config;
}

int
raft_config_committed(const struct raft *raft)
{
	return raft->config.index <= raft->commit;
}

int
raft_term_at(const struct raft *raft, raft_index index, raft_term *term)
{
	return raft_log_term(&raft->log, index, term);
}

int
raft_peer_status(const struct raft *raft, raft_id id, struct raft_peer_status *status)
{
	int			position = raft_config_position(&raft->config, id);
	const struct raft_peer *peer;

	if (raft->state != RAFT_LEADER)
		return RAFT_E_NOT_LEADER;
	if (position < 0)
		return RAFT_E_UNKNOWN_MEMBER;
	peer = &raft->peers[position];
	memset(status, 0, sizeof(*status));
	status->id = id;
	status->progress = peer->progress;
	status->match_index = id == raft->params.id ? raft->durable : peer->match;
	status->next_index = id == raft->params.id ? raft->log.last + 1 : peer->next;
	status->last_contact = id == raft->params.id ? raft->now : peer->last_contact;
	status->inflight_messages = peer->inflight_count;
	status->inflight_bytes = peer->inflight_bytes;
	status->snapshot_offset = peer->snapshot_offset;
	status->snapshot_total = peer->snapshot_total;
	status->connected = peer->connected;
	return RAFT_OK;
}
