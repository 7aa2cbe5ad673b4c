/*-------------------------------------------------------------------------
 *
 * sync_quorum.c
 *	  Quorum synchronous replication, managed: synchronous_standby_names follows
 *	  the document, and the document follows which standbys there are.
 *
 * Called by "pgraft ha" alone.
 *
 * The setting lies in DATADIR/pgraft.auto.conf, which postgresql.conf must
 * include as its last line.  Every member has in it what it would need as the
 * primary, so a standby has it in force before it is promoted.
 *
 * A change of the set takes two committed steps.  SYNC_BEGIN puts the next set
 * beside the old one; both count for elections, and the primary switches to the
 * next.  Processes read the setting when they like, so every walsender is
 * ended; those that connect afterwards have the new one.  SYNC_END follows when
 * enough members of the next set have everything that the primary had flushed
 * by then: so what was acknowledged by the old set is with the next, too.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/sync_quorum.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xlog.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "pgraft/compat.h"
#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

#define AUTO_CONF "pgraft.auto.conf"
#define JOIN_LAG (16 * 1024 * 1024) /* a standby counts once it is as close */
#define MAX_OLD_WALSENDERS (2 * RAFT_MAX_MEMBERS)
#define IN_FORCE_MS 5000		/* then it is said that the setting is not read */

/* One change of the set, as this process carries it out. */
typedef struct Change
{
	uint64		generation;		/* of the document; 0 = none */
	bool		restarted;		/* walsenders were ended with the next in force */
	int			n_old;			/* those that have not gone yet */
	pid_t		old[MAX_OLD_WALSENDERS];
	XLogRecPtr	barrier;		/* members of the next set must have this; Invalid =
								 * somebody may still go by the old set */
} Change;

static char *wanted_names(const PgraftHaDocument *document);
static void member_name(uint32 id, char *name);
static bool write_names(const char *names);
static int	find_walsender(const char *name);
static bool sends_wal(pid_t walsender);
static bool is_of_member(const PgraftHaDocument *document, pid_t walsender);
static void end_walsenders(const PgraftHaDocument *document);
static bool old_walsenders_have_ended(void);
static void go_on_with_change(const PgraftHaDocument *document);
static bool has_confirmed(const PgraftHaSyncSet *set, XLogRecPtr lsn);
static bool may_give_change_up(const PgraftHaDocument *document);
static int	connected_members(const PgraftHaDocument *document, const PgraftHaSyncSet *now,
							  PgraftHaSyncSet *there);
static void look_for_change(const PgraftHaDocument *document);
static void propose_set(const PgraftHaDocument *document, const PgraftHaSyncSet *set);
static int	wanted_standbys(const PgraftHaDocument *document);
static bool mode_is_recorded(const PgraftHaDocument *document);
static int	connected_members(const PgraftHaDocument *document, const PgraftHaSyncSet *now,
							  PgraftHaSyncSet *there);
static bool too_few_for_long(int connected, int wanted);
static void add_id(PgraftHaSyncSet *set, uint32 id);

static Change change;
static raft_time too_few_since = 0;	/* 0 = enough standbys are connected */

/* ----------------------------------------------------------------
 * The setting
 * ----------------------------------------------------------------
 */

/* Name under which a member's walreceiver connects. */
static void
member_name(uint32 id, char *name)
{
	PgraftMembers *members = palloc(sizeof(PgraftMembers));
	int			i;

	pgraft_read_members(members);
	snprintf(name, RAFT_NAME_SIZE, "node%u", id);
	for (i = 0; i < members->n_members; i++)
		if (members->members[i].member.id == id)
			strlcpy(name, members->members[i].member.name, RAFT_NAME_SIZE);
	pfree(members);
}

