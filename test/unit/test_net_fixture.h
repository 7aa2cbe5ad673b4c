/*-------------------------------------------------------------------------
 *
 * test_net_fixture.h
 *	  Several network objects in one process, and raw clients against them.
 *
 * Members 1..3 listen on ports of the kernel's choice on 127.0.0.1.  A member
 * that is destroyed and started again keeps its port.  Time is the real clock
 * plus `skew`, which tests move forward instead of sleeping.  Every wait is
 * UNTIL(condition): turns of all loops until it holds or ten seconds are over.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_TEST_NET_FIXTURE_H
#define PGRAFT_TEST_NET_FIXTURE_H

#include "pgraft/platform.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../src/net/net_internal.h"
#include "pgraft/bytes.h"

/* the server's headers put their own printf in place of the library's */
#undef printf
#undef vprintf
#undef snprintf
#undef vsnprintf
#undef fprintf
#undef strerror
#include "tap.h"

#define CLUSTER 4711
#define N_MEMBERS 3
#define DEADLINE_MS 10000
#define LOG_LINES 400

typedef struct Member
{
	PgraftNet  *net;
	PgraftNetOptions options;
	raft_id		id;
	bool		frozen;			/* its loop does not run */

	/* what its callbacks saw */
	int			n_hello;
	PgraftHello hello;
	PgraftFrameHeader hello_header;
	int			n_frames;
	int			n_frames_from[N_MEMBERS + 2];
	PgraftFrameHeader frame_header;
	unsigned char *frame_payload;
	struct raft_message message;	/* of the last RAFT frame */
	PgraftWireScratch scratch;
	int			n_bad_messages;
	int			n_up[N_MEMBERS + 2];
	int			n_down[N_MEMBERS + 2];
	int			n_refused[N_MEMBERS + 2];	/* peer_down(refused) */
	int			n_hello_refused[N_MEMBERS + 2];
	PgraftHelloStatus hello_refused_status;
	char		log[LOG_LINES][512];
	int			n_log;

	/* what its callbacks do */
	PgraftHelloStatus hello_answer;
	const char *hello_text;
	bool		adopt;			/* take over the sender's cluster */
	bool		know_names;		/* expected_name() knows "node<id>" */
	int			frame_result;
} Member;

static Member members[N_MEMBERS + 1];	/* [0] is not used */
static raft_time skew;

#define UNTIL(condition) \
	({ raft_time until_ = real_ms() + DEADLINE_MS; \
	   while (!(condition) && real_ms() < until_) \
		   turn(10); \
	   (condition); })

static inline raft_time
real_ms(void)
{
	return (raft_time) (pgraft_net_clock_us() / 1000);
}

static inline raft_time
test_now(void)
{
	return real_ms() + skew;
}

/* One turn of each loop; waits for at most `wait_ms`. */
static inline void
turn(int wait_ms)
{
	struct pollfd fds[N_MEMBERS];
	int			n = 0;
	int			i;

	for (i = 1; i <= N_MEMBERS; i++)
	{
		raft_time	due;

		if (members[i].net == NULL || members[i].frozen)
			continue;
		fds[n].fd = pgraft_net_fd(members[i].net);
		fds[n++].events = POLLIN;
		due = pgraft_net_next_deadline(members[i].net);
		if (due <= test_now())
			wait_ms = 0;
		else if (due - test_now() < (raft_time) wait_ms)
			wait_ms = (int) (due - test_now());
	}
	(void) poll(fds, (nfds_t) n, wait_ms);
	for (i = 1; i <= N_MEMBERS; i++)
		if (members[i].net != NULL && !members[i].frozen)
			pgraft_net_poll(members[i].net, test_now());
}

/* Moves the clock in steps that leave time for pings to be answered. */
static inline void
advance(raft_time ms)
{
	while (ms > 0)
	{
		raft_time	step = Min(ms, 200);
		int			i;

		skew += step;
		ms -= step;
		for (i = 0; i < 6; i++)
			turn(1);
	}
}

/* ----------------------------------------------------------------
 * Callbacks
 * ----------------------------------------------------------------
 */

static inline PgraftHelloStatus
on_hello(void *context, const PgraftFrameHeader *header, const PgraftHello *hello,
		 const char *remote, char *text, size_t text_size)
{
	Member	   *member = context;

	(void) remote;
	member->n_hello++;
	member->hello = *hello;
	member->hello_header = *header;
	if (member->adopt && member->options.self.cluster_uid == 0)
	{
		member->options.self.cluster_uid = header->cluster_uid;
		member->options.self.incarnation = header->to_incarnation;
		pgraft_net_set_self(member->net, &member->options.self);
	}
	if (member->hello_text != NULL)
		snprintf(text, text_size, "%s", member->hello_text);
	return member->hello_answer;
}

static inline int
on_expected_name(void *context, raft_id id, char *name)
{
	Member	   *member = context;

	if (!member->know_names || id > N_MEMBERS)
		return 0;
	snprintf(name, RAFT_NAME_SIZE, "node%u", id);
	return 1;
}

