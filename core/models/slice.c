/* models/slice.c - a network of the first channels of each layer. See slice.h. */
#include "wasd/slice.h"
#include "wasd/channels.h"

#include <math.h>
#include <stdio.h>

/* DS-Net's make_divisible (dyn_slim_ops.py). */
int wasd_slice_channels(int whole, double width)
{
	double v = width * whole;
	int n = (int)(v + 4) / 8 * 8;
	n = n > 8 ? n : 8;
	n += n < 0.9 * v ? 8 : 0;
	return n < whole ? n : whole;
}

void wasd_slice_mode(double width, char out[WASD_MODE_LEN])
{
	char text[24];
	snprintf(text, sizeof text, "%.4g", width);
	wasd_mode_join(WASD_FAMILY_WIDTH, text, out);
}

static void choose(const struct wasd_channels *c, wasd_node n, int channels, double width, uint8_t *alive)
{
	for (int i = 0; i < channels; i++) {
		struct wasd_channel at = wasd_channels_at(c, n, i);
		alive[i] = wasd_channels_fixed(c, at.group) ||
		           at.member < wasd_slice_channels(wasd_channels_size(c, at.group), width);
	}
}

enum wasd_status wasd_slice_create(const struct wasd_graph *g, double width, const char *name, struct wasd_slim **out,
                                   struct wasd_err *err)
{
	struct wasd_channels *c = NULL;
	size_t nodes = (size_t)wasd_graph_nodes(g), all = 0;
	for (size_t n = 0; n < nodes; n++)
		all += (size_t)wasd_graph_node_info(g, (wasd_node)n).shape.c;
	uint8_t *block = wasd_calloc(all, 1);
	const uint8_t **alive = wasd_calloc(nodes, sizeof *alive);
	enum wasd_status s = block && alive ? wasd_channels_create(g, &c, err) :
	                                      wasd_fail(err, WASD_ENOMEM, "no memory for a narrower network");
	for (size_t n = 0, at = 0; !s && n < nodes; n++) {
		int channels = wasd_graph_node_info(g, (wasd_node)n).shape.c;
		choose(c, (wasd_node)n, channels, width, block + at);
		alive[n] = block + at;
		at += (size_t)channels;
	}
	if (!s)
		s = wasd_slim_create(g, alive, name, out, err);
	wasd_channels_destroy(c);
	wasd_free(alive);
	wasd_free(block);
	return s;
}
