/*-------------------------------------------------------------------------
 *
 * test_raft_election.c
 *	  Elections: time bounds, PreVote, CheckQuorum, hints, partitions
 *	  (diss. 3.4, 4.2.3, 6.2, 9.6).
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "tap.h"
#include "raft_fixture.h"

#define T 1000					/* election timeout */

/* diss. 3.4: randomized timeouts, here within [T/2, T] */
static void
timeouts_lie_between_half_and_whole(void)
{
	raft_time	least = 2 * T;
	raft_time	most = 0;
	raft_u64	seed;

	for (seed = 1; seed <= 60; seed++)
	{
		Cluster    *cluster = cluster_begin(1 + 2 * (int) (seed % 3), seed);
		raft_time	begin = cluster->now;
		raft_time	first = T * 10;
		raft_id		id;

		for (id = 1; id < FIXTURE_NODES; id++)
		{
			raft_time	deadline;

			if (cluster->nodes[id].raft == NULL || cluster->nodes[2].raft == NULL)
				continue;
			deadline = raft_next_deadline(cluster->nodes[id].raft) - begin;
			if (deadline < least)
				least = deadline;
			if (deadline > most)
				most = deadline;
			if (deadline < first)
				first = deadline;
		}
		cluster_destroy(cluster);
	}
	ok(least >= T / 2, "nobody asks before T/2 (%lu)", least);
	ok(most <= T, "everybody asks at T at the latest (%lu)", most);
	ok(least < T * 6 / 10 && most > T * 9 / 10, "the range is used (%lu to %lu)", least, most);
}

