/* onednn/prim_cpu.h - what the wrappers of oneDNN's primitives share (prim.c, prim8.c). After prim_open. */
#ifndef ONEDNN_PRIM_CPU_H
#define ONEDNN_PRIM_CPU_H

#include <oneapi/dnnl/dnnl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

dnnl_engine_t prim_engine(void);
bool prim_execute(dnnl_primitive_t p, int n, const dnnl_exec_arg_t *args);
/* A memory object without a buffer. */
bool prim_memory(dnnl_memory_t *m, const dnnl_memory_desc_t *md);
/* Checks for spare memory before calling oneDNN: its code generator terminates the process if it cannot allocate a
 * fraction of a MiB for a primitive's code, e.g. under a job's memory limit. */
bool prim_memory_left(void);
/* Right or bottom padding that gives the output size; never negative, since windows beginning outside do not count. */
int prim_pad_end(int in, int out, int k, int stride, int begin);
uint64_t prim_hash(const void *p, size_t n);

#endif
