/*-------------------------------------------------------------------------
 *
 * cmd_supervise.c
 *	  pgraftctl rejoin: a server that history left behind follows again.
 *	  pgraftctl run: does that, and starts and restarts, without a person.
 *
 * run is the parent of the postmaster, for a container or a systemd unit of
 * Type=notify.  It asks the server once a second what its "pgraft ha" worker
 * says; "rewind" and "reclone" mean stop, mend, start.  SIGTERM and SIGINT end
 * server and supervisor (fast shutdown); SIGHUP goes on to the server.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/cmd_supervise.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/file_utils.h"

#define LOOK_INTERVAL_US 1000000
#define FIRST_BACKOFF_SECONDS 1
#define MAX_BACKOFF_SECONDS 30

static char *find_source(const CtlOptions *options);
static char *own_conninfo(const char *data_directory);
static pid_t start_postmaster(const char *data_directory);
static bool look(const char *conninfo, bool *ready);
static bool take_verdict(const char *data_directory, bool *may_rewind);
static void notify_systemd(const char *state);
static int	mend(const CtlOptions *options);
static void take_signal(int signal_number);

static volatile sig_atomic_t end_requested = 0;
static volatile sig_atomic_t reload_requested = 0;

int
cmd_rejoin(int argc, char **argv)
{
	CtlOptions	options;

	if (ctl_parse(argc, argv, "DftSy", &options) < 0)
		return CTL_USAGE;
	if (options.data_directory == NULL)
	{
		pg_log_error("no data directory given");
		ctl_try_help("rejoin");
		return CTL_USAGE;
	}
	if (access(psprintf("%s/PG_VERSION", options.data_directory), F_OK) != 0)
	{
		pg_log_error("\"%s\" is not a data directory", options.data_directory);
		pg_log_error_hint("If its data was lost, \"pgraftctl join\" with its old options fills it again.");
		return CTL_FAILED;
	}
	if (!ctl_confirm(&options, "What this server has and the primary has not will be thrown away.  Go on?"))
		return CTL_FAILED;
	if (ctl_server_is_running(options.data_directory) &&
		ctl_stop_server(options.data_directory) != CTL_OK)
		return CTL_FAILED;
	if (mend(&options) != CTL_OK)
		return CTL_FAILED;
	if (!options.no_start &&
		ctl_start_server(options.data_directory, NULL, options.timeout_seconds) != CTL_OK)
		return CTL_FAILED;
	printf("Done.\n");
	return CTL_OK;
}

static int
mend(const CtlOptions *options)
{
	char	   *source = find_source(options);
	bool		may_rewind;

	if (source == NULL)
	{
		pg_log_error("no running primary is known");
		pg_log_error_hint("Name it with --from, for example --from 'host=10.0.0.2 port=5432'.");
		return CTL_FAILED;
	}
	if (!take_verdict(options->data_directory, &may_rewind) ||
		!ctl_rewind_or_clone(options->data_directory, source, !may_rewind) ||
		!ctl_forget_wal(options->data_directory))
		return CTL_FAILED;
	return CTL_OK;
}

/*
 * Whether the server said that rewinding will do (local_state.c).  Asked once: a
 * rewind that does not come to its end leaves nothing that could be rewound.
 */
static bool
take_verdict(const char *data_directory, bool *may_rewind)
{
	char	   *path = psprintf("%s/rejoin", ctl_consensus_directory(data_directory));
	char	   *verdict = NULL;

	*may_rewind = false;
	if (access(path, F_OK) != 0)
	{
		pg_log_info("this server has not said whether rewinding will do");
		return true;
	}
	if (!ctl_read_file(path, &verdict))
		return false;
	*may_rewind = strcmp(verdict, "rewind\n") == 0;
	if (unlink(path) != 0)
	{
		pg_log_error("could not remove file \"%s\": %m", path);
		return false;
	}
	return fsync_parent_path(path) == 0;
}

/*
 * --from, or the hosts that this server noted last: the one among them that
 * accepts writes.  User and password are those of primary_conninfo.
 */
static char *
find_source(const CtlOptions *options)
{
	char	   *hosts_file = psprintf("%s/hosts", ctl_consensus_directory(options->data_directory));
	char	   *credentials = ctl_read_setting(options->data_directory, "primary_conninfo");
	char	   *hosts;
	PGconn	   *connection;
	char	   *source;
	bool		ready;

	if (options->from != NULL)
		hosts = pg_strdup(options->from);
	else if (access(hosts_file, F_OK) != 0 || !ctl_read_file(hosts_file, &hosts))
		return NULL;
	hosts[strcspn(hosts, "\n")] = '\0';
	connection = ctl_connect_string(psprintf("%s %s dbname=postgres target_session_attrs=read-write connect_timeout=5",
											 credentials != NULL ? credentials : "", hosts));
	if (connection == NULL)
		return NULL;

	/* not under the member's name: such a connection ends when the sync set changes */
	source = psprintf("%s host=%s port=%s application_name=pgraftctl",
					  credentials != NULL ? credentials : "",
					  PQhost(connection), PQport(connection));

	/*
	 * pg_rewind takes the source's timeline from its last checkpoint; before a
	 * new primary's first one it would find that nothing needs to be done.
	 */
	ready = ctl_wait_until(connection,
						   "SELECT lpad(upper(to_hex(timeline_id)), 8, '0') ="
						   " left(pg_walfile_name(pg_current_wal_lsn()), 8)"
						   " FROM pg_control_checkpoint()", options->timeout_seconds,
						   "the new primary's first checkpoint");
	PQfinish(connection);
	return ready ? source : NULL;
}

