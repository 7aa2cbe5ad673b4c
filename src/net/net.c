/*-------------------------------------------------------------------------
 *
 * net.c
 *	  The network object: public functions, poll loop, sending.
 *
 * One epoll descriptor holds listeners, connections and the resolver's
 * eventfd; the host waits on it.  A poll is
 *
 *		connections with work left over from the last poll
 *		one batch of events
 *		deadlines: dialing, pings, silent peers, slow greetings
 *		writing what was queued
 *		freeing what ended
 *
 * with a budget per connection, so that it never takes long.  Deadlines come
 * after the events: a process that was stopped for a while first reads what is
 * there and then decides who was silent.
 *
 * One thread.  All memory is malloc'd; nothing survives a restart.  Failures
 * of memory or of a system call end the connection concerned, never the loop.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/net.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <errno.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "net_internal.h"

/* One batch takes them all: max_pending, accepted and dialed connections. */
#define MAX_EVENTS 256

#define LONG_PAUSE_MS 1000

static PgraftErrorCode start(PgraftNet *net, PgraftError *error);
static PgraftErrorCode load_tls(PgraftNet *net, const PgraftNetOptions *options,
								PgraftTls **tls, PgraftError *error);
static void forgive_pause(PgraftNet *net, raft_time now);
static void run_ready(PgraftNet *net);
static void run_events(PgraftNet *net);
static void run_deadlines(PgraftNet *net);
static void reap(PgraftNet *net);
static unsigned char *begin_send(PgraftConn *conn, PgraftBuffer *buffer, size_t length);
static void finish_send(PgraftConn *conn, PgraftBuffer *buffer, PgraftFrameType type,
						size_t length);
static PgraftBuffer *send_buffer(PgraftPeer *peer, PgraftConn *conn, size_t length);
static void fill_peer_stats(PgraftPeer *peer, PgraftNetPeerStats *stats);

/* ----------------------------------------------------------------
 * Life
 * ----------------------------------------------------------------
 */

