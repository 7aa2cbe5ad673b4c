/*-------------------------------------------------------------------------
 *
 * raft_fixture.h
 *	  A cluster of engines in memory, under the control of a test.
 *
 * Time is virtual and jumps from event to event.  The test decides what the
 * network does with a message (cut links, a filter, loss, duplication, random
 * delay and with it reordering), when a write becomes durable (delay, or held
 * until released), and which member crashes, restarts or pauses.
 *
 * After each event these rules are checked; the first that is broken is kept
 * in Cluster.failure:
 *
 *	- raft_check_invariants() of the member concerned
 *	- one leader per term; a new leader has every entry applied anywhere
 *	- equal entry and equal state per index on all members
 *	- term and commit index never fall while a member lives
 *	- what a leader commits is of its own term and durable on a quorum
 *	- an answer leaves after what it promises is durable; one vote per term,
 *	  across crashes
 *	- a read that succeeds sees everything committed before it was asked
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_TEST_RAFT_FIXTURE_H
#define PGRAFT_TEST_RAFT_FIXTURE_H

#include "pgraft/raft.h"

#define FIXTURE_NODES 9			/* ids 1 .. FIXTURE_NODES - 1 */
#define FIXTURE_TERMS 4096
#define FIXTURE_READS 1024

/* What a filter decides about a message. */
typedef enum Verdict
{
	DELIVER,
	DROP,
	HOLD						/* until cluster_release() */
} Verdict;

typedef struct Packet
{
	struct raft_message message;	/* deep copy */
	raft_time	due;
	struct Packet *next;
} Packet;

typedef struct Write
{
	raft_u64	epoch;
	raft_time	due;
	raft_index	truncate_from;
	int			has_chunk;
	struct raft_snapshot_chunk chunk;
	int			has_install;
	struct raft_snapshot_meta install;
	int			install_keeps_log;
	int			hard_state_changed;
	struct raft_hard_state hard_state;
	size_t		n_entries;
	struct raft_entry *entries;
	Packet	   *after;			/* messages that wait for it */
	struct Write *next;
} Write;

typedef struct Blob
{
	unsigned char *data;
	size_t		length;
	size_t		size;
} Blob;

typedef struct Disk
{
	struct raft_hard_state hard_state;
	raft_index	start;			/* the log begins after it */
	raft_term	start_term;
	raft_index	last;
	struct raft_entry *entries; /* by index */
	size_t		size;
	struct raft_snapshot_meta meta; /* index 0 = no snapshot */
	Blob		snapshot;
	Blob		incoming;
} Disk;

typedef struct ReadRecord
{
	raft_u64	token;
	raft_index	floor;			/* committed anywhere when it was asked */
	raft_index	index;
	int			done;
	int			error;
	raft_time	answered;
} ReadRecord;

typedef struct Node
{
	raft_id		id;
	raft_u64	incarnation;
	struct raft *raft;			/* NULL = down */
	struct raft_params params;
	Disk		disk;
	Write	   *writes;			/* in flight, oldest first */
	Blob		incoming;		/* as the host sees it, durable or not */

	/* controls */
	int			paused;
	int			hold_disk;
	int			hold_apply;
	raft_time	disk_delay;

	/* state machine */
	raft_index	applied;
	raft_u64	state;
	raft_index	apply_done;		/* to be reported; 0 = nothing */

	/* observations */
	struct raft_status seen;
	unsigned int notices;
	raft_id		votes[FIXTURE_TERMS];	/* granted, by term */
	ReadRecord	reads[FIXTURE_READS];
	int			n_reads;
	int			entries_read_back;	/* through read_entries */
	int			installs;
	int			chunks;
	raft_time	became_leader;
} Node;

typedef struct Applied
{
	raft_term	term;
	raft_u64	hash;
	raft_u64	state;
} Applied;

typedef struct Cluster Cluster;
typedef Verdict (*Filter) (Cluster *cluster, const struct raft_message *message);

struct Cluster
{
	raft_time	now;
	raft_u64	random;
	struct raft_params params;	/* of nodes that are started from now on */
	struct raft_allocator allocator;
	Node		nodes[FIXTURE_NODES];

