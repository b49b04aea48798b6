/* report.c - remarks and culprits (wasd/data.h): all are counted, the first few are kept. */
#include "data/ingest.h"

#include <stdio.h>
#include <string.h>

/* Writes printable UTF-8 to dst, whatever src holds, as for the pointer of an error. */
static void copy_name(char dst[WASD_REMARK_NAME], const char *src)
{
	struct wasd_err clean;
	_Static_assert(sizeof clean.pointer <= WASD_REMARK_NAME, "a pointer fits");
	wasd_fail_at(&clean, WASD_EINVAL, src, "%s", "");
	memcpy(dst, clean.pointer, sizeof clean.pointer);
}

static struct wasd_remark *find(struct wasd_ingest_report *r, const char *code)
{
	for (int i = 0; i < r->remarks; i++)
		if (!strcmp(r->remark[i].code, code))
			return &r->remark[i];
	return NULL;
}

void ingest_remark(struct ingest *in, const char *code, const char *name, const char *fmt, ...)
{
	struct wasd_ingest_report *r = in->o.report;
	struct wasd_remark *m = r ? find(r, code) : NULL;
	if (!r || (!m && r->remarks == WASD_REMARKS_MAX))
		return;
	if (!m) {
		struct wasd_err text;
		char line[sizeof m->message];
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(line, sizeof line, fmt, ap);
		va_end(ap);
		wasd_fail(&text, WASD_OK, "%s", line);
		m = &r->remark[r->remarks++];
		*m = (struct wasd_remark){.code = code, .replayed = in->replaying};
		memcpy(m->message, text.msg, sizeof text.msg);
	}
	m->count++;
	if (name && m->examples < WASD_REMARK_EXAMPLES)
		copy_name(m->example[m->examples++], name);
}

void ingest_culprit(struct ingest *in, const struct wasd_err *err)
{
	struct wasd_ingest_report *r = in->o.report;
	if (!r)
		return;
	if (r->culprits < WASD_CULPRITS_MAX) {
		struct wasd_culprit *c = &r->culprit[r->culprits];
		copy_name(c->file, err->pointer);
		memcpy(c->detail, err->msg, sizeof c->detail);
	}
	r->culprits++;
}

void ingest_restart(struct ingest *in)
{
	struct wasd_ingest_report *r = in->o.report;
	wasd_dataset_writer_abort(in->writer);
	in->writer = NULL;
	in->images = 0;
	while (r && r->remarks && r->remark[r->remarks - 1].replayed)
		r->remarks--;
}

void ingest_pardon(struct ingest *in)
{
	if (in->o.report)
		in->o.report->culprits = 0;
}
