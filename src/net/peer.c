/*-------------------------------------------------------------------------
 *
 * peer.c
 *	  The members that we dial: when, at which address, and what to tell the
 *	  host about it.
 *
 * Each peer has one main connection, at times a bulk one for snapshot chunks,
 * and at times a probe.  A round of dialing tries each address of the peer
 * once; of two places that are known one is tried in a round and the other in the
 * next.  The next round comes after a jittered pause that doubles from a few
 * milliseconds to reconnect_max_ms, and at once when the peer itself greets us.
 *
 * The point of the speed is to learn of the death of a process: when it dies
 * the kernel closes its sockets, we see the end of the stream, dial again, and
 * ECONNREFUSED proves that nobody listens any more: peer_down(refused).  Some
 * kernels close the listening socket a moment after the connections, so a
 * round that fails in another way right after a break is repeated within 2 ms.
 * When only the peer's connection to us breaks, a probe (a TCP connection that
 * is closed as soon as it stands) finds out the same.
 *
 * All of it in the thread of the loop.  Dialing never blocks: names go through
 * resolve.c, and the last good answer is used until a newer one comes.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/peer.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <errno.h>
#include <netdb.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net_internal.h"

#define FIRST_PAUSE_MS 2		/* after a first failed round */
#define SECOND_PAUSE_MS 10		/* doubled from here on */
#define MIN_CONNECT_MS 1000		/* for TCP to be established */
#define LASTING_MS 1000			/* a connection that stood so long was no accident */
#define FREE_QUICK_BREAKS 3		/* so many shorter ones are dialed again at once */
#define STALE_DIAL_MS 50		/* an attempt older than this is given up when the peer greets */

static const char *place(const PgraftPeer *peer, unsigned int *port);
static bool has_other_place(const PgraftPeer *peer);
static void change_place(PgraftPeer *peer);
static void locate(PgraftPeer *peer);
static void prefer_address(PgraftPeer *peer, const PgraftAddress *address);
static void ask_resolver(PgraftPeer *peer);
static void begin_round(PgraftPeer *peer);
static void try_next_address(PgraftPeer *peer);
static bool dial(PgraftPeer *peer, const PgraftAddress *address, PgraftConnKind kind,
				 int *error);
static void round_failed(PgraftPeer *peer, const char *reason);
static void schedule(PgraftPeer *peer);
static void main_ended(PgraftPeer *peer, PgraftConn *conn, PgraftConnState state,
					   PgraftEnd why, const char *reason);
static void main_lost(PgraftPeer *peer, PgraftConn *conn, const char *reason);
static void count_failed_address(PgraftPeer *peer, PgraftEnd why, int error);
static void log_failure(PgraftPeer *peer, const char *reason);
static void note_error(PgraftPeer *peer, PgraftEnd why, const char *reason);

/* ----------------------------------------------------------------
 * The list of peers
 * ----------------------------------------------------------------
 */

PgraftPeer *
pgraft_peer_find(PgraftNet *net, raft_id id)
{
	PgraftPeer *peer;

	for (peer = net->peers; peer != NULL; peer = peer->next)
		if (peer->config.id == id && !peer->removed)
			return peer;
	return NULL;
}

/* NULL: out of memory. */
PgraftPeer *
pgraft_peer_add(PgraftNet *net, const PgraftNetPeer *config)
{
	PgraftPeer *peer = calloc(1, sizeof(PgraftPeer));
	PgraftPeer **link = &net->peers;

	if (peer == NULL)
		return NULL;
	peer->net = net;
	peer->config = *config;
	peer->stats.id = config->id;
	peer->stats.rtt_us = -1;
	while (*link != NULL)
		link = &(*link)->next;
	*link = peer;
	locate(peer);
	pgraft_peer_redial(peer);
	return peer;
}

