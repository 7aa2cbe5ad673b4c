# Copyright (c) 2026, pgraft contributors

# A standby dies while it receives the first segment of a new timeline: it has a
# part of it that ends before the timeline begins.  PostgreSQL alone would refuse
# to start with that; here it starts and follows.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use PostgreSQL::Test::Utils;
use Test::More;

my $cluster = PgraftHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
my $writer = $cluster->start_sql_writer('w');
$cluster->wait_writes($writer, 50);

my $old = $cluster->wait_primary;
$cluster->kill_all($old);
my $primary = $cluster->wait_primary(not => $old);
my ($standby) = grep { $_ != $old && $_ != $primary } $cluster->ids;
$cluster->wait_streaming($standby);
$cluster->wait_writes($writer, 50);
my $node = $cluster->node($standby);
my $wal = $node->data_dir . '/pg_wal';
$node->stop('immediate');

my ($timeline) = sort { $b cmp $a } map { /(\w{8})\.history$/ } glob("$wal/*.history");
my ($high, $low) = (split /\n/, slurp_file("$wal/$timeline.history"))[-1] =~ m{^\d+\t([0-9A-F]+)/([0-9A-F]+)\t}
  or die "no fork in the history of timeline $timeline";
my $fork = hex($low) % (16 * 1024 * 1024);
my $segment = sprintf '%s/%s%08X%08X', $wal, $timeline, hex($high), hex($low) >> 24;
my $page = int($fork / 2 / 8192) * 8192;

cmp_ok($fork, '>', 2 * 8192, 'the timeline begins within a segment');
ok(-f $segment, 'of which the standby has the first segment');
open(my $file, '+<', $segment) or die "could not open \"$segment\": $!";
binmode $file;
seek($file, $page, 0);
print $file "\0" x (16 * 1024 * 1024 - $page);
close($file) or die "could not write \"$segment\": $!";

my $logged = -s $node->logfile;
$cluster->start_node($standby);
$cluster->wait_streaming($standby);
pass('with a part of it the standby starts and follows');
like(slurp_file($node->logfile, $logged), qr/set WAL segment "pg_wal\/$timeline\w{16}" aside/, 'and says what it did');
$cluster->start_node($old);
$cluster->settle('in the end', $writer->stop);
done_testing();
