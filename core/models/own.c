/* core/models/own.c - custom networks: adds the layers of {"layers": [...]} (wasd/model.h) to a graph with the same
 * call that the published networks use. The rows of layers/table.c say which layers exist and what their members mean.
 * This file handles what is common to all of them: names, inputs, and limits, since the object is untrusted input. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fields.h"
#include "graph/graph.h"
#include "models/models.h"

#define LAYERS_MAX 1000
#define INPUTS_MAX 64
#define NAME_MAX 48                  /* checkpoints append to it, and jobs name layers with at most 64 bytes */
#define MAP_MAX ((size_t)1 << 27)    /* values of one layer for one image */
#define MAPS_MAX ((size_t)1 << 30)   /* of all layers, for one image */
#define MACS_MAX ((uint64_t)1 << 44) /* per image */

struct own {
	struct wasd_graph *g;
	int classes, n; /* n: layers added so far */
	struct {
		char name[NAME_MAX + 1];
		wasd_node node;
		bool read;
	} layer[LAYERS_MAX];
	size_t values;
	uint64_t macs;
	struct wasd_err *err;
	char at[40]; /* "/model/layers/3" */
};

/* Fails with an error about the current layer, or about one of its members. */
static enum wasd_status refuse(const struct own *o, const char *member, enum wasd_status s, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static enum wasd_status refuse(const struct own *o, const char *member, enum wasd_status s, const char *fmt, ...)
{
	char at[FIELDS_POINTER], text[200];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	snprintf(at, sizeof at, "%s", o->at);
	if (member)
		fields_pointer(at, o->at, member);
	return *o->layer[o->n].name ? wasd_fail_at(o->err, s, at, "%s: %s", o->layer[o->n].name, text) :
	                              wasd_fail_at(o->err, s, at, "%s", text);
}

/* ---- names ---------------------------------------------------------------------------------------------------- */

/* Whether checkpoints use names of this form for themselves: "dom.NAME.running_mean" are the statistics of layer NAME
 * in DOM, not of a layer "dom.NAME". */
static bool reserved(const char *name)
{
	static const char *const words[] = {"input", "state", "optim", "train", "aom", "dom", "profile"};
	size_t n = strcspn(name, ".");
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strlen(words[i]) == n && !strncmp(words[i], name, n))
			return true;
	return false;
}

static bool well_formed(const char *s)
{
	size_t n = strlen(s);
	return n && n <= NAME_MAX && s[0] != '.' && s[0] != '-' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
}

static int find_layer(const struct own *o, const char *name)
{
	for (int i = 0; i < o->n; i++)
		if (!strcmp(o->layer[i].name, name))
			return i;
	return -1;
}

static enum wasd_status read_name(struct own *o, const cJSON *j, const struct layer *l)
{
	const char *given = NULL;
	char name[NAME_MAX + 1];
	if (wasd_json_get(j, "name") && (!wasd_json_str(j, "name", &given) || !well_formed(given)))
		return refuse(o, "name", WASD_EINVAL,
		              "a name has 1 to %d letters, digits, _ . and -, and must not begin with . or -", NAME_MAX);
	snprintf(name, sizeof name, "%s", given ? given : "");
	if (!given)
		snprintf(name, sizeof name, "%.30s%d", l->op, o->n);
	if (reserved(name))
		return refuse(o, "name", WASD_EINVAL, "%s: this prefix is reserved", name);
	if (find_layer(o, name) >= 0)
		return refuse(o, given ? "name" : NULL, WASD_EINVAL, "%s: an earlier layer has this name", name);
	memcpy(o->layer[o->n].name, name, sizeof name);
	return WASD_OK;
}

/* ---- members --------------------------------------------------------------------------------------------------- */

static enum wasd_status read_field(struct own *o, const cJSON *j, const struct layer_field *f, struct node *nd)
{
	const char *name = f->row.name;
	const cJSON *v = wasd_json_get(j, name);
	double d = f->unset;
	struct wasd_err e = {0};
	if (!v && f->row.required)
		return refuse(o, name, WASD_EINVAL, "%s is missing", name);
	if (f->classes && cJSON_IsString(v) && !strcmp(v->valuestring, "classes"))
		d = o->classes;
	else if ((v || f->row.def) && fields_number(v, "", &f->row, &d, &e))
		return refuse(o, name, WASD_EINVAL, "%s %s%s", name, e.msg, f->classes ? "; or \"classes\"" : "");
	char *to = (char *)nd + f->at;
	if (f->row.type == WASD_NUM)
		memcpy(to, &d, sizeof d);
	else if (f->row.type == WASD_INT)
		memcpy(to, &(int){(int)d}, sizeof(int));
	else
		memcpy(to, &(bool){d != 0}, sizeof(bool));
	return WASD_OK;
}

