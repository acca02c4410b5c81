"""Upload a model with its card to a repository of the Hugging Face hub."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from convnextv2.errors import RunFailedError, UserError
from convnextv2.models.config import EncoderConfig
from convnextv2.runs.spec import task_of_kind
from convnextv2.signatures import verb
from convnextv2.weights import kinds
from convnextv2.weights.licences import identifier, is_known, may_become, terms
from convnextv2.weights.load import read
from convnextv2.weights.model_file import FORMAT, ModelInfo, Weights
from convnextv2.weights.sources.published import PUBLISHED

_REPOSITORY = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+)")
_CARD = """\
---
{% if licence | lower == "dinov3-license" %}license: other
license_name: {{ licence | lower }}
{% else %}license: {{ licence | lower }}
{% endif %}library_name: convnextv2
{% if pipeline %}pipeline_tag: {{ pipeline }}
{% endif %}tags:
- convnextv2
{% if fcmae %}- fcmae
{% endif %}---

# {{ title }}

A {{ model }} for images of {{ image_size }} pixels{{ task }}.

```python
import convnextv2

{% if predicts %}{% if package %}import {{ package }}  # registers models of kind {{ kind }}
{% endif %}
for prediction in convnextv2.predict("hf:{{ repository }}", ["image.jpg"]):
    print(prediction)

{% endif %}predictor = convnextv2.load("hf:{{ repository }}").predictor(){% if wrapped %}  # its encoder{% endif %}
image = predictor.read("image.jpg")  # {{ format }} ({{ in_chans }}, {{ image_size }}, {{ image_size }})
{% if rows %}logits = predictor(image[None])  # (1, {{ rows }})
{% else %}features = predictor.pooled_features(image[None])  # (1, {{ width }})
{% endif %}```

| | |
| --- | --- |
| trained on | {{ trained_on or "not recorded" }} |
| before that | {{ before }} |
| input | {{ channels }}, `{{ formula }}`, mean {{ mean }}, std {{ std }} |
| licence | {{ licence }}{% if carried %}; of the weights that it was made from: {{ carried }}{% endif %} |
{% if scores %}
## Measured

{{ scores }}
{% if chosen %}
The checkpoint was chosen by its score on the validation images, so this score is slightly optimistic.
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


@verb()
def push(
    source: str | Path,
    to: str,
    *,
    licence: str | None = None,
    relicense: bool = False,
    private: bool = False,
    dry_run: bool = False,
    weights: Weights = "average",
) -> Pushed:
    """Send weights, config.json and a model card to a repository of the hub, which is created if it does not exist.

    source: a run, a file or folder in any layout we know, or published weights.  to: OWNER/NAME.
    licence: an identifier as the hub has them ("apache-2.0"); required unless the weights carry one. What was made from
    weights under a licence that restricts their use, or under an unknown one, stays under it, unless `relicense` says
    that `licence` is yours to give.  dry_run: write it all, send nothing.  weights: the averaged or the plain ones.

    Raises UserError for a missing or conflicting licence and a wrong name, and as `load`; RunFailedError if the hub
    refuses.
    """
    match = _REPOSITORY.fullmatch(to)
    if match is None:
        raise UserError(f"{to} is not a repository of the hub: give OWNER/NAME")
    held = read(source, weights=weights)
    if not isinstance(held.info.architecture, EncoderConfig):
        raise UserError(f"{held.path} holds a {held.info.architecture.name}: push it with timm's own tools")
    carried = carried_licence(held.info)
    licence = _licence(carried, licence, relicense)
    held = replace(held, info=replace(held.info, licence=licence))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        held.write(folder / "model.safetensors")
        scores = _scores(Path(source))
        config = _config(held.info, scores)
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        card = _card(match[1], held.info, scores, _titles(Path(source)), carried)
        (folder / "README.md").write_text(card, encoding="utf-8")
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        address = "" if dry_run else _send(folder, match[1], private)
    return Pushed(match[1], files, card, address)


def carried_licence(info: ModelInfo) -> str:
    """Return the licence that weights carry: their own, or that of published weights that they were made from."""
    before = [PUBLISHED[step.file].licence for step in info.trained_from or () if step.file in PUBLISHED]
    return info.licence or next(iter(before), "")


def _licence(carried: str, requested: str | None, relicense: bool) -> str:
    """The licence to publish under. Raises UserError if that is not said, or not the user's to give."""
    known = is_known(carried)
    if requested is None and not known:
        of = f" ({carried})" if carried else ""
        raise UserError(
            f"give the licence under which the weights may be used{of}: --licence apache-2.0, cc-by-nc-4.0, ..."
        )
    licence = requested or re.sub(r"\s+", "-", carried.strip())
    if not re.fullmatch(r"[\w.+-]{2,60}", licence):
        raise UserError(f"--licence {licence}: give an identifier, as apache-2.0")
    if relicense or may_become(carried, licence) or not carried:
        return licence
    if known:
        raise UserError(
            f"these weights were made from some under {carried}: give --licence {identifier(carried)}; or if {licence} "
            "is yours to give, add --relicense"
        )
    if not terms(licence):  # one that restricts at least as much as any that they may have
        raise UserError(
            f"these weights were made from some whose licence is {carried}: if {licence} is yours to give, "
            "add --relicense"
        )
    return licence


