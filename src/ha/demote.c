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
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"

#include "pgraft/compat.h"
#include "pgraft/ha_executor.h"

#define SESSION_WAIT_MS 200		/* for sessions to end; the crash ends the others */
#define SESSION_LOOK_MS 5
#define DEMOTION_STATUS 2		/* neither 0 nor 1: a crash */

/* Of background workers only those that have written something. */
int
pgraft_ha_signal_sessions(void)
{
	int			n = 0;
	uint32		i;

	for (i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		int			pid = proc->pid;

		if (pid == 0 || pid == MyProcPid || proc->databaseId == InvalidOid ||
			(pgraft_proc_is_background_worker(proc) && !TransactionIdIsValid(proc->xid)))
			continue;
		(void) kill(pid, SIGTERM);
		n++;
	}
	return n;
}

void
pgraft_ha_end_sessions(void)
{
	int			waited;

	for (waited = 0; waited < SESSION_WAIT_MS; waited += SESSION_LOOK_MS)
	{
		if (pgraft_ha_signal_sessions() == 0)
			return;
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, SESSION_LOOK_MS,
						 pgraft_wait_event());
	}
}

void
pgraft_ha_demote(const char *reason)
{
	pgraft_ha_fence_now();
	pg_atomic_write_u64(&pgraft_ha_shared->open_epoch, 0);
	ereport(LOG,
			(errmsg("pgraft demotes this server to a standby: %s", reason)));
	pgraft_ha_end_sessions();

	/* what synchronous_commit = off has left in memory: a page, then the rest */
	if (!RecoveryInProgress())
	{
		(void) XLogBackgroundFlush();
		(void) XLogBackgroundFlush();
	}
	proc_exit(DEMOTION_STATUS);
}
