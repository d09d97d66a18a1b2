"""The child process in which records are tried on which others may have died; see headrace_runtime.poison.trials."""

from headrace_runtime.poison.trial_child import serve

from headrace_ingestion.transport.suspects import attempt

if __name__ == "__main__":
    serve(attempt)
