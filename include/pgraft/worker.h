/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  What the files of the consensus worker share among themselves.
 *
 * One process, one thread (besides those of flush.h); nothing here is
 * shared memory.
 *
 *		worker.c	process: start, event loop, signals, end
 *		node.c		the member: storage and engine opened, made, adopted
 *		removed.c	directories of ended memberships
 *		disk.c		what to do about a full or stalled disk
 *		turn.c		carries out the engine's updates
 *		peers.c		callbacks of the network, list of peers
 *		operations.c	the table of requests on their way
 *		service.c	requests of this server's backends
 *		forward.c	requests between members
 *		members.c	requests that change membership or leadership
 *		change_members.c	several changes of membership as one
 *		publish.c	status for the views
 *		lag.c		how far behind a member is
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_WORKER_H
#define PGRAFT_WORKER_H

#include "pgraft/command.h"
#include "pgraft/flush.h"
#include "pgraft/held.h"
#include "pgraft/net.h"
#include "pgraft/raft.h"
#include "pgraft/request.h"
#include "pgraft/storage.h"

/* ----------------------------------------------------------------
 * The member
 * ----------------------------------------------------------------
 */
typedef struct PgraftPeerContact
{
	raft_id		id;
	raft_time	last_frame;		/* 0 = never */
	bool		up;				/* our connection to it is usable */
	bool		refused;		/* nobody listens there */
} PgraftPeerContact;

typedef struct PgraftNode
{
	/* PgraftWorkerState and why */
	int			state;
	char		failure[512];

	raft_time	now;			/* monotonic ms of this turn */
	raft_u64	boot_session;	/* random, low 16 bits zero: sessions of this
								 * worker's requests */

	/* storage */
	PgraftIo	io;
	PgraftStorageOptions storage_options;
	PgraftStorage *storage;		/* NULL = blank */
	PgraftIdentity identity;
	char	   *directory;
	PgraftFlush *flush;
	raft_time	open_again_at;	/* no space to open the log; 0 = no such thing */
	bool		join_full;		/* no space to join: said in the server log */
	bool		disk_full;		/* as last said in the server log */
	bool		disk_stalled;	/* the same */
	raft_time	disk_stalled_since;
	bool		waited_for_space;	/* what is being written */
	bool		handing_over;	/* because of it: said in the server log */
	raft_time	hand_over_at;	/* disk full: not tried again before */
	raft_time	disk_probed;	/* disk full: since when we ask whether others
								 * can write; 0 = not yet */

	/* engine */
	struct raft *raft;			/* NULL = blank */
	raft_u64   *inflight;		/* epochs covered by the jobs being written */
	int			n_inflight;
	int			inflight_size;
	PgraftHeld	held;			/* answers that wait for them */
	bool		installing;		/* waiting for a snapshot to be durable */
	bool		hint_dirty;		/* commit hint newer than on disk */
	raft_time	hint_written;
	PgraftSnapshotWriter *snapshot; /* our own, not yet handed back */
	bool		saving;			/* the store is being serialised for it */
	bool		snapshot_cancelled; /* it is to be dropped then */
	PgraftJob  *snapshot_job;	/* records a finished one in the log */
	struct raft_snapshot_meta *snapshot_meta;
	unsigned int notices;		/* RAFT_NOTICE_* since the last publishing */
	raft_id		logged_leader;
	raft_term	logged_term;
	int			logged_state;
	bool		peers_changed;

	/* network */
	PgraftNet  *net;			/* NULL = listener could not be opened (yet) */
	raft_time	net_retry_at;
	PgraftNetPeer strangers[RAFT_MAX_MEMBERS];	/* greeted us, but are not in our
												 * configuration (yet) */
	int			n_strangers;
	PgraftNetPeer greeted[RAFT_MAX_MEMBERS];	/* members, where and as what they
												 * said themselves that they are */
	int			n_greeted;
	PgraftPeerContact contacts[RAFT_MAX_MEMBERS * 2];
	int			n_contacts;
	PgraftWireScratch scratch;

	/* counters for the status */
	PgraftStatus status;
	raft_time	members_published;
} PgraftNode;

/* node.c */
extern void pgraft_node_begin(PgraftNode *node);
/* False without space leaves a member that is blank, or failed until there is some. */
extern bool pgraft_node_bootstrap(PgraftNode *node, PgraftError *error);
extern bool pgraft_node_adopt(PgraftNode *node, raft_u64 cluster_uid, raft_u64 incarnation,
							  PgraftError *error);
extern bool pgraft_node_retire(PgraftNode *node, PgraftError *error);
extern void pgraft_node_fail(PgraftNode *node, const PgraftError *error, const char *what);
extern void pgraft_node_end(PgraftNode *node);
extern bool pgraft_node_load_snapshot(PgraftNode *node, PgraftError *error);
extern int	pgraft_read_entries_callback(void *context, raft_index first, size_t max_entries,
										 size_t max_bytes, struct raft_entry *entries,
										 size_t *n_read);
