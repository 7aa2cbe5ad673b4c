-- The replicated log: appending, reading back, positions.
SELECT pgraft_log_append('first entry') AS first \gset
SELECT pgraft_log_append('\x00ff'::bytea) - :first AS second;
SELECT pgraft_replicate_entry('third') - :first AS third;
SELECT pgraft_replicate_entry('\xdeadbeef'::bytea) - :first AS fourth;
SELECT pgraft_log_append('') - :first AS fifth;
SELECT pgraft_kv_put('log key', 'log value') > 0 AS put;
SELECT pgraft_kv_cas('log key', 1, 'x') IS NULL AS refused;
SELECT pgraft_kv_delete('log key');
SELECT pgraft_kv_delete_prefix('log');
SELECT pgraft_kv_reset() >= 0 AS reset;

SELECT index - :first AS index, term > 0 AS term, kind, key, data, data_text
	FROM pgraft_log_get_entry(:first);
SELECT index - :first AS index, term > 0 AS term, kind, key, data, data_text
	FROM pgraft_log_entries(:first, :first + 9);
-- what is not there (yet) gives no rows
SELECT * FROM pgraft_log_get_entry(:first + 1000000);
SELECT count(*) FROM pgraft_log_entries(:first + 9, :first + 1000000);
SELECT count(*) FROM pgraft_log_entries(:first, 9223372036854775807);

-- the beginning of the log
SELECT kind, count(*) > 0 AS found FROM pgraft_log_entries(1, :first)
	WHERE kind IN ('config', 'empty') GROUP BY kind ORDER BY kind;

-- many entries come in order and whole
DO $$
BEGIN
	FOR i IN 1..500 LOOP
		PERFORM pgraft_log_append('entry ' || i || repeat('.', i));
	END LOOP;
END
$$;
SELECT count(*), min(length(data_text)), max(length(data_text)),
	bool_and(index = expected_index) AS in_order
	FROM (SELECT *, :first + 9 + row_number() OVER () AS expected_index
		FROM pgraft_log_entries(:first + 10, :first + 509)) AS entries;
SELECT length(pgraft_log_append(repeat('x', 500000))::text) > 0 AS appended;
SELECT length(data_text) FROM pgraft_log_get_entry(:first + 510);

-- positions
SELECT first_index > 0 AS first_index, last_index >= commit_index AS last_index,
	last_term > 0 AS last_term, durable_index <= last_index AS durable_index,
	commit_index >= applied_index AS commit_index, applied_index >= :first + 510 AS applied_index,
	snapshot_index <= applied_index AS snapshot_index, entries_applied > 0 AS entries_applied,
	uncommitted_bytes >= 0 AS uncommitted_bytes, cached_bytes >= 0 AS cached_bytes,
	log_bytes > 500000 AS log_bytes, segments > 0 AS segments
	FROM pgraft_log_get_stats();
SELECT log_entries >= 506 AS counted FROM pgraft_kv_get_stats();
SELECT node_id, role, is_self, state, match_index > 0 AS match_index,
	next_index > match_index AS next_index, lag_entries, inflight_messages, inflight_bytes,
	snapshot_sent_bytes, snapshot_total_bytes
	FROM pgraft_log_get_replication_status();
