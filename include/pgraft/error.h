/*-------------------------------------------------------------------------
 *
 * error.h
 *	  How code below the worker reports a failure: a class and three texts.
 *
 * The worker and the tools turn it into ereport() or a message on stderr; the
 * texts already follow PostgreSQL's error style guide (primary lower case
 * without period; detail and hint full sentences).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_ERROR_H
#define PGRAFT_ERROR_H

typedef enum PgraftErrorCode
{
	PGRAFT_OK = 0,
	PGRAFT_ERR_IO,				/* 58030 system call failed */
	PGRAFT_ERR_NO_SPACE,		/* 53100 disk full */
	PGRAFT_ERR_CORRUPT,			/* XX001 damaged file, named with offset */
	PGRAFT_ERR_NOT_FOUND,		/* 58P01 no such file; a fresh directory */
	PGRAFT_ERR_IN_USE,			/* 55006 locked by another process, port taken */
	PGRAFT_ERR_CLONE,			/* 55000 state was copied from elsewhere */
	PGRAFT_ERR_MISMATCH,		/* 55000 identity differs from the settings */
	PGRAFT_ERR_CONFIG,			/* 22023 / F0000 bad setting, certificate, key */
	PGRAFT_ERR_PROTOCOL,		/* 08P01 peer sent nonsense */
	PGRAFT_ERR_AUTH,			/* 28000 peer is not who it must be */
	PGRAFT_ERR_NOMEM,			/* 53200 */
	PGRAFT_ERR_TOO_LARGE,		/* 54000 */
	PGRAFT_ERR_INTERNAL
} PgraftErrorCode;

typedef struct PgraftError
{
	PgraftErrorCode code;
	char		message[512];	/* primary */
	char		detail[512];	/* "" = none */
	char		hint[256];		/* "" = none */
} PgraftError;

/*
 * Sets code and the formatted primary message, empties detail and hint.
 * Returns code, so that "return pgraft_error(...)" reads well.  error may be
 * NULL.  Uses vsnprintf only: safe in threads.
 */
extern PgraftErrorCode pgraft_error(PgraftError *error, PgraftErrorCode code,
									const char *format,...)
			__attribute__((format(printf, 3, 4)));
extern void pgraft_error_detail(PgraftError *error, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern void pgraft_error_hint(PgraftError *error, const char *format,...)
			__attribute__((format(printf, 2, 3)));

#endif							/* PGRAFT_ERROR_H */
