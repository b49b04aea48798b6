/* writer.c - writes a dataset file in one pass without knowing the counts beforehand.
 *
 * Training images go straight to their place in the temporary file, because the size of the description in front of
 * them is known from the start: its only unknown parts, moments and digest, have a maximal width, and blanks fill the
 * rest. Test images go to a second file, and finish copies them behind the training labels. Labels stay in memory.
 * Neither file has a name until the first is complete and synced. Sums for the moments are integers: exact, in any
 * order. */
#include "data/wds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct split_out {
	int fd;
	uint64_t base;
	uint16_t *label;
	size_t n, cap, filled;
};

struct wasd_dataset_writer {
	char *path, *tmp, *format;
	char **classes;
	struct wds_header head;
	size_t image_bytes;
	struct wasd_prepare prepare;
	struct split_out out[2];
	uint64_t sum[3], sum2[3];
	size_t val_first, val; /* the range of training images used for validation */
	char digest[WASD_SHA256_HEX];
	bool renamed;
};

enum { UNSET = 0xffff, CHUNK = 1 << 20, PREPARE_ROOM = 16 }; /* 65535 classes have labels 0..65534 */

static char *describe(const struct wasd_dataset_writer *w, const double *mean, const double *std, const char *digest)
{
	cJSON *j = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(j, "classes"),
		  *m = cJSON_AddArrayToObject(j, "mean"), *sd = cJSON_AddArrayToObject(j, "std"),
		  *prepare = cJSON_AddObjectToObject(j, "prepare");
	bool ok = list && m && sd && wasd_prepare_add(prepare, &w->prepare);
	for (uint32_t i = 0; ok && i < w->head.classes; i++)
		ok = cJSON_AddItemToArray(list, cJSON_CreateString(w->classes[i]));
	for (uint32_t c = 0; ok && c < w->head.c; c++)
		ok = cJSON_AddItemToArray(m, cJSON_CreateNumber(mean[c])) &&
		     cJSON_AddItemToArray(sd, cJSON_CreateNumber(std[c]));
	ok = ok && cJSON_AddStringToObject(j, "format", w->format) && cJSON_AddStringToObject(j, "digest", digest);
	if (ok && w->val)
		ok = cJSON_AddNumberToObject(j, "val", (double)w->val);
	char *text = ok ? wasd_json_print(j) : NULL;
	cJSON_Delete(j);
	return text;
}

/* Reserves room for the widest description: 6 numbers of at most 24 characters, a digest of 64, and the longest words
 * of `prepare`, beyond what is known already. */
static enum wasd_status reserve_description(struct wasd_dataset_writer *w, struct wasd_err *err)
{
	char *text = describe(w, (double[3]){0}, (double[3]){0}, "");
	if (!text)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory for the description", w->path);
	size_t n = strlen(text) + 6 * 24 + WASD_SHA256_HEX + PREPARE_ROOM;
	wasd_free(text);
	if (n > WDS_MAX_WRITTEN_JSON)
		return wasd_fail(err, WASD_ETOOBIG, "%s: class names of %zu bytes; at most %u are allowed", w->path, n,
		                 WDS_MAX_WRITTEN_JSON);
	w->head.json_len = (uint32_t)n;
	return WASD_OK;
}

static enum wasd_status copy_classes(struct wasd_dataset_writer *w, const char *const *classes, int n,
                                     struct wasd_err *err)
{
	if (n < 1 || n > WDS_MAX_CLASSES)
		return wasd_fail(err, WASD_EINVAL, "%s: %d classes; 1 to %d are allowed", w->path, n, WDS_MAX_CLASSES);
	w->classes = wasd_calloc((size_t)n, sizeof *w->classes);
	if (!w->classes)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory for class names", w->path);
	w->head.classes = (uint32_t)n;
	for (int i = 0; i < n; i++) {
		size_t len = strlen(classes[i]);
		if (!len || len > WDS_MAX_CLASS_NAME || !wasd_utf8_ok(classes[i], len))
			return wasd_fail(err, WASD_EINVAL, "%s: class %d: the name must have 1 to %d bytes of UTF-8", w->path, i,
			                 WDS_MAX_CLASS_NAME);
		if (!(w->classes[i] = wasd_strdup(classes[i])))
			return wasd_fail(err, WASD_ENOMEM, "%s: no memory for class names", w->path);
	}
	return WASD_OK;
}

