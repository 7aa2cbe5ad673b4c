# PgraftArea.pm
#
# A private place to run servers in, for tests, demo and benchmarks: a temporary
# directory with a copy of the PostgreSQL programs and the extension installed
# into that copy.  So nothing of this touches an installed PostgreSQL, the same
# commands work with and without root, and several runs can go on at once.
#
# PostgreSQL refuses to run as root: then everything in the area belongs to the
# system user "pgraft-test", and drop_privileges() turns this process into it.

package PgraftArea;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Errno;
use File::Basename qw(basename dirname);
use File::Copy ();
use File::Path qw(make_path remove_tree);
use File::Temp ();
use PgraftNamespaces;
use POSIX ();

use constant TEST_USER => 'pgraft-test';

our $source = dirname(dirname(abs_path(__FILE__)));

# make, prove or another parent in a terminal may have set these
delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS PGDATA PGHOST PGPORT PGUSER PGDATABASE PGSERVICE PGOPTIONS)};

# PgraftArea->new(kind => 'test'): the directory, empty
sub new
{
	my ($class, %options) = @_;
	my $parent = $ENV{PGRAFT_TMPDIR} || $ENV{TMPDIR} || '/tmp';
	my $self = {
		directory => File::Temp::tempdir("pgraft-$options{kind}.XXXXXX", DIR => $parent),
		owner => $$,
		user => undef,
		pg_config => $ENV{PG_CONFIG} || 'pg_config',
	};

	bless $self, $class;
	if ($> == 0)
	{
		$self->{user} = test_user();
		chown($self->{user}{uid}, $self->{user}{gid}, $self->{directory})
		  or die "could not give away \"$self->{directory}\": $!\n";
	}
	chmod(0700, $self->{directory});
	return $self;
}

# the unprivileged user that runs servers when we are root
sub test_user
{
	my @entry = getpwnam(TEST_USER);

	if (!@entry)
	{
		run('useradd', '--system', '--user-group', '--no-create-home',
			'--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin', TEST_USER);
		@entry = getpwnam(TEST_USER) or die "could not make user " . TEST_USER . "\n";
	}
	return { uid => $entry[2], gid => $entry[3] };
}

sub run
{
	my @command = @_;

	system(@command) == 0 or die "failed: @command\n";
	return;
}

sub config
{
	my ($self, $name) = @_;
	my $value = `$self->{pg_config} --$name`;

	die "\"$self->{pg_config} --$name\" failed\n" if $? != 0;
	chomp $value;
	$value =~ s{(?<=.)/+$}{};
	return $value;
}

# Copies PostgreSQL and installs the extension into the copy; afterwards
# {bindir} holds postgres, psql, ...  The server finds its other directories
# relative to its own program, so they only have to lie the same way; all that
# a program does not look at itself can be a link to the original.
sub stage
{
	my ($self) = @_;
	my $stage = "$self->{directory}/stage";
	my ($bin, $lib, $share) = map { $self->config($_) } qw(bindir pkglibdir sharedir);

	make_path("$stage$bin", "$stage$lib", "$stage$share/extension");
	for my $file (glob("$bin/*"))
	{
		my $copy = "$stage$bin/" . basename($file);
		File::Copy::copy($file, $copy) or die "could not copy \"$file\": $!\n";
		chmod(0755, $copy);
	}
	link_all($lib, "$stage$lib");
	link_all($share, "$stage$share");
	link_all("$share/extension", "$stage$share/extension");
	# an installed version must not shadow the one under test
	unlink("$stage$lib/pgraft.so", glob("$stage$share/extension/pgraft*"));
	link_all("$lib/bitcode", "$stage$lib/bitcode") if !-e "$stage$lib/bitcode" && -d "$lib/bitcode";

	run('make', '-s', '-C', $source, 'install', "DESTDIR=$stage",
		"PG_CONFIG=$self->{pg_config}");
	$self->{bindir} = "$stage$bin";
	return;
}

