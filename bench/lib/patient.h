/*-------------------------------------------------------------------------
 *
 * patient.h
 *	  Talking to servers that may be silent: connections and answers with a
 *	  deadline, for client programs of tests and benchmarks.
 *
 * Times are microseconds since 1970.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_PATIENT_H
#define PGRAFT_PATIENT_H

#include "libpq-fe.h"

extern long patient_now_us(void);
extern void patient_pause(long ms);

/*
 * NULL when the server does not take the connection now; *was_silent is set when
 * that is because it said nothing in time.
 */
extern PGconn *patient_connect(const char *server, long timeout_ms, bool *was_silent);

/*
 * The answer to what was sent; NULL when the connection broke or the deadline
 * passed.  With commits_at_end, a success counts once the server is ready for
 * the next statement, when what was sent is committed, too.
 */
extern PGresult *patient_result(PGconn *connection, long deadline, bool commits_at_end);
extern bool patient_is_success(const PGresult *result);

/*
 * Whether an error with that SQLSTATE says that the statement certainly did
 * nothing.  40003 says that the outcome is unknown; so is it when the server
 * ended (57P01, 57P02) while the statement ran, and when no state came (NULL).
 */
extern bool patient_is_refusal(const char *state);

#endif							/* PGRAFT_PATIENT_H */
