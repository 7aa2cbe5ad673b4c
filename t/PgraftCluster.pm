# PgraftCluster.pm
#
# Servers with pgraft for the TAP tests: makes them, forms the cluster as the
# quick example does, waits with deadlines, kills and freezes, runs writers, and
# compares at the end what every member has with what was acknowledged.
#
# Members are named by their node id, 1..n.

package PgraftCluster;

use strict;
use warnings FATAL => 'all';

use Carp qw(croak);
use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use PgraftWriter;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use constant DEFAULT_DEADLINE => 60;    # seconds

# What a test may do to the disk of a member, and what it can count; the order of
# the fields of struct Control in test/preload/pgraft_disk_faults.c.
my @disk_fields = qw(stall delay_ms fail_syncs no_space short_writes stall_snapshots
  waiting syncs failed retried refused shortened);

# Options: nodes (3), tls (0), conf (text for every postgresql.conf), disk_faults
# (0; loads a library that makes the members' disks misbehave, see disk()),
# keep_ports (0; a fresh server of an id listens for SQL where the old one did)
sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		name => $options{name} || 'member',
		tls => $options{tls},
		conf => $options{conf} || '',
		disk_faults => $options{disk_faults},
		keep_ports => $options{keep_ports},
		nodes => {},
		ports => {},
		writers => [],
	}, $class;

	$self->make_node($_) for 1 .. ($options{nodes} || 3);
	return $self;
}

# Initialises server $id without starting it.  A second call with the same id
# makes a fresh server that takes the place of the first.
sub make_node
{
	my ($self, $id, $conf) = @_;
	my $generation = ++$self->{generation}{$id};
	my $node = PostgreSQL::Test::Cluster->new("$self->{name}$id" . ($generation > 1 ? "_$generation" : ''),
		$self->{keep_ports} && $self->{sql_ports}{$id} ? (port => $self->{sql_ports}{$id}) : ());

	$self->{sql_ports}{$id} = $node->port;
	$self->{ports}{$id} ||= PostgreSQL::Test::Cluster::get_free_port();
	$node->init;
	$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'pgraft'
pgraft.node_id = $id
pgraft.address = '127.0.0.1'
pgraft.port = $self->{ports}{$id}
log_statement = none
CONF
	$node->append_conf('postgresql.conf', $self->{conf});
	$node->append_conf('postgresql.conf', $self->tls_conf("node$id")) if $self->{tls};
	$node->append_conf('postgresql.conf', $conf) if defined $conf;
	$self->make_disk($id, $node) if $self->{disk_faults};
	$self->{nodes}{$id} = $node;
	return $node;
}

# The settings for the certificate of $name; made when first asked for.
sub tls_conf
{
	my ($self, $name) = @_;
	my $directory = $self->certificates;

	$self->make_certificates($directory, $name) if !-e "$directory/$name.crt";
	return <<"CONF";
pgraft.ssl_cert_file = '$directory/$name.crt'
pgraft.ssl_key_file = '$directory/$name.key'
pgraft.ssl_ca_file = '$directory/ca.crt'
CONF
}

sub certificates
{
	my ($self) = @_;

	$self->{certificates} ||= PostgreSQL::Test::Utils::tempdir();
	return $self->{certificates};
}

# An authority in $directory, unless it has one, and a certificate per name.
sub make_certificates
{
	my ($self, $directory, @names) = @_;

	system_or_bail("$ENV{PGRAFT_SOURCE}/scripts/make-test-certs", $directory, @names);
	return;
}

sub node { my ($self, $id) = @_; return $self->{nodes}{$id}; }
sub port { my ($self, $id) = @_; return $self->{ports}{$id}; }
sub ids { my ($self) = @_; my @ids = sort { $a <=> $b } keys %{ $self->{nodes} }; return @ids; }

# those whose postmaster we have started and not killed
sub running
{
	my ($self) = @_;
	return grep { defined $self->node($_)->{_pid} } $self->ids;
}

# forgets a server, stopping it
sub drop_node
{
	my ($self, $id) = @_;
	my $node = delete $self->{nodes}{$id};

	$node->stop('immediate') if defined $node->{_pid};
	return;
}

