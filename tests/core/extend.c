/* tests/core/extend.c - a network, a transform and a layer that core does not have, each one file and one row: they are listed, described,
 * built, drawn and trained like those that it has. */
#include "tiny.h"

#include "extend_layer.h"
#include "extend_network.h"
#include "extend_transform.h"

const struct layer *const layer_more[] = { &layer_square, NULL };
const struct wasd_arch *const wasd_arch_more[] = { &arch_speck, NULL };
const struct wasd_transform_op *const wasd_transform_op_more[] = { &op_transpose, NULL };

static bool listed(const cJSON *caps, const char *table, const char *key, const char *name)
{
	const cJSON *row;
	const char *s;
	cJSON_ArrayForEach(row, wasd_json_get(caps, table))
		if (wasd_json_str(row, key, &s) && !strcmp(s, name))
			return true;
	return false;
}

static void are_listed(void)
{
	cJSON *caps = wasd_capabilities();
	CHECK(listed(caps, "archs", "name", "speck") && listed(caps, "transforms", "type", "transpose") && listed(caps, "layers", "type", "square"));
	CHECK(listed(caps, "archs", "name", "resnet18") && !listed(caps, "archs", "name", "speck2"));
	cJSON_Delete(caps);
}

/* The network by its name, drawing the transform that only this program has. */
static void network_and_transform_train(void)
{
	char path[96];
	struct wasd_dataset *data = tiny_glyphs("glyphs", 96, 32, 16, path);
	struct tiny_run r = { 0 };
	cJSON *d = NULL, *model = cJSON_Parse("{\"arch\":\"speck\"}");
	struct wasd_err err = { 0 };
	CHECK_MSG(!wasd_network_describe(model, NULL, (struct wasd_shape){ 3, 16, 16 }, 10, &d, &err), "%s", err.msg);
	CHECK_INT(wasd_json_get(wasd_json_get(d, "augmented"), "layers")->valueint, 1);
	tiny_go(&r, "{\"model\":{\"arch\":\"speck\"},\"train\":{\"epochs\":2,\"batch\":32}}", data);
	CHECK_MSG(!r.status && r.end == WASD_TRAIN_DONE, "%s", r.err.msg);
	CHECK(r.len && memmem(r.file, r.len, "transpose", 9));       /* the recorded draw names it */
	tiny_done(&r);
	wasd_dataset_close(data);
	cJSON_Delete(d);
	cJSON_Delete(model);
}

/* The layer by its name in a network of a job's own: its values and its gradient by differences. */
static void layer_computes(void)
{
	struct wasd_graph *g = NULL;
	struct wasd_model *m = NULL;
	struct wasd_exec *e = NULL;
	struct wasd_err err = { 0 };
	struct wasd_rng r;
	real x[2 * 3 * 4 * 4];
	static const int32_t y[2] = { 1, 0 };
	double loss[3], grad = 0;
	int hits;
	cJSON *model = cJSON_Parse("{\"layers\":[{\"type\":\"conv\",\"out\":4},{\"type\":\"square\"},{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":\"classes\"}]}");
	wasd_rng_init(&r, 1, "x", 0, 0);
	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		x[i] = (real)wasd_rng_between(&r, -1, 1);
	CHECK_MSG(!wasd_network_build(model, (struct wasd_shape){ 3, 4, 4 }, 2, &g, &err) && !wasd_model_create(g, 1, &m, &err), "%s", err.msg);
	CHECK_MSG(!wasd_exec_create(m, &(struct wasd_exec_opts){ .batch = 2, .training = true, .backend = "openblas" }, &e, &err), "%s", err.msg);
	real *w = wasd_model_master(m), h = (real)1e-2, was = *w;
	for (int k = 0; k < 3; k++) {
		*w = was + (real)(k - 1) * h;
		CHECK(!wasd_exec_forward(e, x, &(struct wasd_pass){ .n = 2, .bn = WASD_BN_BATCH }, &err) && !wasd_exec_loss(e, y, 0, &loss[k], &hits, &err));
		wasd_model_grad_zero(m);
		if (k != 1)
			continue;
		CHECK(!wasd_exec_backward(e, &err));
		grad = (double)*wasd_model_grad(m);
	}
	double differences = (loss[2] - loss[0]) / (2 * (double)h);
	CHECK_MSG(grad != 0 && fabs(differences - grad) < 1e-3 * (1 + fabs(grad)), "by differences %g, computed %g", differences, grad);
	wasd_exec_destroy(e);
	wasd_model_destroy(m);
	wasd_graph_destroy(g);
	cJSON_Delete(model);
}

int main(void)
{
	tiny_begin();
	TEST_RUN(are_listed);
	TEST_RUN(network_and_transform_train);
	TEST_RUN(layer_computes);
	tiny_end();
	TEST_END();
}
