/* base/mode.c - the names of modes: read and put together here alone. */
#include "wasd/mode.h"

#include <stdio.h>
#include <string.h>

#define FAMILY_MAX 7 /* with ':' and a name of 63 bytes that is WASD_MODE_LEN with its NUL */

const char *const wasd_modes[] = {WASD_MODE_AOM, WASD_MODE_DOM, NULL};

static bool is_base(const char *mode)
{
	int i = 0;
	while (wasd_modes[i] && strcmp(wasd_modes[i], mode))
		i++;
	return wasd_modes[i];
}

/* Letters and digits; the plain weights have no family. */
static bool family_ok(const char *mode, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!(mode[i] >= 'a' && mode[i] <= 'z') && !(i && mode[i] >= '0' && mode[i] <= '9'))
			return false;
	return n > 0 && n <= FAMILY_MAX && !(n == strlen(WASD_MODE_AOM) && !memcmp(mode, WASD_MODE_AOM, n));
}

static const char *behind_family(const char *mode)
{
	size_t n = strcspn(mode, ":");
	return mode[n] && family_ok(mode, n) ? mode + n + 1 : NULL;
}

static bool is_width(const char *mode)
{
	return !strncmp(mode, WASD_FAMILY_WIDTH ":", sizeof WASD_FAMILY_WIDTH);
}

bool wasd_mode_smaller(const char *mode)
{
	return is_width(mode) || !strcmp(mode, WASD_MODE_SLIM);
}

const char *wasd_mode_member(const char *mode)
{
	return is_width(mode) ? NULL : behind_family(mode);
}

bool wasd_mode_member_ok(const char *name)
{
	return wasd_name_ok(name) && !is_base(name);
}

bool wasd_mode_ok(const char *mode)
{
	const char *name = behind_family(mode);
	return name ? wasd_mode_member_ok(name) : is_base(mode) || !strcmp(mode, WASD_MODE_SLIM);
}

const char *wasd_mode_measured(const char *mode)
{
	return strcmp(mode, WASD_MODE_SLIM) ? mode : WASD_MODE_AOM;
}

bool wasd_mode_chooses(const char *mode)
{
	return !strcmp(mode, WASD_MODE_AUTO) || !strcmp(mode, WASD_MODE_CASCADE);
}

void wasd_mode_join(const char *family, const char *name, char out[WASD_MODE_LEN])
{
	snprintf(out, WASD_MODE_LEN, "%s:%s", family, name);
}
