# PgraftFiles.pm
#
# The files of a member as a test damages them: bytes in, bytes out.  Nothing here
# knows of servers.  The format of a segment is described in src/storage/format.c.

package PgraftFiles;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use Fcntl qw(SEEK_SET);

our @EXPORT = qw(last_segment end_of_data slurp_bytes overwrite);

# the segment of a member's directory that was written last
sub last_segment
{
	my ($directory) = @_;
	my ($best, $sequence) = (undef, -1);

	for my $candidate (glob("$directory/log-*"))
	{
		my $header = slurp_bytes($candidate, 0, 24);
		next if substr($header, 0, 8) ne 'PGRAFTLG';
		my $number = unpack('Q<', substr($header, 16, 8));
		($best, $sequence) = ($candidate, $number) if $number > $sequence;
	}
	die "\"$directory\" has no log segment" if !defined $best;
	return $best;
}

# Where the zeros begin that a segment is filled with; the last thing before is
# the mark behind the last batch.
sub end_of_data
{
	my ($path) = @_;
	my $bytes = slurp_bytes($path, 0, -s $path);

	$bytes =~ s/\0+\z//;
	return int((length($bytes) + 7) / 8) * 8;
}

sub slurp_bytes
{
	my ($path, $from, $length) = @_;

	open(my $in, '<:raw', $path) or die "could not open \"$path\": $!";
	seek($in, $from, SEEK_SET);
	read($in, my $bytes, $length);
	close($in);
	return $bytes;
}

sub overwrite
{
	my ($path, $from, $bytes) = @_;

	open(my $stream, '+<:raw', $path) or die "could not open \"$path\": $!";
	seek($stream, $from, SEEK_SET);
	print $stream $bytes;
	close($stream) or die "could not write \"$path\": $!";
	return;
}

1;
