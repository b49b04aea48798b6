/* base/wire.c - frames over a stream socket; the format is described in wasd/wire.h.
 *
 * The receiver reads exactly one frame at a time: 24 bytes of header, then exactly the announced payload. Linux
 * delivers a descriptor with the first byte of the sendmsg that carried it, and every frame starts its own sendmsg. So
 * a descriptor seen while reading a frame belongs to that frame. */
#include "wasd/protocol.h"
#include "wasd/wire.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { HEADER = 24, FLAG_FD = 1, VERSION = 1 };
static const unsigned char magic[4] = {'W', 'A', 'S', 'D'};

struct wasd_wire {
	int fd;
	bool speaks; /* only the messages of this role are allowed; side is our end */
	enum wasd_role role;
	enum wasd_side side;
	pthread_mutex_t send_lock;
	uint32_t sent;    /* number of the last frame sent; send_lock */
	bool send_broken; /* a frame was cut short, so nothing may follow it; send_lock */

	/* state of the reader */
	unsigned char head[HEADER];
	char *body;        /* json_len + bin_len bytes of the frame in progress */
	size_t have;       /* bytes of header and body received so far */
	uint32_t received; /* number of the last frame */
	int passed_fd;     /* came with this frame, or -1 */
	bool recv_broken;
};

static void put16(unsigned char *p, unsigned v)
{
	p[0] = (unsigned char)v;
	p[1] = (unsigned char)(v >> 8);
}
static void put32(unsigned char *p, uint32_t v)
{
	put16(p, v & 0xffff);
	put16(p + 2, v >> 16);
}
static uint32_t get16(const unsigned char *p)
{
	return p[0] | (uint32_t)p[1] << 8;
}
static uint32_t get32(const unsigned char *p)
{
	return get16(p) | get16(p + 2) << 16;
}

void wasd_frame_done(struct wasd_frame *m)
{
	cJSON_Delete(m->json);
	wasd_free(m->bin);
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct wasd_frame){.fd = -1};
}

enum wasd_status wasd_wire_create(int fd, struct wasd_wire **out, struct wasd_err *err)
{
	int type;
	socklen_t n = sizeof type;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n))
		return wasd_fail_errno(err, errno, "wire on descriptor %d", fd);
	if (type != SOCK_STREAM)
		return wasd_fail(err, WASD_EINVAL, "wire on descriptor %d: not a stream socket", fd);
	struct wasd_wire *w = wasd_calloc(1, sizeof *w);
	if (!w)
		return wasd_fail(err, WASD_ENOMEM, "no memory for a wire");
	w->fd = fd;
	w->passed_fd = -1;
	pthread_mutex_init(&w->send_lock, NULL);
	*out = w;
	return WASD_OK;
}

void wasd_wire_destroy(struct wasd_wire *w)
{
	if (!w)
		return;
	close(w->fd);
	if (w->passed_fd >= 0)
		close(w->passed_fd);
	wasd_free(w->body);
	pthread_mutex_destroy(&w->send_lock);
	wasd_free(w);
}

int wasd_wire_fd(const struct wasd_wire *w)
{
	return w->fd;
}

void wasd_wire_speak(struct wasd_wire *w, enum wasd_role role, enum wasd_side side)
{
	w->speaks = true;
	w->role = role;
	w->side = side;
}

/* Checks a message sent by `from` against its row. */
static enum wasd_status check_message(const struct wasd_wire *w, enum wasd_side from, const cJSON *json,
                                      const char *type, size_t bin_len, bool file, struct wasd_err *err)
{
	if (!w->speaks)
		return WASD_OK;
	const struct wasd_message *row = wasd_message_find(w->role, from, type);
	if (!row)
		return wasd_fail(err, WASD_ECORRUPT, "unknown message %.40s", type);
	return wasd_message_check(row, json, bin_len, file, err);
}

/* ---- sending ---- */

/* The descriptor travels with the first byte; the rest of a short write follows without it. */
static enum wasd_status send_all(int sock, struct iovec *iov, int n_iov, int fd, struct wasd_err *err)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} ctl;
	while (n_iov) {
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n_iov};
		if (fd >= 0) {
			memset(&ctl, 0, sizeof ctl);
			m.msg_control = ctl.space;
			m.msg_controllen = sizeof ctl.space;
			struct cmsghdr *c = CMSG_FIRSTHDR(&m);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(c), &fd, sizeof fd);
		}
		ssize_t k = sendmsg(sock, &m, MSG_NOSIGNAL);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			struct pollfd p = {.fd = sock, .events = POLLOUT};
			if (poll(&p, 1, -1) < 0 && errno != EINTR)
				return wasd_fail_errno(err, errno, "send");
			continue;
		}
		if (k < 0)
			return wasd_fail_errno(err, errno, "send");
		fd = -1;
		size_t done = (size_t)k;
		while (n_iov && done >= iov->iov_len)
			done -= iov->iov_len, iov++, n_iov--;
		if (n_iov) {
			iov->iov_base = (char *)iov->iov_base + done;
			iov->iov_len -= done;
		}
	}
	return WASD_OK;
}

