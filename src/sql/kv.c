/*-------------------------------------------------------------------------
 *
 * kv.c
 *	  SQL functions of the key-value store.
 *
 * Called in backends.  Writes are commands that the cluster agrees on; they
 * return when this member has applied them, so that the same session reads its
 * own writes even with "local" consistency.  They are not transactional:
 * ROLLBACK does not undo them.
 *
 * Reads look into shared memory.  "linearizable" asks the leader first how far
 * the log was committed and waits until this member has applied that much;
 * "local" takes what this member has.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/sql/kv.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "pgraft/compat.h"
#include "pgraft/state_machine.h"

#include "support.h"

PG_FUNCTION_INFO_V1(pgraft_sql_kv_put);
PG_FUNCTION_INFO_V1(pgraft_sql_kv_cas);
PG_FUNCTION_INFO_V1(pgraft_sql_kv_delete);
PG_FUNCTION_INFO_V1(pgraft_sql_kv_delete_prefix);
PG_FUNCTION_INFO_V1(pgraft_sql_kv_reset);
PG_FUNCTION_INFO_V1(pgraft_sql_kv_get);
PG_FUNCTION_INFO_V1(pgraft_sql_kv_entry);
PG_FUNCTION_INFO_V1(pgraft_sql_kv_exists);
PG_FUNCTION_INFO_V1(pgraft_sql_kv_list_keys);
PG_FUNCTION_INFO_V1(pgraft_sql_kv_list);
PG_FUNCTION_INFO_V1(pgraft_sql_kv_get_stats);

static PgraftCall propose_kv(PgraftCommandKind kind, PgraftBytes key,
							 PgraftBytes value, uint64 expected);
static int64 argument_limit(FunctionCallInfo fcinfo, int n);

static const PgraftBytes no_bytes = {"", 0};

/* ----------------------------------------------------------------
 * Writes
 * ----------------------------------------------------------------
 */

Datum
pgraft_sql_kv_put(PG_FUNCTION_ARGS)
{
	PgraftBytes key = pgraft_argument_key(fcinfo, 0, "key", false);
	PgraftBytes value = pgraft_argument_text(fcinfo, 1, "value");

	PG_RETURN_INT64((int64) propose_kv(PGRAFT_COMMAND_KV_PUT, key, value, 0).value);
}

/* The new revision; NULL when the key was not at the expected one. */
Datum
pgraft_sql_kv_cas(PG_FUNCTION_ARGS)
{
	PgraftBytes key = pgraft_argument_key(fcinfo, 0, "key", false);
	PgraftBytes value;
	PgraftCall	call;
	int64		expected;

	pgraft_argument_required(fcinfo, 1, "expected_revision");
	expected = PG_GETARG_INT64(1);
	if (expected < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be negative", "expected_revision"),
				 errhint("Use 0 for a key that must not exist.")));
	value = pgraft_argument_text(fcinfo, 2, "value");

	call = propose_kv(PGRAFT_COMMAND_KV_CAS, key, value, (uint64) expected);
	if (!call.flag)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) call.value);
}

Datum
pgraft_sql_kv_delete(PG_FUNCTION_ARGS)
{
	PgraftBytes key = pgraft_argument_key(fcinfo, 0, "key", false);

	PG_RETURN_BOOL(propose_kv(PGRAFT_COMMAND_KV_DELETE, key, no_bytes, 0).flag != 0);
}

Datum
pgraft_sql_kv_delete_prefix(PG_FUNCTION_ARGS)
{
	PgraftBytes prefix = pgraft_argument_key(fcinfo, 0, "prefix", true);

	if (prefix.length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", "prefix"),
				 errhint("Use pgraft_kv_reset() to delete all keys.")));
	PG_RETURN_INT64((int64) propose_kv(PGRAFT_COMMAND_KV_DELETE_PREFIX, prefix, no_bytes, 0).value);
}

Datum
pgraft_sql_kv_reset(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_INT64((int64) propose_kv(PGRAFT_COMMAND_KV_RESET, no_bytes, no_bytes, 0).value);
}

static PgraftCall
propose_kv(PgraftCommandKind kind, PgraftBytes key, PgraftBytes value, uint64 expected)
{
	PgraftCommand command;

	memset(&command, 0, sizeof(command));
	command.kind = kind;
	command.expected = expected;
	command.key = key.data;
	command.key_length = key.length;
	command.value = value.data;
	command.value_length = value.length;
	return pgraft_propose(&command);
}

/* ----------------------------------------------------------------
 * Reads
 * ----------------------------------------------------------------
 */

Datum
pgraft_sql_kv_get(PG_FUNCTION_ARGS)
{
	PgraftBytes key = pgraft_argument_key(fcinfo, 0, "key", false);
	PgraftKvEntry entry;

	pgraft_prepare_read(pgraft_argument_consistency(fcinfo, 1));
	if (!pgraft_kv_lookup(key.data, key.length, &entry))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(pgraft_utf8_to_text(entry.value, entry.value_length));
}

