/* base/spec.c - every member of the job spec, in the order of the canonical form. */
#include "wasd/spec.h"

#define TEXT_OF(number) #number
#define TEXT(macro) TEXT_OF(macro)

/* ---- goals ------------------------------------------------------------------------------------------------------- */

static const char *goal_at(int i)
{
	const struct wasd_metric_kind *m;
	for (int k = 0; (m = wasd_metric_at(k)); k++)
		if (m->goal && !i--)
			return m->name;
	return NULL;
}

static const char *mode_at(int i)
{
	return wasd_modes[i];
}

static const char *const directions[] = {"max", "min", NULL};

/* Members of "keep" and "early_stop": the metric and its direction. */
#define GOAL \
	{"metric", WASD_CHOICE, "\"val_acc_aom\"", .choice_at = goal_at, .summary = "the metric that decides"}, \
	{ \
		"mode", WASD_CHOICE, .choices = directions, \
							 .summary = "which direction is better; default: min for a loss, else max" \
	}

/* ---- was --------------------------------------------------------------------------------------------------------- */

static const struct wasd_field transform[] = {
	{"weight", WASD_NUM, "1", 0, 1e6, .above_min = true, .summary = "relative frequency of this transform"},
	{0},
};

static const struct wasd_field ramp[] = {
	{"from", WASD_NUM, "0", 0, 1, .summary = "value in the first epoch"},
	{"to", WASD_NUM, "1", 0, 1, .summary = "value after `epochs` epochs"},
	{"epochs", WASD_INT, NULL, 1, 1000000, .required = true,
     .summary = "number of epochs, with equal steps between them"},
	{0},
};

static const struct wasd_field odds[] = {
	{"plain", WASD_NUM, "0", 0, 1e6, .summary = "relative frequency of plain weights"},
	{"profile", WASD_NUM, "0", 0, 1e6, .summary = "relative frequency of the profile's draw"},
	{"fresh", WASD_NUM, "0", 0, 1e6, .summary = "relative frequency of fresh transforms"},
	{0},
};

static const char *const alphas[] = {"learned", "fixed", NULL};
static const char *const draws[] = {"step", "epoch", NULL};

const struct wasd_field wasd_spec_was[] = {
	{"transforms", WASD_LIST, "null", 1, WASD_TRANSFORMS_MAX, .table = "transforms", .sub = transform,
     .form = "transforms",
     .summary = "transforms to draw from; default: those of the network, else translate and resized_crop"},
	{"layers", WASD_LIST, "\"paper\"", 1, 512, .form = "layers",
     .summary =
         "\"paper\": the layers of the published network; \"all\": every convolution with k > 1; or names and patterns"},
	{"alpha", WASD_CHOICE, "\"learned\"", .choices = alphas, .summary = "scale of each layer: trained, or fixed at 1"},
	{"draw", WASD_CHOICE, "\"step\"", .choices = draws, .form = "draw",
     .summary = "how often to draw transforms; \"" WASD_DRAW_PROFILE "NAME\" trains for that profile"},
	{"probability", WASD_NUM, "1", 0, 1, .sub = ramp, .form = "probability",
     .summary = "probability that a draw transforms a layer; or a ramp over epochs"},
	{"groups", WASD_INT, "1", 1, WASD_GROUPS_MAX,
     .summary = "groups of each layer's output channels, each with its own transform"},
	{"profile", WASD_LIST, NULL, 0, WASD_LAYERS_MAX, .items = "transforms",
     .summary = "with \"" WASD_DRAW_PROFILE "NAME\" only: the profile's draw; default: that of init_from's profile"},
	{"odds", WASD_OBJECT, "{\"plain\":0.5,\"profile\":0.5}", .implied = true, .sub = odds, .form = "odds",
     .summary = "with \"" WASD_DRAW_PROFILE "NAME\" only: relative frequency of each kind of weights in the steps"},
	{0},
};

/* ---- train ------------------------------------------------------------------------------------------------------- */

static const struct wasd_field schedule[] = {
	{"warmup_epochs", WASD_NUM, "0", 0, 1e5, .summary = "epochs over which the rate rises linearly at first"},
	{0},
};

static const struct wasd_field early_stop[] = {
	{"patience", WASD_INT, "5", 1, 1000000,
     .summary = "number of evaluations without a new best after which the run ends"},
	GOAL,
	{0},
};

const char *const wasd_precisions[] = {"fp32", "fp32-strict", "bf16", NULL};

static const char *const decays[] = {"all", "weights", NULL};

