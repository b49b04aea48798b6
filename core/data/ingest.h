/* data/ingest.h - converts uploaded files to a dataset; private to core/data.
 *
 * Ingest makes two passes over the staged files. The scan lists every entry of every archive, rejects hostile ones
 * (archive.c) and writes nothing. The first row of the format table (formats.c) that claims the listing then plans
 * where each image goes, replays the entries in archive order and puts the images into the writer at their planned
 * places. The result does not depend on the order inside the archive. Entry names are compared and reported, but never
 * used as paths. */
#ifndef DATA_INGEST_H
#define DATA_INGEST_H

#include "data/wds.h"
#include "wasd/foreign.h"

enum {
	INGEST_HEAD = 24,
	INGEST_NAMES_MAX = 16 << 10,
	INGEST_TEXT_MAX = 16 << 20,
	INGEST_TEXTS = 64 << 20
}; /* bytes: of one .txt file, of one .csv file, of all texts kept */

#define INGEST_IGNORED "files that are not images of the data set and are not needed were left out"

struct entry {
	size_t name;               /* offset into names; normalised: no leading "./" */
	uint64_t size;             /* declared; checked against the bytes read */
	int file;                  /* index of the upload */
	uint8_t head[INGEST_HEAD]; /* the first bytes; zero-padded; all zeros for a picture in a zip */
	char *text;                /* content of a .txt or .csv file within the size limits, else NULL */
	bool bare, gz; /* bare: the upload itself, not an archive entry; gz: gzipped, and head holds the unpacked bytes */
	size_t target; /* hard link: offset of the target's name; SIZE_MAX: not a link */
	size_t link,
		next_link; /* hard link: the entry it links to, and the next entry with the same content; SIZE_MAX: none */
};

struct ingest {
	const struct wasd_ingest_file *files;
	int n_files;
	struct wasd_ingest_opts o; /* defaults filled in */
	const char *out_path;
	/* the listing: regular files not ignored, in archive order */
	struct entry *entry;
	size_t n, cap;
	uint64_t texts; /* bytes of text kept so far */
	struct wasd_buf names;
	/* state of the current pass */
	uint64_t unpacked, packed; /* bytes unpacked so far; size of the uploads */
	/* the result */
	const char *format;
	struct wasd_shape given, shape; /* shape of the images put; shape of the images stored */
	uint8_t *sized;                 /* buffer for one stored image; NULL if both shapes are equal */
	int classes;
	struct wasd_dataset_writer *writer;
	uint64_t images, bytes; /* progress: images written, bytes read over all passes */
	bool replaying;
};

static inline const char *entry_name(const struct ingest *in, size_t i)
{
	return in->names.data + in->entry[i].name;
}
const char *entry_base(const struct ingest *in, size_t i); /* the part after the last '/' */
bool name_has(const char *name, const char *part);         /* ignoring ASCII case */
bool is_picture(const char *name);                         /* judged by the extension */
bool is_text(const char *name);                            /* documentation, or class lists for programs */
bool name_ends(const char *name, const char *end);         /* ignoring ASCII case */

