/*-------------------------------------------------------------------------
 *
 * test_net.c
 *	  The network layer without TLS: members over loopback, their deaths and
 *	  returns, queues, time.  test_net_hostile.c has strangers and limits,
 *	  test_net_tls.c has TLS.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "test_net_fixture.h"

static const raft_id nobody[] = {0};
static const raft_id only_two[] = {2, 0};

/* ----------------------------------------------------------------
 * Traffic
 * ----------------------------------------------------------------
 */
static void
test_traffic(void)
{
	static const unsigned char text[] = "forwarded";
	struct raft_message message;
	struct raft_entry entries[2];
	PgraftNetPeerStats stats;
	int			i;

	start_cluster(3);
	ok(UNTIL(is_connected(1, 2) && is_connected(2, 1) && is_connected(1, 3) &&
			 is_connected(3, 1) && is_connected(2, 3) && is_connected(3, 2)),
	   "three members connect to each other");
	is_u64(members[1].n_up[2] + members[1].n_up[3], 2, "each peer is reported up once");
	ok(strcmp(members[2].hello.cluster_id, "main") == 0 && members[2].hello.port != 0,
	   "the greeting brings the sender's cluster and address");

	heartbeat(1, 2, 99, &message);
	ok(pgraft_net_send_message(members[1].net, &message) == 1, "a heartbeat is sent");
	ok(UNTIL(members[2].n_frames == 1), "... and arrives");
	ok(members[2].message.type == RAFT_MSG_HEARTBEAT && members[2].message.context == 99 &&
	   members[2].message.from == 1 && members[2].message.from_incarnation == 101,
	   "... as it was");

	memset(entries, 0, sizeof(entries));
	for (i = 0; i < 2; i++)
	{
		entries[i].index = (raft_index) i + 1;
		entries[i].term = 1;
		entries[i].length = sizeof(text);
		entries[i].data = text;
	}
	memset(&message, 0, sizeof(message));
	message.type = RAFT_MSG_APPEND;
	message.from = 2;
	message.to = 3;
	message.from_incarnation = 102;
	message.to_incarnation = 103;
	message.term = 1;
	message.n_entries = 2;
	message.entries = entries;
	ok(pgraft_net_send_message(members[2].net, &message) == 1 &&
	   UNTIL(members[3].n_frames == 1) && members[3].message.n_entries == 2 &&
	   memcmp(members[3].message.entries[1].data, text, sizeof(text)) == 0,
	   "entries arrive");
	ok(pgraft_net_send_frame(members[3].net, 1, PGRAFT_FRAME_REQUEST, text, sizeof(text)) == 1 &&
	   UNTIL(members[1].n_frames == 1) &&
	   members[1].frame_header.type == PGRAFT_FRAME_REQUEST &&
	   members[1].frame_header.from == 3 && members[1].frame_header.length == sizeof(text) &&
	   memcmp(members[1].frame_payload, text, sizeof(text)) == 0,
	   "a request arrives");

	heartbeat(1, 2, 1, &message);
	message.to_incarnation++;
	ok(pgraft_net_send_message(members[1].net, &message) == 0,
	   "a message for another membership is not sent");
	message.to = 9;
	ok(pgraft_net_send_message(members[1].net, &message) == 0, "nor one for a stranger");

	ok(UNTIL(stats_of(1, 2).rtt_us >= 0), "the round trip is measured");
	stats = stats_of(1, 2);
	ok(stats.connected && stats.inbound && stats.connects == 1 && stats.bytes_sent > 0 &&
	   stats.messages_sent == 1 && stats.dropped == 1 && stats.errors == 0 &&
	   stats.tls_version[0] == '\0' && stats.last_error[0] == '\0', "statistics add up");
	is_u64(stats_of(2, 1).messages_received, 1, "... on the other side, too");
	is_u64(net_stats(1).rejected + net_stats(2).rejected + net_stats(3).rejected, 0,
		   "nobody was rejected");
	ok(net_stats(1).accepted >= 2 && net_stats(1).pending == 0, "accepted connections are counted");
	stop_all();
}

/* ----------------------------------------------------------------
 * Death and return
 * ----------------------------------------------------------------
 */