# ----------------------------------------------------------------
# Starting and stopping
# ----------------------------------------------------------------

sub start
{
	my ($self, @ids) = @_;

	$self->start_node($_) for @ids ? @ids : $self->ids;
	return;
}

# After kill -9 the old server's processes may still be ending: try again until
# the deadline.
sub start_node
{
	my ($self, $id) = @_;
	my $node = $self->node($id);
	my $old = delete $self->{killed}{$id};
	local %ENV = (%ENV, %{ $self->{environment}{$id} || {} });

	$self->wait_until("the killed server $id is gone", sub { !kill(0, $old) }) if $old;
	$self->wait_until(
		"server $id starts",
		sub {
			# a failed start takes up the pid of the old server's lock file
			$node->{_pid} = undef;
			return $node->start(fail_ok => 1);
		});
	return;
}

# The quick example, typed on server $first.
sub form
{
	my ($self, $first) = @_;
	$first ||= ($self->ids)[0];

	$self->query($first, 'CREATE EXTENSION pgraft');
	$self->query($first, 'SELECT pgraft_init()');
	$self->add($first, $_) for grep { $_ != $first } $self->ids;
	for my $id (grep { $_ != $first } $self->ids)
	{
		$self->query($id, 'CREATE EXTENSION pgraft');
	}
	$self->wait_voters(scalar $self->ids);
	return;
}

# pgraft_add_node for server $id, typed on server $at
sub add
{
	my ($self, $at, $id) = @_;

	return $self->query($at, "SELECT pgraft_add_node($id, '127.0.0.1', $self->{ports}{$id})");
}

sub kill9
{
	my ($self, @ids) = @_;
	my @pids = map { $self->node($_)->{_pid} } @ids;

	# all at once when there are several
	kill('KILL', @pids);
	for my $id (@ids)
	{
		$self->{killed}{$id} = $self->node($id)->{_pid};
		$self->node($id)->{_pid} = undef;
	}
	return;
}

# Stops (as with SIGSTOP) the postmaster and the consensus worker of a server.
sub freeze
{
	my ($self, $id) = @_;
	my @pids = ($self->worker_pid($id), $self->node($id)->{_pid});

	kill('STOP', @pids) == @pids or croak "could not stop server $id";
	$self->{frozen}{$id} = \@pids;
	return;
}

sub thaw
{
	my ($self, $id) = @_;

	kill('CONT', @{ delete $self->{frozen}{$id} });
	return;
}

# kill -9 for what freeze() has stopped: what its sockets had received is lost
sub kill_frozen
{
	my ($self, $id) = @_;

	kill('KILL', @{ delete $self->{frozen}{$id} });
	$self->{killed}{$id} = $self->node($id)->{_pid};
	$self->node($id)->{_pid} = undef;
	return;
}

# found from outside, because a frozen or failed server answers no query
sub worker_pid
{
	my ($self, $id) = @_;
	my $postmaster = $self->node($id)->{_pid};

	for my $directory (glob('/proc/[0-9]*'))
	{
		open(my $in, '<', "$directory/cmdline") or next;
		my $title = do { local $/ = undef; <$in> };
		next if !defined $title || $title !~ /pgraft consensus/;
		open($in, '<', "$directory/stat") or next;
		my $stat = <$in>;
		next if !defined $stat || $stat !~ /\) \S (\d+)/ || $1 != $postmaster;
		return ($directory =~ /(\d+)$/)[0];
	}
	croak "server $id has no consensus worker";
}

# ----------------------------------------------------------------
# Disks
# ----------------------------------------------------------------

# A healthy one, whose faults disk() can switch on; it holds what lies below
# $directory (the consensus directory).
sub make_disk
{
	my ($self, $id, $node, $directory) = @_;
	my $control = PostgreSQL::Test::Utils::tempdir() . '/control';

	die "PGRAFT_PRELOAD is not set: run the tests with make\n" if !$ENV{PGRAFT_PRELOAD};
	open(my $out, '>:raw', $control) or die "could not write \"$control\": $!";
	print $out "\0" x 4096;
	close($out) or die "could not write \"$control\": $!";
	$self->{disk}{$id} = $control;
	$self->{environment}{$id} = {
		LD_PRELOAD => "$ENV{PGRAFT_PRELOAD}/pgraft_disk_faults.so",
		PGRAFT_FAULT_DIRECTORY => $directory || abs_path(dirname($node->data_dir)) . '/' . basename($node->data_dir) . '.pgraft',
		PGRAFT_FAULT_CONTROL => $control,
	};
	return;
}