extern int	pgraft_read_snapshot_callback(void *context, raft_index index, raft_u64 offset,
										  size_t max_bytes, const unsigned char **data,
										  size_t *n_read, raft_u64 *total);
extern raft_u64 pgraft_random_u64(void);
extern void pgraft_report(int elevel, const PgraftError *error);

/* removed.c */
extern void pgraft_remove_old_memberships(PgraftNode *node);

/* disk.c */
/* Once per turn: says what is wrong with the disk, hands over when it is full. */
extern void pgraft_node_watch_disk(PgraftNode *node);

/* Instead of pgraft_node_fail() when the log needs space to be opened. */
extern void pgraft_node_open_again(PgraftNode *node, const PgraftError *error);

/* Instead of pgraft_node_fail() when a new member's log needs space. */
extern void pgraft_node_not_yet(PgraftNode *node, const PgraftError *error);

/*
 * May a command enter the log here?  OK, BUSY (soon: leadership moves, or much
 * waits for the disk), or NO_SPACE.
 */
extern PgraftResult pgraft_node_disk_accepts(PgraftNode *node);

/* turn.c */
extern void pgraft_turn_updates(PgraftNode *node);
extern void pgraft_turn_flushed(PgraftNode *node);
extern void pgraft_turn_housekeeping(PgraftNode *node);
extern void pgraft_turn_snapshot(PgraftNode *node);
extern bool pgraft_turn_snapshot_goes_on(PgraftNode *node);
extern bool pgraft_start_snapshot(PgraftNode *node, raft_index *index, PgraftError *error);

/* peers.c */
extern void pgraft_peers_open(PgraftNode *node);
extern void pgraft_peers_refresh(PgraftNode *node);
extern void pgraft_peers_self_changed(PgraftNode *node);
extern void pgraft_peers_reload(PgraftNode *node);
extern PgraftPeerContact *pgraft_contact(PgraftNode *node, raft_id id);

/* service.c, forward.c and operations.c */
extern void pgraft_service_begin(PgraftNode *node);
extern void pgraft_service_propose(PgraftNode *node);
extern void pgraft_service_step(PgraftNode *node);
extern raft_time pgraft_service_deadline(PgraftNode *node);
extern void pgraft_service_applied(PgraftNode *node, const struct raft_entry *entry,
								   const PgraftApplyResult *result);
extern void pgraft_service_read_ready(PgraftNode *node, const struct raft_read_result *read);
extern void pgraft_service_leader_changed(PgraftNode *node);
extern void pgraft_service_peer_changed(PgraftNode *node, raft_id peer);
/* error: why there is none; NULL = there is one */
extern void pgraft_service_snapshot_done(PgraftNode *node, raft_index index,
										 const PgraftError *error);
extern int	pgraft_service_request(PgraftNode *node, const PgraftFrameHeader *header,
								   const unsigned char *payload);
extern int	pgraft_service_reply(PgraftNode *node, const PgraftFrameHeader *header,
								 const unsigned char *payload);
extern void pgraft_service_fail_all(PgraftNode *node, const char *detail);

/* lag.c */
extern void pgraft_lag_sample(PgraftNode *node, const struct raft_status *status,
							  uint64 bytes);
extern void pgraft_lag_of(raft_index index, int64 *bytes, raft_time *since);

/* publish.c */
extern void pgraft_publish(PgraftNode *node, bool force);

/* ----------------------------------------------------------------
 * Operations: a request on its way (service.c owns the table)
 * ----------------------------------------------------------------
 */
typedef enum PgraftPhase
{
	PGRAFT_PHASE_WAITING = 0,	/* for a leader, or to be tried again */
	PGRAFT_PHASE_PROPOSED,		/* in our log: ends when applied here */
	PGRAFT_PHASE_FORWARDED,		/* with the leader */
	PGRAFT_PHASE_READING,		/* raft_read() runs */
	PGRAFT_PHASE_APPLYING,		/* ends when applied >= index */
	PGRAFT_PHASE_COMMITTING,	/* membership change: ends when committed */
	PGRAFT_PHASE_JOINING,		/* new member: until it has its role */
	PGRAFT_PHASE_UNDOING,		/* new member did not answer: being removed */
	PGRAFT_PHASE_MOVING,		/* leadership is being transferred */
	PGRAFT_PHASE_SNAPSHOT,		/* until a local snapshot is done */
	PGRAFT_PHASE_LEADING		/* init: until this member leads */
} PgraftPhase;

