/*-------------------------------------------------------------------------
 *
 * cmd_admin.c
 *	  Commands of pgraftctl that ask a running member: what the cluster is like,
 *	  and changes to it.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/cmd_admin.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <time.h>
#include <unistd.h>

/* A parameter after the arguments that comes from an option. */
typedef enum LastParameter
{
	LAST_NONE,
	LAST_ROLE,
	LAST_DATA_LOSS,
	LAST_AT
} LastParameter;

typedef struct Call
{
	const char *allowed;		/* options, see options.c */
	const char *sql;
	int			least;			/* arguments */
	int			most;
	const char *arguments;		/* for the message about a wrong number */
	const char *question;		/* NULL = not asked */
	const char *done;			/* NULL = the result is printed */
	LastParameter last;
} Call;

#define SWITCHOVER_OPTIONS "dhpUyWX"

static int	show(int argc, char **argv, const char *sql, const char *title);
static int	call(int argc, char **argv, const Call *what);
static bool has_function(PGconn *connection, const char *name);
static void print_pending(PGconn *connection);

static const char *const ha_status =
"SELECT m.node_id AS \"Member\", m.name AS \"Name\", m.host || ':' || m.port AS \"Host\","
" m.role AS \"Role\", m.state AS \"State\","
" CASE WHEN m.role = 'primary' OR m.state = 'streaming' THEN (SELECT h.timeline FROM pgraft_history h"
" WHERE h.promoted ORDER BY h.epoch DESC LIMIT 1) END AS \"TL\","
" CASE WHEN m.role = 'primary' THEN NULL ELSE m.lag_bytes END AS \"Lag (bytes)\","
" m.synchronous AS \"Sync\""
" FROM pgraft_ha_members() m ORDER BY m.node_id";

static const char *const consensus_status =
"SELECT node_id AS \"Member\", name AS \"Name\", address || ':' || port AS \"Address\","
" role AS \"Role\", state AS \"State\", match_index AS \"Match\" FROM pg_stat_pgraft_members"
" ORDER BY node_id";

int
cmd_status(int argc, char **argv)
{
	CtlOptions	options;
	int			first = ctl_parse(argc, argv, "dhpUjw", &options);
	PGconn	   *connection;
	int			code;

	if (first < 0)
		return CTL_USAGE;
	connection = ctl_connect(&options);
	if (connection == NULL)
		return CTL_FAILED;
	for (;;)
	{
		bool		ha = has_function(connection, "pgraft_ha_members");

		if (options.watch_seconds > 0 && !options.json && isatty(fileno(stdout)))
			printf("\033[H\033[2J");
		if (ha && !options.json)
			print_pending(connection);
		code = ctl_print_query(connection, ha ? ha_status : consensus_status, NULL, options.json);
		if (options.watch_seconds <= 0)
			break;
		fflush(stdout);
		pg_usleep((long) (options.watch_seconds * 1000000));

		/* watching goes on while servers come and go */
		if (PQstatus(connection) != CONNECTION_OK)
		{
			PQfinish(connection);
			connection = ctl_connect(&options);
			while (connection == NULL)
			{
				pg_usleep(1000000);
				connection = ctl_connect(&options);
			}
		}
	}
	PQfinish(connection);
	return code;
}

static bool
has_function(PGconn *connection, const char *name)
{
	const char *parameters[1];
	char	   *text;
	int			code;

	parameters[0] = name;
	text = ctl_query_text(connection,
						  "SELECT to_regproc($1) IS NOT NULL AND current_setting('pgraft.mode', true) = 'ha'",
						  1, parameters, &code);
	return text != NULL && strcmp(text, "t") == 0;
}

static void
print_pending(PGconn *connection)
{
	int			code;
	char	   *text = ctl_query_text(connection, "SELECT paused FROM pg_stat_pgraft_ha", 0, NULL, &code);

	if (text != NULL && strcmp(text, "t") == 0)
		printf("The cluster is paused: no failover happens until \"pgraftctl resume\".\n");
	text = ctl_query_text(connection,
						  "SELECT 'A switchover' || coalesce(' to member ' || scheduled_target, '')"
						  " || ' is scheduled for ' || scheduled_at || '.'"
						  " FROM pg_stat_pgraft_ha WHERE scheduled_at IS NOT NULL", 0, NULL, &code);
	if (code == CTL_OK && text != NULL && text[0] != '\0')
		printf("%s\n", text);
}

