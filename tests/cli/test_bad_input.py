"""Every mistake ends with exit code 2, one message that says where, and nothing written."""

import json
import subprocess
import sys
import textwrap

import pytest

from harness.cli import main

SOUND = """\
name: it
datasets:
  - {name: digits, imbalance_factor: 20}
seeds: 1
training: {epochs: 1, batch_size: 32}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=["plan", "run"])
def verb(request):
    return request.param


def files_in(folder):
    """Return every file and its content, but for what is remembered of decoded images."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in found if folder / "cache" not in path.parents}


@pytest.fixture
def refused(tmp_path, capsys):
    """Return a function that expects a command to be refused and gives its message."""

    def check(*arguments):
        before = files_in(tmp_path)
        with pytest.raises(SystemExit) as caught:
            main(list(map(str, arguments)))
        printed = capsys.readouterr()
        assert caught.value.code == 2, printed.err
        assert printed.out == ""
        assert "Traceback" not in printed.err
        assert "pydantic" not in printed.err
        assert files_in(tmp_path) == before
        assert not (tmp_path / "results").exists()
        assert not (tmp_path / "elsewhere").exists()
        return printed.err

    return check


def write(tmp_path, text):
    (tmp_path / "it.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
    return "it.yaml"


def with_line(line):
    return SOUND + line + "\n"


def image_folder(root, **counts):
    """Write class folders of 8×8 images; a name may hold a slash for given splits."""
    from PIL import Image

    for name, count in counts.items():
        folder = root / name
        folder.mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (i % 256, i // 256, len(name))).save(folder / f"{i}.png")
    return f"name: it\ndatasets: [{{name: image_folder, path: '{root}'}}]\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trainig: {}", "it.yaml:6: trainig: unknown key for 'an experiment'; did you mean 'train"),
        ("folds: many", "it.yaml:6: folds: expected a whole number, not 'many'"),
        ("seeds: 2", 'it.yaml:6: found duplicate key "seeds"'),
        ("base: !!python/object/apply:os.system ['touch pwned']", "it.yaml:6: could not determine"),
        ("base: [{name: mixup, alpha: -1}]", "it.yaml:6: base[0].alpha: must be greater than 0"),
        ("base: [{name: mixup, p: 1.5}]", "it.yaml:6: base[0].p: must be less than or equal to 1"),
        ("base: [{name: augment, p: 2}]", "it.yaml:6: base[0].p: must be less than or equal to 1"),
        ("base: [mixpu]", "it.yaml:6: base[0]: unknown strategy 'mixpu'; did you mean 'mixup'?"),
        ("models: [resnet23]", "it.yaml:6: models[0]: unknown model 'resnet23'; did you mean 'res"),
        ("models: [{name: torchvision/resnet17}]", "it.yaml:6: models[0]: unknown model 'torchvi"),
        (
            "models: [{name: resnet50, weights: IMAGENET1K_V3}]",
            "it.yaml:6: models[0].weights: 'IMAGENET1K_V3' is no file, and no published weights "
            "have that name; did you mean 'IMAGENET1K_V2'?",
        ),
        (
            "models: [{name: resnet50, weights: ResNet50_Weights.IMAGENET1K}]",
            "it.yaml:6: models[0].weights: 'ResNet50_Weights.IMAGENET1K' is no file, and no pub",
        ),
        ("metric: balanced_acuracy", "it.yaml:6: metric: unknown metric 'balanced_acuracy'; did"),
        (
            "base: [{name: augment, transforms: [{name: HorizontalFlop}]}]",
            "it.yaml:6: base[0]: transforms[0] HorizontalFlop: no such image transform; did you",
        ),
        (
            "base: [{name: augment, transforms: [{name: RandomCrop, height: 32, width: 32}]}]",
            "it.yaml: no recipe can run on 'digits-lt20': RandomCrop",
        ),
        (
            "recipes: {r: [{name: augment, transforms: [{name: RandomCrop, height: 9, width: 3}]}"
            "]}",
            "it.yaml: recipe 'r' cannot run: RandomCrop",
        ),
        (
            "recipes: {both: [weighted_sampler, stratified_batches]}",
            "it.yaml: recipe 'both': 'stratified_batches' and 'weighted_sampler' both decide",
        ),
        (
            "recipes: {both: [focal, {name: class_weights, start: 0.5}]}",
            "it.yaml: recipe 'both': 'class_weights(start=0.5)' and 'focal' both decide the loss",
        ),
        ("references: {balanced: [nothign]}", "it.yaml:6: references.balanced[0]: no such recipe"),
        ("plugins: [nowhere.py]", "it.yaml:6: plugins[0]: plugin '"),
        ("description: 2024-01-01", "it.yaml:6: description: 2024-01-01 is read as a date"),
    ],
)
def test_what_is_wrong_in_the_file(verb, refused, tmp_path, line, message):
    assert refused(verb, write(tmp_path, with_line(line))).startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 32", "batch_size: 338", "it.yaml: training.batch_size: 338 is larger than t"),
        ("name: digits", "name: digit", "it.yaml:3: datasets[0].name: unknown dataset 'digit'; di"),
        ("epochs: 1", "epochs: 0", "it.yaml:5: training.epochs: must be greater than 0, not 0"),
        ("epochs: 1", "epochs: .inf", "it.yaml:5: training.epochs: expected a finite number, not "),
        ("factor: 20", "factor: 500", "it.yaml: dataset 'digits-lt500': imbalance_factor 500 leav"),
        ("factor: 20", "factor: 0.5", "it.yaml:3: datasets[0].imbalance_factor: must be greater t"),
        ("name: it", "name: ../it", "it.yaml:1: name: a name has up to 100 letters, digits and"),
        ("name: it\n", "", "it.yaml: name: an experiment needs it"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_key_that_every_file_has(verb, refused, tmp_path, old, new, message):
    assert old in SOUND
    text = SOUND.replace(old, new)
    assert refused(verb, write(tmp_path, text)).startswith(f"error: {message}")


def test_a_class_without_a_training_image(verb, refused, tmp_path):
    text = image_folder(
        tmp_path / "data", **{"train/a": 9, "train/b": 9, "test/a": 2, "test/b": 2, "test/rare": 2}
    )
    message = refused(verb, write(tmp_path, text))
    assert message.startswith("error: it.yaml: dataset 'image_folder'")
    assert "rare" in message


def test_fewer_than_two_classes(verb, refused, tmp_path):
    message = refused(verb, write(tmp_path, image_folder(tmp_path / "data", only=9)))
    assert message.startswith("error: it.yaml: dataset 'image_folder'")
    assert "only" in message


@pytest.mark.parametrize("there", [True, False])
def test_a_missing_or_an_empty_folder(verb, refused, tmp_path, there):
    text = image_folder(tmp_path / "data")
    if there:
        (tmp_path / "data").mkdir()
    message = refused(verb, write(tmp_path, text))
    assert message.startswith("error: it.yaml: dataset 'image_folder'")
    assert str(tmp_path / "data") in message


def test_class_names_that_mlflow_could_not_tell_apart(verb, refused, tmp_path):
    text = image_folder(tmp_path / "data", **{"cat?": 9, "cat*": 9, "dog": 9})
    message = refused(verb, write(tmp_path, text + "training: {batch_size: 4}"))
    assert "dataset 'image_folder': class names 'cat*' (class 0) and 'cat?' (class 1)" in message


def test_cutmix_on_a_table(verb, refused, tmp_path):
    rows = "\n".join(f"{i},{i * i},{'ab'[i % 2]}" for i in range(60))
    (tmp_path / "t.csv").write_text("x,y,label\n" + rows)
    text = """\
        name: it
        datasets: [{name: table, file: t.csv}]
        recipes: {it: [cutmix]}
        models: [mlp]
        training: {batch_size: 8}
        """
    message = refused(verb, write(tmp_path, text))
    assert message == (
        "error: it.yaml: recipe 'it' cannot run: a table row has no area to cut a box from\n"
    )


def test_stratified_batches_smaller_than_the_number_of_classes(verb, refused, tmp_path):
    text = with_line("recipes: {it: [stratified_batches]}").replace("size: 32", "size: 9")
    assert refused(verb, write(tmp_path, text)) == (
        "error: it.yaml: recipe 'it' cannot run: 10 classes do not fit into a batch of 9; set "
        "batch_size to 10 or more\n"
    )


def test_a_grid_over_the_limit_needs_a_yes(refused, tmp_path, monkeypatch):
    file = write(tmp_path, SOUND.replace("seeds: 1", "seeds: 1001"))
    message = refused("run", file)
    assert message.startswith("error: it.yaml: 1,001 runs to do, more than 1,000; give --yes")


def test_a_results_folder_of_a_newer_version(verb, refused, tmp_path):
    (tmp_path / "there" / "it").mkdir(parents=True)
    (tmp_path / "there" / "it" / "schema.json").write_text(json.dumps({"schema": 99}))
    message = refused(verb, write(tmp_path, SOUND), "--results", "there")
    assert "was written by a newer version of the harness (schema 99" in message
    assert "upgrade, or choose another --results folder" in message


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema": "x"}', '{"schema": null}'])
def test_a_results_folder_whose_mark_is_torn(verb, refused, tmp_path, content):
    (tmp_path / "there" / "it").mkdir(parents=True)
    (tmp_path / "there" / "it" / "schema.json").write_text(content)
    message = refused(verb, write(tmp_path, SOUND), "--results", "there")
    assert "schema.json cannot be read" in message


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "cpu:x", ""])
@pytest.mark.parametrize("executor", ["inline", "local"])
def test_a_device_that_is_none_or_not_here(refused, tmp_path, device, executor):
    file = write(tmp_path, SOUND)
    message = refused(
        "run", file, "--device", device, "--executor", executor, "--results", "elsewhere"
    )
    assert message.startswith(f"error: --device {device}: ")


