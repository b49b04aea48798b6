/* onednn/taps.c - see taps.h. A product kernel keeps the sums of up to twelve pixels and 32 output channels in
 * registers; per tap and input channel it reads two vectors of weights and one value per pixel. Pixels come in groups
 * of four from one row ("quads"), so that their distances are constants in the code. The input side is copied once with
 * its zero padding, one block of images at a time; without padding it is read in place. */
#include "onednn/taps.h"
#include "onednn/blocked_vec.h"

#include <string.h>

#define QUAD 4                   /* pixels whose addresses are computed together */
#define PAIR 2                   /* blocks of output channels per product kernel */
#define HALF 8                   /* input channels per kernel of the weight gradient */
#define STRIDES 2                /* largest stride */
#define BLOCK_BYTES (384u << 10) /* bytes of padded images that one thread keeps in its cache */
#define TEAM_BYTES (1u << 20)    /* the same for the team, when it shares a block */
#define OWN_WEIGHTS (1u << 20)   /* bytes of weights up to which threads work on their own images */
#define GRADIENT_PIXELS 512      /* output pixels, roughly, between two updates of the weight gradient's sums */

/* Output pixels reached by the same taps: every `step`-th of a row and column, starting at (y0,x0). */
struct phase {
	int y0, x0, rows, cols, taps, first;
	int dy[TAPS_MOST], dx[TAPS_MOST], at[TAPS_MOST];
};

/* One pass. The "in" side is read (x, or dy for the data gradient), the "out" side is written. */
struct pass {
	const struct taps *s;
	int n, in_blocks, in_h, in_w, out_blocks, out_h, out_w;
	int step_in, step_out; /* distance between neighbouring output pixels of a phase, on either side */
	int phases, taps;
	struct phase phase[STRIDES * STRIDES];
	int y0, x0, ph, pw; /* the padded image: its first row and column in image coordinates, its size */
	bool padded;
	size_t px; /* bytes of one pixel of a block of 16 channels */
};

static int blocks_of(int channels)
{
	return (channels + LANES - 1) / LANES;
}

static void extent(struct pass *p)
{
	int y1 = INT32_MIN, x1 = INT32_MIN;
	p->y0 = p->x0 = INT32_MAX;
	for (int f = 0; f < p->phases; f++) {
		const struct phase *q = &p->phase[f];
		for (int t = 0; t < q->taps; t++) {
			p->y0 = least(p->y0, q->dy[t]);
			p->x0 = least(p->x0, q->dx[t]);
			y1 = most(y1, q->dy[t] + (q->rows - 1) * p->step_in);
			x1 = most(x1, q->dx[t] + (q->cols - 1) * p->step_in);
		}
	}
	p->ph = y1 - p->y0 + 1;
	p->pw = x1 - p->x0 + 1;
	p->padded = p->y0 || p->x0 || p->ph > p->in_h || p->pw > p->in_w;
	if (!p->padded) {
		p->ph = p->in_h;
		p->pw = p->in_w;
	}
}

static struct pass forward_pass(const struct taps *s)
{
	struct pass p = {.s = s,
	                 .n = s->n,
	                 .in_blocks = blocks_of(s->c),
	                 .in_h = s->h,
	                 .in_w = s->w,
	                 .out_blocks = blocks_of(s->out),
	                 .out_h = s->oh,
	                 .out_w = s->ow,
	                 .step_in = s->stride,
	                 .step_out = 1,
	                 .phases = 1,
	                 .taps = s->kh * s->kw,
	                 .px = s->bf16 ? 32 : 64};
	struct phase *f = &p.phase[0];
	f->rows = s->oh;
	f->cols = s->ow;
	for (int ky = 0; ky < s->kh; ky++)
		for (int kx = 0; kx < s->kw; kx++, f->taps++) {
			f->dy[f->taps] = ky - s->pad_top;
			f->dx[f->taps] = kx - s->pad_left;
			f->at[f->taps] = f->taps;
		}
	extent(&p);
	return p;
}

static int modulo(int a, int b)
{
	return (a % b + b) % b;
}

