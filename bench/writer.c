/*-------------------------------------------------------------------------
 *
 * writer.c
 *	  A client that writes to a pgraft cluster without pause and keeps a record
 *	  of every answer.  Tests, demo and benchmarks compare the record with what
 *	  the members have afterwards.
 *
 *		writer --output FILE --prefix TEXT [--log-every N] [--pause MS]
 *			   [--seconds N] [--table NAME] [--connect-timeout MS]
 *			   [--answer-timeout MS] [--retry-pause MS] [--avoid MS] [--by-port] CONNINFO...
 *
 * With --table it inserts rows (name text, value bigint) into that table
 * instead of writing to pgraft's own store.
 *
 * It stays with one server as long as that answers, and goes to the next of
 * the list, after --retry-pause (2), when the connection breaks or the server
 * has no leader to offer.  With --avoid, a server that was silent until a
 * timeout is left out for so long, while another one is left to try.
 *
 * It ends at SIGTERM or SIGINT, after the answer to its last statement.
 *
 * Each line of the output file is one statement, written as soon as its answer
 * is known, blank separated:
 *
 *		outcome	ack, unknown (it may or may not have happened), or refused (it
 *				certainly did not happen)
 *		kind	kv, log or sql
 *		name	the key; for log the data
 *		value	the value put; for log the index answered (0 if none)
 *		start	microseconds since 1970 when the statement was sent
 *		end		the same when its outcome was known
 *		server	position in the list of servers, from 0; with --by-port the port of
 *				the one that answered, for a connection string with several hosts
 *		state	SQLSTATE, 00000 for ack, 08006 for a broken connection
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include "lib/patient.h"

/* no answer at all for so long: give up on the connection */
#define ANSWER_TIMEOUT_MS 30000
#define CONNECT_TIMEOUT_MS 2000
#define RETRY_PAUSE_MS 2

typedef struct Options
{
	const char *output;
	const char *prefix;
	long		log_every;		/* each Nth statement appends to the log; 0 = none */
	long		pause_ms;
	long		seconds;		/* 0 = until a signal */
	long		connect_timeout_ms;
	long		answer_timeout_ms;
	long		retry_pause_ms;
	long		avoid_ms;
	const char *table;			/* NULL = pgraft's own store */
	bool		by_port;
	int			n_servers;
	char	  **servers;
	long	   *avoided_until_us;	/* by server */
} Options;

typedef enum Outcome
{
	OUTCOME_ACK,
	OUTCOME_UNKNOWN,
	OUTCOME_REFUSED
} Outcome;

typedef enum Kind
{
	KIND_KV,
	KIND_LOG,
	KIND_SQL
} Kind;

typedef struct Statement
{
	Kind		kind;
	char		name[128];
	char		value[64];
	Outcome		outcome;
	char		state[6];
	long		start_us;
	long		end_us;
} Statement;

static void parse_options(int argc, char **argv, Options *options);
static long parse_number(const char *argument);
static void usage(void);
static void request_stop(int signal_number);
static int	next_server(const Options *options, int server, bool was_silent);
static void run_statement(PGconn *connection, const Options *options, Statement *statement);
static void judge(PGresult *result, Statement *statement);
static void record(int fd, const Statement *statement, int server);

static volatile sig_atomic_t stop_requested = 0;

