/* wasd/convert.h - exports checkpoints to files for other programs, and imports such files as checkpoints.
 *
 * One side is always a checkpoint file (protocol.h); the other side is safetensors as used with PyTorch, or ONNX. */
#ifndef WASD_CONVERT_H
#define WASD_CONVERT_H

#include "wasd/infer.h"

/* Exports the weights under the names of the authors' PyTorch state_dict, F32: every parameter, NAME.running_mean and
 * NAME.running_var of AOM, and those of DOM with the prefix "dom."; no optimizer or generator state. A mode whose
 * statistics were never measured is omitted. Metadata: "format":"pt", "producer", and as JSON text "model" (the spec's
 * object), "classes", "input" [c,h,w], "modes", "was", "draw", "spec"; "pixels" says how pixels become numbers. bytes:
 * a checkpoint, borrowed. *out: a new block (free with wasd_free). WASD_ECORRUPT names the fault. */
enum wasd_status wasd_export_safetensors(const void *bytes, size_t len, void **out, size_t *out_len,
                                         struct wasd_err *err);
/* Exports a mode with a smaller network (wasd_mode_smaller) as a file of a network of its own: "model" is its list of
 * layers, "modes" has "aom" alone. WASD_ENOTFOUND: the checkpoint has no such mode. WASD_EINVAL: it has the
 * checkpoint's own network. */
enum wasd_status wasd_export_smaller(const void *bytes, size_t len, const char *mode, void **out, size_t *out_len,
                                     struct wasd_err *err);
/* Exports one mode as an ONNX model (opset 13), as a deployment computes it: folded batch normalisation and DOM's
 * compact kernels. Input "input" (N,c,h,w) float32, normalised as its metadata `pixels` says; output "logits"
 * (N,classes). Statuses as for wasd_bundle_create; WASD_EUNSUPPORTED names a layer that cannot be exported to ONNX. */
enum wasd_status wasd_export_onnx(const struct wasd_mode_source *from, void **out, size_t *out_len,
                                  struct wasd_err *err);

/* What the weights of a checkpoint are, as JSON; the caller owns *out:
 *     {"arch","params":N of the network,"weights":N,"alive":N,"share":X,"zeros":N,"inputs":N,"read":N,
 *      "layers":[{"name","op","shape":[O,I/groups,kh,kw] or [O,I],"params":N,"weights":N,"alive":N,"share":X,"zeros":N,
 *                 "masks":[strategies that keep one]}]}
 * for the convolutions and linear layers in execution order. weights: without biases and batch normalisation, which
 * params has. A weight is alive if every mask says so, or, without a mask, if it is not zero; zeros: the weights that
 * are exactly zero. inputs: the values of an image (C*H*W); read: those that reach the logits through living channels,
 * by the weights alone. */
enum wasd_status wasd_checkpoint_layers(const void *bytes, size_t len, cJSON **out, struct wasd_err *err);

/* A window of a layer's weights: outputs and inputs from these indices on. outputs or inputs 0: as many as are well
 * looked at, 64 kernels, or 32 x 32 weights of a layer with one tap. */
#define WASD_KERNEL_VALUES 16384 /* in one window, at most */
struct wasd_kernels {
	const char *layer;
	size_t output, outputs, input, inputs;
};
/* Its weights, to four digits: {"name","op","shape","masks","output","outputs","input","inputs","weights":[...]}, by
 * output, input, row and column; null: not alive. The caller owns *out. WASD_ENOTFOUND: no such layer; WASD_EINVAL: the
 * window does not lie in it, or is too large. The pointer is that of the member. */
enum wasd_status wasd_checkpoint_kernels(const void *bytes, size_t len, const struct wasd_kernels *which, cJSON **out,
                                         struct wasd_err *err);

/* What the caller knows about a file from elsewhere; NULL members are taken from the file's metadata (under the names
 * used by wasd_export_safetensors). */
struct wasd_import {
	const cJSON *model;   /* a job spec's "model" */
	const cJSON *classes; /* names, one per output of the network */
	const cJSON *input;   /* [channels, height, width] */
	bool to_serve;        /* AOM must have statistics */
};
/* Imports a safetensors file whose tensors have the names and shapes of the network, as a checkpoint to start from or
 * to deploy: F32, F16, BF16 or F64. Counters NAME.num_batches_tracked are ignored, and so is the run state in a
 * checkpoint of wasd. DOM is imported if the file has its statistics and, in the metadata, its draw. Errors name the
 * tensor (missing, unexpected, its shape, type or value), the metadata's key, or "/model", "/classes", "/input". A
 * prefix of all names ("module.", "_orig_mod.") is skipped and reported in info "prefix". *out: a new block. *info: the
 * listed properties of the checkpoint ("arch", "classes", "input", "was", "draw", "macs"); the caller frees it. */
enum wasd_status wasd_import(const void *bytes, size_t len, const struct wasd_import *how, void **out, size_t *out_len,
                             cJSON **info, struct wasd_err *err);

#endif
