# Copyright (c) 2026, pgraft contributors

# Members come and go while clients write: the fourth and the fifth, the leader
# itself, the same id again on a fresh server, one that moves to another port;
# in between servers are killed.  Nothing acknowledged is lost, what the clients
# saw is linearizable, and all end with the same state.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use Test::More;

use constant ROUNDS => 15;

my $cluster = PgraftCluster->new(
	nodes => 3,
	keep_ports => 1,
	conf => "pgraft.request_timeout = 5s\npgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
my $seed = $ENV{PGRAFT_SEED} || time() % 1_000_000;
note("PGRAFT_SEED=$seed");
srand($seed);
$cluster->start;
$cluster->form;

# a fresh server of an id listens where the old one did, so clients find it
for my $id (1 .. 3)
{
	$cluster->start_recorder("client$id", $id, grep { $_ != $id } 1 .. 3);
}
my $writer = $cluster->start_writer('w', 1 .. 3);
$cluster->wait_writes($writer, 50);

my %done;
for my $round (1 .. ROUNDS)
{
	my @members = sort $cluster->ids;
	my @kinds = (
		@members < 5 ? ('add') : (),
		@members > 3 ? ('remove', 'remove leader') : (),
		'move', 'kill');
	# each kind at least once, then by chance
	my ($kind) = grep { !$done{$_} } @kinds;
	$kind = $kinds[ rand @kinds ] if !defined $kind;
	$done{$kind}++;
	change($kind, @members);
	$cluster->wait_writes($writer, 5);
	agree("round $round: $kind");
}
is(scalar keys %done, 5, 'every kind of change happened');
note(join(', ', map { "$_: $done{$_}" } sort keys %done));

my @record = $writer->stop;
cmp_ok(scalar PgraftCluster::acknowledged(@record), '>', 100, 'many writes were acknowledged');
cmp_ok($cluster->judge_history('after the churn'), '>', 300, 'the clients were busy');
$cluster->wait_converged;
$cluster->check_record('after the churn', @record);
done_testing();

sub change
{
	my ($kind, @members) = @_;
	my $leader = $cluster->wait_leader;
	my @others = grep { $_ != $leader } @members;
	my $one = $others[ rand @others ];

	join_member($leader) if $kind eq 'add';
	leave($leader, $one) if $kind eq 'remove';
	leave($one, $leader) if $kind eq 'remove leader';
	move($leader, $one) if $kind eq 'move';
	if ($kind eq 'kill')
	{
		my $victim = $members[ rand @members ];
		$cluster->kill9($victim);
		$cluster->start($victim);
	}
	return;
}

# the smallest id that is free; it may have been a member before
sub join_member
{
	my ($at) = @_;
	my ($id) = grep { !$cluster->node($_) } 1 .. 5;

	$cluster->make_node($id);
	$cluster->start($id);
	$cluster->query($id, 'CREATE EXTENSION pgraft');
	retry("server $id joins", sub { $cluster->try_query($_[0], add_sql($id)) },
		sub { listed($_[0], $id) });
	return;
}

sub add_sql
{
	my ($id) = @_;
	return "SELECT pgraft_add_node($id, '127.0.0.1', " . $cluster->port($id) . ')';
}

sub leave
{
	my ($at, $id) = @_;

	retry("server $id leaves", sub { $cluster->try_query($_[0], "SELECT pgraft_remove_node($id)") },
		sub { !listed($_[0], $id) }, $id);
	$cluster->drop_node($id);
	return;
}

# the same server, with all it has, on another port
sub move
{
	my ($at, $id) = @_;

	$cluster->node($id)->stop('fast');
	my $port = $cluster->{ports}{$id} = PostgreSQL::Test::Cluster::get_free_port();
	$cluster->node($id)->append_conf('postgresql.conf', "pgraft.port = $port\n");
	$cluster->start($id);
	retry("server $id moves",
		sub { $cluster->try_query($_[0], "SELECT pgraft_update_node($id, '127.0.0.1', $port)") },
		sub {
			($cluster->ask($_[0], "SELECT port FROM pgraft_get_nodes() WHERE node_id = $id") // 0) == $port;
		}, $id);
	return;
}

sub listed
{
	my ($at, $id) = @_;
	return ($cluster->ask($at, "SELECT count(*) FROM pgraft_get_nodes() WHERE node_id = $id") // -1) == 1;
}

# Asks the leader until what is wanted is so; an answer may get lost with a
# leader that goes.
sub retry
{
	my ($what, $try, $is_so, @not) = @_;

	$cluster->wait_until(
		$what,
		sub {
			for my $at (grep { my $id = $_; !grep { $_ == $id } @not } $cluster->running)
			{
				my ($ok, undef, $error) = $try->($at);
				note("$what, asked of $at: $error") if !$ok;
				return 1 if $is_so->($at);
			}
			return 0;
		});
	return;
}

sub agree
{
	my ($what) = @_;
	my @ids = $cluster->running;

	$cluster->wait_voters(scalar $cluster->ids);
	$cluster->wait_until(
		'all follow the same leader',
		sub {
			my %leader = map { ($cluster->ask($_, 'SELECT pgraft_get_leader()') || 'none') => 1 } @ids;
			return keys %leader == 1 && !$leader{none};
		});
	pass("$what: " . @ids . ' members agree who votes');
	return;
}
