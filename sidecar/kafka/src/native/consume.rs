//! A consumer's events with what rdkafka leaves out of them: the offset of an end or an error, the leader epoch.

use std::ffi::{CString, c_int, c_void};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::refusal::{Refusal, text};
use crate::PARTITION;
use crate::client::Context;
use crate::record::{Header, MAX_HEADERS, MAX_VALUE, Record};

/// What a consumer's queue holds.
#[derive(Debug)]
pub(crate) enum Event {
    Record {
        topic: String,
        record: Record,
    },
    /// The broker reported that nothing comes after: everything before `offset` has been handed out.
    End {
        topic: String,
        offset: i64,
    },
    /// Of a topic, or of the whole client.
    Failed {
        topic: Option<String>,
        refusal: Refusal,
    },
    Committed(Result<(), Refusal>),
    Log {
        level: RDKafkaLogLevel,
        facility: String,
        message: String,
    },
    /// Of no interest here.
    Other,
}

/// The queue that a consumer's records, errors and logs arrive on.
pub(crate) struct EventQueue {
    queue: NonNull<c::rd_kafka_queue_t>,
    /// The queue is the consumer's and must go first.
    _consumer: Arc<BaseConsumer<Context>>,
}

// SAFETY: librdkafka's queues are thread-safe, and the reference to this one is owned by this value alone.
unsafe impl Send for EventQueue {}
// SAFETY: as above.
unsafe impl Sync for EventQueue {}

