/*-------------------------------------------------------------------------
 *
 * document_codec.c
 *	  Bytes of the cluster document and of the commands that change it.
 *
 * Commands are kept in the log for good, the document in snapshots; members of
 * different versions read both.  A new field therefore means a new format
 * number, and what is written here is never changed.  Pure functions over
 * bytes, no allocation.  Each value has one encoding: decode accepts exactly
 * what encode writes.
 *
 * Integers are little-endian.  A text is its length in 2 bytes and the bytes,
 * of which none is zero.  A sync set is k and n in 1 byte each, then n ids in
 * 4 bytes each, ascending; one with the bit PGRAFT_HA_GONE may occur twice.
 *
 * Command, format 1
 *	1	format, 1				1	kind
 *	1	forced, 0 or 1			1	state
 *	4	member					4	priority (two's complement)
 *	4	port					4	timeline
 *	8	epoch					8	incarnation
 *	8	wal_epoch				8	lsn
 *	8	generation				8	tag
 *	8	system_identifier
 *	8	time					8	patience (both two's complement)
 *	sync set; text host; text reason
 *
 * Command, format 2: the kinds that have positions, and no others
 *	as format 1, then 8 bytes for each member of the sync set
 *
 * Document, format 2 (no release wrote format 1)
 *	1	format, 2				1	phase
 *	1	paused, 0 or 1			1	mode
 *	8	system_identifier		8	epoch
 *	8	primary_epoch			8	changes
 *	8	sync_generation			8	switchover_patience
 *	8	switchover_serial		8	switchover_lsn
 *	4	primary					4	old_primary
 *	4	switchover_target		4	switchover_from
 *	4	force_target			4	scheduled_target
 *	8	scheduled_at			8	maximum_lag
 *	8	primary_lsn				8	primary_lsn_at
 *	4	wanted_k
 *	sync set in force; next sync set
 *	1	number of members, then for each:
 *		4	id					1	state
 *		1	reported, 0 or 1	4	priority
 *		4	port				4	timeline
 *		8	incarnation			8	wal_epoch
 *		8	lsn					8	kept_lsn
 *		text host
 *	1	number of epochs, then for each:
 *		1	promoted, 0 or 1
 *		4	old_primary			4	new_primary
 *		4	timeline
 *		8	epoch				8	began_at
 *		8	ended_at			8	fork_lsn
 *		8	tag					8	base_epoch
 *		8	base_lsn			8	lag
 *		1	lagged, 0 or 1		text reason
 *
 * There is no checksum: log records, frames and snapshots carry theirs.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/document_codec.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/bytes.h"
#include "pgraft/ha_document.h"

#define COMMAND_FORMAT 1
#define COMMAND_FORMAT_POSITIONS 2
#define DOCUMENT_FORMAT 2

/* The largest that encode can write must fit into what callers provide. */
#define SET_BYTES (2 + 4 * PGRAFT_HA_MAX_MEMBERS)
#define COMMAND_BYTES (92 + SET_BYTES + 2 + PGRAFT_HA_HOST_SIZE + 2 + PGRAFT_HA_REASON_SIZE + \
					   8 * PGRAFT_HA_MAX_MEMBERS)
#define MEMBER_BYTES (50 + 2 + PGRAFT_HA_HOST_SIZE)
#define EPOCH_BYTES (78 + 2 + PGRAFT_HA_REASON_SIZE)
#define DOCUMENT_BYTES (128 + 2 * SET_BYTES + 2 + PGRAFT_HA_MAX_MEMBERS * MEMBER_BYTES + \
						PGRAFT_HA_HISTORY * EPOCH_BYTES)
StaticAssertDecl(COMMAND_BYTES <= PGRAFT_HA_COMMAND_MAX, "command buffers are too small");
StaticAssertDecl(DOCUMENT_BYTES <= PGRAFT_HA_DOCUMENT_MAX, "document buffers are too small");

/* Reads until something is wrong; from then on every value is 0. */
typedef struct Reader
{
	const unsigned char *data;
	size_t		left;
	bool		good;
} Reader;

static unsigned char *put_u8(unsigned char *out, unsigned int value);
static unsigned char *put_u32(unsigned char *out, uint32 value);
static unsigned char *put_u64(unsigned char *out, uint64 value);
static unsigned char *put_text(unsigned char *out, const char *text);
static unsigned char *put_set(unsigned char *out, const PgraftHaSyncSet *set);
static unsigned char *put_member(unsigned char *out, const PgraftHaMember *member);
static unsigned char *put_epoch(unsigned char *out, const PgraftHaEpoch *entry);
static unsigned int take_u8(Reader *reader, unsigned int limit);
static uint32 take_u32(Reader *reader);
static uint64 take_u64(Reader *reader);
static void take_text(Reader *reader, char *text, size_t size);
static void take_set(Reader *reader, PgraftHaSyncSet *set);
static void take_member(Reader *reader, PgraftHaMember *member);
static void take_epoch(Reader *reader, PgraftHaEpoch *entry);
static unsigned int format_of_kind(int kind);

