/*-------------------------------------------------------------------------
 *
 * torture_client.c
 *	  Clients of the torture test that do more than insert rows.
 *
 *		torture_client --mode registers|two-phase --output FILE --prefix NAME
 *					   [--seed N] [--keys N] [--key-prefix TEXT] [--pause MS]
 *					   [--connect-timeout MS] [--answer-timeout MS] CONNINFO...
 *
 * One statement after the other at one server as long as that answers, then at
 * the next of the list, until SIGTERM.
 *
 * registers: reads rows of the table "registers" (key text, value text) with
 * the keys TEXT0, TEXT1, ..., and compares and sets them, the value expected
 * being the one it read before.  Values are unique, the client's name and a
 * number.  The file is a history (test/history/history.h).  Left out are what a
 * server says it did not do, and compare-and-sets that found another value: they
 * tell less than the reads around them and make the judgement expensive.
 *
 * two-phase: prepares a transaction that inserts two rows (name text, part int)
 * into the table "pairs", commits it as a second step, and does not begin the
 * next one before that step has an answer: committed, or the server knows no
 * such transaction, because an earlier attempt of unknown outcome was carried
 * out.  The file is a record as of bench/writer.c, of the kinds prepare and
 * commit.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/torture/torture_client.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <getopt.h>
#include <signal.h>

#include "patient.h"

typedef enum Outcome
{
	OUTCOME_ACK,
	OUTCOME_UNKNOWN,
	OUTCOME_REFUSED
} Outcome;

typedef struct Client
{
	bool		registers;
	const char *name;
	const char *key_prefix;
	long		n_keys;
	long		pause_ms;
	long		connect_timeout_ms;
	long		answer_timeout_ms;
	FILE	   *output;
	int			n_servers;
	char	  **servers;
	int			server;
	PGconn	   *connection;
	unsigned long random;
	long		number;			/* of the next value or transaction */
	char		pending[128];	/* prepared, not known to be committed */
	char		state[6];		/* SQLSTATE of the last statement */
} Client;

static volatile sig_atomic_t stop_requested = 0;

static void parse_options(int argc, char **argv, Client *client);
static void usage(void);
static bool have_connection(Client *client);
static void give_up(Client *client);
static Outcome run(Client *client, const char *sql, int n, const char *const *values,
				   PGresult **result);
static void use_register(Client *client);
static bool read_register(Client *client, const char *key, char *value, size_t size);
static void compare_and_set(Client *client, const char *key, const char *expected);
static void two_phases(Client *client);
static void record_phase(Client *client, const char *kind, long start, Outcome outcome);

static void
request_stop(int signal_number)
{
	(void) signal_number;
	stop_requested = 1;
}

static unsigned long
draw(Client *client, unsigned long below)
{
	client->random ^= client->random << 13;
	client->random ^= client->random >> 7;
	client->random ^= client->random << 17;
	return (client->random >> 11) % below;
}

int
main(int argc, char **argv)
{
	Client		client;

	parse_options(argc, argv, &client);
	signal(SIGTERM, request_stop);
	signal(SIGINT, request_stop);
	signal(SIGPIPE, SIG_IGN);
	while (!stop_requested)
	{
		if (!have_connection(&client))
			continue;
		if (client.registers)
			use_register(&client);
		else
			two_phases(&client);
		if (client.pause_ms > 0)
			patient_pause(client.pause_ms);
	}
	if (client.connection != NULL)
		PQfinish(client.connection);
	return fclose(client.output) == 0 ? 0 : 1;
}

