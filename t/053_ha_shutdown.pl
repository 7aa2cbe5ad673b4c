# Copyright (c) 2026, pgraft contributors

# A primary that is shut down in order sends its last WAL, and with it the
# checkpoint, after its workers have ended: the others wait for it, so a server
# that is only restarted follows the next primary as it is.  A checkpoint that takes
# long is not waited for.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use Test::More;

# half of the time is what members wait for the last WAL
my $cluster = PgraftHa->new(nodes => 3, conf => "pgraft.election_timeout = 8s\n");
$cluster->form;
my $writer = $cluster->start_sql_writer('shutdown');

for my $round (1 .. 3)
{
	my $old = $cluster->wait_primary;
	my $session = $cluster->session($old);

	$cluster->wait_writes($writer, 20);
	$session->say("BEGIN; INSERT INTO writes VALUES ('open', $round); SELECT 'inserted'");
	ok($session->heard(qr/inserted/, 30), "round $round: a transaction is open");
	$cluster->node($old)->stop('fast');
	isnt($cluster->wait_primary(not => $old), $old, 'after a fast shutdown another server is primary');
	$cluster->wait_writes($writer, 20);
	$cluster->start_node($old);
	is($cluster->follows_or_rewound($old), 'standby', 'the old one follows it without a rewind');
	$cluster->wait_synchronous(3);
	$session->end;
}

# ----------------------------------------------------------------
# a checkpoint that does not end
# ----------------------------------------------------------------

my $old = $cluster->wait_primary;
my $checkpointer = $cluster->query($old, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
kill('STOP', $checkpointer) == 1 or die 'could not stop the checkpointer';
kill('INT', $cluster->node($old)->{_pid});
my $new = $cluster->wait_primary(not => $old, seconds => 60);
isnt($new, $old, 'another server is primary while the old one is still at its checkpoint');
ok(kill(0, $checkpointer), 'which has not ended');
$cluster->wait_writes($writer, 20);
$cluster->kill_all($old);
$cluster->start_node($old);
$cluster->settle('in the end', $writer->stop);
is($cluster->query($cluster->wait_primary, "SELECT count(*) FROM writes WHERE name = 'open'"), 0, 'what was open at a shutdown is not there');
done_testing();
