"""vilg config ACTION: looks at an experiment, or copies one to a file of your own.

  show   every field: its value, its default ("left out" where the file does not name the field)
         and its help; sections with the class that reads them
  copy   writes a packaged experiment to --out, from where it runs as it does here: what it refers
         to is still found. With :size the copy's own default is that size

With --diff=OTHER, show prints the fields in which the two experiments differ. Fields print with
their dotted paths, as overrides take them: --config.generator.width=256."""

import argparse
import ast
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import vilg
from vilg.config import require
from vilg.experiment import build_experiment
from vilg.experiment_file import NESTED_EXPERIMENTS, load_config, load_file, to_dict
from vilg.packaged import experiment_path
from vilg.run.terminal.config_flag import read_config
from vilg.run.terminal.outputs import output_file
from vilg.run.terminal.table import wrapped
from vilg.sections import REQUIRED, ConfigField, config_fields
from vilg.types import UserError

ABSENT = object()  # the value of a field that an experiment does not have


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.usage = "vilg config {show,copy} NAME[:size] [options]"
    parser.add_argument("action", choices=("show", "copy"))
    parser.add_argument(
        "experiment",
        nargs="?",
        metavar="NAME[:size]",
        help="the same as --config without overrides",
    )
    parser.add_argument("--diff", default="", metavar="OTHER", help="another NAME[:size] (show)")
    parser.add_argument(
        "--only", default="", metavar="PATH", help="fields below it, such as generator (show)"
    )
    parser.add_argument("--json", default="", metavar="FILE", help="also writes them there (show)")
    parser.add_argument("--out", default="", metavar="FILE.py", help="the new file (copy)")


def main(args: argparse.Namespace, config: object) -> int:
    """Shows or copies; exit code 0."""
    name = args.experiment or args.config
    both = args.experiment and args.config
    require(bool(name) and not both, "config", name, "name one experiment, such as ernie_vilg:tiny")
    if args.action == "copy":
        copy(name, args.out)
    else:
        show(args, name, config if args.config else read_config([f"--config={name}"]))
    return 0


def all_fields(config: Any) -> dict[str, ConfigField]:
    """Every field of an experiment by its path, then those of the experiments inside."""
    return {field.path: field for field in _fields(to_dict(config), "")}


def _fields(config: dict[str, Any], prefix: str) -> Iterator[ConfigField]:
    codec = "codec.experiment" in prefix
    yield from config_fields(config, build_experiment(config, of_generator=codec).model, prefix)
    for section, field in NESTED_EXPERIMENTS:
        inside = config[section].get(field)
        if inside:
            yield from _fields(inside, f"{prefix}{section}.{field}.")


def show(args: argparse.Namespace, name: str, config: object) -> None:
    """Prints an experiment's fields, or those in which it differs from another's."""
    json_file = output_file(args.json, "fields.json", "json") if args.json else None
    fields = all_fields(config)
    others = all_fields(read_config([f"--config={args.diff}"])) if args.diff else {}
    paths = [
        p for p in {**fields, **others} if f"{p}.".startswith(f"{args.only}." if args.only else "")
    ]
    if args.diff:
        paths = [p for p in paths if _value(fields, p) != _value(others, p)]
    require(bool(paths) or bool(args.diff), "only", args.only, "no field is below it")
    section = None
    for path in paths:
        field = fields.get(path) or others[path]
        if field.section != section:
            section = field.section
            print(f"\n{heading(field)}")
        values = f"{path} = {_shown(_value(fields, path))}"
        if args.diff:
            note = f"{_shown(_value(others, path))} in {args.diff}"
        elif field.left_out:
            note = "left out"
        else:
            note = "required" if field.default is REQUIRED else f"default {_shown(field.default)}"
        print(wrapped(f"  {values}  [{note}]", field.help))
    if json_file:
        rows = [_row(path, fields, others, bool(args.diff)) for path in paths]
        content = {"config": name, **({"diff": args.diff} if args.diff else {}), "fields": rows}
        json_file.write_text(json.dumps(content, indent=1, ensure_ascii=False))


def _value(fields: Mapping[str, ConfigField], path: str) -> Any:
    return fields[path].value if path in fields else ABSENT


def _shown(value: object) -> str:
    return "absent" if value is ABSENT else repr(value)


def _row(path: str, fields: Mapping, others: Mapping, differ: bool) -> dict[str, Any]:
    field: ConfigField = fields.get(path) or others[path]
    row = {
        "path": path,
        "value": None if path not in fields else field.value,
        "default": None if field.default is REQUIRED else field.default,
        "required": field.default is REQUIRED,
        "left_out": field.left_out,
        "help": field.help,
        "class": f"{field.kind.__module__}.{field.kind.__qualname__}" if field.kind else None,
    }
    return row | ({"other": others[path].value if path in others else None} if differ else {})


def heading(field: ConfigField) -> str:
    """The line above a section's fields."""
    if field.kind is None:
        return field.section
    place = field.kind.__module__.replace(".", "/") + ".py"
    says = " ".join((inspect.getdoc(field.kind) or "").split("\n\n")[0].split())
    return (
        f"{field.section}: {field.kind.__name__} ({place}). {says.partition('. ')[0].rstrip('.')}."
    )


def copy(name: str, out: str) -> None:
    """Writes the file of an experiment to `out`, the named size as its default.

    Errors: UserError where `out` is there already, or the experiment is not."""
    require(out.endswith(".py"), "out", out, "give a new file, such as --out=mine.py")
    target = Path(out)
    require(not target.exists(), "out", out, "is there already; give a new file")
    file, _, size = name.partition(":")
    source = experiment_path(file)
    wanted = load_config(name)
    if size:
        source = _defined_in(load_file(file), size, source)
    text = source.read_text()
    if size:
        text = with_default_size(text, size, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"# Copied from {source.name} of vilg {vilg.__version__}.\n{text}")
    if to_dict(load_config(out)) != to_dict(wanted):
        target.unlink()
        raise UserError(f"config={name!r}: depends on where its file lies; copy {source} by hand")
    print(f"{out}: a copy of {source}; `vilg train --config={out} --workdir=runs/mine` trains it")


def _defined_in(module: ModuleType, size: str, source: Path) -> Path:
    """The file that defines a size: another one where SIZES takes the size from there."""
    made = vars(module).get("SIZES", {}).get(size)
    return Path(made.__code__.co_filename) if isinstance(made, FunctionType) else source


def with_default_size(text: str, size: str, name: str) -> str:
    """An experiment's source with another default of get_config's argument."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name == "get_config" and node.args.defaults:
            default = node.args.defaults[0]
            lines = text.splitlines(keepends=True)
            line = lines[default.lineno - 1].encode()
            line = (
                line[: default.col_offset]
                + json.dumps(size).encode()
                + line[default.end_col_offset :]
            )
            lines[default.lineno - 1] = line.decode()
            return "".join(lines)
    raise UserError(f"config={name!r}: its get_config has no default size; leave out :{size}")
