/*-------------------------------------------------------------------------
 *
 * executor.c
 *	  The "pgraft ha" worker: brings this server to what the cluster document
 *	  wants.
 *
 * One loop without a database connection.  Each turn compares the document with
 * what this server is and takes one step; every step can be taken again, so
 * after an error or a restart of this process it simply goes on.  What this
 * process knows is in shared memory (PgraftHaLocal) and, as far as a crash of
 * the server must not take it away, in local_state.c.
 *
 * It may block: for the answer to a proposal, for a checkpoint, for sessions to
 * end.  Nothing else waits for it: the fence and the seal are closed by the
 * consensus worker the moment it applies a newer epoch.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/executor.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/bgwriter.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"

#include "pgraft/compat.h"
#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

#define PROPOSE_TIMEOUT_MS 1000
#define ERROR_PAUSE_MS 100
#define SOON_MS 2				/* something is under way that takes milliseconds */
#define NEAR_MS 20
#define CALM_MS 200
#define TELL_AGAIN_MS 1000		/* commands that may have been lost */

PGDLLEXPORT void pgraft_ha_main(Datum main_arg);

static void set_up(void);
static void at_exit(int code, Datum arg);
static long turn(void);
static long step(void);
static long standby_step(void);
static void fill_position(PgraftHaCommand *command, int kind);
static bool waits_for_last_wal(void);
static long seal_and_report(void);
static long promote(void);
static long follow(void);
static bool went_back(void);
static long cannot_follow(int verdict);
static long report_demotion(void);
static long primary_step(void);
static long become_primary(void);
static long serve(void);
static long drain(void);
static void stop_serving(const char *reason);
static long leave(const char *reason);
static long end_as_primary(const char *reason, long wait_ms);
static bool is_primary_of_epoch(void);
static void announce(void);
static void tell_members(void);
static void note_hosts(void);
static void refresh_wal(void);
static bool may_tell(raft_time *last);
static void set_role(int role, const char *action);
static void publish(void);

static PgraftHaDocument document;	/* of this turn */
static PgraftHaLocal local;
static PgraftHaWal wal;
static uint64 promotion_tag = 0;
static raft_time last_announced = 0;
static raft_time last_told = 0;

static const char *const role_names[] = {
	"starting", "standby", "sealed", "promoting", "primary", "demoting", "rewind", "failed"
};

const char *
pgraft_ha_role_name(int role)
{
	if (role < 0 || role >= (int) lengthof(role_names))
		return "starting";
	return role_names[role];
}

/* ----------------------------------------------------------------
 * Process
 * ----------------------------------------------------------------
 */

void
pgraft_ha_main(Datum main_arg)
{
	sigjmp_buf	on_error;
	MemoryContext context;

	(void) main_arg;
	set_up();
	context = AllocSetContextCreate(TopMemoryContext, "pgraft ha", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	if (sigsetjmp(on_error, 1) != 0)
	{
		/* an error ends the turn, not the process */
		error_context_stack = NULL;
		HOLD_INTERRUPTS();
		EmitErrorReport();
		LWLockReleaseAll();
		ConditionVariableCancelSleep();
		pgstat_report_wait_end();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		MemoryContextReset(context);
		RESUME_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ERROR_PAUSE_MS,
						 pgraft_wait_event());
	}
	PG_exception_stack = &on_error;

	while (!ShutdownRequestPending)
	{
		long		pause = turn();

		MemoryContextReset(context);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause,
						 pgraft_wait_event());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	proc_exit(1);
}

static void
set_up(void)
{
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	(void) pgraft_dsa();
	before_shmem_exit(at_exit, (Datum) 0);
	SpinLockAcquire(&pgraft_ha_shared->latch_lock);
	pgraft_ha_shared->ha_latch = MyLatch;
	SpinLockRelease(&pgraft_ha_shared->latch_lock);

	/* what an earlier process of this server's life knew */
	pgraft_ha_read_local(&local);
	local.worker_pid = MyProcPid;
	(void) pgraft_ha_read_wal(&wal);
	publish();
}

static void
at_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	SpinLockAcquire(&pgraft_ha_shared->latch_lock);
	pgraft_ha_shared->ha_latch = NULL;
	SpinLockRelease(&pgraft_ha_shared->latch_lock);
	local.worker_pid = 0;
	publish();
}

static long
turn(void)
{
	long		pause;

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	pgraft_ha_read_document(&document);
	refresh_wal();
	pause = step();
	pgraft_ha_tell_role(&local, &document);
	return pause;
}

