# Copyright (c) 2026, pgraft contributors

# A short run of the torture test (scripts/torture), each run a cluster of its own: nothing is
# lost under a few faults of each kind; and the judgement finds what is lost when
# the guard against false acknowledgements is off.

use strict;
use warnings FATAL => 'all';

use File::Basename qw(dirname);
use PgraftNamespaces;
use PostgreSQL::Test::Utils;
use Test::More;

my $refusal = PgraftNamespaces::refusal();
plan(skip_all => $refusal) if defined $refusal;
my ($postgres) = grep { -x "$_/postgres" } split /:/, $ENV{PATH};

my ($passed, $said) = torture(FAULTS => 'kill power freeze cut split switchover crash', SEED => 1);
ok($passed, 'some faults, and nothing is lost') or diag($said);
like($said, qr/all servers compared.*all members the same/, 'the servers were compared');

($passed, $said) = torture(FAULTS => 'cancel', SEED => 3, DISABLE => 'guard');
ok(!$passed, 'without the guard it fails');
like($said, qr/lacks (acknowledged rows|transactions after an acknowledged step)/, 'because rows are missing') or diag($said);
done_testing();

# What the program says, and whether it ended well.
sub torture
{
	my (%environment) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir_short();
	my $child;

	# the area that scripts/torture would make itself
	symlink($ENV{PGRAFT_SOURCE}, "$directory/source") or die "could not link: $!";
	$child = open(my $out, '-|') // die "could not fork: $!";
	if ($child == 0)
	{
		open(STDERR, '>&', \*STDOUT);
		@ENV{ keys %environment } = values %environment;
		$ENV{PGRAFT_AREA} = "$directory:$postgres:pg_config";
		$ENV{MINUTES} = 0.5;
		PgraftNamespaces::run_again("$ENV{PGRAFT_SOURCE}/scripts/torture");
	}
	my @lines = <$out>;
	my $good = close($out);
	note(@lines);
	return ($good, join('', @lines));
}
