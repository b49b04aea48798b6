/* onednn/prim.h - one oneDNN convolution primitive with the reorders of its weights. Only prim.c and prim8.c depend on
 * the version of oneDNN's C API (2.6).
 *
 * A primitive runs on any buffers of its shapes, and only one thread at a time may use it. oneDNN divides the work over
 * OpenMP threads. */
#ifndef ONEDNN_PRIM_H
#define ONEDNN_PRIM_H

#include "layers/layer.h"

enum prim_pass { PRIM_FORWARD, PRIM_DATA, PRIM_WEIGHTS, PRIM_PASSES };
/* ANY: whatever oneDNN has, including its plain loops, for shapes without a fast implementation. */
enum prim_alg { PRIM_DIRECT, PRIM_WINOGRAD, PRIM_ANY };

struct prim_conv {
	int n, c, h, w, out, oh, ow, kh, kw, stride, pad_top, pad_left, groups;
	bool x_plain, x_bf16, y_bf16; /* x_plain: images as NCHW; precision of the input and output side */
	bool bias, residual, training;
	enum act act; /* inference: y = act(conv + bias + y) with residual, else act(conv + bias) */
};

struct prim;

/* WASD_EUNSUPPORTED without AVX-512 (bf16: without its bf16 instructions). ONEDNN_MAX_CPU_ISA in the environment can
 * hide instructions from oneDNN. */
enum wasd_status prim_offers(bool bf16, struct wasd_err *err);
/* Call for every plan, if prim_offers succeeded. threads: size of the team, which from then on works in oneDNN's thread
 * pool. */
enum wasd_status prim_open(int threads, struct wasd_err *err);
/* Writes oneDNN's version and the instruction set that it uses on this machine. */
void prim_library(char *out, size_t size);
/* NULL: oneDNN has no such primitive (Winograd of a 2x3 kernel, say), or no memory. */
struct prim *prim_create(enum prim_pass pass, enum prim_alg alg, const struct prim_conv *c);
void prim_destroy(struct prim *p);
size_t prim_weight_bytes(const struct prim *p); /* of the weights (or their gradient) in the primitive's form */
size_t prim_scratch_bytes(const struct prim *p);
size_t prim_x_bytes(const struct prim *p);
size_t prim_y_bytes(const struct prim *p);
/* Equal for primitives that use the same form of weights (up to hash collisions of the form's description). */
uint64_t prim_weights_form(const struct prim *p);
const char *prim_info(const struct prim *p); /* oneDNN's name of the implementation */
/* Converts (O,I/groups,kh,kw) float32 to the primitive's form. */
bool prim_weights_in(struct prim *p, const float *oihw, void *own, void *scratch);
/* Converts the gradient from the primitive's form and adds it to oihw. */
bool prim_weights_add(struct prim *p, const void *own, float *oihw, void *scratch);
/* forward: x, own weights, bias -> y. data: dy, own weights -> dx (as x). weights: x, dy -> own gradient, bias gradient
 * (overwritten). */
bool prim_run(struct prim *p, void *x, const void *own, float *bias, void *y, void *scratch);

#endif
