"""The pictures of docs/diffusion.md, in two dimensions, where the best denoiser is known and nothing needs training.

    python docs/make_diffusion_pictures.py        # under a minute on one core

diffusion-way.png      a spiral dissolved in noise, and noise made into a spiral
diffusion-noise.png    how noisy each schedule is at each time, and where the points of each grid lie
diffusion-errors.png   error against evaluations for each solver, with the orders that the tests assert
diffusion-steps.png    the spiral in eight evaluations, by solver and by grid
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tectum.diffusion import schedules
from tectum.diffusion.grids import Grid, exponential, karras, leading, trailing, uniform
from tectum.diffusion.marginals import forward
from tectum.diffusion.mixture import Mixture
from tectum.diffusion.noise import Independent
from tectum.diffusion.optimise import optimised
from tectum.diffusion.process import Process
from tectum.diffusion.solvers.adams import Adams
from tectum.diffusion.solvers.ancestral import Ancestral
from tectum.diffusion.solvers.multistep import Multistep
from tectum.diffusion.solvers.plms import PLMS
from tectum.diffusion.solvers.runge_kutta import Heun
from tectum.diffusion.solvers.singlestep import Singlestep
from tectum.diffusion.solvers.state import Step, last, sample
from tectum.diffusion.solvers.unipc import UniPC
from tectum.diffusion.tables import scaled_linear_betas, table

FOLDER = Path(__file__).resolve().parent / "pictures"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f")  # Okabe & Ito (2008)
INK, SOFT, LINE, GROUND = "#1d1c1a", "#6a665f", "#d8d3c9", "#fbfaf8"
SCALE = 2  # pictures are drawn at twice their size and reduced, for smooth edges


def font(points: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow."""
    return ImageFont.load_default(points * SCALE)


