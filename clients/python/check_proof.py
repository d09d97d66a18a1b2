"""Checks a proof that `headrace prove` wrote, without Headrace: python check_proof.py FILE [--key PUBLIC].

Needs Python 3.11, and for --key the package `cryptography`. docs/proofs.md says what a proof shows. Ends with 0 or 1.
"""

import argparse
import base64
import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

FORMAT, HEAD_FORMAT = "headrace.proof.v1", "headrace.log.head.v1"
ENTRY_FIELDS = {"release": 11, "version": 7, "dataset": 4, "training": 6, "forgotten": 25}
"""The field of LogEntry (protos/headrace/registry/v1/registry_log.proto) that each entry of the proof has."""
TYPES = {"bool": "?", "int8": "b", "int16": "h", "int32": "i", "int64": "q", "uint8": "B", "uint16": "H"}
TYPES |= {"uint32": "I", "float32": "f", "float64": "d"}
Message = dict[int, list[Any]]


class Bad(Exception):
    """Something in the proof does not hold."""


def need(found: object, expected: object, what: str) -> None:
    """Raise Bad unless two things are the same."""
    if found != expected:
        raise Bad(f"{what}: expected {expected}, got {found}")


def canonical(value: object) -> bytes:
    """Return canonical JSON: sorted keys, no white space, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(data: bytes) -> str:
    """Return a digest as Headrace writes it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place of a protobuf message, and the place behind it."""
    value = shift = 0
    while data[at] > 127:
        value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
    return value | data[at] << shift, at + 1


def parse(data: bytes) -> Message:
    """Return the fields of a protobuf message by number: ints, and bytes of strings and messages."""
    found: Message = {}
    value: Any
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
        else:
            size, at = varint(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], at)
            value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def text(message: Message, *fields: int) -> str:
    """Return a string of a message, or of a message within it; empty where it is not set."""
    for field in fields[:-1]:
        message = parse(message.get(field, [b""])[-1])
    return bytes(message.get(fields[-1], [b""])[-1]).decode()


def root_by(found: bytes, index: int, size: int, path: list[str]) -> str:
    """Return the root that an audit path leads to from the hash of a leaf."""
    if not 0 <= index < size:
        raise Bad(f"leaf {index} is in no tree of {size} leaves")
    beside = [bytes.fromhex(each) for each in path]
    while size > 1:
        if index ^ 1 < size:
            pair = beside.pop(0) + found if index % 2 else found + beside.pop(0)
            found = hashlib.sha256(b"\1" + pair).digest()
        index, size = index // 2, (size + 1) // 2
    need(len(beside), 0, "hashes left over of an audit path")
    return found.hex()


def root_of(leaves: list[bytes]) -> bytes:
    """Return the root of a tree (RFC 6962)."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root_of(leaves[:half]) + root_of(leaves[half:])).digest()


def check_seal(proof: dict[str, Any], public: bytes | None) -> str:
    """Check the whole file: its digest, and the signatures of it and of the head."""
    need(proof["format"], FORMAT, "the format")
    rest = {name: value for name, value in proof.items() if name != "seal"}
    seal, head = proof["seal"], proof["head"]
    signer = {name: seal[name] for name in set(seal) - {"digest"}}
    need(seal["digest"], sha256(canonical([rest, signer])), "the digest of the file")
    if public is None:
        return f"is as its digest says; not checked who made it: {'give --key' if seal['key'] else 'nobody signed'}"
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key: Any = load_pem_public_key(public)
    fingerprint = hashlib.sha256(key.public_bytes_raw()).hexdigest()
    said = {name: head[name] for name in ("size", "root", "time")}
    sealed = (("seal", seal, FORMAT, rest), ("head", head, HEAD_FORMAT, said))
    for what, signer, form, signed in sealed:
        need(signer["key"], fingerprint, f"the key of the {what}")
        try:
            key.verify(base64.b64decode(signer["signature"], validate=True), form.encode() + b"\n" + canonical(signed))
        except (InvalidSignature, ValueError) as error:
            raise Bad(f"the signature of the {what} is not of this key") from error
    return f"is as it was signed, with key {fingerprint[:16]}"


