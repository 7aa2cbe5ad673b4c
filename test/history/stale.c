/*-------------------------------------------------------------------------
 *
 * stale.c
 *	  Reads of values that were no longer true.
 *
 * Only values whose end is certain count: those that an answered
 * compare-and-set replaced.  A value is taken for one of one key.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/history/stale.c
 *
 *-------------------------------------------------------------------------
 */
#include <limits.h>
#include <stdlib.h>

#include "history_internal.h"

void
history_allow_stale_reads(History *history, long allowance)
{
	history->stale_allowance = allowance;
}

void
history_print_stale_reads(const History *history, FILE *file)
{
	long	   *replaced = history_allocate(NULL, (history->n_texts + 1) * sizeof(long));
	long		longest = 0;
	int			n = 0;
	size_t		i;

	for (i = 0; i <= history->n_texts; i++)
		replaced[i] = LONG_MAX;
	for (i = 0; i < history->n_operations; i++)
	{
		const HistoryOperation *one = &history->operations[i];

		if (one->kind == HISTORY_CAS && one->result && one->end != HISTORY_UNKNOWN_END &&
			one->end < replaced[one->expected])
			replaced[one->expected] = one->end;
	}
	for (i = 0; i < history->n_operations; i++)
	{
		const HistoryOperation *one = &history->operations[i];
		char	   *text;

		if (one->kind != HISTORY_READ || one->end == HISTORY_UNKNOWN_END ||
			one->result == HISTORY_NO_VALUE || replaced[one->result] >= one->start)
			continue;
		text = history_describe(history, one);
		fprintf(file, "stale by %ld: %s\n", one->start - replaced[one->result], text);
		free(text);
		n++;
		if (one->start - replaced[one->result] > longest)
			longest = one->start - replaced[one->result];
	}
	fprintf(file, "%d stale reads, the longest by %ld\n", n, longest);
	free(replaced);
}
