/* tests/api/bad_requests.c - requests that must be refused: each with its exact status and code, and a message that
 * names the culprit. tests/server and tests/e2e test the refusals of the connection. */
#include "harness.h"

struct bad {
	int status;
	const char *code, *method, *url, *body, *culprit /* in the detail */, *pointer /* of errors[0], NULL = any */;
};

#define JOB(rest) "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"}" rest "}"

static const struct bad cases[] = {
	/* paths and methods */
	{404, "not_found", "GET", "/v1/nothing", NULL, "/v1/nothing", NULL},
	{404, "not_found", "GET", "/v1", NULL, "/v1", NULL},
	{404, "not_found", "POST", "/v1/jobs/job_x:dance", "{}", ":dance", NULL},
	{405, "method_not_allowed", "PUT", "/v1/jobs", "{}", "it takes POST, GET, HEAD", NULL},
	{405, "method_not_allowed", "POST", "/v1/deployments/live", "{}", "GET, HEAD, PATCH, DELETE", NULL},
	{405, "method_not_allowed", "GET", "/v1/jobs/job_x/cancel", NULL, "it takes POST", NULL},
	{405, "method_not_allowed", "DELETE", "/v1/system", NULL, "/v1/system", NULL},
	/* query parameters */
	{400, "unknown_parameter", "GET", "/v1/jobs?page=2", NULL, "\"page\"", "page"},
	{400, "unknown_parameter", "GET", "/v1/jobs?Limit=2", NULL, "\"Limit\"", "Limit"},
	{400, "unknown_parameter", "POST", "/v1/jobs?dryrun=true", JOB(""), "\"dryrun\"; it takes: dry_run bench",
     "dryrun"},
	{400, "unknown_parameter", "GET", "/v1/jobs?label.=x", NULL, "label.", "label."},
	{400, "bad_parameter", "GET", "/v1/jobs?limit=0", NULL, "limit must be a whole number from 1 to 500, not \"0\"",
     "limit"},
	{400, "bad_parameter", "GET", "/v1/jobs?limit=501", NULL, "501", "limit"},
	{400, "bad_parameter", "GET", "/v1/jobs?limit=ten", NULL, "ten", "limit"},
	{400, "bad_parameter", "GET", "/v1/jobs?limit=99999999999999999999", NULL, "limit", "limit"},
	{400, "bad_parameter", "GET", "/v1/jobs?limit=1&limit=2", NULL, "limit is there twice", "limit"},
	{400, "bad_parameter", "GET", "/v1/jobs?sort=name", NULL, "sort must be -created_at or created_at, not \"name\"",
     "sort"},
	{400, "bad_parameter", "GET", "/v1/jobs?cursor=../../x", NULL, "cursor", "cursor"},
	{400, "bad_parameter", "GET", "/v1/jobs?state=queued,sleeping", NULL, "\"sleeping\" is not a job state", "state"},
	{400, "bad_parameter", "GET", "/v1/datasets?state=broken", NULL, "broken", "state"},
	{400, "bad_parameter", "GET", "/v1/deployments?state=up", NULL, "up", "state"},
	{400, "bad_parameter", "GET", "/v1/jobs/JOB?wait=forever", NULL, "wait must be a time such as 30s", "wait"},
	{400, "bad_parameter", "GET", "/v1/jobs/JOB?wait=121s", NULL, "at most 120s", "wait"},
	{400, "bad_parameter", "GET", "/v1/jobs/JOB?wait=-1s", NULL, "-1s", "wait"},
	{400, "bad_parameter", "GET", "/v1/jobs/JOB?until=done", NULL, "until must be terminal or change", "until"},
	{400, "bad_parameter", "POST", "/v1/jobs?dry_run=yes", JOB(""), "dry_run must be true or false, not \"yes\"",
     "dry_run"},
	{400, "bad_parameter", "GET", "/v1/jobs/JOB/logs?tail=0", NULL, "tail", "tail"},
	{400, "bad_parameter", "GET", "/v1/jobs/JOB/logs?since=yesterday", NULL, "since", "since"},
	{400, "bad_parameter", "GET", "/v1/jobs/JOB/logs?since=2026-02-30T00:00:00Z", NULL, "since", "since"},
	{400, "bad_parameter", "GET", "/v1/jobs/JOB/logs?level=loud", NULL, "loud", "level"},
	{400, "bad_parameter", "GET", "/v1/jobs/JOB/metrics?format=xml", NULL, "json, csv or ndjson", "format"},
	{400, "bad_parameter", "GET", "/v1/jobs/JOB/metrics?from_step=-1", NULL, "from_step", "from_step"},
	{400, "bad_parameter", "GET", "/v1/events?topics=jobs,weather", NULL, "\"weather\"", "topics"},
	{400, "bad_parameter", "GET", "/v1/events?last_event_id=12x", NULL, "12x", "last_event_id"},
	{400, "bad_parameter", "GET", "/v1/datasets/data/preview?i=100", NULL, "100 train images", "i"},
	{400, "bad_parameter", "GET", "/v1/datasets/data/preview?i=-1", NULL, "i must be", "i"},
	{400, "bad_parameter", "GET", "/v1/datasets/data/preview?split=valid", NULL, "train, test or val", "split"},
	{400, "bad_parameter", "GET", "/v1/audit?since=1970", NULL, "since", "since"},
	{400, "bad_parameter", "GET", "/v1/checkpoints/CKPT/file?format=pt", NULL, "safetensors, onnx or wasd", "format"},
	{400, "bad_parameter", "GET", "/v1/checkpoints/CKPT/file?mode=dom", NULL, "holds every mode", "mode"},
	{400, "bad_parameter", "GET", "/v1/checkpoints/CKPT/file?format=onnx&mode=both", NULL,
     "aom, dom, slim or FAMILY:NAME", "mode"},
	{422, "unsupported", "GET", "/v1/checkpoints/CKPT/file?format=onnx&mode=dom:none", NULL,
     "no mode dom:none; the modes of checkpoint", "mode"},
	{400, "bad_parameter", "GET", "/v1/checkpoints/CKPT/file?format=wasd&mode=aom", NULL, "holds every mode", "mode"},
	{400, "body_not_allowed", "GET", "/v1/jobs", "{}", "takes no body", NULL},
	{400, "body_not_allowed", "DELETE", "/v1/jobs/JOB", "{}", "takes no body", NULL},
	/* JSON itself */
	{400, "body_required", "POST", "/v1/jobs", NULL, "needs a JSON body", NULL},
	{400, "bad_json", "POST", "/v1/jobs", "{", "byte", NULL},
	{400, "bad_json", "POST", "/v1/jobs", "{} {}", "after the end", NULL},
	{400, "bad_json", "POST", "/v1/jobs", "\xef\xbb\xbf{}", "", NULL},
	{400, "bad_json", "POST", "/v1/jobs", "{\"note\":\"\xff\"}", "", "/note"},
	{400, "bad_json", "POST", "/v1/jobs", "{\"note\":\"a\\u0000b\"}", "", "/note"},
	{400, "bad_json", "POST", "/v1/jobs", "{\"note\":\"a\nb\"}", "", "/note"},
	{400, "bad_json", "POST", "/v1/jobs", "{\"train\":{\"epochs\":01}}", "number", "/train/epochs"},
	{400, "bad_json", "POST", "/v1/jobs", "{\"train\":{\"lr\":1e999}}", "too large", "/train/lr"},
	{400, "bad_json", "POST", "/v1/jobs", "{\"train\":{\"batch\":NaN}}", "not a JSON value", "/train/batch"},
	{400, "bad_json", "POST", "/v1/jobs", "{\"note\":\"a\",\"note\":\"b\"}", "duplicate member name", "/note"},
	{400, "bad_json", "POST", "/v1/jobs", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
     "32 levels", NULL},
	{422, "invalid_field", "POST", "/v1/jobs", "[]", "must be a JSON object", NULL},
	{422, "invalid_field", "POST", "/v1/jobs", "null", "must be a JSON object", NULL},
	{422, "invalid_field", "PATCH", "/v1/jobs/JOB", "\"x\"", "must be a JSON object", NULL},
	/* the job spec */
	{422, "invalid_field", "POST", "/v1/jobs", "{}", "/dataset is missing", "/dataset"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"data\"}", "/model is missing", "/model"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{}}",
     "lenet, vgg16 or resnet18, not left out", "/model/arch"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"arch\":\"alexnet\"}}",
     "not \"alexnet\"", "/model/arch"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":\"resnet18\"}",
     "/model must be an object", "/model"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"arch\":\"vgg16\",\"head\":100}}",
     "[512,4096], not 100", "/model/head"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\",\"head\":512}}",
     "/model/head is not a known field", "/model/head"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"},\"was\":false,\"profiles\":[{\"draw\":[{\"dx\":1}]},{\"desire\":\"macs\",\"budget\":0.7}]}",
     "no law to draw from", "/profiles/1/desire"},
	{422, "invalid_field", "POST", "/v1/jobs?dry_run=true",
     "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"},\"profiles\":[{\"desire\":\"latency\",\"budget_us\":100}]}",
     "no law to draw from", "/profiles/0/desire"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"},\"train\":{\"seed\":9007199254740992}}",
     "from 0 to 9007199254740991, not 9007199254740992", "/train/seed"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\",\"published\":1}}",
     "must be true or false, not 1", "/model/published"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\",\"init\":\"xavier\"}}",
     "must be \"uniform\" or \"he\", not \"xavier\"", "/model/init"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\",\"published\":true}}", "not a known field",
     "/model/published"},
	{422, "unsupported", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\",\"layers\":[{\"type\":\"flatten\"}]}}", "exclude each other",
     "/model/arch"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"layers\":[]}}", "1 to 1000 layers",
     "/model/layers"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"layers\":{\"type\":\"relu\"}}}",
     "not an object", "/model/layers"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"layers\":[{\"type\":\"relu\"}],\"name\":\"My Net\"}}", "must be a name",
     "/model/name"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"layers\":[{\"type\":\"relu\"}],\"head\":512}}", "not a known field",
     "/model/head"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"layers\":[{\"type\":\"relu\"},{\"type\":\"nonsense\"}]}}", "unknown layer",
     "/model/layers/1/type"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"layers\":[{\"type\":\"conv\"}]},\"was\":{\"layers\":\"paper\"}}",
     "augments no layer", "/was/layers"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"none\",\"model\":{\"arch\":\"lenet\"}}",
     "no dataset none", "/dataset"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"../etc\",\"model\":{\"arch\":\"lenet\"}}", "../etc",
     "/dataset"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":{\"name\":\"data\",\"version\":9},\"model\":{\"arch\":\"lenet\"}}", "version 9", "/dataset"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":{\"version\":1},\"model\":{\"arch\":\"lenet\"}}",
     "/dataset/name is missing", "/dataset/name"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":7,\"model\":{\"arch\":\"lenet\"}}", "not 7", "/dataset"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"small\",\"model\":{\"arch\":\"lenet\"}}",
     "12x12, lenet needs square images with a side of one of [28,32]", "/dataset"},
	{409, "dataset_not_ready", "POST", "/v1/jobs", "{\"dataset\":\"scanned\",\"model\":{\"arch\":\"lenet\"}}",
     "scanned is still being scanned", "/dataset"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"broken\",\"model\":{\"arch\":\"lenet\"}}", "is invalid",
     "/dataset"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"colour\":1"), "/colour is not a known field", "/colour"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"a/b~c\":1"), "not a known field", "/a~1b~0c"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"Train\":{}"), "did you mean \"train\"?", "/Train"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"optimizer\":{\"type\":\"sgd\",\"LR\":0.1}}"),
     "did you mean \"lr\"?", "/train/optimizer/LR"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":[]"), "/train must be an object, not an array",
     "/train"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"epochs\":0}"), "from 1 to 100000, not 0",
     "/train/epochs"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"epochs\":1.5}"), "not 1.5", "/train/epochs"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"epochs\":-1}"), "not -1", "/train/epochs"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"epochs\":\"10\"}"), "not \"10\"", "/train/epochs"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"epochs\":null}"), "not null", "/train/epochs"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"batch\":65537}"), "65537", "/train/batch"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"seed\":9007199254740994}"), "/train/seed",
     "/train/seed"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"optimizer\":{\"type\":\"lion\"}}"),
     "sgd or adamw, not \"lion\"", "/train/optimizer/type"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"augment\":[{\"pad\":4}]}"), "not left out",
     "/train/augment/0/type"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"optimizer\":{\"type\":\"sgd\",\"lr\":0}}"), "above 0",
     "/train/optimizer/lr"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"optimizer\":{\"type\":\"sgd\",\"lr\":-0.0}}"),
     "above 0", "/train/optimizer/lr"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"optimizer\":{\"type\":\"sgd\",\"lr\":1e-400}}"),
     "above 0", "/train/optimizer/lr"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"optimizer\":{\"type\":\"sgd\",\"lr\":\"0.1\"}}"),
     "not \"0.1\"", "/train/optimizer/lr"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"optimizer\":{\"type\":\"sgd\",\"momentum\":1}}"),
     "below 1", "/train/optimizer/momentum"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"optimizer\":{\"type\":\"sgd\",\"nesterov\":1}}"),
     "true or false, not 1", "/train/optimizer/nesterov"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"optimizer\":{\"type\":\"adamw\",\"momentum\":0.9}}"),
     "not a known field", "/train/optimizer/momentum"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"schedule\":{\"type\":\"step\",\"every\":2.5}}"),
     "not 2.5", "/train/schedule/every"},
	{422, "invalid_field", "POST", "/v1/jobs",
     JOB(",\"train\":{\"schedule\":{\"type\":\"constant\",\"warmup_epochs\":-1}}"), "not -1",
     "/train/schedule/warmup_epochs"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"augment\":\"flip\"}"), "must be an array",
     "/train/augment"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"augment\":[\"mirror\"]}"),
     "flip or crop, not \"mirror\"", "/train/augment/0/type"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"augment\":[\"flip\",\"flip\"]}"),
     "flip is there twice", "/train/augment/1"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"augment\":[{\"type\":\"crop\",\"pad\":0}]}"), "not 0",
     "/train/augment/0/pad"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"data\":{\"normalize\":\"whole\"}"), "\"half\" or \"set\"",
     "/data/normalize"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"data\":{\"normalize\":{\"mean\":[0.5],\"std\":[0]}}"), "above 0",
     "/data/normalize/std/0"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"data\":{\"normalize\":{\"mean\":[0.5],\"sdt\":[1]}}"),
     "not a known field", "/data/normalize/sdt"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"class_weights\":\"even\"}"), "\"balanced\"",
     "/train/class_weights"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"class_weights\":[1,0]}"), "above 0",
     "/train/class_weights/1"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"label_smoothing\":1}"), "below 1",
     "/train/label_smoothing"},
	{422, "unsupported", "POST", "/v1/jobs", JOB(",\"train\":{\"precision\":\"bf16\"}"), "bf16", "/train/precision"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"precision\":\"fp8\"}"),
     "fp32 or fp32-strict, not \"fp8\"", "/train/precision"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":true"), "/was must be an object, false or null, not true",
     "/was"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"transforms\":[]}"), "1 to 16", "/was/transforms"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"transforms\":[{\"type\":\"spin\"}]}"),
     "translate or resized_crop, not \"spin\"", "/was/transforms/0/type"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":2}]}"),
     "not 2", "/was/transforms/0/x"},
	{422, "invalid_field", "POST", "/v1/jobs",
     JOB(",\"was\":{\"transforms\":[{\"type\":\"resized_crop\",\"scale\":[1,0.5]}]}"), "two numbers [low, high]",
     "/was/transforms/0/scale"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"transforms\":[{\"type\":\"translate\",\"weight\":0}]}"),
     "above 0", "/was/transforms/0/weight"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"layers\":\"nowhere.*\"}"), "nor a pattern",
     "/was/layers"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"layers\":[\"layer1.*\",\"conv\",\"layer1.*\"]}"),
     "twice", "/was/layers/2"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"layers\":\"\"}"), "\"\"", "/was/layers"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"layers\":[\"nowhere\"]}"),
     "not a convolution of this network", "/was/layers/0"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"layers\":[\"conv1\",3]}"), "not 3", "/was/layers/1"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"alpha\":1}"), "\"learned\" or \"fixed\", not 1",
     "/was/alpha"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"draw\":\"profile:fast\"}"), "name it in /init_from",
     "/was/draw"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"draw\":\"profile:\"}"), "a profile's name",
     "/was/draw"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"draw\":\"profile:dom\"}"), "a profile's name",
     "/was/draw"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"draw\":\"profile:int8:x\"}"), "a profile's name",
     "/was/draw"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"profile\":[]}"), "goes with", "/was/profile"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"odds\":{\"plain\":1}}"), "goes with", "/was/odds"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"draw\":\"profile:x\",\"profile\":{}}"),
     "must be an array of 0 to 1000 transforms", "/was/profile"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"draw\":\"profile:x\",\"profile\":[],\"odds\":{}}"),
     "must not all be 0", "/was/odds"},
	{422, "invalid_field", "POST", "/v1/jobs",
     JOB(",\"was\":{\"draw\":\"profile:x\",\"profile\":[],\"odds\":{\"plain\":-1}}"), "-1", "/was/odds/plain"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"draw\":\"profile:x\"},\"init_from\":\"CKPT\""),
     "has no profile x", "/was/draw"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"groups\":0}"), "from 1 to 64, not 0", "/was/groups"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"groups\":2.5}"), "not 2.5", "/was/groups"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"probability\":1.5}"), "not 1.5", "/was/probability"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"probability\":\"half\"}"), "\"half\"",
     "/was/probability"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"probability\":{\"from\":0.5}}"), "missing",
     "/was/probability/epochs"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"probability\":{\"to\":2,\"epochs\":3}}"), "not 2",
     "/was/probability/to"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"probability\":{\"epochs\":0}}"), "not 0",
     "/was/probability/epochs"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":{\"draw\":\"batch\"}"), "\"step\", \"epoch\" or",
     "/was/draw"},
	{422, "invalid_field", "POST", "/v1/jobs", "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"},\"was\":{}}",
     "augments no layer", "/was/layers"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"eval\":{\"modes\":[\"aom\",\"aom\"]}"), "each once",
     "/eval/modes"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"eval\":{\"modes\":[]}"), "/eval/modes", "/eval/modes"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"eval\":{\"test\":\"never\"}"), "\"never\"", "/eval/test"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"arch\":\"resnet18\"},\"profiles\":[{\"desire\":\"macs\",\"budget\":0.9},{\"desire\":\"macs\",\"budget\":0.05}]}",
     "cheapest draw", "/profiles/1/budget"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"data\":{\"val_fraction\":0.51}"), "not 0.51",
     "/data/val_fraction"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"data\":{\"limit\":0}"), "not 0", "/data/limit"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"data\":{\"limit\":-3}"), "not -3", "/data/limit"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"data\":{\"limit\":1.5}"),
     "a share of them above 0 and below 1, not 1.5", "/data/limit"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"data\":{\"limit\":3e9}"), "not 3", "/data/limit"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"data\":{\"limit\":\"half\"}"), "whole number of images",
     "/data/limit"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"eval\":{\"statistics\":\"none\"}"), "\"none\"",
     "/eval/statistics"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"eval\":{\"modes\":[\"dom\"]}"), "val_acc_aom is not measured",
     "/checkpoint/keep/metric"},
	{422, "invalid_field", "POST", "/v1/jobs",
     JOB(",\"weights\":[],\"checkpoint\":{\"keep\":{\"metric\":\"val_acc_dom\"}}"), "/was is false",
     "/checkpoint/keep/metric"},
	{422, "invalid_field", "POST", "/v1/jobs",
     JOB(",\"weights\":[{\"type\":\"sparse\"}],\"checkpoint\":{\"keep\":{\"metric\":\"val_acc_dom\"}}"),
     "/weights has no", "/checkpoint/keep/metric"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":{}"), "array", "/weights"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":[7]"), "object", "/weights/0"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":[{}]"), "sparse or thin", "/weights/0/type"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":[{\"type\":\"dense\"}]"), "sparse or thin",
     "/weights/0/type"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":[{\"type\":\"sparse\",\"share\":2}]"), "at most 1",
     "/weights/0/share"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":[{\"type\":\"sparse\",\"part\":2}]"),
     "not a known field", "/weights/0/part"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":[{\"type\":\"thin\",\"scope\":\"net\"}]"),
     "[\"layer\",\"global\"]", "/weights/0/scope"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":[{\"type\":\"thin\",\"layers\":\"\"}]"),
     "1 to 20 bytes", "/weights/0/layers"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":[{\"type\":\"thin\",\"begin\":null}]"), "number",
     "/weights/0/begin"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":[{\"type\":\"sparse\"},{\"type\":\"sparse\"}]"),
     "twice", "/weights/1"},
	{422, "invalid_field", "POST", "/v1/jobs",
     JOB(",\"weights\":[{\"type\":\"sparse\"},{\"type\":\"was\",\"groups\":65}]"), "64", "/weights/1/groups"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"weights\":[{\"type\":\"was\",\"odds\":{\"plain\":1}}]"),
     "goes with", "/weights/0/odds"},
	{422, "invalid_field", "POST", "/v1/jobs",
     JOB(",\"weights\":[{\"type\":\"was\",\"draw\":\"profile:x\"},{\"type\":\"sparse\"}]"), "belongs to a checkpoint",
     "/weights/0/draw"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"was\":false,\"weights\":[]"), "without /was", "/weights"},
	{422, "invalid_field", "POST", "/v1/jobs",
     JOB(",\"was\":false,\"checkpoint\":{\"keep\":{\"metric\":\"val_acc_dom\"}}"), "/was is false",
     "/checkpoint/keep/metric"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"checkpoint\":{\"keep\":{\"latest\":0}}"), "not 0",
     "/checkpoint/keep/latest"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"train\":{\"early_stop\":{\"metric\":\"accuracy\"}}"),
     "\"accuracy\"", "/train/early_stop/metric"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"limits\":{\"nice\":20}"), "from 0 to 19", "/limits/nice"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"priority\":101"), "101", "/priority"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"queue\":\"gpu\""), "there is no queue gpu", "/queue"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"after\":[\"job_none\"]"), "there is no job job_none",
     "/after/0"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"after\":[\"JOB\",\"JOB\"]"), "there once", "/after/1"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"after\":[7]"), "not 7", "/after/0"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"after\":\"JOB\""), "1 to 32 ids of jobs", "/after"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"on_complete\":{\"deploy\":\"x\"}"), "/on_complete/deploy",
     "/on_complete/deploy"},
	{422, "unsupported", "POST", "/v1/jobs", JOB(",\"sweep\":{}"), "POST /v1/sweeps", "/sweep"},
	{422, "unsupported", "POST", "/v1/jobs", JOB(",\"resources\":{\"nodes\":2}"), "/resources", "/resources"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"init_from\":\"ckpt_none\""), "no checkpoint ckpt_none",
     "/init_from"},
	{422, "invalid_field", "POST", "/v1/jobs",
     "{\"dataset\":\"data\",\"model\":{\"arch\":\"lenet\"},\"init_from\":\"CKPT\"}",
     "of resnet18, the job trains lenet", "/init_from"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"name\":\"\""), "/name", "/name"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"labels\":{\"a\":1}"), "not 1", "/labels/a"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"labels\":[]"), "/labels", "/labels"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"note\":5"), "not 5", "/note"},
	/* existing and missing jobs */
	{404, "not_found", "GET", "/v1/jobs/job_none", NULL, "job_none", NULL},
	{404, "not_found", "GET", "/v1/jobs/job_none/metrics", NULL, "job_none", NULL},
	{404, "not_found", "GET", "/v1/jobs/job_none/logs", NULL, "job_none", NULL},
	{404, "not_found", "GET", "/v1/jobs/job_none/events", NULL, "job_none", NULL},
	{404, "not_found", "GET", "/v1/jobs/'; DROP TABLE jobs;--", NULL, "DROP TABLE", NULL},
	{404, "not_found", "POST", "/v1/jobs/job_none:cancel", NULL, "job_none", NULL},
	{409, "invalid_transition", "POST", "/v1/jobs/DONE:cancel", NULL, "is completed and cannot become cancelled", NULL},
	{422, "invalid_field", "POST", "/v1/jobs/JOB:cancel", "{\"mode\":\"soft\"}", "\"graceful\" or \"kill\"", "/mode"},
	{422, "invalid_field", "POST", "/v1/jobs/JOB:cancel", "{\"force\":true}", "/force", "/force"},
	{409, "invalid_transition", "POST", "/v1/jobs/DONE:pause", NULL, "is completed and cannot become paused", NULL},
	{409, "invalid_transition", "POST", "/v1/jobs/DONE:retry", NULL, "is completed and cannot become queued", NULL},
	{422, "invalid_field", "POST", "/v1/jobs/JOB:hold", "{\"mode\":\"kill\"}", "/mode", "/mode"},
	{404, "not_found", "POST", "/v1/jobs/job_none:clone", NULL, "job_none", NULL},
	{422, "invalid_field", "POST", "/v1/jobs/JOB:clone", "[]", "must be a JSON object", NULL},
	{422, "invalid_field", "POST", "/v1/jobs/JOB:clone", "{\"train\":{\"epochs\":0}}", "/train/epochs",
     "/train/epochs"},
	{409, "job_active", "DELETE", "/v1/jobs/JOB", NULL, "is queued; cancel it first", NULL},
	{409, "referenced", "DELETE", "/v1/jobs/DONE", NULL, "deployment live", NULL},
	{422, "invalid_field", "PATCH", "/v1/jobs/JOB", "{\"state\":\"completed\"}", "/state is not a known field",
     "/state"},
	{422, "invalid_field", "PATCH", "/v1/jobs/JOB", "{\"priority\":1000}", "1000", "/priority"},
	{422, "invalid_field", "PATCH", "/v1/jobs/JOB", "{\"queue\":\"x\"}", "there is no queue x", "/queue"},
	{409, "conflict", "PATCH", "/v1/jobs/DONE", "{\"queue\":\"default\"}", "is completed", "/queue"},
	{422, "invalid_field", "POST", "/v1/jobs:batch", "{\"action\":\"dance\",\"ids\":[]}", "\"dance\"", "/action"},
	{422, "invalid_field", "POST", "/v1/jobs:batch", "{\"action\":\"pause\"}", "either /ids or /filter", "/ids"},
	{422, "invalid_field", "POST", "/v1/jobs:batch", "{\"action\":\"pause\",\"ids\":[],\"filter\":{}}", "either",
     "/filter"},
	{422, "invalid_field", "POST", "/v1/jobs:batch", "{\"action\":\"pause\",\"filter\":{\"color\":\"red\"}}",
     "/filter/color", "/filter/color"},
	{422, "invalid_field", "PATCH", "/v1/queues/default", "{\"weight\":0}", "not 0", "/weight"},
	{422, "invalid_field", "PATCH", "/v1/queues/default", "{\"paused\":1}", "not 1", "/paused"},
	{400, "bad_parameter", "PATCH", "/v1/queues/Big", "{}", "is not a name", "q"},
	{422, "invalid_field", "PATCH", "/v1/jobs/JOB", "{\"labels\":{\"a\":[]}}", "/labels/a", "/labels/a"},
	{409, "conflict", "PATCH", "/v1/jobs/DONE", "{\"priority\":1}", "is completed", "/priority"},
	/* checkpoints */
	{404, "not_found", "GET", "/v1/checkpoints/ckpt_none", NULL, "ckpt_none", NULL},
	{404, "not_found", "GET", "/v1/checkpoints/ckpt_none/file", NULL, "ckpt_none", NULL},
	{404, "not_found", "GET", "/v1/checkpoints/ckpt_none/layers", NULL, "ckpt_none", NULL},
	{404, "not_found", "GET", "/v1/checkpoints/CKPT/layers/conv9", NULL, "no layer conv9", "/layer"},
	{400, "bad_parameter", "GET", "/v1/checkpoints/CKPT/layers/conv1?output=4", NULL, "outputs 0 to 3", "output"},
	{400, "bad_parameter", "GET", "/v1/checkpoints/CKPT/layers/conv1?outputs=0", NULL, "outputs", "outputs"},
	{400, "bad_parameter", "GET", "/v1/checkpoints/CKPT/layers/conv1?input=-1", NULL, "input", "input"},
	{409, "referenced", "DELETE", "/v1/checkpoints/CKPT", NULL, "live", NULL},
	{422, "invalid_field", "PATCH", "/v1/checkpoints/CKPT", "{\"pinned\":\"yes\"}", "not \"yes\"", "/pinned"},
	{422, "invalid_field", "PATCH", "/v1/checkpoints/CKPT", "{}", "/pinned is missing", "/pinned"},
	/* datasets */
	{404, "not_found", "GET", "/v1/datasets/none", NULL, "none", NULL},
	{404, "not_found", "GET", "/v1/datasets/data/versions/7", NULL, "version 7", NULL},
	{404, "not_found", "GET", "/v1/datasets/data/versions/latest", NULL, "latest", NULL},
	{404, "not_found", "DELETE", "/v1/datasets/none", NULL, "none", NULL},
	{409, "in_use", "DELETE", "/v1/datasets/data", NULL, "data", NULL},
	{409, "dataset_not_ready", "GET", "/v1/datasets/scanned/preview", NULL, "scanning", NULL},
	{400, "body_required", "PUT", "/v1/datasets/new", NULL, "needs an archive", NULL},
	{422, "invalid_field", "PUT", "/v1/datasets/New%20Set", NULL, "New Set", "name"},
	{422, "invalid_field", "PUT", "/v1/datasets/stats", NULL, "stats", "name"},
	{400, "bad_parameter", "PUT", "/v1/datasets/new?size=4", NULL, "from 8 to 512", "size"},
	{400, "body_required", "POST", "/v1/datasets", NULL, "needs a body", NULL},
	/* deployments and modes */
	{404, "not_found", "GET", "/v1/deployments/none", NULL, "none", NULL},
	{404, "not_found", "GET", "/v1/deployments/none/mode", NULL, "none", NULL},
	{422, "invalid_field", "POST", "/v1/deployments", "{}", "/name is missing (and 1 more)", "/name"},
	{422, "invalid_field", "POST", "/v1/deployments", "{\"name\":\"Live!\",\"source\":{\"job\":\"DONE\"}}", "Live!",
     "/name"},
	{422, "invalid_field", "POST", "/v1/deployments", "{\"name\":\"d\",\"source\":{}}", "/source/job is missing",
     "/source/job"},
	{422, "invalid_field", "POST", "/v1/deployments", "{\"name\":\"d\",\"source\":\"DONE\"}", "/source must be",
     "/source"},
	{422, "invalid_field", "POST", "/v1/deployments", "{\"name\":\"d\",\"source\":{\"job\":\"job_none\"}}", "job_none",
     "/source/job"},
	{422, "invalid_field", "POST", "/v1/deployments", "{\"name\":\"d\",\"source\":{\"checkpoint\":\"ckpt_none\"}}",
     "ckpt_none", "/source/checkpoint"},
	{422, "invalid_field", "POST", "/v1/deployments",
     "{\"name\":\"d\",\"source\":{\"job\":\"DONE\",\"follow\":\"first\"}}", "\"best\" or \"latest\"", "/source/follow"},
	{422, "invalid_field", "POST", "/v1/deployments", "{\"name\":\"d\",\"source\":{\"model\":\"m\",\"version\":1}}",
     "no model m has a version 1", "/source/version"},
	{422, "invalid_field", "POST", "/v1/deployments",
     "{\"name\":\"d\",\"source\":{\"job\":\"DONE\"},\"batching\":{\"max_batch\":65}}", "/batching/max_batch",
     "/batching/max_batch"},
	{422, "invalid_field", "POST", "/v1/deployments",
     "{\"name\":\"d\",\"source\":{\"job\":\"DONE\"},\"batching\":{\"max_images\":8}}",
     "/batching/max_images is not a known field", "/batching/max_images"},
	{422, "invalid_field", "POST", "/v1/deployments",
     "{\"name\":\"d\",\"source\":{\"job\":\"DONE\"},\"queue\":{\"max\":-1}}", "from 0 to 1000000", "/queue/max"},
	{422, "invalid_field", "PATCH", "/v1/deployments/live", "{\"limits\":{\"threads\":65}}", "from 0 to 64",
     "/limits/threads"},
	{422, "invalid_field", "PATCH", "/v1/deployments/live", "{\"required\":1}", "true or false", "/required"},
	{422, "unsupported", "PATCH", "/v1/deployments/live", "{\"name\":\"other\"}", "does not change", "/name"},
	{422, "invalid_field", "PATCH", "/v1/deployments/live", "{\"Batching\":{}}", "did you mean \"batching\"",
     "/Batching"},
	{422, "invalid_field", "PATCH", "/v1/deployments/live", "[]", "must be a JSON object", NULL},
	{422, "unsupported", "POST", "/v1/deployments",
     "{\"name\":\"d\",\"source\":{\"job\":\"DONE\"},\"mode\":\"cascade\"}", "cascade", "/mode"},
	{409, "no_checkpoint", "POST", "/v1/deployments", "{\"name\":\"d\",\"source\":{\"job\":\"JOB\"}}",
     "has no checkpoint yet", "/source/job"},
	{409, "name_taken", "POST", "/v1/deployments", "{\"name\":\"live\",\"source\":{\"job\":\"DONE\"}}", "live",
     "/name"},
	{422, "invalid_field", "PUT", "/v1/deployments/live/mode", "{\"mode\":\"fast\"}", "not \"fast\"", "/mode"},
	{422, "invalid_field", "PUT", "/v1/deployments/live/mode", "{\"mode\":\"dom:\"}", "not \"dom:\"", "/mode"},
	{422, "invalid_field", "PUT", "/v1/deployments/live/mode", "{\"mode\":\"dom:dom\"}", "not \"dom:dom\"", "/mode"},
	{422, "invalid_field", "PUT", "/v1/deployments/live/mode", "{\"mode\":\"dom:fast\"}",
     "no mode dom:fast; the modes of checkpoint", "/mode"},
	{422, "invalid_field", "POST", "/v1/deployments",
     "{\"name\":\"x\",\"source\":{\"checkpoint\":\"CKPT\"},\"mode\":\"dom:fast\"}", "are aom, dom", "/mode"},
	{422, "invalid_field", "PUT", "/v1/deployments/live/mode", "{\"reason\":\"x\"}", "/mode is missing", "/mode"},
	{422, "invalid_field", "PUT", "/v1/deployments/live/mode", "{\"mode\":\"manual\"}", "manual", "/mode"},
	{409, "conflict", "PUT", "/v1/deployments/live/mode", "{\"mode\":\"cascade\"}", "no threshold yet", "/mode"},
	{422, "invalid_field", "PUT", "/v1/deployments/live/traffic", "{\"split\":{\"aom\":1,\"dim\":1}}", "dim",
     "/split/dim"},
	{422, "invalid_field", "PUT", "/v1/deployments/live/traffic", "{\"shadow\":{\"percent\":5}}", "missing",
     "/shadow/mode"},
	{422, "invalid_field", "PUT", "/v1/deployments/live/traffic", "{\"auto\":{\"hold_ms\":1}}", "from 100",
     "/auto/hold_ms"},
	{400, "bad_parameter", "GET", "/v1/deployments/live/stats?window=2h", NULL, "2h", "window"},
	{409, "bundle_not_ready", "PUT", "/v1/deployments/plain/mode", "{\"mode\":\"dom\"}", "no dom bundle", "/mode"},
	{409, "nothing_to_roll_back", "POST", "/v1/deployments/live/mode:rollback", NULL, "never been switched", NULL},
	{409, "conflict", "PUT", "/v1/deployments/loading/mode", "{\"mode\":\"dom\"}", "created, not ready", NULL},
	/* classify */
	{404, "not_found", "POST", "/v1/deployments/none/classify", "{\"images\":[\"iVBORw0KGgpB\"]}", "none", NULL},
	{503, "not_ready", "POST", "/v1/deployments/loading/classify", "{\"images\":[\"iVBORw0KGgpB\"]}",
     "loading is created", NULL},
	{400, "body_required", "POST", "/v1/deployments/live/classify", NULL, "needs an image", NULL},
	{422, "invalid_field", "POST", "/v1/deployments/live/classify", "{\"images\":[]}", "of none", "/images"},
	{422, "invalid_field", "POST", "/v1/deployments/live/classify", "{\"image\":\"x\"}", "/image is not a known field",
     "/image"},
	{422, "invalid_field", "POST", "/v1/deployments/live/classify", "{\"images\":[\"!!!\"]}", "not a base64",
     "/images/0"},
	{422, "bad_image", "POST", "/v1/deployments/live/classify", "{\"images\":[\"iVBORw0KGgpB\",\"R0lGODlh\"]}",
     "/images/1: this is a GIF picture", "/images/1"},
	{422, "bad_image", "POST", "/v1/deployments/live/classify", "{\"images\":[\"iVBORw0KGgpC\"]}", "middle of a row",
     "/images/0"},
	{400, "bad_parameter", "POST", "/v1/deployments/live/classify?k=0", "{\"images\":[\"iVBORw0KGgpB\"]}", "k must be",
     "k"},
	{400, "bad_parameter", "POST", "/v1/deployments/live/classify?priority=5", "{\"images\":[\"iVBORw0KGgpB\"]}",
     "priority must be", "priority"},
	{400, "bad_parameter", "POST", "/v1/deployments/live/classify?timeout=-1", "{\"images\":[\"iVBORw0KGgpB\"]}",
     "timeout must be", "timeout"},
	{400, "bad_parameter", "POST", "/v1/deployments/live/classify?mode=turbo", "{\"images\":[\"iVBORw0KGgpB\"]}",
     "turbo", "query parameter mode"},
	{400, "bad_parameter", "POST", "/v1/deployments/live/classify?mode=dom:fast", "{\"images\":[\"iVBORw0KGgpB\"]}",
     "no mode dom:fast", "query parameter mode"},
	/* profiles */
	{404, "not_found", "POST", "/v1/checkpoints/none/profiles", "{\"desire\":\"macs\",\"budget\":0.7}",
     "no checkpoint none", NULL},
	{404, "not_found", "GET", "/v1/checkpoints/none/profiles", NULL, "no checkpoint none", NULL},
	{404, "not_found", "GET", "/v1/checkpoints/CKPT/profiles/none", NULL, "has no profile none", NULL},
	{404, "not_found", "DELETE", "/v1/checkpoints/CKPT/profiles/none", NULL, "has no profile none", NULL},
	{405, "method_not_allowed", "PUT", "/v1/checkpoints/CKPT/profiles", "{}", "it takes POST, GET, HEAD", NULL},
	{400, "bad_parameter", "GET", "/v1/checkpoints/CKPT/profiles/none?wait=ever", NULL, "wait", "wait"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{}", "/desire is missing", "/desire"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "[]", "must be a JSON object", NULL},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"speed\"}", "not \"speed\"",
     "/desire"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"macs\"}", "/budget is missing",
     "/budget"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"macs\",\"budget\":0}",
     "above 0 and at most 1", "/budget"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"macs\",\"budget\":1.01}",
     "at most 1", "/budget"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"macs\",\"budget\":\"0.7\"}",
     "a number", "/budget"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"latency\",\"budget\":0.7}",
     "/budget does not go with desire \"latency\"", "/budget"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"latency\",\"budget_us\":0}",
     "from 1", "/budget_us"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"latency\",\"budget_us\":1.5}",
     "whole number", "/budget_us"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"macs\",\"budget\":0.7,\"draw\":[1]}",
     "/draw does not go", "/draw"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"draw\":[]}", "array of 1 to 1000", "/draw"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"draw\":{}}", "an array", "/draw"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"draw\"}", "/draw is missing",
     "/draw"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"draw\":[1],\"evaluations\":5}",
     "needs no search", "/evaluations"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles",
     "{\"desire\":\"macs\",\"budget\":0.7,\"evaluations\":5001}", "from 1 to 5000", "/evaluations"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles",
     "{\"desire\":\"macs\",\"budget\":0.7,\"name\":\"aom\"}", "not that of a mode", "/name"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles",
     "{\"desire\":\"macs\",\"budget\":0.7,\"name\":\"../x\"}", "must be a name", "/name"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles", "{\"desire\":\"macs\",\"budget\":0.7,\"Budget\":1}",
     "did you mean \"budget\"", "/Budget"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles",
     "{\"desire\":\"macs\",\"budget\":0.7,\"dataset\":\"none\"}", "no dataset none", "/dataset"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles",
     "{\"desire\":\"macs\",\"budget\":0.7,\"dataset\":{\"name\":\"data\",\"version\":9}}", "no version 9", "/dataset"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles",
     "{\"desire\":\"macs\",\"budget\":0.7,\"dataset\":\"broken\"}", "is invalid", "/dataset"},
	{409, "dataset_not_ready", "POST", "/v1/checkpoints/CKPT/profiles",
     "{\"desire\":\"macs\",\"budget\":0.7,\"dataset\":\"scanned\"}", "being scanned", "/dataset"},
	{422, "invalid_field", "POST", "/v1/checkpoints/CKPT/profiles",
     "{\"desire\":\"macs\",\"budget\":0.7,\"dataset\":\"small\"}", "number of classes", "/dataset"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"profiles\":{}"), "/profiles must be an array", "/profiles"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"profiles\":[7]"), "/profiles/0 must be an object",
     "/profiles/0"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"profiles\":[{\"desire\":\"macs\",\"budget\":2}]"), "at most 1",
     "/profiles/0/budget"},
	{422, "invalid_field", "POST", "/v1/jobs",
     JOB(",\"profiles\":[{\"desire\":\"macs\",\"budget\":0.7},{\"desire\":\"latency\"}]"), "needs it",
     "/profiles/1/budget_us"},
	{422, "invalid_field", "POST", "/v1/jobs",
     JOB(",\"profiles\":[{\"desire\":\"macs\",\"budget\":0.7},{\"desire\":\"macs\",\"budget\":0.7}]"),
     "two profiles are called macs-70", "/profiles/1/name"},
	{422, "unsupported", "POST", "/v1/jobs",
     JOB(",\"profiles\":[{\"desire\":\"macs\",\"budget\":0.7,\"dataset\":\"data\"}]"), "its own data set",
     "/profiles/0/dataset"},
	{422, "invalid_field", "POST", "/v1/jobs", JOB(",\"profiles\":[1,1,1,1,1,1,1,1,1]"), "at most 8 profiles",
     "/profiles"},
	{409, "bundle_not_ready", "POST", "/v1/deployments/plain/classify?mode=dom", "{\"images\":[\"iVBORw0KGgpB\"]}",
     "without WAS", NULL},
};

