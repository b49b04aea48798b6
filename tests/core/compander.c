/* The compander against golden numbers ($WASD_SHARED/strategies/part1.json), differences and its inverse. */
#include "golden.h"
#include "wasd/json.h"
#include "weights/compander.h"

static const cJSON *golden;

enum { N = 9 };
#define EPS (sizeof(real) == 8 ? 1e-12 : 2e-6)

static const struct compander_function *find(const char *name)
{
	const struct compander_function *f = compander_functions;
	while (f->name && strcmp(f->name, name))
		f++;
	return f;
}

static double at(const cJSON *list, int i)
{
	const cJSON *v = cJSON_GetArrayItem(list, i);
	return v ? v->valuedouble : NAN;
}

static void golden_cases(void)
{
	const cJSON *all = wasd_json_get(golden, "cases"), *row, *v = wasd_json_get(all, "V");
	int n = 0;
	cJSON_ArrayForEach(row, wasd_json_get(all, "cases")) {
		char name[16];
		double a, b, dab[2];
		real x[N], w[N], g[N];
		CHECK(sscanf(row->string, "%15[a-z]_a%lf_b%lf", name, &a, &b) == 3);
		for (int i = 0; i < N; i++) {
			x[i] = (real)at(v, i);
			g[i] = (real)(i - 4.5);
		}
		compander_link(find(name), (real)a, (real)b, N, x, w);
		compander_back(find(name), (real)a, (real)b, N, x, g, dab);
		for (int i = 0; i < N; i++) {
			CHECK_NEAR((double)w[i], at(wasd_json_get(row, "W"), i), EPS);
			CHECK_NEAR((double)g[i], at(wasd_json_get(row, "dV_for_G"), i), 8 * EPS);
		}
		CHECK_NEAR(dab[0], wasd_json_get(row, "da")->valuedouble, 20 * EPS);
		CHECK_NEAR(dab[1], wasd_json_get(row, "db")->valuedouble, 20 * EPS);
		n++;
	}
	CHECK_INT(n, 12);
}

static void golden_inverse(void)
{
	const cJSON *j = wasd_json_get(golden, "inverse_atan");
	double limit = wasd_json_get(j, "limit")->valuedouble, a = limit / find("atan")->limit, b = 0;
	for (int i = 0; i < cJSON_GetArraySize(wasd_json_get(j, "W")); i++) {
		double w = at(wasd_json_get(j, "W"), i), v = at(wasd_json_get(j, "V"), i);
		b = w != 0 ? v / find("atan")->inverse(w / a) : b;
		CHECK_NEAR(b * find("atan")->inverse(w / a), v, 1e-12);
	}
	CHECK_NEAR(a, 1.5, 1e-12);
	CHECK_NEAR(b, 0.75, 1e-12);
}

/* With a = b = 1000 the function is the identity, up to v^3 / (3 b^2); where it has slope a/b, it meets the diagonal.
 */
static void golden_identity_and_fixed_points(void)
{
	const cJSON *row;
	const cJSON *identity = wasd_json_get(golden, "identity_limit");
	double most = 0, bound = wasd_json_get(identity, "bound_v3_over_3b2")->valuedouble,
		   ab = wasd_json_get(identity, "a=b")->valuedouble;
	for (int i = -200; i <= 200; i++) {
		real v = (real)(0.01 * i), w;
		compander_link(find("atan"), (real)ab, (real)ab, 1, &v, &w);
		most = fmax(most, fabs((double)w - (double)v));
	}
	CHECK(most <= bound + (sizeof(real) == 8 ? 0 : 1e-6));
	CHECK_NEAR(most, wasd_json_get(identity, "max_abs_err")->valuedouble, sizeof(real) == 8 ? 1e-12 : 1e-6);
	cJSON_ArrayForEach(row, wasd_json_get(golden, "fixed_point_v_over_b_by_a_over_b")) {
		real v = (real)row->valuedouble, w;
		compander_link(find("atan"), (real)atof(row->string), 1, 1, &v, &w);
		CHECK_NEAR((double)w, (double)v, 20 * EPS);
	}
}

/* A convolution of x, (4,2,6,6), with 3 kernels w, (3,2,3,3), padding 1, normalised over the batch: z, (4,3,6,6). The
 * gradient of mean(z t) in w, by the formulas in double. */
enum { IMAGES = 4, INS = 2, OUTS = 3, SIDE = 6, TAPS = 9, W = OUTS * INS * TAPS, PLANE = SIDE * SIDE };

static double pixel(int n, int c, int y, int x)
{
	int idx = ((n * INS + c) * SIDE + y) * SIDE + x;
	return y < 0 || y >= SIDE || x < 0 || x >= SIDE ? 0 : 7 * idx % 13 - 6;
}

/* The sum of y, (4,36) of one output channel, with the pixels that tap (i,ky,kx) sees. */
static double correlate(const double *y, int i, int ky, int kx)
{
	double sum = 0;
	for (int p = 0; p < IMAGES * PLANE; p++)
		sum += y[p] * pixel(p / PLANE, i, p % PLANE / SIDE + ky - 1, p % SIDE + kx - 1);
	return sum;
}

