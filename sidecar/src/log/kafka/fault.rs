//! What Kafka's errors mean for a log.

use decree_kafka::Error as Kafka;
use decree_wire::position::Position;

use crate::log::Error;

pub(super) fn error(error: Kafka) -> Error {
    let text = error.to_string();
    match error {
        Kafka::OutOfRange { asked, low, high, .. } => out_of_range(asked, low, high, text),
        Kafka::Unreachable { .. }
        | Kafka::Timeout { .. }
        | Kafka::Unauthenticated { .. }
        | Kafka::Untrusted { .. }
        | Kafka::Unauthorized { .. }
        | Kafka::NotDelivered { .. }
        | Kafka::Failed { .. } => Error::Unreachable(text),
        Kafka::DeliveryUnknown { .. } => Error::Unknown(text),
        Kafka::QueueFull { .. } => Error::Full,
        Kafka::TooLarge { .. } => Error::TooLarge(text),
        Kafka::TopicMissing { .. } => Error::Missing(text),
        // A cut log is found out for certain when the last entry is read again.
        Kafka::TopicReplaced { .. } | Kafka::Truncated { .. } => Error::Replaced(text),
        Kafka::TopicExists { .. }
        | Kafka::GroupInUse { .. }
        | Kafka::Unusable { .. }
        | Kafka::Invalid { .. } => Error::Invalid(text),
    }
}

/// Hands on what brokers refuse, which only a person can change.
pub(super) fn refused(error: &Kafka, tell: impl FnOnce(String)) {
    if matches!(error, Kafka::Unauthorized { .. } | Kafka::Unauthenticated { .. } | Kafka::Untrusted { .. }) {
        tell(error.to_string());
    }
}

fn out_of_range(asked: i64, low: i64, high: i64, text: String) -> Error {
    let position = |offset: i64| Position(u64::try_from(offset).unwrap_or(0));
    if asked < low {
        Error::Trimmed { asked: position(asked), earliest: position(low) }
    } else if asked > high {
        Error::LostEnd { asked: position(asked), end: position(high) }
    } else {
        Error::Unreachable(text) // by now it is there: whoever said no was behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_that_is_not_there_was_trimmed_or_lost_or_is_there_by_now() {
        let ask = |asked| {
            error(Kafka::OutOfRange { topic: "t".into(), asked, low: 5, high: 9 }).reason().to_owned()
        };
        assert_eq!(
            [ask(4), ask(5), ask(9), ask(10)],
            ["LogTrimmed", "LogUnreachable", "LogUnreachable", "LogReplaced"]
        );
    }
}
