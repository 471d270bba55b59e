"""Pieces of the page: its skeleton and style sheet, and functions that escape whatever a user may have written."""

import base64
import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from eagleray.diagnostics.verdicts import CAUTION_P_VALUE, FAILURE_P_VALUE, Verdict, p_value_state
from eagleray.records import Typicality

EXPONENT = re.compile(r"(?<=\d)e([+-]?)0*(\d+)\b")
MARKS = {"passed": "✓", "caution": "!", "failed": "✗", "not checked": "–"}

STYLE_SHEET = """
:root { color-scheme: light dark; --ink: #1c1c1c; --soft: #555; --paper: #fff; --panel: #f4f5f6; --line: #cfd2d6;
  --passed: #00634a; --caution: #8a4b00; --failed: #a32a00; --unchecked: #555; --warn: #fdf1e3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #b4b8bd; --paper: #16181b; --panel: #22262a;
  --line: #454b52; --passed: #4fd0a5; --caution: #f2b35c; --failed: #ff9466; --unchecked: #b4b8bd; --warn: #33281a; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 48rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  overflow-wrap: break-word; }
a { color: inherit; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .75rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .25rem; }
p { margin: .5rem 0; }
.answer { font-size: 1.1rem; }
.unbroken { white-space: nowrap; }
figcaption { color: var(--soft); font-size: .9rem; }
.warnings { background: var(--warn); border-left: .4rem solid var(--caution); padding: .6rem 1rem; margin: 1rem 0; }
.warnings ul { margin: .25rem 0; padding-left: 1.2rem; }
.verdict { font-weight: 600; white-space: nowrap; }
.passed { color: var(--passed); } .caution { color: var(--caution); } .failed { color: var(--failed); }
.not-checked { color: var(--unchecked); }
table { border-collapse: collapse; width: 100%; margin: .75rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .9rem; padding-bottom: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--line); }
.facts th { width: 9.5rem; font-weight: 600; } .facts td { overflow-wrap: anywhere; }
section { overflow-x: auto; }
figure { margin: 1rem 0; }
figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
svg.gauge { display: block; width: 100%; max-width: 30rem; height: auto; }
pre { background: var(--panel); padding: .75rem 1rem; border-radius: 4px; white-space: pre-wrap; font-size: .85rem;
  line-height: 1.45; }
@media (max-width: 30rem) { body { padding: 1rem .8rem 2rem; } table { font-size: .88rem; } 
  .facts th { width: 6.5rem; } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --panel: #f4f5f6; --line: #bbb;
  --passed: #00634a; --caution: #8a4b00; --failed: #a32a00; --unchecked: #444; --warn: #fdf1e3; }
  @page { margin: 16mm; } body { max-width: none; padding: 0; font-size: 9.5pt; } h1, h2, h3 { break-after: avoid; }
  figure, table, .warnings { break-inside: avoid; } section { overflow-x: visible; }
  figure img { max-height: 14cm; object-fit: contain; } }
"""


def document(title: str, body: str) -> str:
    """A whole page around an HTML body; the title is escaped."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE_SHEET}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def escape(value: Any) -> str:
    """Anything as text that HTML shows as it is."""
    return html.escape(str(value), quote=True)


def number(text: str) -> str:
    """An escaped number, its power of ten set as a superscript and its minus as a minus sign."""
    powers = EXPONENT.sub(lambda match: f"×10<sup>{match[1].replace('+', '')}{match[2]}</sup>", escape(text))
    return unbroken(powers.replace("-", "−"))


def unbroken(html_text: str) -> str:
    """HTML kept on one line."""
    return f'<span class="unbroken">{html_text}</span>'


def name(text: str) -> str:
    """An escaped name that may be broken over lines after its underscores."""
    return escape(text).replace("_", "_<wbr>")


def section(title: str, *parts: str, anchor: str) -> str:
    """A section under a second-level heading; parts are HTML, empty ones are left out."""
    return "\n".join([f'<section id="{anchor}">', f"<h2>{escape(title)}</h2>", *filter(None, parts), "</section>"])


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A two-column table of names and values; values are HTML."""
    lines = (f'<tr><th scope="row">{escape(name)}</th><td>{value}</td></tr>' for name, value in rows)
    return '<table class="facts"><tbody>' + "".join(lines) + "</tbody></table>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column names the rows; cells are HTML."""
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = (
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}"
        "</tbody></table>"
    )


def figure(png: bytes, alt: str, caption: str) -> str:
    """An image inside the page, with what it shows in words."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def bullet_list(items: Iterable[str]) -> str:
    """A list of escaped items; nothing for none."""
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{lines}</ul>" if lines else ""


def verdict_block(verdict: Verdict, illustration: str) -> str:
    """A check under a third-level heading: its outcome, its sentence, its figure."""
    kind = verdict.state.replace(" ", "-")
    word = f'<span class="verdict {kind}">{MARKS[verdict.state]} {escape(verdict.state.capitalize())}.</span>'
    return f"<h3>{escape(verdict.title)}</h3>\n<p>{word} {escape(verdict.sentence)}</p>\n{illustration}"


def gauge(typicality: Typicality) -> str:
    """A p-value on a logarithmic scale, with the thresholds of its verdict; nothing where there is none."""
    state = p_value_state(typicality)
    if state == "not checked":
        return ""
    lowest = min(1e-3, 1 / (typicality.n_reference + 1))

    def place(p: float) -> float:
        return 20 + 360 * (1 - math.log10(max(p, lowest)) / math.log10(lowest))

    bounds = (lowest, FAILURE_P_VALUE, CAUTION_P_VALUE, 1.0)
    bars, labels = [], []
    for low, high, kind in zip(bounds, bounds[1:], ("failed", "caution", "passed"), strict=False):
        x, width = place(low), place(high) - place(low)
        bars.append(f'<rect x="{x:.1f}" y="26" width="{width - 1:.1f}" height="8" class="{kind}" fill="currentColor"/>')
        labels.append(f'<text x="{x + width / 2:.1f}" y="62" text-anchor="middle">{kind}</text>')
    labels += [f'<text x="{place(p):.1f}" y="48" text-anchor="middle">{p:.2g}</text>' for p in bounds]
    x = min(max(place(typicality.p_value), 20), 380)
    mark = f'<path d="M{x:.1f} 26 l-5 -9 h10 z" fill="currentColor"/>'
    value = f'<text x="{min(max(x, 45), 355):.1f}" y="13" text-anchor="middle">p = {typicality.p_value:.2g}</text>'
    alt = f"Scale from {lowest:.1g} to 1 with the p-value {typicality.p_value:.2g} in the region called {state}."
    return (
        f'<figure><svg class="gauge" viewBox="0 0 400 66" role="img" aria-label="{alt}" font-size="11" '
        f'fill="currentColor">{"".join(bars)}{mark}{value}{"".join(labels)}</svg></figure>'
    )


def as_toml(settings: Mapping[str, Any], prefix: str = "") -> str:
    """Nested settings in the notation of TOML; those that are None stand as comments."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    lines = [f"# {key}: none" if value is None else f"{key} = {_toml_value(value)}" for key, value in plain.items()]
    for key, value in settings.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{prefix}{key}]", as_toml(value, f"{prefix}{key}.")]
    return "\n".join(lines).strip("\n")


def _toml_value(value: Any) -> str:
    """One value in the notation of TOML; what TOML has no word for, as a string."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else json.dumps(str(value), ensure_ascii=False)
