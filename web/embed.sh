#!/bin/sh
# embed.sh OUT.S FILE... - writes assembly that puts the files, byte for byte, into the program's read-only data. The C side:
#
#     extern const struct web_asset { const char *name; const unsigned char *data, *end; } web_assets[];
#
# name is the base name, with docs/ in front for a file in a folder docs; data..end are the bytes; the row after the last has a NULL name.
# The bytes need no relocation (.rodata). The table of pointers does in a position-independent program, so it lies in .data.rel.ro,
# which is read-only after start-up. The directives work with GNU as and clang, on x86-64 and aarch64 (%progbits, not @progbits).
set -eu
[ $# -ge 2 ] || { echo "usage: embed.sh OUT.S FILE..." >&2; exit 2; }
out=$1
shift
tmp=$out.$$
trap 'rm -f "$tmp"' EXIT
{
	printf '\t.section .rodata,"a",%%progbits\n'
	n=0
	for f; do
		[ -r "$f" ] || { echo "embed.sh: $f: cannot be read" >&2; exit 1; }
		case $f in *[\"\\]*) echo "embed.sh: $f: a quote or backslash in the name" >&2; exit 1 ;; esac
		case $f in */docs/*) name=docs/${f##*/} ;; *) name=${f##*/} ;; esac
		printf '.Lname%d:\t.asciz "%s"\n\t.balign 16\n.Ldata%d:\t.incbin "%s"\n.Lend%d:\t.byte 0\n' $n "$name" $n "$f" $n
		n=$((n + 1))
	done
	printf '\t.section .data.rel.ro,"aw",%%progbits\n\t.balign 8\n\t.globl web_assets\n\t.type web_assets, %%object\nweb_assets:\n'
	i=0
	while [ $i -lt $n ]; do
		printf '\t.8byte .Lname%d, .Ldata%d, .Lend%d\n' $i $i $i
		i=$((i + 1))
	done
	printf '\t.8byte 0, 0, 0\n\t.size web_assets, . - web_assets\n\t.section .note.GNU-stack,"",%%progbits\n'
} > "$tmp"
mv "$tmp" "$out"
