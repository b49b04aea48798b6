/* layers/table.c - the table of layers. */
#include "layers/layer.h"

const struct layer *layer_at(int i)
{
	static const struct layer *const table[] = {
		&layer_input,       &layer_conv,        &layer_batchnorm, &layer_relu,    &layer_relu6,  &layer_maxpool,
		&layer_avgpool,     &layer_globalpool,  &layer_boxsum,    &layer_flatten, &layer_linear, &layer_dropout,
		&layer_dropchannel, &layer_dropconnect, &layer_add,       &layer_addpad,  &layer_concat,
	};
	int n = (int)(sizeof table / sizeof table[0]);
	if (i < n)
		return i >= 0 ? table[i] : NULL;
	for (int k = 0; layer_more && layer_more[k]; k++)
		if (k == i - n)
			return layer_more[k];
	return NULL;
}
