from __future__ import annotations

import pytest
import yaml

from ensembles import LADDER
from features.errors import ConfigError
from modalrank.config import Config, dump_config, load_config, parse_config
from modalrank.retriever_config import default_retrievers

VECTOR = {"columns": ["v"], "encoder": "vectors"}
WITH_ITEMS = {"data": {"items": "items.csv"}, "modalities": {"image": VECTOR}}


def written(tmp_path, text):
    file = tmp_path / "config.yaml"
    file.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    return file


def refused(raw) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, "here.yaml")
    assert caught.value.exit_code == 3
    assert str(caught.value).startswith("here.yaml: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("raw", "key", "nearest"),
    [
        ({"sede": 1}, "sede", "seed"),
        ({"data": {"rooot": "x"}}, "data.rooot", "root"),
        ({"data": {"columns": {"lable": "x"}}}, "data.columns.lable", "label"),
        ({"candidates": {"retrievers": [{"knid": "ease"}]}}, "candidates.retrievers.0.knid", "kind"),
        ({"modalities": {"image": {**VECTOR, "colums": ["v"]}}}, "modalities.image.colums", "columns"),
        ({"bases": [{"name": "b", "family": "linear", "blcks": ["x"]}]}, "bases.0.blcks", "blocks"),
    ],
)
def test_unknown_key_is_refused_and_the_nearest_named(raw, key, nearest):
    message = refused(raw)
    assert f"unknown config key '{key}'" in message
    assert f"did you mean '{nearest}'?" in message


def test_unknown_key_like_no_other_lists_the_known_ones():
    assert "known keys there are by, test, valid" in refused({"split": {"zzz": 1}})


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"seed": "many"}, ["'seed'", "integer", "got 'many'"]),
        ({"seed": -1}, ["'seed'", "greater than or equal to 0", "got -1"]),
        ({"modalities": []}, ["'modalities'", "got 'list'"]),
        ({"data": None}, ["'data'", "got None"]),
        ({"split": {"test": 0.6}}, ["'split.test'", "less than 0.5"]),
        ({"data": {"form": "stream"}}, ["'data.form'", "'log' or 'judged'", "got 'stream'"]),
        ({"labels": {"folds": 1}}, ["'labels.folds'"]),
        ({"name": "two words"}, ["'name'", "pattern"]),
        ({"ensemble": {"ladder": ["greedy"]}}, ["'ensemble'", "starts with 'best_single'"]),
        (
            {"ensemble": {"ladder": ["best_single", "stacking"]}},
            ["'ensemble'", "unknown meta-learner 'stacking'", "known are best_single", "lambdamart"],
        ),
        ({"ensemble": {"ladder": "best_single"}}, ["'ensemble.ladder'", "got 'best_single'"]),
        ({"ensemble": {"ladder": []}}, ["starts with 'best_single'"]),
        ({"ensemble": {"reserve": -1}}, ["'ensemble.reserve'", "got -1"]),
        ({"ensemble": {"queries": 19}}, ["'ensemble.queries'", "got 19"]),
        ({"labels": {"queries": 0}}, ["'labels.queries'", "got 0"]),
        ({"bases": "best"}, ["'bases'", "got 'best'"]),
        (
            {"candidates": {"retrievers": [{"kind": "ease", "params": {"l2": "big"}}]}},
            ["'candidates.retrievers.0.params.l2'", "got 'big'"],
        ),
        ({"bases": [{"name": "b", "family": "forest"}]}, ["'bases.0.family'", "got 'forest'"]),
    ],
)
def test_value_of_the_wrong_type_or_range_is_refused_with_its_key(raw, words):
    message = refused(raw)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            {"modalities": {"image": VECTOR}},
            "modality 'image' comes from the items, but data.items is not set",
        ),
        (
            {"data": {"items": "i.csv"}, "modalities": {"age": {**VECTOR, "table": "users"}}},
            "modality 'age' comes from the users, but data.users is not set",
        ),
        (
            {"modalities": {"bm25": {"table": "interactions", "columns": ["f"], "encoder": "numeric"}}},
            "modality 'bm25' comes with the rows, which only the judged form has",
        ),
        (
            {"modalities": {"bm25": {"table": "interactions", "columns": ["f"], "encoder": "text"}}},
            "encoder must be 'numeric'",
        ),
        (
            {"data": {"items": "i.csv"}, "modalities": {"behaviour": VECTOR}},
            "a modality must not be named 'behaviour'",
        ),
        ({"data": {"columns": {"weight": "w"}}}, "only queries of the judged form have weights"),
        ({"data": {"items": "i.csv"}, "modalities": {"ease": VECTOR}}, "must not be named 'ease'"),
        ({"data": {"items": "i.csv"}, "modalities": {"a/b": VECTOR}}, "modality 'a/b': a name has letters"),
        ({"bases": [{"name": "greedy", "family": "linear"}]}, "bases: 'greedy' is taken"),
        ({"bases": [{"name": "content_knn", "family": "linear"}]}, "bases: 'content_knn' is taken"),
        ({"bases": [{"name": "ease_content", "family": "linear"}]}, "bases: 'ease_content' is taken"),
        ({"data": {"items": "i.csv"}, "modalities": {"content": VECTOR}}, "must not be named 'content'"),
        (
            {**WITH_ITEMS, "bases": [{"name": "image_neighbours", "family": "linear"}]},
            "'image_neighbours' is taken",
        ),
        (
            {**WITH_ITEMS, "bases": [{"name": "b", "family": "linear"}] * 2},
            "every name may occur once",
        ),
        (
            {**WITH_ITEMS, "bases": [{"name": "b", "family": "linear", "blocks": ["image", "sound"]}]},
            "base 'b': unknown block 'sound', known are ['behaviour', 'content', 'context', 'image']",
        ),
        (
            {"candidates": {"retrievers": [{"kind": "ease"}, {"kind": "ease"}]}},
            "each kind of retriever may be named once",
        ),
        ({"candidates": {"retrievers": []}}, "a log needs a source of candidates"),
        ({**WITH_ITEMS, "candidates": {"retrievers": [], "content": False}}, "a log needs a source"),
    ],
)
def test_config_that_contradicts_itself_is_refused(raw, words):
    assert words in refused(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"bases": [{"name": "b", "family": "lightgbm", "params": {"trees": 9}}]}, "'trees'"),
        ({"bases": [{"name": "b", "family": "xgboost", "params": {"rounds": 0}}]}, "xgboost.rounds: got 0"),
        (
            {"bases": [{"name": "b", "family": "catboost", "objective": "rmse"}]},
            "objective of catboost 'rmse'",
        ),
        ({"candidates": {"retrievers": [{"kind": "ease", "params": {"l3": 1}}]}}, "no parameter 'l3'"),
        (
            {"candidates": {"retrievers": [{"kind": "ease", "params": {"l2": []}}]}},
            "the grid of 'l2' is empty",
        ),
        ({**WITH_ITEMS, "modalities": {"image": {**VECTOR, "params": {"dim": 0}}}}, "vectors: dim: got 0"),
        ({"ensemble": {"sampling": "raking", "sampling_params": {"tua": 1}}}, "got parameter 'tua'"),
        ({"ensemble": {"sampling": "raking", "sampling_params": {"tau": 2}}}, "raking: got tau=2"),
        ({"ensemble": {"sampling": "natural+shuffle"}}, "got sampler 'shuffle'"),
        ({"ensemble": {"sampling_params": {"tau": 1}}}, "auto takes none"),
    ],
)
def test_parameters_are_checked_before_anything_runs(raw, words):
    assert words in refused(raw)


