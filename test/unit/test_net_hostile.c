/*-------------------------------------------------------------------------
 *
 * test_net_hostile.c
 *	  The network layer against strangers: garbage, forged and damaged frames,
 *	  claims of size, floods, exhausted descriptors, a peer that breaks rules.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "test_net_fixture.h"

#define MAX_RAW 64

static unsigned int
port_of(raft_id id)
{
	return members[id].options.listen_port;
}

/* Sends bytes on a connection of its own; whether the member closes it. */
static bool
is_refused(const void *data, size_t length)
{
	int			fd = raw_connect(port_of(1));
	bool		result;

	result = raw_send(fd, data, length) && UNTIL(raw_closed(fd));
	close(fd);
	return result;
}

static PgraftConn *
newest_accepted(raft_id id)
{
	PgraftConn *conn = NULL;

	for (conn = members[id].net->conns; conn != NULL; conn = conn->next)
		if (conn->kind == CONN_ACCEPTED && conn->state != CONN_DEAD)
			return conn;
	return NULL;
}

/* ----------------------------------------------------------------
 * Before the greeting
 * ----------------------------------------------------------------
 */
static void
test_garbage(void)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	static const unsigned char tls[] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01};
	unsigned char frame[2048];
	size_t		length;
	int			i;

	start_cluster(1);
	for (i = 0; i < 10; i++)
		if (!is_refused(http, sizeof(http) - 1))
			break;
	is_u64(i, 10, "garbage ends the connection");
	is_u64(logged(&members[1], "connection from 127.0.0.1 refused: not a pgraft frame"), 1,
		   "it is logged once");
	is_u64(net_stats(1).rejected, 10, "... and counted each time");
	ok(is_refused(tls, sizeof(tls)), "so does a TLS handshake");
	is_u64(logged(&members[1], "refused: TLS on a plaintext port"), 1, "... which is told apart");
	skew += 61000;
	turn(0);
	ok(is_refused(http, sizeof(http) - 1), "a minute later");
	is_u64(logged(&members[1], "9 similar messages were left out"), 1,
		   "it is logged again with what was left out");

	/* connections without a byte are port checks */
	i = raw_connect(port_of(1));
	ok(UNTIL(net_stats(1).pending == 1), "a connection is pending");
	close(i);
	ok(UNTIL(net_stats(1).pending == 0) && net_stats(1).rejected == 12,
	   "one that says nothing is not counted as rejected");

	/* every bit of a greeting */
	length = raw_hello(frame, 2, 1, false);
	for (i = 0; i < (int) length * 8; i += 3)
	{
		bool		refused;

		frame[i / 8] ^= (unsigned char) (1 << (i % 8));
		refused = is_refused(frame, length);
		frame[i / 8] ^= (unsigned char) (1 << (i % 8));
		if (!refused)
			break;
	}
	ok(i >= (int) length * 8, "a greeting with a flipped bit is refused");
	is_u64(members[1].n_hello, 0, "... and not shown to the host");
	stop_all();
}

