/*-------------------------------------------------------------------------
 *
 * raft_fixture.c
 *	  A cluster of engines in memory: life of members, disk, network, time.
 *	  raft_fixture_check.c has the rules that hold after each event,
 *	  raft_fixture_events.c what a test asks of a member.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft_fixture_internal.h"

static void fixture_assertion(void *context, const char *condition,
							  const char *file, int line);
static int	fixture_read_entries(void *context, raft_index first, size_t max_entries,
								 size_t max_bytes, struct raft_entry *entries,
								 size_t *n_read);
static int	fixture_read_snapshot(void *context, raft_index index, raft_u64 offset,
								  size_t max_bytes, const unsigned char **data,
								  size_t *n_read, raft_u64 *total);
static void create_engine(Cluster *cluster, Node *node);
static void take_updates(Cluster *cluster, Node *node);
static void keep_write(Cluster *cluster, Node *node, const struct raft_update *update);
static void persist_first(Cluster *cluster, Node *node);

/* ----------------------------------------------------------------
 * Small things
 * ----------------------------------------------------------------
 */

raft_u64
cluster_random(Cluster *cluster, raft_u64 below)
{
	cluster->random ^= cluster->random << 13;
	cluster->random ^= cluster->random >> 7;
	cluster->random ^= cluster->random << 17;
	return below == 0 ? 0 : (cluster->random >> 11) % below;
}

static void *
fixture_allocate(void *context, size_t size)
{
	Cluster    *cluster = context;

	cluster->allocations++;
	if (cluster->exhausted)
		return NULL;
	if (cluster->fail_allocation > 0 && --cluster->fail_allocation == 0)
		return NULL;
	return malloc(size);
}

static void
fixture_release(void *context, void *pointer)
{
	(void) context;
	free(pointer);
}

static void
fixture_assertion(void *context, const char *condition, const char *file, int line)
{
	printf("Bail out! engine of member %u: assertion \"%s\" failed at %s:%d\n",
		   ((Node *) context)->id, condition, file, line);
	fflush(stdout);
}

static void
free_write(Write *write)
{
	free_entries(write->entries, write->n_entries);
	free((void *) write->chunk.data);
	free_packets(&write->after);
	free(write);
}

static void
free_writes(Node *node)
{
	while (node->writes != NULL)
	{
		Write	   *write = node->writes;

		node->writes = write->next;
		free_write(write);
	}
}

/* ----------------------------------------------------------------
 * Life
 * ----------------------------------------------------------------
 */

Cluster *
cluster_create(raft_u64 seed)
{
	Cluster    *cluster = calloc(1, sizeof(*cluster));

	cluster->random = seed * 2654435761UL + 88172645463325252UL;
	cluster->now = 10000;
	cluster->latency = 1;
	cluster->snapshot_bytes = 1000;
	cluster->allocator.context = cluster;
	cluster->allocator.allocate = fixture_allocate;
	cluster->allocator.release = fixture_release;
	raft_params_default(&cluster->params);
	cluster->params.seed = seed;
	cluster->params.max_entry_bytes = 64 * 1024;
	cluster->params.cache_bytes = 512 * 1024;
	return cluster;
}

static void
disk_reserve(Disk *disk, raft_index index)
{
	if (index < disk->size)
		return;
	disk->entries = realloc(disk->entries, (index + 1) * 2 * sizeof(*disk->entries));
	memset(disk->entries + disk->size, 0,
		   ((index + 1) * 2 - disk->size) * sizeof(*disk->entries));
	disk->size = (index + 1) * 2;
}

static void
disk_append(Disk *disk, const struct raft_entry *entry)
{
	disk_reserve(disk, entry->index);
	free((void *) disk->entries[entry->index].data);
	disk->entries[entry->index] = *entry;
	disk->entries[entry->index].data = copy_bytes(entry->data, entry->length);
	disk->last = entry->index;
}

