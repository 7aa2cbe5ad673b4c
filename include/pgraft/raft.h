/*-------------------------------------------------------------------------
 *
 * raft.h
 *	  The contract of the Raft engine (src/raft).
 *
 * The engine is a deterministic state machine: events in, one update out.  It
 * knows no clock, no file, no socket, no thread and no PostgreSQL.  Time is
 * the monotonic milliseconds of the last raft_tick(); randomness is the seed
 * in struct raft_params.  Equal inputs give equal outputs, bit for bit.
 *
 * One turn of a host:
 *
 *		raft_tick(r, now)							always first
 *		raft_receive / raft_propose / ...			any number of events
 *		raft_take_update(r, &u)						until it returns 0
 *			send u.messages
 *			write u.(truncate_from, chunk, install, entries, hard_state)
 *				as ONE atomic batch of write epoch u.epoch
 *			when that batch is durable: send u.messages_after, and call
 *				raft_persisted(r, u.epoch)
 *			apply u.apply in order, then raft_applied(r, last index)
 *
 * Several epochs may be in flight; they become durable in order, and
 * raft_persisted(e) covers every epoch <= e.  Everything an update points to
 * belongs to the engine and stays valid until the next call on that engine
 * other than raft_status(), raft_get_config() or raft_peer_status().
 *
 * Rules quoted as "diss. 3.x / fig. 3.x" are those of D. Ongaro,
 * "Consensus: Bridging Theory and Practice", 2014.
 *
 * Strict C89.  Nothing is allocated except through struct raft_allocator.
 * Every function that takes something from outside returns an enum raft_error;
 * an assertion fires only for a broken invariant of the engine itself.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_RAFT_H
#define PGRAFT_RAFT_H

#include <limits.h>
#include <stddef.h>

#if ULONG_MAX < 18446744073709551615UL
#error "pgraft needs an LP64 platform: unsigned long must have 64 bits"
#endif

typedef unsigned long raft_u64;
typedef raft_u64 raft_index;	/* log position; the first entry has 1 */
typedef raft_u64 raft_term;		/* 0 = before the first election */
typedef raft_u64 raft_time;		/* monotonic milliseconds */
typedef unsigned int raft_id;	/* member id, 1 .. 2^31 - 1; 0 = none */

#define RAFT_MAX_VOTERS 15
#define RAFT_MAX_MEMBERS 32
#define RAFT_NAME_SIZE 64		/* with the terminating NUL */
#define RAFT_ADDRESS_SIZE 256	/* with the terminating NUL */

enum raft_error
{
	RAFT_OK = 0,
	RAFT_E_NOT_LEADER,			/* only the leader can do that */
	RAFT_E_BUSY,				/* uncommitted or cached bytes at the limit: retry later */
	RAFT_E_TOO_LARGE,			/* one proposal exceeds max_entry_bytes */
	RAFT_E_INVALID,				/* malformed argument, message or entry */
	RAFT_E_NOMEM,				/* the allocator returned NULL */
	RAFT_E_CHANGE_PENDING,		/* a membership change is not yet committed */
	RAFT_E_NOT_READY,			/* leader has not committed an entry of its term */
	RAFT_E_UNKNOWN_MEMBER,
	RAFT_E_MEMBER_EXISTS,
	RAFT_E_LAST_VOTER,			/* the change would leave no voter */
	RAFT_E_TOO_MANY_MEMBERS,
	RAFT_E_TRANSFERRING,		/* leadership moves: hold the proposal, retry */
	RAFT_E_IO,					/* a host callback failed */
	RAFT_E_CORRUPT,				/* restored state contradicts itself */
	RAFT_E_COMPACTED,			/* the entry is older than the log's first */
	RAFT_E_UNAVAILABLE,			/* the entry is newer than the log's last */
	RAFT_E_UNSUPPORTED
};

/* English text of an error, never NULL, static storage. */
const char *raft_error_text(int error);

