/* engine/link.h - an engine process's end of its stream (protocol.h): hello, heartbeats, cancel, acks, inbox.
 *
 * A thread of its own reads the stream. It keeps the heartbeat, notes `cancel` and `ack`, and queues every other
 * message for the compute thread. The end of the stream ends the process at once; a broken frame ends it with
 * WASD_ENGINE_EXIT_PROTOCOL. When the inbox is full the thread stops reading, and the daemon feels it as back-pressure.
 */
#ifndef WASD_ENGINE_LINK_H
#define WASD_ENGINE_LINK_H

#include "wasd/protocol.h"

struct engine_link;

/* Takes descriptor WASD_WIRE_FD, arranges to die with the parent, sends hello, starts the reader. One per process. */
enum wasd_status engine_link_open(enum wasd_role role, struct engine_link **out, struct wasd_err *err);
void engine_link_close(struct engine_link *l); /* ends the reader and closes the stream */

/* The next message of the inbox, in order; waits for ever. The caller ends it with wasd_frame_done. *when (may be
 * NULL): when it arrived, by wasd_mono_us. */
void engine_link_next(struct engine_link *l, struct wasd_frame *out, int64_t *when);
bool engine_link_cancelled(struct engine_link *l); /* a cancel has arrived; any thread */

/* Any thread. json is taken and deleted also on failure; NULL is out of memory. A stream that cannot be written ends
 * the process as its end would. *seq (may be NULL) is the frame's number. */
enum wasd_status engine_send(struct engine_link *l, cJSON *json, struct wasd_err *err);
enum wasd_status engine_send_full(struct engine_link *l, cJSON *json, const void *bin, size_t bin_len, int fd,
                                  uint32_t *seq, struct wasd_err *err);
/* Waits until the daemon has acknowledged frame seq. seq 0 returns at once. */
void engine_wait_ack(struct engine_link *l, uint32_t seq);
void engine_log(struct engine_link *l, const char *level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* {"type":"error",...} in answer to frame re; code may be NULL (then the status's name stands in). */
void engine_error(struct engine_link *l, uint32_t re, const struct wasd_err *e, const char *code);
/* A string member that the protocol demands: without it the daemon broke the protocol. */
const char *engine_need_string(const cJSON *m, const char *key);
/* WASD_ECORRUPT when the bytes are not those announced: "what: digest ..., announced ...". */
enum wasd_status engine_check_digest(const void *bytes, size_t len, const char *sha256, const char *what,
                                     struct wasd_err *err);
/* Takes one message after the other to its handler, until the daemon cancels or the stream's end ends the process. An
 * unknown one breaks the protocol. */
struct engine_handler {
	const char *type;
	void (*handle)(struct engine_link *l, const struct wasd_frame *m);
};
void engine_serve(struct engine_link *l, const struct engine_handler *handlers, size_t n);
/* The daemon broke the protocol: says why on stderr and exits. */
_Noreturn void engine_protocol_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
