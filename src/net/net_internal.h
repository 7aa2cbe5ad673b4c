/*-------------------------------------------------------------------------
 *
 * net_internal.h
 *	  What the files of src/net share and nobody else may see.
 *
 * Who does what:
 *		net.c		the public functions, the poll loop, deadlines
 *		conn.c		one connection: state machine, frames in and out
 *		frame.c		byte buffers, reading and writing sockets
 *		tls.c		OpenSSL: contexts, handshake, names of certificates
 *		peer.c		the members we dial: back-off, probes, bulk connections
 *		listener.c	accepting, greeting of those who dial us
 *		resolve.c	host names, in a thread
 *		report.c	log lines that a stranger can cause, throttled
 *		wire*.c		bytes of frames
 *
 * Everything belongs to the thread of the loop, but resolve.c's thread, which
 * sees only its own queue.
 *
 * Nothing is freed while pgraft_net_poll() runs: connections and peers that
 * ended stay in their lists (CONN_DEAD, removed) until its end, because epoll
 * events, callers further up and payload pointers may still refer to them.
 * Callbacks are called from pgraft_net_poll() only.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_NET_INTERNAL_H
#define PGRAFT_NET_INTERNAL_H

#include <netinet/in.h>
#include <sys/socket.h>

#include <openssl/ssl.h>

#include "pgraft/net.h"

#define NEVER (~(raft_time) 0)
#define REMOTE_TEXT_SIZE 64		/* numeric address without port */
#define REASON_SIZE 256
#define MAX_ADDRESSES 8			/* kept of one host name */
#define MAX_LISTENERS 16

/* Work done for one connection in one poll, so that none starves the others. */
#define READ_BUDGET_BYTES (256 * 1024)
#define FRAME_BUDGET 256
#define WRITE_BUDGET_BYTES (1024 * 1024)
#define ACCEPT_BUDGET 16

#define WRITE_EARLY_BYTES (64 * 1024)	/* send writes before flush beyond this */
#define KEEP_BUFFER_BYTES (256 * 1024)	/* larger empty buffers are given back */
#define INBOUND_QUEUE_BYTES (64 * 1024) /* replies to a peer that does not read */
#define MAX_AUTHENTICATED (4 * RAFT_MAX_MEMBERS)	/* accepted connections */

#define MIN_DEAD_MS 3000		/* no pong for so long at least: dead */
#define IDLE_INBOUND_MS 30000	/* nothing from a peer for so long: dead */
#define IDLE_BULK_MS 30000
#define BULK_RETRY_MS 100
#define REFUSED_RETRY_MS 1000	/* after a HELLO_REPLY that was not OK */
#define CLOSING_MS 1000			/* to deliver a refusal */
#define ACCEPT_PAUSE_MS 100		/* when descriptors ran out */

/* ----------------------------------------------------------------
 * Buffers (frame.c)
 * ----------------------------------------------------------------
 */
typedef struct PgraftBuffer
{
	unsigned char *data;
	size_t		capacity;
	size_t		start;			/* first byte not yet consumed */
	size_t		end;
} PgraftBuffer;

/* ----------------------------------------------------------------
 * Why a connection ended; also the class of a throttled log line
 * ----------------------------------------------------------------
 */
typedef enum PgraftEnd
{
	END_CLOSED = 0,				/* by the other side, or reset */
	END_REFUSED,				/* ECONNREFUSED */
	END_NETWORK,				/* other failures of the network */
	END_TIMEOUT,				/* handshake or greeting too slow */
	END_SILENT,					/* no pong */
	END_PLAINTEXT,				/* plaintext on a TLS port */
	END_NOT_TLS,				/* neither */
	END_UNEXPECTED_TLS,			/* TLS on a plaintext port */
	END_GARBAGE,				/* not a frame */
	END_TLS,					/* handshake failed, verification included */
	END_NAME,					/* certificate names somebody else */
	END_GREETING,				/* HELLO was refused */
	END_PROTOCOL,				/* violation after that */
	END_LIMIT,					/* too many connections */
	END_NOT_LOOPBACK,			/* remote without TLS */
	END_ACCEPT,					/* accept() failed */
	END_MEMORY,
	END_QUIET					/* our own decision, nothing to report */
} PgraftEnd;

/* Outcome of reading, writing, handshaking. */
typedef enum PgraftIo
{
	IO_DONE = 0,				/* progress, and more may be possible */
	IO_WAIT,					/* the socket would block */
	IO_CLOSED,					/* end of stream or reset */
	IO_FAILED					/* conn->reason says why */
} PgraftIo;

