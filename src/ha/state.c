/*-------------------------------------------------------------------------
 *
 * state.c
 *	  The consensus worker's copy of the cluster document.
 *
 * Part of the replicated state machine: state_machine.c calls in here for each
 * command of its kind, and for snapshots.  Every member keeps the document, a
 * witness or a server in consensus mode, too: whoever leads decides with it.
 *
 * After a command was applied the document is published in shared memory and
 * "pgraft ha" is woken.  What cannot wait for that worker is done here, in the
 * same instant: with a newer epoch this server acknowledges nothing of the
 * older one any more, neither as its standby nor as its primary.
 *
 * What survives a crash: nothing in here; snapshot and log do.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/state.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgraft/bytes.h"
#include "pgraft/ha.h"
#include "pgraft/ha_state.h"
#include "pgraft/settings.h"
#include "pgraft/shmem.h"

static bool waits_for_last_wal(void);
static void publish(void);
static void log_transition(const PgraftHaCommand *command, PgraftHaVerdict verdict,
						   const char *why);

static PgraftHaDocument document;
static unsigned char encoded[PGRAFT_HA_DOCUMENT_MAX];
static uint64 digest = 0;		/* 0 = the empty document */
static bool loaded = false;

void
pgraft_ha_state_reset(void)
{
	pgraft_ha_document_init(&document);
	digest = 0;

	/* before a snapshot is loaded what others see stays as it is */
	if (!loaded)
		publish();
}

const PgraftHaDocument *
pgraft_ha_state_document(void)
{
	return &document;
}

/* The log was applied up to what was committed when the worker started. */
void
pgraft_ha_state_set_loaded(bool is_loaded)
{
	if (loaded == is_loaded)
		return;
	loaded = is_loaded;
	publish();
}

/* One that no member can decode changes nothing on any of them. */
void
pgraft_ha_state_apply(const unsigned char *data, size_t length, uint64 index, uint64 *verdict)
{
	PgraftHaCommand command;
	PgraftHaVerdict result;
	const char *why;

	*verdict = PGRAFT_HA_REFUSED;
	if (!pgraft_ha_command_decode(&command, data, length))
	{
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("skipped log entry %llu: it is not a command for the cluster document that this release knows",
						(unsigned long long) index)));
		return;
	}
	result = pgraft_ha_document_apply(&document, &command, &why);
	*verdict = (uint64) result;
	if (result == PGRAFT_HA_DONE)
	{
		pgraft_ha_state_obey();
		publish();
	}
	log_transition(&command, result, why);
}

/*
 * For at most half an election timeout, counted from when this server learned of
 * the epoch.
 */
static bool
waits_for_last_wal(void)
{
	static uint64 epoch = 0;
	static raft_time since = 0;
	raft_time	now = pgraft_monotonic_ms();

	if (!pgraft_ha_last_wal_may_come(&document, (uint32) pgraft_node_id))
		return false;
	if (epoch != document.epoch)
		since = now;
	epoch = document.epoch;
	return now - since < (raft_time) pgraft_election_timeout / 2;
}

/*
 * Nothing is open for an epoch older than the document's, unless this server has
 * not reported and the last WAL of that epoch may still come.  Comes before the
 * document is published: sealed and fenced before anybody can read of the new
 * epoch and report a position for it.  Repeated each turn, when it has taken too
 * long, and in case "pgraft ha" opened for the older epoch in that moment.
 */
void
pgraft_ha_state_obey(void)
{
	uint64		open_epoch;

	if (pgraft_ha_shared == NULL)
		return;
	open_epoch = pg_atomic_read_u64(&pgraft_ha_shared->open_epoch);
	if (open_epoch != 0 && open_epoch < document.epoch && !waits_for_last_wal() &&
		!pgraft_ha_disabled("seal"))
	{
		pg_atomic_write_u64(&pgraft_ha_shared->open_epoch, 0);
		pg_memory_barrier();
		pgraft_ha_wake_executor();
	}
	if (pg_atomic_read_u64(&pgraft_ha_shared->fence_epoch) < document.epoch &&
		pg_atomic_read_u64(&pgraft_ha_shared->fence_until) != 0)
		pgraft_ha_fence_now();
}

static void
publish(void)
{
	if (document.changes == 0)
		digest = 0;
	else
		digest = pgraft_digest_bytes(1, encoded, pgraft_ha_document_encode(&document, encoded));
	if (pgraft_ha_shared == NULL)
		return;
	pgraft_ha_publish_document(&document, loaded);
	pgraft_ha_wake_executor();
}

/* While the log is replayed after a start, these are old news. */
static void
log_transition(const PgraftHaCommand *command, PgraftHaVerdict verdict, const char *why)
{
	const PgraftHaEpoch *entry = pgraft_ha_find_epoch(&document, document.epoch);
	int64		elapsed = entry != NULL ? pgraft_unix_us() - entry->began_at : 0;
	int			level = loaded ? LOG : DEBUG1;

	if (verdict == PGRAFT_HA_UNCHANGED || why[0] == '\0')
		return;
	if (verdict != PGRAFT_HA_DONE)
	{
		ereport(verdict == PGRAFT_HA_REFUSED ? level : DEBUG1,
				(errmsg("pgraft document: command \"%s\" for epoch %llu, member %u changes nothing: %s",
						pgraft_ha_command_name(command->kind),
						(unsigned long long) command->epoch, command->member, why)));
		return;
	}
	ereport(level,
			(errmsg("pgraft epoch %llu, %s, %lld ms: %s (member %u)",
					(unsigned long long) document.epoch,
					pgraft_ha_phase_name(document.phase),
					(long long) (Max(elapsed, 0) / 1000), why,
					document.phase == PGRAFT_HA_ASSIGNED ? document.primary : command->member)));
}

/* ----------------------------------------------------------------
 * Snapshots
 * ----------------------------------------------------------------
 */

/* Returns 0 for a document that nobody has written to. */
size_t
pgraft_ha_state_save(unsigned char *buffer)
{
	return document.changes == 0 ? 0 : pgraft_ha_document_encode(&document, buffer);
}

bool
pgraft_ha_state_load(const unsigned char *data, size_t length)
{
	if (!pgraft_ha_document_decode(&document, data, length) || document.changes == 0)
	{
		pgraft_ha_document_init(&document);
		return false;
	}
	pgraft_ha_state_obey();
	publish();
	return true;
}

uint64
pgraft_ha_state_digest(void)
{
	return digest;
}