def check_log(proof: dict[str, Any], events: dict[str, Any]) -> str:
    """Check the entries of the log: each is under the head's root."""
    head, events["erased"] = proof["head"], {}
    for what, entry in [*proof["entries"].items(), *(("forgotten", each) for each in proof["forgotten"])]:
        data = base64.b64decode(entry["bytes"], validate=True)
        found = root_by(hashlib.sha256(b"\0" + data).digest(), entry["index"], head["size"], entry["path"])
        need(found, head["root"], f"the root above the entry of the {what}")
        events[what] = parse(parse(data)[ENTRY_FIELDS[what]][-1])
        told = map(parse, events[what].get(7, []) if what == "forgotten" else [])
        events["erased"] |= {text(each, 2): text(each, 3) for each in told}
    places = ", ".join(f"{what} {entry['index']}" for what, entry in sorted(proof["entries"].items()))
    return f"of {head['size']} entries at {head['time']}, root {head['root'][:16]}: entries {places}"


def check_prediction(proof: dict[str, Any], events: dict[str, Any]) -> str:
    """Check the prediction: answered by the release that the log has."""
    told, release = proof["prediction"], events["release"]
    need(told["model"], text(release, 1), "the model")
    need(told["version_id"], text(release, 4), "the version")
    found = {"alias": text(release, 2), "epoch": release.get(3, [0])[-1]}
    need(told["release"] or found, found, "the release")
    served = {text(release, 6): text(release, 7, 2)}
    for message in [*(v for each in release.get(15, []) for v in parse(each).get(2, [])), *release.get(16, [])]:
        served[text(parse(message), 1)] = text(parse(message), 2, 2)
    need(told["variant"] in served, True, f"whether the release serves {told['variant']}")
    response = parse(base64.b64decode(told["response"], validate=True))
    need(text(response, 1) or told["model"], told["model"], "the model of the response")
    for each in map(parse, response.get(4, [])):
        if text(each, 1) == "prediction_id":
            need(text(each, 2, 3), told["prediction_id"], "the id in the response")
    return f"{told['prediction_id']} of {told['model']} by {told['variant']}, graph {served[told['variant']][:23]}"


def check_version(proof: dict[str, Any], events: dict[str, Any]) -> str:
    """Check the version: its manifest, its artifacts, and the spec that it was trained by."""
    trained, training, manifest = events["version"], events["training"], json.loads(proof["version"])
    need(sha256(proof["version"].encode()), text(events["release"], 4), "the digest of the version's manifest")
    need(text(trained, 4), text(events["release"], 4), "the version that was trained")
    need(text(training, 1), text(trained, 1), "the run")
    need(manifest["run_id"], text(trained, 1), "the run of the manifest")
    for field, name in ((7, "graph"), (8, "weights")):
        need(text(trained, field, 2), manifest[name]["digest"], f"the digest of the {name}")
    need(sha256(proof["spec"].encode()), text(training, 4, 2), "the digest of the spec")
    need(manifest["spec_digest"], text(training, 4, 2), "the spec of the manifest")
    return f"{text(trained, 4)[:23]}, weights {manifest['weights']['digest'][:23]}, spec {manifest['spec_digest'][:23]}"


def check_dataset(proof: dict[str, Any], events: dict[str, Any]) -> str:
    """Check the dataset: its manifest, and its id."""
    frozen, manifest, digest = events["dataset"], json.loads(proof["dataset"]), text(events["dataset"], 4, 2)
    for _ in proof["forgotten"]:
        digest = events["erased"].get(digest, digest)
    need(sha256(proof["dataset"].encode()), digest, "the digest of the dataset's manifest")
    need(text(frozen, 2), manifest["dataset_id"], "the dataset of the entry")
    need(text(events["training"], 3, 1), manifest["dataset_id"], "the dataset of the training")
    need(json.loads(proof["version"])["dataset_id"], manifest["dataset_id"], "the dataset of the version")
    slices = manifest.get("slices", [])
    if slices and [each["segment_id"] for each in slices] != [manifest["dataset_id"]]:
        said: dict[str, Any] = {name: manifest[f"{name}_digest"] for name in ("schema", "prepare", "split")}
        segments = [[each["segment_id"], each.get("since")] for each in slices]
        said |= {"format": "headrace.window.v1", "segments": segments}
        # A dataset of after rows were erased has another id than one of before.
        bits = [[each.get("left_out", {}).get("forgotten") for each in taken["parts"]] for taken in slices]
        erased = [[at, number, each] for at, of in enumerate(bits) for number, each in enumerate(of) if each]
        ids = {sha256(canonical(each)) for each in (said, said | {"erased": erased})}
        need(ids | {manifest["dataset_id"]}, ids, "the id of the dataset")
    return f"{manifest['dataset_id'][:23]}, rows of {len(slices) or 1} segments"


