/*-------------------------------------------------------------------------
 *
 * failover.c
 *	  What the Raft leader decides by itself: when the cluster needs another
 *	  primary.
 *
 * Runs in the consensus worker once per turn, and acts only on the member that
 * leads.  It proposes commands and nothing else: who becomes primary follows
 * from the document (document.c), on every member alike, so a leader that is
 * deposed in the middle leaves nothing undone.  A proposal that comes too late
 * is for another epoch or phase, and changes nothing.
 *
 * A primary counts as lost when its member's process is gone (its connection
 * broke and a new one was refused), when it was silent for the election
 * timeout, or when it was the leader and an election was won because a majority
 * had not heard of it.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/failover.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgraft/ha.h"
#include "pgraft/ha_state.h"
#include "pgraft/settings.h"

#define PROMOTION_BOUND_MS 10000	/* an assigned primary must be promoted by then */
#define HANDOVER_MS 2000		/* from the old primary's last word to the next */
#define TRANSFER_RETRY_MS 30000 /* leadership to the primary, tried again */
#define LOOK_AGAIN_MS 3600000
#define SCHEDULE_LOOK_MS 1000
#define SCHEDULE_LATE_MS (5 * 60 * 1000)	/* later than that it does not begin */

/* What this leader has seen and done; begins anew with each leadership. */
typedef struct Leadership
{
	raft_term	term;			/* 0 = does not lead */
	raft_time	since;
	raft_id		silent_leader;	/* elected because of its silence; 0 = nobody */
	uint64		changes;		/* of the document, when it was last looked at */
	int			phase;
	uint64		epoch;
	raft_time	phase_since;	/* seen here */
	uint64		switchover;		/* serial of the one under way; 0 = none */
	raft_time	switchover_since;	/* seen here */
	int			proposed;		/* last command, whom it named, and for which state
								 * of the document */
	uint32		proposed_member;
	int			proposed_phase;
	uint64		proposed_epoch;
	uint64		proposed_switchover;
	raft_time	proposed_at;
	raft_time	transferred_at;
} Leadership;

static void watch_leadership(PgraftNode *node, const struct raft_status *status);
static void watch_phase(PgraftNode *node);
static bool decide(PgraftNode *node, const struct raft_status *status,
				   PgraftHaCommand *command);
static bool decide_begin(PgraftNode *node, PgraftHaCommand *command);
static bool decide_lag(PgraftNode *node, PgraftHaCommand *command);
static bool somebody_may_report(PgraftNode *node);
static bool decide_schedule(PgraftNode *node, PgraftHaCommand *command);
static bool decide_switchover(PgraftNode *node, PgraftHaCommand *command);
static raft_time target_lost_at(PgraftNode *node, raft_id target);
static bool decide_forget(PgraftNode *node, PgraftHaCommand *command);
static const char *primary_lost(PgraftNode *node, raft_id primary);
static const char *own_role_lost(PgraftNode *node);
static void propose(PgraftNode *node, const PgraftHaCommand *command);
static bool renew_void_lease(PgraftNode *node, const struct raft_status *status);
static void prefer_primary_as_leader(PgraftNode *node, const struct raft_status *status);
static void look_by(raft_time moment);

static Leadership leading;
static raft_id last_leader = 0; /* before this member led */
static raft_time next_look = 0;

/* ----------------------------------------------------------------
 * Once per turn
 * ----------------------------------------------------------------
 */

void
pgraft_ha_step(PgraftNode *node)
{
	struct raft_status status;
	PgraftHaCommand command;

	next_look = node->now + LOOK_AGAIN_MS;
	if (node->raft == NULL || node->installing ||
		(pgraft_ha_shared == NULL && pgraft_ha_state_document()->changes == 0))
		return;
	raft_status(node->raft, &status);
	pgraft_ha_state_obey();
	look_by(pgraft_ha_catch_up(node, &status));
	look_by(pgraft_ha_renew_lease(node, &status));
	watch_leadership(node, &status);
	if (leading.term == 0)
		return;
	watch_phase(node);
	if (decide(node, &status, &command))
		propose(node, &command);
	else if (!renew_void_lease(node, &status))
		prefer_primary_as_leader(node, &status);
}

/* The loop may sleep until then as far as these files are concerned. */
raft_time
pgraft_ha_deadline(void)
{
	return next_look;
}

static void
look_by(raft_time moment)
{
	if (moment < next_look)
		next_look = moment;
}