def test_an_executor_that_is_none(refused, tmp_path):
    message = refused("run", write(tmp_path, SOUND), "--executor", "locl")
    assert message.startswith("error: --executor locl: unknown; did you mean 'local'?")


def test_a_pattern_that_matches_nothing(verb, refused, tmp_path):
    file = write(tmp_path, with_line("recipes: {mixed: [mixup]}"))
    message = refused(verb, file, "--only", "nothing", "--only", "mixd")
    assert message == (
        "error: --only mixd: matches no run; did you mean 'mixed'? (recipes: mixed, nothing)\n"
    )


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("training.lr", "--set training.lr: expected KEY=VALUE"),
        ("training.lr=-1", "--set training.lr: must be greater than 0, not -1"),
        ("training.lrr=1", "--set training.lrr: unknown key for 'training'; did you mean 'lr'?"),
        ("datasets.3.x=1", "--set datasets.3.x=1: 'datasets' has 1 items, numbered from 0"),
        ("seeds=[", "--set seeds:1: not valid YAML"),
    ],
)
def test_an_edit_that_makes_no_sense(verb, refused, tmp_path, edit, message):
    assert refused(verb, write(tmp_path, SOUND), "--set", edit).startswith(f"error: {message}")


@pytest.mark.parametrize(
    "file", ["nowhere.yaml", "quickstrt", "~nobody-of-this-name/x.yaml", "a" * 300, ".", ""]
)
def test_a_file_that_is_not_there(verb, refused, file):
    message = refused(verb, file)
    assert message.startswith("error: no such experiment file: ")
    assert "(shipped: " in message
    assert ("did you mean 'quickstart'" in message) == (file == "quickstrt")


