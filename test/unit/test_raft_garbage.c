/*-------------------------------------------------------------------------
 *
 * test_raft_garbage.c
 *	  No input from a peer trips an assertion, breaks an invariant or makes
 *	  the engine spin; no failed allocation does either.
 *
 * One engine at a time receives random, well-typed messages that are close
 * enough to the truth to get past the first checks, between calls of its host
 * in random order.  RAFT_GARBAGE_MESSAGES and RAFT_GARBAGE_SEED in the
 * environment ask for other numbers than the default.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout */
#define STORED 8192				/* entries that the host remembers */
#define LIFE 2500				/* messages for one engine */
#define ENTRIES 6
#define PAYLOAD 200

typedef struct Stored
{
	struct raft_entry entry;
	unsigned char data[RAFT_CONFIG_MAX_BYTES / 8];
} Stored;

static struct raft *raft;
static raft_u64 random_state;
static raft_time now;
static Stored *stored;
static raft_u64 epochs_done;
static raft_u64 epochs_given;
static raft_index to_apply;
static unsigned long by_state[4];
static unsigned long accepted;
static unsigned long broken;
static int	calm;				/* others rarely lead: candidates and leaders live */

static raft_u64
draw(raft_u64 below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return below == 0 ? 0 : (random_state >> 11) % below;
}

static int
one_in(raft_u64 n)
{
	return draw(n) == 0;
}

/* ----------------------------------------------------------------
 * The host
 * ----------------------------------------------------------------
 */

static void *
allocate(void *context, size_t size)
{
	(void) context;
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
	size_t		n = 0;

	(void) context;
	(void) max_bytes;
	while (n < max_entries && n < 10 && stored[(first + n) % STORED].entry.index == first + n)
	{
		entries[n] = stored[(first + n) % STORED].entry;
		n++;
	}
	*n_read = n;
	return n == 0 ? RAFT_E_IO : RAFT_OK;
}

static int
read_snapshot(void *context, raft_index index, raft_u64 offset, size_t max_bytes,
			  const unsigned char **data, size_t *n_read, raft_u64 *total)
{
	static unsigned char bytes[1000];

	(void) context;
	(void) index;
	if (one_in(10))
		return RAFT_E_COMPACTED;
	*total = sizeof(bytes);
	if (offset > *total)
		return RAFT_E_INVALID;
	*data = bytes + offset;
	*n_read = *total - offset < max_bytes ? *total - offset : max_bytes;
	return RAFT_OK;
}

static void
assertion_failed(void *context, const char *condition, const char *file, int line)
{
	(void) context;
	printf("Bail out! assertion \"%s\" failed at %s:%d\n", condition, file, line);
	fflush(stdout);
}

static void
store(const struct raft_entry *entry)
{
	Stored	   *slot = &stored[entry->index % STORED];

	slot->entry = *entry;
	if (entry->length > sizeof(slot->data))
	{
		slot->entry.index = 0;
		return;
	}
	if (entry->length > 0)
		memcpy(slot->data, entry->data, entry->length);
	slot->entry.data = slot->data;
}

static void
check(const char *after)
{
	const char *text = raft_check_invariants(raft);

	if (text != NULL && broken++ == 0)
		printf("# after %s: %s\n", after, text);
}

static void
take_updates(void)
{
	struct raft_update update;
	int			rounds = 0;

	while (raft_take_update(raft, &update))
	{
		size_t		i;

		if (++rounds > 5000)
		{
			printf("# updates without end\n");
			broken++;
			return;
		}
		for (i = 0; i < update.n_entries; i++)
			store(&update.entries[i]);
		if (update.epoch != 0)
			epochs_given = update.epoch;
		if (update.install != NULL)
			to_apply = 0;
		if (update.n_apply > 0)
			to_apply = update.apply[update.n_apply - 1].index;
		check("update");
		if (to_apply != 0 && !one_in(4))
		{
			raft_applied(raft, to_apply);
			to_apply = 0;
		}
	}
}

static size_t
random_config(struct raft_config *config, unsigned char *payload)
{
	int			i;
	raft_id		id = 0;

	memset(config, 0, sizeof(*config));
	config->n_members = 1 + (int) draw(one_in(20) ? RAFT_MAX_MEMBERS : 5);
	config->joint = one_in(4);
	for (i = 0; i < config->n_members; i++)
	{
		struct raft_member *member = &config->members[i];

		id += 1 + (raft_id) (one_in(5) ? draw(3) : 0);
		member->id = id;
		member->incarnation = one_in(10) ? 1 + draw(50) : 1;
		member->role = i < RAFT_MAX_VOTERS && !one_in(5) ? RAFT_VOTER : RAFT_LEARNER;
		if (one_in(10))
			member->role = RAFT_WITNESS;
		member->target_role = RAFT_VOTER;
		member->priority = (int) draw(101);
		if (config->joint)
			member->old_role = (int) draw(4);
	}
	return raft_config_encode(config, payload, RAFT_CONFIG_MAX_BYTES);
}