static char *dir_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? wasd_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : wasd_strdup(".");
}

/* Opens a nameless file in the target's directory, which vanishes with the process however the process ends. On a file
 * system without nameless files, opens one with a temporary name (*name, else NULL). */
static enum wasd_status open_temporary(const struct wasd_dataset_writer *w, int *fd, char **name, struct wasd_err *err)
{
	char *dir = dir_of(w->path), *tmp = NULL;
	enum wasd_status s = WASD_OK;
	*fd = dir ? open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0640) : -1;
	if (!dir)
		s = wasd_fail(err, WASD_ENOMEM, "%s: no memory", w->path);
	else if (*fd < 0 && errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		s = wasd_fail_errno(err, errno, "%s", dir);
	else if (*fd < 0 && !(tmp = wasd_asprintf("%s.tmp-XXXXXX", w->path)))
		s = wasd_fail(err, WASD_ENOMEM, "%s: no memory", w->path);
	else if (*fd < 0 && (*fd = mkostemp(tmp, O_CLOEXEC)) < 0) {
		s = wasd_fail_errno(err, errno, "%s", tmp);
		wasd_free(tmp);
	} else
		*name = tmp;
	wasd_free(dir);
	return s;
}

static enum wasd_status open_files(struct wasd_dataset_writer *w, struct wasd_err *err)
{
	char *spill = NULL;
	enum wasd_status s = open_temporary(w, &w->out[WASD_TRAIN].fd, &w->tmp, err);
	if (!s)
		s = open_temporary(w, &w->out[WASD_TEST].fd, &spill, err);
	if (spill)
		unlink(spill);
	wasd_free(spill);
	return s;
}

enum wasd_status wasd_dataset_writer_create(const char *path, struct wasd_shape shape, const char *const *classes,
                                            int n_classes, const char *format, struct wasd_dataset_writer **out,
                                            struct wasd_err *err)
{
	enum wasd_status s = wds_shape_check(shape, err);
	if (s)
		return s;
	struct wasd_dataset_writer *w = wasd_calloc(1, sizeof *w);
	if (!w)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", path);
	w->out[0].fd = w->out[1].fd = -1;
	memcpy(w->head.magic, WDS_MAGIC, sizeof w->head.magic);
	w->head.version = WDS_VERSION;
	w->head.c = (uint32_t)shape.c, w->head.h = (uint32_t)shape.h, w->head.w = (uint32_t)shape.w;
	w->image_bytes = wasd_shape_count(shape);
	w->prepare = wasd_prepare_default;
	w->path = wasd_strdup(path);
	w->format = wasd_strdup(format);
	if (!w->path || !w->format)
		s = wasd_fail(err, WASD_ENOMEM, "%s: no memory", path);
	if (!s && !(s = copy_classes(w, classes, n_classes, err)) && !(s = reserve_description(w, err)))
		s = open_files(w, err);
	if (s) {
		wasd_dataset_writer_abort(w);
		return s;
	}
	struct wds_layout at;
	wds_layout(&w->head, &at); /* the counts are still 0: gives the place of the first training image */
	w->out[WASD_TRAIN].base = at.images[WASD_TRAIN];
	*out = w;
	return WASD_OK;
}

enum wasd_status dataset_writer_val(struct wasd_dataset_writer *w, size_t first, size_t n, struct wasd_err *err)
{
	struct wds_layout at;
	w->val_first = first;
	w->val = n;
	enum wasd_status s = n ? reserve_description(w, err) : WASD_OK;
	if (!s && n) {
		wds_layout(&w->head, &at);
		w->out[WASD_TRAIN].base = at.images[WASD_TRAIN];
	}
	return s;
}

