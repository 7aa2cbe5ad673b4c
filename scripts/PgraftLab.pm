# PgraftLab.pm
#
# A handful of servers with pgraft in a PgraftArea, for the demo and the
# benchmarks: make, start, ask, kill -9, and writers that keep a record.  (The
# tests use PostgreSQL::Test::Cluster instead.)
#
# All of it runs as the unprivileged user, after drop_privileges().  What was
# started is stopped when the object goes away, or on INT or TERM.

package PgraftLab;

use strict;
use warnings FATAL => 'all';

use IO::Socket::INET;
use PgraftWriter;
use POSIX ();
use Time::HiRes qw(time usleep);

# Options: area, servers (3), tls (0), conf (text for postgresql.conf), writer
# (path of the writer program)
sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		area => $options{area},
		directory => "$options{area}{directory}/lab",
		bindir => $options{area}{bindir},
		writer => $options{writer},
		conf => $options{conf} || '',
		tls => $options{tls},
		owner => $$,
		servers => {},
		writers => [],
	}, $class;

	mkdir($self->{directory}) or die "could not make \"$self->{directory}\": $!\n";
	$self->{socket_directory} = $self->{directory};
	$SIG{INT} = $SIG{TERM} = sub { exit(130) };
	$self->run("$self->{bindir}/initdb", '-D', "$self->{directory}/template", '-U', 'postgres',
		'-A', 'trust', '--no-sync', '-E', 'UTF8', '--no-locale');
	$self->{free_ports} = [ free_ports(2 * ($options{servers} || 3)) ];
	$self->make_certificates(map { "node$_" } 1 .. ($options{servers} || 3)) if $options{tls};
	$self->make_server($_) for 1 .. ($options{servers} || 3);
	return $self;
}

sub make_certificates
{
	my ($self, @names) = @_;

	$self->run("$self->{area}{directory}/source/scripts/make-test-certs", "$self->{directory}/tls", @names);
	return;
}

sub make_server
{
	my ($self, $id) = @_;
	my $data = "$self->{directory}/server$id";
	my ($port, $raft_port) = splice(@{ $self->{free_ports} }, 0, 2);

	$self->run('cp', '-a', "$self->{directory}/template", $data);
	open(my $conf, '>>', "$data/postgresql.conf") or die "could not write configuration: $!\n";
	print $conf <<"CONF";
port = $port
listen_addresses = ''
unix_socket_directories = '$self->{socket_directory}'
shared_preload_libraries = 'pgraft'
pgraft.node_id = $id
pgraft.address = '127.0.0.1'
pgraft.port = $raft_port
CONF
	print $conf <<"CONF" if $self->{tls};
pgraft.ssl_cert_file = '$self->{directory}/tls/node$id.crt'
pgraft.ssl_key_file = '$self->{directory}/tls/node$id.key'
pgraft.ssl_ca_file = '$self->{directory}/tls/ca.crt'
CONF
	print $conf $self->{conf};
	close($conf);
	$self->{servers}{$id} = { data => $data, port => $port, raft_port => $raft_port };
	return;
}

# Ports below the range that the kernel gives to outgoing connections.  A server
# that is killed must get its port back.
sub free_ports
{
	my ($n) = @_;
	my @ports;
	my $port = 10_000 + int(rand(20_000));

	while (@ports < $n)
	{
		my $socket = IO::Socket::INET->new(
			Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $port, Proto => 'tcp');
		push @ports, $port if $socket;
		$port++;
	}
	return @ports;
}

sub run
{
	my ($self, @command) = @_;
	my $log = "$self->{directory}/commands.log";
	my $pid = fork();

	die "could not fork: $!\n" if !defined $pid;
	if ($pid == 0)
	{
		open(STDOUT, '>>', $log);
		open(STDERR, '>&', \*STDOUT);
		exec(@command) or POSIX::_exit(127);
	}
	waitpid($pid, 0);
	die "failed: @command (see $log)\n" if $? != 0;
	return;
}

# what a command prints, as lines
sub output
{
	my ($self, @command) = @_;

	open(my $out, '-|', @command) or die "could not run $command[0]: $!\n";
	my @lines = <$out>;
	close($out) or die "failed: @command\n";
	return @lines;
}

sub ids { my ($self) = @_; my @ids = sort { $a <=> $b } keys %{ $self->{servers} }; return @ids; }
sub server { my ($self, $id) = @_; return $self->{servers}{$id}; }

# what a command line begins with that runs where this server lives
sub at { return (); }

sub start
{
	my ($self, @ids) = @_;

	for my $id (@ids ? @ids : $self->ids)
	{
		my $server = $self->server($id);
		my $log = "$self->{directory}/server$id.log";
		# processes of a killed server may need a moment to notice
		$self->wait_until(
			"server $id starts",
			sub {
				return eval {
					$self->run($self->at($id), "$self->{bindir}/pg_ctl", '-D', $server->{data}, '-l', $log, '-w', '-t', '60', 'start');
					1;
				};
			});
		$server->{running} = 1;
	}
	return;
}

sub stop
{
	my ($self, $id, $mode) = @_;
	my $server = $self->server($id);

	$self->run($self->at($id), "$self->{bindir}/pg_ctl", '-D', $server->{data}, '-w', '-m', $mode || 'fast', 'stop');
	$server->{running} = 0;
	return;
}

sub postmaster
{
	my ($self, $id) = @_;

	open(my $in, '<', "$self->{servers}{$id}{data}/postmaster.pid") or return;
	my $pid = <$in>;
	return if !defined $pid;
	chomp $pid;
	return $pid;
}

