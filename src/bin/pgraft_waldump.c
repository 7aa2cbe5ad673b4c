/*-------------------------------------------------------------------------
 *
 * pgraft_waldump.c
 *	  Prints and verifies the log of a storage directory offline.
 *
 * A front end of pgraft_log_scan(): opens files read-only, takes no lock and
 * changes nothing, so it may be pointed at a directory in use, at a copy or at
 * a damaged one.  Of a log in use the last batch may be seen half written.
 *
 * Exit codes
 *	0	the log is intact (a torn write at its end, which opening would cut,
 *		is no damage)
 *	1	the log, its snapshot or the identity file is damaged
 *	2	wrong usage, or the directory could not be read
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraft_waldump.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <getopt.h>

#include "pgraft/storage.h"
#include "pgraft/version.h"

#define EXIT_INTACT 0
#define EXIT_DAMAGED 1
#define EXIT_TROUBLE 2

#define OPTION_HELP 256			/* no short form that getopt could tell from an error */

typedef struct Options
{
	bool		json;
	bool		payload;
	bool		quiet;			/* no records */
	bool		summary;
	bool		verify;			/* a verdict */
} Options;

static const char *progname;

static void usage(void);
static void try_help(void);
static void print_payload(const struct raft_entry *entry);
static void print_json_string(const char *string);
static int	print_text(void *arg, const PgraftLogRecord *record);
static int	print_json(void *arg, const PgraftLogRecord *record);
static void print_identity(const PgraftIdentity *identity, const Options *options);
static void print_summary(const PgraftStorageStats *stats, const Options *options);
static void print_damage(const PgraftError *error, const Options *options);
static void print_verdict(const char *directory, const PgraftStorageStats *stats,
						  const Options *options);
static int	dump(const char *directory, const Options *options);

static void
usage(void)
{
	printf("%s prints and verifies the log of a pgraft storage directory.\n\n", progname);
	printf("Usage:\n  %s [OPTION]... DIRECTORY\n\n", progname);
	printf("Options:\n");
	printf("  -j, --json      print one JSON object per line\n");
	printf("  -p, --payload   print the payload of entries, in hexadecimal\n");
	printf("  -q, --quiet     do not print records\n");
	printf("  -s, --summary   print identity and totals, too\n");
	printf("  -v, --verify    print nothing but damage and a verdict\n");
	printf("  -V, --version   output version information, then exit\n");
	printf("  -?, --help      show this help, then exit\n");
	printf("\nExit status is 0 if the log is intact, 1 if it is damaged (file, offset and\n"
		   "reason are printed), 2 if the directory cannot be read or an option is wrong.\n");
}

static void
try_help(void)
{
	fprintf(stderr, "Try \"%s --help\" for more information.\n", progname);
}

/* ----------------------------------------------------------------
 * Records
 * ----------------------------------------------------------------
 */
static const char *
entry_type_name(int type)
{
	switch (type)
	{
		case RAFT_ENTRY_NORMAL:
			return "normal";
		case RAFT_ENTRY_EMPTY:
			return "empty";
		case RAFT_ENTRY_CONFIG:
			return "config";
	}
	return "unrecognized";
}

static void
print_payload(const struct raft_entry *entry)
{
	size_t		i;

	for (i = 0; i < entry->length; i++)
		printf("%02x", entry->data[i]);
}

