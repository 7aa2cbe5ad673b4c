/*-------------------------------------------------------------------------
 *
 * history_internal.h
 *	  Shared by the files of the history checker.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_HISTORY_INTERNAL_H
#define PGRAFT_HISTORY_INTERNAL_H

#include "history.h"

struct History
{
	size_t		n_operations;
	size_t		allocated;
	HistoryOperation *operations;
	char	  **texts;			/* each once; its place is its number */
	size_t		n_texts;
	int		   *buckets;
	size_t		n_buckets;
	int			line;			/* of the file that is read */
	long		stale_allowance;
};

/* realloc() that ends the program rather than return NULL */
extern void *history_allocate(void *old, size_t size);

/* One key's operations, by start. */
extern HistoryVerdict history_check_register(const History *history,
											 HistoryOperation **operations, size_t n,
											 char **report);
/* The same, for values that form a chain; HISTORY_TOO_HARD = they do not. */
extern HistoryVerdict history_check_chain(const History *history,
										  HistoryOperation **operations, size_t n,
										  char **report);
extern HistoryVerdict history_check_list(const History *history,
										 HistoryOperation **operations, size_t n,
										 char **report);
extern char *history_describe(const History *history, const HistoryOperation *operation);

#endif							/* PGRAFT_HISTORY_INTERNAL_H */