@pytest.mark.parametrize(
    ("grids", "words"),
    [
        ([{"l2": 5}, {"l3": 1}], "no parameter 'l3'"),
        ([{"l2": 5}, {"l2": [1, -1]}], "l2: got -1"),
        ([{"l2": 5}, {"l2": []}], "the grid of 'l2' is empty"),
        ([{"l2": 5}, {"l2": "big"}], "'candidates.retrievers.0.params.1.l2'"),
        ("l2", "'candidates.retrievers.0.params'"),
    ],
)
def test_every_grid_of_a_retriever_is_checked(grids, words):
    assert words in refused({"candidates": {"retrievers": [{"kind": "ease", "params": grids}]}})


@pytest.mark.parametrize(
    ("params", "grids"),
    [
        ({}, [{}]),
        ([], [{}]),
        ({"l2": [1, 2]}, [{"l2": [1, 2]}]),
        ([{"l2": 1}, {"l2": [2, 3], "neighbours": 9}], [{"l2": 1}, {"l2": [2, 3], "neighbours": 9}]),
    ],
)
def test_retriever_has_a_grid_or_several(params, grids):
    raw = {"candidates": {"retrievers": [{"kind": "ease", "params": params}]}}
    (retriever,) = parse_config(raw, "here.yaml").candidates.retrievers
    assert retriever.grids == grids


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("staged", [False, True])
def test_default_retrievers_are_as_good_as_any_that_a_config_names(timed, staged):
    given = [r.model_dump() for r in default_retrievers(timed=timed, staged=staged)]
    named = parse_config({"candidates": {"retrievers": given}}, "here.yaml").candidates.retrievers
    assert named == list(default_retrievers(timed=timed, staged=staged))
    kinds = {retriever.kind for retriever in named}
    assert ("covisitation" in kinds) == timed and ("recent_popularity" in kinds) == (timed or staged)


def test_config_without_a_word_names_every_rung_and_leaves_the_retrievers_to_the_data():
    config = parse_config({}, "here.yaml")
    assert config.ensemble.ladder == list(LADDER)
    assert config.candidates.retrievers == "auto"


