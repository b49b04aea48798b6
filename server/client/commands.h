/* server/client/commands.h - the descriptors of all commands, each defined in the file of its command. */
#ifndef SERVER_CLIENT_COMMANDS_H
#define SERVER_CLIENT_COMMANDS_H

#include "client/command.h"

extern const struct client_command client_command_webhook_add, client_command_webhook_ls, client_command_webhook_rm,
	client_command_webhook_test, client_command_backup, client_command_bench_serve, client_command_cancel,
	client_command_classify, client_command_clone, client_command_compare, client_command_completion,
	client_command_data_add, client_command_data_ls, client_command_data_show, client_command_deploy,
	client_command_deployments, client_command_describe, client_command_export, client_command_archive,
	client_command_fsck, client_command_help, client_command_jobs, client_command_logs, client_command_man,
	client_command_mode, client_command_models, client_command_modes, client_command_models_add,
	client_command_models_alias, client_command_pause, client_command_merge, client_command_profiles,
	client_command_restore, client_command_resume, client_command_retry, client_command_spec, client_command_status,
	client_command_submit, client_command_sweep, client_command_sweep_cancel, client_command_sweep_list,
	client_command_sweep_pause, client_command_sweep_resume, client_command_sweep_show, client_command_top,
	client_command_undeploy, client_command_wait, client_command_watch;

#endif