static void
test_death(void)
{
	struct raft_message message;
	raft_u64	began;
	raft_u64	took;

	start_cluster(2);
	ok(UNTIL(is_connected(1, 2) && is_connected(2, 1)), "two members connect");
	began = pgraft_net_clock_us();
	member_stop(2);
	ok(UNTIL(members[1].n_refused[2] == 1), "the end of a process is noticed");
	took = pgraft_net_clock_us() - began;
	printf("# noticed after %lu us\n", took);
	ok(took < 300000, "... at once");
	is_u64(members[1].n_down[2], 1, "the lost connection is reported, too");
	heartbeat(1, 2, 1, &message);
	ok(pgraft_net_send_message(members[1].net, &message) == 0, "nothing is queued for it");
	advance(20000);
	is_u64(members[1].n_refused[2], 1, "its absence is reported once");
	is_u64(logged(&members[1], "could not connect to member 2"), 1, "... and logged once");
	ok(stats_of(1, 2).connect_failures >= 15 && stats_of(1, 2).connect_failures < 60,
	   "dialing is repeated, but not more than needed");
	ok(strcmp(stats_of(1, 2).last_error, "Connection refused") == 0, "the reason is shown");

	/* member 1 waits for up to a second now; the greeting makes it dial at once */
	(void) member_start(2, NULL);
	dial_peers(2, (const raft_id[]) {1, 0});
	began = pgraft_net_clock_us();
	ok(UNTIL(is_connected(2, 1) && is_connected(1, 2)), "it comes back");
	took = pgraft_net_clock_us() - began;
	printf("# connected after %lu us\n", took);
	ok(took < 400000, "... and is dialed as soon as it greets");
	is_u64(members[1].n_up[2], 2, "the return is reported");
	member_stop(2);
	ok(UNTIL(members[1].n_refused[2] == 2), "a second death is noticed");

	/* without a greeting it is found within the cap of the back-off */
	advance(5000);
	(void) member_start(2, NULL);
	advance(1100);
	ok(UNTIL(is_connected(1, 2)), "a silent return is found by dialing");
	stop_all();
}

/*
 * A peer that only listens, so that its parts can be closed one by one.
 */
static void
test_probe(void)
{
	struct sockaddr_in address;
	socklen_t	size = sizeof(address);
	int			listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int			dialed;
	int			inbound;
	unsigned char frame[2048];
	unsigned char payload[PGRAFT_HELLO_MAX_BYTES];
	PgraftFrameHeader header;
	PgraftHello hello;

	start_cluster(1);
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	(void) bind(listener, (struct sockaddr *) &address, sizeof(address));
	(void) listen(listener, 5);
	(void) getsockname(listener, (struct sockaddr *) &address, &size);
	member_defaults(2);
	members[2].options.listen_port = ntohs(address.sin_port);
	dial_peers(1, only_two);
	ok(UNTIL(raw_readable(listener)), "the member dials");
	dialed = accept(listener, NULL, NULL);
	(void) fcntl(dialed, F_SETFL, O_NONBLOCK);
	ok(UNTIL(recv(dialed, frame, sizeof(frame), MSG_PEEK) > PGRAFT_FRAME_HEADER_BYTES),
	   "... and greets");
	memset(&hello, 0, sizeof(hello));
	header = raw_header(2, 1, PGRAFT_FRAME_HELLO_REPLY,
						pgraft_wire_encode_hello(payload, &hello));
	ok(raw_send(dialed, frame, raw_frame(frame, &header, payload)) &&
	   UNTIL(members[1].n_up[2] == 1), "the answer makes it usable");

	inbound = raw_connect(members[1].options.listen_port);
	ok(raw_send(inbound, frame, raw_hello(frame, 2, 1, false)) &&
	   UNTIL(stats_of(1, 2).inbound), "the peer greets, too");

	/* while it listens the break of its connection means nothing */
	close(inbound);
	ok(UNTIL(raw_readable(listener)), "a broken inbound connection is probed");
	close(accept(listener, NULL, NULL));
	ok(UNTIL(!stats_of(1, 2).inbound) && is_connected(1, 2) && members[1].n_down[2] == 0,
	   "the process lives: nothing is reported");

	inbound = raw_connect(members[1].options.listen_port);
	ok(raw_send(inbound, frame, raw_hello(frame, 2, 1, false)) &&
	   UNTIL(stats_of(1, 2).inbound), "the peer greets again");
	close(listener);
	close(inbound);
	ok(UNTIL(members[1].n_refused[2] == 1), "a refused probe is the end of the process");
	ok(!is_connected(1, 2), "... whatever the connection looks like");
	close(dialed);
	stop_all();
}

