/*-------------------------------------------------------------------------
 *
 * conn.c
 *	  One connection: from the socket to frames and back, until it ends.
 *
 *	dialed, main or bulk	CONNECTING -> [HANDSHAKE] -> GREETING -> OPEN
 *	dialed, probe			CONNECTING
 *	accepted				[SNIFFING -> HANDSHAKE] -> GREETING -> OPEN
 *	accepted and refused	CLOSING: a refusal is written, the rest thrown away
 *	all						DEAD, freed by pgraft_conn_reap()
 *
 * States in brackets exist with TLS only.  What the greeting decides is in
 * peer.c for dialed and in listener.c for accepted connections.
 *
 * Callbacks are reached from here, so that every function must expect its
 * connection to be DEAD after one.  pgraft_conn_write() is also called outside
 * of pgraft_net_poll(); it only marks a failed connection as broken.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/conn.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net_internal.h"

#define PING_BYTES 8
#define REPLY_MAX_BYTES 64		/* what comes back on a dialed connection */
#define DISCARD_MAX_BYTES (256 * 1024)

static void update_interest(PgraftConn *conn);
static void finish_connect(PgraftConn *conn);
static void continue_handshake(PgraftConn *conn);
static void read_frames(PgraftConn *conn);
static void dispatch(PgraftConn *conn, const PgraftFrameHeader *header,
					 const unsigned char *payload);
static bool header_fits(const PgraftConn *conn, const PgraftFrameHeader *header);
static void received_on_dialed(PgraftConn *conn, PgraftNetPeerStats *stats,
							   const PgraftFrameHeader *header, const unsigned char *payload);
static void received_on_accepted(PgraftConn *conn, const PgraftFrameHeader *header,
								 const unsigned char *payload);
static void continue_closing(PgraftConn *conn);
static bool connected_to_itself(int fd);
static raft_time silence_limit(const PgraftNet *net);

/* ----------------------------------------------------------------
 * Life
 * ----------------------------------------------------------------
 */

