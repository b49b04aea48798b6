/* wasd/protocol.h - the messages that travel in the frames of wasd/wire.h, as a table.
 *
 * A row is one message of one direction: which engine roles have it, what it answers to, its members and its payload.
 * Both ends send and receive by the rows (wasd_wire_speak): a frame that breaks its row is refused with the row's name
 * and the member's, on the sending end as WASD_EINVAL, on the receiving end as WASD_ECORRUPT. Members that a row does
 * not name are ignored by the receiver.
 *
 * A new message is one row in base/protocol.c and one handler on the end that receives it. The order in which messages
 * may come (hello first, nothing after done) is the receiver's affair: server/process/supervisor.c and the state
 * machines above it.
 *
 * ---- the payload --------------------------------------------------------------------------------------------------
 * Small payloads travel behind the JSON of the frame, large ones in a sealed memory file whose size is the member
 * "bytes" and, where the content is kept, whose SHA-256 is the member "sha256". wasd_frame_payload gives the bytes
 * whichever way they came.
 *
 * ---- a checkpoint -------------------------------------------------------------------------------------------------
 * One safetensors file, self-contained. Tensors: every parameter by its name (F32); the statistics of each mode,
 * <prefix><bn>.running_mean and .running_var; train.<bn>.running_mean/...; optim.<state>.<param> (e.g.
 * optim.momentum.conv.weight); state.rng.was etc. (U64). Where strategies (core's weights/strategy.h) form the weights,
 * a parameter's own name has what passes compute with; weights.master.<param> is what is trained,
 * weights.<strategy>.<name> a strategy's state. __metadata__: "format":"wasd-checkpoint-2", "spec" (canonical job
 * spec), "arch","classes","input" (JSON), "modes" (JSON: a list of {"name","kind","recipe","statistics": the prefix,
 * "measured","macs","val_acc"}; AOM's prefix is empty, DOM's "dom."), "was", "prepare" (JSON: fit, background,
 * orientation of the training data's pictures, absent where they were never recorded), "progress" (JSON: epoch, step,
 * next batch, best so far, early-stop counters, lr schedule position), "fingerprint", "dataset_digest".
 *
 * "wasd-checkpoint-1" is read as well: no "modes", but "draw" (JSON of DOM's draw, or "null"), and in "progress"
 * "measured_aom" and "measured_dom".
 */
#ifndef WASD_PROTOCOL_H
#define WASD_PROTOCOL_H

#include "wasd/wire.h"

#define WASD_HEARTBEAT_MS 1000
#define WASD_ENGINE_EXIT_PROTOCOL 3
/* What a training process is at, by name, in the order of enum wasd_train_phase. */
#define WASD_TRAIN_PHASES \
	"loading data", "measuring algorithms", "training", "measuring statistics", "evaluating", "saving"
#define WASD_LOSSES_MAX 256

/* What an engine process is for: the command it is started with. */
enum wasd_role {
	WASD_ROLE_TRAIN,
	WASD_ROLE_INFER,
	WASD_ROLE_INGEST,
	WASD_ROLE_CONVERT,
	WASD_ROLE_PROFILE,
	WASD_ROLE_CHECK,
	WASD_ROLES
};
const char *wasd_role_name(enum wasd_role r);
bool wasd_role_from_name(const char *name, enum wasd_role *out);

enum wasd_side { WASD_DAEMON, WASD_ENGINE };

enum wasd_member_type {
	WASD_MEMBER_STRING,
	WASD_MEMBER_INTEGER,
	WASD_MEMBER_NUMBER,
	WASD_MEMBER_BOOLEAN,
	WASD_MEMBER_OBJECT,
	WASD_MEMBER_ARRAY,
	WASD_MEMBER_ANY
};

/* min and max: the value of a number, the bytes of a string, the items of an array; max 0 = no upper bound of its own.
 */
struct wasd_member {
	const char *name;
	enum wasd_member_type type;
	bool optional, null_ok;
	double min, max;
	const char *const *choices; /* of a string; ended by NULL */
};

enum wasd_payload_rule {
	WASD_PAYLOAD_NONE,
	WASD_PAYLOAD_BULK, /* behind the JSON, or as a file; may be empty */
	WASD_PAYLOAD_FILE, /* a sealed memory file */
	WASD_PAYLOAD_FILE_OR_NONE,
};

#define WASD_MESSAGE_MEMBERS 18
struct wasd_message {
	const char *type;
	unsigned roles; /* bit of each enum wasd_role that has it */
	enum wasd_side from;
	const char *answer; /* of a question: the type of the answer, unless that is "error". An answer names its question's
	                       frame in "re" */
	enum wasd_payload_rule payload;
	struct wasd_member members[WASD_MESSAGE_MEMBERS]; /* ended by a NULL name */
};

/* NULL after the last. */
const struct wasd_message *wasd_message_at(int i);
/* Rows of the program that this is linked into, after those of the table; ended by NULL. A program without any defines
 * nothing. */
extern const struct wasd_message *const wasd_message_more[] __attribute__((weak));
/* NULL: that side does not say such a thing to, or as, an engine of that role. */
const struct wasd_message *wasd_message_find(enum wasd_role role, enum wasd_side from, const char *type);

/* json and the payload against the row. WASD_ECORRUPT: err names the row and the member. file: a descriptor travels
 * with it. */
enum wasd_status wasd_message_check(const struct wasd_message *row, const cJSON *json, size_t inline_bytes, bool file,
                                    struct wasd_err *err);

/* {"type":type, ...} by "name:kind" pairs separated by blanks, each with one argument: s = const char *, i = int64_t, d
 * = double, b = int as a boolean, j = cJSON *, which is taken also on failure (NULL counts as lost memory). A "?"
 * before the kind leaves out a NULL s or j. NULL when out of memory: a message is whole or there is none. type NULL: an
 * object without a type, for a member of a message. */
cJSON *wasd_message(const char *type, const char *members, ...);

/* The payload of a received frame, mapped where it came as a file. The size of the file must be the member "bytes"
 * and, for a checkpoint with an overlay behind it, "profile_bytes" more. wasd_payload_done unmaps; data is borrowed
 * from m or from the map. */
struct wasd_payload {
	const void *data;
	size_t len;
	const void *map;
};
enum wasd_status wasd_frame_payload(const struct wasd_frame *m, struct wasd_payload *out, struct wasd_err *err);
void wasd_payload_done(struct wasd_payload *p);

/* From now on every frame that w sends or receives is one of the table. side: who holds this end. */
void wasd_wire_speak(struct wasd_wire *w, enum wasd_role role, enum wasd_side side);

#endif
