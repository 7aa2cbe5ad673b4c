-- Bad input: each a clear error with SQLSTATE, and nothing reaches the log.
\pset format unaligned
\pset tuples_only on
SELECT pgraft_get_applied_index() AS before \gset

-- node id
SELECT failure('SELECT pgraft_add_node(0, ''127.0.0.1'', 7002)');
SELECT failure('SELECT pgraft_add_node(-1, ''127.0.0.1'', 7002)');
SELECT failure('SELECT pgraft_add_node(NULL, ''127.0.0.1'', 7002)');
SELECT failure('SELECT pgraft_remove_node(0)');
SELECT failure('SELECT pgraft_remove_node(NULL)');
SELECT failure('SELECT pgraft_update_node(-2147483648, ''127.0.0.1'', 7002)');
SELECT failure('SELECT pgraft_promote_learner(0)');
SELECT failure('SELECT pgraft_transfer_leadership(-5)');

-- port
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', 70000)');
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', 0)');
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', -1)');
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', NULL)');
SELECT failure('SELECT pgraft_update_node(1, ''127.0.0.1'', 65536)');

-- address and name
SELECT failure('SELECT pgraft_add_node(2, '''', 7002)');
SELECT failure('SELECT pgraft_add_node(2, NULL, 7002)');
SELECT failure('SELECT pgraft_add_node(2, repeat(''a'', 256), 7002)');
SELECT failure('SELECT pgraft_add_node(2, ''two words'', 7002)');
SELECT failure('SELECT pgraft_add_node(2, E''line\nbreak'', 7002)');
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', 7002, name => '''')');
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', 7002, name => repeat(''n'', 64))');
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', 7002, name => ''a,b=c'')');

-- role
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', 7002, ''king'')');
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', 7002, ''none'')');
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', 7002, NULL)');

-- lists of changes
SELECT failure('SELECT pgraft_change_members(NULL)');
SELECT failure(format('SELECT pgraft_change_members(%L)', list)) FROM (VALUES
	('[]'), ('{}'), ('4'), ('"add"'), ('{"action": "remove", "node_id": 2}'), ('[1]'), ('[[]]'), ('[null]'), ('[{}]'),
	('[{"node_id": 2}]'),
	('[{"action": 3, "node_id": 2}]'),
	('[{"action": "replace", "node_id": 2}]'),
	('[{"action": "remove"}]'),
	('[{"action": "remove", "node_id": "2"}]'),
	('[{"action": "remove", "node_id": 0}]'),
	('[{"action": "remove", "node_id": 1.5}]'),
	('[{"action": "remove", "node_id": 99999999999999999999}]'),
	('[{"action": "remove", "node_id": null}]'),
	('[{"action": "remove", "node_id": 2, "force": true}]'),
	('[{"action": "remove", "node_id": 2, "port": 7002}]'),
	('[{"action": "demote", "node_id": 2, "role": "learner"}]'),
	('[{"action": "promote", "node_id": 2, "role": "learner"}]'),
	('[{"action": "add", "node_id": 2, "port": 7002}]'),
	('[{"action": "add", "node_id": 2, "address": "127.0.0.1"}]'),
	('[{"action": "add", "node_id": 2, "address": "127.0.0.1", "port": 65536}]'),
	('[{"action": "add", "node_id": 2, "address": "two words", "port": 7002}]'),
	('[{"action": "add", "node_id": 2, "address": "127.0.0.1", "port": 7002, "role": "king"}]'),
	('[{"action": "add", "node_id": 2, "address": "127.0.0.1", "port": 7002, "name": "a,b"}]'),
	('[{"action": "remove", "node_id": 2}, {"action": "demote", "node_id": 2}]'),
	('[{"action": "add", "node_id": 2, "address": "127.0.0.1", "port": 7002}, {"action": "add", "node_id": 3, "address": "127.0.0.1", "port": 7002}]'),
	((SELECT jsonb_agg(jsonb_build_object('action', 'remove', 'node_id', i)) FROM generate_series(1, 33) AS i)::text),
	('[{"action": "promote", "node_id": 1}]'),
	('[{"action": "remove", "node_id": 1}]'),
	('[{"action": "demote", "node_id": 1}]'),
	('[{"action": "remove", "node_id": 9}]')) AS v(list);
SELECT regexp_replace(failure('SELECT pgraft_change_members(''[{"action": "add", "node_id": 1, "address": "127.0.0.1", "port": 1}]'')'), ':\d+', ':PORT');

-- members that exist, or do not
SELECT regexp_replace(failure('SELECT pgraft_add_node(1, ''127.0.0.1'', 7002)'), ':\d+', ':PORT');
SELECT regexp_replace(failure(format('SELECT pgraft_add_node(2, ''127.0.0.1'', %s)', current_setting('pgraft.port'))), ':\d+', ':PORT');
SELECT failure('SELECT pgraft_remove_node(9)');
SELECT failure('SELECT pgraft_update_node(9, ''127.0.0.1'', 7002)');
SELECT failure('SELECT pgraft_promote_learner(9)');
SELECT failure('SELECT pgraft_promote_learner(1)');
SELECT failure('SELECT pgraft_transfer_leadership(9)');
SELECT failure('SELECT pgraft_remove_node(1)');

-- nobody listens at port 1; the member does not stay
SELECT failure('SELECT pgraft_add_node(2, ''127.0.0.1'', 1)');
SELECT becomes_true('(SELECT count(*) FROM pgraft_get_nodes()) = 1');
SELECT pgraft_get_applied_index() AS before \gset

