# Copyright (c) 2026, pgraft contributors

# Modes of synchronous replication, by the primary's setting: strict never asks for
# fewer standbys, commits wait instead; async waits for none, and a failover takes
# a member that lacks at most a bound of what the primary was last known to have,
# says how much that is, and takes nobody who lacks more.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => <<'CONF');
pgraft.election_timeout = 1s
pgraft.synchronous_standbys = 2
max_wal_size = 1GB
CONF
$cluster->form;
wait_state(k => 2);
strict();
async_within();
async_beyond();
removed_in_strict();
$cluster->node($_)->stop('immediate') for $cluster->running;
done_testing();

# The same setting on all, as an administrator should have it.
sub set_on_all
{
	my ($setting) = @_;

	for my $id ($cluster->ids)
	{
		my $conf = $cluster->node($id)->data_dir . '/postgresql.conf';
		my $rest = slurp_file($conf);
		unlink($conf);
		append_to_file($conf, "$rest$setting\n");
		$cluster->node($id)->reload if grep { $_ == $id } $cluster->running;
	}
	return;
}

# mode, k, and no change under way, as every running server sees it
sub wait_state
{
	my (%wanted) = @_;

	for my $id ($cluster->running)
	{
		for my $what (sort keys %wanted)
		{
			my $column = $what eq 'k' ? 'sync_standbys' : 'sync_mode';
			$cluster->wait_until("server $id has $what $wanted{$what}",
				sub { ($cluster->ask($id, "SELECT $column || (next_sync_standbys IS NULL)::text FROM pg_stat_pgraft_ha") // '') eq "$wanted{$what}true" });
		}
	}
	return;
}

sub wait_healthy
{
	my ($id) = @_;

	my $complaints = '';
	$cluster->wait_until("server $id has nothing to complain of",
		sub { ($complaints = $cluster->ask($id, "SELECT string_agg(check_name || ': ' || detail, ' ') FROM pgraft_health WHERE status <> 'ok'") // 'no answer') eq '' });
	is($cluster->query($id, 'SELECT count(*) FROM pgraft_health'), 11, "all checks of server $id are well");
	return;
}

# No standby receives anything until the caller lets them go on.
sub stop_receivers
{
	my ($primary) = @_;
	my @receivers = map { $cluster->walreceiver($_) } grep { $_ != $primary } $cluster->ids;

	kill('STOP', @receivers) == @receivers or die 'could not stop the walreceivers';
	return @receivers;
}

sub epoch
{
	my ($id) = @_;

	return $cluster->query($id, 'SELECT epoch FROM pg_stat_pgraft_ha');
}

# ----------------------------------------------------------------
# strict
# ----------------------------------------------------------------

sub strict
{
	my $primary = $cluster->wait_primary;
	my ($away, $other) = grep { $_ != $primary } $cluster->ids;

	set_on_all("pgraft.synchronous_mode = 'strict'");
	wait_state(mode => 'strict', k => 2);
	$cluster->node($away)->stop('fast');
	my $session = $cluster->session($primary);
	$session->say("INSERT INTO writes VALUES ('strict', 1)");
	$cluster->wait_until('a client waits',
		sub { $cluster->ask($primary, 'SELECT waiting_clients FROM pg_stat_pgraft_ha') eq '1' });
	$cluster->wait_until('the cluster knows that the standby is gone',
		sub { ($cluster->ask($other, "SELECT state FROM pgraft_ha_members() WHERE node_id = $away") // '') eq 'lagging' });
	is($cluster->query($other, 'SELECT pgraft_wait_applied(pgraft_get_applied_index() + 1000000, 5000)'), 'f',
		'for five election timeouts');
	ok(!$session->heard(qr/INSERT 0 1/, 0), 'in mode strict a commit waits for all that are wanted');
	is($cluster->query($primary, 'SELECT sync_standbys FROM pg_stat_pgraft_ha'), 2, 'no fewer are asked for');

	is($cluster->query($primary, "SELECT status FROM pgraft_health WHERE check_name = 'waiting commits'"), 'critical',
		'pgraft_health tells');

	set_on_all("pgraft.synchronous_mode = 'quorum'");
	ok($session->heard(qr/INSERT 0 1/, 30), 'in mode quorum it goes on with those that are there');
	$session->end;
	wait_state(mode => 'quorum', k => 1);
	is($cluster->query($primary, "SELECT status FROM pgraft_health WHERE check_name = 'synchronous standbys'"), 'warning',
		'pgraft_health tells that these are fewer than wanted');
	$cluster->start_node($away);
	wait_state(k => 2);
	wait_healthy($primary);
	return;
}

# ----------------------------------------------------------------
# async
# ----------------------------------------------------------------

# Standbys stop receiving, the primary writes so much, says so, and dies.
sub lose_primary
{
	my ($primary, $name, $bytes) = @_;
	my ($other) = grep { $_ != $primary } $cluster->ids;
	my $epoch = epoch($primary);
	my @receivers = stop_receivers($primary);
	my $session = $cluster->session($primary);

	$session->say("INSERT INTO writes VALUES ('$name', 1)");
	ok($session->heard(qr/INSERT 0 1/, 30), "$name: in mode async a commit waits for no standby");
	$session->end;
	$cluster->query($primary, "SELECT pg_logical_emit_message(true, 'fill', repeat('x', $bytes))") if $bytes;
	my $lsn = $cluster->query($primary, 'SELECT pg_current_wal_flush_lsn()');
	$cluster->wait_until('the cluster knows how far the primary is',
		sub { ($cluster->ask($other, "SELECT recorded_lsn >= '$lsn' FROM pg_stat_pgraft_ha") // '') eq 't' });
	$cluster->kill_all($primary);
	$cluster->wait_sealed($epoch, grep { $_ != $primary } $cluster->ids);
	kill('CONT', @receivers);
	return $other;
}

sub async_within
{
	my $old = $cluster->wait_primary;

	set_on_all("pgraft.synchronous_mode = 'async'");
	wait_state(mode => 'async', k => 0);
	is($cluster->query($old, 'SHOW synchronous_standby_names'), '', 'no standby is waited for');
	lose_primary($old, 'within the bound', 0);
	my $new = $cluster->wait_primary(not => $old, seconds => 60);
	is($cluster->query($new, "SELECT count(*) FROM writes WHERE name = 'within the bound'"), 0, 'what no standby had is lost');
	my $loss = $cluster->query($new, 'SELECT possible_loss FROM pgraft_history ORDER BY epoch DESC LIMIT 1');
	ok($loss > 0 && $loss <= 1024 * 1024, "history tells how much, $loss bytes");
	$cluster->start_node($old);
	is($cluster->follows_or_rewound($old), 'rewind', 'the old primary must be rewound');
	return;
}

sub async_beyond
{
	my $old = $cluster->wait_primary;
	my $bytes = 3 * 1024 * 1024;

	wait_state(mode => 'async', k => 0);
	my $other = lose_primary($old, 'beyond the bound', $bytes);
	for my $id (grep { $_ != $old } $cluster->ids)
	{
		$cluster->wait_until("server $id reports",
			sub { ($cluster->ask($other, "SELECT reported FROM pgraft_ha_member_list() WHERE node_id = $id") // '') eq 't' });
	}
	is($cluster->query($other, 'SELECT pgraft_wait_applied(pgraft_get_applied_index() + 1000000, 5000)'), 'f',
		'for five election timeouts');
	is($cluster->query($other, 'SELECT phase FROM pg_stat_pgraft_ha'), 'sealing', 'nobody who lacks more is promoted');
	$cluster->start_node($old);
	is($cluster->wait_primary(seconds => 60), $old, 'but the old primary once it is back');
	is($cluster->query($old, "SELECT count(*) FROM writes WHERE name = 'beyond the bound'"), 1, 'with all that it had');
	is($cluster->query($old, 'SELECT possible_loss IS NULL FROM pgraft_history ORDER BY epoch DESC LIMIT 1'), 't',
		'and nothing is said to be lost');

	set_on_all("pgraft.synchronous_mode = 'quorum'");
	wait_state(mode => 'quorum', k => 2);
	return;
}

# A member that was removed is not waited for less than before.
sub removed_in_strict
{
	my $primary = $cluster->wait_primary;
	my ($gone, $other) = grep { $_ != $primary } $cluster->ids;

	set_on_all("pgraft.synchronous_mode = 'strict'");
	wait_state(mode => 'strict', k => 2);
	$cluster->node($gone)->stop('fast');
	$cluster->query($other, "SELECT pgraft_remove_node($gone)");
	$cluster->wait_until('the cluster has forgotten it',
		sub { ($cluster->ask($primary, 'SELECT count(*) FROM pgraft_ha_member_list()') // '') eq '2' });
	delete $cluster->{nodes}{$gone};
	my $session = $cluster->session($primary);
	$session->say("INSERT INTO writes VALUES ('strict, removed', 1)");
	$cluster->wait_until('a client waits',
		sub { $cluster->ask($primary, 'SELECT waiting_clients FROM pg_stat_pgraft_ha') eq '1' });
	is($cluster->query($other, 'SELECT pgraft_wait_applied(pgraft_get_applied_index() + 1000000, 3000)'), 'f',
		'for three election timeouts');
	ok(!$session->heard(qr/INSERT 0 1/, 0), 'in mode strict a commit waits though a member was removed');
	set_on_all('pgraft.synchronous_standbys = 1');
	ok($session->heard(qr/INSERT 0 1/, 30), 'until fewer are asked for');
	$session->end;
	wait_state(mode => 'strict', k => 1);
	return;
}
