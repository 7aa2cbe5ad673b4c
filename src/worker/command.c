/*-------------------------------------------------------------------------
 *
 * command.c
 *	  Commands: what RAFT_ENTRY_NORMAL entries carry.
 *
 * A backend encodes, the worker of the same server stamps session and
 * sequence, every member decodes when it applies.  Pure functions over bytes:
 * no shared memory, no lock, nothing kept.  The bytes are kept for good in the
 * log, travel between members of different versions, and are therefore never
 * changed: a new meaning gets a new kind or a new format number.
 *
 * Format 1.  Integers are little-endian, whatever the machine.
 *
 *	offset	size
 *	0		1		format, 1
 *	1		1		kind, enum PgraftCommandKind
 *	2		2		zero
 *	4		4		key length K, in bytes
 *	8		8		session, 0 = none
 *	16		8		sequence within the session
 *	24		8		expected revision (KV_CAS), else zero
 *	32		4		value length V, in bytes
 *	36		4		zero
 *	40		K		key (or prefix)
 *	40+K	V		value
 *
 * The length of the whole is exactly 40 + K + V.  What each kind has:
 *
 *	LOG					K = 0					V any
 *	KV_PUT, KV_CAS		K = 1..PGRAFT_KEY_MAX	V any
 *	KV_DELETE,
 *	KV_DELETE_PREFIX	K = 1..PGRAFT_KEY_MAX	V = 0
 *	KV_RESET			K = 0					V = 0
 *	HA					K = 0					V = 1.. (document_codec.c)
 *
 * A key has no zero byte.  There is no checksum: the log's records and the
 * network's frames carry theirs.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/worker/command.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/command.h"
#include "pgraft/bytes.h"

#define COMMAND_FORMAT 1

#define OFFSET_FORMAT 0
#define OFFSET_KIND 1
#define OFFSET_ZERO 2
#define OFFSET_KEY_LENGTH 4
#define OFFSET_SESSION 8
#define OFFSET_SEQUENCE 16
#define OFFSET_EXPECTED 24
#define OFFSET_VALUE_LENGTH 32
#define OFFSET_ZERO2 36

static bool command_is_valid(const PgraftCommand *command);

/*
 * The caller has checked the limits (key length, size of the whole) and
 * reported violations in its own words; here they are programming errors.
 */
void
pgraft_command_encode(StringInfo buffer, const PgraftCommand *command)
{
	unsigned char header[PGRAFT_COMMAND_HEADER_BYTES];

	Assert(command_is_valid(command));

	memset(header, 0, sizeof(header));
	header[OFFSET_FORMAT] = COMMAND_FORMAT;
	header[OFFSET_KIND] = (unsigned char) command->kind;
	pgraft_put_u32(header + OFFSET_KEY_LENGTH, command->key_length);
	pgraft_put_u64(header + OFFSET_SESSION, command->session);
	pgraft_put_u64(header + OFFSET_SEQUENCE, command->sequence);
	pgraft_put_u64(header + OFFSET_EXPECTED, command->expected);
	pgraft_put_u32(header + OFFSET_VALUE_LENGTH, command->value_length);

	appendBinaryStringInfo(buffer, (char *) header, sizeof(header));
	if (command->key_length > 0)
		appendBinaryStringInfo(buffer, command->key, (int) command->key_length);
	if (command->value_length > 0)
		appendBinaryStringInfo(buffer, command->value, (int) command->value_length);
}

void
pgraft_command_stamp(unsigned char *encoded, uint64 session, uint64 sequence)
{
	pgraft_put_u64(encoded + OFFSET_SESSION, session);
	pgraft_put_u64(encoded + OFFSET_SEQUENCE, sequence);
}

bool
pgraft_command_decode(const unsigned char *data, size_t length, PgraftCommand *command)
{
	size_t		payload;

	if (data == NULL || length < PGRAFT_COMMAND_HEADER_BYTES)
		return false;
	if (data[OFFSET_FORMAT] != COMMAND_FORMAT ||
		data[OFFSET_ZERO] != 0 || data[OFFSET_ZERO + 1] != 0 ||
		pgraft_get_u32(data + OFFSET_ZERO2) != 0)
		return false;

	memset(command, 0, sizeof(*command));
	command->kind = data[OFFSET_KIND];
	command->session = pgraft_get_u64(data + OFFSET_SESSION);
	command->sequence = pgraft_get_u64(data + OFFSET_SEQUENCE);
	command->expected = pgraft_get_u64(data + OFFSET_EXPECTED);
	command->key_length = pgraft_get_u32(data + OFFSET_KEY_LENGTH);
	command->value_length = pgraft_get_u32(data + OFFSET_VALUE_LENGTH);

	/* subtract rather than add: the two lengths are not to be trusted yet */
	payload = length - PGRAFT_COMMAND_HEADER_BYTES;
	if (command->key_length > payload ||
		command->value_length != payload - command->key_length)
		return false;

	command->key = (const char *) data + PGRAFT_COMMAND_HEADER_BYTES;
	command->value = command->key + command->key_length;
	return command_is_valid(command);
}

/* "log", "kv_put", ...; NULL for a number that no kind has. */
const char *
pgraft_command_kind_name(int kind)
{
	switch (kind)
	{
		case PGRAFT_COMMAND_LOG:
			return "log";
		case PGRAFT_COMMAND_KV_PUT:
			return "kv_put";
		case PGRAFT_COMMAND_KV_DELETE:
			return "kv_delete";
		case PGRAFT_COMMAND_KV_DELETE_PREFIX:
			return "kv_delete_prefix";
		case PGRAFT_COMMAND_KV_CAS:
			return "kv_cas";
		case PGRAFT_COMMAND_KV_RESET:
			return "kv_reset";
		case PGRAFT_COMMAND_HA:
			return "ha";
	}
	return NULL;
}

/* The table of kinds in the header comment. */
static bool
command_is_valid(const PgraftCommand *command)
{
	bool		has_key = false;
	bool		may_have_value = false;

	switch (command->kind)
	{
		case PGRAFT_COMMAND_LOG:
			may_have_value = true;
			break;
		case PGRAFT_COMMAND_KV_PUT:
		case PGRAFT_COMMAND_KV_CAS:
			has_key = true;
			may_have_value = true;
			break;
		case PGRAFT_COMMAND_KV_DELETE:
		case PGRAFT_COMMAND_KV_DELETE_PREFIX:
			has_key = true;
			break;
		case PGRAFT_COMMAND_KV_RESET:
			break;
		case PGRAFT_COMMAND_HA:
			if (command->value_length == 0)
				return false;
			may_have_value = true;
			break;
		default:
			return false;
	}

	if (has_key)
	{
		if (command->key_length < 1 || command->key_length > PGRAFT_KEY_MAX ||
			memchr(command->key, '\0', command->key_length) != NULL)
			return false;
	}
	else if (command->key_length != 0)
		return false;

	if (!may_have_value && command->value_length != 0)
		return false;
	if (command->kind != PGRAFT_COMMAND_KV_CAS && command->expected != 0)
		return false;
	return true;
}
