/* onednn/tune.h - which algorithm is the fastest for a shape: measured once per machine, then remembered.
 *
 * Results live in memory and, when the environment variable WASD_TUNING names one, in a file that all engine processes
 * of a data directory share. The first result that reaches the file counts for all of them, so a run that is resumed
 * computes with the algorithms that it began with.
 *
 * The file holds one line a result: "wasd-tuning-2", machine, key, choice, microseconds of each candidate, with tabs
 * between. The machine is the processor's name and instructions, the number of threads and oneDNN's version; lines of
 * other machines, and lines that are not whole, are passed over. */
#ifndef ONEDNN_TUNE_H
#define ONEDNN_TUNE_H

#include "wasd/base.h"

#define TUNE_CANDIDATES 4
#define TUNE_KEY 96
#define TUNE_LIBRARY 0 /* oneDNN's direct kernels and ours: the candidates that depthwise layers have */
#define TUNE_OURS 3

struct tune_result {
	int choice;
	float us[TUNE_CANDIDATES];
}; /* us 0: this candidate does not exist */

/* machine: what sets the results apart from another machine's. Called before the others; threads are safe. */
void tune_open(const char *machine);
bool tune_find(const char *key, struct tune_result *out);
/* Adds *r, unless another process was faster: then *r becomes what that one stored. A file that cannot be written only
 * costs the memory of it. */
void tune_store(const char *key, struct tune_result *r);

#endif
