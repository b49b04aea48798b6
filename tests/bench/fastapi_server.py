"""A peer of tests/bench/serving_peers.py: a network behind FastAPI, uvicorn and ONNX Runtime, as one writes it for speed. The body is binary, the
event loop never computes, and a pool of POOL threads runs the session with INTRA threads each. The request is the binary form of the Open Inference
Protocol, so that one load generator drives all contenders: JSON of Inference-Header-Content-Length bytes, then the tensor.

    MODEL=model.onnx INTRA=2 POOL=1 uvicorn fastapi_server:app"""
import asyncio, concurrent.futures, os

import numpy, onnxruntime
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = int(os.environ["INTRA"]), 1
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
source = session.get_inputs()[0]
shape = source.shape[1:]
pool = concurrent.futures.ThreadPoolExecutor(int(os.environ["POOL"]))
app = FastAPI()


def run(x):
    return session.run(None, {source.name: x})[0]


@app.get("/v2/models/{model}")
def metadata(model: str):
    return {"name": model, "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, *shape]}]}


@app.post("/v2/models/{model}/infer")
async def infer(model: str, request: Request):
    body = await request.body()
    x = numpy.frombuffer(body[int(request.headers["inference-header-content-length"]):], "<f4").reshape(-1, *shape)
    logits = await asyncio.get_running_loop().run_in_executor(pool, run, x)
    return Response(logits.tobytes(), media_type="application/octet-stream")
