# Copyright (c) 2026, pgraft contributors

# A standby is promoted by hand, says that it must be rewound, and loses power.
# The cluster then fails over to a timeline of the same number, so pg_rewind would
# find nothing to do.  pgraftctl rejoin, which has no server to ask, clones.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;

my $primary = $cluster->wait_primary;
my ($apart, $successor) = grep { $_ != $primary } $cluster->ids;
my $node = $cluster->node($apart);
my $verdict = $node->data_dir . '.pgraft/rejoin';

$cluster->query($primary, "INSERT INTO writes VALUES ('before', 1)");
system_or_bail('pg_ctl', 'promote', '-s', '-W', '-D', $node->data_dir);
$cluster->wait_until('the server that was promoted by hand must be rewound',
	sub { ($cluster->ask($apart, 'SELECT own_role FROM pg_stat_pgraft_ha') // '') eq 'rewind' });
my $epoch = $cluster->query($apart, 'SELECT epoch FROM pg_stat_pgraft_ha');
my $timeline = $cluster->query($apart, 'SELECT timeline FROM pg_stat_pgraft_ha');
is(slurp_file($verdict), "rewind epoch $epoch timeline $timeline\n", 'it says for which epoch');
$cluster->kill_all($apart);

# no process of before is there after a loss of power
unlink($node->data_dir . '/postmaster.pid') or die "could not remove the lock file: $!";

is($cluster->query($successor, "SELECT pgraft_switchover($successor)"), $successor, 'another server becomes the primary');
$cluster->query($successor, "INSERT INTO writes VALUES ('after', 1)");
is($cluster->query($successor, 'SELECT timeline FROM pg_stat_pgraft_ha'), $timeline, 'on a timeline of the same number');
is(slurp_file($verdict), "rewind epoch $epoch timeline $timeline\n", 'the server that is away still says that rewinding will do');

my $conf = $node->data_dir . '/postgresql.conf';
my $settings = slurp_file($conf);
my $out = '';
my $error = '';
IPC::Run::run([ 'pgraftctl', 'rejoin', '--yes', '--no-start', '-D', $node->data_dir ], '>', \$out, '2>', \$error);
is($?, 0, 'rejoin ends well') or diag($error);
like($out, qr/^Cloning/m, 'by a clone');
unlike($out, qr/Rewinding/, 'and without pg_rewind');
like($error, qr/epoch $epoch\b.*cloning/s, 'and says why');
ok(!-e $verdict, 'the verdict is done with');

# it lies in the data directory, so the clone brings the other server's
unlink($conf);
append_to_file($conf, $settings);
$cluster->start_node($apart);
$cluster->settle('a stale verdict');
is($cluster->query($apart, "SELECT string_agg(name, ' ' ORDER BY name) FROM writes"), 'after before', 'it has what the cluster has');
done_testing();
