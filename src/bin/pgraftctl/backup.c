/*-------------------------------------------------------------------------
 *
 * backup.c
 *	  Fills or mends a data directory from a running server: pg_basebackup and
 *	  pg_rewind.
 *
 * Both replace every file of the directory by the source's, the member's own
 * configuration included; that is put back before anything else can fail.
 * What the consensus worker keeps lies outside and is not touched, except for
 * what it remembers of the WAL in here, which is no longer true.
 *
 * A clone that replaces old data is made beside it; the old data goes only
 * once the clone is complete.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/backup.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/file_utils.h"
#include "port/pg_crc32c.h"

/*
 * Under the member's own name the stream of a base backup would count as that
 * standby: commits would be acknowledged that are nowhere but in a half copy, and
 * the server would end one of the two connections as a rival of the other.
 */
#define NOT_A_STANDBY "application_name=pgraftctl"

static bool rewind_directory(const char *data_directory, const char *conninfo);
static bool clone_directory(const char *data_directory, CtlSource *source,
							const char *own_configuration);
static bool put_back(const char *data_directory, const char *own_configuration);
static char *saved_configuration(const char *data_directory);

bool
ctl_base_backup(const char *data_directory, const char *conninfo)
{
	char	   *argv[] = {
		ctl_find_program("pg_basebackup"), "-D",
		unconstify(char *, data_directory), "-d",
		psprintf("%s " NOT_A_STANDBY, conninfo), "-X", "stream",
		"-c", "fast", "-P",
		"--no-password", NULL
	};

	return ctl_run(argv) == 0;
}

bool
ctl_rewind_or_clone(const char *data_directory, CtlSource *source, bool clone_only)
{
	char	   *path = psprintf("%s/pgraft.conf", data_directory);
	char	   *own_configuration = NULL;
	bool		done = false;

	if (!ctl_recover_configuration(data_directory) ||
		(access(path, F_OK) == 0 && !ctl_read_file(path, &own_configuration)) ||
		(own_configuration != NULL &&
		 !ctl_write_file(saved_configuration(data_directory), own_configuration, 0600)))
		return false;
	if (!clone_only)
	{
		printf("Rewinding \"%s\" ...\n", data_directory);
		done = rewind_directory(data_directory, source->conninfo);
		if (!done)
			pg_log_info("rewinding was not possible, cloning instead");
	}
	if (done)
	{
		source->deposed = !ctl_is_still_primary(source);
		done = put_back(data_directory, own_configuration) && !source->deposed;
	}
	else if (!ctl_end_requested)
	{
		printf("Cloning \"%s\" ...\n", data_directory);
		done = clone_directory(data_directory, source, own_configuration);
	}
	if (done && unlink(saved_configuration(data_directory)) != 0 && errno != ENOENT)
		pg_log_warning("could not remove file \"%s\": %m", saved_configuration(data_directory));
	return done;
}

static char *
saved_configuration(const char *data_directory)
{
	return psprintf("%s.pgraft.conf", data_directory);
}

/* What is in the data directory may be another member's. */
bool
ctl_recover_configuration(const char *data_directory)
{
	char	   *saved = saved_configuration(data_directory);
	char	   *contents;

	return access(saved, F_OK) != 0 ||
		(ctl_read_file(saved, &contents) &&
		 ctl_write_file(psprintf("%s/pgraft.conf", data_directory), contents, 0600));
}

static bool
rewind_directory(const char *data_directory, const char *conninfo)
{
	char	   *signal_file = psprintf("%s/standby.signal", data_directory);
	char	   *argv[] = {
		ctl_find_program("pg_rewind"), "-D",
		unconstify(char *, data_directory),
		psprintf("--source-server=%s dbname=postgres " NOT_A_STANDBY, conninfo),
		"-P", NULL
	};

	/* after an unclean end it runs a single-user server, which refuses to be a standby */
	if (unlink(signal_file) != 0 && errno != ENOENT)
	{
		pg_log_error("could not remove file \"%s\": %m", signal_file);
		return false;
	}
	return ctl_run(argv) == 0;
}

