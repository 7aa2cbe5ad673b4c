/*-------------------------------------------------------------------------
 *
 * sim_main.c
 *	  pgraft_sim: runs seeds, sums up what they exercised, says what failed.
 *
 * Exit status 0: all passed; 1: a violation, a run that is not repeatable, or
 * a statistic that stayed zero; 2: wrong usage.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

#define DEFAULT_SEEDS 200
#define DEFAULT_STEPS 10000
#define ALL_EXERCISED_FROM 200	/* seeds: then no statistic may be zero */

typedef struct MainOptions
{
	SimOptions	run;
	raft_u64	n_seeds;
	raft_u64	first;
	int			one_seed;		/* boolean: only `first`, no list */
	int			verify;
	int			statistics;
	int			stop_at_first;
	int			storage_only;
	int			shrink;			/* boolean: a failing seed is made smaller */
	const char *list;
} MainOptions;

static volatile raft_u64 current_seed;

static void
usage(FILE *to)
{
	fprintf(to,
			"pgraft_sim runs simulated clusters, one for each seed.\n\n"
			"  --seeds N             how many seeds (default %d)\n"
			"  --first S             the first of them (default 1)\n"
			"  --seed X              this one alone\n"
			"  --list FILE           run the seeds in FILE first, one a line, # comments\n"
			"  --steps N             events with faults in each run (default %d)\n"
			"  --storage             only the part of each run that is storage alone\n"
			"  --trace               print every event\n"
			"  --verify-determinism  run each seed twice and compare\n"
			"  --stats               print what was exercised even if something failed\n"
			"  --shrink              find what a failing seed can do without\n"
			"  --history FILE        write what the clients of the last seed saw\n"
			"  --stop                stop at the first failure, print no trace\n"
			"  --help                this text\n",
			DEFAULT_SEEDS, DEFAULT_STEPS);
}

static raft_u64
number(const char *text)
{
	char	   *end;
	raft_u64	value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0')
	{
		fprintf(stderr, "pgraft_sim: not a number: \"%s\"\n", text);
		exit(2);
	}
	return value;
}

static void
parse(int argc, char **argv, MainOptions *options)
{
	static const struct option names[] = {
		{"seeds", required_argument, NULL, 'n'},
		{"first", required_argument, NULL, 'f'},
		{"seed", required_argument, NULL, 's'},
		{"list", required_argument, NULL, 'l'},
		{"steps", required_argument, NULL, 'e'},
		{"storage", no_argument, NULL, 'o'},
		{"trace", no_argument, NULL, 't'},
		{"verify-determinism", no_argument, NULL, 'v'},
		{"stats", no_argument, NULL, 'a'},
		{"stop", no_argument, NULL, 'x'},
		{"shrink", no_argument, NULL, 'k'},
		{"history", required_argument, NULL, 'y'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}
	};
	int			c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1)
	{
		switch (c)
		{
			case 'n':
				options->n_seeds = number(optarg);
				break;
			case 'f':
				options->first = number(optarg);
				break;
			case 's':
				options->first = number(optarg);
				options->n_seeds = 1;
				options->one_seed = 1;
				break;
			case 'l':
				options->list = optarg;
				break;
			case 'e':
				options->run.steps = number(optarg);
				break;
			case 'o':
				options->storage_only = 1;
				break;
			case 't':
				options->run.trace = 1;
				break;
			case 'v':
				options->verify = 1;
				break;
			case 'a':
				options->statistics = 1;
				break;
			case 'x':
				options->stop_at_first = 1;
				options->run.quiet_failure = 1;
				break;
			case 'k':
				options->shrink = 1;
				break;
			case 'y':
				options->run.history = optarg;
				break;
			case 'h':
				usage(stdout);
				exit(0);
			default:
				usage(stderr);
				exit(2);
		}
	}
	if (optind != argc)
	{
		usage(stderr);
		exit(2);
	}
}

