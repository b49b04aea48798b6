/* parcel.c - sends files and folders as the body of a request. */
#include "client/parcel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 512, PIECE = 256 << 10, DEPTH_MAX = 16 };
#define BOUNDARY "wasd-part-5d1c9a"

/* ---- packing ---- */

static enum wasd_status add(struct parcel *p, const char *path, const char *name, int64_t bytes, struct wasd_err *err)
{
	if (p->n == p->room) {
		size_t room = p->room ? 2 * p->room : 64;
		struct parcel_file *more = wasd_realloc(p->files, room * sizeof *more);
		if (!more)
			return wasd_fail(err, WASD_ENOMEM, "no memory for the list of files");
		p->files = more;
		p->room = room;
	}
	struct parcel_file f = {wasd_strdup(path), wasd_strdup(name), bytes};
	p->files[p->n++] = f;
	return f.path && f.name ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for the list of files");
}

static int visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* Adds the files below `path`, sorted by name. name: the path inside the body so far. */
static enum wasd_status add_folder(struct parcel *p, const char *path, const char *name, int depth,
                                   struct wasd_err *err)
{
	struct dirent **entries = NULL;
	int n = depth < DEPTH_MAX ? scandir(path, &entries, visible, alphasort) : 0;
	enum wasd_status s = n < 0 ? wasd_fail_errno(err, errno, "%s", path) : WASD_OK;
	for (int i = 0; i < n; i++) {
		char *below = wasd_asprintf("%s/%s", path, entries[i]->d_name),
			 *inside = wasd_asprintf("%s%s%s", name, *name ? "/" : "", entries[i]->d_name);
		struct stat st;
		if (s == WASD_OK && (!below || !inside))
			s = wasd_fail(err, WASD_ENOMEM, "no memory for the list of files");
		if (s == WASD_OK && stat(below, &st))
			s = wasd_fail_errno(err, errno, "%s", below);
		if (s == WASD_OK && S_ISDIR(st.st_mode))
			s = add_folder(p, below, inside, depth + 1, err);
		else if (s == WASD_OK && S_ISREG(st.st_mode))
			s = add(p, below, inside, st.st_size, err);
		wasd_free(below);
		wasd_free(inside);
		free(entries[i]);
	}
	free(entries);
	return s;
}

/* The two fields of a ustar header that hold the name: false if it fits neither way. */
static bool split_name(const char *name, const char **prefix_end)
{
	*prefix_end = name;
	if (strlen(name) <= 100)
		return true;
	for (const char *p = name; (p = strchr(p, '/')) && p - name <= 155; p++)
		if (strlen(p + 1) <= 100) {
			*prefix_end = p;
			return true;
		}
	return false;
}

static int part_head(const struct parcel *p, const struct parcel_file *f, char out[600])
{
	if (!f)
		return snprintf(out, 600, "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\n%.80s\r\n",
		                p->set_name);
	return snprintf(out, 600,
	                "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"%.300s\"\r\n"
	                "Content-Type: application/octet-stream\r\n\r\n",
	                f->name);
}

/* The whole length, after a look at every file. */
static enum wasd_status measure(struct parcel *p, struct wasd_err *err)
{
	char head[600];
	const char *prefix_end;
	p->bytes = p->kind == PARCEL_TAR   ? 2 * BLOCK :
	           p->kind == PARCEL_PARTS ? part_head(p, NULL, head) + (int)sizeof "--" BOUNDARY "--\r\n" - 1 :
	                                     0;
	for (size_t i = 0; i < p->n; i++) {
		const struct parcel_file *f = &p->files[i];
		if (p->kind == PARCEL_TAR && !split_name(f->name, &prefix_end))
			return wasd_fail(err, WASD_ETOOBIG, "%s: the name is too long for a tar; send an archive instead", f->path);
		if (p->kind == PARCEL_PARTS && (strpbrk(f->name, "\"\r\n\\") || strlen(f->name) > 255))
			return wasd_fail(err, WASD_EINVAL, "%s: a file with this name cannot be sent", f->path);
		p->bytes += p->kind == PARCEL_TAR   ? BLOCK + (f->bytes + BLOCK - 1) / BLOCK * BLOCK :
		            p->kind == PARCEL_PARTS ? part_head(p, f, head) + f->bytes + 2 :
		                                      f->bytes;
	}
	return WASD_OK;
}

enum wasd_status parcel_pack(struct parcel *p, const char *const *paths, size_t n, const char *set_name,
                             struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	*p = (struct parcel){.kind = n > 1 ? PARCEL_PARTS : PARCEL_FILE, .set_name = set_name};
	for (size_t i = 0; i < n && s == WASD_OK; i++) {
		struct stat st;
		const char *slash = strrchr(paths[i], '/');
		if (stat(paths[i], &st))
			s = wasd_fail_errno(err, errno, "%s", paths[i]);
		else if (S_ISDIR(st.st_mode) && n == 1)
			p->kind = PARCEL_TAR;
		else if (!S_ISREG(st.st_mode))
			s = wasd_fail(err, WASD_EINVAL, "%s is no file; give one folder, or files", paths[i]);
		if (s == WASD_OK)
			s = p->kind == PARCEL_TAR ? add_folder(p, paths[i], "", 0, err) :
			                            add(p, paths[i], slash ? slash + 1 : paths[i], st.st_size, err);
	}
	if (s == WASD_OK && !p->n)
		s = wasd_fail(err, WASD_EINVAL, "%s: the folder is empty", paths[0]);
	return s == WASD_OK ? measure(p, err) : s;
}

