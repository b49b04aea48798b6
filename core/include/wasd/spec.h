/* wasd/spec.h - the vocabulary of the job spec: the type, default, range and meaning of every member, in one table.
 *
 * The daemon brings specs into their canonical form by it (api/fields.c), the trainer and the strategies read them by
 * it, and GET /v1/capabilities, the form on the page, `wasd spec` and the reference show it. A new member is a row in
 * base/spec.c and the code that uses it; one that can be written in several ways has a hook in api/forms.c as well.
 *
 * Networks, transforms, strategies, optimizers, schedules and augmentations describe their options by the same rows,
 * and so do the other request bodies of the API.
 */
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
	WASD_NAME,   /* what wasd_name_ok takes */
	WASD_CHOICE, /* one of the choices, a string */
	WASD_OBJECT, /* with the members sub */
	WASD_TYPED,  /* an object whose "type" is a row of table, with the options of that row and the members sub */
	WASD_LIST,   /* min to max items; sub: the members of each, where they are objects */
	WASD_ANY,
	WASD_REFUSED /* known from other systems and not offered; summary: what to do instead */
};

/* A member of an object. A table of them ends at a NULL name. */
struct wasd_field {
	const char *name;
	enum wasd_field_type type;
	const char *def;           /* what it is when left out, as JSON; NULL: nothing */
	double min, max;           /* of a number, the bytes of a string, the items of a list */
	bool above_min, below_max; /* that end is excluded */
	bool required;
	bool null_ok;
	bool implied;       /* the default is not written into the canonical form */
	const char *stored; /* what it is when a stored object lacks it, from before there was a choice; NULL: def */
	const char *const *choices;      /* strings, of a WASD_INT the numbers as text; ends at NULL */
	const char *(*choice_at)(int i); /* in place of choices, the names of another list; NULL after the last */
	const struct wasd_field *sub;
	const char *table;   /* of capabilities */
	const char *items;   /* what the items of a list are, for messages */
	const char *form;    /* it can be written in several ways: the hook of api/forms.c that knows them */
	const char *summary; /* one line for people; NULL in bodies that only api/ describes */
};

const struct wasd_field *wasd_field_find(const struct wasd_field *rows, const char *name); /* NULL; rows may be NULL */
const char *wasd_field_choice(const struct wasd_field *f, int i);                          /* NULL after the last */
/* Whether a WASD_INT or WASD_NUM may be v (finite, in the range, whole, among the choices). */
bool wasd_field_takes(const struct wasd_field *f, double v);
/* "a whole number from 1 to 64", "a number above 0 and below 1": what it takes, for messages. */
#define WASD_FIELD_RANGE 120
void wasd_field_range(const struct wasd_field *f, char out[WASD_FIELD_RANGE]);
/* `json`, a default of the row, as numbers: 1 for true; two of a WASD_PAIR. No number: 0. */
void wasd_field_numbers(const struct wasd_field *f, const char *json, double v[2]);
/* A string default without its quotes, cut to the room. "" when it is none. */
void wasd_field_word(const struct wasd_field *f, char *out, size_t size);
/* {"name","type",...} as wasd/model.h describes an OPTION; NULL: no memory. */
cJSON *wasd_field_to_json(const struct wasd_field *f);

/* ---- the job spec ------------------------------------------------------------------------------------------------ */

#define WASD_LAYERS_MAX 1000 /* of a network of the job's own, and of what names a transform for each */
#define WASD_WEIGHTS_MAX 8   /* strategies of a run */
#define WASD_TRANSFORMS_MAX 16
#define WASD_GROUPS_MAX 64
#define WASD_PATTERN_MAX 64          /* bytes of a name or pattern of layers */
#define WASD_LABEL_MAX 63            /* bytes of a label's name */
#define WASD_NETWORK_CUSTOM "custom" /* what a network of the job's own is called that has no name */
#define WASD_DRAW_PROFILE "profile:" /* "draw" of a run that trains for a profile: this and its name */

extern const struct wasd_field wasd_spec[];
extern const struct wasd_field wasd_spec_was[]; /* members of "was", which are the options of a strategy as well */
/* The row of a member by its JSON pointer, with N for the items of a list and NAME for a label:
 * "/train/epochs", "/was/transforms/N/weight". NULL: there is none. */
const struct wasd_field *wasd_spec_at(const char *path);
/* The number at `path` of a spec (members of objects only); the row's default where it is left out. */
double wasd_spec_number(const cJSON *spec, const char *path);
/* The whole table, depth first: [{"path","type",...}]; NULL: no memory. */
cJSON *wasd_spec_to_json(void);

/* ---- lists beside it --------------------------------------------------------------------------------------------- */

/* In the order of enum wasd_precision. Ends at NULL. */
extern const char *const wasd_precisions[];

/* A number of every epoch. Strategies have others of their own, and so has each phase of a step. */
struct wasd_metric_kind {
	const char *name;     /* "val_acc_aom" */
	const char *quantity; /* "val_acc": what is measured in every mode */
	const char *mode;     /* NULL: of none */
	bool goal;            /* may choose the best checkpoint and end the run */
	bool less;            /* the smaller the better */
	const char *summary;
};
const char *wasd_mode_of(const char *metric);         /* "val_acc_aom" ends in a mode's name; NULL: of none */
const struct wasd_metric_kind *wasd_metric_at(int i); /* NULL after the last */
const struct wasd_metric_kind *wasd_metric_find(const char *name); /* NULL */
const struct wasd_metric_kind *wasd_metric_of(const char *quantity, const char *mode);
cJSON *wasd_metrics_to_json(void); /* [{"name","quantity","mode","better","goal","summary"}]; NULL: no memory */

/* How training images are varied; a job's own choice, no table of core. Ends at a NULL name. */
struct wasd_augmentation {
	const char *name, *summary;
	const struct wasd_field *options;
};
extern const struct wasd_augmentation wasd_augmentations[];

#endif
