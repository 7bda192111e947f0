"""The metrics: names, values, both formats, and the dashboard and alerts that use them."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from service.snapshots import STATUS

from edge.device import DeviceReadings
from edge.service.metrics import metrics_text

DOCS = Path(__file__).resolve().parents[2] / "docs"
DEVICE = DeviceReadings(
    {"cpu-thermal": 61.5, "edgetpu": 70.0},
    {"undervoltage": True, "cpufreq-cpu0": False},
    {"policy0": 1.5e9},
    {"policy0": 2.4e9},
)
NOTHING = DeviceReadings({}, {}, {}, {})


def samples(status=STATUS, device=DEVICE, openmetrics=False):
    """Return {(name, frozenset of labels): value} as a parser reads it."""
    parse = parse_openmetrics if openmetrics else parse_text
    text = metrics_text(status, device, openmetrics).decode()
    return {(s.name, frozenset(s.labels.items())): s.value for family in parse(text) for s in family.samples}


def value(found, name, **labels):
    return found[name, frozenset(labels.items())]


def test_values():
    found = samples()
    assert value(found, "edge_uptime_seconds") == 3600
    assert value(found, "edge_ready") == 1
    assert value(found, "edge_hung") == 0
    assert value(found, "edge_config_reloads_total") == 4
    assert value(found, "edge_config_refusals_total") == 1
    assert value(found, "edge_config_last_reload_successful") == 0
    assert value(found, "edge_camera_up", camera="front") == 1
    assert value(found, "edge_camera_up", camera="back") == 0
    assert value(found, "edge_camera_state_duration_seconds", camera="back") == 12.5
    assert value(found, "edge_camera_frames_total", camera="front") == 1000
    assert value(found, "edge_camera_results_total", camera="front") == 900
    assert value(found, "edge_camera_frames_dropped_total", camera="front") == 60
    assert value(found, "edge_camera_frames_skipped_total", camera="front") == 40
    assert value(found, "edge_camera_outages_total", camera="front") == 2
    assert value(found, "edge_camera_reconnects_total", camera="back") == 0
    assert value(found, "edge_camera_results_per_second", camera="front") == 9.5
    assert value(found, "edge_camera_frame_age_seconds", camera="front", quantile="0.5") == 0.04
    assert value(found, "edge_camera_frame_age_seconds", camera="front", quantile="0.95") == 0.12
    assert value(found, "edge_camera_detections_total", camera="front", label="person") == 7
    assert value(found, "edge_camera_detections_total", camera="front", label='a "b"\\\n') == 2
    assert value(found, "edge_sink_up", camera="front", sink="log", kind="json") == 1
    assert value(found, "edge_sink_up", camera="front", sink="disk", kind="record") == 0
    assert value(found, "edge_sink_errors_total", camera="front", sink="disk", kind="record") == 3
    assert value(found, "edge_sink_results_lost_total", camera="front", sink="disk", kind="record") == 17
    assert value(found, "edge_model_interpreters", model="default") == 2
    assert value(found, "edge_model_fallback", model="default") == 1
    assert value(found, "edge_inference_running_seconds", model="default") == 0.25
    assert value(found, "edge_device_temperature_celsius", sensor="cpu-thermal") == 61.5
    assert value(found, "edge_device_throttled", reason="undervoltage") == 1
    assert value(found, "edge_device_throttled", reason="cpufreq-cpu0") == 0
    assert value(found, "edge_device_cpu_frequency_hertz", policy="policy0") == 1.5e9
    assert value(found, "edge_device_cpu_frequency_max_hertz", policy="policy0") == 2.4e9


def test_infos():
    found = {name: dict(labels) for name, labels in samples() if name.endswith("_info")}
    assert found["edge_build_info"]["version"] == "1.2.3"
    assert found["edge_model_info"] == {
        "model": "default",
        "path": "/models/edge-yolo-n.tflite",
        "description": "LiteRT 2.3.0, CPU, 1 thread",
    }
    assert found["edge_camera_info"] == {"camera": "back", "source": "/dev/video0", "model": "default"}


def test_a_camera_is_in_one_state():
    found = {labels: v for (name, labels), v in samples().items() if name == "edge_camera_state"}
    assert len(found) == 2 * 5
    on = [dict(labels) for labels, v in found.items() if v]
    assert on == [{"camera": "front", "state": "online"}, {"camera": "back", "state": "offline"}]


def test_histogram_is_cumulative_and_in_seconds():
    found = samples()
    buckets = [
        (float(dict(labels)["le"]), count)
        for (name, labels), count in found.items()
        if name == "edge_inference_duration_seconds_bucket"
    ]
    assert buckets[:7] == [(0.001, 0), (0.002, 0), (0.005, 0), (0.01, 10), (0.02, 70), (0.05, 90), (0.1, 99)]
    assert buckets[-2:] == [(5.0, 99), (math.inf, 100)]
    assert len(buckets) == 13
    assert value(found, "edge_inference_duration_seconds_count", model="default") == 100
    assert value(found, "edge_inference_duration_seconds_sum", model="default") == 4.321


def test_a_camera_without_results_has_no_age():
    assert not [
        labels for name, labels in samples() if name == "edge_camera_frame_age_seconds" and ("camera", "back") in labels
    ]


def test_process_and_threads():
    found = samples()
    assert value(found, "process_resident_memory_bytes") > 1e6
    assert value(found, "process_open_fds") > 0
    assert value(found, "process_cpu_seconds_total") > 0
    assert value(found, "edge_threads") >= 1


def test_both_formats_say_the_same():
    volatile = re.compile(r"process_|edge_threads")
    plain, openmetrics = ({k: v for k, v in samples(openmetrics=o).items() if not volatile.match(k[0])} for o in (0, 1))
    assert plain == openmetrics


@pytest.mark.parametrize("openmetrics", [False, True])
def test_text_that_is_not_utf8_and_a_service_of_nothing(openmetrics):
    model = replace(STATUS.models[0], path="/models/\udcff\udcfe.tflite", name="m\r\n")
    found = samples(replace(STATUS, models=(model,)), NOTHING, openmetrics)
    assert any(dict(labels).get("path") == "/models/\\udcff\\udcfe.tflite" for _, labels in found)
    empty = samples(replace(STATUS, cameras=(), models=()), NOTHING, openmetrics)
    assert not [name for name, _ in empty if re.match("edge_(camera|sink|model|inference|device)_", name)]


def names():
    return {name for name, _ in samples()}


def used_names(text):
    return set(re.findall(r"\b(?:edge|process)_[a-z0-9_]+\b", text))


def test_documented_names_are_all_names():
    text = (DOCS / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `([a-z_]+)", text, re.MULTILINE))
    made = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names() if name.startswith("edge_")}
    assert documented == made


def test_dashboard_and_alerts_use_names_that_exist():
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((DOCS / "prometheus-alerts.yml").read_text())
    alerts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert len(queries) >= 8 and len(alerts) >= 8
    for query in queries + alerts:
        assert used_names(query) <= names(), query
        assert used_names(query) or query.startswith("up{"), query


def test_labels_of_dashboard_and_alerts_exist():
    known = {label for _, labels in samples() for label, _ in labels} | {"job", "instance"}
    text = (DOCS / "grafana-dashboard.json").read_text() + (DOCS / "prometheus-alerts.yml").read_text()
    used = set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text)) | set(re.findall(r"[{,](\w+)=~?\\?\"", text))
    for by in re.findall(r"\bby ?\(([\w, ]+)\)", text):
        used |= set(re.split(r", *", by))
    assert used and used <= known


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)")
def test_promtool_agrees():
    check = subprocess.run(["promtool", "check", "metrics"], input=metrics_text(STATUS, DEVICE), capture_output=True)
    assert (check.returncode, check.stderr) == (0, b"")
    rules = subprocess.run(["promtool", "check", "rules", DOCS / "prometheus-alerts.yml"], capture_output=True)
    assert rules.returncode == 0, rules.stderr
