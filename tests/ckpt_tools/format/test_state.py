"""The ``checkpoint`` file: protobuf's text format is the oracle."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckpt_tools.errors import CorruptError
from ckpt_tools.format.state import State, decode_state, encode_state, remains_of_state

PATHS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(PATHS, st.lists(PATHS, max_size=4))
@example('a"b\\c', ["new\nline", "tab\t", "'", "é", "\x1b[31m", "\x7f"])
def test_round_trip(latest: str, every: list[str]) -> None:
    assert decode_state(encode_state(latest, every)) == State(latest, tuple(every))


@pytest.mark.tensorflow
@given(PATHS, st.lists(PATHS, max_size=4))
def test_the_protocol_buffer_library_agrees(latest: str, every: list[str]) -> None:
    from google.protobuf import text_format
    from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

    message = CheckpointState(model_checkpoint_path=latest, all_model_checkpoint_paths=every)
    assert text_format.Parse(encode_state(latest, every), CheckpointState()) == message
    for as_utf8 in (True, False):
        text = text_format.MessageToString(message, as_utf8=as_utf8)
        assert decode_state(text.encode()) == State(latest, tuple(every))


def test_fields_of_later_versions_comments_and_line_ends() -> None:
    data = (
        b"# a comment\r\n\r\nmodel_checkpoint_path: 'a'  # why\r\n"
        b"all_model_checkpoint_timestamps: 1690000000.5\nlast_preserved_timestamp: 1.5\n"
        b'all_model_checkpoint_paths: "a"\n'
    )
    assert decode_state(data) == State("a", ("a",), ("1690000000.5",), "1.5")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "names no checkpoint"),
        (b"\n\n", "names no checkpoint"),
        (b'all_model_checkpoint_paths: "a"\n', "names no checkpoint"),
        (b'model_checkpoint_path: ""\n', "names no checkpoint"),
        (b'model_checkpoint_path: "ckpt-', "line 1"),
        (b'model_checkpoint_path: "a"\nall_model', "line 2"),
        (b"model_checkpoint_path: 3\n", "path in quotes"),
        (b'model_checkpoint_path: "a"\nmodel_checkpoint_path: "b"\n', "second time"),
        (b"\xff\xfe", "not UTF-8"),
        (b'model_checkpoint_path: "\\377"\n', "not UTF-8"),
        (b"\x00" * 20, "line 1"),
        (b"{}", "line 1"),
    ],
)
def test_damaged_files_are_never_taken_for_no_checkpoint(data: bytes, message: str) -> None:
    with pytest.raises(CorruptError, match=message):
        decode_state(data)


def test_every_truncation_of_a_real_file_is_noticed_or_still_names_the_newest() -> None:
    data = encode_state("ckpt-3", ["ckpt-2", "ckpt-3"])
    for length in range(len(data)):
        try:
            assert decode_state(data[:length]).latest == "ckpt-3"
        except CorruptError:
            continue


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:invalid:DeprecationWarning")  # of the library, at what is no escape
@pytest.mark.parametrize(
    "data",
    [
        b'model_checkpoint_path: "a" all_model_checkpoint_paths: "b", all_model_checkpoint_paths: "c";',
        b'all_model_checkpoint_paths: ["a", \'b\'] model_checkpoint_path: "b"',
        b'model_checkpoint_path: "a" "b"\n  "c" # three pieces\nall_model_checkpoint_paths:"x"',
        b"model_checkpoint_path\n:\n'a'\nall_model_checkpoint_timestamps: [1, 2.5e-3, inf, 3f]\n",
        b'model_checkpoint_path: "a" last_preserved_timestamp: 1.5e+09 all_model_checkpoint_paths: []',
        b'model_checkpoint_path: "a"\nlast_preserved_timestamp: 1\nlast_preserved_timestamp: 2\n',
        b'model_checkpoint_path: "a"\nall_model_checkpoint_timestamps: soon\n',
        b'model_checkpoint_path: ["a"',
        b'model_checkpoint_path: "a"\nall_model_checkpoint_paths: ["a" "b", ]',
        b'model_checkpoint_path: "a" b',
        b'model_checkpoint_path: "a"\nlast_preserved_timestamp: 017.5\n',
        b'model_checkpoint_path: "a"\nodel_checkpoint_path: "a"\n',
        b'model_checkpoint_path: "a"\nall_model_checkpoint_names: ["a", "b"]\n',
        *(
            b'model_checkpoint_path: "a%s"' % escape
            for escape in (
                rb"\8",
                rb"\m",
                rb"\?",
                rb"\e",
                rb"\u1234",
                rb"\U0001F600",
                rb"\u12",
                rb"\U00110000",
                rb"\x4",
            )
        ),
        *(
            b'model_checkpoint_path: "a%s"' % escape
            for escape in (rb"\x", rb"\xZ", rb"\400", rb"\378", rb"\Name", rb"\'")
        ),
    ],
)
def test_every_way_to_write_it_is_read_as_the_protocol_buffer_library_reads_it(data: bytes) -> None:
    from google.protobuf import text_format
    from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

    try:
        message = text_format.Parse(data, CheckpointState())
    except (text_format.ParseError, UnicodeError):
        with pytest.raises(CorruptError):
            decode_state(data)
        return
    found = decode_state(data)
    assert found.latest == message.model_checkpoint_path
    assert list(found.all) == list(message.all_model_checkpoint_paths)
    assert len(found.timestamps) == len(message.all_model_checkpoint_timestamps)
    assert text_format.Parse(found.encode(), CheckpointState()) == message


def test_a_field_that_tensorflow_does_not_know_is_damage_and_goes() -> None:
    # TensorFlow takes a file with one for no checkpoint at all, and training begins anew.
    data = State("b", ("a", "b")).encode()
    with pytest.raises(CorruptError, match="line 4 has a field odel_path that TensorFlow does not know"):
        decode_state(data + b'odel_path: "a"\n')
    assert remains_of_state(data + b'odel_path: "a"\n').encode() == data


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_what_other_editors_make_of_it_is_not_read_but_understood(encoding: str) -> None:
    text = State("model-4", ("model-3", "model-4", "model-5"), ("1.5", "2.5", "3.5")).encode().decode()
    data = (f"\ufeff{text}" if encoding == "utf-16-be" else text).encode(encoding)
    with pytest.raises(CorruptError, match="TensorFlow does not read"):
        decode_state(data)
    assert remains_of_state(data).encode().decode() == text
    # One that is cut off keeps what is whole.
    assert remains_of_state(data[:-7]).all == ("model-3", "model-4", "model-5")
