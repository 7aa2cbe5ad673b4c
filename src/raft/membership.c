/*-------------------------------------------------------------------------
 *
 * membership.c
 *	  Changes of the configuration (diss. chapter 4).
 *
 * A configuration is in force from the moment its entry is appended, and no
 * more when the entry is truncated.  One step back is enough to remember: a
 * leader begins a change only when the one before is committed, so of all
 * configuration entries in any log only the last one can be truncated.
 *
 * A single change goes from one configuration to the next directly: both
 * majorities overlap (4.1).  Several at once go through a joint configuration
 * (4.3), which the leader leaves by itself once it is committed.
 *
 * Whoever is added enters as a learner, which changes no majority; the leader
 * promotes it when it has caught up.  The membership's incarnation is the index
 * of the entry that adds it.
 *
 * No change before an entry of the leader's own term is committed: the
 * previous leader's uncommitted change could otherwise still win a disjoint
 * majority (the bug found in 2015).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "internal.h"

static int	apply_change(const struct raft *raft, struct raft_config *config,
						 const struct raft_change *change, int joint);
static int	add_member(struct raft_config *config, const struct raft_member *member,
					   raft_index index);
static void remove_member(struct raft_config *config, int position, int joint);
static int	promote_member(const struct raft *raft, struct raft_config *config, int position,
						   const struct raft_change *change);
static void update_member(struct raft_member *target, const struct raft_member *source);
static int	propose_config(struct raft *raft, const struct raft_config *config,
						   raft_index *index);
static int	check_result(const struct raft_config *config);
static void leave_joint(struct raft *raft);

/* ----------------------------------------------------------------
 * Configurations in force
 * ----------------------------------------------------------------
 */

/* Peers follow the order of members; known ones keep what is known of them. */
void
raft_install_config(struct raft *raft, const struct raft_config *config)
{
	struct raft_peer old[RAFT_MAX_MEMBERS];
	int			used[RAFT_MAX_MEMBERS];
	int			n_old = raft->started ? raft->config.n_members : 0;
	int			fresh = 0;
	int			i;
	int			j;

	memcpy(old, raft->peers, sizeof(old));
	memset(used, 0, sizeof(used));
	if (config != &raft->config)
		raft->config = *config;
	for (i = 0; i < raft->config.n_members; i++)
	{
		const struct raft_member *member = &raft->config.members[i];
		struct raft_peer *peer = &raft->peers[i];

		for (j = 0; j < n_old; j++)
			if (old[j].id == member->id && old[j].incarnation == member->incarnation)
				break;
		if (j < n_old)
		{
			*peer = old[j];
			used[j] = 1;
			continue;
		}
		peer->inflight = NULL;
		peer->id = member->id;
		peer->incarnation = member->incarnation;
		peer->connected = 1;
		peer->vote = RAFT_VOTE_MISSING;
	}

	/* rings of those who have gone, and of positions that were never used */
	for (i = 0; i < raft->config.n_members; i++)
	{
		if (raft->peers[i].inflight != NULL)
			continue;
		while (fresh < n_old && used[fresh])
			fresh++;
		raft->peers[i].inflight = old[fresh].inflight;
		fresh++;
		raft_progress_reset(raft, &raft->peers[i]);
	}
	for (i = raft->config.n_members; i < RAFT_MAX_MEMBERS; i++)
	{
		while (fresh < n_old && used[fresh])
			fresh++;
		raft->peers[i].inflight = old[fresh].inflight;
		fresh++;
	}
}

/* An entry with a configuration was appended. */
void
raft_adopt_config(struct raft *raft, const struct raft_config *config)
{
	raft->previous = raft->config;
	raft->has_previous = 1;
	raft_install_config(raft, config);
	raft->notices |= RAFT_NOTICE_CONFIG;
	raft_trace(raft, "config", config->index, (raft_u64) config->n_members);
}

/* Entries from truncated_from on are cut off the log. */
void
raft_revert_config(struct raft *raft, raft_index truncated_from)
{
	if (raft->config.index < truncated_from || raft->config.index == 0)
		return;
	RAFT_ASSERT(raft, raft->has_previous && raft->previous.index < truncated_from);
	raft->has_previous = 0;
	if (raft->started)
		raft_install_config(raft, &raft->previous);
	else
		raft->config = raft->previous;
	raft->notices |= RAFT_NOTICE_CONFIG;
}

/* The commit index moved: a configuration may have become final. */
void
raft_config_committed_event(struct raft *raft)
{
	if (raft->state != RAFT_LEADER || raft->config.index > raft->commit)
		return;
	if (raft->config.joint)
		leave_joint(raft);
	else if (!raft_config_is_voter(&raft->config, raft->params.id))
		raft->leave_when_sent = 1;	/* diss. 4.2.2 */
}

static void
leave_joint(struct raft *raft)
{
	struct raft_config config = raft->config;
	raft_index	index;
	int			kept = 0;
	int			i;

	for (i = 0; i < config.n_members; i++)
	{
		config.members[i].old_role = RAFT_ROLE_NONE;
		if (config.members[i].role != RAFT_ROLE_NONE)
			config.members[kept++] = config.members[i];
	}
	config.n_members = kept;
	config.joint = 0;

	/* with a full cache it is tried again at the next commit */
	(void) propose_config(raft, &config, &index);
}

