# Copyright (c) 2026, pgraft contributors

# Several changes of membership as one: under load, two of three members, the
# leader among them, are replaced at once.  The log shows a single joint
# configuration in which the new voters take over, and nothing else changes
# voters.  What cannot be done as a whole is not done in part.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use Test::More;

my $cluster = PgraftCluster->new(nodes => 3);
$cluster->start;
$cluster->form;
for my $id (4, 5)
{
	$cluster->make_node($id);
	$cluster->start($id);
}

sub change
{
	my ($at, @changes) = @_;
	return $cluster->try_query($at, "SELECT pgraft_change_members('[" . join(',', @changes) . "]')");
}

sub added
{
	my ($id, $role, $port) = @_;
	$port ||= $cluster->port($id);
	return qq({"action":"add","node_id":$id,"address":"127.0.0.1","port":$port,"role":"$role"});
}

sub removed { my ($id) = @_; return qq({"action":"remove","node_id":$id}); }
sub demoted { my ($id) = @_; return qq({"action":"demote","node_id":$id}); }
sub promoted { my ($id, $role) = @_; return qq({"action":"promote","node_id":$id,"role":"$role"}); }

# "id role" of all members, as server $at sees them
sub members
{
	my ($at) = @_;
	return $cluster->query($at, q{SELECT string_agg(node_id || ' ' || role, ', ' ORDER BY node_id) FROM pgraft_get_nodes()});
}

# The roles that each configuration after $index has given, oldest first; the
# format is described in src/raft/config.c.
sub configurations
{
	my ($at, $index) = @_;
	my $rows = $cluster->query($at,
		"SELECT encode(data, 'hex') FROM pgraft_log_entries($index + 1, pgraft_get_applied_index()) WHERE kind = 'config'");
	my @found;

	for my $row (split /\n/, $rows)
	{
		my $bytes = pack('H*', $row);
		push @found, vec($bytes, 1, 8) & 1 ? 'joint' : 'simple';
	}
	return @found;
}

# two out, two in, asked of the one who stays and does not lead
my $leader = $cluster->wait_leader;
my ($stays, $goes) = grep { $_ != $leader } 1 .. 3;
my $before = members($stays);
my $writer = $cluster->start_writer('w', $stays, $leader, $goes);
$cluster->wait_writes($writer, 200);

my ($ok, $out, $err) = change($stays, added(4, 'voter'), added(5, 'voter', 1), removed($goes));
ok(!$ok, 'a member that does not answer: refused');
like($err, qr/ERROR: +08001: /, 'because it does not answer');
is(members($stays), $before, 'and nothing has changed: the other one is not a member either');

my $voters = join(', ', map { "$_ voter" } 1 .. 3);
($ok, $out, $err) = change($stays, map { removed($_) } 1 .. 3);
like($err, qr/ERROR: +55000: /, 'without any voter: refused');
($ok, $out, $err) = change($stays, added(4, 'voter'), removed(1), removed(77));
like($err, qr/ERROR: +42704: .*\n?.*There is no member 77/s, 'a stranger: refused');
($ok, $out, $err) = change($stays, added(4, 'voter'), promoted($goes, 'voter'));
like($err, qr/ERROR: +22023: .*Member $goes is not a learner/s, 'promoting a voter: refused');
($ok, $out, $err) = change($stays, added(4, 'voter'), added($goes, 'voter', 1));
like($err, qr/ERROR: +42710: /, 'adding a member: refused');
is(members($stays), $voters, 'and nothing has changed');

my $index = $cluster->status($stays, 'applied_index');
($ok, $out, $err) = change($stays, added(4, 'voter'), added(5, 'voter'), removed($leader), removed($goes));
ok($ok, 'two members are replaced at once') or diag($err);
is(members($stays), join(', ', map { "$_ voter" } sort { $a <=> $b } $stays, 4, 5), 'the list is as asked for when the call returns');
is(join(' ', configurations($stays, $index)), 'joint simple joint simple',
	'two learners entered together; one joint configuration replaced the voters');
$cluster->wait_leader(not => $leader);
for my $id ($leader, $goes)
{
	$cluster->wait_until("removed member $id knows it",
		sub { ($cluster->ask($id, 'SELECT pgraft_get_worker_state()') // '') eq 'removed' });
	pass("removed member $id knows it");
}
$cluster->wait_writes($writer, 200);
my @record = $writer->stop;
cmp_ok(scalar(grep { $_->{outcome} eq 'unknown' } @record), '<=', 1, 'the writer saw it as a delay');
$cluster->drop_node($_) for $leader, $goes;
$cluster->query($_, 'CREATE EXTENSION pgraft') for 4, 5;
$cluster->wait_converged;
$cluster->check_record('after the replacement', @record);

# asked of the leader itself, which is demoted, while another becomes a witness
$leader = $cluster->wait_leader;
my ($one, $other) = grep { $_ != $leader } $cluster->ids;
($ok, $out, $err) = change($one, demoted($other));
ok($ok, 'a list of one') or diag($err);
($ok, $out, $err) = change($leader, demoted($leader), promoted($other, 'voter'));
ok($ok, 'the leader and a learner change places') or diag($err);
is(members($one), join(', ', map { $_ == $leader ? "$_ learner" : "$_ voter" } $cluster->ids), 'and roles');
isnt($cluster->wait_leader(not => $leader), $leader, 'another one leads');

# nobody who votes now stays: the leader is replaced without handing over
my $last = $cluster->wait_leader;
($other) = grep { $_ != $last && $_ != $leader } $cluster->ids;
($ok, $out, $err) = change($leader, demoted($other));
ok($ok, 'a single voter is left') or diag($err);
$last = $cluster->wait_leader;
($ok, $out, $err) = change($leader, promoted($leader, 'voter'), promoted($other, 'voter'), removed($last));
ok($ok, 'it is removed for two learners that become voters') or diag($err);
is(members($leader), join(', ', map { "$_ voter" } sort { $a <=> $b } $leader, $other), 'and they are the members');
$cluster->drop_node($last);
$cluster->query($leader, q{SELECT pgraft_kv_put('still', 'works')});
$cluster->wait_converged;
pass('same state on both');

done_testing();
