/*-------------------------------------------------------------------------
 *
 * ha.c
 *	  SQL functions of high availability: who is the primary, and an operator's
 *	  wishes.
 *
 * Called in backends, on the primary and on standbys alike.  A wish is a
 * command for the cluster document; those that end in another primary wait
 * until there is one.  What is asked of this server alone comes from shared
 * memory.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/sql/ha.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "pgraft/compat.h"
#include "pgraft/ha.h"
#include "pgraft/settings.h"

#include "support.h"

PG_FUNCTION_INFO_V1(pgraft_sql_switchover);
PG_FUNCTION_INFO_V1(pgraft_sql_cancel_switchover);
PG_FUNCTION_INFO_V1(pgraft_sql_failover);
PG_FUNCTION_INFO_V1(pgraft_sql_fence);
PG_FUNCTION_INFO_V1(pgraft_sql_pause);
PG_FUNCTION_INFO_V1(pgraft_sql_resume);
PG_FUNCTION_INFO_V1(pgraft_sql_is_primary);
PG_FUNCTION_INFO_V1(pgraft_sql_get_primary);
PG_FUNCTION_INFO_V1(pgraft_sql_connection_string);
PG_FUNCTION_INFO_V1(pgraft_sql_stat_ha);
PG_FUNCTION_INFO_V1(pgraft_sql_ha_member_list);
PG_FUNCTION_INFO_V1(pgraft_sql_ha_history);

#define POLL_MS 20				/* between two looks at the document */
/* then the old primary is primary again */
#define SWITCHOVER_SECONDS ((int) (PGRAFT_HA_SWITCHOVER_PATIENCE / 1000000))
/* microseconds between the two epochs of time, Unix's and PostgreSQL's */
#define EPOCH_DIFFERENCE \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * USECS_PER_SEC)
#define FAILOVER_SECONDS 30		/* that the caller waits for a new primary */

static PgraftHaDocument *require_document(void);
static PgraftHaDocument *begin_wish(PgraftHaCommand *command, PgraftHaCommandKind kind);
static void require_member(PgraftHaDocument *document, uint32 id);
static void carry_out(const PgraftHaDocument *document, const PgraftHaCommand *command);
static uint32 wait_for_primary(uint64 after_epoch, int seconds);
static PgraftHaDocument *read_document(void);
static bool is_working_primary(void);
static void append_value(StringInfo text, const char *value);
static Datum array_of_ids(const PgraftHaSyncSet *set);
static const char *own_role(PgraftHaDocument *document, const PgraftHaLocal *local);
static void member_name(const PgraftMembers *members, uint32 id, char *name);
static TimestampTz timestamp_of_unix(int64 microseconds);
static int64 unix_of_timestamp(TimestampTz moment);
static int	waiting_clients(void);

/* ----------------------------------------------------------------
 * Wishes
 * ----------------------------------------------------------------
 */

/* A copy; ERROR where there is no cluster with a primary yet. */
static PgraftHaDocument *
require_document(void)
{
	PgraftHaDocument *document;

	pgraft_require_preloaded();
	pgraft_refuse_parallel();
	if (pgraft_ha_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this server does not run in HA mode"),
				 errhint("Set \"pgraft.mode\" to \"ha\" and restart the server.")));
	document = read_document();
	if (document->phase == PGRAFT_HA_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the cluster has no primary yet"),
				 errhint("Call pgraft_init() on the first member, and wait until it is the primary.")));
	return document;
}

/* The same, and a command of that kind for it. */
static PgraftHaDocument *
begin_wish(PgraftHaCommand *command, PgraftHaCommandKind kind)
{
	PgraftHaDocument *document = require_document();

	memset(command, 0, sizeof(*command));
	command->kind = kind;
	command->epoch = document->epoch;
	command->time = pgraft_unix_us();
	return document;
}

static void
require_member(PgraftHaDocument *document, uint32 id)
{
	if (pgraft_ha_find_member(document, id) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("member %u has no PostgreSQL server that can become primary", id),
				 errhint("See pgraft_ha_members().")));
}

/*
 * The verdict comes without a reason: the same command applied to a copy of
 * the same document tells it.
 */
