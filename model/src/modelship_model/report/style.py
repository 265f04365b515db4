# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's style sheet. Colours come in pairs, for light and for dark, and tell apart for the colour-blind."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --line: #dfe3e8; --ink: #17202b; --soft: #5c6773; --faint: #eef1f4;
  --train: #b36b00; --test: #0b62c4; --good: #16794c; --bad: #b3261e; --right: 11, 98, 196; --wrong: 200, 62, 20;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10151b; --card: #182029; --line: #2c3743; --ink: #e8edf2; --soft: #9aa7b4; --faint: #212b36;
    --train: #f0a53c; --test: #6cb2ff; --good: #5fd39b; --bad: #ff8a80; --right: 84, 160, 255; --wrong: 255, 122, 72;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 56px; }
header { margin-bottom: 20px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 16px; margin: 0 0 2px; }
.hint { color: var(--soft); margin: 0 0 14px; font-size: 13.5px; }
code, .mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: 0.9em; }
.digest { color: var(--soft); overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(12, 1fr); margin-top: 16px; }
.grid > * { grid-column: span 12; min-width: 0; }
.tiles { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 13px 16px; }
.tile .name { color: var(--soft); font-size: 13px; }
.tile .value { font-size: 25px; line-height: 1.25; font-weight: 650; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.tile .value small { font-size: 14px; font-weight: 500; color: var(--soft); letter-spacing: 0; }
.tile .note { font-size: 12.5px; color: var(--soft); }
.pass { color: var(--good); } .fail { color: var(--bad); font-weight: 600; }
@media (min-width: 860px) { .half { grid-column: span 6; } }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; font-variant-numeric: tabular-nums; }
svg .axis { stroke: var(--line); stroke-width: 1; }
svg .train { stroke: var(--train); } svg .test { stroke: var(--test); }
svg .curve { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
svg .train.curve { stroke-dasharray: 5 4; }
svg circle.train { fill: var(--train); } svg circle.test { fill: var(--test); }
svg text.train { fill: var(--train); stroke: none; font-weight: 600; }
svg text.test { fill: var(--test); stroke: none; font-weight: 600; }
svg .phase { fill: var(--faint); }
svg .cell { stroke: var(--card); stroke-width: 2; }
svg text.count { fill: var(--ink); text-anchor: middle; }
svg text.onfill { fill: #fff; } @media (prefers-color-scheme: dark) { svg text.onfill { fill: #0b1118; } }
svg text.label { fill: var(--ink); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 6px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 500; font-size: 13px; }
th:first-child, td:first-child { text-align: left; }
td .bar { display: inline-block; vertical-align: middle; width: 58px; height: 7px; margin-right: 8px; border-radius: 4px;
  background: var(--faint); overflow: hidden; }
td .bar i { display: block; height: 100%; background: var(--test); border-radius: 4px; }
td .bar i.low { background: var(--train); }
.scroll { overflow-x: auto; }
.samples { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)); }
figure { margin: 0; }
figure svg { border-radius: 8px; border: 1px solid var(--line); background: #000; }
figcaption { font-size: 12.5px; color: var(--soft); margin-top: 5px; line-height: 1.35; }
figcaption b { color: var(--ink); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 5px 16px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 22px; color: var(--soft); font-size: 13px; }
@media print { body { background: #fff; } .card, .tile { break-inside: avoid; } }
"""
