/*-------------------------------------------------------------------------
 *
 * test_wire.c
 *	  The wire format: everything that is encoded decodes to the same, and
 *	  nothing else decodes.
 *
 * Payloads are copied into blocks of exactly their size before decoding, so
 * that the sanitizers and valgrind see a read past the end.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include "pgraft/bytes.h"
#include "pgraft/wire.h"

#undef printf
#undef vprintf
#undef snprintf
#include "tap.h"

#define ROUNDS_PER_TYPE 40
#define MAX_ENTRIES 5
#define MAX_DATA 40

static raft_u64 random_state = 20260101;

static raft_u64
random_u64(void)
{
	random_state += UINT64CONST(0x9E3779B97F4A7C15);
	return pgraft_digest_spread(random_state);
}

static raft_u64
random_below(raft_u64 limit)
{
	return random_u64() % limit;
}

/* Often small, sometimes 0, sometimes huge. */
static raft_u64
random_number(void)
{
	switch (random_below(4))
	{
		case 0:
			return 0;
		case 1:
			return random_below(1000);
		case 2:
			return ~(raft_u64) 0 - random_below(3);
		default:
			return random_u64();
	}
}

static void
random_bytes(unsigned char *data, size_t length)
{
	size_t		i;

	for (i = 0; i < length; i++)
		data[i] = (unsigned char) random_u64();
}

/* ----------------------------------------------------------------
 * Random messages
 * ----------------------------------------------------------------
 */
typedef struct Sample
{
	struct raft_message message;
	struct raft_entry entries[MAX_ENTRIES];
	unsigned char data[MAX_ENTRIES][MAX_DATA];
	struct raft_snapshot_meta snapshot;
	unsigned char chunk[MAX_DATA];
} Sample;

static void
random_entries(Sample *sample)
{
	struct raft_message *message = &sample->message;
	size_t		i;

	message->index = random_below(2) ? random_below(1000) : random_u64() >> 1;
	message->n_entries = random_below(MAX_ENTRIES + 1);
	message->entries = message->n_entries > 0 ? sample->entries : NULL;
	for (i = 0; i < message->n_entries; i++)
	{
		struct raft_entry *entry = &sample->entries[i];

		entry->index = message->index + 1 + i;
		entry->term = random_number();
		entry->type = (int) random_below(RAFT_ENTRY_CONFIG + 1);
		entry->length = random_below(MAX_DATA + 1);
		random_bytes(sample->data[i], entry->length);
		entry->data = entry->length > 0 ? sample->data[i] : NULL;
	}
}

static void
random_snapshot(Sample *sample)
{
	struct raft_message *message = &sample->message;
	struct raft_config *config = &sample->snapshot.config;
	int			i;

	sample->snapshot.index = 1 + random_below(1000000);
	sample->snapshot.term = 1 + random_below(1000);
	config->index = 1 + random_below(1000000);
	config->n_members = 1 + (int) random_below(4);
	for (i = 0; i < config->n_members; i++)
	{
		struct raft_member *member = &config->members[i];

		member->id = (raft_id) (10 * i + 1 + (int) random_below(10));
		member->incarnation = 1 + random_below(1000);
		member->role = i == 0 ? RAFT_VOTER : RAFT_LEARNER;
		member->target_role = member->role == RAFT_VOTER ? RAFT_VOTER : RAFT_LEARNER;
		member->priority = (int) random_below(101);
		member->port = 1 + (unsigned int) random_below(65535);
		snprintf(member->name, sizeof(member->name), "node%u", member->id);
		snprintf(member->address, sizeof(member->address), "10.0.0.%u", member->id % 256);
	}
	message->snapshot = &sample->snapshot;
	message->offset = random_number();
	message->total = random_number();
	message->chunk_length = random_below(MAX_DATA + 1);
	random_bytes(sample->chunk, message->chunk_length);
	message->chunk = message->chunk_length > 0 ? sample->chunk : NULL;
	message->flags = random_below(2) ? RAFT_FLAG_LAST_CHUNK : 0;
}

