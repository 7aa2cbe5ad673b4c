# Copyright (c) 2026, pgraft contributors

# pgraft.on_role_change: which command each server runs at a switchover and at a
# failover, what it finds in its environment, and that nobody waits for one that
# hangs: not the cluster, and not the next server in the same data directory.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $secret = 'not-for-hooks';

# what it does besides taking notes, the test says by making files
append_to_file("$directory/hook.sh", <<"SH");
cd $directory
{ env; ls -l /proc/\$PPID/fd /proc/\$\$/fd; cat /proc/\$PPID/maps; } > seen.\$PGRAFT_NODE_ID 2>&1
echo "\$PGRAFT_OLD_ROLE>\$PGRAFT_ROLE \$PGRAFT_EPOCH \$PGRAFT_NAME \$PGRAFT_PRIMARY_PORT" >> told.\$PGRAFT_NODE_ID
[ ! -e fail ] || exit 7
[ ! -e hang ] || { sleep 100000 & echo \$\$ \$! > pids.\$PGRAFT_NODE_ID.tmp; mv pids.\$PGRAFT_NODE_ID.tmp pids.\$PGRAFT_NODE_ID; wait; }
SH

# a command that hangs is left to the test until it says otherwise
my $cluster = PgraftHa->new(nodes => 3, conf => <<"CONF");
wal_keep_size = 512MB
pgraft.on_role_change = 'exec sh $directory/hook.sh'
pgraft.on_role_change_timeout = 1h
CONF
$cluster->{environment}{$_} = { PGRAFT_TEST_SECRET => $secret } for 1 .. 3;

# also when the test dies
END
{
	my $status = $?;
	kill('KILL', grep { defined } map { pids($_) } 1 .. 3) if defined $directory;
	$? = $status;
}

# ----------------------------------------------------------------
# each role, in its order
# ----------------------------------------------------------------

$cluster->form;
my %port = map { $_ => $cluster->node($_)->port } 1 .. 3;
wait_told(1, '>primary');
wait_told($_, '>standby') for 2, 3;
is(told(1), ">primary 1 node1 $port{1}", 'the first primary: epoch, name, and where it is');
is(told(2), ">standby 1 node2 $port{1}", 'a standby: where its primary is');

my $seen = slurp_file("$directory/seen.2");
like($seen, qr/^PGRAFT_NODE_ID=2$/m, 'the environment has the node id');
like($seen, qr/^PGDATA=\Q@{[ $cluster->node(2)->data_dir ]}\E$/m, 'and the data directory');
like($seen, qr/^PATH=/m, 'and a path');
unlike($seen, qr/\Q$secret\E/, 'but not what else the server was started with');
unlike($seen, qr/socket:|anon_inode/, 'neither the command nor what waits for it has a socket of the server');
unlike($seen, qr{SYSV|/dev/zero}, 'nor its shared memory');

switchover(2, 'switchover to server 2');
wait_told(1, 'demoting>standby');
wait_told(2, 'standby>primary');
is(told(1, -2), 'primary>demoting 1 node1 ', 'the old primary is told that it stops being one');
is(told(1), "demoting>standby 2 node1 $port{2}", 'then that it is a standby');
is(told(2), "standby>primary 2 node2 $port{2}", 'and the new one that it is the primary');
$cluster->wait_streaming($_) for 1, 3;
$cluster->wait_synchronous(3);
is(told(3), ">standby 1 node3 $port{1}", 'the third server has the role that it had');
like(slurp_file($cluster->node(2)->logfile), qr/command of "pgraft.on_role_change" for role primary ended well/,
	'the log says that the command ended');

# ----------------------------------------------------------------
# a command that hangs
# ----------------------------------------------------------------

# killed before that checkpoint it would come back as a fenced primary, and be told so
wait_log(2, qr/the checkpoint after the promotion is complete/, 'that the promotion is complete');
append_to_file("$directory/hang", '');
$cluster->kill9(2);
my $new = $cluster->wait_primary(not => 2);
is($cluster->query($new, "INSERT INTO writes VALUES ('while it hangs', 1) RETURNING value"), 1, 'another server is the primary');
wait_told($new, 'standby>primary');
wait_hanging($new);
$cluster->start_node(2);
$cluster->follows_or_rewound(2);
wait_told(2, 'primary>standby');
wait_hanging(2);
$cluster->wait_synchronous(3);
pass('a killed primary is told when it has become a standby');

my ($target) = grep { $_ != $new && $_ != 2 } 1 .. 3;
switchover($target, 'a switchover while the command for the last role hangs');
$cluster->wait_streaming($new);
ok(is_hanging($new), 'it does hang, and outlived its process');
like(told($new), qr/^standby>primary/, 'no other command runs meanwhile');