enum raft_state
{
	RAFT_FOLLOWER = 0,
	RAFT_PRECANDIDATE,
	RAFT_CANDIDATE,
	RAFT_LEADER
};

/* "follower", "precandidate", "candidate", "leader" */
const char *raft_state_name(int state);

/* ----------------------------------------------------------------
 * Membership
 * ----------------------------------------------------------------
 */
enum raft_role
{
	RAFT_ROLE_NONE = 0,
	RAFT_VOTER,
	RAFT_LEARNER,				/* receives the log, has no vote */
	RAFT_WITNESS				/* votes and stores the log, leads only if no voter can */
};

/* "none", "voter", "learner", "witness" */
const char *raft_role_name(int role);

struct raft_member
{
	raft_id		id;
	raft_u64	incarnation;	/* index of the entry that added this membership;
								 * never reused, so add-remove-add is told apart */
	int			role;			/* enum raft_role in the current (incoming) config */
	int			old_role;		/* in the outgoing half of a joint config; else
								 * RAFT_ROLE_NONE */
	int			target_role;	/* a learner's role after automatic promotion;
								 * RAFT_LEARNER = stays a learner */
	int			priority;		/* higher draws earlier election timeouts; 0..100 */
	unsigned int port;
	char		name[RAFT_NAME_SIZE];	/* "" = host's default; opaque here */
	char		address[RAFT_ADDRESS_SIZE]; /* opaque here */
};

/*
 * A configuration.  Members are sorted by id.  In a joint configuration
 * (diss. 4.3) decisions need a majority of the incoming voters (role) and of
 * the outgoing voters (old_role) separately.
 */
struct raft_config
{
	raft_index	index;			/* entry that carries it; 0 = none yet */
	int			joint;			/* boolean */
	int			n_members;
	struct raft_member members[RAFT_MAX_MEMBERS];
};

enum raft_change_type
{
	RAFT_CHANGE_ADD = 1,		/* enters as learner; member.role is the target */
	RAFT_CHANGE_REMOVE,
	RAFT_CHANGE_UPDATE,			/* new address, port, name ("" keeps), priority (<0 keeps) */
	RAFT_CHANGE_PROMOTE,		/* a learner to member.role */
	RAFT_CHANGE_DEMOTE			/* a voter or witness to a learner that stays one */
};

struct raft_change
{
	int			type;
	struct raft_member member;	/* the id and what the type needs */
};

/*
 * Wire and disk form of a configuration, the payload of RAFT_ENTRY_CONFIG and
 * of snapshots' metadata; described at the top of src/raft/config.c.
 * encode returns the length, or 0 when capacity is too small (pass capacity
 * RAFT_CONFIG_MAX_BYTES to be safe).  decode returns RAFT_E_INVALID for
 * anything that encode cannot have written; it does not set config->index.
 */
#define RAFT_CONFIG_MAX_BYTES 16384
size_t raft_config_encode(const struct raft_config *config,
						  unsigned char *buffer, size_t capacity);
int raft_config_decode(struct raft_config *config,
					   const unsigned char *buffer, size_t length);
const struct raft_member *raft_config_find(const struct raft_config *config,
										   raft_id id);

/*
 * What changes make of a configuration; pure (src/raft/confchange.c).  The
 * engine itself uses these, so tables that other implementations publish can
 * be run against them.  An added member begins as a learner; add and promote
 * it in one list for one that votes at once (the engine refuses to promote
 * whom it has not heard).  `index` becomes the incarnation of added members;
 * config->index is left alone.  Unless the result is RAFT_OK *config is as
 * before.
 *
 *	apply_simple	the sets of voters may differ by one member (diss. 4.1);
 *					RAFT_E_INVALID when they would differ by more,
 *					RAFT_E_CHANGE_PENDING in a joint configuration
 *	enter_joint		any changes (4.3); RAFT_E_CHANGE_PENDING when joint already
 *	leave_joint		RAFT_E_INVALID when it is not joint
 *
 * All: RAFT_E_INVALID (no change, or a malformed one), RAFT_E_MEMBER_EXISTS,
 * RAFT_E_UNKNOWN_MEMBER, RAFT_E_TOO_MANY_MEMBERS, RAFT_E_LAST_VOTER (nobody
 * would be left who can lead).
 */
