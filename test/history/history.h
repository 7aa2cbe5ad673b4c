/*-------------------------------------------------------------------------
 *
 * history.h
 *	  Are recorded client histories linearizable?
 *
 * A history is a list of operations of concurrent clients, each with the time
 * it was sent and the time it was answered.  It is linearizable when every
 * operation can be given one moment between the two at which it happened, such
 * that the whole is what a single copy would have answered.  An operation
 * whose outcome is unknown may have happened at any time after it was sent, or
 * never.
 *
 * Format of a history file: one operation a line, seven fields and the result,
 * separated by tabs; "#" begins a comment line.
 *
 *		client start end op key argument expected result
 *
 *	client		a name; its operations do not overlap, but for unknown ones
 *	start, end	integers of one clock; end "-" = outcome unknown
 *	op			write (argument; result ok), read (result, "-" = no such key),
 *				cas (argument = new, expected = the value that must be there or
 *				"-"; result ok or no), delete (result ok), append (argument;
 *				result = position), list (result = values in order, separated by
 *				commas; "-" = empty)
 *
 * Operations that certainly did not happen are left out.  Free of PostgreSQL;
 * the simulator links this, too.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_HISTORY_H
#define PGRAFT_HISTORY_H

#include <stddef.h>
#include <stdio.h>

typedef enum HistoryKind
{
	HISTORY_WRITE,
	HISTORY_READ,
	HISTORY_CAS,
	HISTORY_DELETE,
	HISTORY_APPEND,
	HISTORY_LIST
} HistoryKind;

#define HISTORY_NO_VALUE 0		/* no such key; every text has a greater number */
#define HISTORY_UNKNOWN_END (-1)

typedef struct HistoryOperation
{
	const char *client;
	long		start;
	long		end;			/* HISTORY_UNKNOWN_END */
	HistoryKind kind;
	const char *key;
	int			argument;		/* numbers of texts */
	int			expected;
	int			result;			/* READ: value; CAS: 1 = ok */
	long		position;		/* APPEND */
	const char *list;			/* LIST: the text */
	int			line;			/* in the file, for messages */
} HistoryOperation;

typedef struct History History;

extern History *history_new(void);
extern void history_free(History *history);

/*
 * Adds one line of a file.  Returns NULL, or why it is not one (static
 * storage).  Empty lines and comments are taken and add nothing.
 */
extern const char *history_add_line(History *history, const char *line);

/* The number of a value, the same for the same text; "-" is HISTORY_NO_VALUE. */
extern int	history_value(History *history, const char *text);
extern const char *history_text(const History *history, int value);

/* Adds an operation; client, key and list are copied. */
extern void history_add(History *history, const HistoryOperation *operation);

extern size_t history_size(const History *history);

/* Writes it in the format above. */
extern void history_print(const History *history, FILE *file);

typedef enum HistoryVerdict
{
	HISTORY_GOOD,
	HISTORY_BAD,
	HISTORY_TOO_HARD			/* the search did not end within its bound */
} HistoryVerdict;

/*
 * From now on a read, or a compare-and-set that changed nothing, may show what
 * was true up to so long (in the clock's units) before it was sent.
 */
extern void history_allow_stale_reads(History *history, long allowance);

/* Judges all keys.  *report (malloc'd) says why when it is not GOOD. */
extern HistoryVerdict history_check(History *history, char **report);

/*
 * Writes a line for each read of a value that was surely replaced before the
 * read was sent, with the time between the two, and their number.
 */
extern void history_print_stale_reads(const History *history, FILE *file);

#endif							/* PGRAFT_HISTORY_H */
