# Copyright (c) 2026, pgraft contributors

# pgraftctl from end to end as an unprivileged user: a cluster of three servers
# in HA mode by one command for each, what status prints, a planned switchover,
# a primary that comes back with WAL that nobody else has, and wrong usage.  The
# members talk TLS by certificates of "pgraftctl tls".

use strict;
use warnings FATAL => 'all';

use JSON::PP qw(decode_json);
use PgraftCtl;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

set_up('ctl');
$PgraftCtl::patience = 40;

# ----------------------------------------------------------------
# wrong usage
# ----------------------------------------------------------------

refused([], 2, qr/no command given.*hint: Try "pgraftctl --help"/s, 'no command');
refused(['nonsense'], 2, qr/unrecognized command "nonsense"/, 'an unknown command');
refused([ 'status', '--nonsense' ], 2, qr/"--nonsense".*Try "pgraftctl status --help"/s, 'an unknown option');
refused([ 'status', '-D', 'x' ], 2, qr/"x"|"-D"/, 'an option of another command');
refused([ 'init' ], 2, qr/no data directory given/, 'init without a directory');
refused([ 'init', '-D', "$directory/x", '--node-id', 'one' ], 2, qr/"--node-id": "one".*number from 1/s, 'a number that is none');
refused([ 'init', '-D', "$directory/x", '--name', 'Node 1' ], 2, qr/invalid member name.*lower-case/s, 'a bad name');
refused([ 'init', '-D', $directory ], 1, qr/neither empty nor a data directory/, 'a directory with other files')
  if append_to_file("$directory/other", 'x') || 1;
refused([ 'join', '-D', "$directory/x" ], 2, qr/--from and --node-id are needed/, 'join without a source');
refused([ 'join', '-D', "$directory/x", '--node-id', 2, '--from', "host=$sockets port=1" ], 1, qr/connection to server/, 'join with no server there');
ok(!-e "$directory/x", 'none of these made a data directory');
refused([ 'remove' ], 2, qr/wrong number of arguments: "pgraftctl remove ID"/, 'remove of nobody');
refused([ 'remove', '3' ], 1, qr/Give --yes/, 'a question that cannot be asked');
refused([ 'rejoin', '--yes', '-D', "$directory/x" ], 1, qr/no data directory|not a data directory|does not exist/, 'rejoin of nothing');
refused([ 'status', '-h', $sockets, '-p', $port{1} ], 1, qr/connection to server/, 'status with no server there');

# what each command takes, by its long name
my $connect = 'dbname host pg-port username';
my %option = (
	init => 'pgdata node-id name address port pg-address pg-port socket-directory cluster-id certificates username timeout',
	join => 'pgdata node-id name address port pg-address pg-port socket-directory cluster-id certificates from role timeout',
	tls => '',
	status => "$connect json watch",
	members => "$connect json",
	history => "$connect json",
	log => "$connect json",
	add => "$connect role",
	remove => "$connect yes",
	switchover => "$connect yes at cancel",
	failover => "$connect yes allow-data-loss",
	pause => $connect,
	resume => $connect,
	kv => $connect,
	rejoin => 'pgdata from timeout no-start yes',
	run => 'pgdata from timeout');
my ($code, $out) = pgraftctl('--help');
is_deeply([ sort +($out =~ /^Commands:\n(.*?)\n\n/ms)[0] =~ /^  ([a-z]+) /mg ], [ sort keys %option ], '--help names every command');
for my $command (sort keys %option)
{
	($code, $out) = pgraftctl($command, '--help');
	is($code, 0, "$command --help: exit code 0");
	like($out, qr/^Usage:\n  pgraftctl $command /, "$command --help: usage");
	is_deeply([ sort $out =~ /^  (?:-.,|   ) --([a-z-]+)/mg ], [ sort 'help', split ' ', $option{$command} ], "$command --help: its options");
	refused([ $command, '--nonsense' ], 2, qr/--nonsense.*Try "pgraftctl $command --help"/s, "$command with an unknown option");
}

