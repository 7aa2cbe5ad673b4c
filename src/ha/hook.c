/*-------------------------------------------------------------------------
 *
 * hook.c
 *	  pgraft.on_role_change: a shell command that is told when the role of this
 *	  server changes.
 *
 * Four roles are told: primary (it accepts writes), standby (it follows a
 * primary), demoting (it was the primary; it is fenced, and starts anew as a
 * standby), rewind (it cannot follow; see pgraftctl rejoin).  What lies between
 * them is not.  One command runs at a time; of several roles that become due
 * meanwhile the newest is told, and none that is the one told last.
 *
 * "pgraft ha" never waits for a command, and a command may outlive it: it is
 * started just before a demotion, which ends this process, and a killed
 * postmaster must not end it, either.  So it has a keeper, a process of a
 * session of its own, which ends it at its deadline and notes how it ended.
 * Neither has shared memory, sockets or any other descriptor of the server but
 * its log: a server can be started again while a command of its predecessor
 * still runs.
 *
 * The file role_change in the consensus directory is locked (flock) for as long
 * as a keeper lives, and says what was told last, in one line of fixed length:
 *
 *		pgraft-role 1 role <name> epoch <n> state <state> value <n> ms <n>
 *
 *	begun		the command was started; without a lock: its keeper was killed
 *	exit		it ended, value is its exit code (128 + signal as in a shell)
 *	killed		it was killed at its deadline
 *	logged		the log has it, or there was no command to run
 *
 * It is written in place and not flushed: after a loss of power the worst is a
 * role that is told again.
 *
 * The command's environment is made here, not inherited, since the server's own
 * may have passwords: PATH, HOME, USER, LOGNAME, LANG, LC_ALL, TZ and TMPDIR as
 * they are, PGDATA, and
 *
 *		PGRAFT_ROLE, PGRAFT_OLD_ROLE	the latter empty when none was told before
 *		PGRAFT_EPOCH					of the cluster document
 *		PGRAFT_NODE_ID, PGRAFT_NAME		of this member
 *		PGRAFT_PRIMARY_HOST, PGRAFT_PRIMARY_PORT	empty when there is none now
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/hook.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/pg_shmem.h"
#include "utils/ps_status.h"

#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

#define RECORD_SIZE 128			/* of the file, newline included */
#define ENVIRONMENT_MAX 32
#define LOCK_FD 3				/* the keeper's, the only one besides 0 to 2 */
#define TRY_AGAIN_MS 1000		/* after a file that cannot be used, a failed fork */
#define NOT_STARTED 126			/* exit code, as that of a shell */

typedef enum HookRole
{
	HOOK_NONE = 0,				/* nothing to tell */
	HOOK_PRIMARY,
	HOOK_STANDBY,
	HOOK_DEMOTING,
	HOOK_REWIND
} HookRole;

typedef enum HookState
{
	STATE_LOGGED = 0,
	STATE_BEGUN,
	STATE_EXIT,
	STATE_KILLED
} HookState;

typedef struct HookRecord
{
	int			role;			/* HookRole */
	uint64		epoch;
	int			state;			/* HookState */
	int			value;
	int			ms;
} HookRecord;

static HookRole role_to_tell(const PgraftHaLocal *local, const PgraftHaDocument *document);
static int	open_record(HookRecord *record);
static void read_record(int fd, HookRecord *record);
static bool write_record(int fd, const HookRecord *record);
static void log_end(const HookRecord *record);
static bool start_command(int fd, HookRole old_role, HookRecord *record,
						  const PgraftHaDocument *document);
static void fill_environment(char **environment, HookRole old_role, const HookRecord *record,
							 const PgraftHaDocument *document);
static void keep(int fd, HookRecord record, char *const *environment)
			pg_attribute_noreturn();
static void run_command(char *const *environment) pg_attribute_noreturn();
static void close_descriptors(int first);
static int64 monotonic_ms(void);
static void wake_up(int signal_number);

static const char *const role_names[] = {"none", "primary", "standby", "demoting", "rewind"};
static const char *const state_names[] = {"logged", "begun", "exit", "killed"};

/* What the file said last; a new process looks first. */
static HookRecord told;
static bool must_look = true;
static int	n_keepers = 0;		/* children of this process */
static raft_time failed_at = 0;

/*
 * Once per turn, and before a demotion.  Errors are logged: they must not keep
 * this server from its role.
 */
void
pgraft_ha_tell_role(const PgraftHaLocal *local, const PgraftHaDocument *document)
{
	HookRole	role = role_to_tell(local, document);
	HookRole	old_role;
	int			fd;

	while (n_keepers > 0 && waitpid(-1, NULL, WNOHANG) > 0)
		n_keepers--;
	if (!must_look && (role == HOOK_NONE || (int) role == told.role))
		return;
	if (failed_at != 0 && pgraft_monotonic_ms() - failed_at < TRY_AGAIN_MS)
		return;
	fd = open_record(&told);
	if (fd < 0)
		return;
	must_look = false;
	if (told.state != STATE_LOGGED)
	{
		log_end(&told);
		told.state = STATE_LOGGED;
		(void) write_record(fd, &told);
	}
	old_role = (HookRole) told.role;
	if (role != HOOK_NONE && role != old_role)
	{
		HookRecord	record = {role, document->epoch, STATE_LOGGED, 0, 0};

		if (start_command(fd, old_role, &record, document))
		{
			told = record;
			must_look = record.state == STATE_BEGUN;
			failed_at = 0;
		}
		else
			failed_at = pgraft_monotonic_ms();
	}
	close(fd);
}

