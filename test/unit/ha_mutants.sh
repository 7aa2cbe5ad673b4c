#!/bin/sh
#
# ha_mutants.sh
#	Proves that the model test of the cluster document can fail: each deliberate
#	bug of ha_mutants.list is put into a copy of one source file, and
#	test_ha_model or test_ha_document with it must fail.
#
#	test/unit/ha_mutants.sh [NAME ...]
#
# Environment: PG_CONFIG, CC (default gcc).  The work tree is only read.  Exit
# status 1 when one survives or its place in the source is no longer found.

set -u
cd "$(dirname "$0")/../.." || exit 2

: "${PG_CONFIG:=pg_config}" "${CC:=gcc}"
list=test/unit/ha_mutants.list
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

includes="-Iinclude -Isrc/ha -Itest/unit -isystem $($PG_CONFIG --includedir-server)"
libraries="-L$($PG_CONFIG --pkglibdir) -L$($PG_CONFIG --libdir) -lpgcommon -lpgport"

# shellcheck disable=SC2086 # lists of flags
compile()
{
	$CC -O1 -w -DFRONTEND $includes -c -o "$work/$2.o" "$1" 2>"$work/log"
}

parts="document document_switchover document_sync document_mode document_wal document_check document_codec"
for one in $parts
do
	compile "src/ha/$one.c" "$one" || exit 2
done
for one in test_ha_model test_ha_document
do
	compile "test/unit/$one.c" "$one" || exit 2
done

# Links and runs test $1 with the mutated object of file $2: 0 when it fails.
fails()
{
	others=
	for one in $parts
	do
		[ "$(basename "$2" .c)" = "$one" ] || others="$others $work/$one.o"
	done
	# shellcheck disable=SC2086
	$CC -o "$work/$1" "$work/$1.o" "$work/mutant.o" $others $libraries 2>"$work/log" || return 1
	! timeout 60 "$work/$1" >"$work/out" 2>&1
}

catches()
{
	if fails test_ha_model "$1"
	then
		caught_by="the model: $(sed -n 's/^not ok [^:]*: //p' "$work/out" | head -n 1)"
	elif fails test_ha_document "$1"
	then
		caught_by=test_ha_document
	else
		return 1
	fi
}

. test/unit/try_mutants.sh
