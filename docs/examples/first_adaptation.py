"""From a release and a folder of depth images to an adapted model; as a script, or cell by cell in a notebook.

It needs a release: ``make demo`` has made one in runs/demo. In place of a folder it takes the demo's own depth scenes.
"""

# %%
import sys
from pathlib import Path

from socket_core import adapt, evaluate, load_release
from socket_core.config import DataConfig, ScenesCounts
from socket_core.data.catalogue import load_task

HOME = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 150

# %% The source model, if the owner's key signed it. Get the key by another way than the release.
release = load_release(HOME / "release-seed0", key=HOME / "keys" / "owner.pub.pem")
print(release.info.backbone, release.info.classes)

# %% Unlabelled depth images and pairs of other things. Yours: read_images("depth/", release, full_scale=10000),
# and read_pairs("pairs/rgb", "pairs/depth", release, full_scale=10000).
counts = ScenesCounts(source_train=16, source_test=8, target_train=160, target_test=80, ti=96)
scenes = load_task(DataConfig(size=release.info.image_size, scenes=counts), cache=Path(".cache/images"))
images, pairs = scenes.target_train.images, scenes.ti

# %% AdaBN first: it takes a second, and shows whether anything is wrong with the images.
quick = adapt(release, images, method="adabn")
adapted = adapt(release, images, pairs, steps=STEPS)  # SOCKET, since there are pairs

# %% With labels of a few images, if there are any: how good is it?
for name, found in (("adabn", quick), ("socket", adapted)):
    scores = evaluate(found, scenes.target_test.images, scenes.target_test.labels)
    print(f"{name}: {scores.accuracy:.1%} right, {scores.classes_predicted} classes predicted")

# %% Probabilities of each class, and a file for `socket-site predict` and `socket-site export`.
print(adapted.predict(images.take(np.array([0]))).round(2), adapted.classes)
adapted.save(HOME / "first.safetensors", images)
