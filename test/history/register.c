/*-------------------------------------------------------------------------
 *
 * register.c
 *	  Is the history of one register linearizable?
 *
 * The search of Wing and Gong ("Testing and Verifying Concurrent Objects",
 * 1993) as Lowe refined it (2017): the earliest operations that may come next
 * are tried in turn; a pair of (set of operations done, value) that was tried
 * before is not tried again.  Sets are remembered as 128-bit sums of random
 * numbers, one an operation.
 *
 * Operations of unknown outcome would make the search exponential, so two
 * facts about values that were written only once are used first.  Such a value
 * that somebody saw was written before he got his answer.  And such a value
 * that nobody saw can be taken for never written, unless a compare-and-set
 * failed, which it might explain.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/history/register.c
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history_internal.h"

#define MAX_TRIED (4UL << 20)	/* bounds memory: 24 bytes each */

typedef struct Event
{
	long		time;
	HistoryOperation *operation;
	size_t		number;			/* of the operation */
	int			is_return;
	struct Event *previous;
	struct Event *next;
	struct Event *match;		/* call <-> return; NULL = never returns */
} Event;

typedef struct Sum
{
	uint64_t	low;
	uint64_t	high;
} Sum;

typedef struct Tried
{
	Sum			done;
	int			value;
	int			used;
} Tried;

typedef struct Step
{
	Event	   *call;
	int			value;			/* before it */
} Step;

typedef struct Search
{
	const History *history;
	Event	   *events;
	size_t		n_events;
	Event		head;
	Sum		   *numbers;
	Tried	   *tried;
	size_t		n_tried;
	size_t		tried_size;
	Step	   *stack;
	size_t		depth;
	size_t		returns_left;
	/* how far it came, for the report */
	size_t		deepest;
	Event	   *stuck;
	int			stuck_value;
} Search;

static size_t settle_unknown(HistoryOperation **operations, size_t n);
static void set_up(Search *search, HistoryOperation **operations, size_t n);
static HistoryVerdict run(Search *search);
static int	apply(const HistoryOperation *operation, int value, int *after);
static int	remember(Search *search, Sum done, int value);
static void lift(Event *call);
static void unlift(Event *call);
static char *explain(const Search *search, HistoryVerdict verdict);

HistoryVerdict
history_check_register(const History *history, HistoryOperation **operations, size_t n,
					   char **report)
{
	Search		search;
	HistoryVerdict verdict;

	n = settle_unknown(operations, n);
	verdict = history_check_chain(history, operations, n, report);
	if (verdict != HISTORY_TOO_HARD)
		return verdict;
	memset(&search, 0, sizeof(search));
	search.history = history;
	set_up(&search, operations, n);
	verdict = run(&search);
	*report = verdict == HISTORY_GOOD ? NULL : explain(&search, verdict);
	free(search.events);
	free(search.numbers);
	free(search.tried);
	free(search.stack);
	return verdict;
}

/* ----------------------------------------------------------------
 * Unknown outcomes
 * ----------------------------------------------------------------
 */

static int
writes_value(const HistoryOperation *operation)
{
	return operation->kind == HISTORY_WRITE || operation->kind == HISTORY_CAS;
}

/*
 * Gives an end to what was seen, drops what cannot matter; returns how many
 * operations are left.
 */
