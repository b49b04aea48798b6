/* Control groups for engine processes, in a folder that stands in for the kernel's: make_group and remove_group do what
 * the kernel does to the files of a group. */
#include "process/cgroup.h"

#include "check.h"
#include "fake_engine.h"
#include "log.h"
#include "process/supervisor.h"
#include "wasd/cond.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static char root[128], engine[PATH_MAX];
static const char *events;  /* memory.events of the groups that are made */
static const char *missing; /* a file that they do not get */
static int makes;           /* how many more groups may be made; -1: any number */

/* ---- the kernel's side ---- */

static void put(const char *path, const char *text)
{
	char full[PATH_MAX];
	CHECK(snprintf(full, sizeof full, "%s%s", *path == '/' && strncmp(path, root, strlen(root)) ? root : "", path) <
	      (int)sizeof full);
	*strrchr(full, '/') = 0;
	CHECK(wasd_mkdirs(full, NULL) == WASD_OK);
	full[strlen(full)] = '/';
	CHECK_MSG(wasd_file_write_atomic(full, text, strlen(text), NULL) == WASD_OK, "%s", full);
}

static void put_in(const char *folder, const char *name, const char *text)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	put(path, text);
}

/* What the file has; "": nothing, or there is none. Valid until the next call. */
static const char *text_of(const char *folder, const char *name)
{
	static char text[4096];
	char path[PATH_MAX], *data = NULL;
	snprintf(path, sizeof path, "%s%s/%s", *folder == '/' && strncmp(folder, root, strlen(root)) ? root : "", folder,
	         name);
	snprintf(text, sizeof text, "%s", wasd_file_read(path, sizeof text, &data, NULL, NULL) == WASD_OK ? data : "");
	wasd_free(data);
	return text;
}

static const char *const made[] = {"memory.max",         "memory.oom.group",       "memory.swap.max", "cgroup.procs",
                                   "cgroup.controllers", "cgroup.subtree_control", "memory.events",   NULL};

static int make_group(const char *path)
{
	if (!makes) {
		errno = EAGAIN;
		return -1;
	}
	makes -= makes > 0;
	if (mkdir(path, 0700))
		return -1;
	for (int i = 0; made[i]; i++)
		if (!missing || strcmp(missing, made[i]))
			put_in(path, made[i], strcmp(made[i], "memory.events") ? "" : events);
	return 0;
}

/* As the kernel does, keeps a group with a process. */
static int remove_group(const char *path)
{
	int pid = atoi(text_of(path, "cgroup.procs"));
	if (pid > 0 && !kill(pid, 0)) {
		errno = EBUSY;
		return -1;
	}
	return wasd_remove_tree(path, NULL) == WASD_OK ? 0 : -1;
}

static const struct cgroup_files files = {root, make_group, remove_group};

static void fresh(const char *group)
{
	char line[200], folder[200];
	CHECK(wasd_remove_tree(root, NULL) == WASD_OK);
	snprintf(line, sizeof line, "4:memory:/other\n0::%s\n", group);
	put("/proc/self/cgroup", line);
	snprintf(folder, sizeof folder, "/sys/fs/cgroup%s", strcmp(group, "/") ? group : "");
	put_in(folder, "cgroup.controllers", "cpu memory pids\n");
	put_in(folder, "cgroup.subtree_control", "");
	put_in(folder, "cgroup.procs", "");
	put_in(folder, "cgroup.type", "domain\n");
	events = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n";
	missing = NULL;
	makes = -1;
}

static bool there(const char *path)
{
	char full[PATH_MAX];
	struct stat st;
	snprintf(full, sizeof full, "%s%s", root, path);
	return !stat(full, &st);
}

#define TOP "/sys/fs/cgroup"

/* ---- the daemon's group ---- */

static void is_taken_over(void)
{
	struct cgroups *g = NULL;
	struct wasd_err err = {0};
	char own[20];
	fresh("/");
	snprintf(own, sizeof own, "%d", (int)getpid());
	CHECK_MSG(cgroups_open(&files, &g, &err) == WASD_OK, "%s", err.msg);
	CHECK_STR(text_of(TOP "/wasd-daemon", "cgroup.procs"), own);
	CHECK_STR(text_of(TOP, "cgroup.subtree_control"), "+memory");
	CHECK(g && strstr(cgroups_path(g), TOP));
	cgroups_close(g);
}

