/*-------------------------------------------------------------------------
 *
 * start.c
 *	  Every start is the start of a standby.
 *
 * Runs in the postmaster, in shmem_startup_hook: at each start and at each
 * crash reinitialisation, before the startup process looks for its signal
 * files, and not in "postgres -C" or single-user runs.
 *
 * The one exception (see promote.c): between a promotion and the end of the
 * first checkpoint after it, pages on disk may be newer than where recovery as
 * a standby would call the data consistent.  A server that crashed in between
 * recovers as a primary once more; its shared memory is zero, so it is fenced,
 * and "pgraft ha" demotes it after a checkpoint.
 *
 * A standby that ended while it received the first segment of a new timeline
 * has a part of that segment only.  The startup process prefers it to the
 * complete one of the timeline before, comes to its end before the fork, and
 * gives up (postmaster and all).  Such a segment holds nothing that the parent's
 * has not, and is set aside under the name ".partial".
 *
 * What survives a crash: standby.signal and the marker are on disk before the
 * function returns.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/start.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "pgraft/ha.h"
#include "pgraft/settings.h"

#define STANDBY_SIGNAL "standby.signal"
#define PROMOTE_SIGNAL "promote"

static void make_durable(const char *path);
static bool check_first_segment(TimeLineID timeline, TimeLineID parent, XLogRecPtr fork);
static bool ends_before(const char *path, const char *other, XLogRecPtr fork);
static bool is_page(const char *page, XLogRecPtr at);
static bool has_only_zeros(const char *page, const char *other, size_t bytes);

void
pgraft_ha_force_standby(void)
{
	char	   *marker = pgraft_ha_promotion_marker();
	struct stat status;
	bool		promoted_recently = stat(marker, &status) == 0;

	pfree(marker);

	/* one that was left behind would promote this server by itself */
	if (unlink(PROMOTE_SIGNAL) == 0)
		ereport(LOG,
				(errmsg("removed a promotion request that was left behind")));
	else if (errno != ENOENT)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", PROMOTE_SIGNAL)));

	pgraft_ha_set_segments_aside(InvalidXLogRecPtr);
	if (promoted_recently)
	{
		ereport(LOG,
				(errmsg("pgraft starts this server as a fenced primary: it ended before the first checkpoint after its promotion")));
		return;
	}
	if (pgraft_ha_disabled("standby") || stat(STANDBY_SIGNAL, &status) == 0)
		return;
	make_durable(STANDBY_SIGNAL);
	ereport(LOG,
			(errmsg("pgraft starts this server as a standby")));
}

/* fsync itself, whatever "fsync" is set to: other servers rely on it. */
static void
make_durable(const char *path)
{
	int			fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, pg_file_create_mode);
	int			directory;

	if (fd < 0 || fsync(fd) != 0 || close(fd) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", path),
				 errhint("In HA mode a server must be able to start as a standby.")));
	directory = open(".", O_RDONLY | O_CLOEXEC);
	if (directory < 0 || fsync(directory) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not fsync directory \"%s\": %m", DataDir)));
	close(directory);
}

char *
pgraft_ha_promotion_marker(void)
{
	return pgraft_ha_path("promotion");
}

/* ----------------------------------------------------------------
 * First segments of timelines
 * ----------------------------------------------------------------
 */

/*
 * Of several timelines that begin in one segment recovery reads the newest that
 * has it: when that one is good, the others do not matter.
 */
void
pgraft_ha_set_segments_aside(XLogRecPtr from)
{
	XLogSegNo	first_segment = from / wal_segment_size;
	XLogSegNo	good_segment = 0;
	bool		good;
	ControlFileData *control = get_controlfile(DataDir, &good);
	List	   *history;
	int			i;

	if (!good)
		return;					/* the startup process will say so */
	history = readTimeLineHistory(findNewestTimeLine(control->checkPointCopy.ThisTimeLineID));
	for (i = 0; i + 1 < list_length(history); i++)
	{
		const TimeLineHistoryEntry *child = list_nth(history, i);
		const TimeLineHistoryEntry *parent = list_nth(history, i + 1);
		XLogSegNo	segment = parent->end / wal_segment_size;

		if (segment < first_segment)
			break;
		if (segment != good_segment && check_first_segment(child->tli, parent->tli, parent->end))
			good_segment = segment;
	}
	list_free_deep(history);
	pfree(control);
}

