/*-------------------------------------------------------------------------
 *
 * storage_fixture.c
 *	  See storage_fixture.h.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/unit/storage_fixture.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "storage_fixture.h"

#define MAX_STEP_ENTRIES 16
#define ENTRY_BYTES 1024
#define CHUNK_BYTES 1500

static unsigned char entry_buffer[MAX_STEP_ENTRIES][ENTRY_BYTES];

/* Everything once, small enough for a loop over each byte. */
const Step	fixture_short_script[] = {
	{STEP_APPEND, 1, 1, 0, 0},
	{STEP_APPEND, 1, 5, 0, 0},
	{STEP_HINT, 1, 0, 0, 0},
	{STEP_APPEND, 2, 3, 0, 0},
	{STEP_TRUNCATE, 3, 2, 4, 0},
	{STEP_APPEND, 3, 8, 0, 0},
	{STEP_SNAPSHOT, 3, 2, 6, 700},
	{STEP_APPEND, 3, 6, 0, 0},
	{STEP_INSTALL, 4, 2, 7, 4000},
	{STEP_APPEND, 4, 6, 0, 0},
	{STEP_INSTALL_KEEP, 5, 1, 2, 1500},
	{STEP_APPEND, 5, 9, 0, 0},
	{STEP_APPEND, 5, 14, 0, 0},
	{STEP_APPEND, 5, 15, 0, 0},
	{STEP_APPEND, 5, 14, 0, 0},
	{STEP_TRUNCATE, 6, 1, 5, 0},
	{STEP_HINT, 6, 0, 0, 0},
	{STEP_APPEND, 6, 3, 0, 0},
};
const int	fixture_short_steps = lengthof(fixture_short_script);

/* Files are recycled several times. */
const Step	fixture_long_script[] = {
	{STEP_APPEND, 1, 9, 0, 0},
	{STEP_APPEND, 1, 9, 0, 0},
	{STEP_HINT, 1, 0, 0, 0},
	{STEP_APPEND, 1, 9, 0, 0},
	{STEP_APPEND, 2, 9, 0, 0},
	{STEP_SNAPSHOT, 2, 9, 3, 3000},
	{STEP_APPEND, 2, 9, 0, 0},
	{STEP_TRUNCATE, 3, 9, 12, 0},
	{STEP_APPEND, 3, 12, 0, 0},
	{STEP_HINT, 3, 0, 0, 0},
	{STEP_SNAPSHOT, 3, 9, 2, 10},
	{STEP_APPEND, 3, 9, 0, 0},
	{STEP_APPEND, 3, 9, 0, 0},
	{STEP_INSTALL, 5, 3, 20, 70000},
	{STEP_HINT, 5, 0, 0, 0},
	{STEP_APPEND, 5, 9, 0, 0},
	{STEP_APPEND, 5, 9, 0, 0},
	{STEP_TRUNCATE, 6, 12, 3, 0},
	{STEP_SNAPSHOT, 6, 9, 5, 0},
	{STEP_APPEND, 6, 9, 0, 0},
	{STEP_HINT, 7, 0, 0, 0},
	{STEP_APPEND, 7, 9, 0, 0},
	{STEP_INSTALL_KEEP, 7, 9, 9, 1500},
	{STEP_APPEND, 7, 9, 0, 0},
	{STEP_SNAPSHOT, 7, 1, 0, 5000},
	{STEP_APPEND, 8, 9, 0, 0},
	{STEP_TRUNCATE, 9, 9, 9, 0},
	{STEP_APPEND, 9, 9, 0, 0},
	{STEP_APPEND, 9, 15, 0, 0},
	{STEP_APPEND, 9, 15, 0, 0},
	{STEP_APPEND, 9, 15, 0, 0},
	{STEP_APPEND, 9, 15, 0, 0},
	{STEP_SNAPSHOT, 9, 1, 0, 100},
	{STEP_APPEND, 9, 15, 0, 0},
	{STEP_APPEND, 9, 15, 0, 0},
	{STEP_APPEND, 9, 15, 0, 0},
};
const int	fixture_long_steps = lengthof(fixture_long_script);

/* ----------------------------------------------------------------
 * Contents
 * ----------------------------------------------------------------
 */
size_t
fixture_entry_length(raft_index index, raft_term term)
{
	if (index % 11 == 3)
		return 0;
	return (index * 37 + term * 101) % 190;
}

void
fixture_entry(struct raft_entry *entry, raft_index index, raft_term term,
			  unsigned char *buffer)
{
	size_t		i;

	entry->index = index;
	entry->term = term;
	entry->type = (int) ((index + term) % 3);
	entry->length = fixture_entry_length(index, term);
	entry->data = entry->length > 0 ? buffer : NULL;
	for (i = 0; i < entry->length; i++)
		buffer[i] = (unsigned char) (index * 7 + term * 13 + i * i);
}

