/*-------------------------------------------------------------------------
 *
 * wire.h
 *	  The wire format: frames between members (src/net/wire.c describes every
 *	  byte at its top).
 *
 * Pure functions over buffers: no sockets, no allocation beyond the caller's
 * scratch space.  The decoder never reads past its input, never trusts a
 * length, and is a fuzz target.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_WIRE_H
#define PGRAFT_WIRE_H

#include "pgraft/error.h"
#include "pgraft/raft.h"

#define PGRAFT_WIRE_VERSION 1
#define PGRAFT_FRAME_HEADER_BYTES 56
#define PGRAFT_FRAME_MAX_BYTES (64 * 1024 * 1024)	/* payload; the receiver's
													 * limit may be lower */

typedef enum PgraftFrameType
{
	PGRAFT_FRAME_HELLO = 1,		/* dialer -> acceptor, first frame */
	PGRAFT_FRAME_HELLO_REPLY,
	PGRAFT_FRAME_PING,			/* payload echoed by PONG on the same connection */
	PGRAFT_FRAME_PONG,
	PGRAFT_FRAME_RAFT,			/* one raft message */
	PGRAFT_FRAME_REQUEST,		/* worker to worker: forwarded request */
	PGRAFT_FRAME_REPLY
} PgraftFrameType;
#define PGRAFT_FRAME_TYPE_MAX PGRAFT_FRAME_REPLY

typedef struct PgraftFrameHeader
{
	size_t		length;			/* of the payload */
	int			type;
	raft_u64	cluster_uid;
	raft_id		from;
	raft_id		to;
	raft_u64	from_incarnation;
	raft_u64	to_incarnation;
} PgraftFrameHeader;

/* Writes PGRAFT_FRAME_HEADER_BYTES; crc covers header and payload. */
extern void pgraft_wire_put_header(unsigned char *buffer, const PgraftFrameHeader *header,
								   const unsigned char *payload);

/* The same for a frame inside TLS, which protects the payload itself. */
extern void pgraft_wire_put_bare_header(unsigned char *buffer, const PgraftFrameHeader *header);

/* The first four bytes of a header, to tell our frames from anything else. */
#define PGRAFT_WIRE_MAGIC_BYTES 4
extern int	pgraft_wire_is_magic(const unsigned char *buffer);

/*
 * Checks magic, version, type, length limit.  The payload's CRC is checked by
 * pgraft_wire_check_payload() once it has all arrived.
 */
extern PgraftErrorCode pgraft_wire_get_header(const unsigned char *buffer, size_t max_length,
											  PgraftFrameHeader *header, PgraftError *error);
extern PgraftErrorCode pgraft_wire_check_payload(const unsigned char *buffer,
												 const unsigned char *payload, PgraftError *error);

typedef struct PgraftHello
{
	char		cluster_id[64];
	char		name[RAFT_NAME_SIZE];	/* the sender's pgraft.name */
	char		address[RAFT_ADDRESS_SIZE]; /* where the sender can be dialed */
	unsigned int port;
	raft_u64	member_uid;		/* 0 = blank */
	int			bulk;			/* boolean: this connection is for snapshot chunks */
	int			invite;			/* boolean: the sender's configuration has the
								 * receiver as a learner that never was a voter, so
								 * a blank receiver may join */
	int			status;			/* HELLO_REPLY: enum PgraftHelloStatus */
} PgraftHello;

typedef enum PgraftHelloStatus
{
	PGRAFT_HELLO_OK = 0,
	PGRAFT_HELLO_WRONG_CLUSTER,
	PGRAFT_HELLO_WRONG_MEMBER,	/* id or incarnation is not mine */
	PGRAFT_HELLO_BLANK,			/* receiver has no state and was not invited */
	PGRAFT_HELLO_UNKNOWN_MEMBER,	/* sender is not in my configuration any more */
	PGRAFT_HELLO_BUSY
} PgraftHelloStatus;
#define PGRAFT_HELLO_STATUS_MAX PGRAFT_HELLO_BUSY

#define PGRAFT_HELLO_MAX_BYTES 1024
extern size_t pgraft_wire_encode_hello(unsigned char *buffer, const PgraftHello *hello);
extern PgraftErrorCode pgraft_wire_decode_hello(const unsigned char *buffer, size_t length,
												PgraftHello *hello, PgraftError *error);

/* Exact payload size of a message, then the payload itself. */
extern size_t pgraft_wire_message_bytes(const struct raft_message *message);
extern void pgraft_wire_encode_message(unsigned char *buffer, const struct raft_message *message);

/*
 * Scratch space that decoded messages point into; reused between calls.
 * message->entries, snapshot and chunk point into scratch or into the payload,
 * and are valid until the next decode.  from/to/incarnations come from the
 * frame header.
 */
typedef struct PgraftWireScratch
{
	struct raft_entry *entries;
	size_t		n_entries_allocated;
	struct raft_snapshot_meta snapshot;
} PgraftWireScratch;

extern PgraftErrorCode pgraft_wire_decode_message(const PgraftFrameHeader *header,
												  const unsigned char *payload,
												  PgraftWireScratch *scratch,
												  struct raft_message *message,
												  PgraftError *error);
extern void pgraft_wire_free_scratch(PgraftWireScratch *scratch);

/* Forwarded request and its reply (FRAME_REQUEST, FRAME_REPLY). */
typedef struct PgraftWireRequest
{
	raft_u64	request;		/* sender's token, echoed in the reply */
	int			kind;			/* enum PgraftRequestKind of shmem.h */
	raft_u64	argument;		/* per kind */
	size_t		length;
	const unsigned char *data;
} PgraftWireRequest;

typedef struct PgraftWireReply
{
	raft_u64	request;
	int			result;			/* enum PgraftResult of shmem.h */
	raft_u64	index;			/* log or read index */
	raft_term	term;
	size_t		length;			/* text for errdetail or other data */
	const unsigned char *data;
} PgraftWireReply;

extern size_t pgraft_wire_request_bytes(const PgraftWireRequest *request);
extern void pgraft_wire_encode_request(unsigned char *buffer, const PgraftWireRequest *request);
extern PgraftErrorCode pgraft_wire_decode_request(const unsigned char *payload, size_t length,
												  PgraftWireRequest *request, PgraftError *error);
extern size_t pgraft_wire_reply_bytes(const PgraftWireReply *reply);
extern void pgraft_wire_encode_reply(unsigned char *buffer, const PgraftWireReply *reply);
extern PgraftErrorCode pgraft_wire_decode_reply(const unsigned char *payload, size_t length,
												PgraftWireReply *reply, PgraftError *error);

#endif							/* PGRAFT_WIRE_H */
