/* watch_view.c - draws a job while it trains: its progress, speed, accuracies and the course of its loss. */
#include "client/watch_view.h"
#include "client/client.h"

#include "wasd/base.h"
#include "wasd/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- what is known ---- */

void view_init(struct view *v, const char *id)
{
	*v = (struct view){.images_per_s = NAN, .eta_s = NAN, .loss = NAN, .acc_aom = NAN, .acc_dom = NAN, .stride = 1};
	snprintf(v->id, sizeof v->id, "%s", id);
}

static void take(const cJSON *o, const char *key, double *out)
{
	double n;
	if (wasd_json_num(o, key, &n))
		*out = n;
}

void view_progress(struct view *v, const cJSON *progress)
{
	const char *phase = "";
	int64_t done, total;
	if (!cJSON_IsObject(progress))
		return;
	wasd_json_str(progress, "phase", &phase);
	if (*phase && wasd_json_i64(progress, "phase_done", &done) && wasd_json_i64(progress, "phase_total", &total))
		snprintf(v->phase, sizeof v->phase, "%.40s, %lld of %lld", phase, (long long)done, (long long)total);
	else
		snprintf(v->phase, sizeof v->phase, "%.79s", phase);
	wasd_json_i64(progress, "epoch", &v->epoch);
	wasd_json_i64(progress, "epochs", &v->epochs);
	wasd_json_i64(progress, "step", &v->step);
	wasd_json_i64(progress, "steps", &v->steps);
	take(progress, "img_per_s", &v->images_per_s);
	take(progress, "eta_s", &v->eta_s);
	take(progress, "loss", &v->loss);
}

void view_metrics(struct view *v, const cJSON *metrics)
{
	take(metrics, "images_per_s", &v->images_per_s);
	take(metrics, "train_loss", &v->loss);
	take(metrics, "val_acc_aom", &v->acc_aom);
	take(metrics, "val_acc_dom", &v->acc_dom);
}

static void text(const cJSON *o, const char *key, char *out, size_t size)
{
	const char *s = "";
	wasd_json_str(o, key, &s);
	snprintf(out, size, "%s", s);
	for (char *p = out; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
}

void view_job(struct view *v, const cJSON *job)
{
	int64_t attempt = 0;
	text(job, "name", v->name, sizeof v->name);
	text(job, "state", v->state, sizeof v->state);
	text(job, "reason", v->reason, sizeof v->reason);
	text(job, "message", v->message, sizeof v->message);
	if (wasd_json_i64(job, "attempt", &attempt))
		v->attempt = (int)attempt;
	wasd_json_i64(wasd_json_get(job, "train"), "epochs", &v->epochs);
	view_progress(v, wasd_json_get(job, "progress"));
	view_metrics(v, wasd_json_get(job, "metrics_latest"));
}

void view_loss(struct view *v, double loss)
{
	if (!isfinite(loss))
		return;
	v->partial_sum += loss;
	if (++v->partial < v->stride)
		return;
	if (v->n_losses == VIEW_LOSSES) { /* half as fine */
		for (int i = 0; i < VIEW_LOSSES / 2; i++)
			v->losses[i] = (v->losses[2 * i] + v->losses[2 * i + 1]) / 2;
		v->n_losses /= 2;
		v->stride *= 2;
		return;
	}
	v->losses[v->n_losses++] = v->partial_sum / v->partial;
	v->partial = 0;
	v->partial_sum = 0;
}

void view_forget_losses(struct view *v)
{
	v->n_losses = v->partial = 0;
	v->stride = 1;
	v->partial_sum = 0;
}

/* ---- drawing ---- */

static bool utf8(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *s = getenv(names[i]);
		if (s && *s)
			return strcasestr(s, "UTF-8") || strcasestr(s, "utf8");
	}
	return false;
}

static int columns(void)
{
	struct winsize w;
	return !ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col >= 20 ? w.ws_col : 80;
}

const char *view_duration(double s, char out[32])
{
	if (s < 59.5)
		snprintf(out, 32, "%.0f s", s);
	else if (s < 3600)
		snprintf(out, 32, "%d min %02d s", (int)s / 60, (int)s % 60);
	else
		snprintf(out, 32, "%d h %02d min", (int)fmin(s / 3600, 99999), (int)fmod(s / 60, 60));
	return out;
}

static void bar(struct wasd_buf *b, double share, int width)
{
	bool fine = utf8();
	int full = (int)(fmin(fmax(share, 0), 1) * width + 0.5);
	wasd_buf_puts(b, "[");
	for (int i = 0; i < width; i++)
		wasd_buf_puts(b, i < full ? (fine ? "█" : "#") : (fine ? "░" : "."));
	wasd_buf_puts(b, "]");
}