static void
create(int n)
{
	struct raft_params params;
	struct raft_allocator allocator;
	struct raft_callbacks callbacks;
	struct raft_hard_state state = {1, 0, 0};
	struct raft_config config;
	static unsigned char payload[RAFT_CONFIG_MAX_BYTES];
	struct raft_entry entry;
	int			i;

	params.id = 1;
	params.incarnation = 1;
	params.seed = draw(1000000) + 1;
	raft_params_default(&params);
	params.cache_bytes = one_in(2) ? 4096 : 64 * 1024;
	params.max_entry_bytes = 1024;
	params.max_inflight_messages = 1 + draw(5);
	params.max_message_entries = 1 + draw(10);
	params.max_uncommitted_bytes = 2000;
	params.snapshot_chunk_bytes = 300;
	params.snapshot_bytes_per_second = one_in(2) ? 0 : 1000;
	params.fast_detection = one_in(2);
	params.lease_reads = !params.fast_detection;
	memset(&callbacks, 0, sizeof(callbacks));
	callbacks.read_entries = read_entries;
	callbacks.read_snapshot = read_snapshot;
	callbacks.assertion_failed = assertion_failed;
	allocator.context = NULL;
	allocator.allocate = allocate;
	allocator.release = release;
	now = 1000;
	epochs_done = epochs_given = 0;
	to_apply = 0;
	for (i = 0; i < STORED; i++)
		stored[i].entry.index = 0;
	if (raft_create(&raft, &params, &allocator, &callbacks) != RAFT_OK)
		exit(1);
	if (n > 0)
	{
		memset(&config, 0, sizeof(config));
		config.n_members = n;
		for (i = 0; i < n; i++)
		{
			config.members[i].id = (raft_id) i + 1;
			config.members[i].incarnation = 1;
			config.members[i].role = config.members[i].target_role = RAFT_VOTER;
		}
		memset(&entry, 0, sizeof(entry));
		entry.index = entry.term = 1;
		entry.type = RAFT_ENTRY_CONFIG;
		entry.length = raft_config_encode(&config, payload, sizeof(payload));
		entry.data = payload;
		store(&entry);
		(void) raft_restore_hard_state(raft, &state);
		(void) raft_restore_entry(raft, &entry);
	}
	if (raft_start(raft, now) != RAFT_OK)
		exit(1);
	take_updates();
}

/* Something that the host may call at any time. */
static void
host_event(void)
{
	static unsigned char bytes[2000];
	struct raft_proposal batch[3];
	struct raft_change changes[3];
	struct raft_snapshot_meta meta;
	raft_index	index;
	raft_term	term;
	size_t		n = 1 + draw(3);
	size_t		i;

	switch (draw(14))
	{
		case 0:
		case 1:
		case 2:
			for (i = 0; i < n; i++)
			{
				batch[i].data = bytes;
				batch[i].length = draw(one_in(20) ? 2000 : 50);
			}
			(void) raft_propose(raft, batch, n, &index, &term);
			break;
		case 3:
			(void) raft_read(raft, draw(1000));
			break;
		case 4:
			for (i = 0; i < n; i++)
			{
				memset(&changes[i], 0, sizeof(changes[i]));
				changes[i].type = (int) draw(6);
				changes[i].member.id = (raft_id) draw(9);
				changes[i].member.role = (int) draw(5);
				changes[i].member.priority = (int) draw(110) - 1;
			}
			(void) raft_change_membership(raft, changes, n, &index);
			break;
		case 5:
			if (one_in(5))
				(void) raft_transfer(raft, (raft_id) draw(6));
			break;
		case 6:
			if (one_in(50))
				(void) raft_step_down(raft);
			break;
		case 7:
			raft_peer_lost(raft, (raft_id) draw(6));
			break;
		case 8:
			raft_peer_found(raft, (raft_id) draw(6));
			break;
		case 9:
			if (one_in(4) && raft_snapshot_begin(raft, &meta) == RAFT_OK)
				(void) raft_compact(raft, &meta, draw(10), &index);
			break;
		case 10:
			if (epochs_given > epochs_done)
			{
				epochs_done += 1 + draw(epochs_given - epochs_done);
				raft_persisted(raft, epochs_done);
			}
			break;
		case 11:
			if (to_apply != 0)
				raft_applied(raft, to_apply);
			to_apply = 0;
			break;
		default:
			now += one_in(5) ? draw(1500) : draw(60);
			raft_tick(raft, now);
			break;
	}
	check("event");
}

