# PgraftNetwork.pm
#
# Members that each have a network of their own, which a test cuts as it likes.
#
# The test runs itself again inside new user, network and mount namespaces, so no
# privilege is needed and nothing outside is touched.  In there each server gets
# a network namespace with the address 10.77.0.<id>, all on one bridge.  A cut is
# made where the packets arrive: the sender notices nothing but silence.

package PgraftNetwork;

use strict;
use warnings FATAL => 'all';

use Test::More;

# Before PostgreSQL::Test::Utils redirects our output: to be used first by a test.
# Skips the whole test where this machine does not allow it.
sub enter
{
	my @unshare = qw(unshare --user --map-current-user --keep-caps --net --mount);

	return if $ENV{PGRAFT_IN_NETWORK};
	for my $program (qw(unshare nsenter ip iptables))
	{
		plan(skip_all => "$program is not installed")
		  if !grep { -x "$_/$program" } split(/:/, $ENV{PATH}), '/usr/sbin', '/sbin';
	}
	local $ENV{PATH} = "$ENV{PATH}:/usr/sbin:/sbin";
	my $trial = 'mount -t tmpfs tmpfs /run && ip netns add trial && '
	  . 'ip link add trial0 type veth peer name eth0 netns trial && '
	  . 'nsenter --net=/run/netns/trial iptables -w -A INPUT -s 10.77.0.1 -j DROP';
	my $said = qx(@unshare sh -c '$trial' 2>&1);
	plan(skip_all => "this machine allows no user namespace with a network: $said") if $? != 0;
	$ENV{PGRAFT_IN_NETWORK} = 1;
	exec(@unshare, $^X, (map { "-I$_" } @INC), $0, @ARGV) or die "could not run unshare: $!\n";
}

BEGIN { enter() }

use parent -norequire, 'PgraftCluster';
use Carp qw(croak);
use PgraftCluster;
use PostgreSQL::Test::Utils;

use constant PORT => 7001;

sub make_bridge
{
	run('mount', '-t', 'tmpfs', 'tmpfs', '/run');
	run(qw(ip link set lo up));
	run(qw(ip link add bridge0 type bridge));
	run(qw(ip address add 10.77.0.254/24 dev bridge0));
	run(qw(ip link set bridge0 up));
	return;
}

sub new
{
	my ($class, %options) = @_;

	make_bridge();
	return $class->SUPER::new(%options, tls => 1);
}

sub run
{
	my @command = @_;

	local $ENV{PATH} = "$ENV{PATH}:/usr/sbin:/sbin";
	system(@command) == 0 or croak "failed: @command";
	return;
}

sub inside
{
	my ($id, @command) = @_;
	return ('nsenter', "--net=/run/netns/member$id", @command);
}

# The network namespace of a server, when it is first asked for.
sub make_network
{
	my ($self, $id) = @_;

	return if $self->{wrapper}{$id};
	run('ip', 'netns', 'add', "member$id");
	run('ip', 'link', 'add', "member$id", 'type', 'veth', 'peer', 'name', 'eth0', 'netns', "member$id");
	run('ip', 'link', 'set', "member$id", 'master', 'bridge0', 'up');
	run(inside($id, qw(ip link set lo up)));
	run(inside($id, qw(ip address add), "10.77.0.$id/24", qw(dev eth0)));
	run(inside($id, qw(ip link set eth0 up)));

	# pg_ctl of this server starts it in there; its socket is a file, for all
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my ($pg_ctl) = grep { -x } map { "$_/pg_ctl" } split /:/, $ENV{PATH};
	open(my $out, '>', "$directory/pg_ctl") or croak "could not write \"$directory/pg_ctl\": $!";
	print $out "#!/bin/sh\nexec ", join(' ', inside($id, $pg_ctl)), ' "$@"', "\n";
	close($out);
	chmod(0755, "$directory/pg_ctl");
	$self->{wrapper}{$id} = $directory;
	return;
}

sub make_node
{
	my ($self, $id, $conf) = @_;

	$self->make_network($id);
	return $self->SUPER::make_node($id,
		"pgraft.address = '10.77.0.$id'\npgraft.port = @{[ PORT ]}\n" . ($conf // ''));
}

sub start_node
{
	my ($self, $id) = @_;

	local $ENV{PATH} = "$self->{wrapper}{$id}:$ENV{PATH}";
	return $self->SUPER::start_node($id);
}

sub add
{
	my ($self, $at, $id) = @_;
	return $self->query($at, "SELECT pgraft_add_node($id, '10.77.0.$id', @{[ PORT ]})");
}

# ----------------------------------------------------------------
# Cutting
# ----------------------------------------------------------------

# Nothing that $from sends arrives at $to any more.
sub deafen
{
	my ($self, $to, @from) = @_;

	run(inside($to, qw(iptables -w -A INPUT -s), "10.77.0.$_", qw(-j DROP))) for @from;
	return;
}

# Of what they send, only what belongs to the consensus is lost.
sub deafen_consensus
{
	my ($self, $to, @from) = @_;

	for my $id (@from)
	{
		run(inside($to, qw(iptables -w -A INPUT -s), "10.77.0.$id", qw(-p tcp), $_, PORT, qw(-j DROP))) for qw(--dport --sport);
	}
	return;
}

# Nobody of one group hears anybody of another; who is in none hears all.
sub split_into
{
	my ($self, @groups) = @_;

	for my $i (0 .. $#groups)
	{
		my @others = map { @{ $groups[$_] } } grep { $_ != $i } 0 .. $#groups;
		$self->deafen($_, @others) for @{ $groups[$i] };
	}
	return;
}

# Only neighbours of the list hear each other; $ring: also the first and the last.
sub chain
{
	my ($self, $ring, @ids) = @_;

	for my $i (0 .. $#ids)
	{
		my @near = grep { $_ >= 0 && $_ <= $#ids } $i - 1, $i + 1;
		@near = map { $_ % @ids } $i - 1, $i + 1 if $ring;
		$self->deafen($ids[$i], map { $ids[$_] } grep { my $j = $_; $j != $i && !grep { $_ == $j } @near } 0 .. $#ids);
	}
	return;
}

# Each packet is lost with this probability, everywhere.
sub lose
{
	my ($self, $probability) = @_;

	run(inside($_, qw(iptables -w -A INPUT -m statistic --mode random --probability), $probability, qw(-j DROP))) for $self->ids;
	return;
}

sub heal
{
	my ($self) = @_;

	run(inside($_, qw(iptables -w -F INPUT))) for $self->ids;
	return;
}

1;
