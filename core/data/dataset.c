/* dataset.c - maps and checks a dataset file. wasd/data.h describes the layout.
 *
 * Everything that readers later rely on is checked once, here: sizes against the size of the file, the description
 * against the header, every label against the number of classes. The pixels are never touched, so opening a file costs
 * the same for 10 images and for 10 million. */
#include "data/wds.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct wasd_dataset {
	struct wds_header head;
	struct wds_layout at;
	struct wasd_shape shape;
	size_t image_bytes;
	const uint8_t *map;
	cJSON *desc;
	size_t val;
	const char **classes; /* borrowed from desc */
	const char *digest;   /* borrowed from desc */
	double mean[3], std[3];
	struct wasd_prepare prepare;
	/* of a data set limited to some classes (wasd_dataset_select) */
	int n_kept; /* 0: all classes are in use */
	const char **kept;
	int32_t *to;        /* per class of the file: its new index; -1: left out */
	uint32_t *image[2]; /* per split: the images in use, ascending */
	size_t count[2];
};

static const size_t counts_max = (size_t)1 << 32; /* the loader numbers images with 32 bits */

/* *out = in + n, rounded up to the next section; false on overflow. */
static bool place(uint64_t in, uint64_t n, uint64_t *out)
{
	uint64_t end;
	if (__builtin_add_overflow(in, n, &end) || __builtin_add_overflow(end, WDS_ALIGN - 1, &end))
		return false;
	*out = end / WDS_ALIGN * WDS_ALIGN;
	return true;
}

bool wds_layout(const struct wds_header *h, struct wds_layout *out)
{
	uint64_t n[2] = {h->n_train, h->n_test}, pos, bytes, image;
	if (__builtin_mul_overflow((uint64_t)h->c * h->h, (uint64_t)h->w, &image) || !place(sizeof *h, h->json_len, &pos))
		return false;
	for (int s = 0; s < 2; s++) {
		out->images[s] = pos;
		if (n[s] >= counts_max || __builtin_mul_overflow(image, n[s], &bytes) || !place(pos, bytes, &pos))
			return false;
		out->labels[s] = pos;
		out->end = pos + n[s] * 2; /* n < 2^32 and pos is far from UINT64_MAX: no overflow */
		if (!place(pos, n[s] * 2, &pos))
			return false;
	}
	return true;
}

enum wasd_status wds_shape_check(struct wasd_shape s, struct wasd_err *err)
{
	if (s.c < 1 || s.c > 3 || s.h < 1 || s.h > WDS_MAX_SIDE || s.w < 1 || s.w > WDS_MAX_SIDE)
		return wasd_fail(
			err, WASD_EINVAL,
			"images with %d channels and %dx%d pixels: 1 to 3 channels and sides of 1 to %d pixels are allowed", s.c,
			s.h, s.w, WDS_MAX_SIDE);
	return WASD_OK;
}

void wds_digest_head(struct wasd_sha256 *sha, const struct wds_header *h, const char *const *classes)
{
	wasd_sha256_update(sha, (uint32_t[]){h->c, h->h, h->w, h->classes}, 4 * sizeof(uint32_t));
	wasd_sha256_update(sha, (uint64_t[]){h->n_train, h->n_test}, 2 * sizeof(uint64_t));
	for (uint32_t i = 0; i < h->classes; i++)
		wasd_sha256_update(sha, classes[i], strlen(classes[i]) + 1);
}

static bool read_moments(const cJSON *desc, const char *key, int c, double out[3])
{
	const cJSON *a = wasd_json_get(desc, key), *v;
	if (!cJSON_IsArray(a) || cJSON_GetArraySize(a) != c)
		return false;
	int i = 0;
	cJSON_ArrayForEach(v, a) {
		if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 1))
			return false;
		out[i++] = v->valuedouble;
	}
	return true;
}