/* The losses as `width` characters of height between their least and their greatest. */
static void sparkline(struct wasd_buf *b, const struct view *v, int width)
{
	static const char *const fine[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	static const char *const plain[] = {"_", ".", "-", "~", "=", "+", "*", "#"};
	double low = INFINITY, high = -INFINITY;
	bool blocks = utf8();
	for (int i = 0; i < v->n_losses; i++) {
		low = fmin(low, v->losses[i]);
		high = fmax(high, v->losses[i]);
	}
	if (width > v->n_losses)
		width = v->n_losses;
	for (int i = 0; i < width; i++) {
		int from = i * v->n_losses / width, to = (i + 1) * v->n_losses / width;
		double sum = 0;
		for (int k = from; k < to; k++)
			sum += v->losses[k];
		int height = high > low ? (int)((sum / (to - from) - low) / (high - low) * 7 + 0.5) : 0;
		wasd_buf_puts(b, (blocks ? fine : plain)[height]);
	}
}

static void percent(struct wasd_buf *b, const char *name, double v)
{
	if (isfinite(v))
		wasd_buf_printf(b, "  %s %.1f %%", name, 100 * v);
}

/* Prints at most `width` characters of the line. */
static void print_line(struct wasd_buf *b, int width)
{
	const char *s = wasd_buf_cstr(b);
	int n = 0;
	for (; s && *s && (n < width || (*s & 0xc0) == 0x80); s++) {
		putchar(*s);
		n += (*s & 0xc0) != 0x80;
	}
	printf("\033[K\n");
	wasd_buf_done(b);
}

void view_draw(struct view *v)
{
	struct wasd_buf b = {0};
	char left[32];
	int width = columns() - 1;
	if (v->drawn)
		printf("\033[%dA", v->drawn);
	wasd_buf_printf(&b, "%s  %s  %s", *v->name ? v->name : v->id, *v->name ? v->id : "", v->state);
	if (*v->reason)
		wasd_buf_printf(&b, " (%s)", v->reason);
	if (v->attempt > 1)
		wasd_buf_printf(&b, ", attempt %d", v->attempt);
	print_line(&b, width);

	b = (struct wasd_buf){0};
	double share = v->epoch && v->epochs ?
	                   ((double)(v->epoch - 1) + (v->steps ? (double)v->step / (double)v->steps : 0)) /
	                       (double)v->epochs :
	                   0;
	bar(&b, share, width > 100 ? 30 : width > 70 ? 16 : 8);
	wasd_buf_printf(&b, " %.0f %%  epoch %lld/%lld", 100 * share, (long long)v->epoch, (long long)v->epochs);
	if (*v->phase)
		wasd_buf_printf(&b, "  %s", v->phase);
	else if (v->steps)
		wasd_buf_printf(&b, "  step %lld/%lld", (long long)v->step, (long long)v->steps);
	if (isfinite(v->images_per_s))
		wasd_buf_printf(&b, "  %.0f images/s", v->images_per_s);
	if (isfinite(v->eta_s) && v->eta_s >= 0.5)
		wasd_buf_printf(&b, "  %s left", view_duration(v->eta_s, left));
	print_line(&b, width);

	b = (struct wasd_buf){0};
	if (isfinite(v->loss))
		wasd_buf_printf(&b, "loss %.4f", v->loss);
	else
		wasd_buf_puts(&b, "loss -");
	percent(&b, "AOM", v->acc_aom);
	percent(&b, "DOM", v->acc_dom);
	wasd_buf_puts(&b, "  ");
	sparkline(&b, v, width > 100 ? 50 : 30);
	print_line(&b, width);
	v->drawn = 3;
	fflush(stdout);
}

/* ---- lines ---- */

void view_epoch_line(const struct view *v, int64_t epoch, const cJSON *metrics)
{
	struct wasd_buf b = {0};
	double n;
	wasd_buf_printf(&b, "epoch %lld/%lld", (long long)epoch, (long long)v->epochs);
	if (wasd_json_num(metrics, "train_loss", &n))
		wasd_buf_printf(&b, "  loss %.4f", n);
	static const struct {
		const char *metric, *name;
	} shown[] = {{"train_acc", "train"}, {"val_acc_aom", "AOM"}, {"val_acc_dom", "DOM"}};
	for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
		if (wasd_json_num(metrics, shown[i].metric, &n))
			percent(&b, shown[i].name, n);
	if (wasd_json_num(metrics, "images_per_s", &n))
		wasd_buf_printf(&b, "  %.0f images/s", n);
	if (wasd_buf_cstr(&b))
		puts(b.data);
	fflush(stdout);
	wasd_buf_done(&b);
}

void view_end_line(const cJSON *job)
{
	const cJSON *best = wasd_json_get(job, "best");
	struct view v;
	double value;
	int64_t epoch;
	view_init(&v, client_text(job, "id"));
	view_job(&v, job);
	printf("%s is %s", v.id, v.state);
	if (*v.reason && strcmp(v.reason, "done"))
		printf(" (%s)", v.reason);
	if (*v.message)
		printf(": %s", v.message);
	if (cJSON_IsObject(best) && wasd_json_i64(best, "epoch", &epoch)) {
		printf("; best epoch %lld", (long long)epoch);
		if (wasd_json_num(best, "value", &value))
			printf(", %s %.4f", client_text(best, "metric"), value);
		printf(", %s", client_text(best, "checkpoint"));
	}
	putchar('\n');
	fflush(stdout);
}
