//! An admin request in flight: its own result queue, woken by librdkafka instead of a thread that waits.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::types::{RDKafka, RDKafkaErrorCode as Code};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::refusal::{Refusal, text};
use crate::client::Context;

/// librdkafka answers at its own request time-out; this is how much later we stop believing that.
const SLACK: Duration = Duration::from_secs(1);

/// librdkafka refuses a longer request time-out.
const LONGEST_MS: i32 = 3_600_000;

/// The queue that a result arrives on. Dropping it drops a result that comes later.
pub(super) struct Call<'a> {
    queue: NonNull<c::rd_kafka_queue_t>,
    /// Lent to librdkafka as a raw pointer until the callback is taken back in `drop`.
    arrived: Arc<Notify>,
    limit: Duration,
    client: PhantomData<&'a Client<Context>>,
}

// SAFETY: librdkafka's queues are thread-safe; the pointer is owned by this value alone.
unsafe impl Send for Call<'_> {}
// SAFETY: as above; `poll` may be called from several threads.
unsafe impl Sync for Call<'_> {}

unsafe extern "C" fn wake(_: *mut RDKafka, opaque: *mut c_void) {
    // SAFETY: `opaque` is the `Notify` of a `Call`, which outlives the callback (see `Call::drop`).
    unsafe { &*opaque.cast::<Notify>() }.notify_one();
}

impl<'a> Call<'a> {
    /// Sends a request: `send` hands librdkafka one admin request with these options and this queue.
    pub(super) fn begin(
        client: &'a Client<Context>,
        operation: c::rd_kafka_admin_op_t,
        limit: Duration,
        send: impl FnOnce(*mut RDKafka, *const c::rd_kafka_AdminOptions_t, *mut c::rd_kafka_queue_t),
    ) -> Self {
        let arrived = Arc::new(Notify::new());
        // SAFETY: the client lives as long as 'a; the queue is destroyed in `drop`.
        let queue = NonNull::new(unsafe { c::rd_kafka_queue_new(client.native_ptr()) })
            .expect("librdkafka aborts rather than return no queue");
        // SAFETY: the queue is ours, and `arrived` lives until `drop` has taken the callback back.
        unsafe {
            c::rd_kafka_queue_cb_event_enable(
                queue.as_ptr(),
                Some(wake),
                Arc::as_ptr(&arrived).cast_mut().cast::<c_void>(),
            );
        }
        let call = Self { queue, arrived, limit, client: PhantomData };
        let options = Options::new(client, operation, limit);
        send(client.native_ptr(), options.0.as_ptr(), queue.as_ptr());
        call
    }

    /// Waits for the result. A result that comes after this future was dropped is dropped with the queue.
    pub(super) async fn answer(self) -> Result<Answer, Refusal> {
        let deadline = Instant::now() + self.limit + SLACK;
        loop {
            if let Some(answer) = self.poll() {
                return answer.check();
            }
            if timeout_at(deadline, self.arrived.notified()).await.is_err() {
                return Err(Refusal::new(Code::OperationTimedOut, "no answer"));
            }
        }
    }

    fn poll(&self) -> Option<Answer> {
        // SAFETY: the queue lives as long as self; the event is destroyed by `Answer`.
        NonNull::new(unsafe { c::rd_kafka_queue_poll(self.queue.as_ptr(), 0) }).map(Answer)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // SAFETY: the queue is ours. librdkafka calls back under the queue's lock, which disabling takes too: after it
        // no callback runs or begins, so `arrived` may go. Destroying the queue disables it, and late results with it.
        unsafe {
            c::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, std::ptr::null_mut());
            c::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// A result event. What is read from it lives as long as it does.
pub(super) struct Answer(NonNull<c::rd_kafka_event_t>);

// SAFETY: an event is owned by whoever polled it, librdkafka keeps no reference.
unsafe impl Send for Answer {}

impl Answer {
    pub(super) fn as_ptr(&self) -> *mut c::rd_kafka_event_t {
        self.0.as_ptr()
    }

    fn check(self) -> Result<Self, Refusal> {
        // SAFETY: the event lives as long as self, and so does its error string.
        let (code, detail) = unsafe {
            (c::rd_kafka_event_error(self.as_ptr()), text(c::rd_kafka_event_error_string(self.as_ptr())))
        };
        match Code::from(code) {
            Code::NoError => Ok(self),
            code => Err(Refusal::new(code, detail)),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the event is ours and destroyed once.
        unsafe { c::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// Options of one admin request.
struct Options(NonNull<c::rd_kafka_AdminOptions_t>);

impl Options {
    fn new(client: &Client<Context>, operation: c::rd_kafka_admin_op_t, limit: Duration) -> Self {
        // SAFETY: the client lives through the call; the options are destroyed in `drop`.
        let options = NonNull::new(unsafe { c::rd_kafka_AdminOptions_new(client.native_ptr(), operation) })
            .expect("librdkafka makes options for every operation it names");
        let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).clamp(1, LONGEST_MS);
        let mut error = [0; 128];
        // SAFETY: the options are ours, and the buffer is as long as said. The limit is in librdkafka's range.
        unsafe {
            c::rd_kafka_AdminOptions_set_request_timeout(
                options.as_ptr(),
                limit,
                error.as_mut_ptr(),
                error.len(),
            );
        }
        Self(options)
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: the options are ours and destroyed once; librdkafka copied them into the request.
        unsafe { c::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}
