"""How inference is reached: the Open Inference Protocol over gRPC, and the topic of releases."""