/* The fields that mean something for the type, as raft.h lists them. */
static void
random_message(int type, Sample *sample)
{
	struct raft_message *message = &sample->message;

	memset(sample, 0, sizeof(*sample));
	message->type = type;
	message->from = 1 + (raft_id) random_below(1000);
	message->to = 1 + (raft_id) random_below(1000);
	message->from_incarnation = random_number();
	message->to_incarnation = random_number();
	message->term = random_number();
	switch (type)
	{
		case RAFT_MSG_PREVOTE:
		case RAFT_MSG_VOTE:
			message->index = random_number();
			message->log_term = random_number();
			message->flags = (unsigned int) random_below(4) |
				(random_below(2) ? RAFT_FLAG_WITNESS : 0);
			break;
		case RAFT_MSG_PREVOTE_REPLY:
		case RAFT_MSG_VOTE_REPLY:
			message->reject = (int) random_below(2);
			break;
		case RAFT_MSG_APPEND:
			message->log_term = random_number();
			message->commit = random_number();
			random_entries(sample);
			break;
		case RAFT_MSG_APPEND_REPLY:
			message->reject = (int) random_below(2);
			message->index = random_number();
			message->hint_index = random_number();
			message->hint_term = random_number();
			break;
		case RAFT_MSG_HEARTBEAT:
			message->commit = random_number();
			message->context = random_number();
			break;
		case RAFT_MSG_HEARTBEAT_REPLY:
			message->context = random_number();
			message->index = random_number();
			break;
		case RAFT_MSG_SNAPSHOT:
			random_snapshot(sample);
			break;
		case RAFT_MSG_SNAPSHOT_REPLY:
			message->index = random_number();
			message->offset = random_number();
			message->reject = (int) random_below(2);
			break;
		case RAFT_MSG_REMOVED:
			message->index = random_number();
			break;
		default:
			break;
	}
}

static bool
same_snapshot(const struct raft_snapshot_meta *a, const struct raft_snapshot_meta *b)
{
	unsigned char encoded_a[RAFT_CONFIG_MAX_BYTES];
	unsigned char encoded_b[RAFT_CONFIG_MAX_BYTES];
	size_t		length_a = raft_config_encode(&a->config, encoded_a, sizeof(encoded_a));
	size_t		length_b = raft_config_encode(&b->config, encoded_b, sizeof(encoded_b));

	return a->index == b->index && a->term == b->term && a->config.index == b->config.index &&
		length_a > 0 && length_a == length_b && memcmp(encoded_a, encoded_b, length_a) == 0;
}

static bool
same_message(const struct raft_message *a, const struct raft_message *b)
{
	size_t		i;

	if (a->type != b->type || a->from != b->from || a->to != b->to ||
		a->from_incarnation != b->from_incarnation || a->to_incarnation != b->to_incarnation ||
		a->term != b->term || a->index != b->index || a->log_term != b->log_term ||
		a->commit != b->commit || a->context != b->context ||
		a->hint_index != b->hint_index || a->hint_term != b->hint_term ||
		a->reject != b->reject || a->flags != b->flags || a->offset != b->offset ||
		a->total != b->total || a->n_entries != b->n_entries ||
		a->chunk_length != b->chunk_length || (a->snapshot == NULL) != (b->snapshot == NULL))
		return false;
	for (i = 0; i < a->n_entries; i++)
	{
		const struct raft_entry *x = &a->entries[i];
		const struct raft_entry *y = &b->entries[i];

		if (x->index != y->index || x->term != y->term || x->type != y->type ||
			x->length != y->length ||
			(x->length > 0 && memcmp(x->data, y->data, x->length) != 0))
			return false;
	}
	if (a->chunk_length > 0 && memcmp(a->chunk, b->chunk, a->chunk_length) != 0)
		return false;
	return a->snapshot == NULL || same_snapshot(a->snapshot, b->snapshot);
}

