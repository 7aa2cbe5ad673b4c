# Copyright (c) 2026, pgraft contributors

# Two data members and a witness that lose one after the other: the primary goes on
# alone, dies for good, and an operator makes the lost standby the primary, after
# having been told what that costs.  Then clients that go away while their commit
# waits for standbys: what they were not told is there or not, and never half.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

my $common = "wal_keep_size = 256MB\nmax_prepared_transactions = 10\n";
my $cluster = PgraftHa->new(nodes => 2, name => 'two', conf => $common);
$cluster->form;
my $witness = $cluster->add_witness(3);
data_loss();
$cluster->node($_)->stop('immediate') for $cluster->running;
$witness->stop('immediate');

$cluster = PgraftHa->new(nodes => 3, name => 'three', conf => $common);
$cluster->form;
clients_go_away();
done_testing();

sub data_loss
{
	my $primary = $cluster->wait_primary;
	my ($standby) = grep { $_ != $primary } $cluster->ids;
	my @at = ('-h', $cluster->node($standby)->host, '-p', $cluster->node($standby)->port);

	$cluster->kill_all($standby);
	$cluster->query($primary, "INSERT INTO writes VALUES ('alone', 1)");
	$cluster->wait_until('the change of the sync set is complete',
		sub { $cluster->ask($primary, "SELECT sync_members = ARRAY[$primary] AND cardinality(coalesce(next_sync_members, '{}')) = 0 FROM pg_stat_pgraft_ha") eq 't' });
	$cluster->query($primary, "INSERT INTO writes VALUES ('alone again', 1)");
	$cluster->kill_all($primary);
	$cluster->start_node($standby);
	$cluster->wait_until('the standby has reported and waits',
		sub { ($cluster->ask($standby, "SELECT phase = 'sealing' AND (SELECT reported FROM pgraft_ha_member_list() WHERE node_id = $standby) FROM pg_stat_pgraft_ha") // '') eq 't' });
	my ($ok, undef, $error) = $cluster->try_query($standby, "SELECT pgraft_failover($standby)");
	ok(!$ok, 'a standby that lacks commits is not made the primary by its name alone');
	like($error, qr/22023.*allow_data_loss/s, 'the hint names what would do it');

	command_fails_like([ 'pgraftctl', 'failover', @at, $standby, '--allow-data-loss' ],
		qr{member $standby has WAL up to [0-9A-F]+/[0-9A-F]+; the last primary had WAL up to .*have not reported: $primary.*lost for good.*Give --yes}s,
		'pgraftctl says that data is lost, and asks');
	is($cluster->query($standby, 'SELECT pg_is_in_recovery()'), 't', 'without an answer nothing happens');
	command_ok([ 'pgraftctl', 'failover', '--yes', @at, $standby, '--allow-data-loss' ], 'with one, it does');
	is($cluster->wait_primary, $standby, 'the lost standby is the primary');
	is($cluster->query($standby, "SELECT count(*) FROM writes WHERE name ~ 'alone'"), 0, 'without what only the other had');
	$cluster->query($standby, "INSERT INTO writes VALUES ('forced', 1)");
	like($cluster->query($standby, 'SELECT reason FROM pgraft_history ORDER BY epoch DESC LIMIT 1'), qr/operator/, 'the history says who wanted it');

	$cluster->start_node($primary);
	isnt($cluster->follows_or_rewound($primary), 'standby', 'the old primary must be made to fit');
	$cluster->settle('after a forced failover');
	is($cluster->query($_, "SELECT string_agg(name, ' ') FROM writes"), 'forced', "server $_ has what the cluster has") for $cluster->ids;
	return;
}

# No standby confirms; one client's process dies, another's connection breaks in the
# middle of COMMIT PREPARED, a third is ended by its server.  Then the primary dies.
sub clients_go_away
{
	my $old = $cluster->wait_primary;
	my @others = grep { $_ != $old } $cluster->ids;
	my $epoch = $cluster->query($old, 'SELECT epoch FROM pg_stat_pgraft_ha');
	my %session = map { $_ => $cluster->session($old) } qw(killed prepared rolled);

	for my $name (qw(prepared rolled))
	{
		$session{$name}->say("BEGIN; INSERT INTO writes VALUES ('$name', 1); PREPARE TRANSACTION '$name'");
		ok($session{$name}->heard(qr/^PREPARE TRANSACTION/m, 20), "$name: prepared while standbys confirm");
	}
	my @receivers = map { $cluster->walreceiver($_) } @others;
	kill('STOP', @receivers) == 2 or die 'could not stop the walreceivers';
	$session{killed}->say("INSERT INTO writes VALUES ('killed', 1)");
	$session{prepared}->say("COMMIT PREPARED 'prepared'");
	$session{rolled}->say("ROLLBACK PREPARED 'rolled'");
	my $pids = join(',', map { $_->{pid} } values %session);
	$cluster->wait_until('all wait for standbys',
		sub { $cluster->ask($old, "SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pids) AND wait_event = 'SyncRep'") == 3 });
	for my $name (sort keys %session)
	{
		unlike($session{$name}{out}, qr/^(INSERT|COMMIT|ROLLBACK)/m, "$name: nothing is acknowledged");
		$session{$name}->end;
	}
	is($cluster->query($old, 'SELECT pgraft_is_primary()'), 't', 'clients that go away change nothing for the primary');

	$cluster->kill_all($old);
	$cluster->wait_sealed($epoch, @others);
	kill('CONT', @receivers);
	my $new = $cluster->wait_primary(not => $old);
	for my $name (qw(prepared rolled))
	{
		is($cluster->query($new, "SELECT (SELECT count(*) FROM pg_prepared_xacts WHERE gid = '$name') + (SELECT count(*) FROM writes WHERE name = '$name')"),
			1, "$name: still prepared or done, neither lost nor both");
	}
	is($cluster->query($new, "SELECT count(*) FROM writes WHERE name = 'rolled'"), 0, 'what was to be rolled back is not committed');

	# their clients ask again
	$cluster->try_query($new, "COMMIT PREPARED 'prepared'");
	$cluster->try_query($new, "ROLLBACK PREPARED 'rolled'");
	$cluster->start_node($old);
	$cluster->settle('after clients went away');
	for my $id ($cluster->ids)
	{
		$cluster->wait_until("server $id has the outcome", sub { ($cluster->ask($id, "SELECT count(*) FROM writes WHERE name = 'prepared'") // 0) == 1 });
		is($cluster->query($id, "SELECT count(*) FROM pg_prepared_xacts"), 0, "server $id: nothing stays prepared");
	}
	return;
}
