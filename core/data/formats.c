/* formats.c - the table of upload formats, and the steps that all of them share. A new format is one file with one
 * descriptor. */
#include "data/image.h"
#include "data/ingest.h"

#include <string.h>
#include <unistd.h>

static const struct format *const table[] = {&format_cifar10, &format_cifar100, &format_idx, &format_folder};
#define N_FORMATS ((int)(sizeof table / sizeof *table))

const struct format *ingest_format_at(int i)
{
	return i >= 0 && i < N_FORMATS ? table[i] : NULL;
}

const char *wasd_ingest_format_at(int i)
{
	return ingest_format_at(i) ? ingest_format_at(i)->name : NULL;
}

enum wasd_status ingest_begin(struct ingest *in, struct wasd_shape shape, const char *const *classes, int n_classes,
                              size_t n_train, size_t n_test, struct wasd_err *err)
{
	size_t bytes, n = n_train + n_test;
	enum wasd_status s = wds_shape_check(shape, err);
	if (s)
		return s;
	in->given = shape;
	if (in->o.size)
		shape.h = shape.w = in->o.size;
	if (n_train > in->o.max_images || n_test > in->o.max_images - n_train)
		return wasd_fail(err, WASD_ETOOBIG, "%zu images, but the limit is %zu", n, in->o.max_images);
	if (!wasd_mul_size(n, wasd_shape_count(shape), &bytes) || bytes > in->o.max_bytes)
		return wasd_fail(err, WASD_ETOOBIG, "%zu images of %zu bytes, but the limit is %zu bytes", n,
		                 wasd_shape_count(shape), in->o.max_bytes);
	in->shape = shape;
	in->classes = n_classes;
	wasd_free(in->sized);
	in->sized = NULL;
	if ((shape.h != in->given.h || shape.w != in->given.w) && !(in->sized = wasd_malloc(wasd_shape_count(shape))))
		return wasd_fail(err, WASD_ENOMEM, "no memory for an image");
	if ((s = wasd_dataset_writer_create(in->out_path, shape, classes, n_classes, in->format, &in->writer, err)))
		return s;
	dataset_writer_prepare(in->writer, in->o.prepare);
	return WASD_OK;
}

enum wasd_status ingest_put(struct ingest *in, enum wasd_split sp, size_t k, const uint8_t *chw, int label, size_t i,
                            struct wasd_err *err)
{
	struct wasd_shape from = in->given, to = in->shape;
	enum wasd_status s = in->sized ?
	                         image_fit(chw, from.c, from.h, from.w, in->o.prepare->fit, to.h, to.w, in->sized, err) :
	                         WASD_OK;
	if (!s)
		s = dataset_writer_put(in->writer, sp, k, in->sized ? in->sized : chw, label, err);
	if (s)
		return entry_blame(in, i, err, s);
	in->images++;
	ingest_progress(in);
	return ingest_cancelled(in, err);
}

struct inner {
	char *path, *name;
	struct wasd_ingest_file file;
};

/* Replaces the upload by the archive inside it, once. The unpacked size of both counts against the size of the
 * upload. */
static enum wasd_status open_inner(struct ingest *in, struct inner *inner, struct wasd_err *err)
{
	if (!(inner->name = wasd_strdup(entry_base(in, 0))))
		return wasd_fail(err, WASD_ENOMEM, "no memory for a name");
	ingest_remark(in, "inner_archive", entry_name(in, 0),
	              "the archive holds just one other archive, which was read instead");
	enum wasd_status s = ingest_inner(in, &inner->path, err);
	if (s)
		return s;
	inner->file = (struct wasd_ingest_file){inner->path, inner->name};
	in->files = &inner->file;
	in->n_files = 1;
	in->n = in->names.len = 0;
	in->replaying = false;
	return ingest_scan(in, err);
}

static void inner_done(struct inner *inner)
{
	if (inner->path)
		unlink(inner->path);
	wasd_free(inner->path);
	wasd_free(inner->name);
}

/* A channel whose training pixels are all equal carries no information. */
static void tell_flat(struct ingest *in)
{
	double std[3];
	dataset_writer_std(in->writer, std);
	bool flat = std[0] == 0;
	for (int c = 1; c < in->shape.c; c++)
		flat = flat || std[c] == 0;
	if (flat)
		ingest_remark(in, "std_zero", NULL,
		              "all training pixels of a channel are equal: this channel cannot help to tell the images apart");
}

enum wasd_status wasd_ingest(const struct wasd_ingest_file *files, int n, const char *out_path,
                             const struct wasd_ingest_opts *o, struct wasd_ingest_info *info, struct wasd_err *err)
{
	struct ingest in = {.files = files, .n_files = n, .out_path = out_path};
	struct wasd_err local;
	const struct format *f = NULL;
	err = err ? err : &local;
	*err = (struct wasd_err){0};
	if (o)
		in.o = *o;
	in.o.max_bytes = in.o.max_bytes ? in.o.max_bytes : WASD_INGEST_MAX_BYTES;
	in.o.max_images = in.o.max_images ? in.o.max_images : WASD_INGEST_MAX_IMAGES;
	if (in.o.report)
		*in.o.report = (struct wasd_ingest_report){0};
	in.o.prepare = in.o.prepare ? in.o.prepare : &wasd_prepare_default;
	if (n < 1)
		return wasd_fail(err, WASD_EINVAL, "no files");
	if (in.o.size < 0 || in.o.size > WDS_MAX_SIDE)
		return wasd_fail_at(err, WASD_EINVAL, "/size", "size %d is too large; at most %d", in.o.size, WDS_MAX_SIDE);
	struct inner inner = {NULL};
	in.o.test_fraction = in.o.test_fraction > 0 ? in.o.test_fraction : 0.2;
	enum wasd_status s = ingest_scan(&in, err);
	if (!s && ingest_has_inner(&in))
		s = open_inner(&in, &inner, err);
	if (!s && !in.n)
		s = wasd_fail_at(err, WASD_EINVAL, in.files[0].name, "the archive contains no files");
	if (!s)
		s = ingest_known_sets(&in, err);
	for (int i = 0; !s && !f; i++)
		f = i + 1 == N_FORMATS || table[i]->claims(&in) ? table[i] : NULL;
	if (!s) {
		in.format = f->name;
		s = f->convert(&in, err);
	}
	if (!s && !(s = wasd_dataset_writer_finish(in.writer, err)))
		tell_flat(&in);
	if (!s && info) {
		*info = (struct wasd_ingest_info){.shape = in.shape,
		                                  .classes = in.classes,
		                                  .n_train = dataset_writer_count(in.writer, WASD_TRAIN),
		                                  .n_test = dataset_writer_count(in.writer, WASD_TEST),
		                                  .n_val = dataset_writer_val_count(in.writer)};
		strncpy(info->format, in.format, sizeof info->format - 1);
		memcpy(info->digest, dataset_writer_digest(in.writer), sizeof info->digest);
	}
	ingest_done(&in);
	inner_done(&inner);
	return s;
}
