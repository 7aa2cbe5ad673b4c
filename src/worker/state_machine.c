/*-------------------------------------------------------------------------
 *
 * state_machine.c
 *	  The replicated state machine: what each command does, exactly once, the
 *	  same on every member.
 *
 * Called by the consensus worker alone, in the order of the log.  The result
 * depends on the log and on nothing else: no clock, no setting, no random
 * number, no order of a hash table comes in.  The store itself is kv.c, the
 * sessions are session.c.
 *
 * Rules
 *	- The revision counts the commands that changed the store: a put always
 *	  does, a deletion only if there was something to delete, a failed
 *	  compare-and-set does not.
 *	- A command that was applied before (same session, same sequence number)
 *	  answers what it answered then.
 *	- An entry that no member can decode is skipped by all of them alike.
 *
 * What survives a crash: nothing in here; the snapshot (state_image.c) and the
 * log do.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/worker/state_machine.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"

#include "pgraft/bytes.h"
#include "pgraft/ha.h"
#include "pgraft/kv_store.h"
#include "pgraft/session.h"

#include "state_internal.h"

static void apply_normal(const struct raft_entry *entry, PgraftApplyResult *result);
static void apply_command(const PgraftCommand *command, PgraftApplyResult *result);
static void apply_put(const PgraftCommand *command, const PgraftKvRecord *old,
					  PgraftApplyResult *result);
static void apply_cas(const PgraftCommand *command, PgraftApplyResult *result);
static void finish_delete(uint64 deleted, PgraftApplyResult *result);
static void publish(void);

/* The replicated state besides store and sessions */
static StateNumbers state;

/* Counters of this worker's life */
static PgraftKvStats counters;

/* ----------------------------------------------------------------
 * Applying
 * ----------------------------------------------------------------
 */

void
pgraft_state_reset(void)
{
	pgraft_state_save_cancel();
	pgraft_kv_store_lock();
	(void) pgraft_kv_store_delete_prefix("", 0);
	pgraft_session_reset();
	memset(&state, 0, sizeof(state));
	pgraft_ha_state_reset();
	publish();
	pgraft_kv_store_unlock();
}

/*
 * An entry at or below the applied index has been applied, perhaps by the
 * snapshot; it is reported as a duplicate and changes nothing.
 */
bool
pgraft_state_apply(const struct raft_entry *entry, PgraftApplyResult *result)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool applied = true;

	memset(result, 0, sizeof(*result));
	result->index = entry->index;
	if (entry->index <= state.applied_index)
	{
		result->duplicate = true;
		return true;
	}

	pgraft_kv_store_lock();
	if (entry->type == RAFT_ENTRY_NORMAL)
	{
		PG_TRY();
		{
			apply_normal(entry, result);
		}
		PG_CATCH();
		{
			pgraft_state_report_caught(context);
			applied = false;
		}
		PG_END_TRY();
	}

	/* the error has released it together with all other locks */
	if (!applied)
		return false;
	state.applied_index = entry->index;
	publish();
	pgraft_kv_store_unlock();
	return true;
}

static void
apply_normal(const struct raft_entry *entry, PgraftApplyResult *result)
{
	PgraftCommand command;

	if (!pgraft_command_decode(entry->data, entry->length, &command))
	{
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("skipped log entry %llu: it is not a command that this release knows",
						(unsigned long long) entry->index)));
		return;
	}

	switch (pgraft_session_check(command.session, command.sequence, result))
	{
		case PGRAFT_SESSION_DUPLICATE:
		case PGRAFT_SESSION_STALE:
			counters.duplicates++;
			return;
		case PGRAFT_SESSION_NEW:
			break;
	}

	apply_command(&command, result);
	pgraft_session_record(command.session, command.sequence, result);
}

