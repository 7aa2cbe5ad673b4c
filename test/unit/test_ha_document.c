/*-------------------------------------------------------------------------
 *
 * test_ha_document.c
 *	  Transitions of the cluster document one by one: failover, switchover,
 *	  sync sets, members that leave and return, whose WAL may follow; and its
 *	  bytes.  Random schedules are test_ha_model.c's.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/ha_document.h"

#include "tap.h"

static PgraftHaDocument document;
static int64 now;

/* Fields that most tests do not care about are filled with what is right. */
static PgraftHaCommand
make(int kind, uint32 member)
{
	PgraftHaCommand command;
	const PgraftHaMember *known = pgraft_ha_find_member(&document, member);

	memset(&command, 0, sizeof(command));
	command.kind = kind;
	command.member = member;
	command.epoch = document.epoch;
	command.generation = kind == PGRAFT_HA_SWITCHOVER ? document.switchover_serial :
		document.sync_generation;
	command.incarnation = known != NULL ? known->incarnation : member;
	command.time = ++now;
	return command;
}

static PgraftHaVerdict
apply(PgraftHaCommand command)
{
	const char *why;
	PgraftHaVerdict verdict = pgraft_ha_document_apply(&document, &command, &why);
	const char *broken = pgraft_ha_document_check(&document);

	if (broken != NULL)
		ok(false, "invariant after \"%s\": %s", pgraft_ha_command_name(command.kind), broken);
	if (verdict >= PGRAFT_HA_STALE && why[0] == '\0')
		ok(false, "a reason for refusing \"%s\"", pgraft_ha_command_name(command.kind));
	return verdict;
}

static PgraftHaVerdict
announce(uint32 id, uint64 incarnation, int priority)
{
	PgraftHaCommand command = make(PGRAFT_HA_MEMBER, id);

	command.incarnation = incarnation;
	command.system_identifier = 4711;
	command.port = 5432;
	command.priority = priority;
	snprintf(command.host, sizeof(command.host), "host%u", id);
	return apply(command);
}

static PgraftHaVerdict
report(uint32 id, uint64 wal_epoch, uint64 lsn)
{
	PgraftHaCommand command = make(PGRAFT_HA_REPORT, id);

	command.wal_epoch = wal_epoch;
	command.timeline = (uint32) wal_epoch + 1;
	command.lsn = lsn;
	return apply(command);
}

static PgraftHaVerdict
promoted(uint32 id, uint32 timeline, uint64 lsn, uint64 tag)
{
	PgraftHaCommand command = make(PGRAFT_HA_PROMOTED, id);

	command.timeline = timeline;
	command.lsn = lsn;
	command.tag = tag;
	return apply(command);
}

static PgraftHaVerdict
plain(int kind, uint32 member)
{
	return apply(make(kind, member));
}

static PgraftHaVerdict
change_set(int kind, int k, int n, uint32 a, uint32 b, uint32 c)
{
	PgraftHaCommand command = make(kind, document.primary);

	command.sync.k = k;
	command.sync.n = n;
	command.sync.members[0] = a;
	command.sync.members[1] = b;
	command.sync.members[2] = c;
	return apply(command);
}

/* n members, 1 is the primary of epoch 1 since position 100. */
static void
begin(int n)
{
	int			i;

	pgraft_ha_document_init(&document);
	for (i = 1; i <= n; i++)
		(void) announce((uint32) i, (uint64) i, 50);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 1);
	(void) promoted(1, 2, 100, 11);
}

/* The same, with quorum commit: k of all three others. */
static void
begin_quorum(int k)
{
	begin(3);
	(void) change_set(PGRAFT_HA_SYNC_BEGIN, k, 3, 1, 2, 3);
	(void) change_set(PGRAFT_HA_SYNC_END, 0, 0, 0, 0, 0);
}

static void
test_first_primary(void)
{
	pgraft_ha_document_init(&document);
	ok(announce(1, 1, 50) == PGRAFT_HA_DONE, "the first member fixes the system identifier");
	ok(announce(1, 1, 50) == PGRAFT_HA_UNCHANGED, "saying it again changes nothing");
	{
		PgraftHaCommand command = make(PGRAFT_HA_MEMBER, 2);

		command.system_identifier = 1;
		command.port = 1;
		strcpy(command.host, "h");
		ok(apply(command) == PGRAFT_HA_REFUSED, "another PostgreSQL cluster is refused");
	}
	ok(plain(PGRAFT_HA_BEGIN_EPOCH, 2) == PGRAFT_HA_REFUSED, "a stranger cannot become the first primary");
	ok(plain(PGRAFT_HA_BEGIN_EPOCH, 1) == PGRAFT_HA_DONE && document.phase == PGRAFT_HA_ASSIGNED &&
	   document.primary == 1 && document.epoch == 1, "the first primary needs no reports");
	(void) announce(2, 2, 50);
	ok(plain(PGRAFT_HA_BEGIN_EPOCH, 0) == PGRAFT_HA_DONE && report(2, 0, 900) == PGRAFT_HA_DONE &&
	   document.phase == PGRAFT_HA_SEALING, "before it is promoted nobody can replace it unheard");
	ok(report(1, 0, 1000) == PGRAFT_HA_DONE && document.primary == 1, "once it reports it is chosen");
	ok(promoted(1, 2, 1000, 9) == PGRAFT_HA_DONE && document.phase == PGRAFT_HA_STEADY &&
	   document.primary_epoch == 2 && document.sync.n == 1 && document.sync.k == 0,
	   "promoted: alone in its sync set");
	ok(promoted(1, 2, 1000, 9) == PGRAFT_HA_STALE, "promoted twice is once");
}

