/* tests/core/layer_rows.c - every row of the table of layers that a job's network can have, with its defaults and with
 * other values of each option, behind maps and behind rows: equal to the plain loops on every row of the backends in
 * every precision, gradients by differences, refusals of inputs that do not fit. A row that core does not have is
 * walked as well. (What layers do in company, and rectangles: tests/core/layers.c.) */
#include "compare_nets.h"
#include "layer_nets.h"
#include "wasd/cpu.h"

#include "extend_layer.h"

const struct layer *const layer_more[] = {&layer_square, NULL};

typedef void net_fn(const char *what, struct wasd_graph *g);

/* One network; false where the row refuses what was asked for. */
static bool one(const cJSON *row, cJSON *entry, enum around where, int channels, net_fn *fn)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	char *what = cJSON_PrintUnformatted(entry);
	cJSON *model = layer_net(entry, layer_inputs(row), where, channels, false);
	enum wasd_status s = wasd_network_build(model, compared_input, CLASSES, &g, &err);
	if (!s)
		fn(what, g);
	else
		CHECK_MSG(s == WASD_EINVAL && err.msg[0] && !strncmp(err.pointer, "/model/layers/", 14), "%s: %s %s: %s", what,
		          wasd_status_name(s), err.pointer, err.msg);
	wasd_graph_destroy(g);
	cJSON_free(what);
	cJSON_Delete(model);
	return !s;
}

/* Values that an option may have, beside its default. */
static int values(const cJSON *option, cJSON *out[3])
{
	static const double tried[] = {0, 1, 2, 3, 0.3};
	const cJSON *def = wasd_json_get(option, "default");
	const char *type = wasd_json_get(option, "type")->valuestring;
	int n = 0;
	if (!strcmp(type, "boolean")) {
		out[n++] = cJSON_CreateBool(!cJSON_IsTrue(def));
		return n;
	}
	for (int i = !strcmp(type, "number") ? 4 : 0; i < 5 - !strcmp(type, "integer") && n < 3; i++)
		if (tried[i] >= wasd_json_get(option, "min")->valuedouble &&
		    tried[i] <= wasd_json_get(option, "max")->valuedouble && !(def && def->valuedouble == tried[i]))
			out[n++] = cJSON_CreateNumber(tried[i]);
	return n;
}

/* The row's networks; channels that fill no block of 16, and one and a part. */
static void each_net(const cJSON *row, const int *channels, net_fn *fn)
{
	const char *type = wasd_json_get(row, "type")->valuestring;
	bool stands = false;
	for (int c = 0; channels[c]; c++)
		for (int where = 0; where < AROUNDS; where++) {
			const cJSON *option;
			bool here = one(row, layer_entry(row), where, channels[c], fn);
			stands |= here;
			cJSON_ArrayForEach(option, wasd_json_get(row, "options")) {
				const char *name = wasd_json_get(option, "name")->valuestring;
				cJSON *v[3];
				int n = values(option, v), taken = 0;
				for (int i = 0; i < n; i++) {
					cJSON *entry = layer_entry(row);
					cJSON_DeleteItemFromObject(entry, name);
					cJSON_AddItemToObject(entry, name, v[i]);
					taken += one(row, entry, where, channels[c], fn);
				}
				CHECK_MSG(taken || !here || where == AROUND_ROWS, "%s: no other %s can be built", type, name);
			}
		}
	CHECK_MSG(stands, "%s: no network can have it", type);
}

static void each_row(const int *channels, net_fn *fn)
{
	cJSON *all = wasd_capabilities();
	const cJSON *row;
	cJSON_ArrayForEach(row, wasd_json_get(all, "layers"))
		each_net(row, channels, fn);
	cJSON_Delete(all);
}

static void equal_on_every_backend(void)
{
	each_row((const int[]){6, 20, 0}, compare_everywhere);
}

