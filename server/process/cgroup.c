/* cgroup.c - see cgroup.h. Every file is one that the kernel has made, so none is created: where one is missing, the
 * kernel or the group does not have what is asked for. */
#include "process/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ENGINE_PREFIX "wasd-engine-"
#define DAEMON_GROUP "wasd-daemon"

enum { TEXT_MAX = 16384 };

struct cgroups {
	struct cgroup_files files;
	char *path;
	uint64_t last;
};

struct cgroup {
	const struct cgroups *of;
	char *path;
};

/* ---- files ---------------------------------------------------------------------------------------------------- */

static char *read_text(const char *folder, const char *name)
{
	char *text = NULL, *path = wasd_asprintf("%s/%s", folder, name);
	if (path && wasd_file_read(path, TEXT_MAX, &text, NULL, NULL) != WASD_OK)
		text = NULL;
	wasd_free(path);
	return text;
}

/* One write of the whole text, as the kernel wants it. */
static enum wasd_status put(const char *folder, const char *name, const char *text, struct wasd_err *err)
{
	char *path = wasd_asprintf("%s/%s", folder, name);
	if (!path)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	int fd = open(path, O_WRONLY | O_CLOEXEC), e = 0;
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		e = errno;
	if (fd >= 0)
		close(fd);
	enum wasd_status s = e ? wasd_fail_errno(err, e, "cannot write %s to %s", text, path) : WASD_OK;
	wasd_free(path);
	return s;
}

static enum wasd_status put_number(const char *folder, const char *name, int64_t v, struct wasd_err *err)
{
	char text[24];
	snprintf(text, sizeof text, "%lld", (long long)v);
	return put(folder, name, text, err);
}

static int make_folder(const struct cgroups *g, const char *path)
{
	return g->files.make ? g->files.make(path) : mkdir(path, 0700);
}

static int remove_folder(const struct cgroups *g, const char *path)
{
	return g->files.remove ? g->files.remove(path) : rmdir(path);
}

/* A word of a list with blanks between. */
static bool has_word(const char *text, const char *word)
{
	size_t n = strlen(word);
	for (const char *at = text; at && (at = strstr(at, word)); at += n)
		if ((at == text || strchr(" \n", at[-1])) && strchr(" \n", at[n]))
			return true;
	return false;
}

/* The number after `name ` at the start of a line; 0: there is none. */
static long long count_of(const char *text, const char *name)
{
	size_t n = strlen(name);
	for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
		if (!strncmp(line, name, n) && line[n] == ' ')
			return strtoll(line + n, NULL, 10);
	return 0;
}

/* ---- the daemon's group ----------------------------------------------------------------------------------------- */

/* The group of the process: a folder, or NULL. `top`: the one that this process sees as the uppermost. */
static char *own_group(const char *root, bool *top)
{
	char *text = NULL, *folder = NULL, *path = wasd_asprintf("%s/proc/self/cgroup", root);
	if (path && wasd_file_read(path, TEXT_MAX, &text, NULL, NULL) != WASD_OK)
		text = NULL;
	const char *line = text && !strncmp(text, "0::/", 4) ? text : text ? strstr(text, "\n0::/") : NULL;
	if (line) {
		line += (*line == '\n') + 3;
		int n = (int)strcspn(line, "\n");
		*top = n == 1;
		folder = wasd_asprintf("%s/sys/fs/cgroup%.*s", root, *top ? 0 : n, line);
	}
	wasd_free(text);
	wasd_free(path);
	return folder;
}

/* systemd marks a group that it leaves to its service. The uppermost group that a container sees is the container's. */
static bool is_delegated(const char *path, bool top)
{
	char mark[2];
	return top || (getxattr(path, "user.delegate", mark, sizeof mark) == 1 && *mark == '1') ||
	       (getxattr(path, "trusted.delegate", mark, sizeof mark) == 1 && *mark == '1');
}

/* The root of the kernel's tree has no type. */
static bool is_root(const char *path)
{
	char *type = read_text(path, "cgroup.type");
	wasd_free(type);
	return !type;
}

static enum wasd_status check_group(const char *path, bool top, struct wasd_err *err)
{
	char *controllers = path ? read_text(path, "cgroup.controllers") : NULL;
	bool memory = has_word(controllers, "memory"), any = controllers != NULL;
	wasd_free(controllers);
	if (!any)
		return wasd_fail(err, WASD_EUNSUPPORTED, "there is no group of cgroup v2");
	if (!memory)
		return wasd_fail(err, WASD_EUNSUPPORTED, "%s has no memory controller", path);
	if (top && is_root(path))
		return wasd_fail(err, WASD_EUNSUPPORTED, "%s is the machine's root group, not one of the daemon's", path);
	if (!is_delegated(path, top))
		return wasd_fail(err, WASD_EUNSUPPORTED, "%s is not delegated to the daemon", path);
	if (access(path, W_OK))
		return wasd_fail(err, WASD_EUNSUPPORTED, "%s cannot be written: %s", path, strerror(errno));
	return WASD_OK;
}

