/*-------------------------------------------------------------------------
 *
 * slots.c
 *	  One physical replication slot for each other member, on the primary and on
 *	  every standby: WAL that a member still needs is kept whoever becomes
 *	  primary.
 *
 * Called by "pgraft ha" alone, and about once a second.  A slot is named
 * pgraft_node<id>; all names with that prefix are ours: slots of members that
 * were removed are dropped.  A walreceiver names its slot by itself (seal.c).
 *
 * On the primary a slot moves with what its member confirms.  On a standby
 * nobody does that: the primary says in the cluster document where the WAL
 * begins that each member needs (POSITIONS), and each standby moves its slots
 * there, never back and never past what it has replayed itself.  They stand
 * behind those of the primary by a segment or so, which is why a promoted
 * standby has all that the others lack.
 *
 * A slot is saved before WAL is let go for it, so a crash cannot bring back a
 * position whose WAL is gone.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/slots.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "storage/lwlock.h"

#include "pgraft/compat.h"
#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

#define LOOK_MS 1000
#define TELL_MS 5000			/* positions, when they moved by a segment */
#define TELL_ASYNC_MS 1000		/* in mode async, when they moved at all */

/* What is there of one slot. */
typedef struct SlotState
{
	bool		exists;
	bool		active;
	XLogRecPtr	restart_lsn;	/* Invalid = it was invalidated */
} SlotState;

static void look_after(const PgraftHaMember *member);
static SlotState slot_state(const char *name);
static void make_slot(const char *name);
static void drop_slot(const char *name);
static void advance_slot(const char *name, XLogRecPtr position);
static void drop_orphans(PgraftHaDocument *document);
static void tell_positions(const PgraftHaDocument *document);
static bool has_moved(const PgraftHaMember *member, XLogRecPtr position);
static void after_error(MemoryContext context, const char *name);

/* a limit is complained of once, not each second */
static bool complained = false;

void
pgraft_ha_slot_name(uint32 member, char *name)
{
	snprintf(name, NAMEDATALEN, "%s%u", PGRAFT_HA_SLOT_PREFIX, member);
}

/*
 * Only while this server follows or serves: a slot costs a flush, and nothing of
 * that kind may hold up a failover.
 */
void
pgraft_ha_watch_slots(PgraftHaDocument *document)
{
	static raft_time looked = 0;
	static int	members = 0;
	raft_time	now = pgraft_monotonic_ms();
	int			i;

	if (document->phase != PGRAFT_HA_STEADY ||
		(now - looked < LOOK_MS && members == document->n_members) ||
		pgraft_ha_find_member(document, (uint32) pgraft_node_id) == NULL)
		return;

	/* a newcomer's slot is made at once, before WAL that it lacks is let go */
	members = document->n_members;
	looked = now;
	for (i = 0; i < document->n_members; i++)
	{
		if (document->members[i].id != (uint32) pgraft_node_id)
			look_after(&document->members[i]);
	}
	drop_orphans(document);
	if (!RecoveryInProgress())
		tell_positions(document);
}

static void
look_after(const PgraftHaMember *member)
{
	bool		standby = RecoveryInProgress();
	XLogRecPtr	replayed = standby ? GetXLogReplayRecPtr(NULL) : InvalidXLogRecPtr;
	XLogRecPtr	confirmed = standby ? InvalidXLogRecPtr : pgraft_ha_standby_flush(member->id);
	XLogRecPtr	position;
	char		name[NAMEDATALEN];
	SlotState	slot;

	if (!standby)
		pgraft_ha_end_older_walsenders(member->id);
	pgraft_ha_slot_name(member->id, name);
	slot = slot_state(name);
	if (!slot.exists)
	{
		make_slot(name);
		return;
	}
	if (slot.active)
		return;

	/*
	 * One that lies beyond the own WAL is from before a rewind.  One whose WAL is
	 * gone stays as it is on the primary, for everybody to see, until its member
	 * is back all the same.
	 */
	if ((standby && slot.restart_lsn > replayed) ||
		(slot.restart_lsn == InvalidXLogRecPtr && (standby || confirmed != InvalidXLogRecPtr)))
	{
		drop_slot(name);
		make_slot(name);
		return;
	}

	/* a member that streams without its slot, or a standby's copy */
	position = standby ? Min((XLogRecPtr) member->kept_lsn, replayed) : confirmed;
	if (slot.restart_lsn != InvalidXLogRecPtr && position > slot.restart_lsn &&
		position / wal_segment_size > slot.restart_lsn / wal_segment_size)
		advance_slot(name, position);
}