-- keys and values
SELECT failure('SELECT pgraft_kv_put('''', ''v'')');
SELECT failure('SELECT pgraft_kv_put(NULL, ''v'')');
SELECT failure('SELECT pgraft_kv_put(''k'', NULL)');
SELECT failure('SELECT pgraft_kv_put(repeat(''k'', 1025), ''v'')');
SELECT failure('SELECT pgraft_kv_put(repeat(''k'', 10 * 1024 * 1024), ''v'')');
SELECT failure('SELECT pgraft_kv_put(''k'', repeat(''v'', 10 * 1024 * 1024))');
SELECT failure('SELECT pgraft_kv_put(''k'', repeat(''v'', 1024 * 1024 - 40))');
SELECT failure('SELECT pgraft_kv_cas(''k'', -1, ''v'')');
SELECT failure('SELECT pgraft_kv_cas(''k'', NULL, ''v'')');
SELECT failure('SELECT pgraft_kv_cas('''', 0, ''v'')');
SELECT failure('SELECT pgraft_kv_cas(''k'', 0, NULL)');
SELECT failure('SELECT pgraft_kv_delete('''')');
SELECT failure('SELECT pgraft_kv_delete(NULL)');
SELECT failure('SELECT pgraft_kv_delete_prefix('''')');
SELECT failure('SELECT pgraft_kv_delete_prefix(NULL)');
SELECT failure('SELECT pgraft_kv_get('''')');
SELECT failure('SELECT pgraft_kv_get(NULL)');
SELECT failure('SELECT pgraft_kv_get(repeat(''k'', 10 * 1024 * 1024))');
SELECT failure('SELECT pgraft_kv_get(''k'', ''eventual'')');
SELECT failure('SELECT pgraft_kv_get(''k'', NULL)');
SELECT failure('SELECT * FROM pgraft_kv_entry(NULL)');
SELECT failure('SELECT pgraft_kv_exists('''')');
SELECT failure('SELECT pgraft_kv_exists(''k'', ''Local'')');
SELECT failure('SELECT pgraft_kv_list_keys(NULL)');
SELECT failure('SELECT pgraft_kv_list_keys(''p'', -1)');
SELECT failure('SELECT pgraft_kv_list_keys(repeat(''p'', 1025))');
SELECT failure('SELECT pgraft_kv_list_keys(''p'', consistency => ''none'')');
SELECT failure('SELECT * FROM pgraft_kv_list(''p'', -9223372036854775808)');

-- log
SELECT failure('SELECT pgraft_log_append(NULL::text)');
SELECT failure('SELECT pgraft_log_append(NULL::bytea)');
SELECT failure('SELECT pgraft_replicate_entry(NULL::text)');
SELECT failure('SELECT pgraft_log_append(repeat(''x'', 2 * 1024 * 1024))');
SELECT failure('SELECT pgraft_log_append(convert_to(repeat(''x'', 2 * 1024 * 1024), ''UTF8''))');
SELECT failure('SELECT * FROM pgraft_log_get_entry(0)');
SELECT failure('SELECT * FROM pgraft_log_get_entry(-1)');
SELECT failure('SELECT * FROM pgraft_log_get_entry(NULL)');
SELECT failure('SELECT * FROM pgraft_log_entries(5, 4)');
SELECT failure('SELECT * FROM pgraft_log_entries(0, 4)');
SELECT failure('SELECT * FROM pgraft_log_entries(1, NULL)');

-- waiting
SELECT failure('SELECT pgraft_wait_for_leader(-1)');
SELECT failure('SELECT pgraft_wait_applied(-1)');
SELECT failure('SELECT pgraft_wait_applied(NULL)');
SELECT failure('SELECT pgraft_wait_applied(1, -1)');

-- settings that must not be changed now, or do not exist
SELECT failure('SET pgraft.node_id = 2');
SELECT failure('SET pgraft.no_such_setting = 1');
SELECT split_part(failure('SET pgraft.request_timeout = 0'), ' (', 1);

-- cancelled while waiting
SET statement_timeout = '100ms';
SELECT pgraft_wait_applied(9223372036854775807, 60000);
RESET statement_timeout;

-- a plan may run a part twice in a parallel worker: reading is fine, changing is not
CREATE TABLE rows AS SELECT i FROM generate_series(1, 10) AS i;
CREATE FUNCTION wrongly_safe_put(i integer) RETURNS bigint
	LANGUAGE plpgsql PARALLEL SAFE COST 10000 AS $$ BEGIN RETURN pgraft_kv_put('parallel', 'x'); END $$;
CREATE FUNCTION wrongly_safe_exists(i integer) RETURNS boolean
	LANGUAGE plpgsql PARALLEL SAFE COST 10000 AS $$ BEGIN RETURN pgraft_kv_exists('parallel'); END $$;
ALTER TABLE rows SET (parallel_workers = 2);
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
ANALYZE rows;
\set VERBOSITY sqlstate
SELECT count(wrongly_safe_put(i)) FROM rows;
\set VERBOSITY default
SELECT count(*) FROM rows WHERE NOT wrongly_safe_exists(i);
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET parallel_leader_participation;
DROP FUNCTION wrongly_safe_put(integer), wrongly_safe_exists(integer);
DROP TABLE rows;

-- none of this has written anything
SELECT pgraft_get_applied_index() = :before AS unchanged;
SELECT pgraft_kv_put('still', 'works') > 0;
