# PgraftTorture.pm
#
# The torture test: a cluster in HA mode, clients, and one fault after the other,
# sometimes two at once.  The faults are in PgraftFaults, the judgement is in
# PgraftVerdict; here is what happens when.
#
# A run is a sequence of segments of some minutes.  In each, clients of three kinds
# work while faults come and go; after each fault the cluster must settle: one
# primary that all follow.  At the end of a segment the clients stop and everything
# they were told is compared with what the servers have.

package PgraftTorture;

use strict;
use warnings FATAL => 'all';

use parent -norequire, 'PgraftHaLab';
use List::Util qw(max min);
use PgraftFaults;
use PgraftHaLab;
use PgraftVerdict;
use PgraftWriter;
use POSIX ();
use Time::HiRes qw(time usleep);

use constant {
	SET_CLIENTS => 3,
	REGISTER_CLIENTS => 4,
	TWO_PHASE_CLIENTS => 2,
	KEYS => 3,
	# of one statement of ours; a frozen server says nothing
	PATIENCE_SECONDS => 10,
	SETTLE_SECONDS => 120,
};

# Roles, tables and what tells which epoch's primary took a row.
my $prepare = <<'SQL';
CREATE EXTENSION amcheck;
CREATE FUNCTION own_epoch() RETURNS bigint LANGUAGE sql SECURITY DEFINER
	AS 'SELECT promoted_epoch FROM public.pgraft_stat_ha()';
ALTER TABLE writes ADD epoch bigint DEFAULT own_epoch();
CREATE TABLE pairs (name text, part int, epoch bigint DEFAULT own_epoch(), PRIMARY KEY (name, part));
CREATE TABLE registers (key text PRIMARY KEY, value text);
GRANT SELECT, INSERT, UPDATE ON writes, pairs, registers TO client
SQL

sub faults { return PgraftFaults::list(); }

# Options: area, network, programs (the build directory), minutes, check_minutes,
# seed, servers, only (names of faults), disable
sub new
{
	my ($class, %options) = @_;
	my @known = map { $_->[0] } faults();

	for my $name (@{ $options{only} })
	{
		die "there is no fault \"$name\"; scripts/torture --list lists them\n" if !grep { $_ eq $name } @known;
	}
	srand($options{seed});
	our %making = %options;
	my $self = $class->SUPER::new(
		area => $options{area}, network => $options{network}, servers => $options{servers},
		name => 'torture', writer => "$options{programs}/bench/writer", prepare => $prepare);
	$self->{$_} = $options{$_} for qw(programs minutes check_minutes seed only disable);
	$self->{patience} = PATIENCE_SECONDS;
	$self->{segment} = 0;
	$self->{acknowledged} = [];
	$self->{outages} = {};
	return $self;
}

# The first member gets data checksums and settings before others clone it.
sub make_member
{
	my ($self, $id, $from) = @_;

	$self->SUPER::make_member($id, $from);
	return if $id != 1 || $from;
	my $data = $self->server(1)->{data};

	$self->stop(1);
	$self->run("$self->{bindir}/pg_checksums", '--enable', '-D', $data);
	open(my $conf, '>>', "$data/postgresql.conf") or die "could not write postgresql.conf: $!\n";
	print $conf "max_prepared_transactions = 50\nwal_keep_size = '256MB'\n",
	  "pgraft.developer_disable = '$PgraftTorture::making{disable}'\n";
	close($conf);
	$self->start(1);
	$self->primary;
	return;
}

sub run_all
{
	my ($self) = @_;
	my $disabled = $self->{disable} ne '' ? ", without $self->{disable}" : '';

	printf "torture: seed %d, %d servers, %g minutes%s\n", $self->{seed}, scalar $self->ids, $self->{minutes}, $disabled;
	my $passed = eval { $self->run_segments; 1; };
	if (!$passed)
	{
		print "\nFAILED at ", POSIX::strftime('%H:%M:%S', gmtime), " UTC, seed $self->{seed}: $@";
		$self->judge_primary if @{ $self->{clients} || [] };
	}
	$self->print_summary;
	print $passed ? "PASSED\n" : "FAILED: SEED=$self->{seed}\n";
	return $passed;
}