static void
test_silence(void)
{
	start_cluster(2);
	ok(UNTIL(is_connected(1, 2) && is_connected(2, 1)), "two members connect");
	advance(20000);
	ok(is_connected(1, 2) && is_connected(2, 1), "pings keep idle connections");
	is_u64(members[1].n_down[2], 0, "... without a break");

	/* both processes were stopped; nobody was silent for that */
	skew += 60000;
	turn(1);
	advance(500);
	ok(is_connected(1, 2) && members[1].n_down[2] == 0 && members[2].n_down[1] == 0,
	   "a pause of this process is forgiven");

	members[2].frozen = true;
	advance(2500);
	ok(is_connected(1, 2), "a peer may be silent for a moment");
	advance(2500);
	is_u64(members[1].n_down[2], 1, "a silent peer is given up");
	is_u64(members[1].n_refused[2], 0, "... but not taken for gone");
	ok(strstr(stats_of(1, 2).last_error, "does not answer") != NULL ||
	   logged(&members[1], "does not answer") == 1, "the reason is told");
	members[2].frozen = false;
	ok(UNTIL(is_connected(1, 2)), "it is connected when it runs again");
	stop_all();
}

/* ----------------------------------------------------------------
 * Queues
 * ----------------------------------------------------------------
 */
static void
test_queue(void)
{
	static unsigned char payload[64 * 1024];
	int			n_sent = 0;

	start_cluster(2);
	ok(UNTIL(is_connected(1, 2)), "connected");
	members[2].frozen = true;
	while (n_sent < 1000 &&
		   pgraft_net_send_frame(members[1].net, 2, PGRAFT_FRAME_REQUEST,
								 payload, sizeof(payload)))
	{
		n_sent++;
		turn(0);
	}
	ok(n_sent > 0 && n_sent < 1000, "a peer that does not read fills the queue");
	ok(stats_of(1, 2).queued_bytes <= members[1].options.max_queue_bytes &&
	   stats_of(1, 2).queued_bytes > members[1].options.max_queue_bytes / 2,
	   "... to its bound");
	is_u64(stats_of(1, 2).dropped, 1, "what does not fit is counted");
	members[2].frozen = false;
	ok(UNTIL(members[2].n_frames == n_sent), "all that was queued arrives");
	is_u64(stats_of(1, 2).queued_bytes, 0, "the queue runs empty");
	ok(pgraft_net_send_frame(members[1].net, 2, PGRAFT_FRAME_REQUEST, payload,
							 members[1].options.max_frame_bytes + 1) == 0,
	   "a frame beyond the limit is not sent");
	stop_all();
}

static void
snapshot_chunk(struct raft_snapshot_meta *meta, const unsigned char *data, size_t length,
			   raft_u64 offset, struct raft_message *message)
{
	memset(meta, 0, sizeof(*meta));
	meta->index = 10;
	meta->term = 2;
	meta->config.index = 1;
	meta->config.n_members = 1;
	meta->config.members[0].id = 1;
	meta->config.members[0].incarnation = 1;
	meta->config.members[0].role = RAFT_VOTER;
	meta->config.members[0].target_role = RAFT_VOTER;
	heartbeat(1, 2, 0, message);
	message->type = RAFT_MSG_SNAPSHOT;
	message->snapshot = meta;
	message->offset = offset;
	message->total = 1000000;
	message->chunk = data;
	message->chunk_length = length;
}

