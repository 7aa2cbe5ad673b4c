# Copyright (c) 2026, pgraft contributors

# The fence in every kind of backend, while the consensus worker is stopped and
# nothing else is: old and new sessions, what was begun before and is to be
# committed after, procedures and blocks that commit inside, COPY either way,
# functions that write, parallel queries, a logical subscription.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $refused = qr/ERROR:  25006/;
my $cluster = PgraftHa->new(
	nodes => 3,
	conf => "wal_keep_size = 256MB\nwal_level = logical\nmax_prepared_transactions = 10\nmax_connections = 30\n"
	  . "pgraft.election_timeout = 1s\n");
$cluster->form;
my $old = $cluster->wait_primary;
my $node = $cluster->node($old);
$cluster->query($old, q{
	CREATE TABLE wide AS SELECT g AS n, repeat('x', 100) AS filler FROM generate_series(1, 20000) g;
	CREATE TABLE replicated (n int PRIMARY KEY);
	CREATE SEQUENCE numbers;
	CREATE FUNCTION inserts(text) RETURNS void LANGUAGE sql AS $$ INSERT INTO writes VALUES ($1, 1) $$;
	CREATE PROCEDURE inserts_and_commits(text) LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO writes VALUES ($1, 1); PERFORM pg_advisory_lock_shared(7); COMMIT; END $$});

# a publisher that is no member; what it publishes goes into this primary
my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
$publisher->safe_psql('postgres', 'CREATE TABLE replicated (n int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE replicated');
$cluster->query($old, "CREATE SUBSCRIPTION s CONNECTION 'host=" . $publisher->host . ' port=' . $publisher->port . " dbname=postgres' PUBLICATION p");
$publisher->safe_psql('postgres', 'INSERT INTO replicated VALUES (1)');
$cluster->wait_until('the subscription applies', sub { $cluster->ask($old, 'SELECT count(*) FROM replicated') == 1 });

# ----------------------------------------------------------------
# begun before the fence closes
# ----------------------------------------------------------------