/* ----------------------------------------------------------------
 * Messages
 * ----------------------------------------------------------------
 */

static raft_u64
near(raft_u64 value)
{
	switch (draw(8))
	{
		case 0:
			return value + draw(4);
		case 1:
			return value > 3 ? value - draw(4) : value;
		case 2:
			return draw(value + 1);
		case 3:
			return one_in(50) ? ~(raft_u64) 0 - draw(3) : value;
		default:
			return value;
	}
}

static raft_term
term_near(const struct raft_status *status)
{
	if (one_in(calm ? 500 : 30))
		return status->term + 1 + draw(2);
	if (one_in(calm ? 500 : 30))
		return near(status->term);
	return status->term;
}

static void
random_message(struct raft_message *message)
{
	static struct raft_entry entries[ENTRIES];
	static unsigned char payload[ENTRIES][RAFT_CONFIG_MAX_BYTES];
	static struct raft_snapshot_meta meta;
	static struct raft_config config;
	static unsigned char chunk[1000];
	struct raft_status status;
	raft_term	term;
	size_t		i;

	raft_status(raft, &status);
	memset(message, 0, sizeof(*message));
	message->type = (int) draw(RAFT_MSG_MAX + 2);
	if (status.state == RAFT_PRECANDIDATE && one_in(2))
		message->type = RAFT_MSG_PREVOTE_REPLY;
	if (status.state == RAFT_CANDIDATE && one_in(2))
		message->type = RAFT_MSG_VOTE_REPLY;
	if (status.state == RAFT_LEADER && one_in(2))
		message->type = one_in(2) ? RAFT_MSG_APPEND_REPLY : RAFT_MSG_HEARTBEAT_REPLY;
	if (calm && !one_in(60) && (message->type == RAFT_MSG_APPEND ||
								message->type == RAFT_MSG_HEARTBEAT ||
								message->type == RAFT_MSG_SNAPSHOT))
		message->type = RAFT_MSG_HEARTBEAT_REPLY;
	message->from = 2 + (raft_id) draw(one_in(10) ? 20 : 4);
	message->to = one_in(100) ? (raft_id) draw(4) : 1;
	message->from_incarnation = one_in(20) ? near(1 + draw(20)) : 1;
	message->to_incarnation = one_in(50) ? draw(3) : 1;
	message->term = term_near(&status);
	if (message->type == RAFT_MSG_PREVOTE || message->type == RAFT_MSG_PREVOTE_REPLY)
		message->term += (raft_term) !one_in(3);
	message->index = near(one_in(3) ? status.commit_index : status.last_index);
	if (raft_term_at(raft, message->index, &message->log_term) != RAFT_OK || one_in(5))
		message->log_term = near(status.last_term);
	message->commit = near(status.commit_index);
	message->context = one_in(3) ? near(status.heartbeats_sent / 2) : draw(5);
	message->hint_index = near(status.last_index);
	message->hint_term = near(status.last_term);
	message->reject = one_in(4);
	message->flags = (unsigned) draw(16);
	if (message->type == RAFT_MSG_APPEND)
	{
		message->n_entries = draw(ENTRIES + 1);
		term = message->log_term;
		for (i = 0; i < message->n_entries; i++)
		{
			struct raft_entry *entry = &entries[i];

			if (one_in(3) && term < message->term)
				term = message->term;
			entry->index = message->index + 1 + i + (raft_u64) one_in(100);
			entry->term = one_in(100) ? near(term) : term;
			entry->type = one_in(100) ? (int) draw(6) : one_in(5) ? RAFT_ENTRY_CONFIG :
				RAFT_ENTRY_NORMAL;
			entry->length = draw(PAYLOAD);
			if (entry->type == RAFT_ENTRY_CONFIG && !one_in(20))
				entry->length = random_config(&config, payload[i]);
			entry->data = entry->length > 0 ? payload[i] : NULL;
		}
		message->entries = message->n_entries > 0 ? entries : NULL;
	}
	if (message->type == RAFT_MSG_SNAPSHOT && !one_in(50))
	{
		memset(&meta, 0, sizeof(meta));
		(void) random_config(&meta.config, payload[0]);
		meta.index = near(status.commit_index + draw(5));
		meta.term = near(status.term);
		meta.config.index = one_in(2) ? 1 : near(meta.index);
		if (one_in(50))
			meta.config.n_members = (int) draw(100) - 50;
		message->snapshot = &meta;
		message->total = one_in(3) ? 300 : 100;
		message->offset = one_in(3) ? 100 * draw(3) : 0;
		message->chunk_length = one_in(10) ? draw(400) : 100;
		message->chunk = chunk;
		if (message->offset + message->chunk_length == message->total)
			message->flags |= RAFT_FLAG_LAST_CHUNK;
		else if (!one_in(20))
			message->flags &= ~(unsigned) RAFT_FLAG_LAST_CHUNK;
	}
	if (message->type == RAFT_MSG_SNAPSHOT_REPLY)
	{
		message->index = one_in(2) ? status.snapshot_index : near(status.snapshot_index);
		message->offset = one_in(2) ? 300 * draw(4) : near(1000);
	}
	if (message->type == RAFT_MSG_REMOVED && !one_in(20))
		message->index = 0;		/* or everything would end with it */
}

