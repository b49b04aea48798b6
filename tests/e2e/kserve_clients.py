#!/usr/bin/python3
"""Conversations of the unmodified KServe SDK with a daemon, in both of its protocols: run by test_stock_clients.py like stock_clients.py.
Arguments: port, model, a picture."""
import asyncio, base64, json, sys, warnings

warnings.filterwarnings("ignore")
import httpx, numpy
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from lib import case, check, equal, finish

port, model, picture = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
base = f"http://127.0.0.1:{port}"
rng = numpy.random.default_rng(2)


async def refused(status, words, call):
    try:
        await call
    except httpx.HTTPStatusError as e:
        equal(e.response.status_code, status)
        check(words in str(e), str(e))
    else:
        raise AssertionError("it was not refused")


def softmax(z):
    e = numpy.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


async def v2():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    meta = httpx.get(f"{base}/v2/models/{model}").json()
    shape, classes = meta["inputs"][0]["shape"][1:], json.loads(meta["properties"]["classes"])
    pixels = rng.integers(0, 256, (2, *shape), dtype="uint8")
    x = ((pixels / 255.0 - 0.5) / 0.5).astype("float32")

    def request(data, datatype="FP32", binary=True, name="input", outputs=None, **kw):
        t = InferInput(name, list(data.shape), datatype)
        t.set_data_from_numpy(data, binary_data=binary)
        return InferRequest(model, [t], request_outputs=outputs, **kw)

    async def numbers(r, name="logits", **kw):
        return (await client.infer(base, r, model, **kw)).get_output_by_name(name).as_numpy()

    reference = await numbers(request(x))

    with case("KServe SDK v2: is_server_live"):
        equal(await client.is_server_live(base), True)
    with case("KServe SDK v2: is_server_ready"):
        equal(await client.is_server_ready(base), True)
    with case("KServe SDK v2: is_model_ready"):
        equal(await client.is_model_ready(base, model), True)
    with case("KServe SDK v2: is_model_ready of a model that is not there"):
        equal(await client.is_model_ready(base, "nothing"), False)
    for binary in (True, False):
        for out in (True, False):
            with case(f"KServe SDK v2: infer, {'binary' if binary else 'JSON'} in, {'binary' if out else 'JSON'} out"):
                outputs = [RequestedOutput(n, {"binary_data": out}) for n in ("logits", "probs")]
                r = await client.infer(base, request(x, binary=binary, outputs=outputs), model)
                equal(r.model_name, model)
                check(numpy.array_equal(r.get_output_by_name("logits").as_numpy(), reference), "logits")
                check(numpy.allclose(r.get_output_by_name("probs").as_numpy(), softmax(reference), atol=1e-6), "probs")
    for datatype in ("FP64", "FP16", "INT8", "INT32", "INT64", "UINT16"):
        with case(f"KServe SDK v2: {datatype}"):
            kind = {"FP64": "float64", "FP16": "float16"}.get(datatype, datatype.lower())
            v = x.astype(kind) if "FP" in datatype else rng.integers(0, 2, x.shape).astype(kind)
            check(numpy.array_equal(await numbers(request(v, datatype)), await numbers(request(v.astype("float32")))), datatype)
    for binary in (True, False):
        with case(f"KServe SDK v2: UINT8 means pixels, {'binary' if binary else 'JSON'}"):
            check(numpy.array_equal(await numbers(request(pixels, "UINT8", binary)), reference), "pixels")
    with case("KServe SDK v2: a picture as BYTES"):
        one = await numbers(request(numpy.array([picture], dtype=object), "BYTES", name="image"))
        equal(one.shape, (1, len(classes)))
    with case("KServe SDK v2: classification"):
        r = await client.infer(base, request(x, outputs=[RequestedOutput("probs", {"classification": 2, "binary_data": False})]), model)
        rows = numpy.array(r.get_output_by_name("probs").data).reshape(2, 2)
        for row, z in zip(rows, reference):
            equal([int(str(v).split(":")[1]) for v in row], list(numpy.argsort(-z, kind="stable")[:2]))
    with case("KServe SDK v2: a request id comes back"):
        equal((await client.infer(base, request(x, request_id="nr 8"), model)).id, "nr 8")
    with case("KServe SDK v2: the mode as a parameter"):
        equal((await client.infer(base, request(x, parameters={"was_mode": "dom"}), model)).parameters["was_mode"], "dom")
    with case("KServe SDK v2: the mode as a header, told in the response's headers"):
        told = {}
        await client.infer(base, request(x), model, headers={"WASD-Mode": "dom"}, response_headers=told)
        equal(told["wasd-mode"], "dom")
    with case("KServe SDK v2: the mode in the model's name"):
        equal((await client.infer(base, request(x), f"{model}@dom")).parameters["was_mode"], "dom")
    with case("KServe SDK v2: a dict in place of an InferRequest"):
        r = await client.infer(base, {"inputs": [{"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]}, model)
        check(numpy.array_equal(r.get_output_by_name("logits").as_numpy(), reference), "logits")
    with case("KServe SDK v2: 16 requests at once"):
        for got in await asyncio.gather(*[numbers(request(x)) for _ in range(16)]):
            check(numpy.allclose(got, reference, atol=1e-4), "logits")
    for status, words, call in ((404, "no deployment", lambda: client.infer(base, request(x), "nothing")), (400, "shape", lambda: client.infer(base, request(x[:, :, :2]), model)),
                                (400, "input", lambda: client.infer(base, request(x, name="pixels"), model)), (400, "datatype", lambda: client.infer(base, {"inputs": [{"name": "input", "shape": [1], "datatype": "X", "data": [1]}]}, model)),
                                (400, "asks for", lambda: client.infer(base, request(x, parameters={"was_mode": "dom"}), model, headers={"WASD-Mode": "aom"}))):
        with case(f"KServe SDK v2: a refusal shows its text: {status} {words}"):
            await refused(status, words, call())
    await client.close()
    return x, reference


async def v1(x, reference):
    client = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
    probs = softmax(reference)
    b64 = base64.b64encode(picture).decode()

    async def predictions(instances, name=model, **kw):
        return numpy.array((await client.infer(base, {"instances": instances}, name, **kw))["predictions"])

    with case("KServe SDK v1: is_model_ready"):
        equal(await client.is_model_ready(base, model), True)
    with case("KServe SDK v1: is_model_ready of a model that is not there"):
        await refused(404, "", client.is_model_ready(base, "nothing"))
    with case("KServe SDK v1: nested numbers"):
        check(numpy.allclose(await predictions(x.tolist()), probs, atol=1e-6), "predictions")
    with case("KServe SDK v1: flat numbers"):
        check(numpy.allclose(await predictions(x.reshape(2, -1).tolist()), probs, atol=1e-6), "predictions")
    with case("KServe SDK v1: one instance"):
        check(numpy.allclose(await predictions(x[:1].tolist()), probs[:1], atol=1e-6), "predictions")
    with case("KServe SDK v1: pictures as b64"):
        two = await predictions([{"b64": b64}, {"image_bytes": {"b64": b64}}])
        check(numpy.allclose(two[0], two[1], atol=1e-6) and abs(two[0].sum() - 1) < 1e-5, two)
    with case("KServe SDK v1: the mode as a header"):
        told = {}
        await predictions(x.tolist(), headers={"WASD-Mode": "dom"}, response_headers=told)
        equal(told["wasd-mode"], "dom")
    with case("KServe SDK v1: the mode in the model's name"):
        told = {}
        await predictions(x.tolist(), f"{model}@dom", response_headers=told)
        equal(told["wasd-mode"], "dom")
    for status, words, call in ((404, "no deployment", lambda: predictions(x.tolist(), "nothing")), (400, "instances", lambda: client.infer(base, {"inputs": []}, model)),
                                (400, "no element", lambda: predictions([])), (400, "instances", lambda: predictions([[1, 2]])), (400, "base64", lambda: predictions([{"b64": "%"}]))):
        with case(f"KServe SDK v1: a refusal shows its text: {status} {words}"):
            await refused(status, words, call())
    with case("KServe SDK v1: explanations are not offered: 404"):
        await refused(404, "", client.explain(base, model, {"instances": []}))
    await client.close()


async def both():
    await v1(*await v2())


asyncio.run(both())
finish()
