# Copyright (c) 2026, pgraft contributors

# Disks without space.  The member stays, refuses commands by 53100, and goes on
# by itself when there is space again; a leader hands over, if anybody else can
# write.  Nothing that was acknowledged is lost, nothing that was refused is done.

use strict;
use warnings FATAL => 'all';

use IPC::Run;
use PgraftCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant T => 1;              # pgraft.election_timeout, in seconds
use constant ALL_WRITES => 1;     # as when a file system copies on write
use constant NEW_BLOCKS => 2;     # what was allocated before can be overwritten

my $cluster = PgraftCluster->new(
	disk_faults => 1,
	conf => "pgraft.election_timeout = 1s\npgraft.heartbeat_interval = 100ms\n"
	  . "pgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
$cluster->start;
$cluster->form;

my @record;
my %pids = map { $_ => $cluster->worker_pid($_) } 1 .. 3;
follower_is_full();
leader_is_full();
all_are_full();
is($cluster->worker_pid($_), $pids{$_}, "the worker of server $_ has not been restarted") for 1 .. 3;
starts_when_full();
joins_when_full();
begins_when_full();
$cluster->wait_converged;
$cluster->check_record('at the end', @record);
done_testing();

sub follower_is_full
{
	my $leader = $cluster->wait_leader;
	my ($full, $other) = grep { $_ != $leader } 1 .. 3;
	my $term = term($leader);
	my $before = campaigns();
	my $writer = $cluster->start_writer('follower', $leader);

	$cluster->wait_writes($writer, 20);
	fill($full, ALL_WRITES);
	refuses($full, 'a full follower');
	$cluster->query($leader, "SELECT pgraft_kv_put('written', 'elsewhere')");
	is($cluster->query($full, "SELECT pgraft_kv_get('written')"), 'elsewhere', 'a linearizable read there sees what others wrote');
	my ($ok, undef, $err) = $cluster->try_query($full, 'SELECT pgraft_snapshot()');
	ok(!$ok && $err =~ /53100: no space is left/, 'a snapshot there fails by 53100, too') or diag($err);
	# it tries again every second
	my $refused = $cluster->disk_count($full, 'refused');
	$cluster->wait_until('it has tried several times', sub { $cluster->disk_count($full, 'refused') >= $refused + 3 });
	$cluster->wait_writes($writer, 20);
	is(campaigns(), $before, 'nobody has asked for votes');
	is($cluster->status($full, 'worker_state'), 'running', 'the full member still takes part');

	empty($full);
	accepts($full, 'the follower');
	push @record, $writer->stop;
	$cluster->wait_converged;
	is(term($leader), $term, 'the term is the same');
	is(times_in_log($full, qr/no space is left for the consensus log of pgraft/), 1, 'its log said so once');
	is(times_in_log($full, qr/waiting for its disk/), 0, 'which it did not mistake for a stall');
	is(times_in_log($full, qr/has space for its consensus log again/), 1, 'and when it was over');
	$cluster->check_record('a follower was full', @record);
	return;
}

# Only new blocks are missing, so it goes on for as long as there are segments.
sub leader_is_full
{
	my $old = $cluster->wait_leader;
	my @others = grep { $_ != $old } 1 .. 3;
	my $term = term($old);
	my $stuck = $cluster->start_writer('stuck', $old);
	my $free = $cluster->start_writer('free', @others);

	$cluster->wait_writes($_, 20) for $stuck, $free;
	my $before = $cluster->status($old, 'prevotes');
	fill($old, NEW_BLOCKS);
	$cluster->wait_writes($stuck, 20);
	is($cluster->query($old, 'SELECT pgraft_is_leader()'), 't', 'prepared segments are used up first');
	my $writes = 0;
	$cluster->wait_until(
		'they are used up',
		sub {
			$cluster->try_query($others[0], q{SELECT pgraft_kv_put('bulk', repeat('x', 900000))}) for 1 .. 10;
			return times_in_log($old, qr/no space is left for the consensus log of pgraft/) > 0;
		});
	my $full_at = time();
	my $new = $cluster->wait_leader(not => $old, seconds => 4 * T);
	note(sprintf 'leader moved from %d to %d, seen %.0f ms later', $old, $new, (time() - $full_at) * 1000);
	is(term($new), $term + 1, 'one election was enough');
	is($cluster->status($old, 'prevotes'), $before, 'and no poll');
	like(log_of($old), qr/hands leadership over to member $new because no space is left/, 'the log says why');
	$cluster->wait_writes($free, 20);
	refuses($old, 'a full former leader');
	is($cluster->query($old, 'SELECT pgraft_get_leader()'), $new, 'it follows the new leader');

	empty($old);
	accepts($old, 'the former leader');
	$cluster->wait_writes($_, 20) for $stuck, $free;
	push @record, $stuck->stop, $free->stop;
	$cluster->wait_converged;
	$cluster->check_record('the leader was full', @record);
	return;
}

# Nobody can take over: refused everywhere, and by nobody forgotten.
sub all_are_full
{
	my $leader = $cluster->wait_leader;
	my $term = term($leader);
	my @writers = map { $cluster->start_writer("all$_", $_) } 1 .. 3;

	$cluster->wait_writes($_, 5) for @writers;
	my %refused = map { $_ => $cluster->disk_count($_, 'refused') } 1 .. 3;
	fill_quietly($_, ALL_WRITES) for 1 .. 3;
	$cluster->wait_until('all have noticed',
		sub { return 3 == grep { $cluster->disk_count($_, 'refused') > $refused{$_} } 1 .. 3 });
	refuses($_, 'with all disks full') for 1 .. 3;
	my $until = time() + 3 * T;
	$cluster->try_query($leader, "SELECT pgraft_kv_put('again', 'x')") while time() < $until;
	refuses($leader, 'still');
	is(term($leader), $term, 'nobody wanted to lead');

	empty($_) for 1 .. 3;
	my $emptied_at = time();
	accepts($_, 'with space again') for 1 .. 3;
	cmp_ok(time() - $emptied_at, '<', 4 * T, 'soon');
	$cluster->wait_writes($_, 5) for @writers;
	push @record, $_->stop for @writers;
	$cluster->wait_converged;
	$cluster->check_record('all were full', @record);
	return;
}

# What its last flush has not finished has to be written again when the log is
# opened; a server that is started without space for that waits for it, too.
sub starts_when_full
{
	my $leader = $cluster->wait_leader;
	my ($full) = grep { $_ != $leader } 1 .. 3;
	my $writer = $cluster->start_writer('start', $leader);

	$cluster->wait_writes($writer, 10);
	fill($full, ALL_WRITES);
	my $started = time();
	$cluster->node($full)->stop('fast');
	cmp_ok(time() - $started, '<', 8, 'a server with a full disk can be stopped');
	empty($full);
	$cluster->start($full);
	accepts($full, 'restarted, it');

	$cluster->disk($full, stall => 1);
	$cluster->wait_until('a flush stalls', sub { $cluster->disk_count($full, 'waiting') > 0 });
	$cluster->wait_writes($writer, 10);
	$cluster->kill9($full);
	$cluster->disk($full, stall => 0, waiting => 0, no_space => ALL_WRITES, refused => 0);
	$cluster->start($full);
	$cluster->wait_until('it is open or waits', sub { $cluster->failure($full) =~ /^(failed|running)/ });
	like($cluster->failure($full), qr/^failed: .*No space left on device/, 'the status says what it waits for');
	$cluster->wait_until('it has tried several times', sub { $cluster->disk_count($full, 'refused') >= 3 });
	is(times_in_log($full, qr/cannot open its log without some space/), 1, 'the log says it once');
	$cluster->wait_writes($writer, 10);
	empty($full);
	$cluster->wait_until('it takes part again', sub { $cluster->failure($full) =~ /^running/ });
	accepts($full, 'the member that was started with a full disk');
	push @record, $writer->stop;
	$cluster->wait_converged;
	return;
}

# A server that is invited and has no space stays blank, and joins by itself later.
sub joins_when_full
{
	my $leader = $cluster->wait_leader;
	my ($out, $err) = ('', '');

	$cluster->make_node(4);
	fill_quietly(4, ALL_WRITES);
	$cluster->start(4);
	$cluster->query(4, 'CREATE EXTENSION pgraft');
	my $add = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $cluster->node($leader)->connstr('postgres'),
			'-c', "SET pgraft.request_timeout = '120s'",
			'-c', sprintf(q{SELECT pgraft_add_node(4, '127.0.0.1', %d)}, $cluster->port(4)) ],
		'>', \$out, '2>', \$err, IPC::Run::timeout(180));
	$cluster->wait_until('it has tried several times', sub { $cluster->disk_count(4, 'refused') >= 3 });
	like($cluster->failure(4), qr/^blank: .*No space left on device/, 'the status of a server that cannot join says why');
	is(times_in_log(4, qr/cannot join without some space/), 1, 'the log says it once');
	unlike(log_of(4), qr/stopped taking part/, 'it has not given up');
	empty(4);
	$add->finish;
	is($err, '', 'with space again it is added');
	$cluster->wait_voters(4);
	accepts(4, 'the new member');
	return;
}

