/*-------------------------------------------------------------------------
 *
 * test_raft_quorum.c
 *	  Majorities of simple and joint configurations against slow definitions.
 *
 * The index that a quorum has acknowledged is compared with a search over all
 * candidates; the outcome of a vote with what all completions of the missing
 * votes would lead to.  Small configurations are tried exhaustively, larger
 * ones at random.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "../../src/raft/internal.h"

#define MAX_COMPLETED 10		/* members whose missing votes are enumerated */

static struct raft_config config;
static raft_index acked[RAFT_MAX_MEMBERS];
static int	votes[RAFT_MAX_MEMBERS];
static raft_u64 seed = 20260101;

static unsigned int
draw(unsigned int below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned int) ((seed >> 11) % below);
}

static void
set_members(int n, int joint)
{
	int			i;

	memset(&config, 0, sizeof(config));
	config.n_members = n;
	config.joint = joint;
	for (i = 0; i < n; i++)
	{
		config.members[i].id = (raft_id) i + 1;
		config.members[i].incarnation = 1;
	}
}

static void
draw_roles(void)
{
	int			i;

	for (i = 0; i < config.n_members; i++)
	{
		config.members[i].role = (int) draw(4);
		config.members[i].old_role = config.joint ? (int) draw(4) : 0;
	}
}

static int
is_elector(int member, int half)
{
	int			role = half == 0 ? config.members[member].role :
		config.members[member].old_role;

	return role == RAFT_VOTER || role == RAFT_WITNESS;
}

/* Do the marked members form a majority of each half that counts? */
static int
is_quorum(const int *marked)
{
	int			half;

	for (half = 0; half < (config.joint ? 2 : 1); half++)
	{
		int			all = 0;
		int			in = 0;
		int			i;

		for (i = 0; i < config.n_members; i++)
		{
			all += is_elector(i, half);
			in += is_elector(i, half) && marked[i];
		}
		if (in * 2 <= all)
			return 0;
	}
	return 1;
}

static raft_index
slow_quorum_index(void)
{
	raft_index	best = 0;
	int			candidate;

	for (candidate = 0; candidate < config.n_members; candidate++)
	{
		int			marked[RAFT_MAX_MEMBERS];
		int			i;

		for (i = 0; i < config.n_members; i++)
			marked[i] = acked[i] >= acked[candidate];
		if (is_quorum(marked) && acked[candidate] > best)
			best = acked[candidate];
	}
	return best;
}

static int
slow_vote_result(void)
{
	int			missing[RAFT_MAX_MEMBERS];
	int			n_missing = 0;
	int			won = 0;
	int			completion;
	int			i;

	for (i = 0; i < config.n_members; i++)
	{
		if (votes[i] == RAFT_VOTE_MISSING)
			missing[n_missing++] = i;
	}
	for (completion = 0; completion < 1 << n_missing; completion++)
	{
		int			marked[RAFT_MAX_MEMBERS];

		for (i = 0; i < config.n_members; i++)
			marked[i] = votes[i] == RAFT_VOTE_YES;
		for (i = 0; i < n_missing; i++)
			marked[missing[i]] = (completion >> i) & 1;
		won += is_quorum(marked);
	}
	if (won == 0)
		return RAFT_VOTE_LOST;
	return won == 1 << n_missing ? RAFT_VOTE_WON : RAFT_VOTE_PENDING;
}

/* Every assignment of three values to up to six voters of one half. */
static void
test_simple_exhaustively(void)
{
	int			wrong_index = 0;
	int			wrong_vote = 0;
	int			n;

	for (n = 0; n <= 6; n++)
	{
		int			assignments = 1;
		int			assignment;
		int			i;

		set_members(n, 0);
		for (i = 0; i < n; i++)
		{
			assignments *= 3;
			config.members[i].role = i % 3 == 2 ? RAFT_WITNESS : RAFT_VOTER;
		}
		for (assignment = 0; assignment < assignments; assignment++)
		{
			int			rest = assignment;

			for (i = 0; i < n; i++)
			{
				acked[i] = (raft_index) (rest % 3) * 5;
				votes[i] = rest % 3;
				rest /= 3;
			}
			wrong_index += raft_quorum_index(&config, acked) != slow_quorum_index();
			wrong_vote += raft_vote_result(&config, votes) != slow_vote_result();
		}
	}
	is_u64(wrong_index, 0, "quorum index of up to six voters, all cases");
	is_u64(wrong_vote, 0, "vote result of up to six voters, all cases");
}

/* Every pair of roles for three members, every vote. */
static void
test_joint_exhaustively(void)
{
	int			wrong_index = 0;
	int			wrong_vote = 0;
	int			roles;

	set_members(3, 1);
	for (roles = 0; roles < 4096; roles++)
	{
		int			assignment;
		int			i;

		for (i = 0; i < 3; i++)
		{
			config.members[i].role = (roles >> (4 * i)) & 3;
			config.members[i].old_role = (roles >> (4 * i + 2)) & 3;
		}
		for (assignment = 0; assignment < 27; assignment++)
		{
			int			rest = assignment;

			for (i = 0; i < 3; i++)
			{
				acked[i] = (raft_index) (rest % 3) + 7;
				votes[i] = rest % 3;
				rest /= 3;
			}
			wrong_index += raft_quorum_index(&config, acked) != slow_quorum_index();
			wrong_vote += raft_vote_result(&config, votes) != slow_vote_result();
		}
	}
	is_u64(wrong_index, 0, "quorum index of joint configurations of three, all cases");
	is_u64(wrong_vote, 0, "vote result of joint configurations of three, all cases");
}

