-- Who may do what: roles decide.
-- every function of the extension, and who may execute it
SELECT p.oid::regprocedure AS function,
	array_to_string(ARRAY(
		SELECT CASE WHEN acl.grantee = 0 THEN 'public' ELSE acl.grantee::regrole::text END
			FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS acl
			WHERE acl.grantee <> p.proowner AND acl.privilege_type = 'EXECUTE'
			ORDER BY 1), ', ') AS may_execute
	FROM pg_depend AS d JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
		AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgraft')
	ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT c.relname AS view,
	array_to_string(ARRAY(
		SELECT CASE WHEN acl.grantee = 0 THEN 'public' ELSE acl.grantee::regrole::text END
			FROM aclexplode(c.relacl) AS acl
			WHERE acl.grantee <> c.relowner AND acl.privilege_type = 'SELECT'
			ORDER BY 1), ', ') AS may_select
	FROM pg_depend AS d JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
		AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgraft')
	ORDER BY c.relname COLLATE "C";
SELECT r.rolname AS member, g.rolname AS of
	FROM pg_auth_members AS m JOIN pg_roles AS r ON m.member = r.oid JOIN pg_roles AS g ON m.roleid = g.oid
	WHERE g.rolname LIKE 'pgraft\_%' ORDER BY 1, 2;
SELECT rolname, rolcanlogin, rolsuper FROM pg_roles WHERE rolname LIKE 'pgraft\_%' ORDER BY rolname;

CREATE ROLE regress_pgraft_nobody;
CREATE ROLE regress_pgraft_reader IN ROLE pgraft_reader;
CREATE ROLE regress_pgraft_writer IN ROLE pgraft_writer;
CREATE ROLE regress_pgraft_admin IN ROLE pgraft_admin;
CREATE ROLE regress_pgraft_monitor IN ROLE pg_monitor;

SELECT pgraft_kv_put('shown', 'to readers') > 0 AS put;

SET ROLE regress_pgraft_nobody;
SELECT pgraft_is_leader(), pgraft_get_leader();
SELECT num_nodes FROM pgraft_get_cluster_status();
SELECT pgraft_kv_get('shown');
SELECT * FROM pgraft_kv;
SELECT pgraft_kv_put('shown', 'x');
SELECT pgraft_log_append('x');
SELECT pgraft_add_node(2, '127.0.0.1', 7002);
SELECT pgraft_init();
SELECT * FROM pgraft_get_nodes();
SELECT node_id FROM pg_stat_pgraft;

SET ROLE regress_pgraft_reader;
SELECT pgraft_kv_get('shown');
SELECT value FROM pgraft_kv WHERE key = 'shown';
SELECT pgraft_kv_put('shown', 'x');
SELECT pgraft_kv_delete('shown');
SELECT pgraft_remove_node(1);

SET ROLE regress_pgraft_writer;
SELECT pgraft_kv_put('shown', 'by a writer') > 0 AS put;
SELECT pgraft_kv_get('shown');
SELECT pgraft_log_append('x') > 0 AS appended;
SELECT pgraft_kv_reset();
SELECT pgraft_step_down();

SET ROLE regress_pgraft_admin;
SELECT pgraft_transfer_leadership(1);
SELECT pgraft_snapshot() > 0 AS snapshot;
SELECT count(*) FROM pgraft_get_nodes();
SELECT pgraft_kv_get('shown');

SET ROLE regress_pgraft_monitor;
SELECT node_id FROM pg_stat_pgraft;
SELECT count(*) FROM pg_stat_pgraft_members;
SELECT count(*) FROM pg_stat_pgraft_network;
SELECT count(*) FROM pg_stat_pgraft_storage;
SELECT revision > 0 AS has_revision FROM pgraft_kv_get_stats();
SELECT pgraft_kv_get('shown');
SELECT pgraft_reset_stats();
RESET ROLE;

-- nothing in a search path can get between
CREATE SCHEMA regress_pgraft_trap;
CREATE FUNCTION regress_pgraft_trap.pgraft_kv_list(text, bigint, text) RETURNS text
	LANGUAGE sql AS $$ SELECT 'trapped' $$;
SET search_path = regress_pgraft_trap, public;
SELECT value FROM public.pgraft_kv WHERE key = 'shown';
RESET search_path;
DROP SCHEMA regress_pgraft_trap CASCADE;

-- the extension can move, go, and come back
CREATE SCHEMA regress_pgraft_other;
ALTER EXTENSION pgraft SET SCHEMA regress_pgraft_other;
SELECT regress_pgraft_other.pgraft_kv_get('shown');
SELECT value FROM regress_pgraft_other.pgraft_kv WHERE key = 'shown';
DROP EXTENSION pgraft;
CREATE EXTENSION pgraft;
-- the store is the cluster's, not the database's
SELECT pgraft_kv_get('shown');
DROP SCHEMA regress_pgraft_other;

SELECT pgraft_kv_delete('shown');
DROP ROLE regress_pgraft_nobody, regress_pgraft_reader, regress_pgraft_writer,
	regress_pgraft_admin, regress_pgraft_monitor;
