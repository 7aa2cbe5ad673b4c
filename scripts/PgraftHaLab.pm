# PgraftHaLab.pm
#
# Servers in HA mode, made by pgraftctl as a user would, for benchmarks and the
# torture test: kill, freeze, cut off, let them come back, and writers that insert
# rows.  Also a plain pair of primary and standby without pgraft, to compare with.
#
# With the option "network" (PgraftNamespaces) each server has a network namespace
# and an address of its own; members talk with TLS, and clients come from outside.
# Without it all share the machine's loopback address, and nothing can be cut off.

package PgraftHaLab;

use strict;
use warnings FATAL => 'all';

use parent -norequire, 'PgraftLab';
use PgraftLab;
use PgraftNamespaces;
use PgraftWriter;
use Time::HiRes qw(time usleep);
use Time::Local qw(timegm);

use constant {
	POSTGRES_PORT => 5432,
	RAFT_PORT => 7001,
	FLOOR_NUMBERS => 100,
};

# Options: area, writer, servers (3), network, tls (without network), conf (text for
# postgresql.conf), prepare (SQL for the database), tell (is called with the seconds and the words of each command)
sub new
{
	my ($class, %options) = @_;
	my $self = $class->bare(name => 'ha', %options);
	my @names = map { "node$_" } $self->ids;

	$self->{tls} = $self->{network} || $options{tls};
	$self->{tell} = $options{tell};
	$self->timed("$self->{bindir}/pgraftctl", 'tls', "$self->{directory}/tls", @names) if $self->{tls};
	for my $id ($self->ids)
	{
		$self->make_member($id);
		next if $id != 1;
		$self->configure_first($options{conf}) if $options{conf};
		$self->query(1, 'CREATE TABLE writes (name text PRIMARY KEY, value bigint)');
		$self->query(1, "CREATE ROLE client LOGIN; GRANT SELECT, INSERT ON writes TO client");
		$self->query(1, $options{prepare}) if $options{prepare};
	}
	return $self;
}

# pgraftctl init for the first, join at server $from (1) for others
sub make_member
{
	my ($self, $id, $from) = @_;
	my $server = $self->server($id);
	my $user = getpwuid($>);
	my @options;

	push @options, '--address', $server->{address} if $self->{network};
	push @options, '--certificates', "$self->{directory}/tls" if $self->{tls};
	if ($id != 1 || $from)
	{
		my $other = $self->server($from || 1);

		push @options, '--from', "host=$other->{address} port=$other->{port} user=$user"
		  . " passfile=$self->{servers}{1}{data}.superuser.pgpass";
	}
	$self->timed($self->at($id), "$self->{bindir}/pgraftctl", $id == 1 && !$from ? 'init' : 'join', '-D', $server->{data},
		'--node-id', $id, '--port', $server->{raft_port}, '--pg-port', $server->{port},
		'--socket-directory', $self->{socket_directory}, @options);
	$server->{running} = 1;
	return if $id != 1 || $from;

	# clients come without a password, and so every clone lets them
	open(my $hba, '>>', "$server->{data}/pg_hba.conf") or die "could not write pg_hba.conf: $!\n";
	print $hba "host postgres client 10.77.0.0/24 trust\n";
	close($hba);
	$self->query(1, 'SELECT pg_reload_conf()');
	return;
}

# what the others then have by being its clones
sub configure_first
{
	my ($self, $text) = @_;

	open(my $conf, '>>', "$self->{servers}{1}{data}/postgresql.conf") or die "could not write configuration: $!\n";
	print $conf $text;
	close($conf);
	$self->stop(1);
	$self->start(1);
	$self->primary;
	return;
}

sub timed
{
	my ($self, @command) = @_;
	my $begun = time();

	$self->run(@command);
	$self->{tell}->(time() - $begun, @command) if $self->{tell};
	return;
}

