/*-------------------------------------------------------------------------
 *
 * frame.c
 *	  Bytes between sockets and frames: growing buffers, reading and writing a
 *	  connection (plain or TLS), cutting frames out of what arrived.
 *
 * Called by conn.c and by the sending functions of net.c, in the thread of the
 * loop.  Knows nothing of what frames mean and calls no callback.
 *
 * A receive buffer grows only as bytes arrive: a header that announces 64 MB
 * reserves nothing.  It never becomes larger than the frame it holds plus one
 * read.  Large buffers are given back when they run empty.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/frame.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <errno.h>
#include <sys/socket.h>

#include "net_internal.h"

#define SMALL_READ_BYTES 4096	/* before the greeting is over, and for replies */
#define LARGE_READ_BYTES (16 * 1024)
#define TLS_RECORD_CONTENT_HANDSHAKE 0x16
#define TLS_RECORD_MAJOR_VERSION 0x03

static bool make_room(PgraftConn *conn);
static void give_back(PgraftBuffer *buffer);
static PgraftIo plain_read(PgraftConn *conn, unsigned char *data, size_t size, size_t *n_read);
static PgraftIo plain_write(PgraftConn *conn, const unsigned char *data, size_t length,
							size_t *n_written);

/* ----------------------------------------------------------------
 * Buffers
 * ----------------------------------------------------------------
 */

size_t
pgraft_buffer_length(const PgraftBuffer *buffer)
{
	return buffer->end - buffer->start;
}