/* What leads to the logits is float32 in bf16 too: a normalisation reads, adds and writes values of either kind. */
static void precisions_meet(void)
{
#define POOLED "{\"type\":\"conv\",\"out\":20},{\"type\":\"globalpool\",\"name\":\"g\"}"
#define MIXED "{\"type\":\"conv\",\"out\":20,\"kernel\":1,\"name\":\"c\"},{\"type\":\"batchnorm\",\"name\":\"n\"}"
#define HEAD "{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]}"
	static const char *const nets[] = {
		"{\"layers\":[{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":20},{\"type\":\"batchnorm\"},{\"type\":\"relu\"}," HEAD,
		"{\"layers\":[" POOLED ",{\"type\":\"batchnorm\"},{\"type\":\"conv\",\"kernel\":1}," HEAD,
		"{\"layers\":[" POOLED "," MIXED ",{\"type\":\"add\",\"from\":[\"n\",\"g\"]},{\"type\":\"relu\"}," HEAD,
		"{\"layers\":[" POOLED "," MIXED
		",{\"type\":\"add\",\"from\":[\"n\",\"g\"]},{\"type\":\"conv\",\"kernel\":1}," HEAD,
		"{\"layers\":[" POOLED
		",{\"type\":\"square\",\"name\":\"s\"},{\"type\":\"conv\",\"kernel\":1,\"name\":\"c\"},{\"type\":\"add\",\"from\":[\"c\",\"s\"]}," HEAD,
		"{\"layers\":[" POOLED
		",{\"type\":\"batchnorm\",\"name\":\"m\"},{\"type\":\"conv\",\"kernel\":1,\"from\":\"g\",\"name\":\"c\"},"
		"{\"type\":\"add\",\"from\":[\"m\",\"c\"]},{\"type\":\"relu6\"}," HEAD,
	};
	for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
		struct wasd_graph *g = NULL;
		struct wasd_err err = {0};
		cJSON *model = cJSON_Parse(nets[i]);
		CHECK_MSG(!wasd_network_build(model, compared_input, CLASSES, &g, &err), "%s: %s", nets[i], err.msg);
		compare_everywhere(nets[i], g);
		wasd_graph_destroy(g);
		cJSON_Delete(model);
	}
}

/* ---- gradients ------------------------------------------------------------------------------------------ */

/* Central differences on some elements of every parameter. In double the step is small and the bound strict; in float
 * it has to be coarse, a maximum may change inside it, and only gross errors show. */
static void differences(const char *what, struct wasd_graph *g, const char *backend)
{
	struct wasd_model *m = NULL;
	real x[IMAGES * 3 * SIDE * SIDE];
	double top = 0, step = sizeof(real) == 8 ? 1e-6 : 4e-3, tol = sizeof(real) == 8 ? 2e-6 : 0.08;
	size_t count = wasd_graph_param_count(g);
	CHECK(!wasd_model_create(g, 3, &m, NULL));
	compared_images(x);
	struct wasd_exec *e = compared_exec(m, backend, WASD_PRECISION_FP32, true);
	compared_pass(e, m, x, true);
	real *grad = wasd_calloc(count, sizeof *grad), *w = wasd_model_master(m);
	memcpy(grad, wasd_model_grad(m), count * sizeof *grad);
	for (size_t i = 0; i < count; i++)
		top = fmax(top, fabs((double)grad[i]));
	for (int i = 0; i < wasd_graph_params(g); i++) {
		struct wasd_param_info p = wasd_graph_param_info(g, i);
		for (size_t k = 0; k < p.count; k += p.count / 8 + 1) {
			real *at = &w[p.offset + k], keep = *at;
			*at = (real)((double)keep + step);
			double up = compared_pass(e, m, x, false), hi = (double)*at;
			*at = (real)((double)keep - step);
			double down = compared_pass(e, m, x, false), lo = (double)*at;
			*at = keep;
			double want = (up - down) / (hi - lo), got = (double)grad[p.offset + k];
			CHECK_MSG(fabs(want - got) <= tol * fmax(top, 0.1),
			          "%s on %s: d/d %s[%zu] = %.9g, difference quotient %.9g (largest gradient %.3g)", what, backend,
			          p.name, k, got, want, top);
		}
	}
	CHECK_MSG(top > 1e-4, "%s on %s: no gradient", what, backend);
	wasd_free(grad);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
}

