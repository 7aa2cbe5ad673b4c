/*-------------------------------------------------------------------------
 *
 * executor_internal.h
 *	  What the files of the "pgraft ha" worker share: executor.c (the process and
 *	  its turns), executor_standby.c, executor_primary.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_EXECUTOR_INTERNAL_H
#define PGRAFT_EXECUTOR_INTERNAL_H

#include "pgraft/ha_executor.h"

/* When to look again, in milliseconds, unless woken before. */
#define SOON_MS 2				/* something is under way that takes milliseconds */
#define NEAR_MS 20
#define CALM_MS 200

/* What one turn works with; of the worker alone. */
typedef struct PgraftHaTurn
{
	PgraftHaDocument document;	/* as it was when the turn began */
	bool		loaded;			/* it is complete */
	PgraftHaLocal local;		/* copied to shared memory when it changes */
	PgraftHaWal wal;
	uint64		promotion_tag;	/* of the promotion under way; 0 = none */
} PgraftHaTurn;

extern PgraftHaTurn pgraft_ha_turn;

/* ---- executor.c ---- */
extern void pgraft_ha_set_role(int role, const char *action);
/* Copies turn.local to shared memory. */
extern void pgraft_ha_publish(void);
/* True once a second for each *last: what was said may have been lost. */
extern bool pgraft_ha_may_tell(raft_time *last);
/* A command that says where the local WAL ends, which must be known. */
extern void pgraft_ha_fill_position(PgraftHaCommand *command, int kind);

/* Both return in how many milliseconds to look again. */
/* ---- executor_standby.c ---- */
extern long pgraft_ha_standby_step(void);
/* ---- executor_primary.c ---- */
extern long pgraft_ha_primary_step(void);

#endif							/* PGRAFT_EXECUTOR_INTERNAL_H */