void
raft_handle_removed(struct raft *raft, const struct raft_message *message)
{
	if (message->term < raft->term || message->index <= raft->params.incarnation ||
		raft->removed)
		return;
	raft_become_follower(raft, raft->term, 0);
	raft->removed = 1;
	raft->notices |= RAFT_NOTICE_REMOVED;
	raft_trace(raft, "removed", message->index, message->from);
}

/* ----------------------------------------------------------------
 * Changing
 * ----------------------------------------------------------------
 */

int
raft_change_membership(struct raft *raft, const struct raft_change *changes, size_t n,
					   raft_index *index)
{
	struct raft_config config = raft->config;
	int			joint = n > 1;
	int			error;
	int			i;
	size_t		c;

	if (raft->state != RAFT_LEADER)
		return RAFT_E_NOT_LEADER;
	if (raft->transfer_target != 0)
		return RAFT_E_TRANSFERRING;
	if (raft->commit < raft->term_start)
		return RAFT_E_NOT_READY;
	if (raft->config.joint || raft->config.index > raft->commit)
		return RAFT_E_CHANGE_PENDING;
	if (n == 0 || n > RAFT_MAX_MEMBERS)
		return RAFT_E_INVALID;
	for (i = 0; joint && i < config.n_members; i++)
		config.members[i].old_role = config.members[i].role;
	config.joint = joint;
	for (c = 0; c < n; c++)
	{
		error = apply_change(raft, &config, &changes[c], joint);
		if (error != RAFT_OK)
			return error;
	}
	error = check_result(&config);
	if (error != RAFT_OK)
		return error;
	return propose_config(raft, &config, index);
}

static int
apply_change(const struct raft *raft, struct raft_config *config,
			 const struct raft_change *change, int joint)
{
	int			position = raft_config_position(config, change->member.id);

	if (change->member.id == 0 || change->member.id > INT_MAX)
		return RAFT_E_INVALID;
	if (change->type == RAFT_CHANGE_ADD)
	{
		if (position >= 0)
			return RAFT_E_MEMBER_EXISTS;
		return add_member(config, &change->member, raft->log.last + 1);
	}
	if (position < 0 || config->members[position].role == RAFT_ROLE_NONE)
		return RAFT_E_UNKNOWN_MEMBER;
	switch (change->type)
	{
		case RAFT_CHANGE_REMOVE:
			remove_member(config, position, joint);
			return RAFT_OK;
		case RAFT_CHANGE_UPDATE:
			update_member(&config->members[position], &change->member);
			return RAFT_OK;
		case RAFT_CHANGE_PROMOTE:
			return promote_member(raft, config, position, change);
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
remove_member(struct raft_config *config, int position, int joint)
{
	if (joint && config->members[position].old_role != RAFT_ROLE_NONE)
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

/* Only one that has acknowledged something: it has a disk and answers. */
static int
promote_member(const struct raft *raft, struct raft_config *config, int position,
			   const struct raft_change *change)
{
	struct raft_member *member = &config->members[position];
	int			known = raft_config_position(&raft->config, member->id);

	if (member->role != RAFT_LEARNER || !RAFT_ROLE_VOTES(change->member.role))
		return RAFT_E_INVALID;
	if (known < 0 || raft->peers[known].match == 0)
		return RAFT_E_NOT_READY;
	member->role = change->member.role;
	member->target_role = change->member.role;
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

static int
propose_config(struct raft *raft, const struct raft_config *config, raft_index *index)
{
	unsigned char payload[RAFT_CONFIG_MAX_BYTES];
	struct raft_config next = *config;
	size_t		length;
	int			error;

	length = raft_config_encode(&next, payload, sizeof(payload));
	if (length == 0)
		return RAFT_E_INVALID;
	next.index = raft->log.last + 1;
	error = raft_leader_append(raft, RAFT_ENTRY_CONFIG, length, payload);
	if (error != RAFT_OK)
		return error;
	*index = next.index;
	raft_adopt_config(raft, &next);
	return RAFT_OK;
}

/*
 * At each heartbeat: a learner that has everything that existed at the last
 * heartbeat, twice in a row, is as good as a voter.
 */
void
raft_promote_learners(struct raft *raft)
{
	int			i;

	for (i = 0; i < raft->config.n_members; i++)
	{
		const struct raft_member *member = &raft->config.members[i];
		struct raft_peer *peer = &raft->peers[i];
		struct raft_change change;
		raft_index	index;

		if (member->role != RAFT_LEARNER || member->target_role == RAFT_LEARNER)
			continue;
		if (peer->progress != RAFT_PROGRESS_REPLICATE || peer->match == 0 ||
			peer->match < raft->last_at_heartbeat ||
			raft->now - peer->last_contact > raft->params.election_timeout_ms / 2)
		{
			peer->caught_up_rounds = 0;
			continue;
		}
		if (++peer->caught_up_rounds < 2)
			continue;
		memset(&change, 0, sizeof(change));
		change.type = RAFT_CHANGE_PROMOTE;
		change.member = *member;
		change.member.role = member->target_role;
		if (raft_change_membership(raft, &change, 1, &index) == RAFT_OK)
			return;				/* one at a time */
	}
}
