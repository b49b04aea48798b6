#include "process/ask.h"
#include "wasd/cond.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct pending {
	struct pending *next, **pprev;
	uint32_t seq;
	const char *who;    /* call->who */
	const char *answer; /* the type that answers it, unless that is "error" */
	pthread_cond_t done;
	bool answered, lost;
	cJSON *reply;
	char *bin;
	size_t bin_len;
	size_t bulk_max;  /* the most that the answer may bring in a memory file; 0: none */
	const void *bulk; /* that file, mapped; bulk_len bytes */
	size_t bulk_len;
};

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
	const struct pending *first = NULL;
	for (const struct pending *p = a->list; p; p = p->next)
		if (!p->answered && (!first || p->seq < first->seq))
			first = p;
	bool late = a->late_seq && (!first || a->late_seq < first->seq);
	snprintf(who, 72, "%s", late ? a->late_who : first && first->who ? first->who : "");
	pthread_mutex_unlock(&a->lock);
}

void asker_detach(struct asker *a)
{
	pthread_mutex_lock(&a->lock);
	a->proc = NULL;
	a->late_seq = 0;
	for (struct pending *p = a->list; p; p = p->next) {
		p->lost = true;
		pthread_cond_signal(&p->done);
	}
	pthread_mutex_unlock(&a->lock);
}

int asker_waiting(struct asker *a)
{
	pthread_mutex_lock(&a->lock);
	int n = a->n;
	pthread_mutex_unlock(&a->lock);
	return n;
}

/* Bulk travels inside the frame up to its limit, above it in a sealed memory file that the JSON describes. */
static enum wasd_status bulk_file(struct api_call *call, int *fd, struct wasd_err *err)
{
	char sha[WASD_SHA256_HEX];
	*fd = -1;
	if (call->bin_len <= WASD_WIRE_MAX)
		return WASD_OK;
	wasd_sha256_of(call->bin, call->bin_len, sha);
	if (!cJSON_AddNumberToObject(call->json, "bytes", (double)call->bin_len) ||
	    !cJSON_AddStringToObject(call->json, "sha256", sha))
		return wasd_fail(err, WASD_ENOMEM, "no memory for a call");
	return wasd_memfd_sealed("wasd-call", call->bin, call->bin_len, fd, err);
}

static enum wasd_status read_error(const cJSON *reply, struct wasd_err *err)
{
	const char *status, *message, *pointer = "";
	if (!wasd_json_str(reply, "status", &status) || !wasd_json_str(reply, "message", &message))
		return wasd_fail(err, WASD_EINTERNAL, "the engine failed without saying how");
	wasd_json_str(reply, "pointer", &pointer);
	enum wasd_status s = wasd_status_from_name(status);
	return wasd_fail_at(err, s == WASD_OK ? WASD_EINTERNAL : s, pointer, "%s", message);
}

/* A mapped answer as the caller's own memory, like one that came inside its frame. */
static enum wasd_status copy_bulk(struct pending *p, struct wasd_err *err)
{
	p->bin = wasd_malloc(p->bulk_len);
	if (p->bin) {
		memcpy(p->bin, p->bulk, p->bulk_len);
		p->bin_len = p->bulk_len;
	}
	wasd_memfd_unmap(p->bulk, p->bulk_len);
	return p->bin ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for an answer of %zu bytes", p->bulk_len);
}

enum wasd_status asker_ask(struct asker *a, struct api_call *call, int64_t deadline_us, struct wasd_err *err)
{
	int fd = -1;
	enum wasd_status s = call->json ? bulk_file(call, &fd, err) : WASD_OK;
	if (s != WASD_OK) {
		cJSON_Delete(call->json);
		call->json = NULL;
		return s;
	}
	return asker_ask_fd(a, call, fd, deadline_us, err);
}

