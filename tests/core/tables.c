/* tests/core/tables.c - every row of every table that capabilities list, by the rules that hold for all of them: a
 * name in lower case that no other row of the table has, a summary of one line, options with defaults in their range;
 * and every option refuses, by its pointer, what is not of its type or out of its range. Rows that core does not have
 * are walked as well. What a row computes: layer_rows.c, optim.c, strategies.c, models.c. */
#include "check.h"
#include "backend/backend.h"
#include "data/ingest.h"
#include "layer_nets.h"
#include "train/spec.h"
#include "wasd/data.h"
#include "wasd/optim.h"
#include "weights/chain.h"

#include "extend_layer.h"
#include "extend_network.h"
#include "extend_optimizer.h"
#include "extend_strategy.h"
#include "extend_transform.h"

const struct layer *const layer_more[] = {&layer_square, NULL};
const struct wasd_arch *const wasd_arch_more[] = {&arch_speck, NULL};
const struct wasd_optim_kind *const wasd_optim_more[] = {&optim_signsgd, NULL};
const struct weight_strategy *const weight_strategy_more[] = {&weight_sparse, NULL};
const struct wasd_transform_op *const wasd_transform_op_more[] = {&op_transpose, NULL};

static const struct wasd_shape input = {3, 32, 32};
enum { CLASSES = 10 };
#define PAPER "{\"transforms\":[{\"type\":\"translate\"}]}"

static const char *text_of(const cJSON *o, const char *member)
{
	const char *s = "";
	wasd_json_str(o, member, &s);
	return s;
}

static const char *name_of(const cJSON *row)
{
	if (cJSON_IsString(row))
		return row->valuestring;
	static const char *const members[] = {"path", "name", "type"};
	size_t i = 0;
	while (i < 2 && !*text_of(row, members[i]))
		i++;
	return text_of(row, members[i]);
}

/* ---- names and summaries -------------------------------------------------------------------------------- */

static void check_name(const char *table, const char *name)
{
	CHECK_MSG(*name && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-")], "%s: \"%s\" as a name", table,
	          name);
}

/* One line for people, which stands in lists and is no sentence. */
static void check_summary(const char *table, const char *name, const char *s)
{
	CHECK_MSG(s && strlen(s) > 3 && !strchr(s, '\n') && s[strlen(s) - 1] != '.' && strlen(s) < 120,
	          "%s: %s has \"%s\" as a summary", table, name, s ? s : "");
}

static void names_and_summaries(void)
{
	cJSON *all = wasd_capabilities();
	const cJSON *table, *row, *other;
	cJSON_ArrayForEach(table, all) {
		CHECK_MSG(table->child, "%s is empty", table->string);
		cJSON_ArrayForEach(row, table) {
			if (!wasd_json_get(row, "path")) /* tests/base/spec.c has those */
				check_name(table->string, name_of(row));
			for (other = table->child; other != row; other = other->next)
				CHECK_MSG(strcmp(name_of(row), name_of(other)), "%s: %s is there twice", table->string, name_of(row));
			if (cJSON_IsObject(row))
				check_summary(table->string, name_of(row), text_of(row, "summary"));
		}
	}
	cJSON_Delete(all);
}

/* Rows that capabilities do not show, or only the names of. */
static void rows_behind_the_lists(void)
{
	const struct backend *b;
	const struct wasd_transform_op *op, *other;
	for (int i = 0; (b = backend_at(i)); i++)
		check_summary("backends", b->name, b->summary);
	CHECK(backend_at(0) && !backend_at(-1) && !wasd_transform_op_at(-1));
	for (int i = 0; (op = wasd_transform_op_at(i)); i++) {
		check_name("transforms", op->name);
		check_summary("transforms", op->name, op->summary);
		CHECK_MSG(!op->type == !op->sample, "%s: what is drawn has a type and a law", op->name);
		for (int k = 0; k < i; k++) {
			other = wasd_transform_op_at(k);
			CHECK_MSG(strcmp(op->name, other->name), "%s is there twice", op->name);
		}
	}
}

/* A format claims its own listings: neither an empty one nor a file that no format knows. The last row takes what is
 * left. */
