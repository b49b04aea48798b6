/* weights/schedule.c - when a strategy that prunes has an event. See schedule.h. */
#include "weights/schedule.h"

#include "base/fields.h"

#include <math.h>

uint64_t prune_step_of(double epochs, uint32_t batches)
{
	return (uint64_t)llround(epochs * batches);
}

bool prune_is_event(const struct prune_schedule *s, uint64_t step, uint32_t batches)
{
	uint64_t first = prune_step_of(s->begin, batches), last = prune_step_of(s->end, batches);
	return step == last || (step >= first && step < last && (step - first) % s->every == 0);
}

double prune_progress(const struct prune_schedule *s, uint64_t step, uint32_t batches)
{
	double first = (double)prune_step_of(s->begin, batches), last = (double)prune_step_of(s->end, batches),
		   t = (double)step;
	return t >= last ? 1 : t <= first ? 0 : (t - first) / (last - first);
}

double prune_sparsity(const struct prune_schedule *s, uint64_t step, uint32_t batches)
{
	return s->final + (s->initial - s->final) * pow(1 - prune_progress(s, step, batches), s->power);
}

bool prune_is_told(const struct prune_schedule *s, uint64_t step, uint32_t batches)
{
	uint64_t first = prune_step_of(s->begin, batches), last = prune_step_of(s->end, batches);
	return step == last || step < first + s->every || step % batches < s->every;
}

enum wasd_status prune_check_times(double begin, double end, int epochs, const char *at, struct wasd_err *err)
{
	char ptr[FIELDS_POINTER];
	fields_pointer(ptr, at, "end");
	if (!epochs)
		return WASD_OK;
	if (end > epochs)
		return wasd_fail_at(err, WASD_EINVAL, ptr, "%s is %g, the run has %d epochs", ptr, end, epochs);
	fields_pointer(ptr, at, "begin");
	return begin <= end ? WASD_OK :
	                      wasd_fail_at(err, WASD_EINVAL, ptr, "%s is %g, after the end at %g", ptr, begin, end);
}