# ----------------------------------------------------------------
# three servers
# ----------------------------------------------------------------

succeeds([ 'tls', "$directory/tls", map { "node$_" } 1 .. 3 ], qr/Certificates are in/, 'certificates');
succeeds([ 'init', member(1) ], qr/Member 1 \("node1"\) is the primary of cluster "pgraft"/, 'init');
ok((stat "$data{1}.superuser.pgpass")[2] % 0100 == 0, 'nobody else can read the password');
is(sql(1, 'CREATE TABLE t (n int); INSERT INTO t VALUES (1); SELECT pgraft_is_primary()'), 't', 'it accepts writes');
my $from = "host=127.0.0.1 port=$port{1} user=$user passfile=$data{1}.superuser.pgpass";
refused([ 'join', member(2), '--from', "host=127.0.0.1 port=$port{1} user=$user password=wrong" ], 1,
	qr/password authentication failed for user "$user"/, 'join with a wrong password');
ok(!-e "$data{2}/PG_VERSION", 'leaves nothing behind');
for my $id (2, 3)
{
	succeeds([ 'join', member($id), '--from', $from ], qr/Member $id \("node$id"\) follows the primary/, "join of member $id");
}
succeeds([ 'join', member(3), '--from', $from ], qr/Member 3 \("node3"\) follows the primary/, 'join given again changes nothing');
wait_until('all members are in the sync set', sub { (() = sql(1, 'SHOW synchronous_standby_names') =~ /node/g) == 2 });
wait_following(1, 2, 3);
is(sql(1, 'SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) WHERE ssl'), 2, 'standbys use TLS, too');

