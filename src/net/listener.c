/*-------------------------------------------------------------------------
 *
 * listener.c
 *	  Listening sockets, and those who dial us until their greeting is over.
 *
 * Whoever connects is a stranger: before HELLO is accepted a connection costs
 * at most a few kilobytes and handshake_timeout_ms; there are at most
 * max_pending of them, and a new one takes the place of the oldest.  Without
 * TLS only loopback addresses may come; with TLS nothing but TLS is spoken.
 * After TLS has verified the chain, the certificate must be made out to the
 * name in HELLO, and for the id of a known member to that member's name.  Then
 * the host decides.
 *
 * Refusals are logged (throttled, see report.c) and counted, but for
 * connections that are closed without a single byte: port checks and our own
 * probes look like that.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/listener.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net_internal.h"

#define BACKLOG 64
#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3
#define TLS_FIRST_BYTE 0x16

static PgraftErrorCode open_one(PgraftNet *net, const char *host, PgraftError *error);
static PgraftErrorCode listen_on(PgraftNet *net, const PgraftAddress *address,
								 PgraftError *error);
static bool is_listening_on(PgraftNet *net, const PgraftAddress *address);
static void set_port(PgraftAddress *address, unsigned int port);
static void pause_accepting(PgraftNet *net, int error);
static void welcome(PgraftNet *net, int fd, const PgraftAddress *address);
static void evict_oldest(PgraftNet *net, bool pending);
static bool names_itself(PgraftConn *conn, const PgraftFrameHeader *header,
						 const PgraftHello *hello);
static PgraftHelloStatus judge(PgraftConn *conn, const PgraftFrameHeader *header,
							   const PgraftHello *hello, char *text, size_t text_size);
static void admit(PgraftConn *conn);

/* ----------------------------------------------------------------
 * Opening
 * ----------------------------------------------------------------
 */

PgraftErrorCode
pgraft_listener_open(PgraftNet *net, PgraftError *error)
{
	const char *list = net->options.listen_address[0] != '\0' ?
		net->options.listen_address : net->self.address;
	char		copy[RAFT_ADDRESS_SIZE];
	char	   *rest = NULL;
	char	   *host;

	strlcpy(copy, list, sizeof(copy));
	for (host = strtok_r(copy, ", \t", &rest); host != NULL; host = strtok_r(NULL, ", \t", &rest))
	{
		PgraftErrorCode code = open_one(net, host, error);

		if (code != PGRAFT_OK)
			return code;
	}
	if (net->n_listeners == 0)
		return pgraft_error(error, PGRAFT_ERR_CONFIG, "no address to listen on");
	return PGRAFT_OK;
}

static PgraftErrorCode
open_one(PgraftNet *net, const char *host, PgraftError *error)
{
	PgraftAddress addresses[MAX_ADDRESSES];
	bool		all = strcmp(host, "*") == 0;
	int			n_addresses;
	int			n_opened = 0;
	int			result;
	int			i;

	result = pgraft_resolve_now(all ? NULL : host, net->options.listen_port,
								all ? AI_PASSIVE : 0, addresses, MAX_ADDRESSES, &n_addresses);
	if (result != 0)
		return pgraft_error(error, PGRAFT_ERR_CONFIG, "could not resolve \"%s\": %s",
							host, gai_strerror(result));
	for (i = 0; i < n_addresses; i++)
	{
		PgraftErrorCode code;

		if (net->tls == NULL && !pgraft_is_loopback((struct sockaddr *) &addresses[i].addr))
		{
			pgraft_error(error, PGRAFT_ERR_CONFIG,
						 "cannot listen on \"%s\" without certificates", host);
			pgraft_error_detail(error, "Without TLS members connect over loopback addresses only.");
			pgraft_error_hint(error, "Set \"pgraft.ssl_cert_file\", \"pgraft.ssl_key_file\" and \"pgraft.ssl_ca_file\", or \"pgraft.listen_address\" to a loopback address.");
			return PGRAFT_ERR_CONFIG;
		}

		/* port 0: all addresses get the port that the first one got */
		if (net->n_listeners > 0)
			set_port(&addresses[i], pgraft_net_listen_port(net));
		if (is_listening_on(net, &addresses[i]))
		{
			n_opened++;
			continue;
		}
		code = listen_on(net, &addresses[i], error);
		if (code == PGRAFT_OK)
			n_opened++;

		/* a name or "*" may stand for a family that this machine lacks */
		else if (code != PGRAFT_ERR_NOT_FOUND || (i == n_addresses - 1 && n_opened == 0))
			return code == PGRAFT_ERR_NOT_FOUND ? PGRAFT_ERR_CONFIG : code;
	}
	return PGRAFT_OK;
}

