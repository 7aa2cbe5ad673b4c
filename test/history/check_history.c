/*-------------------------------------------------------------------------
 *
 * check_history.c
 *	  Judges files of recorded histories (format: history.h).
 *
 *		check_history [--quiet] FILE...
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

int
main(int argc, char **argv)
{
	int			quiet = argc > 1 && strcmp(argv[1], "--quiet") == 0;
	int			status = 0;
	int			i;

	if (argc < 2 + quiet)
	{
		fprintf(stderr, "usage: check_history [--quiet] FILE...\n");
		return 2;
	}
	for (i = 1 + quiet; i < argc; i++)
	{
		static const char *const words[] = {"linearizable", "NOT LINEARIZABLE", "not decided"};
		History    *history = read_file(argv[i]);
		HistoryVerdict verdict;
		char	   *report;
		int			code;

		if (history == NULL)
			return 2;
		verdict = history_check(history, &report);
		code = verdict == HISTORY_GOOD ? 0 : verdict == HISTORY_BAD ? 1 : 2;
		if (code != 0 || !quiet)
			printf("%s: %zu operations, %s\n", argv[i], history_size(history), words[verdict]);
		if (report != NULL)
			fputs(report, stdout);
		free(report);
		history_free(history);
		status = code > status ? code : status;
	}
	return status;
}
