# Copyright (c) 2026, pgraft contributors

# pgraft.failover_priority: of standbys with the same WAL the one with the higher
# priority becomes primary, in a failover and in a switchover without a target, also
# when the other is the first to report; a changed setting counts without a restart.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\npgraft.election_timeout = 5s\n");
$cluster->form;

# to the one with the greater id, which ties would not choose
my $primary = $cluster->wait_primary;
my ($low, $high) = sort { $a <=> $b } grep { $_ != $primary } $cluster->ids;
prefer($high);
$cluster->settle('before the switchover');
$cluster->pause_at($high, 'report');
my $session = $cluster->session($low);
$session->say('SELECT pgraft_switchover()');
$cluster->wait_paused('report', $high);
$cluster->wait_until('the other has reported',
	sub { ($cluster->ask($low, "SELECT reported FROM pgraft_ha_member_list() WHERE node_id = $low") // '') eq 't' });
$cluster->pause_at($high);
ok($session->heard(qr/^$high\b/m, 30), "a switchover goes to server $high, which is preferred");
$session->end;
$cluster->settle('after the switchover');

# its connection is there and nobody at the other end
$primary = $high;
($low, $high) = sort { $a <=> $b } grep { $_ != $primary } $cluster->ids;
prefer($high);
wait_equal($primary, $low, $high);
my $receiver = $cluster->walreceiver($high);
kill('STOP', $receiver) == 1 or die 'could not stop the walreceiver';
is($cluster->query($low, 'SELECT pgraft_switchover()'), $low, "to server $low while server $high confirms nothing");
kill('CONT', $receiver);
$cluster->settle('after the second switchover');

$primary = $low;
($low, $high) = sort { $a <=> $b } grep { $_ != $primary } $cluster->ids;
prefer($high);
wait_equal($primary, $low, $high);
$cluster->kill_all($primary);
is($cluster->wait_primary(not => $primary), $high, "so does a failover to server $high, with as much WAL as the other");
$cluster->start_node($primary);
$cluster->settle('after the failover');
done_testing();

# Everybody knows that this one is preferred.
sub prefer
{
	my ($preferred) = @_;

	for my $id ($cluster->ids)
	{
		my $priority = $id == $preferred ? 5 : 0;

		$cluster->node($id)->append_conf('postgresql.conf', "pgraft.failover_priority = $priority\n");
		$cluster->node($id)->reload;
	}
	for my $id ($cluster->ids)
	{
		$cluster->wait_until("server $id knows who is preferred",
			sub { ($cluster->ask($id, 'SELECT node_id FROM pgraft_ha_members() ORDER BY priority DESC, node_id LIMIT 1') // 0) == $preferred });
	}
	return;
}

# Both standbys have all that the idle primary has.
sub wait_equal
{
	my ($id, @standbys) = @_;

	$cluster->wait_until(
		'the standbys have all WAL',
		sub {
			my $lsn = $cluster->ask($id, 'SELECT pg_current_wal_insert_lsn()') // return 0;
			return !grep { ($cluster->ask($_, 'SELECT pg_last_wal_replay_lsn()') // '') ne $lsn } @standbys;
		});
	return;
}