static void
refresh_wal(void)
{
	uint64		received = pg_atomic_read_u64(&pgraft_ha_shared->received_epoch);

	if (received != 0 && received != wal.epoch && RecoveryInProgress())
		(void) pgraft_ha_read_wal(&wal);
	local.wal_epoch = wal.epoch;
	local.wal_tag = wal.tag;
}

static void
set_role(int role, const char *action)
{
	if (local.role == role && strcmp(local.action, action) == 0)
		return;
	if (local.role != role)
	{
		ereport(DEBUG1,
				(errmsg_internal("pgraft: this server goes from %s to %s",
								 pgraft_ha_role_name(local.role), pgraft_ha_role_name(role))));
		local.role_since = GetCurrentTimestamp();
		set_ps_display(pgraft_ha_role_name(role));
	}
	local.role = role;
	strlcpy(local.action, action, sizeof(local.action));
	publish();
}

static void
publish(void)
{
	pgraft_ha_publish_local(&local);
}

bool
pgraft_ha_try_propose(PgraftHaCommand *command)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;

	if (command->epoch == 0)
		command->epoch = document.epoch;
	if (command->member == 0)
		command->member = (uint32) pgraft_node_id;
	command->time = pgraft_unix_us();
	PG_TRY();
	{
		int			verdict = pgraft_ha_propose(command, PROPOSE_TIMEOUT_MS);

		done = verdict == PGRAFT_HA_DONE || verdict == PGRAFT_HA_UNCHANGED;
	}
	PG_CATCH();
	{
		/* no leader, outcome unknown: the document will tell, or it is said again */
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return done;
}

/* Not more often than TELL_AGAIN_MS. */
static bool
may_tell(raft_time *last)
{
	raft_time	now = pgraft_monotonic_ms();

	if (*last != 0 && now - *last < TELL_AGAIN_MS)
		return false;
	*last = now;
	return true;
}

/* ----------------------------------------------------------------
 * One step
 * ----------------------------------------------------------------
 */

/* Returns in how many milliseconds to look again, unless woken before. */
static long
step(void)
{
	if (!pgraft_ha_shared->document_loaded)
	{
		if (local.role != PGRAFT_HA_ROLE_PRIMARY)
			set_role(PGRAFT_HA_ROLE_STARTING, "waiting for the cluster document");
		return NEAR_MS;
	}

	/* before anything else, above all before the names could release a commit */
	if (!RecoveryInProgress() && !is_primary_of_epoch())
		return primary_step();
	if (pgraft_ha_apply_sync(&document) && local.sync_generation != document.sync_generation)
	{
		local.sync_generation = document.sync_generation;
		publish();
	}
	announce();
	note_hosts();
	return RecoveryInProgress() ? standby_step() : primary_step();
}

/* Out of recovery, and rightly so. */
static bool
is_primary_of_epoch(void)
{
	return document.phase != PGRAFT_HA_NONE && document.phase != PGRAFT_HA_SEALING &&
		document.primary == (uint32) pgraft_node_id && wal.epoch == document.epoch;
}

/* Tells the cluster where this server is, once it is a member. */
static void
announce(void)
{
	const PgraftHaMember *known = pgraft_ha_find_member(&document, (uint32) pgraft_node_id);
	const char *host = pgraft_postgres_address[0] != '\0' ? pgraft_postgres_address :
		pgraft_address;
	PgraftStatus status;
	PgraftMembers *members;
	PgraftHaCommand command;
	int			i;

	pgraft_read_status(&status);
	if (status.worker_state != PGRAFT_WORKER_RUNNING ||
		(known != NULL && known->incarnation == status.raft.incarnation &&
		 known->port == (uint32) PostPortNumber && strcmp(known->host, host) == 0 &&
		 known->priority == pgraft_failover_priority) ||
		!may_tell(&last_announced))
		return;
	memset(&command, 0, sizeof(command));
	members = palloc(sizeof(PgraftMembers));
	pgraft_read_members(members);
	for (i = 0; i < members->n_members; i++)
	{
		if (members->members[i].member.id != (raft_id) pgraft_node_id)
			continue;
		if (members->members[i].member.role == RAFT_WITNESS ||
			members->members[i].member.target_role == RAFT_WITNESS)
			return;
		command.priority = pgraft_failover_priority;
		command.kind = PGRAFT_HA_MEMBER;
	}
	pfree(members);
	if (command.kind == 0)
		return;
	command.port = (uint32) PostPortNumber;
	command.system_identifier = GetSystemIdentifier();
	strlcpy(command.host, host, sizeof(command.host));
	(void) pgraft_ha_try_propose(&command);
}

