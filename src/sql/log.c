/*-------------------------------------------------------------------------
 *
 * log.c
 *	  SQL functions of the replicated log.
 *
 * Called in backends.  Appending returns once the entry is committed and this
 * member has applied it.  It is not transactional: ROLLBACK does not undo it.
 *
 * Reading shows this member's copy of the log, committed entries only.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/sql/log.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "pgraft/compat.h"
#include "pgraft/state_machine.h"

#include "support.h"

PG_FUNCTION_INFO_V1(pgraft_sql_log_append_text);
PG_FUNCTION_INFO_V1(pgraft_sql_log_append_bytea);
PG_FUNCTION_INFO_V1(pgraft_sql_log_get_entry);
PG_FUNCTION_INFO_V1(pgraft_sql_log_entries);
PG_FUNCTION_INFO_V1(pgraft_sql_log_get_stats);
PG_FUNCTION_INFO_V1(pgraft_sql_log_get_replication_status);
PG_FUNCTION_INFO_V1(pgraft_sql_get_applied_index);
PG_FUNCTION_INFO_V1(pgraft_sql_snapshot);

/* Entries asked for at once; the worker may give fewer. */
#define READ_CHUNK 64

static Datum append(PgraftBytes data);
static uint64 argument_index(FunctionCallInfo fcinfo, int n, const char *name);
static void store_entries(FunctionCallInfo fcinfo, uint64 from, uint64 to);
static uint64 store_chunk(FunctionCallInfo fcinfo, uint64 from, uint64 to);
static void store_entry(FunctionCallInfo fcinfo, const PgraftLogReadRecord *record,
						const char *data);
static void add_normal(PgraftRow *row, const PgraftLogReadRecord *record, const char *data);
static void add_config(PgraftRow *row, const PgraftLogReadRecord *record, const char *data);
static void add_bytes(PgraftRow *row, const char *data, size_t length);

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

Datum
pgraft_sql_log_append_text(PG_FUNCTION_ARGS)
{
	return append(pgraft_argument_text(fcinfo, 0, "data"));
}

Datum
pgraft_sql_log_append_bytea(PG_FUNCTION_ARGS)
{
	return append(pgraft_argument_bytea(fcinfo, 0, "data"));
}

static Datum
append(PgraftBytes data)
{
	PgraftCommand command;

	memset(&command, 0, sizeof(command));
	command.kind = PGRAFT_COMMAND_LOG;
	command.key = "";
	command.value = data.data;
	command.value_length = data.length;
	PG_RETURN_INT64((int64) pgraft_propose(&command).value);
}

/* Returns the index that the snapshot of this member covers. */
Datum
pgraft_sql_snapshot(PG_FUNCTION_ARGS)
{
	PgraftCall	call;

	(void) fcinfo;
	pgraft_require_preloaded();
	pgraft_refuse_parallel();
	memset(&call, 0, sizeof(call));
	call.kind = PGRAFT_REQUEST_SNAPSHOT;
	pgraft_call(&call);
	PG_RETURN_INT64((int64) call.index);
}

/* ----------------------------------------------------------------
 * Reading entries
 * ----------------------------------------------------------------
 */

Datum
pgraft_sql_log_get_entry(PG_FUNCTION_ARGS)
{
	uint64		log_index = argument_index(fcinfo, 0, "index");

	InitMaterializedSRF(fcinfo, 0);
	store_entries(fcinfo, log_index, log_index);
	return (Datum) 0;
}

Datum
pgraft_sql_log_entries(PG_FUNCTION_ARGS)
{
	uint64		from = argument_index(fcinfo, 0, "from_index");
	uint64		to = argument_index(fcinfo, 1, "to_index");

	if (from > to)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be greater than argument \"%s\"",
						"from_index", "to_index")));
	InitMaterializedSRF(fcinfo, 0);
	store_entries(fcinfo, from, to);
	return (Datum) 0;
}

static uint64
argument_index(FunctionCallInfo fcinfo, int n, const char *name)
{
	int64		log_index;

	pgraft_argument_required(fcinfo, n, name);
	log_index = PG_GETARG_INT64(n);
	if (log_index < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid log index: %lld", (long long) log_index),
				 errdetail("The first entry of a log has index 1.")));
	return (uint64) log_index;
}

