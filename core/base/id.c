/* base/id.c - ULIDs, random bytes, clocks and times. */
#include "wasd/base.h"
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

void wasd_random_bytes(void *p, size_t n)
{
	char *c = p;
	while (n) {
		ssize_t k = getrandom(c, n, 0);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			abort();
		c += k;
		n -= (size_t)k;
	}
}

int64_t wasd_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t wasd_mono_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ULID: 48 bits of milliseconds and 80 random bits, in Crockford's base 32. Within one millisecond, and when the wall
 * clock steps back, the id is the previous value plus one, so ids always sort in order of creation. */
static pthread_mutex_t ulid_lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t ulid_ms = -1;
static unsigned char ulid_tail[10];

void wasd_ulid(const char *prefix, char *out)
{
	static const char alphabet[33] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
	unsigned char b[16];
	int64_t now = wasd_now_ms();
	pthread_mutex_lock(&ulid_lock);
	if (now > ulid_ms) {
		ulid_ms = now;
		wasd_random_bytes(ulid_tail, sizeof ulid_tail);
		ulid_tail[0] &= 0x7f; /* room for 2^79 increments */
	} else {
		for (int i = 9; i >= 0 && ++ulid_tail[i] == 0; i--) {
		}
	}
	for (int i = 0; i < 6; i++)
		b[i] = (unsigned char)(ulid_ms >> (8 * (5 - i)));
	memcpy(b + 6, ulid_tail, 10);
	pthread_mutex_unlock(&ulid_lock);

	size_t n = strlen(prefix);
	memcpy(out, prefix, n);
	/* 26 digits of 5 bits hold 130 bits: the value is right-aligned, with two zero bits in front. */
	for (int i = 0; i < WASD_ULID_LEN; i++) {
		unsigned v = 0;
		for (int k = 0; k < 5; k++) {
			int bit = i * 5 + k - 2;
			v = v << 1 | (bit < 0 ? 0u : (unsigned)(b[bit / 8] >> (7 - bit % 8) & 1));
		}
		out[n + (size_t)i] = alphabet[v];
	}
	out[n + WASD_ULID_LEN] = 0;
}

void wasd_rfc3339(int64_t unix_ms, char out[WASD_RFC3339_LEN])
{
	/* The format demands four-digit years; a clock outside that range is clamped. */
	const int64_t first = INT64_C(-62167219200000), last = INT64_C(253402300799999);
	if (unix_ms < first)
		unix_ms = first;
	if (unix_ms > last)
		unix_ms = last;
	int64_t ms = unix_ms % 1000, sec = unix_ms / 1000;
	if (ms < 0)
		ms += 1000, sec--;
	time_t t = (time_t)sec;
	struct tm tm;
	gmtime_r(&t, &tm);
	char text[80];
	snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
	         tm.tm_hour, tm.tm_min, tm.tm_sec, (int)ms);
	memcpy(out, text, WASD_RFC3339_LEN);
	out[WASD_RFC3339_LEN - 1] = 0;
}

static bool two_digits(const char *s)
{
	return isdigit((unsigned char)s[0]) && isdigit((unsigned char)s[1]);
}

bool wasd_rfc3339_parse(const char *s, int64_t *unix_ms)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd";
	static const int month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	for (size_t i = 0; form[i]; i++)
		if (form[i] == 'd' ? !isdigit((unsigned char)s[i]) : s[i] != form[i] && !(form[i] == 'T' && s[i] == 't'))
			return false;
	int y = atoi(s), mo = atoi(s + 5), d = atoi(s + 8), h = atoi(s + 11), mi = atoi(s + 14), sec = atoi(s + 17), ms = 0;
	if (mo < 1 || mo > 12 || d < 1 || d > month_days[mo - 1] || h > 23 || mi > 59 || sec > 60)
		return false;
	s += 19;
	if (*s == '.') {
		size_t n = strspn(++s, "0123456789");
		if (n == 0 || n > 9)
			return false;
		for (size_t i = 0; i < 3; i++)
			ms = ms * 10 + (i < n ? s[i] - '0' : 0);
		s += n;
	}
	int offset = 0;
	if (*s == '+' || *s == '-') {
		if (!two_digits(s + 1) || s[3] != ':' || !two_digits(s + 4) || s[6])
			return false;
		offset = (atoi(s + 1) * 60 + atoi(s + 4)) * (*s == '-' ? -1 : 1);
	} else if ((*s != 'Z' && *s != 'z') || s[1]) {
		return false;
	}
	struct tm tm = {.tm_year = y - 1900, .tm_mon = mo - 1, .tm_mday = d, .tm_hour = h, .tm_min = mi, .tm_sec = sec};
	*unix_ms = ((int64_t)timegm(&tm) - offset * 60) * 1000 + ms;
	return true;
}
