/*-------------------------------------------------------------------------
 *
 * test_raft_confchange.c
 *	  Changes of configurations, and what a quorum of them is, as tables.
 *
 * A change is written "v1" (add as voter), "l1" (add as learner), "w1" (add as
 * witness), "p1" (promote to voter), "d1" (demote), "r1" (remove), "u1" (new
 * address).  A configuration is written as its voters, in a joint one those of
 * both halves ("1 2 3 & 1 2"), then learners behind "l", witnesses behind "w".
 * Each line of a table is a step: the configuration goes on from the one
 * before, until a line begins anew.
 *
 * Random sequences are compared with a slow model: sets of ids as bits.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgraft/raft.h"
#include "tap.h"

struct step
{
	const char *what;			/* "new", "simple", "joint", "leave" */
	const char *changes;
	int			error;
	const char *result;
};

static const struct step steps[] = {
	/* simple changes */
	{"new", "", RAFT_OK, ""},
	{"simple", "v1", RAFT_OK, "1"},
	{"simple", "v2", RAFT_OK, "1 2"},
	{"simple", "v3", RAFT_OK, "1 2 3"},
	{"simple", "l4", RAFT_OK, "1 2 3 l 4"},
	{"simple", "p4", RAFT_OK, "1 2 3 4"},
	{"simple", "d4", RAFT_OK, "1 2 3 l 4"},
	{"simple", "r4", RAFT_OK, "1 2 3"},
	{"simple", "w5", RAFT_OK, "1 2 3 l 5"},
	{"simple", "r2", RAFT_OK, "1 3 l 5"},
	{"simple", "u1", RAFT_OK, "1 3 l 5"},
	{"simple", "l6 l7 r5", RAFT_OK, "1 3 l 6 7"},
	/* the sets of voters may differ by one */
	{"new", "v1 v2 v3", RAFT_OK, "1 2 3"},
	{"simple", "v4 v5", RAFT_E_INVALID, "1 2 3"},
	{"simple", "r1 r2", RAFT_E_INVALID, "1 2 3"},
	{"simple", "v4 r1", RAFT_E_INVALID, "1 2 3"},
	{"simple", "d1 d2", RAFT_E_INVALID, "1 2 3"},
	{"simple", "v4 r4", RAFT_OK, "1 2 3"},
	{"simple", "d3 p3", RAFT_OK, "1 2 3"},
	/* what is refused */
	{"simple", "v3", RAFT_E_MEMBER_EXISTS, "1 2 3"},
	{"simple", "l3", RAFT_E_MEMBER_EXISTS, "1 2 3"},
	{"simple", "r9", RAFT_E_UNKNOWN_MEMBER, "1 2 3"},
	{"simple", "p9", RAFT_E_UNKNOWN_MEMBER, "1 2 3"},
	{"simple", "d9", RAFT_E_UNKNOWN_MEMBER, "1 2 3"},
	{"simple", "u9", RAFT_E_UNKNOWN_MEMBER, "1 2 3"},
	{"simple", "p1", RAFT_E_INVALID, "1 2 3"},
	{"simple", "v0", RAFT_E_INVALID, "1 2 3"},
	{"simple", "", RAFT_E_INVALID, "1 2 3"},
	{"joint", "", RAFT_E_INVALID, "1 2 3"},
	{"leave", "", RAFT_E_INVALID, "1 2 3"},
	{"new", "v1 l2", RAFT_OK, "1 l 2"},
	{"simple", "r1", RAFT_E_LAST_VOTER, "1 l 2"},
	{"simple", "d1", RAFT_E_LAST_VOTER, "1 l 2"},
	{"simple", "d2", RAFT_E_INVALID, "1 l 2"},
	{"joint", "r1", RAFT_E_LAST_VOTER, "1 l 2"},
	{"joint", "r1 p2", RAFT_OK, "2 & 1"},
	{"leave", "", RAFT_OK, "2"},
	{"new", "", RAFT_OK, ""},
	{"joint", "v1", RAFT_E_LAST_VOTER, ""},
	{"simple", "l1", RAFT_E_LAST_VOTER, ""},
	/* joint changes */
	{"new", "v1 v2 v3", RAFT_OK, "1 2 3"},
	{"joint", "v4 v5 r1 r2", RAFT_OK, "3 4 5 & 1 2 3"},
	{"joint", "r3", RAFT_E_CHANGE_PENDING, "3 4 5 & 1 2 3"},
	{"simple", "r3", RAFT_E_CHANGE_PENDING, "3 4 5 & 1 2 3"},
	{"leave", "", RAFT_OK, "3 4 5"},
	{"leave", "", RAFT_E_INVALID, "3 4 5"},
	{"joint", "d3", RAFT_OK, "4 5 & 3 4 5 l 3"},
	{"leave", "", RAFT_OK, "4 5 l 3"},
	{"joint", "r3 r4 v6 l7", RAFT_OK, "5 6 & 4 5 l 7"},
	{"leave", "", RAFT_OK, "5 6 l 7"},
	{"joint", "r7", RAFT_OK, "5 6 & 5 6"},
	{"leave", "", RAFT_OK, "5 6"},
	{"joint", "r5 v5", RAFT_E_MEMBER_EXISTS, "5 6"},
	{"joint", "r5 r5", RAFT_E_UNKNOWN_MEMBER, "5 6"},
	{"joint", "v8 r8", RAFT_OK, "5 6 & 5 6"},
	{"leave", "", RAFT_OK, "5 6"},
	/* a joint change of one member is allowed */
	{"joint", "v1", RAFT_OK, "1 5 6 & 5 6"},
	{"leave", "", RAFT_OK, "1 5 6"}
};

