/* weights/layers.c - a choice of layers as text. See layers.h. */
#include "weights/layers.h"

#include <stdio.h>
#include <string.h>

/* Copies the pattern at *text without its "!" and moves on; false at the end. */
static bool next_pattern(const char **text, char out[LAYERS_TEXT], bool *without)
{
	if (!**text)
		return false;
	size_t n = strcspn(*text, ",");
	*without = **text == '!';
	snprintf(out, LAYERS_TEXT, "%.*s", (int)n - *without, *text + *without);
	*text += n + ((*text)[n] == ',');
	return true;
}

static bool fits(const char *pattern, const char *layer)
{
	return !strcmp(pattern, "all") || wasd_glob(pattern, layer);
}

bool layers_take(const char *text, const char *layer)
{
	char pattern[LAYERS_TEXT];
	bool without, named = false, taken = false;
	while (next_pattern(&text, pattern, &without)) {
		if (without && fits(pattern, layer))
			return false;
		named |= !without;
		taken |= !without && fits(pattern, layer);
	}
	return taken || !named;
}

bool layers_has_weights(const struct wasd_graph *g, wasd_node n)
{
	int w = wasd_graph_node_info(g, n).weight;
	return w >= 0 && wasd_graph_param_info(g, w).ndims > 1;
}

enum wasd_status layers_check(const char *text, const struct wasd_graph *g, const char *pointer, struct wasd_err *err)
{
	char pattern[LAYERS_TEXT];
	bool without;
	while (next_pattern(&text, pattern, &without)) {
		int matches = 0;
		for (wasd_node n = 0; n < wasd_graph_nodes(g); n++)
			matches += layers_has_weights(g, n) && fits(pattern, wasd_graph_node_info(g, n).name);
		if (!matches)
			return wasd_fail_at(err, WASD_EINVAL, pointer, "\"%.60s\" matches no layer with weights", pattern);
	}
	return WASD_OK;
}
