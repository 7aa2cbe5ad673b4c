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

includes="-Iinclude -Itest/unit -isystem $($PG_CONFIG --includedir-server)"
libraries="-L$($PG_CONFIG --pkglibdir) -L$($PG_CONFIG --libdir) -lpgcommon -lpgport"
tab=$(printf '\t')
caught=0
failed=0

# shellcheck disable=SC2086 # lists of flags
compile()
{
	$CC -O1 -w -DFRONTEND $includes -c -o "$work/$2.o" "$1" 2>"$work/log"
}

for one in document document_codec
do
	compile "src/ha/$one.c" "$one" || exit 2
done
for one in test_ha_model test_ha_document
do
	compile "test/unit/$one.c" "$one" || exit 2
done

# Links and runs one test with the mutated object: 0 when the test fails.
catches()
{
	others=$work/document_codec.o
	[ "$2" = document ] || others=$work/document.o
	# shellcheck disable=SC2086
	$CC -o "$work/$1" "$work/$1.o" "$work/mutant.o" $others $libraries 2>"$work/log" || return 1
	! timeout 60 "$work/$1" >"$work/out" 2>&1
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

while IFS=$tab read -r name file script
do
	case $name in '' | '#'*) continue ;; esac
	wanted "$name" "$@" || continue
	copy=$work/$(basename "$file")
	sed -E "$script" "$file" >"$copy"
	if cmp -s "$file" "$copy"
	then
		printf '%-28s NOT BUILT: its place is not found\n' "$name"
		failed=$((failed + 1))
	elif ! compile "$copy" mutant
	then
		printf '%-28s NOT BUILT: %s\n' "$name" "$(head -n 1 "$work/log")"
		failed=$((failed + 1))
	elif catches test_ha_model "$(basename "$file" .c)"
	then
		printf '%-28s caught by the model: %s\n' "$name" "$(sed -n 's/^not ok [^:]*: //p' "$work/out" | head -n 1)"
		caught=$((caught + 1))
	elif catches test_ha_document "$(basename "$file" .c)"
	then
		printf '%-28s caught by test_ha_document\n' "$name"
		caught=$((caught + 1))
	else
		printf '%-28s SURVIVED\n' "$name"
		failed=$((failed + 1))
	fi
done <"$list"

echo "$caught caught, $failed not"
[ "$failed" -eq 0 ]
