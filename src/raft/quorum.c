/*-------------------------------------------------------------------------
 *
 * quorum.c
 *	  Majorities of simple and joint configurations.
 *
 * Pure arithmetic over a configuration and one value for each of its members;
 * nothing is stored, allocated or remembered, and nothing here knows terms,
 * logs or messages.  The commit rule, ReadIndex, CheckQuorum and elections
 * call it, so that no other file counts members.
 *
 * A joint configuration (diss. 4.3) has two halves: the members that vote by
 * role and those that vote by old_role.  A decision needs a majority of each
 * half separately; a member in both halves counts in both.  Voters and
 * witnesses vote, learners and leaving members do not.
 *
 * A half without voters decides nothing: quorum index 0, vote lost.  This is
 * the safe answer for a configuration that should not exist.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/raft/quorum.c
 *
 *-------------------------------------------------------------------------
 */
#include "internal.h"

static int votes_in_half(const struct raft_member *member, int old_half);
static raft_index half_quorum_index(const struct raft_config *config,
									const raft_index *acked, int old_half);
static int half_vote_result(const struct raft_config *config,
							const int *votes, int old_half);

/*
 * The greatest index that a majority of every half has acknowledged.
 */
raft_index
raft_quorum_index(const struct raft_config *config, const raft_index *acked)
{
	raft_index	incoming = half_quorum_index(config, acked, 0);
	raft_index	outgoing;

	if (!config->joint)
		return incoming;
	outgoing = half_quorum_index(config, acked, 1);
	return incoming < outgoing ? incoming : outgoing;
}

/*
 * Won when a majority of every half says yes, lost as soon as one half cannot
 * reach a majority any more, pending otherwise.
 */
int
raft_vote_result(const struct raft_config *config, const int *votes)
{
	int			incoming = half_vote_result(config, votes, 0);
	int			outgoing;

	if (!config->joint)
		return incoming;
	outgoing = half_vote_result(config, votes, 1);
	if (incoming == RAFT_VOTE_LOST || outgoing == RAFT_VOTE_LOST)
		return RAFT_VOTE_LOST;
	if (incoming == RAFT_VOTE_PENDING || outgoing == RAFT_VOTE_PENDING)
		return RAFT_VOTE_PENDING;
	return RAFT_VOTE_WON;
}

static int
votes_in_half(const struct raft_member *member, int old_half)
{
	int			role = old_half ? member->old_role : member->role;

	return RAFT_ROLE_VOTES(role);
}

static raft_index
half_quorum_index(const struct raft_config *config, const raft_index *acked,
				  int old_half)
{
	raft_index	descending[RAFT_MAX_MEMBERS];
	int			n_voters = 0;
	int			i;

	/* insertion sort: a half has at most RAFT_MAX_VOTERS voters */
	for (i = 0; i < config->n_members; i++)
	{
		int			place;

		if (!votes_in_half(&config->members[i], old_half))
			continue;
		for (place = n_voters; place > 0; place--)
		{
			if (descending[place - 1] >= acked[i])
				break;
			descending[place] = descending[place - 1];
		}
		descending[place] = acked[i];
		n_voters++;
	}
	return n_voters == 0 ? 0 : descending[n_voters / 2];
}

static int
half_vote_result(const struct raft_config *config, const int *votes,
				 int old_half)
{
	int			n_voters = 0;
	int			n_yes = 0;
	int			n_no = 0;
	int			majority;
	int			i;

	for (i = 0; i < config->n_members; i++)
	{
		if (!votes_in_half(&config->members[i], old_half))
			continue;
		n_voters++;
		if (votes[i] == RAFT_VOTE_YES)
			n_yes++;
		else if (votes[i] == RAFT_VOTE_NO)
			n_no++;
	}
	if (n_voters == 0)
		return RAFT_VOTE_LOST;
	majority = n_voters / 2 + 1;
	if (n_yes >= majority)
		return RAFT_VOTE_WON;
	if (n_voters - n_no < majority)
		return RAFT_VOTE_LOST;
	return RAFT_VOTE_PENDING;
}