/* PGRAFT_ERR_NOT_FOUND: this machine has no such address. */
static PgraftErrorCode
listen_on(PgraftNet *net, const PgraftAddress *address, PgraftError *error)
{
	const struct sockaddr *addr = (const struct sockaddr *) &address->addr;
	PgraftListener *listener = &net->listeners[net->n_listeners];
	struct epoll_event event;
	char		text[REMOTE_TEXT_SIZE];
	int			one = 1;
	int			fd;
	int			failure;

	pgraft_address_text(addr, address->length, text, sizeof(text));
	if (net->n_listeners == MAX_LISTENERS)
		return pgraft_error(error, PGRAFT_ERR_CONFIG,
							"cannot listen on more than %d addresses", MAX_LISTENERS);
	fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0)
	{
		memset(&event, 0, sizeof(event));
		event.events = EPOLLIN;
		event.data.ptr = listener;
		(void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (addr->sa_family == AF_INET6)
			(void) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
		if (bind(fd, addr, address->length) == 0 && listen(fd, BACKLOG) == 0 &&
			epoll_ctl(net->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		{
			listener->source = SOURCE_LISTENER;
			listener->fd = fd;
			net->n_listeners++;
			return PGRAFT_OK;
		}
	}
	failure = errno;
	if (fd >= 0)
		close(fd);
	pgraft_error(error, failure == EADDRINUSE ? PGRAFT_ERR_IN_USE : PGRAFT_ERR_CONFIG,
				 "could not listen on address \"%s\", port %u: %s",
				 text, net->options.listen_port, strerror(failure));
	if (failure == EADDRINUSE)
		pgraft_error_hint(error, "Is another server using this port?  If not, wait a few seconds and retry.");
	if (failure == EAFNOSUPPORT || failure == EADDRNOTAVAIL)
		return PGRAFT_ERR_NOT_FOUND;
	return failure == EADDRINUSE ? PGRAFT_ERR_IN_USE : PGRAFT_ERR_CONFIG;
}

static bool
is_listening_on(PgraftNet *net, const PgraftAddress *address)
{
	int			i;

	for (i = 0; i < net->n_listeners; i++)
	{
		struct sockaddr_storage own;
		socklen_t	size = sizeof(own);

		memset(&own, 0, sizeof(own));
		if (getsockname(net->listeners[i].fd, (struct sockaddr *) &own, &size) == 0 &&
			size == address->length && memcmp(&own, &address->addr, size) == 0)
			return true;
	}
	return false;
}

static void
set_port(PgraftAddress *address, unsigned int port)
{
	if (address->addr.ss_family == AF_INET6)
		((struct sockaddr_in6 *) &address->addr)->sin6_port = htons((uint16) port);
	else
		((struct sockaddr_in *) &address->addr)->sin_port = htons((uint16) port);
}

unsigned int
pgraft_net_listen_port(PgraftNet *net)
{
	struct sockaddr_storage own;
	socklen_t	size = sizeof(own);

	memset(&own, 0, sizeof(own));
	if (net->n_listeners == 0 ||
		getsockname(net->listeners[0].fd, (struct sockaddr *) &own, &size) != 0)
		return 0;
	if (own.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *) &own)->sin6_port);
	return ntohs(((struct sockaddr_in *) &own)->sin_port);
}

void
pgraft_listener_close(PgraftNet *net)
{
	int			i;

	for (i = 0; i < net->n_listeners; i++)
		close(net->listeners[i].fd);
	net->n_listeners = 0;
}

/* ----------------------------------------------------------------
 * Accepting
 * ----------------------------------------------------------------
 */