enum wasd_status wasd_wire_send(struct wasd_wire *w, const cJSON *json, const void *bin, size_t bin_len, int fd,
                                uint32_t *seq, struct wasd_err *err)
{
	const char *type;
	if (!wasd_json_str(json, "type", &type))
		return wasd_fail(err, WASD_EINVAL, "a message needs a string member \"type\"");
	if (bin_len > WASD_WIRE_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "message %s: %zu binary bytes; the limit is %u", type, bin_len,
		                 WASD_WIRE_MAX);
	enum wasd_status s = check_message(w, w->side, json, type, bin_len, fd >= 0, err);
	if (s) {
		if (err)
			err->status = WASD_EINVAL;
		return WASD_EINVAL;
	}
	char *text = wasd_json_print(json);
	if (!text)
		return wasd_fail(err, WASD_ENOMEM, "message %s: no memory", type);
	size_t json_len = strlen(text);
	if (json_len > WASD_WIRE_MAX) {
		s = wasd_fail(err, WASD_ETOOBIG, "message %s: %zu bytes of JSON; the limit is %u", type, json_len,
		              WASD_WIRE_MAX);
		goto out;
	}
	unsigned char h[HEADER];
	memcpy(h, magic, 4);
	put16(h + 4, VERSION);
	put16(h + 6, fd >= 0 ? FLAG_FD : 0);
	put32(h + 12, (uint32_t)json_len);
	put32(h + 16, (uint32_t)bin_len);
	struct iovec iov[3] = {{h, HEADER}, {text, json_len}, {(void *)(uintptr_t)bin, bin_len}};

	pthread_mutex_lock(&w->send_lock);
	if (w->send_broken) {
		s = wasd_fail(err, WASD_EIO, "message %s: the stream is broken", type);
	} else {
		uint32_t number = ++w->sent;
		put32(h + 8, number);
		uint32_t crc = wasd_crc32c(0, h, 20);
		crc = wasd_crc32c(crc, text, json_len);
		if (bin_len)
			crc = wasd_crc32c(crc, bin, bin_len);
		put32(h + 20, crc);
		s = send_all(w->fd, iov, bin_len ? 3 : 2, fd, err);
		if (s)
			w->send_broken = true;
		else if (seq)
			*seq = number;
	}
	pthread_mutex_unlock(&w->send_lock);
out:
	wasd_free(text);
	return s;
}

enum wasd_status wasd_wire_send_take(struct wasd_wire *w, cJSON *json, struct wasd_err *err)
{
	if (!json)
		return wasd_fail(err, WASD_ENOMEM, "no memory for a message");
	enum wasd_status s = wasd_wire_send(w, json, NULL, 0, -1, NULL, err);
	cJSON_Delete(json);
	return s;
}

/* ---- receiving ---- */

static enum wasd_status broken(struct wasd_wire *w, struct wasd_err *err, const char *what)
{
	w->recv_broken = true;
	return wasd_fail(err, WASD_ECORRUPT, "frame %u: %s", w->received + 1, what);
}

/* Takes the descriptors that came with a read. More than one per frame is an error, and the extra ones are closed. */
static bool take_fds(struct wasd_wire *w, struct msghdr *m)
{
	bool good = !(m->msg_flags & MSG_CTRUNC);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (w->passed_fd < 0 && good) {
				w->passed_fd = fd;
			} else {
				close(fd);
				good = false;
			}
		}
	}
	return good;
}

