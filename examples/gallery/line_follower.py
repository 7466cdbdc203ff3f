"""
Deadlines of a control loop
===========================

For people who put a network into a control loop (robots, drones, inspection): you get a network that answers
too late, its separable form that answers in time, how often each misses its deadline, and what that does to
the robot.
"""

# %%
# The world
# ---------
#
# A robot follows a painted line. Its camera looks ahead over a floor of real textures, brick, grass and
# gravel; each picture is rendered from where the robot is. A pixel of the floor is a centimetre.

import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import scipy.ndimage
import skimage
import torch
from torch import nn

import separable as sp

SMALL = "SEPARABLE_SMALL" in os.environ  # a short training and a short drive, as the tests take
HEIGHT, WIDTH = 48, 64  # pixels of the camera
AHEAD = 32.0  # centimetres: where the line is to be told
torch.manual_seed(0)

folder = Path(skimage.__file__).parent / "data"
textures = [
    np.asarray(PIL.Image.open(folder / f"{name}.png"), np.float32) / 255
    for name in ("brick", "grass", "gravel")
]


class World:
    """A floor with a closed line: a picture of it, and the line as points and headings."""

    def __init__(self, floors, waves, size=800):
        """Lay the floors side by side, and paint a circle that the waves bend."""
        turn = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
        radius = 0.3 * size + sum(height * np.sin(count * turn + phase) for count, height, phase in waves)
        self.points = size / 2 + np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
        ahead = np.roll(self.points, -1, axis=0) - np.roll(self.points, 1, axis=0)
        self.headings = np.arctan2(ahead[:, 1], ahead[:, 0])
        part = -(-size // len(floors))
        tiles = [np.tile(floor, (size // floor.shape[0] + 1, 1))[:size, :part] for floor in floors]
        self.floor = 0.75 * np.hstack(tiles)[:, :size]
        line = np.ones((size, size), bool)
        line[tuple(np.rint(self.points).astype(int).T)] = False
        paint = np.clip(3.5 - scipy.ndimage.distance_transform_edt(line), 0, 1).astype(np.float32)
        self.floor = self.floor * (1 - paint) + 0.95 * paint

    def camera(self, place, heading):
        """Return what the camera sees, (HEIGHT, WIDTH): the far is above, and small."""
        depth = 10 + 60 * np.linspace(1, 0, HEIGHT)[:, None] ** 2  # centimetres ahead of the robot
        side = np.linspace(-1, 1, WIDTH)[None] * (12 + 0.5 * depth)  # and to its right
        along, across = np.cos(heading), np.sin(heading)
        x = place[0] + depth * along - side * across
        y = place[1] + depth * across + side * along
        return scipy.ndimage.map_coordinates(self.floor, [x, y], order=1, mode="nearest") - 0.5

    def line_ahead(self, place, heading):
        """Return how far to the side the line is, AHEAD of the robot, in centimetres."""
        way = self.points - place
        depth = way @ (np.cos(heading), np.sin(heading))
        side = way @ (-np.sin(heading), np.cos(heading))
        apart = np.abs(side) + 20 * np.abs(depth - AHEAD)  # the branch of the line that is nearest, at AHEAD
        nearest = np.argmin(apart)
        return side[nearest] if apart[nearest] < 60 else np.nan

    def error(self, place):
        """Return how far a place is from the line, in centimetres."""
        return np.sqrt(((self.points - place) ** 2).sum(axis=1).min())


upper = [texture[:340] for texture in textures]
lower = [texture[344:] for texture in textures]
to_learn = World(upper, [(2, 40, 0.0), (3, 25, 1.0), (5, 12, 2.0)])
to_drive = World(lower, [(2, 30, 2.0), (3, 35, 0.3), (6, 9, 1.0)])


def frames(world, count, seed):
    """Return camera pictures from places near the line, and where the line is in them."""
    rng = np.random.default_rng(seed)
    pictures, sides = [], []
    while len(sides) < count:
        number = rng.integers(len(world.points))
        place = world.points[number] + rng.uniform(-14, 14, 2)
        heading = world.headings[number] + rng.uniform(-0.5, 0.5)
        side = world.line_ahead(place, heading)
        if np.isfinite(side) and abs(side) < 28:
            pictures.append(world.camera(place, heading) * rng.uniform(0.7, 1.2) + rng.uniform(-0.1, 0.1))
            sides.append(side)
    return torch.tensor(np.array(pictures)[:, None], dtype=torch.float32), torch.tensor(
        sides, dtype=torch.float32
    )


# %%
# The network
# -----------
#
# Six convolutions tell how far to the side the line is, 32 cm ahead. It is trained here, in a minute or two,
# on one world; it will drive in another one.

wide = 4 if SMALL else 16  # channels
channels = (1, wide, 2 * wide, 4 * wide, 4 * wide, 6 * wide, 6 * wide)
layers = []
for before, after, stride in zip(channels, channels[1:], (2, 1, 2, 1, 2, 1), strict=False):
    layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
net = nn.Sequential(*layers, nn.AvgPool2d((3, 1)), nn.Flatten(), nn.Linear(6 * wide * 2 * 8, 1))

pictures, sides = frames(to_learn, 100 if SMALL else 1000, seed=1)
optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
epochs = 1 if SMALL else 4
steps = epochs * -(-len(sides) // 32)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
start = time.perf_counter()
for _ in range(epochs):
    for some in torch.randperm(len(sides)).split(32):
        loss = ((net(pictures[some])[:, 0] - sides[some] / 10) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
net.eval()
print(
    f"trained in {time.perf_counter() - start:.0f} s; {sp.nn.audit(net, pictures[:1]).macs:,} MACs a picture"
)
held_pictures, held_sides = frames(to_drive, 20 if SMALL else 400, seed=2)


def off(model):
    """Return the root mean square of the errors in the world that is driven in, in centimetres."""
    with torch.no_grad():
        return float(((10 * model(held_pictures)[:, 0] - held_sides) ** 2).mean().sqrt())


# %%
# It is converted on pictures of the first world, without being told where the line is. Both networks become
# programs for one picture and one thread.

result = sp.nn.separate(net, pictures[: 16 if SMALL else 128], by="macs", budget=0.15, progress=False)
print(result.report)
print(f"the line is told to {off(net):.2f} cm by the dense network, {off(result.model):.2f} cm by the other")
programs = {
    "dense": sp.nn.compile(net, pictures[:1], threads=1),
    "separable": sp.nn.compile(result.model, pictures[:1], threads=1),
}

# %%
# The loop
# --------
#
# Once a period the robot looks, and the answer steers it from the next period on. An answer that takes longer
# comes later: the robot goes on as it was told before, and looks again when the answer is there. Times are
# those that the programs really take, in the time of their thread: the machine that this page is made on does
# other things as well, which a robot's does not. What a clock on the wall says is told beside it.

SPEED = 8.0  # centimetres in a period


def drive(program, period, periods):
    """Drive; return the path, and the seconds that answers took: of the thread, and by the clock."""
    number = 0
    place, heading, curvature = to_drive.points[number] + 0.0, to_drive.headings[number], 0.0
    path, taken, waited, answer, due = [], [], [], 0.0, None
    for now in range(periods):
        if due is not None and now >= due:
            curvature, due = 2 * answer / (AHEAD**2 + answer**2), None  # the arc through what lies ahead
        if due is None:
            picture = to_drive.camera(place, heading).astype(np.float32)[None, None]
            start, wall = time.thread_time(), time.perf_counter()
            answer = 10 * float(np.asarray(program(picture)).squeeze())
            taken.append(time.thread_time() - start)
            waited.append(time.perf_counter() - wall)
            due = now + max(1, int(np.ceil(taken[-1] / period)))
        heading += SPEED * np.clip(curvature, -0.06, 0.06)
        place = place + SPEED * np.array([np.cos(heading), np.sin(heading)])
        path.append(place)
        if to_drive.error(place) > 60:
            break  # it has lost the line
    return np.array(path), np.array(taken), np.array(waited)


def typical(program):
    """Return the median time of an answer, in seconds."""
    picture = pictures[:1].numpy()
    times = []
    for _ in range(20 if SMALL else 200):
        start = time.thread_time()
        program(picture)
        times.append(time.thread_time() - start)
    return float(np.median(times))


medians = {name: typical(program.program) for name, program in programs.items()}
print(", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in medians.items()))

# %%
# A robot's computer is slower than this machine, so a period in milliseconds would say little. Three
# periods are tried: one that both keep, one between the two, and one that is short for both. With each the
# robot goes as far in a period: the shorter it is, the faster the robot.

between = float(np.sqrt(medians["dense"] * medians["separable"]))
periods = {"long": 2 * medians["dense"], "between": between, "short": 0.7 * medians["separable"]}
count = 20 if SMALL else 320
drives = {}
print("period               network     late   by the clock   distance from the line")
for label, period in periods.items():
    for name, program in programs.items():
        path, taken, waited = drives[label, name] = drive(program.program, period, count)
        errors = np.array([to_drive.error(place) for place in path])
        lost = "" if len(path) == count else f", line lost after {len(path)} periods"
        print(
            f"{label:8s} {1e3 * period:6.2f} ms   {name:9s} {(taken > period).mean():6.1%}"
            f"   {(waited > period).mean():12.1%}"
            f"   {errors.mean():4.1f} cm, at most {errors.max():4.1f} cm{lost}"
        )

# %%
# How long the answers of a whole lap take; what share of them misses the deadline, for every period (solid in
# the time of the thread, dotted by the clock on the wall); and where the robots drive if the period lies
# between the two:

figure = plt.figure(figsize=(10, 5.6), layout="constrained")
panels = figure.subplot_mosaic([["times", "floor"], ["missed", "floor"]], width_ratios=(1, 1.1))
most = 1e3 * max(np.percentile(drives["long", name][1], 98) for name in programs)
panels["floor"].imshow(to_drive.floor, cmap="gray", vmin=0, vmax=1.2)
for name, colour in {"dense": "C1", "separable": "C0"}.items():
    path, (_, taken, waited) = drives["between", name][0], drives["long", name]
    panels["times"].hist(1e3 * taken, bins=40, range=(0, most), color=colour, alpha=0.8, label=name)
    for seconds, line in ((taken, "-"), (waited, ":")):
        missed = np.linspace(100, 0, len(seconds) + 1)  # of the answers, for a period from one of them on
        panels["missed"].step(1e3 * np.sort([0, *seconds]), missed, line, color=colour, where="post")
    late = f"{name}: {(taken > between).mean():.0%} too late for the period"
    panels["floor"].plot(path[:, 1], path[:, 0], color=colour, linewidth=2.5, label=late)
    middle, tail, longest = 1e3 * np.percentile(taken, (50, 99, 100))
    print(f"{name:9s} median {middle:.2f} ms, 99 in 100 within {tail:.2f} ms, the longest {longest:.2f} ms")
for key, label in (("times", "answers"), ("missed", "deadlines missed, %")):
    for period in periods.values():
        panels[key].axvline(1e3 * period, color="0.5", linestyle="--", linewidth=0.8)
    panels[key].set(xlim=(0, max(most, 1.1e3 * max(periods.values()))), ylabel=label)
panels["times"].legend(frameon=False, title="dashed: the three periods")
panels["missed"].set_xlabel("milliseconds")
panels["floor"].set_title("the floor, and where each one drove")
panels["floor"].legend(loc="upper right", fontsize=9)
panels["floor"].set_axis_off()

# %%
# What the robot sees, far above and near below, with the point of the line that is asked for:

figure, panels = plt.subplots(1, 5, figsize=(10, 1.8), layout="constrained")
depth = 10 + 60 * np.linspace(1, 0, HEIGHT) ** 2
row = int(np.argmin(np.abs(depth - AHEAD)))
for panel, picture, side in zip(panels, held_pictures[:5, 0].numpy(), held_sides[:5].numpy(), strict=True):
    panel.imshow(picture, cmap="gray")
    column = (side / (12 + 0.5 * AHEAD) + 1) * (WIDTH - 1) / 2
    panel.plot(column, row, "o", color="C1", markersize=6, markerfacecolor="none")
    panel.set_axis_off()

# %%
# Late answers are no matter of averages: a network whose median lies below the period can miss deadlines,
# too, on a machine that does other things as well. For a budget in time instead of operations:
# ``by="time"``.