/* ----------------------------------------------------------------
 * Commands
 * ----------------------------------------------------------------
 */

static unsigned int
format_of_kind(int kind)
{
	return kind == PGRAFT_HA_POSITIONS ? COMMAND_FORMAT_POSITIONS : COMMAND_FORMAT;
}

size_t
pgraft_ha_command_encode(const PgraftHaCommand *command, unsigned char *buffer)
{
	unsigned char *out = buffer;
	unsigned int format = format_of_kind(command->kind);
	int			i;

	out = put_u8(out, format);
	out = put_u8(out, (unsigned int) command->kind);
	out = put_u8(out, command->forced ? 1 : 0);
	out = put_u8(out, (unsigned int) command->state);
	out = put_u32(out, command->member);
	out = put_u32(out, (uint32) command->priority);
	out = put_u32(out, command->port);
	out = put_u32(out, command->timeline);
	out = put_u64(out, command->epoch);
	out = put_u64(out, command->incarnation);
	out = put_u64(out, command->wal_epoch);
	out = put_u64(out, command->lsn);
	out = put_u64(out, command->generation);
	out = put_u64(out, command->tag);
	out = put_u64(out, command->system_identifier);
	out = put_u64(out, (uint64) command->time);
	out = put_u64(out, (uint64) command->patience);
	out = put_set(out, &command->sync);
	out = put_text(out, command->host);
	out = put_text(out, command->reason);
	for (i = 0; format == COMMAND_FORMAT_POSITIONS && i < command->sync.n; i++)
		out = put_u64(out, command->positions[i]);
	return (size_t) (out - buffer);
}

bool
pgraft_ha_command_decode(PgraftHaCommand *command, const unsigned char *data, size_t length)
{
	Reader		reader = {data, length, true};
	unsigned int format;
	int			i;

	memset(command, 0, sizeof(*command));
	format = take_u8(&reader, COMMAND_FORMAT_POSITIONS);
	command->kind = (int) take_u8(&reader, PGRAFT_HA_SWITCHOVER_TARGET);
	if (!reader.good || format != format_of_kind(command->kind))
		return false;
	command->forced = take_u8(&reader, 1) != 0;
	command->state = (int) take_u8(&reader, PGRAFT_HA_MEMBER_RECLONE);
	command->member = take_u32(&reader);
	command->priority = (int) take_u32(&reader);
	command->port = take_u32(&reader);
	command->timeline = take_u32(&reader);
	command->epoch = take_u64(&reader);
	command->incarnation = take_u64(&reader);
	command->wal_epoch = take_u64(&reader);
	command->lsn = take_u64(&reader);
	command->generation = take_u64(&reader);
	command->tag = take_u64(&reader);
	command->system_identifier = take_u64(&reader);
	command->time = (int64) take_u64(&reader);
	command->patience = (int64) take_u64(&reader);
	take_set(&reader, &command->sync);
	take_text(&reader, command->host, sizeof(command->host));
	take_text(&reader, command->reason, sizeof(command->reason));
	for (i = 0; format == COMMAND_FORMAT_POSITIONS && i < command->sync.n; i++)
		command->positions[i] = take_u64(&reader);
	return reader.good && reader.left == 0 && command->kind >= PGRAFT_HA_MEMBER;
}

/* ----------------------------------------------------------------
 * The document
 * ----------------------------------------------------------------
 */