	/* network */
	Packet	   *packets;		/* by due time */
	Packet	   *held;
	int			cut[FIXTURE_NODES][FIXTURE_NODES];	/* [from][to] */
	Filter		filter;
	void	   *filter_data;
	raft_time	latency;
	raft_time	jitter;			/* added at random: reorders */
	int			loss_percent;
	int			duplicate_percent;
	unsigned long sent[RAFT_MSG_MAX + 1];
	unsigned long bytes_sent;	/* payload of APPEND */

	/* what all have agreed on */
	raft_id		leaders[FIXTURE_TERMS];
	Applied    *applied;
	size_t		applied_size;
	raft_index	max_applied;
	raft_index	max_commit;
	size_t		snapshot_bytes; /* of a snapshot */

	unsigned long allocations;
	unsigned long fail_allocation;	/* the Nth from now on; 0 = none */
	int			exhausted;		/* all fail */

	char		failure[256];	/* first broken rule; "" = none */
	int			failures;
};

/* Change cluster->params in between; start makes n voters with ids 1..n. */
Cluster    *cluster_create(raft_u64 seed);
void		cluster_start(Cluster *cluster, int n);
Cluster    *cluster_begin(int n, raft_u64 seed);	/* create and start */
raft_id		cluster_elect(Cluster *cluster);	/* its leader, everything settled */
void		cluster_destroy(Cluster *cluster);

/* Life of members */
void		cluster_start_blank(Cluster *cluster, raft_id id, raft_u64 incarnation);
void		cluster_crash(Cluster *cluster, raft_id id);	/* unpersisted writes are lost */
int			cluster_restart(Cluster *cluster, raft_id id);
void		cluster_report_lost(Cluster *cluster, raft_id id);	/* to all others */

/* Time.  until returns true when it is to stop. */
typedef int (*Condition) (Cluster *cluster, void *argument);
void		cluster_run(Cluster *cluster, raft_time milliseconds);
int			cluster_run_until(Cluster *cluster, Condition condition, void *argument,
							  raft_time milliseconds);
raft_id		cluster_wait_leader(Cluster *cluster, raft_time milliseconds);
int			cluster_wait_applied(Cluster *cluster, raft_index index, raft_time milliseconds);

/* Network */
void		cluster_isolate(Cluster *cluster, raft_id id);
void		cluster_cut(Cluster *cluster, raft_id a, raft_id b);	/* both ways */
void		cluster_heal(Cluster *cluster);
void		cluster_release(Cluster *cluster);	/* held messages go on */
void		cluster_drop_held(Cluster *cluster);
void		cluster_inject(Cluster *cluster, const struct raft_message *message);

/* Disk */
void		cluster_persist(Cluster *cluster, raft_id id);	/* all held writes */
void		cluster_persist_one(Cluster *cluster, raft_id id);

/* Events for the engine, followed by what comes out of it */
int			cluster_propose(Cluster *cluster, raft_id id, const char *text,
							raft_index *index);
int			cluster_propose_bytes(Cluster *cluster, raft_id id, size_t length,
								  raft_index *index);
int			cluster_read(Cluster *cluster, raft_id id, raft_u64 token);
ReadRecord *cluster_find_read(Cluster *cluster, raft_id id, raft_u64 token);
int			cluster_change(Cluster *cluster, raft_id id, const struct raft_change *changes,
						   size_t n, raft_index *index);
int			cluster_snapshot(Cluster *cluster, raft_id id, raft_index retain);
void		cluster_flush(Cluster *cluster, raft_id id);	/* take updates */

/* Observation */
raft_id		cluster_leader(Cluster *cluster);	/* of the highest term; 0 = none */
struct raft_status *cluster_status(Cluster *cluster, raft_id id);
raft_u64	cluster_random(Cluster *cluster, raft_u64 below);
void		cluster_fail(Cluster *cluster, const char *format,...)
#if defined(__GNUC__)
			__attribute__((format(printf, 2, 3)))
#endif
;

/* The lowest id that is neither a nor b. */
raft_id		other_than(raft_id a, raft_id b);

/* For tests that include tap.h. */
#define NO_RULE_BROKEN(cluster) \
	ok((cluster)->failures == 0, "no rule broken %s", (cluster)->failure)

struct raft_change change_add(raft_id id, int role);
struct raft_change change_remove(raft_id id);
struct raft_change change_promote(raft_id id, int role);

#endif							/* PGRAFT_TEST_RAFT_FIXTURE_H */