#define IN(rest) "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP32\"" rest "}]}"
#define DATA ",\"data\":[1,2,3,4]"

/* On /v2 the body is application/json with "error", and 400 replaces 422. */
static const struct bad v2_cases[] = {
	{404, "not_found", "GET", "/v2/nothing", NULL, "/v2/nothing", NULL},
	{404, "not_found", "GET", "/v2/models/none", NULL, "none", NULL},
	{404, "not_found", "GET", "/v2/models/live/versions/2", NULL, "no version 2", NULL},
	{404, "not_found", "POST", "/v2/models/none/infer", IN(DATA), "none", NULL},
	{404, "not_found", "POST", "/v2/models/live/versions/9/infer", IN(DATA), "no version 9", NULL},
	{405, "method_not_allowed", "GET", "/v2/models/live/infer", NULL, "it takes POST", NULL},
	{404, "not_found", "POST", "/v2/models/none/infer", "{}", "none", NULL},
	{404, "not_found", "POST", "/v2/models/live/versions/7/infer", "{}", "no version 7", NULL},
	{400, "body_not_allowed", "GET", "/v2", "x", "takes no body", NULL},
	{400, "body_required", "POST", "/v2/models/live/infer", NULL, "needs a body", NULL},
	{400, "bad_json", "POST", "/v2/models/live/infer", "{\"inputs\":[}", "byte", NULL},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", "[]", "must be a JSON object", NULL},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", "{}", "/inputs", "/inputs"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", "{\"inputs\":[]}", "/inputs", "/inputs"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", "{\"inputs\":[3]}", "must be an object", "/inputs/0"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"inputs\":[{\"name\":\"image\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"!\"]}]}",
     "element 0 is not Base64", "/inputs/0/data"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
     "\"x\": the model's input is named \"input\"", "/inputs/0/name"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP16\",\"data\":[1,2,3,4]}]}",
     "needs the binary form", "/inputs/0/datatype"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,2],\"datatype\":\"FP31\",\"data\":[1,2,3,4]}]}",
     "\"FP31\" is not known", "/inputs/0/datatype"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,3,2,2],\"datatype\":\"FP32\",\"data\":[1]}]}",
     "shape [1,3,2,2], the model takes [-1,1,2,2]", "/inputs/0/shape"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"inputs\":[{\"name\":\"input\",\"shape\":[0,1,2,2],\"datatype\":\"FP32\",\"data\":[]}]}", "shape [0,1,2,2]",
     "/inputs/0/shape"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"inputs\":[{\"name\":\"input\",\"shape\":[5,1,2,2],\"datatype\":\"FP32\",\"data\":[]}]}", "at most 4",
     "/inputs/0/shape"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,-2],\"datatype\":\"FP32\",\"data\":[]}]}", "whole numbers",
     "/inputs/0/shape"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,2,1e300],\"datatype\":\"FP32\",\"data\":[]}]}", "whole numbers",
     "/inputs/0/shape"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1,1,1,1,1,1,2,2],\"datatype\":\"FP32\",\"data\":[]}]}", "at most 8",
     "/inputs/0/shape"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", IN(""), "data must be an array", "/inputs/0/data"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", IN(",\"data\":[1,2,3]"), "3 elements, its shape needs 4",
     "/inputs/0/data"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", IN(",\"data\":[1,2,3,4,5]"), "more than the 4",
     "/inputs/0/data"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", IN(",\"data\":[1,2,\"3\",4]"), "element 2", "/inputs/0/data"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", IN(",\"data\":[1,2,null,4]"), "element 2", "/inputs/0/data"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", IN(",\"data\":[1,2,1e39,4]"), "element 2", "/inputs/0/data"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", IN(",\"data\":[[[[1,2],[3]]]]"),
     "dimension 3 has 1 entries, the shape says 2", "/inputs/0/data"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", IN(",\"data\":[[1,2],[3,4]]"), "", "/inputs/0/data"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", IN(",\"parameters\":{\"binary_data_size\":16}"),
     "0 bytes remain", "/inputs/0/parameters/binary_data_size"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"parameters\":{\"binary_data_output\":1},\"inputs\":[{\"name\":\"input\"}]}", "true or false",
     "/parameters/binary_data_output"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"parameters\":{\"timeout\":-1},\"inputs\":[{\"name\":\"input\"}]}", "microseconds", "/parameters/timeout"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"outputs\":[{\"name\":\"logits\",\"parameters\":{\"binary_data\":\"yes\"}}],\"inputs\":[{\"name\":\"input\"}]}",
     "true or false", "/outputs/0/parameters/binary_data"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"outputs\":[{\"name\":\"probs\",\"parameters\":{\"classification\":-3}}],\"inputs\":[{\"name\":\"input\"}]}",
     "whole number of classes", "/outputs/0/parameters/classification"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"outputs\":[{\"name\":\"scores\"}],\"inputs\":[{\"name\":\"input\"}]}", "\"scores\"", "/outputs/0/name"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer",
     "{\"outputs\":[{\"name\":\"probs\"},{\"name\":\"probs\"}],\"inputs\":[{\"name\":\"input\"}]}", "twice",
     "/outputs/1/name"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", "{\"id\":7,\"inputs\":[{\"name\":\"input\"}]}", "/id", "/id"},
	{400, "bad_tensor", "POST", "/v2/models/live/infer", "{\"parameters\":[],\"inputs\":[{\"name\":\"input\"}]}",
     "/parameters", "/parameters"},
	{400, "bad_parameter", "POST", "/v2/models/live/infer",
     "{\"parameters\":{\"was_mode\":\"fast\"},\"inputs\":[{\"name\":\"input\"}]}", "fast", NULL},
	{400, "bad_parameter", "POST", "/v2/models/live@dom:fast/infer", IN(DATA), "no mode dom:fast", "model alias"},
	{400, "bad_parameter", "POST", "/v2/models/live/versions/1-dom:fast/infer", IN(DATA), "no mode dom:fast",
     "version path"},
	{400, "mode_conflict", "POST", "/v2/models/live@dom:fast/versions/1-dom/infer", IN(DATA),
     "model alias for dom:fast", NULL},
	{400, "mode_conflict", "POST", "/v2/models/live@aom/versions/1-dom/infer", IN(DATA),
     "version path asks for dom, model alias for aom", NULL},
	{400, "mode_conflict", "POST", "/v2/models/live/infer?mode=aom",
     "{\"parameters\":{\"was_mode\":\"dom\"},\"inputs\":[{\"name\":\"input\"}]}", "parameter was_mode asks for dom",
     NULL},
	{400, "mode_conflict", "POST", "/v2/models/live/infer?mode=aom&mode=dom", IN(DATA),
     "query parameter mode asks for aom, query parameter mode for dom", NULL},
	{409, "bundle_not_ready", "POST", "/v2/models/plain@dom/infer", IN(DATA), "no dom bundle", NULL},
	{503, "not_ready", "GET", "/v2/models/loading/ready", NULL, "loading is created", NULL},
};