/* Makes place for `space` bytes after the last one; false = out of memory. */
bool
pgraft_buffer_reserve(PgraftBuffer *buffer, size_t space)
{
	size_t		length = pgraft_buffer_length(buffer);
	size_t		capacity;
	unsigned char *data;

	if (length == 0)
		buffer->start = buffer->end = 0;
	if (buffer->capacity - buffer->end >= space)
		return true;

	/* moving at most half of the capacity keeps the cost per byte constant */
	if (buffer->start > 0 && buffer->start >= length)
	{
		memmove(buffer->data, buffer->data + buffer->start, length);
		buffer->start = 0;
		buffer->end = length;
		if (buffer->capacity - length >= space)
			return true;
	}
	capacity = buffer->end + space;
	if (buffer->end > 0 && capacity < buffer->end + buffer->end / 2)
		capacity = buffer->end + buffer->end / 2;
	data = realloc(buffer->data, capacity);
	if (data == NULL)
		return false;
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

/* Moves everything from one to the end of another; false = out of memory. */
bool
pgraft_buffer_append(PgraftBuffer *to, PgraftBuffer *from)
{
	size_t		length = pgraft_buffer_length(from);

	if (length > 0)
	{
		if (!pgraft_buffer_reserve(to, length))
			return false;
		memcpy(to->data + to->end, from->data + from->start, length);
		to->end += length;
	}
	pgraft_buffer_free(from);
	return true;
}

void
pgraft_buffer_consume(PgraftBuffer *buffer, size_t length)
{
	buffer->start += length;
}

void
pgraft_buffer_free(PgraftBuffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

static void
give_back(PgraftBuffer *buffer)
{
	if (pgraft_buffer_length(buffer) == 0 && buffer->capacity > KEEP_BUFFER_BYTES)
		pgraft_buffer_free(buffer);
}

/* ----------------------------------------------------------------
 * Reading and writing
 * ----------------------------------------------------------------
 */

/* Reads once.  Invalidates the payload of the last frame. */
PgraftIo
pgraft_conn_fill(PgraftConn *conn, size_t *n_read)
{
	PgraftBuffer *in = &conn->in;
	PgraftIo	result;

	*n_read = 0;
	if (!make_room(conn))
	{
		snprintf(conn->reason, sizeof(conn->reason), "out of memory");
		return IO_FAILED;
	}
	if (conn->ssl != NULL)
		result = pgraft_tls_read(conn, in->data + in->end, in->capacity - in->end, n_read);
	else
		result = plain_read(conn, in->data + in->end, in->capacity - in->end, n_read);
	in->end += *n_read;
	return result;
}

static bool
make_room(PgraftConn *conn)
{
	PgraftBuffer *in = &conn->in;
	size_t		length = pgraft_buffer_length(in);
	size_t		chunk = SMALL_READ_BYTES;
	size_t		space;

	if (conn->kind == CONN_ACCEPTED && conn->state == CONN_OPEN)
		chunk = LARGE_READ_BYTES;
	give_back(in);
	if (length == 0)
		return pgraft_buffer_reserve(in, chunk);

	/* double what has arrived, but not beyond the frame */
	space = Max(length, chunk);
	if (conn->frame_bytes > length)
		space = Min(space, Max(conn->frame_bytes - length, chunk));
	if (in->capacity - in->end >= Min(space, chunk))
		return true;
	return pgraft_buffer_reserve(in, space);
}

/*
 * Writes as much as the socket takes, within the budget of one poll.  IO_DONE:
 * everything is written.
 */
PgraftIo
pgraft_conn_drain(PgraftConn *conn)
{
	PgraftBuffer *out = &conn->out;
	size_t		total = 0;

	while (pgraft_buffer_length(out) > 0)
	{
		size_t		n_written = 0;
		PgraftIo	result;

		if (total >= WRITE_BUDGET_BYTES)
			return IO_WAIT;
		if (conn->ssl != NULL)
			result = pgraft_tls_write(conn, out->data + out->start,
									  pgraft_buffer_length(out), &n_written);
		else
			result = plain_write(conn, out->data + out->start,
								 pgraft_buffer_length(out), &n_written);
		if (result != IO_DONE)
			return result;
		pgraft_buffer_consume(out, n_written);
		total += n_written;
	}
	give_back(out);
	return IO_DONE;
}

static PgraftIo
plain_read(PgraftConn *conn, unsigned char *data, size_t size, size_t *n_read)
{
	ssize_t		n = recv(conn->fd, data, size, 0);

	if (n > 0)
	{
		*n_read = (size_t) n;
		return IO_DONE;
	}
	if (n == 0)
		return IO_CLOSED;
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		return IO_WAIT;
	if (errno == ECONNRESET || errno == EPIPE)
		return IO_CLOSED;
	snprintf(conn->reason, sizeof(conn->reason), "could not receive data: %s", strerror(errno));
	return IO_FAILED;
}

static PgraftIo
plain_write(PgraftConn *conn, const unsigned char *data, size_t length, size_t *n_written)
{
	ssize_t		n = send(conn->fd, data, length, MSG_NOSIGNAL);

	if (n >= 0)
	{
		*n_written = (size_t) n;
		return IO_DONE;
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		return IO_WAIT;
	if (errno == ECONNRESET || errno == EPIPE)
		return IO_CLOSED;
	snprintf(conn->reason, sizeof(conn->reason), "could not send data: %s", strerror(errno));
	return IO_FAILED;
}

/* ----------------------------------------------------------------
 * Frames
 * ----------------------------------------------------------------
 */

/*
 * Cuts the next frame out of what has arrived.  *payload is valid until the
 * next pgraft_conn_fill().  FRAME_BROKEN: *why and conn->reason are set.
 */
PgraftFrameState
pgraft_conn_next_frame(PgraftConn *conn, size_t max_length, PgraftFrameHeader *header,
					   const unsigned char **payload, PgraftEnd *why)
{
	const unsigned char *data = conn->in.data + conn->in.start;
	size_t		length = pgraft_buffer_length(&conn->in);
	PgraftError error;

	conn->frame_bytes = 0;
	if (length < PGRAFT_WIRE_MAGIC_BYTES)
		return FRAME_PARTIAL;
	if (!pgraft_wire_is_magic(data))
	{
		bool		is_tls = conn->ssl == NULL && data[0] == TLS_RECORD_CONTENT_HANDSHAKE &&
			data[1] == TLS_RECORD_MAJOR_VERSION;

		*why = is_tls ? END_UNEXPECTED_TLS : END_GARBAGE;
		snprintf(conn->reason, sizeof(conn->reason), "%s",
				 is_tls ? "TLS on a plaintext port" : "not a pgraft frame");
		return FRAME_BROKEN;
	}
	if (length < PGRAFT_FRAME_HEADER_BYTES)
		return FRAME_PARTIAL;

	*why = END_PROTOCOL;
	memset(&error, 0, sizeof(error));
	if (pgraft_wire_get_header(data, max_length, header, &error) == PGRAFT_OK)
	{
		*payload = data + PGRAFT_FRAME_HEADER_BYTES;
		if (length - PGRAFT_FRAME_HEADER_BYTES < header->length)
		{
			conn->frame_bytes = PGRAFT_FRAME_HEADER_BYTES + header->length;
			return FRAME_PARTIAL;
		}
		if (conn->ssl != NULL ||
			pgraft_wire_check_payload(data, *payload, &error) == PGRAFT_OK)
		{
			pgraft_buffer_consume(&conn->in, PGRAFT_FRAME_HEADER_BYTES + header->length);
			return FRAME_COMPLETE;
		}
	}
	snprintf(conn->reason, sizeof(conn->reason), "%.*s",
			 (int) sizeof(conn->reason) - 1, error.message);
	return FRAME_BROKEN;
}

/*
 * Returns where the payload of a new frame at the end of the buffer is to be
 * written, NULL when there is no memory.  pgraft_frame_finish() follows.
 */
unsigned char *
pgraft_frame_begin(PgraftBuffer *buffer, size_t length)
{
	if (!pgraft_buffer_reserve(buffer, PGRAFT_FRAME_HEADER_BYTES + length))
		return NULL;
	return buffer->data + buffer->end + PGRAFT_FRAME_HEADER_BYTES;
}

void
pgraft_frame_finish(PgraftConn *conn, PgraftBuffer *buffer, const PgraftFrameHeader *header)
{
	unsigned char *at = buffer->data + buffer->end;

	if (conn->net->tls != NULL)
		pgraft_wire_put_bare_header(at, header);
	else
		pgraft_wire_put_header(at, header, at + PGRAFT_FRAME_HEADER_BYTES);
	buffer->end += PGRAFT_FRAME_HEADER_BYTES + header->length;
}
