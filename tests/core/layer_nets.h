/* layer_nets.h - networks around one row of the table of layers, made from what capabilities say of it: its inputs and
 * its options. So a new row is tested without a line here. */
#ifndef TESTS_LAYER_NETS_H
#define TESTS_LAYER_NETS_H

#include "check.h"
#include "wasd/model.h"

/* The layer reads maps of SIDE x SIDE, or rows of 1 x 1. Its gradient goes on into a convolution. */
enum around { AROUND_MAPS, AROUND_ROWS, AROUNDS };

static cJSON *layer_object(const char *type, const char *name, const char *from)
{
	cJSON *l = cJSON_CreateObject();
	cJSON_AddStringToObject(l, "type", type);
	if (name)
		cJSON_AddStringToObject(l, "name", name);
	if (from)
		cJSON_AddStringToObject(l, "from", from);
	return l;
}

static cJSON *layer_of_width(const char *type, const char *name, const char *from, int out)
{
	cJSON *l = layer_object(type, name, from);
	cJSON_AddNumberToObject(l, "out", out);
	return l;
}

static int layer_inputs(const cJSON *row)
{
	const cJSON *n = wasd_json_get(row, "inputs");
	return cJSON_IsNumber(n) ? n->valueint : 3; /* "many" */
}

/* The layer under test, called "x", with its required options; an integer of 2 where the range allows it. */
static cJSON *layer_entry(const cJSON *row)
{
	static const char *const from[] = {"a", "b", "c"};
	const cJSON *o, *most;
	cJSON *l = layer_object(wasd_json_get(row, "type")->valuestring, "x", NULL);
	cJSON_AddItemToObject(l, "from", cJSON_CreateStringArray(from, layer_inputs(row)));
	cJSON_ArrayForEach(o, wasd_json_get(row, "options")) {
		if (!cJSON_IsTrue(wasd_json_get(o, "required")))
			continue;
		most = wasd_json_get(o, "max");
		cJSON_AddNumberToObject(l, wasd_json_get(o, "name")->valuestring,
		                        most && most->valuedouble < 2 ? most->valuedouble : 2);
	}
	return l;
}

/* Takes the entry over. odd: the second input has maps of another size. */
static cJSON *layer_net(cJSON *entry, int inputs, enum around where, int channels, bool odd)
{
	static const char *const names[] = {"a", "b", "c"};
	cJSON *model = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(model, "layers");
	for (int i = 0; i < inputs; i++) {
		cJSON *conv = layer_of_width("conv", where == AROUND_MAPS ? names[i] : NULL, "input", channels);
		if (odd && i == 1)
			cJSON_AddNumberToObject(conv, "stride", 2);
		cJSON_AddItemToArray(list, conv);
		if (where == AROUND_ROWS) {
			cJSON_AddItemToArray(list, layer_object("flatten", NULL, NULL));
			cJSON_AddItemToArray(list, layer_of_width("linear", names[i], NULL, channels));
		}
	}
	cJSON_AddItemToArray(list, entry);
	cJSON_AddItemToArray(list, layer_object("flatten", NULL, NULL));
	cJSON *head = layer_object("linear", NULL, NULL);
	cJSON_AddStringToObject(head, "out", "classes");
	cJSON_AddItemToArray(list, head);
	return model;
}

/* Where the layer under test stands in the list of layer_net. */
static int layer_place(int inputs, enum around where)
{
	return inputs * (where == AROUND_MAPS ? 1 : 3);
}

#endif
