# PgraftNamespaces.pm
#
# A network of its own for demo servers and benchmarks: each server in a network
# namespace with an address of its own, all on one bridge, on which clients have
# an address, too.  Servers are cut off as a pulled cable or a bad switch would do
# it: nobody notices anything but silence.
#
# No privilege is needed where the kernel lets an unprivileged user make
# namespaces: the program runs itself again inside new user, network and mount
# namespaces (run_again), and everything goes away with its last process.

package PgraftNamespaces;

use strict;
use warnings FATAL => 'all';

use constant CLIENTS => 254;

my @unshare = qw(unshare --user --map-current-user --keep-caps --net --mount);

# Why this machine cannot do it; undef when it can.  To be called by the user who
# will run the servers.
sub refusal
{
	local $ENV{PATH} = "$ENV{PATH}:/usr/sbin:/sbin";
	for my $program (qw(unshare nsenter ip iptables))
	{
		return "$program is not installed" if !grep { -x "$_/$program" } split /:/, $ENV{PATH};
	}
	my $trial = 'mount -t tmpfs tmpfs /run && ip netns add trial && '
	  . 'ip link add trial0 type veth peer name eth0 netns trial && '
	  . 'nsenter --net=/run/netns/trial iptables -w -A INPUT -s 10.77.0.1 -j DROP';
	my $said = `@unshare sh -c '$trial' 2>&1`;
	return $? == 0 ? undef : "this machine allows no user namespace with a network: $said";
}

# Does not return: $program goes on in the new namespaces.
sub run_again
{
	my ($program, @arguments) = @_;

	exec(@unshare, $^X, $program, @arguments) or die "could not run unshare: $!\n";
}

# The bridge, without servers.  Only after run_again().
sub new
{
	my ($class) = @_;
	my $self = bless { members => {} }, $class;

	$ENV{PATH} = "$ENV{PATH}:/usr/sbin:/sbin";
	run(qw(mount -t tmpfs tmpfs /run));
	run(qw(ip link set lo up));
	run(qw(ip link add bridge0 type bridge));
	run(qw(ip address add), address(CLIENTS) . '/24', qw(dev bridge0));
	run(qw(ip link set bridge0 up));
	# what a server that was taken off the bridge still sends
	run(qw(iptables -w -A INPUT -i member+ -j DROP));
	return $self;
}

sub run
{
	my @command = @_;

	system(@command) == 0 or die "failed: @command\n";
	return;
}

sub address { my ($number) = @_; return "10.77.0.$number"; }

# A place for a server with that number (1 to 253); nothing when there is one.
sub add
{
	my ($self, $number) = @_;

	return if $self->{members}{$number}++;
	run('ip', 'netns', 'add', "member$number");
	run('ip', 'link', 'add', "member$number", 'type', 'veth', 'peer', 'name', 'eth0', 'netns', "member$number");
	run('ip', 'link', 'set', "member$number", 'master', 'bridge0', 'up');
	run(inside($number, qw(ip link set lo up)));
	run(inside($number, qw(ip address add), address($number) . '/24', qw(dev eth0)));
	run(inside($number, qw(ip link set eth0 up)));
	return;
}

# the command, to be run where that server lives
sub inside
{
	my ($number, @command) = @_;
	return ('nsenter', "--net=/run/netns/member$number", @command);
}

# Nobody hears the server any more, clients included, nor does it hear anybody.
sub unplug
{
	my ($self, $number) = @_;

	run('ip', 'link', 'set', "member$number", 'nomaster');
	return;
}

# Nothing that the numbers @from send arrives at $to (CLIENTS is a number, too).
sub deafen
{
	my ($self, $to, @from) = @_;
	my @where = $to == CLIENTS ? () : inside($to);

	run(@where, qw(iptables -w -A INPUT -s), join(',', map { address($_) } @from), qw(-j DROP)) if @from;
	return;
}

# What arrives at the server is heard again, and so is it by all.
sub heal
{
	my ($self, @numbers) = @_;

	for my $number (@numbers)
	{
		run('ip', 'link', 'set', "member$number", 'master', 'bridge0');
		run(inside($number, qw(iptables -w -F INPUT)));
	}
	return;
}

1;
