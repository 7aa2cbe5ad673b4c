/*-------------------------------------------------------------------------
 *
 * check.c
 *	  Judges a history key by key, and lists with it.
 *
 * Keys are independent registers, so each is searched alone.  A list that only
 * grows needs no search: where every value ended up is known from the answers.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/history/check.c
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history_internal.h"

static int	compare_operations(const void *a, const void *b);
static HistoryVerdict check_register(const History *history, HistoryOperation **operations,
									 size_t n, char **report);
static int	is_list_operation(const HistoryOperation *operation);
static HistoryVerdict check_positions(const History *history, HistoryOperation **operations,
									  size_t n, char **report);
static HistoryVerdict check_reads(const History *history, HistoryOperation **operations,
								  size_t n, char **report);
static size_t place_in_list(const char *list, const char *value);
static HistoryVerdict bad(const History *history, char **report, const char *why,
						  const HistoryOperation *first, const HistoryOperation *second);

HistoryVerdict
history_check(History *history, char **report)
{
	HistoryOperation **sorted = history_allocate(NULL,
												 history->n_operations * sizeof(HistoryOperation *));
	HistoryVerdict worst = HISTORY_GOOD;
	size_t		first = 0;
	size_t		i;

	*report = NULL;
	for (i = 0; i < history->n_operations; i++)
		sorted[i] = &history->operations[i];
	qsort(sorted, history->n_operations, sizeof(HistoryOperation *), compare_operations);
	while (first < history->n_operations && worst == HISTORY_GOOD)
	{
		size_t		end = first + 1;
		char	   *why = NULL;

		/* equal texts are one text here */
		while (end < history->n_operations && sorted[end]->key == sorted[first]->key &&
			   is_list_operation(sorted[end]) == is_list_operation(sorted[first]))
			end++;
		worst = is_list_operation(sorted[first]) ?
			history_check_list(history, sorted + first, end - first, &why) :
			check_register(history, sorted + first, end - first, &why);
		if (worst != HISTORY_GOOD)
		{
			size_t		length = strlen(sorted[first]->key) + strlen(why) + 64;

			*report = history_allocate(NULL, length);
			snprintf(*report, length, "key \"%s\": %s", sorted[first]->key, why);
			free(why);
		}
		first = end;
	}
	free(sorted);
	return worst;
}

/* Strictly first: what needs no allowance is decided fast. */
static HistoryVerdict
check_register(const History *history, HistoryOperation **operations, size_t n, char **report)
{
	HistoryOperation *moved;
	HistoryOperation **again;
	HistoryVerdict verdict;
	size_t		i;

	if (history->stale_allowance <= 0)
		return history_check_register(history, operations, n, report);
	moved = history_allocate(NULL, n * sizeof(HistoryOperation));
	again = history_allocate(NULL, n * sizeof(HistoryOperation *));
	for (i = 0; i < n; i++)
	{
		moved[i] = *operations[i];
		again[i] = &moved[i];
		if (moved[i].end != HISTORY_UNKNOWN_END &&
			(moved[i].kind == HISTORY_READ || (moved[i].kind == HISTORY_CAS && !moved[i].result)))
			moved[i].start -= history->stale_allowance;
	}
	verdict = history_check_register(history, operations, n, report);
	if (verdict == HISTORY_BAD)
	{
		free(*report);
		verdict = history_check_register(history, again, n, report);
	}
	free(moved);
	free(again);
	return verdict;
}

static int
is_list_operation(const HistoryOperation *operation)
{
	return operation->kind == HISTORY_APPEND || operation->kind == HISTORY_LIST;
}

/* By key, kind of key, start. */
static int
compare_operations(const void *a, const void *b)
{
	const HistoryOperation *left = *(HistoryOperation *const *) a;
	const HistoryOperation *right = *(HistoryOperation *const *) b;
	int			order = strcmp(left->key, right->key);

	if (order == 0)
		order = is_list_operation(left) - is_list_operation(right);
	if (order == 0 && left->start != right->start)
		order = left->start < right->start ? -1 : 1;
	return order != 0 ? order : left->line - right->line;
}

