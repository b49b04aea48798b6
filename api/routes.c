/* api/routes.c - the table of routes, matching, and the code common to all routes.
 *
 * A pattern consists of segments; "{name}" matches exactly one. ":verb" at the end also matches as a separate
 * segment ("/verb"). One row per route: to add a route, write a handler and a row. The reference (web/docs/tables.c)
 * and the tests read this table. */
#include "internal.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define PAGE "limit cursor sort"
#define UPLOAD "size fit background orientation on_bad test_fraction split_seed names"

const struct api_route api_routes[] = {
	/* jobs */
	{"POST", "/v1/jobs", API_BODY_JSON, api_jobs_create,
     "Submit a job. With dry_run=true: check it, and answer with every default written out and what it would take.",
     "dry_run bench"},
	{"GET", "/v1/jobs", API_BODY_NONE, api_jobs_list, "List jobs, newest first.",
     PAGE " state queue dataset name q sweep fields label.*"},
	{"GET", "/v1/jobs/{id}", API_BODY_NONE, api_jobs_get,
     "One job: spec, state, progress, latest metrics, attempts. wait=30s holds the answer until=terminal or until=change.",
     "wait until fields"},
	{"PATCH", "/v1/jobs/{id}", API_BODY_JSON, api_jobs_patch,
     "Change name, labels, note or priority (JSON merge patch).", NULL},
	{"DELETE", "/v1/jobs/{id}", API_BODY_NONE, api_jobs_delete,
     "Delete a job that has ended, with its metrics, logs and checkpoints.", NULL},
	{"POST", "/v1/jobs/{id}:cancel", API_BODY_JSON, api_jobs_cancel,
     "Cancel: at once when queued or while only its profiles are searched, within one mini-batch when training; a checkpoint is kept. 200: it is cancelled; 202: it will be; 409: it has ended before.",
     NULL},
	{"POST", "/v1/jobs/{id}:pause", API_BODY_JSON, api_jobs_pause,
     "Pause: a job in training stores a checkpoint at once and frees its worker; one that has not begun is held. 200: it is paused or held; 202: it will be.",
     NULL},
	{"POST", "/v1/jobs/{id}:resume", API_BODY_JSON, api_jobs_resume,
     "Queue a paused or held job again; it goes on from its checkpoint with the same losses as if it had not paused.",
     NULL},
	{"POST", "/v1/jobs/{id}:hold", API_BODY_JSON, api_jobs_hold, "Hold a job that has not begun in the queue.", NULL},
	{"POST", "/v1/jobs/{id}:release", API_BODY_JSON, api_jobs_resume, "The same as resume.", NULL},
	{"POST", "/v1/jobs/{id}:retry", API_BODY_JSON, api_jobs_retry,
     "Queue a failed or cancelled job again, for a new attempt from its latest checkpoint.", NULL},
	{"POST", "/v1/jobs/{id}:clone", API_BODY_JSON, api_jobs_clone,
     "Submit a new job with this one's spec and the changes of the body (JSON merge patch).", "dry_run bench"},
	{"POST", "/v1/jobs:batch", API_BODY_JSON, api_jobs_batch,
     "Cancel, pause, resume, hold, release, retry or delete many jobs, by ids or by a filter; the result of each.",
     NULL},
	{"POST", "/v1/sweeps", API_BODY_JSON, api_sweeps_create,
     "Search the values of a spec: {template, space, search}; makes jobs of the template, its trials. With dry_run=true: check it and answer with the trials' values.",
     "dry_run"},
	{"GET", "/v1/sweeps", API_BODY_NONE, api_sweeps_list, "List sweeps, newest first.", PAGE " state"},
	{"GET", "/v1/sweeps/{id}", API_BODY_NONE, api_sweeps_get,
     "One sweep with its trials, the best first. wait=30s holds the answer until=terminal or until=change.",
     "wait until"},
	{"POST", "/v1/sweeps/{id}:pause", API_BODY_JSON, api_sweeps_pause,
     "Pause all trials: those in training store a checkpoint at once. 200: it is paused; 202: it will be.", NULL},
	{"POST", "/v1/sweeps/{id}:resume", API_BODY_JSON, api_sweeps_resume, "Go on with a paused sweep.", NULL},
	{"POST", "/v1/sweeps/{id}:cancel", API_BODY_JSON, api_sweeps_cancel,
     "Cancel a sweep and the trials that have not ended. 200: it is cancelled; 202: it will be.", NULL},
	{"DELETE", "/v1/sweeps/{id}", API_BODY_NONE, api_sweeps_delete,
     "Delete a sweep that has ended; with jobs=delete its jobs as well.", "jobs"},
	{"GET", "/v1/queues", API_BODY_NONE, api_queues_list,
     "The queues: limit, weight, whether paused, and how many jobs run and wait.", NULL},
	{"PATCH", "/v1/queues/{q}", API_BODY_JSON, api_queues_patch,
     "Change a queue's max_running, weight or paused (JSON merge patch); an unknown one is made.", NULL},
	{"DELETE", "/v1/queues/{q}", API_BODY_NONE, api_queues_delete,
     "Delete a queue in which no unfinished job is; \"default\" stays.", NULL},
	{"GET", "/v1/jobs/{id}/metrics", API_BODY_NONE, api_jobs_metrics,
     "Series per epoch, along the steps (train_loss_step, lr_step, images_per_s_step: at most 1,000 points each) and over time (cpu_percent, rss_bytes, disk_free_bytes), as JSON, CSV or NDJSON.",
     "names from_step max_points x format"},
	{"GET", "/v1/metrics:query", API_BODY_NONE, api_metrics_query,
     "Metrics of several jobs (jobs=ID,ID, default: the ten newest) on one axis: x=epoch, step, or time (seconds since a job's start); at most max_points=1000 of each.",
     "jobs names x max_points"},
	{"GET", "/v1/jobs/{id}/logs", API_BODY_NONE, api_jobs_logs,
     "Log lines as text or NDJSON; follow=1 goes on as they come.", "follow tail since level q attempt"},
	{"GET", "/v1/jobs/{id}/events", API_BODY_NONE, api_jobs_events,
     "The job's events as server-sent events: job.state, job.metric, job.log, job.checkpoint, job.sample and, about once a second, job.progress.",
     "last_event_id"},
	{"GET", "/v1/jobs/{id}/transitions", API_BODY_NONE, api_jobs_transitions, "State history and attempts.", NULL},
	{"GET", "/v1/jobs/{id}/report", API_BODY_NONE, api_jobs_report,
     "What the best checkpoint gets right and wrong on the held-out images (split=test: the test images), for each mode, searched ones too: confusion, accuracy per class, calibration, worst mistakes. 202 while it is computed; wait=60s waits. format=csv&mode=: a confusion matrix.",
     "wait split format mode"},
	{"GET", "/v1/jobs/{id}/checkpoints", API_BODY_NONE, api_jobs_checkpoints, "The job's checkpoints, newest first.",
     NULL},
	{"GET", "/v1/events", API_BODY_NONE, api_events_stream, "All events as server-sent events.",
     "topics last_event_id"},
	/* checkpoints */
	{"GET", "/v1/checkpoints/{id}", API_BODY_NONE, api_checkpoints_get, "One checkpoint: epoch, metrics, size, digest.",
     NULL},
	{"PATCH", "/v1/checkpoints/{id}", API_BODY_JSON, api_checkpoints_patch,
     "Pin or unpin: {\"pinned\":true} keeps it from retention.", NULL},
	{"DELETE", "/v1/checkpoints/{id}", API_BODY_NONE, api_checkpoints_delete, "Delete a checkpoint that nothing uses.",
     NULL},
	{"GET", "/v1/checkpoints/{id}/file", API_BODY_NONE, api_checkpoints_file,
     "Download: format=safetensors (weights and statistics of every mode), onnx (one mode as it is deployed), or wasd (as stored, with the state of the run).",
     "format mode"},
	{"GET", "/v1/checkpoints/{id}/layers", API_BODY_NONE, api_checkpoints_layers,
     "What the weights of each layer are: how many there are, and how many of them are alive.", NULL},
	{"GET", "/v1/checkpoints/{id}/layers/{layer}", API_BODY_NONE, api_checkpoints_layer,
     "The kernels of a layer, null for each weight that was removed.", "output outputs input inputs"},
	{"GET", "/v1/checkpoints/{id}/modes", API_BODY_NONE, api_modes_list,
     "The checkpoint's modes: aom, dom, slim and those made of it later, with kind, state, accuracy, multiply-adds, bytes and speed. wait=30s holds the answer while any is being made.",
     "wait"},
	{"POST", "/v1/checkpoints/{id}/modes", API_BODY_JSON, api_modes_create,
     "Make a mode of the checkpoint: {\"desire\":\"int8\"}, or what else the mode_kinds of /v1/capabilities offer, with its options, name and dataset.",
     NULL},
	{"POST", "/v1/checkpoints/{id}/modes:measure", API_BODY_JSON, api_modes_measure,
     "Measure accuracy, bytes and speed of the checkpoint's own modes, as served here: {} or {\"dataset\":NAME}.",
     NULL},
	{"DELETE", "/v1/checkpoints/{id}/modes:measure", API_BODY_NONE, api_modes_measure_stop,
     "End the measuring of the checkpoint's own modes, or forget that it failed.", NULL},
	{"GET", "/v1/checkpoints/{id}/modes/{m}", API_BODY_NONE, api_modes_get,
     "One mode, with its progress (done, of, eta_s) while it is made. wait=30s holds the answer until that is over.",
     "wait"},
	{"DELETE", "/v1/checkpoints/{id}/modes/{m}", API_BODY_NONE, api_modes_delete,
     "Delete a mode that was made and that no deployment answers with; a making that runs is ended.", NULL},
	{"POST", "/v1/checkpoints/{id}/profiles", API_BODY_JSON, api_profiles_create,
     "Search a draw for a desire: {\"desire\":\"macs\",\"budget\":0.7} of AOM's multiply-adds, {\"desire\":\"latency\",\"budget_us\":900}, or a given {\"draw\":[]}. Judged on validation images.",
     NULL},
	{"GET", "/v1/checkpoints/{id}/profiles", API_BODY_NONE, api_profiles_list,
     "The checkpoint's profiles, newest first: multiply-adds, accuracy and speed of each, and of aom.", NULL},
	{"GET", "/v1/checkpoints/{id}/profiles/{p}", API_BODY_NONE, api_profiles_get,
     "One profile, with its progress (done, of, eta_s) while it is searched. wait=30s holds the answer until that is over.",
     "wait"},
	{"DELETE", "/v1/checkpoints/{id}/profiles/{p}", API_BODY_NONE, api_profiles_delete,
     "Delete a profile that no deployment answers with; a search that runs is ended.", NULL},
	{"GET", "/v1/checkpoints", API_BODY_NONE, api_checkpoints_list, "The imported checkpoints, newest first.", NULL},
	{"POST", "/v1/checkpoints", API_BODY_JSON, api_checkpoints_import,
     "Make a checkpoint of a blob: {\"blob\":SHA256,\"model\":{},\"classes\":[],\"input\":[c,h,w]}; what the file's metadata say may be left out.",
     NULL},
	{"POST", "/v1/checkpoints:merge", API_BODY_JSON, api_merges_create,
     "Mix checkpoints of one network: {\"checkpoints\":[ID,ID],\"weights\":[0.5,0.5],\"align\":\"weights\",\"path\":11}. Channels are matched first, statistics measured afterwards.",
     NULL},
	{"GET", "/v1/merges", API_BODY_NONE, api_merges_list, "The merges, newest first.", NULL},
	{"GET", "/v1/merges/{id}", API_BODY_NONE, api_merges_get,
     "One merge: state, progress, then its checkpoint and the path. wait=30s holds the answer until it has ended.",
     "wait"},
	{"DELETE", "/v1/merges/{id}", API_BODY_NONE, api_merges_delete,
     "Cancel a merge that runs, or forget one that has ended; its checkpoint stays.", NULL},
	{"POST", "/v1/checkpoints:archive", API_BODY_JSON, api_archives_create,
     "Put checkpoints of one network into one tar, with views of each: {\"jobs\":[ID],\"which\":\"best\",\"views\":[{\"type\":\"noise\"},{\"type\":\"mixup\"}],\"per_checkpoint\":4,\"seed\":1}.",
     NULL},
	{"GET", "/v1/archives", API_BODY_NONE, api_archives_list, "The archives, newest first.", NULL},
	{"GET", "/v1/archives/{id}", API_BODY_NONE, api_archives_get,
     "One archive: state, progress, then its size. wait=30s holds the answer until it has ended.", "wait"},
	{"GET", "/v1/archives/{id}/file", API_BODY_NONE, api_archives_file, "The tar: weights, specs and checkpoints.csv.",
     NULL},
	{"DELETE", "/v1/archives/{id}", API_BODY_NONE, api_archives_delete,
     "Cancel an archive that is being made, or remove it.", NULL},
	{"PUT", "/v1/blobs/{sha256}", API_BODY_UPLOAD, api_blobs_put,
     "Send a file to be used by a later request: curl -T model.safetensors. It is kept for a day.", NULL},
	{"GET", "/v1/blobs/{sha256}", API_BODY_NONE, api_blobs_get, "The file again; HEAD says whether it is there.", NULL},
	/* datasets */
	{"PUT", "/v1/datasets/{name}", API_BODY_UPLOAD, api_datasets_put,
     "Register an archive sent as the body: curl -T FILE. New bytes make a new version.", "wait " UPLOAD},
	{"POST", "/v1/datasets", API_BODY_UPLOAD, api_datasets_post,
     "Register files sent as multipart/form-data, or make a synthetic set from JSON.", "wait " UPLOAD},
	{"GET", "/v1/datasets", API_BODY_NONE, api_datasets_list, "List datasets, the latest version of each.",
     PAGE " state"},
	{"GET", "/v1/datasets/{name}", API_BODY_NONE, api_datasets_get,
     "The latest version. wait=60s holds the answer while it is being scanned.", "wait"},
	{"DELETE", "/v1/datasets/{name}", API_BODY_NONE, api_datasets_delete,
     "Delete all versions of a dataset that no unfinished job uses.", NULL},
	{"GET", "/v1/datasets/{name}/versions", API_BODY_NONE, api_datasets_versions, "List the versions of a dataset.",
     PAGE " state"},
	{"GET", "/v1/datasets/{name}/versions/{v}", API_BODY_NONE, api_datasets_version, "One version.", "wait"},
	{"DELETE", "/v1/datasets/{name}/versions/{v}", API_BODY_NONE, api_datasets_delete, "Delete one version.", NULL},
	{"GET", "/v1/datasets/{name}/preview", API_BODY_NONE, api_datasets_preview,
     "One image of the set as PNG; its label is in the headers.", "i split version"},
	/* serving */
	{"POST", "/v1/deployments", API_BODY_JSON, api_deployments_create,
     "Serve a checkpoint, or a job's best or latest one.", "wait"},
	{"GET", "/v1/deployments", API_BODY_NONE, api_deployments_list, "List deployments.", PAGE " state"},
	{"GET", "/v1/deployments/{d}", API_BODY_NONE, api_deployments_get,
     "One deployment. wait=30s holds the answer while it is loading.", "wait"},
	{"GET", "/v1/deployments/{d}/stats", API_BODY_NONE, api_deployments_stats,
     "Requests, times and batch sizes since the daemon started, those of the last window=5m by mode, and the shadow's agreement.",
     "window"},
	{"PATCH", "/v1/deployments/{d}", API_BODY_JSON, api_deployments_patch,
     "Change it while it serves (JSON merge patch): source swaps to another checkpoint without a gap; mode, batching, queue, limits, required. wait=30s holds the answer until the swap.",
     "wait"},
	{"DELETE", "/v1/deployments/{d}", API_BODY_NONE, api_deployments_delete,
     "Stop serving: 202 while requests in flight are answered, then it is gone.", NULL},
	{"POST", "/v1/deployments/{d}:reload", API_BODY_JSON, api_deployments_reload,
     "Load it again now: after a failure or a suspension.", NULL},
	{"POST", "/v1/deployments/{d}:rollback", API_BODY_JSON, api_deployments_rollback,
     "Go back to the checkpoint before the last swap.", "wait"},
	{"GET", "/v1/deployments/{d}/mode", API_BODY_NONE, api_mode_get,
     "The mode (aom, dom, slim or FAMILY:NAME), its generation, and what each mode costs.", NULL},
	{"PUT", "/v1/deployments/{d}/mode", API_BODY_JSON, api_mode_put,
     "Switch the mode of the live model: {\"mode\":\"dom\"}, \"slim\" or \"FAMILY:NAME\", or by a wish: {\"mode\":{\"within_us\":900}}, {\"mode\":{\"min_accuracy\":0.9}}. If-Match is optional.",
     NULL},
	{"POST", "/v1/deployments/{d}/mode:rollback", API_BODY_JSON, api_mode_rollback,
     "Go back to the mode before the last switch.", NULL},
	{"GET", "/v1/deployments/{d}/traffic", API_BODY_NONE, api_traffic_get,
     "What happens to requests that name no mode: split, shadow, limits of auto and cascade, and what they do now. wait=60s holds the answer while a cascade is tuned.",
     "wait"},
	{"PUT", "/v1/deployments/{d}/traffic", API_BODY_JSON, api_traffic_put,
     "Replace it: {\"split\":{\"aom\":90,\"dom\":10},\"sticky_header\":\"X-User\",\"shadow\":{\"mode\":\"dom\",\"percent\":5}}; {} ends it.",
     NULL},
	{"POST", "/v1/deployments/{d}/cascade:tune", API_BODY_JSON, api_cascade_tune,
     "Find the threshold of the cascade on validation images, in the background: {\"cheap\":\"dom\",\"keep\":0.99} of aom's accuracy.",
     NULL},
	{"GET", "/v1/deployments/{d}/shadow/examples/{i}", API_BODY_NONE, api_traffic_example,
     "An image on which the shadow differed from the answer: PNG or JPEG as it came, or float32 pixels.", NULL},
	{"POST", "/v1/deployments/{d}/classify", API_BODY_BULK, api_deployments_classify,
     "Classify images: raw PNG or JPEG, multipart, or {\"images\":[base64]}.", "k mode logits priority timeout"},
	{"PUT", "/v1/deployments/{d}/classify", API_BODY_BULK, api_deployments_classify, "The same, for curl -T.",
     "k mode logits priority timeout"},
	/* registry */
	{"POST", "/v1/models", API_BODY_JSON, api_models_create, "Register a name for models.", NULL},
	{"GET", "/v1/models", API_BODY_NONE, api_models_list, "List the registered models.", PAGE},
	{"GET", "/v1/models/{model}", API_BODY_NONE, api_models_get, "One model with its aliases.", NULL},
	{"PATCH", "/v1/models/{model}", API_BODY_JSON, api_models_patch, "Change its note.", NULL},
	{"DELETE", "/v1/models/{model}", API_BODY_NONE, api_models_delete,
     "Delete a model with its versions and aliases, unless a deployment uses it.", NULL},
	{"POST", "/v1/models/{model}/versions", API_BODY_JSON, api_versions_create,
     "Add a version: a checkpoint, a job's best or latest one, or a blob.", NULL},
	{"GET", "/v1/models/{model}/versions", API_BODY_NONE, api_versions_list, "Its versions, newest first.", PAGE},
	{"GET", "/v1/models/{model}/versions/{n}", API_BODY_NONE, api_versions_get, "One version with its lineage.", NULL},
	{"DELETE", "/v1/models/{model}/versions/{n}", API_BODY_NONE, api_versions_delete,
     "Delete a version that no alias and no deployment names.", NULL},
	{"GET", "/v1/models/{model}/aliases/{a}", API_BODY_NONE, api_aliases_get, "The version that an alias names.", NULL},
	{"PUT", "/v1/models/{model}/aliases/{a}", API_BODY_JSON, api_aliases_put,
     "Set or move an alias: {\"version\":2}. Deployments that follow it swap.", NULL},
	{"DELETE", "/v1/models/{model}/aliases/{a}", API_BODY_NONE, api_aliases_delete, "Delete an alias.", NULL},
	{"GET", "/v1/models/{model}/aliases/{a}/history", API_BODY_NONE, api_aliases_history,
     "Every move of an alias, newest first.", PAGE},
	/* Open Inference Protocol */
	{"GET", "/v2", API_BODY_NONE, api_v2_server, "Server metadata.", NULL},
	{"GET", "/v2/health/live", API_BODY_NONE, api_v2_live, "Is the daemon alive?", NULL},
	{"GET", "/v2/health/ready", API_BODY_NONE, api_v2_ready, "Is every deployment ready?", NULL},
	{"GET", "/v2/models", API_BODY_NONE, api_v2_models, "Names of the deployments.", NULL},
	{"GET", "/v2/models/stats", API_BODY_NONE, api_v2_stats, "Statistics of every model, as Triton tells them.", NULL},
	{"GET", "/v2/models/{m}", API_BODY_NONE, api_v2_model, "Model metadata: inputs and outputs.", NULL},
	{"GET", "/v2/models/{m}/versions/{v}", API_BODY_NONE, api_v2_model,
     "The same for one version (\"3\" or \"3-dom\").", NULL},
	{"GET", "/v2/models/{m}/ready", API_BODY_NONE, api_v2_model_ready, "Is the model ready?", NULL},
	{"GET", "/v2/models/{m}/versions/{v}/ready", API_BODY_NONE, api_v2_model_ready, "Is that version ready?", NULL},
	{"GET", "/v2/models/{m}/config", API_BODY_NONE, api_v2_config, "Model configuration in Triton's form.", NULL},
	{"GET", "/v2/models/{m}/versions/{v}/config", API_BODY_NONE, api_v2_config, "The same for one version.", NULL},
	{"GET", "/v2/models/{m}/stats", API_BODY_NONE, api_v2_model_stats, "Statistics of one model.", NULL},
	{"GET", "/v2/models/{m}/versions/{v}/stats", API_BODY_NONE, api_v2_model_stats, "The same for one version.", NULL},
	{"POST", "/v2/repository/index", API_BODY_JSON, api_v2_index, "The models and whether they are ready.", NULL},
	{"POST", "/v2/repository/models/{m}/load", API_BODY_JSON, api_v2_load,
     "Load a deployment (again) and answer when it is ready.", NULL},
	{"POST", "/v2/repository/models/{m}/unload", API_BODY_JSON, api_v2_unload,
     "Unload a deployment, which stays and can be loaded again.", NULL},
	{"GET", "/v2/logging", API_BODY_NONE, api_v2_not_offered, "Not offered: 501.", NULL},
	{"POST", "/v2/logging", API_BODY_JSON, api_v2_not_offered, "Not offered: 501.", NULL},
	{"GET", "/v2/trace/setting", API_BODY_NONE, api_v2_not_offered, "Not offered: 501.", NULL},
	{"POST", "/v2/trace/setting", API_BODY_JSON, api_v2_not_offered, "Not offered: 501.", NULL},
	{"GET", "/v2/systemsharedmemory/status", API_BODY_NONE, api_v2_not_offered, "Not offered: 501.", NULL},
	{"POST", "/v2/systemsharedmemory/region/{x}/register", API_BODY_JSON, api_v2_not_offered, "Not offered: 501.",
     NULL},
	{"POST", "/v2/systemsharedmemory/unregister", API_BODY_JSON, api_v2_not_offered, "Not offered: 501.", NULL},
	{"GET", "/v2/cudasharedmemory/status", API_BODY_NONE, api_v2_not_offered, "Not offered: 501.", NULL},
	{"POST", "/v2/cudasharedmemory/region/{x}/register", API_BODY_JSON, api_v2_not_offered, "Not offered: 501.", NULL},
	{"POST", "/v2/cudasharedmemory/unregister", API_BODY_JSON, api_v2_not_offered, "Not offered: 501.", NULL},
	{"POST", "/v2/models/{m}/infer", API_BODY_BULK, api_v2_infer, "Infer with JSON or binary tensors, or pictures.",
     "mode"},
	{"POST", "/v2/models/{m}/versions/{v}/infer", API_BODY_BULK, api_v2_infer,
     "The same; version \"3-dom\" or \"3-FAMILY:NAME\" chooses the mode.", "mode"},
	/* other servers' protocols */
	{"POST", "/v1/models/{model}:predict", API_BODY_BULK, api_kserve_predict,
     "KServe v1 and TensorFlow Serving: {\"instances\":[]} of numbers or {\"b64\":IMAGE}; answers the probabilities.",
     "mode"},
	{"POST", "/predictions/{m}", API_BODY_BULK, api_torchserve_predict,
     "TorchServe: an image raw or as a form, or a JSON tensor; answers the likeliest classes.", "k mode"},
	{"PUT", "/predictions/{m}", API_BODY_BULK, api_torchserve_predict, "The same, for curl -T.", "k mode"},
	{"POST", "/predictions/{m}/{v}", API_BODY_BULK, api_torchserve_predict, "The same for one version.", "k mode"},
	{"PUT", "/predictions/{m}/{v}", API_BODY_BULK, api_torchserve_predict, "The same for one version.", "k mode"},
	{"GET", "/ping", API_BODY_NONE, api_torchserve_ping, "TorchServe: does every deployment answer?", NULL},
	/* MLflow, reading */
	{"POST", "/api/2.0/mlflow/experiments/search", API_BODY_JSON, api_mlflow_experiments,
     "For MLflow's client: the one experiment, \"wasd\".", NULL},
	{"GET", "/api/2.0/mlflow/experiments/get", API_BODY_NONE, api_mlflow_experiment, "The experiment by its id, 0.",
     "experiment_id"},
	{"GET", "/api/2.0/mlflow/experiments/get-by-name", API_BODY_NONE, api_mlflow_experiment,
     "The experiment by its name.", "experiment_name"},
	{"POST", "/api/2.0/mlflow/runs/search", API_BODY_JSON, api_mlflow_runs,
     "The jobs as runs: filter, order_by, max_results, page_token.", NULL},
	{"GET", "/api/2.0/mlflow/runs/get", API_BODY_NONE, api_mlflow_run, "One job as a run.", "run_id run_uuid"},
	{"GET", "/api/2.0/mlflow/metrics/get-history", API_BODY_NONE, api_mlflow_history, "One series of a job.",
     "run_id run_uuid metric_key max_results page_token"},
	/* the daemon */
	{"GET", "/v1/audit", API_BODY_NONE, api_audit_list, "Who changed what, append-only.", PAGE " object actor since"},
	{"POST", "/v1/webhooks", API_BODY_JSON, api_webhooks_create,
     "Send events to a URL: {\"url\",\"events\":[\"job.state\"],\"secret\",\"active\"}. Without a secret the daemon makes one and shows it in this answer only.",
     NULL},
	{"GET", "/v1/webhooks", API_BODY_NONE, api_webhooks_list, "The webhooks, without their secrets.", NULL},
	{"GET", "/v1/webhooks/{hook}", API_BODY_NONE, api_webhooks_get, "One webhook: how far it has come, what fails.",
     NULL},
	{"PATCH", "/v1/webhooks/{hook}", API_BODY_JSON, api_webhooks_patch,
     "Change url, events, secret or active (JSON merge patch); the next event is then sent at once.", NULL},
	{"DELETE", "/v1/webhooks/{hook}", API_BODY_NONE, api_webhooks_delete, "Send no more events to it.", NULL},
	{"POST", "/v1/webhooks/{hook}:test", API_BODY_NONE, api_webhooks_test,
     "Send an event webhook.test at once; the answer says how it went.", NULL},
	{"GET", "/v1/webhooks/{hook}/deliveries", API_BODY_NONE, api_webhooks_deliveries,
     "The last 100 attempts, newest first: event, attempt, status, error, duration.", "limit cursor sort"},
	{"POST", "/v1/admin/backup", API_BODY_JSON, api_backup_start,
     "Copy everything that is stored to a new directory, {\"path\":\"/backup/today\"} or one in the data directory, and check the copy. 201: done; 202: it runs; wait=60s waits for it.",
     "wait"},
	{"GET", "/v1/admin/backup", API_BODY_NONE, api_backup_get, "The backup that runs or was made last.", "wait"},
	{"GET", "/v1/storage", API_BODY_NONE, api_storage_get,
     "What takes the room: bytes by kind, both databases with their unused pages, the disk, and the top=10 jobs.",
     "top"},
	{"POST", "/v1/storage:gc", API_BODY_NONE, api_storage_gc,
     "Give back what nothing uses: blobs older than blob_age_s=3600, files and payloads without a row, unused pages. With dry_run=1: only tell.",
     "dry_run blob_age_s"},
	{"GET", "/v1/system", API_BODY_NONE, api_system_get, "Workers, storage, versions, limits.", NULL},
	{"GET", "/v1/capabilities", API_BODY_NONE, api_capabilities_get,
     "Architectures, transforms, optimizers, schedules and their options.", NULL},
	{"GET", "/v1/capabilities/archs/{arch}", API_BODY_NONE, api_networks_get,
     "One network layer by layer: shapes, parameters, multiply-adds, what is augmented. input=3x32x32, classes=10 and model.OPTION=N are where it begins.",
     "input classes model.*"},
	{"GET", "/healthz", API_BODY_NONE, api_healthz, "Is the daemon able to work?", NULL},
	{"GET", "/metrics", API_BODY_NONE, api_metrics_text, "Prometheus text.", NULL},
	{0},
};