static void
test_failover(void)
{
	PgraftHaCommand late;

	begin_quorum(1);
	late = make(PGRAFT_HA_BEGIN_EPOCH, 0);
	ok(apply(late) == PGRAFT_HA_DONE && document.phase == PGRAFT_HA_SEALING &&
	   document.primary == 0 && document.old_primary == 1, "an epoch begins");
	ok(apply(late) == PGRAFT_HA_STALE, "the second leader's command for the same epoch is stale");
	ok(plain(PGRAFT_HA_BEGIN_EPOCH, 0) == PGRAFT_HA_STALE, "none begins while one is being begun");
	ok(report(2, 1, 500) == PGRAFT_HA_DONE && document.phase == PGRAFT_HA_SEALING,
	   "one report of three is not enough for k = 1");
	ok(report(2, 2, 500) == PGRAFT_HA_REFUSED, "nobody has WAL of an epoch without a primary");
	ok(report(3, 1, 400) == PGRAFT_HA_DONE && document.phase == PGRAFT_HA_ASSIGNED &&
	   document.primary == 2, "two are: the one with more WAL is chosen");
	ok(report(1, 1, 600) == PGRAFT_HA_STALE, "a report after the choice changes nothing");
	ok(promoted(3, 3, 500, 1) == PGRAFT_HA_STALE, "another cannot say that it was promoted");

	ok(plain(PGRAFT_HA_BEGIN_EPOCH, 0) == PGRAFT_HA_DONE && document.epoch == 3 &&
	   document.old_primary == 1, "the chosen one dies before it is promoted: again");
	ok(!document.members[1].reported, "reports of the epoch before do not count");
	(void) report(3, 1, 400);
	ok(report(1, 1, 450) == PGRAFT_HA_DONE && document.primary == 1,
	   "the old primary is back with more and is chosen");
	ok(promoted(1, 4, 450, 3) == PGRAFT_HA_DONE && document.sync.n == 3 && document.sync.k == 1,
	   "the sync set stays in force");
	ok(document.history[1].ended_at != 0 && !document.history[1].promoted,
	   "the epoch that came to nothing is in the history");
}

static void
test_choice(void)
{
	begin_quorum(1);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) announce(3, 3, 90);
	(void) report(2, 1, 500);
	ok(report(3, 1, 500) == PGRAFT_HA_DONE && document.primary == 3,
	   "with equal WAL priority decides");

	begin_quorum(1);
	(void) announce(2, 2, 0);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(2, 1, 501);
	ok(report(3, 1, 500) == PGRAFT_HA_DONE && document.primary == 2,
	   "priority 0 is chosen when it alone has everything");

	begin_quorum(1);
	(void) announce(2, 2, 0);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(2, 1, 500);
	ok(report(3, 1, 500) == PGRAFT_HA_DONE && document.primary == 3,
	   "and not when another has as much");

	begin_quorum(1);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(2, 0, 9000);
	ok(report(3, 1, 500) == PGRAFT_HA_DONE && document.primary == 3,
	   "a newer epoch's WAL wins over a greater position");

	begin(3);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(2, 1, 500);
	(void) report(3, 1, 500);
	ok(document.phase == PGRAFT_HA_SEALING && document.primary == 0,
	   "with k = 0 nobody is chosen without the primary's report");
	ok(report(1, 1, 400) == PGRAFT_HA_DONE && document.primary == 2, "with it another can be");
	ok(promoted(2, 3, 500, 1) == PGRAFT_HA_DONE && document.sync.n == 1 &&
	   document.sync.members[0] == 2, "which then is the sync set");

	begin_quorum(2);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	ok(report(3, 1, 500) == PGRAFT_HA_DONE && document.primary == 3,
	   "with k = 2 of 3 one report suffices");
}