sub run_segments
{
	my ($self) = @_;
	my $end = time() + 60 * $self->{minutes};

	$self->{started} = time();
	$self->settle;
	while (time() < $end)
	{
		my $segment_end = min($end, time() + 60 * $self->{check_minutes});

		$self->{segment}++;
		$self->start_clients;
		do { $self->one_round } while (time() < $segment_end);
		$self->judge;
	}
	PgraftVerdict::check_everything_again($self);
	return;
}

# ----------------------------------------------------------------
# Clients
# ----------------------------------------------------------------

# Their names say the segment, so that each can be judged alone.
sub start_clients
{
	my ($self) = @_;
	my $segment = "s$self->{segment}";
	my $primary = $self->primary;

	$self->{clients} = [];
	$self->query($primary, join(';', map { "INSERT INTO registers VALUES ('$segment.r$_', 'first-$segment.r$_')" } 0 .. KEYS - 1));
	$self->{registers_since} = int(time() * 1e6);
	$self->start_client('set', "$segment.set$_") for 1 .. SET_CLIENTS;
	$self->start_client('registers', "$segment.register$_") for 1 .. REGISTER_CLIENTS;
	$self->start_client('two-phase', "$segment.two$_") for 1 .. TWO_PHASE_CLIENTS;
	for my $client (grep { $_->{kind} eq 'set' } @{ $self->{clients} })
	{
		$self->wait_until("$client->{prefix} writes", sub { $client->acknowledged > 0 });
	}
	return;
}

sub start_client
{
	my ($self, $kind, $prefix) = @_;
	my $is_set = $kind eq 'set';
	my @options = $is_set ? ('--table', 'writes', '--retry-pause', 20) : ('--mode', $kind, '--seed', int(rand(1_000_000)));

	push @options, '--keys', KEYS, '--key-prefix', "s$self->{segment}.r" if $kind eq 'registers';
	my $client = PgraftWriter->new(
		program => $is_set ? $self->{writer} : "$self->{programs}/torture/torture_client",
		file => "$self->{directory}/$prefix",
		prefix => $prefix,
		options => [ @options, '--pause', 10, '--connect-timeout', 200, '--answer-timeout', 1000 ],
		servers => [ map { [ $_, $self->client_connection($_) . " target_session_attrs=read-write application_name=$kind" ] } $self->ids ]);

	$client->{kind} = $kind;
	push @{ $self->{clients} }, $client;
	push @{ $self->{writers} }, $client;
	return;
}

# ----------------------------------------------------------------
# Rounds
# ----------------------------------------------------------------

# One fault, now and then another one on top, and back to a healthy cluster.
sub one_round
{
	my ($self) = @_;
	my $start = time();
	my %seen = map { $_ => $_->count } grep { $_->{kind} eq 'set' } @{ $self->{clients} };
	my @what;

	$self->{undo} = [];
	push @what, PgraftFaults::inflict($self);
	if (rand() < 0.25 || $self->{wants_another})
	{
		usleep(rand(1_000_000));
		push @what, PgraftFaults::inflict_another($self);
	}
	$self->{wants_another} = 0;
	usleep(rand(2_000_000));
	$_->() for @{ $self->{undo} };
	my $undone = time();
	$self->settle;

	my $outage = $self->longest_gap($start, \%seen);
	push @{ $self->{outages}{ join(' + ', map { $_->[0] } @what) } }, $outage;
	printf "%7.1f s  %-62s no row for %5.0f ms, settled after %4.1f s\n", $start - $self->{started},
	  join(' + ', map { "$_->[0] $_->[1]" } @what), $outage, time() - $undone;
	return;
}

