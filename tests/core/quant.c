/* tests/core/quant.c - what int8 networks are made by: weights per channel, the split of CFWS, ranges. */
#include "check.h"
#include "golden.h"
#include "quant/range.h"
#include "quant/split.h"

static const cJSON *cfws, *threshold;

/* Of the golden numbers: two filters of two kernels of 3x3. */
static real W[36];

static double at(const cJSON *list, int i)
{
	return cJSON_GetArrayItem(list, i)->valuedouble;
}

static void same_reals(const char *what, const real *got, const cJSON *want, int n)
{
	for (int i = 0; i < n; i++)
		CHECK_MSG(fabs((double)got[i] - at(want, i)) < 1e-6, "%s[%d]: %.9g, want %.9g", what, i, (double)got[i],
		          at(want, i));
}

static void same_ints(const char *what, const int8_t *got, const cJSON *want, int n)
{
	for (int i = 0; i < n; i++)
		CHECK_MSG(got[i] == (int)at(want, i), "%s[%d]: %d, want %d", what, i, got[i], (int)at(want, i));
}

static double error_of(const real *got)
{
	double sum = 0;
	for (int i = 0; i < 36; i++)
		sum += ((double)got[i] - (double)W[i]) * ((double)got[i] - (double)W[i]);
	return sum / 36;
}

static void rows(void)
{
	if (!cfws)
		TEST_SKIP("no golden numbers (part2.json)");
	const cJSON *want = wasd_json_get(cfws, "plain_per_channel");
	int8_t q[36];
	float s[2];
	real back[36];
	quant_rows(W, 2, 18, 127, q, s);
	same_ints("int", q, wasd_json_get(want, "int"), 36);
	for (int i = 0; i < 36; i++)
		back[i] = (real)(q[i] * (double)s[i / 18]);
	CHECK_NEAR(error_of(back), wasd_json_get(want, "mse")->valuedouble, 1e-9);
	for (int o = 0; o < 2; o++)
		CHECK_NEAR((double)s[o], at(wasd_json_get(want, "scale"), o), 1e-9);
}

/* Of fewer bits; channels of zeros or nearly; halves to even; a channel does not depend on the others. */
static void rows_of_few_bits(void)
{
	static const real w[] = {7, -7, (real)0.5,  (real)1.5, (real)-2.5,   0, 0, 0,          0, 0, (real)0.3, 0,
	                         0, 0,  (real)-0.1, 0,         (real)-1e-36, 0, 0, (real)1e-44};
	static const int8_t want[] = {7, -7, 0, 2, -2, 0, 0, 0, 0, 0, 7, 0, 0, 0, -2, 0, 0, 0, 0, 0};
	int8_t q[20];
	float s[4];
	CHECK(quant_top(8) == 127 && quant_top(4) == 7);
	quant_rows(w, 4, 5, 7, q, s);
	CHECK(!memcmp(q, want, sizeof q));
	CHECK(s[0] == 1 && s[1] == 1 && fabs((double)s[2] - 0.3 / 7) < 1e-8 && s[3] == 1);
}

static void check_split(const char *name, const struct quant_split *how)
{
	const cJSON *want = wasd_json_get(cfws, name), *ints;
	real coarse[36], fine[36], back[36];
	float d[2];
	int8_t q[36], qc[4];
	float s[2];
	int n = how->whole ? 36 : 4;
	quant_split(how, W, 2, 2, 3, 3, 127, coarse, fine, d);
	same_reals(name, coarse, wasd_json_get(want, how->whole ? "coarse" : "coarse_center"), n);
	same_reals(name, fine, wasd_json_get(want, "fine"), 36);
	for (int i = 0; i < 36; i++) { /* together they are W, to a rounding of it */
		real c = how->whole ? coarse[i] : i % 9 == 4 ? coarse[i / 9] : 0;
		CHECK_NEAR((double)(c + fine[i]), (double)W[i], sizeof(real) == 8 ? 1e-15 : 5e-7);
	}
	if (!(ints = wasd_json_get(want, "fine_int")))
		return;
	quant_rows(fine, 2, 18, 127, q, s);
	same_ints(name, q, ints, 36);
	for (int i = 0; i < 36; i++)
		back[i] = (real)(q[i] * (double)s[i / 18] + (i % 9 == 4 ? (double)coarse[i / 9] : 0));
	CHECK_NEAR(error_of(back), wasd_json_get(want, "mse_cfws")->valuedouble, 1e-10);
	for (int o = 0; o < 2; o++) {
		CHECK_NEAR((double)s[o], at(wasd_json_get(want, "fine_scale_per_channel"), o), 1e-9);
		CHECK_NEAR((double)d[o], at(wasd_json_get(want, "center_granularity"), how->one ? 0 : o), 2e-9);
	}
	if (how->one)
		return;
	quant_rows(coarse, 2, 2, 127, qc, s);
	same_ints(name, qc, wasd_json_get(want, "coarse_center_int"), 4);
	for (int i = 0; i < 4; i++) /* exact */
		CHECK_NEAR(qc[i] * (double)s[i / 2], (double)coarse[i], 1e-6);
}