static size_t
settle_unknown(HistoryOperation **operations, size_t n)
{
	int			greatest = 0;
	int			failed_cas = 0;
	int		   *writers;
	long	   *seen;			/* end of the first who saw it; -1 = nobody */
	size_t		kept = 0;
	size_t		i;

	for (i = 0; i < n; i++)
	{
		greatest = operations[i]->argument > greatest ? operations[i]->argument : greatest;
		greatest = operations[i]->expected > greatest ? operations[i]->expected : greatest;
		greatest = operations[i]->result > greatest ? operations[i]->result : greatest;
		failed_cas |= operations[i]->kind == HISTORY_CAS && !operations[i]->result &&
			operations[i]->end != HISTORY_UNKNOWN_END;
	}
	writers = history_allocate(NULL, ((size_t) greatest + 1) * sizeof(int));
	seen = history_allocate(NULL, ((size_t) greatest + 1) * sizeof(long));
	memset(writers, 0, ((size_t) greatest + 1) * sizeof(int));
	memset(seen, -1, ((size_t) greatest + 1) * sizeof(long));
	for (i = 0; i < n; i++)
	{
		const HistoryOperation *operation = operations[i];
		int			value = -1;

		if (writes_value(operation))
			writers[operation->argument]++;
		if (operation->kind == HISTORY_READ)
			value = operation->result;
		else if (operation->kind == HISTORY_CAS && operation->result)
			value = operation->expected;
		if (value >= 0 && operation->end >= 0 &&
			(seen[value] < 0 || operation->end < seen[value]))
			seen[value] = operation->end;
	}
	for (i = 0; i < n; i++)
	{
		HistoryOperation *operation = operations[i];

		if (operation->end == HISTORY_UNKNOWN_END)
		{
			if (operation->kind == HISTORY_READ)
				continue;
			if (writes_value(operation) && writers[operation->argument] == 1)
			{
				if (seen[operation->argument] >= operation->start)
				{
					operation->end = seen[operation->argument];
					operation->result = 1;
				}
				else if (!failed_cas && seen[operation->argument] < 0)
					continue;
			}
		}
		operations[kept++] = operation;
	}
	free(writers);
	free(seen);
	return kept;
}

/* ----------------------------------------------------------------
 * Search
 * ----------------------------------------------------------------
 */

static int
compare_events(const void *a, const void *b)
{
	const Event *left = a;
	const Event *right = b;

	if (left->time != right->time)
		return left->time < right->time ? -1 : 1;

	/* what touches may overlap */
	if (left->is_return != right->is_return)
		return left->is_return - right->is_return;
	return left->number < right->number ? -1 : left->number > right->number;
}

static uint64_t
next_random(uint64_t *state)
{
	uint64_t	z = (*state += 0x9E3779B97F4A7C15UL);

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
	return z ^ (z >> 31);
}

static void
set_up(Search *search, HistoryOperation **operations, size_t n)
{
	Event	  **calls = history_allocate(NULL, n * sizeof(Event *));
	uint64_t	random = 1;
	Event	   *last = &search->head;
	size_t		i;

	search->events = history_allocate(NULL, 2 * n * sizeof(Event));
	search->numbers = history_allocate(NULL, n * sizeof(Sum));
	search->stack = history_allocate(NULL, n * sizeof(Step));
	memset(search->events, 0, 2 * n * sizeof(Event));
	for (i = 0; i < n; i++)
	{
		Event	   *call = &search->events[search->n_events++];

		call->time = operations[i]->start;
		call->operation = operations[i];
		call->number = i;
		search->numbers[i].low = next_random(&random);
		search->numbers[i].high = next_random(&random);
		if (operations[i]->end == HISTORY_UNKNOWN_END)
			continue;
		search->events[search->n_events] = *call;
		search->events[search->n_events].time = operations[i]->end;
		search->events[search->n_events++].is_return = 1;
		search->returns_left++;
	}
	qsort(search->events, search->n_events, sizeof(Event), compare_events);
	for (i = 0; i < search->n_events; i++)
	{
		Event	   *event = &search->events[i];

		event->previous = last;
		last->next = event;
		last = event;
		if (event->is_return)
		{
			event->match = calls[event->number];
			event->match->match = event;
		}
		else
			calls[event->number] = event;
	}
	free(calls);
}

static HistoryVerdict
run(Search *search)
{
	Event	   *event = search->head.next;
	Sum			done = {0, 0};
	int			value = HISTORY_NO_VALUE;

	while (search->returns_left > 0)
	{
		Sum			more = done;
		int			after;

		if (event != NULL && !event->is_return)
		{
			more.low += search->numbers[event->number].low;
			more.high += search->numbers[event->number].high;
			if (!apply(event->operation, value, &after) || !remember(search, more, after))
			{
				event = event->next;
				continue;
			}
			if (search->n_tried >= MAX_TRIED)
				return HISTORY_TOO_HARD;
			search->stack[search->depth].call = event;
			search->stack[search->depth++].value = value;
			lift(event);
			search->returns_left -= event->match != NULL;
			done = more;
			value = after;
			event = search->head.next;
			continue;
		}
		if (search->stuck == NULL || search->depth > search->deepest)
		{
			search->deepest = search->depth;
			search->stuck = event;
			search->stuck_value = value;
		}
		if (search->depth == 0)
			return HISTORY_BAD;
		event = search->stack[--search->depth].call;
		value = search->stack[search->depth].value;
		unlift(event);
		search->returns_left += event->match != NULL;
		done.low -= search->numbers[event->number].low;
		done.high -= search->numbers[event->number].high;
		event = event->next;
	}
	return HISTORY_GOOD;
}

