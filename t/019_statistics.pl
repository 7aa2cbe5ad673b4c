# Copyright (c) 2026, pgraft contributors

# What the leader tells about followers that lag: entries, bytes and time; and
# the counters of the network, which a reset sets back.

use strict;
use warnings FATAL => 'all';

use IO::Socket::INET;
use PgraftCluster;
use Test::More;
use Time::HiRes qw(time);

my $cluster = PgraftCluster->new(nodes => 3);
$cluster->start;
$cluster->form;
my $leader = $cluster->wait_leader;
my ($slow, $other) = grep { $_ != $leader } $cluster->ids;

sub member
{
	my ($column, $id, $at) = @_;
	return $cluster->query($at || $leader, "SELECT $column FROM pg_stat_pgraft_members WHERE node_id = $id");
}

# ----------------------------------------------------------------
# Lag
# ----------------------------------------------------------------
$cluster->query($leader, q{SELECT pgraft_kv_put('before', 'x')});
$cluster->wait_until('nobody lags',
	sub { $cluster->query($leader, 'SELECT count(*) FROM pg_stat_pgraft_members WHERE lag_entries = 0 AND lag_bytes = 0 AND lag_time = 0') == 3 });
pass('nobody lags');
$cluster->freeze($slow);
my $started = time();
$cluster->query($leader, q{SELECT count(pgraft_kv_put('key' || i, repeat('v', 1000))) FROM generate_series(1, 100) AS i});
$cluster->query($leader, 'SELECT pg_sleep(1)');
my $after = $cluster->wait_until('the view has seen it', sub { member('lag_entries >= 100', $slow) eq 't' && time() });
my ($entries, $bytes, $ms) = split /\|/, member('lag_entries, lag_bytes, lag_time', $slow);
my $most = (time() - $started) * 1000 + 1;
cmp_ok($bytes, '>=', 100 * 1000, 'the frozen follower lacks the bytes written since');
cmp_ok($bytes, '<', 100 * 1000 + 100 * 200 + 10_000, 'and not many more');
cmp_ok($ms, '>=', 1000, 'for as long as we have waited');
cmp_ok($ms, '<=', $most, 'and no longer than since the first of them');
is(member('lag_bytes', $other), 0, 'the other one lacks nothing');
is(member('coalesce(lag_bytes, lag_time)', $other, $other), '', 'a follower does not know');
$cluster->thaw($slow);
$cluster->wait_until('it catches up', sub { member('lag_bytes = 0 AND lag_time = 0', $slow) eq 't' });
pass('it catches up');

# ----------------------------------------------------------------
# Counters of the network
# ----------------------------------------------------------------
cmp_ok($cluster->status($leader, 'connections_accepted'), '>=', 2, 'connections of both others were accepted');
my $rejected = $cluster->status($leader, 'connections_rejected');
my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $cluster->port($leader)) or die "could not connect: $!";
print $socket "GET / HTTP/1.0\r\n\r\n" . ('x' x 4096);
$cluster->wait_until('a stranger is counted', sub { $cluster->status($leader, 'connections_rejected') > $rejected });
pass('a stranger is counted');
close($socket);

my $sent = $cluster->query($leader, "SELECT sum(bytes_sent) FROM pg_stat_pgraft_network");
cmp_ok($sent, '>', 200_000, 'what was sent is counted');
$cluster->query($leader, 'SELECT pgraft_reset_stats()');
$cluster->wait_until('the counters begin again',
	sub { $cluster->query($leader, 'SELECT sum(bytes_sent) FROM pg_stat_pgraft_network') < 100_000 });
pass('the counters begin again');
is($cluster->query($leader, 'SELECT connections_accepted + connections_rejected FROM pg_stat_pgraft'), 0, 'those of connections, too');
is($cluster->query($leader, 'SELECT sum(connects) FROM pg_stat_pgraft_network'), 0, 'and those of each peer');

done_testing();
