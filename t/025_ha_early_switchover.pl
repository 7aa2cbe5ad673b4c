# Copyright (c) 2026, pgraft contributors

# A switchover away from a server that was promoted a moment ago, before its first
# checkpoint: such a server may not be started as a standby yet.  It must wait for
# that checkpoint and then hand over, and not come back as a primary that has to
# demote itself once more.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
my $writer = $cluster->start_sql_writer('w');
$cluster->wait_writes($writer, 20);
$cluster->wait_synchronous(3);

for my $round (1 .. 4)
{
	my $old = $cluster->wait_primary;
	my ($target, $third) = grep { $_ != $old } $cluster->ids;

	is($cluster->query($target, "SELECT pgraft_switchover($target)"), $target, "round $round: to server $target");

	# back, as soon as the new epoch is there; from a server whose sessions stay
	$cluster->wait_until(
		"round $round: the way back is taken",
		sub { ($cluster->ask($third, "SELECT pgraft_switchover($old)") // '') eq $old });
	is($cluster->wait_primary, $old, "round $round: and back at once");
	$cluster->wait_streaming($target);
	$cluster->wait_synchronous(3);
}
for my $id ($cluster->ids)
{
	unlike(slurp_file($cluster->node($id)->logfile), qr/starts this server as a fenced primary/,
		"server $id was never demoted before its first checkpoint");
}
$cluster->wait_writes($writer, 20);
$cluster->check_rows('in the end', $writer->stop);
done_testing();