int raft_config_apply_simple(struct raft_config *config, const struct raft_change *changes,
							 size_t n, raft_index index);
int raft_config_enter_joint(struct raft_config *config, const struct raft_change *changes,
							size_t n, raft_index index);
int raft_config_leave_joint(struct raft_config *config);

/* ----------------------------------------------------------------
 * Log entries, snapshots, hard state
 * ----------------------------------------------------------------
 */
enum raft_entry_type
{
	RAFT_ENTRY_NORMAL = 0,		/* the host's command, opaque */
	RAFT_ENTRY_EMPTY = 1,		/* first entry of a leader's term */
	RAFT_ENTRY_CONFIG = 2		/* raft_config_encode() */
};

struct raft_entry
{
	raft_index	index;
	raft_term	term;
	int			type;
	size_t		length;
	const unsigned char *data;	/* length bytes, NULL when 0 */
};

struct raft_hard_state
{
	raft_term	term;
	raft_id		vote;			/* 0 = none in this term */
	raft_index	commit;			/* a hint: never beyond what was committed; saves
								 * waiting for a leader before applying at start */
};

struct raft_snapshot_meta
{
	raft_index	index;			/* last entry the snapshot covers */
	raft_term	term;			/* its term */
	struct raft_config config;	/* in force at that index */
};

/* ----------------------------------------------------------------
 * Messages
 * ----------------------------------------------------------------
 */
enum raft_message_type
{
	RAFT_MSG_PREVOTE = 1,
	RAFT_MSG_PREVOTE_REPLY,
	RAFT_MSG_VOTE,
	RAFT_MSG_VOTE_REPLY,
	RAFT_MSG_APPEND,			/* entries after (prev_index, prev_term); also probe */
	RAFT_MSG_APPEND_REPLY,
	RAFT_MSG_HEARTBEAT,
	RAFT_MSG_HEARTBEAT_REPLY,
	RAFT_MSG_SNAPSHOT,			/* one chunk */
	RAFT_MSG_SNAPSHOT_REPLY,
	RAFT_MSG_TIMEOUT_NOW,		/* diss. 3.10 leadership transfer */
	RAFT_MSG_REMOVED			/* the receiver's membership ended at `index` */
};
#define RAFT_MSG_MAX RAFT_MSG_REMOVED

/* "prevote", ... for traces; "?" for anything else */
const char *raft_message_name(int type);

/* struct raft_message.flags */
#define RAFT_FLAG_TRANSFER		0x01	/* vote asked for by TIMEOUT_NOW: no stickiness */
#define RAFT_FLAG_LEADER_GONE	0x02	/* candidate saw the leader's process go (hint) */
#define RAFT_FLAG_LAST_CHUNK	0x04
#define RAFT_FLAG_WITNESS		0x08	/* candidate is a witness */

/*
 * One message.  Which fields mean something depends on the type; all others
 * are 0.
 *
 *	PREVOTE, VOTE			term (PREVOTE: the term it would campaign for),
 *							index/log_term = candidate's last entry, flags
 *	*VOTE_REPLY				term, reject
 *	APPEND					term, index/log_term = previous entry, commit,
 *							entries
 *	APPEND_REPLY			term, reject; accepted: index = last entry known to
 *							match; rejected: index = the rejected previous
 *							index, hint_index/hint_term = conflict hint
 *	HEARTBEAT				term, commit (never beyond the receiver's match),
 *							context = read/lease round
 *	HEARTBEAT_REPLY			term, context, index = last durable index
 *	SNAPSHOT				term, snapshot, offset, total, chunk, flags
 *	SNAPSHOT_REPLY			term, index = snapshot index, offset = next byte
 *							wanted (= total: installed), reject = start again
 *	TIMEOUT_NOW				term
 *	REMOVED					term, index
 */
