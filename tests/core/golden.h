/* tests/core/golden.h - the golden numbers of the strategies and modes ($WASD_SHARED/strategies). */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include "check.h"
#include "wasd/json.h"

/* The whole file, for cJSON_Delete; NULL if it is absent. */
static cJSON *golden_part(int part)
{
	static const struct wasd_json_limits limits = {(size_t)1 << 20, 32, 200000};
	const char *shared = getenv("WASD_SHARED");
	char path[400], *text = NULL;
	size_t len;
	cJSON *all = NULL;
	snprintf(path, sizeof path, "%s/strategies/part%d.json", shared ? shared : "../shared", part);
	if (!wasd_file_read(path, (size_t)1 << 20, &text, &len, NULL))
		CHECK(!wasd_json_parse(text, len, limits, &all, NULL));
	wasd_free(text);
	return all;
}

static inline cJSON *golden_part1(void)
{
	return golden_part(1);
}

static inline cJSON *golden_part2(void)
{
	return golden_part(2);
}

#endif
