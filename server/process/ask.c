#include "process/ask.h"
#include "wasd/cond.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum wasd_status asker_init(struct asker *a, enum wasd_role role, int max, const char *down)
{
	*a = (struct asker){.role = role, .max = max, .down = down};
	return pthread_mutex_init(&a->lock, NULL) ? WASD_ENOMEM : WASD_OK;
}

void asker_done(struct asker *a)
{
	pthread_mutex_destroy(&a->lock);
}

void asker_attach(struct asker *a, struct proc *p)
{
	pthread_mutex_lock(&a->lock);
	a->proc = p;
	pthread_mutex_unlock(&a->lock);
}

void asker_suspect(struct asker *a, char who[72])
{
	pthread_mutex_lock(&a->lock);
	const struct question *first = NULL;
	for (const struct question *q = a->list; q; q = q->next)
		if (!first || q->seq < first->seq)
			first = q;
	bool late = a->late_seq && (!first || a->late_seq < first->seq);
	snprintf(who, 72, "%s", late ? a->late_who : first && first->who ? first->who : "");
	pthread_mutex_unlock(&a->lock);
}

/* Lock held. */
static void link_question(struct asker *a, struct question *q)
{
	q->next = a->list;
	q->pprev = &a->list;
	if (q->next)
		q->next->pprev = &q->next;
	a->list = q;
	a->n++;
}

static void unlink_question(struct asker *a, struct question *q)
{
	*q->pprev = q->next;
	if (q->next)
		q->next->pprev = q->pprev;
	q->pprev = NULL;
	a->n--;
}

void asker_detach(struct asker *a)
{
	pthread_mutex_lock(&a->lock);
	a->proc = NULL;
	a->late_seq = 0;
	while (a->list) {
		struct question *q = a->list;
		unlink_question(a, q);
		q->lost = true;
		pthread_mutex_unlock(&a->lock);
		q->done(q);
		pthread_mutex_lock(&a->lock);
	}
	pthread_mutex_unlock(&a->lock);
}

bool asker_up(struct asker *a, int *waiting)
{
	pthread_mutex_lock(&a->lock);
	bool up = a->proc != NULL;
	*waiting = a->n;
	pthread_mutex_unlock(&a->lock);
	return up;
}

static enum wasd_status read_error(const cJSON *reply, struct wasd_err *err)
{
	const char *status, *message, *pointer = "";
	if (!wasd_json_str(reply, "status", &status) || !wasd_json_str(reply, "message", &message))
		return wasd_fail(err, WASD_EINTERNAL, "the engine's error answer has no status or message");
	wasd_json_str(reply, "pointer", &pointer);
	enum wasd_status s = wasd_status_from_name(status);
	return wasd_fail_at(err, s == WASD_OK ? WASD_EINTERNAL : s, pointer, "%s", message);
}

/* Copies a mapped answer to allocated memory, like an answer in a frame. */
static enum wasd_status copy_bulk(struct question *q, struct wasd_err *err)
{
	q->bin = wasd_malloc(q->bulk_len);
	if (q->bin) {
		memcpy(q->bin, q->bulk, q->bulk_len);
		q->bin_len = q->bulk_len;
	}
	wasd_memfd_unmap(q->bulk, q->bulk_len);
	return q->bin ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for an answer of %zu bytes", q->bulk_len);
}

/* Takes json, bin (NULL: none) and fd (-1: none). */
static enum wasd_status send_question(struct asker *a, struct question *q, cJSON *json, char *bin, size_t bin_len,
                                      int fd, struct wasd_err *err)
{
	const char *type = "";
	enum wasd_status s = WASD_OK;
	wasd_json_str(json, "type", &type);
	const struct wasd_message *row = wasd_message_find(a->role, WASD_DAEMON, type);
	q->answer = row && row->answer ? row->answer : "";
	pthread_mutex_lock(&a->lock);
	if (!a->proc)
		s = wasd_fail(err, WASD_EBUSY, "%s", a->down);
	else if (a->n >= a->max)
		s = wasd_fail(err, WASD_EBUSY, "%d calls are already waiting, which is the limit", a->n);
	if (s == WASD_OK) {
		/* Under the lock, so that the answer cannot be handled before the number is known. Queueing does not block. */
		q->seq = proc_send(a->proc, json, bin, bin_len, fd);
		json = NULL;
		bin = NULL;
		fd = -1;
		if (q->seq)
			link_question(a, q);
		else
			s = wasd_fail(err, WASD_EBUSY, "%s", a->down);
	}
	pthread_mutex_unlock(&a->lock);
	cJSON_Delete(json);
	wasd_free(bin);
	if (fd >= 0)
		close(fd);
	return s;
}

/* Copies the parts: into one buffer, to be sent in the frame, up to the frame's limit; else into a sealed memory file,
 * which the JSON describes. */
static enum wasd_status gather(cJSON *json, const struct iovec *part, int n, char **bin, size_t *len, int *fd,
                               struct wasd_err *err)
{
	*len = 0;
	for (int i = 0; i < n; i++)
		*len += part[i].iov_len;
	if (*len > WASD_WIRE_MAX) {
		if (!cJSON_AddNumberToObject(json, "bytes", (double)*len))
			return wasd_fail(err, WASD_ENOMEM, "no memory for a call");
		*len = 0;
		return wasd_memfd_gather("wasd-call", part, n, fd, err);
	}
	char *to = *bin = *len ? wasd_malloc(*len) : NULL;
	if (*len && !to)
		return wasd_fail(err, WASD_ENOMEM, "no memory for a call");
	for (int i = 0; i < n; i++)
		if (part[i].iov_len)
			to = (char *)memcpy(to, part[i].iov_base, part[i].iov_len) + part[i].iov_len;
	return WASD_OK;
}

