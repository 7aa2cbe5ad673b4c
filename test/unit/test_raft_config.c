/*-------------------------------------------------------------------------
 *
 * test_raft_config.c
 *	  The form of configurations: round trips, damage, refusals, lookup.
 *
 * Inputs of the decoder lie at the end of an allocation of exactly their size,
 * so that a memory checker sees every read beyond them.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "../../src/raft/internal.h"

#define UNTOUCHED 0xA5

static raft_u64 seed = 20260102;
static unsigned char encoded[RAFT_CONFIG_MAX_BYTES];

static unsigned int
draw(unsigned int below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned int) ((seed >> 11) % below);
}

static void
draw_text(char *text, unsigned int size)
{
	unsigned int length = draw(4) == 0 ? size - 1 : draw(size < 20 ? size : 20);
	unsigned int i;

	for (i = 0; i < length; i++)
		text[i] = (char) (1 + draw(255));
}

static void
draw_config(struct raft_config *config, int n_members)
{
	raft_id		id = 0;
	int			i;

	memset(config, 0, sizeof(*config));
	config->joint = (int) draw(2);
	config->n_members = n_members;
	for (i = 0; i < n_members; i++)
	{
		struct raft_member *member = &config->members[i];

		id += 1 + draw(draw(2) ? 3 : 60000000);
		member->id = id;
		member->incarnation = 1 + draw(5) + ((raft_u64) draw(2) << 63);

		/* learners in the places where another voter would be too many */
		member->role = i < RAFT_MAX_VOTERS ? (int) draw(4) : RAFT_LEARNER;
		if (config->joint)
			member->old_role = i >= n_members - RAFT_MAX_VOTERS ?
				(int) draw(4) : (int) draw(2) * RAFT_LEARNER;
		if (member->role == RAFT_ROLE_NONE && member->old_role == RAFT_ROLE_NONE)
			member->role = RAFT_LEARNER;
		member->target_role = (int) draw(4);
		member->priority = (int) draw(101);
		member->port = draw(65536);
		draw_text(member->name, RAFT_NAME_SIZE);
		draw_text(member->address, RAFT_ADDRESS_SIZE);
	}
}

/* Decodes from an allocation of exactly that length. */
static int
decode_exact(struct raft_config *config, const unsigned char *bytes, size_t length)
{
	unsigned char *copy = malloc(length == 0 ? 1 : length);
	int			result;

	memcpy(copy, bytes, length);
	result = raft_config_decode(config, length == 0 ? NULL : copy, length);
	free(copy);
	return result;
}

/* Refused and nothing touched, or accepted and the only form of its content. */
static int
decodes_strictly(const unsigned char *bytes, size_t length, int *accepted)
{
	static struct raft_config config;
	static struct raft_config before;
	static unsigned char again[RAFT_CONFIG_MAX_BYTES];
	int			result;

	memset(&config, UNTOUCHED, sizeof(config));
	before = config;
	result = decode_exact(&config, bytes, length);
	*accepted = result == RAFT_OK;
	if (result != RAFT_OK)
		return result == RAFT_E_INVALID &&
			memcmp(&config, &before, sizeof(config)) == 0;
	return config.index == before.index &&
		raft_config_encode(&config, again, sizeof(again)) == length &&
		memcmp(again, bytes, length) == 0;
}

static void
test_documented_bytes(void)
{
	static const unsigned char wanted[] = {
		1, 1, 2,
		3, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 50, 0x38, 0x15, 2, 'n', '3', 1, 'h',
		0xFF, 0xFF, 0xFF, 0x7F, 1, 0, 0, 0, 0, 0, 0, 0x80, 0, 3, 2, 0, 0, 0, 0, 0
	};
	static struct raft_config config;
	static struct raft_config decoded;
	size_t		length;

	config.joint = 1;
	config.n_members = 2;
	config.members[0].id = 3;
	config.members[0].incarnation = 0x109;
	config.members[0].role = RAFT_VOTER;
	config.members[0].target_role = RAFT_VOTER;
	config.members[0].priority = 50;
	config.members[0].port = 5432;
	strcpy(config.members[0].name, "n3");
	strcpy(config.members[0].address, "h");
	config.members[1].id = 2147483647;
	config.members[1].incarnation = 0x8000000000000001UL;
	config.members[1].old_role = RAFT_WITNESS;
	config.members[1].target_role = RAFT_LEARNER;
	length = raft_config_encode(&config, encoded, sizeof(encoded));
	is_u64(length, sizeof(wanted), "length of the documented form");
	ok(memcmp(encoded, wanted, sizeof(wanted)) == 0, "bytes of the documented form");
	decoded.index = 77;
	config.index = 77;
	is_u64(decode_exact(&decoded, wanted, sizeof(wanted)), RAFT_OK, "it can be decoded");
	ok(memcmp(&decoded, &config, sizeof(config)) == 0, "and has the same content, its index kept");
}

