/* archive.c - reads hostile archives: tar (plain, gz, xz, bz2, zstd), zip, or a bare IDX file as an archive of one
 * entry.
 *
 * It rejects, always naming the entry: anything but regular files and directories; names that are absolute, climb with
 * "..", have empty parts, backslashes, control bytes or invalid UTF-8; two names that are equal or differ only in case;
 * more than a million entries; sizes that do not match; more unpacked bytes than the limit, or more than 200 times the
 * upload; a missing end. libarchive runs with tar and zip only, and each of its warnings counts as an error. */
#include "data/ingest.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	MAX_ENTRIES = 1000000,
	MAX_NAME = 1024,
	RATIO = 200,
	RATIO_FREE = 16 << 20,
	CHUNK = 64 << 10,
	HEAD_CHUNK = 4 << 10
};

struct reader {
	struct ingest *in;
	int file;
	struct source *src;
	struct archive *a; /* NULL: a bare IDX file */
	bool zip, done;
	struct tar_tap *tap; /* NULL: not a tar whose unpacked bytes we see */
	enum wasd_status failed;
	struct wasd_err why; /* error of src or the tap, which libarchive would not report */
	struct archive_entry *e;
	const char *name;   /* name of the current entry */
	char fixed[1200];   /* that name with backslashes turned to slashes, in a zip */
	const char *target; /* target of a hard link */
	int64_t size;       /* declared; -1: unknown */
};

struct stream {
	struct reader *r;
	const void *view;
	size_t view_n;
	uint64_t got;
	bool end;
};

/* ---- names --------------------------------------------------------------------------------- */

const char *entry_base(const struct ingest *in, size_t i)
{
	const char *name = entry_name(in, i), *slash = strrchr(name, '/');
	return slash ? slash + 1 : name;
}

bool name_has(const char *name, const char *part)
{
	return strcasestr(name, part);
}

bool name_ends(const char *name, const char *end)
{
	size_t n = strlen(name), k = strlen(end);
	return n >= k && !strcasecmp(name + n - k, end);
}

bool is_picture(const char *name)
{
	return name_ends(name, ".png") || name_ends(name, ".jpg") || name_ends(name, ".jpeg");
}

/* Texts that may lie beside the pictures: licences, papers, class lists. */
bool is_text(const char *name)
{
	static const char *const ends[] = {".txt",  ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml",   ".xml",
	                                   ".toml", ".md",  ".rst", ".html", ".htm",   ".py",   ".ipynb", ".log",
	                                   ".cfg",  ".ini", ".bib", ".pdf",  ".doc",   ".docx", ".rtf",   ".odt"};
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (name_ends(name, ends[i]))
			return true;
	return false;
}

