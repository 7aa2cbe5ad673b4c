# Copyright (c) 2026, pgraft contributors

# The primary, which also leads, falls silent: whoever is elected because of that
# silence takes it for lost at once, and does not wait for it once more.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::Local qw(timegm);

my $T = 8;    # pgraft.election_timeout, seconds
my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\npgraft.election_timeout = ${T}s\n");
$cluster->form;

my $old = $cluster->wait_primary;
$cluster->wait_until('the primary leads', sub { ($cluster->ask($old, 'SELECT pgraft_is_leader()') // '') eq 't' }, 10 * $T);
my @others = grep { $_ != $old } $cluster->ids;
my %logged = map { $_ => -s $cluster->node($_)->logfile } @others;

$cluster->freeze_all($old);
my $new = $cluster->wait_primary(not => $old, seconds => 10 * $T);
isnt($new, $old, 'another server is primary');

my ($elected, $begun);
for my $id (@others)
{
	for (split /\n/, slurp_file($cluster->node($id)->logfile, $logged{$id}))
	{
		$elected = seconds($_) if /pgraft member $id became leader/;
		$begun = seconds($_) if /begins epoch \d+: the primary was silent/;
	}
}
ok(defined $elected && defined $begun, 'it was elected because the primary was silent');
note(sprintf 'the epoch began %.3f s after the election, with an election timeout of %d s', $begun - $elected, $T);
cmp_ok($begun - $elected, '<', $T / 2, 'and began the epoch without waiting for another election timeout');
$cluster->thaw($old);
$cluster->settle('after the thaw');
done_testing();

sub seconds
{
	my ($line) = @_;
	my ($year, $month, $day, $hour, $minute, $second) = $line =~ /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+\.\d+) UTC/
	  or die "no time in \"$line\"";

	return timegm(int($second), $minute, $hour, $day, $month - 1, $year) + $second - int($second);
}
