# PgraftCtl.pm
#
# Servers that a test makes by pgraftctl as a user would, and nothing of
# PostgreSQL::Test::Cluster's: where they are, how to call pgraftctl and what must
# come of it, and how to ask them.

package PgraftCtl;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw($directory $sockets $user %data %port %consensus_port
  set_up member_options connection pgraftctl refused succeeds ask sql wait_until wait_primary);

our ($directory, $sockets, $user, %data, %port, %consensus_port);

# seconds that wait_until() waits, and what it does between two looks
our $patience = 60;
our $meanwhile = sub { };

# Places for three servers, in a directory that is kept with the logs when a test
# fails.
sub set_up
{
	my ($name) = @_;

	$directory = "$PostgreSQL::Test::Utils::tmp_check/$name";
	mkdir($directory) or die "could not make \"$directory\": $!";
	$sockets = PostgreSQL::Test::Utils::tempdir_short();
	$user = getpwuid($>);
	%data = map { $_ => "$directory/data$_" } 1 .. 3;
	%port = map { $_ => PostgreSQL::Test::Cluster::get_free_port() } 1 .. 3;
	%consensus_port = map { $_ => PostgreSQL::Test::Cluster::get_free_port() } 1 .. 3;
	return;
}

# also when the test dies half way
END
{
	my $status = $?;

	for my $id (grep { -e "$data{$_}/postmaster.pid" } keys %data)
	{
		system('pg_ctl', 'stop', '-s', '-m', 'immediate', '-D', $data{$id});
	}
	$? = $status;
}

sub member_options
{
	my ($id) = @_;
	return ('-D', $data{$id}, '--node-id', $id, '--port', $consensus_port{$id}, '--pg-port', $port{$id}, '--socket-directory', $sockets);
}

sub connection { my ($id) = @_; return "host='$sockets' port=$port{$id} dbname=postgres connect_timeout=2"; }

# Exit code, output, errors
sub pgraftctl
{
	my @command = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'pgraftctl', @command ], '<', \'', '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

sub refused
{
	my ($command, $wanted, $message, $name) = @_;
	my ($status, $said, $error) = pgraftctl(@$command);

	is($status, $wanted, "$name: exit code $wanted");
	like($error, $message, "$name: says why");
	return;
}

sub succeeds
{
	my ($command, $text, $name) = @_;
	my $since = time();
	my ($status, $said, $error) = pgraftctl(@$command);

	is($status, 0, "$name: exit code 0") or diag($said, $error) || BAIL_OUT("no use going on after $name");
	like($said, $text, "$name: says so") or diag($error);
	note(sprintf '%s took %.1f s', $name, time() - $since);
	return;
}

# undef when it does not answer, or with an error
sub ask
{
	my ($id, $statement) = @_;
	my ($said, $error) = ('', '');

	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', connection($id), '-c', $statement ],
		'<', \'', '>', \$said, '2>', \$error);
	chomp $said;
	return $? == 0 ? $said : undef;
}

sub sql
{
	my ($id, $statement) = @_;
	return ask($id, $statement) // die "server $id: \"$statement\" failed";
}

sub wait_until
{
	my ($what, $condition) = @_;
	my $end = time() + $patience;

	while (1)
	{
		$meanwhile->();
		my $result = $condition->();
		return $result if $result;
		die "waited in vain until $what" if time() > $end;
		select(undef, undef, undef, 0.05);
	}
}

# one that is not $not
sub wait_primary
{
	my ($not) = @_;

	return wait_until('there is a primary',
		sub { (grep { $_ != ($not // 0) && (ask($_, 'SELECT pgraft_is_primary() AND NOT pg_is_in_recovery()') // '') eq 't' } 1 .. 3)[0] });
}

1;