def _scores(source: Path) -> dict[str, Any]:
    """The scores of the best checkpoint of a classifier's run, if `source` is one."""
    try:
        found = json.loads((source / "scores.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {split: value for split, value in found.items() if split in ("val", "test") and isinstance(value, dict)}


def _titles(source: Path) -> dict[str, str]:
    """The titles of the metrics of a run, if `source` is one."""
    try:
        report = json.loads((source / "config.json").read_text(encoding="utf-8"))["report"]
        return {metric["name"]: metric["title"] for metric in report["metrics"]}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _training(format: str) -> str:
    """The title of the training of a file of that format."""
    match = FORMAT.fullmatch(format)
    if match is None or match[1] == "encoder":
        return "an encoder trained" if match else "training"
    try:
        return task_of_kind(match[1]).training_title
    except UserError:  # of a package that is not installed
        return f"training of a {match[1]}"


def _config(info: ModelInfo, scores: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "library_name": "convnextv2",
        **info.architecture.to_dict(),
        "image_size": info.image_size,
        "preprocessing": {name: value for name, value in vars(info.preprocessing).items() if value is not None},
        "crop_pct": info.crop_pct,
        "classes": list(info.classes),
        "multi_label": info.multi_label,
        "licence": info.licence,
        "scores": dict(scores),
    }


def _is_of_fcmae(info: ModelInfo) -> bool:
    """Whether the weights were pre-trained as a masked autoencoder, or were made from such weights."""
    history = info.trained_from or ()
    formats = (info.format, *(step.format for step in history))
    names = (info.published or "", *(step.file for step in history))
    return "convnextv2.fcmae.1" in formats or any(".fcmae" in name for name in names)


def _card(repository: str, info: ModelInfo, scores: Mapping[str, Any], titles: Mapping[str, str], carried: str) -> str:
    classes, config = info.classes, info.architecture
    assert isinstance(config, EncoderConfig)
    task, pipeline, package = f", trained to classify {len(classes)} classes", "image-classification", ""
    predicts = False
    wrapped = info.kind not in kinds.BACKBONES
    if not classes or wrapped:
        task, pipeline = ", without a head", "image-feature-extraction"
    if wrapped:
        spec = task_of_kind(info.kind)
        task = f", {spec.title}"
        if spec.predict is not None:  # of another package: what its models are for is its own
            predicts, pipeline, module = True, "", spec.run.__module__
            package = "" if module == "__main__" else module
    template = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=False).from_string(_CARD)
    return template.render(
        repository=repository,
        title=repository.partition("/")[2],
        model=config.title,
        in_chans=config.in_chans,
        channels=_channels(info),
        format="uint8" if info.preprocessing.bands is None else "float32",
        formula="(pixel / 255 - mean) / std" if info.preprocessing.bands is None else "(clip(value) - mean) / std",
        image_size=info.image_size,
        task=task,
        pipeline=pipeline,
        fcmae=_is_of_fcmae(info),
        predicts=predicts,
        package=package,
        kind=info.kind,
        wrapped=wrapped,
        rows=0 if wrapped else len(classes),
        width=config.dims[3],
        trained_on=info.trained_on or "",
        before=_before(info),
        mean=list(info.preprocessing.mean),
        std=list(info.preprocessing.std),
        licence=info.licence,
        carried="" if identifier(carried) == identifier(info.licence or "") else carried,
        scores=_table(scores, titles),
        chosen="val" in scores,
        classes=classes if len(classes) <= 200 else (),
    )


def _channels(info: ModelInfo) -> str:
    """The channels of the input in words: their number, and of bands their names and limits."""
    count, bands = info.architecture.in_chans, info.preprocessing.bands
    if bands is None:
        return f"{count} channel{'s' * (count != 1)}"
    limits = zip(map(bands.name, range(count)), info.preprocessing.limits, strict=True)
    named = [f"{name} ({low:g} to {high:g})" for name, (low, high) in limits]
    return f"{count} of {bands.count} bands, as numbers: {', '.join(named[:20])}{', ...' * (count > 20)}"


def _before(info: ModelInfo) -> str:
    """What the weights were trained on before the last training, in words."""
    if info.trained_from is None:
        return "not recorded"
    steps = [f"{_training(step.format)} on {step.trained_on or 'unknown images'}" for step in info.trained_from]
    return "; ".join(steps) or "random weights"


def _table(scores: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """The scores, as a table of the card; empty if there are none."""
    found = dict.fromkeys(name for by in scores.values() for values in by.values() for name in values if name != "loss")
    names = sorted(found, key=lambda name: list(titles).index(name) if name in titles else len(titles))
    rows = [["images", "weights", *(titles.get(name, name) for name in names)], ["---"] * (2 + len(names))]
    for split, by_weights in scores.items():
        for kind, found in by_weights.items():
            rows.append([split, kind, *(f"{found[name]:.4f}" if name in found else "" for name in names)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) if names else ""


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
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunFailedError(f"the hub did not take {repository}: {reason}; log in with `hf auth login`") from error
    return str(address)
