/* base/glob.c - names by pattern. */
#include "wasd/base.h"

bool wasd_glob(const char *pattern, const char *s)
{
	const char *star = NULL, *end = NULL; /* behind the last * met, and where what it stands for ends so far */
	while (*s) {
		if (*pattern == '*') {
			star = ++pattern;
			end = s;
		} else if (*pattern == '?' || *pattern == *s) {
			pattern++;
			s++;
		} else if (star) {
			pattern = star; /* it stands for one more; an earlier * need not */
			s = ++end;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}
