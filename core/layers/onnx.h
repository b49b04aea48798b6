/* layers/onnx.h - what a layer's file needs to say its operation in ONNX: struct layer's `onnx` writes the operators
 * of one node. convert/onnx.c is the writer.
 *
 * Values have 4 dimensions (N,C,H,W) or 2 (N,features); a layer asks for the form that it needs. Names live as long as
 * the writer. Failures stick to the writer and come out at the end, so that the calls read like the operators. */
#ifndef LAYERS_ONNX_H
#define LAYERS_ONNX_H

#include "layers/layer.h"

struct onnx;

/* Input k of the node that is being written, as it is, or as maps, or flat. The first also says whether it is flat. */
const char *onnx_value(struct onnx *o, int k, bool *flat);
const char *onnx_maps(struct onnx *o, int k);
const char *onnx_flat(struct onnx *o, int k);

/* Constants. A parameter of the graph in the shape it has there (-1: NULL); statistics; ints; a shape filled with one
 * number; one number. suffix names it after the node. */
const char *onnx_param(struct onnx *o, int param);
const char *onnx_mean(struct onnx *o, const struct node *n); /* of a batch norm */
const char *onnx_variance(struct onnx *o, const struct node *n);
const char *onnx_ints(struct onnx *o, const char *suffix, const int64_t *v, int n);
const char *onnx_filled(struct onnx *o, const char *suffix, const int64_t *dims, int n_dims, size_t count, double v);
const char *onnx_number(struct onnx *o, const char *suffix, double v);

/* One operator: begin, its inputs (NULL is skipped) and attributes, end. suffix "": it makes the node's value, flat or
 * maps; else an intermediate one whose name is returned. */
void onnx_begin(struct onnx *o, const char *op);
void onnx_in(struct onnx *o, const char *value);
void onnx_attr_int(struct onnx *o, const char *name, int64_t v);
void onnx_attr_ints(struct onnx *o, const char *name, const int64_t *v, int n);
void onnx_attr_float(struct onnx *o, const char *name, double v);
const char *onnx_end(struct onnx *o, const char *suffix, bool flat);

/* The node's value: its first input convolved with w and bias b (NULL = none) by n's own stride, padding and output
 * size (layers/conv.c). */
void onnx_conv(struct onnx *o, const struct node *n, int kh, int kw, int groups, const char *w, const char *b);

#endif
