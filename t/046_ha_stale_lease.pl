# Copyright (c) 2026, pgraft contributors

# A primary whose consensus worker stood still while another server became primary
# hears the new leader before it has that leader's entries; with a disk that does
# not answer it never gets them.  Hearing alone gives it no lease: it serves no
# table until it knows better.

use strict;
use warnings FATAL => 'all';

use PgraftHa;
use Test::More;
use Time::HiRes qw(time);

# servers whose consensus directory can be made to stall
package StallHa
{
	our @ISA = ('PgraftHa');

	sub configure
	{
		my ($self, $id, $conf) = @_;

		$self->make_disk($id, $self->node($id)) if !$self->{disk}{$id};
		return $self->SUPER::configure($id, $conf);
	}
}

my $cluster = StallHa->new(nodes => 3, conf => "wal_keep_size = 512MB\n");
$cluster->form;
for my $stall (0, 1)
{
	my $what = $stall ? 'with a stalled disk' : 'with a good disk';
	my $old = $cluster->wait_primary;

	$cluster->wait_until("$what: the primary leads", sub { ($cluster->ask($old, 'SELECT pgraft_is_leader()') // '') eq 't' });
	my $reader = $cluster->session($old);
	$reader->say('SELECT count(*) FROM writes');
	ok($reader->heard(qr/^\d+$/m, 10), "$what: the primary serves reads");
	my $worker = $cluster->worker_pid($old);
	kill('STOP', $worker) == 1 or die 'could not stop the worker';
	my $new = $cluster->wait_primary(not => $old, seconds => 30);
	$cluster->query($new, "INSERT INTO writes VALUES ('new $stall', 1)");
	my ($ok) = $cluster->try_query($old, 'SELECT count(*) FROM writes');
	ok(!$ok, "$what: without its worker it is fenced");
	$cluster->disk($old, stall => 1) if $stall;
	kill('CONT', $worker);

	# until it is demoted, which may be at once; on the stalled disk it never is, and four
	# lengths of its lease will do
	my ($stale, $asked) = (0, 0);
	my $until = time() + 2;
	while (time() < $until || !$stall)
	{
		$reader->say("SELECT 'rows ' || count(*) FROM writes WHERE name = 'new $stall'");
		$reader->heard(qr/^rows \d|ERROR|LOST/m, 10) or die "no answer: $reader->{out}";
		last if $reader->{out} =~ /LOST/;
		$asked++;
		$stale++ if $reader->{out} =~ /^rows 0/m;
	}
	cmp_ok($asked, '>', 0, "$what: it was asked") if $stall;
	is($stale, 0, "$what: it never served what another primary had replaced");
	$cluster->disk($old, stall => 0) if $stall;
	$reader->end;
	$cluster->settle($what);
}
done_testing();
