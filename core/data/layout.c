/* layout.c - see layout.h. These layouts are understood, below any number of common leading directories:
 *
 *     train/CLASS/name.png  test/CLASS/name.jpg  val/CLASS/name.jpeg     or other usual names for the three folders
 *     CLASS/name.png                                                     split by the seed
 *     name.png beside labels.csv                                         likewise, unless the table has a column for it
 *
 * Classes are the sorted names of the training directories. A picture's place is its rank by (part, class, name). */
#include "data/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const part_name[PARTS] = {[PART_TRAIN] = "train", [PART_TEST] = "test", [PART_VAL] = "val"};

int part_of(const char *p, size_t n)
{
	static const struct {
		const char *name;
		enum part part;
	} names[] = {
		{"train", PART_TRAIN}, {"training", PART_TRAIN}, {"test", PART_TEST},      {"testing", PART_TEST},
		{"val", PART_VAL},     {"valid", PART_VAL},      {"validation", PART_VAL},
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strlen(names[i].name) == n && !strncasecmp(p, names[i].name, n))
			return names[i].part;
	return -1;
}

/* ---- what is a picture --------------------------------------------------------------------------------- */

static enum wasd_status sort_out(struct layout *l, struct wasd_err *err)
{
	size_t pictures = 0;
	for (size_t i = 0; i < l->in->n; i++) {
		const char *name = entry_name(l->in, i);
		if (is_picture(name))
			pictures++;
		else if (!is_text(name))
			return entry_foreign(
				l->in, i, err,
				"unexpected file: an archive of images may contain only train/CLASS/*.png|jpg|jpeg and test/CLASS/*");
		else
			l->item[i].out = true;
	}
	return pictures ? WASD_OK :
	                  wasd_fail_at(err, WASD_EINVAL, l->in->files[0].name,
	                               "the archive contains no PNG or JPEG pictures and no IDX or CIFAR files");
}

static void tell_texts(const struct layout *l, size_t table)
{
	for (size_t i = 0; i < l->in->n; i++)
		if (!is_picture(entry_name(l->in, i)) && i != table)
			ingest_remark(l->in, "ignored", entry_name(l->in, i), "%s", INGEST_IGNORED);
}

/* ---- train/CLASS/ ---------------------------------------------------------------------------------------- */

/* Length of the directories before train/, test/ or val/, with the last slash; SIZE_MAX if the name has no such folder
 * that contains a class folder. The folder two levels above the picture is preferred, because an outer directory may
 * have such a name too. */
static size_t lead_of(const char *name)
{
	size_t lead = SIZE_MAX;
	for (const char *p = name, *slash; (slash = strchr(p, '/')); p = slash + 1) {
		const char *cls = strchr(slash + 1, '/');
		if (!cls || part_of(p, (size_t)(slash - p)) < 0)
			continue;
		if (!strchr(cls + 1, '/'))
			return (size_t)(p - name);
		if (lead == SIZE_MAX)
			lead = (size_t)(p - name);
	}
	return lead;
}

/* Takes the lead from the first name, in sorted order, that has such a folder; SIZE_MAX: none has one. */
static size_t common_lead(const struct layout *l, const char **of)
{
	size_t lead = SIZE_MAX;
	*of = NULL;
	for (size_t i = 0; i < l->in->n; i++) {
		const char *name = entry_name(l->in, i);
		if (!l->item[i].out && lead_of(name) != SIZE_MAX && (!*of || strcmp(name, *of) < 0)) {
			*of = name;
			lead = lead_of(name);
		}
	}
	return lead;
}

static enum wasd_status set_class(struct layout *l, size_t i, const char *cls, size_t n, const char *folder,
                                  struct wasd_err *err)
{
	if (!cls[n])
		return entry_fail(l->in, i, err, WASD_EINVAL, "lies directly in %s/, not in a class folder", folder);
	if (strchr(cls + n + 1, '/'))
		return entry_fail(l->in, i, err, WASD_EINVAL, "lies deeper than %s/CLASS/", folder);
	if (n > WDS_MAX_CLASS_NAME)
		return entry_fail(l->in, i, err, WASD_EINVAL, "has a class name of more than %d bytes", WDS_MAX_CLASS_NAME);
	l->item[i].cls = cls;
	l->item[i].cls_len = (uint32_t)n;
	return WASD_OK;
}

