/* server/serving/traffic.h - which mode answers a request that names none.
 *
 * A deployment's traffic policy is the member "traffic" of its options: a weighted split between modes, the limits of
 * the modes "auto" and "cascade", and the shadow. Everything here is arithmetic on the caller's data: no locks, no
 * clock. Times are microseconds of a monotonic clock that the caller reads. One thread at a time per object. */
#ifndef SERVER_SERVING_TRAFFIC_H
#define SERVER_SERVING_TRAFFIC_H

#include "wasd/json.h"
#include "wasd/mode.h"

enum { TRAFFIC_SPLIT_MAX = 16, TRAFFIC_HEADER_MAX = 64, AUTO_SLICES = 8 };

/* ---- the policy as it is stored ---- */

struct traffic_policy {
	struct traffic_share {
		char mode[WASD_MODE_LEN];
		int64_t weight; /* at least 1 */
	} split[TRAFFIC_SPLIT_MAX];
	int n_split;                                /* 0: no split */
	char sticky_header[TRAFFIC_HEADER_MAX + 1]; /* in lower case; "": none */
	struct {
		char mode[WASD_MODE_LEN]; /* "": no shadow */
		double percent;
		int64_t examples;
	} shadow;
	struct traffic_auto {
		char cheap[WASD_MODE_LEN];
		int64_t target_us, window_us, hold_us;
	} brownout; /* "auto" */
	struct {
		char cheap[WASD_MODE_LEN];
		double threshold; /* below 0: not known */
		double keep;      /* 0: the threshold was given */
	} cascade;
};

/* traffic: canonical JSON that the API has checked; NULL or a member that is absent gives the defaults. */
void traffic_policy_read(const cJSON *traffic, struct traffic_policy *out);
/* The same from a deployment's options (JSON text, NULL counts as {}); checkpoint: what is served now. A threshold that
 * was tuned on another checkpoint is not known. */
void traffic_policy_of(const char *options, const char *checkpoint, struct traffic_policy *out);

/* True: the tuning that the policy wants for this checkpoint was tried, and failed. */
bool traffic_tuning_failed(const char *options, const char *checkpoint);

/* ---- the split ---- */

/* The shares of a split are exact in every run of as many requests as the weights add up to: the mode that is furthest
 * behind its share is next. */
struct traffic_turns {
	int64_t behind[TRAFFIC_SPLIT_MAX];
};
/* value: of the sticky header, NULL: none. A value always gives the same mode while the split stays the same, and takes
 * no turn. Needs n_split > 0. */
const char *traffic_split(const struct traffic_policy *p, struct traffic_turns *t, const char *value);

/* True for `percent` of the calls, evenly spread. */
bool traffic_sample(double *owed, double percent);

/* ---- auto ---- */

/* In force: AOM, or after an overload the cheap mode. */
struct traffic_load {
	bool cheap;
	int64_t since_us;    /* of the last switch */
	int64_t calm_us;     /* 0, or since when every condition for AOM is met */
	int64_t hold_us;     /* doubled when a return was followed by another overload at once */
	int64_t returned_us; /* of the last return; 0: none */
	double cost[2];      /* measured compute per image, microseconds: of AOM, of the cheap mode; 0: not measured */
	struct traffic_slice {
		int64_t index; /* of the time span that it counts */
		int64_t images, waits, over, over_half;
	} slice[AUTO_SLICES + 1]; /* the window and the span that is being filled */
	int64_t switches;
};

void traffic_arrived(const struct traffic_auto *a, struct traffic_load *l, int64_t images, int64_t now_us);
/* A request left the queue after this wait; INT64_MAX: the queue refused it. */
void traffic_waited(const struct traffic_auto *a, struct traffic_load *l, int64_t wait_us, int64_t now_us);
/* A batch of images was computed in AOM or in the cheap mode. */
void traffic_computed(struct traffic_load *l, bool cheap, int64_t images, int64_t us);
/* Decides; call it a few times a second. True: the mode in force has changed, and why says so.
 *   to the cheap mode: more than 1 % of the waits of the window, and at least 3, were above the target
 *   back to AOM:       for hold_us at most 1 % of the waits were above half of the target, and the images that arrive
 *                      would keep the process busy for less than 80 % of the time at AOM's measured cost */
bool traffic_decide(const struct traffic_auto *a, struct traffic_load *l, int64_t now_us, char why[200]);
/* Share of the time that the images of the window would take at AOM's cost; below 0: unknown. */
double traffic_utilisation(const struct traffic_auto *a, const struct traffic_load *l, int64_t now_us);

#endif
