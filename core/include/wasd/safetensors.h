/* wasd/safetensors.h - reading and writing safetensors: checkpoints, fixtures, downloads.
 *
 * 8-byte little-endian header length, a JSON header {"__metadata__":{"k":"string"},
 * name:{"dtype","shape","data_offsets"}}, padded with spaces to a multiple of 8, then the data. The reader trusts
 * nothing: header length, JSON, offsets inside the file, no overlap, no gap, product of shape times element size equal
 * to the extent. */
#ifndef WASD_SAFETENSORS_H
#define WASD_SAFETENSORS_H

#include "wasd/base.h"
#include "wasd/json.h"

enum wasd_dtype {
	WASD_F32,
	WASD_F64,
	WASD_I64,
	WASD_I32,
	WASD_U64,
	WASD_U8,
	WASD_BF16,
	WASD_F16,
	WASD_I8,
	WASD_DTYPES
};
size_t wasd_dtype_size(enum wasd_dtype t);
const char *wasd_dtype_name(enum wasd_dtype t); /* "F32" */
/* "64x3x3x3"; truncated to the room in out. */
void wasd_st_dims_text(char out[64], int n, const size_t *dims);

struct wasd_st_tensor {
	const char *name;
	enum wasd_dtype dtype;
	int ndims;
	size_t dims[8];
	size_t count;
	const void *data;
};

struct wasd_st; /* a parsed file over borrowed bytes */
/* bytes are borrowed until close. At most 100,000 tensors and 16 MiB of header. */
enum wasd_status wasd_st_open(const void *bytes, size_t len, struct wasd_st **out, struct wasd_err *err);
void wasd_st_close(struct wasd_st *s);
size_t wasd_st_count(const struct wasd_st *s);
const struct wasd_st_tensor *wasd_st_at(const struct wasd_st *s, size_t i);
const struct wasd_st_tensor *wasd_st_find(const struct wasd_st *s,
                                          const char *name);        /* NULL: absent; hashed or sorted look-up */
const char *wasd_st_meta(const struct wasd_st *s, const char *key); /* NULL if absent */

/* Writing: collect tensors, then produce one block. Names and data are borrowed until finish. Tensors are laid out in
 * order of addition, 8-byte aligned only if all sizes are multiples of 8 (safetensors has no gaps). */
struct wasd_st_writer;
struct wasd_st_writer *wasd_st_writer_create(void);                                     /* NULL: no memory */
void wasd_st_writer_meta(struct wasd_st_writer *w, const char *key, const char *value); /* both copied */
void wasd_st_writer_add(struct wasd_st_writer *w, const char *name, enum wasd_dtype t, int ndims, const size_t *dims,
                        const void *data); /* name copied */
/* Returns the size of the file, then writes its bytes to out[size]. Reports errors of earlier calls. */
enum wasd_status wasd_st_writer_size(struct wasd_st_writer *w, size_t *size, struct wasd_err *err);
enum wasd_status wasd_st_writer_write(struct wasd_st_writer *w, void *out, size_t size, struct wasd_err *err);
/* Both at once: *out is a new block (free with wasd_free). */
enum wasd_status wasd_st_writer_block(struct wasd_st_writer *w, void **out, size_t *size, struct wasd_err *err);
void wasd_st_writer_destroy(struct wasd_st_writer *w);

#endif
