-- High availability on a server that is not in HA mode: what changes something
-- says what is missing, what looks finds nothing.
\pset format unaligned
\pset tuples_only on
SHOW pgraft.mode;
SELECT failure('SELECT pgraft_switchover()');
SELECT failure('SELECT pgraft_cancel_switchover()');
SELECT failure('SELECT pgraft_failover(2, true)');
SELECT failure('SELECT pgraft_fence()');
SELECT failure('SELECT pgraft_pause()');
SELECT failure('SELECT pgraft_resume()');
SELECT failure('SELECT pgraft_connection_string()');
SELECT pgraft_is_primary(), pgraft_get_primary() IS NULL;
SELECT count(*) FROM pg_stat_pgraft_ha;
SELECT count(*) FROM pgraft_ha_members();
SELECT count(*) FROM pgraft_ha_member_list();
SELECT count(*) FROM pgraft_history;
SELECT check_name, status, hint FROM pgraft_health;

-- the settings cannot be changed while the server runs
SELECT failure('SET pgraft.mode = ''ha''');
SELECT failure('SET pgraft.developer_disable = ''fence''');
SELECT c.relname AS view, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
	FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.relname IN ('pg_stat_pgraft_ha', 'pgraft_history')
	ORDER BY c.relname COLLATE "C", a.attnum;
