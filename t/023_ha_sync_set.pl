# Copyright (c) 2026, pgraft contributors

# Who must have a commit: the setting is in force on every member before it is
# promoted; with two data members and a witness the primary goes on alone when
# its standby is lost, after a committed change, and the lost one is not promoted
# until it has caught up.  Without it (pgraft.developer_disable = 'sync') an
# acknowledged row is lost.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $common = "wal_keep_size = 256MB\npgraft.election_timeout = 1s\n";
my $cluster = PgraftHa->new(nodes => 2, name => 'two', conf => $common);
$cluster->form;

my $witness = $cluster->add_witness(3);
two_members();
$cluster->node($_)->stop('immediate') for $cluster->running;
$witness->stop('immediate');

$cluster = PgraftHa->new(nodes => 3, name => 'three', conf => $common);
$cluster->form;
for my $id ($cluster->ids)
{
	my @others = grep { $_ != $id } $cluster->ids;
	my $names = $cluster->query($id, 'SHOW synchronous_standby_names');

	like($names, qr/^ANY 1 \(.*node$others[0]\b.*node$others[1]\b/, "server $id would wait for one of the others");
	unlike($names, qr/node$id\b/, 'not for itself');
}
lost_row(0);
$cluster->node($_)->stop('fast') for reverse $cluster->ids;
for my $id ($cluster->ids)
{
	$cluster->node($id)->append_conf('postgresql.conf', "pgraft.developer_disable = 'sync'\n");
	unlink($cluster->node($id)->data_dir . '/pgraft.auto.conf');
}
$cluster->start_node($_) for $cluster->ids;
$cluster->follows_or_rewound($_) for grep { $_ != $cluster->wait_primary } $cluster->ids;
lost_row(1);
$cluster->node($_)->stop('immediate') for $cluster->running;
done_testing();

# ----------------------------------------------------------------
# two data members
# ----------------------------------------------------------------

sub two_members
{
	my $primary = $cluster->wait_primary;
	my ($standby) = grep { $_ != $primary } $cluster->ids;

	is($cluster->query($standby, 'SHOW synchronous_standby_names'), $cluster->query($standby, "SELECT 'ANY 1 (\"node$primary\")'"),
		'the standby would wait for the primary');
	$cluster->kill9($standby);
	my $since = time();
	$cluster->query($primary, "INSERT INTO writes VALUES ('alone', 1)");
	note(sprintf 'alone, the primary goes on after %.0f ms', 1000 * (time() - $since));

	# both sets count until every process has the next one
	like($cluster->query($primary, q{SELECT sync_members, coalesce(next_sync_members, '{}') FROM pg_stat_pgraft_ha}), qr/\{$primary\}/,
		'a commit without the standby waited for a change of the sync set');
	is($cluster->query($primary, 'SHOW synchronous_standby_names'), '', 'that is in force');
	is($cluster->query($primary, 'SELECT pgraft_is_primary()'), 't', 'in the same epoch of the same primary');

	$cluster->kill_all($primary);
	$cluster->start_node($standby);
	$cluster->wait_until('the cluster has a leader and a newer epoch',
		sub { ($cluster->ask($standby, "SELECT epoch > 1 AND phase = 'sealing' AND pgraft_get_leader() IS NOT NULL FROM pg_stat_pgraft_ha") // '') eq 't' }, 20);
	is($cluster->query($standby, 'SELECT pgraft_wait_applied(pgraft_get_applied_index() + 1000000, 3000)'), 'f', 'for three seconds');
	is($cluster->query($standby, "SELECT pg_is_in_recovery() AND phase = 'sealing' FROM pg_stat_pgraft_ha"), 't',
		'the standby that lacks a commit is not promoted');
	is($cluster->query($standby, "SELECT count(*) FROM writes WHERE name = 'alone'"), 0, 'it does lack it');

	$cluster->start_node($primary);
	is($cluster->wait_primary(seconds => 20), $primary, 'the server that has everything is the primary again');
	is($cluster->query($primary, "SELECT count(*) FROM writes WHERE name = 'alone'"), 1, 'with that commit');
	$cluster->follows_or_rewound($standby);
	$cluster->wait_synchronous(2);
	$cluster->wait_until('the change of the set is complete',
		sub { $cluster->ask($primary, 'SELECT next_sync_members IS NULL OR cardinality(next_sync_members) = 0 FROM pg_stat_pgraft_ha') eq 't' });
	$cluster->kill_all($primary);
	is($cluster->wait_primary(not => $primary, seconds => 20), $standby, 'once it has caught up, the standby is promoted');
	is($cluster->query($standby, "SELECT count(*) FROM writes WHERE name = 'alone'"), 1, 'and has that commit');
	return;
}

# ----------------------------------------------------------------
# three data members
# ----------------------------------------------------------------

# No standby receives; a row is inserted; the primary dies.
sub lost_row
{
	my ($disabled) = @_;
	my $old = $cluster->wait_primary;
	my $epoch = $cluster->query($old, 'SELECT epoch FROM pg_stat_pgraft_ha');
	my @others = grep { $_ != $old } $cluster->ids;
	my @receivers = map { $cluster->walreceiver($_) } @others;
	my $session = $cluster->session($old);

	kill('STOP', @receivers) == 2 or die 'could not stop the walreceivers';
	$session->say("INSERT INTO writes VALUES ('lost $disabled', 1)");
	my $acknowledged = $session->heard(qr/^INSERT 0 1/m, $disabled ? 10 : 2);
	is($acknowledged, $disabled, $disabled ? 'without sync, a row is acknowledged that no standby has' :
		'a row is not acknowledged before a standby has it');
	$cluster->kill_all($old);
	$session->end;

	# what lies in their sockets belongs to an epoch that is over
	$cluster->wait_sealed($epoch, @others);
	kill('CONT', @receivers);
	my $new = $cluster->wait_primary(not => $old, seconds => 20);
	is($cluster->query($new, "SELECT count(*) FROM writes WHERE name = 'lost $disabled'"), 0,
		$disabled ? 'and it is lost' : 'which none has');
	$cluster->start_node($old);
	$cluster->follows_or_rewound($old) if !$disabled;
	return;
}
