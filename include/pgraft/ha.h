/*-------------------------------------------------------------------------
 *
 * ha.h
 *	  High availability of the PostgreSQL server itself: what the files of
 *	  src/ha, the consensus worker and the backends share.
 *
 * Active only with pgraft.mode = 'ha'.  Who does what:
 *
 *	postmaster		start.c: every start and every crash reinitialisation
 *					enters standby mode (shmem_startup_hook)
 *	consensus		document.c (applies), failover.c (the Raft leader decides
 *					when a new epoch begins), lease.c (renews the fence lease)
 *	"pgraft ha"		executor.c: brings this server to what the document wants:
 *					seal, report, promote, demote, sync_quorum.c
 *	walreceiver		seal.c: wrappers around WalReceiverFunctions
 *	every backend	fence.c (refuses on a primary without lease), guard.c (no
 *					false acknowledgement)
 *
 * Shared memory (PgraftHaShared) is zero after every (re)start, and zero means
 * fenced and sealed.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_HA_H
#define PGRAFT_HA_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "pgraft/ha_document.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/spin.h"

/* What this server is doing, as its "pgraft ha" worker sees it. */
typedef enum PgraftHaRole
{
	PGRAFT_HA_ROLE_STARTING = 0,	/* nothing known yet: fenced and sealed */
	PGRAFT_HA_ROLE_STANDBY,		/* follows, or waits for somebody to follow */
	PGRAFT_HA_ROLE_SEALED,		/* acknowledges nothing, has reported or will */
	PGRAFT_HA_ROLE_PROMOTING,
	PGRAFT_HA_ROLE_PRIMARY,
	PGRAFT_HA_ROLE_DEMOTING,
	PGRAFT_HA_ROLE_REWIND,		/* stopped following: must be rewound or cloned */
	PGRAFT_HA_ROLE_FAILED		/* see failure */
} PgraftHaRole;

extern const char *pgraft_ha_role_name(int role);

typedef struct PgraftHaLocal
{
	int			role;			/* PgraftHaRole */
	int			worker_pid;		/* of "pgraft ha"; 0 = none */
	uint64		promoted_epoch; /* of which this server is the promoted primary */
	uint64		wal_epoch;		/* epoch and tag of the primary whose WAL it has */
	uint64		wal_tag;
	uint32		timeline;
	uint64		lsn;			/* newest durable WAL, 0 = not known yet */
	bool		lsn_known;
	uint64		sync_generation;	/* of the document, in force here */
	TimestampTz role_since;
	char		action[128];	/* what it is doing or waiting for; "" = nothing */
	char		failure[256];
} PgraftHaLocal;

typedef struct PgraftHaShared
{
	/* the document: written by the consensus worker, versioned like the status */
	pg_atomic_uint32 document_version;
	PgraftHaDocument document;
	int			document_loaded;	/* boolean: applied up to what was committed
									 * when the worker started */

	/* this server: written by "pgraft ha" */
	pg_atomic_uint32 local_version;
	PgraftHaLocal local;

	/*
	 * The fence.  Writes (and reads of tables) on a server that is not in
	 * recovery are allowed while CLOCK_BOOTTIME, in microseconds, is below
	 * fence_until.  Consensus worker: the only one that raises it.  Anybody may
	 * set it to 0.  fence_epoch: for which epoch.
	 */
	pg_atomic_uint64 fence_until;
	pg_atomic_uint64 fence_epoch;

	/*
	 * The seal.  The walreceiver may connect, receive and acknowledge only
	 * while open_epoch != 0; it received its upstream's address together with
	 * it.  Sealing = open_epoch := 0, full barrier; then the position is read
	 * once the receiver is gone.  Written by "pgraft ha"; the consensus worker
	 * sets it to 0 as soon as it applies a new epoch.
	 */
	pg_atomic_uint64 open_epoch;
	pg_atomic_uint32 waiting_receiver;	/* pid of the walreceiver that waits for an
										 * open epoch; 0 = none.  Everything in
										 * pg_wal is replayed then */
	slock_t		upstream_lock;	/* spinlock over the next two */
	char		upstream_host[PGRAFT_HA_HOST_SIZE];
	uint32		upstream_port;

	/* first WAL of open_epoch was received: wal_epoch may be recorded */
	pg_atomic_uint64 received_epoch;

	Latch	   *ha_latch;		/* of "pgraft ha"; NULL = none; consensus worker
								 * and backends set it */
	slock_t		latch_lock;
	pg_atomic_uint64 guarded;	/* false acknowledgements that guard.c prevented */
	pg_atomic_uint64 refused;	/* statements and commits that the fence refused */
} PgraftHaShared;