/* ----------------------------------------------------------------
 * Decoding from blocks of exact size
 * ----------------------------------------------------------------
 */
static PgraftErrorCode
decode(const struct raft_message *like, const unsigned char *payload, size_t length,
	   PgraftWireScratch *scratch, struct raft_message *message, unsigned char **block)
{
	PgraftFrameHeader header;

	memset(&header, 0, sizeof(header));
	header.type = PGRAFT_FRAME_RAFT;
	header.length = length;
	header.from = like->from;
	header.to = like->to;
	header.from_incarnation = like->from_incarnation;
	header.to_incarnation = like->to_incarnation;
	*block = malloc(length > 0 ? length : 1);
	memcpy(*block, payload, length);
	return pgraft_wire_decode_message(&header, *block, scratch, message, NULL);
}

/*
 * Decodes a damaged payload.  It may be refused; when it is not it must be a
 * message that encodes to the same bytes.
 */
static bool
refused_or_canonical(const struct raft_message *like, const unsigned char *payload,
					 size_t length, PgraftWireScratch *scratch)
{
	struct raft_message message;
	unsigned char *block;
	bool		result = true;

	if (decode(like, payload, length, scratch, &message, &block) == PGRAFT_OK)
	{
		size_t		bytes = pgraft_wire_message_bytes(&message);
		unsigned char *again = malloc(bytes);

		pgraft_wire_encode_message(again, &message);

		/* a configuration may have more than one form; everything else has one */
		result = message.type == RAFT_MSG_SNAPSHOT ||
			(bytes == length && memcmp(again, block, length) == 0);
		free(again);
	}
	free(block);
	return result;
}

static void
test_messages(void)
{
	PgraftWireScratch scratch;
	int			type;

	memset(&scratch, 0, sizeof(scratch));
	for (type = RAFT_MSG_PREVOTE; type <= RAFT_MSG_MAX; type++)
	{
		int			n_same = 0;
		int			n_truncated = 0;
		int			n_extended = 0;
		int			n_damaged = 0;
		int			round;

		for (round = 0; round < ROUNDS_PER_TYPE; round++)
		{
			Sample		sample;
			struct raft_message decoded;
			size_t		length;
			size_t		cut;
			unsigned char *payload;
			unsigned char *block;

			random_message(type, &sample);
			length = pgraft_wire_message_bytes(&sample.message);
			payload = malloc(length + 1);
			pgraft_wire_encode_message(payload, &sample.message);
			payload[length] = 0;

			n_same += decode(&sample.message, payload, length, &scratch, &decoded,
							 &block) == PGRAFT_OK &&
				same_message(&sample.message, &decoded);
			free(block);
			n_extended += decode(&sample.message, payload, length + 1, &scratch, &decoded,
								 &block) == PGRAFT_ERR_PROTOCOL;
			free(block);
			for (cut = 0; cut < length; cut++)
			{
				if (decode(&sample.message, payload, cut, &scratch, &decoded,
						   &block) != PGRAFT_ERR_PROTOCOL)
					n_truncated++;
				free(block);
			}
			for (cut = 0; cut < length; cut++)
			{
				payload[cut] ^= (unsigned char) (1 << random_below(8));
				if (!refused_or_canonical(&sample.message, payload, length, &scratch))
					n_damaged++;
				random_bytes(payload + cut, 1);
				if (!refused_or_canonical(&sample.message, payload, length, &scratch))
					n_damaged++;
				pgraft_wire_encode_message(payload, &sample.message);
			}
			free(payload);
		}
		is_u64(n_same, ROUNDS_PER_TYPE, "random messages decode to the same");
		is_u64(n_truncated, 0, "every truncation is refused");
		is_u64(n_extended, ROUNDS_PER_TYPE, "an extra byte is refused");
		is_u64(n_damaged, 0, "what is accepted is canonical");
	}
	pgraft_wire_free_scratch(&scratch);
}