impl EventQueue {
    /// `None` if the consumer has no group.
    pub(crate) fn of(consumer: Arc<BaseConsumer<Context>>) -> Option<Self> {
        // SAFETY: the consumer lives as long as the queue; the reference is given back in `drop`.
        let queue = unsafe { c::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        NonNull::new(queue).map(|queue| Self { queue, _consumer: consumer })
    }

    /// The next event, without waiting.
    pub(crate) fn poll(&self) -> Option<Event> {
        // SAFETY: the queue lives as long as self; the event is read and destroyed here, and nothing of it is kept.
        unsafe {
            let event = c::rd_kafka_queue_poll(self.queue.as_ptr(), 0);
            if event.is_null() {
                return None;
            }
            let read = read(event);
            c::rd_kafka_event_destroy(event);
            Some(read)
        }
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        // SAFETY: the reference is ours and given back once; the consumer still lives.
        unsafe { c::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// The next log line or error of a client that is no consumer, without waiting. rdkafka polls the main queue of an
/// admin client nowhere, so that it would grow for as long as brokers are away.
pub(crate) fn poll_main(client: &Client<Context>) -> Option<Event> {
    // SAFETY: the client lives through the call; the reference to its queue and the event are given back here.
    unsafe {
        let queue = c::rd_kafka_queue_get_main(client.native_ptr());
        let event = c::rd_kafka_queue_poll(queue, 0);
        let read = (!event.is_null()).then(|| {
            let read = read(event);
            c::rd_kafka_event_destroy(event);
            read
        });
        c::rd_kafka_queue_destroy(queue);
        read
    }
}

/// # Safety
/// `event` is a live event.
unsafe fn read(event: *mut c::rd_kafka_event_t) -> Event {
    // SAFETY: the event lives by contract, and so does what is read from it; all is copied.
    unsafe {
        match c::rd_kafka_event_type(event) {
            c::RD_KAFKA_EVENT_FETCH => fetched(event),
            c::RD_KAFKA_EVENT_ERROR => failed(event),
            c::RD_KAFKA_EVENT_OFFSET_COMMIT => {
                Event::Committed(match Code::from(c::rd_kafka_event_error(event)) {
                    Code::NoError => Ok(()),
                    code => Err(Refusal::new(code, text(c::rd_kafka_event_error_string(event)))),
                })
            }
            c::RD_KAFKA_EVENT_LOG => logged(event),
            _ => Event::Other,
        }
    }
}

/// # Safety
/// `event` is a live event of type FETCH.
unsafe fn fetched(event: *mut c::rd_kafka_event_t) -> Event {
    // SAFETY: a consumer's FETCH event holds one message, which lives as long as the event.
    unsafe {
        let message = c::rd_kafka_event_message_next(event);
        if message.is_null() {
            return Event::Other;
        }
        let topic = text(c::rd_kafka_topic_name((*message).rkt));
        match Code::from((*message).err) {
            Code::NoError => Event::Record { topic, record: record(&*message) },
            Code::PartitionEOF => Event::End { topic, offset: (*message).offset },
            code => Event::Failed {
                topic: Some(topic),
                refusal: Refusal::new(code, text(c::rd_kafka_message_errstr(message))),
            },
        }
    }
}

/// # Safety
/// `event` is a live event of type ERROR.
unsafe fn failed(event: *mut c::rd_kafka_event_t) -> Event {
    // SAFETY: the event lives by contract; the topic partition is ours to destroy.
    unsafe {
        let code = Code::from(c::rd_kafka_event_error(event));
        let refusal = Refusal::new(code, text(c::rd_kafka_event_error_string(event)));
        let partition = c::rd_kafka_event_topic_partition(event);
        if partition.is_null() {
            return Event::Failed { topic: None, refusal };
        }
        let (topic, offset) = (text((*partition).topic), (*partition).offset);
        c::rd_kafka_topic_partition_destroy(partition);
        match code {
            Code::PartitionEOF => Event::End { topic, offset },
            _ => Event::Failed { topic: Some(topic), refusal },
        }
    }
}

/// # Safety
/// `event` is a live event of type LOG.
unsafe fn logged(event: *mut c::rd_kafka_event_t) -> Event {
    let (mut facility, mut message, mut level) = (std::ptr::null(), std::ptr::null(), 0);
    // SAFETY: the event lives by contract, and so do the strings it gives.
    unsafe {
        if c::rd_kafka_event_log(event, &mut facility, &mut message, &mut level) != 0 {
            return Event::Other;
        }
        Event::Log { level: log_level(level), facility: text(facility), message: text(message) }
    }
}

/// As syslog numbers them.
fn log_level(level: c_int) -> RDKafkaLogLevel {
    match level {
        ..=2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        7.. => RDKafkaLogLevel::Debug,
    }
}

/// # Safety
/// `message` is a live message without an error.
unsafe fn record(message: &c::rd_kafka_message_t) -> Record {
    // SAFETY: key, payload and headers live as long as the message and are copied.
    unsafe {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp = c::rd_kafka_message_timestamp(message, &mut kind);
        let epoch = c::rd_kafka_message_leader_epoch(message);
        Record {
            offset: message.offset,
            timestamp,
            leader_epoch: (epoch >= 0).then_some(epoch),
            key: bytes(message.key, message.key_len),
            value: bytes(message.payload, message.len.min(MAX_VALUE + 1)),
            headers: headers(message),
        }
    }
}

/// # Safety
/// `message` is a live message.
unsafe fn headers(message: &c::rd_kafka_message_t) -> Vec<Header> {
    let mut list = std::ptr::null_mut();
    let mut headers = Vec::new();
    // SAFETY: the headers live as long as the message; each name and value is copied.
    unsafe {
        if Code::from(c::rd_kafka_message_headers(message, &mut list)) != Code::NoError {
            return headers;
        }
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        while headers.len() <= MAX_HEADERS
            && Code::from(c::rd_kafka_header_get_all(list, headers.len(), &mut name, &mut value, &mut size))
                == Code::NoError
        {
            headers.push(Header { name: text(name), value: bytes(value, size) });
        }
    }
    headers
}

/// # Safety
/// `start` is null or points to `size` bytes.
unsafe fn bytes(start: *const c_void, size: usize) -> Option<Bytes> {
    // SAFETY: not null, and as long as said by contract.
    (!start.is_null())
        .then(|| Bytes::copy_from_slice(unsafe { slice::from_raw_parts(start.cast::<u8>(), size) }))
}

/// Whether a record that was not acknowledged may be in the log all the same.
pub(crate) fn message_status(message: &BorrowedMessage<'_>) -> c::rd_kafka_msg_status_t {
    // SAFETY: the message lives as long as the borrow.
    unsafe { c::rd_kafka_message_status(message.ptr()) }
}

/// The low and high watermark that the last fetch reported, without asking the broker; `None` before the first.
pub(crate) fn watermarks(consumer: &BaseConsumer<Context>, topic: &str) -> Option<(i64, i64)> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the consumer and the name live through the call, which only reads what the client has cached.
    let code = unsafe {
        c::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            PARTITION,
            &mut low,
            &mut high,
        )
    };
    (Code::from(code) == Code::NoError && low >= 0 && high >= 0).then_some((low, high))
}
