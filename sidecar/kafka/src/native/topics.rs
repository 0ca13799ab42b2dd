//! Topics: what a topic is (its id above all), and making one.

use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::call::{Answer, Call};
use super::refusal::{Refusal, strings, text};
use crate::client::Context;
use crate::topic::{NewTopic, Topic, as_kafka_prints};

/// `None` where the brokers don't know the topic.
pub(crate) async fn describe_topic(
    client: &Client<Context>,
    name: &str,
    limit: Duration,
) -> Result<Option<Topic>, Refusal> {
    let name = CString::new(name)?;
    let call = begin_describe(client, &name, limit);
    match described(&call.answer().await?) {
        Ok(topic) => Ok(Some(topic)),
        Err(refusal) if refusal.code == Code::UnknownTopicOrPartition => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn begin_describe<'a>(client: &'a Client<Context>, name: &CString, limit: Duration) -> Call<'a> {
    let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    Call::begin(client, operation, limit, |client, options, queue| {
        let mut names = [name.as_ptr()];
        // SAFETY: the names live through the call, the collection copies them and is destroyed here, the request copies
        // the collection.
        unsafe {
            let topics = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            c::rd_kafka_DescribeTopics(client, topics, options, queue);
            c::rd_kafka_TopicCollection_destroy(topics);
        }
    })
}

fn described(answer: &Answer) -> Result<Topic, Refusal> {
    // SAFETY: everything read here belongs to the answer, which outlives this function; each pointer is checked, each
    // array is as long as librdkafka says.
    unsafe {
        let result = c::rd_kafka_event_DescribeTopics_result(answer.as_ptr());
        if result.is_null() {
            return Err(Refusal::new(Code::Fail, "not an answer to describe topics"));
        }
        let mut count = 0;
        let topics = c::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count != 1 {
            return Err(Refusal::new(Code::Fail, format!("asked for one topic, got {count}")));
        }
        let topic = *topics;
        let error = c::rd_kafka_TopicDescription_error(topic);
        if !error.is_null()
            && c::rd_kafka_error_code(error) != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(Refusal::new(
                Code::from(c::rd_kafka_error_code(error)),
                text(c::rd_kafka_error_string(error)),
            ));
        }
        let mut partitions = 0;
        let infos = c::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
        let mut replication = 0;
        let mut has_leader = false;
        if !infos.is_null() && partitions > 0 {
            c::rd_kafka_TopicPartitionInfo_replicas(*infos, &mut replication);
            has_leader = !c::rd_kafka_TopicPartitionInfo_leader(*infos).is_null();
        }
        Ok(Topic {
            id: as_kafka_prints(&text(c::rd_kafka_Uuid_base64str(c::rd_kafka_TopicDescription_topic_id(
                topic,
            )))),
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            replication: i32::try_from(replication).unwrap_or(i32::MAX),
            has_leader,
        })
    }
}

/// Makes a topic. (rdkafka's own drops what the broker says about a refusal.)
pub(crate) async fn create_topic(
    client: &Client<Context>,
    name: &str,
    topic: &NewTopic,
    limit: Duration,
) -> Result<(), Refusal> {
    let name = CString::new(name)?;
    let entries = strings(&topic.config)?;
    let call = begin_create(client, &name, topic, &entries, Making::Really, limit)?;
    created(&call.answer().await?)
}

/// Whether the controller knows a topic of that name. Every broker answers what it has heard itself, which may be old;
/// only the controller, which alone makes topics, knows: it is asked whether it would make this one.
pub(crate) async fn is_taken(client: &Client<Context>, name: &str, limit: Duration) -> Result<bool, Refusal> {
    let name = CString::new(name)?;
    let topic = NewTopic { partitions: 1, replication: 1, config: [].into() };
    let call = begin_create(client, &name, &topic, &[], Making::Checked, limit)?;
    match created(&call.answer().await?) {
        Ok(()) => Ok(false),
        Err(refusal) if refusal.code == Code::TopicAlreadyExists => Ok(true),
        // The cluster's rules for new topics are looked at when the name is free.
        Err(refusal) if refusal.code == Code::PolicyViolation => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// Whether a request to make a topic shall make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Making {
    Really,
    Checked,
}

fn begin_create<'a>(
    client: &'a Client<Context>,
    name: &CString,
    topic: &NewTopic,
    entries: &[(CString, CString)],
    making: Making,
    limit: Duration,
) -> Result<Call<'a>, Refusal> {
    let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS;
    let mut error = [0; 256];
    // SAFETY: the name lives through the call and is copied, the buffer is as long as said.
    let native = unsafe {
        c::rd_kafka_NewTopic_new(
            name.as_ptr(),
            topic.partitions,
            topic.replication,
            error.as_mut_ptr(),
            error.len(),
        )
    };
    if native.is_null() {
        // SAFETY: librdkafka wrote a terminated string into the buffer.
        return Err(Refusal::new(Code::InvalidArgument, unsafe { text(error.as_ptr()) }));
    }
    Ok(Call::begin(client, operation, limit, |client, options, queue| {
        let mut native = native;
        // SAFETY: the strings live through the call and are copied into the topic, which is destroyed here; the request
        // copies the topic. `set_config` refuses nothing but an empty name, which the broker refuses as well. Options
        // of this operation take `validate_only`, and the buffer is as long as said.
        unsafe {
            if making == Making::Checked {
                let (options, mut error) = (options.cast_mut(), [0; 128]);
                c::rd_kafka_AdminOptions_set_validate_only(options, 1, error.as_mut_ptr(), error.len());
            }
            for (key, value) in entries {
                c::rd_kafka_NewTopic_set_config(native, key.as_ptr(), value.as_ptr());
            }
            c::rd_kafka_CreateTopics(client, &mut native, 1, options, queue);
            c::rd_kafka_NewTopic_destroy(native);
        }
    }))
}

fn created(answer: &Answer) -> Result<(), Refusal> {
    // SAFETY: as in `described`.
    unsafe {
        let result = c::rd_kafka_event_CreateTopics_result(answer.as_ptr());
        if result.is_null() {
            return Err(Refusal::new(Code::Fail, "not an answer to create topics"));
        }
        let mut count = 0;
        let topics = c::rd_kafka_CreateTopics_result_topics(result, &mut count);
        for index in 0..count {
            let topic = *topics.add(index);
            match Code::from(c::rd_kafka_topic_result_error(topic)) {
                Code::NoError => (),
                code => return Err(Refusal::new(code, text(c::rd_kafka_topic_result_error_string(topic)))),
            }
        }
    }
    Ok(())
}