static struct pass data_pass(const struct taps *s)
{
	struct pass p = {.s = s,
	                 .n = s->n,
	                 .in_blocks = blocks_of(s->out),
	                 .in_h = s->oh,
	                 .in_w = s->ow,
	                 .out_blocks = blocks_of(s->c),
	                 .out_h = s->h,
	                 .out_w = s->w,
	                 .step_in = 1,
	                 .step_out = s->stride,
	                 .phases = s->stride * s->stride,
	                 .taps = s->kh * s->kw,
	                 .px = s->bf16 ? 32 : 64};
	int first = 0;
	for (int i = 0; i < p.phases; i++) {
		struct phase *f = &p.phase[i];
		f->y0 = i / s->stride;
		f->x0 = i % s->stride;
		f->rows = (s->h - f->y0 + s->stride - 1) / s->stride;
		f->cols = (s->w - f->x0 + s->stride - 1) / s->stride;
		f->first = first;
		for (int ky = modulo(f->y0 + s->pad_top, s->stride); ky < s->kh; ky += s->stride)
			for (int kx = modulo(f->x0 + s->pad_left, s->stride); kx < s->kw; kx += s->stride, f->taps++) {
				f->dy[f->taps] = (f->y0 + s->pad_top - ky) / s->stride;
				f->dx[f->taps] = (f->x0 + s->pad_left - kx) / s->stride;
				f->at[f->taps] = ky * s->kw + kx;
			}
		first += f->taps;
	}
	extent(&p);
	return p;
}

/* With a single tap and no padding, treats a map as one row. */
static void flatten(struct pass *p)
{
	struct phase *f = &p->phase[0];
	if (p->phases > 1 || p->taps > 1 || p->padded || p->step_in > 1 || f->rows * f->cols != p->in_h * p->in_w)
		return;
	f->cols *= f->rows;
	f->rows = 1;
	p->ph = p->in_h = p->out_h = 1;
	p->pw = p->in_w = p->out_w = f->cols;
}

static struct pass pass_of(const struct taps *s, bool back)
{
	struct pass p = back ? data_pass(s) : forward_pass(s);
	flatten(&p);
	return p;
}

bool taps_fit(const struct taps *s, bool back)
{
	if (s->stride < 1 || s->stride > STRIDES || s->kh < 1 || s->kw < 1 || s->kh * s->kw > TAPS_MOST || s->c % LANES ||
	    s->out % LANES)
		return false;
	struct pass p = pass_of(s, back);
	for (int f = 0; f < p.phases; f++)
		if (p.phase[f].cols % QUAD || p.phase[f].rows < 1)
			return false;
	return true;
}

/* ---- sizes ---- */

static size_t plane_bytes(const struct pass *p)
{
	return (size_t)(p->ph * p->pw) * p->px;
}
static size_t image_bytes(const struct pass *p)
{
	return (size_t)p->in_blocks * plane_bytes(p);
}

/* Bytes of the weights for one input block, one tap and v output blocks. */
static size_t tap_bytes(const struct pass *p, int v)
{
	return (size_t)(LANES * v) * p->px;
}
static size_t pair_bytes(const struct pass *p, int v)
{
	return (size_t)(p->in_blocks * p->taps) * tap_bytes(p, v);
}

size_t taps_weight_bytes(const struct taps *s, bool back)
{
	struct pass p = back ? data_pass(s) : forward_pass(s);
	return pair_bytes(&p, p.out_blocks);
}

static bool shared(const struct pass *p, int threads)
{
	return p->n < threads || pair_bytes(p, p->out_blocks) > OWN_WEIGHTS;
}

/* Images per block. */
static int block_images(const struct pass *p, int threads)
{
	size_t room = shared(p, threads) ? TEAM_BYTES : BLOCK_BYTES;
	int many = (int)(room / image_bytes(p)), share = shared(p, threads) ? p->n : (p->n + threads - 1) / threads;
	return most(1, least(many, share));
}

/* For the weight gradient: images per block; bytes of a row of x and of dy in the layout its kernel reads. */
static int gradient_images(const struct taps *s)
{
	return most(1, least(s->n, GRADIENT_PIXELS / (s->oh * s->ow)));
}

struct sides {
	int q, rows, pairs;
	size_t x_image, dy_image;
};