PgraftErrorCode
pgraft_net_create(PgraftNet **net, const PgraftNetOptions *options,
				  const PgraftNetCallbacks *callbacks, raft_time now, PgraftError *error)
{
	PgraftNet  *created = calloc(1, sizeof(PgraftNet));
	PgraftErrorCode code;

	*net = NULL;
	if (created == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	created->options = *options;
	created->options.max_frame_bytes = Min(options->max_frame_bytes, PGRAFT_FRAME_MAX_BYTES);
	created->self = options->self;
	created->callbacks = *callbacks;
	created->now = now;
	created->next_deadline = NEVER;
	created->random = options->seed;
	created->resolver_source = SOURCE_RESOLVER;
	created->epoll_fd = -1;
	code = start(created, error);
	if (code != PGRAFT_OK)
	{
		pgraft_net_destroy(created);
		return code;
	}
	*net = created;
	return PGRAFT_OK;
}

static PgraftErrorCode
start(PgraftNet *net, PgraftError *error)
{
	PgraftErrorCode code;

	net->report = pgraft_report_create();
	if (net->report == NULL)
		return pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	net->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (net->epoll_fd < 0)
		return pgraft_error(error, PGRAFT_ERR_IO, "could not create an epoll descriptor: %s",
							strerror(errno));
	code = load_tls(net, &net->options, &net->tls, error);
	if (code != PGRAFT_OK)
		return code;
	return pgraft_listener_open(net, error);
}

static PgraftErrorCode
load_tls(PgraftNet *net, const PgraftNetOptions *options, PgraftTls **tls, PgraftError *error)
{
	char		warning[REASON_SIZE * 2];
	PgraftErrorCode code = pgraft_tls_load(tls, options, warning, sizeof(warning), error);

	if (code == PGRAFT_OK && warning[0] != '\0')
		pgraft_net_log(net, PGRAFT_NET_WARNING, "%s", warning);
	return code;
}

void
pgraft_net_destroy(PgraftNet *net)
{
	PgraftConn *conn;
	PgraftPeer *peer;

	if (net == NULL)
		return;
	for (conn = net->conns; conn != NULL; conn = conn->next)
		pgraft_conn_close(conn);
	for (peer = net->peers; peer != NULL; peer = peer->next)
		peer->removed = true;
	reap(net);
	pgraft_listener_close(net);
	pgraft_resolver_destroy(net->resolver);
	pgraft_tls_free(net->tls);
	pgraft_report_destroy(net->report);
	if (net->epoll_fd >= 0)
		close(net->epoll_fd);
	free(net);
}

/* New handshakes use the new files; connections that stand are left alone. */
PgraftErrorCode
pgraft_net_reload_tls(PgraftNet *net, const PgraftNetOptions *options, PgraftError *error)
{
	PgraftNetOptions wanted = *options;
	PgraftTls  *tls;
	PgraftErrorCode code;
	bool		with_tls = options->ssl_cert_file[0] != '\0' ||
		options->ssl_key_file[0] != '\0' || options->ssl_ca_file[0] != '\0';

	if (with_tls != (net->tls != NULL))
	{
		pgraft_error(error, PGRAFT_ERR_CONFIG, "TLS cannot be switched %s while the member runs",
					 with_tls ? "on" : "off");
		pgraft_error_hint(error, "Restart the server.");
		return PGRAFT_ERR_CONFIG;
	}
	wanted.self = net->self;
	code = load_tls(net, &wanted, &tls, error);
	if (code != PGRAFT_OK)
		return code;
	pgraft_tls_free(net->tls);
	net->tls = tls;
	return PGRAFT_OK;
}

/* ----------------------------------------------------------------
 * Identity and peers
 * ----------------------------------------------------------------
 */

void
pgraft_net_set_self(PgraftNet *net, const PgraftNetSelf *self)
{
	bool		other = net->self.node_id != self->node_id ||
		net->self.incarnation != self->incarnation ||
		net->self.cluster_uid != self->cluster_uid ||
		net->self.member_uid != self->member_uid;
	PgraftPeer *peer;
	PgraftConn *conn;

	net->self = *self;
	if (!other)
		return;

	/* what was said under the old identity does not hold any more */
	for (peer = net->peers; peer != NULL; peer = peer->next)
	{
		if (peer->removed)
			continue;
		pgraft_peer_drop(peer);
		pgraft_peer_redial(peer);
	}
	for (conn = net->conns; conn != NULL; conn = conn->next)
		if (conn->kind == CONN_ACCEPTED && conn->state == CONN_OPEN &&
			(conn->cluster_uid != self->cluster_uid || conn->to != self->node_id ||
			 conn->to_incarnation != self->incarnation))
			pgraft_conn_end(conn, END_QUIET, "identity changed");
}

PgraftErrorCode
pgraft_net_set_peers(PgraftNet *net, const PgraftNetPeer *peers, int n_peers, PgraftError *error)
{
	PgraftErrorCode code = PGRAFT_OK;
	PgraftPeer *peer;
	PgraftConn *conn;
	int			i;

	for (peer = net->peers; peer != NULL; peer = peer->next)
		peer->keep = false;
	for (i = 0; i < n_peers; i++)
	{
		peer = pgraft_peer_find(net, peers[i].id);
		if (peer != NULL)
			pgraft_peer_update(peer, &peers[i]);
		else
			peer = pgraft_peer_add(net, &peers[i]);
		if (peer != NULL)
			peer->keep = true;
		else
			code = pgraft_error(error, PGRAFT_ERR_NOMEM, "out of memory");
	}
	for (peer = net->peers; peer != NULL; peer = peer->next)
	{
		if (peer->removed || peer->keep)
			continue;
		pgraft_peer_remove(peer);

		/* it has to greet again, and the host decides again */
		for (conn = net->conns; conn != NULL; conn = conn->next)
			if (conn->kind == CONN_ACCEPTED && conn->state == CONN_OPEN &&
				conn->id == peer->config.id)
				pgraft_conn_end(conn, END_QUIET, "no longer a peer");
	}
	return code;
}

/* ----------------------------------------------------------------
 * The loop
 * ----------------------------------------------------------------
 */

int
pgraft_net_fd(PgraftNet *net)
{
	return net->epoll_fd;
}

raft_time
pgraft_net_next_deadline(PgraftNet *net)
{
	return net->any_ready ? net->now : net->next_deadline;
}

void
pgraft_net_poll(PgraftNet *net, raft_time now)
{
	forgive_pause(net, now);
	net->now = Max(net->now, now);
	if (net->any_ready)
		run_ready(net);
	run_events(net);
	if (net->now >= net->next_deadline)
		run_deadlines(net);
	pgraft_net_flush(net);
	reap(net);
}

/*
 * The host comes at the latest when something is due.  When it comes much
 * later the process did not run, and silence of others in that time is none.
 */
static void
forgive_pause(PgraftNet *net, raft_time now)
{
	PgraftConn *conn;
	raft_time	pause;

	if (net->next_deadline == NEVER || now < net->next_deadline + LONG_PAUSE_MS)
		return;
	pause = now - net->next_deadline;
	for (conn = net->conns; conn != NULL; conn = conn->next)
	{
		conn->received_at += pause;
		conn->ping_sent_at += pause;
	}
}

static void
run_ready(PgraftNet *net)
{
	PgraftConn *conn;

	net->any_ready = false;
	for (conn = net->conns; conn != NULL; conn = conn->next)
	{
		if (!conn->ready)
			continue;
		conn->ready = false;
		pgraft_conn_handle(conn, 0);
	}
}

static void
run_events(PgraftNet *net)
{
	struct epoll_event events[MAX_EVENTS];
	int			n_events = epoll_wait(net->epoll_fd, events, MAX_EVENTS, 0);
	int			i;

	for (i = 0; i < n_events; i++)
	{
		PgraftSource *source = events[i].data.ptr;

		switch (*source)
		{
			case SOURCE_LISTENER:
				pgraft_listener_accept(net, (PgraftListener *) source);
				break;
			case SOURCE_CONN:
				pgraft_conn_handle((PgraftConn *) source, events[i].events);
				break;
			case SOURCE_RESOLVER:
				pgraft_peer_resolved(net);
				break;
		}
	}
}

static void
run_deadlines(PgraftNet *net)
{
	PgraftConn *conn;
	PgraftPeer *peer;

	net->next_deadline = NEVER;
	pgraft_listener_run_deadlines(net);
	for (conn = net->conns; conn != NULL; conn = conn->next)
		pgraft_conn_run_deadlines(conn);
	for (peer = net->peers; peer != NULL; peer = peer->next)
		pgraft_peer_run_deadlines(peer);
}

static void
reap(PgraftNet *net)
{
	pgraft_conn_reap(net);
	pgraft_peer_reap(net);
}

void
pgraft_net_due(PgraftNet *net, raft_time when)
{
	net->next_deadline = Min(net->next_deadline, when);
}

/* Only for jitter and tokens of pings. */
raft_u64
pgraft_net_random(PgraftNet *net)
{
	raft_u64	value;

	net->random += UINT64CONST(0x9E3779B97F4A7C15);
	value = net->random;
	value = (value ^ (value >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	value = (value ^ (value >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return value ^ (value >> 31);
}

/* For round-trip times only; everything else runs on the host's time. */
raft_u64
pgraft_net_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (raft_u64) now.tv_sec * 1000000 + (raft_u64) now.tv_nsec / 1000;
}

/* ----------------------------------------------------------------
 * Sending
 * ----------------------------------------------------------------
 */

int
pgraft_net_send_message(PgraftNet *net, const struct raft_message *message)
{
	PgraftPeer *peer = pgraft_peer_find(net, message->to);
	PgraftBuffer *buffer;
	PgraftConn *conn;
	unsigned char *payload;
	size_t		length;

	if (peer == NULL)
		return 0;

	/* the receiver would take it for a violation: it is for another membership */
	if (message->to_incarnation != peer->config.incarnation ||
		message->from_incarnation != net->self.incarnation || message->from != net->self.node_id)
	{
		peer->stats.dropped++;
		return 0;
	}
	conn = message->type == RAFT_MSG_SNAPSHOT ? pgraft_peer_bulk(peer) : peer->main;
	length = pgraft_wire_message_bytes(message);
	buffer = send_buffer(peer, conn, length);
	if (buffer == NULL)
		return 0;
	payload = begin_send(conn, buffer, length);
	if (payload == NULL)
		return 0;
	pgraft_wire_encode_message(payload, message);
	finish_send(conn, buffer, PGRAFT_FRAME_RAFT, length);
	return 1;
}

int
pgraft_net_send_frame(PgraftNet *net, raft_id id, PgraftFrameType type,
					  const unsigned char *payload, size_t length)
{
	PgraftPeer *peer = pgraft_peer_find(net, id);
	PgraftBuffer *buffer;
	unsigned char *at;

	if (peer == NULL)
		return 0;
	buffer = send_buffer(peer, peer->main, length);
	if (buffer == NULL)
		return 0;
	at = begin_send(peer->main, buffer, length);
	if (at == NULL)
		return 0;
	if (length > 0)
		memcpy(at, payload, length);
	finish_send(peer->main, buffer, type, length);
	return 1;
}

/*
 * Where a frame goes: NULL when there is no usable connection or no place.
 * Chunks may wait for their connection, everything else may not.
 */
static PgraftBuffer *
send_buffer(PgraftPeer *peer, PgraftConn *conn, size_t length)
{
	const PgraftNetOptions *options = &peer->net->options;
	PgraftBuffer *buffer;
	size_t		queued;

	if (conn == NULL || conn->broken)
		return NULL;
	if (conn->state == CONN_OPEN)
		buffer = &conn->out;
	else if (conn->kind == CONN_BULK)
		buffer = &conn->held;
	else
		return NULL;

	/* one frame always fits into an empty queue */
	queued = pgraft_buffer_length(buffer);
	if (length > options->max_frame_bytes ||
		(queued > 0 &&
		 queued + PGRAFT_FRAME_HEADER_BYTES + length > options->max_queue_bytes))
	{
		peer->stats.dropped++;
		return NULL;
	}
	return buffer;
}

static unsigned char *
begin_send(PgraftConn *conn, PgraftBuffer *buffer, size_t length)
{
	unsigned char *payload = pgraft_frame_begin(buffer, length);

	if (payload == NULL)
		conn->peer->stats.dropped++;
	return payload;
}

static void
finish_send(PgraftConn *conn, PgraftBuffer *buffer, PgraftFrameType type, size_t length)
{
	PgraftFrameHeader header;

	pgraft_conn_fill_header(conn, type, length, &header);
	pgraft_frame_finish(conn, buffer, &header);
	conn->peer->stats.messages_sent++;
	conn->used_at = conn->net->now;
	if (buffer == &conn->out && !conn->write_blocked &&
		pgraft_buffer_length(buffer) >= WRITE_EARLY_BYTES)
		(void) pgraft_conn_write(conn);
}

void
pgraft_net_flush(PgraftNet *net)
{
	PgraftConn *conn;

	for (conn = net->conns; conn != NULL; conn = conn->next)
		if ((conn->state == CONN_OPEN || conn->state == CONN_GREETING) &&
			!conn->write_blocked && pgraft_buffer_length(&conn->out) > 0)
			(void) pgraft_conn_write(conn);
}

/* ----------------------------------------------------------------
 * Statistics
 * ----------------------------------------------------------------
 */

int
pgraft_net_peer_stats(PgraftNet *net, PgraftNetPeerStats *stats, int max)
{
	PgraftPeer *peer;
	int			n = 0;

	for (peer = net->peers; peer != NULL && n < max; peer = peer->next)
		if (!peer->removed)
			fill_peer_stats(peer, &stats[n++]);
	return n;
}

static void
fill_peer_stats(PgraftPeer *peer, PgraftNetPeerStats *stats)
{
	PgraftConn *conn;

	*stats = peer->stats;
	stats->connected = peer->main != NULL && peer->main->state == CONN_OPEN;
	if (peer->main != NULL)
		stats->queued_bytes += pgraft_buffer_length(&peer->main->out);
	if (peer->bulk != NULL)
		stats->queued_bytes += pgraft_buffer_length(&peer->bulk->out) +
			pgraft_buffer_length(&peer->bulk->held);
	if (stats->connected && peer->main->ssl != NULL)
	{
		strlcpy(stats->tls_version, SSL_get_version(peer->main->ssl),
				sizeof(stats->tls_version));
		strlcpy(stats->tls_cipher, SSL_get_cipher(peer->main->ssl), sizeof(stats->tls_cipher));
	}
	for (conn = peer->net->conns; conn != NULL; conn = conn->next)
		if (conn->kind == CONN_ACCEPTED && conn->state == CONN_OPEN && !conn->bulk &&
			conn->id == peer->config.id)
			stats->inbound = 1;
}

void
pgraft_net_stats(PgraftNet *net, PgraftNetStats *stats)
{
	stats->accepted = net->accepted;
	stats->rejected = net->rejected;
	stats->pending = (unsigned long) net->n_pending;
}
