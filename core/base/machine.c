/* base/machine.c - see wasd/machine.h. A group of cgroup v2 is a folder below /sys/fs/cgroup; what it may use is also
 * bounded by every folder above it. In a container the process's own group is the root of what it sees. */
#include "wasd/machine.h"

#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 16384 };

/* Sets *text, to be freed with wasd_free; NULL: no such file. */
static void read_text(const char *root, const char *folder, const char *name, char **text)
{
	char *path = wasd_asprintf("%s%s%s", root, folder, name);
	if (!path || wasd_file_read(path, TEXT_MAX, text, NULL, NULL) != WASD_OK)
		*text = NULL;
	wasd_free(path);
}

/* "200000 100000": 200 ms of every 100 ms, which are two processors. "max 100000": no quota. */
static void take_quota(const char *text, struct wasd_machine *m)
{
	double most, period;
	if (text && sscanf(text, "%lf %lf", &most, &period) == 2 && most > 0 && period > 0 &&
	    (m->quota <= 0 || most / period < m->quota))
		m->quota = most / period;
}

static bool read_bytes(const char *root, const char *folder, const char *name, int64_t *out)
{
	char *text, *end;
	read_text(root, folder, name, &text);
	end = text;
	long long v = text ? strtoll(text, &end, 10) : 0;
	bool ok = end != text && v >= 0;
	wasd_free(text);
	*out = v;
	return ok;
}

static void take_memory(const char *root, const char *folder, struct wasd_machine *m)
{
	int64_t most, used;
	if (!read_bytes(root, folder, "/memory.max", &most) || !most)
		return;
	if (!m->memory_limit || most < m->memory_limit)
		m->memory_limit = most;
	if (!read_bytes(root, folder, "/memory.current", &used))
		return;
	int64_t left = used < most ? most - used : 0;
	if (left < m->available)
		m->available = left;
}

/* The group of the process and those above it. */
static void read_groups(const char *root, struct wasd_machine *m)
{
	char *text, folder[PATH_MAX];
	read_text(root, "/proc/self/cgroup", "", &text);
	const char *line = text ? strstr(text, "0::/") : NULL;
	if (line && (line == text || line[-1] == '\n') &&
	    snprintf(folder, sizeof folder, "/sys/fs/cgroup%.*s", (int)strcspn(line + 3, "\n"), line + 3) < PATH_MAX) {
		size_t top = strlen("/sys/fs/cgroup");
		for (;;) {
			for (size_t n = strlen(folder); n > top && folder[n - 1] == '/'; n--)
				folder[n - 1] = 0;
			char *quota;
			read_text(root, folder, "/cpu.max", &quota);
			take_quota(quota, m);
			wasd_free(quota);
			take_memory(root, folder, m);
			char *slash = strrchr(folder + top, '/');
			if (!slash)
				break;
			*slash = 0;
		}
	}
	wasd_free(text);
}

static int64_t meminfo(const char *text, const char *name)
{
	const char *line = text ? strstr(text, name) : NULL;
	return line ? (int64_t)strtoll(line + strlen(name), NULL, 10) << 10 : 0; /* in KiB */
}

static int affinity(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
	return n < 1 ? 1 : n;
}

void wasd_machine_read(const char *root, struct wasd_machine *out)
{
	struct wasd_machine m = {.affinity = affinity()};
	char *text;
	read_text(root, "/proc/meminfo", "", &text);
	m.memory = meminfo(text, "MemTotal:");
	m.available = meminfo(text, "MemAvailable:");
	wasd_free(text);
	read_groups(root, &m);
	m.processors = m.affinity;
	if (m.quota > 0 && ceil(m.quota) < m.affinity)
		m.processors = (int)ceil(m.quota);
	*out = m;
}

int wasd_processors(void)
{
	struct wasd_machine m;
	wasd_machine_read("", &m);
	return m.processors;
}
