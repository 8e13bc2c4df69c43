import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from harness import registry
from harness.errors import ConfigError
from harness.registry import Registry, datasets, load_entry_points, load_plugins, strategies

HALFMIX = '''
from harness.strategies.base import Strategy, strategy


@strategy("halfmix")
class HalfMix(Strategy):
    """Blend by halves."""
'''


@pytest.fixture
def things():
    return Registry(
        "thing", {"ordered": "collections:OrderedDict", "counter": "collections:Counter"}
    )


def test_every_built_in_can_be_imported_and_knows_its_name():
    for kind in (strategies, datasets):
        for name in kind:
            cls = kind.get(name)
            assert cls.name == name
            assert cls.summary()


def test_names_are_sorted_and_import_nothing():
    code = (
        "import sys; from harness.registry import strategies, datasets;"
        "names = [*strategies, *datasets]; assert 'mixup' in names and 'digits' in names;"
        "bad = [m for m in sys.modules if m.startswith('harness.') and m not in "
        "('harness.errors', 'harness.registry', 'harness.text')];"
        "assert not bad and 'numpy' not in sys.modules, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert strategies.names() == sorted(strategies.names())


def test_a_lazy_name_is_imported_once(things):
    from collections import OrderedDict

    assert "ordered" in things
    assert things.get("ordered") is OrderedDict
    assert things.get("ordered") is OrderedDict


def test_an_unknown_name_is_an_error_with_the_nearest_and_the_list(things):
    with pytest.raises(ConfigError) as error:
        things.get("order")
    assert str(error.value) == (
        "unknown thing 'order'; did you mean 'ordered'? (available: counter, ordered)"
    )
    assert "order" not in things
    assert None not in things


def test_a_class_registers_under_its_name(things):
    @things.register("mine")
    class Mine:
        pass

    assert things.get("mine") is Mine
    assert Mine.name == "mine"
    assert list(things) == ["counter", "mine", "ordered"]


def test_a_name_that_is_taken_is_refused_and_stays(things):
    with pytest.raises(ConfigError, match="thing 'counter' is already registered"):
        things.register("counter")(type("Counter", (), {"__module__": "mine"}))
    from collections import Counter

    assert things.get("counter") is Counter


def test_a_module_imported_twice_may_register_itself_again(things):
    def make():
        return type("Same", (), {"__module__": "m", "__qualname__": "Same"})

    first, second = make(), make()
    things.register("same")(first)
    assert things.register("same")(second) is second
    assert things.get("same") is second


def test_temporary_forgets_what_was_registered_inside_also_after_an_error(things):
    def fail():
        with things.temporary():
            things.register("mine")(type("Mine", (), {}))
            assert "mine" in things
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "mine" not in things
    assert "counter" in things


def test_a_plugin_file_registers_its_strategy(tmp_path):
    file = tmp_path / "my plugin.py"
    file.write_text(HALFMIX)
    load_plugins([str(file)])
    assert strategies.get("halfmix").summary() == "Blend by halves."


def test_two_plugin_files_of_one_name_are_two_plugins(tmp_path):
    for folder, name in (("a", "one"), ("b", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "plugin.py").write_text(HALFMIX.replace("halfmix", name))
    load_plugins([str(tmp_path / "a" / "plugin.py"), str(tmp_path / "b" / "plugin.py")])
    assert {"one", "two"} <= set(strategies)


def test_a_plugin_file_runs_once_by_whatever_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugin.py").write_text("with open('ran', 'a') as f: f.write('x')")
    (tmp_path / "link.py").symlink_to("plugin.py")
    load_plugins(["plugin.py", "./plugin.py", str(tmp_path / "plugin.py"), "./link.py"])
    assert (tmp_path / "ran").read_text() == "x"


def test_a_plugin_module_registers_its_strategy(tmp_path, monkeypatch):
    (tmp_path / "halfmix_plugin.py").write_text(HALFMIX)
    monkeypatch.syspath_prepend(str(tmp_path))
    load_plugins(["halfmix_plugin"])
    assert "halfmix" in strategies
    sys.modules.pop("halfmix_plugin")


@pytest.mark.parametrize(
    "plugin",
    ["nowhere.py", "./nowhere.py", "folder/", "~nobody-of-this-name/x.py", "a" * 300 + ".py", "/"],
)
def test_a_missing_plugin_file_is_named(plugin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="no such Python file"):
        load_plugins([plugin])


@pytest.mark.parametrize("plugin", ["no_such_module", "no.such.module", "json.no_such_part"])
def test_a_missing_plugin_module_is_named_with_a_hint(plugin):
    with pytest.raises(ConfigError, match=rf"plugin '{plugin}': no such module .* ./{plugin}.py"):
        load_plugins([plugin])


@pytest.mark.parametrize("plugin", ["", ".relative", "a..b", "two words", "x:y", "trailing."])
def test_what_is_neither_a_module_nor_a_file_is_refused(plugin):
    with pytest.raises(ConfigError, match="neither the name of a module nor the path of a file"):
        load_plugins([plugin])


def test_what_a_plugin_itself_cannot_import_keeps_its_traceback(tmp_path, monkeypatch):
    # not even where the missing module's name is the beginning of the plugin's
    (tmp_path / "zzqq_plugin.py").write_text("import zzqq")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="'zzqq'"):
        load_plugins(["zzqq_plugin"])


def test_a_plugin_file_that_fails_runs_again_next_time(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("1 / 0")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load_plugins([str(file)])
    file.write_text(HALFMIX + "# mended, and of another size")
    load_plugins([str(file)])
    assert "halfmix" in strategies


def test_a_plugin_that_calls_exit_is_named(tmp_path, monkeypatch):
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(7)\n")
    monkeypatch.syspath_prepend(tmp_path)
    for plugin in ("leaves", str(tmp_path / "leaves.py")):
        with pytest.raises(ConfigError, match=r"leaves.*calls sys\.exit\(7\) when it is imported"):
            load_plugins([plugin])


def test_a_plugin_cannot_take_the_name_of_a_built_in(tmp_path):
    file = tmp_path / "thief.py"
    file.write_text(HALFMIX.replace("halfmix", "mixup"))
    with pytest.raises(ConfigError, match="strategy 'mixup' is already registered as"):
        load_plugins([str(file)])


def test_installed_packages_are_found_by_their_entry_point(tmp_path, monkeypatch):
    (tmp_path / "installed_plugin.py").write_text(HALFMIX)
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = []

    def entry_points(group):
        asked.append(group)
        return [EntryPoint("halfmix", "installed_plugin", group)]

    monkeypatch.setattr(registry.importlib.metadata, "entry_points", entry_points)
    load_entry_points.cache_clear()
    try:
        assert "halfmix" in strategies
        assert strategies.get("halfmix").name == "halfmix"
        assert asked == ["harness.plugins"]
    finally:
        load_entry_points.cache_clear()
        sys.modules.pop("installed_plugin", None)
