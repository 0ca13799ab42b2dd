//! Odd records through a real topic: two sidecars make the same of each, stay small, and lose nothing behind them.

use bytes::Bytes;
use decree_wire::record::Record;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;

use super::application::Application;
use super::client::{request, until};
use super::pod::Pod;
use crate::corpus::corpus;

/// The container's limit is 128 MiB; a test build takes more than the image's.
const RESIDENT_KIB: u64 = 120 << 10;

/// Writes records as any client of Kafka may, with no limit of its own.
fn write(
    (brokers, topic): (&str, &str),
    compression: &str,
    records: impl IntoIterator<Item = Record>,
) -> KafkaResult<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("message.max.bytes", "100000000");
        config.set("compression.type", compression);
        let producer: FutureProducer = config.create().unwrap();
        for Record { value, headers } in records {
            let mut record = FutureRecord::<(), [u8]>::to(topic).partition(0);
            record.payload = value.as_deref();
            if !headers.is_empty() {
                let owned = OwnedHeaders::new_with_capacity(headers.len());
                let insert = |owned: OwnedHeaders, (key, value): &(String, Option<Bytes>)| {
                    owned.insert(Header { key, value: value.as_deref() })
                };
                record.headers = Some(headers.iter().fold(owned, insert));
            }
            producer.send(record, std::time::Duration::from_secs(30)).await.map_err(|(error, _)| error)?;
        }
        Ok(())
    })
}

fn large(size: usize) -> Record {
    Record { value: Some(Bytes::from(vec![b'l'; size])), headers: vec![] }
}

fn headers(count: usize) -> Record {
    Record { value: None, headers: vec![("x".to_owned(), None); count] }
}

#[test]
#[ignore = "needs Kafka: cargo verify"]
fn every_agent_makes_the_same_of_odd_records_and_nothing_behind_them_is_lost() {
    let applications = [Application::start(), Application::start()];
    let mut first = Pod::new("odd", applications[0].port());
    let mut second = first.beside(applications[1].port());
    first.start();
    first.until_ready();
    println!("resident at rest: {} KiB", first.resident_kib());
    write(first.topic(), "none", corpus().into_iter().map(|(_, record)| record)).unwrap();
    // Larger than a sidecar takes, as large as is delivered, larger than that; and by many headers.
    write(first.topic(), "none", [large(10 << 20), large(16 << 20), large(17 << 20), headers(100_000)])
        .unwrap();
    write(first.topic(), "gzip", [large(1 << 20)]).unwrap();
    let refused = write(first.topic(), "gzip", [large(60 << 20)]).map_err(|error| error.rdkafka_error_code());
    assert_eq!(
        refused,
        Err(Some(RDKafkaErrorCode::MessageSizeTooLarge)),
        "its size is that without compression"
    );
    let last = first.propose("last", "last");
    assert_eq!((last.status, last.body.as_str()), (200, "last taken"));
    second.start();
    second.until_ready();
    let replica = |pod: &Pod| request(pod.health(), "GET", "/status", &[], "").json()["replica"].clone();
    until("both stand at the same position", || {
        let (first, second) = (replica(&first), replica(&second));
        first["position"] == second["position"] && first["lag"] == 0 && second["lag"] == 0
    });
    let (one, other) = (replica(&first), replica(&second));
    assert_eq!((&one["digest"], &one["counts"]), (&other["digest"], &other["counts"]));
    assert!(one["digest"]["hash"].is_string() && one["counts"]["void"].as_u64() > Some(20), "{one}");
    assert!(applications[0].taken() == applications[1].taken(), "they were sent the same");
    let taken = applications[0].taken();
    for size in [10 << 20, 16 << 20] {
        assert_eq!(taken.iter().filter(|body| body.len() == size).count(), 1, "{size} bytes are delivered");
    }
    assert!(!taken.iter().any(|body| body.len() > 16 << 20));
    assert_eq!(taken.last().map(String::as_str), Some("last"));
    for pod in [&first, &second] {
        let (resident, most) = (pod.resident_kib(), pod.most_kib());
        println!("resident: {resident} KiB, at most {most} KiB, counts {}", one["counts"]);
        assert!(resident < RESIDENT_KIB, "{resident} KiB");
    }
}