/* float32: rows of pixels. bfloat16: x as [row][column mod stride][q][16][2], which pairs pixel q with the next one of
 * the same remainder, and dy as [row][ow/2][16][2]. */
static struct sides sides_of(const struct pass *p)
{
	const struct taps *s = p->s;
	struct sides d = {.rows = p->ph, .q = p->pw, .pairs = s->ow};
	if (s->bf16) {
		d.pairs = (s->ow + 1) / 2;
		d.q = (p->pw + s->stride - 1) / s->stride;
	}
	d.x_image = (size_t)(p->in_blocks * d.rows * d.q * (s->bf16 ? s->stride : 1)) * 64;
	d.dy_image = s->bf16 ? (size_t)(blocks_of(s->out) * s->oh * d.pairs) * 64 : 0;
	return d;
}

static size_t sums_bytes(const struct taps *s)
{
	return (size_t)s->c * (size_t)s->out * (size_t)(s->kh * s->kw) * sizeof(float);
}

size_t taps_scratch_bytes(const struct taps *s, int threads)
{
	size_t most_bytes = 0;
	for (int back = 0; back < 2; back++) {
		struct pass p = pass_of(s, back);
		size_t bytes = !p.padded ? 0 :
		                           (size_t)block_images(&p, threads) * image_bytes(&p) *
		                               (size_t)(shared(&p, threads) ? 1 : threads);
		most_bytes = bytes > most_bytes ? bytes : most_bytes;
	}
	struct pass p = forward_pass(s);
	struct sides d = sides_of(&p);
	size_t bytes = sums_bytes(s) + (size_t)gradient_images(s) * ((p.padded || s->bf16 ? d.x_image : 0) + d.dy_image);
	return bytes > most_bytes ? bytes : most_bytes;
}

/* ---- vectors ---- */

typedef int16_t s32 __attribute__((vector_size(64)));
typedef int16_t s16 __attribute__((vector_size(32)));

/* sum + the product of one channel (bfloat16: a pair of channels) of a pixel and 16 weights. */
BLOCKED_INLINE v16 multiply_add(v16 sum, const char *x, v16 w, bool bf16)
{
	int32_t word;
	__builtin_memcpy(&word, x, sizeof word);
	i16 all = word - (i16){0};
	if (!bf16)
		return sum + (v16)all * w;
#ifdef __clang__
	return __builtin_ia32_dpbf16ps_512(sum, (i16)w, all);
#else
	return __builtin_ia32_dpbf16ps_v16sf(sum, (s32)w, (s32)all);
#endif
}

/* Interleaves the lanes of a and b. */
BLOCKED_INLINE void store_pairs(char *to, s16 a, s16 b)
{
	s32 v = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26,
	                                11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
	__builtin_memcpy(to, &v, sizeof v);
}

BLOCKED_INLINE s16 bf16_block(const char *from)
{
	s16 v;
	__builtin_memcpy(&v, from, sizeof v);
	return v;
}

/* ---- weights in ---- */

struct weights_job {
	struct pass p;
	bool back;
	const float *oihw;
	char *own;
};

/* Gathers the weights of 16 output channels for one input channel and tap. */
BLOCKED_INLINE v16 gather(const float *from, size_t step)
{
	v16 v;
	for (int i = 0; i < LANES; i++)
		v[i] = from[(size_t)i * step];
	return v;
}