int
fixture_entry_right(const struct raft_entry *entry)
{
	unsigned char buffer[ENTRY_BYTES];
	struct raft_entry wanted;

	fixture_entry(&wanted, entry->index, entry->term, buffer);
	return entry->type == wanted.type && entry->length == wanted.length &&
		(entry->length == 0 ||
		 memcmp(entry->data, wanted.data, wanted.length) == 0);
}

void
fixture_snapshot_meta(struct raft_snapshot_meta *meta, raft_index index,
					  raft_term term)
{
	memset(meta, 0, sizeof(*meta));
	meta->index = index;
	meta->term = term;
	meta->config.index = 1;
	meta->config.n_members = 1;
	meta->config.members[0].id = 1;
	meta->config.members[0].incarnation = 1;
	meta->config.members[0].role = RAFT_VOTER;
	meta->config.members[0].port = 7001;
	strlcpy(meta->config.members[0].name, "n1", RAFT_NAME_SIZE);
	strlcpy(meta->config.members[0].address, "127.0.0.1", RAFT_ADDRESS_SIZE);
}

unsigned char
fixture_snapshot_byte(raft_index index, size_t offset)
{
	return (unsigned char) (index * 31 + offset * 5 + offset / 256);
}

/* ----------------------------------------------------------------
 * Model
 * ----------------------------------------------------------------
 */
static void
model_append(LogModel *model, raft_term term, unsigned int n)
{
	while (n-- > 0)
		model->terms[++model->last] = term;
}

static void
model_step(LogModel *model, const Step *step)
{
	if (step->kind != STEP_HINT)
	{
		model->has_hard_state = 1;
		model->hard_state.term = step->term;
		model->hard_state.vote = (raft_id) step->term;
	}
	model->hard_state.commit++;
	model->has_hard_state = 1;
	switch (step->kind)
	{
		case STEP_HINT:
			return;
		case STEP_APPEND:
			break;
		case STEP_TRUNCATE:
			model->last -= step->back;
			break;
		case STEP_SNAPSHOT:
			model->snapshot = model->last - step->back;
			model->snapshot_term = model->terms[model->snapshot];
			model->start = model->snapshot;
			model->start_term = model->snapshot_term;
			break;
		case STEP_INSTALL:
			model->snapshot = model->last + step->back;
			model->snapshot_term = step->term;
			model->last = model->start = model->snapshot;
			model->start_term = step->term;
			break;
		case STEP_INSTALL_KEEP:
			model->snapshot = model->last - step->back;
			model->snapshot_term = model->terms[model->snapshot];
			break;
	}
	model_append(model, step->term, step->entries);
}

int
fixture_same(const LogModel *a, const LogModel *b)
{
	raft_index	i;

	if (a->has_hard_state != b->has_hard_state ||
		a->hard_state.term != b->hard_state.term ||
		a->hard_state.vote != b->hard_state.vote ||
		a->hard_state.commit != b->hard_state.commit ||
		a->start != b->start || a->start_term != b->start_term ||
		a->last != b->last || a->snapshot != b->snapshot ||
		a->snapshot_term != b->snapshot_term)
		return 0;
	for (i = a->start + 1; i <= a->last; i++)
		if (a->terms[i] != b->terms[i])
			return 0;
	return 1;
}

int
fixture_find(const Fixture *f, int low, int high)
{
	int			i;

	for (i = high; i >= low; i--)
		if (fixture_same(&f->history[i], &f->seen))
			return i;
	return -1;
}

/* ----------------------------------------------------------------
 * Life
 * ----------------------------------------------------------------
 */
void
fixture_init(Fixture *f, FaultyDisk *disk, const Step *steps, int n_steps)
{
	int			i;

	memset(f, 0, sizeof(*f));
	f->disk = disk;
	pgraft_storage_default_options(&f->options);
	f->options.segment_bytes = 4096;
	f->options.recycle_segments = 3;
	f->identity.cluster_uid = 11;
	f->identity.node_id = 2;
	f->identity.incarnation = 3;
	f->identity.member_uid = 0x1234567890ABCDEFUL;
	strlcpy(f->identity.cluster_id, "test", sizeof(f->identity.cluster_id));
	f->steps = steps;
	f->n_steps = n_steps;
	for (i = 0; i < n_steps; i++)
	{
		f->history[i + 1] = f->history[i];
		model_step(&f->history[i + 1], &steps[i]);
	}
}

PgraftErrorCode
fixture_create(Fixture *f)
{
	return pgraft_storage_create(faulty_disk_io(f->disk), FIXTURE_DIRECTORY,
								 &f->options, &f->identity, NULL, NULL, 0,
								 &f->error);
}

