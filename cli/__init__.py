import os

# Nothing here forks and goes on: processes are begun anew. Left on, gRPC writes a line of its own
# among the lines of JSON whenever one is.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
