/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  Settings of high availability, and PostgreSQL's own settings that it
 *	  stands on.
 *
 * Runs in the postmaster while the library is preloaded.  Values that a server
 * must have to fail over in time are set here for good (they win over every
 * file); those that only the administrator can choose are checked, and a
 * contradiction keeps the server from starting.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/ha/settings.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "pgraft/ha.h"
#include "pgraft/settings.h"

typedef enum PgraftMode
{
	PGRAFT_MODE_CONSENSUS,
	PGRAFT_MODE_HA
} PgraftMode;

static void override(const char *name, const char *value);
static bool check_disabled(char **newval, void **extra, GucSource source);
static bool check_pause_at(char **newval, void **extra, GucSource source);
static bool all_known(const char *list, const char *const *known, size_t n_known,
					  const char *what);
static bool names(const char *list, const char *name);

bool		pgraft_ha_mode = false;
int			pgraft_synchronous_standbys = 1;
int			pgraft_synchronous_mode = PGRAFT_HA_QUORUM;
int			pgraft_maximum_lag = 1024 * 1024;
int			pgraft_failover_priority = 0;
char	   *pgraft_postgres_address = NULL;
char	   *pgraft_on_role_change = NULL;
int			pgraft_on_role_change_timeout = 10000;

static int	mode = PGRAFT_MODE_CONSENSUS;
static char *developer_disable = NULL;
static char *developer_pause_at = NULL;

static const struct config_enum_entry modes[] = {
	{"consensus", PGRAFT_MODE_CONSENSUS, false},
	{"ha", PGRAFT_MODE_HA, false},
	{NULL, 0, false}
};

static const struct config_enum_entry synchronous_modes[] = {
	{"quorum", PGRAFT_HA_QUORUM, false},
	{"strict", PGRAFT_HA_STRICT, false},
	{"async", PGRAFT_HA_ASYNC, false},
	{NULL, 0, false}
};

/* What pgraft.developer_disable can name. */
static const char *const mechanisms[] = {"seal", "fence", "guard", "standby", "sync"};

/* What pgraft.developer_pause_at can name. */
static const char *const pauses[] = {
	"report", "follow", "promote", "promoted", "checkpoint", "drained", "demoted",
	"sync_begin", "sync_walsenders", "sync_end"
};