/* ----------------------------------------------------------------
 * run
 * ----------------------------------------------------------------
 */

int
cmd_run(int argc, char **argv)
{
	CtlOptions	options;
	struct sigaction action;
	char	   *conninfo;
	int			backoff = FIRST_BACKOFF_SECONDS;

	if (ctl_parse(argc, argv, "Dfpt", &options) < 0)
		return CTL_USAGE;
	if (options.data_directory == NULL)
	{
		pg_log_error("no data directory given");
		ctl_try_help("run");
		return CTL_USAGE;
	}
	memset(&action, 0, sizeof(action));
	action.sa_handler = take_signal;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	conninfo = own_conninfo(options.data_directory);
	while (!end_requested)
	{
		pid_t		postmaster = start_postmaster(options.data_directory);
		bool		wants_mending = false;
		bool		ready = false;
		bool		told = false;
		int			status;

		while (waitpid(postmaster, &status, WNOHANG) == 0)
		{
			if (end_requested || wants_mending)
				kill(postmaster, SIGINT);
			else if (reload_requested)
			{
				reload_requested = 0;
				kill(postmaster, SIGHUP);
			}
			else
				wants_mending = look(conninfo, &ready);
			if (ready && !told)
			{
				told = true;
				backoff = FIRST_BACKOFF_SECONDS;
				notify_systemd("READY=1");
			}
			pg_usleep(LOOK_INTERVAL_US);
		}
		if (end_requested)
			break;
		if (wants_mending && mend(&options) == CTL_OK)
			continue;
		pg_log_warning("the server in \"%s\" ended, starting it again in %d s",
					   options.data_directory, backoff);
		pg_usleep(backoff * 1000000L);
		backoff = Min(backoff * 2, MAX_BACKOFF_SECONDS);
	}
	notify_systemd("STOPPING=1");
	return CTL_OK;
}

/* Through the first socket directory, as the user who runs us. */
static char *
own_conninfo(const char *data_directory)
{
	char	   *port = ctl_read_setting(data_directory, "port");
	char	   *sockets = ctl_read_setting(data_directory, "unix_socket_directories");

	if (sockets == NULL || sockets[0] == '\0')
		sockets = pg_strdup("localhost");
	sockets[strcspn(sockets, ",")] = '\0';
	return psprintf("host='%s' port=%s dbname=postgres connect_timeout=2", sockets,
					port != NULL ? port : "5432");
}

static void
take_signal(int signal_number)
{
	if (signal_number == SIGHUP)
		reload_requested = 1;
	else
		end_requested = 1;
}

static pid_t
start_postmaster(const char *data_directory)
{
	pid_t		child;

	fflush(NULL);
	child = fork();
	if (child < 0)
		pg_fatal("could not fork: %m");
	if (child == 0)
	{
		char	   *program = ctl_find_program("postgres");
		int			nothing = open("/dev/null", O_RDONLY);

		/* a backend that must not answer its client any more reads from there */
		if (nothing >= 0)
			(void) dup2(nothing, STDIN_FILENO);
		execlp(program, program, "-D", data_directory, (char *) NULL);
		fprintf(stderr, "could not execute \"%s\": %s\n", program, strerror(errno));
		_exit(127);
	}
	return child;
}

/* Whether the server says that it cannot follow.  Silence says nothing. */
static bool
look(const char *conninfo, bool *ready)
{
	PGconn	   *connection;
	PGresult   *result;
	bool		wants = false;

	connection = PQconnectdb(conninfo);
	if (PQstatus(connection) == CONNECTION_OK)
	{
		*ready = true;
		result = PQexec(connection, "SELECT own_role FROM pg_stat_pgraft_ha");
		if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		{
			const char *role = PQgetvalue(result, 0, 0);

			wants = strcmp(role, "reclone") == 0 || strcmp(role, "rewind") == 0;
		}
		PQclear(result);
	}
	PQfinish(connection);
	return wants;
}

/* sd_notify(3) without its library: one datagram. */
static void
notify_systemd(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address;
	int			fd;

	if (path == NULL || strlen(path) >= sizeof(address.sun_path))
		return;
	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	strlcpy(address.sun_path, path, sizeof(address.sun_path));
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (fd < 0)
		return;
	(void) sendto(fd, state, strlen(state), 0, (struct sockaddr *) &address,
				  offsetof(struct sockaddr_un, sun_path) + strlen(path));
	close(fd);
}
