# Copyright (c) 2026, pgraft contributors

# What a client is told when its patience ends, or its session does: failed when
# nothing was proposed, and then nothing happens later; unknown otherwise.  And
# no slot of the request queue is lost.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use Test::More;
use Time::HiRes qw(time);

# a leader without followers stays one for the time of every call below
my $cluster = PgraftCluster->new(
	nodes => 3,
	conf => "pgraft.max_requests = 16\npgraft.election_timeout = 10000\npgraft.request_timeout = 30000\n");
$cluster->start;
$cluster->form;
my $leader = $cluster->wait_leader;
my @followers = grep { $_ != $leader } $cluster->ids;
my $worker = $cluster->worker_pid($leader);

sub failing
{
	my ($id, $settings, $key) = @_;
	my ($ok, undef, $err) = $cluster->try_query($id, "$settings; SELECT pgraft_kv_put('$key', 'x')");

	ok(!$ok, "$key: the call fails");
	return $err;
}

sub exists_now { my ($key) = @_; return $cluster->query($leader, "SELECT pgraft_kv_exists('$key')"); }

# ----------------------------------------------------------------
# Before it is proposed: the worker has not seen the request
# ----------------------------------------------------------------
kill('STOP', $worker) or die "could not stop the worker: $!";
my $err = failing($leader, "SET pgraft.request_timeout = '500ms'", 'early');
like($err, qr/ERROR: +57P03: .*Nothing was changed/s, 'timeout before the proposal: failed, nothing was changed');
$err = failing($leader, "SET statement_timeout = '500ms'", 'early_cancel');
like($err, qr/ERROR: +57014: .*DETAIL: +Nothing was changed/s, 'cancel before the proposal: nothing was changed');
kill('CONT', $worker);
$cluster->query($leader, q{SELECT pgraft_kv_put('after_early', 'x')});
is(exists_now($_), 'f', "$_: nothing happens later either") for qw(early early_cancel);

# ----------------------------------------------------------------
# After it was proposed: the leader has it in its log, the others do not answer
# ----------------------------------------------------------------
$cluster->freeze($_) for @followers;
my $proposed = $cluster->status($leader, 'proposals');
$err = failing($leader, "SET pgraft.request_timeout = '500ms'", 'late');
like($err, qr/ERROR: +40003: .*outcome is unknown/s, 'timeout after the proposal: unknown');
$err = failing($leader, "SET statement_timeout = '500ms'", 'late_cancel');
like($err, qr/ERROR: +57014: .*DETAIL: +The outcome is unknown/s, 'statement_timeout after the proposal: unknown');

my $session = waiting_sessions(1, 'late_pg_cancel');
$cluster->query($leader, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%late_pg_cancel%' AND pid <> pg_backend_pid()});
my ($said) = end_sessions($session);
like($said, qr/ERROR: +57014: .*DETAIL: +The outcome is unknown/s, 'pg_cancel_backend after the proposal: unknown');
cmp_ok($cluster->status($leader, 'proposals'), '>=', $proposed + 3, 'they had been proposed indeed');
$cluster->thaw($_) for @followers;
$cluster->wait_until('the cluster works again', sub { defined $cluster->ask($leader, q{SELECT pgraft_kv_put('after_late', 'x')}) });
is(exists_now($_), 't', "$_: and was applied later") for qw(late late_cancel late_pg_cancel);

# ----------------------------------------------------------------
# Terminated sessions, many more than there are slots
# ----------------------------------------------------------------

# Starts $n sessions that put $key, and waits until all of them wait.
sub waiting_sessions
{
	my ($n, $key) = @_;
	my $node = $cluster->node($leader);
	my @sessions;

	for my $i (1 .. $n)
	{
		my $file = PostgreSQL::Test::Utils::tempdir() . "/session";
		my $pid = fork();
		die "could not fork: $!" if !defined $pid;
		if ($pid == 0)
		{
			open(STDOUT, '>', $file);
			open(STDERR, '>&', \*STDOUT);
			exec($node->installed_command('psql'), '-X', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'),
				'-c', "SELECT pgraft_kv_put('$key', '$i')") or POSIX::_exit(127);
		}
		push @sessions, { pid => $pid, file => $file };
	}
	$cluster->wait_until("$n sessions wait",
		sub { return ($cluster->ask($leader, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%$key%' AND pid <> pg_backend_pid()") // 0) == $n });
	return \@sessions;
}

# waits for their end; what each of them said
sub end_sessions
{
	my ($sessions) = @_;

	return map {
		local $?;
		waitpid($_->{pid}, 0);
		PostgreSQL::Test::Utils::slurp_file($_->{file});
	} @$sessions;
}

$cluster->freeze($_) for @followers;
my $terminated = 0;
for my $round (1 .. 15)
{
	# every second time the worker does not even see them
	kill('STOP', $worker) if $round % 2;
	my $sessions = waiting_sessions(20, 'terminated');
	$cluster->query($leader, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%terminated%' AND pid <> pg_backend_pid()});
	$terminated += grep { /57P01/ } end_sessions($sessions);
	kill('CONT', $worker) if $round % 2;
}
$cluster->thaw($_) for @followers;
is($terminated, 300, 'three hundred waiting sessions were terminated');
my $started = time();
is($cluster->query($leader, q{SELECT count(pgraft_kv_put('after_terminated' || i, 'x')) FROM generate_series(1, 50) AS i}), 50,
	'the queue of 16 takes new calls');
cmp_ok(time() - $started, '<', 25, 'and before any timeout');
$cluster->wait_until('nothing is left in the queue', sub { $cluster->status($leader, 'queue_depth') == 0 });
pass('nothing is left in the queue');

# as many at once as there are slots: each has one
kill('STOP', $worker);
my $all = waiting_sessions(16, 'all_slots');
my ($ok, undef, $full) = $cluster->try_query($leader, q{SET pgraft.request_timeout = '500ms'; SELECT pgraft_kv_put('one_more', 'x')});
like($full, qr/ERROR: +53400: /, 'only one more than that finds no place');
kill('CONT', $worker);
is(scalar(grep { /ERROR/ } end_sessions($all)), 0, 'and all of them are served');

# ----------------------------------------------------------------
# Without a worker
# ----------------------------------------------------------------
kill('TERM', $cluster->worker_pid($followers[0]));
is(($cluster->try_query($followers[0], q{SELECT pgraft_kv_put('restart', 'x')}))[0], 1,
	'a worker that ended comes back in time for the call');
$cluster->make_node(4, "max_worker_processes = 0\n");
$cluster->start(4);
$cluster->query(4, 'CREATE EXTENSION pgraft');
$started = time();
$err = failing(4, "SELECT 1", 'no_worker');
like($err, qr/ERROR: +57P03: .*worker is not running.*HINT: .*server log/s, 'no worker: it says so, and where to look');
cmp_ok(time() - $started, '<', 10, 'long before the timeout');

$cluster->drop_node(4);
$cluster->wait_converged;
pass('same state on all');
done_testing();