void
pgraft_ha_define_settings(void)
{
	DefineCustomEnumVariable("pgraft.mode",
							 "Sets whether pgraft also decides which server is the PostgreSQL primary.",
							 "With \"ha\", every start enters standby mode, and the cluster promotes one server.",
							 &mode,
							 PGRAFT_MODE_CONSENSUS, modes,
							 PGC_POSTMASTER, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.synchronous_standbys",
							"Sets how many standbys must have a transaction before its commit is acknowledged.",
							"With fewer standbys connected for longer than pgraft.election_timeout, the cluster asks for fewer.",
							&pgraft_synchronous_standbys,
							1, 0, RAFT_MAX_MEMBERS - 1,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomEnumVariable("pgraft.synchronous_mode",
							 "Sets what happens to commits when too few standbys are connected.",
							 "With \"quorum\", the cluster asks for fewer standbys; with \"strict\", commits wait; with \"async\", commits never wait, and a failover may lose some.  The primary's setting counts.",
							 &pgraft_synchronous_mode,
							 PGRAFT_HA_QUORUM, synchronous_modes,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.maximum_lag_on_failover",
							"Sets how much a member may lack of what the lost primary was last known to have, to replace it in mode async.",
							"The primary's setting counts.",
							&pgraft_maximum_lag,
							1024 * 1024, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_BYTE,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.failover_priority",
							"Sets which of several servers with the same WAL is preferred as the primary.",
							"The highest is; a server that has more WAL comes before it all the same.",
							&pgraft_failover_priority,
							0, 0, 1000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.postgres_address",
							   "Sets the host name or address under which standbys and clients reach this PostgreSQL server.",
							   "If empty, pgraft.address is used.",
							   &pgraft_postgres_address,
							   "",
							   PGC_POSTMASTER, 0,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.on_role_change",
							   "Sets a shell command that is run when the role of this server changes.",
							   "It finds the role in its environment as PGRAFT_ROLE: primary, standby, demoting or rewind.",
							   &pgraft_on_role_change,
							   "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.on_role_change_timeout",
							"Sets the time after which the command of pgraft.on_role_change is killed.",
							NULL,
							&pgraft_on_role_change_timeout,
							10000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.developer_disable",
							   "Switches off mechanisms that keep data safe, to test that each is needed.",
							   "A list of seal, fence, guard, standby, sync.  Never set it where data matters.",
							   &developer_disable,
							   "",
							   PGC_POSTMASTER, GUC_NOT_IN_SAMPLE | GUC_LIST_INPUT,
							   check_disabled, NULL, NULL);
	DefineCustomStringVariable("pgraft.developer_pause_at",
							   "Holds this server up before steps of a failover or of a change of the sync set, for tests.",
							   "A list of report, follow, promote, promoted, checkpoint, drained, demoted, sync_begin, sync_walsenders, sync_end.",
							   &developer_pause_at,
							   "",
							   PGC_SIGHUP, GUC_NOT_IN_SAMPLE | GUC_LIST_INPUT,
							   check_pause_at, NULL, NULL);
}

/* After the values are known. */
void
pgraft_ha_apply_settings(void)
{
	char		name[RAFT_NAME_SIZE];

	pgraft_ha_mode = (mode == PGRAFT_MODE_HA && pgraft_node_id != 0);
	if (mode == PGRAFT_MODE_HA && pgraft_node_id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pgraft.mode\" is \"ha\" but \"pgraft.node_id\" is not set"),
				 errhint("Set \"pgraft.node_id\" to a number from 1 on that no other member has.")));
	if (!pgraft_ha_mode)
		return;
	if (wal_level < WAL_LEVEL_REPLICA || max_wal_senders < 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pgraft.mode\" = \"ha\" needs \"wal_level\" = \"replica\" or \"logical\" and \"max_wal_senders\" of at least 2"),
				 errhint("Give \"max_wal_senders\" at least two for each member of the cluster.")));
	if (strlen(pgraft_postgres_address) >= PGRAFT_HA_HOST_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pgraft.postgres_address\" must be shorter than %d bytes",
						PGRAFT_HA_HOST_SIZE)));
	if (developer_disable[0] != '\0')
		ereport(WARNING,
				(errmsg("\"pgraft.developer_disable\" is set: acknowledged transactions can be lost")));

	/* demotion in place is a crash from which the server starts again by itself */
	override("restart_after_crash", "on");
	override("hot_standby", "on");

	/* a standby asks again so often for a primary that it can follow */
	override("wal_retrieve_retry_interval", "100");

	/* the pass over all files after a crash takes as long as there are files */
	override("recovery_init_sync_method", "syncfs");

	/* without any, no walreceiver is started; seal.c adds whom to follow */
	pgraft_own_name(name);
	if (PrimaryConnInfo == NULL || PrimaryConnInfo[0] == '\0')
		override("primary_conninfo", psprintf("application_name=%s", name));
}

static void
override(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_POSTMASTER, PGC_S_OVERRIDE);
}

bool
pgraft_ha_disabled(const char *mechanism)
{
	return names(developer_disable, mechanism);
}

bool
pgraft_ha_pauses_at(const char *step)
{
	static const char *told = NULL;

	if (!names(developer_pause_at, step))
	{
		if (told != NULL && strcmp(told, step) == 0)
			told = NULL;
		return false;
	}
	if (told == NULL || strcmp(told, step) != 0)
		ereport(LOG,
				(errmsg("pgraft pauses before the step \"%s\"", step)));
	told = step;
	return true;
}

static bool
names(const char *list, const char *name)
{
	char	   *copy;
	List	   *items;
	ListCell   *cell;
	bool		found = false;

	if (list == NULL || list[0] == '\0')
		return false;
	copy = pstrdup(list);
	if (SplitIdentifierString(copy, ',', &items))
		foreach(cell, items)
			found = found || strcmp((char *) lfirst(cell), name) == 0;
	pfree(copy);
	return found;
}

static bool
check_disabled(char **newval, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	return all_known(*newval, mechanisms, lengthof(mechanisms), "mechanism");
}

static bool
check_pause_at(char **newval, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	return all_known(*newval, pauses, lengthof(pauses), "step");
}

static bool
all_known(const char *list, const char *const *known, size_t n_known, const char *what)
{
	char	   *copy = pstrdup(list);
	List	   *items;
	ListCell   *cell;

	if (!SplitIdentifierString(copy, ',', &items))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	foreach(cell, items)
	{
		bool		found = false;
		size_t		i;

		for (i = 0; i < n_known; i++)
			found = found || strcmp(known[i], (char *) lfirst(cell)) == 0;
		if (!found)
		{
			GUC_check_errdetail("Unrecognized %s: \"%s\".", what, (char *) lfirst(cell));
			return false;
		}
	}
	return true;
}
