/*-------------------------------------------------------------------------
 *
 * patient.c
 *	  Talking to servers that may be silent.  See patient.h.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  bench/lib/patient.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <poll.h>
#include <sys/time.h>

#include "patient.h"

long
patient_now_us(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	return (long) now.tv_sec * 1000000L + (long) now.tv_usec;
}

void
patient_pause(long ms)
{
	(void) poll(NULL, 0, (int) ms);
}

/* What ends a session shows in the next statement's outcome. */
static void
ignore_notice(void *argument, const char *message)
{
	(void) argument;
	(void) message;
}

PGconn *
patient_connect(const char *server, long timeout_ms, bool *was_silent)
{
	long		deadline = patient_now_us() + timeout_ms * 1000;
	PGconn	   *connection = PQconnectStart(server);
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	PQsetNoticeProcessor(connection, ignore_notice, NULL);

	/* a frozen server takes the connection and says nothing */
	while (connection != NULL && PQstatus(connection) != CONNECTION_BAD &&
		   status != PGRES_POLLING_FAILED && status != PGRES_POLLING_OK)
	{
		struct pollfd wait;
		long		left = deadline - patient_now_us();

		wait.fd = PQsocket(connection);
		wait.events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
		if (left <= 0 || (poll(&wait, 1, (int) (left / 1000) + 1) < 0 && errno != EINTR))
			break;
		if (wait.revents != 0)
			status = PQconnectPoll(connection);
	}
	if (status == PGRES_POLLING_OK && PQstatus(connection) == CONNECTION_OK)
		return connection;
	*was_silent = patient_now_us() >= deadline;
	PQfinish(connection);
	return NULL;
}

bool
patient_is_success(const PGresult *result)
{
	return PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;
}

PGresult *
patient_result(PGconn *connection, long deadline, bool commits_at_end)
{
	PGresult   *result = NULL;
	PGresult   *next;

	for (;;)
	{
		struct pollfd wait;
		long		left = deadline - patient_now_us();
		int			flushed = PQflush(connection);

		if (left <= 0 || flushed < 0)
			break;
		if (flushed == 0 && !PQisBusy(connection))
		{
			next = PQgetResult(connection);
			if (next == NULL)
				return result;

			/*
			 * The first is the answer, unless the commit failed after it; what
			 * follows an error adds nothing.
			 */
			if (result != NULL && (!commits_at_end || !patient_is_success(result)))
				PQclear(next);
			else
			{
				PQclear(result);
				result = next;
			}
			continue;
		}
		wait.fd = PQsocket(connection);
		wait.events = (short) (POLLIN | (flushed > 0 ? POLLOUT : 0));
		if (poll(&wait, 1, (int) (left / 1000) + 1) < 0 && errno != EINTR)
			break;
		if (!PQconsumeInput(connection))
			break;
	}

	/*
	 * An answer that was read counts, whatever happened to the socket then.  But
	 * a table's row is committed after CommandComplete, which may arrive before
	 * ReadyForQuery, and that says that it is.
	 */
	if (commits_at_end && result != NULL && patient_is_success(result))
	{
		PQclear(result);
		return NULL;
	}
	return result;
}

bool
patient_is_refusal(const char *state)
{
	return state != NULL && strcmp(state, "40003") != 0 && strcmp(state, "57P01") != 0 &&
		strcmp(state, "57P02") != 0;
}
