/* pgraft--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pgraft" to load this file. \quit

-- ----------------------------------------------------------------
-- Roles.  They belong to the server, not to this database: another database
-- may have made them, and DROP EXTENSION leaves them.
-- ----------------------------------------------------------------
DO $$
DECLARE
	wanted pg_catalog.text;
BEGIN
	FOREACH wanted IN ARRAY ARRAY['pgraft_monitor', 'pgraft_reader', 'pgraft_writer', 'pgraft_admin']::pg_catalog.text[]
	LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) wanted) THEN
			BEGIN
				EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
			EXCEPTION
				-- another session was faster
				WHEN duplicate_object OR unique_violation THEN NULL;
			END;
		END IF;
	END LOOP;

	-- granting again what is granted would only give notices
	IF NOT pg_catalog.pg_has_role('pg_monitor', 'pgraft_monitor', 'MEMBER') THEN
		GRANT pgraft_monitor TO pg_monitor;
	END IF;
	IF NOT pg_catalog.pg_has_role('pgraft_admin', 'pgraft_monitor', 'MEMBER') THEN
		GRANT pgraft_monitor TO pgraft_admin;
	END IF;
	IF NOT pg_catalog.pg_has_role('pgraft_writer', 'pgraft_reader', 'MEMBER') THEN
		GRANT pgraft_reader TO pgraft_writer;
	END IF;
END
$$;

-- ----------------------------------------------------------------
-- Cluster: changes.  Unsafe in parallel plans, like everything that changes
-- the cluster's state.
-- ----------------------------------------------------------------
CREATE FUNCTION pgraft_init()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_init'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_init() IS
'Makes a cluster with this server as its first member.  True when this call made it, false when this server was a member already.  Not undone by ROLLBACK.  SQLSTATE 55000: not preloaded, pgraft.node_id not set, or removed from its cluster; 57P03: worker not running; 40003: outcome unknown.';

CREATE FUNCTION pgraft_add_node(node_id integer, address text, port integer,
	role text DEFAULT 'voter', name text DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_add_node'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_add_node(integer, text, integer, text, text) IS
'Adds a member, on any member of the cluster.  It catches up as a learner before it gets its role: voter, learner or witness.  The name, by default "node" and the id, is what its certificate must bear.  Not undone by ROLLBACK.  SQLSTATE 22023: bad argument; 22004: null argument; 42710: id or address in use; 08001: it does not answer; 54000: too many members; 55006: another change is pending; 55000: not a member of a cluster; 57P03: no leader; 40003: outcome unknown.';

CREATE FUNCTION pgraft_remove_node(node_id integer)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_remove_node'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_remove_node(integer) IS
'Removes a member; the leader hands over first.  Not undone by ROLLBACK.  SQLSTATE 22023: bad argument; 22004: null argument; 42704: no such member; 55000: it is the last voter, or this server is not a member of a cluster; 55006: another change is pending; 57P03: no leader; 40003: outcome unknown.';

CREATE FUNCTION pgraft_update_node(node_id integer, address text, port integer,
	name text DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_update_node'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_update_node(integer, text, integer, text) IS
'Changes where a member is reached, and its name unless that is null.  Not undone by ROLLBACK.  SQLSTATE 22023: bad argument; 22004: null argument; 42704: no such member; 42710: address in use; 55006: another change is pending; 55000: not a member of a cluster; 57P03: no leader; 40003: outcome unknown.';

CREATE FUNCTION pgraft_promote_learner(node_id integer)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_promote_learner'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_promote_learner(integer) IS
'Makes a learner a voter.  Not undone by ROLLBACK.  SQLSTATE 22023: bad argument or no learner; 22004: null argument; 42704: no such member; 55006: another change is pending; 55000: not a member of a cluster; 57P03: no leader; 40003: outcome unknown.';

CREATE FUNCTION pgraft_change_members(changes jsonb)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_change_members'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_change_members(jsonb) IS
'Several changes of membership as one: all of them or none.  An array of objects with the fields action (add, remove, promote, demote), node_id, and for add: address, port, role (default voter), name; for promote: role.  Those to be added catch up as learners; then one joint configuration replaces the voters.  A leader that goes hands over first.  Not undone by ROLLBACK.  SQLSTATE 22023: bad list or no such change of that member; 22004: null argument; 42704: no such member; 42710: id or address in use; 08001: a member to be added does not answer; 54000: too many members; 55000: no voter would be left, a member to be added did not catch up in time, or this server is not a member of a cluster; 57P03: no leader; 40003: outcome unknown.';

CREATE FUNCTION pgraft_transfer_leadership(node_id integer DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_transfer_leadership'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_transfer_leadership(integer) IS
'Makes the leader hand over to that voter, by default to the one that has most of the log.  SQLSTATE 22023: bad argument; 42704: no such member; 55000: not a member of a cluster; 57P03: no leader; 40003: outcome unknown.';

CREATE FUNCTION pgraft_step_down()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_step_down'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_step_down() IS
'Makes the leader a follower; the others elect.  SQLSTATE 55000: not a member of a cluster; 57P03: no leader; 40003: outcome unknown.';

-- ----------------------------------------------------------------
-- Cluster: looking.  They read shared memory and work everywhere.
-- ----------------------------------------------------------------
CREATE FUNCTION pgraft_is_leader()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_is_leader'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_is_leader() IS
'Whether this member is the leader, as far as it knows.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_get_leader()
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_get_leader'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_leader() IS
'Node id of the leader that this member follows, null when it knows of none.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_get_term()
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_get_term'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_term() IS
'Current term of this member, 0 before the first election.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_get_state()
RETURNS text
AS 'MODULE_PATHNAME', 'pgraft_sql_get_state'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_state() IS
'leader, follower, candidate or precandidate; the state of the worker when this server takes part in no cluster.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_get_worker_state()
RETURNS text
AS 'MODULE_PATHNAME', 'pgraft_sql_get_worker_state'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_worker_state() IS
'stopped, starting, blank, running, removed or failed.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_get_version()
RETURNS text
AS 'MODULE_PATHNAME', 'pgraft_sql_get_version'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_version() IS
'Release of the library.';

CREATE FUNCTION pgraft_get_cluster_status(
	OUT node_id integer,
	OUT current_term bigint,
	OUT leader_id bigint,
	OUT state text,
	OUT num_nodes integer,
	OUT messages_processed bigint,
	OUT heartbeats_sent bigint,
	OUT elections_triggered bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_sql_get_cluster_status'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_cluster_status() IS
'The cluster as this member sees it, one row.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_get_nodes(
	OUT node_id integer,
	OUT address text,
	OUT port integer,
	OUT is_leader boolean,
	OUT role text,
	OUT name text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_get_nodes'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_nodes() IS
'The members that this member knows.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_wait_for_leader(timeout_ms integer DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_wait_for_leader'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pgraft_wait_for_leader(integer) IS
'Waits until this member knows a leader and returns its node id; null after timeout_ms (default: pgraft.request_timeout).  SQLSTATE 22023: negative timeout; 55000: not preloaded.';

CREATE FUNCTION pgraft_wait_applied(index bigint, timeout_ms integer DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_wait_applied'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pgraft_wait_applied(bigint, integer) IS
'Waits until this member has applied the log up to index; false after timeout_ms (default: pgraft.request_timeout).  SQLSTATE 22023: negative argument; 22004: null index; 55000: not preloaded.';

-- ----------------------------------------------------------------
-- Log
-- ----------------------------------------------------------------
CREATE FUNCTION pgraft_log_append(data text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_log_append_text'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_log_append(text) IS
'Appends an entry (in UTF-8) and returns its index once it is committed and applied here.  Not undone by ROLLBACK.  SQLSTATE 22004: null data; 54000: larger than pgraft.max_entry_size; 55000: not a member of a cluster; 57P03: no leader; 40003: outcome unknown; 53400: request queue full; 53100: disk full.';

CREATE FUNCTION pgraft_log_append(data bytea)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_log_append_bytea'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_log_append(bytea) IS
'Appends an entry and returns its index once it is committed and applied here.  Not undone by ROLLBACK.  SQLSTATE: like pgraft_log_append(text).';

CREATE FUNCTION pgraft_replicate_entry(data text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_log_append_text'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_replicate_entry(text) IS
'The same as pgraft_log_append(text).';

CREATE FUNCTION pgraft_replicate_entry(data bytea)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_log_append_bytea'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_replicate_entry(bytea) IS
'The same as pgraft_log_append(bytea).';

CREATE FUNCTION pgraft_log_get_entry(
	IN index bigint,
	OUT index bigint,
	OUT term bigint,
	OUT kind text,
	OUT key text,
	OUT data bytea,
	OUT data_text text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_log_get_entry'
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION pgraft_log_get_entry(bigint) IS
'The committed entry at that index in this member''s log, or no row.  data_text is null for bytes that are no text.  SQLSTATE 22023: index below 1, or no longer kept; 22004: null index; 55000: not a member of a cluster; 57P03: worker not running.';

CREATE FUNCTION pgraft_log_entries(
	from_index bigint,
	to_index bigint,
	OUT index bigint,
	OUT term bigint,
	OUT kind text,
	OUT key text,
	OUT data bytea,
	OUT data_text text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_log_entries'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pgraft_log_entries(bigint, bigint) IS
'The committed entries in that range of this member''s log.  SQLSTATE 22023: index below 1, from_index greater than to_index, or no longer kept; 22004: null argument; 55000: not a member of a cluster; 57P03: worker not running.';

CREATE FUNCTION pgraft_log_get_stats(
	OUT first_index bigint,
	OUT last_index bigint,
	OUT last_term bigint,
	OUT durable_index bigint,
	OUT commit_index bigint,
	OUT applied_index bigint,
	OUT snapshot_index bigint,
	OUT snapshot_term bigint,
	OUT entries_applied bigint,
	OUT uncommitted_bytes bigint,
	OUT cached_bytes bigint,
	OUT log_bytes bigint,
	OUT segments bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_sql_log_get_stats'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_log_get_stats() IS
'Positions and size of this member''s log.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_log_get_replication_status(
	OUT node_id integer,
	OUT role text,
	OUT is_self boolean,
	OUT state text,
	OUT match_index bigint,
	OUT next_index bigint,
	OUT lag_entries bigint,
	OUT inflight_messages bigint,
	OUT inflight_bytes bigint,
	OUT snapshot_sent_bytes bigint,
	OUT snapshot_total_bytes bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_log_get_replication_status'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_log_get_replication_status() IS
'How far each member has the log, as the leader knows it; null elsewhere.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_get_applied_index()
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_get_applied_index'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_applied_index() IS
'Index of the last log entry that this member has applied.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_snapshot()
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_snapshot'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_snapshot() IS
'Makes this member write a snapshot and returns the index it covers.  SQLSTATE 55000: not a member of a cluster; 57P03: worker not running; 53100: disk full.';

-- ----------------------------------------------------------------
-- Key-value store: writes
-- ----------------------------------------------------------------
CREATE FUNCTION pgraft_kv_put(key text, value text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_put'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_put(text, text) IS
'Sets a key and returns the new revision of the store.  Not undone by ROLLBACK.  SQLSTATE 22004: null argument; 22023: empty key; 54000: key longer than 1024 bytes or command larger than pgraft.max_entry_size; 55000: not a member of a cluster; 57P03: no leader; 40003: outcome unknown; 53400: request queue full; 53100: disk full.';

CREATE FUNCTION pgraft_kv_cas(key text, expected_revision bigint, value text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_cas'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_cas(text, bigint, text) IS
'Sets a key if its revision of the last change is the expected one (0: if it does not exist).  Returns the new revision, or null when it was not.  Not undone by ROLLBACK.  SQLSTATE: like pgraft_kv_put(); 22023 for a negative revision, too.';

CREATE FUNCTION pgraft_kv_delete(key text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_delete'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_delete(text) IS
'Deletes a key; false when there was none.  Not undone by ROLLBACK.  SQLSTATE: like pgraft_kv_put().';

CREATE FUNCTION pgraft_kv_delete_prefix(prefix text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_delete_prefix'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_delete_prefix(text) IS
'Deletes the keys that begin with prefix and returns how many there were.  Not undone by ROLLBACK.  SQLSTATE: like pgraft_kv_put().';

CREATE FUNCTION pgraft_kv_reset()
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_reset'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_reset() IS
'Deletes all keys and returns how many there were; revisions go on.  Not undone by ROLLBACK.  SQLSTATE: like pgraft_kv_put().';

-- ----------------------------------------------------------------
-- Key-value store: reads
-- ----------------------------------------------------------------
CREATE FUNCTION pgraft_kv_get(key text, consistency text DEFAULT 'linearizable')
RETURNS text
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_get'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pgraft_kv_get(text, text) IS
'Value of a key, null when there is none.  consistency "linearizable" asks the leader first and sees everything that was committed before; "local" takes what this member has.  SQLSTATE 22004: null argument; 22023: empty key or unrecognized consistency; 54000: key longer than 1024 bytes; 22P05: no equivalent in the database''s encoding; 55000: not a member of a cluster; 57P03: no leader, or the store is not loaded yet.';

CREATE FUNCTION pgraft_kv_entry(
	key text,
	consistency text DEFAULT 'linearizable',
	OUT value text,
	OUT create_revision bigint,
	OUT mod_revision bigint,
	OUT version bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_entry'
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION pgraft_kv_entry(text, text) IS
'Value and revisions of a key: one row, or none; version counts the puts since its creation.  SQLSTATE: like pgraft_kv_get().';

CREATE FUNCTION pgraft_kv_exists(key text, consistency text DEFAULT 'linearizable')
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_exists'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pgraft_kv_exists(text, text) IS
'Whether a key exists.  SQLSTATE: like pgraft_kv_get().';

CREATE FUNCTION pgraft_kv_list_keys(prefix text DEFAULT '', "limit" bigint DEFAULT NULL,
	consistency text DEFAULT 'linearizable')
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_list_keys'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pgraft_kv_list_keys(text, bigint, text) IS
'Keys that begin with prefix, in the order of their bytes.  The result is the state at one revision, except that in a store of more than 100000 keys it may mix neighbouring ones when keys are overwritten or deleted meanwhile.  SQLSTATE: like pgraft_kv_get(); 22023 for a negative limit, too.';

CREATE FUNCTION pgraft_kv_list(
	prefix text DEFAULT '',
	"limit" bigint DEFAULT NULL,
	consistency text DEFAULT 'linearizable',
	OUT key text,
	OUT value text,
	OUT create_revision bigint,
	OUT mod_revision bigint,
	OUT version bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_list'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pgraft_kv_list(text, bigint, text) IS
'Keys that begin with prefix with values and revisions, in the order of their bytes.  The result is the state at one revision, except that in a store of more than 100000 keys it may mix neighbouring ones when keys are overwritten or deleted meanwhile.  SQLSTATE: like pgraft_kv_get(); 22023 for a negative limit, too.';

CREATE FUNCTION pgraft_kv_get_stats(
	OUT keys bigint,
	OUT bytes bigint,
	OUT revision bigint,
	OUT puts bigint,
	OUT deletes bigint,
	OUT cas_succeeded bigint,
	OUT cas_failed bigint,
	OUT duplicates bigint,
	OUT log_entries bigint,
	OUT sessions bigint,
	OUT applied_index bigint,
	OUT state_hash text,
	OUT memory_bytes bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_sql_kv_get_stats'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_kv_get_stats() IS
'The store of this member in figures.  Members with the same applied_index have the same state_hash.  puts to duplicates count since the worker''s start.  SQLSTATE 55000: not a member of a cluster; 57P03: the store is not loaded yet.';

-- ----------------------------------------------------------------
-- Statistics
-- ----------------------------------------------------------------
CREATE FUNCTION pgraft_stat(
	OUT node_id integer,
	OUT name text,
	OUT cluster_id text,
	OUT cluster_uid text,
	OUT worker_pid integer,
	OUT worker_state text,
	OUT failure text,
	OUT role text,
	OUT state text,
	OUT term bigint,
	OUT voted_for bigint,
	OUT leader_id bigint,
	OUT leader_since timestamptz,
	OUT leader_changes bigint,
	OUT num_nodes integer,
	OUT num_voters integer,
	OUT config_index bigint,
	OUT transfer_target bigint,
	OUT first_index bigint,
	OUT last_index bigint,
	OUT durable_index bigint,
	OUT commit_index bigint,
	OUT applied_index bigint,
	OUT snapshot_index bigint,
	OUT lease_valid boolean,
	OUT elections bigint,
	OUT prevotes bigint,
	OUT messages_received bigint,
	OUT messages_ignored bigint,
	OUT messages_dropped bigint,
	OUT heartbeats_sent bigint,
	OUT proposals bigint,
	OUT proposals_committed bigint,
	OUT proposals_forwarded bigint,
	OUT proposals_failed bigint,
	OUT proposal_bytes bigint,
	OUT proposal_batches bigint,
	OUT entries_applied bigint,
	OUT reads_linearizable bigint,
	OUT snapshots_taken bigint,
	OUT snapshots_installed bigint,
	OUT loop_turns bigint,
	OUT queue_depth bigint,
	OUT pending_write_bytes bigint,
	OUT uncommitted_bytes bigint,
	OUT cached_bytes bigint,
	OUT fsyncs bigint,
	OUT fsync_time double precision,
	OUT connections_accepted bigint,
	OUT connections_rejected bigint,
	OUT started_at timestamptz,
	OUT stats_reset timestamptz)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_sql_stat'
LANGUAGE C VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pgraft_stat() IS
'What is under the view pg_stat_pgraft.  SQLSTATE 55000: not preloaded.';

CREATE VIEW pg_stat_pgraft AS
	SELECT * FROM pgraft_stat();
COMMENT ON VIEW pg_stat_pgraft IS
'This member: one row.  Times are in milliseconds; null means unknown.  Counters begin at stats_reset.  messages_dropped counts what peers sent, or were to be answered, beyond what may wait for a disk that does not answer.';

CREATE FUNCTION pgraft_stat_members(
	OUT node_id integer,
	OUT name text,
	OUT address text,
	OUT port integer,
	OUT role text,
	OUT target_role text,
	OUT priority integer,
	OUT incarnation bigint,
	OUT is_leader boolean,
	OUT is_self boolean,
	OUT state text,
	OUT match_index bigint,
	OUT next_index bigint,
	OUT lag_entries bigint,
	OUT lag_bytes bigint,
	OUT lag_time double precision,
	OUT inflight_messages bigint,
	OUT inflight_bytes bigint,
	OUT snapshot_sent_bytes bigint,
	OUT snapshot_total_bytes bigint,
	OUT last_contact timestamptz,
	OUT health text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_stat_members'
LANGUAGE C VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pgraft_stat_members() IS
'What is under the view pg_stat_pgraft_members.  SQLSTATE 55000: not preloaded.';

CREATE VIEW pg_stat_pgraft_members AS
	SELECT * FROM pgraft_stat_members();
COMMENT ON VIEW pg_stat_pgraft_members IS
'One row a member.  state to snapshot_total_bytes are known to the leader alone.  lag_time is for how many milliseconds it has lacked the first entry that it lacks, lag_bytes what the commands since then take; null for entries from before this leader.  health is ok, lagging, catching up, unreachable, no leader, or null when this member cannot tell.';

CREATE FUNCTION pgraft_stat_network(
	OUT node_id integer,
	OUT name text,
	OUT address text,
	OUT port integer,
	OUT connected boolean,
	OUT inbound boolean,
	OUT bytes_sent bigint,
	OUT bytes_received bigint,
	OUT messages_sent bigint,
	OUT messages_received bigint,
	OUT connects bigint,
	OUT connect_failures bigint,
	OUT errors bigint,
	OUT dropped bigint,
	OUT queued_bytes bigint,
	OUT rtt double precision,
	OUT tls_version text,
	OUT tls_cipher text,
	OUT last_error text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_stat_network'
LANGUAGE C VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pgraft_stat_network() IS
'What is under the view pg_stat_pgraft_network.  SQLSTATE 55000: not preloaded.';

CREATE VIEW pg_stat_pgraft_network AS
	SELECT * FROM pgraft_stat_network();
COMMENT ON VIEW pg_stat_pgraft_network IS
'One row a peer, counted since stats_reset of pg_stat_pgraft.  rtt is the smoothed round trip in milliseconds.';

CREATE FUNCTION pgraft_stat_storage(
	OUT segments bigint,
	OUT spare_segments bigint,
	OUT log_bytes bigint,
	OUT first_index bigint,
	OUT last_index bigint,
	OUT bytes_written bigint,
	OUT batches bigint,
	OUT fsyncs bigint,
	OUT fsync_time double precision,
	OUT fsync_time_max double precision,
	OUT fsync_histogram bigint[],
	OUT fsync_bounds double precision[],
	OUT snapshots_written bigint,
	OUT snapshot_index bigint,
	OUT snapshot_bytes bigint,
	OUT torn_tails bigint,
	OUT torn_bytes bigint,
	OUT recovery_time double precision,
	OUT recovery_bytes bigint,
	OUT started_at timestamptz)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_sql_stat_storage'
LANGUAGE C VOLATILE PARALLEL SAFE;

COMMENT ON FUNCTION pgraft_stat_storage() IS
'What is under the view pg_stat_pgraft_storage.  SQLSTATE 55000: not preloaded.';

CREATE VIEW pg_stat_pgraft_storage AS
	SELECT * FROM pgraft_stat_storage();
COMMENT ON VIEW pg_stat_pgraft_storage IS
'The consensus log on disk, counted since started_at.  Times are in milliseconds; fsync_histogram[i] counts the flushes that took less than fsync_bounds[i] and not less than the bound before.';

CREATE FUNCTION pgraft_reset_stats()
RETURNS void
AS 'MODULE_PATHNAME', 'pgraft_sql_reset_stats'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_reset_stats() IS
'Makes the counters of pg_stat_pgraft and pg_stat_pgraft_network begin again, and those of what was written and flushed in pg_stat_pgraft_storage.  SQLSTATE 55000: not preloaded.';

-- reads what this member has, so that it never waits for the cluster
CREATE VIEW pgraft_kv AS
	SELECT * FROM pgraft_kv_list('', NULL, 'local');
COMMENT ON VIEW pgraft_kv IS
'All keys of this member''s store.';

-- ----------------------------------------------------------------
-- High availability (pgraft.mode = 'ha')
-- ----------------------------------------------------------------
CREATE FUNCTION pgraft_switchover(target integer DEFAULT NULL, at timestamptz DEFAULT NULL)
RETURNS integer
AS 'MODULE_PATHNAME', 'pgraft_sql_switchover'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_switchover(integer, timestamptz) IS
'Makes another member the primary, losing nothing: the primary stops writing and becomes a standby, the target gets everything and is promoted.  Without a target, the first member that has everything.  Gives the new primary, or raises when it was given up after 30 seconds and the old one goes on.  On the old primary the session ends with its server''s demotion.  With at it only notes in the cluster when to begin, and gives null: a later call replaces that, pgraft_cancel_switchover() and any other change of the primary cancel it.  SQLSTATE 55000: not in HA mode, or refused, with the reason; 22023: at is not in the future; 42704: no such member; 57014: not finished in time; 57P03: no leader.';

CREATE FUNCTION pgraft_cancel_switchover()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_cancel_switchover'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_cancel_switchover() IS
'Cancels the switchover that was scheduled by pgraft_switchover(); true when there was one.  SQLSTATE 55000: not in HA mode; 57P03: no leader.';

CREATE FUNCTION pgraft_failover(target integer DEFAULT NULL, allow_data_loss boolean DEFAULT false)
RETURNS integer
AS 'MODULE_PATHNAME', 'pgraft_sql_failover'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_failover(integer, boolean) IS
'Chooses a primary anew, also while paused: the member with the newest data, and only when enough members report that nothing acknowledged is missing.  With allow_data_loss the target becomes the primary with what it has; what only others have is lost.  Gives the new primary.  SQLSTATE 55000: not in HA mode, or refused; 22023: target without allow_data_loss; 42704: no such member; 57014: not finished in time, it goes on; 57P03: no leader.';

CREATE FUNCTION pgraft_fence()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_fence'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_fence() IS
'Ends the primary''s epoch, also while paused: it acknowledges nothing more, and the cluster chooses a primary anew.  SQLSTATE 55000: not in HA mode, or refused; 57P03: no leader.';

CREATE FUNCTION pgraft_pause()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_pause'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_pause() IS
'Maintenance: no failover happens by itself until pgraft_resume().  True when this call changed it.  SQLSTATE 55000: not in HA mode; 57P03: no leader.';

CREATE FUNCTION pgraft_resume()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_resume'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_resume() IS
'Ends what pgraft_pause() began.  True when this call changed it.  SQLSTATE 55000: not in HA mode; 57P03: no leader.';

CREATE FUNCTION pgraft_is_primary()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_sql_is_primary'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_is_primary() IS
'Whether this server accepts writes now as the primary of its cluster.  False outside HA mode.';

CREATE FUNCTION pgraft_get_primary()
RETURNS integer
AS 'MODULE_PATHNAME', 'pgraft_sql_get_primary'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_primary() IS
'The primary''s node id as far as this member knows; NULL while there is none, and outside HA mode.';

CREATE FUNCTION pgraft_connection_string(mode text DEFAULT 'any')
RETURNS text
AS 'MODULE_PATHNAME', 'pgraft_sql_connection_string'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_connection_string(text) IS
'Hosts and ports of the cluster''s PostgreSQL servers for libpq.  "any": all of them; "read-write" and "standby": with target_session_attrs; "primary": the primary alone, NULL while there is none.  SQLSTATE 55000: not in HA mode; 22023: another mode.';

CREATE FUNCTION pgraft_stat_ha(
	OUT node_id integer, OUT own_role text, OUT own_role_since timestamptz,
	OUT action text, OUT failure text, OUT accepts_writes boolean, OUT lease_remaining double precision,
	OUT epoch bigint, OUT phase text, OUT primary_id integer, OUT old_primary_id integer,
	OUT paused boolean, OUT loaded boolean,
	OUT sync_standbys integer, OUT sync_members integer[],
	OUT next_sync_standbys integer, OUT next_sync_members integer[],
	OUT sync_generation bigint, OUT own_sync_generation bigint,
	OUT switchover_from integer, OUT switchover_target integer,
	OUT scheduled_at timestamptz, OUT scheduled_target integer,
	OUT sync_mode text, OUT wanted_sync_standbys integer, OUT maximum_lag bigint,
	OUT recorded_lsn pg_lsn, OUT recorded_at timestamptz,
	OUT promoted_epoch bigint, OUT wal_epoch bigint, OUT timeline bigint, OUT lsn pg_lsn,
	OUT open_epoch bigint, OUT guarded bigint, OUT refused bigint, OUT waiting_clients integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_stat_ha'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_stat_ha() IS
'What is under the view pg_stat_pgraft_ha.  SQLSTATE 55000: not preloaded.';

CREATE VIEW pg_stat_pgraft_ha AS
	SELECT * FROM pgraft_stat_ha();
COMMENT ON VIEW pg_stat_pgraft_ha IS
'High availability as this server sees it, one row; none outside HA mode.  The first columns are about this server (lease_remaining in milliseconds), those from epoch to recorded_at about the cluster.  sync_mode, wanted_sync_standbys and maximum_lag (bytes) are the primary''s settings; recorded_lsn is what the cluster last heard of the primary''s WAL.  waiting_clients are sessions here whose commits wait for standbys; guarded counts false acknowledgements that were prevented, refused counts statements that the fence refused, since the last start.';

CREATE FUNCTION pgraft_ha_member_list(
	OUT node_id integer, OUT name text, OUT host text, OUT port integer,
	OUT role text, OUT state text, OUT synchronous boolean, OUT priority integer,
	OUT reported boolean, OUT wal_epoch bigint, OUT timeline bigint, OUT lsn pg_lsn)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_ha_member_list'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_ha_member_list() IS
'What the cluster document says of the members that can become primary; see pgraft_ha_members().  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_ha_members(
	OUT node_id integer, OUT name text, OUT host text, OUT port integer,
	OUT role text, OUT state text, OUT synchronous boolean, OUT priority integer,
	OUT lag_bytes numeric, OUT replay_lag interval, OUT reported_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL SAFE
BEGIN ATOMIC
	SELECT m.node_id, m.name, m.host, m.port, m.role, m.state, m.synchronous, m.priority,
		CASE WHEN r.flush_lsn IS NOT NULL AND NOT pg_catalog.pg_is_in_recovery()
			THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), r.flush_lsn) END,
		r.replay_lag, m.lsn
	FROM pgraft_ha_member_list() m
		LEFT JOIN LATERAL (SELECT s.flush_lsn, s.replay_lag FROM pg_catalog.pg_stat_replication s
			WHERE s.application_name OPERATOR(pg_catalog.=) m.name LIMIT 1) r ON true;
END;
COMMENT ON FUNCTION pgraft_ha_members() IS
'The members that can become primary; none outside HA mode.  Lag is known on the primary only, to roles that may read pg_stat_replication.  SQLSTATE 55000: not preloaded.';

CREATE FUNCTION pgraft_ha_history(
	OUT epoch bigint, OUT reason text, OUT old_primary integer, OUT new_primary integer,
	OUT promoted boolean, OUT began_at timestamptz, OUT ended_at timestamptz,
	OUT duration double precision, OUT timeline bigint, OUT fork_lsn pg_lsn,
	OUT possible_loss bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_sql_ha_history'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_ha_history() IS
'What is under the view pgraft_history.  SQLSTATE 55000: not preloaded.';

CREATE VIEW pgraft_history AS
	SELECT * FROM pgraft_ha_history();
COMMENT ON VIEW pgraft_history IS
'The newest 64 epochs, oldest first: why each began, who was primary before and after, how long it took in milliseconds, where its timeline begins.  promoted is false for one that came to nothing.  possible_loss, in mode async only: so many bytes of WAL the new primary lacked of what the old one had when it was last recorded (pg_stat_pgraft_ha.recorded_at); what that wrote later comes on top.';

-- Each check is one row whatever comes out; those of high availability exist in HA mode
-- only.  What a row compares with is in its detail.
CREATE VIEW pgraft_health AS
	WITH ha AS (SELECT * FROM pgraft_stat_ha()),
		known AS (SELECT * FROM pgraft_ha_member_list()),
		slots AS (
			SELECT m.node_id, s.slot_name,
				pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()
					THEN pg_catalog.pg_last_wal_replay_lsn()
					ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn) AS held
			FROM known m LEFT JOIN pg_catalog.pg_replication_slots s
				ON s.slot_name = 'pgraft_node' || m.node_id
			WHERE m.node_id <> (SELECT node_id FROM ha)),
		many AS (SELECT 10 * setting::bigint * 1048576 AS bytes
			FROM pg_catalog.pg_settings WHERE name = 'max_wal_size')
	SELECT 'worker' AS check_name,
		CASE WHEN worker_state = 'running' THEN 'ok' ELSE 'critical' END AS status,
		coalesce(nullif(failure, ''), 'The worker is ' || worker_state || '.') AS detail,
		CASE WHEN worker_state <> 'running' THEN 'See the server log.' END AS hint
	FROM pgraft_stat()
	UNION ALL
	SELECT 'leader', CASE WHEN leader IS NULL THEN 'critical' ELSE 'ok' END,
		coalesce('Member ' || leader || ' leads.', 'This member knows no leader.'),
		CASE WHEN leader IS NULL THEN 'A majority of the voters must run and reach each other.' END
	FROM pgraft_get_leader() AS leader
	UNION ALL
	SELECT 'primary', CASE WHEN phase = 'steady' THEN 'ok' ELSE 'critical' END,
		CASE WHEN phase = 'steady' THEN 'Member ' || primary_id || ' is the primary of epoch ' || epoch || '.'
			ELSE 'Epoch ' || epoch || ' is in phase "' || phase || '".' END,
		CASE WHEN phase = 'sealing' THEN 'pgraft_ha_members() shows who has not reported.' END
	FROM ha
	UNION ALL
	SELECT 'own server', CASE WHEN failure <> '' OR own_role IN ('rewind', 'reclone', 'failed') THEN 'critical'
			WHEN own_role IN ('primary', 'standby') THEN 'ok' ELSE 'warning' END,
		'It is ' || own_role || coalesce(', ' || nullif(action, ''), '') || coalesce(', ' || nullif(failure, ''), '') || '.',
		CASE WHEN own_role IN ('rewind', 'reclone') THEN 'Use "pgraftctl rejoin".' END
	FROM ha
	UNION ALL
	SELECT 'fence', CASE WHEN own_role = 'primary' AND NOT accepts_writes THEN 'critical' ELSE 'ok' END,
		CASE WHEN accepts_writes THEN 'Writes are accepted; the lease lasts for ' || round(lease_remaining) || ' ms.'
			ELSE 'Writes are refused here.' END,
		CASE WHEN own_role = 'primary' AND NOT accepts_writes THEN 'The primary must reach a majority of the voters.' END
	FROM ha
	UNION ALL
	SELECT 'synchronous standbys',
		CASE WHEN sync_mode <> 'async' AND sync_standbys < wanted_sync_standbys THEN 'warning' ELSE 'ok' END,
		'Commits wait for ' || sync_standbys || ' of ' || greatest(cardinality(sync_members) - 1, 0) || ' standbys, '
			|| CASE WHEN sync_mode = 'async' THEN 'mode async.' ELSE wanted_sync_standbys || ' are wanted, mode ' || sync_mode || '.' END,
		CASE WHEN sync_mode <> 'async' AND sync_standbys < wanted_sync_standbys
			THEN 'When the primary is lost now, it is needed for a failover.' END
	FROM ha
	UNION ALL
	SELECT 'waiting commits',
		CASE WHEN waiting_clients > 0 AND (SELECT count(*) FROM known WHERE role = 'standby' AND state = 'streaming') < sync_standbys
			THEN 'critical' ELSE 'ok' END,
		waiting_clients || ' sessions wait for standbys, of which '
			|| (SELECT count(*) FROM known WHERE role = 'standby' AND state = 'streaming') || ' follow.',
		CASE WHEN waiting_clients > 0 AND (SELECT count(*) FROM known WHERE role = 'standby' AND state = 'streaming') < sync_standbys
			THEN 'Start standbys; in mode strict, or lower "pgraft.synchronous_standbys" on the primary.' END
	FROM ha
	UNION ALL
	SELECT 'members', CASE WHEN count(*) FILTER (WHERE role = 'standby' AND state <> 'streaming') > 0 THEN 'warning' ELSE 'ok' END,
		count(*) FILTER (WHERE role = 'standby' AND state = 'streaming') || ' of '
			|| count(*) FILTER (WHERE role = 'standby') || ' standbys follow'
			|| coalesce('; not: ' || string_agg(name || ' (' || state || ')', ', ' ORDER BY node_id)
				FILTER (WHERE role = 'standby' AND state <> 'streaming'), '') || '.',
		CASE WHEN count(*) FILTER (WHERE state IN ('rewind', 'reclone')) > 0 THEN 'Use "pgraftctl rejoin" there.' END
	FROM known HAVING count(*) > 0
	UNION ALL
	SELECT 'replication slots', CASE WHEN count(*) FILTER (WHERE slot_name IS NULL OR held IS NULL OR held > many.bytes) > 0
			THEN 'warning' ELSE 'ok' END,
		count(*) FILTER (WHERE held <= many.bytes) || ' of ' || count(*) || ' members'' slots are in order'
			|| coalesce('; not: ' || string_agg('member ' || node_id || CASE WHEN slot_name IS NULL THEN ' has none'
				WHEN held IS NULL THEN ' has lost its own' ELSE ' holds ' || held || ' bytes of WAL' END, ', ' ORDER BY node_id)
				FILTER (WHERE slot_name IS NULL OR held IS NULL OR held > many.bytes), '') || '.',
		CASE WHEN count(*) FILTER (WHERE slot_name IS NULL) > 0 THEN 'Raise "max_replication_slots".'
			WHEN count(*) FILTER (WHERE held > many.bytes) > 0 THEN 'Start that member, remove it, or set "max_slot_wal_keep_size".'
			WHEN count(*) FILTER (WHERE held IS NULL) > 0 THEN 'That member may have to be cloned again.' END
	FROM slots, many GROUP BY many.bytes
	UNION ALL
	SELECT 'maintenance', CASE WHEN paused THEN 'warning' ELSE 'ok' END,
		CASE WHEN paused THEN 'No failover happens by itself.' ELSE 'The cluster is not paused.' END
			|| CASE WHEN scheduled_at IS NOT NULL THEN ' A switchover is scheduled for ' || scheduled_at || '.' ELSE '' END,
		CASE WHEN paused THEN 'Use pgraft_resume().' END
	FROM ha
	UNION ALL
	SELECT 'developer settings', CASE WHEN setting = '' THEN 'ok' ELSE 'critical' END,
		CASE WHEN setting = '' THEN 'All mechanisms that keep data safe are in force.'
			ELSE '"pgraft.developer_disable" is "' || setting || '".' END,
		CASE WHEN setting <> '' THEN 'Acknowledged transactions can be lost.' END
	FROM ha, pg_catalog.current_setting('pgraft.developer_disable') AS setting;
COMMENT ON VIEW pgraft_health IS
'What is in order on this member and in the cluster as it sees it, one row a check: status is ok, warning or critical.  Outside HA mode only worker and leader.';

-- ----------------------------------------------------------------
-- Privileges.  Everybody may ask who leads; the rest is for roles.
-- ----------------------------------------------------------------
REVOKE EXECUTE ON FUNCTION
	pgraft_init(),
	pgraft_add_node(integer, text, integer, text, text),
	pgraft_remove_node(integer),
	pgraft_update_node(integer, text, integer, text),
	pgraft_promote_learner(integer),
	pgraft_change_members(jsonb),
	pgraft_transfer_leadership(integer),
	pgraft_step_down(),
	pgraft_snapshot(),
	pgraft_reset_stats(),
	pgraft_kv_reset(),
	pgraft_switchover(integer, timestamptz),
	pgraft_cancel_switchover(),
	pgraft_failover(integer, boolean),
	pgraft_fence(),
	pgraft_pause(),
	pgraft_resume()
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	pgraft_init(),
	pgraft_add_node(integer, text, integer, text, text),
	pgraft_remove_node(integer),
	pgraft_update_node(integer, text, integer, text),
	pgraft_promote_learner(integer),
	pgraft_change_members(jsonb),
	pgraft_transfer_leadership(integer),
	pgraft_step_down(),
	pgraft_snapshot(),
	pgraft_reset_stats(),
	pgraft_kv_reset(),
	pgraft_switchover(integer, timestamptz),
	pgraft_cancel_switchover(),
	pgraft_failover(integer, boolean),
	pgraft_fence(),
	pgraft_pause(),
	pgraft_resume()
TO pgraft_admin;

REVOKE EXECUTE ON FUNCTION
	pgraft_log_append(text),
	pgraft_log_append(bytea),
	pgraft_replicate_entry(text),
	pgraft_replicate_entry(bytea),
	pgraft_kv_put(text, text),
	pgraft_kv_cas(text, bigint, text),
	pgraft_kv_delete(text),
	pgraft_kv_delete_prefix(text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	pgraft_log_append(text),
	pgraft_log_append(bytea),
	pgraft_replicate_entry(text),
	pgraft_replicate_entry(bytea),
	pgraft_kv_put(text, text),
	pgraft_kv_cas(text, bigint, text),
	pgraft_kv_delete(text),
	pgraft_kv_delete_prefix(text)
TO pgraft_writer;

REVOKE EXECUTE ON FUNCTION
	pgraft_log_get_entry(bigint),
	pgraft_log_entries(bigint, bigint),
	pgraft_kv_get(text, text),
	pgraft_kv_entry(text, text),
	pgraft_kv_exists(text, text),
	pgraft_kv_list_keys(text, bigint, text),
	pgraft_kv_list(text, bigint, text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	pgraft_log_get_entry(bigint),
	pgraft_log_entries(bigint, bigint),
	pgraft_kv_get(text, text),
	pgraft_kv_entry(text, text),
	pgraft_kv_exists(text, text),
	pgraft_kv_list_keys(text, bigint, text),
	pgraft_kv_list(text, bigint, text)
TO pgraft_reader;
GRANT SELECT ON pgraft_kv TO pgraft_reader;

REVOKE EXECUTE ON FUNCTION
	pgraft_get_nodes(),
	pgraft_log_get_stats(),
	pgraft_log_get_replication_status(),
	pgraft_kv_get_stats(),
	pgraft_stat(),
	pgraft_stat_members(),
	pgraft_stat_network(),
	pgraft_stat_storage(),
	pgraft_stat_ha(),
	pgraft_ha_member_list(),
	pgraft_ha_members(),
	pgraft_ha_history()
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	pgraft_get_nodes(),
	pgraft_log_get_stats(),
	pgraft_log_get_replication_status(),
	pgraft_kv_get_stats(),
	pgraft_stat(),
	pgraft_stat_members(),
	pgraft_stat_network(),
	pgraft_stat_storage(),
	pgraft_stat_ha(),
	pgraft_ha_member_list(),
	pgraft_ha_members(),
	pgraft_ha_history()
TO pgraft_monitor;
GRANT SELECT ON
	pg_stat_pgraft,
	pg_stat_pgraft_members,
	pg_stat_pgraft_network,
	pg_stat_pgraft_storage,
	pg_stat_pgraft_ha,
	pgraft_history,
	pgraft_health
TO pgraft_monitor;
