#!/usr/bin/python3
"""Conversations of unmodified clients with a daemon: run by test_stock_clients.py with the Python of a virtual environment that
contains them. Arguments: port, model, a JPEG file. Prints the lines that tests/run counts."""
import asyncio, json, sys

import numpy
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

from lib import case, check, equal, finish

port, model, picture = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
url = f"127.0.0.1:{port}"
client = http.InferenceServerClient(url, concurrency=4)
meta = client.get_model_metadata(model)
shape = meta["inputs"][0]["shape"][1:]
classes = json.loads(meta["properties"]["classes"])
rng = numpy.random.default_rng(1)
pixels = rng.integers(0, 256, (2, *shape), dtype="uint8")
x = ((pixels / 255.0 - 0.5) / 0.5).astype("float32")


def tensor(data, datatype, name="input", binary=True):
    t = http.InferInput(name, list(data.shape), datatype)
    t.set_data_from_numpy(data, binary_data=binary)
    return t


def infer(t, outputs=None, **kw):
    return client.infer(model, [t], outputs=outputs, **kw)


def refused(what, status, call):
    try:
        call()
    except InferenceServerException as e:
        check(what in e.message(), e.message())
        equal(e.status(), str(status))
    else:
        raise AssertionError("it was not refused")


reference = infer(tensor(x, "FP32")).as_numpy("logits")

def classified(rows):
    """The class indices and labels of an answer to a classification."""
    return [[(int(i), label) for _, i, label in ((v.decode() if isinstance(v, bytes) else v).split(":", 2) for v in row)] for row in rows]


for what, ask in (("is_server_live", client.is_server_live), ("is_server_ready", client.is_server_ready), ("is_model_ready", lambda: client.is_model_ready(model)),
                  ("is_model_ready of a version", lambda: client.is_model_ready(model, "1"))):
    with case(f"tritonclient: {what}"):
        equal(ask(), True)

with case("tritonclient: is_model_ready of a model that is not there"):
    equal(client.is_model_ready("nothing"), False)

with case("tritonclient: server metadata"):
    check({"binary_tensor_data", "classification"} <= set(client.get_server_metadata()["extensions"]), "extensions")

with case("tritonclient: model metadata, with a version"):
    equal(client.get_model_metadata(model, "1"), meta)
    equal((meta["inputs"][1]["name"], meta["inputs"][1]["datatype"], meta["inputs"][1]["shape"]), ("image", "BYTES", [-1]))

with case("tritonclient: model configuration"):
    equal(client.get_model_config(model)["max_batch_size"], 64)

with case("tritonclient: repository index"):
    equal([(m["name"], m["state"]) for m in client.get_model_repository_index()], [(model, "READY")])

with case("tritonclient: inference statistics count a request"):
    def count():
        return client.get_inference_statistics(model)["model_stats"][0]["inference_stats"]["success"]["count"]
    before = count()
    infer(tensor(x, "FP32"))
    equal(count(), before + 1)

with case("tritonclient: statistics of all models"):
    equal([m["name"] for m in client.get_inference_statistics()["model_stats"]], [model])

for binary_in in (True, False):
    for binary_out in (True, False):
        with case(f"tritonclient: {'binary' if binary_in else 'JSON'} in, {'binary' if binary_out else 'JSON'} out, the same numbers"):
            outputs = [http.InferRequestedOutput(n, binary_data=binary_out) for n in ("probs", "logits")]
            r = infer(tensor(x, "FP32", binary=binary_in), outputs)
            check((r.as_numpy("logits") == reference).all(), "logits")
            check(numpy.allclose(r.as_numpy("probs").sum(1), 1, atol=1e-5), "probabilities")

for datatype, kind in (("FP16", "float16"), ("FP64", "float64")):
    with case(f"tritonclient: {datatype}"):
        got = infer(tensor(x.astype(kind), datatype)).as_numpy("logits")
        check((got == infer(tensor(x.astype(kind).astype("float32"), "FP32")).as_numpy("logits")).all(), datatype)
for datatype in ("INT8", "INT16", "INT32", "INT64", "UINT16", "UINT32", "UINT64", "BOOL"):
    with case(f"tritonclient: {datatype}"):
        v = rng.integers(0, 2, x.shape).astype(datatype.lower())
        check((infer(tensor(v, datatype)).as_numpy("logits") == infer(tensor(v.astype("float32"), "FP32")).as_numpy("logits")).all(), datatype)
for binary in (True, False):
    with case(f"tritonclient: UINT8 means pixels, {'binary' if binary else 'JSON'}"):
        check((infer(tensor(pixels, "UINT8", binary=binary)).as_numpy("logits") == reference).all(), "pixels")

one = infer(tensor(numpy.array([picture], dtype=object), "BYTES", "image")).as_numpy("logits")
with case("tritonclient: a picture as BYTES"):
    equal(one.shape, (1, len(classes)))
with case("tritonclient: several pictures as BYTES"):
    check(numpy.allclose(infer(tensor(numpy.array([picture, picture], dtype=object), "BYTES", "image")).as_numpy("logits"), one, atol=1e-4), "the same picture")
with case("tritonclient: a picture that is none"):
    refused("element 0", 400, lambda: infer(tensor(numpy.array([b"nothing"], dtype=object), "BYTES", "image")))

for binary in (True, False):
    with case(f"tritonclient: classification, {'binary' if binary else 'JSON'}"):
        r = infer(tensor(x, "FP32"), [http.InferRequestedOutput("probs", binary_data=binary, class_count=3)]).as_numpy("probs")
        equal(classified(r), [[(k, classes[k]) for k in sorted(range(len(classes)), key=lambda k: -z[k])[:3]] for z in reference])