static void
test_random(void)
{
	int			wrong_index = 0;
	int			wrong_vote = 0;
	int			seen[3] = {0, 0, 0};
	int			positive = 0;
	int			round;
	int			i;

	for (round = 0; round < 20000; round++)
	{
		set_members((int) draw(RAFT_MAX_MEMBERS + 1), (int) draw(2));
		draw_roles();
		for (i = 0; i < config.n_members; i++)
			acked[i] = draw(2) ? draw(10) : ((raft_u64) draw(100) << 40);
		wrong_index += raft_quorum_index(&config, acked) != slow_quorum_index();
		positive += raft_quorum_index(&config, acked) > 0;

		if (round % 10 != 0)
			continue;
		set_members((int) draw(MAX_COMPLETED + 1), (int) draw(2));
		draw_roles();
		for (i = 0; i < config.n_members; i++)
			votes[i] = (int) draw(3);
		wrong_vote += raft_vote_result(&config, votes) != slow_vote_result();
		seen[raft_vote_result(&config, votes)]++;
	}
	is_u64(wrong_index, 0, "quorum index of random configurations");
	is_u64(wrong_vote, 0, "vote result of random configurations");
	ok(positive > 1000, "random acknowledgements often make a quorum");
	ok(seen[RAFT_VOTE_PENDING] > 100 && seen[RAFT_VOTE_WON] > 100 &&
	   seen[RAFT_VOTE_LOST] > 100, "random votes have all outcomes");
}

static void
test_by_hand(void)
{
	int			i;

	set_members(0, 0);
	is_u64(raft_quorum_index(&config, acked), 0, "no member: quorum index 0");
	is_u64(raft_vote_result(&config, votes), RAFT_VOTE_LOST, "no member: vote lost");

	set_members(3, 0);
	for (i = 0; i < 3; i++)
	{
		config.members[i].role = RAFT_LEARNER;
		acked[i] = 9;
		votes[i] = RAFT_VOTE_YES;
	}
	is_u64(raft_quorum_index(&config, acked), 0, "only learners: quorum index 0");
	is_u64(raft_vote_result(&config, votes), RAFT_VOTE_LOST, "only learners: vote lost");

	/* of four voters, three are a majority */
	set_members(4, 0);
	for (i = 0; i < 4; i++)
	{
		config.members[i].role = RAFT_VOTER;
		acked[i] = (raft_index) (10 * (i + 1));
		votes[i] = i < 2 ? RAFT_VOTE_YES : RAFT_VOTE_MISSING;
	}
	is_u64(raft_quorum_index(&config, acked), 20, "four voters: the second lowest index");
	is_u64(raft_vote_result(&config, votes), RAFT_VOTE_PENDING, "two of four: pending");
	votes[2] = votes[3] = RAFT_VOTE_NO;
	is_u64(raft_vote_result(&config, votes), RAFT_VOTE_LOST, "two against two: lost");

	/* old_role counts in joint configurations alone */
	for (i = 0; i < 4; i++)
	{
		config.members[i].role = i < 2 ? RAFT_VOTER : RAFT_ROLE_NONE;
		config.members[i].old_role = i < 2 ? RAFT_ROLE_NONE : RAFT_VOTER;
	}
	is_u64(raft_vote_result(&config, votes), RAFT_VOTE_WON, "not joint: the old half is silent");
	config.joint = 1;
	is_u64(raft_vote_result(&config, votes), RAFT_VOTE_LOST, "joint: the old half refuses");
	is_u64(raft_quorum_index(&config, acked), 10, "joint: the lower of both halves");
}

static void
test_names(void)
{
	int			i;
	int			nameless = 0;

	for (i = RAFT_OK; i <= RAFT_E_UNSUPPORTED; i++)
	{
		int			j;

		for (j = RAFT_OK; j < i; j++)
			nameless += strcmp(raft_error_text(i), raft_error_text(j)) == 0;
		nameless += strcmp(raft_error_text(i), raft_error_text(-1)) == 0;
	}
	is_u64(nameless, 0, "every error has a text of its own");
	nameless = 0;
	for (i = 1; i <= RAFT_MSG_MAX; i++)
		nameless += strcmp(raft_message_name(i), "?") == 0;
	is_u64(nameless, 0, "every message has a name");
	ok(strcmp(raft_message_name(0), "?") == 0 &&
	   strcmp(raft_message_name(RAFT_MSG_MAX + 1), "?") == 0, "other messages have none");
	ok(strcmp(raft_state_name(RAFT_PRECANDIDATE), "precandidate") == 0 &&
	   strcmp(raft_state_name(RAFT_LEADER), "leader") == 0 &&
	   strcmp(raft_state_name(99), "?") == 0, "names of states");
	ok(strcmp(raft_role_name(RAFT_ROLE_NONE), "none") == 0 &&
	   strcmp(raft_role_name(RAFT_WITNESS), "witness") == 0 &&
	   strcmp(raft_role_name(-1), "?") == 0, "names of roles");
	ok(strcmp(raft_progress_name(RAFT_PROGRESS_SNAPSHOT), "snapshot") == 0 &&
	   strcmp(raft_progress_name(3), "?") == 0, "names of progress states");
}

int
main(void)
{
	test_by_hand();
	test_simple_exhaustively();
	test_joint_exhaustively();
	test_random();
	test_names();
	return tap_done();
}
