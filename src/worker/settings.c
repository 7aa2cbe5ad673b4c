/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  Definitions of the pgraft.* configuration parameters.
 *
 * Runs in the postmaster while the library is preloaded; later only the check
 * hooks run, in any process.  Combinations of several settings are checked in
 * check_combinations(), once all of them have their values.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "pgraft/ha.h"
#include "pgraft/raft.h"
#include "pgraft/settings.h"

static void check_combinations(void);
static void check_data_directory(void);
static bool check_address(char **newval, void **extra, GucSource source);
static bool check_name(char **newval, void **extra, GucSource source);
static bool check_text(const char *value, size_t size, bool allow_space);

char	   *pgraft_cluster_id = NULL;
int			pgraft_node_id = 0;
char	   *pgraft_name = NULL;
char	   *pgraft_address = NULL;
int			pgraft_port = 7001;
char	   *pgraft_listen_address = NULL;
char	   *pgraft_initial_cluster = NULL;
char	   *pgraft_data_dir = NULL;
int			pgraft_election_timeout = 1000;
int			pgraft_heartbeat_interval = 100;
int			pgraft_max_log_entries = 10000;
int			pgraft_snapshot_interval = 10000;
int			pgraft_batch_size = 256;
int			pgraft_max_entry_size = 1024;
int			pgraft_cache_size = 4096;
int			pgraft_request_timeout = 5000;
int			pgraft_max_requests = 256;
bool		pgraft_fast_detection = true;
char	   *pgraft_ssl_cert_file = NULL;
char	   *pgraft_ssl_key_file = NULL;
char	   *pgraft_ssl_ca_file = NULL;
char	   *pgraft_ssl_crl_file = NULL;

static void
define_identity_settings(void)
{
	DefineCustomStringVariable("pgraft.cluster_id",
							   "Sets the name of the cluster that this member belongs to.",
							   "Members of clusters with different names refuse each other.",
							   &pgraft_cluster_id,
							   "pgraft",
							   PGC_POSTMASTER, 0,
							   check_name, NULL, NULL);
	DefineCustomIntVariable("pgraft.node_id",
							"Sets the number of this member, unique in its cluster.",
							"If set to zero, this server takes no part in any cluster.",
							&pgraft_node_id,
							0, INT_MIN, INT_MAX,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.name",
							   "Sets the name of this member, which its certificate must bear.",
							   "If empty, the name is \"node\" followed by pgraft.node_id.",
							   &pgraft_name,
							   "",
							   PGC_POSTMASTER, 0,
							   check_name, NULL, NULL);
	DefineCustomStringVariable("pgraft.address",
							   "Sets the host name or address under which other members reach this one.",
							   NULL,
							   &pgraft_address,
							   "127.0.0.1",
							   PGC_POSTMASTER, 0,
							   check_address, NULL, NULL);
	DefineCustomIntVariable("pgraft.port",
							"Sets the TCP port on which this member listens for other members.",
							NULL,
							&pgraft_port,
							7001, INT_MIN, INT_MAX,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.listen_address",
							   "Sets the addresses on which this member listens for other members.",
							   "A comma-separated list; \"*\" means all.  If empty, pgraft.address is used.",
							   &pgraft_listen_address,
							   "",
							   PGC_POSTMASTER, 0,
							   check_address, NULL, NULL);
	DefineCustomStringVariable("pgraft.initial_cluster",
							   "Lists the members that pgraft_init() makes a cluster of.",
							   "The form is name1=host:port,name2=host:port; the nth has node id n.  If empty, pgraft_init() makes a cluster of this member alone.",
							   &pgraft_initial_cluster,
							   "",
							   PGC_POSTMASTER, 0,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.data_dir",
							   "Sets the directory of the consensus log and snapshots.",
							   "It must be outside the data directory.  If empty, it is the data directory's path with \".pgraft\" appended.",
							   &pgraft_data_dir,
							   "",
							   PGC_POSTMASTER, 0,
							   NULL, NULL, NULL);
}

