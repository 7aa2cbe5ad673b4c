# PgraftWriter.pm
#
# A running writer (bench/writer.c) and its record so far, for tests, demo and
# benchmarks.

package PgraftWriter;

use strict;
use warnings FATAL => 'all';

use POSIX ();

# Options: program, file (of the record), prefix (of its keys), options (list for
# the program), servers (list of [id, connection string], in the order of trial);
# or, with the program's option --by-port, string (a connection string with several
# hosts) and ports (hash of id by port)
sub new
{
	my ($class, %options) = @_;
	my $pid = fork();

	die "could not fork: $!\n" if !defined $pid;
	if ($pid == 0)
	{
		exec($options{program}, '--output', $options{file}, '--prefix', $options{prefix},
			@{ $options{options} || [] }, $options{string} // (), map { $_->[1] } @{ $options{servers} })
		  or POSIX::_exit(127);
	}
	return bless {
		pid => $pid,
		owner => $$,
		file => $options{file},
		prefix => $options{prefix},
		ports => $options{ports},
		ids => [ map { $_->[0] } @{ $options{servers} } ],
		offset => 0,
		entries => [],
		acknowledged => 0,
	}, $class;
}

# Reads what was written since the last call.  Entries are hashes of outcome,
# kind, name, value, start, end (seconds since 1970), server (its id), state.
sub update
{
	my ($self) = @_;

	open(my $in, '<', $self->{file}) or return;
	seek($in, $self->{offset}, 0);
	while (my $line = <$in>)
	{
		last if $line !~ /\n\z/;
		my %entry;
		@entry{qw(outcome kind name value start end server state)} = split ' ', $line;
		$entry{$_} /= 1e6 for qw(start end);
		$entry{server} = $self->{ports} ? $self->{ports}{ $entry{server} } : $self->{ids}[ $entry{server} ];
		push @{ $self->{entries} }, \%entry;
		$self->{acknowledged}++ if $entry{outcome} eq 'ack';
		$self->{offset} += length($line);
	}
	return;
}

# all entries, or those behind the first $from
sub record
{
	my ($self, $from) = @_;

	$self->update;
	my $entries = $self->{entries};
	return @$entries if !$from;
	return @{$entries}[ $from .. $#$entries ];
}

# number of entries, of acknowledged ones
sub count { my ($self) = @_; $self->update; return scalar @{ $self->{entries} }; }
sub acknowledged { my ($self) = @_; $self->update; return $self->{acknowledged}; }

# Lets it finish its statement; returns its record.
sub stop
{
	my ($self) = @_;

	$self->end('TERM');
	return $self->record;
}

sub end
{
	my ($self, $signal) = @_;
	local $?;

	return if !defined $self->{pid};
	kill($signal, $self->{pid});
	waitpid($self->{pid}, 0);
	$self->{pid} = undef;
	return;
}

# A test that dies leaves no writer behind; a child of ours that ends does nothing.
sub DESTROY
{
	my ($self) = @_;

	$self->end('KILL') if $self->{owner} == $$;
	return;
}

1;
