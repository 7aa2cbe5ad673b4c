/*-------------------------------------------------------------------------
 *
 * process.c
 *	  Other programs that pgraftctl runs: initdb, pg_ctl, pg_basebackup,
 *	  pg_rewind.
 *
 * Programs are looked for beside pgraftctl itself first, then in PATH.  No
 * shell is involved, so no argument needs quoting.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/process.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pqexpbuffer.h"

static int	run(char *const *argv, PQExpBuffer output);

volatile sig_atomic_t ctl_running_program = 0;
volatile sig_atomic_t ctl_end_requested = 0;

char *
ctl_find_program(const char *name)
{
	char		own[MAXPGPATH];
	char		candidate[MAXPGPATH];
	struct stat status;

	if (find_my_exec(ctl_argv0, own) == 0)
	{
		get_parent_directory(own);
		snprintf(candidate, sizeof(candidate), "%s/%s", own, name);
		if (stat(candidate, &status) == 0)
			return pg_strdup(candidate);
	}
	return pg_strdup(name);
}

int
ctl_run(char *const *argv)
{
	return run(argv, NULL);
}

int
ctl_run_quietly(char *const *argv)
{
	PQExpBuffer output = createPQExpBuffer();
	int			code = run(argv, output);

	if (code != 0)
		fputs(output->data, stderr);
	destroyPQExpBuffer(output);
	return code;
}

/* With output == NULL the program writes to our own terminal. */
static int
run(char *const *argv, PQExpBuffer output)
{
	int			ends[2] = {-1, -1};
	char		buffer[4096];
	int			status;
	ssize_t		n;
	pid_t		child;

	fflush(NULL);
	if (output != NULL && pipe(ends) != 0)
		pg_fatal("could not create pipe: %m");
	child = fork();
	if (child < 0)
		pg_fatal("could not fork: %m");
	if (child == 0)
	{
		if (output != NULL)
		{
			dup2(ends[1], STDOUT_FILENO);
			dup2(ends[1], STDERR_FILENO);
			close(ends[0]);
			close(ends[1]);
		}
		execvp(argv[0], argv);
		fprintf(stderr, "could not execute \"%s\": %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	ctl_running_program = child;
	if (output != NULL)
	{
		close(ends[1]);

		/* a server that pg_ctl starts has its output elsewhere, so this ends */
		while ((n = read(ends[0], buffer, sizeof(buffer))) > 0)
			appendBinaryPQExpBuffer(output, buffer, n);
		close(ends[0]);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			pg_fatal("could not wait for \"%s\": %m", argv[0]);
	ctl_running_program = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

pid_t
ctl_server_pid(const char *data_directory)
{
	char	   *path = psprintf("%s/postmaster.pid", data_directory);
	char	   *contents;
	long		pid = 0;

	if (access(path, F_OK) == 0 && ctl_read_file(path, &contents))
	{
		pid = strtol(contents, NULL, 10);
		pg_free(contents);
	}
	pg_free(path);
	return (pid_t) pid;
}

bool
ctl_server_is_running(const char *data_directory)
{
	pid_t		pid = ctl_server_pid(data_directory);

	return pid > 0 && (kill(pid, 0) == 0 || errno == EPERM);
}

int
ctl_start_server(const char *data_directory, const char *extra_options, int timeout_seconds)
{
	char	   *argv[16];
	int			n = 0;

	argv[n++] = ctl_find_program("pg_ctl");
	argv[n++] = "start";
	argv[n++] = "-w";
	argv[n++] = "-s";
	argv[n++] = psprintf("--timeout=%d", timeout_seconds);
	argv[n++] = "-D";
	argv[n++] = unconstify(char *, data_directory);
	argv[n++] = "-l";
	argv[n++] = psprintf("%s.log", data_directory);
	if (extra_options != NULL)
	{
		argv[n++] = "-o";
		argv[n++] = unconstify(char *, extra_options);
	}
	argv[n] = NULL;
	if (ctl_run(argv) == 0)
		return CTL_OK;
	pg_log_error("could not start the server in \"%s\"", data_directory);
	pg_log_error_hint("Its messages are in \"%s.log\".", data_directory);
	return CTL_FAILED;
}

int
ctl_stop_server(const char *data_directory)
{
	char	   *argv[] = {
		ctl_find_program("pg_ctl"), "stop", "-w",
		"-s", "-m", "fast",
		"-D", unconstify(char *, data_directory), NULL
	};

	if (ctl_run_quietly(argv) == 0)
		return CTL_OK;
	pg_log_error("could not stop the server in \"%s\"", data_directory);
	return CTL_FAILED;
}
