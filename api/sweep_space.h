/* api/sweep_space.h - the space of a sweep, and the points that a search takes of it. Shared by sweep_*.c. */
#ifndef API_SWEEP_SPACE_H
#define API_SWEEP_SPACE_H

#include "internal.h"

enum { SWEEP_TRIALS = 1000, SWEEP_DIMS = 16, SWEEP_POINTER = 200 };

/* A member of the spec that differs between trials: one of the values, or a number from min to max. */
struct sweep_dim {
	const char *pointer; /* borrowed from the body, as values */
	const cJSON *values; /* NULL: a range */
	double min, max;
	bool log, whole;
};
struct sweep_space {
	struct sweep_dim dims[SWEEP_DIMS];
	size_t n;
};

/* Reads and checks "space". False: a fault. */
bool sweep_space_read(const cJSON *in, bool grid, struct sweep_space *out, struct api_faults *faults);
/* An array of points {POINTER: value}, at most `most`: all combinations of a grid, the last pointer's values first; or
 * different ones drawn from the seed. NULL: a fault, or no memory. */
cJSON *sweep_points_grid(const struct sweep_space *s, int64_t most, struct api_faults *faults);
cJSON *sweep_points_random(const struct sweep_space *s, int64_t n, int64_t seed, struct api_faults *faults);
/* Sets each value of the point in the spec. False: a fault, or no memory. */
bool sweep_point_apply(cJSON *spec, const cJSON *point, struct api_faults *faults);
/* "/space/POINTER", with the pointer escaped. */
void sweep_space_pointer(char out[256], const char *pointer);

#endif
