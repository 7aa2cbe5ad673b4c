/*-------------------------------------------------------------------------
 *
 * fuzz_wire.c
 *	  Fuzz target: everything of the network that decodes bytes of a peer.
 *
 * The first byte of an input chooses what the rest is: a whole frame, or the
 * payload of one kind.  What a decoder accepts must encode to the very same
 * bytes, but for configurations inside of snapshot messages, whose form is the
 * engine's business.
 *
 * Seeds are one valid input of each kind and type.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/bytes.h"
#include "pgraft/wire.h"

#include "input.h"

#undef snprintf

#define MAX_INPUT_BYTES (1024 * 1024)

typedef enum Kind
{
	KIND_FRAME = 0,
	KIND_HELLO,
	KIND_MESSAGE,
	KIND_REQUEST,
	KIND_REPLY,
	N_KINDS
} Kind;

static void check_payload(Kind kind, const PgraftFrameHeader *header,
						  const unsigned char *payload);
static void check_message(const PgraftFrameHeader *header, const unsigned char *payload);

static void
demand_same(const unsigned char *encoded, size_t encoded_length,
			const unsigned char *payload, size_t length, const char *what)
{
	demand(encoded_length == length && memcmp(encoded, payload, length) == 0, what);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	PgraftFrameHeader header;
	PgraftError error;
	unsigned char *block;
	Kind		kind;

	if (size < 1 || size > MAX_INPUT_BYTES)
		return 0;
	kind = (Kind) (data[0] % N_KINDS);
	data++;
	size--;

	/* a block of exactly this size: reading on is seen by the sanitizer */
	block = malloc(size > 0 ? size : 1);
	if (block == NULL)
		return 0;
	memcpy(block, data, size);
	memset(&header, 0, sizeof(header));
	header.length = size;
	if (kind != KIND_FRAME)
		check_payload(kind, &header, block);
	else if (size >= PGRAFT_FRAME_HEADER_BYTES &&
			 pgraft_wire_get_header(block, PGRAFT_FRAME_MAX_BYTES, &header, &error) == PGRAFT_OK &&
			 header.length == size - PGRAFT_FRAME_HEADER_BYTES &&
			 pgraft_wire_check_payload(block, block + PGRAFT_FRAME_HEADER_BYTES,
									   &error) == PGRAFT_OK)
	{
		unsigned char again[PGRAFT_FRAME_HEADER_BYTES];
		const unsigned char *payload = block + PGRAFT_FRAME_HEADER_BYTES;

		pgraft_wire_put_header(again, &header, payload);
		demand_same(again, sizeof(again), block, sizeof(again), "frame header is not canonical");
		if (header.type == PGRAFT_FRAME_HELLO || header.type == PGRAFT_FRAME_HELLO_REPLY)
			check_payload(KIND_HELLO, &header, payload);
		else if (header.type == PGRAFT_FRAME_RAFT)
			check_payload(KIND_MESSAGE, &header, payload);
		else if (header.type == PGRAFT_FRAME_REQUEST)
			check_payload(KIND_REQUEST, &header, payload);
		else if (header.type == PGRAFT_FRAME_REPLY)
			check_payload(KIND_REPLY, &header, payload);
	}
	free(block);
	return 0;
}

static void
check_payload(Kind kind, const PgraftFrameHeader *header, const unsigned char *payload)
{
	PgraftHello hello;
	PgraftWireRequest request;
	PgraftWireReply reply;
	unsigned char encoded_hello[PGRAFT_HELLO_MAX_BYTES];
	unsigned char *encoded = malloc(header->length + 1);

	if (encoded == NULL)
		return;
	if (kind == KIND_HELLO &&
		pgraft_wire_decode_hello(payload, header->length, &hello, NULL) == PGRAFT_OK)
		demand_same(encoded_hello, pgraft_wire_encode_hello(encoded_hello, &hello),
					payload, header->length, "greeting is not canonical");
	else if (kind == KIND_MESSAGE)
		check_message(header, payload);
	else if (kind == KIND_REQUEST &&
			 pgraft_wire_decode_request(payload, header->length, &request, NULL) == PGRAFT_OK)
	{
		demand(pgraft_wire_request_bytes(&request) == header->length, "length of a request");
		pgraft_wire_encode_request(encoded, &request);
		demand_same(encoded, header->length, payload, header->length,
					"request is not canonical");
	}
	else if (kind == KIND_REPLY &&
			 pgraft_wire_decode_reply(payload, header->length, &reply, NULL) == PGRAFT_OK)
	{
		demand(pgraft_wire_reply_bytes(&reply) == header->length, "length of a reply");
		pgraft_wire_encode_reply(encoded, &reply);
		demand_same(encoded, header->length, payload, header->length, "reply is not canonical");
	}
	free(encoded);
}

static void
check_message(const PgraftFrameHeader *header, const unsigned char *payload)
{
	PgraftWireScratch scratch;
	struct raft_message message;

	memset(&scratch, 0, sizeof(scratch));
	if (pgraft_wire_decode_message(header, payload, &scratch, &message, NULL) == PGRAFT_OK)
	{
		size_t		length = pgraft_wire_message_bytes(&message);
		unsigned char *encoded = malloc(length);

		if (encoded != NULL)
		{
			pgraft_wire_encode_message(encoded, &message);
			if (message.type != RAFT_MSG_SNAPSHOT)
				demand_same(encoded, length, payload, header->length,
							"message is not canonical");
		}
		free(encoded);
	}

	/* each entry took at least 24 bytes of the payload, but the first 64 are for free */
	demand(scratch.n_entries_allocated <= Max(header->length / 24, 64),
		   "scratch space does not fit the payload");
	pgraft_wire_free_scratch(&scratch);
}