static void
test_round_trips(void)
{
	static struct raft_config config;
	static struct raft_config decoded;
	int			wrong = 0;
	int			small = 0;
	int			round;
	size_t		largest = 0;

	for (round = 0; round < 2000; round++)
	{
		size_t		length;

		draw_config(&config, round < 100 ? RAFT_MAX_MEMBERS : (int) draw(RAFT_MAX_MEMBERS + 1));
		length = raft_config_encode(&config, encoded, sizeof(encoded));
		if (length > largest)
			largest = length;
		memset(&decoded, UNTOUCHED, sizeof(decoded));
		decoded.index = config.index = draw(1000);
		wrong += length == 0 || decode_exact(&decoded, encoded, length) != RAFT_OK ||
			memcmp(&decoded, &config, sizeof(config)) != 0;

		/* one byte less is too small, the exact size is enough */
		memset(encoded, UNTOUCHED, sizeof(encoded));
		small += raft_config_encode(&config, encoded, length - 1) != 0 ||
			encoded[0] != UNTOUCHED ||
			raft_config_encode(&config, encoded, length) != length ||
			encoded[length] != UNTOUCHED;
	}
	is_u64(wrong, 0, "random configurations survive the round trip");
	is_u64(small, 0, "capacity is respected");
	ok(largest > 3000, "some of them were large");
}

/* Every truncation, every bit, and every value of every byte. */
static void
test_damage(void)
{
	static struct raft_config config;
	int			wrong_cut = 0;
	int			wrong_flip = 0;
	int			n_accepted = 0;
	int			n_refused = 0;
	int			round;

	for (round = 0; round < 8; round++)
	{
		size_t		length;
		size_t		i;
		int			accepted;

		draw_config(&config, round == 0 ? RAFT_MAX_MEMBERS : (int) draw(6));
		length = raft_config_encode(&config, encoded, sizeof(encoded));
		for (i = 0; i < length; i++)
			wrong_cut += !decodes_strictly(encoded, i, &accepted) || accepted;
		for (i = 0; i < 16; i++)
		{
			encoded[length + i] = (unsigned char) draw(3);
			wrong_cut += !decodes_strictly(encoded, length + i + 1, &accepted) || accepted;
		}
		for (i = 0; i < length; i++)
		{
			unsigned char right = encoded[i];
			int			step;

			/* the large one: bits only */
			for (step = 1; step < 256; step += length > 1000 ? step : 1)
			{
				encoded[i] = (unsigned char) (right ^ step);
				wrong_flip += !decodes_strictly(encoded, length, &accepted);
				n_accepted += accepted;
				n_refused += !accepted;
			}
			encoded[i] = right;
		}
	}
	is_u64(wrong_cut, 0, "every truncation and every extension is refused");
	is_u64(wrong_flip, 0, "a changed byte is refused or means another configuration");
	ok(n_accepted > 100 && n_refused > 100, "damage led to both (%d, %d)",
	   n_accepted, n_refused);
}

static void
test_noise(void)
{
	unsigned char noise[200];
	int			wrong = 0;
	int			round;

	for (round = 0; round < 20000; round++)
	{
		unsigned int length = draw(sizeof(noise) + 1);
		unsigned int i;
		int			accepted;

		for (i = 0; i < length; i++)
			noise[i] = (unsigned char) (draw(2) ? draw(4) : draw(256));
		if (length >= 3 && draw(2))
		{
			noise[0] = 1;
			noise[1] &= 1;
			noise[2] = (unsigned char) draw(4);
		}
		wrong += !decodes_strictly(noise, length, &accepted);
	}
	is_u64(wrong, 0, "noise is decoded strictly");
}

/* Sixteen electors in one half. */
static void
too_many_electors(struct raft_config *config, int joint)
{
	int			i;

	config->joint = joint;
	config->n_members = RAFT_MAX_VOTERS + 1;
	for (i = 0; i < config->n_members; i++)
	{
		struct raft_member *member = &config->members[i];
		int			elector = i % 2 ? RAFT_VOTER : RAFT_WITNESS;

		member->id = (raft_id) i + 1;
		member->incarnation = 1;
		member->role = joint ? RAFT_LEARNER : elector;
		member->old_role = joint ? elector : RAFT_ROLE_NONE;
	}
}

/* Each case makes a valid configuration invalid. */
static void
spoil(struct raft_config *config, int how)
{
	struct raft_member *member = &config->members[1];

	switch (how)
	{
		case 0:
			config->n_members = -1;
			break;
		case 1:
			config->n_members = RAFT_MAX_MEMBERS + 1;
			break;
		case 2:
			member->id = 0;
			break;
		case 3:
			member->id = 2147483648U;
			break;
		case 4:
			member->id = config->members[0].id;
			break;
		case 5:
			member->id = config->members[2].id + 1;
			break;
		case 6:
			member->incarnation = 0;
			break;
		case 7:
			member->role = 4;
			break;
		case 8:
			member->role = -1;
			break;
		case 9:
			member->role = RAFT_ROLE_NONE;
			break;
		case 10:
			member->old_role = RAFT_VOTER;
			break;
		case 11:
			config->joint = 1;
			member->old_role = 4;
			break;
		case 12:
			member->target_role = 4;
			break;
		case 13:
			member->priority = 101;
			break;
		case 14:
			member->priority = -1;
			break;
		case 15:
			member->port = 65536;
			break;
		case 16:
			memset(member->name, 'n', RAFT_NAME_SIZE);
			break;
		case 17:
			memset(member->address, 'a', RAFT_ADDRESS_SIZE);
			break;
		case 18:
			too_many_electors(config, 0);
			break;
		case 19:
			too_many_electors(config, 1);
			break;
	}
}
#define N_SPOILS 20

