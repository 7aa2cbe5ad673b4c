/*-------------------------------------------------------------------------
 *
 * sim_check.c
 *	  The invariants of logs, terms, votes, elections and commits.
 *
 * Judges what a member says (messages), asks (writes) and believes (status)
 * against copies of its own:
 *
 *	election safety			one leader a term; one vote a term and membership
 *	leader append-only		a leader never truncates
 *	log matching			(index, term) names one entry with one predecessor
 *	leader completeness		a leader has everything committed in earlier terms
 *	commit rules			only a leader commits first, an entry of its own
 *							term, durable on a quorum of its configuration
 *	monotonic				term and commit, vote within a term
 *	durability				what is promised to others is durable here; what was
 *							durable is found again, each write whole or not
 *	the engine's own		raft_check_invariants()
 *
 * It reads the engine only through raft_status(), raft_get_config() and
 * raft_check_invariants().
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

/* Zeroes what it adds. */
void
sim_check_grow(void **array, size_t *capacity, size_t wanted, size_t element)
{
	size_t		grown = *capacity;

	if (wanted <= grown)
		return;
	while (grown < wanted)
		grown = grown * 2 + 64;
	*array = realloc(*array, grown * element);
	if (*array == NULL)
	{
		fprintf(stderr, "pgraft_sim: out of memory\n");
		exit(2);
	}
	memset((char *) *array + *capacity * element, 0, (grown - *capacity) * element);
	*capacity = grown;
}

SimChecker *
sim_check_create(SimWorld *world)
{
	(void) world;
	return sim_alloc(sizeof(SimChecker));
}

void
sim_check_destroy(SimChecker *checker)
{
	int			i;

	for (i = 0; i < SIM_MAX_NODES; i++)
	{
		SimRecord  *record = &checker->records[i];

		sim_check_forget_life(record);
		sim_log_free(&record->memory);
		sim_log_free(&record->durable);
		sim_log_free(&record->recovered);
		free(record->votes);
	}
	for (i = 0; i < SIM_KEYS; i++)
		free(checker->histories[i].writes);
	free(checker->committed);
	free(checker->chains);
	free(checker->leaders);
	free(checker->leader_incarnations);
	free(checker->known);
	free(checker);
}

/* ----------------------------------------------------------------
 * Log matching
 * ----------------------------------------------------------------
 */
static SimKnownEntry *
find_known(SimChecker *checker, raft_index index, raft_term term)
{
	size_t		mask = checker->known_capacity - 1;
	size_t		at = (index * 0x9e3779b97f4a7c15UL ^ term * 0xc2b2ae3d27d4eb4fUL) >> 20;

	for (at &= mask; checker->known[at].index != 0; at = (at + 1) & mask)
	{
		if (checker->known[at].index == index && checker->known[at].term == term)
			break;
	}
	return &checker->known[at];
}

static void
grow_known(SimChecker *checker)
{
	SimKnownEntry *old = checker->known;
	size_t		old_capacity = checker->known_capacity;
	size_t		i;

	checker->known_capacity = old_capacity == 0 ? 1024 : old_capacity * 2;
	checker->known = sim_alloc(checker->known_capacity * sizeof(SimKnownEntry));
	for (i = 0; i < old_capacity; i++)
	{
		if (old[i].index != 0)
			*find_known(checker, old[i].index, old[i].term) = old[i];
	}
	free(old);
}

/*
 * Log matching, by induction: every entry of every log passes here, and
 * (index, term) must always come with the same payload and predecessor.
 */
void
sim_check_know(SimWorld *world, SimNode *node, const SimLog *log, raft_index index)
{
	SimChecker *checker = world->checker;
	const SimLogEntry *entry = &log->entries[index - log->start - 1];
	SimKnownEntry *known;
	raft_term	previous = 0;

	if ((checker->n_known + 1) * 2 > checker->known_capacity)
		grow_known(checker);
	sim_log_term(log, index - 1, &previous);
	if (previous > entry->term)
		sim_violation(world, "log matching", "member %u: term %lu at %lu follows %lu",
					  node->id, entry->term, index, previous);
	known = find_known(checker, index, entry->term);
	if (known->index == 0)
	{
		known->index = index;
		known->term = entry->term;
		known->hash = entry->hash;
		known->previous_term = previous;
		checker->n_known++;
	}
	else if (known->hash != entry->hash || known->previous_term != previous)
		sim_violation(world, "log matching",
					  "member %u has another entry %lu of term %lu (after term %lu, known after %lu)",
					  node->id, index, entry->term, previous, known->previous_term);
}