static void
test_bulk(void)
{
	static unsigned char data[256 * 1024];
	struct raft_snapshot_meta meta;
	struct raft_message message;
	PgraftPeer *peer;
	int			n_chunks = 0;

	start_cluster(2);
	snapshot_chunk(&meta, data, sizeof(data), 0, &message);
	ok(pgraft_net_send_message(members[1].net, &message) == 0,
	   "no chunk goes out before the main connection is up");
	ok(UNTIL(is_connected(1, 2)), "connected");
	ok(pgraft_net_send_message(members[1].net, &message) == 1,
	   "the first chunk is taken at once");
	ok(UNTIL(members[2].n_frames == 1) && members[2].message.type == RAFT_MSG_SNAPSHOT &&
	   members[2].message.chunk_length == sizeof(data) && members[2].message.total == 1000000 &&
	   members[2].message.snapshot->config.members[0].id == 1, "... and arrives");
	peer = pgraft_peer_find(members[1].net, 2);
	ok(peer->bulk != NULL && peer->bulk->state == CONN_OPEN && members[2].hello.bulk,
	   "... on a connection of its own");

	/* a heartbeat overtakes chunks that are stuck */
	members[2].frozen = true;
	while (n_chunks < 1000)
	{
		if (pgraft_net_send_message(members[1].net, &message) == 0)
			break;
		n_chunks++;
		turn(0);
	}
	ok(n_chunks < 1000 && stats_of(1, 2).dropped == 1, "the bulk queue is bounded");
	heartbeat(1, 2, 1234, &message);
	ok(pgraft_net_send_message(members[1].net, &message) == 1, "a heartbeat is still sent");
	turn(0);
	members[2].frozen = false;
	ok(UNTIL(members[2].message.context == 1234), "... and arrives");
	ok(members[2].n_frames < n_chunks + 2, "... before the last of the chunks");
	ok(UNTIL(members[2].n_frames == n_chunks + 2), "the chunks follow");

	/* the way here takes time, too, which on a slow machine may be seconds */
	advance(15000);
	ok(peer->bulk != NULL, "the bulk connection waits for more");
	advance(16000);
	ok(peer->bulk == NULL && is_connected(1, 2), "... but not for ever");
	is_u64(members[1].n_down[2], 0, "its end is no event");
	snapshot_chunk(&meta, data, 10, 0, &message);
	ok(pgraft_net_send_message(members[1].net, &message) == 1 &&
	   UNTIL(members[2].message.type == RAFT_MSG_SNAPSHOT), "it is dialed again when needed");
	stop_all();
}

/* ----------------------------------------------------------------
 * Changes of the list of peers and of the identity
 * ----------------------------------------------------------------
 */
static void
test_peers(void)
{
	PgraftNetPeer peer;
	PgraftConn *before;

	start_cluster(2);
	ok(UNTIL(is_connected(1, 2) && is_connected(2, 1)), "connected");
	before = pgraft_peer_find(members[1].net, 2)->main;
	dial_peers(1, only_two);
	advance(100);
	ok(pgraft_peer_find(members[1].net, 2)->main == before, "an unchanged peer stays connected");

	describe_peer(2, &peer);
	peer.invite = 1;
	(void) pgraft_net_set_peers(members[1].net, &peer, 1, NULL);
	turn(0);
	ok(pgraft_peer_find(members[1].net, 2)->main == before, "an invitation changes nothing then");

	/* a new membership of the same id */
	peer.incarnation = 777;
	(void) pgraft_net_set_peers(members[1].net, &peer, 1, NULL);
	ok(!is_connected(1, 2), "another incarnation is another peer");
	ok(UNTIL(members[1].n_hello_refused[2] == 1), "... which the old process is not");
	is_u64(members[1].n_down[2], 1, "the end of the old connection is reported");
	ok(members[1].hello_refused_status == PGRAFT_HELLO_WRONG_MEMBER, "the status is told");
	is_u64(logged(&members[2], "wrong member"), 1, "the refusal is logged on the other side");
	members[2].options.self.incarnation = 777;
	pgraft_net_set_self(members[2].net, &members[2].options.self);
	ok(UNTIL(is_connected(1, 2)), "it is dialed again before long");

	(void) pgraft_net_set_peers(members[1].net, NULL, 0, NULL);
	turn(0);
	ok(pgraft_peer_find(members[1].net, 2) == NULL && !stats_of(1, 2).connected,
	   "a peer that is not in the list is gone");
	stop_all();
}

static unsigned int
unused_port(void)
{
	struct sockaddr_in address;
	socklen_t	size = sizeof(address);
	int			fd = socket(AF_INET, SOCK_STREAM, 0);

	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ok(fd >= 0 && bind(fd, (struct sockaddr *) &address, size) == 0 &&
	   getsockname(fd, (struct sockaddr *) &address, &size) == 0, "a port where nobody listens");
	close(fd);
	return ntohs(address.sin_port);
}

/*
 * A member whose configuration is old knows another place of a peer than the peer
 * itself tells.
 */
