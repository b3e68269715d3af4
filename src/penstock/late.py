"""Libraries that a process loads when it first uses them, instead of when it starts.

A server imports all that it may ever need, and some of that it never needs: the driver of Postgres
where the database is SQLite (the engine imports it itself), ciphers where nobody has a webhook,
object storage until a job is collected. Together they are a quarter of its memory
(docs/decisions/0025).

`put_off` lets `import NAME` bind a stand-in, which passes everything on to the library as soon as
something of it is used. So code is written as always, with its imports at the top; it says
`NAME.thing` in its functions, because `from NAME import thing` would load it at once. Python's own
`LazyLoader` is safe with threads only from 3.12 on, and loads for `from NAME import submodule`.

`leave_out` is for what nobody ever uses, although it is imported: SQLAlchemy's ORM. Its
asynchronous part imports it whole, and the engine names its classes in annotations; both of us send
statements of the core alone.
"""

import importlib
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final, NoReturn, cast

CIPHERS: Final = (
    "cryptography",
    "cryptography.exceptions",
    "cryptography.hazmat",
    "cryptography.hazmat.primitives",
    "cryptography.hazmat.primitives.ciphers",
    "cryptography.hazmat.primitives.ciphers.aead",
)
ENGINE_FILE: Final = ("yaml",)
"""The engine reads settings by it from a file that we do not have."""

OBJECT_STORAGE: Final = ("obstore", "obstore.exceptions", "obstore.store")
POSTGRES: Final = ("psycopg", "psycopg.errors")
SCHEMAS: Final = ("jsonschema_rs",)
"""Of a package every module that is imported before the first use, the package first."""

MULTIPART: Final = ("python_multipart", "python_multipart.exceptions", "python_multipart.multipart")
"""Receiving processes need it for one of the forms of a body."""

ORM: Final = (
    "sqlalchemy.ext.asyncio.scoping",
    "sqlalchemy.ext.asyncio.session",
    "sqlalchemy.orm",
)
"""To be left out: all of it."""

BACKPORTS: Final = ("typing_extensions",)
"""msgspec takes it where it is, and Python's own otherwise; it is half as large as msgspec."""

_ASKED_OF_EACH: Final = frozenset({"__path__", "__file__", "__wrapped__"})
"""What the import system and inspection ask every module for, which is no use of it."""


class _StandIn(ModuleType):
    """Stands for one module, for whoever imports it before it is used."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the library has
        if name in _ASKED_OF_EACH:
            raise AttributeError(name)
        return getattr(_loaded(self.__name__), name)


def put_off(names: Iterable[str]) -> None:
    """Let these modules be loaded when they are used.

    One that is loaded stays so; one that is not installed fails at its import, as ever.
    """
    for name in names:
        package, _, last = name.rpartition(".")
        outer = sys.modules.get(package)
        is_whole = not package and find_spec(name) is not None
        if name not in sys.modules and (is_whole or isinstance(outer, _StandIn)):
            module = sys.modules[name] = _StandIn(name)
            if outer is not None:
                # `import package.last` binds the package alone.
                setattr(outer, last, module)


def _loaded(name: str) -> ModuleType:
    """Return the module itself; the import system lets one thread load it and the others wait."""
    root = name.partition(".")[0]
    for known, module in list(sys.modules.items()):
        if isinstance(module, _StandIn) and known.partition(".")[0] == root:
            sys.modules.pop(known, None)
    # The package first: who imports something inside of it does not wait for whoever loads it.
    importlib.import_module(root)
    return importlib.import_module(name)


def do_without(names: Iterable[str]) -> None:
    """Let each import of these fail as if they were not installed; their importers know better."""
    for name in names:
        # None is Python's own word for it.
        sys.modules.setdefault(name, cast(Any, None))


class _Hollow(ModuleType):
    """Has each name that anybody imports from it: a class without instances."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # as modules have it
        if name.startswith("__"):
            raise AttributeError(name)
        inside = {
            "__module__": self.__name__,
            "__new__": _refused,
            # `sessionmaker[Session]` stands in annotations.
            "__class_getitem__": classmethod(lambda kind, _of: kind),
        }
        hollow = type(name, (), inside)
        setattr(self, name, hollow)
        return hollow


def _refused(kind: type, *_arguments: object, **_named: object) -> NoReturn:
    raise NotImplementedError(f"{kind.__module__}.{kind.__name__} was left out by penstock.late")


class _Hollows:
    """Finds and loads hollow modules, and what is imported from inside of them.

    Without the classes of `importlib.abc`, whose import alone takes a megabyte.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> ModuleSpec | None:
        """Return where the module comes from: here."""
        if any(f"{fullname}.".startswith(f"{name}.") for name in self._names):
            return ModuleSpec(fullname, cast(Any, self), is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return _Hollow(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: all is made when it is asked for."""


def leave_out(names: Iterable[str]) -> None:
    """Let these modules be imported without being there; one that is loaded already stays so.

    Whatever is taken out of them is a class, good for annotations and `isinstance`, and refuses to
    be more.
    """
    wanted = [name for name in names if name not in sys.modules]
    if wanted:
        sys.meta_path.insert(0, _Hollows(wanted))
