/*-------------------------------------------------------------------------
 *
 * connection.c
 *	  pgraftctl's connections: connect, query, print.
 *
 * Errors are reported here, with the server's detail and hint; the SQLSTATE
 * decides the exit code, so that a script can tell "failed" from "unknown".
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/connection.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <time.h>

#include "fe_utils/print.h"

static PGconn *finish_connect(PGconn *connection);
static void find_functions(PGconn *connection);
static void report(PGconn *connection, PGresult *result, int *code);

PGconn *
ctl_connect(const CtlOptions *options)
{
	const char *keywords[8];
	const char *values[8];
	int			n = 0;

	/* a conninfo in dbname is expanded, and what follows it wins */
	keywords[n] = "dbname";
	values[n++] = options->conninfo != NULL ? options->conninfo : "postgres";
	if (options->host != NULL)
	{
		keywords[n] = "host";
		values[n++] = options->host;
	}
	if (options->port != NULL)
	{
		keywords[n] = "port";
		values[n++] = options->port;
	}
	if (options->user != NULL)
	{
		keywords[n] = "user";
		values[n++] = options->user;
	}
	keywords[n] = "fallback_application_name";
	values[n++] = "pgraftctl";
	keywords[n] = NULL;
	values[n] = NULL;
	return finish_connect(PQconnectdbParams(keywords, values, 1));
}

PGconn *
ctl_connect_string(const char *conninfo)
{
	const char *keywords[] = {"dbname", "fallback_application_name", NULL};
	const char *values[] = {conninfo, "pgraftctl", NULL};

	return finish_connect(PQconnectdbParams(keywords, values, 1));
}

PGconn *
ctl_try_connect(const char *conninfo)
{
	const char *keywords[] = {"dbname", "fallback_application_name", NULL};
	const char *values[] = {conninfo, "pgraftctl", NULL};
	PGconn	   *connection = PQconnectdbParams(keywords, values, 1);

	if (connection == NULL)
		pg_fatal("out of memory");
	find_functions(connection);
	return connection;
}

static PGconn *
finish_connect(PGconn *connection)
{
	if (connection == NULL)
		pg_fatal("out of memory");
	if (PQstatus(connection) != CONNECTION_OK)
	{
		pg_log_error("%s", PQerrorMessage(connection));
		PQfinish(connection);
		return NULL;
	}
	find_functions(connection);
	return connection;
}

static void
find_functions(PGconn *connection)
{
	if (PQstatus(connection) != CONNECTION_OK)
		return;

	/* names of functions are looked up where the extension is, not elsewhere */
	PQclear(PQexec(connection, "SELECT pg_catalog.set_config('search_path', coalesce((SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pgraft') || ', ', '') || 'pg_catalog', false)"));
}

PGresult *
ctl_query(PGconn *connection, const char *sql, int n_params, const char *const *params,
		  int *code)
{
	PGresult   *result = PQexecParams(connection, sql, n_params, NULL, params, NULL, NULL, 0);

	*code = CTL_OK;
	if (PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK)
		return result;
	report(connection, result, code);
	PQclear(result);
	return NULL;
}

static void
report(PGconn *connection, PGresult *result, int *code)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

	*code = CTL_FAILED;
	if (state == NULL)
	{
		/* the connection broke: nobody knows what became of the statement */
		*code = CTL_UNKNOWN;
		pg_log_error("%s", PQerrorMessage(connection));
		pg_log_error_detail("The outcome of the command is unknown.");
		return;
	}
	if (strcmp(state, "40003") == 0)
		*code = CTL_UNKNOWN;
	pg_log_error("%s", primary != NULL ? primary : PQerrorMessage(connection));
	if (detail != NULL)
		pg_log_error_detail("%s", detail);
	if (hint != NULL)
		pg_log_error_hint("%s", hint);
	else if (strcmp(state, "42883") == 0 || strcmp(state, "42P01") == 0)
		pg_log_error_hint("Is the extension there?  CREATE EXTENSION pgraft in the database that you connect to.");
}

char *
ctl_query_text(PGconn *connection, const char *sql, int n_params, const char *const *params,
			   int *code)
{
	PGresult   *result = ctl_query(connection, sql, n_params, params, code);
	char	   *text = NULL;

	if (result == NULL)
		return NULL;
	if (PQntuples(result) > 0 && !PQgetisnull(result, 0, 0))
		text = pg_strdup(PQgetvalue(result, 0, 0));
	PQclear(result);
	return text;
}

int
ctl_print_query(PGconn *connection, const char *sql, const char *title, bool json)
{
	PGresult   *result;
	printQueryOpt format;
	int			code;

	if (json)
	{
		char	   *wrapped = psprintf("SELECT coalesce(json_agg(row_to_json(rows)), '[]') FROM (%s) rows", sql);
		char	   *text = ctl_query_text(connection, wrapped, 0, NULL, &code);

		pg_free(wrapped);
		if (text != NULL)
			puts(text);
		return code;
	}
	result = ctl_query(connection, sql, 0, NULL, &code);
	if (result == NULL)
		return code;
	memset(&format, 0, sizeof(format));
	format.topt.format = PRINT_ALIGNED;
	format.topt.border = 2;
	format.topt.start_table = true;
	format.topt.stop_table = true;
	format.topt.unicode_border_linestyle = UNICODE_LINESTYLE_SINGLE;
	format.topt.encoding = PQclientEncoding(connection);
	format.title = unconstify(char *, title);
	format.nullPrint = "";
	printQuery(result, &format, stdout, false, NULL);
	PQclear(result);
	return CTL_OK;
}

int
ctl_run_function(PGconn *connection, const char *sql, int n_params, const char *const *params,
				 const char *done)
{
	int			code;
	char	   *text = ctl_query_text(connection, sql, n_params, params, &code);

	if (code != CTL_OK)
		return code;
	if (text != NULL && strcmp(text, "f") == 0)
		printf("Nothing to do.\n");
	else if (done != NULL)
		printf("%s\n", done);
	else
		printf("%s\n", text != NULL ? text : "");
	return CTL_OK;
}

bool
ctl_wait_until(PGconn *connection, const char *sql, int seconds, const char *waiting_for)
{
	time_t		end = time(NULL) + seconds;

	for (;;)
	{
		int			code;
		char	   *text = ctl_query_text(connection, sql, 0, NULL, &code);
		bool		is_true = text != NULL && strcmp(text, "t") == 0;

		pg_free(text);
		if (code != CTL_OK || is_true)
			return code == CTL_OK;
		if (ctl_end_requested)
			return false;
		if (time(NULL) >= end)
		{
			pg_log_error("gave up waiting for %s", waiting_for);
			return false;
		}
		pg_usleep(50000);
	}
}
