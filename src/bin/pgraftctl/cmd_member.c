/*-------------------------------------------------------------------------
 *
 * cmd_member.c
 *	  pgraftctl init and join: the first and every further member of a cluster
 *	  in one command each.
 *
 * A member connects to others' PostgreSQL with a role of its own, pgraft_NAME,
 * whose password is made here and lies beside the data directory.  These roles
 * share pgraft_replication, which may do what pg_rewind needs, and which
 * pg_hba.conf names.
 *
 * Either command can be given again after it failed: what is done already is
 * recognised and left alone.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/cmd_member.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <time.h>
#include <unistd.h>

#include "common/username.h"

static bool check_member_options(const CtlOptions *options, const char *command);
static bool make_cluster_directory(const CtlOptions *options);
static char *administrator(const CtlOptions *options);
static char *administrator_passfile(const CtlOptions *options);
static bool fill_data_directory(const CtlOptions *options, const char *name, CtlSource *source);
static bool remove_half_copy(const CtlOptions *options, const char *marker);
static bool copy_primary(const CtlOptions *options, const char *name, CtlSource *source,
						 bool *again);
static bool prepare_database(const CtlOptions *options, const char *name);
static bool make_role(PGconn *connection, const char *data_directory, const char *name);
static char *local_conninfo(const CtlOptions *options);
static PGconn *wait_for_server(const CtlOptions *options, const char *conninfo);

/* Once, in the first member's database; every clone has it. */
static const char *const preparation[] = {
	"CREATE EXTENSION IF NOT EXISTS pgraft SCHEMA public",
	"DO $$ BEGIN IF to_regrole('pgraft_replication') IS NULL THEN"
	" CREATE ROLE pgraft_replication NOLOGIN; END IF; END $$",
	"GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean),"
	" pg_catalog.pg_stat_file(text, boolean), pg_catalog.pg_read_binary_file(text),"
	" pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO pgraft_replication",
	"GRANT pgraft_monitor TO pgraft_replication"
};

int
cmd_init(int argc, char **argv)
{
	CtlOptions	options;
	char	   *name;
	PGconn	   *connection;
	int			code;

	if (ctl_parse(argc, argv, "DinaPApkcTUt", &options) < 0)
		return CTL_USAGE;
	if (options.node_id == 0)
		options.node_id = 1;
	if (!check_member_options(&options, "init"))
		return CTL_USAGE;
	name = ctl_member_name(&options);
	if (!make_cluster_directory(&options) || !ctl_write_configuration(&options, name) ||
		!prepare_database(&options, name))
		return CTL_FAILED;
	if (!ctl_server_is_running(options.data_directory) &&
		ctl_start_server(options.data_directory, NULL, options.timeout_seconds) != CTL_OK)
		return CTL_FAILED;
	connection = wait_for_server(&options, local_conninfo(&options));
	if (connection == NULL)
		return CTL_FAILED;
	code = CTL_OK;
	pg_free(ctl_query_text(connection, "SELECT pgraft_init()", 0, NULL, &code));
	if (code == CTL_OK &&
		!ctl_wait_until(connection, "SELECT pgraft_is_primary()", options.timeout_seconds,
						"this server to become the primary"))
		code = CTL_FAILED;
	PQfinish(connection);
	if (code != CTL_OK)
		return code;
	printf("Member %d (\"%s\") is the primary of cluster \"%s\", on port %d.\n"
		   "Further members, each on its own machine:\n"
		   "  pgraftctl join -D DIR --node-id 2 --address ADDRESS --from 'host=%s port=%d user=%s passfile=%s'\n"
		   "The passfile has the password of the superuser; on another machine, copy it there.\n",
		   options.node_id, name, options.cluster_id, options.postgres_port,
		   options.postgres_address != NULL ? options.postgres_address : options.address,
		   options.postgres_port, administrator(&options), administrator_passfile(&options));
	return CTL_OK;
}

int
cmd_join(int argc, char **argv)
{
	CtlOptions	options;
	char	   *name;
	CtlSource	source;
	const char *parameters[5];
	int			code;

	if (ctl_parse(argc, argv, "DinaPApkcTfrt", &options) < 0)
		return CTL_USAGE;
	if (options.from == NULL || options.node_id == 0)
	{
		pg_log_error("--from and --node-id are needed");
		ctl_try_help("join");
		return CTL_USAGE;
	}
	if (!check_member_options(&options, "join"))
		return CTL_USAGE;
	name = ctl_member_name(&options);
	if (!ctl_find_primary(options.from, "", options.timeout_seconds,
						  ctl_confirmed_epoch(options.data_directory), &source) ||
		!fill_data_directory(&options, name, &source) ||
		!ctl_write_configuration(&options, name))
		return CTL_FAILED;
	if (!ctl_server_is_running(options.data_directory) &&
		ctl_start_server(options.data_directory, NULL, options.timeout_seconds) != CTL_OK)
		return CTL_FAILED;

	parameters[0] = psprintf("%d", options.node_id);
	parameters[1] = options.address;
	parameters[2] = psprintf("%d", options.consensus_port);
	parameters[3] = options.role;
	parameters[4] = name;
	pg_free(ctl_query_text(source.connection, "SELECT pgraft_add_node($1::int, $2, $3::int, $4, $5)"
						   " WHERE NOT EXISTS (SELECT 1 FROM pgraft_get_nodes() WHERE node_id = $1::int)",
						   5, parameters, &code));
	if (code == CTL_OK &&
		!ctl_wait_until(source.connection,
						psprintf("SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_replication"
								 " WHERE application_name = '%s' AND state = 'streaming')", name),
						options.timeout_seconds, "the new member to follow the primary"))
		code = CTL_FAILED;
	ctl_forget_source(&source);
	if (code == CTL_OK)
		printf("Member %d (\"%s\") follows the primary, on port %d.\n", options.node_id, name,
			   options.postgres_port);
	return code;
}

