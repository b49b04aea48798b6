/* engine/cmd_describe.c - wasd-engine describe: prints a network layer by layer, as a table or as JSON, without a
 * daemon. cmd_check.c answers the daemon's own questions. */
#include "engine/commands.h"
#include "wasd/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct asked {
	cJSON *model;
	struct wasd_shape input;
	int classes;
	bool json, named;
	bool or_other; /* the caller knows other things by name than networks: an unknown one is its affair */
};

enum { UNKNOWN_NETWORK = 4 };

static void list_networks(FILE *f)
{
	const struct wasd_arch *a;
	for (int i = 0; (a = wasd_arch_at(i)); i++) {
		fprintf(f, "  %-19s%s\n", a->name, a->summary);
		for (const struct wasd_field *o = a->options; o->name; o++)
			fprintf(f, "    --%-15s%s; default %s\n", o->name, o->summary, o->def);
	}
}

static void usage(FILE *f)
{
	fprintf(
		f, "usage: wasd describe NETWORK [--OPTION N] [--input CxHxW] [--classes N] [--json]\n"
		   "       wasd describe --model FILE [--input CxHxW] [--classes N] [--json]\n\n"
		   "  --input      image shape; default 3x32x32\n"
		   "  --classes    default 10\n"
		   "  --model      a file with a job spec's \"model\" object, or with a whole job spec\n"
		   "  --json       one JSON object, every layer in it, instead of a table\n"
		   "  --networks   only the list below\n"
		   "  --or-other   exit with 4, without a message, if NETWORK is unknown\n\nnetworks and their own options:\n");
	list_networks(f);
}

static int refuse(const char *what, const struct wasd_err *err)
{
	fprintf(stderr, "wasd describe: %s%s%s\n", what, *what ? ": " : "", err->msg);
	return 1;
}

static int wrong(const char *what, const char *arg)
{
	fprintf(stderr, "wasd describe: %s%s (see wasd describe --help)\n", what, arg);
	return 2;
}

/* ---- the table ---------------------------------------------------------------------------------------------- */

/* Inserts thousands separators: 12,550,250. */
static const char *grouped(double v, char out[32])
{
	char digits[32];
	int n = snprintf(digits, sizeof digits, v < 1e18 ? "%.0f" : "%.3e", v), k = 0;
	for (int i = 0; i < n && k < 30; i++) {
		if (i && (n - i) % 3 == 0)
			out[k++] = ',';
		out[k++] = digits[i];
	}
	out[k] = 0;
	return out;
}

static double number(const cJSON *o, const char *key)
{
	double v = 0;
	wasd_json_num(o, key, &v);
	return v;
}

static const char *text(const cJSON *o, const char *key)
{
	const char *s;
	return wasd_json_str(o, key, &s) ? s : "";
}

static int item(const cJSON *o, const char *key, int i)
{
	const cJSON *v = cJSON_GetArrayItem(wasd_json_get(o, key), i);
	return v ? v->valueint : -1;
}

/* Layers that only change the values of the layer before (batch norm, activation, dropout) share its line. */
struct line {
	int first, last;
};

static bool continues(const cJSON *const *layer, const int *readers, int i)
{
	return i > 1 && cJSON_GetArraySize(wasd_json_get(layer[i], "inputs")) == 1 &&
	       item(layer[i], "inputs", 0) == i - 1 && readers[i - 1] == 1 && number(layer[i], "macs") == 0 &&
	       cJSON_Compare(wasd_json_get(layer[i], "shape"), wasd_json_get(layer[i - 1], "shape"), true);
}

