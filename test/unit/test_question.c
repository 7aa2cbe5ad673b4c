/*-------------------------------------------------------------------------
 *
 * test_question.c
 *	  Only the member that was asked can answer, and only what it was asked.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/test_question.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/question.h"

#include "tap.h"

#define RANDOM UINT64CONST(0x1234567890abcdef)
#define OTHER_RANDOM UINT64CONST(0x0fedcba987654321)

int
main(void)
{
	PgraftQuestion question;
	uint64		token;

	memset(&question, 0, sizeof(question));
	ok(!pgraft_question_answered(&question, 0, 0), "nothing answers what was not asked");
	ok(!pgraft_question_answered(&question, 2, PG_UINT64_MAX), "whoever says so");

	pgraft_question_ask(&question, 2, 7, RANDOM);
	token = question.token;
	ok(pgraft_question_token(token), "its token is none of an operation");
	ok(!pgraft_question_token(UINT64CONST(0xffffffff00000010)), "which can be told from one");
	ok(pgraft_question_answered(&question, 2, token), "the member that was asked answers");
	ok(!pgraft_question_answered(&question, 3, token), "another one does not, even if it knows the token");
	ok(!pgraft_question_answered(&question, 2, PG_UINT64_MAX), "a constant is no answer");
	ok(!pgraft_question_answered(&question, 2, token ^ (UINT64CONST(1) << 40)), "nor is a guess");

	pgraft_question_ask(&question, 2, 7, OTHER_RANDOM);
	ok(pgraft_question_answered(&question, 2, token), "asked again, the answer may come late");
	pgraft_question_ask(&question, 2, 8, OTHER_RANDOM);
	ok(!pgraft_question_answered(&question, 2, token), "in a new term it is a new question");
	token = question.token;
	pgraft_question_ask(&question, 3, 8, RANDOM);
	ok(!pgraft_question_answered(&question, 2, token), "and so it is for another member");
	ok(!pgraft_question_answered(&question, 3, token), "who cannot use the old token");
	ok(pgraft_question_answered(&question, 3, question.token), "but the new one");
	return tap_done();
}
