/*-------------------------------------------------------------------------
 *
 * net.h
 *	  The contract of the network layer (src/net): listener, peers, mutual TLS,
 *	  all non-blocking behind one epoll descriptor.
 *
 * One thread only: the worker's loop.  It waits on pgraft_net_fd() (readable =
 * something to do) with pgraft_net_next_deadline() as time limit, then calls
 * pgraft_net_poll(), which never blocks and reports through the callbacks.
 * Callbacks may call pgraft_net_send() and pgraft_net_set_peers(), nothing
 * else of this header.
 *
 * Connections are one-directional for data: each member dials every peer and
 * sends on the connection it dialed; what it receives comes on connections the
 * peers dialed.  HELLO_REPLY and PONG are the only frames that go back.  Raft
 * snapshot chunks use a second, "bulk" connection per peer, dialed on demand,
 * so that they never delay a heartbeat.
 *
 * Peers are untrusted until TLS (when configured) has verified their chain and
 * their certificate names the member, and HELLO names the same member, this
 * cluster and this member.  Without certificates the listener binds loopback
 * addresses only and accepts loopback peers only.
 *
 * malloc/free only; time is the caller's monotonic milliseconds.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_NET_H
#define PGRAFT_NET_H

#include "pgraft/error.h"
#include "pgraft/raft.h"
#include "pgraft/wire.h"

typedef struct PgraftNet PgraftNet;

typedef enum PgraftNetLogLevel
{
	PGRAFT_NET_DEBUG = 0,
	PGRAFT_NET_LOG,
	PGRAFT_NET_WARNING
} PgraftNetLogLevel;

/* The network's view of this member; changes when it is adopted. */
typedef struct PgraftNetSelf
{
	raft_id		node_id;
	raft_u64	incarnation;	/* 0 = blank */
	raft_u64	cluster_uid;	/* 0 = blank */
	raft_u64	member_uid;
	char		cluster_id[64];
	char		name[RAFT_NAME_SIZE];
	char		address[RAFT_ADDRESS_SIZE]; /* advertised */
	unsigned int port;			/* advertised */
} PgraftNetSelf;

typedef struct PgraftNetOptions
{
	PgraftNetSelf self;
	char		listen_address[RAFT_ADDRESS_SIZE];	/* host names/addresses,
													 * comma separated; "*" = all;
													 * "" = self.address */
	unsigned int listen_port;
	char		ssl_cert_file[1024];	/* all three, or none */
	char		ssl_key_file[1024];
	char		ssl_ca_file[1024];
	char		ssl_crl_file[1024]; /* "" = none */
	size_t		max_frame_bytes;	/* larger frames end the connection */
	size_t		max_queue_bytes;	/* per connection; beyond it sends are dropped
									 * (Raft repeats them) and counted */
	int			max_pending;	/* connections not yet past HELLO; 32 */
	raft_time	handshake_timeout_ms;	/* from accept/connect to HELLO done; 5000 */
	raft_time	reconnect_max_ms;	/* back-off cap, jittered; 1000 */
	raft_time	ping_interval_ms;	/* for RTT and dead peers; 1000 */
	unsigned int tcp_user_timeout_ms;	/* 0 = system default */
	raft_u64	seed;			/* jitter */
} PgraftNetOptions;

typedef struct PgraftNetCallbacks
{
	void	   *context;

	/*
	 * A HELLO with valid syntax and, under TLS, a certificate that names
	 * hello->name.  Decides what to answer.  When this member is blank and the
	 * sender invites it, the callback may adopt the cluster (make the storage,
	 * call pgraft_net_set_self()) and answer PGRAFT_HELLO_OK.  text: a reason
	 * for the log when refusing.
	 */
	PgraftHelloStatus (*hello) (void *context, const PgraftFrameHeader *header,
								const PgraftHello *hello, const char *remote,
								char *text, size_t text_size);

	/* The name that the member's certificate must bear, into name; 0 = no such member. */
	int			(*expected_name) (void *context, raft_id id, char *name);

	/* RAFT, REQUEST or REPLY frame from an authenticated peer.  payload is valid
	 * during the call.  Nonzero = protocol violation: the connection ends. */
	int			(*frame) (void *context, const PgraftFrameHeader *header,
						  const unsigned char *payload);

	/* The outgoing connection to a peer is usable (HELLO_REPLY OK came). */
	void		(*peer_up) (void *context, raft_id peer);

	/*
	 * The outgoing connection broke (refused = 0); peer_up follows when it is
	 * there again.  refused = 1: nobody listens at its address (ECONNREFUSED),
	 * whether found by the redial after a break, at once, by dialing for the
	 * first time, or by a probe after the peer's incoming connection broke: its
	 * process is gone.  Reported once until it is back.
	 */
	void		(*peer_down) (void *context, raft_id peer, int refused);

	/* HELLO_REPLY was not OK. */
	void		(*peer_refused) (void *context, raft_id peer, PgraftHelloStatus status);

	void		(*log) (void *context, PgraftNetLogLevel level, const char *message);
} PgraftNetCallbacks;