static inline int
on_frame(void *context, const PgraftFrameHeader *header, const unsigned char *payload)
{
	Member	   *member = context;

	member->n_frames++;
	if (header->from < lengthof(member->n_frames_from))
		member->n_frames_from[header->from]++;
	member->frame_header = *header;
	member->frame_payload = realloc(member->frame_payload, header->length + 1);
	memcpy(member->frame_payload, payload, header->length);
	if (header->type == PGRAFT_FRAME_RAFT &&
		pgraft_wire_decode_message(header, member->frame_payload, &member->scratch,
								   &member->message, NULL) != PGRAFT_OK)
		member->n_bad_messages++;
	return member->frame_result;
}

static inline void
on_peer_up(void *context, raft_id peer)
{
	((Member *) context)->n_up[peer]++;
}

static inline void
on_peer_down(void *context, raft_id peer, int refused)
{
	if (refused)
		((Member *) context)->n_refused[peer]++;
	else
		((Member *) context)->n_down[peer]++;
}

static inline void
on_peer_refused(void *context, raft_id peer, PgraftHelloStatus status)
{
	((Member *) context)->n_hello_refused[peer]++;
	((Member *) context)->hello_refused_status = status;
}

static inline void
on_log(void *context, PgraftNetLogLevel level, const char *message)
{
	Member	   *member = context;

	if (getenv("PGRAFT_TEST_VERBOSE") != NULL)
		printf("# member %u, level %d: %s\n", member->id, level, message);
	if (member->n_log < LOG_LINES)
		snprintf(member->log[member->n_log++], sizeof(member->log[0]), "%s", message);
}

/* How many log lines have this text in them. */
static inline int
logged(const Member *member, const char *text)
{
	int			n = 0;
	int			i;

	for (i = 0; i < member->n_log; i++)
		if (strstr(member->log[i], text) != NULL)
			n++;
	return n;
}

/* ----------------------------------------------------------------
 * Members
 * ----------------------------------------------------------------
 */

static inline void
member_defaults(raft_id id)
{
	Member	   *member = &members[id];
	PgraftNetOptions *options = &member->options;

	pgraft_wire_free_scratch(&member->scratch);
	free(member->frame_payload);
	memset(member, 0, sizeof(*member));
	member->id = id;
	member->know_names = true;
	options->self.node_id = id;
	options->self.incarnation = 100 + id;
	options->self.cluster_uid = CLUSTER;
	options->self.member_uid = 1000 + id;
	strlcpy(options->self.cluster_id, "main", sizeof(options->self.cluster_id));
	snprintf(options->self.name, sizeof(options->self.name), "node%u", id);
	strlcpy(options->self.address, "127.0.0.1", sizeof(options->self.address));
	options->max_frame_bytes = 1024 * 1024;
	options->max_queue_bytes = 4 * 1024 * 1024;
	options->max_pending = 32;
	options->handshake_timeout_ms = 5000;
	options->reconnect_max_ms = 1000;
	options->ping_interval_ms = 1000;
	options->tcp_user_timeout_ms = 4000;
	options->seed = 42 + id;
}

static inline PgraftErrorCode
member_start(raft_id id, PgraftError *error)
{
	Member	   *member = &members[id];
	PgraftNetCallbacks callbacks;
	PgraftErrorCode code;

	memset(&callbacks, 0, sizeof(callbacks));
	callbacks.context = member;
	callbacks.hello = on_hello;
	callbacks.expected_name = on_expected_name;
	callbacks.frame = on_frame;
	callbacks.peer_up = on_peer_up;
	callbacks.peer_down = on_peer_down;
	callbacks.peer_refused = on_peer_refused;
	callbacks.log = on_log;
	code = pgraft_net_create(&member->net, &member->options, &callbacks, test_now(), error);
	if (code == PGRAFT_OK)
	{
		member->options.listen_port = pgraft_net_listen_port(member->net);
		member->options.self.port = member->options.listen_port;
		pgraft_net_set_self(member->net, &member->options.self);
	}
	return code;
}

static inline void
member_stop(raft_id id)
{
	pgraft_net_destroy(members[id].net);
	members[id].net = NULL;
}

static inline void
describe_peer(raft_id id, PgraftNetPeer *peer)
{
	memset(peer, 0, sizeof(*peer));
	peer->id = id;
	peer->incarnation = 100 + id;
	snprintf(peer->name, sizeof(peer->name), "node%u", id);
	strlcpy(peer->address, "127.0.0.1", sizeof(peer->address));
	peer->port = members[id].options.listen_port;
}

/* `member` dials those in the list, which ends with 0. */
static inline void
dial_peers(raft_id member, const raft_id *ids)
{
	PgraftNetPeer peers[N_MEMBERS];
	int			n = 0;

	for (; *ids != 0; ids++)
		describe_peer(*ids, &peers[n++]);
	(void) pgraft_net_set_peers(members[member].net, peers, n, NULL);
}