def check_rows(proof: dict[str, Any], _events: dict[str, Any]) -> str:
    """Check the rows: each is in a segment, and the segment in the dataset."""
    manifest = json.loads(proof["dataset"])
    taken = {each["segment_id"] for each in manifest.get("slices", [])} or {manifest["dataset_id"]}
    segments = {each["segment_id"]: each for each in proof["segments"]}
    for name, segment in segments.items():
        need(name in taken, True, f"whether the dataset takes segment {name}")
        root = root_of([bytes.fromhex(each["root"]) for each in segment["trees"]]).hex()
        said = {"format": "headrace.dataset.v1", "root": root, "rows": sum(each["rows"] for each in segment["trees"])}
        said |= {each: segment[each] for each in ("schema", "prepare", "split")}
        need(sha256(canonical(said)), name, "the id of a segment")
    for row in proof["rows"]:
        trees = {each["partition"]: each for each in segments[row["segment"]]["trees"]}
        tree, data = trees[row["tree"]], base64.b64decode(row["row"] or "", validate=True)
        leaf = hashlib.sha256(b"\0" + data).digest() if data else bytes.fromhex(row["digest"])
        name = f"{row['topic']}:{row['partition']}:{row['offset']}"
        need(root_by(leaf, row["leaf"], tree["rows"], row["path"]), tree["root"], f"the root above row {name}")
        same = segments[row["segment"]]["schema"] == manifest["schema_digest"]
        values = decoded(data, manifest["fields"]) if same and data else data.hex()[:200] or "erased"
        print(f"row: {name} in {row['split']}{row['left_out'] and ', left out by ' + row['left_out']}: {values}")
    return f"{len(proof['rows'])} are in the dataset"


def decoded(data: bytes, fields: list[dict[str, Any]]) -> str:
    """Return the values of a row, long ones cut: first all numbers in the order of the schema, then all texts."""
    at, values = 0, []
    for field in sorted(fields, key=lambda each: each["type"] == "string"):
        present, at = data[at], at + 1
        if field["type"] == "string":
            size = 4 + int.from_bytes(data[at : at + 4], "little") if present else 0
            value = data[at + 4 : at + size].decode()
        else:
            form = f"<{math.prod(field.get('shape') or [1])}{TYPES[field['type']]}"
            size, value = struct.calcsize(form), ", ".join(map(str, struct.unpack_from(form, data, at)))
        values.append(f"{field['name']}={value[:40] if present else None}")
        at += size
    return " ".join(values)


def check(proof: Any, public: bytes | None = None) -> None:
    """Check a proof, and the signatures with a public key (PEM), saying what holds. Raises Bad for what does not."""
    events: dict[str, Any] = {}
    try:
        print(f"file: {check_seal(proof, public)}")
        for one in (check_log, check_prediction, check_version, check_dataset, check_rows):
            print(f"{one.__name__.removeprefix('check_')}: {one(proof, events)}")
    except (LookupError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise Bad(f"the file is no proof: {type(error).__name__}: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    """Check a file."""
    parser = argparse.ArgumentParser(description="Checks a proof that `headrace prove` wrote.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--key", type=Path, help="the operator's Ed25519 public key (PEM)")
    given = parser.parse_args(arguments)
    try:
        check(json.loads(given.file.read_bytes()), given.key and given.key.read_bytes())
    except (Bad, OSError, ValueError, RecursionError) as bad:
        print(f"BAD: {bad}")
        return 1
    print("good: everything holds")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
