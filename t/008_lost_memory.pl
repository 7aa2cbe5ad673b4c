# A voter that lost its directory may have voted and acknowledged what it does not
# remember.  No member may take it in again under the same incarnation, not even
# one that was away and still has it for a learner.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::Bin;
use PgraftCluster;
use File::Path qw(rmtree);
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftCluster->new(nodes => 4);
$cluster->start;
$cluster->query($_, 'CREATE EXTENSION pgraft') for 1 .. 4;
$cluster->query(1, 'SELECT pgraft_init()');
$cluster->add(1, $_) for 2, 4;
my $port = $cluster->port(3);
is($cluster->query(1, "SELECT pgraft_add_node(3, '127.0.0.1', $port, 'learner')"), 't', 'member 3 joins as a learner');
$cluster->wait_converged;

# member 2 does not see member 3 become a voter
is($cluster->query(2, 'SELECT role FROM pgraft_get_nodes() WHERE node_id = 3'), 'learner', 'member 2 knows it as that');
$cluster->node(2)->stop;
$cluster->query(1, 'SELECT pgraft_promote_learner(3)');
is($cluster->query(1, 'SELECT role FROM pgraft_get_nodes() WHERE node_id = 3'), 'voter', 'member 3 becomes a voter');

$cluster->node($_)->stop for 1, 3, 4;
rmtree($cluster->node(3)->data_dir . '.pgraft');
$cluster->start(3);
my $offset = -s $cluster->node(3)->logfile;
$cluster->start(2);
$cluster->wait_until('member 2 has greeted member 3', sub {
	slurp_file($cluster->node(3)->logfile, $offset) =~ /was not invited/
	  || $cluster->ask(3, 'SELECT pgraft_get_worker_state()') ne 'blank';
});
is($cluster->query(3, 'SELECT pgraft_get_worker_state()'), 'blank', 'member 3 is not taken in by one that was away');

# the way back is a new membership
$cluster->start(1, 4);
$cluster->wait_leader;
is($cluster->query(1, 'SELECT pgraft_remove_node(3)'), 't', 'it is removed');
is($cluster->add(1, 3), 't', 'and added again');
$cluster->wait_voters(4);
$cluster->wait_converged;
pass('same state on all four');

done_testing();
