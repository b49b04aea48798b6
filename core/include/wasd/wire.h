/* wasd/wire.h - the frames between the daemon and an engine process. wasd/protocol.h describes the messages in them.
 *
 * One duplex byte stream per process (a socketpair today, a remote launcher's pipe later). A frame is
 *
 *     offset 0   u32  magic    'W''A''S''D' as bytes 57 41 53 44
 *            4   u16  version  1
 *            6   u16  flags    bit 0: one sealed memfd travels with this frame (SCM_RIGHTS)
 *            8   u32  seq      sender's counter, starts at 1, +1 per frame
 *           12   u32  json_len at most 1 MiB, at least 2
 *           16   u32  bin_len  at most 1 MiB
 *           20   u32  crc32c   over bytes 0..19 and everything after the header
 *           24   json_len bytes of JSON (an object with a string member "type"), then bin_len raw bytes
 *
 * all little-endian. Larger payloads travel as a sealed memfd. Its size is in the JSON, with the SHA-256 of content
 * that is kept ("bytes", "sha256"). Both sides treat each other as hostile: a bad magic, version, length, order,
 * checksum, JSON or an unexpected descriptor is WASD_ECORRUPT, after which the stream must be closed. Once
 * wasd_wire_speak has set the role, the same holds for a message that is not in the table of wasd/protocol.h or
 * violates its row; the sending end rejects it with WASD_EINVAL and sends nothing. */
#ifndef WASD_WIRE_H
#define WASD_WIRE_H

#include "wasd/base.h"
#include "wasd/json.h"

#define WASD_WIRE_FD 3 /* the engine's end of the stream after exec */
#define WASD_WIRE_MAX (1u << 20)

struct wasd_wire; /* one end; owns its descriptor */

struct wasd_frame {
	uint32_t seq;
	cJSON *json;      /* owned by the frame */
	const char *type; /* borrowed from json */
	char *bin;
	size_t bin_len; /* owned; NULL when bin_len is 0 */
	int fd;         /* owned; -1: none. Not checked yet: wasd_memfd_map does that */
};
void wasd_frame_done(
	struct wasd_frame *m); /* frees and closes; safe on a zeroed struct with fd -1, and when called twice */

enum wasd_status wasd_wire_create(int fd, struct wasd_wire **out, struct wasd_err *err);
void wasd_wire_destroy(struct wasd_wire *w); /* closes the descriptor */
int wasd_wire_fd(const struct wasd_wire *w);

/* Sends one frame and blocks until the kernel has accepted it. json is borrowed. bin may be NULL. fd -1: none (fd stays
 * the caller's). Thread-safe: frames never interleave. *seq (may be NULL) is the frame's number. EPIPE gives WASD_EIO;
 * SIGPIPE is never raised. */
enum wasd_status wasd_wire_send(struct wasd_wire *w, const cJSON *json, const void *bin, size_t bin_len, int fd,
                                uint32_t *seq, struct wasd_err *err);
/* Convenience: sends json without a payload and takes ownership of it (deleted even on failure; NULL: WASD_ENOMEM). */
enum wasd_status wasd_wire_send_take(struct wasd_wire *w, cJSON *json, struct wasd_err *err);

/* Receives one frame. timeout_ms -1: no timeout; 0: only what has arrived. WASD_EBUSY on timeout, WASD_ENOTFOUND at a
 * clean end of stream, WASD_ECORRUPT as above. One reader thread at a time. Works on blocking and non-blocking
 * descriptors and keeps partial frames between calls, so an epoll loop calls it with 0 until WASD_EBUSY. */
enum wasd_status wasd_wire_recv(struct wasd_wire *w, int timeout_ms, struct wasd_frame *out, struct wasd_err *err);

#endif
