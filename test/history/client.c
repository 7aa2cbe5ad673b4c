/*-------------------------------------------------------------------------
 *
 * client.c
 *	  A client of real servers whose history is recorded for check_history.
 *
 *		history_client --output FILE --name NAME [--seed N] [--keys N]
 *					   [--pause MS] CONNINFO...
 *
 * It puts, reads (linearizable), compares and sets, deletes and appends, one
 * operation after the other, at one server as long as that answers and then at
 * the next of the list, until SIGTERM.  Keys are "h0", "h1", ...; values are
 * unique.  Times are microseconds of CLOCK_MONOTONIC, so the files of clients
 * of one machine can be put together.
 *
 * What a server says was certainly not done is not written down; SQLSTATE
 * 40003, the end of the server and a broken connection leave the outcome
 * unknown (history.h describes the file).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/history/client.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "libpq-fe.h"

#define LOG_KEY "log"

typedef enum Outcome
{
	OUTCOME_DONE,
	OUTCOME_UNKNOWN,
	OUTCOME_REFUSED
} Outcome;

typedef struct Client
{
	const char *name;
	FILE	   *output;
	PGconn	   *connection;
	unsigned long random;
	int			n_keys;
	long		number;			/* of the next value */
} Client;

static volatile sig_atomic_t stop_requested = 0;

static void usage(void);
static void one_operation(Client *client);
static void put(Client *client, const char *key);
static void get(Client *client, const char *key);
static void compare_and_set(Client *client, const char *key);
static void remove_key(Client *client, const char *key);
static void append(Client *client);
static Outcome run(Client *client, const char *sql, int n, const char *const *values,
				   PGresult **result);
static void record(Client *client, long start, Outcome outcome, const char *operation,
				   const char *key, const char *argument, const char *expected,
				   const char *answer);

static long
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long) now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static unsigned long
draw(Client *client, unsigned long below)
{
	client->random ^= client->random << 13;
	client->random ^= client->random >> 7;
	client->random ^= client->random << 17;
	return (client->random >> 11) % below;
}

static void
request_stop(int signal_number)
{
	(void) signal_number;
	stop_requested = 1;
}

int
main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"output", required_argument, NULL, 'o'},
		{"name", required_argument, NULL, 'n'},
		{"seed", required_argument, NULL, 's'},
		{"keys", required_argument, NULL, 'k'},
		{"pause", required_argument, NULL, 'p'},
		{NULL, 0, NULL, 0}
	};
	const char *output = NULL;
	Client		client = {.random = 88172645463325252UL, .n_keys = 5};
	long		pause_ms = 0;
	int			server = 0;
	int			option;

	while ((option = getopt_long(argc, argv, "o:n:s:k:p:", long_options, NULL)) != -1)
	{
		switch (option)
		{
			case 'o':
				output = optarg;
				break;
			case 'n':
				client.name = optarg;
				break;
			case 's':
				client.random ^= strtoul(optarg, NULL, 10) * 0x9E3779B97F4A7C15UL;
				break;
			case 'k':
				client.n_keys = atoi(optarg);
				break;
			case 'p':
				pause_ms = atol(optarg);
				break;
			default:
				usage();
		}
	}
	if (output == NULL || client.name == NULL || client.n_keys < 1 || optind == argc)
		usage();
	client.output = fopen(output, "w");
	if (client.output == NULL)
	{
		fprintf(stderr, "could not create \"%s\": %s\n", output, strerror(errno));
		return 1;
	}
	setvbuf(client.output, NULL, _IOLBF, 0);
	signal(SIGTERM, request_stop);
	signal(SIGINT, request_stop);
	signal(SIGPIPE, SIG_IGN);
	while (!stop_requested)
	{
		if (client.connection == NULL)
		{
			client.connection = PQconnectdb(argv[optind + server]);
			server = (server + 1) % (argc - optind);
			if (PQstatus(client.connection) != CONNECTION_OK)
			{
				PQfinish(client.connection);
				client.connection = NULL;
				(void) poll(NULL, 0, 5);
				continue;
			}
		}
		one_operation(&client);
		if (pause_ms > 0)
			(void) poll(NULL, 0, (int) pause_ms);
	}
	PQfinish(client.connection);
	return fclose(client.output) == 0 ? 0 : 1;
}

static void
usage(void)
{
	fprintf(stderr, "usage: history_client --output FILE --name NAME [--seed N] [--keys N] [--pause MS] CONNINFO...\n");
	exit(2);
}

static void
one_operation(Client *client)
{
	char		key[16];
	unsigned long kind = draw(client, 100);

	snprintf(key, sizeof(key), "h%lu", draw(client, (unsigned long) client->n_keys));
	if (kind < 35)
		put(client, key);
	else if (kind < 65)
		get(client, key);
	else if (kind < 85)
		compare_and_set(client, key);
	else if (kind < 90)
		remove_key(client, key);
	else
		append(client);
}

