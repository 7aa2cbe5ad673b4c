/*-------------------------------------------------------------------------
 *
 * internal.h
 *	  What the files of the engine share; nobody outside src/raft includes it.
 *
 *		life.c			creation, recovery, end
 *		raft.c			clock, inputs, dispatch of messages
 *		status.c		looking in
 *		update.c		assembly of struct raft_update, durability bookkeeping
 *		election.c		PreVote, votes, terms
 *		replication.c	AppendEntries and heartbeats, both sides; commit rule
 *		progress.c		what a leader knows of each follower
 *		membership.c	when the configuration changes, and what follows
 *		confchange.c	what a change makes of a configuration
 *		config.c		configurations: wire form, lookup, comparison
 *		quorum.c		majorities of simple and joint configurations
 *		snapshot.c		snapshots in chunks, both sides; compaction
 *		read.c			ReadIndex and leases
 *		transfer.c		leadership transfer
 *		stall.c			a disk that does not answer
 *		log.c			terms of the whole log, cache of its end
 *		invariants.c	what must hold between two events
 *		names.c			texts
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_RAFT_INTERNAL_H
#define PGRAFT_RAFT_INTERNAL_H

#include "pgraft/raft.h"

#define RAFT_NEVER ((raft_time) 3600000)	/* "far away", added to now */
#define RAFT_MAX_NUMBER (ULONG_MAX / 4) /* terms and indexes from outside */
#define RAFT_ROUND_HISTORY 64	/* rounds whose send time is remembered */
#define RAFT_MAX_PENDING_READS 4096
#define RAFT_APPLY_ENTRIES 1024 /* per update */
#define RAFT_SEND_ENTRIES 4096	/* descriptors for the messages of one update */
#define RAFT_GENERATED_MESSAGES 64	/* payload messages of one update */

