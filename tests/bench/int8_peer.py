"""One process of tests/bench/int8.py: an int8 network of another program. Needs onnxruntime and onnx, or openvino and nncf.

    int8_peer.py quantise onnxruntime|openvino MODEL.onnx OUT      static quantisation on random images
    int8_peer.py run onnxruntime|openvino OUT BATCH THREADS STEPS  prints {"ms": mean, "best": ms} of a step
    int8_peer.py versions
"""
import json, sys, time
import numpy as np

rng = np.random.default_rng(1)


def images(n, count):
    return [rng.uniform(-1, 1, (n, 3, 32, 32)).astype(np.float32) for _ in range(count)]


def quantise_onnxruntime(model, out):
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, name):
            self.left = [{name: x} for x in images(1, 32)]

        def get_next(self):
            return self.left.pop() if self.left else None

    quant_pre_process(model, out + ".prepared", skip_symbolic_shape=True)
    name = onnx.load(out + ".prepared").graph.input[0].name
    # s8 weights with u8 activations: what its VNNI kernels take.
    quantize_static(out + ".prepared", out, Reader(name), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def quantise_openvino(model, out):
    import nncf, openvino as ov
    m = ov.Core().read_model(model)
    ov.save_model(nncf.quantize(m, nncf.Dataset(images(1, 32)), preset=nncf.QuantizationPreset.MIXED), out + ".xml")


def onnxruntime_step(path, batch, threads):
    import onnxruntime as ort
    o = ort.SessionOptions()
    o.intra_op_num_threads, o.inter_op_num_threads = threads, 1
    s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    feed = {s.get_inputs()[0].name: images(batch, 1)[0]}
    return lambda: s.run(None, feed)


def openvino_step(path, batch, threads):
    import openvino as ov
    core = ov.Core()
    m = core.read_model(path + ".xml")
    m.reshape([batch, 3, 32, 32])
    c = core.compile_model(m, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"})
    r, x = c.create_infer_request(), images(batch, 1)[0]
    return lambda: r.infer({0: x}, share_inputs=True)


def run(step, steps):
    for _ in range(5):
        step()
    best, begin = 1e9, time.perf_counter()
    for _ in range(steps):
        t = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - t)
    return {"ms": (time.perf_counter() - begin) * 1e3 / steps, "best": best * 1e3}


what = sys.argv[1]
if what == "versions":
    out = {}
    for name in ("onnxruntime", "openvino", "nncf"):
        try:
            out[name] = __import__(name).__version__
        except ImportError:
            out[name] = None
    print(json.dumps(out))
elif what == "quantise":
    {"onnxruntime": quantise_onnxruntime, "openvino": quantise_openvino}[sys.argv[2]](sys.argv[3], sys.argv[4])
else:
    step = {"onnxruntime": onnxruntime_step, "openvino": openvino_step}[sys.argv[2]](sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    print(json.dumps(run(step, int(sys.argv[6]))))
