/* engine/link.c - see link.h. */
#include "engine/link.h"
#include "wasd/cond.h"
#include "wasd/protocol.h"
#include "wasd/train.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define INBOX 256
#define ACKS 32 /* acknowledgements kept for their waiters; at most a few are outstanding */

struct engine_link {
	struct wasd_wire *wire;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_bool cancelled, closing;
	/* protected by lock */
	struct {
		struct wasd_frame msg;
		int64_t when;
	} inbox[INBOX];
	unsigned head, count;
	uint32_t acked[ACKS];
	unsigned next_ack;
};

_Noreturn void engine_protocol_error(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("wasd-engine: protocol error: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	_exit(WASD_ENGINE_EXIT_PROTOCOL);
}

/* The daemon has gone, so nothing can be reported. Exits without exit handlers, which would free what the compute
 * thread still uses. */
static _Noreturn void daemon_is_gone(void)
{
	_exit(0);
}

static void beat(struct engine_link *l)
{
	engine_send(l, wasd_message("heartbeat", ""), NULL);
}

static void note_cancel(struct engine_link *l, const struct wasd_frame *m)
{
	(void)m;
	atomic_store(&l->cancelled, true);
}

static void note_ack(struct engine_link *l, const struct wasd_frame *m)
{
	int64_t seq = 0;
	wasd_json_i64(m->json, "seq", &seq);
	pthread_mutex_lock(&l->lock);
	l->acked[l->next_ack++ % ACKS] = (uint32_t)seq;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

/* The reader's thread handles these at once, even while the compute thread works. */
static const struct engine_handler notes[] = {
	{"cancel", note_cancel},
	{"ack", note_ack},
};

static const struct engine_handler *find(const struct engine_handler *handlers, size_t n, const char *type)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(handlers[i].type, type))
			return &handlers[i];
	return NULL;
}

/* Queues m. While the inbox is full it waits and keeps up the heartbeat. */
static void enqueue(struct engine_link *l, const struct wasd_frame *m)
{
	pthread_mutex_lock(&l->lock);
	while (l->count == INBOX && !atomic_load(&l->closing)) {
		if (!wasd_cond_wait_until(&l->changed, &l->lock, wasd_mono_us() + WASD_HEARTBEAT_MS * 1000)) {
			pthread_mutex_unlock(&l->lock);
			beat(l);
			pthread_mutex_lock(&l->lock);
		}
	}
	unsigned at = (l->head + l->count++) % INBOX;
	l->inbox[at].msg = *m;
	l->inbox[at].when = wasd_mono_us();
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

static void *read_loop(void *arg)
{
	struct engine_link *l = arg;
	int64_t due = wasd_mono_us() + WASD_HEARTBEAT_MS * 1000;
	while (!atomic_load(&l->closing)) {
		int64_t now = wasd_mono_us();
		if (now >= due) {
			beat(l);
			due = now + WASD_HEARTBEAT_MS * 1000;
		}
		struct wasd_frame m = {.fd = -1};
		struct wasd_err e = {0};
		enum wasd_status s = wasd_wire_recv(l->wire, (int)((due - now) / 1000) + 1, &m, &e);
		if (s == WASD_EBUSY)
			continue;
		if (atomic_load(&l->closing)) {
			wasd_frame_done(&m);
			break;
		}
		if (s == WASD_ENOTFOUND || s == WASD_EIO)
			daemon_is_gone();
		if (s)
			engine_protocol_error("%s", e.msg);
		const struct engine_handler *note = find(notes, sizeof notes / sizeof *notes, m.type);
		if (!note) {
			enqueue(l, &m);
			continue; /* the inbox owns it now */
		}
		note->handle(l, &m);
		wasd_frame_done(&m);
	}
	return NULL;
}

static enum wasd_status say_hello(struct engine_link *l, enum wasd_role role, struct wasd_err *err)
{
	return engine_send(l,
	                   wasd_message("hello", "role:s pid:i version:s build:s fingerprint:j", wasd_role_name(role),
	                                (int64_t)getpid(), WASD_VERSION, wasd_build_id(), wasd_fingerprint()),
	                   err);
}

enum wasd_status engine_link_open(enum wasd_role role, struct engine_link **out, struct wasd_err *err)
{
	/* A backstop for the end of the stream: a process stopped in a long computation still dies with its parent. */
	pid_t parent = getppid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		daemon_is_gone();
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});

	struct engine_link *l = wasd_calloc(1, sizeof *l);
	if (!l)
		return wasd_fail(err, WASD_ENOMEM, "engine link");
	pthread_mutex_init(&l->lock, NULL);
	wasd_cond_init(&l->changed);
	enum wasd_status s = wasd_wire_create(WASD_WIRE_FD, &l->wire, err);
	if (!s) {
		wasd_wire_speak(l->wire, role, WASD_ENGINE);
		s = say_hello(l, role, err);
	}
	if (!s) {
		int e = pthread_create(&l->thread, NULL, read_loop, l);
		if (e)
			s = wasd_fail_errno(err, e, "reader thread");
	}
	if (s) {
		wasd_wire_destroy(l->wire);
		wasd_free(l);
		return s;
	}
	*out = l;
	return WASD_OK;
}