static char job[64], done[64], ckpt[32];

/* JOB, DONE and CKPT stand for existing ids. */
static void fill_in(char *out, size_t room, const char *s)
{
	static const struct {
		const char *word;
		const char *value;
	} words[] = {{"JOB", job}, {"DONE", done}, {"CKPT", ckpt}};
	size_t n = 0;
	while (*s && n + 64 < room) {
		size_t i = 0;
		while (i < API_LEN(words) && strncmp(s, words[i].word, strlen(words[i].word)))
			i++;
		if (i < API_LEN(words)) {
			n += (size_t)snprintf(out + n, room - n, "%s", words[i].value);
			s += strlen(words[i].word);
		} else {
			out[n++] = *s++;
		}
	}
	out[n] = 0;
}

static void check_one(const struct bad *b, bool v2)
{
	char url[512], body[4096];
	fill_in(url, sizeof url, b->url);
	fill_in(body, sizeof body, b->body ? b->body : "");
	struct answer a = send(b->method, url, b->body ? body : NULL);
	const char *detail = str(&a, "detail"), *pointer = "(none)", *error = "(absent)";
	const cJSON *errors = wasd_json_get(a.json, "errors");
	wasd_json_str(errors ? errors->child : NULL, "pointer", &pointer);
	wasd_json_str(a.json, "error", &error);
	CHECK_MSG(a.r.status == b->status && !strcmp(str(&a, "code"), b->code), "%s %s %s: %d %s (%s), want %d %s",
	          b->method, url, body, a.r.status, str(&a, "code"), detail, b->status, b->code);
	CHECK_MSG(strstr(detail, b->culprit) != NULL, "%s %s %s: \"%s\" does not say \"%s\"", b->method, url, body, detail,
	          b->culprit);
	if (b->pointer)
		CHECK_MSG(!strcmp(pointer, b->pointer), "%s %s %s: pointer %s, want %s", b->method, url, body, pointer,
		          b->pointer);
	CHECK_MSG(num(&a, "status") == b->status && !strcmp(str(&a, "request_id"), "req_test") &&
	              !strcmp(str(&a, "trace_id"), "0af7651916cd43dd8448eb211c80319c") && cJSON_IsArray(errors) &&
	              !strncmp(str(&a, "type"), "/docs/errors#", 13) && strcmp(str(&a, "title"), "(absent)") &&
	              strcmp(str(&a, "instance"), "(absent)"),
	          "%s %s: members of the problem: %s", b->method, url, a.r.body.len ? a.r.body.data : "");
	CHECK_STR(a.r.content_type, v2 ? "application/json" : "application/problem+json");
	if (v2)
		CHECK_STR(error, detail);
	answer_done(&a);
}