static enum wasd_status place_parts(struct layout *l, const char *first, size_t lead, struct wasd_err *err)
{
	struct {
		const char *p;
		size_t n;
	} spelled[PARTS] = {{NULL, 0}};
	enum wasd_status s = WASD_OK;
	for (size_t i = 0; i < l->in->n && !s; i++) {
		const char *name = entry_name(l->in, i), *path = name + lead;
		if (l->item[i].out)
			continue;
		size_t k = strncmp(name, first, lead) ? 0 : strcspn(path, "/");
		int part = k && path[k] ? part_of(path, k) : -1;
		if (part < 0)
			return entry_fail(l->in, i, err, WASD_EINVAL, "not in train/, test/ or val/");
		if (!spelled[part].p)
			spelled[part].p = path, spelled[part].n = k;
		if (spelled[part].n != k || strncmp(spelled[part].p, path, k))
			return entry_fail(l->in, i, err, WASD_EINVAL, "the archive has both %.*s/ and %.*s/; keep one of them",
			                  (int)spelled[part].n, spelled[part].p, (int)k, path);
		l->item[i].part = (uint8_t)part;
		l->count[part]++;
		s = set_class(l, i, path + k + 1, strcspn(path + k + 1, "/"), part_name[part], err);
	}
	return s;
}

/* If a set has no test images, its validation images become the test images. */
static void val_as_test(struct layout *l)
{
	if (l->count[PART_TEST] || !l->count[PART_VAL])
		return;
	for (size_t i = 0; i < l->in->n; i++)
		if (!l->item[i].out && l->item[i].part == PART_VAL) {
			l->item[i].part = PART_TEST;
			ingest_remark(l->in, "val_as_test", entry_name(l->in, i),
			              "there is no test/ folder, so the images of the validation folder became the test images");
		}
	l->count[PART_TEST] = l->count[PART_VAL];
	l->count[PART_VAL] = 0;
}

/* ---- CLASS/ alone ---------------------------------------------------------------------------------------- */

/* Length of the leading directories shared by all pictures. */
static size_t common_dirs(const struct layout *l)
{
	const char *first = NULL;
	size_t n = 0;
	for (size_t i = 0; i < l->in->n; i++) {
		const char *name = entry_name(l->in, i);
		if (l->item[i].out)
			continue;
		if (!first) {
			first = name;
			n = (size_t)(strrchr(name, '/') ? strrchr(name, '/') + 1 - name : 0);
		}
		size_t k = 0;
		while (k < n && name[k] == first[k])
			k++;
		while (k && first[k - 1] != '/')
			k--;
		n = k;
	}
	return n;
}

/* Whether some folders are class folders, not just train/ and test/. */
static bool has_class_folders(const struct layout *l, size_t lead)
{
	for (size_t i = 0; i < l->in->n; i++) {
		const char *p = entry_name(l->in, i) + lead;
		size_t n = l->item[i].out ? 0 : strcspn(p, "/");
		if (n && p[n] && part_of(p, n) < 0)
			return true;
	}
	return false;
}

/* Recognises a folder whose name starts with a split's name, e.g. "train_images" or "test1". -1: it does not. */
static int split_like(const char *p, size_t n)
{
	size_t word = 0;
	while (word < n && ((p[word] | 32) >= 'a' && (p[word] | 32) <= 'z'))
		word++;
	return part_of(p, word);
}

/* Rejects folders named after two splits with pictures directly inside: these folders are not classes. One class may
 * still be named train, or test. */
static enum wasd_status no_splits(const struct layout *l, size_t lead, struct wasd_err *err)
{
	size_t first[PARTS] = {SIZE_MAX, SIZE_MAX, SIZE_MAX};
	for (size_t i = 0; i < l->in->n; i++) {
		const char *p = entry_name(l->in, i) + lead;
		size_t n = l->item[i].out ? 0 : strcspn(p, "/");
		int part = n && p[n] ? split_like(p, n) : -1;
		if (part >= 0 && (first[part] == SIZE_MAX || strcmp(entry_name(l->in, i), entry_name(l->in, first[part])) < 0))
			first[part] = i;
	}
	size_t i = first[PART_TRAIN];
	if (i == SIZE_MAX || (first[PART_TEST] == SIZE_MAX && first[PART_VAL] == SIZE_MAX))
		return WASD_OK;
	const char *p = entry_name(l->in, i) + lead;
	return entry_fail(
		l->in, i, err, WASD_EINVAL,
		"lies directly in %.*s/, not in a class folder; send train/CLASS/ and test/CLASS/, or a labels.csv that gives the class of each picture",
		(int)strcspn(p, "/"), p);
}

static enum wasd_status place_classes(struct layout *l, size_t lead, struct wasd_err *err)
{
	bool classes = has_class_folders(l, lead);
	enum wasd_status s = no_splits(l, lead, err);
	for (size_t i = 0; i < l->in->n && !s; i++) {
		const char *cls = entry_name(l->in, i) + lead;
		size_t n = strcspn(cls, "/");
		if (l->item[i].out)
			continue;
		s = classes && cls[n] ?
		        set_class(l, i, cls, n, ".", err) :
		        entry_fail(
					l->in, i, err, WASD_EINVAL,
					"not in a class folder; send train/CLASS/ and test/CLASS/, or CLASS/ folders, or a labels.csv");
	}
	return s;
}

