/* commands.c - the table of commands. */
#include "client/commands.h"

const struct client_command *const client_commands[] = {
	&client_command_submit, &client_command_jobs,  &client_command_watch,  &client_command_wait,
	&client_command_logs,   &client_command_clone, &client_command_cancel, NULL,
};