/* ----------------------------------------------------------------
 * Connections (conn.c)
 * ----------------------------------------------------------------
 */
typedef enum PgraftSource
{
	SOURCE_LISTENER,
	SOURCE_CONN,
	SOURCE_RESOLVER
} PgraftSource;

typedef enum PgraftConnKind
{
	CONN_MAIN,					/* dialed */
	CONN_BULK,					/* dialed */
	CONN_PROBE,					/* dialed, closed once it is established */
	CONN_ACCEPTED
} PgraftConnKind;

typedef enum PgraftConnState
{
	CONN_CONNECTING,			/* dialed: TCP */
	CONN_SNIFFING,				/* accepted, TLS wanted: waiting for a first byte */
	CONN_HANDSHAKE,				/* TLS */
	CONN_GREETING,				/* waiting for HELLO or HELLO_REPLY */
	CONN_OPEN,
	CONN_CLOSING,				/* a refusal is being written */
	CONN_DEAD					/* closed, freed at the end of the poll */
} PgraftConnState;

typedef struct PgraftAddress
{
	struct sockaddr_storage addr;
	socklen_t	length;
} PgraftAddress;

typedef struct PgraftPeer PgraftPeer;
typedef struct PgraftTls PgraftTls;
typedef struct PgraftResolver PgraftResolver;
typedef struct PgraftReport PgraftReport;

typedef struct PgraftConn
{
	PgraftSource source;		/* first field: epoll hands us its address */
	PgraftNet  *net;
	struct PgraftConn *next;
	PgraftConnKind kind;
	PgraftConnState state;
	int			fd;
	uint32		interest;		/* epoll events asked for */
	PgraftPeer *peer;			/* dialed: never NULL; accepted: NULL */
	PgraftAddress address;		/* dialed: which one */
	char		remote[REMOTE_TEXT_SIZE];
	char		reason[REASON_SIZE];	/* of IO_FAILED */

	/* identity the other side claimed in HELLO, or that we dialed */
	raft_id		id;
	raft_u64	incarnation;
	raft_u64	cluster_uid;	/* that it uses */
	raft_id		to;
	raft_u64	to_incarnation;
	bool		bulk;
	PgraftHelloStatus refusal;	/* dialed: the HELLO_REPLY that was not OK */

	SSL		   *ssl;
	bool		tls_established;
	bool		write_blocked;	/* wait for EPOLLOUT (or IN, see below) */
	bool		write_wants_read;	/* TLS: the blocked write waits for input */
	bool		read_wants_write;	/* TLS: the blocked read waits for output */
	bool		ready;			/* has work that epoll does not know of */
	bool		broken;			/* writing failed: ended in the next poll */
	bool		pending;		/* counted in net->n_pending */
	size_t		frame_bytes;	/* of the frame that is arriving; 0 = unknown */
	size_t		discarded;		/* CLOSING: bytes thrown away */

	PgraftBuffer in;
	PgraftBuffer out;
	PgraftBuffer held;			/* bulk: frames that wait for HELLO_REPLY */

	raft_time	deadline;		/* for the phase until CONN_OPEN; CLOSING */
	raft_time	opened_at;		/* accepted or dialed, then CONN_OPEN */
	raft_time	received_at;	/* last bytes */
	raft_time	used_at;		/* bulk: last frame queued */
	raft_time	ping_at;		/* next ping */
	raft_time	ping_sent_at;
	bool		ping_outstanding;	/* sent and not answered */
	raft_u64	ping_sent_us;
	raft_u64	ping_token;
} PgraftConn;

/* ----------------------------------------------------------------
 * Peers (peer.c)
 * ----------------------------------------------------------------
 */
struct PgraftPeer
{
	PgraftPeer *next;
	PgraftNet  *net;
	PgraftNetPeer config;
	bool		removed;		/* freed at the end of the poll */
	bool		keep;			/* scratch of pgraft_net_set_peers() */
	bool		down_pending;	/* peer_down is to be called in the next poll */

	PgraftConn *main;
	PgraftConn *bulk;
	PgraftConn *probe;

	/* where to dial: one of the two places of config, and its addresses */
	bool		at_other;
	bool		stood;			/* it was connected there since that is its place */
	PgraftAddress addresses[MAX_ADDRESSES];
	int			n_addresses;
	int			first_address;	/* the one that worked last */
	bool		is_name;		/* the place has to be resolved */
	raft_u64	ticket;			/* question to the resolver; 0 = none */