static void differences_everywhere(const char *what, struct wasd_graph *g)
{
	const struct backend *b, *can;
	for (int i = 0; (b = backend_at(i)); i++)
		if (!backend_choose(b->name, WASD_PRECISION_FP32, &can, NULL))
			differences(what, g, b->name);
}

static void gradients(void)
{
	each_row((const int[]){6, 0}, differences_everywhere);
}

/* ---- refusals --------------------------------------------------------------------------------------------- */

static void refused(cJSON *entry, int inputs, bool odd, const char *member)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	char at[60], *what = cJSON_PrintUnformatted(entry);
	cJSON *model = layer_net(entry, inputs, AROUND_MAPS, 6, odd);
	snprintf(at, sizeof at, "/model/layers/%d/%s", layer_place(inputs, AROUND_MAPS), member);
	enum wasd_status s = wasd_network_build(model, compared_input, CLASSES, &g, &err);
	CHECK_MSG(s == WASD_EINVAL && !strcmp(err.pointer, at) && err.msg[0], "%s%s: %s %s: %s, want %s", what,
	          odd ? " of other sizes" : "", wasd_status_name(s), err.pointer, err.msg, at);
	wasd_graph_destroy(g);
	cJSON_free(what);
	cJSON_Delete(model);
}

static const cJSON *option_of(const cJSON *row, const char *name)
{
	const cJSON *o;
	cJSON_ArrayForEach(o, wasd_json_get(row, "options"))
		if (!strcmp(wasd_json_get(o, "name")->valuestring, name))
			return o;
	return NULL;
}

/* Another number of inputs than the row says; inputs whose maps differ; a window that is larger than the map. */
static void misfits(const cJSON *row)
{
	static const char *const many[] = {"a", "b", "c"};
	int n = layer_inputs(row);
	bool any = !cJSON_IsNumber(wasd_json_get(row, "inputs"));
	for (int k = 0; k < 4; k++) {
		if (k == n || (any && k > 1))
			continue;
		cJSON *entry = layer_entry(row);
		cJSON_ReplaceItemInObject(entry, "from", cJSON_CreateStringArray(many, k));
		refused(entry, k > n ? k : n, false, "from");
	}
	if (n > 1)
		refused(layer_entry(row), n, true, "from");
	if (option_of(row, "kernel")) {
		cJSON *entry = layer_entry(row);
		cJSON_DeleteItemFromObject(entry, "kernel");
		cJSON_AddNumberToObject(entry, "kernel", SIDE + 1);
		if (option_of(row, "padding"))
			cJSON_AddNumberToObject(entry, "padding", 0);
		refused(entry, n, false, "kernel");
	}
}

static void shapes(void)
{
	cJSON *all = wasd_capabilities();
	const cJSON *row;
	cJSON_ArrayForEach(row, wasd_json_get(all, "layers"))
		misfits(row);
	cJSON_Delete(all);
}

/* What a job's network cannot have is made by the program alone. */
static void hidden_rows(void)
{
	const struct layer *l;
	for (int i = 0; (l = layer_at(i)); i++)
		CHECK_MSG(l->summary || !strcmp(l->op, "input") || !strcmp(l->op, "boxsum"),
		          "%s has no summary: no test here reaches it", l->op);
	CHECK(!layer_at(-1));
}

int main(int argc, char **argv)
{
	(void)argc;
	wasd_cpu_prepare(argv, NULL);
	TEST_RUN(equal_on_every_backend);
	TEST_RUN(precisions_meet);
	TEST_RUN(gradients);
	TEST_RUN(shapes);
	TEST_RUN(hidden_rows);
	TEST_END();
}
