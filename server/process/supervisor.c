/* supervisor.c - see supervisor.h.
 *
 * A process: running -> (its stream ends, or its pidfd reports the exit) -> read to the last frame -> gone. SIGTERM
 * asks it to end and SIGKILL enforces it; both times are kept in the proc and checked every tick. Frames are sent by
 * one small thread per process, so that a peer that does not read blocks no other.
 */
#include "process/supervisor.h"

#include "process/cgroup.h"
#include "process/launch.h"
#include "log.h"
#include "wasd/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FRAMES_A_ROUND = 64, QUEUE_MAX = 4096, EVERY_MAX = 8, STDERR_TAIL = 2000 };

struct outgoing {
	struct outgoing *next;
	cJSON *json;
	char *bin;
	size_t bin_len;
	int fd;
};

struct proc {
	struct supervisor *sup;
	struct proc *next, **pprev;
	const struct proc_class *cls;
	void *owner;
	pid_t pid;
	int pidfd, err_fd;
	struct wasd_wire *wire;
	int64_t started_us, heard_us, term_us, kill_us; /* times; term_us, kill_us: when to signal, 0 = never */
	bool hello, paused, exited, stream_over, killed_oom, killed, violation, closing;
	int64_t memory_mb;
	struct cgroup *group; /* NULL: none, so the supervisor watches its resident size */
	uint64_t oom_kills;   /* the kernel's count of OOM kills when the process started */
	char why[180];
	char tail[STDERR_TAIL + 1];
	size_t tail_len;
	siginfo_t info;
	/* the sending thread */
	pthread_t sender;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct outgoing *queue, **queue_end;
	int queued;
	uint32_t seq;
	bool send_over;
	_Atomic int64_t rss_mb;
};

struct every {
	void (*fn)(void *);
	void *ctx;
};

struct supervisor {
	struct supervisor_config cfg;
	char *engine;
	pthread_t thread;
	int epoll, wake;
	pthread_mutex_t lock; /* guards posts, and the list of processes for other threads */
	struct sup_post *posts, **posts_end;
	bool stopping;
	struct proc *procs;
	struct every every[EVERY_MAX];
	int n_every;
	_Atomic uint64_t beats;
	bool groups_failed; /* a process could not get its group, and the log says so */
};

/* ---- sending ----------------------------------------------------------------------------------------------- */

static void outgoing_free(struct outgoing *o)
{
	cJSON_Delete(o->json);
	wasd_free(o->bin);
	if (o->fd >= 0)
		close(o->fd);
	wasd_free(o);
}