/* Items: (pair of output blocks, input block). */
BLOCKED_HOT static void weights_items(void *ctx, int begin, int end, int thread)
{
	const struct weights_job *j = ctx;
	const struct pass *p = &j->p;
	const struct taps *s = p->s;
	size_t in_step = (size_t)(s->kh * s->kw) * (size_t)(j->back ? s->c : 1),
		   out_step = (size_t)(s->kh * s->kw) * (size_t)(j->back ? 1 : s->c);
	(void)thread;
	for (int item = begin; item < end; item++) {
		int pair = item / p->in_blocks, cb = item % p->in_blocks, v = least(PAIR, p->out_blocks - PAIR * pair);
		char *base = j->own + (size_t)pair * pair_bytes(p, PAIR);
		for (int f = 0; f < p->phases; f++) {
			const struct phase *q = &p->phase[f];
			for (int t = 0; t < q->taps; t++) {
				char *to = base + (size_t)(p->in_blocks * q->first + cb * q->taps + t) * tap_bytes(p, v);
				const float *from = j->oihw + (size_t)(cb * LANES) * in_step +
				                    (size_t)(pair * PAIR * LANES) * out_step + (size_t)q->at[t];
				for (int l = 0; l < LANES; l += 1 + s->bf16)
					for (int b = 0; b < v; b++, to += 64) {
						const float *w = from + (size_t)l * in_step + (size_t)(b * LANES) * out_step;
						char half[2][32];
						if (!s->bf16) {
							v_store(to, 0, gather(w, out_step), false);
							continue;
						}
						v_store(half[0], 0, gather(w, out_step), true);
						v_store(half[1], 0, gather(w + in_step, out_step), true);
						store_pairs(to, bf16_block(half[0]), bf16_block(half[1]));
					}
			}
		}
	}
}

void taps_weights_in(const struct taps *s, bool back, const float *oihw, void *own)
{
	struct weights_job j = {.p = pass_of(s, back), .back = back, .oihw = oihw, .own = own};
	wasd_parallel((j.p.out_blocks + PAIR - 1) / PAIR * j.p.in_blocks, weights_items, &j);
}

/* ---- the input side ---- */

struct job {
	struct pass p;
	const char *in, *own, *residual;
	const float *bias;
	char *out, *scratch;
	int from, count, room; /* images of the block: first, count, capacity */
	int segments;          /* number of parts that a block's quads are split into */
};

/* Copies block cb of image n of the input into the padded plane. */
static void pad_plane(const struct pass *p, const char *in, int n, int cb, char *to)
{
	size_t row = (size_t)p->pw * p->px, in_row = (size_t)p->in_w * p->px;
	const char *plane = in + ((size_t)n * (size_t)p->in_blocks + (size_t)cb) * (size_t)p->in_h * in_row;
	int x0 = most(0, -p->x0), x1 = least(p->pw, p->in_w - p->x0);
	for (int y = 0; y < p->ph; y++, to += row) {
		int iy = y + p->y0;
		if (iy < 0 || iy >= p->in_h || x1 <= x0) {
			memset(to, 0, row);
			continue;
		}
		memset(to, 0, (size_t)x0 * p->px);
		memcpy(to + (size_t)x0 * p->px, plane + (size_t)iy * in_row + (size_t)(x0 + p->x0) * p->px,
		       (size_t)(x1 - x0) * p->px);
		memset(to + (size_t)x1 * p->px, 0, (size_t)(p->pw - x1) * p->px);
	}
}

/* Items: (image of the block, input block). */
static void pad_items(void *ctx, int begin, int end, int thread)
{
	const struct job *j = ctx;
	(void)thread;
	for (int i = begin; i < end; i++)
		pad_plane(&j->p, j->in, j->from + i / j->p.in_blocks, i % j->p.in_blocks,
		          j->scratch + (size_t)i * plane_bytes(&j->p));
}

/* ---- products ---- */

struct cursor {
	int i, y, x;
}; /* image of the block; row and column within a phase */

static struct cursor quad_at(const struct phase *f, int quad)
{
	int per_row = f->cols / QUAD;
	return (struct cursor){quad / (per_row * f->rows), quad / per_row % f->rows, quad % per_row * QUAD};
}

