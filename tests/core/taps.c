/* Direct convolution over taps against explicit sums in double: kernels, strides, paddings, both precisions, few and
 * many images. */
#include "check.h"
#include "wasd/cpu.h"

#ifdef WASD_ONEDNN

#include "blocked_sums.h"
#include "onednn/prim.h"
#include "onednn/taps.h"

/* Values that bfloat16 holds exactly, so that only sums are rounded. */
static float short_uniform(void)
{
	return (float)(int)(uniform() * 64) / 64;
}

static float *filled(size_t n)
{
	float *p = tensor_alloc(n * sizeof *p);
	for (size_t i = 0; i < n; i++)
		p[i] = short_uniform();
	return p;
}

/* A copy in the precision of the pass. */
static void *stored(const float *v, size_t n, bool bf16)
{
	void *p = tensor_alloc(n * sizeof(float));
	for (size_t i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &v[i], sizeof bits);
		if (bf16)
			((uint16_t *)p)[i] = (uint16_t)(bits >> 16);
		else
			((float *)p)[i] = v[i];
	}
	return p;
}

static double value(const void *p, size_t i, bool bf16)
{
	uint32_t bits = bf16 ? (uint32_t)((const uint16_t *)p)[i] << 16 : 0;
	float v;
	memcpy(&v, &bits, sizeof v);
	return (double)(bf16 ? v : ((const float *)p)[i]);
}

static void compare(const char *what, const struct taps *s, const void *got, bool bf16, const double *want, size_t n)
{
	double worst = 0, scale = 0;
	for (size_t i = 0; i < n; i++) {
		double off = fabs(value(got, i, bf16) - want[i]);
		worst = off <= worst ? worst : off;
		scale = fmax(scale, fabs(want[i]));
	}
	CHECK_MSG(worst <= (bf16 ? 5e-3 : 1e-6) * scale,
	          "%s%s of %dx%d, stride %d, padding %d %d, %d maps %dx%d, %d to %d channels: off by %g of %g",
	          s->bf16 ? "bf16 " : "", what, s->kh, s->kw, s->stride, s->pad_top, s->pad_left, s->n, s->h, s->w, s->c,
	          s->out, worst, scale);
}

static void check_shape(struct taps s)
{
	size_t nx = (size_t)(s.n * s.c * s.h * s.w), ny = (size_t)(s.n * s.out * s.oh * s.ow),
		   nw = (size_t)(s.out * s.c * s.kh * s.kw);
	float *x = filled(nx), *g = filled(ny), *w = filled(nw), *bias = filled((size_t)s.out), *res = filled(ny),
		  *dx0 = filled(nx), *dw = filled(nw), *db = filled((size_t)s.out);
	void *sx = stored(x, nx, s.bf16), *sg = stored(g, ny, s.bf16), *sres = stored(res, ny, s.bf16),
		 *y = stored(res, ny, s.bf16), *dx = stored(dx0, nx, s.bf16);
	double *ry = calloc(ny, sizeof *ry), *rx = calloc(nx, sizeof *rx), *rw = calloc(nw, sizeof *rw),
		   *rb = calloc((size_t)s.out, sizeof *rb);
	bool back = taps_fit(&s, true);
	size_t own_bytes = taps_weight_bytes(&s, false), back_bytes = taps_weight_bytes(&s, true);
	void *own = tensor_alloc(own_bytes > back_bytes ? own_bytes : back_bytes),
		 *scratch = tensor_alloc(taps_scratch_bytes(&s, wasd_threads()));
	CHECK(taps_fit(&s, false));
	/* dx, dw and db are accumulated. */
	for (size_t i = 0; i < nx; i++)
		rx[i] = (double)dx0[i];
	for (size_t i = 0; i < nw; i++)
		rw[i] = (double)dw[i];
	for (int o = 0; o < s.out; o++)
		rb[o] = (double)db[o];
	for (int n = 0; n < s.n; n++)
		for (int o = 0; o < s.out; o++)
			for (int oy = 0; oy < s.oh; oy++)
				for (int ox = 0; ox < s.ow; ox++) {
					size_t yi = at(s.out, s.oh, s.ow, n, o, oy, ox);
					double sum = (double)bias[o] + (double)res[yi];
					rb[o] += (double)g[yi];
					for (int c = 0; c < s.c; c++)
						for (int p = 0; p < s.kh; p++)
							for (int q = 0; q < s.kw; q++) {
								int iy = oy * s.stride + p - s.pad_top, ix = ox * s.stride + q - s.pad_left;
								if (iy < 0 || ix < 0 || iy >= s.h || ix >= s.w)
									continue;
								size_t xi = at(s.c, s.h, s.w, n, c, iy, ix),
									   wi = (size_t)(((o * s.c + c) * s.kh + p) * s.kw + q);
								sum += (double)x[xi] * (double)w[wi];
								rx[xi] += (double)g[yi] * (double)w[wi];
								rw[wi] += (double)g[yi] * (double)x[xi];
							}
					ry[yi] = s.act == ACT_RELU && sum < 0 ? 0 : sum;
				}
	taps_weights_in(&s, false, w, own);
	taps_forward(&s, sx, own, bias, sres, y, scratch);
	compare("forward", &s, y, s.bf16, ry, ny);
	if (back) {
		taps_weights_in(&s, true, w, own);
		taps_data(&s, sg, own, dx, true, scratch);
		compare("data gradient", &s, dx, s.bf16, rx, nx);
	}
	taps_weights(&s, sx, sg, dw, db, scratch);
	compare("weight gradient", &s, dw, false, rw, nw);
	compare("bias gradient", &s, db, false, rb, (size_t)s.out);
	void *all[] = {x, g, w, bias, res, dx0, dw, db, sx, sg, sres, y, dx, own, scratch};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		tensor_free(all[i]);
	free(ry);
	free(rx);
	free(rw);
	free(rb);
}