static void
carry_out(const PgraftHaDocument *document, const PgraftHaCommand *command)
{
	PgraftHaDocument *copy = palloc(sizeof(PgraftHaDocument));
	int			verdict = pgraft_ha_propose(command, 0);
	const char *why;

	if (verdict == PGRAFT_HA_DONE || verdict == PGRAFT_HA_UNCHANGED)
		return;
	*copy = *document;
	if (pgraft_ha_document_apply(copy, command, &why) == PGRAFT_HA_DONE)
		why = "the cluster changed in the meantime";
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the cluster refused the command \"%s\"",
					pgraft_ha_command_name(command->kind)),
			 errdetail("The reason is: %s.", why),
			 errhint("See pg_stat_pgraft_ha and pgraft_ha_members().")));
}

/* ERROR when there is none in time; what was begun goes on all the same. */
static uint32
wait_for_primary(uint64 after_epoch, int seconds)
{
	raft_time	end = pgraft_monotonic_ms() + (raft_time) seconds * 1000;
	PgraftHaDocument *document = palloc(sizeof(PgraftHaDocument));

	for (;;)
	{
		pgraft_ha_read_document(document);
		if (document->phase == PGRAFT_HA_STEADY && document->epoch > after_epoch)
			return document->primary;
		if (document->phase == PGRAFT_HA_STEADY && document->epoch == after_epoch)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the switchover was given up"),
					 errdetail("Member %u is still the primary.", document->primary)));
		if (pgraft_monotonic_ms() >= end)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("there was no new primary within %d seconds", seconds),
					 errdetail("The cluster is in phase \"%s\" of epoch %llu and goes on trying.",
							   pgraft_ha_phase_name(document->phase),
							   (unsigned long long) document->epoch),
					 errhint("pgraft_ha_members() shows which members have not reported.")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS,
						 pgraft_wait_event());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Without a target, to whoever has everything first. */
Datum
pgraft_sql_switchover(PG_FUNCTION_ARGS)
{
	PgraftHaCommand command;
	PgraftHaDocument *document = begin_wish(&command, PGRAFT_HA_SWITCHOVER);

	if (!PG_ARGISNULL(0))
	{
		command.member = pgraft_argument_node_id(fcinfo, 0);
		require_member(document, command.member);
	}
	if (!PG_ARGISNULL(1))
	{
		TimestampTz at = PG_GETARG_TIMESTAMPTZ(1);

		if (TIMESTAMP_NOT_FINITE(at) || unix_of_timestamp(at) <= command.time)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a switchover can only be scheduled for a time to come"),
					 errhint("Leave \"at\" out for a switchover now.")));
		command.kind = PGRAFT_HA_SCHEDULE;
		command.patience = unix_of_timestamp(at) - command.time;
		carry_out(document, &command);
		PG_RETURN_NULL();
	}
	command.patience = PGRAFT_HA_SWITCHOVER_PATIENCE;
	command.generation = document->switchover_serial;
	carry_out(document, &command);

	/* on the old primary the session ends here, with its server's demotion */
	PG_RETURN_INT32((int32) wait_for_primary(document->epoch, SWITCHOVER_SECONDS + 10));
}

/* True when there was one. */
Datum
pgraft_sql_cancel_switchover(PG_FUNCTION_ARGS)
{
	PgraftHaCommand command;
	PgraftHaDocument *document = begin_wish(&command, PGRAFT_HA_CANCEL_SCHEDULE);

	(void) fcinfo;
	carry_out(document, &command);
	PG_RETURN_BOOL(document->scheduled_at != 0);
}

Datum
pgraft_sql_failover(PG_FUNCTION_ARGS)
{
	PgraftHaCommand command;
	PgraftHaDocument *document = begin_wish(&command, PGRAFT_HA_BEGIN_EPOCH);

	command.forced = true;
	if (!PG_ARGISNULL(1) && PG_GETARG_BOOL(1))
	{
		pgraft_argument_required(fcinfo, 0, "target");
		command.kind = PGRAFT_HA_FORCE;
		command.member = pgraft_argument_node_id(fcinfo, 0);
		require_member(document, command.member);
		strlcpy(command.reason, "failover by an operator, loss accepted",
				sizeof(command.reason));
	}
	else if (!PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a failover without loss of data cannot choose its target"),
				 errdetail("The member with the newest data becomes primary."),
				 errhint("Use pgraft_switchover() while the primary works, or leave the target out.  With allow_data_loss the target becomes primary with what it has.")));
	else
		strlcpy(command.reason, "failover by an operator", sizeof(command.reason));
	carry_out(document, &command);
	PG_RETURN_INT32((int32) wait_for_primary(document->epoch, FAILOVER_SECONDS));
}

