/* layers/hash.h - the random number of element i for a given pass and layer: masks depend on neither layout nor
 * threads. */
#ifndef LAYERS_HASH_H
#define LAYERS_HASH_H

#include <stdint.h>

/* Uniform in [0,1) from 24 bits of splitmix64's finaliser. */
static inline double hash_uniform(uint64_t seed, uint64_t i)
{
	uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	z ^= z >> 31;
	return (double)(z >> 40) * 0x1p-24;
}

#endif
