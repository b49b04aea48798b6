/* labels.c - labels.csv: the class of each picture, for pictures that lie in one folder.
 *
 *     filename,label            or other usual names, in any order, with further columns; separated by commas,
 * semicolons or tabs cat-1.png,cat             a path, a name, or a name without its extension "dog, big.png",dog
 * quoted as in RFC 4180
 *
 * The text is split into fields in place, and the class names point into it. */
#include "data/layout.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { COLUMNS = 64 };

struct table {
	struct layout *l;
	size_t entry, line;
	char *at;
	char comma;             /* the unread rest of the text */
	int file, label, split; /* columns; -1: absent */
	size_t *index, n_index; /* pictures by stem */
	size_t lost;
	struct wasd_err first; /* the first row without a picture */
};

/* ---- the text ------------------------------------------------------------------------------------------ */

/* Splits off one field: removes its quotes in place and ends it with a NUL. *last: it is the last of its line. */
static char *next_field(struct table *t, bool *last)
{
	char *p = t->at + strspn(t->at, " "), *out = p, *field = p;
	bool quoted = *p == '"';
	p += quoted;
	while (*p && (quoted || (*p != t->comma && *p != '\n' && *p != '\r'))) {
		if (quoted && *p == '"' && p[1] != '"') {
			quoted = false;
			p++;
			continue;
		}
		p += quoted && *p == '"';
		*out++ = *p++;
	}
	char end = *p;
	*last = end != t->comma;
	t->at = p + (end != 0);
	if (end == '\r' && *t->at == '\n')
		t->at++;
	while (out > field && (out[-1] == ' ' || out[-1] == '\t'))
		out--;
	*out = 0;
	return field;
}

static int next_row(struct table *t, char *field[COLUMNS])
{
	int n = 0;
	for (bool last = false; !last; n += n < COLUMNS)
		field[n < COLUMNS ? n : COLUMNS - 1] = next_field(t, &last);
	t->line++;
	return n;
}

static char separator(const char *text)
{
	static const char marks[] = ",;\t";
	size_t line = strcspn(text, "\r\n");
	for (const char *m = marks; *m; m++)
		if (memchr(text, *m, line))
			return *m;
	return ',';
}

/* ---- the columns --------------------------------------------------------------------------------------- */

/* Whether two names are equal, ignoring case, blanks, '-' and '_'. */
static bool spelled(const char *field, const char *name)
{
	for (;; field++, name++) {
		field += strspn(field, " _-");
		if ((*field | 32) != *name)
			return !*field && !*name;
		if (!*name)
			return true;
	}
}

static int column(char *const *field, int n, const char *const *names)
{
	for (; *names; names++)
		for (int i = 0; i < n; i++)
			if (spelled(field[i], *names))
				return i;
	return -1;
}

/* There is no header if the first field is a file name. */
static bool is_bare(const char *line)
{
	return memchr(line, '.', strcspn(line, ",;\t\r\n")) != NULL;
}

static void find_columns(struct table *t)
{
	static const char *const files[] = {"filename",  "file",    "filepath", "imagename", "imagepath",
	                                    "imagefile", "imageid", "image",    "imgname",   "imgpath",
	                                    "img",       "path",    "id",       "name",      NULL};
	static const char *const labels[] = {"label",     "labels",   "class",  "classname", "classlabel", "classid",
	                                     "labelname", "category", "target", "species",   "breed",      NULL};
	static const char *const splits[] = {"split", "subset", "set", "partition", NULL};
	char *field[COLUMNS];
	if (is_bare(t->at)) {
		t->file = 0, t->label = 1, t->split = -1;
		return;
	}
	int n = next_row(t, field);
	t->file = column(field, n, files), t->label = column(field, n, labels), t->split = column(field, n, splits);
}

static enum wasd_status read_header(struct table *t, struct wasd_err *err)
{
	find_columns(t);
	if (t->file < 0 || t->label < 0)
		return entry_fail(t->l->in, t->entry, err, WASD_EINVAL,
		                  "no column \"%s\" in its first line; a table of labels has the columns filename,label",
		                  t->file < 0 ? "filename" : "label");
	return WASD_OK;
}

