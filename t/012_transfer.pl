# Copyright (c) 2026, pgraft contributors

# Leadership goes to and fro thirty times while clients at every server write,
# to a member that is named or to the best one.  What is proposed meanwhile is
# held, not refused: no client sees an error, no write is lost, and the pauses
# are printed.

use strict;
use warnings FATAL => 'all';

use PgraftCluster;
use Test::More;
use Time::HiRes qw(time);

use constant TRANSFERS => 30;

my $cluster = PgraftCluster->new(
	nodes => 3,
	conf => "pgraft.snapshot_interval = 1000000\npgraft.max_log_entries = 1000000\n");
$cluster->start;
$cluster->form;
$cluster->start_recorder("client$_", $_) for 1 .. 3;
my @writers = map { $cluster->start_writer("w$_", $_) } 1 .. 3;
$cluster->wait_writes($_, 20) for @writers;

my (@spans, %terms);
for my $round (1 .. TRANSFERS)
{
	my $leader = $cluster->wait_one_leader("before transfer $round", 20);

	# each third time to whoever has most of the log
	my $next = $round % 3 == 0 ? '' : $leader % 3 + 1;
	my $begin = time();

	$cluster->query($leader, "SELECT pgraft_transfer_leadership($next)");
	my $now = $cluster->wait_until("transfer $round: another server leads",
		sub {
			my ($it) = grep { $_ != $leader && ($cluster->ask($_, 'SELECT pgraft_is_leader()') // '') eq 't' } 1 .. 3;
			return $it;
		}, 20);
	push @spans, [ $begin, time() ];
	is($now, $next, "transfer $round goes to the one named") if $next;
	$terms{ $cluster->status($now, 'term') } = 1;
	$cluster->wait_writes($_, 3) for @writers;
}
is(scalar keys %terms, TRANSFERS, 'each transfer has a term of its own');

my @records = map { [ $_->stop ] } @writers;
my @record = map { @$_ } @records;
my @failed = grep { $_->{outcome} ne 'ack' } @record;
is(join("\n", map { "$_->{name}: $_->{outcome} $_->{state}" } @failed), '', 'no client saw an error, not even a documented one');
cmp_ok(scalar PgraftCluster::acknowledged(@record), '>=', 9 * TRANSFERS, 'writes went on');
cmp_ok($cluster->judge_history('after the transfers'), '>', 300, 'the clients were busy');
$cluster->wait_converged;
$cluster->check_record('after the transfers', @record);
show('from asking until the other leads', map { $_->[1] - $_->[0] } @spans);
show('longest pause that a client saw in a transfer', map { pause(@$_) } @spans);
done_testing();

# The longest time that one client had no acknowledgement, of those that touch
# the span.
sub pause
{
	my ($begin, $end) = @_;
	my $longest = 0;

	for my $record (@records)
	{
		my @acked = sort { $a <=> $b } map { $_->{end} } PgraftCluster::acknowledged(@$record);

		for my $i (1 .. $#acked)
		{
			next if $acked[$i] < $begin || $acked[ $i - 1 ] > $end;
			$longest = $acked[$i] - $acked[ $i - 1 ] if $acked[$i] - $acked[ $i - 1 ] > $longest;
		}
	}
	return $longest;
}

sub show
{
	my ($what, @seconds) = @_;
	my @ms = sort { $a <=> $b } map { $_ * 1000 } @seconds;

	note(sprintf '%s: min %.0f, median %.0f, max %.0f ms', $what, $ms[0], $ms[ $#ms / 2 ], $ms[-1]);
	return;
}
