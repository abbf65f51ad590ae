# %% [markdown]
"""From a folder of depth images to an adapted model, without any server.

Cells for VS Code and Jupyter (by jupytext), or a script: ``python docs/examples/first_adaptation.py``. It needs a
release: ``make demo`` has left one in ``runs/demo``. In place of your images, some of the demo's go into folders.
"""

# %% Where things are
import os
import tempfile
from pathlib import Path

from PIL import Image

from socket_core import Images, adapt, evaluate, load_release, read_images, read_pairs
from socket_core.config import DataConfig, ScenesCounts
from socket_core.data.catalogue import load_task

# A notebook runs in its own folder, a script in the checkout: runs/demo lies here or further up.
PLACES = [folder / "runs" / "demo" for folder in (Path.cwd(), *Path.cwd().parents)]
HOME = next((place for place in PLACES if place.is_dir()), PLACES[0])
FOLDER = Path(tempfile.mkdtemp())  # yours: Path("/data/mine"), and leave out the next cell and the last
SCALE = 10_000.0  # the pixel value that becomes 1.0: here 16-bit millimetres, up to 10 m
STEPS = int(os.environ.get("STEPS", "150"))

# %% Stand-ins for your images: 160 depth images of the task, and 96 RGB-depth pairs of other things
counts = ScenesCounts(source_train=16, source_test=8, target_train=160, target_test=80, ti=96)
scenes = load_task(DataConfig(scenes=counts), cache=HOME / "cache")
SCALE = scenes.target_train.images.full_scale


def write(images: Images, folder: Path) -> None:
    """One file an image; both halves of a pair get the same name."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(images.pixels):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


write(scenes.target_train.images, FOLDER / "task")
write(scenes.ti.rgb, FOLDER / "pairs" / "rgb")
write(scenes.ti.target, FOLDER / "pairs" / "depth")

# %% Ten lines from folder to adapted model. Get the owner's key by another way than the release.
release = load_release(HOME / "release-seed0", key=HOME / "keys" / "owner.pub.pem")
images = read_images(FOLDER / "task", release, full_scale=SCALE)
pairs = read_pairs(FOLDER / "pairs" / "rgb", FOLDER / "pairs" / "depth", release, full_scale=SCALE)
quick = adapt(release, images, method="adabn")  # a second: is anything wrong with the images?
adapted = adapt(release, images, pairs, steps=STEPS)  # SOCKET, since there are pairs
for row in adapted.predict(images)[:3]:
    print({name: round(float(p), 2) for name, p in zip(adapted.classes, row, strict=True)})
adapted.save(HOME / "first.safetensors", images)  # for socket-site predict and socket-site export

# %% With labels of a few images, if there are any: how good is it?
for name, found in (("adabn", quick), ("socket", adapted)):
    scores = evaluate(found, scenes.target_test.images, scenes.target_test.labels)
    print(f"{name}: {scores.accuracy:.1%} right, {scores.classes_predicted} classes predicted")