/* Starts members 1..n; each dials all others. */
static inline void
start_cluster(int n)
{
	raft_id		id;

	for (id = 1; id <= (raft_id) n; id++)
	{
		PgraftError error;

		member_defaults(id);
		memset(&error, 0, sizeof(error));
		if (member_start(id, &error) != PGRAFT_OK)
		{
			printf("Bail out!  member %u: %s\n", id, error.message);
			exit(1);
		}
	}
	for (id = 1; id <= (raft_id) n; id++)
	{
		raft_id		others[N_MEMBERS + 1];
		raft_id		other;
		int			k = 0;

		for (other = 1; other <= (raft_id) n; other++)
			if (other != id)
				others[k++] = other;
		others[k] = 0;
		dial_peers(id, others);
	}
}

static inline void
stop_all(void)
{
	raft_id		id;

	for (id = 1; id <= N_MEMBERS; id++)
	{
		if (members[id].net != NULL)
			member_stop(id);
		pgraft_wire_free_scratch(&members[id].scratch);
		free(members[id].frame_payload);
		members[id].frame_payload = NULL;
	}
}

static inline bool
is_connected(raft_id from, raft_id to)
{
	PgraftPeer *peer = pgraft_peer_find(members[from].net, to);

	return peer != NULL && peer->main != NULL && peer->main->state == CONN_OPEN;
}

static inline PgraftNetPeerStats
stats_of(raft_id member, raft_id peer)
{
	PgraftNetPeerStats stats[N_MEMBERS];
	PgraftNetPeerStats none;
	int			n = pgraft_net_peer_stats(members[member].net, stats, N_MEMBERS);
	int			i;

	for (i = 0; i < n; i++)
		if (stats[i].id == peer)
			return stats[i];
	memset(&none, 0, sizeof(none));
	return none;
}

static inline PgraftNetStats
net_stats(raft_id member)
{
	PgraftNetStats stats;

	pgraft_net_stats(members[member].net, &stats);
	return stats;
}

static inline void
heartbeat(raft_id from, raft_id to, raft_u64 context, struct raft_message *message)
{
	memset(message, 0, sizeof(*message));
	message->type = RAFT_MSG_HEARTBEAT;
	message->from = from;
	message->to = to;
	message->from_incarnation = 100 + from;
	message->to_incarnation = 100 + to;
	message->term = 7;
	message->context = context;
}

/* ----------------------------------------------------------------
 * Raw clients
 * ----------------------------------------------------------------
 */

static inline int
raw_connect(unsigned int port)
{
	struct sockaddr_in address;
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons((uint16) port);
	if (fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
	{
		close(fd);
		return -1;
	}
	if (fd >= 0)
		(void) fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* Whether the other side has closed; throws away what it sent. */
static inline bool
raw_closed(int fd)
{
	char		waste[4096];
	ssize_t		n;

	do
		n = recv(fd, waste, sizeof(waste), 0);
	while (n > 0);
	return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

static inline bool
raw_readable(int fd)
{
	struct pollfd pfd = {.fd = fd,.events = POLLIN};

	return poll(&pfd, 1, 0) > 0;
}

static inline bool
raw_send(int fd, const void *data, size_t length)
{
	return send(fd, data, length, MSG_NOSIGNAL) == (ssize_t) length;
}

/* Header as member `from` of the cluster would send it to `to`. */
static inline PgraftFrameHeader
raw_header(raft_id from, raft_id to, PgraftFrameType type, size_t length)
{
	PgraftFrameHeader header;

	memset(&header, 0, sizeof(header));
	header.length = length;
	header.type = type;
	header.cluster_uid = CLUSTER;
	header.from = from;
	header.to = to;
	header.from_incarnation = 100 + from;
	header.to_incarnation = 100 + to;
	return header;
}

static inline size_t
raw_frame(unsigned char *buffer, const PgraftFrameHeader *header, const unsigned char *payload)
{
	memmove(buffer + PGRAFT_FRAME_HEADER_BYTES, payload, header->length);
	pgraft_wire_put_header(buffer, header, buffer + PGRAFT_FRAME_HEADER_BYTES);
	return PGRAFT_FRAME_HEADER_BYTES + header->length;
}

static inline size_t
raw_hello(unsigned char *buffer, raft_id from, raft_id to, bool bulk)
{
	unsigned char payload[PGRAFT_HELLO_MAX_BYTES];
	PgraftFrameHeader header;
	PgraftHello hello;
	size_t		length;

	memset(&hello, 0, sizeof(hello));
	strlcpy(hello.cluster_id, "main", sizeof(hello.cluster_id));
	snprintf(hello.name, sizeof(hello.name), "node%u", from);
	strlcpy(hello.address, "127.0.0.1", sizeof(hello.address));
	hello.port = 1;
	hello.bulk = bulk;
	length = pgraft_wire_encode_hello(payload, &hello);
	header = raw_header(from, to, PGRAFT_FRAME_HELLO, length);
	return raw_frame(buffer, &header, payload);
}

#endif							/* PGRAFT_TEST_NET_FIXTURE_H */