static void
disk_clear(Disk *disk)
{
	size_t		i;

	for (i = 0; i < disk->size; i++)
		free((void *) disk->entries[i].data);
	free(disk->entries);
	free(disk->snapshot.data);
	free(disk->incoming.data);
	memset(disk, 0, sizeof(*disk));
}

/* Every disk begins with the configuration of all n voters as entry 1. */
void
cluster_start(Cluster *cluster, int n)
{
	unsigned char *payload = malloc(RAFT_CONFIG_MAX_BYTES);
	struct raft_config config;
	struct raft_entry entry;
	int			i;

	memset(&config, 0, sizeof(config));
	memset(&entry, 0, sizeof(entry));
	config.n_members = n;
	for (i = 0; i < n; i++)
	{
		config.members[i].id = (raft_id) i + 1;
		config.members[i].incarnation = 1;
		config.members[i].role = RAFT_VOTER;
		config.members[i].target_role = RAFT_VOTER;
	}
	entry.index = 1;
	entry.term = 1;
	entry.type = RAFT_ENTRY_CONFIG;
	entry.length = raft_config_encode(&config, payload, RAFT_CONFIG_MAX_BYTES);
	entry.data = payload;
	for (i = 1; i <= n; i++)
	{
		Node	   *node = &cluster->nodes[i];

		node->id = (raft_id) i;
		node->incarnation = 1;
		node->disk.hard_state.term = 1;
		disk_append(&node->disk, &entry);
		(void) cluster_restart(cluster, node->id);
	}
	free(payload);
}

Cluster *
cluster_begin(int n, raft_u64 seed)
{
	Cluster    *cluster = cluster_create(seed);

	cluster_start(cluster, n);
	return cluster;
}

raft_id
cluster_elect(Cluster *cluster)
{
	(void) cluster_wait_leader(cluster, 20 * cluster->params.election_timeout_ms);
	cluster_run(cluster, cluster->params.election_timeout_ms / 2);
	return cluster_leader(cluster);
}

raft_id
other_than(raft_id a, raft_id b)
{
	raft_id		id = 1;

	while (id == a || id == b)
		id++;
	return id;
}

void
cluster_destroy(Cluster *cluster)
{
	int			i;

	for (i = 0; i < FIXTURE_NODES; i++)
	{
		Node	   *node = &cluster->nodes[i];

		if (node->raft != NULL)
			raft_destroy(node->raft);
		free_writes(node);
		free(node->incoming.data);
		disk_clear(&node->disk);
	}
	free_packets(&cluster->packets);
	free_packets(&cluster->held);
	free(cluster->applied);
	free(cluster);
}

static void
create_engine(Cluster *cluster, Node *node)
{
	struct raft_callbacks callbacks;
	int			error;

	memset(&callbacks, 0, sizeof(callbacks));
	callbacks.context = node;
	callbacks.read_entries = fixture_read_entries;
	callbacks.read_snapshot = fixture_read_snapshot;
	callbacks.assertion_failed = fixture_assertion;
	node->params = cluster->params;
	node->params.id = node->id;
	node->params.incarnation = node->incarnation;
	node->params.seed = cluster->params.seed * 1000 + node->id + cluster->now;
	error = raft_create(&node->raft, &node->params, &cluster->allocator, &callbacks);
	if (error != RAFT_OK)
		cluster_fail(cluster, "raft_create: %s", raft_error_text(error));
}

/* A member that has nothing on its disk. */
void
cluster_start_blank(Cluster *cluster, raft_id id, raft_u64 incarnation)
{
	Node	   *node = &cluster->nodes[id];

	if (node->raft != NULL)
		cluster_crash(cluster, id);
	disk_clear(&node->disk);
	node->id = id;
	node->incarnation = incarnation;
	memset(node->votes, 0, sizeof(node->votes));
	(void) cluster_restart(cluster, id);
}

void
cluster_crash(Cluster *cluster, raft_id id)
{
	Node	   *node = &cluster->nodes[id];

	(void) cluster;
	raft_destroy(node->raft);
	node->raft = NULL;
	free_writes(node);
	node->incoming.length = 0;
	node->disk.incoming.length = 0;
	node->paused = 0;
	node->apply_done = 0;
}