/* Unless it has a copy of the primary already.  The source may be another one then. */
static bool
fill_data_directory(const CtlOptions *options, const char *name, CtlSource *source)
{
	char	   *marker = psprintf("%s.joining", options->data_directory);
	bool		again = false;

	if (!remove_half_copy(options, marker))
		return false;
	if (!ctl_directory_is_empty(options->data_directory))
		return true;

	if (!ctl_write_file(marker, "", 0600))
		return false;
	while (!copy_primary(options, name, source, &again))
	{
		ctl_forget_source(source);
		if (!again || !ctl_find_primary(options->from, "", options->timeout_seconds,
										 ctl_confirmed_epoch(options->data_directory), source))
			return false;
	}

	/* the primary's list of synchronous standbys; the server writes its own */
	(void) unlink(psprintf("%s/pgraft.auto.conf", options->data_directory));

	/* of data that was lost, when its consensus directory was not */
	if (!ctl_forget_wal(options->data_directory))
		return false;
	if (unlink(marker) == 0)
		return true;
	pg_log_error("could not remove file \"%s\": %m", marker);
	return false;
}

/* Of a join that ended before it knew whose copy it is; never started. */
static bool
remove_half_copy(const CtlOptions *options, const char *marker)
{
	return access(marker, F_OK) != 0 ||
		access(psprintf("%s/postmaster.opts", options->data_directory), F_OK) == 0 ||
		ctl_directory_is_empty(options->data_directory) ||
		rmtree(options->data_directory, false);
}

/* When it fails, the directory is empty again; *again = another source may do. */
static bool
copy_primary(const CtlOptions *options, const char *name, CtlSource *source, bool *again)
{
	int			code;
	char	   *address;
	bool		copied;

	/* --from may go through a socket, where the member's role cannot log in */
	*again = false;
	address = ctl_query_text(source->connection, "SELECT pgraft_connection_string('primary')",
							 0, NULL, &code);
	if (address == NULL || !make_role(source->connection, options->data_directory, name))
		return false;
	printf("Cloning %s ...\n", address);
	copied = ctl_base_backup(options->data_directory,
							 psprintf("%s %s", address, ctl_member_conninfo(options, name)));
	*again = !ctl_is_still_primary(source);
	if (copied && !*again)
		return true;
	if (!ctl_directory_is_empty(options->data_directory) &&
		!rmtree(options->data_directory, false))
		*again = false;
	return false;
}

static bool
check_member_options(const CtlOptions *options, const char *command)
{
	const char *p;

	if (options->data_directory == NULL)
	{
		pg_log_error("no data directory given");
		ctl_try_help(command);
		return false;
	}
	if (geteuid() == 0)
	{
		pg_log_error("cannot be run as root");
		pg_log_error_hint("Run it as the user who is to own the server process.");
		return false;
	}
	if (options->name != NULL)
		for (p = options->name; *p != '\0'; p++)
			if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '_' || *p == '-'))
			{
				pg_log_error("invalid member name: \"%s\"", options->name);
				pg_log_error_hint("Use lower-case letters, digits, \"_\" and \"-\".");
				return false;
			}
	return true;
}