# processes that had the sockets, files or shared memory would keep it from starting
$cluster->kill9(2);
$cluster->start_node(2);
$cluster->wait_streaming(2);
ok(is_hanging(2), 'a server was killed and started again beside its command');

unlink("$directory/hang");
unlink("$directory/fail");
end_hanging($new);
wait_told($new, 'primary>standby');
is(scalar(grep { />demoting/ } all_told($new)), $new == 1 ? 1 : 0, 'of the roles that became due only the newest was told');
wait_log($new, qr/command of "pgraft.on_role_change" for role primary failed with exit code 137/, 'that the command was killed');
end_hanging($_) for grep { is_hanging($_) } 1 .. 3;

# ----------------------------------------------------------------
# a deadline, a failure
# ----------------------------------------------------------------

set('pgraft.on_role_change_timeout', '200ms');
$cluster->wait_synchronous(3);
append_to_file("$directory/hang", '');
my $old = $cluster->wait_primary;
unlink("$directory/pids.$new");
switchover($new, 'a switchover with a command that hangs');
wait_log($new, qr/command of "pgraft.on_role_change" for role primary was killed after \d+ ms/, 'that it was killed at its deadline');
$cluster->wait_until('all of its processes are gone', sub { !grep { kill(0, $_) } pids($new) });
wait_told($old, '>standby');

unlink("$directory/hang");
append_to_file("$directory/fail", '');
set('pgraft.on_role_change_timeout', '1h');
$cluster->wait_streaming($old);
$cluster->wait_synchronous(3);
switchover($old, 'a switchover with a command that fails');
wait_log($old, qr/command of "pgraft.on_role_change" for role primary failed with exit code 7/, 'that it failed');
$cluster->wait_streaming($new);
is($cluster->query($old, 'SELECT pgraft_is_primary()'), 't', 'the server is the primary all the same');

# ----------------------------------------------------------------
# no command
# ----------------------------------------------------------------

unlink("$directory/fail");
wait_told($new, 'demoting>standby');
my $before = () = all_told($new);
set('pgraft.on_role_change', '');
$cluster->wait_synchronous(3);
switchover($new, 'a switchover without a command');
$cluster->wait_streaming($old);
$cluster->wait_primary(not => $old);
set('pgraft.on_role_change', "exec sh $directory/hook.sh");
$cluster->wait_synchronous(3);
switchover($old, 'and one with a command again');
wait_told($new, 'demoting>standby', $before);
like((all_told($new))[$before], qr/^primary>demoting/, 'the role before is known although no command was told');
done_testing();

# ----------------------------------------------------------------
# tools
# ----------------------------------------------------------------

# asked there, because the old primary's sessions end
sub switchover
{
	my ($target, $name) = @_;

	is($cluster->query($target, "SELECT pgraft_switchover($target)"), $target, $name);
	return;
}

sub all_told
{
	my ($id) = @_;
	my $file = "$directory/told.$id";

	return -e $file ? split(/\n/, slurp_file($file)) : ();
}

# the last one, or another by a negative number
sub told { my ($id, $which) = @_; return (all_told($id))[ $which // -1 ]; }

# until the last role that was told, behind the first $from, is this one
sub wait_told
{
	my ($id, $roles, $from) = @_;

	$cluster->wait_until("server $id is told $roles",
		sub { my @all = all_told($id); @all > ($from // 0) && $all[-1] =~ /^[a-z]*\Q$roles\E |^\Q$roles\E / });
	return;
}

sub pids
{
	my ($id) = @_;
	my $file = "$directory/pids.$id";

	return -e $file ? split(' ', slurp_file($file)) : ();
}

sub is_hanging { my ($id) = @_; my @pids = pids($id); return @pids == 2 && kill(0, @pids) == 2; }

sub wait_hanging
{
	my ($id) = @_;

	$cluster->wait_until("a command hangs on server $id", sub { is_hanging($id) });
	return;
}

sub end_hanging
{
	my ($id) = @_;

	kill('KILL', pids($id));
	return;
}

sub set
{
	my ($name, $value) = @_;

	for my $id ($cluster->ids)
	{
		my $node = $cluster->node($id);

		$node->append_conf('postgresql.conf', "$name = '$value'");
		$node->reload;
		$cluster->wait_until("server $id has the setting", sub { ($cluster->ask($id, "SHOW $name") // '') eq $value });
	}
	return;
}

sub wait_log
{
	my ($id, $pattern, $what) = @_;

	$cluster->wait_until("the log of server $id says $what", sub { slurp_file($cluster->node($id)->logfile) =~ $pattern });
	pass("the log says $what");
	return;
}
