/* api/tensor.h - converts tensors of the Open Inference Protocol (JSON and binary) to the infer process's input.
 *
 * Arrays of numbers are cut out of a request's JSON before cJSON parses it (tensor_cut): cJSON would allocate an
 * object of 64 bytes for each number; here one pass reads them. */
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
	bool json; /* may come as JSON data; the 16-bit floats must be binary */
};
const struct tensor_type *tensor_type_at(int i); /* NULL after the last */
const struct tensor_type *tensor_type_find(const char *name);

/* The text of each input's "data" array, in the order of the inputs. */
#define TENSOR_INPUTS 4
struct tensor_texts {
	const char *begin[TENSOR_INPUTS]; /* NULL: the input has none */
	size_t len[TENSOR_INPUTS];
};
/* Appends to head json[0..len) with each such array replaced by "[]"; from the first malformed place on, the text is
 * copied unchanged. The texts are borrowed from json. False: no memory. */
bool tensor_cut(const char *json, size_t len, struct wasd_buf *head, struct tensor_texts *out);

/* The same for one array that is a member of the request itself, {"instances": [...]}, unless it is empty or its first
 * element is an object or a string: out->begin[0]. */
bool tensor_cut_member(const char *json, size_t len, const char *member, struct wasd_buf *head,
                       struct tensor_texts *out);
/* How deep the first number of an array's text is nested, and how many elements the outermost array has. The text may
 * be malformed; tensor_read checks it. */
int tensor_text_depth(const char *text, size_t len);
int64_t tensor_text_count(const char *text, size_t len);

/* One input tensor. */
struct tensor_in {
	int64_t n;         /* images */
	const void *bytes; /* n images as float32, row-major; or encoded images, concatenated */
	size_t len;
	cJSON *sizes;        /* bytes of each encoded image; NULL: float32 */
	struct wasd_buf own; /* holds bytes, unless they are in the request's body */
};
void tensor_in_done(struct tensor_in *t);

struct wasd_pixels;
struct tensor_wanted {
	int64_t dims[TENSOR_RANK]; /* dims[0] = -1: any from 1 to most */
	int rank;
	int64_t most;
	const struct wasd_pixels *pixels; /* how UINT8 become numbers, by the channel dims[1] of rank 4; borrowed */
};
/* The source of a tensor's elements. */
struct tensor_data {
	const char *text; /* the JSON array; NULL: there is none */
	size_t text_len;
	const char *binary, *binary_end; /* the unused bytes after the request's JSON */
};
/* Reads input `tensor` {"name","shape","datatype","parameters"?,"data"?}: numbers of any type under the name "input"
 * (UINT8 are pixels), or encoded images as BYTES of shape [n] under "input" or "image". pointer:
 * "/inputs/0". Advances from->binary past the bytes it used. WASD_EINVAL with the pointer of the member at fault. */
enum wasd_status tensor_read(const cJSON *tensor, const char *pointer, const struct tensor_wanted *want,
                             struct tensor_data *from, struct tensor_in *out, struct wasd_err *err);

#endif