void engine_link_close(struct engine_link *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	atomic_store(&l->closing, true);
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL); /* returns with the next heartbeat at the latest */
	for (; l->count; l->count--, l->head++)
		wasd_frame_done(&l->inbox[l->head % INBOX].msg);
	wasd_wire_destroy(l->wire);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->changed);
	wasd_free(l);
}

void engine_link_next(struct engine_link *l, struct wasd_frame *out, int64_t *when)
{
	pthread_mutex_lock(&l->lock);
	while (!l->count)
		pthread_cond_wait(&l->changed, &l->lock);
	*out = l->inbox[l->head].msg;
	if (when)
		*when = l->inbox[l->head].when;
	l->head = (l->head + 1) % INBOX;
	l->count--;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

bool engine_link_cancelled(struct engine_link *l)
{
	return atomic_load(&l->cancelled);
}

enum wasd_status engine_send_full(struct engine_link *l, cJSON *json, const void *bin, size_t bin_len, int fd,
                                  uint32_t *seq, struct wasd_err *err)
{
	if (!json)
		return wasd_fail(err, WASD_ENOMEM, "message");
	enum wasd_status s = wasd_wire_send(l->wire, json, bin, bin_len, fd, seq, err);
	cJSON_Delete(json);
	if (s == WASD_EIO)
		daemon_is_gone();
	return s;
}

enum wasd_status engine_send(struct engine_link *l, cJSON *json, struct wasd_err *err)
{
	return engine_send_full(l, json, NULL, 0, -1, NULL, err);
}

static bool was_acked(const struct engine_link *l, uint32_t seq)
{
	for (int i = 0; i < ACKS; i++)
		if (l->acked[i] == seq)
			return true;
	return false;
}

void engine_wait_ack(struct engine_link *l, uint32_t seq)
{
	if (!seq)
		return;
	pthread_mutex_lock(&l->lock);
	while (!was_acked(l, seq))
		pthread_cond_wait(&l->changed, &l->lock);
	pthread_mutex_unlock(&l->lock);
}

void engine_log(struct engine_link *l, const char *level, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	engine_send(l, wasd_message("log", "level:s text:s", level, text), NULL);
}

void engine_error(struct engine_link *l, uint32_t re, const struct wasd_err *e, const char *code)
{
	const char *status = wasd_status_name(e->status);
	engine_send(l,
	            wasd_message("error", "re:i status:s code:s pointer:s message:s", (int64_t)re, status,
	                         code ? code : status, e->pointer, e->msg),
	            NULL);
}

void engine_be_nice(const cJSON *m)
{
	int64_t nice = 0;
	if (!wasd_json_i64(m, "nice", &nice) || nice <= 0)
		return;
	setpriority(PRIO_PROCESS, 0, (int)nice);
	int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC); /* absent where the kernel has no such groups */
	if (fd < 0)
		return;
	dprintf(fd, "%d", (int)nice);
	close(fd);
}

const char *engine_need_string(const cJSON *m, const char *key)
{
	const char *v;
	if (!wasd_json_str(m, key, &v))
		engine_protocol_error("message without a string \"%s\"", key);
	return v;
}

enum wasd_status engine_check_digest(const void *bytes, size_t len, const char *sha256, const char *what,
                                     struct wasd_err *err)
{
	char have[WASD_SHA256_HEX];
	wasd_sha256_of(bytes, len, have);
	return strcmp(have, sha256) ?
	           wasd_fail(err, WASD_ECORRUPT, "%.80s: digest %.16s..., announced %.16s...", what, have, sha256) :
	           WASD_OK;
}

void engine_serve(struct engine_link *l, const struct engine_handler *handlers, size_t n)
{
	while (!engine_link_cancelled(l)) {
		struct wasd_frame m = {.fd = -1};
		engine_link_next(l, &m, NULL);
		const struct engine_handler *h = find(handlers, n, m.type);
		if (!h)
			engine_protocol_error("unknown message '%.40s'", m.type);
		h->handle(l, &m);
		wasd_frame_done(&m);
	}
}