@pytest.mark.parametrize("content", [b"", b"- a", b"\xff\xfe\x00", b"a: [", b"\x00"])
def test_a_file_that_is_no_experiment(verb, refused, tmp_path, content):
    (tmp_path / "it.yaml").write_bytes(content)
    assert "it.yaml" in refused(verb, "it.yaml")


@pytest.mark.parametrize("plugin", ["nowhere.py", "no_such_module", ""])
def test_a_plugin_that_is_not_there(verb, refused, tmp_path, plugin):
    message = refused(verb, write(tmp_path, SOUND), "--plugin", plugin)
    assert message.startswith("error: plugin '")


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["plan", "a", "b"], ["pla", "x"], ["run", "x", "--jobs", "0"], ["run", "x", "--nope"],
     ["run", "x", "--limit", "none"]],
)  # fmt: skip
def test_a_command_line_that_makes_no_sense(refused, arguments):
    assert "Usage:" in refused(*arguments)


def test_all_that_is_wrong_is_told_at_once(verb, refused, tmp_path):
    text = with_line("metric: acuracy\nbase: [mixpu]\nmodels: [{name: tiny_cnn, wdth: 3}]")
    lines = refused(verb, write(tmp_path, text)).splitlines()
    assert [line.removeprefix("error: ").split(":")[1] for line in lines] == ["8", "7", "6"]


@pytest.mark.parametrize(
    "arguments", [["run", "it.yaml"], ["plan", "nowhere.yaml"], ["plan", "it.yaml", "--set", "x"]]
)
def test_t26_a_process_ends_with_code_2_and_one_message_without_a_terminal(tmp_path, arguments):
    write(tmp_path, with_line("base: [mixpu]"))
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_model_that_fits_no_image_is_refused_before_anything(refused, tmp_path):
    file = write(tmp_path, with_line("models: [inception_v3]"))
    message = refused("run", file)
    assert message.startswith("error: it.yaml: dataset 'digits-lt20': model 'inception_v3'")


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_batch_of_one_that_batch_norm_refuses_is_one_error(refused, tmp_path, command):
    text = SOUND.replace("batch_size: 32", "batch_size: 1")
    file = write(tmp_path, text + "models: [tiny_cnn, resnet18]\n")
    message = refused(command, file)
    assert message.startswith("error: it.yaml: dataset 'digits-lt20': model 'resnet18': training.")
    assert "batch norm needs more than one value per channel" in message


def test_weights_that_are_none_are_refused_before_anything(refused, tmp_path):
    (tmp_path / "w.pt").write_bytes(b"nothing")
    message = refused(
        "run", write(tmp_path, with_line("models: [{name: resnet32, weights: w.pt}]"))
    )
    assert "it.yaml: dataset 'digits-lt20': weights w.pt: " in message
    assert "weights_only" not in message


def test_a_tracking_uri_that_is_a_folder_is_refused_before_anything(refused, tmp_path):
    message = refused("run", write(tmp_path, with_line("tracking: {uri: ./mlruns}")))
    assert "no longer records into folders" in message


def test_a_cache_that_cannot_be_written_is_refused_by_its_option(refused, tmp_path):
    (tmp_path / "file").touch()
    message = refused("run", write(tmp_path, SOUND), "--cache-dir", "file")
    assert message.startswith(f"error: --cache-dir {tmp_path / 'file'}: cannot be written: ")
