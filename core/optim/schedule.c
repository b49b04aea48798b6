/* core/optim/schedule.c - learning-rate schedules: factors on the base rate, as a pure function of the step. All kinds
 * share the linear warm-up; each row says what follows it. */
#include <math.h>

#include "base/fields.h"
#include "optim/kinds.h"

#define AT "/train/schedule"

static double constant(const double *opt, double epoch, double warmup, double epochs)
{
	(void)opt, (void)epoch, (void)warmup, (void)epochs;
	return 1;
}

enum { EVERY, GAMMA };
/* gamma^floor(epoch / every); the warm-up counts as part of the first stretch. */
static double stairs(const double *opt, double epoch, double warmup, double epochs)
{
	(void)warmup, (void)epochs;
	return pow(opt[GAMMA], floor(epoch / opt[EVERY]));
}

enum { MIN_FACTOR };
/* Half a cosine from 1 at the end of warm-up to min_factor at the end of the run (Loshchilov and Hutter, arXiv
 * 1608.03983). */
static double cosine(const double *opt, double epoch, double warmup, double epochs)
{
	double u = epochs > warmup ? fmin((epoch - warmup) / (epochs - warmup), 1) : 1;
	return opt[MIN_FACTOR] + (1 - opt[MIN_FACTOR]) * 0.5 * (1 + cos(3.14159265358979323846 * u));
}

static const struct wasd_schedule_kind table[] = {
	{.name = "constant", .summary = "the rate as it is", .factor = constant},
	{
		.name = "step",
		.summary = "multiplied by a factor every few epochs",
		.factor = stairs,
		.options =
			{
				[EVERY] = {"every", WASD_NUM, "30", 0, 1e5, .above_min = true,
                           .summary = "epochs from one step to the next"},
				[GAMMA] = {"gamma", WASD_NUM, "0.1", 0, 1, .above_min = true, .summary = "factor of a step"},
			},
	},
	{.name = "cosine",
     .summary = "half a cosine down to a share of the rate",
     .factor = cosine,
     .options = {[MIN_FACTOR] = {"min_factor", WASD_NUM, "0", 0, 1,
                                 .summary = "share of the rate that is left at the end"}}},
};
#define ROWS ((int)(sizeof table / sizeof *table))

const struct wasd_schedule_kind *wasd_schedule_kind_at(int i)
{
	return i >= 0 && i < ROWS ? &table[i] : NULL;
}

static const char *name_at(int i)
{
	const struct wasd_schedule_kind *k = wasd_schedule_kind_at(i);
	return k ? k->name : NULL;
}

enum wasd_status wasd_schedule_init(struct wasd_schedule *s, const cJSON *spec, struct wasd_err *err)
{
	const struct wasd_field *common = wasd_spec_at(AT)->sub;
	int row;
	enum wasd_status st = optim_read_type(spec, AT, name_at, &row, err);
	if (st != WASD_OK)
		return st;
	struct wasd_schedule r = {.kind = &table[row]};
	st = optim_read_options(spec, AT, r.kind->options, common, r.opt, err);
	if (st == WASD_OK)
		st = fields_numbers(spec, AT, common, &r.warmup, err);
	if (st == WASD_OK)
		*s = r;
	return st;
}

double wasd_schedule_lr(const struct wasd_schedule *s, double base, uint64_t step, uint64_t steps_per_epoch, int epochs)
{
	double warm_steps = ceil(s->warmup * (double)steps_per_epoch);
	if ((double)step < warm_steps)
		return base * (double)(step + 1) / warm_steps;
	return base * s->kind->factor(s->opt, (double)step / (double)steps_per_epoch, warm_steps / (double)steps_per_epoch,
	                              epochs);
}

cJSON *wasd_schedule_to_json(const struct wasd_schedule *s)
{
	cJSON *o = optim_options_to_json(s->kind->name, s->kind->options, s->opt);
	if (fields_put(o, wasd_spec_at(AT)->sub, &s->warmup))
		return o;
	cJSON_Delete(o);
	return NULL;
}
