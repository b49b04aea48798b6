/* Errors, counted memory, buffers, names, digests, ids, time and waiting. */
#include "check.h"
#include "wasd/base.h"
#include "wasd/cond.h"
#include "wasd/mode.h"
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static void test_status_names(void)
{
	for (int i = 0; i < WASD_STATUS_COUNT; i++)
		CHECK_INT(wasd_status_from_name(wasd_status_name((enum wasd_status)i)), i);
	CHECK_INT(wasd_status_from_name("nonsense"), WASD_EINTERNAL);
	CHECK_INT(wasd_status_from_name(NULL), WASD_EINTERNAL);
	CHECK_STR(wasd_status_name((enum wasd_status)99), "einternal");
}

static void test_errors(void)
{
	struct wasd_err e;
	CHECK_INT(wasd_fail(&e, WASD_EINVAL, "conv3: %d channels", 64), WASD_EINVAL);
	CHECK_STR(e.msg, "conv3: 64 channels");
	CHECK_STR(e.pointer, "");
	CHECK_INT(wasd_fail_at(&e, WASD_ECORRUPT, "/train/lr", "bad"), WASD_ECORRUPT);
	CHECK_STR(e.pointer, "/train/lr");
	CHECK_INT(wasd_fail(&e, WASD_EIO, "again: %s", e.msg), WASD_EIO); /* the argument is part of the error itself */
	CHECK_STR(e.msg, "again: bad");
	wasd_fail(&e, WASD_EINVAL, "a\nb\033[31m\xff");
	CHECK_STR(e.msg, "a?b?[31m?"); /* one clean line, whatever a user sent */
	CHECK_INT(wasd_fail(NULL, WASD_EBUSY, "nobody reads"), WASD_EBUSY);
	CHECK_INT(wasd_fail_errno(&e, ENOSPC, "wal"), WASD_EFULL);
	CHECK_STR(e.msg, "wal: No space left on device");
	CHECK_INT(wasd_fail_errno(&e, EDQUOT, "wal"), WASD_EFULL);
	CHECK_INT(wasd_fail_errno(&e, ENOMEM, "map"), WASD_ENOMEM);
	CHECK_INT(wasd_fail_errno(&e, EACCES, "x"), WASD_EIO);
	/* A truncated number must not look like another number. */
	char line[16];
	CHECK_INT(wasd_line(line, sizeof line, "loss %.0f", 123456789.0), 14);
	CHECK_STR(line, "loss 123456789");
	CHECK_INT(wasd_line(line, sizeof line, "loss %.0f", 1e37), 15);
	CHECK_STR(line, "loss 9999999...");
	/* Truncated at 255 bytes without splitting a character, whatever the offset. */
	for (int pad = 0; pad < 4; pad++) {
		struct wasd_buf b = {0};
		for (int i = 0; i < pad; i++)
			wasd_buf_puts(&b, "x");
		for (int i = 0; i < 200; i++)
			wasd_buf_puts(&b, "\xe2\x82\xac");
		wasd_fail_at(&e, WASD_EINVAL, wasd_buf_cstr(&b), "%s", wasd_buf_cstr(&b));
		CHECK(!strcmp(e.msg + strlen(e.msg) - 3, "..."));
		CHECK(strlen(e.msg) > 250 && wasd_utf8_ok(e.msg, strlen(e.msg)) && !strchr(e.msg, '?'));
		CHECK(strlen(e.pointer) > 150 && wasd_utf8_ok(e.pointer, strlen(e.pointer)));
		wasd_buf_done(&b);
	}
}

static void test_memory(void)
{
	struct wasd_mem_stats a = wasd_mem_stats();
	void *p = wasd_malloc(0), *q = wasd_calloc(0, 8);
	CHECK(p && q);
	p = wasd_realloc(p, 100);
	char *s = wasd_strdup("abc"), *t = wasd_strndup("abcdef", 2), *u = wasd_asprintf("%d-%s", 7, "x");
	CHECK_STR(s, "abc");
	CHECK_STR(t, "ab");
	CHECK_STR(u, "7-x");
	float *al = wasd_alloc_aligned(33, sizeof *al);
	CHECK(al && ((uintptr_t)al & 63) == 0);
	for (int i = 0; al && i < 33; i++)
		CHECK(al[i] == 0);
	wasd_free(p), wasd_free(q), wasd_free(s), wasd_free(t), wasd_free(u), wasd_free(al), wasd_free(NULL);
	struct wasd_mem_stats b = wasd_mem_stats();
	CHECK_INT(b.allocs - a.allocs, 7);
	CHECK_INT(b.frees - a.frees, 7);
	CHECK(wasd_calloc(SIZE_MAX / 2, 3) == NULL);
	CHECK(wasd_alloc_aligned(SIZE_MAX / 2, 3) == NULL);
	CHECK(wasd_alloc_aligned(1, SIZE_MAX - 10) == NULL);
	wasd_mem_fail_at(2);
	p = wasd_malloc(1), q = wasd_malloc(1);
	void *r = wasd_malloc(1);
	CHECK(p && !q && r);
	wasd_free(p), wasd_free(r);
	size_t n;
	CHECK(!wasd_mul_size(SIZE_MAX, 2, &n) && !wasd_add_size(SIZE_MAX, 1, &n) && wasd_mul_size(3, 4, &n) && n == 12);
}