/* ----------------------------------------------------------------
 * Votes and leaders
 * ----------------------------------------------------------------
 */
static void
check_vote(SimWorld *world, SimNode *node, raft_term term, raft_id candidate)
{
	SimRecord  *record = record_of(world, node);
	size_t		i = record->n_votes;

	while (i > 0 && record->votes[i - 1].incarnation == node->incarnation)
	{
		SimVote    *vote = &record->votes[--i];

		if (vote->term != term)
			continue;
		if (vote->candidate != candidate)
			sim_violation(world, "one vote a term", "member %u votes for %u and %u in %lu",
						  node->id, vote->candidate, candidate, term);
		return;
	}
	sim_check_grow((void **) &record->votes, &record->votes_capacity,
				   record->n_votes + 1, sizeof(SimVote));
	record->votes[record->n_votes].incarnation = node->incarnation;
	record->votes[record->n_votes].term = term;
	record->votes[record->n_votes].candidate = candidate;
	record->n_votes++;
}

static void
grow_leaders(SimChecker *checker, raft_term term)
{
	size_t		capacity = checker->leaders_capacity;

	sim_check_grow((void **) &checker->leaders, &capacity, term + 1, sizeof(raft_id));
	capacity = checker->leaders_capacity;
	sim_check_grow((void **) &checker->leader_incarnations, &capacity, term + 1,
				   sizeof(raft_u64));
	checker->leaders_capacity = capacity;
}

/* Everything committed in terms before `term` must be in a leader's log. */
static void
check_complete(SimWorld *world, SimNode *node, raft_term term)
{
	SimChecker *checker = world->checker;
	SimRecord  *record = record_of(world, node);
	raft_index	index = checker->n_committed;

	while (index > 0 && checker->committed[index - 1].at_term >= term)
		index--;
	if (index > 0 &&
		!sim_log_has(&record->memory, index, checker->committed[index - 1].term))
		sim_violation(world, "leader completeness",
					  "member %u leads term %lu without %lu/%lu committed in term %lu",
					  node->id, term, index, checker->committed[index - 1].term,
					  checker->committed[index - 1].at_term);
}

static void
check_elected(SimWorld *world, SimNode *node, raft_term term)
{
	SimChecker *checker = world->checker;
	int			i;

	for (i = 0; i < world->settings.n_slots; i++)
	{
		/* one of the past, who does not know yet: the time for stale reads */
		if (i != node->slot && checker->records[i].state == RAFT_LEADER &&
			sim_node_running(&world->nodes[i]))
			SIM_COUNT(world, two_leaders);
	}
	grow_leaders(checker, term);
	if (checker->leaders[term] != 0 &&
		(checker->leaders[term] != node->id ||
		 checker->leader_incarnations[term] != node->incarnation))
		sim_violation(world, "election safety", "members %u and %u lead term %lu",
					  checker->leaders[term], node->id, term);
	checker->leaders[term] = node->id;
	checker->leader_incarnations[term] = node->incarnation;
	check_vote(world, node, term, node->id);
	if (record_of(world, node)->durable.hard_state.term != term ||
		record_of(world, node)->durable.hard_state.vote != node->id)
		sim_violation(world, "durability", "member %u leads term %lu, its vote not durable",
					  node->id, term);
	check_complete(world, node, term);
	SIM_COUNT(world, elections);
	sim_trace(world, "ELECTED %u in term %lu", node->id, term);
}

/* ----------------------------------------------------------------
 * Commits
 * ----------------------------------------------------------------
 */
static int
is_voter(int role)
{
	return role == RAFT_VOTER || role == RAFT_WITNESS;
}

