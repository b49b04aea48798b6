/* server/disk.h - free disk space. */
#ifndef SERVER_DISK_H
#define SERVER_DISK_H

#include <stdint.h>

/* Bytes available to an ordinary user on the file system that holds dir; 0 if unknown. */
uint64_t disk_free(const char *dir);

#endif
