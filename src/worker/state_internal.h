/*-------------------------------------------------------------------------
 *
 * state_internal.h
 *	  What state_machine.c (commands) and state_image.c (snapshots) know of the
 *	  replicated state.  Nobody else includes it.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_STATE_INTERNAL_H
#define PGRAFT_STATE_INTERNAL_H

#include "pgraft/state_machine.h"

/* The replicated state besides store, sessions and cluster document. */
typedef struct StateNumbers
{
	uint64		applied_index;
	uint64		revision;
	uint64		log_count;
	uint64		log_chain;
} StateNumbers;

extern StateNumbers pgraft_state_numbers(void);

/*
 * The last step of loading, when store, sessions and document are there.  False
 * when the state then has another hash than it should.
 */
extern bool pgraft_state_adopt(const StateNumbers *numbers, uint64 hash);

/* In a PG_CATCH block of the worker: reports, releases what was locked. */
extern void pgraft_state_report_caught(MemoryContext context);

#endif							/* PGRAFT_STATE_INTERNAL_H */
