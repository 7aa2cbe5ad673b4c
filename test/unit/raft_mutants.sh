#!/bin/sh
#
# raft_mutants.sh
#	Proves that the unit tests of the engine can fail: each deliberate bug of
#	raft_mutants.list is put into a copy of one source file, and one of
#	test_raft_* with it must fail.
#
#	test/unit/raft_mutants.sh [NAME ...]
#
# Environment: PG_CONFIG, CC (default gcc).  The work tree is only read.  Exit
# status 1 when one survives or its place in the source is no longer found.

set -u
cd "$(dirname "$0")/../.." || exit 2

: "${PG_CONFIG:=pg_config}" "${CC:=gcc}"
list=test/unit/raft_mutants.list
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

includes="-Iinclude -Isrc/raft -Itest/unit -isystem $($PG_CONFIG --includedir-server)"

# the small ones first, garbage, which takes longest, last
topics="votes progress roles election transfer read stall restart snapshot replication
	membership confchange quorum log config upkeep arguments garbage"

# shellcheck disable=SC2086 # lists of flags
compile()
{
	$CC -O1 -w $includes -c -o "$work/$2.o" "$1" 2>"$work/log"
}

mkdir "$work/engine"
for one in src/raft/*.c
do
	compile "$one" "engine/$(basename "$one" .c)" || exit 2
done
for one in test/unit/raft_fixture*.c
do
	compile "$one" "$(basename "$one" .c)" || exit 2
done
for one in $topics
do
	compile "test/unit/test_raft_$one.c" "test_raft_$one" || exit 2
done

# Runs the tests with the mutated object of file $1 until one fails: 0 then.
catches()
{
	others=
	for object in "$work"/engine/*.o
	do
		[ "$object" = "$work/engine/$(basename "$1" .c).o" ] || others="$others $object"
	done
	for topic in $topics
	do
		# shellcheck disable=SC2086
		$CC -o "$work/test" "$work/test_raft_$topic.o" "$work"/raft_fixture*.o \
			"$work/mutant.o" $others 2>"$work/log" || return 1
		if ! timeout 60 "$work/test" >"$work/out" 2>&1
		then
			caught_by="test_raft_$topic: $(sed -n 's/^not ok [0-9]* - //p' "$work/out" | head -n 1 | cut -c 1-70)"
			return 0
		fi
	done
	return 1
}

. test/unit/try_mutants.sh