static const struct wasd_field optimizer[] = {
	{"decay", WASD_CHOICE, "\"all\"", .implied = true, .choices = decays,
     .summary = "what weight_decay acts on: all parameters, or kernels and matrices only"},
	{0},
};

static const struct wasd_field train[] = {
	{"epochs", WASD_INT, "10", 1, 100000, .summary = "passes over the training images"},
	{"batch", WASD_INT, "128", 1, 65536, .summary = "images per step; the short last batch of an epoch is kept"},
	{"seed", WASD_INT, "123", 0, (double)WASD_JSON_INT_MAX,
     .summary = "seed of weights, order, draws and hold-out: the same spec gives the same losses"},
	{"precision", WASD_CHOICE, "\"fp32\"", .choices = wasd_precisions, .form = "precision",
     .summary = "precision of the computation, if the processor supports it"},
	{"optimizer", WASD_TYPED, "{\"type\":\"sgd\"}", .table = "optimizers", .sub = optimizer,
     .summary = "how a step updates the weights"},
	{"schedule", WASD_TYPED, "{\"type\":\"constant\"}", .table = "schedules", .sub = schedule,
     .summary = "how the learning rate changes over the run"},
	{"augment", WASD_LIST, "[]", .table = "augment", .form = "augment",
     .summary = "image augmentation: names, or objects with options; each at most once"},
	{"label_smoothing", WASD_NUM, "0", 0, 1, .below_max = true,
     .summary = "share of the label distributed over all classes"},
	{"class_weights", WASD_LIST, NULL, 1, WASD_CLASSES_MAX, .null_ok = true, .items = "numbers",
     .form = "class weights",
     .summary = "weight of each class in the loss: \"balanced\": by the training images; or a number for each class"},
	{"early_stop", WASD_OBJECT, "null", .null_ok = true, .sub = early_stop, .form = "goal",
     .summary = "stops a run that no longer improves"},
	{0},
};

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

static const struct wasd_field label[] = {
	{"NAME", WASD_STR, NULL, 0, 255, .summary = "its own name has 1 to " TEXT(WASD_LABEL_MAX) " bytes"},
	{0},
};

static const struct wasd_field dataset[] = {
	{"name", WASD_NAME, .required = true, .summary = "name of the data set"},
	{"version", WASD_INT, NULL, 1, 1e9, .summary = "version; default: the one that is latest now"},
	{0},
};

static const char *const normalizations[] = {"half", "set", NULL};

static const struct wasd_field normalize[] = {
	{"mean", WASD_LIST, NULL, 1, 3, .required = true, .items = "numbers",
     .summary = "mean of v/255, one for all channels or one for each"},
	{"std", WASD_LIST, NULL, 1, 3, .required = true, .items = "numbers", .summary = "the same for the deviation"},
	{0},
};

static const struct wasd_field split[] = {
	{"seed", WASD_INT, NULL, 0, (double)WASD_JSON_INT_MAX, .null_ok = true,
     .summary = "seed of limit and hold-out; default: train.seed"},
	{"stratified", WASD_BOOL, "true", .implied = true, .summary = "the same share of every class"},
	{0},
};

static const struct wasd_field data[] = {
	{"classes", WASD_LIST, NULL, 2, WASD_CLASSES_MAX, .null_ok = true, .items = "classes", .form = "classes",
     .summary = "the classes to use, by name or index; they are numbered in this order; default: all"},
	{"val_fraction", WASD_NUM, "0.1", 0, 0.5, .null_ok = true,
     .summary = "share of the training images to hold out; null: the data set's own validation images"},
	{"limit", WASD_NUM, NULL, 0, INT32_MAX, .above_min = true, .null_ok = true, .form = "limit",
     .summary = "number of training images to use, or below 1 their share; default: all"},
	{"split", WASD_OBJECT, "{}", .implied = true, .sub = split, .summary = "how limit and hold-out choose images"},
	{"normalize", WASD_CHOICE, "\"half\"", .implied = true, .choices = normalizations, .sub = normalize,
     .form = "normalize",
     .summary = "a pixel v becomes: half: (v/255 - 0.5)/0.5; set: by the data set's moments; or an object with both"},
	{0},
};

static const char *const initials[] = {"uniform", "he", NULL};

#define INIT \
	{ \
		"init", WASD_CHOICE, "\"uniform\"", \
			.implied = true, .choices = initials, \
			.summary = "initial weights: uniform in 1/sqrt(fan_in); he: normal, variance 2/fan_in" \
	}

const struct wasd_field wasd_spec_network[] = {
	INIT,
	{0},
};

