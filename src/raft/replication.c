/*-------------------------------------------------------------------------
 *
 * replication.c
 *	  AppendEntries and heartbeats, sender and receiver; the commit rule
 *	  (diss. 3.5, 3.6.2, fig. 3.1).
 *
 * Messages with entries are not queued: raft_generate_appends() makes them when
 * the host takes an update, so that everything proposed since goes together.
 *
 * A follower answers what is in its log; the answer leaves when that is
 * durable.  A leader counts its own log only as far as it is durable.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "internal.h"

static int	check_entries(const struct raft *raft, const struct raft_message *message);
static int	accept_entries(struct raft *raft, const struct raft_message *message,
						   raft_index *matched);
static int	append_new(struct raft *raft, const struct raft_message *message, size_t first);
static void reject_append(struct raft *raft, const struct raft_message *message);
static void append_accepted(struct raft *raft, struct raft_peer *peer,
							const struct raft_message *message);
static void append_rejected(struct raft *raft, struct raft_peer *peer,
							const struct raft_message *message);
static void generate_for(struct raft *raft, int position);
static int	generate_one(struct raft *raft, int position);
static int	read_for_sending(struct raft *raft, raft_index first, struct raft_entry *entries,
							 size_t max_entries, size_t *n, size_t *bytes);
static int	copy_to_arena(struct raft *raft, struct raft_entry *entries, size_t n);

/* ----------------------------------------------------------------
 * Leader
 * ----------------------------------------------------------------
 */

/* Appends to our own log; the entry is sent and written by the next update. */
int
raft_leader_append(struct raft *raft, int type, size_t length, const unsigned char *data)
{
	struct raft_entry entry;
	int			error;

	RAFT_ASSERT(raft, raft->state == RAFT_LEADER);
	entry.index = raft->log.last + 1;
	entry.term = raft->term;
	entry.type = type;
	entry.length = length;
	entry.data = data;
	error = raft_log_append(&raft->log, &entry);
	if (error == RAFT_OK)
		raft->uncommitted_bytes += length;
	return error;
}

void
raft_broadcast_heartbeat(struct raft *raft)
{
	int			i;

	raft_note_round(raft);
	for (i = 0; i < raft->config.n_members; i++)
	{
		const struct raft_member *member = &raft->config.members[i];
		struct raft_peer *peer = &raft->peers[i];
		struct raft_message *message;

		if (member->id == raft->params.id)
			continue;
		message = raft_queue(raft, &raft->now_queue, RAFT_MSG_HEARTBEAT, member->id,
							 member->incarnation);

		/* beyond match its log may differ from ours */
		message->commit = raft->commit < peer->match ? raft->commit : peer->match;
		message->context = raft->round;
		raft->heartbeats_sent++;
	}
	raft->heartbeat_due = raft->now + raft->params.heartbeat_interval_ms;
}

/* The moment since which a majority has been heard from (CheckQuorum). */
raft_time
raft_quorum_contact(const struct raft *raft)
{
	raft_index	contact[RAFT_MAX_MEMBERS];
	int			i;

	for (i = 0; i < raft->config.n_members; i++)
		contact[i] = raft->config.members[i].id == raft->params.id ?
			raft->now : raft->peers[i].last_contact;
	return raft_quorum_index(&raft->config, contact);
}

void
raft_leader_tick(struct raft *raft)
{
	if (raft->now - raft_quorum_contact(raft) >= raft->params.election_timeout_ms)
	{
		raft_trace(raft, "lost quorum", raft->term, raft->now);
		raft_become_follower(raft, raft->term, 0);
		return;
	}
	if (raft->transfer_target != 0 && raft->now >= raft->transfer_deadline)
		raft_transfer_end(raft);
	if (raft->now >= raft->upkeep_due)
	{
		raft->upkeep_due = raft->now + raft->params.heartbeat_interval_ms;

		/* leaving a joint configuration may have found no room in the cache */
		if (raft->config.joint)
			raft_config_committed_event(raft);
		raft_promote_learners(raft);
		raft_witness_hands_over(raft);
		raft_stalled_leader_hands_over(raft);
		raft->last_at_heartbeat = raft->log.last;
	}
	if (raft->state == RAFT_LEADER && raft->now >= raft->heartbeat_due)
		raft_broadcast_heartbeat(raft);
}

