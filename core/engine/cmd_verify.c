/* engine/cmd_verify.c - wasd-engine verify: reads one dataset file and compares its content with a digest. */
#include "engine/commands.h"
#include "wasd/data.h"

#include <stdio.h>

enum { SAME = 0, FAILED = 1, DIFFERS = 3 };

/* The exit status is 0, 3 when the file is damaged (the reason is on stdout), 1 when it cannot be told, 2 for wrong
 * usage. */
int cmd_verify(int argc, char **argv)
{
	struct wasd_dataset *d = NULL;
	struct wasd_err err = {0};
	if (argc != 3) {
		fputs("usage: wasd-engine verify FILE.wds SHA256\n", stderr);
		return 2;
	}
	enum wasd_status s = wasd_dataset_open(argv[1], &d, &err);
	if (!s)
		s = wasd_dataset_verify(d, argv[2], &err);
	wasd_dataset_close(d);
	if (s)
		puts(err.msg);
	return s == WASD_OK ? SAME : s == WASD_ECORRUPT ? DIFFERS : FAILED;
}