static void *sender_main(void *arg)
{
	struct proc *p = arg;
	pthread_mutex_lock(&p->lock);
	while (!p->send_over || p->queue) {
		struct outgoing *o = p->queue;
		if (!o) {
			pthread_cond_wait(&p->more, &p->lock);
			continue;
		}
		p->queue = o->next;
		if (!p->queue)
			p->queue_end = &p->queue;
		p->queued--;
		pthread_mutex_unlock(&p->lock);
		enum wasd_status s = wasd_wire_send(p->wire, o->json, o->bin, o->bin_len, o->fd, NULL, NULL);
		outgoing_free(o);
		pthread_mutex_lock(&p->lock);
		if (s != WASD_OK) {
			/* A frame is lost, because of no memory or the process's end. Close the stream, so that the process does
			 * not wait for the frame and both sides see the end. */
			p->send_over = true;
			shutdown(wasd_wire_fd(p->wire), SHUT_RDWR);
		}
		while (p->send_over && s != WASD_OK && p->queue) {
			o = p->queue;
			p->queue = o->next;
			outgoing_free(o);
		}
	}
	if (p->closing)
		shutdown(wasd_wire_fd(p->wire), SHUT_WR);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

uint32_t proc_send(struct proc *p, cJSON *json, char *bin, size_t bin_len, int fd)
{
	struct outgoing *o = wasd_calloc(1, sizeof *o);
	if (!o || !json) {
		wasd_free(o);
		wasd_free(bin);
		cJSON_Delete(json);
		if (fd >= 0)
			close(fd);
		return 0;
	}
	*o = (struct outgoing){.json = json, .bin = bin, .bin_len = bin_len, .fd = fd};
	uint32_t seq = 0;
	pthread_mutex_lock(&p->lock);
	if (!p->send_over && p->queued < QUEUE_MAX) {
		*p->queue_end = o;
		p->queue_end = &o->next;
		p->queued++;
		seq = ++p->seq; /* only the sender writes to the stream, so frames leave in this order */
		pthread_cond_signal(&p->more);
		o = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	if (o)
		outgoing_free(o);
	return seq;
}

/* ---- the processes ---------------------------------------------------------------------------------------------- */

static uint64_t kernel_oom_kills(void)
{
	char text[16384];
	int fd = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	unsigned long long v = 0;
	const char *p = strstr(text, "oom_kill ");
	if (p)
		sscanf(p, "oom_kill %llu", &v);
	return v;
}

static void watch(struct supervisor *s, int op, int fd, uint32_t events, void *ptr)
{
	struct epoll_event ev = {.events = events, .data.ptr = ptr};
	epoll_ctl(s->epoll, op, fd, &ev);
}

enum wasd_status proc_spawn(struct supervisor *s, const struct proc_class *cls, void *owner, struct proc **out,
                            struct wasd_err *err)
{
	struct proc *p = wasd_calloc(1, sizeof *p);
	int stream[2] = {-1, -1}, errs[2] = {-1, -1};
	enum wasd_status st = WASD_OK;
	if (!p)
		return wasd_fail(err, WASD_ENOMEM, "no memory to start a process");
	p->pidfd = -1;
	p->pid = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream) || pipe2(errs, O_CLOEXEC)) {
		st = wasd_fail_errno(err, errno, "cannot make the streams of a process");
		goto fail;
	}
	char *argv[] = {s->engine, (char *)(uintptr_t)wasd_role_name(cls->role), NULL};
	p->oom_kills = kernel_oom_kills();
	st = launch_engine(argv, stream[1], errs[1], &p->pid, err);
	if (st != WASD_OK)
		goto fail;
	close(stream[1]);
	close(errs[1]);
	stream[1] = errs[1] = -1;
	fcntl(errs[0], F_SETFL, O_NONBLOCK);
	p->err_fd = errs[0];
	p->pidfd = pidfd_open(p->pid, 0);
	if (p->pidfd < 0) {
		st = wasd_fail_errno(err, errno, "pidfd_open");
		goto fail;
	}
	st = wasd_wire_create(stream[0], &p->wire, err);
	if (st != WASD_OK)
		goto fail;
	wasd_wire_speak(p->wire, cls->role, WASD_DAEMON);
	stream[0] = -1;
	p->sup = s;
	p->cls = cls;
	p->owner = owner;
	p->started_us = p->heard_us = wasd_mono_us();
	p->queue_end = &p->queue;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	int e = pthread_create(&p->sender, NULL, sender_main, p);
	if (e) {
		st = wasd_fail_errno(err, e, "cannot start a process's sending thread");
		pthread_mutex_destroy(&p->lock);
		pthread_cond_destroy(&p->more);
		wasd_wire_destroy(p->wire);
		goto fail;
	}
	pthread_setname_np(p->sender, "to-engine");
	pthread_mutex_lock(&s->lock);
	p->next = s->procs;
	p->pprev = &s->procs;
	if (p->next)
		p->next->pprev = &p->next;
	s->procs = p;
	pthread_mutex_unlock(&s->lock);
	/* Each of a process's three descriptors wakes the loop with the process, which then checks all three. */
	watch(s, EPOLL_CTL_ADD, wasd_wire_fd(p->wire), EPOLLIN, p);
	watch(s, EPOLL_CTL_ADD, p->pidfd, EPOLLIN, p);
	watch(s, EPOLL_CTL_ADD, p->err_fd, EPOLLIN, p);
	log_line(LOG_DEBUG, "process started", "role=%s pid=%d", wasd_role_name(cls->role), (int)p->pid);
	*out = p;
	return WASD_OK;
fail:
	if (p->pid > 0) {
		kill(p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	if (p->pidfd >= 0)
		close(p->pidfd);
	for (int i = 0; i < 2; i++) {
		if (stream[i] >= 0)
			close(stream[i]);
		if (errs[i] >= 0)
			close(errs[i]);
	}
	wasd_free(p);
	return st;
}

void *proc_owner(const struct proc *p)
{
	return p->owner;
}
pid_t proc_pid(const struct proc *p)
{
	return p->pid;
}
int64_t proc_started_us(const struct proc *p)
{
	return p->started_us;
}

void proc_limit_memory(struct proc *p, int64_t mb)
{
	struct wasd_err err;
	struct cgroups *groups = p->sup->cfg.cgroups;
	p->memory_mb = mb;
	if (!mb || !groups || p->group || cgroup_create(groups, p->pid, mb, &p->group, &err) == WASD_OK)
		return;
	if (!p->sup->groups_failed)
		log_line(LOG_WARN, "no control group for a process, its memory is limited by rlimit", "pid=%d reason=%s",
		         (int)p->pid, LOG_Q(err.msg));
	p->sup->groups_failed = true;
}

bool proc_has_cgroup(const struct proc *p)
{
	return p->group != NULL;
}

void proc_pause(struct proc *p, bool pause)
{
	if (p->paused == pause || p->stream_over)
		return;
	p->paused = pause;
	watch(p->sup, EPOLL_CTL_MOD, wasd_wire_fd(p->wire), pause ? 0 : EPOLLIN, p);
}

static void signal_proc(struct proc *p, int sig)
{
	/* By pidfd, because a pid may have been reused. */
	p->killed |= sig == SIGKILL;
	if (!p->exited)
		pidfd_send_signal(p->pidfd, sig, NULL, 0);
}

void proc_end(struct proc *p, bool now, const char *why)
{
	if (!*p->why)
		snprintf(p->why, sizeof p->why, "%s", why);
	int64_t t = wasd_mono_us();
	if (now) {
		signal_proc(p, SIGKILL);
		/* A stopped or traced process may take longer; check again later. */
		p->kill_us = t + 1000000;
	} else if (!p->term_us) {
		p->term_us = t;
		signal_proc(p, SIGTERM);
		if (!p->kill_us || p->kill_us > t + p->sup->cfg.kill_ms * 1000ll)
			p->kill_us = t + p->sup->cfg.kill_ms * 1000ll;
	}
}

void proc_close(struct proc *p)
{
	pthread_mutex_lock(&p->lock);
	p->closing = p->send_over = true;
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->lock);
	if (!p->kill_us)
		p->kill_us = wasd_mono_us() + p->sup->cfg.kill_ms * 1000ll;
}

static void violation(struct proc *p, const struct wasd_err *err)
{
	p->violation = true;
	char why[180];
	wasd_line(why, sizeof why, "broke the protocol: %s", err->msg);
	proc_end(p, true, why);
	if (!p->stream_over) {
		p->stream_over = true;
		watch(p->sup, EPOLL_CTL_DEL, wasd_wire_fd(p->wire), 0, NULL);
	}
}

static enum wasd_status check_hello(const struct proc *p, const struct wasd_frame *m, struct wasd_err *err)
{
	const char *role, *version;
	if (strcmp(m->type, "hello") || !wasd_json_str(m->json, "role", &role) ||
	    !wasd_json_str(m->json, "version", &version))
		return wasd_fail(err, WASD_ECORRUPT, "the first frame is not a hello");
	if (strcmp(role, wasd_role_name(p->cls->role)))
		return wasd_fail(err, WASD_ECORRUPT, "its role is %.20s, not %s", role, wasd_role_name(p->cls->role));
	if (strcmp(version, WASD_VERSION))
		return wasd_fail(err, WASD_ECORRUPT, "it is version %.20s, this is " WASD_VERSION, version);
	return WASD_OK;
}

/* Reads available frames: at most FRAMES_A_ROUND, so that one process cannot starve the others; after the exit, all. */
static void receive(struct proc *p)
{
	for (int i = 0; !p->stream_over && !p->paused && (i < FRAMES_A_ROUND || p->exited); i++) {
		struct wasd_frame m = {.fd = -1};
		struct wasd_err err = {0};
		enum wasd_status s = wasd_wire_recv(p->wire, 0, &m, &err);
		if (s == WASD_EBUSY)
			return;
		if (s == WASD_ENOTFOUND || s == WASD_EIO) {
			p->stream_over = true;
			watch(p->sup, EPOLL_CTL_DEL, wasd_wire_fd(p->wire), 0, NULL);
			/* The process should exit now. */
			if (!p->kill_us)
				p->kill_us = wasd_mono_us() + p->sup->cfg.kill_ms * 1000ll;
			return;
		}
		if (s == WASD_OK) {
			p->heard_us = wasd_mono_us();
			if (!p->hello)
				s = check_hello(p, &m, &err);
			p->hello = true;
			if (s == WASD_OK && strcmp(m.type, "heartbeat"))
				s = p->cls->message(p, &m, &err);
		}
		wasd_frame_done(&m);
		if (s != WASD_OK) {
			log_line(LOG_WARN, "engine process broke the protocol", "role=%s pid=%d what=%s",
			         wasd_role_name(p->cls->role), (int)p->pid, LOG_Q(err.msg));
			violation(p, &err);
		}
	}
}

static void read_stderr(struct proc *p)
{
	char piece[4096];
	for (int i = 0; i < 16 && p->err_fd >= 0; i++) {
		ssize_t n = read(p->err_fd, piece, sizeof piece);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			watch(p->sup, EPOLL_CTL_DEL, p->err_fd, 0, NULL);
			close(p->err_fd);
			p->err_fd = -1;
			return;
		}
		/* Keep only the end of the output. */
		size_t take = (size_t)n > STDERR_TAIL ? STDERR_TAIL : (size_t)n;
		if (p->tail_len + take > STDERR_TAIL) {
			size_t drop = p->tail_len + take - STDERR_TAIL;
			memmove(p->tail, p->tail + drop, p->tail_len - drop);
			p->tail_len -= drop;
		}
		memcpy(p->tail + p->tail_len, piece + (size_t)n - take, take);
		p->tail_len += take;
	}
}