static void test_buffer(void)
{
	struct wasd_buf b = {0};
	CHECK_STR(wasd_buf_cstr(&b), "");
	for (int i = 0; i < 1000; i++)
		CHECK(wasd_buf_printf(&b, "%d,", i));
	CHECK_INT(b.len, 10 + 90 * 2 + 900 * 3 + 1000);
	CHECK(strlen(wasd_buf_cstr(&b)) == b.len);
	wasd_buf_done(&b);
	wasd_buf_done(&b);

	struct wasd_buf m = {.max = 5};
	CHECK(wasd_buf_puts(&m, "abcde"));
	CHECK_STR(wasd_buf_cstr(&m), "abcde");
	CHECK(!wasd_buf_puts(&m, "f") && m.failed && m.len == 5);
	CHECK(!wasd_buf_append(&m, "", 0)); /* stays failed */
	CHECK(wasd_buf_cstr(&m) == NULL);
	wasd_buf_done(&m);

	struct wasd_buf p = {.max = 5};
	CHECK(wasd_buf_puts(&p, "abc"));
	CHECK(!wasd_buf_printf(&p, "%s", "def") && p.len == 3 && !memcmp(p.data, "abc", 3));
	wasd_buf_done(&p);

	struct wasd_buf f = {0};
	wasd_buf_puts(&f, "keep");
	wasd_mem_fail_at(1);
	char big[500] = {0};
	CHECK(!wasd_buf_append(&f, big, sizeof big));
	wasd_mem_fail_at(0);
	CHECK(f.failed && f.len == 4 && !memcmp(f.data, "keep", 4));
	wasd_buf_done(&f);
}

