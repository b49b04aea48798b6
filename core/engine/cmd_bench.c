/* engine/cmd_bench.c - wasd-engine bench train|infer: measures a network's speed on this machine, without daemon
 * or data.
 *
 * Images and labels are random and the network is untrained; neither affects the time. Every number is a mean over
 * the timed steps. To support a claim about speed, compare interleaved runs (tests/bench). */
#include "backend/backend.h"
#include "engine/commands.h"
#include "wasd/alive.h"
#include "graph/graph.h"
#include "infer/bundle.h"
#include "quant/make.h"
#include "wasd/cpu.h"
#include "wasd/graph.h"
#include "wasd/infer.h"
#include "wasd/model.h"
#include "wasd/optim.h"
#include "wasd/weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct bench {
	const char *what, *arch, *model_file, *was, *mode, *shift, *precision, *backend, *input, *tuning;
	int batch, threads, steps, warmup, classes, dead;
	uint64_t seed;
	bool json, explain, help;
	struct wasd_shape shape;
	enum wasd_precision computes; /* the option's value, parsed */
	const struct backend *row;    /* the backend in use */

	cJSON *spec; /* a job spec's "model" object */
	struct wasd_graph *graph;
	struct wasd_model *model;
	struct wasd_was *strategy; /* NULL: plain weights */
	struct wasd_draw draw;
	real *x;
	int32_t *y;

	/* results */
	double total_ms, phase_ms[WASD_PHASES], best_ms, cpu_ms; /* cpu: of all threads, spin waits included */
	uint64_t macs, allocations;
	size_t params, planned;
	cJSON *choices; /* --explain */
};

/* ---- options ----------------------------------------------------------------------------------------------- */

struct option_row {
	const char *name, *only; /* only: the one benchmark that takes the option, or NULL */
	size_t text, number;     /* member that holds the value, a string or an int; 0 = of the other type */
	int min, max;
	const char *help;
};

#define TEXT(m) offsetof(struct bench, m), 0, 0, 0
#define NUMBER(m, lo, hi) 0, offsetof(struct bench, m), lo, hi
static const struct option_row options[] = {
	{"--arch", NULL, TEXT(arch), "network"},
	{"--model", NULL, TEXT(model_file), "or a file with a job spec's \"model\" object, or with a whole job spec"},
	{"--was", NULL, TEXT(was),
     "translate, resized_crop, scale, paper (the network's published strategy) or off; default paper where there is one"},
	{"--mode", "infer", TEXT(mode),
     "aom, dom, slim or int8 (8-bit weights and maps, quantised on random images); default aom"},
	{"--dead", "infer", NUMBER(dead, 0, 100),
     "percent of the filters that are dead, in every layer whose channels belong to it alone; default 0"},
	{"--batch", NULL, NUMBER(batch, 1, 65536), "images per step; default 128 (train), 1 (infer)"},
	{"--threads", NULL, NUMBER(threads, 0, WASD_THREADS_MAX), "threads; 0 (default) = every core"},
	{"--shift", "infer", TEXT(shift),
     "mode dom: both = every augmented kernel is shifted by one tap on both axes (2x2 taps are left of 3x3)"},
	{"--precision", NULL, TEXT(precision), "fp32 (default), fp32-strict or bf16"},
	{"--steps", NULL, NUMBER(steps, 1, 1000000), "timed steps; default 5 (train), 20 (infer)"},
	{"--warmup", NULL, NUMBER(warmup, 0, 1000000), "steps before those; default 2"},
	{"--classes", NULL, NUMBER(classes, 1, 65535), "classes; default 10"},
	{"--input", NULL, TEXT(input), "image shape CxHxW; default 3x32x32"},
	{"--backend", NULL, TEXT(backend), "backend; default the fastest"},
	{"--tuning", NULL, TEXT(tuning),
     "file that keeps the measured choice of algorithms; default: WASD_TUNING, else measured anew"},
};
#define N_OPTIONS (sizeof options / sizeof *options)

