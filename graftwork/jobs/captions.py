"""Captions: what encoders write about references, for the control `words`."""

import logging
from collections.abc import Mapping

from graftwork.core.progress import Progress
from graftwork.jobs.devices import take_device
from graftwork.jobs.planned import Planned, UsedCode, UsedModel, require_reference
from graftwork.jobs.record import JobRecord, blaming_settings
from graftwork.planning.captions import CaptionToWrite, missing_captions
from graftwork.planning.code import captioning_code
from graftwork.store.captions import read_caption, write_caption_file
from graftwork.store.layout import Store


def write_captions(
    captions: Mapping[str, CaptionToWrite], hardware: Mapping[str, object], store: Store, log: logging.Logger
) -> JobRecord:
    """Writes the captions that the store lacks, each encoder loaded once.

    The store is asked before torch is imported. A caption that fails (an image that has changed, an answer that does not
    end) is recorded, and the others go on.

    Args:
        captions: key -> caption; those of one encoder stand side by side.
        hardware: `hardware.extraction` of config.yaml.
        store: where captions are.
        log: log of the job.

    Raises:
        ChangedSincePlanning: where code or encoder are others now than when the captions were named.
    """
    record = JobRecord(log)
    missing = set(missing_captions(list(captions), store))
    record.found += [key for key in captions if key not in missing]
    by_encoder: dict[str, dict[str, CaptionToWrite]] = {}
    for key, caption in captions.items():
        if key in missing:
            by_encoder.setdefault(caption.parts.encoder, {})[key] = caption
    if not by_encoder:
        return record

    from graftwork.models.hardware import configure_torch

    take_device(hardware, log)
    with blaming_settings(log):
        configure_torch(hardware)
    for asked in by_encoder.values():
        _ask_encoder(asked, hardware, store, record, log)
    return record


def _ask_encoder(
    asked: Mapping[str, CaptionToWrite],
    hardware: Mapping[str, object],
    store: Store,
    record: JobRecord,
    log: logging.Logger,
) -> None:
    from graftwork.models.images import open_reference
    from graftwork.models.loading import load_captioner

    model = next(iter(asked.values())).encoder
    family = model.entry["family"]
    planned = Planned(
        store,
        [
            UsedCode(f"captions of family {family}", code, lambda: captioning_code(family))
            for code in {one.parts.code for one in asked.values()}
        ],
        [UsedModel("encoder", model, identity) for identity in {one.parts.encoder for one in asked.values()}],
    )
    planned.require()
    log.info("loading encoder %s for %s captions", model.name, len(asked))
    captioner = load_captioner(model.name, model.entry, hardware)
    progress = Progress("captions written", len(asked))
    for key, one in asked.items():
        planned.require()
        try:
            image = open_reference(one.path)
            require_reference(one.path, one.parts.reference)
            text = captioner.answer(image, one.parts.question, one.parts.max_new_tokens)
            planned.require()
            write_caption_file(store, one.parts, text)
            log.info("%s: %s %s", one.path, one.parts.question, read_caption(store, key))
            record.made.append(key)
        except Exception as error:  # one caption's failure is that caption's result
            record.fail(key, error)
        progress.advance()
    progress.end(len(record.failures))
