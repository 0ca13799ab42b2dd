//! The bed keeps its promises: pods on every node, Services and DNS, volumes, and a Kafka that replicates.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use decree_e2e::cluster::NODES;
use decree_e2e::{Bed, Image, images, kafka};

const OPA: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: opa}
spec:
  replicas: 3
  selector: {matchLabels: {app: opa}}
  template:
    metadata: {labels: {app: opa}}
    spec:
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: opa}}
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: opa
        image: decree-e2e-opa:1
        readinessProbe: {httpGet: {path: /health, port: 8181}, periodSeconds: 1}
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        resources: {limits: {memory: 256Mi}}
        volumeMounts: [{name: data, mountPath: /data}]
      volumes:
      - name: data
        persistentVolumeClaim: {claimName: data}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: opa}
spec: {selector: {app: opa}, ports: [{port: 80, targetPort: 8181}]}
";

#[test]
#[ignore = "needs a bed: cargo verify"]
fn pods_run_on_every_node_behind_a_service_with_a_name() -> Result<()> {
    let bed = Bed::of_test()?;
    let image = Image::of_binary("decree-e2e-opa:1", &bed.parts().opa_binary())?.with_command(&[
        "run",
        "--server",
        "--addr=:8181",
    ]);
    images::load(&bed, &image)?;

    bed.in_namespace("bed", |ns| {
        ns.apply(OPA)?;
        let pods = ns.wait_ready_pods("app=opa", 3, Duration::from_secs(60))?;
        let nodes: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
        ensure!(nodes.len() == NODES, "the pods are on {nodes:?} only");

        let url = format!("http://{}/health", ns.service_address("opa")?);
        let asked = || ns.bed().inside(|| Ok(ureq::get(&url).call()?.status().as_u16()));
        let status = ns.wait("the Service from the switch", Duration::from_secs(10), || asked().map(Some))?;
        ensure!(status == 200, "the Service answered {status}");

        let names = r#"[http.send({"method": "GET", "url": "http://opa/health"}).status_code,
                        net.lookup_ip_addr("kafka-1.kafka")[_]]"#;
        for pod in pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()) {
            let seen = ns.wait("names in a pod", Duration::from_secs(10), || {
                ns.exec(pod, "opa", &["/opa", "eval", "--format=raw", names]).map(Some)
            })?;
            ensure!(
                seen.split_whitespace().collect::<String>() == r#"[200,"10.77.0.11"]"#,
                "{pod} sees {seen}"
            );
        }

        let first = pods.first().and_then(|pod| pod["metadata"]["name"].as_str()).context("find a pod")?;
        let restarts = || -> Result<u64> {
            let pod = ns.get_json("pod", first)?;
            pod["status"]["containerStatuses"][0]["restartCount"]
                .as_u64()
                .context("read the count of restarts")
        };
        for kill in 1..=3 {
            ns.kill_container(first, "opa", "SIGKILL")?;
            ns.wait("a killed container to be back", Duration::from_secs(60), || {
                Ok((restarts()? >= kill).then_some(()))
            })?;
            ns.wait_ready_pods("app=opa", 3, Duration::from_secs(60))?;
        }
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn kafka_keeps_records_while_a_broker_is_away() -> Result<()> {
    let bed = Bed::of_test()?;
    let topic = format!("bed-{}", std::process::id());
    let create = ["--create", "--topic", &topic, "--partitions", "1", "--replication-factor", "3"];
    bed.kafka_tool("kafka-topics", &create, None)?;
    let described = bed.kafka_tool("kafka-topics", &["--describe", "--topic", &topic], None)?;
    ensure!(described.contains("ReplicationFactor: 3"), "{described}");

    bed.kafka_tool("kafka-console-producer", &["--topic", &topic], Some("one\ntwo\n"))?;
    bed.kill_broker(2)?;
    let consume = [
        "--topic",
        &topic,
        "--partition",
        "0",
        "--offset",
        "earliest",
        "--max-messages",
        "2",
        "--timeout-ms",
        "90000",
    ];
    let consumed = bed.kafka_tool("kafka-console-consumer", &consume, None);
    bed.start_broker(2)?;
    ensure!(consumed? == "one\ntwo\n", "other records came back");
    bed.kafka_tool("kafka-topics", &["--delete", "--topic", &topic], None)?;
    Ok(())
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn every_listener_of_kafka_takes_its_clients_and_no_others() -> Result<()> {
    let bed = Bed::of_test()?;
    let at = |file: &str| bed.kafka_certificates().join(file).display().to_string();
    let tls = format!("ssl.truststore.type=PEM\nssl.truststore.location={}\n", at("ca.crt"));
    let key = format!("ssl.keystore.type=PEM\nssl.keystore.location={}\n", at("client.pem"));
    let login = |module: &str, password: &str| {
        format!(
            "sasl.jaas.config=org.apache.kafka.common.security.{module} required username=\"{}\" password=\"{password}\";\n",
            kafka::USER.0
        )
    };
    let scram = |password: &str| {
        format!("sasl.mechanism=SCRAM-SHA-512\n{}", login("scram.ScramLoginModule", password))
    };
    let plain = format!("sasl.mechanism=PLAIN\n{}", login("plain.PlainLoginModule", kafka::USER.1));

    let ask = |port: u16, protocol: &str, settings: &str| {
        let file = tempfile::NamedTempFile::new()?;
        let limits = "default.api.timeout.ms=40000\nrequest.timeout.ms=10000\n";
        std::fs::write(file.path(), format!("security.protocol={protocol}\n{limits}{settings}"))?;
        let config = file.path().display().to_string();
        let servers = bed.kafka_listeners(port);
        bed.kafka_tool(
            "kafka-topics",
            &["--bootstrap-server", &servers, "--command-config", &config, "--list"],
            None,
        )
    };
    ask(kafka::TLS, "SSL", &tls)?;
    ask(kafka::MUTUAL_TLS, "SSL", &format!("{tls}{key}"))?;
    ask(kafka::SASL, "SASL_PLAINTEXT", &scram(kafka::USER.1))?;
    ask(kafka::SASL_TLS, "SASL_SSL", &format!("{tls}{plain}"))?;
    ensure!(ask(kafka::MUTUAL_TLS, "SSL", &tls).is_err(), "a client without a certificate was taken");
    ensure!(ask(kafka::SASL, "SASL_PLAINTEXT", &scram("wrong")).is_err(), "a wrong password was taken");
    Ok(())
}
