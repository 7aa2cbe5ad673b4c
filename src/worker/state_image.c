/*-------------------------------------------------------------------------
 *
 * state_image.c
 *	  The replicated state as bytes: saving it for a snapshot, loading it from
 *	  one.
 *
 * Saving goes step by step, so that the event loop is never away for longer
 * than one step, and yet gives the state as it was at one index.  Numbers,
 * cluster document and sessions are small and are written at once when it
 * begins.  The store, which may be large, is written over many turns while
 * commands go on being applied: kv_image.c writes an entry at the latest just
 * before it is changed or deleted for the first time, and leaves out what was
 * created later.  The format leaves the order of keys open for that.
 *
 * Format (the data of a snapshot file, see src/storage/snapshot.c).  Integers
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
 *	  src/worker/state_image.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "pgraft/bytes.h"
#include "pgraft/ha.h"
#include "pgraft/kv_store.h"
#include "pgraft/session.h"

#include "state_internal.h"

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

/* The clock is looked at after so many keys, or so many bytes. */
#define STEP_KEYS 16
#define STEP_BYTES (64 * 1024)

typedef struct Saver
{
	void		(*write) (void *arg, const void *data, size_t length);
	void	   *arg;
	bool		active;
	uint64		hash;			/* of the state that is saved */
	size_t		step_bytes;		/* since the clock was looked at */
	size_t		used;
	unsigned char buffer[SAVE_BUFFER_BYTES];
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
	StateNumbers numbers;
	uint64		document_length;
	uint64		sessions_left;
	uint64		keys_left;
	uint64		hash;
	StringInfoData pending;		/* bytes of a record that is not complete */
} Loader;

static void save_bytes(const void *data, size_t length);
static void save_flush(void);
static void save_sessions(void);
static void save_key(const PgraftKvRecord *record);
static size_t load_one(const unsigned char *data, size_t length);
static bool load_header(const unsigned char *data);
static bool load_session(const unsigned char *data);
static size_t load_key(const unsigned char *data, size_t length);
static void load_next_phase(void);

static Saver saver;
static Loader loader = {.phase = LOAD_FAILED};

/* ----------------------------------------------------------------
 * Saving
 * ----------------------------------------------------------------
 */

void
pgraft_state_save_begin(void (*write) (void *arg, const void *data, size_t length), void *arg)
{
	StateNumbers numbers = pgraft_state_numbers();
	unsigned char header[HEADER_BYTES];
	unsigned char *document = palloc(PGRAFT_HA_DOCUMENT_MAX);
	size_t		document_length = pgraft_ha_state_save(document);

	Assert(!saver.active);
	saver.write = write;
	saver.arg = arg;
	saver.used = 0;
	saver.active = true;
	saver.hash = pgraft_state_hash();

	memset(header, 0, sizeof(header));
	memcpy(header, document_length > 0 ? MAGIC_BEGIN_HA : MAGIC_BEGIN, MAGIC_BYTES);
	pgraft_put_u64(header + 8, numbers.applied_index);
	pgraft_put_u64(header + 16, numbers.revision);
	pgraft_put_u64(header + 24, numbers.log_count);
	pgraft_put_u64(header + 32, numbers.log_chain);
	pgraft_put_u64(header + 40, pgraft_session_count());
	pgraft_put_u64(header + 48, pgraft_kv_store_keys());
	pgraft_put_u64(header + 56, document_length);
	save_bytes(header, sizeof(header));
	save_bytes(document, document_length);
	save_sessions();
	pfree(document);
	pgraft_kv_image_begin(save_key);
}

bool
pgraft_state_save_step(int budget_us)
{
	unsigned char trailer[TRAILER_BYTES];
	instr_time	began;
	instr_time	spent;

	Assert(saver.active);
	INSTR_TIME_SET_CURRENT(began);
	do
	{
		int			i;

		saver.step_bytes = 0;
		for (i = 0; i < STEP_KEYS && saver.step_bytes < STEP_BYTES; i++)
		{
			if (pgraft_kv_image_next())
				continue;
			pgraft_put_u64(trailer, saver.hash);
			memcpy(trailer + 8, MAGIC_END, MAGIC_BYTES);
			save_bytes(trailer, sizeof(trailer));
			save_flush();
			saver.active = false;
			return true;
		}
		INSTR_TIME_SET_CURRENT(spent);
		INSTR_TIME_SUBTRACT(spent, began);
	} while ((uint64) INSTR_TIME_GET_MICROSEC(spent) < (uint64) budget_us);
	return false;
}

void
pgraft_state_save_cancel(void)
{
	if (saver.active)
		pgraft_kv_image_end();
	saver.active = false;
}

static void
save_sessions(void)
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
		save_bytes(record, sizeof(record));
	}
}

static void
save_key(const PgraftKvRecord *record)
{
	unsigned char bytes[KEY_BYTES];

	pgraft_put_u32(bytes, record->key_length);
	pgraft_put_u32(bytes + 4, record->value_length);
	pgraft_put_u64(bytes + 8, record->create_revision);
	pgraft_put_u64(bytes + 16, record->mod_revision);
	pgraft_put_u64(bytes + 24, record->version);
	save_bytes(bytes, sizeof(bytes));
	save_bytes(record->key, record->key_length);
	save_bytes(record->value, record->value_length);
}

static void
save_bytes(const void *data, size_t length)
{
	saver.step_bytes += length;
	if (length > SAVE_BUFFER_BYTES - saver.used)
		save_flush();
	if (length > SAVE_BUFFER_BYTES)
	{
		saver.write(saver.arg, data, length);
		return;
	}
	if (length > 0)
		memcpy(saver.buffer + saver.used, data, length);
	saver.used += length;
}

static void
save_flush(void)
{
	if (saver.used > 0)
		saver.write(saver.arg, saver.buffer, saver.used);
	saver.used = 0;
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
		pgraft_state_report_caught(context);
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

	return whole && loader.numbers.applied_index == index &&
		pgraft_state_adopt(&loader.numbers, loader.hash);
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
	loader.numbers.applied_index = pgraft_get_u64(data + 8);
	loader.numbers.revision = pgraft_get_u64(data + 16);
	loader.numbers.log_count = pgraft_get_u64(data + 24);
	loader.numbers.log_chain = pgraft_get_u64(data + 32);
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
