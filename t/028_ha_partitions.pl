# Copyright (c) 2026, pgraft contributors

# The network between three servers in HA mode is cut in several shapes, with
# clients on either side: the primary alone, the primary dumb, the consensus of the
# primary alone while its standbys still hear its WAL, and a standby alone.  A
# primary that is cut off acknowledges nothing, serves no table once another server
# has accepted a row, and is a standby when it hears the others again.

use strict;
use warnings FATAL => 'all';

use PgraftHaNetwork;
use Test::More;
use Time::HiRes qw(time usleep);

my $cluster = PgraftHaNetwork->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
my @writers = map { $cluster->start_sql_writer("at$_", servers => [$_], pause => 5) } $cluster->ids;

cut_off('alone', sub { my ($old, @others) = @_; $cluster->split_into([$old], [@others]) });
cut_off('dumb', sub { my ($old, @others) = @_; $cluster->deafen($_, $old) for @others });
cut_off('deaf', sub { my ($old, @others) = @_; $cluster->deafen($old, @others) });
cut_off('without consensus', sub {
	my ($old, @others) = @_;
	$cluster->deafen_consensus($old, @others);
	$cluster->deafen_consensus($_, $old) for @others;
});
standby_cut_off();

$cluster->settle('in the end', map { $_->stop } @writers);
done_testing();

sub cut_off
{
	my ($what, $cut) = @_;
	my $old = $cluster->wait_primary;
	my @others = grep { $_ != $old } $cluster->ids;
	my ($reader, $hung, $open) = map { $cluster->session($old) } 1 .. 3;

	$cluster->wait_writes($writers[ $old - 1 ], 10);
	$reader->say('SELECT count(*) > 0 FROM writes');
	ok($reader->heard(qr/^t$/m, 10), "$what: server $old serves reads");
	$open->say("BEGIN; INSERT INTO writes VALUES ('open $what', 1)");
	ok($open->heard(qr/^INSERT/m, 10), "$what: a transaction is open");
	$cut->($old, @others);
	$hung->say("INSERT INTO writes VALUES ('$what', 1)");

	# one read after the other until it refuses, and longer
	my ($refused_at, $last_good);
	my $new_at = 0;
	my $others_accept = sub {
		return grep { ($cluster->ask($_, 'SELECT pgraft_is_primary() AND NOT pg_is_in_recovery()') // '') eq 't' } @others;
	};
	my $cut_at = time();
	$cluster->wait_until(
		"$what: server $old refuses and another is primary",
		sub {
			my $began = time();
			$reader->say('SELECT count(*) > 0 FROM writes');
			return 0 if !$reader->heard(qr/^t$|ERROR|LOST/m, 20);
			if ($reader->{out} =~ /^t$/m)
			{
				$last_good = $began;
			}
			else
			{
				$refused_at ||= $began;
			}
			$new_at ||= time() if $others_accept->();
			return $refused_at && $new_at;
		});
	my ($new) = $others_accept->();

	cmp_ok($last_good // 0, '<', $new_at, "$what: server $old served its last read before another, $new, was seen to be primary");
	note(sprintf '%s: last read %.0f ms, first refusal %.0f ms, another primary seen %.0f ms after the cut',
		$what, map { 1000 * (($_ || $cut_at) - $cut_at) } $last_good, $refused_at, $new_at);
	$cluster->wait_writes($writers[ $new - 1 ], 10);
	pass("$what: clients of server $new write");
	my ($ok, undef, $error) = $cluster->try_query($old, 'SELECT count(*) FROM writes');
	ok($cluster->query($old, 'SELECT pg_is_in_recovery()') eq 't' || $error =~ /25006/, "$what: server $old serves no table as a primary");
	($ok) = $cluster->try_query($old, "INSERT INTO writes VALUES ('late $what', 1)");
	ok(!$ok, "$what: nor does it accept a row");
	$open->say('COMMIT');
	ok(!$open->heard(qr/^COMMIT/m, 0.2), "$what: it does not commit what was begun before");

	$cluster->heal;
	$cluster->wait_until("$what: server $old is demoted", sub { ($cluster->ask($old, 'SELECT pg_is_in_recovery()') // '') eq 't' });
	$cluster->settle($what);
	ok($open->heard(qr/LOST|ERROR|ROLLBACK/, 20), "$what: its client is told so");
	unlike($open->{out}, qr/^COMMIT/m, "$what: and never gets an acknowledgement");

	# where standbys still heard its WAL, they may have confirmed it before they were sealed
	ok($hung->heard(qr/LOST|ERROR|^INSERT/m, 20), "$what: so is the client that wrote right after the cut");
	my $acknowledged = $hung->{out} =~ /^INSERT/m;
	ok(!$acknowledged, "$what: nor does that") if $what =~ /alone|dumb/;
	is($cluster->query($cluster->wait_primary, "SELECT count(*) FROM writes WHERE name = '$what'"), 1, "$what: what was acknowledged is there")
	  if $acknowledged;
	is($cluster->query($cluster->wait_primary, "SELECT count(*) FROM writes WHERE name = 'open $what'"), 0, "$what: what was refused is not");
	$_->end for $reader, $hung, $open;
	$cluster->wait_writes($writers[ $cluster->wait_primary - 1 ], 10);
	return;
}

sub standby_cut_off
{
	my $primary = $cluster->wait_primary;
	my ($cut, $other) = grep { $_ != $primary } $cluster->ids;
	my $epoch = $cluster->query($primary, 'SELECT epoch FROM pg_stat_pgraft_ha');

	$cluster->split_into([$cut], [ $primary, $other ]);
	$cluster->wait_until('the standby that is cut off is missed',
		sub { $cluster->ask($primary, "SELECT state = 'lagging' FROM pgraft_ha_members() WHERE node_id = $cut") eq 't' });
	$cluster->wait_writes($writers[ $primary - 1 ], 50);
	my ($ok) = $cluster->try_query($cut, "INSERT INTO writes VALUES ('cut standby', 1)");
	ok(!$ok, 'a standby that is cut off accepts nothing');
	$cluster->heal;
	$cluster->settle('a standby cut off');
	is($cluster->query($primary, 'SELECT epoch FROM pg_stat_pgraft_ha'), $epoch, 'a standby that was cut off brings no new epoch');
	return;
}
