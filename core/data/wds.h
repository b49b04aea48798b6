/* data/wds.h - the byte layout of the dataset file, shared by its reader (dataset.c) and its writer (writer.c). */
#ifndef DATA_WDS_H
#define DATA_WDS_H

#include "wasd/data.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "dataset files are read in place and are little-endian");

#define WDS_MAGIC "WASDDATA"
#define WDS_VERSION 1u
#define WDS_ALIGN 4096u
#define WDS_MAX_SIDE 4096
#define WDS_MAX_CLASSES 65535
#define WDS_MAX_CLASS_NAME 255   /* bytes of one class name */
#define WDS_MAX_JSON (32u << 20) /* limit when reading */
#define WDS_MAX_WRITTEN_JSON \
	(896u \
	 << 10) /* limit when writing: messages and checkpoints that repeat the class names hold at most 1 MiB of JSON */

struct wds_header {
	char magic[8];
	uint32_t version, json_len, c, h, w, classes;
	uint64_t n_train, n_test, file_size;
	uint64_t zero; /* pads to 64 bytes */
};
_Static_assert(sizeof(struct wds_header) == 64, "the header is 64 bytes on disk");

/* Offsets of the four sections, multiples of WDS_ALIGN; `end` is the size of the file. */
struct wds_layout {
	uint64_t images[2], labels[2], end;
};

/* Computes the layout from a header whose fields may be hostile. False if a size overflows. */
bool wds_layout(const struct wds_header *h, struct wds_layout *out);

/* WASD_EINVAL unless c is 1..3 and h,w 1..WDS_MAX_SIDE. */
enum wasd_status wds_shape_check(struct wasd_shape s, struct wasd_err *err);

/* Hashes what the digest covers before the pixels: c,h,w as u32, the counts as u64, every class name with its NUL. The
 * labels and pixels follow, section by section: train labels, train pixels, test labels, test pixels. */
void wds_digest_head(struct wasd_sha256 *sha, const struct wds_header *h, const char *const *classes);

/* Puts an image at a given position of its split; positions may come in any order, and finish rejects gaps. Otherwise
 * like wasd_dataset_writer_add. */
enum wasd_status dataset_writer_put(struct wasd_dataset_writer *w, enum wasd_split s, size_t i, const uint8_t *chw,
                                    int label, struct wasd_err *err);
/* Marks n training images, starting at `first`, as validation images. Call before the first image; n = 0: none. */
enum wasd_status dataset_writer_val(struct wasd_dataset_writer *w, size_t first, size_t n, struct wasd_err *err);
/* Records how the pictures were prepared. Call before finish; the default is wasd_prepare_default. */
void dataset_writer_prepare(struct wasd_dataset_writer *w, const struct wasd_prepare *how);
/* Standard deviation per channel over the training images put so far. */
void dataset_writer_std(const struct wasd_dataset_writer *w, double std[3]);
/* Valid after finish; "" / 0 before. */
const char *dataset_writer_digest(const struct wasd_dataset_writer *w);
size_t dataset_writer_count(const struct wasd_dataset_writer *w, enum wasd_split s);
size_t dataset_writer_val_count(const struct wasd_dataset_writer *w);

#endif