/* Replaces bytes that a terminal, a log or JSON would not accept by '?'. */
static void printable(char *out, size_t size, const char *name)
{
	size_t n = 0;
	bool utf8 = wasd_utf8_ok(name, strlen(name));
	for (; *name && n + 1 < size; name++)
		out[n++] = (uint8_t)*name < 0x20 || *name == 0x7f || (!utf8 && (uint8_t)*name >= 0x80) ? '?' : *name;
	while (n && utf8 && !wasd_utf8_ok(out, n))
		n--; /* never cut inside a UTF-8 character */
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

enum wasd_status entry_foreign(const struct ingest *in, size_t i, struct wasd_err *err, const char *otherwise)
{
	char text[WASD_FOREIGN_TEXT];
	bool known = wasd_foreign(WASD_READS_IMAGE, in->entry[i].head, sizeof in->entry[i].head, text);
	return entry_fail(in, i, err, WASD_EINVAL, "%s", known ? text : otherwise);
}

enum wasd_status entry_fail(const struct ingest *in, size_t i, struct wasd_err *err, enum wasd_status s,
                            const char *fmt, ...)
{
	char msg[256];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(msg, sizeof msg, fmt, ap);
	va_end(ap);
	wasd_fail(err, s, "%s", msg);
	return entry_blame(in, i, err, s);
}

/* Returns what is wrong with a name, or NULL. */
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

#define MAC_ICON "Icon\r"

/* Files left behind by file managers and editors, and documentation. */
static bool ignored(const char *name)
{
	static const char *const folders[] = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"};
	static const char *const files[] = {"Thumbs.db", "ehthumbs.db", "desktop.ini", "Picasa.ini", MAC_ICON};
	for (const char *p = name; p; p = strchr(p, '/')) {
		p += *p == '/';
		size_t n = strcspn(p, "/");
		if (*p == '.')
			return true;
		for (size_t i = 0; p[n] && i < sizeof folders / sizeof *folders; i++)
			if (strlen(folders[i]) == n && !strncasecmp(p, folders[i], n))
				return true;
		for (size_t i = 0; !p[n] && i < sizeof files / sizeof *files; i++)
			if (!strcasecmp(p, files[i]))
				return true;
		if (!p[n])
			return !strncasecmp(p, "readme", 6) || !strncasecmp(p, "license", 7) || (n && p[n - 1] == '~');
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

/* unpacked: bytes unpacked in this pass, or (from a zip's directory) about to be. */
static enum wasd_status check_unpacked(const struct ingest *in, uint64_t unpacked, struct wasd_err *err)
{
	if (unpacked > in->o.max_bytes)
		return wasd_fail(err, WASD_ETOOBIG, "unpacks to more than the limit of %zu bytes", in->o.max_bytes);
	if (unpacked > RATIO_FREE && unpacked / RATIO > in->packed)
		return wasd_fail(err, WASD_ETOOBIG, "unpacks to more than %d times the %llu bytes uploaded", RATIO,
		                 (unsigned long long)in->packed);
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
	archive_set_error(a, EIO, "source"); /* the reason is in r->why */
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
		blame(&r->why, r->in->files[r->file].name); /* blame the upload, whichever entry was being read */
		if (err)
			*err = r->why;
		return r->failed;
	}
	const char *msg = archive_error_string(r->a);
	bool no_memory = archive_errno(r->a) == ENOMEM || (msg && strstr(msg, "allocate"));
	return wasd_fail(err, no_memory ? WASD_ENOMEM : WASD_ECORRUPT, "%s: %s", what, msg ? msg : "damaged");
}

/* Whether 512 bytes are a tar header: their sum, with the 8 checksum bytes counted as blanks, stands in octal at
 * 148. */
static bool is_tar(const uint8_t *h, size_t n)
{
	unsigned sum = 0, want = 0;
	if (n < 512)
		return false;
	for (size_t i = 0; i < 512; i++)
		sum += i >= 148 && i < 156 ? ' ' : h[i];
	for (size_t i = 148; i < 156 && (h[i] == ' ' || (h[i] >= '0' && h[i] <= '7')); i++)
		want = h[i] == ' ' ? want : want * 8 + (h[i] - '0');
	return sum == want;
}

/* Recognises a bare IDX file by its first bytes. The name counts only where the bytes match no other format, so that a
 * damaged IDX file is rejected as an IDX file. */
static bool looks_like_idx(const uint8_t *head, size_t n, const char *name)
{
	char text[WASD_FOREIGN_TEXT];
	if (n >= 4 && !head[0] && !head[1] && head[2] == 8 && head[3] >= 1 && head[3] <= 4)
		return true;
	return (name_has(name, "-idx") || name_has(name, ".idx")) && !is_tar(head, n) &&
	       !wasd_foreign(WASD_READS_WEIGHTS, head, n, text);
}

static void reader_close(struct reader *r)
{
	archive_read_free(r->a);
	tar_tap_destroy(r->tap);
	source_close(r->src);
}

/* Chooses the encoding of zip names that are neither UTF-8 nor marked as such: old Windows programs use the encoding of
 * the system's language. */
static enum wasd_status choose_names(struct reader *r, struct wasd_err *err)
{
	const char *charset = r->in->o.names ? r->in->o.names : "CP437";
	if (archive_read_set_format_option(r->a, "zip", "hdrcharset", charset) != ARCHIVE_OK)
		return wasd_fail(err, WASD_EUNSUPPORTED, "this machine cannot convert names from %s", charset);
	if (!r->in->replaying)
		ingest_remark(
			r->in, "zip_names", r->in->files[r->file].name,
			"names in the zip archive that are not marked as UTF-8 were read as %s (names=gbk and others choose another)",
			charset);
	return WASD_OK;
}

/* Chooses the formats that libarchive may see in the file, and sets up the checks for what it does not report. "PK" in
 * front: a zip and nothing else. Plain or gzipped: a tar whose blocks we can follow; the other filters hide the blocks
 * from us. */
static enum wasd_status choose_formats(struct reader *r, const uint8_t *head, size_t n, struct wasd_err *err)
{
	static const struct {
		const char *magic;
		size_t n;
		int (*support)(struct archive *a);
	} filters[] = {
		{"\xfd"
	     "7zXZ",
	     5, archive_read_support_filter_xz},
		{"BZh", 3, archive_read_support_filter_bzip2},
		{"\x28\xb5\x2f\xfd", 4, archive_read_support_filter_zstd},
	};
	char name[RAW_NAME];
	bool gzip = source_is_gzip(r->src);
	if (!gzip && n >= 2 && !memcmp(head, "PK", 2)) {
		bool unmarked;
		enum wasd_status s = zip_check_names(r->src, name, &unmarked, err);
		if (s == WASD_EINVAL)
			blame(err, name);
		r->zip = true;
		archive_read_support_format_zip_seekable(r->a);
		archive_read_set_seek_callback(r->a, on_seek);
		return s || (!unmarked && !r->in->o.names) ? s : choose_names(r, err);
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

/* A zip is read through the directory at its end. */
static const char *unreadable(const uint8_t *head, size_t n)
{
	return n >= 4 && !memcmp(head, "PK\3\4", 4) ?
	           "a zip archive without its directory at the end: the file is cut off, send it again" :
	           "neither a tar or zip archive nor an IDX file";
}

static enum wasd_status reader_open(struct reader *r, struct ingest *in, int file, struct wasd_err *err)
{
	uint8_t head[WASD_FOREIGN_HEAD];
	char text[WASD_FOREIGN_TEXT];
	size_t n;
	*r = (struct reader){.in = in, .file = file, .size = -1};
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
	if (!is_tar(head, n) && wasd_foreign(WASD_READS_DATASET, head, n, text) && memcmp(head, "PK", 2)) {
		s = wasd_fail(err, WASD_EINVAL, "%s", text);
		goto fail;
	}
	if ((s = choose_formats(r, head, n, err)))
		goto fail;
	archive_read_set_read_callback(r->a, on_read);
	archive_read_set_callback_data(r->a, r);
	if (archive_read_open1(r->a) == ARCHIVE_OK)
		return WASD_OK;
	s = r->failed || archive_errno(r->a) == ENOMEM ? reader_fail(r, err, "archive") :
	                                                 wasd_fail(err, WASD_EINVAL, "%s", unreadable(head, n));
fail:
	blame(err, in->files[file].name);
	reader_close(r);
	return s;
}

static const char *type_name(const struct archive_entry *e)
{
	switch (archive_entry_filetype((struct archive_entry *)(uintptr_t)e)) {
	case AE_IFLNK:
		return "a symbolic link";
	case AE_IFBLK:
		return "a block device";
	case AE_IFCHR:
		return "a character device";
	case AE_IFIFO:
		return "a named pipe";
	case AE_IFSOCK:
		return "a socket";
	}
	return "an entry of unknown type";
}

/* Windows programs write backslashes into zip names: turns them to slashes. The icon file of a Mac folder ends in a
 * carriage return, which must be recognised before the name is rejected. */
static const char *fix_name(struct reader *r, const char *name)
{
	size_t n = name ? strlen(name) : 0;
	if (!r->zip || !n || n >= sizeof r->fixed)
		return name;
	for (size_t i = 0; i <= n; i++)
		r->fixed[i] = name[i] == '\\' ? '/' : name[i];
	return r->fixed;
}

static bool is_mac_icon(const char *name)
{
	return name && (!strcmp(name, MAC_ICON) || name_ends(name, "/" MAC_ICON)) &&
	       strcspn(name, "\r") + 1 == strlen(name);
}

static enum wasd_status check_entry(struct reader *r, struct wasd_err *err)
{
	char cut[MAX_NAME];
	bool icon = is_mac_icon(r->name) && strlen(r->name) < sizeof cut;
	if (icon)
		snprintf(cut, sizeof cut, "%.*s", (int)strlen(r->name) - 1, r->name);
	const char *fault = name_fault(icon ? cut : r->name);
	if (fault)
		return wasd_fail(err, WASD_EINVAL, "%s", fault);
	r->target = archive_entry_hardlink(r->e);
	if (r->target && archive_entry_size_is_set(r->e) && archive_entry_size(r->e))
		return wasd_fail(err, WASD_EINVAL, "a hard link with content of its own");
	if (r->target)
		return WASD_OK;
	if (archive_entry_filetype(r->e) == AE_IFDIR)
		return WASD_OK;
	if (archive_entry_filetype(r->e) != AE_IFREG)
		return wasd_fail(err, WASD_EINVAL, "%s; only regular files are accepted", type_name(r->e));
	if (archive_entry_is_encrypted(r->e) > 0)
		return wasd_fail(err, WASD_EINVAL, "encrypted");
	if (archive_entry_sparse_count(r->e))
		return wasd_fail(err, WASD_EINVAL, "a sparse file");
	if (!archive_entry_size_is_set(r->e))
		return wasd_fail(err, WASD_ECORRUPT, "no size");
	r->size = archive_entry_size(r->e);
	return r->size < 0 ? wasd_fail(err, WASD_ECORRUPT, "a negative size") : WASD_OK;
}

/* After the last entry of a tar come two blocks of zeros (one is enough for us); without them the file was cut between
 * two entries. Then comes the rest of a gzip file, whose checksum is last. */
static enum wasd_status check_end(struct reader *r, struct wasd_err *err)
{
	const void *p;
	size_t n = 1;
	enum wasd_status s = WASD_OK;
	if (!r->zip && archive_filter_bytes(r->a, 0) - archive_read_header_position(r->a) < 512)
		s = wasd_fail(err, WASD_ECORRUPT, "the tar archive has no end marker: it is cut off");
	while (!s && n && source_is_gzip(r->src))
		if (!(s = source_next(r->src, &p, &n, err)))
			s = account(r->in, n, err);
	if (s)
		blame(err, r->in->files[r->file].name);
	return s;
}

/* Advances to the next regular file not ignored; *more is false after the last one. */
static enum wasd_status reader_next(struct reader *r, size_t *entries, bool *more, struct wasd_err *err)
{
	enum wasd_status s;
	*more = false;
	if (!r->a) { /* a bare file is one entry, named by the client */
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
		r->name = e >= ARCHIVE_WARN ? fix_name(r, archive_entry_pathname(r->e)) : NULL;
		r->size = -1;
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
		if (!r->target && (archive_entry_filetype(r->e) != AE_IFREG || (r->zip && !r->size && name_ends(r->name, "/"))))
			continue;
		if (!ignored(r->name)) {
			*more = true;
			return WASD_OK;
		}
		if (!r->in->replaying)
			ingest_remark(r->in, "ignored", r->name, "%s", INGEST_IGNORED);
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
			e = wasd_fail(err, WASD_ECORRUPT, "%s %llu bytes, but its header says %lld",
			              s->end ? "has" : "has more than", (unsigned long long)s->got, (long long)s->r->size);
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
	in->entry[in->n] = (struct entry){.name = in->names.len,
	                                  .file = r->file,
	                                  .size = r->size < 0 ? 0 : (uint64_t)r->size,
	                                  .bare = !r->a,
	                                  .target = SIZE_MAX,
	                                  .link = SIZE_MAX,
	                                  .next_link = SIZE_MAX};
	bool ok = wasd_buf_append(&in->names, r->name, strlen(r->name) + 1);
	if (r->target) {
		const char *t = r->target + (strncmp(r->target, "./", 2) ? 0 : 2);
		in->entry[in->n].target = in->names.len;
		ok = ok && wasd_buf_append(&in->names, t, strlen(t) + 1);
	}
	if (!ok)
		return wasd_fail(err, WASD_ENOMEM, "no memory to list %zu names", in->n);
	in->n++;
	return WASD_OK;
}

/* Keeps whole texts that a format may need: a table of labels, class names. */
static bool keeps_text(const struct ingest *in, const struct reader *r)
{
	int64_t most = name_ends(r->name, ".csv") ? INGEST_TEXT_MAX : name_ends(r->name, ".txt") ? INGEST_NAMES_MAX : -1;
	return r->size >= 0 && r->size <= most && in->texts + (uint64_t)r->size <= INGEST_TEXTS;
}

static enum wasd_status keep_text(struct ingest *in, struct entry *e, struct stream *s, struct wasd_err *err)
{
	size_t n = (size_t)s->r->size, got;
	if (!(e->text = wasd_malloc(n + 1)))
		return wasd_fail(err, WASD_ENOMEM, "no memory for %zu bytes", n);
	in->texts += n;
	enum wasd_status st = stream_read_raw(s, e->text, n + 1, &got, err);
	e->text[st ? 0 : got] = 0;
	memcpy(e->head, e->text, got < sizeof e->head ? got : sizeof e->head);
	return st;
}

struct bytes {
	const char *p;
	size_t n;
};

static enum wasd_status from_bytes(void *ctx, void *p, size_t n, size_t *got, struct wasd_err *err)
{
	struct bytes *b = ctx;
	(void)err;
	*got = n < b->n ? n : b->n;
	memcpy(p, b->p, *got);
	b->p += *got, b->n -= *got;
	return WASD_OK;
}

/* Keeps the first bytes, unpacked if they are gzipped. Damage is reported when the entry is read. */
static enum wasd_status keep_head(struct entry *e, const char *buf, size_t n, struct wasd_err *err)
{
	struct bytes b = {buf, n};
	size_t got;
	memcpy(e->head, buf, n < sizeof e->head ? n : sizeof e->head);
	e->gz = n >= 2 && !memcmp(buf, "\x1f\x8b", 2);
	if (!e->gz)
		return WASD_OK;
	struct gunzip *g = gunzip_create(from_bytes, &b);
	if (!g)
		return wasd_fail(err, WASD_ENOMEM, "no memory to unpack gzip");
	uint8_t head[INGEST_HEAD];
	if (!gunzip_next(g, head, sizeof head, &got, NULL) && got == sizeof head)
		memcpy(e->head, head, sizeof head);
	gunzip_destroy(g);
	return WASD_OK;
}

/* Reads an entry to its end and keeps what the formats look at. A zip entry is skipped by seeking: its sizes are in the
 * directory. */
static enum wasd_status scan_content(struct ingest *in, struct reader *r, uint64_t *declared, char *buf,
                                     struct wasd_err *err)
{
	struct entry *e = &in->entry[in->n - 1];
	struct stream s = {.r = r};
	size_t got;
	enum wasd_status st = WASD_OK;
	*declared += (uint64_t)(r->size < 0 ? 0 : r->size);
	if ((st = check_unpacked(in, *declared, err)) || r->target)
		return st;
	if (keeps_text(in, r))
		st = keep_text(in, e, &s, err);
	else if (r->zip && is_picture(r->name))
		return WASD_OK;
	else if (!(st = stream_read_raw(&s, buf, HEAD_CHUNK, &got, err)))
		st = keep_head(e, buf, got, err);
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

/* Returns the entry with this name; SIZE_MAX: none. order: sorted by case-folded name. */
static size_t find_entry(const struct ingest *in, const size_t *order, const char *name)
{
	size_t lo = 0, hi = in->n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (strcasecmp(entry_name(in, order[mid]), name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < in->n && !strcmp(entry_name(in, order[lo]), name) ? order[lo] : SIZE_MAX;
}

/* A hard link must refer to an earlier entry of the same archive. */
static enum wasd_status resolve_links(struct ingest *in, const size_t *order, struct wasd_err *err)
{
	for (size_t i = 0; i < in->n; i++) {
		struct entry *e = &in->entry[i];
		if (e->target == SIZE_MAX)
			continue;
		size_t to = find_entry(in, order, in->names.data + e->target);
		if (to == SIZE_MAX || to >= i || in->entry[to].file != e->file)
			return entry_fail(in, i, err, WASD_EINVAL, "a hard link to something that is not earlier in the archive");
		to = in->entry[to].link == SIZE_MAX ? to : in->entry[to].link;
		e->link = to;
		e->size = in->entry[to].size;
		memcpy(e->head, in->entry[to].head, sizeof e->head);
		e->gz = in->entry[to].gz;
		e->next_link = in->entry[to].next_link;
		in->entry[to].next_link = i;
	}
	return WASD_OK;
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
			s = strcmp(a, b) ? entry_fail(in, order[i], err, WASD_EINVAL, "differs only in case from %.100s", a) :
			                   entry_fail(in, order[i], err, WASD_EINVAL, "occurs twice in the archive");
	}
	if (!s)
		s = resolve_links(in, order, err);
	wasd_free(order);
	return s;
}

/* Names are UTF-8 whatever the daemon's locale is; libarchive uses the locale of the thread. */
struct utf8_scope {
	locale_t mine, old;
};
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

static enum wasd_status scan_file(struct ingest *in, int file, size_t *entries, uint64_t *declared, char *buf,
                                  struct wasd_err *err)
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
	bool inner = in->packed; /* the outer archive has been counted already */
	for (int f = 0; f < in->n_files && !s && !inner; f++) {
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
	wasd_free(in->sized);
	wasd_dataset_writer_abort(in->writer);
}

/* ---- the replay ------------------------------------------------------------------------------- */

static enum wasd_status replay_file(struct ingest *in, int file, size_t *i, entry_wanted *wanted, entry_fn *fn,
                                    void *plan, struct wasd_err *err)
{
	struct reader r;
	bool more;
	size_t entries = 0;
	enum wasd_status s = reader_open(&r, in, file, err);
	if (s)
		return s;
	while (!(s = reader_next(&r, &entries, &more, err)) && more) {
		struct stream st = {.r = &r};
		if (*i >= in->n || in->entry[*i].file != file || strcmp(entry_name(in, *i), r.name)) {
			s = wasd_fail_at(err, WASD_ECORRUPT, in->files[file].name, "the upload changed while it was being read");
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
