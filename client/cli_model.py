"""``socket-site export`` and ``predict``: an adapted network in use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Releases = Annotated[
    list[Path] | None, typer.Option("--release", help="Check that it was adapted from this; once for each source.")
]


def export(
    adapted: Annotated[Path, typer.Argument(metavar="ADAPTED.safetensors", help="Written by socket-site adapt.")],
    out: Annotated[Path, typer.Option("--out", help="Ends in .safetensors, .onnx or .pt2 (torch.export).")],
    release: Releases = None,
    config: Annotated[Path | None, typer.Option("--config", help="Check that it prepares images likewise.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="Of the sensor, or a folder: size of the input, comparison.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write an adapted network for other programs, and compare its answers with this product's.

    .onnx and .pt2 hold one graph from the sensor's raw image to logits.

    Example: socket-site export adapted.safetensors --out model.onnx --image /srv/site/task
    """
    from client.export import export as run

    facts = run(adapted, out, releases=release or (), config=config, images=image or ())
    if as_json:
        print(json.dumps(facts))
        return
    print(f"wrote {out}, {facts['bytes']} bytes; input {facts['input']}; classes {', '.join(facts['classes'])}")
    print(
        f"largest difference of a logit on {facts['compared_on']}: {facts['largest_difference']:.1e} "
        f"(at most {facts['tolerance']:g} is allowed)"
    )


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=".safetensors, .onnx or .pt2; a .pt2 of your own.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    release: Releases = None,
    as_json: Json = False,
) -> None:
    """Show the three most probable classes of each image.

    Example: socket-site predict adapted.safetensors /srv/site/task/0001.png
    """
    from client import predict as predicting

    found = predicting.predict(model, images, release or ())
    print(json.dumps(found) if as_json else "\n".join(predicting.lines(found)))


def register(app: typer.Typer) -> None:
    """Adds both commands."""
    app.command()(export)
    app.command()(predict)
