/* Frames: every corruption of a frame, partial reads, descriptors, limits, two senders, no memory. */
#include "check.h"
#include "wasd/wire.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_fds(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* A wire on one end, the bare socket on the other. */
static struct wasd_wire *half(int *raw)
{
	int sv[2];
	struct wasd_wire *w = NULL;
	struct wasd_err e;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		abort();
	CHECK_INT(wasd_wire_create(sv[0], &w, &e), WASD_OK);
	*raw = sv[1];
	return w;
}

static void pair(struct wasd_wire **a, struct wasd_wire **b)
{
	int raw;
	*a = half(&raw);
	CHECK_INT(wasd_wire_create(raw, b, NULL), WASD_OK);
}

static cJSON *msg(const char *type)
{
	cJSON *o = cJSON_CreateObject();
	cJSON_AddStringToObject(o, "type", type);
	return o;
}

static void le32(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(v >> (8 * i));
}

/* A frame made by hand from the description in wire.h, not by the code under test. */
static size_t make_frame(unsigned char *out, uint32_t seq, unsigned flags, const char *json, const void *bin,
                         size_t bin_len)
{
	size_t n = strlen(json);
	memcpy(out, "WASD\1\0", 6);
	out[6] = (unsigned char)flags, out[7] = 0;
	le32(out + 8, seq);
	le32(out + 12, (uint32_t)n);
	le32(out + 16, (uint32_t)bin_len);
	memcpy(out + 24, json, n);
	if (bin_len)
		memcpy(out + 24 + n, bin, bin_len);
	uint32_t crc = wasd_crc32c(0, out, 20);
	le32(out + 20, wasd_crc32c(crc, out + 24, n + bin_len));
	return 24 + n + bin_len;
}

