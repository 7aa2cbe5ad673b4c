/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  The few lines that unit tests need to speak TAP (prove reads it).
 *
 * Every program in test/unit includes this once, calls ok()/is_u64() for each
 * check and ends with "return tap_done();".  A failed check prints where.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_TEST_TAP_H
#define PGRAFT_TEST_TAP_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int	tap_run;
static int	tap_failed;

static int	tap_ok(int passed, const char *file, int line, const char *format,...)
			__attribute__((format(printf, 4, 5)));

static int
tap_ok(int passed, const char *file, int line, const char *format,...)
{
	va_list		args;

	tap_run++;
	printf("%sok %d - ", passed ? "" : "not ", tap_run);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	if (!passed)
	{
		tap_failed++;
		printf("#   failed at %s:%d\n", file, line);
	}
	fflush(stdout);
	return passed;
}

#define ok(condition, ...) \
	tap_ok((condition) != 0, __FILE__, __LINE__, __VA_ARGS__)
#define is_u64(got, wanted, name) \
	do { \
		unsigned long got_ = (unsigned long) (got); \
		unsigned long wanted_ = (unsigned long) (wanted); \
		if (!tap_ok(got_ == wanted_, __FILE__, __LINE__, "%s", (name))) \
			printf("#   got %lu, wanted %lu\n", got_, wanted_); \
	} while (0)

static int
tap_done(void)
{
	printf("1..%d\n", tap_run);
	return tap_failed == 0 ? 0 : 1;
}

#endif							/* PGRAFT_TEST_TAP_H */