# The same for the first member of a cluster.
sub begins_when_full
{
	my $first = PgraftCluster->new(name => 'first', nodes => 1, disk_faults => 1);

	$first->disk(1, no_space => ALL_WRITES);
	$first->start;
	$first->query(1, 'CREATE EXTENSION pgraft');
	for (1 .. 2)
	{
		my ($ok, undef, $err) = $first->try_query(1, 'SELECT pgraft_init()');
		ok(!$ok && $err =~ /53100: no space is left/, 'no cluster is made on a full disk') or diag($err);
	}
	like($first->failure(1), qr/^blank: /, 'the server is as blank as before');
	$first->disk(1, no_space => 0);
	$first->query(1, 'SELECT pgraft_init()');
	$first->query(1, "SELECT pgraft_kv_put('a', 'b')");
	is($first->query(1, "SELECT pgraft_kv_get('a')"), 'b', 'with space again there is one');
	return;
}

# ----------------------------------------------------------------

# until the member has noticed, for which somebody must write
sub fill
{
	my ($id, $how) = @_;
	my $said = times_in_log($id, qr/no space is left for the consensus log of pgraft/);

	fill_quietly($id, $how);
	return if $how == NEW_BLOCKS;
	$cluster->wait_until("server $id has no space", sub { times_in_log($id, qr/no space is left for the consensus log of pgraft/) > $said });
	return;
}

