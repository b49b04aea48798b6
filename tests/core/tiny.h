/* tiny.h - small glyph datasets and quick runs for the tests of train, checkpoint, infer and engine. */
#ifndef TESTS_TINY_H
#define TESTS_TINY_H

#include "check.h"
#include "wasd/data.h"
#include "wasd/graph.h"
#include "wasd/infer.h"
#include "wasd/train.h"

#include <unistd.h>

static char tiny_dir[64];

__attribute__((unused)) static void tiny_begin(void)
{
	check_temp(tiny_dir, sizeof tiny_dir, "wasd-train");
	if (!mkdtemp(tiny_dir))
		abort();
}

__attribute__((unused)) static void tiny_end(void)
{
	wasd_remove_tree(tiny_dir, NULL);
}

/* Glyphs at 32x32, or at 16x16 (means of 2x2 pixels). path has room for 96 bytes. */
__attribute__((unused)) static struct wasd_dataset *tiny_glyphs(const char *name, size_t n_train, size_t n_test,
                                                                int side, char *path)
{
	char full[96];
	struct wasd_ingest_info info;
	struct wasd_err err = {0};
	struct wasd_dataset *big = NULL, *out = NULL;
	snprintf(full, sizeof full, "%s/%s-32.wds", tiny_dir, name);
	CHECK_MSG(!wasd_synthetic("glyphs", n_train, n_test, 7, full, NULL, &info, &err), "%s", err.msg);
	CHECK_MSG(!wasd_dataset_open(full, &big, &err), "%s", err.msg);
	if (side == 32) {
		strcpy(path, full);
		return big;
	}
	const char *names[10];
	for (int i = 0; i < 10; i++)
		names[i] = wasd_dataset_class(big, i);
	struct wasd_dataset_writer *w = NULL;
	snprintf(path, 96, "%s/%s-16.wds", tiny_dir, name);
	CHECK(!wasd_dataset_writer_create(path, (struct wasd_shape){3, 16, 16}, names, 10, "test", &w, &err));
	for (int split = WASD_TRAIN; split <= WASD_TEST; split++)
		for (size_t i = 0; i < wasd_dataset_count(big, split); i++) {
			const uint8_t *p = wasd_dataset_image(big, split, i);
			uint8_t q[3 * 16 * 16];
			for (int c = 0; c < 3; c++)
				for (int y = 0; y < 16; y++)
					for (int x = 0; x < 16; x++) {
						const uint8_t *s = p + c * 1024 + y * 64 + x * 2;
						q[c * 256 + y * 16 + x] = (uint8_t)((s[0] + s[1] + s[32] + s[33] + 2) / 4);
					}
			CHECK(!wasd_dataset_writer_add(w, split, q, wasd_dataset_label(big, split, i), &err));
		}
	CHECK(!wasd_dataset_writer_finish(w, &err));
	wasd_dataset_writer_abort(w);
	wasd_dataset_close(big);
	CHECK_MSG(!wasd_dataset_open(path, &out, &err), "%s", err.msg);
	return out;
}

/* Of the list of a checkpoint, by name. */
#define TINY_MODE(bytes, n, mode) (&(struct wasd_mode_source){.file = (bytes), .len = (n), .name = (mode)})

static const char *const tiny_modes[] = {"aom", "dom"};

/* ---- runs ------------------------------------------------------------------------------------------ */

#define TINY_EPOCHS 16
struct tiny_run {
	const char *backend; /* NULL: the default */
	int stop_at, polls;  /* stop at this call of should_stop; 0: never */
	int until;           /* as in struct wasd_train_opts */
	enum wasd_train_end end;
	enum wasd_status status;
	struct wasd_err err;
	int epoch;
	double value[TINY_EPOCHS][12]; /* by epoch (from 1): tiny_names; NaN where absent */
	int checkpoints;
	double (*points)[3];
	int n_points; /* of the curves by step, while there is room: step, mean loss and learning rate */
	char reason[16];
	char *file;
	size_t len;                /* the last checkpoint; wasd_free */
	char sha[WASD_SHA256_HEX]; /* over weights and the three statistics sets */
};
static const char *const tiny_names[] = {"train_loss",   "train_acc",       "val_loss_aom",
                                         "val_acc_aom",  "val_loss_dom",    "val_acc_dom",
                                         "lr",           "was_probability", "test_loss_aom",
                                         "test_acc_aom", "test_loss_dom",   "test_acc_dom"};