struct raft_message
{
	int			type;
	raft_id		from;
	raft_id		to;
	raft_u64	from_incarnation;
	raft_u64	to_incarnation;
	raft_term	term;
	raft_index	index;
	raft_term	log_term;
	raft_index	commit;
	raft_u64	context;
	raft_index	hint_index;
	raft_term	hint_term;
	int			reject;			/* boolean */
	unsigned int flags;
	size_t		n_entries;
	const struct raft_entry *entries;
	const struct raft_snapshot_meta *snapshot;	/* SNAPSHOT only */
	raft_u64	offset;			/* bytes */
	raft_u64	total;			/* bytes */
	const unsigned char *chunk;
	size_t		chunk_length;
};

/* ----------------------------------------------------------------
 * What the host provides
 * ----------------------------------------------------------------
 */
struct raft_allocator
{
	void	   *context;
	void	   *(*allocate) (void *context, size_t size);	/* NULL = out of memory */
	void		(*release) (void *context, void *pointer);	/* NULL is ignored */
};

struct raft_callbacks
{
	void	   *context;

	/*
	 * Reads durable entries that left the engine's cache, beginning with
	 * `first`, at most `max_entries` and (after the first) at most `max_bytes`
	 * of payload.  The payload pointers must stay valid until the next call of
	 * read_entries.  Sets *n_read; 0 entries with RAFT_OK is not allowed.
	 */
	int			(*read_entries) (void *context, raft_index first,
								 size_t max_entries, size_t max_bytes,
								 struct raft_entry *entries, size_t *n_read);

	/*
	 * Reads bytes of the newest durable local snapshot, which must be the one
	 * with `index` (else RAFT_E_COMPACTED: the engine starts over with the
	 * newer one).  Sets *n_read and *total (size of the whole snapshot).
	 * *data must stay valid until the next call of read_snapshot.
	 */
	int			(*read_snapshot) (void *context, raft_index index,
								  raft_u64 offset, size_t max_bytes,
								  const unsigned char **data, size_t *n_read,
								  raft_u64 *total);

	/* Called before abort() when an invariant is broken; may be NULL. */
	void		(*assertion_failed) (void *context, const char *condition,
									 const char *file, int line);

	/* One line of trace, no newline; may be NULL.  Must not call the engine. */
	void		(*trace) (void *context, const char *line);
};

struct raft_params
{
	raft_id		id;
	raft_u64	incarnation;	/* this member's own, from the host's identity file */
	raft_u64	seed;
	raft_time	election_timeout_ms;	/* T: upper bound; drawn from [T/2, T] */
	raft_time	heartbeat_interval_ms;	/* <= T/3 */
	int			fast_detection; /* boolean: honour raft_peer_lost() */
	int			lease_reads;	/* boolean: allowed only with fast_detection off */
	unsigned int drift_bound_ppm;	/* of clocks, for leases */
	size_t		max_entry_bytes;	/* largest proposal */
	size_t		max_message_bytes;	/* payload of one APPEND */
	size_t		max_message_entries;	/* entries of one APPEND */
	size_t		max_inflight_messages;	/* per follower */
	size_t		max_inflight_bytes; /* per follower */
	size_t		max_uncommitted_bytes;	/* leader: beyond it RAFT_E_BUSY */
	size_t		cache_bytes;	/* entry cache, allocated at creation; at least
								 * 2 * max_entry_bytes */
	size_t		max_apply_bytes;	/* per update */
	size_t		snapshot_chunk_bytes;
	size_t		snapshot_bytes_per_second;	/* per follower; 0 = unlimited */
};

