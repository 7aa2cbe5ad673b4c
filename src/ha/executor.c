/*-------------------------------------------------------------------------
 *
 * executor.c
 *	  The "pgraft ha" worker: brings this server to what the cluster document
 *	  wants.
 *
 * One loop without a database connection.  Each turn compares the document with
 * what this server is and takes one step; every step can be taken again, so
 * after an error or a restart of this process it simply goes on.  What this
 * process knows is in shared memory (PgraftHaLocal) and, as far as a crash of
 * the server must not take it away, in local_state.c.
 *
 * It may block: for the answer to a proposal, for a checkpoint, for sessions to
 * end.  Nothing else waits for it: the fence and, but for the last WAL of a
 * primary that was shut down, the seal are closed by the consensus worker the
 * moment it applies a newer epoch.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/executor.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"

#include "pgraft/compat.h"
#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

#include "executor_internal.h"

#define PROPOSE_TIMEOUT_MS 1000
#define ERROR_PAUSE_MS 100
#define TELL_AGAIN_MS 1000		/* commands that may have been lost */

PGDLLEXPORT void pgraft_ha_main(Datum main_arg);

static void set_up(void);
static void at_exit(int code, Datum arg);
static long turn(void);
static long step(void);
static bool is_primary_of_epoch(void);
static void announce(void);
static void note_hosts(void);
static void refresh_wal(void);

PgraftHaTurn pgraft_ha_turn;

static PgraftHaTurn *const here = &pgraft_ha_turn;
static raft_time last_announced = 0;

static const char *const role_names[] = {
	"starting", "standby", "sealed", "promoting", "primary", "demoting", "rewind", "failed"
};

const char *
pgraft_ha_role_name(int role)
{
	if (role < 0 || role >= (int) lengthof(role_names))
		return "starting";
	return role_names[role];
}

/* ----------------------------------------------------------------
 * Process
 * ----------------------------------------------------------------
 */

void
pgraft_ha_main(Datum main_arg)
{
	sigjmp_buf	on_error;
	MemoryContext context;

	(void) main_arg;
	set_up();
	context = AllocSetContextCreate(TopMemoryContext, "pgraft ha", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	if (sigsetjmp(on_error, 1) != 0)
	{
		/* an error ends the turn, not the process */
		error_context_stack = NULL;
		HOLD_INTERRUPTS();
		EmitErrorReport();
		LWLockReleaseAll();
		ConditionVariableCancelSleep();
		pgstat_report_wait_end();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		MemoryContextReset(context);
		RESUME_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ERROR_PAUSE_MS,
						 pgraft_wait_event());
	}
	PG_exception_stack = &on_error;

	while (!ShutdownRequestPending)
	{
		long		pause = turn();

		MemoryContextReset(context);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause,
						 pgraft_wait_event());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	proc_exit(1);
}

static void
set_up(void)
{
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	(void) pgraft_dsa();
	before_shmem_exit(at_exit, (Datum) 0);
	SpinLockAcquire(&pgraft_ha_shared->latch_lock);
	pgraft_ha_shared->ha_latch = MyLatch;
	SpinLockRelease(&pgraft_ha_shared->latch_lock);

	/* what an earlier process of this server's life knew */
	pgraft_ha_read_local(&here->local);
	here->local.worker_pid = MyProcPid;
	(void) pgraft_ha_read_wal(&here->wal);
	pgraft_ha_publish();
}

static void
at_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	SpinLockAcquire(&pgraft_ha_shared->latch_lock);
	pgraft_ha_shared->ha_latch = NULL;
	SpinLockRelease(&pgraft_ha_shared->latch_lock);
	here->local.worker_pid = 0;
	pgraft_ha_publish();
}

static long
turn(void)
{
	long		pause;

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}

	/* first: what is copied then is at least what was said to be complete */
	here->loaded = pgraft_ha_shared->document_loaded != 0;
	pg_read_barrier();
	pgraft_ha_read_document(&here->document);
	refresh_wal();
	pause = step();
	pgraft_ha_tell_role(&here->local, &here->document);
	return pause;
}

static void
refresh_wal(void)
{
	uint64		received = pg_atomic_read_u64(&pgraft_ha_shared->received_epoch);

	if (received != 0 && received != here->wal.epoch && RecoveryInProgress())
		(void) pgraft_ha_read_wal(&here->wal);
	here->local.wal_epoch = here->wal.epoch;
	here->local.wal_tag = here->wal.tag;
}

void
pgraft_ha_set_role(int role, const char *action)
{
	if (here->local.role == role && strcmp(here->local.action, action) == 0)
		return;
	if (here->local.role != role)
	{
		ereport(DEBUG1,
				(errmsg_internal("pgraft: this server goes from %s to %s",
								 pgraft_ha_role_name(here->local.role), pgraft_ha_role_name(role))));
		here->local.role_since = GetCurrentTimestamp();
		set_ps_display(pgraft_ha_role_name(role));
	}
	here->local.role = role;
	strlcpy(here->local.action, action, sizeof(here->local.action));
	pgraft_ha_publish();
}

void
pgraft_ha_publish(void)
{
	pgraft_ha_publish_local(&here->local);
}