/* For pgraftctl rejoin, which has no server to ask. */
static void
note_hosts(void)
{
	static uint64 seen = 0;
	static char *noted = NULL;
	StringInfoData hosts;
	StringInfoData ports;
	int			i;

	if (seen == document.changes || document.n_members == 0)
		return;
	initStringInfo(&hosts);
	initStringInfo(&ports);
	for (i = 0; i < document.n_members; i++)
	{
		appendStringInfo(&hosts, "%s%s", i > 0 ? "," : "host=", document.members[i].host);
		appendStringInfo(&ports, "%s%u", i > 0 ? "," : " port=", document.members[i].port);
	}
	appendStringInfo(&hosts, "%s\n", ports.data);
	if (noted == NULL || strcmp(noted, hosts.data) != 0)
	{
		pgraft_ha_create_file(pgraft_ha_path("hosts"), hosts.data);
		if (noted != NULL)
			pfree(noted);
		noted = MemoryContextStrdup(TopMemoryContext, hosts.data);
	}
	seen = document.changes;
}

/* ----------------------------------------------------------------
 * As a standby
 * ----------------------------------------------------------------
 */

static long
standby_step(void)
{
	bool		mine = document.primary == (uint32) pgraft_node_id;

	if (local.promoted_epoch != 0)
	{
		local.promoted_epoch = 0;
		publish();
	}
	switch (document.phase)
	{
		case PGRAFT_HA_SEALING:
			return seal_and_report();
		case PGRAFT_HA_ASSIGNED:
			if (mine)
				return promote();
			set_role(PGRAFT_HA_ROLE_SEALED, "waiting for the new primary");
			return NEAR_MS;
		case PGRAFT_HA_STEADY:
		case PGRAFT_HA_DRAINING:
			return mine ? report_demotion() : follow();
		default:
			set_role(PGRAFT_HA_ROLE_STANDBY, "waiting for the first primary");
			return CALM_MS;
	}
}

static bool
know_position(void)
{
	XLogRecPtr	lsn;
	TimeLineID	timeline;

	if (!pgraft_ha_seal(&lsn, &timeline))
	{
		local.lsn_known = false;
		return false;
	}

	/* a standby that was started as one knows whose timeline it is on */
	(void) pgraft_ha_read_wal(&wal);
	local.wal_epoch = wal.epoch;
	local.wal_tag = wal.tag;
	local.lsn = lsn;
	local.timeline = timeline;
	local.lsn_known = true;
	return true;
}

/* A command that says where the local WAL ends, which must be known. */
static void
fill_position(PgraftHaCommand *command, int kind)
{
	memset(command, 0, sizeof(*command));
	command->kind = kind;
	command->wal_epoch = wal.epoch;
	command->tag = wal.tag;
	command->timeline = local.timeline;
	command->lsn = local.lsn;
}

/* Whoever seals too early makes a primary rewind that was only restarted. */
static bool
waits_for_last_wal(void)
{
	static uint64 epoch = 0;
	static raft_time since = 0;

	if (!pgraft_ha_last_wal_may_come(&document) || !pgraft_ha_receives())
		return false;
	if (epoch != document.epoch)
		since = pgraft_monotonic_ms();
	epoch = document.epoch;
	return pgraft_monotonic_ms() - since < (raft_time) pgraft_election_timeout / 2;
}

static long
seal_and_report(void)
{
	const PgraftHaMember *me = pgraft_ha_find_member(&document, (uint32) pgraft_node_id);
	PgraftHaCommand command;

	if (waits_for_last_wal())
	{
		set_role(PGRAFT_HA_ROLE_STANDBY, "receiving the last WAL of the old primary");
		return SOON_MS;
	}
	if (!know_position())
	{
		set_role(PGRAFT_HA_ROLE_SEALED, "looking for the end of the local WAL");
		return SOON_MS;
	}
	if (went_back())
	{
		set_role(PGRAFT_HA_ROLE_SEALED, "not counted: its data is older than what it confirmed");
		return CALM_MS;
	}
	set_role(PGRAFT_HA_ROLE_SEALED, "waiting for the choice of a primary");
	if (me == NULL || me->reported || pgraft_ha_pauses_at("report"))
		return NEAR_MS;
	pgraft_ha_note_position(local.lsn, true);
	fill_position(&command, PGRAFT_HA_REPORT);
	if (pgraft_ha_try_propose(&command))
		ereport(LOG,
				(errmsg("pgraft: reported WAL of epoch %llu up to %X/%X on timeline %u",
						(unsigned long long) wal.epoch, LSN_FORMAT_ARGS(local.lsn),
						local.timeline)));
	return SOON_MS;
}

