#!/bin/sh
#
# mutants.sh
#	Proves that the simulator can fail: each deliberate bug of mutants.list is
#	put into a copy of one source file, linked into the simulator, and must be
#	caught within the listed seeds and SEEDS more.
#
#	test/sim/mutants.sh [NAME ...]
#
# Environment: SEEDS (default 1000), STEPS, PG_CONFIG, BUILD (default build),
# CC (default gcc).  The work tree is only read.  Prints a line for each
# mutant with the seeds it needed; exit status 1 when one survives or its
# place in the source is no longer found.

set -u
cd "$(dirname "$0")/../.." || exit 2

: "${PG_CONFIG:=pg_config}" "${BUILD:=build}" "${CC:=gcc}" "${SEEDS:=1000}" "${STEPS:=10000}"
list=test/sim/mutants.list
archives=.
[ "$BUILD" = build ] || archives=$BUILD

${MAKE:-make} -s PG_CONFIG="$PG_CONFIG" BUILD="$BUILD" "$BUILD/sim/pgraft_sim" || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

includes="-Iinclude -isystem $($PG_CONFIG --includedir-server)"
libraries="-L$($PG_CONFIG --pkglibdir) -L$($PG_CONFIG --libdir) -lpgcommon -lpgport -lssl -lcrypto -lpthread -lm"
tab=$(printf '\t')
caught=0
failed=0

# sed script -> mutated copy -> object -> simulator; 0 when that worked.  Code
# moves between files: when its file does not have the place, its sisters are
# looked through.
build_mutant()
{
	script=$2
	for file in "$1" "$(dirname "$1")"/*.c
	do
		[ -f "$file" ] || continue
		copy=$work/$(basename "$file")
		sed -E "$script" "$file" >"$copy" || return 1
		cmp -s "$file" "$copy" || break
		copy=
	done
	if [ -z "$copy" ]
	then
		echo "its place in $1 is not found" >"$work/log"
		return 1
	fi
	# a bug in the simulated host or its clients replaces one of the simulator's own
	objects=
	for object in "$BUILD"/sim/*.o "$BUILD"/history/history.o "$BUILD"/history/check.o "$BUILD"/history/register.o
	do
		[ "$object" = "$BUILD/sim/$(basename "$copy" .c).o" ] || objects="$objects $object"
	done
	# shellcheck disable=SC2086 # lists of flags
	$CC -O2 -g -w -DFRONTEND -Itest/history -I"$(dirname "$file")" $includes -c -o "$work/mutant.o" "$copy" 2>"$work/log" &&
	$CC -o "$work/sim" $objects "$work/mutant.o" "$archives/libpgraft_front.a" \
		"$archives/libpgraft_raft.a" $libraries 2>"$work/log"
}

wanted()
{
	name=$1
	shift
	[ $# -eq 0 ] && return 0
	for one
	do
		[ "$one" = "$name" ] && return 0
	done
	return 1
}

while IFS=$tab read -r name class file script
do
	case $name in '' | '#'*) continue ;; esac
	wanted "$name" "$@" || continue
	if ! build_mutant "$file" "$script"
	then
		printf '%-28s %-2s NOT BUILT: %s\n' "$name" "$class" "$(head -n 1 "$work/log")"
		failed=$((failed + 1))
		continue
	fi
	timeout 600 "$work/sim" --stop --list test/sim/seeds.txt --seeds "$SEEDS" --steps "$STEPS" >"$work/out" 2>&1
	status=$?
	seeds=$(sed -n 's/^seed \([0-9]*\) .*/\1/p' "$work/out" | head -n 1)
	why=$(sed -n 's/^seed [0-9]* violates,* *//p' "$work/out" | head -n 1)
	[ -n "$why" ] || why=$(grep -m 1 'crashes with signal' "$work/out")
	if [ "$status" -eq 0 ]
	then
		printf '%-28s %-2s SURVIVED %s seeds\n' "$name" "$class" "$SEEDS"
		failed=$((failed + 1))
	else
		printf '%-28s %-2s caught by seed %-4s %s\n' "$name" "$class" "${seeds:-?}" \
			"$(printf '%s' "$why" | cut -c 1-90)"
		caught=$((caught + 1))
	fi
done <"$list"

echo "$caught passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$caught" -gt 0 ]
