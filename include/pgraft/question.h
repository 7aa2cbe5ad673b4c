/*-------------------------------------------------------------------------
 *
 * question.h
 *	  A question to one member that has no operation of its own, and which answer
 *	  is one to it.
 *
 * An answer counts when it comes from the member that was asked, over a
 * connection on which that member has identified itself, and carries the token
 * of this very question.  Tokens share their space with those of operations
 * (include/pgraft/worker.h), whose lower half is the number of a table entry;
 * no table is so large that PG_UINT32_MAX is one.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_QUESTION_H
#define PGRAFT_QUESTION_H

#include "pgraft/raft.h"

typedef struct PgraftQuestion
{
	raft_id		asked;			/* 0 = no question is open */
	raft_term	term;			/* in which that member led */
	uint64		token;
} PgraftQuestion;

/*
 * Asks `member`, the leader of `term`.  Sending the same question once more
 * keeps its token, so that an answer that takes long is one; another member or
 * another term makes a new question of it.
 */
static inline void
pgraft_question_ask(PgraftQuestion *question, raft_id member, raft_term term, uint64 random)
{
	if (question->asked == member && question->term == term)
		return;
	question->asked = member;
	question->term = term;
	question->token = (random << 32) | PG_UINT32_MAX;
}

/* Is it a token of a question, of this or another one? */
static inline bool
pgraft_question_token(uint64 token)
{
	return (token & PG_UINT32_MAX) == PG_UINT32_MAX;
}

static inline bool
pgraft_question_answered(const PgraftQuestion *question, raft_id from, uint64 token)
{
	return question->asked != 0 && question->asked == from && question->token == token;
}

#endif							/* PGRAFT_QUESTION_H */
