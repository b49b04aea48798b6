/* api/forms.c - members that have several notations or need more checks than their row gives: maps the form named by
 * a row to its function. */
#include "internal.h"

const struct field_form field_forms[] = {
	/* the job spec */
	{"after", spec_after_canon},
	{"arch", spec_arch_canon},
	{"augment", spec_augment_canon},
	{"blob", api_blob_canon},
	{"classes", spec_classes_canon},
	{"class weights", spec_class_weights_canon},
	{"dataset", api_dataset_canon},
	{"deadline", spec_deadline_canon},
	{"draw", spec_draw_canon},
	{"goal", spec_goal_canon},
	{"init_from", spec_init_canon},
	{"job name", spec_name_canon},
	{"labels", spec_labels_canon},
	{"layers", spec_layers_canon},
	{"limit", spec_limit_canon},
	{"model", spec_model_canon},
	{"modes", spec_modes_canon},
	{"normalize", spec_normalize_canon},
	{"odds", spec_odds_canon},
	{"precision", spec_precision_canon},
	{"probability", spec_probability_canon},
	{"profile name", api_profile_name_canon},
	{"profiles", api_profiles_canon},
	{"transforms", spec_transforms_canon},
	{"was", spec_was_canon},
	{"weights", spec_weights_canon},
	/* other bodies */
	{"images", api_images_canon},
	{"labels patch", api_labels_patch_canon},
	{"header name", api_header_name_canon},
	{"live mode", api_live_mode_canon},
	{"mode", api_mode_canon},
	{"source", api_source_canon},
	{"split", api_split_canon},
	{"synthetic", api_synthetic_canon},
	{0},
};