static void formats(void)
{
	static char name[] = "notes.bin";
	struct entry entry = {.size = 7, .target = SIZE_MAX, .link = SIZE_MAX, .next_link = SIZE_MAX};
	struct ingest none = {.n = 0};
	struct ingest unknown = {.entry = &entry, .n = 1, .names = {.data = name, .len = sizeof name}};
	const struct format *f;
	for (int i = 0; (f = ingest_format_at(i)); i++) {
		bool last = !ingest_format_at(i + 1);
		check_name("formats", f->name);
		CHECK_MSG(f->claims && f->convert, "format %s lacks a function", f->name);
		CHECK_MSG(last || !f->claims(&none), "format %s claims an empty listing", f->name);
		CHECK_MSG(last || !f->claims(&unknown), "format %s claims a file of no known format", f->name);
		for (int k = 0; k < i; k++)
			CHECK_MSG(strcmp(f->name, ingest_format_at(k)->name), "format %s is there twice", f->name);
	}
	CHECK(!ingest_format_at(-1) && ingest_format_at(0));
}

/* ---- transforms --------------------------------------------------------------------------------------------- */

/* What is derived from the matrix of every row: the parameters that a law draws are in range, T is finite, `live` is
 * the smallest rectangle of its nonzero rows, `identity` and `copy` are what they say. */
static void check_transform(const struct wasd_transform *t)
{
	int k = t->k, kk = k * k, y0 = k, x0 = k, y1 = -1, x1 = -1;
	bool unit = true, copy = true;
	for (int o = 0; o < kk; o++) {
		int entries = 0, ones = 0, from = -1;
		for (int i = 0; i < kk; i++) {
			double v = t->T[o * kk + i];
			CHECK_MSG(isfinite(v), "%s of %d", t->op->name, k);
			entries += v != 0;
			ones += v == 1;
			from = v != 0 ? i : from;
			unit &= v == (o == i);
		}
		copy &= entries <= 1 && ones == entries;
		if (entries) {
			y0 = o / k < y0 ? o / k : y0;
			y1 = o / k > y1 ? o / k : y1;
			x0 = o % k < x0 ? o % k : x0;
			x1 = o % k > x1 ? o % k : x1;
		}
		CHECK_MSG(!t->copy || t->from[o] == from, "%s of %d: tap %d comes from %d", t->op->name, k, o, from);
	}
	struct wasd_rect live = y1 < 0 ? (struct wasd_rect){0} : (struct wasd_rect){y0, x0, y1 - y0 + 1, x1 - x0 + 1};
	CHECK_MSG(!memcmp(&live, &t->live, sizeof live), "%s of %d: live %d,%d %dx%d, want %d,%d %dx%d", t->op->name, k,
	          t->live.y, t->live.x, t->live.h, t->live.w, live.y, live.x, live.h, live.w);
	CHECK_MSG(t->identity == unit && t->copy == copy, "%s of %d: identity or copy", t->op->name, k);
}

static void every_transform(void)
{
	const struct wasd_transform_op *op;
	struct wasd_rng r;
	wasd_rng_init(&r, 4, "transforms", 0, 0);
	for (int i = 0; (op = wasd_transform_op_at(i)); i++)
		for (int k = 1; k <= WASD_K_MAX; k++)
			for (int n = 0; n < 20; n++) {
				struct wasd_transform t;
				struct wasd_err err = {0};
				double law[WASD_LAW_MAX] = {0}, p[6] = {0};
				int m = 0;
				for (const struct wasd_field *l = op->law; l->name; m += l->type == WASD_PAIR ? 2 : 1, l++)
					wasd_field_numbers(l, l->def, law + m);
				for (int v = 0; v < 6 && op->params[v].name; v++)
					p[v] = op->params[v].min < 0 ? 0 : op->params[v].min;
				if (op->sample && !op->sample(k, law, &r, p))
					continue;
				CHECK_MSG(!wasd_transform_make(op->name, k, p, &t, &err), "%s of %d: %s", op->name, k, err.msg);
				check_transform(&t);
			}
}

/* ---- networks ------------------------------------------------------------------------------------------------- */