static void split(void)
{
	if (!cfws)
		TEST_SKIP("no golden numbers (part2.json)");
	check_split("center_channelwise", &(struct quant_split){0});
	check_split("center_tensorwise", &(struct quant_split){.one = true});
	check_split("whole_kernel_channelwise", &(struct quant_split){.whole = true});
	const cJSON *halves = wasd_json_get(cfws, "coarse_round_halves");
	real w[7] = {127, -127}, coarse[7], fine[7];
	float d;
	for (int i = 0; i < 5; i++)
		w[2 + i] = (real)at(wasd_json_get(halves, "in"), i);
	quant_split(&(struct quant_split){0}, w, 1, 7, 1, 1, 127, coarse, fine, &d);
	same_reals("halves", coarse + 2, wasd_json_get(halves, "out"), 5);
}

static void divergence(void)
{
	const cJSON *c;
	if (!cfws)
		TEST_SKIP("no golden numbers (part2.json)");
	cJSON_ArrayForEach(c, wasd_json_get(cfws, "kl")) {
		double p[4], q[4];
		for (int i = 0; i < 4; i++) {
			p[i] = at(wasd_json_get(c, "p"), i);
			q[i] = at(wasd_json_get(c, "q"), i);
		}
		CHECK_NEAR(quant_divergence(p, q, 4, true), wasd_json_get(c, "value")->valuedouble, 2e-8);
	}
}

static uint64_t histogram(const char *name, int j)
{
	double e = floor(1e5 * exp(-j / 100.0));
	if (strstr(name, "1e4"))
		return (uint64_t)floor(1e4 * exp(-(j / 300.0) * (j / 300.0) / 2));
	return (uint64_t)(e + (strstr(name, "+ 20") && j >= 1000 && j % 50 == 0 ? 20 : 0));
}

static void thresholds(void)
{
	const cJSON *c;
	if (!threshold)
		TEST_SKIP("no golden numbers (part2.json)");
	cJSON_ArrayForEach(c, wasd_json_get(threshold, "cases")) {
		uint64_t hist[QUANT_BINS];
		const char *name = wasd_json_get(c, "hist")->valuestring;
		int levels = wasd_json_get(c, "L")->valueint;
		for (int j = 0; j < QUANT_BINS; j++)
			hist[j] = histogram(name, j);
		CHECK_INT(quant_threshold(hist, levels, false), wasd_json_get(c, "plain_masked_kl_bins")->valueint);
		CHECK_INT(quant_threshold(hist, levels, true), wasd_json_get(c, "authors_form_bins")->valueint);
	}
}

/* Few values in many parts, values far from 0, one value, none: whatever the form, nearly all is kept. */
static void keeps_the_map(void)
{
	enum { SPARSE, OFFSET, ONE, TWO, NONE, CASES };
	for (int k = 0; k < CASES; k++) {
		uint64_t hist[QUANT_BINS] = {0};
		double all = 0;
		struct wasd_rng r;
		wasd_rng_init(&r, 7, "hist", 0, 0);
		for (int i = 0; i < 32 * 84; i++) { /* a sum of twelve is nearly normal, of deviation 1 */
			double n = -6;
			for (int j = 0; j < 12; j++)
				n += wasd_rng_between(&r, 0, 1);
			double v[CASES] = {fabs(n) / 4, (3 + n / 2) / 5, 0.99999, i % 2 ? 0.99999 : 0.5, -1};
			if (v[k] > 0)
				hist[v[k] < 1 ? (int)(v[k] * QUANT_BINS) : QUANT_BINS - 1]++;
		}
		for (int j = 0; j < QUANT_BINS; j++)
			all += (double)hist[j];
		for (int levels = 127; levels <= 255; levels += 128)
			for (int clip = 0; clip < 2; clip++) {
				int bins = quant_threshold(hist, levels, clip);
				double lost = 0;
				for (int j = bins; j < QUANT_BINS; j++)
					lost += (double)hist[j];
				CHECK_MSG(lost <= all / 100, "case %d, %d levels, clip %d: %d parts, loses %g of %g", k, levels, clip,
				          bins, lost, all);
				CHECK(k < ONE || bins == QUANT_BINS);
			}
	}
}

/* One value far above the others is clipped, also where it leaves the parts in between empty. */
static void clips_an_outlier(void)
{
	uint64_t hist[QUANT_BINS] = {[QUANT_BINS - 1] = 1};
	for (int j = 0; j < 200; j++)
		hist[j] = (uint64_t)(1000 * exp(-(j / 50.0) * (j / 50.0) / 2));
	CHECK_INT(quant_threshold(hist, 255, false), 255);
	CHECK_INT(quant_threshold(hist, 255, true), 255);
}

int main(void)
{
	cJSON *golden = golden_part2();
	cfws = wasd_json_get(golden, "cfws");
	threshold = wasd_json_get(golden, "threshold");
	for (int i = 0; cfws && i < 36; i++)
		W[i] = (real)at(wasd_json_get(cfws, "W"), i);
	TEST_RUN(rows);
	TEST_RUN(rows_of_few_bits);
	TEST_RUN(split);
	TEST_RUN(divergence);
	TEST_RUN(thresholds);
	TEST_RUN(keeps_the_map);
	TEST_RUN(clips_an_outlier);
	cJSON_Delete(golden);
	TEST_END();
}
