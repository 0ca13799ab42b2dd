//! A Kafka record as it is: key, value, ordered headers, none of them interpreted.

use bytes::Bytes;

/// Of a record that was read, so many headers are handed out and one more, by which it is known to have too many: three
/// bytes a header in a record of ten megabytes would otherwise become gigabytes here.
pub const MAX_HEADERS: usize = 4096;

/// And so many bytes of its value and one more: a batch that was compressed may be a thousand times as large here.
pub const MAX_VALUE: usize = 16 << 20;

/// A header. Names may repeat, and their order is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    /// Kafka tells an empty value from none.
    pub value: Option<Bytes>,
}

impl Header {
    pub fn new(name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

/// A record to be appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
    /// Milliseconds since 1970; the client's clock if absent. Topics with `LogAppendTime` ignore it.
    pub timestamp: Option<i64>,
}

impl NewRecord {
    /// What counts against limits: keys, values, header names and values.
    pub fn size(&self) -> usize {
        size(&self.key, &self.value, &self.headers)
    }
}

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    /// Milliseconds since 1970, -1 if the record has none.
    pub timestamp: i64,
    /// Epoch of the leader that appended the batch; absent on brokers that don't say.
    pub leader_epoch: Option<i32>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Record {
    /// What counts against limits: keys, values, header names and values.
    pub fn size(&self) -> usize {
        size(&self.key, &self.value, &self.headers)
    }
}

/// Where a record was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub offset: i64,
    /// The broker's time with `LogAppendTime`, else the record's.
    pub timestamp: i64,
}

fn size(key: &Option<Bytes>, value: &Option<Bytes>, headers: &[Header]) -> usize {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    len(key) + len(value) + headers.iter().map(|header| header.name.len() + len(&header.value)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_counts_what_travels() {
        let record = NewRecord {
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"value")),
            headers: vec![Header::new("ce_id", "1"), Header { name: "empty".into(), value: None }],
            timestamp: None,
        };
        assert_eq!(record.size(), 1 + 5 + 5 + 1 + 5);
        assert_eq!(NewRecord::default().size(), 0);
    }
}
