/* tests/core/data_samples.h - pictures and archives generated for the tests of core/data. All files are in
 * `samples_dir`. */
#ifndef TESTS_DATA_SAMPLES_H
#define TESTS_DATA_SAMPLES_H

#include "check.h"
#include "wasd/data.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <jpeglib.h>
#include <spng.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define UNUSED __attribute__((unused))

static char samples_dir[64];

UNUSED static void samples_begin(void)
{
	check_temp(samples_dir, sizeof samples_dir, "wasd-test");
	if (!mkdtemp(samples_dir))
		exit(1);
}

UNUSED static void samples_end(void)
{
	wasd_remove_tree(samples_dir, NULL);
}

UNUSED static int files_in(const char *dir)
{
	int n = 0;
	DIR *d = opendir(dir);
	for (struct dirent *e; (e = readdir(d));)
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

/* A growing string of bytes; blob_done is wasd_buf_done. */
typedef struct wasd_buf blob;

UNUSED static void blob_u32be(blob *b, uint32_t v)
{
	uint8_t p[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
	wasd_buf_append(b, p, 4);
}

UNUSED static void blob_fill(blob *b, uint8_t v, size_t n)
{
	while (n--)
		wasd_buf_append(b, &v, 1);
}

/* A smooth picture with some texture, so that JPEG changes it little. hwc interleaved. */
UNUSED static void sample_pixels(uint8_t *hwc, int c, int h, int w, int seed)
{
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
			for (int k = 0; k < c; k++)
				*hwc++ = (uint8_t)(128 + 60 * sin(0.2 * x + seed + k) + 50 * cos(0.15 * y - k * 2 + seed));
}

/* PNG of a colour type and depth from raw scanlines. */
UNUSED static void make_png_raw(blob *out, enum spng_color_type type, int depth, int interlace, int h, int w,
                                const void *raw, size_t len, const struct spng_plte *plte)
{
	spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
	struct spng_ihdr head = {.width = (uint32_t)w,
	                         .height = (uint32_t)h,
	                         .bit_depth = (uint8_t)depth,
	                         .color_type = (uint8_t)type,
	                         .interlace_method = (uint8_t)interlace};
	size_t n = 0;
	int e;
	spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1);
	spng_set_ihdr(ctx, &head);
	if (plte)
		spng_set_plte(ctx, (struct spng_plte *)plte);
	e = spng_encode_image(ctx, raw, len, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
	CHECK_MSG(!e, "%s", spng_strerror(e));
	void *p = spng_get_png_buffer(ctx, &n, &e);
	wasd_buf_append(out, p, n);
	free(p);
	spng_ctx_free(ctx);
}

UNUSED static void make_png(blob *out, int c, int h, int w, int seed)
{
	uint8_t *p = malloc((size_t)(c * h * w));
	sample_pixels(p, c, h, w, seed);
	make_png_raw(out, c == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR, 8, 0, h, w, p,
	             (size_t)(c * h * w), NULL);
	free(p);
}

struct jpeg_how {
	J_COLOR_SPACE in;
	int c;
	bool progressive;
	int quality;
	bool scan_per_component;
	J_COLOR_SPACE out; /* 0: the usual one for `in` */
};

UNUSED static void make_jpeg_of(blob *out, struct jpeg_how how, int h, int w, uint8_t *p)
{
	struct jpeg_compress_struct j;
	struct jpeg_error_mgr e;
	unsigned char *buf = NULL;
	unsigned long n = 0;
	j.err = jpeg_std_error(&e);
	jpeg_create_compress(&j);
	jpeg_mem_dest(&j, &buf, &n);
	j.image_width = (JDIMENSION)w, j.image_height = (JDIMENSION)h;
	j.input_components = how.c, j.in_color_space = how.in;
	jpeg_set_defaults(&j);
	if (how.out)
		jpeg_set_colorspace(&j, how.out);
	jpeg_set_quality(&j, how.quality, TRUE);
	if (how.progressive)
		jpeg_simple_progression(&j);
	static const jpeg_scan_info per_component[3] = {{1, {0}, 0, 63, 0, 0},
	                                                {1, {1}, 0, 63, 0, 0},
	                                                {1, {2}, 0, 63, 0, 0}};
	if (how.scan_per_component)
		j.scan_info = per_component, j.num_scans = 3;
	jpeg_start_compress(&j, TRUE);
	for (int y = 0; y < h; y++) {
		JSAMPROW row = p + (size_t)y * (size_t)(w * how.c);
		jpeg_write_scanlines(&j, &row, 1);
	}
	jpeg_finish_compress(&j);
	jpeg_destroy_compress(&j);
	wasd_buf_append(out, buf, n);
	free(buf);
}

UNUSED static void make_jpeg_how(blob *out, struct jpeg_how how, int h, int w, int seed)
{
	uint8_t *p = malloc((size_t)(how.c * h * w));
	sample_pixels(p, how.c, h, w, seed);
	make_jpeg_of(out, how, h, w, p);
	free(p);
}

UNUSED static void make_jpeg(blob *out, int c, int h, int w, int seed)
{
	make_jpeg_how(out, (struct jpeg_how){c == 1 ? JCS_GRAYSCALE : JCS_RGB, c, false, 95, false, 0}, h, w, seed);
}

/* ---- archives -------------------------------------------------------------------------- */

enum pack { TAR, TAR_GZ, TAR_XZ, ZIP };

struct packer {
	struct archive *a;
};

UNUSED static const char *sample_path(const char *name)
{
	static char path[4][160];
	static int k;
	char *p = path[k++ % 4];
	snprintf(p, sizeof path[0], "%s/%s", samples_dir, name);
	return p;
}

UNUSED static struct packer pack_open(const char *path, enum pack how)
{
	struct packer p = {archive_write_new()};
	if (how == ZIP)
		archive_write_set_format_zip(p.a);
	else
		archive_write_set_format_pax_restricted(p.a);
	if (how == TAR_GZ)
		archive_write_add_filter_gzip(p.a);
	if (how == TAR_XZ)
		archive_write_add_filter_xz(p.a);
	archive_write_set_bytes_in_last_block(p.a, 1);
	CHECK_MSG(archive_write_open_filename(p.a, path) == ARCHIVE_OK, "%s", archive_error_string(p.a));
	return p;
}

UNUSED static void pack_entry(struct packer p, const char *name, int type, const char *link, const void *data, size_t n)
{
	struct archive_entry *e = archive_entry_new();
	archive_entry_set_pathname(e, name);
	archive_entry_set_perm(e, type == AE_IFDIR ? 0755 : 0644);
	archive_entry_set_mtime(e, 1000000000, 0);
	archive_entry_set_filetype(e, type ? (unsigned)type : (unsigned)AE_IFREG);
	if (type == AE_IFLNK)
		archive_entry_set_symlink(e, link);
	else if (link)
		archive_entry_set_hardlink(e, link);
	archive_entry_set_size(e, (int64_t)n);
	CHECK_MSG(archive_write_header(p.a, e) >= ARCHIVE_WARN, "%s: %s", name, archive_error_string(p.a));
	if (n)
		CHECK_MSG(archive_write_data(p.a, data, n) == (la_ssize_t)n, "%s: %s", name, archive_error_string(p.a));
	archive_entry_free(e);
}

UNUSED static void pack_file(struct packer p, const char *name, const void *data, size_t n)
{
	pack_entry(p, name, AE_IFREG, NULL, data, n);
}
UNUSED static void pack_blob(struct packer p, const char *name, blob *b)
{
	pack_file(p, name, b->data, b->len);
	wasd_buf_done(b);
	*b = (blob){0};
}
UNUSED static void pack_close(struct packer p)
{
	archive_write_close(p.a);
	archive_write_free(p.a);
}

UNUSED static void put_file(const char *path, const void *data, size_t n)
{
	FILE *f = fopen(path, "wb");
	CHECK(f && fwrite(data, 1, n, f) == n);
	if (f)
		fclose(f);
}

/* ---- whole datasets --------------------------------------------------------------------- */

struct upload {
	struct wasd_ingest_file f[8];
	int n;
	char path[8][160];
	struct wasd_ingest_opts o;
};

/* The next file of an upload; name is the client's name for it. */
UNUSED static const char *upload_add(struct upload *u, const char *name)
{
	snprintf(u->path[u->n], sizeof u->path[0], "%s/up%d", samples_dir, u->n);
	u->f[u->n] = (struct wasd_ingest_file){u->path[u->n], name};
	return u->path[u->n++];
}

UNUSED static void upload_blob(struct upload *u, const char *name, blob *b)
{
	put_file(upload_add(u, name), b->data, b->len);
	wasd_buf_done(b);
	*b = (blob){0};
}

UNUSED static void gzip_blob(blob *b)
{
	z_stream z = {0};
	deflateInit2(&z, 1, Z_DEFLATED, 16 + 15, 9, Z_DEFAULT_STRATEGY);
	size_t n = deflateBound(&z, (uLong)b->len);
	Bytef *p = malloc(n);
	z.next_in = (Bytef *)b->data, z.avail_in = (uInt)b->len, z.next_out = p, z.avail_out = (uInt)n;
	CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
	b->len = 0;
	wasd_buf_append(b, p, z.total_out);
	deflateEnd(&z);
	free(p);
}

/* Contents of four IDX files: [split][0 labels, 1 images], n_train and n_test images of 5 x 4; label i mod 10. */
UNUSED static void idx_files(blob f[2][2], int n_train, int n_test)
{
	for (int s = 0; s < 2; s++) {
		int n = s ? n_test : n_train;
		blob_u32be(&f[s][0], 0x801);
		blob_u32be(&f[s][0], (uint32_t)n);
		blob_u32be(&f[s][1], 0x803);
		blob_u32be(&f[s][1], (uint32_t)n);
		blob_u32be(&f[s][1], 5);
		blob_u32be(&f[s][1], 4);
		for (int i = 0; i < n; i++) {
			blob_fill(&f[s][0], (uint8_t)(i % 10), 1);
			for (int k = 0; k < 20; k++)
				blob_fill(&f[s][1], (uint8_t)(s * 100 + i * 3 + k), 1);
		}
	}
}

static const char *const idx_names[2][2] = {{"train-labels-idx1-ubyte", "train-images-idx3-ubyte"},
                                            {"t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte"}};

UNUSED static void idx_done(blob f[2][2])
{
	for (int i = 0; i < 4; i++)
		wasd_buf_done(&f[i / 2][i % 2]);
}

/* CIFAR records: labels bytes per record (the last counts), label (first + i) mod classes. */
UNUSED static void cifar_records(blob *b, int n, int labels, int classes, int first)
{
	for (int i = 0; i < n; i++) {
		if (labels == 2)
			blob_fill(b, (uint8_t)(i % 20), 1);
		blob_fill(b, (uint8_t)((first + i) % classes), 1);
		for (int c = 0; c < 3; c++)
			blob_fill(b, (uint8_t)(first + i * 3 + c), 1024);
	}
}

#define CIFAR10_NAMES "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"

#endif
