/* core/base/rng.c - the run's generator: xoshiro256** (Blackman and Vigna, public domain algorithm), with its state
 * filled by splitmix64. A stream is a hash of (seed, name, a, b), so the draws for one purpose never depend on how many
 * numbers another purpose has used, and a resumed run finds its place from counters alone. */
#include "wasd/tensor.h"

#include <math.h>

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

static uint64_t splitmix(uint64_t *s)
{
	return mix(*s += 0x9E3779B97F4A7C15u);
}

void wasd_rng_init(struct wasd_rng *r, uint64_t seed, const char *stream, uint64_t a, uint64_t b)
{
	uint64_t name = 0xCBF29CE484222325u; /* FNV-1a */
	for (const char *p = stream; *p; p++)
		name = (name ^ (unsigned char)*p) * 0x100000001B3u;

	/* Each part is mixed before the next is added, so (1,0) and (0,1) are unrelated. */
	uint64_t s = seed, parts[3] = {name, a, b};
	for (int i = 0; i < 3; i++)
		s = splitmix(&s) ^ parts[i];
	for (int i = 0; i < 4; i++)
		r->s[i] = splitmix(&s);
}

static uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

uint64_t wasd_rng_u64(struct wasd_rng *r)
{
	uint64_t *s = r->s, out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return out;
}

double wasd_rng_uniform(struct wasd_rng *r)
{
	return (double)(wasd_rng_u64(r) >> 11) * 0x1p-53;
}

double wasd_rng_between(struct wasd_rng *r, double lo, double hi)
{
	return lo + (hi - lo) * wasd_rng_uniform(r);
}

/* Box and Muller's transform. The second normal number of the pair is dropped, so that the generator's state is all
 * that a resumed run needs. */
double wasd_rng_normal(struct wasd_rng *r)
{
	double u = 1 - wasd_rng_uniform(r), angle = 2 * M_PI * wasd_rng_uniform(r);
	return sqrt(-2 * log(u)) * cos(angle);
}

/* Lemire's multiply-and-reject: the high word of x*n is uniform once the few low words that would be counted twice are
 * rejected. */
uint32_t wasd_rng_below(struct wasd_rng *r, uint32_t n)
{
	uint64_t m = (wasd_rng_u64(r) >> 32) * n;
	if ((uint32_t)m < n) {
		uint32_t reject = -n % n;
		while ((uint32_t)m < reject)
			m = (wasd_rng_u64(r) >> 32) * n;
	}
	return (uint32_t)(m >> 32);
}

void wasd_rng_shuffle(struct wasd_rng *r, uint32_t *v, size_t n)
{
	for (size_t i = n; i > 1; i--) { /* Fisher-Yates, from the end */
		uint32_t j = wasd_rng_below(r, (uint32_t)i), t = v[i - 1];
		v[i - 1] = v[j];
		v[j] = t;
	}
}
