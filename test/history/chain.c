/*-------------------------------------------------------------------------
 *
 * chain.c
 *	  Is the history of one register linearizable, when its values form a chain?
 *
 * If every value was written once, by a compare-and-set that names the value
 * before it (but for the first, a plain write), there is one order of writes
 * only, and nothing has to be searched: each write must find a moment after the
 * one before it, after whoever read the value before it had begun, and before
 * anybody who read its own value had got his answer.  The earliest such moment
 * of each leaves the most room for the next.
 *
 * The search (register.c) is for all other histories; with many clients and many
 * operations it may have to give up.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/history/chain.c
 *
 *-------------------------------------------------------------------------
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history_internal.h"

/* What there is of one value. */
typedef struct Link
{
	const HistoryOperation *writer;
	const HistoryOperation *next;	/* the compare-and-set that expects it */
	long		last_read_start;	/* LONG_MIN = nobody read it */
	long		first_read_end; /* LONG_MAX = nobody */
} Link;

static int	fill_links(Link *links, HistoryOperation **operations, size_t n,
					   const HistoryOperation **first);
static const HistoryOperation *follow(const Link *links, const HistoryOperation *first,
									  size_t n_writers);
static char *describe(const History *history, const char *why,
					  const HistoryOperation *operation);

/* HISTORY_TOO_HARD: it is no chain, somebody else must decide. */
HistoryVerdict
history_check_chain(const History *history, HistoryOperation **operations, size_t n,
					char **report)
{
	Link	   *links = history_allocate(NULL, (history->n_texts + 1) * sizeof(Link));
	const HistoryOperation *first = NULL;
	const HistoryOperation *bad;
	HistoryVerdict verdict = HISTORY_TOO_HARD;
	size_t		n_writers = 0;
	size_t		i;

	for (i = 0; i <= history->n_texts; i++)
	{
		memset(&links[i], 0, sizeof(Link));
		links[i].last_read_start = LONG_MIN;
		links[i].first_read_end = LONG_MAX;
	}
	if (fill_links(links, operations, n, &first))
	{
		for (i = 0; i < n; i++)
			n_writers += operations[i]->kind != HISTORY_READ;
		bad = follow(links, first, n_writers);
		verdict = bad == NULL ? HISTORY_GOOD : HISTORY_BAD;
		*report = bad == NULL ? NULL :
			describe(history, "no moment is left for this write in the only order of writes", bad);
	}
	free(links);
	return verdict;
}

/* Returns whether the values form a chain, from one first write on. */
static int
fill_links(Link *links, HistoryOperation **operations, size_t n,
		   const HistoryOperation **first)
{
	size_t		i;

	for (i = 0; i < n; i++)
	{
		const HistoryOperation *one = operations[i];
		Link	   *link;

		if (one->end == HISTORY_UNKNOWN_END)
			return 0;
		if (one->kind == HISTORY_READ)
		{
			if (one->result == HISTORY_NO_VALUE)
				return 0;
			link = &links[one->result];
			link->last_read_start = one->start > link->last_read_start ? one->start : link->last_read_start;
			link->first_read_end = one->end < link->first_read_end ? one->end : link->first_read_end;
			continue;
		}
		if (links[one->argument].writer != NULL)
			return 0;
		links[one->argument].writer = one;
		if (one->kind == HISTORY_WRITE)
		{
			if (*first != NULL)
				return 0;
			*first = one;
		}
		else if (one->kind != HISTORY_CAS || !one->result || one->expected == HISTORY_NO_VALUE ||
				 links[one->expected].next != NULL)
			return 0;
		else
			links[one->expected].next = one;
	}
	for (i = 0; i < n; i++)
	{
		if (operations[i]->kind == HISTORY_READ && links[operations[i]->result].writer == NULL)
			return 0;
	}
	return *first != NULL;
}

/* Returns the write that has no place, or one that nothing leads to; NULL = none. */
static const HistoryOperation *
follow(const Link *links, const HistoryOperation *first, size_t n_writers)
{
	const HistoryOperation *write = first;
	const HistoryOperation *last = first;
	long		moment = LONG_MIN;

	for (; write != NULL; write = links[write->argument].next)
	{
		const Link *link = &links[write->argument];

		last = write;
		moment = write->start > moment ? write->start : moment;
		if (moment > write->end || moment > link->first_read_end)
			return write;
		if (link->last_read_start > moment)
			moment = link->last_read_start;
		if (n_writers-- == 0)
			return write;		/* a circle */
	}

	/* whoever expected or read a value that was never there */
	return n_writers > 0 ? last : NULL;
}

static char *
describe(const History *history, const char *why, const HistoryOperation *operation)
{
	char	   *line = history_describe(history, operation);
	size_t		length = strlen(line) + strlen(why) + 16;
	char	   *text = history_allocate(NULL, length);

	snprintf(text, length, "%s:\n=> %s\n", why, line);
	free(line);
	return text;
}
