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
 * What a change makes of a configuration is confchange.c, which knows no leader;
 * when a change may be made, and what follows from it, is here.
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

static int	check_promotion(const struct raft *raft, const struct raft_change *change);
static int	propose_config(struct raft *raft, const struct raft_config *config,
						   raft_index *index);
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

	/* with a full cache it is tried again at the next commit */
	if (raft_config_leave_joint(&config) == RAFT_OK)
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
	int			error = RAFT_OK;
	size_t		c;

	if (raft->state != RAFT_LEADER)
		return RAFT_E_NOT_LEADER;
	if (raft->transfer_target != 0)
		return RAFT_E_TRANSFERRING;
	if (raft->commit < raft->term_start)
		return RAFT_E_NOT_READY;
	if (raft->config.joint || raft->config.index > raft->commit)
		return RAFT_E_CHANGE_PENDING;
	if (n == 1)
		error = raft_config_apply_simple(&config, changes, n, raft->log.last + 1);
	else
		error = raft_config_enter_joint(&config, changes, n, raft->log.last + 1);
	for (c = 0; error == RAFT_OK && c < n; c++)
		error = check_promotion(raft, &changes[c]);
	if (error != RAFT_OK)
		return error;
	return propose_config(raft, &config, index);
}

/* Only one that has acknowledged something: it has a disk and answers. */
static int
check_promotion(const struct raft *raft, const struct raft_change *change)
{
	int			known = raft_config_position(&raft->config, change->member.id);

	if (change->type == RAFT_CHANGE_PROMOTE && (known < 0 || raft->peers[known].match == 0))
		return RAFT_E_NOT_READY;
	return RAFT_OK;
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