static HookRole
role_to_tell(const PgraftHaLocal *local, const PgraftHaDocument *document)
{
	switch (local->role)
	{
		case PGRAFT_HA_ROLE_PRIMARY:
			return HOOK_PRIMARY;
		case PGRAFT_HA_ROLE_DEMOTING:
			return HOOK_DEMOTING;
		case PGRAFT_HA_ROLE_REWIND:
			return HOOK_REWIND;
		case PGRAFT_HA_ROLE_STANDBY:
			/* before the first primary there is nobody to follow */
			return document->primary != 0 ? HOOK_STANDBY : HOOK_NONE;
		default:
			return HOOK_NONE;
	}
}

/* ----------------------------------------------------------------
 * The file
 * ----------------------------------------------------------------
 */

/* Locked; -1 while a command runs, or after a message. */
static int
open_record(HookRecord *record)
{
	char	   *path = pgraft_ha_path("role_change");
	int			fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, pg_file_create_mode);

	if (fd < 0)
	{
		failed_at = pgraft_monotonic_ms();

		/* a server that waits to be added has no such directory yet */
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", path)));
	}
	else if (flock(fd, LOCK_EX | LOCK_NB) != 0)
	{
		close(fd);
		fd = -1;
	}
	else
		read_record(fd, record);
	pfree(path);
	return fd;
}

/* What cannot be read counts as nothing told. */
static void
read_record(int fd, HookRecord *record)
{
	char		line[RECORD_SIZE + 1];
	char		role[16];
	char		state[16];
	unsigned long epoch;
	ssize_t		n = pread(fd, line, RECORD_SIZE, 0);
	size_t		i;

	memset(record, 0, sizeof(*record));
	line[n > 0 ? n : 0] = '\0';
	if (sscanf(line, "pgraft-role 1 role %15s epoch %lu state %15s value %d ms %d",
			   role, &epoch, state, &record->value, &record->ms) != 5)
		return;
	record->epoch = epoch;
	for (i = 0; i < lengthof(role_names); i++)
		if (strcmp(role, role_names[i]) == 0)
			record->role = (int) i;
	for (i = 0; i < lengthof(state_names); i++)
		if (strcmp(state, state_names[i]) == 0)
			record->state = (int) i;
}

/* Also the keeper's: no memory, no message. */
static bool
write_record(int fd, const HookRecord *record)
{
	char		line[RECORD_SIZE + 1];
	int			n;

	n = snprintf(line, sizeof(line), "pgraft-role 1 role %s epoch %lu state %s value %d ms %d",
				 role_names[record->role], (unsigned long) record->epoch,
				 state_names[record->state], record->value, record->ms);
	memset(line + n, ' ', RECORD_SIZE - n);
	line[RECORD_SIZE - 1] = '\n';
	return pwrite(fd, line, RECORD_SIZE, 0) == RECORD_SIZE;
}

static void
log_end(const HookRecord *record)
{
	const char *role = role_names[record->role];

	if (record->state == STATE_BEGUN)
		ereport(LOG,
				(errmsg("outcome of the command of \"pgraft.on_role_change\" for role %s is unknown", role),
				 errdetail("The process that waited for it was killed.")));
	else if (record->state == STATE_KILLED)
		ereport(LOG,
				(errmsg("command of \"pgraft.on_role_change\" for role %s was killed after %d ms",
						role, record->ms),
				 errhint("Its time is limited by \"pgraft.on_role_change_timeout\".")));
	else if (record->value != 0)
		ereport(LOG,
				(errmsg("command of \"pgraft.on_role_change\" for role %s failed with exit code %d after %d ms",
						role, record->value, record->ms)));
	else
		ereport(LOG,
				(errmsg("command of \"pgraft.on_role_change\" for role %s ended well after %d ms",
						role, record->ms)));
}

/* ----------------------------------------------------------------
 * The command
 * ----------------------------------------------------------------
 */

/* The lock goes to the keeper; without a command to run the role is only noted. */
static bool
start_command(int fd, HookRole old_role, HookRecord *record, const PgraftHaDocument *document)
{
	char	   *environment[ENVIRONMENT_MAX];
	sigset_t	all;
	sigset_t	before;
	pid_t		keeper;

	if (pgraft_on_role_change[0] == '\0')
		return write_record(fd, record);
	record->state = STATE_BEGUN;
	if (!write_record(fd, record))
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", "role_change")));
		return false;
	}
	fill_environment(environment, old_role, record, document);
	ereport(LOG,
			(errmsg("pgraft runs the command of \"pgraft.on_role_change\": %s, before %s, epoch %llu",
					role_names[record->role], role_names[old_role],
					(unsigned long long) record->epoch)));

	/* a handler of ours must not run in the child: it would touch shared memory */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	keeper = fork();
	if (keeper == 0)
		keep(fd, *record, environment);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (keeper < 0)
	{
		ereport(LOG,
				(errmsg("could not fork for the command of \"pgraft.on_role_change\": %m")));
		record->role = old_role;
		record->state = STATE_LOGGED;
		(void) write_record(fd, record);
		return false;
	}
	n_keepers++;
	return true;
}

