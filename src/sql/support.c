/*-------------------------------------------------------------------------
 *
 * support.c
 *	  What the SQL functions share: arguments, encodings, rows.
 *
 * Every argument is checked here before anything is sent to the worker, so
 * that a bad one costs no round trip and says what is wrong with it.
 *
 * Keys and values are kept in UTF-8 whatever the database's encoding is, so
 * that databases and members with different encodings agree.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/sql/support.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "pgraft/compat.h"
#include "pgraft/settings.h"
#include "pgraft/state_machine.h"

#include "support.h"

static char *plain_text(FunctionCallInfo fcinfo, int n, const char *name, size_t size);
static void check_size(size_t length, const char *name);

/* ----------------------------------------------------------------
 * Arguments
 * ----------------------------------------------------------------
 */

void
pgraft_argument_required(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

raft_id
pgraft_argument_node_id(FunctionCallInfo fcinfo, int n)
{
	int32		node_id;

	pgraft_argument_required(fcinfo, n, "node_id");
	node_id = PG_GETARG_INT32(n);
	if (node_id <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid node id: %d", node_id),
				 errdetail("A node id must be between 1 and %d.", PG_INT32_MAX),
				 errhint("Use the value of \"pgraft.node_id\" on that server.")));
	return (raft_id) node_id;
}

unsigned int
pgraft_argument_port(FunctionCallInfo fcinfo, int n)
{
	int32		port;

	pgraft_argument_required(fcinfo, n, "port");
	port = PG_GETARG_INT32(n);
	if (port < 1 || port > 65535)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid port: %d", port),
				 errdetail("A port must be between 1 and 65535."),
				 errhint("Use the value of \"pgraft.port\" on that server.")));
	return (unsigned int) port;
}

int
pgraft_argument_role(FunctionCallInfo fcinfo, int n)
{
	pgraft_argument_required(fcinfo, n, "role");
	return pgraft_role_of_text(text_to_cstring(PG_GETARG_TEXT_PP(n)));
}

int
pgraft_role_of_text(const char *role)
{
	int			i;

	for (i = RAFT_VOTER; i <= RAFT_WITNESS; i++)
	{
		if (strcmp(role, raft_role_name(i)) == 0)
			return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized role: \"%s\"", pnstrdup(role, RAFT_NAME_SIZE)),
			 errhint("Valid roles are \"voter\", \"learner\" and \"witness\".")));
	return RAFT_ROLE_NONE;		/* keeps compilers quiet */
}

void
pgraft_argument_address(FunctionCallInfo fcinfo, int n, char *address)
{
	pgraft_argument_required(fcinfo, n, "address");
	strlcpy(address, plain_text(fcinfo, n, "address", RAFT_ADDRESS_SIZE), RAFT_ADDRESS_SIZE);
}

void
pgraft_argument_name(FunctionCallInfo fcinfo, int n, char *name)
{
	name[0] = '\0';
	if (!PG_ARGISNULL(n))
		strlcpy(name, plain_text(fcinfo, n, "name", RAFT_NAME_SIZE), RAFT_NAME_SIZE);
}

static char *
plain_text(FunctionCallInfo fcinfo, int n, const char *name, size_t size)
{
	char	   *value = text_to_cstring(PG_GETARG_TEXT_PP(n));

	pgraft_check_plain_text(value, name, size);
	return value;
}

/*
 * A host name, an address or a member's name: visible ASCII without what lists
 * in settings use as separators.
 */
void
pgraft_check_plain_text(const char *value, const char *name, size_t size)
{
	const char *c;

	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", name)));
	if (strlen(value) >= size)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is too long", name),
				 errdetail("It has %zu bytes; at most %zu are allowed.",
						   strlen(value), size - 1)));
	for (c = value; *c != '\0'; c++)
	{
		if ((unsigned char) *c <= ' ' || (unsigned char) *c > '~' ||
			strchr(",=\"'\\", *c) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" contains an invalid character", name),
					 errdetail("Only visible ASCII characters are allowed, and neither comma, equals sign, quote nor backslash.")));
	}
}

int
pgraft_argument_timeout(FunctionCallInfo fcinfo, int n)
{
	int32		timeout_ms;

	if (PG_ARGISNULL(n))
		return pgraft_request_timeout;
	timeout_ms = PG_GETARG_INT32(n);
	if (timeout_ms < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be negative", "timeout_ms"),
				 errhint("Use 0 to look without waiting, or null for \"pgraft.request_timeout\".")));
	return timeout_ms;
}

/*
 * The length is looked at twice: before the conversion, so that a huge key is
 * refused before it is copied about, and after, because that is what counts.
 */
