# Copyright (c) 2026, pgraft contributors

# The primary loses its storage: no space is left where its WAL is, then on its
# whole disk, and another server takes its place until there is space again.  Then
# data directories are removed under killed servers, the consensus directory
# beside one of them, too: pgraftctl fills them again under the same node id.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(rmtree);
use PgraftCtl;
use PgraftHa;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant ALL_WRITES => 1;     # as when a file system copies on write

disk_full();
data_lost();
done_testing();

# ----------------------------------------------------------------
# no space
# ----------------------------------------------------------------

sub disk_full
{
	my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");

	$cluster->form;
	my @writers = map { $cluster->start_sql_writer("w$_") } 1 .. 2;

	# from the next start on their disks can be filled
	for my $id ($cluster->ids)
	{
		my $data = abs_path($cluster->node($id)->data_dir);

		$cluster->make_disk($id, $cluster->node($id), $id == 1 ? "$data/pg_wal" : dirname($data));
		$cluster->node($id)->stop('fast');
		$cluster->start_node($id);
		$cluster->follows_or_rewound($id) if $cluster->wait_primary != $id;
	}
	if ($cluster->wait_primary != 1)
	{
		$cluster->wait_synchronous(3);
		$cluster->query(2, 'SELECT pgraft_switchover(1)');
	}
	for my $what ('no space for WAL', 'no space at all')
	{
		my $old = $cluster->wait_primary;
		my $node = $cluster->node($old);
		my $logged = -s $node->logfile;

		$cluster->settle($what);
		$cluster->disk($old, no_space => ALL_WRITES);
		my $new = $cluster->wait_primary(not => $old);
		isnt($new, $old, "$what: another server, $new, is primary");
		$cluster->wait_writes($_, 20) for @writers;
		cmp_ok($cluster->disk_count($old, 'refused'), '>', 0, "$what: writes were refused");
		like(slurp_file($node->logfile, $logged), qr/PANIC:.*No space left on device/, "$what: PostgreSQL stopped for it")
		  if $what eq 'no space for WAL';

		$cluster->disk($old, no_space => 0);
		if (!kill(0, $node->{_pid}) || !defined $cluster->ask($old, 'SELECT 1'))
		{
			note("$what: its postmaster has ended");
			$cluster->kill_all($old);
			$cluster->start_node($old);
		}
		$cluster->settle($what);
		$cluster->wait_writes($_, 20) for @writers;
		$cluster->check_rows($what, map { $_->record } @writers);
	}
	$cluster->settle('after there was no space', map { $_->stop } @writers);
	$cluster->node($_)->stop('immediate') for $cluster->ids;
	return;
}

# ----------------------------------------------------------------
# no data
# ----------------------------------------------------------------

sub data_lost
{
	set_up('ctl');
	command_ok([ 'pgraftctl', 'init', member(1) ], 'pgraftctl makes the first server');
	command_ok([ 'pgraftctl', 'join', member($_), '--from', from(1) ], "and server $_") for 2, 3;
	sql(1, 'CREATE TABLE t (n int)');
	for my $with_consensus (0, 1)
	{
		my $old = wait_primary();
		my ($other, $third) = grep { $_ != $old } 1 .. 3;
		my $data = $data{$old};

		sql($old, "INSERT INTO t VALUES ($with_consensus)");
		my ($pid) = slurp_file("$data/postmaster.pid") =~ /^(\d+)/;
		kill('KILL', $pid, PgraftHa::children($pid));
		wait_until('the killed server is gone', sub { !kill(0, $pid) });
		rmtree($data);
		rmtree("$data.pgraft") if $with_consensus;

		# a person would see the failover first
		my $new = wait_primary($old);
		sql($new, "INSERT INTO t VALUES (10 + $with_consensus)");
		command_fails_like([ 'pgraftctl', 'rejoin', '--yes', '-D', $data ], qr/is not a data directory.*pgraftctl join/s,
			'rejoin without a data directory names the way');
		command_ok([ 'pgraftctl', 'remove', '--yes', '-h', $sockets, '-p', $port{$new}, $old ], 'a server that lost its vote is removed')
		  if $with_consensus;
		command_ok([ 'pgraftctl', 'join', member($old), '--from', from($new) ],
			'a server whose data ' . ($with_consensus ? 'and memory were' : 'was') . ' lost joins under its old id');
		wait_until("server $old has everything", sub { (ask($old, 'SELECT count(*) FROM t') // 0) == 2 * $with_consensus + 2 });
		wait_until('all are in the sync set', sub { (() = (ask($new, 'SHOW synchronous_standby_names') // '') =~ /node/g) == 2 });
		is(ask($new, "SELECT string_agg(DISTINCT role, ' ' ORDER BY role) FROM pgraft_ha_members()"), 'primary standby',
			'one primary, standbys beside it');

		# it can take over; a switchover ends the sessions of the server that hands over
		ask($new, "SELECT pgraft_switchover($old)");
		is(wait_primary($new), $old, "server $old can be the primary again");
	}
	is(sql(wait_primary(), 'SELECT string_agg(n::text, \' \' ORDER BY n) FROM t'), '0 1 10 11', 'every row is there');
	return;
}

sub member { my ($id) = @_; return (member_options($id), '--address', '127.0.0.1'); }
sub from { my ($id) = @_; return "host=$sockets port=$port{$id}"; }