size_t
pgraft_ha_document_encode(const PgraftHaDocument *document, unsigned char *buffer)
{
	unsigned char *out = buffer;
	int			i;

	out = put_u8(out, DOCUMENT_FORMAT);
	out = put_u8(out, (unsigned int) document->phase);
	out = put_u8(out, document->paused ? 1 : 0);
	out = put_u8(out, (unsigned int) document->mode);
	out = put_u64(out, document->system_identifier);
	out = put_u64(out, document->epoch);
	out = put_u64(out, document->primary_epoch);
	out = put_u64(out, document->changes);
	out = put_u64(out, document->sync_generation);
	out = put_u64(out, (uint64) document->switchover_patience);
	out = put_u64(out, document->switchover_serial);
	out = put_u64(out, document->switchover_lsn);
	out = put_u32(out, document->primary);
	out = put_u32(out, document->old_primary);
	out = put_u32(out, document->switchover_target);
	out = put_u32(out, document->switchover_from);
	out = put_u32(out, document->force_target);
	out = put_u32(out, document->scheduled_target);
	out = put_u64(out, (uint64) document->scheduled_at);
	out = put_u64(out, document->maximum_lag);
	out = put_u64(out, document->primary_lsn);
	out = put_u64(out, (uint64) document->primary_lsn_at);
	out = put_u32(out, (uint32) document->wanted_k);
	out = put_set(out, &document->sync);
	out = put_set(out, &document->next_sync);
	out = put_u8(out, (unsigned int) document->n_members);
	for (i = 0; i < document->n_members; i++)
		out = put_member(out, &document->members[i]);
	out = put_u8(out, (unsigned int) document->n_history);
	for (i = 0; i < document->n_history; i++)
		out = put_epoch(out, &document->history[i]);
	return (size_t) (out - buffer);
}

bool
pgraft_ha_document_decode(PgraftHaDocument *document, const unsigned char *data,
						  size_t length)
{
	Reader		reader = {data, length, true};
	int			i;

	memset(document, 0, sizeof(*document));
	if (take_u8(&reader, DOCUMENT_FORMAT) != DOCUMENT_FORMAT)
		return false;
	document->phase = (int) take_u8(&reader, PGRAFT_HA_DRAINING);
	document->paused = take_u8(&reader, 1) != 0;
	document->mode = (int) take_u8(&reader, PGRAFT_HA_ASYNC);
	document->system_identifier = take_u64(&reader);
	document->epoch = take_u64(&reader);
	document->primary_epoch = take_u64(&reader);
	document->changes = take_u64(&reader);
	document->sync_generation = take_u64(&reader);
	document->switchover_patience = (int64) take_u64(&reader);
	document->switchover_serial = take_u64(&reader);
	document->switchover_lsn = take_u64(&reader);
	document->primary = take_u32(&reader);
	document->old_primary = take_u32(&reader);
	document->switchover_target = take_u32(&reader);
	document->switchover_from = take_u32(&reader);
	document->force_target = take_u32(&reader);
	document->scheduled_target = take_u32(&reader);
	document->scheduled_at = (int64) take_u64(&reader);
	document->maximum_lag = take_u64(&reader);
	document->primary_lsn = take_u64(&reader);
	document->primary_lsn_at = (int64) take_u64(&reader);
	document->wanted_k = (int) take_u32(&reader);
	take_set(&reader, &document->sync);
	take_set(&reader, &document->next_sync);
	document->n_members = (int) take_u8(&reader, PGRAFT_HA_MAX_MEMBERS);
	for (i = 0; i < document->n_members; i++)
		take_member(&reader, &document->members[i]);
	document->n_history = (int) take_u8(&reader, PGRAFT_HA_HISTORY);
	for (i = 0; i < document->n_history; i++)
		take_epoch(&reader, &document->history[i]);
	return reader.good && reader.left == 0 && pgraft_ha_document_check(document) == NULL;
}

/* ----------------------------------------------------------------
 * Pieces
 * ----------------------------------------------------------------
 */

static unsigned char *
put_member(unsigned char *out, const PgraftHaMember *member)
{
	out = put_u32(out, member->id);
	out = put_u8(out, (unsigned int) member->state);
	out = put_u8(out, member->reported ? 1 : 0);
	out = put_u32(out, (uint32) member->priority);
	out = put_u32(out, member->port);
	out = put_u32(out, member->timeline);
	out = put_u64(out, member->incarnation);
	out = put_u64(out, member->wal_epoch);
	out = put_u64(out, member->lsn);
	out = put_u64(out, member->kept_lsn);
	return put_text(out, member->host);
}

static void
take_member(Reader *reader, PgraftHaMember *member)
{
	member->id = take_u32(reader);
	member->state = (int) take_u8(reader, PGRAFT_HA_MEMBER_RECLONE);
	member->reported = take_u8(reader, 1) != 0;
	member->priority = (int) take_u32(reader);
	member->port = take_u32(reader);
	member->timeline = take_u32(reader);
	member->incarnation = take_u64(reader);
	member->wal_epoch = take_u64(reader);
	member->lsn = take_u64(reader);
	member->kept_lsn = take_u64(reader);
	take_text(reader, member->host, sizeof(member->host));
}