static void is_refused(void)
{
	static const struct {
		const char *group, *remove, *file, *text, *why;
	} rows[] = {
		{"/", "/proc/self/cgroup", NULL, NULL, "no group of cgroup v2"},
		{"/", NULL, "/proc/self/cgroup", "4:memory:/x\n", "no group of cgroup v2"},
		{"/", TOP "/cgroup.controllers", NULL, NULL, "no group of cgroup v2"},
		{"/", NULL, TOP "/cgroup.controllers", "cpu pids\n", "no memory controller"},
		{"/", NULL, TOP "/cgroup.controllers", "memory.more xmemory\n", "no memory controller"},
		{"/a.scope", NULL, NULL, NULL, "not delegated"},
		{"/", TOP "/cgroup.type", NULL, NULL, "the machine's root group"},
		{"/", TOP "/cgroup.subtree_control", NULL, NULL, "cannot write +memory"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct cgroups *g = NULL;
		struct wasd_err err = {0};
		char path[PATH_MAX];
		fresh(rows[i].group);
		snprintf(path, sizeof path, "%s%s", root, rows[i].remove ? rows[i].remove : "/none");
		unlink(path);
		if (rows[i].file)
			put(rows[i].file, rows[i].text);
		CHECK_MSG(cgroups_open(&files, &g, &err) == WASD_EUNSUPPORTED && !g, "row %zu", i);
		CHECK_MSG(strstr(err.msg, rows[i].why), "row %zu: %s", i, err.msg);
	}
	/* Where only the last step is refused, the daemon is back in its group. */
	CHECK_INT(atoi(text_of(TOP, "cgroup.procs")), getpid());
}

static void needs_the_mark_of_delegation(void)
{
	struct cgroups *g = NULL;
	char path[PATH_MAX + 40];
	fresh("/system.slice/wasd.service");
	snprintf(path, sizeof path, "%s" TOP "/system.slice/wasd.service", root);
	if (setxattr(path, "user.delegate", "1", 1, 0))
		TEST_SKIP("this file system has no attributes of users");
	CHECK(cgroups_open(&files, &g, NULL) == WASD_OK);
	CHECK_STR(text_of(TOP "/system.slice/wasd.service", "cgroup.subtree_control"), "+memory");
	cgroups_close(g);
}

/* A process id that no process has. */
static int ended_pid(void)
{
	pid_t pid = fork();
	if (!pid)
		_exit(0);
	while (waitpid(pid, NULL, 0) < 0)
		CHECK_INT(errno, EINTR);
	return (int)pid;
}

static void removes_what_a_killed_daemon_left(void)
{
	struct cgroups *g = NULL;
	char own[20], empty[60], full[60], living[60];
	fresh("/");
	int gone = ended_pid();
	snprintf(own, sizeof own, "%d", (int)getpid());
	snprintf(empty, sizeof empty, TOP "/wasd-engine-%d-1", gone);
	snprintf(full, sizeof full, TOP "/wasd-engine-%d-2", gone);
	snprintf(living, sizeof living, TOP "/wasd-engine-%d-1", (int)getppid());
	put_in(empty, "cgroup.procs", "");
	put_in(full, "cgroup.procs", own);
	put_in(living, "cgroup.procs", "");
	put(TOP "/other/cgroup.procs", "");
	CHECK(cgroups_open(&files, &g, NULL) == WASD_OK);
	CHECK(!there(empty));
	CHECK_MSG(there(full), "a group with a process stays");
	CHECK_MSG(there(living), "a group of a daemon that lives stays: it may be about to put a process in it");
	CHECK_MSG(there(TOP "/other"), "a group of others stays");
	put_in(full, "cgroup.procs", "");
	struct cgroup *c = NULL;
	CHECK(cgroup_create(g, getpid(), 1, &c, NULL) == WASD_OK);
	CHECK_MSG(!there(full), "it is removed with the next one that is made");
	CHECK(there(living));
	cgroup_destroy(c);
	cgroups_close(g);
}

/* ---- the group of a process ---- */

static void has_the_limit(void)
{
	struct cgroups *g = NULL;
	struct cgroup *c = NULL;
	char folder[100], own[20];
	fresh("/");
	CHECK(cgroups_open(&files, &g, NULL) == WASD_OK);
	snprintf(folder, sizeof folder, TOP "/wasd-engine-%d-1", (int)getpid());
	snprintf(own, sizeof own, "%d", (int)getpid());
	CHECK(cgroup_create(g, getpid(), 100, &c, NULL) == WASD_OK);
	CHECK_STR(text_of(folder, "memory.max"), "104857600");
	CHECK_STR(text_of(folder, "memory.oom.group"), "1");
	CHECK_STR(text_of(folder, "memory.swap.max"), "0");
	CHECK_STR(text_of(folder, "cgroup.procs"), own);
	CHECK_INT(cgroup_killed(c), CGROUP_NO_KILL);
	put_in(folder, "cgroup.procs", ""); /* the process has ended */
	cgroup_destroy(c);
	CHECK(!there(folder));
	cgroups_close(g);
}

static void none_is_left_of_a_refused_one(void)
{
	static const char *const needed[] = {"memory.max", "memory.oom.group", "cgroup.procs"};
	struct cgroups *g = NULL;
	fresh("/");
	CHECK(cgroups_open(&files, &g, NULL) == WASD_OK);
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
		struct cgroup *c = NULL;
		struct wasd_err err = {0};
		char folder[100];
		missing = needed[i];
		CHECK(cgroup_create(g, getpid(), 100, &c, &err) != WASD_OK && !c);
		CHECK_MSG(strstr(err.msg, needed[i]), "%s", err.msg);
		snprintf(folder, sizeof folder, TOP "/wasd-engine-%d-%zu", (int)getpid(), i + 1);
		CHECK_MSG(!there(folder), "%s", folder);
	}
	struct cgroup *c = NULL;
	missing = "memory.swap.max";
	CHECK_MSG(cgroup_create(g, getpid(), 100, &c, NULL) == WASD_OK, "a kernel without swap");
	cgroup_destroy(c);
	cgroups_close(g);
}

