/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  The fence: a server that is not in recovery works only while its lease
 *	  runs.
 *
 * Checked by every backend itself, so that a stopped or starving worker cannot
 * leave a deposed primary open.  A statement is checked when it starts, and a
 * transaction that has an id once more before it commits.  Reads of tables are
 * refused, too, because after the lease another server may have newer rows;
 * catalogs and functions stay readable, so that an administrator can look.
 *
 * The check and the commit record are not one atomic step.  What makes an
 * acknowledgement impossible after another promotion is the seal of the
 * standbys; the fence bounds how long a deposed primary serves reads, and
 * keeps it from writing what would only have to be rewound.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/fence.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "tcop/utility.h"

#include "pgraft/ha.h"
#include "pgraft/settings.h"

static void start_executor(QueryDesc *query, int flags);
static void process_utility(PlannedStmt *statement, const char *query_string,
							bool read_only_tree, ProcessUtilityContext context,
							ParamListInfo parameters, QueryEnvironment *environment,
							DestReceiver *destination, QueryCompletion *completion);
static void check_transaction(XactEvent event, void *arg);
static bool touches_tables(const PlannedStmt *statement);
static bool utility_is_fenced(PlannedStmt *statement);
static void refuse(void);

static ExecutorStart_hook_type previous_executor_start = NULL;
static ProcessUtility_hook_type previous_process_utility = NULL;

void
pgraft_ha_install_fence(void)
{
	if (pgraft_ha_disabled("fence"))
		return;
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = start_executor;
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(check_transaction, NULL);
}

bool
pgraft_ha_fenced(void)
{
	if (pgraft_ha_shared == NULL || RecoveryInProgress())
		return false;
	return (uint64) pgraft_boottime_us() >= pg_atomic_read_u64(&pgraft_ha_shared->fence_until);
}

void
pgraft_ha_fence_now(void)
{
	pg_atomic_write_u64(&pgraft_ha_shared->fence_until, 0);
	pg_memory_barrier();
}

static void
start_executor(QueryDesc *query, int flags)
{
	/* workers of a parallel query were checked with their leader */
	if (!IsParallelWorker() && (flags & EXEC_FLAG_EXPLAIN_ONLY) == 0 &&
		pgraft_ha_fenced() && touches_tables(query->plannedstmt))
		refuse();
	if (previous_executor_start)
		previous_executor_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static void
process_utility(PlannedStmt *statement, const char *query_string, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo parameters,
				QueryEnvironment *environment, DestReceiver *destination,
				QueryCompletion *completion)
{
	if (pgraft_ha_fenced() && utility_is_fenced(statement))
		refuse();
	if (previous_process_utility)
		previous_process_utility(statement, query_string, read_only_tree, context,
								 parameters, environment, destination, completion);
	else
		standard_ProcessUtility(statement, query_string, read_only_tree, context,
								parameters, environment, destination, completion);
}

/* Catalogs, views and functions alone do not count. */
static bool
touches_tables(const PlannedStmt *statement)
{
	ListCell   *cell;

	if (statement->commandType != CMD_SELECT || statement->hasModifyingCTE)
		return true;
	foreach(cell, statement->rtable)
	{
		const RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind != RTE_RELATION || entry->relid < FirstNormalObjectId)
			continue;
		if (entry->relkind != RELKIND_VIEW)
			return true;
	}
	return false;
}

/* What changes something, or reads a table on a way of its own. */
static bool
utility_is_fenced(PlannedStmt *statement)
{
	Node	   *tree = statement->utilityStmt;

	if (IsA(tree, TransactionStmt))
	{
		TransactionStmtKind kind = ((TransactionStmt *) tree)->kind;

		/* these two reach no PRE_COMMIT event of their own */
		return kind == TRANS_STMT_COMMIT_PREPARED || kind == TRANS_STMT_ROLLBACK_PREPARED;
	}

	/* of a table it reads it without the executor; of a query, by it */
	if (IsA(tree, CopyStmt) && ((CopyStmt *) tree)->relation != NULL)
		return true;
	return GetCommandLogLevel(tree) <= LOGSTMT_MOD;
}

static void
check_transaction(XactEvent event, void *arg)
{
	(void) arg;
	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PARALLEL_PRE_COMMIT &&
		event != XACT_EVENT_PRE_PREPARE)
		return;
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()) && pgraft_ha_fenced())
		refuse();
}

static void
refuse(void)
{
	PgraftHaDocument *document = palloc(sizeof(PgraftHaDocument));
	PgraftHaMember *primary = NULL;

	pg_atomic_fetch_add_u64(&pgraft_ha_shared->refused, 1);
	pgraft_ha_read_document(document);
	if (document->phase == PGRAFT_HA_STEADY && document->primary != (uint32) pgraft_node_id)
		primary = pgraft_ha_find_member(document, document->primary);
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot execute statement because this server is not the primary of its cluster now"),
			 errdetail("Its lease as primary of epoch %llu has ended.",
					   (unsigned long long) pg_atomic_read_u64(&pgraft_ha_shared->fence_epoch)),
			 primary != NULL ?
			 errhint("Connect to member %u at host \"%s\", port %u.",
					 primary->id, primary->host, primary->port) :
			 errhint("Connect with target_session_attrs=read-write and all members in the connection string, and try again.")));
}
