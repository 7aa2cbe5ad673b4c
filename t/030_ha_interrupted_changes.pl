# Copyright (c) 2026, pgraft contributors

# Changes of the sync set, asked for by the setting, by a standby that leaves, by a
# member that is added and one that is removed, are held up at each of their steps;
# there the primary dies, or the Raft leader does.  Whoever comes next finishes the
# change, and no acknowledged row is missing.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use Test::More;

my @steps = qw(sync_begin sync_walsenders sync_end);
my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\npgraft.synchronous_standbys = 1\n");
$cluster->form;
my @writers = map { $cluster->start_sql_writer("w$_") } 1 .. 2;
$cluster->wait_writes($_, 20) for @writers;

for my $step (@steps)
{
	setting_changed($step);
	standby_leaves($step);
	member_added($step);
	member_removed($step);
	$cluster->check_rows($step, map { $_->record } @writers);
}
$cluster->settle('in the end', map { $_->stop } @writers);
done_testing();

sub pause_all { my (@steps) = @_; $cluster->pause_at($_, @steps) for $cluster->running; return; }

sub want_standbys
{
	my ($n) = @_;

	for my $id ($cluster->running)
	{
		$cluster->node($id)->append_conf('postgresql.conf', "pgraft.synchronous_standbys = $n\n");
		$cluster->node($id)->reload;
	}
	return;
}

# k of n standbys, and no other set beside it
sub wait_set
{
	my ($what, $k, $n) = @_;

	$cluster->wait_until(
		"$what: commits wait for $k of $n standbys",
		sub {
			my $set = $cluster->ask(scalar $cluster->wait_primary,
				"SELECT sync_standbys, (SELECT count(*) FROM unnest(sync_members) m WHERE m < 1000) - 1 FROM pg_stat_pgraft_ha WHERE cardinality(coalesce(next_sync_members, '{}')) = 0");
			return defined $set && $set eq "$k|$n";
		});
	pass("$what: commits wait for $k of $n standbys");

	# the writers know only those that were there when they began
	$cluster->wait_until(
		"$what: one of the first servers is the primary",
		sub { my $primary = $cluster->wait_primary; return $primary <= 3 || (($cluster->try_query(1, 'SELECT pgraft_switchover(1)', 60))[0] && 0); });
	$cluster->wait_writes($_, 10) for @writers;
	return;
}