int
main(int argc, char **argv)
{
	Options		options;
	PGconn	   *connection = NULL;
	int			server = 0;
	int			fd;
	long		number;
	long		end_us;

	parse_options(argc, argv, &options);
	fd = open(options.output, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0)
	{
		fprintf(stderr, "could not open file \"%s\": %s\n", options.output, strerror(errno));
		return 1;
	}
	signal(SIGTERM, request_stop);
	signal(SIGINT, request_stop);
	signal(SIGPIPE, SIG_IGN);

	end_us = options.seconds > 0 ? patient_now_us() + options.seconds * 1000000L : 0;
	for (number = 1; !stop_requested && (end_us == 0 || patient_now_us() < end_us); number++)
	{
		Statement	statement;
		bool		was_silent = false;

		memset(&statement, 0, sizeof(statement));
		if (connection == NULL)
		{
			connection = patient_connect(options.servers[server], options.connect_timeout_ms,
									&was_silent);
			if (connection == NULL)
			{
				server = next_server(&options, server, was_silent);
				/* a refusal costs nothing: do not spin */
				patient_pause(options.retry_pause_ms);
				number--;
				continue;
			}
		}
		statement.kind = options.table != NULL ? KIND_SQL :
			options.log_every > 0 && number % options.log_every == 0 ? KIND_LOG : KIND_KV;
		snprintf(statement.name, sizeof(statement.name), "%s-%ld", options.prefix, number);
		snprintf(statement.value, sizeof(statement.value), "%ld",
				 statement.kind == KIND_LOG ? 0 : number);
		run_statement(connection, &options, &statement);
		record(fd, &statement, options.by_port ? (int) parse_number(PQport(connection)) : server);
		if (statement.outcome != OUTCOME_ACK)
		{
			PQfinish(connection);
			connection = NULL;
			was_silent = statement.end_us - statement.start_us >= options.answer_timeout_ms * 1000;
			server = next_server(&options, server, was_silent);
			patient_pause(options.retry_pause_ms);
		}
		else if (options.pause_ms > 0)
			patient_pause(options.pause_ms);
	}
	if (connection != NULL)
		PQfinish(connection);
	close(fd);
	return 0;
}

