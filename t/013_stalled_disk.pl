# Copyright (c) 2026, pgraft contributors

# Disks that do not answer for a while, and disks that are slow.  Neither may
# stop heartbeats, cause an election by timeout, lose what was acknowledged, or
# keep a server from being stopped.

use strict;
use warnings FATAL => 'all';

use List::Util qw(max);
use PgraftCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant T => 1;    # pgraft.election_timeout, in seconds

# A small cache: it has no room for what four seconds of writes bring.
my $cluster = PgraftCluster->new(
	disk_faults => 1,
	conf => "pgraft.election_timeout = 1s\npgraft.heartbeat_interval = 100ms\n"
	  . "pgraft.max_entry_size = 64kB\npgraft.cache_size = 1MB\n"
	  . "pgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
$cluster->start;
$cluster->form;

my @record;
follower_stalls();
leader_stalls();
majority_stalls();
all_are_slow();
stalled_server_stops();
$cluster->wait_converged;
$cluster->check_record('at the end', @record);
done_testing();

# The other two are a majority: nobody but the stalled disk's owner notices.
sub follower_stalls
{
	my $leader = $cluster->wait_leader;
	my ($stalled, $other) = grep { $_ != $leader } 1 .. 3;
	my $term = term($leader);
	my $before = campaigns();
	my $writer = $cluster->start_writer('follower', $leader);

	$cluster->wait_writes($writer, 20);
	stall($stalled);
	my $until = time() + 4 * T;
	is($cluster->query($stalled, "SELECT pgraft_kv_put('through', 'stalled')") > 0,
		1, 'a command through the stalled member is acknowledged: the others have it');
	is($cluster->query($other, "SELECT pgraft_kv_get('through')"), 'stalled', 'they do');
	is($cluster->query($stalled, "SELECT pgraft_kv_get('through')"), 'stalled', 'a linearizable read at the stalled member sees it');
	while (time() < $until)
	{
		$cluster->query($leader, q{SELECT pgraft_kv_put('bulk', repeat('x', 40000))});
		$cluster->wait_writes($writer, 5);
	}
	is($cluster->disk_count($stalled, 'waiting'), 1, 'the flush is stalled for four election timeouts');
	is($cluster->query($_, 'SELECT pgraft_get_leader()'), $leader, "server $_ follows the same leader") for 1 .. 3;
	is(term($leader), $term, 'in the same term');
	is(campaigns(), $before, 'nobody has even asked for votes');
	is($cluster->query($stalled, 'SELECT worker_state FROM pg_stat_pgraft'), 'running', 'the stalled member still takes part');

	release($stalled);
	$cluster->wait_writes($writer, 10);
	push @record, $writer->stop;
	$cluster->wait_converged;
	is(term($leader), $term, 'still the same term after the disk has come back');
	$cluster->check_record('a follower stalled', @record);
	like(log_of($stalled), qr/has been waiting for its disk for \d+ ms.*answers again after \d+ ms/s, 'its log tells of the stall');
	is(scalar(() = log_of($stalled) =~ /has been waiting for its disk/g), 1, 'once');
	return;
}

# The leader cannot write, but can speak: it hands over, and nobody has to find
# out by a timeout.
sub leader_stalls
{
	my $old = $cluster->wait_leader;
	my @others = grep { $_ != $old } 1 .. 3;
	my $term = term($old);
	my $prevotes = polls();
	my $elections = elections($old);
	my $stuck = $cluster->start_writer('stuck', $old);
	my $free = $cluster->start_writer('free', @others);

	$cluster->wait_writes($_, 20) for $stuck, $free;
	my $stalled_at = time();
	stall($old);
	my $new = $cluster->wait_leader(not => $old, seconds => 4 * T);
	my $seconds = time() - $stalled_at;
	note(sprintf 'leader moved from %d to %d after %.0f ms', $old, $new, $seconds * 1000);
	cmp_ok($seconds, '<', 2 * T + 0.5, 'leadership moves within two election timeouts');
	cmp_ok($seconds, '>', 0.5 * T, 'and not at the first hiccup');
	$cluster->wait_writes($free, 20);
	my ($gap, $last) = (0, undef);
	for my $ack (PgraftCluster::acknowledged($free->record))
	{
		$gap = $ack->{end} - $last if defined $last && $ack->{end} - $last > $gap;
		$last = $ack->{end};
	}
	note(sprintf 'longest time without an acknowledgement at the others: %.0f ms', $gap * 1000);
	cmp_ok($gap, '<', T, 'the others take writes almost all the time');
	is($cluster->disk_count($old, 'waiting'), 1, 'while the disk is stalled');
	is(term($new), $term + 1, 'one election was enough');
	is(polls(), $prevotes, 'nobody has missed heartbeats: no poll was made');
	is(elections($old), $elections, 'the old leader has not campaigned');
	is($cluster->query($old, 'SELECT pgraft_get_leader()'), $new, 'it follows the new one');
	like(log_of($old), qr/hands leadership over to member $new because its disk does not answer/, 'its log says why');

	# a member that cannot write must not want to lead: nothing changes for a while
	my $until = time() + 2 * T;
	$cluster->wait_writes($free, 5) while time() < $until;
	is(term($new), $term + 1, 'the stalled member leaves the new leader alone');

	# what was sent through it meanwhile is done or of unknown outcome, see below
	release($old);
	$cluster->wait_writes($_, 20) for $stuck, $free;
	push @record, $stuck->stop, $free->stop;
	$cluster->wait_converged;
	is(term($new), $term + 1, 'and follows when its disk has come back');
	$cluster->check_record('the leader stalled', @record);
	return;
}

# Nothing can be committed, and nobody could do better as leader.  When the disks
# come back service does, too, within two election timeouts.
sub majority_stalls
{
	my $leader = $cluster->wait_leader;
	my @stalled = ($leader, $leader % 3 + 1);
	my ($well) = grep { $_ != $stalled[0] && $_ != $stalled[1] } 1 .. 3;
	my $term = term($leader);
	my $writer = $cluster->start_writer('majority', $well);

	$cluster->wait_writes($writer, 20);
	$cluster->disk($_, stall => 1) for @stalled;
	for my $id (@stalled)
	{
		$cluster->wait_until("a flush of server $id stalls", sub { $cluster->disk_count($id, 'waiting') > 0 });
	}
	my $before = $writer->acknowledged;
	my $until = time() + 4 * T;
	$cluster->try_query($well, q{SET pgraft.request_timeout = '500ms'; SELECT pgraft_kv_put('no', 'majority')}) while time() < $until;
	cmp_ok($writer->acknowledged - $before, '<=', 1, 'two stalled disks of three: nothing is acknowledged but what was on its way');
	my $terms = max(map { term($_) } 1 .. 3) - $term;
	note("$terms new terms meanwhile");
	cmp_ok($terms, '<=', 5, 'at most one candidacy per election timeout');

	my $released_at = time();
	$cluster->disk($_, stall => 0) for @stalled;
	$cluster->wait_until('a write is acknowledged',
		sub { return ($cluster->try_query($well, q{SET pgraft.request_timeout = '200ms'; SELECT pgraft_kv_put('again', 'majority')}))[0] });
	my $seconds = time() - $released_at;
	note(sprintf 'service is back after %.0f ms', $seconds * 1000);
	cmp_ok($seconds, '<', 2 * T + 0.5, 'service is back within two election timeouts');
	$cluster->wait_writes($writer, 20);
	push @record, $writer->stop;
	$cluster->wait_converged;
	$cluster->check_record('a majority stalled', @record);
	return;
}

# 100 ms per flush, everywhere, is a slow cluster and not a broken one.
sub all_are_slow
{
	my $leader = $cluster->wait_leader;
	my $term = term($leader);
	my $before = campaigns();
	my @writers = map { $cluster->start_writer("slow$_", $_) } 1 .. 3;

	$cluster->wait_writes($_, 5) for @writers;
	$cluster->disk($_, delay_ms => 100) for 1 .. 3;
	my $acknowledged = $writers[0]->acknowledged;
	my $syncs = $cluster->disk_count($leader, 'syncs');
	my $started = time();
	my $until = $started + 5;
	$cluster->wait_writes($_, 1) for (@writers) x 3;
	$cluster->wait_writes($writers[0], 1) while time() < $until;
	my $written = $writers[0]->acknowledged - $acknowledged;
	$syncs = $cluster->disk_count($leader, 'syncs') - $syncs;
	note("$written writes of one client, $syncs flushes of the leader in 5 s");
	cmp_ok($syncs, '<=', 10 * (time() - $started) + 1, 'the disks are as slow as they should be');
	cmp_ok($written, '>=', 10, 'writes go on');
	is(term($leader), $term, 'in the same term');
	is(campaigns(), $before, 'nobody has asked for votes');
	$cluster->disk($_, delay_ms => 0) for 1 .. 3;
	push @record, $_->stop for @writers;
	$cluster->wait_converged;
	return;
}

# What hangs in the kernel may hang there; a shutdown does not wait for it.
sub stalled_server_stops
{
	my $leader = $cluster->wait_leader;
	my ($stalled) = grep { $_ != $leader } 1 .. 3;
	my $node = $cluster->node($stalled);
	my $writer = $cluster->start_writer('stopped', $leader);

	$cluster->wait_writes($writer, 10);
	stall($stalled);
	$cluster->wait_writes($writer, 10);
	my $started = time();
	$node->stop('fast');
	my $seconds = time() - $started;
	note(sprintf 'stopped after %.0f ms', $seconds * 1000);
	cmp_ok($seconds, '<', 8, 'a server whose flush hangs can be stopped');
	like(log_of($stalled), qr/leaves a write of its log unfinished/, 'it says what it left');
	like(log_of($stalled), qr/database system is shut down\n\z/, 'the server ended in order');
	ok(!-e $node->data_dir . '/postmaster.pid', 'and took its lock file along');

	release($stalled);
	$cluster->start($stalled);
	$cluster->wait_writes($writer, 10);
	push @record, $writer->stop;
	$cluster->wait_converged;
	return;
}

# ----------------------------------------------------------------

sub stall
{
	my ($id) = @_;

	$cluster->disk($id, stall => 1);
	$cluster->wait_until('a flush stalls', sub { $cluster->disk_count($id, 'waiting') > 0 });
	return;
}

sub release { my ($id) = @_; $cluster->disk($id, stall => 0); return; }
sub term { my ($id) = @_; return $cluster->query($id, 'SELECT pgraft_get_term()'); }
sub elections { my ($id) = @_; return $cluster->status($id, 'elections'); }
sub log_of { my ($id) = @_; return slurp_file($cluster->node($id)->logfile); }

# what each server has begun: polls before elections; both
sub polls { return join(' ', map { $cluster->status($_, 'prevotes') } 1 .. 3); }
sub campaigns { return join(' ', map { $cluster->status($_, 'elections, prevotes') } 1 .. 3); }