/* ---- matching ---- */

static void add_method(char allow[64], const char *method)
{
	size_t n = strlen(allow);
	if (!strstr(allow, method))
		snprintf(allow + n, 64 - n, "%s%s", n ? ", " : "", method);
}

const struct api_route *api_route_find(const char *method, const char *path, char allow[64])
{
	if (!strcmp(method, "HEAD"))
		method = "GET";
	allow[0] = 0;
	for (const struct api_route *rt = api_routes; rt->method; rt++) {
		if (!api_path_match(rt->pattern, path, NULL, NULL, NULL))
			continue;
		if (!strcmp(rt->method, method))
			return rt;
		add_method(allow, rt->method);
		if (!strcmp(rt->method, "GET"))
			add_method(allow, "HEAD");
	}
	return NULL;
}

/* ---- checks for all routes ---- */

static bool name_listed(const char *list, const char *name)
{
	for (const char *s = list; s && *s; s += strcspn(s, " "), s += *s == ' ') {
		size_t n = strcspn(s, " ");
		bool prefix = n > 1 && s[n - 1] == '*';
		if (prefix ? !strncmp(name, s, n - 1) && name[n - 1] : !strncmp(name, s, n) && !name[n])
			return true;
	}
	return false;
}

static bool query_ok(const struct api_route *rt, const struct api_request *q, struct api_response *r)
{
	/* The inference protocol allows additional query parameters. */
	for (size_t i = 0; i < q->n_query && !api_on_v2(q); i++) {
		if (name_listed(rt->query, q->query[i].name))
			continue;
		api_send_problem(q, r, "unknown_parameter", q->query[i].name,
		                 "%s %s has no query parameter \"%.60s\"; it takes: %s", rt->method, rt->pattern,
		                 q->query[i].name, rt->query ? rt->query : "none");
		return false;
	}
	for (size_t i = 0; i < q->n_query && !api_on_v2(q); i++)
		for (size_t k = i + 1; k < q->n_query; k++) {
			if (strcmp(q->query[i].name, q->query[k].name))
				continue;
			api_send_problem(q, r, "bad_parameter", q->query[i].name, "query parameter %.60s is there twice",
			                 q->query[i].name);
			return false;
		}
	return true;
}

