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
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/document.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/ha_document.h"

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
static bool left_its_timeline(const PgraftHaDocument *document, uint64 wal_epoch,
							  uint64 tag, uint32 timeline);
static PgraftHaVerdict apply_report(PgraftHaDocument *document,
									const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_promoted(PgraftHaDocument *document,
									  const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_sync_begin(PgraftHaDocument *document,
										const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_sync_end(PgraftHaDocument *document,
									  const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_member_state(PgraftHaDocument *document,
										  const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_switchover(PgraftHaDocument *document,
										const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_demoted(PgraftHaDocument *document,
									 const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_abort(PgraftHaDocument *document,
								   const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_pause(PgraftHaDocument *document,
								   const PgraftHaCommand *command, const char **why);
static PgraftHaVerdict apply_force(PgraftHaDocument *document,
								   const PgraftHaCommand *command, const char **why);
static void begin_epoch(PgraftHaDocument *document, const PgraftHaCommand *command,
						const char *reason);
static bool settle(PgraftHaDocument *document);
static void assign(PgraftHaDocument *document, uint32 id);
static void end_switchover(PgraftHaDocument *document);
static PgraftHaEpoch *current_entry(PgraftHaDocument *document);
static void push_history(PgraftHaDocument *document, const PgraftHaEpoch *entry);
static bool in_lineage(const PgraftHaDocument *document, uint64 epoch);
static uint64 epoch_of_timeline(const PgraftHaDocument *document, uint32 timeline);
static int	compare_reports(const PgraftHaMember *a, const PgraftHaMember *b);
static bool reports_suffice_for(const PgraftHaDocument *document, const PgraftHaSyncSet *set);
static void set_add(PgraftHaSyncSet *set, uint32 id);
static bool set_remove(PgraftHaSyncSet *set, uint32 id);
static bool set_is_proper(const PgraftHaSyncSet *set);
static bool sets_equal(const PgraftHaSyncSet *a, const PgraftHaSyncSet *b);
static void include_primary(PgraftHaDocument *document, PgraftHaSyncSet *set, uint32 id);
static void member_is_gone(PgraftHaDocument *document, uint32 id);
static const PgraftHaMember *find_member(const PgraftHaDocument *document, uint32 id);

static const Transition transitions[] = {
	[PGRAFT_HA_MEMBER] = {"member", ANY_PHASE, false, false, false, apply_member},
	[PGRAFT_HA_FORGET] = {"forget", ANY_PHASE, false, true, false, apply_forget},
	[PGRAFT_HA_BEGIN_EPOCH] = {"begin_epoch", ANY_PHASE, true, false, false, apply_begin},
	[PGRAFT_HA_REPORT] = {"report", IN(PGRAFT_HA_SEALING), true, true, false, apply_report},
	[PGRAFT_HA_PROMOTED] = {"promoted", IN(PGRAFT_HA_ASSIGNED), true, true, true, apply_promoted},
	[PGRAFT_HA_SYNC_BEGIN] = {"sync_begin", IN(PGRAFT_HA_STEADY), true, true, true, apply_sync_begin},
	[PGRAFT_HA_SYNC_END] = {"sync_end", IN(PGRAFT_HA_STEADY), true, true, true, apply_sync_end},
	[PGRAFT_HA_MEMBER_STATE] = {"member_state", AFTER_FIRST, true, true, false, apply_member_state},
	[PGRAFT_HA_SWITCHOVER] = {"switchover", IN(PGRAFT_HA_STEADY), true, false, false, apply_switchover},
	[PGRAFT_HA_DEMOTED] = {"demoted", IN(PGRAFT_HA_STEADY) | IN(PGRAFT_HA_DRAINING), true, true, true, apply_demoted},
	[PGRAFT_HA_SWITCHOVER_ABORT] = {"switchover_abort", IN(PGRAFT_HA_SEALING) | IN(PGRAFT_HA_DRAINING), true, false, false, apply_abort},
	[PGRAFT_HA_PAUSE] = {"pause", ANY_PHASE, false, false, false, apply_pause},
	[PGRAFT_HA_RESUME] = {"resume", ANY_PHASE, false, false, false, apply_pause},
	[PGRAFT_HA_FORCE] = {"force", AFTER_FIRST, true, true, false, apply_force}
};

#define N_KINDS ((int) lengthof(transitions))

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
	const PgraftHaMember *member = find_member(document, command->member);
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
	(void) settle(document);
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
	(void) settle(document);
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

	if (set_remove(&document->sync, id))
	{
		set_add(&document->sync, id | PGRAFT_HA_GONE);
		changed = true;
	}
	if (set_remove(&document->next_sync, id))
	{
		set_add(&document->next_sync, id | PGRAFT_HA_GONE);
		changed = true;
	}
	if (changed)
		document->sync_generation++;
	if (document->switchover_target == id)
		document->switchover_target = 0;
	if (document->switchover_from == id)
		end_switchover(document);
	if (document->force_target == id)
		document->force_target = 0;
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
		if (find_member(document, command->member) == NULL)
		{
			*why = "there is no such data member";
			return PGRAFT_HA_REFUSED;
		}
		begin_epoch(document, command, command->reason);
		assign(document, command->member);

		/* nobody else may be chosen before it says what it has */
		include_primary(document, &document->sync, command->member);
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
	begin_epoch(document, command, command->reason);
	*why = "a new epoch begins: the members seal themselves and report";
	return PGRAFT_HA_DONE;
}

/*
 * Equal epochs mean equal WAL only on the timeline that the epoch's promotion
 * made: a server that somebody promoted by hand has WAL of its own on a later
 * one, and still names the promotion that it followed before.
 */
static bool
left_its_timeline(const PgraftHaDocument *document, uint64 wal_epoch, uint64 tag,
				  uint32 timeline)
{
	const PgraftHaEpoch *entry = pgraft_ha_find_epoch(document, wal_epoch);

	return entry != NULL && entry->promoted && tag != 0 && tag == entry->tag &&
		timeline > entry->timeline;
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
	if (left_its_timeline(document, command->wal_epoch, command->tag, command->timeline))
	{
		*why = "the member is on a timeline of its own: it was promoted by hand";
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
	*why = settle(document) ? "the reports suffice: a primary is assigned"
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
	PgraftHaEpoch *entry = current_entry(document);
	PgraftHaMember *member = pgraft_ha_find_member(document, command->member);

	if (command->timeline == 0 || command->lsn == 0)
	{
		*why = "timeline or position is missing";
		return PGRAFT_HA_REFUSED;
	}
	document->phase = PGRAFT_HA_STEADY;
	document->primary_epoch = document->epoch;
	member->state = PGRAFT_HA_MEMBER_STREAMING;
	if (document->force_target == document->primary)
	{
		memset(&document->sync, 0, sizeof(document->sync));
		memset(&document->next_sync, 0, sizeof(document->next_sync));
		document->sync_generation++;
	}
	document->force_target = 0;
	end_switchover(document);
	include_primary(document, &document->sync, document->primary);
	if (document->next_sync.n > 0)
		include_primary(document, &document->next_sync, document->primary);
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
	begin_epoch(document, command, command->reason[0] != '\0' ? command->reason :
				"forced by an operator");
	document->force_target = command->member;
	*why = "a new epoch begins: an operator has chosen the primary and accepts what is lost";
	return PGRAFT_HA_DONE;
}

static void
begin_epoch(PgraftHaDocument *document, const PgraftHaCommand *command, const char *reason)
{
	PgraftHaEpoch entry;
	int			i;

	if (document->phase == PGRAFT_HA_STEADY || document->phase == PGRAFT_HA_DRAINING)
		document->old_primary = document->primary;
	if (document->n_history > 0 && current_entry(document)->ended_at == 0)
		current_entry(document)->ended_at = command->time;
	memset(&entry, 0, sizeof(entry));
	entry.epoch = ++document->epoch;
	entry.began_at = command->time;
	entry.old_primary = document->old_primary;
	strlcpy(entry.reason, reason, sizeof(entry.reason));
	push_history(document, &entry);

	document->phase = PGRAFT_HA_SEALING;
	document->primary = 0;
	document->force_target = 0;
	end_switchover(document);
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
static bool
settle(PgraftHaDocument *document)
{
	uint32		chosen;

	if (document->phase != PGRAFT_HA_SEALING)
		return false;
	chosen = pgraft_ha_choose(document);
	if (chosen == 0)
		return false;
	assign(document, chosen);
	return true;
}

static void
assign(PgraftHaDocument *document, uint32 id)
{
	const PgraftHaMember *member = find_member(document, id);
	PgraftHaEpoch *entry = current_entry(document);

	document->phase = PGRAFT_HA_ASSIGNED;
	document->primary = id;
	entry->new_primary = id;
	entry->base_epoch = member->wal_epoch > 0 ? member->wal_epoch :
		epoch_of_timeline(document, member->timeline);
	entry->base_lsn = member->lsn;
}

bool
pgraft_ha_reports_suffice(const PgraftHaDocument *document)
{
	return reports_suffice_for(document, &document->sync) &&
		reports_suffice_for(document, &document->next_sync);
}

static bool
reports_suffice_for(const PgraftHaDocument *document, const PgraftHaSyncSet *set)
{
	int			reported = 0;
	int			i;

	for (i = 0; i < set->n; i++)
	{
		const PgraftHaMember *member = find_member(document, set->members[i]);

		if (member != NULL && member->reported)
			reported++;
	}
	return reported >= set->n - set->k;
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
		best = find_member(document, document->force_target);
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
		order = best == NULL ? 1 : compare_reports(member, best);
		if (order > 0 || (order == 0 && member->priority > best->priority))
			best = member;
	}
	if (best == NULL || document->switchover_from == 0)
		return best != NULL ? best->id : 0;

	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];

		if (!member->reported || compare_reports(member, best) < 0 ||
			member->id == document->switchover_from)
			continue;
		if (member->id == document->switchover_target)
			return member->id;
		if (member->priority > 0 && (other == NULL || member->priority > other->priority))
			other = member;
	}
	return document->switchover_target == 0 && other != NULL ? other->id : 0;
}

static int
compare_reports(const PgraftHaMember *a, const PgraftHaMember *b)
{
	if (a->wal_epoch != b->wal_epoch)
		return a->wal_epoch > b->wal_epoch ? 1 : -1;
	if (a->lsn != b->lsn)
		return a->lsn > b->lsn ? 1 : -1;
	return 0;
}

/* ----------------------------------------------------------------
 * Sync sets
 * ----------------------------------------------------------------
 */

static PgraftHaVerdict
apply_sync_begin(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	PgraftHaSyncSet next = command->sync;
	int			i;

	if (command->generation != document->sync_generation)
	{
		*why = "the sync set has changed since";
		return PGRAFT_HA_STALE;
	}
	if (!set_is_proper(&next) || !pgraft_ha_set_contains(&next, document->primary))
	{
		*why = "the sync set is malformed or lacks the primary";
		return PGRAFT_HA_REFUSED;
	}
	if (next.k == 0)
	{
		memset(&next, 0, sizeof(next));
		set_add(&next, document->primary);
	}
	for (i = 0; i < next.n; i++)
	{
		if (find_member(document, next.members[i]) == NULL)
		{
			*why = "the sync set has a member that is no data member";
			return PGRAFT_HA_REFUSED;
		}
	}
	if (sets_equal(&next, document->next_sync.n > 0 ? &document->next_sync : &document->sync))
		return PGRAFT_HA_UNCHANGED;

	/*
	 * What was acknowledged under the set that is dropped here is certainly on
	 * the primary: without whose report nothing can be chosen when k = 0.
	 */
	if (document->next_sync.n > 0 && next.k > 0)
	{
		*why = "another change of the sync set is under way";
		return PGRAFT_HA_REFUSED;
	}
	document->next_sync = next;
	document->sync_generation++;
	*why = "the sync set is being changed: both sets are in force";
	return PGRAFT_HA_DONE;
}

static PgraftHaVerdict
apply_sync_end(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	if (command->generation != document->sync_generation)
	{
		*why = "the sync set has changed since";
		return PGRAFT_HA_STALE;
	}
	if (document->next_sync.n == 0)
		return PGRAFT_HA_UNCHANGED;
	if (command->sync.n == 0 || sets_equal(&command->sync, &document->next_sync))
	{
		document->sync = document->next_sync;
		*why = "the sync set was changed";
	}
	else if (sets_equal(&command->sync, &document->sync))
		*why = "the change of the sync set was given up";
	else
	{
		*why = "that sync set is neither of the two in force";
		return PGRAFT_HA_REFUSED;
	}
	memset(&document->next_sync, 0, sizeof(document->next_sync));
	document->sync_generation++;
	return PGRAFT_HA_DONE;
}

static void
include_primary(PgraftHaDocument *document, PgraftHaSyncSet *set, uint32 id)
{
	if (pgraft_ha_set_contains(set, id) && (set->k > 0 || set->n == 1))
		return;

	/* it has everything: a set of it alone is always safe */
	if (set->k == 0 || set->n == PGRAFT_HA_MAX_MEMBERS)
		memset(set, 0, sizeof(*set));
	set_add(set, id);
	document->sync_generation++;
}

bool
pgraft_ha_set_contains(const PgraftHaSyncSet *set, uint32 id)
{
	int			i;

	for (i = 0; i < set->n; i++)
	{
		if (set->members[i] == id)
			return true;
	}
	return false;
}

static void
set_add(PgraftHaSyncSet *set, uint32 id)
{
	int			i;

	for (i = set->n; i > 0 && set->members[i - 1] > id; i--)
		set->members[i] = set->members[i - 1];
	set->members[i] = id;
	set->n++;
}

static bool
set_remove(PgraftHaSyncSet *set, uint32 id)
{
	int			i;

	for (i = 0; i < set->n && set->members[i] != id; i++)
		;
	if (i == set->n)
		return false;
	set->n--;
	memmove(&set->members[i], &set->members[i + 1],
			(size_t) (set->n - i) * sizeof(set->members[0]));
	set->members[set->n] = 0;
	return true;
}

static bool
set_is_proper(const PgraftHaSyncSet *set)
{
	int			i;

	if (set->n < 1 || set->n > PGRAFT_HA_MAX_MEMBERS || set->k < 0 || set->k >= set->n)
		return false;
	for (i = 1; i < set->n; i++)
	{
		if (set->members[i] <= set->members[i - 1])
			return false;
	}
	return set->members[0] != 0;
}

static bool
sets_equal(const PgraftHaSyncSet *a, const PgraftHaSyncSet *b)
{
	return a->k == b->k && a->n == b->n && a->n >= 0 && a->n <= PGRAFT_HA_MAX_MEMBERS &&
		memcmp(a->members, b->members, (size_t) a->n * sizeof(a->members[0])) == 0;
}

/* ----------------------------------------------------------------
 * Switchover, maintenance
 * ----------------------------------------------------------------
 */

static PgraftHaVerdict
apply_switchover(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	const PgraftHaMember *target = find_member(document, command->member);

	if (command->member == document->primary)
	{
		*why = "the target is the primary already";
		return PGRAFT_HA_REFUSED;
	}
	if (command->member != 0 && target == NULL)
	{
		*why = "the target is no data member";
		return PGRAFT_HA_REFUSED;
	}
	if (document->n_members < 2)
	{
		*why = "there is no other data member";
		return PGRAFT_HA_REFUSED;
	}
	if (target != NULL && (target->state == PGRAFT_HA_MEMBER_REWIND ||
						   target->state == PGRAFT_HA_MEMBER_RECLONE))
	{
		*why = "the target must be rewound or cloned first";
		return PGRAFT_HA_REFUSED;
	}
	document->phase = PGRAFT_HA_DRAINING;
	document->switchover_target = command->member;
	document->switchover_from = document->primary;
	document->switchover_deadline = command->deadline;
	*why = "a switchover begins: the primary stops writing";
	return PGRAFT_HA_DONE;
}

static PgraftHaVerdict
apply_demoted(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	bool		planned = document->phase == PGRAFT_HA_DRAINING;
	uint32		target = document->switchover_target;
	int64		deadline = document->switchover_deadline;
	PgraftHaMember *member;

	begin_epoch(document, command, planned ? "switchover" :
				command->reason[0] != '\0' ? command->reason : "the primary was restarted");
	if (planned)
	{
		document->switchover_target = target;
		document->switchover_from = command->member;
		document->switchover_deadline = deadline;
	}
	member = pgraft_ha_find_member(document, command->member);
	member->reported = !left_its_timeline(document, command->epoch, command->tag,
										  command->timeline);
	member->wal_epoch = command->epoch;
	member->timeline = command->timeline;
	member->lsn = command->lsn;
	*why = planned ? "the primary demoted itself for the switchover" :
		"a new epoch begins: the primary is a standby now";
	(void) settle(document);
	return PGRAFT_HA_DONE;
}

static PgraftHaVerdict
apply_abort(PgraftHaDocument *document, const PgraftHaCommand *command, const char **why)
{
	(void) command;
	if (document->switchover_from == 0)
		return PGRAFT_HA_UNCHANGED;
	end_switchover(document);
	if (document->phase == PGRAFT_HA_DRAINING)
	{
		document->phase = PGRAFT_HA_STEADY;
		*why = "the switchover was given up before it began";
		return PGRAFT_HA_DONE;
	}
	*why = settle(document) ?
		"the switchover was given up: a primary with all WAL is assigned" :
		"the switchover was given up: any member with all WAL can be chosen";
	return PGRAFT_HA_DONE;
}

static void
end_switchover(PgraftHaDocument *document)
{
	document->switchover_target = 0;
	document->switchover_from = 0;
	document->switchover_deadline = 0;
}

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

/* ----------------------------------------------------------------
 * History
 * ----------------------------------------------------------------
 */

static PgraftHaEpoch *
current_entry(PgraftHaDocument *document)
{
	return &document->history[document->n_history - 1];
}

const PgraftHaEpoch *
pgraft_ha_find_epoch(const PgraftHaDocument *document, uint64 epoch)
{
	int			i;

	for (i = document->n_history - 1; i >= 0; i--)
	{
		if (document->history[i].epoch == epoch)
			return &document->history[i];
	}
	return NULL;
}

/* When it is full, epochs that came to nothing go first. */
static void
push_history(PgraftHaDocument *document, const PgraftHaEpoch *entry)
{
	int			victim;

	if (document->n_history == PGRAFT_HA_HISTORY)
	{
		for (victim = 0; victim < document->n_history; victim++)
		{
			if (!in_lineage(document, document->history[victim].epoch))
				break;
		}
		if (victim == document->n_history)
			victim = 0;
		document->n_history--;
		memmove(&document->history[victim], &document->history[victim + 1],
				(size_t) (document->n_history - victim) * sizeof(PgraftHaEpoch));
	}
	document->history[document->n_history++] = *entry;
}

/* Whether the newest promoted primary's WAL was built on that epoch's. */
static bool
in_lineage(const PgraftHaDocument *document, uint64 epoch)
{
	uint64		ancestor = document->primary_epoch;

	while (ancestor > epoch)
	{
		const PgraftHaEpoch *entry = pgraft_ha_find_epoch(document, ancestor);

		if (entry == NULL || entry->base_epoch >= ancestor)
			return false;
		ancestor = entry->base_epoch;
	}
	return ancestor == epoch && epoch > 0;
}

/* Up to where the WAL before a promotion is also in the WAL after it. */
static uint64
shared_until(const PgraftHaEpoch *entry)
{
	if (!entry->promoted)
		return entry->base_lsn;
	if (entry->base_lsn == 0 || entry->fork_lsn < entry->base_lsn)
		return entry->fork_lsn;
	return entry->base_lsn;
}

/*
 * A clone has followed nobody yet and knows its timeline only: the newest epoch
 * of the lineage with that number is taken for the one it was cloned from.
 */
static uint64
epoch_of_timeline(const PgraftHaDocument *document, uint32 timeline)
{
	int			i;

	for (i = document->n_history - 1; i >= 0; i--)
	{
		const PgraftHaEpoch *entry = &document->history[i];

		if (entry->promoted && entry->timeline == timeline &&
			in_lineage(document, entry->epoch))
			return entry->epoch;
	}
	return 0;
}

/*
 * Walks from the newest promoted epoch back to the one whose WAL the member
 * has.  On the way the member's position must not be past any point where the
 * WAL forked.  Timelines with equal numbers but different contents would fool
 * pg_rewind: then only a clone helps.
 */
int
pgraft_ha_judge_wal(const PgraftHaDocument *document, uint64 wal_epoch, uint64 tag,
					uint32 timeline, uint64 lsn)
{
	uint64		ancestor = document->primary_epoch;
	bool		number_clashes = false;
	bool		forked_before = false;

	if (wal_epoch == 0)
		wal_epoch = epoch_of_timeline(document, timeline);
	while (ancestor != wal_epoch)
	{
		const PgraftHaEpoch *entry = pgraft_ha_find_epoch(document, ancestor);

		if (entry == NULL)
			return ancestor == 0 && document->epoch <= PGRAFT_HA_HISTORY && !number_clashes ?
				PGRAFT_HA_MEMBER_REWIND : PGRAFT_HA_MEMBER_RECLONE;
		if (entry->promoted && entry->timeline == timeline)
			number_clashes = true;
		if (lsn > shared_until(entry))
			forked_before = true;
		ancestor = entry->base_epoch;
		if (ancestor < wal_epoch)
			forked_before = true;
	}
	if (ancestor > 0)
	{
		const PgraftHaEpoch *entry = pgraft_ha_find_epoch(document, ancestor);

		if (entry != NULL && entry->tag != 0 && tag != 0 && entry->tag != tag)
			return PGRAFT_HA_MEMBER_RECLONE;
	}
	if (left_its_timeline(document, wal_epoch, tag, timeline))
		return epoch_of_timeline(document, timeline) != 0 ?
			PGRAFT_HA_MEMBER_RECLONE : PGRAFT_HA_MEMBER_REWIND;
	if (number_clashes)
		return PGRAFT_HA_MEMBER_RECLONE;
	return forked_before ? PGRAFT_HA_MEMBER_REWIND : PGRAFT_HA_MEMBER_STREAMING;
}

/* ----------------------------------------------------------------
 * Looking in
 * ----------------------------------------------------------------
 */

static const PgraftHaMember *
find_member(const PgraftHaDocument *document, uint32 id)
{
	int			i;

	for (i = 0; i < document->n_members; i++)
	{
		if (document->members[i].id == id)
			return &document->members[i];
	}
	return NULL;
}

PgraftHaMember *
pgraft_ha_find_member(PgraftHaDocument *document, uint32 id)
{
	return (PgraftHaMember *) find_member(document, id);
}

const char *
pgraft_ha_phase_name(int phase)
{
	static const char *const names[] = {"none", "sealing", "assigned", "steady", "draining"};

	return phase >= 0 && phase < (int) lengthof(names) ? names[phase] : "?";
}

const char *
pgraft_ha_member_state_name(int state)
{
	static const char *const names[] = {"new", "streaming", "lagging", "rewind", "reclone"};

	return state >= 0 && state < (int) lengthof(names) ? names[state] : "?";
}

const char *
pgraft_ha_command_name(int kind)
{
	return kind >= PGRAFT_HA_MEMBER && kind < N_KINDS ? transitions[kind].name : "?";
}

const char *
pgraft_ha_document_check(const PgraftHaDocument *document)
{
	bool		has_primary = document->phase == PGRAFT_HA_ASSIGNED ||
		document->phase == PGRAFT_HA_STEADY || document->phase == PGRAFT_HA_DRAINING;
	int			i;

	if (document->phase < PGRAFT_HA_NONE || document->phase > PGRAFT_HA_DRAINING)
		return "the phase is known";
	if ((document->phase == PGRAFT_HA_NONE) != (document->epoch == 0))
		return "there is an epoch from the first primary on";
	if (document->n_members < 0 || document->n_members > PGRAFT_HA_MAX_MEMBERS ||
		document->n_history < 0 || document->n_history > PGRAFT_HA_HISTORY)
		return "the counts are within their limits";
	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];

		if (member->id == 0 || (i > 0 && member->id <= document->members[i - 1].id))
			return "the members are in ascending order";
		if (member->state < PGRAFT_HA_MEMBER_NEW || member->state > PGRAFT_HA_MEMBER_RECLONE)
			return "the states of members are known";
		if (member->reported && member->wal_epoch >= document->epoch)
			return "reports are about earlier epochs";
	}
	for (i = 0; i < document->n_history; i++)
	{
		const PgraftHaEpoch *entry = &document->history[i];

		if (entry->epoch == 0 || (i > 0 && entry->epoch <= document->history[i - 1].epoch) ||
			entry->base_epoch >= entry->epoch)
			return "the history is in ascending order";
	}
	if (document->epoch > 0 &&
		(document->n_history == 0 ||
		 document->history[document->n_history - 1].epoch != document->epoch))
		return "the history ends with the epoch";
	if (has_primary != (document->primary != 0))
		return "there is a primary in the phases that have one";
	if (has_primary && find_member(document, document->primary) == NULL)
		return "the primary is a data member";
	if (document->primary_epoch > document->epoch)
		return "the promoted epoch is not newer than the epoch";
	if ((document->phase == PGRAFT_HA_STEADY || document->phase == PGRAFT_HA_DRAINING) &&
		(document->primary_epoch != document->epoch ||
		 !pgraft_ha_set_contains(&document->sync, document->primary) ||
		 (document->next_sync.n > 0 &&
		  !pgraft_ha_set_contains(&document->next_sync, document->primary))))
		return "the promoted primary is in its sync sets";
	if ((document->sync.n != 0 && !set_is_proper(&document->sync)) ||
		(document->next_sync.n != 0 && !set_is_proper(&document->next_sync)))
		return "the sync sets are proper";
	if ((document->epoch > 0) != (document->sync.n > 0))
		return "there is a sync set from the first primary on";
	if (document->force_target != 0 && document->phase != PGRAFT_HA_SEALING &&
		document->phase != PGRAFT_HA_ASSIGNED)
		return "a forced choice ends with the promotion";
	return NULL;
}