static void
fill_environment(char **environment, HookRole old_role, const HookRecord *record,
				 const PgraftHaDocument *document)
{
	static const char *const kept[] = {
		"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"
	};
	const PgraftHaMember *primary = NULL;
	char		name[RAFT_NAME_SIZE];
	size_t		i;
	int			n = 0;

	for (i = 0; i < lengthof(kept); i++)
		if (getenv(kept[i]) != NULL)
			environment[n++] = psprintf("%s=%s", kept[i], getenv(kept[i]));

	/* until another is chosen, the document names one that has to stop */
	if (document->primary != (uint32) pgraft_node_id || record->role == HOOK_PRIMARY)
		primary = pgraft_ha_find_member(unconstify(PgraftHaDocument *, document), document->primary);
	pgraft_own_name(name);
	environment[n++] = psprintf("PGDATA=%s", DataDir);
	environment[n++] = psprintf("PGRAFT_ROLE=%s", role_names[record->role]);
	environment[n++] = psprintf("PGRAFT_OLD_ROLE=%s",
								old_role != HOOK_NONE ? role_names[old_role] : "");
	environment[n++] = psprintf("PGRAFT_EPOCH=%llu", (unsigned long long) record->epoch);
	environment[n++] = psprintf("PGRAFT_NODE_ID=%d", pgraft_node_id);
	environment[n++] = psprintf("PGRAFT_NAME=%s", name);
	environment[n++] = psprintf("PGRAFT_PRIMARY_HOST=%s", primary != NULL ? primary->host : "");
	environment[n++] = primary != NULL ? psprintf("PGRAFT_PRIMARY_PORT=%u", primary->port) :
		pstrdup("PGRAFT_PRIMARY_PORT=");
	environment[n] = NULL;
}

/*
 * The keeper.  It was forked from a server process and must leave everything of
 * it alone; all signals are blocked when it begins.
 */
static void
keep(int fd, HookRecord record, char *const *environment)
{
	struct rlimit no_core = {0, 0};
	int64		begun = monotonic_ms();
	bool		killed = false;
	sigset_t	child_ended;
	pid_t		command;
	int			status = NOT_STARTED << 8;
	int			i;

	(void) setsid();
	(void) PGSharedMemoryDetach();
	(void) setrlimit(RLIMIT_CORE, &no_core);
	for (i = 1; i < NSIG; i++)
		(void) signal(i, SIG_DFL);
	(void) signal(SIGCHLD, wake_up);	/* not ignored, so that it stays pending */
	sigemptyset(&child_ended);
	sigaddset(&child_ended, SIGCHLD);
	sigprocmask(SIG_SETMASK, &child_ended, NULL);
	if (fd != LOCK_FD)
		(void) dup2(fd, LOCK_FD);
	close_descriptors(LOCK_FD + 1);
	set_ps_display("keeps on_role_change");

	command = fork();
	if (command == 0)
		run_command(environment);
	while (command > 0 && waitpid(command, &status, WNOHANG) == 0)
	{
		int64		left = begun + pgraft_on_role_change_timeout - monotonic_ms();
		struct timespec pause;

		if (left <= 0)
		{
			killed = true;
			(void) kill(-command, SIGKILL);
			(void) kill(command, SIGKILL);
			left = 10;
		}
		pause.tv_sec = left / 1000;
		pause.tv_nsec = (left % 1000) * 1000000;
		(void) sigtimedwait(&child_ended, NULL, &pause);
	}
	record.state = killed ? STATE_KILLED : STATE_EXIT;
	record.value = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	record.ms = (int) Min(monotonic_ms() - begun, PG_INT32_MAX);
	(void) write_record(LOCK_FD, &record);
	_exit(0);
}

static void
run_command(char *const *environment)
{
	sigset_t	none;
	int			nothing = open("/dev/null", O_RDONLY);

	/* a group of its own, for the keeper to kill */
	(void) setsid();
	if (nothing >= 0)
		(void) dup2(nothing, STDIN_FILENO);
	(void) dup2(STDERR_FILENO, STDOUT_FILENO);
	close_descriptors(STDERR_FILENO + 1);
	(void) signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execle("/bin/sh", "sh", "-c", pgraft_on_role_change, (char *) NULL, environment);
	_exit(NOT_STARTED);
}

static void
close_descriptors(int first)
{
	long		n = sysconf(_SC_OPEN_MAX);
	long		fd;

#ifdef CLOSE_RANGE_UNSHARE
	if (close_range((unsigned int) first, ~0U, 0) == 0)
		return;
#endif
	for (fd = first; fd < n; fd++)
		(void) close((int) fd);
}

static int64
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
wake_up(int signal_number)
{
	(void) signal_number;
}
