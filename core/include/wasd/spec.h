/* wasd/spec.h - the vocabulary of the job spec: the type, default, range and meaning of every member, in one
 * table.
 *
 * The daemon uses the table to bring specs into canonical form (api/fields.c), the trainer and the strategies to
 * read them, and GET /v1/capabilities, the form on the page, `wasd spec` and the reference to show them. A new
 * member is a row in base/spec.c and the code that uses it. A member that can be written in several ways also has
 * a hook in api/forms.c.
 *
 * Networks, transforms, strategies, optimizers, schedules, augmentations and the other request bodies of the API
 * describe their options by rows of the same kind. */
#ifndef WASD_SPEC_H
#define WASD_SPEC_H

#include "wasd/json.h"
#include "wasd/mode.h"

/* ---- rows -------------------------------------------------------------------------------------------------------- */

enum wasd_field_type {
	WASD_BOOL,
	WASD_INT,
	WASD_NUM,
	WASD_PAIR,   /* two numbers [low, high] */
	WASD_STR,    /* min to max bytes */
	WASD_NAME,   /* accepted by wasd_name_ok */
	WASD_CHOICE, /* one of the choices, a string */
	WASD_OBJECT, /* its members: sub */
	WASD_TYPED,  /* an object whose "type" is a row of `table`; its members: the options of that row, and sub */
	WASD_LIST,   /* min to max items; sub: the members of each item that is an object */
	WASD_ANY,
	WASD_REFUSED /* known from other systems but not supported; summary: the alternative */
};

/* A member of an object. A table of members ends at a NULL name. */
struct wasd_field {
	const char *name;
	enum wasd_field_type type;
	const char *def;           /* default, as JSON; NULL: none */
	double min, max;           /* bounds of a number, of the bytes of a string, of the items of a list */
	bool above_min, below_max; /* that bound is excluded */
	bool required;
	bool null_ok;
	bool implied;                    /* the canonical form omits the default */
	const char *stored;              /* value for a stored object that predates the member; NULL: def */
	const char *const *choices;      /* strings; for a WASD_INT the numbers as text; ends at NULL */
	const char *(*choice_at)(int i); /* instead of choices: the names of another list; NULL after the last */
	const struct wasd_field *sub;
	const char *table;   /* name of a table of capabilities */
	const char *items;   /* plural name of the items of a list, for messages */
	const char *form;    /* the hook of api/forms.c for a member that can be written in several ways */
	const char *summary; /* one line for display; NULL in bodies that only api/ describes */
};

const struct wasd_field *wasd_field_find(const struct wasd_field *rows,
                                         const char *name);       /* NULL: unknown; rows may be NULL */
const char *wasd_field_choice(const struct wasd_field *f, int i); /* NULL after the last */
/* Whether v is valid for a WASD_INT or WASD_NUM (finite, in range, whole for WASD_INT, among the choices). */
bool wasd_field_takes(const struct wasd_field *f, double v);
/* Describes the valid values for messages: "a whole number from 1 to 64", "a number above 0 and below 1". */
#define WASD_FIELD_RANGE 256
void wasd_field_range(const struct wasd_field *f, char out[WASD_FIELD_RANGE]);
/* `"a", "b" or "c"`; `last` goes before the last choice. */
void wasd_field_choices(const struct wasd_field *f, const char *last, char out[WASD_FIELD_RANGE]);
/* Converts `json`, a default of the row, to numbers: 1 for true; two for a WASD_PAIR. 0 if it is not a number. */
void wasd_field_numbers(const struct wasd_field *f, const char *json, double v[2]);
/* Copies a string default without its quotes, truncated to size. "" if the default is not a string. */
void wasd_field_word(const struct wasd_field *f, char *out, size_t size);
/* {"name","type",...}, the form of an OPTION in wasd/model.h; NULL: out of memory. */
cJSON *wasd_field_to_json(const struct wasd_field *f);

/* ---- the job spec ------------------------------------------------------------------------------------------------ */

#define WASD_LAYERS_MAX 1000   /* layers of a custom network, and of a list that names a transform for each */
#define WASD_CLASSES_MAX 65535 /* of a data set */
#define WASD_CLASS_WEIGHT_MAX 1e6
#define WASD_AFTER_MAX 32  /* jobs that a job waits for */
#define WASD_WEIGHTS_MAX 8 /* strategies per run */
#define WASD_TRANSFORMS_MAX 16
#define WASD_GROUPS_MAX 64
#define WASD_PATTERN_MAX 64          /* bytes of a name or pattern of layers */
#define WASD_LABEL_MAX 63            /* bytes of a label's name */
#define WASD_NETWORK_CUSTOM "custom" /* name of a custom network that has none of its own */
#define WASD_DRAW_PROFILE "profile:" /* "draw" of a run that trains for the profile named after it */

extern const struct wasd_field wasd_spec[];
extern const struct wasd_field wasd_spec_network[]; /* members of "model" that every network has */
extern const struct wasd_field wasd_spec_macs[], wasd_spec_latency[],
	wasd_spec_draw[];                           /* options of a profile's desires, of which "profiles" has them all */
extern const struct wasd_field wasd_spec_was[]; /* members of "was", which are also the options of a strategy */
/* The row of a member by its JSON pointer, with N for the items of a list and NAME for a label: "/train/epochs",
 * "/was/transforms/N/weight". NULL: unknown. */
const struct wasd_field *wasd_spec_at(const char *path);
/* The number at `path` of a spec (through objects only); the row's default if absent. */
double wasd_spec_number(const cJSON *spec, const char *path);
/* The whole table, depth first: [{"path","type",...}]; NULL: out of memory. */
cJSON *wasd_spec_to_json(void);

/* ---- related lists ----------------------------------------------------------------------------------------------- */

/* The options of a deployment that are objects. */
extern const struct wasd_field wasd_deployment_batching[], wasd_deployment_queue[], wasd_deployment_limits[];
/* The comparisons of a condition. Ends at NULL. */
extern const char *const wasd_comparisons[];

/* In the order of enum wasd_precision. Ends at NULL. */
extern const char *const wasd_precisions[];

enum wasd_metric_when { WASD_EACH_EPOCH, WASD_EACH_STEP, WASD_SAMPLED }; /* sampled: while the process runs */

/* A metric of a run. Strategies and the phases of a step add metrics of their own to those of an epoch. */
struct wasd_metric_kind {
	const char *name;     /* "val_acc_aom" */
	const char *quantity; /* "val_acc": the quantity, measured in every mode */
	const char *mode;     /* NULL: independent of the mode */
	bool goal;            /* can rank checkpoints and stop the run */
	bool less;            /* lower is better */
	enum wasd_metric_when when;
	const char *summary;
};
const char *wasd_mode_of(
	const char *metric); /* the mode that a metric's name ends in, as in "val_acc_aom"; NULL: none */
const struct wasd_metric_kind *wasd_metric_at(int i);              /* NULL after the last */
const struct wasd_metric_kind *wasd_metric_find(const char *name); /* NULL: unknown */
const struct wasd_metric_kind *wasd_metric_of(const char *quantity, const char *mode);
cJSON *wasd_metrics_to_json(
	void); /* [{"name","quantity","mode","better","goal","per","summary"}]; NULL: out of memory */

#endif