static void
test_order(void)
{
	unsigned char frame[2048];
	unsigned char payload[64] = {0};
	PgraftFrameHeader header;
	PgraftHello hello;
	unsigned char hello_payload[PGRAFT_HELLO_MAX_BYTES];

	start_cluster(1);
	header = raw_header(2, 1, PGRAFT_FRAME_REQUEST, sizeof(payload));
	ok(is_refused(frame, raw_frame(frame, &header, payload)), "a frame before the greeting");
	is_u64(members[1].n_frames, 0, "... is not shown to the host");
	header = raw_header(2, 1, PGRAFT_FRAME_PING, 8);
	ok(is_refused(frame, raw_frame(frame, &header, payload)), "not even a ping");
	header = raw_header(2, 1, PGRAFT_FRAME_HELLO_REPLY, 8);
	ok(is_refused(frame, raw_frame(frame, &header, payload)), "nor an answer to a greeting");
	header = raw_header(2, 1, PGRAFT_FRAME_HELLO, sizeof(payload));
	ok(is_refused(frame, raw_frame(frame, &header, payload)), "nor a malformed greeting");
	ok(is_refused(frame, raw_hello(frame, 1, 1, false)), "nor one from ourselves");
	ok(is_refused(frame, raw_hello(frame, 0, 1, false)), "nor one from nobody");
	is_u64(members[1].n_hello, 0, "none of them is shown to the host");

	/* well-formed, and the host says yes to everything */
	memset(&hello, 0, sizeof(hello));
	header = raw_header(2, 1, PGRAFT_FRAME_HELLO,
						pgraft_wire_encode_hello(hello_payload, &hello));
	header.cluster_uid++;
	ok(is_refused(frame, raw_frame(frame, &header, hello_payload)), "another cluster's number");
	header.cluster_uid = 0;
	ok(is_refused(frame, raw_frame(frame, &header, hello_payload)), "a blank sender");
	header.cluster_uid = CLUSTER;
	header.to_incarnation++;
	ok(is_refused(frame, raw_frame(frame, &header, hello_payload)), "an old incarnation");
	header.to_incarnation--;
	header.to = 3;
	ok(is_refused(frame, raw_frame(frame, &header, hello_payload)), "another receiver");
	is_u64(members[1].n_hello, 4, "the host is asked first");
	ok(logged(&members[1], "wrong cluster") + logged(&members[1], "wrong member") >= 1,
	   "the reason is logged");
	stop_all();
}

static void
test_claims(void)
{
	unsigned char frame[PGRAFT_FRAME_HEADER_BYTES + 64] = {0};
	unsigned char greeting[2048];
	PgraftFrameHeader header;
	PgraftConn *conn = NULL;
	unsigned char *chunk;
	int			fd;
	size_t		sent = 0;

	start_cluster(1);
	header = raw_header(2, 1, PGRAFT_FRAME_HELLO, PGRAFT_HELLO_MAX_BYTES + 1);
	pgraft_wire_put_bare_header(frame, &header);
	ok(is_refused(frame, PGRAFT_FRAME_HEADER_BYTES), "a greeting may not claim to be large");

	fd = raw_connect(port_of(1));
	ok(raw_send(fd, greeting, raw_hello(greeting, 2, 1, false)) &&
	   UNTIL((conn = newest_accepted(1)) != NULL && conn->state == CONN_OPEN), "a peer greets");
	if (conn == NULL)
		exit(1);
	header = raw_header(2, 1, PGRAFT_FRAME_REQUEST, members[1].options.max_frame_bytes);
	pgraft_wire_put_bare_header(frame, &header);
	ok(raw_send(fd, frame, PGRAFT_FRAME_HEADER_BYTES + 10) &&
	   UNTIL(pgraft_buffer_length(&conn->in) == PGRAFT_FRAME_HEADER_BYTES + 10),
	   "it announces a megabyte and sends ten bytes");
	ok(conn->in.capacity <= 64 * 1024, "... which costs little memory");
	chunk = calloc(1, 16 * 1024);
	while (sent < members[1].options.max_frame_bytes / 2)
	{
		ssize_t		n = send(fd, chunk, 16 * 1024, MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t) n;
		turn(0);
	}
	free(chunk);
	ok(UNTIL(pgraft_buffer_length(&conn->in) == PGRAFT_FRAME_HEADER_BYTES + 10 + sent) &&
	   conn->in.capacity <= 2 * sent + 64 * 1024, "memory grows with what arrives");
	ok(!raw_closed(fd), "up to the limit that is allowed");
	close(fd);

	fd = raw_connect(port_of(1));
	ok(raw_send(fd, greeting, raw_hello(greeting, 2, 1, false)) &&
	   UNTIL((conn = newest_accepted(1)) != NULL && conn->state == CONN_OPEN), "it greets again");
	header.length = members[1].options.max_frame_bytes + 1;
	pgraft_wire_put_bare_header(frame, &header);
	ok(raw_send(fd, frame, PGRAFT_FRAME_HEADER_BYTES) && UNTIL(raw_closed(fd)),
	   "one byte more is refused by the header alone");
	ok(UNTIL(newest_accepted(1) == NULL), "the connection is gone");
	close(fd);
	is_u64(members[1].n_frames, 0, "nothing of this reached the host");
	stop_all();
}

