/* onednn/prim8.c - see prim8.h. */
#include "onednn/prim8.h"

#include "onednn/prim_cpu.h"

#include <string.h>

struct prim8 {
	dnnl_primitive_t run, reorder;
	dnnl_memory_t x, y, own, bias, add, scratch, turn, plain; /* as in struct prim */
	size_t own_bytes, scratch_bytes;
	uint64_t form;
	char info[64];
};

enum wasd_status prim8_offers(struct wasd_err *err)
{
	return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni ?
	           WASD_OK :
	           wasd_fail(err, WASD_EUNSUPPORTED,
	                     "int8 needs a processor with the AVX-512 VNNI instructions, which this processor lacks");
}

static dnnl_data_type_t type_of(enum wasd_quant_type t)
{
	return t == WASD_QUANT_U8 ? dnnl_u8 : t == WASD_QUANT_S8 ? dnnl_s8 : dnnl_f32;
}

static bool map_md(dnnl_memory_desc_t *md, int n, int c, int h, int w, enum wasd_quant_type type)
{
	dnnl_dims_t d = {n, c, h, w};
	return dnnl_memory_desc_init_by_tag(md, 4, d, type_of(type), dnnl_acdb) == dnnl_success;
}

static bool weights_md(dnnl_memory_desc_t *md, const struct prim8_conv *c, bool any)
{
	dnnl_dims_t grouped = {c->groups, c->out / c->groups, c->c / c->groups, c->kh, c->kw};
	dnnl_dims_t dense = {c->out, c->c, c->kh, c->kw};
	bool one = c->groups == 1;
	dnnl_format_tag_t tag = any ? dnnl_format_tag_any : one ? dnnl_abcd : dnnl_abcde;
	return dnnl_memory_desc_init_by_tag(md, one ? 4 : 5, one ? dense : grouped, dnnl_s8, tag) == dnnl_success;
}

static bool bias_md(dnnl_memory_desc_t *md, const struct prim8_conv *c)
{
	dnnl_dims_t d = {c->out};
	return dnnl_memory_desc_init_by_tag(md, 1, d, dnnl_f32, dnnl_a) == dnnl_success;
}

static bool post_ops(dnnl_post_ops_t ops, const struct prim8_conv *c)
{
	dnnl_memory_desc_t add;
	bool good = true;
	if (c->add)
		good = map_md(&add, c->n, c->out, c->oh, c->ow, WASD_QUANT_F32) &&
		       dnnl_post_ops_append_binary(ops, dnnl_binary_add, &add) == dnnl_success;
	if (good && c->residual)
		good = dnnl_post_ops_append_sum_v2(ops, c->residual_scale, type_of(c->residual_type)) == dnnl_success;
	if (good && c->act == ACT_RELU)
		good = dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, 0, 0) == dnnl_success;
	if (good && c->act == ACT_RELU6)
		good = dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_clip, 0, c->six) == dnnl_success;
	return good;
}

static dnnl_primitive_attr_t attributes(const struct prim8_conv *c)
{
	dnnl_primitive_attr_t a;
	dnnl_post_ops_t ops;
	if (dnnl_primitive_attr_create(&a))
		return NULL;
	bool good = dnnl_primitive_attr_set_scratchpad_mode(a, dnnl_scratchpad_mode_user) == dnnl_success &&
	            (!c->scale || dnnl_primitive_attr_set_output_scales(a, c->out, 1 << 1, c->scale) == dnnl_success) &&
	            dnnl_post_ops_create(&ops) == dnnl_success;
	if (good) {
		good = post_ops(ops, c) && dnnl_primitive_attr_set_post_ops(a, ops) == dnnl_success;
		dnnl_post_ops_destroy(ops);
	}
	if (good)
		return a;
	dnnl_primitive_attr_destroy(a);
	return NULL;
}

static dnnl_primitive_desc_t describe(const struct prim8_conv *c)
{
	dnnl_memory_desc_t x, y, w, b;
	dnnl_convolution_desc_t d;
	dnnl_primitive_desc_t pd = NULL;
	dnnl_dims_t stride = {c->stride, c->stride}, begin = {c->pad_top, c->pad_left};
	dnnl_dims_t end = {prim_pad_end(c->h, c->oh, c->kh, c->stride, c->pad_top),
	                   prim_pad_end(c->w, c->ow, c->kw, c->stride, c->pad_left)};
	dnnl_primitive_attr_t a = attributes(c);
	if (!a)
		return NULL;
	if (map_md(&x, c->n, c->c, c->h, c->w, c->x) && map_md(&y, c->n, c->out, c->oh, c->ow, c->y) &&
	    weights_md(&w, c, true) && bias_md(&b, c) &&
	    dnnl_convolution_forward_desc_init(&d, dnnl_forward_inference, dnnl_convolution_direct, &x, &w,
	                                       c->bias ? &b : NULL, &y, stride, begin, end) == dnnl_success &&
	    dnnl_primitive_desc_create(&pd, &d, a, prim_engine(), NULL))
		pd = NULL;
	dnnl_primitive_attr_destroy(a);
	return pd;
}

