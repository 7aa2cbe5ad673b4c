# Copyright (c) 2026, pgraft contributors

# A server that was promoted dies before anybody followed it, another one is
# promoted with the same timeline number, and the first returns: it must not pass
# for a standby of the second.  Tried with a promotion that the cluster knew of
# and with one that it was never told of; then one that returns in time and wins.
# In the end, promoted servers die one after the other, with nobody waiting for
# the last to return.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
my @writers = map { $cluster->start_sql_writer("w$_") } 1 .. 2;
$cluster->wait_writes($_, 20) for @writers;

same_number('told', 'follow');
same_number('untold', 'promoted');
wins_late();
die_in_turn();

$cluster->wait_writes($_, 20) for @writers;
$cluster->settle('in the end', map { $_->stop } @writers);
my $primary = $cluster->wait_primary;
is($cluster->query($primary, "SELECT string_agg(name, ' ' ORDER BY name) FROM writes WHERE name ~ '^(told|untold)'"), '',
	'what no standby had was on the lost timelines alone');
done_testing();

# The standbys are held up before $step, so that nobody follows who is promoted.
sub same_number
{
	my ($what, $step) = @_;
	my $old = $cluster->wait_primary;
	my @standbys = grep { $_ != $old } $cluster->ids;
	my $epoch = $cluster->query($old, 'SELECT epoch FROM pg_stat_pgraft_ha');

	# nor may it go on alone
	$cluster->pause_at($_, $step, 'sync_begin') for @standbys;
	$cluster->kill_all($old);
	my $lost = $step eq 'follow' ? $cluster->wait_primary(not => $old) : $cluster->wait_paused('promoted', @standbys);
	my ($third) = grep { $_ != $lost } @standbys;
	is($cluster->query($lost, 'SELECT pg_is_in_recovery()'), 'f', "$what: server $lost is out of recovery");
	my $timeline = $cluster->query($lost, 'SELECT timeline_id FROM pg_control_checkpoint()');
	if ($step eq 'follow')
	{
		my $session = $cluster->session($lost);

		$session->say("INSERT INTO writes VALUES ('$what', 1)");
		$cluster->wait_until('its row waits for a standby',
			sub { $cluster->ask($lost, "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $session->{pid}") eq 't' });
		unlike($session->{out}, qr/^INSERT/m, "$what: it acknowledges nothing that nobody else has");
		$session->end;
	}
	my ($lost_file) = lost_history($lost);
	$cluster->kill_all($lost);

	$cluster->pause_at($third);
	$cluster->start_node($old);
	my $new = $cluster->wait_primary(not => $lost);
	my ($new_file) = lost_history($new);
	is($new_file, $lost_file, "$what: the next promoted server, $new, has a timeline of the same number");
	$cluster->follows_or_rewound((grep { $_ != $new && $_ != $lost } $cluster->ids)[0]);
	$cluster->wait_writes($writers[0], 20);

	$cluster->pause_at($lost);
	$cluster->start_node($lost);
	$cluster->wait_until("$what: the first one is judged",
		sub { ($cluster->ask($new, "SELECT state FROM pgraft_ha_members() WHERE node_id = $lost") // '') =~ /^(reclone|rewind|streaming)$/ });
	is($cluster->query($new, "SELECT state FROM pgraft_ha_members() WHERE node_id = $lost"), 'reclone',
		"$what: what pg_rewind could not tell apart must be cloned");
	$cluster->settle($what);
	$cluster->wait_writes($writers[0], 20);
	return;
}

# the history file of the newest timeline that a server has
sub lost_history
{
	my ($id) = @_;
	my @files = sort map { m{([0-9A-F]{8}\.history)$} } glob($cluster->node($id)->data_dir . '/pg_wal/*.history');

	return $files[-1];
}

# It promoted itself and died before it told anybody; when it is back in time, it
# has the newest WAL and is promoted once more.
sub wins_late
{
	my $old = $cluster->wait_primary;
	my @standbys = grep { $_ != $old } $cluster->ids;

	$cluster->pause_at($_, 'promoted') for @standbys;
	$cluster->kill_all($old);
	my $early = $cluster->wait_paused('promoted', @standbys);
	my ($third) = grep { $_ != $early } @standbys;
	$cluster->kill_all($early);
	$cluster->pause_at($_) for @standbys;
	$cluster->start_node($early);
	is($cluster->wait_primary, $early, 'a server that died before it could tell of its promotion is promoted again');
	is($cluster->follows_or_rewound($third), 'standby', 'the one that waited follows it');
	$cluster->wait_writes($writers[0], 20);
	$cluster->start_node($old);
	$cluster->settle('a second promotion');
	return;
}

# Two servers are up at any time; the primary among them dies at once.
sub die_in_turn
{
	my $dead = $cluster->wait_primary;

	$cluster->pause_at($_, 'sync_begin') for $cluster->ids;
	$cluster->kill_all($dead);
	for my $round (1 .. 4)
	{
		my $primary = $cluster->wait_primary;

		$cluster->kill_all($primary);
		$cluster->start_node($dead);
		$dead = $primary;
	}
	$cluster->start_node($dead);
	ok($cluster->wait_primary, 'after primaries died one after the other there is one');
	$cluster->settle('primaries that died one after the other');
	$cluster->pause_at($_) for $cluster->ids;
	return;
}
