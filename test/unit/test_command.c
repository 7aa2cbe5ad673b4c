/*-------------------------------------------------------------------------
 *
 * test_command.c
 *	  Commands and client sessions: round trips, every truncation, every
 *	  header byte damaged; duplicates, eviction, digests.
 *
 * command.c and session.c belong to the worker; they are included here so that
 * they can be tested without a server.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "../../src/worker/command.c"
#include "../../src/worker/session.c"

#include "tap.h"

static void
fill(PgraftCommand *command, int kind, const char *key, const char *value)
{
	memset(command, 0, sizeof(*command));
	command->kind = kind;
	command->key = key;
	command->key_length = (uint32) strlen(key);
	command->value = value;
	command->value_length = (uint32) strlen(value);
}

static bool
round_trip(const PgraftCommand *command)
{
	StringInfoData buffer;
	PgraftCommand decoded;
	bool		same;

	initStringInfo(&buffer);
	pgraft_command_encode(&buffer, command);
	pgraft_command_stamp((unsigned char *) buffer.data, 77, 78);
	same = pgraft_command_decode((unsigned char *) buffer.data, (size_t) buffer.len, &decoded) &&
		decoded.kind == command->kind && decoded.session == 77 && decoded.sequence == 78 &&
		decoded.expected == command->expected &&
		decoded.key_length == command->key_length &&
		decoded.value_length == command->value_length &&
		memcmp(decoded.key, command->key, command->key_length) == 0 &&
		memcmp(decoded.value, command->value, command->value_length) == 0;
	pfree(buffer.data);
	return same;
}

static void
test_round_trips(void)
{
	PgraftCommand command;
	char		longest[PGRAFT_KEY_MAX + 1];

	fill(&command, PGRAFT_COMMAND_LOG, "", "some data");
	ok(round_trip(&command), "log command survives");
	fill(&command, PGRAFT_COMMAND_LOG, "", "");
	ok(round_trip(&command), "empty log command survives");
	fill(&command, PGRAFT_COMMAND_KV_PUT, "key", "value");
	ok(round_trip(&command), "put survives");
	fill(&command, PGRAFT_COMMAND_KV_PUT, "key", "");
	ok(round_trip(&command), "put of an empty value survives");
	fill(&command, PGRAFT_COMMAND_KV_CAS, "key", "value");
	command.expected = PG_UINT64_MAX;
	ok(round_trip(&command), "compare-and-set survives");
	fill(&command, PGRAFT_COMMAND_KV_DELETE, "key", "");
	ok(round_trip(&command), "delete survives");
	fill(&command, PGRAFT_COMMAND_KV_DELETE_PREFIX, "pre", "");
	ok(round_trip(&command), "delete of a prefix survives");
	fill(&command, PGRAFT_COMMAND_KV_RESET, "", "");
	ok(round_trip(&command), "reset survives");

	memset(longest, 'k', PGRAFT_KEY_MAX);
	longest[PGRAFT_KEY_MAX] = '\0';
	fill(&command, PGRAFT_COMMAND_KV_PUT, longest, "v");
	ok(round_trip(&command), "the longest key survives");
}

/*
 * Cuts at every length and flips every bit of the header.  A flip may give
 * another valid command (session, sequence, another kind of the same shape);
 * it must never give one that points outside the input.
 */
static void
test_damage(void)
{
	StringInfoData buffer;
	PgraftCommand command;
	int			length;
	int			bit;
	int			accepted = 0;
	int			outside = 0;

	fill(&command, PGRAFT_COMMAND_KV_PUT, "key", "value");
	initStringInfo(&buffer);
	pgraft_command_encode(&buffer, &command);

	for (length = 0; length < buffer.len; length++)
	{
		if (pgraft_command_decode((unsigned char *) buffer.data, (size_t) length, &command))
			accepted++;
	}
	is_u64(accepted, 0, "no truncated command is accepted");

	appendStringInfoChar(&buffer, 'x');
	ok(!pgraft_command_decode((unsigned char *) buffer.data, (size_t) buffer.len, &command),
	   "trailing bytes are refused");
	buffer.len--;

	for (bit = 0; bit < PGRAFT_COMMAND_HEADER_BYTES * 8; bit++)
	{
		buffer.data[bit / 8] ^= (char) (1 << (bit % 8));
		if (pgraft_command_decode((unsigned char *) buffer.data, (size_t) buffer.len, &command))
		{
			if (command.key < buffer.data ||
				command.value + command.value_length != buffer.data + buffer.len)
				outside++;
			if (bit / 8 < 1 || (bit / 8 >= 2 && bit / 8 < 8) || bit / 8 >= 24)
				accepted++;
		}
		buffer.data[bit / 8] ^= (char) (1 << (bit % 8));
	}
	is_u64(outside, 0, "no decoded command reaches outside its bytes");
	is_u64(accepted, 0, "damaged format, lengths, zeros and expected revision are refused");

	buffer.data[PGRAFT_COMMAND_HEADER_BYTES + 1] = '\0';
	ok(!pgraft_command_decode((unsigned char *) buffer.data, (size_t) buffer.len, &command),
	   "a zero byte in a key is refused");
	buffer.data[PGRAFT_COMMAND_HEADER_BYTES + 1] = 'e';

	buffer.data[OFFSET_KIND] = (char) (PGRAFT_COMMAND_KV_RESET + 1);
	ok(!pgraft_command_decode((unsigned char *) buffer.data, (size_t) buffer.len, &command),
	   "a kind that does not exist is refused");
	buffer.data[OFFSET_KIND] = (char) PGRAFT_COMMAND_LOG;
	ok(!pgraft_command_decode((unsigned char *) buffer.data, (size_t) buffer.len, &command),
	   "a log command with a key is refused");
	ok(!pgraft_command_decode(NULL, 0, &command), "nothing is refused");
	pfree(buffer.data);
}