/* The primary acknowledges nothing more, and the cluster chooses anew. */
Datum
pgraft_sql_fence(PG_FUNCTION_ARGS)
{
	PgraftHaCommand command;
	PgraftHaDocument *document = begin_wish(&command, PGRAFT_HA_BEGIN_EPOCH);

	(void) fcinfo;
	command.forced = true;
	strlcpy(command.reason, "fenced by an operator", sizeof(command.reason));
	if (document->primary == (uint32) pgraft_node_id)
		pgraft_ha_fence_now();
	carry_out(document, &command);
	PG_RETURN_BOOL(true);
}

static bool
set_paused(PgraftHaCommandKind kind)
{
	PgraftHaCommand command;
	PgraftHaDocument *document = begin_wish(&command, kind);

	carry_out(document, &command);
	return document->paused != (kind == PGRAFT_HA_PAUSE);
}

/* True when this call changed it. */
Datum
pgraft_sql_pause(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_BOOL(set_paused(PGRAFT_HA_PAUSE));
}

Datum
pgraft_sql_resume(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_BOOL(set_paused(PGRAFT_HA_RESUME));
}

/* ----------------------------------------------------------------
 * Questions
 * ----------------------------------------------------------------
 */

static PgraftHaDocument *
read_document(void)
{
	PgraftHaDocument *document = palloc(sizeof(PgraftHaDocument));

	pgraft_ha_read_document(document);
	return document;
}

/* Accepts writes now. */
static bool
is_working_primary(void)
{
	return pgraft_ha_shared != NULL && !RecoveryInProgress() && !pgraft_ha_fenced();
}

Datum
pgraft_sql_is_primary(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_BOOL(is_working_primary());
}

/* As far as this member knows; NULL while there is none. */
Datum
pgraft_sql_get_primary(PG_FUNCTION_ARGS)
{
	PgraftHaDocument *document;

	if (pgraft_ha_shared == NULL)
		PG_RETURN_NULL();
	document = read_document();
	if (document->phase != PGRAFT_HA_STEADY && document->phase != PGRAFT_HA_DRAINING)
		PG_RETURN_NULL();
	PG_RETURN_INT32((int32) document->primary);
}

/* libpq's quoting of a value. */
static void
append_value(StringInfo text, const char *value)
{
	bool		quoted = value[0] == '\0' || strpbrk(value, " '\\") != NULL;

	if (quoted)
		appendStringInfoChar(text, '\'');
	for (; *value != '\0'; value++)
	{
		if (*value == '\'' || *value == '\\')
			appendStringInfoChar(text, '\\');
		appendStringInfoChar(text, *value);
	}
	if (quoted)
		appendStringInfoChar(text, '\'');
}

Datum
pgraft_sql_connection_string(PG_FUNCTION_ARGS)
{
	PgraftHaDocument *document = require_document();
	char	   *mode = PG_ARGISNULL(0) ? pstrdup("any") : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		one = strcmp(mode, "primary") == 0;
	StringInfoData hosts;
	StringInfoData ports;
	StringInfoData text;
	int			i;

	if (!one && strcmp(mode, "any") != 0 && strcmp(mode, "read-write") != 0 &&
		strcmp(mode, "standby") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized mode \"%s\"", mode),
				 errhint("Use \"any\", \"read-write\", \"standby\" or \"primary\".")));
	initStringInfo(&hosts);
	initStringInfo(&ports);
	initStringInfo(&text);
	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];

		if (one && member->id != document->primary)
			continue;
		appendStringInfo(&hosts, "%s%s", hosts.len > 0 ? "," : "", member->host);
		appendStringInfo(&ports, "%s%u", ports.len > 0 ? "," : "", member->port);
	}
	if (hosts.len == 0)
		PG_RETURN_NULL();
	appendStringInfoString(&text, "host=");
	append_value(&text, hosts.data);
	appendStringInfo(&text, " port=%s", ports.data);
	if (strcmp(mode, "read-write") == 0)
		appendStringInfoString(&text, " target_session_attrs=read-write");
	else if (strcmp(mode, "standby") == 0)
		appendStringInfoString(&text, " target_session_attrs=prefer-standby");
	PG_RETURN_TEXT_P(cstring_to_text(text.data));
}

/* ----------------------------------------------------------------
 * Views
 * ----------------------------------------------------------------
 */

