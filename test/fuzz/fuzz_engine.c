/*-------------------------------------------------------------------------
 *
 * fuzz_engine.c
 *	  Fuzz target: one engine between a hostile network and a correct host.
 *
 * The bytes of an input decide how the engine is made and what happens to it
 * then: messages of every type, well-formed in memory but otherwise free,
 * ticks, proposals, reads, membership changes, transfers, snapshots, flushes
 * that end late, failing callbacks, allocations that fail.  The host keeps its
 * side of the contract in raft.h.
 *
 * After each step raft_check_invariants() must be content; an assertion of the
 * engine aborts by itself; updates must come to an end.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  test/fuzz/fuzz_engine.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "input.h"

#undef fprintf

#define STORED 512				/* entries that the host remembers */
#define ENTRIES 6				/* of one message */
#define MAX_EVENTS 4000
#define MAX_UPDATES 5000
#define SNAPSHOT_BYTES 1000
#define OWN_ID 1

typedef struct Stored
{
	struct raft_entry entry;
	unsigned char *data;
} Stored;

typedef struct Host
{
	Input		input;
	struct raft *raft;
	raft_time	now;
	raft_u64	epochs_given;
	raft_u64	epochs_done;
	raft_index	to_apply;
	Stored		stored[STORED];
} Host;

static Host host;

static void create(int n_voters);
static void take_updates(void);
static void host_event(void);
static void message_event(void);
static void fill_message(struct raft_message *message);
static void fill_entries(struct raft_message *message);
static void fill_snapshot(struct raft_message *message);
static size_t fill_config(struct raft_config *config, unsigned char *payload);

/* ----------------------------------------------------------------
 * What the engine calls
 * ----------------------------------------------------------------
 */
static void *
allocate(void *context, size_t size)
{
	(void) context;
	if (input_one_in(&host.input, 200))
		return NULL;
	return malloc(size);
}

static void
release(void *context, void *pointer)
{
	(void) context;
	free(pointer);
}

static int
read_entries(void *context, raft_index first, size_t max_entries, size_t max_bytes,
			 struct raft_entry *entries, size_t *n_read)
{
	size_t		bytes = 0;
	size_t		n = 0;

	(void) context;
	*n_read = 0;
	if (input_one_in(&host.input, 50))
		return RAFT_E_IO;
	while (n < max_entries)
	{
		const Stored *slot = &host.stored[(first + n) % STORED];

		if (slot->entry.index != first + n ||
			(n > 0 && bytes + slot->entry.length > max_bytes))
			break;
		bytes += slot->entry.length;
		entries[n++] = slot->entry;
	}
	*n_read = n;
	return n == 0 ? RAFT_E_IO : RAFT_OK;
}

static int
read_snapshot(void *context, raft_index index, raft_u64 offset, size_t max_bytes,
			  const unsigned char **data, size_t *n_read, raft_u64 *total)
{
	static unsigned char bytes[SNAPSHOT_BYTES];

	(void) context;
	(void) index;
	if (input_one_in(&host.input, 20))
		return RAFT_E_COMPACTED;
	*total = SNAPSHOT_BYTES;
	if (offset > *total)
		return RAFT_E_INVALID;
	*data = bytes + offset;
	*n_read = Min(*total - offset, max_bytes);
	return RAFT_OK;
}

static void
assertion_failed(void *context, const char *condition, const char *file, int line)
{
	(void) context;
	fprintf(stderr, "assertion \"%s\" failed at %s:%d\n", condition, file, line);
}

/* ----------------------------------------------------------------
 * The host
 * ----------------------------------------------------------------
 */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int			events = 0;
	int			i;

	memset(&host, 0, sizeof(host));
	host.input.data = data;
	host.input.left = size;
	host.now = 1000;
	create((int) input_draw(&host.input, 6));
	while (host.raft != NULL && host.input.left > 0 && events++ < MAX_EVENTS)
	{
		if (input_draw(&host.input, 2) == 0)
			message_event();
		else
			host_event();
		if (!input_one_in(&host.input, 3))
			take_updates();
	}
	if (host.raft != NULL)
		raft_destroy(host.raft);
	for (i = 0; i < STORED; i++)
		free(host.stored[i].data);
	return 0;
}

static void
check(const char *after)
{
	const char *text = raft_check_invariants(host.raft);

	if (text != NULL)
		fprintf(stderr, "after %s: ", after);
	demand(text == NULL, text);
}

static void
store(const struct raft_entry *entry)
{
	Stored	   *slot = &host.stored[entry->index % STORED];

	free(slot->data);
	slot->entry = *entry;
	slot->data = fuzz_allocate(entry->length);
	if (entry->length > 0)
		memcpy(slot->data, entry->data, entry->length);
	slot->entry.data = entry->length > 0 ? slot->data : NULL;
}