static void check_variant(const struct wasd_arch *a, const cJSON *variant)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	int side = a->min_side > 32 ? a->min_side : 32;
	const cJSON *model = wasd_json_get(variant, "model");
	enum wasd_status s = wasd_arch_build(a->name, (struct wasd_shape){3, side, side}, CLASSES, model, &g, &err);
	CHECK_MSG(!s, "%s of %d: %s", a->name, side, err.msg);
	if (s)
		return;
	CHECK_MSG((double)wasd_graph_param_count(g) == wasd_json_get(variant, "params")->valuedouble, "%s: parameters",
	          a->name);
	CHECK_INT(wasd_graph_classes(g), CLASSES);
	wasd_graph_destroy(g);
	g = NULL;
	s = wasd_arch_build(a->name, (struct wasd_shape){3, a->min_side, a->min_side}, 2, model, &g, &err);
	CHECK_MSG(!s, "%s of its least side, %d: %s", a->name, a->min_side, err.msg);
	wasd_graph_destroy(g);
	g = NULL;
	s = wasd_arch_build(a->name, (struct wasd_shape){3, a->min_side - 1, a->min_side - 1}, 2, model, &g, &err);
	CHECK_MSG(s == WASD_EINVAL && !g && err.msg[0], "%s takes images below its least side", a->name);
}

/* Every network in every choice of its options: the parameters that capabilities tell, its least side and none below.
 */
static void every_network(void)
{
	cJSON *all = wasd_capabilities();
	const cJSON *row, *variant;
	const struct wasd_arch *a;
	int n = 0;
	cJSON_ArrayForEach(row, wasd_json_get(all, "archs")) {
		CHECK((a = wasd_arch_at(n++)) && !strcmp(a->name, name_of(row)) && wasd_arch_find(a->name) == a);
		cJSON_ArrayForEach(variant, wasd_json_get(row, "variants"))
			check_variant(a, variant);
	}
	CHECK(!wasd_arch_at(n) && !wasd_arch_at(-1));
	cJSON_Delete(all);
}

/* ---- options ------------------------------------------------------------------------------------------------ */

/* Reads one entry of a table where a job has it. Members that a job needs besides are put in. */
static enum wasd_status read_optimizer(const cJSON *row, cJSON *entry, struct wasd_err *err)
{
	struct wasd_optim *o = NULL;
	(void)row;
	enum wasd_status s = wasd_optim_create(entry, 1, &o, err);
	wasd_optim_destroy(o);
	return s;
}

static enum wasd_status read_schedule(const cJSON *row, cJSON *entry, struct wasd_err *err)
{
	struct wasd_schedule s;
	(void)row;
	return wasd_schedule_init(&s, entry, err);
}

static enum wasd_status read_augment(const cJSON *row, cJSON *entry, struct wasd_err *err)
{
	struct train_spec s;
	(void)row;
	cJSON *spec = cJSON_Parse("{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"train\":{}}");
	cJSON *list = cJSON_AddArrayToObject(cJSON_GetObjectItem(spec, "train"), "augment");
	cJSON_AddItemReferenceToArray(list, entry);
	enum wasd_status st = train_spec_read(spec, &s, err);
	cJSON_Delete(spec);
	return st;
}

/* Convolutions, and a linear layer in front of the classifier. */
static struct wasd_graph *augmentable(void)
{
	struct wasd_graph *g = NULL;
	struct wasd_err err = {0};
	cJSON *model = cJSON_Parse(
		"{\"layers\":[{\"type\":\"conv\",\"out\":64},{\"type\":\"relu\"},{\"type\":\"conv\"},{\"type\":\"globalpool\"},"
		"{\"type\":\"flatten\"},{\"type\":\"linear\",\"out\":4},{\"type\":\"relu\"},{\"type\":\"linear\",\"out\":\"classes\"}]}");
	CHECK_MSG(!wasd_network_build(model, input, CLASSES, &g, &err), "%s", err.msg);
	cJSON_Delete(model);
	return g;
}

static enum wasd_status read_chain(const cJSON *weights, const cJSON *was, struct wasd_err *err)
{
	struct wasd_graph *g = augmentable();
	struct weight_chain *c = NULL;
	enum wasd_status s = chain_create(g, &(struct chain_spec){.weights = weights, .was = was, .paper = PAPER}, &c, err);
	chain_destroy(c);
	wasd_graph_destroy(g);
	return s;
}