static void
parse_options(int argc, char **argv, Client *client)
{
	static const struct option long_options[] = {
		{"mode", required_argument, NULL, 'm'},
		{"output", required_argument, NULL, 'o'},
		{"prefix", required_argument, NULL, 'n'},
		{"seed", required_argument, NULL, 's'},
		{"keys", required_argument, NULL, 'k'},
		{"key-prefix", required_argument, NULL, 'x'},
		{"pause", required_argument, NULL, 'p'},
		{"connect-timeout", required_argument, NULL, 'c'},
		{"answer-timeout", required_argument, NULL, 'a'},
		{NULL, 0, NULL, 0}
	};
	const char *mode = "";
	const char *output = NULL;
	int			option;

	memset(client, 0, sizeof(*client));
	client->random = 88172645463325252UL;
	client->n_keys = 3;
	client->key_prefix = "r";
	client->connect_timeout_ms = 200;
	client->answer_timeout_ms = 1000;
	while ((option = getopt_long(argc, argv, "m:o:n:s:k:x:p:c:a:", long_options, NULL)) != -1)
	{
		if (option == 'm')
			mode = optarg;
		else if (option == 'o')
			output = optarg;
		else if (option == 'n')
			client->name = optarg;
		else if (option == 's')
			client->random ^= strtoul(optarg, NULL, 10) * 0x9E3779B97F4A7C15UL;
		else if (option == 'k')
			client->n_keys = atol(optarg);
		else if (option == 'x')
			client->key_prefix = optarg;
		else if (option == 'p')
			client->pause_ms = atol(optarg);
		else if (option == 'c')
			client->connect_timeout_ms = atol(optarg);
		else if (option == 'a')
			client->answer_timeout_ms = atol(optarg);
		else
			usage();
	}
	client->registers = strcmp(mode, "registers") == 0;
	if (!client->registers && strcmp(mode, "two-phase") != 0)
		usage();
	client->servers = argv + optind;
	client->n_servers = argc - optind;
	if (output == NULL || client->name == NULL || client->n_keys < 1 || client->n_servers < 1)
		usage();
	client->output = fopen(output, "w");
	if (client->output == NULL)
	{
		fprintf(stderr, "could not create \"%s\": %s\n", output, strerror(errno));
		exit(1);
	}
	setvbuf(client->output, NULL, _IOLBF, 0);
}

static void
usage(void)
{
	fprintf(stderr, "usage: torture_client --mode registers|two-phase --output FILE --prefix NAME"
			" [--seed N] [--keys N] [--key-prefix TEXT] [--pause MS] [--connect-timeout MS] [--answer-timeout MS]"
			" CONNINFO...\n");
	exit(2);
}

static bool
have_connection(Client *client)
{
	bool		was_silent = false;

	if (client->connection != NULL)
		return true;
	client->connection = patient_connect(client->servers[client->server],
										 client->connect_timeout_ms, &was_silent);
	if (client->connection != NULL)
		return true;
	client->server = (client->server + 1) % client->n_servers;
	patient_pause(10);
	return false;
}

static void
give_up(Client *client)
{
	PQfinish(client->connection);
	client->connection = NULL;
	client->server = (client->server + 1) % client->n_servers;
}

/* Anything but success ends the connection; *result is of a success alone. */
static Outcome
run(Client *client, const char *sql, int n, const char *const *values, PGresult **result)
{
	long		deadline = patient_now_us() + client->answer_timeout_ms * 1000;
	Outcome		outcome = OUTCOME_UNKNOWN;
	const char *state;
	int			sent;

	*result = NULL;
	strlcpy(client->state, "08006", sizeof(client->state));
	sent = n > 0 ?
		PQsendQueryParams(client->connection, sql, n, NULL, values, NULL, NULL, 0) :
		PQsendQuery(client->connection, sql);
	if (sent)
		*result = patient_result(client->connection, deadline, true);
	if (*result != NULL && patient_is_success(*result))
	{
		strlcpy(client->state, "00000", sizeof(client->state));
		return OUTCOME_ACK;
	}
	if (*result != NULL)
	{
		state = PQresultErrorField(*result, PG_DIAG_SQLSTATE);
		if (state != NULL)
			strlcpy(client->state, state, sizeof(client->state));
		if (patient_is_refusal(state))
			outcome = OUTCOME_REFUSED;
		PQclear(*result);
		*result = NULL;
	}
	give_up(client);
	return outcome;
}

