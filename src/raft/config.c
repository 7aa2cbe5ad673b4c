/*-------------------------------------------------------------------------
 *
 * config.c
 *	  Configurations: wire and disk form, lookup.
 *
 * Pure functions over struct raft_config.  How configurations follow each
 * other is the business of membership.c, and majorities are that of quorum.c.
 * The encoded form is the payload of RAFT_ENTRY_CONFIG and a part of every
 * snapshot's metadata, so it survives crashes and releases: a change of the
 * format needs a new version number and a decoder that still reads the old
 * one.
 *
 * Format, version 1.  Integers are little-endian and unsigned, nothing is
 * aligned or padded.
 *
 *	offset	size
 *		0	   1	version, 1
 *		1	   1	flags: bit 0 = joint; the other bits are 0
 *		2	   1	number of members n, 0 .. RAFT_MAX_MEMBERS
 *		3	   -	n members
 *
 *	a member
 *		0	   4	id, 1 .. 2^31 - 1, ascending without repetition
 *		4	   8	incarnation, at least 1
 *	   12	   1	role, enum raft_role
 *	   13	   1	role in the outgoing half, enum raft_role; 0 unless joint
 *	   14	   1	target role, enum raft_role
 *	   15	   1	priority, 0 .. 100
 *	   16	   2	port, 0 .. 65535
 *	   18	   1	length of the name a, 0 .. RAFT_NAME_SIZE - 1
 *	   19	   a	name, without NUL
 *	19+a	   1	length of the address b, 0 .. RAFT_ADDRESS_SIZE - 1
 *	20+a	   b	address, without NUL
 *
 * A member has a role in at least one half; one that is leaving has role 0.
 * Each half has at most RAFT_MAX_VOTERS voters and witnesses.  The index of a
 * configuration is that of its entry or snapshot and is not part of the form,
 * nor is a checksum: frames, log records and snapshot files have their own.
 *
 * Every configuration has one form and every accepted form one configuration,
 * so members can be compared by comparing bytes.  The decoder refuses all
 * else; its input may come from a peer.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/raft/config.c
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "internal.h"

#define FORMAT_VERSION 1
#define FLAG_JOINT 0x01
#define HEADER_SIZE 3
#define MEMBER_FIXED_SIZE 20	/* without name and address */
#define MAX_ID 2147483647U
#define MAX_PRIORITY 100
#define MAX_PORT 65535U

/* The largest configuration fits; an array of negative size does not compile. */
typedef char config_fits[(HEADER_SIZE + RAFT_MAX_MEMBERS *
						  (MEMBER_FIXED_SIZE + RAFT_NAME_SIZE +
						   RAFT_ADDRESS_SIZE) <= RAFT_CONFIG_MAX_BYTES) ? 1 : -1];

/* What is left of the input. */
struct reader
{
	const unsigned char *next;
	size_t		left;
	int			failed;			/* boolean: something wanted more than was left */
};

static int	config_is_valid(const struct raft_config *config);
static int	member_is_valid(const struct raft_member *member, int joint);
static int	role_is_valid(int role);
static size_t text_length(const char *text, size_t size);
static void put_integer(unsigned char **next, raft_u64 value, int n_bytes);
static void put_text(unsigned char **next, const char *text);
static raft_u64 get_integer(struct reader *reader, size_t n_bytes);
static void get_text(struct reader *reader, char *text, size_t size);
static void get_member(struct reader *reader, struct raft_member *member);

/*
 * Returns the length, or 0 when capacity is too small or the configuration is
 * one that the decoder would refuse.
 */
size_t
raft_config_encode(const struct raft_config *config, unsigned char *buffer,
				   size_t capacity)
{
	unsigned char *next = buffer;
	size_t		length = HEADER_SIZE;
	int			i;

	if (!config_is_valid(config))
		return 0;
	for (i = 0; i < config->n_members; i++)
		length += MEMBER_FIXED_SIZE + strlen(config->members[i].name) +
			strlen(config->members[i].address);
	if (capacity < length)
		return 0;

	put_integer(&next, FORMAT_VERSION, 1);
	put_integer(&next, config->joint ? FLAG_JOINT : 0, 1);
	put_integer(&next, (raft_u64) config->n_members, 1);
	for (i = 0; i < config->n_members; i++)
	{
		const struct raft_member *member = &config->members[i];

		put_integer(&next, member->id, 4);
		put_integer(&next, member->incarnation, 8);
		put_integer(&next, (raft_u64) member->role, 1);
		put_integer(&next, (raft_u64) member->old_role, 1);
		put_integer(&next, (raft_u64) member->target_role, 1);
		put_integer(&next, (raft_u64) member->priority, 1);
		put_integer(&next, member->port, 2);
		put_text(&next, member->name);
		put_text(&next, member->address);
	}
	return length;
}

/*
 * Fills everything but config->index.  Nothing changes unless RAFT_OK.
 */
int
raft_config_decode(struct raft_config *config, const unsigned char *buffer,
				   size_t length)
{
	struct raft_config decoded;
	struct reader reader;
	raft_u64	flags;
	raft_u64	n_members;
	int			i;

	reader.next = buffer;
	reader.left = length;
	reader.failed = 0;
	if (get_integer(&reader, 1) != FORMAT_VERSION)
		return RAFT_E_INVALID;
	flags = get_integer(&reader, 1);
	n_members = get_integer(&reader, 1);
	if (reader.failed || (flags & ~(raft_u64) FLAG_JOINT) != 0 ||
		n_members > RAFT_MAX_MEMBERS)
		return RAFT_E_INVALID;

	memset(&decoded, 0, sizeof(decoded));
	decoded.index = config->index;
	decoded.joint = (flags & FLAG_JOINT) != 0;
	decoded.n_members = (int) n_members;
	for (i = 0; i < decoded.n_members && !reader.failed; i++)
		get_member(&reader, &decoded.members[i]);
	if (reader.failed || reader.left != 0 || !config_is_valid(&decoded))
		return RAFT_E_INVALID;
	*config = decoded;
	return RAFT_OK;
}

