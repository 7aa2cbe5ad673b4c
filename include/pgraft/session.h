/*-------------------------------------------------------------------------
 *
 * session.h
 *	  Client sessions: why a command that is proposed twice is applied once
 *	  (src/worker/session.c).  Part of the replicated state machine.
 *
 * A session has at most one command under way and numbers its commands
 * ascending: the next one is sent only after the previous one was answered or
 * given up.  So a number below the session's last one belongs to a command
 * that nobody waits for any more; it is not applied.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_SESSION_H
#define PGRAFT_SESSION_H

#include "pgraft/command.h"

/* Beyond it the session whose last command was applied first is forgotten. */
#define PGRAFT_MAX_SESSIONS 8192

typedef struct PgraftSession
{
	uint64		session;
	uint64		sequence;		/* of the last command applied */
	PgraftApplyResult result;	/* what it answered */
} PgraftSession;

typedef enum PgraftSessionVerdict
{
	PGRAFT_SESSION_NEW,			/* apply it, then record it */
	PGRAFT_SESSION_DUPLICATE,	/* applied before, result is the first answer */
	PGRAFT_SESSION_STALE		/* given up by its session: do not apply */
} PgraftSessionVerdict;

extern void pgraft_session_reset(void);
extern PgraftSessionVerdict pgraft_session_check(uint64 session, uint64 sequence,
												 PgraftApplyResult *result);

/* Results must be recorded in ascending order of their index. */
extern void pgraft_session_record(uint64 session, uint64 sequence,
								  const PgraftApplyResult *result);
extern uint64 pgraft_session_count(void);

/* Over all sessions and their order. */
extern uint64 pgraft_session_digest(void);

/* Walks from the least recently applied to the latest; NULL ends it.  Start
 * with *cursor = 0; the table must not change meanwhile. */
extern const PgraftSession *pgraft_session_next(uint64 *cursor);

#endif							/* PGRAFT_SESSION_H */
