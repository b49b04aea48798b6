/* archive.c - reading hostile archives: tar (plain, gz, xz, bz2, zstd), zip, or a bare IDX file as an archive of one entry.
 *
 * What is refused, always with the entry's name: anything but regular files and directories; names that are absolute, climb with
 * "..", have empty parts, backslashes, control bytes or no valid UTF-8; two names that are equal or differ in case only; more than
 * a million entries; sizes that do not match; more unpacked bytes than the limit, or than 200 times the upload; a missing end.
 * libarchive runs with tar and zip only, and each of its warnings is an error. */
#include "data/ingest.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_ENTRIES = 1000000, MAX_NAME = 1024, RATIO = 200, RATIO_FREE = 16 << 20, CHUNK = 64 << 10 };

struct reader {
	struct ingest *in;
	int file;
	struct source *src;
	struct archive *a;                          /* NULL: a bare IDX file */
	bool zip, done;
	struct tar_tap *tap;                        /* NULL: not a tar that we see unpacked */
	enum wasd_status failed; struct wasd_err why;       /* of src or the tap, behind libarchive's back */
	struct archive_entry *e;
	const char *name;                           /* of the present entry, as sent */
	int64_t size;                               /* declared; -1 unknown */
};

struct stream { struct reader *r; const void *view; size_t view_n; uint64_t got; bool end; };

/* ---- names --------------------------------------------------------------------------------- */

const char *entry_base(const struct ingest *in, size_t i)
{
	const char *name = entry_name(in, i), *slash = strrchr(name, '/');
	return slash ? slash + 1 : name;
}

bool name_has(const char *name, const char *part) { return strcasestr(name, part); }

bool name_ends(const char *name, const char *end)
{
	size_t n = strlen(name), k = strlen(end);
	return n >= k && !strcasecmp(name + n - k, end);
}

/* Bytes that a terminal, a log or JSON would not take become '?'. */
static void printable(char *out, size_t size, const char *name)
{
	size_t n = 0;
	bool utf8 = wasd_utf8_ok(name, strlen(name));
	for (; *name && n + 1 < size; name++)
		out[n++] = (uint8_t)*name < 0x20 || *name == 0x7f || (!utf8 && (uint8_t)*name >= 0x80) ? '?' : *name;
	while (n && utf8 && !wasd_utf8_ok(out, n))
		n--;                                /* cut inside a character */
	out[n] = 0;
}

static void blame(struct wasd_err *err, const char *name)
{
	if (err && !err->pointer[0])
		printable(err->pointer, sizeof err->pointer, name);
}

enum wasd_status entry_blame(const struct ingest *in, size_t i, struct wasd_err *err, enum wasd_status s)
{
	if (s)
		blame(err, entry_name(in, i));
	return s;
}

enum wasd_status entry_fail(const struct ingest *in, size_t i, struct wasd_err *err, enum wasd_status s, const char *fmt, ...)
{
	char msg[256];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(msg, sizeof msg, fmt, ap);
	va_end(ap);
	wasd_fail(err, s, "%s", msg);
	return entry_blame(in, i, err, s);
}

/* What is wrong with a name, or NULL. */
static const char *name_fault(const char *name)
{
	size_t n = name ? strlen(name) : 0;
	if (!n)
		return "an entry without a name";
	if (n > MAX_NAME)
		return "a name of more than 1024 bytes";
	for (const char *p = name; *p; p++)
		if ((uint8_t)*p < 0x20 || *p == 0x7f)
			return "a control character in a name";
	if (!wasd_utf8_ok(name, n))
		return "a name that is not UTF-8";
	if (strchr(name, '\\'))
		return "a backslash in a name";
	if (name[0] == '/' || (n > 1 && name[1] == ':'))
		return "an absolute name";
	while (!strncmp(name, "./", 2))
		name += 2;
	for (const char *p = name; *p;) {
		size_t k = strcspn(p, "/");
		if (!k)
			return "an empty part in a name";
		if (k == 2 && !strncmp(p, "..", 2))
			return "\"..\" in a name";
		if (k == 1 && *p == '.' && name[1])
			return "\".\" inside a name";
		p += k + (p[k] == '/');
	}
	return NULL;
}

