/*-------------------------------------------------------------------------
 *
 * sim_check_state.c
 *	  The invariants of recovered state, applied state and clients.
 *
 *	durability				recovery finds exactly a state that the writes so far
 *							allow: all completed ones, and each in flight whole or
 *							not at all, in order
 *	state machine safety	equal state hash at equal applied index; only
 *							committed entries are applied
 *	no acknowledged write lost, linearizable
 *							operations take effect at their place in the log; an
 *							operation must have its place after everything that a
 *							client knew when it began, and a read must return what
 *							the checker's own replay of the log has there
 *	convergence				in the end all members agree
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_check.h"

static SimRecord *
record_of(SimWorld *world, const SimNode *node)
{
	return &world->checker->records[node->slot];
}

/* ----------------------------------------------------------------
 * Creation and end of a directory
 * ----------------------------------------------------------------
 */

/* Forgets what is about one life of the process; durable things stay. */
void
sim_check_forget_life(SimRecord *record)
{
	while (record->effects != NULL)
	{
		SimEffect  *next = record->effects->next;

		sim_effect_free(record->effects);
		record->effects = next;
	}
	record->state = RAFT_FOLLOWER;
	record->term = 0;
	record->vote = 0;
	record->commit = 0;
	record->prevotes = 0;
	record->ignored = 0;
	memset(&record->config, 0, sizeof(record->config));
	memset(&record->previous_config, 0, sizeof(record->previous_config));
}

static void
forget_log(SimLog *log)
{
	sim_log_reset(log, 0, 0);
	log->snapshot_index = 0;
	log->snapshot_term = 0;
	memset(&log->hard_state, 0, sizeof(log->hard_state));
}

void
sim_check_wiped(SimWorld *world, SimNode *node)
{
	SimRecord  *record = record_of(world, node);

	sim_check_forget_life(record);
	forget_log(&record->memory);
	forget_log(&record->durable);
}

/* A directory is being made with this content. */
void
sim_check_created(SimWorld *world, SimNode *node,
				  const struct raft_hard_state *hard_state,
				  const struct raft_entry *entries, size_t n_entries)
{
	SimRecord  *record = record_of(world, node);
	size_t		i;

	sim_check_wiped(world, node);
	if (hard_state != NULL)
		record->durable.hard_state = *hard_state;
	for (i = 0; i < n_entries; i++)
	{
		sim_log_append(&record->durable, entries[i].index, sim_log_entry(&entries[i]));
		sim_check_know(world, node, &record->durable, entries[i].index);
	}
}

/* ----------------------------------------------------------------
 * Recovery
 * ----------------------------------------------------------------
 */
void
sim_check_recover_begin(SimWorld *world, SimNode *node)
{
	forget_log(&record_of(world, node)->recovered);
}

void
sim_check_recover_snapshot(SimWorld *world, SimNode *node,
						   const struct raft_snapshot_meta *meta)
{
	SimLog	   *log = &record_of(world, node)->recovered;

	log->snapshot_index = meta->index;
	log->snapshot_term = meta->term;
	sim_log_reset(log, meta->index, meta->term);
}

void
sim_check_recover_start(SimWorld *world, SimNode *node, raft_index index,
						raft_term term)
{
	sim_log_reset(&record_of(world, node)->recovered, index, term);
}

void
sim_check_recover_state(SimWorld *world, SimNode *node,
						const struct raft_hard_state *state)
{
	record_of(world, node)->recovered.hard_state = *state;
}

void
sim_check_recover_truncate(SimWorld *world, SimNode *node, raft_index from)
{
	SimLog	   *log = &record_of(world, node)->recovered;

	if (!sim_log_truncate(log, from))
		sim_log_reset(log, log->start, log->start_term);
}

void
sim_check_recover_entry(SimWorld *world, SimNode *node,
						const struct raft_entry *entry)
{
	SimLog	   *log = &record_of(world, node)->recovered;

	if (entry->index <= log->start)
		return;
	sim_log_truncate(log, entry->index);
	if (!sim_log_append(log, entry->index, sim_log_entry(entry)))
		sim_violation(world, "recovery", "member %u delivers %lu after %lu", node->id,
					  entry->index, log->last);
}