/* ----------------------------------------------------------------
 * After the greeting
 * ----------------------------------------------------------------
 */

/* Greets as member 2, sends one more frame; whether that ends the connection. */
static bool
breaks_rule(const PgraftFrameHeader *header, const unsigned char *payload, int flip_byte)
{
	unsigned char frame[2048];
	size_t		length;
	int			n_frames = members[1].n_frames;
	int			fd = raw_connect(port_of(1));
	bool		result;

	length = raw_hello(frame, 2, 1, false);
	if (!raw_send(fd, frame, length) ||
		!UNTIL(stats_of(1, 2).inbound && raw_readable(fd)))
		return false;
	length = raw_frame(frame, header, payload);
	if (flip_byte >= 0)
		frame[flip_byte] ^= 0x10;
	(void) raw_closed(fd);		/* takes the answer to the greeting out */
	result = raw_send(fd, frame, length) && UNTIL(raw_closed(fd));
	close(fd);
	return UNTIL(!stats_of(1, 2).inbound) && result && members[1].n_frames == n_frames;
}

static void
test_rules(void)
{
	unsigned char payload[64] = {0};
	PgraftFrameHeader header;
	int			fd;
	int			first;
	unsigned char frame[2048];

	start_cluster(1);
	member_defaults(2);
	members[2].options.listen_port = 1;
	dial_peers(1, (const raft_id[]) {2, 0});

	header = raw_header(2, 1, PGRAFT_FRAME_REQUEST, sizeof(payload));
	ok(breaks_rule(&header, payload, PGRAFT_FRAME_HEADER_BYTES + 20),
	   "a damaged payload ends the connection");
	ok(breaks_rule(&header, payload, 20), "so does a damaged header");
	header.from = 3;
	ok(breaks_rule(&header, payload, -1), "a frame in the name of another member");
	header = raw_header(2, 1, PGRAFT_FRAME_REQUEST, sizeof(payload));
	header.to = 2;
	ok(breaks_rule(&header, payload, -1), "... to another member");
	header = raw_header(2, 1, PGRAFT_FRAME_REQUEST, sizeof(payload));
	header.cluster_uid++;
	ok(breaks_rule(&header, payload, -1), "... of another cluster");
	header = raw_header(2, 1, PGRAFT_FRAME_REQUEST, sizeof(payload));
	header.from_incarnation++;
	ok(breaks_rule(&header, payload, -1), "... of another incarnation");
	header = raw_header(2, 1, PGRAFT_FRAME_REQUEST, sizeof(payload));
	header.to_incarnation++;
	ok(breaks_rule(&header, payload, -1), "... for another incarnation");
	header = raw_header(2, 1, PGRAFT_FRAME_HELLO, sizeof(payload));
	ok(breaks_rule(&header, payload, -1), "a second greeting");
	header = raw_header(2, 1, PGRAFT_FRAME_PONG, 8);
	ok(breaks_rule(&header, payload, -1), "a pong nobody asked for");
	header = raw_header(2, 1, PGRAFT_FRAME_PING, 9);
	ok(breaks_rule(&header, payload, -1), "a ping of the wrong length");
	ok(stats_of(1, 2).errors >= 10, "violations are counted");
	ok(logged(&members[1], "member 2 at 127.0.0.1 violated the protocol") == 1,
	   "... and logged once");

	members[1].frame_result = 1;
	header = raw_header(2, 1, PGRAFT_FRAME_REQUEST, sizeof(payload));
	fd = raw_connect(port_of(1));
	ok(raw_send(fd, frame, raw_hello(frame, 2, 1, false)) && UNTIL(stats_of(1, 2).inbound) &&
	   raw_send(fd, frame, raw_frame(frame, &header, payload)) && UNTIL(raw_closed(fd)),
	   "what the host finds malformed ends the connection");
	is_u64(members[1].n_frames, 1, "... after the host saw it");
	close(fd);

	/* the newer of two connections is the right one */
	members[1].frame_result = 0;
	first = raw_connect(port_of(1));
	ok(raw_send(first, frame, raw_hello(frame, 2, 1, false)) && UNTIL(stats_of(1, 2).inbound),
	   "a peer connects");
	fd = raw_connect(port_of(1));
	ok(raw_send(fd, frame, raw_hello(frame, 2, 1, true)) && UNTIL(raw_readable(fd)) &&
	   !raw_closed(first), "a bulk connection comes beside it");
	close(fd);
	fd = raw_connect(port_of(1));
	ok(raw_send(fd, frame, raw_hello(frame, 2, 1, false)) && UNTIL(raw_closed(first)),
	   "a second main connection replaces it");
	ok(raw_send(fd, frame, raw_frame(frame, &header, payload)) &&
	   UNTIL(members[1].n_frames == 2), "... and is used");
	close(fd);
	close(first);
	stop_all();
}

