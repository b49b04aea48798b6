/* data/layout.h - the split, class and place of each picture in an archive; private to core/data. */
#ifndef DATA_LAYOUT_H
#define DATA_LAYOUT_H

#include "data/ingest.h"

enum part { PART_TRAIN, PART_TEST, PART_VAL, PARTS };

/* One per entry of the listing. */
struct item {
	bool out, bad; /* out: not a picture, or a picture without a class; bad: a picture that cannot be read */
	uint8_t part;
	uint32_t rank; /* place within its part */
	int32_t label;
	const char *cls;
	uint32_t cls_len; /* a slice of the entry's name or of the label table's text */
};

struct layout {
	struct ingest *in;
	struct item *item;
	const char **classes;
	int n_classes; /* sorted; owned */
	size_t count[PARTS];
};

int part_of(const char *p, size_t n); /* part of a folder with this name; -1: none */
/* Finds out how the pictures are laid out and gives each one its place. The result does not depend on the order in the
 * archive. */
enum wasd_status layout_make(struct layout *l, struct wasd_err *err);
/* Assigns the places again, without the pictures now marked `bad`. WASD_EINVAL if a class or a split has none left. */
enum wasd_status layout_again(struct layout *l, struct wasd_err *err);
void layout_done(struct layout *l);

/* labels.c: finds the table of labels: a text with the right columns, else the .csv whose name sorts first; SIZE_MAX:
 * none. A blank submission form such as sample_submission.csv does not count. */
size_t labels_find(const struct layout *l);
/* Takes the classes of pictures that lie in one folder from the table of labels (entry `table`). Sets cls, out, and
 * part if the table has a column for it (*parted). Also WASD_EINVAL if there is a second such table. */
enum wasd_status labels_read(struct layout *l, size_t table, bool *parted, struct wasd_err *err);

#endif
