/*-------------------------------------------------------------------------
 *
 * wire.c
 *	  The wire format: frame header, HELLO, forwarded requests and replies.
 *	  wire_message.c has the Raft messages.
 *
 * Pure functions over buffers.  Nothing here opens, allocates, logs or keeps
 * state; nothing here trusts a length.  Whatever decodes here was checked to
 * be exactly what the encoder writes: a decoder accepts no byte more or less,
 * no unknown flag and no padding other than zero.
 *
 * All integers are little-endian and unaligned.
 *
 * Frame header, 56 bytes, then `length` bytes of payload:
 *
 *	 0	4	magic "PGRF"
 *	 4	1	version (1)
 *	 5	1	frame type (enum PgraftFrameType)
 *	 6	2	0
 *	 8	4	length of the payload
 *	12	4	CRC32C of the payload; 0 when the connection is TLS
 *	16	8	cluster_uid of the sender (0 = blank)
 *	24	4	id of the sender
 *	28	4	id of the receiver
 *	32	8	incarnation of the sender (0 = blank)
 *	40	8	incarnation of the receiver as the sender knows it
 *	48	4	0
 *	52	4	CRC32C of bytes 0..51
 *
 * The header has a checksum of its own so that a damaged length is noticed at
 * once and not after waiting for bytes that never come.  It costs so little
 * that it is there under TLS, too.
 *
 * HELLO and HELLO_REPLY payload:
 *
 *	 0	1	flags: 1 = bulk, 2 = invite
 *	 1	1	status (enum PgraftHelloStatus)
 *	 2	2	port
 *	 4	8	member_uid (0 = blank)
 *	12		cluster_id, name, address: each one byte of length, then the bytes
 *			without NUL; no control characters
 *
 * PING and PONG payload: 8 bytes that PONG repeats.
 *
 * RAFT payload: see wire_message.c.
 *
 * REQUEST payload:
 *
 *	 0	8	token of the request
 *	 8	4	kind
 *	12	4	length of the data
 *	16	8	argument
 *	24		data
 *
 * REPLY payload:
 *
 *	 0	8	token of the request
 *	 8	4	result
 *	12	4	length of the data
 *	16	8	index
 *	24	8	term
 *	32		data
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/wire.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <limits.h>

#include "port/pg_crc32c.h"

#include "pgraft/bytes.h"
#include "pgraft/wire.h"

#define OFFSET_VERSION 4
#define OFFSET_TYPE 5
#define OFFSET_ZERO 6
#define OFFSET_LENGTH 8
#define OFFSET_PAYLOAD_CRC 12
#define OFFSET_CLUSTER 16
#define OFFSET_FROM 24
#define OFFSET_TO 28
#define OFFSET_FROM_INCARNATION 32
#define OFFSET_TO_INCARNATION 40
#define OFFSET_ZERO2 48
#define OFFSET_HEADER_CRC 52

#define HELLO_FLAG_BULK 0x01
#define HELLO_FLAG_INVITE 0x02
#define HELLO_FIXED_BYTES 12

#define REQUEST_FIXED_BYTES 24
#define REPLY_FIXED_BYTES 32

static const unsigned char frame_magic[PGRAFT_WIRE_MAGIC_BYTES] = {'P', 'G', 'R', 'F'};

static void put_header(unsigned char *buffer, const PgraftFrameHeader *header, uint32 payload_crc);
static uint32 checksum(const unsigned char *data, size_t length);
static unsigned char *put_text(unsigned char *at, const char *text, size_t size);
static const unsigned char *get_text(const unsigned char *at, const unsigned char *end,
									 char *text, size_t size);

/* ----------------------------------------------------------------
 * Frame header
 * ----------------------------------------------------------------
 */

void
pgraft_wire_put_header(unsigned char *buffer, const PgraftFrameHeader *header,
					   const unsigned char *payload)
{
	put_header(buffer, header, checksum(payload, header->length));
}

void
pgraft_wire_put_bare_header(unsigned char *buffer, const PgraftFrameHeader *header)
{
	put_header(buffer, header, 0);
}

int
pgraft_wire_is_magic(const unsigned char *buffer)
{
	return memcmp(buffer, frame_magic, sizeof(frame_magic)) == 0;
}

