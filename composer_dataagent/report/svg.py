# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""matplotlib figures as SVG inside an HTML page, in the page's own colours and font; or as PNG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Those of a light page. In a page to_svg replaces them: text and grid follow it to the dark.
INK = "#1c2430"
GRID = "#c9d0d8"
# Okabe and Ito's palette without its yellow and black: told apart by colour-blind readers, and
# of a middle brightness, so that it shows on white and on near-black.
PALETTE = ("#1b87c9", "#e08a00", "#0e9f77", "#d4551a", "#c46b9f", "#5aa9d6", "#8a8a8a")
# From nothing to full colour, so that "none" is the page's background in light and dark.
RAMP = LinearSegmentedColormap.from_list("ramp", [(0.106, 0.529, 0.788, a) for a in (0, 1)])
PNG_DPI = 200  # 1,000 pixels wide

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
    with rc_context({**_STYLE, "svg.hashsalt": name}), _whatever_glyphs():
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    text = text.replace(" font-family: 'DejaVu Sans';", "")
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{Markup.escape(label)}" ', 1))


def to_png(figure: Figure, title: str) -> bytes:
    """``figure`` as a PNG file on white, with a heading.

    Args:
        figure (Figure): Made inside :func:`style`; gets the heading.
        title (str): Any text.
    """
    buffer = io.BytesIO()
    with rc_context(_STYLE), _whatever_glyphs():
        figure.suptitle(title, x=0.01, ha="left", size=10, weight="bold", parse_math=False)
        canvas = FigureCanvasAgg(figure)
        # Without the version of matplotlib: the same numbers give the same file.
        metadata = {"Title": title, "Software": None}
        canvas.print_figure(buffer, dpi=PNG_DPI, facecolor="white", metadata=metadata)
    return buffer.getvalue()


@contextmanager
def _whatever_glyphs() -> Iterator[None]:
    """Names may be in scripts that matplotlib's font lacks: a browser's font has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield
