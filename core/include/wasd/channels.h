/* wasd/channels.h - the groups of a network's channels: which of them can change places, or be sliced, together.
 *
 * The members of a group are units of wasd/alive.h, each a set of channels that belong together: of all inputs and the
 * output of an add, of what stands before and behind a batch norm, an activation, a depthwise convolution, and so on.
 * Two units are members of one group if they occur in the same nodes, equally often. So all blocks of a residual stage
 * share one group, the inner channels of each block are another, and the parts of a concatenation keep theirs. What
 * changes the order of a group's members in every node that has them, and in the weights of the layers that write and
 * read these, does not change the logits.
 *
 * A group is fixed if that must not be done: the images, the classes, and all that a unit of wasd/alive.h is fixed for
 * (a grouped convolution that is not depthwise reads or writes it).
 *
 * Borrows the graph. Immutable: threads may share it. */
#ifndef WASD_CHANNELS_H
#define WASD_CHANNELS_H

#include "wasd/graph.h"

struct wasd_channels;

/* The caller frees *out with wasd_channels_destroy. Errors as of wasd_alive_create. */
enum wasd_status wasd_channels_create(const struct wasd_graph *g, struct wasd_channels **out, struct wasd_err *err);
void wasd_channels_destroy(struct wasd_channels *c);

int wasd_channels_groups(const struct wasd_channels *c);
int wasd_channels_size(const struct wasd_channels *c, int group); /* its members, 1 or more */
bool wasd_channels_fixed(const struct wasd_channels *c, int group);

struct wasd_channel {
	int group, member; /* members are counted from 0, in the order of the first node that has them */
};
/* Channel `channel` of node n's output. Neighbours can be one member: the h*w features that flatten makes of a channel.
 * A node of a concatenation has the members of several groups, one part after the other. */
struct wasd_channel wasd_channels_at(const struct wasd_channels *c, wasd_node n, int channel);

#endif
