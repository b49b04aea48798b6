/* engine/link.h - the engine's end of the stream (protocol.h): hello, heartbeats, cancel, acks, inbox.
 *
 * A dedicated thread reads the stream. It keeps up the heartbeat, records `cancel` and `ack`, and queues every
 * other message for the compute thread. The end of the stream ends the process at once; a broken frame ends it
 * with WASD_ENGINE_EXIT_PROTOCOL. When the inbox is full the thread stops reading, which puts back-pressure on the
 * daemon. */
#ifndef WASD_ENGINE_LINK_H
#define WASD_ENGINE_LINK_H

#include "wasd/protocol.h"

struct engine_link;

/* Takes over descriptor WASD_WIRE_FD, ties the process's life to its parent's, sends hello and starts the reader.
 * Call it once per process. */
enum wasd_status engine_link_open(enum wasd_role role, struct engine_link **out, struct wasd_err *err);
void engine_link_close(struct engine_link *l); /* ends the reader and closes the stream */

/* Waits without a deadline for the next message of the inbox; messages come in order. The caller releases it with
 * wasd_frame_done. *when (may be NULL): the time of its arrival, by wasd_mono_us. */
void engine_link_next(struct engine_link *l, struct wasd_frame *out, int64_t *when);
bool engine_link_cancelled(struct engine_link *l); /* whether a cancel has arrived; any thread */

/* Sends a message; any thread may call. Takes ownership of json, also on failure; NULL counts as out of memory. If
 * the stream cannot be written, the process ends as at the end of the stream. *seq (may be NULL): the number of
 * the frame. */
enum wasd_status engine_send(struct engine_link *l, cJSON *json, struct wasd_err *err);
enum wasd_status engine_send_full(struct engine_link *l, cJSON *json, const void *bin, size_t bin_len, int fd,
                                  uint32_t *seq, struct wasd_err *err);
/* Waits until the daemon has acknowledged frame seq. Returns at once for seq 0. */
void engine_wait_ack(struct engine_link *l, uint32_t seq);
void engine_log(struct engine_link *l, const char *level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Sends {"type":"error",...} in answer to frame re. code NULL: the name of the status is sent. */
void engine_error(struct engine_link *l, uint32_t re, const struct wasd_err *e, const char *code);
/* Sets the process's nice value to the message's member "nice"; threads started later inherit it. Linux may schedule
 * the processes of a session as a group (autogroup) against those of other sessions, and each engine process has a
 * session of its own: the group gets the same value, or else it would count as much as the one that serves inference.
 */
void engine_be_nice(const cJSON *m);
/* Returns a string member that the protocol requires; a missing one is a protocol error of the daemon. */
const char *engine_need_string(const cJSON *m, const char *key);
/* Fails with WASD_ECORRUPT if the bytes do not have the announced digest: "what: digest ..., announced ...". */
enum wasd_status engine_check_digest(const void *bytes, size_t len, const char *sha256, const char *what,
                                     struct wasd_err *err);
/* Passes each message to its handler until the daemon cancels or the end of the stream ends the process. An
 * unknown message is a protocol error. */
struct engine_handler {
	const char *type;
	void (*handle)(struct engine_link *l, const struct wasd_frame *m);
};
void engine_serve(struct engine_link *l, const struct engine_handler *handlers, size_t n);
/* Reports a protocol error of the daemon on stderr and exits. */
_Noreturn void engine_protocol_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