static bool
clone_directory(const char *data_directory, CtlSource *source, const char *own_configuration)
{
	char	   *fresh = psprintf("%s.new", data_directory);
	char	   *old = psprintf("%s.old", data_directory);
	bool		exists = access(data_directory, F_OK) == 0;
	bool		copied;

	if (!ctl_directory_is_empty(fresh) && !rmtree(fresh, true))
		return false;
	copied = ctl_base_backup(fresh, source->conninfo);
	source->deposed = !ctl_end_requested && !ctl_is_still_primary(source);
	if (source->deposed && !ctl_directory_is_empty(fresh) && !rmtree(fresh, true))
		return false;
	if (!copied || source->deposed || ctl_end_requested || !put_back(fresh, own_configuration))
		return false;
	if (exists && rename(data_directory, old) != 0)
	{
		pg_log_error("could not rename \"%s\" to \"%s\": %m", data_directory, old);
		return false;
	}

	/* pg_basebackup has flushed what is in it */
	if (rename(fresh, data_directory) != 0)
	{
		pg_log_error("could not rename \"%s\" to \"%s\": %m", fresh, data_directory);
		if (exists && rename(old, data_directory) != 0)
			pg_log_error_hint("The old data is in \"%s\", the new in \"%s\".", old, fresh);
		return false;
	}
	if (fsync_parent_path(data_directory) != 0)
		return false;
	if (exists && !rmtree(old, true))
		pg_log_warning("could not remove all of \"%s\"", old);
	return true;
}

static bool
put_back(const char *data_directory, const char *own_configuration)
{
	char	   *auto_file = psprintf("%s/pgraft.auto.conf", data_directory);

	/* the source's list of synchronous standbys; the server writes its own */
	if (unlink(auto_file) != 0 && errno != ENOENT)
	{
		pg_log_error("could not remove file \"%s\": %m", auto_file);
		return false;
	}
	return own_configuration == NULL ||
		ctl_write_file(psprintf("%s/pgraft.conf", data_directory), own_configuration, 0600);
}

/* What the server noted about WAL that is no longer there. */
bool
ctl_forget_wal(const char *data_directory)
{
	char	   *directory = ctl_consensus_directory(data_directory);
	/* "rejoin" last: until then a mending counts as interrupted */
	static const char *const names[] = {"ha_state", "promotion", "position", "rejoin"};
	size_t		i;

	for (i = 0; i < lengthof(names); i++)
	{
		char	   *path = psprintf("%s/%s", directory, names[i]);

		if (unlink(path) != 0 && errno != ENOENT)
		{
			pg_log_error("could not remove file \"%s\": %m", path);
			return false;
		}
	}
	return true;
}

/*
 * Noted before the first WAL of an epoch is confirmed (local_state.c).  One that is
 * damaged says nothing.
 */
uint64
ctl_confirmed_epoch(const char *data_directory)
{
	char	   *path = psprintf("%s/ha_state", ctl_consensus_directory(data_directory));
	char	   *line;
	char	   *stored;
	char	   *epoch;
	pg_crc32c	crc;

	if (access(path, F_OK) != 0 || !ctl_read_file(path, &line) ||
		(stored = strstr(line, " crc ")) == NULL)
		return 0;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, line, stored - line);
	FIN_CRC32C(crc);
	epoch = strstr(line, " epoch ");
	return epoch != NULL && (pg_crc32c) strtoul(stored + 5, NULL, 16) == crc ?
		strtou64(epoch + 7, NULL, 10) : 0;
}

char *
ctl_consensus_directory(const char *data_directory)
{
	char	   *set = ctl_read_setting(data_directory, "pgraft.data_dir");

	if (set != NULL && set[0] != '\0')
		return set;
	return psprintf("%s.pgraft", data_directory);
}