def test_content_alone_is_a_source_of_candidates():
    config = parse_config({**WITH_ITEMS, "candidates": {"retrievers": []}}, "here.yaml")
    assert config.candidates.content


def test_parameter_left_empty_is_left_to_the_ranker():
    base = {"name": "b", "family": "lightgbm", "params": {"rounds": None, "num_leaves": 7}}
    config = parse_config({"bases": [base]}, "here.yaml")
    assert config.bases[0].given == {"num_leaves": 7}


def test_broken_yaml_is_refused_with_its_row(tmp_path):
    file = written(tmp_path, "seed: 1\ndata:\n  root: [a, b\nname: x\n")
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        load_config(file)
    assert (caught.value.file, caught.value.row) == (str(file), 4)


@pytest.mark.parametrize(("text", "kind"), [("", "NoneType"), ("- a\n- b\n", "list"), ("words", "str")])
def test_yaml_that_is_no_mapping_is_refused(tmp_path, text, kind):
    with pytest.raises(ConfigError, match=f"got {kind}, expected keys and values"):
        load_config(written(tmp_path, text))


def test_config_that_is_missing_or_a_folder_or_no_text_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read the config"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot read the config"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: .*UTF-8"):
        load_config(tmp_path / "latin.yaml")


def test_overrides_set_nested_values_lists_and_list_entries(tmp_path):
    file = written(
        tmp_path, {"bases": [{"name": "b", "family": "linear"}, {"name": "c", "family": "linear"}]}
    )
    config = load_config(
        file,
        [
            "seed=7",
            "ensemble.k=3",
            "ensemble.ladder=[best_single, greedy]",
            "data.columns.label=grade",
            "bases.1.params.C=0.5",
            "tracking={experiment: other}",
        ],
    )
    assert (config.seed, config.ensemble.k, config.data.columns.label) == (7, 3, "grade")
    assert config.ensemble.ladder == ["best_single", "greedy"]
    assert [base.params for base in config.bases] == [{}, {"C": 0.5}]
    assert config.tracking.experiment == "other"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "not of the form a.b=c"),
        ("=1", "not of the form a.b=c"),
        ("data..root=x", "not of the form a.b=c"),
        ("seed.x=1", "there is a value before 'x', expected a section"),
        ("ensemble.ladder=[best_single", "not valid YAML"),
        ("bases.7.name=x", "'7' is no place in a list of 1"),
        ("bases.first.name=x", "'first' is no place in a list of 1"),
        ("data.rooot=x", "unknown config key 'data.rooot'"),
    ],
)
def test_bad_override_is_refused(tmp_path, override, words):
    file = written(tmp_path, {"seed": 1, "bases": [{"name": "b", "family": "linear"}]})
    with pytest.raises(ConfigError) as caught:
        load_config(file, [override])
    assert words in str(caught.value)


def test_root_is_relative_to_the_config_and_an_override_to_the_working_folder(tmp_path):
    file = written(tmp_path, {"data": {"root": "tables"}})
    assert load_config(file).data.path("a.csv") == tmp_path / "tables" / "a.csv"
    assert load_config(file, ["data.root=tables"]).data.root == "tables"
    assert load_config(written(tmp_path, {"seed": 1})).data.path("a.csv") == tmp_path / "a.csv"


def test_root_takes_variables_with_and_without_a_default(tmp_path, monkeypatch):
    file = written(tmp_path, {"data": {"root": "${TABLES:-shelf}/x"}})
    monkeypatch.delenv("TABLES", raising=False)
    assert load_config(file).data.root == str(tmp_path / "shelf" / "x")
    monkeypatch.setenv("TABLES", "/elsewhere")
    assert load_config(file).data.root == "/elsewhere/x"
    bare = written(tmp_path, {"data": {"root": "${TABLES}"}})
    assert load_config(bare).data.root == "/elsewhere"
    monkeypatch.delenv("TABLES")
    with pytest.raises(ConfigError, match="names the variable TABLES, which is not set"):
        load_config(bare)


def test_dumped_config_loads_as_the_same_with_every_default_filled_in(log_world):
    config = load_config(log_world.config)
    dumped = yaml.safe_load(dump_config(config))
    assert parse_config(dumped, "dumped") == config
    assert dumped["tracking"] == {"uri": "sqlite:///mlruns/mlflow.db", "experiment": "modalrank"}
    assert yaml.safe_load(dump_config(Config()))["bases"] == "auto"


def test_files_by_split_may_be_one_or_several():
    by_split = {"root": "r", "interactions": {"train": ["a.csv", "b.csv"], "test": "c.csv"}}
    files = Config.model_validate({"data": by_split}).data.interaction_files()
    assert {split: [str(path) for path in paths] for split, paths in files.items()} == {
        "train": ["r/a.csv", "r/b.csv"],
        "test": ["r/c.csv"],
    }
