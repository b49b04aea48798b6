/* machine.c - what of the machine the process may use, read from a folder with files as the kernel shows them. */
#include "check.h"
#include "wasd/machine.h"
#include "wasd/tensor.h"

#include <sched.h>
#include <stdlib.h>

static char root[128];

static void put(const char *path, const char *text)
{
	char full[400];
	snprintf(full, sizeof full, "%s%s", root, path);
	*strrchr(full, '/') = 0;
	CHECK(wasd_mkdirs(full, NULL) == WASD_OK);
	full[strlen(full)] = '/';
	CHECK_MSG(wasd_file_write_atomic(full, text, strlen(text), NULL) == WASD_OK, "%s", full);
}

static void quota_and_memory(void)
{
	static const struct {
		const char *group, *quota, *above, *memory, *used;
		double want;
		int64_t limit, available;
	} rows[] = {
		{"0::/\n", NULL, NULL, NULL, NULL, 0, 0, 8ll << 30},
		{"0::/a/b\n", "max 100000\n", "max 100000\n", "max\n", "5\n", 0, 0, 8ll << 30},
		{"0::/a/b\n", "50000 100000\n", NULL, NULL, NULL, 0.5, 0, 8ll << 30},
		{"0::/a/b\n", "150000 100000\n", "100000 100000\n", "1073741824\n", "73741824\n", 1, 1 << 30, 1000000000},
		{"12:cpu:/x\n0::/a/b\n", NULL, "250000 100000\n", "1000\n", "2000\n", 2.5, 1000, 0},
		{"12:cpu:/x\n", "50000 100000\n", NULL, "1\n", "1\n", 0, 0, 8ll << 30}, /* not of this version */
		{"0::/a/b\n", "nonsense\n", "", "-5\n", "", 0, 0, 8ll << 30},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct wasd_machine m;
		CHECK(wasd_remove_tree(root, NULL) == WASD_OK);
		put("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n");
		put("/proc/self/cgroup", rows[i].group);
		if (rows[i].quota)
			put("/sys/fs/cgroup/a/b/cpu.max", rows[i].quota);
		if (rows[i].above)
			put("/sys/fs/cgroup/a/cpu.max", rows[i].above);
		if (rows[i].memory) {
			put("/sys/fs/cgroup/a/b/memory.max", rows[i].memory);
			put("/sys/fs/cgroup/a/b/memory.current", rows[i].used);
		}
		wasd_machine_read(root, &m);
		CHECK_MSG(m.quota == rows[i].want && m.memory_limit == rows[i].limit && m.available == rows[i].available &&
		              m.memory == 16ll << 30,
		          "row %zu: %g processors, limit %lld, available %lld", i, m.quota, (long long)m.memory_limit,
		          (long long)m.available);
		int most = rows[i].want > 0 ? (int)(rows[i].want + 0.999) : m.affinity;
		CHECK_INT(m.processors, most < m.affinity ? most : m.affinity);
	}
	CHECK(wasd_remove_tree(root, NULL) == WASD_OK);
}

static void nothing_to_read(void)
{
	struct wasd_machine m;
	wasd_machine_read("/nonexistent", &m);
	CHECK(m.processors == m.affinity && m.affinity >= 1 && !m.quota && !m.memory && !m.available);
}

static void affinity_counts(void)
{
	cpu_set_t all, one;
	struct wasd_machine m;
	int first = 0;
	CHECK(!sched_getaffinity(0, sizeof all, &all));
	while (!CPU_ISSET(first, &all))
		first++;
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	CHECK(!sched_setaffinity(0, sizeof one, &one));
	wasd_machine_read("", &m);
	CHECK(m.affinity == 1 && m.processors == 1 && wasd_processors() == 1);
	CHECK(wasd_threads_init(0, NULL) == WASD_OK && wasd_threads() == 1);
	CHECK(!sched_setaffinity(0, sizeof all, &all));
	wasd_machine_read("", &m);
	CHECK_INT(m.affinity, CPU_COUNT(&all));
	CHECK(m.memory > 0 && m.available > 0);
}

int main(void)
{
	check_temp(root, sizeof root, "wasd-machine");
	if (!mkdtemp(root))
		abort();
	TEST_RUN(quota_and_memory);
	TEST_RUN(nothing_to_read);
	TEST_RUN(affinity_counts);
	TEST_END();
}
