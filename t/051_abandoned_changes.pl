# Copyright (c) 2026, pgraft contributors

# Whoever asked for a change of members goes away in the middle of it.  The member
# that was asked sees it through, also when leadership moves meanwhile: nobody is
# left behind as a learner.

use strict;
use warnings FATAL => 'all';

use IPC::Run;
use PgraftCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftCluster->new(nodes => 3);
my $next = 4;

$cluster->start;
$cluster->form;

# The change waits for a server that has not been started, so the client is
# certainly gone before leadership moves.
asked_at_the_leader();
asked_at_a_follower();
leader_is_killed();
nobody_joins();
done_testing();

sub asked_at_the_leader
{
	my $leader = $cluster->wait_leader;
	my $new = begin_replacement($leader, $leader);

	$cluster->start($new);
	expect_replaced('asked at the leader', $leader, $leader, $new);
	return;
}

sub asked_at_a_follower
{
	my $leader = $cluster->wait_leader;
	my ($asked) = grep { $_ != $leader } $cluster->ids;
	my $new = begin_replacement($asked, $leader);

	$cluster->start($new);
	expect_replaced('asked at a follower', $asked, $leader, $new);
	return;
}

sub leader_is_killed
{
	my $leader = $cluster->wait_leader;
	my ($asked) = grep { $_ != $leader } $cluster->ids;
	my $new = begin_replacement($asked, $leader);

	$cluster->kill9($leader);
	$cluster->wait_leader(not => $leader);
	$cluster->start($new);
	expect_replaced('the leader was killed', $asked, $leader, $new);
	return;
}

# A server that never comes is taken out again.
sub nobody_joins
{
	my $leader = $cluster->wait_leader;
	my ($asked) = grep { $_ != $leader } $cluster->ids;
	my $before = members($leader);

	begin_replacement($asked, $leader, '5s');
	$cluster->wait_until('the newcomer is a member no more', sub { members($leader) eq $before });
	$cluster->wait_until('the log tells it', sub { log_of($asked) =~ /gave up the change of members that nobody waited for\n.*Nobody suitable answered/ });
	pass('a newcomer that does not come is taken out again');
	return;
}

# ----------------------------------------------------------------

# Asks server $asked to replace $goes by a new server, whose id is returned, and
# terminates the asking backend as soon as the newcomer is a learner.
sub begin_replacement
{
	my ($asked, $goes, $patience) = @_;
	my $new = $next++;
	my ($out, $err) = ('', '');

	$patience ||= '120s';
	$cluster->make_node($new);
	my $changes = sprintf q{[{"action":"add","node_id":%d,"address":"127.0.0.1","port":%d,"role":"voter"},{"action":"remove","node_id":%d}]},
	  $new, $cluster->port($new), $goes;
	my $client = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $cluster->node($asked)->connstr('postgres'),
			'-c', "SET pgraft.request_timeout = '$patience'", '-c', "SELECT pgraft_change_members('$changes')" ],
		'>', \$out, '2>', \$err, IPC::Run::timeout(180));
	$cluster->wait_until('the newcomer is a learner', sub { members($asked) =~ /\b$new learner\b/ });
	$cluster->query($asked, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pgraft_change_members%'});
	$client->finish;
	like($err, qr/terminating connection/, 'the client is gone');
	return $new;
}

sub expect_replaced
{
	my ($what, $asked, $gone, $new) = @_;
	my $at = $asked == $gone ? (grep { $_ != $gone && $_ != $new } $cluster->ids)[0] : $asked;
	my $expected = join(', ', map { "$_ voter" } grep { $_ != $gone } $cluster->ids);

	$cluster->wait_until("$what: the newcomer is a voter and the other one is gone", sub { members($at) eq $expected });
	pass("$what: the change is complete");
	$cluster->wait_until('the log tells it', sub { log_of($asked) =~ /completed the change of members that nobody waited for/ });
	pass('and told in the log of the member that was asked');
	$cluster->query($at, "SELECT pgraft_kv_put('after', '$new')");
	$cluster->drop_node($gone);
	$cluster->query($new, 'CREATE EXTENSION pgraft');
	$cluster->wait_converged;
	return;
}

# "id role" of all members, as server $at sees them
sub members
{
	my ($at) = @_;
	return $cluster->ask($at, q{SELECT string_agg(node_id || ' ' || role, ', ' ORDER BY node_id) FROM pgraft_get_nodes()}) // '';
}

sub log_of { my ($id) = @_; return slurp_file($cluster->node($id)->logfile); }
