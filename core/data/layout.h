/* data/layout.h - which split, class and place each picture of an archive has; inside core/data. */
#ifndef DATA_LAYOUT_H
#define DATA_LAYOUT_H

#include "data/ingest.h"

enum part { PART_TRAIN, PART_TEST, PART_VAL, PARTS };

/* One per entry of the listing. */
struct item {
	bool out, bad; /* no picture, or one that nothing says a class of; a picture that cannot be used */
	uint8_t part;
	uint32_t rank; /* place in its part */
	int32_t label;
	const char *cls;
	uint32_t cls_len; /* class name inside the entry's name, or anywhere else */
};

struct layout {
	struct ingest *in;
	struct item *item;
	const char **classes;
	int n_classes; /* sorted fresh strings */
	size_t count[PARTS];
};

int part_of(const char *p, size_t n); /* of a folder's name; -1: none */
/* Finds out how the pictures are laid out and gives each its place. The result does not depend on the order in the
 * archive. */
enum wasd_status layout_make(struct layout *l, struct wasd_err *err);
/* Gives the places anew, without the pictures that have become `bad`. WASD_EINVAL: a class or a split has none left. */
enum wasd_status layout_again(struct layout *l, struct wasd_err *err);
void layout_done(struct layout *l);

/* labels.c: the text that is taken for a table of labels: one that has its columns, else the smallest name of a .csv;
 * SIZE_MAX: there is none. A form to be filled in, sample_submission.csv, is none. */
size_t labels_find(const struct layout *l);
/* Classes from the rows of a table in the archive (entry `table`) for pictures that lie in one folder. Sets cls, out,
 * and part where the table has a column for it (*parted). WASD_EINVAL also: a second such table. */
enum wasd_status labels_read(struct layout *l, size_t table, bool *parted, struct wasd_err *err);

#endif