/* Reads the layers that this one takes as input: o->layer indices, -1 = the images. */
static enum wasd_status read_from(struct own *o, const cJSON *j, const struct layer *l, int from[INPUTS_MAX], int *n)
{
	const cJSON *v = wasd_json_get(j, "from"), *one = cJSON_IsArray(v) ? v->child : v;
	int least = l->inputs < 0 ? 2 : l->inputs ? l->inputs : 1, most = l->inputs < 0 ? INPUTS_MAX : least;
	*n = 0;
	if (!v && least == 1)
		from[(*n)++] = o->n - 1;
	for (; one; one = cJSON_IsArray(v) ? one->next : NULL) {
		if (!cJSON_IsString(one))
			return refuse(o, "from", WASD_EINVAL, "from must be the name of an earlier layer, or an array of names");
		int i = find_layer(o, one->valuestring);
		if (i < 0 && strcmp(one->valuestring, "input"))
			return refuse(o, "from", WASD_EINVAL, "no earlier layer is called \"%.60s\"", one->valuestring);
		for (int k = 0; k < *n; k++)
			if (from[k] == i)
				return refuse(o, "from", WASD_EINVAL, "%.60s is listed twice", one->valuestring);
		if (*n == INPUTS_MAX)
			return refuse(o, "from", WASD_ETOOBIG, "more than %d layers", INPUTS_MAX);
		from[(*n)++] = i;
	}
	if (*n < least || *n > most)
		return refuse(o, "from", WASD_EINVAL, "needs %d input%s%s, named in \"from\"", least, least > 1 ? "s" : "",
		              most > least ? " or more" : "");
	return WASD_OK;
}

static enum wasd_status read_augment(struct own *o, const cJSON *j, const struct node *nd, bool *augment)
{
	const cJSON *v = wasd_json_get(j, "augment");
	if (v && !cJSON_IsBool(v))
		return refuse(o, "augment", WASD_EINVAL, "augment must be true or false");
	*augment = cJSON_IsTrue(v);
	if (*augment && (nd->kh < 2 || nd->kh > WASD_K_MAX))
		return refuse(o, "augment", WASD_EINVAL, "kernels of 2x2 to %dx%d can be augmented, not %dx%d", WASD_K_MAX,
		              WASD_K_MAX, nd->kh, nd->kh);
	return WASD_OK;
}

static const struct layer *layer_of(const char *type)
{
	const struct layer *l;
	for (int i = 0; (l = layer_at(i)); i++)
		if (l->summary && !strcmp(l->op, type))
			return l;
	return NULL;
}

static enum wasd_status read_type(const struct own *o, const cJSON *j, const struct layer **out)
{
	const char *type, *known[LAYER_FIELDS + 5] = {"type", "name", "from"};
	int n = 3;
	if (!cJSON_IsObject(j))
		return refuse(o, NULL, WASD_EINVAL, "a layer must be an object with a \"type\"");
	if (!wasd_json_str(j, "type", &type))
		return refuse(o, "type", WASD_EINVAL, "must be the type of a layer");
	const struct layer *l = layer_of(type);
	if (!l) {
		char list[160] = "";
		const struct layer *one;
		for (int i = 0, len = 0; (one = layer_at(i)) && len < (int)sizeof list; i++)
			if (one->summary)
				len += snprintf(list + len, sizeof list - (size_t)len, "%s%s", len ? ", " : "", one->op);
		return refuse(o, "type", WASD_EINVAL, "unknown layer \"%.30s\"; known: %s", type, list);
	}
	for (int i = 0; l->fields[i].row.name; i++)
		known[n++] = l->fields[i].row.name;
	if (l->augmentable)
		known[n] = "augment";
	*out = l;
	return fields_known(j, o->at, known, o->err);
}

/* ---- building --------------------------------------------------------------------------------------------------- */

static enum wasd_status mark_augmentable(struct own *o, bool augment)
{
	const char *name = o->layer[o->n].name;
	char alpha[NAME_MAX + 8];
	snprintf(alpha, sizeof alpha, "%s.alpha", name);
	if (augment)
		wasd_graph_param(o->g, alpha, 1, WASD_INIT_UNIT);
	wasd_graph_augmentable(o->g, name, augment ? alpha : NULL, 0);
	return o->g->status ? refuse(o, NULL, o->g->status, "%s", o->g->err.msg) : WASD_OK;
}

/* Called after every layer, so that no size derived from it can overflow. */
static enum wasd_status count(struct own *o, wasd_node at)
{
	struct wasd_node_info n = wasd_graph_node_info(o->g, at);
	size_t values = wasd_shape_count(n.shape);
	o->values += values;
	o->macs += n.macs;
	if (values > MAP_MAX || o->values > MAPS_MAX || n.macs > MACS_MAX || o->macs > MACS_MAX)
		return refuse(
			o, NULL, WASD_ETOOBIG,
			"%dx%dx%d values: a network may have at most %zu values in a layer, %zu in all, and %llu multiply-adds per image",
			n.shape.c, n.shape.h, n.shape.w, MAP_MAX, MAPS_MAX, (unsigned long long)MACS_MAX);
	return WASD_OK;
}