static unsigned char *
put_epoch(unsigned char *out, const PgraftHaEpoch *entry)
{
	out = put_u8(out, entry->promoted ? 1 : 0);
	out = put_u32(out, entry->old_primary);
	out = put_u32(out, entry->new_primary);
	out = put_u32(out, entry->timeline);
	out = put_u64(out, entry->epoch);
	out = put_u64(out, (uint64) entry->began_at);
	out = put_u64(out, (uint64) entry->ended_at);
	out = put_u64(out, entry->fork_lsn);
	out = put_u64(out, entry->tag);
	out = put_u64(out, entry->base_epoch);
	out = put_u64(out, entry->base_lsn);
	out = put_u64(out, entry->lag);
	out = put_u8(out, entry->lagged ? 1 : 0);
	return put_text(out, entry->reason);
}

static void
take_epoch(Reader *reader, PgraftHaEpoch *entry)
{
	entry->promoted = take_u8(reader, 1) != 0;
	entry->old_primary = take_u32(reader);
	entry->new_primary = take_u32(reader);
	entry->timeline = take_u32(reader);
	entry->epoch = take_u64(reader);
	entry->began_at = (int64) take_u64(reader);
	entry->ended_at = (int64) take_u64(reader);
	entry->fork_lsn = take_u64(reader);
	entry->tag = take_u64(reader);
	entry->base_epoch = take_u64(reader);
	entry->base_lsn = take_u64(reader);
	entry->lag = take_u64(reader);
	entry->lagged = take_u8(reader, 1) != 0;
	take_text(reader, entry->reason, sizeof(entry->reason));
}

static unsigned char *
put_set(unsigned char *out, const PgraftHaSyncSet *set)
{
	int			i;

	out = put_u8(out, (unsigned int) set->k);
	out = put_u8(out, (unsigned int) set->n);
	for (i = 0; i < set->n; i++)
		out = put_u32(out, set->members[i]);
	return out;
}

static void
take_set(Reader *reader, PgraftHaSyncSet *set)
{
	int			i;

	set->k = (int) take_u8(reader, PGRAFT_HA_MAX_MEMBERS);
	set->n = (int) take_u8(reader, PGRAFT_HA_MAX_MEMBERS);
	for (i = 0; i < set->n; i++)
	{
		set->members[i] = take_u32(reader);
		if (i > 0 && (set->members[i] < set->members[i - 1] ||
					  (set->members[i] == set->members[i - 1] &&
					   (set->members[i] & PGRAFT_HA_GONE) == 0)))
			reader->good = false;
	}
	if (set->n == 0 ? set->k != 0 : set->k >= set->n)
		reader->good = false;
}

static unsigned char *
put_text(unsigned char *out, const char *text)
{
	size_t		length = strlen(text);

	out = put_u8(out, (unsigned int) (length & 0xFF));
	out = put_u8(out, (unsigned int) (length >> 8));
	memcpy(out, text, length);
	return out + length;
}

static void
take_text(Reader *reader, char *text, size_t size)
{
	size_t		length = take_u8(reader, 0xFF);

	length |= (size_t) take_u8(reader, 0xFF) << 8;
	if (!reader->good || length >= size || length > reader->left ||
		memchr(reader->data, '\0', length) != NULL)
	{
		reader->good = false;
		return;
	}
	memcpy(text, reader->data, length);
	text[length] = '\0';
	reader->data += length;
	reader->left -= length;
}

static unsigned char *
put_u8(unsigned char *out, unsigned int value)
{
	*out = (unsigned char) value;
	return out + 1;
}

static unsigned char *
put_u32(unsigned char *out, uint32 value)
{
	pgraft_put_u32(out, value);
	return out + 4;
}

static unsigned char *
put_u64(unsigned char *out, uint64 value)
{
	pgraft_put_u64(out, value);
	return out + 8;
}

static unsigned int
take_u8(Reader *reader, unsigned int limit)
{
	unsigned int value;

	if (!reader->good || reader->left < 1 || reader->data[0] > limit)
	{
		reader->good = false;
		return 0;
	}
	value = reader->data[0];
	reader->data++;
	reader->left--;
	return value;
}

static uint32
take_u32(Reader *reader)
{
	uint32		value;

	if (!reader->good || reader->left < 4)
	{
		reader->good = false;
		return 0;
	}
	value = pgraft_get_u32(reader->data);
	reader->data += 4;
	reader->left -= 4;
	return value;
}

static uint64
take_u64(Reader *reader)
{
	uint64		value;

	if (!reader->good || reader->left < 8)
	{
		reader->good = false;
		return 0;
	}
	value = pgraft_get_u64(reader->data);
	reader->data += 8;
	reader->left -= 8;
	return value;
}