static enum wasd_status write_at(int fd, uint64_t at, const void *p, size_t n, const char *what, struct wasd_err *err)
{
	const char *b = p;
	while (n) {
		ssize_t k = pwrite(fd, b, n, (off_t)at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return wasd_fail_errno(err, k ? errno : ENOSPC, "%s: write", what);
		b += k, at += (uint64_t)k, n -= (size_t)k;
	}
	return WASD_OK;
}

static enum wasd_status read_at(int fd, uint64_t at, void *p, size_t n, const char *what, struct wasd_err *err)
{
	char *b = p;
	while (n) {
		ssize_t k = pread(fd, b, n, (off_t)at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return wasd_fail_errno(err, k ? errno : EIO, "%s: read back", what);
		b += k, at += (uint64_t)k, n -= (size_t)k;
	}
	return WASD_OK;
}

/* Makes room for the label of image i; new labels are UNSET. */
static bool grow_labels(struct split_out *o, size_t i)
{
	if (i >= o->cap) {
		size_t cap = o->cap ? o->cap : 1024, bytes;
		while (cap <= i)
			cap *= 2;
		uint16_t *p = wasd_mul_size(cap, sizeof *p, &bytes) ? wasd_realloc(o->label, bytes) : NULL;
		if (!p)
			return false;
		memset(p + o->cap, 0xff, (cap - o->cap) * sizeof *p);
		o->label = p, o->cap = cap;
	}
	if (i >= o->n)
		o->n = i + 1;
	return true;
}

enum wasd_status dataset_writer_put(struct wasd_dataset_writer *w, enum wasd_split s, size_t i, const uint8_t *chw,
                                    int label, struct wasd_err *err)
{
	struct split_out *o = &w->out[s];
	if (label < 0 || (uint32_t)label >= w->head.classes)
		return wasd_fail(err, WASD_EINVAL, "image %zu has label %d, but there are only %u classes", i, label,
		                 w->head.classes);
	if (i >= UINT32_MAX)
		return wasd_fail(err, WASD_ETOOBIG, "%zu images; at most %u are allowed", i, UINT32_MAX);
	if (!grow_labels(o, i))
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory for %zu labels", w->path, i + 1);
	if (o->label[i] != UNSET)
		return wasd_fail(err, WASD_EINTERNAL, "%s: image %zu is written twice", w->path, i);
	enum wasd_status st = write_at(o->fd, o->base + i * w->image_bytes, chw, w->image_bytes, w->path, err);
	if (st)
		return st;
	o->label[i] = (uint16_t)label;
	o->filled++;
	if (s == WASD_TRAIN && (!w->val || i < w->val_first))
		for (uint32_t c = 0; c < w->head.c; c++) {
			size_t hw = w->image_bytes / w->head.c;
			const uint8_t *p = chw + c * hw;
			uint64_t a = 0, b = 0;
			for (size_t k = 0; k < hw; k++)
				a += p[k], b += (unsigned)p[k] * p[k];
			w->sum[c] += a, w->sum2[c] += b;
		}
	return WASD_OK;
}

enum wasd_status wasd_dataset_writer_add(struct wasd_dataset_writer *w, enum wasd_split s, const uint8_t *chw,
                                         int label, struct wasd_err *err)
{
	return dataset_writer_put(w, s, w->out[s].n, chw, label, err);
}

/* mean = E[v]/255, std = sqrt(E[v^2] - E[v]^2)/255 over the pixels of all training images, per channel. The numerator
 * of the variance, n*sum2 - sum^2, is computed in 128 bits, so nothing cancels. */
static void moments(const struct wasd_dataset_writer *w, double mean[3], double std[3])
{
	uint64_t n = (w->head.n_train - w->val) * (w->image_bytes / w->head.c);
	for (uint32_t c = 0; c < w->head.c; c++) {
		unsigned __int128 v = (unsigned __int128)n * w->sum2[c] - (unsigned __int128)w->sum[c] * w->sum[c];
		mean[c] = (double)w->sum[c] / (double)n / 255.0;
		std[c] = __builtin_sqrt((double)v) / (double)n / 255.0;
	}
}

/* Hashes one section of the temporary file. */
static enum wasd_status hash_range(struct wasd_dataset_writer *w, struct wasd_sha256 *sha, char *buf, uint64_t at,
                                   uint64_t n, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	for (uint64_t k; n && !s; at += k, n -= k) {
		k = n < CHUNK ? n : CHUNK;
		if (!(s = read_at(w->out[WASD_TRAIN].fd, at, buf, k, w->path, err)))
			wasd_sha256_update(sha, buf, k);
	}
	return s;
}

static enum wasd_status write_sections(struct wasd_dataset_writer *w, const struct wds_layout *at, char *buf,
                                       struct wasd_err *err)
{
	int fd = w->out[WASD_TRAIN].fd;
	enum wasd_status s = WASD_OK;
	for (int k = 0; k < 2 && !s; k++)
		s = write_at(fd, at->labels[k], w->out[k].label, w->out[k].n * sizeof(uint16_t), w->path, err);
	uint64_t n = w->head.n_test * w->image_bytes;
	for (uint64_t pos = 0, k; pos < n && !s; pos += k) {
		k = n - pos < CHUNK ? n - pos : CHUNK;
		if (!(s = read_at(w->out[WASD_TEST].fd, pos, buf, k, w->path, err)))
			s = write_at(fd, at->images[WASD_TEST] + pos, buf, k, w->path, err);
	}
	return s;
}

static enum wasd_status write_description(struct wasd_dataset_writer *w, struct wasd_err *err)
{
	double mean[3] = {0}, std[3] = {0};
	moments(w, mean, std);
	char *text = describe(w, mean, std, w->digest), *room = wasd_malloc(w->head.json_len);
	enum wasd_status s = text && room ? WASD_OK :
	                                    wasd_fail(err, WASD_ENOMEM, "%s: no memory for the description", w->path);
	if (!s) {
		size_t n = strlen(text) - 1; /* blanks fill the room before the closing brace */
		memset(room, ' ', w->head.json_len);
		memcpy(room, text, n);
		room[w->head.json_len - 1] = '}';
		s = write_at(w->out[WASD_TRAIN].fd, sizeof w->head, room, w->head.json_len, w->path, err);
	}
	if (!s)
		s = write_at(w->out[WASD_TRAIN].fd, 0, &w->head, sizeof w->head, w->path, err);
	wasd_free(text);
	wasd_free(room);
	return s;
}

static enum wasd_status digest(struct wasd_dataset_writer *w, const struct wds_layout *at, char *buf,
                               struct wasd_err *err)
{
	struct wasd_sha256 *sha = wasd_sha256_create();
	if (!sha)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory for the digest", w->path);
	enum wasd_status s = WASD_OK;
	wds_digest_head(sha, &w->head, (const char *const *)w->classes);
	if (w->val)
		wasd_sha256_update(sha, (uint64_t[]){w->val}, sizeof(uint64_t));
	for (int k = 0; k < 2 && !s; k++) {
		s = hash_range(w, sha, buf, at->labels[k], w->out[k].n * sizeof(uint16_t), err);
		if (!s)
			s = hash_range(w, sha, buf, at->images[k], w->out[k].n * w->image_bytes, err);
	}
	wasd_sha256_hex(sha, w->digest);
	wasd_sha256_destroy(sha);
	return s;
}

/* Gives the nameless file a name beside the target (w->tmp), for the rename to the target. */
static enum wasd_status name_temporary(struct wasd_dataset_writer *w, struct wasd_err *err)
{
	char from[40], id[WASD_ULID_LEN + 1];
	wasd_ulid("", id);
	snprintf(from, sizeof from, "/proc/self/fd/%d", w->out[WASD_TRAIN].fd);
	char *name = wasd_asprintf("%s.tmp-%s", w->path, id);
	if (!name)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", w->path);
	if (linkat(AT_FDCWD, from, AT_FDCWD, name, AT_SYMLINK_FOLLOW)) {
		enum wasd_status s = wasd_fail_errno(err, errno, "%s: link", name);
		wasd_free(name);
		return s;
	}
	w->tmp = name;
	return WASD_OK;
}

/* Syncs the file before it gets a name, then the directory: after a power cut the file is whole or absent. */
static enum wasd_status publish(struct wasd_dataset_writer *w, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	char *dir = dir_of(w->path);
	if (!dir)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", w->path);
	if (fchmod(w->out[WASD_TRAIN].fd, 0640) || fsync(w->out[WASD_TRAIN].fd))
		s = wasd_fail_errno(err, errno, "%s", w->path);
	if (!s && !w->tmp)
		s = name_temporary(w, err);
	if (!s && rename(w->tmp, w->path))
		s = wasd_fail_errno(err, errno, "%s", w->path);
	if (!s) {
		w->renamed = true;
		if ((s = wasd_fsync_dir(dir, err)))
			unlink(w->path); /* not durable, so leave nothing behind */
	}
	wasd_free(dir);
	return s;
}

enum wasd_status wasd_dataset_writer_finish(struct wasd_dataset_writer *w, struct wasd_err *err)
{
	static const char *const split_name[2] = {"train", "test"};
	for (int k = 0; k < 2; k++) {
		if (!w->out[k].n)
			return wasd_fail(err, WASD_EINVAL, "no %s images", split_name[k]);
		if (w->out[k].filled != w->out[k].n)
			return wasd_fail(err, WASD_EINTERNAL, "%s: %zu of %zu %s images were written", w->path, w->out[k].filled,
			                 w->out[k].n, split_name[k]);
	}
	struct wds_layout at;
	w->head.n_train = w->out[WASD_TRAIN].n;
	w->head.n_test = w->out[WASD_TEST].n;
	if (!wds_layout(&w->head, &at))
		return wasd_fail(err, WASD_ETOOBIG, "%s: too many images", w->path);
	w->head.file_size = at.end;
	char *buf = wasd_malloc(CHUNK);
	if (!buf)
		return wasd_fail(err, WASD_ENOMEM, "%s: no memory", w->path);
	enum wasd_status s = write_sections(w, &at, buf, err);
	if (!s && !(s = digest(w, &at, buf, err)))
		s = write_description(w, err);
	wasd_free(buf);
	return s ? s : publish(w, err);
}

void dataset_writer_prepare(struct wasd_dataset_writer *w, const struct wasd_prepare *how)
{
	w->prepare = *how;
}
const char *dataset_writer_digest(const struct wasd_dataset_writer *w)
{
	return w->digest;
}
void dataset_writer_std(const struct wasd_dataset_writer *w, double std[3])
{
	moments(w, (double[3]){0}, std);
}
size_t dataset_writer_count(const struct wasd_dataset_writer *w, enum wasd_split s)
{
	return w->out[s].n;
}
size_t dataset_writer_val_count(const struct wasd_dataset_writer *w)
{
	return w->val;
}

void wasd_dataset_writer_abort(struct wasd_dataset_writer *w)
{
	if (!w)
		return;
	if (w->tmp && !w->renamed)
		unlink(w->tmp);
	for (int k = 0; k < 2; k++) {
		if (w->out[k].fd >= 0)
			close(w->out[k].fd);
		wasd_free(w->out[k].label);
	}
	for (uint32_t i = 0; w->classes && i < w->head.classes; i++)
		wasd_free(w->classes[i]);
	wasd_free(w->classes);
	wasd_free(w->path);
	wasd_free(w->tmp);
	wasd_free(w->format);
	wasd_free(w);
}
