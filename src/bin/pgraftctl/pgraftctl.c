/*-------------------------------------------------------------------------
 *
 * pgraftctl.c
 *	  Entry point of pgraftctl: finds the command and runs it.
 *
 * Everything a command does to a running cluster goes through SQL functions of
 * some member; nothing here speaks the members' own protocol.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/pgraftctl.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include "pgraft/version.h"

typedef struct Command
{
	const char *name;
	const char *arguments;
	const char *summary;
	int			(*run) (int argc, char **argv);
} Command;

static const Command commands[] = {
	{"init", "-D DIR", "make the first member of a new cluster", cmd_init},
	{"join", "-D DIR --from CONNINFO", "clone a member, configure it, add it", cmd_join},
	{"tls", "DIR NAME...", "make a trial authority and members' certificates", cmd_tls},
	{"status", "", "members, roles, timelines and lag", cmd_status},
	{"members", "", "members as consensus sees them", cmd_members},
	{"history", "", "who was primary since when, and why", cmd_history},
	{"add", "ID ADDRESS PORT", "add a member that is running", cmd_add},
	{"remove", "ID", "remove a member", cmd_remove},
	{"switchover", "[ID]", "make another server the primary, now or at a given time", cmd_switchover},
	{"failover", "ID", "make a server the primary, without the old one", cmd_failover},
	{"pause", "", "stop everything automatic (maintenance)", cmd_pause},
	{"resume", "", "end a pause", cmd_resume},
	{"rejoin", "-D DIR", "rewind or clone a stopped server so that it can follow", cmd_rejoin},
	{"run", "-D DIR", "supervise a server: start, restart, rejoin", cmd_run},
	{"kv", "get|put|del|ls ...", "read and write keys", cmd_kv},
	{"log", "[FROM [TO]]", "entries of the consensus log", cmd_log},
};

const char *ctl_argv0;

static void
usage(void)
{
	size_t		i;

	printf("pgraftctl administers a pgraft cluster.\n\n");
	printf("Usage:\n  pgraftctl COMMAND [OPTION]... [ARGUMENT]...\n\nCommands:\n");
	for (i = 0; i < lengthof(commands); i++)
		printf("  %-10s %-24s %s\n", commands[i].name, commands[i].arguments,
			   commands[i].summary);
	printf("\nOptions:\n");
	printf("  -V, --version   output version information, then exit\n");
	printf("  -?, --help      show this help, then exit; after a command: help on it\n");
	printf("\nExit status: 0 done, 1 failed, 2 wrong usage, 3 outcome unknown.\n");
}

void
ctl_try_help(const char *command)
{
	pg_log_error_hint("Try \"pgraftctl %s%s--help\" for more information.",
					  command != NULL ? command : "", command != NULL ? " " : "");
}

int
main(int argc, char **argv)
{
	size_t		i;

	pg_logging_init(argv[0]);
	set_pglocale_pgservice(argv[0], PG_TEXTDOMAIN("pgraftctl"));
	ctl_argv0 = argv[0];
	if (argc < 2)
	{
		pg_log_error("no command given");
		ctl_try_help(NULL);
		return CTL_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0)
	{
		usage();
		return CTL_OK;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
	{
		printf("pgraftctl (pgraft) %s\n", PGRAFT_VERSION);
		return CTL_OK;
	}
	for (i = 0; i < lengthof(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	pg_log_error("unrecognized command \"%s\"", argv[1]);
	ctl_try_help(NULL);
	return CTL_USAGE;
}
