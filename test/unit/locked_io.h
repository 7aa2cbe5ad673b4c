/*-------------------------------------------------------------------------
 *
 * locked_io.h
 *	  One call at a time on a disk that knows nothing of threads.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef LOCKED_IO_H
#define LOCKED_IO_H

#include "pgraft/storage.h"

/*
 * Fills *io with calls that go to `below`, which must not be used otherwise from
 * then on and is copied.  One such disk per process.
 */
extern void locked_io(PgraftIo *io, const PgraftIo *below);

#endif							/* LOCKED_IO_H */