/* One row, or none when there is no such key. */
Datum
pgraft_sql_kv_entry(PG_FUNCTION_ARGS)
{
	PgraftBytes key = pgraft_argument_key(fcinfo, 0, "key", false);
	PgraftKvEntry entry;
	PgraftRow	row;

	pgraft_prepare_read(pgraft_argument_consistency(fcinfo, 1));
	InitMaterializedSRF(fcinfo, 0);
	if (!pgraft_kv_lookup(key.data, key.length, &entry))
		return (Datum) 0;

	pgraft_row_begin(&row);
	pgraft_row_datum(&row, PointerGetDatum(pgraft_utf8_to_text(entry.value, entry.value_length)));
	pgraft_row_u64(&row, entry.create_revision);
	pgraft_row_u64(&row, entry.mod_revision);
	pgraft_row_u64(&row, entry.version);
	pgraft_row_store(&row, fcinfo);
	return (Datum) 0;
}

Datum
pgraft_sql_kv_exists(PG_FUNCTION_ARGS)
{
	PgraftBytes key = pgraft_argument_key(fcinfo, 0, "key", false);

	pgraft_prepare_read(pgraft_argument_consistency(fcinfo, 1));
	PG_RETURN_BOOL(pgraft_kv_key_exists(key.data, key.length));
}

Datum
pgraft_sql_kv_list_keys(PG_FUNCTION_ARGS)
{
	PgraftBytes prefix = pgraft_argument_key(fcinfo, 0, "prefix", true);
	int64		limit = argument_limit(fcinfo, 1);
	PgraftKvEntry *entries;
	int			n_entries;
	int			i;

	pgraft_prepare_read(pgraft_argument_consistency(fcinfo, 2));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	entries = pgraft_kv_scan(prefix.data, prefix.length, limit, false, &n_entries);
	for (i = 0; i < n_entries; i++)
	{
		PgraftRow	row;

		pgraft_row_begin(&row);
		pgraft_row_datum(&row, PointerGetDatum(pgraft_utf8_to_text(entries[i].key,
																   entries[i].key_length)));
		pgraft_row_store(&row, fcinfo);
		CHECK_FOR_INTERRUPTS();
	}
	return (Datum) 0;
}

Datum
pgraft_sql_kv_list(PG_FUNCTION_ARGS)
{
	PgraftBytes prefix = pgraft_argument_key(fcinfo, 0, "prefix", true);
	int64		limit = argument_limit(fcinfo, 1);
	PgraftKvEntry *entries;
	int			n_entries;
	int			i;

	pgraft_prepare_read(pgraft_argument_consistency(fcinfo, 2));
	InitMaterializedSRF(fcinfo, 0);
	entries = pgraft_kv_scan(prefix.data, prefix.length, limit, true, &n_entries);
	for (i = 0; i < n_entries; i++)
	{
		PgraftKvEntry *entry = &entries[i];
		PgraftRow	row;

		pgraft_row_begin(&row);
		pgraft_row_datum(&row, PointerGetDatum(pgraft_utf8_to_text(entry->key, entry->key_length)));
		pgraft_row_datum(&row, PointerGetDatum(pgraft_utf8_to_text(entry->value, entry->value_length)));
		pgraft_row_u64(&row, entry->create_revision);
		pgraft_row_u64(&row, entry->mod_revision);
		pgraft_row_u64(&row, entry->version);
		pgraft_row_store(&row, fcinfo);
		CHECK_FOR_INTERRUPTS();
	}
	return (Datum) 0;
}

/* NULL = no limit */
static int64
argument_limit(FunctionCallInfo fcinfo, int n)
{
	int64		limit;

	if (PG_ARGISNULL(n))
		return -1;
	limit = PG_GETARG_INT64(n);
	if (limit < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be negative", "limit"),
				 errhint("Use null for no limit.")));
	return limit;
}

Datum
pgraft_sql_kv_get_stats(PG_FUNCTION_ARGS)
{
	PgraftKvStats stats;
	PgraftRow	row;

	pgraft_prepare_read(false);
	pgraft_kv_get_stats(&stats);

	pgraft_row_begin(&row);
	pgraft_row_u64(&row, stats.keys);
	pgraft_row_u64(&row, stats.bytes);
	pgraft_row_u64(&row, stats.revision);
	pgraft_row_u64(&row, stats.puts);
	pgraft_row_u64(&row, stats.deletes);
	pgraft_row_u64(&row, stats.cas_succeeded);
	pgraft_row_u64(&row, stats.cas_failed);
	pgraft_row_u64(&row, stats.duplicates);
	pgraft_row_u64(&row, stats.log_entries);
	pgraft_row_u64(&row, stats.sessions);
	pgraft_row_u64(&row, stats.applied_index);
	pgraft_row_string(&row, psprintf("%016llx", (unsigned long long) stats.state_hash));
	pgraft_row_u64(&row, stats.memory_bytes);
	return pgraft_row_result(&row, fcinfo);
}
