//! Topics: what a topic is (its id above all), and changing some of its configuration.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::call::{Answer, Call};
use super::{Refusal, text};
use crate::client::Context;
use crate::topics::Topic;

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
            id: text(c::rd_kafka_Uuid_base64str(c::rd_kafka_TopicDescription_topic_id(topic))),
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            replication: i32::try_from(replication).unwrap_or(i32::MAX),
            has_leader,
        })
    }
}

/// Sets these entries and leaves the others as they are.
pub(crate) async fn set_topic_config(
    client: &Client<Context>,
    name: &str,
    entries: &BTreeMap<String, String>,
    limit: Duration,
) -> Result<(), Refusal> {
    let name = CString::new(name)?;
    let entries = entries
        .iter()
        .map(|(key, value)| Ok((CString::new(key.as_str())?, CString::new(value.as_str())?)))
        .collect::<Result<Vec<_>, Refusal>>()?;
    let call = begin_alter(client, &name, &entries, limit);
    altered(&call.answer().await?)
}

fn begin_alter<'a>(
    client: &'a Client<Context>,
    name: &CString,
    entries: &[(CString, CString)],
    limit: Duration,
) -> Call<'a> {
    let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS;
    let set = c::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET;
    Call::begin(client, operation, limit, |client, options, queue| {
        // SAFETY: the strings live through the call and are copied into the resource, which is destroyed here; the
        // request copies the resource. An error of `add` (an empty name) is freed, the broker then refuses the request.
        unsafe {
            let mut resource = c::rd_kafka_ConfigResource_new(
                c::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
                name.as_ptr(),
            );
            for (key, value) in entries {
                let error = c::rd_kafka_ConfigResource_add_incremental_config(
                    resource,
                    key.as_ptr(),
                    set,
                    value.as_ptr(),
                );
                if !error.is_null() {
                    c::rd_kafka_error_destroy(error);
                }
            }
            c::rd_kafka_IncrementalAlterConfigs(client, &mut resource, 1, options, queue);
            c::rd_kafka_ConfigResource_destroy(resource);
        }
    })
}

fn altered(answer: &Answer) -> Result<(), Refusal> {
    // SAFETY: as in `described`.
    unsafe {
        let result = c::rd_kafka_event_IncrementalAlterConfigs_result(answer.as_ptr());
        if result.is_null() {
            return Err(Refusal::new(Code::Fail, "not an answer to alter configs"));
        }
        let mut count = 0;
        let resources = c::rd_kafka_IncrementalAlterConfigs_result_resources(result, &mut count);
        for index in 0..count {
            let resource = *resources.add(index);
            let code = Code::from(c::rd_kafka_ConfigResource_error(resource));
            if code != Code::NoError {
                return Err(Refusal::new(code, text(c::rd_kafka_ConfigResource_error_string(resource))));
            }
        }
    }
    Ok(())
}
