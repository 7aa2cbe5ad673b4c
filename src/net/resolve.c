/*-------------------------------------------------------------------------
 *
 * resolve.c
 *	  Host names to addresses without holding up the loop: a helper thread
 *	  calls getaddrinfo().
 *
 * The loop's thread asks and takes answers; an eventfd in the loop's epoll set
 * says that an answer is there.  The thread has all signals blocked, touches
 * nothing but the queue below (under its mutex), and calls no function of
 * PostgreSQL.  It is started with the first question.
 *
 * A look-up can hang for half a minute.  Nobody waits for it: when the network
 * is closed meanwhile, the thread is left behind and frees the queue itself.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/net/resolve.c
 *
 *-------------------------------------------------------------------------
 */
#include "pgraft/platform.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net_internal.h"

#define MAX_QUESTIONS 128		/* a bound; peers ask one at a time */

typedef struct Question
{
	struct Question *next;
	char		host[RAFT_ADDRESS_SIZE];
	unsigned int port;
	PgraftResolution answer;
} Question;

struct PgraftResolver
{
	pthread_mutex_t mutex;		/* protects what follows */
	pthread_cond_t asked;
	Question   *questions;		/* oldest first */
	Question   *answered;
	int			n_questions;
	raft_u64	last_ticket;
	bool		busy;			/* the thread is in getaddrinfo() */
	bool		quit;
	bool		started;

	int			fd;				/* eventfd */
	pthread_t	thread;
};

static bool start_thread(PgraftResolver *resolver);
static void *resolver_main(void *argument);
static void free_resolver(PgraftResolver *resolver);
static void append(Question **list, Question *question);

PgraftResolver *
pgraft_resolver_create(void)
{
	PgraftResolver *resolver = calloc(1, sizeof(PgraftResolver));

	if (resolver == NULL)
		return NULL;
	resolver->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (resolver->fd < 0)
	{
		free(resolver);
		return NULL;
	}
	pthread_mutex_init(&resolver->mutex, NULL);
	pthread_cond_init(&resolver->asked, NULL);
	return resolver;
}

int
pgraft_resolver_fd(PgraftResolver *resolver)
{
	return resolver->fd;
}

/* Returns a ticket that the answer will bear, 0 when that is impossible now. */
raft_u64
pgraft_resolver_ask(PgraftResolver *resolver, const char *host, unsigned int port)
{
	Question   *question;
	raft_u64	ticket = 0;

	if (!resolver->started && !start_thread(resolver))
		return 0;
	question = calloc(1, sizeof(Question));
	if (question == NULL)
		return 0;
	strlcpy(question->host, host, sizeof(question->host));
	question->port = port;

	pthread_mutex_lock(&resolver->mutex);
	if (resolver->n_questions < MAX_QUESTIONS)
	{
		ticket = ++resolver->last_ticket;
		question->answer.ticket = ticket;
		append(&resolver->questions, question);
		resolver->n_questions++;
		pthread_cond_signal(&resolver->asked);
	}
	pthread_mutex_unlock(&resolver->mutex);
	if (ticket == 0)
		free(question);
	return ticket;
}

/* False: no more answers for now. */
bool
pgraft_resolver_take(PgraftResolver *resolver, PgraftResolution *resolution)
{
	Question   *question;
	uint64		count;

	pthread_mutex_lock(&resolver->mutex);
	question = resolver->answered;
	if (question != NULL)
	{
		resolver->answered = question->next;
		resolver->n_questions--;
	}
	else if (read(resolver->fd, &count, sizeof(count)) < 0)
	{
		/* nothing had been signalled, which is as good */
	}
	pthread_mutex_unlock(&resolver->mutex);
	if (question == NULL)
		return false;
	*resolution = question->answer;
	free(question);
	return true;
}

