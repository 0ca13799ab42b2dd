//! Records and offsets as Kafka's client has them, and as the wire has them.

use decree_kafka::{Header, NewRecord};
use decree_wire::position::Position;
use decree_wire::record::Record;

use crate::log::Error;

// A record with more is void: it must be seen here to have more.
const _: () = assert!(decree_kafka::MAX_HEADERS == decree_wire::record::MAX_HEADERS);
const _: () = assert!(decree_kafka::MAX_VALUE == decree_wire::record::MAX_VALUE);

pub(super) fn to_kafka(record: Record) -> NewRecord {
    let headers = record.headers.into_iter().map(|(name, value)| Header { name, value }).collect();
    NewRecord { key: None, value: record.value, headers, timestamp: None }
}

/// The key decides nothing and is left behind.
pub(super) fn from_kafka(record: decree_kafka::Record) -> Record {
    let headers = record.headers.into_iter().map(|header| (header.name, header.value)).collect();
    Record { value: record.value, headers }
}

pub(super) fn position(offset: i64) -> Result<Position, Error> {
    u64::try_from(offset).map(Position).map_err(|_| Error::Invalid(format!("{offset} is no offset")))
}

pub(super) fn offset(position: Position) -> Result<i64, Error> {
    i64::try_from(position.0).map_err(|_| Error::Invalid(format!("{position} is no offset")))
}