static const struct wasd_field model[] = {
	{"arch", WASD_STR, NULL, 1, 63, .table = "archs", .form = "arch",
     .summary = "a network by name, with its options as further members"},
	{"name", WASD_NAME, "\"" WASD_NETWORK_CUSTOM "\"", .summary = "name of a custom network"},
	{"layers", WASD_LIST, NULL, 1, WASD_LAYERS_MAX, .items = "layers", .table = "layers",
     .summary = "a custom network, instead of arch"},
	INIT,
	{0},
};

static const char *const tests[] = {"every", "best", "last", NULL};
static const char *const statistics[] = {"own", "batch", NULL};

static const struct wasd_field eval[] = {
	{"every", WASD_INT, "1", 1, 100000, .summary = "epochs between two evaluations"},
	{"modes", WASD_LIST, "[\"" WASD_MODE_AOM "\",\"" WASD_MODE_DOM "\"]", .choice_at = mode_at, .form = "modes",
     .summary = "modes to evaluate"},
	{"test", WASD_CHOICE, "\"best\"", .choices = tests,
     .summary =
         "when to evaluate the test images: at every evaluation, at each new best and at the end, or only at the end"},
	{"statistics", WASD_CHOICE, "\"own\"", .choices = statistics,
     .summary = "statistics of each mode, as served, or of the batch being evaluated"},
	{0},
};

static const struct wasd_field keep[] = {
	{"best", WASD_INT, "1", 0, 1000, .summary = "number of best checkpoints to keep"},
	{"latest", WASD_INT, "1", 1, 1000, .summary = "number of latest checkpoints to keep"},
	GOAL,
	{0},
};

static const struct wasd_field checkpoint[] = {
	{"every", WASD_INT, "1", 1, 100000, .summary = "epochs between two checkpoints"},
	{"keep", WASD_OBJECT, "{}", .sub = keep, .form = "goal",
     .summary = "which checkpoints to keep, besides those pinned or in use"},
	{0},
};

static const struct wasd_field adjust[] = {
	{"iterations", WASD_INT, "1", 1, 100, .summary = "networks that are trained and adjusted, one after the other"},
	{"iteration", WASD_INT, "1", 1, 100, .implied = true, .summary = "which of them this job trains"},
	{"times", WASD_INT, "5", 1, 1000, .summary = "passes over the validation images for each width"},
	{"rate", WASD_NUM, "0.05", 0, 0.9, .above_min = true, .summary = "mean rate of the channel dropout that measures"},
	{"update", WASD_NUM, "6", 0, 1000, .summary = "widths that grow, and that shrink"},
	{"update_decay", WASD_NUM, "0.5", 0, 1000, .summary = "how many fewer in each further iteration"},
	{"step", WASD_NUM, "0.15", 0, 1, .summary = "change of a width, as a share of the first network's"},
	{"step_decay", WASD_NUM, "0.01", 0, 1, .summary = "how much smaller it is with each rank"},
	{"first", WASD_LIST, "null", 1, WASD_LAYERS_MAX, .null_ok = true, .implied = true, .items = "numbers",
     .summary = "widths of the first network; default: this one is the first"},
	{"macs", WASD_NUM, "0", 0, 1e15, .implied = true,
     .summary = "multiply-adds of the first network; 0: this one is the first"},
	{0},
};

static const char *const desires[] = {"macs", "latency", "draw", NULL};

#define BUDGET \
	"budget", WASD_NUM, NULL, 0, 1, .above_min = true, \
									.summary = "with macs: multiply-adds, as a share of the plain network's"
#define BUDGET_US "budget_us", WASD_INT, NULL, 1, 1e9, .summary = "with latency: microseconds for one image"
#define DRAW \
	"draw", WASD_LIST, NULL, 1, WASD_LAYERS_MAX, .items = "transforms, one for each augmented layer", \
												 .summary = "with draw: a transform for each augmented layer"
#define EVALUATIONS \
	{ \
		"evaluations", WASD_INT, "256", 1, 5000, .implied = true, \
												 .summary = "maximum number of draws that a search evaluates" \
	}

const struct wasd_field wasd_spec_macs[] = {{BUDGET, .required = true}, EVALUATIONS, {0}};
const struct wasd_field wasd_spec_latency[] = {{BUDGET_US, .required = true}, EVALUATIONS, {0}};
const struct wasd_field wasd_spec_draw[] = {{DRAW, .required = true}, {0}};