static int
parse_changes(const char *text, struct raft_change *changes)
{
	int			n = 0;

	while (*text != '\0')
	{
		char		kind = *text++;
		raft_id		id = (raft_id) strtoul(text, (char **) &text, 10);

		memset(&changes[n], 0, sizeof(changes[n]));
		changes[n].member.id = id;
		changes[n].member.role = RAFT_VOTER;
		changes[n].member.priority = -1;
		changes[n].type = kind == 'p' ? RAFT_CHANGE_PROMOTE : kind == 'd' ? RAFT_CHANGE_DEMOTE :
			kind == 'r' ? RAFT_CHANGE_REMOVE : kind == 'u' ? RAFT_CHANGE_UPDATE : RAFT_CHANGE_ADD;
		if (kind == 'l')
			changes[n].member.role = RAFT_LEARNER;
		if (kind == 'w')
			changes[n].member.role = RAFT_WITNESS;
		n++;
		if (kind == 'v')
		{
			/* whoever is added begins as a learner */
			changes[n] = changes[n - 1];
			changes[n].type = RAFT_CHANGE_PROMOTE;
			n++;
		}
		while (*text == ' ')
			text++;
	}
	return n;
}

static void
list(char *text, const char *before, const struct raft_config *config, int role, int old)
{
	int			first = 1;
	int			i;

	for (i = 0; i < config->n_members; i++)
	{
		int			has = old ? config->members[i].old_role : config->members[i].role;

		if (has != role)
			continue;
		sprintf(text + strlen(text), "%s%u", first ? before : " ", config->members[i].id);
		first = 0;
	}
}

static const char *
describe(const struct raft_config *config)
{
	static char text[512];

	text[0] = '\0';
	list(text, "", config, RAFT_VOTER, 0);
	if (config->joint)
		list(text, " & ", config, RAFT_VOTER, 1);
	list(text, " l ", config, RAFT_LEARNER, 0);
	list(text, " w ", config, RAFT_WITNESS, 0);
	return text;
}

static void
test_table(void)
{
	static struct raft_config config;
	size_t		i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
	{
		const struct step *step = &steps[i];
		struct raft_change changes[RAFT_MAX_MEMBERS];
		int			n = parse_changes(step->changes, changes);
		int			error = RAFT_OK;
		int			c;

		if (strcmp(step->what, "new") == 0)
		{
			memset(&config, 0, sizeof(config));
			for (c = 0; error == RAFT_OK && c < n; c += changes[c].member.role == RAFT_VOTER ? 2 : 1)
				error = raft_config_apply_simple(&config, &changes[c],
												 changes[c].member.role == RAFT_VOTER ? 2 : 1, 1);
		}
		else if (strcmp(step->what, "simple") == 0)
			error = raft_config_apply_simple(&config, changes, (size_t) n, 7);
		else if (strcmp(step->what, "joint") == 0)
			error = raft_config_enter_joint(&config, changes, (size_t) n, 7);
		else
			error = raft_config_leave_joint(&config);
		if (!ok(error == step->error && strcmp(describe(&config), step->result) == 0,
				"%s %s: %s, \"%s\"", step->what, step->changes, raft_error_text(step->error),
				step->result))
			printf("#   got %s, \"%s\"\n", raft_error_text(error), describe(&config));
	}
}

