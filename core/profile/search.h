/* profile/search.h - the search for the transform of each layer. It is independent of the network: it knows the layers
 * in execution order, the saving of each option, and a judge. See search.c for the method. */
#ifndef PROFILE_SEARCH_H
#define PROFILE_SEARCH_H

#include "wasd/weights.h"

/* A transform that a layer's kernel may take. (dy,dx): displacement of the feature map, in taps. saves: multiply-adds.
 */
struct search_option {
	struct wasd_transform t;
	int dy, dx;
	uint64_t saves;
};
/* Options in ascending order of saving; option 0 leaves the kernel unchanged and saves nothing. */
struct search_layer {
	int aug;
	bool alpha_one;
	int n;
	struct search_option *option;
};
struct search_space {
	int n;
	struct search_layer *layer;
};
void search_space_done(struct search_space *s);

/* Computes the loss of a choice (the index of an option for each layer). Lower is better; INFINITY = no loss. Any
 * status other than WASD_OK ends the search. */
struct search_judge {
	enum wasd_status (*loss)(void *ctx, const int *pick, double *loss, struct wasd_err *err);
	void *ctx;
};

#define SEARCH_KEPT 4
struct search;
/* evaluations: the most choices that may be judged in total. All pointers are borrowed for the lifetime of the search.
 */
enum wasd_status search_create(const struct search_space *space, struct search_judge judge, int evaluations,
                               uint64_t seed, struct search **out, struct wasd_err *err);
void search_destroy(struct search *s);
/* Judges the unchanged layers, then prices transforms of single layers and of neighbours, with at most 60 % of the
 * evaluations. */
enum wasd_status search_price(struct search *s, struct wasd_err *err);
/* Finds the choice that saves at least `need` at the lowest sum of prices, without judging. WASD_ENOTFOUND: no choice
 * saves that much. */
enum wasd_status search_solve(struct search *s, uint64_t need, int *pick, struct wasd_err *err);
/* Improves that choice and the regular patterns by small changes, keeping those with a lower loss, until the
 * evaluations are used up. */
enum wasd_status search_refine(struct search *s, uint64_t need, struct wasd_err *err);
/* The i-th best choice that saves the `need` of search_refine; NULL after the last; at most SEARCH_KEPT. */
const int *search_best(const struct search *s, int i);
int search_used(const struct search *s); /* number of choices judged so far */

uint64_t search_saving(const struct search_space *space, const int *pick);

#endif