static bool
make_cluster_directory(const CtlOptions *options)
{
	char	   *argv[16];
	char	   *password = psprintf("%s.password", options->data_directory);
	char	   *text = ctl_random_password();
	int			n = 0;
	bool		made;

	if (!ctl_directory_is_empty(options->data_directory))
	{
		char	   *version = psprintf("%s/PG_VERSION", options->data_directory);

		if (access(version, F_OK) == 0)
			return true;
		pg_log_error("directory \"%s\" is neither empty nor a data directory",
					 options->data_directory);
		return false;
	}
	argv[n++] = ctl_find_program("initdb");
	argv[n++] = "-D";
	argv[n++] = unconstify(char *, options->data_directory);
	argv[n++] = "--auth-host=scram-sha-256";
	argv[n++] = "--auth-local=peer";
	argv[n++] = psprintf("--username=%s", administrator(options));
	argv[n++] = psprintf("--pwfile=%s", password);
	argv[n] = NULL;
	printf("Making a database in \"%s\" ...\n", options->data_directory);
	made = ctl_write_file(password, text, 0600) && ctl_run_quietly(argv) == 0;
	if (unlink(password) != 0 && errno != ENOENT)
	{
		pg_log_error("could not remove file \"%s\": %m", password);
		return false;
	}

	/* joining members' commands log in as the superuser, from their machines */
	return made &&
		ctl_write_file(administrator_passfile(options),
					   psprintf("*:*:*:%s:%s\n", administrator(options), text), 0600) &&
		ctl_append_once(psprintf("%s/pg_hba.conf", options->data_directory),
						psprintf("host postgres \"%s\" all scram-sha-256", administrator(options)));
}

/* The superuser that init makes. */
static char *
administrator(const CtlOptions *options)
{
	char	   *error = NULL;
	const char *user;

	if (options->user != NULL)
		return pg_strdup(options->user);
	user = get_user_name(&error);
	if (user == NULL)
		pg_fatal("%s", error);
	return pg_strdup(user);
}

static char *
administrator_passfile(const CtlOptions *options)
{
	return psprintf("%s.superuser.pgpass", options->data_directory);
}

/*
 * A server in HA mode is read-only until its cluster has made it the primary,
 * so the extension is created before it takes part in one.
 */
static bool
prepare_database(const CtlOptions *options, const char *name)
{
	PGconn	   *connection;
	bool		good = true;
	size_t		i;
	int			code;

	if (ctl_server_is_running(options->data_directory) ||
		access(psprintf("%s.pgraft", options->data_directory), F_OK) == 0)
		return true;
	if (ctl_start_server(options->data_directory,
						 "-c pgraft.node_id=0 -c pgraft.mode=consensus -c listen_addresses=''",
						 options->timeout_seconds) != CTL_OK)
		return false;
	connection = wait_for_server(options, local_conninfo(options));
	good = connection != NULL;
	for (i = 0; good && i < lengthof(preparation); i++)
	{
		PQclear(ctl_query(connection, preparation[i], 0, NULL, &code));
		good = code == CTL_OK;
	}
	good = good && make_role(connection, options->data_directory, name);
	if (connection != NULL)
		PQfinish(connection);
	return ctl_stop_server(options->data_directory) == CTL_OK && good;
}

static bool
make_role(PGconn *connection, const char *data_directory, const char *name)
{
	char	   *role = psprintf("pgraft_%s", name);
	char	   *password = ctl_random_password();
	char	   *identifier = PQescapeIdentifier(connection, role, strlen(role));
	char	   *encrypted = PQencryptPasswordConn(connection, password, role, "scram-sha-256");
	char	   *literal;
	int			code;

	if (identifier == NULL || encrypted == NULL)
	{
		pg_log_error("%s", PQerrorMessage(connection));
		return false;
	}

	/* the server, and so its log, sees only what it stores */
	literal = PQescapeLiteral(connection, encrypted, strlen(encrypted));
	PQclear(ctl_query(connection,
					  psprintf("DO $do$ BEGIN IF to_regrole('%s') IS NULL THEN"
							   " CREATE ROLE %s LOGIN REPLICATION IN ROLE pgraft_replication; END IF; END $do$",
							   identifier, identifier), 0, NULL, &code));
	if (code == CTL_OK)
		PQclear(ctl_query(connection, psprintf("ALTER ROLE %s PASSWORD %s", identifier, literal),
						  0, NULL, &code));
	PQfreemem(identifier);
	PQfreemem(encrypted);
	PQfreemem(literal);
	return code == CTL_OK && ctl_write_passfile(data_directory, role, password);
}

/* Through the socket, as the user who runs us. */
static char *
local_conninfo(const CtlOptions *options)
{
	char	   *directories = ctl_read_setting(options->data_directory, "unix_socket_directories");
	char	   *comma;

	if (directories == NULL || directories[0] == '\0')
		directories = pg_strdup("localhost");
	comma = strchr(directories, ',');
	if (comma != NULL)
		*comma = '\0';
	return psprintf("host='%s' port=%d dbname=postgres%s%s", directories, options->postgres_port,
					options->user != NULL ? " user=" : "",
					options->user != NULL ? options->user : "");
}

static PGconn *
wait_for_server(const CtlOptions *options, const char *conninfo)
{
	time_t		end = time(NULL) + options->timeout_seconds;

	while (PQping(conninfo) != PQPING_OK)
	{
		if (time(NULL) >= end)
		{
			pg_log_error("the server in \"%s\" does not accept connections",
						 options->data_directory);
			pg_log_error_hint("Its messages are in \"%s.log\".", options->data_directory);
			return NULL;
		}
		pg_usleep(50000);
	}
	return ctl_connect_string(conninfo);
}