static void
fill_params(struct raft_params *params)
{
	Input	   *input = &host.input;

	params->id = OWN_ID;
	params->incarnation = 1;
	params->seed = 1 + input_draw(input, 256);
	raft_params_default(params);
	params->cache_bytes = input_one_in(input, 2) ? 4096 : 64 * 1024;
	params->max_entry_bytes = 1024;
	params->max_inflight_messages = 1 + input_draw(input, 5);
	params->max_message_entries = 1 + input_draw(input, 10);
	params->max_uncommitted_bytes = 2000;
	params->snapshot_chunk_bytes = 300;
	params->snapshot_bytes_per_second = input_one_in(input, 2) ? 0 : 1000;
	params->fast_detection = input_one_in(input, 2);
	params->lease_reads = !params->fast_detection;
}

/* An engine with a configuration of so many voters; 0 = a blank member. */
static void
create(int n_voters)
{
	static unsigned char payload[RAFT_CONFIG_MAX_BYTES];
	struct raft_hard_state state = {1, 0, 0};
	struct raft_params params;
	struct raft_allocator allocator;
	struct raft_callbacks callbacks;
	struct raft_config config;
	struct raft_entry entry;
	int			i;

	fill_params(&params);
	memset(&callbacks, 0, sizeof(callbacks));
	callbacks.read_entries = read_entries;
	callbacks.read_snapshot = read_snapshot;
	callbacks.assertion_failed = assertion_failed;
	allocator.context = NULL;
	allocator.allocate = allocate;
	allocator.release = release;
	if (raft_create(&host.raft, &params, &allocator, &callbacks) != RAFT_OK)
	{
		host.raft = NULL;
		return;
	}
	if (n_voters > 0)
	{
		memset(&config, 0, sizeof(config));
		config.n_members = n_voters;
		for (i = 0; i < n_voters; i++)
		{
			config.members[i].id = (raft_id) i + 1;
			config.members[i].incarnation = 1;
			config.members[i].role = RAFT_VOTER;
			config.members[i].target_role = RAFT_VOTER;
		}
		memset(&entry, 0, sizeof(entry));
		entry.index = 1;
		entry.term = 1;
		entry.type = RAFT_ENTRY_CONFIG;
		entry.length = raft_config_encode(&config, payload, sizeof(payload));
		entry.data = payload;
		store(&entry);
		if (raft_restore_hard_state(host.raft, &state) != RAFT_OK ||
			raft_restore_entry(host.raft, &entry) != RAFT_OK)
		{
			raft_destroy(host.raft);
			host.raft = NULL;
			return;
		}
	}
	if (raft_start(host.raft, host.now) != RAFT_OK)
	{
		raft_destroy(host.raft);
		host.raft = NULL;
		return;
	}
	check("start");
	take_updates();
}

static void
take_updates(void)
{
	struct raft_update update;
	int			rounds = 0;

	while (raft_take_update(host.raft, &update))
	{
		size_t		i;

		demand(++rounds < MAX_UPDATES, "updates without end");
		for (i = 0; i < update.n_entries; i++)
			store(&update.entries[i]);
		if (update.epoch != 0)
		{
			demand(update.epoch > host.epochs_given, "epochs do not ascend");
			host.epochs_given = update.epoch;
		}
		if (update.install != NULL)
			host.to_apply = 0;
		for (i = 1; i < update.n_apply; i++)
			demand(update.apply[i].index == update.apply[i - 1].index + 1,
				   "applied entries are not consecutive");
		if (update.n_apply > 0)
			host.to_apply = update.apply[update.n_apply - 1].index;
		check("update");
		if (host.to_apply != 0 && !input_one_in(&host.input, 4))
		{
			raft_applied(host.raft, host.to_apply);
			host.to_apply = 0;
		}
	}
}

static void
propose(void)
{
	static unsigned char bytes[2000];
	struct raft_proposal batch[3];
	size_t		n = 1 + input_draw(&host.input, 3);
	raft_index	index;
	raft_term	term;
	size_t		i;

	for (i = 0; i < n; i++)
	{
		batch[i].data = bytes;
		batch[i].length = input_draw(&host.input, input_one_in(&host.input, 20) ? 2000 : 50);
	}
	(void) raft_propose(host.raft, batch, n, &index, &term);
}