/* ---- order ------------------------------------------------------------------------------------------------- */

static int compare_class(const struct item *a, const struct item *b)
{
	size_t n = a->cls_len < b->cls_len ? a->cls_len : b->cls_len;
	int c = memcmp(a->cls, b->cls, n);
	return c ? c : a->cls_len < b->cls_len ? -1 : a->cls_len > b->cls_len;
}

/* Orders by part, then class, then name. Classes are compared without their terminator: plain comparison sorts "a/"
 * behind "a-b/". */
static int by_place(const void *x, const void *y, void *ctx)
{
	const struct layout *l = ctx;
	size_t i = *(const size_t *)x, k = *(const size_t *)y;
	const struct item *a = &l->item[i], *b = &l->item[k];
	if (a->part != b->part)
		return a->part < b->part ? -1 : 1;
	int c = compare_class(a, b);
	return c ? c : strcmp(entry_name(l->in, i), entry_name(l->in, k));
}

/* Returns the pictures in use, sorted. */
static enum wasd_status sorted(const struct layout *l, size_t **order, size_t *n, struct wasd_err *err)
{
	*n = 0;
	if (!(*order = wasd_calloc(l->in->n + 1, sizeof **order)))
		return wasd_fail(err, WASD_ENOMEM, "no memory to sort %zu images", l->in->n);
	for (size_t i = 0; i < l->in->n; i++)
		if (!l->item[i].out && !l->item[i].bad)
			(*order)[(*n)++] = i;
	qsort_r(*order, *n, sizeof **order, by_place, (void *)(uintptr_t)l);
	return WASD_OK;
}

/* Moves the requested share of each class to the test images, by a shuffle per class: at least one image, never all. */
static enum wasd_status part_by_seed(struct layout *l, struct wasd_err *err)
{
	size_t *order, n, from = 0, classes = 0;
	enum wasd_status s = sorted(l, &order, &n, err);
	if (s)
		return s;
	for (size_t to = 1; to <= n; to++) {
		if (to < n && !compare_class(&l->item[order[to - 1]], &l->item[order[to]]))
			continue;
		struct wasd_rng r;
		size_t all = to - from, take = (size_t)(l->in->o.test_fraction * (double)all + 0.5);
		take = all < 2 ? 0 : take < 1 ? 1 : take >= all ? all - 1 : take;
		wasd_rng_init(&r, l->in->o.split_seed, "split", classes++, 0);
		for (size_t k = 0; k < take; k++) { /* the first `take` of a Fisher-Yates shuffle */
			size_t j = k + wasd_rng_below(&r, (uint32_t)(all - k)), t = order[from + j];
			order[from + j] = order[from + k];
			order[from + k] = t;
			l->item[t].part = PART_TEST;
			ingest_remark(
				l->in, "split_by_seed", entry_name(l->in, t),
				"there are no train/ and test/ folders, so %g of the images of each class, chosen by seed %llu, became the test images",
				l->in->o.test_fraction, (unsigned long long)l->in->o.split_seed);
		}
		from = to;
	}
	wasd_free(order);
	return WASD_OK;
}

static enum wasd_status add_class(struct layout *l, size_t i, struct wasd_err *err)
{
	const struct item *it = &l->item[i];
	if (l->n_classes == WDS_MAX_CLASSES)
		return entry_fail(l->in, i, err, WASD_ETOOBIG, "more than %d classes", WDS_MAX_CLASSES);
	if (!(l->n_classes & (l->n_classes - 1))) { /* full at every power of two */
		size_t cap = l->n_classes ? 2 * (size_t)l->n_classes : 1;
		const char **more = wasd_realloc((void *)l->classes, cap * sizeof *more);
		if (!more)
			return wasd_fail(err, WASD_ENOMEM, "no memory for %zu classes", cap);
		l->classes = more;
	}
	char *name = wasd_strndup(it->cls, it->cls_len);
	if (!name)
		return wasd_fail(err, WASD_ENOMEM, "no memory for class names");
	l->classes[l->n_classes++] = name;
	return WASD_OK;
}

static int find_class(const struct layout *l, const struct item *it)
{
	int lo = 0, hi = l->n_classes;
	while (lo < hi) {
		int mid = (lo + hi) / 2, c = strncmp(l->classes[mid], it->cls, it->cls_len);
		if (!c && !l->classes[mid][it->cls_len])
			return mid;
		if (c < 0) /* on a common prefix the longer name is greater */
			lo = mid + 1;
		else
			hi = mid;
	}
	return -1;
}

static int folded(const void *a, const void *b)
{
	return strcasecmp(*(const char *const *)a, *(const char *const *)b);
}