const char *parcel_type(const struct parcel *p)
{
	return p->kind == PARCEL_PARTS ? "multipart/form-data; boundary=" BOUNDARY : "application/octet-stream";
}

void parcel_done(struct parcel *p)
{
	for (size_t i = 0; i < p->n; i++) {
		wasd_free(p->files[i].path);
		wasd_free(p->files[i].name);
	}
	wasd_free(p->files);
	*p = (struct parcel){0};
}

/* ---- sending ---- */

struct transfer {
	const struct parcel *parcel;
	int fd;
	bool shown;
	int64_t sent, said_us;
	struct wasd_err *err;
};

static enum wasd_status put(struct transfer *t, const void *data, size_t n)
{
	if (wasd_write_full(t->fd, data, n, t->err) != WASD_OK)
		return errno == EPIPE || errno == ECONNRESET ? WASD_EBUSY : WASD_EIO;
	t->sent += (int64_t)n;
	if (t->shown && wasd_mono_us() - t->said_us > 200000) {
		t->said_us = wasd_mono_us();
		fprintf(stderr, "\rsending, %.1f of %.1f MiB ", (double)t->sent / (1 << 20),
		        (double)t->parcel->bytes / (1 << 20));
	}
	return WASD_OK;
}

static enum wasd_status put_file(struct transfer *t, const struct parcel_file *f)
{
	static char piece[PIECE];
	int in = open(f->path, O_RDONLY | O_CLOEXEC);
	enum wasd_status s = in < 0 ? wasd_fail_errno(t->err, errno, "%s", f->path) : WASD_OK;
	for (int64_t left = f->bytes; s == WASD_OK && left > 0;) {
		ssize_t r = read(in, piece, left < PIECE ? (size_t)left : PIECE);
		if (r <= 0)
			s = r < 0 ? wasd_fail_errno(t->err, errno, "%s", f->path) :
			            wasd_fail(t->err, WASD_EIO, "%s became shorter while it was sent", f->path);
		else
			s = put(t, piece, (size_t)r);
		left -= r > 0 ? r : 0;
	}
	if (in >= 0)
		close(in);
	return s;
}

static enum wasd_status put_tar_head(struct transfer *t, const struct parcel_file *f)
{
	char h[BLOCK] = "", number[13];
	const char *prefix_end;
	unsigned sum = 0;
	split_name(f->name, &prefix_end);
	const char *rest = prefix_end > f->name ? prefix_end + 1 : f->name;
	memcpy(h, rest, strlen(rest));
	memcpy(h + 345, f->name, (size_t)(prefix_end - f->name));
	memcpy(h + 100, "0000644\0000000000\0000000000", 23);
	snprintf(number, sizeof number, "%011llo", (unsigned long long)f->bytes & 077777777777ULL);
	memcpy(h + 124, number, 12);
	memcpy(h + 136, "00000000000", 12);
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	for (int i = 0; i < BLOCK; i++)
		sum += (unsigned char)h[i];
	snprintf(number, sizeof number, "%06o", sum);
	memcpy(h + 148, number, 7);
	return put(t, h, BLOCK);
}

enum wasd_status parcel_send(const struct parcel *p, int fd, bool shown, struct wasd_err *err)
{
	static const char zeros[2 * BLOCK];
	struct transfer t = {.parcel = p, .fd = fd, .shown = shown, .err = err};
	char head[600];
	enum wasd_status s = WASD_OK;
	if (p->kind == PARCEL_PARTS)
		s = put(&t, head, (size_t)part_head(p, NULL, head));
	for (size_t i = 0; i < p->n && s == WASD_OK; i++) {
		const struct parcel_file *f = &p->files[i];
		if (p->kind == PARCEL_TAR)
			s = put_tar_head(&t, f);
		else if (p->kind == PARCEL_PARTS)
			s = put(&t, head, (size_t)part_head(p, f, head));
		if (s == WASD_OK)
			s = put_file(&t, f);
		if (s == WASD_OK && p->kind == PARCEL_TAR)
			s = put(&t, zeros, (size_t)((BLOCK - f->bytes % BLOCK) % BLOCK));
		else if (s == WASD_OK && p->kind == PARCEL_PARTS)
			s = put(&t, "\r\n", 2);
	}
	if (s == WASD_OK && p->kind == PARCEL_TAR)
		s = put(&t, zeros, 2 * BLOCK);
	else if (s == WASD_OK && p->kind == PARCEL_PARTS)
		s = put(&t, "--" BOUNDARY "--\r\n", sizeof "--" BOUNDARY "--\r\n" - 1);
	if (shown)
		fprintf(stderr, "\r%*s\r", 60, "");
	return s;
}
