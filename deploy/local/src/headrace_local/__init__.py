"""The embedded platform: Kafka, Valkey and the services under one supervisor."""