/*
 * An index that is not committed yet gives no row; one that is no longer kept
 * is the worker's to refuse.
 */
static void
store_entries(FunctionCallInfo fcinfo, uint64 from, uint64 to)
{
	PgraftStatus status;
	MemoryContext chunk_context;
	MemoryContext old_context;

	pgraft_require_preloaded();
	pgraft_read_status(&status);
	if (status.worker_state == PGRAFT_WORKER_RUNNING && to > status.raft.commit_index)
		to = status.raft.commit_index;

	chunk_context = AllocSetContextCreate(CurrentMemoryContext, "pgraft log entries",
										  ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(chunk_context);
	while (from <= to)
	{
		from = store_chunk(fcinfo, from, Min(to, from + READ_CHUNK - 1));
		MemoryContextReset(chunk_context);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(chunk_context);
}

/* Returns the index with which to go on. */
static uint64
store_chunk(FunctionCallInfo fcinfo, uint64 from, uint64 to)
{
	PgraftCall	call;
	size_t		position = 0;

	memset(&call, 0, sizeof(call));
	call.kind = PGRAFT_REQUEST_LOG_READ;
	call.argument = from;
	call.argument2 = to;
	pgraft_call(&call);

	/* nothing at all: the log has lost its end since we looked at it */
	if (call.reply_length == 0)
		return to + 1;

	while (position < call.reply_length)
	{
		PgraftLogReadRecord record;

		if (call.reply_length - position < sizeof(record))
			elog(ERROR, "log entries from the worker are cut");
		memcpy(&record, call.reply + position, sizeof(record));
		position += sizeof(record);
		if (call.reply_length - position < record.length || record.index != from)
			elog(ERROR, "log entries from the worker are damaged");
		store_entry(fcinfo, &record, call.reply + position);
		position += TYPEALIGN(8, record.length);
		from++;
	}
	return from;
}

static void
store_entry(FunctionCallInfo fcinfo, const PgraftLogReadRecord *record, const char *data)
{
	PgraftRow	row;

	pgraft_row_begin(&row);
	pgraft_row_u64(&row, record->index);
	pgraft_row_u64(&row, record->term);
	switch (record->type)
	{
		case RAFT_ENTRY_NORMAL:
			add_normal(&row, record, data);
			break;
		case RAFT_ENTRY_CONFIG:
			add_config(&row, record, data);
			break;
		default:
			pgraft_row_string(&row, record->type == RAFT_ENTRY_EMPTY ? "empty" : "unknown");
			pgraft_row_null(&row);
			pgraft_row_null(&row);
			pgraft_row_null(&row);
			break;
	}
	pgraft_row_store(&row, fcinfo);
}

/* A command shows its key and value; what is no command shows its bytes. */
static void
add_normal(PgraftRow *row, const PgraftLogReadRecord *record, const char *data)
{
	PgraftCommand command;
	text	   *key;

	if (!pgraft_command_decode((const unsigned char *) data, record->length, &command))
	{
		pgraft_row_string(row, "unknown");
		pgraft_row_null(row);
		add_bytes(row, data, record->length);
		return;
	}

	pgraft_row_string(row, pgraft_command_kind_name(command.kind));
	key = command.key_length > 0 ?
		pgraft_bytes_to_text_or_null(command.key, command.key_length) : NULL;
	if (key != NULL)
		pgraft_row_datum(row, PointerGetDatum(key));
	else
		pgraft_row_null(row);

	switch (command.kind)
	{
		case PGRAFT_COMMAND_LOG:
		case PGRAFT_COMMAND_KV_PUT:
		case PGRAFT_COMMAND_KV_CAS:
			add_bytes(row, command.value, command.value_length);
			break;
		default:
			pgraft_row_null(row);
			pgraft_row_null(row);
			break;
	}
}

/* The members in words: "1 voter 10.0.0.1:7001, 2 learner 10.0.0.2:7001" */
static void
add_config(PgraftRow *row, const PgraftLogReadRecord *record, const char *data)
{
	struct raft_config *config = palloc0(sizeof(struct raft_config));
	StringInfoData words;
	bytea	   *bytes;
	int			i;

	pgraft_row_string(row, "config");
	pgraft_row_null(row);
	bytes = (bytea *) cstring_to_text_with_len(data, (int) record->length);
	pgraft_row_datum(row, PointerGetDatum(bytes));
	if (raft_config_decode(config, (const unsigned char *) data, record->length) != RAFT_OK)
	{
		pgraft_row_null(row);
		return;
	}

	initStringInfo(&words);
	for (i = 0; i < config->n_members; i++)
	{
		const struct raft_member *member = &config->members[i];

		appendStringInfo(&words, "%s%u %s %s:%u", i > 0 ? ", " : "",
						 member->id, raft_role_name(member->role),
						 member->address, member->port);
	}
	pgraft_row_datum(row, CStringGetTextDatum(words.data));
}

/* Two columns: the bytes, and as text if they are. */
static void
add_bytes(PgraftRow *row, const char *data, size_t length)
{
	text	   *as_text = pgraft_bytes_to_text_or_null(data, length);

	pgraft_row_datum(row, PointerGetDatum(cstring_to_text_with_len(data, (int) length)));
	if (as_text != NULL)
		pgraft_row_datum(row, PointerGetDatum(as_text));
	else
		pgraft_row_null(row);
}

/* ----------------------------------------------------------------
 * Positions
 * ----------------------------------------------------------------
 */

Datum
pgraft_sql_get_applied_index(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_INT64((int64) pgraft_status_applied_index());
}

Datum
pgraft_sql_log_get_stats(PG_FUNCTION_ARGS)
{
	PgraftStatus status;
	PgraftRow	row;

	pgraft_require_preloaded();
	pgraft_read_status(&status);

	pgraft_row_begin(&row);
	pgraft_row_u64(&row, status.raft.first_index);
	pgraft_row_u64(&row, status.raft.last_index);
	pgraft_row_u64(&row, status.raft.last_term);
	pgraft_row_u64(&row, status.raft.durable_index);
	pgraft_row_u64(&row, status.raft.commit_index);
	pgraft_row_u64(&row, status.raft.applied_index);
	pgraft_row_u64(&row, status.raft.snapshot_index);
	pgraft_row_u64(&row, status.raft.snapshot_term);
	pgraft_row_u64(&row, status.entries_applied);
	pgraft_row_u64(&row, status.raft.uncommitted_bytes);
	pgraft_row_u64(&row, status.raft.cached_bytes);
	pgraft_row_u64(&row, status.storage.log_bytes);
	pgraft_row_u64(&row, status.storage.segments);
	return pgraft_row_result(&row, fcinfo);
}

/*
 * One row a member.  Only the leader knows how far the others are; elsewhere
 * those columns are NULL.
 */
Datum
pgraft_sql_log_get_replication_status(PG_FUNCTION_ARGS)
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
		const PgraftMemberStatus *member = &members.members[i];
		const struct raft_peer_status *progress = &member->progress;
		bool		self = member->member.id == status.raft.id;
		bool		known = member->has_progress && !self;
		PgraftRow	row;

		pgraft_row_begin(&row);
		pgraft_row_int(&row, (int) member->member.id);
		pgraft_row_string(&row, raft_role_name(member->member.role));
		pgraft_row_bool(&row, self);
		pgraft_row_string(&row, known ? raft_progress_name(progress->progress) : NULL);
		if (self || known)
		{
			uint64		match = self ? status.raft.durable_index : progress->match_index;

			pgraft_row_u64(&row, match);
			pgraft_row_u64(&row, self ? status.raft.last_index + 1 : progress->next_index);
			pgraft_row_u64(&row, status.raft.last_index > match ?
						   status.raft.last_index - match : 0);
		}
		else
		{
			pgraft_row_null(&row);
			pgraft_row_null(&row);
			pgraft_row_null(&row);
		}
		if (known)
		{
			pgraft_row_u64(&row, progress->inflight_messages);
			pgraft_row_u64(&row, progress->inflight_bytes);
			pgraft_row_id(&row, progress->snapshot_total > 0 ? progress->snapshot_offset : 0);
			pgraft_row_id(&row, progress->snapshot_total);
		}
		else
		{
			pgraft_row_null(&row);
			pgraft_row_null(&row);
			pgraft_row_null(&row);
			pgraft_row_null(&row);
		}
		pgraft_row_store(&row, fcinfo);
	}
	return (Datum) 0;
}