/* Fills everything but id, incarnation and seed with the documented defaults. */
void raft_params_default(struct raft_params *params);

struct raft;

/* ----------------------------------------------------------------
 * Life
 *
 * raft_create -> raft_restore_* (in the order hard state, snapshot, entries
 * ascending as recovery reads them; an entry at or below the last one restored
 * truncates first, exactly like the log did) -> raft_start.
 * ----------------------------------------------------------------
 */
int raft_create(struct raft **raft, const struct raft_params *params,
				const struct raft_allocator *allocator,
				const struct raft_callbacks *callbacks);
int raft_restore_hard_state(struct raft *raft, const struct raft_hard_state *state);
int raft_restore_snapshot(struct raft *raft, const struct raft_snapshot_meta *meta);
int raft_restore_entry(struct raft *raft, const struct raft_entry *entry);
/* Entries from `from` on were dropped (PgraftRecovery.truncate): an entry that
 * follows may be missing, or be behind the log's start. */
int raft_restore_truncate(struct raft *raft, raft_index from);
/* The log on disk begins after (index, term): a compacted prefix newer than
 * the snapshot is impossible, an older one (kept entries) is normal. */
int raft_restore_log_start(struct raft *raft, raft_index index, raft_term term);
int raft_start(struct raft *raft, raft_time now);
void raft_destroy(struct raft *raft);

/*
 * The first entry of a brand-new cluster: config with one voter, index 1, term
 * 1.  The host makes it and hard state {1, 0, 0} durable, then restores from
 * them.  `payload` needs RAFT_CONFIG_MAX_BYTES.
 */
int raft_bootstrap_entry(const struct raft_member *first_voter,
						 struct raft_entry *entry, unsigned char *payload);

/* ----------------------------------------------------------------
 * Events
 * ----------------------------------------------------------------
 */
void raft_tick(struct raft *raft, raft_time now);

/* Moment of the next raft_tick() that can change something. */
raft_time raft_next_deadline(const struct raft *raft);

/*
 * A message from a peer.  Anything well-formed in memory is safe to pass;
 * RAFT_E_INVALID says that it contradicts the protocol and was ignored.
 * Pointers in it need to live only during the call.
 */
int raft_receive(struct raft *raft, const struct raft_message *message);

struct raft_proposal
{
	size_t		length;
	const unsigned char *data;
};

/*
 * Leader: appends all of `batch` as RAFT_ENTRY_NORMAL or nothing.  Entry i
 * gets *first_index + i in *term.  Committed when it comes back in
 * update.apply with that index and term; lost when another entry does.
 */
int raft_propose(struct raft *raft, const struct raft_proposal *batch,
				 size_t n, raft_index *first_index, raft_term *term);

/*
 * Leader: linearizable read (diss. 6.4, ReadIndex).  `token` comes back in
 * update.reads; the host then waits until its state machine has applied
 * .index.  After losing leadership every pending token comes back with an
 * error.  RAFT_E_NOT_READY before an own-term entry is committed.
 */
int raft_read(struct raft *raft, raft_u64 token);

/*
 * Leader: changes membership.  One simple change at a time; several, or a
 * swap, need joint consensus.  *index is the configuration's entry.
 * Removing the leader itself: the host transfers leadership first, or the
 * leader steps down once the entry commits (diss. 4.2.2).
 */
int raft_change_membership(struct raft *raft, const struct raft_change *changes,
						   size_t n, raft_index *index);

/*
 * Leader: hands over; target 0 = the most up-to-date voter.  Proposals answer
 * RAFT_E_TRANSFERRING until it is over, after T at the latest.  The engine does
 * this by itself when no batch has become durable for longer than T.
 */
int raft_transfer(struct raft *raft, raft_id target);

/* Leader: becomes follower at once and does not campaign for T. */
int raft_step_down(struct raft *raft);

void raft_persisted(struct raft *raft, raft_u64 epoch);
void raft_applied(struct raft *raft, raft_index index);