/* `quads` quads starting at number `at` of a phase; blocks o to o+v-1 of the output. */
BLOCKED_INLINE void product(const struct job *j, const struct phase *f, int at, int o, int quads, int v, bool bf16,
                            int step)
{
	const struct pass *p = &j->p;
	const size_t px = bf16 ? 32 : 64, each = (size_t)step * px, plane = plane_bytes(p);
	const char *base = p->padded ? j->scratch : j->in + (size_t)j->from * image_bytes(p), *x[3];
	const char *w = j->own + (size_t)(o / PAIR) * pair_bytes(p, PAIR) +
	                (size_t)(p->in_blocks * f->first) * tap_bytes(p, v);
	struct cursor c[3];
	v16 sum[3 * QUAD][PAIR];
	for (int q = 0; q < quads; q++) {
		c[q] = quad_at(f, at + q);
		x[q] = base + (size_t)c[q].i * image_bytes(p) +
		       (size_t)(((c[q].y * step - p->y0) * p->pw) + c[q].x * step - p->x0) * px;
		for (int i = 0; i < QUAD; i++)
			for (int b = 0; b < v; b++)
				sum[q * QUAD + i][b] = v_set(0);
	}
	for (int cb = 0; cb < p->in_blocks; cb++)
		for (int t = 0; t < f->taps; t++) {
			ptrdiff_t tap = (ptrdiff_t)((size_t)cb * plane) + (ptrdiff_t)(f->dy[t] * p->pw + f->dx[t]) * (ptrdiff_t)px;
			for (int l = 0; l < (int)px / 4; l++, w += (size_t)v * 64) {
				v16 u[PAIR];
				for (int b = 0; b < v; b++)
					u[b] = v_load(w, (size_t)b, false);
#pragma GCC unroll 3
				for (int q = 0; q < quads; q++) {
					const char *from = x[q] + tap + 4 * l;
#pragma GCC unroll 4
					for (int i = 0; i < QUAD; i++)
						for (int b = 0; b < v; b++)
							sum[q * QUAD + i][b] = multiply_add(sum[q * QUAD + i][b], from + (size_t)i * each, u[b],
							                                    bf16);
				}
			}
		}
	for (int q = 0; q < quads; q++)
		for (int b = 0; b < v; b++) {
			v16 bias = j->bias ? v_load(j->bias, (size_t)(o + b), false) : v_set(0);
			size_t to = ((size_t)(j->from + c[q].i) * (size_t)p->out_blocks + (size_t)(o + b)) *
			                (size_t)(p->out_h * p->out_w) +
			            (size_t)((f->y0 + c[q].y * p->step_out) * p->out_w + f->x0 + c[q].x * p->step_out);
			for (int i = 0; i < QUAD; i++) {
				size_t k = to + (size_t)(i * p->step_out);
				v16 y = sum[q * QUAD + i][b] + bias;
				if (j->residual)
					y += v_load(j->residual, k, bf16);
				v_store(j->out, k, v_act(j->p.s->act, y), bf16);
			}
		}
}

/* Instantiates the code for each number of quads and blocks. */
BLOCKED_INLINE void product_run(const struct job *j, const struct phase *f, int begin, int end, int o, bool bf16,
                                int step)
{
	bool two = o + 1 < j->p.out_blocks;
	for (int at = begin; at < end;) {
		int left = end - at, quads = left == 4 || left == 2 ? 2 : left == 1 ? 1 : 3;
		if (two && quads == 3)
			product(j, f, at, o, 3, 2, bf16, step);
		else if (two && quads == 2)
			product(j, f, at, o, 2, 2, bf16, step);
		else if (two)
			product(j, f, at, o, 1, 2, bf16, step);
		else if (quads == 3)
			product(j, f, at, o, 3, 1, bf16, step);
		else if (quads == 2)
			product(j, f, at, o, 2, 1, bf16, step);
		else
			product(j, f, at, o, 1, 1, bf16, step);
		at += quads;
	}
}

#define RUN(name, bf16, step) \
	BLOCKED_HOT static void name(const struct job *j, const struct phase *f, int begin, int end, int o) \
	{ \
		product_run(j, f, begin, end, o, bf16, step); \
	}
RUN(run_float, false, 1)
RUN(run_float_strided, false, 2)
RUN(run_bf16, true, 1)
RUN(run_bf16_strided, true, 2)

/* Part `segment` of the block's pixels, for the pair of output blocks that begins at o. */
static void pair_products(const struct job *j, int o, int segment, int segments)
{
	const struct pass *p = &j->p;
	for (int i = 0; i < p->phases; i++) {
		const struct phase *f = &p->phase[i];
		int64_t quads = (int64_t)j->count * f->rows * f->cols / QUAD;
		int begin = (int)(quads * segment / segments), end = (int)(quads * (segment + 1) / segments);
		if (p->s->bf16)
			(p->step_in == 1 ? run_bf16 : run_bf16_strided)(j, f, begin, end, o);
		else
			(p->step_in == 1 ? run_float : run_float_strided)(j, f, begin, end, o);
	}
}

