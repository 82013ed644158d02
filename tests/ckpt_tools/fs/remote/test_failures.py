"""What networks and stores do to a reader: errors of ours, never a traceback, never bytes of two versions."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import boto3
import fsspec
import numpy as np
import pytest
from checkpoints import build_bundle
from remote_stores import Manners, Store, uploading

import ckpt_tools
from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.verification import verify
from ckpt_tools.errors import (
    BusyError,
    CkptError,
    NotFoundError,
    StorageError,
    UnsafeError,
    UnsupportedError,
    UsageError,
)
from ckpt_tools.fs import paths
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.location import locate

VALUES = np.arange(1 << 20, dtype=np.float32)


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_what_is_not_there(store: Store, tmp_path: Path) -> None:
    build_bundle(tmp_path / "model.ckpt", {"w": VALUES[:10]})
    store.put(tmp_path / "model.ckpt.index", "run/model.ckpt.index")
    with pytest.raises(NotFoundError) as caught:
        inspect(store.url("run/other.ckpt"))
    assert "model.ckpt" in (caught.value.hint or "")
    found = verify(store.url("run/model.ckpt"))
    assert {f.id for f in found.findings} == {"not-found"}
    with pytest.raises(NotFoundError):
        inspect(store.url("nothing/at/all"))


def test_a_bucket_that_does_not_exist(s3_server: str) -> None:  # noqa: ARG001
    with pytest.raises(NotFoundError):
        inspect("s3://no-such-bucket-anywhere/run")


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/run/model.ckpt", "s3://bucket/run"])
def test_a_server_that_is_down(url: str, run_ckpt: Callable[..., tuple[int, str, str]]) -> None:
    port = _unused_port()
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_MAX_ATTEMPTS": "1"}
    code, _, err = run_ckpt(
        "inspect", url.format(port=port), AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}", NO_COLOR="1", **keys
    )
    assert code == StorageError.exit_code, err
    assert "next: check the address and the network" in err
    assert "Traceback" not in err


def test_no_credentials(run_ckpt: Callable[..., tuple[int, str, str]], s3_server: str, tmp_path: Path) -> None:
    bare = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(tmp_path), "AWS_ENDPOINT_URL": s3_server}
    code, _, err = run_ckpt("inspect", "s3://bucket/run", **bare)
    assert code == StorageError.exit_code, err
    assert "no credentials for s3://" in err
    assert "AWS_PROFILE" in err


@pytest.mark.parametrize(("status", "error"), [(404, NotFoundError), (403, StorageError), (500, StorageError)])
def test_answers_of_a_web_server(web: tuple[Path, str, Manners], status: int, error: type[CkptError]) -> None:
    root, url, manners = web
    build_bundle(root / "model.ckpt", {"w": VALUES[:10]})
    manners.status["model.ckpt.index"] = status
    with pytest.raises(error) as caught:
        inspect(f"{url}/model.ckpt")
    assert status == 404 or f"HTTP {status}" in caught.value.message


def test_a_directory_that_is_not_listed(web: tuple[Path, str, Manners]) -> None:
    root, url, manners = web
    build_bundle(root / "model.ckpt", {"w": VALUES[:10]})
    manners.listing = False
    assert inspect(f"{url}/model.ckpt").format == "bundle-name"
    with pytest.raises(CkptError) as caught:
        inspect(url + "/")
    assert caught.value.exit_code in (NotFoundError.exit_code, StorageError.exit_code)
    (root / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    assert inspect(f"{url}/checkpoint").prefix == f"{url}/model.ckpt"


def test_answers_that_are_cut_off(web: tuple[Path, str, Manners]) -> None:
    root, url, manners = web
    build_bundle(root / "model.ckpt", {"w": VALUES})
    manners.cut = 5
    with pytest.raises((StorageError, BusyError)):
        inspect(f"{url}/model.ckpt")


def test_a_connection_that_breaks_once(web: tuple[Path, str, Manners]) -> None:
    root, url, manners = web
    build_bundle(root / "model.ckpt", {"w": VALUES})
    manners.cut = 5

    def better(path: str) -> None:
        if manners.asked and manners.asked[-1][0] == "GET" and path.endswith(".index"):
            manners.cut = 0

    manners.before = better
    assert inspect(f"{url}/model.ckpt").totals["tensors"] == 1


@pytest.mark.parametrize("size", [VALUES.size, 20 << 20], ids=["small", "large"])
def test_a_server_without_ranges(web: tuple[Path, str, Manners], size: int) -> None:
    root, url, manners = web
    build_bundle(root / "model.ckpt", {"a": np.zeros(size, np.float32), "w": VALUES[:10]})
    manners.ranges = False
    with ckpt_tools.open(f"{url}/model.ckpt") as checkpoint:
        if size == VALUES.size:
            np.testing.assert_array_equal(checkpoint["w"].read(), VALUES[:10])
        else:
            with pytest.raises(UnsupportedError, match="no ranges"):
                checkpoint["w"].read()


@pytest.mark.parametrize("etags", [True, False])
def test_replaced_while_it_is_read_from_a_web_server(web: tuple[Path, str, Manners], etags: bool) -> None:
    root, url, manners = web
    manners.etags = etags
    build_bundle(root / "model.ckpt", {"w": VALUES})
    os.utime(root / "model.ckpt.data-00000-of-00001", (1, 1))
    with open_checkpoint(f"{url}/model.ckpt") as checkpoint:
        chunks = checkpoint.chunks("w")
        next(chunks)
        build_bundle(root / "new.ckpt", {"w": VALUES})
        os.replace(root / "new.ckpt.data-00000-of-00001", root / "model.ckpt.data-00000-of-00001")
        with pytest.raises(BusyError, match="replaced while it was read"):
            list(chunks)


@pytest.mark.parametrize("kind", ["bucket", "memory"])
def test_replaced_while_it_is_read_from_a_store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = request.getfixturevalue(kind)
    build_bundle(tmp_path / "model.ckpt", {"w": VALUES})
    uploading(url)(tmp_path, "run")
    with open_checkpoint(f"{url}/run/model.ckpt") as checkpoint:
        chunks = checkpoint.chunks("w")
        next(chunks)
        build_bundle(tmp_path / "model.ckpt", {"w": VALUES + 1})
        uploading(url)(tmp_path, "run")
        with pytest.raises(BusyError, match="replaced while it was read"):
            list(chunks)


def test_damage_is_found(store: Store, tmp_path: Path) -> None:
    build_bundle(tmp_path / "model.ckpt", {"w": VALUES})
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-4] + b"bad!")
    store.put(tmp_path, "run")
    assert verify(store.url("run/model.ckpt")).damaged == ["w"]
    data.write_bytes(data.read_bytes()[:1000])
    store.put(tmp_path, "run2")
    assert "cut off" in str(verify(store.url("run2/model.ckpt"), quick=True).findings[0].message)


@pytest.mark.parametrize("stored", ["../secret", "a/../../secret", "%2e%2e/secret", "..%2fsecret"])
def test_a_state_file_leads_nowhere_else(store: Store, tmp_path: Path, stored: str) -> None:
    (tmp_path / "run").mkdir()
    build_bundle(tmp_path / "secret", {"w": VALUES[:10]})
    (tmp_path / "run" / "checkpoint").write_text(f'model_checkpoint_path: "{stored}"\n')
    store.put(tmp_path, "top")
    with pytest.raises((UnsafeError, NotFoundError)):
        locate(store.url("top/run"))


@pytest.mark.parametrize("stored", ["/old/machine/run/ckpt-1", "gs://old-bucket/run/ckpt-1"])
def test_a_state_file_of_another_place_means_this_one(store: Store, tmp_path: Path, stored: str) -> None:
    build_bundle(tmp_path / "ckpt-1", {"w": VALUES[:10]})
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{stored}"\n')
    store.put(tmp_path, "run")
    assert locate(store.url("run")) == store.url("run/ckpt-1")


def test_secrets_are_never_printed(
    web: tuple[Path, str, Manners], run_ckpt: Callable[..., tuple[int, str, str]]
) -> None:
    root, url, _ = web
    (root / "page.h5").write_text("<html></html>")
    secret = url.replace("://", "://user:hunter2@") + "/page.h5?signature=abcdef"
    for options in ([], ["--json"]):
        code, out, err = run_ckpt("inspect", secret, *options)
        assert code == NotFoundError.exit_code
        assert not re.search("hunter2|abcdef", out + err)
        assert "page.h5" in out + err


def test_a_signed_url_of_one_file(web: tuple[Path, str, Manners]) -> None:
    import h5py

    root, url, manners = web
    with h5py.File(root / "w.h5", "w") as file:
        file["w"] = VALUES[:10]
    manners.status[".index"] = 403
    assert inspect(f"{url}/w.h5?signature=abc").totals["tensors"] == 1


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("file:///etc/passwd", UsageError),
        ("simplecache::http://127.0.0.1/x", UnsupportedError),
        ("nostore://x/y", UnsupportedError),
    ],
)
def test_urls_that_are_not_followed(url: str, error: type[CkptError]) -> None:
    with pytest.raises(error):
        inspect(url)


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str, **options: object) -> None:  # noqa: ARG001
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UnsupportedError) as caught:
        inspect("s3://bucket/run")
    assert caught.value.hint == "pip install 'ckpt-tools[remote]'"


@pytest.mark.parametrize(
    "command",
    [
        ("backfill", "URL", "--value", "0.1"),
        ("migrate", "URL", "--to", "trainer"),
        ("repair", "URL"),
        ("undo", "URL"),
    ],
)
def test_commands_that_write_refuse(
    bucket: str, run_ckpt: Callable[..., tuple[int, str, str]], command: tuple[str, ...]
) -> None:
    from checkpoints import pick

    sample = pick("tf2.21")
    uploading(bucket)(sample.path, f"best_model/{sample.experiment}")
    url = f"{bucket}/best_model/{sample.experiment}"
    before = _objects(bucket)
    code, _, err = run_ckpt(*(url if word == "URL" else word for word in command))
    assert code == UnsupportedError.exit_code, err
    assert "at a URL" in err
    assert "copy the directory down" in err
    assert _objects(bucket) == before


def _objects(bucket: str) -> list[tuple[str, str]]:
    listed = boto3.client("s3").list_objects_v2(Bucket=bucket.removeprefix("s3://"))["Contents"]
    return [(each["Key"], each["ETag"]) for each in listed]


def test_names_of_places() -> None:
    assert paths.normal("s3://b/a/../c//d/./e") == "s3://b/c/d/e"
    assert paths.normal("s3://b/../../x") == "s3://b/x"
    assert paths.parent("s3://b") == "s3://b"
    assert paths.parent("s3://b/a") == "s3://b"
    assert paths.normal("a/../b") == "b"
