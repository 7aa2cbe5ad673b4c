/*-------------------------------------------------------------------------
 *
 * source.c
 *	  Whom to copy: finds the server that is the cluster's primary, and says
 *	  after the copy whether it still was.
 *
 * That a server is out of recovery and takes connections says nothing: a primary
 * that was deposed does not know it, and stays like that, fenced, until it hears of
 * it.  A member that is filled from such a one under its old membership would count
 * in elections for commits that it no longer has.  So each host is asked in turn
 * whether it may write now, which it may not without a lease; and since what it
 * says is true of that moment only, it is asked again when the copy is complete.
 * If it is the primary of the same epoch then, it was one all the time.
 *
 * Members that are away to be copied are missing for the lease: where most are,
 * nobody has one until a copy is complete.  So when there is no primary at all, one
 * without a lease will do if its epoch is not older than the newest whose WAL the
 * member has confirmed: it then has all that the member is counted for.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/source.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <time.h>

#include "pqexpbuffer.h"

#define MAX_CANDIDATES 64
#define LOOK_AGAIN_US 200000
#define FENCED_SECONDS 10		/* as a rule somebody has been promoted by then */
#define STILL_PRIMARY_SECONDS 5	/* for a lease that is late, or a broken connection */
#define CONNECT_OPTIONS "dbname=postgres target_session_attrs=any connect_timeout=5"

/* A connection string, taken apart. */
typedef struct Parts
{
	char	   *hosts;			/* lists; "" when not given */
	char	   *addresses;
	char	   *ports;
	char	   *login;			/* all else that is of use to connect */
} Parts;

/* Servers to be asked: "host=... port=..." each. */
typedef struct Candidates
{
	int			n;
	char	   *address[MAX_CANDIDATES];
	bool		answered;		/* one of them did */
	PQExpBuffer reasons;		/* why none will do */
	uint64		confirmed;		/* see CtlSource */
	CtlSource	fenced;			/* the best without a lease, if there is one */
} Candidates;

static bool take_apart(const char *conninfo, Parts *parts, PQExpBuffer reasons);
static void add_candidates(Candidates *candidates, const Parts *parts);
static char *item_of(const char *list, int position);
static int	count_items(const char *list);
static void append_value(PQExpBuffer text, const char *keyword, const char *value);
static void append_reason(Candidates *candidates, const char *address, const char *reason);
static bool ask_candidate(Candidates *candidates, const char *address, const char *login,
						  CtlSource *source);
static void take_source(CtlSource *source, PGconn *connection, const char *login,
						const char *address, char *epoch);
static bool is_primary(PGconn *connection, char **epoch);

/* Once more only while somebody answers: else nobody is about to be promoted. */
bool
ctl_find_primary(const char *from, const char *credentials, int seconds, uint64 confirmed,
				 CtlSource *source)
{
	static char *said = NULL;
	time_t		end = time(NULL) + seconds;
	time_t		fenced_since = 0;

	memset(source, 0, sizeof(*source));
	for (;;)
	{
		Candidates	candidates;
		Parts		parts;
		bool		found = false;
		int			i;

		memset(&candidates, 0, sizeof(candidates));
		candidates.reasons = createPQExpBuffer();
		candidates.confirmed = confirmed;
		if (take_apart(from, &parts, candidates.reasons))
			add_candidates(&candidates, &parts);

		/* the list grows meanwhile: whoever answers names the members that it knows */
		for (i = 0; i < candidates.n && !found && !ctl_end_requested; i++)
			found = ask_candidate(&candidates, candidates.address[i],
								  psprintf("%s %s", credentials, parts.login), source);
		if (candidates.fenced.connection == NULL)
			fenced_since = 0;
		else if (fenced_since == 0)
			fenced_since = time(NULL);
		if (!found && fenced_since != 0 &&
			time(NULL) >= Min(end, fenced_since + FENCED_SECONDS))
		{
			pg_log_info("no server has a lease, taking the primary of epoch %s at %s",
						candidates.fenced.epoch, candidates.fenced.address);
			*source = candidates.fenced;
			found = true;
		}
		else
			ctl_forget_source(&candidates.fenced);
		if (!found && (said == NULL || strcmp(said, candidates.reasons->data) != 0))
		{
			pg_log_error("no running primary is known");
			pg_log_error_detail("%s", candidates.reasons->data);
			pg_free(said);
			said = pg_strdup(candidates.reasons->data);
		}
		destroyPQExpBuffer(candidates.reasons);
		if (found)
		{
			source->from = pg_strdup(from);
			source->confirmed = confirmed;
		}
		if (found || !candidates.answered || ctl_end_requested || time(NULL) >= end)
			return found;
		pg_usleep(LOOK_AGAIN_US);
	}
}