static void team_products(void *ctx, int begin, int end, int thread)
{
	const struct job *j = ctx;
	(void)thread;
	for (int i = begin; i < end; i++)
		pair_products(j, i / j->segments * PAIR, i % j->segments, j->segments);
}

/* Processes a thread's share of the images, in its own blocks. */
static void own_images(void *ctx, int begin, int end, int thread)
{
	struct job j = *(const struct job *)ctx;
	j.scratch += (size_t)thread * (size_t)j.room * image_bytes(&j.p);
	for (j.from = begin; j.from < end; j.from += j.room) {
		j.count = least(j.room, end - j.from);
		if (j.p.padded)
			pad_items(&j, 0, j.count * j.p.in_blocks, 0);
		for (int o = 0; o < j.p.out_blocks; o += PAIR)
			pair_products(&j, o, 0, 1);
	}
}

static void run(struct job *j)
{
	const struct pass *p = &j->p;
	int threads = wasd_threads(), pairs = (p->out_blocks + PAIR - 1) / PAIR;
	j->room = block_images(p, threads);
	if (!shared(p, threads)) {
		wasd_parallel(p->n, own_images, j);
		return;
	}
	j->segments = pairs % threads ? threads : 1;
	for (j->from = 0; j->from < p->n; j->from += j->room) {
		j->count = least(j->room, p->n - j->from);
		if (p->padded)
			wasd_parallel(j->count * p->in_blocks, pad_items, j);
		wasd_parallel(pairs * j->segments, team_products, j);
	}
}

void taps_forward(const struct taps *s, const void *x, const void *own, const float *bias, const void *residual,
                  void *y, void *scratch)
{
	struct job j =
		{.p = pass_of(s, false), .in = x, .own = own, .bias = bias, .residual = residual, .out = y, .scratch = scratch};
	run(&j);
}

void taps_data(const struct taps *s, const void *dy, const void *own, void *dx, bool add, void *scratch)
{
	struct taps plain = *s;
	plain.act = ACT_NONE;
	struct job j =
		{.p = pass_of(&plain, true), .in = dy, .own = own, .residual = add ? dx : NULL, .out = dx, .scratch = scratch};
	run(&j);
}

/* ---- the weight gradient ---- */

struct gradient_job {
	struct pass p;
	struct sides d;
	const char *x, *dy;
	char *xs, *dys; /* both sides of the block, in the layout the kernel reads */
	float *sums;    /* [pair][input block][half][tap][HALF][v blocks] */
	float *dw;
	int from, count;
	bool add;
};

/* Items: (image of the block, input block). */
BLOCKED_HOT static void x_items(void *ctx, int begin, int end, int thread)
{
	const struct gradient_job *j = ctx;
	const struct pass *p = &j->p;
	const struct taps *s = p->s;
	(void)thread;
	for (int item = begin; item < end; item++) {
		int n = j->from + item / p->in_blocks, cb = item % p->in_blocks;
		char *to = j->xs + (size_t)item * (j->d.x_image / (size_t)p->in_blocks);
		if (!s->bf16) {
			pad_plane(p, j->x, n, cb, to);
			continue;
		}
		const char *plane = j->x +
		                    ((size_t)n * (size_t)p->in_blocks + (size_t)cb) * (size_t)(p->in_h * p->in_w) * p->px;
		for (int y = 0; y < p->ph; y++)
			for (int r = 0; r < s->stride; r++)
				for (int q = 0; q < j->d.q; q++, to += 64) {
					int iy = y + p->y0, a = p->x0 + q * s->stride + r, b = a + s->stride;
					bool row = iy >= 0 && iy < p->in_h, in_a = row && a >= 0 && a < p->in_w,
						 in_b = row && b >= 0 && b < p->in_w;
					const char *from = plane + (ptrdiff_t)(iy * p->in_w) * (ptrdiff_t)p->px;
					store_pairs(to, in_a ? bf16_block(from + a * (ptrdiff_t)p->px) : (s16){0},
					            in_b ? bf16_block(from + b * (ptrdiff_t)p->px) : (s16){0});
				}
	}
}