static enum wasd_status add_layer(struct own *o, const cJSON *j)
{
	const struct layer *l = NULL;
	int from[INPUTS_MAX], n;
	wasd_node x[INPUTS_MAX];
	bool augment;
	snprintf(o->at, sizeof o->at, "/model/layers/%d", o->n);
	enum wasd_status s = read_type(o, j, &l);
	if (s || (s = read_name(o, j, l)) || (s = read_from(o, j, l, from, &n)))
		return s;
	for (int i = 0; i < n; i++) {
		x[i] = from[i] < 0 ? wasd_graph_input(o->g) : o->layer[from[i]].node;
		if (from[i] >= 0)
			o->layer[from[i]].read = true;
	}
	struct node nd = graph_node(l);
	for (int i = 0; l->fields[i].row.name; i++)
		if ((s = read_field(o, j, &l->fields[i], &nd)))
			return s;
	struct wasd_shape in = o->g->nodes[x[0]].shape;
	struct wasd_err why = {0};
	const char *fault = l->settle ? l->settle(&nd, &in, &why) : NULL;
	if (fault)
		return refuse(o, fault, why.status, "%s", why.msg);
	if ((s = read_augment(o, j, &nd, &augment)))
		return s;
	const char *name = o->layer[o->n].name;
	wasd_node at = graph_add(o->g, &nd, l->params ? name : "", x, n);
	if (at < 0) {
		/* Skip the name that the graph prepends, because refuse() prepends it too. */
		const char *msg = strstr(o->g->err.msg, ": ");
		return refuse(o, o->g->status == WASD_EINVAL ? l->blame : NULL, o->g->status, "%s",
		              msg ? msg + 2 : o->g->err.msg);
	}
	o->layer[o->n].node = at;
	if ((s = count(o, at)))
		return s;
	if (l->augmentable && nd.kh > 1 && nd.kh <= WASD_K_MAX && (s = mark_augmentable(o, augment)))
		return s;
	o->n++;
	return WASD_OK;
}

static enum wasd_status finish(struct own *o)
{
	int last = o->n - 1;
	struct wasd_shape out = o->g->nodes[o->layer[last].node].shape;
	for (o->n = 0; o->n <= last; o->n++) { /* refuse() reports about layer o->n */
		snprintf(o->at, sizeof o->at, "/model/layers/%d", o->n);
		if (o->n < last && !o->layer[o->n].read)
			return refuse(o, NULL, WASD_EINVAL, "no other layer reads it");
	}
	o->n = last;
	if (out.c != o->classes || out.h != 1 || out.w != 1)
		return refuse(o, NULL, WASD_EINVAL, "the last layer outputs %dx%dx%d, but %d classes need %dx1x1", out.c, out.h,
		              out.w, o->classes, o->classes);
	return wasd_graph_finish(o->g, o->layer[last].node, o->err);
}

static enum wasd_status check_model(const cJSON *model, struct wasd_shape in, int classes, struct wasd_err *err)
{
	static const char *const known[] = {"layers", "name", "init", NULL};
	const char *name = "custom";
	const cJSON *layers = wasd_json_get(model, "layers");
	int n = cJSON_IsArray(layers) ? cJSON_GetArraySize(layers) : 0;
	enum wasd_status s = fields_known(model, "/model", known, err);
	if (s)
		return s;
	if (wasd_json_get(model, "name") &&
	    (!wasd_json_str(model, "name", &name) || !wasd_name_ok(name) || wasd_arch_find(name)))
		return wasd_fail_at(
			err, WASD_EINVAL, "/model/name",
			"must be a name of lower-case letters, digits, . _ and -, other than that of a published network");
	if (n < 1 || n > LAYERS_MAX)
		return wasd_fail_at(err, WASD_EINVAL, "/model/layers", "must be an array of 1 to %d layers", LAYERS_MAX);
	return models_check_input(name, 1, in, classes, err);
}

enum wasd_status own_build(const cJSON *model, struct wasd_shape in, int classes, struct wasd_graph **out,
                           struct wasd_err *err)
{
	enum wasd_status s = check_model(model, in, classes, err);
	if (s)
		return s;
	struct wasd_err why = {0};
	struct own *o = wasd_calloc(1, sizeof *o);
	if (!o)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the network");
	o->classes = classes;
	o->err = err ? err : &why;
	s = wasd_graph_create(in, &o->g, err);
	const cJSON *one;
	cJSON_ArrayForEach(one, wasd_json_get(model, "layers"))
		if (!s)
			s = add_layer(o, one);
	if (!s)
		s = finish(o);
	if (s)
		wasd_graph_destroy(o->g);
	else
		*out = o->g;
	wasd_free(o);
	return s;
}

bool own_augments(const cJSON *model)
{
	const cJSON *one;
	cJSON_ArrayForEach(one, wasd_json_get(model, "layers"))
		if (cJSON_IsTrue(wasd_json_get(one, "augment")))
			return true;
	return false;
}
