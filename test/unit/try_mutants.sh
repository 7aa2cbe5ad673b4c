# try_mutants.sh
#	Reads a list of deliberate bugs (name, file, sed script; tabs between) and
#	tries each, or those that the arguments name: to be sourced by a script in
#	this folder, at its end.
#
# The script has defined: list, work (an empty directory), compile FILE OBJECT,
# and catches FILE, which tries the mutated object of that file and, when a test
# fails, succeeds with what is to be said of it in caught_by.  Ends with status 1
# when one survives or its place in the source is no longer found.

tab=$(printf '\t')
caught=0
failed=0

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
	elif catches "$file"
	then
		printf '%-28s caught by %s\n' "$name" "$caught_by"
		caught=$((caught + 1))
	else
		printf '%-28s SURVIVED\n' "$name"
		failed=$((failed + 1))
	fi
done <"$list"

echo "$caught caught, $failed not"
[ "$failed" -eq 0 ]
