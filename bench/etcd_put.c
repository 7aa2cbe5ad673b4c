/*-------------------------------------------------------------------------
 *
 * etcd_put.c
 *	  Puts from N clients to an etcd member as fast as it answers, for the
 *	  comparison in bench/kv.
 *
 *		etcd_put --clients N --seconds S --keys K --value-bytes B HOST PORT
 *
 * It speaks gRPC itself (HTTP/2 and protocol buffers, both only as far as one
 * Put needs them), because etcd's JSON gateway would charge etcd with a second
 * protocol that pgraft's clients do not pay for.  One connection per client,
 * one put at a time on each, all in one thread, like pgbench with one thread.
 *
 * Prints one line: puts, seconds, and latencies in microseconds.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS 1024
#define BUFFER_BYTES 16384
#define MAX_VALUE_BYTES 4096
#define REQUEST_BYTES (MAX_VALUE_BYTES + 512)

/* HTTP/2, RFC 9113 */
#define FRAME_HEADER_BYTES 9
#define FRAME_DATA 0
#define FRAME_HEADERS 1
#define FRAME_RST_STREAM 3
#define FRAME_SETTINGS 4
#define FRAME_PING 6
#define FRAME_GOAWAY 7
#define FRAME_WINDOW_UPDATE 8
#define FLAG_ACK 0x1
#define FLAG_END_STREAM 0x1
#define FLAG_END_HEADERS 0x4
#define INITIAL_WINDOW 65535

typedef struct Client
{
	int			fd;
	unsigned int stream;		/* of the put under way; 0 = none */
	bool		got_message;	/* a response body came: etcd did it */
	long		window;			/* bytes that the server lets us send */
	long		started_us;
	size_t		have;			/* bytes in buffer */
	unsigned char buffer[BUFFER_BYTES];
} Client;

typedef struct Run
{
	int			n_clients;
	long		seconds;
	long		keys;
	size_t		value_bytes;
	unsigned int seed;
	long	   *latencies;
	size_t		n_latencies;
	size_t		max_latencies;
	long		end_us;
} Run;

static void parse_options(int argc, char **argv, Run *run, struct sockaddr_in *address);
static long parse_number(const char *argument, long min, long max);
static void usage(void);
static long now_us(void);
static void fail(const char *what);
static void open_client(Client *client, const struct sockaddr_in *address);
static void send_all(Client *client, const unsigned char *data, size_t length);
static size_t put_frame(unsigned char *to, int type, int flags, unsigned int stream,
						const unsigned char *payload, size_t length);
static void start_put(Run *run, Client *client);
static size_t encode_headers(unsigned char *to);
static size_t encode_message(Run *run, unsigned char *to);
static size_t put_length(unsigned char *to, size_t length);
static void read_client(Run *run, Client *client);
static void take_frame(Run *run, Client *client, const unsigned char *frame, size_t length);
static void finish_put(Run *run, Client *client);
static void report(Run *run, long took_us);
static int	compare_longs(const void *a, const void *b);

int
main(int argc, char **argv)
{
	static Client clients[MAX_CLIENTS];
	struct sockaddr_in address;
	struct epoll_event events[64];
	Run			run;
	long		start;
	int			epoll;
	int			i;

	parse_options(argc, argv, &run, &address);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0)
		fail("epoll_create1");
	for (i = 0; i < run.n_clients; i++)
	{
		struct epoll_event event;

		open_client(&clients[i], &address);
		memset(&event, 0, sizeof(event));
		event.events = EPOLLIN;
		event.data.ptr = &clients[i];
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event) < 0)
			fail("epoll_ctl");
	}
	start = now_us();
	run.end_us = start + run.seconds * 1000000L;
	for (i = 0; i < run.n_clients; i++)
		start_put(&run, &clients[i]);
	while (now_us() < run.end_us)
	{
		int			n = epoll_wait(epoll, events, 64, 1000);

		if (n < 0 && errno != EINTR)
			fail("epoll_wait");
		for (i = 0; i < n; i++)
			read_client(&run, events[i].data.ptr);
	}
	report(&run, now_us() - start);
	return 0;
}

static void
parse_options(int argc, char **argv, Run *run, struct sockaddr_in *address)
{
	memset(run, 0, sizeof(*run));
	memset(address, 0, sizeof(*address));
	if (argc != 11 || strcmp(argv[1], "--clients") != 0 || strcmp(argv[3], "--seconds") != 0 ||
		strcmp(argv[5], "--keys") != 0 || strcmp(argv[7], "--value-bytes") != 0)
		usage();
	run->n_clients = (int) parse_number(argv[2], 1, MAX_CLIENTS);
	run->seconds = parse_number(argv[4], 1, 3600);
	run->keys = parse_number(argv[6], 1, 1000000000);
	run->value_bytes = (size_t) parse_number(argv[8], 0, MAX_VALUE_BYTES);
	run->seed = (unsigned int) now_us();
	address->sin_family = AF_INET;
	address->sin_port = htons((unsigned short) parse_number(argv[10], 1, 65535));
	if (inet_pton(AF_INET, argv[9], &address->sin_addr) != 1)
		usage();
}

