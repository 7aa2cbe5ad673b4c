# Copyright (c) 2026, pgraft contributors

# kill -9 of the primary's postmaster again and again while clients insert rows:
# another server becomes primary each time, the old one returns as its standby,
# and no acknowledged row is missing anywhere.  Then planned switchovers, pause,
# and what the views say.  How long each took is printed; only generous bounds
# are asserted here.
#
# PGRAFT_KILLS is the number of kills (5).

use strict;
use warnings FATAL => 'all';

use List::Util qw(max min);
use PgraftHa;
use Test::More;
use Time::HiRes qw(time);

my $kills = $ENV{PGRAFT_KILLS} || 5;

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
my $first = $cluster->wait_primary;
is($cluster->query($first, 'SELECT pgraft_get_primary()'), $first, 'all agree who is the primary');
is($cluster->query($first, 'SELECT phase FROM pg_stat_pgraft_ha'), 'steady', 'its epoch is steady');

my @writers = map { $cluster->start_sql_writer("w$_") } 1 .. 2;
$cluster->wait_writes($_, 20) for @writers;

my (@promoted_ms, @written_ms);
for my $round (1 .. $kills)
{
	my $old = $cluster->wait_primary;

	$cluster->wait_synchronous(3);
	$cluster->wait_writes($writers[0], 20);
	my %seen = map { $_->{prefix} => $_->count } @writers;
	my $killed_at = time();
	$cluster->kill9($old);
	my $new = $cluster->wait_primary(not => $old, seconds => 20);
	push @promoted_ms, (time() - $killed_at) * 1000;
	$cluster->wait_until(
		'a row is acknowledged after the kill',
		sub {
			my @after = grep { $_->{start} > $killed_at && $_->{server} != $old }
			  map { PgraftCluster::acknowledged($_->record($seen{ $_->{prefix} })) } @writers;
			return 0 if !@after;
			push @written_ms, (min(map { $_->{end} } @after) - $killed_at) * 1000;
			return 1;
		},
		20);
	note(sprintf 'kill %d: server %d, then %d is primary; seen after %.0f ms, next row acknowledged after %.0f ms',
		$round, $old, $new, $promoted_ms[-1], $written_ms[-1]);
	$cluster->start_node($old);
	$cluster->follows_or_rewound($old);
}
is(scalar @written_ms, $kills, "after each of $kills kills another server was primary and rows went on");
note(sprintf 'first row acknowledged after (ms): min %.0f median %.0f max %.0f',
	min(@written_ms), (sort { $a <=> $b } @written_ms)[ $#written_ms / 2 ], max(@written_ms));
cmp_ok(max(@written_ms), '<', 10000, 'no failover took ten seconds');

# ----------------------------------------------------------------
# planned
# ----------------------------------------------------------------

$cluster->wait_synchronous(3);
for my $round (1 .. 2)
{
	my $old = $cluster->wait_primary;
	my ($target) = grep { $_ != $old } $cluster->ids;
	my $since = time();

	is($cluster->query($target, "SELECT pgraft_switchover($target)"), $target, "switchover to server $target");
	note(sprintf 'switchover took %.0f ms', (time() - $since) * 1000);
	is($cluster->wait_primary(not => $old), $target, 'it is the primary');
	$cluster->wait_streaming($old);
	pass("the old primary, server $old, follows it");
	$cluster->wait_writes($writers[0], 20);
	$cluster->wait_synchronous(3);
}

# ----------------------------------------------------------------
# maintenance
# ----------------------------------------------------------------

my $primary = $cluster->wait_primary;
my ($other) = grep { $_ != $primary } $cluster->ids;
is($cluster->query($primary, 'SELECT pgraft_pause()'), 't', 'the cluster is paused');
$cluster->wait_until('all know', sub { $cluster->ask($other, 'SELECT paused FROM pg_stat_pgraft_ha') eq 't' });
my $epoch = $cluster->query($other, 'SELECT epoch FROM pg_stat_pgraft_ha');
$cluster->kill9($primary);
$cluster->wait_leader(not => $primary, seconds => 10);
is($cluster->query($other, "SELECT pgraft_wait_applied(pgraft_get_applied_index() + 1000000, 2500)"), 'f', 'while paused');
is($cluster->query($other, 'SELECT epoch FROM pg_stat_pgraft_ha'), $epoch, 'nobody takes the place of a dead primary');
is($cluster->query($other, 'SELECT pgraft_resume()'), 't', 'the cluster goes on');
isnt($cluster->wait_primary(not => $primary, seconds => 20), $primary, 'and another server is primary');
$cluster->start_node($primary);
$cluster->follows_or_rewound($primary);

# ----------------------------------------------------------------
# what is left
# ----------------------------------------------------------------

$cluster->wait_writes($_, 5) for @writers;
my @record = map { $_->stop } @writers;
$cluster->check_rows('in the end', @record);

$primary = $cluster->wait_primary;
is($cluster->query($primary, 'SELECT count(*) FROM pgraft_history WHERE promoted'), $kills + 4,
	'each promotion is in the history');
is($cluster->query($primary, "SELECT count(*) FROM pgraft_history WHERE reason = 'switchover' AND promoted"), 2,
	'the planned ones, too');
is($cluster->query($primary, "SELECT count(*) FROM pgraft_ha_members() WHERE role = 'primary' AND node_id = $primary"), 1,
	'one primary among the members');
is($cluster->query($primary, 'SELECT pgraft_connection_string() = (SELECT \'host=\' || string_agg(host, \',\' ORDER BY node_id) || \' port=\' || string_agg(port::text, \',\' ORDER BY node_id) FROM pgraft_ha_members())'),
	't', 'the connection string names all servers');
done_testing();