static void bad_requests(void)
{
	struct storage_dataset d;
	bool existing;
	setup();
	make_dataset("data", test_info);
	make_dataset("small", "{\"shape\":[1,12,12],\"classes\":[\"a\",\"b\"],\"train\":10,\"test\":2}");
	storage_dataset_begin(t.db, "broken", NULL, "x", "t", &d, &existing, NULL);
	storage_dataset_invalid(t.db, d.id, "{\"message\":\"bad\"}", NULL);
	storage_dataset_done(&d);
	storage_dataset_begin(t.db, "scanned", NULL, "y", "t", &d, &existing, NULL);
	storage_dataset_done(&d);
	make_job("resnet18", job);
	make_job("resnet18", done);
	run_job(done, true, ckpt);
	char body[200];
	static const char *const names[] = {"live", "plain", "loading"};
	for (size_t i = 0; i < 3; i++) {
		t.not_ready = i == 2;
		snprintf(body, sizeof body, "{\"name\":\"%s\",\"source\":{\"job\":\"%s\",\"follow\":\"latest\"}}", names[i],
		         done);
		expect(i == 2 ? 202 : 201, "POST", "/v1/deployments", body);
	}
	int failed = check_failed_;
	for (size_t i = 0; i < API_LEN(cases); i++)
		check_one(&cases[i], false);
	for (size_t i = 0; i < API_LEN(v2_cases); i++)
		check_one(&v2_cases[i], true);
	printf("# %zu requests refused as they should, %d not\n", API_LEN(cases) + API_LEN(v2_cases),
	       check_failed_ - failed);
	/* None of these requests changed anything. */
	struct answer a = send("GET", "/v1/jobs", NULL);
	CHECK_INT(cJSON_GetArraySize(wasd_json_get(a.json, "items")), 2);
	answer_done(&a);
	teardown();
}