static const struct wasd_field profile[] = {
	{"name", WASD_NAME, .form = "profile name", .summary = "default: from the budget, such as macs-70"},
	{"desire", WASD_CHOICE, .choices = desires, .summary = "what the profile should save; draw: the draw is given"},
	{BUDGET},
	{BUDGET_US},
	{DRAW},
	EVALUATIONS,
	{"dataset", WASD_REFUSED, .summary = "the profiles of a job are evaluated on its own data set"},
	{0},
};

/* The options are those of the desire's table, which capabilities list. */
static const struct wasd_field made_mode[] = {
	{"desire", WASD_STR, NULL, 1, 63, .required = true,
     .summary = "what the mode is to be, beside the options of this desire: mode_kinds of GET /v1/capabilities"},
	{"name", WASD_NAME, .form = "profile name", .summary = "default: from its options"},
	{"base", WASD_STR, NULL, 1, 70,
     .summary = "the mode that it is made of: of the run, of profiles, or of an earlier item; default: aom"},
	{"dataset", WASD_REFUSED, .summary = "the modes of a job are made on its own data set"},
	{0},
};

static const struct wasd_field init_from[] = {
	{"checkpoint", WASD_STR, NULL, 1, 63, .summary = "the id of a checkpoint; the id alone means the same"},
	{"blob", WASD_STR, NULL, 64, 64, .form = "blob", .summary = "the SHA-256 of an uploaded file"},
	{0},
};

static const struct wasd_field limits[] = {
	{"threads", WASD_INT, "0", 0, 1024, .summary = "compute threads; 0: the worker's share"},
	{"memory_mb", WASD_INT, "0", 0, 1 << 24, .summary = "memory of the training process; 0: no limit"},
	{"nice", WASD_INT, "10", 0, 19, .summary = "niceness of the process"},
	{"max_wall_s", WASD_INT, "0", 0, 1e9,
     .summary = "time that its attempts may run, in seconds, all together; 0: no limit"},
	{0},
};

static const struct wasd_field retry[] = {
	{"max", WASD_INT, "2", 0, 100, .summary = "number of retries after failed attempts"},
	{"backoff_s", WASD_NUM, "5", 0, 86400, .summary = "seconds before the next attempt, growing with each attempt"},
	{0},
};

/* ---- what follows the completion --------------------------------------------------------------------------------- */

static const char *metric_name_at(int i)
{
	const struct wasd_metric_kind *m = wasd_metric_at(i);
	return m ? m->name : NULL;
}

const char *const wasd_comparisons[] = {">=", ">", "<=", "<", NULL};

static const struct wasd_field condition[] = {
	{"metric", WASD_CHOICE, .required = true, .choice_at = metric_name_at, .summary = "a metric of the checkpoint"},
	{"op", WASD_CHOICE, "\">=\"", .choices = wasd_comparisons, .summary = "how it must compare with the value"},
	{"value", WASD_NUM, NULL, -1e9, 1e9, .required = true, .summary = "the value"},
	{0},
};

static const struct wasd_field registration[] = {
	{"model", WASD_NAME, .required = true, .summary = "name of the model; a new one is made"},
	{"alias", WASD_NAME, .summary = "an alias to set to the new version"},
	{"note", WASD_STR, NULL, 0, 2000, .summary = "note of the version"},
	{0},
};

const struct wasd_field wasd_deployment_batching[] = {
	{"max_batch", WASD_INT, "32", 1, 64, .summary = "images of a batch"},
	{"max_queue_delay_us", WASD_INT, "0", 0, 1000000, .summary = "microseconds that a request waits for others"},
	{0},
};
const struct wasd_field wasd_deployment_queue[] = {
	{"max", WASD_INT, "0", 0, 1000000, .summary = "requests that may wait; 0: only the daemon's limit"},
	{"default_timeout_us", WASD_INT, "0", 0, 3600e6, .summary = "deadline of a request that names none; 0: none"},
	{0},
};
const struct wasd_field wasd_deployment_limits[] = {
	{"threads", WASD_INT, "0", 0, 64, .summary = "compute threads; 0: those of the process"},
	{0},
};

static const struct wasd_field deployment[] = {
	{"name", WASD_NAME, .required = true, .summary = "name of the deployment; one that exists gets the new checkpoint"},
	{"mode", WASD_STR, NULL, 1, 70, .form = "mode", .summary = "its mode; default: aom, or the mode that it has"},
	{"required", WASD_BOOL, .summary = "is the daemon ready only when it is?"},
	{"batching", WASD_OBJECT, .null_ok = true, .sub = wasd_deployment_batching, .summary = "batches of requests"},
	{"queue", WASD_OBJECT, .null_ok = true, .sub = wasd_deployment_queue, .summary = "its own queue"},
	{"limits", WASD_OBJECT, .null_ok = true, .sub = wasd_deployment_limits, .summary = "its limits"},
	{0},
};