static void
change_membership(void)
{
	struct raft_change changes[3];
	size_t		n = 1 + input_draw(&host.input, 3);
	raft_index	index;
	size_t		i;

	memset(changes, 0, sizeof(changes));
	for (i = 0; i < n; i++)
	{
		changes[i].type = (int) input_draw(&host.input, 6);
		changes[i].member.id = (raft_id) input_draw(&host.input, 9);
		changes[i].member.role = (int) input_draw(&host.input, 5);
		changes[i].member.priority = (int) input_draw(&host.input, 110) - 1;
	}
	(void) raft_change_membership(host.raft, changes, n, &index);
}

/* Something that the host may call at any time. */
static void
host_event(void)
{
	Input	   *input = &host.input;
	struct raft_snapshot_meta meta;
	raft_index	index;

	switch (input_draw(input, 14))
	{
		case 0:
			propose();
			break;
		case 1:
			(void) raft_read(host.raft, input_draw(input, 256));
			break;
		case 2:
			change_membership();
			break;
		case 3:
			(void) raft_transfer(host.raft, (raft_id) input_draw(input, 6));
			break;
		case 4:
			(void) raft_step_down(host.raft);
			break;
		case 5:
			raft_peer_lost(host.raft, (raft_id) input_draw(input, 6));
			break;
		case 6:
			raft_peer_found(host.raft, (raft_id) input_draw(input, 6));
			break;
		case 7:
			if (raft_snapshot_begin(host.raft, &meta) == RAFT_OK)
				(void) raft_compact(host.raft, &meta, input_draw(input, 10), &index);
			break;
		case 8:
		case 9:
			if (host.epochs_given > host.epochs_done)
			{
				host.epochs_done +=
					1 + input_draw(input, host.epochs_given - host.epochs_done);
				raft_persisted(host.raft, host.epochs_done);
			}
			break;
		case 10:
			if (host.to_apply != 0)
				raft_applied(host.raft, host.to_apply);
			host.to_apply = 0;
			break;
		case 11:
			host.now += input_draw(input, 2000);
			raft_tick(host.raft, host.now);
			break;
		default:
			host.now += input_draw(input, 100);
			raft_tick(host.raft, host.now);
			break;
	}
	check("an event of the host");
}

/* ----------------------------------------------------------------
 * Messages
 * ----------------------------------------------------------------
 */
static void
message_event(void)
{
	struct raft_message message;

	fill_message(&message);
	(void) raft_receive(host.raft, &message);
	check(raft_message_name(message.type));
}

static void
fill_message(struct raft_message *message)
{
	Input	   *input = &host.input;
	struct raft_status status;

	raft_status(host.raft, &status);
	memset(message, 0, sizeof(*message));
	message->type = (int) input_draw(input, RAFT_MSG_MAX + 2);
	message->from = (raft_id) (input_draw(input, 8) + OWN_ID + 1) % 9;
	message->to = OWN_ID;
	message->from_incarnation = 1;
	message->to_incarnation = 1;
	message->term = status.term + input_draw(input, 3);
	message->index = status.last_index;
	message->log_term = status.last_term;
	message->commit = status.commit_index;

	/* each bit frees one field from being what a correct peer might say */
	switch (input_draw(input, 12))
	{
		case 1:
			message->to = (raft_id) input_draw(input, 4);
			message->from = (raft_id) input_any(input);
			break;
		case 2:
			message->from_incarnation = input_near(input, 1 + status.commit_index);
			break;
		case 3:
			message->to_incarnation = input_near(input, 1);
			break;
		case 4:
			message->term = input_near(input, status.term);
			break;
		case 5:
		case 6:
		case 7:
		case 8:
			message->index = input_near(input, input_one_in(input, 2) ?
										status.commit_index : status.last_index);
			if (raft_term_at(host.raft, message->index, &message->log_term) != RAFT_OK ||
				input_one_in(input, 4))
				message->log_term = input_near(input, status.last_term);
			message->commit = input_near(input, status.commit_index);
			break;
		default:
			break;
	}
	message->context = input_one_in(input, 2) ?
		input_near(input, status.heartbeats_sent / 2) : input_draw(input, 8);
	message->reject = (int) input_draw(input, 2);
	message->flags = (unsigned int) input_draw(input, 8);
	if (message->reject)
	{
		message->hint_index = input_near(input, status.last_index);
		message->hint_term = input_near(input, status.last_term);
	}
	if (message->type == RAFT_MSG_APPEND)
		fill_entries(message);
	else if (message->type == RAFT_MSG_SNAPSHOT)
		fill_snapshot(message);
	else if (message->type == RAFT_MSG_SNAPSHOT_REPLY)
	{
		message->index = input_near(input, status.snapshot_index);
		message->offset = input_one_in(input, 2) ? 300 * input_draw(input, 4) :
			input_near(input, SNAPSHOT_BYTES);
	}
}