static void
first_leader_within_bound(void)
{
	raft_time	worst = 0;
	raft_u64	seed;
	int			none = 0;

	for (seed = 1; seed <= 100; seed++)
	{
		Cluster    *cluster = cluster_begin(3 + 2 * (int) (seed % 2), seed);
		raft_time	begin = cluster->now;
		raft_id		leader = cluster_wait_leader(cluster, 10 * T);

		if (leader == 0)
			none++;
		else if (cluster->nodes[leader].became_leader - begin > worst)
			worst = cluster->nodes[leader].became_leader - begin;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	is_u64(none, 0, "each of 100 clusters elects a leader");
	ok(worst <= T + T / 2, "the slowest took %lu ms", worst);
}

static void
single_voter_leads_at_once(void)
{
	Cluster    *cluster = cluster_begin(1, 7);

	cluster_run(cluster, 5);
	is_u64(cluster_leader(cluster), 1, "a single voter leads at once");
	is_u64(cluster_status(cluster, 1)->commit_index, 2, "and commits its first entry");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Silence of the leader, no hint. */
static void
silent_leader_is_replaced(void)
{
	raft_u64	seed;
	raft_time	worst = 0;
	raft_time	least = 100 * T;

	for (seed = 1; seed <= 40; seed++)
	{
		Cluster    *cluster = cluster_begin(3, seed);
		raft_id		leader = cluster_wait_leader(cluster, 10 * T);
		raft_id		next;
		raft_time	begin;
		raft_time	took;

		cluster_run(cluster, 500 + seed * 7);
		begin = cluster->now;
		cluster_crash(cluster, leader);
		next = cluster_wait_leader(cluster, 10 * T);
		took = next == 0 ? 10 * T : cluster->nodes[next].became_leader - begin;
		worst = took > worst ? took : worst;
		least = took < least ? took : least;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	ok(worst <= T + T / 4, "a silent leader is replaced soon after T (%lu)", worst);
	ok(least >= T / 2 - 100, "not before T/2 after its last sign (%lu)", least);
}

static int
count_wins_of_priority(int with_hint, raft_u64 runs)
{
	raft_u64	seed;
	int			won = 0;

	for (seed = 1; seed <= runs; seed++)
	{
		Cluster    *cluster = cluster_begin(5, seed);
		raft_id		leader = cluster_wait_leader(cluster, 10 * T);
		raft_id		wanted = other_than(leader, 0);
		struct raft_change change;
		int			error;

		cluster_run(cluster, 200);
		memset(&change, 0, sizeof(change));
		change.type = RAFT_CHANGE_UPDATE;
		change.member.id = wanted;
		change.member.priority = 100;
		error = cluster_change(cluster, leader, &change, 1, NULL);
		if (error != RAFT_OK)
			ok(0, "change of priority: %s", raft_error_text(error));
		cluster_run(cluster, 500);
		cluster_crash(cluster, leader);
		if (with_hint)
			cluster_report_lost(cluster, leader);
		if (cluster_wait_leader(cluster, 10 * T) == wanted)
			won++;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	return won;
}

static void
priority_wins(void)
{
	int			won = count_wins_of_priority(0, 100);

	/* one in four by chance, one in two by drawing from the earlier half */
	ok(won >= 36, "of 4 members the one with priority leads in %d of 100", won);
	won = count_wins_of_priority(1, 20);
	ok(won >= 15, "and in %d of 20 after a hint", won);
}

/* diss. 4.2.3 and 9.6 */
static void
prevote_refused_while_leader_is_heard(void)
{
	Cluster    *cluster = cluster_begin(3, 3);
	raft_id		leader = cluster_wait_leader(cluster, 10 * T);
	raft_id		lonely = other_than(leader, 0);
	raft_id		third = other_than(leader, lonely);
	raft_term	term;

	cluster_run(cluster, 500);
	term = cluster_status(cluster, leader)->term;
	cluster_cut(cluster, leader, lonely);
	cluster_run(cluster, 20 * T);
	is_u64(cluster_leader(cluster), leader, "a member that cannot hear the leader cannot unseat it");
	is_u64(cluster_status(cluster, lonely)->term, term, "and its term does not grow");
	ok(cluster_status(cluster, lonely)->prevotes_started > 10, "it asked all the time");
	is_u64(cluster_status(cluster, third)->term, term, "nor that of the one it asked");

	cluster_isolate(cluster, lonely);
	cluster_run(cluster, 20 * T);
	cluster_heal(cluster);
	cluster_run(cluster, 2 * T);
	is_u64(cluster_leader(cluster), leader, "nor does it after it was cut off altogether");
	is_u64(cluster_status(cluster, lonely)->leader, leader, "it follows again");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* A VOTE with a higher term, from one that did not ask before, changes nothing. */
static void
vote_refused_while_leader_is_heard(void)
{
	Cluster    *cluster = cluster_begin(3, 5);
	raft_id		leader = cluster_wait_leader(cluster, 10 * T);
	raft_id		rude = other_than(leader, 0);
	raft_id		third = other_than(leader, rude);
	struct raft_message message;
	raft_term	term;

	cluster_run(cluster, 500);
	term = cluster_status(cluster, leader)->term;
	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_VOTE;
	message.from = rude;
	message.from_incarnation = 1;
	message.to_incarnation = 1;
	message.term = term + 5;
	message.index = 1000;
	message.log_term = term;
	message.to = third;
	cluster_inject(cluster, &message);
	message.to = leader;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 50);
	is_u64(cluster_status(cluster, third)->term, term, "a follower that hears the leader ignores the term");
	is_u64(cluster_status(cluster, leader)->state, RAFT_LEADER, "and so does the leader");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static void
hint_elects_fast(void)
{
	raft_u64	seed;
	raft_time	worst = 0;
	raft_time	sum = 0;

	for (seed = 1; seed <= 50; seed++)
	{
		Cluster    *cluster = cluster_begin(3 + 2 * (int) (seed % 2), seed);
		raft_id		leader = cluster_wait_leader(cluster, 10 * T);
		raft_id		next;
		raft_time	begin;
		raft_time	took;

		cluster_run(cluster, 1000 + seed);
		begin = cluster->now;
		cluster_crash(cluster, leader);
		cluster_report_lost(cluster, leader);
		next = cluster_wait_leader(cluster, 10 * T);
		took = next == 0 ? 10 * T : cluster->nodes[next].became_leader - begin;
		sum += took;
		worst = took > worst ? took : worst;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	ok(sum / 50 < 60, "a killed leader is replaced within %lu ms on average", sum / 50);
	ok(worst < 400, "and within %lu ms at worst", worst);
}

/* The hint of one member must not unseat a leader that the others hear. */
static void
hint_of_one_is_refused(void)
{
	Cluster    *cluster = cluster_begin(3, 11);
	raft_id		leader = cluster_wait_leader(cluster, 10 * T);
	raft_id		wrong = other_than(leader, 0);
	raft_term	term;

	cluster_run(cluster, 1000);
	term = cluster_status(cluster, leader)->term;
	cluster_cut(cluster, leader, wrong);
	raft_peer_lost(cluster->nodes[wrong].raft, leader);
	cluster_run(cluster, 5 * T);
	ok(cluster_status(cluster, wrong)->prevotes_started > 5, "the member asks");
	is_u64(cluster_leader(cluster), leader, "one whose connection is alive refuses");
	is_u64(cluster_status(cluster, leader)->term, term, "the term stays");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* The connection is back before anybody has asked: nothing has happened. */
static void
hint_is_withdrawn(void)
{
	raft_u64	seed;
	raft_u64	asked = 0;

	for (seed = 1; seed <= 5; seed++)
	{
		Cluster    *cluster = cluster_begin(3, seed);
		raft_id		leader = cluster_elect(cluster);
		raft_id		follower = other_than(leader, 0);
		raft_u64	before = cluster_status(cluster, follower)->prevotes_started;

		raft_tick(cluster->nodes[follower].raft, cluster->now);
		raft_peer_lost(cluster->nodes[follower].raft, leader);
		raft_peer_found(cluster->nodes[follower].raft, leader);
		cluster_isolate(cluster, follower);
		cluster_run(cluster, T / 2 - 120);
		asked += cluster_status(cluster, follower)->prevotes_started - before;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	is_u64(asked, 0, "a hint that is withdrawn hastens nothing");
}

static void
hint_ignored_without_fast_detection(void)
{
	Cluster    *cluster = cluster_create(13);
	raft_id		leader;
	raft_id		next;
	raft_time	begin;

	cluster->params.fast_detection = 0;
	cluster_start(cluster, 3);
	leader = cluster_wait_leader(cluster, 10 * T);
	cluster_run(cluster, 1000);
	begin = cluster->now;
	cluster_crash(cluster, leader);
	cluster_report_lost(cluster, leader);
	next = cluster_wait_leader(cluster, 10 * T);
	ok(next != 0 && cluster->nodes[next].became_leader - begin >= T / 2 - 100,
	   "without fast detection a hint does nothing");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* Both time out in the same millisecond, again and again. */
static void
two_candidates_do_not_split_for_long(void)
{
	raft_u64	seed;
	raft_time	worst = 0;

	for (seed = 1; seed <= 40; seed++)
	{
		Cluster    *cluster = cluster_begin(4, seed);
		raft_id		leader = cluster_wait_leader(cluster, 10 * T);
		raft_id		a = other_than(leader, 0);
		raft_id		b = other_than(leader, a);
		raft_time	begin;
		raft_id		next;

		cluster_run(cluster, 700);
		cluster_crash(cluster, leader);

		/* the same moment: both have lost the leader and ask at once */
		begin = cluster->now;
		raft_peer_lost(cluster->nodes[a].raft, leader);
		raft_peer_lost(cluster->nodes[b].raft, leader);
		raft_tick(cluster->nodes[a].raft, cluster->now + 25);
		raft_tick(cluster->nodes[b].raft, cluster->now + 25);
		cluster_run(cluster, 25);
		cluster_flush(cluster, a);
		cluster_flush(cluster, b);
		next = cluster_wait_leader(cluster, 10 * T);
		if (next == 0)
			worst = 10 * T;
		else if (cluster->nodes[next].became_leader - begin > worst)
			worst = cluster->nodes[next].became_leader - begin;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	ok(worst < 2 * T, "two precandidates at once settle within %lu ms", worst);
}

/* diss. 6.2: a leader that reaches no majority steps down */
static void
check_quorum_steps_down(void)
{
	raft_u64	seed;
	raft_time	worst = 0;

	for (seed = 1; seed <= 20; seed++)
	{
		Cluster    *cluster = cluster_begin(3, seed);
		raft_id		leader = cluster_wait_leader(cluster, 10 * T);
		raft_time	begin;

		cluster_run(cluster, 500 + 13 * seed);
		begin = cluster->now;
		cluster_isolate(cluster, leader);
		while (cluster_status(cluster, leader)->state == RAFT_LEADER && cluster->now < begin + 3 * T)
			cluster_run(cluster, 1);
		if (cluster->now - begin > worst)
			worst = cluster->now - begin;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	ok(worst <= T + 1, "a leader without quorum steps down within T (%lu)", worst);
}

/* The leader is heard but hears nobody: it must give way. */
static void
asymmetric_partition(void)
{
	Cluster    *cluster = cluster_begin(3, 17);
	raft_id		leader = cluster_wait_leader(cluster, 10 * T);
	raft_id		next;
	raft_id		id;

	cluster_run(cluster, 500);
	for (id = 1; id <= 3; id++)
		if (id != leader)
			cluster->cut[id][leader] = 1;
	cluster_run(cluster, 4 * T);
	next = cluster_leader(cluster);
	ok(next != 0 && next != leader, "a leader that hears nobody is replaced");
	ok(cluster_propose(cluster, next, "x", NULL) == RAFT_OK, "the new one accepts proposals");
	cluster_run(cluster, 10 * T);
	is_u64(cluster_leader(cluster), next, "and is not disturbed by the old one's questions");

	/* the other direction: a follower that is heard but hears nobody */
	cluster_heal(cluster);
	cluster_run(cluster, 2 * T);
	next = cluster_leader(cluster);
	leader = other_than(next, 0);
	for (id = 1; id <= 3; id++)
		cluster->cut[id][leader] = id != leader;
	cluster_run(cluster, 10 * T);
	is_u64(cluster_leader(cluster), next, "a deaf follower unseats nobody");
	cluster_heal(cluster);
	cluster_run(cluster, 2 * T);
	is_u64(cluster_leader(cluster), next, "nor when it hears again");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/*
 * Five members; the leader keeps one link of four, to one that reaches all
 * (the partition that stopped a large provider's cluster in 2020).
 */
static void
bridge_partition(void)
{
	raft_u64	seed;

	for (seed = 1; seed <= 6; seed++)
	{
		Cluster    *cluster = cluster_begin(5, seed);
		raft_id		leader = cluster_wait_leader(cluster, 10 * T);
		raft_id		bridge = other_than(leader, 0);
		raft_id		next;
		raft_id		id;
		raft_term	term;

		cluster_run(cluster, 500);
		for (id = 1; id <= 5; id++)
			if (id != leader && id != bridge)
				cluster_cut(cluster, leader, id);
		cluster_run(cluster, 4 * T);
		next = cluster_leader(cluster);
		ok(next != 0 && next != leader, "the leader behind a bridge is replaced");
		term = cluster_status(cluster, next)->term;
		cluster_run(cluster, 20 * T);
		is_u64(cluster_leader(cluster), next, "the next one stays");
		is_u64(cluster_status(cluster, next)->term, term, "in its term");

		/* a chain: only neighbours hear each other; 3 of 5 are around the middle */
		cluster_heal(cluster);
		cluster_run(cluster, 2 * T);
		for (id = 1; id <= 3; id++)
		{
			raft_id		far;

			for (far = id + 2; far <= 5; far++)
				cluster_cut(cluster, id, far);
		}
		cluster_run(cluster, 6 * T);
		next = cluster_leader(cluster);
		ok(next >= 2 && next <= 4, "in a chain one with two neighbours leads");
		cluster_run(cluster, 20 * T);
		is_u64(cluster_leader(cluster), next, "and stays");
		NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
}

/* Writes take 150 ms: more than half of the time that a candidate waits. */
static void
slow_disks_still_elect(void)
{
	raft_u64	seed;
	int			none = 0;
	raft_time	worst = 0;

	for (seed = 1; seed <= 20; seed++)
	{
		Cluster    *cluster = cluster_create(seed);
		raft_time	begin;
		raft_id		leader;
		raft_id		id;

		for (id = 1; id <= 3; id++)
			cluster->nodes[id].disk_delay = 150;
		cluster_start(cluster, 3);
		begin = cluster->now;
		leader = cluster_wait_leader(cluster, 20 * T);
		if (leader == 0)
			none++;
		else if (cluster->nodes[leader].became_leader - begin > worst)
			worst = cluster->nodes[leader].became_leader - begin;
		if (cluster->failures > 0)
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	is_u64(none, 0, "members with slow disks elect a leader");
	ok(worst < 5 * T, "within %lu ms", worst);
}

/* diss. 3.6.1: the voter's log decides, not the order of asking */
static void
shorter_log_never_leads(void)
{
	Cluster    *cluster = cluster_begin(3, 23);
	raft_id		leader = cluster_wait_leader(cluster, 10 * T);
	raft_id		behind = other_than(leader, 0);
	raft_id		ahead = other_than(leader, behind);
	raft_id		next;
	int			i;

	cluster_run(cluster, 500);
	cluster_isolate(cluster, behind);
	for (i = 0; i < 10; i++)
		ok(cluster_propose(cluster, leader, "entry", NULL) == RAFT_OK, "proposed");
	cluster_run(cluster, 300);
	cluster_heal(cluster);
	cluster_crash(cluster, leader);
	next = cluster_wait_leader(cluster, 10 * T);
	is_u64(next, ahead, "the member with all committed entries leads");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

/* The same for a request that no PreVote came before. */
static void
vote_compares_logs(void)
{
	Cluster    *cluster = cluster_begin(3, 24);
	raft_id		leader = cluster_wait_leader(cluster, 10 * T);
	raft_id		voter = other_than(leader, 0);
	struct raft_message message;
	raft_term	term;

	cluster_run(cluster, 500);
	cluster_isolate(cluster, voter);
	cluster_crash(cluster, voter);
	ok(cluster_restart(cluster, voter) == RAFT_OK, "a voter that follows nobody");
	term = cluster_status(cluster, voter)->term;
	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_VOTE;
	message.from = other_than(leader, voter);
	message.to = voter;
	message.from_incarnation = message.to_incarnation = 1;
	message.term = term + 1;
	message.log_term = cluster_status(cluster, voter)->last_term;
	message.index = cluster_status(cluster, voter)->last_index - 1;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 10);
	is_u64(cluster_status(cluster, voter)->vote, 0, "no vote for a shorter log");
	message.term++;
	message.log_term--;
	message.index += 1000;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 10);
	is_u64(cluster_status(cluster, voter)->vote, 0, "nor for a longer one of an older term");
	message.term++;
	message.log_term++;
	message.index = cluster_status(cluster, voter)->last_index;
	cluster_inject(cluster, &message);
	cluster_run(cluster, 10);
	is_u64(cluster_status(cluster, voter)->vote, message.from, "but for an equal one");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

static Verdict
no_leader_messages(Cluster *cluster, const struct raft_message *message)
{
	(void) cluster;
	return message->type == RAFT_MSG_APPEND || message->type == RAFT_MSG_HEARTBEAT ?
		DROP : DELIVER;
}

/* diss. 3.4 under every random fault; election safety is checked throughout */
static void
storms(void)
{
	raft_u64	seed;
	int			recovered = 0;
	int			intact = 0;

	for (seed = 1; seed <= 30; seed++)
	{
		Cluster    *cluster = cluster_create(seed);
		int			n = 3 + 2 * (int) (seed % 2);
		int			step;
		raft_id		id;

		cluster->loss_percent = 10;
		cluster->duplicate_percent = 10;
		cluster->jitter = 40;
		for (id = 1; id <= (raft_id) n; id++)
			cluster->nodes[id].disk_delay = seed % 4 * 10;
		cluster_start(cluster, n);
		for (step = 0; step < 60; step++)
		{
			id = 1 + (raft_id) cluster_random(cluster, (raft_u64) n);
			switch (cluster_random(cluster, 6))
			{
				case 0:
					cluster_isolate(cluster, id);
					break;
				case 1:
					cluster_heal(cluster);
					break;
				case 2:
					if (cluster->nodes[id].raft != NULL)
						cluster_crash(cluster, id);
					break;
				case 3:
					cluster->filter = cluster->filter == NULL ? no_leader_messages : NULL;
					break;
				default:
					for (id = 1; id <= (raft_id) n; id++)
						if (cluster->nodes[id].raft == NULL)
							(void) cluster_restart(cluster, id);
					break;
			}
			id = cluster_leader(cluster);
			if (id != 0)
				(void) cluster_propose(cluster, id, "storm", NULL);
			cluster_run(cluster, 50 + cluster_random(cluster, 500));
		}
		cluster->filter = NULL;
		cluster->loss_percent = 0;
		cluster_heal(cluster);
		for (id = 1; id <= (raft_id) n; id++)
			if (cluster->nodes[id].raft == NULL)
				(void) cluster_restart(cluster, id);
		cluster_run(cluster, 3 * T);
		id = cluster_leader(cluster);
		if (id != 0 && cluster_propose(cluster, id, "calm", NULL) == RAFT_OK &&
			cluster_wait_applied(cluster, cluster_status(cluster, id)->last_index, 2 * T))
			recovered++;
		else
			printf("# seed %lu did not recover\n", seed);
		if (cluster->failures == 0)
			intact++;
		else
			NO_RULE_BROKEN(cluster);
		cluster_destroy(cluster);
	}
	is_u64(intact, 30, "30 storms: no rule broken");
	is_u64(recovered, 30, "30 storms: all members agree soon after");
}

/*
 * One that has a higher term than the leader cannot follow it, and nobody that
 * hears the leader would elect it: its answer has to unseat the leader.
 */
static void
member_ahead_of_the_leader(void)
{
	Cluster    *cluster = cluster_begin(3, 60);
	raft_id		leader = cluster_elect(cluster);
	raft_id		ahead = other_than(leader, 0);
	raft_term	term = cluster_status(cluster, leader)->term + 5;
	raft_index	index = 0;

	cluster_crash(cluster, ahead);
	cluster->nodes[ahead].disk.hard_state.term = term;
	cluster->nodes[ahead].disk.hard_state.vote = ahead;
	ok(cluster_restart(cluster, ahead) == RAFT_OK, "a member of a higher term");
	cluster_run(cluster, 3 * T);
	leader = cluster_leader(cluster);
	ok(leader != 0 && cluster_status(cluster, leader)->term > term, "the leader has a higher one");
	is_u64(cluster_status(cluster, ahead)->leader, leader, "so that it is followed");
	(void) cluster_propose(cluster, leader, "x", &index);
	ok(cluster_wait_applied(cluster, index, T), "by all");
	NO_RULE_BROKEN(cluster);
	cluster_destroy(cluster);
}

int
main(void)
{
	timeouts_lie_between_half_and_whole();
	first_leader_within_bound();
	single_voter_leads_at_once();
	silent_leader_is_replaced();
	priority_wins();
	prevote_refused_while_leader_is_heard();
	vote_refused_while_leader_is_heard();
	hint_elects_fast();
	hint_of_one_is_refused();
	hint_is_withdrawn();
	hint_ignored_without_fast_detection();
	two_candidates_do_not_split_for_long();
	check_quorum_steps_down();
	asymmetric_partition();
	bridge_partition();
	slow_disks_still_elect();
	shorter_log_never_leads();
	vote_compares_logs();
	storms();
	member_ahead_of_the_leader();
	return tap_done();
}