wait_until('all members report', sub { (() = join(' ', map { $_->{State} } @{ status(1) }) =~ /streaming/g) == 2 });
($code, $out) = pgraftctl('status', at(1));
is($code, 0, 'status');
wait_until('timeline and lag of each are known',
	sub { !grep { $_->{Role} eq 'standby' && !defined $_->{'Lag (bytes)'} || ($_->{TL} // 0) != 2 } @{ status(1) } });
note($out);
($code, $out) = pgraftctl('status', at(2));
is($code, 0, 'status on a standby');
like($out, qr/Member.*Name.*Host.*Role.*State.*TL.*Lag/, 'the columns that one expects');
for my $id (1 .. 3)
{
	my $host = quotemeta("127.0.0.1:$port{$id}");
	my $role = $id == 1 ? 'primary' : 'standby';

	like($out, qr/\b$id \W+ node$id \W+ $host \W+ $role /x, "server $id is a $role there");
}
is_deeply([ map { "$_->{Name} $_->{Role}" } @{ status(1) } ], [ 'node1 primary', 'node2 standby', 'node3 standby' ], 'the same as JSON');
like(watch(1), qr/(node3.*){2}/s, 'status --watch prints it again and again');

# ----------------------------------------------------------------
# planned
# ----------------------------------------------------------------

refused([ 'switchover', at(1), '2' ], 1, qr/Sessions on the primary will be ended.*Give --yes/s, 'a switchover that was not confirmed');
refused([ 'switchover', '--yes', at(1), '9' ], 1, qr/9/, 'a switchover to nobody');
succeeds([ 'switchover', '--yes', at(2), '2' ], qr/Done/, 'switchover');
wait_role(2, 'primary');
wait_role(1, 'standby');
wait_following(2, 1, 3);
is(sql(2, 'INSERT INTO t VALUES (2) RETURNING n'), 2, 'the new primary accepts writes');
succeeds([ 'history', at(3) ], qr/switchover/, 'history names it');
succeeds([ 'pause', at(2) ], qr/Paused/, 'pause');
wait_until('a standby knows', sub { sql(3, 'SELECT paused FROM pg_stat_pgraft_ha') eq 't' });
($code, $out) = pgraftctl('status', at(3));
like($out, qr/paused/i, 'status says so');
succeeds([ 'resume', at(2) ], qr/Resumed/, 'resume');

# ----------------------------------------------------------------
# a primary with WAL that nobody else has
# ----------------------------------------------------------------

# standbys stand still, so that WAL is written that they never get: more than
# what a socket holds for them
my @standbys = map { receiver($_) } 1, 3;
kill('STOP', @standbys);
my $rival = fork() // die "could not fork: $!";
if ($rival == 0)
{
	exec('psql', '-XAtq', '-d', connection(2), '-c', "INSERT INTO t SELECT g FROM generate_series(1000, 600000) g")
	  or POSIX::_exit(127);
}
wait_until('WAL is written that standbys do not have',
	sub { sql(2, "SELECT pg_current_wal_flush_lsn() - max(flush_lsn) > 24000000 FROM pg_stat_replication") eq 't' });
my $lost_from = slurp_file("$data{2}/postmaster.pid");
kill('KILL', $lost_from =~ /^(\d+)/);
kill('CONT', @standbys);
waitpid($rival, 0);
my $new = wait_until('another server is the primary',
	sub { (grep { (ask($_, 'SELECT pgraft_is_primary()') // '') eq 't' } 1, 3)[0] });
is(sql($new, 'INSERT INTO t VALUES (3) RETURNING n'), 3, 'it accepts writes');

# processes of the killed server need a moment to notice
wait_until('the killed server starts again',
	sub { system("pg_ctl start -s -w -D '$data{2}' -l '$data{2}.log' >'$directory/start.log' 2>&1") == 0 });
wait_role(2, 'rewind');
succeeds([ 'rejoin', '--yes', '-D', $data{2} ], qr/Rewinding.*Done/s, 'rejoin');
wait_role(2, 'standby');
wait_following($new, 2);
wait_until('it has what the primary has, and not its own', sub { (ask(2, 'SELECT count(*), max(n) FROM t') // '') eq '3|3' });
is(sql(2, "SELECT current_setting('port') || ' ' || current_setting('pgraft.node_id')"), "$port{2} 2", 'with its own settings');
is_deeply([ sort map { $_->{Role} } @{ status($new) } ], [qw(primary standby standby)], 'status shows one primary and two standbys');
done_testing();

# ----------------------------------------------------------------
# tools
# ----------------------------------------------------------------

sub member { my ($id) = @_; return (member_options($id), '--address', '127.0.0.1', '--certificates', "$directory/tls"); }

sub at { my ($id) = @_; return ('-h', $sockets, '-p', $port{$id}); }

sub status
{
	my ($id) = @_;
	my ($status, $said) = pgraftctl('status', '--json', at($id));

	return decode_json($said);
}

# what status prints until it has printed it twice, once each second
sub watch
{
	my ($id) = @_;
	my $said = '';

	# a test run in the background is told to ignore it, and so would be the command
	local $SIG{INT} = 'DEFAULT';
	my $run = IPC::Run::start([ 'pgraftctl', 'status', '--watch', '1', at($id) ], '<', \'', '>', \$said, IPC::Run::timeout(20));

	$run->pump until $said =~ /(node3.*){2}/s;
	$run->signal('INT');
	$run->finish;
	is($run->full_result & 127, POSIX::SIGINT(), 'SIGINT ends it');
	return $said;
}

sub wait_role
{
	my ($id, $role) = @_;

	wait_until("server $id is $role", sub { (ask($id, 'SELECT own_role FROM pg_stat_pgraft_ha') // '') eq $role });
	pass("server $id is $role");
	return;
}

sub wait_following
{
	my ($primary, @ids) = @_;

	for my $id (@ids)
	{
		wait_until("server $id follows $primary",
			sub { (ask($primary, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'node$id' AND state = 'streaming'") // 0) == 1 });
		pass("server $id follows $primary");
	}
	return;
}

sub receiver
{
	my ($id) = @_;
	return wait_until("server $id has a WAL receiver", sub { ask($id, 'SELECT pid FROM pg_stat_wal_receiver') });
}
