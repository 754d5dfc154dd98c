# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""matplotlib figures as SVG inside an HTML page, in the page's own colours and font."""

from __future__ import annotations

import io
import re
import warnings
from contextlib import AbstractContextManager
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Stand-ins that to_svg replaces: text and grid follow the page from light to dark.
INK = "#010203"
GRID = "#040506"
# Okabe and Ito's palette without its yellow and black: told apart by colour-blind readers, and
# of a middle brightness, so that it shows on white and on near-black.
PALETTE = ("#1b87c9", "#e08a00", "#0e9f77", "#d4551a", "#c46b9f", "#5aa9d6", "#8a8a8a")
# From nothing to full colour, so that "none" is the page's background in light and dark.
RAMP = LinearSegmentedColormap.from_list("ramp", [(0.106, 0.529, 0.788, a) for a in (0, 1)])

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: selectable, and in the page's font
    "font.family": "DejaVu Sans",  # matplotlib's own: measures the space that text needs
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def style() -> AbstractContextManager[None]:
    """The context in which figures are made; matplotlib's settings are as before after it."""
    return rc_context(_STYLE)


def make_axes(
    rows: int = 1, columns: int = 1, *, width: float = 5.0, height: float = 2.9, **kwargs: Any
) -> tuple[Figure, list[Axes]]:
    """A figure without global state, and its axes in reading order."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    return figure, list(axes.flat)


def to_svg(figure: Figure, name: str, label: str) -> Markup:
    """``figure`` as an ``<svg>`` element.

    Args:
        figure (Figure): Made inside :func:`style`.
        name (str): Unique in the page: ids of its parts start with it.
        label (str): What the picture shows, for those who do not see it.

    Returns:
        Markup: The element, with a transparent background and nothing to load from elsewhere.
    """
    buffer = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Names in scripts that matplotlib's font lacks: the browser's font has them.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    text = text.replace(" font-family: 'DejaVu Sans';", "")
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{Markup.escape(label)}" ', 1))