static int
saw_snapshot(void *context, const struct raft_snapshot_meta *meta)
{
	Fixture    *f = context;
	struct raft_snapshot_meta wanted;

	fixture_snapshot_meta(&wanted, meta->index, meta->term);
	if (memcmp(&wanted, meta, sizeof(wanted)) != 0)
		f->wrong++;
	f->seen.snapshot = meta->index;
	f->seen.snapshot_term = meta->term;
	return 0;
}

static int
saw_log_start(void *context, raft_index index, raft_term term)
{
	Fixture    *f = context;

	f->seen.start = f->seen.last = index;
	f->seen.start_term = term;
	return 0;
}

static int
saw_hard_state(void *context, const struct raft_hard_state *state)
{
	Fixture    *f = context;

	f->seen.has_hard_state = 1;
	f->seen.hard_state = *state;
	return 0;
}

static int
saw_entry(void *context, const struct raft_entry *entry)
{
	Fixture    *f = context;

	if (entry->index > f->seen.last + 1 || entry->index <= f->seen.start ||
		entry->index > FIXTURE_MAX_INDEX || !fixture_entry_right(entry))
	{
		f->wrong++;
		return 0;
	}
	f->seen.last = entry->index;
	f->seen.terms[entry->index] = entry->term;
	return 0;
}

static int
saw_truncate(void *context, raft_index from)
{
	Fixture    *f = context;

	if (from > f->seen.last || from <= f->seen.start)
		f->wrong++;
	f->seen.last = from - 1;
	return 0;
}

PgraftErrorCode
fixture_open(Fixture *f)
{
	PgraftRecovery recovery;
	PgraftIdentity identity;

	memset(&recovery, 0, sizeof(recovery));
	memset(&f->seen, 0, sizeof(f->seen));
	f->wrong = 0;
	recovery.context = f;
	recovery.snapshot = saw_snapshot;
	recovery.log_start = saw_log_start;
	recovery.hard_state = saw_hard_state;
	recovery.entry = saw_entry;
	recovery.truncate = saw_truncate;
	return pgraft_storage_open(faulty_disk_io(f->disk), FIXTURE_DIRECTORY,
							   &f->options, &recovery, &identity, &f->storage,
							   &f->error);
}

void
fixture_close(Fixture *f)
{
	if (f->storage != NULL)
		pgraft_storage_close(f->storage);
	f->storage = NULL;
}

void
fixture_drop(Fixture *f)
{
	if (f->storage == NULL)
		return;
	faulty_disk_crash(f->disk);
	pgraft_storage_close(f->storage);
	f->storage = NULL;
}

/* ----------------------------------------------------------------
 * Steps
 * ----------------------------------------------------------------
 */
PgraftErrorCode
fixture_write(Fixture *f, const struct raft_update *update, int retry_no_space)
{
	PgraftJob  *job;
	PgraftErrorCode code;

	code = pgraft_storage_prepare(f->storage, update, &job, &f->error);
	if (code != PGRAFT_OK)
		return code;
	do
		code = pgraft_storage_execute(f->storage, job, &f->error);
	while (code == PGRAFT_ERR_NO_SPACE && retry_no_space-- > 0);
	if (code == PGRAFT_OK)
		pgraft_storage_complete(f->storage, job);
	else
		pgraft_job_discard(job);
	return code;
}

static PgraftErrorCode
send_snapshot(Fixture *f, const struct raft_snapshot_meta *meta,
			  struct raft_update *last, size_t total, int retry_no_space)
{
	struct raft_snapshot_chunk chunk;
	struct raft_update update;
	unsigned char data[CHUNK_BYTES];
	size_t		offset = 0;
	size_t		i;
	PgraftErrorCode code;

	memset(&update, 0, sizeof(update));
	chunk.meta = *meta;
	chunk.total = total;
	chunk.data = data;
	for (;;)
	{
		chunk.offset = offset;
		chunk.length = Min(CHUNK_BYTES, total - offset);
		for (i = 0; i < chunk.length; i++)
			data[i] = fixture_snapshot_byte(meta->index, offset + i);
		offset += chunk.length;
		if (offset >= total)
			break;
		update.epoch = ++f->epoch;
		update.must_sync = 1;
		update.chunk = &chunk;
		code = fixture_write(f, &update, retry_no_space);
		if (code != PGRAFT_OK)
			return code;
	}
	last->chunk = &chunk;
	last->install = meta;
	return fixture_write(f, last, retry_no_space);
}