static int out_size(int in, int k, int stride, int before, int after)
{
	return (in + before + after - k) / stride + 1;
}

static void every_kernel(int threads)
{
	struct wasd_err err;
	CHECK(!wasd_threads_init(threads, &err));
	bool bf16_runs = prim_offers(true, &err) == WASD_OK;
	for (int bf16 = 0; bf16 <= bf16_runs; bf16++)
		for (int stride = 1; stride <= 2; stride++)
			for (int kh = 1; kh <= 5; kh += kh == 3 ? 2 : 1)
				for (int kw = 1; kw <= 5; kw += kw == 3 ? 2 : 1) {
					int h = 7 + kh % 2, w = 8 * stride, top = kh / 2, left = kw / 2, right = (kw - 1) / 2;
					struct taps s = {.n = 3,
					                 .c = 32,
					                 .h = h,
					                 .w = w,
					                 .out = 48,
					                 .oh = out_size(h, kh, stride, top, (kh - 1) / 2),
					                 .ow = out_size(w, kw, stride, left, right),
					                 .kh = kh,
					                 .kw = kw,
					                 .stride = stride,
					                 .pad_top = top,
					                 .pad_left = left,
					                 .act = kh % 2 ? ACT_RELU : ACT_NONE,
					                 .bf16 = bf16};
					check_shape(s);
				}
	for (int bf16 = 0; bf16 <= bf16_runs; bf16++) {
		/* Enough weights that the team shares a block; one image; windows that begin inside the image and end before
		 * its edge; an odd number of channel blocks. */
		check_shape((struct taps){.n = 5,
		                          .c = 192,
		                          .h = 4,
		                          .w = 4,
		                          .out = 192,
		                          .oh = 4,
		                          .ow = 4,
		                          .kh = 3,
		                          .kw = 3,
		                          .stride = 1,
		                          .pad_top = 1,
		                          .pad_left = 1,
		                          .bf16 = bf16});
		check_shape((struct taps){.n = 1,
		                          .c = 64,
		                          .h = 8,
		                          .w = 8,
		                          .out = 96,
		                          .oh = 4,
		                          .ow = 4,
		                          .kh = 3,
		                          .kw = 3,
		                          .stride = 2,
		                          .pad_top = 1,
		                          .pad_left = 1,
		                          .act = ACT_RELU,
		                          .bf16 = bf16});
		check_shape((struct taps){.n = 2,
		                          .c = 16,
		                          .h = 9,
		                          .w = 12,
		                          .out = 16,
		                          .oh = 5,
		                          .ow = 8,
		                          .kh = 2,
		                          .kw = 3,
		                          .stride = 1,
		                          .pad_top = -2,
		                          .pad_left = -1,
		                          .bf16 = bf16});
		check_shape((struct taps){.n = 9,
		                          .c = 48,
		                          .h = 16,
		                          .w = 16,
		                          .out = 80,
		                          .oh = 16,
		                          .ow = 16,
		                          .kh = 1,
		                          .kw = 1,
		                          .stride = 1,
		                          .bf16 = bf16});
		check_shape((struct taps){.n = 4,
		                          .c = 32,
		                          .h = 8,
		                          .w = 8,
		                          .out = 32,
		                          .oh = 4,
		                          .ow = 4,
		                          .kh = 2,
		                          .kw = 3,
		                          .stride = 2,
		                          .pad_top = 0,
		                          .pad_left = 1,
		                          .bf16 = bf16});
	}
}

static void what_fits(void)
{
	struct taps s = {.n = 1,
	                 .c = 32,
	                 .h = 8,
	                 .w = 8,
	                 .out = 32,
	                 .oh = 8,
	                 .ow = 8,
	                 .kh = 3,
	                 .kw = 3,
	                 .stride = 1,
	                 .pad_top = 1,
	                 .pad_left = 1};
	CHECK(taps_fit(&s, false) && taps_fit(&s, true));
	s.stride = 2;
	s.oh = s.ow = 4;
	CHECK(taps_fit(&s, false) && taps_fit(&s, true));
	s.w = 12;
	s.ow = 6;
	CHECK(!taps_fit(&s, false) && !taps_fit(&s, true));
	s.stride = 3;
	CHECK(!taps_fit(&s, false));
	s = (struct taps){.n = 1, .c = 24, .h = 8, .w = 8, .out = 32, .oh = 8, .ow = 8, .kh = 1, .kw = 1, .stride = 1};
	CHECK(!taps_fit(&s, false));
	s.c = 32;
	CHECK(taps_fit(&s, false));
	s.kh = s.kw = 7;
	CHECK(!taps_fit(&s, false));
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
	printf("skip taps: this build has no oneDNN backend\n");
	return 0;
}

#endif
