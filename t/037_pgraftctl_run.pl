# Copyright (c) 2026, pgraft contributors

# pgraftctl run: three servers, each under its supervisor.  Killed postmasters
# come back; a primary with WAL that nobody else has is rewound, or cloned where
# that cannot be done, while nobody does anything; signals, systemd's socket, and
# what is refused.  And a server that was started with an open standard input and
# is killed leaves no process behind that waits for it.

use strict;
use warnings FATAL => 'all';

use IO::Select;
use IO::Socket::UNIX;
use PgraftCtl;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket qw(SOCK_DGRAM);
use Test::More;
use Time::HiRes qw(time);

set_up('run');
my %run;
my $reader;

my $notify = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$sockets/notify") or die "no socket: $!";
my $notified = '';

$PgraftCtl::meanwhile = \&notifications;

# before the servers are ended
END
{
	kill('KILL', map { $_->{pid} } values %run);
}

# ----------------------------------------------------------------
# what is refused
# ----------------------------------------------------------------

refused([ 'run' ], 2, qr/no data directory given/, 'no directory');
refused([ 'run', '-D', $directory ], 1, qr/is not a data directory/, 'a directory of something else');
succeeds([ 'init', member_options(1) ], qr/Member 1/, 'init');
refused([ 'run', '-D', $data{1} ], 1, qr/another server is running in ".*data1"/, 'a server that runs already');
is(sql(1, 'SELECT pgraft_is_primary()'), 't', 'which goes on');
for my $id (2, 3)
{
	succeeds(
		[ 'join', member_options($id), '--from', "host=127.0.0.1 port=$port{1} user=$user passfile=$data{1}.superuser.pgpass" ],
		qr/Member $id/, "join of member $id");
}
sql(1, 'CREATE TABLE t (n int)');
wait_until('all members are in the sync set', sub { (() = sql(1, 'SHOW synchronous_standby_names') =~ /node/g) == 2 });

# ----------------------------------------------------------------
# start, signals
# ----------------------------------------------------------------

for my $id (1 .. 3)
{
	system_or_bail('pg_ctl', 'stop', '-s', '-D', $data{$id});
	start_run($id);
	all_follow();
}
my $primary = all_follow();
wait_until('systemd is told that server 1 is ready', sub { notifications() =~ /READY=1/ });
wait_until('and what it is', sub { notifications() =~ /STATUS=(primary|standby)/ });
refused([ 'run', '-D', $data{2} ], 1, qr/another "pgraftctl run".*takes care of/, 'a second supervisor');
refused([ 'rejoin', '--yes', '-D', $data{2} ], 1, qr/follow again by itself/, 'a rejoin beside it');