# the longest time without an acknowledged row since the round began, in ms
sub longest_gap
{
	my ($self, $start, $seen) = @_;
	my @times = sort { $a <=> $b } grep { $_ > $start } map { $_->{end} } grep { $_->{outcome} eq 'ack' }
	  map { $_->record($seen->{$_} || 0) } grep { $_->{kind} eq 'set' } @{ $self->{clients} };

	unshift @times, $start;
	push @times, time();
	return 1000 * max(map { $times[$_] - $times[ $_ - 1 ] } 1 .. $#times);
}

# Everything that a fault left behind is put right, and then the cluster has to get
# healthy by itself.
sub settle
{
	my ($self) = @_;

	$self->heal if $self->{network};
	$self->thaw_everything;
	$self->bring_back($_) for $self->ids;
	$self->wait_until(
		'the cluster is not paused',
		sub {
			my $primary = $self->primary;
			my $paused = $self->ask($primary, 'SELECT paused FROM pg_stat_pgraft_ha') // 't';
			return 1 if $paused eq 'f';
			$self->ask($primary, 'SELECT pgraft_resume()');
			return 0;
		});
	if ($self->{standbys_changed})
	{
		$self->set_standbys($_, 1) for $self->ids;
		$self->{standbys_changed} = 0;
	}
	$self->add_anew;
	return $self->{primary} = $self->settled(SETTLE_SECONDS);
}

# Is the server's postmaster there?  Gives its pid.
sub up
{
	my ($self, $id) = @_;
	my $pid = $self->postmaster($id) or return 0;

	open(my $in, '<', "/proc/$pid/cmdline") or return 0;
	my $text = <$in> // '';
	return $text =~ /postgres\0/ && $text =~ /\Q$self->{servers}{$id}{data}\E(\0|$)/ ? $pid : 0;
}

sub bring_back
{
	my ($self, $id) = @_;
	my $server = $self->server($id);

	if (my $ending = delete $server->{ending})
	{
		$self->wait_until("server $id ends", sub { $self->up($id) != $ending });
	}
	# a supervisor that ends by itself is started again, as systemd would do it
	$self->wait_until(
		"server $id answers",
		sub {
			$self->start_somehow($id) if !$self->supervised($id) && !$self->up($id);
			return defined $self->ask($id, 'SELECT 1');
		});
	$server->{running} = 1;
	return;
}

# Either under the supervisor, which also mends it, or alone, as chance wills.
sub start_somehow
{
	my ($self, $id) = @_;

	return rand() < 0.5 ? $self->supervise($id) : $self->start($id);
}

sub supervise
{
	my ($self, $id) = @_;
	my $server = $self->server($id);
	my $pid = fork();

	die "could not fork: $!\n" if !defined $pid;
	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', "$self->{directory}/server$id.log");
		open(STDERR, '>&', \*STDOUT);
		exec($self->at($id), "$self->{bindir}/pgraftctl", 'run', '-D', $server->{data}) or POSIX::_exit(127);
	}
	$server->{supervisor} = $pid;
	return;
}

# the pid of its supervisor, if there is one
sub supervised
{
	my ($self, $id) = @_;
	my $server = $self->server($id);

	return 0 if !$server->{supervisor};
	return $server->{supervisor} if waitpid($server->{supervisor}, POSIX::WNOHANG()) == 0;
	delete $server->{supervisor};
	return 0;
}

sub end_supervisor
{
	my ($self, $id) = @_;
	my $pid = $self->supervised($id) or return;

	kill('KILL', $pid);
	waitpid($pid, 0);
	delete $self->server($id)->{supervisor};
	return;
}

# By hand only where nobody does it.  When the primary goes away meanwhile, it is
# tried again, as a person would.
sub rejoin
{
	my ($self, $id) = @_;

	return if $self->supervised($id) || eval { $self->SUPER::rejoin($id); 1; };
	$self->bring_back($id);
	return;
}

sub kill_all
{
	my ($self, $id) = @_;

	$self->end_supervisor($id);
	return $self->SUPER::kill_all($id);
}