PgraftBytes
pgraft_argument_key(FunctionCallInfo fcinfo, int n, const char *name, bool may_be_empty)
{
	PgraftBytes key;
	size_t		stored;

	pgraft_argument_required(fcinfo, n, name);
	stored = toast_raw_datum_size(PG_GETARG_DATUM(n)) - VARHDRSZ;
	if (stored <= PGRAFT_KEY_MAX * MAX_CONVERSION_GROWTH)
	{
		key = pgraft_argument_text(fcinfo, n, name);
		stored = key.length;
	}
	if (stored > PGRAFT_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("argument \"%s\" is too long", name),
				 errdetail("It has %zu bytes; at most %d are allowed.", stored, PGRAFT_KEY_MAX)));
	if (stored == 0 && !may_be_empty)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", name)));
	return key;
}

PgraftBytes
pgraft_argument_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	PgraftBytes bytes;
	text	   *argument;
	char	   *data;
	int			length;

	pgraft_argument_required(fcinfo, n, name);
	check_size(toast_raw_datum_size(PG_GETARG_DATUM(n)) - VARHDRSZ, name);
	argument = PG_GETARG_TEXT_PP(n);
	length = (int) VARSIZE_ANY_EXHDR(argument);
	data = pnstrdup(VARDATA_ANY(argument), (Size) length);
	bytes.data = pg_server_to_any(data, length, PG_UTF8);
	bytes.length = (uint32) (bytes.data == data ? length : (int) strlen(bytes.data));
	return bytes;
}

PgraftBytes
pgraft_argument_bytea(FunctionCallInfo fcinfo, int n, const char *name)
{
	PgraftBytes bytes;
	bytea	   *argument;

	pgraft_argument_required(fcinfo, n, name);
	check_size(toast_raw_datum_size(PG_GETARG_DATUM(n)) - VARHDRSZ, name);
	argument = PG_GETARG_BYTEA_PP(n);
	bytes.length = (uint32) VARSIZE_ANY_EXHDR(argument);
	bytes.data = VARDATA_ANY(argument);
	return bytes;
}

/* The exact check, of the whole command, is pgraft_propose()'s. */
static void
check_size(size_t length, const char *name)
{
	size_t		limit = (size_t) pgraft_max_entry_size * 1024;

	if (length > limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("argument \"%s\" is too large", name),
				 errdetail("It has %zu bytes; \"pgraft.max_entry_size\" allows commands of %zu bytes.",
						   length, limit)));
}

bool
pgraft_argument_consistency(FunctionCallInfo fcinfo, int n)
{
	char	   *consistency;

	pgraft_argument_required(fcinfo, n, "consistency");
	consistency = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (strcmp(consistency, "linearizable") == 0)
		return true;
	if (strcmp(consistency, "local") == 0)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized consistency: \"%s\"", pnstrdup(consistency, NAMEDATALEN)),
			 errhint("Valid values are \"linearizable\" and \"local\".")));
	return true;				/* keeps compilers quiet */
}

/* ----------------------------------------------------------------
 * Encodings
 * ----------------------------------------------------------------
 */

text *
pgraft_utf8_to_text(const char *data, size_t length)
{
	char	   *converted = pg_any_to_server(data, (int) length, PG_UTF8);

	if (converted == data)
		return cstring_to_text_with_len(data, (int) length);
	return cstring_to_text(converted);
}

text *
pgraft_bytes_to_text_or_null(const char *data, size_t length)
{
	int			encoding = GetDatabaseEncoding();
	size_t		room;
	Oid			converter;
	unsigned char *converted;

	if (pg_encoding_verifymbstr(PG_UTF8, data, (int) length) != (int) length)
		return NULL;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII || length == 0)
		return cstring_to_text_with_len(data, (int) length);

	converter = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(converter))
		return NULL;
	room = length * MAX_CONVERSION_GROWTH + 1;
	converted = MemoryContextAllocHuge(CurrentMemoryContext, room);
	if (pg_do_encoding_conversion_buf(converter, PG_UTF8, encoding,
									  (unsigned char *) unconstify(char *, data), (int) length,
									  converted, (int) Min(room, PG_INT32_MAX), true) != (int) length)
		return NULL;
	return cstring_to_text((char *) converted);
}

/* ----------------------------------------------------------------
 * Requests
 * ----------------------------------------------------------------
 */

void
pgraft_refuse_parallel(void)
{
	if (IsParallelWorker())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot change the cluster's state during a parallel operation")));
}

