/*-------------------------------------------------------------------------
 *
 * test_raft_arguments.c
 *	  What the engine answers to a host that asks for the impossible.
 *
 * Each case changes one thing in arguments that are accepted without the
 * change, so that it is that thing which is refused.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "pgraft/raft.h"

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

static const struct raft_allocator allocator = {NULL, allocate, release};
static const struct raft_callbacks callbacks;

static struct raft_params
good_params(void)
{
	struct raft_params params;

	memset(&params, 0, sizeof(params));
	params.id = 1;
	params.incarnation = 1;
	params.seed = 7;
	raft_params_default(&params);
	return params;
}

static void
try_params(const struct raft_params *params, int wanted, const char *name)
{
	struct raft *raft = NULL;

	is_u64(raft_create(&raft, params, &allocator, &callbacks), wanted, name);
	ok((raft != NULL) == (wanted == RAFT_OK), "an engine only when it is accepted");
	raft_destroy(raft);
}

static void
test_params(void)
{
	struct raft_params params = good_params();

	try_params(&params, RAFT_OK, "the defaults");
#define REFUSED(change, name) \
	do { params = good_params(); change; try_params(&params, RAFT_E_INVALID, name); } while (0)
	REFUSED(params.id = 0, "no id");
	REFUSED(params.incarnation = 0, "no incarnation");
	REFUSED(params.heartbeat_interval_ms = 0, "no heartbeats");
	REFUSED(params.heartbeat_interval_ms = 334, "fewer than three heartbeats in a timeout");
	REFUSED(params.max_entry_bytes = 0, "no entries");
	REFUSED(params.cache_bytes = 2 * params.max_entry_bytes - 1, "a cache for less than two entries");
	REFUSED(params.max_message_entries = 0, "messages without entries");
	REFUSED(params.max_message_entries = 1000000, "more entries than a message can have");
	REFUSED(params.max_inflight_messages = 0, "no message in flight");
	REFUSED(params.snapshot_chunk_bytes = 0, "chunks without bytes");
	REFUSED(params.lease_reads = 1, "leases with fast detection");
	params = good_params();
	params.lease_reads = 1;
	params.fast_detection = 0;
	try_params(&params, RAFT_OK, "leases without fast detection");
}

static void
test_lone_leader(void)
{
	static unsigned char payload[RAFT_CONFIG_MAX_BYTES];
	struct raft_params params = good_params();
	struct raft_hard_state state = {1, 0, 0};
	struct raft_snapshot_meta meta;
	struct raft_peer_status peer;
	struct raft_member member;
	struct raft_update update;
	struct raft_entry entry;
	struct raft_proposal proposal = {0, NULL};
	struct raft *raft = NULL;
	raft_index	index;
	raft_term	term;

	memset(&member, 0, sizeof(member));
	member.id = 1;
	is_u64(raft_bootstrap_entry(&member, &entry, payload), RAFT_OK, "the first entry");
	is_u64(raft_create(&raft, &params, &allocator, &callbacks), RAFT_OK, "an engine");
	is_u64(raft_restore_hard_state(raft, &state), RAFT_OK, "its term");
	state.term = 0;
	is_u64(raft_restore_hard_state(raft, &state), RAFT_E_CORRUPT, "a term does not go back");
	memset(&meta, 0, sizeof(meta));
	is_u64(raft_restore_snapshot(raft, &meta), RAFT_E_CORRUPT, "no snapshot has index 0");
	is_u64(raft_restore_entry(raft, &entry), RAFT_OK, "its log");
	is_u64(raft_start(raft, 1000), RAFT_OK, "it starts");
	is_u64(raft_peer_status(raft, 1, &peer), RAFT_E_NOT_LEADER, "a follower knows no progress");
	is_u64(raft_propose(raft, &proposal, 1, &index, &term), RAFT_E_NOT_LEADER,
		   "nor takes proposals");
	raft_tick(raft, 1000);
	while (raft_take_update(raft, &update))
	{
		if (update.epoch != 0)
			raft_persisted(raft, update.epoch);
		if (update.n_apply > 0)
			raft_applied(raft, update.apply[update.n_apply - 1].index);
	}
	is_u64(raft_propose(raft, &proposal, 0, &index, &term), RAFT_E_INVALID, "an empty batch");
	is_u64(raft_propose(raft, &proposal, 1, &index, &term), RAFT_OK, "an empty command");
	is_u64(raft_peer_status(raft, 9, &peer), RAFT_E_UNKNOWN_MEMBER, "a stranger's progress");
	raft_destroy(raft);
	raft_destroy(NULL);		/* does nothing */
}

static void
test_names(void)
{
	static const char *const states[] = {"follower", "precandidate", "candidate", "leader"};
	static const char *const roles[] = {"none", "voter", "learner", "witness"};
	static const char *const progress[] = {"probe", "replicate", "snapshot"};
	int			i;

	for (i = 0; i < 4; i++)
	{
		ok(strcmp(raft_state_name(i), states[i]) == 0, "state %s", states[i]);
		ok(strcmp(raft_role_name(i), roles[i]) == 0, "role %s", roles[i]);
	}
	for (i = 0; i < 3; i++)
		ok(strcmp(raft_progress_name(i), progress[i]) == 0, "progress %s", progress[i]);
}

int
main(void)
{
	test_params();
	test_lone_leader();
	test_names();
	return tap_done();
}
