# Copyright (c) 2026, pgraft contributors

# Snapshots that a member writes of its own store: they take the disk as long as
# they take, nobody waits for them, and they show the store as it was at one
# index, however it changes while they are written.

use strict;
use warnings FATAL => 'all';

use IPC::Run;
use PgraftCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant T => 1;    # pgraft.election_timeout, in seconds
use constant KEYS => 1500;

my $cluster = PgraftCluster->new(
	disk_faults => 1,
	conf => "pgraft.election_timeout = 1s\npgraft.heartbeat_interval = 100ms\n"
	  . "pgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n"
	  . "pgraft.request_timeout = 60s\n");
$cluster->start;
$cluster->form;

my @record;
slow_snapshot_of($_) for 'leader', 'follower';
store_changes_meanwhile();
$cluster->wait_converged;
$cluster->check_record('at the end', @record);
done_testing();

# Four election timeouts in one fsync: the log has nothing to do with that.
sub slow_snapshot_of
{
	my ($who) = @_;
	my $leader = $cluster->wait_leader;
	my ($follower) = grep { $_ != $leader } 1 .. 3;
	my $slow = $who eq 'leader' ? $leader : $follower;
	my $term = term($leader);
	my $before = campaigns();
	my $writer = $cluster->start_writer("slow_$who", $slow);

	$cluster->wait_writes($writer, 20);
	$cluster->disk($slow, stall_snapshots => 1);
	my $snapshot = background($slow, 'SELECT pgraft_snapshot()');
	$cluster->wait_until('the flush of the snapshot stalls', sub { $cluster->disk_count($slow, 'waiting') > 0 });
	my $until = time() + 4 * T;
	$cluster->wait_writes($writer, 5) while time() < $until;
	is($cluster->disk_count($slow, 'waiting'), 1, "the $who has been flushing a snapshot for four election timeouts");
	is(term($leader), $term, 'the term is the same');
	is(campaigns(), $before, 'nobody has asked for votes');
	is($cluster->wait_leader, $leader, 'the same leader leads');
	unlike(slurp_file($cluster->node($slow)->logfile), qr/waiting for its disk/, 'its log does not speak of a disk that does not answer');

	$cluster->disk($slow, stall_snapshots => 0);
	like(result($snapshot), qr/^\d+$/, 'the snapshot is done in the end');
	push @record, $writer->stop;
	$cluster->wait_converged;
	$cluster->check_record("the $who wrote a snapshot", @record);
	return;
}

# Keys are overwritten, made and deleted while snapshots are being written.  The
# state hash in each says whether it is the state at its index; a member that is
# killed begins with it and refuses another.
sub store_changes_meanwhile
{
	my $leader = $cluster->wait_leader;

	$cluster->query($leader, sprintf q{SELECT count(pgraft_kv_put('key' || i, repeat('v', 20000))) FROM generate_series(1, %d) i}, KEYS);
	for my $round (1 .. 3)
	{
		my @clients = map { background($_, changes()) } 1 .. 3;

		$cluster->query($_, 'SELECT pgraft_snapshot()') for (1 .. 3) x 2;
		my @snapshots = map { background($_, 'SELECT pgraft_snapshot()') } 1 .. 3;
		$cluster->query(2, "SELECT pgraft_kv_delete_prefix('key$round')");
		result($_) for @snapshots, @clients;

		my $state = $cluster->wait_converged;
		my $id = $round;
		$cluster->kill9($id);
		$cluster->start($id);
		$cluster->wait_until('it has followed', sub { ($cluster->ask($id, 'SELECT worker_state FROM pg_stat_pgraft') // '') eq 'running' });
		my ($from) = slurp_file($cluster->node($id)->logfile) =~ /.*opened its log: entries \d+ to \d+, snapshot at (\d+)/s;
		cmp_ok($from, '>', 0, "round $round: server $id began with the snapshot at $from");
		is((split /\|/, $cluster->wait_converged)[1], (split /\|/, $state)[1], 'and has the state that all had');
	}
	return;
}

# what a client does to the store, differently each time
sub changes
{
	return join ';', map {
		sprintf q{SELECT count(pgraft_kv_put('key' || (random() * %1$d)::int, repeat('w', 1 + (random() * 30000)::int))) FROM generate_series(1, 60);
			SELECT count(pgraft_kv_delete('key' || (random() * %1$d)::int)) FROM generate_series(1, 20);
			SELECT count(pgraft_kv_put('new' || (random() * 1000000)::int, 'x')) FROM generate_series(1, 20)}, KEYS
	} 1 .. 5;
}

# ----------------------------------------------------------------

sub background
{
	my ($id, $sql) = @_;
	my %run = (out => '', err => '');

	$run{handle} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $cluster->node($id)->connstr('postgres'), '-c', $sql ],
		'>', \$run{out}, '2>', \$run{err}, IPC::Run::timeout(180));
	return \%run;
}

sub result
{
	my ($run) = @_;

	$run->{handle}->finish;
	is($run->{err}, '', 'a client was told of no error');
	chomp $run->{out};
	return $run->{out};
}

sub term { my ($id) = @_; return $cluster->query($id, 'SELECT pgraft_get_term()'); }
sub campaigns { return join(' ', map { $cluster->status($_, 'elections, prevotes') } 1 .. 3); }
