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
 * What survives a crash: nothing in here; the snapshot and the log do.
 *
 * Format of a snapshot (the data that pgraft_state_save() writes).  Integers
 * are 64 bits, little-endian, unless they say otherwise.
 *
 *	header		8 bytes "pgraftS1", or "pgraftS2" when there is a document
 *				applied index
 *				revision
 *				number of log commands applied
 *				digest chain over the log commands
 *				number of sessions
 *				number of keys
 *				length of the document, not 0; "pgraftS1": zero
 *	document	the cluster document (src/ha/document_codec.c)
 *	session		session, sequence, and of its last command: index, value,
 *				flag (0 or 1); from the least recently applied to the latest
 *	key			key length, value length (32 bits each); revision of creation,
 *				revision of the last change, version; the key, the value; in
 *				no order
 *	trailer		state hash; 8 bytes "pgraftE1"
 *
 * The storage has its own checksum over it; the state hash says that what was
 * loaded is what was saved.
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

#define MAGIC_BEGIN "pgraftS1"
#define MAGIC_BEGIN_HA "pgraftS2"
#define MAGIC_END "pgraftE1"
#define MAGIC_BYTES 8
#define HEADER_BYTES 64
#define SESSION_BYTES 40
#define KEY_BYTES 32			/* before the key itself */
#define TRAILER_BYTES 16

/* Small records are collected up to this before write() gets them. */
#define SAVE_BUFFER_BYTES (64 * 1024)

typedef struct Saver
{
	bool		(*write) (void *arg, const void *data, size_t length);
	void	   *arg;
	unsigned char *buffer;
	size_t		used;
} Saver;

typedef enum LoadPhase
{
	LOAD_HEADER,
	LOAD_DOCUMENT,
	LOAD_SESSIONS,
	LOAD_KEYS,
	LOAD_TRAILER,
	LOAD_DONE,
	LOAD_FAILED
} LoadPhase;

typedef struct Loader
{
	LoadPhase	phase;
	uint64		applied_index;
	uint64		document_length;
	uint64		sessions_left;
	uint64		keys_left;
	uint64		hash;
	StringInfoData pending;		/* bytes of a record that is not complete */
} Loader;

static void apply_normal(const struct raft_entry *entry, PgraftApplyResult *result);
static void apply_command(const PgraftCommand *command, PgraftApplyResult *result);
static void apply_put(const PgraftCommand *command, const PgraftKvRecord *old,
					  PgraftApplyResult *result);
static void apply_cas(const PgraftCommand *command, PgraftApplyResult *result);
static void finish_delete(uint64 deleted, PgraftApplyResult *result);
static void publish(void);
static void report_caught_error(MemoryContext context);
static bool save_bytes(Saver *saver, const void *data, size_t length);
static bool save_flush(Saver *saver);
static bool save_sessions(Saver *saver);
static bool save_key(void *arg, const PgraftKvRecord *record);
static size_t load_one(const unsigned char *data, size_t length);
static bool load_header(const unsigned char *data);
static bool load_session(const unsigned char *data);
static size_t load_key(const unsigned char *data, size_t length);
static void load_next_phase(void);

/* The replicated state besides store and sessions */
static uint64 applied_index = 0;
static uint64 revision = 0;
static uint64 log_count = 0;
static uint64 log_chain = 0;

/* Counters of this worker's life */
static PgraftKvStats counters;

static Loader loader = {.phase = LOAD_FAILED};

/* ----------------------------------------------------------------
 * Applying
 * ----------------------------------------------------------------
 */

