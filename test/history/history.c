/*-------------------------------------------------------------------------
 *
 * history.c
 *	  The list of operations, and reading them from text.
 *
 * Texts are kept once and known by number afterwards.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/history/history.c
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history_internal.h"

#define MAX_LINE 65536
#define N_FIELDS 8

static int	add_text(History *history, const char *text);
static const char *keep_text(History *history, const char *text);
static const char *parse(History *history, char **fields, HistoryOperation *operation);
static int	parse_long(const char *text, long *number);

void *
history_allocate(void *old, size_t size)
{
	void	   *memory = realloc(old, size > 0 ? size : 1);

	if (memory == NULL)
	{
		fprintf(stderr, "out of memory\n");
		exit(2);
	}
	return memory;
}

History *
history_new(void)
{
	History    *history = history_allocate(NULL, sizeof(History));

	memset(history, 0, sizeof(History));
	(void) add_text(history, "-");
	return history;
}

void
history_free(History *history)
{
	size_t		i;

	for (i = 0; i < history->n_texts; i++)
		free(history->texts[i]);
	free(history->texts);
	free(history->buckets);
	free(history->operations);
	free(history);
}

size_t
history_size(const History *history)
{
	return history->n_operations;
}

static size_t
hash_text(const char *text)
{
	size_t		hash = 1469598103934665603UL;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * 1099511628211UL;
	return hash;
}

/* An open hash table of numbers, twice as large as there are texts. */
static int
add_text(History *history, const char *text)
{
	size_t		place;
	size_t		i;

	if (history->n_texts * 2 >= history->n_buckets)
	{
		history->n_buckets = history->n_buckets > 0 ? history->n_buckets * 2 : 1024;
		history->buckets = history_allocate(history->buckets,
											history->n_buckets * sizeof(int));
		memset(history->buckets, -1, history->n_buckets * sizeof(int));
		for (i = 0; i < history->n_texts; i++)
		{
			place = hash_text(history->texts[i]) % history->n_buckets;
			while (history->buckets[place] >= 0)
				place = (place + 1) % history->n_buckets;
			history->buckets[place] = (int) i;
		}
		history->texts = history_allocate(history->texts,
										  history->n_buckets * sizeof(char *));
	}
	place = hash_text(text) % history->n_buckets;
	while (history->buckets[place] >= 0)
	{
		if (strcmp(history->texts[history->buckets[place]], text) == 0)
			return history->buckets[place];
		place = (place + 1) % history->n_buckets;
	}
	history->texts[history->n_texts] = history_allocate(NULL, strlen(text) + 1);
	strcpy(history->texts[history->n_texts], text);
	history->buckets[place] = (int) history->n_texts;
	return (int) history->n_texts++;
}

/* add_text() may move the table, so the place is looked up after it. */
static const char *
keep_text(History *history, const char *text)
{
	int			number = add_text(history, text);

	return history->texts[number];
}

int
history_value(History *history, const char *text)
{
	return add_text(history, text);
}

const char *
history_text(const History *history, int value)
{
	return history->texts[value];
}

void
history_add(History *history, const HistoryOperation *operation)
{
	HistoryOperation *added;

	if (history->n_operations == history->allocated)
	{
		history->allocated = history->allocated > 0 ? history->allocated * 2 : 1024;
		history->operations = history_allocate(history->operations,
											   history->allocated * sizeof(HistoryOperation));
	}
	added = &history->operations[history->n_operations++];
	*added = *operation;
	added->client = keep_text(history, operation->client);
	added->key = keep_text(history, operation->key);
	if (operation->list != NULL)
		added->list = keep_text(history, operation->list);
	if (added->line == 0)
		added->line = (int) history->n_operations;
}