static raft_u64
blob_state(const Blob *blob)
{
	raft_u64	state = 0;

	if (blob->length >= sizeof(state))
		memcpy(&state, blob->data, sizeof(state));
	return state;
}

int
cluster_restart(Cluster *cluster, raft_id id)
{
	Node	   *node = &cluster->nodes[id];
	Disk	   *disk = &node->disk;
	int			error = RAFT_OK;
	raft_index	index;

	create_engine(cluster, node);
	node->applied = disk->meta.index;
	node->state = disk->meta.index > 0 ? blob_state(&disk->snapshot) : 0;
	error = raft_restore_hard_state(node->raft, &disk->hard_state);
	if (error == RAFT_OK && disk->meta.index > 0)
		error = raft_restore_snapshot(node->raft, &disk->meta);
	if (error == RAFT_OK && disk->start > 0)
		error = raft_restore_log_start(node->raft, disk->start, disk->start_term);
	for (index = disk->start + 1; error == RAFT_OK && index <= disk->last; index++)
		error = raft_restore_entry(node->raft, &disk->entries[index]);
	if (error == RAFT_OK)
		error = raft_start(node->raft, cluster->now);
	if (error != RAFT_OK)
	{
		cluster_fail(cluster, "restart of %u: %s", id, raft_error_text(error));
		raft_destroy(node->raft);
		node->raft = NULL;
		return error;
	}
	memset(&node->seen, 0, sizeof(node->seen));
	take_updates(cluster, node);
	return RAFT_OK;
}

void
cluster_report_lost(Cluster *cluster, raft_id id)
{
	int			i;

	for (i = 1; i < FIXTURE_NODES; i++)
	{
		Node	   *node = &cluster->nodes[i];

		if (node->raft == NULL || node->id == id)
			continue;
		raft_tick(node->raft, cluster->now);
		raft_peer_lost(node->raft, id);
		take_updates(cluster, node);
	}
}

/* ----------------------------------------------------------------
 * What the engine asks for
 * ----------------------------------------------------------------
 */

/*
 * Payloads lie in memory that the next call overwrites, as the interface says:
 * an engine that keeps pointers to it sends garbage.
 */
static int
fixture_read_entries(void *context, raft_index first, size_t max_entries,
					 size_t max_bytes, struct raft_entry *entries, size_t *n_read)
{
	static unsigned char *lent;
	static size_t lent_bytes;
	Node	   *node = context;
	size_t		bytes = 0;
	size_t		n = 0;
	size_t		i;

	*n_read = 0;
	if (first <= node->disk.start || first > node->disk.last)
		return RAFT_E_IO;
	while (n < max_entries && first + n <= node->disk.last)
	{
		const struct raft_entry *entry = &node->disk.entries[first + n];

		if (n > 0 && bytes + entry->length > max_bytes)
			break;
		bytes += entry->length;
		entries[n++] = *entry;
	}
	if (bytes > lent_bytes)
	{
		lent = realloc(lent, bytes);
		lent_bytes = bytes;
	}
	if (lent != NULL)
		memset(lent, 0xEE, lent_bytes);
	for (i = 0, bytes = 0; i < n; i++)
	{
		if (entries[i].length == 0)
			continue;
		memcpy(lent + bytes, entries[i].data, entries[i].length);
		entries[i].data = lent + bytes;
		bytes += entries[i].length;
	}
	node->entries_read_back += (int) n;
	*n_read = n;
	return RAFT_OK;
}

static int
fixture_read_snapshot(void *context, raft_index index, raft_u64 offset,
					  size_t max_bytes, const unsigned char **data, size_t *n_read,
					  raft_u64 *total)
{
	Node	   *node = context;

	if (node->disk.meta.index != index)
		return RAFT_E_COMPACTED;
	*total = node->disk.snapshot.length;
	*n_read = offset >= *total ? 0 : *total - offset;
	if (*n_read > max_bytes)
		*n_read = max_bytes;
	*data = node->disk.snapshot.data + offset;
	return RAFT_OK;
}

