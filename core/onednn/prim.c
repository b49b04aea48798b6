/* onednn/prim.c - wraps the C API of oneDNN 2.6, which only prim8.c uses besides. */
#include "onednn/prim.h"

#include "onednn/prim_cpu.h"
#include "onednn/tune.h"

#include <cpuid.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* From libgomp, which oneDNN runs on. A compiler turns `#pragma omp parallel` into GOMP_parallel. */
void omp_set_num_threads(int n);
int omp_get_thread_num(void);
void GOMP_parallel(void (*fn)(void *), void *data, unsigned threads, unsigned flags);

struct on_all {
	void (*member)(int thread);
};

static void one_of_all(void *data)
{
	((struct on_all *)data)->member(omp_get_thread_num());
}

static void on_all(int threads, void (*member)(int thread))
{
	GOMP_parallel(one_of_all, &(struct on_all){member}, (unsigned)threads, 0);
}

struct prim {
	enum prim_pass pass;
	dnnl_primitive_t run, reorder;
	dnnl_memory_t x, y, own, bias, scratch, turn,
		plain; /* turn: scratch of the reorder; plain: weights as (O,I,kh,kw) float32 */
	size_t own_bytes, scratch_bytes, x_bytes, y_bytes;
	uint64_t form;
	char info[64];
};

/* Engine and stream represent the CPU; they are created once and live as long as the process. */
static struct {
	pthread_once_t once;
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	bool good;
} cpu = {.once = PTHREAD_ONCE_INIT};

static void open_once(void)
{
	cpu.good = dnnl_engine_create(&cpu.engine, dnnl_cpu, 0) == dnnl_success &&
	           dnnl_stream_create(&cpu.stream, cpu.engine, dnnl_stream_default_flags) == dnnl_success;
	dnnl_set_primitive_cache_capacity(1024);
}

/* Describes what measured times depend on: the processor's name (CPUID leaves 0x80000002 to 4), the instructions that
 * oneDNN may use, the number of threads, the library version. */
static const char *machine_name(int threads, char text[128])
{
	unsigned brand[13] = {0};
	unsigned *b = brand;
	for (unsigned leaf = 0x80000002u; leaf <= 0x80000004u; leaf++, b += 4)
		if (!__get_cpuid(leaf, &b[0], &b[1], &b[2], &b[3]))
			break;
	const dnnl_version_t *v = dnnl_version();
	snprintf(text, 128, "%.48s, %d threads, oneDNN %d.%d.%d, instructions %x", (char *)brand, threads, v->major,
	         v->minor, v->patch, (unsigned)dnnl_get_effective_cpu_isa());
	return text;
}

dnnl_engine_t prim_engine(void)
{
	return cpu.engine;
}

enum wasd_status prim_offers(bool bf16, struct wasd_err *err)
{
	dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
	if ((isa & dnnl_cpu_isa_avx512_core) != dnnl_cpu_isa_avx512_core)
		return wasd_fail(err, WASD_EUNSUPPORTED,
		                 "the onednn backend needs a processor with AVX-512, which this processor lacks");
	if (bf16 && (isa & dnnl_cpu_isa_avx512_core_bf16) != dnnl_cpu_isa_avx512_core_bf16)
		return wasd_fail(err, WASD_EUNSUPPORTED,
		                 "bf16 needs a processor with the AVX-512 bf16 instructions, which this processor lacks");
	return WASD_OK;
}

void prim_library(char *out, size_t size)
{
	const dnnl_version_t *v = dnnl_version();
	snprintf(out, size, "oneDNN %d.%d.%d, instruction set %#x", v->major, v->minor, v->patch,
	         (unsigned)dnnl_get_effective_cpu_isa());
}

enum wasd_status prim_open(int threads, struct wasd_err *err)
{
	char text[128];
	pthread_once(&cpu.once, open_once);
	if (!cpu.good)
		return wasd_fail(err, WASD_ENOMEM, "oneDNN cannot be set up");
	omp_set_num_threads(threads);
	wasd_threads_lend(on_all);
	tune_open(machine_name(threads, text));
	return WASD_OK;
}

/* ---- creating ---- */

static bool activation_md(dnnl_memory_desc_t *md, int n, int c, int h, int w, bool plain, bool bf16)
{
	dnnl_dims_t d = {n, c, h, w};
	return dnnl_memory_desc_init_by_tag(md, 4, d, bf16 ? dnnl_bf16 : dnnl_f32, plain ? dnnl_abcd : dnnl_aBcd16b) ==
	       dnnl_success;
}

