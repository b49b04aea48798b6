/* server/client/parcel.h - files that are sent as the body of one request: a file as it is, several as multipart, a
 * folder as a tar that is made on the way. Nothing is held in memory. */
#ifndef SERVER_CLIENT_PARCEL_H
#define SERVER_CLIENT_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wasd/base.h"

struct parcel_file {
	char *path;    /* to open */
	char *name;    /* inside the body */
	int64_t bytes; /* announced; a file that got shorter ends the transfer */
};
enum parcel_kind { PARCEL_FILE, PARCEL_PARTS, PARCEL_TAR };
struct parcel {
	enum parcel_kind kind;
	struct parcel_file *files;
	size_t n, room;
	const char *set_name; /* PARCEL_PARTS: the part "name" */
	int64_t bytes;        /* of the whole body */
};

/* paths: one file, one folder, or several files. A folder's hidden files are left out. */
enum wasd_status parcel_pack(struct parcel *p, const char *const *paths, size_t n, const char *set_name,
                             struct wasd_err *err);
/* The Content-Type of the body. */
const char *parcel_type(const struct parcel *p);
/* Writes the body to fd. shown: the progress goes to stderr. WASD_EBUSY: the other side has closed; it may have
 * answered. */
enum wasd_status parcel_send(const struct parcel *p, int fd, bool shown, struct wasd_err *err);
void parcel_done(struct parcel *p);

#endif