/* Reads the JSON that follows the header: class names, moments, digest. */
static enum wasd_status read_description(struct wasd_dataset *d, const char *path, struct wasd_err *err)
{
	struct wasd_json_limits lim = {WDS_MAX_JSON, 4, WDS_MAX_CLASSES + 100};
	struct wasd_err why;
	enum wasd_status s = wasd_json_parse((const char *)d->map + sizeof d->head, d->head.json_len, lim, &d->desc, &why);
	if (s)
		return s == WASD_ENOMEM ? wasd_fail(err, s, "%s: no memory for the description", path) :
		                          wasd_fail(err, WASD_ECORRUPT, "%s: description: %s", path, why.msg);
	const cJSON *list = wasd_json_get(d->desc, "classes"), *v;
	if (!cJSON_IsArray(list) || (uint32_t)cJSON_GetArraySize(list) != d->head.classes)
		return wasd_fail(err, WASD_ECORRUPT, "%s: description does not list %u classes", path, d->head.classes);
	d->classes = wasd_calloc(d->head.classes, sizeof *d->classes);
	if (!d->classes)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory for %u class names", path, d->head.classes);
	uint32_t n = 0;
	cJSON_ArrayForEach(v, list) {
		if (!cJSON_IsString(v))
			return wasd_fail(err, WASD_ECORRUPT, "%s: class %u has no name", path, n);
		d->classes[n++] = v->valuestring;
	}
	if (!read_moments(d->desc, "mean", d->shape.c, d->mean) || !read_moments(d->desc, "std", d->shape.c, d->std))
		return wasd_fail(err, WASD_ECORRUPT, "%s: description lacks the mean and std of %d channels", path, d->shape.c);
	int64_t val = 0;
	if (wasd_json_get(d->desc, "val") &&
	    (!wasd_json_i64(d->desc, "val", &val) || val < 0 || (uint64_t)val >= d->head.n_train))
		return wasd_fail(err, WASD_ECORRUPT, "%s: description has an impossible number of validation images", path);
	d->val = (size_t)val;
	if (!wasd_json_str(d->desc, "digest", &d->digest) || strlen(d->digest) != WASD_SHA256_HEX - 1)
		return wasd_fail(err, WASD_ECORRUPT, "%s: description has no digest", path);
	const cJSON *prepare = wasd_json_get(d->desc, "prepare");
	if (!prepare)
		return WASD_OK;
	d->prepare = wasd_prepare_default;
	return wasd_prepare_read(prepare, &d->prepare, &why) ?
	           wasd_fail(err, WASD_ECORRUPT, "%s: description: %s", path, why.msg) :
	           WASD_OK;
}

static enum wasd_status check_header(struct wasd_dataset *d, const char *path, uint64_t size, struct wasd_err *err)
{
	const struct wds_header *h = &d->head;
	if (memcmp(h->magic, WDS_MAGIC, sizeof h->magic))
		return wasd_fail(err, WASD_ECORRUPT, "%s: not a dataset file", path);
	if (h->version != WDS_VERSION)
		return wasd_fail(err, WASD_ECORRUPT, "%s: dataset file version %u, but this program reads version %u", path,
		                 h->version, WDS_VERSION);
	d->shape = (struct wasd_shape){h->c <= 3 ? (int)h->c : -1, h->h <= WDS_MAX_SIDE ? (int)h->h : -1,
	                               h->w <= WDS_MAX_SIDE ? (int)h->w : -1};
	if (wds_shape_check(d->shape, NULL) || h->classes < 1 || h->classes > WDS_MAX_CLASSES || h->json_len > WDS_MAX_JSON)
		return wasd_fail(err, WASD_ECORRUPT, "%s: impossible shape %ux%ux%u or %u classes", path, h->c, h->h, h->w,
		                 h->classes);
	if (!wds_layout(h, &d->at) || d->at.end != size || h->file_size != size)
		return wasd_fail(err, WASD_ECORRUPT, "%s: the file has %llu bytes, but its header says %llu", path,
		                 (unsigned long long)size, (unsigned long long)h->file_size);
	d->image_bytes = wasd_shape_count(d->shape);
	return WASD_OK;
}

static enum wasd_status check_labels(const struct wasd_dataset *d, const char *path, struct wasd_err *err)
{
	for (int s = 0; s < 2; s++) {
		const uint16_t *y = (const uint16_t *)(const void *)(d->map + d->at.labels[s]);
		size_t n = s ? d->head.n_test : d->head.n_train;
		for (size_t i = 0; i < n; i++)
			if (y[i] >= d->head.classes)
				return wasd_fail(err, WASD_ECORRUPT, "%s: %s label %zu is %u, but there are only %u classes", path,
				                 s ? "test" : "train", i, y[i], d->head.classes);
	}
	return WASD_OK;
}

