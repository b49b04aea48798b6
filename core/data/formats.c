/* core/data/formats.c - the names of the formats that an upload may have, as wasd_ingest_info reports them. */
#include "wasd/data.h"

const char *wasd_ingest_format_at(int i)
{
	static const char *const names[] = { "cifar10", "cifar100", "idx", "images" };
	return i >= 0 && i < (int)(sizeof names / sizeof *names) ? names[i] : NULL;
}