/*
 * The connection to a peer broke and the peer's host refused a new one, so its
 * process is gone (or raft_peer_found(): a connection is up again).  If it was
 * the leader and fast_detection is on: PreVote within a few milliseconds.
 */
void raft_peer_lost(struct raft *raft, raft_id peer);
void raft_peer_found(struct raft *raft, raft_id peer);

/*
 * Snapshot of the host's state machine at the applied index.  begin fills
 * meta (RAFT_E_UNAVAILABLE when nothing is applied); after the host made the
 * snapshot durable, raft_compact() lets the engine and the log forget entries
 * up to snapshot_index, keeping `retain` entries before it for slow followers.
 * It sets *first_kept: the storage may drop everything before that index.
 */
int raft_snapshot_begin(struct raft *raft, struct raft_snapshot_meta *meta);
int raft_compact(struct raft *raft, const struct raft_snapshot_meta *meta,
				 raft_index retain, raft_index *first_kept);

/* ----------------------------------------------------------------
 * The update
 * ----------------------------------------------------------------
 */
struct raft_snapshot_chunk
{
	struct raft_snapshot_meta meta;
	raft_u64	offset;			/* 0 = begin a new temporary file */
	raft_u64	total;
	const unsigned char *data;
	size_t		length;
};

struct raft_read_result
{
	raft_u64	token;
	raft_index	index;			/* wait until applied >= index */
	int			error;			/* RAFT_OK or RAFT_E_NOT_LEADER */
};

/* struct raft_update.notices */
#define RAFT_NOTICE_STATE	0x01	/* state or term changed */
#define RAFT_NOTICE_LEADER	0x02	/* known leader changed */
#define RAFT_NOTICE_CONFIG	0x04	/* current configuration changed */
#define RAFT_NOTICE_REMOVED 0x08	/* this membership has ended */

struct raft_update
{
	/* 1. may go now */
	size_t		n_messages;
	const struct raft_message *messages;

	/* 2. one batch to write, in this order; epoch 0 = nothing to write */
	raft_u64	epoch;
	int			must_sync;		/* 0: at most the commit hint or a chunk is to be
								 * written: in order, but no flush is needed for
								 * raft_persisted */
	raft_index	truncate_from;	/* drop entries >= this; 0 = none */
	const struct raft_snapshot_chunk *chunk;	/* append to the incoming file */
	const struct raft_snapshot_meta *install;	/* the incoming file is complete:
												 * make it the snapshot; the log
												 * restarts after it unless
												 * install_keeps_log */
	int			install_keeps_log;	/* entries after it match and stay */
	int			hard_state_changed;
	struct raft_hard_state hard_state;	/* always filled */
	size_t		n_entries;
	const struct raft_entry *entries;

	/* 3. may go once epoch is durable */
	size_t		n_messages_after;
	const struct raft_message *messages_after;

	/*
	 * 4. committed, in order.  When install is set the host loads its state
	 * machine from that snapshot before it applies anything; apply is empty in
	 * such an update.
	 */
	size_t		n_apply;
	const struct raft_entry *apply;

	size_t		n_reads;
	const struct raft_read_result *reads;
	unsigned int notices;
};

/* Returns 1 and fills *update when there is anything to do, else 0. */
int raft_take_update(struct raft *raft, struct raft_update *update);

/* ----------------------------------------------------------------
 * Looking in
 * ----------------------------------------------------------------
 */
