# PgraftHa.pm
#
# Servers in HA mode for the TAP tests: what PgraftCluster does, plus a
# PostgreSQL primary with standbys, and writers that insert into a table.
#
# The first server begins as the cluster's only member; each other is a base
# backup of the primary.  Members are named by their node id, 1..n.

package PgraftHa;

use strict;
use warnings FATAL => 'all';

use parent -norequire, 'PgraftCluster';
use Carp qw(croak);
use IPC::Run;
use PgraftCluster;
use PgraftWriter;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# Before the first member exists, its database gets what clones then have.
# Options as of PgraftCluster.
sub make_node
{
	my ($self, $id, $conf) = @_;

	return if $id != 1;
	my $node = PostgreSQL::Test::Cluster->new("$self->{name}$id");
	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pgraft'\nlog_statement = none\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pgraft;
		CREATE TABLE writes (name text PRIMARY KEY, value bigint)');
	$node->stop;
	$self->{nodes}{$id} = $node;
	$self->{wanted} = $self->{wanted} || 3;
	$self->configure($id, $conf);
	return $node;
}

sub new
{
	my ($class, %options) = @_;
	my $self = $class->SUPER::new(%options);

	if ($options{clocks})
	{
		$self->{clocks} = 1;
		$self->set_clock(1, 0);
	}
	$self->{wanted} = $options{nodes} || 3;
	return $self;
}

# ----------------------------------------------------------------
# Clocks (option clocks => 1)
# ----------------------------------------------------------------

# Sets the wall clock of a server, running or not, $seconds ahead of ours.
sub set_clock
{
	my ($self, $id, $seconds) = @_;

	if (!$self->{clock}{$id})
	{
		die "PGRAFT_PRELOAD is not set: run the tests with make\n" if !$ENV{PGRAFT_PRELOAD};
		$self->{clock}{$id} = PostgreSQL::Test::Utils::tempdir() . '/clock';
		append_to_file($self->{clock}{$id}, pack('q<', 0));
		$self->{environment}{$id} = {
			LD_PRELOAD => "$ENV{PGRAFT_PRELOAD}/pgraft_clock.so",
			PGRAFT_CLOCK_CONTROL => $self->{clock}{$id},
		};
	}
	open(my $out, '+<:raw', $self->{clock}{$id}) or die "could not open \"$self->{clock}{$id}\": $!";
	syswrite($out, pack('q<', $seconds * 1_000_000)) == 8 or die "could not set the clock of server $id: $!";
	close($out);
	return;
}

# What differs between members comes after what a backup brought along.
sub configure
{
	my ($self, $id, $conf) = @_;
	my $node = $self->node($id);

	$self->{ports}{$id} ||= PostgreSQL::Test::Cluster::get_free_port();
	$self->set_clock($id, 0) if $self->{clocks};
	$node->append_conf('postgresql.conf', <<"CONF");
port = @{[ $node->port ]}
unix_socket_directories = '@{[ $node->host ]}'
pgraft.mode = 'ha'
pgraft.node_id = $id
pgraft.address = '127.0.0.1'
pgraft.port = $self->{ports}{$id}
pgraft.postgres_address = '@{[ $node->host ]}'
primary_conninfo = 'application_name=node$id'
max_worker_processes = 16
$self->{conf}
CONF
	$node->append_conf('postgresql.conf', $self->tls_conf("node$id")) if $self->{tls};
	$node->append_conf('postgresql.conf', $conf) if defined $conf;
	$node->append_conf('postgresql.conf', "include_if_exists = 'pgraft.auto.conf'\n");
	return;
}

# One member, then all: each follows, and each standby counts for commits.
sub form
{
	my ($self) = @_;

	$self->start_node(1);
	$self->query(1, 'SELECT pgraft_init()');
	$self->wait_primary;
	$self->join_member($_) for 2 .. $self->{wanted};
	$self->wait_synchronous($self->{wanted});
	return;
}