void
pgraft_state_reset(void)
{
	pgraft_kv_store_lock();
	(void) pgraft_kv_store_delete_prefix("", 0);
	pgraft_session_reset();
	applied_index = 0;
	revision = 0;
	log_count = 0;
	log_chain = 0;
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
	if (entry->index <= applied_index)
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
			report_caught_error(context);
			applied = false;
		}
		PG_END_TRY();
	}

	/* the error has released it together with all other locks */
	if (!applied)
		return false;
	applied_index = entry->index;
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
			log_count++;
			log_chain = pgraft_digest_bytes(pgraft_digest_u64(log_chain, result->index),
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
	record.mod_revision = revision + 1;
	record.create_revision = old != NULL ? old->create_revision : record.mod_revision;
	record.version = old != NULL ? old->version + 1 : 1;
	pgraft_kv_store_set(&record);

	revision++;
	result->value = revision;
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
		revision++;
	counters.deletes += deleted;
	result->value = deleted;
	result->flag = (deleted > 0);
}

uint64
pgraft_state_hash(void)
{
	uint64		digest = pgraft_digest_u64(0, revision);

	digest = pgraft_digest_u64(digest, pgraft_kv_store_digest());
	digest = pgraft_digest_u64(digest, pgraft_session_digest());
	digest = pgraft_digest_u64(digest, log_count);
	digest = pgraft_digest_u64(digest, log_chain);
	if (pgraft_ha_state_digest() != 0)
		digest = pgraft_digest_u64(digest, pgraft_ha_state_digest());
	return digest;
}

static void
publish(void)
{
	counters.revision = revision;
	counters.log_entries = log_count;
	counters.sessions = pgraft_session_count();
	counters.applied_index = applied_index;
	counters.state_hash = pgraft_state_hash();
	pgraft_kv_store_publish(&counters);
}

/*
 * In a PG_CATCH block.  The error may have come from inside dshash or dsa with
 * locks held; the worker holds none of its own while it applies.
 */
static void
report_caught_error(MemoryContext context)
{
	MemoryContextSwitchTo(context);
	HOLD_INTERRUPTS();
	EmitErrorReport();
	FlushErrorState();
	LWLockReleaseAll();
	RESUME_INTERRUPTS();
}

/* ----------------------------------------------------------------
 * Saving
 * ----------------------------------------------------------------
 */

bool
pgraft_state_save(bool (*write) (void *arg, const void *data, size_t length), void *arg)
{
	Saver		saver;
	unsigned char header[HEADER_BYTES];
	unsigned char trailer[TRAILER_BYTES];
	unsigned char *document = palloc(PGRAFT_HA_DOCUMENT_MAX);
	size_t		document_length = pgraft_ha_state_save(document);
	bool		saved;

	saver.write = write;
	saver.arg = arg;
	saver.buffer = palloc(SAVE_BUFFER_BYTES);
	saver.used = 0;

	memset(header, 0, sizeof(header));
	memcpy(header, document_length > 0 ? MAGIC_BEGIN_HA : MAGIC_BEGIN, MAGIC_BYTES);
	pgraft_put_u64(header + 8, applied_index);
	pgraft_put_u64(header + 16, revision);
	pgraft_put_u64(header + 24, log_count);
	pgraft_put_u64(header + 32, log_chain);
	pgraft_put_u64(header + 40, pgraft_session_count());
	pgraft_put_u64(header + 48, pgraft_kv_store_keys());
	pgraft_put_u64(header + 56, document_length);

	pgraft_put_u64(trailer, pgraft_state_hash());
	memcpy(trailer + 8, MAGIC_END, MAGIC_BYTES);

	saved = save_bytes(&saver, header, sizeof(header)) &&
		save_bytes(&saver, document, document_length) &&
		save_sessions(&saver) &&
		pgraft_kv_store_visit(save_key, &saver) &&
		save_bytes(&saver, trailer, sizeof(trailer)) &&
		save_flush(&saver);

	pfree(saver.buffer);
	pfree(document);
	return saved;
}

static bool
save_sessions(Saver *saver)
{
	const PgraftSession *session;
	uint64		cursor = 0;

	while ((session = pgraft_session_next(&cursor)) != NULL)
	{
		unsigned char record[SESSION_BYTES];

		pgraft_put_u64(record, session->session);
		pgraft_put_u64(record + 8, session->sequence);
		pgraft_put_u64(record + 16, session->result.index);
		pgraft_put_u64(record + 24, session->result.value);
		pgraft_put_u64(record + 32, session->result.flag != 0);
		if (!save_bytes(saver, record, sizeof(record)))
			return false;
	}
	return true;
}

