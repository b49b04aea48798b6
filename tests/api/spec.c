/* tests/api/spec.c - the canonical form of a job spec: every default written out, equal specs give equal text. */
#include "harness.h"

static char *canon(const char *in)
{
	struct api_faults faults = {0};
	struct wasd_err err = {0};
	cJSON *body = NULL, *caps = cJSON_Parse(test_caps), *out;
	CHECK_MSG(!wasd_json_parse(in, strlen(in), WASD_JSON_REQUEST, &body, &err), "%s", err.msg);
	out = spec_canon(body, caps, &faults);
	char *text = out ? wasd_json_print(out) : NULL;
	if (!text) {
		char *why = wasd_json_print(faults.list);
		CHECK_MSG(out != NULL, "%s: %s", in, why ? why : "");
		wasd_free(why);
	}
	api_faults_done(&faults);
	cJSON_Delete(out);
	cJSON_Delete(body);
	cJSON_Delete(caps);
	return text;
}

#define DEFAULTS_BEFORE \
	"{\"name\":\"resnet18-cifar10\",\"labels\":{},\"note\":\"\",\"dataset\":{\"name\":\"cifar10\"},\"data\":{\"val_fraction\":0.1},\"model\":{\"arch\":\"resnet18\"},"
#define DEFAULTS_WAS \
	"\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1},{\"type\":\"resized_crop\",\"scale\":[0.8,1],\"ratio\":[0.75,1.3333],\"weight\":1}]," \
	"\"layers\":\"paper\",\"alpha\":\"learned\",\"draw\":\"step\",\"probability\":1,\"groups\":1},"
#define DEFAULTS_AFTER \
	"\"train\":{\"epochs\":10,\"batch\":128,\"seed\":123,\"precision\":\"fp32\",\"optimizer\":{\"type\":\"sgd\",\"lr\":0.01,\"momentum\":0.9,\"nesterov\":false,\"weight_decay\":0}," \
	"\"schedule\":{\"type\":\"constant\",\"warmup_epochs\":0},\"augment\":[],\"label_smoothing\":0,\"early_stop\":null},\"eval\":{\"every\":1,\"modes\":[\"aom\",\"dom\"],\"test\":\"best\",\"statistics\":\"own\"}," \
	"\"checkpoint\":{\"every\":1,\"keep\":{\"best\":1,\"latest\":1,\"metric\":\"val_acc_aom\",\"mode\":\"max\"}},\"profiles\":[],\"init_from\":null," \
	"\"limits\":{\"threads\":0,\"memory_mb\":0,\"nice\":10,\"max_wall_s\":0},\"priority\":50,\"queue\":\"default\",\"preemptible\":true,\"retry\":{\"max\":2,\"backoff_s\":5},\"on_complete\":null}"

/* The defaults equal those in the API's description, member for member. */
static void defaults(void)
{
	char *text = canon("{\"dataset\":\"cifar10\",\"model\":{\"arch\":\"resnet18\"}}");
	CHECK_STR(text, DEFAULTS_BEFORE DEFAULTS_WAS DEFAULTS_AFTER);
	wasd_free(text);
}

/* A canonical spec is a fixed point, and the order of the members sent does not matter. */
static void fixed_point(void)
{
	static const char *const same[] = {
		DEFAULTS_BEFORE DEFAULTS_WAS DEFAULTS_AFTER,
		"{\"model\":{\"arch\":\"resnet18\"},\"dataset\":{\"name\":\"cifar10\"}}",
		"{\"model\":{\"arch\":\"resnet18\"},\"dataset\":\"cifar10\",\"was\":{},\"train\":{},\"eval\":{},\"checkpoint\":{},\"limits\":{},\"retry\":{}}",
		"{\"model\":{\"arch\":\"resnet18\"},\"dataset\":\"cifar10\",\"was\":null,\"train\":{\"optimizer\":{\"type\":\"sgd\",\"lr\":1e-2}}}",
		"{\"model\":{\"arch\":\"resnet18\"},\"dataset\":\"cifar10\",\"train\":{\"optimizer\":{\"lr\":0.01},\"schedule\":{\"warmup_epochs\":0}}}",
		"{\"model\":{\"arch\":\"resnet18\"},\"dataset\":\"cifar10\",\"weights\":[{\"type\":\"was\"}]}",
		"{\"model\":{\"arch\":\"resnet18\"},\"dataset\":\"cifar10\",\"was\":null,\"weights\":[{\"groups\":1,\"type\":\"was\"}]}",
		"{\"model\":{\"arch\":\"resnet18\"},\"dataset\":\"cifar10\",\"train\":{\"label_smoothing\":-0,\"seed\":123.0}}",
	};
	for (size_t i = 0; i < API_LEN(same); i++) {
		char *text = canon(same[i]);
		CHECK_STR(text, DEFAULTS_BEFORE DEFAULTS_WAS DEFAULTS_AFTER);
		wasd_free(text);
	}
}