static void
fill_entries(struct raft_message *message)
{
	static struct raft_entry entries[ENTRIES];
	static unsigned char payload[ENTRIES][RAFT_CONFIG_MAX_BYTES];
	Input	   *input = &host.input;
	struct raft_config config;
	raft_term	term = message->log_term;
	size_t		i;

	message->n_entries = input_draw(input, ENTRIES + 1);
	for (i = 0; i < message->n_entries; i++)
	{
		struct raft_entry *entry = &entries[i];
		raft_u64	choice = input_draw(input, 16);

		if ((choice & 3) == 1)
			term = message->term;
		entry->index = message->index + 1 + i;
		entry->term = term;
		entry->type = RAFT_ENTRY_NORMAL;
		entry->length = input_draw(input, 200);
		if ((choice & 12) == 4)
		{
			entry->type = RAFT_ENTRY_CONFIG;
			entry->length = fill_config(&config, payload[i]);
		}
		else if ((choice & 12) == 8)
		{
			entry->type = (int) input_draw(input, 5);
			entry->length = input_draw(input, 3) * 100;
		}
		else if (choice == 12)
		{
			entry->index = input_near(input, entry->index);
			entry->term = input_near(input, term);
		}
		entry->data = entry->length > 0 ? payload[i] : NULL;
	}
	message->entries = message->n_entries > 0 ? entries : NULL;
}

static void
fill_snapshot(struct raft_message *message)
{
	static struct raft_snapshot_meta meta;
	static unsigned char payload[RAFT_CONFIG_MAX_BYTES];
	static unsigned char chunk[400];
	Input	   *input = &host.input;
	struct raft_status status;

	if (input_one_in(input, 30))
		return;
	raft_status(host.raft, &status);
	memset(&meta, 0, sizeof(meta));
	(void) fill_config(&meta.config, payload);
	meta.index = input_near(input, status.commit_index + input_draw(input, 5));
	meta.term = input_near(input, status.term);
	meta.config.index = input_one_in(input, 2) ? input_near(input, meta.index) : 1;
	if (input_one_in(input, 50))
		meta.config.n_members = (int) input_draw(input, 100) - 50;
	message->snapshot = &meta;
	message->total = input_one_in(input, 3) ? 300 : 100;
	message->offset = input_one_in(input, 3) ? 100 * input_draw(input, 3) : 0;
	message->chunk_length = input_one_in(input, 10) ? input_draw(input, 400) : 100;
	message->chunk = chunk;
	if (message->offset + message->chunk_length == message->total)
		message->flags |= RAFT_FLAG_LAST_CHUNK;
	else if (!input_one_in(input, 20))
		message->flags &= ~(unsigned int) RAFT_FLAG_LAST_CHUNK;
}

static size_t
fill_config(struct raft_config *config, unsigned char *payload)
{
	Input	   *input = &host.input;
	raft_id		id = 0;
	int			i;

	memset(config, 0, sizeof(*config));
	config->n_members = 1 + (int) input_draw(input, input_one_in(input, 20) ?
											 RAFT_MAX_MEMBERS : 5);
	config->joint = input_one_in(input, 4);
	for (i = 0; i < config->n_members; i++)
	{
		struct raft_member *member = &config->members[i];
		raft_u64	choice = input_draw(input, 256);

		id += 1 + (raft_id) (choice % 8 == 7);
		member->id = id;
		member->incarnation = choice / 8 % 4 == 3 ? 1 + input_draw(input, 50) : 1;
		member->role = choice / 32 < 5 ? RAFT_VOTER : choice / 32 == 5 ? RAFT_WITNESS :
			RAFT_LEARNER;
		member->target_role = RAFT_VOTER;
		member->priority = (int) (choice % 101);
		if (config->joint)
			member->old_role = (int) input_draw(input, 4);
	}
	return raft_config_encode(config, payload, RAFT_CONFIG_MAX_BYTES);
}

/* ----------------------------------------------------------------
 * Seeds: a member of each cluster size that elections go on around
 * ----------------------------------------------------------------
 */
void
fuzz_write_seeds(const char *directory)
{
	unsigned char seed[300];
	unsigned char name[] = "voters-0";
	size_t		i;
	unsigned char n;

	for (n = 0; n < 6; n++)
	{
		seed[0] = n;
		for (i = 1; i < sizeof(seed); i++)
			seed[i] = (unsigned char) (i * (n + 3) + i / 7);
		name[sizeof(name) - 2] = (unsigned char) ('0' + n);
		seed_write(directory, (char *) name, seed, sizeof(seed));
	}
}
