# Copyright (c) 2026, pgraft contributors

# Switchovers that come to nothing: the target does not follow, dies once the
# primary has stopped, or the primary dies before it has handed over.  There is a
# primary again each time, and no acknowledged row is missing.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
my $writer = $cluster->start_sql_writer('w');
$cluster->wait_writes($writer, 20);

# ----------------------------------------------------------------
# a target that does not follow: the primary never stops
# ----------------------------------------------------------------

my $old = $cluster->wait_primary;
my ($target, $third) = grep { $_ != $old } $cluster->ids;
my $epoch = epoch($old);
my $receiver = $cluster->walreceiver($target);
my $session = $cluster->session($third);

kill('STOP', $receiver) == 1 or die 'could not stop the walreceiver';
$cluster->wait_writes($writer, 20);
$cluster->query($old, "SELECT pg_logical_emit_message(false, 'much', repeat('x', 3000000))");
my $refused = $cluster->query($old, 'SELECT refused FROM pg_stat_pgraft_ha');
$session->say("SELECT pgraft_switchover($target)");
$cluster->wait_until('the switchover is prepared',
	sub { ($cluster->ask($old, 'SELECT phase FROM pg_stat_pgraft_ha') // '') eq 'draining' });
$cluster->wait_writes($writer, 20);
is($cluster->query($old, 'SELECT pgraft_is_primary()'), 't', 'while it waits for its target the primary is one');
ok($session->heard(qr/ERROR:  55000: the switchover was given up/, 60), 'a switchover to a server that does not follow is given up');
kill('CONT', $receiver);
is(epoch($old), $epoch, 'in the same epoch');
is($cluster->query($old, 'SELECT refused FROM pg_stat_pgraft_ha'), $refused, 'and the primary refused nothing meanwhile');
$cluster->wait_synchronous(3);

# ----------------------------------------------------------------
# the target dies when the primary has stopped
# ----------------------------------------------------------------

$cluster->pause_at($target, 'report');
$session->say("SELECT pgraft_switchover($target)");
$cluster->wait_paused('report', $target);
$cluster->wait_phase($third, $epoch, 'sealing');
$cluster->kill_all($target);
my $new = $cluster->wait_primary(not => $target, seconds => 20);
cmp_ok(epoch($new), '>', $epoch, "with the target gone server $new is primary of a newer epoch");
$cluster->wait_writes($writer, 20);
$cluster->pause_at($target);
$session->end;
$cluster->start_node($target);
$cluster->settle('after the target had died');

# ----------------------------------------------------------------
# the primary dies before its word
# ----------------------------------------------------------------

$old = $cluster->wait_primary;
($target, $third) = grep { $_ != $old } $cluster->ids;
$epoch = epoch($old);
$session = $cluster->session($third);
$cluster->pause_at($old, 'drained');
$session->say("SELECT pgraft_switchover($target)");
$cluster->wait_paused('drained', $old);

# whoever comes now might be told of rows that the target does not have
my ($ok, undef, $error) = $cluster->try_query($old, "INSERT INTO writes VALUES ('after the last', 1)");
ok(!$ok, 'a primary that has stopped accepts no row of a new session');
like($error, qr/25006/, 'and says that it is none');
is($cluster->query($old, 'SELECT pg_is_in_recovery() OR pgraft_is_primary()'), 'f', 'before it is a standby');
$cluster->kill_all($old);
$new = $cluster->wait_primary(not => $old, seconds => 20);
isnt($new, $old, 'when the primary dies in the middle another server is primary');
$cluster->pause_at($old);
$session->end;
$cluster->start_node($old);
$cluster->settle('in the end', $writer->stop);
done_testing();

sub epoch
{
	my ($id) = @_;

	return $cluster->query($id, 'SELECT epoch FROM pg_stat_pgraft_ha');
}
