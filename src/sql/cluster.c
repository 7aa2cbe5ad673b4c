/*-------------------------------------------------------------------------
 *
 * cluster.c
 *	  SQL functions about the cluster: making it, its members, its leader.
 *
 * Called in backends.  What changes something is a request to the worker,
 * which forwards it to the leader; what only looks reads the status block.
 *
 * Membership is not transactional: ROLLBACK does not undo it.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/sql/cluster.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "pgraft/compat.h"
#include "pgraft/settings.h"
#include "pgraft/version.h"

#include "support.h"

PG_FUNCTION_INFO_V1(pgraft_sql_init);
PG_FUNCTION_INFO_V1(pgraft_sql_add_node);
PG_FUNCTION_INFO_V1(pgraft_sql_remove_node);
PG_FUNCTION_INFO_V1(pgraft_sql_update_node);
PG_FUNCTION_INFO_V1(pgraft_sql_promote_learner);
PG_FUNCTION_INFO_V1(pgraft_sql_transfer_leadership);
PG_FUNCTION_INFO_V1(pgraft_sql_step_down);
PG_FUNCTION_INFO_V1(pgraft_sql_is_leader);
PG_FUNCTION_INFO_V1(pgraft_sql_get_leader);
PG_FUNCTION_INFO_V1(pgraft_sql_get_term);
PG_FUNCTION_INFO_V1(pgraft_sql_get_state);
PG_FUNCTION_INFO_V1(pgraft_sql_get_worker_state);
PG_FUNCTION_INFO_V1(pgraft_sql_get_version);
PG_FUNCTION_INFO_V1(pgraft_sql_get_cluster_status);
PG_FUNCTION_INFO_V1(pgraft_sql_get_nodes);
PG_FUNCTION_INFO_V1(pgraft_sql_wait_for_leader);
PG_FUNCTION_INFO_V1(pgraft_sql_wait_applied);

static PgraftCall request(PgraftRequestKind kind, uint64 argument,
						  const struct raft_member *member);
static void begin_change(void);

/* ----------------------------------------------------------------
 * Changes
 * ----------------------------------------------------------------
 */

/* True when this call made the cluster, false when there was one already. */
Datum
pgraft_sql_init(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	begin_change();
	PG_RETURN_BOOL(request(PGRAFT_REQUEST_INIT, 0, NULL).flag != 0);
}

Datum
pgraft_sql_add_node(PG_FUNCTION_ARGS)
{
	struct raft_member member;

	begin_change();
	memset(&member, 0, sizeof(member));
	member.id = pgraft_argument_node_id(fcinfo, 0);
	pgraft_argument_address(fcinfo, 1, member.address);
	member.port = pgraft_argument_port(fcinfo, 2);
	member.role = pgraft_argument_role(fcinfo, 3);
	pgraft_argument_name(fcinfo, 4, member.name);

	(void) request(PGRAFT_REQUEST_ADD_MEMBER, member.id, &member);
	PG_RETURN_BOOL(true);
}

Datum
pgraft_sql_remove_node(PG_FUNCTION_ARGS)
{
	begin_change();
	(void) request(PGRAFT_REQUEST_REMOVE_MEMBER, pgraft_argument_node_id(fcinfo, 0), NULL);
	PG_RETURN_BOOL(true);
}

Datum
pgraft_sql_update_node(PG_FUNCTION_ARGS)
{
	struct raft_member member;

	begin_change();
	memset(&member, 0, sizeof(member));
	member.id = pgraft_argument_node_id(fcinfo, 0);
	pgraft_argument_address(fcinfo, 1, member.address);
	member.port = pgraft_argument_port(fcinfo, 2);
	pgraft_argument_name(fcinfo, 3, member.name);
	member.priority = -1;		/* keep */

	(void) request(PGRAFT_REQUEST_UPDATE_MEMBER, member.id, &member);
	PG_RETURN_BOOL(true);
}

Datum
pgraft_sql_promote_learner(PG_FUNCTION_ARGS)
{
	begin_change();
	(void) request(PGRAFT_REQUEST_PROMOTE_MEMBER, pgraft_argument_node_id(fcinfo, 0), NULL);
	PG_RETURN_BOOL(true);
}

/* Without a node id, to the voter that has the most of the log. */
Datum
pgraft_sql_transfer_leadership(PG_FUNCTION_ARGS)
{
	raft_id		target = 0;

	begin_change();
	if (!PG_ARGISNULL(0))
		target = pgraft_argument_node_id(fcinfo, 0);
	(void) request(PGRAFT_REQUEST_TRANSFER, target, NULL);
	PG_RETURN_BOOL(true);
}

Datum
pgraft_sql_step_down(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	begin_change();
	(void) request(PGRAFT_REQUEST_STEP_DOWN, 0, NULL);
	PG_RETURN_BOOL(true);
}

static void
begin_change(void)
{
	pgraft_require_preloaded();
	pgraft_refuse_parallel();
}

static PgraftCall
request(PgraftRequestKind kind, uint64 argument, const struct raft_member *member)
{
	PgraftCall	call;

	memset(&call, 0, sizeof(call));
	call.kind = kind;
	call.argument = argument;
	call.data = member;
	call.length = (member != NULL) ? sizeof(*member) : 0;
	pgraft_call(&call);
	return call;
}

