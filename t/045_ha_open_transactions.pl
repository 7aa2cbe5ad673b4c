# Copyright (c) 2026, pgraft contributors

# Transactions that are open and have written much: the flushed position then lies
# within a record.  A primary that is killed in that state is no restored backup,
# and a switchover hands over all the same.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
my $primary = $cluster->wait_primary;
$cluster->query($primary, 'CREATE TABLE open_rows (n int, t text)');

# ----------------------------------------------------------------
# switchovers under transactions that go on writing until they are ended
# ----------------------------------------------------------------

for my $round (1 .. 3)
{
	my ($target) = grep { $_ != $primary } $cluster->ids;
	my $switch = $cluster->session($target);
	my @open = map { $cluster->session($primary) } 1 .. 4;

	$_->say(q{BEGIN; DO $$ BEGIN LOOP
		INSERT INTO open_rows SELECT i, repeat(md5(random()::text), 10) FROM generate_series(1, 3) i;
		PERFORM pg_sleep(0.001); END LOOP; END $$}) for @open;
	my $lsn = $cluster->query($primary, 'SELECT pg_current_wal_insert_lsn()');
	$cluster->wait_until('the transactions write', sub { ($cluster->ask($primary, "SELECT pg_current_wal_insert_lsn() > '$lsn'::pg_lsn + 100000") // '') eq 't' });
	$switch->say("SELECT 'to ' || pgraft_switchover($target)");
	ok($switch->heard(qr/^to $target$/m, 60), "round $round: switchover to server $target in spite of open transactions")
	  or diag($switch->{out});
	$_->end for $switch, @open;
	$cluster->settle("round $round");
	$primary = $cluster->wait_primary;
}

# ----------------------------------------------------------------
# the only member left is killed with one of them
# ----------------------------------------------------------------

$cluster->node($_)->stop('fast') for grep { $_ != $primary } $cluster->ids;
my ($other) = grep { $_ != $primary } $cluster->ids;
$cluster->start_node($other);
$cluster->wait_until('the set is small', sub { ($cluster->ask($primary, 'SELECT sync_standbys FROM pg_stat_pgraft_ha') // '') =~ /^[01]$/ });
my $session = $cluster->session($primary);
$session->say(q{BEGIN; INSERT INTO open_rows SELECT i,
	(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 60) WHERE i > 0) FROM generate_series(1, 200) i});
ok($session->heard(qr/^INSERT/m, 20), 'a transaction has written much and is left open');
my $insert = $cluster->query($primary, 'SELECT pg_current_wal_insert_lsn()');
my $noted = sub { return slurp_file($cluster->node($primary)->data_dir . '.pgraft/position') };
my $before = $noted->();
$cluster->wait_until('the server has noted how far its WAL went', sub { $noted->() ne $before }, 60);
$cluster->kill_all($_) for $cluster->running;
my $logged = -s $cluster->node($primary)->logfile;
$cluster->start_node($_) for $cluster->ids;
ok($cluster->wait_primary, 'there is a primary again');
unlike(slurp_file($cluster->node($primary)->logfile, $logged), qr/older than what it once confirmed/, 'nobody was taken for a restored backup');
$session->end;
$cluster->settle('in the end');
done_testing();