static void usage(FILE *f)
{
	fprintf(
		f,
		"usage: wasd-engine bench train --arch NAME|--model FILE [OPTIONS]   forward, loss, backward, SGD with momentum\n"
		"       wasd-engine bench infer --arch NAME|--model FILE [OPTIONS]   predictions of a compiled bundle\n"
		"       wasd-engine bench profile --checkpoint FILE --dataset FILE          a searched profile beside random draws (bench profile --help)\n\n");
	for (size_t i = 0; i < N_OPTIONS; i++)
		fprintf(f, "  %-13s%s%s%s\n", options[i].name, options[i].help, options[i].only ? "; only bench " : "",
		        options[i].only ? options[i].only : "");
	fprintf(f, "  %-13s%s\n  %-13s%s\n  %-13s%s\n\nnetworks:", "--seed", "seed of weights, images and draws; default 1",
	        "--explain", "also which algorithm computes each convolution in each pass, and what was measured", "--json",
	        "one JSON object instead of a table");
	for (int i = 0; wasd_arch_at(i); i++)
		fprintf(f, " %s", wasd_arch_at(i)->name);
	fputc('\n', f);
}

static bool complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool complain(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("wasd-engine bench: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputs(" (see bench --help)\n", stderr);
	va_end(ap);
	return false;
}

static bool parse_number(const char *name, const char *text, long long min, long long max, long long *out)
{
	char *end;
	errno = 0;
	*out = strtoll(text, &end, 10);
	if (*end || end == text || errno || *out < min || *out > max)
		return complain("%s %s: want a whole number from %lld to %lld", name, text, min, max);
	return true;
}

static bool set_option(struct bench *b, const char *name, const char *value)
{
	long long n;
	if (!strcmp(name, "--seed")) {
		if (!parse_number(name, value, 0, INT64_MAX, &n))
			return false;
		b->seed = (uint64_t)n;
		return true;
	}
	for (size_t i = 0; i < N_OPTIONS; i++) {
		const struct option_row *o = &options[i];
		if (strcmp(name, o->name))
			continue;
		if (o->only && strcmp(o->only, b->what))
			return complain("%s belongs to bench %s", name, o->only);
		if (o->text) {
			memcpy((char *)b + o->text, &value, sizeof value);
			return true;
		}
		if (!parse_number(name, value, o->min, o->max, &n))
			return false;
		memcpy((char *)b + o->number, &(int){(int)n}, sizeof(int));
		return true;
	}
	return complain("unknown option '%s'", name);
}

static bool one_of(const char *name, const char *value, const char *const *allowed)
{
	for (int i = 0; allowed[i]; i++)
		if (!strcmp(value, allowed[i]))
			return true;
	return complain("%s %s: not a value it takes", name, value);
}

static bool check_options(struct bench *b)
{
	char rest;
	if (!b->arch == !b->model_file)
		return complain("one of --arch and --model is required");
	if (b->arch && !wasd_arch_find(b->arch))
		return complain("--arch %s: no such network", b->arch);
	if (sscanf(b->input, "%dx%dx%d%c", &b->shape.c, &b->shape.h, &b->shape.w, &rest) != 3 || b->shape.c < 1 ||
	    b->shape.h < 1 || b->shape.w < 1)
		return complain("--input %s: want CxHxW", b->input);
	if (b->shift && strcmp(b->mode, "dom"))
		return complain("--shift needs --mode dom");
	if (!wasd_precision_from_name(b->precision, &b->computes))
		return complain("--precision %s: not a value it takes", b->precision);
	return (!b->was || one_of("--was", b->was,
	                          (const char *const[]){"translate", "resized_crop", "scale", "paper", "off", NULL})) &&
	       one_of("--mode", b->mode, (const char *const[]){"aom", "dom", "slim", "int8", NULL}) &&
	       (!b->shift || one_of("--shift", b->shift, (const char *const[]){"both", NULL}));
}

static bool parse(struct bench *b, int argc, char **argv)
{
	b->what = argc > 1 ? argv[1] : "";
	if (!strcmp(b->what, "--help") || !strcmp(b->what, "-h"))
		return b->help = true;
	bool infer = !strcmp(b->what, "infer");
	if (!infer && strcmp(b->what, "train"))
		return complain("'%s': want train or infer", b->what);
	b->batch = infer ? 1 : 128;
	b->steps = infer ? 20 : 5;
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "--explain"))
			b->explain = true;
		else if (!strcmp(argv[i], "--json"))
			b->json = true;
		else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return b->help = true;
		else if (i + 1 == argc)
			return complain("%s: unknown, or its value is missing", argv[i]);
		else if (!set_option(b, argv[i], argv[i + 1]))
			return false;
		else
			i++;
	}
	return check_options(b);
}