# Sets faults of the disk of server $id, as in disk(1, stall => 1).
sub disk
{
	my ($self, $id, %fault) = @_;

	open(my $out, '+<:raw', $self->{disk}{$id}) or die "could not open \"$self->{disk}{$id}\": $!";
	for my $name (keys %fault)
	{
		my ($position) = grep { $disk_fields[$_] eq $name } 0 .. $#disk_fields;

		sysseek($out, 8 * $position, 0);
		syswrite($out, pack('q<', $fault{$name})) == 8 or die "could not set \"$name\": $!";
	}
	close($out);
	return;
}

# one of the counters, or a fault as it is set now
sub disk_count
{
	my ($self, $id, $name) = @_;
	my ($position) = grep { $disk_fields[$_] eq $name } 0 .. $#disk_fields;

	open(my $in, '<:raw', $self->{disk}{$id}) or die "could not open \"$self->{disk}{$id}\": $!";
	seek($in, 8 * $position, 0);
	read($in, my $bytes, 8) == 8 or die "could not read \"$name\": $!";
	return unpack('q<', $bytes);
}

# ----------------------------------------------------------------
# Asking
# ----------------------------------------------------------------

# (success, stdout, stderr); never longer than $seconds
sub try_query
{
	my ($self, $id, $sql, $seconds) = @_;
	my ($out, $err, $timed_out) = ('', '', 0);
	my $status = eval {
		$self->node($id)->psql(
			'postgres', $sql,
			stdout => \$out,
			stderr => \$err,
			timeout => $seconds || DEFAULT_DEADLINE,
			timed_out => \$timed_out,
			# SQLSTATE before each message
			extra_params => [ '-v', 'VERBOSITY=verbose' ],
			on_error_stop => 1);
	};

	# psql that finds no server may end before it was told what to ask
	die $@ if $@ && $@ !~ /Broken pipe/;
	return (defined $status && $status == 0 && !$timed_out, $out // '', $err // '');
}

# the result, or death
sub query
{
	my ($self, $id, $sql) = @_;
	my ($ok, $out, $err) = $self->try_query($id, $sql);

	croak "server $id: \"" . substr($sql, 0, 200) . "\": $err" if !$ok;
	return $out;
}

# the result, or undef when the server cannot answer now
sub ask
{
	my ($self, $id, $sql) = @_;
	my ($ok, $out) = $self->try_query($id, $sql, 10);

	return $ok ? $out : undef;
}

# Calls $condition until it returns something true, which it returns.  Dies at
# the deadline.
sub wait_until
{
	my ($self, $what, $condition, $seconds) = @_;
	my $deadline = time() + ($seconds || DEFAULT_DEADLINE);

	while (1)
	{
		my $result = $condition->();
		return $result if $result;
		last if time() > $deadline;
		usleep(10_000);
	}
	$self->describe;
	croak "waited in vain until $what";
}

# what each server thinks, for the log of a failed test
sub describe
{
	my ($self) = @_;

	for my $id ($self->running)
	{
		next if $self->{frozen}{$id};
		diag("server $id: " . ($self->ask($id, 'SELECT * FROM pgraft_get_cluster_status()') // 'no answer'));
		diag($self->failure($id));
		for my $view ('pg_stat_pgraft', 'pg_stat_pgraft_members', 'pg_stat_pgraft_network')
		{
			diag("$view: " . ($self->ask($id, "SELECT * FROM $view") // 'no answer'));
		}
	}
	return;
}

# The id of the leader, once it says so itself and $not is not meant.
sub wait_leader
{
	my ($self, %options) = @_;
	my $not = $options{not} || 0;

	return $self->wait_until(
		'a leader is elected',
		sub {
			for my $id (grep { $_ != $not && !$self->{frozen}{$_} } $self->running)
			{
				return $id if ($self->ask($id, 'SELECT pgraft_is_leader()') // '') eq 't';
			}
			return 0;
		},
		$options{seconds});
}

# Until these servers name the same leader in the same term and that one alone
# says that it leads; returns its id.
sub wait_one_leader
{
	my ($self, $what, $seconds, @ids) = @_;
	@ids = $self->running if !@ids;

	return $self->wait_until(
		"$what: all follow the one leader",
		sub {
			my (%leaders, @leading);
			for my $id (@ids)
			{
				my $said = $self->ask($id, 'SELECT pgraft_get_leader(), pgraft_get_term(), pgraft_is_leader()') // '';

				return 0 if $said !~ /^([1-9]\d*)\|(\d+)\|([tf])$/;
				$leaders{"$1 in term $2"} = $1;
				push @leading, $id if $3 eq 't';
			}
			my ($leader, @more) = values %leaders;
			return @leading == 1 && !@more && $leader == $leading[0] ? $leader : 0;
		},
		$seconds);
}

# Until the leader counts n voters, all of them caught up with the list.
sub wait_voters
{
	my ($self, $n) = @_;
	my @ids = $self->running;

	$self->wait_until(
		"$n members vote on every server",
		sub {
			for my $id (@ids)
			{
				my $voters = $self->ask($id, "SELECT count(*) FROM pgraft_get_nodes() WHERE role = 'voter'");
				return 0 if !defined $voters || $voters != $n;
			}
			return 1;
		});
	return;
}

sub status
{
	my ($self, $id, $column) = @_;
	return $self->query($id, "SELECT $column FROM pg_stat_pgraft");
}

# "state: what is wrong" of the worker, '' when the server cannot answer
sub failure
{
	my ($self, $id) = @_;
	return $self->ask($id, q{SELECT worker_state || ': ' || coalesce(failure, '') FROM pg_stat_pgraft}) // '';
}

# All servers have applied the same index, with the same state hash; returns
# "index|hash".  The index must be reached by everybody and nobody may write
# meanwhile.
sub wait_converged
{
	my ($self, @ids) = @_;
	@ids = $self->running if !@ids;

	return $self->wait_until(
		'all members have applied the same entries',
		sub {
			my %seen;
			for my $id (@ids)
			{
				my $state = $self->ask($id, 'SELECT applied_index, state_hash FROM pgraft_kv_get_stats()');
				return 0 if !defined $state;
				$seen{$state} = 1;
			}
			return keys %seen == 1 ? (keys %seen)[0] : 0;
		});
}

# ----------------------------------------------------------------
# Writers
# ----------------------------------------------------------------

# A client that writes keys (and each fifth time a log entry) without pause,
# trying the servers in the order given.
sub start_writer
{
	my ($self, $prefix, @servers) = @_;
	@servers = $self->ids if !@servers;

	die "PGRAFT_WRITER is not set: run the tests with make\n" if !$ENV{PGRAFT_WRITER};
	my $writer = PgraftWriter->new(
		program => $ENV{PGRAFT_WRITER},
		file => PostgreSQL::Test::Utils::tempdir() . "/$prefix",
		prefix => $prefix,
		options => [ '--log-every', 5 ],
		servers => [
			map {
				my $node = $self->node($_);
				[ $_, "host='" . $node->host . "' port=" . $node->port . ' dbname=postgres connect_timeout=2' ]
			} @servers
		]);
	push @{ $self->{writers} }, $writer;
	return $writer;
}

sub acknowledged { my (@record) = @_; return grep { $_->{outcome} eq 'ack' } @record; }

# until the writer got $n more acknowledgements, counted from now
sub wait_writes
{
	my ($self, $writer, $n) = @_;
	my $goal = $writer->acknowledged + $n;

	$self->wait_until("$n more writes of $writer->{prefix} are acknowledged",
		sub { return $writer->acknowledged >= $goal });
	return;
}

# A client whose history is judged in the end, trying the servers in the order
# given (test/history/client.c).
sub start_recorder
{
	my ($self, $name, @servers) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$name.history";

	die "PGRAFT_HISTORY is not set: run the tests with make\n" if !$ENV{PGRAFT_HISTORY};
	my @conninfo = map {
		my $node = $self->node($_);
		"host='" . $node->host . "' port=" . $node->port . ' dbname=postgres connect_timeout=2'
	} @servers ? @servers : $self->ids;
	my $pid = fork();
	die "could not fork: $!\n" if !defined $pid;
	if ($pid == 0)
	{
		exec("$ENV{PGRAFT_HISTORY}/history_client", '--output', $file, '--name', $name,
			'--seed', int(rand(1 << 30)), '--pause', 2, @conninfo)
		  or POSIX::_exit(127);
	}
	push @{ $self->{recorders} }, { pid => $pid, file => $file, name => $name };
	return;
}

# Operations recorded so far, of all recorders
sub recorded
{
	my ($self) = @_;
	my $n = 0;

	for my $recorder (@{ $self->{recorders} })
	{
		open(my $in, '<', $recorder->{file}) or next;
		$n++ while <$in>;
	}
	return $n;
}

# Ends the recorders; all that they saw must be linearizable.
sub judge_history
{
	my ($self, $what) = @_;
	my $all = PostgreSQL::Test::Utils::tempdir() . '/all.history';
	my $n = 0;

	kill('TERM', map { $_->{pid} } @{ $self->{recorders} });
	open(my $out, '>', $all) or croak "could not write \"$all\": $!";
	for my $recorder (@{ $self->{recorders} })
	{
		local $?;
		waitpid($recorder->{pid}, 0);
		open(my $in, '<', $recorder->{file}) or croak "could not read \"$recorder->{file}\": $!";
		while (<$in>)
		{
			print $out $_;
			$n++;
		}
	}
	close($out);
	$self->{recorders} = [];
	my $said = qx($ENV{PGRAFT_HISTORY}/check_history $all);
	is($? >> 8, 0, "$what: the history is linearizable") or diag($said);
	note("$n operations: $said");
	return $n;
}

# Every acknowledged key and log entry is on every member; refused ones on none.
sub check_record
{
	my ($self, $what, @record) = @_;

	for my $id ($self->running)
	{
		my ($missing, $extra) = (0, 0);
		for my $kind (qw(kv log))
		{
			my @acked = grep { $_->{kind} eq $kind } acknowledged(@record);
			$missing += $self->count_wrong($id, $kind, splice(@acked, 0, 4000)) while @acked;
		}
		is($missing, 0, "$what: server $id has everything that was acknowledged");
		my @refused = grep { $_->{kind} eq 'kv' && $_->{outcome} eq 'refused' } @record;
		$extra = $self->query($id,
			'SELECT count(*) FROM (VALUES '
			  . join(',', map { "('$_->{name}')" } @refused)
			  . ") AS v(k) WHERE pgraft_kv_exists(k, 'local')")
		  if @refused;
		is($extra, 0, "$what: server $id has nothing that was refused");
	}
	return;
}

sub count_wrong
{
	my ($self, $id, $kind, @entries) = @_;
	my $values = join(',', map { "('$_->{name}','$_->{value}')" } @entries);

	return $self->query($id, "SELECT count(*) FROM (VALUES $values) AS v(k, val)
		WHERE pgraft_kv_get(k, 'local') IS DISTINCT FROM val") if $kind eq 'kv';
	return $self->query($id, "SELECT count(*) FROM (VALUES $values) AS v(data, index)
		WHERE NOT EXISTS (SELECT FROM pgraft_log_get_entry(v.index::bigint) AS e
			WHERE e.data_text = v.data)");
}

# Servers and writers that a dying test leaves behind.
sub DESTROY
{
	my ($self) = @_;

	# in global destruction they may have gone before us
	$_->end('KILL') for grep { defined } @{ $self->{writers} };
	kill('KILL', map { $_->{pid} } grep { defined } @{ $self->{recorders} || [] });
	kill('CONT', @$_) for values %{ $self->{frozen} || {} };
	$self->disk($_, stall => 0) for keys %{ $self->{disk} || {} };
	return;
}

1;