struct raft_status
{
	raft_id		id;
	raft_u64	incarnation;
	int			state;			/* enum raft_state */
	int			role;			/* enum raft_role in the current configuration */
	int			removed;		/* boolean: told so by the cluster */
	raft_term	term;
	raft_id		vote;
	raft_id		leader;			/* 0 = unknown */
	raft_index	first_index;	/* of the log; last_index + 1 when empty */
	raft_index	last_index;
	raft_term	last_term;
	raft_index	durable_index;
	raft_index	commit_index;
	raft_index	applied_index;
	raft_index	snapshot_index;
	raft_term	snapshot_term;
	int			own_term_committed; /* leader: boolean */
	raft_id		transfer_target;	/* 0 = none */
	raft_time	lease_until;	/* leader: 0 = none */
	raft_time	quorum_contact; /* leader: since when a majority has been silent */
	raft_time	leader_contact;	/* follower: last time heard from the leader */
	raft_u64	elections_started;	/* real elections, not PreVotes */
	raft_u64	prevotes_started;
	raft_u64	messages_received;
	raft_u64	messages_ignored;	/* stale, other incarnation, invalid */
	raft_u64	heartbeats_sent;
	raft_time	disk_waiting_since; /* oldest batch that must be flushed and is not
									 * reported durable; 0 = none */
	raft_u64	stall_transfers;	/* begun because the leader's disk was silent
									 * for longer than T */
	raft_u64	uncommitted_bytes;
	raft_u64	cached_bytes;
};

void raft_status(const struct raft *raft, struct raft_status *status);

/* The configuration in force (committed or not); valid until the next event. */
const struct raft_config *raft_get_config(const struct raft *raft);

/* Index up to which the current configuration is committed: boolean. */
int raft_config_committed(const struct raft *raft);

enum raft_progress_state
{
	RAFT_PROGRESS_PROBE = 0,
	RAFT_PROGRESS_REPLICATE,
	RAFT_PROGRESS_SNAPSHOT
};

/* "probe", "replicate", "snapshot" */
const char *raft_progress_name(int state);

struct raft_peer_status
{
	raft_id		id;
	int			progress;		/* enum raft_progress_state */
	raft_index	match_index;
	raft_index	next_index;
	raft_time	last_contact;	/* at the latest the begin of this leadership */
	size_t		inflight_messages;
	size_t		inflight_bytes;
	raft_u64	snapshot_offset;	/* bytes sent of a snapshot transfer */
	raft_u64	snapshot_total;
	int			connected;		/* boolean: not reported lost */
};

/* Leader only: RAFT_E_NOT_LEADER otherwise; RAFT_E_UNKNOWN_MEMBER. */
int raft_peer_status(const struct raft *raft, raft_id peer,
					 struct raft_peer_status *status);

/* Term of a log position: RAFT_E_COMPACTED / RAFT_E_UNAVAILABLE outside. */
int raft_term_at(const struct raft *raft, raft_index index, raft_term *term);

/*
 * Checks every invariant that holds between two events (src/raft/invariants.c)
 * and returns NULL, or the text of the first that does not hold.  O(members +
 * terms), for the simulator, tests and debug builds.
 */
const char *raft_check_invariants(const struct raft *raft);

/* ----------------------------------------------------------------
 * Quorum arithmetic, pure (src/raft/quorum.c)
 * ----------------------------------------------------------------
 */

/*
 * The greatest index that a majority of the voters has, and in a joint
 * configuration a majority of each half.  acked[i] belongs to
 * config->members[i], 0 = nothing heard; learners' are ignored.  A half without
 * voters has committed nothing: 0.
 */
raft_index raft_quorum_index(const struct raft_config *config,
							 const raft_index *acked);

enum raft_vote
{
	RAFT_VOTE_MISSING = 0,
	RAFT_VOTE_YES,
	RAFT_VOTE_NO
};
enum raft_vote_result
{
	RAFT_VOTE_PENDING = 0,
	RAFT_VOTE_WON,
	RAFT_VOTE_LOST
};

/*
 * The outcome of a vote, votes[i] (enum raft_vote) belonging to
 * config->members[i]: won when each half has a majority for it, lost as soon
 * as one half cannot have one any more.  A half without voters has lost.
 */
int raft_vote_result(const struct raft_config *config, const int *votes);

#endif							/* PGRAFT_RAFT_H */
