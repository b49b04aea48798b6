/* train/warnings.c - what a run tells its user besides numbers: signs that it learns less than it could. Nothing here changes what is computed, so
 * nothing of it is kept in checkpoints; a resumed run counts anew. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

enum warning { CLASS_NEVER_PREDICTED, LOSS_STANDS_STILL, ALPHA_NEAR_ZERO, ALPHA_NEGATIVE, FEW_VALIDATION_IMAGES, CLASS_WITHOUT_TRAINING_IMAGES };
static const char *const codes[] = {"class_never_predicted", "loss_stands_still", "alpha_near_zero", "alpha_negative", "few_validation_images",
                                    "class_without_training_images"};

#define NEAR_ZERO 0.01
#define STANDS 0.01                     /* of ln(classes), the loss of a network that answers every class with the same probability */
enum { FEW_IN_ALL = 20, FEW_OF_A_CLASS = 2 };

/* Told to the job every time, to its log once. */
static void warn(struct wasd_trainer *t, enum warning w, int epoch, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void warn(struct wasd_trainer *t, enum warning w, int epoch, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	wasd_vline(text, sizeof text, fmt, ap);
	va_end(ap);
	if (t->hooks->warning)
		t->hooks->warning(t->hooks->ctx, codes[w], epoch, text);
	if (!(t->warned & 1u << w))
		trainer_say(t, "warn", "%s", text);
	t->warned |= 1u << w;
}

enum wasd_status warnings_create(struct wasd_trainer *t, struct wasd_err *err)
{
	size_t classes = (size_t)wasd_dataset_classes(t->data), test = wasd_dataset_count(t->data, WASD_TEST);
	const struct wasd_holdout *h = &t->holdout;
	uint32_t *block = wasd_calloc(5 * classes, sizeof *block);
	if (!block)
		return wasd_fail(err, WASD_ENOMEM, "trainer");
	t->answered = block;
	t->val_images = block + classes;
	t->train_images = block + 2 * classes;
	t->silent[0] = block + 3 * classes;
	t->silent[1] = block + 4 * classes;
	for (size_t i = 0; i < h->n_train; i++)
		t->train_images[wasd_dataset_label(t->data, WASD_TRAIN, h->train[i])]++;
	for (size_t i = 0; i < h->n_val; i++)
		t->val_images[wasd_dataset_label(t->data, WASD_TRAIN, h->val[i])]++;
	for (size_t i = 0; i < test && !h->n_val; i++)
		t->val_images[wasd_dataset_label(t->data, WASD_TEST, i)]++;
	return WASD_OK;
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
		warn(t, CLASS_WITHOUT_TRAINING_IMAGES, 0, "%d of %d classes have no training image (\"%.60s\" first): they cannot be learned", bare, classes,
		     wasd_dataset_class(t->data, first_bare));
	if (t->holdout.n_val && (few || t->holdout.n_val < FEW_IN_ALL))
		warn(t, FEW_VALIDATION_IMAGES, 0, "%zu images are held out for validation, %u of class \"%.60s\": accuracies are coarse, and the best checkpoint is chosen by "
		     "chance; a larger data.val_fraction holds out more, 0 chooses by the test images", t->holdout.n_val, (unsigned)t->val_images[first_few],
		     wasd_dataset_class(t->data, first_few));
}

/* A class that a whole network of some accuracy never answers with has usually lost its gradient for good. */
void warnings_evaluated(struct wasd_trainer *t, bool dom)
{
	int classes = wasd_dataset_classes(t->data), lost = 0, first = 0;
	for (int c = classes - 1; c >= 0; c--) {
		uint32_t *silent = &t->silent[dom][c];
		*silent = t->val_images[c] && !t->answered[c] ? *silent + 1 : 0;
		lost += *silent >= 2;
		first = *silent >= 2 ? c : first;
	}
	if (lost)
		warn(t, CLASS_NEVER_PREDICTED, t->epoch + 1, "%s has answered no validation image with %d of the %d classes (\"%.60s\" first, which %u images have) in two "
		     "evaluations in a row: a lower learning rate or more epochs may help", dom ? "DOM" : "AOM", lost, classes, wasd_dataset_class(t->data, first),
		     (unsigned)t->val_images[first]);
}

static void check_loss_moves(struct wasd_trainer *t, double loss)
{
	int classes = wasd_dataset_classes(t->data);
	double chance = log(classes);
	t->stands = t->epoch > 0 && fabs(loss - chance) <= STANDS * chance ? t->stands + 1 : 0;
	if (t->stands >= 2)
		warn(t, LOSS_STANDS_STILL, t->epoch + 1, "the training loss stands at %.4f, that of guessing among %d classes (ln %d = %.4f): the network does not learn; "
		     "try another learning rate", loss, classes, classes, chance);
}

/* alpha starts as U(0,1), and one that starts near 0 is not held by the BatchNorm behind it (web/docs/was.md#alpha): it may cross
 * zero. What is trained then has the other sign than the plain weights that AOM computes with, and AOM's accuracy falls below chance. */
static void check_alphas(struct wasd_trainer *t)
{
	for (int i = t->dom.n - 1; i >= 0; i--) {
		const struct wasd_draw_layer *l = &t->dom.layer[i];
		struct wasd_aug_info a = wasd_graph_aug_info(t->graph, l->aug);
		if (l->alpha_one || a.alpha_param < 0)
			continue;
		double alpha = (double)wasd_model_master(t->model)[wasd_graph_param_info(t->graph, a.alpha_param).offset + (size_t)a.alpha_index];
		if (alpha < 0)
			warn(t, ALPHA_NEGATIVE, t->epoch + 1, "alpha of %s has become negative (%.3g): DOM's kernels have the other sign than AOM's, whose accuracy may stay below "
			     "chance; \"was\": {\"alpha\": \"fixed\"} avoids that", a.layer, alpha);
		else if (alpha < NEAR_ZERO)
			warn(t, ALPHA_NEAR_ZERO, t->epoch + 1, "alpha of %s is near 0 (%.3g): the layer passes almost nothing on, and alpha may become negative; "
			     "\"was\": {\"alpha\": \"fixed\"} avoids that", a.layer, alpha);
	}
}

void warnings_epoch(struct wasd_trainer *t, double train_loss)
{
	check_loss_moves(t, train_loss);
	check_alphas(t);
}