	/* one round = each address once */
	int			tried;
	int			n_refused;
	int			n_failed;

	int			failures;		/* rounds since the last success */
	int			quick_breaks;	/* connections in a row that did not last */
	raft_time	dial_at;		/* NEVER = a round runs, or it is connected */
	raft_time	bulk_at;		/* no bulk dialing before */
	bool		wait_resolver;	/* the round begins when the name is known */
	bool		reported_refused;	/* peer_down(refused) was called */
	char		logged[REASON_SIZE];	/* last failure that was logged */

	PgraftNetPeerStats stats;
};

/* ----------------------------------------------------------------
 * The whole
 * ----------------------------------------------------------------
 */
typedef struct PgraftListener
{
	PgraftSource source;
	int			fd;
} PgraftListener;

struct PgraftNet
{
	PgraftNetOptions options;
	PgraftNetSelf self;
	PgraftNetCallbacks callbacks;
	int			epoll_fd;
	raft_time	now;			/* of the last poll */
	raft_time	next_deadline;	/* nothing is due before; may be too early */
	bool		any_ready;		/* a connection has ready or broken set */
	raft_u64	random;

	PgraftListener listeners[MAX_LISTENERS];
	int			n_listeners;
	raft_time	accept_again_at;	/* NEVER = listening */
	bool		accept_paused;

	PgraftTls  *tls;			/* NULL = plaintext */
	PgraftConn *conns;
	PgraftPeer *peers;
	PgraftSource resolver_source;
	PgraftResolver *resolver;	/* made when the first name comes */
	PgraftReport *report;

	int			n_pending;		/* accepted and not yet open */
	unsigned long accepted;
	unsigned long rejected;
};

/* frame.c */
extern bool pgraft_buffer_reserve(PgraftBuffer *buffer, size_t space);
extern bool pgraft_buffer_append(PgraftBuffer *to, PgraftBuffer *from);
extern void pgraft_buffer_consume(PgraftBuffer *buffer, size_t length);
extern void pgraft_buffer_free(PgraftBuffer *buffer);
extern size_t pgraft_buffer_length(const PgraftBuffer *buffer);
extern PgraftIo pgraft_conn_fill(PgraftConn *conn, size_t *n_read);
extern PgraftIo pgraft_conn_drain(PgraftConn *conn);

typedef enum PgraftFrameState
{
	FRAME_COMPLETE,
	FRAME_PARTIAL,
	FRAME_BROKEN
} PgraftFrameState;
extern PgraftFrameState pgraft_conn_next_frame(PgraftConn *conn, size_t max_length,
											   PgraftFrameHeader *header,
											   const unsigned char **payload,
											   PgraftEnd *why);
extern unsigned char *pgraft_frame_begin(PgraftBuffer *buffer, size_t length);
extern void pgraft_frame_finish(PgraftConn *conn, PgraftBuffer *buffer,
								const PgraftFrameHeader *header);

/* conn.c */
extern PgraftConn *pgraft_conn_new(PgraftNet *net, int fd, PgraftConnKind kind, PgraftPeer *peer,
								   uint32 interest);
extern void pgraft_conn_close(PgraftConn *conn);
extern void pgraft_conn_reap(PgraftNet *net);
extern void pgraft_conn_end(PgraftConn *conn, PgraftEnd why, const char *format,...)
			__attribute__((format(printf, 3, 4)));
extern void pgraft_conn_handle(PgraftConn *conn, uint32 events);
extern bool pgraft_conn_write(PgraftConn *conn);
extern bool pgraft_conn_send(PgraftConn *conn, PgraftFrameType type,
							 const unsigned char *payload, size_t length);
extern bool pgraft_conn_send_hello(PgraftConn *conn, PgraftFrameType type, bool invite,
								   PgraftHelloStatus status);
extern void pgraft_conn_fill_header(const PgraftConn *conn, PgraftFrameType type, size_t length,
									PgraftFrameHeader *header);
extern void pgraft_conn_open(PgraftConn *conn);
extern void pgraft_conn_send_ping(PgraftConn *conn);
extern void pgraft_conn_run_deadlines(PgraftConn *conn);
extern void pgraft_conn_mark_ready(PgraftConn *conn);

/* tls.c */
extern PgraftErrorCode pgraft_tls_load(PgraftTls **tls, const PgraftNetOptions *options,
									   char *warning, size_t warning_size, PgraftError *error);