static void
test_two_places(void)
{
	PgraftNetPeer peer;
	PgraftConn *before;
	unsigned int real_port;

	start_cluster(3);
	ok(UNTIL(is_connected(1, 2) && is_connected(2, 1)), "connected");
	describe_peer(2, &peer);
	real_port = peer.port;
	strlcpy(peer.other_address, peer.address, sizeof(peer.other_address));
	peer.other_port = real_port;
	peer.port = unused_port();
	before = pgraft_peer_find(members[1].net, 2)->main;
	(void) pgraft_net_set_peers(members[1].net, &peer, 1, NULL);
	turn(0);
	ok(pgraft_peer_find(members[1].net, 2)->main == before, "what stands at the other place stays");

	(void) pgraft_net_set_peers(members[1].net, NULL, 0, NULL);
	turn(0);
	(void) pgraft_net_set_peers(members[1].net, &peer, 1, NULL);
	ok(UNTIL(is_connected(1, 2)), "where nobody listens the other place is dialed");
	is_u64(members[1].n_refused[2], 0, "... and that is no proof of death");

	/* another member has taken the port */
	(void) pgraft_net_set_peers(members[1].net, NULL, 0, NULL);
	turn(0);
	peer.port = members[3].options.listen_port;
	(void) pgraft_net_set_peers(members[1].net, &peer, 1, NULL);
	ok(UNTIL(is_connected(1, 2)), "where somebody else is, too");
	is_u64(members[1].n_hello_refused[2], 0, "... whose word is not taken for the member's");

	before = pgraft_peer_find(members[1].net, 2)->main;
	describe_peer(2, &peer);
	(void) pgraft_net_set_peers(members[1].net, &peer, 1, NULL);
	turn(0);
	ok(pgraft_peer_find(members[1].net, 2)->main == before,
	   "a configuration that catches up breaks nothing");

	strlcpy(peer.other_address, peer.address, sizeof(peer.other_address));
	peer.other_port = unused_port();
	(void) pgraft_net_set_peers(members[1].net, &peer, 1, NULL);
	member_stop(2);
	ok(UNTIL(members[1].n_refused[2] == 1), "refusal where it was is proof of death");
	ok(member_start(2, NULL) == PGRAFT_OK, "it starts again");
	ok(UNTIL(is_connected(1, 2)), "... and is found, whichever place is tried first");
	stop_all();
}

static void
test_refused_greeting(void)
{
	raft_u64	began;

	start_cluster(2);
	members[2].hello_answer = PGRAFT_HELLO_UNKNOWN_MEMBER;
	members[2].hello_text = "because of the test";
	dial_peers(2, nobody);
	ok(UNTIL(members[1].n_hello_refused[2] == 1), "a refused greeting is reported");
	ok(members[1].hello_refused_status == PGRAFT_HELLO_UNKNOWN_MEMBER, "... with its status");
	is_u64(logged(&members[2], "because of the test"), 1, "... and logged with its reason");
	advance(5000);
	ok(members[1].n_hello_refused[2] >= 5 && members[1].n_hello_refused[2] <= 12,
	   "it is tried about once a second");
	is_u64(logged(&members[2], "because of the test"), 1, "... without more lines in the log");
	ok(members[1].n_up[2] == 0 && net_stats(2).rejected >= 5, "never up, always rejected");

	members[2].hello_answer = PGRAFT_HELLO_OK;
	turn(0);
	began = pgraft_net_clock_us();
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(is_connected(1, 2)), "it is accepted");
	ok(pgraft_net_clock_us() - began < 300000, "... as soon as the other side greets");
	stop_all();
}

static void
test_blank(void)
{
	struct raft_message message;
	PgraftNetPeer peer;

	member_defaults(1);
	member_defaults(2);
	members[2].options.self.cluster_uid = 0;
	members[2].options.self.incarnation = 0;
	members[2].hello_answer = PGRAFT_HELLO_BLANK;
	(void) member_start(1, NULL);
	(void) member_start(2, NULL);
	dial_peers(1, only_two);
	ok(UNTIL(members[1].n_hello_refused[2] == 1) &&
	   members[1].hello_refused_status == PGRAFT_HELLO_BLANK && !members[2].hello.invite,
	   "a blank member refuses who does not invite it");

	members[2].hello_answer = PGRAFT_HELLO_OK;
	advance(1200);
	ok(members[1].hello_refused_status == PGRAFT_HELLO_WRONG_CLUSTER && members[1].n_up[2] == 0,
	   "a host that forgets to take over the identity is not believed");

	members[2].adopt = true;
	describe_peer(2, &peer);
	peer.invite = 1;
	(void) pgraft_net_set_peers(members[1].net, &peer, 1, NULL);
	ok(UNTIL(is_connected(1, 2)), "an invited member joins");
	ok(members[2].hello.invite && members[2].options.self.cluster_uid == CLUSTER &&
	   members[2].options.self.incarnation == 102, "... under the identity it is given");
	heartbeat(1, 2, 5, &message);
	ok(pgraft_net_send_message(members[1].net, &message) == 1 &&
	   UNTIL(members[2].n_frames == 1), "the same connection carries its messages");
	dial_peers(2, (const raft_id[]) {1, 0});
	ok(UNTIL(is_connected(2, 1)), "it dials as a member");
	stop_all();
}