/* Takes the descriptor over, also when it fails (NULL). */
PgraftConn *
pgraft_conn_new(PgraftNet *net, int fd, PgraftConnKind kind, PgraftPeer *peer, uint32 interest)
{
	PgraftConn *conn = calloc(1, sizeof(PgraftConn));
	struct epoll_event event;

	memset(&event, 0, sizeof(event));
	event.events = interest;
	event.data.ptr = conn;
	if (conn == NULL || epoll_ctl(net->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
	{
		free(conn);
		close(fd);
		return NULL;
	}
	conn->source = SOURCE_CONN;
	conn->net = net;
	conn->kind = kind;
	conn->fd = fd;
	conn->interest = interest;
	conn->peer = peer;
	conn->opened_at = net->now;
	conn->received_at = net->now;
	conn->used_at = net->now;
	conn->next = net->conns;
	net->conns = conn;
	return conn;
}

/* Says nothing to anybody; pgraft_conn_end() does. */
void
pgraft_conn_close(PgraftConn *conn)
{
	if (conn->state == CONN_DEAD)
		return;
	conn->state = CONN_DEAD;
	if (conn->pending)
	{
		conn->pending = false;
		conn->net->n_pending--;
	}
	if (conn->ssl != NULL)
	{
		if (conn->tls_established)
			(void) SSL_shutdown(conn->ssl);
		SSL_free(conn->ssl);
		conn->ssl = NULL;
	}
	(void) epoll_ctl(conn->net->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
	close(conn->fd);
	conn->fd = -1;
}

void
pgraft_conn_reap(PgraftNet *net)
{
	PgraftConn **link = &net->conns;

	while (*link != NULL)
	{
		PgraftConn *conn = *link;

		if (conn->state != CONN_DEAD)
		{
			link = &conn->next;
			continue;
		}
		*link = conn->next;
		pgraft_buffer_free(&conn->in);
		pgraft_buffer_free(&conn->out);
		pgraft_buffer_free(&conn->held);
		free(conn);
	}
}

/*
 * Ends a connection, and tells peer.c or listener.c, which report it.  The
 * other side of a refused connection is given a moment to read why, because
 * closing a socket with unread data throws away what was sent last.
 */
void
pgraft_conn_end(PgraftConn *conn, PgraftEnd why, const char *format,...)
{
	PgraftConnState state = conn->state;
	char		reason[REASON_SIZE];
	va_list		args;
	bool		linger;

	if (state == CONN_DEAD)
		return;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);

	linger = conn->kind == CONN_ACCEPTED && conn->pending && state != CONN_CLOSING &&
		(why == END_GREETING || why == END_NAME || why == END_TLS) && !conn->broken;
	if (linger)
	{
		conn->state = CONN_CLOSING;
		conn->deadline = conn->net->now + CLOSING_MS;
		pgraft_net_due(conn->net, conn->deadline);
	}
	else
		pgraft_conn_close(conn);
	if (conn->peer != NULL)
		pgraft_peer_conn_ended(conn->peer, conn, state, why, reason);
	else if (state != CONN_CLOSING)
		pgraft_listener_conn_ended(conn, state, why, reason);
	if (linger && conn->state == CONN_CLOSING)
		continue_closing(conn);
}

/* It has work that epoll will not report: the next poll comes at once. */
void
pgraft_conn_mark_ready(PgraftConn *conn)
{
	conn->ready = true;
	conn->net->any_ready = true;
}

static void
update_interest(PgraftConn *conn)
{
	uint32		interest = 0;
	struct epoll_event event;

	if (conn->state == CONN_DEAD)
		return;
	if (conn->state == CONN_CONNECTING)
		interest = EPOLLOUT;
	else
	{
		if (!conn->read_wants_write)
			interest |= EPOLLIN;
		if (conn->read_wants_write || (conn->write_blocked && !conn->write_wants_read))
			interest |= EPOLLOUT;
	}
	if (interest == conn->interest)
		return;
	memset(&event, 0, sizeof(event));
	event.events = interest;
	event.data.ptr = conn;
	if (epoll_ctl(conn->net->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) == 0)
		conn->interest = interest;
}

/* ----------------------------------------------------------------
 * Events
 * ----------------------------------------------------------------
 */

/* events 0: called because it was marked ready. */
void
pgraft_conn_handle(PgraftConn *conn, uint32 events)
{
	if (conn->broken && conn->state != CONN_DEAD)
	{
		pgraft_conn_end(conn, END_CLOSED, "%s", conn->reason);
		return;
	}
	if (events != 0)
	{
		conn->write_blocked = false;
		conn->write_wants_read = false;
		conn->read_wants_write = false;
	}
	if (conn->state == CONN_CONNECTING)
		finish_connect(conn);
	if (conn->state == CONN_SNIFFING)
		pgraft_listener_sniff(conn);
	if (conn->state == CONN_HANDSHAKE)
		continue_handshake(conn);
	if (conn->state == CONN_CLOSING)
		continue_closing(conn);
	else if (conn->state == CONN_GREETING || conn->state == CONN_OPEN)
	{
		if (pgraft_buffer_length(&conn->out) > 0)
			(void) pgraft_conn_write(conn);
		read_frames(conn);
	}
	update_interest(conn);
}

static void
finish_connect(PgraftConn *conn)
{
	int			error = 0;
	socklen_t	size = sizeof(error);

	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
		error = errno;

	/* a port of our own range that nobody listens on may be given to us */
	if (error == 0 && connected_to_itself(conn->fd))
		error = ECONNREFUSED;
	if (error == 0 && conn->kind == CONN_PROBE)
		pgraft_conn_end(conn, END_QUIET, "alive");
	else if (error == 0)
	{
		conn->deadline = conn->opened_at + conn->net->options.handshake_timeout_ms;
		pgraft_net_due(conn->net, conn->deadline);
		if (conn->net->tls == NULL)
			pgraft_peer_secured(conn);
		else if (pgraft_tls_start(conn, false))
			conn->state = CONN_HANDSHAKE;
		else
			pgraft_conn_end(conn, END_MEMORY, "out of memory");
	}
	else
		pgraft_conn_end(conn, error == ECONNREFUSED ? END_REFUSED : END_NETWORK,
						"%s", strerror(error));
}

static void
continue_handshake(PgraftConn *conn)
{
	switch (pgraft_tls_handshake(conn))
	{
		case IO_DONE:
			conn->tls_established = true;
			if (conn->kind == CONN_ACCEPTED)
				conn->state = CONN_GREETING;
			else
				pgraft_peer_secured(conn);
			break;
		case IO_WAIT:
			break;
		case IO_CLOSED:
			pgraft_conn_end(conn, END_CLOSED, "connection closed during the TLS handshake");
			break;
		case IO_FAILED:
			pgraft_conn_end(conn, END_TLS, "%s", conn->reason);
			break;
	}
}

static void
read_frames(PgraftConn *conn)
{
	size_t		n_bytes = 0;
	int			n_frames = 0;
	bool		drained = false;

	while (conn->state == CONN_GREETING || conn->state == CONN_OPEN)
	{
		PgraftFrameHeader header;
		const unsigned char *payload;
		PgraftEnd	why;
		size_t		n_read;
		size_t		limit = REPLY_MAX_BYTES;

		if (conn->state == CONN_GREETING)
			limit = PGRAFT_HELLO_MAX_BYTES;
		else if (conn->kind == CONN_ACCEPTED)
			limit = conn->net->options.max_frame_bytes;
		switch (pgraft_conn_next_frame(conn, limit, &header, &payload, &why))
		{
			case FRAME_COMPLETE:
				dispatch(conn, &header, payload);
				if (++n_frames < FRAME_BUDGET)
					continue;
				pgraft_conn_mark_ready(conn);
				return;
			case FRAME_BROKEN:
				pgraft_conn_end(conn, why, "%s", conn->reason);
				return;
			case FRAME_PARTIAL:
				break;
		}
		if (drained)
			return;
		if (n_bytes >= READ_BUDGET_BYTES)
		{
			pgraft_conn_mark_ready(conn);
			return;
		}
		switch (pgraft_conn_fill(conn, &n_read))
		{
			case IO_DONE:
				n_bytes += n_read;
				conn->received_at = conn->net->now;

				/* a read that did not fill the buffer emptied the socket */
				drained = conn->ssl == NULL && conn->in.end < conn->in.capacity;
				break;
			case IO_WAIT:
				return;
			case IO_CLOSED:
				pgraft_conn_end(conn, END_CLOSED, "%s", conn->state == CONN_GREETING ?
								"connection closed before the greeting was answered" :
								"connection closed by the other side");
				return;
			case IO_FAILED:
				pgraft_conn_end(conn, END_NETWORK, "%s", conn->reason);
				return;
		}
	}
}

static void
dispatch(PgraftConn *conn, const PgraftFrameHeader *header, const unsigned char *payload)
{
	PgraftPeer *peer;

	if (conn->state == CONN_GREETING)
	{
		if (conn->kind == CONN_ACCEPTED && header->type == PGRAFT_FRAME_HELLO)
			pgraft_listener_hello(conn, header, payload);
		else if (conn->kind != CONN_ACCEPTED && header->type == PGRAFT_FRAME_HELLO_REPLY)
			pgraft_peer_hello_reply(conn, header, payload);
		else
			pgraft_conn_end(conn, END_PROTOCOL, "frame of type %d before the greeting",
							header->type);
		return;
	}
	if (!header_fits(conn, header))
	{
		pgraft_conn_end(conn, END_PROTOCOL, "identity in a frame differs from the greeting");
		return;
	}
	peer = conn->peer != NULL ? conn->peer : pgraft_peer_find(conn->net, conn->id);
	if (peer != NULL)
		peer->stats.bytes_received += PGRAFT_FRAME_HEADER_BYTES + header->length;
	if (conn->peer == NULL)
		received_on_accepted(conn, header, payload);
	else
		received_on_dialed(conn, &conn->peer->stats, header, payload);
}

static bool
header_fits(const PgraftConn *conn, const PgraftFrameHeader *header)
{
	return header->cluster_uid == conn->cluster_uid &&
		header->from == conn->id && header->from_incarnation == conn->incarnation &&
		header->to == conn->to && header->to_incarnation == conn->to_incarnation;
}

static void
received_on_dialed(PgraftConn *conn, PgraftNetPeerStats *stats,
				   const PgraftFrameHeader *header, const unsigned char *payload)
{
	long		rtt;

	if (header->type != PGRAFT_FRAME_PONG || header->length != PING_BYTES ||
		!conn->ping_outstanding || memcmp(payload, &conn->ping_token, PING_BYTES) != 0)
	{
		pgraft_conn_end(conn, END_PROTOCOL, "unexpected frame of type %d on a dialed connection",
						header->type);
		return;
	}
	conn->ping_outstanding = false;
	pgraft_net_due(conn->net, conn->ping_at);
	rtt = (long) (pgraft_net_clock_us() - conn->ping_sent_us);
	stats->rtt_us = stats->rtt_us < 0 ? rtt : (7 * stats->rtt_us + rtt) / 8;
}

static void
received_on_accepted(PgraftConn *conn, const PgraftFrameHeader *header,
					 const unsigned char *payload)
{
	PgraftNet  *net = conn->net;
	PgraftPeer *peer;

	switch (header->type)
	{
		case PGRAFT_FRAME_PING:
			if (header->length != PING_BYTES)
				break;

			/* who does not read what it asks for gets no more of it */
			if (pgraft_buffer_length(&conn->out) < INBOUND_QUEUE_BYTES)
				(void) pgraft_conn_send(conn, PGRAFT_FRAME_PONG, payload, header->length);
			return;
		case PGRAFT_FRAME_RAFT:
		case PGRAFT_FRAME_REQUEST:
		case PGRAFT_FRAME_REPLY:
			peer = pgraft_peer_find(net, conn->id);
			if (peer != NULL)
				peer->stats.messages_received++;
			if (net->callbacks.frame(net->callbacks.context, header, payload) == 0)
				return;
			break;
		default:
			break;
	}
	pgraft_conn_end(conn, END_PROTOCOL, "malformed or unexpected frame of type %d", header->type);
}

/* A refusal is on its way; what comes meanwhile is thrown away. */
static void
continue_closing(PgraftConn *conn)
{
	unsigned char waste[4096];
	ssize_t		n;

	if (pgraft_buffer_length(&conn->out) > 0)
	{
		if (!pgraft_conn_write(conn))
		{
			pgraft_conn_close(conn);
			return;
		}
		if (pgraft_buffer_length(&conn->out) > 0)
		{
			update_interest(conn);
			return;
		}
	}
	(void) shutdown(conn->fd, SHUT_WR);
	do
	{
		n = recv(conn->fd, waste, sizeof(waste), 0);
		if (n > 0)
			conn->discarded += (size_t) n;
	} while (n > 0 && conn->discarded < DISCARD_MAX_BYTES);
	if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
		pgraft_conn_close(conn);
}

static bool
connected_to_itself(int fd)
{
	struct sockaddr_storage own;
	struct sockaddr_storage other;
	socklen_t	own_size = sizeof(own);
	socklen_t	other_size = sizeof(other);

	memset(&own, 0, sizeof(own));
	memset(&other, 0, sizeof(other));
	return getsockname(fd, (struct sockaddr *) &own, &own_size) == 0 &&
		getpeername(fd, (struct sockaddr *) &other, &other_size) == 0 &&
		own_size == other_size && memcmp(&own, &other, own_size) == 0;
}

/* ----------------------------------------------------------------
 * Sending
 * ----------------------------------------------------------------
 */

/* False: the connection is broken, which the next poll deals with. */
bool
pgraft_conn_write(PgraftConn *conn)
{
	PgraftPeer *peer = conn->peer;
	size_t		before = pgraft_buffer_length(&conn->out);
	PgraftIo	result;

	if (conn->broken)
		return false;
	result = pgraft_conn_drain(conn);
	if (peer != NULL)
		peer->stats.bytes_sent += before - pgraft_buffer_length(&conn->out);
	if (result == IO_CLOSED || result == IO_FAILED)
	{
		if (result == IO_CLOSED)
			strlcpy(conn->reason, "connection closed by the other side", sizeof(conn->reason));
		conn->broken = true;
		pgraft_conn_mark_ready(conn);
		return false;
	}
	if (result == IO_WAIT)
		conn->write_blocked = true;
	update_interest(conn);
	return true;
}

void
pgraft_conn_fill_header(const PgraftConn *conn, PgraftFrameType type, size_t length,
						PgraftFrameHeader *header)
{
	header->length = length;
	header->type = type;
	header->cluster_uid = conn->net->self.cluster_uid;
	header->from = conn->net->self.node_id;
	header->to = conn->id;
	header->from_incarnation = conn->net->self.incarnation;
	header->to_incarnation = conn->incarnation;
}

/* Queues a frame; false = out of memory. */
bool
pgraft_conn_send(PgraftConn *conn, PgraftFrameType type, const unsigned char *payload,
				 size_t length)
{
	PgraftFrameHeader header;
	unsigned char *at = pgraft_frame_begin(&conn->out, length);

	if (at == NULL)
		return false;
	if (length > 0)
		memcpy(at, payload, length);
	pgraft_conn_fill_header(conn, type, length, &header);
	pgraft_frame_finish(conn, &conn->out, &header);
	return true;
}

bool
pgraft_conn_send_hello(PgraftConn *conn, PgraftFrameType type, bool invite,
					   PgraftHelloStatus status)
{
	const PgraftNetSelf *self = &conn->net->self;
	unsigned char payload[PGRAFT_HELLO_MAX_BYTES];
	PgraftHello hello;

	memset(&hello, 0, sizeof(hello));
	strlcpy(hello.cluster_id, self->cluster_id, sizeof(hello.cluster_id));
	strlcpy(hello.name, self->name, sizeof(hello.name));
	strlcpy(hello.address, self->address, sizeof(hello.address));
	hello.port = self->port;
	hello.member_uid = self->member_uid;
	hello.bulk = conn->bulk;
	hello.invite = invite;
	hello.status = status;
	return pgraft_conn_send(conn, type, payload, pgraft_wire_encode_hello(payload, &hello));
}

/* The greeting is over, the identity fields are filled. */
void
pgraft_conn_open(PgraftConn *conn)
{
	conn->state = CONN_OPEN;
	conn->opened_at = conn->net->now;
	conn->received_at = conn->net->now;
	conn->used_at = conn->net->now;
	conn->ping_at = conn->net->now;
	if (conn->pending)
	{
		conn->pending = false;
		conn->net->n_pending--;
	}
	pgraft_net_due(conn->net, conn->net->now);
}

/* ----------------------------------------------------------------
 * Time
 * ----------------------------------------------------------------
 */

void
pgraft_conn_send_ping(PgraftConn *conn)
{
	unsigned char payload[PING_BYTES];

	conn->ping_token = pgraft_net_random(conn->net);
	conn->ping_sent_at = conn->net->now;
	conn->ping_sent_us = pgraft_net_clock_us();
	conn->ping_outstanding = true;
	memcpy(payload, &conn->ping_token, PING_BYTES);
	if (pgraft_conn_send(conn, PGRAFT_FRAME_PING, payload, PING_BYTES))
		(void) pgraft_conn_write(conn);
}

static raft_time
silence_limit(const PgraftNet *net)
{
	return Max(3 * net->options.ping_interval_ms, MIN_DEAD_MS);
}

/*
 * Runs after the events of a poll: what arrived while this process did not run
 * counts before anybody is found silent.
 */
void
pgraft_conn_run_deadlines(PgraftConn *conn)
{
	PgraftNet  *net = conn->net;
	raft_time	due;

	if (conn->state == CONN_DEAD)
		return;
	if (conn->state != CONN_OPEN)
	{
		due = conn->deadline;
		if (net->now >= due)
			pgraft_conn_end(conn, END_TIMEOUT, "%s",
							conn->state == CONN_CONNECTING ? "connection timed out" :
							"the other side did not greet in time");
	}
	else if (conn->kind == CONN_ACCEPTED)
	{
		due = conn->received_at + IDLE_INBOUND_MS;
		if (net->now >= due)
			pgraft_conn_end(conn, END_SILENT, "nothing received for %d s",
							IDLE_INBOUND_MS / 1000);
	}
	else if (conn->ping_outstanding && net->now >= conn->ping_sent_at + silence_limit(net))
	{
		pgraft_conn_end(conn, END_SILENT, "the other side does not answer");
		return;
	}
	else if (conn->kind == CONN_BULK && net->now >= conn->used_at + IDLE_BULK_MS)
	{
		pgraft_conn_end(conn, END_QUIET, "idle");
		return;
	}
	else
	{
		if (!conn->ping_outstanding && net->now >= conn->ping_at)
		{
			conn->ping_at = net->now + net->options.ping_interval_ms;
			pgraft_conn_send_ping(conn);
		}
		due = conn->ping_outstanding ? conn->ping_sent_at + silence_limit(net) : conn->ping_at;
	}
	if (conn->state != CONN_DEAD)
		pgraft_net_due(net, due);
}
