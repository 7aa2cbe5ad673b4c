/*-------------------------------------------------------------------------
 *
 * check_history.c
 *	  Judges files of recorded histories (format: history.h).
 *
 *		check_history [--quiet] [--stale-reads US] FILE...
 *
 * With --stale-reads a read may show what was true so many microseconds before
 * it was sent, as a server may answer that was deposed and whose lease runs;
 * writes must be linearizable all the same.  Stale reads are listed with their
 * lengths.
 *
 * Exit status: 0 all are linearizable, 1 one is not, 2 one cannot be read or
 * was too hard to decide.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/history/check_history.c
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"

#define MAX_LINE 65536

/* NULL after a message. */
static History *
read_file(const char *path)
{
	static char line[MAX_LINE];
	FILE	   *file = fopen(path, "r");
	History    *history;
	const char *wrong = NULL;
	int			number = 0;

	if (file == NULL)
	{
		fprintf(stderr, "could not open file \"%s\": %s\n", path, strerror(errno));
		return NULL;
	}
	history = history_new();
	while (wrong == NULL && fgets(line, sizeof(line), file) != NULL)
	{
		number++;
		wrong = history_add_line(history, line);
	}
	fclose(file);
	if (wrong == NULL)
		return history;
	fprintf(stderr, "%s:%d: %s\n", path, number, wrong);
	history_free(history);
	return NULL;
}

/* Judges one file; 0, 1 or 2 as the exit status. */
static int
judge_file(const char *path, int quiet, long stale_allowance)
{
	static const char *const words[] = {"linearizable", "NOT LINEARIZABLE", "not decided"};
	History    *history = read_file(path);
	HistoryVerdict verdict;
	char	   *report;
	int			code;

	if (history == NULL)
		return 2;
	history_allow_stale_reads(history, stale_allowance);
	verdict = history_check(history, &report);
	code = verdict == HISTORY_GOOD ? 0 : verdict == HISTORY_BAD ? 1 : 2;
	if (code != 0 || !quiet)
		printf("%s: %zu operations, %s\n", path, history_size(history), words[verdict]);
	if (report != NULL)
		fputs(report, stdout);
	if (stale_allowance > 0)
		history_print_stale_reads(history, stdout);
	free(report);
	history_free(history);
	return code;
}

int
main(int argc, char **argv)
{
	int			quiet = 0;
	long		stale_allowance = 0;
	int			status = 0;
	int			i = 1;

	for (; i < argc && argv[i][0] == '-'; i++)
	{
		if (strcmp(argv[i], "--quiet") == 0)
			quiet = 1;
		else if (strcmp(argv[i], "--stale-reads") == 0 && i + 1 < argc)
			stale_allowance = atol(argv[++i]);
		else
			break;
	}
	if (i == argc || argv[i][0] == '-')
	{
		fprintf(stderr, "usage: check_history [--quiet] [--stale-reads US] FILE...\n");
		return 2;
	}
	for (; i < argc; i++)
	{
		int			code = judge_file(argv[i], quiet, stale_allowance);

		status = code > status ? code : status;
	}
	return status;
}