/* Whoever leaves by a joint change needs its place until that is over. */
static void
test_places(void)
{
	static struct raft_config config;
	static struct raft_config before;
	struct raft_change changes[2];
	raft_id		id;

	memset(&config, 0, sizeof(config));
	(void) parse_changes("v1", changes);
	is_u64(raft_config_apply_simple(&config, changes, 2, 1), RAFT_OK, "a first member");
	memset(&changes[0], 0, sizeof(changes[0]));
	changes[0].type = RAFT_CHANGE_ADD;
	changes[0].member.role = RAFT_LEARNER;
	for (id = 2; id <= RAFT_MAX_MEMBERS; id++)
	{
		changes[0].member.id = id;
		if (raft_config_apply_simple(&config, changes, 1, id) != RAFT_OK)
			ok(0, "member %u", id);
	}
	before = config;
	changes[0].member.id = RAFT_MAX_MEMBERS + 1;
	is_u64(raft_config_apply_simple(&config, changes, 1, 99), RAFT_E_TOO_MANY_MEMBERS,
		   "no place for one more");
	ok(memcmp(&config, &before, sizeof(config)) == 0, "nothing was changed");
	changes[1] = changes[0];
	memset(&changes[0], 0, sizeof(changes[0]));
	changes[0].type = RAFT_CHANGE_REMOVE;
	changes[0].member.id = 5;
	is_u64(raft_config_enter_joint(&config, changes, 2, 99), RAFT_E_TOO_MANY_MEMBERS,
		   "nor in the joint configuration with one that leaves");
	is_u64(raft_config_apply_simple(&config, changes, 2, 99), RAFT_OK,
		   "a simple change puts one into the other's place");
	is_u64(config.n_members, RAFT_MAX_MEMBERS, "all places are taken again");
	ok(raft_config_find(&config, 5) == NULL &&
	   raft_config_find(&config, RAFT_MAX_MEMBERS + 1) != NULL, "by the other");
}

static void
test_updates(void)
{
	static struct raft_config config;
	struct raft_change changes[2];
	const struct raft_member *member;

	memset(&config, 0, sizeof(config));
	(void) parse_changes("v1", changes);
	(void) raft_config_apply_simple(&config, changes, 2, 1);
	memset(&changes[0], 0, sizeof(changes[0]));
	changes[0].type = RAFT_CHANGE_UPDATE;
	changes[0].member.id = 1;
	changes[0].member.port = 7000;
	changes[0].member.priority = 40;
	strcpy(changes[0].member.name, "one");
	strcpy(changes[0].member.address, "192.0.2.1");
	is_u64(raft_config_apply_simple(&config, changes, 1, 9), RAFT_OK, "an update");
	changes[0].member.name[0] = '\0';
	changes[0].member.priority = -1;
	changes[0].member.port = 7001;
	is_u64(raft_config_apply_simple(&config, changes, 1, 10), RAFT_OK, "and another");
	member = raft_config_find(&config, 1);
	ok(strcmp(member->name, "one") == 0 && member->priority == 40,
	   "what the second does not name stays");
	ok(strcmp(member->address, "192.0.2.1") == 0 && member->port == 7001, "the rest is new");
	ok(member->role == RAFT_VOTER && member->incarnation == 1, "role and membership are the same");
	changes[0].type = 99;
	is_u64(raft_config_apply_simple(&config, changes, 1, 11), RAFT_E_INVALID, "no such change");
}

/* ----------------------------------------------------------------
 * Quorums, as other implementations publish them
 * ----------------------------------------------------------------
 */
struct quorum_row
{
	const char *voters;			/* ids, "&" before those of the other half */
	const char *acked;			/* of ids 1, 2, ...; "_" = nothing */
	raft_index	committed;
};