# A new server from a backup of the primary, started and added.
sub join_member
{
	my ($self, $id, %options) = @_;
	my $primary = $self->wait_primary;
	my $source = $self->node($primary);
	my $name = "$self->{name}$id" . ($self->{generation}{$id}++ ? "_$self->{generation}{$id}" : '');
	my $node = PostgreSQL::Test::Cluster->new($name);

	$source->backup($name);
	$node->init_from_backup($source, $name);
	unlink($node->data_dir . '/pgraft.auto.conf');
	$self->{nodes}{$id} = $node;
	$self->configure($id, $options{conf});
	$self->start_node($id);
	$self->add($primary, $id) if !$options{known};
	$self->wait_streaming($id);
	return $node;
}

# A server that takes part in the consensus and has none of the data; it is not
# among those that ids() gives.
sub add_witness
{
	my ($self, $id) = @_;
	my $witness = PgraftCluster::make_node($self, $id);

	delete $self->{nodes}{$id};
	$witness->start;
	$self->query(1, "SELECT pgraft_add_node($id, '127.0.0.1', $self->{ports}{$id}, role => 'witness')");
	$self->wait_until('the witness is a member',
		sub { ($self->ask(1, "SELECT count(*) FROM pgraft_get_nodes() WHERE role = 'witness'") // 0) == 1 });
	return $witness;
}

# ----------------------------------------------------------------
# Who is what
# ----------------------------------------------------------------

# The id of the server that accepts writes; $options{not} is not meant.
sub wait_primary
{
	my ($self, %options) = @_;
	my $not = $options{not} || 0;

	return $self->wait_until(
		'there is a primary',
		sub {
			for my $id (grep { $_ != $not && !$self->{frozen}{$_} } $self->running)
			{
				return $id if ($self->ask($id, 'SELECT pgraft_is_primary() AND NOT pg_is_in_recovery()') // '') eq 't';
			}
			return 0;
		},
		$options{seconds});
}

sub wait_streaming
{
	my ($self, $id) = @_;

	$self->wait_until(
		"server $id follows the primary",
		sub {
			my $primary = $self->wait_primary;
			return ($self->ask($primary, "SELECT count(*) FROM pg_stat_replication
				WHERE application_name = 'node$id' AND state = 'streaming'") // 0) > 0;
		});
	return;
}

# ----------------------------------------------------------------
# Steps
# ----------------------------------------------------------------

# From now on a server takes none of these steps (pgraft.developer_pause_at);
# without any it goes on.
sub pause_at
{
	my ($self, $id, @steps) = @_;
	my $node = $self->node($id);
	my $steps = join(', ', @steps);

	$self->{logged}{$id} = -s $node->logfile;
	$node->append_conf('postgresql.conf', "pgraft.developer_pause_at = '$steps'\n");
	return if !defined $node->{_pid};
	kill('HUP', $node->{_pid});
	$self->wait_until("server $id reads its settings",
		sub { ($self->ask($id, 'SHOW pgraft.developer_pause_at') // '-') eq $steps });
	return;
}

# until one of these servers is held up before that step; returns its id
sub wait_paused
{
	my ($self, $step, @ids) = @_;

	return $self->wait_until(
		"a server pauses before the step \"$step\"",
		sub {
			my @paused = grep { slurp_file($self->node($_)->logfile, $self->{logged}{$_}) =~ /pauses before the step "$step"/ } @ids;
			return @paused ? $paused[0] : 0;
		});
}

# Until these servers are sealed in an epoch newer than $epoch: what lies in the
# sockets of stopped receivers is lost then.
sub wait_sealed
{
	my ($self, $epoch, @ids) = @_;

	for my $id (@ids)
	{
		$self->wait_until("server $id is sealed in a newer epoch",
			sub { ($self->ask($id, "SELECT epoch > $epoch AND own_role = 'sealed' FROM pg_stat_pgraft_ha") // '') eq 't' });
	}
	return;
}

# Until the epoch is newer than $epoch and the document's phase is one of these.
sub wait_phase
{
	my ($self, $id, $epoch, @phases) = @_;
	my $phases = join(', ', map { "'$_'" } @phases);

	$self->wait_until("server $id knows of a phase of " . join(' or ', @phases) . " after epoch $epoch",
		sub { ($self->ask($id, "SELECT epoch > $epoch AND phase IN ($phases) FROM pg_stat_pgraft_ha") // '') eq 't' });
	return;
}

# n data members count for commits, on the primary's word
sub wait_synchronous
{
	my ($self, $n) = @_;

	$self->wait_until(
		"$n members are in the sync set",
		sub {
			my $primary = $self->wait_primary;
			my $names = $self->ask($primary, 'SHOW synchronous_standby_names') // '';
			my @standbys = $names =~ /node\d+/g;
			return @standbys == $n - 1;
		});
	return;
}

# A primary that had WAL which nobody else has must be rewound: pgraftctl does it.  Returns
# which it was.
sub follows_or_rewound
{
	my ($self, $id) = @_;
	my $role = '';

	$self->wait_until(
		"server $id follows or must be rewound",
		sub {
			$role = $self->ask($id, "SELECT own_role FROM pg_stat_pgraft_ha") // '';
			return 1 if $role eq 'rewind' || $role eq 'reclone';
			return 0 if $role ne 'standby';
			my $now = $self->wait_primary;
			return ($self->ask($now, "SELECT count(*) FROM pg_stat_replication
				WHERE application_name = 'node$id' AND state = 'streaming'") // 0) > 0;
		},
		30);
	return $role if $role eq 'standby';
	note("server $id has WAL that nobody else has: $role");
	$self->node($id)->stop('fast');
	my $conf = $self->node($id)->data_dir . '/postgresql.conf';
	my $settings = slurp_file($conf);
	PostgreSQL::Test::Utils::command_ok([ 'pgraftctl', 'rejoin', '--yes', '--no-start', '-D', $self->node($id)->data_dir ],
		"server $id is made to fit again");

	# it lies in the data directory, so pg_rewind brings the other server's
	unlink($conf);
	append_to_file($conf, $settings);
	$self->start_node($id);
	$self->wait_streaming($id);
	return $role;
}

# All servers follow again, count for commits, and have the same rows.
sub settle
{
	my ($self, $what, @record) = @_;

	for my $id ($self->ids)
	{
		$self->follows_or_rewound($id) if $id != $self->wait_primary;
	}
	$self->wait_synchronous(scalar $self->ids);
	return if !@record;
	$self->check_rows($what, @record);
	my %rows;
	$rows{ $self->query($_, "SELECT count(*), md5(string_agg(w::text, ' ' ORDER BY name)) FROM writes w") } = $_ for $self->ids;
	is(scalar keys %rows, 1, "$what: all servers have the same rows") or diag(join("\n", %rows));
	return;
}

# Every process of a server, frozen until thaw()
sub freeze_all
{
	my ($self, $id) = @_;
	my $postmaster = $self->node($id)->{_pid};
	my @pids = ($postmaster, children($postmaster));

	kill('STOP', @pids);
	# those it had just forked
	my @late = grep { my $pid = $_; !grep { $_ == $pid } @pids } children($postmaster);
	kill('STOP', @late);
	$self->{frozen}{$id} = [ @pids, @late ];
	return;
}

# Every process of a server at once, as if its machine lost power (its files
# are what the operating system has)
sub kill_all
{
	my ($self, $id) = @_;
	my $postmaster = $self->node($id)->{_pid};

	kill('KILL', $postmaster, children($postmaster));
	$self->{killed}{$id} = $postmaster;
	$self->node($id)->{_pid} = undef;
	return;
}

sub children
{
	my ($parent) = @_;
	my @found;

	for my $file (glob('/proc/[0-9]*/stat'))
	{
		open(my $in, '<', $file) or next;
		my $line = <$in>;
		next if !defined $line || $line !~ /^(\d+) \(.*\) \S (\d+)/s || $2 != $parent;
		push @found, $1;
	}
	return @found;
}

# the pid of its walreceiver, once there is one
sub walreceiver
{
	my ($self, $id) = @_;

	return $self->wait_until("server $id receives",
		sub { $self->ask($id, "SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'") });
}

# what each server thinks of high availability, for the log of a failed test
sub describe
{
	my ($self) = @_;

	for my $id (grep { !$self->{frozen}{$_} } $self->running)
	{
		diag("server $id: pg_stat_pgraft_ha: " . ($self->ask($id, 'SELECT row_to_json(h) FROM pg_stat_pgraft_ha h') // 'no answer'));
		diag("server $id: members: " . ($self->ask($id, 'SELECT json_agg(m) FROM pgraft_ha_member_list() m') // 'no answer'));
		diag("server $id: " . ($self->ask($id, 'SELECT pgraft_get_leader(), pgraft_get_term(), worker_state, failure FROM pg_stat_pgraft') // 'no answer'));
	}
	return;
}

# ----------------------------------------------------------------
# Sessions
# ----------------------------------------------------------------

# A psql that stays: say() sends, heard() waits for a pattern in what came back
# (command tags, rows and errors alike) and returns whether it came; "LOST" is
# the end of the connection.
sub session
{
	my ($self, $id) = @_;
	my %session = (in => '', out => '');

	$session{run} = IPC::Run::start(
		[ 'psql', '-XAt', '-v', 'VERBOSITY=verbose', '-d', $self->node($id)->connstr('postgres') ],
		'<', \$session{in}, '>&', \$session{out});
	my $made = bless \%session, 'PgraftHa::Session';
	$made->say('SELECT pg_backend_pid()');
	$made->heard(qr/^(\d+)$/m, 20) or croak "no session on server $id: $session{out}";
	($made->{pid}) = $session{out} =~ /^(\d+)$/m;
	return $made;
}

# ----------------------------------------------------------------
# Writers
# ----------------------------------------------------------------

# A client that inserts into "writes", on whichever of the servers (all) accepts that.
sub start_sql_writer
{
	my ($self, $prefix, %options) = @_;

	die "PGRAFT_WRITER is not set: run the tests with make\n" if !$ENV{PGRAFT_WRITER};
	my $writer = PgraftWriter->new(
		program => $ENV{PGRAFT_WRITER},
		file => PostgreSQL::Test::Utils::tempdir() . "/$prefix",
		prefix => $prefix,
		options => [
			'--table', 'writes',
			'--connect-timeout', $options{connect_timeout} || 200,
			'--answer-timeout', $options{answer_timeout} || 1000,
			'--pause', $options{pause} || 0,
		],
		servers => [
			map {
				my $node = $self->node($_);
				[ $_, "host='" . $node->host . "' port=" . $node->port
					. ' dbname=postgres target_session_attrs=read-write' ]
			} @{ $options{servers} || [ $self->ids ] }
		]);
	push @{ $self->{writers} }, $writer;
	return $writer;
}

# Every acknowledged row is on every running server once these have replayed
# what the primary has; every row was at least tried.
sub check_rows
{
	my ($self, $what, @record) = @_;
	my %tried = map { $_->{name} => $_->{outcome} } @record;
	my $primary = $self->wait_primary;
	my $lsn = $self->query($primary, 'SELECT pg_current_wal_lsn()');

	for my $id ($self->running)
	{
		next if $self->{frozen}{$id};
		$self->wait_until("server $id has replayed $lsn",
			sub { ($self->ask($id, "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() >= '$lsn' ELSE true END") // '') eq 't' });
		my %found = map { $_ => 1 } split /\n/, $self->query($id, 'SELECT name FROM writes');
		my @lost = grep { $tried{$_} eq 'ack' && !$found{$_} } keys %tried;
		my @refused = grep { $tried{$_} eq 'refused' && $found{$_} } keys %tried;
		is(scalar @lost, 0, "$what: server $id has every acknowledged row") or diag("for example $lost[0]");
		is(scalar @refused, 0, "$what: server $id has no refused row") or diag("for example $refused[0]");
	}
	return;
}

package PgraftHa::Session;

use Time::HiRes qw(time usleep);

sub say
{
	my ($self, $sql) = @_;

	$self->{out} = '';
	$self->{in} .= "$sql;\n";
	$self->pump;
	return;
}

sub pump
{
	my ($self) = @_;

	return if $self->{lost};
	if (!eval { $self->{run}->pump_nb; $self->{run}->pumpable } || $self->{out} =~ /connection to server was lost/)
	{
		$self->{lost} = 1;
		$self->{out} .= "\nLOST\n";
	}
	return;
}

sub heard
{
	my ($self, $pattern, $seconds) = @_;
	my $deadline = time() + $seconds;

	while (1)
	{
		$self->pump;
		return 1 if $self->{out} =~ $pattern;
		return 0 if time() > $deadline;
		usleep(2_000);
	}
}

sub end
{
	my ($self) = @_;

	$self->{run}->kill_kill(grace => 1);
	return;
}

1;
