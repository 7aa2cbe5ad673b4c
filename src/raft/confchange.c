/*-------------------------------------------------------------------------
 *
 * confchange.c
 *	  What a change makes of a configuration.
 *
 * Pure functions over struct raft_config: no leader, log or message is known
 * here, nothing is allocated or remembered.  membership.c decides when a change
 * may be made; tables of other implementations can be run against these.
 *
 *	apply_simple	from one simple configuration to the next: the sets of
 *					voters differ by one member at most, so any two majorities
 *					overlap (diss. 4.1)
 *	enter_joint		to a joint configuration with both sets of voters (4.3)
 *	leave_joint		to the new set alone
 *
 * Nothing changes when the result is not RAFT_OK.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/raft/confchange.c
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "internal.h"

static int	apply_changes(struct raft_config *config, const struct raft_change *changes,
						  size_t n, raft_index index);
static int	apply_change(struct raft_config *config, const struct raft_change *change,
						 raft_index index);
static int	add_member(struct raft_config *config, const struct raft_member *member,
					   raft_index index);
static void remove_member(struct raft_config *config, int position);
static void update_member(struct raft_member *target, const struct raft_member *source);
static int	promote_member(struct raft_member *member, int role);
static int	demote_member(struct raft_member *member);
static int	check_result(const struct raft_config *config);
static int	voters_that_differ(const struct raft_config *a, const struct raft_config *b);

int
raft_config_apply_simple(struct raft_config *config, const struct raft_change *changes,
						 size_t n, raft_index index)
{
	struct raft_config next = *config;
	int			error;

	if (config->joint)
		return RAFT_E_CHANGE_PENDING;
	error = apply_changes(&next, changes, n, index);
	if (error != RAFT_OK)
		return error;
	if (voters_that_differ(config, &next) + voters_that_differ(&next, config) > 1)
		return RAFT_E_INVALID;
	*config = next;
	return RAFT_OK;
}

int
raft_config_enter_joint(struct raft_config *config, const struct raft_change *changes,
						size_t n, raft_index index)
{
	struct raft_config next = *config;
	int			error;
	int			i;

	if (config->joint)
		return RAFT_E_CHANGE_PENDING;

	/* the outgoing half must be able to agree to its end */
	if (raft_config_count_voters(config) == 0)
		return RAFT_E_LAST_VOTER;
	for (i = 0; i < next.n_members; i++)
		next.members[i].old_role = next.members[i].role;
	next.joint = 1;
	error = apply_changes(&next, changes, n, index);
	if (error == RAFT_OK)
		*config = next;
	return error;
}

int
raft_config_leave_joint(struct raft_config *config)
{
	int			kept = 0;
	int			i;

	if (!config->joint)
		return RAFT_E_INVALID;
	for (i = 0; i < config->n_members; i++)
	{
		config->members[i].old_role = RAFT_ROLE_NONE;
		if (config->members[i].role != RAFT_ROLE_NONE)
			config->members[kept++] = config->members[i];
	}
	config->n_members = kept;
	config->joint = 0;
	return RAFT_OK;
}

static int
apply_changes(struct raft_config *config, const struct raft_change *changes, size_t n,
			  raft_index index)
{
	size_t		c;

	if (n == 0 || n > RAFT_MAX_MEMBERS)
		return RAFT_E_INVALID;
	for (c = 0; c < n; c++)
	{
		int			error = apply_change(config, &changes[c], index);

		if (error != RAFT_OK)
			return error;
	}
	return check_result(config);
}

