/*-------------------------------------------------------------------------
 *
 * monitor.c
 *	  The functions under the pg_stat_pgraft* views.
 *
 * Called in backends; they copy the status block that the worker publishes and
 * never wait for it.  A value that is not known is NULL.
 *
 * The worker's counters begin with it or with pgraft_reset_stats(), whichever
 * was later: stats_reset says when.
 *
 * Copyright (c) 2026, pgraft contributors
 *
 * IDENTIFICATION
 *	  src/sql/monitor.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"

#include "pgraft/compat.h"
#include "pgraft/settings.h"

#include "support.h"

PG_FUNCTION_INFO_V1(pgraft_sql_stat);
PG_FUNCTION_INFO_V1(pgraft_sql_stat_members);
PG_FUNCTION_INFO_V1(pgraft_sql_stat_network);
PG_FUNCTION_INFO_V1(pgraft_sql_stat_storage);
PG_FUNCTION_INFO_V1(pgraft_sql_reset_stats);

/* A follower this far behind the leader's last entry is called lagging. */
#define LAGGING_ENTRIES 1000

static void add_position(PgraftRow *row, const PgraftStatus *status);
static void add_lease(PgraftRow *row, const PgraftStatus *status);
static void add_counters(PgraftRow *row, const PgraftStatus *status);
static void add_progress(PgraftRow *row, const PgraftStatus *status,
						 const PgraftMemberStatus *member);
static const char *member_health(const PgraftStatus *status,
								 const PgraftMemberStatus *member);
static void add_peer_counters(PgraftRow *row, const PgraftNetPeerStats *net);
static Datum histogram_counts(const PgraftStorageStats *storage);
static Datum histogram_bounds(void);
static double milliseconds(uint64 microseconds);

/* ----------------------------------------------------------------
 * pg_stat_pgraft
 * ----------------------------------------------------------------
 */

Datum
pgraft_sql_stat(PG_FUNCTION_ARGS)
{
	PgraftStatus status;
	PgraftRow	row;
	char		name[RAFT_NAME_SIZE];
	bool		running;

	pgraft_require_preloaded();
	pgraft_read_status(&status);
	running = (status.worker_state == PGRAFT_WORKER_RUNNING);
	pgraft_own_name(name);

	pgraft_row_begin(&row);
	if (pgraft_node_id > 0)
		pgraft_row_int(&row, pgraft_node_id);
	else
		pgraft_row_null(&row);
	pgraft_row_string(&row, status.name[0] != '\0' ? status.name : name);
	pgraft_row_string(&row, pgraft_cluster_id);
	pgraft_row_string(&row, status.cluster_uid != 0 ?
					  psprintf("%016lx", status.cluster_uid) : NULL);
	if (status.worker_pid > 0)
		pgraft_row_int(&row, status.worker_pid);
	else
		pgraft_row_null(&row);
	pgraft_row_string(&row, pgraft_worker_state_name(status.worker_state));
	pgraft_row_string(&row, status.failure);
	pgraft_row_string(&row, running && status.raft.role != RAFT_ROLE_NONE ?
					  raft_role_name(status.raft.role) : NULL);
	pgraft_row_string(&row, running ? raft_state_name(status.raft.state) : NULL);
	add_position(&row, &status);
	add_lease(&row, &status);
	add_counters(&row, &status);
	pgraft_row_timestamp(&row, status.started_at);
	pgraft_row_timestamp(&row, status.reset_at);
	return pgraft_row_result(&row, fcinfo);
}

