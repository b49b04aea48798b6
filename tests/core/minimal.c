/* Minimal filtering F(4x4, kh x kw) against explicit sums in double: every kernel size, odd maps, all paddings, both
 * ways of dividing the work. */
#include "check.h"
#include "wasd/cpu.h"

#ifdef WASD_ONEDNN

#include "blocked_sums.h"
#include "onednn/minimal.h"

static float *filled(size_t n)
{
	float *p = tensor_alloc(n * sizeof *p);
	for (size_t i = 0; i < n; i++)
		p[i] = uniform();
	return p;
}

static void compare(const char *what, const struct minimal *s, const float *got, const double *want, size_t n)
{
	double worst = 0, scale = 0;
	for (size_t i = 0; i < n; i++) {
		worst = fmax(worst, fabs((double)got[i] - want[i]));
		scale = fmax(scale, fabs(want[i]));
	}
	CHECK_MSG(worst <= 5e-6 * scale, "%s of %dx%d, padding %d %d, maps %dx%d: off by %g of %g", what, s->kh, s->kw,
	          s->pad_top, s->pad_left, s->h, s->w, worst, scale);
}

static void check_shape(struct minimal s)
{
	size_t nx = (size_t)(s.n * s.c * s.h * s.w), ny = (size_t)(s.n * s.out * s.oh * s.ow),
		   nw = (size_t)(s.out * s.c * s.kh * s.kw);
	float *x = filled(nx), *dy = filled(ny), *w = filled(nw), *bias = filled((size_t)s.out), *res = filled(ny);
	float *y = filled(ny), *dx = filled(nx), *dw = filled(nw), *db = filled((size_t)s.out);
	double *ry = calloc(ny, sizeof *ry), *rx = calloc(nx, sizeof *rx), *rw = calloc(nw, sizeof *rw),
		   *rb = calloc((size_t)s.out, sizeof *rb);
	void *own = tensor_alloc(minimal_weight_bytes(&s)),
		 *scratch = tensor_alloc(minimal_scratch_bytes(&s, wasd_threads()));
	CHECK(minimal_fits(&s));
	/* dx, dw and db are accumulated. */
	for (size_t i = 0; i < nx; i++)
		rx[i] = (double)dx[i];
	for (size_t i = 0; i < nw; i++)
		rw[i] = (double)dw[i];
	for (int o = 0; o < s.out; o++)
		rb[o] = (double)db[o];
	for (int n = 0; n < s.n; n++)
		for (int o = 0; o < s.out; o++)
			for (int oy = 0; oy < s.oh; oy++)
				for (int ox = 0; ox < s.ow; ox++) {
					size_t yi = at(s.out, s.oh, s.ow, n, o, oy, ox);
					double sum = (double)bias[o] + (double)res[yi], g = (double)dy[yi];
					rb[o] += g;
					for (int c = 0; c < s.c; c++)
						for (int p = 0; p < s.kh; p++)
							for (int q = 0; q < s.kw; q++) {
								int iy = oy + p - s.pad_top, ix = ox + q - s.pad_left;
								if (iy < 0 || ix < 0 || iy >= s.h || ix >= s.w)
									continue;
								size_t xi = at(s.c, s.h, s.w, n, c, iy, ix),
									   wi = (size_t)(((o * s.c + c) * s.kh + p) * s.kw + q);
								sum += (double)x[xi] * (double)w[wi];
								rx[xi] += g * (double)w[wi];
								rw[wi] += g * (double)x[xi];
							}
					ry[yi] = s.act == ACT_RELU && sum < 0 ? 0 : sum;
				}
	minimal_weights_in(&s, false, w, own);
	minimal_forward(&s, x, own, bias, res, y, scratch);
	compare("forward", &s, y, ry, ny);
	minimal_weights_in(&s, true, w, own);
	minimal_data(&s, dy, own, dx, true, scratch);
	compare("data gradient", &s, dx, rx, nx);
	minimal_weights(&s, x, dy, dw, db, scratch);
	compare("weight gradient", &s, dw, rw, nw);
	compare("bias gradient", &s, db, rb, (size_t)s.out);
	void *all[] = {x, dy, w, bias, res, y, dx, dw, db, own, scratch};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		tensor_free(all[i]);
	free(ry);
	free(rx);
	free(rw);
	free(rb);
}

static void every_kernel(int threads)
{
	struct wasd_err err;
	CHECK(!wasd_threads_init(threads, &err));
	for (int kh = 2; kh <= 3; kh++)
		for (int kw = 2; kw <= 3; kw++)
			for (int pad = 0; pad < 4; pad++) {
				/* Maps below, at and above a whole number of tiles; unequal padding on the two sides. */
				int h = 3 + pad * 2, w = 5 + pad, top = pad / 2, left = pad % 2, bottom = pad % 2;
				check_shape((struct minimal){.n = 3,
				                             .c = 32,
				                             .h = h,
				                             .w = w,
				                             .out = 64,
				                             .oh = h + top + bottom - kh + 1,
				                             .ow = w + left + 1 - kw + 1,
				                             .kh = kh,
				                             .kw = kw,
				                             .pad_top = top,
				                             .pad_left = left,
				                             .act = pad % 2 ? ACT_RELU : ACT_NONE});
			}
	/* More tiles than one block; and enough weights that the team shares a block. */
	check_shape((struct minimal){.n = 6,
	                             .c = 32,
	                             .h = 17,
	                             .w = 18,
	                             .out = 32,
	                             .oh = 17,
	                             .ow = 18,
	                             .kh = 3,
	                             .kw = 3,
	                             .pad_top = 1,
	                             .pad_left = 1});
	check_shape((struct minimal){
		.n = 2, .c = 192, .h = 5, .w = 5, .out = 192, .oh = 5, .ow = 5, .kh = 3, .kw = 3, .pad_top = 1, .pad_left = 1});
}

static void what_fits(void)
{
	struct minimal s = {.n = 1, .c = 32, .h = 8, .w = 8, .out = 32, .oh = 8, .ow = 8, .kh = 3, .kw = 3};
	CHECK(minimal_fits(&s));
	s.kw = 1;
	CHECK(!minimal_fits(&s));
	s.kw = 5;
	CHECK(!minimal_fits(&s));
	s.kw = 2;
	s.c = 48;
	CHECK(!minimal_fits(&s));
	s.c = 3;
	CHECK(!minimal_fits(&s));
}

int main(int argc, char **argv)
{
	(void)argc;
	wasd_cpu_prepare(argv, NULL);
	TEST_RUN(what_fits);
	TEST_RUN(one_thread);
	TEST_RUN(two_threads);
	TEST_END();
}

#else

int main(void)
{
	printf("skip minimal: this build has no oneDNN backend\n");
	return 0;
}

#endif
