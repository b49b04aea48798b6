/* weights/apply.h - the job of applying a transform to many rows, and the kernels that run it.
 *
 * Both passes are a sparse matrix M over the taps of a row, y = M x: forward x = a row of PW, y = a row of SW, M = T;
 * backward x = a row of dSW, y = the row added to dPW, M = T^t. A kernel processes whole chunks of rows, and prepares
 * data of its own once per job. The last kernel of the table accepts every job on every CPU and defines the result.
 */
#ifndef WEIGHTS_APPLY_H
#define WEIGHTS_APPLY_H

#include "wasd/weights.h"

#define APPLY_TAPS (WASD_K_MAX * WASD_K_MAX)
#define APPLY_LANES 16 /* rows processed together; chunks start at multiples of this */
#define APPLY_CHUNKS 64
#define APPLY_TERMS 512

struct apply_entry {
	int8_t to, from;
	real w;
}; /* M[to][from] = w */

/* 16 products of a vector kernel: lane l of the result gets w[l] * v[lane[l]] if the mask has bit l; v is vector `from`
 * of the block's x. */
struct apply_term {
	float w[APPLY_LANES];
	uint8_t lane[APPLY_LANES];
	uint16_t mask, from;
};

struct apply_job {
	const real *pw;
	real *sw;        /* forward */
	real *dsw, *dpw; /* backward */
	bool clear;      /* leave dsw zero */
	size_t rows;
	int kk, m; /* taps of a row of PW; taps of a row of SW, which are those of the rectangle */
	real alpha;
	bool copy; /* every entry is 1 */
	int n;
	struct apply_entry e[APPLY_TAPS * APPLY_TAPS]; /* sorted by `to`, then by `from`: the order of a tap's sum */
	int chunks;
	double dot[APPLY_CHUNKS]; /* backward: <y, pw> of each chunk */
	int first[APPLY_TAPS +
	          1]; /* vector kernels: vector v of a block's y is the sum of terms first[v] to first[v+1]-1 */
	struct apply_term term[APPLY_TERMS];
};

typedef void apply_chunk(const struct apply_job *j, size_t begin, size_t end, double *dot);

struct apply_kernel {
	const char *name;
	/* False: the kernel cannot run this job or not on this CPU. NULL: runs every job without preparation. */
	bool (*prepare)(struct apply_job *j);
	apply_chunk *forward;  /* SW = alpha PW T^t */
	apply_chunk *backward; /* dPW += alpha dSW T, *dot = <dSW T, PW> */
};

extern const struct apply_kernel apply_avx512, apply_portable;
const struct apply_kernel *apply_kernel_at(int i); /* fastest first, NULL after the last */

/* The public passes (wasd/weights.h) with one kernel. False: the kernel does not accept the job; nothing is done.
 * Backward with `clear` leaves dsw zero, which is cheaper while it is in cache than before the next sum. */
bool apply_forward(const struct apply_kernel *kn, const struct wasd_transform *t, real alpha, const real *pw,
                   size_t rows, struct wasd_rect at, real *sw);
bool apply_backward(const struct apply_kernel *kn, const struct wasd_transform *t, real alpha, const real *pw,
                    real *dsw, bool clear, size_t rows, struct wasd_rect at, real *dpw, double *dot);
/* Runs the first kernel that accepts the job; returns <dSW, PW T^t>. */
double apply_backward_clear(const struct wasd_transform *t, real alpha, const real *pw, real *dsw, size_t rows,
                            struct wasd_rect at, real *dpw);

#endif