static void
put_header(unsigned char *buffer, const PgraftFrameHeader *header, uint32 payload_crc)
{
	memset(buffer, 0, PGRAFT_FRAME_HEADER_BYTES);
	memcpy(buffer, frame_magic, sizeof(frame_magic));
	buffer[OFFSET_VERSION] = PGRAFT_WIRE_VERSION;
	buffer[OFFSET_TYPE] = (unsigned char) header->type;
	pgraft_put_u32(buffer + OFFSET_LENGTH, (uint32) header->length);
	pgraft_put_u32(buffer + OFFSET_PAYLOAD_CRC, payload_crc);
	pgraft_put_u64(buffer + OFFSET_CLUSTER, header->cluster_uid);
	pgraft_put_u32(buffer + OFFSET_FROM, header->from);
	pgraft_put_u32(buffer + OFFSET_TO, header->to);
	pgraft_put_u64(buffer + OFFSET_FROM_INCARNATION, header->from_incarnation);
	pgraft_put_u64(buffer + OFFSET_TO_INCARNATION, header->to_incarnation);
	pgraft_put_u32(buffer + OFFSET_HEADER_CRC, checksum(buffer, OFFSET_HEADER_CRC));
}

PgraftErrorCode
pgraft_wire_get_header(const unsigned char *buffer, size_t max_length,
					   PgraftFrameHeader *header, PgraftError *error)
{
	if (!pgraft_wire_is_magic(buffer))
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL, "not a pgraft frame");
	if (buffer[OFFSET_VERSION] != PGRAFT_WIRE_VERSION)
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL,
							"unsupported protocol version %u", buffer[OFFSET_VERSION]);
	if (pgraft_get_u32(buffer + OFFSET_HEADER_CRC) != checksum(buffer, OFFSET_HEADER_CRC))
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL, "wrong checksum of a frame header");
	if (buffer[OFFSET_TYPE] < PGRAFT_FRAME_HELLO || buffer[OFFSET_TYPE] > PGRAFT_FRAME_TYPE_MAX)
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL,
							"unrecognized frame type %u", buffer[OFFSET_TYPE]);

	header->length = pgraft_get_u32(buffer + OFFSET_LENGTH);
	header->type = buffer[OFFSET_TYPE];
	header->cluster_uid = pgraft_get_u64(buffer + OFFSET_CLUSTER);
	header->from = pgraft_get_u32(buffer + OFFSET_FROM);
	header->to = pgraft_get_u32(buffer + OFFSET_TO);
	header->from_incarnation = pgraft_get_u64(buffer + OFFSET_FROM_INCARNATION);
	header->to_incarnation = pgraft_get_u64(buffer + OFFSET_TO_INCARNATION);

	if (header->length > max_length)
		return pgraft_error(error, PGRAFT_ERR_TOO_LARGE,
							"frame of %zu bytes exceeds the limit of %zu bytes",
							header->length, max_length);
	if (header->from > INT_MAX || header->to > INT_MAX ||
		buffer[OFFSET_ZERO] != 0 || buffer[OFFSET_ZERO + 1] != 0 ||
		pgraft_get_u32(buffer + OFFSET_ZERO2) != 0)
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL, "malformed frame header");
	return PGRAFT_OK;
}

PgraftErrorCode
pgraft_wire_check_payload(const unsigned char *buffer, const unsigned char *payload,
						  PgraftError *error)
{
	size_t		length = pgraft_get_u32(buffer + OFFSET_LENGTH);

	if (pgraft_get_u32(buffer + OFFSET_PAYLOAD_CRC) != checksum(payload, length))
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL, "wrong checksum of a frame");
	return PGRAFT_OK;
}

static uint32
checksum(const unsigned char *data, size_t length)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	if (length > 0)
		COMP_CRC32C(crc, data, length);
	FIN_CRC32C(crc);
	return crc;
}

/* ----------------------------------------------------------------
 * HELLO
 * ----------------------------------------------------------------
 */

size_t
pgraft_wire_encode_hello(unsigned char *buffer, const PgraftHello *hello)
{
	unsigned char *at = buffer + HELLO_FIXED_BYTES;

	buffer[0] = (unsigned char) ((hello->bulk ? HELLO_FLAG_BULK : 0) |
								 (hello->invite ? HELLO_FLAG_INVITE : 0));
	buffer[1] = (unsigned char) hello->status;
	buffer[2] = (unsigned char) hello->port;
	buffer[3] = (unsigned char) (hello->port >> 8);
	pgraft_put_u64(buffer + 4, hello->member_uid);
	at = put_text(at, hello->cluster_id, sizeof(hello->cluster_id));
	at = put_text(at, hello->name, sizeof(hello->name));
	at = put_text(at, hello->address, sizeof(hello->address));
	return (size_t) (at - buffer);
}