static void print_what(const cJSON *const *layer, const int *line_of, struct line l, int at)
{
	char what[200];
	size_t n = 0;
	for (int i = l.first; i <= l.last && n < sizeof what; i++) {
		const cJSON *j = layer[i];
		n += (size_t)snprintf(what + n, sizeof what - n, "%s%s",
		                      i > l.first                                ? ", " :
		                      number(j, "groups") == item(j, "shape", 0) ? "depthwise " :
		                                                                   "",
		                      text(j, "op"));
		if (i > l.first || n >= sizeof what)
			continue;
		if (item(j, "kernel", 0) > 0)
			n += (size_t)snprintf(what + n, sizeof what - n, " %dx%d", item(j, "kernel", 0), item(j, "kernel", 1));
		if (n < sizeof what && number(j, "stride") > 1)
			n += (size_t)snprintf(what + n, sizeof what - n, "/%.0f", number(j, "stride"));
		int inputs = cJSON_GetArraySize(wasd_json_get(j, "inputs"));
		for (int k = 0; k < inputs && n < sizeof what && (inputs > 1 || line_of[item(j, "inputs", 0)] != at - 1); k++)
			n += (size_t)snprintf(what + n, sizeof what - n, "%s#%d",
			                      k          ? " " :
			                      inputs > 1 ? " of " :
			                                   " from ",
			                      line_of[item(j, "inputs", k)]);
	}
	printf("%-40s", what);
}

static void print_line(const cJSON *const *layer, const int *line_of, struct line l, int at)
{
	const cJSON *j = layer[l.first];
	char shape[40], params[32], macs[32];
	double p = 0;
	for (int i = l.first; i <= l.last; i++)
		p += number(layer[i], "params");
	snprintf(shape, sizeof shape, "%dx%dx%d", item(j, "shape", 0), item(j, "shape", 1), item(j, "shape", 2));
	printf("%4d %s %-28s ", at, cJSON_IsTrue(wasd_json_get(j, "augmented")) ? "*" : " ", text(j, "name"));
	print_what(layer, line_of, l, at);
	printf(" %-12s %12s %14s\n", shape, p > 0 ? grouped(p, params) : "",
	       number(j, "macs") > 0 ? grouped(number(j, "macs"), macs) : "");
}

static bool print_layers(const cJSON *layers)
{
	int n = cJSON_GetArraySize(layers), lines = 0;
	const cJSON **layer = wasd_calloc((size_t)n, sizeof *layer), *j;
	int *readers = wasd_calloc((size_t)n, sizeof *readers), *line_of = wasd_calloc((size_t)n, sizeof *line_of);
	bool ok = layer && readers && line_of;
	if (ok) {
		int i = 0;
		cJSON_ArrayForEach(j, layers)
			layer[i++] = j;
		for (i = 0; i < n; i++)
			for (int k = 0; k < cJSON_GetArraySize(wasd_json_get(layer[i], "inputs")); k++)
				readers[item(layer[i], "inputs", k)]++;
		printf("%4s   %-28s %-40s %-12s %12s %14s\n", "#", "LAYER", "WHAT", "OUTPUT", "PARAMETERS", "MULTIPLY-ADDS");
		for (i = 0; i < n; lines++) {
			struct line l = {i, i};
			line_of[i] = lines;
			while (++i < n && continues(layer, readers, i)) {
				l.last = i;
				line_of[i] = lines;
			}
			print_line(layer, line_of, l, lines);
		}
	}
	wasd_free(layer);
	wasd_free(readers);
	wasd_free(line_of);
	return ok;
}

static bool print_table(const cJSON *d)
{
	const cJSON *a = wasd_json_get(d, "augmented"), *dom = wasd_json_get(a, "dom_macs"), *was = wasd_json_get(d, "was");
	char params[32], macs[32], other[32];
	double all = number(d, "macs");
	char *strategy = wasd_json_print(was);
	printf("%s%s%s\n", text(d, "arch"), *text(d, "summary") ? ": " : "", text(d, "summary"));
	printf("%s parameters, %s multiply-adds for one image of %dx%dx%d, %.0f classes\n\n",
	       grouped(number(d, "params"), params), grouped(all, macs), item(d, "input", 0), item(d, "input", 1),
	       item(d, "input", 2), number(d, "classes"));
	bool ok = strategy && print_layers(wasd_json_get(d, "layers"));
	if (ok && number(d, "other_params") > 0)
		printf(
			"\n%s parameters belong to no layer: alphas of augmented convolutions, and what the published network registers without using it.\n",
			grouped(number(d, "other_params"), other));
	if (ok && number(a, "layers") > 0)
		printf(
			"\n* %.0f augmented convolutions, %.1f %% of the multiply-adds. With each of them shifted by one tap, DOM computes %.1f %% less along one\n"
			"  axis, %.1f %% less along both.\n",
			number(a, "layers"), 100 * number(a, "share"), 100 * (1 - number(dom, "one_axis") / all),
			100 * (1 - number(dom, "both_axes") / all));
	if (ok)
		printf("\n\"was\" left out means: %s\n", strategy);
	wasd_free(strategy);
	return ok;
}

