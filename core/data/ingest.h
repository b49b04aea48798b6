/* data/ingest.h - from uploaded files to a dataset, inside core/data.
 *
 * Two passes over the staged files. The scan lists every entry of every archive, refuses what is hostile (archive.c)
 * and writes nothing. Then the row of the format table (formats.c) that claims the listing plans where each image goes
 * and replays the entries in archive order, putting images into the writer at their planned places: the result does not
 * depend on the order inside the archive. Names of entries are compared and reported, never used as paths. */
#ifndef DATA_INGEST_H
#define DATA_INGEST_H

#include "data/wds.h"
#include "wasd/foreign.h"

enum {
	INGEST_HEAD = 24,
	INGEST_NAMES_MAX = 16 << 10,
	INGEST_TEXT_MAX = 16 << 20,
	INGEST_TEXTS = 64 << 20
}; /* bytes of one .txt, of one .csv, of all that are kept */

#define INGEST_IGNORED "files that hold no images of the data set and are not needed were left out"

struct entry {
	size_t name;               /* offset into names; normalised: no leading "./" */
	uint64_t size;             /* as declared; checked against what is read */
	int file;                  /* index of the upload */
	uint8_t head[INGEST_HEAD]; /* first bytes, as far as there are; zeros for a picture in a zip */
	char *text;                /* whole content of a .txt or .csv file that is not too large, else NULL */
	bool bare, gz;             /* an upload that is no archive; gzipped, and head is of what is inside */
	size_t target;             /* hard link: offset of the name that it gives; SIZE_MAX: none */
	size_t link,
		next_link; /* hard link: the entry whose content it has; and the next one with this content. SIZE_MAX: none */
};

struct ingest {
	const struct wasd_ingest_file *files;
	int n_files;
	struct wasd_ingest_opts o; /* defaults filled in */
	const char *out_path;
	/* the listing: regular files that are not ignored, in archive order */
	struct entry *entry;
	size_t n, cap;
	uint64_t texts; /* bytes kept of texts */
	struct wasd_buf names;
	/* this pass */
	uint64_t unpacked, packed; /* bytes that came out of archives; size of the uploads */
	/* the result */
	const char *format;
	struct wasd_shape given, shape; /* of the images that are put; of those in the dataset */
	uint8_t *sized;                 /* one image of the latter; NULL where both are the same */
	int classes;
	struct wasd_dataset_writer *writer;
	uint64_t images, bytes; /* progress: images written, bytes read in all passes */
	bool replaying;
};

static inline const char *entry_name(const struct ingest *in, size_t i)
{
	return in->names.data + in->entry[i].name;
}
const char *entry_base(const struct ingest *in, size_t i); /* behind the last '/' */
bool name_has(const char *name, const char *part);         /* ignoring ASCII case */
bool is_picture(const char *name);                         /* by its ending */
bool is_text(const char *name);                            /* for people, or for programs that want classes told */
bool name_ends(const char *name, const char *end);         /* ignoring ASCII case */

