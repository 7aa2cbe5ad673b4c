/*-------------------------------------------------------------------------
 *
 * wire_message.c
 *	  The payload of RAFT frames: one message of the engine.
 *
 * Pure functions like wire.c; the only memory is the caller's scratch space,
 * which grows only after the payload was found long enough for the number of
 * entries that it claims.
 *
 * All integers are little-endian and unaligned.  from, to and incarnations are
 * in the frame header.
 *
 *	 0	1	message type (enum raft_message_type)
 *	 1	1	reject: 0 or 1
 *	 2	2	flags (RAFT_FLAG_*)
 *	 4	2	which of the fields below are there: bit 0 = term, 1 = index,
 *			2 = log_term, 3 = commit, 4 = context, 5 = hint_index,
 *			6 = hint_term, 7 = offset, 8 = total
 *	 6	2	0
 *	 8		8 bytes for each field that is there, in that order; a field that
 *			is not there is 0, one that is there is not
 *
 * then, in APPEND:
 *
 *	 0	4	number of entries
 *	 4		the entries: 8 index, 8 term, 4 length, 1 type, 3 zero, the data;
 *			the first entry's index is the message's index + 1, each next one
 *			is greater by one
 *
 * and in SNAPSHOT:
 *
 *	 0	8	index of the snapshot
 *	 8	8	term of the snapshot
 *	16	8	index of the configuration's entry
 *	24	4	length of the configuration
 *	28	4	length of the chunk
 *	32		configuration (see raft_config_encode()), chunk
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/wire_message.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/bytes.h"
#include "pgraft/wire.h"

#define MESSAGE_FIXED_BYTES 8
#define ENTRY_FIXED_BYTES 24
#define SNAPSHOT_FIXED_BYTES 32
#define MESSAGE_FLAGS \
	(RAFT_FLAG_TRANSFER | RAFT_FLAG_LEADER_GONE | RAFT_FLAG_LAST_CHUNK | RAFT_FLAG_WITNESS)

/* Bit i of the field mask stands for the raft_u64 at message_fields[i]. */
static const size_t message_fields[] = {
	offsetof(struct raft_message, term),
	offsetof(struct raft_message, index),
	offsetof(struct raft_message, log_term),
	offsetof(struct raft_message, commit),
	offsetof(struct raft_message, context),
	offsetof(struct raft_message, hint_index),
	offsetof(struct raft_message, hint_term),
	offsetof(struct raft_message, offset),
	offsetof(struct raft_message, total)
};

/* What of a payload is not yet decoded. */
typedef struct Remainder
{
	const unsigned char *at;
	size_t		length;
} Remainder;

static raft_u64 get_field(const struct raft_message *message, int field);
static size_t encoded_config(const struct raft_snapshot_meta *meta, unsigned char *buffer);
static unsigned char *encode_entries(unsigned char *at, const struct raft_message *message);
static void encode_snapshot(unsigned char *at, const struct raft_message *message);
static bool decode_fields(Remainder *rest, struct raft_message *message);
static PgraftErrorCode decode_entries(Remainder *rest, PgraftWireScratch *scratch,
									  struct raft_message *message, PgraftError *error);
static bool decode_entry(Remainder *rest, raft_index index, struct raft_entry *entry);
static bool decode_snapshot(Remainder *rest, PgraftWireScratch *scratch,
							struct raft_message *message);
static bool reserve_entries(PgraftWireScratch *scratch, size_t n_entries);

/* ----------------------------------------------------------------
 * Encoding
 * ----------------------------------------------------------------
 */

size_t
pgraft_wire_message_bytes(const struct raft_message *message)
{
	unsigned char config[RAFT_CONFIG_MAX_BYTES];
	size_t		bytes = MESSAGE_FIXED_BYTES;
	size_t		i;

	for (i = 0; i < lengthof(message_fields); i++)
		if (get_field(message, (int) i) != 0)
			bytes += 8;
	if (message->type == RAFT_MSG_APPEND)
	{
		bytes += 4;
		for (i = 0; i < message->n_entries; i++)
			bytes += ENTRY_FIXED_BYTES + message->entries[i].length;
	}
	else if (message->type == RAFT_MSG_SNAPSHOT)
		bytes += SNAPSHOT_FIXED_BYTES + encoded_config(message->snapshot, config) +
			message->chunk_length;
	return bytes;
}

