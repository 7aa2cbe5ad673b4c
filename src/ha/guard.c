/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  No false acknowledgement: a client must not be told COMMIT for what the
 *	  quorum of standbys does not have.
 *
 * PostgreSQL lets a synchronous wait be cancelled and reports success with a
 * warning.  Here the position that the quorum has confirmed is compared with
 * the commit's, and where it is short the client loses its connection without
 * an answer: its outcome is unknown, which is the truth.
 *
 * Runs in the committing backend, at the events COMMIT and PREPARE and after
 * COMMIT PREPARED and ROLLBACK PREPARED.  By then the transaction is on disk:
 * no error may be raised.  The end is requested, not executed; it happens
 * before anything more is sent.
 *
 * In the extended protocol the command's completion is in the send buffer
 * before the commit begins, and PostgreSQL's warning of the cancelled wait sends
 * it off.  There the acknowledgement is ReadyForQuery, which does not come.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/guard.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"

#include "pgraft/compat.h"
#include "pgraft/ha.h"

#define PREPARE_POLL_US 500		/* between two looks at the quorum's position */
#define PREPARE_WAIT_MS 10000	/* for a position somewhat beyond the own record */

static void after_transaction(XactEvent event, void *arg);
static void process_utility(PlannedStmt *statement, const char *query_string,
							bool read_only_tree, ProcessUtilityContext context,
							ParamListInfo parameters, QueryEnvironment *environment,
							DestReceiver *destination, QueryCompletion *completion);
static bool quorum_is_asked(void);
static int	wait_mode(void);
static bool quorum_has(XLogRecPtr lsn);
static bool quorum_gets(XLogRecPtr lsn);
static void withhold_answer(void);

static ProcessUtility_hook_type previous_process_utility = NULL;

void
pgraft_ha_install_guard(void)
{
	if (pgraft_ha_disabled("guard"))
		return;
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(after_transaction, NULL);
}

static void
after_transaction(XactEvent event, void *arg)
{
	(void) arg;
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE)
		return;

	/*
	 * A synchronous wait that saw the postmaster die has given up its client and
	 * wants to end, but requests no interrupt: the main loop would read standard
	 * input for the next command.  Where that is a terminal or a pipe, the
	 * process would stay, and its shared memory keep the next server from
	 * starting.
	 */
	if (ProcDiePending)
		InterruptPending = true;
	if (whereToSendOutput != DestRemote || RecoveryInProgress() || !quorum_is_asked())
		return;
	if (event == XACT_EVENT_COMMIT)
	{
		/* a reader that pruned a page has written WAL, but nothing to lose */
		if (TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
			!quorum_has(XactLastCommitEnd))
			withhold_answer();
	}
	else if (!quorum_gets(GetFlushRecPtr(NULL)))
		withhold_answer();
}

/* The outer transaction of these has no id and writes nothing itself. */
static void
process_utility(PlannedStmt *statement, const char *query_string, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo parameters,
				QueryEnvironment *environment, DestReceiver *destination,
				QueryCompletion *completion)
{
	bool		ends_prepared = false;

	if (IsA(statement->utilityStmt, TransactionStmt))
	{
		TransactionStmtKind kind = ((TransactionStmt *) statement->utilityStmt)->kind;

		ends_prepared = kind == TRANS_STMT_COMMIT_PREPARED ||
			kind == TRANS_STMT_ROLLBACK_PREPARED;
	}
	if (previous_process_utility)
		previous_process_utility(statement, query_string, read_only_tree, context,
								 parameters, environment, destination, completion);
	else
		standard_ProcessUtility(statement, query_string, read_only_tree, context,
								parameters, environment, destination, completion);
	if (ends_prepared && whereToSendOutput == DestRemote && quorum_is_asked() &&
		!quorum_has(XactLastRecEnd))
		withhold_answer();
}

/* Whether this session's commits wait for standbys at all. */
static bool
quorum_is_asked(void)
{
	return SyncRepRequested() && pgraft_sync_standbys_defined();
}

static int
wait_mode(void)
{
	if (synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_WRITE)
		return SYNC_REP_WAIT_WRITE;
	if (synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_APPLY)
		return SYNC_REP_WAIT_APPLY;
	return SYNC_REP_WAIT_FLUSH;
}

/*
 * When the last standby is no longer waited for, the checkpointer wakes whoever
 * waits before it says so, both under the lock.
 */
static bool
quorum_has(XLogRecPtr lsn)
{
	bool		has;

	LWLockAcquire(SyncRepLock, LW_SHARED);
	has = WalSndCtl->lsn[wait_mode()] >= lsn || !pgraft_sync_standbys_defined();
	LWLockRelease(SyncRepLock);
	return has;
}

/*
 * Where the record of a PREPARE ends is kept nowhere, so this waits for a
 * position that is certainly not before it: PREPARE has flushed its record, and
 * everything flushed is sent.  As a rule it is reached already.
 */
static bool
quorum_gets(XLogRecPtr lsn)
{
	int			waits = PREPARE_WAIT_MS * 1000 / PREPARE_POLL_US;

	if (quorum_has(lsn))
		return true;
	while (!ProcDiePending && !QueryCancelPending && waits-- > 0)
	{
		if (quorum_has(lsn))
			return true;
		pg_usleep(PREPARE_POLL_US);
	}
	return false;
}

static void
withhold_answer(void)
{
	whereToSendOutput = DestNone;
	ProcDiePending = true;
	InterruptPending = true;
	pg_atomic_fetch_add_u64(&pgraft_ha_shared->guarded, 1);
}
