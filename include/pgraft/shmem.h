/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  What the consensus worker and the backends share: the status block, the
 *	  request queue, the root of the key-value store.
 *
 * Status: written by the worker alone, read by anybody without a lock through
 * a sequence counter (pgraft_read_status, pgraft_read_members).  After a crash
 * reinitialisation everything is zero: worker_pid = 0, no leader, store not
 * loaded.
 *
 * Requests: a backend fills a PgraftCall and calls pgraft_call(), which waits
 * on the backend's latch, can be cancelled at any time, and raises the error
 * that belongs to the result.  Nothing in here may be called in the postmaster.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_SHMEM_H
#define PGRAFT_SHMEM_H

#include "datatype/timestamp.h"
#include "pgraft/net.h"
#include "pgraft/raft.h"
#include "pgraft/storage.h"

/* ----------------------------------------------------------------
 * Status
 * ----------------------------------------------------------------
 */
typedef enum PgraftWorkerState
{
	PGRAFT_WORKER_STOPPED = 0,	/* zeroed memory, or the worker has ended */
	PGRAFT_WORKER_STARTING,
	PGRAFT_WORKER_BLANK,		/* not initialised: waits for init or invitation */
	PGRAFT_WORKER_RUNNING,
	PGRAFT_WORKER_REMOVED,		/* the cluster removed this member */
	PGRAFT_WORKER_FAILED		/* see failure; it will not act any more */
} PgraftWorkerState;

/* "stopped", "starting", "blank", "running", "removed", "failed" */
extern const char *pgraft_worker_state_name(int state);

typedef struct PgraftStatus
{
	int			worker_state;	/* PgraftWorkerState */
	int			worker_pid;		/* 0 = none */
	char		failure[512];	/* worker_state FAILED, or the last refusal to
								 * start; "" = none */
	raft_u64	cluster_uid;
	char		name[RAFT_NAME_SIZE];	/* own */
	struct raft_status raft;
	int			store_loaded;	/* boolean: the key-value store may be read */
	int			num_nodes;		/* members of the current configuration */
	int			num_voters;
	uint64		config_index;
	TimestampTz started_at;		/* of the worker */
	TimestampTz reset_at;
	TimestampTz leader_since;	/* when the current leader became known; 0 = none */
	uint64		leader_changes;
	uint64		proposals;		/* commands proposed by this leader */
	uint64		proposals_committed;	/* and applied with their term */
	uint64		proposals_forwarded;	/* sent to the leader by this follower */
	uint64		proposal_bytes;
	uint64		proposals_failed;	/* refused or outcome unknown */
	uint64		messages_dropped;	/* the disk being too far behind for more */
	uint64		batches;		/* raft_propose() calls */
	uint64		entries_applied;
	uint64		reads_linearizable;
	uint64		snapshots_taken;
	uint64		snapshots_installed;
	uint64		loop_turns;
	uint64		queue_depth;	/* requests submitted and not answered */
	uint64		pending_write_bytes;	/* handed to the flush thread */
	PgraftStorageStats storage;
	PgraftNetStats net;
} PgraftStatus;

typedef struct PgraftMemberStatus
{
	struct raft_member member;
	int			has_progress;	/* boolean: this member leads, progress is known */
	struct raft_peer_status progress;
	int64		lag_bytes;		/* -1 = not known */
	raft_time	lag_since;		/* pgraft_monotonic_ms() when the first entry
								 * that it lacks was there; 0 = lacks nothing */
	TimestampTz last_contact;	/* 0 = never; of any frame from it */
	int			has_net;		/* boolean: false for this member itself */
	PgraftNetPeerStats net;
} PgraftMemberStatus;

typedef struct PgraftMembers
{
	int			n_members;
	PgraftMemberStatus members[RAFT_MAX_MEMBERS];
} PgraftMembers;

/* Consistent copies; cheap, lock-free, valid in any backend. */
extern void pgraft_read_status(PgraftStatus *status);
extern void pgraft_read_members(PgraftMembers *members);

/* The clock of everything that the status counts in milliseconds. */
extern raft_time pgraft_monotonic_ms(void);

/* Cheap single facts for hot functions (no copy of the whole block). */
extern bool pgraft_status_is_leader(void);
extern uint64 pgraft_status_applied_index(void);

/*
 * Waits on the status change condition variable until the applied index is at
 * least `index` (pass 0 and leader = true to wait for a known leader instead).
 * Returns false after timeout_ms.
 */
extern bool pgraft_wait_for_status(uint64 index, bool leader, int timeout_ms);

/* Counters start again from zero (reset_at = now). */
extern void pgraft_reset_statistics(void);

