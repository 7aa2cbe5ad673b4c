# Copyright (c) 2026, pgraft contributors

# Mutual TLS: three members with certificates agree; whoever has none, one of
# another authority, or one that names somebody else is refused with a reason in
# the log, and the cluster is not disturbed by any of it.

use strict;
use warnings FATAL => 'all';

use IO::Handle;
use IO::Socket::INET;
use IPC::Run;
use PgraftCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftCluster->new(nodes => 3, tls => 1);
$cluster->start;
$cluster->form;
$cluster->query(1, "SELECT pgraft_kv_put('over', 'tls')");
$cluster->wait_converged;

my $leader = $cluster->wait_leader;
my $term = $cluster->query($leader, 'SELECT pgraft_get_term()');
like(
	$cluster->query($leader, 'SELECT DISTINCT tls_version FROM pg_stat_pgraft_network'),
	qr/^TLSv1\.[23]$/,
	'members are connected over TLS');

my $victim = $leader;
my $port = $cluster->port($victim);
my $log = $cluster->node($victim)->logfile;

# a stranger without TLS
refused('plaintext', sub { speak("GET / HTTP/1.0\r\n\r\n") });
# the first bytes of TLS, then nonsense
refused('garbage', sub { speak("\x16\x03\x01\x02\x00\x01" . join('', map { chr(int(rand(256))) } 1 .. 2000)) });

# certificates of another authority, and none
my $foreign = PostgreSQL::Test::Utils::tempdir();
$cluster->make_certificates($foreign, 'node2');
refused('another authority', sub { s_client('-cert', "$foreign/node2.crt", '-key', "$foreign/node2.key") });
refused('no certificate', sub { s_client() });

# many connections that say nothing: members still get through, old and new
my @silent = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) } 1 .. 100;
cmp_ok(scalar(grep { defined } @silent), '>', 0, 'half-open connections are open');
is($cluster->query($_, "SELECT pgraft_kv_get('over')"), 'tls', "server $_ answers meanwhile") for 1 .. 3;
my ($follower) = grep { $_ != $leader } 1 .. 3;
$cluster->node($follower)->restart;
$cluster->query($follower, "SELECT pgraft_kv_put('meanwhile', 'written')");
$cluster->wait_until(
	'half-open connections are closed by the server',
	sub {
		@silent = grep { defined && !closed($_) } @silent;
		return @silent == 0;
	});
pass('half-open connections are closed by the server');

# real servers: one whose certificate names somebody else, one of another authority
my $offset = -s $log;
$cluster->make_node(4, $cluster->tls_conf('somebody'));
$cluster->make_certificates($foreign, 'node5');
$cluster->make_node(5, "pgraft.ssl_cert_file = '$foreign/node5.crt'\npgraft.ssl_key_file = '$foreign/node5.key'\n"
	. "pgraft.ssl_ca_file = '$foreign/ca.crt'\n");
for my $id (4, 5)
{
	my $what = $id == 4 ? 'wrong name' : 'wrong authority';

	$cluster->start($id);
	my ($ok, $out, $err) = $cluster->try_query($leader,
		"SET pgraft.request_timeout = '4s'; SELECT pgraft_add_node($id, '127.0.0.1', " . $cluster->port($id) . ')');
	ok(!$ok, "$what: the server cannot be added");
	like($err, qr/ERROR: +08001: /, "$what: SQLSTATE 08001");
	is($cluster->query($leader, "SELECT count(*) FROM pgraft_get_nodes() WHERE node_id = $id"),
		0, "$what: it is not a member");
	$cluster->drop_node($id);
}
my $said = slurp_file($log, $offset);
like($said, qr/somebody|node4/, 'the log names the certificate that was refused');

# a plaintext server cannot reach a cluster with TLS either
$cluster->{tls} = 0;
$cluster->make_node(6);
$cluster->start(6);
my ($ok, $out, $err) = $cluster->try_query($leader,
	"SET pgraft.request_timeout = '4s'; SELECT pgraft_add_node(6, '127.0.0.1', " . $cluster->port(6) . ')');
ok(!$ok, 'a server without TLS cannot be added');
$cluster->drop_node(6);

is($cluster->query($leader, 'SELECT pgraft_is_leader()'), 't', 'the leader is the same');
is($cluster->query($leader, 'SELECT pgraft_get_term()'), $term, 'so is the term');
$cluster->wait_converged;

done_testing();

# Three times the same attack: refused each time and logged, but not once per
# attempt.
sub refused
{
	my ($what, $attack) = @_;
	my $from = -s $log;
	my @lines;

	$attack->() for 1 .. 3;
	$cluster->wait_until(
		"the log says why ($what)",
		sub {
			@lines = grep { /127\.0\.0\.1/ } split /\n/, slurp_file($log, $from);
			return scalar @lines;
		});
	pass("$what: refused, and the log says why");
	cmp_ok(scalar @lines, '<=', 2, "$what: once, not for each attempt");
	note($lines[0] // '');
	return;
}

# sends bytes and waits until the server closes the connection
sub speak
{
	my ($bytes) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port)
	  or die "could not connect: $!";

	local $SIG{PIPE} = 'IGNORE';
	syswrite($socket, $bytes);
	$cluster->wait_until('the server closes the connection', sub { closed($socket) });
	return;
}

# A TLS client with an own idea of who it is.  Under TLS 1.3 the server's refusal
# comes after the client's handshake is done: read until the end.
sub s_client
{
	my @options = @_;
	my $input = IO::Handle->new;
	my $said = '';

	# an input that stays open, so that only the server ends the conversation
	my $client = IPC::Run::start(
		[ 'openssl', 's_client', '-connect', "127.0.0.1:$port", @options ],
		'<pipe', $input, '>&', \$said, IPC::Run::timeout(30));
	$client->pump while $client->pumpable;
	close($input);
	$client->finish;
	return;
}

sub closed
{
	my ($socket) = @_;

	$socket->blocking(0);
	my $n = sysread($socket, my $buffer, 4096);
	return 1 if defined $n && $n == 0;
	return 0 if defined $n || $!{EAGAIN} || $!{EWOULDBLOCK};
	return 1;
}