HistoryVerdict
history_check_list(const History *history, HistoryOperation **operations, size_t n, char **report)
{
	HistoryVerdict verdict = check_positions(history, operations, n, report);

	return verdict == HISTORY_GOOD ? check_reads(history, operations, n, report) : verdict;
}

static int
compare_ends(const void *a, const void *b)
{
	const HistoryOperation *left = *(HistoryOperation *const *) a;
	const HistoryOperation *right = *(HistoryOperation *const *) b;

	return left->end < right->end ? -1 : left->end > right->end;
}

static int
compare_positions(const void *a, const void *b)
{
	const HistoryOperation *left = *(HistoryOperation *const *) a;
	const HistoryOperation *right = *(HistoryOperation *const *) b;

	return left->position < right->position ? -1 : left->position > right->position;
}

/* Positions are unique, and follow the order in which appends came one after the other. */
static HistoryVerdict
check_positions(const History *history, HistoryOperation **operations, size_t n, char **report)
{
	HistoryOperation **by_end = history_allocate(NULL, n * sizeof(HistoryOperation *));
	const HistoryOperation *highest = NULL;
	HistoryVerdict verdict = HISTORY_GOOD;
	size_t		n_ended = 0;
	size_t		ended = 0;
	size_t		i;

	for (i = 0; i < n; i++)
		if (operations[i]->kind == HISTORY_APPEND &&
			operations[i]->end != HISTORY_UNKNOWN_END)
			by_end[n_ended++] = operations[i];
	qsort(by_end, n_ended, sizeof(HistoryOperation *), compare_positions);
	for (i = 1; i < n_ended && verdict == HISTORY_GOOD; i++)
		if (by_end[i]->position == by_end[i - 1]->position)
			verdict = bad(history, report, "two values have one position",
						  by_end[i - 1], by_end[i]);
	qsort(by_end, n_ended, sizeof(HistoryOperation *), compare_ends);
	for (i = 0; i < n && verdict == HISTORY_GOOD; i++)
	{
		if (operations[i]->kind != HISTORY_APPEND || operations[i]->end == HISTORY_UNKNOWN_END)
			continue;
		for (; ended < n_ended && by_end[ended]->end < operations[i]->start; ended++)
			if (highest == NULL || by_end[ended]->position > highest->position)
				highest = by_end[ended];
		if (highest != NULL && highest->position > operations[i]->position)
			verdict = bad(history, report, "a later append has the smaller position",
						  highest, operations[i]);
	}
	free(by_end);
	return verdict;
}

/*
 * Every list read begins the longest one; it has what was appended before it
 * and nothing that was appended after it; the longest is in an order in which
 * things can have happened.
 */
