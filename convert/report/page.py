"""From `ReportData` to one HTML file: no script, and nothing that has to be fetched."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from convert.gate import doubt, sound
from convert.report.charts import Point, lines, scatter
from convert.report.data import Picture, ReportData, Variant
from convert.writer import write_model

_CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_MOST_BARS = 24
_MOST_LAYERS = 20
_CLEAN_DB = 45.0
"""The full length of a bar: what 8 bits give at best."""

_SAYS = {
    "mAP50-95": "mAP50-95 is the area below precision over recall, mean over classes and over overlaps of 0.5 to 0.95.",
    "top1": "top1 is the share of pictures whose best class is the right one.",
    "located": "located is the share of pictures with the right class and a box that overlaps the true one by half.",
    "agreement": "agreement says how many of the float model's own answers this model gives too; it says nothing about "
    "which of both is right, and is a weaker measure than labels.",
}


def write_report(path: Path, data: ReportData) -> None:
    """Write a report in one step, over an older one.

    Raises:
        OutputError: It cannot be written.
    """
    write_model(path, render(data).encode(), True, lambda _: None)


def render(data: ReportData) -> str:
    """Return a report as the text of an HTML file."""
    title = f"{data.spec.name}, {data.chosen.name}"
    sections = (
        _head(data, title),
        _variants(data),
        _tried(data),
        _pair(_pareto(data), _curves(data)),
        _classes(data),
        _confused(data),
        _examples(data),
        _layers(data),
        _provenance(data),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head>\n<body><main>"
        + "\n".join(filter(None, sections))
        + "</main></body></html>\n"
    )


def _head(data: ReportData, title: str) -> str:
    gate, reference, chosen = data.gate, data.variants[0], data.chosen
    badge = '<span class="badge good">passed</span>' if data.passed else '<span class="badge bad">refused</span>'
    lost = f"{gate.drop:.2f} points lost" if gate.drop > 0 else "nothing lost"
    facts = (
        (f"{gate.value:.4f}", f"{gate.metric}, {gate.reference:.4f} in float"),
        (f"{-gate.drop:+.2f}", f"points; {gate.max_drop:g} may be lost"),
        (f"{chosen.size_bytes / 1e6:.2f} MB", f"{chosen.size_bytes / reference.size_bytes:.0%} of float32"),
        (f"{chosen.ms:.2f} ms", f"{chosen.ms / reference.ms:.2f} times float32"),
    )
    boxes = "".join(
        f'<div class="fact"><b>{escape(number)}</b><span>{escape(text)}</span></div>' for number, text in facts
    )
    doubts = "" if not data.passed or sound(gate) else f"<p class=says>{escape(doubt(gate, bool(data.tried)))}.</p>"
    return (
        f"<h1>{escape(title)} {badge}</h1><p class=soft>{lost} on {gate.images} pictures of {escape(gate.dataset)}; "
        f'{gate.max_drop:g} allowed. {escape(_SAYS[gate.metric])}</p>{doubts}<div class="facts">{boxes}</div>'
    )


def _variants(data: ReportData) -> str:
    judged, *others = data.variants[0].metrics
    head = "".join(
        f"<th>{escape(name)}</th>" for name in ("variant", judged, "points lost", "verdict", "ms", "kB", *others)
    )
    rows = "".join(_variant(v) for v in data.variants)
    out = "".join(f"<p class=says>Not measured: {escape(line)}</p>" for line in data.left_out)
    return _card(
        "Variants",
        "Each variant ran on the same pictures through the runtime itself. Times are medians of bare inference, taken "
        f"in turn on this machine ({data.machine}; {data.runtime}), and hold for no other one. Sizes are without the "
        "self-test.",
        f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>{out}',
    )


def _variant(v: Variant) -> str:
    verdict = '<td class="good">passed</td>' if v.passed else '<td class="bad">refused</td>'
    judged, *others = (f"<td>{value:.4f}</td>" for value in v.metrics.values())
    return (
        f"<tr{' class=chosen' * v.chosen}><td>{escape(v.name)}</td>{judged}<td>{v.drop:.2f}</td>{verdict}"
        f"<td>{v.ms:.2f}</td><td>{v.size_bytes / 1000:,.0f}</td>{''.join(others)}</tr>"
    )


def _tried(data: ReportData) -> str:
    if not data.tried:
        return ""
    rows = "".join(
        f'<tr><td>{escape(trial.step)}</td><td class="words">{escape(trial.did)}</td>'
        f"<td>{'not applied' if trial.value is None else format(trial.value, '.4f')}</td>"
        f'<td class="words">{escape(trial.why)}</td></tr>'
        for trial in data.tried
    )
    return _card(
        "Repairs",
        "Steps that were tried in order of cost until the loss was small enough, and not by luck, or none was left; "
        f"the best was taken: {escape(_taken(data))}. {data.gate.metric} is that with the step and all before it.",
        f'<div class="wide"><table class="two"><tr><th>step</th><th>what it did</th><th>{escape(data.gate.metric)}</th>'
        f"<th>what that says</th></tr>{rows}</table></div>",
    )


def _taken(data: ReportData) -> str:
    record = data.spec.conversion
    return ", ".join(record.steps) if record is not None and record.steps else "the model without any"


def _pareto(data: ReportData) -> str:
    points = [Point(v.name, v.ms, v.value, v.size_bytes, "made" if v.chosen else "float") for v in data.variants]
    return _card(
        "Speed, accuracy and size",
        "Higher is more accurate, further left is faster, a smaller disc is a smaller file; the dashed line joins the "
        "variants that no other one beats in both.",
        scatter(points, "milliseconds", data.gate.metric),
    )


def _curves(data: ReportData) -> str:
    if data.curves is None:
        return ""
    one, other = data.curves.reference, data.curves.value
    return _card(
        "Precision over recall, IoU 0.5",
        "Of the boxes down to a certain score: what share is right, over what share of the objects they find; the mean "
        "over all classes. The area below a curve is mAP50.",
        _key(f"float32, area {one.mean():.4f}", f"{data.chosen.name}, area {other.mean():.4f}")
        + lines((("float", one), ("made", other)), "recall", "precision"),
    )


def _classes(data: ReportData) -> str:
    if not data.classes:
        return ""
    rows = "".join(
        _row(c.label, (("float", c.reference), ("made", c.value)), f"{c.reference:.3f} → {c.value:.3f}")
        for c in data.classes[:_MOST_BARS]
    )
    table = "".join(
        f"<tr><td>{escape(c.label)}</td><td>{c.count}</td><td>{c.reference:.3f}</td><td>{c.value:.3f}</td>"
        f"<td>{100 * (c.value - c.reference):+.1f}</td></tr>"
        for c in data.classes
    )
    return _card(
        f"Classes: {data.class_metric}",
        f"{data.class_metric} of each class, the largest loss first; a class with few examples jumps by many points "
        "when one of them is missed.",
        _key("float32", data.chosen.name)
        + f'<div class="bars">{rows}</div><details><summary>all {len(data.classes)} classes as a table</summary>'
        '<div class="wide"><table><tr><th>class</th><th>examples</th><th>float32</th>'
        f"<th>{escape(data.chosen.name)}</th><th>points</th></tr>{table}</table></div></details>",
    )


def _confused(data: ReportData) -> str:
    if not data.confused:
        return ""
    rows = "".join(
        f"<tr><td>{escape(c.true)}</td><td>{escape(c.predicted)}</td><td>{c.reference}</td><td>{c.value}</td>"
        f'<td class="{"bad" if c.value > c.reference else "good"}">{c.value - c.reference:+d}</td></tr>'
        for c in data.confused
    )
    return _card(
        "Mistakes that changed",
        "How often a picture of one class was called another, where that number is not the same as in float.",
        '<div class="wide"><table class="two"><tr><th>true</th><th>called</th><th>float32</th>'
        f"<th>{escape(data.chosen.name)}</th><th>change</th></tr>{rows}</table></div>",
    )


def _examples(data: ReportData) -> str:
    if not data.examples:
        says = f"Both models answer alike on all {data.gate.images} pictures." if not data.changed else ""
        return _card("Pictures", says, "")
    images = data.gate.images
    shown = f", with the boxes of score {data.spec.conf:g} and more" if data.spec.task == "detect" else ""
    figures = "".join(_figure(picture) for pictures in data.examples for picture in pictures)
    return _card(
        "Pictures",
        f"The models differ on {data.changed} of {images} pictures. These are the most different ones{shown}.",
        f'<div class="{"shots" if len(data.examples[0]) > 1 else "singles"}">{figures}</div>',
    )


def _figure(picture: Picture) -> str:
    content = base64.b64encode(picture.data).decode()
    caption = "<br>".join(map(escape, picture.caption))
    small = ' class="small"' * (picture.mime == "image/png")
    return (
        f'<figure><img{small} src="data:{picture.mime};base64,{content}" alt="{escape(picture.caption[0])}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _layers(data: ReportData) -> str:
    if not data.layers:
        return ""
    rows = "".join(
        _row(
            _layer_name(layer.name),
            (("made", layer.sqnr_db / _CLEAN_DB),),
            f"{_decibels(layer.sqnr_db)}, {-layer.lost_db:.1f} here",
        )
        for layer in data.layers[:_MOST_LAYERS]
    )
    table = "".join(
        f"<tr><td>{escape(layer.name)}</td><td>{escape(layer.op)}</td><td>{_decibels(layer.sqnr_db)}</td>"
        f"<td>{layer.lost_db:.1f}</td></tr>"
        for layer in data.layers
    )
    return _card(
        "Quantisation error of the layers",
        "Signal-to-noise ratio of each tensor against the float model, before any repair; and how many decibels were "
        "lost in the very operator that computes it, most first. At 40 dB a tensor is clean; at 20 dB the error is a "
        "tenth of the signal; each 6 dB less doubles it.",
        f'<div class="bars layers">{rows}</div><details><summary>all {len(data.layers)} tensors as a table</summary>'
        '<div class="wide"><table class="two"><tr><th>tensor</th><th>operator</th><th>ratio</th><th>lost here</th></tr>'
        f"{table}</table></div></details>",
    )


def _layer_name(tensor: str) -> str:
    """Return the layer alone, of "net/conv_1/BiasAdd;net/conv_1/convolution"."""
    parts = tensor.split(";")[0].split("/")
    return "/".join(parts[1:-1]) if len(parts) > 2 else parts[-1]


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else "exact" if value > 0 else "no signal"


def _provenance(data: ReportData) -> str:
    spec, record = data.spec, data.spec.conversion
    rows: list[tuple[str, str | None]] = [
        (name.replace("_", " "), value) for name, value in spec.provenance.model_dump().items()
    ]
    if record is not None:
        rows += [
            ("target", record.target),
            ("repairs", ", ".join(record.steps) or "none"),
            ("calibration", f"{record.calibration_images} pictures" if record.calibration_images else "none needed"),
        ]
    rows += [
        ("input", f"{data.size_wh[0]} x {data.size_wh[1]}, {spec.input.color}, {spec.input.resize}"),
        ("decoder", f"{spec.decoder.name}, {len(spec.labels)} labels"),
        *((f"{accuracy.dataset}", _metrics(accuracy.metrics.items())) for accuracy in spec.accuracy),
    ]
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows if value)
    return _card(
        "Where it comes from",
        "What the file says about itself; edge inspect prints it.",
        f'<table class="words">{body}</table>',
    )


def _metrics(items: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in items)


def _row(label: str, bars: Sequence[tuple[str, float]], text: str) -> str:
    drawn = "".join(
        f'<div class="track"><div class="bar {kind}" style="width:{100 * min(max(share, 0), 1):.1f}%"></div></div>'
        for kind, share in bars
    )
    name = escape(label)
    return f'<div class="row"><span title="{name}">{name}</span><div>{drawn}</div><span>{escape(text)}</span></div>'


def _key(one: str, other: str) -> str:
    names = (("float", one), ("made", other))
    return '<div class="key">' + "".join(f'<span><i class="{k}"></i>{escape(n)}</span>' for k, n in names) + "</div>"


def _pair(one: str, other: str) -> str:
    return f'<div class="pair">{one}{other}</div>' if other else one


def _card(title: str, says: str, body: str) -> str:
    return f'<section class="card"><h2>{escape(title)}</h2><p class="says">{escape(says)}</p>{body}</section>'