int
cmd_members(int argc, char **argv)
{
	return show(argc, argv, consensus_status, NULL);
}

int
cmd_history(int argc, char **argv)
{
	return show(argc, argv, "SELECT * FROM pgraft_history", NULL);
}

int
cmd_log(int argc, char **argv)
{
	CtlOptions	options;
	int			first = ctl_parse(argc, argv, "dhpUj", &options);
	long		from = 1;
	long		to = PG_INT32_MAX;
	PGconn	   *connection;
	int			code;

	if (first < 0)
		return CTL_USAGE;
	if (argc - first > 2 || (argc > first && (from = atol(argv[first])) <= 0) ||
		(argc > first + 1 && (to = atol(argv[first + 1])) <= 0))
	{
		pg_log_error("\"pgraftctl log\" takes at most two log positions");
		ctl_try_help("log");
		return CTL_USAGE;
	}
	connection = ctl_connect(&options);
	if (connection == NULL)
		return CTL_FAILED;
	code = ctl_print_query(connection, psprintf("SELECT * FROM pgraft_log_entries(%ld, %ld)", from, to),
						   NULL, options.json);
	PQfinish(connection);
	return code;
}

static int
show(int argc, char **argv, const char *sql, const char *title)
{
	CtlOptions	options;
	PGconn	   *connection;
	int			code;

	if (ctl_parse(argc, argv, "dhpUj", &options) < 0)
		return CTL_USAGE;
	connection = ctl_connect(&options);
	if (connection == NULL)
		return CTL_FAILED;
	code = ctl_print_query(connection, sql, title, options.json);
	PQfinish(connection);
	return code;
}

/* Says what a primary by force costs, as far as anybody knows, and asks. */
static bool
confirm_loss(PGconn *connection, const CtlOptions *options, const char *const *target)
{
	int			code;
	char	   *warning = ctl_query_text(connection,
										 "SELECT format('member %s has WAL up to %s; the last primary had WAL up to at least %s',"
										 " $1, coalesce(m.lsn::text, 'a position not known now'),"
										 " coalesce(h.recorded_lsn::text, 'a position not known'))"
										 " || coalesce(format(', %s bytes more', nullif(greatest(pg_wal_lsn_diff(h.recorded_lsn, m.lsn), 0), 0)), '')"
										 " || coalesce('; members that have not reported: ' ||"
										 " (SELECT string_agg(o.node_id::text, ', ' ORDER BY o.node_id)"
										 " FROM pgraft_ha_member_list() o WHERE NOT o.reported), '')"
										 " FROM pg_stat_pgraft_ha h LEFT JOIN pgraft_ha_member_list() m ON m.node_id = $1::int",
										 1, target, &code);

	if (code != CTL_OK || warning == NULL)
		return false;
	pg_log_warning("%s", warning);
	pg_free(warning);
	return ctl_confirm(options, "All that this member lacks is lost for good.  Go on?");
}

/* A function whose parameters are the command's arguments, missing ones null. */
static int
call(int argc, char **argv, const Call *what)
{
	CtlOptions	options;
	const char *parameters[4] = {NULL, NULL, NULL, NULL};
	int			n_parameters = what->most;
	int			first = ctl_parse(argc, argv, what->allowed, &options);
	PGconn	   *connection;
	bool		loses;
	int			code;
	int			i;

	if (first < 0)
		return CTL_USAGE;
	if (argc - first < what->least || argc - first > what->most)
	{
		pg_log_error("wrong number of arguments: \"pgraftctl %s %s\"", argv[0], what->arguments);
		ctl_try_help(argv[0]);
		return CTL_USAGE;
	}
	for (i = first; i < argc; i++)
		parameters[i - first] = argv[i];
	if (what->last == LAST_ROLE)
		parameters[n_parameters++] = options.role;
	else if (what->last == LAST_AT)
		parameters[n_parameters++] = options.at;
	else if (what->last == LAST_DATA_LOSS)
		parameters[n_parameters++] = options.allow_data_loss ? "true" : "false";
	loses = what->last == LAST_DATA_LOSS && options.allow_data_loss;
	if (!loses && what->question != NULL && !ctl_confirm(&options, what->question))
		return CTL_FAILED;
	connection = ctl_connect(&options);
	if (connection == NULL)
		return CTL_FAILED;
	if (loses && !confirm_loss(connection, &options, parameters))
	{
		PQfinish(connection);
		return CTL_FAILED;
	}
	code = ctl_run_function(connection, what->sql, n_parameters, parameters, what->done);
	PQfinish(connection);
	return code;
}

