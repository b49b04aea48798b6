/* modes/making.c - what asks for a mode, and what a kind hands over when it has made one; see mode.h. */
#include "base/fields.h"
#include "modes/mode.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

const struct mode_desire *mode_desire_find(const char *name, const struct mode_kind **kind)
{
	const struct mode_kind *k;
	for (int i = 0; (k = mode_kind_at(i)); i++)
		for (const struct mode_desire *d = k->desires; d && d->name; d++)
			if (!strcmp(d->name, name)) {
				if (kind)
					*kind = k;
				return d;
			}
	return NULL;
}

/* The members of any request, whatever its desire; the name and the data set are the daemon's. */
static const struct wasd_field common[] = {{.name = "desire"}, {.name = "base"}, {0}};

static enum wasd_status read_option(const struct wasd_field *f, const cJSON *v, double *out, struct wasd_err *err)
{
	char at[FIELDS_POINTER];
	int k;
	fields_pointer(at, "", f->name);
	if (f->type == WASD_NUM || f->type == WASD_INT || f->type == WASD_BOOL)
		return fields_number(v, at, f, out, err);
	if (f->type != WASD_CHOICE)
		return v || !f->required ? WASD_OK : wasd_fail_at(err, WASD_EINVAL, at, "%s is needed", f->name);
	enum wasd_status s = fields_choice(v, at, f, &k, err);
	*out = k;
	return s;
}

enum wasd_status mode_options(const struct mode_desire *d, const cJSON *request, double v[MODE_OPTIONS_MAX],
                              struct wasd_err *err)
{
	enum wasd_status s = fields_known_rows(request, "", NULL, common, d->options, err);
	for (int i = 0; !s && d->options && d->options[i].name; i++) {
		assert(i < MODE_OPTIONS_MAX && d->options[i].type != WASD_PAIR);
		v[i] = 0;
		s = read_option(&d->options[i], wasd_json_get(request, d->options[i].name), &v[i], err);
	}
	return s;
}

enum wasd_status mode_made_add(struct mode_made *m, const char *name, enum wasd_dtype dtype, int ndims,
                               const size_t *dims, void *data, struct wasd_err *err)
{
	size_t n = (size_t)m->n_tensors;
	struct mode_tensor *more = wasd_realloc(m->tensor, (n + 1) * sizeof *more);
	if (!more) {
		wasd_free(data);
		return wasd_fail(err, WASD_ENOMEM, "tensor %s", name);
	}
	m->tensor = more;
	m->n_tensors++;
	more[n] = (struct mode_tensor){.dtype = dtype, .ndims = ndims, .data = data};
	assert(ndims <= 4 && strlen(name) < sizeof more[n].name);
	memcpy(more[n].dims, dims, (size_t)ndims * sizeof *dims);
	snprintf(more[n].name, sizeof more[n].name, "%s", name);
	return WASD_OK;
}

void mode_made_done(struct mode_made *m)
{
	for (int i = 0; i < m->n_tensors; i++)
		wasd_free(m->tensor[i].data);
	wasd_free(m->tensor);
	wasd_free(m->stats);
	cJSON_Delete(m->recipe);
	cJSON_Delete(m->info);
	*m = (struct mode_made){0};
}