/* A handover goes from a leader that was just heard; an election does not. */
static void
watch_leadership(PgraftNode *node, const struct raft_status *status)
{
	if (status->state != RAFT_LEADER)
	{
		leading.term = 0;
		if (status->leader != 0)
			last_leader = status->leader;
		return;
	}
	if (leading.term == status->term)
		return;
	memset(&leading, 0, sizeof(leading));
	leading.term = status->term;
	leading.since = node->now;
	if (last_leader != 0 && last_leader != status->id &&
		node->now - status->leader_contact >= (raft_time) pgraft_election_timeout / 2)
		leading.silent_leader = last_leader;
	last_leader = status->id;
}

static void
watch_phase(PgraftNode *node)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();

	if (document->switchover_from == 0)
		leading.switchover = 0;
	else if (leading.switchover != document->switchover_serial)
	{
		leading.switchover = document->switchover_serial;
		leading.switchover_since = node->now;
	}
	if (leading.phase_since != 0 && leading.phase == document->phase &&
		leading.epoch == document->epoch)
		return;
	leading.phase = document->phase;
	leading.epoch = document->epoch;
	leading.phase_since = node->now;
}

/* ----------------------------------------------------------------
 * Deciding
 * ----------------------------------------------------------------
 */

static bool
decide(PgraftNode *node, const struct raft_status *status, PgraftHaCommand *command)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();

	memset(command, 0, sizeof(*command));
	command->epoch = document->epoch;
	command->time = pgraft_unix_us();
	if (document->phase == PGRAFT_HA_NONE)
	{
		/* pgraft_init() ran where the first leader is */
		if (pgraft_ha_shared == NULL || !status->own_term_committed)
			return false;
		command->kind = PGRAFT_HA_BEGIN_EPOCH;
		command->member = status->id;
		strlcpy(command->reason, "the first primary", sizeof(command->reason));
		return pgraft_ha_find_member(unconstify(PgraftHaDocument *, document),
									 status->id) != NULL;
	}
	if (decide_begin(node, command) || decide_lag(node, command) ||
		decide_schedule(node, command) || decide_switchover(node, command))
		return true;
	return decide_forget(node, command);
}

/*
 * Gives a switchover up.  Once the primary has stopped there is none, and the
 * target has little to do: much less patience is due then.
 */
static bool
decide_switchover(PgraftNode *node, PgraftHaCommand *command)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();
	raft_time	bound;

	if (document->switchover_from == 0)
		return false;
	if (document->phase == PGRAFT_HA_DRAINING)
		bound = leading.switchover_since + (raft_time) (document->switchover_patience / 1000);
	else if (document->phase == PGRAFT_HA_SEALING)
		bound = Min(leading.phase_since + Max(HANDOVER_MS, 2 * (raft_time) pgraft_election_timeout),
					target_lost_at(node, document->switchover_target));
	else
		return false;
	if (node->now >= bound)
	{
		command->kind = PGRAFT_HA_SWITCHOVER_ABORT;
		return true;
	}
	look_by(bound);
	return false;
}

/* When to take it for lost, unless more is heard of it. */
static raft_time
target_lost_at(PgraftNode *node, raft_id target)
{
	struct raft_peer_status peer;

	if (target == 0 || target == node->identity.node_id)
		return node->now + LOOK_AGAIN_MS;
	if (raft_peer_status(node->raft, target, &peer) != RAFT_OK || !peer.connected)
		return node->now;
	return Max(peer.last_contact, leading.since) + (raft_time) pgraft_election_timeout;
}

static bool
decide_begin(PgraftNode *node, PgraftHaCommand *command)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();
	const char *reason;

	if (document->paused || document->primary == 0)
		return false;
	reason = primary_lost(node, document->primary);
	if (reason == NULL && document->phase == PGRAFT_HA_ASSIGNED)
	{
		raft_time	bound = leading.phase_since +
			Max(PROMOTION_BOUND_MS, 5 * (raft_time) pgraft_election_timeout);

		if (node->now >= bound)
			reason = "the chosen primary was not promoted in time";
		else
			look_by(bound);
	}
	if (reason == NULL)
		return false;
	command->kind = PGRAFT_HA_BEGIN_EPOCH;
	strlcpy(command->reason, reason, sizeof(command->reason));
	return true;
}

