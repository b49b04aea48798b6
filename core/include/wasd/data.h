/* wasd/data.h - datasets: one compact memory-mapped file per version, and the loader that feeds training.
 *
 * File (little-endian, page-aligned sections, extension .wds):
 *   0     64 bytes  header: magic "WASDDATA", u32 version 1, u32 json_len, u32 c,h,w, u32 classes, u64 n_train, u64
 *         n_test, u64 file size
 *   64    json_len  {"classes":[...],"mean":[...],"std":[...],"format":"...","digest":"sha256 hex",
 *                   "prepare":{"fit","background","orientation"}}; mean/std per channel of v/255 over train; prepare is
 *                   absent in older files. "val":n if the last n train images are the set's own validation images;
 *                   mean/std exclude them
 *   then  train images u8 (n_train,c,h,w) | train labels u16 | test images | test labels, each at the next multiple of
 *         4096
 * digest = SHA-256 over c,h,w,counts, class names, labels and pixels: equal content gives an equal digest, whatever
 * archive it came in. */
#ifndef WASD_DATA_H
#define WASD_DATA_H

#include "wasd/tensor.h"
#include "wasd/json.h"

enum wasd_split { WASD_TRAIN, WASD_TEST };

struct augment_list;
struct wasd_pixels;
struct wasd_prepare;
struct wasd_dataset; /* immutable, may be shared by threads */
/* Maps the file; checks magic, version, all sizes and label ranges. Does not read the pixels. */
enum wasd_status wasd_dataset_open(const char *path, struct wasd_dataset **out, struct wasd_err *err);
void wasd_dataset_close(struct wasd_dataset *d);
/* Reads labels and pixels and compares them with `digest`. WASD_ECORRUPT: they differ. */
enum wasd_status wasd_dataset_verify(const struct wasd_dataset *d, const char *digest, struct wasd_err *err);
/* Limits an open data set to some of its classes: names, or indices; NULL or null: all. From then on it has only these
 * classes, in this order, and their images, numbered without gaps; moments and digest stay those of the whole. Call it
 * once, before others use d; after a failure, d can only be closed. WASD_EINVAL with a pointer below "/data/classes".
 * wasd_dataset_original: the number of image i in the whole split. */
enum wasd_status wasd_dataset_select(struct wasd_dataset *d, const cJSON *classes, struct wasd_err *err);
size_t wasd_dataset_original(const struct wasd_dataset *d, enum wasd_split s, size_t i);
struct wasd_shape wasd_dataset_shape(const struct wasd_dataset *d);
int wasd_dataset_classes(const struct wasd_dataset *d);
const char *wasd_dataset_class(const struct wasd_dataset *d, int i);
size_t wasd_dataset_count(const struct wasd_dataset *d, enum wasd_split s);
/* Number of training images, counted from the end, that the data set itself provides for validation; 0: none. */
size_t wasd_dataset_val(const struct wasd_dataset *d);
const char *wasd_dataset_digest(const struct wasd_dataset *d);
const uint8_t *wasd_dataset_image(const struct wasd_dataset *d, enum wasd_split s, size_t i); /* (c,h,w) */
int wasd_dataset_label(const struct wasd_dataset *d, enum wasd_split s, size_t i);
const struct wasd_prepare *wasd_dataset_prepare(const struct wasd_dataset *d); /* how its pictures were prepared */
/* Per-channel mean and standard deviation of v/255 over the training images; 3 values, unused channels 0. */
void wasd_dataset_moments(const struct wasd_dataset *d, double mean[3], double std[3]);

/* Writing a dataset (ingest only): create, add every image, finish. Nothing appears at `path` until finish has renamed
 * a synced temporary file; abort removes that file. */
struct wasd_dataset_writer;
enum wasd_status wasd_dataset_writer_create(const char *path, struct wasd_shape shape, const char *const *classes,
                                            int n_classes, const char *format, struct wasd_dataset_writer **out,
                                            struct wasd_err *err);
enum wasd_status wasd_dataset_writer_add(struct wasd_dataset_writer *w, enum wasd_split s, const uint8_t *chw,
                                         int label, struct wasd_err *err);
enum wasd_status wasd_dataset_writer_finish(struct wasd_dataset_writer *w, struct wasd_err *err);
void wasd_dataset_writer_abort(struct wasd_dataset_writer *w); /* also frees after finish; accepts NULL */

/* ---- making datasets ----------------------------------------------------------------------------- */

#define WASD_INGEST_MAX_BYTES ((size_t)8 << 30)
#define WASD_INGEST_MAX_IMAGES 4000000
struct wasd_ingest_file {
	const char *path, *name;
}; /* an uploaded file in staging, and the client's name for it (may be "") */
/* What ingest reports besides its result. A remark is something it did without an explicit request: files left out, a
 * folder taken as a split. A culprit is a file that caused the upload to be rejected, or that was skipped. All texts
 * are printable UTF-8. */
