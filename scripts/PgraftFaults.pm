# PgraftFaults.pm
#
# The faults of the torture test.  Each does its harm at once and puts what ends
# it on $lab->{undo}; what is left is put right by PgraftTorture::settle.

package PgraftFaults;

use strict;
use warnings FATAL => 'all';

use File::Path qw(remove_tree);
use Time::HiRes qw(time usleep);

# Name, what it is, how likely, who does it.  'network' needs PgraftNamespaces;
# 'alone' is never the second fault.
my @faults = (
	[ 'kill', 'kill -9 of a postmaster', 4, \&kill_postmaster ],
	[ 'power', 'kill -9 of all processes of a server at once', 4, \&power_off ],
	[ 'freeze', 'SIGSTOP of all processes of a server for up to 4 s', 4, \&freeze ],
	[ 'worker', 'SIGSTOP of the consensus worker alone for up to 4 s', 2, \&freeze_worker ],
	[ 'crash', 'kill -9 of a backend, after which PostgreSQL reinitialises', 3, \&crash_backend ],
	[ 'fast', 'fast shutdown', 2, sub { return shut_down(@_, 'fast'); } ],
	[ 'immediate', 'immediate shutdown', 2, sub { return shut_down(@_, 'immediate'); } ],
	[ 'cut', 'a server is cut off from members and clients', 4, \&cut_from_all, 'network' ],
	[ 'split', 'a server is cut off from the other members, clients reach all', 4, \&cut_from_members, 'network' ],
	[ 'oneway', 'a server hears no other member, or is heard by none', 3, \&cut_one_way, 'network' ],
	[ 'switchover', 'switchover to another server', 4, \&switchover ],
	[ 'promote', 'pg_ctl promote of a standby by hand', 2, \&promote_by_hand ],
	[ 'cancel', 'pg_cancel_backend of all that wait for standbys, then the primary may lose power', 3,
		sub { return cancel_waits(@_, 'pg_cancel_backend'); } ],
	[ 'terminate', 'the same with pg_terminate_backend', 2, sub { return cancel_waits(@_, 'pg_terminate_backend'); } ],
	[ 'client', 'kill -9 of a client, another takes its place', 1, \&kill_client ],
	[ 'paused', 'the primary dies while the cluster is paused', 1, \&die_while_paused, 'alone' ],
	[ 'anew', 'a standby is removed, loses its data and joins anew', 1, \&lose_data, 'alone' ],
	[ 'blackout', 'all servers lose power during a failover', 2, \&blackout, 'alone' ],
	[ 'syncset', 'pgraft.synchronous_standbys changes, and another fault comes', 2, \&change_standbys, 'alone' ],
);

# [name, what it is] of all
sub list { return map { [ $_->[0], $_->[1] ] } @faults; }

# Does one of those that are allowed; gives [name, to whom].
sub inflict
{
	my ($lab) = @_;
	my @only = @{ $lab->{only} };

	return one_of($lab, grep { my $name = $_->[0]; !@only || grep { $_ eq $name } @only } @faults);
}

