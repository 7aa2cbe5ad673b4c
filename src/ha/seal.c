/*-------------------------------------------------------------------------
 *
 * seal.c
 *	  The seal: a standby receives and acknowledges WAL only for the epoch that
 *	  is open, and from the server that was named with it.
 *
 * The walreceiver calls libpq through a table of functions, which this file
 * replaces in the postmaster by one that asks shared memory first
 * (pgraft_ha_shared->open_epoch).  So no configuration file has to be written
 * and read again before a standby follows another server, and none can let an
 * acknowledgement through.  Only the physical walreceiver is concerned; logical
 * replication uses the same table and passes.
 *
 * Why a position that was read after sealing is final: the receiver flushes,
 * publishes its position, asks whether it is still open, and then acknowledges.
 * Whoever sets open_epoch to 0 and reads afterwards sees at least what has been
 * acknowledged.
 *
 * When the position is known: the startup process starts a receiver only when it
 * has replayed everything that lies in pg_wal.  A receiver that waits in
 * connect_to_upstream() is therefore the proof that the replay position is the
 * end of the local WAL; before it nobody can tell.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/seal.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"

#include "pgraft/compat.h"
#include "pgraft/ha_executor.h"
#include "pgraft/settings.h"

#define WAIT_MS 5				/* between two looks at open_epoch */

static WalReceiverConn *connect_to_upstream(PGRAFT_WALRCV_CONNECT_PARAMETERS);
static bool start_streaming(WalReceiverConn *connection, const WalRcvStreamOptions *options);
static bool start_with_slot(WalReceiverConn *connection, const WalRcvStreamOptions *options);
static int	receive(WalReceiverConn *connection, char **buffer, pgsocket *wait_fd);
static void send_bytes(WalReceiverConn *connection, const char *buffer, int nbytes);
static uint64 wait_until_open(void);
static void check_open(void);
static void note_epoch(TimeLineID timeline);
static void stop_waiting(int code, Datum arg);
static pid_t walreceiver_pid(void);

static WalReceiverFunctionsType *original = NULL;
static WalReceiverFunctionsType wrapped;

/* in the walreceiver: for which epoch it connected */
static uint64 connected_epoch = 0;

void
pgraft_ha_install_seal(void)
{
	load_file("libpqwalreceiver", false);
	original = WalReceiverFunctions;
	wrapped = *original;
	wrapped.walrcv_connect = connect_to_upstream;
	wrapped.walrcv_startstreaming = start_streaming;
	wrapped.walrcv_receive = receive;
	wrapped.walrcv_send = send_bytes;
	WalReceiverFunctions = &wrapped;
}

/* ----------------------------------------------------------------
 * In the walreceiver
 * ----------------------------------------------------------------
 */

static WalReceiverConn *
connect_to_upstream(PGRAFT_WALRCV_CONNECT_PARAMETERS)
{
	char		name[RAFT_NAME_SIZE];
	char		host[PGRAFT_HA_HOST_SIZE];
	char	   *full;
	uint32		port;

	if (!pgraft_am_walreceiver() || pgraft_ha_shared == NULL)
		return (original->walrcv_connect) (PGRAFT_WALRCV_CONNECT_ARGUMENTS(conninfo));

	connected_epoch = wait_until_open();
	SpinLockAcquire(&pgraft_ha_shared->upstream_lock);
	strlcpy(host, pgraft_ha_shared->upstream_host, sizeof(host));
	port = pgraft_ha_shared->upstream_port;
	SpinLockRelease(&pgraft_ha_shared->upstream_lock);

	/* what comes later in a connection string wins */
	pgraft_own_name(name);
	full = psprintf("%s host='%s' port=%u application_name='%s'", conninfo, host, port, name);
	return (original->walrcv_connect) (PGRAFT_WALRCV_CONNECT_ARGUMENTS(full));
}

/* Not an error each 100 ms, which would fill the log while nobody leads. */
static uint64
wait_until_open(void)
{
	static bool registered = false;
	uint64		epoch;

	if (!registered)
		on_shmem_exit(stop_waiting, (Datum) 0);
	registered = true;
	pg_atomic_write_u32(&pgraft_ha_shared->waiting_receiver, (uint32) MyProcPid);
	pgraft_ha_wake_executor();
	while ((epoch = pg_atomic_read_u64(&pgraft_ha_shared->open_epoch)) == 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WAIT_MS,
						 pgraft_wait_event());
		ResetLatch(MyLatch);
		if (ShutdownRequestPending)
			proc_exit(1);
		CHECK_FOR_INTERRUPTS();
	}
	pg_atomic_write_u32(&pgraft_ha_shared->waiting_receiver, 0);
	pg_memory_barrier();
	return epoch;
}

static void
stop_waiting(int code, Datum arg)
{
	uint32		me = (uint32) MyProcPid;

	(void) code;
	(void) arg;
	(void) pg_atomic_compare_exchange_u32(&pgraft_ha_shared->waiting_receiver, &me, 0);
}

static void
check_open(void)
{
	if (!pgraft_am_walreceiver() || pgraft_ha_shared == NULL || pgraft_ha_disabled("seal") ||
		pg_atomic_read_u64(&pgraft_ha_shared->open_epoch) == connected_epoch)
		return;
	ereport(FATAL,
			(errcode(ERRCODE_ADMIN_SHUTDOWN),
			 errmsg("walreceiver ends: epoch %llu is over",
					(unsigned long long) connected_epoch)));
}