#define RAFT_ASSERT(raft, condition) \
	((condition) ? (void) 0 : raft_assertion_failed((raft), #condition, __FILE__, __LINE__))

/* ----------------------------------------------------------------
 * log.c
 *
 * The log as a whole is (base_index, last].  Terms are kept for all of it, as
 * runs of equal terms; payloads only for the cached end.  Nothing is allocated
 * per entry.
 * ----------------------------------------------------------------
 */
struct raft_term_run
{
	raft_index	first;
	raft_term	term;
};

struct raft_cache_slot
{
	size_t		offset;			/* of the payload in the byte ring */
	size_t		length;
	int			type;
};

struct raft_log
{
	const struct raft_allocator *allocator;
	const struct raft_callbacks *callbacks;
	raft_index	base_index;		/* the entry before the first one; 0 = none */
	raft_term	base_term;
	raft_index	last;			/* = base_index when empty */

	struct raft_term_run *runs; /* ascending; a run reaches to the next one */
	size_t		n_runs;
	size_t		runs_size;

	/* cached entries are (last - n_cached, last] */
	struct raft_cache_slot *slots;	/* ring by index % n_slots */
	size_t		n_slots;
	size_t		n_cached;
	unsigned char *bytes;		/* ring; one payload never wraps around its end */
	size_t		n_bytes;
	size_t		bytes_used;		/* payload bytes of cached entries */
	raft_index	evictable;		/* entries <= this may leave the cache */
};

int raft_log_init(struct raft_log *log, const struct raft_allocator *allocator,
				  const struct raft_callbacks *callbacks, size_t cache_bytes);
void raft_log_free(struct raft_log *log);

/* Empties the log: it begins after (index, term). */
void raft_log_reset(struct raft_log *log, raft_index index, raft_term term);

/*
 * Appends a copy of entry, whose index is last + 1 and whose term is not below
 * the last one.  Evicts evictable entries as needed.  RAFT_E_BUSY when there is
 * no room among entries that may not be evicted, RAFT_E_TOO_LARGE when there
 * could never be, RAFT_E_NOMEM.  Nothing changes unless RAFT_OK.
 */
int raft_log_append(struct raft_log *log, const struct raft_entry *entry);

/* Would n_entries with a payload of n_bytes altogether find room now? */
int raft_log_has_room(const struct raft_log *log, size_t n_entries, size_t n_bytes);

/* Recovery: the entry last + 1 is on disk and not cached. */
int raft_log_restore(struct raft_log *log, raft_index index, raft_term term);

/* Drops entries >= from; base_index < from <= last + 1. */
void raft_log_truncate(struct raft_log *log, raft_index from);

/* Forgets entries <= index; base_index <= index <= last.  The new base keeps
 * its term. */
void raft_log_compact(struct raft_log *log, raft_index index);

/* Also for base_index itself.  RAFT_E_COMPACTED / RAFT_E_UNAVAILABLE outside. */
int raft_log_term(const struct raft_log *log, raft_index index, raft_term *term);
raft_term raft_log_last_term(const struct raft_log *log);

/*
 * The greatest index <= `index` (which may lie outside the log) whose term is
 * <= `term`: the conflict hint, on both sides.  At least base_index.
 */
raft_index raft_log_find_at_most(const struct raft_log *log, raft_index index,
								 raft_term term);

/*
 * Entries from `first` on, at most max_entries and, after the first one, at
 * most max_bytes.  All from the cache, or all through read_entries(); *from_cache
 * says which.  Payloads from the cache stay in place until the next append,
 * truncate or reset.  Errors of the callback are passed on.
 */
int raft_log_read(const struct raft_log *log, raft_index first, size_t max_entries,
				  size_t max_bytes, struct raft_entry *entries, size_t *n_read,
				  int *from_cache);

/* ----------------------------------------------------------------
 * config.c
 * ----------------------------------------------------------------
 */
int raft_config_is_voter(const struct raft_config *config, raft_id id);
int raft_config_position(const struct raft_config *config, raft_id id);	/* -1 = none */
int raft_config_count_voters(const struct raft_config *config);	/* incoming */

/* Roles that vote. */
#define RAFT_ROLE_VOTES(role) ((role) == RAFT_VOTER || (role) == RAFT_WITNESS)

/* ----------------------------------------------------------------
 * The engine
 * ----------------------------------------------------------------
 */
struct raft_inflight
{
	raft_index	last;			/* last entry of the message */
	size_t		bytes;
};

struct raft_peer
{
	raft_id		id;				/* position = position in config->members */
	raft_u64	incarnation;
	int			connected;		/* boolean: not reported lost */
	int			vote;			/* enum raft_vote of the running (pre)election */

	/* leader only, of this term */
	int			progress;		/* enum raft_progress_state */
	raft_index	match;
	raft_index	next;
	raft_index	sent_commit;	/* greatest commit index told */
	int			probe_sent;
	int			append_due;		/* boolean: send even an empty one */
	raft_time	last_contact;	/* any answer */
	raft_time	fall_back_due;	/* not back to probing before; see
								 * append_rejected() */
	raft_u64	acked_round;
	int			caught_up_rounds;	/* learner */
	struct raft_inflight *inflight; /* ring */
	size_t		inflight_first;
	size_t		inflight_count;
	size_t		inflight_bytes;

	/* snapshot transfer */
	raft_index	snapshot_index;
	raft_u64	snapshot_offset;
	raft_u64	snapshot_total;
	int			chunk_inflight;
	raft_time	chunk_sent;
	raft_time	chunk_due;
};

struct raft_message_queue
{
	struct raft_message *messages;
	size_t		count;
	size_t		size;
};

/* A batch that the host is writing. */
struct raft_epoch
{
	raft_u64	epoch;
	raft_index	last;			/* what it makes durable, cut by truncations */
	raft_time	begun;			/* handed to the host */
	int			must_sync;
};

struct raft_pending_read
{
	raft_u64	token;
	raft_index	index;
	raft_u64	round;
};

struct raft
{
	struct raft_params params;
	struct raft_allocator allocator;
	struct raft_callbacks callbacks;
	raft_u64	random_state;
	raft_time	now;
	int			started;
	int			restore_skips;	/* boolean: see raft_restore_entry() */

	/* persistent */
	raft_term	term;
	raft_id		vote;
	struct raft_log log;
	struct raft_snapshot_meta snapshot;

	/* volatile */
	int			state;
	raft_id		leader;
	raft_index	commit;
	raft_index	applied;
	raft_index	apply_handed;	/* given to the host, >= applied */
	int			removed;
	struct raft_config config;	/* in force */
	struct raft_config previous;	/* in force again if config is truncated */
	int			has_previous;
	struct raft_config applied_config;	/* of the state machine */
	struct raft_peer peers[RAFT_MAX_MEMBERS];	/* parallel to config.members */
	struct raft_inflight *inflight_block;	/* backs peers[].inflight */

	/* time */
	raft_time	election_deadline;
	raft_time	started_at;
	raft_time	leader_contact;
	raft_time	campaign_started;
	int			vain_elections; /* of our own since there was a leader */
	int			hint_active;	/* boolean: leader's process is gone */
	raft_id		hint_leader;
	raft_time	hint_until;
	int			campaign_flags; /* RAFT_FLAG_* of the running campaign */
	raft_time	heartbeat_due;
	raft_time	upkeep_due;			/* unlike heartbeats, not put off by reads */

	/* leader */
	raft_index	term_start;		/* own first entry of this term */
	size_t		uncommitted_bytes;
	raft_index	last_at_heartbeat;	/* last index one heartbeat ago */
	raft_id		transfer_target;
	raft_time	transfer_deadline;
	int			transfer_sent;
	int			lease_void;		/* boolean: somebody was told to campaign at once */
	raft_time	stall_retry_at; /* no handing over for a silent disk before */
	int			leave_when_sent;	/* boolean: removed, steps down after sending */
	raft_u64	round;			/* heartbeat rounds of this leadership */
	int			round_due;		/* boolean: a read waits for a new round */
	struct
	{
		raft_u64	round;
		raft_time	sent;
	}			round_sent[RAFT_ROUND_HISTORY];
	struct raft_pending_read *reads;
	size_t		n_reads;

	/* durability (update.c) */
	raft_u64	next_epoch;
	raft_index	written;		/* entries <= this were handed to the host */
	raft_index	durable;
	raft_index	truncate_from;	/* to be handed over; 0 = none */
	int			hard_state_dirty;	/* term or vote */
	int			commit_dirty;
	int			self_vote_waiting;	/* boolean: not handed over yet */
	raft_u64	self_vote_epoch;	/* 0 = none */
	struct raft_epoch *epochs;	/* ring */
	size_t		epochs_size;
	size_t		epochs_first;
	size_t		epochs_count;
	raft_u64	hard_state_epoch;	/* last one with term or vote; durable when
									 * not in the ring any more */

	/* incoming snapshot */
	raft_index	incoming_index;
	raft_term	incoming_term;
	raft_u64	incoming_offset;
	raft_u64	incoming_total;
	struct raft_snapshot_chunk chunk;	/* for the next update */
	int			chunk_ready;
	unsigned char *chunk_buffer;
	size_t		chunk_buffer_size;
	struct raft_snapshot_meta install_meta;
	int			install_ready;
	int			install_keeps_log;

	/* for the host */
	struct raft_message_queue now_queue;
	struct raft_message_queue after_queue;
	struct raft_message_queue out;	/* of the update that the host has */
	struct raft_message_queue out_after;
	struct raft_entry *send_entries;	/* RAFT_SEND_ENTRIES */
	size_t		n_send_entries;
	struct raft_entry *write_entries;	/* log.n_slots */
	struct raft_entry *apply_entries;	/* RAFT_APPLY_ENTRIES */
	unsigned char *send_arena;	/* payloads that came through read_entries() */
	size_t		send_arena_size;
	int			send_arena_used;	/* boolean: in this update */
	unsigned char *apply_arena;
	size_t		apply_arena_size;
	struct raft_snapshot_meta send_meta;
	struct raft_read_result *read_results;
	size_t		n_read_results;
	unsigned int notices;
	struct raft_message lost_message;	/* where a message goes that finds no room */

	/* counters */
	raft_u64	elections_started;
	raft_u64	prevotes_started;
	raft_u64	messages_received;
	raft_u64	messages_ignored;
	raft_u64	heartbeats_sent;
	raft_u64	stall_transfers;
};

/* raft.c */
void raft_assertion_failed(const struct raft *raft, const char *condition,
						   const char *file, int line);
raft_u64 raft_random(struct raft *raft, raft_u64 below);	/* [0, below) */
void raft_trace(struct raft *raft, const char *event, raft_u64 a, raft_u64 b);
struct raft_peer *raft_find_peer(struct raft *raft, raft_id id);
const struct raft_member *raft_self(const struct raft *raft);	/* NULL = no member */
int raft_may_campaign(const struct raft *raft);

/* Queues a message without payload; term, ids and incarnations are filled in.
 * Lost when memory is short, which Raft tolerates. */
struct raft_message *raft_queue(struct raft *raft, struct raft_message_queue *queue,
								int type, raft_id to, raft_u64 to_incarnation);

/* An answer: after the next batch when it may depend on undurable state. */
struct raft_message *raft_answer(struct raft *raft, const struct raft_message *request,
								 int type);

/* election.c */
void raft_become_follower(struct raft *raft, raft_term term, raft_id leader);
void raft_start_prevote(struct raft *raft);
void raft_start_election(struct raft *raft, int flags);
void raft_count_self_vote(struct raft *raft);
void raft_reset_election_deadline(struct raft *raft);
void raft_handle_prevote(struct raft *raft, const struct raft_message *message);
void raft_handle_vote(struct raft *raft, const struct raft_message *message);
void raft_handle_vote_reply(struct raft *raft, const struct raft_message *message);
int raft_must_refuse_vote(const struct raft *raft, const struct raft_message *message);

/* replication.c */
int raft_leader_append(struct raft *raft, int type, size_t length, const unsigned char *data);
void raft_broadcast_heartbeat(struct raft *raft);
void raft_maybe_commit(struct raft *raft);
void raft_set_commit(struct raft *raft, raft_index index);
void raft_leader_contact(struct raft *raft, raft_id leader);
int raft_handle_append(struct raft *raft, const struct raft_message *message);
int raft_handle_append_reply(struct raft *raft, const struct raft_message *message);
int raft_handle_heartbeat(struct raft *raft, const struct raft_message *message);
int raft_handle_heartbeat_reply(struct raft *raft, const struct raft_message *message);
void raft_leader_tick(struct raft *raft);
void raft_generate_appends(struct raft *raft);
raft_time raft_quorum_contact(const struct raft *raft);

/* progress.c */
void raft_progress_reset(struct raft *raft, struct raft_peer *peer);
void raft_progress_probe(struct raft_peer *peer, raft_index next);
void raft_progress_replicate(struct raft_peer *peer);
void raft_progress_snapshot(struct raft_peer *peer, raft_index index);
int raft_inflight_full(const struct raft *raft, const struct raft_peer *peer);
void raft_inflight_add(struct raft *raft, struct raft_peer *peer, raft_index last, size_t bytes);
void raft_inflight_free(struct raft *raft, struct raft_peer *peer, raft_index up_to);
void raft_inflight_free_first(struct raft *raft, struct raft_peer *peer);

/* membership.c */
void raft_adopt_config(struct raft *raft, const struct raft_config *config);
void raft_revert_config(struct raft *raft, raft_index truncated_from);
void raft_install_config(struct raft *raft, const struct raft_config *config);
void raft_config_committed_event(struct raft *raft);
void raft_promote_learners(struct raft *raft);
void raft_handle_removed(struct raft *raft, const struct raft_message *message);

/* snapshot.c */
int raft_handle_snapshot(struct raft *raft, const struct raft_message *message);
int raft_handle_snapshot_reply(struct raft *raft, const struct raft_message *message);
void raft_generate_snapshot(struct raft *raft);
raft_time raft_snapshot_deadline(const struct raft *raft);
int raft_snapshot_sendable(const struct raft *raft);

/* read.c */
void raft_fail_reads(struct raft *raft);
void raft_release_reads(struct raft *raft);
void raft_note_round(struct raft *raft);
raft_time raft_lease_until(const struct raft *raft);

/* transfer.c */
void raft_transfer_progress(struct raft *raft, struct raft_peer *peer);
void raft_transfer_end(struct raft *raft);
void raft_witness_hands_over(struct raft *raft);
int raft_transfer_to_ready(struct raft *raft);
void raft_handle_timeout_now(struct raft *raft, const struct raft_message *message);

/* stall.c */
raft_time raft_disk_waiting_since(const struct raft *raft);
int raft_disk_is_stalled(const struct raft *raft);
void raft_stalled_leader_hands_over(struct raft *raft);

/* update.c */
void raft_forget_undurable(struct raft *raft, raft_index from);
int raft_state_undurable(const struct raft *raft);
int raft_queue_reserve(struct raft *raft, struct raft_message_queue *queue);

#endif							/* PGRAFT_RAFT_INTERNAL_H */
