/*-------------------------------------------------------------------------
 *
 * init.c
 *	  Entry point of the library: settings, shared memory hooks, the worker.
 *
 * _PG_init runs in the postmaster when the library is preloaded.  It opens no
 * file and no socket: "postgres -C", single-user mode and pg_upgrade load it,
 * too.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"

#include "pgraft/ha.h"
#include "pgraft/request.h"
#include "pgraft/settings.h"
#include "pgraft/worker.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

static void register_worker(const char *name, const char *entry_point);

void
_PG_init(void)
{
	/*
	 * Without preloading there is no shared memory to talk to; the SQL
	 * functions say so themselves (pgraft_require_preloaded).
	 */
	if (!process_shared_preload_libraries_in_progress)
		return;

	pgraft_define_settings();

	/* single-user and "postgres -C" runs get the settings and nothing else */
	if (!IsPostmasterEnvironment || IsUnderPostmaster)
		return;

	pgraft_shmem_install_hooks();

	/* a server that pg_upgrade has started must not speak for the member */
	if (!IsBinaryUpgrade)
	{
		register_worker("pgraft consensus", "pgraft_consensus_main");
		if (pgraft_ha_init())
			register_worker("pgraft ha", "pgraft_ha_main");
	}
}

static void
register_worker(const char *name, const char *entry_point)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;

	/* a member votes, and a server follows, while it is in recovery */
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = 1;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "pgraft");
	strlcpy(worker.bgw_function_name, entry_point, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, name, BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