sub thaw_everything
{
	my ($self) = @_;

	for my $pid (keys %{ $self->{stopped} })
	{
		kill('CONT', $pid);
	}
	$self->{stopped} = {};
	return;
}

# Runs a statement without waiting for it.
sub ask_aside
{
	my ($self, $id, $sql) = @_;

	local $SIG{CHLD} = 'DEFAULT';
	my $pid = fork() // die "could not fork: $!\n";
	if ($pid == 0)
	{
		# its parent ends at once, so that nobody has to wait for it
		POSIX::_exit(0) if fork();
		$self->ask($id, $sql);
		POSIX::_exit(0);
	}
	waitpid($pid, 0);
	return;
}

sub set_standbys
{
	my ($self, $id, $n) = @_;

	$self->ask($id, "ALTER SYSTEM SET pgraft.synchronous_standbys = $n");
	$self->ask($id, 'SELECT pg_reload_conf()');
	return;
}

# Members that were removed, with their data lost, join again.
sub add_anew
{
	my ($self) = @_;

	for my $id (sort keys %{ $self->{absent} || {} })
	{
		my $primary = $self->settled(SETTLE_SECONDS);
		my $server = $self->{absent}{$id};

		$self->{servers}{$id} = delete $self->{absent}{$id};
		$self->make_member($id, $primary);
	}
	return;
}

# ----------------------------------------------------------------
# Judgement
# ----------------------------------------------------------------

sub judge
{
	my ($self) = @_;
	my $started = time();

	# all at once, so that none goes on for long after the others
	kill('TERM', grep { defined } map { $_->{pid} } @{ $self->{clients} });
	$_->end('TERM') for @{ $self->{clients} };
	my @figures = PgraftVerdict::judge($self);
	printf "%7.1f s  all servers compared in %.1f s: %s\n", time() - $self->{started}, time() - $started, join(', ', @figures);
	unlink(map { $_->{file} } @{ $self->{clients} });
	$self->{clients} = $self->{writers} = [];
	return;
}

# When the servers did not settle they cannot be compared, but whether anybody was
# told wrong shows on the primary.
sub judge_primary
{
	my ($self) = @_;

	my $good = eval {
		$_->end('TERM') for @{ $self->{clients} };
		my $primary = $self->primary;
		print "on the primary, server $primary: ", join(', ', PgraftVerdict::judge_clients($self, $primary)), ", nothing lost\n";
		1;
	};
	print "on the primary: $@" if !$good;
	return;
}

sub print_summary
{
	my ($self) = @_;
	my %times = %{ $self->{times} || {} };
	my %of;

	print "\ninjected:\n";
	printf "  %5d  %s\n", $times{$_}, $_ for sort { $times{$b} <=> $times{$a} || $a cmp $b } keys %times;
	for my $name (keys %{ $self->{outages} })
	{
		push @{ $of{ $name =~ / \+ / ? 'two at once' : $name } }, @{ $self->{outages}{$name} };
	}
	print "longest time without an acknowledged row, ms:            min  median     max  rounds\n";
	for my $name (sort keys %of)
	{
		my @sorted = sort { $a <=> $b } @{ $of{$name} };
		printf "  %-48s %8.0f %7.0f %7.0f %7d\n", $name, $sorted[0], $sorted[ $#sorted / 2 ], $sorted[-1], scalar @sorted;
	}
	printf "acknowledged: %d rows, %d two-phase transactions, %d register operations in histories; stale reads %d, the longest by %.1f ms\n",
	  map { $_ || 0 } @{ $self->{total} }{qw(rows pairs operations stale)}, ($self->{total}{stalest} || 0) / 1000;
	return;
}

sub shut_down
{
	my ($self) = @_;

	$self->thaw_everything;
	$self->end_supervisor($_) for $self->ids;
	for my $id ($self->ids)
	{
		$self->server($id)->{running} = $self->up($id) ? 1 : 0;
	}
	return $self->SUPER::shut_down;
}

1;
