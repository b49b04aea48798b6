/* jpeg.c - JPEG by libjpeg-turbo 2.1, which knows no limits of its own: size is checked after the header, the scans of a
 * progressive file and the time they take by the progress monitor, and every warning (truncation, bad codes) is an error. */
#include "data/image.h"

#include <setjmp.h>
#include <stdio.h>
#include <time.h>
#include <jpeglib.h>
#include <jerror.h>

enum { MAX_SCANS = 100, MAX_CPU_MS = 10000 };

struct reader {
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr error;
	struct jpeg_progress_mgr progress;
	jmp_buf fail;
	enum wasd_status status;                /* set before the jump */
	char message[JMSG_LENGTH_MAX];
	int64_t cpu_start;
	uint8_t *data;
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
	r->status = code == JERR_OUT_OF_MEMORY ? WASD_ENOMEM : code == JERR_BAD_PRECISION ? WASD_EUNSUPPORTED
	          : code == JERR_IMAGE_TOO_BIG ? WASD_ETOOBIG : WASD_ECORRUPT;
	c->err->format_message(c, r->message);
	longjmp(r->fail, 1);
}

static void on_message(j_common_ptr c, int level)
{
	if (level < 0)
		on_error(c);
}

static void on_output(j_common_ptr c) { (void)c; }

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

/* Colour spaces that come out as grey or RGB without guessing; CMYK and YCCK depend on a profile. */
static enum wasd_status check_header(const struct jpeg_decompress_struct *j, struct wasd_err *err)
{
	if (j->data_precision != 8)
		return wasd_fail(err, WASD_EUNSUPPORTED, "JPEG: %d bits per sample, only 8 are read", j->data_precision);
	if (j->jpeg_color_space != JCS_GRAYSCALE && j->jpeg_color_space != JCS_YCbCr && j->jpeg_color_space != JCS_RGB)
		return wasd_fail(err, WASD_EUNSUPPORTED, "JPEG: %d-component colour (CMYK or unknown), only grey, YCbCr and RGB are read", j->num_components);
	return image_check_size("JPEG", j->image_width, j->image_height, err);
}

static enum wasd_status jpeg_decode(const void *bytes, size_t len, bool grey, struct picture *out, struct wasd_err *err)
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
	if (setjmp(r->fail)) {                  /* everything that is used below lives in *r: nothing is clobbered */
		s = wasd_fail(err, r->status, "JPEG: %s", r->message);
		goto done;
	}
	j->client_data = r;
	jpeg_create_decompress(j);
	j->client_data = r;                     /* older versions clear it */
	jpeg_mem_src(j, bytes, len);
	jpeg_read_header(j, TRUE);
	if ((s = check_header(j, err)))
		goto done;
	r->progress.progress_monitor = on_progress;
	j->progress = &r->progress;
	r->cpu_start = cpu_ms();
	j->out_color_space = grey || j->jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
	jpeg_start_decompress(j);
	size_t row = (size_t)j->output_width * (size_t)j->output_components;
	if (!(r->data = wasd_malloc(row * j->output_height))) {
		s = wasd_fail(err, WASD_ENOMEM, "JPEG: no memory for %ux%u pixels", j->output_width, j->output_height);
		goto done;
	}
	while (j->output_scanline < j->output_height) {
		JSAMPROW line = r->data + row * j->output_scanline;
		jpeg_read_scanlines(j, &line, 1);
	}
	jpeg_finish_decompress(j);
	*out = (struct picture){ j->output_components, (int)j->output_height, (int)j->output_width, r->data };
	r->data = NULL;
	s = WASD_OK;
done:
	jpeg_destroy_decompress(j);
	wasd_free(r->data);
	wasd_free(r);
	return s;
}

const struct codec codec_jpeg = {
	.name = "JPEG", .magic = "\xff\xd8\xff", .magic_len = 3, .decode = jpeg_decode,
};