/* fig. 3.1: counting works for entries of the leader's own term only */
void
raft_maybe_commit(struct raft *raft)
{
	raft_index	acked[RAFT_MAX_MEMBERS];
	raft_index	index;
	raft_term	term;
	int			i;

	if (raft->state != RAFT_LEADER)
		return;
	for (i = 0; i < raft->config.n_members; i++)
		acked[i] = raft->config.members[i].id == raft->params.id ?
			raft->durable : raft->peers[i].match;
	index = raft_quorum_index(&raft->config, acked);
	if (index <= raft->commit)
		return;
	if (raft_log_term(&raft->log, index, &term) != RAFT_OK || term != raft->term)
		return;
	raft_set_commit(raft, index);
	raft_config_committed_event(raft);
}

void
raft_set_commit(struct raft *raft, raft_index index)
{
	if (index <= raft->commit)
		return;
	RAFT_ASSERT(raft, index <= raft->log.last);
	raft->commit = index;
	raft->commit_dirty = 1;
}

int
raft_handle_append_reply(struct raft *raft, const struct raft_message *message)
{
	struct raft_peer *peer = raft_find_peer(raft, message->from);

	if (raft->state != RAFT_LEADER || peer == NULL)
		return RAFT_E_INVALID;
	if (message->index > raft->log.last)
		return RAFT_E_INVALID;
	peer->last_contact = raft->now;
	if (message->reject)
		append_rejected(raft, peer, message);
	else
		append_accepted(raft, peer, message);
	return RAFT_OK;
}

static void
append_accepted(struct raft *raft, struct raft_peer *peer,
				const struct raft_message *message)
{
	if (message->index > peer->match)
		peer->match = message->index;
	if (peer->next <= peer->match)
		peer->next = peer->match + 1;
	switch (peer->progress)
	{
		case RAFT_PROGRESS_PROBE:
			raft_progress_replicate(peer);
			break;
		case RAFT_PROGRESS_SNAPSHOT:
			if (peer->match >= raft->log.base_index &&
				peer->match >= peer->snapshot_index)
				raft_progress_replicate(peer);
			break;
		default:
			raft_inflight_free(raft, peer, message->index);
			break;
	}
	raft_maybe_commit(raft);
	raft_transfer_progress(raft, peer);
}

static void
append_rejected(struct raft *raft, struct raft_peer *peer,
				const struct raft_message *message)
{
	raft_index	next;

	if (peer->progress == RAFT_PROGRESS_SNAPSHOT)
		return;
	if (message->index < peer->match ||
		(peer->progress == RAFT_PROGRESS_PROBE && message->index != peer->next - 1))
		return;					/* an answer overtaken by later ones */
	if (peer->progress == RAFT_PROGRESS_REPLICATE)
	{
		/*
		 * Lost, or only overtaken?  Each return to probing sends the window
		 * again, so on links that reorder it must not happen for each reject,
		 * or messages would multiply.  If something was lost indeed, the empty
		 * message after the next heartbeat's answer brings another reject.
		 */
		if (raft->now < peer->fall_back_due)
			return;
		peer->fall_back_due = raft->now + raft->params.heartbeat_interval_ms / 2;
	}
	if (message->index == peer->match)
		peer->match = 0;		/* it has lost what it had acknowledged */

	/*
	 * The hint is its greatest entry with a term not above that of the probe;
	 * ours with a term not above the hint's is where both can still agree: one
	 * round trip for each term that differs.
	 */
	next = raft_log_find_at_most(&raft->log, message->hint_index, message->hint_term) + 1;
	if (next > message->index)
		next = message->index;
	if (next <= peer->match)
		next = peer->match + 1;
	if (next == 0)
		next = 1;
	raft_progress_probe(peer, next);
}