static const struct quorum_row quorum_rows[] = {
	{"", "", 0},
	{"1", "_", 0},
	{"1", "12", 12},
	{"1 2", "_ _", 0},
	{"1 2", "12 _", 0},
	{"1 2", "12 5", 5},
	{"1 2 3", "_ _ _", 0},
	{"1 2 3", "12 _ _", 0},
	{"1 2 3", "12 5 _", 5},
	{"1 2 3", "12 5 6", 6},
	{"1 2 3", "100 101 103", 101},
	{"1 2 3 4", "103 101 102 100", 101},
	{"1 2 3 4 5", "101 104 103 103 _", 103},
	{"1 2 3 4 5", "101 102 103 103 _", 102},
	{"1 & 1", "13", 13},
	{"1 & 2", "13 100", 13},
	{"1 & 2", "13 _", 0},
	{"1 2 & 3", "12 100 50", 12},
	{"1 2 & 3", "100 100 7", 7},
	{"1 2 & 2 3", "1 2 3", 1},
	{"1 2 & 2 3", "5 9 7", 5},
	{"1 2 3 & 4 5 6", "9 8 7 3 2 1", 2},
	{"1 2 3 & 3 4 5", "50 51 50 _ _", 0},
	{"1 2 3 & 3 4 5", "50 51 50 49 _", 49},
	{"1 2 3 & 1 2", "10 _ 10", 0},
	{"1 2 3 & 1 2", "10 9 _", 9}
};

static void
set_voters(struct raft_config *config, const char *text)
{
	int			old = 0;
	raft_id		id;

	memset(config, 0, sizeof(*config));
	config->n_members = 6;
	for (id = 1; id <= 6; id++)
	{
		config->members[id - 1].id = id;
		config->members[id - 1].role = RAFT_LEARNER;
	}
	for (; *text != '\0'; text++)
	{
		if (*text == '&')
			old = config->joint = 1;
		if (*text < '1' || *text > '6')
			continue;
		if (old)
			config->members[*text - '1'].old_role = RAFT_VOTER;
		else
			config->members[*text - '1'].role = RAFT_VOTER;
	}
}

static void
test_quorum_table(void)
{
	size_t		i;

	for (i = 0; i < sizeof(quorum_rows) / sizeof(quorum_rows[0]); i++)
	{
		static struct raft_config config;
		raft_index	acked[RAFT_MAX_MEMBERS];
		const char *text = quorum_rows[i].acked;
		int			n = 0;

		memset(acked, 0, sizeof(acked));
		while (*text != '\0')
		{
			acked[n++] = *text == '_' ? 0 : strtoul(text, NULL, 10);
			text += strcspn(text, " ");
			text += strspn(text, " ");
		}
		/* a learner is ahead of everybody and counts for nothing */
		while (n < 6)
			acked[n++] = 1000;
		set_voters(&config, quorum_rows[i].voters);
		is_u64(raft_quorum_index(&config, acked), quorum_rows[i].committed,
			   quorum_rows[i].voters);
	}
}

struct vote_row
{
	const char *voters;
	const char *votes;			/* y, n, _ of ids 1, 2, ... */
	int			result;
};

static const struct vote_row vote_rows[] = {
	{"", "", RAFT_VOTE_LOST},
	{"1", "_", RAFT_VOTE_PENDING},
	{"1", "y", RAFT_VOTE_WON},
	{"1", "n", RAFT_VOTE_LOST},
	{"1 2", "y_", RAFT_VOTE_PENDING},
	{"1 2", "yn", RAFT_VOTE_LOST},
	{"1 2", "n_", RAFT_VOTE_LOST},
	{"1 2 3", "y__", RAFT_VOTE_PENDING},
	{"1 2 3", "yy_", RAFT_VOTE_WON},
	{"1 2 3", "yn_", RAFT_VOTE_PENDING},
	{"1 2 3", "nn_", RAFT_VOTE_LOST},
	{"1 2 3 4", "yy__", RAFT_VOTE_PENDING},
	{"1 2 3 4", "yynn", RAFT_VOTE_LOST},
	{"1 & 2", "yy", RAFT_VOTE_WON},
	{"1 & 2", "y_", RAFT_VOTE_PENDING},
	{"1 & 2", "yn", RAFT_VOTE_LOST},
	{"1 & 2", "_n", RAFT_VOTE_LOST},
	{"1 2 3 & 4 5 6", "yyy___", RAFT_VOTE_PENDING},
	{"1 2 3 & 4 5 6", "yyynn_", RAFT_VOTE_LOST},
	{"1 2 3 & 4 5 6", "yy_yy_", RAFT_VOTE_WON},
	{"1 2 3 & 3 4 5", "y_y__", RAFT_VOTE_PENDING},
	{"1 2 3 & 3 4 5", "y_yy_", RAFT_VOTE_WON},
	{"1 2 3 & 1 2", "y_y", RAFT_VOTE_PENDING},
	{"1 2 3 & 1 2", "yny", RAFT_VOTE_LOST}
};

