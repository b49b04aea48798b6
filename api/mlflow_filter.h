/* api/mlflow_filter.h - MLflow's search expressions over runs, as far as they are comparisons joined by AND. */
#ifndef API_MLFLOW_FILTER_H
#define API_MLFLOW_FILTER_H

#include "wasd/json.h"

/* "metrics.val_acc_aom > 0.9 and params.model.arch = 'lenet' and attributes.status = 'FINISHED'". *out is NULL for an
 * empty text. WASD_EINVAL with the place of the fault. */
struct mlflow_filter;
enum wasd_status mlflow_filter_parse(const char *text, struct mlflow_filter **out, struct wasd_err *err);
void mlflow_filter_free(struct mlflow_filter *f);
/* Does the run (or experiment) fulfil all comparisons? What it does not have fulfils none. f NULL: yes. */
bool mlflow_filter_takes(const struct mlflow_filter *f, const cJSON *run);

/* ["metrics.val_acc_aom DESC", "attributes.start_time"]: the first key decides. Runs without it come last. */
struct mlflow_order;
enum wasd_status mlflow_order_parse(const cJSON *list, struct mlflow_order **out, struct wasd_err *err);
void mlflow_order_free(struct mlflow_order *o);
void mlflow_order_sort(const struct mlflow_order *o, cJSON **runs, size_t n);

#endif
