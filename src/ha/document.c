/*-------------------------------------------------------------------------
 *
 * document.c
 *	  The cluster document: who is the PostgreSQL primary, decided without
 *	  losing an acknowledged transaction.
 *
 * Called by the consensus worker for each committed command, alike on every
 * member.  Pure: what is not in the document or the command cannot come in, no
 * clock, no setting, nothing of this member.
 *
 * Why a chosen primary has every acknowledged commit:
 *	- A commit of epoch E is acknowledged by E's primary alone, and only after
 *	  PROMOTED of E was applied, when it and k others of a set in force have it.
 *	- A member that reports for epoch F acknowledges nothing of an older epoch
 *	  any more.  n - k reports of each set in force therefore include one that
 *	  has the commit, or has a newer epoch's WAL, which began with it.
 *	- One server at most has ever been primary of an epoch, so equal epochs mean
 *	  the same WAL, and the greatest (epoch, position) has what any other has.
 *
 * A chosen primary that dies before PROMOTED may have promoted itself: its WAL
 * of that epoch then holds nothing acknowledged.  If it reports to a later
 * epoch it may win with it; if not, it is rewound (pgraft_ha_judge_wal).
 *
 * In here are the table of transitions, members and epochs.  Switchovers are in
 * document_switchover.c, sync sets in document_sync.c, modes and positions in
 * document_mode.c, history and whose WAL fits in document_wal.c, names and
 * invariants in document_check.c.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/document.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "document_internal.h"

typedef PgraftHaVerdict (*ApplyFunction) (PgraftHaDocument *document,
										  const PgraftHaCommand *command,
										  const char **why);

/* One line of the table of transitions: when a command can do anything. */
typedef struct Transition
{
	const char *name;
	unsigned int phases;		/* 1 << PgraftHaPhase */
	bool		checks_epoch;	/* it must be for the current one */
	bool		needs_member;	/* names a data member */
	bool		from_primary;	/* which must be the primary */
	ApplyFunction apply;
} Transition;

#define IN(phase) (1u << (phase))
#define ANY_PHASE (IN(PGRAFT_HA_NONE) | IN(PGRAFT_HA_SEALING) | \
				   IN(PGRAFT_HA_ASSIGNED) | IN(PGRAFT_HA_STEADY) | \
				   IN(PGRAFT_HA_DRAINING))
#define AFTER_FIRST (ANY_PHASE & ~IN(PGRAFT_HA_NONE))