static const char *const picks[] = {"best", "latest", NULL};

static const struct wasd_field on_complete[] = {
	{"if", WASD_LIST, "[]", 0, 8, .sub = condition, .items = "conditions", .form = "conditions",
     .summary = "conditions that must all hold, as objects or as a text such as \"val_acc_aom >= 0.9\""},
	{"checkpoint", WASD_CHOICE, "\"best\"", .choices = picks, .summary = "the checkpoint that is meant"},
	{"register", WASD_OBJECT, "null", .null_ok = true, .sub = registration,
     .summary = "makes it a version of a model in the registry"},
	{"deploy", WASD_OBJECT, "null", .null_ok = true, .sub = deployment, .summary = "serves it"},
	{0},
};

const struct wasd_field wasd_spec[] = {
	{"name", WASD_STR, "null", 1, 199, .form = "job name", .summary = "default: from the network and the data set"},
	{"labels", WASD_OBJECT, "{}", 0, 32, .sub = label, .form = "labels", .summary = "your own key-value pairs"},
	{"note", WASD_STR, "\"\"", 0, 4096, .summary = "your own text"},
	{"dataset", WASD_NAME, .required = true, .sub = dataset, .form = "dataset",
     .summary = "the data set: a name, or an object with name and version"},
	{"data", WASD_OBJECT, "{}", .sub = data, .summary = "which images to use"},
	{"model", WASD_OBJECT, .required = true, .sub = model, .form = "model", .summary = "the network"},
	{"was", WASD_OBJECT, "null", .sub = wasd_spec_was, .form = "was",
     .summary = "weight augmentation; null: the setting of the network's authors; false: plain weights"},
	{"weights", WASD_LIST, NULL, 0, WASD_WEIGHTS_MAX, .table = "strategies", .form = "weights",
     .summary = "instead of was: strategies that form the weights, applied in order"},
	{"train", WASD_OBJECT, "{}", .sub = train, .summary = "how to train"},
	{"eval", WASD_OBJECT, "{}", .sub = eval, .summary = "what to evaluate, and when"},
	{"checkpoint", WASD_OBJECT, "{}", .sub = checkpoint, .summary = "which checkpoints to save and keep"},
	{"profiles", WASD_LIST, "[]", 0, 8, .sub = profile, .form = "profiles",
     .summary = "profiles to search for the best checkpoint"},
	{"modes", WASD_LIST, "[]", 0, 8, .implied = true, .sub = made_mode, .form = "made modes",
     .summary = "modes to make of the best checkpoint; with profiles, 8 in all"},
	{"adjust", WASD_OBJECT, "null", .null_ok = true, .implied = true, .sub = adjust,
     .summary = "measures at the end what the multiply-adds of each width are worth, and adjusts the widths"},
	{"init_from", WASD_STR, "null", 1, 63, .null_ok = true, .sub = init_from, .form = "init_from",
     .summary = "initial weights: a checkpoint's id, or an object with checkpoint or blob"},
	{"limits", WASD_OBJECT, "{}", .sub = limits, .summary = "resource limits of the job"},
	{"priority", WASD_INT, "50", 0, 100,
     .summary = "of the jobs with the highest priority, the one that has waited longest runs next"},
	{"queue", WASD_NAME, "\"default\"", .summary = "the queue it waits in"},
	{"preemptible", WASD_BOOL, "true",
     .summary = "a job of higher priority may take its worker; it goes on from a checkpoint"},
	{"retry", WASD_OBJECT, "{}", .sub = retry, .summary = "what happens after a failure"},
	{"deadline", WASD_NUM, NULL, 0, 1e9, .above_min = true, .null_ok = true, .form = "deadline",
     .summary = "seconds from the submission, or a time (RFC 3339), by which it must have completed; else it fails"},
	{"on_complete", WASD_OBJECT, "null", .null_ok = true, .sub = on_complete, .form = "on_complete",
     .summary = "what follows when the job has completed: a version in the registry, a deployment"},
	{"sweep", WASD_REFUSED, .summary = "a sweep is a request of its own: POST /v1/sweeps"},
	{"resources", WASD_REFUSED, .summary = "a job runs on this machine; use limits.threads"},
	{"after", WASD_LIST, NULL, 1, WASD_AFTER_MAX, .items = "ids of jobs", .form = "after",
     .summary = "jobs that must complete before this one starts"},
	{0},
};