extern PgraftHaShared *pgraft_ha_shared;	/* NULL: not in HA mode */

/* ---- settings.c ---- */
extern bool pgraft_ha_mode;		/* pgraft.mode = 'ha', fixed at start */
extern int	pgraft_synchronous_standbys;	/* wanted k */
extern int	pgraft_synchronous_mode;	/* PgraftHaSyncMode */
extern int	pgraft_maximum_lag; /* bytes, of mode async */
extern int	pgraft_failover_priority;
extern char *pgraft_postgres_address;	/* "" = pgraft.address */
extern char *pgraft_on_role_change; /* "" = none */
extern int	pgraft_on_role_change_timeout;	/* ms */
extern void pgraft_ha_define_settings(void);
extern void pgraft_ha_apply_settings(void);
/* Whether pgraft.developer_disable names "seal", "fence", "guard", "standby", "sync". */
extern bool pgraft_ha_disabled(const char *mechanism);
/* Whether pgraft.developer_pause_at names this step, which must then not be taken
 * now; says so in the log once. */
extern bool pgraft_ha_pauses_at(const char *step);

/* ---- shared.c ---- */
extern void pgraft_ha_read_document(PgraftHaDocument *document);
extern void pgraft_ha_read_local(PgraftHaLocal *local);
extern void pgraft_ha_publish_document(const PgraftHaDocument *document, bool loaded);
extern void pgraft_ha_publish_local(const PgraftHaLocal *local);
extern void pgraft_ha_wake_executor(void);
extern int64 pgraft_boottime_us(void);	/* CLOCK_BOOTTIME */
extern int64 pgraft_unix_us(void);	/* for the commands' times */

/* ---- _PG_init, in the postmaster ---- */
extern bool pgraft_ha_init(void);	/* settings have been read: hooks, wrappers,
									 * callbacks; false and nothing when not in HA
									 * mode, else the "pgraft ha" worker is due */

/* ---- local_state.c: a file of the consensus directory; palloc'd ---- */
extern char *pgraft_ha_path(const char *name);

/* ---- start.c: shmem_startup_hook in the postmaster ---- */
extern void pgraft_ha_force_standby(void);
/*
 * First segments of timelines that end before these begin, from the segment of
 * that position on; nobody may receive now.
 */
extern void pgraft_ha_set_segments_aside(XLogRecPtr from);
/* Exists from before a promotion until the checkpoint after it; palloc'd path. */
extern char *pgraft_ha_promotion_marker(void);

/* ---- consensus worker ---- */
struct PgraftNode;
extern void pgraft_ha_state_reset(void);
/* Applies an encoded command (the value of PGRAFT_COMMAND_HA). */
extern void pgraft_ha_state_apply(const unsigned char *data, size_t length, uint64 index,
								  uint64 *verdict);
extern size_t pgraft_ha_state_save(unsigned char *buffer);	/* DOCUMENT_MAX bytes */
extern bool pgraft_ha_state_load(const unsigned char *data, size_t length);
extern uint64 pgraft_ha_state_digest(void);
/* Once per turn, after the updates: leader's decisions, lease. */
extern void pgraft_ha_step(struct PgraftNode *node);
extern raft_time pgraft_ha_deadline(void);

/* ---- hooks and wrappers, installed in the postmaster ---- */
extern void pgraft_ha_install_fence(void);
extern void pgraft_ha_install_guard(void);
extern void pgraft_ha_install_seal(void);

/* ---- fence.c ---- */
extern bool pgraft_ha_fenced(void); /* on a server that is not in recovery */
extern void pgraft_ha_fence_now(void);

/* ---- SQL and "pgraft ha": proposes through the request queue ---- */
/* Returns the PgraftHaVerdict; raises what pgraft_call() raises. */
extern int	pgraft_ha_propose(const PgraftHaCommand *command, int timeout_ms);

#endif							/* PGRAFT_HA_H */
