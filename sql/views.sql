-- The statistics views: their columns, and that the figures move.
SELECT c.relname AS view, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
	FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.relname IN ('pg_stat_pgraft', 'pg_stat_pgraft_members', 'pg_stat_pgraft_network',
		'pg_stat_pgraft_storage', 'pgraft_kv')
	ORDER BY c.relname COLLATE "C", a.attnum;

SELECT node_id, name, cluster_id, cluster_uid ~ '^[0-9a-f]{16}$' AS cluster_uid,
	worker_pid > 0 AS worker_pid, worker_state, failure, role, state, term > 0 AS term,
	voted_for, leader_id, leader_since <= now() AS leader_since,
	leader_changes > 0 AS leader_changes,
	num_nodes, num_voters, config_index > 0 AS config_index, transfer_target
	FROM pg_stat_pgraft;
SELECT first_index <= last_index AS first_index, last_index >= durable_index AS durable_index,
	durable_index >= commit_index AS commit_index, commit_index >= applied_index AS applied_index,
	applied_index >= snapshot_index AS snapshot_index, lease_valid,
	elections > 0 AS elections, prevotes >= 0 AS prevotes, started_at <= now() AS started_at,
	stats_reset <= now() AS stats_reset, connections_accepted, connections_rejected
	FROM pg_stat_pgraft;

-- figures grow with work
SELECT proposals, proposals_committed, proposal_bytes, proposal_batches, entries_applied,
	reads_linearizable, loop_turns, fsyncs, fsync_time, last_index
	FROM pg_stat_pgraft \gset
SELECT pgraft_kv_put('counted', repeat('x', 1000)) > 0 AS put;
SELECT length(pgraft_kv_get('counted'));
SELECT becomes_true(format($$ (SELECT proposals >= %s AND proposals_committed >= %s
	AND proposal_bytes >= %s AND proposal_batches > %s AND entries_applied > %s
	AND reads_linearizable > %s AND loop_turns > %s AND fsyncs > %s AND fsync_time > %s
	AND last_index > %s FROM pg_stat_pgraft) $$,
	:proposals + 1, :proposals_committed + 1, :proposal_bytes + 1000, :proposal_batches,
	:entries_applied, :reads_linearizable, :loop_turns, :fsyncs, :fsync_time, :last_index));

SELECT node_id, name, address, port = current_setting('pgraft.port')::integer AS port, role,
	priority, incarnation > 0 AS incarnation, is_leader, is_self, state,
	match_index > 0 AS match_index, next_index > match_index AS next_index, lag_entries, lag_bytes, lag_time,
	inflight_messages, inflight_bytes, snapshot_sent_bytes, snapshot_total_bytes, health
	FROM pg_stat_pgraft_members;
-- nobody to talk to
SELECT count(*) FROM pg_stat_pgraft_network;

SELECT segments > 0 AS segments, spare_segments >= 0 AS spare_segments, log_bytes > 0 AS log_bytes,
	first_index > 0 AS first_index, last_index >= first_index AS last_index,
	bytes_written > 0 AS bytes_written, batches > 0 AS batches, fsyncs > 0 AS fsyncs,
	fsync_time > 0 AS fsync_time, fsync_time_max <= fsync_time AS fsync_time_max,
	snapshots_written > 0 AS snapshots_written, snapshot_index > 0 AS snapshot_index,
	snapshot_bytes > 0 AS snapshot_bytes, torn_tails, torn_bytes, recovery_time >= 0 AS recovery_time,
	started_at <= now() AS started_at
	FROM pg_stat_pgraft_storage;
-- every flush is in exactly one bucket
SELECT cardinality(fsync_histogram) AS buckets, cardinality(fsync_bounds) AS bounds,
	(SELECT sum(n) FROM unnest(fsync_histogram) AS n) = fsyncs AS complete,
	fsync_bounds[1] AS first_bound, fsync_bounds[cardinality(fsync_bounds)] AS last_bound
	FROM pg_stat_pgraft_storage;

-- reset
SELECT pgraft_reset_stats();
SELECT becomes_true(format($$ (SELECT proposals < %s AND stats_reset > started_at FROM pg_stat_pgraft) $$,
	:proposals + 1));
SELECT term > 0 AS term, last_index >= :last_index AS last_index FROM pg_stat_pgraft;

-- parallel plans: reading is allowed in them, changing is not
SELECT proname, proparallel FROM pg_proc
	WHERE proname IN ('pgraft_is_leader', 'pgraft_kv_get', 'pgraft_kv_put', 'pgraft_stat',
		'pgraft_add_node')
	ORDER BY proname COLLATE "C";
SELECT count(*) AS not_volatile_or_strict FROM pg_proc
	WHERE proname LIKE 'pgraft%' AND (provolatile <> 'v' OR proisstrict);

SELECT pgraft_kv_delete('counted');
DROP EXTENSION pgraft;