/* ----------------------------------------------------------------
 * Registers
 * ----------------------------------------------------------------
 */

static void
use_register(Client *client)
{
	char		key[64];
	char		value[64];

	snprintf(key, sizeof(key), "%s%lu", client->key_prefix,
			 draw(client, (unsigned long) client->n_keys));
	if (read_register(client, key, value, sizeof(value)) && draw(client, 2) == 0)
		compare_and_set(client, key, value);
}

/* A read that was not answered tells nothing. */
static bool
read_register(Client *client, const char *key, char *value, size_t size)
{
	PGresult   *result;
	long		start = patient_now_us();
	bool		found;

	if (run(client, "SELECT value FROM registers WHERE key = $1", 1, &key, &result) != OUTCOME_ACK)
		return false;
	found = PQntuples(result) == 1;
	strlcpy(value, found ? PQgetvalue(result, 0, 0) : "-", size);
	PQclear(result);
	fprintf(client->output, "%s\t%ld\t%ld\tread\t%s\t-\t-\t%s\n", client->name, start,
			patient_now_us(), key, value);
	return found;
}

static void
compare_and_set(Client *client, const char *key, const char *expected)
{
	const char *values[3];
	char		value[64];
	PGresult   *result;
	Outcome		outcome;
	long		start = patient_now_us();

	snprintf(value, sizeof(value), "%s-%ld", client->name, client->number++);
	values[0] = key;
	values[1] = expected;
	values[2] = value;
	outcome = run(client, "UPDATE registers SET value = $3 WHERE key = $1 AND value = $2", 3,
				  values, &result);
	if (outcome == OUTCOME_UNKNOWN)
		fprintf(client->output, "%s\t%ld\t-\tcas\t%s\t%s\t%s\t-\n", client->name, start, key,
				value, expected);
	else if (outcome == OUTCOME_ACK && strcmp(PQcmdTuples(result), "1") == 0)
		fprintf(client->output, "%s\t%ld\t%ld\tcas\t%s\t%s\t%s\tok\n", client->name, start,
				patient_now_us(), key, value, expected);
	PQclear(result);
}

/* ----------------------------------------------------------------
 * Two-phase commit
 * ----------------------------------------------------------------
 */

static void
two_phases(Client *client)
{
	char		sql[512];
	PGresult   *result;
	Outcome		outcome;
	long		start = patient_now_us();

	if (client->pending[0] == '\0')
	{
		snprintf(client->pending, sizeof(client->pending), "%s-%ld", client->name,
				 client->number++);
		snprintf(sql, sizeof(sql), "BEGIN; INSERT INTO pairs VALUES ('%s', 1), ('%s', 2);"
				 " PREPARE TRANSACTION '%s'", client->pending, client->pending, client->pending);
		outcome = run(client, sql, 0, NULL, &result);
		PQclear(result);
		record_phase(client, "prepare", start, outcome);
		if (outcome == OUTCOME_REFUSED)
			client->pending[0] = '\0';
		return;
	}
	snprintf(sql, sizeof(sql), "COMMIT PREPARED '%s'", client->pending);
	outcome = run(client, sql, 0, NULL, &result);
	PQclear(result);
	record_phase(client, "commit", start, outcome);
	if (outcome == OUTCOME_ACK || strcmp(client->state, "42704") == 0)
		client->pending[0] = '\0';
}

static void
record_phase(Client *client, const char *kind, long start, Outcome outcome)
{
	static const char *const outcomes[] = {"ack", "unknown", "refused"};

	fprintf(client->output, "%s %s %s 0 %ld %ld %d %s\n", outcomes[outcome], kind,
			client->pending, start, patient_now_us(), client->server, client->state);
}