/* Whether a register with that value could have answered so. */
static int
apply(const HistoryOperation *operation, int value, int *after)
{
	*after = value;
	switch (operation->kind)
	{
		case HISTORY_WRITE:
			*after = operation->argument;
			return 1;
		case HISTORY_DELETE:
			*after = HISTORY_NO_VALUE;
			return 1;
		case HISTORY_READ:
			return operation->result == value;
		case HISTORY_CAS:
			if (value == operation->expected)
				*after = operation->argument;
			return operation->end == HISTORY_UNKNOWN_END ||
				(value == operation->expected) == operation->result;
		default:
			return 0;
	}
}

static void
insert_tried(Search *search, Tried entry)
{
	size_t		place = (size_t) (entry.done.low ^ (uint64_t) entry.value * 0x9E3779B97F4A7C15UL) %
		search->tried_size;

	while (search->tried[place].used)
		place = (place + 1) % search->tried_size;
	search->tried[place] = entry;
	search->n_tried++;
}

/* False when it was tried before. */
static int
remember(Search *search, Sum done, int value)
{
	Tried		entry;
	size_t		place;

	if (search->n_tried * 2 >= search->tried_size)
	{
		Tried	   *old = search->tried;
		size_t		old_size = search->tried_size;
		size_t		i;

		search->tried_size = old_size > 0 ? old_size * 2 : 1024;
		search->tried = history_allocate(NULL, search->tried_size * sizeof(Tried));
		memset(search->tried, 0, search->tried_size * sizeof(Tried));
		search->n_tried = 0;
		for (i = 0; i < old_size; i++)
			if (old[i].used)
				insert_tried(search, old[i]);
		free(old);
	}
	place = (size_t) (done.low ^ (uint64_t) value * 0x9E3779B97F4A7C15UL) % search->tried_size;
	for (; search->tried[place].used; place = (place + 1) % search->tried_size)
		if (search->tried[place].value == value &&
			search->tried[place].done.low == done.low &&
			search->tried[place].done.high == done.high)
			return 0;
	entry.done = done;
	entry.value = value;
	entry.used = 1;
	insert_tried(search, entry);
	return 1;
}

static void
take_out(Event *event)
{
	event->previous->next = event->next;
	if (event->next != NULL)
		event->next->previous = event->previous;
}

static void
put_in(Event *event)
{
	event->previous->next = event;
	if (event->next != NULL)
		event->next->previous = event;
}

static void
lift(Event *call)
{
	take_out(call);
	if (call->match != NULL)
		take_out(call->match);
}

/* In the reverse order, so that the links fit again. */
static void
unlift(Event *call)
{
	if (call->match != NULL)
		put_in(call->match);
	put_in(call);
}

/* ----------------------------------------------------------------
 * Report
 * ----------------------------------------------------------------
 */

static char *
explain(const Search *search, HistoryVerdict verdict)
{
	char	   *text = history_allocate(NULL, 16384);
	const HistoryOperation *blamed = search->stuck != NULL ? search->stuck->operation : NULL;
	size_t		used;
	size_t		i;
	int			shown = 0;

	if (verdict == HISTORY_TOO_HARD || blamed == NULL)
	{
		snprintf(text, 16384, "gave up after %zu states\n", search->n_tried);
		return text;
	}
	used = (size_t) snprintf(text, 16384,
							 "no order explains more than %zu operations; the value was then \"%s\", and this has no place:\n",
							 search->deepest, history_text(search->history, search->stuck_value));
	for (i = 0; i < search->n_events && shown < 24; i++)
	{
		const HistoryOperation *operation = search->events[i].operation;
		char	   *line;

		/* whatever overlaps it, or comes shortly before */
		if (search->events[i].is_return || operation->start > blamed->end ||
			(operation->end != HISTORY_UNKNOWN_END && operation->end < blamed->start &&
			 &search->events[i] + 16 < search->stuck))
			continue;
		line = history_describe(search->history, operation);
		used += (size_t) snprintf(text + used, 16384 - used, "%s %s\n",
								  operation == blamed ? "=>" : "  ", line);
		free(line);
		shown++;
		if (used > 15000)
			break;
	}
	return text;
}