static enum wasd_status read_strategy(const cJSON *row, cJSON *entry, struct wasd_err *err)
{
	(void)row;
	cJSON *list = cJSON_CreateArray();
	if (!strcmp(text_of(entry, "type"), "was") && !wasd_json_get(entry, "layers"))
		cJSON_AddStringToObject(entry, "layers", "all");
	cJSON_AddItemReferenceToArray(list, entry);
	enum wasd_status s = read_chain(list, NULL, err);
	cJSON_Delete(list);
	return s;
}

static enum wasd_status read_transform(const cJSON *row, cJSON *entry, struct wasd_err *err)
{
	(void)row;
	cJSON *was = cJSON_Parse("{\"layers\":\"all\"}"), *list = cJSON_AddArrayToObject(was, "transforms");
	cJSON_AddItemReferenceToArray(list, entry);
	enum wasd_status s = read_chain(NULL, was, err);
	cJSON_Delete(was);
	return s;
}

static enum wasd_status read_network(const cJSON *model, struct wasd_err *err)
{
	struct wasd_graph *g = NULL;
	enum wasd_status s = wasd_network_build(model, input, CLASSES, &g, err);
	wasd_graph_destroy(g);
	return s;
}

static enum wasd_status read_arch(const cJSON *row, cJSON *entry, struct wasd_err *err)
{
	cJSON *model = cJSON_CreateObject();
	cJSON_AddStringToObject(model, "arch", name_of(row));
	for (const cJSON *m = entry->child->next; m; m = m->next)
		cJSON_AddItemToObject(model, m->string, cJSON_Duplicate(m, true));
	enum wasd_status s = read_network(model, err);
	cJSON_Delete(model);
	return s;
}

static enum wasd_status read_layer(const cJSON *row, cJSON *entry, struct wasd_err *err)
{
	cJSON *l = layer_entry(row);
	for (const cJSON *m = entry->child->next; m; m = m->next) {
		cJSON_DeleteItemFromObject(l, m->string);
		cJSON_AddItemToObject(l, m->string, cJSON_Duplicate(m, true));
	}
	cJSON *model = layer_net(l, layer_inputs(row), AROUND_MAPS, 6, false);
	enum wasd_status s = read_network(model, err);
	cJSON_Delete(model);
	return s;
}

typedef enum wasd_status read_fn(const cJSON *row, cJSON *entry, struct wasd_err *err);
/* at: where the entry stands; of layers it depends on the row. whole: every value of the range is taken.
 * lenient: unknown members are refused by the API alone. */
static const struct table {
	const char *name, *at;
	read_fn *read;
	bool whole, lenient;
} tables[] = {
	{"optimizers", "/train/optimizer", read_optimizer, .whole = true, .lenient = false},
	{"schedules", "/train/schedule", read_schedule, .whole = true, .lenient = false},
	{"augment", "/train/augment", read_augment, .whole = true, .lenient = true},
	{"strategies", "/weights/0", read_strategy, .whole = true, .lenient = false},
	{"transforms", "/was/transforms/0", read_transform, .whole = true, .lenient = false},
	{"archs", "/model", read_arch, .whole = true, .lenient = false},
	{"layers", NULL, read_layer, .whole = false, .lenient = false},
};

static void place_of(const struct table *t, const cJSON *row, char at[80])
{
	if (t->at)
		snprintf(at, 80, "%s", t->at);
	else
		snprintf(at, 80, "/model/layers/%d", layer_place(layer_inputs(row), AROUND_MAPS));
}

static bool has_option(const cJSON *row, const char *name)
{
	const cJSON *o;
	cJSON_ArrayForEach(o, wasd_json_get(row, "options"))
		if (!strcmp(text_of(o, "name"), name))
			return true;
	return false;
}

/* How small a budget may be, the network says. */
static bool by_network(const char *option)
{
	return option && !strcmp(option, "budget");
}