/* ----------------------------------------------------------------
 * Seeds
 * ----------------------------------------------------------------
 */
static void
write_input(const char *directory, const char *name, Kind kind,
			const unsigned char *data, size_t length)
{
	unsigned char *input = fuzz_allocate(length + 1);

	input[0] = (unsigned char) kind;
	memcpy(input + 1, data, length);
	seed_write(directory, name, input, length + 1);
	free(input);
}

/* The payload by itself, and in a frame. */
static void
write_both(const char *directory, const char *name, Kind kind, PgraftFrameType type,
		   const unsigned char *payload, size_t length)
{
	unsigned char *frame = fuzz_allocate(PGRAFT_FRAME_HEADER_BYTES + length);
	PgraftFrameHeader header;
	char		frame_name[100];

	memset(&header, 0, sizeof(header));
	header.length = length;
	header.type = type;
	header.cluster_uid = 12345;
	header.from = 1;
	header.to = 2;
	header.from_incarnation = 1;
	header.to_incarnation = 5;
	memcpy(frame + PGRAFT_FRAME_HEADER_BYTES, payload, length);
	pgraft_wire_put_header(frame, &header, payload);
	snprintf(frame_name, sizeof(frame_name), "frame-%s", name);
	write_input(directory, name, kind, payload, length);
	write_input(directory, frame_name, KIND_FRAME, frame, PGRAFT_FRAME_HEADER_BYTES + length);
	free(frame);
}

static void
write_message(const char *directory, int type)
{
	static const unsigned char text[] = "command";
	struct raft_message message;
	struct raft_entry entries[2];
	struct raft_snapshot_meta meta;
	unsigned char payload[2048];
	char		name[100];

	memset(&message, 0, sizeof(message));
	memset(entries, 0, sizeof(entries));
	memset(&meta, 0, sizeof(meta));
	message.type = type;
	message.term = 3;
	message.index = 9;
	message.log_term = 2;
	if (type == RAFT_MSG_APPEND)
	{
		message.n_entries = 2;
		message.entries = entries;
		entries[0].index = 10;
		entries[0].term = 3;
		entries[0].type = RAFT_ENTRY_EMPTY;
		entries[1].index = 11;
		entries[1].term = 3;
		entries[1].length = sizeof(text);
		entries[1].data = text;
	}
	else if (type == RAFT_MSG_SNAPSHOT)
	{
		meta.index = 9;
		meta.term = 2;
		meta.config.index = 1;
		meta.config.n_members = 1;
		meta.config.members[0].id = 1;
		meta.config.members[0].incarnation = 1;
		meta.config.members[0].role = RAFT_VOTER;
		meta.config.members[0].target_role = RAFT_VOTER;
		message.snapshot = &meta;
		message.total = sizeof(text);
		message.chunk = text;
		message.chunk_length = sizeof(text);
		message.flags = RAFT_FLAG_LAST_CHUNK;
	}
	pgraft_wire_encode_message(payload, &message);
	snprintf(name, sizeof(name), "message-%d", type);
	write_both(directory, name, KIND_MESSAGE, PGRAFT_FRAME_RAFT, payload,
			   pgraft_wire_message_bytes(&message));
}

void
fuzz_write_seeds(const char *directory)
{
	static const unsigned char text[] = "data";
	unsigned char payload[PGRAFT_HELLO_MAX_BYTES];
	PgraftHello hello;
	PgraftWireRequest request;
	PgraftWireReply reply;
	int			type;

	memset(&hello, 0, sizeof(hello));
	strlcpy(hello.cluster_id, "main", sizeof(hello.cluster_id));
	strlcpy(hello.name, "node1", sizeof(hello.name));
	strlcpy(hello.address, "127.0.0.1", sizeof(hello.address));
	hello.port = 7001;
	hello.invite = 1;
	write_both(directory, "hello", KIND_HELLO, PGRAFT_FRAME_HELLO, payload,
			   pgraft_wire_encode_hello(payload, &hello));

	memset(&request, 0, sizeof(request));
	request.request = 7;
	request.kind = 2;
	request.length = sizeof(text);
	request.data = text;
	pgraft_wire_encode_request(payload, &request);
	write_both(directory, "request", KIND_REQUEST, PGRAFT_FRAME_REQUEST, payload,
			   pgraft_wire_request_bytes(&request));

	memset(&reply, 0, sizeof(reply));
	reply.request = 7;
	reply.index = 12;
	reply.term = 3;
	reply.length = sizeof(text);
	reply.data = text;
	pgraft_wire_encode_reply(payload, &reply);
	write_both(directory, "reply", KIND_REPLY, PGRAFT_FRAME_REPLY, payload,
			   pgraft_wire_reply_bytes(&reply));

	for (type = RAFT_MSG_PREVOTE; type <= RAFT_MSG_MAX; type++)
		write_message(directory, type);
}