/*
 * It is received from its start on, and flushed before any of it is
 * acknowledged: one that ends before the fork holds nothing acknowledged behind
 * it.  Where the two differ, the one that has no proper page, or only zeros to
 * the end of it, is the one that ends there.  Returns whether it is there and
 * stays.
 */
static bool
check_first_segment(TimeLineID timeline, TimeLineID parent, XLogRecPtr fork)
{
	uint32		bytes = XLogSegmentOffset(fork, wal_segment_size);
	char		path[MAXPGPATH];
	char		parent_path[MAXPGPATH];
	char		next_path[MAXPGPATH];
	char		partial_path[MAXPGPATH + 8];
	struct stat status;
	XLogSegNo	segment;

	if (bytes == 0)
		return false;
	XLByteToSeg(fork, segment, wal_segment_size);
	XLogFilePath(path, timeline, segment, wal_segment_size);
	XLogFilePath(parent_path, parent, segment, wal_segment_size);
	XLogFilePath(next_path, timeline, segment + 1, wal_segment_size);
	if (stat(path, &status) != 0)
		return false;
	if (stat(next_path, &status) == 0 || !ends_before(path, parent_path, fork))
		return true;
	snprintf(partial_path, sizeof(partial_path), "%s.partial", path);
	(void) durable_rename(path, partial_path, FATAL);
	ereport(LOG,
			(errmsg("set WAL segment \"%s\" aside: it ends before its timeline begins", path),
			 errdetail("The first segment of timeline %u was received in part only.",
					   timeline)));
	return false;
}

/* Whether the WAL in path ends where it differs from that in other, before `fork`. */
static bool
ends_before(const char *path, const char *other, XLogRecPtr fork)
{
	PGAlignedXLogBlock page;
	PGAlignedXLogBlock other_page;
	XLogRecPtr	start = fork - XLogSegmentOffset(fork, wal_segment_size);
	XLogRecPtr	at;
	int			fd = open(path, O_RDONLY | O_CLOEXEC);
	int			other_fd = open(other, O_RDONLY | O_CLOEXEC);
	bool		ends = false;

	for (at = start; fd >= 0 && other_fd >= 0 && at < fork; at += XLOG_BLCKSZ)
	{
		size_t		part = (size_t) Min(fork - at, XLOG_BLCKSZ);

		if (pread(other_fd, other_page.data, part, (off_t) (at - start)) != (ssize_t) part ||
			!is_page(other_page.data, at))
			break;				/* nothing to compare with */
		if (pread(fd, page.data, part, (off_t) (at - start)) != (ssize_t) part)
			ends = true;
		else if (memcmp(page.data, other_page.data, part) != 0)
			ends = !is_page(page.data, at) || has_only_zeros(page.data, other_page.data, part);
		else
			continue;
		break;
	}
	if (fd >= 0)
		close(fd);
	if (other_fd >= 0)
		close(other_fd);
	return ends;
}

static bool
is_page(const char *page, XLogRecPtr at)
{
	const XLogPageHeaderData *header = (const XLogPageHeaderData *) page;

	return header->xlp_magic == XLOG_PAGE_MAGIC && header->xlp_pageaddr == at;
}

/* From the first byte on in which it differs. */
static bool
has_only_zeros(const char *page, const char *other, size_t bytes)
{
	size_t		i = 0;

	while (i < bytes && page[i] == other[i])
		i++;
	while (i < bytes && page[i] == 0)
		i++;
	return i == bytes;
}