PgraftErrorCode
pgraft_wire_decode_hello(const unsigned char *buffer, size_t length,
						 PgraftHello *hello, PgraftError *error)
{
	const unsigned char *end = buffer + length;
	const unsigned char *at = NULL;

	memset(hello, 0, sizeof(*hello));
	if (length >= HELLO_FIXED_BYTES &&
		(buffer[0] & ~(HELLO_FLAG_BULK | HELLO_FLAG_INVITE)) == 0 &&
		buffer[1] <= PGRAFT_HELLO_STATUS_MAX)
	{
		hello->bulk = (buffer[0] & HELLO_FLAG_BULK) != 0;
		hello->invite = (buffer[0] & HELLO_FLAG_INVITE) != 0;
		hello->status = buffer[1];
		hello->port = (unsigned int) (buffer[2] | (buffer[3] << 8));
		hello->member_uid = pgraft_get_u64(buffer + 4);
		at = get_text(buffer + HELLO_FIXED_BYTES, end,
					  hello->cluster_id, sizeof(hello->cluster_id));
		at = get_text(at, end, hello->name, sizeof(hello->name));
		at = get_text(at, end, hello->address, sizeof(hello->address));
	}
	if (at != end || at == NULL)
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL, "malformed greeting");
	return PGRAFT_OK;
}

static unsigned char *
put_text(unsigned char *at, const char *text, size_t size)
{
	size_t		length = strnlen(text, size - 1);

	*at++ = (unsigned char) length;
	memcpy(at, text, length);
	return at + length;
}

/*
 * Returns where the next field begins, NULL when this one is malformed or `at`
 * is NULL already.
 */
static const unsigned char *
get_text(const unsigned char *at, const unsigned char *end, char *text, size_t size)
{
	size_t		length;
	size_t		i;

	if (at == NULL || at >= end)
		return NULL;
	length = *at++;
	if (length >= size || length > (size_t) (end - at))
		return NULL;

	/* control characters would let a peer forge lines of our log */
	for (i = 0; i < length; i++)
		if (at[i] < 0x20 || at[i] == 0x7f)
			return NULL;
	memcpy(text, at, length);
	text[length] = '\0';
	return at + length;
}

/* ----------------------------------------------------------------
 * Forwarded requests
 * ----------------------------------------------------------------
 */

size_t
pgraft_wire_request_bytes(const PgraftWireRequest *request)
{
	return REQUEST_FIXED_BYTES + request->length;
}

void
pgraft_wire_encode_request(unsigned char *buffer, const PgraftWireRequest *request)
{
	pgraft_put_u64(buffer, request->request);
	pgraft_put_u32(buffer + 8, (uint32) request->kind);
	pgraft_put_u32(buffer + 12, (uint32) request->length);
	pgraft_put_u64(buffer + 16, request->argument);
	if (request->length > 0)
		memcpy(buffer + REQUEST_FIXED_BYTES, request->data, request->length);
}

PgraftErrorCode
pgraft_wire_decode_request(const unsigned char *payload, size_t length,
						   PgraftWireRequest *request, PgraftError *error)
{
	if (length < REQUEST_FIXED_BYTES ||
		length - REQUEST_FIXED_BYTES != pgraft_get_u32(payload + 12) ||
		pgraft_get_u32(payload + 8) > INT_MAX)
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL, "malformed forwarded request");
	request->request = pgraft_get_u64(payload);
	request->kind = (int) pgraft_get_u32(payload + 8);
	request->argument = pgraft_get_u64(payload + 16);
	request->length = length - REQUEST_FIXED_BYTES;
	request->data = request->length > 0 ? payload + REQUEST_FIXED_BYTES : NULL;
	return PGRAFT_OK;
}

size_t
pgraft_wire_reply_bytes(const PgraftWireReply *reply)
{
	return REPLY_FIXED_BYTES + reply->length;
}

void
pgraft_wire_encode_reply(unsigned char *buffer, const PgraftWireReply *reply)
{
	pgraft_put_u64(buffer, reply->request);
	pgraft_put_u32(buffer + 8, (uint32) reply->result);
	pgraft_put_u32(buffer + 12, (uint32) reply->length);
	pgraft_put_u64(buffer + 16, reply->index);
	pgraft_put_u64(buffer + 24, reply->term);
	if (reply->length > 0)
		memcpy(buffer + REPLY_FIXED_BYTES, reply->data, reply->length);
}

PgraftErrorCode
pgraft_wire_decode_reply(const unsigned char *payload, size_t length,
						 PgraftWireReply *reply, PgraftError *error)
{
	if (length < REPLY_FIXED_BYTES ||
		length - REPLY_FIXED_BYTES != pgraft_get_u32(payload + 12) ||
		pgraft_get_u32(payload + 8) > INT_MAX)
		return pgraft_error(error, PGRAFT_ERR_PROTOCOL,
							"malformed reply to a forwarded request");
	reply->request = pgraft_get_u64(payload);
	reply->result = (int) pgraft_get_u32(payload + 8);
	reply->index = pgraft_get_u64(payload + 16);
	reply->term = pgraft_get_u64(payload + 24);
	reply->length = length - REPLY_FIXED_BYTES;
	reply->data = reply->length > 0 ? payload + REPLY_FIXED_BYTES : NULL;
	return PGRAFT_OK;
}