/* One row in HA mode, none otherwise. */
Datum
pgraft_sql_stat_ha(PG_FUNCTION_ARGS)
{
	PgraftHaDocument *document;
	PgraftHaLocal local;
	PgraftRow	row;
	int64		lease;

	pgraft_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	if (pgraft_ha_shared == NULL)
		return (Datum) 0;
	document = read_document();
	pgraft_ha_read_local(&local);
	lease = (int64) pg_atomic_read_u64(&pgraft_ha_shared->fence_until) - pgraft_boottime_us();

	pgraft_row_begin(&row);
	pgraft_row_int(&row, pgraft_node_id);
	pgraft_row_string(&row, own_role(document, &local));
	pgraft_row_timestamp(&row, local.role_since);
	pgraft_row_string(&row, local.action);
	pgraft_row_string(&row, local.failure);
	pgraft_row_bool(&row, is_working_primary());
	if (RecoveryInProgress())
		pgraft_row_null(&row);
	else
		pgraft_row_float(&row, lease > 0 ? (double) lease / 1000.0 : 0.0);

	pgraft_row_u64(&row, document->epoch);
	pgraft_row_string(&row, pgraft_ha_phase_name(document->phase));
	pgraft_row_id(&row, document->primary);
	pgraft_row_id(&row, document->old_primary);
	pgraft_row_bool(&row, document->paused);
	pgraft_row_bool(&row, pgraft_ha_shared->document_loaded != 0);
	pgraft_row_int(&row, document->sync.k);
	pgraft_row_datum(&row, array_of_ids(&document->sync));
	if (document->next_sync.n > 0)
	{
		pgraft_row_int(&row, document->next_sync.k);
		pgraft_row_datum(&row, array_of_ids(&document->next_sync));
	}
	else
	{
		pgraft_row_null(&row);
		pgraft_row_null(&row);
	}
	pgraft_row_u64(&row, document->sync_generation);
	pgraft_row_u64(&row, local.sync_generation);
	pgraft_row_id(&row, document->switchover_from);
	pgraft_row_id(&row, document->switchover_target);
	pgraft_row_timestamp(&row, timestamp_of_unix(document->scheduled_at));
	pgraft_row_id(&row, document->scheduled_target);
	pgraft_row_string(&row, pgraft_ha_mode_name(document->mode));
	pgraft_row_int(&row, document->wanted_k);
	pgraft_row_u64(&row, document->maximum_lag);
	if (document->primary_lsn != 0)
		pgraft_row_datum(&row, LSNGetDatum((XLogRecPtr) document->primary_lsn));
	else
		pgraft_row_null(&row);
	pgraft_row_timestamp(&row, timestamp_of_unix(document->primary_lsn_at));

	pgraft_row_id(&row, local.promoted_epoch);
	pgraft_row_id(&row, local.wal_epoch);
	pgraft_row_id(&row, local.timeline);
	if (local.lsn_known)
		pgraft_row_datum(&row, LSNGetDatum((XLogRecPtr) local.lsn));
	else
		pgraft_row_null(&row);
	pgraft_row_id(&row, pg_atomic_read_u64(&pgraft_ha_shared->open_epoch));
	pgraft_row_u64(&row, pg_atomic_read_u64(&pgraft_ha_shared->guarded));
	pgraft_row_u64(&row, pg_atomic_read_u64(&pgraft_ha_shared->refused));
	pgraft_row_int(&row, waiting_clients());
	pgraft_row_store(&row, fcinfo);
	return (Datum) 0;
}

/* Sessions whose commits wait for standbys. */
static int
waiting_clients(void)
{
	int			n = 0;
	uint32		i;

	for (i = 0; i < ProcGlobal->allProcCount; i++)
	{
		if (ProcGlobal->allProcs[i].pid != 0 &&
			ProcGlobal->allProcs[i].syncRepState == SYNC_REP_WAITING)
			n++;
	}
	return n;
}

/* What it must do comes from the document, whoever found it out. */
static const char *
own_role(PgraftHaDocument *document, const PgraftHaLocal *local)
{
	const PgraftHaMember *self = pgraft_ha_find_member(document, (uint32) pgraft_node_id);

	if (local->role == PGRAFT_HA_ROLE_REWIND && self != NULL &&
		self->state == PGRAFT_HA_MEMBER_RECLONE)
		return "reclone";
	return pgraft_ha_role_name(local->role);
}