static bool
save_key(void *arg, const PgraftKvRecord *record)
{
	Saver	   *saver = (Saver *) arg;
	unsigned char bytes[KEY_BYTES];

	pgraft_put_u32(bytes, record->key_length);
	pgraft_put_u32(bytes + 4, record->value_length);
	pgraft_put_u64(bytes + 8, record->create_revision);
	pgraft_put_u64(bytes + 16, record->mod_revision);
	pgraft_put_u64(bytes + 24, record->version);
	return save_bytes(saver, bytes, sizeof(bytes)) &&
		save_bytes(saver, record->key, record->key_length) &&
		save_bytes(saver, record->value, record->value_length);
}

static bool
save_bytes(Saver *saver, const void *data, size_t length)
{
	if (length == 0)
		return true;
	if (length > SAVE_BUFFER_BYTES - saver->used && !save_flush(saver))
		return false;
	if (length > SAVE_BUFFER_BYTES)
		return saver->write(saver->arg, data, length);
	memcpy(saver->buffer + saver->used, data, length);
	saver->used += length;
	return true;
}

static bool
save_flush(Saver *saver)
{
	size_t		length = saver->used;

	saver->used = 0;
	return length == 0 || saver->write(saver->arg, saver->buffer, length);
}

/* ----------------------------------------------------------------
 * Loading
 *
 * The state is emptied first and filled record by record.  A snapshot that
 * turns out wrong leaves half a state behind: the worker must not go on then.
 * ----------------------------------------------------------------
 */

void
pgraft_state_load_begin(void)
{
	MemoryContext old_context;

	pgraft_state_reset();
	if (loader.pending.data == NULL)
	{
		old_context = MemoryContextSwitchTo(TopMemoryContext);
		initStringInfo(&loader.pending);
		MemoryContextSwitchTo(old_context);
	}
	resetStringInfo(&loader.pending);
	loader.phase = LOAD_HEADER;
}

bool
pgraft_state_load_piece(const unsigned char *data, size_t length)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		size_t		position = 0;
		size_t		used;

		appendBinaryStringInfo(&loader.pending, (const char *) data, (int) length);
		while (loader.phase != LOAD_DONE && loader.phase != LOAD_FAILED &&
			   (used = load_one((unsigned char *) loader.pending.data + position,
								(size_t) loader.pending.len - position)) > 0)
			position += used;

		loader.pending.len -= (int) position;
		memmove(loader.pending.data, loader.pending.data + position,
				(size_t) loader.pending.len);
		if (loader.phase == LOAD_DONE && loader.pending.len > 0)
			loader.phase = LOAD_FAILED;
	}
	PG_CATCH();
	{
		report_caught_error(context);
		loader.phase = LOAD_FAILED;
	}
	PG_END_TRY();

	return loader.phase != LOAD_FAILED;
}

bool
pgraft_state_load_finish(uint64 index)
{
	bool		whole = (loader.phase == LOAD_DONE);

	if (loader.pending.data != NULL)
	{
		pfree(loader.pending.data);
		memset(&loader.pending, 0, sizeof(loader.pending));
	}
	loader.phase = LOAD_FAILED;

	if (!whole || loader.applied_index != index || loader.hash != pgraft_state_hash())
		return false;
	applied_index = index;
	publish();
	return true;
}

/*
 * Takes one record off the front; returns its length, or 0 when it is not
 * complete yet or wrong (then the phase says so).
 */