static void
add_position(PgraftRow *row, const PgraftStatus *status)
{
	bool		running = (status->worker_state == PGRAFT_WORKER_RUNNING);

	pgraft_row_id(row, status->raft.term);
	pgraft_row_id(row, status->raft.vote);
	pgraft_row_id(row, running ? status->raft.leader : 0);
	pgraft_row_timestamp(row, running && status->raft.leader != 0 ? status->leader_since : 0);
	pgraft_row_u64(row, status->leader_changes);
	pgraft_row_int(row, status->num_nodes);
	pgraft_row_int(row, status->num_voters);
	pgraft_row_id(row, status->config_index);
	pgraft_row_id(row, status->raft.transfer_target);
	pgraft_row_u64(row, status->raft.first_index);
	pgraft_row_u64(row, status->raft.last_index);
	pgraft_row_u64(row, status->raft.durable_index);
	pgraft_row_u64(row, status->raft.commit_index);
	pgraft_row_u64(row, status->raft.applied_index);
	pgraft_row_u64(row, status->raft.snapshot_index);
}

/* Only a leader that uses leases has one; the worker's clock is this one. */
static void
add_lease(PgraftRow *row, const PgraftStatus *status)
{
	struct timespec now;

	if (status->worker_state != PGRAFT_WORKER_RUNNING ||
		status->raft.state != RAFT_LEADER || status->raft.lease_until == 0)
	{
		pgraft_row_null(row);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	pgraft_row_bool(row, status->raft.lease_until >
					(uint64) now.tv_sec * 1000 + (uint64) now.tv_nsec / 1000000);
}

static void
add_counters(PgraftRow *row, const PgraftStatus *status)
{
	pgraft_row_u64(row, status->raft.elections_started);
	pgraft_row_u64(row, status->raft.prevotes_started);
	pgraft_row_u64(row, status->raft.messages_received);
	pgraft_row_u64(row, status->raft.messages_ignored);
	pgraft_row_u64(row, status->messages_dropped);
	pgraft_row_u64(row, status->raft.heartbeats_sent);
	pgraft_row_u64(row, status->proposals);
	pgraft_row_u64(row, status->proposals_committed);
	pgraft_row_u64(row, status->proposals_forwarded);
	pgraft_row_u64(row, status->proposals_failed);
	pgraft_row_u64(row, status->proposal_bytes);
	pgraft_row_u64(row, status->batches);
	pgraft_row_u64(row, status->entries_applied);
	pgraft_row_u64(row, status->reads_linearizable);
	pgraft_row_u64(row, status->snapshots_taken);
	pgraft_row_u64(row, status->snapshots_installed);
	pgraft_row_u64(row, status->loop_turns);
	pgraft_row_u64(row, status->queue_depth);
	pgraft_row_u64(row, status->pending_write_bytes);
	pgraft_row_u64(row, status->raft.uncommitted_bytes);
	pgraft_row_u64(row, status->raft.cached_bytes);
	pgraft_row_u64(row, status->storage.fsyncs);
	pgraft_row_float(row, milliseconds(status->storage.fsync_us));
	pgraft_row_u64(row, status->net.accepted);
	pgraft_row_u64(row, status->net.rejected);
}

/* ----------------------------------------------------------------
 * pg_stat_pgraft_members
 * ----------------------------------------------------------------
 */

Datum
pgraft_sql_stat_members(PG_FUNCTION_ARGS)
{
	PgraftStatus status;
	PgraftMembers members;
	int			i;

	pgraft_require_preloaded();
	pgraft_read_status(&status);
	pgraft_read_members(&members);
	InitMaterializedSRF(fcinfo, 0);

	for (i = 0; i < members.n_members; i++)
	{
		const PgraftMemberStatus *member = &members.members[i];
		PgraftRow	row;

		pgraft_row_begin(&row);
		pgraft_row_int(&row, (int) member->member.id);
		pgraft_row_string(&row, member->member.name);
		pgraft_row_string(&row, member->member.address);
		pgraft_row_int(&row, (int) member->member.port);
		pgraft_row_string(&row, raft_role_name(member->member.role));
		pgraft_row_string(&row, member->member.target_role != RAFT_ROLE_NONE ?
						  raft_role_name(member->member.target_role) : NULL);
		pgraft_row_int(&row, member->member.priority);
		pgraft_row_u64(&row, member->member.incarnation);
		pgraft_row_bool(&row, status.worker_state == PGRAFT_WORKER_RUNNING &&
						member->member.id == status.raft.leader);
		pgraft_row_bool(&row, member->member.id == status.raft.id);
		add_progress(&row, &status, member);
		pgraft_row_timestamp(&row, member->last_contact);
		pgraft_row_string(&row, member_health(&status, member));
		pgraft_row_store(&row, fcinfo);
	}
	return (Datum) 0;
}

/* Known to the leader about the others, and to each member about itself. */
static void
add_progress(PgraftRow *row, const PgraftStatus *status, const PgraftMemberStatus *member)
{
	const struct raft_peer_status *progress = &member->progress;
	bool		self = (member->member.id == status->raft.id);
	uint64		match = self ? status->raft.durable_index : progress->match_index;
	int			i;

	if (!self && !member->has_progress)
	{
		for (i = 0; i < 10; i++)
			pgraft_row_null(row);
		return;
	}

	pgraft_row_string(row, self ? NULL : raft_progress_name(progress->progress));
	pgraft_row_u64(row, match);
	pgraft_row_u64(row, self ? status->raft.last_index + 1 : progress->next_index);
	pgraft_row_u64(row, status->raft.last_index > match ? status->raft.last_index - match : 0);
	if (member->lag_bytes < 0)
	{
		pgraft_row_null(row);
		pgraft_row_null(row);
	}
	else
	{
		pgraft_row_u64(row, (uint64) member->lag_bytes);
		pgraft_row_float(row, member->lag_since == 0 ? 0 :
						 (double) (pgraft_monotonic_ms() - member->lag_since));
	}
	if (self)
	{
		for (i = 0; i < 4; i++)
			pgraft_row_null(row);
		return;
	}
	pgraft_row_u64(row, progress->inflight_messages);
	pgraft_row_u64(row, progress->inflight_bytes);
	if (progress->snapshot_total > 0)
	{
		pgraft_row_u64(row, progress->snapshot_offset);
		pgraft_row_u64(row, progress->snapshot_total);
	}
	else
	{
		pgraft_row_null(row);
		pgraft_row_null(row);
	}
}

/* NULL when this member cannot tell. */
static const char *
member_health(const PgraftStatus *status, const PgraftMemberStatus *member)
{
	if (status->worker_state != PGRAFT_WORKER_RUNNING)
		return NULL;
	if (member->member.id == status->raft.id)
		return status->raft.leader != 0 ? "ok" : "no leader";
	if (!member->has_net)
		return NULL;
	if (!member->net.connected && !member->net.inbound)
		return "unreachable";
	if (!member->has_progress)
		return "ok";
	if (member->progress.progress == RAFT_PROGRESS_SNAPSHOT)
		return "catching up";
	if (status->raft.last_index > member->progress.match_index + LAGGING_ENTRIES)
		return "lagging";
	return "ok";
}

/* ----------------------------------------------------------------
 * pg_stat_pgraft_network
 * ----------------------------------------------------------------
 */

Datum
pgraft_sql_stat_network(PG_FUNCTION_ARGS)
{
	PgraftMembers members;
	int			i;

	pgraft_require_preloaded();
	pgraft_read_members(&members);
	InitMaterializedSRF(fcinfo, 0);

	for (i = 0; i < members.n_members; i++)
	{
		const PgraftMemberStatus *member = &members.members[i];
		PgraftRow	row;

		if (!member->has_net)
			continue;
		pgraft_row_begin(&row);
		pgraft_row_int(&row, (int) member->member.id);
		pgraft_row_string(&row, member->member.name);
		pgraft_row_string(&row, member->member.address);
		pgraft_row_int(&row, (int) member->member.port);
		add_peer_counters(&row, &member->net);
		pgraft_row_store(&row, fcinfo);
	}
	return (Datum) 0;
}

static void
add_peer_counters(PgraftRow *row, const PgraftNetPeerStats *net)
{
	pgraft_row_bool(row, net->connected != 0);
	pgraft_row_bool(row, net->inbound != 0);
	pgraft_row_u64(row, net->bytes_sent);
	pgraft_row_u64(row, net->bytes_received);
	pgraft_row_u64(row, net->messages_sent);
	pgraft_row_u64(row, net->messages_received);
	pgraft_row_u64(row, net->connects);
	pgraft_row_u64(row, net->connect_failures);
	pgraft_row_u64(row, net->errors);
	pgraft_row_u64(row, net->dropped);
	pgraft_row_u64(row, net->queued_bytes);
	if (net->rtt_us >= 0)
		pgraft_row_float(row, milliseconds((uint64) net->rtt_us));
	else
		pgraft_row_null(row);
	pgraft_row_string(row, net->tls_version);
	pgraft_row_string(row, net->tls_cipher);
	pgraft_row_string(row, net->last_error);
}

/* ----------------------------------------------------------------
 * pg_stat_pgraft_storage
 * ----------------------------------------------------------------
 */

Datum
pgraft_sql_stat_storage(PG_FUNCTION_ARGS)
{
	PgraftStatus status;
	const PgraftStorageStats *storage = &status.storage;
	PgraftRow	row;

	pgraft_require_preloaded();
	pgraft_read_status(&status);

	pgraft_row_begin(&row);
	pgraft_row_u64(&row, storage->segments);
	pgraft_row_u64(&row, storage->spare_segments);
	pgraft_row_u64(&row, storage->log_bytes);
	pgraft_row_u64(&row, storage->first_index);
	pgraft_row_u64(&row, storage->last_index);
	pgraft_row_u64(&row, storage->bytes_written);
	pgraft_row_u64(&row, storage->batches);
	pgraft_row_u64(&row, storage->fsyncs);
	pgraft_row_float(&row, milliseconds(storage->fsync_us));
	pgraft_row_float(&row, milliseconds(storage->fsync_us_max));
	pgraft_row_datum(&row, histogram_counts(storage));
	pgraft_row_datum(&row, histogram_bounds());
	pgraft_row_u64(&row, storage->snapshots_written);
	pgraft_row_id(&row, storage->snapshot_index);
	pgraft_row_id(&row, storage->snapshot_bytes);
	pgraft_row_u64(&row, storage->torn_tails);
	pgraft_row_u64(&row, storage->torn_bytes);
	pgraft_row_float(&row, milliseconds(storage->recovery_us));
	pgraft_row_u64(&row, storage->recovery_bytes);
	pgraft_row_timestamp(&row, status.started_at);
	return pgraft_row_result(&row, fcinfo);
}

static Datum
histogram_counts(const PgraftStorageStats *storage)
{
	Datum		counts[PGRAFT_FSYNC_BUCKETS];
	int			i;

	for (i = 0; i < PGRAFT_FSYNC_BUCKETS; i++)
		counts[i] = Int64GetDatum((int64) storage->fsync_histogram[i]);
	return PointerGetDatum(construct_array(counts, PGRAFT_FSYNC_BUCKETS, INT8OID,
										   sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Upper bounds in milliseconds; see PGRAFT_FSYNC_BUCKETS. */
static Datum
histogram_bounds(void)
{
	Datum		bounds[PGRAFT_FSYNC_BUCKETS];
	int			i;

	for (i = 0; i < PGRAFT_FSYNC_BUCKETS - 1; i++)
		bounds[i] = Float8GetDatum(milliseconds(UINT64CONST(1) << (i + 5)));
	bounds[i] = Float8GetDatum(get_float8_infinity());
	return PointerGetDatum(construct_array(bounds, PGRAFT_FSYNC_BUCKETS, FLOAT8OID,
										   sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static double
milliseconds(uint64 microseconds)
{
	return (double) microseconds / 1000.0;
}

Datum
pgraft_sql_reset_stats(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	pgraft_reset_statistics();
	PG_RETURN_VOID();
}
