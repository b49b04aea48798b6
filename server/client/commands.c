/* commands.c - the table of commands, and those that main.c runs. */
#include "client/commands.h"

static const struct client_command serve = {
	.name = "serve",
	.arguments = "[--config FILE] [--KEY VALUE...]",
	.summary = "run the daemon",
	.text =
		"Runs the daemon, which trains and serves, until SIGTERM or SIGINT. wasd serve --help lists the settings with their "
		"defaults; each can also stand in the file, as key = value.",
	.statuses = "0 after SIGTERM or SIGINT, 1 it could not start or failed, 2 wrong usage",
	.example = "wasd serve --listen 127.0.0.1:8080 --data ./var",
};
static const struct client_command bench_train = {
	.name = "bench train",
	.arguments = "...",
	.summary = "time training without a daemon",
	.text = "Times training steps of a network on random images. wasd bench --help lists the options.",
	.example = "wasd bench train --arch resnet18",
};
static const struct client_command bench_infer = {
	.name = "bench infer",
	.arguments = "...",
	.summary = "time inference without a daemon",
	.text = "Times inference of a network on random images. wasd bench --help lists the options.",
	.example = "wasd bench infer --arch resnet18",
};
static const struct client_command version = {
	.name = "version",
	.arguments = "",
	.summary = "print the version",
	.text = "Prints the version of the program.",
	.statuses = "0 printed",
	.example = "wasd version",
};

/* The commands of a group stand together. */
/* clang-format off */
const struct client_command *const client_commands[] = {
	&client_command_data_add,
	&client_command_data_ls,
	&client_command_data_show,
	&client_command_submit,
	&client_command_jobs,
	&client_command_watch,
	&client_command_wait,
	&client_command_logs,
	&client_command_compare,
	&client_command_clone,
	&client_command_cancel,
	&client_command_pause,
	&client_command_resume,
	&client_command_retry,
	&client_command_sweep_list,
	&client_command_sweep_show,
	&client_command_sweep_pause,
	&client_command_sweep_resume,
	&client_command_sweep_cancel,
	&client_command_sweep,
	&client_command_deploy,
	&client_command_deployments,
	&client_command_mode,
	&client_command_classify,
	&client_command_undeploy,
	&client_command_modes,
	&client_command_profiles,
	&client_command_merge,
	&client_command_export,
	&client_command_archive,
	&client_command_models_add,
	&client_command_models_alias,
	&client_command_models,
	&client_command_status,
	&client_command_top,
	&client_command_webhook_add,
	&client_command_webhook_ls,
	&client_command_webhook_rm,
	&client_command_webhook_test,
	&client_command_backup,
	&client_command_restore,
	&client_command_fsck,
	&client_command_spec,
	&client_command_bench_serve,
	&bench_train,
	&bench_infer,
	&client_command_describe,
	&serve,
	&client_command_completion,
	&client_command_man,
	&client_command_help,
	&version,
	NULL,
};
