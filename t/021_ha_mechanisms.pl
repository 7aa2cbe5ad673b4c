# Copyright (c) 2026, pgraft contributors

# The mechanisms of high availability one by one: guard, fence, seal, standby and
# sync.  Each is made to matter, and what it prevents is then shown to happen in
# a cluster that runs with the mechanism switched off (pgraft.developer_disable).

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use Test::More;
use Time::HiRes qw(time usleep);

my $T = 1;    # pgraft.election_timeout, seconds
my $never = 2 * $T;    # how long an answer must stay away
my $common = "max_prepared_transactions = 10\nwal_keep_size = 256MB\npgraft.election_timeout = ${T}s\n";

my $cluster = PgraftHa->new(nodes => 3, name => 'all', conf => $common);
$cluster->form;
guard($cluster, 1);
fence($cluster);
always_standby($cluster);
standby_disabled($cluster);
$cluster->node($_)->stop('immediate') for $cluster->ids;

$cluster = PgraftHa->new(nodes => 3, name => 'unfenced', conf => "${common}pgraft.developer_disable = 'fence'\n");
$cluster->form;
seal($cluster, 1);
$cluster->node($_)->stop('immediate') for $cluster->ids;

$cluster = PgraftHa->new(nodes => 3, name => 'bare', conf => "${common}pgraft.developer_disable = 'guard, fence, seal'\n");
$cluster->form;
guard($cluster, 0);
seal($cluster, 0);
$cluster->node($_)->stop('immediate') for $cluster->ids;
done_testing();

# ----------------------------------------------------------------
# guard
# ----------------------------------------------------------------

# No standby confirms anything, and who waits for them is cancelled.
sub guard
{
	my ($ha, $on) = @_;
	my $primary = $ha->wait_primary;
	my %session = map { $_ => $ha->session($primary) } qw(insert terminate prepare commit);
	my $observer = $ha->session($primary);

	$session{commit}->say("BEGIN; INSERT INTO writes VALUES ('guard commit', 1); PREPARE TRANSACTION 'earlier'");
	ok($session{commit}->heard(qr/^PREPARE TRANSACTION/m, 10), 'PREPARE TRANSACTION while standbys confirm');
	my @receivers = map { $ha->walreceiver($_) } grep { $_ != $primary } $ha->ids;
	my $before = $ha->query($primary, 'SELECT guarded FROM pg_stat_pgraft_ha');
	kill('STOP', @receivers) == 2 or die 'could not stop the walreceivers';

	$session{insert}->say("INSERT INTO writes VALUES ('guard insert', 1)");
	$session{terminate}->say("INSERT INTO writes VALUES ('guard terminate', 1)");
	$session{prepare}->say("BEGIN; INSERT INTO writes VALUES ('guard prepare', 1); PREPARE TRANSACTION 'later'");
	$session{commit}->say("COMMIT PREPARED 'earlier'");
	my $pids = join(',', map { $_->{pid} } values %session);
	$ha->wait_until('all four wait for standbys',
		sub { $ha->ask($primary, "SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pids) AND wait_event = 'SyncRep'") == 4 });
	my %answer = (
		insert => qr/^INSERT 0 1/m,
		terminate => qr/^INSERT 0 1/m,
		prepare => qr/^PREPARE TRANSACTION/m,
		commit => qr/^COMMIT PREPARED/m);

	for my $what (sort keys %session)
	{
		my $end = $what eq 'terminate' ? 'pg_terminate_backend' : 'pg_cancel_backend';
		my $session = $session{$what};

		# again, because PREPARE looks a while whether the standbys get it after all
		$ha->wait_until(
			"$what ends",
			sub {
				$ha->query($primary, "SELECT $end(pid) FROM pg_stat_activity WHERE pid = $session->{pid} AND state = 'active'");
				return $session->heard(qr/LOST|$answer{$what}/, 0.2);
			},
			20);
		if ($on || $what eq 'terminate')
		{
			unlike($session->{out}, $answer{$what}, "$what: no success is reported that no standby has");
			like($session->{out}, qr/LOST/, "$what: the client loses its connection");
		}
		else
		{
			like($session->{out}, $answer{$what}, "$what: without guard, success is reported that no standby has");
		}
	}
	is($ha->query($primary, 'SELECT guarded FROM pg_stat_pgraft_ha') - $before, $on ? 3 : 0, 'false acknowledgements are counted');
	kill('CONT', @receivers);
	$ha->query($primary, "INSERT INTO writes VALUES ('guard over', 1)");
	pass('standbys confirm again, and the primary goes on');
	is($ha->query($primary, 'SELECT pgraft_is_primary()'), 't', 'it is still the primary');
	$ha->query($primary, "ROLLBACK PREPARED 'later'");
	$_->end for values %session, $observer;
	return;
}