# kill -9; returns the time of the kill
sub kill9
{
	my ($self, $id) = @_;
	my $pid = $self->postmaster($id) or die "server $id does not run\n";
	my $now = time();

	kill('KILL', $pid) or die "could not kill server $id: $!\n";
	$self->server($id)->{running} = 0;
	return $now;
}

# pids of a server's consensus worker; undef when there is none
sub worker_pid
{
	my ($self, $id) = @_;
	my $postmaster = $self->postmaster($id) or return;

	open(my $in, '<', "/proc/$postmaster/task/$postmaster/children") or return;
	for my $child (split ' ', <$in> // '')
	{
		open(my $title, '<', "/proc/$child/cmdline") or next;
		my $text = <$title>;
		return $child if defined $text && $text =~ /pgraft consensus/;
	}
	return;
}

sub connection
{
	my ($self, $id) = @_;

	return "host='$self->{socket_directory}' port=$self->{servers}{$id}{port} user=postgres dbname=postgres connect_timeout=2";
}

# the result; undef, with $self->{error}, when the statement failed, or had no
# answer after $self->{patience} seconds if that is set
sub ask
{
	my ($self, $id, $sql) = @_;
	my $pid = open(my $out, '-|');

	die "could not fork: $!\n" if !defined $pid;
	if ($pid == 0)
	{
		open(STDERR, '>', "$self->{directory}/psql.err");
		$ENV{PGOPTIONS} = '';
		alarm($self->{patience}) if $self->{patience};
		exec("$self->{bindir}/psql", '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1',
			'-c', $sql, '-d', $self->connection($id))
		  or POSIX::_exit(127);
	}
	my $text = do { local $/ = undef; <$out> } // '';
	chomp $text;
	return $text if close($out);
	open(my $error, '<', "$self->{directory}/psql.err") or return;
	$self->{error} = do { local $/ = undef; <$error> } // '';
	return;
}

sub query
{
	my ($self, $id, $sql) = @_;
	my $result = $self->ask($id, $sql);

	die "server $id: $sql: $self->{error}" if !defined $result;
	return $result;
}

sub wait_until
{
	my ($self, $what, $condition, $seconds) = @_;
	my $deadline = time() + ($seconds || 60);

	while (1)
	{
		my $result = $condition->();
		return $result if $result;
		die "waited in vain until $what; logs are in $self->{directory}\n" if time() > $deadline;
		usleep(2_000);
	}
}

sub form
{
	my ($self) = @_;
	my ($first, @others) = $self->ids;

	$self->query($first, 'CREATE EXTENSION pgraft');
	$self->query($first, 'SELECT pgraft_init()');
	$self->query($first, "SELECT pgraft_add_node($_, '127.0.0.1', $self->{servers}{$_}{raft_port})") for @others;
	$self->query($_, 'CREATE EXTENSION pgraft') for @others;
	$self->wait_voters;
	return;
}

sub wait_voters
{
	my ($self) = @_;
	my @ids = $self->ids;

	for my $id (@ids)
	{
		$self->wait_until("server $id sees all members vote",
			sub { ($self->ask($id, "SELECT count(*) FROM pgraft_get_nodes() WHERE role = 'voter'") || 0) == @ids });
	}
	return;
}

# The running server that says it leads, and the time when it was asked; 0 when
# there is none now.
sub leader
{
	my ($self, @ids) = @_;

	for my $id (@ids ? @ids : $self->ids)
	{
		next if !$self->server($id)->{running};
		return $id if ($self->ask($id, 'SELECT pgraft_is_leader()') // '') eq 't';
	}
	return 0;
}

sub converged
{
	my ($self) = @_;

	return $self->wait_until(
		'all servers have applied the same',
		sub {
			my %state;
			$state{ $self->ask($_, 'SELECT applied_index, state_hash FROM pgraft_kv_get_stats()') // "server $_" }++
			  for $self->ids;
			return keys %state == 1 ? (keys %state)[0] : 0;
		});
}

# Starts a client that writes without pause, beginning with the first server.
sub start_writer
{
	my ($self, $prefix, $options, @ids) = @_;
	my $writer = PgraftWriter->new(
		program => $self->{writer},
		file => "$self->{directory}/writer-$prefix",
		prefix => $prefix,
		options => $options,
		servers => [ map { [ $_, $self->connection($_) ] } @ids ]);

	push @{ $self->{writers} }, $writer;
	return $writer;
}

# how many of the acknowledged keys a server lacks
sub lost
{
	my ($self, $id, @record) = @_;
	my @acked = grep { $_->{outcome} eq 'ack' && $_->{kind} eq 'kv' } @record;
	my $lost = 0;

	while (my @part = splice(@acked, 0, 1000))
	{
		my $values = join(',', map { "('$_->{name}','$_->{value}')" } @part);
		$lost += $self->query($id,
			"SELECT count(*) FROM (VALUES $values) AS v(k, v) WHERE pgraft_kv_get(k, 'local') IS DISTINCT FROM v");
	}
	return $lost;
}

sub shut_down
{
	my ($self) = @_;

	$_->end('KILL') for grep { defined } @{ $self->{writers} };
	for my $id ($self->ids)
	{
		next if !$self->server($id)->{running};
		eval { $self->stop($id, 'immediate') };
	}
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local $?;

	$self->shut_down if $$ == $self->{owner} && !$self->{kept};
	return;
}

1;
