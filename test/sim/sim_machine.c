/*-------------------------------------------------------------------------
 *
 * sim_machine.c
 *	  The replicated state machine of the simulator.
 *
 * A few registers, one session per client (a command whose sequence number
 * was applied before changes nothing), and a hash chained over every entry
 * applied.  Two members at the same applied index must have equal state, to
 * the bit; the checker compares chains, so one wrong entry anywhere in the
 * past shows at once.
 *
 * Snapshot: "SIMS", ballast length (8 bytes), the struct, then ballast made
 * from the chain, which load checks byte by byte: a chunk that was swapped,
 * repeated or lost cannot pass.  Host byte order: snapshots never leave the
 * process.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "sim.h"

#define MAGIC "SIMS"
#define HEADER_BYTES (4 + sizeof(raft_u64))

static unsigned char
ballast_byte(raft_u64 chain, size_t position)
{
	raft_u64	z = (chain ^ position) * 0x9e3779b97f4a7c15UL;

	return (unsigned char) (z >> 56);
}

void
sim_machine_reset(SimMachine *machine)
{
	memset(machine, 0, sizeof(*machine));
	machine->chain = 14695981039346656037UL;
}

/* Returns 1 when the entry was a command that its session had applied before. */
int
sim_machine_apply(SimMachine *machine, const struct raft_entry *entry)
{
	SimCommand	command;
	SimSession *session;
	SimRegister *target;

	machine->applied = entry->index;
	machine->chain = sim_hash(machine->chain, &entry->index, sizeof(entry->index));
	machine->chain = sim_hash(machine->chain, &entry->term, sizeof(entry->term));
	machine->chain = sim_hash(machine->chain, &entry->type, sizeof(entry->type));
	machine->chain = sim_hash(machine->chain, entry->data, entry->length);
	if (!sim_command_decode(entry, &command))
		return 0;
	session = &machine->sessions[command.client];
	if (command.sequence <= session->sequence)
		return 1;
	session->sequence = command.sequence;
	session->index = entry->index;
	target = &machine->registers[command.key];
	target->value = command.value;
	target->index = entry->index;
	target->writes++;
	return 0;
}

size_t
sim_machine_snapshot_size(const SimMachine *machine, size_t ballast)
{
	return HEADER_BYTES + sizeof(*machine) + ballast;
}

void
sim_machine_save(const SimMachine *machine, size_t ballast, unsigned char *buffer)
{
	raft_u64	length = ballast;
	size_t		i;

	memcpy(buffer, MAGIC, 4);
	memcpy(buffer + 4, &length, sizeof(length));
	memcpy(buffer + HEADER_BYTES, machine, sizeof(*machine));
	buffer += HEADER_BYTES + sizeof(*machine);
	for (i = 0; i < ballast; i++)
		buffer[i] = ballast_byte(machine->chain, i);
}

/* Returns 0 when the bytes are not a snapshot that sim_machine_save made. */
int
sim_machine_load(SimMachine *machine, const unsigned char *buffer, size_t length)
{
	raft_u64	ballast;
	size_t		i;

	if (length < HEADER_BYTES + sizeof(*machine) || memcmp(buffer, MAGIC, 4) != 0)
		return 0;
	memcpy(&ballast, buffer + 4, sizeof(ballast));
	if (length != HEADER_BYTES + sizeof(*machine) + ballast)
		return 0;
	memcpy(machine, buffer + HEADER_BYTES, sizeof(*machine));
	buffer += HEADER_BYTES + sizeof(*machine);
	for (i = 0; i < ballast; i++)
	{
		if (buffer[i] != ballast_byte(machine->chain, i))
			return 0;
	}
	return 1;
}

/* Writes SIM_COMMAND_BYTES + padding bytes and returns how many. */
size_t
sim_command_encode(const SimCommand *command, size_t padding, unsigned char *buffer)
{
	size_t		i;

	memcpy(buffer, &command->client, 4);
	memcpy(buffer + 4, &command->key, 4);
	memcpy(buffer + 8, &command->sequence, 8);
	memcpy(buffer + 16, &command->value, 8);
	for (i = 0; i < padding; i++)
		buffer[SIM_COMMAND_BYTES + i] = ballast_byte(command->value, i);
	return SIM_COMMAND_BYTES + padding;
}

/* Returns 0 for entries that are not commands of clients. */
int
sim_command_decode(const struct raft_entry *entry, SimCommand *command)
{
	if (entry->type != RAFT_ENTRY_NORMAL || entry->length < SIM_COMMAND_BYTES)
		return 0;
	memcpy(&command->client, entry->data, 4);
	memcpy(&command->key, entry->data + 4, 4);
	memcpy(&command->sequence, entry->data + 8, 8);
	memcpy(&command->value, entry->data + 16, 8);
	return command->client < SIM_MAX_CLIENTS && command->key < SIM_KEYS;
}