/* A group that a daemon has made that is no more, or this one. Another one that lives may be about to fill its own. */
static bool is_ours(const char *name)
{
	if (strncmp(name, ENGINE_PREFIX, strlen(ENGINE_PREFIX)))
		return false;
	long pid = strtol(name + strlen(ENGINE_PREFIX), NULL, 10);
	return pid > 0 && pid <= INT_MAX && (pid == getpid() || (kill((pid_t)pid, 0) && errno == ESRCH));
}

/* Removes what has no process any more: the kernel refuses the rest. */
static void sweep(const struct cgroups *g)
{
	DIR *d = opendir(g->path);
	for (struct dirent *e; d && (e = readdir(d));) {
		char *path = is_ours(e->d_name) ? wasd_asprintf("%s/%s", g->path, e->d_name) : NULL;
		if (path)
			remove_folder(g, path);
		wasd_free(path);
	}
	if (d)
		closedir(d);
}

/* The daemon leaves the group for a child, so that the other children may have limits. */
static enum wasd_status move_down(const struct cgroups *g, struct wasd_err *err)
{
	char *child = wasd_asprintf("%s/" DAEMON_GROUP, g->path);
	if (!child)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	enum wasd_status s = WASD_OK;
	if (make_folder(g, child) && errno != EEXIST)
		s = wasd_fail_errno(err, errno, "cannot make %s", child);
	else if ((s = put_number(child, "cgroup.procs", getpid(), err)) == WASD_OK &&
	         (s = put(g->path, "cgroup.subtree_control", "+memory", err)) != WASD_OK)
		put_number(g->path, "cgroup.procs", getpid(), NULL);
	if (s)
		remove_folder(g, child);
	wasd_free(child);
	return s;
}

enum wasd_status cgroups_open(const struct cgroup_files *files, struct cgroups **out, struct wasd_err *err)
{
	struct cgroups *g = wasd_calloc(1, sizeof *g);
	bool top = false;
	if (!g)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	g->files = *files;
	g->path = own_group(files->root, &top);
	enum wasd_status s = check_group(g->path, top, err);
	if (!s)
		s = move_down(g, err);
	if (s) {
		cgroups_close(g);
		return s == WASD_ENOMEM ? s : WASD_EUNSUPPORTED;
	}
	sweep(g);
	*out = g;
	return WASD_OK;
}

void cgroups_close(struct cgroups *g)
{
	if (!g)
		return;
	wasd_free(g->path);
	wasd_free(g);
}

const char *cgroups_path(const struct cgroups *g)
{
	return g->path;
}

/* ---- the group of a process -------------------------------------------------------------------------------------- */

static enum wasd_status limit(const char *path, pid_t pid, int64_t mb, struct wasd_err *err)
{
	enum wasd_status s = put_number(path, "memory.max", mb << 20, err);
	if (!s)
		s = put_number(path, "memory.oom.group", 1, err);
	put_number(path, "memory.swap.max", 0, NULL); /* a kernel without swap has no such file */
	return s ? s : put_number(path, "cgroup.procs", pid, err);
}

enum wasd_status cgroup_create(struct cgroups *g, pid_t pid, int64_t mb, struct cgroup **out, struct wasd_err *err)
{
	struct cgroup *c = wasd_calloc(1, sizeof *c);
	if (!c || !(c->path = wasd_asprintf("%s/" ENGINE_PREFIX "%lld-%llu", g->path, (long long)getpid(),
	                                    (unsigned long long)++g->last))) {
		wasd_free(c);
		return wasd_fail(err, WASD_ENOMEM, "no memory for a control group");
	}
	c->of = g;
	sweep(g);
	enum wasd_status s = make_folder(g, c->path) ? wasd_fail_errno(err, errno, "cannot make %s", c->path) : WASD_OK;
	if (!s)
		s = limit(c->path, pid, mb, err);
	if (s) {
		cgroup_destroy(c);
		return s;
	}
	*out = c;
	return WASD_OK;
}

enum cgroup_kill cgroup_killed(const struct cgroup *c)
{
	char *events = read_text(c->path, "memory.events");
	bool killed = count_of(events, "oom_kill") > 0, limit = count_of(events, "oom") > 0;
	wasd_free(events);
	return !killed ? CGROUP_NO_KILL : limit ? CGROUP_KILL_LIMIT : CGROUP_KILL_ABOVE;
}

void cgroup_destroy(struct cgroup *c)
{
	if (!c)
		return;
	remove_folder(c->of, c->path);
	wasd_free(c->path);
	wasd_free(c);
}
