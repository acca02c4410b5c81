"""A model of ours into a repository of the Hugging Face hub, with a card that says what it is."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from convnextv2.errors import RunFailedError, UserError
from convnextv2.verbs.convert import write_own
from convnextv2.weights.load import read
from convnextv2.weights.model_file import CLASSIFIER, ENCODER, PRETRAINED, ModelFile, Weights
from convnextv2.weights.sources.sidecar import identifier

_REPOSITORY = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+)")
_WITHOUT_A_HEAD = {ENCODER: ", without a head", PRETRAINED: ", a masked autoencoder with its decoder"}
_STEPS = {ENCODER: "an encoder trained", PRETRAINED: "masked pre-training", CLASSIFIER: "classification"}
_METRICS = {"top1": "accuracy", "top5": "top-5 accuracy", "mean_class": "mean accuracy per class", "auroc": "AUROC"}
_METRICS |= {"map": "mean average precision", "f1": "F1", "ece": "calibration error"}

_CARD = """\
---
license: {{ licence | lower }}
library_name: convnextv2
{% if classes %}pipeline_tag: image-classification
{% else %}pipeline_tag: image-feature-extraction
{% endif %}tags:
- convnextv2
- fcmae
---

# {{ title }}

A {{ architecture.model }}{{ shape }} for pictures of {{ image_size }} pixels{{ task }}.

```python
import convnextv2

loaded = convnextv2.load("hf:{{ repository }}")
logits = loaded.model(images)  # (B, {{ architecture.in_chans }}, {{ image_size }}, {{ image_size }}), normalised
```

| | |
| --- | --- |
| trained on | {{ trained_on or "not recorded" }} |
| before that | {{ before or "random weights" }} |
| input | {{ architecture.in_chans }} channels, `(pixel / 255 - mean) / std`, mean {{ mean }}, std {{ std }} |
| licence | {{ licence }} |
{% if scores %}
## Measured

{{ scores }}
{% if chosen %}
The checkpoint was chosen by its score on the validation pictures, so that this score flatters it a little.
{% endif %}{% endif %}{% if classes %}
## Classes

{{ classes | join(", ") }}
{% endif %}"""


@dataclass(frozen=True)
class Pushed:
    """What was sent, or would have been.

    files: names, and sizes in bytes.  card: its text.  address: of the repository; empty if nothing was sent.
    """

    repository: str
    files: Mapping[str, int]
    card: str
    address: str


def push(
    source: str | Path,
    repository: str,
    *,
    licence: str | None = None,
    private: bool = False,
    dry_run: bool = False,
    weights: Weights = "average",
) -> Pushed:
    """Send weights, config.json and a model card to `OWNER/NAME` on the hub, which is made where it does not exist.

    licence: an identifier as the hub has them ("apache-2.0"); it must be said, unless the weights carry one, and
    cannot be another than that.  dry_run: write it all, send nothing.  weights: the averaged or the plain ones.

    Raises UserError for a missing or conflicting licence and a wrong name, and as `load`; RunFailedError where the hub
    refuses.
    """
    match = _REPOSITORY.fullmatch(repository)
    if match is None:
        raise UserError(f"{repository} is no repository of the hub: give OWNER/NAME")
    held = read(source, weights=weights)
    if str(held.architecture["model"]).startswith("timm:"):
        raise UserError(f"{held.file} holds a {held.architecture['model']}: push it with timm's own tools")
    licence = _licence(held, licence)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_own(held, folder / "model.safetensors", licence)
        scores = _scores(Path(source))
        config = _config(held, licence, scores)
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        card = _card(match[1], held, licence, scores)
        (folder / "README.md").write_text(card, encoding="utf-8")
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        address = "" if dry_run else _send(folder, match[1], private)
    return Pushed(match[1], files, card, address)


def _licence(held: ModelFile, asked: str | None) -> str:
    carried = held.metadata.get("licence", "")
    if carried.startswith("unknown"):
        carried = ""
    if asked is None and not carried:
        raise UserError("say under which licence the weights may be used: --licence apache-2.0, cc-by-nc-4.0, ...")
    if asked is not None and carried and identifier(asked) != identifier(carried):
        raise UserError(f"these weights were made from some under {carried}: give --licence {identifier(carried)}")
    licence = asked or re.sub(r"\s+", "-", carried.strip())
    if not re.fullmatch(r"[\w.+-]{2,60}", licence):
        raise UserError(f"--licence {licence}: give an identifier, as apache-2.0")
    return licence


def _scores(source: Path) -> dict[str, Any]:
    """What a classifier's run measured of its best checkpoint, where `source` is one."""
    try:
        found = json.loads((source / "scores.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {split: value for split, value in found.items() if split in ("val", "test") and isinstance(value, dict)}


def _config(held: ModelFile, licence: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "library_name": "convnextv2",
        **held.architecture,
        "image_size": held.image_size,
        "preprocessing": {"mean": held.preprocessing.mean, "std": held.preprocessing.std},
        "crop_pct": json.loads(held.metadata.get("crop_pct", "null")),
        "classes": list(held.classes),
        "multi_label": json.loads(held.metadata.get("multi_label", "false")),
        "licence": licence,
        "scores": dict(scores),
    }


def _card(repository: str, held: ModelFile, licence: str, scores: Mapping[str, Any]) -> str:
    names = [name for name in _METRICS if any(name in v for by in scores.values() for v in by.values())]
    rows = [["pictures", "weights", *(_METRICS[name] for name in names)], ["---"] * (2 + len(names))]
    for split, by_weights in scores.items():
        for kind, found in by_weights.items():
            rows.append([split, kind, *(f"{found[name]:.4f}" if name in found else "" for name in names)])
    architecture, classes = dict(held.architecture), held.classes if held.format == CLASSIFIER else ()
    own = architecture["depths"] and architecture["dims"]
    shape = f" of depths {list(architecture['depths'])} and widths {list(architecture['dims'])}" if own else ""
    history = json.loads(held.metadata.get("trained_from", "[]"))
    before = "; ".join(
        f"{_STEPS.get(step['format'], 'training')} on {step['trained_on'] or 'unknown pictures'}" for step in history
    )
    template = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=False).from_string(_CARD)
    return template.render(
        repository=repository,
        title=repository.partition("/")[2],
        architecture=architecture,
        shape=shape,
        image_size=held.image_size,
        task=f", trained to tell {len(classes)} classes apart" if classes else _WITHOUT_A_HEAD[held.format],
        trained_on=held.metadata.get("trained_on", ""),
        before=before,
        mean=list(held.preprocessing.mean),
        std=list(held.preprocessing.std),
        licence=licence,
        scores="\n".join(f"| {' | '.join(row)} |" for row in rows) if names else "",
        chosen="val" in scores,
        classes=classes if len(classes) <= 200 else (),
    )


def _send(folder: Path, repository: str, private: bool) -> str:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError("push needs the hub's library: pip install 'convnextv2[hub]'") from None
    try:
        hub = HfApi()
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Weights, config and card")
    except Exception as error:  # the library's and its network library's own
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunFailedError(f"the hub did not take {repository}: {said}; log in with `hf auth login`") from error
    return str(address)
