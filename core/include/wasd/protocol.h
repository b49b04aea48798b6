/* wasd/protocol.h - the messages in the frames of wasd/wire.h, as a table.
 *
 * A row is one message in one direction: the engine roles that use it, the question that it answers, its members
 * and its payload. Both ends check what they send and receive against the rows (wasd_wire_speak). A frame that
 * breaks its row is refused with the names of the row and the member: WASD_EINVAL on the sending end,
 * WASD_ECORRUPT on the receiving end. The receiver ignores members that the row does not name.
 *
 * A new message is one row in base/protocol.c and one handler on the receiving end. The receiver also checks the
 * order of messages (hello first, nothing after done): server/process/supervisor.c and the state machines above
 * it.
 *
 * ---- the payload
 * --------------------------------------------------------------------------------------------------
 * Small payloads follow the JSON in the frame. Large ones are sealed memory files; the member "bytes" is the
 * file's size, and the member "sha256" is the digest if the content is kept. wasd_frame_payload returns the bytes
 * in both cases.
 *
 * ---- a checkpoint
 * -------------------------------------------------------------------------------------------------
 * One self-contained safetensors file. Tensors: every parameter by its name (F32); the statistics of each mode,
 * <prefix><bn>.running_mean and .running_var; train.<bn>.running_mean/...; optim.<state>.<param> (e.g.
 * optim.momentum.conv.weight); state.rng.was etc. (U64). If strategies (core's weights/strategy.h) form the
 * weights, a parameter's own name has the values that passes compute with, weights.master.<param> the trained
 * values, and weights.<strategy>.<name> a strategy's state. A strategy that is compact composes parameters of its
 * state and what it learns: they have no tensor, the format is "wasd-checkpoint-3", and "composed" names the strategy,
 * whose object is in the spec's "weights". __metadata__: "format":"wasd-checkpoint-2", "spec"
 * (canonical job spec), "arch","classes","input" (JSON), "modes" (JSON: a list of
 * {"name","kind","recipe","statistics": the prefix, "measured","macs","val_acc"}; AOM's prefix is empty, DOM's is
 * "dom."), "was", "prepare" (JSON: fit, background, orientation of the training images; absent if not recorded),
 * "network" (JSON: a spec's "model", the network of the tensors if the run has made it smaller than the spec's; absent
 * otherwise), "merged_from" (JSON: the checkpoints that it is a mix of, wasd/merge.h; absent otherwise),
 * "progress" (JSON: epoch, step, next batch, best so far, early-stop counters, lr schedule position),
 * "fingerprint", "dataset_digest".
 *
 * Files of format "wasd-checkpoint-1" can be read as well. They have no "modes" but "draw" (JSON of DOM's draw, or
 * "null"), and "measured_aom" and "measured_dom" in "progress". */
#ifndef WASD_PROTOCOL_H
#define WASD_PROTOCOL_H

#include "wasd/wire.h"

#define WASD_HEARTBEAT_MS 1000
#define WASD_ENGINE_EXIT_PROTOCOL 3
/* The phases of a training process, by name, in the order of enum wasd_train_phase. */
#define WASD_TRAIN_PHASES \
	"loading data", "measuring algorithms", "training", "measuring statistics", "evaluating", "saving"
#define WASD_LOSSES_MAX 256
#define WASD_METRICS_MAX 256     /* metrics of one epoch */
#define WASD_METRIC_NAME 64      /* bytes of the name of one */
#define WASD_REPORT_MODES_MAX 64 /* searched modes in one report */
#define WASD_MERGE_MAX 8         /* checkpoints in one merge */
#define WASD_ARCHIVE_MAX 1000    /* checkpoints in one archive */

/* The task of an engine process, which is also the command that starts it. */
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

/* min and max apply to the value of a number, the bytes of a string, the items of an array; max 0 = no upper
 * bound. */
struct wasd_member {
	const char *name;
	enum wasd_member_type type;
	bool optional, null_ok;
	double min, max;
	const char *const *choices; /* of a string; ends at NULL */
};

enum wasd_payload_rule {
	WASD_PAYLOAD_NONE,
	WASD_PAYLOAD_BULK, /* after the JSON, or as a file; may be empty */
	WASD_PAYLOAD_FILE, /* a sealed memory file */
	WASD_PAYLOAD_FILE_OR_NONE,
};

#define WASD_MESSAGE_MEMBERS 18
struct wasd_message {
	const char *type;
	unsigned roles; /* one bit for each enum wasd_role that uses the message */
	enum wasd_side from;
	const char *answer; /* of a question: the type of its answer, which may also be "error". An answer has the number of
	                       the question's frame in "re" */
	enum wasd_payload_rule payload;
	struct wasd_member members[WASD_MESSAGE_MEMBERS]; /* ends at a NULL name */
};

/* NULL after the last. */
const struct wasd_message *wasd_message_at(int i);
/* Further rows, defined by the program that this is linked into; they follow those of the table and end at NULL.
 * Optional: the symbol is weak. */
extern const struct wasd_message *const wasd_message_more[] __attribute__((weak));
/* NULL: `from` sends no such message in the stream of that role. */
const struct wasd_message *wasd_message_find(enum wasd_role role, enum wasd_side from, const char *type);

/* Checks json and the payload against the row. WASD_ECORRUPT: err names the row and the member. file: whether a
 * descriptor came with the frame. */
enum wasd_status wasd_message_check(const struct wasd_message *row, const cJSON *json, size_t inline_bytes, bool file,
                                    struct wasd_err *err);

/* Makes {"type":type, ...} from "name:kind" pairs separated by blanks, each with one argument: s = const char *, i
 * = int64_t, d = double, b = int as a boolean, j = cJSON *, whose ownership is taken also on failure (NULL counts
 * as out of memory). A "?" before the kind leaves the member out if its s or j is NULL. Returns NULL when out of
 * memory, never an incomplete message. type NULL: an object without a type, for a member of a message. */
cJSON *wasd_message(const char *type, const char *members, ...);

/* The payload of a received frame, mapped if it came as a file. The file's size must be the member "bytes", plus
 * "profile_bytes" for a checkpoint that is followed by an overlay. data is borrowed from m or from the map;
 * wasd_payload_done unmaps. */
struct wasd_payload {
	const void *data;
	size_t len;
	const void *map;
};
enum wasd_status wasd_frame_payload(const struct wasd_frame *m, struct wasd_payload *out, struct wasd_err *err);
void wasd_payload_done(struct wasd_payload *p);

/* Checks every later frame that w sends or receives against the table. side: the owner of this end. */
void wasd_wire_speak(struct wasd_wire *w, enum wasd_role role, enum wasd_side side);

#endif