static char *
wanted_names(const PgraftHaDocument *document)
{
	const PgraftHaSyncSet *set = document->next_sync.n > 0 ? &document->next_sync :
		&document->sync;
	StringInfoData text;
	int			n = 0;
	int			i;

	initStringInfo(&text);
	if (set->k == 0)
		return text.data;
	for (i = 0; i < set->n; i++)
	{
		char		name[RAFT_NAME_SIZE];
		uint32		id = set->members[i];

		if (id == (uint32) pgraft_node_id ||
			((id & PGRAFT_HA_GONE) != 0 && document->mode != PGRAFT_HA_STRICT))
			continue;

		/* in mode strict nobody is waited for in its place before the set changes */
		if ((id & PGRAFT_HA_GONE) != 0)
			snprintf(name, sizeof(name), "pgraft removed %u", id & ~PGRAFT_HA_GONE);
		else
			member_name(id, name);
		appendStringInfo(&text, "%s\"%s\"", n++ > 0 ? ", " : "", name);
	}
	if (n == 0)
		return text.data;
	appendStringInfoChar(&text, ')');
	return psprintf("ANY %d (%s", Min(set->k, n), text.data);
}

bool
pgraft_ha_apply_sync(const PgraftHaDocument *document)
{
	static char *written = NULL;
	static raft_time written_at = 0;
	static bool complained = false;
	char	   *names;
	bool		in_force;

	if (pgraft_ha_disabled("sync"))
		return true;
	names = wanted_names(document);
	if (written == NULL || strcmp(written, names) != 0)
	{
		if (!write_names(names))
			return false;
		if (written != NULL)
			pfree(written);
		written = MemoryContextStrdup(TopMemoryContext, names);
		written_at = pgraft_monotonic_ms();
		complained = false;
	}

	/* whether to wait at all, the checkpointer tells the sessions */
	in_force = strcmp(SyncRepStandbyNames != NULL ? SyncRepStandbyNames : "", names) == 0 &&
		pgraft_sync_standbys_defined() == (names[0] != '\0');
	if (!in_force && !complained &&
		pgraft_monotonic_ms() - written_at >= IN_FORCE_MS)
	{
		complained = true;
		ereport(LOG,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"synchronous_standby_names\" is not what the cluster asks for"),
				 errdetail("It is \"%s\" and should be \"%s\".", SyncRepStandbyNames, names),
				 errhint("The last line of \"%s\" must be: include_if_exists = '%s/%s'",
						 ConfigFileName, DataDir, AUTO_CONF)));
	}
	pfree(names);
	return in_force;
}

static bool
write_names(const char *names)
{
	StringInfoData text;
	const char *p;

	initStringInfo(&text);
	appendStringInfoString(&text, "# Written by pgraft; changes are overwritten.\nsynchronous_standby_names = '");
	for (p = names; *p != '\0'; p++)
	{
		if (*p == '\'' || *p == '\\')
			appendStringInfoChar(&text, *p);
		appendStringInfoChar(&text, *p);
	}
	appendStringInfoString(&text, "'\n");
	pgraft_ha_create_file(AUTO_CONF, text.data);
	pfree(text.data);

	/* it comes back to us once the postmaster has the new value itself */
	return kill(PostmasterPid, SIGHUP) == 0;
}

/* ----------------------------------------------------------------
 * Walsenders
 * ----------------------------------------------------------------
 */

/* Place in WalSndCtl of the streaming walsender of that name, -1 = none. */
static int
find_walsender(const char *name)
{
	int			found = -1;
	int			n;
	int			i;

	pgstat_clear_backend_activity_snapshot();
	n = pgstat_fetch_stat_numbackends();
	for (i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *walsnd = &WalSndCtl->walsnds[i];
		WalSndState state;
		pid_t		pid;
		int			j;

		SpinLockAcquire(&walsnd->mutex);
		pid = walsnd->pid;
		state = walsnd->state;
		SpinLockRelease(&walsnd->mutex);
		if (pid == 0 || state != WALSNDSTATE_STREAMING)
			continue;
		for (j = 1; j <= n; j++)
		{
			LocalPgBackendStatus *local = pgraft_local_beentry(j);

			if (local != NULL && local->backendStatus.st_procpid == pid &&
				strcmp(local->backendStatus.st_appname, name) == 0)
				found = i;
		}
	}
	return found;
}

