/*-------------------------------------------------------------------------
 *
 * test_raft_stall.c
 *	  Disks that do not answer (src/raft/stall.c).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout */

/* Lets time pass while somebody proposes every 20 ms; returns the last index. */
static raft_index
write_for(Cluster *cluster, raft_time milliseconds)
{
	raft_time	end = cluster->now + milliseconds;
	raft_index	index = 0;

	while (cluster->now < end)
	{
		raft_id		leader = cluster_leader(cluster);

		if (leader != 0)
			(void) cluster_propose(cluster, leader, "x", &index);
		cluster_run(cluster, 20);
	}
	return index;
}

static raft_u64
campaigns(Cluster *cluster)
{
	raft_u64	n = 0;
	raft_id		id;

	for (id = 1; id <= 3; id++)
		if (cluster->nodes[id].raft != NULL)
			n += cluster_status(cluster, id)->prevotes_started +
				cluster_status(cluster, id)->elections_started;
	return n;
}

static void
leader_hands_over(void)
{
	Cluster    *cluster = cluster_begin(3, 11);
	raft_id		leader = cluster_elect(cluster);
	raft_term	term = cluster_status(cluster, leader)->term;
	raft_u64	before = campaigns(cluster);
	raft_time	begin = cluster->now;
	raft_index	index;
	raft_id		next;

	cluster->nodes[leader].hold_disk = 1;
	index = write_for(cluster, T - 100);
	is_u64(cluster_leader(cluster), leader, "up to T it goes on leading");
	ok(cluster_status(cluster, leader)->commit_index + 1 >= index, "and commits by the others' disks");
	ok(cluster_status(cluster, leader)->disk_waiting_since <= begin + 20,
	   "the status says since when its disk is silent");
	(void) write_for(cluster, 400);
	next = cluster_leader(cluster);
	ok(next != 0 && next != leader, "after T another one leads");
	ok(cluster->nodes[next].became_leader - begin < T + 200, "soon after T");
	is_u64(cluster_status(cluster, next)->term, term + 1, "by one election");
	is_u64(campaigns(cluster), before + 1, "which nobody began for want of heartbeats");
	is_u64(cluster_status(cluster, leader)->stall_transfers, 1, "it is counted");
	index = write_for(cluster, 3 * T);
	is_u64(cluster_leader(cluster), next, "and it stays so");
	is_u64(campaigns(cluster), before + 1, "the stalled one does not campaign");
	cluster->nodes[leader].hold_disk = 0;
	cluster_persist(cluster, leader);
	ok(cluster_wait_applied(cluster, index, T), "with its disk back it has everything");
	is_u64(cluster_leader(cluster), next, "and follows");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
follower_disturbs_nobody(void)
{
	Cluster    *cluster = cluster_begin(3, 12);
	raft_id		leader = cluster_elect(cluster);
	raft_id		stalled = other_than(leader, 0);
	raft_u64	before = campaigns(cluster);
	raft_term	term = cluster_status(cluster, leader)->term;
	raft_index	index;

	cluster->nodes[stalled].hold_disk = 1;
	index = write_for(cluster, 5 * T);
	is_u64(cluster_leader(cluster), leader, "a follower's silent disk changes no leader");
	is_u64(cluster_status(cluster, leader)->term, term, "no term");
	is_u64(campaigns(cluster), before, "and nobody campaigns");
	ok(cluster_status(cluster, leader)->commit_index + 2 >= index, "writes go on");
	cluster->nodes[stalled].hold_disk = 0;
	cluster_persist(cluster, stalled);
	ok(cluster_wait_applied(cluster, index, T), "it catches up");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Two of three are left, one of them without a disk: nobody can be elected. */
static void
stalled_member_waits(void)
{
	Cluster    *cluster = cluster_begin(3, 13);
	raft_id		leader = cluster_elect(cluster);
	raft_id		stalled = other_than(leader, 0);
	raft_u64	begun = cluster_status(cluster, stalled)->prevotes_started;
	raft_index	index;

	cluster->nodes[stalled].hold_disk = 1;
	(void) write_for(cluster, 2 * T);
	cluster_crash(cluster, leader);
	(void) write_for(cluster, 5 * T);
	is_u64(cluster_status(cluster, stalled)->prevotes_started, begun,
		   "without a disk a member does not campaign");
	cluster->nodes[stalled].hold_disk = 0;
	cluster_persist(cluster, stalled);
	ok(cluster_wait_leader(cluster, 4 * T) != 0, "with it one of the two is elected");
	is_u64(cluster_restart(cluster, leader), RAFT_OK, "restart");
	index = write_for(cluster, T);
	ok(cluster_wait_applied(cluster, index, 2 * T), "and all agree");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
nobody_to_hand_over_to(void)
{
	Cluster    *cluster = cluster_begin(3, 14);
	raft_id		leader = cluster_elect(cluster);
	raft_term	term = cluster_status(cluster, leader)->term;
	raft_index	index;
	raft_id		id;

	for (id = 1; id <= 3; id++)
		cluster->nodes[id].hold_disk = 1;
	(void) write_for(cluster, 5 * T);
	is_u64(cluster_leader(cluster), leader, "when no disk answers the leader stays");
	is_u64(cluster_status(cluster, leader)->term, term, "in its term");
	is_u64(cluster_status(cluster, leader)->stall_transfers, 0, "it holds up nobody's proposals in vain");
	for (id = 1; id <= 3; id++)
	{
		cluster->nodes[id].hold_disk = 0;
		cluster_persist(cluster, id);
	}
	index = write_for(cluster, 100);
	ok(cluster_wait_applied(cluster, index, T), "everything commits once they answer");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static Verdict
no_order_to_campaign(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	return message->type == RAFT_MSG_TIMEOUT_NOW ? DROP : DELIVER;
}

/* Each holds up proposals for T, so there is time between two, but no end. */
static void
vain_transfers_are_spaced(void)
{
	Cluster    *cluster = cluster_begin(3, 15);
	raft_id		leader = cluster_elect(cluster);
	raft_u64	tried;

	cluster->filter = no_order_to_campaign;
	cluster->nodes[leader].hold_disk = 1;
	(void) write_for(cluster, 10 * T);
	is_u64(cluster_leader(cluster), leader, "nobody takes over");
	tried = cluster_status(cluster, leader)->stall_transfers;
	ok(tried >= 3 && tried <= 5, "tried every 2 T, not always (%lu)", tried);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

int
main(void)
{
	leader_hands_over();
	follower_disturbs_nobody();
	stalled_member_waits();
	nobody_to_hand_over_to();
	vain_transfers_are_spaced();
	return tap_done();
}