static long
promote(void)
{
	uint64		epoch = document.epoch;

	if (pgraft_ha_pauses_at("promote"))
		return NEAR_MS;
	if (local.sync_generation != document.sync_generation)
	{
		set_role(PGRAFT_HA_ROLE_PROMOTING, "waiting for synchronous_standby_names");
		return SOON_MS;
	}
	if (local.role != PGRAFT_HA_ROLE_PROMOTING || promotion_tag == 0)
	{
		if (!pg_strong_random(&promotion_tag, sizeof(promotion_tag)) || promotion_tag == 0)
			promotion_tag = 1;
		ereport(LOG,
				(errmsg("pgraft promotes this server for epoch %llu",
						(unsigned long long) epoch)));
	}
	set_role(PGRAFT_HA_ROLE_PROMOTING, "waiting for the end of recovery");
	(void) pgraft_ha_promote(epoch, promotion_tag);
	if (wal.epoch != epoch)
		(void) pgraft_ha_read_wal(&wal);
	return 1;
}

static long
follow(void)
{
	PgraftHaMember *primary = pgraft_ha_find_member(&document, document.primary);
	int			verdict;

	if (primary == NULL || pgraft_ha_pauses_at("follow"))
		return NEAR_MS;
	if (pg_atomic_read_u64(&pgraft_ha_shared->open_epoch) == document.epoch)
	{
		bool		same;

		SpinLockAcquire(&pgraft_ha_shared->upstream_lock);
		same = pgraft_ha_shared->upstream_port == primary->port &&
			strcmp(pgraft_ha_shared->upstream_host, primary->host) == 0;
		SpinLockRelease(&pgraft_ha_shared->upstream_lock);
		if (same)
		{
			set_role(PGRAFT_HA_ROLE_STANDBY, "");
			pgraft_ha_watch_slots(&document);
			pgraft_ha_note_position(GetXLogReplayRecPtr(NULL), false);
			return CALM_MS;
		}
	}
	if (!know_position())
		return SOON_MS;
	if (went_back())
		return cannot_follow(PGRAFT_HA_MEMBER_RECLONE);
	verdict = pgraft_ha_judge_wal(&document, wal.epoch, wal.tag, local.timeline, local.lsn);
	if (verdict == PGRAFT_HA_MEMBER_STREAMING)
	{
		pgraft_ha_write_verdict(verdict, document.epoch, local.timeline);
		pgraft_ha_open(document.epoch, primary->host, primary->port);
		local.failure[0] = '\0';
		set_role(PGRAFT_HA_ROLE_STANDBY, "");
		ereport(LOG,
				(errmsg("pgraft: this server follows member %u, epoch %llu", primary->id,
						(unsigned long long) document.epoch)));
		return CALM_MS;
	}
	if (local.role != PGRAFT_HA_ROLE_REWIND)
		ereport(LOG,
				(errmsg("this server has WAL that the cluster has not, and cannot follow"),
				 errdetail("It has WAL of epoch %llu up to %X/%X on timeline %u.",
						   (unsigned long long) wal.epoch, LSN_FORMAT_ARGS(local.lsn),
						   local.timeline),
				 errhint("\"pgraftctl rejoin -D %s\" makes it a standby again; \"pgraftctl run\" does that by itself.",
						 DataDir)));
	return cannot_follow(verdict);
}

/* The local WAL, whose end is known, ends before what this server once had. */
static bool
went_back(void)
{
	static bool complained = false;
	XLogRecPtr	had = pgraft_ha_noted_position();

	if (had == InvalidXLogRecPtr || local.lsn >= had)
		return false;
	if (document.phase == PGRAFT_HA_SEALING && document.force_target == (uint32) pgraft_node_id)
	{
		/* an operator wants what it has */
		pgraft_ha_forget_position();
		return false;
	}
	if (!complained)
		ereport(LOG,
				(errmsg("the data of this server is older than what it once confirmed, as from a restored backup"),
				 errdetail("Its WAL ends at %X/%X on timeline %u, and went at least to %X/%X.",
						   LSN_FORMAT_ARGS(local.lsn), local.timeline, LSN_FORMAT_ARGS(had)),
				 errhint("\"pgraftctl rejoin -D %s\" clones it from the primary.  If no member has newer data, \"SELECT pgraft_failover(%d, true)\" makes this server the primary with what it has.",
						 DataDir, pgraft_node_id)));
	complained = true;
	return true;
}

