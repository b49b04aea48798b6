/* server/client/watch_view.h - what is known of a job that is watched, and how it is drawn. */
#ifndef SERVER_CLIENT_WATCH_VIEW_H
#define SERVER_CLIENT_WATCH_VIEW_H

#include <stdbool.h>
#include <stdint.h>

struct cJSON;

enum { VIEW_LOSSES = 512 };

/* Numbers that are not known are NaN; `epoch` and the like 0. */
struct view {
	char id[64], name[160], state[24], reason[40], message[300];
	char phase[80]; /* "evaluating, 3 of 12"; "" while it trains */
	int attempt;
	int64_t epoch, epochs, step, steps;
	double images_per_s, eta_s, loss, acc_aom, acc_dom;
	double losses[VIEW_LOSSES]; /* means of `stride` steps each */
	int n_losses, stride, partial;
	double partial_sum;
	int drawn; /* lines on the terminal */
};

void view_init(struct view *v, const char *id);
/* Takes what a job object, the "progress" of an event and the metrics of an epoch say. */
void view_job(struct view *v, const struct cJSON *job);
void view_progress(struct view *v, const struct cJSON *progress);
void view_metrics(struct view *v, const struct cJSON *metrics);
void view_loss(struct view *v, double loss);
void view_forget_losses(struct view *v);

/* Draws it on the terminal in place of the last drawing. */
void view_draw(struct view *v);
/* One line on an epoch. metrics: {"train_loss":..,"val_acc_aom":..}. */
void view_epoch_line(const struct view *v, int64_t epoch, const struct cJSON *metrics);
/* One line on the end. job: the object of the job that has ended. */
void view_end_line(const struct cJSON *job);
/* "12 s", "3 min 20 s", "2 h 05 min". */
const char *view_duration(double seconds, char out[32]);

#endif
