/* engine/bench_profile.c - wasd-engine bench profile: compares a searched profile of a checkpoint with random
 * draws of the same cost. */
#include "engine/commands.h"
#include "wasd/data.h"
#include "wasd/making.h"
#include "wasd/profile.h"
#include "wasd/train.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arguments {
	const char *checkpoint, *dataset;
	double budget;
	int draws, evaluations, threads;
	bool json, quiet;
};

static void usage(FILE *f)
{
	fputs("usage: wasd-engine bench profile --checkpoint FILE --dataset FILE.wds [OPTIONS]\n\n"
	      "  --budget X       multiply-adds, as a share of the plain network's; default 0.7\n"
	      "  --draws N        random draws to compare with; default 200\n"
	      "  --evaluations N  draws that the search judges; default 256\n"
	      "  --threads N      threads; 0 (default) = every core\n"
	      "  --json           one JSON object instead of a table\n",
	      f);
}

static bool number(const char *name, const char *text, double min, double max, double *out)
{
	char *end;
	*out = strtod(text, &end);
	if (*text && !*end && *out >= min && *out <= max)
		return true;
	fprintf(stderr, "wasd-engine bench profile: --%s %s: want a number from %g to %g\n", name, text, min, max);
	return false;
}

/* Returns 0 to continue, else the exit status plus 1. */
static int parse(struct arguments *a, int argc, char **argv)
{
	static const struct option rows[] = {
		{"checkpoint", 1, NULL, 'c'}, {"dataset", 1, NULL, 'd'},     {"budget", 1, NULL, 'b'},
		{"draws", 1, NULL, 'n'},      {"evaluations", 1, NULL, 'e'}, {"threads", 1, NULL, 't'},
		{"json", 0, NULL, 'j'},       {"help", 0, NULL, 'h'},        {NULL, 0, NULL, 0},
	};
	const struct wasd_field *evaluations = wasd_spec_at("/profiles/N/evaluations");
	double v[2];
	wasd_field_numbers(evaluations, evaluations->def, v);
	*a = (struct arguments){.budget = 0.7, .draws = 200, .evaluations = (int)v[0]};
	for (int c; (c = getopt_long(argc, argv, "", rows, NULL)) != -1;) {
		bool ok = true;
		switch (c) {
		case 'c':
			a->checkpoint = optarg;
			break;
		case 'd':
			a->dataset = optarg;
			break;
		case 'b':
			ok = number("budget", optarg, 0.01, 1, &a->budget);
			break;
		case 'n':
			ok = number("draws", optarg, 0, 100000, v);
			a->draws = (int)*v;
			break;
		case 'e':
			ok = number("evaluations", optarg, evaluations->min, evaluations->max, v);
			a->evaluations = (int)*v;
			break;
		case 't':
			ok = number("threads", optarg, 0, WASD_THREADS_MAX, v);
			a->threads = (int)*v;
			break;
		case 'j':
			a->json = true;
			break;
		case 'h':
			usage(stdout);
			return 1;
		default:
			ok = false;
		}
		if (!ok)
			return 3;
	}
	if (a->checkpoint && a->dataset && optind == argc)
		return 0;
	usage(stderr);
	return 3;
}

static bool tell(void *ctx, int done, int of)
{
	const struct arguments *a = ctx;
	if (!a->json)
		fprintf(stderr, "\r%d of %d ", done, of);
	return true;
}

static enum wasd_status read_file(const char *path, void **bytes, size_t *len, struct wasd_err *err)
{
	FILE *f = fopen(path, "rb");
	long n = f && !fseek(f, 0, SEEK_END) ? ftell(f) : -1;
	void *p = n > 0 ? wasd_malloc((size_t)n) : NULL;
	bool ok = p && !fseek(f, 0, SEEK_SET) && fread(p, 1, (size_t)n, f) == (size_t)n;
	int why = errno;
	if (f)
		fclose(f);
	if (!ok) {
		wasd_free(p);
		return why ? wasd_fail_errno(err, why, "%s", path) : wasd_fail(err, WASD_ECORRUPT, "%s is empty", path);
	}
	*bytes = p;
	*len = (size_t)n;
	return WASD_OK;
}

static enum wasd_status compare(struct arguments *a, cJSON **out, struct wasd_err *err)
{
	struct wasd_dataset *data = NULL;
	void *file = NULL;
	size_t len = 0;
	cJSON *request = cJSON_CreateObject();
	bool ok = cJSON_AddStringToObject(request, "desire", "macs") &&
	          cJSON_AddNumberToObject(request, "budget", a->budget) &&
	          cJSON_AddNumberToObject(request, "evaluations", a->evaluations);
	enum wasd_status s = ok ? wasd_threads_init(a->threads, err) : wasd_fail(err, WASD_ENOMEM, "request");
	if (!s)
		s = read_file(a->checkpoint, &file, &len, err);
	if (!s)
		s = wasd_dataset_open(a->dataset, &data, err);
	if (!s)
		s = wasd_train_select_as(data, file, len, err);
	if (!s)
		s = wasd_profile_compare(&(struct wasd_making){.file = file,
		                                               .len = len,
		                                               .data = data,
		                                               .request = request,
		                                               .go_on = tell,
		                                               .ctx = a},
		                         a->draws, out, err);
	cJSON_Delete(request);
	wasd_dataset_close(data);
	wasd_free(file);
	return s;
}

static double at(const cJSON *o, const char *name)
{
	double v = 0;
	wasd_json_num(o, name, &v);
	return v;
}

static void print_table(const cJSON *j)
{
	const cJSON *searched = wasd_json_get(j, "searched"), *list = wasd_json_get(j, "random"), *row;
	double best = 0, worst = 1, sum = 0;
	int n = cJSON_GetArraySize(list), above = 0;
	cJSON_ArrayForEach(row, list) {
		double acc = at(row, "accuracy");
		best = acc > best ? acc : best;
		worst = acc < worst ? acc : worst;
		sum += acc;
		above += acc >= at(searched, "accuracy");
	}
	printf(
		"\naccuracy on %.0f test images\n  plain     %.4f\n  searched  %.4f   at %.4f of the multiply-adds, %.0f draws judged\n",
		at(j, "images"), at(j, "aom"), at(searched, "accuracy"), at(searched, "macs_share"), at(j, "evaluations"));
	if (n)
		printf("  random    %.4f   mean of %d draws; %.4f to %.4f, %d of them as good as the searched one\n", sum / n,
		       n, worst, best, above);
}

int bench_profile(int argc, char **argv)
{
	struct arguments a;
	struct wasd_err err = {0};
	cJSON *j = NULL;
	int end = parse(&a, argc, argv);
	if (end)
		return end - 1;
	if (compare(&a, &j, &err)) {
		fprintf(stderr, "wasd-engine bench profile: %s\n", err.msg);
		return 1;
	}
	char *text = a.json ? wasd_json_print(j) : NULL;
	if (a.json)
		puts(text ? text : "{}");
	else
		print_table(j);
	wasd_free(text);
	cJSON_Delete(j);
	return 0;
}
