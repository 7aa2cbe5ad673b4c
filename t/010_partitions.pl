# Copyright (c) 2026, pgraft contributors

# Partitions of every shape between five real servers, each in a network of its
# own.  Clients at every server write and read all the time; what they saw must
# be linearizable, nothing acknowledged may be missing, and after each shape is
# healed every member serves again.  How long that takes is printed.

use strict;
use warnings FATAL => 'all';

use PgraftNetwork;
use PgraftCluster;
use Test::More;
use Time::HiRes qw(time);

use constant T => 1;    # pgraft.election_timeout, in seconds

my $cluster = PgraftNetwork->new(
	nodes => 5,
	conf => "pgraft.request_timeout = 2s\npgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
$cluster->start;
$cluster->form;
for my $id (1 .. 5)
{
	$cluster->start_recorder("client$id", $id, grep { $_ != $id } 1 .. 5);
}
my $writer = $cluster->start_writer('w', 1 .. 5);

my @healed_ms;
my %shape = (
	'the leader is cut off' => \&leader_cut_off,
	'the leader is with a minority' => \&leader_in_minority,
	'a follower is cut off' => \&follower_cut_off,
	'the leader is deaf' => \&leader_deaf,
	'the leader is dumb' => \&leader_dumb,
	'a follower hears the leader and is heard by nobody' => \&follower_dumb,
	'two halves see one member in between' => \&bridge,
	'a chain' => sub { $cluster->chain(0, 1 .. 5); busy(2 * T) },
	'a ring' => sub { $cluster->chain(1, 1 .. 5); busy(2 * T) },
	'three islands, no majority' => \&islands,
	'nobody hears anybody' => \&silence,
	'a third of all packets is lost' => sub { $cluster->lose(0.33); busy(3 * T) });
for my $name (sort keys %shape)
{
	my $leader = $cluster->wait_leader;
	my @others = grep { $_ != $leader } 1 .. 5;

	$shape{$name}->($leader, @others);
	heal($name);
}
my @record = $writer->stop;
cmp_ok(scalar PgraftCluster::acknowledged(@record), '>', 100, 'many writes were acknowledged');
cmp_ok($cluster->judge_history('after all'), '>', 1000, 'the clients were busy');
$cluster->wait_converged;
$cluster->check_record('after all', @record);
my @sorted = sort { $a <=> $b } @healed_ms;
note(sprintf 'from healing until every member has acknowledged a write: %.0f to %.0f ms, median %.0f ms; T is %d ms',
	$sorted[0], $sorted[-1], $sorted[ $#sorted / 2 ], T * 1000);
done_testing();

# Something goes on for so long, at whichever member that can.
sub busy
{
	my ($seconds) = @_;
	my $until = time() + $seconds;

	$cluster->wait_until("it is $seconds s later", sub { time() > $until });
	return;
}

sub heal
{
	my ($name) = @_;
	my $begin = time();

	$cluster->heal;
	$begin = time();
	for my $id (1 .. 5)
	{
		$cluster->wait_until("member $id acknowledges a write after: $name",
			sub { defined $cluster->ask($id, "SELECT pgraft_kv_put('healed', '$id')") }, 10 * T);
	}
	push @healed_ms, (time() - $begin) * 1000;
	ok($cluster->wait_one_leader($name, 10 * T), "$name: all follow one leader afterwards, which alone leads");
	note(sprintf '%s: served by every member %.0f ms after healing', $name, $healed_ms[-1]);
	return;
}

# A leader among these, and its term is newer
sub wait_other_leader
{
	my ($not, $what) = @_;

	ok($cluster->wait_leader(not => $not, seconds => 10 * T), "$what: another one leads");
	return;
}

sub leads { my ($id) = @_; return ($cluster->ask($id, 'SELECT pgraft_is_leader()') // '') eq 't'; }
sub term { my ($id) = @_; return $cluster->status($id, 'term'); }

sub leader_cut_off
{
	my ($leader, @others) = @_;

	$cluster->split_into([$leader], \@others);
	wait_other_leader($leader, 'leader cut off');
	$cluster->wait_until('the one cut off knows that it leads no more', sub { !leads($leader) }, 10 * T);
	my ($ok, undef, $error) = $cluster->try_query($leader, "SELECT pgraft_kv_put('alone', '1')");
	ok(!$ok && $error =~ /\b(57P03|40003)\b/, 'it acknowledges nothing');
	return;
}

sub leader_in_minority
{
	my ($leader, $one, @rest) = @_;

	$cluster->split_into([ $leader, $one ], \@rest);
	$cluster->wait_until('the majority has a leader', sub { grep { leads($_) } @rest }, 10 * T);
	$cluster->wait_until('the minority has none', sub { !leads($leader) && !leads($one) }, 10 * T);
	ok(defined $cluster->ask($rest[0], "SELECT pgraft_kv_put('majority', '1')"), 'the majority goes on');
	return;
}

# It cannot win, and must not disturb the others when it comes back (PreVote).
sub follower_cut_off
{
	my ($leader, $one, @rest) = @_;
	my $term = term($leader);
	my $before = $cluster->status($one, 'prevotes');

	$cluster->split_into([$one], [ $leader, @rest ]);
	$cluster->wait_until('the one cut off asks for votes',
		sub { $cluster->status($one, 'prevotes') > $before }, 10 * T);
	$cluster->heal;
	$cluster->wait_until('it follows again', sub { ($cluster->ask($one, 'SELECT pgraft_get_leader()') // '') eq $leader }, 10 * T);
	is(term($leader), $term, 'a follower that comes back disturbs nobody: same term');
	ok(leads($leader), 'and the same leader');
	return;
}

# Its heartbeats arrive everywhere, no answer comes back: it must step down.
sub leader_deaf
{
	my ($leader, @others) = @_;

	$cluster->deafen($leader, @others);
	$cluster->wait_until('the deaf leader gives up', sub { !leads($leader) }, 10 * T);
	wait_other_leader($leader, 'leader deaf');
	return;
}

# It hears everybody, nobody hears it.
sub leader_dumb
{
	my ($leader, @others) = @_;

	$cluster->deafen($_, $leader) for @others;
	wait_other_leader($leader, 'leader dumb');
	return;
}

sub follower_dumb
{
	my ($leader, $one, @rest) = @_;
	my $term = term($leader);

	$cluster->deafen($_, $one) for $leader, @rest;
	busy(3 * T);
	is(term($leader), $term, 'a follower that nobody hears changes no term');
	ok(leads($leader), 'and no leader');
	return;
}

# Two of each half and one who sees all: some majority can always be had.
sub bridge
{
	my ($leader, $a, $b, $c, $middle) = @_;

	$cluster->split_into([ $leader, $a ], [ $b, $c ]);
	$cluster->wait_until('somebody serves', sub {
		grep { defined $cluster->ask($_, "SELECT pgraft_kv_put('bridge', '1')") } $middle, $leader, $b;
	}, 20 * T);
	my @terms = map { term($_) } 1 .. 5;
	busy(3 * T);
	cmp_ok(term($middle) - $terms[ $middle - 1 ], '<=', 2, 'leadership does not go to and fro over the bridge');
	return;
}

sub islands
{
	my ($leader, $a, $b, $c, $d) = @_;

	$cluster->split_into([ $leader, $a ], [ $b, $c ], [$d]);
	$cluster->wait_until('nobody leads', sub { !grep { leads($_) } 1 .. 5 }, 10 * T);
	my ($ok, undef, $error) = $cluster->try_query($b, "SELECT pgraft_kv_put('island', '1')");
	ok(!$ok && $error =~ /\b(57P03|40003)\b/, 'without a majority nothing is acknowledged');
	return;
}

sub silence
{
	$cluster->split_into(map { [$_] } 1 .. 5);
	$cluster->wait_until('nobody leads', sub { !grep { leads($_) } 1 .. 5 }, 10 * T);
	return;
}