/* What did not change stays connected. */
void
pgraft_peer_update(PgraftPeer *peer, const PgraftNetPeer *config)
{
	unsigned int port;
	const char *address = place(peer, &port);
	bool		at_first = strcmp(address, config->address) == 0 && port == config->port;
	bool		at_other = strcmp(address, config->other_address) == 0 &&
		port == config->other_port;
	bool		moved = !at_first && !at_other;
	bool		another_other = strcmp(peer->config.other_address, config->other_address) != 0 ||
		peer->config.other_port != config->other_port;
	bool		renamed = strcmp(peer->config.name, config->name) != 0;
	bool		other = peer->config.incarnation != config->incarnation;
	bool		invite_changed = peer->config.invite != config->invite;
	bool		is_up = peer->main != NULL && peer->main->state == CONN_OPEN;

	peer->config = *config;
	peer->at_other = at_other && !at_first;
	if (moved)
		locate(peer);
	if (moved || renamed || other)
	{
		pgraft_peer_drop(peer);
		peer->stats.rtt_us = -1;
	}
	else if (is_up || (!invite_changed && !another_other))
		return;
	pgraft_peer_redial(peer);
}

/* Closes what we dialed; the host hears of it in the next poll. */
void
pgraft_peer_drop(PgraftPeer *peer)
{
	PgraftConn *conns[3];
	int			i;

	conns[0] = peer->main;
	conns[1] = peer->bulk;
	conns[2] = peer->probe;
	if (peer->main != NULL && peer->main->state == CONN_OPEN)
		peer->down_pending = true;
	peer->main = peer->bulk = peer->probe = NULL;
	for (i = 0; i < (int) lengthof(conns); i++)
		if (conns[i] != NULL)
			pgraft_conn_close(conns[i]);
}

void
pgraft_peer_remove(PgraftPeer *peer)
{
	pgraft_peer_drop(peer);
	peer->removed = true;
}

void
pgraft_peer_reap(PgraftNet *net)
{
	PgraftPeer **link = &net->peers;

	while (*link != NULL)
	{
		PgraftPeer *peer = *link;

		if (!peer->removed)
		{
			link = &peer->next;
			continue;
		}
		*link = peer->next;
		free(peer);
	}
}

/* ----------------------------------------------------------------
 * Addresses
 * ----------------------------------------------------------------
 */

static const char *
place(const PgraftPeer *peer, unsigned int *port)
{
	*port = peer->at_other ? peer->config.other_port : peer->config.port;
	return peer->at_other ? peer->config.other_address : peer->config.address;
}

static bool
has_other_place(const PgraftPeer *peer)
{
	return peer->config.other_address[0] != '\0';
}

static void
change_place(PgraftPeer *peer)
{
	peer->at_other = !peer->at_other;
	locate(peer);
}

/* Forgets the addresses and finds out whether there is a name to resolve. */
static void
locate(PgraftPeer *peer)
{
	unsigned int port;
	const char *address = place(peer, &port);

	peer->stood = false;
	peer->first_address = 0;
	peer->n_addresses = 0;
	peer->ticket = 0;
	peer->wait_resolver = false;
	peer->is_name = pgraft_resolve_now(address, port, AI_NUMERICHOST, peer->addresses,
									   MAX_ADDRESSES, &peer->n_addresses) != 0;
}

/* Each round begins with this address, as long as the name has it. */
static void
prefer_address(PgraftPeer *peer, const PgraftAddress *address)
{
	int			i;

	peer->first_address = 0;
	for (i = 0; i < peer->n_addresses; i++)
		if (peer->addresses[i].length == address->length &&
			memcmp(&peer->addresses[i].addr, &address->addr, address->length) == 0)
			peer->first_address = i;
}

static void
ask_resolver(PgraftPeer *peer)
{
	PgraftNet  *net = peer->net;
	unsigned int port;
	const char *address = place(peer, &port);

	if (peer->ticket != 0)
		return;
	if (net->resolver == NULL)
	{
		struct epoll_event event;

		net->resolver = pgraft_resolver_create();
		if (net->resolver == NULL)
			return;
		memset(&event, 0, sizeof(event));
		event.events = EPOLLIN;
		event.data.ptr = &net->resolver_source;
		if (epoll_ctl(net->epoll_fd, EPOLL_CTL_ADD, pgraft_resolver_fd(net->resolver),
					  &event) != 0)
		{
			pgraft_resolver_destroy(net->resolver);
			net->resolver = NULL;
			return;
		}
	}
	peer->ticket = pgraft_resolver_ask(net->resolver, address, port);
}

