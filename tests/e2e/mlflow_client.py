#!/usr/bin/python3
"""The conversation of an unmodified MlflowClient with a daemon: run by test_mlflow.py with the Python of a virtual environment that contains it.
Arguments: port, two jobs. Prints the lines that tests/run counts."""
import contextlib, io, json, os, re, sys, urllib.request

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from lib import TOP, case, check, equal, finish

port, one, two = sys.argv[1:]
url = f"http://127.0.0.1:{port}"
client = MlflowClient(tracking_uri=url)


def daemon(path):
    return json.load(urllib.request.urlopen(url + path))


with case("mlflow: the experiment, by search, id and name"):
    equal([(e.experiment_id, e.name) for e in client.search_experiments()], [("0", "wasd")])
    equal(client.get_experiment("0").name, "wasd")
    equal(client.get_experiment_by_name("wasd").experiment_id, "0")
    equal(client.get_experiment_by_name("other"), None)

with case("mlflow: a run has the job's numbers, spec and labels"):
    run, job = client.get_run(two), daemon(f"/v1/jobs/{two}")
    equal((run.info.status, run.info.run_name, run.info.experiment_id), ("FINISHED", "two", "0"))
    equal(run.data.metrics, {k: v for k, v in job["metrics_latest"].items() if k in run.data.metrics})
    check({"val_acc_aom", "val_acc_dom", "train_loss"} <= set(run.data.metrics), run.data.metrics)
    equal((run.data.params["train.epochs"], run.data.params["model.arch"], json.loads(run.data.params["train.augment"])), ("2", "lenet", []))
    equal((run.data.tags["team"], run.data.tags["mlflow.note.content"], run.data.tags["wasd.state"]), ("blue", "for mlflow", "completed"))
    check(0 < run.info.end_time - run.info.start_time < 600000, run.info)

with case("mlflow: histories are the series"):
    for name in ("val_acc_aom", "train_loss_step", "lr_step", "images_per_s_step"):
        points = daemon(f"/v1/jobs/{two}/metrics?names={name}")["series"][0]["points"]
        equal([(m.step, m.timestamp, m.value) for m in client.get_metric_history(two, name)], [(p[0], p[2], p[3]) for p in points], name)
    equal(client.get_metric_history(two, "none"), [])

with case("mlflow: runs are searched, filtered, ordered and paged"):
    equal([r.info.run_id for r in client.search_runs(["0"])], [two, one])
    equal([r.info.run_id for r in client.search_runs(["0"], "params.`train.epochs` = '1' and metrics.val_acc_aom >= 0")], [one])
    equal([r.info.run_id for r in client.search_runs(["0"], order_by=["attributes.start_time ASC"])], [one, two])
    first = client.search_runs(["0"], max_results=1)
    equal([r.info.run_id for r in first], [two])
    second = client.search_runs(["0"], max_results=1, page_token=first.token)
    equal(([r.info.run_id for r in second], second.token), ([one], None))

with case("mlflow: errors are MLflow's own"):
    for call, code in ((lambda: client.get_run("job_none"), "RESOURCE_DOES_NOT_EXIST"), (lambda: client.search_runs(["0"], "nonsense"), "INVALID_PARAMETER_VALUE")):
        try:
            call()
        except MlflowException as e:
            equal(e.error_code, code)
        else:
            raise AssertionError("it was not refused")

with case("mlflow: the reference's example, with a lower threshold"):
    with open(os.path.join(TOP, "web/docs/api.md")) as f:
        example = re.search(r"^```\n(from mlflow import .*?)^```$", f.read(), re.S | re.M)[1]
    equal((example.count("127.0.0.1:8080"), example.count("> 0.9")), (1, 1))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(example.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("> 0.9", ">= 0"))
    lines = said.getvalue().splitlines()
    equal((len(lines), {lines[0].split()[0], lines[2].split()[0]}), (4, {one, two}))
finish()
