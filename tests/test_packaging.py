"""What goes to the device: no TensorFlow, and `edge` alone in the wheel."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import zipfile
from pathlib import Path

import edge

ROOT = Path(__file__).resolve().parent.parent

BLOCKED = ("tensorflow", "keras", "models", "convert", "matplotlib", "pycocotools")


def edge_modules() -> list[str]:
    found = [m.name for m in pkgutil.walk_packages(edge.__path__, "edge.")]
    return [name for name in found if name != "edge.__main__"]


def test_every_module_imports_with_the_workstation_packages_blocked() -> None:
    code = (
        "import sys, importlib\n"
        f"for name in {BLOCKED!r}: sys.modules[name] = None\n"
        f"for name in {edge_modules()!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from edge.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = [m for m in ('cv2', 'numpy', 'pydantic', 'ai_edge_litert', 'tensorflow') if m in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    for command in ("detect", "classify", "inspect", "evaluate", "convert"):
        assert command in done.stdout
    assert len(done.stdout.splitlines()) <= 40  # one screen


def test_the_wheel_holds_edge_only(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        check=True,
        cwd=ROOT,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith("edge_pipeline-")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"edge"}
    assert "edge/py.typed" in names
    assert any(name.startswith("edge/bundled/") and name.endswith(".tflite") for name in names)

    # What is read from beside the code is there, too, when only the wheel is.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = (
        "import edge.service.units as units\n"
        f"assert units.__file__.startswith({str(tmp_path)!r})\n"
        "from pathlib import Path\n"
        "for scope in ('system', 'user'):\n"
        "    unit = units.Unit('edge', scope, '/usr/bin/python3', Path('/etc/edge/edge.toml'), 252)\n"
        "    print(units.render(unit))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path / "installed", capture_output=True, text=True
    )
    assert done.stdout.count("ExecStart=/usr/bin/python3 ") == 2