# A primary, 1, with a synchronous standby, 2; no pgraft.
sub plain
{
	my ($class, %options) = @_;
	my $self = $class->bare(servers => 2, first_number => FLOOR_NUMBERS, %options);
	my ($primary, $standby) = map { $self->server($_) } 1, 2;

	$self->run("$self->{bindir}/initdb", '-D', $primary->{data}, '-A', 'trust');
	open(my $hba, '>>', "$primary->{data}/pg_hba.conf") or die "could not write pg_hba.conf: $!\n";
	print $hba "host all all 10.77.0.0/24 trust\nhost replication all 10.77.0.0/24 trust\n";
	close($hba);
	$self->configure_plain($primary, "synchronous_standby_names = '*'\nsynchronous_commit = local\n");
	$self->start(1);
	$self->query(1, 'CREATE TABLE writes (name text PRIMARY KEY, value bigint)');
	$self->query(1, 'CREATE ROLE client LOGIN; GRANT SELECT, INSERT ON writes TO client');
	$self->run($self->at(2), "$self->{bindir}/pg_basebackup", '-D', $standby->{data}, '-c', 'fast', '-R', '-d',
		$self->{network} ? "host=$primary->{address} port=$primary->{port}" : $self->connection(1));
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
	my $listen = $self->{network} ? $server->{address} : '';
	print $conf "port = $server->{port}\nlisten_addresses = '$listen'\nunix_socket_directories = '$self->{socket_directory}'\n$text";
	close($conf);
	return;
}

# names and ports only
sub bare
{
	my ($class, %options) = @_;
	my $n = $options{servers} || 3;
	my $network = $options{network};
	my $self = bless {
		area => $options{area},
		directory => "$options{area}{directory}/$options{name}",
		bindir => $options{area}{bindir},
		writer => $options{writer},
		network => $network,
		owner => $$,
		servers => {},
		writers => [],
	}, $class;
	my @ports = $network ? () : PgraftLab::free_ports(2 * $n);

	# initdb takes it for the servers' logs
	$ENV{TZ} = 'UTC';
	mkdir($self->{directory}) or die "could not make \"$self->{directory}\": $!\n";
	$self->{socket_directory} = $self->{directory};
	$SIG{INT} = $SIG{TERM} = sub { exit(130) };
	for my $id (1 .. $n)
	{
		my $number = $id + ($options{first_number} || 0);
		# the port is also the socket's name in a directory that all share
		my ($port, $raft_port) = $network ? (POSTGRES_PORT + $number, RAFT_PORT) : splice(@ports, 0, 2);

		$network->add($number) if $network;
		$self->{servers}{$id} = {
			data => "$self->{directory}/server$id", port => $port, raft_port => $raft_port, number => $number,
			address => $network ? PgraftNamespaces::address($number) : '127.0.0.1' };
	}
	return $self;
}

sub at
{
	my ($self, $id) = @_;
	return $self->{network} ? PgraftNamespaces::inside($self->{servers}{$id}{number}) : ();
}

# for us: through the socket, whatever the network is like
sub connection
{
	my ($self, $id) = @_;
	return "host='$self->{socket_directory}' port=$self->{servers}{$id}{port} dbname=postgres connect_timeout=2";
}

# for clients, who come through the network if there is one
sub client_connection
{
	my ($self, $id) = @_;
	my $server = $self->server($id);

	return $self->connection($id) if !$self->{network};
	return "host=$server->{address} port=$server->{port} dbname=postgres user=client sslmode=disable connect_timeout=2";
}

# $options: further ones of the program
sub start_table_writer
{
	my ($self, $prefix, @options) = @_;
	my $writer = PgraftWriter->new(
		program => $self->{writer},
		file => "$self->{directory}/writer-$prefix",
		prefix => $prefix,
		options => [ '--table', 'writes', '--connect-timeout', 200, '--answer-timeout', 1000, @options ],
		servers => [
			map { [ $_, $self->client_connection($_) . " target_session_attrs=read-write options='-c client_min_messages=error'" ] }
			  $self->ids ]);

	push @{ $self->{writers} }, $writer;
	return $writer;
}