void
pgraft_resolver_destroy(PgraftResolver *resolver)
{
	bool		started;
	bool		busy;

	if (resolver == NULL)
		return;
	pthread_mutex_lock(&resolver->mutex);
	started = resolver->started;
	busy = resolver->busy;
	resolver->quit = true;
	if (busy)
		pthread_detach(resolver->thread);
	pthread_cond_signal(&resolver->asked);
	pthread_mutex_unlock(&resolver->mutex);

	/* a busy thread was detached and frees the resolver itself */
	if (busy)
		return;
	if (started)
		pthread_join(resolver->thread, NULL);
	free_resolver(resolver);
}

static bool
start_thread(PgraftResolver *resolver)
{
	sigset_t	all;
	sigset_t	before;

	/* the thread inherits the mask: it must never run a signal handler */
	sigfillset(&all);
	if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
		return false;
	resolver->started = pthread_create(&resolver->thread, NULL, resolver_main, resolver) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return resolver->started;
}

static void *
resolver_main(void *argument)
{
	PgraftResolver *resolver = argument;
	uint64		one = 1;
	bool		left_behind = false;

	pthread_mutex_lock(&resolver->mutex);
	while (!resolver->quit)
	{
		Question   *question = resolver->questions;

		if (question == NULL)
		{
			pthread_cond_wait(&resolver->asked, &resolver->mutex);
			continue;
		}
		resolver->questions = question->next;
		resolver->busy = true;
		pthread_mutex_unlock(&resolver->mutex);

		question->answer.error = pgraft_resolve_now(question->host, question->port, 0,
													question->answer.addresses, MAX_ADDRESSES,
													&question->answer.n_addresses);

		pthread_mutex_lock(&resolver->mutex);
		append(&resolver->answered, question);
		left_behind = resolver->quit;
		resolver->busy = false;
		if (write(resolver->fd, &one, sizeof(one)) < 0)
		{
			/* the counter is at its limit: it is readable anyway */
		}
	}
	pthread_mutex_unlock(&resolver->mutex);
	if (left_behind)
		free_resolver(resolver);
	return NULL;
}

static void
free_resolver(PgraftResolver *resolver)
{
	Question   *question;

	while ((question = resolver->questions) != NULL)
	{
		resolver->questions = question->next;
		free(question);
	}
	while ((question = resolver->answered) != NULL)
	{
		resolver->answered = question->next;
		free(question);
	}
	close(resolver->fd);
	pthread_mutex_destroy(&resolver->mutex);
	pthread_cond_destroy(&resolver->asked);
	free(resolver);
}

static void
append(Question **list, Question *question)
{
	question->next = NULL;
	while (*list != NULL)
		list = &(*list)->next;
	*list = question;
}

/*
 * Blocks unless flags has AI_NUMERICHOST.  host NULL with AI_PASSIVE: all
 * addresses of this machine.  Returns 0 or an EAI_* code.
 */
int
pgraft_resolve_now(const char *host, unsigned int port, int flags,
				   PgraftAddress *addresses, int max, int *n_addresses)
{
	struct addrinfo hints;
	struct addrinfo *list = NULL;
	struct addrinfo *item;
	int			result;

	*n_addresses = 0;
	memset(&hints, 0, sizeof(hints));
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = flags;

	/* without a service glibc demands a host; the port is put in below */
	result = getaddrinfo(host, host == NULL ? "0" : NULL, &hints, &list);
	if (result != 0)
		return result;
	for (item = list; item != NULL && *n_addresses < max; item = item->ai_next)
	{
		PgraftAddress *address = &addresses[*n_addresses];

		if (item->ai_addrlen > sizeof(address->addr))
			continue;
		memset(address, 0, sizeof(*address));
		memcpy(&address->addr, item->ai_addr, item->ai_addrlen);
		address->length = item->ai_addrlen;
		if (item->ai_family == AF_INET)
			((struct sockaddr_in *) &address->addr)->sin_port = htons((uint16) port);
		else if (item->ai_family == AF_INET6)
			((struct sockaddr_in6 *) &address->addr)->sin6_port = htons((uint16) port);
		else
			continue;
		(*n_addresses)++;
	}
	freeaddrinfo(list);
	return *n_addresses > 0 ? 0 : EAI_NONAME;
}
