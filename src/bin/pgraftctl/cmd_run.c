/*-------------------------------------------------------------------------
 *
 * cmd_run.c
 *	  pgraftctl run: supervises one server without a person.
 *
 * It is the parent of the postmaster, for a container (also as its first
 * process) or a systemd unit of Type=notify.  It starts the server, starts it
 * again when it ends, and asks it once a second what its role is: "rewind" and
 * "reclone" mean stop, mend, start, as soon as there is a primary to get the data
 * from.  SIGTERM and SIGINT end server and supervisor (fast shutdown); SIGHUP
 * goes on to the server.
 *
 * Whether another server runs in the data directory is PostgreSQL's to decide:
 * when ours ends at once and somebody else's lock file is there, we give up.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/cmd_run.c
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

#define LOOK_INTERVAL_US 1000000
#define FIRST_BACKOFF_MS 100
#define MAX_BACKOFF_MS 30000
#define OCCUPIED_ATTEMPTS 6		/* some six seconds */
#define NOT_EXECUTED 127

/* What one life of the server showed. */
typedef struct Life
{
	bool		ready;			/* it accepted connections */
	bool		mend;			/* stopped for that */
	CtlSource	source;			/* from there */
	int			status;			/* of waitpid() */
} Life;

static void live(const CtlOptions *options, Life *life);
static bool has_ended(pid_t postmaster, int *status);
static char *see_role(const char *data_directory);
static PGconn *connect_to_own(const char *data_directory);
static pid_t start_postmaster(const char *data_directory);
static void notify_systemd(const char *state);
static void install_handlers(void);
static void take_signal(int signal_number);

static volatile sig_atomic_t reload_requested = 0;
static char *notify_socket = NULL;

int
cmd_run(int argc, char **argv)
{
	CtlOptions	options;
	int			backoff = FIRST_BACKOFF_MS;
	int			occupied = 0;	/* attempts in a row that found another server */

	if (ctl_parse(argc, argv, "Dft", &options) < 0)
		return CTL_USAGE;
	if (options.data_directory == NULL)
	{
		pg_log_error("no data directory given");
		ctl_try_help("run");
		return CTL_USAGE;
	}
	if (access(psprintf("%s/PG_VERSION", options.data_directory), F_OK) != 0)
	{
		pg_log_error("\"%s\" is not a data directory", options.data_directory);
		return CTL_FAILED;
	}
	if (!ctl_lock_supervisor(options.data_directory))
		return CTL_FAILED;
	/* a server that notifies, too, waits for whoever reads there too slowly */
	if (getenv("NOTIFY_SOCKET") != NULL)
		notify_socket = pg_strdup(getenv("NOTIFY_SOCKET"));
	unsetenv("NOTIFY_SOCKET");
	install_handlers();
	while (!ctl_end_requested)
	{
		Life		life;

		memset(&life, 0, sizeof(life));

		/* half a rewind is nothing to start from */
		if (ctl_mending_was_interrupted(options.data_directory))
			life.mend = ctl_recover_configuration(options.data_directory) &&
				ctl_find_source(&options, 0, true, &life.source);
		else
			live(&options, &life);
		if (ctl_end_requested)
			break;
		if (life.ready)
			backoff = FIRST_BACKOFF_MS;
		if (life.mend)
		{
			notify_systemd("STATUS=getting the data of the primary");
			if (ctl_mend(&options, &life.source) == CTL_OK)
				continue;
		}
		else if (WIFEXITED(life.status) && WEXITSTATUS(life.status) == NOT_EXECUTED)
			return CTL_FAILED;
		else if (!ctl_server_is_running(options.data_directory))
			occupied = 0;
		else if (++occupied == OCCUPIED_ATTEMPTS)
		{
			/* not the remains of one that was killed: they would be gone by now */
			pg_log_error("another server is running in \"%s\"", options.data_directory);
			return CTL_FAILED;
		}
		if (ctl_end_requested)
			break;
		pg_log_warning("the server in \"%s\" is not running, trying again in %.1f s",
					   options.data_directory, backoff / 1000.0);
		pg_usleep(backoff * 1000L);
		backoff = Min(backoff * 2, MAX_BACKOFF_MS);
	}
	pg_log_info("ended, with the server in \"%s\"", options.data_directory);
	return CTL_OK;
}

/* From the start of the server until it has ended. */
static void
live(const CtlOptions *options, Life *life)
{
	pid_t		postmaster = start_postmaster(options->data_directory);
	char	   *role = NULL;
	bool		complained = false;

	while (!has_ended(postmaster, &life->status))
	{
		char	   *now;

		if (ctl_end_requested || life->mend)
		{
			if (ctl_end_requested)
				notify_systemd("STOPPING=1");
			kill(postmaster, SIGINT);
		}
		else if (reload_requested)
		{
			reload_requested = 0;
			kill(postmaster, SIGHUP);
		}
		else if (ctl_server_pid(options->data_directory) == postmaster &&
				 (now = see_role(options->data_directory)) != NULL)
		{
			if (!life->ready)
				notify_systemd("READY=1");
			life->ready = true;
			if (role == NULL || strcmp(role, now) != 0)
			{
				notify_systemd(psprintf("STATUS=%s", now));
				pg_free(role);
				role = pg_strdup(now);
			}
			if (strcmp(now, "reclone") == 0 || strcmp(now, "rewind") == 0)
			{
				if (!complained)
					pg_log_info("the server in \"%s\" cannot follow, getting the data of the primary",
								options->data_directory);
				complained = true;
				life->mend = ctl_find_source(options, 0, false, &life->source);
				if (life->mend)
					continue;
			}
			pg_free(now);
		}
		pg_usleep(LOOK_INTERVAL_US);
	}
	pg_free(role);
}