/* A browser sends the origin of a request. Writes from pages of other sites are refused; programs send neither
 * header. */
static bool origin_ok(const struct api_request *q, struct api_response *r)
{
	const char *site = api_header(q, "sec-fetch-site"), *origin = api_header(q, "origin"),
			   *host = api_header(q, "host");
	if (!strcmp(q->method, "GET"))
		return true;
	bool same = true;
	if (site) {
		same = !strcmp(site, "same-origin") || !strcmp(site, "none");
	} else if (origin) {
		const char *rest = strstr(origin, "://");
		same = rest && host && !strcasecmp(rest + 3, host);
	}
	if (!same)
		api_send_problem(q, r, "cross_origin", NULL, "a page of %.100s may not send %s %s",
		                 origin ? origin : "another site", q->method, q->path);
	return same;
}

/* The response to a GET of the same resource now (for ":verb", of the resource itself); If-Match is compared with
 * its ETag. */
static void current(struct api_ctx *c, const struct api_request *q, struct api_response *out)
{
	char path[1024], allow[64];
	snprintf(path, sizeof path, "%s", q->path);
	char *colon = strrchr(path, ':');
	if (colon && !strchr(colon, '/'))
		*colon = 0;
	struct api_request get = *q;
	const struct api_route *rt = api_route_find("GET", path, allow);
	get.method = "GET", get.path = path, get.query = NULL, get.n_query = 0, get.body_len = 0;
	get.headers = NULL, get.n_headers = 0, get.waited = 0;
	if (rt)
		api_handle(c, rt, &get, out);
}

