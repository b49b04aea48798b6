/* graph/channels.c - groups of channels: the classes of units that occur in the same nodes. See channels.h. */
#include "wasd/channels.h"
#include "wasd/alive.h"

#include "graph/graph.h"

#include <stdlib.h>
#include <string.h>

struct wasd_channels {
	struct wasd_alive *alive;
	struct wasd_channel *of; /* per unit; while the groups are formed, group is the class so far */
	int groups;
	int *size;   /* per group */
	bool *fixed; /* per group */
};

/* How often a unit occurs in a node, and its class before that node was looked at. */
struct occurrence {
	int class, times, unit;
};

static int by_class_and_times(const void *a, const void *b)
{
	const struct occurrence *x = a, *y = b;
	if (x->class != y->class)
		return x->class < y->class ? -1 : 1;
	if (x->times != y->times)
		return x->times < y->times ? -1 : 1;
	return (x->unit > y->unit) - (x->unit < y->unit);
}

/* Splits the classes by the occurrences in node n. place: per unit, -1. */
static void split(struct wasd_channels *c, const struct wasd_graph *g, wasd_node n, struct occurrence *list, int *place)
{
	const int *unit = wasd_alive_unit(c->alive, n);
	int units = 0;
	for (int i = 0; i < g->nodes[n].shape.c; i++) {
		int u = unit[i];
		if (place[u] < 0) {
			place[u] = units;
			list[units++] = (struct occurrence){c->of[u].group, 0, u};
		}
		list[place[u]].times++;
	}
	qsort(list, (size_t)units, sizeof *list, by_class_and_times);
	for (int i = 0; i < units; i++) {
		bool first = !i || list[i].class != list[i - 1].class || list[i].times != list[i - 1].times;
		c->groups += first;
		c->of[list[i].unit].group = c->groups - 1;
		place[list[i].unit] = -1;
	}
}

/* Gives the classes numbers in the order of their first units, and the units numbers in their class. number: per
 * class. */
static void number_groups(struct wasd_channels *c, int *number)
{
	int classes = c->groups, units = wasd_alive_units(c->alive);
	c->groups = 0;
	for (int i = 0; i < classes; i++)
		number[i] = -1;
	for (int u = 0; u < units; u++) {
		int *at = &number[c->of[u].group];
		if (*at < 0)
			*at = c->groups++;
		c->of[u] = (struct wasd_channel){*at, c->size[*at]++};
		c->fixed[*at] |= wasd_alive_fixed(c->alive, u);
	}
}

static void fix(struct wasd_channels *c, const struct wasd_graph *g, wasd_node n)
{
	for (int i = 0; i < g->nodes[n].shape.c; i++)
		c->fixed[c->of[wasd_alive_unit(c->alive, n)[i]].group] = true;
}

/* The order of what comes with an image does not change: neither its channels nor its pixels. */
static void fix_images(struct wasd_channels *c, const struct wasd_graph *g)
{
	fix(c, g, 0);
	for (wasd_node n = 1; n < g->n_nodes; n++)
		if (g->nodes[n].layer->channels == LAYER_CHANNELS_SPREAD && !g->nodes[n].inputs[0])
			fix(c, g, n);
}

static enum wasd_status form(struct wasd_channels *c, const struct wasd_graph *g, struct wasd_err *err)
{
	size_t units = (size_t)wasd_alive_units(c->alive), classes = 1;
	for (wasd_node n = 0; n < g->n_nodes; n++)
		classes += (size_t)g->nodes[n].shape.c;
	struct occurrence *list = wasd_calloc(units, sizeof *list);
	int *number = wasd_calloc(classes, sizeof *number); /* no node makes more classes than it has channels */
	c->of = wasd_calloc(units, sizeof *c->of);
	c->size = wasd_calloc(units, sizeof *c->size);
	c->fixed = wasd_calloc(units, sizeof *c->fixed);
	bool ok = list && number && c->of && c->size && c->fixed;
	if (ok) {
		c->groups = 1;
		memset(number, -1, units * sizeof *number);
		for (wasd_node n = 0; n < g->n_nodes; n++)
			split(c, g, n, list, number);
		number_groups(c, number);
		fix_images(c, g);
	}
	wasd_free(list);
	wasd_free(number);
	return ok ? WASD_OK : wasd_fail(err, WASD_ENOMEM, "no memory for the channels of a network");
}

enum wasd_status wasd_channels_create(const struct wasd_graph *g, struct wasd_channels **out, struct wasd_err *err)
{
	struct wasd_channels *c = wasd_calloc(1, sizeof *c);
	if (!c)
		return wasd_fail(err, WASD_ENOMEM, "no memory for the channels of a network");
	enum wasd_status s = wasd_alive_create(g, NULL, NULL, &c->alive, err);
	if (!s)
		s = form(c, g, err);
	if (s)
		wasd_channels_destroy(c);
	else
		*out = c;
	return s;
}

void wasd_channels_destroy(struct wasd_channels *c)
{
	if (!c)
		return;
	wasd_alive_destroy(c->alive);
	wasd_free(c->of);
	wasd_free(c->size);
	wasd_free(c->fixed);
	wasd_free(c);
}

int wasd_channels_groups(const struct wasd_channels *c)
{
	return c->groups;
}

int wasd_channels_size(const struct wasd_channels *c, int group)
{
	return c->size[group];
}

bool wasd_channels_fixed(const struct wasd_channels *c, int group)
{
	return c->fixed[group];
}

struct wasd_channel wasd_channels_at(const struct wasd_channels *c, wasd_node n, int channel)
{
	return c->of[wasd_alive_unit(c->alive, n)[channel]];
}
