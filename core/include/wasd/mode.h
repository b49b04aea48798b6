/* wasd/mode.h - what the modes of a checkpoint are called, in requests, rows and messages alike.
 *
 * "aom" and "dom" are the modes that a training run makes. A mode that was made of a checkpoint afterwards is a member
 * of a family: FAMILY:NAME ("dom:fast"), where FAMILY says what it is and NAME is the user's choice. */
#ifndef WASD_MODE_H
#define WASD_MODE_H

#include "wasd/base.h"

enum { WASD_MODE_LEN = 72 }; /* room for the name of a mode and its NUL */

/* The modes that a run makes, measures and can be told to choose by. wasd_modes ends at NULL. */
#define WASD_MODE_AOM "aom" /* the weights as they are trained */
#define WASD_MODE_DOM "dom" /* under the recorded draw */
extern const char *const wasd_modes[];

#define WASD_FAMILY_DRAW "dom" /* draws that were searched or given: profiles (wasd/profile.h) */

/* The form alone. Whether a checkpoint has such a mode is told by its list. */
bool wasd_mode_ok(const char *mode);
/* NAME inside of mode; NULL where mode has no family. */
const char *wasd_mode_member(const char *mode);
/* Whether name may be a NAME: that of no other mode, and wasd_name_ok. */
bool wasd_mode_member_ok(const char *name);
void wasd_mode_join(const char *family, const char *name, char out[WASD_MODE_LEN]);

#endif
