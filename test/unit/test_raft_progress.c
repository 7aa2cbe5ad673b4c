/*-------------------------------------------------------------------------
 *
 * test_raft_progress.c
 *	  What a leader knows of one follower, message by message: late and double
 *	  answers, broken connections, chunks of a snapshot.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout */
#define CHUNK 100				/* bytes */

static raft_id leader;
static raft_id peer;			/* plays what the test says */
static unsigned long appends;	/* to it */
static unsigned long chunks;
static raft_u64 last_offset;
static raft_index hint = 1;		/* in rejects */

/* The leader and the third member are a quorum; what the peer is sent is seen. */
static Verdict
watch_peer(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	if (message->to == peer && message->type == RAFT_MSG_APPEND)
		appends++;
	if (message->to == peer && message->type == RAFT_MSG_SNAPSHOT)
	{
		chunks++;
		last_offset = message->offset;
	}
	return message->to == peer || message->from == peer ? DROP : DELIVER;
}

static Cluster *
begin(raft_u64 seed)
{
	Cluster    *cluster = cluster_create(seed);

	cluster->params.snapshot_chunk_bytes = CHUNK;
	cluster->snapshot_bytes = 300;
	cluster_start(cluster, 3);
	leader = cluster_elect(cluster);
	peer = other_than(leader, 0);
	cluster->filter = watch_peer;
	return cluster;
}

static struct raft_peer_status *
status_of_peer(Cluster *cluster)
{
	static struct raft_peer_status status;

	(void) raft_peer_status(cluster->nodes[leader].raft, peer, &status);
	return &status;
}

static void
answer(Cluster *cluster, int type, raft_index index, int reject, raft_u64 offset)
{
	struct raft_message message;

	memset(&message, 0, sizeof(message));
	message.type = type;
	message.from = peer;
	message.to = leader;
	message.from_incarnation = message.to_incarnation = 1;
	message.term = cluster_status(cluster, leader)->term;
	message.index = index;
	message.reject = reject;
	message.offset = offset;
	message.hint_index = reject ? hint : 0;
	message.hint_term = reject ? message.term : 0;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 2);
}

/* ----------------------------------------------------------------
 * Answers
 * ----------------------------------------------------------------
 */
