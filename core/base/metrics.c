/* base/metrics.c - the metrics that a run reports every epoch, along its steps and over time. */
#include "wasd/spec.h"

#include <string.h>

const char *wasd_mode_of(const char *metric)
{
	size_t n = strlen(metric);
	for (int i = 0; wasd_modes[i]; i++) {
		size_t m = strlen(wasd_modes[i]);
		if (n > m + 1 && metric[n - m - 1] == '_' && !strcmp(metric + n - m, wasd_modes[i]))
			return wasd_modes[i];
	}
	return NULL;
}

#define EACH_MODE(quantity, ...) \
	{quantity "_" WASD_MODE_AOM, quantity, WASD_MODE_AOM, __VA_ARGS__}, \
	{ \
		quantity "_" WASD_MODE_DOM, quantity, WASD_MODE_DOM, __VA_ARGS__ \
	}
#define ALONE(name, ...) \
	{ \
		name, name, NULL, __VA_ARGS__ \
	}

static const struct wasd_metric_kind table[] = {
	EACH_MODE("val_acc", .goal = true, .summary = "accuracy on the validation images"),
	EACH_MODE("val_loss", .goal = true, .less = true, .summary = "loss on the validation images"),
	ALONE("train_acc", .goal = true, .summary = "accuracy in training, over the epoch"),
	ALONE("train_loss", .goal = true, .less = true, .summary = "loss in training, over the epoch"),
	EACH_MODE("test_acc", .summary = "accuracy on the test images"),
	EACH_MODE("test_loss", .less = true, .summary = "loss on the test images"),
	ALONE("lr", .summary = "learning rate of the last step"),
	ALONE("images_per_s", .summary = "training images a second"),
	EACH_MODE("eval_images_per_s", .summary = "images a second while evaluating"),
	ALONE("epoch_s", .less = true, .summary = "seconds of the epoch"),
	ALONE("stall_s", .less = true, .summary = "seconds in which training waited for images"),
	ALONE("cpu_percent", .when = WASD_SAMPLED, .summary = "processor time of the training process; 100: one processor"),
	ALONE("rss_bytes", .less = true, .when = WASD_SAMPLED,
          .summary = "resident memory of the training process, also at the end of each epoch"),
	ALONE("disk_free_bytes", .when = WASD_SAMPLED, .summary = "free space of the data directory"),
	ALONE("train_loss_step", .less = true, .when = WASD_EACH_STEP,
          .summary = "loss in training, mean since the previous point"),
	ALONE("lr_step", .when = WASD_EACH_STEP, .summary = "learning rate of the step"),
	ALONE("images_per_s_step", .when = WASD_EACH_STEP, .summary = "training images a second since the previous point"),
};

const struct wasd_metric_kind *wasd_metric_at(int i)
{
	return i >= 0 && i < (int)(sizeof table / sizeof *table) ? &table[i] : NULL;
}

const struct wasd_metric_kind *wasd_metric_find(const char *name)
{
	const struct wasd_metric_kind *m;
	for (int i = 0; (m = wasd_metric_at(i)); i++)
		if (!strcmp(m->name, name))
			return m;
	return NULL;
}

const struct wasd_metric_kind *wasd_metric_of(const char *quantity, const char *mode)
{
	const struct wasd_metric_kind *m;
	for (int i = 0; (m = wasd_metric_at(i)); i++)
		if (!strcmp(m->quantity, quantity) && (mode ? m->mode && !strcmp(m->mode, mode) : !m->mode))
			return m;
	return NULL;
}

static bool describe(const struct wasd_metric_kind *m, cJSON *j)
{
	static const char *const per[] = {[WASD_EACH_EPOCH] = "epoch", [WASD_EACH_STEP] = "step", [WASD_SAMPLED] = "time"};
	return cJSON_AddStringToObject(j, "name", m->name) && cJSON_AddStringToObject(j, "quantity", m->quantity) &&
	       (!m->mode || cJSON_AddStringToObject(j, "mode", m->mode)) &&
	       cJSON_AddStringToObject(j, "better", m->less ? "min" : "max") && cJSON_AddBoolToObject(j, "goal", m->goal) &&
	       cJSON_AddStringToObject(j, "per", per[m->when]) && cJSON_AddStringToObject(j, "summary", m->summary);
}

cJSON *wasd_metrics_to_json(void)
{
	cJSON *list = cJSON_CreateArray();
	const struct wasd_metric_kind *m;
	for (int i = 0; list && (m = wasd_metric_at(i)); i++) {
		cJSON *j = cJSON_CreateObject();
		if (describe(m, j) && cJSON_AddItemToArray(list, j))
			continue;
		cJSON_Delete(j);
		cJSON_Delete(list);
		return NULL;
	}
	return list;
}