static long
cannot_follow(int verdict)
{
	static uint64 judged_epoch = 0;
	const char *failure = verdict == PGRAFT_HA_MEMBER_RECLONE ? "must be cloned again" :
		"must be rewound";
	PgraftHaCommand command;

	if (judged_epoch != document.epoch || strcmp(local.failure, failure) != 0)
		pgraft_ha_write_verdict(verdict, document.epoch, local.timeline);
	judged_epoch = document.epoch;
	strlcpy(local.failure, failure, sizeof(local.failure));
	set_role(PGRAFT_HA_ROLE_REWIND, "waiting for pgraftctl rejoin");
	if (may_tell(&last_told))
	{
		memset(&command, 0, sizeof(command));
		command.kind = PGRAFT_HA_MEMBER_STATE;
		command.state = verdict;
		(void) pgraft_ha_try_propose(&command);
	}
	return CALM_MS;
}

/* The document takes this server for the primary, but it is a standby now. */
static long
report_demotion(void)
{
	PgraftHaCommand command;

	set_role(PGRAFT_HA_ROLE_SEALED, "looking for the end of the local WAL");
	if (!know_position() || pgraft_ha_pauses_at("demoted"))
		return SOON_MS;
	if (went_back())
	{
		memset(&command, 0, sizeof(command));
		command.kind = PGRAFT_HA_BEGIN_EPOCH;
		strlcpy(command.reason, "the primary was replaced by older data", sizeof(command.reason));
		(void) pgraft_ha_try_propose(&command);
		return CALM_MS;
	}
	pgraft_ha_note_position(local.lsn, true);
	fill_position(&command, PGRAFT_HA_DEMOTED);
	(void) pgraft_ha_try_propose(&command);
	return NEAR_MS;
}

/* ----------------------------------------------------------------
 * Not in recovery
 * ----------------------------------------------------------------
 */

static long
primary_step(void)
{
	if (document.phase == PGRAFT_HA_NONE)
	{
		set_role(PGRAFT_HA_ROLE_STARTING, "waiting for the first primary");
		return CALM_MS;
	}
	if (document.phase == PGRAFT_HA_SEALING || document.primary != (uint32) pgraft_node_id)
		return leave(document.switchover_from == (uint32) pgraft_node_id ? "switchover" :
					 wal.epoch < document.epoch && local.promoted_epoch != 0 ?
					 "the cluster has begun a newer epoch" :
					 "it is not the cluster's primary");

	/* whoever promoted it by hand did not do it for this epoch */
	if (wal.epoch != document.epoch)
		return leave("it was not promoted for this epoch");
	if (document.phase == PGRAFT_HA_ASSIGNED)
		return become_primary();
	if (document.phase == PGRAFT_HA_DRAINING)
		return drain();
	return serve();
}

static long
become_primary(void)
{
	PgraftHaCommand command;
	TimeLineID	timeline;
	XLogRecPtr	fork;

	if (pgraft_ha_pauses_at("promoted"))
		return NEAR_MS;
	pgraft_ha_find_fork(&timeline, &fork);
	if (wal.timeline != timeline)
	{
		wal.timeline = timeline;
		pgraft_ha_write_wal(&wal);
	}
	local.timeline = timeline;
	local.promoted_epoch = document.epoch;
	set_role(PGRAFT_HA_ROLE_PROMOTING, "telling the cluster");
	publish();
	memset(&command, 0, sizeof(command));
	command.kind = PGRAFT_HA_PROMOTED;
	command.timeline = timeline;
	command.lsn = fork;
	command.tag = wal.tag;
	(void) pgraft_ha_try_propose(&command);
	return SOON_MS;
}

