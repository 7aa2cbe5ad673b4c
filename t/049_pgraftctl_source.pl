# Copyright (c) 2026, pgraft contributors

# Whom pgraftctl copies: never a server that was deposed and does not know it.
# Such a one is out of recovery, takes connections and is the first in every list;
# rejoin and join pass it over, and a copy whose source is deposed while it is
# being made is thrown away.  But where nobody has a lease because those are away
# that are to be copied, the primary of the newest epoch will do.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# with the deposed server and the one that is copied away there is still a majority
my $cluster = PgraftHa->new(
	nodes => 5,
	conf => "wal_keep_size = 512MB\nmax_wal_senders = 16\nmax_replication_slots = 16\npgraft.synchronous_standbys = 2\n");
$cluster->form;
my $primary = $cluster->wait_primary;
$cluster->query($primary, "
	CREATE ROLE pgraft_replication NOLOGIN;
	GRANT pgraft_monitor TO pgraft_replication;
	INSERT INTO writes VALUES ('first', 1)");

rejoin_of_deposed();
join_of_deposed();
deposed_meanwhile();
without_lease();
done_testing();

# Member 1, the first in every list, is the primary and hears of the cluster no
# more; another one is the primary and has a row.  Returns which.
sub depose
{
	my ($row) = @_;

	cut_off();
	my $new = $cluster->wait_primary(not => 1);
	$cluster->query($new, "INSERT INTO writes VALUES ('$row', 1)");
	is($cluster->query(1, 'SELECT pg_is_in_recovery(), pgraft_is_primary()'), 'f|f', "$row: the deposed primary is out of recovery, and fenced");
	return $new;
}

sub cut_off
{
	my $worker = $cluster->worker_pid(1);

	kill('STOP', $worker) == 1 or die "could not stop process $worker: $!";
	$cluster->{frozen}{1} = [$worker];
	return;
}

# Server 1 is the primary again, and all follow.
sub restore
{
	my ($what) = @_;

	$cluster->thaw(1) if $cluster->{frozen}{1};
	$cluster->settle($what);
	first_is_primary();
	return;
}

sub first_is_primary
{
	$cluster->wait_until('server 1 is the primary',
		sub {
			my $now = $cluster->wait_primary;
			return 1 if $now == 1;
			$cluster->ask($now, 'SELECT pgraft_switchover(1)');
			return 0;
		});
	$cluster->wait_synchronous(scalar $cluster->ids);
	return;
}

sub timeline_of
{
	my ($directory) = @_;

	IPC::Run::run([ 'pg_controldata', $directory ], '>', \my $out);
	return $out =~ /Latest checkpoint's TimeLineID: +(\d+)/ ? $1 : 0;
}

# Its configuration, which a clone replaces, is put back.
sub rejoined
{
	my ($id, $run) = @_;
	my $conf = $cluster->node($id)->data_dir . '/postgresql.conf';
	my $settings = slurp_file($conf);

	$run->();
	unlink($conf);
	append_to_file($conf, $settings);
	return;
}

sub rejoin_of_deposed
{
	first_is_primary();
	my $new = depose('rejoin');
	my ($id) = grep { $_ != 1 && $_ != $new } $cluster->ids;
	my $data = $cluster->node($id)->data_dir;

	$cluster->node($id)->stop('fast');
	like(slurp_file("$data.pgraft/hosts"), qr/port=@{[ $cluster->node(1)->port ]},/, 'the deposed server is the first in the list');
	rejoined($id,
		sub {
			my ($out, $said) = ('', '');
			IPC::Run::run([ 'pgraftctl', 'rejoin', '--yes', '--no-start', '-D', $data ], '>', \$out, '2>', \$said);
			is($?, 0, 'rejoin') or diag($said);
			like($out, qr/^Cloning/m, 'by a clone');
			is(timeline_of($data), $cluster->query($new, 'SELECT timeline FROM pg_stat_pgraft_ha'), 'it cloned the primary, not the deposed one');
		});
	$cluster->start_node($id);
	$cluster->wait_streaming($id);
	restore('rejoin');
	is($cluster->query($id, "SELECT count(*) FROM writes WHERE name = 'rejoin'"), 1, 'it has what was acknowledged');
	return;
}

# a new member, told both
sub join_of_deposed
{
	my $new = depose('join');
	my $node = PostgreSQL::Test::Cluster->new('joined');
	my $both = 'host=' . $cluster->node(1)->host . ' port=' . join(',', map { $cluster->node($_)->port } 1, $new);
	my @command = ('pgraftctl', 'join', '-D', $node->data_dir, '--node-id', 6, '--address', '127.0.0.1',
		'--port', PostgreSQL::Test::Cluster::get_free_port(), '--pg-port', $node->port,
		'--socket-directory', $node->host, '--from');

	my ($out, $said) = ('', '');
	IPC::Run::run([ @command, $both ], '>', \$out, '2>', \$said);
	is($?, 0, 'join with the deposed server first') or diag($said);
	$node->{_pid} = (slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/)[0];
	is(timeline_of($node->data_dir), $cluster->query($new, 'SELECT timeline FROM pg_stat_pgraft_ha'), 'it cloned the primary, not the deposed one');
	is($cluster->query($new, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'node6'"), 1, 'which it follows');
	$cluster->query($new, 'SELECT pgraft_remove_node(6)');
	$node->stop('immediate');
	restore('join');
	return;
}

# Server 1 is deposed while it is being copied.
sub deposed_meanwhile
{
	my ($id) = grep { $_ != 1 } $cluster->ids;
	my $data = $cluster->node($id)->data_dir;
	my $out = '';
	my $copying;

	$cluster->node($id)->stop('fast');
	rejoined($id,
		sub {
			my $run = IPC::Run::start([ 'pgraftctl', 'rejoin', '--yes', '--no-start', '-D', $data ], '>&', \$out);

			# before it has anything
			while (!$copying)
			{
				$run->pump_nb;
				($copying) = grep { (readlink("/proc/$_/exe") // '') =~ m{/pg_basebackup$} } PgraftHa::children($run->{KIDS}[0]{PID});
			}
			kill('STOP', $copying) == 1 or die "could not stop process $copying: $!";
			my $new = depose('meanwhile');
			kill('CONT', $copying);
			$run->finish;
			is($?, 0, 'rejoin') or diag($out);
			like($out, qr/Cloning.*is no longer.*Cloning/s, 'a copy of a server that was deposed meanwhile is thrown away');
			is(timeline_of($data), $cluster->query($new, 'SELECT timeline FROM pg_stat_pgraft_ha'), 'and the new primary is copied');
			ok(!-e "$data.new" && !-e "$data.old", 'nothing is left over');
		});
	$cluster->start_node($id);
	$cluster->wait_streaming($id);
	restore('meanwhile');
	is($cluster->query($id, "SELECT count(*) FROM writes WHERE name = 'meanwhile'"), 1, 'it has what was acknowledged');
	return;
}

# Three of five are stopped: the primary can have no lease.
sub without_lease
{
	my ($id, @others) = (grep { $_ != 1 } $cluster->ids)[0 .. 2];
	my $data = $cluster->node($id)->data_dir;

	$cluster->query(1, "INSERT INTO writes VALUES ('without', 1)");
	$cluster->node($_)->stop('fast') for $id, @others;
	$cluster->wait_until('the primary has no lease', sub { ($cluster->ask(1, 'SELECT pgraft_is_primary()') // '') eq 'f' });
	rejoined($id,
		sub {
			my ($out, $said) = ('', '');
			IPC::Run::run([ 'pgraftctl', 'rejoin', '--yes', '--no-start', '-D', $data ], '>', \$out, '2>', \$said);
			is($?, 0, 'rejoin where nobody has a lease') or diag($said);
			like($said, qr/no server has a lease, taking the primary of epoch/, 'says so');
			is(timeline_of($data), $cluster->query(1, 'SELECT timeline FROM pg_stat_pgraft_ha'), 'it is a copy of the primary');
		});
	$cluster->start_node($id);
	$cluster->wait_streaming($id);
	is($cluster->wait_primary, 1, 'with it there is a lease again');
	$cluster->start_node($_) for @others;
	$cluster->settle('without a lease');
	is($cluster->query($id, "SELECT count(*) FROM writes WHERE name = 'without'"), 1, 'it has what was acknowledged');
	return;
}