static void
test_vote_table(void)
{
	size_t		i;

	for (i = 0; i < sizeof(vote_rows) / sizeof(vote_rows[0]); i++)
	{
		static struct raft_config config;
		int			votes[RAFT_MAX_MEMBERS];
		int			n;

		for (n = 0; n < 6; n++)
		{
			char		vote = (size_t) n < strlen(vote_rows[i].votes) ? vote_rows[i].votes[n] : 'y';

			votes[n] = vote == 'y' ? RAFT_VOTE_YES : vote == 'n' ? RAFT_VOTE_NO : RAFT_VOTE_MISSING;
		}
		set_voters(&config, vote_rows[i].voters);
		is_u64(raft_vote_result(&config, votes), vote_rows[i].result, vote_rows[i].votes);
	}
}

/* ----------------------------------------------------------------
 * Random changes against sets of bits
 * ----------------------------------------------------------------
 */
static raft_u64 seed = 20260401;

static unsigned int
draw(unsigned int below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned int) ((seed >> 11) % below);
}

static unsigned int
bits_of(const struct raft_config *config, int role, int old)
{
	unsigned int bits = 0;
	int			i;

	for (i = 0; i < config->n_members; i++)
		if ((old ? config->members[i].old_role : config->members[i].role) == role)
			bits |= 1U << config->members[i].id;
	return bits;
}

static int
ones(unsigned int bits)
{
	int			n = 0;

	for (; bits != 0; bits &= bits - 1)
		n++;
	return n;
}

static int
run_random(int n_steps)
{
	static struct raft_config config;
	unsigned int voters = 1U << 1;
	unsigned int learners = 0;
	unsigned int outgoing = 0;
	struct raft_change first[2];
	int			step;

	memset(&config, 0, sizeof(config));
	if (raft_config_apply_simple(&config, first, (size_t) parse_changes("v1", first), 1) != RAFT_OK)
		return 0;
	for (step = 0; step < n_steps; step++)
	{
		struct raft_config before = config;
		struct raft_change changes[16];
		char		text[64] = "";
		unsigned int next_voters = voters;
		unsigned int next_learners = learners;
		int			joint = (int) draw(2);
		int			good = !config.joint;
		int			n = 1 + (int) draw(3);
		int			error;

		if (config.joint && draw(2))
		{
			if (raft_config_leave_joint(&config) != RAFT_OK)
				return 0;
			outgoing = 0;
			continue;
		}
		while (n-- > 0)
		{
			unsigned int id = 1 + draw(7);
			unsigned int bit = 1U << id;
			char		kind = "vlpdr"[draw(5)];
			int			member = ((next_voters | next_learners) & bit) != 0;

			sprintf(text + strlen(text), "%c%u ", kind, id);
			/* whoever leaves a joint configuration's outgoing half is still there */
			if (kind == 'v' || kind == 'l')
				good = good && !member && !(joint && ((voters | learners) & bit));
			if (kind == 'r')
				good = good && member;
			if (kind == 'p')
				good = good && (next_learners & bit) != 0;
			if (kind == 'd')
				good = good && (next_voters & bit) != 0;
			next_voters = kind == 'v' || kind == 'p' ? next_voters | bit : next_voters & ~bit;
			next_learners = kind == 'l' || kind == 'd' ? next_learners | bit : next_learners & ~bit;
		}
		good = good && next_voters != 0 && (joint || ones(voters ^ next_voters) <= 1);
		error = joint ?
			raft_config_enter_joint(&config, changes, (size_t) parse_changes(text, changes), 5) :
			raft_config_apply_simple(&config, changes, (size_t) parse_changes(text, changes), 5);
		if ((error == RAFT_OK) != good)
		{
			printf("# step %d, %s \"%s\" from \"%s\": %s\n", step, joint ? "joint" : "simple", text,
				   describe(&before), raft_error_text(error));
			return 0;
		}
		if (error != RAFT_OK)
		{
			if (memcmp(&before, &config, sizeof(config)) != 0)
				return 0;
			continue;
		}
		outgoing = joint ? voters : 0;
		voters = next_voters;
		learners = next_learners;
		if (bits_of(&config, RAFT_VOTER, 0) != voters || bits_of(&config, RAFT_LEARNER, 0) != learners ||
			(config.joint && bits_of(&config, RAFT_VOTER, 1) != outgoing) || config.joint != joint)
			return 0;
	}
	return 1;
}

int
main(void)
{
	test_table();
	test_places();
	test_updates();
	test_quorum_table();
	test_vote_table();
	ok(run_random(200000), "random changes agree with sets of bits");
	return tap_done();
}
