//! The cluster itself: which brokers it has.

use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::call::Call;
use super::refusal::Refusal;
use crate::client::Context;

/// The ids of the brokers that are alive. (Metadata would list every topic with them, or make the one it is asked about.)
pub(crate) async fn brokers(client: &Client<Context>, limit: Duration) -> Result<Vec<i32>, Refusal> {
    let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER;
    let call = Call::begin(client, operation, limit, |client, options, queue| {
        // SAFETY: client, options and queue live through the call.
        unsafe { c::rd_kafka_DescribeCluster(client, options, queue) }
    });
    let answer = call.answer().await?;
    let mut ids = Vec::new();
    // SAFETY: the result and its nodes belong to the answer; the array is as long as librdkafka says.
    unsafe {
        let result = c::rd_kafka_event_DescribeCluster_result(answer.as_ptr());
        if result.is_null() {
            return Err(Refusal::new(Code::Fail, "not an answer to describe cluster"));
        }
        let mut count = 0;
        let nodes = c::rd_kafka_DescribeCluster_result_nodes(result, &mut count);
        for index in 0..count {
            ids.push(c::rd_kafka_Node_id(*nodes.add(index)));
        }
    }
    Ok(ids)
}
