/*-------------------------------------------------------------------------
 *
 * local_state.c
 *	  What a member must know of its own WAL after a crash: the epoch and tag of
 *	  the primary whose WAL it has.
 *
 * A timeline number alone does not tell: two servers that were promoted without
 * seeing each other choose the same one.  The file lies in the consensus
 * directory, where neither a base backup nor a rewind brings another member's.
 *
 * Format: one line of text,
 *
 *		pgraft-wal 1 epoch <n> tag <n> timeline <n> crc <8 hex digits>
 *
 * with the CRC-32C of everything before " crc".  It is written under another
 * name, flushed and renamed, so it is old or new, never half.  Written by the
 * walreceiver before it acknowledges the first WAL of a new epoch, and by
 * "pgraft ha" before a promotion; the two never run at the same time.
 *
 * Beside it, "rejoin" is there while this server cannot follow: one line of text,
 *
 *		<rewind or reclone> epoch <n> timeline <n>
 *
 * for pgraftctl, which has no server to ask: what must be done to follow the primary
 * of that epoch, and on which timeline this server's WAL ends.  For another epoch's
 * primary it says nothing, which may have promoted itself to a timeline of the same
 * number.  Without it pgraftctl may not rewind: pg_rewind cannot tell apart timelines
 * with equal numbers.  It writes "begun" there before it begins, so that a rewind
 * that came to no end, whose result nobody can use, is followed by a clone.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/local_state.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "port/pg_crc32c.h"

#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"

#define MAX_LINE 256
#define STATE_FILE "ha_state"

static uint32 checksum(const char *text);
static void sync_directory_of(const char *path);

char *
pgraft_ha_path(const char *name)
{
	char	   *directory = pgraft_storage_directory();
	char	   *path = psprintf("%s/%s", directory, name);

	pfree(directory);
	return path;
}

static uint32
checksum(const char *text)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, text, strlen(text));
	FIN_CRC32C(crc);
	return crc;
}

bool
pgraft_ha_read_wal(PgraftHaWal *wal)
{
	char	   *path = pgraft_ha_path(STATE_FILE);
	char		line[MAX_LINE];
	char	   *crc_text;
	unsigned long epoch;
	unsigned long tag;
	unsigned int timeline;
	FILE	   *file = fopen(path, "r");
	bool		good = false;

	memset(wal, 0, sizeof(*wal));
	if (file == NULL)
	{
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", path)));
		pfree(path);
		return false;
	}
	if (fgets(line, sizeof(line), file) != NULL &&
		(crc_text = strstr(line, " crc ")) != NULL)
	{
		uint32		stored = (uint32) strtoul(crc_text + 5, NULL, 16);

		*crc_text = '\0';
		good = stored == checksum(line) &&
			sscanf(line, "pgraft-wal 1 epoch %lu tag %lu timeline %u", &epoch, &tag, &timeline) == 3;
	}
	fclose(file);
	if (good)
	{
		wal->epoch = epoch;
		wal->tag = tag;
		wal->timeline = timeline;
	}
	else
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" is damaged", path),
				 errhint("This server does not know whose WAL it has; \"pgraftctl rejoin\" makes it a standby again.")));
	pfree(path);
	return good;
}

void
pgraft_ha_write_wal(const PgraftHaWal *wal)
{
	char	   *path = pgraft_ha_path(STATE_FILE);
	char	   *head = psprintf("pgraft-wal 1 epoch %lu tag %lu timeline %u",
								(unsigned long) wal->epoch, (unsigned long) wal->tag,
								wal->timeline);
	char	   *line = psprintf("%s crc %08x\n", head, checksum(head));

	pgraft_ha_create_file(path, line);
	pfree(line);
	pfree(head);
	pfree(path);
}

void
pgraft_ha_write_verdict(int state, uint64 epoch, uint32 timeline)
{
	char	   *path = pgraft_ha_path("rejoin");

	if (state == PGRAFT_HA_MEMBER_REWIND || state == PGRAFT_HA_MEMBER_RECLONE)
		pgraft_ha_create_file(path, psprintf("%s epoch %llu timeline %u\n",
											 pgraft_ha_member_state_name(state),
											 (unsigned long long) epoch, timeline));
	else
		pgraft_ha_remove_file(path);
	pfree(path);
}

/* fsync itself, whatever "fsync" is set to: elections rely on it. */
void
pgraft_ha_create_file(const char *path, const char *contents)
{
	char	   *temporary = psprintf("%s.tmp", path);
	size_t		length = strlen(contents);
	int			fd = open(temporary, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, pg_file_create_mode);

	if (fd < 0 || write(fd, contents, length) != (ssize_t) length || fsync(fd) != 0)
	{
		int			save_errno = errno;

		if (fd >= 0)
			close(fd);
		errno = save_errno != 0 ? save_errno : ENOSPC;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", temporary)));
	}
	close(fd);
	if (rename(temporary, path) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rename file \"%s\" to \"%s\": %m", temporary, path)));
	sync_directory_of(path);
	pfree(temporary);
}

void
pgraft_ha_remove_file(const char *path)
{
	if (unlink(path) != 0)
	{
		if (errno == ENOENT)
			return;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", path)));
	}
	sync_directory_of(path);
}

static void
sync_directory_of(const char *path)
{
	char		directory[MAXPGPATH];
	int			fd;

	strlcpy(directory, path, sizeof(directory));
	get_parent_directory(directory);
	if (directory[0] == '\0')
		strlcpy(directory, ".", sizeof(directory));
	fd = open(directory, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
	{
		int			save_errno = errno;

		if (fd >= 0)
			close(fd);
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync directory \"%s\": %m", directory)));
	}
	close(fd);
}