XLogRecPtr
pgraft_ha_standby_flush(uint32 member)
{
	char		name[RAFT_NAME_SIZE];
	XLogRecPtr	flush;
	int			place;

	member_name(member, name);
	place = find_walsender(name);
	if (place < 0)
		return InvalidXLogRecPtr;
	SpinLockAcquire(&WalSndCtl->walsnds[place].mutex);
	flush = WalSndCtl->walsnds[place].flush;
	SpinLockRelease(&WalSndCtl->walsnds[place].mutex);
	return flush;
}

/* A base backup's connection does not. */
static bool
sends_wal(pid_t walsender)
{
	int			i;

	for (i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *walsnd = &WalSndCtl->walsnds[i];
		WalSndState state;
		pid_t		pid;

		SpinLockAcquire(&walsnd->mutex);
		pid = walsnd->pid;
		state = walsnd->state;
		SpinLockRelease(&walsnd->mutex);
		if (pid == walsender)
			return state == WALSNDSTATE_STREAMING || state == WALSNDSTATE_CATCHUP;
	}
	return false;
}

/*
 * A connection that broke without the other side's knowledge is only noticed
 * after wal_sender_timeout, and holds the member's slot until then.
 */
void
pgraft_ha_end_older_walsenders(uint32 member)
{
	char		name[RAFT_NAME_SIZE];
	pid_t		newest = 0;
	TimestampTz newest_since = 0;
	int			n;
	int			i;

	member_name(member, name);
	pgstat_clear_backend_activity_snapshot();
	n = pgstat_fetch_stat_numbackends();
	for (i = 1; i <= n; i++)
	{
		LocalPgBackendStatus *local = pgraft_local_beentry(i);
		pid_t		pid;
		TimestampTz since;
		pid_t		older = 0;

		if (local == NULL || strcmp(local->backendStatus.st_appname, name) != 0 ||
			!sends_wal(local->backendStatus.st_procpid))
			continue;
		pid = local->backendStatus.st_procpid;
		since = local->backendStatus.st_proc_start_timestamp;
		if (newest == 0 || since > newest_since)
		{
			older = newest;
			newest = pid;
			newest_since = since;
		}
		else
			older = pid;
		if (older == 0)
			continue;
		ereport(LOG,
				(errmsg("pgraft ends walsender %d: member %u has a newer connection",
						(int) older, member)));
		(void) kill(older, SIGTERM);
	}
}

/* Base backups and other readers of WAL are left alone. */
static bool
is_of_member(const PgraftHaDocument *document, pid_t walsender)
{
	int			n = pgstat_fetch_stat_numbackends();
	int			i;
	int			j;

	for (j = 1; j <= n; j++)
	{
		LocalPgBackendStatus *local = pgraft_local_beentry(j);

		if (local == NULL || local->backendStatus.st_procpid != walsender)
			continue;
		for (i = 0; i < document->n_members; i++)
		{
			char		name[RAFT_NAME_SIZE];

			member_name(document->members[i].id, name);
			if (strcmp(local->backendStatus.st_appname, name) == 0)
				return true;
		}
	}
	return false;
}

static void
end_walsenders(const PgraftHaDocument *document)
{
	int			i;

	pgstat_clear_backend_activity_snapshot();

	for (i = 0; i < max_wal_senders; i++)
	{
		pid_t		pid;

		SpinLockAcquire(&WalSndCtl->walsnds[i].mutex);
		pid = WalSndCtl->walsnds[i].pid;
		SpinLockRelease(&WalSndCtl->walsnds[i].mutex);
		if (pid == 0 || change.n_old == MAX_OLD_WALSENDERS || !is_of_member(document, pid))
			continue;
		(void) kill(pid, SIGTERM);
		change.old[change.n_old++] = pid;
	}
}