/* Items: (image of the block, output block), bfloat16. */
BLOCKED_HOT static void dy_items(void *ctx, int begin, int end, int thread)
{
	const struct gradient_job *j = ctx;
	const struct taps *s = j->p.s;
	(void)thread;
	for (int item = begin; item < end; item++) {
		char *to = j->dys + (size_t)item * (j->d.dy_image / (size_t)j->p.out_blocks);
		const char *from = j->dy + ((size_t)j->from * (size_t)j->p.out_blocks + (size_t)item) *
		                               (size_t)(s->oh * s->ow) * j->p.px;
		for (int y = 0; y < s->oh; y++, from += (size_t)s->ow * j->p.px)
			for (int x = 0; x < s->ow; x += 2, to += 64)
				store_pairs(to, bf16_block(from + (size_t)x * j->p.px),
				            x + 1 < s->ow ? bf16_block(from + (size_t)(x + 1) * j->p.px) : (s16){0});
	}
}

/* sum[HALF channels][v blocks] over the block's pixels: 4-byte values at x + 4k of each element (pixel or pair), `each`
 * bytes apart, times vectors of dy. */
BLOCKED_INLINE void outer(const struct gradient_job *j, const char *x, size_t x_image, size_t x_row, size_t each,
                          const char *dy, size_t dy_image, size_t dy_plane, int v, bool bf16, float *to)
{
	int rows = j->p.s->oh, pairs = j->d.pairs;
	v16 sum[HALF][PAIR];
	for (int k = 0; k < HALF; k++)
		for (int b = 0; b < v; b++)
			sum[k][b] = v_set(0);
	for (int n = 0; n < j->count; n++)
		for (int y = 0; y < rows; y++) {
			const char *a = x + (size_t)n * x_image + (size_t)y * x_row,
					   *g = dy + (size_t)n * dy_image + (size_t)(y * pairs) * 64;
			for (int i = 0; i < pairs; i++, a += each, g += 64) {
				v16 u[PAIR];
				for (int b = 0; b < v; b++)
					u[b] = v_load(g + (size_t)b * dy_plane, 0, false);
#pragma GCC unroll 8
				for (int k = 0; k < HALF; k++)
					for (int b = 0; b < v; b++)
						sum[k][b] = multiply_add(sum[k][b], a + 4 * k, u[b], bf16);
			}
		}
	for (int k = 0; k < HALF; k++)
		for (int b = 0; b < v; b++, to += LANES)
			v_store(to, 0, j->add ? sum[k][b] + v_load(to, 0, false) : sum[k][b], false);
}

/* Items: (pair of output blocks, input block, half of the input block). */
BLOCKED_HOT static void outer_items(void *ctx, int begin, int end, int thread)
{
	const struct gradient_job *j = ctx;
	const struct pass *p = &j->p;
	const struct taps *s = p->s;
	const struct phase *f = &p->phase[0];
	const struct sides *d = &j->d;
	bool own = p->padded || s->bf16;
	const char *xs = own ? j->xs : j->x + (size_t)j->from * image_bytes(p),
			   *dys = s->bf16 ? j->dys : j->dy + (size_t)(j->from * p->out_blocks * s->oh * s->ow) * p->px;
	size_t dy_plane = (size_t)(s->oh * d->pairs) * 64,
		   x_plane = own ? d->x_image / (size_t)p->in_blocks : plane_bytes(p);
	size_t line = (size_t)d->q * 64, x_row = line * (size_t)(s->bf16 ? s->stride * s->stride : s->stride),
		   each = (size_t)(s->bf16 ? 2 : s->stride) * 64;
	(void)thread;
	for (int item = begin; item < end; item++) {
		int half = item % 2, cb = item / 2 % p->in_blocks, o = item / 2 / p->in_blocks * PAIR,
			v = least(PAIR, p->out_blocks - o);
		float *to = j->sums + ((size_t)o * (size_t)p->in_blocks * LANES + (size_t)((cb * 2 + half) * HALF * v)) *
		                          (size_t)f->taps * LANES;
		const char *dy = dys + (size_t)o * dy_plane;
		for (int t = 0; t < f->taps; t++, to += HALF * v * LANES) {
			int y = f->dy[t] - p->y0, x = f->dx[t] - p->x0;
			const char *a = xs + (size_t)cb * x_plane + (size_t)(half * HALF) * 4;
			a += s->bf16 ? (size_t)((y * s->stride + x % s->stride) * d->q + x / s->stride) * 64 :
			               (size_t)(y * d->q + x) * 64;
			size_t x_image = x_plane * (size_t)p->in_blocks, dy_image = dy_plane * (size_t)p->out_blocks;
			if (s->bf16 && v == 2)
				outer(j, a, x_image, x_row, each, dy, dy_image, dy_plane, 2, true, to);
			else if (s->bf16)
				outer(j, a, x_image, x_row, each, dy, dy_image, dy_plane, 1, true, to);
			else if (v == 2)
				outer(j, a, x_image, x_row, each, dy, dy_image, dy_plane, 2, false, to);
			else
				outer(j, a, x_image, x_row, each, dy, dy_image, dy_plane, 1, false, to);
		}
	}
}