static void test_globs(void)
{
	static const struct {
		const char *pattern, *s;
		bool ok;
	} rows[] = {
		{"conv1", "conv1", true},
		{"conv1", "conv11", false},
		{"conv1", "xconv1", false},
		{"conv1", "conv", false},
		{"conv?", "conv1", true},
		{"conv?", "conv", false},
		{"conv?", "conv12", false},
		{"*", "", true},
		{"*", "a.b", true},
		{"", "", true},
		{"", "a", false},
		{"?", "", false},
		{"layer1.*", "layer1.0.conv1", true},
		{"layer1.*", "layer11.0.conv1", false},
		{"*.conv2", "layer1.0.conv2", true},
		{"*.conv2", "layer1.0.conv21", false},
		{"*.conv2*", "a.conv2.conv21", true},
		{"a*b*c", "aXbXbc", true},
		{"a*b*c", "aXbXb", false},
		{"**a**", "a", true},
		{"*a?", "aab", true},
		{"*a?", "aaba", false},
		{"[ab]", "a", false},
		{"[ab]", "[ab]", true},
		{"a\\*", "a*", false},
		/* Naive backtracking over all stars would take years here. */
		{"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*ab",
	     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		CHECK_MSG(wasd_glob(rows[i].pattern, rows[i].s) == rows[i].ok, "%s on \"%s\"", rows[i].pattern, rows[i].s);
}

static void test_names(void)
{
	static const struct {
		const char *s;
		bool ok;
	} rows[] = {
		{"a", true},
		{"cifar10", true},
		{"a.b_c-d", true},
		{"0", true},
		{"stats", false},
		{"stats2", true},
		{"", false},
		{"A", false},
		{"-a", false},
		{".a", false},
		{"a/b", false},
		{"a b", false},
		{"..", false},
		{"a\n", false},
		{"\xc3\xa9", false},
		{"a'; drop", false},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true},   /* 63 */
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false}, /* 64 */
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		CHECK_MSG(wasd_name_ok(rows[i].s) == rows[i].ok, "\"%s\"", rows[i].s);
	CHECK(wasd_utf8_ok("a\xc3\xa9", 3) && !wasd_utf8_ok("a\xc3", 2) && !wasd_utf8_ok("a\0b", 3) && wasd_utf8_ok("", 0));
}

static void test_digests(void)
{
	char a[WASD_SHA256_HEX], b[WASD_SHA256_HEX];
	wasd_sha256_of("", 0, a);
	CHECK_STR(a, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	wasd_sha256_of("abc", 3, a);
	CHECK_STR(a, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	struct wasd_sha256 *h = wasd_sha256_create();
	wasd_sha256_update(h, "a", 1);
	wasd_sha256_hex(h, b);
	CHECK(strcmp(a, b));
	wasd_sha256_update(h, "bc", 2);
	wasd_sha256_update(h, NULL, 0);
	wasd_sha256_hex(h, b); /* reading the digest does not disturb the stream */
	CHECK_STR(b, a);
	wasd_sha256_destroy(h);
	wasd_sha256_destroy(NULL);

	CHECK_INT(wasd_crc32c(0, "123456789", 9), 0xe3069283); /* RFC 3720, appendix B.4, and the usual check value */
	unsigned char z[32] = {0}, up[32];
	for (int i = 0; i < 32; i++)
		up[i] = (unsigned char)i;
	CHECK_INT(wasd_crc32c(0, z, 32), 0x8a9136aa);
	CHECK_INT(wasd_crc32c(0, up, 32), 0x46dd794e);
	for (size_t cut = 0; cut <= 32; cut++)
		CHECK_INT(wasd_crc32c(wasd_crc32c(0, up, cut), up + cut, 32 - cut), 0x46dd794e);
}

enum { THREADS = 4, PER = 5000 };
static char ids[THREADS][PER][40];

static void *make_ids(void *arg)
{
	int t = *(int *)arg;
	for (int i = 0; i < PER; i++)
		wasd_ulid("job_", ids[t][i]);
	return NULL;
}

static int cmp_id(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void test_ulid(void)
{
	pthread_t th[THREADS];
	int num[THREADS];
	for (int t = 0; t < THREADS; t++)
		num[t] = t, pthread_create(&th[t], NULL, make_ids, &num[t]);
	for (int t = 0; t < THREADS; t++)
		pthread_join(th[t], NULL);
	for (int t = 0; t < THREADS; t++)
		for (int i = 0; i < PER; i++) {
			const char *s = ids[t][i];
			CHECK(strlen(s) == 30 && !strncmp(s, "job_", 4) && s[4] <= '7');
			CHECK(strspn(s + 4, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == 26);
			if (i)
				CHECK_MSG(strcmp(ids[t][i - 1], s) < 0, "%s then %s", ids[t][i - 1], s);
		}
	qsort(ids, THREADS * PER, sizeof ids[0][0], cmp_id);
	char(*all)[40] = &ids[0][0];
	int same = 0;
	for (int i = 1; i < THREADS * PER; i++)
		same += !strcmp(all[i - 1], all[i]);
	CHECK_INT(same, 0);
	/* The first ten digits are the time. */
	int64_t before = wasd_now_ms(), ms = 0;
	char id[WASD_ULID_LEN + 1];
	wasd_ulid("", id);
	for (int i = 0; i < 10; i++)
		ms = ms * 32 +
		     (int64_t)(strchr("0123456789ABCDEFGHJKMNPQRSTVWXYZ", id[i]) - "0123456789ABCDEFGHJKMNPQRSTVWXYZ");
	CHECK(ms >= before - 1000 && ms <= wasd_now_ms() + 1000);
}

static void test_time(void)
{
	static const struct {
		int64_t ms;
		const char *want;
	} rows[] = {
		{0, "1970-01-01T00:00:00.000Z"},
		{-1, "1969-12-31T23:59:59.999Z"},
		{1795510163123, "2026-11-24T08:49:23.123Z"},
		{951782400000, "2000-02-29T00:00:00.000Z"},
		{4102444800000, "2100-01-01T00:00:00.000Z"},
		{INT64_MAX, "9999-12-31T23:59:59.999Z"},
		{INT64_MIN, "0000-01-01T00:00:00.000Z"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char t[WASD_RFC3339_LEN];
		wasd_rfc3339(rows[i].ms, t);
		CHECK_STR(t, rows[i].want);
	}
	int64_t a = wasd_mono_us(), b = wasd_mono_us();
	CHECK(b >= a);
	unsigned char r[64] = {0}, zero[64] = {0};
	wasd_random_bytes(r, sizeof r);
	CHECK(memcmp(r, zero, sizeof r));
}

struct waited {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool said;
};

static void *say(void *p)
{
	struct waited *w = p;
	pthread_mutex_lock(&w->lock);
	w->said = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void test_conditions(void)
{
	struct waited w = {.lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t t;
	wasd_cond_init(&w.cond);
	pthread_mutex_lock(&w.lock);
	/* No signal: the wait does not end early, and a deadline in the past returns at once. */
	int64_t until = wasd_mono_us() + 20000;
	while (wasd_cond_wait_until(&w.cond, &w.lock, until))
		;
	CHECK(wasd_mono_us() >= until);
	CHECK(!wasd_cond_wait_until(&w.cond, &w.lock, until) && !wasd_cond_wait_until(&w.cond, &w.lock, 0));
	/* A signal arrives long before the deadline. */
	CHECK(!pthread_create(&t, NULL, say, &w));
	until = wasd_mono_us() + 60000000;
	while (!w.said && wasd_cond_wait_until(&w.cond, &w.lock, until))
		;
	CHECK(w.said && wasd_mono_us() < until);
	pthread_mutex_unlock(&w.lock);
	pthread_join(t, NULL);
	pthread_cond_destroy(&w.cond);
}

static void test_mode_names(void)
{
	static const struct {
		const char *mode;
		bool ok;
		const char *profile;
	} rows[] = {
		{"aom", true, NULL},
		{"dom", true, NULL},
		{"slim", true, NULL},
		{"dom:slim", true, "slim"}, /* a profile may have had this name before the mode */
		{"dom:fast", true, "fast"},
		{"dom:macs-70", true, "macs-70"},
		{"int8:fast", true, "fast"},
		{"lowrank:x", true, "x"},
		{"lowranks:x", false, NULL}, /* a family of more letters than fit */
		{"8int:x", false, NULL},
		{"in-t:x", false, NULL},
		{":x", false, NULL},
		{"int8", false, NULL},
		{"", false, NULL},
		{"dom:", false, ""},
		{"dom:aom", false, "aom"},
		{"dom:dom", false, "dom"},
		{"aom:fast", false, NULL},
		{"Dom", false, NULL},
		{"dom:Fast", false, "Fast"},
		{"dom:a b", false, "a b"},
		{"dom:dom:x", false, "dom:x"},
		{"dom:stats", false, "stats"},
		{"dom:0123456789012345678901234567890123456789012345678901234567890123", false,
	     "0123456789012345678901234567890123456789012345678901234567890123"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *name = wasd_mode_member(rows[i].mode);
		CHECK_MSG(wasd_mode_ok(rows[i].mode) == rows[i].ok, "%s", rows[i].mode);
		CHECK_MSG(!name == !rows[i].profile && (!name || !strcmp(name, rows[i].profile)), "%s", rows[i].mode);
	}
	char joined[WASD_MODE_LEN];
	wasd_mode_join("lowrank", "012345678901234567890123456789012345678901234567890123456789012", joined);
	CHECK(wasd_mode_ok(joined) && strlen(joined) == WASD_MODE_LEN - 1);
	CHECK_STR(wasd_mode_member(joined), "012345678901234567890123456789012345678901234567890123456789012");
}

static void usage(void)
{
	struct wasd_usage u = {0}, same = {0};
	CHECK(wasd_usage_of(0, &u) && wasd_usage_of((int)getpid(), &same));
	CHECK(u.rss_bytes > 100000 && u.virtual_bytes >= u.rss_bytes && u.started_s > 0 && u.started_s == same.started_s);
	CHECK(same.cpu_s >= u.cpu_s);
	CHECK(!wasd_usage_of(0x7fffffff, &u));
}

int main(void)
{
	TEST_RUN(test_status_names);
	TEST_RUN(test_errors);
	TEST_RUN(test_memory);
	TEST_RUN(test_buffer);
	TEST_RUN(test_names);
	TEST_RUN(test_mode_names);
	TEST_RUN(test_globs);
	TEST_RUN(test_digests);
	TEST_RUN(test_ulid);
	TEST_RUN(test_time);
	TEST_RUN(test_conditions);
	TEST_RUN(usage);
	TEST_END();
}
