/*-------------------------------------------------------------------------
 *
 * demote.c
 *	  Demotion in place: this server stops being a primary without its postmaster
 *	  being restarted.
 *
 * The worker ends with a status that PostgreSQL takes for a crash; the postmaster
 * ends all other processes, makes shared memory anew (zero, hence fenced and
 * sealed), and starts recovery, which finds standby.signal (start.c).  Clients
 * are told to leave before, so that they see an administrator's command and not
 * a crash.
 *
 * Called by "pgraft ha" alone, which holds no lock.  Nothing is lost that was
 * acknowledged: that WAL is flushed, here and at the quorum.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/demote.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/transam.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/backend_status.h"

#include "pgraft/compat.h"
#include "pgraft/ha_executor.h"

#define SESSION_WAIT_MS 200		/* for sessions to end; the crash ends the others */
#define SESSION_LOOK_MS 5
#define DEMOTION_STATUS 2		/* neither 0 nor 1: a crash */

static bool is_session(const LocalPgBackendStatus *local);
static int	compare_pids(const void *a, const void *b);

/* Of background workers only those that have written something. */
static bool
is_session(const LocalPgBackendStatus *local)
{
	switch (local->backendStatus.st_backendType)
	{
		case B_BACKEND:
		case B_AUTOVAC_WORKER:
			return true;
		case B_WAL_SENDER:
			/* logical decoding; those of standbys have no database */
			return OidIsValid(local->backendStatus.st_databaseid);
		default:
			return TransactionIdIsValid(local->backend_xid);
	}
}

int
pgraft_ha_signal_sessions(pid_t *pids)
{
	int			n = 0;
	int			entries;
	int			i;

	pgstat_clear_backend_activity_snapshot();
	entries = pgstat_fetch_stat_numbackends();
	for (i = 1; i <= entries && n < MaxBackends; i++)
	{
		const LocalPgBackendStatus *local = pgraft_local_beentry(i);

		if (local == NULL || local->backendStatus.st_procpid == MyProcPid || !is_session(local))
			continue;
		(void) kill(local->backendStatus.st_procpid, SIGTERM);
		pids[n++] = local->backendStatus.st_procpid;
	}
	qsort(pids, (size_t) n, sizeof(pid_t), compare_pids);
	return n;
}

int
pgraft_ha_count_sessions(const pid_t *pids, int n)
{
	int			left = 0;
	int			entries;
	int			i;

	pgstat_clear_backend_activity_snapshot();
	entries = n > 0 ? pgstat_fetch_stat_numbackends() : 0;
	for (i = 1; i <= entries; i++)
	{
		const LocalPgBackendStatus *local = pgraft_local_beentry(i);
		pid_t		pid = local != NULL ? local->backendStatus.st_procpid : 0;

		if (pid != 0 && bsearch(&pid, pids, (size_t) n, sizeof(pid_t), compare_pids) != NULL)
			left++;
	}
	return left;
}

static int
compare_pids(const void *a, const void *b)
{
	pid_t		first = *(const pid_t *) a;
	pid_t		second = *(const pid_t *) b;

	return (first > second) - (first < second);
}

void
pgraft_ha_end_sessions(void)
{
	pid_t	   *pids = palloc((size_t) MaxBackends * sizeof(pid_t));
	int			n = pgraft_ha_signal_sessions(pids);
	int			waited;

	for (waited = 0; waited < SESSION_WAIT_MS; waited += SESSION_LOOK_MS)
	{
		if (pgraft_ha_count_sessions(pids, n) == 0)
			break;
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, SESSION_LOOK_MS,
						 pgraft_wait_event());
	}
	pfree(pids);
}

void
pgraft_ha_demote(const char *reason)
{
	pgraft_ha_fence_now();
	pg_atomic_write_u64(&pgraft_ha_shared->open_epoch, 0);
	ereport(LOG,
			(errmsg("pgraft demotes this server to a standby: %s", reason)));
	pgraft_ha_end_sessions();
	proc_exit(DEMOTION_STATUS);
}