int
raft_handle_heartbeat_reply(struct raft *raft, const struct raft_message *message)
{
	struct raft_peer *peer = raft_find_peer(raft, message->from);

	if (raft->state != RAFT_LEADER || peer == NULL)
		return RAFT_E_INVALID;
	if (message->context > raft->round)
		return RAFT_E_INVALID;
	peer->last_contact = raft->now;
	if (message->context > peer->acked_round)
		peer->acked_round = message->context;
	if (peer->progress == RAFT_PROGRESS_PROBE)
		peer->probe_sent = 0;	/* the probe, or its answer, was lost */
	else if (peer->progress == RAFT_PROGRESS_REPLICATE && peer->match < raft->log.last)
	{
		/* an empty message finds out whether one before it was lost */
		if (raft_inflight_full(raft, peer))
			raft_inflight_free_first(raft, peer);
		peer->append_due = 1;
	}
	raft_release_reads(raft);
	return RAFT_OK;
}

/* ----------------------------------------------------------------
 * Sending
 * ----------------------------------------------------------------
 */

void
raft_generate_appends(struct raft *raft)
{
	int			i;

	if (raft->state != RAFT_LEADER)
		return;
	for (i = 0; i < raft->config.n_members; i++)
		if (raft->config.members[i].id != raft->params.id && raft->peers[i].connected)
			generate_for(raft, i);
}

static void
generate_for(struct raft *raft, int position)
{
	struct raft_peer *peer = &raft->peers[position];

	if (peer->progress == RAFT_PROGRESS_SNAPSHOT)
		return;
	if (peer->next <= raft->log.base_index)
	{
		if (raft->snapshot.index >= raft->log.base_index && raft->snapshot.index > 0)
			raft_progress_snapshot(peer, raft->snapshot.index);
		return;
	}
	if (peer->progress == RAFT_PROGRESS_PROBE)
	{
		if (!peer->probe_sent && generate_one(raft, position))
			peer->probe_sent = 1;
		return;
	}
	while (peer->next <= raft->log.last && !raft_inflight_full(raft, peer))
		if (!generate_one(raft, position))
			return;
	if (peer->append_due || (peer->sent_commit < raft->commit &&
							 peer->next > raft->commit))
		(void) generate_one(raft, position);
}

/*
 * One APPEND from peer->next on, empty when there is nothing.  0 when this
 * update has no room for it any more, or the entries could not be read.
 */
static int
generate_one(struct raft *raft, int position)
{
	const struct raft_member *member = &raft->config.members[position];
	struct raft_peer *peer = &raft->peers[position];
	struct raft_message *message;
	struct raft_entry *entries = raft->send_entries + raft->n_send_entries;
	size_t		room = RAFT_SEND_ENTRIES - raft->n_send_entries;
	size_t		n = 0;
	size_t		bytes = 0;
	raft_term	prev_term;

	if (raft->out.count >= RAFT_GENERATED_MESSAGES || room == 0 ||
		raft_log_term(&raft->log, peer->next - 1, &prev_term) != RAFT_OK)
		return 0;
	if (peer->next <= raft->log.last && !raft_inflight_full(raft, peer) &&
		!read_for_sending(raft, peer->next, entries, room, &n, &bytes))
		return 0;
	if (raft_queue_reserve(raft, &raft->out) != RAFT_OK)
		return 0;
	message = raft_queue(raft, &raft->out, RAFT_MSG_APPEND, member->id, member->incarnation);
	message->index = peer->next - 1;
	message->log_term = prev_term;
	message->commit = raft->commit;
	message->n_entries = n;
	message->entries = n > 0 ? entries : NULL;
	raft->n_send_entries += n;
	peer->append_due = 0;
	peer->sent_commit = raft->commit;
	if (peer->progress == RAFT_PROGRESS_REPLICATE && n > 0)
	{
		peer->next += n;
		raft_inflight_add(raft, peer, peer->next - 1, bytes);
	}
	return 1;
}

