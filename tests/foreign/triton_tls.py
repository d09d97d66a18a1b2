"""tritonclient over mutual TLS: the address, then the files of the CA, the key and the certificate."""

from __future__ import annotations

import sys

import tritonclient.grpc as triton
from checks import refused, run

AUTHORITY, KEY, CERTIFICATE = sys.argv[2:5]


def check_the_right_certificate_is_answered(address: str) -> None:
    files = {"root_certificates": AUTHORITY, "private_key": KEY, "certificate_chain": CERTIFICATE}
    with triton.InferenceServerClient(address, ssl=True, **files) as client:
        assert client.is_model_ready("digits")


def check_others_are_refused(address: str) -> None:
    for options in ({}, {"ssl": True, "root_certificates": AUTHORITY}):
        with triton.InferenceServerClient(address, **options) as client, refused("UNAVAILABLE"):
            client.is_server_live()


if __name__ == "__main__":
    run(globals(), lambda check, address: check(address))
