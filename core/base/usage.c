/* base/usage.c - processor time and memory of a process, from /proc. */
#include "wasd/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The fields behind the name of the program, which may contain blanks: state is field 3. */
static double stat_field(const char *text, int field)
{
	const char *p = strrchr(text, ')');
	p = p ? p + 1 : "";
	for (int i = 3; *p && i <= field; i++) {
		p += strspn(p, " ");
		if (i == field)
			return strtod(p, NULL);
		p += strcspn(p, " ");
	}
	return 0;
}

bool wasd_usage_of(int pid, struct wasd_usage *out)
{
	char path[40] = "/proc/self/stat", text[1024];
	if (pid)
		snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	text[n] = 0;
	if (f)
		fclose(f);
	if (!n)
		return false;
	const double ticks = (double)sysconf(_SC_CLK_TCK);
	*out = (struct wasd_usage){
		.cpu_s = (stat_field(text, 14) + stat_field(text, 15)) / ticks,
		.started_s = stat_field(text, 22) / ticks,
		.virtual_bytes = (int64_t)stat_field(text, 23),
		.rss_bytes = (int64_t)stat_field(text, 24) * sysconf(_SC_PAGESIZE),
	};
	return true;
}
