# Copyright (c) 2026, pgraft contributors

# What an operator can do wrong: settings that contradict each other, a missing
# include line, an address that another cluster or nobody should have, copied data
# directories under the same and under another node id, a replication password
# that changed.  Each is told in plain words, and the cluster loses nothing by it.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, name => 'ours', conf => "wal_keep_size = 512MB\n");
$cluster->form;
my $writer = $cluster->start_sql_writer('w');
$cluster->wait_writes($writer, 20);

settings();
include_line_missing();
another_cluster();
copied('with its consensus directory', 1, 0);
copied('without it', 0, 0);
copied('without it, as a new member', 0, 9);
password_changed();
$cluster->settle('in the end', $writer->stop);
done_testing();

# ----------------------------------------------------------------
# settings
# ----------------------------------------------------------------

sub settings
{
	my $primary = $cluster->wait_primary;
	my ($id) = grep { $_ != $primary } $cluster->ids;
	my $node = $cluster->node($id);
	my $conf = $node->data_dir . '/postgresql.conf';
	my $right = slurp_file($conf);
	my @wrong = (
		[ "max_wal_senders = 1\n", qr/FATAL:.*"pgraft.mode" = "ha" needs .*"max_wal_senders" of at least 2.*HINT:  Give "max_wal_senders" at least two/s ],
		[ "wal_level = minimal\nmax_wal_senders = 0\n", qr/FATAL:.*needs "wal_level" = "replica" or "logical"/s ],
		[ "pgraft.node_id = 0\n", qr/FATAL:.*"pgraft.mode" is "ha" but "pgraft.node_id" is not set.*HINT:  Set "pgraft.node_id"/s ]);

	for my $case (@wrong)
	{
		my ($line, $message) = @$case;
		my $logged = -s $node->logfile;

		$node->stop('fast') if defined $node->{_pid};
		append_to_file($conf, $line);
		is($node->start(fail_ok => 1), 0, "a server with $line does not start");
		like(slurp_file($node->logfile, $logged), $message, 'and says why');
		unlink($conf);
		append_to_file($conf, $right);
	}

	# what failover stands on wins over the file
	append_to_file($conf, "restart_after_crash = off\nhot_standby = off\n");
	$cluster->start_node($id);
	is($cluster->query($id, 'SHOW restart_after_crash'), 'on', 'a server that would not restart after a crash does all the same');
	unlink($conf);
	append_to_file($conf, $right);
	$cluster->follows_or_rewound($id);
	$cluster->wait_writes($writer, 10);
	return;
}

