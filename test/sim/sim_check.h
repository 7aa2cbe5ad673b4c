/*-------------------------------------------------------------------------
 *
 * sim_check.h
 *	  What the checker knows; only sim_check*.c and sim_log.c look in here.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_SIM_CHECK_H
#define PGRAFT_SIM_CHECK_H

#include "sim.h"

typedef struct SimLogEntry
{
	raft_term	term;
	raft_u64	hash;			/* of type and payload */
} SimLogEntry;

/* A log as the checker keeps it: entries start + 1 .. last. */
typedef struct SimLog
{
	raft_index	start;
	raft_term	start_term;
	raft_index	last;
	size_t		capacity;
	SimLogEntry *entries;
	raft_index	snapshot_index;
	raft_term	snapshot_term;
	struct raft_hard_state hard_state;
} SimLog;

/* What one write asks of the disk, kept until it is known to be durable. */
typedef struct SimEffect
{
	struct SimEffect *next;
	raft_index	truncate_from;
	raft_index	install_index;	/* 0 = none */
	raft_term	install_term;
	int			install_keeps_log;
	int			hard_state_changed;
	struct raft_hard_state hard_state;
	raft_index	first;			/* of entries */
	size_t		n_entries;
	SimLogEntry *entries;
} SimEffect;

typedef struct SimVote
{
	raft_u64	incarnation;
	raft_term	term;
	raft_id		candidate;
} SimVote;

/* One member, across its lives. */
typedef struct SimRecord
{
	SimLog		memory;			/* what the engine holds */
	SimLog		durable;		/* what completed writes made durable */
	SimLog		recovered;		/* while recovery reads */
	SimEffect  *effects;		/* writes in flight, oldest first */
	SimVote    *votes;
	size_t		n_votes;
	size_t		votes_capacity;

	/* as of the last look at the engine, in this life */
	int			state;
	raft_term	term;
	raft_id		vote;
	raft_index	commit;
	raft_u64	prevotes;
	raft_u64	ignored;
	struct raft_config config;	/* in force at the last look */
	struct raft_config previous_config;
} SimRecord;

typedef struct SimCommitted
{
	raft_term	term;
	raft_u64	hash;
	raft_term	at_term;		/* term of the leader that committed it */
} SimCommitted;

typedef struct SimWritten		/* a write that took effect on a register */
{
	raft_index	index;
	raft_u64	value;
} SimWritten;

typedef struct SimHistory
{
	SimWritten *writes;
	size_t		n;
	size_t		capacity;
} SimHistory;

typedef struct SimKnownEntry	/* log matching: key (index, term) */
{
	raft_index	index;			/* 0 = free */
	raft_term	term;
	raft_u64	hash;
	raft_term	previous_term;
} SimKnownEntry;

struct SimChecker
{
	SimRecord	records[SIM_MAX_NODES];

	SimCommitted *committed;	/* [0] is index 1 */
	raft_index	n_committed;
	size_t		committed_capacity;

	raft_u64   *chains;			/* state hash by applied index; [0] is index 1 */
	raft_index	n_applied;		/* highest index applied anywhere */
	size_t		chains_capacity;
	SimHistory	histories[SIM_KEYS];
	SimSession	sessions[SIM_MAX_CLIENTS];
	raft_index	floor;			/* highest index that a client knows */
	struct raft_config config;	/* newest applied anywhere */

	raft_id    *leaders;		/* by term */
	raft_u64   *leader_incarnations;
	size_t		leaders_capacity;

	SimKnownEntry *known;		/* open addressing */
	size_t		n_known;
	size_t		known_capacity;
};

/* sim_log.c */
extern void sim_log_reset(SimLog *log, raft_index start, raft_term term);
extern void sim_log_free(SimLog *log);
extern void sim_log_copy(SimLog *to, const SimLog *from);
extern int	sim_log_append(SimLog *log, raft_index index, SimLogEntry entry);
extern int	sim_log_truncate(SimLog *log, raft_index from);
extern int	sim_log_term(const SimLog *log, raft_index index, raft_term *term);
extern int	sim_log_has(const SimLog *log, raft_index index, raft_term term);
extern SimLogEntry sim_log_entry(const struct raft_entry *entry);
extern SimEffect *sim_effect_create(const struct raft_update *update);
extern void sim_effect_free(SimEffect *effect);
extern const char *sim_effect_apply(SimLog *log, const SimEffect *effect);
extern int	sim_log_equal(const SimLog *wanted, const SimLog *found);

/* sim_check.c, for its sisters */
extern void sim_check_know(SimWorld *world, SimNode *node, const SimLog *log,
						   raft_index index);
extern void sim_check_grow(void **array, size_t *capacity, size_t wanted,
						   size_t element);
extern void sim_check_forget_life(SimRecord *record);

#endif							/* PGRAFT_SIM_CHECK_H */