/* Droppings of file managers, and texts for people. */
static bool ignored(const char *name)
{
	if (!strncmp(name, "__MACOSX/", 9))
		return true;
	for (const char *p = name; p; p = strchr(p, '/')) {
		p += *p == '/';
		if (*p == '.')
			return true;
		if (!strchr(p, '/'))
			return !strncasecmp(p, "readme", 6) || !strncasecmp(p, "license", 7) || !strcasecmp(p, "thumbs.db") || !strcasecmp(p, "desktop.ini");
	}
	return false;
}

/* ---- limits ---------------------------------------------------------------------------------- */

enum wasd_status ingest_cancelled(const struct ingest *in, struct wasd_err *err)
{
	return in->o.cancelled && in->o.cancelled(in->o.ctx) ? wasd_fail(err, WASD_ECANCELLED, "cancelled") : WASD_OK;
}

void ingest_progress(struct ingest *in)
{
	if (in->o.progress)
		in->o.progress(in->o.ctx, in->images, in->bytes);
}

/* `unpacked` bytes have come out in this pass, or (a zip's directory) are about to. */
static enum wasd_status check_unpacked(const struct ingest *in, uint64_t unpacked, struct wasd_err *err)
{
	if (unpacked > in->o.max_bytes)
		return wasd_fail(err, WASD_ETOOBIG, "unpacks to more than the limit of %zu bytes", in->o.max_bytes);
	if (unpacked > RATIO_FREE && unpacked / RATIO > in->packed)
		return wasd_fail(err, WASD_ETOOBIG, "unpacks to more than %d times the %llu bytes that were sent", RATIO, (unsigned long long)in->packed);
	return WASD_OK;
}

static enum wasd_status account(struct ingest *in, size_t n, struct wasd_err *err)
{
	in->unpacked += n;
	in->bytes += n;
	ingest_progress(in);
	enum wasd_status s = check_unpacked(in, in->unpacked, err);
	return s ? s : ingest_cancelled(in, err);
}

/* ---- libarchive on a source -------------------------------------------------------------------- */

static la_ssize_t on_read(struct archive *a, void *ctx, const void **p)
{
	struct reader *r = ctx;
	size_t n = 0;
	char name[RAW_NAME];
	if (!r->failed)
		r->failed = source_next(r->src, p, &n, &r->why);
	if (!r->failed && r->tap && (r->failed = tar_tap_feed(r->tap, *p, n, name, &r->why)) == WASD_EINVAL)
		blame(&r->why, name);
	if (!r->failed)
		return (la_ssize_t)n;
	archive_set_error(a, EIO, "source");        /* the reason is in r->why */
	return -1;
}

static la_int64_t on_seek(struct archive *a, void *ctx, la_int64_t offset, int whence)
{
	struct reader *r = ctx;
	int64_t at;
	(void)a;
	return source_seek(r->src, offset, whence, &at) ? at : ARCHIVE_FATAL;
}

static enum wasd_status reader_fail(struct reader *r, struct wasd_err *err, const char *what)
{
	if (r->failed) {
		if (err)
			*err = r->why;
		return r->failed;
	}
	const char *msg = archive_error_string(r->a);
	bool no_memory = archive_errno(r->a) == ENOMEM || (msg && strstr(msg, "allocate"));
	return wasd_fail(err, no_memory ? WASD_ENOMEM : WASD_ECORRUPT, "%s: %s", what, msg ? msg : "damaged");
}

static bool looks_like_idx(const uint8_t *head, size_t n, const char *name)
{
	return (n >= 4 && !head[0] && !head[1] && head[2] == 8 && head[3] >= 1 && head[3] <= 4) || name_has(name, "-idx") || name_has(name, ".idx");
}

static void reader_close(struct reader *r)
{
	archive_read_free(r->a);
	tar_tap_destroy(r->tap);
	source_close(r->src);
}