static void normalised_gradient(const real *w, double *g)
{
	enum { N_Y = IMAGES * PLANE };
	for (int o = 0; o < OUTS; o++) {
		double y[N_Y] = {0}, mean = 0, var = 0, dmean = 0, dz_z = 0;
		for (int p = 0; p < N_Y; p++) {
			for (int k = 0; k < INS * TAPS; k++)
				y[p] += (double)w[o * INS * TAPS + k] *
				        pixel(p / PLANE, k / TAPS, p % PLANE / SIDE + k % TAPS / 3 - 1, p % SIDE + k % 3 - 1);
			mean += y[p] / N_Y;
		}
		for (int p = 0; p < N_Y; p++)
			var += (y[p] - mean) * (y[p] - mean) / N_Y;
		double std = sqrt(var + 1e-5), dz[N_Y];
		for (int p = 0; p < N_Y; p++) {
			int idx = (p / PLANE * OUTS + o) * PLANE + p % PLANE;
			dz[p] = (3 * idx % 7 - 3) / (double)(OUTS * N_Y);
			y[p] = (y[p] - mean) / std;
			dmean += dz[p] / N_Y;
			dz_z += dz[p] * y[p] / N_Y;
		}
		for (int p = 0; p < N_Y; p++)
			y[p] = (dz[p] - dmean - y[p] * dz_z) / std;
		for (int k = 0; k < INS * TAPS; k++)
			g[o * INS * TAPS + k] = correlate(y, k / TAPS, k % TAPS / 3, k % 3);
	}
}

/* In front of batch normalisation the scale of W has no effect, so a has no gradient but for eps; b has one. */
static void golden_scale_before_batchnorm(void)
{
	const cJSON *j = wasd_json_get(golden, "bn_scale_gradient");
	real v[W], w[W], g[W];
	double d[W], dab[2];
	for (int i = 0; i < W; i++)
		v[i] = (real)(5 * i % 9 - 4) / 8;
	compander_link(find("atan"), (real)1.3, (real)0.6, W, v, w);
	normalised_gradient(w, d);
	for (int i = 0; i < W; i++)
		g[i] = (real)d[i];
	compander_back(find("atan"), (real)1.3, (real)0.6, W, v, g, dab);
	CHECK_NEAR(dab[0], wasd_json_get(j, "da")->valuedouble, sizeof(real) == 8 ? 1e-15 : 1e-7);
	CHECK_NEAR(dab[1], wasd_json_get(j, "db")->valuedouble, sizeof(real) == 8 ? 1e-14 : 1e-7);
}

/* Odd; the inverse undoes it; derivatives by differences in V, a and b; many values cross the chunks of a pass. */
static void any_values(void)
{
	enum { MANY = 1500 };
	static real v[MANY], w[MANY], minus[MANY], g[MANY], up[MANY], down[MANY];
	double h = sizeof(real) == 8 ? 1e-6 : 1e-2, most = sizeof(real) == 8 ? 1e-7 : 0.05;
	struct wasd_rng r;
	wasd_rng_init(&r, 2, "compander", 0, 0);
	for (const struct compander_function *f = compander_functions; f->name; f++) {
		double dab[2], want[2] = {0, 0};
		real a = (real)1.3, b = (real)0.6;
		for (int i = 0; i < MANY; i++) {
			v[i] = (real)wasd_rng_between(&r, -2, 2);
			minus[i] = -v[i];
			g[i] = 1;
		}
		compander_link(f, a, b, MANY, v, w);
		compander_link(f, a, b, MANY, minus, minus);
		compander_back(f, a, b, MANY, v, g, dab);
		for (int i = 0; i < MANY; i++) {
			CHECK(minus[i] == -w[i] && fabs((double)w[i]) < (double)a * f->limit);
			if (fabs((double)v[i]) < 1)
				CHECK_NEAR((double)b * f->inverse((double)w[i] / (double)a), (double)v[i], 1e3 * EPS);
			real x = v[i] + (real)h, y = v[i] - (real)h;
			compander_link(f, a, b, 1, &x, &x);
			compander_link(f, a, b, 1, &y, &y);
			CHECK_NEAR((double)g[i], (double)(x - y) / (2 * h), most);
		}
		for (int k = 0; k < 2; k++) {
			compander_link(f, k ? a : a + (real)h, k ? b + (real)h : b, MANY, v, up);
			compander_link(f, k ? a : a - (real)h, k ? b - (real)h : b, MANY, v, down);
			for (int i = 0; i < MANY; i++)
				want[k] += (double)(up[i] - down[i]) / (2 * h);
			CHECK_NEAR(dab[k], want[k], 1000 * most);
		}
	}
}

/* As close to atan as the last two places, everywhere. */
static void atan_is_accurate(void)
{
	double worst = 0;
	for (int e = -60; e < 120; e++)
		for (int k = 0; k < 2000; k++) {
			real u = (real)ldexp(1 + k / 2000.0, e / 4 - 10), f;
			find("atan")->value(1, &u, &f);
			double want = atan((double)u);
			worst = fmax(worst, fabs((double)f - want) / want);
		}
	CHECK_MSG(worst < 3 * (sizeof(real) == 8 ? 1.2e-16 : 1.2e-7), "%g", worst);
}

int main(void)
{
	cJSON *all = golden_part1();
	golden = wasd_json_get(all, "a_weight_compander");
	TEST_RUN(any_values);
	TEST_RUN(atan_is_accurate);
	if (golden) {
		TEST_RUN(golden_cases);
		TEST_RUN(golden_inverse);
		TEST_RUN(golden_identity_and_fixed_points);
		TEST_RUN(golden_scale_before_batchnorm);
	}
	cJSON_Delete(all);
	TEST_END();
}
