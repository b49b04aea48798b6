/* sets.c - recognises uploads that are whole sets of another program by their file names, and rejects them with
 * advice. */
#include "data/ingest.h"

#include <string.h>

struct count {
	size_t npy, pickles, stl, others;
	bool torch;
};

static bool is_pickle(const struct entry *e)
{
	return e->head[0] == 0x80 && e->head[1] >= 2 && e->head[1] <= 5;
}

static bool cifar_python(const char *base)
{
	static const char *const names[] = {"test_batch", "batches.meta", "train", "test", "meta"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(base, names[i]))
			return true;
	return !strncmp(base, "data_batch_", 11);
}

static bool stl10(const char *base)
{
	static const char *const names[] = {"train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(base, names[i]))
			return true;
	return false;
}

static struct count look(const struct ingest *in)
{
	struct count c = {0};
	for (size_t i = 0; i < in->n; i++) {
		const char *base = entry_base(in, i);
		const struct entry *e = &in->entry[i];
		c.torch = c.torch || (!strcmp(base, "data.pkl") && is_pickle(e));
		if (!memcmp(e->head, "\x93NUMPY", 6))
			c.npy++;
		else if (is_pickle(e) && cifar_python(base))
			c.pickles++;
		else if (stl10(base))
			c.stl++;
		else
			c.others += !is_text(base);
	}
	return c;
}

enum wasd_status ingest_known_sets(const struct ingest *in, struct wasd_err *err)
{
	struct count c = look(in);
	char text[WASD_FOREIGN_TEXT];
	const char *kind = c.torch   ? "PyTorch .pt" :
	                   c.others  ? NULL :
	                   c.npy     ? "NumPy .npz" :
	                   c.pickles ? "CIFAR in its Python" :
	                   c.stl     ? "STL-10" :
	                               NULL;
	if (!kind)
		return WASD_OK;
	wasd_foreign_named(WASD_READS_DATASET, kind, text);
	return wasd_fail_at(err, WASD_EINVAL, in->files[0].name, "%s", text);
}
