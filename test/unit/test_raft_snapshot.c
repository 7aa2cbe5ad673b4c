/*-------------------------------------------------------------------------
 *
 * test_raft_snapshot.c
 *	  Snapshots and compaction (diss. chapter 5).
 *
 * The fixture compares every installed snapshot byte by byte with what its
 * taker wrote, and the state behind it with that of all others.
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

static Cluster *
small_chunks(int n, raft_u64 seed, size_t snapshot_bytes)
{
	Cluster    *cluster = cluster_create(seed);

	cluster->params.snapshot_chunk_bytes = CHUNK;
	cluster->snapshot_bytes = snapshot_bytes;
	cluster_start(cluster, n);
	return cluster;
}

static raft_index
propose_many(Cluster *cluster, raft_id leader, int n)
{
	raft_index	index = 0;

	while (n-- > 0)
		if (cluster_propose(cluster, leader, "entry", &index) != RAFT_OK)
			ok(0, "proposal");
	cluster_run(cluster, 100);
	return index;
}

/* Crash a follower, go on without it, compact: it needs a snapshot. */
static raft_id
leave_behind(Cluster *cluster, raft_id leader, raft_id behind)
{
	cluster_crash(cluster, behind);
	(void) propose_many(cluster, leader, 50);
	if (cluster_snapshot(cluster, leader, 0) != RAFT_OK)
		ok(0, "snapshot");
	return behind;
}