static long
serve(void)
{
	const PgraftHaEpoch *entry;

	promotion_tag = 0;
	if (local.promoted_epoch != document.epoch)
	{
		local.promoted_epoch = document.epoch;
		publish();
	}
	set_role(PGRAFT_HA_ROLE_PRIMARY, "");
	entry = pgraft_ha_find_epoch(&document, document.epoch);
	if (entry != NULL && entry->promoted && entry->timeline != GetWALInsertionTimeLine())
		return leave("it was promoted by hand: its timeline is not that of the epoch");
	if (entry != NULL && entry->promoted && entry->tag != wal.tag)
		return leave("the cluster knows of another promotion of it than the last");
	if (!pgraft_ha_pauses_at("checkpoint"))
		(void) pgraft_ha_finish_promotion(false);
	pgraft_ha_watch_sync(&document);
	tell_members();
	pgraft_ha_watch_slots(&document);
	pgraft_ha_note_primary_position();
	return document.next_sync.n > 0 ? NEAR_MS : CALM_MS / 2;
}

/* Who follows and who does not, as the primary sees it. */
static void
tell_members(void)
{
	static raft_time told = 0;
	int			i;

	for (i = 0; i < document.n_members; i++)
	{
		const PgraftHaMember *member = &document.members[i];
		bool		streams;
		PgraftHaCommand command;

		if (member->id == (uint32) pgraft_node_id)
			continue;
		streams = pgraft_ha_standby_flush(member->id) != InvalidXLogRecPtr;
		if (streams == (member->state == PGRAFT_HA_MEMBER_STREAMING) ||
			(!streams && member->state != PGRAFT_HA_MEMBER_STREAMING) || !may_tell(&told))
			continue;
		memset(&command, 0, sizeof(command));
		command.kind = PGRAFT_HA_MEMBER_STATE;
		command.member = member->id;
		command.incarnation = member->incarnation;
		command.state = streams ? PGRAFT_HA_MEMBER_STREAMING : PGRAFT_HA_MEMBER_LAGGING;
		(void) pgraft_ha_try_propose(&command);
	}
}

/*
 * A switchover.  Nothing is taken back that was said: until the document has
 * gone on, or the switchover was given up, this server stays fenced.
 */
static long
drain(void)
{
	PgraftHaCommand command;
	XLogRecPtr	end;
	uint32		target;

	switch (pgraft_ha_hand_over(&document, &end, &target))
	{
		case PGRAFT_HA_HANDOVER_PREPARES:
			set_role(PGRAFT_HA_ROLE_PRIMARY, "preparing the switchover");
			return SOON_MS;
		case PGRAFT_HA_HANDOVER_CHOOSES:
			memset(&command, 0, sizeof(command));
			command.kind = PGRAFT_HA_SWITCHOVER_TARGET;
			command.member = target;
			command.generation = document.switchover_serial;
			return pgraft_ha_try_propose(&command) ? SOON_MS : NEAR_MS;
		case PGRAFT_HA_HANDOVER_STOPS:
			stop_serving("handing over to the other server");
			return 1;
		case PGRAFT_HA_HANDOVER_DONE:
			if (pgraft_ha_pauses_at("drained"))
				return NEAR_MS;
			fill_position(&command, PGRAFT_HA_DRAINED);
			command.generation = document.switchover_serial;
			command.lsn = end;
			return pgraft_ha_try_propose(&command) ? SOON_MS : NEAR_MS;
		case PGRAFT_HA_HANDOVER_GIVEN_UP:
			memset(&command, 0, sizeof(command));
			command.kind = PGRAFT_HA_SWITCHOVER_ABORT;
			(void) pgraft_ha_try_propose(&command);
			return NEAR_MS;
		case PGRAFT_HA_HANDOVER_DEMOTES:
			break;
	}

	/* what it has counts; a server that was deposed keeps what is in memory to itself */
	XLogFlush(pgraft_ha_end_of_records());
	return end_as_primary("switchover", SOON_MS);
}

/* Fenced, and not by the lease: until it is primary of an epoch once more. */
static void
stop_serving(const char *reason)
{
	if (local.promoted_epoch != 0)
	{
		local.promoted_epoch = 0;
		publish();
	}
	pgraft_ha_fence_now();
	set_role(PGRAFT_HA_ROLE_DEMOTING, reason);
}

/* Not the primary any more, or never was one. */
static long
leave(const char *reason)
{
	stop_serving(reason);
	return end_as_primary(reason, CALM_MS);
}

/* Fenced already.  Returns when to try again; when it is time, not at all. */
static long
end_as_primary(const char *reason, long wait_ms)
{
	/* as a standby it would call data consistent before it is (start.c) */
	if (!pgraft_ha_finish_promotion(true))
	{
		pgraft_ha_end_sessions();
		return wait_ms;
	}
	pgraft_ha_tell_role(&local, &document);
	pgraft_ha_demote(reason);
	return 0;
}