/* Rejects class names that differ only in case: "Cat" and "cat" are most likely one class. */
static enum wasd_status check_class_names(const struct layout *l, struct wasd_err *err)
{
	const char **v = wasd_calloc((size_t)l->n_classes, sizeof *v);
	enum wasd_status s = v ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for class names");
	if (!s) {
		memcpy((void *)v, (const void *)l->classes, (size_t)l->n_classes * sizeof *v);
		qsort((void *)v, (size_t)l->n_classes, sizeof *v, folded);
	}
	for (int i = 1; !s && i < l->n_classes; i++)
		if (!strcasecmp(v[i - 1], v[i]))
			s = wasd_fail_at(err, WASD_EINVAL, v[i], "differs only in case from class %.100s", v[i - 1]);
	wasd_free((void *)v);
	return s;
}

/* Assigns label and rank. The first call collects the classes; later calls keep them. */
static enum wasd_status give_places(struct layout *l, const size_t *order, size_t n, struct wasd_err *err)
{
	bool first = !l->n_classes;
	enum wasd_status s = WASD_OK;
	memset(l->count, 0, sizeof l->count);
	for (size_t k = 0; k < n && !s; k++) {
		struct item *it = &l->item[order[k]];
		if (first && it->part == PART_TRAIN && (!k || compare_class(&l->item[order[k - 1]], it)))
			s = add_class(l, order[k], err);
		it->label = find_class(l, it);
		it->rank = (uint32_t)l->count[it->part]++;
		if (!s && it->label < 0)
			s = entry_fail(l->in, order[k], err, WASD_EINVAL, "class %.*s has no training image",
			               (int)(it->cls_len < 100 ? it->cls_len : 100), it->cls);
	}
	return s || !first ? s : check_class_names(l, err);
}

static enum wasd_status check_counts(const struct layout *l, struct wasd_err *err)
{
	if (!l->count[PART_TRAIN])
		return wasd_fail_at(err, WASD_EINVAL, "train", "no images in train/CLASS/");
	if (!l->count[PART_TEST])
		return wasd_fail_at(
			err, WASD_EINVAL, "test",
			"no images in test/CLASS/ (to have the images split for you, send the CLASS/ folders without train/)");
	return WASD_OK;
}

static enum wasd_status rank(struct layout *l, struct wasd_err *err)
{
	size_t *order, n;
	enum wasd_status s = sorted(l, &order, &n, err);
	if (!s)
		s = give_places(l, order, n, err);
	wasd_free(order);
	return s ? s : check_counts(l, err);
}

static enum wasd_status place(struct layout *l, struct wasd_err *err)
{
	const char *first;
	size_t lead = common_lead(l, &first), table = labels_find(l);
	bool parted = lead != SIZE_MAX, flat = !parted && table != SIZE_MAX && !has_class_folders(l, common_dirs(l));
	enum wasd_status s = parted ? place_parts(l, first, lead, err) :
	                     flat   ? labels_read(l, table, &parted, err) :
	                              place_classes(l, common_dirs(l), err);
	if (s)
		return s;
	tell_texts(l, flat ? table : SIZE_MAX);
	if (!parted)
		return part_by_seed(l, err);
	if (!l->count[PART_TRAIN])
		return wasd_fail_at(err, WASD_EINVAL, "train", "no images in train/CLASS/");
	val_as_test(l);
	return WASD_OK;
}

enum wasd_status layout_make(struct layout *l, struct wasd_err *err)
{
	if (!(l->item = wasd_calloc(l->in->n, sizeof *l->item)))
		return wasd_fail(err, WASD_ENOMEM, "no memory to sort %zu images", l->in->n);
	enum wasd_status s = sort_out(l, err);
	if (!s)
		s = place(l, err);
	return s ? s : rank(l, err);
}

enum wasd_status layout_again(struct layout *l, struct wasd_err *err)
{
	size_t *left = wasd_calloc((size_t)l->n_classes, sizeof *left);
	enum wasd_status s = left ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory to count classes");
	for (size_t i = 0; i < l->in->n && !s; i++)
		if (!l->item[i].out && !l->item[i].bad && l->item[i].part == PART_TRAIN)
			left[l->item[i].label]++;
	for (int c = 0; c < l->n_classes && !s; c++)
		if (!left[c])
			s = wasd_fail_at(err, WASD_EINVAL, l->classes[c],
			                 "class %.100s has no training image left: none of its pictures can be read",
			                 l->classes[c]);
	wasd_free(left);
	return s ? s : rank(l, err);
}

void layout_done(struct layout *l)
{
	for (int i = 0; i < l->n_classes; i++)
		wasd_free((void *)(uintptr_t)l->classes[i]);
	wasd_free((void *)l->classes);
	wasd_free(l->item);
}
