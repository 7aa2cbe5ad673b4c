# Copyright (c) 2026, pgraft contributors

# Wall clocks that are set by an hour, forward and back, on the primary, on a
# standby and on all servers: nobody loses the primary role for it, rows go on,
# failover and switchover work as ever, and what waits for a span of time does not
# wait for an hour.  Nothing but what is shown to people may go by that clock.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use constant HOUR => 3600;

my $cluster = PgraftHa->new(nodes => 3, clocks => 1, conf => "wal_keep_size = 512MB\npgraft.request_timeout = 2s\n");
$cluster->form;
my @writers = map { $cluster->start_sql_writer("w$_") } 1 .. 2;
$cluster->wait_writes($_, 20) for @writers;

clocks_are_set();
switchovers();
failovers();
promotion_completes();
sync_set_shrinks();
$cluster->settle('in the end', map { $_->stop } @writers);
request_ends();
done_testing();

sub all_clocks { my ($seconds) = @_; $cluster->set_clock($_, $seconds) for $cluster->ids; return; }

sub clocks_are_set
{
	my $primary = $cluster->wait_primary;
	my ($standby) = grep { $_ != $primary } $cluster->ids;
	my $epoch = $cluster->query($primary, 'SELECT epoch FROM pg_stat_pgraft_ha');

	for my $who ([ 'the primary', $primary ], [ 'a standby', $standby ], [ 'all', $cluster->ids ])
	{
		my ($name, @ids) = @$who;

		for my $seconds (HOUR, -HOUR(), 0)
		{
			$cluster->set_clock($_, $seconds) for @ids;
			my $ahead = $cluster->query($ids[0], 'SELECT round(extract(epoch FROM clock_timestamp()))') - time();
			ok(abs($ahead - $seconds) < 600, "the clock of $name is $seconds s ahead");
			$cluster->wait_writes($_, 20) for @writers;
		}
	}
	is($cluster->query($primary, 'SELECT epoch FROM pg_stat_pgraft_ha'), $epoch, 'no clock brings a new epoch');
	is($cluster->wait_primary, $primary, 'the primary is what it was');
	return;
}

# Asked for where the clock is an hour ahead or behind, led by another server.
sub switchovers
{
	for my $seconds (HOUR, -HOUR())
	{
		my $old = $cluster->wait_primary;
		my ($target, $third) = grep { $_ != $old } $cluster->ids;

		$cluster->set_clock($target, $seconds);
		is($cluster->query($target, "SELECT pgraft_switchover($target)"), $target, "switchover asked for where the clock is $seconds s ahead");
		$cluster->settle('a switchover');

		# and back, with a target that cannot take over: given up after its time, not
		# later; that takes half a minute, so once, with a leader whose clock goes back
		next if $seconds < 0;
		$cluster->pause_at($old, 'report');
		my $session = $cluster->session($target);
		$session->say("SELECT pgraft_switchover($old)");
		$cluster->wait_until('the switchover begins', sub { ($cluster->ask($third, "SELECT switchover_from = $target FROM pg_stat_pgraft_ha") // '') eq 't' });
		$cluster->set_clock($_, -$seconds) for grep { $_ != $target } $cluster->ids;
		$cluster->wait_until('the switchover to a server that does not answer is given up',
			sub { ($cluster->ask($third, "SELECT phase = 'steady' AND switchover_from IS NULL FROM pg_stat_pgraft_ha") // '') eq 't' });
		isnt($cluster->wait_primary, $old, 'a switchover to a server that does not answer is given up in time');
		$session->end;
		$cluster->pause_at($old);
		all_clocks(0);
		$cluster->settle('a switchover that was given up');
		$cluster->wait_writes($writers[0], 20);
	}
	return;
}

# The clock changes while a new primary is chosen.
sub failovers
{
	for my $seconds (HOUR, -HOUR())
	{
		my $old = $cluster->wait_primary;
		my @others = grep { $_ != $old } $cluster->ids;
		my $epoch = $cluster->query($old, 'SELECT epoch FROM pg_stat_pgraft_ha');

		$cluster->pause_at($_, 'report') for @others;
		$cluster->kill_all($old);
		$cluster->wait_paused('report', @others);
		$cluster->set_clock($_, $seconds) for @others;
		$cluster->pause_at($_) for @others;
		my $new = $cluster->wait_primary(not => $old);
		isnt($new, $old, "failover while clocks are set $seconds s ahead");
		$cluster->wait_writes($writers[0], 20);
		$cluster->start_node($old);
		$cluster->settle('a failover');
		all_clocks(0);
		$cluster->wait_writes($writers[0], 20);
	}
	return;
}

# The clock goes back again and again after a promotion: its checkpoint is seen
# all the same.
sub promotion_completes
{
	my $old = $cluster->wait_primary;
	my @others = grep { $_ != $old } $cluster->ids;
	my $behind = 0;

	$cluster->pause_at($_, 'checkpoint') for @others;
	$cluster->kill_all($old);
	my $new = $cluster->wait_paused('checkpoint', @others);
	my $marker = $cluster->node($new)->data_dir . '.pgraft/promotion';
	ok(-e $marker, 'the promotion is not complete');
	$cluster->pause_at($_) for @others;
	$cluster->wait_until(
		'the checkpoint after the promotion is complete',
		sub {
			# each time farther, so that it never catches up with what was seen before
			$behind += HOUR;
			$cluster->set_clock($_, -$behind) for @others;
			return !-e $marker;
		});
	pass('the promotion is complete although the clock goes back');
	all_clocks(0);
	$cluster->start_node($old);
	$cluster->settle('a promotion');
	return;
}

# No standby is connected; before the cluster asks for fewer, the clock goes back.
sub sync_set_shrinks
{
	my $primary = $cluster->wait_primary;
	my $node = $cluster->node($primary);
	my $hba = $node->data_dir . '/pg_hba.conf';
	my $rules = slurp_file($hba);

	$cluster->pause_at($primary, 'sync_begin');
	unlink($hba);
	append_to_file($hba, "local replication all reject\nhost replication all all reject\n$rules");
	$node->reload;
	$cluster->query($primary, 'SELECT pg_terminate_backend(pid) FROM pg_stat_replication');
	my $session = $cluster->session($primary);
	$session->say("INSERT INTO writes VALUES ('clock', 1)");
	$cluster->wait_paused('sync_begin', $primary);
	my $behind = 0;
	for (1 .. 5)
	{
		$behind += HOUR;
		$cluster->set_clock($primary, -$behind);
	}
	$cluster->pause_at($primary);
	ok($session->heard(qr/^INSERT 0 1/m, 40), 'without standbys the primary goes on although the clock goes back');
	unlink($hba);
	append_to_file($hba, $rules);
	$node->reload;
	$session->end;
	all_clocks(0);
	$cluster->settle('the sync set');
	return;
}

# Without a quorum a request ends by its time limit.
sub request_ends
{
	my ($id, @others) = $cluster->ids;
	my $session = $cluster->session($id);

	$cluster->kill_all($_) for @others;
	$session->say("SELECT pgraft_kv_put('clock', 'x')");
	$cluster->wait_until('the request waits',
		sub { $cluster->ask($id, "SELECT state = 'active' FROM pg_stat_activity WHERE pid = $session->{pid}") eq 't' });
	$cluster->set_clock($id, -HOUR());
	ok($session->heard(qr/ERROR:  (40003|57P03)/, 30), 'a request without a quorum ends although the clock goes back') or diag($session->{out});
	$session->end;
	return;
}
