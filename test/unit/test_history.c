/*-------------------------------------------------------------------------
 *
 * test_history.c
 *	  The history checker accepts what is linearizable and rejects what is not.
 *
 * The directories test/history/good and test/history/bad hold one recorded
 * history each file; PGRAFT_HISTORIES names their parent (default: as seen from
 * the source tree).  Two generated histories show that size is no obstacle.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <dirent.h>

#include "history.h"
#include "tap.h"

#define MANY 10000

static int
judge_directory(const char *parent, const char *name, HistoryVerdict wanted)
{
	char		path[1024];
	DIR		   *directory;
	struct dirent *entry;
	int			n = 0;

	snprintf(path, sizeof(path), "%s/%s", parent, name);
	directory = opendir(path);
	while (directory != NULL && (entry = readdir(directory)) != NULL)
	{
		char		file_path[2048];
		char		line[4096];
		History    *history;
		FILE	   *file;
		char	   *report = NULL;
		const char *wrong = NULL;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(file_path, sizeof(file_path), "%s/%s", path, entry->d_name);
		file = fopen(file_path, "r");
		history = history_new();
		while (file != NULL && wrong == NULL && fgets(line, sizeof(line), file) != NULL)
			wrong = history_add_line(history, line);
		if (file != NULL)
			fclose(file);
		ok(file != NULL && wrong == NULL && history_check(history, &report) == wanted,
		   "%s/%s", name, entry->d_name);
		if (wanted == HISTORY_BAD)
			ok(report != NULL && strstr(report, "line ") != NULL, "the report names lines");
		free(report);
		history_free(history);
		n++;
	}
	if (directory != NULL)
		closedir(directory);
	return n;
}

/* One writer and one reader in turn, half of the writes of unknown outcome. */
static HistoryVerdict
judge_many(int spoil)
{
	History    *history = history_new();
	HistoryOperation operation;
	HistoryVerdict verdict;
	char	   *report;
	char		value[32];
	int			i;

	for (i = 0; i < MANY; i++)
	{
		memset(&operation, 0, sizeof(operation));
		operation.client = "w";
		operation.key = "x";
		operation.start = i * 10;
		operation.end = i % 2 ? HISTORY_UNKNOWN_END : i * 10 + 3;
		snprintf(value, sizeof(value), "%d", i);
		operation.argument = history_value(history, value);
		history_add(history, &operation);
		operation.kind = HISTORY_READ;
		operation.client = "r";
		operation.start = i * 10 + 5;
		operation.end = i * 10 + 6;
		snprintf(value, sizeof(value), "%d", i % 4 == 1 ? i - 1 : i);
		operation.result = history_value(history, value);
		operation.argument = 0;
		if (i == spoil)
			operation.result = history_value(history, "0");
		history_add(history, &operation);
	}
	verdict = history_check(history, &report);
	free(report);
	history_free(history);
	return verdict;
}

/* A read that was 10 behind, and a lost write: only the first can be allowed. */
static HistoryVerdict
judge_stale(long allowance, const char *last)
{
	static const char *const lines[] = {
		"a\t1\t2\twrite\tx\t1\t-\tok", "a\t3\t4\tcas\tx\t2\t1\tok", "b\t14\t15\tread\tx\t-\t-\t1"
	};
	History    *history = history_new();
	HistoryVerdict verdict;
	char	   *report;
	size_t		i;

	for (i = 0; i < lengthof(lines); i++)
		(void) history_add_line(history, lines[i]);
	(void) history_add_line(history, last);
	history_allow_stale_reads(history, allowance);
	verdict = history_check(history, &report);
	free(report);
	history_free(history);
	return verdict;
}

static void
test_refused_lines(void)
{
	static const char *const lines[] = {
		"a\t1\t2\twrite\tx\t1\t-", "a\t1\t2\twrite\tx\t1\t-\tok\tmore", "a\tone\t2\twrite\tx\t1\t-\tok",
		"a\t2\t1\twrite\tx\t1\t-\tok", "a\t1\t2\tpop\tx\t1\t-\tok", "a\t1\t2\tcas\tx\t1\t2\tmaybe",
		"a\t1\t2\tappend\tx\t1\t-\tlast", "a\t1\t2\twrite\tx\t1\t-\tunknown"
	};
	History    *history = history_new();
	size_t		i;

	for (i = 0; i < lengthof(lines); i++)
		ok(history_add_line(history, lines[i]) != NULL, "refused: %s", lines[i]);
	ok(history_add_line(history, "# a comment") == NULL && history_add_line(history, "\n") == NULL &&
	   history_size(history) == 0, "comments and empty lines add nothing");
	history_free(history);
}

int
main(void)
{
	const char *parent = getenv("PGRAFT_HISTORIES");

	if (parent == NULL)
		parent = "test/history";
	ok(judge_directory(parent, "good", HISTORY_GOOD) >= 9, "there are good histories");
	ok(judge_directory(parent, "bad", HISTORY_BAD) >= 14, "there are bad histories");
	ok(judge_many(-1) == HISTORY_GOOD, "%d writes, half of them of unknown outcome", MANY);
	ok(judge_many(MANY - 3) == HISTORY_BAD, "the same with one stale read near the end");
	ok(judge_stale(0, "") == HISTORY_BAD, "a stale read is not linearizable");
	ok(judge_stale(9, "") == HISTORY_BAD, "nor is one that is older than what is allowed");
	ok(judge_stale(10, "") == HISTORY_GOOD, "one that is not older is allowed");
	ok(judge_stale(1000, "a\t16\t17\tcas\tx\t3\t1\tok") == HISTORY_BAD, "a lost write is not, whatever is allowed");
	test_refused_lines();
	return tap_done();
}