typedef struct PgraftNetPeer
{
	raft_id		id;
	raft_u64	incarnation;
	char		name[RAFT_NAME_SIZE];	/* what its certificate must name */
	char		address[RAFT_ADDRESS_SIZE];
	unsigned int port;

	/* dialed in turn with the other, as long as neither answers; "" = none */
	char		other_address[RAFT_ADDRESS_SIZE];
	unsigned int other_port;
	int			invite;			/* see PgraftHello */
} PgraftNetPeer;

/*
 * Opens the listener.  PGRAFT_ERR_IN_USE when the port is taken,
 * PGRAFT_ERR_CONFIG for a bad address, certificate, key or key permissions
 * (owner only, or root with at most 0640), for a non-loopback listen address
 * without certificates, and for a key that does not match.
 */
extern PgraftErrorCode pgraft_net_create(PgraftNet **net, const PgraftNetOptions *options,
										 const PgraftNetCallbacks *callbacks,
										 raft_time now, PgraftError *error);
extern void pgraft_net_destroy(PgraftNet *net);

/* The port of the listener, also when options.listen_port was 0 (any). */
extern unsigned int pgraft_net_listen_port(PgraftNet *net);

extern int	pgraft_net_fd(PgraftNet *net);
extern raft_time pgraft_net_next_deadline(PgraftNet *net);
extern void pgraft_net_poll(PgraftNet *net, raft_time now);

extern void pgraft_net_set_self(PgraftNet *net, const PgraftNetSelf *self);

/* Replaces the list of peers to dial; connections of unchanged ones stay. */
extern PgraftErrorCode pgraft_net_set_peers(PgraftNet *net, const PgraftNetPeer *peers,
											int n_peers, PgraftError *error);

/* New TLS material (SIGHUP): used for new handshakes; on error the old stays. */
extern PgraftErrorCode pgraft_net_reload_tls(PgraftNet *net, const PgraftNetOptions *options,
											 PgraftError *error);

/*
 * Queues one frame (payload is copied) and tries to write at once.  Returns 1
 * when queued, 0 when there is no usable connection or the queue is full: the
 * caller needs no other handling for Raft messages.
 */
extern int	pgraft_net_send_message(PgraftNet *net, const struct raft_message *message);
extern int	pgraft_net_send_frame(PgraftNet *net, raft_id peer, PgraftFrameType type,
								  const unsigned char *payload, size_t length);

/* Writes what send queued with cork; call at the end of each loop turn. */
extern void pgraft_net_flush(PgraftNet *net);

typedef struct PgraftNetPeerStats
{
	raft_id		id;
	int			connected;		/* boolean: outgoing usable */
	int			inbound;		/* boolean: peer's connection to us is up */
	unsigned long bytes_sent;
	unsigned long bytes_received;
	unsigned long messages_sent;
	unsigned long messages_received;
	unsigned long connects;		/* successful */
	unsigned long connect_failures;
	unsigned long errors;		/* protocol, TLS, authentication */
	unsigned long dropped;		/* queue full */
	unsigned long queued_bytes;
	long		rtt_us;			/* smoothed; -1 = not measured yet */
	char		tls_version[16];	/* "" = no TLS */
	char		tls_cipher[64];
	char		last_error[128];
} PgraftNetPeerStats;

extern int	pgraft_net_peer_stats(PgraftNet *net, PgraftNetPeerStats *stats, int max);

typedef struct PgraftNetStats
{
	unsigned long accepted;
	unsigned long rejected;		/* garbage, TLS, name, cluster, limits */
	unsigned long pending;		/* now */
} PgraftNetStats;
extern void pgraft_net_stats(PgraftNet *net, PgraftNetStats *stats);

#endif							/* PGRAFT_NET_H */
