# Copyright (c) 2026, pgraft contributors

# Settings that cannot work are refused with a message that says what to do; calls
# that cannot be carried out end in time, and say whether the outcome is known.

use strict;
use warnings FATAL => 'all';

use IO::Socket::INET;
use PgraftCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $cluster = PgraftCluster->new(nodes => 3, conf => "pgraft.request_timeout = '1500ms'\n");
my $timeout = 1.5;

# ----------------------------------------------------------------
# settings that keep the server from starting
# ----------------------------------------------------------------

my $data = $cluster->node(1)->data_dir;
my $certificates = $cluster->certificates;
$cluster->make_certificates($certificates, 'node1');
my $three = "pgraft.ssl_cert_file = '$certificates/node1.crt'\npgraft.ssl_ca_file = '$certificates/ca.crt'\n";

my @fatal = (
	[ 'a heartbeat as long as the election timeout', "pgraft.heartbeat_interval = 1000\n",
		qr/heartbeat_interval.*must be at most a third/, qr/HINT: .*election_timeout/ ],
	[ 'a data directory inside PGDATA', "pgraft.data_dir = '$data/raft'\n",
		qr/pgraft\.data_dir.*must be outside/, qr/HINT: / ],
	[ 'a relative data directory', "pgraft.data_dir = 'raft'\n", qr/must be an absolute path/, qr/HINT: / ],
	[ 'a certificate without key', $three, qr/must be set together/, qr/HINT: / ],
	[ 'port 70000', "pgraft.port = 70000\n", qr/invalid value for "pgraft\.port": 70000/, qr/HINT: .*65535/ ],
	[ 'a negative node id', "pgraft.node_id = -1\n", qr/invalid value for "pgraft\.node_id": -1/, qr/HINT: / ],
);
for (@fatal)
{
	my ($what, $conf, $message, $hint) = @$_;
	my $said = try_start(1, $conf);

	ok(!$said->{started}, "$what: the server does not start");
	like($said->{log}, $message, "$what: message");
	like($said->{log}, $hint, "$what: hint");
}

# PostgreSQL itself only warns of a name that does not exist
my $unknown = try_start(1, "pgraft.no_such_setting = 1\n");
ok($unknown->{started}, 'an unknown setting: the server starts');
like($unknown->{log}, qr/invalid configuration parameter name "pgraft\.no_such_setting"/,
	'an unknown setting: the log has a warning');
# ----------------------------------------------------------------
# settings that keep the member from taking part: the server works, the status
# says what is wrong
# ----------------------------------------------------------------

my $taken = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp')
  or die "could not listen: $!";
my $readable = PostgreSQL::Test::Utils::tempdir();
$cluster->make_certificates($readable, 'node1');
chmod(0644, "$readable/node1.key");
my $tls = "pgraft.ssl_cert_file = '%s/node1.crt'\npgraft.ssl_key_file = '%s/node1.key'\npgraft.ssl_ca_file = '%s/ca.crt'\n";