for request in (None, "gzip", "deflate"):
    for response in (None, "gzip", "deflate"):
        with case(f"tritonclient: request {request or 'plain'}, response {response or 'plain'}"):
            for binary in (True, False):
                r = infer(tensor(x, "FP32", binary=binary), [http.InferRequestedOutput("logits", binary_data=binary)],
                          request_compression_algorithm=request, response_compression_algorithm=response)
                check((r.as_numpy("logits") == reference).all(), f"binary {binary}")

for what, how in (("version", dict(model_version="1-dom")), ("parameter", dict(parameters={"was_mode": "dom"})), ("header", dict(headers={"WASD-Mode": "dom"})), ("query", dict(query_params={"mode": "dom"}))):
    with case(f"tritonclient: the mode by {what}"):
        equal(infer(tensor(x, "FP32"), **how).get_response()["parameters"]["was_mode"], "dom")
with case("tritonclient: the mode in the model's name"):
    equal(client.infer(f"{model}@dom", [tensor(x, "FP32")]).get_response()["parameters"]["was_mode"], "dom")
with case("tritonclient: two modes that disagree"):
    refused("asks for", 400, lambda: infer(tensor(x, "FP32"), model_version="1-dom", headers={"WASD-Mode": "aom"}))

with case("tritonclient: id, priority and timeout"):
    equal(infer(tensor(x, "FP32"), request_id="nr 7", priority=1, timeout=30_000_000).get_response()["id"], "nr 7")

for what, status, call in (("no deployment", 404, lambda: client.infer("nothing", [tensor(x, "FP32")])), ("shape", 400, lambda: infer(tensor(x[:, :1, :1], "FP32"))),
                           ("at most", 400, lambda: infer(tensor(numpy.zeros((65, *shape), "float32"), "FP32"))), ("nan", 400, lambda: infer(tensor(numpy.full_like(x, numpy.nan), "FP32"))),
                           ("input", 400, lambda: infer(tensor(x, "FP32", "pixels"))), ("version", 404, lambda: infer(tensor(x, "FP32"), model_version="7"))):
    with case(f"tritonclient: a refusal shows its text: {status} {what}"):
        refused(what, status, call)

for what, call in (("trace settings", client.get_trace_settings), ("log settings", client.get_log_settings), ("system shared memory", client.get_system_shared_memory_status),
                   ("CUDA shared memory", client.get_cuda_shared_memory_status), ("changes of log settings", lambda: client.update_log_settings({"log_info": True})),
                   ("registration of shared memory", lambda: client.register_system_shared_memory("a", "/a", 16))):
    with case(f"tritonclient: {what}: not offered, 501"):
        refused("", 501, call)

with case("tritonclient: JSON bodies of several megabytes"):
    many = rng.random((64, *shape), dtype="float32")
    json_in = infer(tensor(many, "FP32", binary=False), [http.InferRequestedOutput("logits", binary_data=False)]).as_numpy("logits")
    check((json_in == infer(tensor(many, "FP32")).as_numpy("logits")).all(), "64 images")

with case("tritonclient: async_infer"):
    waiting = [client.async_infer(model, [tensor(x, "FP32")]) for _ in range(16)]
    check(all((w.get_result().as_numpy("logits") == reference).all() for w in waiting), "16 at once")


async def with_aio():
    async with aio.InferenceServerClient(url) as c:
        t = aio.InferInput("input", list(x.shape), "FP32")
        t.set_data_from_numpy(x)
        for what in ("is_server_live", "is_server_ready"):
            with case(f"tritonclient.aio: {what}"):
                equal(await getattr(c, what)(), True)
        with case("tritonclient.aio: is_model_ready"):
            equal(await c.is_model_ready(model), True)
        with case("tritonclient.aio: model metadata"):
            equal(await c.get_model_metadata(model), meta)
        with case("tritonclient.aio: 16 requests at once"):
            for r in await asyncio.gather(*[c.infer(model, [t]) for _ in range(16)]):
                check((r.as_numpy("logits") == reference).all(), "the same numbers")
        with case("tritonclient.aio: classification"):
            r = await c.infer(model, [t], outputs=[aio.InferRequestedOutput("probs", class_count=1)])
            equal([[i for i, _ in row] for row in classified(r.as_numpy("probs"))], [[int(z.argmax())] for z in reference])
        with case("tritonclient.aio: a refusal shows its text"):
            try:
                await c.infer("nothing", [t])
            except InferenceServerException as e:
                check("no deployment" in e.message() and e.status() == "404", e)
            else:
                raise AssertionError("it was not refused")


asyncio.run(with_aio())
with case("tritonclient: unload_model"):
    client.unload_model(model)
    equal(client.is_model_ready(model), False)
    refused(model, 503, lambda: infer(tensor(x, "FP32")))
with case("tritonclient: repository index of an unloaded model"):
    equal([(m["name"], m["state"]) for m in client.get_model_repository_index()], [(model, "UNAVAILABLE")])
with case("tritonclient: load_model"):
    client.load_model(model)
    equal(client.is_model_ready(model), True)
    check((infer(tensor(x, "FP32")).as_numpy("logits") == reference).all(), "the same numbers as before")
with case("tritonclient: load_model of a model that is not there"):
    refused("nothing", 404, lambda: client.load_model("nothing"))
client.close()
finish()