static bool weights_md(dnnl_memory_desc_t *md, const struct prim_conv *c, dnnl_data_type_t type, bool any)
{
	if (c->groups == 1) {
		dnnl_dims_t d = {c->out, c->c, c->kh, c->kw};
		return dnnl_memory_desc_init_by_tag(md, 4, d, type, any ? dnnl_format_tag_any : dnnl_abcd) == dnnl_success;
	}
	dnnl_dims_t d = {c->groups, c->out / c->groups, c->c / c->groups, c->kh, c->kw};
	return dnnl_memory_desc_init_by_tag(md, 5, d, type, any ? dnnl_format_tag_any : dnnl_abcde) == dnnl_success;
}

static dnnl_primitive_attr_t attributes(const struct prim_conv *c)
{
	dnnl_primitive_attr_t a;
	dnnl_post_ops_t ops;
	if (dnnl_primitive_attr_create(&a))
		return NULL;
	bool good = dnnl_primitive_attr_set_scratchpad_mode(a, dnnl_scratchpad_mode_user) == dnnl_success;
	if (good && (c->residual || c->act != ACT_NONE) && (good = dnnl_post_ops_create(&ops) == dnnl_success)) {
		if (c->residual)
			good = dnnl_post_ops_append_sum(ops, 1) == dnnl_success;
		if (good && c->act == ACT_RELU)
			good = dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, 0, 0) == dnnl_success;
		if (good && c->act == ACT_RELU6)
			good = dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_clip, 0, 6) == dnnl_success;
		good = good && dnnl_primitive_attr_set_post_ops(a, ops) == dnnl_success;
		dnnl_post_ops_destroy(ops);
	}
	if (good)
		return a;
	dnnl_primitive_attr_destroy(a);
	return NULL;
}

int prim_pad_end(int in, int out, int k, int stride, int begin)
{
	int p = (out - 1) * stride + k - in - begin;
	return p > 0 ? p : 0;
}

/* Of maps that are narrower than the stride, oneDNN 2.6's generated kernels for bfloat16 gradients of weights read
 * values that nobody wrote. */
static bool misread(enum prim_pass pass, const struct prim_conv *c, const char *info)
{
	return pass == PRIM_WEIGHTS && c->x_bf16 && c->w < c->stride && strstr(info, "jit");
}

/* The first implementation that can be used; NULL: there is none. */
static dnnl_primitive_desc_t choose(enum prim_pass pass, const struct prim_conv *c, const dnnl_convolution_desc_t *d,
                                    dnnl_primitive_attr_t a, dnnl_primitive_desc_t fwd)
{
	dnnl_primitive_desc_iterator_t i;
	dnnl_primitive_desc_t pd = NULL;
	const char *info = "";
	if (dnnl_primitive_desc_iterator_create(&i, d, a, cpu.engine, fwd))
		return NULL;
	do {
		if (pd)
			dnnl_primitive_desc_destroy(pd);
		pd = dnnl_primitive_desc_iterator_fetch(i);
	} while (pd && !dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&info) &&
	         misread(pass, c, info) && dnnl_primitive_desc_iterator_next(i) == dnnl_success);
	if (pd && misread(pass, c, info)) {
		dnnl_primitive_desc_destroy(pd);
		pd = NULL;
	}
	dnnl_primitive_desc_iterator_destroy(i);
	return pd;
}

static dnnl_primitive_desc_t describe(enum prim_pass pass, enum prim_alg alg, const struct prim_conv *c)
{
	dnnl_memory_desc_t x, y, w, b;
	dnnl_convolution_desc_t d;
	dnnl_primitive_desc_t fwd = NULL, pd = NULL;
	dnnl_dims_t stride = {c->stride, c->stride}, pl = {c->pad_top, c->pad_left};
	dnnl_dims_t pr = {prim_pad_end(c->h, c->oh, c->kh, c->stride, c->pad_top),
	                  prim_pad_end(c->w, c->ow, c->kw, c->stride, c->pad_left)};
	dnnl_alg_kind_t kind = alg == PRIM_WINOGRAD ? dnnl_convolution_winograd : dnnl_convolution_direct;
	dnnl_data_type_t wt = c->y_bf16 && pass != PRIM_WEIGHTS ? dnnl_bf16 : dnnl_f32;
	dnnl_dims_t bd = {c->out};
	if (!activation_md(&x, c->n, c->c, c->h, c->w, c->x_plain, c->x_bf16) ||
	    !activation_md(&y, c->n, c->out, c->oh, c->ow, false, c->y_bf16) ||
	    !weights_md(&w, c, c->y_bf16 ? dnnl_bf16 : dnnl_f32, true) ||
	    dnnl_memory_desc_init_by_tag(&b, 1, bd, dnnl_f32, dnnl_a))
		return NULL;
	dnnl_primitive_attr_t a = attributes(c);
	if (!a)
		return NULL;
	if (dnnl_convolution_forward_desc_init(&d, c->training ? dnnl_forward_training : dnnl_forward_inference, kind, &x,
	                                       &w, c->bias ? &b : NULL, &y, stride, pl, pr) ||
	    dnnl_primitive_desc_create(&fwd, &d, a, cpu.engine, NULL))
		goto end;
	if (pass == PRIM_FORWARD) {
		pd = fwd;
		fwd = NULL;
		goto end;
	}
	if (!weights_md(&w, c, wt, true))
		goto end;
	if (pass == PRIM_DATA ?
	        dnnl_convolution_backward_data_desc_init(&d, kind, &x, &w, &y, stride, pl, pr) :
	        dnnl_convolution_backward_weights_desc_init(&d, kind, &x, &w, c->bias ? &b : NULL, &y, stride, pl, pr))
		goto end;
	pd = choose(pass, c, &d, a, fwd);
end:
	if (fwd)
		dnnl_primitive_desc_destroy(fwd);
	dnnl_primitive_attr_destroy(a);
	return pd;
}