/* A majority of each half of the configuration has the entry durable. */
static int
quorum_has(SimWorld *world, const struct raft_config *config, raft_index index,
		   raft_term term)
{
	int			voters[2] = {0, 0};
	int			have[2] = {0, 0};
	int			i;

	for (i = 0; i < config->n_members; i++)
	{
		const struct raft_member *member = &config->members[i];
		const SimNode *node = &world->nodes[member->id - 1];
		int			has;

		has = node->incarnation == member->incarnation &&
			sim_log_has(&world->checker->records[member->id - 1].durable, index, term);
		if (is_voter(member->role))
		{
			voters[0]++;
			have[0] += has;
		}
		if (config->joint && is_voter(member->old_role))
		{
			voters[1]++;
			have[1] += has;
		}
	}
	return have[0] * 2 > voters[0] && (!config->joint || have[1] * 2 > voters[1]);
}

static void
check_first_commit(SimWorld *world, SimNode *node, const struct raft_status *status,
				   raft_index index)
{
	SimChecker *checker = world->checker;
	SimRecord  *record = record_of(world, node);
	raft_term	term = 0;
	int			i;

	sim_log_term(&record->memory, index, &term);

	/* a leader that commits its own removal steps down in the same update */
	if (status->state != RAFT_LEADER &&
		(record->state != RAFT_LEADER || record->term != status->term))
		sim_violation(world, "commit rules", "member %u, no leader, is the first to commit %lu",
					  node->id, index);
	else if (term != status->term)
		sim_violation(world, "commit rules",
					  "member %u commits %lu of term %lu by counting in term %lu",
					  node->id, index, term, status->term);
	else if (!quorum_has(world, &record->config, index, term) &&
			 !quorum_has(world, &record->previous_config, index, term))
		sim_violation(world, "commit rules", "member %u commits %lu/%lu without a quorum",
					  node->id, index, term);

	/* leaders of later terms that were elected before this commit */
	for (i = 0; i < world->settings.n_slots; i++)
	{
		const SimRecord *other = &checker->records[i];

		if (other->state == RAFT_LEADER && other->term > status->term)
			check_complete(world, &world->nodes[i], other->term);
	}
}

/* The commit index of a member moved: compare with what is known committed. */
static void
check_commit(SimWorld *world, SimNode *node, const struct raft_status *status)
{
	SimChecker *checker = world->checker;
	SimRecord  *record = record_of(world, node);
	raft_index	known = checker->n_committed;
	raft_index	end = status->commit_index;
	raft_index	index;

	if (status->commit_index < record->commit)
		sim_violation(world, "monotonic", "member %u takes its commit back from %lu to %lu",
					  node->id, record->commit, status->commit_index);
	if (end > record->memory.last)
		end = record->memory.last;
	index = record->commit > record->memory.start ? record->commit : record->memory.start;
	for (index++; index <= end; index++)
	{
		const SimLogEntry *entry =
		&record->memory.entries[index - record->memory.start - 1];
		SimCommitted *committed;

		sim_check_grow((void **) &checker->committed, &checker->committed_capacity,
					   index, sizeof(SimCommitted));
		committed = &checker->committed[index - 1];
		if (index > checker->n_committed)
		{
			committed->term = entry->term;
			committed->hash = entry->hash;
			committed->at_term = status->term;
			checker->n_committed = index;
			SIM_COUNT(world, commits);
		}
		else if (committed->term != entry->term || committed->hash != entry->hash)
			sim_violation(world, "state machine safety",
						  "member %u commits %lu of term %lu, others of term %lu",
						  node->id, index, entry->term, committed->term);
	}
	if (checker->n_committed > known)
		check_first_commit(world, node, status, checker->n_committed);
	if (end > record->commit)
		record->commit = end;
}

/* ----------------------------------------------------------------
 * Writes
 * ----------------------------------------------------------------
 */
static void
watch_config(SimNode *node, SimRecord *record)
{
	const struct raft_config *config = raft_get_config(node->raft);

	if (config->index == record->config.index &&
		config->n_members == record->config.n_members)
		return;
	record->previous_config = record->config;
	record->config = *config;
}

