//! Which consumer groups there are, and what one has committed, without being in it.

use std::ffi::CString;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::call::{Answer, Call};
use super::refusal::{Refusal, text};
use crate::PARTITION;
use crate::client::Context;

/// The names of all groups that may be seen.
pub(crate) async fn groups(client: &Client<Context>, limit: Duration) -> Result<Vec<String>, Refusal> {
    let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS;
    let call = Call::begin(client, operation, limit, |client, options, queue| {
        // SAFETY: all three live through the call; the request copies the options.
        unsafe { c::rd_kafka_ListConsumerGroups(client, options, queue) }
    });
    names(&call.answer().await?)
}

fn names(answer: &Answer) -> Result<Vec<String>, Refusal> {
    // SAFETY: everything read here belongs to the answer, which outlives this function; each pointer is checked, each
    // array is as long as librdkafka says.
    unsafe {
        let result = c::rd_kafka_event_ListConsumerGroups_result(answer.as_ptr());
        if result.is_null() {
            return Err(Refusal::new(Code::Fail, "not an answer to list groups"));
        }
        let mut count = 0;
        let errors = c::rd_kafka_ListConsumerGroups_result_errors(result, &mut count);
        if count > 0 && !errors.is_null() {
            let code = Code::from(c::rd_kafka_error_code(*errors));
            return Err(Refusal::new(code, text(c::rd_kafka_error_string(*errors))));
        }
        let mut count = 0;
        let listed = c::rd_kafka_ListConsumerGroups_result_valid(result, &mut count);
        if listed.is_null() {
            return Ok(vec![]);
        }
        let listed = std::slice::from_raw_parts(listed, count);
        Ok(listed.iter().map(|group| text(c::rd_kafka_ConsumerGroupListing_group_id(*group))).collect())
    }
}

/// The next position that `group` committed for partition 0 of `topic`, if it ever did.
pub(crate) async fn committed(
    client: &Client<Context>,
    group: &str,
    topic: &str,
    limit: Duration,
) -> Result<Option<i64>, Refusal> {
    let group = CString::new(group)?;
    let topic = CString::new(topic)?;
    let call = begin(client, &group, &topic, limit);
    offset(&call.answer().await?)
}

fn begin<'a>(client: &'a Client<Context>, group: &CString, topic: &CString, limit: Duration) -> Call<'a> {
    let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    Call::begin(client, operation, limit, |client, options, queue| {
        let partitions = TopicPartitionList::new();
        // SAFETY: the strings and the list live through the call; the request object copies them and is destroyed
        // here, the request copies the object.
        unsafe {
            c::rd_kafka_topic_partition_list_add(partitions.ptr(), topic.as_ptr(), PARTITION);
            let mut request = c::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), partitions.ptr());
            c::rd_kafka_ListConsumerGroupOffsets(client, &mut request, 1, options, queue);
            c::rd_kafka_ListConsumerGroupOffsets_destroy(request);
        }
    })
}

fn offset(answer: &Answer) -> Result<Option<i64>, Refusal> {
    // SAFETY: everything read here belongs to the answer, which outlives this function; each pointer is checked, each
    // array is as long as librdkafka says.
    unsafe {
        let result = c::rd_kafka_event_ListConsumerGroupOffsets_result(answer.as_ptr());
        if result.is_null() {
            return Err(Refusal::new(Code::Fail, "not an answer to list group offsets"));
        }
        let mut count = 0;
        let groups = c::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
        if groups.is_null() || count != 1 {
            return Err(Refusal::new(Code::Fail, format!("asked for one group, got {count}")));
        }
        let error = c::rd_kafka_group_result_error(*groups);
        if !error.is_null() {
            let code = Code::from(c::rd_kafka_error_code(error));
            return match code {
                Code::GroupIdNotFound => Ok(None),
                code => Err(Refusal::new(code, text(c::rd_kafka_error_string(error)))),
            };
        }
        let partitions = c::rd_kafka_group_result_partitions(*groups);
        if partitions.is_null() || (*partitions).cnt < 1 {
            return Ok(None);
        }
        let partition = *(*partitions).elems;
        match Code::from(partition.err) {
            Code::NoError => Ok((partition.offset >= 0).then_some(partition.offset)),
            Code::UnknownTopicOrPartition => Ok(None),
            code => Err(Refusal::new(code, "list group offsets")),
        }
    }
}
