# Copyright (c) 2026, pgraft contributors

# All servers lose power at once in the middle of a failover or of a switchover,
# at one step after the other, while clients insert rows.  Started again, they find
# a primary, follow it, and miss no acknowledged row.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
my @writers = map { $cluster->start_sql_writer("w$_") } 1 .. 2;

# step at which all are held up => phase of the document meanwhile
my @failover = (
	[ report => 'sealing' ],
	[ promote => 'assigned' ],
	[ promoted => 'assigned' ],
	[ follow => 'steady' ],
	[ checkpoint => 'steady' ]);
failover(@$_) for @failover;
switchover(@$_) for [ drained => 'draining' ], [ report => 'sealing' ], [ promoted => 'assigned' ];

# twice, without knowing at which step: as soon as a newer epoch begins, and once
# the servers have begun to answer again
for my $round (1 .. 2)
{
	my $old = $cluster->wait_primary;
	my ($other) = grep { $_ != $old } $cluster->ids;
	my $epoch = $cluster->query($old, 'SELECT epoch FROM pg_stat_pgraft_ha');

	$cluster->kill_all($old);
	$cluster->wait_phase($other, $epoch, qw(sealing assigned steady)) if $round == 1;
	lose_power("at an unknown step, $round") for 1 .. $round;
}
$cluster->settle('in the end', map { $_->stop } @writers);
done_testing();

# The primary dies alone; the others follow it into the dark at that step.
sub failover
{
	my ($step, $phase) = @_;
	my $old = $cluster->wait_primary;
	my @standbys = grep { $_ != $old } $cluster->ids;
	my $epoch = $cluster->query($old, 'SELECT epoch FROM pg_stat_pgraft_ha');

	$cluster->pause_at($_, $step) for @standbys;
	$cluster->kill_all($old);
	my $paused = $cluster->wait_paused($step, @standbys);
	$cluster->wait_phase($paused, $epoch, $phase);
	lose_power("failover, before \"$step\"");
	return;
}

# All are held up at a step of a switchover.
sub switchover
{
	my ($step, $phase) = @_;
	my $old = $cluster->wait_primary;
	my ($target) = grep { $_ != $old } $cluster->ids;
	my $epoch = $cluster->query($old, 'SELECT epoch FROM pg_stat_pgraft_ha');
	my $session = $cluster->session($target);

	$cluster->pause_at($_, $step) for $cluster->ids;
	$session->say("SELECT pgraft_switchover($target)");
	$cluster->wait_paused($step, $cluster->ids);
	$cluster->wait_phase($target, $phase eq 'draining' ? $epoch - 1 : $epoch, $phase);
	$session->end;
	lose_power("switchover, before \"$step\"");
	return;
}

sub lose_power
{
	my ($what) = @_;

	$cluster->kill_all($_) for $cluster->running;
	$cluster->pause_at($_) for $cluster->ids;
	$cluster->start_node($_) for $cluster->ids;
	my $primary = $cluster->wait_primary;
	pass("$what: there is a primary again");
	$cluster->settle($what);
	$cluster->wait_writes($writers[0], 20);
	$cluster->check_rows($what, map { $_->record } @writers);
	return;
}
