# Copyright (c) 2026, pgraft contributors

# What happens to a primary, one after the other, while clients insert rows: a
# backend of it is killed, a standby is promoted by hand, it is shut down, it is
# frozen, and all servers lose power at once.  Each time there is a primary again,
# the servers follow it, rows go on, and in the end no acknowledged one is missing.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
my @writers = map { $cluster->start_sql_writer("w$_") } 1 .. 2;
rows_go_on('at first');

# ----------------------------------------------------------------
# a backend crashes: PostgreSQL ends all others and recovers
# ----------------------------------------------------------------

my $old = $cluster->wait_primary;
my $epoch = $cluster->query($old, 'SELECT epoch FROM pg_stat_pgraft_ha');
my $session = $cluster->session($old);
kill('KILL', $session->{pid}) == 1 or die 'could not kill a backend';
$cluster->wait_until('a newer epoch is steady',
	sub { ($cluster->ask(($cluster->wait_primary)[0], "SELECT epoch > $epoch AND phase = 'steady' FROM pg_stat_pgraft_ha") // '') eq 't' }, 30);
pass('after the crash of a backend a newer epoch has a primary');
$session->end;
settled('after the crash of a backend', $old);

# ----------------------------------------------------------------
# somebody promotes a standby by hand
# ----------------------------------------------------------------

my $primary = $cluster->wait_primary;
my ($wrong) = grep { $_ != $primary } $cluster->ids;
my $node = $cluster->node($wrong);
my $logged = -s $node->logfile;
system_log('pg_ctl', '-D', $node->data_dir, '-W', 'promote');
my $accepted = 0;
$cluster->wait_until(
	'the server that was promoted by hand is demoted',
	sub {
		my ($ok) = $cluster->try_query($wrong, "INSERT INTO writes VALUES ('by hand', 1)", 5);

		$accepted++ if $ok;
		return slurp_file($node->logfile, $logged) =~ /pgraft demotes this server to a standby/;
	},
	30);
is($accepted, 0, 'a standby that was promoted by hand accepted nothing');
is($cluster->wait_primary, $primary, 'the primary is what it was');
is($cluster->follows_or_rewound($wrong), 'rewind', 'the other must be rewound');
settled('after a promotion by hand', $primary);

# ----------------------------------------------------------------
# an orderly shutdown of the primary, and a frozen one
# ----------------------------------------------------------------

$old = $cluster->wait_primary;
$cluster->node($old)->stop('fast');
isnt($cluster->wait_primary(not => $old, seconds => 20), $old, 'after a fast shutdown another server is primary');
$cluster->start_node($old);
settled('after a fast shutdown', $old);

$old = $cluster->wait_primary;
$cluster->freeze_all($old);
isnt($cluster->wait_primary(not => $old, seconds => 20), $old, 'while the primary is frozen another server is primary');
rows_go_on('while the old primary is frozen');
$cluster->thaw($old);
settled('after the thaw', $old);

# ----------------------------------------------------------------
# no server is left
# ----------------------------------------------------------------

$cluster->kill_all($_) for $cluster->ids;
$cluster->start_node($_) for $cluster->ids;
ok($cluster->wait_primary(seconds => 30), 'after all were killed at once there is a primary');
settled('after all were killed', $cluster->ids);

my @record = map { $_->stop } @writers;
$cluster->check_rows('in the end', @record);
is($cluster->query($cluster->wait_primary, "SELECT count(*) FROM writes WHERE name = 'by hand'"), 0,
	'nor is there what was refused');
done_testing();

# The servers follow or are rewound; all count again; rows go on.
sub settled
{
	my ($what, @ids) = @_;

	for my $id (@ids)
	{
		$cluster->follows_or_rewound($id) if $cluster->wait_primary != $id;
	}
	$cluster->wait_synchronous(3);
	rows_go_on($what);
	return;
}

sub rows_go_on
{
	my ($what) = @_;

	$cluster->wait_writes($_, 10) for @writers;
	pass("rows go on $what");
	return;
}