typedef struct PgraftOperation
{
	bool		used;
	int			slot;			/* of the request queue; -1 = from another member,
								 * or an orphan */
	bool		orphan;			/* its backend has gone; seen through by us */
	uint64		old_token;		/* orphan: its name of before */
	raft_id		peer;			/* which one */
	raft_u64	request;		/* its token */
	int			kind;			/* PgraftRequestKind */
	uint64		argument;
	uint64		argument2;
	raft_time	timeout;		/* ms that whoever asked waits */
	struct raft_member member;	/* ADD, UPDATE */
	struct raft_change *changes;	/* CHANGE_MEMBERS: n_changes of them */
	int			n_changes;
	raft_index	goal;			/* CHANGE_MEMBERS, joining: see caught_up() */
	raft_time	round_started;
	PgraftResult undo_result;	/* CHANGE_MEMBERS, undoing: the answer */
	char		undo_detail[256];
	PgraftPhase phase;
	bool		again;			/* tried before: its effect may be there already */
	int			attempts;
	raft_id		leader;			/* FORWARDED: to whom */
	raft_index	index;
	raft_term	term;
	raft_time	started;
	raft_time	retry_at;		/* WAITING, FORWARDED: when to try (again) */
	uint32		generation;		/* tells uses of one table entry apart */
} PgraftOperation;

/* operations.c */
extern int	pgraft_operation_count(void);
extern PgraftOperation *pgraft_operation_active(int i);
extern PgraftOperation *pgraft_operation_of_slot(int slot);
extern PgraftOperation *pgraft_operation_new(void);
extern void pgraft_operation_begin(PgraftNode *node, PgraftOperation *op, int slot);
/* NULL for requests of other members, and for orphans. */
extern PgraftSlot *pgraft_operation_slot(const PgraftOperation *op);
/*
 * Its backend has gone, but it may have begun and must not be left half done:
 * the slot is given back and the operation goes on without.  False when there is
 * no place for it now.
 */
extern bool pgraft_operation_orphan(PgraftNode *node, PgraftOperation *op);
/* Whoever sent it asks the next leader, so that this member need not. */
extern bool pgraft_operation_is_remote(const PgraftOperation *op);
/*
 * Before what may have an effect.  False when its backend has gone, which was
 * told that nothing happened: then nothing may.
 */
extern bool pgraft_operation_may_act(const PgraftOperation *op);
/* It had none; nor had an attempt before, or what that one did is not denied. */
extern void pgraft_operation_did_not_act(const PgraftOperation *op);
/* Names this use of the entry, for answers that come later; NULL when over. */
extern uint64 pgraft_operation_token(const PgraftOperation *op);
extern PgraftOperation *pgraft_operation_of_token(uint64 token);
extern void pgraft_operation_fail(PgraftNode *node, PgraftOperation *op, const char *detail);
extern bool pgraft_is_leader_here(const PgraftNode *node);
extern raft_id pgraft_current_leader(const PgraftNode *node);

/* forward.c */
extern bool pgraft_is_own_removal(const PgraftNode *node, const PgraftOperation *op);
extern bool pgraft_forward(PgraftNode *node, PgraftOperation *op);
extern void pgraft_send_reply(PgraftNode *node, raft_id peer, raft_u64 request,
							  PgraftResult result, raft_index index, const char *detail);

extern void pgraft_operation_answer(PgraftNode *node, PgraftOperation *op,
									PgraftResult result, const char *detail);
extern void pgraft_operation_wait(PgraftNode *node, PgraftOperation *op, raft_time delay);
/* In PgraftWireRequest.kind: the sender has sent this request before. */
#define PGRAFT_FORWARD_AGAIN 0x100

extern size_t pgraft_member_encode(const struct raft_member *member, unsigned char *buffer);
extern bool pgraft_member_decode(struct raft_member *member, const unsigned char *data,
								 size_t length);
extern void pgraft_member_operation(PgraftNode *node, PgraftOperation *op);
/* Asks the engine for n changes as one; op->index is their entry. */
extern int	pgraft_member_change(PgraftNode *node, PgraftOperation *op,
								 const struct raft_change *changes, int n);
/* Goes on to `phase`, waits when it is not possible just now, or answers. */
extern void pgraft_member_begun(PgraftNode *node, PgraftOperation *op, int result,
								PgraftPhase phase);

/* change_members.c */
extern size_t pgraft_changes_bytes(const struct raft_change *changes, int n);
extern void pgraft_changes_encode(const struct raft_change *changes, int n,
								  unsigned char *buffer);
extern int	pgraft_changes_decode(struct raft_change *changes, const unsigned char *data,
								  size_t length);
extern void pgraft_changes_keep(PgraftOperation *op, const struct raft_change *changes, int n);
extern bool pgraft_changes_remove(const PgraftOperation *op, raft_id id);
extern void pgraft_changes_begin(PgraftNode *node, PgraftOperation *op);
extern void pgraft_changes_watch(PgraftNode *node, PgraftOperation *op,
								 const struct raft_status *status);
extern void pgraft_changes_commit(PgraftNode *node, PgraftOperation *op,
								  const struct raft_status *status);
extern void pgraft_changes_undo(PgraftNode *node, PgraftOperation *op);
extern PgraftResult pgraft_result_of_raft(int error);

#endif							/* PGRAFT_WORKER_H */