/* ereport(ERROR, 55000, hint) unless the library was preloaded. */
extern void pgraft_require_preloaded(void);

/* ----------------------------------------------------------------
 * Requests
 * ----------------------------------------------------------------
 */
typedef enum PgraftRequestKind
{
	PGRAFT_REQUEST_INIT = 1,	/* flag out: true = made a cluster now */
	PGRAFT_REQUEST_PROPOSE,		/* data = command (command.h); returns once applied
								 * on THIS member */
	PGRAFT_REQUEST_READ_BARRIER,	/* returns once this member has applied
									 * everything committed before the call */
	PGRAFT_REQUEST_ADD_MEMBER,	/* data = struct raft_member */
	PGRAFT_REQUEST_REMOVE_MEMBER,	/* argument = id */
	PGRAFT_REQUEST_UPDATE_MEMBER,	/* data = struct raft_member */
	PGRAFT_REQUEST_PROMOTE_MEMBER,	/* argument = id */
	PGRAFT_REQUEST_TRANSFER,	/* argument = id, 0 = best */
	PGRAFT_REQUEST_STEP_DOWN,	/* leader anywhere: forwarded */
	PGRAFT_REQUEST_SNAPSHOT,	/* local; index out */
	PGRAFT_REQUEST_LOG_READ,	/* local; argument = first index, argument2 = last;
								 * reply = records of PgraftLogReadRecord */
	PGRAFT_REQUEST_CHANGE_MEMBERS	/* data = array of struct raft_change; all of
									 * them or none */
} PgraftRequestKind;

typedef enum PgraftResult
{
	PGRAFT_RESULT_OK = 0,
	PGRAFT_RESULT_NOT_INITIALIZED,	/* 55000 */
	PGRAFT_RESULT_NO_WORKER,	/* 57P03 */
	PGRAFT_RESULT_NO_LEADER,	/* 57P03, nothing was proposed */
	PGRAFT_RESULT_NOT_LEADER,	/* internal between workers: try another member */
	PGRAFT_RESULT_UNKNOWN,		/* 40003 outcome unknown */
	PGRAFT_RESULT_TOO_LARGE,	/* 54000 */
	PGRAFT_RESULT_INVALID,		/* 22023 */
	PGRAFT_RESULT_MEMBER_EXISTS,	/* 42710 */
	PGRAFT_RESULT_UNKNOWN_MEMBER,	/* 42704 */
	PGRAFT_RESULT_CHANGE_PENDING,	/* 55006 */
	PGRAFT_RESULT_LAST_VOTER,	/* 55000 */
	PGRAFT_RESULT_TOO_MANY,		/* 54000 */
	PGRAFT_RESULT_UNREACHABLE,	/* 08001 the address to add does not answer */
	PGRAFT_RESULT_BUSY,			/* 53400 queue full */
	PGRAFT_RESULT_NO_SPACE,		/* 53100 */
	PGRAFT_RESULT_COMPACTED,	/* 22023: older than the log */
	PGRAFT_RESULT_REMOVED,		/* 55000 this member was removed */
	PGRAFT_RESULT_SHUTDOWN,		/* 57P01 */
	PGRAFT_RESULT_NOT_LISTENING,	/* 55000 port taken, bad certificate */
	PGRAFT_RESULT_FAILED,		/* XX000/58030, detail says what */
	PGRAFT_RESULT_BEHIND		/* 55000 the member to add did not catch up */
} PgraftResult;

typedef struct PgraftCall
{
	/* in */
	PgraftRequestKind kind;
	uint64		argument;
	uint64		argument2;
	const void *data;
	size_t		length;
	int			timeout_ms;		/* 0 = pgraft.request_timeout */
	/* out */
	PgraftResult result;
	uint64		index;			/* log index of the proposal, read index, ... */
	uint64		value;			/* apply result: revision and the like */
	int			flag;			/* apply result: succeeded, existed, ... */
	char	   *reply;			/* palloc'd in the caller's context; NULL = none */
	size_t		reply_length;
	char		detail[256];
} PgraftCall;

/* Sends and waits.  Raises the error of any result but OK. */
extern void pgraft_call(PgraftCall *call);

/* LOG_READ's reply: these, each followed by `length` bytes padded to 8. */
typedef struct PgraftLogReadRecord
{
	uint64		index;
	uint64		term;
	int32		type;			/* enum raft_entry_type */
	uint32		length;
} PgraftLogReadRecord;

/* ----------------------------------------------------------------
 * Area shared for payloads and the key-value store
 * ----------------------------------------------------------------
 */
struct dsa_area;

/* Attached once per process, lives in TopMemoryContext. */
extern struct dsa_area *pgraft_dsa(void);

#endif							/* PGRAFT_SHMEM_H */