/* ---- processes ---- */

struct work {
	const char *fault;
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool ended, grouped; /* protected by lock */
	struct proc_end end;
};

static enum wasd_status on_message(struct proc *p, struct wasd_frame *m, struct wasd_err *err)
{
	const struct work *w = proc_owner(p);
	(void)err;
	if (!strcmp(m->type, "hello"))
		proc_send(p,
		          wasd_message("start", "job:s attempt:i spec:j dataset:s threads:i", "j", (int64_t)1,
		                       wasd_message(NULL, "fault:s", w->fault), "d", (int64_t)1),
		          NULL, 0, -1);
	return WASD_OK;
}

static void on_gone(struct proc *p, const struct proc_end *end)
{
	struct work *w = proc_owner(p);
	pthread_mutex_lock(&w->lock);
	w->end = *end;
	w->ended = true;
	pthread_cond_signal(&w->over);
	pthread_mutex_unlock(&w->lock);
}

static const struct proc_class cls = {.role = WASD_ROLE_TRAIN, .message = on_message, .gone = on_gone};

struct spawn {
	struct supervisor *sup;
	struct work *w;
};

static void spawn(void *ctx)
{
	struct spawn *s = ctx;
	struct proc *p;
	if (proc_spawn(s->sup, &cls, s->w, &p, NULL) != WASD_OK)
		abort();
	proc_limit_memory(p, 100);
	s->w->grouped = proc_has_cgroup(p);
}

static void run(struct supervisor *sup, struct work *w, const char *fault)
{
	*w = (struct work){.fault = fault};
	pthread_mutex_init(&w->lock, NULL);
	wasd_cond_init(&w->over);
	supervisor_call(sup, spawn, &(struct spawn){sup, w});
	pthread_mutex_lock(&w->lock);
	while (!w->ended && wasd_cond_wait_until(&w->over, &w->lock, wasd_mono_us() + 120000000))
		;
	CHECK(w->ended);
	pthread_mutex_unlock(&w->lock);
}

static struct supervisor *supervise(struct cgroups *g)
{
	struct supervisor *sup = NULL;
	struct supervisor_config sc = {.engine = engine,
	                               .heartbeat_ms = 120000,
	                               .kill_ms = 200,
	                               .tick_ms = 20,
	                               .cgroups = g};
	if (supervisor_create(&sc, &sup, NULL) != WASD_OK)
		abort();
	return sup;
}