static void
print_json_string(const char *string)
{
	putchar('"');
	for (; *string != '\0'; string++)
	{
		unsigned char c = (unsigned char) *string;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static int
print_text(void *arg, const PgraftLogRecord *record)
{
	const Options *options = arg;

	printf("%s offset: %10lu, batch: %8lu, kind: %s", record->file,
		   record->offset, record->batch, record->kind);
	if (strcmp(record->kind, "entry") == 0)
	{
		printf(", index: %lu, term: %lu, type: %s, length: %zu",
			   record->entry.index, record->entry.term,
			   entry_type_name(record->entry.type), record->entry.length);
		if (options->payload && record->entry.length > 0)
		{
			printf(", payload: ");
			print_payload(&record->entry);
		}
	}
	else if (strcmp(record->kind, "hard_state") == 0)
		printf(", term: %lu, vote: %u, commit: %lu", record->hard_state.term,
			   record->hard_state.vote, record->hard_state.commit);
	else if (strcmp(record->kind, "truncate") == 0)
		printf(", from: %lu", record->index);
	else
		printf(", index: %lu, term: %lu", record->index, record->term);
	printf("\n");
	return 0;
}

static int
print_json(void *arg, const PgraftLogRecord *record)
{
	const Options *options = arg;

	printf("{\"file\":");
	print_json_string(record->file);
	printf(",\"offset\":%lu,\"batch\":%lu,\"kind\":\"%s\"", record->offset,
		   record->batch, record->kind);
	if (strcmp(record->kind, "entry") == 0)
	{
		printf(",\"index\":%lu,\"term\":%lu,\"type\":\"%s\",\"length\":%zu",
			   record->entry.index, record->entry.term,
			   entry_type_name(record->entry.type), record->entry.length);
		if (options->payload)
		{
			printf(",\"payload\":\"");
			print_payload(&record->entry);
			printf("\"");
		}
	}
	else if (strcmp(record->kind, "hard_state") == 0)
		printf(",\"term\":%lu,\"vote\":%u,\"commit\":%lu", record->hard_state.term,
			   record->hard_state.vote, record->hard_state.commit);
	else if (strcmp(record->kind, "truncate") == 0)
		printf(",\"from\":%lu", record->index);
	else
		printf(",\"index\":%lu,\"term\":%lu", record->index, record->term);
	printf("}\n");
	return 0;
}

/* ----------------------------------------------------------------
 * Around them
 * ----------------------------------------------------------------
 */
static void
print_identity(const PgraftIdentity *identity, const Options *options)
{
	if (options->json)
	{
		printf("{\"kind\":\"identity\",\"cluster_id\":");
		print_json_string(identity->cluster_id);
		printf(",\"cluster_uid\":\"%016lx\",\"node_id\":%u,\"incarnation\":%lu,\"member_uid\":\"%016lx\"}\n",
			   identity->cluster_uid, identity->node_id, identity->incarnation,
			   identity->member_uid);
		return;
	}
	printf("Cluster:             %s (%016lx)\n", identity->cluster_id,
		   identity->cluster_uid);
	printf("Node ID:             %u\n", identity->node_id);
	printf("Incarnation:         %lu\n", identity->incarnation);
	printf("Member UID:          %016lx\n", identity->member_uid);
}

static void
print_summary(const PgraftStorageStats *stats, const Options *options)
{
	if (options->json)
	{
		printf("{\"kind\":\"summary\",\"segments\":%lu,\"spare_segments\":%lu,\"batches\":%lu,\"log_bytes\":%lu",
			   stats->segments, stats->spare_segments, stats->batches, stats->log_bytes);
		printf(",\"first_index\":%lu,\"last_index\":%lu,\"snapshot_index\":%lu,\"snapshot_bytes\":%lu,\"torn_bytes\":%lu}\n",
			   stats->first_index, stats->last_index, stats->snapshot_index,
			   stats->snapshot_bytes, stats->torn_bytes);
		return;
	}
	printf("Segments:            %lu in use, %lu spare\n", stats->segments,
		   stats->spare_segments);
	printf("Batches:             %lu\n", stats->batches);
	printf("Bytes of batches:    %lu\n", stats->log_bytes);
	printf("First entry:         %lu\n", stats->first_index);
	printf("Last entry:          %lu\n", stats->last_index);
	printf("Snapshot:            entry %lu, %lu bytes\n", stats->snapshot_index,
		   stats->snapshot_bytes);
	printf("Torn bytes at end:   %lu\n", stats->torn_bytes);
}

static void
print_damage(const PgraftError *error, const Options *options)
{
	if (options->json)
	{
		printf("{\"kind\":\"error\",\"damaged\":%s,\"message\":",
			   error->code == PGRAFT_ERR_CORRUPT ? "true" : "false");
		print_json_string(error->message);
		printf(",\"detail\":");
		print_json_string(error->detail);
		printf("}\n");
	}
	fflush(stdout);
	fprintf(stderr, "%s: error: %s\n", progname, error->message);
	if (error->detail[0] != '\0')
		fprintf(stderr, "%s: detail: %s\n", progname, error->detail);
	if (error->hint[0] != '\0')
		fprintf(stderr, "%s: hint: %s\n", progname, error->hint);
}

/* Of an intact log; one that is damaged has had its error printed. */
static void
print_verdict(const char *directory, const PgraftStorageStats *stats,
			  const Options *options)
{
	if (options->json)
	{
		printf("{\"kind\":\"verdict\",\"intact\":true,\"torn_bytes\":%lu}\n",
			   stats->torn_bytes);
		return;
	}
	printf("%s: log is intact", directory);
	if (stats->torn_tails > 0)
		printf(", but for a torn write of %lu bytes at its end, which opening it cuts",
			   stats->torn_bytes);
	printf("\n");
}

static int
dump(const char *directory, const Options *options)
{
	PgraftIo	io;
	PgraftError error;
	PgraftIdentity identity;
	PgraftStorageStats stats;
	PgraftErrorCode code;
	Options		copy = *options;

	memset(&error, 0, sizeof(error));
	pgraft_io_posix(&io);
	if (options->summary)
	{
		code = pgraft_storage_read_identity(&io, directory, &identity, &error);
		if (code == PGRAFT_OK || code == PGRAFT_ERR_CLONE)
			print_identity(&identity, options);
	}
	code = pgraft_log_scan(&io, directory,
						   options->quiet ? NULL :
						   options->json ? print_json : print_text,
						   &copy, &stats, &error);
	if (options->summary && code == PGRAFT_OK)
		print_summary(&stats, options);
	if (options->verify && code == PGRAFT_OK)
		print_verdict(directory, &stats, options);
	if (code != PGRAFT_OK)
		print_damage(&error, options);
	if (fflush(stdout) != 0 || ferror(stdout))
	{
		fprintf(stderr, "%s: error: could not write to standard output: %m\n", progname);
		return EXIT_TROUBLE;
	}
	if (code == PGRAFT_OK)
		return EXIT_INTACT;
	return code == PGRAFT_ERR_CORRUPT ? EXIT_DAMAGED : EXIT_TROUBLE;
}

int
main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"json", no_argument, NULL, 'j'},
		{"payload", no_argument, NULL, 'p'},
		{"quiet", no_argument, NULL, 'q'},
		{"summary", no_argument, NULL, 's'},
		{"verify", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, OPTION_HELP},
		{NULL, 0, NULL, 0}
	};
	Options		options;
	int			c;

	progname = get_progname(argv[0]);
	memset(&options, 0, sizeof(options));
	if (argc > 1 && strcmp(argv[1], "-?") == 0)
	{
		usage();
		return EXIT_INTACT;
	}
	while ((c = getopt_long(argc, argv, "jpqsvV", long_options, NULL)) != -1)
	{
		switch (c)
		{
			case 'j':
				options.json = true;
				break;
			case 'p':
				options.payload = true;
				break;
			case 'q':
				options.quiet = true;
				break;
			case 's':
				options.summary = true;
				break;
			case 'v':
				options.verify = options.quiet = true;
				break;
			case 'V':
				printf("pgraft_waldump (pgraft) %s\n", PGRAFT_VERSION);
				return EXIT_INTACT;
			case OPTION_HELP:
				usage();
				return EXIT_INTACT;
			default:
				try_help();
				return EXIT_TROUBLE;
		}
	}
	if (optind + 1 != argc)
	{
		fprintf(stderr, optind == argc ? "%s: error: no directory specified\n" :
				"%s: error: too many command-line arguments\n", progname);
		try_help();
		return EXIT_TROUBLE;
	}
	return dump(argv[optind], &options);
}
