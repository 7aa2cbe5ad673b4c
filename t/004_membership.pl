# Copyright (c) 2026, pgraft contributors

# Members come and go: one that joins when the log has been compacted gets a
# snapshot; a removed leader hands over first; a removed member knows it and may
# come back as a fresh server with the same id; learners do not vote.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use Test::More;

my $cluster = PgraftCluster->new(
	nodes => 3,
	conf => "pgraft.snapshot_interval = 100\npgraft.max_log_entries = 20\n");
$cluster->start;
$cluster->form;

$cluster->query(1, q{SELECT count(pgraft_kv_put('key' || i, repeat('v', i))) FROM generate_series(1, 600) AS i});
for my $id (1 .. 3)
{
	$cluster->wait_until("server $id compacts its log", sub { $cluster->status($id, 'first_index') > 300 });
	pass("server $id has dropped old entries");
}

# joins late
$cluster->make_node(4);
$cluster->start(4);
is($cluster->add(2, 4), 't', 'a fourth server joins');
$cluster->query(4, 'CREATE EXTENSION pgraft');
$cluster->wait_voters(4);
cmp_ok($cluster->status(4, 'snapshots_installed'), '>=', 1, 'it caught up through a snapshot');
is($cluster->query(4, q{SELECT count(*) FROM generate_series(1, 600) AS i
		WHERE pgraft_kv_get('key' || i, 'local') = repeat('v', i)}),
	600, 'it has all keys');
$cluster->wait_converged;
pass('same state on all four');

# what it got survives its own restart, and so does a snapshot taken by itself
$cluster->node(4)->restart;
$cluster->wait_converged;
pass('same state after a restart from the snapshot');

# the leader is told to leave
my $leader = $cluster->wait_leader;
my ($witness) = grep { $_ != $leader } $cluster->ids;
$cluster->query($leader, "SELECT pgraft_remove_node($leader)");
my $next = $cluster->wait_leader(not => $leader);
isnt($next, $leader, 'the removed leader handed over');
$cluster->wait_until('the removed member is off the list',
	sub { ($cluster->ask($witness, "SELECT count(*) FROM pgraft_get_nodes() WHERE node_id = $leader") // 1) == 0 });
pass('the removed member is off the list');
$cluster->wait_until('the removed member knows it',
	sub { ($cluster->ask($leader, 'SELECT pgraft_get_worker_state()') // '') eq 'removed' });
pass('the removed member knows it');
my ($ok, $out, $err) = $cluster->try_query($leader, "SELECT pgraft_kv_put('late', '1')");
ok(!$ok, 'the removed member takes no writes');
like($err, qr/55000: /, 'and says why');
$cluster->query($witness, "SELECT pgraft_kv_put('without', 'it')");

# restarted, it still knows
$cluster->node($leader)->restart;
$cluster->wait_until('the removed member knows it after a restart',
	sub { ($cluster->ask($leader, 'SELECT pgraft_get_worker_state()') // '') eq 'removed' });
pass('the removed member knows it after a restart');

# the same id, on a fresh server
$cluster->drop_node($leader);
$cluster->make_node($leader);
$cluster->start($leader);
is($cluster->add($witness, $leader), 't', 'the id is taken again by a fresh server');
$cluster->query($leader, 'CREATE EXTENSION pgraft');
$cluster->wait_voters(4);
is($cluster->query($leader, "SELECT pgraft_kv_get('without', 'local')"), 'it', 'it has what was written without it');
$cluster->wait_converged;
pass('same state on all four');

# what cannot be done
$leader = $cluster->wait_leader;
my @refused = (
	[ "SELECT pgraft_add_node(2, '127.0.0.1', 7999)", '42710', 'an id that is a member' ],
	[ 'SELECT pgraft_remove_node(77)', '42704', 'removing a stranger' ],
	[ "SELECT pgraft_add_node(9, '127.0.0.1', " . PostgreSQL::Test::Cluster::get_free_port() . ')',
		'08001', 'an address where nobody answers' ],
);
for (@refused)
{
	my ($sql, $state, $what) = @$_;
	($ok, $out, $err) = $cluster->try_query($witness, $sql);
	ok(!$ok, "$what is refused");
	like($err, qr/ERROR: +$state: /, "$what: SQLSTATE $state");
}
is($cluster->query($witness, 'SELECT count(*) FROM pgraft_get_nodes()'), 4, 'the list is as before');

# a planned change of leader
($next) = grep { $_ != $leader } $cluster->ids;
$cluster->query($leader, "SELECT pgraft_transfer_leadership($next)");
$cluster->wait_until("server $next leads", sub { ($cluster->ask($next, 'SELECT pgraft_is_leader()') // '') eq 't' });
pass('leadership was transferred to the member named');

done_testing();