class Panel:
    """A rectangle of a picture with axes of its own."""

    def __init__(self, page: Image.Image, box: tuple[int, int, int, int], x: tuple[float, float], y: tuple[float, float]) -> None:
        self.pen = ImageDraw.Draw(page, "RGBA")
        self.left, self.top, self.right, self.bottom = (value * SCALE for value in box)
        self.x, self.y = x, y
        self.pen.rectangle((self.left, self.top, self.right, self.bottom), fill="white", outline=LINE, width=SCALE)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a place."""
        across, up = (x - self.x[0]) / (self.x[1] - self.x[0]), (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def within(self, x: float, y: float) -> bool:
        """Whether a place is on the panel."""
        return self.x[0] <= x <= self.x[1] and self.y[0] <= y <= self.y[1]

    def points(self, places: Tensor, color: str, radius: float = 1.3) -> None:
        """Dots at [n, 2], see-through."""
        for x, y in places.tolist():
            if self.within(x, y):
                a, b = self.at(x, y)
                r = radius * SCALE
                self.pen.ellipse((a - r, b - r, a + r, b + r), fill=color + "90")

    def line(self, places: Sequence[tuple[float, float]], color: str, width: float = 1.6) -> None:
        """A line through places; what lies outside is left out."""
        run: list[tuple[float, float]] = []
        for place in [*places, (math.nan, math.nan)]:
            if self.within(*place):
                run.append(self.at(*place))
                continue
            if len(run) > 1:
                self.pen.line(run, fill=color, width=round(width * SCALE), joint="curve")
            run = []

    def text(self, x: float, y: float, words: str, color: str = INK, size: int = 12, anchor: str = "lm") -> None:
        """Words at a place."""
        self.pen.text(self.at(x, y), words, fill=color, font=font(size), anchor=anchor)

    def title(self, words: str) -> None:
        """Above the panel."""
        self.pen.text((self.left, self.top - 7 * SCALE), words, fill=INK, font=font(13), anchor="ls")

    def ticks(self, xs: dict[float, str], ys: dict[float, str]) -> None:
        """Labels along the axes, with fine lines."""
        for x, words in xs.items():
            a, _ = self.at(x, self.y[0])
            self.pen.line((a, self.top, a, self.bottom), fill=LINE + "80", width=1)
            self.pen.text((a, self.bottom + 4 * SCALE), words, fill=SOFT, font=font(11), anchor="mt")
        for y, words in ys.items():
            _, b = self.at(self.x[0], y)
            self.pen.line((self.left, b, self.right, b), fill=LINE + "80", width=1)
            self.pen.text((self.left - 5 * SCALE, b), words, fill=SOFT, font=font(11), anchor="rm")


def page(width: int, height: int) -> Image.Image:
    """An empty picture."""
    return Image.new("RGB", (width * SCALE, height * SCALE), GROUND)


def save(picture: Image.Image, name: str) -> None:
    """Reduce and write."""
    FOLDER.mkdir(exist_ok=True)
    picture.reduce(SCALE).quantize(128).save(FOLDER / name, optimize=True)


def spiral() -> Mixture:
    """Narrow Gaussians along a spiral."""
    turn = torch.linspace(0.05, 1, 160, dtype=torch.float64).sqrt() * 4 * math.pi
    means = torch.stack([turn.cos(), turn.sin()], 1) * (turn / (4 * math.pi) * 2.2)[:, None]
    return Mixture(means, torch.full((160,), 0.05, dtype=torch.float64), torch.full((160,), 1 / 160, dtype=torch.float64))


def ring() -> Mixture:
    """Eight Gaussians of different widths on a circle: the data of the tests."""
    angle = torch.arange(8, dtype=torch.float64) / 8 * 2 * math.pi
    means = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    return Mixture(means, torch.linspace(0.2, 0.5, 8, dtype=torch.float64), torch.full((8,), 1 / 8, dtype=torch.float64))


def draw_way() -> None:
    """Both ways between data and noise."""
    data, process, n = spiral(), schedules.vp_cosine(), 900
    noise = Independent(1, torch.arange(n)).start((2,), torch.float64)
    x0 = data.sample(Independent(2, torch.arange(n)).start((2,), torch.float64), torch.linspace(0, 1, n + 2)[1:-1])
    shown = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
    picture = page(1040, 426)
    grid = uniform(process, 60, start=1.0, end=1 / 60)
    states = list(sample(UniPC(3), data, noise, grid))
    for i, time in enumerate(shown):
        left = 18 + i * 171
        extent = (-3.0, 3.0)
        top = Panel(picture, (left, 40, left + 150, 190), extent, extent)
        top.points(forward(x0, noise, process.at(time)) if time else x0, COLORS[0])
        top.title(f"t = {time}  ·  {100 * process.at(time).alpha:.0f} % of the data" if time else "data")
        step = round((1 - shown[i]) * 60)
        below = Panel(picture, (left, 240, left + 150, 390), extent, extent)
        below.points(states[step].x, COLORS[1])
        for one in range(0, n, 75):
            below.line([tuple(state.x[one].tolist()) for state in states[: step + 1]], INK + "c0", 1.0)
        below.title(f"{step} of 60 steps" if step else "noise")
    pen = ImageDraw.Draw(picture)
    pen.text((18 * SCALE, 12 * SCALE), "forward: noise is added, from left to right", fill=SOFT, font=font(12), anchor="lm")
    pen.text(
        (18 * SCALE, 212 * SCALE),
        "reverse: the denoiser takes it away, from right to left",
        fill=SOFT,
        font=font(12),
        anchor="lm",
    )
    pen.text((18 * SCALE, 408 * SCALE), "lines: the whole way of some samples", fill=SOFT, font=font(11), anchor="lm")
    save(picture, "diffusion-way.png")


def draw_noise() -> None:
    """Schedules, and grids."""
    picture = page(1040, 430)
    panel = Panel(picture, (60, 40, 480, 380), (0, 1), (-6, 6))
    panel.title("Log of signal to noise at each time")
    panel.ticks({t / 4: f"{t / 4:g}" for t in range(5)}, {v: str(v) for v in range(-6, 7, 2)})
    named = {
        "linear": schedules.vp(),
        "Stable Diffusion": schedules.vp_scaled(),
        "cosine": schedules.vp_cosine(),
        "sigmoid": schedules.vp_sigmoid(),
        "VE 0.01 … 50": schedules.ve(),
        "flow": schedules.flow(),
        "flow, shift 3": schedules.flow(3.0),
    }
    times = torch.linspace(0.001, 0.999, 400, dtype=torch.float64)
    for i, (name, process) in enumerate(named.items()):
        panel.line(list(zip(times.tolist(), process.lam(times).tolist(), strict=True)), COLORS[i])
        panel.text(0.62, 5.5 - 0.55 * i, name, COLORS[i])
    panel.text(0.5, -5.6, "noise only", SOFT, 11, "mm")
    panel.text(0.3, 5.5, "data", SOFT, 11, "mm")

    sd, wide = table(scaled_linear_betas()), schedules.edm(0.03, 14.6)
    data = ring()
    start = 14.6 * Independent(3, torch.arange(48)).start((2,), torch.float64)
    grids = {
        "trailing": trailing(sd, 10),
        "leading, offset 1": leading(sd, 10, offset=1),
        "Karras": karras(wide, 10),
        "exponential": exponential(wide, 10),
        "found for the ring, 2nd order": optimised(data, start, karras(wide, 40), 10),
    }
    right = Panel(picture, (560, 40, 1020, 380), (-3.2, 4.2), (-0.6, len(grids) - 0.2))
    right.title("Ten steps over the noise of Stable Diffusion: log of signal to noise")
    right.ticks({v: str(v) for v in range(-3, 5)}, {})
    for i, (name, grid) in enumerate(grids.items()):
        y = len(grids) - 1 - i
        right.points(torch.tensor([[point.lam, y] for point in grid if point.sigma > 0]), COLORS[i], 4)
        right.text(-3.1, y + 0.36, name, COLORS[i])
    save(picture, "diffusion-noise.png")


def solvers(process: Process) -> dict[str, tuple[Step, int]]:
    """Name, solver and evaluations a step."""
    return {
        "Euler = DDIM": (Ancestral(), 1),
        "Heun": (Heun(), 2),
        "2M": (Multistep(2, rule="bh2"), 1),
        "3M, published": (Multistep(3, rule="published"), 1),
        "3M, corrected": (Multistep(3), 1),
        "3S": (Singlestep(process, 3), 3),
        "UniPC-2": (UniPC(2), 1),
        "UniPC-3": (UniPC(3), 1),
    }


def others(process: Process) -> dict[str, tuple[Step, int]]:
    """Those that are in the table only."""
    return {
        "UniPC-3 of ε": (UniPC(3, of="epsilon"), 1),
        "2M of ε": (Multistep(2, of="epsilon"), 1),
        "2S of ε": (Singlestep(process, 2, "bh2", of="epsilon"), 2),
        "Adams": (Adams(), 1),
        "PLMS": (PLMS(), 1),
    }


def draw_errors() -> list[str]:
    """Error against evaluations; returns the rows of the table in the guide."""
    data, process = ring(), schedules.edm(0.02, 20.0)
    x = 20 * Independent(0, torch.arange(128)).start((2,), torch.float64)
    exact = last(sample(UniPC(3), data, x, karras(process, 3000, to_data=False)))
    picture = page(940, 480)
    panel = Panel(picture, (70, 40, 700, 430), (1.1, 2.85), (-9.2, -0.4))
    panel.title("Error at the end (ring of eight Gaussians, exact denoiser, fp64) against evaluations")
    panel.ticks({math.log10(v): str(v) for v in (15, 20, 40, 80, 160, 320, 640)}, {v: f"1e{v}" for v in range(-9, 0)})
    rows = []
    pen = ImageDraw.Draw(picture)
    for i, (name, (step, cost)) in enumerate({**solvers(process), **others(process)}.items()):
        drawn, found = i < len(solvers(process)), {}
        for evaluations in (15, 20, 40, 80, 160, 320, 640) if drawn else (15, 20, 40, 80):
            n = round(evaluations / cost)
            end = last(sample(step, data, x, karras(process, n, to_data=False)))
            found[n * cost] = (end - exact).pow(2).mean().sqrt().item()
        ends = [last(sample(step, data, x, karras(process, steps, to_data=False))) for steps in (40, 160)]
        coarse, fine = ((end - exact).pow(2).mean().sqrt().item() for end in ends)
        slope = math.log2(coarse / fine) / 2
        counts = list(found)
        if drawn:
            panel.line([(math.log10(count), math.log10(error)) for count, error in found.items()], COLORS[i])
            pen.text(
                (720 * SCALE, (60 + 26 * i) * SCALE), f"{name}: order {slope:.2f}", fill=COLORS[i], font=font(14), anchor="lm"
            )
        rows.append(f"| {name} | {slope:.2f} | " + " | ".join(f"{found[counts[k]]:.1e}" for k in (1, 2, 3)) + " |")
    pen.text((720 * SCALE, 290 * SCALE), "order: slope between 40\nand 160 steps", fill=SOFT, font=font(12))
    save(picture, "diffusion-errors.png")
    return rows


def draw_steps() -> None:
    """The same noise in eight evaluations."""
    data, n = spiral(), 900
    process = schedules.edm(0.02, 20.0)
    noise = 20 * Independent(1, torch.arange(n)).start((2,), torch.float64)
    fine = karras(process, 40)
    found = optimised(data, noise[:48], fine, 8)
    exact = last(sample(UniPC(3), data, noise, karras(process, 400)))
    rows: list[list[tuple[str, Step, Grid]]] = [
        [
            ("Euler, Karras", Ancestral(), karras(process, 8)),
            ("Heun, Karras", Heun(), karras(process, 4)),
            ("2M, Karras", Multistep(2, rule="bh2"), karras(process, 8)),
            ("UniPC-3, Karras", UniPC(3), karras(process, 8)),
        ],
        [
            ("Euler, exponential", Ancestral(), exponential(process, 8)),
            ("2M, exponential", Multistep(2), exponential(process, 8)),
            ("2M, grid found for it", Multistep(2), found),
            ("400 evaluations", UniPC(3), karras(process, 400)),
        ],
    ]
    picture = page(1040, 560)
    for y, row in enumerate(rows):
        for x, (name, step, grid) in enumerate(row):
            left, top = 20 + 255 * x, 36 + 264 * y
            panel = Panel(picture, (left, top, left + 225, top + 225), (-2.8, 2.8), (-2.8, 2.8))
            end = last(sample(step, data, noise, grid))
            panel.points(end, COLORS[(4 * y + x) % 8])
            off = (end - exact).pow(2).mean().sqrt().item()
            panel.title(f"{name}: off by {off:.2f}" if off else name)
    save(picture, "diffusion-steps.png")


@torch.inference_mode()
def main() -> None:
    """Write the pictures, and print the table of the guide."""
    draw_way()
    draw_noise()
    print("\n".join(draw_errors()))
    draw_steps()


if __name__ == "__main__":
    main()
