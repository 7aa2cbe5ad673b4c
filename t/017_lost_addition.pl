# Copyright (c) 2026, pgraft contributors

# A leader without a majority adds a member, and the entry that adds it is lost.
# The newcomer must not have begun under that membership: the cluster never came
# to have it, and a later one may have a smaller incarnation, which is refused.

use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use PgraftCluster;
use Test::More;

my $cluster = PgraftCluster->new(
	conf => "pgraft.election_timeout = 5s\npgraft.heartbeat_interval = 100ms\n");
$cluster->start;
$cluster->form;
$cluster->make_node(4);
$cluster->start(4);
$cluster->query(4, 'CREATE EXTENSION pgraft');

my $old = $cluster->wait_leader;
my @others = grep { $_ != $old } 1 .. 3;
$cluster->wait_converged(1 .. 3);
$cluster->node($_)->stop('immediate') for @others;

# entries before it, so that the next leader's addition has a smaller index
my @calls = map { begin("SELECT pgraft_kv_put('lost', '$_')") } 1 .. 3;
$cluster->wait_until('the old leader has three entries for itself', sub { undecided() >= 3 });
push @calls, begin("SELECT pgraft_add_node(4, '127.0.0.1', " . $cluster->port(4) . ')');
$cluster->wait_until('and the one that adds member 4', sub { undecided() >= 4 });
like($cluster->query($old, "SELECT string_agg(node_id::text, ',' ORDER BY node_id) FROM pgraft_get_nodes()"),
	qr/\b4$/, 'the old leader has the new configuration');
$cluster->wait_until('the old leader gives up', sub { $cluster->query($old, 'SELECT pgraft_is_leader()') eq 'f' });
is($cluster->query(4, 'SELECT pgraft_get_worker_state()'), 'blank', 'nobody has invited member 4');

$cluster->kill9($old);
$_->kill_kill for @calls;
$cluster->start(@others);
my $new = $cluster->wait_leader;
is($cluster->add($new, 4), 't', 'the next leader adds it');
$cluster->wait_until('member 4 votes', sub { ($cluster->ask(4, "SELECT role FROM pgraft_get_nodes() WHERE node_id = 4") // '') eq 'voter' });
$cluster->start($old);
$cluster->wait_voters(4);
$cluster->wait_converged;
pass('same state on all four');
done_testing();

# a call on the old leader that nobody waits for
sub begin
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');

	return IPC::Run::start([ 'psql', '-XAtq', '-d', $cluster->node($old)->connstr('postgres'), '-c', $sql ],
		'<', \undef, '>', \$out, '2>', \$err);
}

sub undecided
{
	return $cluster->query($old, 'SELECT last_index - commit_index FROM pg_stat_pgraft');
}