sub fill_quietly { my ($id, $how) = @_; $cluster->disk($id, no_space => $how); return; }
sub empty { my ($id) = @_; $cluster->disk($id, no_space => 0); return; }

sub refuses
{
	my ($id, $what) = @_;
	my ($ok, undef, $err) = $cluster->try_query($id, "SELECT pgraft_kv_put('refused$id', 'x')");

	ok(!$ok && $err =~ /53100: no space is left for the consensus log/, "$what: server $id refuses a command by 53100") or diag($err);
	like($err, qr/HINT: .*goes on by itself/, 'with a hint');
	return;
}

sub accepts
{
	my ($id, $what) = @_;

	$cluster->wait_until("$what: server $id accepts commands",
		sub { return ($cluster->try_query($id, "SELECT pgraft_kv_put('accepted$id', 'x')"))[0] }, 5);
	pass("$what accepts commands again");
	return;
}

sub term { my ($id) = @_; return $cluster->query($id, 'SELECT pgraft_get_term()'); }
sub log_of { my ($id) = @_; return slurp_file($cluster->node($id)->logfile); }
sub times_in_log { my ($id, $what) = @_; return scalar(() = log_of($id) =~ /$what/g); }
sub campaigns { return join(' ', map { $cluster->status($_, 'elections, prevotes') } 1 .. 3); }