/* The row with one option set, v taken. */
static enum wasd_status with(const struct table *t, const cJSON *row, const char *option, cJSON *v, char **said,
                             struct wasd_err *err)
{
	cJSON *entry = cJSON_CreateObject();
	cJSON_AddStringToObject(entry, "type", name_of(row));
	if (v)
		cJSON_AddItemToObject(entry, option, v);
	if (has_option(row, "budget") && !by_network(option))
		cJSON_AddNumberToObject(entry, "budget", 1);
	*said = cJSON_PrintUnformatted(entry);
	*err = (struct wasd_err){0};
	enum wasd_status s = t->read(row, entry, err);
	cJSON_Delete(entry);
	return s;
}

/* Of a pair the value itself may be named. */
static bool at_or_below(const char *pointer, const char *want)
{
	size_t n = strlen(want);
	return !strncmp(pointer, want, n) && (!pointer[n] || pointer[n] == '/');
}

static void refuses(const struct table *t, const cJSON *row, const char *option, cJSON *v)
{
	struct wasd_err err;
	char at[80], want[160], *said;
	place_of(t, row, at);
	snprintf(want, sizeof want, "%s/%s", at, option);
	enum wasd_status s = with(t, row, option, v, &said, &err);
	CHECK_MSG(s == WASD_EINVAL && at_or_below(err.pointer, want) && err.msg[0], "%s %s: %s at \"%s\", want %s (%s)",
	          t->name, said, wasd_status_name(s), err.pointer, want, err.msg);
	cJSON_free(said);
}

static void takes(const struct table *t, const cJSON *row, const char *option, cJSON *v)
{
	struct wasd_err err;
	char *said;
	enum wasd_status s = with(t, row, option, v, &said, &err);
	CHECK_MSG(!s || !t->whole || by_network(option), "%s %s: %s at \"%s\": %s", t->name, said, wasd_status_name(s),
	          err.pointer, err.msg);
	cJSON_free(said);
}

static double number(const cJSON *o, const char *member)
{
	const cJSON *v = wasd_json_get(o, member);
	CHECK_MSG(cJSON_IsNumber(v), "%s of %s", member, text_of(o, "name"));
	return v ? v->valuedouble : 0;
}

/* `v` as an option of the given number of values has it. */
static cJSON *values_of(int n, double low, double high)
{
	return n == 1 ? cJSON_CreateNumber(low) : cJSON_CreateDoubleArray((double[]){low, high}, 2);
}

static void check_number(const struct table *t, const cJSON *row, const cJSON *o)
{
	const char *name = text_of(o, "name");
	const cJSON *n = wasd_json_get(o, "n"), *def = wasd_json_get(o, "default");
	int k = (n && n->valueint == 2) || !strcmp(text_of(o, "type"), "pair") ? 2 : 1;
	double min = number(o, "min"), max = number(o, "max"), mid = (min + max) / 2;
	bool above = cJSON_IsTrue(wasd_json_get(o, "above_min")), below = cJSON_IsTrue(wasd_json_get(o, "below_max"));
	CHECK_MSG(min < max, "%s %s: %s from %g to %g", t->name, name_of(row), name, min, max);
	for (const cJSON *d = cJSON_IsArray(def) ? def->child : def; d; d = cJSON_IsArray(def) ? d->next : NULL)
		CHECK_MSG(d->valuedouble >= min && d->valuedouble <= max, "%s %s: the default of %s", t->name, name_of(row),
		          name);
	refuses(t, row, name, values_of(k, min - 1, mid));
	refuses(t, row, name, k == 1 ? values_of(1, max + 1, 0) : values_of(2, mid, max + 1));
	if (above)
		refuses(t, row, name, values_of(k, min, mid));
	if (below)
		refuses(t, row, name, k == 1 ? values_of(1, max, 0) : values_of(2, mid, max));
	takes(t, row, name, k == 1 ? values_of(1, above ? mid : min, 0) : values_of(2, above ? mid : min, mid));
	takes(t, row, name, k == 1 ? values_of(1, below ? mid : max, 0) : values_of(2, mid, below ? mid : max));
	if (k == 2) {
		refuses(t, row, name, values_of(2, max, min));
		refuses(t, row, name, cJSON_CreateDoubleArray((double[]){mid, mid, mid}, 3));
		refuses(t, row, name, cJSON_CreateArray());
	} else {
		refuses(t, row, name, cJSON_CreateDoubleArray(&mid, 1));
	}
	if (!strcmp(text_of(o, "type"), "integer"))
		refuses(t, row, name, cJSON_CreateNumber(floor(mid) + 0.5));
	refuses(t, row, name, cJSON_CreateString("1"));
	refuses(t, row, name, cJSON_CreateTrue());
}

