/* weights/table.c - the table of weight strategies. */
#include "weights/strategy.h"

#include <string.h>

const struct weight_strategy *weight_strategy_at(int i)
{
	static const struct weight_strategy *const table[] = {&weight_was,          &weight_compander,  &weight_magnitude,
	                                                      &weight_weightmom,    &weight_structured, &weight_inrank,
	                                                      &weight_superweights, &weight_slices};
	int n = (int)(sizeof table / sizeof table[0]);
	if (i < n)
		return i >= 0 ? table[i] : NULL;
	for (int k = 0; weight_strategy_more && weight_strategy_more[k]; k++)
		if (k == i - n)
			return weight_strategy_more[k];
	return NULL;
}

const struct weight_strategy *weight_strategy_find(const char *name)
{
	const struct weight_strategy *s;
	for (int i = 0; (s = weight_strategy_at(i)); i++)
		if (!strcmp(s->name, name))
			return s;
	return NULL;
}