/* ----------------------------------------------------------------
 * Limits
 * ----------------------------------------------------------------
 */
static void
test_flood(void)
{
	int			fds[MAX_RAW];
	unsigned char frame[2048];
	int			n_closed = 0;
	int			i;

	member_defaults(1);
	members[1].options.max_pending = 8;
	(void) member_start(1, NULL);
	for (i = 0; i < 20; i++)
	{
		fds[i] = raw_connect(port_of(1));
		turn(0);
	}
	ok(UNTIL(net_stats(1).accepted == 20), "twenty silent connections come");
	is_u64(net_stats(1).pending, 8, "eight of them are kept");
	for (i = 0; i < 12; i++)
		n_closed += UNTIL(raw_closed(fds[i]));
	is_u64(n_closed, 12, "the oldest ones are closed");
	for (i = 12; i < 20; i++)
		n_closed += raw_closed(fds[i]);
	is_u64(n_closed, 12, "the newest ones are not");
	is_u64(logged(&members[1], "too many connections"), 1, "that is logged once");
	ok(raw_send(fds[19], frame, raw_hello(frame, 2, 1, false)) &&
	   UNTIL(members[1].n_hello == 1) && net_stats(1).pending == 7, "one of them may greet yet");
	advance(5200);
	is_u64(net_stats(1).pending, 0, "the others are too slow");
	is_u64(logged(&members[1], "did not greet in time"), 1, "... which is logged once");
	ok(!raw_closed(fds[19]), "who greeted stays");
	for (i = 0; i < 20; i++)
		close(fds[i]);
	stop_all();
}

static void
test_slow_greeting(void)
{
	unsigned char frame[2048];
	size_t		length = raw_hello(frame, 2, 1, false);
	size_t		i;
	int			fd;

	start_cluster(1);
	fd = raw_connect(port_of(1));
	for (i = 0; i < length; i++)
	{
		if (!raw_send(fd, frame + i, 1))
			break;
		turn(0);
	}
	ok(i == length && UNTIL(members[1].n_hello == 1), "a greeting may come byte by byte");
	close(fd);
	fd = raw_connect(port_of(1));
	for (i = 0; i < length - 1 && !raw_closed(fd); i++)
	{
		if (!raw_send(fd, frame + i, 1))
			break;
		advance(100);
	}
	ok(i < length - 1 && i >= 40, "... but not for longer than the time limit");
	close(fd);
	stop_all();
}

static void
test_descriptors(void)
{
	struct rlimit before;
	struct rlimit none;
	unsigned char frame[2048];
	const char *preload = getenv("LD_PRELOAD");
	int			n_polls = 0;
	int			fd;
	raft_time	until;

	/* it accepts and closes, where the kernel would not accept */
	if (preload != NULL && strstr(preload, "vgpreload") != NULL)
		return;
	start_cluster(1);
	fd = raw_connect(port_of(1));
	(void) getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = (rlim_t) fd;	/* no new descriptor from here on */
	(void) setrlimit(RLIMIT_NOFILE, &none);
	(void) raw_send(fd, frame, raw_hello(frame, 2, 1, false));
	ok(UNTIL(logged(&members[1], "could not accept a connection") == 1),
	   "running out of descriptors is logged");
	until = real_ms() + 80;
	while (real_ms() < until)
	{
		turn(20);
		n_polls++;
	}
	ok(n_polls < 30, "the loop does not spin meanwhile");
	is_u64(net_stats(1).accepted, 0, "nothing was accepted");
	(void) setrlimit(RLIMIT_NOFILE, &before);
	ok(UNTIL(members[1].n_hello == 1), "the connection is accepted when there are some again");
	close(fd);
	stop_all();
}