void
pgraft_listener_accept(PgraftNet *net, PgraftListener *listener)
{
	int			i;

	for (i = 0; i < ACCEPT_BUDGET && !net->accept_paused; i++)
	{
		PgraftAddress address;
		int			fd;

		memset(&address, 0, sizeof(address));
		address.length = sizeof(address.addr);
		fd = accept4(listener->fd, (struct sockaddr *) &address.addr, &address.length,
					 SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			welcome(net, fd, &address);
		else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_accepting(net, errno);
		else if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

/*
 * The connection stays in the backlog, so epoll would report it again and
 * again: look away for a moment.
 */
static void
pause_accepting(PgraftNet *net, int error)
{
	char		reason[REASON_SIZE];
	int			i;

	for (i = 0; i < net->n_listeners; i++)
		(void) epoll_ctl(net->epoll_fd, EPOLL_CTL_DEL, net->listeners[i].fd, NULL);
	net->accept_paused = true;
	net->accept_again_at = net->now + ACCEPT_PAUSE_MS;
	pgraft_net_due(net, net->accept_again_at);
	snprintf(reason, sizeof(reason), "could not accept a connection: %s", strerror(error));
	pgraft_report_problem(net, "", END_ACCEPT, reason);
}

void
pgraft_listener_run_deadlines(PgraftNet *net)
{
	int			i;

	if (!net->accept_paused)
		return;
	if (net->now < net->accept_again_at)
	{
		pgraft_net_due(net, net->accept_again_at);
		return;
	}
	net->accept_paused = false;
	for (i = 0; i < net->n_listeners; i++)
	{
		struct epoll_event event;

		memset(&event, 0, sizeof(event));
		event.events = EPOLLIN;
		event.data.ptr = &net->listeners[i];
		if (epoll_ctl(net->epoll_fd, EPOLL_CTL_ADD, net->listeners[i].fd, &event) != 0 &&
			errno != EEXIST)
			pause_accepting(net, errno);
	}
}

static void
welcome(PgraftNet *net, int fd, const PgraftAddress *address)
{
	const struct sockaddr *addr = (const struct sockaddr *) &address->addr;
	PgraftConn *conn;
	char		remote[REMOTE_TEXT_SIZE];

	net->accepted++;
	pgraft_address_text(addr, address->length, remote, sizeof(remote));
	if (net->tls == NULL && !pgraft_is_loopback(addr))
	{
		close(fd);
		net->rejected++;
		pgraft_report_refusal(net, remote, END_NOT_LOOPBACK,
							  "plaintext connections are accepted from loopback addresses only");
		return;
	}
	if (net->n_pending >= Max(net->options.max_pending, 1))
		evict_oldest(net, true);
	pgraft_set_socket_options(net, fd);
	conn = pgraft_conn_new(net, fd, CONN_ACCEPTED, NULL, EPOLLIN);
	if (conn == NULL)
	{
		net->rejected++;
		pgraft_report_refusal(net, remote, END_MEMORY, "out of memory");
		return;
	}
	strlcpy(conn->remote, remote, sizeof(conn->remote));
	conn->state = net->tls != NULL ? CONN_SNIFFING : CONN_GREETING;
	conn->pending = true;
	net->n_pending++;
	conn->deadline = net->now + net->options.handshake_timeout_ms;
	pgraft_net_due(net, conn->deadline);
}

/* Of the pending, or of the open accepted connections; those in front are newer. */
static void
evict_oldest(PgraftNet *net, bool pending)
{
	PgraftConn *oldest = NULL;
	PgraftConn *conn;

	for (conn = net->conns; conn != NULL; conn = conn->next)
		if (conn->kind == CONN_ACCEPTED && conn->state != CONN_DEAD && conn->pending == pending)
			oldest = conn;
	if (oldest != NULL)
		pgraft_conn_end(oldest, END_LIMIT, pending ?
						"too many connections that have not greeted" :
						"too many connections");
}

/*
 * The first byte of a connection to a TLS port, left in the socket for OpenSSL
 * when it may begin a handshake.
 */
void
pgraft_listener_sniff(PgraftConn *conn)
{
	unsigned char first;
	const unsigned char *data;
	size_t		n_read;
	ssize_t		n;

	if (pgraft_buffer_length(&conn->in) == 0)
	{
		n = recv(conn->fd, &first, 1, MSG_PEEK);
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
			return;
		if (n <= 0)
		{
			pgraft_conn_end(conn, END_CLOSED, "connection closed");
			return;
		}
		if (first == TLS_FIRST_BYTE)
		{
			if (pgraft_tls_start(conn, true))
				conn->state = CONN_HANDSHAKE;
			else
				pgraft_conn_end(conn, END_MEMORY, "out of memory");
			return;
		}
	}

	/* it will be refused; wait for enough to say why */
	if (pgraft_conn_fill(conn, &n_read) == IO_WAIT)
		return;
	data = conn->in.data + conn->in.start;
	if (n_read > 0 && pgraft_buffer_length(&conn->in) < PGRAFT_WIRE_MAGIC_BYTES)
		return;
	if (pgraft_buffer_length(&conn->in) >= PGRAFT_WIRE_MAGIC_BYTES && pgraft_wire_is_magic(data))
		pgraft_conn_end(conn, END_PLAINTEXT, "plaintext on a TLS port");
	else
		pgraft_conn_end(conn, END_NOT_TLS, "not a TLS handshake");
}

/* ----------------------------------------------------------------
 * Greeting
 * ----------------------------------------------------------------
 */

void
pgraft_listener_hello(PgraftConn *conn, const PgraftFrameHeader *header,
					  const unsigned char *payload)
{
	PgraftNet  *net = conn->net;
	PgraftHello hello;
	PgraftHelloStatus status;
	PgraftError error;
	char		text[REASON_SIZE] = "";

	memset(&error, 0, sizeof(error));
	if (pgraft_wire_decode_hello(payload, header->length, &hello, &error) != PGRAFT_OK)
	{
		pgraft_conn_end(conn, END_PROTOCOL, "%s", error.message);
		return;
	}
	if (header->from == 0 || header->from == net->self.node_id || hello.status != 0)
	{
		pgraft_conn_end(conn, END_PROTOCOL, "greeting from member %u, which cannot be",
						header->from);
		return;
	}
	if (conn->ssl != NULL && !names_itself(conn, header, &hello))
		return;

	status = judge(conn, header, &hello, text, sizeof(text));
	if (conn->state == CONN_DEAD)
		return;
	conn->id = header->from;
	conn->incarnation = header->from_incarnation;
	conn->cluster_uid = header->cluster_uid;
	conn->to = header->to;
	conn->to_incarnation = header->to_incarnation;
	conn->bulk = hello.bulk;
	if (!pgraft_conn_send_hello(conn, PGRAFT_FRAME_HELLO_REPLY, false, status))
		pgraft_conn_end(conn, END_MEMORY, "out of memory");
	else if (status != PGRAFT_HELLO_OK)
		pgraft_conn_end(conn, END_GREETING, "%s%s%s", pgraft_hello_status_text(status),
						text[0] != '\0' ? ": " : "", text);
	else
		admit(conn);
}

/*
 * TLS: the certificate is the sender's, and the sender who it says it is.
 *
 * The name that is expected comes from our configuration, which may be older
 * than the sender's: a member that was away while another one was renamed would
 * refuse the very leader who could tell it.  So a sender may call itself
 * otherwise when its certificate bears both names; that it is the member is
 * shown by the expected one alone.
 */
static bool
names_itself(PgraftConn *conn, const PgraftFrameHeader *header, const PgraftHello *hello)
{
	PgraftNet  *net = conn->net;
	char		expected[RAFT_NAME_SIZE] = "";
	char		found[128];

	if (!net->callbacks.expected_name(net->callbacks.context, header->from, expected))
		strlcpy(expected, hello->name, sizeof(expected));
	if (conn->state == CONN_DEAD)
		return false;
	if (!pgraft_tls_peer_is(conn, expected, found, sizeof(found)))
		pgraft_conn_end(conn, END_NAME,
						"certificate name \"%s\" does not match member name \"%s\"",
						found, expected);
	else if (strcmp(expected, hello->name) != 0 &&
			 !pgraft_tls_peer_is(conn, hello->name, found, sizeof(found)))
		pgraft_conn_end(conn, END_NAME, "member %u is \"%s\" but calls itself \"%s\"",
						header->from, expected, hello->name);
	else
		return true;
	return false;
}

static PgraftHelloStatus
judge(PgraftConn *conn, const PgraftFrameHeader *header, const PgraftHello *hello,
	  char *text, size_t text_size)
{
	PgraftNet  *net = conn->net;
	PgraftHelloStatus status;

	status = net->callbacks.hello(net->callbacks.context, header, hello, conn->remote,
								  text, text_size);
	if (status != PGRAFT_HELLO_OK)
		return status;

	/* the host may have taken over an identity; later frames are held against it */
	if (header->cluster_uid == 0 || header->cluster_uid != net->self.cluster_uid)
		return PGRAFT_HELLO_WRONG_CLUSTER;
	if (header->to != net->self.node_id || header->to_incarnation != net->self.incarnation)
		return PGRAFT_HELLO_WRONG_MEMBER;
	return PGRAFT_HELLO_OK;
}

static void
admit(PgraftConn *conn)
{
	PgraftNet  *net = conn->net;
	PgraftPeer *peer = pgraft_peer_find(net, conn->id);
	PgraftConn *other;
	int			n_open = 0;

	/* the peer knows best which of its connections it still uses */
	for (other = net->conns; other != NULL; other = other->next)
	{
		if (other == conn || other->kind != CONN_ACCEPTED || other->state != CONN_OPEN)
			continue;
		if (other->id == conn->id && other->bulk == conn->bulk)
			pgraft_conn_end(other, END_QUIET, "replaced");
		else
			n_open++;
	}
	if (n_open >= MAX_AUTHENTICATED)
		evict_oldest(net, false);
	pgraft_conn_open(conn);
	(void) pgraft_conn_write(conn);
	pgraft_net_log(net, PGRAFT_NET_DEBUG, "accepted %s connection of member %u from %s",
				   conn->bulk ? "a bulk" : "the", conn->id, conn->remote);
	if (peer != NULL && !conn->bulk)
		pgraft_peer_greeted(peer);
}

/* state: what the connection was in when it ended. */
void
pgraft_listener_conn_ended(PgraftConn *conn, PgraftConnState state, PgraftEnd why,
						   const char *reason)
{
	PgraftNet  *net = conn->net;
	PgraftPeer *peer;

	if (why == END_QUIET)
		return;
	if (state != CONN_OPEN)
	{
		/* nothing said, nothing wanted: a port check or a probe */
		if (why == END_CLOSED &&
			(state == CONN_SNIFFING || state == CONN_GREETING) &&
			conn->ssl == NULL && pgraft_buffer_length(&conn->in) == 0)
			return;
		net->rejected++;
		pgraft_report_refusal(net, conn->remote, why, reason);
		return;
	}

	peer = conn->bulk ? NULL : pgraft_peer_find(net, conn->id);
	if (why == END_PROTOCOL || why == END_GARBAGE || why == END_UNEXPECTED_TLS)
	{
		char		text[REASON_SIZE];
		char		key[REMOTE_TEXT_SIZE];

		snprintf(key, sizeof(key), "member %u", conn->id);
		snprintf(text, sizeof(text), "member %u at %s violated the protocol: %.150s",
				 conn->id, conn->remote, reason);
		net->rejected++;
		pgraft_report_problem(net, key, why, text);
		if (peer != NULL)
			peer->stats.errors++;
	}
	pgraft_net_log(net, PGRAFT_NET_DEBUG, "connection of member %u from %s ended: %s",
				   conn->id, conn->remote, reason);
	if (peer != NULL)
		pgraft_peer_inbound_broke(peer);
}

/* ----------------------------------------------------------------
 * Sockets
 * ----------------------------------------------------------------
 */

bool
pgraft_is_loopback(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) addr;

		return (ntohl(in->sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
	}
	if (addr->sa_family == AF_INET6)
	{
		const struct in6_addr *in6 = &((const struct sockaddr_in6 *) addr)->sin6_addr;

		return IN6_IS_ADDR_LOOPBACK(in6) ||
			(IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == IN_LOOPBACKNET);
	}
	return false;
}

/* Numeric and without the port. */
void
pgraft_address_text(const struct sockaddr *addr, socklen_t length, char *text, size_t size)
{
	if (getnameinfo(addr, length, text, (socklen_t) size, NULL, 0, NI_NUMERICHOST) != 0)
		strlcpy(text, "???", size);
}

/* None of them is worth giving up a connection for. */
void
pgraft_set_socket_options(PgraftNet *net, int fd)
{
	int			one = 1;
	int			idle = KEEPALIVE_IDLE_S;
	int			interval = KEEPALIVE_INTERVAL_S;
	int			count = KEEPALIVE_COUNT;

	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	if (net->options.tcp_user_timeout_ms > 0)
		(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &net->options.tcp_user_timeout_ms,
						  sizeof(net->options.tcp_user_timeout_ms));
}