my @failing = (
	[ 'no node id', "pgraft.node_id = 0\n", qr/pgraft\.node_id/ ],
	[ 'a port that is taken', 'pgraft.port = ' . $taken->sockport . "\n", qr/(port|address).*\b@{[ $taken->sockport ]}\b/ ],
	[ 'a key that others can read', $tls =~ s/%s/$readable/gr, qr/key.*(permission|access|read)/i ],
	[ 'a certificate that is not there', $tls =~ s/%s/\/nowhere/gr, qr/\/nowhere/ ],
	[ 'a public address without TLS', "pgraft.listen_address = '*'\n", qr/loopback|TLS|certificate/i ],
);
for (@failing)
{
	my ($what, $conf, $message) = @$_;
	my $said = try_start(
		1, $conf,
		sub {
			my $status = '';

			$cluster->query(1, 'CREATE EXTENSION pgraft');
			eval {
				$cluster->wait_until("the status explains: $what",
					sub { $status = $cluster->failure(1); $status =~ $message },
					15);
			};
			my ($ok, $out, $err) = $cluster->try_query(1, 'SELECT pgraft_init()');
			$cluster->query(1, 'DROP EXTENSION pgraft');
			return { status => $status, init_ok => $ok, init => $err };
		});

	ok($said->{started}, "$what: the server starts");
	like($said->{log}, $message, "$what: the log says what is wrong");
	like($said->{log}, qr/HINT: /, "$what: the log has a hint");
	like($said->{result}{status} // '', $message, "$what: the status says it, too");
	ok(!$said->{result}{init_ok}, "$what: pgraft_init() is refused");
	like($said->{result}{init} // '', qr/ERROR: +(57P03|55000|22023): /, "$what: with a SQLSTATE that tells why");
}

# not preloaded
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->start;
$plain->safe_psql('postgres', 'CREATE EXTENSION pgraft');
my ($status, $out, $err) = $plain->psql('postgres', 'SELECT pgraft_init()', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
like($err, qr/55000: .*shared_preload_libraries.*HINT: /s, 'without preloading: error 55000 with a hint');
$plain->stop;

# ----------------------------------------------------------------
# no quorum
# ----------------------------------------------------------------

$cluster->start;
$cluster->form;
$cluster->query(1, "SELECT pgraft_kv_put('here', 'before')");
$cluster->wait_converged;
my $leader = $cluster->wait_leader;
my @others = grep { $_ != $leader } 1 .. 3;
my @workers = map { $cluster->worker_pid($_) } @others;
$cluster->kill9(@others);

# they live on for a moment, and would confirm
kill('KILL', @workers);

# may be sent by a leader that does not know yet, then the outcome is unknown
my ($ok, $took);
($ok, $took, $err) = timed("SELECT pgraft_kv_put('lost', 'maybe')");
ok(!$ok, 'a put without a quorum fails');
like($err, qr/ERROR: +(40003|57P03): /, 'a put without a quorum: 40003 or 57P03');
like($err, qr/unknown/, 'an unknown outcome is called unknown') if $err =~ /40003/;
cmp_ok($took, '<', $timeout + 5, 'it ends in time');

# the leader has stepped down: nothing is proposed any more
$cluster->wait_until('the leader steps down', sub { ($cluster->ask($leader, 'SELECT pgraft_is_leader()') // '') eq 'f' });
for my $sql ("SELECT pgraft_kv_put('lost', 'certainly')", "SELECT pgraft_kv_get('here')",
	"SELECT pgraft_log_append('lost'::text)", "SELECT pgraft_add_node(9, '127.0.0.1', 7009)",
	"SELECT pgraft_remove_node($others[0])")
{
	($ok, $took, $err) = timed($sql);
	ok(!$ok, "no leader: $sql fails");
	like($err, qr/ERROR: +57P03: .*HINT: /s, "no leader: $sql: 57P03 with a hint");
	cmp_ok($took, '<', $timeout + 5, "no leader: $sql ends in time");
}
is($cluster->query($leader, "SELECT pgraft_kv_get('here', 'local')"), 'before', 'local reads go on');
is($cluster->query($leader, "SELECT pgraft_kv_exists('lost', 'local')"), 'f', 'nothing was written');

# a call can be cancelled while it waits
($ok, $took, $err) = timed("SET pgraft.request_timeout = '60s'; SET statement_timeout = '300ms'; SELECT pgraft_kv_put('never', '1')");
like($err, qr/57014: /, 'a waiting call obeys statement_timeout');
cmp_ok($took, '<', 20, 'at once');

# with the quorum back everything goes on
$cluster->start(@others);
$cluster->wait_leader;
$cluster->query($leader, "SELECT pgraft_kv_put('here', 'after')");
is($cluster->query($_, "SELECT pgraft_kv_get('here')"), 'after', "server $_ reads it") for 1 .. 3;
$cluster->wait_converged;

done_testing();

sub timed
{
	my ($sql) = @_;
	my $start = time();
	my ($done, undef, $error) = $cluster->try_query($leader, $sql);

	return ($done, time() - $start, $error);
}

# Starts server $id with $conf added; $probe may ask it while it runs.  The
# configuration is restored afterwards.
sub try_start
{
	my ($id, $conf, $probe) = @_;
	my $node = $cluster->node($id);
	my $file = $node->data_dir . '/postgresql.conf';
	my $original = slurp_file($file);
	my $offset = -e $node->logfile ? -s $node->logfile : 0;
	my %said;

	$node->append_conf('postgresql.conf', $conf);
	$said{started} = $node->start(fail_ok => 1);
	$said{result} = $probe->() if $probe && $said{started};
	$node->stop if $said{started};
	$said{log} = slurp_file($node->logfile, $offset);
	open(my $out, '>', $file) or die "could not write \"$file\": $!";
	print $out $original;
	close($out);
	return \%said;
}
