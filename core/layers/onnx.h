/* layers/onnx.h - the functions with which a layer exports its operation to ONNX: struct layer's `onnx` writes the
 * operators of one node. convert/onnx.c implements them.
 *
 * Values have 4 dimensions (N,C,H,W) or 2 (N,features); a layer requests the form it needs. Names live as long as the
 * writer. The writer remembers failures and reports them at the end, so the calls read like the operators. */
#ifndef LAYERS_ONNX_H
#define LAYERS_ONNX_H

#include "layers/layer.h"

struct onnx;

/* Input k of the current node: as it is, as maps, or flat. onnx_value also says whether the input is flat. */
const char *onnx_value(struct onnx *o, int k, bool *flat);
const char *onnx_maps(struct onnx *o, int k);
const char *onnx_flat(struct onnx *o, int k);
int onnx_channels(const struct onnx *o, int k); /* of input k, as maps */

/* Constants: a parameter of the graph in its own shape (-1: NULL); statistics; ints; a shape filled with one number; a
 * single number. suffix is appended to the node's name. */
const char *onnx_param(struct onnx *o, int param);
const char *onnx_mean(struct onnx *o, const struct node *n); /* of a batch norm */
const char *onnx_variance(struct onnx *o, const struct node *n);
const char *onnx_ints(struct onnx *o, const char *suffix, const int64_t *v, int n);
const char *onnx_filled(struct onnx *o, const char *suffix, const int64_t *dims, int n_dims, size_t count, double v);
const char *onnx_number(struct onnx *o, const char *suffix, double v);

/* One operator: begin, inputs (NULL is skipped) and attributes, end. With suffix "" the operator outputs the node's
 * value, flat or as maps; otherwise an intermediate value, whose name is returned. */
void onnx_begin(struct onnx *o, const char *op);
void onnx_in(struct onnx *o, const char *value);
void onnx_attr_int(struct onnx *o, const char *name, int64_t v);
void onnx_attr_ints(struct onnx *o, const char *name, const int64_t *v, int n);
void onnx_attr_float(struct onnx *o, const char *name, double v);
const char *onnx_end(struct onnx *o, const char *suffix, bool flat);

/* Sets the node's value to its first input convolved with w and bias b (NULL: none), with n's own stride, padding and
 * output size (layers/conv.c). */
void onnx_conv(struct onnx *o, const struct node *n, int kh, int kw, int groups, const char *w, const char *b);

#endif
