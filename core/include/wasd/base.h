/* wasd/base.h - shared by all parts of wasd: statuses, errors, counted memory, growing buffers, durable files, digests,
 * ids and time. Does not depend on the rest of core. */
#ifndef WASD_BASE_H
#define WASD_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WASD_VERSION "0.1.0"

/* ---- status and error detail -------------------------------------------------------- */

enum wasd_status {
	WASD_OK = 0,
	WASD_EINVAL, /* an argument or a field is wrong; the message names it */
	WASD_ENOMEM,
	WASD_EIO, /* the operating system failed the call; the message has strerror */
	WASD_ENOTFOUND,
	WASD_EEXIST,   /* the name is taken */
	WASD_ESTATE,   /* valid request in the wrong state (cancelling a finished job) */
	WASD_ECORRUPT, /* stored or received bytes fail a check */
	WASD_ETOOBIG,  /* a limit is exceeded; the message gives limit and value */
	WASD_EUNSUPPORTED,
	WASD_EFULL, /* no disk space                                                */
	WASD_EBUSY, /* try again later                                              */
	WASD_ECANCELLED,
	WASD_ENUMERIC,  /* NaN or Inf where a number was needed                         */
	WASD_EINTERNAL, /* a bug of ours                                                */
	WASD_STATUS_COUNT
};

/* Lower-case name of a status ("einval"), for logs and wire messages. Never NULL. */
const char *wasd_status_name(enum wasd_status s);
enum wasd_status wasd_status_from_name(const char *name); /* WASD_EINTERNAL if unknown */

/* Formats a text of at most size - 1 bytes (size: at least 8). A longer text is truncated on a UTF-8 boundary and ends
 * in "...", so that a truncated number is not read as another number. Returns its length. */
size_t wasd_line(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
size_t wasd_vline(char *out, size_t size, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));

/* Details beyond the status. msg is one line without a newline, truncated to 255 bytes like wasd_line. `pointer` is a
 * JSON pointer or a file name if the fault has one known place, else "". Callers may pass NULL. */
struct wasd_err {
	enum wasd_status status;
	char msg[256];
	char pointer[160];
};