/* Which of the allowed states is it? */
void
sim_check_recover_end(SimWorld *world, SimNode *node)
{
	SimRecord  *record = record_of(world, node);
	SimLog	   *found = &record->recovered;
	SimLog		wanted;
	SimEffect  *effect = record->effects;
	int			n = 0;

	memset(&wanted, 0, sizeof(wanted));
	sim_log_copy(&wanted, &record->durable);
	while (!sim_log_equal(&wanted, found) && effect != NULL)
	{
		sim_effect_apply(&wanted, effect);
		effect = effect->next;
		n++;
	}
	if (!sim_log_equal(&wanted, found))
		sim_violation(world, "durability",
					  "member %u recovers log %lu..%lu snapshot %lu term %lu vote %u; durable was %lu..%lu snapshot %lu term %lu vote %u, %d writes in flight, with them %lu..%lu snapshot %lu term %lu vote %u",
					  node->id, found->start, found->last, found->snapshot_index,
					  found->hard_state.term, found->hard_state.vote,
					  record->durable.start, record->durable.last,
					  record->durable.snapshot_index, record->durable.hard_state.term,
					  record->durable.hard_state.vote, n, wanted.start, wanted.last,
					  wanted.snapshot_index, wanted.hard_state.term,
					  wanted.hard_state.vote);
	sim_trace(world, "RECOVER %u log %lu..%lu snapshot %lu term %lu vote %u (%d in flight found)",
			  node->id, found->start, found->last, found->snapshot_index,
			  found->hard_state.term, found->hard_state.vote, n);
	if (found->snapshot_index > found->last)
		sim_log_reset(found, found->snapshot_index, found->snapshot_term);
	if (found->start > found->snapshot_index)
		sim_violation(world, "recovery", "member %u: log after %lu, snapshot only to %lu",
					  node->id, found->start, found->snapshot_index);
	sim_log_free(&wanted);
	sim_check_forget_life(record);
	sim_log_copy(&record->durable, found);
	sim_log_copy(&record->memory, found);
	record->term = found->hard_state.term;
	record->vote = found->hard_state.vote;
}

/* ----------------------------------------------------------------
 * Applied state
 * ----------------------------------------------------------------
 */
static void
count_changes(SimWorld *world, const struct raft_config *old,
			  const struct raft_config *new)
{
	int			i;

	SIM_COUNT(world, config_changes);
	if (new->joint && !old->joint)
		SIM_COUNT(world, joint_entered);
	if (old->joint && !new->joint)
		SIM_COUNT(world, joint_left);
	for (i = 0; i < new->n_members; i++)
	{
		raft_id		id = new->members[i].id;

		if (raft_config_find(old, id) != NULL)
			continue;
		if ((world->ever_members >> id & 1) != 0)
			SIM_COUNT(world, added_again);
		world->ever_members |= 1U << id;
	}
	for (i = 0; i < old->n_members; i++)
	{
		const struct raft_member *before = &old->members[i];
		const struct raft_member *after = raft_config_find(new, before->id);

		if (after == NULL || after->incarnation != before->incarnation)
			SIM_COUNT(world, removals);
		else if (before->role == RAFT_LEARNER && after->role != RAFT_LEARNER)
			SIM_COUNT(world, promotions);
	}
}

static void
replay_command(SimWorld *world, const struct raft_entry *entry)
{
	SimChecker *checker = world->checker;
	SimHistory *history;
	SimCommand	command;

	if (!sim_command_decode(entry, &command) ||
		command.sequence <= checker->sessions[command.client].sequence)
		return;
	checker->sessions[command.client].sequence = command.sequence;
	checker->sessions[command.client].index = entry->index;
	history = &checker->histories[command.key];
	sim_check_grow((void **) &history->writes, &history->capacity, history->n + 1,
				   sizeof(SimWritten));
	history->writes[history->n].index = entry->index;
	history->writes[history->n].value = command.value;
	history->n++;
}

/* The first member to apply an index defines it; it must be committed. */
static void
replay(SimWorld *world, SimNode *node, const struct raft_entry *entry)
{
	SimChecker *checker = world->checker;

	sim_check_grow((void **) &checker->chains, &checker->chains_capacity, entry->index,
				   sizeof(raft_u64));
	checker->chains[entry->index - 1] = node->machine.chain;
	checker->n_applied = entry->index;
	if (entry->type == RAFT_ENTRY_CONFIG)
	{
		struct raft_config *config = sim_alloc(sizeof(*config));

		if (raft_config_decode(config, entry->data, entry->length) != RAFT_OK)
			sim_violation(world, "configuration", "entry %lu cannot be decoded",
						  entry->index);
		config->index = entry->index;
		count_changes(world, &checker->config, config);
		checker->config = *config;
		free(config);
	}
	replay_command(world, entry);
}