static bool precondition_ok(struct api_ctx *c, const struct api_request *q, struct api_response *r)
{
	const char *match_list = api_header(q, "if-match"), *none = api_header(q, "if-none-match");
	if (!strcmp(q->method, "GET") || q->waited || (!match_list && !none))
		return true;
	struct api_response now;
	api_response_init(&now);
	current(c, q, &now);
	const char *etag = now.status == 200 ? api_response_header(&now, "ETag") : NULL;
	bool ok = (!match_list || (etag && api_etag_listed(match_list, etag, true))) &&
	          (!none || !etag || !api_etag_listed(none, etag, false));
	if (!ok) {
		api_send_problem(q, r, "stale", NULL, "%s %.200s does not fit the current ETag %s",
		                 match_list ? "If-Match" : "If-None-Match", match_list ? match_list : none,
		                 etag ? etag : "(there is no such object)");
		if (etag)
			api_set_header(r, "ETag", "%s", etag);
	}
	api_response_done(&now);
	return ok;
}

/* An edit with a condition holds it alone, so that no other edit changes the object between the comparison and the
 * change; those without a condition share it. */
static pthread_rwlock_t edits = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

/* What replaces, changes or deletes an object at once: uploads, images and POST may take long, or wait for others. */
static bool is_edit(const struct api_route *rt)
{
	return strcmp(rt->method, "GET") && strcmp(rt->method, "POST") && rt->body != API_BODY_BULK &&
	       rt->body != API_BODY_UPLOAD;
}