/* ---- which table ----------------------------------------------------------------------------------------- */

static const char *past_mark(const char *text)
{
	return text + (strncmp(text, "\xef\xbb\xbf", 3) ? 0 : 3);
}

/* 2: has the columns; 1: a table without them; 0: not a table. */
static int likeness(const struct ingest *in, size_t i)
{
	char line[4096];
	if (!in->entry[i].text || !name_ends(entry_name(in, i), ".csv") || name_has(entry_base(in, i), "submission"))
		return 0;
	const char *text = past_mark(in->entry[i].text);
	size_t n = strcspn(text, "\r\n");
	if (n >= sizeof line)
		return 1;
	memcpy(line, text, n);
	line[n] = 0;
	struct table t = {.at = line, .comma = separator(line)};
	find_columns(&t);
	return t.file >= 0 && t.label >= 0 ? 2 : 1;
}

/* Returns the best candidate other than entry `but`. */
static size_t find_table(const struct ingest *in, size_t but, int at_least)
{
	size_t best = SIZE_MAX;
	int like = at_least - 1;
	for (size_t i = 0; i < in->n; i++) {
		int k = i == but ? 0 : likeness(in, i);
		if (k > like || (best != SIZE_MAX && k == like && strcmp(entry_name(in, i), entry_name(in, best)) < 0)) {
			best = i;
			like = k;
		}
	}
	return best;
}

size_t labels_find(const struct layout *l)
{
	return find_table(l->in, SIZE_MAX, 1);
}

static enum wasd_status only_table(const struct ingest *in, size_t entry, struct wasd_err *err)
{
	size_t other = find_table(in, entry, 2);
	if (other == SIZE_MAX)
		return WASD_OK;
	return entry_fail(
		in, other, err, WASD_EINVAL,
		"a second table of labels besides %.100s; merge the rows of both into one table, with a column \"split\" (train, test or val)",
		entry_name(in, entry));
}

/* ---- the pictures ---------------------------------------------------------------------------------------- */

static size_t stem_len(const char *base)
{
	const char *dot = is_picture(base) ? strrchr(base, '.') : NULL;
	return dot ? (size_t)(dot - base) : strlen(base);
}

static int compare_stems(const char *a, const char *b)
{
	size_t n = stem_len(a), k = stem_len(b);
	int c = memcmp(a, b, n < k ? n : k);
	return c ? c : n < k ? -1 : n > k;
}

static int by_stem(const void *x, const void *y, void *ctx)
{
	const struct ingest *in = ctx;
	return compare_stems(entry_base(in, *(const size_t *)x), entry_base(in, *(const size_t *)y));
}

static enum wasd_status make_index(struct table *t, struct wasd_err *err)
{
	struct ingest *in = t->l->in;
	if (!(t->index = wasd_calloc(in->n, sizeof *t->index)))
		return wasd_fail(err, WASD_ENOMEM, "no memory to sort %zu images", in->n);
	for (size_t i = 0; i < in->n; i++)
		if (!t->l->item[i].out)
			t->index[t->n_index++] = i;
	qsort_r(t->index, t->n_index, sizeof *t->index, by_stem, in);
	return WASD_OK;
}

/* Whether a row's name refers to entry `name`: it is the same path, or the end of it. */
static bool means(const char *row, const char *name)
{
	size_t n = strlen(name), k = strlen(row);
	if (!is_picture(row))
		n = n - strlen(strrchr(name, '.'));
	return n >= k && !memcmp(name + n - k, row, k) && (n == k || name[n - k - 1] == '/');
}