/* If the kernel killed the process for the limit of its group, that is our limit. */
static void note_group_kill(struct proc *p)
{
	enum cgroup_kill how = p->group ? cgroup_killed(p->group) : CGROUP_NO_KILL;
	if (how == CGROUP_NO_KILL || *p->why)
		return;
	p->killed_oom = true;
	if (how == CGROUP_KILL_LIMIT)
		snprintf(p->why, sizeof p->why, "out of memory: its control group reached limits.memory_mb, %lld MiB",
		         (long long)p->memory_mb);
}

static void describe_end(struct proc *p, struct proc_end *end)
{
	note_group_kill(p);
	*end = (struct proc_end){.exit_code = -1,
	                         .violation = p->violation,
	                         .stopped = (*p->why || p->killed) && !p->violation,
	                         .oom = p->killed_oom};
	char how[60];
	if (p->info.si_code == CLD_EXITED) {
		end->exit_code = p->info.si_status;
		snprintf(how, sizeof how, "exit code %d", end->exit_code);
	} else {
		end->signal = p->info.si_status;
		snprintf(how, sizeof how, "signal %d (%s)", end->signal, strsignal(end->signal));
		if (end->signal == SIGKILL && !p->killed && kernel_oom_kills() > p->oom_kills)
			end->oom = true;
	}
	if (*p->why)
		snprintf(end->reason, sizeof end->reason, "%s; %s", p->why, how);
	else
		snprintf(end->reason, sizeof end->reason, "%s%s", how, end->oom ? ", out of memory" : "");
	p->tail[p->tail_len] = 0;
	/* The text goes into rows and JSON: replace all but ASCII. */
	size_t k = 0;
	for (size_t i = 0; i < p->tail_len; i++) {
		unsigned char c = (unsigned char)p->tail[i];
		end->tail[k++] = c == '\n' || (c >= ' ' && c < 127) ? (char)c : '?';
	}
	while (k && end->tail[k - 1] == '\n')
		k--;
	end->tail[k] = 0;
}

