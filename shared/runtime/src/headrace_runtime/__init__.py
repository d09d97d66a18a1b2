"""Platform mechanics shared by every Headrace service."""

import os

# gRPC's core reads this when it is imported. It writes a line to standard error for each handshake that fails, past the
# limits of `logs`: any caller could fill the log. Its faults reach the log as errors of the calls that they end.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