static void a_kill_is_told(void)
{
	static const struct {
		const char *events;
		bool oom, stopped;
		const char *reason;
	} rows[] = {
		{"max 9\noom 2\noom_kill 1\noom_group_kill 1\n", true, true,
	     "out of memory: its control group reached limits.memory_mb, 100 MiB; signal 9 (Killed)"},
		{"max 0\noom 0\noom_kill 1\noom_group_kill 0\n", true, false, "signal 9 (Killed), out of memory"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct cgroups *g = NULL;
		struct work w;
		char folder[100];
		fresh("/");
		CHECK(cgroups_open(&files, &g, NULL) == WASD_OK);
		events = rows[i].events;
		struct supervisor *sup = supervise(g);
		run(sup, &w, "kill9");
		CHECK(w.grouped && w.end.signal == SIGKILL);
		CHECK_MSG(w.end.oom == rows[i].oom && w.end.stopped == rows[i].stopped, "row %zu: %d %d", i, w.end.oom,
		          w.end.stopped);
		CHECK_STR(w.end.reason, rows[i].reason);
		snprintf(folder, sizeof folder, TOP "/wasd-engine-%d-1", (int)getpid());
		CHECK_MSG(!there(folder), "the group of a process that has ended");
		supervisor_stop(sup);
		supervisor_destroy(sup);
		cgroups_close(g);
	}
}

/* Runs fn with what the process writes to stderr in *said, to be freed. */
static void with_log(void (*fn)(struct supervisor *sup), struct supervisor *sup, char **said)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/log", root);
	int before = dup(2), to = open(path, O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
	dup2(to, 2);
	log_set_level(LOG_WARN);
	fn(sup);
	log_set_level(LOG_ERROR);
	dup2(before, 2);
	close(before);
	close(to);
	CHECK(wasd_file_read(path, 1 << 20, said, NULL, NULL) == WASD_OK);
}

static void two_over_the_limit(struct supervisor *sup)
{
	for (int i = 0; i < 2; i++) {
		struct work w;
		run(sup, &w, "memory");
		CHECK(!w.grouped && w.end.oom && w.end.stopped);
		CHECK_MSG(strstr(w.end.reason, "the limit is 100 MiB"), "%s", w.end.reason);
	}
}

static void a_refusal_falls_back(void)
{
#ifdef WASD_SANITIZED
	TEST_SKIP("a sanitizer's shadow memory counts");
#endif
	struct cgroups *g = NULL;
	char *said = NULL;
	fresh("/");
	CHECK(cgroups_open(&files, &g, NULL) == WASD_OK);
	makes = 0;
	struct supervisor *sup = supervise(g);
	with_log(two_over_the_limit, sup, &said);
	const char *first = said ? strstr(said, "no control group for a process") : NULL;
	CHECK_MSG(first && !strstr(first + 1, "no control group for a process"), "once: %s", said ? said : "");
	CHECK_MSG(first && strstr(first, "cannot make"), "%s", said ? said : "");
	wasd_free(said);
	supervisor_stop(sup);
	supervisor_destroy(sup);
	cgroups_close(g);
}

int main(int argc, char **argv)
{
	fake_role = WASD_ROLE_TRAIN;
	fake_engine_main(argc, argv);
	log_set_level(LOG_ERROR);
	ssize_t n = readlink("/proc/self/exe", engine, sizeof engine - 1);
	engine[n > 0 ? n : 0] = 0;
	check_temp(root, sizeof root, "wasd-cgroup");
	if (!mkdtemp(root))
		abort();
	TEST_RUN(is_taken_over);
	TEST_RUN(is_refused);
	TEST_RUN(needs_the_mark_of_delegation);
	TEST_RUN(removes_what_a_killed_daemon_left);
	TEST_RUN(has_the_limit);
	TEST_RUN(none_is_left_of_a_refused_one);
	TEST_RUN(a_kill_is_told);
	TEST_RUN(a_refusal_falls_back);
	CHECK(wasd_remove_tree(root, NULL) == WASD_OK);
	TEST_END();
}