/* Answers of the resolver are there. */
void
pgraft_peer_resolved(PgraftNet *net)
{
	PgraftResolution answer;
	PgraftPeer *peer;

	while (net->resolver != NULL && pgraft_resolver_take(net->resolver, &answer))
	{
		for (peer = net->peers; peer != NULL; peer = peer->next)
			if (peer->ticket == answer.ticket && !peer->removed)
				break;
		if (peer == NULL)
			continue;
		peer->ticket = 0;
		if (answer.n_addresses > 0 &&
			(peer->n_addresses != answer.n_addresses ||
			 memcmp(peer->addresses, answer.addresses, sizeof(answer.addresses)) != 0))
		{
			PgraftAddress last_good = peer->addresses[peer->first_address];

			memcpy(peer->addresses, answer.addresses, sizeof(peer->addresses));
			peer->n_addresses = answer.n_addresses;
			prefer_address(peer, &last_good);
		}
		if (!peer->wait_resolver)
			continue;
		peer->wait_resolver = false;
		if (peer->n_addresses > 0)
			begin_round(peer);
		else
		{
			char		reason[REASON_SIZE];
			unsigned int port;

			snprintf(reason, sizeof(reason), "could not resolve \"%s\": %s",
					 place(peer, &port), gai_strerror(answer.error));
			round_failed(peer, reason);
		}
	}
}

/* ----------------------------------------------------------------
 * Dialing
 * ----------------------------------------------------------------
 */

/* Dials in the next poll, unless a connection is there or being made. */
void
pgraft_peer_redial(PgraftPeer *peer)
{
	peer->failures = 0;
	if (peer->main != NULL || peer->wait_resolver)
		return;
	peer->dial_at = peer->net->now;
	pgraft_net_due(peer->net, peer->dial_at);
}

void
pgraft_peer_run_deadlines(PgraftPeer *peer)
{
	PgraftNet  *net = peer->net;

	if (peer->removed)
		return;
	if (peer->down_pending)
	{
		peer->down_pending = false;
		net->callbacks.peer_down(net->callbacks.context, peer->config.id, 0);
		if (peer->removed)
			return;
	}
	if (peer->main == NULL && !peer->wait_resolver && net->now >= peer->dial_at)
		begin_round(peer);
	if (peer->main == NULL && !peer->wait_resolver)
		pgraft_net_due(net, peer->dial_at);
}

static void
begin_round(PgraftPeer *peer)
{
	peer->dial_at = NEVER;
	peer->tried = 0;
	peer->n_refused = 0;
	peer->n_failed = 0;
	if (peer->is_name)
		ask_resolver(peer);
	if (peer->n_addresses > 0)
		try_next_address(peer);
	else if (peer->ticket != 0)
		peer->wait_resolver = true;
	else
		round_failed(peer, "could not start resolving its address");
}

static void
try_next_address(PgraftPeer *peer)
{
	char		reason[REASON_SIZE] = "no address";

	while (peer->tried < peer->n_addresses)
	{
		const PgraftAddress *address =
			&peer->addresses[(peer->first_address + peer->tried) % peer->n_addresses];
		int			error = 0;

		peer->tried++;
		if (peer->net->tls == NULL && !pgraft_is_loopback((const struct sockaddr *) &address->addr))
		{
			peer->n_failed++;
			strlcpy(reason, "plaintext connections are made to loopback addresses only",
					sizeof(reason));
			continue;
		}
		if (dial(peer, address, CONN_MAIN, &error))
			return;
		count_failed_address(peer, error == ECONNREFUSED ? END_REFUSED : END_NETWORK, error);
		snprintf(reason, sizeof(reason), "%s", strerror(error));
	}
	round_failed(peer, reason);
}

