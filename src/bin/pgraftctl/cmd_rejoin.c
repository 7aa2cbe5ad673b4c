/*-------------------------------------------------------------------------
 *
 * cmd_rejoin.c
 *	  pgraftctl rejoin: a server that history left behind follows again; and what
 *	  "pgraftctl run" (cmd_run.c) shares with it.
 *
 * Rewinding and cloning bring another member's configuration and can be
 * interrupted at any point.  A copy of the own one lies beside the data directory
 * for so long, and the file "rejoin" in the consensus directory says "begun":
 * whoever comes next puts the copy back and clones.
 *
 * pg_rewind takes two timelines of equal numbers for one timeline, and then does
 * nothing, successfully.  Whether it will do, the server says (local_state.c), and
 * only for the epoch that it knows of; the numbers are compared here as well.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/bin/pgraftctl/cmd_rejoin.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraftctl.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"

#define BEGUN "begun\n"

static bool take_verdict(const char *data_directory, const CtlSource *source, bool *may_rewind);
static bool rewinding_will_do(const char *data_directory, const char *verdict,
							  const CtlSource *source);
static bool timeline_of_source(const CtlSource *source, TimeLineID *timeline);
static char *rejoin_file(const char *data_directory);

int
cmd_rejoin(int argc, char **argv)
{
	CtlOptions	options;
	CtlSource	source;

	if (ctl_parse(argc, argv, "DftSy", &options) < 0)
		return CTL_USAGE;
	if (options.data_directory == NULL)
	{
		pg_log_error("no data directory given");
		ctl_try_help("rejoin");
		return CTL_USAGE;
	}
	if (access(psprintf("%s/PG_VERSION", options.data_directory), F_OK) != 0)
	{
		pg_log_error("\"%s\" is not a data directory", options.data_directory);
		pg_log_error_hint("If its data was lost, \"pgraftctl join\" with its old options fills it again.");
		return CTL_FAILED;
	}
	if (!ctl_lock_supervisor(options.data_directory))
	{
		pg_log_error_hint("It makes the server follow again by itself.");
		return CTL_FAILED;
	}
	if (!ctl_confirm(&options, "What this server has and the primary has not will be thrown away.  Go on?"))
		return CTL_FAILED;
	if (ctl_server_is_running(options.data_directory) &&
		ctl_stop_server(options.data_directory) != CTL_OK)
		return CTL_FAILED;
	if (!ctl_recover_configuration(options.data_directory))
		return CTL_FAILED;
	if (!ctl_find_source(&options, options.timeout_seconds, true, &source))
	{
		pg_log_error_hint("Name it with --from, for example --from 'host=10.0.0.2 port=5432'.");
		return CTL_FAILED;
	}
	if (ctl_mend(&options, &source) != CTL_OK)
		return CTL_FAILED;
	if (!options.no_start &&
		ctl_start_server(options.data_directory, NULL, options.timeout_seconds) != CTL_OK)
		return CTL_FAILED;
	printf("Done.\n");
	return CTL_OK;
}

int
ctl_mend(const CtlOptions *options, CtlSource *source)
{
	bool		may_rewind;
	bool		mended = take_verdict(options->data_directory, source, &may_rewind);

	/* a switchover need not wait for it */
	PQfinish(source->connection);
	source->connection = NULL;
	if (mended)
		while (!(mended = ctl_rewind_or_clone(options->data_directory, source, !may_rewind)))
		{
			bool		again = source->deposed && !ctl_end_requested;

			may_rewind = false;
			ctl_forget_source(source);
			if (!again || !ctl_find_source(options, options->timeout_seconds, true, source))
				break;
			PQfinish(source->connection);
			source->connection = NULL;
		}
	ctl_forget_source(source);
	return mended && ctl_forget_wal(options->data_directory) ? CTL_OK : CTL_FAILED;
}

bool
ctl_mending_was_interrupted(const char *data_directory)
{
	char	   *path = rejoin_file(data_directory);
	char	   *verdict = NULL;

	return access(path, F_OK) == 0 && ctl_read_file(path, &verdict) &&
		strcmp(verdict, BEGUN) == 0;
}

/*
 * Whether rewinding will do.  Asked once: a rewind that does not come to its end
 * leaves nothing that could be rewound.
 */