/* Returns why, or NULL. */
static const char *
primary_lost(PgraftNode *node, raft_id primary)
{
	bool		draining = pgraft_ha_state_document()->phase == PGRAFT_HA_DRAINING;
	struct raft_peer_status peer;
	raft_time	lost_at;

	if (primary == node->identity.node_id)
		return own_role_lost(node);
	if (raft_peer_status(node->raft, primary, &peer) != RAFT_OK)
		return "the primary is no member any more";

	/* for a switchover it may restart as a standby first */
	if (!draining && !peer.connected)
		return PGRAFT_HA_PROCESS_GONE;
	if (primary == leading.silent_leader && peer.last_contact <= leading.since)
		return "the primary was silent";
	lost_at = Max(peer.last_contact, leading.since) + (raft_time) pgraft_election_timeout;
	if (node->now >= lost_at)
		return "the primary was silent";
	look_by(lost_at);
	return NULL;
}

/* The document takes this server for the primary, and it was restarted. */
static const char *
own_role_lost(PgraftNode *node)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();
	raft_time	bound = Max(leading.phase_since, leading.since) +
		(raft_time) pgraft_election_timeout;
	PgraftHaLocal local;

	if (document->phase != PGRAFT_HA_STEADY)
		return NULL;
	if (pgraft_ha_shared == NULL)
		return "the primary was started without HA mode";
	pgraft_ha_read_local(&local);
	if (local.promoted_epoch == document->epoch)
		return NULL;
	if (node->now < bound)
	{
		look_by(bound);
		return NULL;
	}
	return "the primary was restarted";
}

/*
 * Mode async: whether to take whom the reports allow, though they do not suffice.
 * Those whose processes are there get a while to report, the old primary above
 * all, with which nothing is lost.
 */
static bool
decide_lag(PgraftNode *node, PgraftHaCommand *command)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();
	raft_time	soonest = leading.phase_since + (raft_time) pgraft_election_timeout / 2;
	raft_time	latest = leading.phase_since + 3 * (raft_time) pgraft_election_timeout;
	uint64		lag;

	if (pgraft_ha_choose_lagged(document, &lag) == 0)
		return false;
	if (node->now < soonest || (node->now < latest && somebody_may_report(node)))
	{
		look_by(node->now < soonest ? soonest : latest);
		return false;
	}
	command->kind = PGRAFT_HA_ACCEPT_LAG;
	return true;
}

static bool
somebody_may_report(PgraftNode *node)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();
	int			i;

	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];
		struct raft_peer_status peer;

		if (member->reported || member->state == PGRAFT_HA_MEMBER_REWIND ||
			member->state == PGRAFT_HA_MEMBER_RECLONE)
			continue;
		if (member->id == node->identity.node_id ? pgraft_ha_shared != NULL :
			raft_peer_status(node->raft, member->id, &peer) == RAFT_OK && peer.connected)
			return true;
	}
	return false;
}

/*
 * A switchover whose time has come.  Nobody expects one long afterwards, and one
 * that cannot begin is not tried again and again.
 */
static bool
decide_schedule(PgraftNode *node, PgraftHaCommand *command)
{
	static PgraftHaDocument copy;
	const PgraftHaDocument *document = pgraft_ha_state_document();
	const char *why = "the cluster is paused";
	int64		wait = document->scheduled_at - command->time;

	if (document->scheduled_at == 0)
		return false;
	if (wait > 0)
	{
		/* the clock may be set meanwhile */
		look_by(node->now + Min((raft_time) (wait / 1000 + 1), SCHEDULE_LOOK_MS));
		return false;
	}
	command->kind = PGRAFT_HA_SWITCHOVER;
	command->member = document->scheduled_target;
	command->patience = PGRAFT_HA_SWITCHOVER_PATIENCE;
	command->generation = document->switchover_serial;
	copy = *document;
	if (wait < -(int64) SCHEDULE_LATE_MS * 1000)
		why = "nobody led when its time had come";
	else if (!document->paused &&
			 pgraft_ha_document_apply(&copy, command, &why) == PGRAFT_HA_DONE)
		return true;
	ereport(LOG,
			(errmsg("pgraft cancels the scheduled switchover: %s", why)));
	command->kind = PGRAFT_HA_CANCEL_SCHEDULE;
	return true;
}

/* Who is no member of the cluster any more is no data member either. */
static bool
decide_forget(PgraftNode *node, PgraftHaCommand *command)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();
	const struct raft_config *config = raft_get_config(node->raft);
	int			i;

	if (!raft_config_committed(node->raft))
		return false;
	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];

		if (member->id == document->primary || raft_config_find(config, member->id) != NULL)
			continue;
		command->kind = PGRAFT_HA_FORGET;
		command->member = member->id;
		command->incarnation = member->incarnation;
		return true;
	}
	return false;
}