static void
check_hard_state(SimWorld *world, SimNode *node, const struct raft_hard_state *state)
{
	SimRecord  *record = record_of(world, node);

	if (state->term < record->term)
		sim_violation(world, "monotonic", "member %u goes back from term %lu to %lu",
					  node->id, record->term, state->term);
	if (state->term == record->term && record->vote != 0 && state->vote != record->vote)
		sim_violation(world, "one vote a term", "member %u changes its vote in %lu: %u, %u",
					  node->id, state->term, record->vote, state->vote);
	if (state->commit > world->checker->n_committed)
		sim_violation(world, "commit rules", "member %u writes commit %lu, only %lu is",
					  node->id, state->commit, world->checker->n_committed);
	record->vote = state->vote;
}

static void
check_install(SimWorld *world, SimNode *node, const struct raft_snapshot_meta *meta)
{
	SimChecker *checker = world->checker;

	if (meta->index == 0 || meta->index > checker->n_committed ||
		checker->committed[meta->index - 1].term != meta->term)
		sim_violation(world, "snapshot", "member %u installs %lu/%lu, which is not committed",
					  node->id, meta->index, meta->term);
}

/*
 * Takes note of a write: of what the log is from now on in memory, and, until
 * sim_check_durable(), of what may or may not be on the disk.
 */
void
sim_check_write(SimWorld *world, SimNode *node, const struct raft_update *update)
{
	SimRecord  *record = record_of(world, node);
	SimEffect  *effect = sim_effect_create(update);
	SimEffect **tail = &record->effects;
	const char *wrong = sim_effect_apply(&record->memory, effect);
	size_t		i;

	if (wrong != NULL)
		sim_violation(world, "writes", "member %u %s", node->id, wrong);
	for (i = 0; i < update->n_entries && wrong == NULL; i++)
		sim_check_know(world, node, &record->memory, update->entries[i].index);
	if (update->epoch == 0)
	{
		if (update->n_entries > 0 || update->truncate_from != 0 ||
			update->install != NULL || update->hard_state_changed)
			sim_violation(world, "writes", "member %u wants a write without an epoch",
						  node->id);
		sim_effect_free(effect);
		return;
	}
	while (*tail != NULL)
		tail = &(*tail)->next;
	*tail = effect;
}

/* Called before anything of the update is done. */
void
sim_check_update(SimWorld *world, SimNode *node, const struct raft_update *update)
{
	SimRecord  *record = record_of(world, node);
	struct raft_status status;

	if (update->truncate_from != 0)
	{
		SIM_COUNT(world, truncations);
		if (record->state == RAFT_LEADER && record->term == update->hard_state.term)
			sim_violation(world, "leader append-only", "leader %u truncates from %lu",
						  node->id, update->truncate_from);
		if (update->truncate_from <= record->commit)
			sim_violation(world, "state machine safety",
						  "member %u truncates committed entries from %lu (commit %lu)",
						  node->id, update->truncate_from, record->commit);
	}
	if (update->install != NULL)
		check_install(world, node, update->install);
	sim_check_write(world, node, update);
	raft_status(node->raft, &status);
	watch_config(node, record);
	check_commit(world, node, &status);
	check_hard_state(world, node, &update->hard_state);
}

/* The oldest write in flight is durable. */
void
sim_check_durable(SimWorld *world, SimNode *node)
{
	SimRecord  *record = record_of(world, node);
	SimEffect  *effect = record->effects;
	const char *wrong;

	record->effects = effect->next;
	wrong = sim_effect_apply(&record->durable, effect);
	if (wrong != NULL)
		sim_violation(world, "writes", "member %u %s", node->id, wrong);
	sim_effect_free(effect);
}

/* ----------------------------------------------------------------
 * Messages
 * ----------------------------------------------------------------
 */
