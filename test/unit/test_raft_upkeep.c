/*-------------------------------------------------------------------------
 *
 * test_raft_upkeep.c
 *	  What a leader does at intervals goes on while reads come all the time.
 *
 * Each linearizable read begins a heartbeat round of its own.  These rounds may
 * stand for the regular heartbeats, but not for what else is due with them:
 * promotion of learners, leaving joint configurations, handing over.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout; heartbeats each 100 ms */

static raft_u64 token = 1;

static void
read_for(Cluster *cluster, raft_time milliseconds)
{
	raft_time	end = cluster->now + milliseconds;

	while (cluster->now < end)
	{
		raft_id		leader = cluster_leader(cluster);

		if (leader != 0)
			(void) cluster_read(cluster, leader, token++);
		cluster_run(cluster, 10);
	}
}

static void
learner_is_promoted(void)
{
	Cluster    *cluster = cluster_begin(3, 31);
	raft_id		leader = cluster_elect(cluster);
	struct raft_change change = change_add(4, RAFT_VOTER);
	const struct raft_member *member;
	raft_index	index;

	is_u64(cluster_change(cluster, leader, &change, 1, &index), RAFT_OK, "add a member");
	cluster_start_blank(cluster, 4, index);
	read_for(cluster, 2 * T);
	member = raft_config_find(raft_get_config(cluster->nodes[leader].raft), 4);
	ok(member != NULL && member->role == RAFT_VOTER, "it votes although reads never stop");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
stalled_leader_hands_over(void)
{
	Cluster    *cluster = cluster_begin(3, 32);
	raft_id		leader = cluster_elect(cluster);
	raft_index	index;

	cluster->nodes[leader].hold_disk = 1;
	(void) cluster_propose(cluster, leader, "x", &index);
	read_for(cluster, 2 * T);
	ok(cluster_leader(cluster) != leader && cluster_leader(cluster) != 0,
	   "a leader with a silent disk hands over although reads never stop");
	cluster->nodes[leader].hold_disk = 0;
	cluster_persist(cluster, leader);
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

int
main(void)
{
	learner_is_promoted();
	stalled_leader_hands_over();
	return tap_done();
}