/* ----------------------------------------------------------------
 * Acting
 * ----------------------------------------------------------------
 */

/*
 * Once for each state of the document: as long as this member leads, what it
 * proposed will be applied or refused.  Other changes of the document, as of the
 * primary's position each second, are no reason to say it once more.
 */
static void
propose(PgraftNode *node, const PgraftHaCommand *command)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();
	struct raft_proposal proposal;
	StringInfoData buffer;
	raft_index	index;
	raft_term	term;
	int			error;

	if (leading.proposed == command->kind && leading.proposed_member == command->member &&
		leading.proposed_phase == document->phase &&
		leading.proposed_epoch == document->epoch &&
		leading.proposed_switchover == document->switchover_serial)
	{
		raft_time	again = leading.proposed_at + (raft_time) pgraft_election_timeout * 2;

		if (node->now < again)
		{
			look_by(again);
			return;
		}
	}
	initStringInfo(&buffer);
	pgraft_ha_encode_entry(&buffer, command);
	proposal.data = (const unsigned char *) buffer.data;
	proposal.length = (size_t) buffer.len;
	error = raft_propose(node->raft, &proposal, 1, &index, &term);
	pfree(buffer.data);
	if (error != RAFT_OK)
	{
		look_by(node->now + (raft_time) pgraft_heartbeat_interval);
		return;
	}
	if (command->kind == PGRAFT_HA_BEGIN_EPOCH)
		ereport(LOG,
				(errmsg("pgraft member %u begins epoch %llu: %s", node->identity.node_id,
						(unsigned long long) command->epoch + 1, command->reason)));
	leading.proposed = command->kind;
	leading.proposed_member = command->member;
	leading.proposed_phase = document->phase;
	leading.proposed_epoch = document->epoch;
	leading.proposed_switchover = document->switchover_serial;
	leading.proposed_at = node->now;
}

/*
 * A leader that gave up handing over has no lease for the rest of its term: the
 * word that it sent may arrive at any time.  When it becomes the primary itself,
 * it could never work.  As a follower it gets a lease by asking; later it gets
 * the leadership back, in a new term.  Returns whether it has handed over.
 */
static bool
renew_void_lease(PgraftNode *node, const struct raft_status *status)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();
	raft_time	half = (raft_time) pgraft_election_timeout / 2;
	raft_time	settled = leading.since + half;

	if (document->phase != PGRAFT_HA_STEADY || document->primary != status->id ||
		status->transfer_target != 0 || status->lease_until != 0 ||
		!status->own_term_committed || node->now - status->quorum_contact >= half)
		return false;
	if (node->now < settled)
	{
		look_by(settled);
		return false;
	}
	if (raft_transfer(node->raft, 0) != RAFT_OK)
	{
		look_by(node->now + (raft_time) pgraft_heartbeat_interval);
		return false;
	}
	ereport(LOG,
			(errmsg("pgraft member %u, the primary, hands over leadership, because it has no lease since it gave up handing over before",
					node->identity.node_id)));
	return true;
}

/* With both in one place a failure of either costs one detection, not two. */
static void
prefer_primary_as_leader(PgraftNode *node, const struct raft_status *status)
{
	const PgraftHaDocument *document = pgraft_ha_state_document();
	const struct raft_member *member;
	struct raft_peer_status peer;
	raft_time	calm = Max(leading.since, leading.phase_since) +
		2 * (raft_time) pgraft_election_timeout;

	if (document->phase != PGRAFT_HA_STEADY || document->paused ||
		document->primary == status->id || status->transfer_target != 0 ||
		!status->own_term_committed || node->disk_full)
		return;
	if (leading.transferred_at != 0)
		calm = Max(calm, leading.transferred_at + TRANSFER_RETRY_MS);
	if (node->now < calm)
	{
		look_by(calm);
		return;
	}
	member = raft_config_find(raft_get_config(node->raft), document->primary);
	if (member == NULL || member->role != RAFT_VOTER ||
		raft_peer_status(node->raft, document->primary, &peer) != RAFT_OK ||
		!peer.connected || peer.progress != RAFT_PROGRESS_REPLICATE)
	{
		look_by(node->now + (raft_time) pgraft_election_timeout);
		return;
	}
	leading.transferred_at = node->now;
	if (raft_transfer(node->raft, document->primary) == RAFT_OK)
		ereport(DEBUG1,
				(errmsg_internal("pgraft leadership goes to the primary, member %u",
								 document->primary)));
}