/* Walsenders acknowledge by the old set until they have ended. */
static bool
old_walsenders_have_ended(void)
{
	int			i;
	int			j;

	for (i = 0; i < max_wal_senders; i++)
	{
		pid_t		pid;

		SpinLockAcquire(&WalSndCtl->walsnds[i].mutex);
		pid = WalSndCtl->walsnds[i].pid;
		SpinLockRelease(&WalSndCtl->walsnds[i].mutex);
		for (j = 0; pid != 0 && j < change.n_old; j++)
			if (change.old[j] == pid)
				return false;
	}
	return true;
}

/* ----------------------------------------------------------------
 * Changes of the set, on the primary
 * ----------------------------------------------------------------
 */

void
pgraft_ha_watch_sync(const PgraftHaDocument *document)
{
	if (document->phase != PGRAFT_HA_STEADY || pgraft_ha_disabled("sync"))
		return;
	if (!mode_is_recorded(document))
		return;
	if (document->next_sync.n > 0)
		go_on_with_change(document);
	else
	{
		change.generation = 0;
		look_for_change(document);
	}
}

static void
go_on_with_change(const PgraftHaDocument *document)
{
	PgraftHaCommand command;

	if (change.generation != document->sync_generation)
	{
		memset(&change, 0, sizeof(change));
		change.generation = document->sync_generation;
	}
	if (!pgraft_ha_apply_sync(document) || pgraft_ha_pauses_at("sync_walsenders"))
		return;
	if (!change.restarted)
	{
		end_walsenders(document);
		change.restarted = true;
		return;
	}
	if (change.barrier == InvalidXLogRecPtr)
	{
		if (old_walsenders_have_ended())
			change.barrier = GetFlushRecPtr(NULL);
		return;
	}
	memset(&command, 0, sizeof(command));
	if (!has_confirmed(&document->next_sync, change.barrier))
	{
		/* a standby went while its set was being put in force */
		if (!may_give_change_up(document))
		{
			look_for_change(document);
			return;
		}
		command.sync = document->sync;
	}
	if (pgraft_ha_pauses_at("sync_end"))
		return;
	command.kind = PGRAFT_HA_SYNC_END;
	command.generation = document->sync_generation;
	command.lsn = GetFlushRecPtr(NULL);
	(void) pgraft_ha_try_propose(&command);
}

/* Whether k standbys of the set have everything up to there. */
static bool
has_confirmed(const PgraftHaSyncSet *set, XLogRecPtr lsn)
{
	int			have = 0;
	int			i;

	for (i = 0; i < set->n; i++)
		if (set->members[i] != (uint32) pgraft_node_id &&
			pgraft_ha_standby_flush(set->members[i]) >= lsn)
			have++;
	return have >= set->k;
}

/*
 * When the next set's standbys have been missing for long and the old set's are
 * there, as after a failover in the middle of a change to more of them.  In mode
 * strict commits wait for those that are wanted.
 */
static bool
may_give_change_up(const PgraftHaDocument *document)
{
	const PgraftHaSyncSet *next = &document->next_sync;
	PgraftHaSyncSet there;
	int			connected = connected_members(document, next, &there);

	return too_few_for_long(connected, next->k) &&
		has_confirmed(&document->sync, change.barrier) &&
		(document->mode != PGRAFT_HA_STRICT || document->sync.k >= wanted_standbys(document));
}

static void
add_id(PgraftHaSyncSet *set, uint32 id)
{
	int			place = set->n;

	while (place > 0 && set->members[place - 1] > id)
	{
		set->members[place] = set->members[place - 1];
		place--;
	}
	set->members[place] = id;
	set->n++;
}

/* How many standbys commits are to wait for where there are so many. */
static int
wanted_standbys(const PgraftHaDocument *document)
{
	return document->mode == PGRAFT_HA_ASYNC ? 0 : pgraft_synchronous_standbys;
}

/*
 * The cluster goes by the settings of its primary.  True when the document has
 * them: no set is changed before.
 */
