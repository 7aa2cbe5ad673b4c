# Copyright (c) 2026, pgraft contributors

# Replication slots: each member has one on every other server, so a standby that
# was away comes back without being cloned, even when the WAL that it lacks was
# written and checkpointed before another server was promoted; the slots of a
# member that is removed go with it; a half-open connection that holds a slot
# locks nobody out; and what a server that has too few slots says.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

# nothing but slots keeps WAL; a half-open connection would last for minutes
my $cluster = PgraftHa->new(nodes => 3, conf => <<'CONF');
wal_keep_size = 0
min_wal_size = 32MB
max_wal_size = 64MB
wal_sender_timeout = 10min
CONF
$cluster->form;
for my $id ($cluster->ids)
{
	$cluster->wait_until("server $id has a slot for each other",
		sub { slots($id) eq join(' ', map { "pgraft_node$_" } grep { $_ != $id } $cluster->ids) });
}
standbys_let_go();
comes_back();
comes_back_after_failover();
half_open();
removed();
too_few();
$cluster->node($_)->stop('immediate') for $cluster->running;
done_testing();

sub slots
{
	my ($id) = @_;

	return $cluster->ask($id, "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots
		WHERE slot_name LIKE 'pgraft\\_node%' AND restart_lsn IS NOT NULL") // '';
}

# More segments than any server keeps by itself.
sub write_segments
{
	my ($primary) = @_;

	for my $round (1 .. 8)
	{
		$cluster->query($primary, "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)) FROM generate_series(1, 3)");
		$cluster->query($primary, 'SELECT pg_switch_wal()');
	}
	$cluster->query($primary, 'CHECKPOINT');
	$cluster->query($primary, 'CHECKPOINT');
	return;
}

# The server's log since then says nothing of missing WAL or of a new copy.
sub came_back
{
	my ($id, $offset, $what) = @_;

	$cluster->wait_streaming($id);
	is($cluster->query($id, 'SELECT own_role FROM pg_stat_pgraft_ha'), 'standby', "$what: it follows");
	unlike(slurp_file($cluster->node($id)->logfile, $offset), qr/has already been removed/,
		"$what: all WAL that it lacked was there");
	return;
}

sub comes_back
{
	my $primary = $cluster->wait_primary;
	my ($away) = grep { $_ != $primary } $cluster->ids;

	# one that joined before its slot was there streams without it until now
	kill('TERM', $cluster->walreceiver($away));
	$cluster->wait_until('a standby streams with its slot',
		sub { ($cluster->ask($primary, "SELECT active FROM pg_replication_slots WHERE slot_name = 'pgraft_node$away'") // '') eq 't' });
	$cluster->node($away)->stop('fast');
	my $offset = -s $cluster->node($away)->logfile;
	write_segments($primary);
	$cluster->start_node($away);
	came_back($away, $offset, 'after an absence');
	return;
}

# Copies on standbys move with what the member confirms on the primary.
sub standbys_let_go
{
	my $primary = $cluster->wait_primary;
	my ($one, $other) = grep { $_ != $primary } $cluster->ids;
	my $lsn = $cluster->query($primary, 'SELECT pg_current_wal_lsn()');

	write_segments($primary);
	for my $pair ([ $one, $other ], [ $other, $one ], [ $one, $primary ])
	{
		my ($on, $of) = @$pair;

		$cluster->wait_until("server $on lets go of what server $of has",
			sub { ($cluster->ask($on, "SELECT restart_lsn > '$lsn' AND restart_lsn <= pg_last_wal_replay_lsn()
				FROM pg_replication_slots WHERE slot_name = 'pgraft_node$of'") // '') eq 't' });
	}
	pass('slots of standbys move');
	return;
}

# Two of three must agree, so the one that was away takes part in the choice.
sub comes_back_after_failover
{
	my $old = $cluster->wait_primary;
	my ($away, $other) = grep { $_ != $old } $cluster->ids;

	$cluster->node($away)->stop('fast');
	my $offset = -s $cluster->node($away)->logfile;
	write_segments($old);
	$cluster->query($old, "INSERT INTO writes VALUES ('with the other alone', 1)");
	my $lsn = $cluster->query($old, 'SELECT pg_current_wal_lsn()');
	$cluster->wait_until("server $other has replayed", sub { ($cluster->ask($other, "SELECT pg_last_wal_replay_lsn() >= '$lsn'") // '') eq 't' });
	$cluster->query($other, 'CHECKPOINT');
	$cluster->kill_all($old);
	$cluster->start_node($away);
	is($cluster->wait_primary(not => $old, seconds => 60), $other, 'the server with the newest WAL is promoted');
	came_back($away, $offset, 'after an absence and a failover');
	$cluster->start_node($old);
	$cluster->follows_or_rewound($old);
	return;
}

# A client that looks like the standby holds its slot, and is silent.
sub half_open
{
	my $primary = $cluster->wait_primary;
	my ($id) = grep { $_ != $primary } $cluster->ids;
	my $slot = "FROM pg_replication_slots WHERE slot_name = 'pgraft_node$id'";

	$cluster->wait_streaming($id);
	$cluster->node($id)->stop('fast');
	my $holder = IPC::Run::start([
		'pg_receivewal', '-D', PostgreSQL::Test::Utils::tempdir(), '--slot', "pgraft_node$id", '-n', '-d',
		$cluster->node($primary)->connstr . " application_name=node$id" ], '>&', \my $output);
	my $held = $cluster->wait_until('the slot is held', sub { $cluster->ask($primary, "SELECT active_pid $slot") });
	kill('STOP', $_->{PID}) for @{ $holder->{KIDS} };
	$cluster->start_node($id);
	$cluster->wait_streaming($id);
	$cluster->wait_until('the older connection is ended',
		sub { $cluster->ask($primary, "SELECT count(*) FROM pg_stat_replication WHERE pid = $held") eq '0' });
	$holder->kill_kill(grace => 0);
	my $lsn = $cluster->query($primary, 'SELECT pg_current_wal_lsn()');
	write_segments($primary);
	$cluster->wait_until('the slot moves on', sub { ($cluster->ask($primary, "SELECT restart_lsn > '$lsn' $slot") // '') eq 't' });
	pass('a half-open connection locks nobody out');
	return;
}

sub removed
{
	my $primary = $cluster->wait_primary;
	my ($gone, @others) = grep { $_ != $primary } $cluster->ids;

	my $offset = -s $cluster->node($primary)->logfile;

	$cluster->node($gone)->stop('fast');
	$cluster->query($primary, "SELECT pgraft_remove_node($gone)");
	for my $id ($primary, @others)
	{
		$cluster->wait_until("server $id drops the slot of the member that was removed",
			sub { slots($id) !~ /node$gone\b/ });
		like(slots($id), qr/pgraft_node/, 'and no other');
	}

	# else a failover would need the report of one that can never report again
	$cluster->wait_until('it leaves the sync set',
		sub { slurp_file($cluster->node($primary)->logfile, $offset) =~ /commits will wait for 1 of 1 standbys/ });
	delete $cluster->{nodes}{$gone};
	return;
}

sub too_few
{
	my $primary = $cluster->wait_primary;
	my ($id) = grep { $_ != $primary } $cluster->ids;
	my $node = $cluster->node($id);

	$node->stop('fast');
	unlink(glob($node->data_dir . '/pg_replslot/*/state'));
	rmdir($_) for glob($node->data_dir . '/pg_replslot/*');
	$node->append_conf('postgresql.conf', 'max_replication_slots = 0');
	my $offset = -s $node->logfile;
	$cluster->start_node($id);
	$cluster->wait_streaming($id);
	$cluster->wait_until('what is missing is said',
		sub { slurp_file($node->logfile, $offset) =~ /could not keep WAL for a member.*\n.*Raise "max_replication_slots"/ });
	is($cluster->query($id, "SELECT status FROM pgraft_health WHERE check_name = 'replication slots'"), 'warning',
		'pgraft_health tells');
	my @told = slurp_file($node->logfile, $offset) =~ /could not keep WAL for a member/g;
	is(scalar @told, 1, 'once');
	return;
}