/* Finds the picture that a row names; *n: the number of candidates. */
static size_t find(const struct table *t, const char *row, size_t *n)
{
	const char *slash = strrchr(row, '/'), *base = slash ? slash + 1 : row;
	size_t lo = 0, hi = t->n_index, found = SIZE_MAX;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (compare_stems(entry_base(t->l->in, t->index[mid]), base) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*n = 0;
	for (; lo < t->n_index && !compare_stems(entry_base(t->l->in, t->index[lo]), base); lo++)
		if (means(row, entry_name(t->l->in, t->index[lo]))) {
			found = t->index[lo];
			++*n;
		}
	return found;
}

/* ---- the rows ------------------------------------------------------------------------------------------------ */

static void no_picture(struct table *t, const char *row)
{
	struct ingest *in = t->l->in;
	struct wasd_err e;
	if (in->o.skip_bad) {
		ingest_remark(in, "rows_without_picture", row,
		              "rows of the table of labels that name no picture in the archive were left out");
		return;
	}
	entry_fail(in, t->entry, &e, WASD_EINVAL, "line %zu names \"%.100s\", which is not in the archive", t->line, row);
	ingest_culprit(in, &e);
	if (!t->lost++)
		t->first = e;
}

static enum wasd_status set_label(struct table *t, size_t i, const char *label, const char *split, struct wasd_err *err)
{
	struct ingest *in = t->l->in;
	struct item *it = &t->l->item[i];
	size_t n = strlen(label);
	int part = split && *split ? part_of(split, strlen(split)) : PART_TRAIN;
	if (!n || n > WDS_MAX_CLASS_NAME || strchr(label, '\n'))
		return entry_fail(in, t->entry, err, WASD_EINVAL,
		                  "line %zu: the class name must have 1 to %d bytes and no line break", t->line,
		                  WDS_MAX_CLASS_NAME);
	if (it->cls)
		return entry_fail(in, t->entry, err, WASD_EINVAL, "line %zu: %.100s already has a row", t->line,
		                  entry_name(in, i));
	if (part < 0)
		return entry_fail(in, t->entry, err, WASD_EINVAL, "line %zu: \"%.40s\" is not one of train, test, val", t->line,
		                  split);
	it->cls = label;
	it->cls_len = (uint32_t)n;
	it->part = (uint8_t)part;
	t->l->count[part]++;
	return WASD_OK;
}

static enum wasd_status read_rows(struct table *t, struct wasd_err *err)
{
	char *field[COLUMNS];
	enum wasd_status s = WASD_OK;
	while (*t->at && !s && !(s = ingest_cancelled(t->l->in, err))) {
		int n = next_row(t, field);
		if (n == 1 && !*field[0])
			continue;
		if (n <= t->file || n <= t->label)
			return entry_fail(t->l->in, t->entry, err, WASD_EINVAL,
			                  "line %zu has %d columns, fewer than the first line", t->line, n);
		char *row = field[t->file];
		for (char *p = row; *p; p++)
			*p = *p == '\\' ? '/' : *p;
		row += strncmp(row, "./", 2) ? 0 : 2;
		size_t found, i = find(t, row, &found);
		if (found > 1)
			s = entry_fail(t->l->in, t->entry, err, WASD_EINVAL,
			               "line %zu: \"%.100s\" matches %zu pictures; give its folder too", t->line, row, found);
		else if (!found)
			no_picture(t, row);
		else
			s = set_label(t, i, field[t->label], t->split >= 0 && t->split < n ? field[t->split] : NULL, err);
	}
	return s;
}

/* Pictures not named by any row have no class. */
static void leave_out_rest(const struct table *t)
{
	for (size_t k = 0; k < t->n_index; k++)
		if (!t->l->item[t->index[k]].cls) {
			t->l->item[t->index[k]].out = true;
			ingest_remark(t->l->in, "unlabelled", entry_name(t->l->in, t->index[k]),
			              "pictures not named in the table of labels were left out");
		}
}

enum wasd_status labels_read(struct layout *l, size_t entry, bool *parted, struct wasd_err *err)
{
	char *text = l->in->entry[entry].text;
	struct table t = {.l = l, .entry = entry, .at = text + (past_mark(text) - text), .line = 0};
	if (!wasd_utf8_ok(text, strlen(text)))
		return entry_fail(l->in, entry, err, WASD_EINVAL, "the table of labels is not UTF-8");
	t.comma = separator(t.at);
	enum wasd_status s = only_table(l->in, entry, err);
	if (!s)
		s = read_header(&t, err);
	if (!s && !(s = make_index(&t, err)))
		s = read_rows(&t, err);
	if (!s && t.lost) {
		*err = t.first;
		s = t.first.status;
	}
	if (!s)
		leave_out_rest(&t);
	*parted = t.split >= 0;
	wasd_free(t.index);
	return s;
}