/* ----------------------------------------------------------------
 * Updates
 * ----------------------------------------------------------------
 */

static void
load_state_machine(Cluster *cluster, Node *node, const struct raft_snapshot_meta *meta)
{
	node->installs++;
	node->applied = meta->index;
	node->state = blob_state(&node->incoming);
	check_snapshot_bytes(cluster, node, meta);
}

static void
note_reads(Cluster *cluster, Node *node, const struct raft_update *update)
{
	size_t		i;

	for (i = 0; i < update->n_reads; i++)
	{
		ReadRecord *record = cluster_find_read(cluster, node->id, update->reads[i].token);

		if (record == NULL || record->done)
		{
			cluster_fail(cluster, "read %lu of %u answered twice or never asked",
						 update->reads[i].token, node->id);
			continue;
		}
		record->done = 1;
		record->error = update->reads[i].error;
		record->index = update->reads[i].index;
		record->answered = cluster->now;
		if (record->error == RAFT_OK && record->index < record->floor)
			cluster_fail(cluster, "stale read at %u: %lu, committed was %lu", node->id,
						 record->index, record->floor);
	}
}

static void
take_updates(Cluster *cluster, Node *node)
{
	struct raft_update update;
	int			rounds = 0;

	check_node(cluster, node);
	while (raft_take_update(node->raft, &update))
	{
		size_t		i;

		if (++rounds > 10000)
		{
			cluster_fail(cluster, "member %u: updates without end", node->id);
			return;
		}
		node->notices |= update.notices;
		for (i = 0; i < update.n_messages; i++)
			send_packet(cluster, copy_packet(&update.messages[i]));
		if (update.chunk != NULL)
		{
			node->chunks++;
			blob_set(&node->incoming, update.chunk->offset, update.chunk->data,
					 update.chunk->length);
		}
		if (update.epoch != 0)
			keep_write(cluster, node, &update);
		else if (update.n_entries > 0 || update.n_messages_after > 0 || update.install != NULL)
			cluster_fail(cluster, "something to write without an epoch");
		if (update.install != NULL)
			load_state_machine(cluster, node, update.install);
		for (i = 0; i < update.n_apply; i++)
			apply_entry(cluster, node, &update.apply[i]);
		note_reads(cluster, node, &update);
		if (update.n_apply > 0)
		{
			node->apply_done = update.apply[update.n_apply - 1].index;
			if (!node->hold_apply)
				raft_applied(node->raft, node->apply_done);
		}
		check_node(cluster, node);
	}
}

void
cluster_flush(Cluster *cluster, raft_id id)
{
	if (cluster->nodes[id].raft != NULL)
		take_updates(cluster, &cluster->nodes[id]);
}

static void
keep_write(Cluster *cluster, Node *node, const struct raft_update *update)
{
	Write	   *write = calloc(1, sizeof(*write));
	Write	  **end = &node->writes;
	size_t		i;

	write->epoch = update->epoch;
	write->due = cluster->now + node->disk_delay;
	write->truncate_from = update->truncate_from;
	if (update->chunk != NULL)
	{
		write->has_chunk = 1;
		write->chunk = *update->chunk;
		write->chunk.data = copy_bytes(update->chunk->data, update->chunk->length);
	}
	if (update->install != NULL)
	{
		write->has_install = 1;
		write->install = *update->install;
		write->install_keeps_log = update->install_keeps_log;
	}
	write->hard_state_changed = update->hard_state_changed;
	write->hard_state = update->hard_state;
	write->n_entries = update->n_entries;
	write->entries = copy_entries(update->entries, update->n_entries);
	for (i = 0; i < update->n_messages_after; i++)
		append_packet(&write->after, copy_packet(&update->messages_after[i]));
	while (*end != NULL)
		end = &(*end)->next;
	*end = write;
}