void
history_print(const History *history, FILE *file)
{
	static const char *const kinds[] = {"write", "read", "cas", "delete", "append", "list"};
	size_t		i;

	for (i = 0; i < history->n_operations; i++)
	{
		const HistoryOperation *one = &history->operations[i];

		fprintf(file, "%s\t%ld\t", one->client, one->start);
		if (one->end == HISTORY_UNKNOWN_END)
			fputs("-", file);
		else
			fprintf(file, "%ld", one->end);
		fprintf(file, "\t%s\t%s\t%s\t%s\t", kinds[one->kind], one->key,
				history->texts[one->argument], history->texts[one->expected]);
		if (one->end == HISTORY_UNKNOWN_END)
			fputs("-\n", file);
		else if (one->kind == HISTORY_READ)
			fprintf(file, "%s\n", history->texts[one->result]);
		else if (one->kind == HISTORY_APPEND)
			fprintf(file, "%ld\n", one->position);
		else if (one->kind == HISTORY_LIST)
			fprintf(file, "%s\n", one->list);
		else
			fprintf(file, "%s\n", one->kind == HISTORY_CAS && !one->result ? "no" : "ok");
	}
}

const char *
history_add_line(History *history, const char *line)
{
	char		copy[MAX_LINE];
	char	   *fields[N_FIELDS];
	char	   *p = copy;
	HistoryOperation operation;
	const char *wrong;
	int			n;

	history->line++;
	if (line[0] == '#' || line[strspn(line, " \t\r\n")] == '\0')
		return NULL;
	if (strlen(line) >= sizeof(copy))
		return "line is too long";
	strcpy(copy, line);
	copy[strcspn(copy, "\r\n")] = '\0';
	for (n = 0; n < N_FIELDS; n++)
	{
		fields[n] = p;
		p = strchr(p, '\t');
		if ((p == NULL) != (n == N_FIELDS - 1))
			return "there must be eight fields";
		if (p != NULL)
			*p++ = '\0';
	}
	memset(&operation, 0, sizeof(operation));
	wrong = parse(history, fields, &operation);
	if (wrong == NULL)
		history_add(history, &operation);
	return wrong;
}

static const char *
parse(History *history, char **fields, HistoryOperation *operation)
{
	static const char *const kinds[] = {"write", "read", "cas", "delete", "append", "list"};
	int			kind;

	for (kind = 0; kind < 6; kind++)
		if (strcmp(fields[3], kinds[kind]) == 0)
			break;
	if (kind == 6)
		return "unrecognized operation";
	operation->kind = (HistoryKind) kind;
	operation->line = history->line;
	operation->client = fields[0];
	operation->key = fields[4];
	if (!parse_long(fields[1], &operation->start))
		return "start is not a number";
	if (strcmp(fields[2], "-") == 0)
		operation->end = HISTORY_UNKNOWN_END;
	else if (!parse_long(fields[2], &operation->end))
		return "end is not a number";
	else if (operation->end < operation->start)
		return "end is before start";
	operation->argument = add_text(history, fields[5]);
	operation->expected = add_text(history, fields[6]);
	if (operation->end == HISTORY_UNKNOWN_END)
		return NULL;
	switch (operation->kind)
	{
		case HISTORY_READ:
			operation->result = add_text(history, fields[7]);
			break;
		case HISTORY_CAS:
			if (strcmp(fields[7], "ok") != 0 && strcmp(fields[7], "no") != 0)
				return "result must be ok or no";
			operation->result = strcmp(fields[7], "ok") == 0;
			break;
		case HISTORY_APPEND:
			if (!parse_long(fields[7], &operation->position))
				return "position is not a number";
			break;
		case HISTORY_LIST:
			operation->list = fields[7];
			break;
		case HISTORY_WRITE:
		case HISTORY_DELETE:
			if (strcmp(fields[7], "ok") != 0)
				return "result must be ok";
			break;
	}
	return NULL;
}

static int
parse_long(const char *text, long *number)
{
	char	   *end;

	errno = 0;
	*number = strtol(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *number >= 0;
}
