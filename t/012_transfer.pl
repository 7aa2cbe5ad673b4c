# Copyright (c) 2026, pgraft contributors

# Leadership goes to and fro thirty times while clients at every server write.
# What is proposed meanwhile is held, not refused: no client sees an error, no
# write is lost, and the pauses are printed.

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

my (@ms, %terms);
for my $round (1 .. TRANSFERS)
{
	my $leader = $cluster->wait_leader;
	my $next = $leader % 3 + 1;
	my $begin = time();

	$cluster->query($leader, "SELECT pgraft_transfer_leadership($next)");
	$cluster->wait_until("transfer $round: server $next leads",
		sub { ($cluster->ask($next, 'SELECT pgraft_is_leader()') // '') eq 't' }, 20);
	push @ms, (time() - $begin) * 1000;
	$terms{ $cluster->status($next, 'term') } = 1;
	$cluster->wait_writes($_, 3) for @writers;
}
is(scalar keys %terms, TRANSFERS, 'each transfer has a term of its own');

my @record = map { $_->stop } @writers;
my @failed = grep { $_->{outcome} ne 'ack' } @record;
is(scalar @failed, 0, 'no client saw an error')
  or diag(join("\n", map { "$_->{name}: $_->{outcome}" } @failed));
cmp_ok(scalar PgraftCluster::acknowledged(@record), '>=', 9 * TRANSFERS, 'writes went on');
cmp_ok($cluster->judge_history('after the transfers'), '>', 300, 'the clients were busy');
$cluster->wait_converged;
$cluster->check_record('after the transfers', @record);
my @sorted = sort { $a <=> $b } @ms;
note(sprintf 'from asking until the other leads: %.0f to %.0f ms, median %.0f ms',
	$sorted[0], $sorted[-1], $sorted[ $#sorted / 2 ]);
done_testing();