void
pgraft_wire_encode_message(unsigned char *buffer, const struct raft_message *message)
{
	unsigned char *at = buffer + MESSAGE_FIXED_BYTES;
	unsigned int mask = 0;
	size_t		i;

	for (i = 0; i < lengthof(message_fields); i++)
	{
		raft_u64	value = get_field(message, (int) i);

		if (value != 0)
		{
			mask |= 1U << i;
			pgraft_put_u64(at, value);
			at += 8;
		}
	}
	buffer[0] = (unsigned char) message->type;
	buffer[1] = message->reject != 0;
	buffer[2] = (unsigned char) message->flags;
	buffer[3] = (unsigned char) (message->flags >> 8);
	buffer[4] = (unsigned char) mask;
	buffer[5] = (unsigned char) (mask >> 8);
	buffer[6] = 0;
	buffer[7] = 0;
	if (message->type == RAFT_MSG_APPEND)
		(void) encode_entries(at, message);
	else if (message->type == RAFT_MSG_SNAPSHOT)
		encode_snapshot(at, message);
}

static raft_u64
get_field(const struct raft_message *message, int field)
{
	raft_u64	value;

	memcpy(&value, (const char *) message + message_fields[field], sizeof(value));
	return value;
}

static unsigned char *
encode_entries(unsigned char *at, const struct raft_message *message)
{
	size_t		i;

	pgraft_put_u32(at, (uint32) message->n_entries);
	at += 4;
	for (i = 0; i < message->n_entries; i++)
	{
		const struct raft_entry *entry = &message->entries[i];

		pgraft_put_u64(at, entry->index);
		pgraft_put_u64(at + 8, entry->term);
		pgraft_put_u32(at + 16, (uint32) entry->length);
		pgraft_put_u32(at + 20, (uint32) entry->type);
		at += ENTRY_FIXED_BYTES;
		if (entry->length > 0)
			memcpy(at, entry->data, entry->length);
		at += entry->length;
	}
	return at;
}

static void
encode_snapshot(unsigned char *at, const struct raft_message *message)
{
	const struct raft_snapshot_meta *meta = message->snapshot;
	unsigned char config[RAFT_CONFIG_MAX_BYTES];
	size_t		config_length = encoded_config(meta, config);

	pgraft_put_u64(at, meta->index);
	pgraft_put_u64(at + 8, meta->term);
	pgraft_put_u64(at + 16, meta->config.index);
	pgraft_put_u32(at + 24, (uint32) config_length);
	pgraft_put_u32(at + 28, (uint32) message->chunk_length);
	at += SNAPSHOT_FIXED_BYTES;
	memcpy(at, config, config_length);
	if (message->chunk_length > 0)
		memcpy(at + config_length, message->chunk, message->chunk_length);
}

static size_t
encoded_config(const struct raft_snapshot_meta *meta, unsigned char *buffer)
{
	return raft_config_encode(&meta->config, buffer, RAFT_CONFIG_MAX_BYTES);
}

/* ----------------------------------------------------------------
 * Decoding
 * ----------------------------------------------------------------
 */

PgraftErrorCode
pgraft_wire_decode_message(const PgraftFrameHeader *header, const unsigned char *payload,
						   PgraftWireScratch *scratch, struct raft_message *message,
						   PgraftError *error)
{
	Remainder	rest;
	PgraftErrorCode code;

	memset(message, 0, sizeof(*message));
	rest.at = payload;
	rest.length = header->length;
	if (!decode_fields(&rest, message))
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL, "malformed message");
	message->from = header->from;
	message->to = header->to;
	message->from_incarnation = header->from_incarnation;
	message->to_incarnation = header->to_incarnation;

	if (message->type == RAFT_MSG_APPEND)
	{
		code = decode_entries(&rest, scratch, message, error);
		if (code != PGRAFT_OK)
			return code;
	}
	else if (message->type == RAFT_MSG_SNAPSHOT && !decode_snapshot(&rest, scratch, message))
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL, "malformed snapshot message");
	if (rest.length != 0)
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL,
							"%zu extra bytes after a message", rest.length);
	return PGRAFT_OK;
}

void
pgraft_wire_free_scratch(PgraftWireScratch *scratch)
{
	free(scratch->entries);
	scratch->entries = NULL;
	scratch->n_entries_allocated = 0;
}