static bool
take_verdict(const char *data_directory, const CtlSource *source, bool *may_rewind)
{
	char	   *path = rejoin_file(data_directory);
	char	   *verdict = NULL;

	*may_rewind = false;
	if (access(path, F_OK) != 0)
		pg_log_info("this server has not said whether rewinding will do");
	else if (!ctl_read_file(path, &verdict))
		return false;
	else
		*may_rewind = rewinding_will_do(data_directory, verdict, source);
	return ctl_write_file(path, BEGUN, 0600);
}

static bool
rewinding_will_do(const char *data_directory, const char *verdict, const CtlSource *source)
{
	char		epoch[32];
	TimeLineID	own;
	TimeLineID	timeline;
	ControlFileData *control;
	bool		intact;

	if (sscanf(verdict, "rewind epoch %31[0-9] timeline %u", epoch, &own) != 2)
		return false;
	if (strcmp(epoch, source->epoch) != 0)
	{
		pg_log_info("this server said for epoch %s that rewinding will do, and the primary's is %s: cloning instead",
					epoch, source->epoch);
		return false;
	}
	control = get_controlfile(data_directory, &intact);
	if (!intact || !timeline_of_source(source, &timeline))
		return false;
	if (timeline != own && timeline != control->checkPointCopy.ThisTimeLineID &&
		timeline != control->minRecoveryPointTLI)
		return true;
	pg_log_info("this server and the primary are on different timelines of the same number, %u: cloning instead",
				timeline);
	return false;
}

/* As pg_rewind sees it. */
static bool
timeline_of_source(const CtlSource *source, TimeLineID *timeline)
{
	int			code;
	char	   *text = ctl_query_text(source->connection,
									  "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()",
									  0, NULL, &code);

	*timeline = text != NULL ? (TimeLineID) strtoul(text, NULL, 10) : 0;
	return *timeline != 0;
}

static char *
rejoin_file(const char *data_directory)
{
	return psprintf("%s/rejoin", ctl_consensus_directory(data_directory));
}

/* One of run and rejoin at a time, for as long as this process lives. */
bool
ctl_lock_supervisor(const char *data_directory)
{
	char	   *path = psprintf("%s.lock", data_directory);
	int			fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
	{
		pg_log_error("could not open file \"%s\": %m", path);
		return false;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return true;
	pg_log_error("another \"pgraftctl run\" or \"pgraftctl rejoin\" takes care of \"%s\"",
				 data_directory);
	close(fd);
	return false;
}

/*
 * --from, or the hosts that this server noted last: the one among them that is
 * the primary.  User and password of the copy are those of primary_conninfo.
 */
bool
ctl_find_source(const CtlOptions *options, int seconds, bool stopped, CtlSource *source)
{
	char	   *hosts_file = psprintf("%s/hosts", ctl_consensus_directory(options->data_directory));
	char	   *credentials = ctl_read_setting(options->data_directory, "primary_conninfo");
	char	   *hosts;

	if (options->from != NULL)
		hosts = pg_strdup(options->from);
	else if (access(hosts_file, F_OK) != 0)
	{
		pg_log_error("no running primary is known");
		return false;
	}
	else if (!ctl_read_file(hosts_file, &hosts))
		return false;
	hosts[strcspn(hosts, "\n")] = '\0';
	if (credentials == NULL)
		credentials = pg_strdup("");
	if (!ctl_find_primary(hosts, credentials, seconds,
						  stopped ? ctl_confirmed_epoch(options->data_directory) : 0, source))
		return false;

	/* from now on it will be */
	source->confirmed = ctl_confirmed_epoch(options->data_directory);
	source->conninfo = psprintf("%s %s", credentials, source->address);

	/*
	 * pg_rewind takes the source's timeline from its last checkpoint; before a
	 * new primary's first one it would find that nothing needs to be done.
	 */
	if (ctl_wait_until(source->connection,
					   "SELECT lpad(upper(to_hex(timeline_id)), 8, '0') ="
					   " left(pg_walfile_name(pg_current_wal_lsn()), 8)"
					   " FROM pg_control_checkpoint()", options->timeout_seconds,
					   "the new primary's first checkpoint"))
		return true;
	ctl_forget_source(source);
	return false;
}