extern void pgraft_tls_free(PgraftTls *tls);
extern bool pgraft_tls_start(PgraftConn *conn, bool is_server);
extern PgraftIo pgraft_tls_handshake(PgraftConn *conn);
extern PgraftIo pgraft_tls_read(PgraftConn *conn, unsigned char *data, size_t size, size_t *n_read);
extern PgraftIo pgraft_tls_write(PgraftConn *conn, const unsigned char *data, size_t length,
								 size_t *n_written);
extern bool pgraft_tls_peer_is(PgraftConn *conn, const char *name, char *found, size_t found_size);

/* peer.c */
extern PgraftPeer *pgraft_peer_find(PgraftNet *net, raft_id id);
extern PgraftPeer *pgraft_peer_add(PgraftNet *net, const PgraftNetPeer *config);
extern void pgraft_peer_update(PgraftPeer *peer, const PgraftNetPeer *config);
extern void pgraft_peer_drop(PgraftPeer *peer);
extern void pgraft_peer_remove(PgraftPeer *peer);
extern void pgraft_peer_reap(PgraftNet *net);
extern void pgraft_peer_redial(PgraftPeer *peer);
extern void pgraft_peer_run_deadlines(PgraftPeer *peer);
extern void pgraft_peer_conn_ended(PgraftPeer *peer, PgraftConn *conn, PgraftConnState state,
								   PgraftEnd why, const char *reason);
extern void pgraft_peer_secured(PgraftConn *conn);
extern void pgraft_peer_hello_reply(PgraftConn *conn, const PgraftFrameHeader *header,
									const unsigned char *payload);
extern void pgraft_peer_greeted(PgraftPeer *peer);
extern void pgraft_peer_inbound_broke(PgraftPeer *peer);
extern void pgraft_peer_resolved(PgraftNet *net);
extern PgraftConn *pgraft_peer_bulk(PgraftPeer *peer);
extern const char *pgraft_hello_status_text(PgraftHelloStatus status);

/* listener.c */
extern PgraftErrorCode pgraft_listener_open(PgraftNet *net, PgraftError *error);
extern void pgraft_listener_close(PgraftNet *net);
extern void pgraft_listener_accept(PgraftNet *net, PgraftListener *listener);
extern void pgraft_listener_run_deadlines(PgraftNet *net);
extern void pgraft_listener_sniff(PgraftConn *conn);
extern void pgraft_listener_hello(PgraftConn *conn, const PgraftFrameHeader *header,
								  const unsigned char *payload);
extern void pgraft_listener_conn_ended(PgraftConn *conn, PgraftConnState state, PgraftEnd why,
									   const char *reason);
extern bool pgraft_is_loopback(const struct sockaddr *addr);
extern void pgraft_address_text(const struct sockaddr *addr, socklen_t length,
								char *text, size_t size);
extern void pgraft_set_socket_options(PgraftNet *net, int fd);

/* net.c */
extern void pgraft_net_due(PgraftNet *net, raft_time when);
extern raft_u64 pgraft_net_random(PgraftNet *net);
extern raft_u64 pgraft_net_clock_us(void);

/* resolve.c */
typedef struct PgraftResolution
{
	raft_u64	ticket;
	int			error;			/* EAI_* */
	int			n_addresses;
	PgraftAddress addresses[MAX_ADDRESSES];
} PgraftResolution;

extern PgraftResolver *pgraft_resolver_create(void);
extern int	pgraft_resolver_fd(PgraftResolver *resolver);
extern raft_u64 pgraft_resolver_ask(PgraftResolver *resolver, const char *host, unsigned int port);
extern bool pgraft_resolver_take(PgraftResolver *resolver, PgraftResolution *resolution);
extern void pgraft_resolver_destroy(PgraftResolver *resolver);
extern int	pgraft_resolve_now(const char *host, unsigned int port, int flags,
							   PgraftAddress *addresses, int max, int *n_addresses);

/* report.c */
extern PgraftReport *pgraft_report_create(void);
extern void pgraft_report_destroy(PgraftReport *report);
extern void pgraft_report_refusal(PgraftNet *net, const char *remote, PgraftEnd why,
								  const char *reason);
extern void pgraft_report_problem(PgraftNet *net, const char *key, PgraftEnd why,
								  const char *sentence);
extern void pgraft_net_log(PgraftNet *net, PgraftNetLogLevel level, const char *format,...)
			__attribute__((format(printf, 3, 4)));

#endif							/* PGRAFT_NET_INTERNAL_H */