static SlotState
slot_state(const char *name)
{
	SlotState	state = {false, false, InvalidXLogRecPtr};
	ReplicationSlot *slot;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	slot = SearchNamedReplicationSlot(name, false);
	if (slot != NULL)
	{
		state.exists = true;
		SpinLockAcquire(&slot->mutex);
		state.active = slot->active_pid != 0;
		state.restart_lsn = slot->data.restart_lsn;
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return state;
}

/* Keeps all WAL from the last checkpoint on. */
static void
make_slot(const char *name)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		pgraft_create_physical_slot(name);
		ReplicationSlotReserveWal();
		ReplicationSlotMarkDirty();
		ReplicationSlotSave();
		ReplicationSlotRelease();
		complained = false;
	}
	PG_CATCH();
	{
		after_error(context, name);
	}
	PG_END_TRY();
}

static void
drop_slot(const char *name)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		ReplicationSlotDrop(name, true);
	}
	PG_CATCH();
	{
		after_error(context, name);
	}
	PG_END_TRY();
}

static void
advance_slot(const char *name, XLogRecPtr position)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		bool		moved = false;

		pgraft_acquire_slot(name);
		SpinLockAcquire(&MyReplicationSlot->mutex);
		if (MyReplicationSlot->data.restart_lsn != InvalidXLogRecPtr &&
			MyReplicationSlot->data.restart_lsn < position)
		{
			MyReplicationSlot->data.restart_lsn = position;
			moved = true;
		}
		SpinLockRelease(&MyReplicationSlot->mutex);
		if (moved)
		{
			ReplicationSlotMarkDirty();
			ReplicationSlotSave();
			ReplicationSlotsComputeRequiredLSN();
		}
		ReplicationSlotRelease();
	}
	PG_CATCH();
	{
		after_error(context, name);
	}
	PG_END_TRY();
}

/* High availability goes on without the slot; it is tried again. */
static void
after_error(MemoryContext context, const char *name)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	LWLockReleaseAll();
	if (MyReplicationSlot != NULL)
		ReplicationSlotRelease();
	if (error->sqlerrcode == ERRCODE_OBJECT_IN_USE || complained)
		return;
	complained = true;
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("could not keep WAL for a member by the replication slot \"%s\": %s", name,
					error->message),
			 error->sqlerrcode == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED ?
			 errhint("Raise \"max_replication_slots\": pgraft needs one for each other member.") : 0));
}

static void
drop_orphans(PgraftHaDocument *document)
{
	char		names[PGRAFT_HA_MAX_MEMBERS][NAMEDATALEN];
	size_t		prefix = strlen(PGRAFT_HA_SLOT_PREFIX);
	int			n = 0;
	int			i;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (i = 0; i < max_replication_slots && n < (int) lengthof(names); i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
		const char *name = NameStr(slot->data.name);
		uint32		id;

		if (!slot->in_use || strncmp(name, PGRAFT_HA_SLOT_PREFIX, prefix) != 0)
			continue;
		id = (uint32) strtoul(name + prefix, NULL, 10);
		if (id == (uint32) pgraft_node_id || pgraft_ha_find_member(document, id) == NULL)
			strlcpy(names[n++], name, NAMEDATALEN);
	}
	LWLockRelease(ReplicationSlotControlLock);
	for (i = 0; i < n; i++)
	{
		if (slot_state(names[i]).active)
			continue;
		ereport(LOG,
				(errmsg("pgraft drops the replication slot \"%s\": it is of no other member",
						names[i])));
		drop_slot(names[i]);
	}
}

/* ----------------------------------------------------------------
 * Positions, on the primary
 * ----------------------------------------------------------------
 */

static void
tell_positions(const PgraftHaDocument *document)
{
	static raft_time told = 0;
	raft_time	now = pgraft_monotonic_ms();
	XLogRecPtr	flushed = GetFlushRecPtr(NULL);
	bool		async = document->mode == PGRAFT_HA_ASYNC;
	bool		moved = async ? flushed > document->primary_lsn :
		flushed >= document->primary_lsn + wal_segment_size;
	PgraftHaCommand command;
	int			i;

	memset(&command, 0, sizeof(command));
	command.kind = PGRAFT_HA_POSITIONS;
	command.lsn = flushed;
	for (i = 0; i < document->n_members; i++)
	{
		const PgraftHaMember *member = &document->members[i];
		XLogRecPtr	position = flushed;

		if (member->id != (uint32) pgraft_node_id)
		{
			char		name[NAMEDATALEN];

			pgraft_ha_slot_name(member->id, name);
			position = slot_state(name).restart_lsn;
			moved = moved || has_moved(member, position);
		}
		command.sync.members[command.sync.n] = member->id;
		command.positions[command.sync.n++] = position;
	}
	if (!moved || now - told < (raft_time) (async ? TELL_ASYNC_MS : TELL_MS))
		return;
	told = now;
	(void) pgraft_ha_try_propose(&command);
}

/* A standby that catches up lets WAL go while the primary is quiet. */
static bool
has_moved(const PgraftHaMember *member, XLogRecPtr position)
{
	return position != InvalidXLogRecPtr &&
		(member->kept_lsn == 0 || position >= member->kept_lsn + wal_segment_size);
}
