/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Differences between PostgreSQL 15, 16, 17 and 18.  No other file may
 *	  test PG_VERSION_NUM (make lint checks that).  Wrappers have the newest
 *	  signature; each says what changed and when.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGRAFT_COMPAT_H
#define PGRAFT_COMPAT_H

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "pgraft supports PostgreSQL 15 to 18"
#endif

/* 16 split the varlena macros out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/*
 * 17 replaced the memory context argument of CreateWaitEventSet() with a
 * resource owner, where NULL means "until freed".
 */
#if PG_VERSION_NUM >= 170000
#define pgraft_create_wait_event_set(n) CreateWaitEventSet(NULL, (n))
#else
#define pgraft_create_wait_event_set(n) CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* 17 added a copy function to dshash_parameters. */
#if PG_VERSION_NUM >= 170000
#define pgraft_dshash_set_copy(parameters, function) ((parameters).copy_function = (function))
#else
#define pgraft_dshash_set_copy(parameters, function) ((void) 0)
#endif

#include "utils/wait_event.h"

/*
 * 17 lets extensions name their wait events; before, all of them are
 * "Extension".  One name serves every wait of a backend for the cluster.
 */
static inline uint32
pgraft_wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 event = 0;

	if (event == 0)
		event = WaitEventExtensionNew("PgraftRequest");
	return event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

/*
 * 17 added dsa_get_total_size().  Before, nobody outside dsa.c can know; the
 * fallback is what the caller has counted himself.
 */
#if PG_VERSION_NUM >= 170000
#define pgraft_dsa_total_size(area, fallback) ((void) (fallback), dsa_get_total_size(area))
#else
#define pgraft_dsa_total_size(area, fallback) ((void) (area), (fallback))
#endif

/*
 * 15.13, 16.9 and 17.5 replaced the flag sync_standbys_defined of WalSndCtl
 * with a set of bits.  Older minor releases may skip the synchronous wait
 * shortly after a start.  The includer includes walsender_private.h.
 */
#if PG_VERSION_NUM >= 170005 || \
	(PG_VERSION_NUM >= 160009 && PG_VERSION_NUM < 170000) || \
	(PG_VERSION_NUM >= 150013 && PG_VERSION_NUM < 160000)
#define pgraft_sync_standbys_defined() \
	((WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0)
#else
#define pgraft_sync_standbys_defined() (WalSndCtl->sync_standbys_defined)
#endif

/*
 * walrcv_connect: 16 added must_use_password before appname, 17 replication
 * before logical.  The includer includes walreceiver.h.
 */
#if PG_VERSION_NUM >= 170000
#define PGRAFT_WALRCV_CONNECT_PARAMETERS \
	const char *conninfo, bool replication, bool logical, bool must_use_password, \
	const char *appname, char **err
#define PGRAFT_WALRCV_CONNECT_ARGUMENTS(info) \
	(info), replication, logical, must_use_password, appname, err
#elif PG_VERSION_NUM >= 160000
#define PGRAFT_WALRCV_CONNECT_PARAMETERS \
	const char *conninfo, bool logical, bool must_use_password, const char *appname, char **err
#define PGRAFT_WALRCV_CONNECT_ARGUMENTS(info) (info), logical, must_use_password, appname, err
#else
#define PGRAFT_WALRCV_CONNECT_PARAMETERS \
	const char *conninfo, bool logical, const char *appname, char **err
#define PGRAFT_WALRCV_CONNECT_ARGUMENTS(info) (info), logical, appname, err
#endif

/* 17 has a type of backend for it instead of an auxiliary process type. */
#if PG_VERSION_NUM >= 170000
#define pgraft_am_walreceiver() (MyBackendType == B_WAL_RECEIVER)
#else
#define pgraft_am_walreceiver() AmWalReceiverProcess()
#endif

/*
 * Physical slots that last: 17 added failover and synced.  18 lets one acquire
 * an invalid slot; we do not.  The includer includes slot.h.
 */
#if PG_VERSION_NUM >= 170000
#define pgraft_create_physical_slot(name) \
	ReplicationSlotCreate((name), false, RS_PERSISTENT, false, false, false)
#else
#define pgraft_create_physical_slot(name) \
	ReplicationSlotCreate((name), false, RS_PERSISTENT, false)
#endif
#if PG_VERSION_NUM >= 180000
#define pgraft_acquire_slot(name) ReplicationSlotAcquire((name), true, true)
#else
#define pgraft_acquire_slot(name) ReplicationSlotAcquire((name), true)
#endif

/*
 * 16 replaced the function that takes one number for two things; the entry's
 * layout stayed.  The includer includes backend_status.h.
 */
#if PG_VERSION_NUM >= 160000
#define pgraft_local_beentry(i) pgstat_get_local_beentry_by_index(i)
#else
#define pgraft_local_beentry(i) pgstat_fetch_stat_local_beentry(i)
#endif

/* 18 has pg_noreturn in its place. */
#ifndef pg_attribute_noreturn
#define pg_attribute_noreturn() __attribute__((noreturn))
#endif

#endif							/* PGRAFT_COMPAT_H */
