/* jpeg.c - JPEG by libjpeg-turbo 2.1. The library has no limits of its own: the size is checked after the header, the
 * number of scans of a progressive file and the decoding time by the progress monitor, its coefficients by the memory
 * manager. A warning is an error (truncation, bad codes), except for those in the table `harmless`, which do not affect
 * the pixels.
 *
 * A picture much larger than the target is decoded at 1/2, 1/4 or 1/8: the inverse DCT then makes one pixel from the
 * low frequencies of a block, which is close to an average and saves most of the work. */
#include "data/image.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <jpeglib.h>
#include <jerror.h>

enum { MAX_SCANS = 100, MAX_CPU_MS = 10000, MAX_COEFFICIENTS_MB = 320, EXIF_MARKER = JPEG_APP0 + 1 };
#define REDUCE_FROM ((uint64_t)4 << 20) /* pixels: smaller pictures are decoded in full */

struct reader {
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr error;
	struct jpeg_progress_mgr progress;
	jmp_buf fail;
	enum wasd_status status; /* set before the longjmp */
	char message[JMSG_LENGTH_MAX];
	int64_t cpu_start;
	uint8_t *data, *cmyk;      /* the picture; one row of CMYK before conversion */
	char odd[JMSG_LENGTH_MAX]; /* the first harmless warning */
};

/* Warnings of libjpeg that leave the pixels certain. Every other decoder accepts these files. */
static const int harmless[] = {
	JWRN_JFIF_MAJOR,      /* version 0.00 or 2.01 in the JFIF header: not used for decoding */
	JWRN_ADOBE_XFORM,     /* an unknown code in Adobe's marker: the number of components decides */
	JWRN_NOT_SEQUENTIAL,  /* spectral parameters in a baseline file: not used */
	JWRN_EXTRANEOUS_DATA, /* extra bytes before a marker; is_harmless() checks which marker */
};

static int64_t cpu_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static _Noreturn void on_error(j_common_ptr c)
{
	struct reader *r = c->client_data;
	int code = c->err->msg_code;
	r->status = code == JERR_OUT_OF_MEMORY                                  ? WASD_ENOMEM :
	            code == JERR_BAD_PRECISION                                  ? WASD_EUNSUPPORTED :
	            code == JERR_IMAGE_TOO_BIG || code == JERR_NO_BACKING_STORE ? WASD_ETOOBIG :
	                                                                          WASD_ECORRUPT;
	if (code == JERR_NO_BACKING_STORE)
		snprintf(r->message, sizeof r->message, "its scans need more than %d MiB of memory", MAX_COEFFICIENTS_MB);
	else
		c->err->format_message(c, r->message);
	longjmp(r->fail, 1);
}

/* Extra bytes in front of a restart marker mean that decoding went wrong. */
static bool is_harmless(const struct jpeg_error_mgr *e)
{
	for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
		if (e->msg_code == harmless[i])
			return e->msg_code != JWRN_EXTRANEOUS_DATA || e->msg_parm.i[1] < JPEG_RST0 ||
			       e->msg_parm.i[1] > JPEG_RST0 + 7;
	return false;
}

static void on_message(j_common_ptr c, int level)
{
	struct reader *r = c->client_data;
	if (level >= 0)
		return;
	if (!is_harmless(c->err))
		on_error(c);
	if (!*r->odd)
		c->err->format_message(c, r->odd);
}

static void on_output(j_common_ptr c)
{
	(void)c;
}

static void on_progress(j_common_ptr c)
{
	struct reader *r = c->client_data;
	if (r->jpeg.input_scan_number > MAX_SCANS)
		snprintf(r->message, sizeof r->message, "more than %d scans", MAX_SCANS);
	else if (cpu_ms() - r->cpu_start > MAX_CPU_MS)
		snprintf(r->message, sizeof r->message, "more than %d s of decoding", MAX_CPU_MS / 1000);
	else
		return;
	r->status = WASD_ETOOBIG;
	longjmp(r->fail, 1);
}

static enum wasd_status check_header(const struct jpeg_decompress_struct *j, struct wasd_err *err)
{
	if (j->data_precision != 8)
		return wasd_fail(err, WASD_EUNSUPPORTED, "JPEG: %d bits per sample; only 8 are supported", j->data_precision);
	if (j->jpeg_color_space == JCS_UNKNOWN)
		return wasd_fail(
			err, WASD_EUNSUPPORTED,
			"JPEG: unknown colour space with %d components; only grey, YCbCr, RGB, CMYK and YCCK are supported",
			j->num_components);
	return image_check_size("JPEG", j->image_width, j->image_height, err);
}

static bool leaves(const struct jpeg_decompress_struct *j, unsigned d, uint64_t side)
{
	return side && j->image_width >= side * d && j->image_height >= side * d;
}

static uint64_t pixels(const struct jpeg_decompress_struct *j, unsigned d)
{
	return (uint64_t)((j->image_width + d - 1) / d) * ((j->image_height + d - 1) / d);
}

/* Chooses *d: the picture is decoded at 1/d. The result keeps at least twice the target's size, for the resampling to
 * average; a picture that must shrink to be decoded at all keeps at least the target's size. */
