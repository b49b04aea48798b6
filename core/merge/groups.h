/* merge/groups.h - permutations of a network's channels that do not change what it computes.
 *
 * The members of a group of wasd/channels.h may change places, unless it is fixed. Here a member is a unit: one number
 * for all groups. If a draw transforms the parts of a layer's output channels differently, channels stay within their
 * part: the groups are split. After the specifications of permutations in Git Re-Basin (arXiv 2209.04836), which their
 * authors write by hand for each network.
 *
 * A permutation is one number for each unit, p[u] = v: u takes the place of v in the result, that is, its weights are
 * those that v has. p[u] = u outside the groups. */
#ifndef MERGE_GROUPS_H
#define MERGE_GROUPS_H

#include "wasd/graph.h"

struct wasd_draw;

/* The weights of a parameter as rows x cols x inner, in the layout of the master block. Rows are channels of node
 * `out`, columns of node `in` (-1: columns have no permutation, cols is 1). */
struct merge_tensor {
	size_t offset, inner;
	int rows, cols;
	wasd_node out, in;
};

struct merge_group {
	int n;        /* units, at least 2 */
	int *unit;    /* ascending */
	bool coupled; /* a parameter has units of the group as its rows and as its columns */
};

/* Immutable, apart from `map`. */
struct merge_groups {
	const struct wasd_graph *graph; /* borrowed */
	int n, units;
	struct merge_group *group; /* in the order of their first channels */
	int *group_of, *index;     /* per unit: its group, -1 if it stays; its place there */
	int n_tensors;
	struct merge_tensor *tensor; /* in execution order: weights, biases, scales and shifts of the layers */
	size_t *first;               /* per node: its first channel in unit and map */
	int *unit;                   /* per channel of every node */
	int *map;     /* per channel: the channel of the same node whose place it takes, as merge_groups_place left it */
	int *scratch; /* 2 per unit, and one per channel */
};

/* draw: the recorded one of the checkpoints; NULL: none. WASD_ENOMEM, WASD_ETOOBIG. */
enum wasd_status merge_groups_create(const struct wasd_graph *g, const struct wasd_draw *draw,
                                     struct merge_groups **out, struct wasd_err *err);
void merge_groups_destroy(struct merge_groups *g);

/* Sets g->map to permutation p. */
void merge_groups_place(struct merge_groups *g, const int *p);
void merge_groups_identity(const struct merge_groups *g, int *p);
/* How many channels of node n each unit of group p has. */
int merge_groups_count(const struct merge_groups *g, wasd_node n, int p);
/* Those channels, ascending: of the i-th unit, at[i*m] to at[i*m + m-1], where m is that number. */
void merge_groups_channels(const struct merge_groups *g, wasd_node n, int p, int *at);

/* Copies a block of parameters, or of statistics, with the channels as g->map has them. `to` must not be `from`. */
void merge_permute_params(const struct merge_groups *g, const real *from, real *to);
void merge_permute_stats(const struct merge_groups *g, const real *from, real *to);

#endif
