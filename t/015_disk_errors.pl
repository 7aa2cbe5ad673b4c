# Copyright (c) 2026, pgraft contributors

# A flush that fails: the kernel may have dropped what was to be written, so the
# member stops and never flushes that file again; the others go on, and what was
# acknowledged is there.  Writes that are cut short are nothing but slow.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $cluster = PgraftCluster->new(
	disk_faults => 1,
	conf => "pgraft.election_timeout = 1s\npgraft.heartbeat_interval = 100ms\n"
	  . "pgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
$cluster->start;
$cluster->form;

my @record;
flush_fails('follower');
flush_fails('leader');
snapshot_fails();
writes_are_short();
$cluster->wait_converged;
$cluster->check_record('at the end', @record);
done_testing();

sub flush_fails
{
	my ($who) = @_;
	my $leader = $cluster->wait_leader;
	my $failing = $who eq 'leader' ? $leader : ($leader % 3) + 1;
	my @others = grep { $_ != $failing } 1 .. 3;
	my $offset = -s $cluster->node($failing)->logfile;
	my $term = $cluster->query($leader, 'SELECT pgraft_get_term()');
	my $stuck = $cluster->start_writer("stuck-$who", $failing, @others);
	my $free = $cluster->start_writer("free-$who", @others);

	$cluster->wait_writes($_, 20) for $stuck, $free;
	my $failed_at = time();
	$cluster->disk($failing, fail_syncs => 1);
	$cluster->wait_until("the $who has stopped", sub { $cluster->failure($failing) =~ /^failed/ });
	like($cluster->failure($failing), qr/could not fdatasync file "log-\d+": Input\/output error/, "the status of the $who says why");
	my $new = $cluster->wait_leader(not => $failing, seconds => 5);
	note(sprintf 'server %d leads, seen %.0f ms after the failure', $new, (time() - $failed_at) * 1000) if $who eq 'leader';
	is($new, $leader, 'the leader is the same') if $who eq 'follower';
	$cluster->wait_writes($_, 20) for $stuck, $free;
	is($cluster->query($new, 'SELECT pgraft_get_term()'), $term, 'and the term') if $who eq 'follower';

	my ($ok, undef, $err) = $cluster->try_query($failing, "SELECT pgraft_kv_put('x', 'y')");
	ok(!$ok && $err =~ /could not fdatasync file/, 'a command there fails and says why') or diag($err);
	is($cluster->query($failing, 'SELECT count(*) > 0 FROM pg_class'), 't', 'its server works');
	my $log = slurp_file($cluster->node($failing)->logfile, $offset);
	is(scalar(() = $log =~ /LOG: +could not fdatasync file/g), 1, 'the log tells of the failure once');
	like($log, qr/pgraft stopped taking part in the cluster.*HINT: /s, 'and what it means');
	is($cluster->disk_count($failing, 'failed'), 1, 'one flush was made to fail');
	is($cluster->disk_count($failing, 'retried'), 0, 'and that file is not flushed again');

	# the way back is a restart
	$cluster->node($failing)->stop('fast');
	$cluster->start($failing);
	$cluster->wait_until('it takes part again', sub { $cluster->failure($failing) =~ /^running/ });
	push @record, $stuck->stop, $free->stop;
	$cluster->wait_converged;
	$cluster->check_record("the ${who}'s flush failed", @record);
	$cluster->disk($failing, failed => 0, retried => 0);
	return;
}

# the log still has everything, so that costs nothing
sub snapshot_fails
{
	my $id = $cluster->wait_leader;

	$cluster->disk($id, fail_syncs => 1);
	my ($ok, undef, $err) = $cluster->try_query($id, 'SELECT pgraft_snapshot()');
	ok(!$ok && $err =~ /snapshot/, 'a snapshot that cannot be flushed fails') or diag($err);
	is($cluster->disk_count($id, 'failed'), 1, 'for that reason');
	like($cluster->failure($id), qr/^running/, 'its member goes on');
	is($cluster->query($id, "SELECT pgraft_kv_put('after', 'snapshot') > 0"), 't', 'and takes commands');
	cmp_ok($cluster->query($id, 'SELECT pgraft_snapshot()'), '>', 0, 'the next attempt succeeds');
	is($cluster->disk_count($id, 'retried'), 0, 'in another file');
	$cluster->disk($id, failed => 0);
	return;
}

sub writes_are_short
{
	my $leader = $cluster->wait_leader;
	my $writer = $cluster->start_writer('short', 1 .. 3);

	$cluster->disk($_, short_writes => 1) for 1 .. 3;
	$cluster->wait_writes($writer, 50);
	ok($cluster->disk_count($_, 'shortened') > 0, "writes of server $_ are cut short") for 1 .. 3;
	$cluster->kill9(1 .. 3);
	push @record, $writer->stop;
	$cluster->disk($_, short_writes => 0) for 1 .. 3;
	$cluster->start(1 .. 3);
	$cluster->wait_leader;
	return;
}
