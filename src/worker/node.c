/*-------------------------------------------------------------------------
 *
 * node.c
 *	  The member as a whole: opening what is on disk, making a new cluster,
 *	  joining one on invitation, ending.
 *
 * Called by the event loop only.  States:
 *
 *		blank		no storage, no engine; listens for an invitation
 *		running		storage, engine and flush thread exist
 *		removed		as running, but the cluster no longer counts this member
 *		failed		does nothing any more; node->failure says why
 *
 * What survives a crash at any point: pgraft_storage_create() makes identity
 * and first entries durable in one step, so a crash leaves either a blank
 * directory or a whole member.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "pgraft/settings.h"
#include "pgraft/state_machine.h"
#include "pgraft/worker.h"

#define STOP_PATIENCE_MS 1000	/* for a write that is under way */

static bool open_member(PgraftNode *node, PgraftError *error);
static bool create_engine(PgraftNode *node, PgraftError *error);
static bool no_space_yet(PgraftNode *node, const PgraftError *error);
static bool close_member(PgraftNode *node);
static bool check_identity(PgraftNode *node, const PgraftIdentity *identity,
						   PgraftError *error);
static bool initial_config(const PgraftNode *node, struct raft_config *config,
						   PgraftError *error);
static bool parse_initial_member(char *item, int number, struct raft_member *member,
								 PgraftError *error);
static void own_member(struct raft_member *member);
static void *engine_allocate(void *context, size_t size);
static void engine_release(void *context, void *pointer);
static void engine_assertion(void *context, const char *condition,
							 const char *file, int line);
static void engine_trace(void *context, const char *line);
static int	restore_snapshot(void *context, const struct raft_snapshot_meta *meta);
static int	restore_log_start(void *context, raft_index index, raft_term term);
static int	restore_hard_state(void *context, const struct raft_hard_state *state);
static int	restore_entry(void *context, const struct raft_entry *entry);
static int	restore_truncate(void *context, raft_index from);
static int	consume_snapshot(void *arg, const unsigned char *data, size_t length);

