/* tensorboard.c - see tensorboard.h.
 *
 * A file is a sequence of records (TensorFlow's TFRecord): length (8 bytes), masked CRC32C of it (4), data, masked
 * CRC32C of the data (4), all little-endian. The data is a protobuf message Event. Of its schema only these fields are
 * needed:
 *
 *   Event            1 wall_time double, 2 step int64, 3 file_version string, 5 summary Summary
 *   Summary          1 value Value, repeated
 *   Value            1 tag string, 2 simple_value float, 9 metadata SummaryMetadata
 *   SummaryMetadata  1 plugin_data {1 plugin_name string, 2 content bytes}
 *
 * and of the hyperparameters' plugin, whose messages are the content:
 *
 *   HParamsPluginData  3 session_start_info {1 hparams map<string, google.protobuf.Value>, 5 start_time_secs double}
 *                      4 session_end_info {1 status enum, 2 end_time_secs double}
 *   google.protobuf.Value  2 number double, 3 string, 4 bool */
#include "client/tensorboard.h"
#include "client/client.h"
#include "client/remote.h"

#include "wasd/json.h"

#include <math.h>
#include <string.h>

/* ---- protobuf ---- */

enum wire { VARINT, FIXED64, BYTES, FIXED32 = 5 };

static void put_le(struct wasd_buf *b, uint64_t v, int bytes)
{
	unsigned char p[8];
	for (int i = 0; i < bytes; i++)
		p[i] = (unsigned char)(v >> 8 * i);
	wasd_buf_append(b, p, (size_t)bytes);
}

static void put_varint(struct wasd_buf *b, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		put_le(b, (v & 0x7f) | 0x80, 1);
	put_le(b, v, 1);
}

static void put_key(struct wasd_buf *b, int field, enum wire wire)
{
	put_varint(b, (uint64_t)field << 3 | wire);
}

static void put_int(struct wasd_buf *b, int field, int64_t v)
{
	put_key(b, field, VARINT);
	put_varint(b, (uint64_t)v);
}

static void put_double(struct wasd_buf *b, int field, double v)
{
	uint64_t bits;
	memcpy(&bits, &v, sizeof bits);
	put_key(b, field, FIXED64);
	put_le(b, bits, 8);
}

static void put_float(struct wasd_buf *b, int field, double v)
{
	float f = (float)v;
	uint32_t bits;
	memcpy(&bits, &f, sizeof bits);
	put_key(b, field, FIXED32);
	put_le(b, bits, 4);
}

static void put_text(struct wasd_buf *b, int field, const char *s)
{
	put_key(b, field, BYTES);
	put_varint(b, strlen(s));
	wasd_buf_puts(b, s);
}

/* Takes m. */
static void put_message(struct wasd_buf *b, int field, struct wasd_buf *m)
{
	put_key(b, field, BYTES);
	put_varint(b, m->len);
	wasd_buf_append(b, m->data, m->len);
	b->failed |= m->failed;
	wasd_buf_done(m);
}

/* ---- records ---- */

