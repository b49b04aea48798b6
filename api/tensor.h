/* api/tensor.h - tensors of the Open Inference Protocol: JSON and binary data, into what the infer process takes.
 *
 * A request's arrays of numbers are cut out of its JSON before cJSON sees it (tensor_cut): cJSON makes an object of 64
 * bytes of each number, and they are read here in one pass instead. */
#ifndef API_TENSOR_H
#define API_TENSOR_H

#include "wasd/base.h"
#include "wasd/json.h"

#define TENSOR_RANK 8

enum tensor_class { TENSOR_BOOL, TENSOR_UNSIGNED, TENSOR_SIGNED, TENSOR_FLOAT, TENSOR_BYTES };
struct tensor_type {
	const char *name;
	size_t size; /* bytes of an element; 0: BYTES */
	enum tensor_class is;
	bool json; /* may come as JSON data: the 16-bit floats need the binary form */
};
const struct tensor_type *tensor_type_at(int i); /* NULL after the last */
const struct tensor_type *tensor_type_find(const char *name);

/* The texts of the arrays "data" of a request's inputs, in the order of the inputs. */
#define TENSOR_INPUTS 4
struct tensor_texts {
	const char *begin[TENSOR_INPUTS]; /* NULL: the input has none */
	size_t len[TENSOR_INPUTS];
};
/* json[0..len) without those arrays, of which "[]" is left, appended to head; where json is malformed, the rest as it
 * is. The texts are borrowed from json. False: no memory. */
bool tensor_cut(const char *json, size_t len, struct wasd_buf *head, struct tensor_texts *out);

/* One input tensor. */
struct tensor_in {
	int64_t n;         /* images */
	const void *bytes; /* n images as float32, row-major; or encoded pictures, one after the other */
	size_t len;
	cJSON *sizes;        /* the bytes of each picture; NULL: float32 */
	struct wasd_buf own; /* what bytes points into, unless it is the request's body */
};
void tensor_in_done(struct tensor_in *t);

struct tensor_wanted {
	int64_t dims[TENSOR_RANK]; /* dims[0] = -1: any from 1 to most */
	int rank;
	int64_t most;
};
/* Where the elements of a tensor come from. */
struct tensor_data {
	const char *text; /* of the JSON array; NULL: there is none */
	size_t text_len;
	const char *binary, *binary_end; /* the bytes behind the request's JSON that are not used yet */
};
/* Reads input `tensor` {"name","shape","datatype","parameters"?,"data"?}: numbers of any type under the name "input"
 * (UINT8 are pixels: WASD_PIXEL), or encoded pictures as BYTES of shape [n] under "input" or "image". pointer:
 * "/inputs/0". from->binary moves on by what was taken. WASD_EINVAL with the pointer of what does not fit. */
enum wasd_status tensor_read(const cJSON *tensor, const char *pointer, const struct tensor_wanted *want,
                             struct tensor_data *from, struct tensor_in *out, struct wasd_err *err);

#endif