static int
apply_change(struct raft_config *config, const struct raft_change *change, raft_index index)
{
	int			position = raft_config_position(config, change->member.id);

	if (change->member.id == 0 || change->member.id > INT_MAX)
		return RAFT_E_INVALID;
	if (change->type == RAFT_CHANGE_ADD)
	{
		/* who leaves in this very change cannot come back by it */
		if (position >= 0)
			return RAFT_E_MEMBER_EXISTS;
		return add_member(config, &change->member, index);
	}
	if (position < 0 || config->members[position].role == RAFT_ROLE_NONE)
		return RAFT_E_UNKNOWN_MEMBER;
	switch (change->type)
	{
		case RAFT_CHANGE_REMOVE:
			remove_member(config, position);
			return RAFT_OK;
		case RAFT_CHANGE_UPDATE:
			update_member(&config->members[position], &change->member);
			return RAFT_OK;
		case RAFT_CHANGE_PROMOTE:
			return promote_member(&config->members[position], change->member.role);
		case RAFT_CHANGE_DEMOTE:
			return demote_member(&config->members[position]);
		default:
			return RAFT_E_INVALID;
	}
}

static int
add_member(struct raft_config *config, const struct raft_member *member, raft_index index)
{
	int			position = 0;

	if (member->role < RAFT_VOTER || member->role > RAFT_WITNESS)
		return RAFT_E_INVALID;
	if (config->n_members == RAFT_MAX_MEMBERS)
		return RAFT_E_TOO_MANY_MEMBERS;
	while (position < config->n_members && config->members[position].id < member->id)
		position++;
	memmove(&config->members[position + 1], &config->members[position],
			(size_t) (config->n_members - position) * sizeof(struct raft_member));
	config->n_members++;
	config->members[position] = *member;
	config->members[position].incarnation = index;
	config->members[position].role = RAFT_LEARNER;
	config->members[position].old_role = RAFT_ROLE_NONE;
	config->members[position].target_role = member->role;
	return RAFT_OK;
}

static void
remove_member(struct raft_config *config, int position)
{
	if (config->members[position].old_role != RAFT_ROLE_NONE)
	{
		/* still part of the outgoing half */
		config->members[position].role = RAFT_ROLE_NONE;
		return;
	}
	memmove(&config->members[position], &config->members[position + 1],
			(size_t) (config->n_members - position - 1) * sizeof(struct raft_member));
	config->n_members--;
}

static void
update_member(struct raft_member *target, const struct raft_member *source)
{
	memcpy(target->address, source->address, sizeof(target->address));
	target->port = source->port;
	if (source->name[0] != '\0')
		memcpy(target->name, source->name, sizeof(target->name));
	if (source->priority >= 0)
		target->priority = source->priority;
}

static int
promote_member(struct raft_member *member, int role)
{
	if (member->role != RAFT_LEARNER || !RAFT_ROLE_VOTES(role))
		return RAFT_E_INVALID;
	member->role = role;
	member->target_role = role;
	return RAFT_OK;
}

/* In a joint configuration it goes on voting in the outgoing half. */
static int
demote_member(struct raft_member *member)
{
	if (!RAFT_ROLE_VOTES(member->role))
		return RAFT_E_INVALID;
	member->role = RAFT_LEARNER;
	member->target_role = RAFT_LEARNER;
	return RAFT_OK;
}

/* Somebody must be able to lead, and not too many may vote. */
static int
check_result(const struct raft_config *config)
{
	int			voters = 0;
	int			leaders = 0;
	int			i;

	for (i = 0; i < config->n_members; i++)
	{
		const struct raft_member *member = &config->members[i];

		if (RAFT_ROLE_VOTES(member->role) ||
			(member->role == RAFT_LEARNER && RAFT_ROLE_VOTES(member->target_role)))
			voters++;
		if (member->role == RAFT_VOTER)
			leaders++;
	}
	if (leaders == 0)
		return RAFT_E_LAST_VOTER;
	return voters > RAFT_MAX_VOTERS ? RAFT_E_TOO_MANY_MEMBERS : RAFT_OK;
}

/* Voters of a that have no vote in b. */
static int
voters_that_differ(const struct raft_config *a, const struct raft_config *b)
{
	int			n = 0;
	int			i;

	for (i = 0; i < a->n_members; i++)
		if (RAFT_ROLE_VOTES(a->members[i].role) &&
			!raft_config_is_voter(b, a->members[i].id))
			n++;
	return n;
}