static void
apply_command(const PgraftCommand *command, PgraftApplyResult *result)
{
	PgraftKvRecord old;
	bool		exists;

	switch (command->kind)
	{
		case PGRAFT_COMMAND_LOG:
			state.log_count++;
			state.log_chain =
				pgraft_digest_bytes(pgraft_digest_u64(state.log_chain, result->index),
									command->value, command->value_length);
			result->value = result->index;
			break;
		case PGRAFT_COMMAND_KV_PUT:
			exists = pgraft_kv_store_find(command->key, command->key_length, &old);
			apply_put(command, exists ? &old : NULL, result);
			counters.puts++;
			break;
		case PGRAFT_COMMAND_KV_DELETE:
			finish_delete(pgraft_kv_store_delete(command->key, command->key_length) ? 1 : 0,
						  result);
			break;
		case PGRAFT_COMMAND_KV_DELETE_PREFIX:
			finish_delete(pgraft_kv_store_delete_prefix(command->key, command->key_length),
						  result);
			break;
		case PGRAFT_COMMAND_KV_CAS:
			apply_cas(command, result);
			break;
		case PGRAFT_COMMAND_KV_RESET:
			finish_delete(pgraft_kv_store_delete_prefix("", 0), result);
			break;
		case PGRAFT_COMMAND_HA:
			pgraft_ha_state_apply((const unsigned char *) command->value,
								  command->value_length, result->index, &result->value);
			break;
	}
}

/* The revision moves on only once the store has taken the entry. */
static void
apply_put(const PgraftCommand *command, const PgraftKvRecord *old, PgraftApplyResult *result)
{
	PgraftKvRecord record;

	record.key = command->key;
	record.key_length = command->key_length;
	record.value = command->value;
	record.value_length = command->value_length;
	record.mod_revision = state.revision + 1;
	record.create_revision = old != NULL ? old->create_revision : record.mod_revision;
	record.version = old != NULL ? old->version + 1 : 1;
	pgraft_kv_store_set(&record);

	state.revision++;
	result->value = state.revision;
	result->flag = 1;
}

/* Of a key that does not exist the revision is 0. */
static void
apply_cas(const PgraftCommand *command, PgraftApplyResult *result)
{
	PgraftKvRecord old;
	bool		exists = pgraft_kv_store_find(command->key, command->key_length, &old);
	uint64		found = exists ? old.mod_revision : 0;

	if (found != command->expected)
	{
		counters.cas_failed++;
		result->value = found;
		return;
	}
	apply_put(command, exists ? &old : NULL, result);
	counters.cas_succeeded++;
}

static void
finish_delete(uint64 deleted, PgraftApplyResult *result)
{
	if (deleted > 0)
		state.revision++;
	counters.deletes += deleted;
	result->value = deleted;
	result->flag = (deleted > 0);
}

uint64
pgraft_state_hash(void)
{
	uint64		digest = pgraft_digest_u64(0, state.revision);

	digest = pgraft_digest_u64(digest, pgraft_kv_store_digest());
	digest = pgraft_digest_u64(digest, pgraft_session_digest());
	digest = pgraft_digest_u64(digest, state.log_count);
	digest = pgraft_digest_u64(digest, state.log_chain);
	if (pgraft_ha_state_digest() != 0)
		digest = pgraft_digest_u64(digest, pgraft_ha_state_digest());
	return digest;
}

static void
publish(void)
{
	counters.revision = state.revision;
	counters.log_entries = state.log_count;
	counters.sessions = pgraft_session_count();
	counters.applied_index = state.applied_index;
	counters.state_hash = pgraft_state_hash();
	pgraft_kv_store_publish(&counters);
}

/*
 * In a PG_CATCH block.  The error may have come from inside dshash or dsa with
 * locks held; the worker holds none of its own while it applies.
 */
void
pgraft_state_report_caught(MemoryContext context)
{
	MemoryContextSwitchTo(context);
	HOLD_INTERRUPTS();
	EmitErrorReport();
	FlushErrorState();
	LWLockReleaseAll();
	RESUME_INTERRUPTS();
}

StateNumbers
pgraft_state_numbers(void)
{
	return state;
}

bool
pgraft_state_adopt(const StateNumbers *numbers, uint64 hash)
{
	StateNumbers before = state;

	state = *numbers;
	if (pgraft_state_hash() != hash)
	{
		state = before;
		return false;
	}
	publish();
	return true;
}