static void
record(uint64 session, uint64 sequence, uint64 index)
{
	PgraftApplyResult result;

	memset(&result, 0, sizeof(result));
	result.index = index;
	result.value = index * 3;
	result.flag = 1;
	pgraft_session_record(session, sequence, &result);
}

static void
test_sessions(void)
{
	PgraftApplyResult result;
	uint64		empty;
	uint64		before;

	pgraft_session_reset();
	empty = pgraft_session_digest();
	ok(pgraft_session_check(5, 1, &result) == PGRAFT_SESSION_NEW, "an unseen session is new");
	record(5, 1, 10);
	ok(pgraft_session_check(5, 1, &result) == PGRAFT_SESSION_DUPLICATE, "a repeated command is a duplicate");
	ok(result.duplicate && result.index == 10 && result.value == 30 && result.flag == 1,
	   "a duplicate gets the first answer");
	ok(pgraft_session_check(5, 2, &result) == PGRAFT_SESSION_NEW, "the next number is new");
	record(5, 2, 11);
	ok(pgraft_session_check(5, 1, &result) == PGRAFT_SESSION_STALE, "a number from before is stale");
	is_u64(pgraft_session_count(), 1, "one session");
	before = pgraft_session_digest();
	record(0, 9, 12);
	is_u64(pgraft_session_count(), 1, "session zero is not recorded");
	ok(pgraft_session_check(0, 9, &result) == PGRAFT_SESSION_NEW, "session zero is always new");
	ok(pgraft_session_digest() == before && before != empty, "the digest follows the table");
	pgraft_session_reset();
	ok(pgraft_session_digest() == empty, "an emptied table has the digest of an empty one");
}

/* Copies the table through its iterator, like a snapshot does. */
static void
reload(void)
{
	static PgraftSession copy[PGRAFT_MAX_SESSIONS];
	const PgraftSession *session;
	uint64		cursor = 0;
	size_t		n = 0;
	size_t		i;

	while ((session = pgraft_session_next(&cursor)) != NULL)
		copy[n++] = *session;
	pgraft_session_reset();
	for (i = 0; i < n; i++)
		pgraft_session_record(copy[i].session, copy[i].sequence, &copy[i].result);
}

static void
test_eviction(void)
{
	PgraftApplyResult result;
	uint64		index = 0;
	uint64		i;
	uint64		digest;
	uint64		final_digest[2];
	int			missing = 0;
	int			pass;

	for (pass = 0; pass < 2; pass++)
	{
		pgraft_session_reset();
		index = 0;
		for (i = 1; i <= PGRAFT_MAX_SESSIONS; i++)
			record(i * 7, 1, ++index);
		record(7, 2, ++index);	/* the oldest becomes the newest */

		/* the second member starts from a snapshot here */
		digest = pgraft_session_digest();
		if (pass == 1)
		{
			reload();
			ok(pgraft_session_digest() == digest, "a reloaded table has the same digest");
		}
		for (i = 1; i <= 100; i++)
			record(UINT64CONST(1) << 40 | i, 1, ++index);
		final_digest[pass] = pgraft_session_digest();
	}
	is_u64(pgraft_session_count(), PGRAFT_MAX_SESSIONS, "the table is bounded");
	ok(final_digest[0] == final_digest[1], "eviction goes the same way after a reload");
	ok(pgraft_session_check(7, 2, &result) == PGRAFT_SESSION_DUPLICATE, "a session in use stays");
	for (i = 2; i <= PGRAFT_MAX_SESSIONS; i++)
	{
		bool		known = pgraft_session_check(i * 7, 1, &result) == PGRAFT_SESSION_DUPLICATE;

		if (known != (i > 101))
			missing++;
	}
	is_u64(missing, 0, "exactly the least recently applied sessions were evicted");
}

static void
test_digest(void)
{
	ok(pgraft_digest_bytes(pgraft_digest_bytes(0, "ab", 2), "c", 1) !=
	   pgraft_digest_bytes(pgraft_digest_bytes(0, "a", 1), "bc", 2),
	   "the digest knows where one field ends");
	ok(pgraft_digest_bytes(0, "12345678", 8) != pgraft_digest_bytes(0, "12345678\0", 9),
	   "trailing zero bytes count");
}

int
main(void)
{
	test_round_trips();
	test_damage();
	test_sessions();
	test_eviction();
	test_digest();
	return tap_done();
}