/* All faults of one body are reported together, each with its own pointer and code. */
static void all_faults_at_once(void)
{
	setup();
	struct answer a = send(
		"POST", "/v1/jobs",
		"{\"colour\":1,\"model\":{\"arch\":\"resnet18\"},\"train\":{\"epochs\":0,\"precision\":\"bf16\"},\"priority\":-1}");
	static const char *const want[] = {"/colour", "/dataset", "/train/epochs", "/train/precision", "/priority"};
	const cJSON *errors = wasd_json_get(a.json, "errors");
	CHECK_INT(a.r.status, 422);
	CHECK_INT(cJSON_GetArraySize(errors), 5);
	for (int i = 0; i < 5; i++) {
		const char *p = "";
		wasd_json_str(cJSON_GetArrayItem(errors, i), "pointer", &p);
		CHECK_STR(p, want[i]);
	}
	CHECK(strstr(str(&a, "detail"), "(and 4 more)") != NULL);
	answer_done(&a);
	teardown();
}

/* Other content types, and contradictory headers. */
static void media_types_and_headers(void)
{
	static const struct {
		const char *method, *url, *type, *body;
		int status;
		const char *code;
	} rows[] = {
		{"POST", "/v1/jobs", "text/plain", "{}", 415, "unsupported_media_type"},
		{"POST", "/v1/jobs", "application/xml", "<a/>", 415, "unsupported_media_type"},
		{"POST", "/v1/jobs", "application/x-www-form-urlencoded", "a=b", 415, "unsupported_media_type"},
		{"POST", "/v1/jobs", "application/x-www-form-urlencoded", "{}", 422, "invalid_field"},
		{"POST", "/v1/jobs", "Application/JSON; charset=utf-8", "{}", 422, "invalid_field"},
		{"POST", "/v1/jobs", "application/merge-patch+json", "{}", 422, "invalid_field"},
		{"POST", "/v1/deployments/live/classify", "text/plain", "hello", 415, "unsupported_media_type"},
		{"POST", "/v1/deployments/live/classify", "image/gif", "GIF89a", 415, "unsupported_media_type"},
		{"POST", "/v1/deployments/live/classify", "image/png", "GIF89a", 422, "bad_image"},
		{"POST", "/v1/deployments/live/classify", "application/octet-stream", "GIF89a", 422, "bad_image"},
		{"POST", "/v1/deployments/live/classify", "multipart/form-data", "x", 400, "bad_multipart"},
		{"POST", "/v1/deployments/live/classify", "multipart/form-data; boundary=B", "--B\r\n\r\nx\r\n--B--", 400,
	     "bad_multipart"},
		{"POST", "/v1/deployments/live/classify", "multipart/form-data; boundary=B", "--B--\r\n", 422, "invalid_field"},
	};
	setup();
	for (size_t i = 0; i < API_LEN(rows); i++) {
		struct answer a = send_with(rows[i].method, rows[i].url, rows[i].body, strlen(rows[i].body),
		                            (struct extra){.headers = {"content-type", rows[i].type, NULL}});
		CHECK_MSG(a.r.status == rows[i].status && !strcmp(str(&a, "code"), rows[i].code), "%s as %s: %d %s",
		          rows[i].body, rows[i].type, a.r.status, str(&a, "code"));
		answer_done(&a);
	}
	struct answer gif = send_with("POST", "/v1/deployments/live/classify", "GIF89a", 6,
	                              (struct extra){.headers = {NULL}});
	CHECK_MSG(gif.r.status == 415 && strstr(str(&gif, "detail"), "this is a GIF picture; convert it"), "%s",
	          str(&gif, "detail"));
	answer_done(&gif);
	static const struct {
		const char *method;
		const char *headers[6];
		int status;
	} origins[] = {
		{"POST", {"origin", "http://evil.example", "host", "127.0.0.1:8080", NULL}, 403},
		{"POST", {"origin", "null", "host", "127.0.0.1:8080", NULL}, 403},
		{"POST", {"sec-fetch-site", "cross-site", NULL}, 403},
		{"POST", {"origin", "http://127.0.0.1:8080", "host", "127.0.0.1:8080", NULL}, 422},
		{"POST", {"sec-fetch-site", "same-origin", NULL}, 422},
		{"GET", {"origin", "http://evil.example", "host", "127.0.0.1:8080", NULL}, 200},
	};
	for (size_t i = 0; i < API_LEN(origins); i++) {
		struct extra x = {0};
		memcpy(x.headers, origins[i].headers, sizeof origins[i].headers);
		bool get = !strcmp(origins[i].method, "GET");
		struct answer a = send_with(origins[i].method, "/v1/jobs", get ? NULL : "{}", get ? 0 : 2, x);
		CHECK_INT(a.r.status, origins[i].status);
		answer_done(&a);
	}
	/* Every code used by a test or the connection is a row with an explanation. */
	for (const struct api_error_row *e = api_errors; e->code; e++)
		CHECK_MSG(e->status >= 400 && strlen(e->title) > 3 && strlen(e->explanation) > 20, "%s", e->code);
	teardown();
}

int main(void)
{
	TEST_RUN(bad_requests);
	TEST_RUN(all_faults_at_once);
	TEST_RUN(media_types_and_headers);
	TEST_END();
}