/* Reads up to n bytes of the current frame. WASD_EBUSY if no more bytes are available now. */
static enum wasd_status read_some(struct wasd_wire *w, void *p, size_t n, size_t *got, struct wasd_err *err)
{
	union {
		char space[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} ctl;
	for (;;) {
		struct iovec iov = {p, n};
		struct msghdr m = {.msg_iov = &iov,
		                   .msg_iovlen = 1,
		                   .msg_control = ctl.space,
		                   .msg_controllen = sizeof ctl.space};
		ssize_t k = recvmsg(w->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return WASD_EBUSY;
		if (k < 0 && errno == ECONNRESET)
			k = 0; /* the peer died with bytes of ours unread */
		else if (k < 0)
			return wasd_fail_errno(err, errno, "receive");
		else if (!take_fds(w, &m))
			return broken(w, err, "more than one descriptor");
		if (k == 0)
			return w->have ? broken(w, err, "the stream ends inside the frame") :
			                 wasd_fail(err, WASD_ENOTFOUND, "end of stream");
		*got = (size_t)k;
		return WASD_OK;
	}
}

static enum wasd_status check_header(struct wasd_wire *w, struct wasd_err *err)
{
	const unsigned char *h = w->head;
	if (memcmp(h, magic, 4))
		return broken(w, err, "wrong magic");
	if (get16(h + 4) != VERSION)
		return broken(w, err, "unknown version");
	if (get16(h + 6) & ~(uint32_t)FLAG_FD)
		return broken(w, err, "unknown flags");
	if (get32(h + 8) != w->received + 1)
		return broken(w, err, "out of order");
	if (get32(h + 12) < 2 || get32(h + 12) > WASD_WIRE_MAX || get32(h + 16) > WASD_WIRE_MAX)
		return broken(w, err, "length outside the limits");
	return WASD_OK;
}

/* A message may hold a whole request (wasd/json.h), which is up to 32 deep, as one of its members or in a list. */
static const struct wasd_json_limits frame_limits = {WASD_WIRE_MAX, 40, 600000};

/* Checks a complete frame and moves it to *out. */
static enum wasd_status finish_frame(struct wasd_wire *w, struct wasd_frame *out, struct wasd_err *err)
{
	const size_t json_len = get32(w->head + 12), bin_len = get32(w->head + 16);
	uint32_t crc = wasd_crc32c(wasd_crc32c(0, w->head, 20), w->body, json_len + bin_len);
	if (crc != get32(w->head + 20))
		return broken(w, err, "checksum does not match");
	if ((get16(w->head + 6) & FLAG_FD) != (w->passed_fd >= 0))
		return broken(w, err, w->passed_fd >= 0 ? "an unannounced descriptor" : "the announced descriptor is missing");

	struct wasd_frame m = {.seq = get32(w->head + 8), .fd = -1};
	enum wasd_status s = wasd_json_parse(w->body, json_len, frame_limits, &m.json, err);
	if (s == WASD_ENOMEM)
		return s;
	if (s) {
		w->recv_broken = true;
		if (err)
			err->status = WASD_ECORRUPT;
		return WASD_ECORRUPT;
	}
	if (!wasd_json_str(m.json, "type", &m.type)) {
		cJSON_Delete(m.json);
		return broken(w, err, "not an object with a string member \"type\"");
	}
	if ((s = check_message(w, w->side == WASD_ENGINE ? WASD_DAEMON : WASD_ENGINE, m.json, m.type, bin_len,
	                       w->passed_fd >= 0, err))) {
		cJSON_Delete(m.json);
		w->recv_broken = true;
		return s;
	}
	if (bin_len && !(m.bin = wasd_malloc(bin_len))) {
		cJSON_Delete(m.json);
		return wasd_fail(err, WASD_ENOMEM, "frame %u: no memory", m.seq);
	}
	if (bin_len)
		memcpy(m.bin, w->body + json_len, bin_len);
	m.bin_len = bin_len;
	m.fd = w->passed_fd;
	w->passed_fd = -1;
	w->received = m.seq;
	w->have = 0;
	wasd_free(w->body);
	w->body = NULL;
	*out = m;
	return WASD_OK;
}

/* Continues the frame in progress until it is complete or the kernel has no more bytes. */
static enum wasd_status advance(struct wasd_wire *w, struct wasd_frame *out, struct wasd_err *err)
{
	for (;;) {
		enum wasd_status s;
		size_t got;
		if (w->have < HEADER) {
			if ((s = read_some(w, w->head + w->have, HEADER - w->have, &got, err)))
				return s;
			w->have += got;
			if (w->have == HEADER && (s = check_header(w, err)))
				return s;
			continue;
		}
		size_t body = (size_t)get32(w->head + 12) + get32(w->head + 16), in = w->have - HEADER;
		if (!w->body && !(w->body = wasd_malloc(body)))
			return wasd_fail(err, WASD_ENOMEM, "frame %u: no memory for %zu bytes", w->received + 1, body);
		if (in == body)
			return finish_frame(w, out, err);
		if ((s = read_some(w, w->body + in, body - in, &got, err)))
			return s;
		w->have += got;
	}
}

enum wasd_status wasd_wire_recv(struct wasd_wire *w, int timeout_ms, struct wasd_frame *out, struct wasd_err *err)
{
	if (w->recv_broken)
		return wasd_fail(err, WASD_ECORRUPT, "the stream is broken");
	const int64_t deadline = timeout_ms < 0 ? INT64_MAX : wasd_mono_us() + (int64_t)timeout_ms * 1000;
	for (;;) {
		enum wasd_status s = advance(w, out, err);
		if (s != WASD_EBUSY)
			return s;
		int64_t left = timeout_ms < 0 ? -1 : (deadline - wasd_mono_us() + 999) / 1000;
		if (timeout_ms >= 0 && left <= 0)
			return wasd_fail(err, WASD_EBUSY, "no frame within %d ms", timeout_ms);
		struct pollfd p = {.fd = w->fd, .events = POLLIN};
		if (poll(&p, 1, timeout_ms < 0 ? -1 : left > INT_MAX ? INT_MAX : (int)left) < 0 && errno != EINTR)
			return wasd_fail_errno(err, errno, "receive");
	}
}
