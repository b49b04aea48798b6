/* base/glob.c - matches names against a pattern. */
#include "wasd/base.h"

bool wasd_glob(const char *pattern, const char *s)
{
	const char *star = NULL, *end = NULL; /* the pattern after the last *, and the end of what that * matches so far */
	while (*s) {
		if (*pattern == '*') {
			star = ++pattern;
			end = s;
		} else if (*pattern == '?' || *pattern == *s) {
			pattern++;
			s++;
		} else if (star) {
			pattern = star; /* let the last * match one more character; earlier ones need not change */
			s = ++end;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}
