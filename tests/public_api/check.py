#!/usr/bin/env python3
"""Which crates the public API names, read from rustdoc's JSON.

A type of another crate in a public signature makes that crate's next major version ours too. So
there are few: those that the layer is about, and in a feature's own items the feature's own crate.

usage: check.py RUSTDOC_JSON
"""

import json
import sys

# The vocabulary that every user of a tower client has.
ALWAYS = {"std", "core", "alloc", "http", "http_body", "bytes", "tower_layer", "tower_service"}
# In the `Unpin` that it writes for its types, where nobody can name it.
ALWAYS |= {"pin_project_lite"}
# What a feature's own items may name besides, by the module of `src` that they are in.
BY_FILE = {
    "src/decompression.rs": {"tower_http"},
    "src/hosts/async_openai.rs": {"async_openai", "reqwest"},
    "src/hosts/reqwest.rs": {"reqwest"},
    "src/hosts/reqwest_middleware.rs": {"reqwest", "reqwest_middleware", "async_trait"},
}


def named(value):
    """The ids of all types and traits that a part of an item names."""
    if isinstance(value, dict):
        if "id" in value and "path" in value and isinstance(value["id"], int):
            yield value["id"]
        for part in value.values():
            yield from named(part)
    elif isinstance(value, list):
        for part in value:
            yield from named(part)


def main(path):
    with open(path, encoding="utf-8") as file:
        doc = json.load(file)
    crates = {int(number): crate["name"] for number, crate in doc["external_crates"].items()}
    seen, wrong, checked = {}, [], 0
    for item in doc["index"].values():
        if item["crate_id"] != 0 or item["span"] is None:
            continue
        (kind, inner), = item["inner"].items()
        if kind == "use":
            continue
        if kind == "impl":
            # Those that other crates write for every type say nothing of ours.
            if inner["blanket_impl"] is not None or inner["is_synthetic"]:
                continue
            inner = {key: inner[key] for key in ("generics", "trait", "for")}
        elif kind in ("struct", "enum", "trait", "module", "variant"):
            # Their members are items of their own.
            inner = {key: inner[key] for key in ("generics", "bounds") if key in inner}
        checked += 1
        file = item["span"]["filename"]
        allowed = ALWAYS | BY_FILE.get(file, set())
        for identity in named(inner):
            summary = doc["paths"].get(str(identity))
            if summary is None or summary["crate_id"] == 0:
                continue
            crate = crates[summary["crate_id"]]
            seen.setdefault(crate, 0)
            seen[crate] += 1
            if crate not in allowed:
                where = f"{file}:{item['span']['begin'][0]}"
                wrong.append(f"{where}: {item['name'] or kind} names {'::'.join(summary['path'])}")
    print(f"{checked} items name types of: {', '.join(sorted(seen))}")
    for line in sorted(set(wrong)):
        print(line)
    failed = len(set(wrong)) + (checked < 200)
    print(f"{checked - len(set(wrong))} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
