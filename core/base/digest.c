/* base/digest.c - SHA-256 through GnuTLS (SHA-NI if the CPU has it), and CRC-32C. */
#include "wasd/base.h"
#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>

struct wasd_sha256 {
	gnutls_hash_hd_t hash;
	bool ended;
};

void wasd_hex(const unsigned char *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = "0123456789abcdef"[p[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[p[i] & 15];
	}
	out[2 * n] = 0;
}

struct wasd_sha256 *wasd_sha256_create(void)
{
	struct wasd_sha256 *h = wasd_calloc(1, sizeof *h);
	if (h && gnutls_hash_init(&h->hash, GNUTLS_DIG_SHA256) < 0) {
		wasd_free(h);
		return NULL;
	}
	return h;
}

void wasd_sha256_update(struct wasd_sha256 *h, const void *p, size_t n)
{
	if (n)
		gnutls_hash(h->hash, p, n);
}

void wasd_sha256_hex(struct wasd_sha256 *h, char hex[WASD_SHA256_HEX])
{
	/* Finish a copy, so that hashing can go on. Without memory for a copy, finish the original: this digest is correct,
	 * and later ones, which cannot be computed, are empty. */
	unsigned char d[32];
	hex[0] = 0;
	if (h->ended)
		return;
	gnutls_hash_hd_t copy = gnutls_hash_copy(h->hash);
	if (copy) {
		gnutls_hash_deinit(copy, d);
	} else {
		gnutls_hash_output(h->hash, d);
		h->ended = true;
	}
	wasd_hex(d, sizeof d, hex);
}

void wasd_sha256_destroy(struct wasd_sha256 *h)
{
	if (!h)
		return;
	gnutls_hash_deinit(h->hash, NULL);
	wasd_free(h);
}

void wasd_sha256_of(const void *p, size_t n, char hex[WASD_SHA256_HEX])
{
	unsigned char d[32];
	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, n ? p : "", n, d) < 0)
		abort(); /* only a broken GnuTLS fails to provide SHA-256 */
	wasd_hex(d, sizeof d, hex);
}

/* CRC-32C, reflected polynomial 0x82F63B78, four bits at a time. */
static uint32_t crc_plain(uint32_t crc, const unsigned char *p, size_t n)
{
	static const uint32_t t[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	while (n--) {
		crc ^= *p++;
		crc = crc >> 4 ^ t[crc & 15];
		crc = crc >> 4 ^ t[crc & 15];
	}
	return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const unsigned char *p, size_t n)
{
	uint64_t c = crc;
	for (; n >= 8; n -= 8, p += 8) {
		uint64_t v;
		memcpy(&v, p, 8);
		c = __builtin_ia32_crc32di(c, v);
	}
	while (n--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
	return (uint32_t)c;
}
#endif

uint32_t wasd_crc32c(uint32_t crc, const void *p, size_t n)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc_sse42(~crc, p, n);
#endif
	return ~crc_plain(~crc, p, n);
}