static bool
start_streaming(WalReceiverConn *connection, const WalRcvStreamOptions *options)
{
	check_open();
	if (!pgraft_am_walreceiver() || pgraft_ha_shared == NULL || options->logical)
		return (original->walrcv_startstreaming) (connection, options);
	note_epoch(options->proto.physical.startpointTLI);

	/* an administrator's own slot has its reasons */
	if (options->slotname != NULL)
		return (original->walrcv_startstreaming) (connection, options);
	return start_with_slot(connection, options);
}

/*
 * The slot may not be there yet, or be held by a connection that broke unseen
 * by the other side: a member must not be locked out by either, and streams
 * without it (slots.c).  What else is wrong shows itself in the second attempt.
 */
static bool
start_with_slot(WalReceiverConn *connection, const WalRcvStreamOptions *options)
{
	MemoryContext context = CurrentMemoryContext;
	WalRcvStreamOptions own = *options;
	char		name[NAMEDATALEN];
	volatile bool refused = false;
	volatile bool streams = false;

	pgraft_ha_slot_name((uint32) pgraft_node_id, name);
	own.slotname = name;
	PG_TRY();
	{
		streams = (original->walrcv_startstreaming) (connection, &own);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_PROTOCOL_VIOLATION)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		refused = true;
	}
	PG_END_TRY();
	if (!refused)
		return streams;
	ereport(DEBUG1,
			(errmsg_internal("pgraft: streams without the replication slot \"%s\"", name)));
	return (original->walrcv_startstreaming) (connection, options);
}

/*
 * Streaming begins on the timeline of the open epoch, so all WAL before its fork
 * is here: from now on what this server has is that epoch's.  On disk before the
 * first of it is acknowledged, or after a crash the member would pass for one
 * that has less.
 */
static void
note_epoch(TimeLineID timeline)
{
	PgraftHaDocument *document;
	const PgraftHaEpoch *entry;
	PgraftHaWal wal;

	if (pg_atomic_read_u64(&pgraft_ha_shared->received_epoch) == connected_epoch)
		return;
	document = palloc(sizeof(PgraftHaDocument));
	pgraft_ha_read_document(document);
	entry = pgraft_ha_find_epoch(document, connected_epoch);
	if (entry != NULL && entry->promoted && entry->timeline == timeline)
	{
		wal.epoch = connected_epoch;
		wal.tag = entry->tag;
		wal.timeline = timeline;
		pgraft_ha_write_wal(&wal);
		pg_atomic_write_u64(&pgraft_ha_shared->received_epoch, connected_epoch);
	}
	pfree(document);
}

static int
receive(WalReceiverConn *connection, char **buffer, pgsocket *wait_fd)
{
	check_open();
	return (original->walrcv_receive) (connection, buffer, wait_fd);
}

static void
send_bytes(WalReceiverConn *connection, const char *buffer, int nbytes)
{
	check_open();
	(original->walrcv_send) (connection, buffer, nbytes);
}

/* ----------------------------------------------------------------
 * In "pgraft ha"
 * ----------------------------------------------------------------
 */

/* 0 = none */
static pid_t
walreceiver_pid(void)
{
	pid_t		pid;

	SpinLockAcquire(&WalRcv->mutex);
	pid = WalRcv->pid;
	SpinLockRelease(&WalRcv->mutex);
	return pid;
}

bool
pgraft_ha_receives(void)
{
	pid_t		receiver;
	bool		streams;

	SpinLockAcquire(&WalRcv->mutex);
	receiver = WalRcv->pid;
	streams = WalRcv->walRcvState == WALRCV_STREAMING && WalRcv->ready_to_display;
	SpinLockRelease(&WalRcv->mutex);
	return receiver != 0 && streams &&
		pg_atomic_read_u64(&pgraft_ha_shared->open_epoch) != 0 &&
		(pid_t) pg_atomic_read_u32(&pgraft_ha_shared->waiting_receiver) != receiver;
}

bool
pgraft_ha_seal(XLogRecPtr *lsn, TimeLineID *timeline)
{
	pid_t		receiver;
	pid_t		waiting;

	pg_atomic_write_u64(&pgraft_ha_shared->open_epoch, 0);
	pg_memory_barrier();
	receiver = walreceiver_pid();
	waiting = (pid_t) pg_atomic_read_u32(&pgraft_ha_shared->waiting_receiver);
	if (waiting != 0 && waiting == receiver)
	{
		*lsn = GetXLogReplayRecPtr(timeline);
		return true;
	}
	if (receiver != 0 && waiting != receiver && pgraft_ha_disabled("seal"))
	{
		/* what the test of the seal shows to be wrong */
		*lsn = GetWalRcvFlushRecPtr(NULL, timeline);
		return true;
	}
	if (receiver != 0)
		(void) kill(receiver, SIGTERM);

	/* the startup process would wait before it starts the next one */
	WakeupRecovery();
	return false;
}

void
pgraft_ha_open(uint64 epoch, const char *host, uint32 port)
{
	SpinLockAcquire(&pgraft_ha_shared->upstream_lock);
	strlcpy(pgraft_ha_shared->upstream_host, host, PGRAFT_HA_HOST_SIZE);
	pgraft_ha_shared->upstream_port = port;
	SpinLockRelease(&pgraft_ha_shared->upstream_lock);
	pg_memory_barrier();
	pg_atomic_write_u64(&pgraft_ha_shared->open_epoch, epoch);
	WakeupRecovery();
}