static void
define_timing_settings(void)
{
	DefineCustomIntVariable("pgraft.election_timeout",
							"Sets the longest silence of the leader before a follower calls an election.",
							"A follower waits for a random time between half of this and this.",
							&pgraft_election_timeout,
							1000, 50, 600000,
							PGC_POSTMASTER, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.heartbeat_interval",
							"Sets the time between two heartbeats of the leader.",
							"It must be at most a third of pgraft.election_timeout.",
							&pgraft_heartbeat_interval,
							100, 5, 200000,
							PGC_POSTMASTER, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.request_timeout",
							"Sets how long a pgraft function waits for the cluster's answer.",
							NULL,
							&pgraft_request_timeout,
							5000, 10, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("pgraft.fast_detection",
							 "Takes a broken and then refused connection to the leader as a sign of its death.",
							 "If off, only silence for pgraft.election_timeout counts.",
							 &pgraft_fast_detection,
							 true,
							 PGC_POSTMASTER, 0,
							 NULL, NULL, NULL);
}

static void
define_log_settings(void)
{
	DefineCustomIntVariable("pgraft.max_log_entries",
							"Sets how many log entries are kept behind a snapshot.",
							"Members that lag by more than this catch up through a snapshot.",
							&pgraft_max_log_entries,
							10000, 0, INT_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.snapshot_interval",
							"Sets how many entries are applied between two snapshots.",
							NULL,
							&pgraft_snapshot_interval,
							10000, 10, INT_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.batch_size",
							"Sets how many commands are proposed together.",
							NULL,
							&pgraft_batch_size,
							256, 1, PGRAFT_BATCH_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.max_entry_size",
							"Sets the largest command that is accepted.",
							"It must be the same on all members.",
							&pgraft_max_entry_size,
							1024, 16, 16 * 1024,
							PGC_POSTMASTER, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.cache_size",
							"Sets the memory for log entries that are kept ready for other members.",
							"It must be at least twice pgraft.max_entry_size.",
							&pgraft_cache_size,
							4096, 64, 1024 * 1024,
							PGC_POSTMASTER, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.max_requests",
							"Sets how many sessions can wait for the cluster's answer at once.",
							NULL,
							&pgraft_max_requests,
							256, 8, 32768,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
}

static void
define_tls_settings(void)
{
	DefineCustomStringVariable("pgraft.ssl_cert_file",
							   "Sets the file with this member's certificate.",
							   "Without certificates, members talk over loopback addresses only.",
							   &pgraft_ssl_cert_file,
							   "",
							   PGC_SIGHUP, 0,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.ssl_key_file",
							   "Sets the file with the private key of this member's certificate.",
							   NULL,
							   &pgraft_ssl_key_file,
							   "",
							   PGC_SIGHUP, 0,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.ssl_ca_file",
							   "Sets the file with the authority that signs the members' certificates.",
							   NULL,
							   &pgraft_ssl_ca_file,
							   "",
							   PGC_SIGHUP, 0,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.ssl_crl_file",
							   "Sets the file with the list of revoked certificates.",
							   NULL,
							   &pgraft_ssl_crl_file,
							   "",
							   PGC_SIGHUP, 0,
							   NULL, NULL, NULL);
}

/*
 * Called from _PG_init while preloading.  Raises an error, which keeps the
 * postmaster from starting, when settings contradict each other.
 */
void
pgraft_define_settings(void)
{
	define_identity_settings();
	define_timing_settings();
	define_log_settings();
	define_tls_settings();
	pgraft_ha_define_settings();
	MarkGUCPrefixReserved("pgraft");
	check_combinations();
	pgraft_ha_apply_settings();
}

static void
check_combinations(void)
{
	bool		cert = pgraft_ssl_cert_file[0] != '\0';
	bool		key = pgraft_ssl_key_file[0] != '\0';
	bool		ca = pgraft_ssl_ca_file[0] != '\0';

	/*
	 * A value outside a range given to DefineCustomIntVariable() would be
	 * answered with a warning and the default: another member's id or port.
	 */
	if (pgraft_node_id < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"pgraft.node_id\": %d", pgraft_node_id),
				 errhint("Set it to a number from 1 on that no other member has, or to 0 to take no part.")));
	if (pgraft_port < 1 || pgraft_port > 65535)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"pgraft.port\": %d", pgraft_port),
				 errhint("Valid ports are 1 to 65535.")));
	if (pgraft_heartbeat_interval > pgraft_election_timeout / 3)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pgraft.heartbeat_interval\" (%d ms) must be at most a third of \"pgraft.election_timeout\" (%d ms)",
						pgraft_heartbeat_interval, pgraft_election_timeout),
				 errhint("Set \"pgraft.heartbeat_interval\" to %d ms or less, or raise \"pgraft.election_timeout\".",
						 pgraft_election_timeout / 3)));
	if (pgraft_cache_size / 2 < pgraft_max_entry_size)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pgraft.cache_size\" (%d kB) must be at least twice \"pgraft.max_entry_size\" (%d kB)",
						pgraft_cache_size, pgraft_max_entry_size),
				 errhint("Raise \"pgraft.cache_size\" or lower \"pgraft.max_entry_size\".")));
	if (cert != key || cert != ca)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pgraft.ssl_cert_file\", \"pgraft.ssl_key_file\" and \"pgraft.ssl_ca_file\" must be set together"),
				 errhint("Set all three for mutual TLS, or none for loopback addresses only.")));
	check_data_directory();
}