/* ---- building -------------------------------------------------------------------------------------------------- */

static enum wasd_status create_strategy(struct bench *b, struct wasd_err *err)
{
	static const struct {
		const char *name, *json;
	} known[] = {
		{"translate", "{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1}]}"},
		{"resized_crop",
	     "{\"transforms\":[{\"type\":\"resized_crop\",\"scale\":[0.8,1.0],\"ratio\":[0.75,1.3333],\"weight\":1}]}"},
		{"scale", "{\"transforms\":[{\"type\":\"scale\"}]}"},
	};
	const char *paper;
	cJSON *spec = NULL;
	enum wasd_status s = wasd_network_was(b->spec, &paper, err);
	bool none = !s && !strcmp(paper, "false");
	if (!b->was)
		b->was = none ? "off" : "paper";
	if (s || !strcmp(b->was, "off"))
		return s;
	if (!strcmp(b->was, "paper") && none)
		return wasd_fail(err, WASD_EINVAL, "%s has no strategy of its own: --was off, translate, resized_crop or scale",
		                 b->arch);
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(b->was, known[i].name) && !(spec = cJSON_Parse(known[i].json)))
			return wasd_fail(err, WASD_ENOMEM, "strategy");
	s = wasd_was_create(b->graph, spec, paper, &b->strategy, err);
	cJSON_Delete(spec);
	if (s)
		return s;
	s = wasd_was_record(b->strategy, b->graph, b->seed, &b->draw, err);
	for (int i = 0; !s && b->shift && i < b->draw.n; i++)
		s = wasd_transform_make("translate", b->draw.layer[i].t.k, (double[6]){1, 1}, &b->draw.layer[i].t, err);
	return s;
}

static enum wasd_status create_graph(struct bench *b, struct wasd_err *err)
{
	enum wasd_status s = WASD_OK;
	if (b->model_file)
		s = engine_model_file(b->model_file, &b->spec, err);
	else if (!cJSON_AddStringToObject(b->spec = cJSON_CreateObject(), "arch", b->arch))
		s = wasd_fail(err, WASD_ENOMEM, "network");
	if (!s)
		s = wasd_network_complete(b->spec, NULL, err);
	if (!s)
		s = wasd_network_build(b->spec, b->shape, b->classes, &b->graph, err);
	if (!s)
		b->arch = wasd_network_name(b->spec);
	return s;
}

static bool is_dense(const struct node *n)
{
	return n->layer->channels == LAYER_CHANNELS_WEIGHED && n->groups == 1;
}

static void clear_row(struct bench *b, int param, int row)
{
	if (param < 0)
		return;
	struct wasd_param_info p = wasd_graph_param_info(b->graph, param);
	size_t n = p.count / (size_t)p.dims[0];
	memset(wasd_model_master(b->model) + p.offset + (size_t)row * n, 0, n * sizeof(real));
}

/* Marks the units (wasd/alive.h) of the dead filters, spread evenly over each layer. writers: layers per unit. */
static void choose_dead(const struct bench *b, const struct wasd_alive *a, const int *writers, bool *dead)
{
	for (wasd_node i = 1; i < b->graph->n_nodes; i++) {
		const struct node *n = &b->graph->nodes[i];
		const int *unit = wasd_alive_unit(a, i);
		for (int c = 0; is_dense(n) && c < n->shape.c; c++)
			dead[unit[c]] = writers[unit[c]] == 1 && !wasd_alive_fixed(a, unit[c]) &&
			                (c + 1) * b->dead / 100 > c * b->dead / 100;
	}
}