static void
test_hostile_messages(void)
{
	PgraftWireScratch scratch;
	Sample		sample;
	struct raft_message decoded;
	unsigned char payload[256];
	unsigned char *block;
	size_t		length;

	memset(&scratch, 0, sizeof(scratch));
	memset(&sample, 0, sizeof(sample));
	sample.message.type = RAFT_MSG_APPEND;
	length = pgraft_wire_message_bytes(&sample.message);
	pgraft_wire_encode_message(payload, &sample.message);

	pgraft_put_u32(payload + length - 4, 0xffffffff);
	ok(decode(&sample.message, payload, length, &scratch, &decoded, &block) ==
	   PGRAFT_ERR_PROTOCOL, "four billion entries in no bytes are refused");
	ok(scratch.entries == NULL, "... before anything is allocated");
	free(block);

	/* the entry after the greatest index would have index 0 */
	sample.message.index = ~(raft_u64) 0;
	sample.message.n_entries = 1;
	sample.message.entries = sample.entries;
	length = pgraft_wire_message_bytes(&sample.message);
	pgraft_wire_encode_message(payload, &sample.message);
	ok(decode(&sample.message, payload, length, &scratch, &decoded, &block) ==
	   PGRAFT_ERR_PROTOCOL, "an index that overflows is refused");
	free(block);

	sample.message.index = 5;
	sample.entries[0].index = 7;
	pgraft_wire_encode_message(payload, &sample.message);
	ok(decode(&sample.message, payload, length, &scratch, &decoded, &block) ==
	   PGRAFT_ERR_PROTOCOL, "a gap between previous and first entry is refused");
	free(block);

	sample.entries[0].index = 6;
	sample.entries[0].type = RAFT_ENTRY_CONFIG + 1;
	pgraft_wire_encode_message(payload, &sample.message);
	ok(decode(&sample.message, payload, length, &scratch, &decoded, &block) ==
	   PGRAFT_ERR_PROTOCOL, "an entry of unrecognized type is refused");
	free(block);
	pgraft_wire_free_scratch(&scratch);
}

/* ----------------------------------------------------------------
 * Frames
 * ----------------------------------------------------------------
 */
