# Copyright (c) 2026, pgraft contributors

# A leader that gave up handing leadership to a silent primary has no lease in that
# term, since its word may still arrive.  When it is promoted itself, it must accept
# writes all the same.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => "pgraft.election_timeout = 1s\n");
$cluster->form;
is($cluster->wait_primary, 1, 'server 1 is the primary');

# of two members that have the same, the first in the document is promoted
$cluster->query(1, 'SELECT pgraft_transfer_leadership(2)');
$cluster->wait_until('server 2 leads', sub { ($cluster->ask(2, 'SELECT pgraft_is_leader()') // '') eq 't' });
my $term = $cluster->query(2, 'SELECT pgraft_get_term()');
my $epoch = $cluster->query(2, 'SELECT epoch FROM pg_stat_pgraft_ha');

# it does not hear that it is to lead
my $worker = $cluster->worker_pid(1);
kill('STOP', $worker) == 1 or die 'could not stop the worker';
my ($given_back) = $cluster->try_query(2, 'SELECT pgraft_transfer_leadership(1)', 20);
ok(!$given_back, 'the leadership cannot be given back to a stopped worker');
is($cluster->wait_primary(not => 1, seconds => 30), 2, 'the leader is promoted and accepts writes');
my ($inserted, $error) = $cluster->try_query(2, "INSERT INTO writes VALUES ('void lease', 1)", 20);
ok($inserted, 'a row is acknowledged') or diag($error);
cmp_ok($cluster->query(2, 'SELECT epoch FROM pg_stat_pgraft_ha'), '>', $epoch, 'in a newer epoch');
cmp_ok($cluster->query(2, 'SELECT pgraft_get_term()'), '>', $term, 'and a newer term');

kill('CONT', $worker);
$cluster->follows_or_rewound(1);
$cluster->wait_synchronous(3);
is($cluster->query($cluster->wait_primary, "SELECT count(*) FROM writes WHERE name = 'void lease'"), 1, 'the row is there');
$cluster->node($_)->stop('immediate') for $cluster->running;
done_testing();
