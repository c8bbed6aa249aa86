"""Sekuire's own conformance runner against the example `conformance_adapter`, and more of its vectors than it looks at.

    SEKUIRE_ADAPTER=target/debug/examples/conformance_adapter python3 run.py

The runner compares decisions. The vectors also say which rule decides, and the protocol has two names for each type of
action: both are asked here, one vector after the other. The last line is `N passed, N failed`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

EXPECTED = {"identity": 10, "signing": 6, "policy": 19}
OTHER_NAMES = {
    "network": "network_access",
    "filesystem": "file_access",
    "tool": "tool_execution",
    "model": "model_call",
    "api": "api_access",
    "rate_limit": "rate_limit_check",
}


def protocol() -> Path:
    """The folder of the crate, fetched by cargo."""
    manifest = Path(__file__).with_name("Cargo.toml")
    command = ["cargo", "metadata", "--format-version", "1", "--manifest-path", str(manifest)]
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    (found,) = [package for package in packages if package["name"] == "sekuire-protocol"]
    return Path(found["manifest_path"]).parent


def official(adapter: str, folder: Path) -> tuple[int, int]:
    runner = folder / "conformance" / "runner.py"
    command = [sys.executable, str(runner), "--adapter", adapter]
    subprocess.run([*command, "--verbose"], check=False)
    report = json.loads(subprocess.run([*command, "--json"], check=False, stdout=subprocess.PIPE).stdout)
    passed = report["totalPassed"]
    failed = sum(EXPECTED.values()) - passed
    profiles = {name: profile["total"] for name, profile in report["profiles"].items()}
    level = f"{report['conformanceLevel']} ({report['conformanceLevelLabel']})"
    if profiles != EXPECTED or level != "L2 (Authenticated)":
        print(f"not as expected: {profiles}, {level}")
        failed = max(failed, 1)
    return passed, failed


def rules(adapter: str, folder: Path) -> tuple[int, int]:
    data = json.loads((folder / "test-vectors" / "policy-enforcement.json").read_text())
    passed = failed = 0
    with subprocess.Popen([adapter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        for vector in data["vectors"]:
            action, expected = vector["action"], vector["expected"]
            for name in (action["type"], OTHER_NAMES[action["type"]]):
                params = {"policy": data["policy"], "action": {**action, "type": name}}
                process.stdin.write(json.dumps({"operation": "enforce_policy", "params": params}) + "\n")
                answer = json.loads(process.stdout.readline())
                found = {"decision": answer.get("result"), "rule": answer.get("rule")}
                if found == {"rule": None, **expected}:
                    passed += 1
                else:
                    failed += 1
                    print(f"{vector['name']} as {name}: expected {expected}, got {answer}")
        process.stdin.close()
    return passed, failed


def main() -> int:
    adapter = os.path.abspath(os.environ["SEKUIRE_ADAPTER"])
    folder = protocol()
    counts = [official(adapter, folder), rules(adapter, folder)]
    passed, failed = (sum(column) for column in zip(*counts, strict=True))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