/* The memory of an argument of the primitive; its size if bytes is given. */
static bool argument(dnnl_memory_t *m, dnnl_primitive_desc_t pd, dnnl_query_t what, size_t *bytes)
{
	const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, what, 0);
	if (bytes)
		*bytes = dnnl_memory_desc_get_size(md);
	return prim_memory(m, md);
}

static bool make_reorder(struct prim8 *p, const dnnl_memory_desc_t *own, const struct prim8_conv *c)
{
	dnnl_memory_desc_t plain;
	dnnl_primitive_attr_t a;
	dnnl_primitive_desc_t pd = NULL;
	size_t bytes = 0;
	if (!weights_md(&plain, c, false) || !prim_memory(&p->plain, &plain) || dnnl_primitive_attr_create(&a))
		return false;
	bool good = dnnl_primitive_attr_set_scratchpad_mode(a, dnnl_scratchpad_mode_user) == dnnl_success &&
	            dnnl_reorder_primitive_desc_create(&pd, &plain, prim_engine(), own, prim_engine(), a) == dnnl_success &&
	            dnnl_primitive_create(&p->reorder, pd) == dnnl_success &&
	            argument(&p->turn, pd, dnnl_query_scratchpad_md, &bytes);
	p->scratch_bytes = bytes > p->scratch_bytes ? bytes : p->scratch_bytes;
	if (pd)
		dnnl_primitive_desc_destroy(pd);
	dnnl_primitive_attr_destroy(a);
	return good;
}

static bool fill(struct prim8 *p, dnnl_primitive_desc_t pd, const struct prim8_conv *c)
{
	const char *info = "";
	dnnl_memory_desc_t bias, add;
	const dnnl_memory_desc_t *own = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
	if (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&info))
		return false;
	strncpy(p->info, info, sizeof p->info - 1);
	p->form = prim_hash(own, sizeof *own);
	return argument(&p->x, pd, dnnl_query_src_md, NULL) && argument(&p->y, pd, dnnl_query_dst_md, NULL) &&
	       argument(&p->own, pd, dnnl_query_weights_md, &p->own_bytes) &&
	       argument(&p->scratch, pd, dnnl_query_scratchpad_md, &p->scratch_bytes) &&
	       (!c->bias || (bias_md(&bias, c) && prim_memory(&p->bias, &bias))) &&
	       (!c->add || (map_md(&add, c->n, c->out, c->oh, c->ow, WASD_QUANT_F32) && prim_memory(&p->add, &add))) &&
	       make_reorder(p, own, c) && dnnl_primitive_create(&p->run, pd) == dnnl_success;
}

struct prim8 *prim8_create(const struct prim8_conv *c)
{
	dnnl_primitive_desc_t pd = prim_memory_left() ? describe(c) : NULL;
	if (!pd)
		return NULL;
	struct prim8 *p = wasd_calloc(1, sizeof *p);
	if (p && !fill(p, pd, c)) {
		prim8_destroy(p);
		p = NULL;
	}
	dnnl_primitive_desc_destroy(pd);
	return p;
}

void prim8_destroy(struct prim8 *p)
{
	if (!p)
		return;
	dnnl_memory_t m[] = {p->x, p->y, p->own, p->bias, p->add, p->scratch, p->turn, p->plain};
	for (size_t i = 0; i < sizeof m / sizeof *m; i++)
		if (m[i])
			dnnl_memory_destroy(m[i]);
	if (p->run)
		dnnl_primitive_destroy(p->run);
	if (p->reorder)
		dnnl_primitive_destroy(p->reorder);
	wasd_free(p);
}

size_t prim8_weight_bytes(const struct prim8 *p)
{
	return p->own_bytes;
}
size_t prim8_scratch_bytes(const struct prim8 *p)
{
	return p->scratch_bytes;
}
uint64_t prim8_weights_form(const struct prim8 *p)
{
	return p->form;
}
const char *prim8_info(const struct prim8 *p)
{
	return p->info;
}

static bool place(dnnl_memory_t m, const void *at)
{
	return dnnl_memory_set_data_handle(m, (void *)(uintptr_t)at) == dnnl_success;
}

bool prim8_weights_in(struct prim8 *p, const int8_t *oihw, void *own, void *scratch)
{
	dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, p->plain}, {DNNL_ARG_TO, p->own}, {DNNL_ARG_SCRATCHPAD, p->turn}};
	return place(p->plain, oihw) && place(p->own, own) && place(p->turn, scratch) && prim_execute(p->reorder, 3, args);
}

bool prim8_run(struct prim8 *p, const void *x, const void *own, const float *bias, const float *add, void *y,
               void *scratch)
{
	dnnl_exec_arg_t args[6] = {{DNNL_ARG_SRC, p->x},
	                           {DNNL_ARG_WEIGHTS, p->own},
	                           {DNNL_ARG_DST, p->y},
	                           {DNNL_ARG_SCRATCHPAD, p->scratch}};
	int n = 4;
	bool good = place(p->x, x) && place(p->own, own) && place(p->y, y) && place(p->scratch, scratch);
	if (good && p->bias) {
		good = place(p->bias, bias);
		args[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, p->bias};
	}
	if (good && p->add) {
		good = place(p->add, add);
		args[n++] = (dnnl_exec_arg_t){DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, p->add};
	}
	return good && prim_execute(p->run, n, args);
}
