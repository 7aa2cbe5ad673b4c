/*-------------------------------------------------------------------------
 *
 * position.c
 *	  Notices that this server's data went back in time: somebody put an old
 *	  backup in its place.
 *
 * Such a server would still report the epoch that it followed, and lacks commits
 * that it once confirmed; an election that counts on it could lose them.  So how
 * far its WAL went is noted from time to time where a restored data directory does
 * not bring it back, in the consensus directory.  A server whose WAL ends before
 * the note may not report and must be cloned, unless an operator makes it the
 * primary with what it has.
 *
 * The note is the end of a record that is on disk, and may be some seconds behind.
 * (The flushed position is not: it may lie within a record, and recovery ends
 * before that.)
 *
 * Format: the file "position", one line of text,
 *
 *		pgraft-position 1 lsn <hi>/<lo>
 *
 * written under another name, flushed and renamed.  pgraftctl removes it with the
 * data that it is about.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/position.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"

#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

#define POSITION_FILE "position"
#define NOTE_MS 2000			/* between two notes of a server that works */

static XLogRecPtr read_note(void);

static bool known = false;		/* was the file read? */
static XLogRecPtr noted = InvalidXLogRecPtr;
static raft_time noted_at = 0;
static XLogRecPtr candidate = InvalidXLogRecPtr;	/* of a primary: not flushed yet */
static bool complained = false;

static XLogRecPtr
read_note(void)
{
	char	   *path = pgraft_ha_path(POSITION_FILE);
	FILE	   *file = fopen(path, "r");
	unsigned int hi;
	unsigned int lo;
	XLogRecPtr	found = InvalidXLogRecPtr;

	if (file == NULL && errno != ENOENT)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	if (file != NULL)
	{
		if (fscanf(file, "pgraft-position 1 lsn %X/%X", &hi, &lo) == 2)
			found = (XLogRecPtr) hi << 32 | lo;
		else
			ereport(LOG,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("file \"%s\" is damaged", path)));
		fclose(file);
	}
	pfree(path);
	return found;
}

XLogRecPtr
pgraft_ha_noted_position(void)
{
	if (!known)
		noted = read_note();
	known = true;
	return noted;
}

void
pgraft_ha_note_position(XLogRecPtr lsn, bool at_once)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *path;
	char	   *line;

	if (lsn <= pgraft_ha_noted_position() ||
		(!at_once && pgraft_monotonic_ms() - noted_at < NOTE_MS))
		return;
	path = pgraft_ha_path(POSITION_FILE);
	line = psprintf("pgraft-position 1 lsn %X/%X\n", LSN_FORMAT_ARGS(lsn));
	noted_at = pgraft_monotonic_ms();
	PG_TRY();
	{
		pgraft_ha_create_file(path, line);
		noted = lsn;
		complained = false;
	}
	PG_CATCH();
	{
		/* a full disk keeps no member out of an election */
		MemoryContextSwitchTo(context);
		if (!complained)
			EmitErrorReport();
		complained = true;
		FlushErrorState();
	}
	PG_END_TRY();
	pfree(line);
	pfree(path);
}

/* The same, of a server that is not in recovery. */
void
pgraft_ha_note_primary_position(void)
{
	if (candidate != InvalidXLogRecPtr && GetFlushRecPtr(NULL) >= candidate)
	{
		pgraft_ha_note_position(candidate, false);
		candidate = InvalidXLogRecPtr;
	}
	if (candidate == InvalidXLogRecPtr)
		candidate = pgraft_ha_end_of_records();
}

/*
 * Where the next record would be written lies behind a page header when the last
 * one ended with its page.
 */
XLogRecPtr
pgraft_ha_end_of_records(void)
{
	XLogRecPtr	insert = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(insert, wal_segment_size) == SizeOfXLogLongPHD)
		return insert - SizeOfXLogLongPHD;
	if (insert % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return insert - SizeOfXLogShortPHD;
	return insert;
}

void
pgraft_ha_forget_position(void)
{
	char	   *path = pgraft_ha_path(POSITION_FILE);

	pgraft_ha_remove_file(path);
	noted = InvalidXLogRecPtr;
	known = true;
	pfree(path);
}