/* Rejects a primitive that is not an optimised convolution of the requested kind, unless any will do. */
static bool wanted(const char *info, enum prim_alg alg)
{
	return alg == PRIM_ANY || (!strstr(info, "ref") && (alg != PRIM_WINOGRAD || strstr(info, "wino")));
}

static bool make_reorder(struct prim *p, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to, bool add)
{
	dnnl_primitive_attr_t a;
	dnnl_post_ops_t ops;
	dnnl_primitive_desc_t pd = NULL;
	if (dnnl_primitive_attr_create(&a))
		return false;
	bool good = dnnl_primitive_attr_set_scratchpad_mode(a, dnnl_scratchpad_mode_user) == dnnl_success;
	if (good && add && (good = dnnl_post_ops_create(&ops) == dnnl_success)) {
		good = dnnl_post_ops_append_sum(ops, 1) == dnnl_success &&
		       dnnl_primitive_attr_set_post_ops(a, ops) == dnnl_success;
		dnnl_post_ops_destroy(ops);
	}
	good = good && dnnl_reorder_primitive_desc_create(&pd, from, cpu.engine, to, cpu.engine, a) == dnnl_success &&
	       dnnl_primitive_create(&p->reorder, pd) == dnnl_success;
	if (pd) {
		const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
		size_t s = dnnl_memory_desc_get_size(md);
		p->scratch_bytes = s > p->scratch_bytes ? s : p->scratch_bytes;
		good = good && dnnl_memory_create(&p->turn, md, cpu.engine, DNNL_MEMORY_NONE) == dnnl_success;
		dnnl_primitive_desc_destroy(pd);
	}
	dnnl_primitive_attr_destroy(a);
	return good;
}

/* FNV-1a */
uint64_t prim_hash(const void *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u;
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
	return h;
}

bool prim_memory(dnnl_memory_t *m, const dnnl_memory_desc_t *md)
{
	return dnnl_memory_create(m, md, cpu.engine, DNNL_MEMORY_NONE) == dnnl_success;
}

bool prim_memory_left(void)
{
	enum { ROOM = 8 << 20 };
	void *p = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return false;
	munmap(p, ROOM);
	return true;
}

struct prim *prim_create(enum prim_pass pass, enum prim_alg alg, const struct prim_conv *c)
{
	dnnl_primitive_desc_t pd = prim_memory_left() ? describe(pass, alg, c) : NULL;
	const char *info = "";
	if (!pd)
		return NULL;
	struct prim *p = wasd_calloc(1, sizeof *p);
	if (!p || dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&info) || !wanted(info, alg))
		goto fail;
	p->pass = pass;
	strncpy(p->info, info, sizeof p->info - 1);
	const dnnl_memory_desc_t *x =
		dnnl_primitive_desc_query_md(pd, pass == PRIM_DATA ? dnnl_query_diff_src_md : dnnl_query_src_md, 0);
	const dnnl_memory_desc_t *y =
		dnnl_primitive_desc_query_md(pd, pass == PRIM_FORWARD ? dnnl_query_dst_md : dnnl_query_diff_dst_md, 0);
	const dnnl_memory_desc_t *own =
		dnnl_primitive_desc_query_md(pd, pass == PRIM_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
	const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
	dnnl_memory_desc_t plain, b;
	dnnl_dims_t bd = {c->out};
	p->own_bytes = dnnl_memory_desc_get_size(own);
	p->x_bytes = dnnl_memory_desc_get_size(x);
	p->y_bytes = dnnl_memory_desc_get_size(y);
	p->form = prim_hash(own, sizeof *own);
	p->scratch_bytes = dnnl_memory_desc_get_size(scratch);
	if (!weights_md(&plain, c, dnnl_f32, false) || dnnl_memory_desc_init_by_tag(&b, 1, bd, dnnl_f32, dnnl_a) ||
	    dnnl_primitive_create(&p->run, pd))
		goto fail;
	if (!prim_memory(&p->x, x) || !prim_memory(&p->y, y) || !prim_memory(&p->own, own) ||
	    !prim_memory(&p->scratch, scratch) || !prim_memory(&p->plain, &plain) ||
	    (c->bias && !prim_memory(&p->bias, &b)))
		goto fail;
	if (!make_reorder(p, pass == PRIM_WEIGHTS ? own : &plain, pass == PRIM_WEIGHTS ? &plain : own,
	                  pass == PRIM_WEIGHTS))
		goto fail;
	dnnl_primitive_desc_destroy(pd);
	return p;
fail:
	dnnl_primitive_desc_destroy(pd);
	prim_destroy(p);
	return NULL;
}

