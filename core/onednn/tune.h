/* onednn/tune.h - the fastest algorithm for each shape, measured once per machine and remembered.
 *
 * Results live in memory and, if the environment variable WASD_TUNING names a file, in that file, which all engine
 * processes of a data directory share. The first result that reaches the file holds for all of them, so a resumed run
 * computes with the same algorithms as before.
 *
 * The file holds one result per line: "wasd-tuning-2", machine, key, choice, microseconds of each candidate, separated
 * by tabs. The machine is the processor's name and instructions, the number of threads and oneDNN's version. Lines of
 * other machines and incomplete lines are ignored. */
#ifndef ONEDNN_TUNE_H
#define ONEDNN_TUNE_H

#include "wasd/base.h"

#define TUNE_CANDIDATES 4
#define TUNE_KEY 96
#define TUNE_LIBRARY 0 /* oneDNN's direct kernels and ours: the candidates of depthwise layers */
#define TUNE_OURS 3

struct tune_result {
	int choice;
	float us[TUNE_CANDIDATES];
}; /* us 0: this candidate does not exist */

/* machine: the text that tells machines apart. Call before the other functions; thread-safe. */
void tune_open(const char *machine);
bool tune_find(const char *key, struct tune_result *out);
/* Best times of candidates that take turns, so that other load on the machine affects all of them, and the fastest as
 * the choice. us below 0 at first: no such candidate. run gives the microseconds of one run, 0: it failed, which takes
 * the candidate out. Three rounds, and more up to `rounds` within limit_us. False: no candidate is left. */
bool tune_race(float (*run)(void *ctx, int candidate), void *ctx, int rounds, int64_t limit_us, struct tune_result *r);
/* Adds *r, unless another process stored a result first: then *r becomes that result. If the file cannot be written,
 * only its memory is lost. */
void tune_store(const char *key, struct tune_result *r);

#endif