# The names of the synchronous standbys do not reach the server: it says so, and is
# not promoted.
sub include_line_missing
{
	my $old = $cluster->wait_primary;
	my @others = grep { $_ != $old } $cluster->ids;
	my %right = map { $_ => slurp_file($cluster->node($_)->data_dir . '/postgresql.conf') } @others;

	$cluster->settle('before the include line is lost');
	for my $id (@others)
	{
		my $conf = $cluster->node($id)->data_dir . '/postgresql.conf';

		$cluster->node($id)->stop('fast');
		unlink($conf);
		append_to_file($conf, $right{$id} =~ s/^include_if_exists = 'pgraft.auto.conf'\n//gmr);
		$cluster->{logged}{$id} = -s $cluster->node($id)->logfile;
		$cluster->start_node($id);
		$cluster->follows_or_rewound($id);
	}
	$cluster->wait_until(
		'they say that a line is missing',
		sub {
			return !grep {
				slurp_file($cluster->node($_)->logfile, $cluster->{logged}{$_}) !~
				  /"synchronous_standby_names" is not what the cluster asks for.*HINT:  The last line of ".*" must be: include_if_exists = '.*pgraft.auto.conf'/s
			} @others;
		});
	pass('a server without the include line names it');
	$cluster->kill_all($old);
	$cluster->wait_until('a server is chosen and does not promote itself', sub {
		return grep { ($cluster->ask($_, "SELECT phase = 'assigned' AND action ~ 'synchronous_standby_names' FROM pg_stat_pgraft_ha") // '') eq 't' } @others;
	});
	is(scalar(grep { $cluster->query($_, 'SELECT pg_is_in_recovery()') eq 'f' } @others), 0, 'nobody is promoted without it');
	for my $id (@others)
	{
		append_to_file($cluster->node($id)->data_dir . '/postgresql.conf', "include_if_exists = 'pgraft.auto.conf'\n");
		kill('HUP', $cluster->node($id)->{_pid});
	}
	isnt($cluster->wait_primary(not => $old), $old, 'once the line is there again, one of them is');
	$cluster->start_node($old);
	$cluster->settle('the include line');
	$cluster->wait_writes($writer, 10);
	return;
}

# ----------------------------------------------------------------
# servers that do not belong here
# ----------------------------------------------------------------

# The same number of votes, rows and primary as before
sub unharmed
{
	my ($what, $primary, $epoch) = @_;

	is($cluster->wait_primary, $primary, "$what: the primary is what it was");
	is($cluster->query($primary, 'SELECT epoch FROM pg_stat_pgraft_ha'), $epoch, "$what: in the same epoch");
	$cluster->wait_synchronous(3);
	$cluster->wait_writes($writer, 20);
	return;
}

sub another_cluster
{
	my $primary = $cluster->wait_primary;
	my $epoch = $cluster->query($primary, 'SELECT epoch FROM pg_stat_pgraft_ha');
	my $theirs = PgraftHa->new(nodes => 1, name => 'theirs', conf => "wal_keep_size = 64MB\npgraft.request_timeout = 3s\n");

	# our port
	$theirs->node(1)->append_conf('postgresql.conf', "pgraft.port = $cluster->{ports}{1}\n");
	$theirs->start_node(1);
	$theirs->wait_until('the other cluster says that the port is taken', sub { $theirs->failure(1) =~ /$cluster->{ports}{1}.*(in use|Address already)/ });
	pass('a server whose port is taken by another cluster says so');
	$theirs->node(1)->append_conf('postgresql.conf', "pgraft.port = $theirs->{ports}{1}\n");
	$theirs->node(1)->stop('fast');
	$theirs->start_node(1);
	$theirs->query(1, 'SELECT pgraft_init()');
	$theirs->wait_primary;

	# one of our members added to theirs: the same name of the cluster, another system
	my $logged = -s $theirs->node(1)->logfile;
	my $ours_logged = -s $cluster->node(2)->logfile;
	my ($ok, undef, $error) = $theirs->try_query(1, "SELECT pgraft_add_node(2, '127.0.0.1', $cluster->{ports}{2})");
	note($error);
	$theirs->wait_until(
		'one of the two says that they do not belong together',
		sub {
			return (slurp_file($theirs->node(1)->logfile, $logged) . slurp_file($cluster->node(2)->logfile, $ours_logged)) =~
			  /pgraft.*(another cluster|not the same cluster|incarnation|different cluster|does not know|is not a member)/;
		});
	pass('a member of another cluster that is added is told apart');
	unharmed('another cluster', $primary, $epoch);
	is($cluster->query(2, 'SELECT count(*) FROM pgraft_get_nodes()'), 3, 'our member knows our members');
	$theirs->node(1)->stop('immediate');
	return;
}

# A copy of a member's files is started beside it.
sub copied
{
	my ($what, $with_consensus, $node_id) = @_;
	my $primary = $cluster->wait_primary;
	my $epoch = $cluster->query($primary, 'SELECT epoch FROM pg_stat_pgraft_ha');
	my ($id) = grep { $_ != $primary } $cluster->ids;
	my $original = $cluster->node($id);
	my $copy = PostgreSQL::Test::Cluster->new("copy$with_consensus$node_id");

	$original->stop('fast');
	system('cp', '-a', $original->data_dir, $copy->data_dir) == 0 or die 'could not copy the data directory';
	system('cp', '-a', $original->data_dir . '.pgraft', $copy->data_dir . '.pgraft') == 0 or die 'could not copy'
	  if $with_consensus;
	$cluster->start_node($id);
	$cluster->follows_or_rewound($id);
	$copy->append_conf('postgresql.conf', "port = @{[ $copy->port ]}\nunix_socket_directories = '@{[ $copy->host ]}'\n"
		  . 'pgraft.port = ' . PostgreSQL::Test::Cluster::get_free_port() . "\n"
		  . ($node_id ? "pgraft.node_id = $node_id\nprimary_conninfo = 'application_name=node$node_id'\n" : ''));
	$copy->start;
	my $failure = '';
	my $state = '';
	$cluster->wait_until("copy $what: it says where it stands",
		sub {
			($state, $failure) = split /\|/, $copy->safe_psql('postgres', "SELECT worker_state, coalesce(failure, '') FROM pg_stat_pgraft"), 2;
			return $with_consensus ? $state eq 'failed' : $state ne 'starting';
		});
	note("copy $what: $state: $failure");
	like($failure, qr/cop(y|ied)|moved/i, "copy $what: it says that it is a copy") if $with_consensus;

	# it follows nobody, and so confirms nothing in the original's name
	unharmed("copy $what", $primary, $epoch);
	is($cluster->query($primary, 'SELECT count(*) FROM pg_stat_replication WHERE state = \'streaming\''), 2, "copy $what: two standbys stream");
	is($copy->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', "copy $what: it is a standby");
	is($copy->safe_psql('postgres', 'SELECT accepts_writes FROM pg_stat_pgraft_ha'), 'f', "copy $what: that accepts nothing");
	$copy->stop('immediate');
	return;
}

# ----------------------------------------------------------------
# passwords
# ----------------------------------------------------------------

sub password_changed
{
	my $primary = $cluster->wait_primary;
	my $node = $cluster->node($primary);
	my ($id, $other) = grep { $_ != $primary } $cluster->ids;
	my $hba = $node->data_dir . '/pg_hba.conf';
	my $rules = slurp_file($hba);
	my $epoch = $cluster->query($primary, 'SELECT epoch FROM pg_stat_pgraft_ha');
	my $logged;
	my $streams = sub { return $cluster->ask($primary, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'node$id' AND usename = 'standby'") // 0 };

	$cluster->query($primary, "CREATE ROLE standby LOGIN REPLICATION PASSWORD 'right'");
	unlink($hba);
	append_to_file($hba, "local replication standby scram-sha-256\n$rules");
	$node->reload;
	$cluster->node($id)->append_conf('postgresql.conf', "primary_conninfo = 'application_name=node$id user=standby password=right'\n");
	$cluster->node($id)->reload;
	$cluster->wait_until('it streams with its password', sub { $streams->() == 1 });
	pass('a standby streams with a password');

	$logged = -s $cluster->node($id)->logfile;
	$cluster->query($primary, "ALTER ROLE standby PASSWORD 'other'");
	$cluster->query($primary, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'node$id'");
	$cluster->wait_until('the standby says that its password is wrong',
		sub { slurp_file($cluster->node($id)->logfile, $logged) =~ /could not connect to the primary server.*password authentication failed for user "standby"/ });
	pass('a standby whose password is wrong says so');
	$cluster->wait_until('the primary counts it as one that does not follow',
		sub { $cluster->ask($primary, "SELECT state = 'lagging' FROM pgraft_ha_members() WHERE node_id = $id") eq 't' });
	$cluster->wait_writes($writer, 20);
	pass('commits go on with the other standby');
	$cluster->node($id)->append_conf('postgresql.conf', "primary_conninfo = 'application_name=node$id user=standby password=other'\n");
	$cluster->node($id)->reload;
	$cluster->wait_until('it streams with the new password', sub { $streams->() == 1 });
	unharmed('the password', $primary, $epoch);
	$cluster->node($id)->append_conf('postgresql.conf', "primary_conninfo = 'application_name=node$id'\n");
	$cluster->node($id)->reload;
	unlink($hba);
	append_to_file($hba, $rules);
	$node->reload;
	return;
}