/*
 * Position in config->members, or -1.
 */
int
raft_config_position(const struct raft_config *config, raft_id id)
{
	int			low = 0;
	int			high = config->n_members;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (config->members[middle].id == id)
			return middle;
		if (config->members[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

const struct raft_member *
raft_config_find(const struct raft_config *config, raft_id id)
{
	int			position = raft_config_position(config, id);

	return position < 0 ? NULL : &config->members[position];
}

/*
 * Does the member vote in either half?
 */
int
raft_config_is_voter(const struct raft_config *config, raft_id id)
{
	const struct raft_member *member = raft_config_find(config, id);

	if (member == NULL)
		return 0;
	return RAFT_ROLE_VOTES(member->role) ||
		(config->joint && RAFT_ROLE_VOTES(member->old_role));
}

/*
 * Voters and witnesses of the incoming half.
 */
int
raft_config_count_voters(const struct raft_config *config)
{
	int			n_voters = 0;
	int			i;

	for (i = 0; i < config->n_members; i++)
	{
		if (RAFT_ROLE_VOTES(config->members[i].role))
			n_voters++;
	}
	return n_voters;
}

/* ----------------------------------------------------------------
 * What may be encoded, which is what may be decoded
 * ----------------------------------------------------------------
 */
static int
config_is_valid(const struct raft_config *config)
{
	int			n_incoming = 0;
	int			n_outgoing = 0;
	int			i;

	if (config->n_members < 0 || config->n_members > RAFT_MAX_MEMBERS)
		return 0;
	for (i = 0; i < config->n_members; i++)
	{
		const struct raft_member *member = &config->members[i];

		if (!member_is_valid(member, config->joint))
			return 0;
		if (i > 0 && member->id <= config->members[i - 1].id)
			return 0;
		if (RAFT_ROLE_VOTES(member->role))
			n_incoming++;
		if (RAFT_ROLE_VOTES(member->old_role))
			n_outgoing++;
	}
	return n_incoming <= RAFT_MAX_VOTERS && n_outgoing <= RAFT_MAX_VOTERS;
}

static int
member_is_valid(const struct raft_member *member, int joint)
{
	if (member->id == 0 || member->id > MAX_ID || member->incarnation == 0)
		return 0;
	if (!role_is_valid(member->role) || !role_is_valid(member->old_role) ||
		!role_is_valid(member->target_role))
		return 0;
	if (!joint && member->old_role != RAFT_ROLE_NONE)
		return 0;
	if (member->role == RAFT_ROLE_NONE && member->old_role == RAFT_ROLE_NONE)
		return 0;
	if (member->priority < 0 || member->priority > MAX_PRIORITY ||
		member->port > MAX_PORT)
		return 0;
	return text_length(member->name, RAFT_NAME_SIZE) < RAFT_NAME_SIZE &&
		text_length(member->address, RAFT_ADDRESS_SIZE) < RAFT_ADDRESS_SIZE;
}

static int
role_is_valid(int role)
{
	return role == RAFT_ROLE_NONE || role == RAFT_VOTER ||
		role == RAFT_LEARNER || role == RAFT_WITNESS;
}

/*
 * Length of a text in an array of this size; the size when it has no NUL.
 */
static size_t
text_length(const char *text, size_t size)
{
	const char *end = (const char *) memchr(text, 0, size);

	return end == NULL ? size : (size_t) (end - text);
}

/* ----------------------------------------------------------------
 * Bytes
 * ----------------------------------------------------------------
 */
static void
put_integer(unsigned char **next, raft_u64 value, int n_bytes)
{
	int			i;

	for (i = 0; i < n_bytes; i++)
		*(*next)++ = (unsigned char) ((value >> (8 * i)) & 0xFF);
}

static void
put_text(unsigned char **next, const char *text)
{
	size_t		length = strlen(text);

	put_integer(next, length, 1);
	memcpy(*next, text, length);
	*next += length;
}

/*
 * 0 and reader->failed when the input is too short.
 */
static raft_u64
get_integer(struct reader *reader, size_t n_bytes)
{
	raft_u64	value = 0;
	size_t		i;

	if (reader->left < n_bytes)
	{
		reader->failed = 1;
		return 0;
	}
	for (i = n_bytes; i > 0; i--)
		value = (value << 8) | reader->next[i - 1];
	reader->next += n_bytes;
	reader->left -= n_bytes;
	return value;
}

static void
get_text(struct reader *reader, char *text, size_t size)
{
	size_t		length = get_integer(reader, 1);

	if (length >= size || length > reader->left)
	{
		reader->failed = 1;
		return;
	}
	if (length == 0)
		return;
	if (memchr(reader->next, 0, length) != NULL)
	{
		reader->failed = 1;
		return;
	}
	memcpy(text, reader->next, length);
	reader->next += length;
	reader->left -= length;
}

static void
get_member(struct reader *reader, struct raft_member *member)
{
	member->id = (raft_id) get_integer(reader, 4);
	member->incarnation = get_integer(reader, 8);
	member->role = (int) get_integer(reader, 1);
	member->old_role = (int) get_integer(reader, 1);
	member->target_role = (int) get_integer(reader, 1);
	member->priority = (int) get_integer(reader, 1);
	member->port = (unsigned int) get_integer(reader, 2);
	get_text(reader, member->name, RAFT_NAME_SIZE);
	get_text(reader, member->address, RAFT_ADDRESS_SIZE);
}