static void
test_frames(void)
{
	PgraftFrameHeader header;
	PgraftFrameHeader decoded;
	PgraftError error;
	unsigned char payload[64];
	unsigned char buffer[PGRAFT_FRAME_HEADER_BYTES];
	int			n_accepted = 0;
	size_t		bit;

	memset(&header, 0, sizeof(header));
	memset(&decoded, 0, sizeof(decoded));
	random_bytes(payload, sizeof(payload));
	header.length = sizeof(payload);
	header.type = PGRAFT_FRAME_REQUEST;
	header.cluster_uid = random_u64();
	header.from = 0x7fffffff;
	header.to = 3;
	header.from_incarnation = random_u64();
	header.to_incarnation = random_u64();
	pgraft_wire_put_header(buffer, &header, payload);
	ok(pgraft_wire_get_header(buffer, sizeof(payload), &decoded, &error) == PGRAFT_OK,
	   "a header is accepted");
	ok(header.length == decoded.length && header.type == decoded.type &&
	   header.cluster_uid == decoded.cluster_uid && header.from == decoded.from &&
	   header.to == decoded.to && header.from_incarnation == decoded.from_incarnation &&
	   header.to_incarnation == decoded.to_incarnation, "... and decodes to the same");
	ok(pgraft_wire_check_payload(buffer, payload, &error) == PGRAFT_OK, "the payload fits");
	ok(pgraft_wire_get_header(buffer, sizeof(payload) - 1, &decoded, &error) ==
	   PGRAFT_ERR_TOO_LARGE, "a payload beyond the limit is refused");

	for (bit = 0; bit < 8 * sizeof(buffer); bit++)
	{
		buffer[bit / 8] ^= (unsigned char) (1 << (bit % 8));
		n_accepted += pgraft_wire_get_header(buffer, sizeof(payload), &decoded,
											 &error) == PGRAFT_OK;
		buffer[bit / 8] ^= (unsigned char) (1 << (bit % 8));
	}
	is_u64(n_accepted, 0, "every flipped bit of a header is noticed");
	n_accepted = 0;
	for (bit = 0; bit < 8 * sizeof(payload); bit++)
	{
		payload[bit / 8] ^= (unsigned char) (1 << (bit % 8));
		n_accepted += pgraft_wire_check_payload(buffer, payload, &error) == PGRAFT_OK;
		payload[bit / 8] ^= (unsigned char) (1 << (bit % 8));
	}
	is_u64(n_accepted, 0, "every flipped bit of a payload is noticed");

	pgraft_wire_put_bare_header(buffer, &header);
	ok(pgraft_wire_get_header(buffer, sizeof(payload), &decoded, &error) == PGRAFT_OK &&
	   pgraft_get_u32(buffer + 12) == 0, "a header for TLS has no checksum of the payload");
	ok(pgraft_wire_is_magic(buffer) && !pgraft_wire_is_magic((const unsigned char *) "GET /"),
	   "the magic is recognized");

	/* well-formed but for one thing; the checksum is right */
	header.type = PGRAFT_FRAME_TYPE_MAX + 1;
	pgraft_wire_put_header(buffer, &header, payload);
	ok(pgraft_wire_get_header(buffer, sizeof(payload), &decoded, &error) == PGRAFT_ERR_PROTOCOL,
	   "an unrecognized type is refused");
	header.type = 0;
	pgraft_wire_put_header(buffer, &header, payload);
	ok(pgraft_wire_get_header(buffer, sizeof(payload), &decoded, &error) == PGRAFT_ERR_PROTOCOL,
	   "type 0 is refused");
	header.type = PGRAFT_FRAME_RAFT;
	header.from = 0x80000000;
	pgraft_wire_put_header(buffer, &header, payload);
	ok(pgraft_wire_get_header(buffer, sizeof(payload), &decoded, &error) == PGRAFT_ERR_PROTOCOL,
	   "a member id beyond 2^31 - 1 is refused");
}

static PgraftErrorCode
decode_hello_block(const unsigned char *payload, size_t length, PgraftHello *hello)
{
	unsigned char *block = malloc(length > 0 ? length : 1);
	PgraftErrorCode code;

	memcpy(block, payload, length);
	code = pgraft_wire_decode_hello(block, length, hello, NULL);
	free(block);
	return code;
}

static void
test_hello(void)
{
	PgraftHello hello;
	PgraftHello decoded;
	unsigned char payload[PGRAFT_HELLO_MAX_BYTES];
	size_t		length;
	size_t		cut;
	int			n_accepted = 0;

	memset(&hello, 0, sizeof(hello));
	memset(hello.cluster_id, 'c', sizeof(hello.cluster_id) - 1);
	memset(hello.name, 'n', sizeof(hello.name) - 1);
	memset(hello.address, 'a', sizeof(hello.address) - 1);
	hello.port = 65535;
	hello.member_uid = random_u64();
	hello.bulk = 1;
	hello.invite = 1;
	hello.status = PGRAFT_HELLO_STATUS_MAX;
	length = pgraft_wire_encode_hello(payload, &hello);
	ok(length <= PGRAFT_HELLO_MAX_BYTES, "the longest greeting fits");
	ok(decode_hello_block(payload, length, &decoded) == PGRAFT_OK &&
	   memcmp(&hello, &decoded, sizeof(hello)) == 0, "a greeting decodes to the same");
	for (cut = 0; cut < length; cut++)
		n_accepted += decode_hello_block(payload, cut, &decoded) == PGRAFT_OK;
	is_u64(n_accepted, 0, "every truncation of a greeting is refused");
	ok(decode_hello_block(payload, length + 1, &decoded) != PGRAFT_OK,
	   "an extra byte is refused");
	payload[0] |= 0x80;
	ok(decode_hello_block(payload, length, &decoded) != PGRAFT_OK,
	   "an unrecognized flag is refused");
	payload[0] &= 0x7f;
	payload[1] = PGRAFT_HELLO_STATUS_MAX + 1;
	ok(decode_hello_block(payload, length, &decoded) != PGRAFT_OK,
	   "an unrecognized status is refused");

	strlcpy(hello.name, "node1\nforged log line", sizeof(hello.name));
	length = pgraft_wire_encode_hello(payload, &hello);
	ok(decode_hello_block(payload, length, &decoded) != PGRAFT_OK,
	   "a newline in a name is refused");
	memset(&hello, 0, sizeof(hello));
	length = pgraft_wire_encode_hello(payload, &hello);
	ok(decode_hello_block(payload, length, &decoded) == PGRAFT_OK &&
	   decoded.name[0] == '\0', "empty texts are accepted");
	payload[length - 1] = 255;
	ok(decode_hello_block(payload, length, &decoded) != PGRAFT_OK,
	   "a text longer than the payload is refused");
}

