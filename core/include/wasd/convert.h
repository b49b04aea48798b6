/* wasd/convert.h - checkpoints as files for other programs, and files of other programs as checkpoints.
 *
 * A checkpoint file (protocol.h) is what goes in and comes out here; the other side is safetensors as PyTorch users
 * have it, or ONNX. */
#ifndef WASD_CONVERT_H
#define WASD_CONVERT_H

#include "wasd/infer.h"

/* The weights under the names of the authors' PyTorch state_dict, F32: every parameter, NAME.running_mean and
 * NAME.running_var of AOM, the same of DOM behind "dom."; no optimizer and no generator state. A mode whose statistics
 * were never measured is left out. Metadata: "format":"pt", "producer", and as JSON text "model" (the spec's object),
 * "classes", "input" [c,h,w], "modes", "was", "draw", "spec"; "pixels" says how pixels become numbers. bytes: a
 * checkpoint, borrowed. *out: a fresh block for wasd_free. WASD_ECORRUPT names what is wrong. */
enum wasd_status wasd_export_safetensors(const void *bytes, size_t len, void **out, size_t *out_len,
                                         struct wasd_err *err);
/* One mode as an ONNX model (opset 13), as a deployment computes it: batch normalisation folded, DOM's compact kernels.
 * Input "input" (N,c,h,w) float32, normalised as `pixels` in its metadata says; output "logits" (N,classes). Statuses
 * as wasd_bundle_create; WASD_EUNSUPPORTED names a layer that ONNX has no operators for. */
enum wasd_status wasd_export_onnx(const struct wasd_mode_source *from, void **out, size_t *out_len,
                                  struct wasd_err *err);

/* What is known of a file from elsewhere; a NULL member is taken from the file's metadata (as wasd_export_safetensors
 * names them). */
struct wasd_import {
	const cJSON *model;   /* a job spec's "model" */
	const cJSON *classes; /* names, as many as the network has outputs */
	const cJSON *input;   /* [channels, height, width] */
	bool to_serve;        /* AOM must have its statistics */
};
/* A safetensors file whose tensors have the names and shapes of the network, as a checkpoint to start from or to
 * deploy: F32, F16, BF16 or F64; counters NAME.num_batches_tracked are passed over, and so is the state of a run in a
 * checkpoint of wasd. DOM is there when its statistics and, in the metadata, its draw are. Errors name the tensor
 * (missing, unexpected, its shape, type or value), the metadata's key, or "/model", "/classes", "/input". A word that
 * all names begin with ("module.", "_orig_mod.") is passed over and told in info "prefix". *out: a fresh block; *info:
 * what is listed of a checkpoint ("arch", "classes", "input", "was", "draw", "macs"), the caller's. */
enum wasd_status wasd_import(const void *bytes, size_t len, const struct wasd_import *how, void **out, size_t *out_len,
                             cJSON **info, struct wasd_err *err);

#endif