/* Error about entry i: pointer is its name, made printable. */
enum wasd_status entry_fail(const struct ingest *in, size_t i, struct wasd_err *err, enum wasd_status s,
                            const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* The same, with what entry i is when its first bytes are known to be of another program's, else with `otherwise`. */
enum wasd_status entry_foreign(const struct ingest *in, size_t i, struct wasd_err *err, const char *otherwise);
/* Puts the name of entry i into an error that has none. Returns s. */
enum wasd_status entry_blame(const struct ingest *in, size_t i, struct wasd_err *err, enum wasd_status s);

/* ---- report.c: what the caller is told beside the result ------------------------------------------ */

/* Counts one more case of `code` (static, lower case and underscores); name: the file that it is about, or NULL. The
 * text of the first case stays. A code that a replay uses is not used before one. */
void ingest_remark(struct ingest *in, const char *code, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Counts one more file at fault; *err says which and why. */
void ingest_culprit(struct ingest *in, const struct wasd_err *err);
/* A replay will begin anew: what it wrote and remarked is forgotten. */
void ingest_restart(struct ingest *in);
void ingest_pardon(struct ingest *in); /* forgets the culprits */

/* ---- archive.c ------------------------------------------------------------------------------- */

struct stream; /* the content of one entry during a replay */
/* Reads up to n bytes; fewer only at the end (*got). Errors are about the entry and complete. */
enum wasd_status stream_read(struct stream *s, void *p, size_t n, size_t *got, struct wasd_err *err);

enum wasd_status ingest_scan(struct ingest *in, struct wasd_err *err);
/* Calls fn for every listed entry that `wanted` selects (NULL: all), in archive order. fn need not read to the end. */
typedef bool entry_wanted(const void *plan, size_t i);
typedef enum wasd_status entry_fn(void *plan, size_t i, struct stream *s, struct wasd_err *err);
enum wasd_status ingest_replay(struct ingest *in, entry_wanted *wanted, entry_fn *fn, void *plan, struct wasd_err *err);
void ingest_done(struct ingest *in);

/* ---- sets.c, inner.c ------------------------------------------------------------------------------ */

/* WASD_EINVAL with the way out when the upload is a set of a kind that is known and not read. */
enum wasd_status ingest_known_sets(const struct ingest *in, struct wasd_err *err);
/* Whether the upload is an archive whose only file is an archive; and that one, written to a file of its own (*path,
 * wasd_free) beside out_path. */
bool ingest_has_inner(const struct ingest *in);
enum wasd_status ingest_inner(struct ingest *in, char **path, struct wasd_err *err);

/* ---- formats.c -------------------------------------------------------------------------------- */

struct format {
	const char *name;
	bool (*claims)(const struct ingest *in); /* asked in table order; the last row takes what is left */
	/* Plans, begins, replays and puts. Leaves finishing to the caller. */
	enum wasd_status (*convert)(struct ingest *in, struct wasd_err *err);
};
extern const struct format format_cifar10, format_cifar100, format_idx, format_folder;

/* Images of this shape will be put, and are brought to the size that was asked for. Checks counts and bytes against the
 * limits and creates the writer. */
enum wasd_status ingest_begin(struct ingest *in, struct wasd_shape shape, const char *const *classes, int n_classes,
                              size_t n_train, size_t n_test, struct wasd_err *err);
/* Image k of a split, found in entry i (image `at` of it, for the message). Also reports progress and notices a cancel.
 */
enum wasd_status ingest_put(struct ingest *in, enum wasd_split s, size_t k, const uint8_t *chw, int label, size_t i,
                            struct wasd_err *err);
/* WASD_ECANCELLED once the caller has asked for that. */
enum wasd_status ingest_cancelled(const struct ingest *in, struct wasd_err *err);
void ingest_progress(struct ingest *in);

/* ---- source.c: the bytes of one upload, gunzipped ------------------------------------------------ */

struct source;
enum wasd_status source_open(const char *path, struct source **out, struct wasd_err *err);
void source_close(struct source *s);
uint64_t source_size(const struct source *s); /* of the file, compressed */
bool source_is_gzip(const struct source *s);
/* A view of the next bytes, valid until the next call; *n = 0 at the end. The checksum of a gzip file is verified on
 * the way. */
enum wasd_status source_next(struct source *s, const void **p, size_t *n, struct wasd_err *err);
/* The first bytes without consuming them; fewer when the file is shorter. Only before any source_next. */
enum wasd_status source_peek(struct source *s, uint8_t *head, size_t want, size_t *n, struct wasd_err *err);
/* Only for a file that is not gzip. */
bool source_seek(struct source *s, int64_t offset, int whence, int64_t *at);

/* Of a file that is not gzip; leaves the position of source_next alone. False if there are fewer bytes. */
bool source_read_at(const struct source *s, uint64_t at, void *p, size_t n);

/* Inflates gzip members, one after the other, from a reader function. */
struct gunzip;
typedef enum wasd_status gunzip_read(void *ctx, void *p, size_t n, size_t *got, struct wasd_err *err);
struct gunzip *gunzip_create(gunzip_read *read, void *ctx); /* NULL: no memory */
enum wasd_status gunzip_next(struct gunzip *g, void *p, size_t n, size_t *got, struct wasd_err *err);
void gunzip_destroy(struct gunzip *g);

/* ---- rawnames.c: names with a NUL, overlapping zip entries ------------------------------------------- */

enum { RAW_NAME = 200 }; /* room for the culprit's name, cut */
/* *unmarked: there are names that are neither UTF-8 nor marked as such. */
enum wasd_status zip_check_names(struct source *src, char name[RAW_NAME], bool *unmarked, struct wasd_err *err);
struct tar_tap;
struct tar_tap *tar_tap_create(void); /* NULL: no memory */
enum wasd_status tar_tap_feed(struct tar_tap *t, const void *bytes, size_t n, char name[RAW_NAME],
                              struct wasd_err *err);
void tar_tap_destroy(struct tar_tap *t);

#endif