/* Items: output channels. */
static void sums_out(void *ctx, int begin, int end, int thread)
{
	const struct gradient_job *j = ctx;
	const struct pass *p = &j->p;
	int taps = p->taps;
	(void)thread;
	for (int o = begin; o < end; o++) {
		int first = o / (PAIR * LANES) * PAIR, v = least(PAIR, p->out_blocks - first), lane = o - first * LANES;
		const float *from = j->sums + (size_t)first * (size_t)p->in_blocks * LANES * (size_t)taps * LANES +
		                    (size_t)lane;
		float *to = j->dw + (size_t)o * (size_t)(p->s->c * taps);
		for (int c = 0; c < p->s->c; c++)
			for (int t = 0; t < taps; t++)
				to[c * taps + t] += from[(size_t)((c / HALF * taps + t) * HALF + c % HALF) * (size_t)(v * LANES)];
	}
}

struct bias_job {
	int n, out, pixels;
	bool bf16;
	const void *dy;
	float *dbias;
};

BLOCKED_HOT static void bias_blocks(void *ctx, int begin, int end, int thread)
{
	const struct bias_job *j = ctx;
	size_t blocks = (size_t)blocks_of(j->out), pixels = (size_t)j->pixels;
	(void)thread;
	for (int b = begin; b < end; b++) {
		double sum[LANES] = {0};
		for (int n = 0; n < j->n; n++) {
			v16 part = v_set(0);
			for (size_t p = 0; p < pixels; p++)
				part += v_load(j->dy, ((size_t)n * blocks + (size_t)b) * pixels + p, j->bf16);
			for (int l = 0; l < LANES; l++)
				sum[l] += (double)part[l];
		}
		for (int l = 0; l < LANES && b * LANES + l < j->out; l++)
			j->dbias[b * LANES + l] += (float)sum[l];
	}
}

void taps_bias(int n, int out, int pixels, bool bf16, const void *dy, float *dbias)
{
	wasd_parallel(blocks_of(out), bias_blocks, &(struct bias_job){n, out, pixels, bf16, dy, dbias});
}

void taps_weights(const struct taps *s, const void *x, const void *dy, float *dw, float *dbias, void *scratch)
{
	struct gradient_job j = {.p = forward_pass(s), .x = x, .dy = dy, .dw = dw, .sums = scratch};
	int room = gradient_images(s);
	j.d = sides_of(&j.p);
	j.xs = (char *)scratch + sums_bytes(s);
	j.dys = j.xs + (j.p.padded || s->bf16 ? (size_t)room * j.d.x_image : 0);
	for (j.from = 0; j.from < s->n; j.from += room) {
		j.count = least(room, s->n - j.from);
		if (j.p.padded || s->bf16)
			wasd_parallel(j.count * j.p.in_blocks, x_items, &j);
		if (s->bf16)
			wasd_parallel(j.count * j.p.out_blocks, dy_items, &j);
		wasd_parallel((j.p.out_blocks + PAIR - 1) / PAIR * j.p.in_blocks * 2, outer_items, &j);
		j.add = true;
	}
	wasd_parallel(s->out, sums_out, &j);
	if (dbias)
		taps_bias(s->n, s->out, s->oh * s->ow, s->bf16, dy, dbias);
}