static void
late_rejects(void)
{
	Cluster    *cluster = begin(1);
	raft_index	match;
	int			i;

	for (i = 0; i < 5; i++)
		(void) cluster_propose(cluster, leader, "x", NULL);
	cluster_run(cluster, 20);
	match = status_of_peer(cluster)->match_index;
	answer(cluster, RAFT_MSG_APPEND_REPLY, match - 1, 1, 0);
	is_u64(status_of_peer(cluster)->progress, RAFT_PROGRESS_REPLICATE,
		   "a reject of what was acknowledged since is late");
	is_u64(status_of_peer(cluster)->match_index, match, "and takes nothing back");

	answer(cluster, RAFT_MSG_APPEND_REPLY, match + 2, 1, 0);
	is_u64(status_of_peer(cluster)->progress, RAFT_PROGRESS_PROBE, "one of what was not falls back");
	/* messages overtaken by one another must not send the window each time */
	answer(cluster, RAFT_MSG_APPEND_REPLY, match + 2, 0, 0);
	is_u64(status_of_peer(cluster)->progress, RAFT_PROGRESS_REPLICATE, "it goes on");
	answer(cluster, RAFT_MSG_APPEND_REPLY, match + 4, 1, 0);
	is_u64(status_of_peer(cluster)->progress, RAFT_PROGRESS_REPLICATE, "no second fall at once");
	cluster_run(cluster, cluster->params.heartbeat_interval_ms);
	answer(cluster, RAFT_MSG_APPEND_REPLY, match + 4, 1, 0);
	is_u64(status_of_peer(cluster)->progress, RAFT_PROGRESS_PROBE, "but later");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Each answer to a probe counts once: the one before may come again. */
static void
rejects_of_probes(void)
{
	Cluster    *cluster = begin(7);
	raft_index	match;
	int			i;

	cluster->filter = NULL;
	for (i = 0; i < 5; i++)
		(void) cluster_propose(cluster, leader, "x", NULL);
	cluster_run(cluster, 20);
	cluster->filter = watch_peer;
	match = status_of_peer(cluster)->match_index;
	hint = match - 1;
	answer(cluster, RAFT_MSG_APPEND_REPLY, match, 1, 0);
	is_u64(status_of_peer(cluster)->match_index, 0, "it has lost what it had acknowledged");
	is_u64(status_of_peer(cluster)->next_index, match, "and is probed from its hint on");
	hint = 1;
	answer(cluster, RAFT_MSG_APPEND_REPLY, match, 1, 0);
	is_u64(status_of_peer(cluster)->next_index, match, "an answer that is not to this probe is late");
	answer(cluster, RAFT_MSG_APPEND_REPLY, match - 1, 1, 0);
	is_u64(status_of_peer(cluster)->next_index, 2, "the one that is counts");
	cluster_destroy(cluster);
}

static void
broken_connection(void)
{
	Cluster    *cluster = begin(2);
	struct raft *raft = cluster->nodes[leader].raft;
	raft_index	match;
	unsigned long before;
	int			i;

	for (i = 0; i < 5; i++)
		(void) cluster_propose(cluster, leader, "x", NULL);
	cluster_run(cluster, 20);
	match = status_of_peer(cluster)->match_index;
	ok(status_of_peer(cluster)->next_index > match + 1, "messages are under way");
	before = appends;
	raft_tick(raft, cluster->now);
	raft_peer_lost(raft, peer);
	cluster_flush(cluster, leader);
	is_u64(status_of_peer(cluster)->progress, RAFT_PROGRESS_PROBE, "they are lost with the connection");
	is_u64(status_of_peer(cluster)->next_index, match + 1, "and will be sent again");
	for (i = 0; i < 5; i++)
		(void) cluster_propose(cluster, leader, "x", NULL);
	cluster_run(cluster, T);
	is_u64(appends, before, "not before it is connected again");
	raft_tick(raft, cluster->now);
	raft_peer_found(raft, peer);
	cluster_flush(cluster, leader);
	is_u64(appends, before + 1, "then at once");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* ----------------------------------------------------------------
 * Chunks
 * ----------------------------------------------------------------
 */

/* The peer asks for what the leader's log has no more; first chunk under way. */
static Cluster *
sending_snapshot(raft_u64 seed, raft_index *index)
{
	Cluster    *cluster = begin(seed);
	int			i;

	raft_peer_lost(cluster->nodes[leader].raft, peer);
	for (i = 0; i < 20; i++)
		(void) cluster_propose(cluster, leader, "x", NULL);
	cluster_run(cluster, 50);
	is_u64(cluster_snapshot(cluster, leader, 0), RAFT_OK, "a snapshot");
	*index = cluster_status(cluster, leader)->snapshot_index;
	chunks = 0;
	raft_tick(cluster->nodes[leader].raft, cluster->now);
	raft_peer_found(cluster->nodes[leader].raft, peer);
	cluster_flush(cluster, leader);
	cluster_run(cluster, 5);
	is_u64(status_of_peer(cluster)->progress, RAFT_PROGRESS_SNAPSHOT, "is sent");
	is_u64(chunks, 1, "one chunk at a time");
	return cluster;
}

static void
answers_to_chunks(void)
{
	raft_index	index;
	Cluster    *cluster = sending_snapshot(3, &index);

	answer(cluster, RAFT_MSG_SNAPSHOT_REPLY, index, 0, CHUNK);
	is_u64(chunks, 2, "its answer brings the next one");
	answer(cluster, RAFT_MSG_SNAPSHOT_REPLY, index, 0, CHUNK);
	is_u64(chunks, 2, "the same answer again does not");
	answer(cluster, RAFT_MSG_SNAPSHOT_REPLY, index, 0, 1000);
	is_u64(chunks, 2, "nor one beyond the end");
	is_u64(status_of_peer(cluster)->snapshot_offset, CHUNK, "which changes nothing");
	answer(cluster, RAFT_MSG_SNAPSHOT_REPLY, index - 1, 0, 300);
	is_u64(status_of_peer(cluster)->progress, RAFT_PROGRESS_SNAPSHOT,
		   "the end of another snapshot is not the end of this one");
	answer(cluster, RAFT_MSG_SNAPSHOT_REPLY, index, 1, 0);
	is_u64(chunks, 3, "one who knows nothing of it");
	is_u64(last_offset, 0, "gets it from the beginning");
	answer(cluster, RAFT_MSG_SNAPSHOT_REPLY, index, 0, 300);
	is_u64(status_of_peer(cluster)->match_index, index, "one who has it all is done");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
chunks_and_connections(void)
{
	raft_index	index;
	Cluster    *cluster = sending_snapshot(4, &index);
	struct raft *raft = cluster->nodes[leader].raft;

	answer(cluster, RAFT_MSG_SNAPSHOT_REPLY, index, 0, CHUNK);
	raft_tick(raft, cluster->now);
	raft_peer_lost(raft, peer);
	cluster_flush(cluster, leader);
	cluster_run(cluster, 2 * T);
	is_u64(chunks, 2, "nothing is sent without a connection");
	raft_tick(raft, cluster->now);
	raft_peer_found(raft, peer);
	cluster_flush(cluster, leader);
	is_u64(chunks, 3, "with a new one the lost chunk at once");
	is_u64(last_offset, CHUNK, "not those before it");
	raft_tick(raft, cluster->now);
	raft_peer_lost(raft, peer);
	raft_peer_found(raft, peer);
	cluster_flush(cluster, leader);
	is_u64(chunks, 4, "each time");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* The host is handed one chunk at a time; a second one may not take its place. */
static void
two_chunks_in_one_update(void)
{
	raft_index	index;
	Cluster    *cluster = sending_snapshot(5, &index);
	struct raft *raft = cluster->nodes[peer].raft;
	Disk	   *disk = &cluster->nodes[leader].disk;
	struct raft_snapshot_meta other = disk->meta;
	struct raft_message message;

	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_SNAPSHOT;
	message.from = leader;
	message.to = peer;
	message.from_incarnation = message.to_incarnation = 1;
	message.term = cluster_status(cluster, leader)->term;
	message.snapshot = &disk->meta;
	message.total = 300;
	message.chunk_length = CHUNK;
	message.chunk = disk->snapshot.data;
	raft_tick(raft, cluster->now);
	is_u64(raft_receive(raft, &message), RAFT_OK, "a chunk");
	message.offset = CHUNK;
	message.chunk = disk->snapshot.data + CHUNK;
	is_u64(raft_receive(raft, &message), RAFT_OK, "the next one before the host has taken the first");
	cluster_flush(cluster, peer);
	cluster_run(cluster, 5);
	is_u64(cluster->nodes[peer].chunks, 1, "the host gets the first");

	/* in place and size right, but of another snapshot */
	other.index++;
	message.snapshot = &other;
	is_u64(raft_receive(raft, &message), RAFT_OK, "one of another snapshot");
	cluster_flush(cluster, peer);
	cluster_run(cluster, 5);
	is_u64(cluster->nodes[peer].chunks, 1, "is not mixed in");
	message.snapshot = &disk->meta;
	is_u64(raft_receive(raft, &message), RAFT_OK, "the second again");
	cluster_flush(cluster, peer);
	cluster_run(cluster, 5);
	is_u64(cluster->nodes[peer].chunks, 2, "is the one that is next");
	cluster->filter = NULL;
	ok(cluster_wait_applied(cluster, index, 3 * T), "the snapshot is whole");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* What others have on their disks may be committed and applied before our own has it. */
static void
undurable_entries_are_not_forgotten(void)
{
	Cluster    *cluster = cluster_begin(3, 6);
	struct raft_snapshot_meta meta;
	struct raft_status *status;
	raft_index	kept;
	raft_index	index = 0;
	int			i;

	leader = cluster_elect(cluster);
	cluster->nodes[leader].hold_disk = 1;
	for (i = 0; i < 10; i++)
		(void) cluster_propose(cluster, leader, "x", &index);
	cluster_run(cluster, 50);
	status = cluster_status(cluster, leader);
	ok(status->applied_index == index && status->durable_index < index,
	   "applied, and not on the leader's disk");
	is_u64(raft_snapshot_begin(cluster->nodes[leader].raft, &meta), RAFT_OK, "a snapshot of it");
	is_u64(raft_compact(cluster->nodes[leader].raft, &meta, 0, &kept), RAFT_OK, "takes the log's place");
	is_u64(kept, status->durable_index + 1, "as far as the log is durable");
	ok(raft_check_invariants(cluster->nodes[leader].raft) == NULL, "no invariant is broken");
	cluster_destroy(cluster);
}

int
main(void)
{
	late_rejects();
	rejects_of_probes();
	broken_connection();
	answers_to_chunks();
	chunks_and_connections();
	two_chunks_in_one_update();
	undurable_entries_are_not_forgotten();
	return tap_done();
}