static void
test_sync_sets(void)
{
	begin(3);
	ok(change_set(PGRAFT_HA_SYNC_BEGIN, 1, 2, 2, 3, 0) == PGRAFT_HA_REFUSED, "a set without the primary");
	ok(change_set(PGRAFT_HA_SYNC_BEGIN, 2, 2, 1, 2, 0) == PGRAFT_HA_REFUSED, "k that cannot be met");
	ok(change_set(PGRAFT_HA_SYNC_BEGIN, 1, 2, 1, 9, 0) == PGRAFT_HA_REFUSED, "a stranger in the set");
	ok(change_set(PGRAFT_HA_SYNC_BEGIN, 1, 2, 2, 1, 0) == PGRAFT_HA_REFUSED, "a set out of order");
	ok(change_set(PGRAFT_HA_SYNC_BEGIN, 1, 2, 1, 2, 0) == PGRAFT_HA_DONE && document.next_sync.n == 2,
	   "a change begins");
	ok(change_set(PGRAFT_HA_SYNC_BEGIN, 1, 3, 1, 2, 3) == PGRAFT_HA_REFUSED, "a second one is refused");
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(2, 1, 500);
	ok(document.phase == PGRAFT_HA_SEALING, "both sets must be heard: the old one");
	ok(report(1, 1, 500) == PGRAFT_HA_DONE && document.phase == PGRAFT_HA_ASSIGNED, "and then it is");

	begin_quorum(1);
	(void) change_set(PGRAFT_HA_SYNC_BEGIN, 1, 2, 1, 2, 0);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(1, 1, 500);
	ok(document.phase == PGRAFT_HA_SEALING, "both sets must be heard: the next one is, the old one not");
	ok(report(3, 1, 600) == PGRAFT_HA_DONE && document.primary == 3, "3 of the old set has more");
	ok(promoted(3, 3, 600, 5) == PGRAFT_HA_DONE && document.next_sync.n == 3 &&
	   pgraft_ha_set_contains(&document.next_sync, 3), "the next set takes the primary in");
	ok(change_set(PGRAFT_HA_SYNC_BEGIN, 0, 1, 3, 0, 0) == PGRAFT_HA_DONE && document.next_sync.k == 0 &&
	   document.next_sync.n == 1, "to the primary alone it can be changed in between");
	ok(change_set(PGRAFT_HA_SYNC_END, 1, 3, 1, 2, 3) == PGRAFT_HA_DONE && document.next_sync.n == 0 &&
	   document.sync.n == 3, "given up: the old set stays");
	ok(change_set(PGRAFT_HA_SYNC_END, 0, 0, 0, 0, 0) == PGRAFT_HA_UNCHANGED, "nothing is left to end");
	{
		PgraftHaCommand command = make(PGRAFT_HA_SYNC_BEGIN, 3);

		command.generation--;
		ok(apply(command) == PGRAFT_HA_STALE, "a change of what has changed since");
	}
}

static void
test_switchover(void)
{
	PgraftHaCommand command;

	begin_quorum(1);
	ok(plain(PGRAFT_HA_SWITCHOVER, 1) == PGRAFT_HA_REFUSED, "not to the primary itself");
	ok(plain(PGRAFT_HA_SWITCHOVER, 9) == PGRAFT_HA_REFUSED, "not to a stranger");
	command = make(PGRAFT_HA_SWITCHOVER, 3);
	ok(apply(command) == PGRAFT_HA_DONE && document.phase == PGRAFT_HA_DRAINING, "it begins");
	ok(plain(PGRAFT_HA_SWITCHOVER_ABORT, 0) == PGRAFT_HA_DONE && document.phase == PGRAFT_HA_STEADY &&
	   document.epoch == 1, "given up while the primary drains: nothing happened");
	ok(apply(command) == PGRAFT_HA_STALE && document.phase == PGRAFT_HA_STEADY, "a late copy of it begins no other");
	(void) plain(PGRAFT_HA_SWITCHOVER, 3);
	command = make(PGRAFT_HA_DEMOTED, 1);
	command.lsn = 700;
	command.timeline = 2;
	ok(apply(command) == PGRAFT_HA_DONE && document.phase == PGRAFT_HA_SEALING && document.epoch == 2,
	   "the primary demoted itself");
	(void) report(2, 1, 700);
	ok(document.phase == PGRAFT_HA_SEALING, "another is not chosen");
	(void) report(3, 1, 650);
	ok(document.phase == PGRAFT_HA_SEALING, "the target is not, before it has everything");
	ok(report(3, 1, 700) == PGRAFT_HA_DONE && document.primary == 3, "then it is");
	ok(promoted(3, 3, 700, 5) == PGRAFT_HA_DONE && document.switchover_from == 0, "and it is over");

	(void) plain(PGRAFT_HA_SWITCHOVER, 1);
	command = make(PGRAFT_HA_DRAINED, 3);
	command.lsn = 750;
	command.timeline = 3;
	command.generation = document.switchover_serial;
	(void) plain(PGRAFT_HA_SWITCHOVER_ABORT, 0);
	ok(apply(command) == PGRAFT_HA_STALE, "what was said before it was given up counts no more");
	(void) plain(PGRAFT_HA_SWITCHOVER, 1);
	ok(apply(command) == PGRAFT_HA_STALE && document.phase == PGRAFT_HA_DRAINING, "nor for the next switchover");
	command.generation = document.switchover_serial;
	ok(apply(command) == PGRAFT_HA_DONE && document.phase == PGRAFT_HA_SEALING &&
	   document.switchover_target == 1,
	   "the primary has stopped, before it demotes itself");
	(void) report(1, 2, 749);
	ok(document.phase == PGRAFT_HA_SEALING, "the target needs all that it had");
	(void) report(3, 2, 770);
	ok(document.phase == PGRAFT_HA_SEALING, "the old primary comes back with more, which counts for nothing");
	ok(report(1, 2, 760) == PGRAFT_HA_DONE && document.primary == 1, "and may have more");
	(void) promoted(1, 4, 760, 6);
	(void) plain(PGRAFT_HA_SWITCHOVER, 3);
	command = make(PGRAFT_HA_DEMOTED, 1);
	command.lsn = 780;
	command.timeline = 4;
	(void) apply(command);
	(void) report(3, 3, 780);
	ok(promoted(3, 5, 780, 7) == PGRAFT_HA_DONE, "and back");

	(void) plain(PGRAFT_HA_SWITCHOVER, 0);
	command = make(PGRAFT_HA_DEMOTED, 3);
	command.lsn = 800;
	command.timeline = 3;
	(void) apply(command);
	(void) report(1, 4, 790);
	ok(document.phase == PGRAFT_HA_SEALING, "without a target: whoever has everything");
	ok(plain(PGRAFT_HA_SWITCHOVER_ABORT, 0) == PGRAFT_HA_DONE && document.primary == 3,
	   "given up: the old primary is chosen again");

	(void) promoted(3, 6, 800, 8);
	(void) plain(PGRAFT_HA_SWITCHOVER, 0);
	command = make(PGRAFT_HA_SWITCHOVER_TARGET, 3);
	command.incarnation = 0;
	command.generation = document.switchover_serial;
	ok(apply(command) == PGRAFT_HA_REFUSED, "the primary cannot choose itself");
	command.member = 1;
	command.generation--;
	ok(apply(command) == PGRAFT_HA_STALE && document.switchover_target == 0, "nor choose for an earlier one");
	command.generation++;
	ok(apply(command) == PGRAFT_HA_DONE && document.switchover_target == 1, "it chooses whom nobody named");
	command.member = 2;
	ok(apply(command) == PGRAFT_HA_STALE && document.switchover_target == 1, "once");
	command = make(PGRAFT_HA_DRAINED, 3);
	command.lsn = 850;
	command.timeline = 6;
	command.generation = document.switchover_serial;
	(void) apply(command);
	(void) report(2, document.primary_epoch, 850);
	ok(document.phase == PGRAFT_HA_SEALING, "whoever reports first is not taken instead");
	ok(report(1, document.primary_epoch, 850) == PGRAFT_HA_DONE && document.primary == 1, "but the one that was chosen");
}