/* ----------------------------------------------------------------
 * Addresses
 * ----------------------------------------------------------------
 */
static void
test_names(void)
{
	PgraftNetPeer peers[2];
	raft_u64	began;
	raft_u64	longest = 0;
	int			i;

	start_cluster(2);
	describe_peer(2, &peers[0]);
	strlcpy(peers[0].address, "localhost", sizeof(peers[0].address));
	memset(&peers[1], 0, sizeof(peers[1]));
	peers[1].id = 3;
	peers[1].port = 1;
	strlcpy(peers[1].address, "no-such-host.invalid", sizeof(peers[1].address));
	(void) pgraft_net_set_peers(members[1].net, peers, 2, NULL);
	for (i = 0; i < 20; i++)
	{
		began = pgraft_net_clock_us();
		turn(0);
		longest = Max(longest, pgraft_net_clock_us() - began);
	}
	ok(longest < 300000, "resolving does not hold up the loop");
	strlcpy(peers[1].address, "127.0.0.1", sizeof(peers[1].address));
	(void) pgraft_net_set_peers(members[1].net, peers, 2, NULL);
	ok(UNTIL(members[1].n_refused[3] == 1), "an address that is corrected meanwhile is dialed");
	ok(UNTIL(is_connected(1, 2)), "a host name is resolved");
	member_stop(2);
	ok(UNTIL(members[1].n_refused[2] == 1), "refusal by all its addresses is refusal");
	stop_all();
}

static void
test_addresses(void)
{
	PgraftError error;
	PgraftNetPeer peer;
	int			fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 address;
	bool		have_ipv6;

	memset(&address, 0, sizeof(address));
	address.sin6_family = AF_INET6;
	address.sin6_addr = in6addr_loopback;
	have_ipv6 = fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0;
	if (fd >= 0)
		close(fd);

	member_defaults(1);
	member_defaults(2);
	strlcpy(members[2].options.listen_address, have_ipv6 ? "127.0.0.1, ::1" : "127.0.0.1",
			sizeof(members[2].options.listen_address));
	ok(member_start(1, NULL) == PGRAFT_OK && member_start(2, NULL) == PGRAFT_OK,
	   "a list of addresses is listened on");
	describe_peer(2, &peer);
	if (have_ipv6)
		strlcpy(peer.address, "::1", sizeof(peer.address));
	(void) pgraft_net_set_peers(members[1].net, &peer, 1, NULL);
	ok(UNTIL(is_connected(1, 2)), "%s works", peer.address);

	member_defaults(3);
	members[3].options.listen_port = members[1].options.listen_port;
	ok(member_start(3, &error) == PGRAFT_ERR_IN_USE, "a port that is taken is reported: %s",
	   error.message);
	members[3].options.listen_port = 0;
	strlcpy(members[3].options.listen_address, "no-such-host.invalid",
			sizeof(members[3].options.listen_address));
	ok(member_start(3, &error) == PGRAFT_ERR_CONFIG, "an unresolvable address, too: %s",
	   error.message);
	strlcpy(members[3].options.listen_address, "0.0.0.0",
			sizeof(members[3].options.listen_address));
	ok(member_start(3, &error) == PGRAFT_ERR_CONFIG && error.hint[0] != '\0',
	   "without certificates only loopback addresses are listened on: %s", error.message);
	strlcpy(members[3].options.listen_address, "*", sizeof(members[3].options.listen_address));
	ok(member_start(3, &error) == PGRAFT_ERR_CONFIG, "\"*\" is none");

	/* TEST-NET-1: nobody is there, but it must not even be tried */
	describe_peer(2, &peer);
	strlcpy(peer.address, "192.0.2.1", sizeof(peer.address));
	(void) pgraft_net_set_peers(members[1].net, &peer, 1, NULL);
	ok(UNTIL(stats_of(1, 2).connect_failures > 0) &&
	   strstr(stats_of(1, 2).last_error, "loopback") != NULL,
	   "without certificates only loopback addresses are dialed");
	is_u64(members[1].n_refused[2], 0, "... and that is no proof of death");
	stop_all();
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_traffic();
	test_death();
	test_probe();
	test_silence();
	test_queue();
	test_bulk();
	test_peers();
	test_two_places();
	test_refused_greeting();
	test_blank();
	test_names();
	test_addresses();
	return tap_done();
}