enum wasd_status asker_post(struct asker *a, struct question *q, cJSON *json, const struct iovec *part, int n,
                            struct wasd_err *err)
{
	char *bin = NULL;
	size_t len = 0;
	int fd = -1;
	enum wasd_status s = json ? gather(json, part, n, &bin, &len, &fd, err) :
	                            wasd_fail(err, WASD_ENOMEM, "no memory for a call");
	if (s == WASD_OK)
		return send_question(a, q, json, bin, len, fd, err);
	cJSON_Delete(json);
	return s;
}

/* Takes call->json and fd, which is sent along; -1: sends call's bin. */
static enum wasd_status post(struct asker *a, struct question *q, struct api_call *call, int fd, struct wasd_err *err)
{
	const struct iovec bin = {(void *)(uintptr_t)call->bin, call->bin_len};
	cJSON *json = call->json;
	call->json = NULL;
	if (fd < 0)
		return asker_post(a, q, json, &bin, 1, err);
	if (json)
		return send_question(a, q, json, NULL, 0, fd, err);
	close(fd);
	return wasd_fail(err, WASD_ENOMEM, "no memory for a call");
}

enum wasd_status asker_take(struct asker *a, struct question *q, struct api_call *call, struct wasd_err *err)
{
	const char *type;
	if (q->lost)
		return wasd_fail(err, WASD_EBUSY, "%s", a->down);
	enum wasd_status s = q->bulk ? copy_bulk(q, err) : WASD_OK;
	call->reply = q->reply;
	call->reply_bin = q->bin;
	call->reply_bin_len = q->bin_len;
	if (wasd_json_str(q->reply, "type", &type) && !strcmp(type, "error"))
		return read_error(q->reply, err);
	return s;
}

/* ---- waiting for the answer -------------------------------------------------------------------------------- */

struct waiting {
	struct question q;
	struct asker *asker;
	pthread_cond_t changed;
	bool over;
};

static void wake(struct question *q)
{
	struct waiting *w = (struct waiting *)((char *)q - offsetof(struct waiting, q));
	pthread_mutex_lock(&w->asker->lock);
	w->over = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->asker->lock);
}

enum wasd_status asker_ask(struct asker *a, struct api_call *call, int fd, int64_t deadline_us, struct wasd_err *err)
{
	struct waiting w = {.q = {.who = call->who, .bulk_max = call->reply_max, .done = wake}, .asker = a};
	wasd_cond_init(&w.changed);
	enum wasd_status s = post(a, &w.q, call, fd, err);
	if (s != WASD_OK) {
		pthread_cond_destroy(&w.changed);
		return s;
	}
	pthread_mutex_lock(&a->lock);
	while (!w.over && wasd_cond_wait_until(&w.changed, &a->lock, deadline_us))
		;
	bool late = !w.over && w.q.pprev;
	if (late) {
		unlink_question(a, &w.q);
		if (!a->late_seq) {
			a->late_seq = w.q.seq;
			snprintf(a->late_who, sizeof a->late_who, "%s", w.q.who ? w.q.who : "");
		}
	}
	while (!late && !w.over) /* the answer is being delivered */
		pthread_cond_wait(&w.changed, &a->lock);
	pthread_mutex_unlock(&a->lock);
	pthread_cond_destroy(&w.changed);
	return late ? wasd_fail(err, WASD_EBUSY, "the answer did not come in time") : asker_take(a, &w.q, call, err);
}

/* Maps an answer's memory file, which must not be larger than the question allows. */
static enum wasd_status take_bulk(struct question *p, const struct wasd_frame *m, struct wasd_err *err)
{
	int64_t bytes;
	if (!p->bulk_max)
		return wasd_fail(err, WASD_ECORRUPT, "%s has an unexpected descriptor", m->type);
	if (m->bin_len || !wasd_json_i64(m->json, "bytes", &bytes) || bytes < 1)
		return wasd_fail(err, WASD_ECORRUPT, "%s has a descriptor but no valid \"bytes\"", m->type);
	if ((uint64_t)bytes > p->bulk_max)
		return wasd_fail(err, WASD_ECORRUPT, "%s has %lld bytes, at most %zu were asked for", m->type, (long long)bytes,
		                 p->bulk_max);
	enum wasd_status s = wasd_memfd_map(m->fd, (size_t)bytes, &p->bulk, err);
	if (s == WASD_OK)
		p->bulk_len = (size_t)bytes;
	return s;
}

enum wasd_status asker_answer(struct asker *a, struct wasd_frame *m, struct wasd_err *err)
{
	int64_t re;
	if (!wasd_json_i64(m->json, "re", &re))
		return wasd_fail(err, WASD_ECORRUPT, "message %s does not answer a question", m->type);
	enum wasd_status s = WASD_OK;
	pthread_mutex_lock(&a->lock);
	if (a->late_seq == (uint32_t)re)
		a->late_seq = 0;
	struct question *p = a->list;
	while (p && p->seq != (uint32_t)re)
		p = p->next;
	/* If the deadline came first, no question is left and the answer is dropped. */
	if (p && strcmp(m->type, "error") && strcmp(m->type, p->answer))
		s = wasd_fail(err, WASD_ECORRUPT, "message %s, but the answer must be %s or an error", m->type, p->answer);
	if (p && s == WASD_OK && m->fd >= 0)
		s = take_bulk(p, m, err);
	if (s != WASD_OK)
		p = NULL;
	if (p) {
		unlink_question(a, p);
		p->reply = m->json;
		p->bin = m->bin;
		p->bin_len = m->bin_len;
		m->json = NULL;
		m->type = NULL;
		m->bin = NULL;
		m->bin_len = 0;
	}
	pthread_mutex_unlock(&a->lock);
	if (p)
		p->done(p);
	return s;
}