int
cmd_add(int argc, char **argv)
{
	static const Call what = {
		"dhpUr", "SELECT pgraft_add_node($1::int, $2, $3::int, $4)", 3, 3,
		"ID ADDRESS PORT", NULL, "Added.", LAST_ROLE
	};

	return call(argc, argv, &what);
}

int
cmd_remove(int argc, char **argv)
{
	static const Call what = {
		"dhpUy", "SELECT pgraft_remove_node($1::int)", 1, 1,
		"ID", "Remove this member from the cluster?", "Removed.", LAST_NONE
	};

	return call(argc, argv, &what);
}

int
cmd_switchover(int argc, char **argv)
{
	static const Call now = {
		SWITCHOVER_OPTIONS, "SELECT pgraft_switchover($1::int)", 0, 1,
		"[ID]", "Sessions on the primary will be ended.  Go on?", "Done.", LAST_NONE
	};
	static const Call later = {
		SWITCHOVER_OPTIONS, "SELECT pgraft_switchover($1::int, $2::timestamptz)", 0, 1,
		"[ID]", NULL, "Scheduled.", LAST_AT
	};
	static const Call never = {
		SWITCHOVER_OPTIONS, "SELECT pgraft_cancel_switchover()", 0, 0, "--cancel", NULL, "Cancelled.",
		LAST_NONE
	};
	CtlOptions	options;

	if (ctl_parse(argc, argv, SWITCHOVER_OPTIONS, &options) < 0)
		return CTL_USAGE;
	if (options.cancel && options.at != NULL)
	{
		pg_log_error("options --at and --cancel cannot be used together");
		ctl_try_help(argv[0]);
		return CTL_USAGE;
	}
	return call(argc, argv, options.cancel ? &never : options.at != NULL ? &later : &now);
}

int
cmd_failover(int argc, char **argv)
{
	static const Call what = {
		"dhpUyL", "SELECT pgraft_failover($1::int, $2::boolean)", 1, 1,
		"ID", "Make this server the primary although the old one may be alive?", "Done.",
		LAST_DATA_LOSS
	};

	return call(argc, argv, &what);
}

int
cmd_pause(int argc, char **argv)
{
	static const Call what = {
		"dhpU", "SELECT pgraft_pause()", 0, 0,
		"", NULL, "Paused: no failover happens until \"pgraftctl resume\".", LAST_NONE
	};

	return call(argc, argv, &what);
}

int
cmd_resume(int argc, char **argv)
{
	static const Call what = {
		"dhpU", "SELECT pgraft_resume()", 0, 0, "", NULL, "Resumed.", LAST_NONE
	};

	return call(argc, argv, &what);
}

int
cmd_kv(int argc, char **argv)
{
	static const struct
	{
		const char *name;
		Call		what;
	}			kinds[] = {
		{"get", {"dhpU", "SELECT pgraft_kv_get($1)", 1, 1, "KEY", NULL, NULL, LAST_NONE}},
		{"put", {"dhpU", "SELECT pgraft_kv_put($1, $2)", 2, 2, "KEY VALUE", NULL, NULL, LAST_NONE}},
		{"del", {"dhpU", "SELECT pgraft_kv_delete($1)", 1, 1, "KEY", NULL, NULL, LAST_NONE}},
		{"ls", {"dhpU", "SELECT string_agg(key, E'\\n') FROM pgraft_kv_list_keys(coalesce($1, '')) AS key",
		0, 1, "[PREFIX]", NULL, NULL, LAST_NONE}},
	};
	CtlOptions	options;
	size_t		i;

	for (i = 0; argc > 1 && i < lengthof(kinds); i++)
		if (strcmp(argv[1], kinds[i].name) == 0)
			return call(argc - 1, argv + 1, &kinds[i].what);

	/* help, which is the same for all of them, or a wrong option */
	if (argc > 1 && argv[1][0] == '-' && ctl_parse(argc, argv, kinds[0].what.allowed, &options) < 0)
		return CTL_USAGE;
	pg_log_error("\"pgraftctl kv\" needs one of get, put, del, ls");
	ctl_try_help(NULL);
	return CTL_USAGE;
}