sub link_all
{
	my ($from, $to) = @_;

	make_path($to);
	for my $file (glob("$from/*"))
	{
		my $target = "$to/" . basename($file);
		next if -e $target;
		symlink($file, $target) or die "could not link \"$target\": $!\n";
	}
	return;
}

# use the PostgreSQL that "make install" went to
sub use_installed
{
	my ($self) = @_;

	$self->{bindir} = $self->config('bindir');
	return;
}

# Copies files or directories of the source tree (names relative to it).
sub bring
{
	my ($self, @names) = @_;

	make_path("$self->{directory}/source");
	for my $name (@names)
	{
		my $parent = dirname("$self->{directory}/source/$name");
		make_path($parent);
		run('cp', '-R', "$source/$name", "$parent/") if -e "$source/$name";
	}
	return;
}

# Everything made so far becomes the test user's, and so does this process,
# which cannot go back.  Call it in a child when something is to be done as root
# afterwards.
sub drop_privileges
{
	my ($self) = @_;
	my $user = $self->{user};

	$ENV{HOME} = $self->{directory};
	$ENV{LC_ALL} = 'C';
	chdir($self->{directory}) or die "could not enter \"$self->{directory}\": $!\n";
	return if !$user;
	run('chown', '-R', "$user->{uid}:$user->{gid}", $self->{directory});
	$ENV{USER} = $ENV{LOGNAME} = TEST_USER;
	$( = $user->{gid};
	$) = "$user->{gid} $user->{gid}";
	POSIX::setuid($user->{uid});
	die "could not become user " . TEST_USER . "\n" if $< == 0 || $> == 0;
	return;
}

# Runs $work in a child that has become the unprivileged user; returns whether
# it ended well.  We wait through Ctrl-C, because the child cleans up after itself.
sub run_unprivileged
{
	my ($self, $work) = @_;
	my $child = fork();

	die "could not fork: $!\n" if !defined $child;
	if ($child == 0)
	{
		$self->drop_privileges;
		my $status = eval { $work->() };
		warn $@ if $@;
		exit(defined $status ? $status : 1);
	}
	local $SIG{INT} = sub { };
	local $SIG{TERM} = sub { kill('TERM', $child) };
	1 while waitpid($child, 0) == -1 && $!{EINTR};
	return $? == 0;
}

# Does the same with this program itself, run again inside namespaces of its own
# (PgraftNamespaces): there inherited() gives the area.  $program is its name in
# the source tree and was brought along.
sub run_in_network
{
	my ($self, $program, @arguments) = @_;

	return $self->run_unprivileged(
		sub {
			$ENV{PGRAFT_AREA} = join(':', $self->{directory}, $self->{bindir}, $self->{pg_config});
			PgraftNamespaces::run_again("$self->{directory}/source/$program", @arguments);
		});
}

# The area of the process that ran us by run_in_network(); undef when none did.
sub inherited
{
	my ($class) = @_;

	return if !$ENV{PGRAFT_AREA};
	my ($directory, $bindir, $pg_config) = split /:/, $ENV{PGRAFT_AREA};
	return bless { directory => $directory, bindir => $bindir, pg_config => $pg_config, owner => 0 }, $class;
}

# Why run_in_network() cannot be; undef when it can.
sub network_refusal
{
	my ($self) = @_;
	my $file = "$self->{directory}/refusal";

	$self->run_unprivileged(
		sub {
			open(my $out, '>', $file) or die "could not write \"$file\": $!\n";
			print $out PgraftNamespaces::refusal() // '';
			close($out);
			return 0;
		}) or return 'it could not be tried';
	open(my $in, '<', $file) or die "could not read \"$file\": $!\n";
	return do { local $/ = undef; <$in> } || undef;
}

sub remove
{
	my ($self) = @_;

	remove_tree($self->{directory}, { safe => 0 }) if $$ == $self->{owner};
	return;
}

1;