void
pgraft_prepare_read(bool linearizable)
{
	PgraftStatus status;

	pgraft_require_preloaded();
	if (linearizable)
	{
		PgraftCall	call;

		memset(&call, 0, sizeof(call));
		call.kind = PGRAFT_REQUEST_READ_BARRIER;
		pgraft_call(&call);
	}

	pgraft_read_status(&status);
	if (status.store_loaded)
		return;
	if (status.worker_state == PGRAFT_WORKER_BLANK)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this server is not a member of a pgraft cluster"),
				 errhint("Call pgraft_init() to make a cluster, or pgraft_add_node() on a member of an existing one.")));
	ereport(ERROR,
			(errcode(ERRCODE_CANNOT_CONNECT_NOW),
			 errmsg("the key-value store of this member is not available"),
			 status.failure[0] != '\0' ?
			 errdetail("The worker is in state \"%s\": %s.",
					   pgraft_worker_state_name(status.worker_state), status.failure) :
			 errdetail("The worker is in state \"%s\".",
					   pgraft_worker_state_name(status.worker_state)),
			 errhint("Wait until the worker has loaded it, or ask another member.")));
}

PgraftCall
pgraft_propose(const PgraftCommand *command)
{
	size_t		limit = (size_t) pgraft_max_entry_size * 1024;
	size_t		needed = PGRAFT_COMMAND_HEADER_BYTES +
		(size_t) command->key_length + command->value_length;
	StringInfoData buffer;
	PgraftCall	call;

	pgraft_require_preloaded();
	pgraft_refuse_parallel();
	if (needed > limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the command is too large"),
				 errdetail("It has %zu bytes; \"pgraft.max_entry_size\" allows %zu.",
						   needed, limit)));

	initStringInfo(&buffer);
	enlargeStringInfo(&buffer, (int) needed);
	pgraft_command_encode(&buffer, command);

	memset(&call, 0, sizeof(call));
	call.kind = PGRAFT_REQUEST_PROPOSE;
	call.data = buffer.data;
	call.length = (size_t) buffer.len;
	pgraft_call(&call);
	pfree(buffer.data);
	return call;
}

/* ----------------------------------------------------------------
 * Rows
 * ----------------------------------------------------------------
 */

void
pgraft_row_begin(PgraftRow *row)
{
	row->n = 0;
}

void
pgraft_row_datum(PgraftRow *row, Datum value)
{
	Assert(row->n < PGRAFT_MAX_COLUMNS);
	row->values[row->n] = value;
	row->nulls[row->n++] = false;
}

void
pgraft_row_null(PgraftRow *row)
{
	Assert(row->n < PGRAFT_MAX_COLUMNS);
	row->values[row->n] = (Datum) 0;
	row->nulls[row->n++] = true;
}

void
pgraft_row_bool(PgraftRow *row, bool value)
{
	pgraft_row_datum(row, BoolGetDatum(value));
}

void
pgraft_row_int(PgraftRow *row, int value)
{
	pgraft_row_datum(row, Int32GetDatum(value));
}

void
pgraft_row_u64(PgraftRow *row, uint64 value)
{
	pgraft_row_datum(row, Int64GetDatum((int64) value));
}

void
pgraft_row_id(PgraftRow *row, uint64 value)
{
	if (value == 0)
		pgraft_row_null(row);
	else
		pgraft_row_u64(row, value);
}

void
pgraft_row_float(PgraftRow *row, double value)
{
	pgraft_row_datum(row, Float8GetDatum(value));
}

void
pgraft_row_string(PgraftRow *row, const char *value)
{
	if (value == NULL || value[0] == '\0')
		pgraft_row_null(row);
	else
		pgraft_row_datum(row, CStringGetTextDatum(value));
}

void
pgraft_row_timestamp(PgraftRow *row, TimestampTz value)
{
	if (value == 0)
		pgraft_row_null(row);
	else
		pgraft_row_datum(row, TimestampTzGetDatum(value));
}

void
pgraft_row_store(PgraftRow *row, FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	if (row->n != result->setDesc->natts)
		elog(ERROR, "function returns %d columns, %d were expected",
			 row->n, result->setDesc->natts);
	tuplestore_putvalues(result->setResult, result->setDesc, row->values, row->nulls);
}

Datum
pgraft_row_result(PgraftRow *row, FunctionCallInfo fcinfo)
{
	TupleDesc	descriptor;

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (row->n != descriptor->natts)
		elog(ERROR, "function returns %d columns, %d were expected",
			 row->n, descriptor->natts);
	descriptor = BlessTupleDesc(descriptor);
	return HeapTupleGetDatum(heap_form_tuple(descriptor, row->values, row->nulls));
}
