import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from penstock.late import leave_out, put_off

PACKAGE = "heavy_of_this_test"
INNER = f"{PACKAGE}.inner"


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library of two modules; each writes a line into the file when it is loaded."""
    told = tmp_path / "loads"
    told.touch()
    for name, rest in (("__init__", f"from {PACKAGE} import inner\nsize = 3"), ("inner", "")):
        path = tmp_path / PACKAGE / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        tell = f"with open({str(told)!r}, 'a') as file:\n    file.write('{name}\\n')\n"
        path.write_text(f"{tell}class Wrong(Exception):\n    pass\n{rest}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield told
    for name in (PACKAGE, INNER):
        sys.modules.pop(name, None)


def imported(name: str) -> ModuleType:
    """What `import name` binds, of a package its module."""
    return importlib.import_module(name)


def test_nothing_is_loaded_before_it_is_used(loads: Path) -> None:
    """Each form of import binds a stand-in, and the first use of one of them loads all once."""
    put_off((PACKAGE, INNER))
    names: dict[str, ModuleType] = {}
    exec(f"import {INNER}\nfrom {PACKAGE} import inner", names)  # noqa: S102  # these are the test
    package, inner = names[PACKAGE], names["inner"]
    assert loads.read_text() == ""
    assert package.size == 3
    assert loads.read_text() == "__init__\ninner\n"
    assert package.inner.Wrong is inner.Wrong is imported(INNER).Wrong
    assert imported(PACKAGE) is not package
    assert loads.read_text() == "__init__\ninner\n"


def test_an_error_is_caught_by_a_name_that_was_put_off(loads: Path) -> None:
    """`except library.Error` finds the class when something is raised."""
    put_off((PACKAGE,))
    library = imported(PACKAGE)
    caught = []
    for kind in (ZeroDivisionError, imported(PACKAGE).Wrong):
        try:
            raise kind
        except library.Wrong:
            caught.append("wrong")
        except ZeroDivisionError:
            caught.append("zero")
    assert caught == ["zero", "wrong"]
    assert loads.read_text() == "__init__\ninner\n"


def test_threads_load_it_once(loads: Path) -> None:
    """Threads that use it at the same moment wait for one of them, and get the same."""
    put_off((PACKAGE, INNER))
    library, found = imported(INNER), []
    together = threading.Barrier(8)

    def use() -> None:
        together.wait(10)
        found.append(library.Wrong)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert loads.read_text() == "__init__\ninner\n"


def test_what_is_loaded_stays(loads: Path) -> None:
    """A module that somebody has got is not replaced, nor one inside of it."""
    library = imported(PACKAGE)
    put_off((PACKAGE, INNER))
    assert imported(PACKAGE) is library
    assert imported(INNER) is library.inner
    assert loads.read_text() == "__init__\ninner\n"


def test_what_is_not_there_is_missed_at_its_import() -> None:
    """A library that is not installed fails where it is imported, as without this."""
    put_off(("no_such_library", "no_such_library.inner"))
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        imported("no_such_library")


def test_a_name_that_it_lacks_is_an_attribute_error(loads: Path) -> None:
    """A typing error is told by the library itself."""
    put_off((PACKAGE,))
    library = imported(PACKAGE)
    with pytest.raises(AttributeError, match="sise"):
        _ = library.sise
    assert not hasattr(library, "__path__")
    assert loads.read_text() == "__init__\ninner\n"


@pytest.fixture
def hollow(loads: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The same library, left out."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    leave_out((PACKAGE,))
    yield imported(PACKAGE)
    assert loads.read_text() == ""


def test_what_is_left_out_has_classes_for_annotations(hollow: ModuleType) -> None:
    """Every name is a class that nothing is an instance of, and stays the same class."""
    assert hollow.Session is hollow.Session
    assert hollow.Session[int] | None == hollow.Session | None
    assert not isinstance(3, hollow.Session)
    assert not hasattr(hollow, "__version__")


def test_what_is_left_out_refuses_to_be_used(hollow: ModuleType) -> None:
    """Whoever would need the library after all is told why it is not there."""
    with pytest.raises(NotImplementedError, match=f"{PACKAGE}.Session was left out"):
        hollow.Session(3)


@pytest.mark.usefixtures("hollow")
def test_what_lies_inside_is_left_out_too() -> None:
    """Any import from inside of it is found, but none beside it."""
    assert imported(INNER).Wrong.__module__ == INNER
    with pytest.raises(ModuleNotFoundError):
        imported(f"{PACKAGE}_and_more")


@pytest.mark.usefixtures("loads")
def test_what_is_loaded_is_not_left_out() -> None:
    """A library that somebody has got stays whole."""
    library, before = imported(PACKAGE), [*sys.meta_path]
    leave_out((PACKAGE,))
    assert sys.meta_path == before
    assert imported(PACKAGE) is library
