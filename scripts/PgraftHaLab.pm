# PgraftHaLab.pm
#
# Three servers in HA mode, made by pgraftctl as a user would, for benchmarks:
# kill, freeze, let them come back, and writers that insert rows.  Also a plain
# pair of primary and standby without pgraft, to compare with.

package PgraftHaLab;

use strict;
use warnings FATAL => 'all';

use parent -norequire, 'PgraftLab';
use PgraftLab;
use PgraftWriter;
use Time::HiRes qw(time usleep);

# Options: area, writer, servers (3)
sub new
{
	my ($class, %options) = @_;
	my $self = $class->bare(name => 'ha', %options);
	my $user = getpwuid($>);

	for my $id ($self->ids)
	{
		my $server = $self->server($id);
		my $first = $self->server(1);

		$self->run("$self->{bindir}/pgraftctl", $id == 1 ? 'init' : 'join', '-D', $server->{data},
			'--node-id', $id, '--port', $server->{raft_port}, '--pg-port', $server->{port},
			'--socket-directory', $self->{socket_directory},
			$id == 1 ? () : ('--from', "host=127.0.0.1 port=$first->{port} user=$user passfile=$first->{data}.superuser.pgpass"));
		$server->{running} = 1;
		$self->query(1, 'CREATE TABLE writes (name text PRIMARY KEY, value bigint)') if $id == 1;
	}
	return $self;
}

# A primary, 1, with a synchronous standby, 2; no pgraft.
sub plain
{
	my ($class, %options) = @_;
	my $self = $class->bare(servers => 2, %options);
	my ($primary, $standby) = map { $self->server($_) } 1, 2;

	$self->run("$self->{bindir}/initdb", '-D', $primary->{data}, '-A', 'trust');
	$self->configure_plain($primary, "synchronous_standby_names = '*'\nsynchronous_commit = local\n");
	$self->start(1);
	$self->query(1, 'CREATE TABLE writes (name text PRIMARY KEY, value bigint)');
	$self->run("$self->{bindir}/pg_basebackup", '-D', $standby->{data}, '-c', 'fast', '-R', '-d', $self->connection(1));
	$self->configure_plain($standby, "synchronous_standby_names = ''\n");
	$self->configure_plain($primary, "synchronous_commit = on\n");
	$self->start(2);
	$self->query(1, 'SELECT pg_reload_conf()');
	$self->wait_until('the standby is synchronous',
		sub { $self->ask(1, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") });
	return $self;
}

sub configure_plain
{
	my ($self, $server, $text) = @_;

	open(my $conf, '>>', "$server->{data}/postgresql.conf") or die "could not write configuration: $!\n";
	print $conf "port = $server->{port}\nlisten_addresses = ''\nunix_socket_directories = '$self->{socket_directory}'\n$text";
	close($conf);
	return;
}

# names and ports only
sub bare
{
	my ($class, %options) = @_;
	my $n = $options{servers} || 3;
	my $self = bless {
		area => $options{area},
		directory => "$options{area}{directory}/$options{name}",
		bindir => $options{area}{bindir},
		writer => $options{writer},
		owner => $$,
		servers => {},
		writers => [],
	}, $class;
	my @ports = PgraftLab::free_ports(2 * $n);

	mkdir($self->{directory}) or die "could not make \"$self->{directory}\": $!\n";
	$self->{socket_directory} = $self->{directory};
	$SIG{INT} = $SIG{TERM} = sub { exit(130) };
	for my $id (1 .. $n)
	{
		my ($port, $raft_port) = splice(@ports, 0, 2);
		$self->{servers}{$id} = { data => "$self->{directory}/server$id", port => $port, raft_port => $raft_port };
	}
	return $self;
}

sub connection
{
	my ($self, $id) = @_;
	return "host='$self->{socket_directory}' port=$self->{servers}{$id}{port} dbname=postgres connect_timeout=2";
}

sub start_table_writer
{
	my ($self, $prefix) = @_;
	my $writer = PgraftWriter->new(
		program => $self->{writer},
		file => "$self->{directory}/writer-$prefix",
		prefix => $prefix,
		options => [ '--table', 'writes', '--connect-timeout', 200, '--answer-timeout', 1000 ],
		servers => [ map { [ $_, $self->connection($_) . " target_session_attrs=read-write options='-c client_min_messages=error'" ] } $self->ids ]);

	push @{ $self->{writers} }, $writer;
	return $writer;
}

# the server that accepts writes and is not $not; waits for it
sub primary
{
	my ($self, $not) = @_;

	return $self->wait_until(
		'there is a primary',
		sub {
			for my $id (grep { $_ != ($not || 0) && $self->server($_)->{running} } $self->ids)
			{
				return $id if ($self->ask($id, 'SELECT pgraft_is_primary() AND NOT pg_is_in_recovery()') // '') eq 't';
			}
			return 0;
		});
}

# Waits until all others follow the primary and count for commits; gives it.
# One that has WAL which nobody else has is made to fit, as its owner would.
sub settled
{
	my ($self) = @_;

	return $self->wait_until(
		'all servers follow one primary',
		sub {
			my $primary = $self->primary;
			my $others = $self->ids - 1;

			for my $id (grep { $_ != $primary } $self->ids)
			{
				$self->run("$self->{bindir}/pgraftctl", 'rejoin', '--yes', '-D', $self->server($id)->{data})
				  if ($self->ask($id, 'SELECT own_role FROM pg_stat_pgraft_ha') // '') =~ /^(rewind|reclone)$/;
			}
			return $primary
			  if ($self->ask($primary, "SELECT count(*) FILTER (WHERE state = 'streaming' AND sync_state = 'quorum') FROM pg_stat_replication") // 0) == $others;
			usleep(50_000);
			return 0;
		});
}

sub start_again
{
	my ($self, $id) = @_;

	$self->start($id);
	return;
}

sub processes
{
	my ($self, $id) = @_;
	my $postmaster = $self->postmaster($id);

	open(my $in, '<', "/proc/$postmaster/task/$postmaster/children") or return ($postmaster);
	return ($postmaster, split ' ', <$in> // '');
}

sub freeze
{
	my ($self, $id) = @_;

	kill('STOP', $self->processes($id));
	# those that it had just started
	kill('STOP', $self->processes($id));
	$self->server($id)->{running} = 0;
	return;
}

sub thaw
{
	my ($self, $id) = @_;

	kill('CONT', $self->processes($id));
	$self->server($id)->{running} = 1;
	return;
}

sub wait_replayed
{
	my ($self, $id) = @_;
	my $primary = $self->primary;
	my $lsn = $self->query($primary, 'SELECT pg_current_wal_lsn()');

	$self->wait_until("server $id has replayed $lsn",
		sub { $id == $primary || ($self->ask($id, "SELECT pg_last_wal_replay_lsn() >= '$lsn'") // '') eq 't' });
	return;
}

sub log_lines
{
	my ($self, $id) = @_;

	open(my $in, '<', "$self->{directory}/server$id.log") or die "could not read the log of server $id: $!\n";
	my @lines = <$in>;
	chomp @lines;
	return @lines;
}

1;
