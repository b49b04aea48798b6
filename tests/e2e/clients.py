"""The virtual environment of the build tree with unmodified clients from PyPI. Tests that need it are skipped, and say so, where PyPI
cannot be reached."""
import fcntl, json, os, subprocess, sys

from lib import BUILD

# tritonclient and the KServe SDK are the clients; httpx and requests are what the reference's examples use; the rest is what they import.
# The SDK's own list of requirements also has servers and clouds, so packages are installed as listed, without those that they name.
PACKAGES = """
tritonclient==2.73.0 kserve==0.21.0 prometheus_client==0.22.1 httpx==0.28.1 requests==2.34.2
aiohappyeyeballs==2.7.1 aiohttp==3.14.5 aiosignal==1.4.0 annotated-types==0.8.0 anyio==4.16.0 attrs==26.1.0 brotli==1.2.1 certifi==2026.10.19.post1
charset-normalizer==3.4.4 click==8.5.1 cloudevents==1.13.0 deprecation==2.1.0 durationpy==0.11 fastapi==0.115.14 frozenlist==1.8.0 gevent==26.9.0
geventhttpclient==2.6.1 greenlet==3.3.2 grpc-interceptor==0.15.4 grpcio==1.85.3 h11==0.16.0 httpcore==1.0.9 idna==3.20 kubernetes==37.0.2 ml_dtypes==0.5.4 multidict==7.2.1
numpy==2.4.6 oauthlib==4.0.1 orjson==3.13.0 packaging==26.4 pandas==3.1.1 propcache==0.5.4 protobuf==6.33.6 psutil==5.9.8 pydantic==2.14.4
pydantic_core==2.50.5 python-dateutil==4.0.0 python-rapidjson==1.25 PyYAML==6.0.4 requests-oauthlib==2.0.0 six==1.17.0 starlette==0.46.2
tabulate==0.10.0 timing-asgi==0.3.2 typing-inspection==0.4.5 typing_extensions==4.16.0 urllib3==2.8.0 uvicorn==0.54.0 watchfiles==1.3.0
websocket-client==1.9.2 yarl==1.25.1 zope.event==6.2 zope.interface==8.7
""".split()
# mlflow-skinny and what it imports.
MLFLOW = """
annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 cachetools==6.2.6 certifi==2026.10.19.post1 cffi==2.1.1 charset-normalizer==3.5.3
click==8.5.1 cloudpickle==3.1.3 cryptography==50.0.2 databricks-sdk==0.162.0 fastapi==0.165.0 gitdb==4.0.12 GitPython==3.2.1 google-auth==2.63.0
h11==0.16.0 idna==3.20 importlib_metadata==8.9.0 mlflow-skinny==3.1.4 opentelemetry-api==1.45.2 opentelemetry-sdk==1.45.2
opentelemetry-semantic-conventions==0.66b2 packaging==25.0 protobuf==6.33.6 pyasn1==0.6.5 pyasn1_modules==0.4.2 pycparser==3.12 pydantic==2.14.4
pydantic_core==2.50.5 PyYAML==6.0.4 requests==2.34.2 smmap==5.0.3 sqlparse==0.6.1 starlette==1.10.0 typing-inspection==0.4.5 typing_extensions==4.16.0
urllib3==2.8.0 uvicorn==0.54.0 zipp==4.1.2
""".split()
# TensorBoard without the server of its data, which the reading of event files does not need.
TENSORBOARD = """
absl-py==2.5.1 grpcio==1.85.3 Markdown==3.11.3 MarkupSafe==3.0.4 numpy==2.4.6 packaging==26.4 pillow==13.0.0 protobuf==7.36.2 tensorboard==2.21.0
typing_extensions==4.16.0 Werkzeug==3.1.9
""".split()


def environment(name="clients", packages=PACKAGES):
    """The Python with the clients; or None and the reason. Tests that run side by side wait for one of them to make it."""
    home = os.path.join(BUILD, name)
    python, stamp = os.path.join(home, "bin", "python"), os.path.join(home, "packages.json")
    with open(home + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(stamp) and json.load(open(stamp)) == packages:
            return python, None
        for step in ([sys.executable, "-m", "venv", "--clear", home], [python, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--retries", "1", "--timeout", "20", *packages]):
            try:
                p = subprocess.run(step, capture_output=True, text=True, timeout=300)
            except subprocess.TimeoutExpired:
                return None, "pip had not ended after 300 s"
            if p.returncode:
                return None, (p.stdout + p.stderr).strip().splitlines()[-1]
        with open(stamp, "w") as f:
            json.dump(packages, f)
        return python, None