/* Parts that the canonical text of a spec must contain. */
static void choices(void)
{
	static const struct {
		const char *in, *part;
	} rows[] = {
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"}}", "\"was\":false"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"}}", "\"model\":{\"arch\":\"lenet\",\"published\":false}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\",\"published\":true}}",
	     "\"model\":{\"arch\":\"lenet\",\"published\":true},\"was\":false"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\",\"init\":\"he\"}}",
	     "\"model\":{\"arch\":\"lenet\",\"published\":false,\"init\":\"he\"}"},
		{"{\"dataset\":\"d\",\"model\":{\"name\":\"n\",\"layers\":[{\"type\":\"flatten\"}],\"init\":\"he\"}}",
	     "\"layers\":[{\"type\":\"flatten\"}],\"init\":\"he\"}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"weights\":[]}",
	     "\"model\":{\"arch\":\"resnet18\"},\"was\":false,\"train\""},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"weights\":[{\"type\":\"sparse\"}]}",
	     "\"on_complete\":null,\"weights\":[{\"type\":\"sparse\",\"share\":0.5}]}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"weights\":[{\"type\":\"thin\",\"scope\":\"global\"}]}",
	     "\"weights\":[{\"type\":\"thin\",\"scope\":\"global\",\"layers\":\"all\"}]}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"weights\":[{\"type\":\"sparse\",\"share\":0.9},{\"type\":\"was\",\"groups\":2}]}",
	     "\"weights\":[{\"type\":\"sparse\",\"share\":0.9},{\"type\":\"was\",\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1},"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"was\":{\"layers\":\"all\"}}",
	     "\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1},{\"type\":\"resized_crop\""},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"was\":false}", "\"was\":false"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"vgg16\"}}",
	     "\"model\":{\"arch\":\"vgg16\",\"head\":512},\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1}]"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"vgg16\",\"head\":4096}}",
	     "\"head\":4096},\"was\":{\"transforms\":[{\"type\":\"resized_crop\",\"scale\":[0.8,1],\"ratio\":[0.75,1.3333],\"weight\":1}]"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"vgg16\",\"head\":4096},\"was\":{\"draw\":\"epoch\"}}",
	     "\"type\":\"resized_crop\",\"scale\":[0.8,1],\"ratio\":[0.75,1.3333],\"weight\":1}],\"layers\":\"paper\",\"alpha\":\"learned\",\"draw\":\"epoch\",\"probability\":1,\"groups\":1}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"was\":{\"probability\":0.5}}",
	     "\"draw\":\"step\",\"probability\":0.5,\"groups\":1}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"was\":{\"layers\":[\"layer1.0.conv1\"],\"alpha\":\"fixed\"}}",
	     "\"layers\":[\"layer1.0.conv1\"],\"alpha\":\"fixed\""},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"was\":{\"layers\":[\"layer4.*\",\"conv\"]}}",
	     "\"layers\":[\"layer4.*\",\"conv\"],\"alpha\""},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"was\":{\"layers\":\"*.conv?\"}}",
	     "\"layers\":\"*.conv?\",\"alpha\""},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"was\":{\"layers\":\"conv?\"}}",
	     "\"layers\":\"conv?\",\"alpha\""},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"was\":{\"probability\":{\"epochs\":10}}}",
	     "\"probability\":{\"from\":0,\"to\":1,\"epochs\":10}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"train\":{\"augment\":[\"flip\",{\"type\":\"crop\"}]}}",
	     "\"augment\":[{\"type\":\"flip\"},{\"type\":\"crop\",\"pad\":4}]"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"train\":{\"optimizer\":{\"type\":\"adamw\"}}}",
	     "\"optimizer\":{\"type\":\"adamw\",\"lr\":0.001}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"train\":{\"schedule\":{\"type\":\"step\",\"warmup_epochs\":2.5}}}",
	     "\"schedule\":{\"type\":\"step\",\"every\":30,\"warmup_epochs\":2.5}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"checkpoint\":{\"keep\":{\"metric\":\"val_loss_aom\"}}}",
	     "\"metric\":\"val_loss_aom\",\"mode\":\"min\""},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"train\":{\"early_stop\":{}}}",
	     "\"early_stop\":{\"patience\":5,\"metric\":\"val_acc_aom\",\"mode\":\"max\"}"},
		{"{\"dataset\":\"d\",\"model\":{\"layers\":[{\"type\":\"conv\",\"out\":8}]}}", "\"name\":\"custom-d\""},
		{"{\"dataset\":\"d\",\"model\":{\"layers\":[{\"type\":\"conv\",\"out\":8}],\"name\":\"tiny\"}}",
	     "\"model\":{\"name\":\"tiny\",\"layers\":[{\"type\":\"conv\",\"out\":8}]},\"was\":false"},
		{"{\"dataset\":\"d\",\"model\":{\"layers\":[{\"type\":\"conv\",\"augment\":true}]}}",
	     "\"was\":{\"transforms\":[{\"type\":\"translate\",\"x\":0.3,\"y\":0.3,\"weight\":1},{\"type\":\"resized_crop\""},
		{"{\"dataset\":{\"name\":\"d\",\"version\":3},\"model\":{\"arch\":\"lenet\"}}",
	     "\"dataset\":{\"name\":\"d\",\"version\":3}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"init_from\":{\"checkpoint\":\"ckpt_1\"}}",
	     "\"init_from\":\"ckpt_1\""},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"name\":\"'; DROP TABLE jobs; $(reboot)\\n\\u001b[31m\"}",
	     "\"name\":\"'; DROP TABLE jobs; $(reboot)\\n\\u001b[31m\""},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"data\":{\"limit\":1}}",
	     "\"data\":{\"val_fraction\":0.1,\"limit\":1}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"data\":{\"limit\":0.25,\"val_fraction\":0}}",
	     "\"data\":{\"val_fraction\":0,\"limit\":0.25}"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"lenet\"},\"eval\":{\"modes\":[\"dom\",\"aom\"]}}",
	     "\"modes\":[\"aom\",\"dom\"]"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"profiles\":[{\"desire\":\"macs\",\"budget\":0.7},{\"budget_us\":900,\"desire\":\"latency\",\"name\":\"quick\",\"evaluations\":50},{\"draw\":[{\"dx\":1}]}]}",
	     "\"profiles\":[{\"desire\":\"macs\",\"budget\":0.7,\"name\":\"macs-70\"},{\"name\":\"quick\",\"desire\":\"latency\",\"budget_us\":900,\"evaluations\":50},"
	     "{\"draw\":[{\"dx\":1}],\"desire\":\"draw\",\"name\":\"draw-"},
		{"{\"dataset\":\"d\",\"model\":{\"arch\":\"resnet18\"},\"profiles\":[{\"desire\":\"macs\",\"budget\":0.725},{\"desire\":\"macs\",\"budget\":0.07},{\"desire\":\"latency\",\"budget_us\":900}]}",
	     "\"name\":\"macs-72.5\"},{\"desire\":\"macs\",\"budget\":0.07,\"name\":\"macs-7\"},{\"desire\":\"latency\",\"budget_us\":900,\"name\":\"latency-900us\"}"},
	};
	for (size_t i = 0; i < API_LEN(rows); i++) {
		char *text = canon(rows[i].in);
		CHECK_MSG(text && strstr(text, rows[i].part), "%s gives %s, which does not hold %s", rows[i].in,
		          text ? text : "nothing", rows[i].part);
		wasd_free(text);
	}
}

int main(void)
{
	TEST_RUN(defaults);
	TEST_RUN(fixed_point);
	TEST_RUN(choices);
	TEST_END();
}
