/*-------------------------------------------------------------------------
 *
 * platform.h
 *	  First include of every .c file in src/storage and src/net, which are
 *	  compiled twice: into the extension, and with -DFRONTEND into
 *	  libpgraft_front.a for command line tools, unit tests, the simulator and
 *	  the fuzzers.
 *
 * Such code uses malloc/free and struct PgraftError; it never calls palloc,
 * ereport or anything else of a backend, because parts of it run in threads
 * and callbacks that PostgreSQL must not longjmp out of.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_PLATFORM_H
#define PGRAFT_PLATFORM_H

#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "pgraft/error.h"

#endif							/* PGRAFT_PLATFORM_H */