static long
parse_number(const char *argument, long min, long max)
{
	char	   *end;
	long		number;

	errno = 0;
	number = strtol(argument, &end, 10);
	if (errno != 0 || *end != '\0' || number < min || number > max)
		usage();
	return number;
}

static void
usage(void)
{
	fprintf(stderr, "usage: etcd_put --clients N --seconds S --keys K --value-bytes B HOST PORT\n");
	exit(2);
}

static long
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static void
fail(const char *what)
{
	fprintf(stderr, "etcd_put: %s failed: %s\n", what, strerror(errno));
	exit(1);
}

static void
open_client(Client *client, const struct sockaddr_in *address)
{
	static const unsigned char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	static const unsigned char large_window[4] = {0x7f, 0xff, 0, 0};
	unsigned char hello[128];
	size_t		length = sizeof(preface) - 1;
	int			on = 1;

	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0 ||
		connect(client->fd, (const struct sockaddr *) address, sizeof(*address)) < 0)
		fail("connect");
	(void) setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	client->window = INITIAL_WINDOW;

	/* no settings of our own; room for every response of the whole run */
	memcpy(hello, preface, length);
	length += put_frame(hello + length, FRAME_SETTINGS, 0, 0, NULL, 0);
	length += put_frame(hello + length, FRAME_WINDOW_UPDATE, 0, 0, large_window, 4);
	send_all(client, hello, length);
}

static void
send_all(Client *client, const unsigned char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t		n = send(client->fd, data, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			fail("send");
		data += n;
		length -= (size_t) n;
	}
}

static size_t
put_frame(unsigned char *to, int type, int flags, unsigned int stream,
		  const unsigned char *payload, size_t length)
{
	to[0] = (unsigned char) (length >> 16);
	to[1] = (unsigned char) (length >> 8);
	to[2] = (unsigned char) length;
	to[3] = (unsigned char) type;
	to[4] = (unsigned char) flags;
	to[5] = (unsigned char) (stream >> 24);
	to[6] = (unsigned char) (stream >> 16);
	to[7] = (unsigned char) (stream >> 8);
	to[8] = (unsigned char) stream;
	if (length > 0)
		memcpy(to + FRAME_HEADER_BYTES, payload, length);
	return FRAME_HEADER_BYTES + length;
}

static void
start_put(Run *run, Client *client)
{
	unsigned char request[REQUEST_BYTES];
	unsigned char part[REQUEST_BYTES];
	size_t		length;
	size_t		message;

	client->stream = client->stream == 0 ? 1 : client->stream + 2;
	client->got_message = false;
	length = put_frame(request, FRAME_HEADERS, FLAG_END_HEADERS, client->stream,
					   part, encode_headers(part));
	message = encode_message(run, part);
	length += put_frame(request + length, FRAME_DATA, FLAG_END_STREAM, client->stream,
						part, message);

	/* the server returns what it has read long before this can happen */
	client->window -= (long) message;
	if (client->window < 0)
	{
		fprintf(stderr, "etcd_put: the server's flow control window is used up\n");
		exit(1);
	}
	client->started_us = now_us();
	send_all(client, request, length);
}

/* HPACK without its dynamic table: RFC 7541, indexed names, plain values. */
static size_t
encode_headers(unsigned char *to)
{
	static const char path[] = "/etcdserverpb.KV/Put";
	static const struct
	{
		const char *name;
		const char *value;
	}			others[] = {
		{"content-type", "application/grpc"}, {"te", "trailers"}
	};
	size_t		n = 0;
	size_t		i;

	to[n++] = 0x83;				/* :method POST */
	to[n++] = 0x86;				/* :scheme http */
	to[n++] = 0x04;				/* :path */
	n += put_length(to + n, sizeof(path) - 1);
	memcpy(to + n, path, sizeof(path) - 1);
	n += sizeof(path) - 1;
	to[n++] = 0x01;				/* :authority */
	n += put_length(to + n, 4);
	memcpy(to + n, "etcd", 4);
	n += 4;
	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++)
	{
		size_t		name = strlen(others[i].name);
		size_t		value = strlen(others[i].value);

		to[n++] = 0x00;
		n += put_length(to + n, name);
		memcpy(to + n, others[i].name, name);
		n += name;
		n += put_length(to + n, value);
		memcpy(to + n, others[i].value, value);
		n += value;
	}
	return n;
}