static void
put(Client *client, const char *key)
{
	char		value[64];
	const char *values[2];
	PGresult   *result = NULL;
	long		start = now_us();
	Outcome		outcome;

	snprintf(value, sizeof(value), "%s-%ld", client->name, client->number++);
	values[0] = key;
	values[1] = value;
	outcome = run(client, "SELECT pgraft_kv_put($1, $2)", 2, values, &result);
	record(client, start, outcome, "write", key, value, "-", "ok");
	PQclear(result);
}

static void
get(Client *client, const char *key)
{
	PGresult   *result = NULL;
	long		start = now_us();
	Outcome		outcome = run(client, "SELECT pgraft_kv_get($1)", 1, &key, &result);

	/* a read that was not answered tells nothing */
	if (outcome == OUTCOME_DONE)
		record(client, start, outcome, "read", key, "-", "-",
			   PQgetisnull(result, 0, 0) ? "-" : PQgetvalue(result, 0, 0));
	PQclear(result);
}

/* What is expected comes from this member's own copy, which may be old. */
static void
compare_and_set(Client *client, const char *key)
{
	char		expected[64] = "-";
	char		revision[32] = "0";
	char		value[64];
	const char *values[3];
	PGresult   *result = NULL;
	Outcome		outcome;
	long		start;

	outcome = run(client, "SELECT value, mod_revision FROM pgraft_kv_entry($1, 'local')", 1,
				  &key, &result);
	if (outcome != OUTCOME_DONE)
	{
		PQclear(result);
		return;
	}
	if (PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
	{
		strlcpy(expected, PQgetvalue(result, 0, 0), sizeof(expected));
		strlcpy(revision, PQgetvalue(result, 0, 1), sizeof(revision));
	}
	PQclear(result);
	result = NULL;
	snprintf(value, sizeof(value), "%s-%ld", client->name, client->number++);
	values[0] = key;
	values[1] = revision;
	values[2] = value;
	start = now_us();
	outcome = run(client, "SELECT pgraft_kv_cas($1, $2, $3)", 3, values, &result);
	record(client, start, outcome, "cas", key, value, expected,
		   outcome == OUTCOME_DONE && PQgetisnull(result, 0, 0) ? "no" : "ok");
	PQclear(result);
}

static void
remove_key(Client *client, const char *key)
{
	PGresult   *result = NULL;
	long		start = now_us();
	Outcome		outcome = run(client, "SELECT pgraft_kv_delete($1)", 1, &key, &result);

	record(client, start, outcome, "delete", key, "-", "-", "ok");
	PQclear(result);
}

static void
append(Client *client)
{
	char		value[64];
	const char *values[1];
	PGresult   *result = NULL;
	long		start = now_us();
	Outcome		outcome;

	snprintf(value, sizeof(value), "%s-%ld", client->name, client->number++);
	values[0] = value;
	outcome = run(client, "SELECT pgraft_log_append($1::text)", 1, values, &result);
	record(client, start, outcome, "append", LOG_KEY, value, "-",
		   outcome == OUTCOME_DONE ? PQgetvalue(result, 0, 0) : "-");
	PQclear(result);
}

/* Gives up the connection after anything but an answer. */
static Outcome
run(Client *client, const char *sql, int n, const char *const *values, PGresult **result)
{
	const char *state;
	Outcome		outcome = OUTCOME_REFUSED;

	if (client->connection == NULL)
		return OUTCOME_REFUSED;
	*result = PQexecParams(client->connection, sql, n, NULL, values, NULL, NULL, 0);
	if (PQresultStatus(*result) == PGRES_TUPLES_OK)
		return OUTCOME_DONE;
	state = PQresultErrorField(*result, PG_DIAG_SQLSTATE);
	if (state == NULL || strcmp(state, "40003") == 0 || strcmp(state, "57P01") == 0 ||
		strcmp(state, "57P02") == 0)
		outcome = OUTCOME_UNKNOWN;
	PQfinish(client->connection);
	client->connection = NULL;
	return outcome;
}

static void
record(Client *client, long start, Outcome outcome, const char *operation, const char *key,
	   const char *argument, const char *expected, const char *answer)
{
	if (outcome == OUTCOME_REFUSED)
		return;
	fprintf(client->output, "%s\t%ld\t", client->name, start);
	if (outcome == OUTCOME_UNKNOWN)
		fprintf(client->output, "-\t%s\t%s\t%s\t%s\t-\n", operation, key, argument, expected);
	else
		fprintf(client->output, "%ld\t%s\t%s\t%s\t%s\t%s\n", now_us(), operation, key, argument,
				expected, answer);
}