static void
test_last_wal(void)
{
	PgraftHaCommand command;

	begin_quorum(1);
	ok(!pgraft_ha_last_wal_may_come(&document, 2), "in a steady epoch there is no last WAL");
	command = make(PGRAFT_HA_BEGIN_EPOCH, 0);
	strcpy(command.reason, PGRAFT_HA_PROCESS_GONE);
	(void) apply(command);
	ok(pgraft_ha_last_wal_may_come(&document, 2), "of a primary whose process is gone it may come");
	ok(!pgraft_ha_last_wal_may_come(&document, 9), "not to a stranger");
	(void) report(2, 1, 500);
	ok(!pgraft_ha_last_wal_may_come(&document, 2) && pgraft_ha_last_wal_may_come(&document, 3),
	   "nor to who has reported");
	(void) report(3, 1, 500);
	ok(document.phase == PGRAFT_HA_ASSIGNED && !pgraft_ha_last_wal_may_come(&document, 1),
	   "nor to anybody once the next primary is assigned");
	command = make(PGRAFT_HA_BEGIN_EPOCH, 0);
	strcpy(command.reason, "the primary was silent");
	(void) apply(command);
	ok(!pgraft_ha_last_wal_may_come(&document, 2), "nor of a primary that was silent");
}

static void
test_pause_and_force(void)
{
	PgraftHaCommand command;

	begin_quorum(1);
	ok(plain(PGRAFT_HA_PAUSE, 0) == PGRAFT_HA_DONE && plain(PGRAFT_HA_PAUSE, 0) == PGRAFT_HA_UNCHANGED, "paused");
	ok(plain(PGRAFT_HA_BEGIN_EPOCH, 0) == PGRAFT_HA_REFUSED, "nothing happens by itself");
	command = make(PGRAFT_HA_BEGIN_EPOCH, 0);
	command.forced = true;
	ok(apply(command) == PGRAFT_HA_DONE, "an operator can");
	(void) report(2, 1, 500);
	ok(plain(PGRAFT_HA_FORCE, 3) == PGRAFT_HA_DONE && document.epoch == 3, "the loss is accepted");
	(void) report(2, 1, 500);
	(void) report(1, 1, 600);
	ok(document.phase == PGRAFT_HA_SEALING, "only the operator's choice counts");
	ok(report(3, 1, 300) == PGRAFT_HA_DONE && document.primary == 3, "and is chosen with what it has");
	ok(promoted(3, 3, 300, 7) == PGRAFT_HA_DONE && document.sync.n == 1 && document.sync.k == 0 &&
	   document.force_target == 0, "alone in its sync set");
}