/* Also collects what others left to us: we may be a container's first process. */
static bool
has_ended(pid_t postmaster, int *status)
{
	pid_t		child;
	int			any;

	while ((child = waitpid(-1, &any, WNOHANG)) > 0)
		if (child == postmaster)
		{
			*status = any;
			return true;
		}
	return child < 0 && errno == ECHILD;
}

/*
 * Its role, palloc'd: "" when it accepts connections and says none, NULL while
 * it does not.
 */
static char *
see_role(const char *data_directory)
{
	static PGconn *connection = NULL;
	PGresult   *result;
	char	   *role = NULL;

	if (connection == NULL)
		connection = connect_to_own(data_directory);
	if (connection == NULL)
		return NULL;
	if (PQstatus(connection) == CONNECTION_OK)
	{
		result = PQexec(connection, "SELECT own_role FROM pg_stat_pgraft_ha");
		if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
			role = pg_strdup(PQgetvalue(result, 0, 0));
		else if (PQstatus(connection) == CONNECTION_OK)
			role = pg_strdup("");
		PQclear(result);
	}
	else if (PQconnectionNeedsPassword(connection) ||
			 PQping(psprintf("host='%s' port=%s", PQhost(connection), PQport(connection))) == PQPING_OK)
		role = pg_strdup("");	/* it is there, and refuses us */
	if (PQstatus(connection) != CONNECTION_OK)
	{
		PQfinish(connection);
		connection = NULL;
	}
	return role;
}

/*
 * As the user who runs us, through the first socket directory; else as the
 * member's own role.  Open or not.
 */
static PGconn *
connect_to_own(const char *data_directory)
{
	static char *port = NULL;
	static char *sockets = NULL;
	static char *credentials = NULL;
	PGconn	   *connection;

	if (port == NULL)
	{
		port = ctl_read_setting(data_directory, "port");
		sockets = ctl_read_setting(data_directory, "unix_socket_directories");
		credentials = ctl_read_setting(data_directory, "primary_conninfo");
		if (port == NULL)
			return NULL;
	}
	connection = PQconnectdb(psprintf("host='%s' port=%s dbname=postgres connect_timeout=2 application_name='pgraftctl run'",
									  sockets != NULL && sockets[0] != '\0' && sockets[0] != ',' ?
									  pnstrdup(sockets, strcspn(sockets, ",")) : "localhost", port));
	if (PQstatus(connection) == CONNECTION_OK || credentials == NULL || credentials[0] == '\0')
		return connection;
	PQfinish(connection);
	return PQconnectdb(psprintf("%s host=localhost port=%s dbname=postgres connect_timeout=2 application_name='pgraftctl run'",
								credentials, port));
}

static pid_t
start_postmaster(const char *data_directory)
{
	pid_t		child;

	pg_log_info("starting the server in \"%s\"", data_directory);
	fflush(NULL);
	child = fork();
	if (child < 0)
		pg_fatal("could not fork: %m");
	if (child == 0)
	{
		char	   *program = ctl_find_program("postgres");
		int			nothing = open("/dev/null", O_RDONLY);

		if (nothing >= 0)
			(void) dup2(nothing, STDIN_FILENO);
		execlp(program, program, "-D", data_directory, (char *) NULL);
		fprintf(stderr, "could not execute \"%s\": %s\n", program, strerror(errno));
		_exit(NOT_EXECUTED);
	}
	return child;
}

static void
install_handlers(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = take_signal;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);

	/* a child's end ends the pause between two looks, and nothing else */
	action.sa_flags = SA_RESTART;
	sigaction(SIGCHLD, &action, NULL);
}

static void
take_signal(int signal_number)
{
	if (signal_number == SIGHUP)
		reload_requested = 1;
	else if (signal_number != SIGCHLD)
	{
		ctl_end_requested = 1;
		if (ctl_running_program > 0)
			(void) kill(ctl_running_program, SIGTERM);
	}
}

/* sd_notify(3) without its library: one datagram. */
static void
notify_systemd(const char *state)
{
	const char *path = notify_socket;
	struct sockaddr_un address;
	int			fd;

	if (path == NULL || strlen(path) >= sizeof(address.sun_path))
		return;
	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	strlcpy(address.sun_path, path, sizeof(address.sun_path));
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void) sendto(fd, state, strlen(state), MSG_DONTWAIT, (struct sockaddr *) &address,
				  offsetof(struct sockaddr_un, sun_path) + strlen(path));
	close(fd);
}
