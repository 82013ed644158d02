"""The stores that the tests read from."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import fsspec
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from remote_stores import Manners, Store, copying, uploading, web_server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The endpoint of a server that speaks S3, known to every client by the environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield endpoint
    server.stop()


@pytest.fixture
def bucket(s3_server: str) -> str:
    """The URL of a new bucket."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def memory() -> str:
    return f"memory://{uuid.uuid4().hex[:8]}"


@pytest.fixture
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, Manners]]:
    """The directory that a web server shows, its URL and its manners."""
    root = tmp_path_factory.mktemp("www")
    with web_server(root) as (url, manners):
        yield root, url, manners
    fsspec.get_filesystem_class("http").clear_instance_cache()


@pytest.fixture(params=["s3", "web", "memory"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each kind of store, empty."""
    if request.param == "web":
        root, url, _ = request.getfixturevalue("web")
        return Store("web", url, copying(root))
    url = request.getfixturevalue("bucket" if request.param == "s3" else "memory")
    return Store(request.param, url, uploading(url))


@pytest.fixture
def run_ckpt() -> Callable[..., tuple[int, str, str]]:
    """Run the program in a process of its own: exit code, stdout, stderr."""

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:

        done = subprocess.run(
            [sys.executable, "-m", "ckpt_tools", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run