void prim_destroy(struct prim *p)
{
	if (!p)
		return;
	dnnl_memory_t m[] = {p->x, p->y, p->own, p->bias, p->scratch, p->turn, p->plain};
	for (size_t i = 0; i < sizeof m / sizeof *m; i++)
		if (m[i])
			dnnl_memory_destroy(m[i]);
	if (p->run)
		dnnl_primitive_destroy(p->run);
	if (p->reorder)
		dnnl_primitive_destroy(p->reorder);
	wasd_free(p);
}

size_t prim_weight_bytes(const struct prim *p)
{
	return p->own_bytes;
}
size_t prim_scratch_bytes(const struct prim *p)
{
	return p->scratch_bytes;
}
size_t prim_x_bytes(const struct prim *p)
{
	return p->x_bytes;
}
size_t prim_y_bytes(const struct prim *p)
{
	return p->y_bytes;
}
uint64_t prim_weights_form(const struct prim *p)
{
	return p->form;
}
const char *prim_info(const struct prim *p)
{
	return p->info;
}

/* ---- running ---- */

bool prim_execute(dnnl_primitive_t p, int n, const dnnl_exec_arg_t *args)
{
	return dnnl_primitive_execute(p, cpu.stream, n, args) == dnnl_success &&
	       dnnl_stream_wait(cpu.stream) == dnnl_success;
}

static bool reorder(struct prim *p, dnnl_memory_t from, const void *src, dnnl_memory_t to, void *dst, void *scratch)
{
	dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, p->turn}};
	return dnnl_memory_set_data_handle(from, (void *)(uintptr_t)src) == dnnl_success &&
	       dnnl_memory_set_data_handle(to, dst) == dnnl_success &&
	       dnnl_memory_set_data_handle(p->turn, scratch) == dnnl_success && prim_execute(p->reorder, 3, args);
}

bool prim_weights_in(struct prim *p, const float *oihw, void *own, void *scratch)
{
	return reorder(p, p->plain, oihw, p->own, own, scratch);
}
bool prim_weights_add(struct prim *p, const void *own, float *oihw, void *scratch)
{
	return reorder(p, p->own, own, p->plain, oihw, scratch);
}

bool prim_run(struct prim *p, void *x, const void *own, float *bias, void *y, void *scratch)
{
	static const int name_x[] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_SRC, DNNL_ARG_SRC},
					 name_y[] = {DNNL_ARG_DST, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_DST};
	static const int name_w[] = {DNNL_ARG_WEIGHTS, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_WEIGHTS},
					 name_b[] = {DNNL_ARG_BIAS, DNNL_ARG_BIAS, DNNL_ARG_DIFF_BIAS};
	dnnl_exec_arg_t args[5] = {{name_x[p->pass], p->x},
	                           {name_w[p->pass], p->own},
	                           {name_y[p->pass], p->y},
	                           {DNNL_ARG_SCRATCHPAD, p->scratch}};
	int n = 4;
	bool good = dnnl_memory_set_data_handle(p->x, x) == dnnl_success &&
	            dnnl_memory_set_data_handle(p->own, (void *)(uintptr_t)own) == dnnl_success &&
	            dnnl_memory_set_data_handle(p->y, y) == dnnl_success &&
	            dnnl_memory_set_data_handle(p->scratch, scratch) == dnnl_success;
	if (good && p->bias && p->pass != PRIM_DATA) {
		good = dnnl_memory_set_data_handle(p->bias, bias) == dnnl_success;
		args[n++] = (dnnl_exec_arg_t){name_b[p->pass], p->bias};
	}
	return good && prim_execute(p->run, n, args);
}
