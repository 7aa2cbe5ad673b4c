# Copyright (c) 2026, pgraft contributors

# What the files of a member survive: restarts, a write that was torn by a crash;
# and what they refuse: damage in the middle of the log, being copied.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use PgraftFiles;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftCluster->new(
	nodes => 3,
	conf => "pgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
$cluster->start;
$cluster->form;
$cluster->query(1, q{SELECT count(pgraft_kv_put('key' || i, 'value' || i)) FROM generate_series(1, 100) AS i});
my $keys = q{SELECT count(*) FROM generate_series(1, 100) AS i WHERE pgraft_kv_get('key' || i, 'local') = 'value' || i};
$cluster->wait_converged;

# all at once, cleanly
$_->stop('fast') for map { $cluster->node($_) } 1 .. 3;
$cluster->start;
$cluster->wait_leader;
$cluster->query(2, "SELECT pgraft_kv_put('after', 'restart')");
$cluster->wait_converged;
is($cluster->query($_, $keys), 100, "server $_ has all keys after a restart") for 1 .. 3;

# a torn write at the end: half of the last batch and the mark after it are gone
my $leader = $cluster->wait_leader;
my ($torn, $damaged) = grep { $_ != $leader } 1 .. 3;
$cluster->kill9($torn);
my $file = last_segment($cluster->node($torn)->data_dir . '.pgraft');
my $end = end_of_data($file);
overwrite($file, $end - 64 - 24, "\0" x (64 + 24));
my $offset = -s $cluster->node($torn)->logfile;
$cluster->start_node($torn);
$cluster->query($leader, "SELECT pgraft_kv_put('after', 'torn')");
$cluster->wait_converged;
is($cluster->query($torn, $keys), 100, 'the member with the torn write has all keys');
like(slurp_file($cluster->node($torn)->logfile, $offset), qr/pgraft cut \d+ bytes of an unfinished write/,
	'it says what it cut off');

# garbage behind the end: what a crash may leave of a write that was never acknowledged
$cluster->kill9($torn);
$file = last_segment($cluster->node($torn)->data_dir . '.pgraft');
overwrite($file, end_of_data($file) + 64, join('', map { chr(1 + $_ % 255) } 1 .. 3000));
$cluster->start_node($torn);
$cluster->query($leader, "SELECT pgraft_kv_put('after', 'garbage')");
$cluster->wait_converged;
is($cluster->query($torn, $keys), 100, 'garbage behind the end changes nothing');

# one flipped bit in the middle: refused by name, the server and the others go on
$cluster->node($damaged)->stop('immediate');
$file = last_segment($cluster->node($damaged)->data_dir . '.pgraft');
my $middle = 512 + int((end_of_data($file) - 512) / 2);
my $byte = slurp_bytes($file, $middle, 1);
overwrite($file, $middle, chr(ord($byte) ^ 0x10));
$offset = -s $cluster->node($damaged)->logfile;
$cluster->start_node($damaged);
my $name = ($file =~ m{([^/]+)$})[0];
my $state = '';
$cluster->wait_until(
	'the damage is reported',
	sub {
		$state = $cluster->failure($damaged);
		return $state =~ /^failed/;
	});
like($state, qr/\Q$name\E/, 'the status names the damaged file');
like($state, qr/\b\d{3,}\b/, 'and the offset');
like(slurp_file($cluster->node($damaged)->logfile, $offset), qr/\Q$name\E.*offset \d+/s, 'so does the log');
my ($ok, $out, $err) = $cluster->try_query($damaged, "SELECT pgraft_kv_get('key1', 'local')");
ok(!$ok || $out eq '', 'it does not answer from a damaged log');
is($cluster->query($damaged, 'SELECT 1 + 1'), 2, 'its server works');
$cluster->query($leader, "SELECT pgraft_kv_put('after', 'damage')");

# the byte put right, it takes part again
$cluster->node($damaged)->stop('fast');
overwrite($file, $middle, $byte);
$cluster->start_node($damaged);
$cluster->wait_converged;
is($cluster->query($damaged, $keys), 100, 'repaired, it has all keys');

# a copy of a member's directory is no member
my $node = $cluster->node($torn);
$node->stop('fast');
my $copy = PostgreSQL::Test::Utils::tempdir() . '/copy';
PostgreSQL::Test::RecursiveCopy::copypath($node->data_dir . '.pgraft', $copy);
chmod(0700, $copy);
$offset = -s $node->logfile;
$node->append_conf('postgresql.conf', "pgraft.data_dir = '$copy'\n");
$node->start;
$cluster->wait_until(
	'the copy is refused',
	sub { $cluster->failure($torn) =~ /cop(y|ied)/ });
pass('the status says that the directory was copied');
like(slurp_file($node->logfile, $offset), qr/cop(y|ied).*HINT: /s, 'so does the log, with a hint');
$cluster->query($leader, "SELECT pgraft_kv_put('after', 'copy')");
$node->append_conf('postgresql.conf', "pgraft.data_dir = ''\n");
$node->restart;
$cluster->wait_converged;
is($cluster->query($torn, "SELECT pgraft_kv_get('after', 'local')"), 'copy', 'the original goes on');

is(scalar(grep { $cluster->query($_, $keys) == 100 } 1 .. 3), 3, 'all three have all keys at the end');

done_testing();