/* Sets *err (if not NULL) and returns s, so that `return wasd_fail(err, WASD_EINVAL, "...")` reads well. */
enum wasd_status wasd_fail(struct wasd_err *err, enum wasd_status s, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Like wasd_fail, with the place of the fault: a JSON pointer ("/train/lr") or a file name inside an archive. */
enum wasd_status wasd_fail_at(struct wasd_err *err, enum wasd_status s, const char *pointer, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Like wasd_fail, with ": strerror(errnum)" appended. ENOSPC/EDQUOT give WASD_EFULL, ENOMEM gives WASD_ENOMEM, anything
 * else WASD_EIO. */
enum wasd_status wasd_fail_errno(struct wasd_err *err, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- memory: all our allocations go through here ------------------------------------ */

/* All return NULL when out of memory, when a size overflows, or when a test requests a failure.
 * wasd_calloc/wasd_alloc_array check n*size. wasd_alloc_aligned: 64-byte aligned, zeroed, free with wasd_free. */
void *wasd_malloc(size_t size);
void *wasd_calloc(size_t n, size_t size);
void *wasd_realloc(void *p, size_t size);
void *wasd_alloc_aligned(size_t n, size_t size);
static inline size_t wasd_aligned(size_t bytes) /* up to a whole number of such steps */
{
	return (bytes + 63) / 64 * 64;
}
char *wasd_strdup(const char *s);
char *wasd_strndup(const char *s, size_t n);
char *wasd_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void wasd_free(void *p);

struct wasd_mem_stats {
	uint64_t allocs, frees;
}; /* counts since the process started */
struct wasd_mem_stats wasd_mem_stats(void);
/* For tests: the nth allocation from now (1 = next) fails once; 0 switches this off. */
void wasd_mem_fail_at(uint64_t nth);

/* a*b and a+b into *out; false on overflow. */
static inline bool wasd_mul_size(size_t a, size_t b, size_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}
static inline bool wasd_add_size(size_t a, size_t b, size_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

/* A growing byte buffer. Zero-initialise it; wasd_buf_done frees it. `max` 0: no limit. After a failure (memory or max)
 * the buffer keeps its content and `failed` stays set, so one check after a series of appends is enough. */
struct wasd_buf {
	char *data;
	size_t len, cap, max;
	bool failed;
};
bool wasd_buf_append(struct wasd_buf *b, const void *p, size_t n);
bool wasd_buf_puts(struct wasd_buf *b, const char *s);
bool wasd_buf_printf(struct wasd_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *wasd_buf_cstr(struct wasd_buf *b); /* NUL-terminated view; NULL on failure */
void wasd_buf_done(struct wasd_buf *b);

/* ---- files -------------------------------------------------------------------------- */

/* Writes path atomically and durably: path.tmp-XXXXXX in the same directory, fsync, rename, fsync of the directory. */
enum wasd_status wasd_file_write_atomic(const char *path, const void *data, size_t len, struct wasd_err *err);
/* Reads a whole file of at most max bytes into a new NUL-terminated block (free with wasd_free). */
enum wasd_status wasd_file_read(const char *path, size_t max, char **data, size_t *len, struct wasd_err *err);
enum wasd_status wasd_mkdirs(const char *path, struct wasd_err *err); /* mkdir -p, mode 0750 */
enum wasd_status wasd_remove_tree(const char *path,
                                  struct wasd_err *err); /* rm -r without following links; absent is OK */
enum wasd_status wasd_fsync_dir(const char *path, struct wasd_err *err);
/* write(2)/read(2) until n bytes are transferred, retrying after EINTR. read: WASD_ECORRUPT for a file that is too
 * short. */
enum wasd_status wasd_write_full(int fd, const void *p, size_t n, struct wasd_err *err);
enum wasd_status wasd_read_full(int fd, void *p, size_t n, struct wasd_err *err);
/* Creates a memory file of n bytes copied from p (NULL: zeroes), sealed against write, shrink and grow. The caller
 * closes it. */
enum wasd_status wasd_memfd_sealed(const char *name, const void *p, size_t n, int *fd, struct wasd_err *err);
/* The same with n_parts pieces one after the other. */
struct iovec;
enum wasd_status wasd_memfd_gather(const char *name, const struct iovec *part, int n_parts, int *fd,
                                   struct wasd_err *err);
/* Maps a received memory file read-only, after checking that it has all three seals and exactly n bytes. Unmap with
 * wasd_memfd_unmap. */
enum wasd_status wasd_memfd_map(int fd, size_t n, const void **p, struct wasd_err *err);
void wasd_memfd_unmap(const void *p, size_t n);

/* ---- digests, ids, time --------------------------------------------------------------- */

#define WASD_SHA256_HEX 65
void wasd_hex(const unsigned char *p, size_t n, char *out); /* 2 * n lower-case digits and a NUL */
struct wasd_sha256;                                         /* streaming SHA-256 (GnuTLS) */
struct wasd_sha256 *wasd_sha256_create(void);               /* NULL: no memory */
void wasd_sha256_update(struct wasd_sha256 *h, const void *p, size_t n);
void wasd_sha256_hex(struct wasd_sha256 *h,
                     char hex[WASD_SHA256_HEX]); /* digest of the data so far; updates may follow */
void wasd_sha256_destroy(struct wasd_sha256 *h);
void wasd_sha256_of(const void *p, size_t n, char hex[WASD_SHA256_HEX]);
uint32_t wasd_crc32c(uint32_t crc, const void *p, size_t n); /* start with 0; Castagnoli */

#define WASD_ULID_LEN 26
/* Writes prefix + ULID ("job_01J..."), monotonic within the process even within one millisecond. out needs room for
 * strlen(prefix)+27 bytes. Thread-safe. */
void wasd_ulid(const char *prefix, char *out);
void wasd_random_bytes(void *p, size_t n); /* getrandom; aborts if the kernel has no random bytes */

int64_t wasd_now_ms(void);  /* wall clock, Unix milliseconds */
int64_t wasd_mono_us(void); /* monotonic microseconds, for durations and deadlines */

/* What a process has used so far. started_s: seconds from the start of the machine to that of the process. */
struct wasd_usage {
	double cpu_s, started_s;
	int64_t rss_bytes, virtual_bytes;
};
bool wasd_usage_of(int pid, struct wasd_usage *out); /* pid 0: this process. False: it cannot be read */

#define WASD_RFC3339_LEN 25
void wasd_rfc3339(int64_t unix_ms, char out[WASD_RFC3339_LEN]); /* "2026-11-24T08:49:23.123Z" */
bool wasd_rfc3339_parse(const char *s, int64_t *unix_ms);       /* strict */

/* True if s matches ^[a-z0-9][a-z0-9._-]{0,62}$ and is not the reserved "stats" (web/docs/api.md#names). */
bool wasd_name_ok(const char *s);
/* Whether pattern matches the whole of s: * matches any number of bytes, ? one byte, everything else itself. */
bool wasd_glob(const char *pattern, const char *s);
bool wasd_utf8_ok(const char *s, size_t n); /* strict UTF-8, no NUL */

#endif