void
ctl_forget_source(CtlSource *source)
{
	if (source->connection != NULL)
		PQfinish(source->connection);
	memset(source, 0, sizeof(*source));
}

/*
 * New connections, since the one of before may have gone with the server's role,
 * or be to another server than who listens there now.
 */
bool
ctl_is_still_primary(const CtlSource *source)
{
	time_t		end = time(NULL) + STILL_PRIMARY_SECONDS;
	char	   *conninfo = psprintf("%s %s " CONNECT_OPTIONS, source->login, source->address);

	for (;;)
	{
		PGconn	   *connection = ctl_try_connect(conninfo);
		bool		connected = PQstatus(connection) == CONNECTION_OK;
		char	   *epoch = NULL;
		bool		primary = connected && is_primary(connection, &epoch);
		bool		same = epoch != NULL && strcmp(epoch, source->epoch) == 0;

		PQfinish(connection);
		if (primary && same)
			return true;
		if (ctl_end_requested)
			return false;
		if ((primary && !same) || time(NULL) >= end)
		{
			CtlSource	other;

			/* fenced, as long as nobody else is the primary */
			if (same && source->confirmed != 0 &&
				strtou64(source->epoch, NULL, 10) >= source->confirmed)
			{
				if (!ctl_find_primary(source->from, source->login, 0, 0, &other))
					return true;
				ctl_forget_source(&other);
			}
			pg_log_info("the server at %s is no longer the primary of epoch %s",
						source->address, source->epoch);
			return false;
		}
		pg_free(epoch);
		pg_usleep(LOOK_AGAIN_US);
	}
}

/* ----------------------------------------------------------------
 * Candidates
 * ----------------------------------------------------------------
 */

static bool
take_apart(const char *conninfo, Parts *parts, PQExpBuffer reasons)
{
	char	   *error = NULL;
	PQconninfoOption *options = PQconninfoParse(conninfo, &error);
	PQconninfoOption *option;
	PQExpBuffer login = createPQExpBuffer();

	memset(parts, 0, sizeof(*parts));
	parts->hosts = parts->addresses = parts->ports = pg_strdup("");
	if (options == NULL)
	{
		appendPQExpBufferStr(reasons, error != NULL ? error : "out of memory");
		return false;
	}
	for (option = options; option->keyword != NULL; option++)
	{
		if (option->val == NULL)
			continue;
		if (strcmp(option->keyword, "host") == 0)
			parts->hosts = pg_strdup(option->val);
		else if (strcmp(option->keyword, "hostaddr") == 0)
			parts->addresses = pg_strdup(option->val);
		else if (strcmp(option->keyword, "port") == 0)
			parts->ports = pg_strdup(option->val);
		else
			append_value(login, option->keyword, option->val);
	}
	parts->login = pg_strdup(login->data);
	destroyPQExpBuffer(login);
	PQconninfoFree(options);
	return true;
}

/* Each host, in their order; the default where none is named. */
static void
add_candidates(Candidates *candidates, const Parts *parts)
{
	int			n = Max(count_items(parts->ports),
						Max(count_items(parts->hosts), count_items(parts->addresses)));
	int			i;

	for (i = 0; i < n && candidates->n < MAX_CANDIDATES; i++)
	{
		PQExpBuffer text = createPQExpBuffer();
		int			known = 0;

		append_value(text, "host", item_of(parts->hosts, i));
		append_value(text, "hostaddr", item_of(parts->addresses, i));
		append_value(text, "port", item_of(parts->ports, i));
		while (known < candidates->n && strcmp(candidates->address[known], text->data) != 0)
			known++;
		if (known == candidates->n)
			candidates->address[candidates->n++] = pg_strdup(text->data);
		destroyPQExpBuffer(text);
	}
}