# ----------------------------------------------------------------
# fence
# ----------------------------------------------------------------

# The worker that renews the lease stops; nothing else does.
sub fence
{
	my ($ha) = @_;
	my $old = $ha->wait_primary;
	my $session = $ha->session($old);
	my $worker = $ha->worker_pid($old);
	my $tried = 0;
	my $refused_at;

	kill('STOP', $worker) == 1 or die 'could not stop the worker';
	my $since = time();
	while (!defined $refused_at && time() < $since + 10)
	{
		$tried++;
		$session->say("INSERT INTO writes VALUES ('fence $tried', 1)");
		last if !$session->heard(qr/^INSERT 0 1|ERROR/m, 10);
		$refused_at = time() if $session->{out} =~ /ERROR/;
	}
	ok(defined $refused_at, 'without lease a write is refused') or diag($session->{out});
	like($session->{out}, qr/ERROR:  25006: .*\n.*\nHINT:  Connect/, 'with the SQLSTATE of a read-only server and a hint');
	note(sprintf 'refused %.0f ms after the worker had stopped', 1000 * ($refused_at - $since));
	cmp_ok($refused_at - $since, '<', $T, 'before anybody else can be primary');
	$session->say('SELECT count(*) FROM writes');
	ok($session->heard(qr/ERROR:  25006/, 5), 'reads of tables are refused');
	$session->say('BEGIN; SET TRANSACTION READ ONLY; SELECT name FROM writes LIMIT 1; ROLLBACK');
	ok($session->heard(qr/ERROR:  25006/, 5), 'in a read-only transaction, too');
	$session->say('CREATE TABLE more (a int)');
	ok($session->heard(qr/ERROR:  25006/, 5), 'so is DDL');
	$session->say("SELECT 'relations ' || count(*) FROM pg_class");
	ok($session->heard(qr/^relations \d+/m, 5), 'catalogs can be read');
	$session->say("SELECT 'refused ' || refused || ' ' || accepts_writes FROM pg_stat_pgraft_ha");
	ok($session->heard(qr/^refused [1-9]\d* false/m, 5), 'the view says so');

	my $new = $ha->wait_primary(not => $old, seconds => 20);
	isnt($new, $old, 'another server is primary');
	$ha->query($new, "INSERT INTO writes VALUES ('fence after', 1)");
	is($ha->query($old, 'SELECT pg_is_in_recovery()'), 'f', 'the old one was told nothing');
	my ($ok, undef, $error) = $ha->try_query($old, 'SELECT count(*) FROM writes');
	like($error, qr/25006/, 'it still refuses');
	kill('CONT', $worker);
	$ha->wait_until('the old primary is demoted in place',
		sub { ($ha->ask($old, "SELECT pg_is_in_recovery() AND own_role IN ('standby', 'rewind', 'reclone') FROM pg_stat_pgraft_ha") // '') eq 't' }, 30);
	is($ha->query($new, "SELECT count(*) FROM writes WHERE name = 'fence " . ($tried - 1) . "'"), 1,
		'what it had acknowledged last is with the new primary') if $tried > 1;
	$session->end;
	$ha->follows_or_rewound($old);
	$ha->wait_synchronous(3);
	return;
}

# ----------------------------------------------------------------
# seal
# ----------------------------------------------------------------

# The primary's consensus worker and postmaster stop; its sessions and its
# walsenders do not, and no fence holds them back.
sub seal
{
	my ($ha, $on) = @_;
	my $old = $ha->wait_primary;
	my $session = $ha->session($old);

	$ha->wait_synchronous(3);
	$session->say("INSERT INTO writes VALUES ('seal before', 1)");
	ok($session->heard(qr/^INSERT 0 1/m, 10), 'the primary acknowledges');
	$ha->freeze($old);
	my $new = $ha->wait_primary(not => $old, seconds => 20);
	$session->say("SELECT 'rows ' || count(*) FROM writes");
	ok($session->heard(qr/^rows \d+/m, 5), "without fence, the old primary, $old, serves reads although $new is primary");
	$session->say("INSERT INTO writes VALUES ('seal after', 1)");
	if ($on)
	{
		ok(!$session->heard(qr/^INSERT 0 1/m, $never), 'it acknowledges no write');
		$ha->query($new, "INSERT INTO writes VALUES ('seal new', 1)");
		pass('the new primary does');
	}
	else
	{
		ok($session->heard(qr/^INSERT 0 1/m, 10), 'without seal, it acknowledges a write');
		is($ha->query($new, "SELECT count(*) FROM writes WHERE name = 'seal after'"), 0, 'that the new primary has not');
	}
	$ha->thaw($old);
	return if !$on;
	ok($session->heard(qr/LOST/, 20), 'once it is told, its client loses the connection');
	unlike($session->{out}, qr/^INSERT 0 1/m, 'without an acknowledgement');
	$ha->wait_until('the old primary is a standby that follows or must be rewound',
		sub { ($ha->ask($old, "SELECT pg_is_in_recovery() AND own_role IN ('standby', 'rewind') FROM pg_stat_pgraft_ha") // '') eq 't' }, 30);
	$session->end;
	return;
}

# ----------------------------------------------------------------
# standby
# ----------------------------------------------------------------

sub always_standby
{
	my ($ha) = @_;
	my $primary = $ha->wait_primary;
	my ($standby) = grep { $_ != $primary } $ha->ids;

	for my $id ($standby, $primary)
	{
		my $node = $ha->node($id);
		my $logged = -s $node->logfile;

		$node->stop('immediate');
		unlink($node->data_dir . '/standby.signal');
		$ha->start_node($id);
		like(PostgreSQL::Test::Utils::slurp_file($node->logfile, $logged), qr/entering standby mode/,
			($id == $primary ? 'the old primary' : 'a standby') . ' starts as a standby, even without standby.signal');
		my ($ok) = $ha->try_query($id, "INSERT INTO writes VALUES ('standby $id', 1)");
		ok(!$ok || $ha->query($id, 'SELECT pgraft_is_primary()') eq 't', 'and accepts no write unless it was made primary');
	}
	return;
}

sub standby_disabled
{
	my ($ha) = @_;
	my $primary = $ha->wait_primary;
	my $node = $ha->node($primary);
	my $logged = -s $node->logfile;

	$node->append_conf('postgresql.conf', "pgraft.developer_disable = 'standby'\n");
	$node->stop('immediate');
	unlink($node->data_dir . '/standby.signal');
	$ha->start_node($primary);
	my $outcome = $ha->wait_until(
		'it answers',
		sub {
			my ($ok, undef, $error) = $ha->try_query($primary, "INSERT INTO writes VALUES ('standby disabled', 1)");

			return $ok ? 'written' : $error =~ /25006: cannot execute statement because/ ? 'fenced' : 0;
		},
		20);
	is($outcome, 'fenced', 'the fence alone refuses its writes');
	unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile, $logged), qr/entering standby mode/,
		'without standby, the old primary starts as one');
	return;
}
