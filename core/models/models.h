/* models/models.h - the rows of models/table.c, and what the builders share. */
#ifndef MODELS_MODELS_H
#define MODELS_MODELS_H

#include "wasd/model.h"

extern const struct wasd_arch arch_lenet, arch_vgg16, arch_resnet18, arch_resnet34, arch_googlenet, arch_mobilenetv2,
	arch_efficientnet_lite0, arch_repvgg;

/* models/own.c: {"layers": [...]} */
enum wasd_status own_build(const cJSON *model, struct wasd_shape in, int classes, struct wasd_graph **out,
                           struct wasd_err *err);
bool own_augments(const cJSON *model); /* whether any of its layers is augmented */

/* models/table.c: checks that every network makes on images and classes; name is for the message. */
enum wasd_status models_check_input(const char *name, int min_side, struct wasd_shape in, int classes,
                                    struct wasd_err *err);

/* models/slim.c: base with the suffix behind it, once, in `size` bytes. */
void models_suffix(const char *base, const char *suffix, char *out, size_t size);

#define BN_EPS 1e-5
#define BN_MOMENTUM 0.1
#define NAME_SIZE 64

/* The strategies of the paper's authors (web/docs/was.md#networks), as members of a "was" object. */
#define PAPER_TRANSLATE "{\"type\":\"translate\",\"x\":0.3,\"y\":0.3}"
#define PAPER_CROP "{\"type\":\"resized_crop\",\"scale\":[0.8,1],\"ratio\":[0.75,1.3333333333333333]}"
#define PAPER_CROP_HARD "{\"type\":\"resized_crop\",\"scale\":[0.6,0.8],\"ratio\":[0.75,1.3333333333333333]}"

#endif