static void
random_messages(unsigned long n)
{
	unsigned long i;
	struct raft_message message;
	struct raft_status status;

	for (i = 0; i < n && broken == 0; i++)
	{
		if (i % LIFE == 0)
		{
			if (raft != NULL)
				raft_destroy(raft);
			create((int) (i / LIFE) % 6);
			calm = i / LIFE % 3 != 0;
		}
		random_message(&message);
		raft_status(raft, &status);
		by_state[status.state]++;
		if (raft_receive(raft, &message) == RAFT_OK)
			accepted++;
		check(raft_message_name(message.type));
		if (one_in(2))
			host_event();
		if (!one_in(3))
			take_updates();
	}
	raft_destroy(raft);
	raft = NULL;
	is_u64(i, n, "random messages");
	is_u64(broken, 0, "no invariant was broken");
	ok(accepted > n / 4, "%lu were taken seriously", accepted);
	ok(by_state[RAFT_FOLLOWER] > n / 50, "%lu by followers", by_state[RAFT_FOLLOWER]);
	/* a member whose disk is silent, as it often is here, does not campaign */
	ok(by_state[RAFT_PRECANDIDATE] + by_state[RAFT_CANDIDATE] > n / 75, "%lu by candidates",
	   by_state[RAFT_PRECANDIDATE] + by_state[RAFT_CANDIDATE]);
	ok(by_state[RAFT_LEADER] > n / 50, "%lu by leaders", by_state[RAFT_LEADER]);
}

/* Terms and indexes at the end of their range, from every type of message. */
static void
greatest_numbers(void)
{
	struct raft_message message;
	struct raft_status status;
	struct raft_snapshot_meta meta;
	int			type;
	int			i;

	broken = 0;
	create(3);
	for (type = 1; type <= RAFT_MSG_MAX; type++)
	{
		memset(&message, 0, sizeof(message));
		memset(&meta, 0, sizeof(meta));
		message.type = type;
		message.from = 2;
		message.to = 1;
		message.from_incarnation = message.to_incarnation = 1;
		message.term = message.log_term = ~(raft_term) 0;
		message.index = message.commit = message.hint_index = ~(raft_index) 0;
		if (type == RAFT_MSG_REMOVED)
			message.index = 0;
		meta.index = meta.term = ~(raft_term) 0;
		meta.config.n_members = 1;
		message.snapshot = &meta;
		message.flags = RAFT_FLAG_LAST_CHUNK;
		for (i = 0; i < 3; i++)
		{
			if (i == 1)
				message.index = 0;
			else if (i == 2)
				message.index = message.term = 1;	/* absurd contents alone */
			(void) raft_receive(raft, &message);
			check(raft_message_name(type));
			take_updates();
			if (epochs_given > 0)
				raft_persisted(raft, epochs_given);
			now += 2 * T;
			raft_tick(raft, now);
			check(raft_message_name(type));
			take_updates();
		}
	}
	raft_status(raft, &status);
	ok(status.term > 0 && status.term < 100, "the greatest term is nobody's term");
	ok(status.last_index < 100, "nor is the greatest index a log's");
	is_u64(broken, 0, "no invariant was broken");
	raft_destroy(raft);
	raft = NULL;
}

/* ----------------------------------------------------------------
 * Memory runs out
 * ----------------------------------------------------------------
 */

