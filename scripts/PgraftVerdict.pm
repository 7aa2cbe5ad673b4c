# PgraftVerdict.pm
#
# What is true after some minutes of torture: what clients were told against what
# every server has, and the servers against each other.  Each check dies with what
# is wrong.

package PgraftVerdict;

use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(sha256_hex);

use constant {
	# a deposed primary reads no longer than its lease, half of the default
	# pgraft.election_timeout
	LEASE_US => 500_000,
	EXAMPLES => 5,
};

# The clients have stopped, the servers have settled.  Returns figures to print.
sub judge
{
	my ($lab) = @_;
	my $primary = $lab->primary;
	my @ids = $lab->ids;

	resolve_prepared($lab, $primary);
	$lab->wait_replayed($_) for @ids;
	my @figures = judge_clients($lab, @ids);
	push @figures, same_data($lab);
	same_origin($lab);
	indexes($lab);
	return @figures;
}

# What clients were told, against what these servers have.
sub judge_clients
{
	my ($lab, @ids) = @_;

	resolve_prepared($lab, $ids[0]) if @ids == 1;
	return (rows($lab, @ids), pairs($lab, @ids), registers($lab));
}

# At the end: what was acknowledged in any segment is still there, and no page is damaged.
sub check_everything_again
{
	my ($lab) = @_;

	for my $id ($lab->ids)
	{
		$lab->wait_replayed($id);
		my %found = map { $_ => 1 } split /\n/, $lab->query($id, 'SELECT name FROM writes');
		complain("server $id lacks rows that were acknowledged in an earlier segment", grep { !$found{$_} } @{ $lab->{acknowledged} });
	}
	$lab->end_supervisor($_) for $lab->ids;
	for my $id ($lab->ids)
	{
		$lab->stop($id);
		$lab->run("$lab->{bindir}/pg_checksums", '--check', '-D', $lab->server($id)->{data});
	}
	print "data checksums are right on all servers\n";
	return;
}

sub complain
{
	my ($what, @examples) = @_;

	return if !@examples;
	my $n = @examples;
	splice(@examples, EXAMPLES) if $n > EXAMPLES;
	die "$what: $n, for example " . join('; ', @examples) . "\n";
}

# What was prepared and is not decided is committed, as its client wanted.
sub resolve_prepared
{
	my ($lab, $primary) = @_;

	# a session that ended without its client's knowledge may still be at it
	$lab->wait_until(
		'no transaction is left prepared',
		sub {
			my @gids = split /\n/, $lab->query($primary, 'SELECT gid FROM pg_prepared_xacts');
			$lab->ask($primary, "COMMIT PREPARED '$_'") for @gids;
			return @gids == 0;
		});
	return;
}

# ----------------------------------------------------------------
# Clients
# ----------------------------------------------------------------

