/* onednn/tune.c - the table of measured choices and its file. */
#include "onednn/tune.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT "wasd-tuning-2"
#define FILE_MAX (4 << 20)
#define ENTRIES_MAX 4096

struct entry {
	char key[TUNE_KEY];
	struct tune_result r;
};

/* One table per process: the machine does not change while it runs. */
static struct {
	pthread_mutex_t lock;
	char machine[128];
	struct entry *entry;
	int count, cap;
	off_t read; /* bytes of the file already in the table */
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct entry *lookup(const char *key)
{
	for (int i = 0; i < table.count; i++)
		if (!strcmp(table.entry[i].key, key))
			return &table.entry[i];
	return NULL;
}

static void add(const char *key, const struct tune_result *r)
{
	if (table.count == ENTRIES_MAX || strlen(key) >= TUNE_KEY)
		return;
	if (table.count == table.cap) {
		int cap = table.cap ? 2 * table.cap : 64;
		struct entry *e = wasd_realloc(table.entry, (size_t)cap * sizeof *e);
		if (!e)
			return;
		table.entry = e;
		table.cap = cap;
	}
	strcpy(table.entry[table.count].key, key);
	table.entry[table.count++].r = *r;
}

/* Parses one line, without its newline. */
static void take_line(char *line)
{
	char *field[4 + TUNE_CANDIDATES], *save = NULL, *end;
	int n = 0;
	for (char *f = strtok_r(line, "\t", &save); f; f = strtok_r(NULL, "\t", &save)) {
		if (n == 4 + TUNE_CANDIDATES)
			return;
		field[n++] = f;
	}
	if (n != 4 + TUNE_CANDIDATES || strcmp(field[0], FORMAT) || strcmp(field[1], table.machine) || lookup(field[2]))
		return;
	struct tune_result r;
	long choice = strtol(field[3], &end, 10);
	if (*end || choice < 0 || choice >= TUNE_CANDIDATES)
		return;
	r.choice = (int)choice;
	for (int i = 0; i < TUNE_CANDIDATES; i++) {
		r.us[i] = strtof(field[4 + i], &end);
		if (*end || !(r.us[i] >= 0))
			return;
	}
	if (r.us[r.choice] > 0)
		add(field[2], &r);
}

/* Reads what was appended to the file since the last call; an incomplete last line is left for later. */
static void read_new(int fd)
{
	struct stat st;
	if (fstat(fd, &st) || st.st_size <= table.read || st.st_size > FILE_MAX)
		return;
	size_t len = (size_t)(st.st_size - table.read), have = 0;
	char *text = wasd_malloc(len + 1);
	while (text && have < len) {
		ssize_t k = pread(fd, text + have, len - have, table.read + (off_t)have);
		if (k <= 0)
			break;
		have += (size_t)k;
	}
	if (text) {
		char *at = text, *nl;
		text[have] = 0;
		while ((nl = memchr(at, '\n', have - (size_t)(at - text)))) {
			*nl = 0;
			take_line(at);
			at = nl + 1;
		}
		table.read += at - text;
	}
	wasd_free(text);
}

bool tune_race(float (*run)(void *ctx, int candidate), void *ctx, int rounds, int64_t limit_us, struct tune_result *r)
{
	int64_t begin = wasd_mono_us();
	for (int round = 0; round < rounds && (round < 3 || wasd_mono_us() - begin < limit_us); round++)
		for (int i = 0; i < TUNE_CANDIDATES; i++) {
			float t = r->us[i] >= 0 ? run(ctx, i) : 0;
			if (t <= 0)
				r->us[i] = -1;
			else if (round == 1 || (round > 1 && t < r->us[i])) /* the first round warms up */
				r->us[i] = t;
		}
	bool any = false;
	for (int i = 0; i < TUNE_CANDIDATES; i++) {
		r->us[i] = r->us[i] > 0 ? r->us[i] : 0;
		if (r->us[i] > 0 && (!any || r->us[i] < r->us[r->choice]))
			r->choice = i;
		any |= r->us[i] > 0;
	}
	return any;
}

static const char *file_name(void)
{
	const char *f = getenv("WASD_TUNING");
	return f && *f ? f : NULL;
}

void tune_open(const char *machine)
{
	pthread_mutex_lock(&table.lock);
	char clean[sizeof table.machine];
	snprintf(clean, sizeof clean, "%s", machine);
	for (char *c = clean; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
	if (strcmp(clean, table.machine)) {
		strcpy(table.machine, clean);
		table.count = 0;
		table.read = 0;
	}
	int fd = file_name() ? open(file_name(), O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		read_new(fd);
		close(fd);
	}
	pthread_mutex_unlock(&table.lock);
}

bool tune_find(const char *key, struct tune_result *out)
{
	pthread_mutex_lock(&table.lock);
	const struct entry *e = lookup(key);
	if (e)
		*out = e->r;
	pthread_mutex_unlock(&table.lock);
	return e != NULL;
}

static void append(int fd, const char *key, const struct tune_result *r)
{
	struct wasd_buf b = {0};
	struct stat st;
	if (!fstat(fd, &st) && st.st_size > table.read) /* a process died while writing a line: end that line here */
		wasd_buf_puts(&b, "\n");
	wasd_buf_printf(&b, FORMAT "\t%s\t%s\t%d", table.machine, key, r->choice);
	for (int i = 0; i < TUNE_CANDIDATES; i++)
		wasd_buf_printf(&b, "\t%.1f", (double)r->us[i]);
	wasd_buf_puts(&b, "\n");
	if (!b.failed && !fstat(fd, &st) && st.st_size + (off_t)b.len <= FILE_MAX &&
	    wasd_write_full(fd, b.data, b.len, NULL) == WASD_OK)
		fdatasync(fd);
	wasd_buf_done(&b);
}

void tune_store(const char *key, struct tune_result *r)
{
	pthread_mutex_lock(&table.lock);
	int fd = file_name() ? open(file_name(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640) : -1;
	if (fd >= 0 && flock(fd, LOCK_EX) == 0)
		read_new(fd);
	const struct entry *e = lookup(key);
	if (e) {
		*r = e->r;
	} else {
		add(key, r);
		if (fd >= 0)
			append(fd, key, r);
	}
	if (fd >= 0)
		close(fd);
	pthread_mutex_unlock(&table.lock);
}