/* Called after the machine of the member applied the entry. */
void
sim_check_applied(SimWorld *world, SimNode *node, const struct raft_entry *entry)
{
	SimChecker *checker = world->checker;
	SimLogEntry seen = sim_log_entry(entry);
	raft_index	index = entry->index;

	if (index > checker->n_committed)
	{
		sim_violation(world, "state machine safety", "member %u applies %lu, committed is %lu",
					  node->id, index, checker->n_committed);
		return;
	}
	if (checker->committed[index - 1].term != seen.term ||
		checker->committed[index - 1].hash != seen.hash)
		sim_violation(world, "state machine safety",
					  "member %u applies another entry %lu of term %lu, committed in %lu",
					  node->id, index, seen.term, checker->committed[index - 1].term);
	if (index > checker->n_applied)
	{
		if (index != checker->n_applied + 1)
			sim_violation(world, "apply exactly once", "%lu applied, nobody applied %lu",
						  index, checker->n_applied + 1);
		replay(world, node, entry);
	}
	else if (checker->chains[index - 1] != node->machine.chain)
		sim_violation(world, "state machine safety", "member %u has another state at %lu",
					  node->id, index);
}

/* Called after the machine of the member was loaded from a snapshot. */
void
sim_check_loaded(SimWorld *world, SimNode *node)
{
	const SimChecker *checker = world->checker;
	raft_index	index = node->machine.applied;

	if (index == 0 || index > checker->n_applied ||
		checker->chains[index - 1] != node->machine.chain)
		sim_violation(world, "state machine safety", "member %u loads another state at %lu",
					  node->id, index);
}

/* ----------------------------------------------------------------
 * Clients
 * ----------------------------------------------------------------
 */

/* Everything up to here is known to some client. */
raft_index
sim_check_floor(SimWorld *world)
{
	return world->checker->floor;
}

/* A client was told that its write is done; the member has applied it. */
void
sim_check_acknowledged(SimWorld *world, SimNode *node, const SimCommand *command,
					   raft_index floor)
{
	SimChecker *checker = world->checker;
	const SimSession *session = &checker->sessions[command->client];

	if (session->sequence != command->sequence)
		sim_violation(world, "no acknowledged write lost",
					  "member %u acknowledges %lu of client %u, which is not in the log",
					  node->id, command->value, command->client);
	else if (session->index <= floor)
		sim_violation(world, "linearizability",
					  "a write takes effect at %lu, began when %lu was known",
					  session->index, floor);
	if (session->index > checker->floor)
		checker->floor = session->index;
}

/* A client was given the value of a register as this member has it now. */
void
sim_check_read(SimWorld *world, SimNode *node, unsigned int key, raft_index floor)
{
	SimChecker *checker = world->checker;
	const SimHistory *history = &checker->histories[key];
	raft_index	applied = node->machine.applied;
	raft_u64	value = 0;
	size_t		i = history->n;

	while (i > 0 && history->writes[i - 1].index > applied)
		i--;
	if (i > 0)
		value = history->writes[i - 1].value;
	if (applied < floor)
		sim_violation(world, "linearizability",
					  "member %u answers a read at %lu, it began when %lu was known",
					  node->id, applied, floor);
	if (node->machine.registers[key].value != value)
		sim_violation(world, "linearizability", "member %u reads %lu from %u at %lu, not %lu",
					  node->id, node->machine.registers[key].value, key, applied, value);
	if (applied > checker->floor)
		checker->floor = applied;
}

/* ----------------------------------------------------------------
 * The end
 * ----------------------------------------------------------------
 */

/* The newest configuration that was applied anywhere. */
const struct raft_config *
sim_check_config(SimWorld *world)
{
	return &world->checker->config;
}

raft_index
sim_check_committed(const SimWorld *world)
{
	return world->checker->n_committed;
}

/*
 * Returns NULL when there is a leader and every member of the configuration
 * has applied everything, or the text of what is still missing.
 */
const char *
sim_check_converged(SimWorld *world)
{
	static char text[160];
	SimChecker *checker = world->checker;
	SimNode    *leader = sim_leader(world);
	int			i;

	if (leader == NULL)
		return "there is no leader";
	if (!raft_config_committed(leader->raft))
		return "a membership change is not committed";
	for (i = 0; i < checker->config.n_members; i++)
	{
		const struct raft_member *member = &checker->config.members[i];
		const SimNode *node = &world->nodes[member->id - 1];

		if (!sim_node_running(node) || node->incarnation != member->incarnation)
		{
			snprintf(text, sizeof(text), "member %u.%lu has not joined, it is .%lu",
					 member->id, member->incarnation, node->incarnation);
			return text;
		}
		if (node->machine.applied != checker->n_committed)
		{
			snprintf(text, sizeof(text), "member %u has applied %lu of %lu", member->id,
					 node->machine.applied, checker->n_committed);
			return text;
		}
		if (node->machine.chain != checker->chains[checker->n_applied - 1])
			return "a member has another state";
	}
	return NULL;
}
