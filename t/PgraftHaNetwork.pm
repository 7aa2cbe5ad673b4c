# PgraftHaNetwork.pm
#
# Servers in HA mode that each have a network of their own (PgraftNetwork), by
# which they reach each other for consensus and for replication.  Clients of the
# test use the servers' sockets, which no cut concerns.

package PgraftHaNetwork;

use strict;
use warnings FATAL => 'all';

use PgraftNetwork;
use parent -norequire, qw(PgraftHa PgraftNetwork);
use PgraftHa;

sub new
{
	my ($class, %options) = @_;

	PgraftNetwork::make_bridge();
	return PgraftHa::new($class, %options, tls => 1);
}

sub configure
{
	my ($self, $id, $conf) = @_;
	my $address = "10.77.0.$id";

	$self->make_network($id);
	$self->{ports}{$id} = PgraftNetwork::PORT;
	$self->SUPER::configure($id, <<"CONF" . ($conf // ''));
listen_addresses = '$address'
pgraft.address = '$address'
pgraft.postgres_address = '$address'
wal_receiver_timeout = 5s
wal_sender_timeout = 5s
CONF
	$self->node($id)->append_conf('pg_hba.conf', "host all all 10.77.0.0/24 trust\nhost replication all 10.77.0.0/24 trust\n");
	return;
}

sub start_node { my ($self, $id) = @_; return PgraftNetwork::start_node($self, $id); }
sub add { my ($self, $at, $id) = @_; return PgraftNetwork::add($self, $at, $id); }

1;