enum { WASD_REMARKS_MAX = 32, WASD_REMARK_EXAMPLES = 5, WASD_CULPRITS_MAX = 100, WASD_REMARK_NAME = 160 };
struct wasd_remark {
	const char *code;
	uint64_t count;
	char message[256];
	int examples;
	char example[WASD_REMARK_EXAMPLES][WASD_REMARK_NAME];
	bool replayed;
};
struct wasd_culprit {
	char file[WASD_REMARK_NAME], detail[256];
};
struct wasd_ingest_report {
	int remarks;
	struct wasd_remark remark[WASD_REMARKS_MAX]; /* one per code, in order of first occurrence */
	uint64_t culprits;
	struct wasd_culprit culprit[WASD_CULPRITS_MAX]; /* number of culprits; the first of them */
};
struct wasd_ingest_opts {
	size_t max_bytes; /* limit on decoded bytes written and on bytes unpacked from archives; 0: WASD_INGEST_MAX_BYTES */
	size_t max_images; /* 0: WASD_INGEST_MAX_IMAGES */
	int size;      /* resizes every image to size x size; 0: keeps the size, which must be the same for all images */
	bool skip_bad; /* image archives: leave out and report pictures that cannot be read, instead of rejecting the upload
	                */
	double test_fraction;
	uint64_t
		split_seed; /* image archives without train/ and test/: the share of each class used for testing (0: a fifth) */
	const char *names;                  /* encoding of zip names not marked as UTF-8, by its iconv name; NULL: CP437 */
	const struct wasd_prepare *prepare; /* NULL: wasd_prepare_default */
	void (*progress)(void *ctx, uint64_t images, uint64_t bytes);
	void *ctx;
	bool (*cancelled)(void *ctx);
	struct wasd_ingest_report *report; /* borrowed; filled in even on failure; NULL: not wanted */
};
struct wasd_ingest_info {
	char format[24];
	struct wasd_shape shape;
	int classes;
	size_t n_train, n_test, n_val;
	char digest[WASD_SHA256_HEX];
};
/* Recognises the format by content (CIFAR-10/100 binary tar.gz, IDX files or a tar of them, image archive) and converts
 * it to out_path. Errors: WASD_EINVAL/ECORRUPT/ETOOBIG with err->pointer = the name of the faulty file inside the
 * archive. A failure leaves nothing behind. */
enum wasd_status wasd_ingest(const struct wasd_ingest_file *files, int n, const char *out_path,
                             const struct wasd_ingest_opts *o, struct wasd_ingest_info *info, struct wasd_err *err);
/* Built-in synthetic sets: a table (data/synthetic.c); kind "glyphs": rendered digits, 10 classes, 32x32x3. */
enum wasd_status wasd_synthetic(const char *kind, size_t n_train, size_t n_test, uint64_t seed, const char *out_path,
                                const struct wasd_ingest_opts *o, struct wasd_ingest_info *info, struct wasd_err *err);

/* Names of the formats that ingest recognises, and of the synthetic kinds; NULL after the last. */
const char *wasd_ingest_format_at(int i);
const char *wasd_synthetic_at(int i);

/* ---- decoding one image (ingest and inference) ----------------------------------------------------- */

/* How a picture becomes pixels of a given size: recorded with the data set and with checkpoints, and applied wherever
 * pictures are decoded. All zero is the behaviour for data sets and checkpoints without a record: squeezed, over black,
 * as stored, decoded in full. */
enum wasd_fit { /* for an aspect ratio other than the target's */
	            WASD_SQUEEZE,
	            WASD_CROP,  /* crop to the centre */
	            WASD_CROPS, /* the same in a data set; the network answers with the mean of several crops' logits */
};
enum { WASD_CROPS_MAX = 3 }; /* at the start, the centre and the end of the longer side */
struct wasd_prepare {
	enum wasd_fit fit;
	uint8_t background[3]; /* background behind transparent pixels: red, green, blue */
	bool upright;          /* turned according to EXIF; false: as stored */
	bool reduce; /* decode JPEG files of at least 4 Mi pixels and at least eight times the target at a reduced scale;
	                set in every record */
};
extern const struct wasd_prepare wasd_prepare_default; /* squeezed, over white, upright, reduced */
/* Adds the members "fit":"squeeze|crop|crops","background":"rrggbb","orientation":"upright|keep". False: no memory. */
bool wasd_prepare_add(cJSON *j, const struct wasd_prepare *p);
/* Reads the members present in j; the others stay unchanged. WASD_EINVAL with the member's pointer. */
enum wasd_status wasd_prepare_read(const cJSON *j, struct wasd_prepare *inout, struct wasd_err *err);