bool
pgraft_ha_try_propose(PgraftHaCommand *command)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;

	if (command->epoch == 0)
		command->epoch = here->document.epoch;
	if (command->member == 0)
		command->member = (uint32) pgraft_node_id;
	command->time = pgraft_unix_us();
	PG_TRY();
	{
		int			verdict = pgraft_ha_propose(command, PROPOSE_TIMEOUT_MS);

		done = verdict == PGRAFT_HA_DONE || verdict == PGRAFT_HA_UNCHANGED;
	}
	PG_CATCH();
	{
		/* no leader, outcome unknown: the document will tell, or it is said again */
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return done;
}

/* Not more often than TELL_AGAIN_MS. */
bool
pgraft_ha_may_tell(raft_time *last)
{
	raft_time	now = pgraft_monotonic_ms();

	if (*last != 0 && now - *last < TELL_AGAIN_MS)
		return false;
	*last = now;
	return true;
}

/* ----------------------------------------------------------------
 * One step
 * ----------------------------------------------------------------
 */

/* Returns in how many milliseconds to look again, unless woken before. */
static long
step(void)
{
	if (!here->loaded)
	{
		if (here->local.role != PGRAFT_HA_ROLE_PRIMARY)
			pgraft_ha_set_role(PGRAFT_HA_ROLE_STARTING, "waiting for the cluster document");
		return NEAR_MS;
	}

	/* before anything else, above all before the names could release a commit */
	if (!RecoveryInProgress() && !is_primary_of_epoch())
		return pgraft_ha_primary_step();
	if (pgraft_ha_apply_sync(&here->document) &&
		here->local.sync_generation != here->document.sync_generation)
	{
		here->local.sync_generation = here->document.sync_generation;
		pgraft_ha_publish();
	}
	announce();
	note_hosts();
	return RecoveryInProgress() ? pgraft_ha_standby_step() : pgraft_ha_primary_step();
}

/* Out of recovery, and rightly so. */
static bool
is_primary_of_epoch(void)
{
	return here->document.phase != PGRAFT_HA_NONE && here->document.phase != PGRAFT_HA_SEALING &&
		here->document.primary == (uint32) pgraft_node_id && here->wal.epoch == here->document.epoch;
}

/* Tells the cluster where this server is, once it is a member. */
static void
announce(void)
{
	const PgraftHaMember *known = pgraft_ha_find_member(&here->document, (uint32) pgraft_node_id);
	const char *host = pgraft_postgres_address[0] != '\0' ? pgraft_postgres_address :
		pgraft_address;
	PgraftStatus status;
	PgraftMembers *members;
	PgraftHaCommand command;
	int			i;

	pgraft_read_status(&status);
	if (status.worker_state != PGRAFT_WORKER_RUNNING ||
		(known != NULL && known->incarnation == status.raft.incarnation &&
		 known->port == (uint32) PostPortNumber && strcmp(known->host, host) == 0 &&
		 known->priority == pgraft_failover_priority) ||
		!pgraft_ha_may_tell(&last_announced))
		return;
	memset(&command, 0, sizeof(command));
	members = palloc(sizeof(PgraftMembers));
	pgraft_read_members(members);
	for (i = 0; i < members->n_members; i++)
	{
		if (members->members[i].member.id != (raft_id) pgraft_node_id)
			continue;
		if (members->members[i].member.role == RAFT_WITNESS ||
			members->members[i].member.target_role == RAFT_WITNESS)
			return;
		command.priority = pgraft_failover_priority;
		command.kind = PGRAFT_HA_MEMBER;
	}
	pfree(members);
	if (command.kind == 0)
		return;
	command.port = (uint32) PostPortNumber;
	command.system_identifier = GetSystemIdentifier();
	strlcpy(command.host, host, sizeof(command.host));
	(void) pgraft_ha_try_propose(&command);
}

/* For pgraftctl rejoin, which has no server to ask. */
static void
note_hosts(void)
{
	static uint64 seen = 0;
	static char *noted = NULL;
	StringInfoData hosts;
	StringInfoData ports;
	int			i;

	if (seen == here->document.changes || here->document.n_members == 0)
		return;
	initStringInfo(&hosts);
	initStringInfo(&ports);
	for (i = 0; i < here->document.n_members; i++)
	{
		appendStringInfo(&hosts, "%s%s", i > 0 ? "," : "host=", here->document.members[i].host);
		appendStringInfo(&ports, "%s%u", i > 0 ? "," : " port=", here->document.members[i].port);
	}
	appendStringInfo(&hosts, "%s\n", ports.data);
	if (noted == NULL || strcmp(noted, hosts.data) != 0)
	{
		pgraft_ha_create_file(pgraft_ha_path("hosts"), hosts.data);
		if (noted != NULL)
			pfree(noted);
		noted = MemoryContextStrdup(TopMemoryContext, hosts.data);
	}
	seen = here->document.changes;
}

/* A command that says where the local WAL ends, which must be known. */
void
pgraft_ha_fill_position(PgraftHaCommand *command, int kind)
{
	memset(command, 0, sizeof(*command));
	command->kind = kind;
	command->wal_epoch = here->wal.epoch;
	command->tag = here->wal.tag;
	command->timeline = here->local.timeline;
	command->lsn = here->local.lsn;
}
