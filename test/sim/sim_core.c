/*-------------------------------------------------------------------------
 *
 * sim_core.c
 *	  What makes a run repeatable: one generator, one event queue, one trace.
 *
 * Nothing here knows Raft.  No address, no real time and no iteration order
 * of a hash table may reach the generator, the queue or the trace; else the
 * same seed would stop giving the same run.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define HASH_PRIME 1099511628211UL

const char *const sim_statistic_names[SIM_N_STATISTICS] = {
#define X(name) #name,
	SIM_STATISTICS(X)
#undef X
};

/* Never returns NULL: the simulator itself does not test lack of memory. */
void *
sim_alloc(size_t size)
{
	void	   *result = calloc(1, size > 0 ? size : 1);

	if (result == NULL)
	{
		fprintf(stderr, "pgraft_sim: out of memory\n");
		exit(2);
	}
	return result;
}

/* splitmix64: every seed, however small, gives an unrelated stream. */
raft_u64
sim_random(SimWorld *world)
{
	raft_u64	z = (world->random_state += 0x9e3779b97f4a7c15UL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
	return z ^ (z >> 31);
}

/* Uniform in [0, n); 0 when n is 0. */
raft_u64
sim_below(SimWorld *world, raft_u64 n)
{
	return n == 0 ? 0 : sim_random(world) % n;
}

/* Uniform in [low, high]. */
raft_u64
sim_range(SimWorld *world, raft_u64 low, raft_u64 high)
{
	return low + sim_below(world, high - low + 1);
}

int
sim_chance(SimWorld *world, unsigned int per_thousand)
{
	return sim_below(world, 1000) < per_thousand;
}

raft_u64
sim_hash(raft_u64 hash, const void *data, size_t length)
{
	const unsigned char *p = data;
	size_t		i;

	for (i = 0; i < length; i++)
		hash = (hash ^ p[i]) * HASH_PRIME;
	return hash;
}

/* One line into the ring of the last lines, and into the hash of the run. */
void
sim_trace(SimWorld *world, const char *format,...)
{
	char	   *line = world->trace[world->trace_lines % SIM_TRACE_LINES];
	va_list		args;
	int			n;

	n = snprintf(line, SIM_TRACE_WIDTH, "%6lu.%03lu ",
				 world->now / SIM_MS, world->now % SIM_MS);
	va_start(args, format);
	vsnprintf(line + n, SIM_TRACE_WIDTH - (size_t) n, format, args);
	va_end(args);
	world->trace_hash = sim_hash(world->trace_hash, line, strlen(line));
	world->trace_lines++;
	if (world->options->trace)
		puts(line);
}

/* Where everybody stands, as the last lines before the verdict. */
static void
trace_members(SimWorld *world)
{
	int			i;

	for (i = 0; i < world->settings.n_slots; i++)
	{
		const SimNode *node = &world->nodes[i];
		struct raft_status status;

		if (node->raft == NULL)
		{
			sim_trace(world, "STATE %u.%lu %s", node->id, node->incarnation,
					  node->has_state ? "down" : "blank");
			continue;
		}
		raft_status(node->raft, &status);
		sim_trace(world, "STATE %u.%lu %s%s t%lu vote %u leader %u log %lu..%lu/%lu durable %lu "
				  "commit %lu applied %lu snapshot %lu/%lu", node->id, node->incarnation,
				  raft_state_name(status.state), node->paused ? " paused" : "",
				  status.term, status.vote, status.leader, status.first_index,
				  status.last_index, status.last_term, status.durable_index,
				  status.commit_index, status.applied_index, status.snapshot_index,
				  status.snapshot_term);
	}
}

/*
 * The run ends at the next turn of the event loop; the first violation is the
 * one that is reported, later ones are its consequences.
 */
void
sim_violation(SimWorld *world, const char *invariant, const char *format,...)
{
	char		text[400];
	va_list		args;

	if (world->failed)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	world->failed = 1;
	snprintf(world->violation, sizeof(world->violation), "%s: %s", invariant, text);
	trace_members(world);
	sim_trace(world, "VIOLATION %s", world->violation);
}

void
sim_dump_trace(const SimWorld *world)
{
	raft_u64	first = 0;
	raft_u64	i;

	if (world->options->trace || world->options->quiet_failure)
		return;
	if (world->trace_lines > SIM_TRACE_LINES)
		first = world->trace_lines - SIM_TRACE_LINES;
	for (i = first; i < world->trace_lines; i++)
		puts(world->trace[i % SIM_TRACE_LINES]);
}

/* ----------------------------------------------------------------
 * The event queue: a binary heap ordered by (time, order of creation)
 * ----------------------------------------------------------------
 */
static int
earlier(const SimEvent *a, const SimEvent *b)
{
	return a->at < b->at || (a->at == b->at && a->order < b->order);
}

void
sim_push(SimWorld *world, SimTime delay, SimEventType type, int node, int other,
		 raft_u64 life, SimMessage *message)
{
	SimEvent	event;
	size_t		i;

	if (world->n_heap == world->heap_capacity)
	{
		world->heap_capacity = world->heap_capacity * 2 + 1024;
		world->heap = realloc(world->heap, world->heap_capacity * sizeof(SimEvent));
		if (world->heap == NULL)
		{
			fprintf(stderr, "pgraft_sim: out of memory\n");
			exit(2);
		}
	}
	event.at = world->now + delay;
	event.order = world->next_order++;
	event.type = type;
	event.node = node;
	event.other = other;
	event.life = life;
	event.message = message;

	i = world->n_heap++;
	while (i > 0 && earlier(&event, &world->heap[(i - 1) / 2]))
	{
		world->heap[i] = world->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	world->heap[i] = event;
}

/* Returns 0 when the queue is empty. */
int
sim_pop(SimWorld *world, SimEvent *event)
{
	SimEvent	last;
	size_t		i = 0;

	if (world->n_heap == 0)
		return 0;
	*event = world->heap[0];
	last = world->heap[--world->n_heap];
	for (;;)
	{
		size_t		child = 2 * i + 1;

		if (child >= world->n_heap)
			break;
		if (child + 1 < world->n_heap &&
			earlier(&world->heap[child + 1], &world->heap[child]))
			child++;
		if (!earlier(&world->heap[child], &last))
			break;
		world->heap[i] = world->heap[child];
		i = child;
	}
	if (world->n_heap > 0)
		world->heap[i] = last;
	return 1;
}
