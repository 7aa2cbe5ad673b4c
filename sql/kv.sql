-- Key-value store: revisions, compare-and-set, deletion, prefixes.
SELECT pgraft_kv_put('a', 'one');
SELECT pgraft_kv_get('a'), pgraft_kv_get('a', 'local'), pgraft_kv_exists('a');
SELECT pgraft_kv_get('absent') IS NULL AS no_value, pgraft_kv_exists('absent', 'local');
SELECT * FROM pgraft_kv_entry('a');
SELECT * FROM pgraft_kv_entry('absent');

-- a put of the same value is a change, too
SELECT pgraft_kv_put('a', 'one'), pgraft_kv_put('a', 'two');
SELECT * FROM pgraft_kv_entry('a', 'local');

-- longer, shorter, empty, back
SELECT pgraft_kv_put('a', repeat('x', 100000));
SELECT length(pgraft_kv_get('a')), pgraft_kv_get('a') = repeat('x', 100000) AS same;
SELECT pgraft_kv_put('a', '');
SELECT pgraft_kv_get('a') = '' AS empty;
SELECT pgraft_kv_put('a', 'three');
SELECT pgraft_kv_get('a');

-- compare-and-set
SELECT pgraft_kv_cas('a', 1, 'no') IS NULL AS refused;
SELECT pgraft_kv_cas('a', (SELECT mod_revision FROM pgraft_kv_entry('a')), 'four');
SELECT pgraft_kv_cas('a', 0, 'no') IS NULL AS refused;
SELECT pgraft_kv_cas('b', 0, 'new');
SELECT pgraft_kv_cas('c', 5, 'no') IS NULL AS refused, pgraft_kv_exists('c');
SELECT key, value, create_revision, mod_revision, version FROM pgraft_kv_list();

-- a deleted key starts over
SELECT pgraft_kv_delete('b'), pgraft_kv_delete('b');
SELECT pgraft_kv_put('b', 'again');
SELECT * FROM pgraft_kv_entry('b');

-- a failed deletion or comparison is no revision
SELECT revision FROM pgraft_kv_get_stats();
SELECT pgraft_kv_delete('absent'), pgraft_kv_delete_prefix('absent');
SELECT pgraft_kv_cas('a', 1, 'no') IS NULL AS refused;
SELECT revision FROM pgraft_kv_get_stats();

-- listing is in the order of the bytes; % and _ are nothing special
SELECT pgraft_kv_put(k, 'value of ' || k)
	FROM unnest(ARRAY['p/10', 'p/2', 'p/1', 'p', 'P/1', 'p%', 'p_', 'q', 'p/1/x']) AS k;
SELECT * FROM pgraft_kv_list_keys();
SELECT * FROM pgraft_kv_list_keys('p/');
SELECT * FROM pgraft_kv_list_keys('p/', 2);
SELECT * FROM pgraft_kv_list_keys('p/', 0);
SELECT * FROM pgraft_kv_list_keys('p%', consistency => 'local');
SELECT * FROM pgraft_kv_list_keys('zzz');
SELECT key, value FROM pgraft_kv_list('p/1');
SELECT key, value FROM pgraft_kv WHERE key LIKE 'p/1%';
SELECT pgraft_kv_list_keys('p/1');

-- one revision for a whole prefix
SELECT revision FROM pgraft_kv_get_stats() \gset
SELECT pgraft_kv_delete_prefix('p/');
SELECT revision - :revision AS revisions FROM pgraft_kv_get_stats();
SELECT * FROM pgraft_kv_list_keys('p');

-- the longest key; the largest value
SELECT pgraft_kv_put(repeat('k', 1024), 'long') > 0 AS put;
SELECT pgraft_kv_get(repeat('k', 1024));
SELECT pgraft_kv_put('large', repeat('v', 1024 * 1024 - 40 - 5)) > 0 AS put;
SELECT length(pgraft_kv_get('large'));

-- many keys: the table grows, and a scan finds each once
DO $$
BEGIN
	FOR i IN 1..3000 LOOP
		PERFORM pgraft_kv_put('many/' || i, 'value ' || i);
	END LOOP;
END
$$;
SELECT count(*), count(DISTINCT key), bool_and(value = 'value ' || substr(key, 6)) AS right_values
	FROM pgraft_kv_list('many/');
SELECT count(*) FROM pgraft_kv_list_keys('many/', 100);
SELECT pgraft_kv_get('many/1'), pgraft_kv_get('many/3000');

-- equal states have equal hashes, whatever happened on the way; the log goes on
SELECT keys, bytes, puts > 0 AS puts, deletes > 0 AS deletes, cas_succeeded > 0 AS cas,
	duplicates >= 0 AS duplicates, sessions > 0 AS sessions,
	applied_index = pgraft_get_applied_index() AS applied,
	state_hash ~ '^[0-9a-f]{16}$' AS hash, memory_bytes > bytes AS memory
	FROM pgraft_kv_get_stats();
SELECT state_hash, applied_index FROM pgraft_kv_get_stats() \gset
SELECT pgraft_snapshot() >= :applied_index AS snapshot;
SELECT state_hash = :'state_hash' AS unchanged FROM pgraft_kv_get_stats();
SELECT pgraft_kv_put('many/1', 'changed') > 0 AS put;
SELECT state_hash <> :'state_hash' AS changed FROM pgraft_kv_get_stats();

-- not transactional
BEGIN;
SELECT pgraft_kv_put('rolled back', 'but there') > 0 AS put;
ROLLBACK;
SELECT pgraft_kv_get('rolled back');

-- reset forgets the keys; the revision goes on
SELECT revision FROM pgraft_kv_get_stats() \gset
SELECT pgraft_kv_reset();
SELECT pgraft_kv_reset();
SELECT keys, bytes, revision - :revision AS revisions FROM pgraft_kv_get_stats();
SELECT pgraft_kv_put('a', 'after') - :revision AS revisions;
SELECT key, value, create_revision - :revision AS created, version FROM pgraft_kv;
