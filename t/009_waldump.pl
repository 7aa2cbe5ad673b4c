# Copyright (c) 2026, pgraft contributors

# pgraft_waldump on the log of a real server: what it prints is complete and can
# be parsed, and what it says of damage names the place.

use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PgraftCluster;
use PgraftFiles;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftCluster->new(
	nodes => 1,
	conf => "pgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
$cluster->start;
$cluster->form;
$cluster->query(1, q{SELECT count(pgraft_kv_put('key' || i, 'value' || i)) FROM generate_series(1, 200) AS i});
$cluster->query(1, q{SELECT pgraft_kv_put('quoted "key"', E'back\\\\slash')});

# of a log in use: read-only, takes no lock
my $directory = $cluster->node(1)->data_dir . '.pgraft';
my ($status, $out, $err) = waldump('--verify', $directory);
is($status, 0, 'the log of a running server can be read');
my $last = $cluster->query(1, 'SELECT last_index FROM pgraft_log_get_stats()');
$cluster->node(1)->stop('fast');

# an intact log
($status, $out, $err) = waldump('--verify', $directory);
is($status, 0, 'an intact log: exit status');
like($out, qr/^\Q$directory\E: log is intact\n\z/, 'an intact log: verdict');
is($err, '', 'an intact log: nothing to complain about');

my @entries = grep { $_->{kind} eq 'entry' } json('--json', '--payload', $directory);
my $first = $entries[0]{index};
is($first, 1, 'the first entry is there');
is($entries[-1]{index}, $last, 'so is the last');
is_deeply([ map { $_->{index} } @entries ], [ 1 .. $last ], 'and each between them, once, in order');
is(scalar(grep { length($_->{payload}) != 2 * $_->{length} } @entries), 0, 'payloads have the length they are said to have');
my $payloads = join("\n", map { pack('H*', $_->{payload}) } @entries);
is(scalar(grep { $payloads !~ /value$_\b/ } 1 .. 200), 0, 'each value written is in a payload');
is($entries[0]{type}, 'config', 'the first entry is the first configuration');
is(scalar(grep { $_->{type} !~ /^(normal|empty|config)$/ } @entries), 0, 'types are named');

my @lines = json('--json', '--summary', $directory);
my ($identity) = grep { $_->{kind} eq 'identity' } @lines;
my ($summary) = grep { $_->{kind} eq 'summary' } @lines;
is($identity->{node_id}, 1, 'identity: node');
like($identity->{member_uid}, qr/^[0-9a-f]{16}$/, 'identity: member');
is($summary->{last_index}, $last, 'summary: last entry');
is($summary->{torn_bytes}, 0, 'summary: nothing torn');
cmp_ok(scalar(grep { $_->{kind} eq 'hard_state' } @lines), '>', 0, 'hard states are printed');
is_deeply([ json('--json', '--verify', $directory) ],
	[ { kind => 'verdict', intact => JSON::PP::true, torn_bytes => 0 } ], 'a verdict in JSON');

my (undef, $text) = waldump($directory);
is(scalar(() = $text =~ /^log-[0-9a-f]{8} offset: +\d+, batch: +\d+, kind: entry, index: \d+/mg),
	scalar(@entries), 'as text it prints as many entries');
(undef, $text) = waldump('--quiet', '--summary', $directory);
like($text, qr/^Node ID: +1$/m, 'a summary as text');
like($text, qr/^Last entry: +$last$/m, 'with the last entry');
unlike($text, qr/kind: entry/, 'and no records');

# a torn write at the end is none of the damages
my $torn = copy_of($directory, 'torn');
my $segment = last_segment($torn);
my $end = end_of_data($segment);
overwrite($segment, $end - 64 - 24, "\0" x (64 + 24));
($status, $out, $err) = waldump('--verify', $torn);
is($status, 0, 'torn tail: exit status');
like($out, qr/torn write of \d+ bytes/, 'torn tail: said');
($summary) = grep { $_->{kind} eq 'summary' } json('--json', '--quiet', '--summary', $torn);
cmp_ok($summary->{torn_bytes}, '>', 0, 'torn tail: its size');
cmp_ok($summary->{last_index}, '<', $last, 'torn tail: the torn batch does not count');

# one flipped bit in the middle
my $flipped = copy_of($directory, 'flipped');
$segment = last_segment($flipped);
my $name = ($segment =~ m{([^/]+)$})[0];
my $middle = 512 + int((end_of_data($segment) - 512) / 2);
overwrite($segment, $middle, chr(ord(slurp_bytes($segment, $middle, 1)) ^ 0x10));
($status, $out, $err) = waldump('--verify', $flipped);
is($status, 1, 'flipped bit: exit status');
is($out, '', 'flipped bit: no verdict');
like($err, qr/\Q$name\E.* is damaged at offset (\d+): \S+/, 'flipped bit: file, offset and reason');
my ($offset) = $err =~ /at offset (\d+)/;
cmp_ok($offset, '<=', $middle, 'the batch named begins before the bit');
my @good = grep { $_->{kind} eq 'entry' } json_of(waldump('--json', $flipped));
cmp_ok(scalar(@good), '>', 0, 'flipped bit: what lies before it is printed');
cmp_ok(scalar(@good), '<', $last, 'and nothing behind it');
my ($error) = grep { $_->{kind} eq 'error' } json_of(waldump('--json', '--verify', $flipped));
ok($error->{damaged}, 'flipped bit: damage in JSON');
like($error->{message}, qr/\Q$name\E/, 'flipped bit: the file in JSON');

# a damaged identity, and a damaged header of a segment
my $strange = copy_of($directory, 'identity');
overwrite("$strange/identity", 20, "\xff");
($status, $out, $err) = waldump('--verify', $strange);
is($status, 1, 'identity: exit status');
like($err, qr/identity" is damaged at offset \d+/, 'identity: file and offset');
my $headless = copy_of($directory, 'header');
overwrite(last_segment($headless), 30, "\xff");
($status, $out, $err) = waldump('--verify', $headless);
is($status, 1, 'segment header: exit status');
like($err, qr/log-[0-9a-f]{8}" is damaged at offset 0/, 'segment header: file and offset');

# what is no storage directory
my $empty = PostgreSQL::Test::Utils::tempdir();
($status, $out, $err) = waldump('--verify', $empty);
is($status, 2, 'an empty directory: exit status');
like($err, qr/\Q$empty\E/, 'an empty directory: named');
($status, $out, $err) = waldump('--verify', "$empty/missing");
is($status, 2, 'no directory: exit status');
like($err, qr/\Q$empty\E\/missing/, 'no directory: named');
SKIP:
{
	skip 'root may read everything', 2 if $> == 0;
	my $closed = copy_of($directory, 'closed');
	chmod(0000, $closed);
	($status, $out, $err) = waldump('--verify', $closed);
	chmod(0700, $closed);
	is($status, 2, 'an unreadable directory: exit status');
	like($err, qr/\Q$closed\E.*Permission denied/, 'an unreadable directory: named, with the reason');
}

# usage
($status, $out, $err) = waldump('--help');
is($status, 0, '--help: exit status');
like($out, qr/--$_\b/, "--help tells of --$_") for qw(json payload quiet summary verify version help);
($status, $out, $err) = waldump('--version');
like($out, qr/^pgraft_waldump \(pgraft\) \d+\.\d+/, '--version');
($status, $out, $err) = waldump('--no-such-option', $directory);
is($status, 2, 'unknown option: exit status');
like($err, qr/no-such-option.*--help/s, 'unknown option: named, with a pointer to the help');
is((waldump())[0], 2, 'no directory given: exit status');
is((waldump($directory, $directory))[0], 2, 'two directories given: exit status');

# the server goes on with a log that was only looked at
$cluster->start_node(1);
$cluster->wait_leader;
is($cluster->query(1, q{SELECT pgraft_kv_get('key200')}), 'value200', 'the server starts again');

# with a snapshot, and a log that begins after it
$cluster->node(1)->append_conf('postgresql.conf', "pgraft.snapshot_interval = 100\npgraft.max_log_entries = 100\n");
$cluster->node(1)->restart;
$cluster->wait_leader;
$cluster->query(1, q{SELECT count(pgraft_kv_put('more' || i, 'value' || i)) FROM generate_series(1, 300) AS i});
$cluster->wait_until(
	'there is a snapshot',
	sub { glob("$directory/snapshot-*") && grep { $_->{kind} eq 'log_start' } json_of(waldump('--json', $directory)) });
$cluster->node(1)->stop('fast');
@lines = json('--json', '--summary', $directory);
($summary) = grep { $_->{kind} eq 'summary' } @lines;
cmp_ok($summary->{snapshot_index}, '>', 0, 'the snapshot is in the summary');
cmp_ok($summary->{snapshot_bytes}, '>', 0, 'with its size');
cmp_ok($summary->{first_index}, '>', 1, 'the log begins later');
my ($snapshot) = grep { $_->{kind} eq 'snapshot' } reverse @lines;
is($snapshot->{index}, $summary->{snapshot_index}, 'the record of the snapshot is printed');
my $damaged = copy_of($directory, 'snapshot');
my ($file) = glob("$damaged/snapshot-*");
overwrite($file, (-s $file) / 2, "\xa5\x5a\xa5");
($status, $out, $err) = waldump('--verify', $damaged);
is($status, 1, 'damaged snapshot: exit status');
like($err, qr/snapshot-\S+" is damaged at offset \d+/, 'damaged snapshot: file and offset');
unlink($file);
($status, $out, $err) = waldump('--verify', $damaged);
is($status, 1, 'missing snapshot: exit status');
like($err, qr/snapshot-\S+".*is missing/, 'missing snapshot: named');

done_testing();

# (exit status, standard output, standard error)
sub waldump
{
	my (@arguments) = @_;
	my ($stdout, $stderr) = ('', '');

	IPC::Run::run([ 'pgraft_waldump', @arguments ], '<', \undef, '>', \$stdout, '2>', \$stderr);
	return ($? & 127 ? "signal " . ($? & 127) : $? >> 8, $stdout, $stderr);
}

# The objects that an intact log is printed as.
sub json
{
	my (@arguments) = @_;
	my ($code, $stdout, $stderr) = waldump(@arguments);

	die "pgraft_waldump @arguments: $code, $stderr" if $code ne '0';
	return json_of($code, $stdout);
}

# One object per line; dies when a line is none.
sub json_of
{
	my (undef, $stdout) = @_;

	return map { JSON::PP->new->utf8->decode($_) } split(/\n/, $stdout);
}

sub copy_of
{
	my ($original, $name_of_copy) = @_;
	my $copy = PostgreSQL::Test::Utils::tempdir() . "/$name_of_copy";

	PostgreSQL::Test::RecursiveCopy::copypath($original, $copy);
	return $copy;
}