/* Makes --dead percent of the filters dead: their weights, and the scale and shift of the normalisation behind them. */
static enum wasd_status kill_filters(struct bench *b, struct wasd_err *err)
{
	struct wasd_alive *a = NULL;
	enum wasd_status s = wasd_alive_create(b->graph, NULL, NULL, &a, err);
	int *writers = s ? NULL : wasd_calloc((size_t)wasd_alive_units(a), sizeof *writers);
	bool *dead = s ? NULL : wasd_calloc((size_t)wasd_alive_units(a), sizeof *dead);
	if (!s && (!writers || !dead))
		s = wasd_fail(err, WASD_ENOMEM, "dead filters");
	for (wasd_node i = 1; !s && i < b->graph->n_nodes; i++)
		for (int c = 0; is_dense(&b->graph->nodes[i]) && c < b->graph->nodes[i].shape.c; c++)
			writers[wasd_alive_unit(a, i)[c]]++;
	if (!s)
		choose_dead(b, a, writers, dead);
	for (wasd_node i = 1; !s && i < b->graph->n_nodes; i++)
		for (int c = 0; c < b->graph->nodes[i].shape.c; c++)
			if (dead[wasd_alive_unit(a, i)[c]] && b->graph->nodes[i].weight >= 0) {
				clear_row(b, b->graph->nodes[i].weight, c);
				clear_row(b, b->graph->nodes[i].bias, c);
			}
	wasd_alive_destroy(a);
	wasd_free(writers);
	wasd_free(dead);
	return s;
}

static enum wasd_status create(struct bench *b, struct wasd_err *err)
{
	enum wasd_status s = backend_choose(b->backend, b->computes, &b->row, err);
	if (s || (s = wasd_threads_init(b->threads, err)) || (s = create_graph(b, err)) ||
	    (s = wasd_model_create(b->graph, b->seed, &b->model, err)) || (s = create_strategy(b, err)) ||
	    (b->dead && (s = kill_filters(b, err))))
		return s;
	size_t n = (size_t)b->batch * wasd_shape_count(b->shape);
	struct wasd_rng r;
	b->params = wasd_graph_param_count(b->graph);
	b->x = wasd_calloc(n, sizeof *b->x);
	b->y = wasd_calloc((size_t)b->batch, sizeof *b->y);
	if (!b->x || !b->y)
		return wasd_fail(err, WASD_ENOMEM, "%d images", b->batch);
	wasd_rng_init(&r, b->seed, "bench", 0, 0);
	for (size_t i = 0; i < n; i++)
		b->x[i] = (real)wasd_rng_between(&r, -1, 1);
	for (int i = 0; i < b->batch; i++)
		b->y[i] = (int32_t)wasd_rng_below(&r, (uint32_t)b->classes);
	return WASD_OK;
}

static void destroy(struct bench *b)
{
	wasd_draw_done(&b->draw);
	wasd_was_destroy(b->strategy);
	wasd_model_destroy(b->model);
	wasd_graph_destroy(b->graph);
	cJSON_Delete(b->spec);
	wasd_free(b->x);
	wasd_free(b->y);
	cJSON_Delete(b->choices);
	wasd_threads_done();
}

/* ---- timing ------------------------------------------------------------------------------------------------------ */

struct subject {
	enum wasd_status (*step)(struct subject *s, struct wasd_err *err);
	void (*phases)(struct subject *s, uint64_t ns[WASD_PHASES], bool reset); /* NULL: phases are not measured */
	struct bench *b;
	struct wasd_exec *exec;
	struct wasd_optim *optim;
	struct wasd_rng draws, dropout;
	struct wasd_predictor *predictor;
	real *logits;
};

static double cpu_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static enum wasd_status measure(struct bench *b, struct subject *s, struct wasd_err *err)
{
	uint64_t ns[WASD_PHASES] = {0};
	for (int i = 0; i < b->warmup; i++) {
		enum wasd_status st = s->step(s, err);
		if (st)
			return st;
	}
	if (s->phases)
		s->phases(s, ns, true);
	struct wasd_mem_stats before = wasd_mem_stats();
	double cpu = cpu_ms();
	int64_t begin = wasd_mono_us(), last = begin;
	for (int i = 0; i < b->steps; i++) {
		enum wasd_status st = s->step(s, err);
		if (st)
			return st;
		int64_t now = wasd_mono_us();
		double ms = (double)(now - last) * 1e-3;
		b->best_ms = i == 0 || ms < b->best_ms ? ms : b->best_ms;
		last = now;
	}
	b->total_ms = (double)(last - begin) * 1e-3 / b->steps;
	b->cpu_ms = (cpu_ms() - cpu) / b->steps;
	b->allocations = wasd_mem_stats().allocs - before.allocs;
	if (s->phases)
		s->phases(s, ns, false);
	for (int i = 0; i < WASD_PHASES; i++)
		b->phase_ms[i] = (double)ns[i] * 1e-6 / b->steps;
	return WASD_OK;
}