static PgraftErrorCode
local_snapshot(Fixture *f, const struct raft_snapshot_meta *meta, size_t total)
{
	PgraftSnapshotWriter *writer;
	PgraftErrorCode code;
	size_t		offset;

	code = pgraft_snapshot_begin(f->storage, meta, &writer, &f->error);
	if (code != PGRAFT_OK)
		return code;
	for (offset = 0; code == PGRAFT_OK && offset < total; offset++)
	{
		unsigned char byte = fixture_snapshot_byte(meta->index, offset);

		code = pgraft_snapshot_write(writer, &byte, 1, &f->error);
	}
	if (code == PGRAFT_OK)
		code = pgraft_snapshot_finish(writer, &f->error);
	if (code != PGRAFT_OK)
	{
		pgraft_snapshot_abort(writer);
		return code;
	}
	pgraft_snapshot_publish(writer);
	pgraft_storage_forget(f->storage, meta->index + 1);
	return PGRAFT_OK;
}

PgraftErrorCode
fixture_step(Fixture *f, int i, int retry_no_space, int *synced)
{
	const Step *step = &f->steps[i];
	const LogModel *after = &f->history[i + 1];
	struct raft_update update;
	struct raft_entry entries[MAX_STEP_ENTRIES];
	struct raft_snapshot_meta meta;
	raft_index	first = after->last - step->entries + 1;
	PgraftErrorCode code = PGRAFT_OK;
	unsigned int k;

	memset(&update, 0, sizeof(update));
	update.epoch = ++f->epoch;
	update.must_sync = step->kind != STEP_HINT;
	update.hard_state_changed = 1;
	update.hard_state = after->hard_state;
	for (k = 0; k < step->entries; k++)
		fixture_entry(&entries[k], first + k, step->term, entry_buffer[k]);
	update.entries = entries;
	update.n_entries = step->entries;
	*synced = update.must_sync;
	fixture_snapshot_meta(&meta, after->snapshot, after->snapshot_term);
	if (step->kind == STEP_TRUNCATE)
		update.truncate_from = f->history[i].last - step->back + 1;
	if (step->kind == STEP_SNAPSHOT)
	{
		do
			code = local_snapshot(f, &meta, step->snapshot_bytes);
		while (code == PGRAFT_ERR_NO_SPACE && retry_no_space-- > 0);
		if (code != PGRAFT_OK)
			return code;
	}
	if (step->kind == STEP_INSTALL || step->kind == STEP_INSTALL_KEEP)
	{
		update.install_keeps_log = step->kind == STEP_INSTALL_KEEP;
		return send_snapshot(f, &meta, &update, step->snapshot_bytes, retry_no_space);
	}
	return fixture_write(f, &update, retry_no_space);
}

/* ----------------------------------------------------------------
 * Reading back
 * ----------------------------------------------------------------
 */
int
fixture_check_read_back(Fixture *f, const LogModel *model)
{
	struct raft_entry entries[8];
	raft_index	want = model->start + 1;
	int			wrong = 0;
	size_t		n;
	size_t		i;

	while (want <= model->last)
	{
		if (pgraft_storage_read_entries(f->storage, want, want % 8 + 1,
										want % 3 * 300, entries, &n) != RAFT_OK ||
			n == 0)
			return wrong + 1;
		for (i = 0; i < n; i++)
			if (entries[i].index != want + i ||
				entries[i].term != model->terms[want + i] ||
				!fixture_entry_right(&entries[i]))
				wrong++;
		want += n;
	}
	if (pgraft_storage_read_entries(f->storage, want, 1, 1, entries, &n) !=
		RAFT_E_UNAVAILABLE)
		wrong++;
	if (model->start > 0 &&
		pgraft_storage_read_entries(f->storage, model->start, 1, 1, entries, &n) !=
		RAFT_E_COMPACTED)
		wrong++;
	return wrong;
}

typedef struct Loaded
{
	raft_index	index;
	size_t		offset;
	int			wrong;
} Loaded;

static int
consume(void *arg, const unsigned char *data, size_t length)
{
	Loaded	   *loaded = arg;
	size_t		i;

	for (i = 0; i < length; i++)
		if (data[i] != fixture_snapshot_byte(loaded->index, loaded->offset + i))
			loaded->wrong++;
	loaded->offset += length;
	return 0;
}

int
fixture_check_snapshot(Fixture *f, const LogModel *model)
{
	struct raft_snapshot_meta meta;
	struct raft_snapshot_meta wanted;
	Loaded		loaded;
	PgraftErrorCode code;

	memset(&loaded, 0, sizeof(loaded));
	loaded.index = model->snapshot;
	code = pgraft_storage_load_snapshot(f->storage, &meta, consume, &loaded,
										&f->error);
	if (model->snapshot == 0)
		return code == PGRAFT_ERR_NOT_FOUND ? 0 : -1;
	if (code != PGRAFT_OK)
		return -1;
	fixture_snapshot_meta(&wanted, model->snapshot, model->snapshot_term);
	if (memcmp(&wanted, &meta, sizeof(wanted)) != 0)
		loaded.wrong++;
	return loaded.wrong;
}
