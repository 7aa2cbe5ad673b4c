/*-------------------------------------------------------------------------
 *
 * error.c
 *	  Filling of struct PgraftError.
 *
 * Pure: no allocation, no lock, no global; callable from every thread.
 * Nothing here survives anything.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/storage/error.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <stdarg.h>

PgraftErrorCode
pgraft_error(PgraftError *error, PgraftErrorCode code, const char *format,...)
{
	va_list		args;

	if (error == NULL)
		return code;
	error->code = code;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	error->detail[0] = '\0';
	error->hint[0] = '\0';
	return code;
}

void
pgraft_error_detail(PgraftError *error, const char *format,...)
{
	va_list		args;

	if (error == NULL)
		return;
	va_start(args, format);
	vsnprintf(error->detail, sizeof(error->detail), format, args);
	va_end(args);
}

void
pgraft_error_hint(PgraftError *error, const char *format,...)
{
	va_list		args;

	if (error == NULL)
		return;
	va_start(args, format);
	vsnprintf(error->hint, sizeof(error->hint), format, args);
	va_end(args);
}
