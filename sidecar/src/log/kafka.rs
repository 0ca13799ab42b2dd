//! The log on one Kafka partition.
