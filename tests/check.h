/* tests/check.h - a minimal test harness. A test program is a main() of CHECK lines grouped in TEST_RUN calls. It
 * prints one line per test ("ok NAME", "not ok NAME", "skip NAME: reason"), which tests/run counts, and exits nonzero
 * if anything failed. A failed CHECK prints file, line and message, and the test continues. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_failed_, check_total_failed_;
static const char *check_skip_;

#define CHECK_MSG(cond, ...) \
	do { \
		if (!(cond)) { \
			check_failed_++; \
			printf("# %s:%d: %s: ", __FILE__, __LINE__, #cond); \
			printf(__VA_ARGS__); \
			printf("\n"); \
		} \
	} while (0)
#define CHECK(cond) CHECK_MSG(cond, "failed")
#define CHECK_INT(a, b) \
	do { \
		long long a_ = (long long)(a), b_ = (long long)(b); \
		CHECK_MSG(a_ == b_, "%s is %lld, want %lld", #a, a_, b_); \
	} while (0)
#define CHECK_STR(a, b) \
	do { \
		const char *a_ = (a), *b_ = (b); \
		CHECK_MSG(a_ &&b_ && !strcmp(a_, b_), "%s is \"%s\", want \"%s\"", #a, a_ ? a_ : "(null)", \
		          b_ ? b_ : "(null)"); \
	} while (0)
#define CHECK_NEAR(a, b, tol) \
	do { \
		double a_ = (a), b_ = (b), t_ = (tol); \
		CHECK_MSG(fabs(a_ - b_) <= t_, "%s is %.17g, want %.17g +- %g", #a, a_, b_, t_); \
	} while (0)
/* Ends the running test as skipped; use it only at the start of a test function. */
#define TEST_SKIP(reason) \
	do { \
		check_skip_ = (reason); \
		return; \
	} while (0)

/* A template for mkdtemp and mkstemp in the directory for temporary files: TMPDIR, or else the system's. */
__attribute__((unused)) static void check_temp(char *out, size_t room, const char *name)
{
	const char *where = getenv("TMPDIR");
	int n = snprintf(out, room, "%s/%s-XXXXXX", where && *where ? where : P_tmpdir, name);
	if (n < 0 || (size_t)n >= room) {
		fprintf(stderr, "TMPDIR is too long a path\n");
		exit(1);
	}
}

#define TEST_RUN(fn) test_run_(#fn, fn)
__attribute__((unused)) static void test_run_(const char *name, void (*fn)(void))
{
	check_failed_ = 0;
	check_skip_ = NULL;
	fn();
	if (check_failed_) {
		printf("not ok %s\n", name);
		check_total_failed_++;
	} else if (check_skip_)
		printf("skip %s: %s\n", name, check_skip_);
	else
		printf("ok %s\n", name);
	fflush(stdout);
}
#define TEST_END() return check_total_failed_ != 0

#endif
