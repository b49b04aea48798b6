/* server/disk.h - how full the disk is. */
#ifndef SERVER_DISK_H
#define SERVER_DISK_H

#include <stdint.h>

/* Free bytes of the file system that holds dir, as an ordinary user sees them; 0 when unknown. */
uint64_t disk_free(const char *dir);

#endif
