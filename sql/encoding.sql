-- Keys and values are kept in UTF-8: databases with different encodings agree.
CREATE DATABASE regress_pgraft_utf8 ENCODING 'UTF8' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE regress_pgraft_latin1 ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE regress_pgraft_ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C';

\c regress_pgraft_latin1
SET client_encoding = 'LATIN1';
-- a second database of the same server: the roles exist already
CREATE EXTENSION pgraft;
SELECT pgraft_kv_put('caf' || chr(233), 'na' || chr(239) || 've') > 0 AS put;
SELECT pgraft_kv_get('caf' || chr(233)) = 'na' || chr(239) || 've' AS same;

\c regress_pgraft_utf8
SET client_encoding = 'UTF8';
CREATE EXTENSION pgraft;
SELECT pgraft_kv_get('caf' || chr(233)) = 'na' || chr(239) || 've' AS same,
	octet_length(pgraft_kv_get('caf' || chr(233))) AS bytes;
SELECT pgraft_kv_put('price', chr(8364)) > 0 AS put;
SELECT pgraft_log_append(chr(8364)) AS euro \gset
SELECT pgraft_log_append('r' || chr(233) || 'sum' || chr(233)) AS latin \gset
SELECT data, data_text = chr(8364) AS same FROM pgraft_log_get_entry(:euro);
-- the limit counts bytes in UTF-8
SELECT pgraft_kv_exists(repeat(chr(233), 512));
SELECT pgraft_kv_exists(repeat(chr(233), 513));

\c regress_pgraft_latin1
SET client_encoding = 'LATIN1';
-- there is no such character in this database
SELECT pgraft_kv_get('price');
SELECT data, data_text FROM pgraft_log_get_entry(:euro);
SELECT octet_length(data) AS utf8, octet_length(data_text) AS latin1
	FROM pgraft_log_get_entry(:latin);

\c regress_pgraft_ascii
CREATE EXTENSION pgraft;
-- no encoding at all: bytes that are not UTF-8 are refused
SELECT pgraft_kv_put('bytes', E'\xe9');
SELECT pgraft_kv_get('price') = convert_from('\xe282ac', 'SQL_ASCII') AS same;
SELECT pgraft_log_append('\xe9'::bytea) AS bytes \gset
SELECT data, data_text FROM pgraft_log_get_entry(:bytes);

\c contrib_regression
DROP DATABASE regress_pgraft_utf8;
DROP DATABASE regress_pgraft_latin1;
DROP DATABASE regress_pgraft_ascii;
SELECT pgraft_kv_delete_prefix('caf'), pgraft_kv_delete('price');