static Datum
array_of_ids(const PgraftHaSyncSet *set)
{
	Datum		ids[PGRAFT_HA_MAX_MEMBERS];
	int			n = 0;
	int			i;

	for (i = 0; i < set->n; i++)
	{
		if ((set->members[i] & PGRAFT_HA_GONE) == 0)
			ids[n++] = Int32GetDatum((int32) set->members[i]);
	}
	return PointerGetDatum(construct_array(ids, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/* One row for each data member. */
Datum
pgraft_sql_ha_member_list(PG_FUNCTION_ARGS)
{
	PgraftHaDocument *document;
	PgraftMembers members;
	int			i;

	pgraft_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	if (pgraft_ha_shared == NULL)
		return (Datum) 0;
	document = read_document();
	pgraft_read_members(&members);
	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];
		bool		is_primary = member->id == document->primary;
		char		name[RAFT_NAME_SIZE];
		PgraftRow	row;

		member_name(&members, member->id, name);
		pgraft_row_begin(&row);
		pgraft_row_int(&row, (int) member->id);
		pgraft_row_string(&row, name);
		pgraft_row_string(&row, member->host);
		pgraft_row_int(&row, (int) member->port);
		pgraft_row_string(&row, is_primary ? "primary" : "standby");
		pgraft_row_string(&row, is_primary ? pgraft_ha_phase_name(document->phase) :
						  pgraft_ha_member_state_name(member->state));
		pgraft_row_bool(&row, pgraft_ha_set_contains(&document->sync, member->id) ||
						pgraft_ha_set_contains(&document->next_sync, member->id));
		pgraft_row_int(&row, member->priority);
		pgraft_row_bool(&row, member->reported);
		if (member->reported)
		{
			pgraft_row_u64(&row, member->wal_epoch);
			pgraft_row_id(&row, member->timeline);
			pgraft_row_datum(&row, LSNGetDatum((XLogRecPtr) member->lsn));
		}
		else
		{
			pgraft_row_null(&row);
			pgraft_row_null(&row);
			pgraft_row_null(&row);
		}
		pgraft_row_store(&row, fcinfo);
	}
	return (Datum) 0;
}

static void
member_name(const PgraftMembers *members, uint32 id, char *name)
{
	int			i;

	snprintf(name, RAFT_NAME_SIZE, "node%u", id);
	for (i = 0; i < members->n_members; i++)
	{
		if (members->members[i].member.id == id && members->members[i].member.name[0] != '\0')
			strlcpy(name, members->members[i].member.name, RAFT_NAME_SIZE);
	}
}

Datum
pgraft_sql_ha_history(PG_FUNCTION_ARGS)
{
	PgraftHaDocument *document;
	int			i;

	pgraft_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	if (pgraft_ha_shared == NULL)
		return (Datum) 0;
	document = read_document();
	for (i = 0; i < document->n_history; i++)
	{
		const PgraftHaEpoch *entry = &document->history[i];
		PgraftRow	row;

		pgraft_row_begin(&row);
		pgraft_row_u64(&row, entry->epoch);
		pgraft_row_string(&row, entry->reason);
		pgraft_row_id(&row, entry->old_primary);
		pgraft_row_id(&row, entry->new_primary);
		pgraft_row_bool(&row, entry->promoted);
		pgraft_row_timestamp(&row, timestamp_of_unix(entry->began_at));
		pgraft_row_timestamp(&row, timestamp_of_unix(entry->ended_at));
		if (entry->ended_at != 0)
			pgraft_row_float(&row, (double) (entry->ended_at - entry->began_at) / 1000.0);
		else
			pgraft_row_null(&row);
		pgraft_row_id(&row, entry->timeline);
		if (entry->promoted)
			pgraft_row_datum(&row, LSNGetDatum((XLogRecPtr) entry->fork_lsn));
		else
			pgraft_row_null(&row);
		if (entry->lagged)
			pgraft_row_u64(&row, entry->lag);
		else
			pgraft_row_null(&row);
		pgraft_row_store(&row, fcinfo);
	}
	return (Datum) 0;
}

static int64
unix_of_timestamp(TimestampTz moment)
{
	return moment + EPOCH_DIFFERENCE;
}

/* 0 stays 0: not known. */
static TimestampTz
timestamp_of_unix(int64 microseconds)
{
	if (microseconds == 0)
		return 0;
	return microseconds - EPOCH_DIFFERENCE;
}