static void
test_refusals(void)
{
	static struct raft_config config;
	int			how;

	for (how = -1; how < N_SPOILS; how++)
	{
		int			i;

		memset(&config, 0, sizeof(config));
		config.n_members = 3;
		for (i = 0; i < 3; i++)
		{
			config.members[i].id = (raft_id) (10 * i + 10);
			config.members[i].incarnation = 5;
			config.members[i].role = RAFT_VOTER;
		}
		spoil(&config, how);
		ok((raft_config_encode(&config, encoded, sizeof(encoded)) == 0) == (how >= 0),
		   "encode refuses exactly what is invalid, case %d", how);
	}
}

/* The same for bytes: offset, value, and whether decode accepts them. */
static void
test_refused_bytes(void)
{
	static const struct
	{
		int			offset;
		int			value;
		int			result;
		const char *what;
	}			cases[] = {
		{0, 0, RAFT_E_INVALID, "version 0"},
		{0, 2, RAFT_E_INVALID, "version 2"},
		{1, 2, RAFT_E_INVALID, "unknown flag"},
		{1, 1, RAFT_OK, "joint"},
		{2, 1, RAFT_E_INVALID, "fewer members than there are"},
		{2, 3, RAFT_E_INVALID, "more members than there are"},
		{2, RAFT_MAX_MEMBERS + 1, RAFT_E_INVALID, "too many members"},
		{3, 0, RAFT_E_INVALID, "id 0"},
		{3, 2, RAFT_E_INVALID, "an id twice"},
		{3, 3, RAFT_E_INVALID, "ids in the wrong order"},
		{6, 0x80, RAFT_E_INVALID, "id of 2^31"},
		{7, 0, RAFT_E_INVALID, "incarnation 0"},
		{15, 0, RAFT_E_INVALID, "no role"},
		{15, 3, RAFT_OK, "witness"},
		{15, 4, RAFT_E_INVALID, "unknown role"},
		{16, 1, RAFT_E_INVALID, "old role although not joint"},
		{17, 3, RAFT_OK, "target witness"},
		{17, 4, RAFT_E_INVALID, "unknown target role"},
		{18, 100, RAFT_OK, "priority 100"},
		{18, 101, RAFT_E_INVALID, "priority 101"},
		{21, 0, RAFT_E_INVALID, "name shorter than it is"},
		{21, 64, RAFT_E_INVALID, "name without place for its NUL"},
		{22, 0, RAFT_E_INVALID, "NUL in a name"},
		{23, 255, RAFT_E_INVALID, "address beyond the end"},
		{24, 0, RAFT_E_INVALID, "NUL in an address"}
	};
	static const unsigned char valid[] = {
		1, 0, 2,
		1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 'n', 1, 'a',
		2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0
	};
	static struct raft_config config;
	unsigned char bytes[sizeof(valid)];
	size_t		i;

	is_u64(decode_exact(&config, valid, sizeof(valid)), RAFT_OK, "decode accepts a valid form");
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		memcpy(bytes, valid, sizeof(valid));
		bytes[cases[i].offset] = (unsigned char) cases[i].value;
		is_u64(decode_exact(&config, bytes, sizeof(bytes)), cases[i].result, cases[i].what);
	}
}

static void
test_lookup(void)
{
	static struct raft_config config;
	int			wrong = 0;
	int			round;

	for (round = 0; round < 2000; round++)
	{
		raft_id		id;
		int			n_voters = 0;
		int			position = -1;
		int			voter = 0;
		int			i;

		draw_config(&config, (int) draw(RAFT_MAX_MEMBERS + 1));
		id = config.n_members > 0 && draw(2) ?
			config.members[draw((unsigned int) config.n_members)].id : draw(40);
		for (i = 0; i < config.n_members; i++)
		{
			const struct raft_member *member = &config.members[i];
			int			votes_now = member->role == RAFT_VOTER || member->role == RAFT_WITNESS;
			int			voted = config.joint &&
				(member->old_role == RAFT_VOTER || member->old_role == RAFT_WITNESS);

			n_voters += votes_now;
			if (member->id == id)
			{
				position = i;
				voter = votes_now || voted;
			}
		}
		wrong += raft_config_position(&config, id) != position;
		wrong += raft_config_find(&config, id) !=
			(position < 0 ? NULL : &config.members[position]);
		wrong += raft_config_is_voter(&config, id) != voter;
		wrong += raft_config_count_voters(&config) != n_voters;
	}
	is_u64(wrong, 0, "position, member, vote and count as a linear search finds them");
}

int
main(void)
{
	test_documented_bytes();
	test_round_trips();
	test_damage();
	test_noise();
	test_refusals();
	test_refused_bytes();
	test_lookup();
	return tap_done();
}
