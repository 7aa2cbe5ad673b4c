-- One server: the cluster is made, elects its only member, shows itself.
SELECT pgraft_init();
-- a second time there is nothing to do
SELECT pgraft_init();

SELECT pgraft_wait_for_leader(10000);
SELECT pgraft_is_leader(), pgraft_get_leader(), pgraft_get_state(), pgraft_get_worker_state();
SELECT pgraft_get_term() > 0 AS has_term;

SELECT node_id, current_term = pgraft_get_term() AS same_term, leader_id, state, num_nodes,
	messages_processed >= 0 AS messages, heartbeats_sent >= 0 AS heartbeats,
	elections_triggered >= 0 AS elections
	FROM pgraft_get_cluster_status();
SELECT node_id, address, port = current_setting('pgraft.port')::integer AS own_port,
	is_leader, role, name
	FROM pgraft_get_nodes();

-- the applied index follows the log
SELECT pgraft_get_applied_index() AS before \gset
SELECT pgraft_log_append('first') > :before AS appended;
SELECT pgraft_get_applied_index() > :before AS applied;
SELECT pgraft_wait_applied(:before + 1, 10000);
-- not that far
SELECT pgraft_wait_applied(:before + 1000000, 10);

-- a snapshot covers what was applied
SELECT pgraft_snapshot() > :before AS covered;
SELECT becomes_true($$ (SELECT snapshot_index FROM pgraft_log_get_stats()) >= $$ || (:before + 1));

-- the leader is asked to hand over to itself: nothing to do
SELECT pgraft_transfer_leadership(1);
-- there is nobody else
\set VERBOSITY terse
SELECT pgraft_transfer_leadership();
\set VERBOSITY default

-- it steps down and is elected again
SELECT pgraft_get_term() AS term \gset
SELECT pgraft_step_down();
SELECT becomes_true($$ pgraft_is_leader() AND pgraft_get_term() > $$ || :term);
SELECT pgraft_kv_exists('nothing');

-- membership is not part of the transaction, nor is the log
BEGIN;
SELECT pgraft_log_append('kept') AS kept \gset
ROLLBACK;
SELECT data_text FROM pgraft_log_get_entry(:kept);

-- read-only transactions may use all of it: no table is touched
BEGIN READ ONLY;
SELECT pgraft_log_append('read only') > 0 AS appended;
COMMIT;