static void
test_members(void)
{
	PgraftHaCommand late;

	begin_quorum(1);
	ok(plain(PGRAFT_HA_FORGET, 1) == PGRAFT_HA_REFUSED, "the primary cannot be forgotten");
	ok(announce(1, 9, 50) == PGRAFT_HA_REFUSED, "nor come back as another");
	ok(announce(2, 9, 50) == PGRAFT_HA_DONE && !pgraft_ha_set_contains(&document.sync, 2) &&
	   document.sync.n == 3, "another incarnation does not take the old one's place in the set");
	ok(announce(2, 2, 50) == PGRAFT_HA_STALE, "the older one announces itself in vain");
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(2, 1, 500);
	(void) report(3, 1, 400);
	ok(document.phase == PGRAFT_HA_SEALING, "its report proves nothing");
	late = make(PGRAFT_HA_REPORT, 2);
	late.incarnation = 2;
	late.lsn = 9000;
	ok(apply(late) == PGRAFT_HA_STALE, "nor does a late one of the old incarnation");
	ok(report(1, 1, 400) == PGRAFT_HA_DONE && document.primary == 2,
	   "but with enough others it can be chosen");
	ok(promoted(2, 3, 500, 6) == PGRAFT_HA_DONE && document.sync.n == 4 &&
	   pgraft_ha_set_contains(&document.sync, 2), "and is in the set then");
	ok(plain(PGRAFT_HA_FORGET, 3) == PGRAFT_HA_DONE && document.n_members == 2 &&
	   document.sync.n == 4, "a member that leaves stays in the set as one that is gone");
}

static void
test_judge(void)
{
	/* 2 was chosen for epoch 2, promoted itself as timeline 3, and died */
	begin_quorum(1);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(2, 1, 500);
	(void) report(3, 1, 450);
	/* 3 was chosen for epoch 3 and did the same */
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(3, 1, 450);
	(void) report(1, 1, 440);
	/* 1 is promoted for epoch 4; all three have a timeline 3 */
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(1, 1, 440);
	(void) report(3, 1, 430);
	ok(document.primary == 1 && promoted(1, 3, 440, 44) == PGRAFT_HA_DONE, "the third choice is promoted");

	ok(pgraft_ha_judge_wal(&document, 1, 11, 2, 440) == PGRAFT_HA_MEMBER_STREAMING,
	   "who has the old primary's WAL up to the fork may follow");
	ok(pgraft_ha_judge_wal(&document, 1, 11, 2, 441) == PGRAFT_HA_MEMBER_REWIND,
	   "beyond it must be rewound");
	ok(pgraft_ha_judge_wal(&document, 4, 44, 3, 9000) == PGRAFT_HA_MEMBER_STREAMING,
	   "who follows already goes on");
	ok(pgraft_ha_judge_wal(&document, 2, 22, 3, 500) == PGRAFT_HA_MEMBER_RECLONE &&
	   pgraft_ha_judge_wal(&document, 3, 33, 3, 450) == PGRAFT_HA_MEMBER_RECLONE,
	   "both that promoted themselves unheard must be cloned: their timeline has the same number");
	ok(pgraft_ha_judge_wal(&document, 2, 22, 4, 500) == PGRAFT_HA_MEMBER_REWIND,
	   "with another number rewinding does");
	ok(pgraft_ha_judge_wal(&document, 4, 45, 3, 441) == PGRAFT_HA_MEMBER_RECLONE,
	   "the same epoch and another tag cannot be");
	ok(pgraft_ha_judge_wal(&document, 0, 0, 2, 430) == PGRAFT_HA_MEMBER_STREAMING &&
	   pgraft_ha_judge_wal(&document, 0, 0, 2, 450) == PGRAFT_HA_MEMBER_REWIND,
	   "a clone is judged by its timeline");
	ok(pgraft_ha_judge_wal(&document, 0, 0, 1, 90) == PGRAFT_HA_MEMBER_STREAMING,
	   "one from before the first primary, too");

	/* epoch 5: 2 is back and is chosen with its unheard WAL: it becomes history */
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(2, 2, 520);
	ok(report(3, 1, 430) == PGRAFT_HA_DONE && document.primary == 2, "an unheard promotion can win later");
	(void) promoted(2, 4, 520, 55);
	ok(pgraft_ha_judge_wal(&document, 1, 11, 2, 500) == PGRAFT_HA_MEMBER_STREAMING &&
	   pgraft_ha_judge_wal(&document, 1, 11, 2, 510) == PGRAFT_HA_MEMBER_REWIND,
	   "then the fork that counts is where it was chosen the first time");
	ok(pgraft_ha_judge_wal(&document, 4, 44, 3, 441) == PGRAFT_HA_MEMBER_REWIND ||
	   pgraft_ha_judge_wal(&document, 4, 44, 3, 441) == PGRAFT_HA_MEMBER_RECLONE,
	   "and who followed the primary in between may not follow");
}

/*
 * Two standbys follow member 1 of epoch 1.  Member 3 is promoted by hand: its
 * timeline is its own from then on, although it still counts itself to epoch 1.
 */
static void
test_promoted_by_hand(void)
{
	PgraftHaCommand command;

	begin_quorum(1);
	command = make(PGRAFT_HA_BEGIN_EPOCH, 0);
	apply(command);
	ok(pgraft_ha_judge_wal(&document, 1, 11, 3, 0x6000) != PGRAFT_HA_MEMBER_STREAMING,
	   "who was promoted by hand may not follow");
	command = make(PGRAFT_HA_REPORT, 3);
	command.incarnation = pgraft_ha_find_member(&document, 3)->incarnation;
	command.wal_epoch = 1;
	command.tag = pgraft_ha_find_epoch(&document, 1)->tag;
	command.timeline = pgraft_ha_find_epoch(&document, 1)->timeline + 1;
	command.lsn = 0x6000;
	ok(apply(command) == PGRAFT_HA_REFUSED && !pgraft_ha_find_member(&document, 3)->reported,
	   "nor is it heard, however much WAL it has");
	command.timeline--;
	ok(apply(command) == PGRAFT_HA_DONE, "on the epoch's timeline it would be");
}

