-- What the functions say on a server that is not a member of a cluster yet.
-- Must run first: pgraft_init() cannot be undone.
CREATE EXTENSION pgraft;

-- helpers of all test files
CREATE FUNCTION failure(command text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE command;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', state || ': ' || message,
		'DETAIL:  ' || nullif(detail, ''), 'HINT:  ' || nullif(hint, ''));
END
$$;

-- true as soon as the condition is, false after ten seconds
CREATE FUNCTION becomes_true(condition text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz = clock_timestamp() + interval '10 s';
	reached boolean;
BEGIN
	LOOP
		EXECUTE 'SELECT ' || condition INTO reached;
		IF reached OR clock_timestamp() > until THEN
			RETURN coalesce(reached, false);
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;

SELECT becomes_true($$ pgraft_get_worker_state() = 'blank' $$);

-- status functions answer
SELECT pgraft_get_version();
SELECT pgraft_is_leader(), pgraft_get_leader(), pgraft_get_term(), pgraft_get_state();
SELECT * FROM pgraft_get_cluster_status();
SELECT * FROM pgraft_get_nodes();
SELECT pgraft_get_applied_index();
SELECT pgraft_wait_for_leader(0), pgraft_wait_applied(1, 0);
SELECT node_id, worker_pid > 0 AS has_worker, worker_state, failure, role, state,
	term, voted_for, leader_id, leader_since, num_nodes
	FROM pg_stat_pgraft;
SELECT * FROM pg_stat_pgraft_members;
SELECT * FROM pg_stat_pgraft_network;

-- everything that needs a cluster says what is missing
\pset format unaligned
\pset tuples_only on
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', 7002)');
SELECT failure('SELECT pgraft_remove_node(1)');
SELECT failure('SELECT pgraft_update_node(1, ''127.0.0.1'', 7002)');
SELECT failure('SELECT pgraft_promote_learner(1)');
SELECT failure('SELECT pgraft_transfer_leadership()');
SELECT failure('SELECT pgraft_step_down()');
SELECT failure('SELECT pgraft_snapshot()');
SELECT failure('SELECT pgraft_log_append(''x'')');
SELECT failure('SELECT pgraft_log_append(''\x00''::bytea)');
SELECT failure('SELECT pgraft_replicate_entry(''x'')');
SELECT failure('SELECT * FROM pgraft_log_get_entry(1)');
SELECT failure('SELECT * FROM pgraft_log_entries(1, 2)');
SELECT failure('SELECT pgraft_kv_put(''k'', ''v'')');
SELECT failure('SELECT pgraft_kv_cas(''k'', 0, ''v'')');
SELECT failure('SELECT pgraft_kv_delete(''k'')');
SELECT failure('SELECT pgraft_kv_delete_prefix(''k'')');
SELECT failure('SELECT pgraft_kv_reset()');
SELECT failure('SELECT pgraft_kv_get(''k'')');
SELECT failure('SELECT pgraft_kv_get(''k'', ''local'')');
SELECT failure('SELECT * FROM pgraft_kv_entry(''k'', ''local'')');
SELECT failure('SELECT pgraft_kv_exists(''k'', ''local'')');
SELECT failure('SELECT pgraft_kv_list_keys(consistency => ''local'')');
SELECT failure('SELECT * FROM pgraft_kv_list(consistency => ''local'')');
SELECT failure('SELECT * FROM pgraft_kv_get_stats()');
SELECT failure('SELECT * FROM pgraft_kv');