/* Adds a strong ETag of the body, and answers 304 when the client has it. */
static void finish_get(const struct api_request *q, struct api_response *r)
{
	if (strcmp(q->method, "GET") || r->status != 200 || r->events.on || r->follow_log.on)
		return;
	const char *etag = api_response_header(r, "ETag"), *have = api_header(q, "if-none-match");
	if (!etag && r->etag_auto && !r->source.read) {
		char hex[WASD_SHA256_HEX];
		wasd_sha256_of(r->body.data, r->body.len, hex);
		api_set_header(r, "ETag", "\"%.24s\"", hex);
		etag = api_response_header(r, "ETag");
	}
	if (!etag || !have || r->always_whole || !api_etag_listed(have, etag, false))
		return;
	if (r->source.done)
		r->source.done(r->source.ctx);
	r->source = (struct api_source){0};
	r->body.len = 0;
	r->status = 304;
}

enum api_result api_handle(struct api_ctx *c, const struct api_route *rt, const struct api_request *q,
                           struct api_response *r)
{
	enum api_result res = API_DONE;
	if (!query_ok(rt, q, r) || !origin_ok(q, r))
		goto done;
	if (rt->body == API_BODY_NONE && q->body_len) {
		api_send_problem(q, r, "body_not_allowed", NULL, "%s %s takes no body, %zu bytes were sent", rt->method,
		                 rt->pattern, q->body_len);
		goto done;
	}
	bool edit = is_edit(rt);
	if (edit && (api_header(q, "if-match") || api_header(q, "if-none-match")))
		pthread_rwlock_wrlock(&edits);
	else if (edit)
		pthread_rwlock_rdlock(&edits);
	/* The mode and the traffic policy have a compare-and-switch of their own, also against what the daemon does. */
	if (rt->handle == api_mode_put || rt->handle == api_mode_rollback || rt->handle == api_traffic_put ||
	    rt->handle == api_cascade_tune || precondition_ok(c, q, r)) {
		struct api_request routed = *q;
		routed.route = rt;
		res = rt->handle(c, &routed, r);
	}
	if (edit)
		pthread_rwlock_unlock(&edits);
	if (res == API_DONE)
		finish_get(q, r);
done:
	r->etag_auto = false;
	return res;
}