static PgraftHaVerdict apply_member(PgraftHaDocument *document,
									const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_forget(PgraftHaDocument *document,
									const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_begin(PgraftHaDocument *document,
								   const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_report(PgraftHaDocument *document,
									const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_promoted(PgraftHaDocument *document,
									  const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_member_state(PgraftHaDocument *document,
										  const PgraftHaCommand *command, const char **why);
static bool has_what_counts(const PgraftHaDocument *document, const PgraftHaMember *member,
							const PgraftHaMember *best);
static PgraftHaVerdict apply_pause(PgraftHaDocument *document,
								   const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_force(PgraftHaDocument *document,
								   const PgraftHaCommand *command, const char **why);
static void member_is_gone(PgraftHaDocument *document, uint32 id);

static const Transition transitions[] = {
	[PGRAFT_HA_MEMBER] = {"member", ANY_PHASE, false, false, false, apply_member},
	[PGRAFT_HA_FORGET] = {"forget", ANY_PHASE, false, true, false, apply_forget},
	[PGRAFT_HA_BEGIN_EPOCH] = {"begin_epoch", ANY_PHASE, true, false, false, apply_begin},
	[PGRAFT_HA_REPORT] = {"report", IN(PGRAFT_HA_SEALING), true, true, false, apply_report},
	[PGRAFT_HA_PROMOTED] = {"promoted", IN(PGRAFT_HA_ASSIGNED), true, true, true, apply_promoted},
	[PGRAFT_HA_SYNC_BEGIN] = {"sync_begin", IN(PGRAFT_HA_STEADY), true, true, true, pgraft_ha_apply_sync_begin},
	[PGRAFT_HA_SYNC_END] = {"sync_end", IN(PGRAFT_HA_STEADY), true, true, true, pgraft_ha_apply_sync_end},
	[PGRAFT_HA_MEMBER_STATE] = {"member_state", AFTER_FIRST, true, true, false, apply_member_state},
	[PGRAFT_HA_SWITCHOVER] = {"switchover", IN(PGRAFT_HA_STEADY), true, false, false, pgraft_ha_apply_switchover},
	[PGRAFT_HA_DEMOTED] = {"demoted", IN(PGRAFT_HA_STEADY) | IN(PGRAFT_HA_DRAINING), true, true, true, pgraft_ha_apply_demoted},
	[PGRAFT_HA_SWITCHOVER_ABORT] = {"switchover_abort", IN(PGRAFT_HA_SEALING) | IN(PGRAFT_HA_DRAINING), true, false, false, pgraft_ha_apply_abort},
	[PGRAFT_HA_PAUSE] = {"pause", ANY_PHASE, false, false, false, apply_pause},
	[PGRAFT_HA_RESUME] = {"resume", ANY_PHASE, false, false, false, apply_pause},
	[PGRAFT_HA_FORCE] = {"force", AFTER_FIRST, true, true, false, apply_force},
	[PGRAFT_HA_DRAINED] = {"drained", IN(PGRAFT_HA_DRAINING), true, true, true, pgraft_ha_apply_drained},
	[PGRAFT_HA_POSITIONS] = {"positions", IN(PGRAFT_HA_STEADY) | IN(PGRAFT_HA_DRAINING), true, true, true, pgraft_ha_apply_positions},
	[PGRAFT_HA_MODE] = {"mode", IN(PGRAFT_HA_STEADY), true, true, true, pgraft_ha_apply_mode},
	[PGRAFT_HA_ACCEPT_LAG] = {"accept_lag", IN(PGRAFT_HA_SEALING), true, false, false, pgraft_ha_apply_accept_lag},
	[PGRAFT_HA_SCHEDULE] = {"schedule", IN(PGRAFT_HA_STEADY), true, false, false, pgraft_ha_apply_schedule},
	[PGRAFT_HA_CANCEL_SCHEDULE] = {"cancel_schedule", ANY_PHASE, false, false, false, pgraft_ha_apply_cancel_schedule},
	[PGRAFT_HA_SWITCHOVER_TARGET] = {"switchover_target", IN(PGRAFT_HA_DRAINING), true, true, false, pgraft_ha_apply_switchover_target}
};

#define N_KINDS ((int) lengthof(transitions))

const char *
pgraft_ha_command_name(int kind)
{
	return kind >= PGRAFT_HA_MEMBER && kind < N_KINDS ? transitions[kind].name : "?";
}

void
pgraft_ha_document_init(PgraftHaDocument *document)
{
	memset(document, 0, sizeof(*document));
}

PgraftHaVerdict
pgraft_ha_document_apply(PgraftHaDocument *document, const PgraftHaCommand *command,
						 const char **why)
{
	const Transition *transition;
	const PgraftHaMember *member = pgraft_ha_known_member(document, command->member);
	PgraftHaVerdict verdict;

	*why = "";
	if (command->kind < PGRAFT_HA_MEMBER || command->kind >= N_KINDS)
	{
		*why = "this release does not know the command";
		return PGRAFT_HA_REFUSED;
	}
	transition = &transitions[command->kind];
	if (transition->checks_epoch && command->epoch != document->epoch)
	{
		*why = "it is for another epoch";
		return PGRAFT_HA_STALE;
	}
	if ((transition->phases & IN(document->phase)) == 0)
	{
		*why = "it does not belong to the present phase";
		return PGRAFT_HA_STALE;
	}
	if (transition->needs_member && member == NULL)
	{
		*why = "there is no such data member";
		return PGRAFT_HA_REFUSED;
	}

	/* a late word of a server that was replaced since says nothing of the new one */
	if (transition->needs_member && command->incarnation != member->incarnation &&
		(command->incarnation != 0 || command->kind == PGRAFT_HA_REPORT))
	{
		*why = "it is about another incarnation of the member";
		return PGRAFT_HA_STALE;
	}
	if (transition->from_primary && command->member != document->primary)
	{
		*why = "the member is not the primary of the epoch";
		return PGRAFT_HA_STALE;
	}
	verdict = transition->apply(document, command, why);
	if (verdict == PGRAFT_HA_DONE)
		document->changes++;
	return verdict;
}

/* ----------------------------------------------------------------
 * Members
 * ----------------------------------------------------------------
 */

static PgraftHaVerdict
apply_member(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	PgraftHaMember *member = pgraft_ha_find_member(document, command->member);
	int			i;

	if (command->member == 0 || (command->member & PGRAFT_HA_GONE) != 0 ||
		command->host[0] == '\0' || command->port == 0)
	{
		*why = "id, host or port is missing";
		return PGRAFT_HA_REFUSED;
	}
	if (command->system_identifier == 0 ||
		(document->system_identifier != 0 &&
		 command->system_identifier != document->system_identifier))
	{
		*why = "its PostgreSQL cluster has another system identifier";
		return PGRAFT_HA_REFUSED;
	}
	if (member != NULL && member->incarnation > command->incarnation)
	{
		*why = "a newer membership of it is known";
		return PGRAFT_HA_STALE;
	}
	if (member != NULL && member->incarnation == command->incarnation &&
		member->port == command->port && member->priority == command->priority &&
		strcmp(member->host, command->host) == 0)
		return PGRAFT_HA_UNCHANGED;

	if (member == NULL)
	{
		if (document->n_members >= PGRAFT_HA_MAX_MEMBERS)
		{
			*why = "there are too many data members";
			return PGRAFT_HA_REFUSED;
		}
		for (i = document->n_members; i > 0 && document->members[i - 1].id > command->member; i--)
			document->members[i] = document->members[i - 1];
		document->n_members++;
		member = &document->members[i];
		memset(member, 0, sizeof(*member));
		*why = "a data member announced itself";
	}
	else if (member->incarnation != command->incarnation)
	{
		if (member->id == document->primary)
		{
			*why = "the primary must be replaced first";
			return PGRAFT_HA_REFUSED;
		}
		member_is_gone(document, member->id);
		memset(member, 0, sizeof(*member));
		*why = "a data member came back under another incarnation";
	}
	else
		*why = "a data member has a new address or priority";
	document->system_identifier = command->system_identifier;
	member->id = command->member;
	member->incarnation = command->incarnation;
	member->priority = command->priority;
	member->port = command->port;
	strlcpy(member->host, command->host, sizeof(member->host));
	(void) pgraft_ha_settle(document);
	return PGRAFT_HA_DONE;
}

static PgraftHaVerdict
apply_forget(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	PgraftHaMember *member = pgraft_ha_find_member(document, command->member);
	int			position = (int) (member - document->members);

	if (member->id == document->primary)
	{
		*why = "the primary must be replaced first";
		return PGRAFT_HA_REFUSED;
	}
	member_is_gone(document, member->id);
	document->n_members--;
	memmove(member, member + 1,
			(size_t) (document->n_members - position) * sizeof(PgraftHaMember));
	memset(&document->members[document->n_members], 0, sizeof(PgraftHaMember));
	*why = "a data member was removed";
	(void) pgraft_ha_settle(document);
	return PGRAFT_HA_DONE;
}

/*
 * Its data may be another server's from now on, so its word counts no longer
 * for what it once confirmed.
 */
static void
member_is_gone(PgraftHaDocument *document, uint32 id)
{
	bool		changed = false;

	if (pgraft_ha_set_remove(&document->sync, id))
	{
		pgraft_ha_set_add(&document->sync, id | PGRAFT_HA_GONE);
		changed = true;
	}
	if (pgraft_ha_set_remove(&document->next_sync, id))
	{
		pgraft_ha_set_add(&document->next_sync, id | PGRAFT_HA_GONE);
		changed = true;
	}
	if (changed)
		document->sync_generation++;
	if (document->switchover_target == id)
		document->switchover_target = 0;
	if (document->switchover_from == id)
		pgraft_ha_end_switchover(document);
	if (document->force_target == id)
		document->force_target = 0;
	if (document->scheduled_target == id)
		pgraft_ha_end_schedule(document);
}

static PgraftHaVerdict
apply_member_state(PgraftHaDocument *document, const PgraftHaCommand *command,
				   const char **why)
{
	PgraftHaMember *member = pgraft_ha_find_member(document, command->member);

	if (command->state < PGRAFT_HA_MEMBER_NEW || command->state > PGRAFT_HA_MEMBER_RECLONE)
	{
		*why = "this release does not know the state";
		return PGRAFT_HA_REFUSED;
	}
	if (member->state == command->state)
		return PGRAFT_HA_UNCHANGED;
	member->state = command->state;
	switch (command->state)
	{
		case PGRAFT_HA_MEMBER_STREAMING:
			*why = "a standby follows the primary";
			break;
		case PGRAFT_HA_MEMBER_LAGGING:
			*why = "a standby follows the primary no longer";
			break;
		case PGRAFT_HA_MEMBER_REWIND:
			*why = "a member has WAL that history does not have: it must be rewound";
			break;
		case PGRAFT_HA_MEMBER_RECLONE:
			*why = "a member must be cloned again";
			break;
	}
	return PGRAFT_HA_DONE;
}

/* ----------------------------------------------------------------
 * Epochs
 * ----------------------------------------------------------------
 */

static PgraftHaVerdict
apply_begin(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	if (document->phase == PGRAFT_HA_NONE)
	{
		if (pgraft_ha_known_member(document, command->member) == NULL)
		{
			*why = "there is no such data member";
			return PGRAFT_HA_REFUSED;
		}
		pgraft_ha_begin_epoch(document, command, command->reason);
		pgraft_ha_assign(document, command->member);

		/* nobody else may be chosen before it says what it has */
		pgraft_ha_include_primary(document, &document->sync, command->member);
		*why = "the first primary was assigned";
		return PGRAFT_HA_DONE;
	}
	if (document->paused && !command->forced)
	{
		*why = "the cluster is paused";
		return PGRAFT_HA_REFUSED;
	}
	if (document->phase == PGRAFT_HA_SEALING && document->force_target == 0 &&
		!command->forced)
	{
		*why = "an epoch is being begun already";
		return PGRAFT_HA_STALE;
	}
	pgraft_ha_begin_epoch(document, command, command->reason);
	*why = "a new epoch begins: the members seal themselves and report";
	return PGRAFT_HA_DONE;
}

static PgraftHaVerdict
apply_report(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	PgraftHaMember *member = pgraft_ha_find_member(document, command->member);

	if (command->wal_epoch >= document->epoch)
	{
		*why = "nobody can have WAL of an epoch without a primary";
		return PGRAFT_HA_REFUSED;
	}
	if (pgraft_ha_left_its_timeline(document, command->wal_epoch, command->tag,
									command->timeline))
	{
		*why = "the member is on a timeline of its own";
		return PGRAFT_HA_REFUSED;
	}
	if (member->reported && member->wal_epoch == command->wal_epoch &&
		member->timeline == command->timeline && member->lsn == command->lsn)
		return PGRAFT_HA_UNCHANGED;

	/* the latest word counts: during a switchover its WAL still grows */
	member->reported = true;
	member->wal_epoch = command->wal_epoch;
	member->timeline = command->timeline;
	member->lsn = command->lsn;
	*why = pgraft_ha_settle(document) ? "the reports suffice: a primary is assigned"
		: "a member reported";
	return PGRAFT_HA_DONE;
}

/*
 * From here on the primary may acknowledge.  A set that it is not in is made to
 * include it: it has everything that was acknowledged under the old one.
 */
static PgraftHaVerdict
apply_promoted(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	PgraftHaEpoch *entry = pgraft_ha_current_entry(document);
	PgraftHaMember *member = pgraft_ha_find_member(document, command->member);

	if (command->timeline == 0 || command->lsn == 0)
	{
		*why = "timeline or position is missing";
		return PGRAFT_HA_REFUSED;
	}
	document->phase = PGRAFT_HA_STEADY;
	document->primary_epoch = document->epoch;
	document->primary_lsn = command->lsn;
	document->primary_lsn_at = command->time;
	member->state = PGRAFT_HA_MEMBER_STREAMING;
	if (document->force_target == document->primary)
	{
		memset(&document->sync, 0, sizeof(document->sync));
		memset(&document->next_sync, 0, sizeof(document->next_sync));
		document->sync_generation++;
	}
	document->force_target = 0;
	pgraft_ha_end_switchover(document);
	pgraft_ha_include_primary(document, &document->sync, document->primary);
	if (document->next_sync.n > 0)
		pgraft_ha_include_primary(document, &document->next_sync, document->primary);
	entry->promoted = true;
	entry->ended_at = command->time;
	entry->timeline = command->timeline;
	entry->fork_lsn = command->lsn;
	entry->tag = command->tag;
	*why = "the primary was promoted";
	return PGRAFT_HA_DONE;
}

static PgraftHaVerdict
apply_force(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	pgraft_ha_begin_epoch(document, command, command->reason[0] != '\0' ? command->reason :
				"forced by an operator");
	document->force_target = command->member;
	*why = "a new epoch begins: an operator has chosen the primary and accepts what is lost";
	return PGRAFT_HA_DONE;
}

void
pgraft_ha_begin_epoch(PgraftHaDocument *document, const PgraftHaCommand *command,
					  const char *reason)
{
	PgraftHaEpoch entry;
	int			i;

	if (document->phase == PGRAFT_HA_STEADY || document->phase == PGRAFT_HA_DRAINING)
		document->old_primary = document->primary;
	if (document->n_history > 0 && pgraft_ha_current_entry(document)->ended_at == 0)
		pgraft_ha_current_entry(document)->ended_at = command->time;
	memset(&entry, 0, sizeof(entry));
	entry.epoch = ++document->epoch;
	entry.began_at = command->time;
	entry.old_primary = document->old_primary;
	strlcpy(entry.reason, reason, sizeof(entry.reason));
	pgraft_ha_push_history(document, &entry);

	document->phase = PGRAFT_HA_SEALING;
	document->primary = 0;
	document->force_target = 0;
	pgraft_ha_end_switchover(document);
	pgraft_ha_end_schedule(document);
	for (i = 0; i < document->n_members; i++)
	{
		PgraftHaMember *member = &document->members[i];

		member->reported = false;
		member->wal_epoch = 0;
		member->timeline = 0;
		member->lsn = 0;
		if (member->state == PGRAFT_HA_MEMBER_STREAMING)
			member->state = PGRAFT_HA_MEMBER_LAGGING;
	}
}

/* While sealing: assigns the primary if the reports say who it is. */
bool
pgraft_ha_settle(PgraftHaDocument *document)
{
	uint32		chosen;

	if (document->phase != PGRAFT_HA_SEALING)
		return false;
	chosen = pgraft_ha_choose(document);
	if (chosen == 0)
		return false;
	pgraft_ha_assign(document, chosen);
	return true;
}

void
pgraft_ha_assign(PgraftHaDocument *document, uint32 id)
{
	const PgraftHaMember *member = pgraft_ha_known_member(document, id);
	PgraftHaEpoch *entry = pgraft_ha_current_entry(document);

	document->phase = PGRAFT_HA_ASSIGNED;
	document->primary = id;
	entry->new_primary = id;
	entry->base_epoch = member->wal_epoch > 0 ? member->wal_epoch :
		pgraft_ha_epoch_of_timeline(document, member->timeline);
	entry->base_lsn = member->lsn;
}

/*
 * Members outside the sets can be chosen, too, if they have as much WAL as any:
 * but their reports prove nothing about what the others have.
 */
uint32
pgraft_ha_choose(const PgraftHaDocument *document)
{
	const PgraftHaMember *best = NULL;
	const PgraftHaMember *other = NULL;
	int			i;

	if (document->force_target != 0)
	{
		best = pgraft_ha_known_member(document, document->force_target);
		return best != NULL && best->reported ? best->id : 0;
	}
	if (!pgraft_ha_reports_suffice(document))
		return 0;
	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];
		int			order;

		if (!member->reported)
			continue;
		order = best == NULL ? 1 : pgraft_ha_compare_reports(member, best);
		if (order > 0 || (order == 0 && member->priority > best->priority))
			best = member;
	}
	if (best == NULL || document->switchover_from == 0)
		return best != NULL ? best->id : 0;

	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];

		if (!has_what_counts(document, member, best) || member->id == document->switchover_from)
			continue;
		if (member->id == document->switchover_target)
			return member->id;
		if (other == NULL || member->priority > other->priority)
			other = member;
	}
	return document->switchover_target == 0 && other != NULL ? other->id : 0;
}

bool
pgraft_ha_last_wal_may_come(const PgraftHaDocument *document, uint32 id)
{
	const PgraftHaEpoch *entry = pgraft_ha_find_epoch(document, document->epoch);
	const PgraftHaMember *member = pgraft_ha_known_member(document, id);

	return document->phase == PGRAFT_HA_SEALING && entry != NULL &&
		member != NULL && !member->reported &&
		strcmp(entry->reason, PGRAFT_HA_PROCESS_GONE) == 0;
}

/*
 * Behind the place where the old primary stopped nothing was acknowledged: WAL
 * that somebody has of it keeps no target out.
 */
static bool
has_what_counts(const PgraftHaDocument *document, const PgraftHaMember *member,
				const PgraftHaMember *best)
{
	return member->reported &&
		(pgraft_ha_compare_reports(member, best) >= 0 ||
		 (document->switchover_lsn != 0 && member->wal_epoch == document->primary_epoch &&
		  best->wal_epoch == document->primary_epoch && member->lsn >= document->switchover_lsn));
}

int
pgraft_ha_compare_reports(const PgraftHaMember *a, const PgraftHaMember *b)
{
	if (a->wal_epoch != b->wal_epoch)
		return a->wal_epoch > b->wal_epoch ? 1 : -1;
	if (a->lsn != b->lsn)
		return a->lsn > b->lsn ? 1 : -1;
	return 0;
}

/* ----------------------------------------------------------------
 * Maintenance
 * ----------------------------------------------------------------
 */

static PgraftHaVerdict
apply_pause(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	bool		pause = command->kind == PGRAFT_HA_PAUSE;

	if (document->paused == pause)
		return PGRAFT_HA_UNCHANGED;
	document->paused = pause;
	*why = pause ? "the cluster was paused: nothing happens by itself" :
		"the cluster goes on by itself again";
	return PGRAFT_HA_DONE;
}