static bool
mode_is_recorded(const PgraftHaDocument *document)
{
	PgraftHaCommand command;

	if (document->mode == pgraft_synchronous_mode &&
		document->wanted_k == pgraft_synchronous_standbys &&
		document->maximum_lag == (uint64) pgraft_maximum_lag)
		return true;
	memset(&command, 0, sizeof(command));
	command.kind = PGRAFT_HA_MODE;
	command.state = pgraft_synchronous_mode;
	command.priority = pgraft_synchronous_standbys;
	command.generation = (uint64) pgraft_maximum_lag;
	command.lsn = GetFlushRecPtr(NULL);
	(void) pgraft_ha_try_propose(&command);
	return false;
}

/* Who streams and is close, and the primary; how many of the present set do. */
static int
connected_members(const PgraftHaDocument *document, const PgraftHaSyncSet *now,
				  PgraftHaSyncSet *there)
{
	int			connected = 0;
	int			i;

	memset(there, 0, sizeof(*there));
	add_id(there, (uint32) pgraft_node_id);
	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];
		bool		inside = pgraft_ha_set_contains(now, member->id);
		XLogRecPtr	flush;

		if (member->id == (uint32) pgraft_node_id)
			continue;
		flush = pgraft_ha_standby_flush(member->id);
		if (flush == InvalidXLogRecPtr ||
			(!inside && flush + JOIN_LAG < GetFlushRecPtr(NULL)))
			continue;
		connected += inside;
		add_id(there, member->id);
	}
	return connected;
}

/* Whether fewer than wanted have been connected for the election timeout. */
static bool
too_few_for_long(int connected, int wanted)
{
	if (connected >= wanted)
		too_few_since = 0;
	else if (too_few_since == 0)
		too_few_since = pgraft_monotonic_ms();
	return too_few_since != 0 &&
		pgraft_monotonic_ms() - too_few_since >= (raft_time) pgraft_election_timeout;
}

/*
 * Who streams and is close joins; who was removed leaves.  When fewer than k of
 * the set are connected for the election timeout, those that are not leave, so
 * that commits go on; in mode strict only if others take their place.
 */
static void
look_for_change(const PgraftHaDocument *document)
{
	const PgraftHaSyncSet *now = document->next_sync.n > 0 ? &document->next_sync :
		&document->sync;
	int			wanted = wanted_standbys(document);
	PgraftHaSyncSet there;
	PgraftHaSyncSet next;
	int			connected = connected_members(document, now, &there);
	int			k;
	int			i;

	if (too_few_for_long(connected, now->k))
	{
		next = there;
		next.k = Min(wanted, next.n - 1);
		if ((document->next_sync.n == 0 || next.k == 0) &&
			!(document->mode == PGRAFT_HA_STRICT && next.k < document->sync.k &&
			  next.k < wanted))
		{
			propose_set(document, &next);
			return;
		}
	}
	if (document->next_sync.n > 0)
		return;

	/* nobody leaves because another one comes or the setting was changed */
	next = there;
	for (i = 0; i < now->n; i++)
	{
		if (!pgraft_ha_set_contains(&next, now->members[i]) &&
			(now->members[i] & PGRAFT_HA_GONE) == 0)
			add_id(&next, now->members[i]);
	}
	k = Min(wanted, next.n - 1);
	next.k = k;
	if (k == 0 ? now->k == 0 :
		k == now->k && next.n == now->n &&
		memcmp(next.members, now->members, (size_t) now->n * sizeof(now->members[0])) == 0)
		return;
	if (there.n - 1 < k || (document->mode == PGRAFT_HA_STRICT && k < now->k && k < wanted))
		return;
	propose_set(document, &next);
}

static void
propose_set(const PgraftHaDocument *document, const PgraftHaSyncSet *set)
{
	PgraftHaCommand command;

	if (pgraft_ha_pauses_at("sync_begin"))
		return;
	memset(&command, 0, sizeof(command));
	command.kind = PGRAFT_HA_SYNC_BEGIN;
	command.generation = document->sync_generation;
	command.sync = *set;
	if (pgraft_ha_try_propose(&command))
		ereport(LOG,
				(errmsg("pgraft: commits will wait for %d of %d standbys", set->k, set->n - 1)));
}
