# Copyright (c) 2026, pgraft contributors

# Members come and go while clients write and read: the fourth and the fifth, the
# leader itself, the same id again with a fresh directory or with all that it had,
# one that moves to another port; meanwhile servers are killed.  Nothing
# acknowledged is lost, what the clients saw is linearizable, those removed
# disturb nobody, terms do not run away, and all end with the same state.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use constant T => 1;    # pgraft.election_timeout, in seconds

# From 3 members to 5 and back.  "lead" makes the one leader that has moved or
# joined last: who joins then replays configurations that know the leader by
# another place, or another membership.
my @plan = (
	'add', 'kill', 'add', 'move leader', 'lead', 'remove', 'add', 'remove leader', 'add', 'lead',
	'kill leader', 'lead', 'remove', 'add', 'move', 'remove leader', 'remove');

# an id is free again: its next server is the one that was removed, or a new one
my $fresh = 1;

# what a change may answer while servers die
my $expected = qr/\b(57P03|40003|57P01|57P02|42704|42710|55006)\b|connection to server|server closed the connection/;

my $cluster = PgraftCluster->new(
	nodes => 3,
	keep_ports => 1,
	conf => 'pgraft.election_timeout = ' . T . "s\npgraft.request_timeout = 5s\n"
	  . "pgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
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

my $first_term = $cluster->status($cluster->wait_leader, 'term');
my ($disturbances, $newest, @unexpected, %parked) = (0, 0);
for my $round (1 .. @plan)
{
	my $begin = time();

	change($plan[ $round - 1 ], $cluster->wait_one_leader("round $round", 20 * T), sort $cluster->ids);
	$cluster->wait_writes($writer, 5);
	$cluster->wait_voters(scalar $cluster->ids);
	$cluster->wait_one_leader("round $round", 20 * T);
	pass(sprintf 'round %d: %s: %d members agree after %.1f s',
		$round, $plan[ $round - 1 ], scalar $cluster->ids, time() - $begin);
}

my $leader = $cluster->wait_one_leader('in the end', 20 * T);
my $term = $cluster->status($leader, 'term');
busy(3 * T);
cmp_ok(scalar(keys %parked), '>=', 2, 'removed servers still run');
is($cluster->status($leader, 'term'), $term, 'they disturb nobody');
cmp_ok($term - $first_term, '<=', 2 * $disturbances, 'terms did not run away');
note('terms: ' . ($term - $first_term) . ", servers that were killed, moved, or removed as the leader: $disturbances");

my @record = $writer->stop;
my @failed = grep { $_->{outcome} ne 'ack' && $_->{state} !~ /^(08006|57P01|57P02|57P03|40003|55000)$/ } @record;
is(join(' ', @unexpected, map { $_->{state} } @failed), '', 'only errors that the documentation tells of');
cmp_ok(scalar PgraftCluster::acknowledged(@record), '>', 100, 'many writes were acknowledged');
cmp_ok($cluster->judge_history('after the churn'), '>', 300, 'the clients were busy');
$cluster->wait_converged;
$cluster->check_record('after the churn', @record);
done_testing();

sub busy
{
	my ($seconds) = @_;
	my $until = time() + $seconds;

	$cluster->wait_until("it is $seconds s later", sub { time() > $until });
	return;
}

# Carries out one line of the plan.  In every second one another server is killed
# somewhere in the middle, when a majority remains.
sub change
{
	my ($kind, $leader, @members) = @_;
	my @others = grep { $_ != $leader } @members;
	my $one = $kind =~ /leader/ ? $leader : $others[ rand @others ];
	my $victim = 0;

	if ($kind =~ /^kill/)
	{
		$disturbances++;
		$cluster->kill9($one);
		$cluster->start($one);
		return;
	}
	if ($kind eq 'lead')
	{
		$disturbances++;
		retry("server $newest leads", "SELECT pgraft_transfer_leadership($newest)",
			"SELECT pgraft_get_leader() = $newest");
		return;
	}
	if (rand() < 0.5 && ($kind !~ /^move/ || @members == 5))
	{
		my @possible = grep { $kind eq 'add' || $_ != $one } @members;
		$victim = $possible[ rand @possible ];
		$disturbances++;
	}
	my $killer = $victim ? kill_later($victim, rand(300)) : 0;
	join_member($victim) if $kind eq 'add';
	leave($one, $victim) if $kind =~ /^remove/;
	move($one, $victim) if $kind =~ /^move/;
	$disturbances++ if $kind =~ /leader|^move/;
	if ($victim)
	{
		note("server $victim was killed meanwhile" . ($victim == $leader ? ', the leader' : ''));
		waitpid($killer, 0);
		$cluster->kill9($victim);
		$cluster->start($victim);
	}
	return;
}

# the pid of a process that kills that server in so many milliseconds
sub kill_later
{
	my ($id, $ms) = @_;
	my $postmaster = $cluster->node($id)->{_pid};
	my $pid = fork();

	die "could not fork: $!\n" if !defined $pid;
	return $pid if $pid > 0;
	select(undef, undef, undef, $ms / 1000);
	kill('KILL', $postmaster);
	POSIX::_exit(0);
}

# the smallest id that is free; it may have been a member before
sub join_member
{
	my ($victim) = @_;
	my ($id) = grep { !$cluster->node($_) } 1 .. 5;
	my $old = delete $parked{$id};
	my $back = $old && !$fresh;

	$fresh = !$fresh if $old;
	$old->stop('immediate') if $old && !$back;
	if ($back)
	{
		$cluster->{nodes}{$id} = $old;
	}
	else
	{
		$cluster->make_node($id);
		$cluster->start($id);
		$cluster->query($id, 'CREATE EXTENSION pgraft');
	}
	retry(
		"server $id joins" . ($back ? ' with what it had' : $old ? ' again' : ''),
		"SELECT pgraft_add_node($id, '127.0.0.1', " . $cluster->port($id) . ')',
		"SELECT role = 'voter' FROM pgraft_get_nodes() WHERE node_id = $id",
		$id, $victim);
	$newest = $id;
	return;
}

# The server goes on running, and knocking at the doors.
sub leave
{
	my ($id, $victim) = @_;

	retry("server $id leaves", "SELECT pgraft_remove_node($id)",
		"SELECT NOT EXISTS (SELECT FROM pgraft_get_nodes() WHERE node_id = $id)", $id, $victim);
	$parked{$id} = delete $cluster->{nodes}{$id};
	return;
}

# the same server, with all it has, on another port
sub move
{
	my ($id, $victim) = @_;

	$cluster->node($id)->stop('fast');
	my $port = $cluster->{ports}{$id} = PostgreSQL::Test::Cluster::get_free_port();
	$cluster->node($id)->append_conf('postgresql.conf', "pgraft.port = $port\n");
	$cluster->start($id);
	retry("server $id moves", "SELECT pgraft_update_node($id, '127.0.0.1', $port)",
		"SELECT port = $port FROM pgraft_get_nodes() WHERE node_id = $id", $id, $victim);
	$newest = $id;
	return;
}

# Asks one server after the other until one has done it; an answer may get lost
# with a server that is killed.  Then all but these know of it.
sub retry
{
	my ($what, $sql, $is_so, @not) = @_;
	my $done = 0;

	$cluster->wait_until(
		$what,
		sub {
			my @ids = grep { my $id = $_; !grep { $_ == $id } @not } $cluster->running;

			for my $at (@ids)
			{
				last if $done;
				($done, undef, my $error) = $cluster->try_query($at, $sql);
				next if $done;
				note("$what, asked of $at: $error");
				push @unexpected, "$what: $error" if $error !~ $expected;
			}
			return !grep { ($cluster->ask($_, $is_so) // '') ne 't' } @ids;
		});
	return;
}