my %session = map { $_ => $cluster->session($old) } qw(holder idle open prepared prepare block call copy cursor);
$session{holder}->say('SELECT pg_advisory_lock(7)');
ok($session{holder}->heard(qr/^$/m, 10), 'a lock that others wait for');
$session{open}->say("BEGIN; INSERT INTO writes VALUES ('open', 1)");
$session{prepared}->say("BEGIN; INSERT INTO writes VALUES ('prepared', 1); PREPARE TRANSACTION 'fenced'");
$session{prepare}->say("BEGIN; INSERT INTO writes VALUES ('prepare', 1)");
$session{copy}->say("BEGIN; COPY writes FROM STDIN;\ncopy\t1\n\\.\nSELECT 'copied'");
$session{cursor}->say("BEGIN; INSERT INTO writes VALUES ('cursor', 1); SAVEPOINT a");
my %begun = (open => qr/^INSERT 0 1/m, prepared => qr/^PREPARE TRANSACTION/m, prepare => qr/^INSERT 0 1/m, copy => qr/^copied/m, cursor => qr/^SAVEPOINT/m);
for my $name (sort keys %begun)
{
	ok($session{$name}->heard($begun{$name}, 20), "$name: begun") or diag($session{$name}{out});
}
$session{block}->say(q{DO $$ BEGIN INSERT INTO writes VALUES ('block', 1); PERFORM pg_advisory_lock_shared(7); COMMIT; END $$});
$session{call}->say("CALL inserts_and_commits('call')");
$cluster->wait_until('block and procedure have written and wait',
	sub { $cluster->ask($old, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'") == 2 });

my $worker = $cluster->worker_pid($old);
my $logged = -s $node->logfile;
kill('STOP', $worker) == 1 or die 'could not stop the worker';
my $new = $cluster->wait_primary(not => $old);
isnt($new, $old, 'another server is primary');
$cluster->query($new, "INSERT INTO writes VALUES ('new', 1)");
is($cluster->query($old, 'SELECT pg_is_in_recovery()'), 'f', 'the old one was told nothing');

# ----------------------------------------------------------------
# what is refused
# ----------------------------------------------------------------

my %late = (
	idle => "INSERT INTO writes VALUES ('idle', 1)",
	open => 'COMMIT',
	prepared => "COMMIT PREPARED 'fenced'",
	prepare => "PREPARE TRANSACTION 'late'",
	copy => 'COMMIT',
	cursor => 'RELEASE SAVEPOINT a; COMMIT');
for my $name (sort keys %late)
{
	$session{$name}->say($late{$name});
	ok($session{$name}->heard($refused, 10), "$name: \"$late{$name}\" is refused") or diag($session{$name}{out});
}
$session{holder}->say('SELECT pg_advisory_unlock(7)');
for my $name (qw(block call))
{
	ok($session{$name}->heard($refused, 10), "$name: the commit inside is refused") or diag($session{$name}{out});
}

# each in a new session
my %statement = (
	'an insert' => "INSERT INTO writes VALUES ('late', 1)",
	'a read' => 'SELECT count(*) FROM writes',
	'a read for update' => 'SELECT * FROM writes FOR UPDATE',
	'a parallel read' => 'SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0; SELECT count(*) FROM wide',
	'a read by EXPLAIN ANALYZE' => 'EXPLAIN ANALYZE SELECT * FROM writes',
	'a read by a cursor' => 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM writes; FETCH c',
	'a read by EXECUTE' => 'PREPARE p AS SELECT * FROM writes; EXECUTE p',
	'COPY to the client' => 'COPY writes TO STDOUT',
	'COPY of a query' => 'COPY (SELECT * FROM writes) TO STDOUT',
	'COPY from the client' => "COPY writes FROM STDIN;\nlate copy\t1\n\\.\n",
	'a function that writes' => "SELECT inserts('late function')",
	'a function in FROM' => "SELECT * FROM inserts('late function in from')",
	'a block' => q{DO $$ BEGIN INSERT INTO writes VALUES ('late block', 1); COMMIT; END $$},
	'a procedure' => "CALL inserts_and_commits('late call')",
	'a writing CTE' => "WITH w AS (INSERT INTO writes VALUES ('late cte', 1) RETURNING *) SELECT * FROM w",
	'a sequence' => 'SELECT nextval(\'numbers\')',
	'a transaction id' => 'SELECT pg_current_xact_id()',
	'a large object' => "SELECT lo_from_bytea(0, 'x')",
	'a message in the WAL' => "SELECT pg_logical_emit_message(true, 'p', 'x')",
	'TRUNCATE' => 'TRUNCATE writes',
	'DDL' => 'CREATE TABLE late (n int)',
	'a temporary table' => 'CREATE TEMP TABLE late (n int)',
	'CREATE INDEX' => 'CREATE INDEX ON wide (n)',
	'CREATE DATABASE' => 'CREATE DATABASE late',
	'ALTER ROLE' => "ALTER ROLE CURRENT_USER SET work_mem = '4MB'",
	'GRANT' => 'GRANT SELECT ON writes TO PUBLIC',
	'ROLLBACK PREPARED' => "ROLLBACK PREPARED 'fenced'");
for my $what (sort keys %statement)
{
	my ($ok, $out, $error) = $cluster->try_query($old, $statement{$what});

	like($error, $refused, "$what is refused");
	ok(!$ok, "$what fails") or diag($out);
}

# it reaches no executor hook: any transaction of it is refused, here or when it began
# to wait for the next one (and then the new primary's has the slot)
$publisher->safe_psql('postgres', 'INSERT INTO replicated VALUES (2)');
$cluster->wait_until(
	'the subscription is refused',
	sub {
		my $log = slurp_file($node->logfile);
		my $late = substr($log, $logged);
		return grep { $late =~ /\[$_\] ERROR:  cannot execute statement because this server is not the primary/ }
			$log =~ /\[(\d+)\] LOG:  logical replication apply worker for subscription "s" has started/g;
	});
pass('a subscription applies nothing');

# ----------------------------------------------------------------
# afterwards
# ----------------------------------------------------------------

kill('CONT', $worker);
$cluster->settle('after the fence');
my $primary = $cluster->wait_primary;
my $late = $cluster->query($primary, "SELECT coalesce(string_agg(name, ', ' ORDER BY name), '') FROM writes WHERE name <> 'new'");
is($late, '', 'nothing that was refused is there');
$_->end for values %session;
done_testing();
