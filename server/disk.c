#include "disk.h"

#include <sys/statvfs.h>

uint64_t disk_free(const char *dir)
{
	struct statvfs v;
	return statvfs(dir, &v) ? 0 : (uint64_t)v.f_bavail * v.f_frsize;
}
