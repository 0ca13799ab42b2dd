//! A topic's configuration: all of it, and changing some of it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::call::{Answer, Call};
use super::refusal::{Refusal, strings, text};
use crate::client::Context;
use crate::topic::ConfigEntry;

/// Every entry, defaults included. (rdkafka's own drops the error and answers with no entries.) The request goes to
/// whichever broker is called the controller, or to the one that is given.
pub(crate) async fn topic_config(
    client: &Client<Context>,
    name: &str,
    broker: Option<i32>,
    limit: Duration,
) -> Result<BTreeMap<String, ConfigEntry>, Refusal> {
    let name = CString::new(name)?;
    let broker = broker.map(|id| CString::new(id.to_string())).transpose()?;
    let call = begin_describe(client, &name, broker.as_deref(), limit);
    described(&call.answer().await?)
}

fn begin_describe<'a>(
    client: &'a Client<Context>,
    name: &CStr,
    broker: Option<&CStr>,
    limit: Duration,
) -> Call<'a> {
    let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
    Call::begin(client, operation, limit, |client, options, queue| {
        // SAFETY: the names live through the call and are copied into the resources, which are destroyed here; the
        // request copies the resources. librdkafka sends it to the broker that is among them.
        unsafe {
            let mut resources = vec![c::rd_kafka_ConfigResource_new(TOPIC, name.as_ptr())];
            resources.extend(broker.map(|id| c::rd_kafka_ConfigResource_new(BROKER, id.as_ptr())));
            c::rd_kafka_DescribeConfigs(client, resources.as_mut_ptr(), resources.len(), options, queue);
            for resource in resources {
                c::rd_kafka_ConfigResource_destroy(resource);
            }
        }
    })
}

fn described(answer: &Answer) -> Result<BTreeMap<String, ConfigEntry>, Refusal> {
    let set_here = c::rd_kafka_ConfigSource_t::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG;
    let mut config = BTreeMap::new();
    // SAFETY: everything read here belongs to the answer, which outlives this function; each pointer is checked, each
    // array is as long as librdkafka says.
    unsafe {
        let result = c::rd_kafka_event_DescribeConfigs_result(answer.as_ptr());
        if result.is_null() {
            return Err(Refusal::new(Code::Fail, "not an answer to describe configs"));
        }
        let mut count = 0;
        let resources = c::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
        for index in 0..count {
            let resource = *resources.add(index);
            if c::rd_kafka_ConfigResource_type(resource) != TOPIC {
                continue;
            }
            refused(resource)?;
            let mut count = 0;
            let entries = c::rd_kafka_ConfigResource_configs(resource, &mut count);
            for index in 0..count {
                let entry = *entries.add(index);
                let value = c::rd_kafka_ConfigEntry_value(entry);
                config.insert(
                    text(c::rd_kafka_ConfigEntry_name(entry)),
                    ConfigEntry {
                        value: (!value.is_null()).then(|| text(value)),
                        // What equals the default but was set on the topic is not the default.
                        is_default: c::rd_kafka_ConfigEntry_source(entry) != set_here,
                    },
                );
            }
        }
    }
    Ok(config)
}

/// Sets these entries and leaves the others as they are.
pub(crate) async fn set_topic_config(
    client: &Client<Context>,
    name: &str,
    entries: &BTreeMap<String, String>,
    limit: Duration,
) -> Result<(), Refusal> {
    let name = CString::new(name)?;
    let entries = strings(entries)?;
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
            let mut resource = c::rd_kafka_ConfigResource_new(TOPIC, name.as_ptr());
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
            refused(*resources.add(index))?;
        }
    }
    Ok(())
}

const TOPIC: c::rd_kafka_ResourceType_t = c::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
const BROKER: c::rd_kafka_ResourceType_t = c::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_BROKER;

/// # Safety
/// `resource` is a live resource of an answer.
unsafe fn refused(resource: *const c::rd_kafka_ConfigResource_t) -> Result<(), Refusal> {
    // SAFETY: live by contract, and so is its error string.
    let (code, detail) = unsafe {
        (c::rd_kafka_ConfigResource_error(resource), text(c::rd_kafka_ConfigResource_error_string(resource)))
    };
    match Code::from(code) {
        Code::NoError => Ok(()),
        code => Err(Refusal::new(code, detail)),
    }
}