static bool
decode_fields(Remainder *rest, struct raft_message *message)
{
	const unsigned char *fixed = rest->at;
	unsigned int mask;
	size_t		i;

	if (rest->length < MESSAGE_FIXED_BYTES)
		return false;
	message->type = fixed[0];
	message->reject = fixed[1];
	message->flags = (unsigned int) (fixed[2] | (fixed[3] << 8));
	mask = (unsigned int) (fixed[4] | (fixed[5] << 8));
	if (message->type < RAFT_MSG_PREVOTE || message->type > RAFT_MSG_MAX ||
		message->reject > 1 || (message->flags & ~(unsigned int) MESSAGE_FLAGS) != 0 ||
		mask >> lengthof(message_fields) != 0 || fixed[6] != 0 || fixed[7] != 0)
		return false;
	rest->at += MESSAGE_FIXED_BYTES;
	rest->length -= MESSAGE_FIXED_BYTES;

	for (i = 0; i < lengthof(message_fields); i++)
	{
		raft_u64	value;

		if ((mask & (1U << i)) == 0)
			continue;
		if (rest->length < 8)
			return false;
		value = pgraft_get_u64(rest->at);
		if (value == 0)
			return false;
		memcpy((char *) message + message_fields[i], &value, sizeof(value));
		rest->at += 8;
		rest->length -= 8;
	}
	return true;
}

static PgraftErrorCode
decode_entries(Remainder *rest, PgraftWireScratch *scratch,
			   struct raft_message *message, PgraftError *error)
{
	size_t		n_entries;
	size_t		i;

	if (rest->length < 4)
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL, "malformed message");
	n_entries = pgraft_get_u32(rest->at);
	rest->at += 4;
	rest->length -= 4;
	if (n_entries > rest->length / ENTRY_FIXED_BYTES)
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL,
							"%zu entries do not fit into a message", n_entries);
	if (!reserve_entries(scratch, n_entries))
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");

	for (i = 0; i < n_entries; i++)
		if (!decode_entry(rest, message->index + 1 + i, &scratch->entries[i]))
			return pgraft_error(error, PGRAFT_ERR_PROTOCOL, "malformed entry in a message");
	message->n_entries = n_entries;
	message->entries = n_entries > 0 ? scratch->entries : NULL;
	return PGRAFT_OK;
}

static bool
decode_entry(Remainder *rest, raft_index index, struct raft_entry *entry)
{
	uint32		type;

	if (rest->length < ENTRY_FIXED_BYTES)
		return false;
	entry->index = pgraft_get_u64(rest->at);
	entry->term = pgraft_get_u64(rest->at + 8);
	entry->length = pgraft_get_u32(rest->at + 16);
	type = pgraft_get_u32(rest->at + 20);
	rest->at += ENTRY_FIXED_BYTES;
	rest->length -= ENTRY_FIXED_BYTES;

	/* index 0 is an overflow of the sum in the caller */
	if (entry->index != index || index == 0 || type > RAFT_ENTRY_CONFIG ||
		entry->length > rest->length)
		return false;
	entry->type = (int) type;
	entry->data = entry->length > 0 ? rest->at : NULL;
	rest->at += entry->length;
	rest->length -= entry->length;
	return true;
}

static bool
decode_snapshot(Remainder *rest, PgraftWireScratch *scratch, struct raft_message *message)
{
	struct raft_snapshot_meta *meta = &scratch->snapshot;
	const unsigned char *fixed = rest->at;
	size_t		config_length;

	if (rest->length < SNAPSHOT_FIXED_BYTES)
		return false;
	config_length = pgraft_get_u32(fixed + 24);
	message->chunk_length = pgraft_get_u32(fixed + 28);
	rest->at += SNAPSHOT_FIXED_BYTES;
	rest->length -= SNAPSHOT_FIXED_BYTES;
	if (config_length > rest->length ||
		message->chunk_length != rest->length - config_length ||
		raft_config_decode(&meta->config, rest->at, config_length) != RAFT_OK)
		return false;
	meta->index = pgraft_get_u64(fixed);
	meta->term = pgraft_get_u64(fixed + 8);
	meta->config.index = pgraft_get_u64(fixed + 16);
	message->snapshot = meta;
	message->chunk = message->chunk_length > 0 ? rest->at + config_length : NULL;
	rest->at += rest->length;
	rest->length = 0;
	return true;
}

static bool
reserve_entries(PgraftWireScratch *scratch, size_t n_entries)
{
	struct raft_entry *entries;
	size_t		wanted;

	if (n_entries <= scratch->n_entries_allocated)
		return true;
	wanted = Max(n_entries, 2 * scratch->n_entries_allocated);
	wanted = Max(wanted, 64);
	entries = realloc(scratch->entries, wanted * sizeof(struct raft_entry));
	if (entries == NULL)
		return false;
	scratch->entries = entries;
	scratch->n_entries_allocated = wanted;
	return true;
}