static size_t
load_one(const unsigned char *data, size_t length)
{
	bool		good = true;
	size_t		used = 0;

	switch (loader.phase)
	{
		case LOAD_HEADER:
			if (length < HEADER_BYTES)
				return 0;
			good = load_header(data);
			used = HEADER_BYTES;
			break;
		case LOAD_DOCUMENT:
			if (length < loader.document_length)
				return 0;
			good = pgraft_ha_state_load(data, (size_t) loader.document_length);
			used = (size_t) loader.document_length;
			loader.phase = LOAD_SESSIONS;
			load_next_phase();
			break;
		case LOAD_SESSIONS:
			if (length < SESSION_BYTES)
				return 0;
			good = load_session(data);
			used = SESSION_BYTES;
			break;
		case LOAD_KEYS:
			return load_key(data, length);
		case LOAD_TRAILER:
			if (length < TRAILER_BYTES)
				return 0;
			loader.hash = pgraft_get_u64(data);
			good = (memcmp(data + 8, MAGIC_END, MAGIC_BYTES) == 0);
			used = TRAILER_BYTES;
			loader.phase = LOAD_DONE;
			break;
		case LOAD_DONE:
		case LOAD_FAILED:
			return 0;
	}

	if (!good)
	{
		loader.phase = LOAD_FAILED;
		return 0;
	}
	return used;
}

static bool
load_header(const unsigned char *data)
{
	bool		has_document = memcmp(data, MAGIC_BEGIN_HA, MAGIC_BYTES) == 0;

	if (!has_document && memcmp(data, MAGIC_BEGIN, MAGIC_BYTES) != 0)
		return false;
	loader.document_length = pgraft_get_u64(data + 56);
	if (has_document != (loader.document_length > 0) ||
		loader.document_length > PGRAFT_HA_DOCUMENT_MAX)
		return false;
	loader.applied_index = pgraft_get_u64(data + 8);
	revision = pgraft_get_u64(data + 16);
	log_count = pgraft_get_u64(data + 24);
	log_chain = pgraft_get_u64(data + 32);
	loader.sessions_left = pgraft_get_u64(data + 40);
	loader.keys_left = pgraft_get_u64(data + 48);
	if (loader.sessions_left > PGRAFT_MAX_SESSIONS)
		return false;
	loader.phase = LOAD_DOCUMENT;
	load_next_phase();
	return true;
}

static bool
load_session(const unsigned char *data)
{
	PgraftApplyResult result;
	uint64		session = pgraft_get_u64(data);
	uint64		flag = pgraft_get_u64(data + 32);

	memset(&result, 0, sizeof(result));
	result.index = pgraft_get_u64(data + 16);
	result.value = pgraft_get_u64(data + 24);
	result.flag = (int) flag;
	if (session == 0 || flag > 1)
		return false;
	pgraft_session_record(session, pgraft_get_u64(data + 8), &result);
	loader.sessions_left--;
	load_next_phase();
	return true;
}

static size_t
load_key(const unsigned char *data, size_t length)
{
	PgraftKvRecord record;
	size_t		whole;

	if (length < KEY_BYTES)
		return 0;
	record.key_length = pgraft_get_u32(data);
	record.value_length = pgraft_get_u32(data + 4);
	if (record.key_length < 1 || record.key_length > PGRAFT_KEY_MAX ||
		record.value_length >= MaxAllocSize / 2)
	{
		loader.phase = LOAD_FAILED;
		return 0;
	}
	whole = KEY_BYTES + (size_t) record.key_length + record.value_length;
	if (length < whole)
		return 0;

	record.create_revision = pgraft_get_u64(data + 8);
	record.mod_revision = pgraft_get_u64(data + 16);
	record.version = pgraft_get_u64(data + 24);
	record.key = (const char *) data + KEY_BYTES;
	record.value = record.key + record.key_length;
	pgraft_kv_store_set(&record);
	loader.keys_left--;
	load_next_phase();
	return whole;
}

/* Skips the parts of which nothing is left. */
static void
load_next_phase(void)
{
	if (loader.phase == LOAD_DOCUMENT && loader.document_length == 0)
		loader.phase = LOAD_SESSIONS;
	if (loader.phase == LOAD_SESSIONS && loader.sessions_left == 0)
		loader.phase = LOAD_KEYS;
	if (loader.phase == LOAD_KEYS && loader.keys_left == 0)
		loader.phase = LOAD_TRAILER;
}
