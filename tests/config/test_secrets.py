"""Secrets come from variables and files, and never reach a message, a line or a repr."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flowstore import ConfigurationError
from flowstore.config import Configuration, read
from flowstore.config.loading import load

PLANTED = "hunter2-planted"


WRONG = {
    "its own line is wrong": "on_store_erorr: x\n    configuration: {password: P}",
    "the value's line": "configuration: {password: P, hots: 1, connection_string: 'a', echo: [x]}",
    "a later key of the line": "configuration: {password: P, connection_string: 'a', ecoh: 1}",
    "block scalar": "configuration:\n      password: |\n        P\n      hots: 1",
    "folded over lines": "configuration:\n      password: 'a\n        P'\n      hots: 1",
    "a list": "configuration:\n      passwords:\n        - P\n        - {x: P, x: P}",
    "duplicate": "configuration:\n      password: P\n      password: P",
    "wrong type": "configuration: {connection_string: {password: P}}",
    "misspelt key of a secret": "configuration: {connection_string: a, pasword_: 1, db_password: P}",
    "url": "configuration: {connection_string: 'postgres://u:P@h/db', echo: 5}",
    "url of a wrong key": "configuration: {conection: 'postgres://u:P@h/db'}",
    "dsn": "configuration: {connection_string: 'host=h password=P', echo: 5}",
    "comment": "configuration: {hots: 1} # password: P",
    "unset variable": "configuration: {password: 'P${UNSET}'}",
    "broken variable": "configuration: {password: 'P${'}",
    "unquoted tag": "configuration:\n      password: !P x",
    "unquoted alias": "configuration:\n      password: *P",
    "unknown tag handle": "configuration:\n      password: !P!x y",
    "broken quote": "configuration:\n      password: 'P\n",
    "broken block": "configuration:\n      password: |\n        P\n     x\n      y: [",
    "broken mapping": "configuration: {password: P, [}",
    "broken value": "configuration:\n      password: P: x",
    "quoted key without blank": 'configuration: {"password":"P", ]}',
    "under another key": "configuration:\n      password:\n        inner: P: [",
    "from the environment": "configuration: {connection_string: '{PW}', echo: 5, token: '{PW}'}",
    "as a policy": "on_conflict: '{PW}'\n    configuration: {token: '{PW}'}",
    "as a class": "classname: '{PW}'\n    configuration: {token: '{PW}'}",
    "as a module": "import: '{PWM}'\n    configuration: {token: '{PWM}'}",
    "cache": "cache: {password: P}",
}


@pytest.mark.parametrize("case", WRONG)
def test_planted_secrets_never_appear(tmp_path: Path, case: str) -> None:
    file = tmp_path / "flowstore.yaml"
    body = WRONG[case].replace("P", PLANTED) if "{PW" not in WRONG[case] else WRONG[case]
    file.write_text(f"storages:\n  - name: SqlStorage\n    {body}\n")
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={"PW": PLANTED, "PWM": "hunter2_planted"})
    error = caught.value
    shown = f"{error} {error!r} {error.mistakes!r} {error.__context__!r} {error.__cause__!r}"
    assert "hunter2" not in shown


def test_planted_secrets_of_overrides_and_files_never_appear(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text(PLANTED)
    text = "storages: [{name: SqlStorage, configuration: {connection_string: a, synchronous: {file: pw}}}]"
    (tmp_path / "f.yaml").write_text(text)
    environ = {"FLOWSTORE_STORAGES__SQLSTORAGE__PASSWORD": PLANTED, "FLOWSTORE_STORAGES__SQLSTORAGE__ECHO": "x"}
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "f.yaml", environ=environ, overrides={"storages.SqlStorage.timeout": f"a://b:{PLANTED}@c"})
    assert len(caught.value.mistakes) == 4
    assert PLANTED not in f"{caught.value} {caught.value.mistakes!r}"


def test_reprs_hide_the_arguments() -> None:
    configuration, _ = read({"storages": [{"name": "A", "configuration": {"host": PLANTED}}]}, environ={})
    assert PLANTED not in repr(configuration)


def secret(tmp_path: Path, configuration: str) -> Configuration:
    file = tmp_path / "f.yaml"
    file.write_text(f"storages:\n  - name: SqlStorage\n    configuration: {configuration}\n")
    return load(file, environ={})


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"pw\n", "pw"),
        (b"pw\r\n", "pw"),
        (b"pw", "pw"),
        (b"pw\n\n", "pw\n"),
        (b" pw \n", " pw "),
        (b"", ""),
        (b"{A}", "{A}"),
    ],
)
def test_a_secret_from_a_file(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "secret").write_bytes(b"sqlite:///" + content)
    for path in ("secret", tmp_path / "secret"):
        configuration = secret(tmp_path, f"{{connection_string: {{file: {path}}}}}")
        assert configuration.storages["SqlStorage"].configuration == {"connection_string": f"sqlite:///{value}"}


@pytest.mark.parametrize(
    ("file", "message"),
    [("absent", "can't read the secret's file absent: No such file"), ("bytes", "is not UTF-8 text"), ("7", "must be")],
)
def test_a_secret_file_that_cannot_be_read(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError) as caught:
        secret(tmp_path, f"{{connection_string: {{file: {file}}}}}")
    (mistake,) = caught.value.mistakes
    assert message in mistake.message
    assert (mistake.path, mistake.place.line) == ("storages.0.configuration.connection_string", 3)


def warnings(configuration: str, **environ: str) -> list[str]:
    file = {"storages": [{"name": "A", "configuration": yaml.safe_load(configuration)}]}
    found, _ = read(file, environ=environ)
    return [each.path.removeprefix("storages.0.configuration.") for each in found.warnings]


@pytest.mark.parametrize(
    ("configuration", "paths"),
    [
        ("{password: pw, host: h}", ["password"]),
        ("{password: '{PW}', token: '${PW}'}", []),
        ("{password: '${PW:-default}'}", ["password"]),
        ("{password: {file: /run/pw}}", []),
        ("{password: ''}", []),
        ("{url: 'a://u:pw@h'}", ["url"]),
        ("{url: 'a://u:{PW}@h'}", []),
        ("{urls: ['a://u:pw@h']}", ["urls"]),
        ("{deep: {tokens: [a, b]}}", ["deep.tokens.0", "deep.tokens.1"]),
        ("{key: 5}", []),
    ],
)
def test_plain_secrets_are_warned_of(configuration: str, paths: list[str]) -> None:
    assert warnings(configuration, PW="x") == paths


def test_a_warning_has_its_place_but_not_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(f"storages:\n  - name: A\n    configuration:\n      password: {PLANTED}\n")
    configuration, mistakes = read(file, environ={})
    assert mistakes == []
    (warning,) = configuration.warnings
    assert str(warning) == (
        f"{file}:4:17: storages.0.configuration.password: a secret in plain text. "
        "Use a variable, or a file: password: {file: /run/secrets/...}.\n"
        "      password: ***\n"
        "                ^"
    )


def test_a_secret_of_a_file_that_never_ends_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "flowstore.yaml"
    config.write_text(
        "storages:\n"
        "  - name: R\n"
        "    classname: RedisStorage\n"
        "    configuration: {password: {file: /dev/zero}}\n"
        "global: {default_storage: R}\n"
    )
    with pytest.raises(ConfigurationError, match="it has more than"):
        load(str(config))
