/* tests/core/rng.c - the run's generator: known answers, independent streams, ranges, fair shuffles. */
#include "check.h"
#include "wasd/tensor.h"

/* The first outputs of xoshiro256** from the state (1,2,3,4), as given by its authors' code. */
static void known_answers(void)
{
	static const uint64_t want[] = {11520, 0, 1509978240, 1215971899390074240};
	struct wasd_rng r = {{1, 2, 3, 4}};
	for (int i = 0; i < 4; i++)
		CHECK_MSG(wasd_rng_u64(&r) == want[i], "output %d", i);
}

static void streams(void)
{
	static const struct {
		uint64_t seed;
		const char *name;
		uint64_t a, b;
	} key[] = {
		{1, "init", 0, 0}, {2, "init", 0, 0}, {1, "was", 0, 0}, {1, "init", 1, 0}, {1, "init", 0, 1}, {0, "", 0, 0},
	};
	enum { N = sizeof key / sizeof *key };
	uint64_t first[N];
	for (int i = 0; i < N; i++) {
		struct wasd_rng r, again;
		wasd_rng_init(&r, key[i].seed, key[i].name, key[i].a, key[i].b);
		wasd_rng_init(&again, key[i].seed, key[i].name, key[i].a, key[i].b);
		first[i] = wasd_rng_u64(&r);
		CHECK(first[i] == wasd_rng_u64(&again));
		for (int j = 0; j < i; j++)
			CHECK_MSG(first[i] != first[j], "streams %d and %d are the same", i, j);
	}
	/* Every checkpoint relies on a stream's numbers: this number may never change. */
	struct wasd_rng r;
	wasd_rng_init(&r, 123, "was", 4, 5);
	CHECK_MSG(wasd_rng_u64(&r) == 0xF6DF33816E0B5D1Eu, "stream (123,was,4,5) begins differently");
}

static void uniform_range(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 1, "test", 0, 0);
	double sum = 0, sq = 0, lo = 1, hi = 0;
	enum { N = 100000 };
	for (int i = 0; i < N; i++) {
		double u = wasd_rng_uniform(&r);
		sum += u;
		sq += u * u;
		lo = fmin(lo, u);
		hi = fmax(hi, u);
		double b = wasd_rng_between(&r, -3, 5);
		CHECK(b >= -3 && b < 5);
	}
	CHECK(lo >= 0 && hi < 1);
	CHECK_NEAR(sum / N, 0.5, 4 * sqrt(1.0 / 12 / N));
	CHECK_NEAR(sq / N, 1.0 / 3, 4 * sqrt(4.0 / 45 / N));
}

/* Mean, variance and fourth moment (variance 96 / N), and the share within one deviation. */
static void normal_moments(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 4, "test", 0, 0);
	enum { N = 100000 };
	double sum = 0, squares = 0, fourth = 0, within = 0;
	for (int i = 0; i < N; i++) {
		double z = wasd_rng_normal(&r);
		CHECK(isfinite(z));
		sum += z;
		squares += z * z;
		fourth += z * z * z * z;
		within += fabs(z) < 1;
	}
	CHECK_NEAR(sum / N, 0, 4 / sqrt(N));
	CHECK_NEAR(squares / N, 1, 4 * sqrt(2.0 / N));
	CHECK_NEAR(fourth / N, 3, 4 * sqrt(96.0 / N));
	CHECK_NEAR(within / N, erf(sqrt(0.5)), 4 * sqrt(0.25 / N));
}

static void below_is_fair(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 2, "test", 0, 0);
	enum { N = 60000, K = 6 };
	int count[K] = {0};
	for (int i = 0; i < N; i++)
		count[wasd_rng_below(&r, K)]++;
	double chi = 0;
	for (int i = 0; i < K; i++)
		chi += (count[i] - N / K) * (double)(count[i] - N / K) / (N / K);
	CHECK_MSG(chi < 25.7, "chi-square %g of 5 degrees of freedom", chi); /* 1e-4 */
	CHECK_INT(wasd_rng_below(&r, 1), 0);
	/* n just above 2^31 rejects almost half of the words: a biased version shows here. */
	int high = 0;
	uint32_t n = (1u << 31) + (1u << 30);
	for (int i = 0; i < N; i++)
		high += wasd_rng_below(&r, n) >= n / 2;
	CHECK_NEAR(high, N / 2, 4 * sqrt(N / 4.0));
}

static void shuffle_is_fair(void)
{
	struct wasd_rng r;
	wasd_rng_init(&r, 3, "test", 0, 0);
	enum { N = 60000 };
	int count[27] = {0}, seen = 0;
	for (int i = 0; i < N; i++) {
		uint32_t v[3] = {0, 1, 2};
		wasd_rng_shuffle(&r, v, 3);
		CHECK((1u << v[0] | 1u << v[1] | 1u << v[2]) == 7);
		count[v[0] * 9 + v[1] * 3 + v[2]]++;
	}
	for (int i = 0; i < 27; i++)
		if (count[i]) {
			seen++;
			CHECK_NEAR(count[i], N / 6, 4.5 * sqrt(N / 6.0));
		}
	CHECK_INT(seen, 6);
	wasd_rng_shuffle(&r, NULL, 0);
}

int main(void)
{
	TEST_RUN(known_answers);
	TEST_RUN(streams);
	TEST_RUN(uniform_range);
	TEST_RUN(normal_moments);
	TEST_RUN(below_is_fair);
	TEST_RUN(shuffle_is_fair);
	TEST_END();
}
