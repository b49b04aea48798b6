/* layers/table.c - every kind of node. */
#include "layers/layer.h"

const struct layer *layer_at(int i)
{
	static const struct layer *const table[] = {
		&layer_input, &layer_conv, &layer_batchnorm, &layer_relu, &layer_relu6, &layer_maxpool, &layer_avgpool, &layer_globalpool,
		&layer_flatten, &layer_linear, &layer_dropout, &layer_dropconnect, &layer_add, &layer_concat,
	};
	return i >= 0 && i < (int)(sizeof table / sizeof table[0]) ? table[i] : NULL;
}