/* ----------------------------------------------------------------
 * Looking
 * ----------------------------------------------------------------
 */

Datum
pgraft_sql_is_leader(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_BOOL(pgraft_status_is_leader());
}

Datum
pgraft_sql_get_leader(PG_FUNCTION_ARGS)
{
	PgraftStatus status;

	(void) fcinfo;
	pgraft_require_preloaded();
	pgraft_read_status(&status);
	if (status.worker_state != PGRAFT_WORKER_RUNNING || status.raft.leader == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(status.raft.leader);
}

Datum
pgraft_sql_get_term(PG_FUNCTION_ARGS)
{
	PgraftStatus status;

	(void) fcinfo;
	pgraft_require_preloaded();
	pgraft_read_status(&status);
	PG_RETURN_INT64((int64) status.raft.term);
}

/* The role in the election; of a worker that takes no part, its own state. */
static const char *
member_state(const PgraftStatus *status)
{
	if (status->worker_state == PGRAFT_WORKER_RUNNING)
		return raft_state_name(status->raft.state);
	return pgraft_worker_state_name(status->worker_state);
}

Datum
pgraft_sql_get_state(PG_FUNCTION_ARGS)
{
	PgraftStatus status;

	(void) fcinfo;
	pgraft_require_preloaded();
	pgraft_read_status(&status);
	PG_RETURN_TEXT_P(cstring_to_text(member_state(&status)));
}

Datum
pgraft_sql_get_worker_state(PG_FUNCTION_ARGS)
{
	PgraftStatus status;

	(void) fcinfo;
	pgraft_require_preloaded();
	pgraft_read_status(&status);
	PG_RETURN_TEXT_P(cstring_to_text(pgraft_worker_state_name(status.worker_state)));
}

/* Works without preloading, too: that is when one wants to know. */
Datum
pgraft_sql_get_version(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_TEXT_P(cstring_to_text(PGRAFT_VERSION));
}

Datum
pgraft_sql_get_cluster_status(PG_FUNCTION_ARGS)
{
	PgraftStatus status;
	PgraftRow	row;
	bool		running;

	pgraft_require_preloaded();
	pgraft_read_status(&status);
	running = (status.worker_state == PGRAFT_WORKER_RUNNING);

	pgraft_row_begin(&row);
	if (pgraft_node_id > 0)
		pgraft_row_int(&row, pgraft_node_id);
	else
		pgraft_row_null(&row);
	pgraft_row_u64(&row, status.raft.term);
	pgraft_row_id(&row, running ? status.raft.leader : 0);
	pgraft_row_string(&row, member_state(&status));
	pgraft_row_int(&row, status.num_nodes);
	pgraft_row_u64(&row, status.raft.messages_received);
	pgraft_row_u64(&row, status.raft.heartbeats_sent);
	pgraft_row_u64(&row, status.raft.elections_started);
	return pgraft_row_result(&row, fcinfo);
}

Datum
pgraft_sql_get_nodes(PG_FUNCTION_ARGS)
{
	PgraftStatus status;
	PgraftMembers members;
	int			i;

	pgraft_require_preloaded();
	pgraft_read_status(&status);
	pgraft_read_members(&members);
	InitMaterializedSRF(fcinfo, 0);

	for (i = 0; i < members.n_members; i++)
	{
		const struct raft_member *member = &members.members[i].member;
		PgraftRow	row;

		pgraft_row_begin(&row);
		pgraft_row_int(&row, (int) member->id);
		pgraft_row_string(&row, member->address);
		pgraft_row_int(&row, (int) member->port);
		pgraft_row_bool(&row, status.worker_state == PGRAFT_WORKER_RUNNING &&
						member->id == status.raft.leader);
		pgraft_row_string(&row, raft_role_name(member->role));
		pgraft_row_string(&row, member->name);
		pgraft_row_store(&row, fcinfo);
	}
	return (Datum) 0;
}

/* ----------------------------------------------------------------
 * Waiting
 * ----------------------------------------------------------------
 */

/* NULL when no leader is known in time. */
Datum
pgraft_sql_wait_for_leader(PG_FUNCTION_ARGS)
{
	int			timeout_ms = pgraft_argument_timeout(fcinfo, 0);
	PgraftStatus status;

	pgraft_require_preloaded();
	if (!pgraft_wait_for_status(0, true, timeout_ms))
		PG_RETURN_NULL();
	pgraft_read_status(&status);

	/* it may have been lost again in between */
	if (status.raft.leader == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(status.raft.leader);
}

/* False when this member has not applied the entry in time. */
Datum
pgraft_sql_wait_applied(PG_FUNCTION_ARGS)
{
	int			timeout_ms;
	int64		log_index;

	pgraft_argument_required(fcinfo, 0, "index");
	log_index = PG_GETARG_INT64(0);
	timeout_ms = pgraft_argument_timeout(fcinfo, 1);
	if (log_index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be negative", "index")));
	pgraft_require_preloaded();
	PG_RETURN_BOOL(pgraft_wait_for_status((uint64) log_index, false, timeout_ms));
}
