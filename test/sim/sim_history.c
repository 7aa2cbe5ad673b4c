/*-------------------------------------------------------------------------
 *
 * sim_history.c
 *	  What the clients saw, and whether one copy could have answered so.
 *
 * The other checkers know the log and follow it; this one knows nothing but the
 * clients' questions and answers with their times, as an outsider would, and
 * gives them to the checker of test/history at the end of a run.  A command
 * that was repeated is one operation from its first attempt to its
 * acknowledgement; one that never was is of unknown outcome.
 *
 * Each write is also an append to the list of all writes, whose position is the
 * log index at which its session says it was applied.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "sim.h"

#define LOG_KEY "log"

static int
value_number(SimWorld *world, raft_u64 value)
{
	char		text[32];

	if (value == 0)
		return HISTORY_NO_VALUE;
	snprintf(text, sizeof(text), "%lu", value);
	return history_value(world->history, text);
}

static void
add(SimWorld *world, unsigned int client, HistoryKind kind, const char *key, SimTime start,
	long end, raft_u64 value, raft_index position)
{
	HistoryOperation operation;
	char		name[32];

	memset(&operation, 0, sizeof(operation));
	snprintf(name, sizeof(name), "client %u", client);
	operation.client = name;
	operation.kind = kind;
	operation.key = key;
	operation.start = (long) start;
	operation.end = end;
	if (kind == HISTORY_READ)
		operation.result = value_number(world, value);
	else
		operation.argument = value_number(world, value);
	operation.position = (long) position;
	history_add(world->history, &operation);
	SIM_COUNT(world, history_operations);
}

static void
add_write(SimWorld *world, const SimClient *client, long end, raft_index position)
{
	char		key[32];

	snprintf(key, sizeof(key), "%u", client->command.key);
	add(world, client->command.client, HISTORY_WRITE, key, client->write_start, end,
		client->command.value, 0);
	add(world, client->command.client, HISTORY_APPEND, LOG_KEY, client->write_start, end,
		client->command.value, position);
}

void
sim_history_wrote(SimWorld *world, const SimClient *client, const SimNode *node)
{
	add_write(world, client, (long) world->now,
			  node->machine.sessions[client->command.client].index);
}

void
sim_history_read(SimWorld *world, const SimClient *client, const SimNode *node)
{
	char		key[32];

	snprintf(key, sizeof(key), "%u", client->read_key);
	add(world, (unsigned int) (client - world->clients), HISTORY_READ, key,
		client->read_start, (long) world->now, node->machine.registers[client->read_key].value, 0);
}

static void
write_file(SimWorld *world)
{
	FILE	   *file = fopen(world->options->history, "w");

	if (file == NULL)
	{
		fprintf(stderr, "could not write \"%s\"\n", world->options->history);
		return;
	}
	fprintf(file, "# seed %lu\n", world->seed);
	history_print(world->history, file);
	fclose(file);
}

/* At the end of a run. */
void
sim_history_judge(SimWorld *world)
{
	char	   *report;
	int			i;

	for (i = 0; i < world->settings.n_clients; i++)
		if (world->clients[i].command_open)
			add_write(world, &world->clients[i], HISTORY_UNKNOWN_END, 0);
	if (world->options->history != NULL)
		write_file(world);
	switch (history_check(world->history, &report))
	{
		case HISTORY_GOOD:
			SIM_COUNT(world, histories);
			break;
		case HISTORY_BAD:
			report[strcspn(report, "\n")] = ' ';
			sim_violation(world, "linearizability of the history", "%.400s", report);
			break;
		case HISTORY_TOO_HARD:
			sim_violation(world, "history", "too hard to judge");
			break;
	}
	free(report);
}