static void
late_joiner(void)
{
	Cluster    *cluster = small_chunks(3, 1, 1050);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_add(4, RAFT_VOTER);
	raft_index	index;
	raft_index	last;
	struct raft_status *status;

	(void) propose_many(cluster, leader, 100);
	is_u64(cluster_snapshot(cluster, leader, 10), RAFT_OK, "a snapshot");
	status = cluster_status(cluster, leader);
	is_u64(status->first_index, status->snapshot_index - 10 + 1, "retained entries stay");
	(void) propose_many(cluster, leader, 5);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add");
	cluster_start_blank(cluster, 4, index);
	ok(cluster_wait_applied(cluster, index, T), "a late joiner gets snapshot and log");
	is_u64(cluster->nodes[4].chunks, 11, "in chunks");
	is_u64(cluster->nodes[4].installs, 1, "installed once");
	cluster_run(cluster, T);
	last = propose_many(cluster, leader, 1);
	ok(cluster_wait_applied(cluster, last, 100), "and follows");
	is_u64(raft_config_find(raft_get_config(cluster->nodes[leader].raft), 4)->role,
		   RAFT_VOTER, "promoted");
	cluster_crash(cluster, 4);
	ok(cluster_restart(cluster, 4) == RAFT_OK, "a restart finds the snapshot");
	ok(cluster_wait_applied(cluster, last, T), "and the log behind it");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static int	lose_every;

static Verdict
lose_some_chunks(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	if (message->type != RAFT_MSG_SNAPSHOT && message->type != RAFT_MSG_SNAPSHOT_REPLY)
		return DELIVER;
	return ++lose_every % 5 == 0 ? DROP : DELIVER;
}

static void
resumes_after_loss(void)
{
	Cluster    *cluster = small_chunks(3, 2, 2000);
	raft_id		leader = cluster_elect(cluster);
	raft_id		behind = leave_behind(cluster, leader, other_than(leader, 0));
	int			chunks;
	raft_time	begin;

	cluster->filter = lose_some_chunks;
	lose_every = 0;
	ok(cluster_restart(cluster, behind) == RAFT_OK, "back");
	ok(cluster_wait_applied(cluster, cluster->max_commit, 20 * T), "complete in spite of losses");
	is_u64(cluster->nodes[behind].chunks, 20, "each chunk was written once");
	NO_RULE_BROKEN(cluster);

	/* a broken connection in the middle */
	cluster->filter = NULL;
	(void) leave_behind(cluster, leader, behind);
	ok(cluster_restart(cluster, behind) == RAFT_OK, "back");
	chunks = cluster->nodes[behind].chunks;
	begin = cluster->now;
	while (cluster->nodes[behind].chunks < chunks + 7 && cluster->now < begin + 5 * T)
		cluster_run(cluster, 1);
	raft_peer_lost(cluster->nodes[leader].raft, behind);
	cluster_cut(cluster, leader, behind);
	cluster_run(cluster, 200);
	cluster_heal(cluster);
	raft_peer_found(cluster->nodes[leader].raft, behind);
	cluster_flush(cluster, leader);
	ok(cluster_wait_applied(cluster, cluster->max_commit, T), "complete after the connection broke");
	is_u64(cluster->nodes[behind].chunks, (raft_u64) chunks + 20, "it went on where it stopped");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
duplicates_and_old_chunks(void)
{
	raft_u64	seed;
	int			complete = 0;

	for (seed = 1; seed <= 10; seed++)
	{
		Cluster    *cluster = small_chunks(3, seed, 1500);
		raft_id		leader = cluster_elect(cluster);
		raft_id		behind = leave_behind(cluster, leader, other_than(leader, 0));
		int			i;

		cluster->duplicate_percent = 60;
		cluster->jitter = 25;
		cluster->loss_percent = 5;
		cluster->nodes[behind].disk_delay = 3;
		if (cluster_restart(cluster, behind) != RAFT_OK)
			ok(0, "restart");
		for (i = 0; i < 10; i++)
		{
			/* a newer snapshot in the middle of the transfer */
			cluster_run(cluster, 60);
			leader = cluster_leader(cluster);
			if (leader != 0 && i % 3 == 0)
			{
				(void) cluster_propose(cluster, leader, "more", NULL);
				(void) cluster_snapshot(cluster, leader, 0);
			}
		}
		cluster->loss_percent = 0;
		if (cluster_wait_applied(cluster, cluster->max_commit, 20 * T))
			complete++;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	is_u64(complete, 10, "10 transfers with duplicates, reordering and newer snapshots");
}

static void
rate_limit(void)
{
	Cluster    *cluster = cluster_create(3);
	raft_id		leader;
	raft_id		behind;
	raft_time	begin;

	cluster->params.snapshot_chunk_bytes = CHUNK;
	cluster->params.snapshot_bytes_per_second = 1000;
	cluster->snapshot_bytes = 2000;
	cluster_start(cluster, 3);
	leader = cluster_elect(cluster);
	behind = leave_behind(cluster, leader, other_than(leader, 0));
	ok(cluster_restart(cluster, behind) == RAFT_OK, "back");
	begin = cluster->now;
	ok(cluster_wait_applied(cluster, cluster->max_commit, 10 * T), "complete");
	ok(cluster->now - begin > 1800 && cluster->now - begin < 3000,
	   "2000 bytes at 1000 a second took %lu ms", cluster->now - begin);
	is_u64(cluster_leader(cluster), leader, "nobody missed a heartbeat meanwhile");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static Verdict
only_snapshots(Cluster *cluster, const struct raft_message *message)
{
	return message->type == RAFT_MSG_APPEND && message->to == *(raft_id *) cluster->filter_data ?
		HOLD : DELIVER;
}

/* diss. fig. 5.3: entries behind a snapshot that match are kept */
static void
matching_entries_are_kept(void)
{
	Cluster    *cluster = small_chunks(3, 4, 300);
	raft_id		leader = cluster_elect(cluster);
	raft_id		follower = other_than(leader, 0);
	raft_index	last = propose_many(cluster, leader, 20);
	struct raft_snapshot_meta meta;
	struct raft_message message;
	unsigned char data[64];
	raft_index	commit;

	/* the follower has entries that it does not know to be committed */
	cluster->filter = only_snapshots;
	cluster->filter_data = &follower;
	cluster_run(cluster, 10);
	cluster->filter = NULL;
	cluster_crash(cluster, follower);
	cluster->nodes[follower].disk.hard_state.commit = 1;
	cluster->filter = only_snapshots;
	ok(cluster_restart(cluster, follower) == RAFT_OK, "a follower that forgot the commit index");
	commit = cluster_status(cluster, follower)->commit_index;
	ok(commit < last - 5, "it knows of %lu", commit);
	memset(&message, 0, sizeof(message));
	memset(&meta, 0, sizeof(meta));
	meta.index = last - 5;
	(void) raft_term_at(cluster->nodes[leader].raft, meta.index, &meta.term);
	meta.config = *raft_get_config(cluster->nodes[leader].raft);
	memcpy(data, &cluster->applied[meta.index].state, 8);
	cluster->snapshot_bytes = 8;
	message.type = RAFT_MSG_SNAPSHOT;
	message.from = leader;
	message.to = follower;
	message.from_incarnation = message.to_incarnation = 1;
	message.term = cluster_status(cluster, leader)->term;
	message.snapshot = &meta;
	message.total = message.chunk_length = 8;
	message.chunk = data;
	message.flags = RAFT_FLAG_LAST_CHUNK;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 5);
	is_u64(cluster->nodes[follower].installs, 1, "the snapshot is installed");
	is_u64(cluster_status(cluster, follower)->last_index, last, "entries behind it are kept");
	cluster->filter = NULL;
	cluster_drop_held(cluster);
	ok(cluster_wait_applied(cluster, last, T), "and applied");

	/* the same again: older than what is committed */
	cluster_inject(cluster, &message);
	cluster_run(cluster, 10);
	is_u64(cluster->nodes[follower].installs, 1, "an old snapshot is not installed again");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* A divergent tail longer than the snapshot is thrown away by it. */
static void
conflicting_log_is_dropped(void)
{
	Cluster    *cluster = small_chunks(3, 5, 300);
	raft_id		leader = cluster_elect(cluster);
	raft_id		next;
	int			i;

	cluster_isolate(cluster, leader);
	for (i = 0; i < 200; i++)
		(void) cluster_propose(cluster, leader, "lost", NULL);
	cluster_run(cluster, 3 * T);
	next = cluster_leader(cluster);
	(void) propose_many(cluster, next, 50);
	is_u64(cluster_snapshot(cluster, next, 0), RAFT_OK, "snapshot");
	cluster_heal(cluster);
	ok(cluster_wait_applied(cluster, cluster->max_commit, 3 * T), "the old leader is brought up");
	is_u64(cluster->nodes[leader].installs, 1, "by the snapshot");
	cluster_crash(cluster, leader);
	ok(cluster_restart(cluster, leader) == RAFT_OK, "its disk is in order");
	ok(cluster_wait_applied(cluster, propose_many(cluster, next, 3), T), "it goes on");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* The snapshot carries a configuration; a change is on its way meanwhile. */
static void
during_membership_change(void)
{
	Cluster    *cluster = small_chunks(3, 6, 1000);
	raft_id		leader = cluster_elect(cluster);
	raft_id		behind = leave_behind(cluster, leader, other_than(leader, 0));
	struct raft_change change = change_add(4, RAFT_VOTER);
	raft_index	index;

	ok(cluster_restart(cluster, behind) == RAFT_OK, "back");
	cluster_run(cluster, 8);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add during the transfer");
	cluster_start_blank(cluster, 4, index);
	(void) propose_many(cluster, leader, 10);
	is_u64(cluster_snapshot(cluster, leader, 0), RAFT_OK, "another snapshot");
	ok(cluster_wait_applied(cluster, cluster->max_commit, 5 * T), "both are brought up");
	cluster_run(cluster, T);
	is_u64(raft_get_config(cluster->nodes[behind].raft)->n_members, 4,
		   "the member behind knows the new configuration");
	is_u64(raft_config_find(raft_get_config(cluster->nodes[4].raft), 4)->role, RAFT_VOTER,
		   "and the new one is promoted");

	/* a snapshot taken while the change before it is uncommitted has the old one */
	cluster_isolate(cluster, leader);
	change = change_remove(behind);
	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "an uncommitted change");
	is_u64(cluster_snapshot(cluster, leader, 0), RAFT_OK, "snapshot");
	ok(cluster->nodes[leader].disk.meta.config.index < index &&
	   cluster->nodes[leader].disk.meta.config.n_members == 4,
	   "a snapshot has the configuration at its index");
	cluster_run(cluster, 3 * T);
	cluster_heal(cluster);
	cluster_run(cluster, 3 * T);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
compaction_bounds(void)
{
	Cluster    *cluster = small_chunks(1, 7, 100);
	struct raft_snapshot_meta meta;
	struct raft_status *status;
	raft_index	kept;
	raft_index	last;

	(void) cluster_elect(cluster);
	last = propose_many(cluster, 1, 20);
	cluster->nodes[1].hold_apply = 1;
	(void) propose_many(cluster, 1, 1);
	is_u64(raft_snapshot_begin(cluster->nodes[1].raft, &meta), RAFT_E_UNAVAILABLE,
		   "no snapshot while entries are being applied");
	cluster->nodes[1].hold_apply = 0;
	raft_applied(cluster->nodes[1].raft, last + 1);
	cluster_flush(cluster, 1);
	is_u64(cluster_snapshot(cluster, 1, 1000), RAFT_OK, "snapshot, everything retained");
	is_u64(cluster_status(cluster, 1)->first_index, 1, "nothing forgotten");
	meta = cluster->nodes[1].disk.meta;
	is_u64(raft_compact(cluster->nodes[1].raft, &meta, 0, &kept), RAFT_OK, "the same again");
	is_u64(kept, 1, "changes nothing");
	meta.index = last + 100;
	is_u64(raft_compact(cluster->nodes[1].raft, &meta, 0, &kept), RAFT_E_INVALID,
		   "not beyond what is applied");
	(void) propose_many(cluster, 1, 5);
	is_u64(cluster_snapshot(cluster, 1, 0), RAFT_OK, "snapshot, nothing retained");
	status = cluster_status(cluster, 1);
	is_u64(status->first_index, status->snapshot_index + 1, "the log begins behind it");
	is_u64(status->last_index, status->snapshot_index, "and is empty");
	cluster_crash(cluster, 1);
	ok(cluster_restart(cluster, 1) == RAFT_OK, "restart from a snapshot alone");
	cluster_run(cluster, 50);
	is_u64(cluster_leader(cluster), 1, "leads again");
	(void) propose_many(cluster, 1, 3);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Crash of the receiver at every chunk. */
static void
crash_during_install(void)
{
	int			stop;

	for (stop = 1; stop <= 6; stop++)
	{
		Cluster    *cluster = small_chunks(3, 8, 500);
		raft_id		leader = cluster_elect(cluster);
		raft_id		behind = leave_behind(cluster, leader, other_than(leader, 0));
		raft_time	begin;

		cluster->nodes[behind].disk_delay = 2;
		if (cluster_restart(cluster, behind) != RAFT_OK)
			ok(0, "restart");
		begin = cluster->now;
		while (cluster->nodes[behind].chunks < stop && cluster->now < begin + T)
			cluster_run(cluster, 1);
		cluster_crash(cluster, behind);
		ok(cluster_restart(cluster, behind) == RAFT_OK, "crash at chunk %d", stop);
		ok(cluster_wait_applied(cluster, cluster->max_commit, 5 * T), "it starts over");
		NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
}

/* The leader changes in the middle; the next one has a snapshot of its own. */
static void
leader_changes_during_transfer(void)
{
	Cluster    *cluster = small_chunks(3, 9, 1000);
	raft_id		leader = cluster_elect(cluster);
	raft_id		behind = leave_behind(cluster, leader, other_than(leader, 0));
	raft_id		third = other_than(leader, behind);

	is_u64(cluster_snapshot(cluster, third, 0), RAFT_OK, "the other has one of its own");
	ok(cluster_restart(cluster, behind) == RAFT_OK, "back");
	cluster_run(cluster, 9);
	cluster_crash(cluster, leader);
	ok(cluster_wait_leader(cluster, 10 * T) == third, "another leader in the middle");
	ok(cluster_wait_applied(cluster, cluster->max_commit, 5 * T), "completes it");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* An answer to a chunk that was never sent must not count as installed. */
static void
stray_answer(void)
{
	Cluster    *cluster = small_chunks(3, 10, 500);
	raft_id		leader = cluster_elect(cluster);
	raft_id		behind = leave_behind(cluster, leader, other_than(leader, 0));
	raft_index	index = cluster_status(cluster, leader)->snapshot_index;
	struct raft_peer_status status;
	struct raft_message message;
	struct raft_snapshot_meta meta = cluster->nodes[leader].disk.meta;

	/* the file cannot be read for the moment: nothing is sent */
	cluster->nodes[leader].disk.meta.index = 0;
	ok(cluster_restart(cluster, behind) == RAFT_OK, "back");
	cluster_run(cluster, 300);
	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_SNAPSHOT_REPLY;
	message.from = behind;
	message.to = leader;
	message.from_incarnation = message.to_incarnation = 1;
	message.term = cluster_status(cluster, leader)->term;
	message.index = index;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 20);
	(void) raft_peer_status(cluster->nodes[leader].raft, behind, &status);
	is_u64(status.progress, RAFT_PROGRESS_SNAPSHOT, "it still needs a snapshot");
	ok(status.match_index < index, "and has not acknowledged it");
	cluster->nodes[leader].disk.meta = meta;
	ok(cluster_wait_applied(cluster, cluster->max_commit, 3 * T), "which comes when it can be read");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* The last chunk comes, those between do not. */
static void
holes_are_not_installed(void)
{
	Cluster    *cluster = small_chunks(3, 11, 300);
	raft_id		leader = cluster_elect(cluster);
	raft_id		behind = leave_behind(cluster, leader, other_than(leader, 0));
	Disk	   *disk = &cluster->nodes[leader].disk;
	struct raft_message message;
	int			chunk;

	cluster_isolate(cluster, behind);
	ok(cluster_restart(cluster, behind) == RAFT_OK, "back");
	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_SNAPSHOT;
	message.from = leader;
	message.to = behind;
	message.from_incarnation = message.to_incarnation = 1;
	message.term = cluster_status(cluster, leader)->term;
	message.snapshot = &disk->meta;
	message.total = 300;
	message.chunk_length = CHUNK;
	for (chunk = 0; chunk < 3; chunk += 2)
	{
		message.offset = (raft_u64) chunk * CHUNK;
		message.chunk = disk->snapshot.data + message.offset;
		message.flags = chunk == 2 ? RAFT_FLAG_LAST_CHUNK : 0;
		cluster_inject(cluster, &message);
		cluster_run(cluster, 5);
	}
	is_u64(cluster->nodes[behind].installs, 0, "a snapshot with a hole is not installed");
	is_u64(cluster->nodes[behind].chunks, 1, "nor is what lies behind the hole written");
	message.offset = CHUNK;
	message.flags = 0;
	message.snapshot = &disk->meta;
	message.total = 200;		/* another snapshot, or a lie */
	message.flags = RAFT_FLAG_LAST_CHUNK;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 5);
	is_u64(cluster->nodes[behind].installs, 0, "nor one of another size");
	cluster_heal(cluster);
	ok(cluster_wait_applied(cluster, cluster->max_commit, 3 * T), "the whole one is");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* What it installed is known to match: nothing has to be probed. */
static void
replicates_at_once_after_it(void)
{
	Cluster    *cluster = small_chunks(3, 12, 500);
	raft_id		leader = cluster_elect(cluster);
	raft_id		behind = leave_behind(cluster, leader, other_than(leader, 0));
	struct raft_peer_status status;
	raft_time	begin;

	(void) propose_many(cluster, leader, 3);
	ok(cluster_restart(cluster, behind) == RAFT_OK, "back");
	begin = cluster->now;
	do
	{
		cluster_run(cluster, 1);
		(void) raft_peer_status(cluster->nodes[leader].raft, behind, &status);
	} while (status.progress != RAFT_PROGRESS_SNAPSHOT && cluster->now < begin + T);
	is_u64(status.progress, RAFT_PROGRESS_SNAPSHOT, "it gets a snapshot");
	while (status.progress == RAFT_PROGRESS_SNAPSHOT && cluster->now < begin + 5 * T)
	{
		cluster_run(cluster, 1);
		(void) raft_peer_status(cluster->nodes[leader].raft, behind, &status);
	}
	is_u64(status.progress, RAFT_PROGRESS_REPLICATE, "then the log, without a probe");
	ok(cluster_wait_applied(cluster, cluster->max_commit, T), "to its end");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Index 0 is before the first entry: it has no term and cannot be a snapshot's. */
static void
impossible_positions(void)
{
	Cluster    *cluster = small_chunks(3, 13, 100);
	raft_id		leader = cluster_elect(cluster);
	raft_id		follower = other_than(leader, 0);
	struct raft *raft = cluster->nodes[follower].raft;
	struct raft_snapshot_meta meta;
	struct raft_message message;
	unsigned char data[8] = {0};

	memset(&message, 0, sizeof(message));
	memset(&meta, 0, sizeof(meta));
	message.type = RAFT_MSG_APPEND;
	message.from = leader;
	message.to = follower;
	message.from_incarnation = message.to_incarnation = 1;
	message.term = cluster_status(cluster, leader)->term;
	is_u64(raft_receive(raft, &message), RAFT_OK, "an append behind nothing");
	message.log_term = 1;
	is_u64(raft_receive(raft, &message), RAFT_E_INVALID, "index 0 has no term");

	message.type = RAFT_MSG_SNAPSHOT;
	message.log_term = 0;
	message.snapshot = &meta;
	message.chunk = data;
	message.total = message.chunk_length = sizeof(data);
	message.flags = RAFT_FLAG_LAST_CHUNK;
	meta.index = 1;
	meta.term = 1;
	meta.config = *raft_get_config(raft);
	meta.config.index = 0;
	is_u64(raft_receive(raft, &message), RAFT_OK, "a snapshot at index 1");
	meta.index = 0;
	is_u64(raft_receive(raft, &message), RAFT_E_INVALID, "there is none at index 0");
	cluster_flush(cluster, follower);
	cluster_run(cluster, 100);
	is_u64(cluster->nodes[follower].installs, 0, "neither is installed");
	is_u64(cluster_leader(cluster), leader, "all goes on");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static Verdict
hold_installed(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	return message->type == RAFT_MSG_SNAPSHOT_REPLY ? HOLD : DELIVER;
}

/* Until the leader hears of it, the entry behind it has gone. */
static void
overtaken_by_a_newer_one(void)
{
	Cluster    *cluster = small_chunks(3, 14, 90);
	raft_id		leader = cluster_elect(cluster);
	raft_id		behind = leave_behind(cluster, leader, other_than(leader, 0));

	cluster->filter = hold_installed;
	ok(cluster_restart(cluster, behind) == RAFT_OK, "back");
	cluster_run(cluster, 200);
	is_u64(cluster->nodes[behind].installs, 1, "a snapshot is installed");
	(void) propose_many(cluster, leader, 20);
	is_u64(cluster_snapshot(cluster, leader, 0), RAFT_OK, "and a newer one taken");
	cluster->filter = NULL;
	cluster_release(cluster);
	ok(cluster_wait_applied(cluster, cluster->max_commit, T), "it gets this one, too");
	is_u64(cluster->nodes[behind].installs, 2, "for want of the entries between");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

int
main(void)
{
	holes_are_not_installed();
	late_joiner();
	resumes_after_loss();
	duplicates_and_old_chunks();
	rate_limit();
	matching_entries_are_kept();
	conflicting_log_is_dropped();
	during_membership_change();
	compaction_bounds();
	crash_during_install();
	leader_changes_during_transfer();
	stray_answer();
	replicates_at_once_after_it();
	impossible_positions();
	overtaken_by_a_newer_one();
	return tap_done();
}