/* Starts one connection; false and *error when that failed at once. */
static bool
dial(PgraftPeer *peer, const PgraftAddress *address, PgraftConnKind kind, int *error)
{
	PgraftNet  *net = peer->net;
	PgraftConn *conn;
	int			fd = socket(address->addr.ss_family,
							SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
	{
		*error = errno;
		return false;
	}
	pgraft_set_socket_options(net, fd);
	if (connect(fd, (const struct sockaddr *) &address->addr, address->length) != 0 &&
		errno != EINPROGRESS)
	{
		*error = errno;
		close(fd);
		return false;
	}
	conn = pgraft_conn_new(net, fd, kind, peer, EPOLLOUT);
	if (conn == NULL)
	{
		*error = ENOMEM;
		return false;
	}
	conn->state = CONN_CONNECTING;
	conn->address = *address;
	pgraft_address_text((const struct sockaddr *) &address->addr, address->length,
						conn->remote, sizeof(conn->remote));
	conn->bulk = kind == CONN_BULK;
	conn->id = peer->config.id;
	conn->incarnation = peer->config.incarnation;
	conn->cluster_uid = net->self.cluster_uid;
	conn->to = net->self.node_id;
	conn->to_incarnation = net->self.incarnation;
	conn->deadline = net->now + Min(net->options.handshake_timeout_ms,
									Max(MIN_CONNECT_MS, net->options.reconnect_max_ms));
	pgraft_net_due(net, conn->deadline);
	if (kind == CONN_MAIN)
		peer->main = conn;
	else if (kind == CONN_BULK)
		peer->bulk = conn;
	else
		peer->probe = conn;
	return true;
}

/* A connection that takes snapshot chunks, made when needed; NULL = not now. */
PgraftConn *
pgraft_peer_bulk(PgraftPeer *peer)
{
	PgraftNet  *net = peer->net;
	int			error;

	if (peer->bulk != NULL)
		return peer->bulk;
	if (peer->main == NULL || peer->main->state != CONN_OPEN || net->now < peer->bulk_at)
		return NULL;
	if (!dial(peer, &peer->main->address, CONN_BULK, &error))
	{
		peer->bulk_at = net->now + BULK_RETRY_MS;
		return NULL;
	}
	return peer->bulk;
}

/* ----------------------------------------------------------------
 * Greeting
 * ----------------------------------------------------------------
 */

/* TCP, and TLS if there is any, stand: make sure who it is, then greet. */
void
pgraft_peer_secured(PgraftConn *conn)
{
	PgraftNet  *net = conn->net;
	PgraftPeer *peer = conn->peer;

	if (conn->ssl != NULL)
	{
		char		name[RAFT_NAME_SIZE] = "";
		char		found[128];

		if (!net->callbacks.expected_name(net->callbacks.context, peer->config.id, name))
			strlcpy(name, peer->config.name, sizeof(name));
		if (conn->state == CONN_DEAD)
			return;
		if (!pgraft_tls_peer_is(conn, name, found, sizeof(found)))
		{
			pgraft_conn_end(conn, END_NAME,
							"certificate name \"%s\" does not match member name \"%s\"",
							found, name);
			return;
		}
	}
	conn->state = CONN_GREETING;
	if (!pgraft_conn_send_hello(conn, PGRAFT_FRAME_HELLO, peer->config.invite, PGRAFT_HELLO_OK))
		pgraft_conn_end(conn, END_MEMORY, "out of memory");
	else
		(void) pgraft_conn_write(conn);
}

void
pgraft_peer_hello_reply(PgraftConn *conn, const PgraftFrameHeader *header,
						const unsigned char *payload)
{
	PgraftNet  *net = conn->net;
	PgraftPeer *peer = conn->peer;
	PgraftHello reply;
	PgraftError error;
	const char *address;
	unsigned int port;

	memset(&error, 0, sizeof(error));
	if (pgraft_wire_decode_hello(payload, header->length, &reply, &error) != PGRAFT_OK)
	{
		pgraft_conn_end(conn, END_PROTOCOL, "%s", error.message);
		return;
	}
	if (reply.status != PGRAFT_HELLO_OK)
	{
		conn->refusal = (PgraftHelloStatus) reply.status;
		pgraft_conn_end(conn, END_GREETING, "%s",
						pgraft_hello_status_text((PgraftHelloStatus) reply.status));
		return;
	}
	if (header->cluster_uid != conn->cluster_uid || header->from != conn->id ||
		header->from_incarnation != conn->incarnation || header->to != conn->to ||
		header->to_incarnation != conn->to_incarnation || reply.bulk != conn->bulk)
	{
		pgraft_conn_end(conn, END_PROTOCOL, "the answer to the greeting comes from another member");
		return;
	}
	pgraft_conn_open(conn);
	if (conn->kind == CONN_BULK)
	{
		/* chunks that waited for this */
		if (!pgraft_buffer_append(&conn->out, &conn->held))
			pgraft_conn_end(conn, END_MEMORY, "out of memory");
		else
			(void) pgraft_conn_write(conn);
		return;
	}
	prefer_address(peer, &conn->address);
	peer->stood = true;
	peer->failures = 0;
	peer->reported_refused = false;
	peer->logged[0] = '\0';
	peer->stats.connects++;
	peer->stats.last_error[0] = '\0';
	address = place(peer, &port);
	pgraft_net_log(net, PGRAFT_NET_LOG, "connected to member %u \"%s\" at %s port %u",
				   peer->config.id, peer->config.name, address, port);
	net->callbacks.peer_up(net->callbacks.context, peer->config.id);
}

const char *
pgraft_hello_status_text(PgraftHelloStatus status)
{
	switch (status)
	{
		case PGRAFT_HELLO_OK:
			return "accepted";
		case PGRAFT_HELLO_WRONG_CLUSTER:
			return "wrong cluster";
		case PGRAFT_HELLO_WRONG_MEMBER:
			return "wrong member";
		case PGRAFT_HELLO_BLANK:
			return "the receiver has no state and was not invited";
		case PGRAFT_HELLO_UNKNOWN_MEMBER:
			return "the sender is not a member";
		case PGRAFT_HELLO_BUSY:
			return "the receiver cannot take part now";
	}
	return "refused";
}

/* The peer dialed us and was let in, so it is there. */
void
pgraft_peer_greeted(PgraftPeer *peer)
{
	PgraftConn *main = peer->main;

	peer->reported_refused = false;
	peer->quick_breaks = 0;

	/* what we have may lead to a process that is gone: let its host say so */
	if (main != NULL && main->state == CONN_OPEN)
	{
		if (!main->ping_outstanding)
			pgraft_conn_send_ping(main);
		return;
	}
	if (main != NULL && main->state == CONN_CONNECTING &&
		peer->net->now >= main->opened_at + STALE_DIAL_MS)
	{
		peer->main = NULL;
		pgraft_conn_close(main);
	}
	pgraft_peer_redial(peer);
}

/* ----------------------------------------------------------------
 * Ends
 * ----------------------------------------------------------------
 */

/* The peer's connection to us ended: does its process live? */
void
pgraft_peer_inbound_broke(PgraftPeer *peer)
{
	int			error = 0;

	if (peer->main == NULL)
	{
		pgraft_peer_redial(peer);
		return;
	}
	if (peer->main->state != CONN_OPEN || peer->probe != NULL)
		return;
	if (!dial(peer, &peer->main->address, CONN_PROBE, &error) &&
		error == ECONNREFUSED)
		pgraft_conn_end(peer->main, END_CLOSED, "the member's process is gone");
}

/* state: what the connection was in when it ended. */
void
pgraft_peer_conn_ended(PgraftPeer *peer, PgraftConn *conn, PgraftConnState state,
					   PgraftEnd why, const char *reason)
{
	if (peer->probe == conn)
	{
		peer->probe = NULL;
		if (why == END_REFUSED && peer->main != NULL && peer->main->state == CONN_OPEN)
			pgraft_conn_end(peer->main, END_CLOSED, "the member's process is gone");
	}
	else if (peer->bulk == conn)
	{
		peer->bulk = NULL;
		if (why != END_QUIET)
		{
			peer->bulk_at = peer->net->now + BULK_RETRY_MS;
			note_error(peer, why, reason);
		}
	}
	else if (peer->main == conn)
	{
		peer->main = NULL;
		main_ended(peer, conn, state, why, reason);
	}
}

static void
main_ended(PgraftPeer *peer, PgraftConn *conn, PgraftConnState state,
		   PgraftEnd why, const char *reason)
{
	PgraftNet  *net = peer->net;
	bool		elsewhere = has_other_place(peer) && !peer->stood;

	note_error(peer, why, reason);
	if (state == CONN_OPEN)
	{
		main_lost(peer, conn, reason);
		return;
	}
	if (state == CONN_CONNECTING)
	{
		count_failed_address(peer, why, 0);
		if (peer->tried < peer->n_addresses)
			try_next_address(peer);
		else
			round_failed(peer, reason);
		return;
	}
	peer->n_failed++;
	round_failed(peer, reason);
	if (why == END_GREETING && !elsewhere && !peer->removed)
	{
		/* it will not change its mind soon, but the moment it greets us */
		peer->failures = 0;
		peer->dial_at = net->now + REFUSED_RETRY_MS / 2 +
			pgraft_net_random(net) % (REFUSED_RETRY_MS / 2 + 1);
		pgraft_net_due(net, peer->dial_at);
		net->callbacks.peer_refused(net->callbacks.context, peer->config.id, conn->refusal);
	}
}

static void
main_lost(PgraftPeer *peer, PgraftConn *conn, const char *reason)
{
	PgraftNet  *net = peer->net;

	if (peer->bulk != NULL)
		pgraft_conn_end(peer->bulk, END_QUIET, "main connection lost");
	if (net->now - conn->opened_at >= LASTING_MS)
		peer->quick_breaks = 0;
	else
		peer->quick_breaks++;
	peer->failures = peer->quick_breaks > FREE_QUICK_BREAKS ? peer->quick_breaks : 0;
	schedule(peer);
	pgraft_net_log(net, PGRAFT_NET_LOG, "lost the connection to member %u \"%s\": %s",
				   peer->config.id, peer->config.name, reason);
	net->callbacks.peer_down(net->callbacks.context, peer->config.id, 0);
}

/* error 0 = unknown */
static void
count_failed_address(PgraftPeer *peer, PgraftEnd why, int error)
{
	if (why == END_REFUSED)
		peer->n_refused++;

	/* addresses of a kind that this machine has not prove nothing */
	else if (error != EAFNOSUPPORT && error != EADDRNOTAVAIL && error != ENETUNREACH)
		peer->n_failed++;
}

static void
round_failed(PgraftPeer *peer, const char *reason)
{
	PgraftNet  *net = peer->net;
	bool		proves = peer->n_refused > 0 && peer->n_failed == 0;

	/* where it never was, nobody need be */
	if (has_other_place(peer) && !peer->stood)
		proves = false;
	peer->stats.connect_failures++;
	strlcpy(peer->stats.last_error, reason, sizeof(peer->stats.last_error));
	log_failure(peer, reason);
	schedule(peer);
	if (has_other_place(peer))
		change_place(peer);
	if (proves && !peer->reported_refused)
	{
		peer->reported_refused = true;
		net->callbacks.peer_down(net->callbacks.context, peer->config.id, 1);
	}
}

/* Sets the time of the next round after peer->failures failed ones. */
static void
schedule(PgraftPeer *peer)
{
	PgraftNet  *net = peer->net;
	raft_time	cap = Max(net->options.reconnect_max_ms, 1);
	raft_time	pause = 0;

	if (peer->failures == 1)
		pause = FIRST_PAUSE_MS;
	else if (peer->failures > 1)
	{
		pause = (raft_time) SECOND_PAUSE_MS << Min(peer->failures - 2, 20);
		pause = Min(pause, cap);
		pause = pause / 2 + pgraft_net_random(net) % (pause / 2 + 1);
	}
	if (peer->failures < INT_MAX)
		peer->failures++;
	peer->dial_at = net->now + pause;
	pgraft_net_due(net, peer->dial_at);
}

/* The first failure and each change of the reason. */
static void
log_failure(PgraftPeer *peer, const char *reason)
{
	unsigned int port;
	const char *address = place(peer, &port);

	if (strcmp(peer->logged, reason) == 0)
		return;
	strlcpy(peer->logged, reason, sizeof(peer->logged));
	pgraft_net_log(peer->net, PGRAFT_NET_LOG,
				   "could not connect to member %u \"%s\" at %s port %u: %s",
				   peer->config.id, peer->config.name, address, port, reason);
}

static void
note_error(PgraftPeer *peer, PgraftEnd why, const char *reason)
{
	strlcpy(peer->stats.last_error, reason, sizeof(peer->stats.last_error));
	if (why == END_TLS || why == END_NAME || why == END_GREETING || why == END_PROTOCOL ||
		why == END_GARBAGE || why == END_UNEXPECTED_TLS)
		peer->stats.errors++;
}