static enum wasd_status train_step(struct subject *s, struct wasd_err *err)
{
	struct bench *b = s->b;
	struct wasd_pass pass = {.n = b->batch,
	                         .bn = WASD_BN_BATCH,
	                         .set = WASD_STATS_TRAIN,
	                         .update = true,
	                         .dropout = &s->dropout};
	enum wasd_status st = WASD_OK;
	double loss;
	int hits;
	if (b->strategy) {
		st = wasd_was_draw(b->strategy, &s->draws, &b->draw, err);
		pass.recipe = &b->draw.recipe;
	}
	wasd_model_grad_zero(b->model);
	if (st || (st = wasd_exec_forward(s->exec, b->x, &pass, err)) ||
	    (st = wasd_exec_loss(s->exec, b->y, 0, &loss, &hits, err)) || (st = wasd_exec_backward(s->exec, err)))
		return st;
	wasd_optim_step(s->optim, wasd_model_master(b->model), wasd_model_grad(b->model), wasd_optim_lr(s->optim));
	return WASD_OK;
}

static void exec_phases(struct subject *s, uint64_t ns[WASD_PHASES], bool reset)
{
	wasd_exec_times(s->exec, ns, reset);
}

static enum wasd_status bench_train(struct bench *b, struct wasd_err *err)
{
	struct subject s = {.step = train_step, .phases = exec_phases, .b = b};
	struct wasd_exec_opts o = {.batch = b->batch, .training = true, .precision = b->computes, .backend = b->backend};
	enum wasd_status st;
	wasd_rng_init(&s.draws, b->seed, "was", 0, 0);
	wasd_rng_init(&s.dropout, b->seed, "dropout", 0, 0);
	b->macs = wasd_graph_macs(b->graph, NULL);
	if (!(st = wasd_exec_create(b->model, &o, &s.exec, err)) &&
	    !(st = wasd_optim_create(NULL, b->params, &s.optim, err))) {
		b->planned = wasd_exec_bytes(s.exec);
		st = measure(b, &s, err);
		b->choices = b->explain ? wasd_exec_explain(s.exec) : NULL;
	}
	wasd_optim_destroy(s.optim);
	wasd_exec_destroy(s.exec);
	return st;
}

static enum wasd_status infer_step(struct subject *s, struct wasd_err *err)
{
	return wasd_predictor_run(s->predictor, s->b->x, s->b->batch, s->logits, err);
}

/* The images are as good as any for the speed. */
static enum wasd_status quantise(const struct bench *b, struct wasd_bundle *bundle, struct wasd_err *err)
{
	struct wasd_quant *q = NULL;
	struct wasd_batch few = {.n = b->batch < 8 ? b->batch : 8, .x = b->x};
	struct quant_images images = {.given = &few, .batch = few.n};
	enum wasd_status s = quant_make(bundle_model(bundle), NULL, &images, &(struct quant_how){0}, &q, err);
	if (!s)
		s = bundle_quantise(bundle, q, err);
	quant_made_destroy(q);
	return s;
}