/* Decodes PNG or JPEG bytes to (channels,h,w) u8, a new block (free with wasd_free). channels: 1 or 3 (grey is
 * replicated, colour is weighted to grey; CMYK and YCCK are read as written by Adobe). h,w 0: the picture's own size,
 * else bilinear resize with antialiasing. Pictures of 16 Mi to 64 Mi pixels are decoded at a reduced scale if the
 * target is smaller than that. Rejects larger pictures, more than 100 progressive scans, 12-bit samples, damaged or
 * truncated data, and other formats (WASD_EUNSUPPORTED). Messages name the fault.
 * crops: NULL for the one picture that a data set stores; else receives how many pictures of (channels,h,w) are in out,
 * one after the other: 1, or with WASD_CROPS the WASD_CROPS_MAX crops of a picture of which a single one leaves out
 * more than one row or column. */
enum wasd_status wasd_image_decode(const void *bytes, size_t len, int channels, int h, int w,
                                   const struct wasd_prepare *how, uint8_t **out, int *oh, int *ow, int *crops,
                                   struct wasd_err *err);
/* (c,h,w) u8 -> PNG bytes, a new block (free with wasd_free), for dataset previews. */
enum wasd_status wasd_image_png(const uint8_t *chw, struct wasd_shape s, void **out, size_t *len, struct wasd_err *err);

/* ---- validation images ----------------------------------------------------------------------------- */

/* The training images, divided into those that a run trains on and those used only for its decisions (best epoch, early
 * stopping, a draw). Ascending indices into the training split. */
struct wasd_holdout {
	uint32_t *train, *val;
	size_t n_train, n_val;
};
/* First, `limit` selects the images that the run uses: 0: all; below 1: that share of the training images; else that
 * number of them (or all, if there are fewer). The selection is stratified by class to within one image, drawn from
 * stream ("limit", class) of the seed; a class may end up empty. Then the share `fraction` (0 to 0.5) of the selected
 * images is held out, also stratified to within one image, drawn from stream ("holdout", class). The same data, limit,
 * fraction and seed give the same images. A fraction above 0 holds out at least one image and leaves at least one image
 * in every class that has several. Not stratified: both choices take all images as one class. Fraction 0: val is empty.
 * Reads only labels. WASD_EINVAL: invalid limit or fraction, or fewer than two images to divide. */
enum wasd_status wasd_holdout_make(const struct wasd_dataset *d, double limit, double fraction, uint64_t seed,
                                   bool stratified, struct wasd_holdout *out, struct wasd_err *err);
/* Uses the validation images of the dataset itself (wasd_dataset_val); the limit applies to the others. WASD_EINVAL: it
 * has none, or an invalid limit. */
enum wasd_status wasd_holdout_own(const struct wasd_dataset *d, double limit, uint64_t seed, bool stratified,
                                  struct wasd_holdout *out, struct wasd_err *err);
void wasd_holdout_done(struct wasd_holdout *h); /* safe on a zeroed struct */

/* ---- loader --------------------------------------------------------------------------------------- */

/* All randomness is a function of (seed, epoch, position), so a loader resumes from (epoch, batch) alone. */
struct wasd_loader_opts {
	const struct wasd_dataset *data;
	enum wasd_split split;
	const uint32_t *subset;
	size_t n_subset; /* only these images (borrowed); NULL: all */
	int batch;
	bool shuffle;                       /* permutation of epoch e: stream "shuffle", e */
	const struct augment_list *augment; /* borrowed; NULL: none (augment/augment.h) */
	const struct wasd_pixels *pixels;   /* borrowed during creation; NULL: wasd_pixels_half */
	uint64_t seed;
	bool prefetch; /* fill the next batch in a separate thread */
};
struct wasd_batch {
	const real *x;
	const int32_t *y;
	const int32_t *other; /* labels of what was mixed in, with the weight `rest` of at most 1/2; NULL: nothing was */
	double rest;
	int n;
	uint64_t epoch;
	uint32_t index;
	bool last;
};
struct wasd_loader;
enum wasd_status wasd_loader_create(const struct wasd_loader_opts *o, struct wasd_loader **out, struct wasd_err *err);
void wasd_loader_destroy(struct wasd_loader *l);
/* Sets the position of the next batch, and drops prefetched batches. */
void wasd_loader_seek(struct wasd_loader *l, uint64_t epoch, uint32_t batch);
uint32_t wasd_loader_batches(const struct wasd_loader *l); /* per epoch, including the short last batch */
/* Returns the next batch: pixels as o->pixels has it (web/docs/inference.md#pixels). Valid until the next call.
 * Continues into the next epoch. Allocates nothing. */
const struct wasd_batch *wasd_loader_next(struct wasd_loader *l);
uint64_t wasd_loader_stall_us(const struct wasd_loader *l); /* total time that next() spent waiting */

#endif
