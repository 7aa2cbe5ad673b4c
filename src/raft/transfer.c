/*-------------------------------------------------------------------------
 *
 * transfer.c
 *	  Leadership transfer (diss. 3.10) and stepping down.
 *
 * While a transfer runs the leader accepts no proposals (the host holds them).
 * Once the target has the whole log it is told to campaign at once, without
 * PreVote; its request for votes says so, and voters do not refuse it for
 * having heard from the leader.  After T the transfer is given up.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "internal.h"

static struct raft_peer *best_target(struct raft *raft);
static int	can_lead(const struct raft *raft, int position);

static int
can_lead(const struct raft *raft, int position)
{
	return raft->config.members[position].id != raft->params.id &&
		raft->config.members[position].role == RAFT_VOTER;
}

/* The one that needs least to catch up; then by priority. */
static struct raft_peer *
best_target(struct raft *raft)
{
	struct raft_peer *best = NULL;
	int			best_priority = 0;
	int			i;

	for (i = 0; i < raft->config.n_members; i++)
	{
		struct raft_peer *peer = &raft->peers[i];
		int			priority = raft->config.members[i].priority;

		if (!can_lead(raft, i) || !peer->connected ||
			raft->now - peer->last_contact > raft->params.election_timeout_ms / 2)
			continue;
		if (best == NULL || peer->match > best->match ||
			(peer->match == best->match && priority > best_priority))
		{
			best = peer;
			best_priority = priority;
		}
	}
	return best;
}

int
raft_transfer(struct raft *raft, raft_id target)
{
	struct raft_peer *peer;

	if (raft->state != RAFT_LEADER)
		return RAFT_E_NOT_LEADER;
	if (raft->transfer_target != 0)
		return target == raft->transfer_target ? RAFT_OK : RAFT_E_TRANSFERRING;
	if (target == raft->params.id)
		return RAFT_E_INVALID;
	if (target == 0)
		peer = best_target(raft);
	else
	{
		int			position = raft_config_position(&raft->config, target);

		if (position >= 0 && !can_lead(raft, position))
			return RAFT_E_INVALID;
		peer = position < 0 ? NULL : &raft->peers[position];
	}
	if (peer == NULL)
		return RAFT_E_UNKNOWN_MEMBER;
	raft->transfer_target = peer->id;
	raft->transfer_deadline = raft->now + raft->params.election_timeout_ms;
	raft->transfer_sent = 0;
	raft_trace(raft, "transfer", peer->id, raft->term);
	raft_transfer_progress(raft, peer);
	return RAFT_OK;
}

/*
 * A witness leads only to pass on what no full member has (at each heartbeat).
 * Proposals are held during a transfer, so it waits for one that is close.
 */
void
raft_witness_hands_over(struct raft *raft)
{
	const struct raft_member *self = raft_self(raft);

	if (self == NULL || self->role != RAFT_WITNESS || raft->transfer_target != 0 ||
		raft->commit < raft->term_start)
		return;
	(void) raft_transfer_to_ready(raft);
}

/* To the best target, if it has all but what is on its way. */
int
raft_transfer_to_ready(struct raft *raft)
{
	const struct raft_peer *target = best_target(raft);

	return target != NULL && target->match >= raft->last_at_heartbeat &&
		raft_transfer(raft, target->id) == RAFT_OK;
}

/* The target's log has grown: complete? */
void
raft_transfer_progress(struct raft *raft, struct raft_peer *peer)
{
	if (raft->state != RAFT_LEADER || raft->transfer_target != peer->id ||
		raft->transfer_sent || peer->match < raft->log.last)
		return;
	raft->transfer_sent = 1;
	raft->lease_void = 1;		/* the message may arrive after we have given up */
	(void) raft_queue(raft, &raft->now_queue, RAFT_MSG_TIMEOUT_NOW, peer->id,
					  peer->incarnation);
}

void
raft_transfer_end(struct raft *raft)
{
	raft->transfer_target = 0;
	raft->transfer_sent = 0;
}

int
raft_step_down(struct raft *raft)
{
	if (raft->state != RAFT_LEADER)
		return RAFT_E_NOT_LEADER;
	raft_become_follower(raft, raft->term, 0);
	raft->election_deadline += raft->params.election_timeout_ms;
	return RAFT_OK;
}

void
raft_handle_timeout_now(struct raft *raft, const struct raft_message *message)
{
	/* only the leader that we follow may send us */
	if (raft->state == RAFT_LEADER || raft->leader != message->from ||
		!raft_may_campaign(raft))
		return;
	raft_start_election(raft, RAFT_FLAG_TRANSFER);
}
