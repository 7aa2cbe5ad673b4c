# PgraftBench.pm
#
# What the benchmarks share: where they run, the machine's description, and
# minimum, median and maximum in one form.
#
# PGRAFT_TMPDIR chooses the disk (the default /tmp may be no disk at all).

package PgraftBench;

use strict;
use warnings FATAL => 'all';

use PgraftArea;
use PgraftLab;
use POSIX ();

our $build = $ENV{BUILD} || 'build';

# Runs $work($area) as the unprivileged user and exits with its status.  With the
# option "network", the name of the program, it does so inside a network of its own
# (PgraftNamespaces) if that is possible here; then $work gets it as $area->{network}.
sub main
{
	my ($work, %options) = @_;
	my $area = PgraftArea->inherited;
	my ($refusal, $passed);

	$| = 1;
	if ($area)
	{
		$area->{network} = PgraftNamespaces->new;
		$work->($area);
		exit(0);
	}
	$area = PgraftArea->new(kind => 'bench');
	print_machine($area);
	$area->stage;
	$area->bring('scripts', "$build/bench", $options{network} // ());
	if ($options{network} && !($refusal = $area->network_refusal))
	{
		$passed = $area->run_in_network($options{network});
	}
	else
	{
		print "no network of its own: $refusal\n" if $refusal;
		$passed = $area->run_unprivileged(sub { $work->($area); return 0; });
	}
	$area->remove if $passed;
	print "logs are in $area->{directory}\n" if !$passed;
	exit($passed ? 0 : 1);
}

sub program
{
	my ($area, $name) = @_;
	my $program = "$area->{directory}/source/$build/bench/$name";

	die "$build/bench/$name is not there: run \"make bench-programs\" first\n" if !-x $program;
	return $program;
}

sub lab
{
	my ($area, %options) = @_;
	my $lab = PgraftLab->new(area => $area, writer => program($area, 'writer'), %options);

	$lab->start;
	$lab->form;
	return $lab;
}

sub print_machine
{
	my ($area) = @_;
	my $cpu = (map { /^model name\s*:\s*(.*)/ ? $1 : () } lines('/proc/cpuinfo'))[0] || 'unknown processor';
	my $cores = grep { /^processor\s*:/ } lines('/proc/cpuinfo');
	my ($file_system) = (split /\n/, `df -T '$area->{directory}' 2>/dev/null`)[1] // '';
	my @df = split ' ', $file_system;

	printf "%s, %d x %s, %s on %s, %s\n\n", POSIX::strftime('%Y-%m-%d', gmtime), $cores, $cpu,
	  $df[1] // 'unknown file system', $df[0] // 'unknown disk', $area->config('version');
	warn "this directory is no disk; set PGRAFT_TMPDIR\n" if ($df[1] // '') eq 'tmpfs';
	return;
}

sub lines
{
	my ($file) = @_;

	open(my $in, '<', $file) or return ();
	return <$in>;
}

sub sorted { return sort { $a <=> $b } @_; }
sub minimum { return (sorted(@_))[0]; }
sub maximum { return (sorted(@_))[-1]; }
sub median { my @values = sorted(@_); return ($values[ $#values / 2 ] + $values[ @values / 2 ]) / 2; }
sub percentile { my ($p, @values) = @_; @values = sorted(@values); return $values[ POSIX::ceil(@values * $p / 100) - 1 ]; }

# "  name   min   median   p90   max unit"
sub spread
{
	my ($name, $format, $unit, @values) = @_;

	if (!@values)
	{
		printf "  %-44s nothing measured\n", $name;
		return;
	}
	printf "  %-44s min $format  median $format  p90 $format  max $format %s\n", $name,
	  minimum(@values), median(@values), percentile(90, @values), maximum(@values), $unit;
	return;
}

# "name=value name=value" of our C programs
sub parse
{
	my ($line) = @_;
	return map { split /=/, $_, 2 } grep { /=/ } split ' ', $line // '';
}

1;