/* Chooses what libarchive may see in the file, and watches for what it would not show. "PK" in front: a zip and nothing else. Plain
 * or gzipped: a tar, whose blocks we can follow; the other filters hide them from us. */
static enum wasd_status choose_formats(struct reader *r, const uint8_t *head, size_t n, struct wasd_err *err)
{
	static const struct { const char *magic; size_t n; int (*support)(struct archive *a); } filters[] = {
		{ "\xfd" "7zXZ", 5, archive_read_support_filter_xz }, { "BZh", 3, archive_read_support_filter_bzip2 },
		{ "\x28\xb5\x2f\xfd", 4, archive_read_support_filter_zstd },
	};
	char name[RAW_NAME];
	bool gzip = source_is_gzip(r->src);
	if (!gzip && n >= 2 && !memcmp(head, "PK", 2)) {
		enum wasd_status s = zip_check_names(r->src, name, err);
		if (s == WASD_EINVAL)
			blame(err, name);
		r->zip = true;
		archive_read_support_format_zip_seekable(r->a);
		archive_read_set_seek_callback(r->a, on_seek);
		return s;
	}
	archive_read_support_format_tar(r->a);
	for (size_t i = 0; i < sizeof filters / sizeof *filters && !gzip; i++)
		if (n >= filters[i].n && !memcmp(head, filters[i].magic, filters[i].n)) {
			filters[i].support(r->a);
			return WASD_OK;
		}
	r->tap = tar_tap_create();
	return r->tap ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory");
}

static enum wasd_status reader_open(struct reader *r, struct ingest *in, int file, struct wasd_err *err)
{
	uint8_t head[8];
	size_t n;
	*r = (struct reader){ .in = in, .file = file, .size = -1 };
	enum wasd_status s = source_open(in->files[file].path, &r->src, err);
	if (s || (s = source_peek(r->src, head, sizeof head, &n, err)))
		goto fail;
	if (!n) {
		s = wasd_fail(err, WASD_ECORRUPT, "empty file");
		goto fail;
	}
	if (looks_like_idx(head, n, in->files[file].name))
		return WASD_OK;
	r->a = archive_read_new();
	if (!r->a) {
		s = wasd_fail(err, WASD_ENOMEM, "no memory for the archive reader");
		goto fail;
	}
	if ((s = choose_formats(r, head, n, err)))
		goto fail;
	archive_read_set_read_callback(r->a, on_read);
	archive_read_set_callback_data(r->a, r);
	if (archive_read_open1(r->a) == ARCHIVE_OK)
		return WASD_OK;
	s = r->failed || archive_errno(r->a) == ENOMEM ? reader_fail(r, err, "archive")
	                                               : wasd_fail(err, WASD_EINVAL, "neither a tar or zip archive nor an IDX file");
fail:
	blame(err, in->files[file].name);
	reader_close(r);
	return s;
}

static const char *type_name(const struct archive_entry *e)
{
	switch (archive_entry_filetype((struct archive_entry *)(uintptr_t)e)) {
	case AE_IFLNK: return "a symbolic link";
	case AE_IFBLK: return "a block device";
	case AE_IFCHR: return "a character device";
	case AE_IFIFO: return "a named pipe";
	case AE_IFSOCK: return "a socket";
	}
	return "an entry of unknown type";
}

static enum wasd_status check_entry(struct reader *r, struct wasd_err *err)
{
	const char *fault = name_fault(r->name);
	if (fault)
		return wasd_fail(err, WASD_EINVAL, "%s", fault);
	if (archive_entry_hardlink(r->e))
		return wasd_fail(err, WASD_EINVAL, "a hard link; only regular files are taken");
	if (archive_entry_filetype(r->e) == AE_IFDIR)
		return WASD_OK;
	if (archive_entry_filetype(r->e) != AE_IFREG)
		return wasd_fail(err, WASD_EINVAL, "%s; only regular files are taken", type_name(r->e));
	if (archive_entry_is_encrypted(r->e) > 0)
		return wasd_fail(err, WASD_EINVAL, "encrypted");
	if (archive_entry_sparse_count(r->e))
		return wasd_fail(err, WASD_EINVAL, "a sparse file");
	if (!archive_entry_size_is_set(r->e))
		return wasd_fail(err, WASD_ECORRUPT, "no size");
	r->size = archive_entry_size(r->e);
	return r->size < 0 ? wasd_fail(err, WASD_ECORRUPT, "a negative size") : WASD_OK;
}