/* A crash of the code under test is a failure of a seed: say which. */
static void
on_crash(int signal_number)
{
	char		text[96];
	int			n;

	n = snprintf(text, sizeof(text), "seed %lu crashes with signal %d\n",
				 current_seed, signal_number);
	if (n > 0 && write(STDOUT_FILENO, text, (size_t) n) < 0)
		_exit(3);
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

/* A cluster, then storage alone; the hash covers both. */
static int
run_once(raft_u64 seed, const MainOptions *options, raft_u64 *totals, raft_u64 *hash)
{
	raft_u64	hashes[2] = {0, 0};

	if (!options->storage_only && !sim_run(seed, &options->run, totals, &hashes[0]))
		return 0;
	if (!sim_storage_run(seed, &options->run, totals, &hashes[1]))
		return 0;
	*hash = sim_hash(hashes[0], &hashes[1], sizeof(hashes[1]));
	return 1;
}

/*
 * Does without one thing after the other as long as the seed still fails, then
 * with fewer events, and shows the smallest run that is left.  Each attempt is
 * a run of its own: what is switched off changes what is drawn afterwards, so
 * the failure found in the end may come another way.
 */
static void
shrink(raft_u64 seed, const MainOptions *options)
{
	SimOptions	run = options->run;
	raft_u64	ignored[SIM_N_STATISTICS];
	raft_u64	hash;
	int			i;

	memset(ignored, 0, sizeof(ignored));
	run.silent = 1;
	for (i = 0; i < sim_fault_switches(); i++)
	{
		run.disabled |= 1U << i;
		if (sim_run(seed, &run, ignored, &hash))
			run.disabled &= ~(1U << i);
	}
	while (run.steps > 100)
	{
		run.steps /= 2;
		if (!sim_run(seed, &run, ignored, &hash))
			continue;
		run.steps *= 2;
		break;
	}
	run.silent = 0;
	printf("---- seed %lu with %lu events still fails; it needs:", seed, run.steps);
	for (i = 0; i < sim_fault_switches(); i++)
		if ((run.disabled >> i & 1) == 0)
			printf(" %s;", sim_fault_switch_name(i));
	printf("\n");
	(void) sim_run(seed, &run, ignored, &hash);
}

static int
run_seed(raft_u64 seed, const MainOptions *options, raft_u64 *totals)
{
	raft_u64	first_hash;
	raft_u64	second_hash;
	raft_u64	ignored[SIM_N_STATISTICS];

	current_seed = seed;
	if (!run_once(seed, options, totals, &first_hash))
	{
		if (options->shrink)
			shrink(seed, options);
		return 0;
	}
	if (!options->verify)
		return 1;
	memset(ignored, 0, sizeof(ignored));
	if (!run_once(seed, options, ignored, &second_hash))
		return 0;
	if (first_hash == second_hash)
		return 1;
	printf("seed %lu is not repeatable: %016lx, then %016lx\n", seed, first_hash,
		   second_hash);
	return 0;
}

/* Runs the listed seeds; returns 0 when the file cannot be read. */
static int
run_list(const MainOptions *options, raft_u64 *totals, raft_u64 *passed,
		 raft_u64 *failed)
{
	FILE	   *file = fopen(options->list, "r");
	char		line[256];

	if (file == NULL)
	{
		fprintf(stderr, "pgraft_sim: could not open \"%s\": %s\n", options->list,
				strerror(errno));
		return 0;
	}
	while (fgets(line, sizeof(line), file) != NULL)
	{
		char	   *end;
		raft_u64	seed = strtoul(line, &end, 10);

		if (end == line)
			continue;
		if (run_seed(seed, options, totals))
			(*passed)++;
		else
			(*failed)++;
		if (*failed > 0 && options->stop_at_first)
			break;
	}
	fclose(file);
	return 1;
}

/* Returns how many statistics are zero. */
static int
print_statistics(const raft_u64 *totals)
{
	int			zero = 0;
	int			i;

	for (i = 0; i < SIM_N_STATISTICS; i++)
	{
		printf("%-22s %12lu\n", sim_statistic_names[i], totals[i]);
		zero += totals[i] == 0;
	}
	return zero;
}

int
main(int argc, char **argv)
{
	MainOptions options;
	raft_u64	totals[SIM_N_STATISTICS];
	raft_u64	passed = 0;
	raft_u64	failed = 0;
	raft_u64	i;
	int			zero = 0;

	memset(&options, 0, sizeof(options));
	memset(totals, 0, sizeof(totals));
	options.n_seeds = DEFAULT_SEEDS;
	options.first = 1;
	options.run.steps = DEFAULT_STEPS;
	parse(argc, argv, &options);
	signal(SIGSEGV, on_crash);
	signal(SIGABRT, on_crash);
	signal(SIGFPE, on_crash);
	signal(SIGBUS, on_crash);

	if (options.list != NULL && !options.one_seed &&
		!run_list(&options, totals, &passed, &failed))
		return 2;
	for (i = 0; i < options.n_seeds && (failed == 0 || !options.stop_at_first); i++)
	{
		if (run_seed(options.first + i, &options, totals))
			passed++;
		else
			failed++;
	}
	if (!options.one_seed || options.statistics)
		zero = print_statistics(totals);
	if (zero > 0 && options.n_seeds >= ALL_EXERCISED_FROM &&
		!options.stop_at_first && !options.storage_only)
	{
		printf("%d statistics are zero over %lu seeds: not exercised\n", zero,
			   options.n_seeds);
		failed++;
	}
	printf("%lu passed, %lu failed\n", passed, failed);
	return failed == 0 ? 0 : 1;
}
