/*-------------------------------------------------------------------------
 *
 * raft_fixture_copy.c
 *	  Deep copies of what an engine hands out, which dies with the next call.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "raft_fixture_internal.h"

void *
copy_bytes(const void *data, size_t length)
{
	void	   *copy;

	if (length == 0)
		return NULL;
	copy = malloc(length);
	memcpy(copy, data, length);
	return copy;
}

struct raft_entry *
copy_entries(const struct raft_entry *entries, size_t n)
{
	struct raft_entry *copy;
	size_t		i;

	if (n == 0)
		return NULL;
	copy = malloc(n * sizeof(*copy));
	for (i = 0; i < n; i++)
	{
		copy[i] = entries[i];
		copy[i].data = copy_bytes(entries[i].data, entries[i].length);
	}
	return copy;
}

void
free_entries(const struct raft_entry *entries, size_t n)
{
	size_t		i;

	for (i = 0; i < n; i++)
		free((void *) entries[i].data);
	free((void *) entries);
}

Packet *
copy_packet(const struct raft_message *message)
{
	Packet	   *packet = calloc(1, sizeof(*packet));

	packet->message = *message;
	packet->message.entries = copy_entries(message->entries, message->n_entries);
	packet->message.snapshot = message->snapshot == NULL ? NULL :
		copy_bytes(message->snapshot, sizeof(*message->snapshot));
	packet->message.chunk = copy_bytes(message->chunk, message->chunk_length);
	return packet;
}

void
free_packet(Packet *packet)
{
	free_entries(packet->message.entries, packet->message.n_entries);
	free((void *) packet->message.snapshot);
	free((void *) packet->message.chunk);
	free(packet);
}

void
free_packets(Packet **list)
{
	while (*list != NULL)
	{
		Packet	   *packet = *list;

		*list = packet->next;
		free_packet(packet);
	}
}

void
append_packet(Packet **list, Packet *packet)
{
	while (*list != NULL)
		list = &(*list)->next;
	packet->next = NULL;
	*list = packet;
}

void
blob_set(Blob *blob, size_t offset, const unsigned char *data, size_t length)
{
	if (offset + length > blob->size)
	{
		blob->size = (offset + length) * 2;
		blob->data = realloc(blob->data, blob->size);
	}
	if (length > 0)
		memcpy(blob->data + offset, data, length);
	blob->length = offset + length;
}
