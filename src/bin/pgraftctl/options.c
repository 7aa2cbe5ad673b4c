/*-------------------------------------------------------------------------
 *
 * options.c
 *	  Options that several commands of pgraftctl have.
 *
 * One table: a command names by letter those that it takes, and gets exactly
 * these in its help.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/options.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <getopt.h>
#include <unistd.h>

#include "common/string.h"

typedef struct OptionText
{
	char		letter;			/* by which commands name it */
	bool		is_short;		/* can be given by that letter */
	const char *name;
	const char *argument;		/* NULL = none */
	const char *text;
} OptionText;

/* Letters without a short form only name their option in a command's list. */
static const OptionText table[] = {
	{'d', true, "dbname", "CONNINFO", "connection string of a member"},
	{'h', true, "host", "HOST", "host of a member"},
	{'p', true, "pg-port", "PORT", "port of PostgreSQL (default 5432)"},
	{'U', true, "username", "NAME", "role to connect as; superuser that init makes"},
	{'D', true, "pgdata", "DIR", "data directory"},
	{'i', true, "node-id", "ID", "number of the member, unique in the cluster"},
	{'n', true, "name", "NAME", "its name (default \"node\" and the number)"},
	{'a', true, "address", "ADDRESS", "where other members reach it (default 127.0.0.1)"},
	{'P', true, "port", "PORT", "port of the members' protocol (default 7001)"},
	{'A', false, "pg-address", "ADDRESS", "where clients reach PostgreSQL (default: --address)"},
	{'k', true, "socket-directory", "DIR", "where PostgreSQL's socket lies (default: as built)"},
	{'c', true, "cluster-id", "NAME", "name of the cluster (default pgraft)"},
	{'T', false, "certificates", "DIR", "directory made by \"pgraftctl tls\""},
	{'f', true, "from", "CONNINFO", "connection string of a running member"},
	{'r', true, "role", "ROLE", "voter, learner or witness (default voter)"},
	{'S', false, "no-start", NULL, "do not start the server"},
	{'L', false, "allow-data-loss", NULL, "accept that acknowledged transactions are lost"},
	{'W', false, "at", "TIME", "not now but then, for example '2030-01-31 23:00'"},
	{'X', false, "cancel", NULL, "cancel what was scheduled"},
	{'t', true, "timeout", "SECONDS", "how long to wait (default 60)"},
	{'w', true, "watch", "SECONDS", "show it again every so many seconds"},
	{'j', true, "json", NULL, "print JSON"},
	{'y', true, "yes", NULL, "do not ask"},
};

static void show_help(const char *command, const char *allowed);
static bool take(CtlOptions *options, char letter, const char *value);
static bool take_number(const char *name, const char *value, int minimum, int maximum,
						int *number);

int
ctl_parse(int argc, char **argv, const char *allowed, CtlOptions *options)
{
	struct option long_options[lengthof(table) + 2];
	char		letters[lengthof(table) * 2 + 4];
	char	   *p = letters;
	size_t		n = 0;
	size_t		i;
	int			c;

	memset(options, 0, sizeof(*options));
	memset(long_options, 0, sizeof(long_options));
	options->address = "127.0.0.1";
	options->consensus_port = 7001;
	options->postgres_port = 5432;
	options->cluster_id = "pgraft";
	options->role = "voter";
	options->timeout_seconds = 60;
	for (i = 0; i < lengthof(table); i++)
	{
		if (strchr(allowed, table[i].letter) == NULL)
			continue;
		long_options[n].name = table[i].name;
		long_options[n].has_arg = table[i].argument != NULL ? required_argument : no_argument;
		long_options[n].val = table[i].letter;
		n++;
		if (!table[i].is_short)
			continue;
		*p++ = table[i].letter;
		if (table[i].argument != NULL)
			*p++ = ':';
	}
	long_options[n].name = "help";
	long_options[n].val = '?';
	*p = '\0';

	optind = 1;
	opterr = 0;
	while ((c = getopt_long(argc, argv, letters, long_options, NULL)) != -1)
	{
		if (c == '?' && (optopt == 0 || optopt == '?') &&
			(strcmp(argv[optind - 1], "--help") == 0 || strcmp(argv[optind - 1], "-?") == 0))
		{
			show_help(argv[0], allowed);
			exit(CTL_OK);
		}
		if (c == '?')
		{
			pg_log_error("unrecognized option or missing argument: \"%s\"", argv[optind - 1]);
			ctl_try_help(argv[0]);
			return -1;
		}
		if (!take(options, (char) c, optarg))
		{
			ctl_try_help(argv[0]);
			return -1;
		}
	}
	return optind;
}