/* PutRequest{key = 1, value = 2} behind gRPC's five bytes. */
static size_t
encode_message(Run *run, unsigned char *to)
{
	char		key[32];
	size_t		key_length;
	size_t		n = 5;

	key_length = (size_t) snprintf(key, sizeof(key), "key-%ld",
								   1 + (long) rand_r(&run->seed) % run->keys);
	to[n++] = 0x0a;
	n += put_length(to + n, key_length);
	memcpy(to + n, key, key_length);
	n += key_length;
	to[n++] = 0x12;
	n += put_length(to + n, run->value_bytes);
	memset(to + n, 'v', run->value_bytes);
	n += run->value_bytes;

	to[0] = 0;					/* not compressed */
	to[1] = 0;
	to[2] = (unsigned char) ((n - 5) >> 16);
	to[3] = (unsigned char) ((n - 5) >> 8);
	to[4] = (unsigned char) (n - 5);
	return n;
}

/* A base-128 number; for HPACK all our lengths are below 127. */
static size_t
put_length(unsigned char *to, size_t length)
{
	size_t		n = 0;

	while (length >= 0x80)
	{
		to[n++] = (unsigned char) (length & 0x7f) | 0x80;
		length >>= 7;
	}
	to[n++] = (unsigned char) length;
	return n;
}

static void
read_client(Run *run, Client *client)
{
	size_t		at = 0;
	ssize_t		n = recv(client->fd, client->buffer + client->have,
						 BUFFER_BYTES - client->have, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		fail("recv");
	client->have += (size_t) n;
	while (client->have - at >= FRAME_HEADER_BYTES)
	{
		const unsigned char *frame = client->buffer + at;
		size_t		length = ((size_t) frame[0] << 16) | ((size_t) frame[1] << 8) | frame[2];

		if (length + FRAME_HEADER_BYTES > BUFFER_BYTES)
		{
			fprintf(stderr, "etcd_put: frame of %zu bytes\n", length);
			exit(1);
		}
		if (client->have - at < FRAME_HEADER_BYTES + length)
			break;
		take_frame(run, client, frame, length);
		at += FRAME_HEADER_BYTES + length;
	}
	memmove(client->buffer, client->buffer + at, client->have - at);
	client->have -= at;
}

static void
take_frame(Run *run, Client *client, const unsigned char *frame, size_t length)
{
	const unsigned char *payload = frame + FRAME_HEADER_BYTES;
	unsigned char answer[64];
	int			flags = frame[4];

	switch (frame[3])
	{
		case FRAME_SETTINGS:
			if ((flags & FLAG_ACK) == 0)
				send_all(client, answer,
						 put_frame(answer, FRAME_SETTINGS, FLAG_ACK, 0, NULL, 0));
			break;
		case FRAME_PING:
			if ((flags & FLAG_ACK) == 0 && length == 8)
				send_all(client, answer,
						 put_frame(answer, FRAME_PING, FLAG_ACK, 0, payload, 8));
			break;
		case FRAME_WINDOW_UPDATE:
			/* stream windows are never used up by one message each */
			if (length == 4 && (frame[5] | frame[6] | frame[7] | frame[8]) == 0)
				client->window += (long) (((unsigned long) (payload[0] & 0x7f) << 24) |
										  ((unsigned long) payload[1] << 16) |
										  ((unsigned long) payload[2] << 8) | payload[3]);
			break;
		case FRAME_DATA:
			client->got_message = client->got_message || length >= 5;
			if (flags & FLAG_END_STREAM)
				finish_put(run, client);
			break;
		case FRAME_HEADERS:
			if (flags & FLAG_END_STREAM)
				finish_put(run, client);
			break;
		case FRAME_RST_STREAM:
		case FRAME_GOAWAY:
			fprintf(stderr, "etcd_put: etcd ended the request\n");
			exit(1);
		default:
			break;
	}
}

static void
finish_put(Run *run, Client *client)
{
	long		now = now_us();

	if (!client->got_message)
	{
		fprintf(stderr, "etcd_put: etcd refused a put\n");
		exit(1);
	}
	if (run->n_latencies == run->max_latencies)
	{
		run->max_latencies = run->max_latencies == 0 ? 65536 : 2 * run->max_latencies;
		run->latencies = realloc(run->latencies, run->max_latencies * sizeof(long));
		if (run->latencies == NULL)
			fail("realloc");
	}
	run->latencies[run->n_latencies++] = now - client->started_us;
	if (now < run->end_us)
		start_put(run, client);
}

static void
report(Run *run, long took_us)
{
	size_t		n = run->n_latencies;

	if (n == 0)
	{
		fprintf(stderr, "etcd_put: no put was answered\n");
		exit(1);
	}
	qsort(run->latencies, n, sizeof(long), compare_longs);
	printf("puts=%zu seconds=%.3f min_us=%ld p50_us=%ld p99_us=%ld max_us=%ld\n",
		   n, (double) took_us / 1e6, run->latencies[0], run->latencies[n / 2],
		   run->latencies[n - 1 - n / 100], run->latencies[n - 1]);
}

static int
compare_longs(const void *a, const void *b)
{
	long		left = *(const long *) a;
	long		right = *(const long *) b;

	return (left > right) - (left < right);
}