/* Fails with an error about entry i: the pointer is its name, made printable. */
enum wasd_status entry_fail(const struct ingest *in, size_t i, struct wasd_err *err, enum wasd_status s,
                            const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Like entry_fail. The message says what the entry is if its first bytes are a known foreign format, else
 * `otherwise`. */
enum wasd_status entry_foreign(const struct ingest *in, size_t i, struct wasd_err *err, const char *otherwise);
/* Sets the pointer of an error that has none to the name of entry i. Returns s. */
enum wasd_status entry_blame(const struct ingest *in, size_t i, struct wasd_err *err, enum wasd_status s);

/* ---- report.c: remarks and culprits for the caller, beside the result ------------------------------ */

/* Counts one more case of `code` (a static string, lower case and underscores). name: the file concerned, or NULL. The
 * text of the first case is kept. A code used during a replay must not be used before the first replay. */
void ingest_remark(struct ingest *in, const char *code, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Counts one more bad file; *err says which one and why. */
void ingest_culprit(struct ingest *in, const struct wasd_err *err);
/* Call before a replay starts over: drops what the last one wrote and remarked. */
void ingest_restart(struct ingest *in);
void ingest_pardon(struct ingest *in); /* drops the culprits */

/* ---- archive.c ------------------------------------------------------------------------------- */

struct stream; /* the content of one entry during a replay */
/* Reads up to n bytes; *got is less only at the end. Errors name the entry. */
enum wasd_status stream_read(struct stream *s, void *p, size_t n, size_t *got, struct wasd_err *err);

enum wasd_status ingest_scan(struct ingest *in, struct wasd_err *err);
/* Calls fn for every listed entry that `wanted` selects (NULL: all), in archive order. fn may stop reading early. */
typedef bool entry_wanted(const void *plan, size_t i);
typedef enum wasd_status entry_fn(void *plan, size_t i, struct stream *s, struct wasd_err *err);
enum wasd_status ingest_replay(struct ingest *in, entry_wanted *wanted, entry_fn *fn, void *plan, struct wasd_err *err);
void ingest_done(struct ingest *in);

/* ---- sets.c, inner.c ------------------------------------------------------------------------------ */

/* WASD_EINVAL, with advice, if the upload is a known kind of set that we cannot read. */
enum wasd_status ingest_known_sets(const struct ingest *in, struct wasd_err *err);
/* ingest_has_inner: whether the upload is an archive whose only file is another archive. ingest_inner writes the inner
 * archive to a file of its own beside out_path (*path, free with wasd_free). */
bool ingest_has_inner(const struct ingest *in);
enum wasd_status ingest_inner(struct ingest *in, char **path, struct wasd_err *err);

/* ---- formats.c -------------------------------------------------------------------------------- */

struct format {
	const char *name;
	bool (*claims)(const struct ingest *in); /* asked in table order; the last row takes everything left */
	/* Plans, begins, replays and puts. The caller finishes the writer. */
	enum wasd_status (*convert)(struct ingest *in, struct wasd_err *err);
};
extern const struct format format_cifar10, format_cifar100, format_idx, format_folder;
const struct format *ingest_format_at(int i); /* NULL after the last row */

/* Announces images of this shape, which are then resized to the size requested. Checks counts and bytes against the
 * limits and creates the writer. */
enum wasd_status ingest_begin(struct ingest *in, struct wasd_shape shape, const char *const *classes, int n_classes,
                              size_t n_train, size_t n_test, struct wasd_err *err);
/* Writes image k of a split, found in entry i (for messages). Also reports progress and checks for cancellation. */
enum wasd_status ingest_put(struct ingest *in, enum wasd_split s, size_t k, const uint8_t *chw, int label, size_t i,
                            struct wasd_err *err);
/* WASD_ECANCELLED once the caller has asked to cancel. */
enum wasd_status ingest_cancelled(const struct ingest *in, struct wasd_err *err);
void ingest_progress(struct ingest *in);

/* ---- source.c: the bytes of one upload, gunzipped ------------------------------------------------ */

struct source;
enum wasd_status source_open(const char *path, struct source **out, struct wasd_err *err);
void source_close(struct source *s);
uint64_t source_size(const struct source *s); /* size of the (compressed) file */
bool source_is_gzip(const struct source *s);
/* Returns a view of the next bytes, valid until the next call; *n = 0 at the end. Verifies the checksum of a gzip
 * file. */
enum wasd_status source_next(struct source *s, const void **p, size_t *n, struct wasd_err *err);
/* Reads the first bytes without consuming them; fewer if the file is shorter. Only before the first source_next. */
enum wasd_status source_peek(struct source *s, uint8_t *head, size_t want, size_t *n, struct wasd_err *err);
/* Only for a file that is not gzipped. */
bool source_seek(struct source *s, int64_t offset, int whence, int64_t *at);

/* Only for a file that is not gzipped. Does not move the position of source_next. False if the file has fewer bytes. */
bool source_read_at(const struct source *s, uint64_t at, void *p, size_t n);

/* Inflates a sequence of gzip members from a reader function. */
struct gunzip;
typedef enum wasd_status gunzip_read(void *ctx, void *p, size_t n, size_t *got, struct wasd_err *err);
struct gunzip *gunzip_create(gunzip_read *read, void *ctx); /* NULL: no memory */
enum wasd_status gunzip_next(struct gunzip *g, void *p, size_t n, size_t *got, struct wasd_err *err);
void gunzip_destroy(struct gunzip *g);

/* ---- rawnames.c: names with a NUL, overlapping zip entries ------------------------------------------- */

enum { RAW_NAME = 200 }; /* room for the offending name, truncated */
/* *unmarked: some names are neither valid UTF-8 nor marked as UTF-8. */
enum wasd_status zip_check_names(struct source *src, char name[RAW_NAME], bool *unmarked, struct wasd_err *err);
struct tar_tap;
struct tar_tap *tar_tap_create(void); /* NULL: no memory */
enum wasd_status tar_tap_feed(struct tar_tap *t, const void *bytes, size_t n, char name[RAW_NAME],
                              struct wasd_err *err);
void tar_tap_destroy(struct tar_tap *t);

#endif