static void
test_history(void)
{
	int			i;

	begin_quorum(1);
	for (i = 0; i < 3 * PGRAFT_HA_HISTORY; i++)
		(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0), (void) report(2, 1, 500), (void) report(3, 1, 500);
	is_u64(document.n_history, PGRAFT_HA_HISTORY, "the history is bounded");
	ok(pgraft_ha_find_epoch(&document, 1) != NULL && pgraft_ha_find_epoch(&document, 2) == NULL,
	   "epochs that came to nothing go first");
	(void) promoted(2, 3, 500, 1);
	ok(pgraft_ha_judge_wal(&document, 1, 11, 2, 500) == PGRAFT_HA_MEMBER_STREAMING,
	   "so that members can still be judged");
}

/* ----------------------------------------------------------------
 * Modes, positions
 * ----------------------------------------------------------------
 */

static PgraftHaVerdict
set_mode(int mode, int wanted_k, uint64 maximum_lag, uint64 lsn)
{
	PgraftHaCommand command = make(PGRAFT_HA_MODE, document.primary);

	command.state = mode;
	command.priority = wanted_k;
	command.generation = maximum_lag;
	command.lsn = lsn;
	return apply(command);
}

static PgraftHaVerdict
tell_positions(uint32 from, uint64 lsn, uint64 second, uint64 third)
{
	PgraftHaCommand command = make(PGRAFT_HA_POSITIONS, from);

	command.lsn = lsn;
	command.sync.n = 2;
	command.sync.members[0] = 2;
	command.sync.members[1] = 3;
	command.positions[0] = second;
	command.positions[1] = third;
	return apply(command);
}

static void
test_positions(void)
{
	begin_quorum(1);
	is_u64(document.primary_lsn, 100, "the promotion says where the primary is");
	ok(tell_positions(1, 500, 400, 300) == PGRAFT_HA_DONE, "the primary tells positions");
	ok(document.primary_lsn == 500 && document.members[1].kept_lsn == 400 &&
	   document.members[2].kept_lsn == 300, "which are recorded");
	ok(tell_positions(1, 450, 0, 350) == PGRAFT_HA_DONE && document.primary_lsn == 500 &&
	   document.members[1].kept_lsn == 400 && document.members[2].kept_lsn == 350,
	   "its own does not go back, and what it does not know stays");
	ok(tell_positions(2, 900, 1, 1) == PGRAFT_HA_STALE, "nobody else tells them");
	ok(tell_positions(1, 0, 1, 1) == PGRAFT_HA_REFUSED, "nor nothing");
}

static void
test_strict(void)
{
	begin_quorum(2);
	ok(set_mode(7, 1, 0, 500) == PGRAFT_HA_REFUSED, "there is no such mode");
	ok(set_mode(PGRAFT_HA_STRICT, 2, 0, 500) == PGRAFT_HA_DONE &&
	   set_mode(PGRAFT_HA_STRICT, 2, 0, 500) == PGRAFT_HA_UNCHANGED, "strict mode");
	ok(change_set(PGRAFT_HA_SYNC_BEGIN, 1, 2, 1, 2, 0) == PGRAFT_HA_REFUSED &&
	   change_set(PGRAFT_HA_SYNC_BEGIN, 0, 1, 1, 0, 0) == PGRAFT_HA_REFUSED,
	   "does not ask for fewer standbys");
	(void) set_mode(PGRAFT_HA_STRICT, 1, 0, 500);
	ok(change_set(PGRAFT_HA_SYNC_BEGIN, 1, 2, 1, 2, 0) == PGRAFT_HA_DONE,
	   "but for those that the setting wants");
	(void) change_set(PGRAFT_HA_SYNC_END, 0, 0, 0, 0, 0);
	(void) set_mode(PGRAFT_HA_STRICT, 2, 0, 500);
	ok(change_set(PGRAFT_HA_SYNC_BEGIN, 1, 3, 1, 2, 3) == PGRAFT_HA_DONE,
	   "too few before are no fewer now");
}

/* 1 is alone in its set, has said 1000, and is lost. */
static void
begin_async(uint64 maximum_lag)
{
	begin(3);
	(void) set_mode(PGRAFT_HA_ASYNC, 1, maximum_lag, 500);
	(void) tell_positions(1, 1000, 0, 0);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
}

