# Copyright (c) 2026, pgraft contributors

# kill -9 of the leader's server again and again while clients write; then of all
# servers at once.  Nothing that was acknowledged may be missing anywhere, and
# all members must have the same state.  How long each election took is printed;
# only a generous bound is asserted here (bench/failover measures).
#
# PGRAFT_KILLS is the number of kills (20), PGRAFT_SEED repeats a run's choices.

use strict;
use warnings FATAL => 'all';

use List::Util qw(max min shuffle);
use PgraftCluster;
use Test::More;
use Time::HiRes qw(time);

my $kills = $ENV{PGRAFT_KILLS} || 20;
my $seed = srand($ENV{PGRAFT_SEED} || time());
note("PGRAFT_SEED=$seed");

# the log must not be compacted: every entry is looked up at the end
my $cluster = PgraftCluster->new(conf => "pgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
$cluster->start;
$cluster->form;

# one client for each server, so that two of them are not at the one that dies
my @writers;
for my $first (1 .. 3)
{
	push @writers, $cluster->start_writer("w$first", $first, shuffle(grep { $_ != $first } 1 .. 3));
}
$cluster->wait_writes($_, 5) for @writers;

my (@elected_ms, @written_ms);
for my $round (1 .. $kills)
{
	my $leader = $cluster->wait_leader;

	# at a random moment of the stream of writes
	$cluster->wait_writes($writers[ rand @writers ], 1 + int(rand(50)));
	my %seen = map { $_->{prefix} => $_->count } @writers;
	my $killed_at = time();
	$cluster->kill9($leader);
	my $next = $cluster->wait_leader(not => $leader, seconds => 10);
	push @elected_ms, (time() - $killed_at) * 1000;
	$cluster->wait_until(
		'a write is acknowledged after the kill',
		sub {
			my @after = grep { $_->{start} > $killed_at && $_->{server} != $leader }
			  map { PgraftCluster::acknowledged($_->record($seen{ $_->{prefix} })) } @writers;
			return 0 if !@after;
			push @written_ms, (min(map { $_->{end} } @after) - $killed_at) * 1000;
			return 1;
		},
		10);
	note(sprintf 'kill %d: server %d, then %d leads; seen after %.0f ms, next write acknowledged after %.0f ms',
		$round, $leader, $next, $elected_ms[-1], $written_ms[-1]);
	$cluster->start_node($leader);
	$cluster->wait_until(
		"server $leader follows again",
		sub {
			return ($cluster->ask($leader, 'SELECT pgraft_get_leader()') || 0) > 0;
		});
}
is(scalar @written_ms, $kills, "after each of $kills kills another server led and writes went on");
note(sprintf 'new leader seen after (ms, a query takes some of it): min %.0f median %.0f max %.0f',
	min(@elected_ms), median(@elected_ms), max(@elected_ms));
note(sprintf 'first write acknowledged after (ms): min %.0f median %.0f max %.0f',
	min(@written_ms), median(@written_ms), max(@written_ms));

$cluster->wait_writes($writers[0], 20);
my @record = map { $_->stop } @writers;
note(counts(@record));
my $state = $cluster->wait_converged;
pass("same state on all members: $state");
$cluster->check_record('after the kills', @record);

# the whole cluster at once, in the middle of writing
@writers = map { $cluster->start_writer("all$_", $_) } 1 .. 3;
$cluster->wait_writes($_, 20) for @writers;
$cluster->kill9(1 .. 3);
@record = (@record, map { $_->stop } @writers);
$cluster->start(shuffle(1 .. 3));
$cluster->wait_leader;
$cluster->query(2, "SELECT pgraft_kv_put('after', 'all')");
$cluster->wait_converged;
$cluster->check_record('after all were killed at once', @record);

# A leader whose followers hear nothing any more, then dies: what it wrote in that
# time is in no other log, so it must not have acknowledged it.
my $leader = $cluster->wait_leader;
my @others = grep { $_ != $leader } 1 .. 3;
my $lonely = $cluster->start_writer('lonely', $leader);
$cluster->wait_writes($lonely, 20);
$cluster->freeze($_) for @others;
my $last = $cluster->status($leader, 'last_index');
$cluster->query($leader, q{SET pgraft.request_timeout = '300ms';
	DO $$ BEGIN PERFORM pgraft_kv_put('unheard', '1'); EXCEPTION WHEN OTHERS THEN NULL; END $$});
cmp_ok($cluster->status($leader, 'last_index'), '>', $last, 'a leader alone writes its log');
$cluster->kill9($leader);
push @record, $lonely->stop;
$cluster->kill_frozen($_) for @others;
$cluster->start(@others);
$cluster->wait_leader;
$cluster->query($others[0], "SELECT pgraft_kv_put('after', 'lonely')");
$cluster->start_node($leader);
$cluster->query($leader, "SELECT pgraft_kv_put('after', 'return')");
$cluster->wait_converged;
$cluster->check_record('after a leader that nobody heard', @record);

done_testing();

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[ $#sorted / 2 ];
}

sub counts
{
	my %count;
	$count{ $_->{outcome} }++ for @_;
	return join(', ', map { "$count{$_} $_" } sort keys %count);
}
