/* train/fingerprint.c - see fingerprint.h. */
#include "backend/backend.h"
#include "train/fingerprint.h"
#include "wasd/cpu.h"
#include "wasd/tensor.h"
#include "wasd/train.h"

#include <string.h>

static const char *isa(void)
{
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f"))
		return "avx512";
	if (__builtin_cpu_supports("avx2"))
		return "avx2";
	return "x86-64";
#else
	return "generic";
#endif
}

const char *wasd_build_id(void)
{
	return WASD_VERSION " (" __VERSION__ ")";
}

/* Adds the library version of each backend, under the backend's name. */
static bool add_libraries(cJSON *j)
{
	const struct backend *b;
	for (int i = 0; (b = backend_at(i)) != NULL; i++) {
		char text[160];
		if (!b->library)
			continue;
		b->library(text, sizeof text);
		if (!cJSON_AddStringToObject(j, b->name, text))
			return false;
	}
	return true;
}

cJSON *wasd_fingerprint(void)
{
	cJSON *j = cJSON_CreateObject();
	if (cJSON_AddStringToObject(j, "wasd", WASD_VERSION) && cJSON_AddStringToObject(j, "build", wasd_build_id()) &&
	    cJSON_AddStringToObject(j, "real", sizeof(real) == 8 ? "float64" : "float32") &&
	    cJSON_AddStringToObject(j, "isa", isa()) && add_libraries(j) &&
	    cJSON_AddStringToObject(j, "coretype", wasd_cpu_openblas_loaded()) &&
	    cJSON_AddNumberToObject(j, "threads", wasd_threads()))
		return j;
	cJSON_Delete(j);
	return NULL;
}

const char *train_fingerprint_diff(const cJSON *a, const cJSON *b)
{
	for (const cJSON *m = a ? a->child : NULL; m; m = m->next)
		if (!cJSON_Compare(m, wasd_json_get(b, m->string), true))
			return m->string;
	return NULL;
}