/*
 * pg_basebackup would copy, and pg_rewind overwrite, an identity inside the
 * data directory; both make two servers claim to be one member.
 */
static void
check_data_directory(void)
{
	char		data[MAXPGPATH];
	char		storage[MAXPGPATH];
	char		real[PATH_MAX];

	if (DataDir == NULL || pgraft_data_dir[0] == '\0')
		return;
	if (!is_absolute_path(pgraft_data_dir))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pgraft.data_dir\" must be an absolute path"),
				 errhint("The directory is made when it is missing; its parent must exist.")));
	strlcpy(data, realpath(DataDir, real) ? real : DataDir, sizeof(data));
	strlcpy(storage, realpath(pgraft_data_dir, real) ? real : pgraft_data_dir,
			sizeof(storage));
	canonicalize_path(data);
	canonicalize_path(storage);
	if (strcmp(data, storage) == 0 || path_is_prefix_of_path(data, storage))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pgraft.data_dir\" (\"%s\") must be outside the data directory \"%s\"",
						pgraft_data_dir, DataDir),
				 errdetail("A base backup would copy the member's identity."),
				 errhint("Leave \"pgraft.data_dir\" empty to use \"%s.pgraft\".", DataDir)));
}

void
pgraft_own_name(char *buffer)
{
	if (pgraft_name[0] != '\0')
		strlcpy(buffer, pgraft_name, RAFT_NAME_SIZE);
	else
		snprintf(buffer, RAFT_NAME_SIZE, "node%d", pgraft_node_id);
}

char *
pgraft_storage_directory(void)
{
	if (pgraft_data_dir[0] != '\0')
		return pstrdup(pgraft_data_dir);
	return psprintf("%s.pgraft", DataDir);
}

static bool
check_address(char **newval, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	return check_text(*newval, RAFT_ADDRESS_SIZE, true);
}

static bool
check_name(char **newval, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	return check_text(*newval, RAFT_NAME_SIZE, false);
}

static bool
check_text(const char *value, size_t size, bool allow_space)
{
	const char *p;

	if (strlen(value) >= size)
	{
		GUC_check_errdetail("The value must be shorter than %zu bytes.", size);
		return false;
	}
	for (p = value; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f || (*p == ' ' && !allow_space))
		{
			GUC_check_errdetail("The value contains a blank or a control character.");
			return false;
		}
	}
	return true;
}
