"""The whole tree of commands: what each must have, however many there will be."""

from collections.abc import Iterator

import click
import pytest

from penstock.cli.main import cli, run
from penstock.cli.tree import JOB_VERBS, TOP, TOP_ALIASES, TOPICS

Out = pytest.CaptureFixture[str]
COLUMNS = 60


def walked(
    group: click.Group, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands below a group, with the words that lead to them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, (*path, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from walked(command, (*path, name))


EVERY = dict(walked(cli, ()))
PATHS = pytest.mark.parametrize("path", EVERY, ids=" ".join)


@PATHS
def test_each_command_says_what_it_does(path: tuple[str, ...]) -> None:
    """There is a whole sentence, and an example that begins with the command itself."""
    text = EVERY[path].help or ""
    sentence, _, examples = text.partition("Examples:")
    assert sentence.split("\n\n")[0].strip().endswith((".", ":")), text
    assert "penstock" in examples, "no example"


@PATHS
def test_each_option_says_what_it_does(path: tuple[str, ...]) -> None:
    """No option is without words, and no two have the same name."""
    options = [one for one in EVERY[path].params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help and not one.hidden] == []
    names = [name for one in EVERY[path].params for name in (*one.opts, *one.secondary_opts)]
    assert len(names) == len(set(names)), names


@PATHS
def test_help_fits_sixty_columns(
    path: tuple[str, ...], capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither text nor examples are wrapped by a narrow terminal."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    assert run([*path, "--help"]) == 0
    too_long = [line for line in capsys.readouterr().out.splitlines() if len(line) > COLUMNS]
    assert too_long == []


def test_help_of_all_fits_sixty_columns(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of commands, too."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= COLUMNS
    assert [line[:-1] for line in shown if line in {f"{topic}:" for topic in TOPICS}] == [*TOPICS]


def test_the_help_says_what_the_commands_say() -> None:
    """Each command stands under one topic, and only commands do."""
    listed = [name for names in TOPICS.values() for name in names]
    assert sorted(listed) == sorted(TOP)


def test_daily_verbs_are_those_of_jobs() -> None:
    """What stands at the top for short is the same command as below its noun."""
    jobs = EVERY["jobs",]
    assert isinstance(jobs, click.Group)
    for verb in JOB_VERBS:
        assert EVERY["jobs", verb] is EVERY[verb,]


@pytest.mark.parametrize("alias", TOP_ALIASES)
def test_aliases_are_the_command_itself(alias: str) -> None:
    """Singular nouns and older names mean the same, and stand in no list."""
    context = click.Context(cli)
    assert cli.get_command(context, alias) is cli.get_command(context, TOP_ALIASES[alias])
    assert alias not in cli.list_commands(context)


def test_long_forms(capsys: Out) -> None:
    """List, remove and delete are understood where ls and rm are, and nowhere else."""
    assert run(["job", "list", "--help"]) == 0
    assert run(["profile", "delete", "--help"]) == 0
    assert "Usage: penstock profile rm" in capsys.readouterr().out
    assert run(["jobs", "delete", "--help"]) == 2