static void
test_fairness(void)
{
	static unsigned char frames[1000 * (PGRAFT_FRAME_HEADER_BYTES + 8)];
	unsigned char payload[8] = {0};
	unsigned char frame[2048];
	PgraftFrameHeader header = raw_header(2, 1, PGRAFT_FRAME_REQUEST, sizeof(payload));
	size_t		length = 0;
	int			noisy;
	int			quiet;
	int			i;

	start_cluster(1);
	noisy = raw_connect(port_of(1));
	quiet = raw_connect(port_of(1));
	ok(raw_send(noisy, frame, raw_hello(frame, 2, 1, false)) &&
	   raw_send(quiet, frame, raw_hello(frame, 3, 1, false)) &&
	   UNTIL(members[1].n_hello == 2 && net_stats(1).pending == 0), "two peers greet");
	for (i = 0; i < 1000; i++)
		length += raw_frame(frames + length, &header, payload);
	header = raw_header(3, 1, PGRAFT_FRAME_REQUEST, sizeof(payload));
	ok(raw_send(noisy, frames, length) &&
	   raw_send(quiet, frame, raw_frame(frame, &header, payload)), "one sends a thousand frames");
	pgraft_net_poll(members[1].net, test_now());
	ok(members[1].n_frames_from[2] <= FRAME_BUDGET, "a poll takes some of them");
	ok(pgraft_net_next_deadline(members[1].net) <= test_now(), "the next poll comes at once");
	pgraft_net_poll(members[1].net, test_now());
	ok(members[1].n_frames_from[3] == 1 && members[1].n_frames_from[2] < 1000,
	   "the other peer is heard before the thousand are done");
	ok(UNTIL(members[1].n_frames_from[2] == 1000), "nothing is lost");
	close(noisy);
	close(quiet);
	stop_all();
}

/* A peer that asks for answers and does not read them. */
static void
test_unread_answers(void)
{
	static unsigned char frames[500 * (PGRAFT_FRAME_HEADER_BYTES + 8)];
	unsigned char payload[8] = {0};
	unsigned char frame[2048];
	PgraftFrameHeader header = raw_header(2, 1, PGRAFT_FRAME_PING, sizeof(payload));
	PgraftConn *conn = NULL;
	size_t		length = 0;
	size_t		total = 0;
	int			fd;
	int			i;

	start_cluster(1);
	fd = raw_connect(port_of(1));
	ok(raw_send(fd, frame, raw_hello(frame, 2, 1, false)) &&
	   UNTIL((conn = newest_accepted(1)) != NULL && conn->state == CONN_OPEN), "a peer greets");
	if (conn == NULL)
		exit(1);
	for (i = 0; i < 500; i++)
		length += raw_frame(frames + length, &header, payload);
	for (i = 0; i < 2000 && pgraft_buffer_length(&conn->out) < INBOUND_QUEUE_BYTES; i++)
	{
		/* whole frames only: a part is finished before the next */
		size_t		at = total % length;
		ssize_t		n = send(fd, frames + at, length - at, MSG_NOSIGNAL);

		if (n > 0)
			total += (size_t) n;
		turn(0);
	}
	for (i = 0; i < 50; i++)
	{
		size_t		at = total % length;
		ssize_t		n = send(fd, frames + at, length - at, MSG_NOSIGNAL);

		if (n > 0)
			total += (size_t) n;
		turn(0);
	}
	ok(total > INBOUND_QUEUE_BYTES && conn->state == CONN_OPEN &&
	   pgraft_buffer_length(&conn->out) <= INBOUND_QUEUE_BYTES + 1024,
	   "answers that nobody reads do not pile up");
	close(fd);
	stop_all();
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_garbage();
	test_order();
	test_claims();
	test_rules();
	test_flood();
	test_slow_greeting();
	test_descriptors();
	test_fairness();
	test_unread_answers();
	return tap_done();
}
