/*-------------------------------------------------------------------------
 *
 * storage_fixture.h
 *	  What the storage tests share: a script of updates, a model of what the
 *	  log says after each step of it, and a comparison of the model with what
 *	  recovery delivers.
 *
 * An entry's type, length and bytes follow from its index and term, so that any
 * entry can be checked by itself.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_TEST_STORAGE_FIXTURE_H
#define PGRAFT_TEST_STORAGE_FIXTURE_H

#include "faulty_io.h"

#define FIXTURE_DIRECTORY "/data"
#define FIXTURE_MAX_INDEX 1024
#define FIXTURE_MAX_STEPS 256

/* What a log says. */
typedef struct LogModel
{
	int			has_hard_state;
	struct raft_hard_state hard_state;
	raft_index	start;
	raft_term	start_term;
	raft_index	last;
	raft_index	snapshot;
	raft_term	snapshot_term;
	raft_term	terms[FIXTURE_MAX_INDEX + 1];	/* of start + 1 .. last */
} LogModel;

typedef enum StepKind
{
	STEP_APPEND,				/* `entries` entries of `term`, hard state */
	STEP_HINT,					/* commit only, not flushed */
	STEP_TRUNCATE,				/* last `back` entries replaced by `entries` new ones */
	STEP_SNAPSHOT,				/* local, `back` before the end; forget up to it; append */
	STEP_INSTALL,				/* from the leader, `back` beyond the end; log restarts */
	STEP_INSTALL_KEEP			/* from the leader, `back` before the end */
} StepKind;

typedef struct Step
{
	StepKind	kind;
	raft_term	term;
	unsigned int entries;
	unsigned int back;
	size_t		snapshot_bytes;
} Step;

typedef struct Fixture
{
	FaultyDisk *disk;
	PgraftStorageOptions options;
	PgraftIdentity identity;
	PgraftStorage *storage;		/* NULL = closed */
	const Step *steps;
	int			n_steps;
	LogModel	history[FIXTURE_MAX_STEPS + 1]; /* [i]: after i steps */
	LogModel	seen;			/* what the last open delivered */
	int			wrong;			/* entries with other bytes than they must have,
								 * or deliveries out of order */
	PgraftError error;
	raft_u64	epoch;
} Fixture;

extern const Step fixture_long_script[];
extern const int fixture_long_steps;
extern const Step fixture_short_script[];
extern const int fixture_short_steps;

extern size_t fixture_entry_length(raft_index index, raft_term term);
extern void fixture_entry(struct raft_entry *entry, raft_index index, raft_term term,
						  unsigned char *buffer);
extern int	fixture_entry_right(const struct raft_entry *entry);
extern void fixture_snapshot_meta(struct raft_snapshot_meta *meta, raft_index index,
								  raft_term term);
extern unsigned char fixture_snapshot_byte(raft_index index, size_t offset);

extern void fixture_init(Fixture *f, FaultyDisk *disk, const Step *steps, int n_steps);
extern PgraftErrorCode fixture_create(Fixture *f);
extern PgraftErrorCode fixture_open(Fixture *f);
extern void fixture_close(Fixture *f);

/* The process is gone: forget the storage without a call that could write. */
extern void fixture_drop(Fixture *f);

/* Executes one job again and again while the disk is full. */
extern PgraftErrorCode fixture_write(Fixture *f, const struct raft_update *update,
									 int retry_no_space);

/*
 * Step number i (from 0); history[i] must be the state of the log.  Sets
 * *synced when its effects are durable on return.
 */
extern PgraftErrorCode fixture_step(Fixture *f, int i, int retry_no_space, int *synced);

extern int	fixture_same(const LogModel *a, const LogModel *b);

/* Newest history state within [low, high] equal to what was seen; -1 = none. */
extern int	fixture_find(const Fixture *f, int low, int high);

/* Reads every entry back and compares; returns the number of wrong ones. */
extern int	fixture_check_read_back(Fixture *f, const LogModel *model);

/* Loads the snapshot; returns the number of wrong bytes, -1 on error. */
extern int	fixture_check_snapshot(Fixture *f, const LogModel *model);

#endif							/* PGRAFT_TEST_STORAGE_FIXTURE_H */
