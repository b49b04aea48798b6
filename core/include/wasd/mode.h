/* wasd/mode.h - the names of a checkpoint's modes, the same in requests, rows and messages.
 *
 * A training run makes the modes "aom" and "dom", "slim" if channels of the network are dead, and "width:0.5" for each
 * narrower network that it trains with its own. A mode derived from a checkpoint later belongs to another family:
 * FAMILY:NAME ("dom:fast"), where FAMILY is the kind of derivation and NAME the user's choice. */
#ifndef WASD_MODE_H
#define WASD_MODE_H

#include "wasd/base.h"

enum { WASD_MODE_LEN = 72 }; /* size of a mode's name, with its NUL */

/* The modes that a run makes, measures and can be ranked by. wasd_modes ends at NULL. */
#define WASD_MODE_AOM "aom" /* the trained weights as they are */
#define WASD_MODE_DOM "dom" /* under the recorded draw */
extern const char *const wasd_modes[];

/* "aom" in the network without its dead channels: the same answers with fewer multiply-adds. It is not in wasd_modes:
 * what is measured of "aom" holds for it. */
#define WASD_MODE_SLIM "slim"
const char *wasd_mode_measured(const char *mode); /* the mode whose measurements hold for it: itself, or "aom" */

#define WASD_FAMILY_DRAW "dom"    /* searched or given draws: profiles (wasd/profile.h) */
#define WASD_FAMILY_WIDTH "width" /* of a run's own: narrower networks (wasd/slice.h), as "width:0.5" */

/* What a deployment may have in place of a mode: "auto" and "cascade" choose a mode for each request. They are no modes
 * of a checkpoint, and wasd_mode_ok refuses them. */
#define WASD_MODE_AUTO "auto"
#define WASD_MODE_CASCADE "cascade"
bool wasd_mode_chooses(const char *mode);

/* Checks only the form of a name; the checkpoint's list says whether the mode exists. */
bool wasd_mode_ok(const char *mode);
/* Whether it is a mode of a checkpoint's own list with a smaller network: slim, or a width. */
bool wasd_mode_smaller(const char *mode);
/* The part NAME of a mode that is derived later, a pointer into it; NULL for a run's own modes. */
const char *wasd_mode_member(const char *mode);
/* Whether name can be a NAME: wasd_name_ok accepts it, and it is not in wasd_modes. */
bool wasd_mode_member_ok(const char *name);
void wasd_mode_join(const char *family, const char *name, char out[WASD_MODE_LEN]);

#endif