static void
parse_options(int argc, char **argv, Options *options)
{
	static const struct option long_options[] = {
		{"output", required_argument, NULL, 'o'},
		{"prefix", required_argument, NULL, 'p'},
		{"log-every", required_argument, NULL, 'l'},
		{"pause", required_argument, NULL, 'w'},
		{"seconds", required_argument, NULL, 's'},
		{"table", required_argument, NULL, 't'},
		{"connect-timeout", required_argument, NULL, 'c'},
		{"answer-timeout", required_argument, NULL, 'a'},
		{"retry-pause", required_argument, NULL, 'r'},
		{"avoid", required_argument, NULL, 'v'},
		{"by-port", no_argument, NULL, 'b'},
		{NULL, 0, NULL, 0}
	};
	int			option;

	memset(options, 0, sizeof(*options));
	options->connect_timeout_ms = CONNECT_TIMEOUT_MS;
	options->answer_timeout_ms = ANSWER_TIMEOUT_MS;
	options->retry_pause_ms = RETRY_PAUSE_MS;
	while ((option = getopt_long(argc, argv, "o:p:l:w:s:t:c:a:r:v:b", long_options, NULL)) != -1)
	{
		switch (option)
		{
			case 'o':
				options->output = optarg;
				break;
			case 'p':
				options->prefix = optarg;
				break;
			case 'l':
				options->log_every = parse_number(optarg);
				break;
			case 'w':
				options->pause_ms = parse_number(optarg);
				break;
			case 's':
				options->seconds = parse_number(optarg);
				break;
			case 't':
				options->table = optarg;
				break;
			case 'c':
				options->connect_timeout_ms = parse_number(optarg);
				break;
			case 'a':
				options->answer_timeout_ms = parse_number(optarg);
				break;
			case 'r':
				options->retry_pause_ms = parse_number(optarg);
				break;
			case 'v':
				options->avoid_ms = parse_number(optarg);
				break;
			case 'b':
				options->by_port = true;
				break;
			default:
				usage();
		}
	}
	options->n_servers = argc - optind;
	options->servers = argv + optind;
	if (options->output == NULL || options->prefix == NULL || options->n_servers < 1)
		usage();
	options->avoided_until_us = calloc((size_t) options->n_servers, sizeof(long));
	if (options->avoided_until_us == NULL)
	{
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
}

static long
parse_number(const char *argument)
{
	char	   *end;
	long		number;

	errno = 0;
	number = strtol(argument, &end, 10);
	if (errno != 0 || *end != '\0' || number < 0 || number > INT_MAX)
		usage();
	return number;
}

static void
usage(void)
{
	fprintf(stderr, "usage: writer --output FILE --prefix TEXT [--log-every N] [--pause MS] [--seconds N]"
			" [--table NAME] [--connect-timeout MS] [--answer-timeout MS] [--retry-pause MS]"
			" [--avoid MS] [--by-port] CONNINFO...\n");
	exit(2);
}

static void
request_stop(int signal_number)
{
	(void) signal_number;
	stop_requested = 1;
}

/* Which one to try after that one has failed. */
static int
next_server(const Options *options, int server, bool was_silent)
{
	long		now = patient_now_us();
	int			i;

	if (was_silent)
		options->avoided_until_us[server] = now + options->avoid_ms * 1000;
	for (i = 1; i < options->n_servers; i++)
		if (options->avoided_until_us[(server + i) % options->n_servers] <= now)
			return (server + i) % options->n_servers;
	return was_silent ? (server + 1) % options->n_servers : server;
}

static void
run_statement(PGconn *connection, const Options *options, Statement *statement)
{
	const char *values[2];
	char		insert[256];
	PGresult   *result;
	int			sent;

	/* unless an answer says otherwise */
	statement->outcome = OUTCOME_UNKNOWN;
	snprintf(statement->state, sizeof(statement->state), "08006");

	values[0] = statement->name;
	values[1] = statement->value;
	statement->start_us = patient_now_us();
	if (statement->kind == KIND_SQL)
	{
		snprintf(insert, sizeof(insert), "INSERT INTO %s (name, value) VALUES ($1, $2)",
				 options->table);
		sent = PQsendQueryParams(connection, insert, 2, NULL, values, NULL, NULL, 0);
	}
	else if (statement->kind == KIND_LOG)
		sent = PQsendQueryParams(connection, "SELECT pgraft_log_append($1::text)",
								 1, NULL, values, NULL, NULL, 0);
	else
		sent = PQsendQueryParams(connection, "SELECT pgraft_kv_put($1, $2)",
								 2, NULL, values, NULL, NULL, 0);
	if (sent)
	{
		result = patient_result(connection,
								 statement->start_us + options->answer_timeout_ms * 1000,
								 statement->kind == KIND_SQL);
		if (result != NULL)
		{
			judge(result, statement);
			PQclear(result);
		}
	}
	statement->end_us = patient_now_us();
}

static void
judge(PGresult *result, Statement *statement)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (patient_is_success(result))
	{
		statement->outcome = OUTCOME_ACK;
		snprintf(statement->state, sizeof(statement->state), "00000");
		if (statement->kind == KIND_LOG)
			snprintf(statement->value, sizeof(statement->value), "%s",
					 PQgetvalue(result, 0, 0));
		return;
	}
	if (state == NULL)
		return;

	snprintf(statement->state, sizeof(statement->state), "%s", state);
	if (patient_is_refusal(state))
		statement->outcome = OUTCOME_REFUSED;
}

static void
record(int fd, const Statement *statement, int server)
{
	static const char *const outcomes[] = {"ack", "unknown", "refused"};
	static const char *const kinds[] = {"kv", "log", "sql"};
	char		line[512];
	int			length;

	length = snprintf(line, sizeof(line), "%s %s %s %s %ld %ld %d %s\n",
					  outcomes[statement->outcome], kinds[statement->kind],
					  statement->name, statement->value,
					  statement->start_us, statement->end_us, server, statement->state);
	if (write(fd, line, (size_t) length) != length)
	{
		fprintf(stderr, "could not write the record: %s\n", strerror(errno));
		exit(1);
	}
}
