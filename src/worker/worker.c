/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The "pgraft consensus" background worker: its start, its event loop, its
 *	  end.
 *
 * The loop sleeps until a socket, the latch (a request), the flush thread or
 * the engine's next deadline needs it.  It never waits for a disk or a peer.
 * Errors inside a turn end the worker with status 1: the postmaster starts it
 * again after a second and it goes on from what is durable.  A state that
 * cannot be trusted does not end it: it stays, as "failed", and tells why.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"

#include "pgraft/compat.h"
#include "pgraft/ha.h"
#include "pgraft/settings.h"
#include "pgraft/worker.h"

#define MAX_SLEEP_MS 1000
#define N_WAIT_EVENTS 4			/* latch, postmaster, network, flush thread */

PGDLLEXPORT void pgraft_consensus_main(Datum main_arg);

static void set_up_process(void);
static void worker_exit(int code, Datum arg);
static void event_loop(void);
static void one_turn(void);
static long sleep_time(void);
static void wait_for_events(void);
static void rebuild_wait_set(void);
static void show_state(void);

static PgraftNode node;
static WaitEventSet *wait_set = NULL;
static int	wait_net_fd = -1;	/* in wait_set */
static int	wait_flush_fd = -1;

void
pgraft_consensus_main(Datum main_arg)
{
	(void) main_arg;
	set_up_process();
	node.now = pgraft_monotonic_ms();
	node.state = PGRAFT_WORKER_STARTING;
	node.status.started_at = GetCurrentTimestamp();
	node.status.reset_at = node.status.started_at;
	pgraft_service_begin(&node);
	before_shmem_exit(worker_exit, (Datum) 0);
	pgraft_publish(&node, true);
	pgraft_node_begin(&node);
	pgraft_peers_open(&node);
	pgraft_publish(&node, true);
	pgraft_queue_attach_worker();
	event_loop();

	/* not 0, with which a worker that was terminated alone would stay away */
	proc_exit(1);
}

static void
set_up_process(void)
{
	/*
	 * The defaults of a background worker end it from inside the signal
	 * handler, which must not happen within OpenSSL or malloc.
	 */
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	(void) pgraft_dsa();
}

/* before_shmem_exit: nobody may wait for an answer that does not come. */
static void
worker_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	pgraft_queue_detach_worker(0, (Datum) 0);
	pgraft_service_fail_all(&node, "The consensus worker of this server ended.");
	pgraft_node_end(&node);
	memset(&node.status.raft, 0, sizeof(node.status.raft));
	node.status.worker_state = PGRAFT_WORKER_STOPPED;
	node.status.worker_pid = 0;
	node.status.store_loaded = false;
	pgraft_publish_status(&node.status);
	pgraft_wake_status_waiters();
}

static void
event_loop(void)
{
	MemoryContext turn_context = AllocSetContextCreate(TopMemoryContext, "pgraft turn",
													   ALLOCSET_DEFAULT_SIZES);

	MemoryContextSwitchTo(turn_context);
	while (!ShutdownRequestPending)
	{
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			pgraft_peers_reload(&node);
		}
		one_turn();
		MemoryContextReset(turn_context);
		if (!ShutdownRequestPending)
			wait_for_events();
	}
}

/*
 * Order: time first, then what arrived, then what follows from it; answers to
 * backends only after the status shows what they will look for.
 */
static void
one_turn(void)
{
	uint64		applied;

	node.status.loop_turns++;
	node.now = pgraft_monotonic_ms();
	pgraft_peers_open(&node);

	/* what is durable is said before the engine looks at how long it took */
	pgraft_turn_flushed(&node);
	if (node.raft != NULL)
		raft_tick(node.raft, node.now);
	if (node.net != NULL)
		pgraft_net_poll(node.net, node.now);
	if (node.state == PGRAFT_WORKER_FAILED && node.net != NULL)
	{
		/* peers must not take a member that does nothing for one that is there */
		pgraft_net_destroy(node.net);
		node.net = NULL;
	}

	do
	{
		pgraft_turn_updates(&node);

		/* a new leader whose primary is lost acts in the turn that elected it */
		pgraft_ha_step(&node);
		pgraft_turn_updates(&node);

		/* new proposals are on their way before answers wake their backends */
		pgraft_service_propose(&node);
		pgraft_turn_updates(&node);
		if (node.net != NULL)
			pgraft_net_flush(node.net);
		pgraft_publish(&node, false);
		applied = node.status.entries_applied;
		pgraft_service_step(&node);
		pgraft_turn_updates(&node);
		pgraft_peers_refresh(&node);
	} while (applied != node.status.entries_applied);

	if (node.net != NULL)
		pgraft_net_flush(node.net);
	pgraft_turn_housekeeping(&node);
	pgraft_turn_snapshot(&node);
	pgraft_publish(&node, false);
	show_state();
}

static long
sleep_time(void)
{
	raft_time	now = pgraft_monotonic_ms();
	raft_time	deadline = node.now + MAX_SLEEP_MS;

	if (pgraft_turn_snapshot_goes_on(&node))
		return 0;
	if (node.raft != NULL && !node.installing)
		deadline = Min(deadline, raft_next_deadline(node.raft));
	if (node.net != NULL)
		deadline = Min(deadline, pgraft_net_next_deadline(node.net));
	else if (pgraft_node_id != 0)
		deadline = Min(deadline, node.net_retry_at);
	deadline = Min(deadline, pgraft_service_deadline(&node));
	deadline = Min(deadline, pgraft_ha_deadline());
	return deadline > now ? (long) (deadline - now) : 0;
}

static void
wait_for_events(void)
{
	WaitEvent	events[N_WAIT_EVENTS];
	int			net_fd = node.net != NULL ? pgraft_net_fd(node.net) : -1;
	int			flush_fd = node.flush != NULL ? pgraft_flush_fd(node.flush) : -1;
	int			n;
	int			i;

	if (wait_set == NULL || net_fd != wait_net_fd || flush_fd != wait_flush_fd)
		rebuild_wait_set();
	n = WaitEventSetWait(wait_set, sleep_time(), events, N_WAIT_EVENTS, pgraft_wait_event());
	for (i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
}

/* Only when a descriptor appears or goes: rare. */
static void
rebuild_wait_set(void)
{
	if (wait_set != NULL)
		FreeWaitEventSet(wait_set);
	wait_set = pgraft_create_wait_event_set(N_WAIT_EVENTS);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	wait_net_fd = node.net != NULL ? pgraft_net_fd(node.net) : -1;
	wait_flush_fd = node.flush != NULL ? pgraft_flush_fd(node.flush) : -1;
	if (wait_net_fd >= 0)
		AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, wait_net_fd, NULL, NULL);
	if (wait_flush_fd >= 0)
		AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, wait_flush_fd, NULL, NULL);
}

/* What ps shows. */
static void
show_state(void)
{
	static int	shown_state = -1;
	static int	shown_raft = -1;
	static raft_term shown_term = 0;
	char		text[64];

	if (node.state == shown_state && node.status.raft.state == shown_raft &&
		node.status.raft.term == shown_term)
		return;
	shown_state = node.state;
	shown_raft = node.status.raft.state;
	shown_term = node.status.raft.term;
	if (node.raft != NULL)
		snprintf(text, sizeof(text), "member %d %s term %lu", pgraft_node_id,
				 raft_state_name(shown_raft), shown_term);
	else
		snprintf(text, sizeof(text), "member %d %s", pgraft_node_id,
				 pgraft_worker_state_name(shown_state));
	set_ps_display(text);
}
