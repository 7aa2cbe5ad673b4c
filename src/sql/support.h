/*-------------------------------------------------------------------------
 *
 * support.h
 *	  What the SQL functions share: arguments, encodings, rows.
 *
 * The functions in this directory run in backends.  They touch shared memory
 * and nothing else: no table, no transaction; that is why they work on a
 * standby, and why what they did stays done when the transaction rolls back.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_SQL_SUPPORT_H
#define PGRAFT_SQL_SUPPORT_H

#include "fmgr.h"
#include "funcapi.h"

#include "pgraft/command.h"
#include "pgraft/shmem.h"

/* Bytes in UTF-8 (or raw, of a bytea), NUL-terminated, palloc'd. */
typedef struct PgraftBytes
{
	char	   *data;
	uint32		length;
} PgraftBytes;

/* ERROR 22004 when argument n is NULL; name is its SQL name. */
extern void pgraft_argument_required(FunctionCallInfo fcinfo, int n, const char *name);

extern raft_id pgraft_argument_node_id(FunctionCallInfo fcinfo, int n);
extern unsigned int pgraft_argument_port(FunctionCallInfo fcinfo, int n);
extern int	pgraft_argument_role(FunctionCallInfo fcinfo, int n);
extern void pgraft_argument_address(FunctionCallInfo fcinfo, int n, char *address);
extern int	pgraft_role_of_text(const char *role);
/* ERROR 22023 unless it can be an address or a name of less than `size` bytes. */
extern void pgraft_check_plain_text(const char *value, const char *name, size_t size);
/* NULL gives "", the host's default. */
extern void pgraft_argument_name(FunctionCallInfo fcinfo, int n, char *name);
/* NULL gives pgraft.request_timeout. */
extern int	pgraft_argument_timeout(FunctionCallInfo fcinfo, int n);

extern PgraftBytes pgraft_argument_key(FunctionCallInfo fcinfo, int n, const char *name,
									   bool may_be_empty);
extern PgraftBytes pgraft_argument_text(FunctionCallInfo fcinfo, int n, const char *name);
extern PgraftBytes pgraft_argument_bytea(FunctionCallInfo fcinfo, int n, const char *name);

/* true = linearizable, false = local; anything else is an ERROR */
extern bool pgraft_argument_consistency(FunctionCallInfo fcinfo, int n);

/* UTF-8 to text in the database's encoding; ERROR when it has no such character. */
extern text *pgraft_utf8_to_text(const char *data, size_t length);
/* The same, NULL instead of the ERROR, and for bytes that are no text at all. */
extern text *pgraft_bytes_to_text_or_null(const char *data, size_t length);

/* Refused in parallel workers: a plan may run a worker's part twice. */
extern void pgraft_refuse_parallel(void);

/* ERROR unless this member's store can be read; first, when linearizable, waits
 * until it has everything that was committed before the call. */
extern void pgraft_prepare_read(bool linearizable);

/* Proposes; the worker answers once this member has applied it. */
extern PgraftCall pgraft_propose(const PgraftCommand *command);

/* ----------------------------------------------------------------
 * Rows: values are added column by column, so that a column without a value is
 * NULL and no position is counted by hand.
 * ----------------------------------------------------------------
 */
#define PGRAFT_MAX_COLUMNS 64

typedef struct PgraftRow
{
	int			n;
	Datum		values[PGRAFT_MAX_COLUMNS];
	bool		nulls[PGRAFT_MAX_COLUMNS];
} PgraftRow;

extern void pgraft_row_begin(PgraftRow *row);
extern void pgraft_row_null(PgraftRow *row);
extern void pgraft_row_bool(PgraftRow *row, bool value);
extern void pgraft_row_int(PgraftRow *row, int value);
extern void pgraft_row_u64(PgraftRow *row, uint64 value);
/* NULL for zero, where zero means unknown or none */
extern void pgraft_row_id(PgraftRow *row, uint64 value);
extern void pgraft_row_float(PgraftRow *row, double value);
/* NULL for NULL and for "" */
extern void pgraft_row_string(PgraftRow *row, const char *value);
extern void pgraft_row_datum(PgraftRow *row, Datum value);
/* NULL for 0 */
extern void pgraft_row_timestamp(PgraftRow *row, TimestampTz value);

/* Of a set-returning function that called InitMaterializedSRF(). */
extern void pgraft_row_store(PgraftRow *row, FunctionCallInfo fcinfo);
/* Of a function that returns one row. */
extern Datum pgraft_row_result(PgraftRow *row, FunctionCallInfo fcinfo);

#endif							/* PGRAFT_SQL_SUPPORT_H */
