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

#include "common/file_perm.h"
#include "miscadmin.h"

#include "pgraft/ha.h"
#include "pgraft/settings.h"

#define STANDBY_SIGNAL "standby.signal"
#define PROMOTE_SIGNAL "promote"

static void make_durable(const char *path);

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
	char	   *directory = pgraft_storage_directory();
	char	   *path = psprintf("%s/promotion", directory);

	pfree(directory);
	return path;
}
