# Copyright (c) 2026, pgraft contributors

# Scheduled switchovers: noted on any member, shown by all, begun by whoever leads
# when the time has come; replaced by a later call, cancelled by an operator and by
# any other change of the primary; not begun while paused, nor for a past time.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3);
my $scheduled = q{SELECT coalesce(scheduled_target::text, 'any') FROM pg_stat_pgraft_ha WHERE scheduled_at > now()};
$cluster->form;
wishes();
comes_true();
cancelled_by_others();
paused();
$cluster->node($_)->stop('immediate') for $cluster->running;
done_testing();

# What every server shows, '' = nothing is scheduled
sub wait_scheduled
{
	my ($wanted, $what) = @_;

	for my $id ($cluster->running)
	{
		$cluster->wait_until("server $id shows \"$wanted\" as scheduled", sub { ($cluster->ask($id, $scheduled) // '') eq $wanted });
	}
	pass($what);
	return;
}

sub wishes
{
	my $primary = $cluster->wait_primary;
	my ($target, $other) = grep { $_ != $primary } $cluster->ids;
	my @ctl = ('pgraftctl', 'switchover', '-d', $cluster->node($other)->connstr('postgres'));

	for my $time ("now() - interval '1 second'", "'-infinity'", "'infinity'")
	{
		my ($code, $out, $err) = $cluster->node($target)->psql('postgres',
			"\\set VERBOSITY sqlstate\nSELECT pgraft_switchover($target, $time)");
		like($err, qr/22023/, "not for $time");
	}
	is($cluster->query($other, "SELECT pgraft_switchover($target, at => now() + interval '1 hour') IS NULL"), 't',
		'one is scheduled, from a standby');
	wait_scheduled($target, 'all know it');
	$cluster->query($primary, "SELECT pgraft_switchover(at => now() + interval '2 hours')");
	wait_scheduled('any', 'a later call replaces it');
	is($cluster->query($other, 'SELECT pgraft_cancel_switchover()'), 't', 'it is cancelled');
	wait_scheduled('', 'all know that');
	is($cluster->query($other, 'SELECT pgraft_cancel_switchover()'), 'f', 'once');

	command_like([ @ctl, '--at', 'tomorrow', $target ], qr/Scheduled/, 'pgraftctl switchover --at');
	command_like([ 'pgraftctl', 'status', '-d', $cluster->node($primary)->connstr('postgres') ],
		qr/switchover to member $target is scheduled for 20\d\d-/, 'pgraftctl status shows it');
	command_fails_like([ @ctl, '--at', 'tomorrow', '--cancel' ], qr/cannot be used together/, 'not both');
	command_like([ @ctl, '--cancel' ], qr/Cancelled/, 'pgraftctl switchover --cancel');
	command_like([ @ctl, '--cancel' ], qr/Nothing to do/, 'nothing left to cancel');
	command_fails_like([ @ctl, '--at', 'yesterday' ], qr/for a time to come/, 'a time that has passed is refused');
	is($cluster->wait_primary, $primary, 'the primary is the same');
	return;
}

sub comes_true
{
	my $primary = $cluster->wait_primary;
	my ($target, $other) = grep { $_ != $primary } $cluster->ids;

	$cluster->wait_synchronous(3);
	$cluster->query($other, "SELECT pgraft_switchover($target, now() + interval '2 seconds')");
	is($cluster->wait_primary(not => $primary, seconds => 60), $target, 'when its time has come the target is promoted');
	is($cluster->query($target, 'SELECT reason FROM pgraft_history ORDER BY epoch DESC LIMIT 1'), 'switchover', 'by a switchover');
	wait_scheduled('', 'nothing is scheduled any more');
	$cluster->wait_streaming($primary);

	# without a target, to whoever has everything first
	$cluster->wait_synchronous(3);
	my $next = $cluster->query($other, 'SELECT pgraft_switchover()');
	isnt($next, $target, 'a switchover without a target takes another member');
	is($cluster->wait_primary, $next, 'which is the primary');
	$cluster->wait_streaming($_) for grep { $_ != $next } $cluster->ids;
	return;
}

sub cancelled_by_others
{
	my $primary = $cluster->wait_primary;
	my ($target, $other) = grep { $_ != $primary } $cluster->ids;

	$cluster->wait_synchronous(3);
	$cluster->query($other, "SELECT pgraft_switchover($other, now() + interval '1 hour')");
	wait_scheduled($other, 'one is scheduled');
	is($cluster->query($target, "SELECT pgraft_switchover($target)"), $target, 'another switchover happens before');
	wait_scheduled('', 'which cancels it');
	$cluster->wait_streaming($_) for grep { $_ != $target } $cluster->ids;
	$cluster->wait_synchronous(3);
	$cluster->query($other, "SELECT pgraft_switchover($other, now() + interval '1 hour')");
	$cluster->kill_all($target);
	$cluster->wait_primary(not => $target, seconds => 60);
	wait_scheduled('', 'a failover cancels it, too');
	$cluster->start_node($target);
	$cluster->follows_or_rewound($target);
	return;
}

sub paused
{
	my $primary = $cluster->wait_primary;
	my ($other) = grep { $_ != $primary } $cluster->ids;
	my $epoch = $cluster->query($primary, 'SELECT epoch FROM pg_stat_pgraft_ha');

	$cluster->query($other, 'SELECT pgraft_pause()');
	$cluster->query($other, "SELECT pgraft_switchover($other, now() + interval '1 second')");
	$cluster->wait_until('it is no longer scheduled',
		sub { ($cluster->ask($other, 'SELECT scheduled_at IS NULL FROM pg_stat_pgraft_ha') // '') eq 't' });
	is($cluster->query($other, 'SELECT epoch FROM pg_stat_pgraft_ha'), $epoch, 'while paused it is cancelled instead of begun');
	$cluster->query($other, 'SELECT pgraft_resume()');
	return;
}
