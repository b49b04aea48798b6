#include "message.h"

#include <stdio.h>
#include <string.h>

cJSON *message(const char *type, const char *members, ...)
{
	cJSON *m = cJSON_CreateObject();
	bool ok = m && cJSON_AddStringToObject(m, "type", type);
	va_list ap;
	va_start(ap, members);
	for (const char *p = members; *p;) {
		char name[32];
		size_t n = strcspn(p, ":");
		snprintf(name, sizeof name, "%.*s", (int)n, p);
		char kind = p[n + 1];
		if (kind == 's') {
			const char *s = va_arg(ap, const char *);
			ok = ok && cJSON_AddStringToObject(m, name, s);
		} else if (kind == 'i') {
			int64_t v = va_arg(ap, int64_t);
			ok = ok && cJSON_AddNumberToObject(m, name, (double)v);
		} else {
			cJSON *j = va_arg(ap, cJSON *);
			bool added = ok && j && cJSON_AddItemToObject(m, name, j);
			if (!added)
				cJSON_Delete(j);
			ok = added;
		}
		p += n + 2;
		p += *p == ' ';
	}
	va_end(ap);
	if (ok)
		return m;
	cJSON_Delete(m);
	return NULL;
}