static enum wasd_status choose_scale(const struct jpeg_decompress_struct *j, const struct wanted *want, unsigned *d,
                                     struct wasd_err *err)
{
	uint64_t side = (uint64_t)want->side;
	bool large = pixels(j, 1) > IMAGE_MAX_PIXELS,
		 much = want->how->reduce && pixels(j, 1) >= REDUCE_FROM && leaves(j, 8, side);
	*d = 1;
	while (*d < 8 && (large || much) && (leaves(j, 2 * *d, 2 * side) || pixels(j, *d) > IMAGE_MAX_PIXELS))
		*d *= 2;
	if (pixels(j, *d) > IMAGE_MAX_PIXELS || (large && !leaves(j, *d, side)))
		return image_not_reducible("JPEG", j->image_width, j->image_height, want, err);
	return WASD_OK;
}

/* Adobe stores CMYK inverted: 255 is no ink. The light left after one colour's ink and black is c*k/255. */
static void to_rgb(const uint8_t *cmyk, size_t n, uint8_t *rgb)
{
	for (size_t i = 0; i < n; i++, cmyk += 4, rgb += 3)
		for (int k = 0; k < 3; k++)
			rgb[k] = (uint8_t)((cmyk[k] * cmyk[3] + 127) / 255);
}

static bool of_four_inks(const struct jpeg_decompress_struct *j)
{
	return j->jpeg_color_space == JCS_CMYK || j->jpeg_color_space == JCS_YCCK;
}

static J_COLOR_SPACE colours_out(const struct jpeg_decompress_struct *j, bool grey)
{
	return of_four_inks(j) ? JCS_CMYK : grey || j->jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
}

static enum wasd_status read_rows(struct reader *r, struct picture *out, struct wasd_err *err)
{
	struct jpeg_decompress_struct *j = &r->jpeg;
	size_t w = j->output_width, c = j->output_components == 1 ? 1 : 3, row = w * c;
	r->data = wasd_malloc(row * j->output_height);
	r->cmyk = of_four_inks(j) ? wasd_malloc(4 * w) : NULL;
	if (!r->data || (of_four_inks(j) && !r->cmyk))
		return wasd_fail(err, WASD_ENOMEM, "JPEG: no memory for %ux%u pixels", j->output_width, j->output_height);
	while (j->output_scanline < j->output_height) {
		uint8_t *at = r->data + row * j->output_scanline;
		JSAMPROW line = r->cmyk ? r->cmyk : at;
		jpeg_read_scanlines(j, &line, 1);
		if (r->cmyk)
			to_rgb(r->cmyk, w, at);
	}
	*out = (struct picture){.c = (int)c, .h = (int)j->output_height, .w = (int)w};
	return WASD_OK;
}

static int orientation_of(const struct jpeg_decompress_struct *j)
{
	for (const struct jpeg_marker_struct *m = j->marker_list; m; m = m->next)
		if (m->marker == EXIF_MARKER && m->data_length > 6 && !memcmp(m->data, "Exif\0", 6))
			return exif_orientation(m->data + 6, m->data_length - 6);
	return 0;
}

static void take_notes(const struct reader *r, struct picture *out)
{
	const struct jpeg_decompress_struct *j = &r->jpeg;
	out->notes = (of_four_inks(j) ? NOTE_CMYK : 0) | (j->scale_denom > 1 ? NOTE_REDUCED : 0) | (*r->odd ? NOTE_ODD : 0);
	snprintf(out->odd, sizeof out->odd, "%.*s", (int)sizeof out->odd - 1, r->odd);
}

static enum wasd_status jpeg_decode(const void *bytes, size_t len, const struct wanted *want, struct picture *out,
                                    struct wasd_err *err)
{
	struct reader *r = wasd_calloc(1, sizeof *r);
	if (!r)
		return wasd_fail(err, WASD_ENOMEM, "JPEG: no memory");
	struct jpeg_decompress_struct *j = &r->jpeg;
	enum wasd_status s;
	j->err = jpeg_std_error(&r->error);
	r->error.error_exit = on_error;
	r->error.emit_message = on_message;
	r->error.output_message = on_output;
	if (setjmp(r->fail)) { /* everything used below lives in *r, so longjmp clobbers nothing */
		s = wasd_fail(err, r->status, "JPEG: %s", r->message);
		goto done;
	}
	j->client_data = r;
	jpeg_create_decompress(j);
	j->client_data = r; /* older library versions clear it */
	j->mem->max_memory_to_use = (long)MAX_COEFFICIENTS_MB << 20;
	jpeg_save_markers(j, EXIF_MARKER, 0xffff);
	jpeg_mem_src(j, bytes, len);
	jpeg_read_header(j, TRUE);
	if ((s = check_header(j, err)) || (s = choose_scale(j, want, &j->scale_denom, err)))
		goto done;
	r->progress.progress_monitor = on_progress;
	j->progress = &r->progress;
	r->cpu_start = cpu_ms();
	j->out_color_space = colours_out(j, want->grey);
	jpeg_start_decompress(j);
	if ((s = read_rows(r, out, err)))
		goto done;
	out->orientation = orientation_of(j); /* before finishing, which frees the markers */
	jpeg_finish_decompress(j);
	take_notes(r, out);
	out->data = r->data;
	r->data = NULL;
done:
	jpeg_destroy_decompress(j);
	wasd_free(r->data);
	wasd_free(r->cmyk);
	wasd_free(r);
	return s;
}

const struct codec codec_jpeg = {
	.name = "JPEG",
	.magic = "\xff\xd8\xff",
	.magic_len = 3,
	.decode = jpeg_decode,
};