static HistoryVerdict
check_reads(const History *history, HistoryOperation **operations, size_t n, char **report)
{
	const HistoryOperation *longest = NULL;
	size_t		i;
	size_t		j;

	for (i = 0; i < n; i++)
		if (operations[i]->kind == HISTORY_LIST && operations[i]->list != NULL &&
			(longest == NULL || strlen(operations[i]->list) > strlen(longest->list)))
			longest = operations[i];
	if (longest == NULL)
		return HISTORY_GOOD;
	for (i = 0; i < n; i++)
	{
		const HistoryOperation *one = operations[i];
		size_t		length;

		if (one->kind != HISTORY_LIST || one->list == NULL)
			continue;
		length = strcmp(one->list, "-") == 0 ? 0 : strlen(one->list);
		if (length > 0 && (strncmp(one->list, longest->list, length) != 0 ||
						   (longest->list[length] != ',' && longest->list[length] != '\0')))
			return bad(history, report, "two reads show different orders", one, longest);
		for (j = 0; j < n; j++)
		{
			const HistoryOperation *other = operations[j];

			if (other->kind == HISTORY_APPEND)
			{
				size_t		place = place_in_list(one->list, history_text(history, other->argument));

				if (other->end != HISTORY_UNKNOWN_END && other->end < one->start && place == 0)
					return bad(history, report, "a read lacks what was appended before it", other, one);
				if (other->start > one->end && place != 0)
					return bad(history, report, "a read shows what was appended after it", one, other);
			}
			else if (other->list != NULL && other->end < one->start &&
					 strcmp(other->list, "-") != 0 && strlen(other->list) > length)
				return bad(history, report, "a later read shows less", other, one);
		}
	}
	for (i = 0; i < n; i++)
		for (j = 0; j < n; j++)
			if (operations[i]->kind == HISTORY_APPEND && operations[j]->kind == HISTORY_APPEND &&
				operations[i]->end != HISTORY_UNKNOWN_END &&
				operations[i]->end < operations[j]->start)
			{
				size_t		before = place_in_list(longest->list,
												   history_text(history, operations[i]->argument));
				size_t		after = place_in_list(longest->list,
												  history_text(history, operations[j]->argument));

				if (after != 0 && (before == 0 || before > after))
					return bad(history, report, "the order read is not the order of appending",
							   operations[i], operations[j]);
			}
	return HISTORY_GOOD;
}

/* Offset behind the value, 0 = it is not in the list. */
static size_t
place_in_list(const char *list, const char *value)
{
	size_t		length = strlen(value);
	const char *p = list;

	while ((p = strstr(p, value)) != NULL)
	{
		if ((p == list || p[-1] == ',') && (p[length] == ',' || p[length] == '\0'))
			return (size_t) (p - list) + length;
		p += length;
	}
	return 0;
}

static HistoryVerdict
bad(const History *history, char **report, const char *why, const HistoryOperation *first,
	const HistoryOperation *second)
{
	char	   *one = history_describe(history, first);
	char	   *two = history_describe(history, second);
	size_t		length = strlen(why) + strlen(one) + strlen(two) + 16;

	*report = history_allocate(NULL, length);
	snprintf(*report, length, "%s:\n   %s\n   %s\n", why, one, two);
	free(one);
	free(two);
	return HISTORY_BAD;
}

char *
history_describe(const History *history, const HistoryOperation *operation)
{
	static const char *const kinds[] = {"write", "read", "cas", "delete", "append", "list"};
	char	   *text = history_allocate(NULL, 512);
	int			used = snprintf(text, 512, "line %d: %s [%ld, ", operation->line,
								operation->client, operation->start);

	if (operation->end == HISTORY_UNKNOWN_END)
		used += snprintf(text + used, 512 - (size_t) used, "?] %s", kinds[operation->kind]);
	else
		used += snprintf(text + used, 512 - (size_t) used, "%ld] %s", operation->end,
						 kinds[operation->kind]);
	switch (operation->kind)
	{
		case HISTORY_WRITE:
			snprintf(text + used, 512 - (size_t) used, " %s", history_text(history, operation->argument));
			break;
		case HISTORY_READ:
			snprintf(text + used, 512 - (size_t) used, " -> %s", history_text(history, operation->result));
			break;
		case HISTORY_CAS:
			snprintf(text + used, 512 - (size_t) used, " %s => %s: %s",
					 history_text(history, operation->expected),
					 history_text(history, operation->argument), operation->result ? "ok" : "no");
			break;
		case HISTORY_APPEND:
			snprintf(text + used, 512 - (size_t) used, " %s -> %ld",
					 history_text(history, operation->argument), operation->position);
			break;
		case HISTORY_LIST:
			snprintf(text + used, 512 - (size_t) used, " -> %.200s", operation->list);
			break;
		case HISTORY_DELETE:
			break;
	}
	return text;
}
