# Copyright (c) 2026, pgraft contributors

# What memberships leave behind when they end: directories of which one is kept,
# and removals of which it must be said truly whether they can have happened.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftCluster->new(
	nodes => 3,
	conf => "pgraft.election_timeout = 5s\npgraft.heartbeat_interval = 100ms\n");

$cluster->start;
$cluster->form;
old_directories();
removal_that_cannot_begin();
done_testing();

# Removed and added again three times, a member has three directories of before.
sub old_directories
{
	my $leader = $cluster->wait_leader;
	my ($id) = grep { $_ != $leader } 1 .. 3;
	my $directory = $cluster->node($id)->data_dir . '.pgraft';

	for my $round (1 .. 3)
	{
		$cluster->query($leader, "SELECT pgraft_remove_node($id)");
		$cluster->wait_until('the member knows it', sub { ($cluster->ask($id, 'SELECT pgraft_get_worker_state()') // '') eq 'removed' });
		$cluster->add($leader, $id);
		$cluster->wait_voters(3);
	}
	my @aside = glob("$directory.removed-*");
	is(scalar @aside, 3, 'each ended membership was put aside');
	my ($latest) = sort { incarnation($b) <=> incarnation($a) } @aside;

	# names that only look like ours
	my @others = ("$directory.removed-1-backup", "$directory.removed-99999999-0123456789abcdef");
	mkdir($_) or die "could not create \"$_\": $!" for @others;
	$cluster->node($id)->stop('fast');
	$cluster->start($id);
	$cluster->wait_until('it takes part again', sub { $cluster->failure($id) =~ /^running/ });
	is(join(' ', sort glob("$directory.removed-*")), join(' ', sort $latest, @others), 'after a restart the latest one is left');
	is(scalar(() = slurp_file($cluster->node($id)->logfile) =~ /removed the state of an ended membership/g), 2, 'its log names the others');
	$cluster->wait_converged;
	return;
}

# A leader hands over before it is removed.  When there is nobody to hand over to
# nothing has happened, and that is what its client must be told.
sub removal_that_cannot_begin
{
	my $leader = $cluster->wait_leader;
	my @others = grep { $_ != $leader } 1 .. 3;

	$cluster->kill9(@others);
	$cluster->wait_until('the leader knows that it is alone',
		sub { $cluster->query($leader, "SELECT count(*) FROM pg_stat_pgraft_network WHERE connected") == 0 });
	my ($ok, undef, $err) = $cluster->try_query($leader, "SET pgraft.request_timeout = '2s'; SELECT pgraft_remove_node($leader)");
	ok(!$ok && $err =~ /ERROR: +57P03: /, 'a removal that could not begin has certainly not happened') or diag($err);
	$cluster->start(@others);
	$cluster->wait_leader;
	$cluster->wait_voters(3);
	return;
}

sub incarnation { my ($path) = @_; return ($path =~ /removed-(\d+)-[0-9a-f]+$/)[0]; }
