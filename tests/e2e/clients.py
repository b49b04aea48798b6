"""The virtual environment of the build tree with unmodified clients from PyPI. Tests that need it are skipped, and say so, where PyPI
cannot be reached."""
import fcntl, json, os, subprocess, sys

from lib import BUILD

PACKAGES = ["tritonclient[http]==2.73.0", "aiohttp", "prometheus_client==0.22.1"]


def environment():
    """The Python with the clients; or None and the reason. Tests that run side by side wait for one of them to make it."""
    home = os.path.join(BUILD, "clients")
    python, stamp = os.path.join(home, "bin", "python"), os.path.join(home, "packages.json")
    with open(os.path.join(BUILD, "clients.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(stamp) and json.load(open(stamp)) == PACKAGES:
            return python, None
        for step in ([sys.executable, "-m", "venv", "--clear", home], [python, "-m", "pip", "install", "-q", "--retries", "1", "--timeout", "20", *PACKAGES]):
            try:
                p = subprocess.run(step, capture_output=True, text=True, timeout=300)
            except subprocess.TimeoutExpired:
                return None, "pip had not ended after 300 s"
            if p.returncode:
                return None, (p.stdout + p.stderr).strip().splitlines()[-1]
        with open(stamp, "w") as f:
            json.dump(PACKAGES, f)
        return python, None
