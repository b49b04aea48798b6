/* commands.c - the table of commands. */
#include "client/commands.h"

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
	&client_command_models_add,
	&client_command_models_alias,
	&client_command_models,
	&client_command_top,
	NULL,
};