append_to_file("$data{2}/pgraft.conf", "log_min_duration_statement = 12345\nwal_log_hints = off\n");
kill('HUP', $run{2}{pid});
wait_until('SIGHUP goes on to the server', sub { (ask(2, 'SHOW log_min_duration_statement') // '') eq '12345ms' });
pass('SIGHUP goes on to the server');

stop_run(2, 'TERM');
like(control(2), qr/cluster state: +shut down/, 'SIGTERM shut the server down');
start_run(2);
all_follow();
wait_until('it is started with its settings', sub { (ask(2, 'SHOW wal_log_hints') // '') eq 'off' });
stop_run(1, 'INT');
like(control(1), qr/cluster state: +shut down/, 'SIGINT, too');
like(notifications(), qr/STOPPING=1/, 'systemd is told');
start_run(1);
$primary = wait_primary(1);
wait_following($primary, grep { $_ != $primary } 1 .. 3);

# ----------------------------------------------------------------
# killed
# ----------------------------------------------------------------

my ($standby) = grep { $_ != $primary } 1 .. 3;
my $killed = postmaster($standby);
kill('KILL', $killed);
wait_until('it is started again', sub { (postmaster($standby) // $killed) != $killed });
wait_following($primary, $standby);

# ----------------------------------------------------------------
# WAL that nobody else has
# ----------------------------------------------------------------

# server 3 can be rewound, server 2 cannot since it writes no hint bits
for my $id (3, 2)
{
	make_primary($id);
	wait_following($id, grep { $_ != $id } 1 .. 3);
	diverge($id);
	my $new = wait_primary($id);
	is(sql($new, "INSERT INTO t VALUES ($id) RETURNING n"), $id, 'another server is the primary');
	wait_until("server $id is a standby of it",
		sub { (ask($new, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'node$id' AND state = 'streaming'") // 0) == 1 });
	wait_until('with the same rows', sub { (ask($id, 'SELECT max(n) FROM t') // '') eq sql($new, 'SELECT max(n) FROM t') });
	is(sql($id, "SELECT current_setting('port') || ' ' || current_setting('pgraft.node_id')"), "$port{$id} $id", 'and its own settings');
	like(said($id), $id == 3 ? qr/cannot follow.*Rewinding/s : qr/cannot follow.*Cloning/s, 'the supervisor says what it does');
	like(said($id), qr{\d+/\d+ kB \(\d+%\)}, 'and how far it is');
	ok(!-e "$data{$id}.pgraft.conf", 'nothing is left over');
}
unlike(said(3), qr/Cloning/, 'what can be rewound is not cloned');

# ----------------------------------------------------------------
# an interrupted rewind, with another member's configuration in place
# ----------------------------------------------------------------

stop_run(3, 'TERM');
rename("$data{3}/pgraft.conf", "$data{3}.pgraft.conf") or die "could not rename: $!";
append_to_file("$data{3}/pgraft.conf", slurp_file("$data{1}/pgraft.conf"));
append_to_file("$data{3}.pgraft/rejoin", "begun\n");
start_run(3);
wait_until('server 3 is back', sub { (ask(3, "SELECT current_setting('pgraft.node_id') || ' ' || own_role FROM pg_stat_pgraft_ha") // '') =~ /^3 standby/ });
pass('an interrupted rewind is ended by a clone, with the own configuration');
wait_following(wait_primary(3), 3);

# ----------------------------------------------------------------
# an open standard input
# ----------------------------------------------------------------

# a standby, which has nothing that others have not
make_primary(2);
wait_following(2, 1, 3);
stop_run(1, 'TERM');
my $input = '';
$reader = IPC::Run::start([ 'postgres', '-D', $data{1} ], '<', \$input, '>&', "$directory/postgres.log");
wait_following(wait_primary(1), 1);
make_primary(1);
wait_following(1, 2, 3);
my @receivers = map { receiver($_) } 2, 3;
kill('STOP', @receivers);
my $writer = IPC::Run::start([ 'psql', '-XAtq', '-d', connection(1), '-c', 'INSERT INTO t VALUES (9)' ], '<', \'', '>&', \my $answer);
my $backend = wait_until('a commit waits', sub { ask(1, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'") });
kill('KILL', postmaster(1));
wait_until('the session ends', sub { !kill(0, $backend) });
pass('a session that waits when its postmaster is killed ends, whatever the standard input of the server is');
$writer->finish;
unlike($answer, qr/INSERT/, 'and its client was told nothing');
kill('CONT', @receivers);
stop_run($_, 'TERM') for 2, 3;
$reader->finish;
done_testing();

# ----------------------------------------------------------------
# tools
# ----------------------------------------------------------------

sub said { my ($id) = @_; return slurp_file("$directory/run$id.log"); }

sub start_run
{
	my ($id) = @_;
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		$ENV{NOTIFY_SOCKET} = "$sockets/notify" if $id == 1;
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', "$directory/run$id.log");
		open(STDERR, '>&', \*STDOUT);
		exec('pgraftctl', 'run', '-D', $data{$id}) or POSIX::_exit(127);
	}
	$run{$id} = { pid => $pid };
	return;
}

sub stop_run
{
	my ($id, $signal) = @_;
	my $pid = $run{$id}{pid};

	kill($signal, $pid);
	wait_until("the supervisor of server $id ends", sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
	is($?, 0, "SIG$signal ends the supervisor of server $id with exit code 0");
	delete $run{$id};
	return;
}

sub notifications
{
	my $select = IO::Select->new($notify);

	while ($select->can_read(0))
	{
		$notify->recv(my $text, 1024);
		$notified .= "$text\n";
	}
	return $notified;
}

sub control
{
	my ($id) = @_;

	IPC::Run::run([ 'pg_controldata', $data{$id} ], '>', \my $out);
	return $out;
}

sub postmaster
{
	my ($id) = @_;

	return -e "$data{$id}/postmaster.pid" && slurp_file("$data{$id}/postmaster.pid") =~ /^(\d+)/ ? $1 : undef;
}

sub make_primary
{
	my ($id) = @_;

	wait_until("server $id becomes the primary",
		sub {
			return 1 if (ask($id, 'SELECT pgraft_is_primary()') // '') eq 't';
			ask($id, "SELECT pgraft_switchover($id)");
			return 0;
		});
	return;
}

# Kills the primary when it has more WAL than standbys got: more than what a
# socket holds for them
sub diverge
{
	my ($id) = @_;
	my @standbys = map { receiver($_) } grep { $_ != $id } 1 .. 3;

	kill('STOP', @standbys);
	my $rival = IPC::Run::start([ 'psql', '-XAtq', '-d', connection($id), '-c', 'INSERT INTO t SELECT g FROM generate_series(1000, 600000) g' ],
		'<', \'', '>&', \my $ignored);
	wait_until('WAL is written that standbys do not have',
		sub { (ask($id, 'SELECT min(pg_current_wal_flush_lsn() - flush_lsn) > 24000000 FROM pg_stat_replication') // '') eq 't' });
	kill('KILL', postmaster($id));
	kill('CONT', @standbys);
	$rival->finish;
	return;
}

# Returns the primary.  A server that is stopped before would end a promotion half done.
sub all_follow
{
	my $id = wait_primary();

	wait_following($id, grep { $_ != $id } 1 .. 3);
	return $id;
}

sub wait_following
{
	my ($primary, @ids) = @_;

	for my $id (@ids)
	{
		wait_until("server $id follows $primary and counts for commits",
			sub { (ask($primary, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'node$id' AND state = 'streaming' AND sync_state = 'quorum'") // 0) == 1 });
	}
	return;
}

sub receiver
{
	my ($id) = @_;
	return wait_until("server $id has a WAL receiver", sub { ask($id, 'SELECT pid FROM pg_stat_wal_receiver') });
}