#define TINY_NAMES 12

static bool tiny_stop(void *ctx)
{
	struct tiny_run *r = ctx;
	return ++r->polls == r->stop_at;
}

static enum wasd_status tiny_metrics(void *ctx, const struct wasd_train_metrics *m, struct wasd_err *err)
{
	struct tiny_run *r = ctx;
	(void)err;
	CHECK(m->epoch >= 1 && m->epoch < TINY_EPOCHS);
	for (int k = 0; k < TINY_NAMES; k++)
		r->value[m->epoch][k] = NAN;
	for (int i = 0; i < m->n; i++)
		for (int k = 0; k < TINY_NAMES; k++)
			if (!strcmp(m->v[i].name, tiny_names[k]))
				r->value[m->epoch][k] = m->v[i].value;
	return WASD_OK;
}

static enum wasd_status tiny_checkpoint(void *ctx, const struct wasd_train_checkpoint *c, struct wasd_err *err)
{
	struct tiny_run *r = ctx;
	(void)err;
	wasd_free(r->file);
	r->file = wasd_malloc(c->len);
	memcpy(r->file, c->bytes, c->len);
	r->len = c->len;
	r->checkpoints++;
	snprintf(r->reason, sizeof r->reason, "%s", c->reason);
	return WASD_OK;
}

static void tiny_loss(void *ctx, const struct wasd_train_point *p)
{
	struct tiny_run *r = ctx;
	CHECK(p->epoch >= 1 && p->epoch < TINY_EPOCHS && p->images_per_s > 0);
	if (!r->points)
		return;
	double *at = r->points[r->n_points++];
	at[0] = (double)p->step;
	at[1] = p->loss;
	at[2] = p->lr;
}

static void tiny_digest(struct wasd_trainer *t, char sha[WASD_SHA256_HEX])
{
	struct wasd_model *m = wasd_trainer_model(t);
	const struct wasd_graph *g = wasd_model_graph(m);
	struct wasd_sha256 *h = wasd_sha256_create();
	wasd_sha256_update(h, wasd_model_master(m), wasd_graph_param_count(g) * sizeof(real));
	for (int s = 0; s < WASD_STATS_SETS; s++)
		wasd_sha256_update(h, wasd_model_stats(m, s), wasd_graph_stats_count(g) * sizeof(real));
	wasd_sha256_hex(h, sha);
	wasd_sha256_destroy(h);
}

/* Runs (or resumes from r->file, if set) until the end or r->stop_at. */
__attribute__((unused)) static void tiny_go(struct tiny_run *r, const char *spec, const struct wasd_dataset *data)
{
	cJSON *j = cJSON_Parse(spec);
	CHECK_MSG(j, "spec: %s", spec);
	struct wasd_trainer *t = NULL;
	struct wasd_train_opts o =
		{.spec = j, .data = data, .resume = r->file, .resume_len = r->len, .until = r->until, .backend = r->backend};
	struct wasd_train_hooks h = {.ctx = r,
	                             .should_stop = tiny_stop,
	                             .metrics = tiny_metrics,
	                             .checkpoint = tiny_checkpoint,
	                             .loss = tiny_loss};
	r->polls = 0;
	r->err = (struct wasd_err){0};
	r->status = wasd_trainer_create(&o, &t, &r->err);
	if (!r->status) {
		r->status = wasd_trainer_run(t, &h, &r->end, &r->epoch, &r->err);
		tiny_digest(t, r->sha);
	}
	wasd_trainer_destroy(t);
	cJSON_Delete(j);
}

__attribute__((unused)) static void tiny_done(struct tiny_run *r)
{
	wasd_free(r->file);
	*r = (struct tiny_run){0};
}

/* Every allocation of a run's creation fails once. */
__attribute__((unused)) static void tiny_without_memory(const struct wasd_train_opts *o)
{
	struct wasd_trainer *t = NULL;
	uint64_t n = 0;
	while (!t && ++n < 5000) {
		struct wasd_err err = {0};
		wasd_mem_fail_at(n);
		enum wasd_status s = wasd_trainer_create(o, &t, &err);
		wasd_mem_fail_at(0);
		CHECK_MSG(!s || s == WASD_ENOMEM, "allocation %llu: %s: %s", (unsigned long long)n, wasd_status_name(s),
		          err.msg);
	}
	CHECK_MSG(t && n > 20, "created after %llu", (unsigned long long)n);
	wasd_trainer_destroy(t);
}

#endif