static void proc_gone(struct proc *p)
{
	struct supervisor *s = p->sup;
	p->paused = false;
	receive(p); /* the last frames before its exit */
	read_stderr(p);
	struct proc_end end;
	describe_end(p, &end);
	pthread_mutex_lock(&p->lock);
	p->send_over = true;
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->lock);
	shutdown(wasd_wire_fd(p->wire), SHUT_RDWR); /* unblocks a sender stuck in a write */
	pthread_join(p->sender, NULL);
	while (p->queue) {
		struct outgoing *o = p->queue;
		p->queue = o->next;
		outgoing_free(o);
	}
	pthread_mutex_lock(&s->lock);
	*p->pprev = p->next;
	if (p->next)
		p->next->pprev = p->pprev;
	pthread_mutex_unlock(&s->lock);
	if (end.exit_code != 0)
		log_line(LOG_WARN, "engine process ended", "role=%s pid=%d reason=%s", wasd_role_name(p->cls->role),
		         (int)p->pid, LOG_Q(end.reason));
	cgroup_destroy(p->group);
	p->cls->gone(p, &end);
	if (p->err_fd >= 0)
		close(p->err_fd);
	close(p->pidfd);
	wasd_wire_destroy(p->wire);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	wasd_free(p);
}

/* Reaps the process if it has exited. True: p is freed. */
static bool look_at(struct proc *p)
{
	struct pollfd exited = {.fd = p->pidfd, .events = POLLIN};
	if (!p->exited && poll(&exited, 1, 0) > 0 && waitid(P_PIDFD, (id_t)p->pidfd, &p->info, WEXITED) == 0) {
		p->exited = true;
		proc_gone(p);
		return true;
	}
	receive(p);
	read_stderr(p);
	return false;
}

