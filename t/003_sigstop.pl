# Copyright (c) 2026, pgraft contributors

# The leader's server is frozen as by SIGSTOP, which closes no connection: only
# the election timeout can notice it.  The others elect a new leader; when the
# old one wakes up it follows, and has acknowledged nothing that the others do
# not have.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use Test::More;
use Time::HiRes qw(time);

my $cluster = PgraftCluster->new(
	conf => "pgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
$cluster->start;
$cluster->form;

my @record;
for my $round (1 .. 2)
{
	my $old = $cluster->wait_leader;
	my @others = grep { $_ != $old } 1 .. 3;
	my $term = $cluster->query($old, 'SELECT pgraft_get_term()');
	my $stuck = $cluster->start_writer("stuck$round", $old);
	my $free = $cluster->start_writer("free$round", @others);

	$cluster->wait_writes($_, 10) for $stuck, $free;
	$cluster->freeze($old);
	my $frozen_at = time();
	my $new = $cluster->wait_leader(not => $old, seconds => 15);
	note(sprintf 'frozen server %d; server %d leads, seen after %.0f ms', $old, $new, (time() - $frozen_at) * 1000);
	$cluster->wait_writes($free, 20);
	cmp_ok($cluster->query($new, 'SELECT pgraft_get_term()'), '>', $term, 'the new leader has a higher term');
	is($cluster->query($others[0], 'SELECT pgraft_get_leader()'), $new, "server $others[0] knows the new leader");

	my $thawed_at = time();
	$cluster->thaw($old);
	$cluster->wait_until('the old leader follows',
		sub { ($cluster->ask($old, 'SELECT pgraft_get_leader()') || 0) == $new });
	is($cluster->query($old, 'SELECT pgraft_is_leader()'), 'f', 'the old leader does not lead');
	is($cluster->query($new, 'SELECT pgraft_is_leader()'), 't', 'the new leader was not disturbed');
	$cluster->wait_writes($stuck, 5);

	my @stuck = $stuck->stop;
	my @meanwhile = grep {
		$_->{start} > $frozen_at && $_->{end} < $thawed_at
	} PgraftCluster::acknowledged(@stuck);
	is(scalar @meanwhile, 0, 'the frozen server acknowledged nothing meanwhile');
	push @record, @stuck, $free->stop;
}
$cluster->wait_converged;
# in particular what waited at the frozen server when it woke up
$cluster->check_record('after two freezes', @record);

# the worker alone is stopped: its sessions must not go on calling it a leader
my $old = $cluster->wait_leader;
my $worker = $cluster->worker_pid($old);
is($cluster->query($old, 'SELECT pgraft_is_leader()'), 't', 'a leader says that it leads');
kill('STOP', $worker) == 1 or die "could not stop worker $worker";
my $new = $cluster->wait_leader(not => $old, seconds => 15);
is($cluster->query($old, 'SELECT pgraft_is_leader()'), 'f', 'with its worker stopped it does not, though nobody can tell it');
kill('CONT', $worker);
$cluster->wait_converged;

done_testing();