static int
read_for_sending(struct raft *raft, raft_index first, struct raft_entry *entries,
				 size_t max_entries, size_t *n, size_t *bytes)
{
	int			from_cache;
	size_t		i;

	if (max_entries > raft->params.max_message_entries)
		max_entries = raft->params.max_message_entries;
	if (first + raft->log.n_cached <= raft->log.last && raft->send_arena_used)
		return 0;				/* one message per update may come from the disk */
	if (raft_log_read(&raft->log, first, max_entries, raft->params.max_message_bytes,
					  entries, n, &from_cache) != RAFT_OK || *n == 0)
		return 0;
	if (!from_cache && !copy_to_arena(raft, entries, *n))
		return 0;
	for (i = 0; i < *n; i++)
		*bytes += entries[i].length;
	return 1;
}

/*
 * The callback's memory lives until its next call; the message lives as long
 * as the update.
 */
static int
copy_to_arena(struct raft *raft, struct raft_entry *entries, size_t n)
{
	size_t		total = 0;
	size_t		i;

	for (i = 0; i < n; i++)
		total += entries[i].length;
	if (total > raft->send_arena_size)
	{
		raft->allocator.release(raft->allocator.context, raft->send_arena);
		raft->send_arena_size = 0;
		raft->send_arena = raft->allocator.allocate(raft->allocator.context, total);
		if (raft->send_arena == NULL)
			return 0;
		raft->send_arena_size = total;
	}
	total = 0;
	for (i = 0; i < n; i++)
	{
		if (entries[i].length == 0)
			continue;
		memcpy(raft->send_arena + total, entries[i].data, entries[i].length);
		entries[i].data = raft->send_arena + total;
		total += entries[i].length;
	}
	raft->send_arena_used = 1;
	return 1;
}

/* ----------------------------------------------------------------
 * Follower
 * ----------------------------------------------------------------
 */

void
raft_leader_contact(struct raft *raft, raft_id leader)
{
	if (raft->state != RAFT_FOLLOWER || raft->leader != leader)
		raft_become_follower(raft, raft->term, leader);
	raft->leader_contact = raft->now;
	raft->hint_active = 0;
	raft->vain_elections = 0;
	raft_reset_election_deadline(raft);
}

/* Whatever a peer may send: consecutive, ordered, of a term not in the future. */
static int
check_entries(const struct raft *raft, const struct raft_message *message)
{
	raft_term	term = message->log_term;
	size_t		i;

	if (message->index == 0 && message->log_term != 0)
		return RAFT_E_INVALID;
	if (message->log_term > message->term || message->n_entries > RAFT_SEND_ENTRIES * 4)
		return RAFT_E_INVALID;
	for (i = 0; i < message->n_entries; i++)
	{
		const struct raft_entry *entry = &message->entries[i];

		if (entry->index != message->index + 1 + i || entry->term < term ||
			entry->term > message->term || entry->term == 0)
			return RAFT_E_INVALID;
		if (entry->type < RAFT_ENTRY_NORMAL || entry->type > RAFT_ENTRY_CONFIG ||
			entry->length > raft->params.cache_bytes / 2 ||
			(entry->length > 0 && entry->data == NULL))
			return RAFT_E_INVALID;
		if (entry->type == RAFT_ENTRY_CONFIG)
		{
			struct raft_config config;

			if (raft_config_decode(&config, entry->data, entry->length) != RAFT_OK)
				return RAFT_E_INVALID;
		}
		term = entry->term;
	}
	return RAFT_OK;
}