static void
check_reply(SimWorld *world, SimNode *node, const struct raft_message *m)
{
	const SimLog *durable = &record_of(world, node)->durable;
	const char *kind = raft_message_name(m->type);

	if (durable->hard_state.term < m->term)
		sim_violation(world, "durability", "member %u sends %s of term %lu, durable is %lu",
					  node->id, kind, m->term, durable->hard_state.term);
	if (m->type == RAFT_MSG_VOTE_REPLY && !m->reject)
	{
		if (durable->hard_state.term == m->term && durable->hard_state.vote != m->to)
			sim_violation(world, "durability", "member %u grants %u a vote that is not durable",
						  node->id, m->to);
		check_vote(world, node, m->term, m->to);
	}
	if (m->type == RAFT_MSG_SNAPSHOT_REPLY && !m->reject)
	{
		if (m->total > 0 && m->offset >= m->total && m->index > durable->last)
			sim_violation(world, "durability", "member %u reports snapshot %lu, durable is %lu",
						  node->id, m->index, durable->last);
	}
	else if (m->type != RAFT_MSG_VOTE_REPLY && m->type != RAFT_MSG_SNAPSHOT_REPLY &&
			 !m->reject && m->index > durable->last &&
			 m->index > durable->snapshot_index)
		sim_violation(world, "durability", "member %u acknowledges %lu, durable is %lu",
					  node->id, m->index, durable->last);
}

/* Judges a message at the moment it leaves its sender. */
void
sim_check_send(SimWorld *world, SimNode *node, const struct raft_message *m)
{
	SimChecker *checker = world->checker;

	if (m->from != node->id || m->from_incarnation != node->incarnation)
		sim_violation(world, "messages", "member %u.%lu sends as %u.%lu", node->id,
					  node->incarnation, m->from, m->from_incarnation);
	switch (m->type)
	{
		case RAFT_MSG_VOTE_REPLY:
		case RAFT_MSG_APPEND_REPLY:
		case RAFT_MSG_HEARTBEAT_REPLY:
		case RAFT_MSG_SNAPSHOT_REPLY:
			check_reply(world, node, m);
			break;
		case RAFT_MSG_APPEND:
		case RAFT_MSG_HEARTBEAT:
			if (m->commit > checker->n_committed)
				sim_violation(world, "commit rules", "member %u announces commit %lu of %lu",
							  node->id, m->commit, checker->n_committed);
			/* FALLTHROUGH */
		case RAFT_MSG_SNAPSHOT:
		case RAFT_MSG_TIMEOUT_NOW:
			grow_leaders(checker, m->term);
			if (checker->leaders[m->term] == 0)
				check_elected(world, node, m->term);
			if (checker->leaders[m->term] != node->id)
				sim_violation(world, "election safety", "member %u sends %s of term %lu led by %u",
							  node->id, raft_message_name(m->type), m->term,
							  checker->leaders[m->term]);
			break;
		default:
			break;
	}
}

/* ----------------------------------------------------------------
 * After each event
 * ----------------------------------------------------------------
 */
void
sim_check_node(SimWorld *world, SimNode *node)
{
	SimRecord  *record = record_of(world, node);
	struct raft_status status;
	const char *broken = raft_check_invariants(node->raft);

	if (broken != NULL)
		sim_violation(world, "engine's own", "member %u: %s", node->id, broken);
	raft_status(node->raft, &status);
	watch_config(node, record);

	/* a host with too many writes in flight leaves a follower's updates waiting */
	if (node->n_jobs < SIM_MAX_JOBS || status.state == RAFT_LEADER)
		check_commit(world, node, &status);
	if (status.term < record->term)
		sim_violation(world, "monotonic", "member %u goes back from term %lu to %lu",
					  node->id, record->term, status.term);
	if (node->n_jobs < SIM_MAX_JOBS)
	{
		raft_term	term = 0;

		sim_log_term(&record->memory, record->memory.last, &term);
		if (status.last_index != record->memory.last || status.last_term != term ||
			status.commit_index > record->memory.last)
			sim_violation(world, "writes",
						  "member %u says last %lu/%lu commit %lu, asked to write %lu/%lu",
						  node->id, status.last_index, status.last_term,
						  status.commit_index, record->memory.last, term);
	}
	if (status.state == RAFT_LEADER &&
		(record->state != RAFT_LEADER || record->term != status.term))
	{
		grow_leaders(world->checker, status.term);
		if (world->checker->leaders[status.term] != node->id)
			check_elected(world, node, status.term);
	}
	SIM_ADD(world, prevotes, status.prevotes_started - record->prevotes);
	SIM_ADD(world, ignored, status.messages_ignored - record->ignored);
	record->prevotes = status.prevotes_started;
	record->ignored = status.messages_ignored;
	record->state = status.state;
	record->term = status.term;
	record->vote = status.vote;
}
