# Copyright (c) 2026, pgraft contributors

# Disks that do not answer for a while, and disks that are slow.  Neither may
# stop heartbeats, cause an election by timeout, or lose what was acknowledged.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use constant T => 1;    # pgraft.election_timeout, in seconds

my $cluster = PgraftCluster->new(
	disk_faults => 1,
	conf => "pgraft.election_timeout = 1s\npgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
$cluster->start;
$cluster->form;

my @record;
follower_stalls();
$cluster->wait_converged;
$cluster->check_record('at the end', @record);
done_testing();

# The other two are a majority: nobody but the stalled disk's owner notices.
sub follower_stalls
{
	my $leader = $cluster->wait_leader;
	my ($stalled, $other) = grep { $_ != $leader } 1 .. 3;
	my $term = $cluster->query($leader, 'SELECT pgraft_get_term()');
	my $before = campaigns();
	my $writer = $cluster->start_writer('follower', $leader);

	$cluster->wait_writes($writer, 20);
	$cluster->disk($stalled, stall => 1);
	$cluster->wait_until('a flush stalls', sub { $cluster->disk_count($stalled, 'waiting') > 0 });
	my $until = time() + 4 * T;
	while (time() < $until)
	{
		$cluster->wait_writes($writer, 10);
	}
	is($cluster->disk_count($stalled, 'waiting'), 1, 'the flush is stalled for four election timeouts');
	is($cluster->query($_, 'SELECT pgraft_get_leader()'), $leader, "server $_ follows the same leader") for 1 .. 3;
	is($cluster->query($leader, 'SELECT pgraft_get_term()'), $term, 'in the same term');
	is(campaigns(), $before, 'nobody has even asked for votes');

	# what the others have committed is committed: it may be read and applied here
	is($cluster->query($stalled, "SELECT pgraft_kv_put('through', 'stalled')") > 0, 1, 'a command through the stalled member is acknowledged');
	is($cluster->query($other, "SELECT pgraft_kv_get('through', 'local')"), 'stalled', 'and is on the others');
	is($cluster->query($stalled, "SELECT pgraft_kv_get('through')"), 'stalled', 'a linearizable read there sees it');

	$cluster->disk($stalled, stall => 0);
	$cluster->wait_writes($writer, 10);
	push @record, $writer->stop;
	$cluster->wait_converged;
	is($cluster->query($leader, 'SELECT pgraft_get_term()'), $term, 'still the same term after the disk has come back');
	$cluster->check_record('a follower stalled', @record);
	return;
}

# elections and polls before them that any server has begun
sub campaigns
{
	return join(' ', map { $cluster->query($_, 'SELECT elections, prevotes FROM pg_stat_pgraft') } 1 .. 3);
}