static void
show_help(const char *command, const char *allowed)
{
	size_t		i;

	printf("Usage:\n  pgraftctl %s [OPTION]... [ARGUMENT]...\n\nOptions:\n", command);
	for (i = 0; i < lengthof(table); i++)
	{
		char		left[64];

		if (strchr(allowed, table[i].letter) == NULL)
			continue;
		if (table[i].is_short)
			snprintf(left, sizeof(left), "-%c, --%s%s%s", table[i].letter, table[i].name,
					 table[i].argument != NULL ? "=" : "",
					 table[i].argument != NULL ? table[i].argument : "");
		else
			snprintf(left, sizeof(left), "    --%s%s%s", table[i].name,
					 table[i].argument != NULL ? "=" : "",
					 table[i].argument != NULL ? table[i].argument : "");
		printf("  %-26s %s\n", left, table[i].text);
	}
	printf("  %-26s %s\n", "-?, --help", "show this help, then exit");
}

static bool
take(CtlOptions *options, char letter, const char *value)
{
	int			number = 0;

	switch (letter)
	{
		case 'd':
			options->conninfo = value;
			return true;
		case 'h':
			options->host = value;
			return true;
		case 'p':
			options->port = value;
			return take_number("pg-port", value, 1, 65535, &options->postgres_port);
		case 'U':
			options->user = value;
			return true;
		case 'D':
			options->data_directory = ctl_absolute_path(value);
			return true;
		case 'i':
			return take_number("node-id", value, 1, PG_INT32_MAX, &options->node_id);
		case 'n':
			options->name = value;
			return true;
		case 'a':
			options->address = value;
			return true;
		case 'P':
			return take_number("port", value, 1, 65535, &options->consensus_port);
		case 'A':
			options->postgres_address = value;
			return true;
		case 'k':
			options->socket_directory = ctl_absolute_path(value);
			return true;
		case 'c':
			options->cluster_id = value;
			return true;
		case 'T':
			options->certificates = ctl_absolute_path(value);
			return true;
		case 'f':
			options->from = value;
			return true;
		case 'r':
			options->role = value;
			return true;
		case 'S':
			options->no_start = true;
			return true;
		case 'L':
			options->allow_data_loss = true;
			return true;
		case 'W':
			options->at = value;
			return true;
		case 'X':
			options->cancel = true;
			return true;
		case 't':
			return take_number("timeout", value, 1, 86400, &options->timeout_seconds);
		case 'w':
			if (!take_number("watch", value, 1, 86400, &number))
				return false;
			options->watch_seconds = number;
			return true;
		case 'j':
			options->json = true;
			return true;
		case 'y':
			options->yes = true;
			return true;
	}
	return false;
}

static bool
take_number(const char *name, const char *value, int minimum, int maximum, int *number)
{
	char	   *end;
	long		parsed;

	errno = 0;
	parsed = strtol(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || parsed < minimum || parsed > maximum)
	{
		pg_log_error("invalid value for option \"--%s\": \"%s\"", name, value);
		pg_log_error_hint("It is a number from %d to %d.", minimum, maximum);
		return false;
	}
	*number = (int) parsed;
	return true;
}

bool
ctl_confirm(const CtlOptions *options, const char *question)
{
	char	   *answer;
	bool		yes;

	if (options->yes)
		return true;
	if (!isatty(fileno(stdin)))
	{
		pg_log_error("%s", question);
		pg_log_error_hint("Give --yes if that is what you want.");
		return false;
	}
	answer = simple_prompt(psprintf("%s [y/N] ", question), true);
	yes = answer[0] == 'y' || answer[0] == 'Y';
	free(answer);
	return yes;
}