static enum wasd_status bench_infer(struct bench *b, struct wasd_err *err)
{
	struct subject s = {.step = infer_step, .b = b};
	struct wasd_bundle *bundle = NULL;
	struct wasd_model *small = NULL;
	bool dom = !strcmp(b->mode, "dom");
	enum wasd_status st = WASD_OK;
	if (dom && !b->strategy)
		return wasd_fail(err, WASD_EINVAL,
		                 "--mode dom needs a strategy: --was translate, resized_crop, scale or paper");
	s.logits = wasd_calloc((size_t)b->batch * (size_t)b->classes, sizeof *s.logits);
	if (!s.logits)
		st = wasd_fail(err, WASD_ENOMEM, "logits");
	if (!st && !strcmp(b->mode, WASD_MODE_SLIM))
		st = mode_slim.reshape(&(struct mode){.kind = &mode_slim}, b->model, &small, err);
	if (!st)
		st = bundle_compile(small ? small : b->model, dom ? &b->draw.recipe : NULL, WASD_STATS_AOM, &bundle, err);
	if (!st && !strcmp(b->mode, "int8"))
		st = quantise(b, bundle, err);
	if (!st && small)
		b->params = wasd_graph_param_count(wasd_model_graph(small));
	if (!st)
		st = wasd_predictor_create(bundle,
		                           &(struct wasd_predictor_opts){.precision = b->computes, .backend = b->backend},
		                           &s.predictor, err);
	if (!st && b->warmup == 0)
		b->warmup = 1; /* the first step makes the plan */
	if (!st)
		st = measure(b, &s, err);
	if (!st) {
		b->macs = wasd_bundle_macs(bundle);
		b->planned = wasd_predictor_bytes(s.predictor);
		b->choices = b->explain ? wasd_predictor_explain(s.predictor, b->batch) : NULL;
	}
	wasd_predictor_destroy(s.predictor);
	wasd_bundle_unref(bundle);
	wasd_model_destroy(small);
	wasd_free(s.logits);
	return st;
}

/* ---- reporting -------------------------------------------------------------------------------------------------- */

static double peak_rss(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_maxrss * 1024;
}

static void print_json(const struct bench *b)
{
	bool train = !strcmp(b->what, "train");
	cJSON *j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "bench", b->what);
	cJSON_AddStringToObject(j, "arch", b->arch);
	cJSON_AddStringToObject(j, "was", b->was);
	if (!train)
		cJSON_AddStringToObject(j, "mode", b->mode);
	if (b->shift)
		cJSON_AddStringToObject(j, "shift", b->shift);
	cJSON_AddNumberToObject(j, "batch", b->batch);
	cJSON_AddItemToObject(j, "input", cJSON_CreateIntArray((int[]){b->shape.c, b->shape.h, b->shape.w}, 3));
	cJSON_AddNumberToObject(j, "classes", b->classes);
	cJSON_AddStringToObject(j, "precision", b->precision);
	cJSON_AddNumberToObject(j, "threads", wasd_threads());
	cJSON_AddNumberToObject(j, "steps", b->steps);
	cJSON_AddNumberToObject(j, "images_per_s", b->batch * 1e3 / b->total_ms);
	cJSON *ms = cJSON_AddObjectToObject(j, "ms_per_step");
	cJSON_AddNumberToObject(ms, "total", b->total_ms);
	double rest = b->total_ms;
	for (int i = 0; train && i < WASD_PHASES; i++)
		if (i != WASD_PHASE_OTHER) {
			cJSON_AddNumberToObject(ms, wasd_phase_name(i), b->phase_ms[i]);
			rest -= b->phase_ms[i];
		}
	if (train)
		cJSON_AddNumberToObject(ms, wasd_phase_name(WASD_PHASE_OTHER), rest);
	cJSON_AddNumberToObject(j, "ms_best_step", b->best_ms);
	cJSON_AddNumberToObject(j, "cpu_ms_per_step", b->cpu_ms);
	cJSON_AddNumberToObject(j, "macs_per_image", (double)b->macs);
	cJSON_AddNumberToObject(j, "params", (double)b->params);
	cJSON_AddNumberToObject(j, "peak_rss_bytes", peak_rss());
	cJSON_AddNumberToObject(j, "planned_bytes", (double)b->planned);
	cJSON_AddNumberToObject(j, "allocations", (double)b->allocations);
	if (b->choices)
		cJSON_AddItemReferenceToObject(j, "choices", b->choices);
	cJSON_AddStringToObject(j, "backend", b->row->name);
	cJSON_AddStringToObject(j, "coretype", wasd_cpu_openblas_loaded());
	cJSON_AddStringToObject(j, "version", WASD_VERSION);
	char *text = wasd_json_print(j);
	puts(text ? text : "null");
	wasd_free(text);
	cJSON_Delete(j);
}