static void send_fd(int sock, const void *p, size_t n, const int *fds, size_t nfds)
{
	char ctl[CMSG_SPACE(8 * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)p, n};
	struct msghdr m = {.msg_iov = &iov,
	                   .msg_iovlen = 1,
	                   .msg_control = ctl,
	                   .msg_controllen = CMSG_SPACE(nfds * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
	memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	CHECK(sendmsg(sock, &m, 0) == (ssize_t)n);
}

static void test_round_trip(void)
{
	struct wasd_wire *a, *b;
	struct wasd_err e;
	struct wasd_frame m = {.fd = -1};
	pair(&a, &b);
	char *bin = malloc(WASD_WIRE_MAX);
	for (size_t i = 0; i < WASD_WIRE_MAX; i++)
		bin[i] = (char)(i * 31);
	static const size_t sizes[] = {0, 1, 7, 4096, 100000};
	for (int i = 0; i < 5; i++) {
		uint32_t seq = 0;
		cJSON *j = msg("epoch");
		cJSON_AddNumberToObject(j, "loss", 0.1);
		CHECK_INT(wasd_wire_send(a, j, sizes[i] ? bin : NULL, sizes[i], -1, &seq, &e), WASD_OK);
		CHECK_INT(seq, i + 1);
		cJSON_Delete(j);
		CHECK_INT(wasd_wire_recv(b, 1000, &m, &e), WASD_OK);
		double loss = 0;
		CHECK_INT(m.seq, i + 1);
		CHECK_STR(m.type, "epoch");
		CHECK(wasd_json_num(m.json, "loss", &loss) && loss == 0.1);
		CHECK_INT(m.bin_len, sizes[i]);
		CHECK(sizes[i] ? !memcmp(m.bin, bin, sizes[i]) : m.bin == NULL);
		CHECK_INT(m.fd, -1);
		wasd_frame_done(&m);
		wasd_frame_done(&m);
	}
	CHECK_INT(wasd_wire_send_take(b, msg("ack"), &e), WASD_OK); /* the other direction has its own count */
	CHECK_INT(wasd_wire_recv(a, 1000, &m, &e), WASD_OK);
	CHECK_INT(m.seq, 1);
	wasd_frame_done(&m);
	CHECK_INT(wasd_wire_send_take(b, NULL, &e), WASD_ENOMEM);
	free(bin);
	wasd_wire_destroy(a);
	CHECK_INT(wasd_wire_recv(b, 1000, &m, &e), WASD_ENOTFOUND);
	CHECK_INT(wasd_wire_send_take(b, msg("late"), &e), WASD_EIO); /* EPIPE, and no SIGPIPE */
	CHECK_INT(wasd_wire_send_take(b, msg("later"), &e), WASD_EIO);
	wasd_wire_destroy(b);
}

static void test_layout(void)
{
	int raw;
	struct wasd_wire *w = half(&raw);
	unsigned char want[200], got[200];
	size_t n = make_frame(want, 1, 0, "{\"type\":\"hello\"}", "\1\2\3", 3);
	cJSON *j = msg("hello");
	CHECK_INT(wasd_wire_send(w, j, "\1\2\3", 3, -1, NULL, NULL), WASD_OK);
	cJSON_Delete(j);
	CHECK_INT(recv(raw, got, sizeof got, 0), n);
	CHECK(!memcmp(got, want, n));
	close(raw);
	wasd_wire_destroy(w);
}

/* Every single-bit change of a frame is refused, and the stream stays refused. */
static void test_corruption(void)
{
	unsigned char good[200], bad[200];
	size_t n = make_frame(good, 1, 0, "{\"type\":\"x\",\"n\":1}", "bin!", 4);
	int fds = open_fds();
	for (size_t bit = 0; bit < 8 * n; bit++) {
		int raw;
		struct wasd_wire *w = half(&raw);
		struct wasd_frame m = {.fd = -1};
		memcpy(bad, good, n);
		bad[bit / 8] ^= (unsigned char)(1u << (bit % 8));
		CHECK(send(raw, bad, n, 0) == (ssize_t)n);
		shutdown(raw, SHUT_WR);
		enum wasd_status s = wasd_wire_recv(w, 1000, &m, NULL);
		CHECK_MSG(s == WASD_ECORRUPT, "bit %zu: %s", bit, wasd_status_name(s));
		CHECK_INT(wasd_wire_recv(w, 0, &m, NULL), WASD_ECORRUPT);
		close(raw);
		wasd_wire_destroy(w);
	}
	CHECK_INT(open_fds(), fds);
}

static void test_hostile(void)
{
	static const struct {
		const char *json;
		uint32_t seq, json_len, bin_len;
		unsigned flags;
		const char *why;
	} rows[] = {
		{"{\"type\":\"x\"}", 2, 0, 0, 0, "starts at 2"},
		{"{\"type\":\"x\"}", 0, 0, 0, 0, "starts at 0"},
		{"{\"type\":\"x\"}", 1, 0, 0, 2, "unknown flag"},
		{"{\"type\":\"x\"}", 1, 0, 0, 1, "announced descriptor missing"},
		{"{\"type\":7}", 1, 0, 0, 0, "type is a number"},
		{"{\"Type\":\"x\"}", 1, 0, 0, 0, "type is spelled otherwise"},
		{"[]", 1, 0, 0, 0, "not an object"},
		{"{\"type\":\"x\",\"type\":\"y\"}", 1, 0, 0, 0, "duplicate key"},
		{"{\"type\":\"a\\u0000b\"}", 1, 0, 0, 0, "NUL in a string"},
		{"{\"type\":\"x\"} ", 1, 0xffffffff, 0, 0, "length of 4 GiB"},
		{"{\"type\":\"x\"} ", 1, (1u << 20) + 1, 0, 0, "one byte over the limit"},
		{"{\"type\":\"x\"} ", 1, 1, 0, 0, "one byte of JSON"},
		{"{\"type\":\"x\"} ", 1, 0, (1u << 20) + 1, 0, "binary part over the limit"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int raw;
		struct wasd_wire *w = half(&raw);
		struct wasd_frame m = {.fd = -1};
		unsigned char f[300];
		size_t n = make_frame(f, rows[i].seq, rows[i].flags, rows[i].json, NULL, 0);
		if (rows[i].json_len || rows[i].bin_len) {
			if (rows[i].json_len)
				le32(f + 12, rows[i].json_len);
			if (rows[i].bin_len)
				le32(f + 16, rows[i].bin_len);
			le32(f + 20, wasd_crc32c(wasd_crc32c(0, f, 20), f + 24, n - 24));
		}
		CHECK(send(raw, f, n, 0) == (ssize_t)n);
		struct wasd_err e = {0};
		enum wasd_status s = wasd_wire_recv(w, 200, &m, &e);
		CHECK_MSG(s == WASD_ECORRUPT && e.status == s && e.msg[0], "%s: %s %s", rows[i].why, wasd_status_name(s),
		          e.msg);
		close(raw);
		wasd_wire_destroy(w);
	}
	/* The second copy of a frame is out of order. */
	int raw;
	struct wasd_wire *w = half(&raw);
	struct wasd_frame m = {.fd = -1};
	unsigned char f[100];
	size_t n = make_frame(f, 1, 0, "{\"type\":\"x\"}", NULL, 0);
	CHECK(send(raw, f, n, 0) == (ssize_t)n && send(raw, f, n, 0) == (ssize_t)n);
	CHECK_INT(wasd_wire_recv(w, 200, &m, NULL), WASD_OK);
	wasd_frame_done(&m);
	CHECK_INT(wasd_wire_recv(w, 200, &m, NULL), WASD_ECORRUPT);
	close(raw);
	wasd_wire_destroy(w);
}

/* The frame arrives split at every position; nothing is lost between the calls. */
static void test_partial(void)
{
	unsigned char f[200];
	size_t n = make_frame(f, 1, 0, "{\"type\":\"slow\"}", "0123456789", 10);
	for (int blocking = 0; blocking < 2; blocking++)
		for (size_t cut = 1; cut < n; cut++) {
			int raw;
			struct wasd_wire *w = half(&raw);
			struct wasd_frame m = {.fd = -1};
			if (!blocking)
				fcntl(wasd_wire_fd(w), F_SETFL, O_NONBLOCK);
			CHECK_INT(wasd_wire_recv(w, 0, &m, NULL), WASD_EBUSY);
			CHECK(send(raw, f, cut, 0) == (ssize_t)cut);
			CHECK_INT(wasd_wire_recv(w, 0, &m, NULL), WASD_EBUSY);
			CHECK(send(raw, f + cut, n - cut, 0) == (ssize_t)(n - cut));
			CHECK_INT(wasd_wire_recv(w, 1000, &m, NULL), WASD_OK);
			CHECK_STR(m.type, "slow");
			CHECK(m.bin_len == 10 && !memcmp(m.bin, "0123456789", 10));
			wasd_frame_done(&m);
			/* and a stream that ends there is corrupt, not finished */
			CHECK(send(raw, f, cut, 0) == (ssize_t)cut);
			close(raw);
			CHECK_INT(wasd_wire_recv(w, 1000, &m, NULL), WASD_ECORRUPT);
			wasd_wire_destroy(w);
		}
}

static void test_byte_by_byte(void)
{
	unsigned char f[200];
	int raw;
	struct wasd_wire *w = half(&raw);
	struct wasd_frame m = {.fd = -1};
	for (uint32_t seq = 1; seq <= 3; seq++) {
		size_t n = make_frame(f, seq, 0, "{\"type\":\"drip\"}", "ab", 2);
		for (size_t i = 0; i < n; i++) {
			CHECK(send(raw, f + i, 1, 0) == 1);
			CHECK_INT(wasd_wire_recv(w, i + 1 < n ? 0 : 1000, &m, NULL), i + 1 < n ? WASD_EBUSY : WASD_OK);
		}
		wasd_frame_done(&m);
	}
	close(raw);
	wasd_wire_destroy(w);
}

static void test_descriptors(void)
{
	struct wasd_wire *a, *b;
	struct wasd_frame m = {.fd = -1};
	int before = open_fds(), fd;
	pair(&a, &b);
	CHECK_INT(wasd_memfd_sealed("payload", "weights", 7, &fd, NULL), WASD_OK);
	cJSON *j = msg("checkpoint");
	/* Frames without a descriptor before and after it, read only afterwards: the descriptor stays with its own
	 * frame. */
	CHECK_INT(wasd_wire_send_take(a, msg("before"), NULL), WASD_OK);
	CHECK_INT(wasd_wire_send(a, j, "bin", 3, fd, NULL, NULL), WASD_OK);
	CHECK_INT(wasd_wire_send_take(a, msg("after"), NULL), WASD_OK);
	cJSON_Delete(j);
	CHECK(fcntl(fd, F_GETFD) >= 0); /* still the caller's */
	close(fd);
	CHECK_INT(wasd_wire_recv(b, 1000, &m, NULL), WASD_OK);
	CHECK(m.fd == -1 && !strcmp(m.type, "before"));
	wasd_frame_done(&m);
	CHECK_INT(wasd_wire_recv(b, 1000, &m, NULL), WASD_OK);
	CHECK(m.fd >= 0 && !strcmp(m.type, "checkpoint"));
	CHECK(fcntl(m.fd, F_GETFD) & FD_CLOEXEC);
	const void *p = NULL;
	CHECK_INT(wasd_memfd_map(m.fd, 7, &p, NULL), WASD_OK);
	CHECK(p && !memcmp(p, "weights", 7));
	wasd_memfd_unmap(p, 7);
	wasd_frame_done(&m);
	CHECK_INT(wasd_wire_recv(b, 1000, &m, NULL), WASD_OK);
	CHECK(m.fd == -1 && !strcmp(m.type, "after"));
	wasd_frame_done(&m);
	wasd_wire_destroy(a);
	wasd_wire_destroy(b);
	CHECK_INT(open_fds(), before);

	/* Stray, surplus and duplicate descriptors: all that arrived are closed. */
	static const struct {
		unsigned flags;
		size_t fds;
		bool second;
		const char *why;
	} rows[] = {
		{0, 1, false, "not announced"},
		{1, 2, false, "two at once"},
		{1, 8, false, "more than the reader has room for"},
		{1, 1, true, "a second one with later bytes"},
	};
	for (size_t i = 0; i < 4; i++) {
		int raw, fds[8];
		unsigned char f[100];
		struct wasd_wire *w = half(&raw);
		size_t n = make_frame(f, 1, rows[i].flags, "{\"type\":\"x\"}", NULL, 0);
		for (int k = 0; k < 8; k++)
			fds[k] = dup(1);
		if (rows[i].second) {
			send_fd(raw, f, 10, fds, 1);
			send_fd(raw, f + 10, n - 10, fds, 1);
		} else {
			send_fd(raw, f, n, fds, rows[i].fds);
		}
		CHECK_MSG(wasd_wire_recv(w, 1000, &m, NULL) == WASD_ECORRUPT, "%s", rows[i].why);
		for (int k = 0; k < 8; k++)
			close(fds[k]);
		close(raw);
		wasd_wire_destroy(w);
		CHECK_INT(open_fds(), before);
	}
	/* A descriptor whose frame never completes is closed with the wire. */
	int raw, one = dup(1);
	unsigned char f[100];
	struct wasd_wire *w = half(&raw);
	make_frame(f, 1, 1, "{\"type\":\"x\"}", NULL, 0);
	send_fd(raw, f, 30, &one, 1);
	CHECK_INT(wasd_wire_recv(w, 0, &m, NULL), WASD_EBUSY);
	close(one);
	close(raw);
	wasd_wire_destroy(w);
	CHECK_INT(open_fds(), before);
}

/* A whole request, as deep as one may be, travels as a member in a list; what is deeper than any is refused. */
static void test_depth(void)
{
	for (int deep = 33; deep <= 41; deep += 8) {
		struct wasd_wire *a, *b;
		struct wasd_frame m = {.fd = -1};
		char text[200] = "{\"type\":\"x\",\"a\":";
		for (int i = 0; i < deep; i++)
			strcat(text, "[");
		for (int i = 0; i < deep; i++)
			strcat(text, "]");
		strcat(text, "}");
		cJSON *j = cJSON_Parse(text);
		pair(&a, &b);
		CHECK_INT(wasd_wire_send(a, j, NULL, 0, -1, NULL, NULL), WASD_OK);
		CHECK_INT(wasd_wire_recv(b, 1000, &m, NULL), deep == 33 ? WASD_OK : WASD_ECORRUPT);
		wasd_frame_done(&m);
		cJSON_Delete(j);
		wasd_wire_destroy(a);
		wasd_wire_destroy(b);
	}
}

static void test_limits(void)
{
	struct wasd_wire *a, *b;
	struct wasd_err e;
	pair(&a, &b);
	char *big = calloc(1, WASD_WIRE_MAX + 1);
	cJSON *j = msg("x");
	CHECK_INT(wasd_wire_send(a, j, big, WASD_WIRE_MAX + 1, -1, NULL, &e), WASD_ETOOBIG);
	memset(big, 'a', WASD_WIRE_MAX);
	cJSON_AddStringToObject(j, "s", big);
	CHECK_INT(wasd_wire_send(a, j, NULL, 0, -1, NULL, &e), WASD_ETOOBIG);
	cJSON_Delete(j);
	j = cJSON_CreateObject();
	CHECK_INT(wasd_wire_send(a, j, NULL, 0, -1, NULL, &e), WASD_EINVAL);
	cJSON_Delete(j);
	/* The errors left no trace on the stream. */
	struct wasd_frame m = {.fd = -1};
	CHECK_INT(wasd_wire_send_take(a, msg("fine"), &e), WASD_OK);
	CHECK_INT(wasd_wire_recv(b, 1000, &m, &e), WASD_OK);
	CHECK_INT(m.seq, 1);
	wasd_frame_done(&m);
	free(big);
	wasd_wire_destroy(a);
	wasd_wire_destroy(b);
	wasd_wire_destroy(NULL);
	int p[2];
	struct wasd_wire *w = NULL;
	CHECK(!pipe2(p, O_CLOEXEC));
	CHECK(wasd_wire_create(p[0], &w, &e) != WASD_OK && w == NULL);
	close(p[0]), close(p[1]);
}

/* Two senders, large frames, a small socket buffer: frames never mix, and both a blocking and a non-blocking socket
 * succeed. */
enum { PER_SENDER = 60 };
struct sender {
	struct wasd_wire *w;
	char id;
};
static void *send_many(void *arg)
{
	struct sender *s = arg;
	char *bin = malloc(50000);
	memset(bin, s->id, 50000);
	for (int i = 0; i < PER_SENDER; i++) {
		cJSON *j = msg("bulk");
		if (wasd_wire_send(s->w, j, bin, 50000, -1, NULL, NULL))
			abort();
		cJSON_Delete(j);
	}
	free(bin);
	return NULL;
}

static void test_two_senders(void)
{
	struct wasd_wire *a, *b;
	pair(&a, &b);
	fcntl(wasd_wire_fd(a), F_SETFL, O_NONBLOCK);
	int small = 8192;
	setsockopt(wasd_wire_fd(a), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	pthread_t t[2];
	struct sender s[2] = {{a, 'p'}, {a, 'q'}};
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, send_many, &s[i]);
	int count[2] = {0};
	for (int i = 0; i < 2 * PER_SENDER; i++) {
		struct wasd_frame m = {.fd = -1};
		CHECK_INT(wasd_wire_recv(b, 10000, &m, NULL), WASD_OK);
		CHECK_INT(m.seq, i + 1);
		bool pure = m.bin_len == 50000;
		for (size_t k = 1; pure && k < m.bin_len; k++)
			pure = m.bin[k] == m.bin[0];
		CHECK(pure);
		if (m.bin)
			count[m.bin[0] == 'q']++;
		wasd_frame_done(&m);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	CHECK(count[0] == PER_SENDER && count[1] == PER_SENDER);
	wasd_wire_destroy(a);
	wasd_wire_destroy(b);
}

static void test_no_memory(void)
{
	/* A receive that ran out of memory may be called again and loses nothing. */
	for (uint64_t nth = 1; nth < 40; nth++) {
		struct wasd_wire *a, *b;
		struct wasd_frame m = {.fd = -1};
		pair(&a, &b);
		cJSON *j = msg("x");
		CHECK_INT(wasd_wire_send(a, j, "binary", 6, 1, NULL, NULL), WASD_OK);
		struct wasd_mem_stats before = wasd_mem_stats();
		wasd_mem_fail_at(nth);
		enum wasd_status s = wasd_wire_recv(b, 1000, &m, NULL);
		wasd_mem_fail_at(0);
		CHECK(s == WASD_OK || s == WASD_ENOMEM);
		if (s)
			CHECK_INT(wasd_wire_recv(b, 1000, &m, NULL), WASD_OK);
		CHECK(m.bin_len == 6 && m.fd >= 0);
		wasd_frame_done(&m);
		struct wasd_mem_stats after = wasd_mem_stats();
		CHECK_INT(after.allocs - before.allocs, after.frees - before.frees);
		wasd_mem_fail_at(nth);
		s = wasd_wire_send(a, j, NULL, 0, -1, NULL, NULL);
		wasd_mem_fail_at(0);
		CHECK(s == WASD_OK || s == WASD_ENOMEM);
		CHECK_INT(wasd_wire_send(a, j, NULL, 0, -1, NULL, NULL),
		          WASD_OK); /* the failed call did not break the stream */
		CHECK_INT(wasd_wire_recv(b, 1000, &m, NULL), WASD_OK);
		wasd_frame_done(&m);
		cJSON_Delete(j);
		wasd_wire_destroy(a);
		wasd_wire_destroy(b);
	}
}

static void test_timeout(void)
{
	struct wasd_wire *a, *b;
	struct wasd_frame m = {.fd = -1};
	pair(&a, &b);
	int64_t t0 = wasd_mono_us();
	CHECK_INT(wasd_wire_recv(b, 30, &m, NULL), WASD_EBUSY);
	int64_t took = wasd_mono_us() - t0;
	CHECK_MSG(took >= 30000 && took < 60000000, "%lld us", (long long)took);
	wasd_wire_destroy(a);
	wasd_wire_destroy(b);
}

int main(void)
{
	TEST_RUN(test_round_trip);
	TEST_RUN(test_layout);
	TEST_RUN(test_corruption);
	TEST_RUN(test_hostile);
	TEST_RUN(test_partial);
	TEST_RUN(test_byte_by_byte);
	TEST_RUN(test_descriptors);
	TEST_RUN(test_limits);
	TEST_RUN(test_depth);
	TEST_RUN(test_two_senders);
	TEST_RUN(test_no_memory);
	TEST_RUN(test_timeout);
	TEST_END();
}