static void check_option(const struct table *t, const cJSON *row, const cJSON *o)
{
	const char *name = text_of(o, "name"), *type = text_of(o, "type");
	const cJSON *choices = wasd_json_get(o, "choices"), *c;
	check_name(t->name, name);
	if (!strcmp(type, "form") || !strcmp(type, "object")) { /* what it may be is the row's own */
		refuses(t, row, name, cJSON_CreateString("no such thing"));
		return;
	}
	if (!strcmp(type, "array")) {
		cJSON *many = cJSON_Duplicate(wasd_json_get(o, "default"), true);
		while ((double)cJSON_GetArraySize(many) <= number(o, "max"))
			cJSON_AddItemToArray(many, cJSON_Duplicate(many->child, true));
		takes(t, row, name, cJSON_Duplicate(wasd_json_get(o, "default"), true));
		refuses(t, row, name, many);
		refuses(t, row, name, cJSON_CreateNumber(1));
		refuses(t, row, name, cJSON_CreateString("1"));
		return;
	}
	if (!strcmp(type, "string") && !choices) {
		char long_text[1000];
		size_t n = (size_t)number(o, "max") + 1;
		CHECK(n < sizeof long_text);
		memset(long_text, 'a', n);
		long_text[n] = 0;
		takes(t, row, name, cJSON_CreateString(text_of(o, "default")));
		refuses(t, row, name, cJSON_CreateNumber(1));
		refuses(t, row, name, cJSON_CreateString(long_text));
		return;
	}
	if (!strcmp(type, "boolean")) {
		takes(t, row, name, cJSON_CreateTrue());
		takes(t, row, name, cJSON_CreateFalse());
		refuses(t, row, name, cJSON_CreateNumber(1));
		refuses(t, row, name, cJSON_CreateString("true"));
	} else if (choices) {
		double most = 0;
		cJSON_ArrayForEach(c, choices) {
			takes(t, row, name, cJSON_Duplicate(c, true));
			most = fmax(most, c->valuedouble);
		}
		refuses(t, row, name, cJSON_CreateNumber(most + 1));
		refuses(t, row, name, cJSON_CreateString("other"));
	} else {
		check_number(t, row, o);
	}
}

static void options_are_refused_by_their_pointer(void)
{
	cJSON *all = wasd_capabilities();
	const cJSON *row, *o, *other;
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
		cJSON_ArrayForEach(row, wasd_json_get(all, tables[i].name)) {
			takes(&tables[i], row, NULL, NULL);
			if (!tables[i].lenient)
				refuses(&tables[i], row, "nonsense", cJSON_CreateNumber(1));
			cJSON_ArrayForEach(o, wasd_json_get(row, "options")) {
				for (other = wasd_json_get(row, "options")->child; other != o; other = other->next)
					CHECK_MSG(strcmp(text_of(o, "name"), text_of(other, "name")), "%s %s: %s is there twice",
					          tables[i].name, name_of(row), text_of(o, "name"));
				check_option(&tables[i], row, o);
			}
		}
	cJSON_Delete(all);
}

/* A table whose rows have options is one of those above. */
static void no_table_is_left_out(void)
{
	cJSON *all = wasd_capabilities();
	const cJSON *table;
	cJSON_ArrayForEach(table, all) {
		bool known = !wasd_json_get(table->child, "options");
		for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
			known |= !strcmp(tables[i].name, table->string);
		CHECK_MSG(known, "%s: nothing here reads its options", table->string);
	}
	cJSON_Delete(all);
}

int main(void)
{
	TEST_RUN(names_and_summaries);
	TEST_RUN(rows_behind_the_lists);
	TEST_RUN(every_transform);
	TEST_RUN(every_network);
	TEST_RUN(options_are_refused_by_their_pointer);
	TEST_RUN(formats);
	TEST_RUN(no_table_is_left_out);
	TEST_END();
}
