# Copyright (c) 2026, pgraft contributors

# The session a newcomer types: three servers that have only the extension
# loaded and their node id, address and port set become three members that all
# list each other; the second and third need no SQL for it.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use Test::More;

my $cluster = PgraftCluster->new(nodes => 4);
$cluster->start(1, 2, 3);
my @port = map { $cluster->port($_) } 0 .. 4;

$cluster->query(1, 'CREATE EXTENSION pgraft');
is($cluster->query(1, 'SELECT pgraft_init()'), 't', 'pgraft_init makes a cluster');
is($cluster->query(1, 'SELECT pgraft_is_leader()'), 't', 'its only member leads when pgraft_init returns');
is($cluster->query(1, "SELECT pgraft_add_node(2, '127.0.0.1', $port[2])"), 't', 'second server is added');
is($cluster->query(1, "SELECT pgraft_add_node(3, '127.0.0.1', $port[3])"), 't', 'third server is added');
is( $cluster->query(1, 'SELECT node_id, leader_id, state, num_nodes FROM pgraft_get_cluster_status()'),
	'1|1|leader|3',
	'status shows three nodes');

my $list = 'SELECT node_id, address, port, is_leader FROM pgraft_get_nodes() ORDER BY node_id';
my $expected = join("\n", "1|127.0.0.1|$port[1]|t", "2|127.0.0.1|$port[2]|f", "3|127.0.0.1|$port[3]|f");
is($cluster->query(1, $list), $expected, 'the first server lists all three');

# only to look: the servers are members already
for my $id (2, 3)
{
	$cluster->query($id, 'CREATE EXTENSION pgraft');
	$cluster->wait_until("server $id lists all", sub { ($cluster->ask($id, $list) // '') eq $expected });
	pass("server $id lists all three");
	is($cluster->query($id, 'SELECT pgraft_is_leader()'), 'f', "server $id does not lead");
	is($cluster->query($id, 'SELECT pgraft_get_leader()'), 1, "server $id knows the leader");
	is( $cluster->query($id, 'SELECT node_id, leader_id, state, num_nodes FROM pgraft_get_cluster_status()'),
		"$id|1|follower|3",
		"server $id shows its own status");
}
$cluster->wait_voters(3);
pass('all three vote');

is($cluster->query(1, 'SELECT pgraft_init()'), 'f', 'pgraft_init again changes nothing');

# what one writes, the others read
$cluster->query(2, "SELECT pgraft_kv_put('greeting', 'hello')");
is($cluster->query($_, "SELECT pgraft_kv_get('greeting')"), 'hello', "server $_ reads what server 2 wrote")
  for 1 .. 3;
my $index = $cluster->query(3, "SELECT pgraft_log_append('an entry'::text)");
cmp_ok($index, '>', 0, 'log append on a follower returns its index');
$cluster->wait_converged;
for my $id (1 .. 3)
{
	is( $cluster->query($id, "SELECT data_text FROM pgraft_log_get_entry($index)"),
		'an entry', "server $id has the log entry");
}

# a follower takes the command for a fourth server
$cluster->start(4);
is($cluster->query(3, "SELECT pgraft_add_node(4, '127.0.0.1', $port[4])"), 't', 'add on a follower');
$cluster->query(4, 'CREATE EXTENSION pgraft');
$cluster->wait_voters(4);
is($cluster->query(4, "SELECT pgraft_kv_get('greeting', 'local')"), 'hello', 'the fourth server has the data');
$cluster->wait_converged;
pass('same state everywhere');

done_testing();
