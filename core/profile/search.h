/* profile/search.h - which transform each layer takes: the search itself, which knows no network, only layers in
 * execution order, what each choice saves, and a judge. See search.c for the method. */
#ifndef PROFILE_SEARCH_H
#define PROFILE_SEARCH_H

#include "wasd/weights.h"

/* One thing that may happen to a layer's kernel. (dy,dx): how far it moves the feature map, in taps. */
struct search_option {
	struct wasd_transform t;
	int dy, dx;
	uint64_t saves;
};
/* Options ascending by what they save; option 0 leaves the kernel as it is and saves nothing. */
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

/* Loss of a choice (an option's index for each layer); lower is better, INFINITY for none. A status but WASD_OK ends
 * the search. */
struct search_judge {
	enum wasd_status (*loss)(void *ctx, const int *pick, double *loss, struct wasd_err *err);
	void *ctx;
};

#define SEARCH_KEPT 4
struct search;
/* evaluations: how many choices may be judged in all. Everything borrowed. */
enum wasd_status search_create(const struct search_space *space, struct search_judge judge, int evaluations,
                               uint64_t seed, struct search **out, struct wasd_err *err);
void search_destroy(struct search *s);
/* Judges the layers as they are, then prices transforms of single layers and of neighbours, with at most 60 % of the
 * evaluations. */
enum wasd_status search_price(struct search *s, struct wasd_err *err);
/* The choice that saves at least `need` at the lowest sum of prices; needs no judge. WASD_ENOTFOUND: nothing saves as
 * much. */
enum wasd_status search_solve(struct search *s, uint64_t need, int *pick, struct wasd_err *err);
/* From there, and from the regular patterns, by small changes that are kept when they judge better, until the
 * evaluations are used. */
enum wasd_status search_refine(struct search *s, uint64_t need, struct wasd_err *err);
/* The i-th best choice that saves `need` of search_refine; NULL after the last, at most SEARCH_KEPT. */
const int *search_best(const struct search *s, int i);
int search_used(const struct search *s); /* choices judged so far */

uint64_t search_saving(const struct search_space *space, const int *pick);

#endif
