#!/usr/bin/python3
"""TensorBoard's own reader on the event files of `wasd export`: run by test_tensorboard.py with the Python of a virtual environment that contains
it. Arguments: port, directory of a run, job. Prints the lines that tests/run counts."""
import json, os, struct, sys, urllib.request

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from lib import case, check, equal, finish

port, run, id = sys.argv[1:]


def daemon(path):
    return json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}"))


job = daemon(f"/v1/jobs/{id}")
series = {s["name"]: s["points"] for s in daemon(f"/v1/jobs/{id}/metrics")["series"]}
reader = EventAccumulator(run, size_guidance={"scalars": 0})
reader.Reload()

with case("tensorboard: every curve, with the API's steps, times and values"):
    equal(sorted(reader.Tags()["scalars"]), sorted(series))
    check({"train_loss_step", "lr_step", "val_acc_aom", "val_acc_dom"} <= set(series), series.keys())
    for name, points in series.items():
        got = [(e.step, round(e.wall_time * 1000), e.value) for e in reader.Scalars(name)]
        equal(got, [(step, ts, struct.unpack("f", struct.pack("f", value))[0]) for step, _, ts, value in points], name)

with case("tensorboard: the spec as hyperparameters"):
    def session(tag):
        data = plugin_data_pb2.HParamsPluginData()
        data.ParseFromString(reader.PluginTagToContent("hparams")[tag])
        return data

    start = session("_hparams_/session_start_info").session_start_info
    equal(start.hparams["train.epochs"].number_value, job["train"]["epochs"])
    equal(start.hparams["train.optimizer.type"].string_value, "adamw")
    equal(start.hparams["train.optimizer.nesterov"].WhichOneof("kind") if "train.optimizer.nesterov" in start.hparams else "bool_value", "bool_value")
    check(0 < start.start_time_secs <= session("_hparams_/session_end_info").session_end_info.end_time_secs, start)
    equal(session("_hparams_/session_end_info").session_end_info.status, 1)

with case("tensorboard: each record is framed with its checksums, which the reader may skip"):
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    name, = os.listdir(run)
    with open(os.path.join(run, name), "rb") as f:
        data = f.read()
    at = n = 0
    while at < len(data):
        size, = struct.unpack("<Q", data[at:at + 8])
        body = data[at + 12:at + 12 + size]
        equal(struct.unpack("<I", data[at + 8:at + 12])[0], masked_crc32c(data[at:at + 8]), f"record {n}: length")
        equal(struct.unpack("<I", data[at + 12 + size:at + 16 + size])[0], masked_crc32c(body), f"record {n}: data")
        event_pb2.Event().ParseFromString(body)
        at, n = at + 16 + size, n + 1
    equal(n, 3 + sum(map(len, series.values())), "records")
finish()