static void print_table(const struct bench *b)
{
	bool train = !strcmp(b->what, "train");
	printf("%s %s, was %s%s%s%s, batch %d of %dx%dx%d, %s on %s, %d threads, %s kernels, wasd %s\n", b->what, b->arch,
	       b->was, train ? "" : ", mode ", train ? "" : b->mode, b->shift ? " shifted on both axes" : "", b->batch,
	       b->shape.c, b->shape.h, b->shape.w, b->precision, b->row->name, wasd_threads(), wasd_cpu_openblas_loaded(),
	       WASD_VERSION);
	printf("  %-16s%10.1f\n", "images/s", b->batch * 1e3 / b->total_ms);
	printf("  %-16s%10.2f ms   (best %.2f, processor time %.2f)\n", "step", b->total_ms, b->best_ms, b->cpu_ms);
	double rest = b->total_ms;
	for (int i = 0; train && i < WASD_PHASES; i++) {
		if (i == WASD_PHASE_OTHER)
			continue;
		printf("    %-14s%10.2f ms  %3.0f %%\n", wasd_phase_name(i), b->phase_ms[i],
		       100 * b->phase_ms[i] / b->total_ms);
		rest -= b->phase_ms[i];
	}
	if (train)
		printf("    %-14s%10.2f ms  %3.0f %%\n", wasd_phase_name(WASD_PHASE_OTHER), rest, 100 * rest / b->total_ms);
	printf("  %-16s%10.1f M per image\n", "multiply-adds", (double)b->macs * 1e-6);
	printf("  %-16s%10.2f M\n", "parameters", (double)b->params * 1e-6);
	printf("  %-16s%10.1f MiB  (planned %.1f)\n", "peak memory", peak_rss() / 1048576, (double)b->planned / 1048576);
	printf("  %-16s%10llu in the timed steps\n", "allocations", (unsigned long long)b->allocations);
}

/* Prints one line for each layer, kernel size and pass; kernels that differ only in padding share an algorithm. */
static void print_choices(const struct bench *b)
{
	const cJSON *c, *last = NULL;
	printf("\n  %-28s %-6s %-16s %-20s %-22s %s\n", "layer", "kernel", "pass", "algorithm", "implementation",
	       "measured microseconds");
	cJSON_ArrayForEach(c, b->choices) {
		const char *layer = "", *kernel = "", *pass = "", *algorithm = "", *implementation = "";
		wasd_json_str(c, "layer", &layer);
		wasd_json_str(c, "kernel", &kernel);
		wasd_json_str(c, "pass", &pass);
		wasd_json_str(c, "algorithm", &algorithm);
		wasd_json_str(c, "implementation", &implementation);
		printf("  %-28s %-6s %-16s %-20s %-22s", layer, kernel, pass, algorithm, implementation);
		const cJSON *t;
		cJSON_ArrayForEach(t, wasd_json_get(c, "us"))
			printf(" %s %.0f", t->string, cJSON_GetNumberValue(t));
		putchar('\n');
		last = c;
	}
	if (!last)
		puts("  this backend has no choice to make");
}

int cmd_bench(int argc, char **argv)
{
	struct bench b = {.mode = "aom", .precision = "fp32", .input = "3x32x32", .classes = 10, .warmup = 2, .seed = 1};
	struct wasd_err err = {0};
	if (argc > 1 && !strcmp(argv[1], "profile"))
		return bench_profile(argc - 1, argv + 1);
	if (!parse(&b, argc, argv))
		return 2;
	if (b.help) {
		usage(stdout);
		return 0;
	}
	if (b.tuning)
		setenv("WASD_TUNING", b.tuning, 1);
	enum wasd_status s = create(&b, &err);
	if (!s)
		s = !strcmp(b.what, "train") ? bench_train(&b, &err) : bench_infer(&b, &err);
	if (s)
		fprintf(stderr, "wasd-engine bench: %s\n", err.msg);
	else if (b.json)
		print_json(&b);
	else
		print_table(&b);
	if (!s && b.explain && !b.json)
		print_choices(&b);
	destroy(&b);
	return s != WASD_OK;
}
