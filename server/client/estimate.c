/* estimate.c - what a job would take, as the table of `wasd submit --dry-run`. */
#include "client/client.h"
#include "client/estimate.h"
#include "client/watch_view.h"

#include "wasd/json.h"

#include <math.h>
#include <stdarg.h>

enum { LABEL_WIDTH = 24 };

static double number(const cJSON *o, const char *key)
{
	double v;
	return wasd_json_num(o, key, &v) ? v : NAN;
}

static void line(const char *label, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(const char *label, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	client_cell(label, LABEL_WIDTH);
	client_say(text);
	putchar('\n');
}

/* 12550250 -> "12.6 M". */
static const char *si(double v, char out[32])
{
	static const char units[] = " kMGTP";
	int u = 0;
	while (fabs(v) >= 999.95 && units[u + 1]) {
		v /= 1000;
		u++;
	}
	snprintf(out, 32, u ? "%.1f %c" : "%.0f", v, units[u]);
	return out;
}

static const char *mib(double v, char out[32])
{
	snprintf(out, 32, v >= 1073741824 ? "%.1f GiB" : "%.1f MiB", v / (v >= 1073741824 ? 1073741824 : 1048576));
	return out;
}

static const char *seconds(double s, char out[32])
{
	if (!(s < 1))
		return view_duration(s, out);
	snprintf(out, 32, "%.1f ms", 1000 * s);
	return out;
}

static void print_memory(const cJSON *memory)
{
	char need[32], most[32], part[32];
	double limit = number(memory, "limit_bytes"), left = number(memory, "available_bytes"), top = fmin(limit, left);
	const cJSON *p;
	line("Memory", isnan(top) ? "%s" : "%s of %s", mib(number(memory, "bytes"), need), mib(top, most));
	cJSON_ArrayForEach(p, wasd_json_get(memory, "parts")) {
		printf("  ");
		client_cell(p->string, LABEL_WIDTH - 2);
		puts(mib(p->valuedouble, part));
	}
}

static void print_macs(const cJSON *macs)
{
	char aom[32], dom[32];
	if (wasd_json_get(macs, "dom"))
		line("Multiply-adds per image", "%s AOM, %s DOM with %s", si(number(macs, "aom"), aom),
		     si(number(macs, "dom"), dom), client_text(macs, "dom_of"));
	else
		line("Multiply-adds per image", "%s", si(number(macs, "aom"), aom));
}

/* "dom:macs-70, int8:plain"; nothing without any. */
static void print_modes(const cJSON *modes)
{
	char all[9 * 72] = "";
	const cJSON *one;
	size_t n = 0;
	cJSON_ArrayForEach(one, modes)
		if (cJSON_IsString(one) && n < sizeof all)
			n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", n ? ", " : "", one->valuestring);
	if (n)
		line("Made at the end", "%s; not counted in the times", all);
}

static void print_time(const cJSON *e)
{
	char step[32], epoch[32], total[32];
	const cJSON *t = wasd_json_get(e, "time"), *how = wasd_json_get(t, "measured");
	if (!cJSON_IsObject(t)) {
		line("Time", "unknown: %s", client_text(e, "time_missing"));
		return;
	}
	line("Step", "%s, %.1f images/s", seconds(number(t, "step_s"), step), number(t, "images_per_s"));
	line("Epoch", "%s, with its evaluations", seconds(number(t, "epoch_s"), epoch));
	line("All epochs", "%s", seconds(number(t, "total_s"), total));
	line("Measured", "%.0f steps of %.0f images, while %.0f other jobs train", number(how, "steps"),
	     number(how, "batch"), number(how, "beside"));
}

static void print_start(const cJSON *queue)
{
	char when[32];
	double eta = number(queue, "eta_s"), position = number(queue, "position");
	if (eta <= 0)
		line("Start", "at once");
	else if (isnan(eta) && isnan(position))
		line("Start", "%s", client_text(queue, "message"));
	else
		line("Start", "%s%s, as number %.0f in queue %s: %s", isnan(eta) ? "at an unknown time" : "in ",
		     isnan(eta) ? "" : view_duration(eta, when), position, client_text(queue, "name"),
		     client_text(queue, "message"));
}

int client_print_estimate(const cJSON *answer)
{
	const cJSON *e = wasd_json_get(answer, "estimate"), *images = wasd_json_get(e, "images"),
				*kept = wasd_json_get(e, "checkpoints"), *w;
	char params[32], each[32], all[32], room[32];
	line("Job", "%s", client_text(answer, "name"));
	line("Parameters", "%s", si(number(e, "params"), params));
	print_macs(wasd_json_get(e, "macs"));
	line("Images", "%.0f training, %.0f validation, %.0f test", number(images, "train"), number(images, "val"),
	     number(images, "test"));
	line("Steps", "%.0f in each of %.0f epochs, on %.0f threads", number(e, "steps_per_epoch"), number(e, "epochs"),
	     number(e, "threads"));
	print_memory(wasd_json_get(e, "memory"));
	line("Checkpoints kept", "%.0f of %s: %s of %s", number(kept, "kept"), mib(number(kept, "bytes"), each),
	     mib(number(kept, "kept_bytes"), all), mib(number(kept, "free_bytes"), room));
	print_time(e);
	print_modes(wasd_json_get(e, "modes"));
	print_start(wasd_json_get(e, "queue"));
	cJSON_ArrayForEach(w, wasd_json_get(e, "warnings"))
		line("Warning", "%s", client_text(w, "message"));
	return CLIENT_OK;
}