/* After the last entry of a tar: two blocks of zeros (one is enough for us), or it was cut between two entries. Then the rest of a
 * gzip file, whose checksum comes last. */
static enum wasd_status check_end(struct reader *r, struct wasd_err *err)
{
	const void *p;
	size_t n = 1;
	enum wasd_status s = WASD_OK;
	if (!r->zip && archive_filter_bytes(r->a, 0) - archive_read_header_position(r->a) < 512)
		s = wasd_fail(err, WASD_ECORRUPT, "the tar archive has no end mark: it is cut off");
	while (!s && n && source_is_gzip(r->src))
		if (!(s = source_next(r->src, &p, &n, err)))
			s = account(r->in, n, err);
	if (s)
		blame(err, r->in->files[r->file].name);
	return s;
}

/* The next regular, not ignored entry; *more false after the last. */
static enum wasd_status reader_next(struct reader *r, size_t *entries, bool *more, struct wasd_err *err)
{
	enum wasd_status s;
	*more = false;
	if (!r->a) {                                /* bare file: one entry, named by the client */
		*more = !r->done;
		r->done = true;
		r->name = r->in->files[r->file].name[0] ? r->in->files[r->file].name : "(unnamed)";
		const char *slash = strrchr(r->name, '/');
		r->name = slash ? slash + 1 : r->name;
		const char *fault = *more ? name_fault(r->name) : NULL;
		++*entries;
		if (!fault)
			return WASD_OK;
		s = wasd_fail(err, WASD_EINVAL, "%s", fault);
		blame(err, r->name);
		return s;
	}
	for (;;) {
		int e = archive_read_next_header(r->a, &r->e);
		if (e == ARCHIVE_EOF)
			return check_end(r, err);
		r->name = e >= ARCHIVE_WARN ? archive_entry_pathname(r->e) : NULL;
		s = e == ARCHIVE_OK ? check_entry(r, err) : reader_fail(r, err, "archive");
		if (s) {
			blame(err, r->name && *r->name ? r->name : r->in->files[r->file].name);
			return s;
		}
		if (++*entries > MAX_ENTRIES) {
			s = wasd_fail(err, WASD_ETOOBIG, "more than %d entries", MAX_ENTRIES);
			blame(err, r->in->files[r->file].name);
			return s;
		}
		if ((s = account(r->in, 0, err))) {
			blame(err, r->name);
			return s;
		}
		while (!strncmp(r->name, "./", 2))
			r->name += 2;
		if (archive_entry_filetype(r->e) == AE_IFREG && !ignored(r->name)) {
			*more = true;
			return WASD_OK;
		}
	}
}

/* ---- the content of an entry ------------------------------------------------------------------ */

static enum wasd_status read_some(struct stream *s, void *p, size_t n, size_t *got, struct wasd_err *err)
{
	struct reader *r = s->r;
	if (r->a) {
		la_ssize_t k = archive_read_data(r->a, p, n);
		if (k < 0)
			return reader_fail(r, err, "content");
		*got = (size_t)k;
		return WASD_OK;
	}
	if (!s->view_n) {
		enum wasd_status e = source_next(r->src, &s->view, &s->view_n, err);
		if (e)
			return e;
	}
	*got = n < s->view_n ? n : s->view_n;
	memcpy(p, s->view, *got);
	s->view = (const char *)s->view + *got;
	s->view_n -= *got;
	return WASD_OK;
}