static void
creation_without_memory(void)
{
	Cluster    *cluster = cluster_create(1);
	struct raft_params params = cluster->params;
	struct raft_callbacks callbacks;
	struct raft *engine = NULL;
	unsigned long n = 0;
	int			error;

	memset(&callbacks, 0, sizeof(callbacks));
	params.id = params.seed = 1;
	params.incarnation = 1;
	do
	{
		cluster->fail_allocation = ++n;
		error = raft_create(&engine, &params, &cluster->allocator, &callbacks);
		if (error != RAFT_OK && (error != RAFT_E_NOMEM || engine != NULL))
			ok(0, "allocation %lu of creation: %s", n, raft_error_text(error));
	} while (error != RAFT_OK && n < 100);
	ok(error == RAFT_OK && n > 5 && n < 100, "creation fails cleanly at each of %lu allocations",
	   n - 1);
	raft_destroy(engine);
	cluster_destroy(cluster);
}

/* A bit of everything; returns how many allocations it took. */
static unsigned long
busy_cluster(unsigned long fail, int *converged)
{
	Cluster    *cluster = cluster_create(5);
	struct raft_change change = change_add(4, RAFT_VOTER);
	unsigned long begin;
	unsigned long used;
	raft_id		leader;
	raft_index	index = 0;
	int			i;

	cluster->params.snapshot_chunk_bytes = 200;
	cluster->params.max_entry_bytes = 8192;
	cluster->params.cache_bytes = 16 * 1024;
	cluster_start(cluster, 3);
	begin = cluster->allocations;
	cluster->fail_allocation = fail;
	leader = cluster_elect(cluster);
	cluster_isolate(cluster, other_than(leader, 0));
	for (i = 0; i < 100 && leader != 0; i++)
	{
		(void) cluster_propose_bytes(cluster, leader, 500, &index);
		cluster_run(cluster, 2);
	}
	if (leader != 0)
		(void) cluster_snapshot(cluster, leader, 20);
	cluster_heal(cluster);
	cluster_run(cluster, 500);

	/* creation has a test of its own */
	used = cluster->allocations - begin;
	if (cluster->fail_allocation > 0)
		cluster->fail_allocation = 0;
	leader = cluster_leader(cluster);
	if (leader != 0 && cluster_change(cluster, leader, &change, 1, &index) == RAFT_OK)
	{
		cluster_start_blank(cluster, 4, index);
		cluster_run(cluster, 500);
	}
	cluster_run(cluster, 3 * T);
	leader = cluster_wait_leader(cluster, 5 * T);
	*converged = leader != 0 &&
		cluster_wait_applied(cluster, cluster_status(cluster, leader)->commit_index, 3 * T);
	if (cluster->failures > 0)
		NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
	return used;
}

static void
work_without_memory(void)
{
	int			converged;
	unsigned long total = busy_cluster(0, &converged);
	unsigned long n;
	unsigned long good = 0;

	ok(converged && total > 5, "a cluster allocates %lu times at work", total);
	for (n = 1; n <= total; n++)
	{
		(void) busy_cluster(n, &converged);
		good += (unsigned long) converged;
	}
	is_u64(good, total, "and survives when any one of them fails");
}

/* All allocations fail for a while: nothing spins. */
static void
long_shortage(void)
{
	Cluster    *cluster = cluster_create(6);
	raft_id		leader;
	raft_index	index = 0;
	int			i;

	cluster_start(cluster, 3);
	leader = cluster_elect(cluster);
	cluster->nodes[leader].hold_disk = 1;
	cluster->exhausted = 1;
	for (i = 0; i < 500; i++)
	{
		(void) cluster_propose(cluster, leader, "x", &index);
		cluster_run(cluster, 1);
	}
	cluster->nodes[leader].hold_disk = 0;
	cluster_run(cluster, 3 * T);
	cluster->exhausted = 0;
	cluster_run(cluster, 3 * T);
	leader = cluster_wait_leader(cluster, 5 * T);
	ok(leader != 0 && cluster_wait_applied(cluster, cluster_status(cluster, leader)->commit_index,
										   3 * T), "a long shortage of memory is survived");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

int
main(void)
{
	const char *messages = getenv("RAFT_GARBAGE_MESSAGES");
	const char *seed = getenv("RAFT_GARBAGE_SEED");

	random_state = 88172645463325252UL;
	if (seed != NULL)
		random_state += strtoul(seed, NULL, 10) * 2654435761UL;
	stored = calloc(STORED, sizeof(*stored));
	random_messages(messages != NULL ? strtoul(messages, NULL, 10) : 250000);
	greatest_numbers();
	creation_without_memory();
	work_without_memory();
	long_shortage();
	free(stored);
	return tap_done();
}