enum wasd_status asker_ask_fd(struct asker *a, struct api_call *call, int fd, int64_t deadline_us, struct wasd_err *err)
{
	enum wasd_status s;
	cJSON *json = call->json;
	call->json = NULL;
	if (!json) {
		if (fd >= 0)
			close(fd);
		return wasd_fail(err, WASD_ENOMEM, "no memory for a call");
	}
	const char *type = "";
	wasd_json_str(json, "type", &type);
	const struct wasd_message *row = wasd_message_find(a->role, WASD_DAEMON, type);
	struct pending p = {.bulk_max = call->reply_max, .who = call->who, .answer = row && row->answer ? row->answer : ""};
	wasd_cond_init(&p.done);
	pthread_mutex_lock(&a->lock);
	if (!a->proc || a->n >= a->max) {
		s = a->proc ? wasd_fail(err, WASD_EBUSY, "%d calls are waiting already", a->n) :
		              wasd_fail(err, WASD_EBUSY, "%s", a->down);
		pthread_mutex_unlock(&a->lock);
		cJSON_Delete(json);
		if (fd >= 0)
			close(fd);
		pthread_cond_destroy(&p.done);
		return s;
	}
	/* Under the lock, so that the answer cannot come before the number is known. Queueing does not block. */
	p.seq = proc_send(a->proc, json, fd < 0 ? call->bin : NULL, fd < 0 ? call->bin_len : 0, fd);
	p.lost = !p.seq;
	p.next = a->list;
	p.pprev = &a->list;
	if (p.next)
		p.next->pprev = &p.next;
	a->list = &p;
	a->n++;
	while (!p.answered && !p.lost && wasd_cond_wait_until(&p.done, &a->lock, deadline_us))
		;
	*p.pprev = p.next;
	if (p.next)
		p.next->pprev = p.pprev;
	a->n--;
	if (!p.answered && !p.lost && !a->late_seq) {
		a->late_seq = p.seq;
		snprintf(a->late_who, sizeof a->late_who, "%s", p.who ? p.who : "");
	}
	const char *down = a->down;
	pthread_mutex_unlock(&a->lock);
	pthread_cond_destroy(&p.done);
	if (!p.answered)
		return p.lost ? wasd_fail(err, WASD_EBUSY, "%s", down) :
		                wasd_fail(err, WASD_EBUSY, "the answer did not come in time");
	s = p.bulk ? copy_bulk(&p, err) : WASD_OK;
	call->reply = p.reply;
	call->reply_bin = p.bin;
	call->reply_bin_len = p.bin_len;
	if (wasd_json_str(p.reply, "type", &type) && !strcmp(type, "error"))
		return read_error(p.reply, err);
	return s;
}

/* An answer's memory file: no larger than what was asked for can be. */
static enum wasd_status take_bulk(struct pending *p, const struct wasd_frame *m, struct wasd_err *err)
{
	int64_t bytes;
	if (!p->bulk_max)
		return wasd_fail(err, WASD_ECORRUPT, "%s with a descriptor", m->type);
	if (m->bin_len || !wasd_json_i64(m->json, "bytes", &bytes) || bytes < 1)
		return wasd_fail(err, WASD_ECORRUPT, "%s with a descriptor and without a proper bytes", m->type);
	if ((uint64_t)bytes > p->bulk_max)
		return wasd_fail(err, WASD_ECORRUPT, "%s of %lld bytes where at most %zu were asked for", m->type,
		                 (long long)bytes, p->bulk_max);
	enum wasd_status s = wasd_memfd_map(m->fd, (size_t)bytes, &p->bulk, err);
	if (s == WASD_OK)
		p->bulk_len = (size_t)bytes;
	return s;
}

enum wasd_status asker_answer(struct asker *a, struct wasd_frame *m, struct wasd_err *err)
{
	int64_t re;
	if (!wasd_json_i64(m->json, "re", &re))
		return wasd_fail(err, WASD_ECORRUPT, "message %s answers no question", m->type);
	enum wasd_status s = WASD_OK;
	pthread_mutex_lock(&a->lock);
	if (a->late_seq == (uint32_t)re)
		a->late_seq = 0;
	struct pending *p = a->list;
	while (p && (p->seq != (uint32_t)re || p->answered))
		p = p->next;
	/* Nobody waits any more when the deadline was first: the answer is dropped. */
	if (p && strcmp(m->type, "error") && strcmp(m->type, p->answer))
		s = wasd_fail(err, WASD_ECORRUPT, "message %s where %s or an error is the answer", m->type, p->answer);
	if (p && s == WASD_OK && m->fd >= 0)
		s = take_bulk(p, m, err);
	if (p && s == WASD_OK) {
		p->reply = m->json;
		p->bin = m->bin;
		p->bin_len = m->bin_len;
		m->json = NULL;
		m->type = NULL;
		m->bin = NULL;
		m->bin_len = 0;
		p->answered = true;
		pthread_cond_signal(&p->done);
	}
	pthread_mutex_unlock(&a->lock);
	return s;
}