static void tick_proc(struct proc *p, int64_t now)
{
	struct wasd_usage used = {0};
	wasd_usage_of(p->pid, &used);
	int64_t rss = used.rss_bytes >> 20;
	atomic_store(&p->rss_mb, rss);
	if (p->memory_mb && !p->group && rss > p->memory_mb && !p->killed_oom) {
		char why[100];
		p->killed_oom = true;
		snprintf(why, sizeof why, "out of memory: %lld MiB resident, the limit is %lld MiB", (long long)rss,
		         (long long)p->memory_mb);
		proc_end(p, true, why);
	}
	/* A paused process may have sent a heartbeat that we did not read. */
	if (p->paused)
		p->heard_us = now;
	if (now - p->heard_us > p->sup->cfg.heartbeat_ms * 1000ll && !p->term_us && !p->stream_over) {
		char why[60];
		snprintf(why, sizeof why, "no heartbeat for %d s", (p->sup->cfg.heartbeat_ms + 999) / 1000);
		proc_end(p, false, why);
	}
	if (p->kill_us && now >= p->kill_us) {
		signal_proc(p, SIGKILL);
		p->kill_us = now + 1000000;
	}
	if (p->cls->tick)
		p->cls->tick(p);
}

/* ---- the thread -------------------------------------------------------------------------------------------- */

static void run_posts(struct supervisor *s)
{
	uint64_t n;
	if (read(s->wake, &n, sizeof n) < 0 && errno != EAGAIN)
		return;
	for (;;) {
		pthread_mutex_lock(&s->lock);
		struct sup_post *p = s->posts;
		if (p) {
			s->posts = p->next;
			if (!s->posts)
				s->posts_end = &s->posts;
		}
		pthread_mutex_unlock(&s->lock);
		if (!p)
			return;
		p->fn(p->ctx); /* p may be freed now */
	}
}

static bool is_stopping(struct supervisor *s)
{
	pthread_mutex_lock(&s->lock);
	bool stop = s->stopping;
	pthread_mutex_unlock(&s->lock);
	return stop;
}

static void tick(struct supervisor *s)
{
	int64_t now = wasd_mono_us();
	for (struct proc *p = s->procs, *next; p; p = next) {
		next = p->next;
		tick_proc(p, now);
	}
	for (int i = 0; i < s->n_every; i++)
		s->every[i].fn(s->every[i].ctx);
}

static bool is_proc(const struct supervisor *s, const void *ptr)
{
	for (const struct proc *p = s->procs; p; p = p->next)
		if (p == ptr)
			return true;
	return false;
}

static void *supervisor_main(void *arg)
{
	struct supervisor *s = arg;
	int64_t next_tick = wasd_mono_us() + s->cfg.tick_ms * 1000ll;
	while (!is_stopping(s)) {
		struct epoll_event ev[32];
		int64_t now = wasd_mono_us();
		int wait = next_tick > now ? (int)((next_tick - now + 999) / 1000) : 0;
		int n = epoll_wait(s->epoll, ev, 32, wait);
		atomic_fetch_add(&s->beats, 1);
		for (int i = 0; i < n; i++) {
			if (!ev[i].data.ptr)
				run_posts(s);
			else if (is_proc(s, ev[i].data.ptr)) /* an earlier event of this batch may have freed it */
				look_at(ev[i].data.ptr);
		}
		if (wasd_mono_us() >= next_tick) {
			tick(s);
			next_tick = wasd_mono_us() + s->cfg.tick_ms * 1000ll;
		}
	}
	while (s->procs) {
		struct proc *p = s->procs;
		struct pollfd exited = {.fd = p->pidfd, .events = POLLIN};
		if (!p->closing || poll(&exited, 1, 1000) <= 0)
			proc_end(p, true, "the daemon ends");
		poll(&exited, 1, 2000);
		if (!look_at(p) && !poll(&exited, 1, 0)) {
			log_line(LOG_ERROR, "process does not die", "pid=%d", (int)p->pid);
			break;
		}
	}
	run_posts(s);
	return NULL;
}