static void
test_requests(void)
{
	PgraftWireRequest request;
	PgraftWireRequest got_request;
	PgraftWireReply reply;
	PgraftWireReply got_reply;
	unsigned char data[20];
	unsigned char payload[128];
	size_t		length;
	size_t		cut;
	int			n_accepted = 0;

	memset(&request, 0, sizeof(request));
	memset(&got_request, 0, sizeof(got_request));
	memset(&reply, 0, sizeof(reply));
	memset(&got_reply, 0, sizeof(got_reply));
	random_bytes(data, sizeof(data));
	request.request = random_u64();
	request.kind = 12;
	request.argument = random_u64();
	request.length = sizeof(data);
	request.data = data;
	length = pgraft_wire_request_bytes(&request);
	pgraft_wire_encode_request(payload, &request);
	ok(pgraft_wire_decode_request(payload, length, &got_request, NULL) == PGRAFT_OK &&
	   got_request.request == request.request && got_request.kind == request.kind &&
	   got_request.argument == request.argument && got_request.length == sizeof(data) &&
	   memcmp(got_request.data, data, sizeof(data)) == 0, "a request decodes to the same");
	for (cut = 0; cut < length; cut++)
		n_accepted += pgraft_wire_decode_request(payload, cut, &got_request, NULL) == PGRAFT_OK;
	is_u64(n_accepted, 0, "every truncation of a request is refused");
	ok(pgraft_wire_decode_request(payload, length + 1, &got_request, NULL) != PGRAFT_OK,
	   "an extra byte is refused");

	reply.request = random_u64();
	reply.result = 3;
	reply.index = random_u64();
	reply.term = random_u64();
	reply.length = sizeof(data);
	reply.data = data;
	length = pgraft_wire_reply_bytes(&reply);
	pgraft_wire_encode_reply(payload, &reply);
	ok(pgraft_wire_decode_reply(payload, length, &got_reply, NULL) == PGRAFT_OK &&
	   got_reply.request == reply.request && got_reply.result == reply.result &&
	   got_reply.index == reply.index && got_reply.term == reply.term &&
	   got_reply.length == sizeof(data) &&
	   memcmp(got_reply.data, data, sizeof(data)) == 0, "a reply decodes to the same");
	n_accepted = 0;
	for (cut = 0; cut < length; cut++)
		n_accepted += pgraft_wire_decode_reply(payload, cut, &got_reply, NULL) == PGRAFT_OK;
	is_u64(n_accepted, 0, "every truncation of a reply is refused");
	ok(pgraft_wire_decode_reply(payload, length + 1, &got_reply, NULL) != PGRAFT_OK,
	   "an extra byte is refused");
}

int
main(void)
{
	test_frames();
	test_hello();
	test_requests();
	test_messages();
	test_hostile_messages();
	return tap_done();
}