static uint32_t masked(const void *p, size_t n)
{
	uint32_t crc = wasd_crc32c(0, p, n);
	return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Takes event. */
static void put_record(struct wasd_buf *out, struct wasd_buf *event)
{
	const size_t at = out->len;
	put_le(out, event->len, 8);
	if (!out->failed)
		put_le(out, masked(out->data + at, 8), 4);
	wasd_buf_append(out, event->data, event->len);
	put_le(out, masked(event->data, event->len), 4);
	out->failed |= event->failed;
	wasd_buf_done(event);
}

/* One value of a summary. Takes it. */
static void put_event(struct wasd_buf *out, double seconds, int64_t step, struct wasd_buf *value)
{
	struct wasd_buf summary = {0}, event = {0};
	put_message(&summary, 1, value);
	put_double(&event, 1, seconds);
	put_int(&event, 2, step);
	put_message(&event, 5, &summary);
	put_record(out, &event);
}

/* ---- curves ---- */

static double at(const cJSON *row, int i, double otherwise)
{
	const cJSON *v = cJSON_GetArrayItem(row, i);
	return cJSON_IsNumber(v) ? v->valuedouble : otherwise;
}

static void put_curve(struct wasd_buf *out, const cJSON *series)
{
	const cJSON *p;
	cJSON_ArrayForEach(p, wasd_json_get(series, "points")) {
		struct wasd_buf value = {0};
		put_text(&value, 1, client_text(series, "name"));
		put_float(&value, 2, at(p, 3, NAN));
		put_event(out, at(p, 2, 0) / 1000, (int64_t)at(p, 0, 0), &value);
	}
}

/* The time of the first (-1) or the last (1) point, in seconds; 0: there is none. */
static double edge(const cJSON *metrics, int way)
{
	double found = 0;
	const cJSON *s, *p;
	cJSON_ArrayForEach(s, wasd_json_get(metrics, "series")) {
		cJSON_ArrayForEach(p, wasd_json_get(s, "points")) {
			double t = at(p, 2, 0) / 1000;
			if (!found || (t - found) * way > 0)
				found = t;
		}
	}
	return found;
}

/* ---- hyperparameters ---- */

/* "/train/optimizer/lr" as "train.optimizer.lr". */
static void put_name(struct wasd_buf *b, const char *pointer)
{
	char name[400];
	snprintf(name, sizeof name, "%s", pointer + (*pointer == '/'));
	for (char *p = name; *p; p++)
		if (*p == '/')
			*p = '.';
	put_text(b, 1, name);
}

static void put_hparams(struct wasd_buf *b, const cJSON *job)
{
	cJSON *flat = client_flat_spec(job);
	const cJSON *m;
	cJSON_ArrayForEach(m, flat) {
		struct wasd_buf value = {0}, entry = {0};
		if (cJSON_IsNumber(m))
			put_double(&value, 2, m->valuedouble);
		else if (cJSON_IsString(m))
			put_text(&value, 3, m->valuestring);
		else if (cJSON_IsBool(m))
			put_key(&value, 4, VARINT), put_varint(&value, cJSON_IsTrue(m));
		else
			continue;
		put_name(&entry, m->string);
		put_message(&entry, 2, &value);
		put_message(b, 1, &entry);
	}
	cJSON_Delete(flat);
}

/* A value of the plugin. Takes info, which is field `which` of its data. */
static void put_session(struct wasd_buf *out, const char *tag, double seconds, int which, struct wasd_buf *info)
{
	struct wasd_buf data = {0}, plugin = {0}, metadata = {0}, value = {0};
	put_message(&data, which, info);
	put_text(&plugin, 1, "hparams");
	put_message(&plugin, 2, &data);
	put_message(&metadata, 1, &plugin);
	put_text(&value, 1, tag);
	put_message(&value, 9, &metadata);
	put_event(out, seconds, 0, &value);
}

static void put_start(struct wasd_buf *out, const cJSON *job, double seconds)
{
	struct wasd_buf info = {0};
	put_hparams(&info, job);
	put_double(&info, 5, seconds);
	put_session(out, "_hparams_/session_start_info", seconds, 3, &info);
}

static void put_end(struct wasd_buf *out, const char *state, double seconds)
{
	enum { SUCCESS = 1, FAILURE, RUNNING };
	struct wasd_buf info = {0};
	put_int(&info, 1, !client_ended(state) ? RUNNING : strcmp(state, "completed") ? FAILURE : SUCCESS);
	put_double(&info, 2, seconds);
	put_session(out, "_hparams_/session_end_info", seconds, 4, &info);
}

void tensorboard_events(const cJSON *job, const cJSON *metrics, struct wasd_buf *out)
{
	struct wasd_buf version = {0};
	const double first = edge(metrics, -1);
	const cJSON *s;
	put_double(&version, 1, first);
	put_text(&version, 3, "brain.Event:2");
	put_record(out, &version);
	put_start(out, job, first);
	cJSON_ArrayForEach(s, wasd_json_get(metrics, "series"))
		put_curve(out, s);
	put_end(out, client_text(job, "state"), edge(metrics, 1));
}