sub inflict_another
{
	my ($lab) = @_;
	my @only = @{ $lab->{only} };
	my @fitting = grep { ($_->[4] // '') ne 'alone' } @faults;
	my @wanted = grep { my $name = $_->[0]; grep { $_ eq $name } @only } @fitting;

	return one_of($lab, @wanted ? @wanted : @fitting);
}

sub one_of
{
	my ($lab, @choice) = @_;

	@choice = grep { $lab->{network} || ($_->[4] // '') ne 'network' } @choice or die "none of these faults is possible here\n";
	my $total = 0;
	$total += $_->[2] for @choice;
	my $drawn = rand($total);
	for my $fault (@choice)
	{
		$drawn -= $fault->[2];
		next if $drawn >= 0;
		my $whom = $fault->[3]->($lab);
		$lab->{times}{ $fault->[0] }++;
		return [ $fault->[0], $whom ];
	}
	die 'not reached';
}

# the primary as of the last time that all was well, or now and then another
sub victim
{
	my ($lab) = @_;
	my @others = grep { $_ != $lab->{primary} } $lab->ids;

	return rand() < 0.7 ? $lab->{primary} : $others[ rand @others ];
}

sub standby
{
	my ($lab) = @_;
	my @others = grep { $_ != $lab->{primary} } $lab->ids;

	return $others[ rand @others ];
}

sub on
{
	my ($lab, $id) = @_;
	return ($id == $lab->{primary} ? 'primary ' : 'standby ') . $id;
}

# ----------------------------------------------------------------
# Processes
# ----------------------------------------------------------------

sub kill_postmaster
{
	my ($lab) = @_;
	my $id = victim($lab);
	my $pid = $lab->up($id);

	kill('KILL', $pid) if $pid;
	return on($lab, $id);
}

sub power_off
{
	my ($lab) = @_;
	my $id = victim($lab);

	$lab->kill_all($id) if $lab->up($id);
	return on($lab, $id);
}

sub freeze
{
	my ($lab) = @_;
	my $id = victim($lab);

	stop_processes($lab, $lab->processes($id)) if $lab->up($id);
	# those that it had just started
	stop_processes($lab, $lab->processes($id)) if $lab->up($id);
	return on($lab, $id) . thaw_later($lab);
}

sub freeze_worker
{
	my ($lab) = @_;
	my $id = victim($lab);
	my $pid = $lab->up($id) ? $lab->worker_pid($id) : undef;

	stop_processes($lab, $pid) if $pid;
	return on($lab, $id) . thaw_later($lab);
}

sub stop_processes
{
	my ($lab, @pids) = @_;

	kill('STOP', @pids);
	$lab->{stopped}{$_} = 1 for @pids;
	return;
}

sub thaw_later
{
	my ($lab) = @_;
	my $more = rand() < 0.5 ? rand(2) : 0;

	push @{ $lab->{undo} }, sub { usleep(1e6 * $more); $lab->thaw_everything; };
	return sprintf(' (+%.1f s)', $more);
}

sub crash_backend
{
	my ($lab) = @_;
	my $id = victim($lab);
	my $pid = $lab->up($id) ? $lab->ask($id,
		"SELECT pid FROM pg_stat_activity WHERE usename = 'client' OR backend_type IN ('walsender', 'startup') ORDER BY random() LIMIT 1") : undef;

	kill('KILL', $pid) if $pid;
	return on($lab, $id);
}

sub shut_down
{
	my ($lab, $mode) = @_;
	my $id = victim($lab);
	my $pid = $lab->up($id) or return on($lab, $id);

	kill($mode eq 'fast' ? 'INT' : 'QUIT', $pid);
	$lab->server($id)->{ending} = $pid;
	return on($lab, $id);
}

sub kill_client
{
	my ($lab) = @_;
	my @choice = grep { $_->{kind} eq 'set' } @{ $lab->{clients} };
	my $client = $choice[ rand @choice ];

	return 'that is gone' if !defined $client->{pid};
	$client->end('KILL');
	$lab->start_client('set', "$client->{prefix}x");
	return $client->{prefix};
}

# ----------------------------------------------------------------
# Network
# ----------------------------------------------------------------

sub cut_from_all
{
	my ($lab) = @_;
	my $id = victim($lab);

	$lab->cut($id);
	push @{ $lab->{undo} }, sub { $lab->heal; };
	return on($lab, $id);
}

sub cut_from_members
{
	my ($lab) = @_;
	my $id = victim($lab);

	$lab->cut($id, grep { $_ != $id } $lab->ids);
	push @{ $lab->{undo} }, sub { $lab->heal; };
	return on($lab, $id);
}

sub cut_one_way
{
	my ($lab) = @_;
	my $id = victim($lab);
	my @others = grep { $_ != $id } $lab->ids;
	my $deaf = rand() < 0.5;

	if ($deaf)
	{
		$lab->cut_one_way($id, @others);
	}
	else
	{
		$lab->cut_one_way($_, $id) for @others;
	}
	push @{ $lab->{undo} }, sub { $lab->heal; };
	return on($lab, $id) . ($deaf ? ' is deaf' : ' is mute');
}

# ----------------------------------------------------------------
# People
# ----------------------------------------------------------------

sub switchover
{
	my ($lab) = @_;
	my $target = standby($lab);
	my @ids = $lab->ids;

	$lab->ask_aside($ids[ rand @ids ], "SELECT pgraft_switchover($target)");
	return "to $target";
}

sub promote_by_hand
{
	my ($lab) = @_;
	my $id = standby($lab);

	eval { $lab->run($lab->at($id), "$lab->{bindir}/pg_ctl", '-D', $lab->server($id)->{data}, '-W', 'promote') } if $lab->up($id);
	return $id;
}

# Standbys receive nothing, sessions wait for them; the waits are ended from outside.
# A client that is told COMMIT all the same has been told wrong when the primary then
# dies.  Clients that read are spared: PostgreSQL shows others what a cancelled wait
# committed, which no answer has promised to anybody.
sub cancel_waits
{
	my ($lab, $how) = @_;
	my $primary = $lab->{primary};
	my @receivers = grep { $_ } map { $lab->ask($_, 'SELECT pid FROM pg_stat_wal_receiver') } grep { $_ != $primary } $lab->ids;
	my $ended = 0;
	my $end = time() + 0.3 + rand(0.7);

	stop_processes($lab, @receivers);
	while (time() < $end)
	{
		$ended += $lab->ask($primary, "SELECT count($how(pid)) FROM pg_stat_activity
			WHERE wait_event = 'SyncRep' AND application_name IN ('set', 'two-phase')") // 0;
	}
	my $dies = rand() < 0.6;
	$lab->kill_all($primary) if $dies && $lab->up($primary);
	push @{ $lab->{undo} }, sub { $lab->thaw_everything; };
	return "$ended waits" . ($dies ? ", then power off of primary $primary" : '');
}

sub die_while_paused
{
	my ($lab) = @_;
	my $primary = $lab->{primary};

	$lab->ask($primary, 'SELECT pgraft_pause()');
	kill('KILL', $lab->up($primary)) if $lab->up($primary);
	push @{ $lab->{undo} }, sub {
		my ($other) = grep { $_ != $primary } $lab->ids;
		$lab->wait_until('the cluster is resumed', sub { defined $lab->ask($other, 'SELECT pgraft_resume()') });
	};
	return "primary $primary";
}

sub lose_data
{
	my ($lab) = @_;
	my $id = standby($lab);
	my $server = $lab->server($id);

	$lab->wait_until(
		"server $id is removed",
		sub {
			my $primary = $lab->primary;
			$lab->ask($primary, "SELECT pgraft_remove_node($id)");
			return ($lab->ask($primary, "SELECT count(*) FROM pgraft_get_nodes() WHERE node_id = $id") // 1) == 0;
		});
	$lab->kill_all($id) if $lab->up($id);
	remove_tree($server->{data}, "$server->{data}.pgraft", { safe => 0 });
	$lab->{absent}{$id} = delete $lab->{servers}{$id};
	return $id;
}

sub blackout
{
	my ($lab) = @_;

	$lab->kill_all($lab->{primary});
	usleep(rand(1_500_000));
	$lab->kill_all($_) for grep { $lab->up($_) } $lab->ids;
	return 'of all';
}

# The other fault comes at a random moment of the change.
sub change_standbys
{
	my ($lab) = @_;
	my $n = $lab->ids - 1;

	$lab->set_standbys($_, $n) for $lab->ids;
	$lab->{standbys_changed} = 1;
	$lab->{wants_another} = 1;
	return "to $n";
}

1;