# The primary dies at that step of a change that another one makes.
sub primary_dies
{
	my ($what, $old) = @_;

	$cluster->kill_all($old);
	pause_all();
	my $new = $cluster->wait_primary(not => $old);
	isnt($new, $old, "$what: another server is primary");

	# with one standby, when the change was to two of them; the writers would not find
	# the server that was added
	$cluster->wait_until("$what: a row is acknowledged while the old primary is dead",
		sub {
			my $row = $cluster->ask(scalar $cluster->wait_primary(not => $old),
				"INSERT INTO writes VALUES ('without $old, $what', 1)
					ON CONFLICT (name) DO UPDATE SET value = writes.value + 1 RETURNING 'row'");
			return defined $row && $row eq 'row';
		});
	$cluster->pause_at($old);
	$cluster->start_node($old);
	$cluster->follows_or_rewound($old);
	return;
}

# From one to two standbys, and the primary dies; back to one, and the leader dies,
# which is another server then.
sub setting_changed
{
	my ($step) = @_;
	my $old = $cluster->wait_primary;

	pause_all($step);
	want_standbys(2);
	$cluster->wait_paused($step, $old);
	primary_dies("more standbys, before $step", $old);
	wait_set("more standbys, before $step", 2, 2);

	my $primary = $cluster->wait_primary;
	my ($leader) = grep { $_ != $primary } $cluster->ids;
	pause_all($step);
	want_standbys(1);
	$cluster->wait_paused($step, $primary);
	$cluster->wait_until("server $leader leads", sub {
		return 1 if ($cluster->ask($leader, 'SELECT pgraft_is_leader()') // '') eq 't';
		$cluster->ask((grep { ($cluster->ask($_, 'SELECT pgraft_is_leader()') // '') eq 't' } $cluster->ids)[0] // $leader,
			"SELECT pgraft_transfer_leadership($leader)");
		return 0;
	});
	$cluster->kill_all($leader);
	pause_all();
	$cluster->pause_at($leader);
	$cluster->start_node($leader);
	$cluster->settle("fewer standbys, before $step");
	wait_set("fewer standbys, before $step", 1, 2);
	return;
}

# With both standbys needed, one leaves; the primary dies before commits go on
# without it, and the standby comes back.
sub standby_leaves
{
	my ($step) = @_;

	want_standbys(2);
	wait_set("both standbys, $step", 2, 2);
	my $old = $cluster->wait_primary;
	my ($left) = grep { $_ != $old } $cluster->ids;

	pause_all($step);
	$cluster->kill_all($left);
	$cluster->wait_paused($step, $old);
	$cluster->pause_at($left);
	$cluster->kill_all($old);
	pause_all();
	$cluster->start_node($left);
	isnt($cluster->wait_primary(not => $old), $old, "a standby left, before $step: another server is primary");
	$cluster->pause_at($old);
	$cluster->start_node($old);
	$cluster->settle("a standby left, before $step");
	wait_set("the standby is back, $step", 2, 2);
	want_standbys(1);
	wait_set("one of two again, $step", 1, 2);
	return;
}

sub member_added
{
	my ($step) = @_;
	my $old = $cluster->wait_primary;

	pause_all($step);
	# once it is the new one that becomes primary
	$cluster->join_member(4, conf => 'pgraft.failover_priority = ' . ($step eq 'sync_begin' ? 5 : 0) . "\n");
	$cluster->wait_paused($step, $old);
	primary_dies("a member was added, before $step", $old);
	$cluster->settle("a member was added, before $step");
	wait_set("a member was added, before $step", 1, 3);
	return;
}

# The server itself goes first, as one that is lost for good.
sub member_removed
{
	my ($step) = @_;
	my $old = $cluster->wait_primary;

	# the one to go must be no primary
	if ($old == 4)
	{
		$cluster->query(1, 'SELECT pgraft_switchover(1)');
		$cluster->settle('before the removal');
		$old = $cluster->wait_primary;
	}
	pause_all($step);
	$cluster->query($old, 'SELECT pgraft_remove_node(4)');
	$cluster->wait_until('member 4 is forgotten',
		sub { ($cluster->ask($old, 'SELECT count(*) FROM pgraft_ha_members()') // 0) == 3 });
	$cluster->drop_node(4);
	$cluster->wait_paused($step, $old);

	# the one that was removed may be the only other that has a commit: without the
	# old primary nobody can tell
	my ($other) = grep { $_ != $old } $cluster->running;
	$cluster->kill_all($old);
	pause_all();
	$cluster->wait_until('all that are left have reported',
		sub { ($cluster->ask($other, "SELECT count(*) FROM pgraft_ha_member_list() WHERE reported AND node_id <> $old") // 0) == 2 });
	is($cluster->query($other, 'SELECT phase FROM pg_stat_pgraft_ha'), 'sealing', "a member was removed, before $step: the old primary is waited for");
	$cluster->pause_at($old);
	$cluster->start_node($old);
	ok($cluster->wait_primary, "a member was removed, before $step: with it there is a primary");
	$cluster->settle("a member was removed, before $step");
	wait_set("a member was removed, before $step", 1, 2);
	$old = $cluster->wait_primary;
	$cluster->kill_all($old);
	isnt($cluster->wait_primary(not => $old), $old, "a member was removed: once the change is complete nobody is waited for");
	$cluster->start_node($old);
	$cluster->follows_or_rewound($old);
	return;
}
