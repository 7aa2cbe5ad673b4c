/*-------------------------------------------------------------------------
 *
 * version.h
 *	  The release of the library.  The SQL objects have a version of their own,
 *	  default_version in pgraft.control.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_VERSION_H
#define PGRAFT_VERSION_H

#define PGRAFT_VERSION "1.0.0"

#endif							/* PGRAFT_VERSION_H */