static enum wasd_status stream_read_raw(struct stream *s, void *p, size_t n, size_t *got, struct wasd_err *err)
{
	enum wasd_status e = WASD_OK;
	*got = 0;
	while (*got < n && !s->end && !e) {
		size_t k = 0;
		if ((e = read_some(s, (char *)p + *got, n - *got, &k, err)) || (e = account(s->r->in, k, err)))
			break;
		*got += k;
		s->got += k;
		s->end = !k;
		if (s->r->size >= 0 && (s->end ? s->got != (uint64_t)s->r->size : s->got > (uint64_t)s->r->size))
			e = wasd_fail(err, WASD_ECORRUPT, "%s %llu bytes, its header promises %lld", s->end ? "has" : "has more than",
			              (unsigned long long)s->got, (long long)s->r->size);
	}
	return e;
}

enum wasd_status stream_read(struct stream *s, void *p, size_t n, size_t *got, struct wasd_err *err)
{
	enum wasd_status e = stream_read_raw(s, p, n, got, err);
	if (e)
		blame(err, s->r->name);
	return e;
}

/* ---- the scan --------------------------------------------------------------------------------- */

static enum wasd_status list_entry(struct ingest *in, const struct reader *r, struct wasd_err *err)
{
	if (in->n == in->cap) {
		size_t cap = in->cap ? 2 * in->cap : 256;
		struct entry *p = wasd_realloc(in->entry, cap * sizeof *p);
		if (!p)
			return wasd_fail(err, WASD_ENOMEM, "no memory to list %zu entries", cap);
		in->entry = p, in->cap = cap;
	}
	in->entry[in->n] = (struct entry){ .name = in->names.len, .file = r->file, .size = r->size < 0 ? 0 : (uint64_t)r->size };
	if (!wasd_buf_append(&in->names, r->name, strlen(r->name) + 1))
		return wasd_fail(err, WASD_ENOMEM, "no memory to list %zu names", in->n);
	in->n++;
	return WASD_OK;
}

/* Reads an entry to its end (a zip's is skipped by seeking: its sizes are in the directory), keeping what formats look at. */
static enum wasd_status scan_content(struct ingest *in, struct reader *r, uint64_t *declared, char *buf, struct wasd_err *err)
{
	struct entry *e = &in->entry[in->n - 1];
	struct stream s = { .r = r };
	bool keep = r->size >= 0 && r->size <= INGEST_TEXT_MAX && in->texts < INGEST_TEXTS && name_ends(r->name, ".txt");
	size_t got, first = keep ? INGEST_TEXT_MAX : sizeof e->head;
	enum wasd_status st = WASD_OK;
	*declared += (uint64_t)(r->size < 0 ? 0 : r->size);
	if ((st = check_unpacked(in, *declared, err)))
		return st;
	if (!keep && r->zip && in->n > INGEST_HEADS)
		return WASD_OK;
	if ((st = stream_read_raw(&s, buf, first, &got, err)))
		return st;
	memcpy(e->head, buf, got < sizeof e->head ? got : sizeof e->head);
	if (keep && !(e->text = wasd_strndup(buf, got)))
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu bytes", got);
	in->texts += keep;
	while (!st && !s.end && !r->zip)
		st = stream_read_raw(&s, buf, CHUNK, &got, err);
	if (!r->zip)
		e->size = s.got;
	return st;
}

static int by_folded_name(const void *a, const void *b, void *ctx)
{
	const struct ingest *in = ctx;
	size_t i = *(const size_t *)a, j = *(const size_t *)b;
	int c = strcasecmp(entry_name(in, i), entry_name(in, j));
	return c ? c : i < j ? -1 : 1;
}

static enum wasd_status check_collisions(struct ingest *in, struct wasd_err *err)
{
	size_t *order = wasd_calloc(in->n + 1, sizeof *order);
	enum wasd_status s = order ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory to sort %zu names", in->n);
	for (size_t i = 0; !s && i < in->n; i++)
		order[i] = i;
	if (!s)
		qsort_r(order, in->n, sizeof *order, by_folded_name, in);
	for (size_t i = 1; !s && i < in->n; i++) {
		const char *a = entry_name(in, order[i - 1]), *b = entry_name(in, order[i]);
		if (!strcasecmp(a, b))
			s = strcmp(a, b) ? entry_fail(in, order[i], err, WASD_EINVAL, "differs in upper and lower case only from %.100s", a)
			                 : entry_fail(in, order[i], err, WASD_EINVAL, "twice in the archive");
	}
	wasd_free(order);
	return s;
}

