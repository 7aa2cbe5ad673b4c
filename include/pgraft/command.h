/*-------------------------------------------------------------------------
 *
 * command.h
 *	  Commands: the payload of RAFT_ENTRY_NORMAL entries (src/worker/command.c
 *	  describes every byte), and what applying one gives back.
 *
 * A backend builds a command with the pgraft_command_* functions; the worker
 * stamps session and sequence number into it before proposing; every member
 * decodes and applies it.  Decoding never trusts a length.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_COMMAND_H
#define PGRAFT_COMMAND_H

#include "lib/stringinfo.h"

typedef enum PgraftCommandKind
{
	PGRAFT_COMMAND_LOG = 1,		/* value = application data, only logged */
	PGRAFT_COMMAND_KV_PUT,		/* key, value */
	PGRAFT_COMMAND_KV_DELETE,	/* key */
	PGRAFT_COMMAND_KV_DELETE_PREFIX,	/* key = prefix */
	PGRAFT_COMMAND_KV_CAS,		/* key, expected revision (0 = must not exist),
								 * value */
	PGRAFT_COMMAND_KV_RESET,	/* forget all keys; revision goes on */
	PGRAFT_COMMAND_HA			/* value = encoded PgraftHaCommand */
} PgraftCommandKind;

#define PGRAFT_KEY_MAX 1024		/* bytes; at least 1 */
#define PGRAFT_COMMAND_HEADER_BYTES 40	/* encoded, before key and value */

typedef struct PgraftCommand
{
	int			kind;
	uint64		session;		/* 0 = none: no de-duplication */
	uint64		sequence;
	uint64		expected;		/* CAS: mod revision */
	uint32		key_length;
	const char *key;
	uint32		value_length;
	const char *value;
} PgraftCommand;

/* Appends the encoded command; session and sequence may still be 0. */
extern void pgraft_command_encode(StringInfo buffer, const PgraftCommand *command);

/* Overwrites session and sequence in an encoded command. */
extern void pgraft_command_stamp(unsigned char *encoded, uint64 session, uint64 sequence);

/* False for anything that encode cannot have written.  Points into data. */
extern bool pgraft_command_decode(const unsigned char *data, size_t length,
								  PgraftCommand *command);

/* "log", "kv_put", ...; NULL for a number that no kind has. */
extern const char *pgraft_command_kind_name(int kind);

/* What applying a command answers to the caller who proposed it. */
typedef struct PgraftApplyResult
{
	uint64		index;			/* log index at which it was applied (the first
								 * time, for a duplicate) */
	uint64		value;			/* PUT, CAS: the new revision; DELETE*: keys
								 * deleted; LOG: the index; HA: PgraftHaVerdict */
	int			flag;			/* CAS: succeeded; DELETE*: something was deleted */
	bool		duplicate;		/* it had been applied before */
} PgraftApplyResult;

#endif							/* PGRAFT_COMMAND_H */