/* ---- arguments ------------------------------------------------------------------------------------------------ */

static bool read_shape(const char *s, struct wasd_shape *out)
{
	char rest;
	struct wasd_shape v;
	if (sscanf(s, "%5dx%5dx%5d%c", &v.c, &v.h, &v.w, &rest) != 3 || v.c < 1 || v.h < 1 || v.w < 1)
		return false;
	*out = v;
	return true;
}

/* Handles an option of the network, such as --head 4096 or --published true. The network's builder checks the
 * value. */
static bool own_option(cJSON *model, const char *name, const char *value)
{
	const struct wasd_arch *a = wasd_arch_find(text(model, "arch"));
	char *end;
	double v = strtod(value, &end);
	for (const struct wasd_field *o = a ? a->options : NULL; o && o->name; o++) {
		if (strncmp(name, "--", 2) || strcmp(name + 2, o->name))
			continue;
		if (o->type == WASD_BOOL)
			return (!strcmp(value, "true") || !strcmp(value, "false")) &&
			       cJSON_AddBoolToObject(model, o->name, !strcmp(value, "true"));
		return *value && !*end && cJSON_AddNumberToObject(model, o->name, v);
	}
	return false;
}

/* Returns 0, or the exit status after printing a message. */
static int read_arguments(struct asked *q, int argc, char **argv)
{
	struct wasd_err err = {0};
	q->input = (struct wasd_shape){3, 32, 32};
	q->classes = 10;
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (!strcmp(name, "--json") || !strcmp(name, "--or-other")) {
			*(name[2] == 'j' ? &q->json : &q->or_other) = true;
			continue;
		}
		if (name[0] != '-' && !q->model) {
			q->named = true;
			q->model = cJSON_CreateObject();
			if (!cJSON_AddStringToObject(q->model, "arch", name))
				return wrong("no memory", "");
			continue;
		}
		if (name[0] != '-' || !value)
			return wrong(value ? "one network at a time: " : "unknown, or its value is missing: ", name);
		i++;
		if (!strcmp(name, "--input")) {
			if (!read_shape(value, &q->input))
				return wrong("--input: want CxHxW, not ", value);
		} else if (!strcmp(name, "--classes")) {
			char *end;
			long n = strtol(value, &end, 10);
			if (*end || end == value || n < 1 || n > 65535)
				return wrong("--classes: want a whole number from 1 to 65535, not ", value);
			q->classes = (int)n;
		} else if (!strcmp(name, "--model")) {
			if (q->model)
				return wrong("one network at a time: ", value);
			if (engine_model_file(value, &q->model, &err))
				return refuse("", &err);
		} else if (!q->model || !own_option(q->model, name, value)) {
			return wrong("unknown, misplaced or without a number: ", name);
		}
	}
	return q->model ? 0 : wrong("which network?", "");
}

static int print_json(const cJSON *j)
{
	char *out = j ? wasd_json_print(j) : NULL;
	if (out)
		puts(out);
	else
		fprintf(stderr, "wasd describe: out of memory\n");
	wasd_free(out);
	return out ? 0 : 1;
}

int cmd_describe(int argc, char **argv)
{
	struct asked q = {0};
	struct wasd_err err = {0};
	cJSON *d = NULL;
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			usage(stdout);
			return 0;
		} else if (!strcmp(argv[i], "--networks")) {
			list_networks(stdout);
			return 0;
		}
	int rc = read_arguments(&q, argc, argv);
	if (q.or_other && q.named && !wasd_arch_find(text(q.model, "arch"))) {
		rc = UNKNOWN_NETWORK;
	} else if (!rc && (wasd_network_complete(q.model, NULL, &err) ||
	                   wasd_network_describe(q.model, NULL, q.input, q.classes, &d, &err))) {
		rc = refuse(err.pointer, &err);
	}
	if (d)
		rc = q.json ? print_json(d) : print_table(d) ? 0 : 1;
	cJSON_Delete(d);
	cJSON_Delete(q.model);
	return rc;
}