static int
count_items(const char *list)
{
	int			n = 1;

	for (; *list != '\0'; list++)
		n += *list == ',';
	return n;
}

/* One item stands for all places, as libpq has it for ports. */
static char *
item_of(const char *list, int position)
{
	const char *comma;

	if (count_items(list) == 1)
		return pg_strdup(list);
	while (position-- > 0 && (comma = strchr(list, ',')) != NULL)
		list = comma + 1;
	return pnstrdup(list, strcspn(list, ","));
}

static void
append_value(PQExpBuffer text, const char *keyword, const char *value)
{
	if (value[0] == '\0')
		return;
	appendPQExpBuffer(text, "%s%s='", text->len > 0 ? " " : "", keyword);
	for (; *value != '\0'; value++)
	{
		if (*value == '\'' || *value == '\\')
			appendPQExpBufferChar(text, '\\');
		appendPQExpBufferChar(text, *value);
	}
	appendPQExpBufferChar(text, '\'');
}

/* The first line of it. */
static void
append_reason(Candidates *candidates, const char *address, const char *reason)
{
	appendPQExpBuffer(candidates->reasons, "%s%s: %.*s", candidates->reasons->len > 0 ? "\n" : "",
					  address, (int) strcspn(reason, "\n"), reason);
}

static bool
ask_candidate(Candidates *candidates, const char *address, const char *login,
			  CtlSource *source)
{
	PGconn	   *connection = ctl_try_connect(psprintf("%s %s " CONNECT_OPTIONS, login, address));
	PGresult   *members;
	Parts		parts;
	char	   *epoch;

	if (PQstatus(connection) != CONNECTION_OK)
	{
		append_reason(candidates, address, PQerrorMessage(connection));
		PQfinish(connection);
		return false;
	}
	candidates->answered = true;
	if (is_primary(connection, &epoch))
	{
		take_source(source, connection, login, address, epoch);
		return true;
	}
	append_reason(candidates, address, epoch != NULL ? "it is not the primary" :
				  PQerrorMessage(connection));
	members = PQexec(connection, "SELECT pgraft_connection_string()");
	if (PQresultStatus(members) == PGRES_TUPLES_OK && PQntuples(members) == 1 &&
		!PQgetisnull(members, 0, 0) &&
		take_apart(PQgetvalue(members, 0, 0), &parts, candidates->reasons))
		add_candidates(candidates, &parts);
	PQclear(members);
	if (epoch != NULL && candidates->confirmed != 0 &&
		strtou64(epoch, NULL, 10) >= candidates->confirmed &&
		(candidates->fenced.epoch == NULL ||
		 strtou64(epoch, NULL, 10) > strtou64(candidates->fenced.epoch, NULL, 10)))
	{
		ctl_forget_source(&candidates->fenced);
		take_source(&candidates->fenced, connection, login, address, epoch);
	}
	else
		PQfinish(connection);
	return false;
}

static void
take_source(CtlSource *source, PGconn *connection, const char *login, const char *address,
			char *epoch)
{
	source->connection = connection;
	source->login = pg_strdup(login);
	source->address = pg_strdup(address);
	source->epoch = epoch;
}

/*
 * Whether it may write now, and the epoch for which it was promoted, fenced or not:
 * "" when for none, NULL when it does not say.
 */
static bool
is_primary(PGconn *connection, char **epoch)
{
	PGresult   *result = PQexec(connection,
								"SELECT accepts_writes, CASE WHEN NOT pg_catalog.pg_is_in_recovery()"
								" THEN promoted_epoch END FROM pg_stat_pgraft_ha");
	bool		primary = false;

	*epoch = NULL;
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		*epoch = pg_strdup(PQgetvalue(result, 0, 1));
		primary = PQgetvalue(result, 0, 0)[0] == 't' && (*epoch)[0] != '\0';
	}
	PQclear(result);
	return primary;
}