enum wasd_status supervisor_create(const struct supervisor_config *cfg, struct supervisor **out, struct wasd_err *err)
{
	struct supervisor *s = wasd_calloc(1, sizeof *s);
	if (!s)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the supervisor");
	s->cfg = *cfg;
	s->engine = wasd_strdup(cfg->engine);
	s->posts_end = &s->posts;
	pthread_mutex_init(&s->lock, NULL);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int e = s->epoll < 0 || s->wake < 0 ? errno : s->engine ? 0 : ENOMEM;
	if (!e) {
		watch(s, EPOLL_CTL_ADD, s->wake, EPOLLIN, NULL);
		e = pthread_create(&s->thread, NULL, supervisor_main, s);
	}
	if (e) {
		enum wasd_status st = wasd_fail_errno(err, e, "cannot start the supervisor");
		if (s->epoll >= 0)
			close(s->epoll);
		if (s->wake >= 0)
			close(s->wake);
		pthread_mutex_destroy(&s->lock);
		wasd_free(s->engine);
		wasd_free(s);
		return st;
	}
	pthread_setname_np(s->thread, "supervisor");
	*out = s;
	return WASD_OK;
}

static void poke(struct supervisor *s)
{
	uint64_t one = 1;
	if (write(s->wake, &one, sizeof one) < 0)
		return; /* the thread is already awake */
}

void supervisor_stop(struct supervisor *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_mutex_unlock(&s->lock);
	poke(s);
	pthread_join(s->thread, NULL);
}

void supervisor_destroy(struct supervisor *s)
{
	if (!s)
		return;
	close(s->epoll);
	close(s->wake);
	pthread_mutex_destroy(&s->lock);
	wasd_free(s->engine);
	wasd_free(s);
}

void supervisor_post(struct supervisor *s, struct sup_post *p)
{
	pthread_mutex_lock(&s->lock);
	p->next = NULL;
	*s->posts_end = p;
	s->posts_end = &p->next;
	pthread_mutex_unlock(&s->lock);
	poke(s);
}

struct call {
	struct sup_post post;
	void (*fn)(void *);
	void *ctx;
	pthread_mutex_t lock;
	pthread_cond_t done_cond;
	bool done;
};

static void run_call(void *ctx)
{
	struct call *c = ctx;
	c->fn(c->ctx);
	pthread_mutex_lock(&c->lock);
	c->done = true;
	pthread_cond_signal(&c->done_cond);
	pthread_mutex_unlock(&c->lock);
}

void supervisor_call(struct supervisor *s, void (*fn)(void *ctx), void *ctx)
{
	struct call c = {.fn = fn, .ctx = ctx};
	c.post = (struct sup_post){.fn = run_call, .ctx = &c};
	pthread_mutex_init(&c.lock, NULL);
	pthread_cond_init(&c.done_cond, NULL);
	/* The post is on this stack, so nothing is allocated and this cannot fail. */
	supervisor_post(s, &c.post);
	pthread_mutex_lock(&c.lock);
	while (!c.done)
		pthread_cond_wait(&c.done_cond, &c.lock);
	pthread_mutex_unlock(&c.lock);
	pthread_cond_destroy(&c.done_cond);
	pthread_mutex_destroy(&c.lock);
}

void supervisor_every(struct supervisor *s, void (*fn)(void *ctx), void *ctx)
{
	if (s->n_every < EVERY_MAX)
		s->every[s->n_every++] = (struct every){fn, ctx};
}

uint64_t supervisor_beats(struct supervisor *s)
{
	return atomic_load(&s->beats);
}

cJSON *supervisor_processes(struct supervisor *s)
{
	cJSON *list = cJSON_CreateArray();
	pthread_mutex_lock(&s->lock);
	for (struct proc *p = s->procs; p && list; p = p->next) {
		cJSON *o = cJSON_CreateObject();
		cJSON_AddStringToObject(o, "role", wasd_role_name(p->cls->role));
		cJSON_AddNumberToObject(o, "pid", p->pid);
		cJSON_AddNumberToObject(o, "rss_mb", (double)atomic_load(&p->rss_mb));
		cJSON_AddNumberToObject(o, "uptime_s", (double)((wasd_mono_us() - p->started_us) / 1000000));
		cJSON_AddItemToArray(list, o);
	}
	pthread_mutex_unlock(&s->lock);
	return list;
}