static void
disk_write(Cluster *cluster, Node *node, const Write *write)
{
	Disk	   *disk = &node->disk;
	size_t		i;

	if (write->truncate_from > 0)
	{
		if (write->truncate_from <= disk->start || write->truncate_from > disk->last + 1)
			cluster_fail(cluster, "member %u truncates from %lu, log is (%lu, %lu]", node->id,
						 write->truncate_from, disk->start, disk->last);
		disk->last = write->truncate_from - 1;
	}
	if (write->has_chunk)
		blob_set(&disk->incoming, write->chunk.offset, write->chunk.data, write->chunk.length);
	if (write->has_install)
	{
		disk->meta = write->install;
		blob_set(&disk->snapshot, 0, disk->incoming.data, disk->incoming.length);
		if (!write->install_keeps_log)
		{
			disk->start = write->install.index;
			disk->start_term = write->install.term;
			disk->last = disk->start;
		}
	}
	if (write->hard_state_changed)
		disk->hard_state = write->hard_state;
	for (i = 0; i < write->n_entries; i++)
	{
		if (write->entries[i].index != disk->last + 1)
			cluster_fail(cluster, "member %u writes entry %lu after %lu", node->id,
						 write->entries[i].index, disk->last);
		disk_append(disk, &write->entries[i]);
	}
}

static void
persist_first(Cluster *cluster, Node *node)
{
	Write	   *write = node->writes;

	node->writes = write->next;
	disk_write(cluster, node, write);
	while (write->after != NULL)
	{
		Packet	   *packet = write->after;

		write->after = packet->next;
		send_packet(cluster, packet);
	}
	raft_tick(node->raft, cluster->now);
	raft_persisted(node->raft, write->epoch);
	free_write(write);
	take_updates(cluster, node);
}

void
cluster_persist_one(Cluster *cluster, raft_id id)
{
	if (cluster->nodes[id].writes != NULL)
		persist_first(cluster, &cluster->nodes[id]);
}

void
cluster_persist(Cluster *cluster, raft_id id)
{
	while (cluster->nodes[id].writes != NULL)
		persist_first(cluster, &cluster->nodes[id]);
}

/* ----------------------------------------------------------------
 * Network
 * ----------------------------------------------------------------
 */

static void
schedule(Cluster *cluster, Packet *packet)
{
	Packet	  **place = &cluster->packets;

	packet->due = cluster->now + cluster->latency + cluster_random(cluster, cluster->jitter + 1);
	while (*place != NULL && (*place)->due <= packet->due)
		place = &(*place)->next;
	packet->next = *place;
	*place = packet;
}

void
send_packet(Cluster *cluster, Packet *packet)
{
	const struct raft_message *message = &packet->message;
	Verdict		verdict = DELIVER;
	size_t		i;

	check_promise(cluster, message);
	cluster->sent[message->type]++;
	for (i = 0; i < message->n_entries; i++)
		cluster->bytes_sent += message->entries[i].length;
	if (message->to >= FIXTURE_NODES || cluster->cut[message->from][message->to])
		verdict = DROP;
	else if (cluster->filter != NULL)
		verdict = cluster->filter(cluster, message);
	if (verdict == DELIVER && cluster->loss_percent > 0 &&
		cluster_random(cluster, 100) < (raft_u64) cluster->loss_percent)
		verdict = DROP;
	if (verdict == DROP)
		free_packet(packet);
	else if (verdict == HOLD)
		append_packet(&cluster->held, packet);
	else
	{
		if (cluster->duplicate_percent > 0 &&
			cluster_random(cluster, 100) < (raft_u64) cluster->duplicate_percent)
			schedule(cluster, copy_packet(message));
		schedule(cluster, packet);
	}
}

void
cluster_inject(Cluster *cluster, const struct raft_message *message)
{
	schedule(cluster, copy_packet(message));
}

void
cluster_release(Cluster *cluster)
{
	while (cluster->held != NULL)
	{
		Packet	   *packet = cluster->held;

		cluster->held = packet->next;
		schedule(cluster, packet);
	}
}

void
cluster_drop_held(Cluster *cluster)
{
	free_packets(&cluster->held);
}

