/* train/warnings.c - warns the user about signs that a run learns less than it could. Nothing here affects the
 * computation, so checkpoints store none of it; a resumed run starts counting again. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

enum warning {
	CLASS_NEVER_PREDICTED,
	LOSS_STANDS_STILL,
	FEW_VALIDATION_IMAGES,
	CLASS_WITHOUT_TRAINING_IMAGES,
	CLASSES_UNBALANCED,
	LONG_SEARCH
};
static const char *const codes[] = {"class_never_predicted",         "loss_stands_still",  "few_validation_images",
                                    "class_without_training_images", "classes_unbalanced", "long_search"};

#define STANDS 0.01 /* relative to ln(classes), the loss of a network that gives every class the same probability */
enum { FEW_IN_ALL = 20, FEW_OF_A_CLASS = 2, UNBALANCED = 10 };

/* The hook receives every warning, the log only the first of each code. */
static void tell(struct wasd_trainer *t, const char *code, int epoch, const char *text)
{
	int n = 0;
	if (t->hooks->warning)
		t->hooks->warning(t->hooks->ctx, code, epoch, text);
	while (n < WARNINGS_MAX && t->warned[n] && strcmp(t->warned[n], code))
		n++;
	if (n == WARNINGS_MAX || t->warned[n])
		return;
	trainer_say(t, "warn", "%s", text);
	t->warned[n] = code;
}

static void warn(struct wasd_trainer *t, enum warning w, int epoch, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static void warn(struct wasd_trainer *t, enum warning w, int epoch, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	tell(t, codes[w], epoch, text);
}

enum wasd_status warnings_create(struct wasd_trainer *t, struct wasd_err *err)
{
	size_t classes = (size_t)wasd_dataset_classes(t->data), test = wasd_dataset_count(t->data, WASD_TEST);
	const struct wasd_holdout *h = &t->holdout;
	uint32_t *block = wasd_calloc((3 + (size_t)t->n_modes) * classes, sizeof *block);
	if (!block)
		return wasd_fail(err, WASD_ENOMEM, "trainer");
	t->answered = block;
	t->val_images = block + classes;
	t->train_images = block + 2 * classes;
	for (int i = 0; i < t->n_modes; i++)
		t->mode[i].silent = block + (3 + (size_t)i) * classes;
	for (size_t i = 0; i < h->n_train; i++)
		t->train_images[wasd_dataset_label(t->data, WASD_TRAIN, h->train[i])]++;
	for (size_t i = 0; i < h->n_val; i++)
		t->val_images[wasd_dataset_label(t->data, WASD_TRAIN, h->val[i])]++;
	for (size_t i = 0; i < test && !h->n_val; i++)
		t->val_images[wasd_dataset_label(t->data, WASD_TEST, i)]++;
	return WASD_OK;
}

/* Classes that have training images, but less than a tenth of the largest one's. */
static void check_balance(struct wasd_trainer *t)
{
	int classes = wasd_dataset_classes(t->data), small = 0, least = -1, most = 0;
	const uint32_t *images = t->train_images;
	for (int c = 0; c < classes; c++)
		most = images[c] > images[most] ? c : most;
	for (int c = 0; c < classes; c++) {
		if (!images[c] || (uint64_t)images[c] * UNBALANCED >= images[most])
			continue;
		small++;
		least = least < 0 || images[c] < images[least] ? c : least;
	}
	if (small)
		warn(t, CLASSES_UNBALANCED, 0,
		     "%d of %d classes have less than a tenth of the training images of the largest (%u of \"%.60s\", %u of "
		     "\"%.60s\")%s",
		     small, classes, (unsigned)images[least], wasd_dataset_class(t->data, least), (unsigned)images[most],
		     wasd_dataset_class(t->data, most),
		     t->class_weights ? "" : ": \"class_weights\": \"balanced\" in train gives all classes the same weight");
}

void warnings_begin(struct wasd_trainer *t)
{
	int classes = wasd_dataset_classes(t->data), bare = 0, few = 0, first_bare = 0, first_few = 0;
	for (int c = classes - 1; c >= 0; c--) {
		bool is_few = t->val_images[c] < FEW_OF_A_CLASS;
		bare += !t->train_images[c];
		few += is_few;
		first_bare = t->train_images[c] ? first_bare : c;
		first_few = is_few ? c : first_few;
	}
	if (bare)
		warn(t, CLASS_WITHOUT_TRAINING_IMAGES, 0,
		     "%d of %d classes have no training image (\"%.60s\" first): they cannot be learned", bare, classes,
		     wasd_dataset_class(t->data, first_bare));
	if (t->holdout.n_val && (few || t->holdout.n_val < FEW_IN_ALL))
		warn(
			t, FEW_VALIDATION_IMAGES, 0,
			"%zu images are held out for validation, %u of class \"%.60s\": accuracies are coarse, and the best checkpoint is chosen by "
			"chance; a larger data.val_fraction holds out more, 0 chooses by the test images",
			t->holdout.n_val, (unsigned)t->val_images[first_few], wasd_dataset_class(t->data, first_few));
	check_balance(t);
	if (t->search) {
		char text[400];
		train_search_describe(t, text, sizeof text);
		warn(t, LONG_SEARCH, 0, "%s", text);
	}
}

/* A class that an otherwise accurate network never predicts has usually lost its gradient for good. */
void warnings_evaluated(struct wasd_trainer *t, const struct trainer_mode *m)
{
	int classes = wasd_dataset_classes(t->data), lost = 0, first = 0;
	for (int c = classes - 1; c >= 0; c--) {
		uint32_t *silent = &m->silent[c];
		*silent = t->val_images[c] && !t->answered[c] ? *silent + 1 : 0;
		lost += *silent >= 2;
		first = *silent >= 2 ? c : first;
	}
	if (lost)
		warn(
			t, CLASS_NEVER_PREDICTED, t->epoch + 1,
			"%s has answered no validation image with %d of the %d classes (\"%.60s\" first, which %u images have) in two "
			"evaluations in a row: a lower learning rate or more epochs may help",
			m->label, lost, classes, wasd_dataset_class(t->data, first), (unsigned)t->val_images[first]);
}

static void check_loss_moves(struct wasd_trainer *t, double loss)
{
	int classes = wasd_dataset_classes(t->data);
	double chance = log(classes);
	t->stands = t->epoch > 0 && fabs(loss - chance) <= STANDS * chance ? t->stands + 1 : 0;
	if (t->stands >= 2)
		warn(
			t, LOSS_STANDS_STILL, t->epoch + 1,
			"the training loss stands at %.4f, that of guessing among %d classes (ln %d = %.4f): the network does not learn; "
			"try another learning rate",
			loss, classes, classes, chance);
}

static void pass_on(struct wasd_trainer *t)
{
	const char *code;
	char text[400];
	for (int i = 0; chain_warning(t->weights, i, &code, text, sizeof text); i++)
		tell(t, code, t->epoch + 1, text);
}

void warnings_epoch(struct wasd_trainer *t, double train_loss)
{
	check_loss_moves(t, train_loss);
	pass_on(t);
}
