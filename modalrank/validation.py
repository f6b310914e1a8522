"""What `modalrank validate` looks at: the contract of the tables, and whether modalities can be encoded."""

from __future__ import annotations

import math

import polars as pl

from features.contract import Check, check_tables
from features.encoders import DescribedEncoder, make_encoder
from features.errors import DataError
from features.tables import scan_entities, scan_interactions
from modalrank.config import Config
from modalrank.dataset import canonical_columns, columns_of, id_column, modality_columns, row_columns


def validate(config: Config) -> list[Check]:
    """Return every finding about the tables of a config, the unreadable ones included."""
    data = config.data
    columns = canonical_columns(config)
    interactions, checks = scan_interactions(
        data.interaction_files(), columns, extra=row_columns(config.modalities), presorted=data.presorted
    )
    tables: dict[str, pl.DataFrame | None] = {"items": None, "users": None}
    for table in tables:
        name = getattr(data, table)
        try:
            if name is not None:
                tables[table] = scan_entities(
                    data.path(name), id_column(config, table), columns_of(config, table)
                )
        except DataError as error:
            checks.append(Check.broken(f"{table} readable", error))
    if all(check.passed for check in checks):
        checks += check_tables(
            interactions,
            tables["items"],
            tables["users"],
            modality_columns(config),
            form=data.form,
            positive_from=data.positive_from,
            names=columns.named,
            duplicates=data.duplicates,
        )
        checks += [
            _check_modality(config, name, found)
            for name, modality in config.modalities.items()
            if (found := tables.get(modality.table)) is not None
        ]
    return checks


def _check_modality(config: Config, name: str, table: pl.DataFrame) -> Check:
    """Encode a modality of the item or user table; of files only look whether they can be read."""
    modality = config.modalities[name]
    columns = table.select(modality.columns)
    source = config.data.path(getattr(config.data, modality.table)).parent
    title = f"encoding of {name}"
    if modality.space is not None:
        return Check(title, True, f"with the encoder of {modality.space}")
    encoder = make_encoder(modality.encoder, modality.params)
    try:
        if not isinstance(encoder, DescribedEncoder):
            encoder.fit(columns, source)
            return Check(title, True, f"{modality.encoder}, width {encoder.width}")
        describer = encoder.describer()
        if not describer.files:
            return Check(title, True, f"{modality.encoder}, {describer.width} components before scaling")
        broken = encoder.unreadable(columns, source)
    except DataError as error:
        return Check.broken(title, error)
    n_files = columns.to_series().drop_nulls().n_unique()
    detail = f"{len(broken)} rows of {n_files} files cannot be read and count as missing"
    examples = tuple(f"{found.path} ({found.reason})" for found in broken[:3])
    n_broken = len({found.path for found in broken})
    too_many = n_broken > math.ceil(config.media.max_bad * n_files)
    if too_many:
        detail += f", more than the share of {config.media.max_bad:g} that --max-bad-media allows"
    return Check(title, not broken, detail, examples, "fail" if too_many else "warn")