enum wasd_status wasd_dataset_open(const char *path, struct wasd_dataset **out, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	struct stat st;
	void *map;
	struct wasd_dataset *d = wasd_calloc(1, sizeof *d);
	int fd = -1;
	if (!d)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		s = errno == ENOENT ? wasd_fail(err, WASD_ENOTFOUND, "%s: no such dataset file", path) :
		                      wasd_fail_errno(err, errno, "%s", path);
		goto done;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		s = wasd_fail(err, WASD_ECORRUPT, "%s: not a regular file", path);
		goto done;
	}
	if ((uint64_t)st.st_size < sizeof d->head) {
		s = wasd_fail(err, WASD_ECORRUPT, "%s: %lld bytes is too short for a dataset file", path,
		              (long long)st.st_size);
		goto done;
	}
	if ((s = wasd_read_full(fd, &d->head, sizeof d->head, err)) ||
	    (s = check_header(d, path, (uint64_t)st.st_size, err)))
		goto done;
	map = mmap(NULL, d->at.end, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		s = wasd_fail_errno(err, errno, "%s: mmap", path);
		goto done;
	}
	d->map = map;
	if ((s = read_description(d, path, err)) || (s = check_labels(d, path, err)))
		goto done;
	*out = d;
done:
	if (fd >= 0)
		close(fd);
	if (s)
		wasd_dataset_close(d);
	return s;
}

void wasd_dataset_close(struct wasd_dataset *d)
{
	if (!d)
		return;
	if (d->map)
		munmap((void *)(uintptr_t)d->map, d->at.end);
	cJSON_Delete(d->desc);
	wasd_free(d->classes);
	wasd_free(d->kept);
	wasd_free(d->to);
	for (int s = 0; s < 2; s++)
		wasd_free(d->image[s]);
	wasd_free(d);
}

enum wasd_status wasd_dataset_verify(const struct wasd_dataset *d, const char *digest, struct wasd_err *err)
{
	char hex[WASD_SHA256_HEX];
	struct wasd_sha256 *sha = wasd_sha256_create();
	if (!sha)
		return wasd_fail(err, WASD_ENOMEM, "no memory for a digest");
	wds_digest_head(sha, &d->head, d->classes);
	if (d->val)
		wasd_sha256_update(sha, (uint64_t[]){d->val}, sizeof(uint64_t));
	for (int s = 0; s < 2; s++) {
		const uint64_t n = s ? d->head.n_test : d->head.n_train;
		wasd_sha256_update(sha, d->map + d->at.labels[s], n * sizeof(uint16_t));
		wasd_sha256_update(sha, d->map + d->at.images[s], n * d->image_bytes);
	}
	wasd_sha256_hex(sha, hex);
	wasd_sha256_destroy(sha);
	if (strcmp(hex, digest))
		return wasd_fail(err, WASD_ECORRUPT, "its labels and pixels have SHA-256 %.16s..., recorded was %.16s...", hex,
		                 digest);
	return WASD_OK;
}

struct wasd_shape wasd_dataset_shape(const struct wasd_dataset *d)
{
	return d->shape;
}
int wasd_dataset_classes(const struct wasd_dataset *d)
{
	return d->n_kept ? d->n_kept : (int)d->head.classes;
}
const char *wasd_dataset_class(const struct wasd_dataset *d, int i)
{
	return d->n_kept ? d->kept[i] : d->classes[i];
}
const char *wasd_dataset_digest(const struct wasd_dataset *d)
{
	return d->digest;
}

size_t wasd_dataset_val(const struct wasd_dataset *d)
{
	return d->val;
}

size_t wasd_dataset_count(const struct wasd_dataset *d, enum wasd_split s)
{
	return d->n_kept ? d->count[s] : s == WASD_TEST ? d->head.n_test : d->head.n_train;
}

size_t wasd_dataset_original(const struct wasd_dataset *d, enum wasd_split s, size_t i)
{
	return d->n_kept ? d->image[s][i] : i;
}

static int label_in_file(const struct wasd_dataset *d, enum wasd_split s, size_t i)
{
	return ((const uint16_t *)(const void *)(d->map + d->at.labels[s]))[i];
}