# One connection string for all servers, as applications have it: TCP with TLS,
# with the password that "pgraftctl init" made.
sub application_string
{
	my ($self) = @_;
	my @servers = map { $self->server($_) } $self->ids;

	return 'host=' . join(',', map { $_->{address} } @servers)
	  . ' port=' . join(',', map { $_->{port} } @servers)
	  . ' dbname=postgres user=' . getpwuid($>) . " passfile=$servers[0]{data}.superuser.pgpass"
	  . " sslmode=verify-ca sslrootcert=$self->{directory}/tls/ca.crt target_session_attrs=read-write";
}

sub start_application
{
	my ($self, $prefix) = @_;
	my $writer = PgraftWriter->new(
		program => $self->{writer},
		file => "$self->{directory}/writer-$prefix",
		prefix => $prefix,
		options => [ '--table', 'writes', '--connect-timeout', 1000, '--answer-timeout', 2000, '--by-port' ],
		string => $self->application_string,
		ports => { map { $self->server($_)->{port} => $_ } $self->ids });

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

# Waits until all others follow the primary and count for commits, and all say so;
# gives it.  One that has WAL which nobody else has is made to fit, as its owner would.
sub settled
{
	my ($self, $seconds) = @_;

	return $self->wait_until(
		'all servers follow one primary',
		sub {
			my $primary = $self->primary;
			my @others = grep { $_ != $primary } $self->ids;

			$self->rejoin($_) for grep { ($self->ask($_, 'SELECT own_role FROM pg_stat_pgraft_ha') // '') =~ /^(rewind|reclone)$/ } @others;
			return $primary if $self->is_settled($primary);
			usleep(50_000);
			return 0;
		},
		$seconds || 120);
}

# One that was frozen may for a moment take itself for the primary it was: all must
# know the same epoch.
sub is_settled
{
	my ($self, $primary) = @_;
	my %said;

	$said{ $self->ask($_, "SELECT epoch, primary_id, phase FROM pg_stat_pgraft_ha") // 'nothing' }++ for $self->ids;
	return keys %said == 1
	  && (keys %said)[0] =~ /^\d+\|$primary\|steady$/
	  && ($self->ask($primary, "SELECT count(*) FILTER (WHERE state = 'streaming' AND sync_state = 'quorum') FROM pg_stat_replication") // 0)
	  == $self->ids - 1;
}

sub rejoin
{
	my ($self, $id) = @_;

	$self->run($self->at($id), "$self->{bindir}/pgraftctl", 'rejoin', '--yes', '-D', $self->server($id)->{data});
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

# Every process of the server at once, as when its machine loses power (but for
# what its operating system had not yet written).  Returns the time of it.
sub kill_all
{
	my ($self, $id) = @_;
	my @pids = $self->processes($id);
	my $now = time();

	kill('KILL', @pids);
	$self->server($id)->{running} = 0;
	return $now;
}

# The server's network is gone for all, or only towards the members @from; both
# ways, in silence.  Returns the time of it.
sub cut
{
	my ($self, $id, @from) = @_;
	my $now = time();
	my $number = $self->server($id)->{number};

	if (!@from)
	{
		$self->{network}->unplug($number);
	}
	else
	{
		$self->cut_one_way($_, $id) for @from;
		$self->{network}->deafen($number, map { $self->server($_)->{number} } @from);
	}
	return $now;
}

# What @from send does not arrive at the server any more.
sub cut_one_way
{
	my ($self, $id, @from) = @_;

	$self->{network}->deafen($self->server($id)->{number}, map { $self->server($_)->{number} } @from);
	return;
}

# All servers hear each other again.
sub heal
{
	my ($self) = @_;

	$self->{network}->heal(map { $self->server($_)->{number} } $self->ids);
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

# [time, text] of the lines of a server's log that were written between two times
sub log_between
{
	my ($self, $id, $from, $to) = @_;
	my @found;

	open(my $in, '<', "$self->{directory}/server$id.log") or die "could not read the log of server $id: $!\n";
	while (my $line = <$in>)
	{
		my ($year, $month, $day, $hour, $minute, $second, $text) =
		  $line =~ /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+\.\d+) \S+ \[\d+\] (.*)/
		  or next;
		my $time = timegm(0, $minute, $hour, $day, $month - 1, $year) + $second;

		push @found, [ $time, $text ] if $time >= $from && $time <= $to;
	}
	return @found;
}

1;
