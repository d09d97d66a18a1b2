"""Platform mechanics shared by every Headrace service.

Rooms, each of which imports only those above it:

    telemetry   traces, metrics and logs of a process; faults that tests inject
    process     a service and its components, its memory, its pipes to a child
    cache       Redis or Valkey
    poison      messages on which processes die: found by bisection, tried in a process of their own
    rpc         the gRPC host: calls, admission, health, reflection, TLS
    kafka       clients, the envelope of events, compacted topics as tables
    stream      records in, records out: the loop of each pipeline, its recovery, dead letters
    runs        commands that take hours: worker, lease, child process, folder of a run

Beside the rooms lies their ground, which imports none of them: errors, settings, records, services, topics and the
object store. The commands lie there too (`python -m headrace_runtime.provision`, access, backup, health_check): nothing
imports them.
"""

import os

# gRPC's core reads this when it is imported. It writes a line to standard error for each handshake that fails, past the
# limits of `telemetry.logs`: any caller could fill the log. Its faults reach the log as errors of the calls they end.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