void
cluster_cut(Cluster *cluster, raft_id a, raft_id b)
{
	cluster->cut[a][b] = 1;
	cluster->cut[b][a] = 1;
}

void
cluster_isolate(Cluster *cluster, raft_id id)
{
	raft_id		other;

	for (other = 1; other < FIXTURE_NODES; other++)
		if (other != id)
			cluster_cut(cluster, id, other);
}

void
cluster_heal(Cluster *cluster)
{
	memset(cluster->cut, 0, sizeof(cluster->cut));
}

/* ----------------------------------------------------------------
 * Time
 * ----------------------------------------------------------------
 */

static void
deliver(Cluster *cluster, Packet *packet)
{
	Node	   *node = &cluster->nodes[packet->message.to];

	if (node->raft != NULL && node->paused)
	{
		append_packet(&cluster->held, packet);
		return;
	}
	if (node->raft != NULL)
	{
		raft_tick(node->raft, cluster->now);
		(void) raft_receive(node->raft, &packet->message);
		take_updates(cluster, node);
	}
	free_packet(packet);
}

/* The next event not later than `end`: 0 when there is none. */
static int
run_event(Cluster *cluster, raft_time end)
{
	raft_time	best = end;
	Node	   *timer = NULL;
	Node	   *disk = NULL;
	int			i;

	for (i = 1; i < FIXTURE_NODES; i++)
	{
		Node	   *node = &cluster->nodes[i];

		if (node->raft == NULL || node->paused)
			continue;
		if (node->writes != NULL && !node->hold_disk && node->writes->due <= best)
		{
			best = node->writes->due;
			disk = node;
			timer = NULL;
		}
		if (raft_next_deadline(node->raft) < best)
		{
			best = raft_next_deadline(node->raft);
			timer = node;
			disk = NULL;
		}
	}
	if (cluster->packets != NULL && cluster->packets->due <= best)
	{
		Packet	   *packet = cluster->packets;

		cluster->packets = packet->next;
		if (packet->due > cluster->now)
			cluster->now = packet->due;
		deliver(cluster, packet);
		return 1;
	}
	if (best > cluster->now)
		cluster->now = best;
	if (disk != NULL)
		persist_first(cluster, disk);
	else if (timer != NULL)
	{
		raft_tick(timer->raft, cluster->now);
		take_updates(cluster, timer);
		if (raft_next_deadline(timer->raft) <= cluster->now)
			cluster_fail(cluster, "member %u: a deadline that does not pass", timer->id);
	}
	return disk != NULL || timer != NULL;
}

int
cluster_run_until(Cluster *cluster, Condition condition, void *argument,
				  raft_time milliseconds)
{
	raft_time	end = cluster->now + milliseconds;

	for (;;)
	{
		if (condition != NULL && condition(cluster, argument))
			return 1;
		if (cluster->failures > 20 || !run_event(cluster, end))
			break;
	}
	if (cluster->now < end)
		cluster->now = end;
	return condition != NULL && condition(cluster, argument);
}

void
cluster_run(Cluster *cluster, raft_time milliseconds)
{
	(void) cluster_run_until(cluster, NULL, NULL, milliseconds);
}

static int
has_leader(Cluster *cluster, void *argument)
{
	(void) argument;
	return cluster_leader(cluster) != 0;
}

raft_id
cluster_wait_leader(Cluster *cluster, raft_time milliseconds)
{
	(void) cluster_run_until(cluster, has_leader, NULL, milliseconds);
	return cluster_leader(cluster);
}

static int
all_applied(Cluster *cluster, void *argument)
{
	int			i;

	for (i = 1; i < FIXTURE_NODES; i++)
		if (cluster->nodes[i].raft != NULL && !cluster->nodes[i].paused &&
			cluster->nodes[i].applied < *(raft_index *) argument)
			return 0;
	return 1;
}

/* All members that run. */
int
cluster_wait_applied(Cluster *cluster, raft_index index, raft_time milliseconds)
{
	return cluster_run_until(cluster, all_applied, &index, milliseconds);
}