sub text
{
	my ($entry, $why) = @_;
	return sprintf('%s sent %.6f answered %.6f by server %d%s', $entry->{name}, $entry->{start}, $entry->{end}, $entry->{server}, $why // '');
}

# Acknowledged rows are everywhere, refused ones nowhere, and no two primaries
# acknowledged at a time.
sub rows
{
	my ($lab, @ids) = @_;
	my @record = map { $_->record } grep { $_->{kind} eq 'set' } @{ $lab->{clients} };
	my @acknowledged = grep { $_->{outcome} eq 'ack' } @record;
	my @refused = grep { $_->{outcome} eq 'refused' } @record;
	my %epoch;

	for my $id (@ids)
	{
		%epoch = map { split /\|/ } split /\n/, $lab->query($id, "SELECT name, coalesce(epoch, 0) FROM writes WHERE name LIKE 's$lab->{segment}.%'");
		complain("server $id lacks acknowledged rows", map { text($_) } grep { !exists $epoch{ $_->{name} } } @acknowledged);
		complain("server $id has refused rows", map { text($_, " $_->{state}") } grep { exists $epoch{ $_->{name} } } @refused);
	}
	one_primary_at_a_time(\%epoch, @acknowledged);
	push @{ $lab->{acknowledged} }, map { $_->{name} } @acknowledged;
	$lab->{total}{rows} += @acknowledged;
	return scalar(@acknowledged) . ' rows';
}

# A row that was sent after another was acknowledged is of no older epoch, and the
# rows of an epoch were all taken by one server.
sub one_primary_at_a_time
{
	my ($epoch, @acknowledged) = @_;
	my @by_end = sort { $a->{end} <=> $b->{end} } @acknowledged;
	my ($newest, $next) = (0, 0);
	my (%server_of, @wrong);

	for my $entry (sort { $a->{start} <=> $b->{start} } @acknowledged)
	{
		my $own = $epoch->{ $entry->{name} };

		for (; $next < @by_end && $by_end[$next]{end} < $entry->{start}; $next++)
		{
			my $its = $epoch->{ $by_end[$next]{name} };
			$newest = $its if $its > $newest;
		}
		push @wrong, text($entry, " in epoch $own, after an acknowledgement of epoch $newest") if $own < $newest;
		$server_of{$own} //= $entry->{server};
		push @wrong, text($entry, " in epoch $own, whose primary was server $server_of{$own}") if $server_of{$own} != $entry->{server};
	}
	complain('two servers acknowledged at a time', @wrong);
	return;
}

# A transaction whose preparation was acknowledged is never lost, nor half there.
sub pairs
{
	my ($lab, @ids) = @_;
	my @record = map { $_->record } grep { $_->{kind} eq 'two-phase' } @{ $lab->{clients} };
	my %parts;

	for my $id (@ids)
	{
		%parts = map { split /\|/ } split /\n/, $lab->query($id, "SELECT name, count(*) FROM pairs WHERE name LIKE 's$lab->{segment}.%' GROUP BY name");
		complain("server $id lacks transactions after an acknowledged step",
			map { text($_, " ($_->{kind})") } grep { $_->{outcome} eq 'ack' && !$parts{ $_->{name} } } @record);
		complain("server $id has refused transactions",
			map { text($_) } grep { $_->{outcome} eq 'refused' && $_->{kind} eq 'prepare' && $parts{ $_->{name} } } @record);
		complain("server $id has halves of transactions", grep { $parts{$_} != 2 } keys %parts);
	}
	my $committed = grep { $_->{outcome} eq 'ack' && $_->{kind} eq 'commit' } @record;
	$lab->{total}{pairs} += $committed;
	return "$committed two-phase transactions";
}

sub registers
{
	my ($lab) = @_;
	my $file = "$lab->{directory}/history-$lab->{segment}";
	my $operations = 0;

	open(my $out, '>', $file) or die "could not write \"$file\": $!\n";
	print $out join("\t", 'first', 0, $lab->{registers_since}, 'write', $_, "first-$_", '-', 'ok'), "\n"
	  for map { "s$lab->{segment}.r$_" } 0 .. $lab->KEYS - 1;
	for my $client (grep { $_->{kind} eq 'registers' } @{ $lab->{clients} })
	{
		open(my $in, '<', $client->{file}) or die "could not read \"$client->{file}\": $!\n";
		while (my $line = <$in>)
		{
			print $out $line;
			$operations++;
		}
	}
	close($out);
	my $said = `'$lab->{programs}/history/check_history' --quiet --stale-reads @{[LEASE_US]} '$file'`;
	die "the history of the registers:\n$said" if $? != 0;
	my ($stale, $longest) = $said =~ /^(\d+) stale reads, the longest by (\d+)$/m or die "check_history said: $said\n";
	if ($stale > 0)
	{
		die "stale reads are older than the lease:\n$said" if $longest > LEASE_US;
		print map { "           $_\n" } (split /\n/, $said)[ 0 .. ($stale > EXAMPLES ? EXAMPLES : $stale) - 1 ];
	}
	$lab->{total}{operations} += $operations;
	$lab->{total}{stale} += $stale;
	$lab->{total}{stalest} = $longest if $longest > ($lab->{total}{stalest} || 0);
	unlink($file);
	return sprintf('%d register operations, %d stale reads (the longest by %.1f ms)', $operations, $stale, $longest / 1000);
}

# ----------------------------------------------------------------
# Servers
# ----------------------------------------------------------------

sub all_equal
{
	my ($lab, $what, $sql) = @_;
	my %said;

	for my $id ($lab->ids)
	{
		push @{ $said{ $lab->query($id, $sql) } }, $id;
	}
	return (keys %said)[0] if keys %said == 1;
	die "$what differs: " . join('; ', map { "on @{ $said{$_} }: $_" } sort keys %said) . "\n";
}

sub same_data
{
	my ($lab) = @_;

	for my $table ('writes', 'pairs', 'registers')
	{
		all_equal($lab, "table \"$table\"", "SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM $table t");
	}
	return 'all members the same';
}

# one cluster, one history
sub same_origin
{
	my ($lab) = @_;

	all_equal($lab, 'the system identifier', 'SELECT system_identifier FROM pg_control_system()');
	all_equal($lab, 'the history of epochs', 'SELECT sha256(string_agg(h::text, E\'\n\')::bytea) FROM pgraft_history h');
	my $timeline = $lab->query($lab->primary, "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)");
	my %said;
	for my $id ($lab->ids)
	{
		open(my $in, '<', $lab->server($id)->{data} . "/pg_wal/$timeline.history") or next;
		push @{ $said{ sha256_hex(do { local $/ = undef; <$in> }) } }, $id;
	}
	die "history files of timeline $timeline differ: " . join('; ', map { "@$_" } values %said) . "\n" if keys %said > 1;
	return;
}

sub indexes
{
	my ($lab) = @_;

	for my $id ($lab->ids)
	{
		$lab->run("$lab->{bindir}/pg_amcheck", '--heapallindexed', '-h', $lab->{socket_directory}, '-p', $lab->server($id)->{port}, 'postgres');
	}
	return;
}

1;
