/* onednn/int8.c - the backend of int8 networks: 8-bit convolutions of oneDNN and our own kernels on channels-last maps.
 * It is no row of the table: the exec of an int8 network uses it. */
#include "onednn/int8.h"
#include "onednn/prim.h"
#include "onednn/prim8.h"

extern const struct backend backend_onednn_int8;

static enum wasd_status int8_offers(enum wasd_precision p, struct wasd_err *err)
{
	(void)p;
	return prim8_offers(err);
}

static enum wasd_status int8_open(struct wasd_err *err)
{
	return prim_open(wasd_threads(), err);
}

static void int8_layout(struct tensor *t, int n, enum wasd_precision p)
{
	(void)p;
	t->sc = 1;
	t->sn = wasd_shape_count(t->shape);
	t->bytes = t->quant ? t->sn * (size_t)n * int8_size(t) : 0; /* a gradient has none */
}

struct copy {
	const struct tensor *t;
	const real *in;
	real *out;
	int first; /* plane of out */
};

INT8_HOT static void import_rows(void *ctx, int begin, int end, int thread)
{
	const struct copy *j = ctx;
	const struct tensor *t = j->t;
	size_t C = (size_t)t->shape.c, W = (size_t)t->shape.w, size = int8_size(t);
	const __m512 inv = _mm512_set1_ps(int8_inverse(t));
	(void)thread;
	for (int i = begin; i < end; i++) {
		size_t n = (size_t)(i / t->shape.h), y = (size_t)(i % t->shape.h);
		char *to = (char *)t->data + (size_t)i * W * C * size;
		for (size_t c = 0; c < C; c++) {
			const real *from = j->in + ((n * C + c) * (size_t)t->shape.h + y) * W;
			for (size_t x = 0; x < W; x += 16) {
				float v[16];
				__mmask16 m = int8_lanes(W - x);
				int8_store(v, 0, m, _mm512_mul_ps(_mm512_maskz_loadu_ps(m, from + x), inv), int8_type(t));
				for (size_t k = 0; k < 16 && x + k < W; k++) {
					if (size == 1)
						to[(x + k) * C + c] = ((const char *)v)[k];
					else
						((float *)to)[(x + k) * C + c] = v[k];
				}
			}
		}
	}
}

static void int8_import(const struct tensor *t, int n, const real *nchw)
{
	wasd_parallel(n * t->shape.h, import_rows, &(struct copy){.t = t, .in = nchw});
}

static float value_at(const struct tensor *t, size_t i)
{
	return int8_type(t) == WASD_QUANT_F32 ? ((const float *)t->data)[i] :
	       int8_type(t) == WASD_QUANT_U8  ? int8_scale(t) * ((const uint8_t *)t->data)[i] :
	                                        int8_scale(t) * ((const int8_t *)t->data)[i];
}

static void export_channels(void *ctx, int begin, int end, int thread)
{
	const struct copy *j = ctx;
	const struct tensor *t = j->t;
	size_t C = (size_t)t->shape.c, hw = (size_t)t->shape.h * (size_t)t->shape.w;
	(void)thread;
	for (int i = begin; i < end; i++) {
		size_t plane = (size_t)(j->first + i);
		for (size_t p = 0; p < hw; p++)
			j->out[(size_t)i * hw + p] = value_at(t, (plane / C * hw + p) * C + plane % C);
	}
}

static void int8_export(const struct tensor *t, int first, int count, real *nchw)
{
	wasd_parallel(count, export_channels, &(struct copy){.t = t, .out = nchw, .first = first});
}

static const struct backend_kernel kernels[] = {
	{"conv", &int8_conv},       {"linear", &int8_conv},     {"relu", &int8_relu},
	{"relu6", &int8_relu},      {"add", &int8_add},         {"concat", &int8_concat},
	{"maxpool", &int8_maxpool}, {"avgpool", &int8_avgpool}, {"globalpool", &int8_globalpool},
	{"boxsum", &int8_boxsum},   {"flatten", &int8_flatten}, {NULL, NULL},
};

const struct backend backend_onednn_int8 = {
	.name = "int8",
	.summary = "8-bit convolutions, channels last",
	.library = prim_library,
	.offers = int8_offers,
	.open = int8_open,
	.layout = int8_layout,
	.import = int8_import,
	.export = int8_export,
	.kernels = kernels,
};