int
raft_handle_append(struct raft *raft, const struct raft_message *message)
{
	struct raft_message *answer;
	raft_index	matched;
	raft_term	term;
	int			error;

	error = check_entries(raft, message);
	if (error != RAFT_OK)
		return error;
	raft_leader_contact(raft, message->from);

	if (message->index < raft->log.base_index)
	{
		/*
		 * What is behind our log's begin is committed, so it agrees; the
		 * leader goes on from there.
		 */
		matched = raft->commit;
	}
	else if (raft_log_term(&raft->log, message->index, &term) != RAFT_OK ||
			 term != message->log_term)
	{
		reject_append(raft, message);
		return RAFT_OK;
	}
	else
	{
		error = accept_entries(raft, message, &matched);
		if (error != RAFT_OK)
			return error;
	}
	raft_set_commit(raft, message->commit < matched ? message->commit : matched);
	answer = raft_answer(raft, message, RAFT_MSG_APPEND_REPLY);
	answer->index = matched;
	return RAFT_OK;
}

static void
reject_append(struct raft *raft, const struct raft_message *message)
{
	struct raft_message *answer;
	raft_term	term = 0;

	answer = raft_answer(raft, message, RAFT_MSG_APPEND_REPLY);
	answer->reject = 1;
	answer->index = message->index;
	answer->hint_index = raft_log_find_at_most(&raft->log, message->index,
											   message->log_term);
	(void) raft_log_term(&raft->log, answer->hint_index, &term);
	answer->hint_term = term;
}

/* Skips what is there already, cuts what differs, appends the rest. */
static int
accept_entries(struct raft *raft, const struct raft_message *message, raft_index *matched)
{
	size_t		i = 0;
	raft_term	term;
	raft_index	from;

	while (i < message->n_entries &&
		   raft_log_term(&raft->log, message->entries[i].index, &term) == RAFT_OK &&
		   term == message->entries[i].term)
		i++;
	*matched = message->index + i;
	if (i == message->n_entries)
		return RAFT_OK;

	from = message->entries[i].index;
	if (from <= raft->log.last)
	{
		/* a committed entry never changes, whatever a peer says */
		if (from <= raft->commit)
			return RAFT_E_INVALID;

		/* nor does any but the last configuration: it began after their commit */
		if (raft->config.index >= from &&
			(!raft->has_previous || raft->previous.index >= from))
			return RAFT_E_INVALID;

		/* also when the cache is full: this is what empties it */
		raft_trace(raft, "truncate", from, raft->log.last);
		raft_revert_config(raft, from);
		raft_log_truncate(&raft->log, from);
		raft_forget_undurable(raft, from);
	}
	*matched += (raft_index) append_new(raft, message, i);
	return RAFT_OK;
}

/* Returns how many found room; the leader sends the others again. */
static int
append_new(struct raft *raft, const struct raft_message *message, size_t first)
{
	size_t		i;

	for (i = first; i < message->n_entries; i++)
	{
		const struct raft_entry *entry = &message->entries[i];

		if (raft_log_append(&raft->log, entry) != RAFT_OK)
			break;
		if (entry->type == RAFT_ENTRY_CONFIG)
		{
			struct raft_config config;

			/* check_entries() has seen that it can be decoded */
			(void) raft_config_decode(&config, entry->data, entry->length);
			config.index = entry->index;
			raft_adopt_config(raft, &config);
		}
	}
	return (int) (i - first);
}

int
raft_handle_heartbeat(struct raft *raft, const struct raft_message *message)
{
	struct raft_message *answer;

	raft_leader_contact(raft, message->from);

	/* the leader names nothing beyond what it knows to match */
	raft_set_commit(raft, message->commit < raft->log.last ?
					message->commit : raft->log.last);

	/*
	 * Must not wait for a slow disk, or the disk would look like a dead
	 * member.  Only a new term has to be durable first.
	 */
	answer = raft_queue(raft, raft_state_undurable(raft) ?
						&raft->after_queue : &raft->now_queue,
						RAFT_MSG_HEARTBEAT_REPLY, message->from,
						message->from_incarnation);
	answer->context = message->context;
	answer->index = raft->durable;
	return RAFT_OK;
}