static void
test_async(void)
{
	const PgraftHaEpoch *entry;
	PgraftHaCommand end;
	uint64		lag;

	begin_async(100);
	ok(plain(PGRAFT_HA_ACCEPT_LAG, 0) == PGRAFT_HA_REFUSED, "nobody has reported");
	(void) report(2, 1, 899);
	ok(plain(PGRAFT_HA_ACCEPT_LAG, 0) == PGRAFT_HA_REFUSED, "a byte too far behind");
	(void) report(3, 1, 900);
	ok(pgraft_ha_choose_lagged(&document, &lag) == 3 && lag == 100, "near enough");
	ok(document.phase == PGRAFT_HA_SEALING, "but not by itself");
	ok(plain(PGRAFT_HA_ACCEPT_LAG, 0) == PGRAFT_HA_DONE && document.primary == 3, "it is chosen");
	entry = &document.history[document.n_history - 1];
	ok(entry->lagged && entry->lag == 100, "history tells");
	ok(promoted(3, 3, 900, 33) == PGRAFT_HA_DONE && document.sync.k == 0 &&
	   pgraft_ha_set_contains(&document.sync, 3) && document.primary_lsn == 900,
	   "and is the one whose report counts now");
	ok(pgraft_ha_judge_wal(&document, 1, 11, 2, 1000) == PGRAFT_HA_MEMBER_REWIND,
	   "the old primary must be rewound");

	begin_async(100);
	(void) report(1, 1, 1200);
	ok(document.primary == 1 && !document.history[document.n_history - 1].lagged,
	   "when the primary itself reports, nothing is accepted");

	begin_async(100);
	(void) report(2, 1, 950);
	(void) report(3, 1, 960);
	(void) plain(PGRAFT_HA_ACCEPT_LAG, 0);
	ok(document.primary == 3, "the one that lags least");

	/* it promoted itself, nobody heard of it, and it comes back */
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(3, 2, 990);
	ok(plain(PGRAFT_HA_ACCEPT_LAG, 0) == PGRAFT_HA_REFUSED, "WAL of its own does not count");
	(void) report(2, 1, 950);
	ok(plain(PGRAFT_HA_ACCEPT_LAG, 0) == PGRAFT_HA_DONE && document.primary == 2, "less of the right one does");

	begin_quorum(1);
	(void) set_mode(PGRAFT_HA_ASYNC, 1, 100, 500);
	(void) change_set(PGRAFT_HA_SYNC_BEGIN, 0, 1, 1, 0, 0);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(2, 1, 500);
	ok(plain(PGRAFT_HA_ACCEPT_LAG, 0) == PGRAFT_HA_REFUSED,
	   "not while a set with standbys is in force");

	begin_quorum(1);
	(void) set_mode(PGRAFT_HA_ASYNC, 1, 100, 500);
	(void) change_set(PGRAFT_HA_SYNC_BEGIN, 0, 1, 1, 0, 0);
	end = make(PGRAFT_HA_SYNC_END, 1);
	end.lsn = 2000;
	(void) apply(end);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(2, 1, 1899);
	ok(plain(PGRAFT_HA_ACCEPT_LAG, 0) == PGRAFT_HA_REFUSED,
	   "what standbys vouched for is counted at the end of their set");

	begin_async(100);
	document.mode = PGRAFT_HA_QUORUM;
	(void) report(2, 1, 1000);
	ok(plain(PGRAFT_HA_ACCEPT_LAG, 0) == PGRAFT_HA_REFUSED, "nor in another mode");
}

static void
test_switchover_without_priority(void)
{
	PgraftHaCommand command;

	begin_quorum(1);
	(void) announce(2, 2, 0);
	(void) announce(3, 3, 0);
	(void) plain(PGRAFT_HA_SWITCHOVER, 0);
	command = make(PGRAFT_HA_DEMOTED, 1);
	command.timeline = 2;
	command.lsn = 700;
	command.tag = 11;
	(void) apply(command);
	(void) report(2, 1, 699);
	ok(document.phase == PGRAFT_HA_SEALING, "one that lacks something does not do");
	(void) report(3, 1, 700);
	is_u64(document.primary, 3, "without a target or priorities, the first that has everything");
}

static void
test_schedule(void)
{
	PgraftHaCommand command;

	begin_quorum(1);
	command = make(PGRAFT_HA_SCHEDULE, 2);
	command.patience = 0;
	ok(apply(command) == PGRAFT_HA_REFUSED, "not for a time that has passed");
	command.patience = 1000;
	ok(apply(command) == PGRAFT_HA_DONE && document.scheduled_at == command.time + command.patience &&
	   document.scheduled_target == 2, "a switchover is scheduled");
	command.member = 0;
	command.patience++;
	ok(apply(command) == PGRAFT_HA_DONE && document.scheduled_at == command.time + command.patience &&
	   document.scheduled_target == 0, "a later call replaces it");
	ok(plain(PGRAFT_HA_CANCEL_SCHEDULE, 0) == PGRAFT_HA_DONE && document.scheduled_at == 0 &&
	   plain(PGRAFT_HA_CANCEL_SCHEDULE, 0) == PGRAFT_HA_UNCHANGED, "it is cancelled");
	command.member = 1;
	ok(apply(command) == PGRAFT_HA_REFUSED, "not to the primary");
	command.member = 3;
	(void) apply(command);
	(void) plain(PGRAFT_HA_FORGET, 3);
	ok(document.scheduled_at == 0, "a target that leaves takes it along");
	command.member = 2;
	(void) apply(command);
	(void) plain(PGRAFT_HA_SWITCHOVER, 2);
	ok(document.phase == PGRAFT_HA_DRAINING && document.scheduled_at == 0,
	   "a switchover begins, and it is no longer scheduled");
	(void) plain(PGRAFT_HA_SWITCHOVER_ABORT, 0);
	command.epoch = document.epoch;
	ok(apply(command) == PGRAFT_HA_DONE, "scheduled again");
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	ok(document.scheduled_at == 0, "another change of the primary cancels it");
}