const uint8_t *wasd_dataset_image(const struct wasd_dataset *d, enum wasd_split s, size_t i)
{
	return d->map + d->at.images[s] + wasd_dataset_original(d, s, i) * d->image_bytes;
}

int wasd_dataset_label(const struct wasd_dataset *d, enum wasd_split s, size_t i)
{
	int label = label_in_file(d, s, wasd_dataset_original(d, s, i));
	return d->n_kept ? d->to[label] : label;
}

/* Index of the class that an entry of the list names; -1: none. */
static int class_of(const struct wasd_dataset *d, const cJSON *entry)
{
	double v = cJSON_IsNumber(entry) ? entry->valuedouble : -1;
	if (v >= 0 && v < d->head.classes && v == (int)v)
		return (int)v;
	for (int c = 0; cJSON_IsString(entry) && c < (int)d->head.classes; c++)
		if (!strcmp(d->classes[c], entry->valuestring))
			return c;
	return -1;
}

static enum wasd_status keep_classes(struct wasd_dataset *d, const cJSON *list, struct wasd_err *err)
{
	char at[48];
	const cJSON *entry;
	int n = 0;
	for (uint32_t c = 0; c < d->head.classes; c++)
		d->to[c] = -1;
	cJSON_ArrayForEach(entry, list) {
		int c = class_of(d, entry);
		snprintf(at, sizeof at, "/data/classes/%d", n);
		if (c < 0 && cJSON_IsString(entry))
			return wasd_fail_at(err, WASD_EINVAL, at, "the data set has no class \"%.80s\"", entry->valuestring);
		if (c < 0)
			return wasd_fail_at(err, WASD_EINVAL, at, "must be the name of a class, or its index from 0 to %d",
			                    (int)d->head.classes - 1);
		if (d->to[c] >= 0)
			return wasd_fail_at(err, WASD_EINVAL, at, "class \"%.80s\" is there twice", d->classes[c]);
		d->to[c] = n;
		d->kept[n++] = d->classes[c];
	}
	return WASD_OK;
}

static void keep_images(struct wasd_dataset *d)
{
	const uint64_t images[2] = {d->head.n_train, d->head.n_test};
	size_t own = d->head.n_train - d->val; /* the validation images of the data set itself begin here */
	d->val = 0;
	for (int s = 0; s < 2; s++)
		for (size_t i = 0; i < images[s]; i++) {
			if (d->to[label_in_file(d, s, i)] < 0)
				continue;
			d->image[s][d->count[s]++] = (uint32_t)i;
			d->val += s == WASD_TRAIN && i >= own;
		}
}

enum wasd_status wasd_dataset_select(struct wasd_dataset *d, const cJSON *classes, struct wasd_err *err)
{
	int n = cJSON_GetArraySize(classes);
	if (!classes || cJSON_IsNull(classes))
		return WASD_OK;
	if (!cJSON_IsArray(classes) || n < 2 || n > (int)d->head.classes)
		return wasd_fail_at(err, WASD_EINVAL, "/data/classes", "/data/classes must be an array of 2 to %d classes",
		                    (int)d->head.classes);
	assert(!d->n_kept);
	d->kept = wasd_calloc((size_t)n, sizeof *d->kept);
	d->to = wasd_calloc(d->head.classes, sizeof *d->to);
	d->image[0] = wasd_calloc(d->head.n_train + 1, sizeof(uint32_t));
	d->image[1] = wasd_calloc(d->head.n_test + 1, sizeof(uint32_t));
	if (!d->kept || !d->to || !d->image[0] || !d->image[1])
		return wasd_fail(err, WASD_ENOMEM, "no memory for a choice of %d classes", n);
	enum wasd_status s = keep_classes(d, classes, err);
	if (s)
		return s;
	keep_images(d);
	d->n_kept = n;
	return WASD_OK;
}

const struct wasd_prepare *wasd_dataset_prepare(const struct wasd_dataset *d)
{
	return &d->prepare;
}

void wasd_dataset_moments(const struct wasd_dataset *d, double mean[3], double std[3])
{
	memcpy(mean, d->mean, sizeof d->mean);
	memcpy(std, d->std, sizeof d->std);
}
