/*-------------------------------------------------------------------------
 *
 * test_raft_replication.c
 *	  The log: durability before words, the commit rule, conflicts, flow
 *	  (diss. 3.5, 3.6, 10.2).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout */

/* diss. 3.5 and 10.2.1: told at once, not with the next heartbeat */
static void
commit_is_told_promptly(void)
{
	Cluster    *cluster = cluster_begin(3, 1);
	raft_id		leader = cluster_elect(cluster);
	raft_time	begin;
	raft_index	index;

	cluster_run(cluster, 105);	/* a heartbeat has just passed */
	begin = cluster->now;
	ok(cluster_propose(cluster, leader, "a", &index) == RAFT_OK, "proposed");
	ok(cluster_wait_applied(cluster, index, 50), "applied everywhere");
	ok(cluster->now - begin <= 10, "within %lu ms", cluster->now - begin);
	cluster_destroy(cluster);

	cluster = cluster_begin(3, 2);
	leader = cluster_elect(cluster);
	cluster->latency = 5;
	cluster->filter = NULL;
	ok(cluster_propose(cluster, leader, "b", &index) == RAFT_OK, "proposed");
	cluster_run(cluster, 16);
	ok(cluster->nodes[other_than(leader, 0)].applied >= index,
	   "followers apply after one and a half round trips");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* A leader counts itself only when it is durable; a follower answers then. */
static void
nothing_counts_before_it_is_durable(void)
{
	Cluster    *cluster = cluster_begin(3, 3);
	raft_id		leader = cluster_elect(cluster);
	raft_id		a = other_than(leader, 0);
	raft_id		b = other_than(leader, a);
	raft_index	before = cluster_status(cluster, leader)->commit_index;
	raft_index	index;

	cluster_isolate(cluster, b);
	cluster->nodes[leader].hold_disk = 1;
	ok(cluster_propose(cluster, leader, "x", &index) == RAFT_OK, "proposed");
	cluster_run(cluster, 300);
	is_u64(cluster->nodes[a].disk.last, index, "the follower has it on disk");
	is_u64(cluster_status(cluster, leader)->commit_index, before,
		   "the leader does not count what it has not on disk itself");
	cluster->nodes[leader].hold_disk = 0;
	cluster_run(cluster, 50);
	is_u64(cluster_status(cluster, leader)->commit_index, index, "then it does");

	cluster->nodes[a].hold_disk = 1;
	ok(cluster_propose(cluster, leader, "y", &index) == RAFT_OK, "proposed");
	cluster_run(cluster, 300);
	ok(cluster_status(cluster, leader)->commit_index < index,
	   "nothing commits while the follower writes");
	ok(cluster_status(cluster, leader)->state == RAFT_LEADER, "a slow disk is no dead member");
	cluster->nodes[a].hold_disk = 0;
	cluster_run(cluster, 100);
	is_u64(cluster_status(cluster, leader)->commit_index, index, "then it does");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Two of three may commit what the leader itself has not written yet. */
static void
followers_alone_commit(void)
{
	Cluster    *cluster = cluster_begin(3, 4);
	raft_id		leader = cluster_elect(cluster);
	raft_index	index;

	cluster->nodes[leader].hold_disk = 1;
	ok(cluster_propose(cluster, leader, "x", &index) == RAFT_OK, "proposed");
	cluster_run(cluster, 50);
	is_u64(cluster_status(cluster, leader)->commit_index, index,
		   "a majority without the leader commits");
	cluster_crash(cluster, leader);
	cluster_run(cluster, 3 * T);
	ok(cluster_restart(cluster, leader) == RAFT_OK, "the leader lost it and comes back");
	cluster->nodes[leader].hold_disk = 0;
	ok(cluster_wait_applied(cluster, index, 2 * T), "and gets it again");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/*
 * diss. fig. 3.7 ("figure 8"): an entry of an old term on a majority is not
 * committed by that, and may be overwritten.
 */
static void
figure_8(void)
{
	Cluster    *cluster = cluster_begin(5, 5);
	raft_id		s1 = cluster_elect(cluster);
	raft_id		s2 = other_than(s1, 0);
	raft_id		s5;
	raft_id		id;
	raft_index	old;
	raft_index	committed;

	/* (a) s1 appends an entry that only s2 gets */
	for (id = 1; id <= 5; id++)
		if (id != s1 && id != s2)
			cluster_cut(cluster, s1, id);
	ok(cluster_propose(cluster, s1, "two", &old) == RAFT_OK, "(a) an entry on s1 and s2 only");
	cluster_run(cluster, 20);
	is_u64(cluster->nodes[s2].disk.last, old, "s2 has it");

	/* (b) s5 leads without it and appends one that nobody gets */
	cluster_crash(cluster, s1);
	cluster_isolate(cluster, s2);
	s5 = cluster_elect(cluster);
	ok(s5 != 0 && s5 != s2, "(b) another leads");
	cluster_isolate(cluster, s5);
	ok(cluster_propose(cluster, s5, "three", NULL) == RAFT_OK, "and appends alone");
	cluster_run(cluster, 5);
	cluster_crash(cluster, s5);

	/* (c) s2 leads, spreads the old entry, whose own-term entry spreads to nobody */
	cluster_heal(cluster);
	ok(cluster_restart(cluster, s1) == RAFT_OK, "s1 is back");
	ok(cluster_wait_leader(cluster, 10 * T) != 0, "(c) a new leader");
	cluster_run(cluster, 2 * T);
	id = cluster_leader(cluster);
	committed = cluster_status(cluster, id)->commit_index;
	ok(committed >= cluster_status(cluster, id)->last_index, "its own entry commits what is before");
	ok(cluster_restart(cluster, s5) == RAFT_OK, "s5 is back");
	ok(cluster_wait_applied(cluster, committed, 5 * T), "all agree");

	/* the rule itself is checked by the fixture at every commit of a leader */
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Drops entries of a new term wherever they would be accepted. */
static Verdict
only_old_terms(Cluster *cluster, const struct raft_message *message)
{
	raft_term	term = *(raft_term *) cluster->filter_data;
	size_t		i;

	if (message->type != RAFT_MSG_APPEND)
		return DELIVER;
	for (i = 0; i < message->n_entries; i++)
		if (message->entries[i].term >= term &&
			cluster_status(cluster, message->to)->last_index >= message->index)
			return DROP;
	return DELIVER;
}

/* The heart of figure 8: only the old entry reaches a majority. */
static void
old_term_is_not_counted(void)
{
	Cluster    *cluster = cluster_create(6);
	raft_id		leader;
	raft_id		next;
	raft_index	old;
	raft_index	commit;
	raft_term	term;
	raft_id		id;

	cluster->params.max_message_entries = 1;
	cluster_start(cluster, 5);
	leader = cluster_elect(cluster);
	next = other_than(leader, 0);
	for (id = 1; id <= 5; id++)
		if (id != leader && id != next)
			cluster_cut(cluster, leader, id);
	commit = cluster_status(cluster, leader)->commit_index;
	ok(cluster_propose(cluster, leader, "old", &old) == RAFT_OK, "an entry on two of five");
	cluster_run(cluster, 20);
	term = cluster_status(cluster, leader)->term;
	cluster_crash(cluster, leader);
	id = other_than(leader, next);
	while (id == leader || id == next || cluster->nodes[id + 1].raft != NULL)
		id++;					/* nobody without it can win a majority now */
	cluster_crash(cluster, id);
	term++;
	cluster->filter = only_old_terms;
	cluster->filter_data = &term;
	is_u64(cluster_wait_leader(cluster, 10 * T), next, "the member that has it leads");
	cluster_run(cluster, T - 100);
	id = other_than(leader, next);
	if (cluster->nodes[id].raft == NULL)
		ok(0, "the wrong member was stopped");
	is_u64(cluster->nodes[id].disk.last, old, "the old entry is on a majority");
	is_u64(cluster_status(cluster, next)->commit_index, commit, "and is not committed by that");
	cluster->filter = NULL;
	cluster_run(cluster, 2 * T);
	ok(cluster->max_commit > old, "an entry of the own term commits both");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Divergent tails of several terms: one round trip for each term. */
static void
conflict_hints(void)
{
	Cluster    *cluster = cluster_begin(3, 7);
	raft_id		leader = cluster_elect(cluster);
	raft_id		next;
	unsigned long appends;
	int			i;

	cluster_isolate(cluster, leader);
	for (i = 0; i < 500; i++)
		if (cluster_propose(cluster, leader, "lost", NULL) != RAFT_OK)
			ok(0, "proposal");
	cluster_run(cluster, 3 * T);
	next = cluster_leader(cluster);
	ok(next != 0 && next != leader, "others go on");
	for (i = 0; i < 300; i++)
		if (cluster_propose(cluster, next, "kept", NULL) != RAFT_OK)
			ok(0, "proposal");
	cluster_run(cluster, 200);
	appends = cluster->sent[RAFT_MSG_APPEND_REPLY];
	cluster_heal(cluster);
	ok(cluster_wait_applied(cluster, cluster_status(cluster, next)->last_index, 3 * T),
	   "the old leader takes over the other history");
	appends = cluster->sent[RAFT_MSG_APPEND_REPLY] - appends;
	ok(appends < 60, "%lu answers for 500 conflicting entries", appends);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/*
 * ABA: the write of an entry completes after the entry was replaced by another
 * at the same index.
 */
static void
late_completion_of_overwritten_entries(void)
{
	Cluster    *cluster = cluster_begin(3, 8);
	raft_id		leader = cluster_elect(cluster);
	raft_id		a = other_than(leader, 0);
	raft_id		b = other_than(leader, a);
	raft_id		next;
	raft_index	index;
	Node	   *old = &cluster->nodes[leader];

	cluster_isolate(cluster, leader);
	old->hold_disk = 1;
	ok(cluster_propose(cluster, leader, "first", &index) == RAFT_OK, "written, not durable");
	cluster_run(cluster, 3 * T);
	next = cluster_leader(cluster);
	ok(next == a || next == b, "another leader");
	cluster_cut(cluster, a, b);
	cluster_heal(cluster);
	cluster_cut(cluster, a, b);
	ok(cluster_propose(cluster, next, "second", NULL) == RAFT_OK, "other entries at the same index");
	raft_peer_found(cluster->nodes[next].raft, leader);
	cluster_flush(cluster, next);
	cluster_run(cluster, 200);
	is_u64(cluster_status(cluster, leader)->term, cluster_status(cluster, next)->term,
		   "the old leader follows, nothing durable yet");
	cluster_persist_one(cluster, leader);
	ok(cluster_status(cluster, leader)->durable_index < index,
	   "the completion of the first write says nothing about its successor");
	cluster_run(cluster, 100);
	ok(cluster_status(cluster, next)->commit_index <= cluster->nodes[leader].disk.last ||
	   cluster->failures == 0, "no commit rests on it");
	old->hold_disk = 0;
	cluster_heal(cluster);
	ok(cluster_wait_applied(cluster, cluster_status(cluster, next)->last_index, 3 * T), "all agree");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
pipeline_and_its_bounds(void)
{
	Cluster    *cluster = cluster_create(9);
	raft_id		leader;
	raft_id		slow;
	struct raft_peer_status status;
	raft_index	index = 0;
	int			i;

	cluster->params.max_inflight_messages = 8;
	cluster->params.max_message_entries = 4;
	cluster->params.max_inflight_bytes = 4000;
	cluster_start(cluster, 3);
	leader = cluster_elect(cluster);
	slow = other_than(leader, 0);
	cluster->nodes[slow].hold_disk = 1;
	for (i = 0; i < 6; i++)
		if (cluster_propose(cluster, leader, "p", &index) != RAFT_OK)
			ok(0, "proposal");
	(void) raft_peer_status(cluster->nodes[leader].raft, slow, &status);
	ok(status.inflight_messages > 1, "messages are sent ahead of answers (%lu)",
	   (unsigned long) status.inflight_messages);
	for (i = 0; i < 200; i++)
		if (cluster_propose(cluster, leader, "p", &index) != RAFT_OK)
			ok(0, "proposal");
	cluster_run(cluster, 50);
	(void) raft_peer_status(cluster->nodes[leader].raft, slow, &status);
	is_u64(status.inflight_messages, 8, "as many as the window has");
	cluster->nodes[slow].hold_disk = 0;
	ok(cluster_wait_applied(cluster, index, 2 * T), "then everything goes through");
	cluster_run(cluster, 20);
	(void) raft_peer_status(cluster->nodes[leader].raft, slow, &status);
	is_u64(status.inflight_messages, 0, "and the window is empty");

	cluster->nodes[slow].hold_disk = 1;
	for (i = 0; i < 20; i++)
		if (cluster_propose_bytes(cluster, leader, 1000, &index) != RAFT_OK)
			ok(0, "proposal");
	(void) raft_peer_status(cluster->nodes[leader].raft, slow, &status);
	ok(status.inflight_bytes <= 5000, "bytes are bounded too (%lu)",
	   (unsigned long) status.inflight_bytes);
	cluster->nodes[slow].hold_disk = 0;
	ok(cluster_wait_applied(cluster, index, 2 * T), "then everything goes through");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Messages lost in the pipeline are found out and sent again. */
static void
lost_messages_are_sent_again(void)
{
	raft_u64	seed;
	int			complete = 0;

	for (seed = 1; seed <= 10; seed++)
	{
		Cluster    *cluster = cluster_begin(3, seed);
		raft_id		leader = cluster_elect(cluster);
		raft_index	index = 0;
		int			i;

		cluster->loss_percent = 30;
		cluster->duplicate_percent = 20;
		cluster->jitter = 30;
		for (i = 0; i < 100 && leader != 0; i++)
		{
			(void) cluster_propose(cluster, leader, "l", &index);
			cluster_run(cluster, 5);
			leader = cluster_leader(cluster);
		}
		cluster->loss_percent = 0;
		cluster_run(cluster, 2 * T);
		leader = cluster_leader(cluster);
		if (leader != 0 &&
			cluster_wait_applied(cluster, cluster_status(cluster, leader)->last_index, T))
			complete++;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	is_u64(complete, 10, "10 clusters with loss, duplicates and reordering are complete");
}

/* A follower whose cache is full of what it has not written takes a prefix. */
static void
full_follower_takes_a_prefix(void)
{
	Cluster    *cluster = cluster_create(10);
	raft_id		leader;
	raft_id		small;
	raft_index	index = 0;
	raft_index	last;
	int			i;

	cluster->params.max_entry_bytes = 8 * 1024;
	cluster->params.cache_bytes = 32 * 1024;
	cluster->params.max_uncommitted_bytes = 1024 * 1024;
	cluster_start(cluster, 3);
	leader = cluster_elect(cluster);
	small = other_than(leader, 0);
	cluster->nodes[small].hold_disk = 1;
	for (i = 0; i < 30; i++)
	{
		if (cluster_propose_bytes(cluster, leader, 4000, &index) != RAFT_OK)
			ok(0, "proposal");
		cluster_run(cluster, 10);
	}
	is_u64(cluster_status(cluster, leader)->commit_index, index, "the others commit");
	last = cluster_status(cluster, small)->last_index;
	ok(last > index - 30 && last < index, "the full follower has a part: %lu of 30",
	   last - (index - 30));
	ok(cluster_status(cluster, small)->cached_bytes <= 32 * 1024, "its cache is bounded");
	cluster->nodes[small].hold_disk = 0;
	ok(cluster_wait_applied(cluster, index, 3 * T), "then it catches up");
	ok(cluster->nodes[leader].entries_read_back > 0, "with what the leader reads back");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
leader_is_busy(void)
{
	Cluster    *cluster = cluster_create(11);
	raft_id		leader;
	raft_index	index = 0;
	int			n = 0;
	int			error = RAFT_OK;

	cluster->params.max_uncommitted_bytes = 10000;
	cluster_start(cluster, 3);
	leader = cluster_elect(cluster);
	cluster_isolate(cluster, leader);
	while (n < 100 && error == RAFT_OK)
	{
		error = cluster_propose_bytes(cluster, leader, 1000, &index);
		n++;
	}
	is_u64(error, RAFT_E_BUSY, "uncommitted bytes are bounded");
	is_u64(n, 11, "at the limit exactly");
	is_u64(cluster_propose_bytes(cluster, leader, 70 * 1024, NULL), RAFT_E_TOO_LARGE,
		   "too large is another matter");
	cluster_heal(cluster);
	cluster_run(cluster, 300);
	leader = cluster_leader(cluster);
	is_u64(cluster_propose_bytes(cluster, leader, 1000, &index), RAFT_OK, "room again");
	is_u64(cluster_propose(cluster, other_than(leader, 0), "x", NULL), RAFT_E_NOT_LEADER,
		   "followers refuse proposals");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Two are far behind the cache, not behind the log. */
static void
slow_followers_read_through_storage(void)
{
	Cluster    *cluster = cluster_create(12);
	raft_id		leader;
	raft_id		slow[2];
	raft_index	start;
	raft_index	index = 0;
	int			i;

	cluster->params.max_entry_bytes = 8 * 1024;
	cluster->params.cache_bytes = 16 * 1024;
	cluster->params.max_message_entries = 10;
	cluster_start(cluster, 5);
	leader = cluster_elect(cluster);
	slow[0] = other_than(leader, 0);
	slow[1] = other_than(leader, slow[0]);
	cluster_crash(cluster, slow[0]);
	cluster_crash(cluster, slow[1]);
	cluster->nodes[leader].entries_read_back = 0;
	for (i = 0; i < 100; i++)
	{
		if (cluster_propose_bytes(cluster, leader, 1000, &index) != RAFT_OK)
			ok(0, "proposal");
		cluster_run(cluster, 5);
	}
	is_u64(cluster->nodes[leader].entries_read_back, 0, "nothing was read back before");
	ok(cluster_restart(cluster, slow[0]) == RAFT_OK, "one follower is back");
	ok(cluster_restart(cluster, slow[1]) == RAFT_OK, "and another");

	/* the disk cannot be read for a while */
	start = cluster->nodes[leader].disk.start;
	cluster->nodes[leader].disk.start = index;
	cluster_run(cluster, 300);
	is_u64(cluster->nodes[leader].entries_read_back, 0, "a read fails");
	is_u64(cluster_leader(cluster), leader, "which unseats nobody");
	cluster->nodes[leader].disk.start = start;
	ok(cluster_wait_applied(cluster, index, 3 * T), "both catch up");
	ok(cluster->nodes[leader].entries_read_back >= 160, "from the leader's disk (%d)",
	   cluster->nodes[leader].entries_read_back);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/*
 * A cut off leader fills its cache to the last slot with entries that will be
 * overwritten.
 */
static void
full_cache_of_conflicts(void)
{
	Cluster    *cluster = cluster_create(14);
	raft_id		leader;
	raft_id		next;
	int			n = 0;

	cluster->params.max_entry_bytes = 8 * 1024;
	cluster->params.cache_bytes = 16 * 1024;
	cluster_start(cluster, 3);
	leader = cluster_elect(cluster);
	cluster->nodes[leader].hold_disk = 1;
	cluster_isolate(cluster, leader);
	while (n < 5000 && cluster_propose(cluster, leader, "", NULL) == RAFT_OK)
		n++;
	ok(n > 100 && n < 5000, "the cache is full after %d entries", n);
	cluster_run(cluster, 3 * T);
	next = cluster_leader(cluster);
	ok(next != 0, "others go on");
	cluster->nodes[leader].hold_disk = 0;
	cluster_run(cluster, 50);
	cluster_heal(cluster);
	ok(cluster_wait_applied(cluster, cluster_status(cluster, next)->last_index, 3 * T),
	   "the old leader's log gives way");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* The only one that has everything, with a cache full of what is not committed. */
static void
full_cache_can_lead(void)
{
	Cluster    *cluster = cluster_create(15);
	raft_id		leader;
	raft_id		heir;
	raft_id		third;
	int			n = 0;

	cluster->params.max_entry_bytes = 8 * 1024;
	cluster->params.cache_bytes = 16 * 1024;
	cluster_start(cluster, 3);
	leader = cluster_elect(cluster);
	heir = other_than(leader, 0);
	third = other_than(leader, heir);
	cluster->nodes[leader].hold_disk = 1;	/* so nothing commits */
	cluster_isolate(cluster, third);
	while (n < 5000 && cluster_propose(cluster, leader, "", NULL) == RAFT_OK)
	{
		n++;
		if (n % 100 == 0)
			cluster_run(cluster, 3);
	}
	cluster_run(cluster, 50);
	ok(n > 100, "%d entries on leader and one follower", n);
	is_u64(cluster_status(cluster, heir)->last_index, cluster_status(cluster, leader)->last_index,
		   "the follower has them all");
	cluster_crash(cluster, leader);
	cluster_heal(cluster);
	is_u64(cluster_wait_leader(cluster, 10 * T), heir, "it can lead with a full cache");
	cluster_run(cluster, T);
	ok(cluster_status(cluster, heir)->commit_index >= (raft_index) n, "and commits them");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* C: an old APPEND comes again after all is over. */
static Verdict
hold_appends(Cluster *cluster, const struct raft_message *message)
{
	return message->type == RAFT_MSG_APPEND && message->n_entries > 0 &&
		message->to == *(raft_id *) cluster->filter_data ? HOLD : DELIVER;
}

static void
stale_messages_change_nothing(void)
{
	Cluster    *cluster = cluster_begin(3, 16);
	raft_id		leader = cluster_elect(cluster);
	raft_id		target = other_than(leader, 0);
	raft_index	index;
	int			i;

	cluster->filter = hold_appends;
	cluster->filter_data = &target;
	for (i = 0; i < 5; i++)
		(void) cluster_propose(cluster, leader, "held", &index);
	cluster_run(cluster, 50);
	cluster->filter = NULL;
	cluster_crash(cluster, leader);
	cluster_run(cluster, 3 * T);
	leader = cluster_leader(cluster);
	ok(leader != 0, "another leads");
	(void) cluster_propose(cluster, leader, "new", &index);
	cluster_run(cluster, 100);
	cluster_release(cluster);
	cluster_run(cluster, 100);
	is_u64(cluster_leader(cluster), leader, "messages of a past term unseat nobody");
	ok(cluster_wait_applied(cluster, index, T), "all agree");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* What a follower believes of a message that a leader could not have sent. */
static void
limits_of_belief(void)
{
	Cluster    *cluster = cluster_begin(3, 17);
	raft_id		leader = cluster_elect(cluster);
	raft_id		follower = other_than(leader, 0);
	struct raft_message message;
	struct raft_entry entry;
	raft_index	commit;
	raft_term	term;
	raft_index	index = 0;
	int			i;

	for (i = 0; i < 10; i++)
		(void) cluster_propose(cluster, leader, "x", &index);
	cluster_run(cluster, 100);
	cluster_isolate(cluster, follower);
	cluster_crash(cluster, follower);
	cluster->nodes[follower].disk.hard_state.commit = index - 5;
	ok(cluster_restart(cluster, follower) == RAFT_OK, "a follower that knows half to be committed");
	commit = cluster_status(cluster, follower)->commit_index;
	is_u64(commit, index - 5, "by its hint");
	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_APPEND;
	message.from = leader;
	message.to = follower;
	message.from_incarnation = message.to_incarnation = 1;
	message.term = cluster_status(cluster, leader)->term;
	message.index = index - 3;
	message.log_term = message.term;
	message.commit = index;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 10);
	is_u64(cluster_status(cluster, follower)->commit_index, index - 3,
		   "it commits what the message shows to match, not what lies behind");

	/* diss. fig. 3.2, leader completeness: no leader can ask for this */
	memset(&entry, 0, sizeof(entry));
	message.term++;
	message.index = index - 8;
	entry.index = index - 7;
	entry.term = message.term;
	message.entries = &entry;
	message.n_entries = 1;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 10);
	(void) raft_term_at(cluster->nodes[follower].raft, index - 7, &term);
	is_u64(term, message.term - 1, "a committed entry is not overwritten");
	is_u64(cluster_status(cluster, follower)->last_index, index, "nothing is truncated");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static Verdict
entries_from_one_only(Cluster *cluster, const struct raft_message *message)
{
	return message->type == RAFT_MSG_APPEND && message->n_entries > 0 &&
		message->from != *(raft_id *) cluster->filter_data ? DROP : DELIVER;
}

/*
 * As above, but here the tail that has to go is of the later term: the leader's
 * own entries cannot tell where it begins, the follower's hint has to.
 */
static void
hints_name_the_term(void)
{
	Cluster    *cluster = cluster_begin(3, 18);
	raft_id		older = cluster_elect(cluster);
	raft_id		newer;
	unsigned long answers;
	raft_index	index;
	int			i;

	cluster_isolate(cluster, older);
	for (i = 0; i < 300; i++)
		(void) cluster_propose(cluster, older, "kept", NULL);
	cluster->filter = entries_from_one_only;
	cluster->filter_data = &older;
	cluster_run(cluster, 3 * T);
	newer = cluster_leader(cluster);
	ok(newer != 0 && newer != older, "another leads");
	for (i = 0; i < 300; i++)
		(void) cluster_propose(cluster, newer, "lost", NULL);
	cluster_run(cluster, 50);
	cluster_heal(cluster);
	cluster_isolate(cluster, newer);
	cluster->filter = NULL;
	cluster_run(cluster, 5 * T);
	is_u64(cluster_leader(cluster), older, "then the first one again, with older entries");
	index = cluster_status(cluster, older)->last_index;
	answers = cluster->sent[RAFT_MSG_APPEND_REPLY];
	cluster_heal(cluster);
	ok(cluster_wait_applied(cluster, index, 3 * T), "which the other takes over");
	answers = cluster->sent[RAFT_MSG_APPEND_REPLY] - answers;
	ok(answers < 60, "%lu answers for 300 conflicting entries of a later term", answers);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* What it had acknowledged counts no more, and is sent again. */
static void
lost_disk_is_filled_again(void)
{
	Cluster    *cluster = cluster_begin(3, 19);
	raft_id		leader = cluster_elect(cluster);
	raft_id		victim = other_than(leader, 0);
	raft_index	index = 0;
	int			i;

	for (i = 0; i < 30; i++)
		(void) cluster_propose(cluster, leader, "x", &index);
	ok(cluster_wait_applied(cluster, index, T), "30 entries everywhere");
	cluster_start_blank(cluster, victim, 1);
	(void) cluster_propose(cluster, leader, "x", &index);
	ok(cluster_wait_applied(cluster, index, T), "a member whose disk was lost gets them again");
	cluster_destroy(cluster);
}

int
main(void)
{
	limits_of_belief();
	commit_is_told_promptly();
	nothing_counts_before_it_is_durable();
	followers_alone_commit();
	figure_8();
	old_term_is_not_counted();
	conflict_hints();
	late_completion_of_overwritten_entries();
	pipeline_and_its_bounds();
	lost_messages_are_sent_again();
	full_follower_takes_a_prefix();
	leader_is_busy();
	slow_followers_read_through_storage();
	full_cache_of_conflicts();
	full_cache_can_lead();
	stale_messages_change_nothing();
	hints_name_the_term();
	lost_disk_is_filled_again();
	return tap_done();
}
