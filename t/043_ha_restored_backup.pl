# Copyright (c) 2026, pgraft contributors

# An old backup is put in place of a standby's data, then of a primary's, then of
# all servers' data, each beside the consensus directory that knows better.  Such
# a server is not counted in an election and must be cloned; when nothing newer is
# left, the cluster waits for an operator, who makes it the primary with what it has.

use strict;
use warnings FATAL => 'all';

use File::Path qw(rmtree);
use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
my %backup;

backups();
standby_restored();
primary_restored();
all_restored();
done_testing();

# of each server, with its own settings
sub backups
{
	my $primary = $cluster->wait_primary;

	$cluster->query($primary, "INSERT INTO writes VALUES ('before', 1)");
	for my $id ($cluster->ids)
	{
		my $node = $cluster->node($id);

		$node->backup("old$id");
		$backup{$id} = $node->backup_dir . "/old$id";
	}
	return;
}

sub restore
{
	my ($id) = @_;
	my $data = $cluster->node($id)->data_dir;

	rmtree($data);
	system('cp', '-a', $backup{$id}, $data) == 0 or die 'could not restore the backup';
	return;
}

# until every server has noted that its WAL went beyond here
sub insert_and_note
{
	my ($name) = @_;
	my $primary = $cluster->wait_primary;

	$cluster->query($primary, "INSERT INTO writes VALUES ('$name', 1)");
	my $lsn = $cluster->query($primary, 'SELECT pg_current_wal_lsn()');
	for my $id ($cluster->running)
	{
		my $file = $cluster->node($id)->data_dir . '.pgraft/position';

		$cluster->wait_until(
			"server $id notes its position",
			sub {
				my ($noted) = -e $file ? slurp_file($file) =~ m{lsn ([0-9A-F]+/[0-9A-F]+)} : ();
				return $noted && $cluster->query($primary, "SELECT '$noted'::pg_lsn >= '$lsn'::pg_lsn") eq 't';
			});
	}
	return;
}

# The only standby that has a row is replaced by an old backup, and the primary dies.
sub standby_restored
{
	my $primary = $cluster->wait_primary;
	my ($restored, $away) = grep { $_ != $primary } $cluster->ids;
	my $logged = -s $cluster->node($restored)->logfile;

	$cluster->kill_all($away);
	insert_and_note('confirmed');
	$cluster->kill_all($restored);
	restore($restored);
	$cluster->kill_all($primary);
	$cluster->start_node($restored);
	$cluster->start_node($away);
	$cluster->wait_until('the restored server says that it is older',
		sub { slurp_file($cluster->node($restored)->logfile, $logged) =~ /the data of this server is older than what it once confirmed.*HINT:  "pgraftctl rejoin/s });
	pass('a standby whose data was replaced by an old backup says so');
	$cluster->wait_until('the other has reported',
		sub { ($cluster->ask($away, "SELECT reported FROM pgraft_ha_member_list() WHERE node_id = $away") // '') eq 't' });
	is($cluster->query($away, "SELECT phase, (SELECT reported FROM pgraft_ha_member_list() WHERE node_id = $restored) FROM pg_stat_pgraft_ha"),
		'sealing|f', 'and is not counted: nobody is promoted');
	$cluster->start_node($primary);
	isnt($cluster->wait_primary, $restored, 'with the server that has everything there is a primary');
	is($cluster->follows_or_rewound($restored), 'reclone', 'the restored one is cloned');
	$cluster->settle('a restored standby');
	is($cluster->query($_, "SELECT count(*) FROM writes WHERE name = 'confirmed'"), 1, "server $_ has what was confirmed")
	  for $cluster->wait_primary, $restored;
	return;
}

sub primary_restored
{
	my $primary = $cluster->wait_primary;

	insert_and_note('primary');
	$cluster->kill_all($primary);
	restore($primary);
	my $new = $cluster->wait_primary(not => $primary);
	$cluster->start_node($primary);
	is($cluster->follows_or_rewound($primary), 'reclone', 'a primary whose data was replaced is cloned');
	$cluster->settle('a restored primary');
	is($cluster->query($primary, "SELECT count(*) FROM writes WHERE name = 'primary'"), 1, 'and has what was confirmed');
	return;
}

sub all_restored
{
	insert_and_note('all');
	$cluster->kill_all($_) for $cluster->ids;
	restore($_) for $cluster->ids;
	my %logged = map { $_ => -s $cluster->node($_)->logfile } $cluster->ids;
	$cluster->start_node($_) for $cluster->ids;
	$cluster->wait_until('all say that they are older',
		sub { return !grep { slurp_file($cluster->node($_)->logfile, $logged{$_}) !~ /the data of this server is older.*pgraft_failover\($_, true\)/s } $cluster->ids });
	pass('when all are restored, all say so and name the way');
	$cluster->wait_until('a newer epoch waits', sub { ($cluster->ask(1, "SELECT phase = 'sealing' FROM pg_stat_pgraft_ha") // '') eq 't' });
	is($cluster->query(1, 'SELECT count(*) FROM pgraft_ha_member_list() WHERE reported'), 0, 'nobody is counted');

	is($cluster->query(2, 'SELECT pgraft_failover(2, true)'), 2, 'an operator accepts what is lost');
	is($cluster->wait_primary, 2, 'that server is the primary');
	is($cluster->query(2, "SELECT string_agg(name, ' ') FROM writes"), 'before', 'with what the backup has');
	$cluster->settle('a restored cluster');
	$cluster->query(2, "INSERT INTO writes VALUES ('after', 1)");
	$cluster->wait_until("server $_ has what is written now", sub { $cluster->ask($_, "SELECT count(*) FROM writes WHERE name = 'after'") == 1 }) for $cluster->ids;
	pass('and all follow it');
	return;
}
