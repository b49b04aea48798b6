#!/bin/sh
# page.sh FRAME NAME <MARKDOWN >HTML - one page of the reference: the Markdown through cmark-gfm, then put into the frame.
#
# What cmark-gfm leaves out is added here: every heading gets the id that GitHub would give it, a page with more than three sections
# a list of them, wide tables and code a box that scrolls. Links between the Markdown files become links between the pages.
set -eu
[ $# -eq 2 ] || { echo "usage: page.sh FRAME NAME <MARKDOWN >HTML" >&2; exit 2; }
cmark-gfm --extension table --validate-utf8 |
	sed -E -e 's|href="index\.md(#[^"]*)?"|href="/docs\1"|g' -e 's|href="([a-z0-9-]+)\.md(#[^"]*)?"|href="/docs/\1\2"|g' -e 's|src="([^":/]+)"|src="/docs/\1"|g' |
	LC_ALL=C awk -v frame="$1" -v page="$([ "$2" = index ] && echo /docs || echo "/docs/$2")" '
	function plain(s) { gsub(/<[^>]*>/, "", s); return s }
	function slug(s) {
		s = tolower(plain(s))
		gsub(/&[a-z]+;/, "", s)
		gsub(/[^a-z0-9_ -]/, "", s)
		gsub(/ /, "-", s)
		return seen[s]++ ? s "-" (seen[s] - 1) : s
	}
	/^<h[1-6]>.*<\/h[1-6]>$/ {
		level = substr($0, 3, 1)
		text = substr($0, 5, length($0) - 9)
		id = slug(text)
		if (level == 1 && title == "") title = plain(text)
		if (level == 2) { sections++; list = list "<li><a href=\"#" id "\">" plain(text) "</a></li>\n" }
		$0 = "<h" level " id=\"" id "\">" text "</h" level ">"
	}
	{ sub(/^<table>/, "<div class=\"scroll\" tabindex=\"0\"><table>"); sub(/^<\/table>/, "</table></div>"); sub(/^<pre>/, "<pre tabindex=\"0\">") }
	{ line[++n] = $0 }
	function content(  i) {
		for (i = 1; i <= n; i++) {
			print line[i]
			if (line[i] ~ /^<h1 / && sections > 3) printf "<nav class=\"sections\" aria-label=\"On this page\"><ul>\n%s</ul></nav>\n", list
		}
	}
	END {
		if (title == "") { print "page.sh: " page " has no title" > "/dev/stderr"; exit 1 }
		while ((getline text < frame) > 0) {
			if (text == "@CONTENT@") { content(); continue }
			i = index(text, "@TITLE@")
			if (i) text = substr(text, 1, i - 1) title substr(text, i + 7)
			sub("<a href=\"" page "\">", "<a href=\"" page "\" aria-current=\"page\">", text)
			print text
		}
	}'