/* Names are UTF-8 whatever the daemon's locale is; libarchive asks the thread's. */
struct utf8_scope { locale_t mine, old; };
static void utf8_begin(struct utf8_scope *u)
{
	u->mine = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	u->old = u->mine ? uselocale(u->mine) : (locale_t)0;
}
static void utf8_end(struct utf8_scope *u)
{
	if (!u->mine)
		return;
	uselocale(u->old);
	freelocale(u->mine);
}

static enum wasd_status scan_file(struct ingest *in, int file, size_t *entries, uint64_t *declared, char *buf, struct wasd_err *err)
{
	struct reader r;
	bool more;
	enum wasd_status s = reader_open(&r, in, file, err);
	if (s)
		return s;
	while (!(s = reader_next(&r, entries, &more, err)) && more) {
		if ((s = list_entry(in, &r, err)) || (s = scan_content(in, &r, declared, buf, err))) {
			blame(err, r.name);
			break;
		}
	}
	reader_close(&r);
	return s;
}

enum wasd_status ingest_scan(struct ingest *in, struct wasd_err *err)
{
	struct utf8_scope u;
	enum wasd_status s = WASD_OK;
	size_t entries = 0;
	uint64_t declared = 0;
	char *buf = wasd_malloc(CHUNK);
	if (!buf)
		return wasd_fail(err, WASD_ENOMEM, "no memory");
	for (int f = 0; f < in->n_files && !s; f++) {
		struct source *src;
		if ((s = source_open(in->files[f].path, &src, err)))
			blame(err, in->files[f].name);
		else {
			in->packed += source_size(src);
			source_close(src);
		}
	}
	utf8_begin(&u);
	for (int f = 0; f < in->n_files && !s; f++)
		s = scan_file(in, f, &entries, &declared, buf, err);
	utf8_end(&u);
	wasd_free(buf);
	return s ? s : check_collisions(in, err);
}

void ingest_done(struct ingest *in)
{
	for (size_t i = 0; i < in->n; i++)
		wasd_free(in->entry[i].text);
	wasd_free(in->entry);
	wasd_buf_done(&in->names);
	wasd_dataset_writer_abort(in->writer);
}

/* ---- the replay ------------------------------------------------------------------------------- */

static enum wasd_status replay_file(struct ingest *in, int file, size_t *i, entry_wanted *wanted, entry_fn *fn, void *plan, struct wasd_err *err)
{
	struct reader r;
	bool more;
	size_t entries = 0;
	enum wasd_status s = reader_open(&r, in, file, err);
	if (s)
		return s;
	while (!(s = reader_next(&r, &entries, &more, err)) && more) {
		struct stream st = { .r = &r };
		if (*i >= in->n || in->entry[*i].file != file || strcmp(entry_name(in, *i), r.name)) {
			s = wasd_fail_at(err, WASD_ECORRUPT, in->files[file].name, "the upload changed while it was read");
			break;
		}
		if ((!wanted || wanted(plan, *i)) && (s = fn(plan, *i, &st, err)))
			break;
		++*i;
	}
	reader_close(&r);
	return s;
}

enum wasd_status ingest_replay(struct ingest *in, entry_wanted *wanted, entry_fn *fn, void *plan, struct wasd_err *err)
{
	struct utf8_scope u;
	enum wasd_status s = WASD_OK;
	size_t i = 0;
	in->unpacked = 0;
	in->replaying = true;
	utf8_begin(&u);
	for (int f = 0; f < in->n_files && !s; f++) {
		size_t last = i;
		bool any = false;
		for (; last < in->n && in->entry[last].file == f; last++)
			any = any || !wanted || wanted(plan, last);
		if (any)
			s = replay_file(in, f, &i, wanted, fn, plan, err);
		else
			i = last;
	}
	utf8_end(&u);
	return s;
}