raft_u64
pgraft_random_u64(void)
{
	raft_u64	value;

	do
	{
		if (!pg_strong_random(&value, sizeof(value)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random number")));
	} while (value == 0);
	return value;
}

/* ereport()s what code below the worker found wrong. */
void
pgraft_report(int elevel, const PgraftError *error)
{
	static const int codes[] = {
		[PGRAFT_OK] = ERRCODE_SUCCESSFUL_COMPLETION,
		[PGRAFT_ERR_IO] = ERRCODE_IO_ERROR,
		[PGRAFT_ERR_NO_SPACE] = ERRCODE_DISK_FULL,
		[PGRAFT_ERR_CORRUPT] = ERRCODE_DATA_CORRUPTED,
		[PGRAFT_ERR_NOT_FOUND] = ERRCODE_UNDEFINED_FILE,
		[PGRAFT_ERR_IN_USE] = ERRCODE_OBJECT_IN_USE,
		[PGRAFT_ERR_CLONE] = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		[PGRAFT_ERR_MISMATCH] = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		[PGRAFT_ERR_CONFIG] = ERRCODE_CONFIG_FILE_ERROR,
		[PGRAFT_ERR_PROTOCOL] = ERRCODE_PROTOCOL_VIOLATION,
		[PGRAFT_ERR_AUTH] = ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
		[PGRAFT_ERR_NOMEM] = ERRCODE_OUT_OF_MEMORY,
		[PGRAFT_ERR_TOO_LARGE] = ERRCODE_PROGRAM_LIMIT_EXCEEDED,
		[PGRAFT_ERR_INTERNAL] = ERRCODE_INTERNAL_ERROR,
	};

	ereport(elevel,
			(errcode((unsigned) error->code < lengthof(codes) ?
					 codes[error->code] : ERRCODE_INTERNAL_ERROR),
			 errmsg("%s", error->message),
			 error->detail[0] != '\0' ? errdetail("%s", error->detail) : 0,
			 error->hint[0] != '\0' ? errhint("%s", error->hint) : 0));
}

/*
 * The end of this member's activity until somebody restarts the server: state
 * that cannot be trusted, a disk that failed, a broken invariant.
 */
void
pgraft_node_fail(PgraftNode *node, const PgraftError *error, const char *what)
{
	node->state = PGRAFT_WORKER_FAILED;
	node->open_again_at = 0;	/* whatever was to be tried again */
	snprintf(node->failure, sizeof(node->failure), "%s", error->message);
	pgraft_report(LOG, error);
	ereport(LOG,
			(errmsg("pgraft stopped taking part in the cluster: %s", what),
			 errhint("Other members go on without this one; its server keeps running.")));
	(void) close_member(node);
}

/*
 * Reads what is there.  Leaves the node blank, running or failed.  A disk
 * without space for what recovery has to write is tried again: see disk.c.
 */
void
pgraft_node_begin(PgraftNode *node)
{
	PgraftError error;
	PgraftErrorCode code;
	PgraftIdentity identity;

	memset(&error, 0, sizeof(error));
	node->state = PGRAFT_WORKER_BLANK;
	if (node->directory == NULL)
		node->directory = pgraft_storage_directory();
	pgraft_io_posix(&node->io);
	pgraft_storage_default_options(&node->storage_options);
	pgraft_state_reset();

	if (pgraft_node_id == 0)
	{
		strlcpy(node->failure, "\"pgraft.node_id\" is not set", sizeof(node->failure));
		return;
	}

	code = pgraft_storage_read_identity(&node->io, node->directory, &identity, &error);
	if (code == PGRAFT_ERR_NOT_FOUND)
	{
		ereport(LOG,
				(errmsg("pgraft member %d has no state yet, waiting for pgraft_init() or an invitation",
						pgraft_node_id)));
		return;
	}
	if (code != PGRAFT_OK)
	{
		pgraft_node_fail(node, &error, "its state cannot be used");
		return;
	}
	node->identity = identity;
	if (check_identity(node, &identity, &error) && open_member(node, &error))
	{
		node->open_again_at = 0;
		pgraft_remove_old_memberships(node);
	}
	else if (error.code == PGRAFT_ERR_NO_SPACE)
	{
		(void) close_member(node);
		pgraft_node_open_again(node, &error);
	}
	else
		pgraft_node_fail(node, &error, "its state cannot be used");
}

static bool
check_identity(PgraftNode *node, const PgraftIdentity *identity, PgraftError *error)
{
	if (identity->node_id != (raft_id) pgraft_node_id)
	{
		pgraft_error(error, PGRAFT_ERR_MISMATCH,
					 "directory \"%s\" belongs to member %u, but \"pgraft.node_id\" is %d",
					 node->directory, identity->node_id, pgraft_node_id);
		pgraft_error_hint(error, "Set \"pgraft.node_id\" back, or point \"pgraft.data_dir\" elsewhere.");
		return false;
	}
	if (strcmp(identity->cluster_id, pgraft_cluster_id) != 0)
	{
		pgraft_error(error, PGRAFT_ERR_MISMATCH,
					 "directory \"%s\" belongs to cluster \"%s\", but \"pgraft.cluster_id\" is \"%s\"",
					 node->directory, identity->cluster_id, pgraft_cluster_id);
		pgraft_error_hint(error, "Set \"pgraft.cluster_id\" back, or point \"pgraft.data_dir\" elsewhere.");
		return false;
	}
	return true;
}

/* ----------------------------------------------------------------
 * Opening
 * ----------------------------------------------------------------
 */

static bool
open_member(PgraftNode *node, PgraftError *error)
{
	PgraftRecovery recovery;
	PgraftStorageStats stats;

	/* the engine must exist before recovery feeds it */
	if (!create_engine(node, error))
		return false;

	memset(&recovery, 0, sizeof(recovery));
	recovery.context = node;
	recovery.snapshot = restore_snapshot;
	recovery.log_start = restore_log_start;
	recovery.hard_state = restore_hard_state;
	recovery.entry = restore_entry;
	recovery.truncate = restore_truncate;
	if (pgraft_storage_open(&node->io, node->directory, &node->storage_options, &recovery,
							&node->identity, &node->storage, error) != PGRAFT_OK)
		return false;
	if (!pgraft_node_load_snapshot(node, error))
		return false;
	node->flush = pgraft_flush_start(node->storage, error);
	if (node->flush == NULL)
		return false;

	if (raft_start(node->raft, node->now) != RAFT_OK)
	{
		pgraft_error(error, PGRAFT_ERR_CORRUPT,
					 "the log in directory \"%s\" contradicts itself", node->directory);
		return false;
	}
	pgraft_storage_stats(node->storage, &stats);
	ereport(LOG,
			(errmsg("pgraft member %u opened its log: entries %lu to %lu, snapshot at %lu, %lu bytes read in %lu ms",
					node->identity.node_id, stats.first_index, stats.last_index,
					stats.snapshot_index, stats.recovery_bytes,
					stats.recovery_us / 1000)));
	if (stats.torn_tails > 0)
		ereport(LOG,
				(errmsg("pgraft cut %lu bytes of an unfinished write off the end of its log",
						stats.torn_bytes)));
	node->state = PGRAFT_WORKER_RUNNING;
	node->failure[0] = '\0';
	node->join_full = false;
	node->notices = RAFT_NOTICE_STATE | RAFT_NOTICE_LEADER | RAFT_NOTICE_CONFIG;
	node->peers_changed = true;
	return true;
}

static bool
create_engine(PgraftNode *node, PgraftError *error)
{
	struct raft_params params;
	struct raft_allocator allocator;
	struct raft_callbacks callbacks;
	int			result;

	memset(&params, 0, sizeof(params));
	raft_params_default(&params);
	params.id = node->identity.node_id;
	params.incarnation = node->identity.incarnation;
	params.seed = pgraft_random_u64();
	params.election_timeout_ms = (raft_time) pgraft_election_timeout;
	params.heartbeat_interval_ms = (raft_time) pgraft_heartbeat_interval;
	params.fast_detection = pgraft_fast_detection;
	params.lease_reads = 0;
	params.max_entry_bytes = (size_t) pgraft_max_entry_size * 1024;
	params.cache_bytes = (size_t) pgraft_cache_size * 1024;
	if (params.max_uncommitted_bytes > params.cache_bytes / 2)
		params.max_uncommitted_bytes = params.cache_bytes / 2;
	if (params.max_uncommitted_bytes < params.max_entry_bytes)
		params.max_uncommitted_bytes = params.max_entry_bytes;

	allocator.context = NULL;
	allocator.allocate = engine_allocate;
	allocator.release = engine_release;

	memset(&callbacks, 0, sizeof(callbacks));
	callbacks.context = node;
	callbacks.read_entries = pgraft_read_entries_callback;
	callbacks.read_snapshot = pgraft_read_snapshot_callback;
	callbacks.assertion_failed = engine_assertion;
	callbacks.trace = engine_trace;

	result = raft_create(&node->raft, &params, &allocator, &callbacks);
	if (result != RAFT_OK)
	{
		pgraft_error(error, PGRAFT_ERR_INTERNAL, "could not create the Raft engine: %s",
					 raft_error_text(result));
		return false;
	}
	return true;
}

/* The callbacks are given the node: the storage opens after the engine. */
int
pgraft_read_entries_callback(void *context, raft_index first, size_t max_entries,
							 size_t max_bytes, struct raft_entry *entries, size_t *n_read)
{
	PgraftNode *node = context;

	if (node->storage == NULL)
		return RAFT_E_IO;
	return pgraft_storage_read_entries(node->storage, first, max_entries, max_bytes,
									   entries, n_read);
}

int
pgraft_read_snapshot_callback(void *context, raft_index index, raft_u64 offset,
							  size_t max_bytes, const unsigned char **data,
							  size_t *n_read, raft_u64 *total)
{
	PgraftNode *node = context;

	if (node->storage == NULL)
		return RAFT_E_IO;
	return pgraft_storage_read_snapshot(node->storage, index, offset, max_bytes,
										data, n_read, total);
}

/*
 * False: the disk does not answer, and a thread that waits for it keeps the
 * storage open until this process ends.  Nothing is lost by ending meanwhile:
 * what is unfinished was acknowledged to nobody.
 */
static bool
close_member(PgraftNode *node)
{
	bool		whole = true;

	if (node->flush != NULL)
		whole = pgraft_flush_stop(node->flush, STOP_PATIENCE_MS);
	if (!whole)
		ereport(LOG,
				(errmsg("pgraft leaves a write of its log unfinished because the disk does not answer"),
				 errdetail("Nobody was told that it was done.")));
	node->flush = NULL;
	node->disk_full = false;
	node->disk_stalled = false;
	pgraft_state_save_cancel();
	node->saving = false;
	node->snapshot_cancelled = false;
	node->snapshot = NULL;		/* the threads' end has dropped it */
	node->snapshot_job = NULL;
	if (node->raft != NULL)
		raft_destroy(node->raft);
	node->raft = NULL;
	if (node->storage != NULL && whole)
		pgraft_storage_close(node->storage);
	node->storage = NULL;
	node->n_inflight = 0;
	pgraft_held_clear(&node->held);
	node->installing = false;
	node->hint_dirty = false;
	return whole;
}

void
pgraft_node_end(PgraftNode *node)
{
	if (node->net != NULL)
		pgraft_net_destroy(node->net);
	node->net = NULL;
	(void) close_member(node);
}

/* Fills the state machine from the newest snapshot, if there is one. */
bool
pgraft_node_load_snapshot(PgraftNode *node, PgraftError *error)
{
	struct raft_snapshot_meta *meta = palloc(sizeof(struct raft_snapshot_meta));
	PgraftErrorCode code;
	bool		whole;

	pgraft_state_reset();
	pgraft_state_load_begin();
	code = pgraft_storage_load_snapshot(node->storage, meta, consume_snapshot, NULL, error);
	if (code == PGRAFT_ERR_NOT_FOUND)
	{
		pgraft_state_reset();
		pfree(meta);
		return true;
	}
	whole = code == PGRAFT_OK && pgraft_state_load_finish(meta->index);
	if (code == PGRAFT_OK && !whole)
		pgraft_error(error, PGRAFT_ERR_CORRUPT,
					 "the snapshot at index %lu has invalid contents", meta->index);
	pfree(meta);
	return whole;
}

static int
consume_snapshot(void *arg, const unsigned char *data, size_t length)
{
	(void) arg;
	return pgraft_state_load_piece(data, length) ? 0 : 1;
}

/* ----------------------------------------------------------------
 * A new cluster, or a new member
 * ----------------------------------------------------------------
 */

static bool
no_space_yet(PgraftNode *node, const PgraftError *error)
{
	(void) close_member(node);
	pgraft_node_not_yet(node, error);
	return false;
}

bool
pgraft_node_bootstrap(PgraftNode *node, PgraftError *error)
{
	struct raft_config *config = palloc0(sizeof(struct raft_config));
	unsigned char *payload = palloc(RAFT_CONFIG_MAX_BYTES);
	struct raft_entry entry;
	struct raft_hard_state hard_state;
	PgraftIdentity identity;

	if (!initial_config(node, config, error))
		return false;

	memset(&entry, 0, sizeof(entry));
	entry.index = 1;
	entry.term = 1;
	entry.type = RAFT_ENTRY_CONFIG;
	entry.data = payload;
	entry.length = raft_config_encode(config, payload, RAFT_CONFIG_MAX_BYTES);
	memset(&hard_state, 0, sizeof(hard_state));
	hard_state.term = 1;

	memset(&identity, 0, sizeof(identity));
	identity.cluster_uid = pgraft_random_u64();
	identity.node_id = (raft_id) pgraft_node_id;
	identity.incarnation = 1;
	identity.member_uid = pgraft_random_u64();
	strlcpy(identity.cluster_id, pgraft_cluster_id, sizeof(identity.cluster_id));
	if (pgraft_storage_create(&node->io, node->directory, &node->storage_options, &identity,
							  &hard_state, &entry, 1, error) != PGRAFT_OK)
		return error->code == PGRAFT_ERR_NO_SPACE ? no_space_yet(node, error) : false;
	node->identity = identity;
	if (!open_member(node, error))
	{
		if (error->code == PGRAFT_ERR_NO_SPACE)
			return no_space_yet(node, error);

		/* it exists on disk, so this is no blank member any more */
		pgraft_node_fail(node, error, "its new state cannot be used");
		return false;
	}
	ereport(LOG,
			(errmsg("pgraft made cluster \"%s\" with %d initial members",
					pgraft_cluster_id, config->n_members)));
	pfree(config);
	pfree(payload);
	pgraft_peers_self_changed(node);
	return true;
}

/*
 * A blank member follows an invitation: an empty log under the incarnation
 * that the cluster gave it.  Everything else comes from the leader.
 */
bool
pgraft_node_adopt(PgraftNode *node, raft_u64 cluster_uid, raft_u64 incarnation,
				  PgraftError *error)
{
	PgraftIdentity identity;
	struct raft_hard_state hard_state;

	memset(&hard_state, 0, sizeof(hard_state));
	memset(&identity, 0, sizeof(identity));
	identity.cluster_uid = cluster_uid;
	identity.node_id = (raft_id) pgraft_node_id;
	identity.incarnation = incarnation;
	identity.member_uid = pgraft_random_u64();
	strlcpy(identity.cluster_id, pgraft_cluster_id, sizeof(identity.cluster_id));
	if (pgraft_storage_create(&node->io, node->directory, &node->storage_options, &identity,
							  &hard_state, NULL, 0, error) != PGRAFT_OK)
		return error->code == PGRAFT_ERR_NO_SPACE ? no_space_yet(node, error) : false;
	node->identity = identity;
	if (!open_member(node, error))
		return error->code == PGRAFT_ERR_NO_SPACE ? no_space_yet(node, error) : false;
	ereport(LOG,
			(errmsg("pgraft member %d joined cluster \"%s\" as incarnation %lu",
					pgraft_node_id, pgraft_cluster_id, incarnation)));
	pgraft_peers_self_changed(node);
	return true;
}

/*
 * The cluster removed this member and now invites it under a new incarnation:
 * the old state has no value any more, but is moved aside rather than deleted.
 */
bool
pgraft_node_retire(PgraftNode *node, PgraftError *error)
{
	/* one number of a membership can come twice, if its entry was never committed */
	char	   *aside = psprintf("%s.removed-%lu-%016lx", node->directory,
								 node->identity.incarnation, node->identity.member_uid);
	int			result;

	if (!close_member(node))
	{
		pgraft_error(error, PGRAFT_ERR_IO,
					 "directory \"%s\" cannot be replaced while its disk does not answer",
					 node->directory);
		pgraft_error_hint(error, "Restart the server when it does.");
		return false;
	}
	memset(&node->identity, 0, sizeof(node->identity));
	node->state = PGRAFT_WORKER_BLANK;
	result = rename(node->directory, aside);
	if (result == 0)
	{
		char	   *parent = pstrdup(node->directory);

		get_parent_directory(parent);
		(void) fsync_fname_ext(parent, true, true, LOG);
		pfree(parent);
		ereport(LOG,
				(errmsg("pgraft moved the state of its ended membership to \"%s\"", aside)));
	}
	else
		pgraft_error(error, PGRAFT_ERR_IO, "could not rename \"%s\" to \"%s\": %s",
					 node->directory, aside, strerror(errno));
	pfree(aside);
	return result == 0;
}

static void
own_member(struct raft_member *member)
{
	memset(member, 0, sizeof(*member));
	member->id = (raft_id) pgraft_node_id;
	member->incarnation = 1;
	member->role = RAFT_VOTER;
	member->target_role = RAFT_VOTER;
	member->port = (unsigned) pgraft_port;
	strlcpy(member->address, pgraft_address, sizeof(member->address));
	strlcpy(member->name, pgraft_name, sizeof(member->name));
}

/*
 * This member alone, or everybody in pgraft.initial_cluster.  There, the first
 * one is the voter and the others begin as learners: a listed server that has
 * no state yet cannot be asked for a vote, and the promotion that follows
 * proves that it is there.
 */
static bool
initial_config(const PgraftNode *node, struct raft_config *config, PgraftError *error)
{
	char	   *list;
	char	   *item;
	char	   *rest = NULL;

	(void) node;
	config->index = 1;
	if (pgraft_initial_cluster[0] == '\0')
	{
		config->n_members = 1;
		own_member(&config->members[0]);
		return true;
	}
	if (pgraft_node_id != 1)
	{
		pgraft_error(error, PGRAFT_ERR_CONFIG,
					 "this server is not the first of \"pgraft.initial_cluster\"");
		pgraft_error_hint(error, "Call pgraft_init() on the first one; this one joins by itself.");
		return false;
	}
	list = pstrdup(pgraft_initial_cluster);
	for (item = strtok_r(list, ",", &rest); item != NULL; item = strtok_r(NULL, ",", &rest))
	{
		if (config->n_members >= RAFT_MAX_VOTERS)
		{
			pgraft_error(error, PGRAFT_ERR_CONFIG,
						 "\"pgraft.initial_cluster\" has more than %d members",
						 RAFT_MAX_VOTERS);
			return false;
		}
		if (!parse_initial_member(item, config->n_members + 1,
								  &config->members[config->n_members], error))
			return false;
		config->n_members++;
	}
	config->members[0].role = RAFT_VOTER;
	return true;
}

/* name=host:port; host may be [v6] */
static bool
parse_initial_member(char *item, int number, struct raft_member *member, PgraftError *error)
{
	char	   *equals;
	char	   *colon;
	char	   *end;
	char	   *host;
	long		port;

	while (*item == ' ')
		item++;
	equals = strchr(item, '=');
	colon = strrchr(item, ':');
	if (equals == NULL || colon == NULL || colon < equals || equals == item ||
		colon == equals + 1)
	{
		pgraft_error(error, PGRAFT_ERR_CONFIG,
					 "invalid member \"%s\" in \"pgraft.initial_cluster\"", item);
		pgraft_error_hint(error, "The form is name1=host:port,name2=host:port.");
		return false;
	}
	*equals = '\0';
	*colon = '\0';
	port = strtol(colon + 1, &end, 10);
	while (*end == ' ')
		end++;
	host = equals + 1;
	if (host[0] == '[' && host[strlen(host) - 1] == ']')
	{
		host[strlen(host) - 1] = '\0';
		host++;
	}
	if (end == colon + 1 || *end != '\0' || port < 1 || port > 65535 ||
		strlen(item) >= RAFT_NAME_SIZE || strlen(host) >= RAFT_ADDRESS_SIZE)
	{
		pgraft_error(error, PGRAFT_ERR_CONFIG,
					 "invalid name, host or port of member \"%s\" in \"pgraft.initial_cluster\"",
					 item);
		return false;
	}
	memset(member, 0, sizeof(*member));
	member->id = (raft_id) number;
	member->incarnation = 1;
	member->role = RAFT_LEARNER;
	member->target_role = RAFT_VOTER;
	member->port = (unsigned) port;
	strlcpy(member->name, item, sizeof(member->name));
	strlcpy(member->address, host, sizeof(member->address));
	return true;
}

/* ----------------------------------------------------------------
 * What the engine asks for
 * ----------------------------------------------------------------
 */

/* malloc, because the engine reports a failure instead of raising one */
static void *
engine_allocate(void *context, size_t size)
{
	(void) context;
	return malloc(size);
}

static void
engine_release(void *context, void *pointer)
{
	(void) context;
	free(pointer);
}

static void
engine_assertion(void *context, const char *condition, const char *file, int line)
{
	(void) context;
	ereport(LOG,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg_internal("Raft invariant \"%s\" broken at %s:%d", condition, file, line)));

	/*
	 * The engine would abort(), which takes every session of this server down.
	 * Ending this process is enough: the state on disk is older than the
	 * broken one.
	 */
	proc_exit(1);
}

static void
engine_trace(void *context, const char *line)
{
	(void) context;
	elog(DEBUG2, "raft: %s", line);
}

static int
restore_snapshot(void *context, const struct raft_snapshot_meta *meta)
{
	return raft_restore_snapshot(((PgraftNode *) context)->raft, meta);
}

static int
restore_log_start(void *context, raft_index index, raft_term term)
{
	return raft_restore_log_start(((PgraftNode *) context)->raft, index, term);
}

static int
restore_hard_state(void *context, const struct raft_hard_state *state)
{
	return raft_restore_hard_state(((PgraftNode *) context)->raft, state);
}

static int
restore_entry(void *context, const struct raft_entry *entry)
{
	return raft_restore_entry(((PgraftNode *) context)->raft, entry);
}

static int
restore_truncate(void *context, raft_index from)
{
	return raft_restore_truncate(((PgraftNode *) context)->raft, from);
}
