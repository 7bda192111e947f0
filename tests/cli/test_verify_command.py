"""`edge verify`, `--verify` of the commands that run a model, and what `edge inspect` says and keeps of a self-test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures import paint, tiny_classifier, tiny_detector
from selftest_files import noisy_delegate, with_selftest
from typer.testing import CliRunner, Result

from edge.cli.app import app
from edge.spec import ConversionRecord, GateRecord, ModelSpec
from edge.spec.archive import model_part, read_tail, with_tail
from edge.spec.resolve import METADATA_NAME
from edge.spec.seal import sealed


def edge(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return with_selftest(tiny_detector(), tmp_path / "m.tflite")


def rewrite(path: Path, model: bytes | None = None, **changes: Any) -> None:
    members = read_tail(path)
    spec = ModelSpec.model_validate_json(members.pop(METADATA_NAME)).model_copy(update=changes)
    path.write_bytes(sealed(model or path.read_bytes(), spec, members))


def break_weights(path: Path) -> None:
    """Flip the sign of a weight, and make the digest fit again."""
    model = bytearray(model_part(path.read_bytes()))
    model[model.index(np.float32(16).tobytes()) + 3] ^= 0x80
    rewrite(path, bytes(model))


def swap_colors(path: Path) -> None:
    spec = ModelSpec.model_validate_json(read_tail(path)[METADATA_NAME])
    rewrite(path, input=spec.input.model_copy(update={"color": "BGR"}))


def test_a_sound_file_passes(path: Path) -> None:
    done = edge("verify", path, "--threads", 2)
    assert done.exit_code == 0 and done.stderr == ""
    for word in ("picture", "mean error (allowed)", " ok", "80% needed"):
        assert word in done.stdout, word
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"{path}: self-test passed on LiteRT") and "2 threads" in last
    facts = json.loads(edge("verify", path, "--json").stdout)
    assert facts["passed"] and facts["pictures"] == 2
    assert [each["name"] for each in facts["tensors"]][0] == "picture"
    assert facts["boxes"]["agreed"] == facts["boxes"]["total"] > 3 and facts["boxes"]["min_share"] == 0.8


def test_a_wrong_result_is_exit_code_4_and_one_line(path: Path) -> None:
    break_weights(path)
    done = edge("verify", path)
    assert done.exit_code == 4 and "FAILED" in done.stdout
    assert len(done.stderr.splitlines()) == 1 and "self-test FAILED" in done.stderr and "do not trust" in done.stderr
    done = edge("verify", path, "--json")
    facts = json.loads(done.stdout)
    assert done.exit_code == 4 and not facts["passed"] and facts["tensors"][0]["passed"]


def test_an_output_that_is_no_number_is_null_in_json(path: Path) -> None:
    model = bytearray(model_part(path.read_bytes()))
    at = model.index(np.float32(16).tobytes())
    model[at : at + 4] = np.float32("nan").tobytes()
    rewrite(path, bytes(model))
    facts = json.loads(edge("verify", path, "--json").stdout, parse_constant=lambda name: pytest.fail(name))
    assert None in [each["max_error"] for each in facts["tensors"]]


def test_swapped_colors_are_named(path: Path) -> None:
    swap_colors(path)
    done = edge("verify", path)
    assert done.exit_code == 4 and "preprocessing is not that of the conversion" in done.stderr


def test_a_delegate_that_disturbs_the_result(path: Path, tmp_path: Path) -> None:
    library = noisy_delegate(tmp_path)
    assert edge("verify", path, "--delegate", f"{library}?noise=0").exit_code == 0
    done = edge("verify", path, "--delegate", f"{library}?noise=3")
    assert done.exit_code == 4 and "libnoise.so" in done.stderr


@pytest.mark.parametrize("command", [("verify",), ("detect", "--source", "{picture}", "--model")])
def test_a_damaged_file_is_reported_before_it_runs(path: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), paint([("red", 0, 0)]))
    data = bytearray(path.read_bytes())
    data[data.index(np.float32(16).tobytes())] ^= 1
    path.write_bytes(data)
    done = edge(*(word.format(picture=tmp_path / "p.png") for word in command), path)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
    assert (
        "damaged, or another model than the one described" in done.stderr and "copy or convert it again" in done.stderr
    )


def test_without_a_self_test(tmp_path: Path) -> None:
    bare = tiny_detector().save(tmp_path / "m.tflite")
    done = edge("verify", bare)
    assert done.exit_code == 2 and "holds no self-test" in done.stderr and len(done.stderr.splitlines()) == 1
    assert edge("verify", tmp_path / "none.tflite").exit_code == 2


@pytest.mark.parametrize("command", ["detect", "classify"])
def test_commands_verify_at_the_start(command: str, tmp_path: Path) -> None:
    tiny = tiny_detector() if command == "detect" else tiny_classifier()
    path = with_selftest(tiny, tmp_path / "m.tflite")
    cv2.imwrite(str(tmp_path / "p.png"), paint([("red", c, r) for c in range(4) for r in range(3)]))
    given = (command, "-q", "--source", tmp_path / "p.png", "--model", path, "--verify", "--json")
    assert edge(*given, tmp_path / "sound.jsonl").exit_code == 0
    assert (tmp_path / "sound.jsonl").read_text()
    break_weights(path)
    done = edge(*given, tmp_path / "broken.jsonl")
    assert done.exit_code == 4 and len(done.stderr.splitlines()) == 1 and "self-test FAILED" in done.stderr
    assert not (tmp_path / "broken.jsonl").exists()


def test_a_classifier_in_windows_is_verified_too(tmp_path: Path) -> None:
    path = with_selftest(tiny_classifier(any_batch=True), tmp_path / "m.tflite")
    cv2.imwrite(str(tmp_path / "p.png"), paint([("red", 0, 0)], (256, 192)))
    given = ("detect", "-q", "--method", "sliding-window", "--source", tmp_path / "p.png", "-m", path, "--verify")
    assert edge(*given, "--json", tmp_path / "r.jsonl").exit_code == 0
    swap_colors(path)
    assert edge(*given, "--json", tmp_path / "s.jsonl").exit_code == 4


def test_inspect_tells_a_sound_file_from_a_damaged_one(path: Path) -> None:
    numbers = {"reference": 0.2, "value": 0.19, "drop": 1.0, "max_drop": 1.5, "agreement": 0.91}
    gate = GateRecord(metric="mAP50-95", dataset="d", images=9, **numbers)
    record = ConversionRecord(target="edgetpu", steps=("equalisation",), calibration_images=7, gate=gate)
    rewrite(path, conversion=record, cpu_twin="twin.tflite")
    shown = " ".join(edge("inspect", path).stdout.split())
    heads = len(json.loads(edge("inspect", path, "--json").stdout)["outputs"])
    assert "sha256 ok" in shown and f"self-test 2 pictures, {heads} outputs, " in shown
    assert "for edgetpu, equalisation, calibrated on 7 pictures, mAP50-95 0.190, 1.00 points below float" in shown
    assert "agreement with float 0.910" in shown
    assert "CPU twin twin.tflite" in shown
    facts = json.loads(edge("inspect", path, "--json").stdout)
    assert facts["model_sha256"]["found"] == facts["model_sha256"]["stated"] == facts["spec"]["model_sha256"]
    data = bytearray(path.read_bytes())
    data[data.index(np.float32(16).tobytes())] ^= 1
    path.write_bytes(data)
    assert "DAMAGED: sha256" in " ".join(edge("inspect", path).stdout.split())
    members = read_tail(path)
    del members["selftest/1.png"]
    path.write_bytes(with_tail(path.read_bytes(), members))
    assert "expected selftest/1.png" in " ".join(edge("inspect", path).stdout.split())


def attach(path: Path, folder: Path, **changes: Any) -> Result:
    """Attach what `edge inspect --json` says, with some keys of it changed."""
    facts = json.loads(edge("inspect", path, "--json").stdout)
    facts["spec"] |= changes
    (folder / "spec.json").write_text(json.dumps(facts))
    return edge("inspect", path, "--attach", folder / "spec.json", "--force")


def test_attaching_other_labels_keeps_the_self_test(path: Path, tmp_path: Path) -> None:
    rewrite(path, conversion=ConversionRecord(steps=("bias-correction",)))
    before = read_tail(path)
    done = attach(path, tmp_path, labels=["a", "b", "c"], conf=0.5, selftest=None, conversion=None, model_sha256=None)
    assert done.exit_code == 0 and "self-test" not in done.stderr
    after = read_tail(path)
    assert {n: c for n, c in after.items() if n != METADATA_NAME} == {
        n: c for n, c in before.items() if n != METADATA_NAME
    }
    spec = ModelSpec.model_validate_json(after[METADATA_NAME])
    assert spec.labels == ("a", "b", "c") and spec.conversion == ConversionRecord(steps=("bias-correction",))
    assert edge("verify", path).exit_code == 0


def test_attaching_another_preprocessing_drops_the_self_test_and_says_so(path: Path, tmp_path: Path) -> None:
    spec = json.loads(edge("inspect", path, "--json").stdout)["spec"]
    done = attach(path, tmp_path, input=spec["input"] | {"color": "BGR"})
    assert done.exit_code == 0 and "self-test was made with another preprocessing or decoder and is gone" in done.stderr
    assert list(read_tail(path)) == [METADATA_NAME]
    done = edge("verify", path)
    assert done.exit_code == 2 and "holds no self-test" in done.stderr


def test_attaching_does_not_make_a_damaged_file_look_sound(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(np.float32(16).tobytes())] ^= 1
    path.write_bytes(data)
    done = attach(path, tmp_path, labels=["a", "b", "c"])
    assert done.exit_code == 2 and "damaged" in done.stderr
    assert path.read_bytes() == data


def test_attaching_to_a_silent_file_states_its_digest(tmp_path: Path) -> None:
    path = tiny_detector("yolov8").save(tmp_path / "m.tflite", described=False)
    (tmp_path / "spec.json").write_text(tiny_detector("yolov8").spec.model_dump_json())
    assert edge("inspect", path, "--attach", tmp_path / "spec.json").exit_code == 0
    facts = json.loads(edge("inspect", path, "--json").stdout)
    assert facts["model_sha256"]["found"] == facts["model_sha256"]["stated"]
