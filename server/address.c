#include "address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool port_ok(const char *s)
{
	size_t n = strlen(s);
	return n >= 1 && n <= 5 && strspn(s, "0123456789") == n && strtol(s, NULL, 10) <= 65535;
}

bool address_split(const char *spec, char host[ADDRESS_HOST], char port[ADDRESS_PORT])
{
	const char *colon = strrchr(spec, ':'), *h = spec;
	if (!colon || !port_ok(colon + 1))
		return false;
	size_t n = (size_t)(colon - spec);
	if (n >= 2 && h[0] == '[' && h[n - 1] == ']') {
		h++;
		n -= 2;
	}
	if (n >= ADDRESS_HOST)
		return false;
	snprintf(host, ADDRESS_HOST, "%.*s", (int)n, h);
	snprintf(port, ADDRESS_PORT, "%s", colon + 1);
	return true;
}