/* ----------------------------------------------------------------
 * Bytes
 * ----------------------------------------------------------------
 */

static bool
document_is_refused_or_equal(const unsigned char *data, size_t length)
{
	static PgraftHaDocument decoded;
	static unsigned char again[PGRAFT_HA_DOCUMENT_MAX];

	return !pgraft_ha_document_decode(&decoded, data, length) ||
		(pgraft_ha_document_encode(&decoded, again) == length && memcmp(again, data, length) == 0);
}

static bool
command_is_refused_or_equal(const unsigned char *data, size_t length)
{
	PgraftHaCommand decoded;
	unsigned char again[PGRAFT_HA_COMMAND_MAX];

	return !pgraft_ha_command_decode(&decoded, data, length) ||
		(pgraft_ha_command_encode(&decoded, again) == length && memcmp(again, data, length) == 0);
}

static void
damage(unsigned char *data, size_t length, bool (*harmless) (const unsigned char *, size_t),
	   const char *what)
{
	size_t		i;
	int			bit;
	int			bad = 0;

	for (i = 0; i < length; i++)
	{
		unsigned char *copy = malloc(i + 1);	/* a reader beyond it is caught */

		memcpy(copy, data, i);
		bad += !harmless(copy, i);
		free(copy);
		for (bit = 0; bit < 8; bit++)
		{
			data[i] ^= (unsigned char) (1 << bit);
			bad += !harmless(data, length);
			data[i] ^= (unsigned char) (1 << bit);
		}
	}
	is_u64(bad, 0, what);
}

static void
test_bytes(void)
{
	static unsigned char buffer[PGRAFT_HA_DOCUMENT_MAX];
	static PgraftHaDocument decoded;
	PgraftHaCommand command;
	PgraftHaCommand back;
	size_t		length;
	int			kind;
	int			bad = 0;

	begin_quorum(1);
	(void) change_set(PGRAFT_HA_SYNC_BEGIN, 1, 2, 1, 2, 0);
	(void) announce(2, 9, 7);
	(void) plain(PGRAFT_HA_BEGIN_EPOCH, 0);
	(void) report(3, 1, 500);
	length = pgraft_ha_document_encode(&document, buffer);
	ok(pgraft_ha_document_decode(&decoded, buffer, length) &&
	   memcmp(&decoded, &document, sizeof(document)) == 0, "a document survives");
	damage(buffer, length, document_is_refused_or_equal, "a damaged document is refused, or means what it says");

	command = make(PGRAFT_HA_SYNC_BEGIN, 3);
	command.sync = document.sync;
	command.time = -5;
	command.priority = -1;
	command.forced = true;
	strcpy(command.host, "a host");
	strcpy(command.reason, "because");
	length = pgraft_ha_command_encode(&command, buffer);
	ok(pgraft_ha_command_decode(&back, buffer, length) &&
	   memcmp(&back, &command, sizeof(command)) == 0, "a command survives");
	damage(buffer, length, command_is_refused_or_equal, "a damaged command is refused, or means what it says");
	command.kind = PGRAFT_HA_POSITIONS;
	command.positions[0] = UINT64CONST(0x0123456789ABCDEF);
	command.positions[2] = 3;
	length = pgraft_ha_command_encode(&command, buffer);
	ok(pgraft_ha_command_decode(&back, buffer, length) &&
	   memcmp(&back, &command, sizeof(command)) == 0, "one with positions, too");
	damage(buffer, length, command_is_refused_or_equal, "and its damage is seen");

	begin_async(77);
	(void) report(3, 1, 990);
	(void) plain(PGRAFT_HA_ACCEPT_LAG, 0);
	(void) promoted(3, 3, 990, 33);
	command = make(PGRAFT_HA_SCHEDULE, 2);
	command.patience = 1;
	(void) apply(command);
	(void) tell_positions(3, 2000, 1500, 0);
	length = pgraft_ha_document_encode(&document, buffer);
	ok(pgraft_ha_document_decode(&decoded, buffer, length) &&
	   memcmp(&decoded, &document, sizeof(document)) == 0, "modes, positions and schedules survive");
	for (kind = 1; strcmp(pgraft_ha_command_name(kind), pgraft_ha_command_name(0)) != 0; kind++)
	{
		command.kind = kind;
		length = pgraft_ha_command_encode(&command, buffer);
		bad += !pgraft_ha_command_decode(&back, buffer, length) || back.kind != kind;
	}
	ok(kind > PGRAFT_HA_SWITCHOVER_TARGET && bad == 0, "so does each kind");
	pgraft_ha_document_init(&document);
	length = pgraft_ha_document_encode(&document, buffer);
	ok(pgraft_ha_document_decode(&decoded, buffer, length), "the empty document survives");
}

int
main(void)
{
	test_first_primary();
	test_failover();
	test_choice();
	test_sync_sets();
	test_switchover();
	test_last_wal();
	test_pause_and_force();
	test_members();
	test_judge();
	test_promoted_by_hand();
	test_history();
	test_positions();
	test_strict();
	test_async();
	test_schedule();
	test_switchover_without_priority();
	test_bytes();
	return tap_done();
}
